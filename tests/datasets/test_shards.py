"""Vectors out of shards: what is taken, what is asked of the disk beforehand, and by several threads at once."""

import mmap
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from kaleidobert.datasets.bank.bank import Shards

SHAPES = (5, 1, 7)


@pytest.fixture
def stored(tmp_path):
    """(all rows, the shards' maps)"""
    whole = np.random.Generator(np.random.Philox(0)).integers(0, 2**16, (sum(SHAPES), 6, 3000), dtype=np.uint16)
    for number, part in enumerate(np.split(whole, np.cumsum(SHAPES)[:-1])):
        np.save(tmp_path / f"{number}.npy", part)
    return whole, [np.load(tmp_path / f"{number}.npy", mmap_mode="r") for number in range(len(SHAPES))]


@pytest.mark.parametrize("random", [True, False])
def test_what_is_taken_is_what_is_stored(stored, random):
    whole, maps = stored
    shards, rng = Shards(maps, random), np.random.Generator(np.random.Philox(1))
    for count in (0, 1, 40):
        rows, wanted = rng.integers(13, size=count), {"a": rng.integers(6, size=(count, 4)), "b": rng.integers(6, size=(count, 1))}
        for name, found in shards.take(rows, wanted | {"none": np.zeros((count, 0), int)}).items():
            assert found.shape == (count, wanted[name].shape[1] if name in wanted else 0, 3000) and found.flags.c_contiguous
            if name in wanted:
                assert np.array_equal(found, whole[rows[:, None], wanted[name]])


def test_numbers_out_of_range_are_refused(stored):
    shards = Shards(stored[1], True)
    for rows, vectors in (([13], [[0]]), ([-1], [[0]]), ([0], [[6]]), ([0], [[-1]])):
        with pytest.raises(IndexError):
            shards.take(np.array(rows), {"a": np.array(vectors)})


@pytest.mark.skipif(not hasattr(mmap, "MADV_WILLNEED"), reason="this system takes no advice")
def test_all_is_asked_for_before_anything_is_copied(stored):
    _, maps = stored
    shards, asked = Shards(maps, True), []

    class File:
        def __init__(self, number):
            self.number = number

        def madvise(self, advice, begin, length):
            asked.append((self.number, advice, begin, begin + length))

    shards._files = [(File(number), one.offset) for number, one in enumerate(maps)]
    shards.take(np.array([12, 5]), {"a": np.array([[3, 2], [0, 0]]), "b": np.array([[4], [0]])})
    vector, start = 3000 * 2, maps[2].offset + 6 * 6 * 3000 * 2
    expected = [(2, start + 2 * vector, start + 5 * vector), (1, maps[1].offset, maps[1].offset + vector)]
    assert len(asked) == 2
    for (number, advice, begin, end), (shard, first, last) in zip(asked, expected):
        assert number == shard and advice == mmap.MADV_WILLNEED and end == last
        assert begin % mmap.PAGESIZE == 0 and first - mmap.PAGESIZE < begin <= first


def test_threads_can_take_at_the_same_time(stored):
    whole, maps = stored
    shards = Shards(maps, True)

    def work(seed):
        rng = np.random.Generator(np.random.Philox(seed))
        rows, vectors = rng.integers(13, size=50), rng.integers(6, size=(50, 4))
        return np.array_equal(shards.take(rows, {"a": vectors})["a"], whole[rows[:, None], vectors])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(40)))
