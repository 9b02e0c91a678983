"""All that PyTorch does in a way of its own: the training step, the forward pass, and the device and processes of a run.

A process has one device: several GPUs are as many processes, each with its rows of a batch (torch.distributed: NCCL, on CPUs Gloo).
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from functools import cache
from typing import Any

import keras
import numpy as np
import torch
from keras import ops

from kaleidobert import devices, keras_private
from kaleidobert.engines import feeding
from kaleidobert.engines.distributed import cluster as clusters
from kaleidobert.engines.distributed.cluster import Channel, Cluster, own_devices
from kaleidobert.engines.optimizers import clip_by_global_norm, loss_scale
from kaleidobert.errors import UserError
from kaleidobert.losses.decomposable import DecomposableLoss
from kaleidobert.specs import Tensor

SEED_STEP = 7919  # between the dropout seeds of processes; a prime, so that seeds of layers do not meet
BUCKET = 2**24  # numbers that are summed over processes in one message
LOSS_TIMEOUT = timedelta(days=1)  # of a message; the control channel notices a lost process


def train_step(model: keras.Model, loss: Callable[..., dict[str, Any]], optimizer: keras.optimizers.Optimizer, clip_norm: float,
               gradient_accumulation_steps: int, process: Any) -> Callable[..., dict[str, Any]]:
    """Makes the function of steps.train_step; the device may still be computing the losses that it returns."""
    variables, scale = model.trainable_variables, loss_scale(optimizer)
    if process.group is not None:
        _begin_alike(model, optimizer)
        seed_process(model, process.cluster.rank)

    def step(*batch):
        gradients, losses = _backward(model, loss, optimizer, gradient_accumulation_steps, [_tensors(arrays) for arrays in batch])
        used = [k for k, gradient in enumerate(gradients) if gradient is not None]  # not the heads of other tasks
        with torch.no_grad():
            own = [gradients[k] for k in used]
            if process.group is not None:
                *own, values = _summed([*own, torch.stack(list(losses.values()))])
                losses = dict(zip(losses, values))
            clipped, norm = clip_by_global_norm(own, clip_norm, None if scale is None else scale.value)
            before = {} if scale is None else {"loss_scale": scale.value.clone()}
            optimizer.apply(clipped, [variables[k] for k in used])
        return {**losses, "gradient_norm": norm, **before}

    return step


def forward(model: keras.Model, shared: Collection[str] | None) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Makes the function of steps.on_device; every batch is computed in one piece."""
    return _Forward(model)


