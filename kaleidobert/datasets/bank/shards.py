"""Vectors out of shards on disk, opened as memory maps: each is copied once, to where it stays."""

import mmap
from collections.abc import Mapping, Sequence

import numpy as np

Places = list[tuple[int, int]]  # (shard, row in it)


class Shards:
    """Arrays [n, V, ...] of one shape but for n, one after another; row r is the r-th of all.

    random: rows are taken here and there. The kernel is then told not to read what lies around them, which costs most of the
    bandwidth of cold storage, but all pictures of a call at once, before the first is copied.
    """

    def __init__(self, maps: Sequence[np.memmap], random: bool):
        # as plain arrays: indexing one of numpy's memmap class takes several times as long
        self.arrays = [np.asarray(one) for one in maps]
        self.starts = np.cumsum([0] + [len(one) for one in maps])
        self._files = [(one.base, one.offset) for one in maps] if random and hasattr(mmap, "MADV_WILLNEED") else []
        for file, _ in self._files:
            file.madvise(mmap.MADV_RANDOM)

    def take(self, rows: np.ndarray, vectors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """{name: [B, K, ...]} for {name: i64[B, K]}: the vectors of rows i64[B]. IndexError where a number is out of range.

        A picture's vectors lie together: each picture is visited once.
        """
        for numbers, limit in ((rows, self.starts[-1]), *((numbers, self.arrays[0].shape[1]) for numbers in vectors.values())):
            if numbers.size and not 0 <= numbers.min() <= numbers.max() < limit:
                raise IndexError(f"{numbers.min()} to {numbers.max()} of {limit}")
        shard = np.searchsorted(self.starts, rows, "right") - 1
        places = list(zip(shard.tolist(), (rows - self.starts[shard]).tolist()))
        if self._files:
            self._announce(places, [numbers for numbers in vectors.values() if numbers.size])
        shape, dtype = self.arrays[0].shape[2:], self.arrays[0].dtype
        taken = {name: np.empty((*numbers.shape, *shape), dtype) for name, numbers in vectors.items()}
        for (number, row), *wanted in zip(places, *(zip(numbers, taken[name]) for name, numbers in vectors.items())):
            picture = self.arrays[number][row]
            for numbers, target in wanted:
                # "clip": in the mode "raise" numpy fills a buffer first; the numbers were checked
                picture.take(numbers, 0, target, "clip")
        return taken

    def _announce(self, places: Places, vectors: Sequence[np.ndarray]) -> None:
        """Ask the kernel for what lies between the first and the last vector of each picture; what is in memory costs nothing."""
        if not vectors:
            return
        first = np.min([numbers.min(1) for numbers in vectors], 0).tolist()
        last = np.max([numbers.max(1) for numbers in vectors], 0).tolist()
        step, row_step = self.arrays[0].strides[1], self.arrays[0].strides[0]
        for (number, row), low, high in zip(places, first, last):
            file, offset = self._files[number]
            begin = offset + row * row_step + low * step
            aligned = begin - begin % mmap.PAGESIZE
            file.madvise(mmap.MADV_WILLNEED, aligned, begin - aligned + (high - low + 1) * step)
