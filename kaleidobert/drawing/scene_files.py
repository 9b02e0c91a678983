"""What the foreground network is trained and tested on as files: drawn by worker processes, kept, and read again.

A file holds SHARD pictures of a part, uint8[N, s, s, C]: foregrounds and backgrounds, which the training puts together, and the
whole scenes of the tests (PARTS).
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from kaleidobert import io
from kaleidobert.drawing.scenes import recomposition, scenes

SHARD = 100
PARTS: dict[str, Callable[[int, int, int, int], np.ndarray]] = {  # seed, start, count, size -> pictures
    "foregrounds": scenes.foregrounds, "backgrounds": recomposition.backgrounds, "test": scenes.split,
    "goods": partial(scenes.split, goods=True)}


@dataclass(frozen=True)
class Scenes:
    """images uint8[N, s, s, 3] and masks bool[N, s, s]."""

    images: np.ndarray
    masks: np.ndarray


class Stock:
    """The pictures of a part, left on disk until they are asked for."""

    def __init__(self, folder: Path, part: str):
        self._files = [np.load(path, mmap_mode="r", allow_pickle=False) for path in _paths(folder, part)]
        self._shard = len(self._files[0])

    def __len__(self) -> int:
        return self._shard * (len(self._files) - 1) + len(self._files[-1])

    def __getitem__(self, index: int) -> np.ndarray:
        return np.asarray(self._files[index // self._shard][index % self._shard])


def draw(folder: Path, part: str, seed: int, count: int, size: int, workers: int = 0) -> Iterator[int]:
    """Draw the files of a part that are not there yet; yields numbers of pictures as they are done. workers: 0 = one per core."""
    tasks = [(folder / f"{part}-{start:06d}.npy", part, seed, start, min(SHARD, count - start), size)
             for start in range(0, count, SHARD)]
    todo = [task for task in tasks if not task[0].is_file()]
    yield sum(task[4] for task in tasks) - sum(task[4] for task in todo)
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
    """All whole scenes of a part, in the order of their numbers."""
    together = np.concatenate([np.load(path, allow_pickle=False) for path in _paths(folder, part)])
    return Scenes(together[..., :3], together[..., 3] > 0)


def _paths(folder: Path, part: str) -> list[Path]:
    return sorted(folder.glob(f"{part}-*.npy"))


def _draw_some(task: tuple) -> int:
    path, part, seed, start, count, size = task
    made = PARTS[part](seed, start, count, size)
    with io.atomic(path) as file:
        # only its write method: into a real file numpy writes past Python, and a full disk is an error without a number
        np.save(SimpleNamespace(write=file.write), made, allow_pickle=False)
    return count
