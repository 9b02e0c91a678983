"""A trained Matcher in three models: one for each picture alone, one for each text alone, and one for every pair; and the vectors of
pictures and texts whose product is what its logit knows of them apart.

The outputs are the Matcher's own up to rounding. A pair is spared the projections of features and boxes, the embeddings, the first block's
query, key and value, the towers of the head "dual_encoder", the two streams of the head "contrastive", and with the heads "plain" and
"contrastive", which read [CLS] alone, most of the last block. Nothing more can be shared: after the first attention every position depends
on both sides.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from kaleidobert.errors import UserError
from kaleidobert.layers.encoder import MASKED_SCORE, FirstBlockQKV, FirstPosition, JointFirstBlock
from kaleidobert.layers.heads import mean_of_tokens, product_of_sides
from kaleidobert.model_zoo.backbone import Backbone
from kaleidobert.model_zoo.kaleidobert import CONTRASTIVE, CONTRASTIVE_MATCH, DUAL_ENCODER, Matcher
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
        self.contrast = matcher.get_layer(CONTRASTIVE) if matcher.head in ("contrastive", "dual_encoder") else None
        self.built = True

    @property
    def backbone(self) -> Backbone:
        """The matcher's backbone."""
        return self.matcher.backbone

    @property
    def blocks(self) -> list:
        """The encoder's blocks."""
        return [self.backbone.get_layer(f"encoder_{number}") for number in range(self.backbone.num_layers)]


