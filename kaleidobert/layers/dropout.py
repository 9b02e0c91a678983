"""The randomness of the network: start weights and dropout, each from a seed derived from the model's seed and its own name."""

from typing import Any
from zlib import crc32

import keras

from kaleidobert.layers import elementwise
from kaleidobert.specs import Tensor


def seed_for(seed: int, name: str) -> int:
    """A seed in [0, 2**31) that depends on both arguments only, so that adding a layer changes no other layer's weights."""
    return crc32(f"{seed}/{name}".encode()) & 0x7FFFFFFF


def truncated_normal(stddev: float, seed: int, name: str) -> keras.initializers.Initializer:
    """Start weights as released: normal, redrawn beyond two standard deviations."""
    return keras.initializers.TruncatedNormal(stddev=stddev, seed=seed_for(seed, name))


class Dropout(keras.layers.Layer):
    """Zeroes a share ``rate`` of the inputs in training and scales the rest by 1 / (1 - rate); without rate a plain pass.

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
        """The state of the generator, which goes one step on; None where nothing is to be dropped."""
        if not training or not self.rate:
            return None
        assert self.generator is not None  # ``build`` makes it wherever there is a rate
        return self.generator.next()

    def drop(self, inputs, state):
        """The inputs, with what a state that was drawn says dropped."""
        return inputs if state is None else elementwise.dropout(inputs, state, self.rate)
