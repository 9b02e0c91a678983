"""The short way from frozen features and words to a head, beside the encoder (ours; neither in the paper nor in the release).

On a few thousand products a linear model on the picture features and a bag of words beats a small transformer, whose hidden states are
far narrower than the features. These layers give a head what the linear models have.
"""

from collections.abc import Sequence

import keras
from keras import ops

from kaleidobert.layers.dropout import Dropout, seed_for, truncated_normal
from kaleidobert.layers.embeddings import FeatureScale


class LevelMeans(keras.layers.Layer):
    """features [B, P, F] -> [B, W]: the mean feature of each level, side by side, brought to one scale, dropout, linear, in float32.

    Without a bias: in a tower it would prefer the same texts for all pictures.
    levels: slices of the patch axis. stddev: of the start weights; None = 1 / sqrt(number of inputs).
    """

    def __init__(self, levels: Sequence[slice], width: int, dropout: float, seed: int, stddev: float | None = None, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.levels, self.width, self.stddev, self.seed = list(levels), width, stddev, seed
        self.scale = FeatureScale(name="scale")  # a mean of 25 patches varies far less than one patch
        self.dropout = Dropout(dropout, seed_for(seed, "dropout"), dtype="float32", name="dropout")

    def build(self, features_shape: tuple) -> None:
        size = len(self.levels) * features_shape[-1]
        initializer = truncated_normal(size**-0.5 if self.stddev is None else self.stddev, self.seed, "kernel")
        self.dense = keras.layers.Dense(self.width, use_bias=False, kernel_initializer=initializer, dtype="float32", name="dense")
        self.dense.build((features_shape[0], size))
        self.dropout.build((features_shape[0], size))
        self.scale.build((features_shape[0], size))

    @property
    def measured(self) -> bool:
        """Whether the scale has been set."""
        return self.scale.measured

    def adapt(self, features) -> None:
        """Set the scale from a sample [N, P, F]."""
        self.scale.adapt(ops.convert_to_numpy(self.means(features)))

    def means(self, features):
        """[B, P, F] -> [B, levels * F]."""
        parts = [ops.mean(ops.cast(features[:, part.start : part.stop], "float32"), axis=1) for part in self.levels]
        return ops.concatenate(parts, axis=-1)

    def call(self, features, training=False):
        return self.dense(self.dropout(self.scale(self.means(features)), training=training))

    def compute_output_shape(self, features_shape: tuple) -> tuple:
        return (features_shape[0], self.width)


class WordBag(keras.layers.Layer):
    """token_ids, token_mask [B, T] -> [B, W]: a vector for every word piece, summed over the text with learnt weights, in float32.

    The first and the last piece, [CLS] and [SEP], are the same in all texts and left out. Divided by the square root of the text's
    length, so that long and short texts give sums of one size.
    """

    def __init__(self, vocabulary_size: int, width: int, seed: int, stddev: float | None = None, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.vocabulary_size, self.width, self.seed = vocabulary_size, width, seed
        self.stddev = width**-0.5 if stddev is None else stddev

    def build(self, token_ids_shape: tuple, token_mask_shape: tuple) -> None:
        initializer = truncated_normal(self.stddev, self.seed, "vectors")
        self.vectors = self.add_weight((self.vocabulary_size, self.width), initializer, name="vectors")
        self.log_weights = self.add_weight((self.vocabulary_size,), "zeros", name="log_weights")

    def call(self, token_ids, token_mask):
        real = ops.cast(token_mask, "float32")
        real = ops.pad(real[:, 1:-1] * real[:, 2:], [[0, 0], [1, 1]])  # pieces with one before and one behind
        weights = ops.exp(ops.take(self.log_weights, token_ids, axis=0)) * real  # [B, T]
        total = ops.matmul(ops.expand_dims(weights, 1), ops.take(self.vectors, token_ids, axis=0))[:, 0]
        return total / ops.sqrt(ops.maximum(ops.sum(real, axis=1, keepdims=True), 1.0))

    def compute_output_shape(self, token_ids_shape: tuple, token_mask_shape: tuple) -> tuple:
        return (token_ids_shape[0], self.width)
