"""What the layers are made of: seeded start weights, Dense, GELU, Dropout and LayerNorm.

Their numbers are those of plain Keras up to rounding; on CPUs they are computed in fewer passes over memory (cpu_fusion).
"""

from typing import Any
from zlib import crc32

import keras
from keras import ops

from kaleidobert.layers import cpu_fusion
from kaleidobert.specs import Tensor

NORM_EPSILON = 1e-12  # as released, in every LayerNorm


def seed_for(seed: int, name: str) -> int:
    """Derives a seed in [0, 2**31) from both arguments only, so that adding a layer changes no other layer's weights."""
    return crc32(f"{seed}/{name}".encode()) & 0x7FFFFFFF


def truncated_normal(stddev: float, seed: int, name: str) -> keras.initializers.Initializer:
    """Makes the released initializer: normal, redrawn beyond two standard deviations."""
    return keras.initializers.TruncatedNormal(stddev=stddev, seed=seed_for(seed, name))


def dense(units: int, initializer_range: float, seed: int, name: str, **kwargs: Any) -> keras.layers.Dense:
    """Makes a Dense layer with the released start weights, seeded by the owner's seed and the name."""
    return keras.layers.Dense(units, kernel_initializer=truncated_normal(initializer_range, seed, name), name=name, **kwargs)


def flatten_tokens(inputs):
    """Reshapes [..., H] -> [N, H].

    TensorFlow computes a bias, a sum or GELU along with the matrix product before it only where no reshape stands between.
    """
    return ops.reshape(inputs, (-1, inputs.shape[-1]))


def gelu(inputs: Tensor, bias: Tensor | None = None, training: bool = True) -> Tensor:
    """Computes GELU of inputs + bias by its tanh approximation, as released. training: whether a gradient may be needed."""
    return cpu_fusion.gelu(inputs, bias, training)


class Dropout(keras.layers.Layer):
    """Zeroes a fraction ``rate`` of the inputs in training and scales the rest by 1 / (1 - rate); rate 0 is the identity.

    The generator's state is a variable with a stable path, so that a checkpoint holds it and a resumed run draws the
    masks that the interrupted one would have drawn.
    """

    def __init__(self, rate: float, seed: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.rate = rate
        self.seed = seed
        self.generator: keras.random.SeedGenerator | None = None

    def build(self, inputs_shape: tuple) -> None:
        if self.rate:  # here and not in the constructor: only inside build does the path begin with the layer's own
            self.generator = keras.random.SeedGenerator(seed_for(self.seed, "dropout"), name="dropout_seed")

    def call(self, inputs, training=False):
        return self.drop(inputs, self.draw(training))

    def draw(self, training: bool) -> Tensor | None:
        """Returns the state of the generator and advances it by one step; None where nothing is to be dropped."""
        if not training or not self.rate:
            return None
        assert self.generator is not None  # ``build`` makes it wherever there is a rate
        return self.generator.next()

    def drop(self, inputs: Tensor, state: Tensor | None, width: int | None = None) -> Tensor:
        """Drops what a state of ``draw`` selects. width: of the network, where the inputs' last axis has no fixed length."""
        return inputs if state is None else cpu_fusion.dropout(inputs, state, self.rate, width)


class LayerNorm(keras.layers.Layer):
    """LayerNorm over the last axis, in float32 whatever the dtype: [..., H] -> [..., H].

    With ``residual``, also dropout and the residual connection before it: the norm of residual + dropout(inputs + bias).
    state, rate: of a Dropout layer; without a state nothing is dropped.
    """

    def build(self, inputs_shape: tuple) -> None:
        size = inputs_shape[-1:]
        self.gamma = self.add_weight(size, "ones", autocast=False, name="gamma")
        self.beta = self.add_weight(size, "zeros", autocast=False, name="beta")

    def call(self, inputs: Tensor, residual: Tensor | None = None, bias: Tensor | None = None, state: Tensor | None = None,
             rate: float = 0.0) -> Tensor:
        weights = ops.convert_to_tensor(self.gamma), ops.convert_to_tensor(self.beta)
        if residual is None:
            return cpu_fusion.layer_norm(inputs, *weights, NORM_EPSILON)
        bias = ops.zeros_like(weights[1]) if bias is None else bias
        return cpu_fusion.add_norm(inputs, residual, (bias, *weights), NORM_EPSILON, state, rate)
