"""Rows of released data by their numbers: of text files, or of a folder of arrays made of them.

    rows = open_rows("dataset/train_list.list_csv", schema)
    rows.take(np.array([17, 3]))["input_ids"]        # int64[2, 64]

A folder gives the same numbers for a fortieth of the time (0.04 against 1.7 ms of CPU per row):

    folder/index.json          format, schema, source, number of rows, sizes and checksums
           <column>.npy        int64, int32 or float32 [N, length], opened as a memory map
           <column>.bin        the texts of a str column one behind the other, UTF-8; <column>.ends.npy i64[N]: where each ends

What was spoiled in the files stays spoiled: such a folder serves the tasks with the answers that were baked into the files.
Features stay float32, as the released reader delivers them, so that logits agree to the last digit; half=True stores float16.
"""

import glob
import json
import os
import shutil
import threading
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from tqdm import tqdm

from kaleidobert import io
from kaleidobert.errors import UserError
from kaleidobert.released import files
from kaleidobert.released import schema as released_schema
from kaleidobert.released.files import MAX_ENTRY, LineIndex
from kaleidobert.released.schema import Column, Schema
from kaleidobert.remote.downloads import locked

# --- Rows of either


Columns = dict[str, np.ndarray]  # {column: [N, length]}: int64 (int), int32 (int of length 1), float32, or str
MAX_THREADS = 8


