"""Texts -> what a single word's attention is trained on: the other words of its sentence, and which words the text lacks.

Every answer comes with the log-odds that the word and the product's subcategory give without a look at the picture; what has to
be seen is the rest. So a word that all coats have teaches nothing about coats.
"""

import numpy as np

from kaleidobert.datasets.sampling.captions import PAD, CaptionVocabulary
from kaleidobert.preprocessors import alignment_generator
from kaleidobert.preprocessors.examples import Arrays

ENDS = frozenset(".;!?")  # pieces that end a sentence
MAX_CONTEXT_WORDS = 400  # at most so many words are asked for, the most frequent ones
MAX_CANDIDATES = 80  # at most so many words per subcategory of which it is asked whether a text has them
MIN_COUNT = 4  # occurrences in a subcategory for that
UNSETTLED = (0.01, 0.97)  # shares of a subcategory's texts between which there is something to ask
PRIOR_WEIGHT = 2.0  # texts' worth of the general share in the share within a subcategory
MIN_SHARE = 2e-3  # no share is nearer to 0 or 1


class WordCooccurrenceTargets:
    """The questions of the rows of a bank, learned from ``rows``.

    ids i32[N, T]: the captioner's pieces; texts: of its vocabulary; groups i64[N]: the product's subcategory, by number.
    """

    def __init__(self, ids: np.ndarray, pieces: CaptionVocabulary, texts: list[str], groups: np.ndarray, rows: np.ndarray):
        content = np.zeros(pieces.size, bool)
        content[4:] = alignment_generator.content(texts[4:])
        counts = np.bincount(ids[rows].ravel(), minlength=pieces.size) * content
        self._ids, self._groups, self._is_content = ids, groups, content
        self.context_words = np.argsort(-counts, kind="stable")[: min(MAX_CONTEXT_WORDS, int((counts > 0).sum()))]
        self._column = np.full(pieces.size, -1)
        self._column[self.context_words] = np.arange(len(self.context_words))
        self._ends = np.array([text in ENDS for text in texts])
        self._count(rows, pieces.size)
        self._candidates(rows, pieces.size)

    def arrays(self, rows: np.ndarray, length: int) -> tuple[Arrays, Arrays, Arrays]:
        """(inputs, targets, weights) of rows whose first ``length`` pieces are read.

        inputs: candidates i32[B, C]. targets: cooccurrence_labels, cooccurrence_prior f32[B, length, K]; presence_labels, presence_prior
        f32[B, C]. weights: cooccurrence_labels f32[B, length], 1 where a piece is a content word; presence_labels f32[B, C].
        """
        ids = self._read(rows, length)
        cooccurrence_labels = np.zeros((len(rows), length, len(self.context_words)), np.float32)
        prior = np.full_like(cooccurrence_labels, np.log(MIN_SHARE))
        for number, row in enumerate(rows):
            for place, piece, others in self._questions(ids[number]):
                cooccurrence_labels[number, place, others] = 1
                prior[number, place] = self._prior(int(self._groups[row]), piece)
        group = self._groups[rows]
        candidates = self._words[group]
        presence_labels = (candidates[..., None] == ids[:, None]).any(-1).astype(np.float32)
        targets = {
            "cooccurrence_labels": cooccurrence_labels,
            "cooccurrence_prior": prior,
            "presence_labels": presence_labels,
            "presence_prior": self._odds[group],
        }
        return (
            {"candidates": candidates},
            targets,
            {"cooccurrence_labels": self._is_content[ids].astype(np.float32), "presence_labels": self._known[group]},
        )

    def content_mask(self, rows: np.ndarray, length: int) -> tuple[Arrays, Arrays, Arrays]:
        """({}, {}, {"content_mask": f32[B, length]}): 1 where a piece of the rows is a content word."""
        return {}, {}, {"content_mask": self._is_content[self._read(rows, length)].astype(np.float32)}

    def _read(self, rows: np.ndarray, length: int) -> np.ndarray:
        ids = np.full((len(rows), length), PAD, np.int32)
        ids[:, : self._ids.shape[1]] = self._ids[rows, :length]
        return ids

    def _questions(self, ids: np.ndarray) -> list[tuple[int, int, np.ndarray]]:
        """(place, piece, columns of the other words of its sentence) for every content word of a text."""
        found, start = [], 0
        for stop in [*np.flatnonzero(self._ends[ids]).tolist(), len(ids)]:
            places = start + np.flatnonzero(self._is_content[ids[start:stop]])
            for place in places.tolist():
                columns = self._column[ids[places[ids[places] != ids[place]]]]
                found.append((place, int(ids[place]), np.unique(columns[columns >= 0])))
            start = stop
        return found

    def _count(self, rows: np.ndarray, size: int) -> None:
        """How often words share a sentence, in all texts and in those of each subcategory."""
        self._together, self._alone = np.zeros((size, len(self.context_words)), np.float32), np.zeros(size, np.float32)
        self._by_group: dict[tuple[int, int], list] = {}  # [number of sentences, counts]
        for row in rows:
            for _, piece, others in self._questions(self._ids[row]):
                entry = self._by_group.setdefault((int(self._groups[row]), piece), [0, np.zeros(len(self.context_words), np.float32)])
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
            self._priors[group, piece] = _odds((counts + PRIOR_WEIGHT * self._together[piece]) / (number + PRIOR_WEIGHT))
        return self._priors[group, piece]

    def _candidates(self, rows: np.ndarray, size: int) -> None:
        """Per subcategory the words whose presence is least settled by it: words i32[S, C], their log-odds and whether they count."""
        groups, presence_labels = int(self._groups.max()) + 1, np.zeros((int(self._groups.max()) + 1, size), np.float32)
        for row in rows:
            presence_labels[self._groups[row], np.unique(self._ids[row])] += 1
        texts = np.bincount(self._groups[rows], minlength=groups).astype(np.float32)[:, None]
        share = (presence_labels + presence_labels.sum(0) / len(rows)) / (texts + 1)
        fit = self._is_content & (presence_labels >= MIN_COUNT) & (share > UNSETTLED[0]) & (share < UNSETTLED[1])
        number = max(1, min(MAX_CANDIDATES, int(fit.sum(1).max())))
        self._words = np.argsort(np.where(fit, -share * (1 - share), 0), axis=1, kind="stable")[:, :number].astype(np.int32)
        self._known = np.take_along_axis(fit, self._words, 1).astype(np.float32)
        self._odds = _odds(np.take_along_axis(share, self._words, 1))


def _odds(share: np.ndarray) -> np.ndarray:
    share = np.clip(share, MIN_SHARE, 1 - MIN_SHARE)
    return np.log(share / (1 - share)).astype(np.float32)
