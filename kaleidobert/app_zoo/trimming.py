"""train.dynamic_padding: whether the texts of a batch are cut to the longest of them, in training and in prediction."""

from collections.abc import Callable
from typing import Any, TypeVar

from kaleidobert.app_zoo.materials import Batch
from kaleidobert.configs import Train
from kaleidobert.preprocessors.examples import Arrays
from kaleidobert.preprocessors.padding import trimmed

B = TypeVar("B", Batch, Batch | None)


def _cut(inputs: Arrays, targets: Arrays, weights: Arrays) -> Batch:
    return trimmed(inputs), targets, weights


def batches(make: Callable[..., B], train: Train, cut: Callable[[Arrays, Arrays, Arrays], Batch] = _cut) -> Callable[..., B]:
    """make, a function of a step, with the texts of its batches cut by ``cut``; None behind the last one stays."""
    if not train.dynamic_padding:
        return make

    def made(*arguments: Any) -> B:
        batch = make(*arguments)
        return None if batch is None else cut(*batch)

    return made


def inputs(make: Callable[[Any], Arrays], train: Train) -> Callable[[Any], Arrays]:
    """make, a function of rows, with the texts of its inputs cut."""
    return (lambda rows: trimmed(make(rows))) if train.dynamic_padding else make
