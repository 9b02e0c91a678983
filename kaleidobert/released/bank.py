"""A folder of arrays made of released text files: the same numbers, for a fortieth of the time (0.04 against 1.7 ms of CPU per row).

    bank/index.json            format, schema, source, number of rows, sizes and checksums
         <column>.npy          int64, int32 or float32 [N, length], opened as a memory map
         <column>.bin          the texts of a str column one behind the other, UTF-8; <column>.ends.npy i64[N]: where each ends

What was spoiled in the files stays spoiled: such a bank serves the tasks with the answers that were baked into the files.
Features stay float32, as the released reader delivers them, so that logits agree to the last digit; half=True stores float16.
"""

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from tqdm import tqdm

from kaleidobert import io
from kaleidobert.errors import UserError
from kaleidobert.released import files as released_files
from kaleidobert.released import schema as released_schema
from kaleidobert.released.index import Index
from kaleidobert.released.schema import Column, Schema
from kaleidobert.remote.partial import explained, locked

FORMAT = "released rows 1"
INDEX, PROGRESS, LINES, LOCK = "index.json", "progress.json", ".lines.npz", ".lock"
REMAKE = "delete the folder and convert the files again"
BATCH = 64  # rows written at a time
KEEP = 16  # batches between two places from which an interrupted conversion goes on
ENDS = "ends.npy"
ITEMS = {"float": np.float32, "base64": np.float32, "int": np.int64}