class PictureCache(_SharedMatcher):
    """Pictures alone: {"first_block": [B, P, 4H]}, with contrast also {"contrast": f32[B, H]}, with towers {"tower": f32[B, W]}.

    Inputs: patch_features, patch_boxes.
    """

    def __init__(self, matcher: Matcher):
        super().__init__(matcher)
        self.start = FirstBlockQKV(self.first_block)

    def call(self, inputs: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        backbone, features = self.matcher.backbone, ops.cast(inputs["patch_features"], "float32")
        hidden = backbone.embed_patches(features, inputs["patch_boxes"])
        result = {"first_block": self.start(hidden)}
        if self.contrast is not None:
            for block in self.blocks:
                hidden, _ = block.encode_patches(hidden)
            result["contrast"] = self.contrast.picture_side(ops.mean(ops.cast(hidden, "float32"), axis=1))
        return result | ({"tower": self.towers.picture_side(backbone.scale_features(features))} if self.towers else {})


class TextSide(_SharedMatcher):
    """Texts alone, as PictureCache. Inputs: token_ids, segment_ids, token_mask [B, T]."""

    free_axes = dict.fromkeys(TEXT, (1,))

    def __init__(self, matcher: Matcher):
        super().__init__(matcher)
        self.start = FirstBlockQKV(self.first_block)

    def call(self, inputs: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        hidden = self.matcher.backbone.get_layer("text_embedding")(inputs["token_ids"], inputs["segment_ids"])
        result = {"first_block": self.start(hidden)}
        if self.contrast is not None:
            padding = MASKED_SCORE * (1.0 - ops.cast(inputs["token_mask"], hidden.dtype))[:, None, None]
            for block in self.blocks:
                hidden = block(hidden, padding)
            result["contrast"] = self.contrast.text_side(mean_of_tokens(ops.cast(hidden, "float32"), inputs["token_mask"]))
        return result | ({"tower": self.towers.text_side(inputs["token_ids"], inputs["token_mask"])} if self.towers else {})


class Pairs(_SharedMatcher):
    """The Matcher's {"itm": f32[B, 2]} of B pairs; of the heads "dual_encoder" and "contrastive" also "own" f32[B, 2], and, under the
    head's name, the product of the sides f32[B].

    Inputs: pictures, texts: tables of PictureCache's and TextSide's outputs, and "token_mask" [N, T] of the texts; picture, text
    int32[B]: rows of the tables; positions int32[T']: 0, 1, ... up to the longest of these texts.
    """

    free_axes = {"pictures": {"first_block": (0,), "contrast": (0,), "tower": (0,)}, "positions": (0,),
                 "texts": {"first_block": (0, 1), "contrast": (0,), "tower": (0,), "token_mask": (0, 1)}}

    def __init__(self, matcher: Matcher):
        super().__init__(matcher)
        backbone, later = matcher.backbone, self.blocks[1:]
        self.shared = JointFirstBlock(self.first_block)
        if matcher.head != "product" and later:  # they read [CLS] alone
            later[-1] = FirstPosition(later[-1])
        self.later, self.mask, self.pooler = later, backbone.get_layer("attention_mask"), backbone.get_layer("pooler")
        self.head = matcher.get_layer("head_product" if matcher.head == "product" else "head_itm")
        self.with_contrast = matcher.get_layer(CONTRASTIVE_MATCH) if self.contrast is not None else None
        self.with_towers = matcher.get_layer("head_dual_encoder") if self.towers is not None else None

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
        if self.matcher.head == "product":
            return {"itm": self.head(hidden, pooled, token_mask)}

        def product(side):
            return product_of_sides(ops.take(texts[side], text, axis=0), ops.take(pictures[side], picture, axis=0))

        answers = {"itm": self.head(pooled)}
        if self.with_contrast is not None:
            match = product("contrast")
            answers = {"itm": self.with_contrast.add(answers["itm"], match), "own": answers["itm"], "contrastive": match}
        if self.with_towers is not None:
            match = product("tower")
            answers = {"itm": self.with_towers.add(answers["itm"], match), "own": answers["itm"], "dual_encoder": match}
        return answers


# --- Vectors of pictures and texts alone: their product is the part of the logit for which they need not meet (ours)


class PictureVector(PictureCache):
    """{"vector": f32[B, W]}, of length 1: the sides of towers and of contrast, joined, weighted as ``side_weights`` says.

    The product with a TextVector's is the sum of the products of the sides in the Matcher's logit, divided by the sum of the weights
    without their signs. Inputs: patch_features, patch_boxes. Raises UserError where the head has no sides.
    """

    def __init__(self, matcher: Matcher):
        super().__init__(matcher)
        self.weights_of_sides = side_weights(matcher)

    def call(self, inputs: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        return {"vector": _joined(super().call(inputs), self.weights_of_sides, signed=True)}


class TextVector(TextSide):
    """The same of texts. Inputs: token_ids, segment_ids, token_mask [B, T]."""

    def __init__(self, matcher: Matcher):
        super().__init__(matcher)
        self.weights_of_sides = side_weights(matcher)

    def call(self, inputs: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        return {"vector": _joined(super().call(inputs), self.weights_of_sides, signed=False)}


def has_vectors(matcher: Matcher) -> bool:
    """Whether pictures and texts have vectors of their own that count in the logit."""
    return matcher.head in ("contrastive", "dual_encoder") and any(_weights(matcher).values())


def side_weights(matcher: Matcher) -> dict[str, float]:
    """Returns {"tower", "contrast"}: by how much the cosine of the two sides counts in the logit, those that count.

    Raises UserError where the head has no sides, or none that counts.
    """
    numbers = _weights(matcher)
    if not any(numbers.values()):
        raise UserError(f"the matching head {matcher.head!r} knows nothing of pictures and texts apart", "embeddings",
                        "a matcher with head dual_encoder, or a pre-training with losses.itc_weight",
                        "train one with `kaleidobert retrieve matching.head=dual_encoder`")
    return {name: value for name, value in numbers.items() if value}


def vector_size(matcher: Matcher) -> int:
    """Returns W. Raises UserError as ``side_weights``."""
    sizes = {"tower": matcher.width, "contrast": matcher.backbone.hidden_size}
    return sum(sizes[name] for name in side_weights(matcher))


def _weights(matcher: Matcher) -> dict[str, float]:
    weights = {}
    if matcher.head == "dual_encoder":
        weights["tower"] = matcher.get_layer(DUAL_ENCODER).learnt_scale()
    if matcher.head in ("dual_encoder", "contrastive"):
        weights["contrast"] = matcher.get_layer(CONTRASTIVE).learnt_scale() * matcher.get_layer(CONTRASTIVE_MATCH).gain
    return {name: float(ops.convert_to_numpy(value)) for name, value in weights.items()}


def _joined(sides: Mapping[str, Any], weights: Mapping[str, float], signed: bool) -> Any:
    """Computes [B, W] of length 1: every side at length 1 times the root of its weight; signed: times the weight's sign as well."""
    total = sum(map(abs, weights.values()))
    roots = {name: (abs(weight) / total) ** 0.5 * (-1 if signed and weight < 0 else 1) for name, weight in weights.items()}
    return ops.concatenate([ops.normalize(ops.cast(sides[name], "float32"), axis=-1) * root for name, root in roots.items()], axis=-1)


def output_names(matcher: Matcher) -> tuple[str, ...]:
    """Returns the names of the outputs of ``Pairs``, first the one that ranks."""
    return ("itm", "own", matcher.head) if matcher.head in ("dual_encoder", "contrastive") else ("itm",)


def bytes_of_a_row(matcher: Matcher) -> int:
    """Returns the bytes of one position in the tables of ``Pairs``."""
    return 4 * matcher.backbone.hidden_size * np.dtype("float16" if "16" in matcher.backbone.precision else "float32").itemsize
