"""The post-LayerNorm BERT encoder over [text | patches]. S = T + P, A heads, D = H / A."""

import keras
import numpy as np
from keras import ops

from kaleidobert.layers.dropout import Dropout, seed_for, truncated_normal
from kaleidobert.layers.embeddings import NORM_EPSILON

MASKED_SCORE = -10000.0  # as released: added to the attention scores of padding


def gelu(inputs):
    """GELU by its tanh approximation, as released."""
    return ops.gelu(inputs, approximate=True)


def dense(units: int, initializer_range: float, seed: int, name: str, **kwargs) -> keras.layers.Dense:
    """A Dense layer with the released start weights, seeded by the owner's seed and the name."""
    return keras.layers.Dense(units, kernel_initializer=truncated_normal(initializer_range, seed, name), name=name, **kwargs)


class AttentionMask(keras.layers.Layer):
    """token_mask int[B, T] -> [B, 1, 1, S], added to attention scores: only text padding is hidden; patches never are.

    causal: [B, 1, S, S], and a text position sees the patches and the text up to itself, a patch sees patches only: what is written
    depends on what was written before, and patches can be read once and for all.
    """

    def __init__(self, num_patches: int, causal: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.num_patches = num_patches
        self.causal = causal

    def call(self, token_mask):
        padding = 1.0 - ops.cast(token_mask, self.compute_dtype)
        hidden = ops.expand_dims(ops.pad(padding, [[0, 0], [0, self.num_patches]]), (1, 2))  # [B, 1, 1, S]
        if self.causal:
            length = token_mask.shape[1]
            later = np.triu(np.ones((length + self.num_patches,) * 2, np.float32), 1)
            later[:length, length:], later[length:, :length], later[length:, length:] = 0, 1, 0
            hidden = ops.maximum(hidden, ops.cast(later, self.compute_dtype))
        return hidden * MASKED_SCORE

    def compute_output_shape(self, token_mask_shape: tuple) -> tuple:
        length = token_mask_shape[1] + self.num_patches
        return (token_mask_shape[0], 1, length if self.causal else 1, length)


class SelfAttention(keras.layers.Layer):
    """Multi-head self-attention: inputs [B, S, H], score_bias [B, 1, 1 or S, S] -> [B, S, H], before the output projection.

    Query, key and value have variables of their own, one to one with the release, and are joined at call time: one wide
    matrix product is faster than three. The softmax is float32 whatever the precision.
    """

    def __init__(self, num_heads: int, dropout: float, initializer_range: float, seed: int, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.initializer_range = initializer_range
        self.seed = seed
        self.dropout = Dropout(dropout, seed_for(seed, "dropout"), dtype=self.dtype_policy, name="dropout")

    def build(self, inputs_shape: tuple, score_bias_shape: tuple) -> None:
        _, length, hidden = inputs_shape
        self.kernels, self.biases = [], []
        for part in ("query", "key", "value"):
            for suffix, shape, store in (("kernel", (hidden, hidden), self.kernels), ("bias", (hidden,), self.biases)):
                # as released the biases of these three, and of no other layer, start at random
                initializer = truncated_normal(self.initializer_range, self.seed, f"{part}_{suffix}")
                store.append(self.add_weight(shape, initializer, name=f"{part}_{suffix}"))
        self.dropout.build((inputs_shape[0], self.num_heads, length, length))

    def call(self, inputs, score_bias, training=False):
        query, key, value = self.project(inputs)
        probabilities = self.weigh(ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))), score_bias)  # [B, A, S, S]
        return self.join(ops.matmul(self.dropout(probabilities, training=training), value))

    def project(self, inputs):
        """[B, S, H] -> query (scaled), key and value [B, A, S, D]."""
        _, length, hidden = inputs.shape
        size = hidden // self.num_heads

        def heads(x):  # [B, S, H] -> [B, A, S, D]
            return ops.transpose(ops.reshape(x, (-1, length, self.num_heads, size)), (0, 2, 1, 3))

        kernel = ops.concatenate([ops.convert_to_tensor(kernel) for kernel in self.kernels], axis=1)  # [H, 3H]
        bias = ops.concatenate([ops.convert_to_tensor(bias) for bias in self.biases], axis=0)
        query, key, value = ops.split(ops.matmul(inputs, kernel) + bias, 3, axis=-1)
        return heads(query * size**-0.5), heads(key), heads(value)

    def weigh(self, scores, score_bias):
        """Scores of any shape to probabilities over the last axis."""
        scores = ops.cast(scores, "float32") + ops.cast(score_bias, "float32")
        return ops.cast(ops.softmax(scores, axis=-1), self.compute_dtype)

    def join(self, context):
        """[B, A, S, D] -> [B, S, H]."""
        _, _, length, size = context.shape
        return ops.reshape(ops.transpose(context, (0, 2, 1, 3)), (-1, length, self.num_heads * size))

    def compute_output_shape(self, inputs_shape: tuple, score_bias_shape: tuple) -> tuple:
        return inputs_shape


