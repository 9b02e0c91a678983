"""How a bank holds its features, as float16 or as bytes with a scale for each vector, and a copy of a bank that holds them otherwise."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from kaleidobert import io
from kaleidobert.datasets.bank import alignment
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.errors import UserError
from kaleidobert.io import sha256
from kaleidobert.levels import num_vectors
from kaleidobert.preprocessors.features import quantise

MARK = "copy.json"  # in a copy: of which bank
FIX = "wait until it has ended, or choose another target"


def save(path: Path, features: np.ndarray, storage: str) -> None:
    """Writes a shard f16[n, V, F] to features-*.npy, last of its files; raises UserError where bytes cannot hold it."""
    if storage == "uint8":
        features, scales = quantise(features)
        _save(path.with_name(_scales(path.name)), scales)
    _save(path, features)


def entries(storage: str, shards: Sequence[str]) -> dict[str, Any]:
    """Returns what index.json says of it; nothing of float16, as ever."""
    return {} if storage == "float16" else {"storage": storage, "scales": [_scales(name) for name in shards]}


def check(bank: Bank, target: Path, storage: str) -> dict[str, str]:
    """Returns the mark of this copy; raises UserError where the bank is held so already, or the folder holds something else."""
    if bank.storage == storage:
        raise UserError(f"the bank holds {storage} already", str(bank.folder), "another storage")
    mark = {"source_index_sha256": sha256(bank.folder / "index.json"), "storage": storage}
    if target.exists() and not target.is_dir():
        raise UserError("this is a file", str(target), "a folder", "choose another target")
    begun = (target / MARK).is_file() and io.read_json(target / MARK) == mark
    if not begun and io.contents(target):
        raise UserError("the folder is not empty and holds no copy of this bank", str(target), fix="choose another target, or delete it")
    io.check_unlocked(target, FIX)
    io.check_folder(target, "choose another target")
    made = [name for name in bank.index["shards"] if not (target / name).is_file()]
    values = num_vectors(bank.levels) * sum(end - first for first, end in map(bank.shard, map(bank.index["shards"].index, made)))
    io.check_room(target, values * (bank.feature_size * 2 if storage == "float16" else bank.feature_size + 4), "the features")
    return mark


def convert(bank: Bank, target: Path, storage: str) -> Iterator[int]:
    """Copies a bank, an alignment too, into ``target`` with its features held as ``storage``; yields rows done, shard by shard.

    An interrupted copy goes on where it stopped; index.json comes last. Raises UserError as ``check`` and ``save``, and where the
    source's table or its alignment is not what its index says.
    """
    mark = check(bank, target, storage)
    with io.locked(target, fix=FIX):
        io.write_json(target / MARK, mark)
        io.clear(target)
        yield from _convert(bank, target, storage)


def _convert(bank: Bank, target: Path, storage: str) -> Iterator[int]:
    for number, name in enumerate(bank.index["shards"]):
        first, end = bank.shard(number)
        if not (target / name).is_file():
            rows, vectors = np.arange(first, end), np.arange(num_vectors(bank.levels))
            save(target / name, bank.features(rows, np.broadcast_to(vectors, (len(rows), len(vectors)))), storage)
        yield end - first
    made = {*bank.index["shards"], *bank.index.get("scales", ())}
    kept = [name for name in bank.index["files"] if name not in made]
    aligned = alignment.info(bank)
    for name in (*kept, *((*aligned["files"], alignment.INFO) if aligned else ())):
        with open(bank.folder / name, "rb") as source, io.atomic(target / name) as copy:
            shutil.copyfileobj(source, copy)
    new = entries(storage, bank.index["shards"])
    names = [*bank.index["shards"], *new.get("scales", ()), *kept]
    old = {key: value for key, value in bank.index.items() if key not in ("storage", "scales")}
    io.write_json(target / "index.json", {**old, **new, "files": _files(target, names)})


def _files(folder: Path, names: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
    return {name: {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)} for name in names}


def _scales(name: str) -> str:
    return name.replace("features", "scales")


def _save(path: Path, array: np.ndarray) -> None:
    with io.atomic(path) as file:
        # only its write method: into a real file numpy writes past Python, and a full disk is an error without a number
        np.save(SimpleNamespace(write=file.write), array)
