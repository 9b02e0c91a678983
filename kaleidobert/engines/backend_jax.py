"""All that JAX does in a way of its own: the training step, and the devices and processes of a run.

On the devices of a mesh the step is that of one device on the whole batch.
"""

import glob
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import keras
import numpy as np

from kaleidobert.engines import feeding
from kaleidobert.engines.distributed import cluster as clusters
from kaleidobert.engines.distributed.cluster import Channel, Cluster, own_devices
from kaleidobert.engines.optimizers import clip_by_global_norm, loss_scale
from kaleidobert.errors import UserError
from kaleidobert.losses.decomposable import DecomposableLoss
from kaleidobert.specs import Tensor


def train_step(model: keras.Model, loss: Callable[..., dict[str, Any]], optimizer: keras.optimizers.Optimizer, clip_norm: float,
               gradient_accumulation_steps: int, process: Any) -> Callable[..., dict[str, Any]]:
    """Makes the function of steps.train_step; the device may still be computing the losses that it returns.

    Weights and optimizer state are donated to the step and come back changed, so that they are in memory once.
    """
    groups, mesh = (model.trainable_variables, model.non_trainable_variables, optimizer.variables), process.mesh
    scale_index = next((k for k, v in enumerate(optimizer.variables) if v is loss_scale(optimizer)), None)
    backward = _backward(model, loss, gradient_accumulation_steps, 1 if mesh is None else mesh.size)

    def step(trained, other, state, *batch):
        scale = None if scale_index is None else state[scale_index]
        gradients, other, losses = backward(trained, other, scale, *batch)
        clipped, norm = clip_by_global_norm(gradients, clip_norm, scale)
        trained, state = optimizer.stateless_apply(state, clipped, trained)
        return (trained, other, state), {**losses, "gradient_norm": norm, **({} if scale is None else {"loss_scale": scale})}

    options: dict[str, Any] = {}
    if mesh is not None:
        everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
        options["out_shardings"] = everywhere
        for group in groups:
            for variable in group:
                variable.assign(replicated(variable.value, everywhere))
    compiled = jax.jit(step, donate_argnums=(0, 1, 2), **options)

    def run(*batch):
        values, losses = compiled(*[[v.value for v in group] for group in groups], *batch)
        for group, new in zip(groups, values):
            for variable, value in zip(group, new):
                variable.assign(value)
        return losses

    return run


def forward(model: keras.Model, shared: Collection[str] | None) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Makes the function of steps.on_device; every batch is computed in one piece."""
    stateless = jax.jit(lambda trained, other, inputs: model.stateless_call(trained, other, feeding.dequantize(inputs), training=False)[0])

    def compiled(inputs):
        groups = (model.trainable_variables, model.non_trainable_variables)
        return stateless(*[[local(v.value) for v in group] for group in groups], inputs)

    return compiled


def replicated(value: Tensor, everywhere: jax.sharding.NamedSharding) -> Tensor:
    """Copies a value to all devices of a mesh, those of other processes too."""
    if not value.is_fully_addressable:
        return value
    array = jax.device_get(value)
    return jax.make_array_from_callback(array.shape, everywhere, lambda index: array[index])


def local(value):
    """Returns the value on this process's first device."""
    return value if len(value.sharding.device_set) == 1 else value.addressable_data(0)


def _backward(model: keras.Model, loss: Callable[..., dict[str, Any]], gradient_accumulation_steps: int,
              devices: int) -> Callable[..., tuple]:
    """Makes a function (trained, other, scale, inputs, targets, weights) -> (gradients, other, losses) of all micro-batches."""

    def objective(trained: Sequence[Tensor], other: Sequence[Tensor], scale: Tensor, batch: Sequence[dict],
                  over: Mapping[str, Tensor] | None) -> tuple:
        inputs, targets, weights = feeding.dequantize(batch[0]), feeding.dequantize(batch[1]), batch[2]
        outputs, other = model.stateless_call(trained, other, inputs, training=True)
        if over is None:
            losses = loss(outputs, targets, weights)
        else:
            assert isinstance(loss, DecomposableLoss)  # steps.train_step refuses others where a batch is split
            losses = loss.micro_batch(outputs, targets, weights, over)
        return losses["loss"] if scale is None else losses["loss"] * scale, (losses, other)

    gradient = jax.grad(objective, has_aux=True)

    def once(trained, other, scale, batch, over):
        gradients, (losses, other) = gradient(trained, other, scale, batch, over)
        return gradients, other, losses

    def backward(trained, other, scale, inputs, targets, weights):
        batch = (inputs, targets, weights)
        if gradient_accumulation_steps == 1:
            return once(trained, other, scale, batch, None)
        over = loss.denominators(weights)
        folded = jax.tree.map(lambda array: _fold(array, gradient_accumulation_steps, devices), batch)

        def body(carry, micro):
            sums, other, values = carry
            gradients, other, losses = once(trained, other, scale, micro, over)
            return (jax.tree.map(jax.numpy.add, sums, gradients), other, jax.tree.map(jax.numpy.add, values, losses)), None

        gradients, _, losses = jax.eval_shape(once, trained, other, scale, jax.tree.map(lambda array: array[0], folded), over)
        zeros = [jax.tree.map(lambda leaf: jax.numpy.zeros(leaf.shape, leaf.dtype), tree) for tree in (gradients, losses)]
        return jax.lax.scan(body, (zeros[0], other, zeros[1]), folded)[0]

    return backward


