"""Heads on the encoder's output: masked tokens, the class of a level, the features of masked patches, matching.

The last product of the small heads is float32 whatever the precision: candidates are ranked by these logits, and half
precision would tie them.
"""

from typing import Any

import keras
from keras import ops

from kaleidobert.layers.core import LayerNorm, dense, flatten_tokens, gelu, seed_for, truncated_normal
from kaleidobert.layers.embeddings import TextEmbedding


def gather(sequence, positions):
    """Gathers rows of sequence [B, S, H] at int[B, N] -> [B, N, H].

    It is a product with one-hot rows: exact, and its gradient is a product too, so that it is deterministic on every device.
    """
    selection = ops.one_hot(positions, ops.shape(sequence)[1], dtype=sequence.dtype)
    return ops.matmul(selection, sequence)


class MaskedTokenHead(keras.layers.Layer):
    """Dense, GELU, LayerNorm at the masked positions, then the word embeddings transposed + bias: -> [B, M, V]."""

    def __init__(self, embedding: TextEmbedding, initializer_range: float, seed: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.embedding = embedding
        policy = self.dtype_policy
        self.dense = dense(embedding.hidden_size, initializer_range, seed, "dense", activation=gelu, dtype=policy)
        self.layer_norm = LayerNorm(dtype=policy, name="layer_norm")

    def build(self, sequence_shape: tuple, positions_shape: tuple) -> None:
        hidden = (*positions_shape, sequence_shape[-1])
        self.dense.build(hidden)
        self.layer_norm.build(hidden)
        self.bias = self.add_weight((self.embedding.vocabulary_size,), "zeros", name="bias")

    def call(self, sequence, positions):
        return self.logits(gather(sequence, positions))

    def logits(self, hidden):
        """[B, M, H] -> [B, M, V]."""
        shape = ops.shape(hidden)
        hidden = self.layer_norm(self.dense(flatten_tokens(hidden)))
        words = ops.cast(self.embedding.word_embeddings, self.compute_dtype)  # [V, H]
        logits = ops.add(ops.matmul(hidden, ops.transpose(words)), self.bias)  # [B * M, V]
        return ops.reshape(logits, (*shape[:-1], self.embedding.vocabulary_size))

    def compute_output_shape(self, sequence_shape: tuple, positions_shape: tuple) -> tuple:
        return (*positions_shape, self.embedding.vocabulary_size)


class LevelClassHead(keras.layers.Layer):
    """A "class" level: one matrix on its hidden states, flattened patch by patch: sequence [B, S, H] -> [B, C].

    positions: the level's slice of the sequence, counted from its end, as the patches come after texts of any length.
    """

    def __init__(self, positions: slice, num_classes: int, initializer_range: float, seed: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.positions = positions
        self.num_classes = num_classes
        self.dense = dense(num_classes, initializer_range, seed, "dense", dtype="float32")

    def build(self, sequence_shape: tuple) -> None:
        self.width = ((self.positions.stop or 0) - self.positions.start) * sequence_shape[-1]
        self.dense.build((sequence_shape[0], self.width))

    def call(self, sequence):
        return self.dense(ops.reshape(sequence[:, self.positions], (-1, self.width)))

    def compute_output_shape(self, sequence_shape: tuple) -> tuple:
        return (sequence_shape[0], self.num_classes)


class LevelFeatureHead(keras.layers.Layer):
    """A "feature" level: one matrix, no bias, on the hidden states of its masked patches -> [B, k, F].

    columns: the level's slice of masked_patches [B, K], which holds positions on the patch axis; that axis of ``num_patches`` is
    the end of the sequence.
    """

    def __init__(self, columns: slice, num_patches: int, feature_size: int, initializer_range: float, seed: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.columns = columns
        self.num_patches = num_patches
        self.feature_size = feature_size
        self.dense = dense(feature_size, initializer_range, seed, "dense", use_bias=False, dtype=self.dtype_policy)

    def build(self, sequence_shape: tuple, masked_patches_shape: tuple) -> None:
        self.dense.build((sequence_shape[0], None, sequence_shape[-1]))

    def call(self, sequence, masked_patches):
        start = ops.shape(sequence)[1] - self.num_patches
        return self.dense(gather(sequence, masked_patches[:, self.columns] + start))

    def compute_output_shape(self, sequence_shape: tuple, masked_patches_shape: tuple) -> tuple:
        return (sequence_shape[0], self.columns.stop - self.columns.start, self.feature_size)


class ProductHead(keras.layers.Layer):
    """A matching head that compares the two sides directly (ours; neither in the paper nor in the release) -> [B, 2].

    Mean hidden state of the real tokens times mean hidden state of the patches, beside the pooled output; dense, GELU, 2-way.
    """

    def __init__(self, initializer_range: float, seed: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.initializer_range = initializer_range
        self.seed = seed

    def build(self, sequence_shape: tuple, pooled_shape: tuple, token_mask_shape: tuple) -> None:
        hidden = pooled_shape[-1]
        self.dense = dense(hidden, self.initializer_range, self.seed, "dense", activation=gelu, dtype=self.dtype_policy)
        self.output_dense = keras.layers.Dense(
            2, kernel_initializer=truncated_normal(self.initializer_range, seed_for(self.seed, "output"), "kernel"),
            dtype="float32", name="output_dense")
        self.dense.build((pooled_shape[0], 2 * hidden))
        self.output_dense.build(pooled_shape)

    def call(self, sequence, pooled, token_mask):
        length = ops.shape(token_mask)[1]
        real = ops.expand_dims(ops.cast(token_mask, sequence.dtype), -1)  # [B, T, 1]
        text = ops.sum(sequence[:, :length] * real, axis=1) / ops.maximum(ops.sum(real, axis=1), 1)
        patches = ops.mean(sequence[:, length:], axis=1)
        return self.output_dense(self.dense(ops.concatenate([text * patches, pooled], axis=-1)))

    def compute_output_shape(self, sequence_shape: tuple, pooled_shape: tuple, token_mask_shape: tuple) -> tuple:
        return (pooled_shape[0], 2)
