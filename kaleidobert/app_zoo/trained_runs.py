"""Finding trained models: the finished runs below a folder, what each has learnt, and the one bank that they share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaleidobert.app_zoo import commands, fetch, models
from kaleidobert.configs import TrainingData
from kaleidobert.configs.loader import Address
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.errors import UserError
from kaleidobert.model_zoo.kaleidobert import Captioner, Classifier, Matcher, Pretrainer
from kaleidobert.released import tf_checkpoint
from kaleidobert.released.checkpoints import load_meta

COMMANDS = {Pretrainer.kind: "pretrain", Classifier.kind: "classify", Matcher.kind: "retrieve", Captioner.kind: "caption"}
WANTED = "the folder of a run, its best.npz, or a folder that holds runs"
BANK_FIX = "name the folder of the bank: kaleidobert.load(RUN, bank=FOLDER)"


@dataclass(frozen=True)
class TrainedRun:
    """A run with its weights. meta: of the checkpoint; config: of its command; finished: when its results were written, in seconds, 0 where
    they are not; bank: the folder of the bank that it was trained on."""

    checkpoint: Path
    meta: dict[str, Any]
    config: Any
    finished: float
    bank: Path

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return self.checkpoint.parent

    @property
    def kind(self) -> str:
        """What it holds, one of COMMANDS."""
        return self.meta["kind"]

    @property
    def head(self) -> str:
        """What it answers, in words: runs of one head replace each other."""
        return f"label {self.meta['label']}" if self.kind == Classifier.kind else self.kind


def find(paths: Sequence[Path]) -> list[TrainedRun]:
    """Returns the runs that the paths name, and the finished ones below them, each once, the last to finish last.

    Below a folder of runs everything else, such as alignments and runs of other commands, is passed over. Raises UserError where a path
    names no run of COMMANDS, an unfinished one, or one that was not trained on a bank.
    """
    runs: dict[Path, TrainedRun] = {}
    for path in paths:
        found = {run.checkpoint.resolve(): run for run in _below(path)}
        if not found:
            raise UserError("no finished run is in this folder or below it", str(path), f"runs of {', '.join(COMMANDS.values())}",
                            f"name {WANTED}")
        runs |= found
    return sorted(runs.values(), key=lambda run: run.finished)


def newest(runs: Iterable[TrainedRun]) -> dict[str, TrainedRun]:
    """Returns {head: the last to finish of the runs that trained it}, or of all that have it, where none did: a run without training, such
    as the retrieval of the other direction, only evaluates the weights of another."""
    return {run.head: run for run in sorted(runs, key=lambda run: bool(run.config.train.epochs))}


def shared_bank(runs: Sequence[TrainedRun], folder: Path | None) -> Bank:
    """Returns the bank that all runs were trained on, or the one in ``folder``, which takes its place.

    Raises UserError that names the runs of each bank where there are several, where the bank is not there, and where a checkpoint does not
    fit it: another encoder, vocabulary or levels.
    """
    by_bank: dict[Path, list[str]] = {}
    for run in runs:
        by_bank.setdefault(folder or run.bank, []).append(run.folder.name)
    if len(by_bank) > 1:
        listing = "; ".join(f"{bank}: {', '.join(names)}" for bank, names in sorted(by_bank.items()))
        raise UserError(f"the runs were trained on {len(by_bank)} banks ({listing})", "load", "runs of one bank",
                        "name fewer runs, or the bank that stands for all: kaleidobert.load(RUNS, bank=FOLDER)")
    path = next(iter(by_bank))
    if not (path / "index.json").is_file():
        raise UserError("the bank of the runs is not there", str(path), "a folder made by `kaleidobert records`", BANK_FIX)
    bank = Bank(path)
    for run in runs:
        models.bank_of(run.checkpoint, bank)
    return bank


def _below(path: Path) -> list[TrainedRun]:
    if path.suffix == ".npz":
        return [_read(path, load_meta(path))]
    if tf_checkpoint.exists(path) or any(path.glob("*.index")):
        raise UserError("this is a released checkpoint, which knows neither a bank nor a vocabulary of ours", str(path), WANTED,
                        "start a run from it (init=...) on a bank, and load that run")
    if not path.is_dir():
        raise UserError("there is no such run", str(path), WANTED)
    if (path / "best.npz").is_file():
        if not (path / "results.json").is_file():
            raise UserError("the run has not finished", str(path), "a results.json", "start its command again: it continues where it "
                            "stopped; or name its best.npz to load what is there")
        return [_read(path / "best.npz", load_meta(path / "best.npz"))]
    runs = []
    for results in sorted(path.rglob("results.json")):
        checkpoint = results.with_name("best.npz")
        if checkpoint.is_file() and (meta := load_meta(checkpoint)).get("kind") in COMMANDS and _is_of_bank(meta):
            runs.append(_read(checkpoint, meta))
    return runs


def _is_of_bank(meta: dict[str, Any]) -> bool:
    """Whether a checkpoint says that its features come from a bank's encoder."""
    return meta.get("encoder", models.ENCODER) != models.ENCODER


def _read(checkpoint: Path, meta: dict[str, Any]) -> TrainedRun:
    """Returns the run of a checkpoint. Raises UserError where it holds no model of COMMANDS or lies in no run folder of a bank."""
    if meta.get("kind") not in COMMANDS:
        raise UserError(f"the checkpoint holds a {meta.get('kind')!r}", str(checkpoint), " or ".join(COMMANDS),
                        f"name a run of {', '.join(COMMANDS.values())}")
    path, results = checkpoint.with_name("config.yaml"), checkpoint.with_name("results.json")
    if not path.is_file():
        raise UserError("there is no config.yaml beside the checkpoint, which names its bank and settings", str(checkpoint),
                        "a checkpoint in the folder of its run", "put the config.yaml of its run beside it")
    config = commands.load(COMMANDS[meta["kind"]], path)
    if config.data.bank is None or not _is_of_bank(meta):
        raise UserError("the run was trained on released files, whose pictures nobody can add to", str(checkpoint.parent),
                        "a run that was trained on a bank", "train one with data.bank=...")
    finished = results.stat().st_mtime if results.is_file() else 0.0
    return TrainedRun(checkpoint, meta, config, finished, _bank_folder(config.data))


@dataclass(frozen=True)
class _Located:
    data: TrainingData


def _bank_folder(data: TrainingData) -> Path:
    """Returns the folder of a bank, fetched where an address names it."""
    if isinstance(data.bank, Address):
        located = fetch.localize(_Located(data))
        assert located is not None and located.data.bank is not None
        return located.data.bank
    assert data.bank is not None
    return data.bank.resolve()