class FolderRows:
    """The opened folder, a released_rows.Rows. Raises UserError where a file is missing or has another size than the index says."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.index: dict[str, Any] = io.read_json(self.folder / INDEX)
        if self.index.get("format") != FORMAT:
            raise UserError(f"the folder has format {self.index.get('format')!r}", str(self.folder), FORMAT, REMAKE)
        for name, entry in self.index["files"].items():
            path = self.folder / name
            size = path.stat().st_size if path.is_file() else -1
            if size != entry["bytes"]:
                raise UserError("is missing" if size < 0 else f"has {size:,} bytes", str(path), f"{entry['bytes']:,} bytes", REMAKE)
        self.schema = released_schema.parse(self.index["schema"], str(self.folder / INDEX))
        self._arrays = {column.name: np.load(self.folder / _name(column), mmap_mode="r", allow_pickle=False)
                        for column in self.schema.columns}

    def __len__(self) -> int:
        return self.index["rows"]

    def take(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        return {column.name: self._column(column, numbers) for column in self.schema.columns}

    def scan(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        return {name: self._column(self.schema.column(name), np.arange(len(self))) for name in names}

    def stream(self, size: int) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        for start in range(0, len(self), size):
            yield start, self.take(np.arange(start, min(start + size, len(self))))

    def where(self, number: int) -> str:
        return f"{self.folder}, row {number + 1:,}"

    def first(self, name: str) -> np.ndarray:
        return self._column(self.schema.column(name), np.zeros(1, int))[0]

    def fingerprint(self) -> dict[str, Any]:
        return {"schema": str(self.schema), **self.index["files"]}

    def summary(self) -> str:
        return f"{len(self):,} rows, {sum(entry['bytes'] for entry in self.index['files'].values()) / 1e9:.3g} GB"

    def verify(self) -> None:
        """Read every file and compare its SHA-256; UserError names the first that differs."""
        for name, entry in self.index["files"].items():
            if _sha256(self.folder / name) != entry["sha256"]:
                raise UserError(f"the content does not fit the checksum in {INDEX}", str(self.folder / name), fix=REMAKE)

    def _column(self, column: Column, numbers: np.ndarray) -> np.ndarray:
        array = self._arrays[column.name]
        if column.type != "str":
            values = array[numbers]
            return values.astype(np.float32) if values.dtype == np.float16 else values
        texts = []
        with open(self.folder / f"{column.name}.bin", "rb") as file:
            for number in numbers:
                begin = int(array[number - 1]) if number else 0
                file.seek(begin)
                texts.append([file.read(int(array[number]) - begin).decode("utf-8")])
        return np.array(texts, object)


def convert(paths: Sequence[str | Path], schema: Schema, folder: str | Path, threads: int = 1, half: bool = False) -> FolderRows:
    """Write the rows of all files into ``folder`` and open it. An interrupted conversion goes on where it stopped; index.json, without
    which the folder is not opened, comes last. schema: with true lengths (released_schema.for_task). half: features as float16.

    Another process that converts into the same folder is waited for. UserError for any mistake in the files, and where the folder
    holds something else.
    """
    folder, files = Path(folder), [Path(path) for path in paths]
    names = {path.name for path in folder.iterdir() if path.name[0] != "."} if folder.is_dir() else set()
    if folder.exists() and not folder.is_dir() or names and not names & {INDEX, PROGRESS}:
        raise UserError("is not empty and holds no conversion", str(folder), fix="choose another folder")
    if (folder / INDEX).is_file():
        return _convert(files, schema, folder, threads, half)
    with ExitStack() as stack:
        with explained(folder):
            stack.enter_context(locked(folder / LOCK, threading.Event()))
        rows = _convert(files, schema, folder, threads, half)
        (folder / LOCK).unlink()
    return rows


def _convert(paths: Sequence[Path], schema: Schema, folder: Path, threads: int, half: bool) -> FolderRows:
    """What ``convert`` does, by one process at a time."""
    if (folder / INDEX).is_file():
        rows = FolderRows(folder)
        _check_same(folder, rows.index["source"], _source(Index.open(paths, folder / LINES), schema, half))
        print(f"{folder} is complete: {rows.summary()}")
        return rows
    if not (folder / PROGRESS).is_file():
        io.write_json(folder / PROGRESS, {"source": None, "rows": 0, "texts": {}})
    lines = Index.open(paths, folder / LINES)
    source, progress = _source(lines, schema, half), io.read_json(folder / PROGRESS)
    if progress["source"] is None:
        progress["source"] = source
        io.write_json(folder / PROGRESS, progress)
    _check_same(folder, progress["source"], source)
    _check_room(folder, lines, schema, half, progress["rows"])
    _fill(folder, lines, schema, half, progress, threads)
    names = [name for column in schema.columns for name in ([_name(column)] + ([f"{column.name}.bin"] if column.type == "str" else []))]
    sums = {name: {"bytes": (folder / name).stat().st_size, "sha256": _sha256(folder / name)}
            for name in tqdm(names, desc="checksums", unit="file", leave=False)}
    io.write_json(folder / INDEX, {"format": FORMAT, "rows": len(lines), "schema": str(schema), "half": half, "source": source,
                                      "files": sums})
    (folder / PROGRESS).unlink()
    return FolderRows(folder)


def _fill(folder: Path, lines: Index, schema: Schema, half: bool, progress: dict[str, Any], threads: int) -> None:
    """Append the rows that are not there yet; progress.json says how many are safe on the disk."""
    done, texts = progress["rows"], dict(progress["texts"])
    with ExitStack() as stack:
        outputs = {column.name: stack.enter_context(_opened(folder / _name(column), _dtype(column, half), _shape(column, len(lines)), done))
                   for column in schema.columns}
        blobs = {column.name: stack.enter_context(_cut(folder / f"{column.name}.bin", texts.get(column.name, 0)))
                 for column in schema.columns if column.type == "str"}
        bar = stack.enter_context(tqdm(total=len(lines), initial=done, unit="row", desc=folder.name))
        rows = released_files.rows(lines.paths, schema, lines.position(done), threads)
        for number, (_, batch) in enumerate(released_files.batches(rows, BATCH), 1):
            for column in schema.columns:
                values = batch[column.name]
                if column.type == "str":
                    raw = [text.encode("utf-8") for text, in values.tolist()]
                    blobs[column.name].write(b"".join(raw))
                    values = texts.get(column.name, 0) + np.cumsum([len(text) for text in raw])
                    texts[column.name] = int(values[-1])
                with np.errstate(over="ignore"):
                    small = values.astype(_dtype(column, half))
                if half and not np.array_equal(np.isfinite(small), np.isfinite(values)):
                    large = (np.isfinite(small) != np.isfinite(values)).any(1)
                    raise UserError("holds numbers beyond float16", f"{lines.where(done + int(large.argmax()))}, column {column.name!r}",
                                    "up to 65,504", "convert with half=false")
                outputs[column.name].write(small.tobytes())
            done += len(batch[schema.columns[0].name])
            bar.update(len(batch[schema.columns[0].name]))
            if number % KEEP == 0 or done == len(lines):
                for file in (*outputs.values(), *blobs.values()):
                    file.flush()
                    os.fsync(file.fileno())  # progress.json must not outlive a power cut that the rows do not
                io.write_json(folder / PROGRESS, {**progress, "rows": done, "texts": texts})
        if done != len(lines):
            raise UserError(f"{done:,} rows were read", str(folder), f"{len(lines):,}: the files changed meanwhile", REMAKE)


def _opened(path: Path, dtype: np.dtype, shape: tuple[int, ...], rows: int) -> BinaryIO:
    """An .npy file of that shape, open for writing behind its first ``rows`` rows; what stood behind them is cut off."""
    if not rows:
        with open(path, "wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False,
                                                        "shape": shape})
    with open(path, "rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        start = file.tell()
    return _cut(path, start + rows * dtype.itemsize * int(np.prod(shape[1:])))


def _cut(path: Path, size: int) -> BinaryIO:
    """The file, of that size, open for writing at its end."""
    file = open(path, "ab")  # noqa: SIM115  the caller's stack closes it
    if path.stat().st_size < size:
        file.close()
        raise UserError("is shorter than progress.json says", str(path), f"{size:,} bytes", REMAKE)
    file.truncate(size)
    return file


def _source(lines: Index, schema: Schema, half: bool) -> dict[str, Any]:
    other = {"encoding": schema.encoding} if schema.encoding != "utf-8" and any(x.type == "str" for x in schema.columns) else {}
    return {"schema": str(schema), "half": half, "files": lines.fingerprint(), **other}


def _check_same(folder: Path, there: dict[str, Any], asked: dict[str, Any]) -> None:
    changed = [key for key in {**there, **asked} if json.dumps(there.get(key)) != json.dumps(asked.get(key))]
    if changed:
        raise UserError(f"the folder was begun with another {', '.join(changed)}", str(folder), "the same as before",
                        "choose another folder, or delete this one")


def _check_room(folder: Path, lines: Index, schema: Schema, half: bool, done: int) -> None:
    per_row = sum(_dtype(column, half).itemsize * column.length for column in schema.columns)
    need, free = per_row * (len(lines) - done), shutil.disk_usage(folder).free
    if need > free:
        raise UserError(f"{need / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free", str(folder),
                        fix="choose another folder, make room, or convert with half=true")


def _name(column: Column) -> str:
    return f"{column.name}.{ENDS}" if column.type == "str" else f"{column.name}.npy"


def _dtype(column: Column, half: bool) -> np.dtype:
    if column.type == "int" and column.length == 1:
        return np.dtype(np.int32)
    if half and column.length > 1 and column.name.startswith(("img_feature_", "img_grey_mask_gt")) and column.type != "int":
        return np.dtype(np.float16)
    return np.dtype(ITEMS.get(column.type, np.int64))


def _shape(column: Column, rows: int) -> tuple[int, ...]:
    return (rows,) if column.type == "str" else (rows, column.length)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
