"""The checkpoint that ``init`` names: one of ours (.npz), or a released TensorFlow 1 checkpoint, by its path without .index."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from kaleidobert.errors import UserError
from kaleidobert.model_zoo import checkpoints
from kaleidobert.released import checkpoints as released_checkpoints
from kaleidobert.released import tf_checkpoint


def load_meta(path: str | Path) -> dict[str, Any]:
    """As checkpoints.load_meta; of a released checkpoint it is made of its config.json and its names."""
    return read(path, lambda name: False)[0]


def transfer(path: str | Path, model: keras.Model) -> list[str]:
    """As checkpoints.transfer."""
    return checkpoints.transfer(path, model, read)


def restore(path: str | Path, model: keras.Model) -> dict[str, Any]:
    """As checkpoints.restore; UserError for a released checkpoint, which has no state of dropout."""
    if tf_checkpoint.exists(path):
        raise UserError("is a TensorFlow 1 checkpoint", str(path), "one of ours (.npz)", "convert it with `kaleidobert convert`")
    return checkpoints.restore(path, model)


def continue_optimizer(path: str | Path, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> int:
    """As checkpoints.continue_optimizer; prints what a released checkpoint leaves unverified."""
    if not tf_checkpoint.exists(path):
        return checkpoints.continue_optimizer(path, model, optimizer)
    arrays, remarks = released_checkpoints.import_optimizer(path, model, "pretraining")
    print("\n".join(f"  {remark}" for remark in remarks), end="\n" * bool(remarks))
    return checkpoints.continue_optimizer(path, model, optimizer, arrays)


def read(path: str | Path, wants: Callable[[str], bool]) -> tuple[dict[str, Any], checkpoints.Arrays]:
    """As checkpoints.read."""
    return (released_checkpoints if tf_checkpoint.exists(path) else checkpoints).read(path, wants)
