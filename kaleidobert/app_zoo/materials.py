"""What a training command needs of its examples, whether they lie in a bank or in released files (released_runs.py)."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import keras
import numpy as np

from kaleidobert.configs import TrainingData
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sampling.pretraining import count_groups
from kaleidobert.levels import KaleidoLevel
from kaleidobert.preprocessors.examples import Arrays

Batch = tuple[Arrays, Arrays, Arrays]  # inputs, targets, weights


class Layout(Protocol):
    """What models.py asks of a bank: sizes of the model, and what a checkpoint remembers (identity, index["files"])."""

    @property
    def feature_size(self) -> int: ...

    @property
    def text_length(self) -> int: ...

    @property
    def vocabulary(self) -> Any: ...  # of which size counts

    @property
    def identity(self) -> dict[str, str]: ...

    @property
    def index(self) -> dict[str, Any]: ...


def open_bank(data: TrainingData, levels: tuple[KaleidoLevel, ...]) -> Bank:
    """The bank that is named; UserError where it was made with other levels or another encoder than asked for."""
    assert data.bank is not None  # what reads data.files opens no bank
    return Bank(data.bank).require(levels, data.encoder)


class PretrainBatches(Protocol):
    """As pretraining.PretrainSampler."""

    def batch(self, step: int) -> Batch: ...

    def validation(self, step: int) -> Batch | None: ...


@dataclass(frozen=True)
class Choice:
    """What chooses among the weights of a training: groups and pictures held out of the training split; validation files, as in the
    release; or nothing, so that the last ones are kept."""

    by: Literal["held_out", "val_files", "none"]
    groups: int = 0
    pictures: int = 0

    def facts(self) -> dict[str, Any]:
        """For results.json; "val_chose": whether the weights were chosen by the examples that they are reported on."""
        return {**asdict(self), "val_chose": self.by == "val_files"}

    def told(self) -> str:
        """The same in words."""
        return {"held_out": f"chosen by {self.pictures:,} held-out training pictures", "none": "the last epoch",
                "val_files": "chosen by data.val_files, as released"}[self.by]


def choice(bank: Bank, held: np.ndarray) -> Choice:
    """By held-out rows of a bank, or by nothing where there are none."""
    return Choice("held_out", count_groups(bank, held), len(held)) if len(held) else Choice("none")


@dataclass(frozen=True)
class PretrainMaterial:
    """held: what chooses the weights, where the choice is by that; validation: what they are reported on. adapt: fits a fresh model's
    scale of features. baselines: {metric: value} without looking. facts: for results.json."""

    bank: Layout
    num_examples: int
    sampler: PretrainBatches
    held: PretrainBatches | None
    validation: PretrainBatches
    choice: Choice
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
