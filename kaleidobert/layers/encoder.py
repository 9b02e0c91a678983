"""The post-LayerNorm BERT encoder over [text | patches]. S = T + P, A heads, D = H / A."""

from typing import Any

import keras
import numpy as np
from keras import ops

from kaleidobert import keras_private
from kaleidobert.layers.core import Dropout, LayerNorm, dense, flatten_tokens, gelu, seed_for, truncated_normal
from kaleidobert.specs import Tensor

MASKED_SCORE = -10000.0  # as released: added to the attention scores of padding


def matmul_bias(inputs: Tensor, layer: keras.layers.Dense) -> tuple[Tensor, Tensor]:
    """Returns inputs [N, H] times the kernel of a Dense layer, and its bias, for functions that add the bias along with other things."""
    return ops.matmul(inputs, ops.cast(layer.kernel, inputs.dtype)), ops.convert_to_tensor(layer.bias)


class AttentionMask(keras.layers.Layer):
    """token_mask int[B, T] -> [B, 1, 1, S], added to attention scores: hides the padding of the text, never a patch.

    causal_length: where it is not 0, texts have at most so many tokens and the mask is [B, 1, S, S]: a text position attends to the
    patches and the text up to itself, a patch to patches only, so that patches are encoded once for all steps of a caption.
    apart: the mask is [B, 1, S, S], too: text and patches each attend to their own side only (ours).
    """

    def __init__(self, num_patches: int, causal_length: int = 0, apart: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_patches = num_patches
        self.causal_length, self.apart = causal_length, apart

    def call(self, token_mask):
        padding = 1.0 - ops.cast(token_mask, self.compute_dtype)
        hidden = ops.expand_dims(ops.pad(padding, [[0, 0], [0, self.num_patches]]), (1, 2))  # [B, 1, 1, S]
        if self.causal_length:
            length, later = ops.shape(token_mask)[1], np.triu(np.ones((self.causal_length,) * 2, np.float32), 1)
            # rows of patches below, from which all text is hidden; columns of patches behind, hidden from nothing
            later = ops.pad(ops.cast(later, self.compute_dtype)[:length, :length], [[0, self.num_patches], [0, 0]], constant_values=1)
            hidden = ops.maximum(hidden, ops.pad(later, [[0, 0], [0, self.num_patches]]))
        if self.apart:
            side = ops.pad(ops.zeros_like(padding[0]), [[0, self.num_patches]], constant_values=1)  # [S]: 0 text, 1 patches
            hidden = ops.maximum(hidden, ops.abs(side[:, None] - side))
        return hidden * MASKED_SCORE

    def compute_output_shape(self, token_mask_shape: tuple) -> tuple:
        length = None if token_mask_shape[1] is None else token_mask_shape[1] + self.num_patches
        return (token_mask_shape[0], 1, length if self.causal_length or self.apart else 1, length)


class SelfAttention(keras.layers.Layer):
    """Multi-head self-attention: inputs [B, S, H], score_bias [B, 1, 1 or S, S] -> [B, S, H], before the output projection.

    Query, key and value are separate variables, one to one with the release, joined at call time: one wide matrix product is
    faster than three. The softmax is float32 whatever the precision.
    """

    def __init__(self, num_heads: int, dropout: float, initializer_range: float, seed: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.initializer_range = initializer_range
        self.seed = seed
        self.dropout = Dropout(dropout, seed_for(seed, "dropout"), dtype=self.dtype_policy, name="dropout")

    def build(self, inputs_shape: tuple, score_bias_shape: tuple) -> None:
        _, length, hidden = inputs_shape
        self.kernels: list[keras.Variable] = []
        self.biases: list[keras.Variable] = []
        for name in ("query", "key", "value"):
            for suffix, shape, store in (("kernel", (hidden, hidden), self.kernels), ("bias", (hidden,), self.biases)):
                # as released, the biases of these three start at random, unlike those of all other layers
                initializer = truncated_normal(self.initializer_range, self.seed, f"{name}_{suffix}")
                store.append(self.add_weight(shape, initializer, name=f"{name}_{suffix}"))
        self.dropout.build((inputs_shape[0], self.num_heads, length, length))

    def call(self, inputs, score_bias, state=None):
        """Computes the attention. state: of ``dropout``, which the owner draws."""
        query, key, value = self.project(inputs)
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))  # [B, A, S, S]
        probabilities = self.dropout.drop(self.softmax(scores, score_bias), state, inputs.shape[-1])
        return self.join(ops.matmul(probabilities, value))

    def project(self, inputs):
        """Projects [B, S, H] -> query (scaled), key and value [B, A, S, D]."""
        size = inputs.shape[-1] // self.num_heads
        query, *others = (ops.convert_to_tensor(kernel) for kernel in self.kernels)
        query_bias, *biases = (ops.convert_to_tensor(bias) for bias in self.biases)
        # scaled here, where there are fewer numbers than after the product
        kernel = ops.concatenate([query * size**-0.5, *others], axis=1)  # [H, 3H]
        bias = ops.concatenate([query_bias * size**-0.5, *biases], axis=0)
        joined = ops.add(ops.matmul(flatten_tokens(inputs), kernel), ops.cast(bias, inputs.dtype))  # [B * S, 3H]
        batch, length, hidden = ops.shape(inputs)
        heads = ops.reshape(joined, (batch, length, 3, self.num_heads, hidden // self.num_heads))
        return ops.unstack(ops.transpose(heads, (2, 0, 3, 1, 4)), 3)

    def softmax(self, scores, score_bias):
        """Turns scores of any shape into probabilities over the last axis, computed in float32."""
        return ops.cast(ops.softmax(ops.cast(scores, "float32") + ops.cast(score_bias, "float32"), axis=-1), self.compute_dtype)

    def join(self, context):
        """Joins the heads: [B, A, S, D] -> [B, S, H]."""
        batch, heads, length, size = ops.shape(context)
        return ops.reshape(ops.transpose(context, (0, 2, 1, 3)), (batch, length, heads * size))

    def compute_output_shape(self, inputs_shape: tuple, score_bias_shape: tuple) -> tuple:
        return inputs_shape


class EncoderBlock(keras.layers.Layer):
    """Self-attention and feed-forward network, each with dropout, residual and LayerNorm after it: [B, S, H] -> [B, S, H].

    checkpointed (False): in training keep the inputs alone and compute everything else once more in the backward pass.
    """

    def __init__(self, num_heads: int, intermediate_size: int, dropout: float, attention_dropout: float,
                 initializer_range: float, seed: int, **kwargs: Any):
        super().__init__(**kwargs)
        policy, self.checkpointed = self.dtype_policy, False
        self.intermediate_size = intermediate_size
        self.initializer_range = initializer_range
        self.seed = seed
        self.attention = SelfAttention(num_heads, attention_dropout, initializer_range, seed_for(seed, "attention"),
                                       dtype=policy, name="attention")
        self.attention_dropout = Dropout(dropout, seed_for(seed, "attention_dropout"), dtype=policy, name="attention_dropout")
        self.attention_norm = LayerNorm(dtype=policy, name="attention_norm")
        self.feed_dropout = Dropout(dropout, seed_for(seed, "feed_dropout"), dtype=policy, name="feed_dropout")
        self.feed_norm = LayerNorm(dtype=policy, name="feed_norm")

    def build(self, inputs_shape: tuple, score_bias_shape: tuple) -> None:
        hidden, policy = inputs_shape[-1], self.dtype_policy
        self.attention_output = dense(hidden, self.initializer_range, self.seed, "attention_output", dtype=policy)
        self.feed_inner = dense(self.intermediate_size, self.initializer_range, self.seed, "feed_inner", dtype=policy)
        self.feed_output = dense(hidden, self.initializer_range, self.seed, "feed_output", dtype=policy)
        self.attention.build(inputs_shape, score_bias_shape)
        self.feed_output.build((*inputs_shape[:-1], self.intermediate_size))
        for layer in (self.attention_output, self.attention_dropout, self.attention_norm, self.feed_inner,
                      self.feed_dropout, self.feed_norm):
            layer.build(inputs_shape)

    def call(self, inputs, score_bias, training=False):
        # drawn here, so that a second computation finds the same masks
        states = [layer.draw(training) for layer in (self.attention.dropout, self.attention_dropout, self.feed_dropout)]
        drawn = [state for state in states if state is not None]

        def compute(inputs, score_bias, *drawn):
            remaining = iter(drawn)
            own = [None if state is None else next(remaining) for state in states]
            with keras_private.autocast(self):
                return self.feed_forward(inputs, self.attention(inputs, score_bias, own[0]), own[1:], training)

        return (keras.remat(compute) if self.checkpointed and training else compute)(inputs, score_bias, *drawn)

    def feed_forward(self, inputs, attended, states=(None, None), training=False):
        """Computes all that follows the attention, whose output is ``attended``: both [B, N, H]. states: of the two dropouts."""
        shape = ops.shape(inputs)
        inputs, (attended, bias) = flatten_tokens(inputs), matmul_bias(flatten_tokens(attended), self.attention_output)
        attended = self.attention_norm(attended, inputs, bias, states[0], rate=self.attention_dropout.rate)
        fed, bias = matmul_bias(gelu(*matmul_bias(attended, self.feed_inner), training), self.feed_output)
        return ops.reshape(self.feed_norm(fed, attended, bias, states[1], rate=self.feed_dropout.rate), shape)

    def encode_patches(self, patches):
        """Encodes patches that attend to each other only: [B, P, H] -> ([B, P, H], (keys [B, A, D, P], values [B, A, P, D]))."""
        query, key, value = self.attention.project(patches)
        key = ops.transpose(key, (0, 1, 3, 2))
        probabilities = self.attention.softmax(ops.matmul(query, key), 0.0)
        return self.feed_forward(patches, self.attention.join(ops.matmul(probabilities, value))), (key, value)

    def decode_step(self, inputs, memory, cache, position, seen):
        """Encodes one more piece of each of K texts of a picture from cached keys and values; returns ([B, K, H], cache).

        inputs [B, K, H] are at ``position`` (int) of their texts; memory: of ``encode_patches``; cache: keys [B, A, D, T, K] and values
        [B, A, T, K, D] of the pieces at each position; seen f32[B, K, T * K]: 1 for the entries that belong to a text, its new piece
        included, else 0. Equal to the causal AttentionMask over the whole text.
        """
        query, key, value = self.attention.project(inputs)  # [B, A, K, D]
        _, heads, length, texts, size = cache[1].shape
        here, key = ops.equal(np.arange(length), position), ops.transpose(key, (0, 1, 3, 2))
        keys = ops.where(here[:, None], ops.expand_dims(key, 3), cache[0])
        values = ops.where(here[:, None, None], ops.expand_dims(value, 2), cache[1])
        of_text = ops.matmul(query, ops.reshape(keys, (-1, heads, size, length * texts)))  # [B, A, K, T * K]
        scores = ops.concatenate([of_text, ops.matmul(query, memory[0])], -1)
        hidden = ops.pad((1.0 - seen) * MASKED_SCORE, [[0, 0], [0, 0], [0, memory[0].shape[3]]])
        probabilities = self.attention.softmax(scores, ops.expand_dims(hidden, 1))
        context = ops.matmul(probabilities[..., : length * texts], ops.reshape(values, (-1, heads, length * texts, size)))
        context = context + ops.matmul(probabilities[..., length * texts :], memory[1])
        return self.feed_forward(inputs, self.attention.join(context)), (keys, values)

    def compute_output_shape(self, inputs_shape: tuple, score_bias_shape: tuple) -> tuple:
        return inputs_shape


class Pooler(keras.layers.Layer):
    """Dense + tanh on the first position, [CLS]: [B, S, H] -> [B, H]."""

    def __init__(self, initializer_range: float, seed: int, **kwargs: Any):
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


# --- Layers of model_zoo.pairs: each side begins the first block alone, and the last block computes only what a head reads


class _SharedBlock(keras.layers.Layer):
    """Computes with the weights of ``block``, in its dtype."""

    def __init__(self, block: EncoderBlock, **kwargs: Any):
        super().__init__(dtype=block.dtype_policy, **kwargs)
        self.block = block
        self.built = True

    def attend(self, query, key, value, score_bias):
        """Attends after the projections: [B, N, H], [B, S, H], [B, S, H], [B, 1, 1, S] -> [B, N, H]."""
        attention = self.block.attention
        query, key, value = (self._heads(array) for array in (query, key, value))
        probabilities = attention.softmax(ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))), score_bias)
        return attention.join(ops.matmul(probabilities, value))

    def _heads(self, inputs):
        """Splits into heads: [B, S, H] -> [B, A, S, D]."""
        batch, length, hidden = ops.shape(inputs)
        heads = self.block.attention.num_heads
        return ops.transpose(ops.reshape(inputs, (batch, length, heads, hidden // heads)), (0, 2, 1, 3))


class FirstBlockQKV(_SharedBlock):
    """Embeddings of one side [B, S, H] -> [B, S, 4H]: followed by their query (scaled), key and value in the first block."""

    def call(self, embedded):
        attention = self.block.attention
        return ops.concatenate([embedded, *[attention.join(array) for array in attention.project(embedded)]], axis=-1)


class JointFirstBlock(_SharedBlock):
    """The first block on both sides' FirstBlockQKV, text first [B, S, 4H], with score_bias [B, 1, 1, S] -> [B, S, H]."""

    def call(self, both_sides, score_bias):
        embedded, query, key, value = ops.split(both_sides, 4, axis=-1)
        return self.block.feed_forward(embedded, self.attend(query, key, value, score_bias))


class FirstPosition(_SharedBlock):
    """The block's output at the first position alone: [B, S, H], [B, 1, 1, S] -> [B, 1, H]."""

    def call(self, inputs, score_bias):
        attention, first = self.block.attention, inputs[:, :1]
        kernels, biases = ([ops.convert_to_tensor(variable) for variable in group] for group in (attention.kernels, attention.biases))
        size = inputs.shape[-1] // attention.num_heads
        query = (ops.matmul(first, kernels[0]) + biases[0]) * size**-0.5
        both = ops.add(ops.matmul(flatten_tokens(inputs), ops.concatenate(kernels[1:], axis=1)), ops.concatenate(biases[1:], axis=0))
        both = ops.reshape(both, (*ops.shape(inputs)[:2], both.shape[-1]))
        return self.block.feed_forward(first, self.attend(query, *ops.split(both, 2, axis=-1), score_bias))
