"""Tables of Parquet and Arrow: their rows, and the pictures that their cells hold.

Hugging Face's ``datasets`` and others store the bytes of a picture in a cell, by themselves or as {bytes, path}. Such a picture is named
FILE#row=17&column=image, and FILE#row=17&item=2&column=image where the cell is a list; rows and items count from 1. Tables and pictures are
read a few rows at a time: as much of them is in memory, and of Parquet a page, however large they are.
"""

import json
import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, count
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kaleidobert.errors import UserError

PICTURE = re.compile(r"(?P<file>.+)#row=(?P<row>\d+)(?:&item=(?P<item>\d+))?&column=(?P<column>.+)", re.DOTALL)
ROWS, PICTURES = 1024, 16  # rows in memory at a time, of texts alone and of pictures
KEPT = 4  # such pieces of a column of pictures: several threads that read in order are not exactly in order
BUFFER = 1 << 20  # bytes of a file that are read ahead
DAMAGED = (OSError, ValueError, LookupError, pa.ArrowException)


class Embedded(str):
    """The path of a picture in a cell. name: what the table calls it, or the file and the row where it does not."""

    name: str

    def __new__(cls, path: str, name: str) -> "Embedded":
        """Returns the path with a name."""
        self = super().__new__(cls, path)
        self.name = name
        return self


def schema(path: Path) -> pa.Schema:
    """Returns the columns of a file. Raises what pyarrow raises of a damaged one."""
    return pq.read_schema(path) if _is_parquet(path) else _arrow_file(path).schema


