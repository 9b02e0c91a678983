"""Layers of the alignment generator's captioner: the cells of a picture, and where a single word looks among them.

WordAttention and WordPredictor are ours, not the paper's. A captioner that only has to write the next word learns to look at whatever
gives the garment away, often at nothing. So each word by itself is trained to look too: at the cells that predict which other words
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


class WordAttention(keras.layers.Layer):
    """Energies of cells for words: the word's query times the cell's key, and where the word's cells usually lie.

    vocabulary_size: V, cells: N, size: of queries and keys.
    """

    def __init__(self, vocabulary_size: int, cells: int, size: int, seed: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.size = size
        self.keys = keras.layers.Dense(size, use_bias=False, name="keys",
                                       kernel_initializer=keras.initializers.GlorotUniform(seed_for(seed, "word_keys")))
        self.query = keras.layers.Embedding(vocabulary_size, size, keras.initializers.RandomNormal(
            stddev=0.1, seed=seed_for(seed, "word_query")), name="query")
        self.places = keras.layers.Embedding(vocabulary_size, cells, "zeros", name="places")

    def build(self, cells_shape: tuple) -> None:
        """All variables; cells [B, N, F]."""
        self.keys.build(cells_shape)
        for table in (self.query, self.places):
            table.build((None, None))

    def feed(self, pieces: Any) -> Any:
        """[..., A + N]: all that ``energy`` needs to know of pieces [...]."""
        return ops.concatenate([self.query(pieces), self.places(pieces)], -1)

    def energy(self, keys: Any, feed: Any) -> Any:
        """[B, K, N] from keys [B, N, A] and the feeds [B, K, A + N] of K words."""
        return ops.matmul(feed[..., : self.size], ops.swapaxes(keys, 1, 2)) * (2 / sqrt(self.size)) + feed[..., self.size :]


class WordPredictor(keras.layers.Layer):
    """From the cells that a word looks at: the other words of its sentence, and whether the text has the word.

    All logits are what the picture adds to known log-odds, and start at 0. num_context_words: how many words are asked for.
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
        """All variables; cells [B, N, F]."""
        self.values.build(cells_shape)
        self.context_words.build((None, None, self.size))
        for layer in (self.word, self.gate, self.presence_keys, self.often, self.drop_cells, self.drop_seen):
            layer.build((None, None, self.size))

    def look(self, cells: Any, alpha: Any, pieces: Any, training: bool = False) -> Any:
        """f32[B, Q, D]: what pieces [B, Q] see where they look, alpha [B, Q, N], among cells [B, N, F]."""
        values = self.drop_cells(self.values(cells), training=training)
        return self.drop_seen(ops.tanh(ops.matmul(alpha, values) + self.word(pieces)), training=training)

    def cooccurrence(self, seen: Any, pieces: Any) -> Any:
        """f32[B, Q, K]: logits of the other words of the sentence of each of ``pieces``."""
        return self.context_words(seen * ops.sigmoid(self.gate(pieces)))

    def presence(self, seen: Any, pieces: Any) -> Any:
        """f32[B, Q]: logits of the text holding ``pieces``."""
        return ops.sum(seen * self.presence_keys(pieces), -1) + self.often(pieces)[..., 0]
