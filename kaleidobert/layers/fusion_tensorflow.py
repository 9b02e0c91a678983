"""Chains of small operations in one pass over memory, for TensorFlow on CPUs; the only layer that knows a backend.

TensorFlow's graphs write every intermediate result to memory, and in bfloat16 convert it there and back: of a training step of
BERT's size a fifth goes into GELU, normalisation and dropout, which are hardly any arithmetic. XLA computes such a chain while the
numbers are in the cache, so it is given these, and the matrix products stay with oneDNN, which is the faster at them on CPUs. Where a
whole step is compiled by XLA, as on GPUs and by JAX, nothing of this is needed.
"""

from collections.abc import Callable, Sequence
from functools import cache

import tensorflow as tf

Tensors = Sequence[tf.Tensor]
COMPILED = {"jit_compile": True, "autograph": False, "reduce_retracing": True}


def fused(forward: Callable[..., tf.Tensor], backward: Callable[..., Tensors]) -> Callable[..., tf.Tensor]:
    """forward(*tensors) -> tensor, compiled by XLA, and so is its gradient: backward(upstream, *tensors) -> one for every tensor of
    floats. It is computed from the inputs alone: nothing else is kept for the way back."""
    there, back = tf.function(forward, **COMPILED), tf.function(backward, **COMPILED)

    @tf.custom_gradient
    def both(*tensors):
        def gradient(upstream):
            found = iter(back(upstream, *tensors))
            return [next(found) if tensor.dtype.is_floating else None for tensor in tensors]

        return there(*tensors), gradient

    return lambda *arrays: both(*map(tf.convert_to_tensor, arrays))  # of variables the value: a custom gradient takes no others


def kept(before: Callable[..., tf.Tensor], behind: Callable[..., tf.Tensor],
         backward: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    """(scores, bias, state) -> behind(before(scores, bias), state), of which ``behind`` and the gradient of the scores are compiled:
    backward(upstream, before(scores, bias), state); the middle is all that is kept for the way back."""
    there, back = tf.function(behind, **COMPILED), tf.function(backward, **COMPILED)

    @tf.custom_gradient
    def all_of(scores, bias, state):
        middle = before(scores, bias)

        def gradient(upstream):
            return tf.cast(back(upstream, middle, state), scores.dtype), None, None

        return there(middle, state), gradient

    return all_of


def compiled_back(forward: Callable[..., Tensors], backward: Callable[..., Tensors]) -> Callable[..., Tensors]:
    """forward(*tensors) -> tensors, by TensorFlow's own operations; only the gradient is compiled: backward(*upstreams) -> one for
    every tensor."""
    back = _compiled(backward)

    @tf.custom_gradient
    def both(*tensors):
        def gradient(*upstreams):
            return [tf.cast(found, tensor.dtype) for found, tensor in zip(back(*upstreams), tensors)]

        return forward(*tensors), gradient

    return both


@cache
def _compiled(function: Callable[..., Tensors]) -> Callable[..., Tensors]:
    return tf.function(function, **COMPILED)


def products(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """As rows.products."""
    return tf.matmul(one, other, transpose_b=True)


def trained_product(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """As rows.trained_product. On CPUs the gradient of the inputs is computed as a batch of one product: another routine of oneDNN's,
    which takes a fifth less where the kernel is wide (benchmarks/NOTES.md)."""
    return _batched_back(tf.convert_to_tensor(inputs), tf.convert_to_tensor(kernel)) if worthwhile() else tf.matmul(inputs, kernel)


@tf.custom_gradient
def _batched_back(inputs, kernel):
    def gradient(upstream):
        return tf.matmul(upstream[None], kernel[None], transpose_b=True)[0], tf.matmul(inputs, upstream, transpose_a=True)

    return tf.matmul(inputs, kernel), gradient


def worthwhile() -> bool:
    """Whether steps run as TensorFlow graphs on a CPU."""
    return not tf.config.list_physical_devices("GPU")
