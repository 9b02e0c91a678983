"""All that TensorFlow does in a way of its own: the training step, the forward pass, and the devices and processes of a run.

Several devices are replicas of a tf.distribute strategy: MirroredStrategy on one host, MultiWorkerMirroredStrategy over processes.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from kaleidobert import keras_private
from kaleidobert.engines import feeding
from kaleidobert.engines.distributed import cluster as clusters
from kaleidobert.engines.distributed.cluster import Channel, Cluster, own_devices
from kaleidobert.engines.optimizers import clip_by_global_norm, dense, loss_scale
from kaleidobert.errors import UserError
from kaleidobert.losses.decomposable import DecomposableLoss
from kaleidobert.specs import ALONG_TEXT, Tensor

COMPILED = {"reduce_retracing": True, "autograph": False}
MIN_ROWS = 8  # of a batch that is computed in halves
SEED_STEP = 7919  # between the dropout seeds of replicas; a prime, so that seeds of layers do not meet


def train_step(
    model: keras.Model, loss: Callable[..., dict[str, Any]], optimizer: keras.optimizers.Optimizer, clip_norm: float,
    gradient_accumulation_steps: int, process: Any
) -> Callable[..., dict[str, Any]]:
    """Makes the function of steps.train_step; the device may still be computing the losses that it returns."""
    # XLA pays on GPUs; on CPUs it makes small networks 4 times slower (benchmarks/NOTES.md)
    xla, strategy = bool(tf.config.list_physical_devices("GPU")), process.strategy
    backward = _Backward(model, loss, optimizer, gradient_accumulation_steps)

    def update(gradients, losses):
        used = [(g, v) for g, v in zip(gradients, model.trainable_variables) if g is not None]  # not the heads of other tasks
        scale = loss_scale(optimizer)
        clipped, norm = clip_by_global_norm([g for g, _ in used], clip_norm, scale)
        before = {} if scale is None else {"loss_scale": tf.identity(scale)}
        optimizer.apply(clipped, [v for _, v in used])
        return {**losses, "gradient_norm": norm, **before}

    if strategy is None:
        return _with_free_axes(tf.function(lambda *batch: update(*backward(*batch)), jit_compile=xla, **COMPILED), model)

    _sum_once(optimizer)
    seed_replicas(model, strategy)
    inner = tf.function(backward, jit_compile=xla, **COMPILED)  # XLA cannot compile what crosses replicas

    def replica(inputs, targets, weights, whole):
        gradients, losses = inner(inputs, targets, weights, whole)
        used = [k for k, gradient in enumerate(gradients) if gradient is not None]
        local = [gradients[k] for k in used] + [tf.stack(list(losses.values()))]
        *sums, values = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, local)
        for k, total in zip(used, sums):
            gradients[k] = total
        return update(gradients, dict(zip(losses, tf.unstack(values))))

    def step(*batch):
        losses = strategy.run(replica, args=batch)
        return {name: strategy.experimental_local_results(value)[0] for name, value in losses.items()}

    return tf.function(step, **COMPILED)


def forward(model: keras.Model, shared: Collection[str] | None) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Makes the function of steps.on_device.

    On CPUs two halves of a batch run at the same time: one computes products on all cores while the other is at an operation that uses
    one core. In half precision, where products are quick, halves of them would cost more.
    """
    if shared is None or tf.config.list_physical_devices("GPU"):
        return _with_free_axes(_compiled(model), model)
    if "16" in model.backbone.precision:
        return _HalfPrecision(model)
    compiled = _compiled(model)

    def halves(inputs):
        rows = {name: array for name, array in inputs.items() if name not in shared}
        count = next(iter(rows.values())).shape[0]
        if count is None or count < MIN_ROWS or count % 2:
            return compiled(inputs)
        both = [{name: array[half] for name, array in rows.items()} for half in (slice(count // 2), slice(count // 2, None))]
        first, second = (compiled({**inputs, **half}) for half in both)
        return {name: tf.concat([first[name], second[name]], 0) for name in first}

    return _with_free_axes(tf.function(halves, **COMPILED), model)


def _compiled(model: keras.Model, scope: Callable[[], Any] = nullcontext) -> Callable[..., dict[str, Any]]:
    # a partial, not a closure: TensorFlow counts the traces of a piece of code, and warns where each of several networks has one
    return tf.function(partial(_compute, model, scope), **COMPILED)


def _compute(model: keras.Model, scope: Callable[[], Any], inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    with scope():
        return model(feeding.dequantize(inputs), training=False)


class _HalfPrecision:
    """The forward pass of a model whose layers compute in half precision, on a CPU.

    Every call casts every weight, which at BERT's size and small batches is a fifth of the time; inside of ``hold`` it uses cast copies.
    """

    def __init__(self, model):
        self._weights = keras_private.weights_cast_in_calls(model)
        self._copies, self._held = [], False
        self._now, self._then = (_with_free_axes(compiled, model) for compiled in (_compiled(model), _compiled(model, self._scope)))

    def __call__(self, inputs):
        return (self._then if self._held else self._now)(inputs)

    @contextmanager
    def hold(self):
        """Opens a context inside of which the weights count as they are at its beginning."""
        if not self._copies:
            self._copies = [tf.Variable(tf.cast(variable.value, dtype), trainable=False) for variable, dtype in self._weights]
        else:
            for (variable, dtype), copy in zip(self._weights, self._copies):
                copy.assign(tf.cast(variable.value, dtype))
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def _scope(self):
        scope = keras.StatelessScope()
        # the constructor would cast them back
        scope.state_mapping.update({id(variable): copy.value() for (variable, _), copy in zip(self._weights, self._copies)})
        return scope


def _with_free_axes(compiled, model):
    """Makes a tf.function of dicts of arrays trace, for every size of a batch, at once for any length of the axes that differ from call to
    call.

    Otherwise the second length would cost a second trace, which takes seconds.
    """
    free, traced = _free_axes(model), set()
    if not free:
        return compiled

    def run(*batch):
        specs = [_specs(arrays, free) for arrays in batch]
        if (shapes := tuple(tf.nest.flatten(specs))) not in traced:
            compiled.get_concrete_function(*specs)
            traced.add(shapes)
        return compiled(*batch)

    return run


def _free_axes(model: keras.Model) -> Mapping[str, Any]:
    """Returns the model's own ``free_axes``, or the axis of the text where the model declares it without a length."""
    if hasattr(model, "free_axes"):
        return model.free_axes
    declared = getattr(model, "input", None)
    varies = isinstance(declared, dict) and "token_ids" in declared and declared["token_ids"].shape[1] is None
    return dict.fromkeys(ALONG_TEXT, (1,)) if varies else {}


def _specs(arrays: Mapping[str, Any], free: Mapping[str, Any]) -> dict[str, Any]:
    """Makes the arrays' tf.TensorSpecs; both arguments may be nested dicts."""
    return {name: _specs(array, free.get(name, {})) if isinstance(array, Mapping) else
            tf.TensorSpec([None if axis in free.get(name, ()) else size for axis, size in enumerate(array.shape)], array.dtype)
            for name, array in arrays.items()}


class _Backward:
    """Computes the gradients (None for unused variables) and losses of all micro-batches of (inputs, targets, weights), one after another.

    whole: the weights of the whole batch, of which these are a replica's; None = these. It is a loop, as TensorFlow would run unrolled
    micro-batches at the same time, in the memory of all.
    """

    def __init__(self, model: keras.Model, loss: Callable[..., dict[str, Any]], optimizer: keras.optimizers.Optimizer,
                 gradient_accumulation_steps: int):
        self._model, self._loss, self._optimizer, self._gradient_accumulation_steps = model, loss, optimizer, gradient_accumulation_steps

    def __call__(self, inputs, targets, weights, whole=None):
        count = self._gradient_accumulation_steps
        if count == 1:
            return self._micro_batch((inputs, targets, weights), whole and self._loss.denominators(whole))
        over = self._loss.denominators(weights if whole is None else whole)
        folded = [{name: _fold(array, count) for name, array in arrays.items()} for arrays in (inputs, targets, weights)]
        gradients, losses = self._micro_batch(_micro(folded, 0), over)  # before the loop: it shows which variables have a gradient
        used = [k for k, gradient in enumerate(gradients) if gradient is not None]

        def body(number, sums, values):
            more, further = self._micro_batch(_micro(folded, number), over)
            return number + 1, [total + more[k] for k, total in zip(used, sums)], {name: values[name] + further[name] for name in values}

        start = (tf.constant(1), [gradients[k] for k in used], losses)
        _, sums, losses = tf.while_loop(lambda number, *_: number < count, body, start, parallel_iterations=1)
        for k, total in zip(used, sums):
            gradients[k] = total
        return gradients, losses

    def _micro_batch(self, batch: Sequence[dict[str, Any]], over: Mapping[str, Tensor] | None) -> tuple:
        inputs, targets, weights = feeding.dequantize(batch[0]), feeding.dequantize(batch[1]), batch[2]
        with tf.GradientTape() as tape:
            outputs = self._model(inputs, training=True)
            if over is None:
                losses = self._loss(outputs, targets, weights)
            else:
                assert isinstance(self._loss, DecomposableLoss)  # steps.train_step refuses others where a batch is split
                losses = self._loss.micro_batch(outputs, targets, weights, over)
            scaled = self._optimizer.scale_loss(losses["loss"])
        gradients = tape.gradient(scaled, [v.value for v in self._model.trainable_variables])
        return [None if gradient is None else dense(gradient) for gradient in gradients], losses


def _fold(array: Tensor, count: int) -> Tensor:
    """Reshapes [B, ...] -> [count, B / count, ...]."""
    shape = tf.shape(array)
    folded = tf.reshape(array, tf.concat([[count, shape[0] // count], shape[1:]], 0))
    rows = array.shape[0]
    return tf.ensure_shape(folded, [count, None if rows is None else rows // count, *array.shape[1:]])


def _micro(folded, number):
    return [{name: tf.gather(array, number) for name, array in arrays.items()} for arrays in folded]


def _sum_once(optimizer: keras.optimizers.Optimizer) -> None:
    """Stops Keras from summing gradients over replicas once more: they are summed before clipping, which comes before Adam."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    keras_private.skip_gradient_sum(inner)


def seed_replicas(model: keras.Model, strategy: tf.distribute.Strategy) -> None:
    """Gives every replica its own dropout masks: Keras mirrors the generators' state, and so their masks.

    Replica 0 keeps the state that a checkpoint has; the others start at a distance of SEED_STEP.
    """
    states = [v.value for v in model.non_trainable_variables if v.path.endswith("seed_generator_state")]

    def shift():
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        for state in states:
            state.assign_add(tf.stack([tf.cast(number * SEED_STEP, state.dtype), tf.zeros((), state.dtype)]))

    if states:
        strategy.run(tf.function(shift, autograph=False))


# --- Devices and processes


def setup(cluster: Cluster, wanted: int, channel: Channel | None) -> dict[str, Any]:
    """Makes {"devices", "strategy"} of ``wanted`` devices of this process, 0 = all. Raises UserError where there are fewer."""
    gpus = tf.config.list_physical_devices("GPU")
    if channel is None:
        return _mirrored(gpus, wanted)
    if not gpus and wanted > 1:
        raise UserError(f"train.devices is {wanted}", "several processes on TensorFlow without GPUs", "1", "start more processes instead")
    own = own_devices(channel, len(gpus), wanted)
    addresses = channel.gather(f"{channel.host}:{clusters.free_port()}")
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
    """Does nothing: TensorFlow's servers need no farewell."""


def put(process: Any, own: tuple, whole: dict) -> tuple:
    """Splits inputs, targets and weights over the devices of this process; every device gets the weights of the whole batch, too."""
    devices, (inputs, targets, weights) = process.devices, own
    rows = len(next(iter(inputs.values()))) // len(devices)
    values = []
    for number, device in enumerate(devices):
        with tf.device(device):
            rows_of_device = [{name: tf.convert_to_tensor(array[number * rows : (number + 1) * rows]) for name, array in arrays.items()}
                              for arrays in (inputs, targets, weights)]
            values.append((*rows_of_device, {name: tf.convert_to_tensor(array) for name, array in whole.items()}))
    first = process.cluster.rank * len(devices)
    return process.strategy.experimental_distribute_values_from_function(lambda context: values[context.replica_id_in_sync_group - first])


def _mirrored(gpus: list, wanted: int) -> dict[str, Any]:
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it would log how gradients are reduced
    device_type = "GPU" if gpus else "CPU"
    if not gpus and wanted > 1:
        try:  # a CPU is one device; it is split for trials
            tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0],
                                                       [tf.config.LogicalDeviceConfiguration()] * wanted)
        except RuntimeError:  # TensorFlow is initialised already: its devices stay as they are
            pass
    names = [device.name for device in tf.config.list_logical_devices(device_type)]
    if len(names) < wanted:
        raise UserError(f"train.devices is {wanted}", f"this machine, with {len(names)} {device_type} device(s)",
                        f"at most {len(names)}, or 0 for all")
    # on CPUs TensorFlow's default allows only one number of devices per process
    strategy = tf.distribute.MirroredStrategy(names[: wanted or len(names)], None if gpus else tf.distribute.ReductionToOneDevice())
    return {"devices": tuple(strategy.extended.worker_devices), "strategy": strategy}


def _too_late(error: RuntimeError) -> UserError:
    return UserError(f"TensorFlow cannot be set up for several processes ({error})", "the devices",
                     "a process that has computed nothing yet")
