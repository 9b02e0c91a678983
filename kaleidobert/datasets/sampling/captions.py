"""Batches of the captioner, a pure function of (seed, step): its vocabulary, texts of similar length; targets of the word grounder."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.grid_features import Grids
from kaleidobert.datasets.sampling.pretraining import generator
from kaleidobert.errors import UserError
from kaleidobert.preprocessors import alignment_generator
from kaleidobert.preprocessors.examples import Arrays

ORDER, AUGMENT = 10, 11  # streams of the seed that no other sampler uses
BUCKET = 4  # lengths are rounded up to its multiples: few shapes to compile
POOL = 16  # batches' worth of pictures that are sorted by length together
PAD, UNKNOWN, START, END = range(4)


class CaptionVocabulary:
    """The captioner's vocabulary: the bank's pieces that occur at least ``min_count`` times in the rows; others are UNKNOWN.

    size: V; bank_ids i32[V]: the bank's id of each; PAD, UNKNOWN, START, END come first. Raises UserError where none is left.
    """

    def __init__(self, bank: Bank, rows: np.ndarray, min_count: int):
        counts = np.bincount(bank.token_ids[rows].ravel(), minlength=bank.vocabulary.size)
        special = [bank.vocabulary.pad, bank.vocabulary.unknown, bank.vocabulary.start, bank.vocabulary.end]
        counts[[*special, bank.vocabulary.mask]] = 0
        kept = np.flatnonzero(counts >= max(1, min_count))
        if not len(kept):
            raise UserError(f"no word piece occurs {min_count} times in the training texts", str(bank.folder), "texts to learn from",
                            "set captioner.min_count=1, or give the catalogue texts")
        self.bank_ids = np.concatenate([special, kept]).astype(np.int32)
        self.size = len(self.bank_ids)
        self._own = np.full(bank.vocabulary.size, UNKNOWN, np.int32)
        self._own[self.bank_ids] = np.arange(self.size)

    def encode(self, token_ids: np.ndarray) -> np.ndarray:
        """Returns the bank's ids as the captioner's."""
        return self._own[token_ids]

    def frequencies(self, token_ids: np.ndarray) -> np.ndarray:
        """Returns f32[V]: how often each piece is to be written in texts i32[n, T]."""
        counts = np.bincount(self.encode(token_ids)[:, 1:].ravel(), minlength=self.size).astype(np.float32)
        counts[[PAD, START]] = 0
        return counts


class CaptionSampler:
    """Batches (inputs, targets, weights) of the training rows: "grid" or "picture", "pieces" [B, L]; the pieces that follow.

    Rows without a word are skipped. augment: pictures are mirrored and moved at random. word_targets: a function of rows and a length
    that returns further arrays, as WordCooccurrenceTargets.arrays does.
    """

    def __init__(
        self,
        bank: Bank,
        grids: Grids,
        pieces: CaptionVocabulary,
        rows: np.ndarray,
        batch_size: int,
        seed: int,
        augment: bool = False,
        word_targets: Callable[[np.ndarray, int], tuple[Arrays, Arrays, Arrays]] | None = None,
    ):
        self._ids, self._grids, self._augment = pieces.encode(bank.token_ids), grids, augment
        self._seed, self._word_targets = seed, word_targets
        self._lengths = (self._ids != PAD).sum(1)
        self.rows, self.batch_size = rows[self._lengths[rows] > 2], batch_size  # START and END alone say nothing
        if not len(self.rows):
            raise UserError("no picture has a text", str(bank.folder), "texts to learn from", "map source.columns.text")
        self._batches = lru_cache(2)(self._order)

    @property
    def batches_per_epoch(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def batch(self, step: int) -> tuple[Arrays, Arrays, Arrays]:
        """Returns the batch of a step, 0-based."""
        epoch, number = divmod(step, self.batches_per_epoch)
        rows = self._batches(epoch)[number]
        inputs, targets, weights = self.with_word_targets(rows)
        if self._augment:
            inputs["picture"] = augment(inputs["picture"], generator(self._seed, AUGMENT, step))
        return inputs, targets, weights

    def with_word_targets(self, rows: np.ndarray) -> tuple[Arrays, Arrays, Arrays]:
        """Returns the examples of given rows with the arrays of ``word_targets``, not augmented."""
        batch = self.examples(rows)
        if self._word_targets is not None:
            for own, wanted in zip(batch, self._word_targets(rows, batch[0]["pieces"].shape[1])):
                own.update(wanted)
        return batch

    def examples(self, rows: np.ndarray) -> tuple[Arrays, Arrays, Arrays]:
        """Returns ``with_word_targets`` without those."""
        length = int(-(-(self._lengths[rows].max() - 1) // BUCKET) * BUCKET)
        ids = np.full((len(rows), length + 1), PAD, np.int32)
        ids[:, : self._ids.shape[1]] = self._ids[rows, : length + 1]
        pictures = self._grids.gather(rows)
        name = "picture" if pictures.ndim == 4 else "grid"
        given, following = ids[:, :-1], ids[:, 1:]
        return {name: pictures, "pieces": given}, {"pieces": following}, {"pieces": (following != PAD).astype(np.float32)}

    def _order(self, epoch: int) -> list[np.ndarray]:
        """Returns the epoch's batches: a permutation, sorted by length within pools, the batches shuffled; the last one filled up."""
        rng = generator(self._seed, ORDER, epoch)
        rows = rng.permutation(self.rows)
        rows = np.resize(rows, self.batches_per_epoch * self.batch_size)
        pools = [pool[np.argsort(self._lengths[pool], kind="stable")] for pool in np.split(rows, range(
            POOL * self.batch_size, len(rows), POOL * self.batch_size))]
        batches = np.concatenate(pools).reshape(-1, self.batch_size)
        return list(batches[rng.permutation(len(batches))])