def _fold(array: Tensor, count: int, devices: int) -> Tensor:
    """Reshapes [B, ...] -> [count, B / count, ...]; every micro-batch has rows of every device, so that no row moves between devices."""
    rows = array.shape[0] // (count * devices)
    by_device = jax.numpy.reshape(array, (devices, count, rows, *array.shape[1:]))
    return jax.numpy.reshape(jax.numpy.swapaxes(by_device, 0, 1), (count, devices * rows, *array.shape[1:]))


# --- Devices and processes


AXIS = "batch"
START_TIMEOUT = 300  # seconds in which JAX's own service must start in all processes


def setup(cluster: Cluster, wanted: int, channel: Channel | None) -> dict[str, Any]:
    """Makes {"devices", "mesh"} of ``wanted`` devices of this process, 0 = all. Raises UserError where there are fewer."""
    gpus = _visible_gpus()
    if wanted > 1 and not gpus:
        try:  # a CPU is one device; it is split for trials
            jax.config.update("jax_num_cpu_devices", wanted)
        except RuntimeError:  # JAX is initialised already: its devices stay as they are
            pass
    if channel is not None:
        _begin(cluster, channel, own_devices(channel, gpus, wanted) or None)
    present = jax.local_devices()
    if len(present) < wanted:
        raise UserError(f"train.devices is {wanted}", f"this machine, with {len(present)} {present[0].platform.upper()} device(s)",
                        f"at most {len(present)}, or 0 for all")
    count = wanted or len(present)
    chosen = [device for process in range(cluster.size)
              for device in [device for device in jax.devices() if device.process_index == process][:count]]
    if len(chosen) != count * cluster.size:
        raise UserError(f"the processes have {len(chosen)} devices", "train.devices", f"{count} for each of {cluster.size} processes")
    return {"devices": tuple(present[:count]), "mesh": jax.sharding.Mesh(np.array(chosen), (AXIS,))}


def close() -> None:
    """Leaves JAX's service, which runs in process 0 and must end last."""
    jax.distributed.shutdown()


def put(process: Any, own: tuple, whole: dict) -> tuple:
    """Makes inputs, targets and weights arrays over all devices; each row lies on the device that computes it."""
    rows = jax.sharding.NamedSharding(process.mesh, jax.sharding.PartitionSpec(AXIS))
    return tuple({name: jax.make_array_from_process_local_data(rows, np.asarray(array))
                  for name, array in arrays.items()} for arrays in own)


def _begin(cluster: Cluster, channel: Channel, gpus: list[int] | None) -> None:
    address = channel.broadcast(f"{channel.host}:{clusters.free_port()}" if cluster.rank == 0 else None)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_recoverability", True)  # the control channel ends the other processes in order; JAX would abort them
    try:
        jax.distributed.initialize(address, cluster.size, cluster.rank, local_device_ids=gpus, initialization_timeout=START_TIMEOUT)
    except RuntimeError as error:
        raise UserError(f"JAX cannot be set up for several processes ({error})", "the devices",
                        "a process that has computed nothing yet, and free ports between the hosts") from error


def _visible_gpus() -> int:
    """Counts the NVIDIA GPUs that this process may use, without JAX: after it has listed its devices, it cannot be restricted to some."""
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return 0
    present = len(glob.glob("/dev/nvidia[0-9]*"))
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None or not present:
        return present
    return len([name for name in named.split(",") if name.strip() not in ("", "-1")])
