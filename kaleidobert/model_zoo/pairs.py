"""A trained Matcher in three models: one for each picture alone, one for each text alone, and one for every pair.

The outputs are the Matcher's own up to rounding. A pair is spared the projections of features and boxes, the embeddings, the first block's
query, key and value, the towers of the head "dual_encoder", and with the head "plain", which reads [CLS] alone, most of the last block.
Nothing more can be shared: after the first attention every position depends on both sides.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from kaleidobert.layers.encoder import FirstBlockQKV, FirstPosition, JointFirstBlock
from kaleidobert.model_zoo.backbone import Backbone
from kaleidobert.model_zoo.kaleidobert import DUAL_ENCODER, Matcher
from kaleidobert.specs import TEXT


class _SharedMatcher(keras.Model):
    """Computes with the variables of ``matcher``; layers have dtypes of their own.

    free_axes: by input name, nested as the inputs are: the axes whose length differs from call to call.
    """

    free_axes: Mapping[str, Any] = {}

    def __init__(self, matcher: Matcher):
        super().__init__(autocast=False)
        self.matcher = matcher
        self.first_block = matcher.backbone.get_layer("encoder_0")
        self.towers = matcher.get_layer(DUAL_ENCODER) if matcher.head == "dual_encoder" else None
        self.built = True

    @property
    def backbone(self) -> Backbone:
        """The matcher's backbone."""
        return self.matcher.backbone


class PictureCache(_SharedMatcher):
    """Pictures alone: {"first_block": [B, P, 4H]} and with towers {"side": f32[B, W]}. Inputs: patch_features, patch_boxes."""

    def __init__(self, matcher: Matcher):
        super().__init__(matcher)
        self.start = FirstBlockQKV(self.first_block)

    def call(self, inputs: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        backbone, features = self.matcher.backbone, ops.cast(inputs["patch_features"], "float32")
        result = {"first_block": self.start(backbone.embed_patches(features, inputs["patch_boxes"]))}
        return result | ({"side": self.towers.picture_side(backbone.scale_features(features))} if self.towers else {})


class TextSide(_SharedMatcher):
    """Texts alone: {"first_block": [B, T, 4H]} and with towers {"side": f32[B, W]}. Inputs: token_ids, segment_ids, token_mask [B, T]."""

    free_axes = dict.fromkeys(TEXT, (1,))

    def __init__(self, matcher: Matcher):
        super().__init__(matcher)
        self.start = FirstBlockQKV(self.first_block)

    def call(self, inputs: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        embedded = self.matcher.backbone.get_layer("text_embedding")(inputs["token_ids"], inputs["segment_ids"])
        result = {"first_block": self.start(embedded)}
        return result | ({"side": self.towers.text_side(inputs["token_ids"], inputs["token_mask"])} if self.towers else {})


class Pairs(_SharedMatcher):
    """The Matcher's {"itm": f32[B, 2]} of B pairs; with towers also its summands "own" f32[B, 2] and "dual_encoder" f32[B].

    Inputs: pictures, texts: tables of PictureCache's and TextSide's outputs, and "token_mask" [N, T] of the texts; picture, text
    int32[B]: rows of the tables; positions int32[T']: 0, 1, ... up to the longest of these texts.
    """

    free_axes = {"pictures": {"first_block": (0,), "side": (0,)}, "positions": (0,),
                 "texts": {"first_block": (0, 1), "side": (0,), "token_mask": (0, 1)}}

    def __init__(self, matcher: Matcher):
        super().__init__(matcher)
        backbone = matcher.backbone
        later = [backbone.get_layer(f"encoder_{number}") for number in range(1, backbone.num_layers)]
        self.shared = JointFirstBlock(self.first_block)
        if matcher.head == "plain" and later:
            later[-1] = FirstPosition(later[-1])
        self.later, self.mask, self.pooler = later, backbone.get_layer("attention_mask"), backbone.get_layer("pooler")
        self.head = matcher.get_layer("head_itm" if matcher.head == "plain" else f"head_{matcher.head}")

    def call(self, inputs: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        pictures, texts, picture, text = (inputs[name] for name in ("pictures", "texts", "picture", "text"))
        length, size = ops.shape(texts["token_mask"])[1], texts["first_block"].shape[-1]
        rows = text[:, None] * length + inputs["positions"]  # [B, T'], counted over the tokens of all texts
        tokens = ops.take(ops.reshape(texts["first_block"], (-1, size)), rows, axis=0)
        token_mask = ops.take(ops.reshape(texts["token_mask"], (-1,)), rows, axis=0)
        bias = self.mask(token_mask)
        hidden = self.shared(ops.concatenate([tokens, ops.take(pictures["first_block"], picture, axis=0)], axis=1), bias)
        for block in self.later:
            hidden = block(hidden, bias)
        pooled = self.pooler(hidden)
        if self.matcher.head == "plain":
            return {"itm": self.head(pooled)}
        if self.matcher.head == "product":
            return {"itm": self.head(hidden, pooled, token_mask)}
        sides = ops.take(texts["side"], text, axis=0), ops.take(pictures["side"], picture, axis=0)
        logits, own = self.head(*sides, hidden, pooled, token_mask)
        return {"itm": logits, "own": own, "dual_encoder": self.head.match(*sides)}


def output_names(matcher: Matcher) -> tuple[str, ...]:
    """Returns the names of the outputs of ``Pairs``, first the one that ranks."""
    return ("itm", "own", "dual_encoder") if matcher.head == "dual_encoder" else ("itm",)


def bytes_of_a_row(matcher: Matcher) -> int:
    """Returns the bytes of one position in the tables of ``Pairs``."""
    return 4 * matcher.backbone.hidden_size * np.dtype("float16" if "16" in matcher.backbone.precision else "float32").itemsize
