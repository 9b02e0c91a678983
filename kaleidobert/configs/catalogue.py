"""The configurations of ``kaleidobert catalogue check`` and ``kaleidobert catalogue run``."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from kaleidobert.configs.data import Source
from kaleidobert.configs.section import Checked, Limits, key, required


@dataclass(frozen=True)
class CatalogueCheckConfig(Checked):
    """``kaleidobert catalogue check``: what a table holds, what of it is lost, and a configuration that reads it."""
    source: Source = required("where products come from: a table and pictures, or a released data set", table="sources")
    run: Path | None = key(None, "folder of the results; empty = runs/NAME, of the table")
    pictures: int = key(0, "pictures that are opened, spread over the table; 0 = all")
    sheet: int = key(24, "pictures of the contact sheet, in which the product is looked for; 0 = none")

    limits: ClassVar[Limits] = {"pictures": (0,), "sheet": (0, 200)}

    @property
    def folder(self) -> Path:
        """The folder of the results."""
        return (self.run or Path("runs") / (self.source.table.name.split(".")[0] or "catalogue")).absolute()


@dataclass(frozen=True)
class CatalogueRunConfig(CatalogueCheckConfig):
    """``kaleidobert catalogue run``: from a table to search, labels, captions and a report."""
    size: Literal["auto", "small", "medium", "base"] = key(
        "auto", "the one dial: size of the network, from which all else follows; auto = by the number of pictures and the machine")
    labels: tuple[str, ...] = key((), "labels to classify; empty = all that can be learnt")
    seed: int = key(0, "train.seed of every training")
    words: dict[str, tuple[str, ...]] = key({}, "further key=value words by stage, such as {pretrain: [train.epochs=60]}")

    limits: ClassVar[Limits] = {**CatalogueCheckConfig.limits, "seed": (0,)}
