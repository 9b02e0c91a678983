"""The released TensorFlow 1 checkpoint as one of ours, and the way back; names.py has the names.

prefix: the path of a checkpoint without ".index".
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from kaleidobert.errors import UserError
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.checkpoints import LazyArray
from kaleidobert.model_zoo.kaleidobert import Backbone, Classifier, Pretrainer, TaskModel
from kaleidobert.released import tf_checkpoint
from kaleidobert.released.config import backbone_config, beside, vocabulary_sha256
from kaleidobert.released.names import COUNTERS, LABELS, SLOTS, TYPE_TABLE, Name, bare, full, is_bert, label_names, name_map

TASKS = ("pretraining", *LABELS)


def open_weights(prefix: str | Path) -> dict[str, LazyArray]:
    """{bare name: array} of a checkpoint, without optimiser slots and counters.

    Raises UserError where the file is missing or damaged, or two names become the same.
    """
    arrays = tf_checkpoint.open_arrays(prefix, lambda name: not name.endswith(SLOTS) and bare(name) not in COUNTERS)
    weights = {bare(name): array for name, array in arrays.items()}
    if len(weights) < len(arrays):
        raise UserError(f"{len(arrays)} variables but {len(weights)} names", str(prefix), "the weights of one model")
    return weights


def task_of(names: Mapping[str, Any]) -> str:
    """Which of TASKS a checkpoint was trained for last: that of its fine-tuning head, if it has one."""
    return next((label for label in LABELS if f"{label}_dense/kernel" in names), "pretraining")


def global_step(prefix: str | Path) -> int | None:
    """The step that a checkpoint was written at; None where it does not say."""
    stored = list(tf_checkpoint.open_arrays(prefix, lambda name: bare(name) == "global_step").values())
    return int(stored[0].load()) if stored and stored[0].shape == () else None


def origin(prefix: str | Path, vocabulary: Path | None, size: int) -> dict[str, Any]:
    """What the meta of a checkpoint of ours says beside the model, as far as it is known: the step, and the vocabulary of ``size``.

    The encoder of its features stays out: no TensorFlow 1 checkpoint names it, the released ones least of all.
    """
    step = global_step(prefix)
    known = {} if step is None else {"step": step}
    return known if vocabulary is None else known | {"vocabulary_sha256": vocabulary_sha256(vocabulary, size)}


def read(prefix: str | Path, wants: Callable[[str], bool]) -> tuple[dict[str, Any], checkpoints.Arrays]:
    """(meta, {"model/path": array}) as checkpoints.py reads them from files of ours; config.json, and vocab.txt if there is one, lie
    beside the checkpoint or a folder above. What it has no name for keeps its own, so that it shows up as unexpected.

    Raises UserError where a file is missing, damaged or does not fit, and for a BERT.
    """
    stored = open_weights(prefix)
    if is_bert(stored):
        raise UserError("is a BERT, which knows nothing of pictures", str(prefix), "a Kaleido-BERT",
                        "make a start of it with `kaleidobert convert`")
    config, task = beside(prefix, ["config.json"]), task_of(stored)
    if config is None:
        raise UserError("there is no config.json beside it or a folder above", str(prefix), fix="put it there")
    arguments = backbone_config(config, type_rows(stored))
    names = name_map(arguments["num_layers"]) | (label_names(task) if task in LABELS else {})
    places = {name.bare: (f"model/{path}", name) for path, name in names.items()}
    arrays = {}
    for name, array in stored.items():
        path, turned = places.get(name, (f"model/{name}", Name(name)))
        if wants(path):
            arrays[path] = turned.turn(array).load()
    backbone = {name: value.default for name, value in signature(Backbone).parameters.items()} | arguments
    levels = backbone["levels"]
    meta: dict[str, Any] = {"format": checkpoints.FORMAT, "kind": Pretrainer.kind,
    "config": {"backbone": backbone | {"levels": list(map(asdict, levels))}},
            "identity": {"num_heads": backbone["num_heads"], "levels": [[x.name, x.grid, x.pretext] for x in levels]}}
    if task in LABELS:
        meta["kind"] = Classifier.kind
        options = {name: value.default for name, value in signature(Classifier).parameters.items() if value.default is not value.empty}
        meta["config"] |= options | {"num_classes": num_classes(stored, task)}
    return meta | origin(prefix, beside(prefix, ["vocab.txt"]), arguments["vocabulary_size"]), arrays


def type_rows(stored: Mapping[str, LazyArray]) -> int:
    """Rows of the type tables; 0 = the checkpoint has none."""
    return stored[TYPE_TABLE].shape[0] if TYPE_TABLE in stored and stored[TYPE_TABLE].shape else 0


def num_classes(stored: Mapping[str, LazyArray], task: str) -> int:
    """Classes of a fine-tuning head; 2 where the checkpoint has none, so that its absence is found with all else that is missing."""
    kernel = stored.get(f"{task}_dense/kernel")
    return (kernel.shape[-1] or 2) if kernel is not None and kernel.shape else 2


def import_checkpoint(prefix: str | Path, config: str | Path | Mapping[str, Any], task: str = "",
                      precision: str | None = None) -> TaskModel:
    """A released checkpoint as a Pretrainer, or as a Classifier where it holds a fine-tuning head.

    config: its config.json. task: one of TASKS; "" = what the checkpoint holds. A Classifier leaves the heads of pre-training aside
    and a Pretrainer those of fine-tuning; all else must fit one to one. Raises UserError that lists what is missing (-) and
    unexpected (+).
    """
    if task not in ("", *TASKS):
        raise UserError(f"unknown task {task!r}", "import", f"pretraining, {' or '.join(LABELS)}")
    stored = open_weights(prefix)
    task = task or task_of(stored)
    backbone = Backbone.from_config(backbone_config(config, type_rows(stored)) | {"precision": precision})
    model = Pretrainer(backbone) if task == "pretraining" else Classifier(backbone, num_classes(stored, task))
    names = names_of(model, task)
    heads = {name.bare for path, name in name_map(backbone.num_layers).items() if path.startswith(checkpoints.HEAD)}
    heads |= {name.bare for label in LABELS for name in label_names(label).values()}
    wanted = {names[weight.path].bare: names[weight.path].turn(np.broadcast_to(np.float32(0), weight.shape))
              for weight in model.weights}
    found = {name: array for name, array in stored.items() if name in wanted or name not in heads}
    checkpoints.fit(wanted, found, str(prefix), "check that config.json belongs to this checkpoint")
    for weight in model.weights:
        weight.assign(names[weight.path].turn(stored[names[weight.path].bare]).load())
    return model


def names_of(model: TaskModel, task: str = "pretraining") -> dict[str, Name]:
    """{path: Name} of exactly the weights that this model has; task: whose head a Classifier's is."""
    known = name_map(model.backbone.num_layers, model.backbone.levels) | (label_names(task) if task in LABELS else {})
    unknown = [weight.path for weight in model.weights if weight.path not in known]
    if unknown:
        raise UserError(f"the release has no {', '.join(unknown)}", f"the {model.kind}", "a model with released heads only")
    return {weight.path: known[weight.path] for weight in model.weights}


def export_weights(model: TaskModel, task: str = "pretraining") -> dict[str, np.ndarray]:
    """{released name: array} of a model's weights: the way back."""
    names = names_of(model, task)
    return {full(weight.path, names[weight.path]): names[weight.path].turn(np.asarray(weight)) for weight in model.weights}
