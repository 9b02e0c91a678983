"""What a training command needs of its examples, whether they lie in a bank or in released files (released_runs.py)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np

from kaleidobert.preprocessors.examples import Arrays

Batch = tuple[Arrays, Arrays, Arrays]  # inputs, targets, weights


class Layout(Protocol):
    """What models.py asks of a bank: sizes of the model, and what a checkpoint remembers (identity, index["files"])."""

    feature_size: int
    text_length: int
    vocabulary: Any  # of which size counts
    identity: dict[str, str]
    index: dict[str, Any]


class PretrainBatches(Protocol):
    """As sampler.PretrainSampler."""

    def batch(self, step: int) -> Batch: ...

    def validation(self, step: int) -> Batch | None: ...


@dataclass(frozen=True)
class PretrainMaterial:
    """adapt: fits a fresh model's scale of features. baselines: {metric: value} without looking. facts: for results.json."""

    bank: Layout
    num_examples: int
    sampler: PretrainBatches
    validation: PretrainBatches
    adapt: Callable[[keras.Model], None]
    baselines: Callable[[], dict[str, float]]
    facts: Callable[[], Mapping[str, Any]]


@dataclass(frozen=True)
class LabelMaterial:
    """names: the classes of the model; unknown: further ones that only evaluation has, numbered behind them. val_rows: what
    ``inputs`` takes, with their truth i64[N] and ids. counts: training examples of each class, unknown ones included.
    baselines: {name: {"accuracy", "macro_f1_all"}} of linear models. lengths: of the texts of val_rows, where they are known."""

    bank: Layout
    num_examples: int
    batch: Callable[[int], Batch]
    inputs: Callable[[np.ndarray], Arrays]
    val_rows: np.ndarray
    truth: np.ndarray
    ids: np.ndarray
    names: list[str]
    unknown: list[str]
    counts: np.ndarray
    adapt: Callable[[keras.Model], None]
    baselines: Callable[[], dict[str, dict[str, float]]]
    facts: Callable[[], Mapping[str, Any]]
    lengths: np.ndarray | None = None
