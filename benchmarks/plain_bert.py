"""A plain Keras BERT of the same size, at the same seven tasks: Keras's own layers, put together as its guides do.

What our network does beyond that (one product for query, key and value; look-ups by products; float32 only where it must be) shows in
the difference. Not for use: it has none of the release's details.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import layers, ops

from kaleidobert import levels as kaleido
from kaleidobert.levels import KaleidoLevel


class Words(layers.Layer):
    """Word, position and segment embeddings of a text, added: int[B, T] -> [B, T, H]."""

    def __init__(self, sizes: Mapping[str, Any], **kwargs):
        super().__init__(**kwargs)
        self.words = layers.Embedding(sizes["vocabulary_size"], sizes["hidden_size"], dtype=self.dtype_policy)
        self.positions = layers.Embedding(sizes["max_positions"], sizes["hidden_size"], dtype=self.dtype_policy)
        self.segments = layers.Embedding(2, sizes["hidden_size"], dtype=self.dtype_policy)

    def call(self, token_ids, segment_ids):
        return self.words(token_ids) + self.positions(ops.arange(token_ids.shape[1])) + self.segments(segment_ids)


class Masked(layers.Layer):
    """The hidden states at some positions: [B, S, H], int[B, K] -> [B, K, H]."""

    def call(self, sequence, positions):
        return ops.take_along_axis(sequence, ops.expand_dims(positions, -1), axis=1)


class Seen(layers.Layer):
    """The mask that MultiHeadAttention takes: token_mask int[B, T] -> bool[B, 1, T + P]."""

    def __init__(self, num_patches: int, **kwargs):
        super().__init__(**kwargs)
        self.num_patches = num_patches

    def call(self, token_mask):
        return ops.expand_dims(ops.cast(ops.pad(token_mask, [[0, 0], [0, self.num_patches]], constant_values=1), "bool"), 1)


def plain_bert(sizes: Mapping[str, Any], levels: Sequence[KaleidoLevel]) -> tuple[keras.Model, keras.Model]:
    """Returns (pre-training model with our model's inputs and outputs, matching model that shares its layers); sizes: our backbone's
    arguments.

    Computes in sizes["precision"].
    """
    policy, hidden_size, length = keras.dtype_policies.get(sizes["precision"]), sizes["hidden_size"], sizes["text_length"]
    patches = kaleido.num_patches(levels)
    inputs = {name: keras.Input((length,), dtype="int32", name=name) for name in ("token_ids", "segment_ids", "token_mask")}
    inputs["patch_features"] = keras.Input((patches, sizes["feature_size"]), name="patch_features")
    inputs["patch_boxes"] = keras.Input((patches, 5), name="patch_boxes")

    pictures = layers.Dense(hidden_size, use_bias=False, dtype=policy)(inputs["patch_features"])
    pictures = pictures + layers.Dense(hidden_size, use_bias=False, dtype=policy)(inputs["patch_boxes"])
    words = Words(sizes, dtype=policy)(inputs["token_ids"], inputs["segment_ids"])
    hidden = layers.LayerNormalization(dtype=policy)(layers.Concatenate(axis=1, dtype=policy)([words, pictures]))
    hidden = layers.Dropout(sizes["dropout"], dtype=policy)(hidden)
    seen = Seen(patches)(inputs["token_mask"])
    for _ in range(sizes["num_layers"]):
        hidden = _block(hidden, seen, sizes, policy)
    pooled = layers.Dense(hidden_size, "tanh", dtype=policy)(hidden[:, 0])
    itm = layers.Dense(2, dtype="float32")(pooled)
    matching = keras.Model(dict(inputs), {"itm": itm})

    inputs["masked_tokens"] = keras.Input((None,), dtype="int32", name="masked_tokens")
    predicted = layers.Dense(hidden_size, "gelu", dtype=policy)(Masked(dtype=policy)(hidden, inputs["masked_tokens"]))
    mlm = layers.Dense(sizes["vocabulary_size"], dtype=policy)(layers.LayerNormalization(dtype=policy)(predicted))
    outputs = {"mlm": mlm, "itm": itm, **_levels(hidden, inputs, sizes, levels, policy)}
    return keras.Model(inputs, outputs), matching


def _block(hidden, seen, sizes: Mapping[str, Any], policy):
    attention = layers.MultiHeadAttention(sizes["num_heads"], sizes["hidden_size"] // sizes["num_heads"],
                                          dropout=sizes["attention_dropout"], dtype=policy)
    attended = layers.Dropout(sizes["dropout"], dtype=policy)(attention(hidden, hidden, attention_mask=seen))
    hidden = layers.LayerNormalization(dtype=policy)(hidden + attended)
    fed = layers.Dense(sizes["intermediate_size"], "gelu", dtype=policy)(hidden)
    fed = layers.Dropout(sizes["dropout"], dtype=policy)(layers.Dense(sizes["hidden_size"], dtype=policy)(fed))
    return layers.LayerNormalization(dtype=policy)(hidden + fed)


def _levels(hidden, inputs: dict[str, Any], sizes: Mapping[str, Any], levels: Sequence[KaleidoLevel], policy) -> dict[str, Any]:
    outputs, start, column = {}, sizes["text_length"], 0
    columns = sum(level.num_masked for level in levels if level.answer == "feature")
    if columns:
        inputs["masked_patches"] = keras.Input((columns,), dtype="int32", name="masked_patches")
    for level in levels:
        stop = start + level.num_patches
        if level.answer == "class":
            flat = layers.Flatten(dtype=policy)(hidden[:, start:stop])
            outputs[level.name] = layers.Dense(level.num_classes, dtype="float32")(flat)
        else:
            positions = inputs["masked_patches"][:, column : column + level.num_masked] + sizes["text_length"]
            outputs[level.name] = layers.Dense(sizes["feature_size"], use_bias=False, dtype=policy)(Masked(dtype=policy)(hidden, positions))
            column += level.num_masked
        start = stop
    return outputs
