"""Kaleido-BERT's tasks: heads on top of one backbone.

The layers named "head_..." are all the variables that a task has of its own; checkpoints.transfer goes by that name.
"""

from collections.abc import Mapping
from typing import Any

import keras

from kaleidobert import levels as kaleido
from kaleidobert.errors import UserError
from kaleidobert.layers.contrast import ContrastHead
from kaleidobert.layers.dropout import Dropout, seed_for, truncated_normal
from kaleidobert.layers.heads import LevelClassHead, LevelFeatureHead, MaskedTokenHead, ProductHead
from kaleidobert.model_zoo.backbone import Backbone, KaleidoModel

MATCHING_HEADS = ("plain", "product", "contrast")
NEW_HEAD_RANGE = 0.01  # standard deviation of a fine-tuning head's start weights, as released


class TaskModel(KaleidoModel):
    """A backbone with heads; its configuration is {"backbone": the backbone's, and the arguments in ``options``}."""

    options: tuple[str, ...] = ()

    def get_config(self) -> dict[str, Any]:
        return {"backbone": self.backbone.get_config()} | {name: getattr(self, name) for name in self.options}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects=None) -> "TaskModel":
        options = {name: value for name, value in config.items() if name != "backbone"}
        return cls(Backbone.from_config(config["backbone"]), **options)


class Pretrainer(TaskModel):
    """The pre-training model: logits {"mlm": [B, M, V], "itm": [B, 2], "class" level: [B, C], "feature" level: [B, k, F]}.

    Inputs: the backbone's, masked_tokens int[B, M] (positions in the text, M free), masked_patches int[B, K] (positions on
    the patch axis, of all "feature" levels in their order). ITM: column 1 = text and picture belong together.
    """

    kind = "pretrainer"

    def __init__(self, backbone: Backbone):
        # --- Layers ---
        def head(layer, *sizes, name):
            return layer(*sizes, backbone.initializer_range, seed_for(backbone.seed, name), dtype=backbone.precision, name=name)

        mlm_head = head(MaskedTokenHead, backbone.get_layer("text_embedding"), name="head_mlm")
        itm_head = _two_way(backbone)
        level_heads, start, column = {}, backbone.text_length, 0
        for level in backbone.levels:
            name, stop = f"head_level_{level.name}", start + level.num_patches
            if level.answer == "class":
                level_heads[level.name] = head(LevelClassHead, slice(start, stop), level.num_classes, name=name)
            else:
                columns = slice(column, column + level.num_masked)
                level_heads[level.name] = head(LevelFeatureHead, columns, backbone.text_length, backbone.feature_size, name=name)
                column = columns.stop
            start = stop

        # --- Functional Model ---
        inputs = backbone.declare_inputs()
        hidden = backbone(inputs)
        inputs["masked_tokens"] = keras.Input((None,), dtype="int32", name="masked_tokens")
        outputs = {"mlm": mlm_head(hidden["sequence"], inputs["masked_tokens"]), "itm": itm_head(hidden["pooled"])}
        if column:
            inputs["masked_patches"] = keras.Input((column,), dtype="int32", name="masked_patches")
        for level in backbone.levels:
            masked = [inputs["masked_patches"]] if level.answer == "feature" else []
            outputs[level.name] = level_heads[level.name](hidden["sequence"], *masked)
        super().__init__(inputs=inputs, outputs=outputs, name=self.kind)

        # --- Config ---
        self.backbone = backbone


