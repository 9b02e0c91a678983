"""TensorFlow's devices: MirroredStrategy on one host, MultiWorkerMirroredStrategy over processes."""

import logging
from typing import Any

import tensorflow as tf

from kaleidobert.engines.distributed import channel as channels
from kaleidobert.engines.distributed.channel import Channel
from kaleidobert.engines.distributed.cluster import Cluster
from kaleidobert.engines.distributed.device_assignment import own_devices
from kaleidobert.errors import UserError


def setup(cluster: Cluster, wanted: int, channel: Channel | None) -> dict[str, Any]:
    """{"devices", "strategy"} for ``wanted`` devices of this process, 0 = all. Raises UserError where there are fewer."""
    gpus = tf.config.list_physical_devices("GPU")
    if channel is None:
        return _mirrored(gpus, wanted)
    if not gpus and wanted > 1:
        raise UserError(f"train.devices is {wanted}", "several processes on TensorFlow without GPUs", "1", "start more processes instead")
    own = own_devices(channel, len(gpus), wanted)
    addresses = channel.gather(f"{channel.host}:{channels.free_port()}")
    try:
        if gpus:
            gpus = [gpus[k] for k in own]
            tf.config.set_visible_devices(gpus, "GPU")
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({"worker": addresses}), task_type="worker", task_id=cluster.rank, num_accelerators={"GPU": len(gpus)},
            rpc_layer="grpc")
        strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except RuntimeError as error:
        raise _too_late(error) from error
    return {"devices": tuple(strategy.extended.worker_devices), "strategy": strategy}


def close() -> None:
    """Nothing needs to be ended."""


def put(place: Any, own: tuple, whole: dict) -> tuple:
    """Inputs, targets, weights and the weights of the whole batch, a value for every device of this process."""
    devices, (inputs, targets, weights) = place.devices, own
    rows = len(next(iter(inputs.values()))) // len(devices)
    parts = []
    for number, device in enumerate(devices):
        with tf.device(device):
            part = [{name: tf.convert_to_tensor(array[number * rows : (number + 1) * rows]) for name, array in side.items()}
                    for side in (inputs, targets, weights)]
            parts.append((*part, {name: tf.convert_to_tensor(array) for name, array in whole.items()}))
    first = place.cluster.rank * len(devices)
    return place.strategy.experimental_distribute_values_from_function(lambda context: parts[context.replica_id_in_sync_group - first])


def _mirrored(gpus: list, wanted: int) -> dict[str, Any]:
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # which way gradients take is of no interest
    kind = "GPU" if gpus else "CPU"
    if not gpus and wanted > 1:
        try:  # a CPU is one device; for trials it is split
            tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0],
                                                       [tf.config.LogicalDeviceConfiguration()] * wanted)
        except RuntimeError:  # TensorFlow has begun: what is there counts
            pass
    found = [device.name for device in tf.config.list_logical_devices(kind)]
    if len(found) < wanted:
        raise UserError(f"train.devices is {wanted}", f"this machine, with {len(found)} {kind} device(s)",
                        f"at most {len(found)}, or 0 for all")
    # on CPUs TensorFlow's own choice takes only one number of devices in the life of a process
    strategy = tf.distribute.MirroredStrategy(found[: wanted or len(found)], None if gpus else tf.distribute.ReductionToOneDevice())
    return {"devices": tuple(strategy.extended.worker_devices), "strategy": strategy}


def _too_late(error: RuntimeError) -> UserError:
    return UserError(f"TensorFlow cannot be set up for several processes ({error})", "the devices",
                     "a process that has computed nothing yet")
