"""A small convolutional encoder that is trained along with the captioner: cells that see their own surroundings only."""

from typing import Any

import keras
from keras import ops

from kaleidobert.errors import UserError
from kaleidobert.layers.dropout import seed_for

WIDTHS = (32, 64)  # of the layers before the last two


class GridEncoder(keras.layers.Layer):
    """uint8[B, s, s, 3] -> f32[B, grid * grid, F], s = 8 * grid: three convolutions of stride 2 and one more, normalised over the
    batch.

    A cell sees 31 x 31 pixels, less than two cells each way, so that what it says is about the place where it lies: attention that
    learns from texts alone may look wherever a thing is told, and with a wider view that can be beside the thing.
    Raises UserError where s is not 8 * grid.
    """

    def __init__(self, feature_size: int, grid: int, seed: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.feature_size, self.grid = feature_size, grid
        sizes = [(width, 2) for width in (*WIDTHS, feature_size)] + [(feature_size, 1)]
        self.convolutions = [
            keras.layers.Conv2D(width, 3, stride, "same", use_bias=False, name=f"convolution_{number}",
                                kernel_initializer=keras.initializers.HeNormal(seed_for(seed, f"convolution_{number}")))
            for number, (width, stride) in enumerate(sizes)]
        self.norms = [keras.layers.BatchNormalization(momentum=0.9, name=f"norm_{number}") for number in range(len(sizes))]

    def build(self, pictures_shape: tuple) -> None:
        """Variables of all convolutions."""
        if pictures_shape[1] != 8 * self.grid:
            raise UserError(f"pictures have {pictures_shape[1]} pixels", "the grid encoder", f"{8 * self.grid}, 8 per cell")
        channels = 3
        for convolution, norm in zip(self.convolutions, self.norms):
            convolution.build((None, None, None, channels))
            channels = convolution.filters
            norm.build((None, None, None, channels))

    def call(self, pictures, training=False):
        cells = ops.cast(pictures, "float32") / 127.5 - 1.0
        for convolution, norm in zip(self.convolutions, self.norms):
            cells = ops.relu(norm(convolution(cells), training=training))
        return ops.reshape(cells, (-1, self.grid**2, self.feature_size))
