"""Kaleido-BERT's tasks: heads on top of one backbone.

Layers named "head_..." have all the variables that belong to a task alone; checkpoints.transfer relies on that name.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from kaleidobert import levels as kaleido
from kaleidobert.errors import UserError
from kaleidobert.layers.core import Dropout, seed_for, truncated_normal
from kaleidobert.layers.embeddings import FeatureStandardizer
from kaleidobert.layers.heads import (
    ContrastiveHead,
    ContrastiveMatch,
    DualEncoder,
    DualEncoderHead,
    LevelClassHead,
    LevelFeatureHead,
    LevelMeans,
    MaskedTokenHead,
    ProductHead,
    WordBag,
)
from kaleidobert.model_zoo.backbone import Backbone, KaleidoModel


class TaskModel(KaleidoModel):
    """A backbone with heads; its configuration is {"backbone": the backbone's} and the arguments named in ``options``."""

    options: tuple[str, ...] = ()

    def get_config(self) -> dict[str, Any]:
        return {"backbone": self.backbone.get_config()} | {name: getattr(self, name) for name in self.options}

    @property
    def unadapted(self) -> list[keras.layers.Layer]:
        """Layers of backbone and heads whose scale of features is not measured."""
        return self.backbone.unadapted + [layer for layer in self.layers if isinstance(layer, (LevelMeans, DualEncoder))
                                           and not layer.adapted]

    def adapt_features(self, features: np.ndarray) -> None:
        """Measures the scales of ``unadapted`` on a sample [N, P, F]."""
        layers = self.unadapted
        self.backbone.adapt_features(features)
        for layer in layers:
            if not isinstance(layer, FeatureStandardizer):
                layer.adapt(self.backbone.scale_features(features))

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> "TaskModel":
        options = {name: value for name, value in config.items() if name != "backbone"}
        return cls(Backbone.from_config(config["backbone"]), **options)


CONTRASTIVE = "head_contrastive"  # the name of the ContrastiveHead layer
CONTRASTIVE_MATCH = "head_contrastive_match"
DUAL_ENCODER = "head_towers"  # the name of the DualEncoder layer in a matcher with head "dual_encoder"
LABEL_HEADS = ("plain", "wide")
MATCHING_HEADS = ("plain", "product", "contrastive", "dual_encoder")
CAPTION_MODES = ("mask-all", "mask-predict", "causal")
NEW_HEAD_RANGE = 0.01  # standard deviation of a fine-tuning head's start weights, as released
WIDE_RANGE = 1e-4  # of head "wide": the linear models start near 0


class Pretrainer(TaskModel):
    """The pre-training model: {"mlm": [B, M, V], "itm": [B, 2], "class" level: [B, C], "feature" level: [B, k, F]} are logits; a level
    without a pretext has no head.
    contrastive (ours): also {"itc": f32[B, 2, H]}, the two sides that have not met (ContrastiveHead), of which itm knows, and
    "own" [B, 2], the matching logits of [CLS] without them.

    Inputs: the backbone's, masked_tokens int[B, M] (positions in the text, M free), masked_patches int[B, K] (positions on
    the patch axis, of all "feature" levels in their order). itm: column 1 = text and picture match.
    """

    kind = "pretrainer"
    options = ("contrastive",)

    def __init__(self, backbone: Backbone, contrastive: bool = False):
        # --- Layers ---
        def head(layer, *sizes, name):
            return layer(*sizes, backbone.initializer_range, seed_for(backbone.seed, name), dtype=backbone.precision, name=name)

        mlm_head = head(MaskedTokenHead, backbone.get_layer("text_embedding"), name="head_mlm")
        itm_head = _two_way(backbone)
        level_heads, start, column = {}, -backbone.num_patches, 0  # counted from the end
        for level in backbone.levels:
            name, stop = f"head_level_{level.name}", start + level.num_patches
            if level.answer == "class":
                level_heads[level.name] = head(LevelClassHead, slice(start, stop or None), level.num_classes, name=name)
            elif level.answer == "feature":
                columns = slice(column, column + level.num_masked)
                level_heads[level.name] = head(LevelFeatureHead, columns, backbone.num_patches, backbone.feature_size, name=name)
                column = columns.stop
            start = stop

        # --- Functional Model ---
        inputs = backbone.declare_inputs()
        hidden = backbone(inputs)
        inputs["masked_tokens"] = keras.Input((None,), dtype="int32", name="masked_tokens")
        outputs = {"mlm": mlm_head(hidden["sequence"], inputs["masked_tokens"]), "itm": itm_head(hidden["pooled"])}
        if column:
            inputs["masked_patches"] = keras.Input((column,), dtype="int32", name="masked_patches")
        for level in kaleido.target_levels(backbone.levels):
            masked = [inputs["masked_patches"]] if level.answer == "feature" else []
            outputs[level.name] = level_heads[level.name](hidden["sequence"], *masked)
        if contrastive:
            outputs["own"] = outputs["itm"]
            outputs["itm"], outputs["itc"] = _with_sides(backbone, hidden, inputs["token_mask"], outputs["own"])
        super().__init__(inputs=inputs, outputs=outputs, name=self.kind)

        # --- Config ---
        self.backbone, self.contrastive = backbone, contrastive

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments; without contrast the paper's model is described as ever."""
        return {name: value for name, value in super().get_config().items() if name != "contrastive" or value}


class Classifier(TaskModel):
    """Category or subcategory recognition: {"label": logits [B, C]}, dropout and dense on the pooled output.

    head: "plain" as in the paper, or "wide" (ours): the logits of linear models on the mean features of each level, with dropout
    ``feature_dropout``, and on the words are added (layers.heads); outputs "own" of the encoder and "linear", [B, C] each, are
    what is added. Raises UserError for another.
    """

    kind = "classifier"
    options = ("num_classes", "dropout", "head", "feature_dropout")

    def __init__(self, backbone: Backbone, num_classes: int, dropout: float = 0.1, head: str = "plain", feature_dropout: float = 0.5):
        if head not in LABEL_HEADS:
            raise UserError(f"unknown head {head!r}", "the classifier", " or ".join(LABEL_HEADS))

        # --- Layers ---
        label_dropout = Dropout(dropout, seed_for(backbone.seed, "label_dropout"), dtype=backbone.precision, name="label_dropout")
        label_head = keras.layers.Dense(
            num_classes, kernel_initializer=truncated_normal(NEW_HEAD_RANGE, backbone.seed, "head_label"), dtype="float32",
            name="head_label")

        # --- Functional Model ---
        inputs = backbone.declare_inputs()
        logits, more = label_head(label_dropout(backbone(inputs)["pooled"])), {}
        if head == "wide":
            slices = list(kaleido.patch_slices(backbone.levels).values())
            seeds = [seed_for(backbone.seed, name) for name in ("head_features", "head_words")]
            of_features = LevelMeans(slices, num_classes, feature_dropout, seeds[0], WIDE_RANGE, rescale=False, name="head_features")
            of_words = WordBag(backbone.vocabulary_size, num_classes, seeds[1], WIDE_RANGE, name="head_words")
            features = inputs["patch_features"]
            seen = ops.any(ops.not_equal(features, 0.0), axis=-1)  # a hidden patch, all zeros, would bias the mean of its level
            means, words = of_features(backbone.scale_features(features), seen), of_words(inputs["token_ids"], inputs["token_mask"])
            more = {"own": logits, "linear": means + words}
            logits = logits + means + words
        super().__init__(inputs=inputs, outputs={"label": logits, **more}, name=self.kind)

        # --- Config ---
        self.backbone, self.num_classes, self.dropout = backbone, num_classes, dropout
        self.head, self.feature_dropout = head, feature_dropout


class Matcher(TaskModel):
    """Image-text matching: {"itm": logits [B, 2]}, column 1 = text and picture match.

    head: "plain", that of pre-training; three of our own: "product" (heads.ProductHead); "contrastive", that of a pre-training with
    image-text contrast, which also answers "own" [B, 2], without contrast; and "dual_encoder" (heads.DualEncoderHead on DualEncoder of
    ``width``), beside "own" [B, 2], the head "contrastive" alone. feature_dropout: of the towers. Raises UserError for another.
    """

    kind = "matcher"
    options = ("head", "width", "feature_dropout")

    def __init__(self, backbone: Backbone, head: str = "plain", width: int = 512, feature_dropout: float = 0.3):
        if head not in MATCHING_HEADS:
            raise UserError(f"unknown head {head!r}", "the matcher", " or ".join(MATCHING_HEADS))

        # --- Layers ---
        seed = seed_for(backbone.seed, f"head_{head}")
        if head == "product":
            layer = ProductHead(backbone.initializer_range, seed, dtype=backbone.precision, name="head_product")
        else:
            layer = _two_way(backbone)

        # --- Functional Model ---
        inputs = backbone.declare_inputs()
        hidden = backbone(inputs)
        more = {}
        if head == "product":
            logits = layer(hidden["sequence"], hidden["pooled"], inputs["token_mask"])
        else:
            logits = layer(hidden["pooled"])
        if head in ("contrastive", "dual_encoder"):
            more["own"] = logits
            logits, _ = _with_sides(backbone, hidden, inputs["token_mask"], logits)
        if head == "dual_encoder":
            more["own"] = logits
            towers = DualEncoder(list(kaleido.patch_slices(backbone.levels).values()), backbone.vocabulary_size, width, feature_dropout,
                                 seed, name=DUAL_ENCODER)
            sides = towers(backbone.scale_features(inputs["patch_features"]), inputs["token_ids"], inputs["token_mask"])
            logits = DualEncoderHead(name="head_dual_encoder")(*sides, logits)
        super().__init__(inputs=inputs, outputs={"itm": logits, **more}, name=self.kind)

        # --- Config ---
        self.backbone, self.head, self.width, self.feature_dropout = backbone, head, width, feature_dropout


class Captioner(TaskModel):
    """Captioning: {"pieces": logits [B, N, V] of the pieces at, or in "causal" mode after, ``predict_positions`` int[B, N]} by the MLM head
    of pre-training, and unless causal "length": logits [B, T-2] of a text of 1, 2, ... pieces, whose input is an empty text
    ([CLS] [SEP]), which does not reveal the length.

    mode: "mask-all" and "mask-predict" are one network, trained on other masks; "causal" has causal attention. Its pooler is unused, and
    there so that checkpoints of the other modes fit. Raises UserError for another mode, and for texts too short for one piece.
    """

    kind = "captioner"
    options = ("mode",)

    def __init__(self, backbone: Backbone, mode: str = "mask-all"):
        if mode not in CAPTION_MODES or backbone.text_length < 3:
            raise UserError(f"mode {mode!r}, {backbone.text_length} pieces of text", "the captioner",
                            f"{' or '.join(CAPTION_MODES)}, and at least 3 pieces: [CLS], one, [SEP]")

        # --- Layers ---
        settings = (backbone.initializer_range, seed_for(backbone.seed, "head_mlm"))  # those of pre-training
        mlm_head = MaskedTokenHead(backbone.get_layer("text_embedding"), *settings, dtype=backbone.precision, name="head_mlm")
        length_head = keras.layers.Dense(
            backbone.text_length - 2, kernel_initializer=truncated_normal(NEW_HEAD_RANGE, backbone.seed, "head_length"),
            dtype="float32", name="head_length")

        # --- Functional Model ---
        inputs = backbone.declare_inputs()
        hidden = backbone.causal(inputs) if mode == "causal" else backbone(inputs)
        inputs["predict_positions"] = keras.Input((None,), dtype="int32", name="predict_positions")
        outputs = {"pieces": mlm_head(hidden["sequence"], inputs["predict_positions"])}
        if mode != "causal":
            outputs["length"] = length_head(hidden["pooled"])
        super().__init__(inputs=inputs, outputs=outputs, name=self.kind)

        # --- Config ---
        self.backbone, self.mode = backbone, mode


KINDS = {model.kind: model for model in (Backbone, Pretrainer, Classifier, Matcher, Captioner)}


def rebuild(meta: Mapping[str, Any], precision: str | None = None) -> KaleidoModel:
    """Makes the model that a checkpoint's meta describes, with start weights; precision: in place of that of the training.

    Raises UserError where the checkpoint has none of these models.
    """
    if meta.get("kind") not in KINDS:
        raise UserError(f"the checkpoint holds a {meta.get('kind')!r}", "model", " or ".join(KINDS))
    config = dict(meta["config"])
    if precision and "backbone" in config:
        config["backbone"] = config["backbone"] | {"precision": precision}
    elif precision:
        config["precision"] = precision
    return KINDS[meta["kind"]].from_config(config)


def pretrainer(config: Mapping[str, Any], contrastive: bool = False) -> Pretrainer:
    """Makes a Pretrainer from the backbone's arguments; levels as KaleidoLevel or as dicts."""
    return Pretrainer(Backbone.from_config(config), contrastive)


def classifier(config: Mapping[str, Any], num_classes: int, dropout: float = 0.1, head: str = "plain",
               feature_dropout: float = 0.5) -> Classifier:
    """Makes a Classifier from the backbone's arguments."""
    return Classifier(Backbone.from_config(config), num_classes, dropout, head, feature_dropout)


def matcher(config: Mapping[str, Any], head: str = "plain", width: int = 512, feature_dropout: float = 0.3) -> Matcher:
    """Makes a Matcher from the backbone's arguments."""
    return Matcher(Backbone.from_config(config), head, width, feature_dropout)


def captioner(config: Mapping[str, Any], mode: str = "mask-all") -> Captioner:
    """Makes a Captioner from the backbone's arguments."""
    return Captioner(Backbone.from_config(config), mode)


def _with_sides(backbone: Backbone, hidden: Mapping[str, Any], token_mask: Any, logits: Any) -> tuple[Any, Any]:
    """Returns (matching logits [B, 2] that know the two sides apart, the sides [B, 2, H]). hidden: the outputs of the backbone."""
    head = ContrastiveHead(backbone.initializer_range, seed_for(backbone.seed, CONTRASTIVE), name=CONTRASTIVE)
    sides = head(backbone.apart(hidden["embedded"], token_mask), token_mask)
    return ContrastiveMatch(name=CONTRASTIVE_MATCH)(logits, sides), sides


def _two_way(backbone: Backbone) -> keras.layers.Dense:
    initializer = truncated_normal(backbone.initializer_range, backbone.seed, "head_itm")
    return keras.layers.Dense(2, kernel_initializer=initializer, dtype="float32", name="head_itm")
