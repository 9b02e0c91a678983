"""The backbone of Kaleido-BERT (paper, section 3): text and patches in one sequence, one encoder over both.

Every layer is named, so that a variable has the same path in every task and in every process.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from inspect import signature
from typing import Any

import keras
import numpy as np

from kaleidobert import levels as kaleido
from kaleidobert.errors import UserError
from kaleidobert.layers.core import seed_for, truncated_normal
from kaleidobert.layers.embeddings import FeatureStandardizer, PatchEmbedding, TextEmbedding
from kaleidobert.layers.encoder import AttentionMask, EncoderBlock, Pooler
from kaleidobert.levels import KALEIDO, KaleidoLevel
from kaleidobert.specs import Tensor

RELEASED_TYPE_ROWS = 6  # rows of a released type table; a longer level table gets longer ones


class KaleidoModel(keras.Model):
    """The base of all models: picks its inputs by name, and describes itself for checkpoints."""

    kind = ""

    def __call__(self, inputs, *args, **kwargs):
        """Passes the inputs that the model declares and no others, as Keras would mix them up.

        Raises UserError where one is missing, and for texts longer than text_length.
        """
        missing = [name for name in self.input if name not in inputs]
        if missing:
            raise UserError(f"there is no {', '.join(missing)}", f"inputs of the {self.kind}", ", ".join(self.input))
        tokens, max_length = inputs["token_ids"], getattr(self, "backbone", self).text_length
        length = (tokens.shape if hasattr(tokens, "shape") else np.shape(tokens))[1]
        if length is not None and length > max_length:
            raise UserError(f"texts of {length} word pieces", f"inputs of the {self.kind}", f"at most {max_length}")
        return super().__call__({name: inputs[name] for name in self.input}, *args, **kwargs)

    def describe(self) -> dict[str, Any]:
        """Returns kind, config, and identity: what weights mean beyond their names and shapes. JSON-able."""
        backbone: Any = getattr(self, "backbone", self)
        levels = [[level.name, level.grid, level.pretext] for level in backbone.levels]
        return {"kind": self.kind, "config": self.get_config(), "identity": {"num_heads": backbone.num_heads, "levels": levels}}


class Backbone(KaleidoModel):
    """Embeddings, encoder and pooler: {"embedded", "sequence": [B, T+P, H] before and after the encoder, "pooled": [B, H]}.

    Inputs: token_ids, segment_ids, token_mask int or bool [B, T], T at most text_length; patch_features [B, P, F], already spoiled;
    patch_boxes [B, P, 5]. The order in the sequence is text, then the levels in the order of their table.
    patch_type_vocabulary_size: rows of each level's type table; level k reads row k, counted from 1; 0 = as many as needed.
    standardise_features: features pass through FeatureStandardizer first; adapt_features measures its scale on a sample.
    precision: a Keras dtype policy; None = Keras's global one. seed: of start weights and dropout. gradient_checkpointing: EncoderBlock's
    checkpointed; it belongs to a run, not to the weights, and is not in the configuration.
    Raises UserError for sizes that do not fit together.
    """

    kind = "backbone"

    def __init__(self, levels: Sequence[KaleidoLevel] = KALEIDO, feature_size: int = 2048, vocabulary_size: int = 30522,
                 text_length: int = 64, hidden_size: int = 768, num_layers: int = 12, num_heads: int = 12,
                 intermediate_size: int = 3072, max_positions: int = 512, type_vocabulary_size: int = 2,
                 patch_type_vocabulary_size: int = 0, dropout: float = 0.1, attention_dropout: float = 0.1,
                 initializer_range: float = 0.02, standardise_features: bool = False, seed: int = 0, precision: str | None = None,
                 gradient_checkpointing: bool = False):
        levels = kaleido.check(levels)
        _check_sizes(text_length, max_positions, hidden_size, num_heads)
        type_rows = patch_type_vocabulary_size or max(RELEASED_TYPE_ROWS, len(levels) + 1)
        policy = keras.dtype_policies.get(precision or keras.config.dtype_policy())

        # --- Layers ---
        def seeded(layer, *sizes, name):
            return layer(*sizes, initializer_range, seed_for(seed, name), dtype=policy, name=name)

        text_embedding = seeded(TextEmbedding, vocabulary_size, max_positions, type_vocabulary_size, hidden_size, dropout,
                                name="text_embedding")
        box_projection = keras.layers.Dense(  # float32 as in PatchEmbedding
            hidden_size, use_bias=False, kernel_initializer=truncated_normal(initializer_range, seed, "box_projection"),
            dtype="float32", name="box_projection")
        slices = kaleido.patch_slices(levels)
        patch_embeddings = [seeded(PatchEmbedding, slices[level.name], row, type_rows, hidden_size, dropout,
                                   name=f"patches_{level.name}") for row, level in enumerate(levels, start=1)]
        blocks = [seeded(EncoderBlock, num_heads, intermediate_size, dropout, attention_dropout, name=f"encoder_{index}")
                  for index in range(num_layers)]
        for block in blocks:
            block.checkpointed = gradient_checkpointing
        pooler = seeded(Pooler, name="pooler")
        join = keras.layers.Concatenate(axis=1, dtype=policy, name="sequence_embedding")
        mask = AttentionMask(kaleido.num_patches(levels), dtype=policy, name="attention_mask")
        scale = [FeatureStandardizer(name="feature_scale")] if standardise_features else []

        # --- Functional Model ---
        inputs = _inputs(kaleido.num_patches(levels), feature_size)
        layers = {layer.name: layer for layer in (text_embedding, box_projection, *patch_embeddings, *blocks, pooler, join, *scale)}
        super().__init__(inputs=inputs, outputs=_connect(layers, levels, num_layers, inputs, mask), name=self.kind)

        # --- Config ---
        self.levels, self.feature_size, self.vocabulary_size = levels, feature_size, vocabulary_size
        self.text_length, self.hidden_size, self.num_layers, self.num_heads = text_length, hidden_size, num_layers, num_heads
        self.intermediate_size, self.max_positions = intermediate_size, max_positions
        self.type_vocabulary_size, self.patch_type_vocabulary_size = type_vocabulary_size, type_rows
        self.dropout, self.attention_dropout, self.initializer_range = dropout, attention_dropout, initializer_range
        self.standardise_features, self.seed, self.precision = standardise_features, seed, policy.name

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments except gradient_checkpointing, JSON-able."""
        config = {name: getattr(self, name) for name in signature(Backbone).parameters if name != "gradient_checkpointing"}
        return config | {"levels": [asdict(level) for level in self.levels]}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> "Backbone":
        """Makes a backbone from the constructor's arguments; levels as KaleidoLevel or as dicts. Raises UserError for an unknown key."""
        known = list(signature(Backbone).parameters)
        for key in config:
            if key not in known:
                near = get_close_matches(key, known, 1)
                raise UserError(f"unknown key {key!r}", "the backbone's configuration", near[0] if near else ", ".join(known))
        levels = [level if isinstance(level, KaleidoLevel) else KaleidoLevel(**level)
                  for level in config.get("levels", KALEIDO)]
        return cls(**(dict(config) | {"levels": levels}))

    def adapt_features(self, features: np.ndarray) -> None:
        """Measures the scale of the features on a sample [N, P, F], where there is one that is not measured yet."""
        for layer in self.unadapted:
            layer.adapt(features)

    @property
    def unadapted(self) -> list[FeatureStandardizer]:
        """Layers whose scale of features is not measured."""
        return [layer for layer in self.layers if isinstance(layer, FeatureStandardizer) and not layer.adapted]

    def scale_features(self, features):
        """Standardises features where the backbone does so; the embeddings take the result."""
        return self.get_layer("feature_scale")(features) if self.standardise_features else features

    def causal(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Computes the outputs of a call, by the same layers under a causal AttentionMask."""
        mask = AttentionMask(self.num_patches, self.text_length, dtype=self.precision, name="causal_mask")
        return _connect({layer.name: layer for layer in self.layers}, self.levels, self.num_layers, inputs, mask)

    def apart(self, embedded, token_mask):
        """Computes [B, T+P, H]: what the encoder makes of "embedded" while text and patches do not attend to each other (ours)."""
        mask = AttentionMask(self.num_patches, apart=True, dtype=self.precision, name="apart_mask")
        return _encode({layer.name: layer for layer in self.layers}, self.num_layers, embedded, mask(token_mask))

    def embed_patches(self, features, boxes):
        """Computes [B, P, H]: the patches' positions of "embedded"."""
        layers = {layer.name: layer for layer in self.layers}
        return layers["sequence_embedding"](_patches(layers, self.levels, features, boxes))

    @property
    def num_patches(self) -> int:
        return kaleido.num_patches(self.levels)

    def declare_inputs(self) -> dict[str, keras.KerasTensor]:
        """Makes symbolic inputs for a model on top of this one."""
        return _inputs(self.num_patches, self.feature_size)


def _connect(layers: Mapping[str, keras.layers.Layer], levels: Sequence[KaleidoLevel], num_layers: int, inputs: Mapping[str, Any],
             mask: AttentionMask) -> dict[str, Any]:
    embeddings = [layers["text_embedding"](inputs["token_ids"], inputs["segment_ids"])]
    embeddings += _patches(layers, levels, inputs["patch_features"], inputs["patch_boxes"])
    embedded = layers["sequence_embedding"](embeddings)  # [B, T+P, H]
    hidden = _encode(layers, num_layers, embedded, mask(inputs["token_mask"]))
    return {"embedded": embedded, "sequence": hidden, "pooled": layers["pooler"](hidden)}


def _encode(layers: Mapping[str, keras.layers.Layer], num_layers: int, hidden: Tensor, bias: Tensor) -> Tensor:
    for number in range(num_layers):
        hidden = layers[f"encoder_{number}"](hidden, bias)
    return hidden


def _patches(layers: Mapping[str, keras.layers.Layer], levels: Sequence[KaleidoLevel], features: Tensor, boxes: Tensor) -> list[Any]:
    """Embeds the patches of every level: a list of [B, n, H]."""
    boxes = layers["box_projection"](boxes)  # [B, P, H]
    if "feature_scale" in layers:
        features = layers["feature_scale"](features)
    return [layers[f"patches_{level.name}"](features, boxes) for level in levels]


def _inputs(num_patches: int, feature_size: int) -> dict[str, keras.KerasTensor]:
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in ("token_ids", "segment_ids", "token_mask")}
    # Keras converts inputs to these types: float32 is exact for float16 banks and for released float32 files
    inputs["patch_features"] = keras.Input((num_patches, feature_size), dtype="float32", name="patch_features")
    inputs["patch_boxes"] = keras.Input((num_patches, 5), dtype="float32", name="patch_boxes")
    return inputs


def _check_sizes(text_length: int, max_positions: int, hidden_size: int, num_heads: int) -> None:
    if not 1 <= text_length <= max_positions:
        raise UserError(f"text_length is {text_length}", "the backbone", f"1 to max_positions, which is {max_positions}")
    if num_heads < 1 or hidden_size % num_heads:
        raise UserError(f"hidden_size {hidden_size} does not divide into {num_heads} heads", "the backbone",
                        "a multiple of num_heads")
