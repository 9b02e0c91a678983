"""GELU, dropout and LayerNorm in one pass over memory each, for TensorFlow on CPUs and PyTorch. layers/core.py alone uses these functions.

TensorFlow's graphs write every intermediate result to memory, and in bfloat16 convert it there and back. XLA computes such a chain of
small operations while the numbers are in the cache, so it compiles these; matrix products stay with oneDNN, which is faster at them.
Plain Keras instead makes a training step 23 % longer (benchmarks/README.md has the table). Where a whole step is compiled by XLA, as on
GPUs and by JAX, nothing of this is needed, and the same formulas run as they stand. PyTorch computes operation by operation: GELU and
LayerNorm are one each, and on GPUs its compiler joins them with what stands around them.

Each function is defined once in keras.ops, float32 inside whatever its dtype, with its gradient written beside it.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import keras
import numpy as np
from keras import ops

from kaleidobert.specs import Tensor

MIN_WIDTH = 64  # of rows: for narrower networks compiling takes longer than it saves
GELU_SLOPE, GELU_CUBE = 2 * (2 / np.pi) ** 0.5, 0.044715  # tanh(x) = 2 sigmoid(2x) - 1 makes one function of both factors
WORD = 2**32


def gelu(inputs: Tensor, bias: Tensor | None = None, training: bool = True) -> Tensor:
    """Computes GELU of inputs + bias by its tanh approximation, as released. training: whether a gradient may be needed."""
    if bias is None:
        return _function("gelu", inputs)(inputs)
    if not training and is_fused(inputs.shape[-1]):  # oneDNN computes it along with the product, where no gradient is needed
        return ops.gelu(ops.add(inputs, ops.cast(bias, inputs.dtype)), approximate=True)
    return _function("bias_gelu", inputs)(inputs, bias)


def dropout(inputs: Tensor, state: Tensor, rate: float, width: int | None = None) -> Tensor:
    """Zeroes a fraction ``rate`` of the inputs and scales the others by 1 / (1 - rate).

    state: two numbers of a SeedGenerator. The same state and shape give the same mask, on every backend: element i is dropped where a
    hash of i and the state says so. No mask is stored: the backward pass computes it again. width: of the network, where the last axis
    of the inputs has no fixed length.
    """
    return _function("dropout", inputs, rate, width=width)(inputs, state)


def layer_norm(inputs: Tensor, gamma: Tensor, beta: Tensor, epsilon: float) -> Tensor:
    """Computes (inputs - mean) / sqrt(variance + epsilon) * gamma + beta over the last axis; gamma and beta are float32."""
    return _function("layer_norm", inputs, epsilon)(inputs, gamma, beta)


def add_norm(inputs: Tensor, residual: Tensor, weights: Sequence[Tensor], epsilon: float, state: Tensor | None = None,
             rate: float = 0.0) -> Tensor:
    """Computes layer_norm(residual + dropout(inputs + bias)); weights: bias, gamma, beta; without a state nothing is dropped."""
    if state is None:
        return _function("add_norm", inputs, epsilon)(inputs, residual, *weights)
    return _function("drop_add_norm", inputs, epsilon, rate)(inputs, residual, *weights, state)


# --- Which way a function runs: compiled in one piece, or as its formula stands


def is_fused(width: int) -> bool:
    """Whether functions of arrays whose last axis has this length are compiled by XLA."""
    return keras.backend.backend() == "tensorflow" and width >= MIN_WIDTH and _on_cpu()


@cache
def _on_cpu() -> bool:
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")


def _function(name: str, inputs: Tensor, *constants: float, width: int | None = None) -> Callable:
    rank, width = len(inputs.shape), inputs.shape[-1] if width is None else width
    if is_fused(width):
        return _fused(name, rank, width, *constants)
    if _on_torch() and str(getattr(inputs, "device", "")).startswith("cuda"):
        return _joined(name, *constants)
    return partial(FUNCTIONS[name][0], *constants)


def _on_torch() -> bool:
    return keras.backend.backend() == "torch"


@cache
def _joined(name: str, *constants: float) -> Callable:
    """Makes few kernels of a row of FUNCTIONS and of the gradient that PyTorch derives, for tensors of any size."""
    import torch

    return torch.compile(lambda *arrays: FUNCTIONS[name][0](*constants, *arrays), dynamic=True)


@cache
def _fused(name: str, rank: int, width: int, *constants: float) -> Callable:
    """Compiles a row of FUNCTIONS and its gradient: once for all layers, and once for each rank and width, which its graph must know.

    The gradient is computed from the inputs alone; nothing else is kept for the backward pass.
    """
    import tensorflow as tf

    forward, backward = (tf.function(partial(function, *constants), jit_compile=True, autograph=False, reduce_retracing=True)
                         for function in FUNCTIONS[name])

    @tf.custom_gradient
    def both(*tensors):
        def gradient(upstream):
            gradients = iter(backward(upstream, *tensors))
            return [next(gradients) if tensor.dtype.is_floating else None for tensor in tensors]

        return forward(*tensors), gradient

    return lambda *arrays: both(*map(tf.convert_to_tensor, arrays))  # the values of variables: a custom gradient takes no variables


def _float(x):
    return ops.cast(x, "float32")


# --- GELU


def _gelu(inputs):
    x = _float(inputs)
    if _on_torch():
        return ops.cast(ops.gelu(x, approximate=True), inputs.dtype)
    return ops.cast(x * ops.sigmoid(x * (GELU_SLOPE + GELU_SLOPE * GELU_CUBE * ops.square(x))), inputs.dtype)


def _gelu_gradient(upstream, inputs):
    x = _float(inputs)
    square = ops.square(x)
    gate = ops.sigmoid(x * (GELU_SLOPE + GELU_SLOPE * GELU_CUBE * square))
    slope = gate + x * gate * (1.0 - gate) * (GELU_SLOPE + 3 * GELU_SLOPE * GELU_CUBE * square)
    return [ops.cast(_float(upstream) * slope, inputs.dtype)]


def _bias_gelu(inputs, bias):
    return ops.cast(_gelu(_float(inputs) + _float(bias)), inputs.dtype)


def _bias_gelu_gradient(upstream, inputs, bias):
    gradient = _gelu_gradient(upstream, _float(inputs) + _float(bias))[0]
    return [ops.cast(gradient, inputs.dtype), ops.cast(_column_sums(gradient), bias.dtype)]


# --- Dropout


def _dropout(rate: float, inputs: Tensor, state: Tensor) -> Tensor:
    return ops.cast(_drop(_float(inputs), state, rate), inputs.dtype)


def _dropout_gradient(rate: float, upstream: Tensor, inputs: Tensor, state: Tensor) -> list[Tensor]:
    return [_dropout(rate, upstream, state)]


def _drop(x: Tensor, state: Tensor, rate: float) -> Tensor:
    bits, limit = random_bits(state, ops.shape(x)), int(rate * WORD)
    # numbers with a sign compare as those without one do where the first bit of both is the other way round
    kept = (bits ^ _word(WORD // 2)) >= limit - WORD // 2 if _on_torch() else bits >= np.uint32(limit)
    return ops.where(kept, x * (1 / (1 - rate)), 0.0)


def random_bits(state, shape):
    """Draws 32 bits for each position of a shape, a function of the two numbers of ``state`` and of the position: uint32, on PyTorch int32.

    It is the finaliser of a hash in two rounds, with a key of the state before each.
    """
    size = 1
    for length in shape:
        size = size * length
    kind = "int32" if _on_torch() else "uint32"
    state = ops.cast(state, kind)
    first = _scramble(state[0] ^ _scramble(state[1] + _word(0x9E3779B9)))
    second = _scramble(first + state[1] * _word(0x85EBCA6B))
    x = ops.cast(ops.reshape(ops.arange(size, dtype="int32"), shape), kind) ^ first
    x = _round(x, 16, 0x7FEB352D) + second
    x = _round(x, 15, 0x846CA68B)
    return x ^ _shifted(x, 16)


def _scramble(x):
    x = _round(_round(x, 16, 0x7FEB352D), 15, 0x846CA68B)
    return x ^ _shifted(x, 16)


def _round(x: Tensor, shift: int, factor: int) -> Tensor:
    return (x ^ _shifted(x, shift)) * _word(factor)


def _word(number: int) -> Any:
    """Makes a constant of 32 bits. PyTorch computes with signed numbers alone: the same bits, of which the first is a sign."""
    return (number + WORD // 2) % WORD - WORD // 2 if _on_torch() else np.uint32(number)


def _shifted(x: Tensor, count: int) -> Tensor:
    """Shifts the bits to the right, zeros behind them; PyTorch's own shift repeats the sign."""
    return (x >> count) & (WORD // 2**count - 1) if _on_torch() else ops.right_shift(x, np.uint32(count))


# --- LayerNorm


def _layer_norm(epsilon: float, inputs: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return ops.cast(_normalise(_float(inputs), gamma, beta, epsilon), inputs.dtype)


def _add_norm(epsilon: float, inputs: Tensor, residual: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    total = _float(residual) + (_float(inputs) + _float(bias))
    return ops.cast(_normalise(total, gamma, beta, epsilon), inputs.dtype)


def _drop_add_norm(epsilon: float, rate: float, inputs: Tensor, residual: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor,
                   state: Tensor) -> Tensor:
    total = _float(residual) + _drop(_float(inputs) + _float(bias), state, rate)
    return ops.cast(_normalise(total, gamma, beta, epsilon), inputs.dtype)


def _layer_norm_gradient(epsilon: float, upstream: Tensor, inputs: Tensor, gamma: Tensor, beta: Tensor) -> list[Tensor]:
    total, *rest = _norm_gradients(epsilon, upstream, _float(inputs), gamma)
    return [ops.cast(total, inputs.dtype), *rest]


def _add_norm_gradient(epsilon: float, upstream: Tensor, inputs: Tensor, residual: Tensor, bias: Tensor, gamma: Tensor,
                       beta: Tensor) -> list[Tensor]:
    total, *rest = _norm_gradients(epsilon, upstream, _float(residual) + (_float(inputs) + _float(bias)), gamma)
    return [ops.cast(total, inputs.dtype), ops.cast(total, residual.dtype), ops.cast(_column_sums(total), bias.dtype), *rest]


def _drop_add_norm_gradient(epsilon: float, rate: float, upstream: Tensor, inputs: Tensor, residual: Tensor, bias: Tensor, gamma: Tensor,
                            beta: Tensor, state: Tensor) -> list[Tensor]:
    total, *rest = _norm_gradients(epsilon, upstream, _float(residual) + _drop(_float(inputs) + _float(bias), state, rate), gamma)
    kept = _drop(total, state, rate)
    return [ops.cast(kept, inputs.dtype), ops.cast(total, residual.dtype), ops.cast(_column_sums(kept), bias.dtype), *rest]


def _norm_gradients(epsilon: float, upstream: Tensor, total: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Computes the gradients of what is normalised, of gamma and of beta."""
    upstream, weights = _float(upstream), ops.expand_dims(gamma * (1 / total.shape[-1]), 1)
    standard, scale = _standardise(total, epsilon)
    product = upstream * standard
    # products with ``weights``: means over the row of upstream * gamma and of product * gamma
    gradient = (upstream * gamma - ops.matmul(upstream, weights) - standard * ops.matmul(product, weights)) * scale
    return gradient, _column_sums(product), _column_sums(upstream)


def _column_sums(x):
    """Sums over all axes but the last."""
    return ops.sum(x, tuple(range(len(x.shape) - 1)))


def _normalise(x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float) -> Tensor:
    if _on_torch():
        return ops.layer_normalization(x, gamma, beta, epsilon=epsilon)
    return _standardise(x, epsilon)[0] * gamma + beta


def _standardise(x: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Returns x with mean 0 and variance 1, and the factor that made the variance 1."""
    x = x - _mean(x)
    scale = ops.rsqrt(_mean(ops.square(x)) + epsilon)
    return x * scale, scale


def _mean(x):
    """Averages over the last axis, which is kept. XLA on CPUs adds up a row one number after another, unless it is a product."""
    width = x.shape[-1]
    if is_fused(width):
        return ops.matmul(x, np.full((width, 1), 1 / width, np.float32))
    return ops.sum(x, axis=-1, keepdims=True) * (1 / width)


FUNCTIONS: dict[str, tuple[Callable, Callable]] = {  # each with the gradients of its arrays of floats
    "gelu": (_gelu, _gelu_gradient), "bias_gelu": (_bias_gelu, _bias_gelu_gradient), "dropout": (_dropout, _dropout_gradient),
    "layer_norm": (_layer_norm, _layer_norm_gradient), "add_norm": (_add_norm, _add_norm_gradient),
    "drop_add_norm": (_drop_add_norm, _drop_add_norm_gradient)}
