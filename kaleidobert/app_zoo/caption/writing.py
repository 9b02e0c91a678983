"""The captions of ``kaleidobert caption``: written, scored, chosen by a matcher, and simple ones that stand beside them."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops
from tqdm import tqdm

from kaleidobert.app_zoo import lineage, models, training
from kaleidobert.app_zoo.classify import picture_features
from kaleidobert.configs import CaptionConfig
from kaleidobert.configs.loader import path_as_written
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.products import read_image
from kaleidobert.datasets.sampling.pretraining import clean_features, maskable
from kaleidobert.engines import steps
from kaleidobert.engines.feeding import prefetch
from kaleidobert.errors import UserError
from kaleidobert.evaluators import baselines
from kaleidobert.evaluators.report import sheets
from kaleidobert.model_zoo import caption_search, checkpoints
from kaleidobert.model_zoo.caption_search import Written
from kaleidobert.model_zoo.kaleidobert import DUAL_ENCODER, Captioner, Matcher, rebuild
from kaleidobert.preprocessors.tokenization import Spacing, Tokenizer, join_pieces
from kaleidobert.released.checkpoints import load_meta

Score = Callable[[Callable[[int], tuple | None]], dict[str, float]]


def max_pieces(config: CaptionConfig, bank: Bank) -> int:
    """Returns the longest caption that may be written; raises UserError where texts of the bank are shorter than a configured
    length."""
    limit = bank.text_length - 2
    for name, value in (("writing.max_length", config.writing.max_length), ("fixed_length", config.fixed_length)):
        if value > limit:
            raise UserError(f"{name} is {value}", str(bank.folder), f"at most {limit}: of the {bank.text_length} places of the bank's "
                            "texts [CLS] and [SEP] take two", "lower it, or make a bank with a larger text.length")
    return config.writing.max_length or limit


def fixed_length(config: CaptionConfig, bank: Bank, train: np.ndarray) -> int:
    """Returns the number of pieces of every caption where length is "fixed"."""
    return min(config.fixed_length or round(float(np.median(maskable(bank, train).sum(1)))), max_pieces(config, bank))


class Writer:
    """Writes captions as a configuration says; what it compiles serves all of its calls.

    train: rows whose median length is that of the captions where length is "fixed".
    """

    def __init__(self, config: CaptionConfig, model: Captioner, bank: Bank, train: np.ndarray):
        self._write = _causal(config, model, bank) if config.mode == "causal" else _masked(config, model, bank, train)

    def __call__(self, pictures: Mapping[str, np.ndarray], lengths: np.ndarray | None = None) -> list[Written]:
        """Returns a caption for each picture: patch_features f16[B, P, F], patch_boxes f32[B, P, 5].

        lengths: i64[B, 1], those of the references, where length is "oracle". Raises UserError where the model's answers are not finite.
        """
        written = self._write(pictures, lengths)
        if not np.isfinite([caption.log_probability for caption in written]).all():
            raise steps.not_finite("the model's output", "captions", pictures)
        return written


def write(config: CaptionConfig, model: Captioner, bank: Bank, train: np.ndarray, rows: np.ndarray) -> list[Written]:
    """Returns a caption for the picture of each row. Raises UserError where the model's answers are not finite."""
    writer = Writer(config, model, bank, train)
    size, result = min(config.predict_batch_size, len(rows)), []
    filled = np.resize(rows, -(-len(rows) // size) * size).reshape(-1, size)  # batches of one size: each size is compiled anew
    batches = prefetch(lambda number: (filled[number], _pictures(bank, filled[number])), range(len(filled)))
    for chunk, pictures in tqdm(batches, desc="captions", total=len(filled), unit="batch", leave=False):
        result += writer(pictures, maskable(bank, chunk).sum(1, keepdims=True))
    return result[: len(rows)]


def texts(bank: Bank, train_texts: Iterable[str], captions: Iterable[Written]) -> list[str]:
    """Captions as text; spaces around punctuation as in the training texts."""
    return detokenize(bank.tokenizer(), Spacing(train_texts), captions)


def detokenize(tokenizer: Tokenizer, spacing: Spacing, captions: Iterable[Written]) -> list[str]:
    """Captions as text; spacing: learnt from the training texts."""
    return [spacing.write([word.text for word in join_pieces(tokenizer.pieces(caption.pieces))]) for caption in captions]


def scorer(model: Captioner) -> Score:
    """Returns a function: batch(step) -> (inputs, targets, weights), None behind the last -> {"pieces": mean of -log-probability over all
    weighted answers, and likewise "length" where the model predicts it}."""
    score = steps.forward(caption_search.Scorer(model))

    def mean(batch: Callable[[int], tuple | None]) -> dict[str, float]:
        sums: dict[str, np.ndarray] = {}
        for inputs, targets, weights in prefetch(batch, range(2**31)):
            result = score({**inputs, **{f"right_{name}": answers for name, answers in targets.items()}})
            for name, values in result.items():
                chunk = np.array([-(values * weights[name]).sum(dtype=np.float64), weights[name].sum()])
                sums[name] = sums.get(name, 0) + chunk
        return {name: float(total / max(count, 1)) for name, (total, count) in sums.items()}

    return mean


def _pictures(bank: Bank, rows: np.ndarray) -> dict[str, np.ndarray]:
    return {"patch_features": clean_features(bank, rows), "patch_boxes": bank.boxes[rows]}


Write = Callable[[Mapping[str, Any], np.ndarray | None], list[Written]]  # as Writer


def _causal(config: CaptionConfig, model: Captioner, bank: Bank) -> Write:
    options, special = config.writing, bank.vocabulary
    search = steps.forward(caption_search.BeamWriter(model, special, options.num_beams, max_pieces(config, bank)))
    return lambda pictures, _: caption_search.best(search(pictures), special, options.length_penalty)


def _masked(config: CaptionConfig, model: Captioner, bank: Bank, train: np.ndarray) -> Write:
    options, special, limit = config.writing, bank.vocabulary, max_pieces(config, bank)
    forward, cut = steps.forward(caption_search.MaskFiller(model, special)), training.trim_inputs(lambda inputs: inputs, config.train)
    iterations = options.iterations if config.mode == "mask-predict" else 1
    fixed = fixed_length(config, bank, train)

    def answer(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return forward(cut(inputs))

    def make(pictures: Mapping[str, Any], references: np.ndarray | None) -> list[Written]:
        if config.length == "predicted":
            lengths = caption_search.predicted_lengths(answer, pictures, options.length_candidates, special, bank.text_length)
        elif config.length == "fixed":
            lengths = np.full((len(pictures["patch_boxes"]), 1), fixed)
        else:
            assert references is not None
            lengths = references
        return caption_search.mask_predict(answer, pictures, np.minimum(lengths, limit), iterations, special, bank.text_length)

    return make


# --- captions.png of ``kaleidobert caption``: a dozen pictures with what was written, what stands in the catalogue, and the nearest text


COUNT = 12
LABELS = {"captions": "written", "reference": "catalogue", "nearest_picture": "nearest picture"}


def draw(path: Path, bank: Bank, rows: np.ndarray, captions: Mapping[str, Sequence[str]], references: Sequence[Sequence[str]]) -> str:
    """Draws (at most) a dozen of the rows, evenly spread, into ``path``; returns "", or why none is drawn where a picture is missing."""
    entries = []
    for number in np.unique(np.linspace(0, len(rows) - 1, COUNT).round().astype(int)):
        row = bank.table[rows[number]]
        texts = {name: captions[name][number] for name in captions} | {"reference": references[number][0]}
        try:
            entries.append((read_image(row["image_path"]), row["image_id"],
                            {label: texts[name] for name, label in LABELS.items() if name in texts}))
        except UserError as error:
            return f"no captions.png ({error})"
    sheets.captions(entries, path)
    return ""


# --- The choice of a matcher (ours): of the written caption and all training texts, the best match of the matcher's towers
# A few thousand products teach a small network what a picture shows, not the wording of its shop; training texts have that wording.


BATCH = 256


class Reranker:
    """Reads the matcher at ``path``; UserError where its head has no towers, or where it does not fit the bank.

    train_texts: what is offered in place of a written caption. model: which one it is, as lineage.model, with its "checkpoint"; bank: as it
    sees it.
    """

    def __init__(self, path: Path, bank: Bank, train_texts: Sequence[str]):
        meta = load_meta(path)
        if meta.get("kind") != Matcher.kind or meta["config"].get("head") != "dual_encoder":
            raise UserError(f"the checkpoint holds a {meta.get('kind')!r} without towers", str(path), "a matcher with head dual_encoder",
                            "name the best.npz of a `kaleidobert retrieve matching.head=dual_encoder` run as writing.matcher")
        self.bank = models.bank_of(path, bank)  # the captioner may see other levels
        self.model = {"checkpoint": path_as_written(path), **lineage.model("dual_encoder", path)}
        self._model, self._offered = rebuild(meta, "float32"), list(dict.fromkeys(train_texts))
        checkpoints.restore(path, self._model)
        self._towers = self._model.get_layer(DUAL_ENCODER)

    def choose(self, features: Callable[[slice], np.ndarray], written: Sequence[str]) -> tuple[list[str], np.ndarray]:
        """Returns for each of N pictures its written caption, or the training text that matches it better; and bool[N]: the latter.

        features: some of the pictures, by their numbers -> f16[n, P, F], as the matcher's ``bank`` has them.
        """
        own, texts, result = self._texts(written), [], []
        for number in range(0, len(written), BATCH):
            chunk = slice(number, number + BATCH)
            pictures = self._pictures(features(chunk))
            scores = pictures @ self._sides.T  # [n, offered]
            best = scores.argmax(1)
            better = scores[np.arange(len(best)), best] > (pictures * own[chunk]).sum(1)
            texts += [self._offered[position] if use else text for position, use, text in zip(best, better, written[chunk])]
            result.append(better)
        return texts, np.concatenate(result)

    @cached_property
    def _sides(self) -> np.ndarray:
        return self._texts(self._offered)

    def _texts(self, texts: Sequence[str]) -> np.ndarray:
        """Returns f32[N, W], each of length 1."""
        ids, _ = self.bank.tokenizer().encode(list(texts), self.bank.text_length)
        mask = (ids != self.bank.vocabulary.pad).astype(np.int32)
        sides = [ops.normalize(self._towers.text_tower(ids[start : start + BATCH], mask[start : start + BATCH]), axis=-1)
                 for start in range(0, len(ids), BATCH)]
        return np.concatenate([np.asarray(side) for side in sides])

    def _pictures(self, features: np.ndarray) -> np.ndarray:
        """Returns f32[n, W], each of length 1."""
        scaled = self._model.backbone.scale_features(features.astype(np.float32))
        return np.asarray(ops.normalize(self._towers.picture_tower(scaled), axis=-1))


# --- Captions that need no captioner


def simple_captions(bank: Bank, train: np.ndarray, texts: Sequence[str], rows: np.ndarray, subcategory: str) -> dict[str, list[str]]:
    """Returns {"nearest_picture": the text of the nearest training picture, "commonest_of_subcategory": the commonest training text of the
    subcategory that the nearest pictures vote for} for each of ``rows``; texts: of the rows ``train``; nearest by the bank's features.

    A bank without that label: "commonest", the commonest of all texts, instead.
    """
    features = picture_features(bank, np.concatenate([train, rows]))
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    chunks = np.array_split(unit[len(train) :], -(-len(rows) // 256))
    nearest = np.concatenate([(chunk @ unit[: len(train)].T).argmax(1) for chunk in chunks])
    result = {"nearest_picture": [texts[number] for number in nearest]}
    if subcategory not in bank.index["labels"]:
        return result | {"commonest": [Counter(texts).most_common(1)[0][0]] * len(rows)}
    _, labels = np.unique(bank.column(subcategory)[train], return_inverse=True)
    commonest = {label: Counter(text for text, own in zip(texts, labels) if own == label).most_common(1)[0][0] for label in set(labels)}
    guesses = baselines.nearest_neighbours(features[: len(train)], labels, features[len(train) :])
    return result | {"commonest_of_subcategory": [commonest[label] for label in guesses]}
