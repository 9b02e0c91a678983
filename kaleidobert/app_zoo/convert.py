"""``kaleidobert convert``: TensorFlow 1 checkpoints, the released ones or Google's BERT, to ours; ours to the released format; released
text files to a folder of arrays; and a bank to one that holds its features otherwise.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from kaleidobert import io
from kaleidobert.app_zoo import lineage
from kaleidobert.configs import ConvertConfig, NewParameters
from kaleidobert.datasets.bank import builder
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.errors import UserError
from kaleidobert.evaluators.report.model_card import NAME, Weights, load_ours, load_released, model_card
from kaleidobert.evaluators.report.results import NOT_KNOWN, Result, source_of
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.checkpoints import LazyArray
from kaleidobert.model_zoo.kaleidobert import Classifier, Pretrainer, TaskModel, rebuild
from kaleidobert.released import checkpoints as released
from kaleidobert.released import files as released_files
from kaleidobert.released import rows as released_rows
from kaleidobert.released import schema as released_schema
from kaleidobert.released import tf_checkpoint
from kaleidobert.released.checkpoints import COUNTERS, LABELS, SLOTS, bare_name, config_json, find_beside, is_bert, vocabulary_sha256
from kaleidobert.released.schema import Schema
from kaleidobert.released.tf_checkpoint import prefix_of

OURS = ".npz"


@dataclass(frozen=True)
class Conversion:
    """lines: what is said about it; + was left out, - is missing. write() makes the checkpoint; small: files that lie beside it; card: {its
    path: its content}, of the model."""

    lines: list[str]
    write: Callable[[], None]
    card: dict[Path, bytes]
    small: dict[Path, bytes] = field(default_factory=dict)

    def files(self, target: Path) -> str:
        """Returns the names of all files."""
        return ", ".join(str(path) for path in [*_targets(target), *self.small, *self.card])


def dry_run(config: ConvertConfig) -> None:
    """Reads and checks everything, writes nothing."""
    if is_bank(config.source):
        return dry_run_bank(config)
    if is_data(config.source):
        return dry_run_files(config)
    io.check_folder(config.target.parent, "choose another target")
    plan = _plan(config)
    print("\n".join(plan.lines))
    print(f"files that would be written: {plan.files(config.target)}")


def run(config: ConvertConfig) -> None:
    """Converts, and prints what did not come along."""
    if is_bank(config.source):
        return run_bank(config)
    if is_data(config.source):
        return run_files(config)
    io.check_folder(config.target.parent, "choose another target")
    plan = _plan(config)
    with io.locked(config.target.parent, name=f".{config.target.name}.lock"):
        _check_free(config.target)  # again: another process may have ended meanwhile
        print("\n".join(plan.lines))
        _write(plan.small)  # first: where the disk is full, the same command can be given again
        plan.write()
        _write(plan.card)
    print(f"written: {plan.files(config.target)}")


def _write(contents: Mapping[Path, bytes]) -> None:
    for path, content in contents.items():
        with io.atomic(path) as file:
            file.write(content)


def _plan(config: ConvertConfig) -> Conversion:
    source = prefix_of(config.source, "source")
    ours = source.suffix == OURS
    if ours == (config.target.suffix == OURS):
        raise UserError(f"both are {'ours' if ours else 'TensorFlow 1 checkpoints'}", "source, target",
                        f"one that ends in {OURS}, ours, and one that does not")
    _check_free(config.target)
    bert = not ours and is_bert(released.open_weights(source))
    unused = [
        name
        for name, value in (
            ("new_parameters", not bert and config.new_parameters != NewParameters()),
            ("model", ours and config.model),
            ("optimizer", bert and config.optimizer),
            ("task", bert and config.task in LABELS),
        )
        if value
    ]
    if unused:
        what = "a BERT" if bert else "a checkpoint of ours" if ours else "a Kaleido-BERT"
        raise UserError(f"{', '.join(unused)} is set, which has no meaning for {what}", str(source), fix="leave it out")
    plan = (_to_released if ours else _from_bert if bert else _from_released)(config, source)
    for path, content in plan.small.items():
        if path.exists() and path.read_bytes() != content:
            raise UserError("exists with another content", str(path), "a folder without one, or with the same",
                            "choose another folder for the target: nothing is overwritten")
    return plan


def _check_free(target: Path) -> None:
    there = [path for path in _targets(target) if path.exists()]
    if there:
        raise UserError("the target exists", str(there[0]), "a new file: nothing is overwritten", "delete it, or choose another target")


def _from_released(config: ConvertConfig, prefix: Path) -> Conversion:
    stored = released.open_weights(prefix)
    task = config.task or released.task_of(stored)
    model = released.import_checkpoint(prefix, _model_file(config, prefix, ["config.json"]), task)
    vocabulary = config.vocabulary or find_beside(prefix, ["vocab.txt"])
    meta = {**released.origin(prefix, vocabulary, model.backbone.vocabulary_size), "task": task,
            "lineage": lineage.converted("converted from a TensorFlow 1 checkpoint", True)}
    used = {name.bare for name in released.names_of(model, task).values()}
    lines = [f"{prefix}: {task}, {len(used)} variables, {model.count_params():,} parameters, step {meta.get('step', 'not known')}",
             *(f"+ {name} {list(array.shape)}: left out, a {model.kind} has no such head"
               for name, array in stored.items() if name not in used)]
    if vocabulary is None:
        lines.append("- vocab.txt: a run on another vocabulary of the same size will not be refused")
    slots: dict[str, np.ndarray | LazyArray] = {}
    if config.optimizer:
        slots, remarks = released.import_optimizer(prefix, model, task)
        lines, meta = lines + remarks, meta | {"best": None, "stale": 0}  # as a run's last.npz has them
    elif state := [name for name in tf_checkpoint.index(prefix)[0] if name.endswith(SLOTS) or bare_name(name) in COUNTERS[:2]]:
        lines.append(f"+ {len(state)} variables of the optimiser, such as {state[-1]}: left out; optimizer=true takes them along")
    card = _card(config.target, model, meta, {}, load_ours(config.target.name))
    return Conversion(lines, lambda: checkpoints.save(config.target, model, None, meta, slots), card)


def _from_bert(config: ConvertConfig, prefix: Path) -> Conversion:
    path = _model_file(config, prefix, released.BERT_CONFIGS)
    new, vocabulary = config.new_parameters, config.vocabulary or find_beside(prefix, ["vocab.txt"])
    model, lines = released.start_from_bert(prefix, path, new.levels, new.feature_size, new.seed, new.standardise_features)
    meta = released.origin(prefix, vocabulary, model.backbone.vocabulary_size)
    meta |= {"lineage": lineage.converted("text part of a BERT", False)}
    meta.pop("step", None)  # that of BERT
    meta |= {"unadapted": True} if new.standardise_features else {}  # the scale of features, which a run measures on its data
    first = f"{prefix}: the text part of a start for pre-training, from BERT"
    card = _card(config.target, model, meta, {}, load_ours(config.target.name))
    return Conversion([first, *lines], lambda: checkpoints.save(config.target, model, None, meta), card)


def _to_released(config: ConvertConfig, path: Path) -> Conversion:
    tf_checkpoint.require_tensorflow(config.target)
    meta = released.load_meta(path)
    model = rebuild(meta, "float32")
    if not isinstance(model, TaskModel):
        raise UserError(f"holds a {model.kind}", str(path), "the checkpoint of a task", "name the best.npz of a run")
    task = _task(config, meta, model, path)
    checkpoints.restore(path, model)
    own, whole = released.export_weights(model, task), released.export_weights(Pretrainer(model.backbone))
    small = {}
    vocabulary = config.vocabulary or find_beside(path, ["vocab.txt"])
    if vocabulary is not None:
        known = vocabulary_sha256(vocabulary, model.backbone.vocabulary_size)
        if meta.get("vocabulary_sha256", known) != known:
            raise UserError("is another vocabulary than the checkpoint's", str(vocabulary), fix="give the bank's vocab.txt")
        small[config.target.with_name("vocab.txt")] = vocabulary.read_bytes()
    slots, step = released.export_optimizer(path, model, task) if config.optimizer else ({}, int(meta.get("step", 0)))
    arrays = {**whole, **own, **slots, "global_step": np.array(step, np.int64)}
    lines = [f"{path}: {task}, {len(own)} variables, global_step {step}",
             *(f"- {name} {list(array.shape)}: a {model.kind} has no such head; start values" for name, array in whole.items()
               if name not in own)]
    if vocabulary is None:
        lines.append("- vocab.txt: put the bank's beside the checkpoint, or say vocabulary=...")
    if not config.optimizer and checkpoints.open_arrays(path, "optimizer/"):
        lines.append("+ the state of the optimiser: left out; optimizer=true takes it along")
    content = json.dumps(config_json(model.backbone), indent=2) + "\n"
    small |= {config.target.with_name("config.json"): content.encode(),
              config.target.with_name("checkpoint"): tf_checkpoint.latest(config.target).encode()}
    card = _card(config.target, model, meta, _results_of(path), load_released(config.target.name))
    return Conversion(lines, lambda: tf_checkpoint.write(config.target, arrays), card, small)


TASKS = {"pretrainer": "pretrain", "classifier": "classify", "matcher": "retrieve", "captioner": "caption"}  # {kind of a model: its task}


def _card(target: Path, model: TaskModel, meta: Mapping[str, Any], results: Mapping[str, Any],
          how_to_load: Sequence[str]) -> dict[Path, bytes]:
    """Returns {path: content} of the model card beside the target. results: of the run that made the checkpoint, {} where they are not
    known: then the card has what the checkpoint itself remembers."""
    steps = (meta.get("lineage") or {}).get("steps") or []
    values = results or {"task": TASKS.get(model.kind), "model": {"head": NOT_KNOWN, "head_of": NOT_KNOWN, "trained": "; ".join(steps)}}
    weights = Weights(target.name, model.kind, model.describe()["config"], model.count_params(), how_to_load)
    text = model_card(Result(target.name, str(target), values, source_of(values)), weights)
    return {target.with_name(f"{target.name}.{NAME}"): text.encode()}


def _results_of(checkpoint: Path) -> Mapping[str, Any]:
    """Returns the results of the run whose best.npz a checkpoint is; {} of others."""
    path = checkpoint.with_name("results.json")
    values = io.read_json(path) if path.is_file() else {}
    return values if isinstance(values, Mapping) and values.get("checkpoint_sha256") == io.sha256(checkpoint) else {}


def _task(config: ConvertConfig, meta: dict, model: TaskModel, path: Path) -> str:
    """Returns the task of a model; raises UserError where that of a classifier is not known."""
    if not isinstance(model, Classifier):
        if config.task in LABELS:
            raise UserError(f"task is {config.task} and the checkpoint holds a {model.kind}", str(path), "a classifier", "leave task out")
        return "pretraining"
    task = config.task or meta.get("task", "")
    if task not in LABELS:
        raise UserError("holds a classifier, whose task is not known", str(path), " or ".join(LABELS), "say task=...")
    return task


def _model_file(config: ConvertConfig, prefix: Path, names: list[str] | tuple[str, ...]) -> Path:
    path = config.model or find_beside(prefix, names)
    if path is None:
        raise UserError(f"there is no {' or '.join(names)} beside it or a folder above", str(prefix), fix="say model=...")
    return path


def _targets(target: Path) -> list[Path]:
    return [target] if target.suffix == OURS else tf_checkpoint.files_of(target)


# --- A bank: a copy whose features are bytes (storage=uint8, half the room), or float16 again


def is_bank(source: Path) -> bool:
    """Whether a source is the folder of a bank."""
    return (source / "index.json").is_file()


def dry_run_bank(config: ConvertConfig) -> None:
    """Checks the bank and the target, prints sizes."""
    bank = _bank(config)
    builder.check_copy(bank, config.target, config.storage)
    print(f"{config.source}: {bank.size:,} pictures, features as {bank.storage}, {_gigabytes(bank):.2f} GB\n"
          f"would be written: {config.target}, features as {config.storage}")


def run_bank(config: ConvertConfig) -> None:
    """Copies the bank, or continues an interrupted copy."""
    bank = _bank(config)
    with tqdm(total=bank.size, unit="picture", desc="convert") as bar:
        for count in builder.copy_bank(bank, config.target, config.storage):
            bar.update(count)
    print(f"written: {config.target}: features as {config.storage}, {_gigabytes(Bank(config.target)):.2f} GB in the place of "
          f"{_gigabytes(bank):.2f} GB; use it as data.bank")


def _bank(config: ConvertConfig) -> Bank:
    if not config.storage:
        raise UserError("storage is not set", f"source {config.source}, a bank", "uint8 or float16", "set storage=uint8")
    return Bank(config.source)


def _gigabytes(bank: Bank) -> float:
    return sum(bank.index["files"][name]["bytes"] for name in (*bank.index["shards"], *bank.index.get("scales", ()))) / 1e9


# --- Released text files: a folder of arrays, which data.files then names instead of them


CHECKPOINTS = (".npz", ".index", ".meta", ".data-00000-of-00001")


def is_data(source: Path) -> bool:
    """Whether a source is a data file, a list of them or a pattern, and no checkpoint."""
    pattern = any(mark in source.name for mark in "*?")
    return pattern or source.is_file() and not source.name.endswith(CHECKPOINTS) and not tf_checkpoint.exists(source)


def dry_run_files(config: ConvertConfig) -> None:
    """Reads the first line, prints sizes, writes nothing."""
    io.check_folder(config.target, "choose another target")
    paths = released_rows.data_files(config.source)
    schema = schema_of(config, paths)
    rows = released_rows.TextRows(paths, schema, config.target)
    rows.first(schema.names[0])
    print(f"{config.source}: {rows.summary()} ({schema.origin})\nwould be written: {config.target}")


def run_files(config: ConvertConfig) -> None:
    """Converts, or continues an interrupted conversion."""
    if config.target.suffix == ".npz":
        raise UserError("the source is data and the target a checkpoint", "source, target", "a folder as the target")
    io.check_folder(config.target, "choose another target")
    paths = released_rows.data_files(config.source)
    threads = config.files.threads or min(os.cpu_count() or 1, released_rows.MAX_THREADS)
    rows = released_rows.convert(paths, schema_of(config, paths), config.target, threads, config.files.half)
    print(f"written: {config.target}: {rows.summary()}; use it as data.files or data.val_files")


def schema_of(config: ConvertConfig, paths: list[Path]) -> Schema:
    """Returns files.schema, or the published one that has as many columns as the first line, with the lengths that the levels give."""
    if config.files.schema:
        schema = released_schema.parse(config.files.schema, "files.schema", config.files.encoding)
        which = "pretrain" if "masked_lm_ids" in schema.names else "retrieve" if "nx_sent_labels" in schema.names else "finetune"
        return released_schema.for_task(schema, which)
    line = next(released_files.lines(paths))
    count = line.content.count(b"\t") + 1
    published = {task: released_schema.released(task) for task in released_schema.TASKS}
    task = next((task for task, schema in published.items() if len(schema.columns) == count), None)
    if task is None:
        known = ", ".join(f"{len(schema.columns)} ({task})" for task, schema in published.items())
        raise UserError(f"the line has {count} columns", line.where, f"as a published schema: {known}", "give files.schema")
    return released_schema.parse(str(published[task]), f"the published schema for {task}", config.files.encoding)