def augment(pictures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns uint8[B, s, s, 3]: half of the pictures mirrored, all moved by up to s / 14 pixels each way, edges repeated."""
    shift = pictures.shape[1] // 14
    padded = np.pad(pictures, ((0, 0), (shift, shift), (shift, shift), (0, 0)), "edge")
    mirrored, moves = rng.random(len(pictures)) < 0.5, rng.integers(0, 2 * shift + 1, (len(pictures), 2))
    size = pictures.shape[1]
    moved = [picture[y : y + size, x : x + size] for picture, (y, x) in zip(padded, moves)]
    return np.stack([picture[:, ::-1] if mirror else picture for picture, mirror in zip(moved, mirrored)])


# --- Targets of the word grounder: the other words of a word's sentence, and words that the text lacks
#
# Every target comes with the log-odds that the word and the product's subcategory give without a look at the picture; what has to be seen
# is the rest. So a word that all coats have teaches nothing about coats.


ENDS = frozenset(".;!?")  # pieces that end a sentence
MAX_CONTEXT_WORDS = 400  # words to predict, the most frequent ones
MAX_CANDIDATES = 80  # words per subcategory whose presence is predicted
MIN_COUNT = 4  # occurrences in a subcategory for that
UNSETTLED = (0.01, 0.97)  # fractions of a subcategory's texts between which a word's presence is open
PRIOR_WEIGHT = 2.0  # texts' worth of the general fraction in that of a subcategory
MIN_FRACTION = 2e-3  # no fraction is nearer to 0 or 1


class WordCooccurrenceTargets:
    """The targets of the word grounder for rows of a bank; their counts are taken from ``rows``.

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
        """Returns (inputs, targets, weights) of rows whose first ``length`` pieces are read.

        inputs: candidates i32[B, C]. targets: cooccurrence_labels, cooccurrence_prior f32[B, length, K]; presence_labels, presence_prior
        f32[B, C]. weights: cooccurrence_labels f32[B, length], 1 where a piece is a content word; presence_labels f32[B, C].
        """
        ids = self._read(rows, length)
        cooccurrence_labels = np.zeros((len(rows), length, len(self.context_words)), np.float32)
        prior = np.full_like(cooccurrence_labels, np.log(MIN_FRACTION))
        for number, row in enumerate(rows):
            for position, piece, others in self._word_contexts(ids[number]):
                cooccurrence_labels[number, position, others] = 1
                prior[number, position] = self._prior(int(self._groups[row]), piece)
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
        """Returns ({}, {}, {"content_mask": f32[B, length]}): 1 where a piece of the rows is a content word."""
        return {}, {}, {"content_mask": self._is_content[self._read(rows, length)].astype(np.float32)}

    def _read(self, rows: np.ndarray, length: int) -> np.ndarray:
        ids = np.full((len(rows), length), PAD, np.int32)
        ids[:, : self._ids.shape[1]] = self._ids[rows, :length]
        return ids

    def _word_contexts(self, ids: np.ndarray) -> list[tuple[int, int, np.ndarray]]:
        """Returns (position, piece, columns of the other words of its sentence) for every content word of a text."""
        result, start = [], 0
        for stop in [*np.flatnonzero(self._ends[ids]).tolist(), len(ids)]:
            positions = start + np.flatnonzero(self._is_content[ids[start:stop]])
            for position in positions.tolist():
                columns = self._column[ids[positions[ids[positions] != ids[position]]]]
                result.append((position, int(ids[position]), np.unique(columns[columns >= 0])))
            start = stop
        return result

    def _count(self, rows: np.ndarray, size: int) -> None:
        """Counts how often words share a sentence, in all texts and in those of each subcategory."""
        self._together, self._alone = np.zeros((size, len(self.context_words)), np.float32), np.zeros(size, np.float32)
        self._by_group: dict[tuple[int, int], list] = {}  # [number of sentences, counts]
        for row in rows:
            for _, piece, others in self._word_contexts(self._ids[row]):
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
        """Chooses the words whose presence each subcategory settles least: words i32[S, C], their log-odds and whether they count."""
        groups, presence_labels = int(self._groups.max()) + 1, np.zeros((int(self._groups.max()) + 1, size), np.float32)
        for row in rows:
            presence_labels[self._groups[row], np.unique(self._ids[row])] += 1
        texts = np.bincount(self._groups[rows], minlength=groups).astype(np.float32)[:, None]
        fraction = (presence_labels + presence_labels.sum(0) / len(rows)) / (texts + 1)
        fit = self._is_content & (presence_labels >= MIN_COUNT) & (fraction > UNSETTLED[0]) & (fraction < UNSETTLED[1])
        number = max(1, min(MAX_CANDIDATES, int(fit.sum(1).max())))
        self._words = np.argsort(np.where(fit, -fraction * (1 - fraction), 0), axis=1, kind="stable")[:, :number].astype(np.int32)
        self._known = np.take_along_axis(fit, self._words, 1).astype(np.float32)
        self._odds = _odds(np.take_along_axis(fraction, self._words, 1))


def _odds(fraction: np.ndarray) -> np.ndarray:
    fraction = np.clip(fraction, MIN_FRACTION, 1 - MIN_FRACTION)
    return np.log(fraction / (1 - fraction)).astype(np.float32)
