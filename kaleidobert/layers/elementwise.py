"""What the encoder does to every number by itself or to every row: GELU, dropout, LayerNorm, softmax. Pure functions.

Each is defined once in keras.ops, float32 inside whatever its type. On TensorFlow's CPUs it runs as one pass (fusion_tensorflow) with
the derivative written beside it; elsewhere the backend derives and fuses it.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial

import keras
import numpy as np
from keras import ops

from kaleidobert.specs import Tensor

LEAST_WIDTH = 64  # of rows: for narrower networks compiling takes longer than it saves
GELU_SLOPE, GELU_CUBE = 2 * (2 / np.pi) ** 0.5, 0.044715  # tanh(x) = 2 sigmoid(2x) - 1 makes one function of both factors
WORD = 2**32


def gelu(inputs: Tensor, bias: Tensor | None = None, training: bool = True) -> Tensor:
    """GELU of inputs + bias by its tanh approximation, as released. training: whether there is a way back."""
    if bias is None:
        return _run("gelu", inputs)(inputs)
    if not training and is_fused(inputs.shape[-1]):  # oneDNN does it along with the product, where nothing between is asked for
        return ops.gelu(ops.add(inputs, ops.cast(bias, inputs.dtype)), approximate=True)
    return _run("bias_gelu", inputs)(inputs, bias)


def dropout(inputs: Tensor, state: Tensor, rate: float) -> Tensor:
    """Zeroes a share ``rate`` of the inputs and scales the others by 1 / (1 - rate). state: two numbers of a SeedGenerator.

    The same state and shape give the same mask, on every backend: element i is dropped where a hash of i and the state says so.
    Nothing is drawn or stored, and the way back finds the same mask again.
    """
    return _run("dropout", inputs, rate)(inputs, state)


def layer_norm(inputs: Tensor, gamma: Tensor, beta: Tensor, epsilon: float) -> Tensor:
    """(inputs - mean) / sqrt(variance + epsilon) * gamma + beta over the last axis; gamma and beta are float32."""
    return _run("layer_norm", inputs, epsilon)(inputs, gamma, beta)


def add_norm(inputs: Tensor, residual: Tensor, weights: Sequence[Tensor], epsilon: float, state: Tensor | None = None,
             rate: float = 0.0) -> Tensor:
    """layer_norm(residual + dropout(inputs + bias)); weights: bias, gamma, beta; without a state nothing is dropped."""
    if state is None:
        return _run("add_norm", inputs, epsilon)(inputs, residual, *weights)
    return _run("drop_add_norm", inputs, epsilon, rate)(inputs, residual, *weights, state)


def attention(scores: Tensor, score_bias: Tensor, dtype: str, width: int, state: Tensor | None = None, rate: float = 0.0) -> Tensor:
    """dropout(softmax(scores + score_bias)) over the last axis, float32 inside, as ``dtype``. score_bias has no gradient. width: of
    the network, as rows of scores have no fixed length."""
    if state is None:
        return _soften(scores, score_bias, dtype)
    if is_fused(width):
        return _fused_attention(rate, dtype)(scores, score_bias, state)
    return _dropout(rate, _soften(scores, score_bias, dtype), state)


# --- which of the two ways ----------------------------------------------------------------------------------------------


def _run(name: str, inputs: Tensor, *constants: float) -> Callable:
    rank, width = len(inputs.shape), inputs.shape[-1]
    return _fused(name, rank, width, *constants) if is_fused(width) else partial(FUNCTIONS[name][0], *constants)


def is_fused(width: int) -> bool:
    """Whether arrays whose last axis, or the network's, is so long go through fusion_tensorflow."""
    return keras.backend.backend() == "tensorflow" and width >= LEAST_WIDTH and _worthwhile()


@cache
def _worthwhile() -> bool:
    from kaleidobert.layers import fusion_tensorflow

    return fusion_tensorflow.worthwhile()


@cache
def _fused(name: str, rank: int, width: int, *constants: float) -> Callable:
    """Made once for all layers, so that it is compiled once for each shape; one for each rank and width, which its graph must know."""
    from kaleidobert.layers import fusion_tensorflow

    return fusion_tensorflow.fused(*(partial(function, *constants) for function in FUNCTIONS[name]))


@cache
def _fused_attention(rate: float, dtype: str) -> Callable:
    from kaleidobert.layers import fusion_tensorflow

    return fusion_tensorflow.kept(partial(_soften, dtype=dtype), partial(_dropout, rate), partial(_attention_back, rate))


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


def _bias_gelu(inputs, bias):
    return ops.cast(_gelu(_float(inputs) + _float(bias)), inputs.dtype)


def _bias_gelu_back(upstream, inputs, bias):
    found = _gelu_back(upstream, _float(inputs) + _float(bias))[0]
    return [ops.cast(found, inputs.dtype), ops.cast(_columns(found), bias.dtype)]


# --- dropout ------------------------------------------------------------------------------------------------------------


def _dropout(rate: float, inputs: Tensor, state: Tensor) -> Tensor:
    return ops.cast(_drop(_float(inputs), state, rate), inputs.dtype)


