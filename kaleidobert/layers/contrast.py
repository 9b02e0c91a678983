"""A matching head with two towers beside the encoder (ours; neither in the paper nor in the release).

The paper's head learns to match from one bit per pair and stays near ln 2 for the first epochs. Two linear towers over the
embeddings, before any attention, can be trained with a softmax over all texts and pictures of a batch; their product is added
to the matching logit, so that the encoder only has to learn what a bag of words and a mean of patches do not tell.
"""

from collections.abc import Sequence

import keras
from keras import ops

from kaleidobert.layers.dropout import seed_for, truncated_normal
from kaleidobert.layers.heads import ProductHead

START_SCALE, MAX_SCALE = 10.0, 100.0  # of the cosine, learnt between


class ContrastHead(keras.layers.Layer):
    """embedded, sequence [B, T+P, H], pooled [B, H], token_mask [B, T] -> logits [B, 2], text and picture sides [B, H].

    text: mean embedding of the real tokens, linear, length 1. picture: the mean embedding of each level's patches, side by
    side, linear, length = the learnt scale. Their product is added to logit[1] of a ProductHead.
    """

    def __init__(self, levels: Sequence[slice], initializer_range: float, seed: int, **kwargs):
        super().__init__(**kwargs)
        self.levels = list(levels)  # slices of the patch axis
        self.initializer_range, self.seed = initializer_range, seed
        self.product = ProductHead(initializer_range, seed_for(seed, "product"), dtype=self.dtype_policy, name="product")

    def build(self, embedded_shape: tuple, sequence_shape: tuple, pooled_shape: tuple, token_mask_shape: tuple) -> None:
        hidden = pooled_shape[-1]

        def tower(name: str) -> keras.layers.Dense:
            # float32: candidates are ranked by the product of the two sides
            initializer = truncated_normal(hidden**-0.5, seed_for(self.seed, name), "kernel")
            return keras.layers.Dense(hidden, kernel_initializer=initializer, dtype="float32", name=name)

        self.text_tower, self.picture_tower = tower("text_tower"), tower("picture_tower")
        self.text_tower.build((pooled_shape[0], hidden))
        self.picture_tower.build((pooled_shape[0], len(self.levels) * hidden))
        self.product.build(sequence_shape, pooled_shape, token_mask_shape)
        self.scale = self.add_weight(shape=(), initializer=keras.initializers.Constant(START_SCALE), dtype="float32", name="scale")

    def call(self, embedded, sequence, pooled, token_mask):
        length = token_mask.shape[1]
        embedded = ops.cast(embedded, "float32")
        real = ops.expand_dims(ops.cast(token_mask, "float32"), -1)  # [B, T, 1]
        words = ops.sum(embedded[:, :length] * real, axis=1) / ops.maximum(ops.sum(real, axis=1), 1)
        patches = [ops.mean(embedded[:, length + part.start : length + part.stop], axis=1) for part in self.levels]
        text = ops.normalize(self.text_tower(words), axis=-1)
        picture = ops.normalize(self.picture_tower(ops.concatenate(patches, axis=-1)), axis=-1)
        picture = picture * ops.clip(self.scale, 1.0, MAX_SCALE)
        match = ops.sum(text * picture, axis=-1, keepdims=True)  # [B, 1]
        logits = self.product(sequence, pooled, token_mask)
        return logits + ops.concatenate([ops.zeros_like(match), match], axis=-1), text, picture

    def compute_output_shape(self, embedded_shape: tuple, sequence_shape: tuple, pooled_shape: tuple, token_mask_shape: tuple):
        return (pooled_shape[0], 2), tuple(pooled_shape), tuple(pooled_shape)

    def compute_output_spec(self, embedded, sequence, pooled, token_mask):
        shapes = self.compute_output_shape(embedded.shape, sequence.shape, pooled.shape, token_mask.shape)
        return tuple(keras.KerasTensor(shape, dtype="float32") for shape in shapes)
