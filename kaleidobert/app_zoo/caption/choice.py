"""Captions chosen by the towers of a trained matcher (ours): of what the captioner wrote and of all training texts, the best match.

A few thousand products teach a small network what a picture shows, not the wording of its shop; texts of training products have it.
What comes out is a training text for many pictures; the results say for which.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from keras import ops

from kaleidobert import configs
from kaleidobert.app_zoo import lineage, models
from kaleidobert.configs.addresses import written
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sampling.pretraining import clean_features
from kaleidobert.errors import UserError
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import DUAL_ENCODER, Matcher, rebuild
from kaleidobert.released import any_checkpoint

BATCH = 256


class Reranker:
    """Reads the matcher at ``path``; UserError where its head has no towers, or where it does not fit the bank.

    model: which one it is, as lineage.model, with its "checkpoint".
    """

    def __init__(self, path: Path, bank: Bank):
        meta = any_checkpoint.load_meta(path)
        if meta.get("kind") != Matcher.kind or meta["config"].get("head") != "dual_encoder":
            raise UserError(f"the checkpoint holds a {meta.get('kind')!r} without towers", str(path), "a matcher with head dual_encoder",
                            "name the best.npz of a `kaleidobert retrieve matching.head=dual_encoder` run as writing.matcher")
        bank = bank.require(models.levels_of(meta), "")  # the captioner may see others
        sizes = {"feature_size": bank.feature_size, "vocabulary_size": bank.vocabulary.size, "levels": configs.to_dict(bank.levels)}
        models.require(path, sizes, bank)
        self.model = {"checkpoint": written(path), **lineage.model("dual_encoder", path)}
        self._bank, self._model = bank, rebuild(meta, "float32")
        checkpoints.restore(path, self._model)
        self._towers = self._model.get_layer(DUAL_ENCODER)

    def choose(self, rows: np.ndarray, written: Sequence[str], train_texts: Sequence[str]) -> tuple[list[str], np.ndarray]:
        """For the picture of each row its written caption, or the training text that matches it better; bool[N]: whether it is that."""
        offered = list(dict.fromkeys(train_texts))
        own, pictures, sides = self._texts(written), self._pictures(rows), self._texts(offered)
        texts, found = [], []
        for number in range(0, len(rows), BATCH):
            part = slice(number, number + BATCH)
            scores = pictures[part] @ sides.T  # [N, offered]
            best = scores.argmax(1)
            better = scores[np.arange(len(best)), best] > (pictures[part] * own[part]).sum(1)
            texts += [offered[place] if use else text for place, use, text in zip(best, better, written[part])]
            found.append(better)
        return texts, np.concatenate(found)

    def _texts(self, texts: Sequence[str]) -> np.ndarray:
        """f32[N, W], each of length 1."""
        ids, _ = self._bank.tokenizer().encode(list(texts), self._bank.text_length)
        mask = (ids != self._bank.vocabulary.pad).astype(np.int32)
        sides = [ops.normalize(self._towers.text_tower(ids[start : start + BATCH], mask[start : start + BATCH]), axis=-1)
                 for start in range(0, len(ids), BATCH)]
        return np.concatenate([np.asarray(side) for side in sides])

    def _pictures(self, rows: np.ndarray) -> np.ndarray:
        """f32[N, W], each of length 1."""
        backbone, sides = self._model.backbone, []
        for start in range(0, len(rows), BATCH):
            features = clean_features(self._bank, rows[start : start + BATCH]).astype(np.float32)
            sides.append(np.asarray(ops.normalize(self._towers.picture_tower(backbone.scale_features(features)), axis=-1)))
        return np.concatenate(sides)
