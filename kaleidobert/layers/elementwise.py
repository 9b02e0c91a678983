"""What the encoder does to every number by itself or to every row: GELU, dropout, LayerNorm. Pure functions.

Each is defined once in keras.ops, float32 inside whatever its type. On TensorFlow's CPUs it runs as one pass (fusion_tensorflow) with
the derivative written beside it; elsewhere the backend derives and fuses it.
"""

from collections.abc import Callable
from functools import cache, partial

import keras
import numpy as np
from keras import ops

LEAST_WIDTH = 64  # of rows: for narrower networks compiling takes longer than it saves
GELU_SLOPE, GELU_CUBE = 2 * (2 / np.pi) ** 0.5, 0.044715  # tanh(x) = 2 sigmoid(2x) - 1 makes one function of both factors
LANES = 16  # numbers that a processor adds at once
WORD = 2**32


def gelu(inputs):
    """GELU by its tanh approximation, as released."""
    return _run("gelu", inputs.shape[-1])(inputs)


def dropout(inputs, state, rate: float, width: int | None = None):
    """Zeroes a share ``rate`` of the inputs and scales the others by 1 / (1 - rate). state: two numbers of a SeedGenerator.

    The same state and shape give the same mask, on every backend: element i is dropped where a hash of i and the state says so.
    Nothing is drawn or stored, and the way back finds the same mask again. width: of the network, where rows have no fixed length.
    """
    return _run("dropout", width or inputs.shape[-1], rate)(inputs, state)


def layer_norm(inputs, gamma, beta, epsilon: float):
    """(inputs - mean) / sqrt(variance + epsilon) * gamma + beta over the last axis; gamma and beta are float32."""
    return _run("layer_norm", inputs.shape[-1], epsilon)(inputs, gamma, beta)


def add_norm(inputs, residual, gamma, beta, epsilon: float, state=None, rate: float = 0.0):
    """layer_norm(residual + dropout(inputs)); without a state nothing is dropped."""
    if state is None:
        return _run("add_norm", inputs.shape[-1], epsilon)(inputs, residual, gamma, beta)
    return _run("drop_add_norm", inputs.shape[-1], epsilon, rate)(inputs, residual, gamma, beta, state)


# --- which of the two ways ----------------------------------------------------------------------------------------------


def _run(name: str, width: int, *constants: float) -> Callable:
    if keras.backend.backend() == "tensorflow" and width >= LEAST_WIDTH:
        return _fused(name, *constants)
    return partial(FUNCTIONS[name][0], *constants)


@cache
def _fused(name: str, *constants: float) -> Callable:
    """Made once for all layers, so that it is compiled once for each shape."""
    from kaleidobert.layers import fusion_tensorflow

    forward, backward = (partial(function, *constants) for function in FUNCTIONS[name])
    return fusion_tensorflow.fused(forward, backward) if fusion_tensorflow.worthwhile() else forward


def _float(x):
    return ops.cast(x, "float32")


# --- GELU ---------------------------------------------------------------------------------------------------------------


def _gelu(inputs):
    x = _float(inputs)
    return ops.cast(x * ops.sigmoid(x * (GELU_SLOPE + GELU_SLOPE * GELU_CUBE * ops.square(x))), inputs.dtype)


def _gelu_back(upstream, inputs):
    x = _float(inputs)
    square = ops.square(x)
    share = ops.sigmoid(x * (GELU_SLOPE + GELU_SLOPE * GELU_CUBE * square))
    slope = share + x * share * (1.0 - share) * (GELU_SLOPE + 3 * GELU_SLOPE * GELU_CUBE * square)
    return [ops.cast(_float(upstream) * slope, inputs.dtype)]


# --- dropout ------------------------------------------------------------------------------------------------------------


def _dropout(rate: float, inputs, state):
    return ops.cast(_drop(_float(inputs), state, rate), inputs.dtype)


def _dropout_back(rate: float, upstream, inputs, state):
    return [_dropout(rate, upstream, state)]


def _drop(x, state, rate: float):
    return ops.where(bits(state, ops.shape(x)) >= np.uint32(rate * WORD), x * (1 / (1 - rate)), 0.0)


