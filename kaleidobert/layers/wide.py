"""The short way from frozen features and words to a head, beside the encoder (ours; neither in the paper nor in the release).

On a few thousand products a linear model on the picture features and a bag of words beats a small transformer, whose hidden states are
far narrower than the features. These layers give a head what the linear models have.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kaleidobert.layers.dropout import Dropout, seed_for, truncated_normal
from kaleidobert.layers.embeddings import FeatureStandardizer
from kaleidobert.specs import Tensor


class LevelMeans(keras.layers.Layer):
    """features [B, P, F], seen [B, P] -> [B, W]: each level's mean feature, side by side, dropout, linear, in float32.

    Without a bias: in a tower it would prefer the same texts for all pictures.
    levels: slices of the patch axis. stddev: of the start weights; None = 1 / sqrt(number of inputs). rescale: bring the means to one
    scale, which ``adapt`` measures. Patches with seen = 0 do not count, nor does a level without others; seen None = all count.
    """

    def __init__(self, levels: Sequence[slice], width: int, dropout: float, seed: int, stddev: float | None = None,
                 rescale: bool = True, **kwargs: Any):
        super().__init__(dtype="float32", **kwargs)
        self.levels, self.width, self.stddev, self.seed = list(levels), width, stddev, seed
        self.scale = FeatureStandardizer(name="scale") if rescale else None  # a mean of 25 patches varies far less than one patch
        self.dropout = Dropout(dropout, seed_for(seed, "dropout"), dtype="float32", name="dropout")

    def build(self, features_shape: tuple, seen_shape: tuple | None = None) -> None:
        size = len(self.levels) * features_shape[-1]
        initializer = truncated_normal(size**-0.5 if self.stddev is None else self.stddev, self.seed, "kernel")
        self.dense = keras.layers.Dense(self.width, use_bias=False, kernel_initializer=initializer, dtype="float32", name="dense")
        self.dense.build((features_shape[0], size))
        self.dropout.build((features_shape[0], size))
        if self.scale is not None:
            self.scale.build((features_shape[0], size))

    @property
    def measured(self) -> bool:
        """Whether the scale has been set, where there is one."""
        return self.scale is None or self.scale.measured

    def adapt(self, features: Tensor) -> None:
        """Set the scale from a sample [N, P, F]."""
        assert self.scale is not None  # adapt is for what is rescaled
        self.scale.adapt(ops.convert_to_numpy(self.means(features)))

    def means(self, features, seen=None):
        """[B, P, F], [B, P] -> [B, levels * F]."""
        parts = []
        for level in self.levels:
            part = ops.cast(features[:, level.start : level.stop], "float32")
            if seen is None:
                parts.append(ops.mean(part, axis=1))
            else:
                weights = ops.expand_dims(ops.cast(seen[:, level.start : level.stop], "float32"), 1)  # [B, 1, n]
                parts.append(ops.matmul(weights / ops.maximum(ops.sum(weights, -1, keepdims=True), 1.0), part)[:, 0])
        return ops.concatenate(parts, axis=-1)

    def call(self, features, seen=None, training=False):
        means = self.means(features, seen)
        return self.dense(self.dropout(means if self.scale is None else self.scale(means), training=training))

    def compute_output_shape(self, features_shape: tuple, seen_shape: tuple | None = None) -> tuple:
        return (features_shape[0], self.width)


class WordBag(keras.layers.Layer):
    """token_ids, token_mask [B, T] -> [B, W]: a vector for every word piece, summed over the text with learnt weights, in float32.

    The first and the last piece, [CLS] and [SEP], are the same in all texts and left out. Divided by the square root of the text's
    length, so that long and short texts give sums of one size.
    """

    def __init__(self, vocabulary_size: int, width: int, seed: int, stddev: float | None = None, **kwargs: Any):
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
