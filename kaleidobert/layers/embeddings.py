"""How tokens and patches enter the sequence (paper, section 3.4; details as released)."""

from typing import Any

import keras
import numpy as np
from keras import ops

from kaleidobert.layers.core import Dropout, LayerNorm, flatten_tokens, seed_for, truncated_normal


class TextEmbedding(keras.layers.Layer):
    """Word + position + segment embedding, LayerNorm, dropout: token_ids, segment_ids int[B, T] -> [B, T, H].

    ``word_embeddings`` [V, H] is shared with the head that predicts masked tokens.
    """

    def __init__(self, vocabulary_size: int, max_positions: int, type_vocabulary_size: int, hidden_size: int,
                 dropout: float, initializer_range: float, seed: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.vocabulary_size = vocabulary_size
        self.max_positions = max_positions
        self.type_vocabulary_size = type_vocabulary_size
        self.hidden_size = hidden_size
        self.initializer_range = initializer_range
        self.seed = seed
        self.layer_norm = LayerNorm(dtype=self.dtype_policy, name="layer_norm")
        self.dropout = Dropout(dropout, seed_for(seed, "dropout"), dtype=self.dtype_policy, name="dropout")

    def build(self, token_ids_shape: tuple, segment_ids_shape: tuple) -> None:
        sizes = {"word_embeddings": self.vocabulary_size, "position_embeddings": self.max_positions,
                 "token_type_embeddings": self.type_vocabulary_size}
        for name, count in sizes.items():
            initializer = truncated_normal(self.initializer_range, self.seed, name)
            # few of its rows are read: they are cast in ``call``
            autocast = name != "word_embeddings"
            setattr(self, name, self.add_weight((count, self.hidden_size), initializer, autocast=autocast, name=name))
        embedded_shape = (*token_ids_shape, self.hidden_size)
        self.layer_norm.build(embedded_shape)
        self.dropout.build(embedded_shape)

    def call(self, token_ids, segment_ids, training=False):
        embedded = ops.cast(ops.take(self.word_embeddings, token_ids, axis=0), self.compute_dtype)  # [B, T, H]
        # a matrix product: the gradient of a gather would add all B * T rows into two, one after another
        segments = ops.one_hot(segment_ids, self.type_vocabulary_size, dtype=self.compute_dtype)
        embedded = embedded + ops.matmul(segments, self.token_type_embeddings)
        embedded = embedded + ops.expand_dims(self.position_embeddings[: ops.shape(token_ids)[1]], 0)
        return self.dropout(self.layer_norm(embedded), training=training)

    def embed_at(self, token_ids, position):
        """Embeds int[B, K], all at ``position`` (int), of segment 0 -> [B, K, H], without dropout."""
        embedded = ops.cast(ops.take(self.word_embeddings, token_ids, axis=0), self.compute_dtype) + self.token_type_embeddings[0]
        return self.layer_norm(embedded + ops.take(self.position_embeddings, position, axis=0))

    def compute_output_shape(self, token_ids_shape: tuple, segment_ids_shape: tuple) -> tuple:
        return (*token_ids_shape, self.hidden_size)


class FeatureStandardizer(keras.layers.Layer):
    """(features - mean) * scale, per feature, in float32: [..., F] -> [..., F]. Not trained; starts as the identity.

    Ours; neither in the paper nor in the release. After a ReLU, features have a mean of about their deviation, the same for every patch;
    a small network trained from random weights needs its first epochs to remove it.
    """

    def __init__(self, **kwargs):
        super().__init__(autocast=False, trainable=False, **kwargs)

    def build(self, features_shape: tuple) -> None:
        size = features_shape[-1:]
        self.mean = self.add_weight(size, "zeros", dtype="float32", trainable=False, name="mean")
        self.scale = self.add_weight(size, "ones", dtype="float32", trainable=False, name="scale")

    @property
    def adapted(self) -> bool:
        """Whether mean and scale have been set."""
        return bool(ops.any(self.mean != 0))

    def adapt(self, features: np.ndarray) -> None:
        """Sets mean and scale from a sample [..., F], so that every feature has mean 0 and a deviation of about 1."""
        sample = features.reshape(-1, features.shape[-1]).astype(np.float32)
        deviation = sample.std(0)
        self.mean.assign(sample.mean(0))
        self.scale.assign(1 / (deviation + max(0.05 * float(deviation.mean()), 1e-6)))  # without noise of nearly constant features

    def call(self, features):
        return (ops.cast(features, "float32") - self.mean) * self.scale

    def compute_output_shape(self, features_shape: tuple) -> tuple:
        return features_shape


class PatchEmbedding(keras.layers.Layer):
    """One level's patches: projector(dropout(features)) + type row + box, LayerNorm, dropout.

    Inputs: features [B, P, F], and boxes [B, P, H], multiplied already by the one matrix of all levels; output [B, n, H].
    patches: the level's slice of the patch axis. type_row: the one row of the level's type table that is read; as released, a row
    beyond the table is a zero vector. The sum is float32 whatever the precision: released boxes are raw pixels and areas, for which
    half precision is too coarse.
    """

    def __init__(self, patches: slice, type_row: int, type_vocabulary_size: int, hidden_size: int, dropout: float,
                 initializer_range: float, seed: int, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        self.patches = patches
        self.type_row = type_row
        self.type_vocabulary_size = type_vocabulary_size
        self.hidden_size = hidden_size
        self.initializer_range = initializer_range
        self.seed = seed
        policy = self.dtype_policy
        self.feature_dropout = Dropout(dropout, seed_for(seed, "feature_dropout"), dtype=policy, name="feature_dropout")
        self.projector = keras.layers.Dense(
            hidden_size, use_bias=False, kernel_initializer=truncated_normal(initializer_range, seed, "projector"),
            dtype=policy, name="projector")
        self.layer_norm = LayerNorm(dtype="float32", name="layer_norm")
        self.dropout = Dropout(dropout, seed_for(seed, "dropout"), dtype=policy, name="dropout")

    def build(self, features_shape: tuple, boxes_shape: tuple) -> None:
        count = self.patches.stop - self.patches.start
        initializer = truncated_normal(self.initializer_range, self.seed, "type_embeddings")
        self.type_embeddings = self.add_weight((self.type_vocabulary_size, self.hidden_size), initializer,
                                               name="type_embeddings")
        features, embedded = (features_shape[0], count, features_shape[-1]), (features_shape[0], count, self.hidden_size)
        self.feature_dropout.build(features)
        self.projector.build(features)
        self.layer_norm.build(embedded)
        self.dropout.build(embedded)

    def call(self, features, boxes, training=False):
        features = self.feature_dropout(flatten_tokens(features[:, self.patches]), training=training)  # [B * n, F]
        projected = ops.cast(self.projector(features), "float32")  # [B * n, H]
        # a product with a constant: a row beyond the table is zero, and every table has a gradient
        row = np.eye(1, self.type_vocabulary_size, self.type_row, dtype="float32")
        boxes = ops.cast(boxes[:, self.patches], "float32") + ops.matmul(row, self.type_embeddings)  # [B, n, H]
        embedded = self.dropout(self.layer_norm(projected, flatten_tokens(boxes)), training=training)
        return ops.reshape(embedded, ops.shape(boxes))

    def compute_output_shape(self, features_shape: tuple, boxes_shape: tuple) -> tuple:
        return (features_shape[0], self.patches.stop - self.patches.start, self.hidden_size)