def bits(state, shape):
    """uint32 of a shape: random bits that depend on the two numbers of ``state`` and on the place (the finaliser of a hash in two
    rounds, with a key of the state before each)."""
    size = 1
    for length in shape:
        size = size * length
    state = ops.cast(state, "uint32")
    first = _scramble(state[0] ^ _scramble(state[1] + np.uint32(0x9E3779B9)))
    second = _scramble(first + state[1] * np.uint32(0x85EBCA6B))
    x = ops.cast(ops.reshape(ops.arange(size, dtype="int32"), shape), "uint32") ^ first
    x = _round(x, 16, 0x7FEB352D) + second
    x = _round(x, 15, 0x846CA68B)
    return x ^ ops.right_shift(x, np.uint32(16))


def _scramble(x):
    x = _round(_round(x, 16, 0x7FEB352D), 15, 0x846CA68B)
    return x ^ ops.right_shift(x, np.uint32(16))


def _round(x, shift: int, factor: int):
    return (x ^ ops.right_shift(x, np.uint32(shift))) * np.uint32(factor)


# --- LayerNorm ----------------------------------------------------------------------------------------------------------


def _layer_norm(epsilon: float, inputs, gamma, beta):
    return ops.cast(_standardise(_float(inputs), epsilon)[0] * gamma + beta, inputs.dtype)


def _add_norm(epsilon: float, inputs, residual, gamma, beta):
    return ops.cast(_standardise(_float(residual) + _float(inputs), epsilon)[0] * gamma + beta, inputs.dtype)


def _drop_add_norm(epsilon: float, rate: float, inputs, residual, gamma, beta, state):
    total = _float(residual) + _drop(_float(inputs), state, rate)
    return ops.cast(_standardise(total, epsilon)[0] * gamma + beta, inputs.dtype)


def _layer_norm_back(epsilon: float, upstream, inputs, gamma, beta):
    total, *rest = _norm_back(epsilon, upstream, _float(inputs), gamma)
    return [ops.cast(total, inputs.dtype), *rest]


def _add_norm_back(epsilon: float, upstream, inputs, residual, gamma, beta):
    total, *rest = _norm_back(epsilon, upstream, _float(residual) + _float(inputs), gamma)
    return [ops.cast(total, inputs.dtype), ops.cast(total, residual.dtype), *rest]


def _drop_add_norm_back(epsilon: float, rate: float, upstream, inputs, residual, gamma, beta, state):
    total, *rest = _norm_back(epsilon, upstream, _float(residual) + _drop(_float(inputs), state, rate), gamma)
    return [ops.cast(_drop(total, state, rate), inputs.dtype), ops.cast(total, residual.dtype), *rest]


def _norm_back(epsilon: float, upstream, total, gamma):
    """Gradients of what is normalised, of gamma and of beta."""
    upstream = _float(upstream)
    standard, scale = _standardise(total, epsilon)
    slope, axes = upstream * gamma, tuple(range(len(total.shape) - 1))
    found = (slope - _mean(slope) - standard * _mean(slope * standard)) * scale
    return found, ops.sum(upstream * standard, axes), ops.sum(upstream, axes)


def _standardise(x, epsilon: float):
    """(x with mean 0 and variance 1, what it was multiplied by)."""
    x = x - _mean(x)
    scale = ops.rsqrt(_mean(ops.square(x)) + epsilon)
    return x * scale, scale


def _mean(x):
    """Over the last axis, kept. By halves as far as that goes: XLA adds up a row one number after another, and vectors at once."""
    width = length = x.shape[-1]
    if keras.backend.backend() == "tensorflow":
        while length % (2 * LANES) == 0:
            length //= 2
            x = x[..., :length] + x[..., length:]
    return ops.sum(x, axis=-1, keepdims=True) * (1 / width)


FUNCTIONS = {"gelu": (_gelu, _gelu_back), "dropout": (_dropout, _dropout_back), "layer_norm": (_layer_norm, _layer_norm_back),
             "add_norm": (_add_norm, _add_norm_back), "drop_add_norm": (_drop_add_norm, _drop_add_norm_back)}