def _dropout_back(rate: float, upstream: Tensor, inputs: Tensor, state: Tensor) -> list[Tensor]:
    return [_dropout(rate, upstream, state)]


def _drop(x: Tensor, state: Tensor, rate: float) -> Tensor:
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


def _round(x: Tensor, shift: int, factor: int) -> Tensor:
    return (x ^ ops.right_shift(x, np.uint32(shift))) * np.uint32(factor)


# --- LayerNorm ----------------------------------------------------------------------------------------------------------


def _layer_norm(epsilon: float, inputs: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return ops.cast(_standardise(_float(inputs), epsilon)[0] * gamma + beta, inputs.dtype)


def _add_norm(epsilon: float, inputs: Tensor, residual: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    total = _float(residual) + (_float(inputs) + _float(bias))
    return ops.cast(_standardise(total, epsilon)[0] * gamma + beta, inputs.dtype)


def _drop_add_norm(epsilon: float, rate: float, inputs: Tensor, residual: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor,
                   state: Tensor) -> Tensor:
    total = _float(residual) + _drop(_float(inputs) + _float(bias), state, rate)
    return ops.cast(_standardise(total, epsilon)[0] * gamma + beta, inputs.dtype)


def _layer_norm_back(epsilon: float, upstream: Tensor, inputs: Tensor, gamma: Tensor, beta: Tensor) -> list[Tensor]:
    total, *rest = _norm_back(epsilon, upstream, _float(inputs), gamma)
    return [ops.cast(total, inputs.dtype), *rest]


def _add_norm_back(epsilon: float, upstream: Tensor, inputs: Tensor, residual: Tensor, bias: Tensor, gamma: Tensor,
                   beta: Tensor) -> list[Tensor]:
    total, *rest = _norm_back(epsilon, upstream, _float(residual) + (_float(inputs) + _float(bias)), gamma)
    return [ops.cast(total, inputs.dtype), ops.cast(total, residual.dtype), ops.cast(_columns(total), bias.dtype), *rest]


def _drop_add_norm_back(epsilon: float, rate: float, upstream: Tensor, inputs: Tensor, residual: Tensor, bias: Tensor, gamma: Tensor,
                        beta: Tensor, state: Tensor) -> list[Tensor]:
    total, *rest = _norm_back(epsilon, upstream, _float(residual) + _drop(_float(inputs) + _float(bias), state, rate), gamma)
    kept = _drop(total, state, rate)
    return [ops.cast(kept, inputs.dtype), ops.cast(total, residual.dtype), ops.cast(_columns(kept), bias.dtype), *rest]


def _norm_back(epsilon: float, upstream: Tensor, total: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of what is normalised, of gamma and of beta."""
    upstream, share = _float(upstream), ops.expand_dims(gamma * (1 / total.shape[-1]), 1)
    standard, scale = _standardise(total, epsilon)
    both = upstream * standard
    # means over the row of upstream * gamma and of both * gamma
    found = (upstream * gamma - ops.matmul(upstream, share) - standard * ops.matmul(both, share)) * scale
    return found, _columns(both), _columns(upstream)


def _columns(x):
    """Sums over all axes but the last."""
    return ops.sum(x, tuple(range(len(x.shape) - 1)))


def _standardise(x: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """(x with mean 0 and variance 1, what it was multiplied by)."""
    x = x - _mean(x)
    scale = ops.rsqrt(_mean(ops.square(x)) + epsilon)
    return x * scale, scale


def _mean(x):
    """Over the last axis, kept. XLA on CPUs adds up a row one number after another, unless it is a product."""
    width = x.shape[-1]
    if is_fused(width):
        return ops.matmul(x, np.full((width, 1), 1 / width, np.float32))
    return ops.sum(x, axis=-1, keepdims=True) * (1 / width)


# --- softmax ------------------------------------------------------------------------------------------------------------


def _soften(scores: Tensor, score_bias: Tensor, dtype: str) -> Tensor:
    return ops.cast(ops.softmax(_float(scores) + _float(score_bias), axis=-1), dtype)


def _attention_back(rate: float, upstream: Tensor, probabilities: Tensor, state: Tensor) -> Tensor:
    """The gradient of the scores from the probabilities before dropout."""
    p, upstream = _float(probabilities), _drop(_float(upstream), state, rate)
    ones = ops.ones((ops.shape(p)[-1], 1), "float32")  # a product, as in _mean
    return ops.cast(p * (upstream - ops.matmul(p * upstream, ones)), probabilities.dtype)


FUNCTIONS: dict[str, tuple[Callable, Callable]] = {  # each with the gradients of its arrays of floats
    "gelu": (_gelu, _gelu_back), "bias_gelu": (_bias_gelu, _bias_gelu_back), "dropout": (_dropout, _dropout_back),
    "layer_norm": (_layer_norm, _layer_norm_back), "add_norm": (_add_norm, _add_norm_back),
    "drop_add_norm": (_drop_add_norm, _drop_add_norm_back)}
