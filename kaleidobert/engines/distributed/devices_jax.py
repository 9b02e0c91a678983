"""JAX's devices: one mesh over those of all processes."""

import glob
import os
from typing import Any

import jax
import numpy as np

from kaleidobert.engines.distributed import channel as channels
from kaleidobert.engines.distributed.channel import Channel
from kaleidobert.engines.distributed.cluster import Cluster
from kaleidobert.engines.distributed.device_assignment import own_devices
from kaleidobert.errors import UserError

AXIS = "batch"
STARTING = 300  # seconds in which JAX's own service must have started in all processes


def setup(cluster: Cluster, wanted: int, channel: Channel | None) -> dict[str, Any]:
    """{"devices", "mesh"} for ``wanted`` devices of this process, 0 = all. Raises UserError where there are fewer."""
    gpus = _visible_gpus()
    if wanted > 1 and not gpus:
        try:  # a CPU is one device; for trials it is split
            jax.config.update("jax_num_cpu_devices", wanted)
        except RuntimeError:  # JAX has begun: what is there counts
            pass
    if channel is not None:
        _begin(cluster, channel, own_devices(channel, gpus, wanted) or None)
    found = jax.local_devices()
    if len(found) < wanted:
        raise UserError(f"train.devices is {wanted}", f"this machine, with {len(found)} {found[0].platform.upper()} device(s)",
                        f"at most {len(found)}, or 0 for all")
    count = wanted or len(found)
    chosen = [device for process in range(cluster.size)
              for device in [device for device in jax.devices() if device.process_index == process][:count]]
    if len(chosen) != count * cluster.size:
        raise UserError(f"the processes have {len(chosen)} devices", "train.devices", f"{count} for each of {cluster.size} processes")
    return {"devices": tuple(found[:count]), "mesh": jax.sharding.Mesh(np.array(chosen), (AXIS,))}


def close() -> None:
    """Leave JAX's service, which runs in process 0 and must be the last to end."""
    jax.distributed.shutdown()


def put(place: Any, own: tuple, whole: dict) -> tuple:
    """Inputs, targets and weights as arrays over all devices; their rows lie where they are computed."""
    rows = jax.sharding.NamedSharding(place.mesh, jax.sharding.PartitionSpec(AXIS))
    return tuple({name: jax.make_array_from_process_local_data(rows, np.asarray(array)) for name, array in part.items()} for part in own)


def _begin(cluster: Cluster, channel: Channel, gpus: list[int] | None) -> None:
    address = channel.broadcast(f"{channel.host}:{channels.free_port()}" if cluster.rank == 0 else None)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_recoverability", True)  # the channel ends the others in order; JAX itself would abort them
    try:
        jax.distributed.initialize(address, cluster.size, cluster.rank, local_device_ids=gpus, initialization_timeout=STARTING)
    except RuntimeError as error:
        raise UserError(f"JAX cannot be set up for several processes ({error})", "the devices",
                        "a process that has computed nothing yet, and free ports between the hosts") from error


def _visible_gpus() -> int:
    """NVIDIA GPUs that this process may use; JAX itself is not asked, for it could not be told afterwards which to take."""
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return 0
    there = len(glob.glob("/dev/nvidia[0-9]*"))
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None or not there:
        return there
    return len([name for name in named.split(",") if name.strip() not in ("", "-1")])
