"""Batches of unspoiled examples for fine-tuning: labels and matching. Stateless, as sampler.py."""

import numpy as np

from kaleidobert.configs import Matching, Noise
from kaleidobert.datasets.bank import Bank
from kaleidobert.datasets.sampler import EXAMPLES, Order, Partners, clean_batch, generator
from kaleidobert.errors import UserError
from kaleidobert.preprocessors import examples
from kaleidobert.preprocessors.examples import Arrays


def label_ids(bank: Bank, label: str, train_rows: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """(i32[N], class names): the classes are those of the training rows, in alphabetical order; -1 for any other value.

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
    """Model inputs of the rows with both sides, the picture alone ("image") or the text alone ("text")."""
    inputs = clean_batch(bank, rows)
    vocabulary = bank.vocabulary
    if modality == "image":
        return examples.without_text(inputs, vocabulary.start, vocabulary.end, vocabulary.pad)
    return examples.without_picture(inputs) if modality == "text" else inputs


class LabelSampler:
    """batch(step) -> inputs, {"label": i32[B]}, {"label": f32[B]} (all ones).

    noise: how much of the inputs is hidden, anew in every batch, so that a small catalogue is not learnt by heart.
    """

    def __init__(self, bank: Bank, rows: np.ndarray, labels: np.ndarray, modality: str, noise: Noise, batch_size: int, seed: int):
        self._bank, self._labels, self._modality, self._noise, self._seed = bank, labels, modality, noise, seed
        self.order = Order(rows, batch_size, seed)

    def batch(self, step: int) -> tuple[Arrays, Arrays, Arrays]:
        rows = self.order.batch(step)
        inputs = modality_inputs(self._bank, rows, self._modality)
        rng = generator(self._seed, EXAMPLES, step)
        inputs = examples.hide(inputs, self._noise.patches, self._noise.tokens, self._bank.vocabulary.mask, rng)
        return inputs, {"label": self._labels[rows]}, {"label": np.ones(len(rows), np.float32)}


class MatchSampler:
    """Matching examples: every picture with its text and with texts or pictures of other products.

    A batch of B products has B * (1 + negatives) pairs, product by product, the right pair first; of every second product the
    picture is replaced instead of the text, so that both directions of retrieval are learnt. targets: as losses/matching.py reads them.
    """

    def __init__(self, bank: Bank, rows: np.ndarray, subcategory: str, matching: Matching, batch_size: int, seed: int):
        if matching.negatives < 1:
            raise UserError(f"matching.negatives is {matching.negatives}", "sampler", "at least 1")
        self._bank, self._matching, self._seed = bank, matching, seed
        self.order = Order(rows, batch_size, seed)
        self._partners = Partners(bank, rows, subcategory)

    def batch(self, step: int) -> tuple[Arrays, Arrays, Arrays]:
        rows, rng = self.order.batch(step), generator(self._seed, EXAMPLES, step)
        count = self._matching.negatives
        repeated = np.repeat(rows, count)
        same = rng.random(len(repeated)) < self._matching.negatives_same_subcategory
        others = self._partners.draw(repeated, same, rng).reshape(-1, count)
        pictures, texts = np.repeat(rows[:, None], count + 1, 1), np.repeat(rows[:, None], count + 1, 1)
        swap = np.arange(len(rows)) % 2 == 1
        texts[~swap, 1:] = others[~swap]
        pictures[swap, 1:] = others[swap]
        match = (pictures == texts).astype(np.int32).ravel()
        inputs = clean_batch(self._bank, pictures.ravel(), texts.ravel())
        own = np.arange(match.size) == (count + 1) * np.arange(len(rows))[:, None]  # the right pair of each list
        targets = {"itm": match}
        for name, side in (("open_texts", texts), ("open_pictures", pictures)):
            targets[name] = (own | ~self._partners.related(rows[:, None], side.ravel())).astype(np.float32)
        return inputs, targets, {"itm": np.ones(match.shape, np.float32)}
