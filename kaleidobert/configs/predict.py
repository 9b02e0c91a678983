"""The configuration of ``kaleidobert predict``."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from kaleidobert.configs.data import Source
from kaleidobert.configs.section import Checked, Limits, key, required

Answer = Literal["labels", "caption", "match", "picture_vector", "text_vector"]


@dataclass(frozen=True)
class PredictConfig(Checked):
    """``kaleidobert predict``: what trained models say of the pictures and texts of a table or a folder."""
    run: Path = required("folder of a finished run, or of several on one bank; the first word of the command line")
    source: Source = required("the pictures: a table as `records` reads it, or a folder of pictures; the second word", table="sources")
    out: Path = required("file of the answers, .jsonl or .parquet")
    answers: tuple[Answer, ...] = key(
        (), "labels, caption, match (the probability that text and picture fit), picture_vector, text_vector; empty = the first "
        "three, as runs have them")
    labels: tuple[str, ...] = key((), "labels to classify; empty = all that the runs have learnt")
    top: int = key(5, "likeliest classes of each label that are written")
    bank: Path | None = key(None, "folder of the bank, where it lies elsewhere now; empty = that of the runs")
    chunk: int = key(256, "pictures that are answered and written together: the unit of resuming, and of memory")
    batch_size: int = key(64, "pictures or pairs per step of the networks")
    max_skipped: float = key(0.1, "fraction of the pictures; where more cannot be read, the exit status is 3")

    limits: ClassVar[Limits] = {"top": (1,), "chunk": (1,), "batch_size": (1,), "max_skipped": (0, 1)}
