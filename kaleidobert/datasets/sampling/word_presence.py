"""What word presence is trained on (ours): the terms of a bank's texts, and batches of patches with the terms of their texts.

A term is a content word of a text, or a pair of them that stand side by side: "flap pockets" says more exactly than "pockets" what has to
be seen, and where it is seen "pockets" are. Singular and plural are one term.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kaleidobert import levels as kaleido
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sampling.pretraining import EpochOrder, clean_features
from kaleidobert.errors import UserError
from kaleidobert.levels import KaleidoLevel
from kaleidobert.preprocessors import alignment_generator
from kaleidobert.preprocessors.examples import Arrays
from kaleidobert.preprocessors.tokenization import Word, words_of_text


class Term(NamedTuple):
    """A term of a text, and the numbers of the words that it consists of."""

    name: str
    words: tuple[int, ...]


def terms(words: Sequence[str]) -> list[Term]:
    """Returns the terms of a text, one for every occurrence: its content words, then its pairs.

    >>> [term.name for term in terms(["Flap", "pockets", "at", "waist", "."])]
    ['flap', 'pocket', 'waist', 'flap pocket']
    """
    content, names = alignment_generator.content(words), [singular(word.lower()) for word in words]
    single = [Term(names[number], (number,)) for number in np.flatnonzero(content).tolist()]
    pairs = np.flatnonzero(content[:-1] & content[1:]).tolist()
    return single + [Term(f"{names[number]} {names[number + 1]}", (number, number + 1)) for number in pairs]


def singular(word: str) -> str:
    """Returns a word without the s of its plural; it is a key, and need be no word.

    >>> [singular(word) for word in ("pockets", "dress", "bus", "laces")]
    ['pocket', 'dress', 'bus', 'lace']
    """
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


class TermVocabulary:
    """The terms that occur in at least ``min_count`` texts of the rows, by name. Raises UserError where there is none."""

    def __init__(self, bank: Bank, rows: np.ndarray, min_count: int):
        self._bank, self._tokenizer = bank, bank.tokenizer()
        counts = Counter(name for row in rows for name in {term.name for term in terms(self._texts(row))})
        self.names = sorted(name for name, count in counts.items() if count >= min_count)
        if not self.names:
            raise UserError(f"no content word stands in {min_count} training texts", str(bank.folder), "texts to learn from",
                            "set word_presence.min_count=1, or give the catalogue texts")
        self._column = {name: column for column, name in enumerate(self.names)}
        self.size = len(self.names)

    def words(self, row: int) -> list[Word]:
        """Returns the words of a row's text."""
        return words_of_text(self._tokenizer.pieces(self._bank.token_ids[row]), self._bank.token_words[row])

    def columns(self, row: int) -> list[list[int]]:
        """Returns the columns of the known terms of each word of a row's text."""
        texts = self._texts(row)
        result: list[set[int]] = [set() for _ in texts]
        for term in terms(texts):
            for word in term.words if term.name in self._column else ():
                result[word].add(self._column[term.name])
        return [sorted(columns) for columns in result]

    def _texts(self, row: int) -> list[str]:
        return [word.text for word in self.words(row)]


class PresenceSampler:
    """Batches (inputs, targets, weights) of rows: "cells" f16[B, N, F], the patches of ``levels``, and "presence" f32[B, V]."""

    def __init__(self, bank: Bank, vocabulary: TermVocabulary, rows: np.ndarray, batch_size: int, seed: int):
        self._bank, self.rows, self._order = bank, rows, EpochOrder(rows, batch_size, seed)
        self.levels = linked_levels(bank)
        slices = kaleido.patch_slices(bank.levels)
        self._patches = np.concatenate([np.arange(slices[level.name].start, slices[level.name].stop) for level in self.levels])
        self._num_terms = vocabulary.size
        self._present = {row: np.unique([column for columns in vocabulary.columns(row) for column in columns]).astype(np.int64)
                         for row in rows.tolist()}

    @property
    def num_cells(self) -> int:
        """N."""
        return len(self._patches)

    def batch(self, step: int) -> tuple[Arrays, Arrays, Arrays]:
        """Returns the batch of a step, 0-based."""
        rows = self._order.batch(step)
        return self.inputs(rows), {"presence": self.labels(rows)}, {"presence": np.ones(len(rows), np.float32)}

    def inputs(self, rows: np.ndarray) -> Arrays:
        """Returns the inputs of any rows of the bank."""
        return {"cells": clean_features(self._bank, rows)[:, self._patches]}

    def labels(self, rows: np.ndarray) -> np.ndarray:
        """Returns f32[n, V] of rows of the sampler."""
        result = np.zeros((len(rows), self._num_terms), np.float32)
        for number, row in enumerate(rows.tolist()):
            result[number, self._present[row]] = 1
        return result

    def frequencies(self) -> np.ndarray:
        """Returns f64[V]: the fraction of the sampler's rows that have each term."""
        return np.bincount(np.concatenate(list(self._present.values())), minlength=self._num_terms) / len(self.rows)


def linked_levels(bank: Bank) -> tuple[KaleidoLevel, ...]:
    """Returns the levels of which patches are masked, to which words are linked; all of them where there are none."""
    return tuple(level for level in bank.levels if level.num_masked) or bank.levels
