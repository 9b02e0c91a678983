"""The run folder: what a run writes and where it lies.

    run/config.yaml      the resolved configuration; a folder with another one is refused
        metrics.jsonl    one line per logged step (split train: means since the line before) or evaluation (split val, or
                             held_out: of training groups that are not trained on)
        results.json     the outcome
        environment.json on what it ran and how long, start by start (engines/environment.py)
        MODEL_CARD.md    what best.npz is, for those who get it (evaluators/report/model_card.py)
        tensorboard/     the same scalars for TensorBoard
        last.npz         weights and optimiser state: the point from which the run resumes
        best.npz         the weights with the best evaluation so far; the latest where the evaluation chooses nothing
        losses.png       loss curves per task
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

import kaleidobert
from kaleidobert import configs, io
from kaleidobert.engines import environment
from kaleidobert.engines.distributed import cluster
from kaleidobert.engines.distributed.distribution import SINGLE_PROCESS, current_process
from kaleidobert.errors import UserError
from kaleidobert.evaluators.report import model_card
from kaleidobert.evaluators.report.results import Result, source_of
from kaleidobert.model_zoo import checkpoints

FIX = "wait until it has ended, or choose another folder with run=..."
FREE = ("workers", "devices")  # keys of `train` that may change within a run: they do not change its results


class Run:
    """A claimed run folder, locked as long as this object lives, or the io.lock_scope around it.

    Process 0 of a run claims it and writes; the others read. Raises UserError where the folder holds another run, cannot be written or
    is in use by another command, and where the processes do not share it.
    """

    def __init__(self, folder: Path, config: Any):
        self.folder = folder
        self.last, self.best = folder / "last.npz", folder / "best.npz"
        self._metrics = folder / "metrics.jsonl"
        self._writer: Any = None  # TensorBoard's
        self._start = environment.Start(folder)
        process, processes = current_process(), cluster.read(os.environ).size
        if process is SINGLE_PROCESS and processes > 1:
            raise UserError(f"the environment names {processes} processes", str(folder), "one: pretrain, classify, retrieve "
                            "and caption train in several, and nothing else does", "start it once, without srun or torchrun")
        self._writes = process.first
        if self._writes:
            check_folder(folder, config)
            self._lock = io.lock(folder, fix=FIX)
            _check_content(folder, config)  # once more: another command may have ended meanwhile
            io.clear(folder)
            if not (folder / "config.yaml").is_file():
                io.write_text(folder / "config.yaml", configs.dump(config))
        process.agree()  # it is claimed
        if not self._writes:
            process.wait_for((folder / "config.yaml").is_file, "the run folder", str(folder))
            _check_content(folder, config)

    def rewind(self, step: int) -> list[dict[str, Any]]:
        """Drops the metrics after ``step``, which the run makes again, and returns the others."""
        rows = [row for row in read_metrics(self._metrics) if row["step"] <= step]
        if not self._writes:
            return rows
        io.write_text(self._metrics, "".join(json.dumps(row) + "\n" for row in rows))
        return rows

    def log(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Appends scalars to metrics.jsonl and TensorBoard."""
        if not self._writes:
            return
        numbers = {name: float(value) for name, value in values.items()}
        try:
            with open(self._metrics, "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, "split": split, **numbers}) + "\n")
            if self._writer is None:
                from tensorboard.summary import Writer  # here: it takes a second to import; needs no TensorFlow

                self._writer = Writer(str(self.folder / "tensorboard"))
            for name, value in numbers.items():
                self._writer.add_scalar(f"{split}/{name}", value, step)
            self._writer.flush()
            if split != "train":
                self._start.write()
        except OSError as error:
            raise UserError(f"metrics cannot be written ({error.strerror or error})", str(self.folder),
                            fix="make room and run the same command again: it continues from last.npz") from error

    def results(self, values: Mapping[str, Any], config: Any) -> None:
        """Writes results.json: values, versions and the resolved configuration; environment.json; and the card of a model's best.npz."""
        versions = {"kaleidobert": kaleidobert.__version__}
        if (keras := sys.modules.get("keras")) is not None:  # evaluating result files needs no network library
            versions |= {"keras": keras.__version__, "backend": keras.backend.backend()}
        made = {**values, "versions": versions, "config": configs.to_dict(config)}
        io.write_json(self.folder / "results.json", made)
        self._start.write()
        if "model" in made and self.best.is_file():
            try:
                io.write_text(self.folder / model_card.NAME, card(self.folder.name, made, self.best))
            except UserError as error:  # the run itself has finished
                print(f"note: {model_card.NAME} is not written: {error}", file=sys.stderr)

    def metrics(self) -> list[dict[str, Any]]:
        """Reads all rows of metrics.jsonl."""
        return read_metrics(self._metrics)


def card(name: str, results: Mapping[str, Any], checkpoint: Path, how_to_load: Sequence[str] = ()) -> str:
    """Returns the model card of a checkpoint of ours. results: of its run, {} where they are not known."""
    meta = checkpoints.load_meta(checkpoint)
    weights = model_card.Weights(checkpoint.name, str(meta.get("kind", "")), meta.get("config"), checkpoints.num_parameters(checkpoint),
                                 how_to_load or model_card.load_ours(checkpoint.name))
    return model_card.model_card(Result(name, str(checkpoint), results, source_of(results)), weights)


def check_folder(folder: Path, config: Any) -> None:
    """Raises UserError where the folder cannot take this run; changes nothing.

    That is where it holds a run with another configuration or something that is no run, and, in process 0, where another command uses
    it or it cannot be written.
    """
    _check_content(folder, config)
    if cluster.read(os.environ).rank == 0:
        io.check_unlocked(folder, FIX)
        io.check_folder(folder, "choose another folder with run=...")


def check_room(folder: Path, weights: int, state: int) -> None:
    """Raises UserError where the disk has no room for checkpoints of ``weights`` and optimiser ``state`` of so many bytes.

    They are best.npz and twice last.npz, as the new one is written beside the old one.
    """
    existing = sum(path.stat().st_size for path in (folder / "last.npz", folder / "best.npz") if path.is_file())
    needed = 2 * (weights + state) + weights - existing
    io.check_room(folder, needed, "checkpoints", "free some space, or choose another folder with run=...")


def _check_content(folder: Path, config: Any) -> None:
    path = folder / "config.yaml"
    if path.is_file():
        changed = [line for line in configs.differences(yaml.safe_load(path.read_text(encoding="utf-8")) or {}, configs.to_dict(config))
                   if line.partition(":")[0].rpartition(".")[2] not in FREE]
        if changed:
            raise UserError(f"the folder holds another run ({'; '.join(changed[:5])})", str(folder), "the same configuration",
                            "choose another folder with run=..., or delete this one")
    elif folder.exists() and not folder.is_dir():
        raise UserError("this is a file", str(folder), "a folder", "choose another folder with run=...")
    elif io.contents(folder):
        raise UserError("the folder is not empty and holds no run", str(folder), fix="choose another folder with run=...")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Reads the rows of a metrics.jsonl; a last line cut off by a crash is ignored."""
    rows = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return rows
