"""Named columns of a CSV, TSV, JSONL or NPZ file, with the line of every value."""

import difflib
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kaleidobert import io, table_text
from kaleidobert.errors import UserError

FORMATS = {".npz": "npz", ".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
IDS = ("query", "candidate", "id")  # roles in which every row has a value
NUMBERS = ("label", "score")  # roles whose values keep their type; all others are texts
MARK = "\x01"  # between the five lists in a line of a released result file
CUT = "copy the file again, or make it again: it is cut off"


@dataclass(frozen=True)
class Column:
    """The values of a column, the line (or row) of each, and the file."""

    values: list[Any]
    lines: Sequence[int]
    source: str
    unit: str = "line"

    def where(self, row: int, short: bool = False) -> str:
        """Returns file and line of a value, for errors; short: without the file."""
        line = f"{self.unit} {self.lines[row]:,}"
        return line if short else f"{self.source}, {line}"


@dataclass(frozen=True)
class Table(Mapping[str, Column]):
    """{role: column}, all of one length; optional roles may be missing. lists: each value is a list (except in the first column)."""

    columns: dict[str, Column]
    lists: bool = False
    notes: tuple[str, ...] = ()

    def __getitem__(self, role: str) -> Column:
        return self.columns[role]

    def __iter__(self):
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    def flat(self, roles: Mapping[str, str]) -> "Table":
        """Returns lists as one row per item, the first role's value repeated. Raises UserError for lists of different lengths in a line."""
        first, *others = [name for name in roles if name in self]
        head = self[first]
        for row in range(len(head.values)):
            sizes = {name: len(self[name].values[row]) if isinstance(self[name].values[row], list) else None for name in others}
            if None in sizes.values():
                wrong = next(name for name, size in sizes.items() if size is None)
                raise UserError(f"{wrong!r} is no list", head.where(row), f"{' and '.join(others)} as lists")
            if len(set(sizes.values())) > 1:
                raise UserError(f"the lists differ in length: {', '.join(f'{size} {name}' for name, size in sizes.items())}",
                                head.where(row), "as many of each")
        lengths = [len(values) for values in self[others[0]].values]
        lines = np.repeat(head.lines, lengths).tolist()
        spread = {roles[first]: [value for value, length in zip(head.values, lengths) for _ in range(length)]}
        spread |= {roles[name]: [value for values in self[name].values for value in values] for name in others}
        ids = {roles[first], roles[others[0]]}
        return Table({name: Column([str(value) for value in values] if name in ids else values, lines, head.source)
                      for name, values in spread.items()}, False, self.notes)


def format_of(path: str | Path) -> str:
    """Returns csv, tsv, jsonl, npz or result (a released result file), by the ending of the name, otherwise by the beginning of the file.

    Raises UserError for a missing and for an empty file.
    """
    path = Path(path)
    with io.readable(path, "a file"), open(path, "rb") as file:
        start = file.read(1 << 16)
    if not start.strip():
        raise UserError("the file is empty", str(path), "at least one row")
    if path.suffix.lower() in FORMATS:
        return FORMATS[path.suffix.lower()]
    if start[:2] == b"PK":
        return "npz"
    if MARK.encode() in start:
        return "result"
    first = start.lstrip(b"\xef\xbb\xbf \r\n").split(b"\n")[0]
    return "jsonl" if first[:1] == b"{" else "tsv" if b"\t" in first else "csv"


def read_columns(path: str | Path, file_format: str, names: Mapping[str, str], optional: Sequence[str] = (),
                 lists: Sequence[str] = ()) -> Table:
    """Reads the columns of a file by their roles. names: {role: name of the column}; values are texts, but for the roles NUMBERS.

    lists: keys of a JSONL file with one line per query, read instead where its first line has the second of them. Raises UserError for a
    missing column (with the nearest name), a line that cannot be read, columns of unequal length, and a file without rows.
    """
    where = str(path)
    if file_format == "npz":
        return _npz(where, names, optional)
    with io.readable(path):
        text = Path(path).read_text(encoding="utf-8-sig")
    if file_format == "jsonl":
        return _jsonl(where, text, names, optional, lists)
    return _separated(where, text, "\t" if file_format == "tsv" else ",", names, optional)


def _separated(where: str, text: str, separator: str, names: Mapping[str, str], optional: Sequence[str]) -> Table:
    head, read = table_text.separated(text, separator, [name for role, name in names.items() if role in IDS])
    if head.fault or head.literal:
        raise UserError(head.fault or "the quotes in the names of the columns do not pair", where, "at least one row", CUT)
    header, records = head.cells, list(read)
    positions = {role: _find(name, header, where, role in optional) for role, name in names.items()}
    if not records:
        raise UserError("the table has no row", where, "at least one row below the names of the columns")
    wrong = next((record for record in records if record.fault or record.literal), None)
    if wrong is not None:
        _refuse(wrong, header, where, wrong is records[-1])
    rows, lines = [record.cells for record in records], [record.line for record in records]
    columns = {role: Column([row[position].strip() for row in rows], lines, where) for role, position in positions.items()
               if position is not None}
    ended = text.endswith(("\n", "\r"))
    return Table(columns, notes=() if ended else (f"the last line of {where} has no end: if it was cut off, its last value is wrong",))


def _refuse(record: table_text.Row, header: Sequence[str], where: str, last: bool) -> None:
    """Raises UserError for a faulty row: without it, the figures would be those of another table."""
    line = f"{where}, line {record.line:,}"
    if record.literal:
        reason = record.fault or "a cell begins with a quote and does not end with it"
        raise UserError(f"the line cannot be read ({reason})", line, "a table",
                        CUT if last else "double the quote, and put the whole cell in quotes")
    cut = last and len(record.cells) < len(header)
    raise UserError(record.fault + (" and is the last one" if cut else ""), line, f"{len(header)} columns: {', '.join(header)}",
                    CUT if cut else "")


def _jsonl(where: str, text: str, names: Mapping[str, str], optional: Sequence[str], lists: Sequence[str]) -> Table:
    rows, lines = [], []
    content = text.split("\n")
    for number, line in enumerate(content, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=table_text.object_of)
        except json.JSONDecodeError as error:
            last = number == len(content)  # no line end behind it
            raise UserError("the last line is cut off" if last else f"the line is not JSON ({error})", f"{where}, line {number:,}",
                            "one JSON object per line", CUT if last else "") from None
        if not isinstance(row, table_text.Object):
            raise UserError(f"the line holds a {type(row).__name__}", f"{where}, line {number:,}", "a JSON object")
        rows.append(row)
        lines.append(number)
    if not rows:
        raise UserError("the file is empty", where, "at least one row")
    if "format" in rows[0] and "sha256" in rows[0]:
        raise UserError("these are candidate lists without scores", where, "a file of scores", "give them as candidates=FILE")
    grouped = len(lists) > 1 and lists[1] in rows[0]
    wanted = dict(zip(lists, lists)) if grouped else names
    positions = {role: _find(name, list(rows[0]), where, role in optional) for role, name in wanted.items()}
    columns = {}
    for role, name in wanted.items():
        if positions[role] is None:
            continue
        bare = next((i for i, row in enumerate(rows) if name not in row), None)
        if bare is not None:
            raise UserError(f"the line has no {name!r}", f"{where}, line {lines[bare]:,}", f"keys {', '.join(wanted.values())}")
        twice = next((i for i, row in enumerate(rows) if name in row.twice), None)
        if twice is not None:
            raise UserError(f"the key {name!r} stands twice in the object", f"{where}, line {lines[twice]:,}", "every key once")
        raw = role in NUMBERS or grouped and role != lists[0]
        blank = None if raw else next((i for i, row in enumerate(rows) if not _is_text(row[name])), None)
        if blank is not None:
            raise UserError(f"{name!r} is {json.dumps(rows[blank][name])}", f"{where}, line {lines[blank]:,}", "a text or a number")
        columns[role] = Column([row[name] if raw else str(row[name]) for row in rows], lines, where)
    return Table(columns, grouped)


def _npz(where: str, names: Mapping[str, str], optional: Sequence[str]) -> Table:
    arrays: dict[str, np.ndarray] = {}
    try:
        with open(where, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            for role, name in names.items():
                if _find(name, file.files, where, role in optional) is not None:
                    arrays[role] = file[name]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"cannot be read ({error})", where, "an NPZ file of plain arrays (texts as strings, not objects)", CUT) from None
    wrong = next((role for role, array in arrays.items() if array.ndim != 1), None)
    if wrong is not None:
        raise UserError(f"the column {names[wrong]!r} has the shape {list(arrays[wrong].shape)}", where, "one value per pair")
    if len({len(array) for array in arrays.values()}) > 1:
        raise UserError(f"the columns differ in length: {', '.join(f'{names[role]} {len(array):,}' for role, array in arrays.items())}",
                        where, "one and the same length")
    count = len(next(iter(arrays.values())))
    if not count:
        raise UserError("the file is empty", where, "at least one row")
    rows = range(count)
    return Table({role: Column(array.tolist() if role in NUMBERS else _texts(array), rows, where, "row")
                  for role, array in arrays.items()})


def _is_text(value: Any) -> bool:
    """Whether a JSON value is a text or a finite number."""
    return isinstance(value, str | int) or isinstance(value, float) and math.isfinite(value)


def _texts(array: np.ndarray) -> list[str]:
    return (np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array.astype(str)).tolist()


def _find(name: str, columns: Sequence[str], where: str, optional: bool) -> int | None:
    """Returns the position of a column; None of an optional one that is missing."""
    if list(columns).count(name) > 1:
        raise UserError(f"there are {list(columns).count(name)} columns {name!r}", where, "one", "rename the other")
    if name in columns:
        return list(columns).index(name)
    if optional:
        return None
    near = difflib.get_close_matches(name, columns, 1, 0.5)
    raise UserError(f"there is no column {name!r}", where, f"one of its columns: {', '.join(columns)}",
                    f"did you mean {near[0]!r}?" if near else "say what it is called, such as columns.score=similarity")
