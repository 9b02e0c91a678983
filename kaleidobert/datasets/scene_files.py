"""The drawn scenes of the foreground network as files: drawn by worker processes, kept, and read again.

A file holds SHARD scenes, uint8[N, s, s, 4]: red, green, blue, and 1 where there is foreground.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from kaleidobert import files
from kaleidobert.datasets.drawn import scenes

SHARD = 100


@dataclass(frozen=True)
class Scenes:
    """images uint8[N, s, s, 3] and masks bool[N, s, s]."""

    images: np.ndarray
    masks: np.ndarray


def draw(folder: Path, part: str, seed: int, count: int, size: int, held_out: tuple[str, ...] = (), workers: int = 0) -> Iterator[int]:
    """Draw the files of a part that are not there yet; yields numbers of scenes as they are done.

    held_out: families of surroundings.HELD_OUT that take turns, () for those of the training. workers: 0 = one per core.
    """
    tasks = [(folder / f"{part}-{start:06d}.npy", seed, min(SHARD, count - start), size, start, held_out)
             for start in range(0, count, SHARD)]
    todo = [task for task in tasks if not task[0].is_file()]
    yield sum(task[2] for task in tasks) - sum(task[2] for task in todo)
    workers = min(workers or os.cpu_count() or 1, len(todo))
    if workers <= 1:
        yield from map(_draw_some, todo)
        return
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:  # spawn: a process with TensorFlow's threads must not be copied
        try:
            for future in as_completed([pool.submit(_draw_some, task) for task in todo]):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def read(folder: Path, part: str) -> Scenes:
    """All scenes of a part, in the order of their numbers."""
    together = np.concatenate([np.load(path, allow_pickle=False) for path in sorted(folder.glob(f"{part}-*.npy"))])
    return Scenes(together[..., :3], together[..., 3] > 0)


def _draw_some(task: tuple) -> int:
    path, seed, count, size, start, held_out = task
    images, masks = scenes.split(seed, count, size, start, held_out)
    with files.atomic(path) as file:
        # only its write method: into a real file numpy writes past Python, and a full disk is an error without a number
        np.save(SimpleNamespace(write=file.write), np.concatenate([images, masks[..., None].astype(np.uint8)], axis=-1), allow_pickle=False)
    return count
