"""Rows of text tables, separated cells (CSV, TSV) or JSON objects: a fault of one row never reaches its neighbours.

Cells may be quoted as in RFC 4180: line breaks and separators inside, quotes doubled. Exports are often less exact ("70s style, 18" chain),
and a quote that is never closed would take all rows up to the next quote into one cell. Therefore:

    a quote inside of a cell is a character like others
    a cell that begins with a quote and is not closed before a separator or line end is read as it stands, up to the next separator
    a quoted cell that spans lines is one cell unless one of these lines is a row of its own; then it is read as it stands
    a cell whose quote stays open is trusted only where the next line is a row of its own; otherwise its row is faulty
"""

import io
import json
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from kaleidobert.errors import UserError

SUFFIX = re.compile(r"\.[A-Za-z]\w{1,4}$")  # of a file; not the decimals of a number
BREAKS = "\r\n"
BLANKS = re.compile("[ \t\r\n\ufeff]*")


class Row(NamedTuple):
    """line: of the row's beginning, from 1 on; fault: why it cannot be used; literal: a quote was read as a character of its cell."""

    line: int
    cells: list[str]
    fault: str = ""
    literal: bool = False


class Object(dict):
    """A JSON object. twice: keys that occur more than once, and keys whose value has such an object inside."""

    twice: frozenset[str] = frozenset()


def separated(text: str, separator: str, keys: Sequence[str] = ()) -> tuple[Row, Iterator[Row]]:
    """Returns (header, rows) of a table; the header has no cells where the text is blank. Names in the header are stripped, cells are not.

    Rows have as many cells as the header, or a fault; blank rows are skipped, blank cells beyond the header dropped. keys: columns that
    every row fills, such as the id and the name of the picture; they help to distinguish rows from lines of a quoted cell.
    """
    table = _Separated(text.replace("\ufeff", ""), separator)  # byte order marks, also of files that were joined
    header = table.header(keys)
    return header, table.rows()


def objects(lines: Iterable[str]) -> Iterator[tuple[int, Object, str]]:
    """Yields (line number, object, fault) of every line that is not blank; the object of a faulty line is empty."""
    for number, line in enumerate(lines, 1):
        line = line.strip().removeprefix("\ufeff")
        if not line:
            continue
        value, fault = Object(), ""
        try:
            value = json.loads(line, object_pairs_hook=object_of)
            fault = half_character(line, value)
        except (ValueError, RecursionError) as error:
            fault = f"the line is not valid JSON ({error})"
        if not fault and not isinstance(value, dict):
            fault = f"the line holds a {type(value).__name__} and no object"
        yield number, Object() if fault else value, fault


def listed(text: str, where: str) -> Iterator[tuple[int, Object, str]]:
    """Yields (line of its beginning, object, fault) of every item of a JSON list, or of objects one after the other over several lines;
    raises UserError where they are damaged."""
    decoder = json.JSONDecoder(object_pairs_hook=object_of)
    position = _behind_blanks(text, 0)
    is_list = text[position : position + 1] == "["
    line, last, end = 1, 0, _behind_blanks(text, position + is_list)
    closed = is_list and text[end : end + 1] == "]"
    while not closed and (is_list or end < len(text)):
        position = end
        line, last = line + text.count("\n", last, position), position
        try:
            value, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise UserError(f"the JSON {'list is' if is_list else 'objects are'} damaged at line {line} ({error})", where,
                            "objects, separated by commas", "export the table again") from None
        fault = half_character(text[position:end], value).replace("the line", "the object")
        if not isinstance(value, dict):
            fault = f"the list holds a {type(value).__name__} and no object here"
        yield line, Object() if fault else value, fault
        end = _behind_blanks(text, end)
        closed, comma = is_list and text[end : end + 1] == "]", text[end : end + 1] == ","
        if is_list and not closed and not comma:
            raise UserError(f"the JSON list ends or is damaged at line {line + text.count(chr(10), last, end)}", where,
                            "objects, separated by commas", "export the table again")
        end = _behind_blanks(text, end + comma)
    if is_list and _behind_blanks(text, end + 1) < len(text):
        rest = _behind_blanks(text, end + 1)
        raise UserError(f"text follows the JSON list at line {line + text.count(chr(10), last, rest)}", where, "one list",
                        "join the lists, or export the table again")


def _behind_blanks(text: str, position: int) -> int:
    return BLANKS.match(text, position).end()  # type: ignore[union-attr]  # it fits everywhere


def half_character(text: str, value: Any) -> str:
    """Returns why a value that JSON text holds cannot be written again, "" where it can: half a surrogate pair is read all the same."""
    try:
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "the line holds half a character (a surrogate without its other half)"
    return ""


