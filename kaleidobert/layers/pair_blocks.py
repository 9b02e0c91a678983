"""A pair's way through the encoder, begun by each side alone and ended where an answer needs no more.

In one sequence with attention in both directions, what depends on one side only ends where the first block looks at the other side:
embeddings, and that block's query, key and value. Behind the last block's attention, a head that reads [CLS] needs one position.
"""

import keras
from keras import ops

from kaleidobert.layers.encoder import EncoderBlock
from kaleidobert.layers.rows import rows


class _OfBlock(keras.layers.Layer):
    """Computes in the type of ``block``, with its weights."""

    def __init__(self, block: EncoderBlock, **kwargs):
        super().__init__(dtype=block.dtype_policy, **kwargs)
        self.block = block
        self.built = True

    def attend(self, query, key, value, score_bias):
        """[B, N, H], [B, S, H], [B, S, H], [B, 1, 1, S] -> [B, N, H]: SelfAttention behind its projections, before the output's."""
        attention = self.block.attention
        query, key, value = (self._heads(part) for part in (query, key, value))
        probabilities = attention.weigh(ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))), score_bias)
        return attention.join(ops.matmul(probabilities, value))

    def _heads(self, inputs):
        """[B, S, H] -> [B, A, S, D]."""
        batch, length, hidden = ops.shape(inputs)
        heads = self.block.attention.num_heads
        return ops.transpose(ops.reshape(inputs, (batch, length, heads, hidden // heads)), (0, 2, 1, 3))


class OwnStart(_OfBlock):
    """Embeddings of one side [B, S, H] -> [B, S, 4H]: beside their query (scaled), key and value in the first block."""

    def call(self, embedded):
        attention = self.block.attention
        return ops.concatenate([embedded, *[attention.join(part) for part in attention.project(embedded)]], axis=-1)


class SharedBlock(_OfBlock):
    """The first block, of both sides' OwnStart one behind the other [B, S, 4H], with score_bias [B, 1, 1, S] -> [B, S, H]."""

    def call(self, started, score_bias):
        embedded, query, key, value = ops.split(started, 4, axis=-1)
        return self.block.feed(embedded, self.attend(query, key, value, score_bias))


class FirstPosition(_OfBlock):
    """The block's answer at the first position alone: [B, S, H], [B, 1, 1, S] -> [B, 1, H]."""

    def call(self, inputs, score_bias):
        attention, first = self.block.attention, inputs[:, :1]
        kernels, biases = ([ops.convert_to_tensor(part) for part in parts] for parts in (attention.kernels, attention.biases))
        size = inputs.shape[-1] // attention.num_heads
        query = (ops.matmul(first, kernels[0]) + biases[0]) * size**-0.5
        both = ops.add(ops.matmul(rows(inputs), ops.concatenate(kernels[1:], axis=1)), ops.concatenate(biases[1:], axis=0))
        both = ops.reshape(both, (*ops.shape(inputs)[:2], both.shape[-1]))
        return self.block.feed(first, self.attend(query, *ops.split(both, 2, axis=-1), score_bias))
