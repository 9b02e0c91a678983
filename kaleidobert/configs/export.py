"""The configuration of ``kaleidobert export``."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from kaleidobert.configs.section import Checked, Limits, key, required


@dataclass(frozen=True, kw_only=True)
class ExportConfig(Checked):
    """``kaleidobert export``: a trained model as files that other programs load, without this package."""
    run: Path = required("a finished run, its best.npz, or a released TensorFlow 1 checkpoint; the first word of the command line")
    out: Path = required("folder that is made; one that holds an export of the same model is checked again")
    format: Literal["transformers"] = key("transformers", "what is made: a model for PyTorch and Hugging Face's transformers")
    bank: Path | None = key(None, "folder of the bank, where it lies elsewhere now; empty = that of the run")
    pictures: bool = key(True, "take along what reads raw pictures: foreground, patches and patch encoder; false: the model takes features")
    vocabulary: Path | None = key(None, "vocab.txt of a checkpoint that was trained on no bank; empty = beside it or a folder above")
    check_rows: int = key(4, "rows of the bank on which the export is compared with the model, as features and as raw pictures; 0 = none")
    python: Path | None = key(None, "Python with torch and transformers that checks the export; empty = this one, where it has both")

    limits: ClassVar[Limits] = {"check_rows": (0, 1000)}
