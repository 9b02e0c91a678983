"""Losses that add up over replicas and micro-batches: the mean of a batch is not the mean of its micro-batches' means."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from keras import ops

Arrays = Mapping[str, Any]


@dataclass(frozen=True)
class DecomposableLoss:
    """A loss whose values over the micro-batches of a batch add up to its value over the batch.

    micro_batch(outputs, targets, weights, denominators) -> {"loss": total, ...} of a micro-batch; denominators(weights of the whole batch)
    -> what its sums are divided by. Called as (outputs, targets, weights), it takes these for the whole batch.
    """

    micro_batch: Callable[[Arrays, Arrays, Arrays, Any], dict[str, Any]]
    denominators: Callable[[Arrays], Any]

    def __call__(self, outputs: Arrays, targets: Arrays, weights: Arrays) -> dict[str, Any]:
        return self.micro_batch(outputs, targets, weights, self.denominators(weights))


def mean(loss: Callable[[Arrays, Arrays, Arrays], dict[str, Any]], task: str) -> DecomposableLoss:
    """Makes a DecomposableLoss of one all of whose values are means over the rows of a batch; weights[task] has as many rows."""

    def rows(weights):
        return ops.cast(ops.shape(weights[task])[0], "float32")

    def micro_batch(outputs, targets, weights, all_rows):
        fraction = rows(weights) / all_rows
        return {name: value * fraction for name, value in loss(outputs, targets, weights).items()}

    return DecomposableLoss(micro_batch, rows)