def positions(name: str, header: Sequence[str]) -> list[int]:
    """Returns the numbers, from 1 on, of the columns of a name."""
    return [number for number, other in enumerate(header, 1) if other == name]


def object_of(pairs: list[tuple[str, Any]]) -> Object:
    """Makes an object that knows its repeated keys: the object_pairs_hook of json.loads."""
    made = Object(pairs)
    twice = {key for key, value in pairs if isinstance(value, dict | list) and _holds_twice(value)}
    if len(made) < len(pairs):
        twice |= {key for key, count in Counter(key for key, _ in pairs).items() if count > 1}
    made.twice = frozenset(twice)
    return made


def _holds_twice(value: Any) -> bool:
    return bool(value.twice) if isinstance(value, Object) else isinstance(value, list) and any(map(_holds_twice, value))


class _Record(NamedTuple):
    """end: position of its line break, or the end of the text; open: a quote read as a character has no second one in its cell."""

    cells: list[str]
    end: int
    literal: bool
    open: bool


class _Separated:
    """The lines of a table, numbered from 0. rows() continues where header() ends."""

    def __init__(self, text: str, separator: str):
        self.text, self.separator = text, separator
        self.lines = list(io.StringIO(text, newline=""))  # ends at \n, \r\n and \r alone, not at form feeds and the like
        self.starts = list(accumulate(map(len, self.lines), initial=0))
        self.plain_end = re.compile(f"[{re.escape(separator)}\r\n]")
        self.quoted_end = re.compile(rf" *(?=[{re.escape(separator)}\r\n]|\Z)")
        self.names: list[str] = []
        self.keys: list[int] = []
        self.first, self.spaced = 0, False

    def header(self, keys: Sequence[str]) -> Row:
        while self.first < len(self.lines) and self._is_blank(self.lines[self.first]):
            self.first += 1
        line = self.first
        if line == len(self.lines):
            return Row(1, [], "the table is empty")
        record = self._record(self.starts[line], len(self.text))
        self.first = self._line_of(record.end) + 1
        self.names = [name.strip() for name in record.cells]
        while self.names and not self.names[-1]:
            self.names.pop()
        self.keys = [self.names.index(key) for key in keys if key in self.names]
        self.spaced = self._is_spaced(self.lines[line])
        fault = "the header holds NUL characters, as UTF-16 read as UTF-8 does" if "\0" in "".join(self.names) else ""
        return Row(line + 1, self.names, fault, record.literal)

    def rows(self) -> Iterator[Row]:
        number, width, odd = self.first, len(self.names), {self.names[0] if self.names else "", ""}
        while number < len(self.lines):
            line, last, literal, fault = self.lines[number], number, False, ""
            if '"' in line:
                cells, last, literal, fault = self._quoted(number)
            else:
                cells = line.rstrip(BREAKS).split(self.separator)
                if len(cells) == width and cells[0].strip() not in odd and "\0" not in line:  # most lines of most tables
                    number += 1
                    yield Row(number, cells)
                    continue
            if any(map(str.strip, cells)):
                cells = self._trimmed(cells)
                yield Row(number + 1, cells, self._fault(cells, number, last, fault), literal)
            number = last + 1

    def _quoted(self, number: int) -> tuple[list[str], int, bool, str]:
        """Returns (cells, last line, literal, fault) of the row that begins in a line with quotes."""
        record = self._record(self.starts[number], len(self.text))
        last, torn = self._line_of(record.end), False
        if last > number:
            rows = self._rows_in(self._trimmed(record.cells), number, last)
            if rows is None:
                return record.cells, last, True, f"a quoted cell runs to line {last + 1}, or it is not closed and that line is another row"
            if rows:
                whole = len(self._trimmed(record.cells)) == len(self.names)
                record, torn = self._alone(number), True
                if whole and len(record.cells) == len(self.names) and not any(SUFFIX.search(record.cells[key]) for key in self.keys):
                    # without names of files the other lines may as well be prose, and the cell a closed one
                    return record.cells, number, True, f"a quote opens a cell that may run to line {last + 1}, or is not closed"
                last = number
        if not record.open and not torn:
            return record.cells, last, record.literal, ""
        following = next((i for i in range(last + 1, len(self.lines)) if not self._is_blank(self.lines[i])), None)
        cells = self._trimmed(record.cells)
        trusted = self.lines[last].endswith(("\r", "\n")) if following is None else self._is_row(following, cells)
        good = trusted and len(cells) == len(self.names)
        return record.cells, last, True, "" if good else "a quote opens a cell and is not closed"

    def _rows_in(self, cells: list[str], first: int, last: int) -> bool | None:
        """Whether lines that a quoted cell joins to one row are rows of their own; None where nothing decides it. cells: of that row."""
        width, start, end = len(self.names), self._trimmed(self._alone(first).cells), self._trimmed(self._alone(last).cells)
        if len(start) == len(cells) == width and not self._resemble(start, cells):
            start = []  # the first line by itself is no row, but a piece of one
        if any(self._is_row(number, start if len(start) == width else cells) for number in range(first + 1, last)):
            return True
        # the last line has the end of the cell and all that follows: only what is left of the cell is evidence
        position = max((number for number, cell in enumerate(cells) if set(BREAKS) & set(cell)), default=len(cells))
        if len(end) != width or len(start) < width == len(cells):
            return False
        if len(start) == width:
            return self._is_row(last, start)
        left = [key for key in self.keys if key < position]
        prose = not self.spaced and all(cell.startswith(" ") for cell in end[1 : position + 1])
        if prose or any(_look(end[key]) != _look(cells[key]) for key in left):
            return False
        return True if any(SUFFIX.search(cells[key]) for key in left) else None

    def _is_row(self, number: int, like: list[str]) -> bool:
        """Whether a line by itself is a row. like: cells of another one; where they are as many as the header's, the keys of the line
        must resemble theirs, but for those that hold a line break themselves."""
        if not self.spaced and self._is_spaced(self.lines[number]):
            return False  # prose: "soft, warm, cosy"
        record = self._alone(number)
        cells = self._trimmed(record.cells)
        if record.open and _closes(next(cell for cell in record.cells if cell.count('"') % 2)):
            return False  # the end of a cell from above and the start of one that goes on below
        return len(cells) == len(self.names) and (len(like) != len(cells) or self._resemble(cells, like))

    def _resemble(self, cells: list[str], like: list[str]) -> bool:
        """Whether the keys of a row look like those of another, but for those that hold a line break there."""
        return all(_look(cells[key]) == _look(like[key]) for key in self.keys if not set(BREAKS) & set(like[key]))

    def _fault(self, cells: list[str], first: int, last: int, fault: str) -> str:
        width = len(self.names)
        lines = f"lines {first + 1} to {last + 1} have" if last > first else "the line has"
        if len(cells) != width:
            return f"{fault + '; ' if fault else ''}{lines} {len(cells)} of {width} columns"
        if any("\0" in cell for cell in cells):
            return "the line holds a NUL character"
        return fault or ("the line is the header again" if [cell.strip() for cell in cells] == self.names else "")

    def _record(self, position: int, end: int) -> _Record:
        """Returns the row that begins at a position of the text, which counts as ending at ``end``."""
        cells, literal, is_open = [], False, False
        while True:
            quote, behind = self._closing(position, end) if self.text.startswith('"', position, end) else (0, None)
            if behind is not None:
                cells.append(self.text[position + 1 : quote].replace('""', '"'))
                position = behind.end()
            else:
                match = self.plain_end.search(self.text, position, end)
                cell = self.text[position : match.start() if match else end]
                if cell.startswith('"'):
                    literal, is_open = True, is_open or cell.count('"') % 2 == 1
                cells.append(cell)
                position += len(cell)
            if position >= end or self.text[position] != self.separator:
                return _Record(cells, position, literal, is_open)
            position += 1

    def _closing(self, position: int, end: int) -> tuple[int, re.Match | None]:
        """Returns (position of the quote that closes the one at ``position``, a match up to the cell's end; None where text follows it)."""
        quote = self.text.find('"', position + 1, end)
        while quote >= 0 and self.text.startswith('"', quote + 1, end):
            quote = self.text.find('"', quote + 2, end)
        return quote, self.quoted_end.match(self.text, quote + 1, end) if quote >= 0 else None

    def _alone(self, number: int) -> _Record:
        return self._record(self.starts[number], self.starts[number] + len(self.lines[number].rstrip(BREAKS)))

    def _trimmed(self, cells: list[str]) -> list[str]:
        while len(cells) > len(self.names) and not cells[-1].strip():
            cells = cells[:-1]
        return cells

    def _line_of(self, position: int) -> int:
        return min(bisect_right(self.starts, position), len(self.lines)) - 1

    def _is_blank(self, line: str) -> bool:
        return not line.replace(self.separator, "").strip()

    def _is_spaced(self, line: str) -> bool:
        """Whether a space follows every separator."""
        count = line.count(self.separator)
        return count > 0 and count == line.count(f"{self.separator} ")


def _closes(cell: str) -> bool:
    """Whether a cell read as it stands, with an odd number of quotes, is the end of a quoted one rather than its start."""
    first = len(cell) - len(cell.lstrip('"'))
    return cell.endswith('"') and (first % 2 == 0 or first == len(cell))


def _look(cell: str) -> tuple[bool, bool, bool]:
    """Returns what the keys of rows have in common, whatever their names: filled, without blanks around, a file's suffix or none."""
    return bool(cell.strip()), cell == cell.strip(), bool(SUFFIX.search(cell))
