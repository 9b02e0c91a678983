"""Batches of unspoiled examples for fine-tuning, pure functions of (seed, step): labels, matching and captions."""

import numpy as np

from kaleidobert.configs import Matching, Noise
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sampling.pretraining import (
    ALL,
    EXAMPLES,
    VALIDATION,
    EpochOrder,
    NegativeSampler,
    clean_batch,
    generator,
    maskable,
)
from kaleidobert.errors import UserError
from kaleidobert.preprocessors import examples
from kaleidobert.preprocessors.examples import Arrays

LENGTH_EVERY = 4  # one picture of so many also has the length of its text as a target


def label_ids(bank: Bank, label: str, train_rows: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Returns (i32[N], class names): the classes are those of the training rows, in alphabetical order; -1 for any other value.

    Raises UserError where training has fewer than two classes.
    """
    column = bank.column(label)
    names = sorted({str(value) for value in column[train_rows] if value})
    if len(names) < 2:
        raise UserError(f"{label!r} has {len(names)} class(es) in the training split: {names}", str(bank.folder), "at least two",
                        "choose another label")
    numbers = {name: number for number, name in enumerate(names)}
    return np.array([numbers.get(str(value), -1) for value in column], np.int32), names


def modality_inputs(bank: Bank, rows: np.ndarray, modality: str) -> Arrays:
    """Returns model inputs of the rows with both sides, the picture alone ("image") or the text alone ("text")."""
    inputs = clean_batch(bank, rows)
    vocabulary = bank.vocabulary
    if modality == "image":
        return examples.without_text(inputs, vocabulary.start, vocabulary.end, vocabulary.pad)
    return examples.without_picture(inputs) if modality == "text" else inputs


class LabelSampler:
    """batch(step) -> inputs, {"label": i32[B]}, {"label": f32[B]} (all ones); ``chosen`` and weights as in PretrainSampler.

    noise: how much of the inputs is hidden, anew in every batch, so that a small catalogue is not learnt by heart.
    """

    def __init__(self, bank: Bank, rows: np.ndarray, labels: np.ndarray, modality: str, noise: Noise, batch_size: int, seed: int):
        self._bank, self._labels, self._modality, self._noise, self._seed = bank, labels, modality, noise, seed
        self.order = EpochOrder(rows, batch_size, seed)

    def batch(self, step: int, chosen: slice = ALL) -> tuple[Arrays, Arrays, Arrays]:
        whole, rng, noise = self.order.batch(step), generator(self._seed, EXAMPLES, step), self._noise
        rows = whole[chosen]
        inputs = modality_inputs(self._bank, rows, self._modality)
        inputs = examples.hide(inputs, noise.patch_dropout, noise.token_dropout, self._bank.vocabulary.mask, rng, len(whole), chosen)
        return inputs, {"label": self._labels[rows]}, {"label": np.ones(len(rows), np.float32)}

    def weights(self, step: int) -> Arrays:
        return {"label": np.ones(self.order.batch_size, np.float32)}


class MatchSampler:
    """Matching examples: every picture with its text and with texts or pictures of other products.

    A batch of B products has B * (1 + negatives) pairs, product by product, the right pair first; of every second product the
    picture is replaced instead of the text, so that both directions of retrieval are learnt. targets: {"itm": i32[B * (1 + negatives)]}.
    ``chosen`` and weights as in PretrainSampler, of the B products, each with all of its pairs.
    """

    def __init__(self, bank: Bank, rows: np.ndarray, subcategory: str, matching: Matching, batch_size: int, seed: int):
        if matching.negatives < 1:
            raise UserError(f"matching.negatives is {matching.negatives}", "sampler", "at least 1")
        self._bank, self._matching, self._seed = bank, matching, seed
        self.order = EpochOrder(rows, batch_size, seed)
        self._negatives = NegativeSampler(bank, rows, subcategory)

    def batch(self, step: int, chosen: slice = ALL) -> tuple[Arrays, Arrays, Arrays]:
        rows, rng = self.order.batch(step), generator(self._seed, EXAMPLES, step)
        count = self._matching.negatives
        repeated = np.repeat(rows, count)
        same = rng.random(len(repeated)) < self._matching.negatives_same_subcategory
        others = self._negatives.draw(repeated, same, rng).reshape(-1, count)
        pictures, texts = np.repeat(rows[:, None], count + 1, 1), np.repeat(rows[:, None], count + 1, 1)
        swap = np.arange(len(rows)) % 2 == 1
        texts[~swap, 1:] = others[~swap]
        pictures[swap, 1:] = others[swap]
        pictures, texts = pictures[chosen].ravel(), texts[chosen].ravel()
        match = (pictures == texts).astype(np.int32)
        return clean_batch(self._bank, pictures, texts), {"itm": match}, {"itm": np.ones(match.shape, np.float32)}

    def weights(self, step: int) -> Arrays:
        return {"itm": np.ones(self.order.batch_size * (1 + self._matching.negatives), np.float32)}


class DualEncoderSampler:
    """Right pairs for a softmax over the batch: batch(step) -> inputs, {"identity": i32[B, 5]}, {}; identity: as of NegativeSampler."""

    def __init__(self, bank: Bank, rows: np.ndarray, subcategory: str, batch_size: int, seed: int):
        self._bank = bank
        self.order = EpochOrder(rows, min(batch_size, len(rows)), seed)
        self._negatives = NegativeSampler(bank, rows, subcategory)

    def batch(self, step: int) -> tuple[Arrays, Arrays, Arrays]:
        rows = self.order.batch(step)
        return clean_batch(self._bank, rows), {"identity": self._negatives.identity(rows, rows)}, {}


class CaptionTaskSampler:
    """Captioning examples, inputs with "predict_positions" i32[B, T-1]; targets and weights: "pieces" [B, T-1], the text without [CLS].

    mode "causal": the whole text is read, and at every position the next piece is predicted. "mask-all": all pieces are masked and
    predicted; "mask-predict": one to all of them, a number drawn evenly. Both show the length of a text, so it is predicted from an
    empty text: behind the B examples come B / 4 (at least 1) of these, which alone have a weight for "length" i32[...]: pieces - 1.
    noise: as in LabelSampler; of tokens it hides pieces that are not predicted.
    """

    def __init__(self, bank: Bank, rows: np.ndarray, mode: str, noise: Noise, batch_size: int, seed: int):
        self._bank, self._mode, self._noise, self._seed = bank, mode, noise, seed
        self.order = EpochOrder(rows, batch_size, seed)

    def batch(self, step: int) -> tuple[Arrays, Arrays, Arrays]:
        return self.examples(self.order.batch(step), self._noise, generator(self._seed, EXAMPLES, step))

    def validation(self, step: int) -> tuple[Arrays, Arrays, Arrays] | None:
        """Returns the step-th batch of the split in its own order, without noise; None behind the end."""
        size = self.order.batch_size
        rows = self.order.rows[step * size : (step + 1) * size]
        return self.examples(rows, Noise(), generator(self._seed, VALIDATION, step)) if len(rows) else None

    def examples(self, rows: np.ndarray, noise: Noise, rng: np.random.Generator) -> tuple[Arrays, Arrays, Arrays]:
        """Returns the examples of given rows."""
        vocabulary, count = self._bank.vocabulary, len(rows)
        if self._mode != "causal":
            rows = np.concatenate([rows, rows[: max(1, count // LENGTH_EVERY)]])
        inputs = clean_batch(self._bank, rows)
        ids = inputs["token_ids"]
        real = maskable(self._bank, rows)
        targets = {"pieces": ids[:, 1:]}
        if self._mode == "causal":
            wanted, hidden = inputs["token_mask"][:, 1:], np.zeros_like(real)
        else:
            lengths = real.sum(1)
            number = lengths if self._mode == "mask-all" else rng.integers(1, lengths + 1)
            positions = np.argsort(np.argsort(np.where(real, rng.random(real.shape), 2), 1), 1)
            hidden = real & (positions < number[:, None])
            wanted = hidden[:, 1:]
            targets["length"] = lengths.astype(np.int32) - 1
        if noise.token_dropout:
            hidden = hidden | (real & (rng.random(real.shape) < noise.token_dropout))
        ids = np.where(hidden, np.int32(vocabulary.mask), ids)
        weights = {"pieces": wanted.astype(np.float32)}
        if self._mode != "causal":
            ids[count:, 1:] = vocabulary.pad
            ids[count:, 1] = vocabulary.end
            weights["pieces"][count:] = 0
            weights["length"] = (np.arange(len(rows)) >= count).astype(np.float32)
        inputs = examples.hide({**inputs, **examples.text(ids, vocabulary.pad)}, noise.patch_dropout, 0, vocabulary.mask, rng)
        first = np.arange(ids.shape[1] - 1, dtype=np.int32) + (self._mode != "causal")
        return {**inputs, "predict_positions": np.repeat(first[None], len(ids), 0)}, targets, weights


# --- The two sides of a bank's products apart, for pairs of any picture with any text


def picture_inputs(bank: Bank, rows: np.ndarray) -> Arrays:
    """Returns patch_features f16[n, P, F] of unspoiled pictures, patch_boxes f32[n, P, 5]."""
    return {**examples.clean(rows, bank.levels, bank.gather), "patch_boxes": bank.boxes[rows]}


def text_inputs(bank: Bank, rows: np.ndarray) -> Arrays:
    """Returns token_ids, segment_ids, token_mask [n, T]."""
    return examples.text(bank.token_ids[rows], bank.vocabulary.pad)


def text_lengths(bank: Bank) -> np.ndarray:
    """Returns i64[N]: up to which position each row's text has tokens."""
    real = bank.token_ids != bank.vocabulary.pad
    return np.where(real.any(1), real.shape[1] - real[:, ::-1].argmax(1), 1)
