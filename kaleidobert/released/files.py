"""The released text files: lists of files, their lines in order, and any line by its number.

    paths = files.read_list("dataset/train_list.list_csv")
    for after, row in files.rows(paths, schema, threads=4):
        row["input_ids"]          # int64[64]; `after` is the position from which reading continues
    index = files.LineIndex.open(paths, cache)
    row = files.parse(index.line(17), schema)

A line has TAB-separated columns, without quoting; there is no header. Files may be larger than the memory. Every mistake is a
UserError with file, line number and column. As released: carriage returns are dropped, the last line needs no newline, an empty
scalar is 0, blanks around numbers mean nothing, empty items of a vector are dropped; a blank line, another number of columns and a
"+" before an int scalar are errors. Unlike there, vectors have the length of their column, and a file without any line is an error.

With the index a batch is a function of seed and step: rows are drawn in any order, and a run resumes exactly without any state.
"""

import binascii
import hashlib
import json
import os
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from os.path import isfile
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kaleidobert import io
from kaleidobert.errors import UserError
from kaleidobert.released import numbers
from kaleidobert.released.schema import Column, Schema

# --- Reading in order


Row = dict[str, np.ndarray | str]
BUFFER = 1 << 22  # bytes read at a time
MAX_LINE = 1 << 26  # bytes; a line of the release has about 1 MB
MAX_ENTRY = 1 << 14  # bytes of a line of a list file
AHEAD = 3  # lines in progress per thread
GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Position:
    """A position between two lines: index of the file, byte offset in it, lines before it in that file."""

    file: int = 0
    offset: int = 0
    line: int = 0


@dataclass(frozen=True)
class Line:
    """A line. content: without its end. where: file and line number, for messages. ended: False for a last line without newline."""

    content: bytes
    where: str
    after: Position
    ended: bool = True


def read_list(path: str | Path, root: str | Path | None = None) -> list[Path]:
    """Reads the data files that a list file names, in its order. Lines are stripped; blank ones and those of digits only are skipped.

    Relative names start at ``root``; without it at the first of these folders that holds the file: the current one (as released), the
    list's and the one above it. UserError names list, line and file where one is missing, and a list that names none.
    """
    path, names = Path(path), []
    folders = [Path(root)] if root is not None else [Path(), path.parent, path.parent.parent]
    for line in _lines(path, 0, Position(), MAX_ENTRY, "a list file, with the name of one file in a line"):
        try:
            name = line.content.removeprefix(b"\xef\xbb\xbf").decode("utf-8").strip()
        except UnicodeDecodeError:
            raise UserError("is not UTF-8", line.where, "the name of a data file") from None
        if not name or (name.isascii() and name.isdigit()):
            continue
        if "\t" in name or "\0" in name:
            raise UserError("holds a TAB or a zero byte", line.where, "the name of a data file", "name a list file, not a data file")
        tried = [folder / name for folder in folders]
        existing = [candidate for candidate in tried if os.path.isfile(candidate)]  # is_file() raises where a name is too long
        if not existing:
            raise UserError(f"there is no file {name!r}", line.where, "one of " + ", ".join(map(str, dict.fromkeys(tried))),
                            "correct the list, or start in the folder at which its names start" if "://" not in name else
                            "fetch the files first: a list names files of this machine")
        names.append(existing[0])
    if not names:
        raise UserError("names no data file", str(path), "one file in a line")
    return names


def lines(paths: Sequence[str | Path], start: Position = Position()) -> Iterator[Line]:
    """Yields the lines of all files in order, from ``start`` on; UserError for a file that is missing, empty, compressed or no text."""
    if not 0 <= start.file <= len(paths):
        raise UserError(f"the position to continue from is in file {start.file}", "data files", f"0 to {len(paths)}")
    for number in range(start.file, len(paths)):
        begin = start if number == start.file else Position(number)
        yield from _lines(Path(paths[number]), number, begin, MAX_LINE, "a text file with one example in a line")


