"""Shared by the tests of exports: runs with random weights that no training has made, and a Python with torch and transformers."""

import importlib.util
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras import ops

from kaleidobert import configs, io
from kaleidobert.app_zoo import models
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import TaskModel
from tests.support.apps_data import SIZES, TRAIN, World

VARIABLE = "KALEIDO_TRANSFORMERS"  # a Python with torch, transformers and pillow, which needs nothing of ours
HERE = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
PYTHON = Path(os.environ[VARIABLE]) if VARIABLE in os.environ else None
needs_transformers = pytest.mark.skipif(PYTHON is None and not HERE, reason="torch and transformers are not installed (pip install "
                                        f"'kaleidobert[export]', or set {VARIABLE} to a Python that has them)")


def shake(model: TaskModel, seed: int = 0) -> TaskModel:
    """Gives every weight its own numbers, those that start at 0 or 1 as well."""
    rng = np.random.Generator(np.random.Philox(seed))
    for weight in model.weights:
        spread = rng.normal(0, 0.15, weight.shape)
        weight.assign(ops.cast(np.abs(spread) + 0.5 if weight.path.endswith(("gamma", "scale")) else spread, "float32"))
    return model


def make_run(world: World, name: str, make: Any, config: Any, seed: int = 0, **meta: Any) -> Path:
    """The folder of a finished run of a configuration; make: the backbone's arguments -> its model."""
    bank = Bank(config.data.bank)
    model = shake(make(models.backbone_config(bank, config.levels, SIZES, replace(TRAIN, seed=seed))), seed)
    checkpoints.save(config.run / "best.npz", model, None, models.origin(model, bank.require(config.levels, "")) | meta)
    io.write_text(config.run / "config.yaml", configs.dump(config))
    made = {"head": "plain", "head_of": "the paper's", "trained": "not at all"}
    io.write_json(config.run / "results.json", {"task": name, "model": made})
    return config.run
