"""The vectors that stage one compares: those of the matcher's two sides before they meet, or, where a model has none, those of a linear
model (ours). A one-stream model must see every pair, and a catalogue has too many.

The product of a picture's and a text's vector is the part of the matching logit for which the two need not meet: contrast times its gain,
plus the product of the towers. Of the linear model it is the cosine of the TF-IDF vector that ridge regression predicts from the picture's
features and that of the text.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np

from kaleidobert import io
from kaleidobert.app_zoo import models
from kaleidobert.app_zoo.classify import picture_features
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sampling import finetuning
from kaleidobert.engines import steps
from kaleidobert.errors import UserError
from kaleidobert.evaluators import baselines
from kaleidobert.evaluators.baselines import RidgeVectors
from kaleidobert.model_zoo import pairs
from kaleidobert.model_zoo.kaleidobert import Matcher, Pretrainer, matcher
from kaleidobert.preprocessors import features
from kaleidobert.preprocessors.examples import Arrays
from kaleidobert.released.checkpoints import load_meta, transfer

NAMES = {"dual_encoder": "the matcher's dual encoder and contrast", "contrastive": "the matcher's contrast"}
LINEAR = "frozen features and TF-IDF, by ridge regression"
CHUNK = 256  # rows that are read at a time
DIGEST = 16  # bytes
ARRAYS = ("words", "idf", "picture_map", "text_map")  # of the regression


class Encoder(Protocol):
    """Gives pictures and texts their vectors f32[n, W].

    name: in words. identity: what decides the vectors beside their content (JSON-able). reads_words: whether a text is its words, else
    its word pieces.
    """

    name: str
    identity: dict[str, Any]
    reads_words: bool

    def pictures(self, inputs: Arrays) -> np.ndarray: ...

    def texts(self, inputs: Arrays, texts: Sequence[str]) -> np.ndarray: ...


class MatcherEncoder:
    """The vectors of a matcher that has them (pairs.has_vectors). sha256: of its checkpoint."""

    reads_words = False

    def __init__(self, model: Matcher, sha256: str):
        self.name = NAMES[model.head]
        self.identity = {"vectors": model.head, "checkpoint_sha256": sha256, "backend": keras.backend.backend()}
        self._pictures, self._texts = steps.forward(pairs.PictureVector(model)), steps.forward(pairs.TextVector(model))
        self._factor = np.float32(sum(map(abs, pairs.side_weights(model).values())))  # pairs.PictureVector has length 1

    def pictures(self, inputs: Arrays) -> np.ndarray:
        return self._pictures(inputs)["vector"] * self._factor

    def texts(self, inputs: Arrays, texts: Sequence[str]) -> np.ndarray:
        return self._texts(inputs)["vector"]


class LinearEncoder:
    """The vectors of ridge regression."""

    name, reads_words = LINEAR, True

    def __init__(self, model: RidgeVectors):
        digest = hashlib.sha256(json.dumps(model.words, ensure_ascii=False).encode())
        for array in (model.idf, model.picture_map, model.text_map):
            digest.update(array.tobytes())
        self.model, self.identity = model, {"vectors": "ridge regression", "fit_sha256": digest.hexdigest()}

    def pictures(self, inputs: Arrays) -> np.ndarray:
        return self.model.pictures(features.to_floats(inputs)["patch_features"].astype(np.float32).mean(1))

    def texts(self, inputs: Arrays, texts: Sequence[str]) -> np.ndarray:
        return self.model.texts(texts)

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the regression as arrays, to be kept beside the vectors."""
        return dict(zip(ARRAYS, (np.array(self.model.words), self.model.idf, self.model.picture_map, self.model.text_map)))

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> "LinearEncoder":
        """Restores an encoder from its ``arrays``."""
        words, *others = (arrays[name] for name in ARRAYS)
        return cls(RidgeVectors(words.tolist(), *others))


@dataclass(frozen=True)
class Model:
    """What a checkpoint gives to search: the bank as its levels see it, the matcher, whose head re-ranks, and its origin.

    matcher: None without a checkpoint; checkpoint: its path; sha256: of the file, "" without one.
    """

    bank: Bank
    matcher: Matcher | None = None
    checkpoint: Path | None = None
    sha256: str = ""


def open_model(bank: Bank, checkpoint: Path | None) -> Model:
    """Returns the matcher of a checkpoint: of a `retrieve` run, or the matching head of a pre-training.

    Raises UserError where the checkpoint does not fit the bank or has no trained matching head.
    """
    if checkpoint is None:
        return Model(bank)
    if checkpoint.is_dir() and (checkpoint / "best.npz").is_file():
        checkpoint = checkpoint / "best.npz"
    meta = load_meta(checkpoint)
    if meta.get("kind") not in (Matcher.kind, Pretrainer.kind):
        raise UserError(f"the checkpoint holds a {meta.get('kind')!r}, which has no matching head", str(checkpoint),
                        f"a {Matcher.kind!r} or a {Pretrainer.kind!r}", "name the best.npz of a `kaleidobert retrieve` run")
    bank = models.bank_of(checkpoint, bank)
    config = meta["config"]
    head = config.get("head", "plain") if meta["kind"] == Matcher.kind else "contrastive" if config.get("contrastive") else "plain"
    options = {name: config[name] for name in ("width", "feature_dropout") if name in config}
    model = matcher({**models.backbone_of(meta), "text_length": bank.text_length}, head, **options)
    if new := transfer(checkpoint, model):
        raise UserError(f"the checkpoint has no trained {', '.join(new)}", str(checkpoint), "a trained matching head",
                        "name the best.npz of a `kaleidobert retrieve` run")
    return Model(bank, model, checkpoint, io.sha256(checkpoint))


def encoder(model: Model, train_split: str, seed: int) -> Encoder:
    """Returns the encoder: the matcher where it has vectors, else a regression that is fitted on the split."""
    if model.matcher is not None and pairs.has_vectors(model.matcher):
        return MatcherEncoder(model.matcher, model.sha256)
    bank, rows = model.bank, model.bank.rows(train_split)
    texts, groups = bank.column("text")[rows].tolist(), bank.column("group")[rows].tolist()
    return LinearEncoder(RidgeVectors.of(baselines.fit_ridge(picture_features(bank, rows), texts, seed, groups)))


def digests(bank: Bank, rows: np.ndarray, reads_words: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns (pictures, texts) u8[len(rows), DIGEST] each: of the content from which their vectors are made, as the encoder reads it."""
    pictures: list[bytes] = []
    for start in range(0, len(rows), CHUNK):
        inputs = finetuning.picture_inputs(bank, rows[start : start + CHUNK])
        arrays = [np.ascontiguousarray(inputs[name]) for name in sorted(inputs)]
        pictures += [_digest(*(array[row].tobytes() for array in arrays)) for row in range(len(arrays[0]))]
    content = [bank.table[row]["text"].encode() for row in rows] if reads_words else [bank.token_ids[row].tobytes() for row in rows]
    return tuple(np.frombuffer(b"".join(each), np.uint8).reshape(-1, DIGEST)  # type: ignore[return-value]  # two of them
                 for each in (pictures, [_digest(one) for one in content]))


def readers(bank: Bank, made_by: Encoder) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Returns {"pictures", "texts": rows -> their vectors f32[n, W]}."""
    return {"pictures": lambda rows: made_by.pictures(finetuning.picture_inputs(bank, rows)),
            "texts": lambda rows: made_by.texts(finetuning.text_inputs(bank, rows), [bank.table[row]["text"] for row in rows])}


def _digest(*parts: bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=DIGEST)
    for part in parts:
        digest.update(part)
    return digest.digest()

