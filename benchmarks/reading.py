"""What sampler.py measures beside the speed of one thread: how long a step waits for its batch, and reading what is not in memory."""

import gc
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter, process_time, sleep
from typing import Any

import numpy as np

from kaleidobert import levels as kaleido
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.engines.feeding import Metered, prefetch

SECONDS = 6.0  # of pretended steps
BATCHES = 40  # read cold, at most


def waiting(batch, examples: int, seconds: float, workers: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Returns rows of a table: the share of its time that a step of so many seconds, which leaves the processor alone, waits for
    batch(n)."""
    for count in workers:
        fed = Metered(prefetch(batch, range(1 + max(8, round(SECONDS / seconds))), count))
        for _ in fed:
            sleep(seconds)
        yield {"batch": examples, "step ms": round(1e3 * seconds), "workers": count, "waits, % of the time":
               round(100 * fed.waited_fraction, 2)}


def cold(folder: Path, batch: int, workers: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Returns rows of a table: pictures read from shards that are not in memory, in random order and shard by shard.

    What lies in memory of the shards is given up beforehand, as far as the kernel does; disks and hosts have memories of their own.
    """
    for order in ("random", "sequential"):
        for count in workers:
            evict(folder)
            yield {"order": order, "workers": count, **_read(Bank(folder), batch, order == "random", count)}


def _read(bank: Bank, batch: int, random: bool, workers: int) -> dict[str, Any]:
    rows = np.random.Generator(np.random.Philox(workers)).permutation(bank.size) if random else np.arange(bank.size)
    rows = rows[: min(BATCHES, bank.size // batch) * batch].reshape(-1, batch)
    vectors = {"patches": np.tile(np.arange(kaleido.num_patches(bank.levels)), (batch, 1))}
    wall, cpu, size = perf_counter(), process_time(), 0
    for result in prefetch(lambda number: bank.gather(rows[number], vectors), range(len(rows)), workers):
        size += sum(array.nbytes for array in result.values())
    wall, cpu = perf_counter() - wall, process_time() - cpu
    return {"pictures/s": round(rows.size / wall), "MB/s": round(size / wall / 1e6), "cpu share": round(cpu / wall, 2)}


def evict(folder: Path) -> None:
    """Frees the memory that holds the shards, which nothing may have mapped."""
    gc.collect()  # a sampler lives in a cycle of references, and keeps its bank open
    for path in folder.glob("features-*.npy"):
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the rows as Markdown."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---:|" * len(rows[0])]
    return "\n".join([*lines, *("| " + " | ".join(str(value) for value in row.values()) + " |" for row in rows)]) + "\n"
