"""Bank -> batches of the captioner: its own vocabulary, texts of like length together, a pure function of (seed, step)."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.grid_features import Grids
from kaleidobert.datasets.sampling.pretraining import generator
from kaleidobert.errors import UserError
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
        """The bank's ids as the captioner's."""
        return self._own[token_ids]

    def frequencies(self, token_ids: np.ndarray) -> np.ndarray:
        """f32[V]: how often each piece is to be written in texts i32[n, T]."""
        counts = np.bincount(self.encode(token_ids)[:, 1:].ravel(), minlength=self.size).astype(np.float32)
        counts[[PAD, START]] = 0
        return counts


class CaptionSampler:
    """Batches (inputs, targets, weights) of the training rows: "grid" or "picture", "pieces" [B, L]; the pieces that follow.

    Rows without a word are left out. augment: pictures are mirrored and moved at random. ask: a function of rows and a length
    that brings further arrays, as those of sampling.cooccurrence do.
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
        ask: Callable[[np.ndarray, int], tuple[Arrays, Arrays, Arrays]] | None = None,
    ):
        self._ids, self._grids, self._augment, self._seed, self._ask = pieces.encode(bank.token_ids), grids, augment, seed, ask
        self._lengths = (self._ids != PAD).sum(1)
        self.rows, self.batch_size = rows[self._lengths[rows] > 2], batch_size  # START and END alone say nothing
        if not len(self.rows):
            raise UserError("no picture has a text", str(bank.folder), "texts to learn from", "map source.columns.text")
        self._batches = lru_cache(2)(self._order)

    @property
    def batches_per_epoch(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def batch(self, step: int) -> tuple[Arrays, Arrays, Arrays]:
        """The batch of a step, 0-based."""
        epoch, number = divmod(step, self.batches_per_epoch)
        rows = self._batches(epoch)[number]
        inputs, targets, weights = self.questions(rows)
        if self._augment:
            inputs["picture"] = augment(inputs["picture"], generator(self._seed, AUGMENT, step))
        return inputs, targets, weights

    def questions(self, rows: np.ndarray) -> tuple[Arrays, Arrays, Arrays]:
        """The same for given rows, as they are."""
        batch = self.examples(rows)
        if self._ask is not None:
            for own, asked in zip(batch, self._ask(rows, batch[0]["pieces"].shape[1])):
                own.update(asked)
        return batch

    def examples(self, rows: np.ndarray) -> tuple[Arrays, Arrays, Arrays]:
        """``questions`` without what ``ask`` brings."""
        length = int(-(-(self._lengths[rows].max() - 1) // BUCKET) * BUCKET)
        ids = np.full((len(rows), length + 1), PAD, np.int32)
        ids[:, : self._ids.shape[1]] = self._ids[rows, : length + 1]
        pictures = self._grids.gather(rows)
        name = "picture" if pictures.ndim == 4 else "grid"
        given, following = ids[:, :-1], ids[:, 1:]
        return {name: pictures, "pieces": given}, {"pieces": following}, {"pieces": (following != PAD).astype(np.float32)}

    def _order(self, epoch: int) -> list[np.ndarray]:
        """The epoch's batches: a permutation, sorted by length within pools, the batches shuffled; the last one filled up."""
        rng = generator(self._seed, ORDER, epoch)
        rows = rng.permutation(self.rows)
        rows = np.resize(rows, self.batches_per_epoch * self.batch_size)
        pools = [pool[np.argsort(self._lengths[pool], kind="stable")] for pool in np.split(rows, range(
            POOL * self.batch_size, len(rows), POOL * self.batch_size))]
        batches = np.concatenate(pools).reshape(-1, self.batch_size)
        return list(batches[rng.permutation(len(batches))])


def augment(pictures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8[B, s, s, 3]: half of the pictures mirrored, all moved by up to s / 14 pixels each way, edges repeated."""
    most = pictures.shape[1] // 14
    padded = np.pad(pictures, ((0, 0), (most, most), (most, most), (0, 0)), "edge")
    mirrored, moves = rng.random(len(pictures)) < 0.5, rng.integers(0, 2 * most + 1, (len(pictures), 2))
    size = pictures.shape[1]
    moved = [picture[y : y + size, x : x + size] for picture, (y, x) in zip(padded, moves)]
    return np.stack([picture[:, ::-1] if mirror else picture for picture, mirror in zip(moved, mirrored)])
