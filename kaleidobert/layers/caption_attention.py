"""Layers of the alignment generator's captioner: the cells of a picture, and where a single word looks among them.

WordAttention and WordPredictor are ours, not the paper's. A captioner that only has to write the next word learns to look at whatever
identifies the garment, often at nothing. So each single word is trained to attend too: to the cells that predict which other words
stand in its sentence ("ribbed" beside "collar"), and whether the text has the word at all, beyond its prior in the product's subcategory.
No box is used.
"""

from math import sqrt
from typing import Any

import keras
from keras import ops

from kaleidobert.errors import UserError
from kaleidobert.layers.core import Dropout, seed_for

WIDTHS = (32, 64)  # of the layers before the last two


class GridEncoder(keras.layers.Layer):
    """A small convolutional encoder that is trained along: uint8[B, s, s, 3] -> f32[B, grid * grid, F], s = 8 * grid.

    Three convolutions of stride 2 and one more, with batch normalisation. The receptive field of a cell is 31 x 31 pixels, less than two
    cells each way, so that its features are about its own location: attention that learns from texts alone goes wherever the
    information is, and with a wider view that can be beside the thing.
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
        """Makes the variables of all convolutions."""
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


class WordAttention(keras.layers.Layer):
    """Attention energies of cells for words: the word's query times the cell's key, plus the word's bias for the cell's location.

    vocabulary_size: V, cells: N, size: of queries and keys.
    """

    def __init__(self, vocabulary_size: int, cells: int, size: int, seed: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.size = size
        self.keys = keras.layers.Dense(size, use_bias=False, name="keys",
                                       kernel_initializer=keras.initializers.GlorotUniform(seed_for(seed, "word_keys")))
        self.query = keras.layers.Embedding(vocabulary_size, size, keras.initializers.RandomNormal(
            stddev=0.1, seed=seed_for(seed, "word_query")), name="query")
        self.location_bias = keras.layers.Embedding(vocabulary_size, cells, "zeros", name="places")

    def build(self, cells_shape: tuple) -> None:
        """Makes all variables; cells [B, N, F]."""
        self.keys.build(cells_shape)
        for table in (self.query, self.location_bias):
            table.build((None, None))

    def queries(self, pieces: Any) -> Any:
        """Looks up [..., A + N] for pieces [...]: the query and the location biases, as ``energy`` takes them."""
        return ops.concatenate([self.query(pieces), self.location_bias(pieces)], -1)

    def energy(self, keys: Any, queries: Any) -> Any:
        """Computes [B, K, N] from keys [B, N, A] and the queries [B, K, A + N] of K words."""
        return ops.matmul(queries[..., : self.size], ops.swapaxes(keys, 1, 2)) * (2 / sqrt(self.size)) + queries[..., self.size :]


class WordPredictor(keras.layers.Layer):
    """Predicts, from the cells that a word attends to, the other words of its sentence, and whether the text has the word.

    All logits are added to known log-odds, and start at 0. num_context_words: how many words are predicted.
    """

    def __init__(self, vocabulary_size: int, num_context_words: int, size: int, dropout: float, seed: int, **kwargs: Any):
        super().__init__(**kwargs)

        def table(name, columns, spread=0.0):
            start = keras.initializers.RandomNormal(stddev=spread, seed=seed_for(seed, name)) if spread else "zeros"
            return keras.layers.Embedding(vocabulary_size, columns, start, name=name)

        self.size = size
        self.values = keras.layers.Dense(size, "relu", name="values",
                                         kernel_initializer=keras.initializers.GlorotUniform(seed_for(seed, "context_values")))
        self.word, self.gate, self.presence_keys, self.often = (
            table("word", size, 0.3),
            table("gate", size),
            table("presence_keys", size),
            table("often", 1),
        )
        self.context_words = keras.layers.Dense(num_context_words, use_bias=False, kernel_initializer="zeros", name="context_words")
        self.drop_cells = Dropout(dropout, seed_for(seed, "drop_cells"), name="drop_cells")
        self.drop_seen = Dropout(dropout, seed_for(seed, "drop_seen"), name="drop_seen")

    def build(self, cells_shape: tuple) -> None:
        """Makes all variables; cells [B, N, F]."""
        self.values.build(cells_shape)
        self.context_words.build((None, None, self.size))
        for layer in (self.word, self.gate, self.presence_keys, self.often, self.drop_cells, self.drop_seen):
            layer.build((None, None, self.size))

    def attend(self, cells: Any, alpha: Any, pieces: Any, training: bool = False) -> Any:
        """Computes f32[B, Q, D]: the attended values of pieces [B, Q] by their attention alpha [B, Q, N] over cells [B, N, F]."""
        values = self.drop_cells(self.values(cells), training=training)
        return self.drop_seen(ops.tanh(ops.matmul(alpha, values) + self.word(pieces)), training=training)

    def cooccurrence(self, attended: Any, pieces: Any) -> Any:
        """Computes f32[B, Q, K]: logits of the other words of the sentence of each of ``pieces``."""
        return self.context_words(attended * ops.sigmoid(self.gate(pieces)))

    def presence(self, attended: Any, pieces: Any) -> Any:
        """Computes f32[B, Q]: logits of the text having ``pieces``."""
        return ops.sum(attended * self.presence_keys(pieces), -1) + self.often(pieces)[..., 0]