class Classifier(TaskModel):
    """Category or subcategory recognition: {"label": logits [B, C]}, dropout and dense on the pooled output."""

    kind = "classifier"
    options = ("num_classes", "dropout")

    def __init__(self, backbone: Backbone, num_classes: int, dropout: float = 0.1):
        # --- Layers ---
        label_dropout = Dropout(dropout, seed_for(backbone.seed, "label_dropout"), dtype=backbone.precision, name="label_dropout")
        label_head = keras.layers.Dense(
            num_classes, kernel_initializer=truncated_normal(NEW_HEAD_RANGE, backbone.seed, "head_label"), dtype="float32",
            name="head_label")

        # --- Functional Model ---
        inputs = backbone.declare_inputs()
        outputs = {"label": label_head(label_dropout(backbone(inputs)["pooled"]))}
        super().__init__(inputs=inputs, outputs=outputs, name=self.kind)

        # --- Config ---
        self.backbone, self.num_classes, self.dropout = backbone, num_classes, dropout


class Matcher(TaskModel):
    """Does the text belong to the picture: {"itm": logits [B, 2]}, column 1 = yes.

    head: "plain", that of pre-training; two of our own: "product" (heads.ProductHead) and "contrast" (contrast.ContrastHead),
    which also answers "text_side" and "picture_side" [B, H]. Raises UserError for another.
    """

    kind = "matcher"
    options = ("head",)

    def __init__(self, backbone: Backbone, head: str = "plain"):
        if head not in MATCHING_HEADS:
            raise UserError(f"unknown head {head!r}", "the matcher", " or ".join(MATCHING_HEADS))

        # --- Layers ---
        settings = (backbone.initializer_range, seed_for(backbone.seed, f"head_{head}"))
        if head == "plain":
            layer = _two_way(backbone)
        elif head == "product":
            layer = ProductHead(*settings, dtype=backbone.precision, name="head_product")
        else:
            slices = kaleido.patch_slices(backbone.levels).values()
            layer = ContrastHead(slices, *settings, dtype=backbone.precision, name="head_contrast")

        # --- Functional Model ---
        inputs = backbone.declare_inputs()
        hidden = backbone(inputs)
        sides = {}
        if head == "plain":
            logits = layer(hidden["pooled"])
        elif head == "product":
            logits = layer(hidden["sequence"], hidden["pooled"], inputs["token_mask"])
        else:
            logits, *both = layer(hidden["embedded"], hidden["sequence"], hidden["pooled"], inputs["token_mask"])
            sides = dict(zip(("text_side", "picture_side"), both))
        super().__init__(inputs=inputs, outputs={"itm": logits, **sides}, name=self.kind)

        # --- Config ---
        self.backbone, self.head = backbone, head


KINDS = {model.kind: model for model in (Backbone, Pretrainer, Classifier, Matcher)}


def rebuild(meta: Mapping[str, Any], precision: str | None = None) -> KaleidoModel:
    """The model that a checkpoint's meta describes, with start weights; precision: another than it was trained with.

    Raises UserError where the checkpoint holds none of these models.
    """
    if meta.get("kind") not in KINDS:
        raise UserError(f"the checkpoint holds a {meta.get('kind')!r}", "model", " or ".join(KINDS))
    config = dict(meta["config"])
    if precision and "backbone" in config:
        config["backbone"] = config["backbone"] | {"precision": precision}
    elif precision:
        config["precision"] = precision
    return KINDS[meta["kind"]].from_config(config)


def pretrainer(config: Mapping[str, Any]) -> Pretrainer:
    """A Pretrainer from the backbone's arguments; levels as KaleidoLevel or as dicts."""
    return Pretrainer(Backbone.from_config(config))


def classifier(config: Mapping[str, Any], num_classes: int, dropout: float = 0.1) -> Classifier:
    """A Classifier from the backbone's arguments."""
    return Classifier(Backbone.from_config(config), num_classes, dropout)


def matcher(config: Mapping[str, Any], head: str = "plain") -> Matcher:
    """A Matcher from the backbone's arguments."""
    return Matcher(Backbone.from_config(config), head)


def _two_way(backbone: Backbone) -> keras.layers.Dense:
    initializer = truncated_normal(backbone.initializer_range, backbone.seed, "head_itm")
    return keras.layers.Dense(2, kernel_initializer=initializer, dtype="float32", name="head_itm")
