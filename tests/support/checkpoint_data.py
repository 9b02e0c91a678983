"""Shared by tests of checkpoints: small TensorFlow 1 checkpoints, and files of ours as arrays."""

import json
from functools import cache
from pathlib import Path

import numpy as np

from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import Pretrainer
from kaleidobert.released import checkpoints as released
from kaleidobert.released import tf_checkpoint
from kaleidobert.released.checkpoints import config_json
from tests.support.network_data import backbone

FIRST = "kaleido_bert_pre_trained_model/"


def npz(path: Path) -> dict[str, np.ndarray]:
    """The entries of a checkpoint of ours, without its meta."""
    with np.load(path) as file:
        return {name: file[name] for name in file.files if name != checkpoints.META}


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    """Bit for bit."""
    return first.keys() == second.keys() and all(
        np.asarray(value).dtype == np.asarray(second[name]).dtype and np.asarray(value).tobytes() == np.asarray(second[name]).tobytes()
        for name, value in first.items())


def small(**changes) -> Pretrainer:
    """A Pretrainer of the release's levels with 75 variables."""
    return Pretrainer(backbone("kaleido", **{"seed": 5} | changes))


@cache
def released_small() -> tuple[dict[str, np.ndarray], dict]:
    """The small model as the release writes it: its weights, its configuration."""
    model = small()
    return released.export_weights(model), config_json(model.backbone)


def write(prefix: Path, arrays: dict[str, np.ndarray] | None = None, **config) -> Path:
    """A TensorFlow 1 checkpoint, by default of a small model at step 7, and its config.json with some keys changed."""
    weights, settings = released_small()
    tf_checkpoint.write(prefix, {**weights, "global_step": np.array(7)} if arrays is None else arrays)
    values = {key: value for key, value in (settings | config).items() if value is not None}
    prefix.with_name("config.json").write_text(json.dumps(values))
    return prefix