def rows(paths: Sequence[str | Path], schema: Schema, start: Position = Position(), threads: int = 1) -> Iterator[tuple[Position, Row]]:
    """Yields (position after the row, row) of every line from ``start`` on, in the order of the files for any number of threads.

    A row maps each column to int64[n] (int), int32[1] (int of length 1), float32[n] (float, base64) or text (str).
    """
    if threads <= 1:
        for line in lines(paths, start):
            yield line.after, parse(line, schema)
        return
    stop, waiting = threading.Event(), deque[tuple[Position, Future[Row]]]()
    with ThreadPoolExecutor(threads, thread_name_prefix="released-files") as pool:
        try:
            for task in _tasks(pool, stop, lines(paths, start), schema):
                waiting.append(task)
                if len(waiting) > AHEAD * threads:
                    after, future = waiting.popleft()
                    yield after, future.result()
            while waiting:
                after, future = waiting.popleft()
                yield after, future.result()
        finally:
            stop.set()


def batches(numbered: Iterable[tuple[Position, Row]], size: int) -> Iterator[tuple[Position, dict[str, np.ndarray]]]:
    """Yields (position after the batch, columns as ``stack`` returns them) of every ``size`` rows; the last batch may be smaller."""
    waiting: list[Row] = []
    after = Position()
    for after, row in numbered:
        waiting.append(row)
        if len(waiting) == size:
            yield after, stack(waiting)
            waiting = []
    if waiting:
        yield after, stack(waiting)


def stack(batch: Sequence[Row]) -> dict[str, np.ndarray]:
    """Stacks rows of one schema, {column: [B, length]}, with the types of the released reader; texts as object[B, 1]."""
    return {name: np.stack([row[name] for row in batch]) if isinstance(batch[0][name], np.ndarray)
            else np.array([[row[name]] for row in batch], object) for name in batch[0]}


def parse(line: Line, schema: Schema, only: Collection[str] | None = None) -> Row:
    """Parses the row of a line, or ``only`` these columns; UserError names line and column, and the number that is wrong."""
    content = line.content.replace(b"\r", b"") if b"\r" in line.content else line.content
    hint = "" if line.ended else "the file ends here without a newline: it may be cut off; fetch it again"
    if not content:
        raise UserError("the line is blank", line.where, f"{len(schema.columns)} columns", "take the line out")
    fields = _fields(content)
    if len(fields) != len(schema.columns):
        raise UserError(f"the line has {len(fields)} columns", line.where, f"{len(schema.columns)}, separated by TAB ({schema.origin})",
                        hint or "give the schema of these files")
    row: Row = {}
    for column, field in zip(schema.columns, fields):
        if only is not None and column.name not in only:
            continue
        try:
            row[column.name] = _value(column, field, schema.encoding)
        except numbers.WrongCount as error:
            raise UserError(f"holds {error.count:,} numbers", _at(line, column), f"{column.length:,} ({schema.origin})", hint) from None
        except numbers.BadNumber as error:
            raise UserError(f"number {error.number:,} is {_short(error.item)}", _at(line, column), error.expected, hint) from None
        except UnicodeDecodeError as error:
            raise UserError(f"is not {schema.encoding} (byte {error.start + 1} is 0x{field[error.start]:02x})", _at(line, column),
                            "text", "give the schema the encoding latin-1, if that is what it is") from None
        except binascii.Error as error:
            raise UserError(f"is not base64 ({error})", _at(line, column), f"{4 * column.length:,} bytes in base64", hint) from None
    return row


def _fields(content: bytes) -> list[memoryview]:
    """Splits at TABs without a copy, which for a megabyte takes a tenth of the time of its numbers."""
    view, begin, fields = memoryview(content), 0, []
    while (end := content.find(b"\t", begin)) >= 0:
        fields.append(view[begin:end])
        begin = end + 1
    return [*fields, view[begin:]]


def _value(column: Column, field: memoryview, encoding: str) -> np.ndarray | str:
    if column.type == "str":
        return str(field, encoding)
    if column.type == "base64":
        return numbers.from_base64(bytes(field), column.length)
    if column.length > 1:
        return (numbers.integers if column.type == "int" else numbers.floats)(field, column.length)
    if column.type == "float":
        return _scalar(bytes(field), np.float32, numbers.float_item, "one number")
    return _scalar(bytes(field), np.int32, _int32, "one whole number of 32 bits, without a +")