class EncoderBlock(keras.layers.Layer):
    """Self-attention and feed-forward network, each with dropout, residual and LayerNorm after it: [B, S, H] -> [B, S, H]."""

    def __init__(self, num_heads: int, intermediate_size: int, dropout: float, attention_dropout: float,
                 initializer_range: float, seed: int, **kwargs):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.intermediate_size = intermediate_size
        self.initializer_range = initializer_range
        self.seed = seed
        self.attention = SelfAttention(num_heads, attention_dropout, initializer_range, seed_for(seed, "attention"),
                                       dtype=policy, name="attention")
        self.attention_dropout = Dropout(dropout, seed_for(seed, "attention_dropout"), dtype=policy, name="attention_dropout")
        self.attention_norm = keras.layers.LayerNormalization(epsilon=NORM_EPSILON, dtype=policy, name="attention_norm")
        self.feed_dropout = Dropout(dropout, seed_for(seed, "feed_dropout"), dtype=policy, name="feed_dropout")
        self.feed_norm = keras.layers.LayerNormalization(epsilon=NORM_EPSILON, dtype=policy, name="feed_norm")

    def build(self, inputs_shape: tuple, score_bias_shape: tuple) -> None:
        hidden, policy = inputs_shape[-1], self.dtype_policy
        self.attention_output = dense(hidden, self.initializer_range, self.seed, "attention_output", dtype=policy)
        self.feed_inner = dense(self.intermediate_size, self.initializer_range, self.seed, "feed_inner", activation=gelu,
                                dtype=policy)
        self.feed_output = dense(hidden, self.initializer_range, self.seed, "feed_output", dtype=policy)
        self.attention.build(inputs_shape, score_bias_shape)
        self.feed_output.build((*inputs_shape[:-1], self.intermediate_size))
        for layer in (self.attention_output, self.attention_dropout, self.attention_norm, self.feed_inner,
                      self.feed_dropout, self.feed_norm):
            layer.build(inputs_shape)

    def call(self, inputs, score_bias, training=False):
        return self._feed(inputs, self.attention(inputs, score_bias, training=training), training)

    def _feed(self, inputs, attended, training=False):
        attended = self.attention_norm(inputs + self.attention_dropout(self.attention_output(attended), training=training))
        fed = self.feed_output(self.feed_inner(attended))
        return self.feed_norm(attended + self.feed_dropout(fed, training=training))

    def remember(self, patches):
        """([B, P, H], (keys [B, A, D, P], values [B, A, P, D])): what becomes of patches that see each other only, and what text needs
        of them."""
        query, key, value = self.attention.project(patches)
        key = ops.transpose(key, (0, 1, 3, 2))
        probabilities = self.attention.weigh(ops.matmul(query, key), 0.0)
        return self._feed(patches, self.attention.join(ops.matmul(probabilities, value))), (key, value)

    def extend(self, inputs, memory, cache, place, seen):
        """([B, K, H], cache): one more piece of each of K texts of a picture, without computing the earlier ones anew.

        inputs [B, K, H] stand at ``place`` (int) of their texts; memory: of ``remember``; cache: keys [B, A, D, T, K] and values
        [B, A, T, K, D] of what was written at each place; seen f32[B, K, T * K]: 1 for the entries that belong to a text, its new
        piece included, else 0. Equal to the causal AttentionMask over the whole text.
        """
        query, key, value = self.attention.project(inputs)  # [B, A, K, D]
        _, heads, length, texts, size = cache[1].shape
        here, key = ops.equal(np.arange(length), place), ops.transpose(key, (0, 1, 3, 2))
        keys = ops.where(here[:, None], ops.expand_dims(key, 3), cache[0])
        values = ops.where(here[:, None, None], ops.expand_dims(value, 2), cache[1])
        of_text = ops.matmul(query, ops.reshape(keys, (-1, heads, size, length * texts)))  # [B, A, K, T * K]
        scores = ops.concatenate([of_text, ops.matmul(query, memory[0])], -1)
        hidden = ops.pad((1.0 - seen) * MASKED_SCORE, [[0, 0], [0, 0], [0, memory[0].shape[3]]])
        probabilities = self.attention.weigh(scores, ops.expand_dims(hidden, 1))
        context = ops.matmul(probabilities[..., : length * texts], ops.reshape(values, (-1, heads, length * texts, size)))
        context = context + ops.matmul(probabilities[..., length * texts :], memory[1])
        return self._feed(inputs, self.attention.join(context)), (keys, values)

    def compute_output_shape(self, inputs_shape: tuple, score_bias_shape: tuple) -> tuple:
        return inputs_shape


class Pooler(keras.layers.Layer):
    """Dense + tanh on the first position, [CLS]: [B, S, H] -> [B, H]."""

    def __init__(self, initializer_range: float, seed: int, **kwargs):
        super().__init__(**kwargs)
        self.initializer_range = initializer_range
        self.seed = seed

    def build(self, sequence_shape: tuple) -> None:
        batch, _, hidden = sequence_shape
        self.dense = dense(hidden, self.initializer_range, self.seed, "dense", activation="tanh", dtype=self.dtype_policy)
        self.dense.build((batch, hidden))

    def call(self, sequence):
        return self.dense(sequence[:, 0])

    def compute_output_shape(self, sequence_shape: tuple) -> tuple:
        return (sequence_shape[0], sequence_shape[2])
