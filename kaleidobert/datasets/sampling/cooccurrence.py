"""Texts -> what a single word's attention is trained on: the other words of its sentence, and which words the text lacks.

Every answer comes with the log-odds that the word and the product's subcategory give without a look at the picture; what has to
be seen is the rest. So a word that all coats have teaches nothing about coats.
"""

import numpy as np

from kaleidobert.datasets.sampling.captions import PAD, CaptionVocabulary
from kaleidobert.preprocessors import alignment_generator
from kaleidobert.preprocessors.examples import Arrays

ENDS = frozenset(".;!?")  # pieces that end a sentence
TOLD = 400  # at most so many words are asked for, the most frequent ones
CANDIDATES = 80  # at most so many words per subcategory of which it is asked whether a text has them
LEAST = 4  # occurrences in a subcategory for that
FAINT = (0.01, 0.97)  # shares of a subcategory's texts between which there is something to ask
DOUBT = 2.0  # texts' worth of the general share in the share within a subcategory
CERTAIN = 2e-3  # no share is nearer to 0 or 1


class WordCooccurrenceTargets:
    """The questions of the rows of a bank, learned from ``rows``.

    ids i32[N, T]: the captioner's pieces; texts: of its vocabulary; groups i64[N]: the product's subcategory, by number.
    """

    def __init__(self, ids: np.ndarray, pieces: CaptionVocabulary, texts: list[str], groups: np.ndarray, rows: np.ndarray):
        content = np.zeros(pieces.size, bool)
        content[4:] = alignment_generator.content(texts[4:])
        counts = np.bincount(ids[rows].ravel(), minlength=pieces.size) * content
        self._ids, self._groups, self._asked = ids, groups, content
        self.told = np.argsort(-counts, kind="stable")[: min(TOLD, int((counts > 0).sum()))]
        self._column = np.full(pieces.size, -1)
        self._column[self.told] = np.arange(len(self.told))
        self._ends = np.array([text in ENDS for text in texts])
        self._count(rows, pieces.size)
        self._candidates(rows, pieces.size)

    def arrays(self, rows: np.ndarray, length: int) -> tuple[Arrays, Arrays, Arrays]:
        """(inputs, targets, weights) of rows whose first ``length`` pieces are read.

        inputs: candidates i32[B, C]. targets: told, cooccurrence_prior f32[B, length, K]; held, presence_prior f32[B, C]. weights: told
        f32[B, length], 1 where a piece is a content word; held f32[B, C].
        """
        ids = self._read(rows, length)
        told = np.zeros((len(rows), length, len(self.told)), np.float32)
        prior = np.full_like(told, np.log(CERTAIN))
        for number, row in enumerate(rows):
            for place, piece, others in self._questions(ids[number]):
                told[number, place, others] = 1
                prior[number, place] = self._prior(int(self._groups[row]), piece)
        group = self._groups[rows]
        candidates = self._words[group]
        held = (candidates[..., None] == ids[:, None]).any(-1).astype(np.float32)
        targets = {"told": told, "cooccurrence_prior": prior, "held": held, "presence_prior": self._odds[group]}
        return {"candidates": candidates}, targets, {"told": self._asked[ids].astype(np.float32), "held": self._known[group]}

    def asked(self, rows: np.ndarray, length: int) -> tuple[Arrays, Arrays, Arrays]:
        """({}, {}, {"asked": f32[B, length]}): 1 where a piece of the rows is a content word."""
        return {}, {}, {"asked": self._asked[self._read(rows, length)].astype(np.float32)}

    def _read(self, rows: np.ndarray, length: int) -> np.ndarray:
        ids = np.full((len(rows), length), PAD, np.int32)
        ids[:, : self._ids.shape[1]] = self._ids[rows, :length]
        return ids

    def _questions(self, ids: np.ndarray) -> list[tuple[int, int, np.ndarray]]:
        """(place, piece, columns of the other words of its sentence) for every content word of a text."""
        found, start = [], 0
        for stop in [*np.flatnonzero(self._ends[ids]).tolist(), len(ids)]:
            places = start + np.flatnonzero(self._asked[ids[start:stop]])
            for place in places.tolist():
                columns = self._column[ids[places[ids[places] != ids[place]]]]
                found.append((place, int(ids[place]), np.unique(columns[columns >= 0])))
            start = stop
        return found

    def _count(self, rows: np.ndarray, size: int) -> None:
        """How often words share a sentence, in all texts and in those of each subcategory."""
        self._together, self._alone, self._by_group = np.zeros((size, len(self.told)), np.float32), np.zeros(size, np.float32), {}
        for row in rows:
            for _, piece, others in self._questions(self._ids[row]):
                entry = self._by_group.setdefault((int(self._groups[row]), piece), [0, np.zeros(len(self.told), np.float32)])
                for counts in (self._together[piece], entry[1]):
                    counts[others] += 1
                self._alone[piece] += 1
                entry[0] += 1
        usual = self._together.sum(0) / max(1.0, self._alone.sum())
        self._together = (self._together + usual) / (self._alone[:, None] + 1)
        self._priors: dict[tuple[int, int], np.ndarray] = {}

    def _prior(self, group: int, piece: int) -> np.ndarray:
        if (group, piece) not in self._priors:
            number, counts = self._by_group.get((group, piece), (0, 0.0))
            self._priors[group, piece] = _odds((counts + DOUBT * self._together[piece]) / (number + DOUBT))
        return self._priors[group, piece]

    def _candidates(self, rows: np.ndarray, size: int) -> None:
        """Per subcategory the words whose presence is least settled by it: words i32[S, C], their log-odds and whether they count."""
        groups, held = int(self._groups.max()) + 1, np.zeros((int(self._groups.max()) + 1, size), np.float32)
        for row in rows:
            held[self._groups[row], np.unique(self._ids[row])] += 1
        texts = np.bincount(self._groups[rows], minlength=groups).astype(np.float32)[:, None]
        share = (held + held.sum(0) / len(rows)) / (texts + 1)
        fit = self._asked & (held >= LEAST) & (share > FAINT[0]) & (share < FAINT[1])
        number = max(1, min(CANDIDATES, int(fit.sum(1).max())))
        self._words = np.argsort(np.where(fit, -share * (1 - share), 0), axis=1, kind="stable")[:, :number].astype(np.int32)
        self._known = np.take_along_axis(fit, self._words, 1).astype(np.float32)
        self._odds = _odds(np.take_along_axis(share, self._words, 1))


def _odds(share: np.ndarray) -> np.ndarray:
    share = np.clip(share, CERTAIN, 1 - CERTAIN)
    return np.log(share / (1 - share)).astype(np.float32)
