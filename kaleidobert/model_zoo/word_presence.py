"""Word presence: where the words of a text are seen, learnt from which texts have them, by multiple-instance learning (ours).

A text says that a picture shows pockets, not where. So every patch is asked for every term; the picture has the term where some patch has
it (a soft maximum), and the patches that carry this answer show where. No box is used, no captioner is needed, and the features are those
of the bank. Three things keep the answer from standing beside the part:

- A linear model on the whole picture answers along. What tells coats from shoes need not be found in a patch.
- Terms compete for a patch: what makes a patch speak for all terms alike counts less (``competition``).
- Several members that start from different weights are averaged.
"""

from inspect import signature
from typing import Any

import keras
import numpy as np
from keras import ops

from kaleidobert.layers.core import Dropout, seed_for
from kaleidobert.layers.embeddings import FeatureStandardizer

CLIP = 6.0  # standardised features lie within plus and minus this
PICTURE_DROPOUT = 0.5  # of the features of the whole picture


class WordPresence(keras.Model):
    """The network that learns which patches show which terms: {"presence": f32[B, M, V]}, logits of M members.

    Inputs: cells f[B, N, F], the features of N patches. num_terms: V. sharpness: b of the soft maximum log(mean(exp(b * x))) / b over the
    patches; near 0 it is the mean. competition: how much of the log of the sum over terms is subtracted from a patch's evidence.
    """

    kind = "word_presence"
    free_axes: dict[str, tuple[int, ...]] = {}

    def __init__(self, num_terms: int, feature_size: int, cells: int, hidden_size: int = 64, members: int = 4, sharpness: float = 1.0,
                 competition: float = 0.5, dropout: float = 0.2, seed: int = 0):
        super().__init__(name=self.kind)

        # --- Layers ---
        def normal(stddev, name):
            return keras.initializers.RandomNormal(stddev=stddev, seed=seed_for(seed, name))

        self.cell_norm = FeatureStandardizer(name="cell_norm")
        self.drop_cells = Dropout(dropout, seed_for(seed, "drop_cells"), name="drop_cells")
        self.hidden = keras.layers.Dense(members * hidden_size, name="hidden", kernel_initializer=normal(feature_size**-0.5, "hidden"))
        self.position_embedding = keras.layers.Embedding(cells, members * hidden_size, "zeros", name="position_embedding")
        # members first: a product of matrices for each, without moving what is as large as all patches times all terms
        self.terms = keras.layers.EinsumDense("mph,mhv->mpv", (None, num_terms), name="terms", kernel_initializer=normal(0.05, "terms"))
        self.drop_picture = Dropout(PICTURE_DROPOUT, seed_for(seed, "drop_picture"), name="drop_picture")
        self.whole = keras.layers.Dense(num_terms, kernel_initializer="zeros", name="whole")

        # --- Config ---
        self.num_terms, self.feature_size, self.num_cells, self.hidden_size = num_terms, feature_size, cells, hidden_size
        self.members, self.sharpness, self.competition, self.dropout, self.seed = members, sharpness, competition, dropout, seed
        self.build()

    def build(self, inputs_shape: Any = None) -> None:
        """Makes every variable; the constructor has all sizes."""
        for layer in (self.cell_norm, self.drop_cells, self.hidden, self.drop_picture):
            layer.build((None, self.num_cells, self.feature_size))
        self.position_embedding.build((None,))
        self.terms.build((self.members, None, self.hidden_size))
        self.whole.build((None, self.feature_size))

    def call(self, inputs, training=False):
        cells = self.cells(inputs)
        evidence = self.evidence(self.drop_cells(cells, training=training))
        highest = ops.logsumexp(self.sharpness * evidence, axis=2) - np.log(self.num_cells).astype("float32")  # [M, B, V]
        picture = self.whole(self.drop_picture(ops.mean(cells, 1), training=training))
        return {"presence": ops.swapaxes(highest, 0, 1) / self.sharpness + picture[:, None]}

    def cells(self, inputs):
        """Computes f32[B, N, F]: the standardised features."""
        return ops.clip(self.cell_norm(inputs["cells"]), -CLIP, CLIP)

    def evidence(self, cells):
        """Computes f32[M, B, N, V]: how much each patch speaks for each term, from the standardised features."""
        hidden = ops.relu(self.hidden(cells) + self.position_embedding(ops.arange(self.num_cells)))
        by_member = ops.swapaxes(ops.reshape(hidden, (-1, self.members, self.hidden_size)), 0, 1)
        evidence = self.terms(by_member)
        evidence = evidence - self.competition * ops.logsumexp(evidence, axis=-1, keepdims=True)
        return ops.reshape(evidence, (self.members, -1, self.num_cells, self.num_terms))

    def adapt_features(self, cells: np.ndarray) -> None:
        """Measures, on a sample f[n, N, F], the scale that gives every feature mean 0 and deviation 1."""
        self.cell_norm.adapt(cells)

    def set_frequencies(self, fractions: np.ndarray) -> None:
        """Sets the bias of a new model from f[V], the fraction of texts that have each term."""
        fractions = np.clip(fractions, 1e-3, 1 - 1e-3)
        self.whole.bias.assign(np.log(fractions / (1 - fractions)))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, JSON-able."""
        return {name: getattr(self, name) for name in signature(WordPresence).parameters if name != "cells"} | {"cells": self.num_cells}

    def describe(self) -> dict[str, Any]:
        """Returns kind, config, and identity: what weights mean beyond their names and shapes. JSON-able."""
        return {"kind": self.kind, "config": self.get_config(),
                "identity": {"sharpness": self.sharpness, "competition": self.competition}}


class Evidence(keras.Model):
    """The evidence of a trained WordPresence: inputs cells f[B, N, F], outputs {"evidence": f32[B, N, V]}, the mean over its members."""

    free_axes: dict[str, tuple[int, ...]] = {}

    def __init__(self, model: WordPresence):
        super().__init__(name="evidence")
        self.model = model
        self.built = True

    def call(self, inputs, training=False):
        return {"evidence": ops.mean(self.model.evidence(self.model.cells(inputs)), 0)}
