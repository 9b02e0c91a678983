"""The state of Adam, between a TensorFlow 1 checkpoint and one of ours.

There: "<variable>/Adam" (m), "<variable>/Adam_1" (v), global_step, and the two powers that correct the bias of the next step.
Ours: "optimizer/adam/<path>_momentum", "..._velocity" and "optimizer/adam/iteration".
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kaleidobert.errors import UserError
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.checkpoints import LazyArray
from kaleidobert.model_zoo.kaleidobert import TaskModel
from kaleidobert.released import checkpoints as released
from kaleidobert.released import tf_checkpoint
from kaleidobert.released.names import COUNTERS, SLOTS, Name, bare, full

ENTRIES = dict(zip(SLOTS, ("momentum", "velocity")))
ITERATION = "optimizer/adam/iteration"
POWERS = {"beta1_power": 0.9, "beta2_power": 0.98}  # of the released optimiser

Arrays = dict[str, np.ndarray | LazyArray]


def to_ours(prefix: str | Path, model: TaskModel, task: str) -> tuple[Arrays, list[str]]:
    """(entries of a checkpoint of ours, remarks) from a checkpoint of the model's task; UserError lists what does not fit (-, +)."""
    stored = {bare(name): array for name, array in tf_checkpoint.open_arrays(
        prefix, lambda name: name.endswith(SLOTS) or bare(name) in COUNTERS).items()}
    slots = list(_slots(model, task))
    wanted = {name.bare + slot: name.turn(blank) for _, name, slot, _, blank in slots}
    wanted |= {counter: np.zeros((), np.int64 if counter == "global_step" else np.float32) for counter in COUNTERS}
    checkpoints.fit(wanted, stored, str(prefix), "leave optimizer=true out to convert the weights alone")
    step = int(stored["global_step"].load())
    arrays = {ITERATION: np.array(step)} | {entry: name.turn(stored[name.bare + slot]) for _, name, slot, entry, _ in slots}
    remarks = []
    for counter, beta in POWERS.items():
        value = float(stored[counter].load())
        if not np.isclose(value, beta ** (step + 1), 0.01, 1e-30):
            remarks.append(f"{counter} is {value:.6g}, not {beta}^{step + 1}: it was trained with another beta than the release")
    return arrays, remarks


def to_released(path: str | Path, model: TaskModel, task: str) -> tuple[Arrays, int]:
    """({released name: array}, steps done) from a checkpoint of ours that holds an optimiser; UserError lists what does not fit."""
    entries = checkpoints.open_arrays(path, "optimizer/")
    if not entries:
        raise UserError("holds weights but no optimizer", str(path), "the last.npz of a run", "leave optimizer=true out")
    slots = list(_slots(model, task))
    checkpoints.fit({ITERATION: np.array(0)} | {entry: blank for *_, entry, blank in slots}, entries, str(path))
    step = int(entries[ITERATION].load())
    arrays = {full(where, name) + slot: name.turn(entries[entry]) for where, name, slot, entry, _ in slots}
    # multiplied step by step in float32, as there
    return arrays | {counter: np.cumprod(np.full(step + 1, beta, np.float32))[-1] for counter, beta in POWERS.items()}, step


def _slots(model: TaskModel, task: str) -> Iterator[tuple[str, Name, str, str, np.ndarray]]:
    """(path, name, slot, entry of ours, an array of its shape) of every moment of a model."""
    names = released.names_of(model, task)
    for weight in model.trainable_weights:
        for slot, entry in ENTRIES.items():
            yield (weight.path, names[weight.path], slot, f"optimizer/adam/{weight.path.replace('/', '_')}_{entry}",
                   np.broadcast_to(np.float32(0), weight.shape))
