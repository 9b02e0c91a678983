"""One training step and one forward pass, compiled for the backend at hand (TensorFlow, or JAX)."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from kaleidobert.engines.optimizers import clip_by_global_norm
from kaleidobert.errors import UserError

Arrays = Mapping[str, np.ndarray]
LossFunction = Callable[[Mapping[str, Any], Arrays, Arrays], dict[str, Any]]  # outputs, targets, weights -> {"loss": total, ...}


def train_step(model: keras.Model, loss: LossFunction, optimizer: keras.optimizers.Optimizer,
               clip_norm: float) -> Callable[[Arrays, Arrays, Arrays], dict[str, np.ndarray]]:
    """A function (inputs, targets, weights) -> the losses and "gradient_norm" that updates the model.

    Gradients are clipped by their global norm. The optimizer must have been built.
    """
    make = {"tensorflow": _tensorflow_step, "jax": _jax_step}[keras.backend.backend()]
    return make(model, loss, optimizer, clip_norm)


def forward(model: keras.Model) -> Callable[[Arrays], dict[str, np.ndarray]]:
    """A function inputs -> outputs without dropout, as numpy arrays."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(lambda inputs: model(inputs, training=False), reduce_retracing=True, autograph=False)
    else:
        import jax

        stateless = jax.jit(lambda trained, other, inputs: model.stateless_call(trained, other, inputs, training=False)[0])

        def compiled(inputs):
            groups = (model.trainable_variables, model.non_trainable_variables)
            return stateless(*[[v.value for v in group] for group in groups], inputs)

    def run(inputs: Arrays) -> dict[str, np.ndarray]:
        outputs = compiled({name: ops.convert_to_tensor(array) for name, array in inputs.items()})
        return {name: ops.convert_to_numpy(ops.cast(array, "float32")) for name, array in outputs.items()}

    return run


def not_finite(what: str, where: str, batch: Arrays) -> UserError:
    """The error for NaN or infinite numbers out of a batch: it blames the bank where the batch holds such numbers already."""
    broken = [name for name, array in batch.items() if not np.isfinite(array).all()]
    if broken:
        return UserError(f"{what} is not finite, nor is what was read from the bank ({', '.join(broken)})", where,
                         "a bank without NaN or infinite numbers",
                         "delete the bank (data.bank), make it again with `kaleidobert records`, and run the same command again")
    return UserError(f"{what} is not finite although the bank's features are: training has diverged", where,
                     fix="start another run (run=...) with a lower train.learning_rate or train.precision=float32")


def _tensorflow_step(model, loss, optimizer, clip_norm):
    import tensorflow as tf

    # XLA pays on GPUs; on CPUs the small networks of a laptop ran 4 times slower under it
    @tf.function(jit_compile=bool(tf.config.list_physical_devices("GPU")), reduce_retracing=True, autograph=False)
    def step(inputs, targets, weights):
        with tf.GradientTape() as tape:
            losses = loss(model(inputs, training=True), targets, weights)
            scaled = optimizer.scale_loss(losses["loss"])
        gradients = tape.gradient(scaled, [v.value for v in model.trainable_variables])
        return _update(model, optimizer, losses, gradients, clip_norm)

    def run(inputs, targets, weights):
        batch = [{name: tf.convert_to_tensor(array) for name, array in part.items()} for part in (inputs, targets, weights)]
        return {name: value.numpy() for name, value in step(*batch).items()}

    return run


def _update(model, optimizer, losses, gradients, clip_norm):
    """Clip and apply; variables without a gradient (heads of other tasks) are left alone."""
    pairs = [(g, v) for g, v in zip(gradients, model.trainable_variables) if g is not None]
    clipped, norm = clip_by_global_norm([g for g, _ in pairs], clip_norm)
    optimizer.apply(clipped, [v for _, v in pairs])
    return {**losses, "gradient_norm": norm}


def _jax_step(model, loss, optimizer, clip_norm):
    import jax

    def objective(trained, other, inputs, targets, weights):
        outputs, other = model.stateless_call(trained, other, inputs, training=True)
        losses = loss(outputs, targets, weights)
        return losses["loss"], (losses, other)

    @jax.jit
    def step(trained, other, state, inputs, targets, weights):
        gradients, (losses, other) = jax.grad(objective, has_aux=True)(trained, other, inputs, targets, weights)
        clipped, norm = clip_by_global_norm(gradients, clip_norm)
        trained, state = optimizer.stateless_apply(state, clipped, trained)
        return trained, other, state, {**losses, "gradient_norm": norm}

    def run(inputs, targets, weights):
        groups = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
        *values, losses = step(*[[v.value for v in group] for group in groups], dict(inputs), dict(targets), dict(weights))
        for group, new in zip(groups, values):
            for variable, value in zip(group, new):
                variable.assign(value)
        return {name: np.asarray(value) for name, value in losses.items()}

    return run