def _scalar(field: bytes, dtype: type, convert: Callable[[bytes], float | np.floating], expected: str) -> np.ndarray:
    try:
        return np.array([convert(field) if field else 0], dtype)
    except ValueError:
        raise numbers.BadNumber(1, field, expected) from None


def _int32(field: bytes) -> int:
    value = numbers.integer_item(field)
    if not -(2**31) <= value < 2**31 or b"+" in field:
        raise ValueError(field)
    return value


def _tasks(pool: ThreadPoolExecutor, stop: threading.Event, source: Iterator[Line], schema: Schema) -> Iterator[tuple[Position, Future]]:
    """Yields (position after the row, its future). An error of a file comes after the rows before it."""
    try:
        for line in source:
            yield line.after, pool.submit(_parsed, line, schema, stop)
    except UserError as error:
        broken: Future = Future()
        broken.set_exception(error)
        yield Position(), broken


def _parsed(line: Line, schema: Schema, stop: threading.Event) -> Row:
    return {} if stop.is_set() else parse(line, schema)


def _lines(path: Path, number: int, start: Position, longest: int, expected: str) -> Iterator[Line]:
    """Yields the lines of one file, the number-th, from ``start`` on."""
    with io.readable(path, expected), open(path, "rb", buffering=BUFFER) as file:
        assert isinstance(file, BufferedReader)  # as every file with a buffer
        if file.peek(2)[:2] == GZIP:
            raise UserError("is compressed", str(path), expected, "unpack it (gunzip)")
        if start.offset:
            file.seek(start.offset - 1)
            before = file.read(1)
            if before != b"\n" and (not before or file.peek(1)):  # a last line may have no newline
                raise UserError(f"no line begins at byte {start.offset:,}", str(path), "the file that was read before",
                                "begin anew: the file is another one now")
        offset, line = start.offset, start.line
        while content := file.readline(longest):
            offset, line = offset + len(content), line + 1
            where = f"{path}, line {line:,}"
            ended = content.endswith(b"\n")
            if not ended and len(content) == longest:
                raise UserError(f"no line end within {longest:,} bytes", where, expected)
            yield Line(content[:-1] if ended else content, where, Position(number, offset, line), ended)
        if not offset:
            raise UserError("the file is empty", str(path), expected, "fetch it again")


def _at(line: Line, column: Column) -> str:
    return f"{line.where}, column {column.name!r}"


def _short(item: bytes) -> str:
    text = item[:40].decode("utf-8", "backslashreplace")
    return repr(text) + ("..." if len(item) > 40 else "")


# --- Any line by its number


BLOCK = 1 << 24  # bytes
QUICK = 1 << 30  # bytes that are counted without a progress bar


