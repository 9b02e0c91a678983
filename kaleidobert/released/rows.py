"""Rows of released data by their numbers, whether they lie in text files or in a folder made of them (released_bank).

    rows = released_rows.open_rows("dataset/train_list.list_csv", schema)
    rows.take(np.array([17, 3]))["input_ids"]        # int64[2, 64]
"""

import glob
import os
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from kaleidobert.errors import UserError
from kaleidobert.released import files
from kaleidobert.released.bank import INDEX, FolderRows
from kaleidobert.released.files import LONGEST_ENTRY
from kaleidobert.released.index import Index
from kaleidobert.released.schema import Schema

Columns = dict[str, np.ndarray]  # {column: [N, length]}: int64 (int), int32 (int of length 1), float32, or str
MOST_THREADS = 8


class Rows(Protocol):
    """N rows of one schema. Numbers run from 0 over all files in their order."""

    schema: Schema

    def __len__(self) -> int: ...

    def take(self, numbers: np.ndarray) -> Columns: ...

    def scan(self, names: Sequence[str]) -> Columns:
        """A few columns of all rows; the others are not read as numbers."""
        ...

    def stream(self, size: int) -> Iterator[tuple[int, Columns]]:
        """(number of its first row, columns) of every ``size`` rows in order, the last ones fewer; memory does not grow."""
        ...

    def where(self, number: int) -> str:
        """The place of a row, for messages."""
        ...

    def first(self, name: str) -> np.ndarray:
        """A column of the first row, without counting the others."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """What a run remembers, so that it is not continued with other data."""
        ...

    def summary(self) -> str:
        """Sizes for people, without counting rows."""
        ...


class TextRows:
    """Rows of text files. cache: where the places of the lines are kept. UserError with file, line and column for every mistake."""

    def __init__(self, paths: Sequence[Path], schema: Schema, cache: Path, threads: int = 0):
        self.paths, self.schema, self._cache = list(paths), schema, cache
        self._threads = threads or max(1, min(os.cpu_count() or 1, MOST_THREADS))
        self.bytes = sum(path.stat().st_size for path in self.paths if path.is_file())

    @cached_property
    def index(self) -> Index:
        """Found at the first need: all files are read once, unless that is in the cache."""
        return Index.open(self.paths, self._cache)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads, thread_name_prefix="released-rows")

    def __len__(self) -> int:
        return len(self.index)

    def take(self, numbers: np.ndarray) -> Columns:
        """The columns of these rows; read and turned into numbers by several threads."""
        index = self.index
        return files.stack(list(self._pool.map(lambda n: files.parse(index.line(int(n)), self.schema), numbers)))

    def scan(self, names: Sequence[str]) -> Columns:
        with tqdm(total=self.bytes, unit="B", unit_scale=True, desc=f"reading {', '.join(names)}", leave=False) as bar:
            def lines():
                for line in files.lines(self.paths):
                    bar.update(len(line.content) + 1)
                    yield line.after, files.parse(line, self.schema, names)

            parts = [columns for _, columns in files.batches(lines(), 1000)]
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def stream(self, size: int) -> Iterator[tuple[int, Columns]]:
        rows = files.rows(self.paths, self.schema, threads=self._threads)
        for number, (_, columns) in enumerate(files.batches(rows, size)):
            yield number * size, columns

    def where(self, number: int) -> str:
        if "index" in self.__dict__:
            return self.index.where(number)
        return next(islice(files.lines(self.paths), number, None)).where  # no count of all lines for one message

    def first(self, name: str) -> np.ndarray:
        line = next(files.lines(self.paths))
        return np.asarray(files.parse(line, self.schema)[name])

    def fingerprint(self) -> dict[str, Any]:
        return {"schema": str(self.schema), **self.index.fingerprint()}

    def summary(self) -> str:
        line = next(files.lines(self.paths))
        about = max(1, round(self.bytes / (len(line.content) + 1)))
        return f"{len(self.paths)} file(s), {self.bytes / 1e9:.3g} GB, about {about:,} rows"


def open_rows(source: str | Path, schema: Schema, threads: int = 0) -> Rows:
    """Rows of a data file, of the files in a list, of those that fit a pattern (``dataset/finetune/finetune_train__*``), or of a
    folder made by released_bank.convert, whose own schema then counts. UserError where there is none."""
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
    """The data files that a path stands for: itself, those in the list that it is, or those that fit it as a pattern.

    UserError where there is none, and as released_files.read_list.
    """
    source = Path(source)
    if any(mark in source.name for mark in "*?"):
        found = [Path(name) for name in sorted(glob.glob(str(source))) if Path(name).is_file()]
        if not found:
            raise UserError("no file has such a name", str(source), "data files of the release", "fetch them (dataset/get_*.sh), "
                            "or set data.files and data.val_files to where they are")
        return found
    try:
        with open(source, "rb") as file:
            start = file.read(LONGEST_ENTRY)
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", str(source), "a data file, a list of data files, a pattern with *, or a "
                        "folder made of them", "set data.files and data.val_files") from None
    # a line of a list has no TAB, and a line of data is longer than any file name where its first TAB comes late
    return [source] if b"\t" in start or len(start.split(b"\n")[0]) == LONGEST_ENTRY else files.read_list(source)


def check_values(rows: Rows, numbers: np.ndarray, name: str, values: np.ndarray, limit: int, meaning: str) -> None:
    """UserError with the place of the first row, one of ``numbers``, whose values [N, length] are not all 0 to limit - 1."""
    wrong = np.flatnonzero(((values < 0) | (values >= limit)).any(1))
    if wrong.size:
        row = values[wrong[0]]
        value = row[(row < 0) | (row >= limit)][0]
        raise UserError(f"holds {value}", f"{rows.where(int(numbers[wrong[0]]))}, column {name!r}", f"{meaning}: 0 to {limit - 1:,}")


def check_finite(rows: Rows, numbers: np.ndarray, name: str, values: np.ndarray) -> None:
    """UserError with the place of the first row whose values [N, length] hold NaN or infinite numbers."""
    if not np.isfinite(values).all():
        place = int(np.flatnonzero(~np.isfinite(values).all(1))[0])
        raise UserError("holds NaN or infinite numbers", f"{rows.where(int(numbers[place]))}, column {name!r}", "finite numbers")


def _check_columns(rows: FolderRows, names: Collection[str]) -> None:
    missing = [name for name in names if name not in rows.schema.names]
    if missing:
        raise UserError(f"lacks the columns {', '.join(missing)}", str(rows.folder), "a conversion of files for the same task",
                        "convert the files of this task, or leave data.schema empty")
