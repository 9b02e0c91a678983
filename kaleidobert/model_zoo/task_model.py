"""What Kaleido-BERT's tasks share: a backbone, heads, and scales of features to be measured."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from kaleidobert.layers.dual_encoder import DualEncoder
from kaleidobert.layers.embeddings import FeatureStandardizer
from kaleidobert.layers.wide import LevelMeans
from kaleidobert.model_zoo.backbone import Backbone, KaleidoModel


class TaskModel(KaleidoModel):
    """A backbone with heads; its configuration is {"backbone": the backbone's, and the arguments in ``options``}."""

    options: tuple[str, ...] = ()

    def get_config(self) -> dict[str, Any]:
        return {"backbone": self.backbone.get_config()} | {name: getattr(self, name) for name in self.options}

    @property
    def unadapted(self) -> list[keras.layers.Layer]:
        """Layers whose scale of features is not set, of backbone and heads."""
        return self.backbone.unadapted + [layer for layer in self.layers if isinstance(layer, (LevelMeans, DualEncoder))
                                           and not layer.measured]

    def adapt_features(self, features: np.ndarray) -> None:
        """Set the scales of ``unadapted`` from a sample [N, P, F]."""
        layers = self.unadapted
        self.backbone.adapt_features(features)
        for layer in layers:
            if not isinstance(layer, FeatureStandardizer):
                layer.adapt(self.backbone.scaled(features))

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> "TaskModel":
        options = {name: value for name, value in config.items() if name != "backbone"}
        return cls(Backbone.from_config(config["backbone"]), **options)
