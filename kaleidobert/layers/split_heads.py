"""The heads of attention: rows as wide as query, key and value together, cut into what the scores are computed from."""

from collections.abc import Callable, Sequence
from functools import cache, partial

from keras import ops

from kaleidobert.layers.elementwise import is_fused
from kaleidobert.specs import Tensor


def split_heads(inputs: Tensor, bias: Tensor, shape: Sequence[int], count: int) -> Tensor:
    """[B * S, 3H] + bias [3H] -> query, key and value, each [B, A, S, H / A]; shape: (B, S, H), of which A = ``count`` divides H."""
    split = partial(_split, shape, count)
    if not is_fused(shape[-1]):
        return split(inputs, bias)
    from kaleidobert.layers import fusion_tensorflow

    return fusion_tensorflow.compiled_back(split, _joined(3 * shape[-1]))(inputs, bias)


def _split(shape: Sequence[int], count: int, inputs: Tensor, bias: Tensor) -> Tensor:
    batch, length, hidden = shape
    parts = ops.reshape(ops.add(inputs, ops.cast(bias, inputs.dtype)), (batch, length, 3, count, hidden // count))
    return ops.unstack(ops.transpose(parts, (2, 0, 3, 1, 4)), 3)


@cache
def _joined(width: int) -> Callable:
    """Made once for all layers, so that it is compiled once for each shape; one for each width, which its graph must know."""
    return partial(_join, width)


def _join(width: int, *upstream: Tensor) -> Tensor:
    """The gradients: [B, A, S, D] of query, key and value -> [B * S, 3H], [3H]. TensorFlow stacks, transposes and sums up, each for
    itself."""
    joined = ops.concatenate([ops.transpose(part, (0, 2, 1, 3)) for part in upstream], 2)
    columns = ops.concatenate([ops.sum(ops.cast(part, "float32"), (0, 2)) for part in upstream], 0)
    return [ops.reshape(joined, (-1, width)), ops.reshape(columns, (width,))]