def rows(path: Path, wanted: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yields the rows of a file, {column: cell} of the wanted columns.

    Bytes are texts where they are UTF-8, and Embedded where they are not; of {bytes, path} without bytes the path is left, and of numbers
    that ``datasets`` keeps in place of classes the names. Raises what pyarrow raises of a damaged file.
    """
    own = schema(path)
    classes = {name: names for name, names in _classes(own).items() if name in wanted}
    binary = [field.name for field in own if field.name in wanted and _holds_bytes(field.type)]
    numbers = count(1)
    for batch in _batches(path, list(wanted), PICTURES if binary else ROWS):
        batch.validate(full=True)  # what is damaged is read from anywhere in the memory otherwise
        for row in batch.to_pylist():
            number = next(numbers)
            row.update((name, _cell(row[name], path, number, name)) for name in binary)
            row.update((name, _class(row[name], names)) for name, names in classes.items())
            yield row


def picture(name: str) -> bytes | None:
    """Returns the bytes of the picture that a name such as FILE#row=17&column=image stands for; None for any other name.

    Pictures that are asked for in their order are read once; others of Parquet cost the part of their row group that stands before them.
    Raises UserError where there is no such file, row or picture, and where the file is damaged.
    """
    match = PICTURE.fullmatch(name)
    if match is None:
        return None
    path = Path(match["file"])
    try:
        state = path.stat()
        cell = _column(path, match["column"], state.st_size, state.st_mtime_ns).cell(int(match["row"]) - 1)
    except FileNotFoundError:
        raise UserError("there is no such table of pictures", name) from None
    except DAMAGED as error:
        raise UserError(f"the table of the picture cannot be read ({' '.join(str(error).split())[:160]})", name) from None
    if match["item"]:
        cell = cell[int(match["item"]) - 1] if isinstance(cell, list) and int(match["item"]) <= len(cell) else None
    data = cell.get("bytes") if isinstance(cell, Mapping) else cell
    if not isinstance(data, bytes):
        raise UserError("the cell holds no picture", name)
    return data


def table_of(name: str) -> Path | None:
    """Returns the file in which a picture lies that is named so, None where it is a file of its own.

    >>> table_of("shop/a.parquet#row=3&column=image"), table_of("a.jpg")
    (PosixPath('shop/a.parquet'), None)
    """
    match = PICTURE.fullmatch(name)
    return Path(match["file"]) if match else None


class _Column:
    """The cells of one column of a file; what was read last is kept, and reading goes on from there."""

    def __init__(self, path: Path, column: str):
        self._path, self._column = path, column
        self._starts = _starts(path)
        self._lock = Lock()
        self._recent: deque[tuple[int, pa.Array]] = deque(maxlen=KEPT)
        self._block, self._next, self._pieces = -1, 0, iter(())

    def cell(self, row: int) -> Any:
        """Returns a cell, rows counted from 0; None where there is no such row."""
        with self._lock:
            for start, cells in self._recent:
                if start <= row < start + len(cells):
                    return cells[row - start].as_py()
            block = bisect_right(self._starts, row) - 1
            if block != self._block or row < self._next:
                blocks = None if len(self._starts) == 1 else [block]
                self._block, self._next = block, self._starts[block]
                self._pieces = (batch.column(0) for batch in _batches(self._path, [self._column], PICTURES, blocks))
            for cells in self._pieces:
                cells.validate(full=True)
                start, self._next = self._next, self._next + len(cells)
                self._recent.append((start, cells))
                if row < self._next:
                    return cells[row - start].as_py()
            self._block = -1  # the end: begin again the next time
            return None


@lru_cache(4)
def _column(path: Path, column: str, size: int, changed: int) -> _Column:
    """Returns a column that stays open. size, changed: of the file now, so that a file written anew is opened anew."""
    return _Column(path, column)


def _starts(path: Path) -> list[int]:
    """Returns the first rows of the parts of a file at which reading can begin: row groups of Parquet, the whole of others."""
    if not _is_parquet(path):
        return [0]
    groups = pq.read_metadata(path)
    return list(accumulate((groups.row_group(number).num_rows for number in range(groups.num_row_groups - 1)), initial=0))


def _batches(path: Path, wanted: list[str], size: int, groups: list[int] | None = None) -> Iterator[pa.RecordBatch]:
    """Yields the wanted columns, at most ``size`` rows at a time; of Parquet those of some row groups, None = of all."""
    if _is_parquet(path):
        with pq.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False) as file:
            yield from file.iter_batches(size, row_groups=groups, columns=wanted, use_threads=False)
        return
    file = _arrow_file(path)
    parts = (file.get_batch(i) for i in range(file.num_record_batches)) if hasattr(file, "get_batch") else iter(file)
    yield from (part.select(wanted).slice(start, size) for part in parts for start in range(0, part.num_rows, size))


def _is_parquet(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == b"PAR1"


def _arrow_file(path: Path) -> Any:
    try:
        return pa.ipc.open_file(pa.memory_map(str(path)))
    except pa.ArrowInvalid:
        return pa.ipc.open_stream(pa.memory_map(str(path)))


def _holds_bytes(kind: pa.DataType) -> bool:
    """Whether cells of a type are bytes, objects with bytes, or lists of either."""
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and (_holds_bytes(field.type) or pa.types.is_null(field.type)) for field in kind)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _holds_bytes(kind.value_type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def _cell(value: Any, path: Path, row: int, column: str, item: int = 0) -> Any:
    """Returns a cell with the names of pictures in place of their bytes."""
    if isinstance(value, list):
        return [_cell(each, path, row, column, number) for number, each in enumerate(value, 1)]
    name = ""
    if isinstance(value, Mapping):
        if value.get("bytes") is None:
            return value.get("path") if value.keys() <= {"bytes", "path"} else value
        name = value.get("path") or ""
    elif not isinstance(value, bytes):
        return value
    else:
        try:
            return value.decode()
        except UnicodeDecodeError:
            pass
    return Embedded(f"{path}#row={row}{f'&item={item}' if item else ''}&column={column}",
                    name or f"{path.stem}-{row}{f'-{item}' if item else ''}")


def _classes(own: pa.Schema) -> dict[str, list[str]]:
    """Returns {column: names of its classes} as ``datasets`` notes them of columns that hold numbers of classes."""
    try:
        features = json.loads((own.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: list(map(str, feature["names"])) for name, feature in features.items() if feature.get("_type") == "ClassLabel"}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _class(value: Any, names: Sequence[str]) -> Any:
    """Returns the name of a class; None for -1, which stands for none."""
    if not isinstance(value, int) or value >= len(names):
        return value
    return names[value] if value >= 0 else None
