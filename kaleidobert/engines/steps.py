"""One training step and one forward pass, as the backend at hand computes it (TensorFlow, JAX or PyTorch)."""

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import numpy as np
from keras import ops

from kaleidobert.engines.distributed.distribution import backend, current_process
from kaleidobert.errors import UserError
from kaleidobert.losses.decomposable import DecomposableLoss
from kaleidobert.model_zoo.kaleidobert import TaskModel

Arrays = Mapping[str, np.ndarray]
LossFunction = Callable[[Mapping[str, Any], Arrays, Arrays], dict[str, Any]]  # outputs, targets, weights -> {"loss": total, ...}


def train_step(model: keras.Model, loss: LossFunction, optimizer: keras.optimizers.Optimizer, clip_norm: float,
               gradient_accumulation_steps: int = 1) -> Callable[..., dict[str, Any]]:
    """Makes a function (inputs, targets, weights) -> the losses, "gradient_norm" and, with float16, "loss_scale" that updates the model.

    The device may still be computing what it returns; ``read`` waits. Gradients are summed over ``gradient_accumulation_steps``
    micro-batches and all devices of distribution.scope, then clipped by their global norm, then applied once. With several devices the
    function takes the batches of distribution.feed. The optimizer must have been built. Raises UserError where the batch would be split
    and the loss is no DecomposableLoss.
    """
    process = current_process()
    divided = gradient_accumulation_steps > 1 or process.strategy is not None or process.group is not None
    if divided and not isinstance(loss, DecomposableLoss):
        raise UserError(
            "the loss of this training compares all examples of a batch with each other, so that a batch cannot be split",
            "the training step",
            "one device, and no micro-batches",
            "set train.devices=1 and train.gradient_accumulation_steps=1, and start one process",
        )
    return backend().train_step(model, loss, optimizer, clip_norm, gradient_accumulation_steps, process)


def read(losses: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers of a step; waits until they are computed."""
    return {name: float(value) for name, value in losses.items()}


def forward(model: keras.Model) -> Callable[[Arrays], dict[str, np.ndarray]]:
    """Makes a function inputs -> outputs without dropout, as numpy arrays."""
    return _Forward(on_device(model, shared=() if isinstance(model, TaskModel) else None))


class _Forward:
    def __init__(self, compiled: Callable[[Mapping[str, Any]], dict[str, Any]]):
        self._compiled = compiled
        self.hold: Callable[[], AbstractContextManager] = getattr(compiled, "hold", nullcontext)

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        outputs = self._compiled({name: ops.convert_to_tensor(array) for name, array in inputs.items()})
        return {name: ops.convert_to_numpy(ops.cast(array, "float32")) for name, array in outputs.items()}


def held(forward: Callable) -> AbstractContextManager:
    """Returns a context for many batches in a row, inside of which the weights do not change.

    ``forward`` (of this module) may then cast them to the compute dtype once, at the beginning.
    """
    return getattr(forward, "hold", nullcontext)()


def on_device(model: keras.Model, shared: Collection[str] | None = None) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Makes a function inputs -> outputs without dropout, which stay on the device; it may still be computing them.

    shared: names of the inputs that all examples read, where every other input, and every output, has a row for each example; the batch
    may then be computed in halves; such a model has a ``backbone``. None: it may not.
    """
    return backend().forward(model, shared)


def not_finite(what: str, where: str, batch: Arrays) -> UserError:
    """Makes the error for NaN or infinite numbers from a batch; it blames the bank where the batch has such numbers already."""
    broken = [name for name, array in batch.items() if not np.isfinite(array).all()]
    if broken:
        return UserError(f"{what} is not finite, nor is the input from the bank ({', '.join(broken)})", where,
                         "a bank without NaN or infinite numbers",
                         "delete the bank (data.bank), make it again with `kaleidobert records`, and run the same command again")
    return UserError(f"{what} is not finite although the bank's features are: training has diverged", where,
                     fix="start another run (run=...) with a lower train.learning_rate or train.precision=float32")
