"""A matching head with two towers beside the encoder (ours; neither in the paper nor in the release).

The matching task is slow to learn: a pair's loss stays near ln 2 for the first epochs, and hidden states are narrower than the
picture features. Two linear towers, one over the features and one over the words, are trained by themselves, in batches so large
that every text can be told from hundreds of others (app_zoo/retrieve/dual_encoder.py); their product is added to the encoder's own logit.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kaleidobert.layers.dropout import seed_for
from kaleidobert.layers.heads import ProductHead
from kaleidobert.layers.wide import LevelMeans, WordBag
from kaleidobert.specs import Tensor

START_SCALE, MAX_SCALE = 20.0, 100.0  # of the cosine, learnt between


class DualEncoder(keras.layers.Layer):
    """features [B, P, F], token_ids, token_mask [B, T] -> text [B, W] of length 1, picture [B, W] of the length of the learnt scale.

    float32 whatever the precision: candidates are ranked by the product of the two.
    """

    def __init__(self, levels: Sequence[slice], vocabulary_size: int, width: int, dropout: float, seed: int, **kwargs: Any):
        super().__init__(dtype="float32", **kwargs)
        self.text_tower = WordBag(vocabulary_size, width, seed_for(seed, "text_tower"), name="text_tower")
        self.picture_tower = LevelMeans(levels, width, dropout, seed_for(seed, "picture_tower"), name="picture_tower")
        self.width = width

    def build(self, features_shape: tuple, token_ids_shape: tuple, token_mask_shape: tuple) -> None:
        self.text_tower.build(token_ids_shape, token_mask_shape)
        self.picture_tower.build(features_shape)
        # as a share of the start: one learning rate for all weights is small for a number of 20
        self.scale = self.add_weight((), "ones", name="scale")

    @property
    def measured(self) -> bool:
        """As LevelMeans."""
        return self.picture_tower.measured

    def adapt(self, features: Tensor) -> None:
        """As LevelMeans."""
        self.picture_tower.adapt(features)

    def call(self, features, token_ids, token_mask, training=False):
        return self.text_side(token_ids, token_mask), self.picture_side(features, training)

    def text_side(self, token_ids, token_mask):
        """[B, W] of length 1."""
        return ops.normalize(self.text_tower(token_ids, token_mask), axis=-1)

    def picture_side(self, features, training=False):
        """[B, W] of the length of the learnt scale."""
        picture = ops.normalize(self.picture_tower(features, training=training), axis=-1)
        return picture * ops.clip(self.scale * START_SCALE, 1.0, MAX_SCALE)

    def compute_output_shape(self, features_shape: tuple, token_ids_shape: tuple, token_mask_shape: tuple) -> tuple:
        return ((features_shape[0], self.width),) * 2

    def compute_output_spec(self, features, token_ids, token_mask, training=False):
        shapes = self.compute_output_shape(features.shape, token_ids.shape, token_mask.shape)
        return tuple(keras.KerasTensor(shape, dtype="float32") for shape in shapes)


class DualEncoderHead(keras.layers.Layer):
    """text, picture [B, W] of DualEncoder, sequence [B, S, H], pooled [B, H], token_mask [B, T] -> logits [B, 2], own [B, 2].

    own: the answer of a ProductHead on the encoder; the product of the towers is added to its second column.
    """

    def __init__(self, initializer_range: float, seed: int, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)  # half precision would round the sides before they are multiplied
        self.product = ProductHead(initializer_range, seed_for(seed, "product"), dtype=self.dtype_policy, name="product")

    def build(self, text_shape: tuple, picture_shape: tuple, sequence_shape: tuple, pooled_shape: tuple, token_mask_shape: tuple) -> None:
        self.product.build(sequence_shape, pooled_shape, token_mask_shape)

    def call(self, text, picture, sequence, pooled, token_mask):
        match = self.match(text, picture)[:, None]
        own = self.product(sequence, pooled, token_mask)
        return own + ops.concatenate([ops.zeros_like(match), match], axis=-1), own

    def match(self, text, picture):
        """f32[B]: what the dual encoder alone says, the product of the two sides."""
        return ops.sum(ops.cast(text, "float32") * ops.cast(picture, "float32"), axis=-1)

    def compute_output_shape(self, text_shape: tuple, picture_shape: tuple, sequence_shape: tuple, pooled_shape: tuple,
                             token_mask_shape: tuple) -> tuple:
        return ((pooled_shape[0], 2),) * 2

    def compute_output_spec(self, text, picture, sequence, pooled, token_mask):
        return tuple(keras.KerasTensor((pooled.shape[0], 2), dtype="float32") for _ in range(2))
