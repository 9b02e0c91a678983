"""Losses that add up over replicas and micro-batches: the mean of a batch is not the mean of its pieces' means."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from keras import ops

Arrays = Mapping[str, Any]


@dataclass(frozen=True)
class DecomposableLoss:
    """A loss whose values over the micro-batches of a batch add up to its value over the batch.

    part(outputs, targets, weights, over) -> {"loss": total, ...} of a micro-batch; over(weights of the whole batch) -> what its sums are
    divided by. Called as (outputs, targets, weights), it takes these for the whole batch.
    """

    part: Callable[[Arrays, Arrays, Arrays, Any], dict[str, Any]]
    over: Callable[[Arrays], Any]

    def __call__(self, outputs: Arrays, targets: Arrays, weights: Arrays) -> dict[str, Any]:
        return self.part(outputs, targets, weights, self.over(weights))


def mean(loss: Callable[[Arrays, Arrays, Arrays], dict[str, Any]], task: str) -> DecomposableLoss:
    """Makes a DecomposableLoss of one all of whose values are means over the rows of a batch; weights[task] has as many rows."""

    def part(outputs, targets, weights, over):
        fraction = ops.cast(ops.shape(weights[task])[0], "float32") / over
        return {name: value * fraction for name, value in loss(outputs, targets, weights).items()}

    return DecomposableLoss(part, lambda weights: ops.cast(ops.shape(weights[task])[0], "float32"))
