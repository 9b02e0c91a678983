"""Losses of parts of a batch: what replicas and micro-batches need, as the means of parts are not the mean of the whole."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from keras import ops

Arrays = Mapping[str, Any]


@dataclass(frozen=True)
class DecomposableLoss:
    """A loss whose values over the parts of a batch add up to its values over the whole.

    part(outputs, targets, weights, over) -> {"loss": total, ...} of a part; over(weights of the whole batch): what its sums are
    divided by. Called as (outputs, targets, weights), it takes these for the whole.
    """

    part: Callable[[Arrays, Arrays, Arrays, Any], dict[str, Any]]
    over: Callable[[Arrays], Any]

    def __call__(self, outputs: Arrays, targets: Arrays, weights: Arrays) -> dict[str, Any]:
        return self.part(outputs, targets, weights, self.over(weights))


def mean(loss: Callable[[Arrays, Arrays, Arrays], dict[str, Any]], task: str) -> DecomposableLoss:
    """A loss all of whose values are means over the rows of a batch, as many as weights[task] has."""

    def part(outputs, targets, weights, over):
        share = ops.cast(ops.shape(weights[task])[0], "float32") / over
        return {name: value * share for name, value in loss(outputs, targets, weights).items()}

    return DecomposableLoss(part, lambda weights: ops.cast(ops.shape(weights[task])[0], "float32"))
