"""The word grounder: learns from texts alone which cells of a picture a single word belongs to; the captioner then copies it.

Ours, not the paper's: see layers/caption_attention.py. It is trained apart from the captioner, as the two need different numbers of steps:
a captioner overfits its texts long before the attention of words has converged.
"""

from inspect import signature
from typing import Any

import keras
from keras import ops

from kaleidobert.layers.caption_attention import GridEncoder, WordAttention, WordPredictor
from kaleidobert.layers.embeddings import FeatureStandardizer
from kaleidobert.specs import ALONG_CAPTION


class WordGrounder(keras.Model):
    """The network that learns which words show where (ours); datasets/sampling/captions.py makes what it is trained on.

    Outputs: {"cooccurrence_labels": f32[B, T, K], "presence_labels": f32[B, C], "word_attention": f32[B, T, N]}.
    Inputs: pieces int[B, T], candidates i32[B, C], and grid f[B, N, F] of a frozen network or, where picture_size is not 0,
    picture uint8[B, s, s, 3], which an encoder that is trained along turns into N = grid x grid cells of F features, near = 0. The first
    two outputs are logits of layers.caption_attention.WordPredictor; "word_attention" is the attention of each piece by itself.
    near: the number of features, the first ones, that are of early layers, whose receptive field is little more than the cell; words
    attend to these alone. 0 = all. num_context_words: how many words are predicted.
    """

    kind = "word_grounder"
    free_axes = dict.fromkeys(ALONG_CAPTION, (1,))

    def __init__(
        self,
        vocabulary_size: int,
        feature_size: int,
        num_context_words: int,
        grid: int = 14,
        picture_size: int = 0,
        near: int = 0,
        attention_size: int = 64,
        context_size: int = 128,
        dropout: float = 0.3,
        seed: int = 0,
    ):
        super().__init__(name=self.kind)
        self.encoder = GridEncoder(feature_size, grid, seed, name="encoder") if picture_size else None
        self.cell_norm = keras.layers.LayerNormalization(name="cell_norm") if picture_size else FeatureStandardizer(name="cell_norm")
        self.word_attention = WordAttention(vocabulary_size, grid * grid, attention_size, seed, name="word_attention")
        self.predictor = WordPredictor(vocabulary_size, num_context_words, context_size, dropout, seed, name="predictor")
        self.vocabulary_size, self.feature_size, self.num_context_words, self.grid = vocabulary_size, feature_size, num_context_words, grid
        self.picture_size, self.near, self.seed = picture_size, near or feature_size, seed
        self.attention_size, self.context_size, self.dropout = attention_size, context_size, dropout
        self.build()

    def build(self, inputs_shape: Any = None) -> None:
        """Makes every variable; the constructor has all sizes."""
        if self.encoder is not None:
            self.encoder.build((None, self.picture_size, self.picture_size, 3))
        for layer in (self.cell_norm, self.word_attention, self.predictor):
            layer.build((None, None, self.near))

    def call(self, inputs, training=False):
        near = self.cells(inputs, training)
        keys, pieces, others = self.word_attention.keys(near), inputs["pieces"], inputs["candidates"]
        word_attention, others_attention = (
            ops.softmax(self.word_attention.energy(keys, self.word_attention.queries(words))) for words in (pieces, others)
        )
        return {
            "cooccurrence_labels": self.predictor.cooccurrence(self.predictor.attend(near, word_attention, pieces, training), pieces),
            "presence_labels": self.predictor.presence(self.predictor.attend(near, others_attention, others, training), others),
            "word_attention": word_attention,
        }

    def cells(self, inputs, training=False):
        """Computes f32[B, N, near]: the normalised features of the picture's cells."""
        cells = self.encoder(inputs["picture"], training=training) if self.encoder is not None else inputs["grid"][..., : self.near]
        return self.cell_norm(ops.cast(cells, "float32"))

    def adapt_features(self, grid: Any) -> None:
        """Measures, on a sample f[n, N, F], the scale that gives every feature of a frozen grid mean 0 and deviation 1."""
        self.cell_norm.adapt(grid[..., : self.near])

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, JSON-able."""
        return {name: getattr(self, name) for name in signature(WordGrounder).parameters}

    def describe(self) -> dict[str, Any]:
        """Returns kind, config, and identity: what weights mean beyond their names and shapes. JSON-able."""
        return {"kind": self.kind, "config": self.get_config(), "identity": {}}


class Cells(keras.Model):
    """The cells of a trained WordGrounder's encoder: inputs picture uint8[B, s, s, 3], outputs {"cells": f32[B, N, F]}."""

    def __init__(self, grounder: WordGrounder):
        super().__init__(name="cells")
        self.grounder = grounder
        self.built = True

    def call(self, inputs, training=False):
        return {"cells": self.grounder.cells(inputs)}
