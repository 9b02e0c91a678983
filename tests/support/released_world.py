"""Shared by the tests of what starts from a TensorFlow 1 checkpoint: a catalogue, its bank, and such a checkpoint."""

import json
from pathlib import Path

import numpy as np

from kaleidobert.app_zoo import models
from kaleidobert.levels import KALEIDO
from kaleidobert.model_zoo.kaleidobert import pretrainer
from kaleidobert.released import checkpoints, tf_checkpoint
from kaleidobert.released.checkpoints import config_json
from tests.support.apps_data import SIZES, TRAIN, World
from tests.support.tiny import tiny_bank


class Released(World):
    """A World with a TensorFlow 1 checkpoint whose type tables are shorter than ours, as some have them."""

    def __init__(self, folder: Path):
        super().__init__(folder, KALEIDO, tiny_bank(folder, num_products=12))
        self.model = pretrainer(models.backbone_config(self.bank, KALEIDO, SIZES, TRAIN) | {"patch_type_vocabulary_size": 3, "seed": 4})
        self.prefix = self.save(folder / "tf1/model.ckpt-5", checkpoints.export_weights(self.model))

    def save(self, prefix: Path, arrays: dict, **config) -> Path:
        tf_checkpoint.write(prefix, {**arrays, "global_step": np.array(5)})
        prefix.with_name("config.json").write_text(json.dumps(config_json(self.model.backbone) | config))
        return prefix

    def classify(self, run: str = "classify", **changes):
        return super().classify(run, **{"init": self.prefix} | changes)

    def config(self, name: str, run: str, **changes):
        return getattr(self, name)(run, **{"init": self.prefix} | changes)
