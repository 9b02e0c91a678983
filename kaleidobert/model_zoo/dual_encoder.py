"""The towers of a matcher with head "contrast", without its encoder: what is trained first, and what searches a catalogue quickly."""

from typing import Any

import keras

from kaleidobert.model_zoo.kaleidobert import TOWERS, Matcher


class Towers(keras.Model):
    """{"text_side", "picture_side"}: f32[B, W], whose product is the match. Inputs: patch_features, token_ids, token_mask.

    Its variables are the matcher's own: training it trains the matcher's towers.
    """

    kind = "towers"

    def __init__(self, matcher: Matcher):
        super().__init__(name=self.kind)
        self.matcher_config = matcher.get_config()
        self.scale = matcher.backbone.get_layer("feature_scale") if matcher.backbone.standardise_features else None
        self.towers = matcher.get_layer(TOWERS)
        self.built = True

    def call(self, inputs, training=False):
        features = inputs["patch_features"] if self.scale is None else self.scale(inputs["patch_features"])
        text, picture = self.towers(features, inputs["token_ids"], inputs["token_mask"], training=training)
        return {"text_side": text, "picture_side": picture}

    def describe(self) -> dict[str, Any]:
        """As KaleidoModel.describe."""
        return {"kind": self.kind, "config": self.matcher_config, "identity": {}}