class _Forward:
    """The forward pass. In half precision every call casts every weight; inside of ``hold`` it uses cast copies."""

    def __init__(self, model: keras.Model):
        self._model = model
        self._scope: Any = None

    def __call__(self, inputs):
        with torch.no_grad(), self._scope or nullcontext():
            return self._model(feeding.dequantize(_tensors(inputs)), training=False)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Opens a context inside of which the weights count as they are at its beginning."""
        weights = keras_private.weights_cast_in_calls(self._model)
        if weights:
            self._scope = keras.StatelessScope()
            # the constructor would cast them back
            self._scope.state_mapping.update({id(variable): ops.cast(variable.value.detach(), dtype) for variable, dtype in weights})
        try:
            yield
        finally:
            self._scope = None


def _backward(model: keras.Model, loss: Callable[..., dict[str, Any]], optimizer: keras.optimizers.Optimizer, count: int,
              batch: Sequence[Mapping[str, Tensor]]) -> tuple[list[Tensor | None], dict[str, Tensor]]:
    """Computes the gradients (None for unused variables) and losses of all micro-batches, one after another, with no graph behind them.

    batch: inputs, targets, weights and, of several processes, the weights of the whole batch.
    """
    parts, whole = batch[:3], batch[3] if len(batch) == 4 else None
    over = None
    if count > 1 or whole is not None:
        assert isinstance(loss, DecomposableLoss)  # steps.train_step refuses others where a batch is split
        over = loss.denominators(parts[2] if whole is None else whole)
    gradients: list[Tensor | None] = []
    losses: dict[str, Tensor] = {}
    for number in range(count):
        micro = [{name: _part(array, number, count) for name, array in arrays.items()} for arrays in parts]
        more, further = _micro_batch(model, loss, optimizer, micro, over)
        # not in place: gradients of one step may share their memory
        gradients = [one if other is None else one + other for one, other in zip(more, gradients)] if number else more
        losses = {name: value + losses[name] for name, value in further.items()} if number else further
    return gradients, losses


def _part(array: Tensor, number: int, count: int) -> Tensor:
    rows = len(array) // count
    return array[number * rows : (number + 1) * rows]


def _micro_batch(model: keras.Model, loss: Callable[..., dict[str, Any]], optimizer: keras.optimizers.Optimizer,
                 batch: Sequence[Mapping[str, Tensor]], over: Mapping[str, Tensor] | None) -> tuple:
    inputs, targets, weights = feeding.dequantize(batch[0]), feeding.dequantize(batch[1]), batch[2]
    with torch.enable_grad():  # whatever the caller says
        outputs = model(inputs, training=True)
        if over is None:
            losses = loss(outputs, targets, weights)
        else:
            assert isinstance(loss, DecomposableLoss)
            losses = loss.micro_batch(outputs, targets, weights, over)
        values = [variable.value for variable in model.trainable_variables]
        gradients = torch.autograd.grad(optimizer.scale_loss(losses["loss"]), values, allow_unused=True)
    return list(gradients), {name: value.detach() for name, value in losses.items()}


def _tensors(arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _tensors(array) if isinstance(array, Mapping) else ops.convert_to_tensor(array) for name, array in arrays.items()}


# --- The device, and the processes


def setup(cluster: Cluster, wanted: int, channel: Channel | None) -> dict[str, Any]:
    """Makes {"devices", "group"} of the one device of this process; without other processes there is no group.

    Raises UserError where more than one device is wanted of a process.
    """
    visible = [name for name in devices.names() if name.startswith("gpu")]
    own = own_devices(channel, len(visible), wanted) if channel else list(range(wanted or len(visible)))
    if max(wanted, len(own)) > 1:
        raise UserError(f"train.devices is {wanted}", "a process on PyTorch", "1, its device",
                        f"set train.devices=1 and start a process for each: torchrun --nproc-per-node={max(wanted, len(own))} --no-python "
                        "kaleidobert ...")
    device = torch.device("cuda", own[0]) if visible else ops.convert_to_tensor(0).device
    if visible:
        torch.cuda.set_device(device)
    return {"devices": (device,), "group": _join(cluster, channel, device) if channel else None}


def close() -> None:
    """Leaves the group of the processes, whose addresses process 0 keeps."""
    torch.distributed.destroy_process_group()


def put(process: Any, own: tuple, whole: dict) -> tuple:
    """Puts inputs, targets and weights of this process on its device, and the weights of the whole batch."""
    move = _mover(process.devices[0])
    return tuple({name: move(array) for name, array in arrays.items()} for arrays in (*own, whole))


@cache
def _mover(device: torch.device) -> Callable[[np.ndarray], Tensor]:
    return feeding.torch_put(device)


def _join(cluster: Cluster, channel: Channel, device: torch.device) -> Any:
    address = channel.broadcast(f"{channel.host}:{clusters.free_port()}" if cluster.rank == 0 else None)
    try:
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", f"tcp://{address}", LOSS_TIMEOUT, cluster.size,
                                             cluster.rank)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"PyTorch cannot be set up for several processes ({' '.join(str(error).split())})", "the devices",
                        "a process that is in no group yet, and free ports between the hosts") from error
    return torch.distributed.group.WORLD


def _begin_alike(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    """Gives every process the weights and the state of process 0."""
    for variable in (*model.variables, *optimizer.variables):
        torch.distributed.broadcast(variable.value.detach(), 0)


def seed_process(model: keras.Model, rank: int) -> None:
    """Gives every process its own dropout masks: process 0 keeps the state that a checkpoint has, the others are SEED_STEP apart."""
    for variable in model.non_trainable_variables:
        if variable.path.endswith("seed_generator_state"):
            variable.assign(ops.convert_to_numpy(variable.value).astype(np.int64) + np.array([rank * SEED_STEP, 0]))


def _summed(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Returns the sums over all processes of tensors of one dtype; every process has as many, in one order."""
    sums: list[Tensor] = []
    waiting, start = [], 0
    while start < len(tensors):
        end, size = start + 1, tensors[start].numel()
        while end < len(tensors) and size + tensors[end].numel() <= BUCKET:
            end, size = end + 1, size + tensors[end].numel()
        bucket = tensors[start:end]
        joined = torch.cat([tensor.reshape(-1) for tensor in bucket])
        waiting.append(torch.distributed.all_reduce(joined, async_op=True))
        sums += [part.view(tensor.shape) for part, tensor in zip(joined.split([tensor.numel() for tensor in bucket]), bucket)]
        start = end
    for message in waiting:
        message.wait()
    return sums