class Rows(Protocol):
    """N rows of one schema. Numbers run from 0 over all files in their order."""

    schema: Schema

    def __len__(self) -> int: ...

    def take(self, numbers: np.ndarray) -> Columns: ...

    def scan(self, names: Sequence[str]) -> Columns:
        """Returns a few columns of all rows; the others are not parsed."""
        ...

    def stream(self, size: int) -> Iterator[tuple[int, Columns]]:
        """Yields (number of the first row, columns) of every ``size`` rows in order; the last batch may be smaller."""
        ...

    def where(self, number: int) -> str:
        """Returns the location of a row, for messages."""
        ...

    def first(self, name: str) -> np.ndarray:
        """Returns a column of the first row, without counting the others."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """Returns what a run stores, so that it is not continued with other data."""
        ...

    def summary(self) -> str:
        """Describes the sizes, without counting rows."""
        ...


class TextRows:
    """Rows of text files. cache: file for the positions of the lines. UserError with file, line and column for every mistake."""

    def __init__(self, paths: Sequence[Path], schema: Schema, cache: Path, threads: int = 0):
        self.paths, self.schema, self._cache = list(paths), schema, cache
        self._threads = threads or max(1, min(os.cpu_count() or 1, MAX_THREADS))
        self.bytes = sum(path.stat().st_size for path in self.paths if path.is_file())

    @cached_property
    def index(self) -> LineIndex:
        """The index of the lines, made at the first use: all files are read once, unless the cache holds it."""
        return LineIndex.open(self.paths, self._cache)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads, thread_name_prefix="released-rows")

    def __len__(self) -> int:
        return len(self.index)

    def take(self, numbers: np.ndarray) -> Columns:
        """Reads and parses the columns of these rows, in several threads."""
        index = self.index
        return files.stack(list(self._pool.map(lambda n: files.parse(index.line(int(n)), self.schema), numbers)))

    def scan(self, names: Sequence[str]) -> Columns:
        with tqdm(total=self.bytes, unit="B", unit_scale=True, desc=f"reading {', '.join(names)}", leave=False) as bar:
            def lines():
                for line in files.lines(self.paths):
                    bar.update(len(line.content) + 1)
                    yield line.after, files.parse(line, self.schema, names)

            chunks = [columns for _, columns in files.batches(lines(), 1000)]
        return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in names}

    def stream(self, size: int) -> Iterator[tuple[int, Columns]]:
        rows = files.rows(self.paths, self.schema, threads=self._threads)
        for number, (_, columns) in enumerate(files.batches(rows, size)):
            yield number * size, columns

    def where(self, number: int) -> str:
        if "index" in self.__dict__:
            return self.index.where(number)
        return next(islice(files.lines(self.paths), number, None)).where  # one message is not worth counting all lines

    def first(self, name: str) -> np.ndarray:
        line = next(files.lines(self.paths))
        return np.asarray(files.parse(line, self.schema)[name])

    def fingerprint(self) -> dict[str, Any]:
        return {"schema": str(self.schema), **self.index.fingerprint()}

    def summary(self) -> str:
        line = next(files.lines(self.paths))
        about = max(1, round(self.bytes / (len(line.content) + 1)))
        return f"{len(self.paths)} file(s), {self.bytes / 1e9:.3g} GB, about {about:,} rows"


# --- A folder of arrays


FORMAT = "released rows 1"
INDEX, PROGRESS, LINES, LOCK = "index.json", "progress.json", ".lines.npz", ".lock"
REMAKE = "delete the folder and convert the files again"
BATCH = 64  # rows written at a time
KEEP = 16  # batches between two positions from which an interrupted conversion continues
ENDS = "ends.npy"
ITEMS = {"float": np.float32, "base64": np.float32, "int": np.int64}


class FolderRows:
    """The rows of a folder of arrays. Raises UserError where a file is missing or has another size than in the index."""

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
        """Compares the SHA-256 of every file; UserError names the first that differs."""
        for name, entry in self.index["files"].items():
            if io.sha256(self.folder / name) != entry["sha256"]:
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
    """Writes the rows of all files into ``folder`` and opens it. schema: with true lengths (schema.for_task). half: features as float16.

    An interrupted conversion continues where it stopped; index.json, without which the folder cannot be opened, is written last.
    The call waits for another process that converts into the same folder. UserError for any mistake in the files, and where the
    folder holds something else.
    """
    folder, files = Path(folder), [Path(path) for path in paths]
    names = {path.name for path in folder.iterdir() if path.name[0] != "."} if folder.is_dir() else set()
    if folder.exists() and not folder.is_dir() or names and not names & {INDEX, PROGRESS}:
        raise UserError("is not empty and holds no conversion", str(folder), fix="choose another folder")
    if (folder / INDEX).is_file():
        return _convert(files, schema, folder, threads, half)
    with ExitStack() as stack:
        with io.explained(folder, resumes=True):
            stack.enter_context(locked(folder / LOCK, threading.Event()))
        rows = _convert(files, schema, folder, threads, half)
        (folder / LOCK).unlink()
    return rows


def _convert(paths: Sequence[Path], schema: Schema, folder: Path, threads: int, half: bool) -> FolderRows:
    """Does what ``convert`` says, in one process at a time."""
    if (folder / INDEX).is_file():
        rows = FolderRows(folder)
        _check_same(folder, rows.index["source"], _source(LineIndex.open(paths, folder / LINES), schema, half))
        print(f"{folder} is complete: {rows.summary()}")
        return rows
    if not (folder / PROGRESS).is_file():
        io.write_json(folder / PROGRESS, {"source": None, "rows": 0, "texts": {}})
    lines = LineIndex.open(paths, folder / LINES)
    source, progress = _source(lines, schema, half), io.read_json(folder / PROGRESS)
    if progress["source"] is None:
        progress["source"] = source
        io.write_json(folder / PROGRESS, progress)
    _check_same(folder, progress["source"], source)
    _check_room(folder, lines, schema, half, progress["rows"])
    _fill(folder, lines, schema, half, progress, threads)
    names = [name for column in schema.columns for name in ([_name(column)] + ([f"{column.name}.bin"] if column.type == "str" else []))]
    sums = {name: {"bytes": (folder / name).stat().st_size, "sha256": io.sha256(folder / name)}
            for name in tqdm(names, desc="checksums", unit="file", leave=False)}
    io.write_json(folder / INDEX, {"format": FORMAT, "rows": len(lines), "schema": str(schema), "half": half, "source": source,
                                      "files": sums})
    (folder / PROGRESS).unlink()
    return FolderRows(folder)


def _fill(folder: Path, lines: LineIndex, schema: Schema, half: bool, progress: dict[str, Any], threads: int) -> None:
    """Appends the missing rows; progress.json records how many are safe on the disk."""
    done, texts = progress["rows"], dict(progress["texts"])
    with ExitStack() as stack:
        outputs = {column.name: stack.enter_context(_opened(folder / _name(column), _dtype(column, half), _shape(column, len(lines)), done))
                   for column in schema.columns}
        blobs = {column.name: stack.enter_context(_truncated(folder / f"{column.name}.bin", texts.get(column.name, 0)))
                 for column in schema.columns if column.type == "str"}
        bar = stack.enter_context(tqdm(total=len(lines), initial=done, unit="row", desc=folder.name))
        rows = files.rows(lines.paths, schema, lines.position(done), threads)
        for number, (_, batch) in enumerate(files.batches(rows, BATCH), 1):
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
    """Opens an .npy file of that shape for writing after its first ``rows`` rows; it is cut off there."""
    if not rows:
        with open(path, "wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False,
                                                        "shape": shape})
    with open(path, "rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        start = file.tell()
    return _truncated(path, start + rows * dtype.itemsize * int(np.prod(shape[1:])))


def _truncated(path: Path, size: int) -> BinaryIO:
    """Cuts a file to that size and opens it for writing at its end."""
    file = open(path, "ab")  # noqa: SIM115  the caller's stack closes it
    if path.stat().st_size < size:
        file.close()
        raise UserError("is shorter than progress.json says", str(path), f"{size:,} bytes", REMAKE)
    file.truncate(size)
    return file


def _source(lines: LineIndex, schema: Schema, half: bool) -> dict[str, Any]:
    other = {"encoding": schema.encoding} if schema.encoding != "utf-8" and any(x.type == "str" for x in schema.columns) else {}
    return {"schema": str(schema), "half": half, "files": lines.fingerprint(), **other}


def _check_same(folder: Path, stored: dict[str, Any], requested: dict[str, Any]) -> None:
    changed = [key for key in {**stored, **requested} if json.dumps(stored.get(key)) != json.dumps(requested.get(key))]
    if changed:
        raise UserError(f"the folder was begun with another {', '.join(changed)}", str(folder), "the same as before",
                        "choose another folder, or delete this one")


def _check_room(folder: Path, lines: LineIndex, schema: Schema, half: bool, done: int) -> None:
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


# --- Opening and checking either


def open_rows(source: str | Path, schema: Schema, threads: int = 0) -> Rows:
    """Opens the rows of a data file, of the files in a list, of those that match a pattern (``dataset/finetune/finetune_train__*``), or
    of a folder made by ``convert``, whose own schema then counts. UserError where there is none."""
    source = Path(source)
    if source.is_dir():
        if not (source / INDEX).is_file():
            raise UserError("there is no finished conversion in this folder", str(source), f"{INDEX}",
                            "name a data file, a list of them or a pattern such as "
                            f"{source / 'finetune_train__*'}, or run the conversion again: it continues where it stopped")
        rows = FolderRows(source)
        _check_columns(rows, schema.names)
        return rows
    cache = source.with_name(f".{source.name.replace('*', '_').replace('?', '_')}.lines.npz")
    return TextRows(data_files(source), schema, cache, threads)


def data_files(source: str | Path) -> list[Path]:
    """Returns the data files that a path means: itself, those in the list that it is, or those that match it as a pattern.

    UserError where there is none, and as files.read_list.
    """
    source = Path(source)
    if any(mark in source.name for mark in "*?"):
        matches = [Path(name) for name in sorted(glob.glob(str(source))) if Path(name).is_file()]
        if not matches:
            raise UserError("no file has such a name", str(source), "data files of the release", "fetch them (dataset/get_*.sh), "
                            "or set data.files and data.val_files to where they are")
        return matches
    with io.readable(source, "a data file, a list of data files, a pattern with *, or a folder made of them",
                     "set data.files and data.val_files"), open(source, "rb") as file:
        start = file.read(MAX_ENTRY)
    # a line of a list has no TAB, and a line of data is longer than any file name where its first TAB comes late
    return [source] if b"\t" in start or len(start.split(b"\n")[0]) == MAX_ENTRY else files.read_list(source)


def check_values(rows: Rows, numbers: np.ndarray, name: str, values: np.ndarray, limit: int, meaning: str) -> None:
    """Raises UserError with the location of the first row, one of ``numbers``, whose values [N, length] are not all 0 to limit - 1."""
    wrong = np.flatnonzero(((values < 0) | (values >= limit)).any(1))
    if wrong.size:
        row = values[wrong[0]]
        value = row[(row < 0) | (row >= limit)][0]
        raise UserError(f"holds {value}", f"{rows.where(int(numbers[wrong[0]]))}, column {name!r}", f"{meaning}: 0 to {limit - 1:,}")


def check_finite(rows: Rows, numbers: np.ndarray, name: str, values: np.ndarray) -> None:
    """Raises UserError with the location of the first row whose values [N, length] hold NaN or infinite numbers."""
    if not np.isfinite(values).all():
        first = int(np.flatnonzero(~np.isfinite(values).all(1))[0])
        raise UserError("holds NaN or infinite numbers", f"{rows.where(int(numbers[first]))}, column {name!r}", "finite numbers")


def _check_columns(rows: FolderRows, names: Collection[str]) -> None:
    missing = [name for name in names if name not in rows.schema.names]
    if missing:
        raise UserError(f"lacks the columns {', '.join(missing)}", str(rows.folder), "a conversion of files for the same task",
                        "convert the files of this task, or leave data.schema empty")
