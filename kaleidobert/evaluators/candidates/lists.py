"""Candidate lists in memory: as tables, or as a gallery that all queries share, too large for tables. candidates.py draws and saves them.

Both are read part by part: ``parts`` gives tables of a few queries at a time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from kaleidobert.errors import UserError

PADDING = -1
PART = 2**20  # pairs of a part: what is computed of them takes some 130 MB
MOST = 2**27  # pairs of a gallery that may be laid out as tables: 1.3 GB


@dataclass(frozen=True)
class CandidateLists:
    """Rows of the records: queries i64[Q], candidates i64[Q, L] (-1 = padding, at the end), relevant bool[Q, L].

    sha256: of direction, seed, protocol and lists, as ids and not as rows: the same lists of a reordered table have the same hash.
    """

    queries: np.ndarray
    candidates: np.ndarray
    relevant: np.ndarray
    direction: str
    seed: int
    sha256: str
    protocol: str = "kaleido"

    @property
    def valid(self) -> np.ndarray:
        """bool[Q, L]: False for padding."""
        return self.candidates != PADDING

    @property
    def length(self) -> int:
        """L."""
        return self.candidates.shape[1]

    @property
    def num_pairs(self) -> int:
        """Without padding."""
        return int(self.valid.sum())

    def parts(self, pairs: int = PART) -> Iterator["CandidateLists"]:
        """The same lists, some queries at a time: as many as have ``pairs`` pairs, at least one."""
        for part in _slices(len(self.queries), self.length, pairs):
            yield CandidateLists(self.queries[part], self.candidates[part], self.relevant[part], self.direction, self.seed, self.sha256,
                                 self.protocol)


@dataclass(frozen=True)
class Gallery:
    """Lists of queries that have the same L candidates, none of them padding; otherwise as CandidateLists.

    queries i64[Q], gallery i64[L]: rows of the records; right: a slice of the queries -> bool[q, L].
    """

    queries: np.ndarray
    gallery: np.ndarray
    right: Callable[[slice], np.ndarray]
    direction: str
    seed: int
    sha256: str
    protocol: str

    @property
    def length(self) -> int:
        return len(self.gallery)

    @property
    def num_pairs(self) -> int:
        return len(self.queries) * self.length

    def parts(self, pairs: int = PART) -> Iterator[CandidateLists]:
        for part in _slices(len(self.queries), self.length, pairs):
            queries = self.queries[part]
            yield CandidateLists(queries, np.broadcast_to(self.gallery, (len(queries), self.length)), self.right(part), self.direction,
                                 self.seed, self.sha256, self.protocol)

    @property
    def candidates(self) -> np.ndarray:
        """i64[Q, L]; UserError where that is more than MOST."""
        return self._whole.candidates

    @property
    def relevant(self) -> np.ndarray:
        return self._whole.relevant

    @property
    def valid(self) -> np.ndarray:
        return self._whole.valid

    @property
    def _whole(self) -> CandidateLists:
        if self.num_pairs > MOST:
            raise UserError(f"{len(self.queries):,} queries times {self.length:,} candidates are too many for one table", "candidate lists",
                            f"at most {MOST:,} pairs", "go through them with parts()")
        return next(self.parts(self.num_pairs))


def _slices(queries: int, length: int, pairs: int) -> Iterator[slice]:
    step = max(1, pairs // max(1, length))
    return (slice(start, min(start + step, queries)) for start in range(0, queries, step))