class LineIndex:
    """Files and the positions of their lines. ``starts[f]``: i64[lines + 1] byte offsets, the last one the file's size."""

    def __init__(self, paths: Sequence[str | Path], starts: Sequence[np.ndarray]):
        self.paths = [Path(path) for path in paths]
        self.starts = list(starts)
        self._first = np.cumsum([0] + [len(offsets) - 1 for offsets in self.starts])
        for path, offsets in zip(self.paths, self.starts):
            size = path.stat().st_size if isfile(path) else -1
            if size != offsets[-1]:
                raise UserError("is missing" if size < 0 else f"has {size:,} bytes", str(path), f"{offsets[-1]:,} bytes, as when its lines "
                                "were counted", "delete the index, so that they are counted again")

    @classmethod
    def scan(cls, paths: Sequence[str | Path]) -> "LineIndex":
        """Reads all files once; UserError where one is missing, empty, compressed, or has a line of more than MAX_LINE bytes."""
        sizes = [Path(path).stat().st_size if isfile(path) else 0 for path in paths]
        with tqdm(total=sum(sizes), unit="B", unit_scale=True, desc="counting lines", disable=sum(sizes) < QUICK, leave=False) as bar:
            return cls(paths, [_starts(Path(path), bar) for path in paths])

    @classmethod
    def open(cls, paths: Sequence[str | Path], cache: Path) -> "LineIndex":
        """Returns the index in ``cache`` where it belongs to these files as they are now (names, sizes, modification times), else a scan,
        which is saved there if the folder is writable. UserError as ``scan``."""
        stamp = _stamp(paths)
        try:
            with np.load(cache, allow_pickle=False) as file:
                if str(file["stamp"]) == stamp:
                    return cls(paths, [file[f"arr_{number}"] for number in range(len(paths))])
        except Exception:  # zipfile, zlib and numpy raise many kinds over a damaged file
            pass  # a cache: counting again mends every fault of it
        index = cls.scan(paths)
        try:
            with io.atomic(cache) as file:
                np.savez(file, *index.starts, stamp=np.array(stamp))
        except UserError as error:
            print(f"the positions of the lines are not saved ({error.what}): every run counts them again")
        return index

    def __len__(self) -> int:
        """Returns the number of lines of all files."""
        return int(self._first[-1])

    def fingerprint(self) -> dict[str, dict[str, int | str]]:
        """Returns {name of a file: bytes, lines, SHA-256 of the positions of its lines}, which differ for practically any other file."""
        return {f"{number}/{path.name}": {"bytes": int(offsets[-1]), "lines": len(offsets) - 1,
                                          "places": hashlib.sha256(offsets.tobytes()).hexdigest()}
                for number, (path, offsets) in enumerate(zip(self.paths, self.starts))}

    def position(self, number: int) -> Position:
        """Returns the position before the line with this number; ``len(index)`` = after the last one."""
        if number == len(self):
            return Position(len(self.paths))
        which, inside = self._find(number)
        return Position(which, int(self.starts[which][inside]), inside)

    def where(self, number: int) -> str:
        """Returns file and line number of a line, for messages."""
        which, inside = self._find(number)
        return f"{self.paths[which]}, line {inside + 1:,}"

    def _find(self, number: int) -> tuple[int, int]:
        """Returns (file, line in it, from 0); IndexError outside."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        which = int(np.searchsorted(self._first, number, "right")) - 1
        return which, int(number - self._first[which])

    def line(self, number: int) -> Line:
        """Reads the line with this number, from 0 over all files; IndexError outside."""
        which, inside = self._find(number)
        begin, end = (int(value) for value in self.starts[which][inside : inside + 2])
        with open(self.paths[which], "rb", buffering=0) as file:
            file.seek(begin)
            content = bytearray()
            while len(content) < end - begin and (chunk := file.read(end - begin - len(content))):
                content += chunk
        where = self.where(number)
        if len(content) < end - begin:
            raise UserError("the file has become shorter", where, fix="fetch it again and delete the index")
        ended = content.endswith(b"\n")
        return Line(bytes(content[:-1] if ended else content), where, Position(which, end, inside + 1), ended)


def _stamp(paths: Sequence[str | Path]) -> str:
    """Returns absolute names, sizes and modification times as JSON."""
    absolute = [Path(path).absolute() for path in paths]
    return json.dumps([[str(path), *((path.stat().st_size, path.stat().st_mtime_ns) if isfile(path) else (-1, 0))] for path in absolute])


def _starts(path: Path, bar: tqdm) -> np.ndarray:
    """Returns i64[lines + 1]: the offsets of the lines, and the size of the file."""
    starts, offset = [0], 0
    with io.readable(path, "a data file"), open(path, "rb", buffering=0) as file:
        for block in iter(partial(file.read, BLOCK), b""):
            if not offset and block[:2] == GZIP:
                raise UserError("is compressed", str(path), "a text file with one example in a line", "unpack it (gunzip)")
            at = block.find(b"\n")
            while at >= 0:
                if offset + at - starts[-1] >= MAX_LINE:
                    raise _no_end(path, len(starts))
                starts.append(offset + at + 1)
                at = block.find(b"\n", at + 1)
            offset += len(block)
            bar.update(len(block))
            if offset - starts[-1] >= MAX_LINE:
                raise _no_end(path, len(starts))
    if not offset:
        raise UserError("the file is empty", str(path), "a text file with one example in a line", "fetch it again")
    return np.array(starts if starts[-1] == offset else [*starts, offset], np.int64)


def _no_end(path: Path, line: int) -> UserError:
    return UserError(f"no line end within {MAX_LINE:,} bytes", f"{path}, line {line:,}", "a text file with one example in a line")
