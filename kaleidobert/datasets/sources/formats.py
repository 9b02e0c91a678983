"""The formats of tables: what a file is, by its content rather than by its ending, and its header and rows.

    csv      cells between commas, semicolons, tabs or bars; a first line "sep=;" says which; UTF-8, UTF-16 or a named encoding
    jsonl    one JSON object per line
    json     one JSON list of objects, or objects one after the other over several lines
    xml      a feed, RSS or Atom: an element item, entry or product each
    parquet, arrow    of pyarrow: Parquet, Feather, Arrow files and streams; or a folder of them, as Hugging Face's save_to_disk writes;
                      where files or folders are called after splits, these are the column "split"
    excel    a workbook: its sheet whose header has most of the wanted columns, then most columns (openpyxl, the extra ``excel``)

Each of the text formats may be compressed with gzip. Positions in messages are lines of a text, rows of a table that has none.
"""

import codecs
import gzip
import importlib
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from kaleidobert import table_text
from kaleidobert.configs.section import check_name
from kaleidobert.datasets import arrow_tables
from kaleidobert.datasets.sources import feeds
from kaleidobert.errors import UserError

SEPARATORS = {",": "','", ";": "';'", "\t": "tabs", "|": "'|'"}  # and what a message calls them
SEPARATOR_NAMES = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "bar": "|", "pipe": "|"}
MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
         (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
SAMPLE = 1 << 16  # characters by which a separator is found
HEAD = 1 << 18  # bytes, and characters, by which a format is found
JSON_FORMATS = ("jsonl", "json")
KEYED_FORMATS = (*JSON_FORMATS, "xml")  # rows say themselves which columns they have
TEXT_FORMATS = ("csv", *KEYED_FORMATS)
FORMATS = (*TEXT_FORMATS, "parquet", "arrow", "excel")
UNPACK, REPACK = "unpack it and name the table inside", "unpack it, or compress it with gzip"
NAME = "name the table of the products, or the folder of a folder of pictures per class"
BINARY = (  # first bytes, format; or what it is, where no table is read of it, with the way out
    (b"PAR1", "parquet", ""), (b"ARROW1", "arrow", ""), (b"\xff\xff\xff\xff", "arrow", ""), (b"FEA1", "arrow", ""),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook of the old format .xls", "save it as .xlsx or as CSV (UTF-8)"),
    (b"%PDF", "a PDF document", "export the products as CSV"), (b"SQLite format 3", "a SQLite database", "export the products as CSV"),
    (b"7z\xbc\xaf", "a 7-Zip archive", UNPACK), (b"Rar!", "a RAR archive", UNPACK), (b"BZh", "a file compressed with bzip2", REPACK),
    (b"\xfd7zXZ\0", "a file compressed with xz", REPACK), (b"\x28\xb5\x2f\xfd", "a file compressed with Zstandard", REPACK),
    (b"\xff\xd8\xff", "a picture", NAME), (b"\x89PNG", "a picture", NAME), (b"GIF8", "a picture", NAME), (b"RIFF", "a picture", NAME),
    (b"\x89HDF", "an HDF5 file", "export the products as CSV; the raw release of Fashion-Gen is source.kind=fashion_gen"),
)
DECLARED = re.compile(rb"\s*<\?xml[^>]*\sencoding\s*=\s*[\"']([A-Za-z0-9._-]+)")
SPLITS_LIST, SPLIT_COLUMN = "dataset_dict.json", "split"  # of Hugging Face; a column that a folder has by the names of its files
SPLIT = re.compile(r"(train|training|val|valid|validation|dev|eval|test)(?![a-z])", re.IGNORECASE)
FIRST_LINE = re.compile(r"[^\r\n]*")
PAGE = re.compile(r"(?:<!--.*?-->|\s)*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL)
DAMAGED = (OSError, EOFError, zlib.error, ValueError, KeyError, pa.ArrowException)


@dataclass(frozen=True)
class Layout:
    """How a table is read. encoding: of text formats, as Python calls it; packed: compressed with gzip; sheet: of a workbook;
    unread: its other sheets that have rows."""

    format: str
    separator: str = ""
    encoding: str = ""
    packed: bool = False
    sheet: str = ""
    unread: tuple[str, ...] = ()

    def describe(self) -> str:
        """Returns words for people: "CSV separated by ';', UTF-8"."""
        name = {"csv": f"CSV separated by {SEPARATORS.get(self.separator, repr(self.separator))}", "jsonl": "JSON, an object per line",
                "json": "one JSON list or objects over several lines", "xml": "an XML feed",
                "parquet": "Parquet", "arrow": "Arrow", "excel": "an Excel workbook"}[self.format]
        encoding = "UTF-8" if self.encoding == "utf-8-sig" else self.encoding.upper()
        sheet = f"sheet {self.sheet!r}" if self.sheet else ""
        others = f" (not read: {', '.join(map(repr, self.unread))})" if self.unread else ""
        return ", ".join(filter(None, (name, encoding, "compressed" if self.packed else "", sheet))) + others


def find(table: Path, wanted: Sequence[str] = (), given: Layout | None = None) -> Layout:
    """Returns how a table is read; what ``given`` says is taken as it is, the rest is found. wanted: columns that help to find a separator.

    Raises UserError for a file that is no table, with what it is, for an unknown encoding and for more than one character as separator.
    """
    given = given or Layout("")
    data, packed = _head(files(table)[0])
    name = given.format or _binary(data, table) or ""
    if name == "excel":
        with _explained(table, Layout(name)):
            return Layout(name, **_chosen_sheet(table, wanted, given.sheet))
    if name and name not in TEXT_FORMATS:
        return Layout(name)
    declared = DECLARED.match(data)
    encoding = given.encoding or (declared[1].decode() if declared and not data.startswith(codecs.BOM_UTF8) else "")
    encoding = _checked_encoding(encoding, table) if encoding else _encoding(data)
    text = data.decode(encoding, "ignore").lstrip("\ufeff").lstrip()
    if not name:
        name = {"{": _json_format(text), "[": "json", "<": "xml"}.get(text[:1], "csv")
        if PAGE.match(text):
            raise UserError("this is a page in HTML", str(table), "a table", "export the products as CSV; perhaps the address asks for a "
                            "password")
    separator = ""
    if name == "csv":
        separator = SEPARATOR_NAMES.get(given.separator.lower(), given.separator) or _separator(text, table, wanted)
        if len(separator) != 1 or separator in '"\r\n':
            raise UserError(f"source.separator is {given.separator!r}", str(table), f"one character, or {', '.join(SEPARATOR_NAMES)}")
    return Layout(name, separator, encoding, packed)


def files(table: Path) -> list[Path]:
    """Returns the files of which a table consists: itself, or of a folder the Parquet or Arrow files in it, in order; [] where it has none.

    Of a data set of Hugging Face those that its state names: beside them may lie what was computed of it; of several, its splits, all.
    """
    if not table.is_dir():
        return [table]
    if (table / SPLITS_LIST).is_file():
        return [path for folder in sorted(table.glob("*/")) for path in files(folder)]
    state = table / "state.json"
    if state.is_file():
        try:
            return [table / each["filename"] for each in json.loads(state.read_text(encoding="utf-8"))["_data_files"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"the list of the files of a data set cannot be read ({error})", str(state), fix="write the data set again"
                            ) from None
    return sorted(table.glob("*.parquet")) or sorted(table.glob("*.arrow"))


def splits(table: Path) -> list[str]:
    """Returns the split of every file of a folder by its name, such as train-00000-of-00002.parquet, or that of its own folder; [] where
    they are not of several splits. A data set that is tested and not validated is judged by the test."""
    matches = [SPLIT.match(path.name if path.parent == table else path.parent.name) for path in files(table)] if table.is_dir() else []
    names = {match[1].lower() for match in matches if match}
    read_as = {name: "train" if name.startswith("train") else "test" if name == "test" and len(names) > 2 else "val" for name in names}
    return [read_as[match[1].lower()] for match in matches if match] if all(matches) and len(set(read_as.values())) > 1 else []


def header(table: Path, layout: Layout) -> list[str]:
    """Returns the names of the columns; of JSON and XML those of the rows at the beginning."""
    if layout.format == "csv":
        data, _ = _head(table)
        text = data.decode(layout.encoding, "ignore")
        return table_text.separated(_without_sep_line(text), layout.separator)[0].cells
    if layout.format in TEXT_FORMATS:
        read = _products(table, layout) if layout.format == "xml" else _objects(table, layout, ())
        return list(dict.fromkeys(key for _, row in islice(read, 100) if isinstance(row, Mapping) for key in row))
    return _columns(table, layout)


def rows(table: Path, layout: Layout, keys: Sequence[str], wanted: Sequence[str],
         check: Callable[[Sequence[str]], None]) -> Iterator[tuple[str, Mapping[str, Any] | str]]:
    """Yields (position, row) of every row that is not blank; in place of a row the reason why it is none.

    keys: columns that every row fills; wanted: columns that are read. check: raises UserError where the header is wrong.
    """
    if layout.format == "csv":
        yield from _cells(table, layout, keys, check)
    elif layout.format in JSON_FORMATS:
        yield from _objects(table, layout, wanted)
    elif layout.format == "xml":
        yield from _products(table, layout)
    else:
        names = _columns(table, layout)
        check(names)
        read = _workbook if layout.format == "excel" else _arrow
        with _explained(table, layout):
            for number, row in read(table, [name for name in names if name in wanted], layout):
                yield f"row {number}", row


# --- What a file is


def _head(table: Path) -> tuple[bytes, bool]:
    """Returns the first bytes of a file, unpacked, and whether it is compressed."""
    try:
        with open(table, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            return (gzip.GzipFile(fileobj=file) if packed else file).read(HEAD), packed
    except (OSError, EOFError, zlib.error) as error:
        raise _unread(error, table) from None


def _unread(error: BaseException, table: Path) -> UserError:
    reason, fix = getattr(error, "strerror", None), ""
    if not reason:  # of gzip itself
        fix = "the compressed file is not whole: copy or download it again"
    return UserError(f"cannot be read ({reason or error})", str(table), fix=fix)


def _binary(data: bytes, table: Path) -> str:
    """Returns the format of a file that is no text, "" for text; raises UserError where it is nothing that is read."""
    if data.startswith(b"PK\x03\x04"):
        if b"xl/" in data or b"[Content_Types].xml" in data or table.suffix.lower() in (".xlsx", ".xlsm"):
            return "excel"
        if b"opendocument.spreadsheet" in data:
            raise UserError("this is an OpenDocument spreadsheet", str(table), "a table as CSV, JSON, Parquet, Arrow or .xlsx",
                            "save it as .xlsx or as CSV (UTF-8)")
        raise UserError("this is a ZIP archive", str(table), "a table", UNPACK)
    if data[257:262] == b"ustar":
        raise UserError("this is a TAR archive", str(table), "a table", UNPACK)
    for mark, name, fix in BINARY:
        if data.startswith(mark):
            if fix:
                raise UserError(f"this is {name}", str(table), "a table as CSV, JSON, Parquet, Arrow or .xlsx", fix)
            return name
    return ""


def _encoding(data: bytes) -> str:
    """Returns the encoding of a text by its byte order mark or, of UTF-16 without one, by where the zeros are; else UTF-8."""
    for mark, name in MARKS:
        if data.startswith(mark):
            return name
    sample = data[:4096]
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if max(even, odd) > len(sample) / 8 and min(even, odd) < max(even, odd) / 4:
        return "utf-16-le" if odd > even else "utf-16-be"
    return "utf-8"


def _checked_encoding(name: str, table: Path) -> str:
    try:
        codec = codecs.lookup(name)
        bytes(range(256)).decode(codec.name, "ignore")  # some of Python's codecs are of no text, or know no way to go on behind an error
        return "utf-8-sig" if codec.name == "utf-8" else codec.name
    except (LookupError, ValueError):
        raise UserError(f"source.encoding is {name!r}", str(table), "utf-8, utf-16, cp1252, latin-1, cp1251, gbk, shift_jis, ... as Python "
                        "calls them") from None


def _json_format(text: str) -> str:
    """Returns whether a text that begins with an object has an object per line, or objects that go over several lines."""
    lines = [line for line in text.splitlines()[:100] if line.startswith("{")]
    whole = len(lines) < 2 and "\n" not in text  # of one long line the end is not here

    def is_object(line: str) -> bool:
        try:
            return isinstance(json.loads(line), dict)
        except (ValueError, RecursionError):
            return False

    return "jsonl" if whole or any(map(is_object, lines)) else "json"


def _separator(text: str, table: Path, wanted: Sequence[str]) -> str:
    """Returns the separator of the line "sep=", else the one that ``_likely`` finds."""
    first = FIRST_LINE.match(text)[0]  # type: ignore[index]  # it fits everywhere
    if first.strip().strip('"').lower().startswith("sep=") and first.strip().strip('"')[4:]:
        return first.strip("\r\n\ufeff").strip('"')[4:5]
    return _likely(text, table, wanted)


def _likely(text: str, table: Path, wanted: Sequence[str]) -> str:
    """Returns the separator by which the header has most of the wanted columns, then most lines as many cells as the header, then most
    columns."""
    usual = "\t" if table.suffix.lower() in (".tsv", ".tab") else ","

    def score(separator: str) -> tuple[int, float, int, bool]:
        head, lines = table_text.separated(_without_sep_line(text[:SAMPLE]), separator)
        faults = [bool(row.fault) for row in islice(lines, 50)]
        good = round(1 - sum(faults) / len(faults), 1) if faults and len(head.cells) > 1 else 0.0
        return len(set(wanted) & set(head.cells)), good, len(head.cells), separator == usual

    return max(SEPARATORS, key=score)


def hint(table: Path, layout: Layout, wanted: Sequence[str]) -> str:
    """Returns how a header without wanted columns may be mended, "" where nothing is known: another separator, or lines above it."""
    separator = layout.separator
    if layout.format == "csv":
        text = _head(table)[0].decode(layout.encoding, "ignore").lstrip("\ufeff")
        likely = _likely(text, table, wanted)
        cells = table_text.separated(_without_sep_line(text), likely)[0].cells
        if likely != separator and len(cells) > 1 and (not wanted or set(wanted) & set(cells)):
            name = next(name for name, other in SEPARATOR_NAMES.items() if other == likely)
            return f"this looks separated by {SEPARATORS[likely]}: set source.separator={name}"
        lines = ((f"line {number}", line.split(separator)) for number, line in enumerate(text.splitlines()[:20], 1))
    elif layout.format == "excel":
        lines = ((f"row {number}", list(map(str, cells))) for number, cells in islice(_sheet(table, layout.sheet), 20))
    else:
        return ""
    for position, each in islice(lines, 1, None):
        if wanted and set(wanted) <= {cell.strip().strip('"') for cell in each}:
            return f"{position} has these columns: remove what stands above it"
    return ""


# --- Text


def _decoded(table: Path, layout: Layout) -> str:
    try:
        data = table.read_bytes()
        data = gzip.decompress(data) if layout.packed else data
        return data.decode("utf-8-sig" if layout.encoding == "utf-8" else layout.encoding)
    except UnicodeDecodeError as error:
        position = max(0, min(error.start, len(data) - 1))
        before = data[:position].decode(layout.encoding, "replace")
        name = "UTF-8" if layout.encoding.startswith("utf-8") else layout.encoding
        if name == "UTF-8" and sum(byte < 9 or 13 < byte < 32 for byte in data[:4096]) > len(data[:4096]) / 50:
            raise UserError("this is no text, and no format that is known", str(table), "a table as CSV, JSON, Parquet, Arrow or .xlsx",
                            "export the products as CSV (UTF-8)") from None
        letter, word = (piece.decode("cp1252", "replace") for piece in (data[position : position + 1], _word_at(data, position)))
        hint = (f"set source.encoding=cp1252 where Windows wrote the table (the byte is {letter!r} there, in {word!r}; where that is no "
                "word, cp1250, cp1251, gb18030, shift_jis, ...), or save the table as UTF-8")
        raise UserError(f"not {name} text (line {len(io.StringIO(before + '.').readlines())}: {error.reason}, byte 0x{data[position]:02x})",
                        str(table), fix=hint if name == "UTF-8" else "name the encoding with source.encoding=..., or save it as UTF-8"
                        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise _unread(error, table) from None


def _word_at(data: bytes, position: int) -> bytes:
    """Returns the word around a position, at most 40 bytes of it."""
    start = max(data.rfind(mark, max(0, position - 20), position) for mark in (b" ", b",", b";", b"\t", b"\n", b'"', b"|")) + 1
    return re.split(rb"[\s,;|\"]", data[max(start, position - 20) : position + 20], maxsplit=1)[0]


def _without_sep_line(text: str) -> str:
    """Returns the text with an empty line in place of "sep=;" so that lines keep their numbers."""
    first = FIRST_LINE.match(text)[0]  # type: ignore[index]  # it fits everywhere
    is_sep = first.lstrip("\ufeff").strip().strip('"').lower().startswith("sep=") and len(first.strip("\ufeff\r \"")) <= 5
    return text[len(first) :] if is_sep else text


def _cells(table: Path, layout: Layout, keys: Sequence[str],
           check: Callable[[Sequence[str]], None]) -> Iterator[tuple[str, Mapping[str, Any] | str]]:
    head, lines = table_text.separated(_without_sep_line(_decoded(table, layout)), layout.separator, keys)
    if head.fault:
        raise UserError(head.fault, str(table), "the names of the columns in the first line", "save the table as UTF-8")
    check(head.cells)
    for row in lines:
        yield f"line {row.line}", row.fault or dict(zip(head.cells, row.cells))


def _objects(table: Path, layout: Layout, wanted: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any] | str]]:
    text = _decoded(table, layout)
    read = table_text.objects(io.StringIO(text, newline="")) if layout.format == "jsonl" else table_text.listed(text, str(table))
    for line, row, fault in read:
        twice = [column for column in wanted if column in row.twice]
        yield f"line {line}", fault or (f"the key {twice[0]!r} stands twice in the object" if twice else row)


def _products(table: Path, layout: Layout) -> Iterator[tuple[str, Mapping[str, Any] | str]]:
    line = 0
    for line, row in feeds.products(_decoded(table, layout), str(table)):
        yield f"line {line}", row
    if not line:
        raise UserError("this is a page or a feed in XML or HTML, and no feed of products", str(table),
                        f"elements {', '.join(feeds.PRODUCTS)}, as in RSS and Atom", "export the products as such a feed or as CSV")


def check_object(table: Path, layout: Layout, wanted: Sequence[str]) -> None:
    """Raises UserError where a JSON file is one object with the products inside of it, by its keys: it would be one row."""
    (first, *others) = [*islice(_objects(table, layout, ()), 2), ("", "")]
    row = first[1]
    if len(others) > 1 or not isinstance(row, Mapping) or set(wanted) & set(row):
        return
    lists = [key for key, value in row.items() if isinstance(value, list) and value and isinstance(value[0], dict)]
    if lists or row and all(isinstance(value, (list, dict)) for value in row.values()):
        raise UserError("the file is one JSON object and no list of products", str(table), "a list of objects, or an object per line",
                        f"save the list that is its key {lists[0]!r} by itself" if lists else "of pandas: to_json(..., orient='records')")


# --- What is no text


class _explained:
    """Turns what libraries raise about a damaged file into a UserError."""

    def __init__(self, table: Path, layout: Layout):
        self.table, self.name = table, layout.describe()

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        is_book = self.name.startswith("an Excel")
        if isinstance(error, DAMAGED) or is_book and isinstance(error, Exception) and not isinstance(error, UserError):
            out = "export it again" + (", or save the sheet as CSV (UTF-8)" if is_book else "")  # openpyxl raises many types
            raise UserError(f"this is {self.name}, and it is damaged ({' '.join(str(error).split())[:160]})", str(self.table), fix=out
                            ) from None


def _columns(table: Path, layout: Layout) -> list[str]:
    with _explained(table, layout):
        if layout.format == "excel":
            return next(_sheet(table, layout.sheet), (0, []))[1]
        names = arrow_tables.schema(files(table)[0]).names
        return [*names, *([SPLIT_COLUMN] if SPLIT_COLUMN not in names and splits(table) else [])]


def _arrow(table: Path, wanted: Sequence[str], _: Layout) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yields (number from 1 on, row) of a Parquet or Arrow file, or of all of a folder, which may say the split."""
    paths, numbers = files(table), count(1)
    for path, split in zip(paths, splits(table) or [""] * len(paths)):
        names = arrow_tables.schema(path).names
        added = {SPLIT_COLUMN: split} if SPLIT_COLUMN in wanted and SPLIT_COLUMN not in names else {}
        for row in arrow_tables.rows(path, [name for name in wanted if name not in added]):
            yield next(numbers), row | added


def _workbook(table: Path, wanted: Sequence[str], layout: Layout) -> Iterator[tuple[int, Mapping[str, Any]]]:
    sheet = _sheet(table, layout.sheet)
    _, names = next(sheet)
    for number, cells in sheet:
        yield number, {name: cell for name, cell in zip(names, cells) if name in wanted}


def _chosen_sheet(table: Path, wanted: Sequence[str], given: str) -> dict[str, Any]:
    """Returns the sheet of a workbook that holds the products, and the other ones that have rows."""
    titles = [sheet.title for sheet in _book(table).worksheets]
    if given and given not in titles:
        check_name(given, titles, "source.sheet")
    headers = {title: header for title in titles if (header := next(_sheet(table, title), (0, []))[1])}

    def score(title: str) -> tuple[bool, int, int]:
        return title == given, len(set(wanted) & set(headers[title])), len(list(filter(None, headers[title])))

    chosen = max(headers, key=score, default="")
    return {"sheet": chosen, "unread": tuple(title for title in headers if title != chosen)}


def _book(table: Path) -> Any:
    state = table.stat()
    return _opened(table, state.st_size, state.st_mtime_ns)


@lru_cache(1)
def _opened(table: Path, size: int, changed: int) -> Any:
    """Returns a workbook, which is opened once: all its texts are read then. size, changed: of the file now."""
    try:
        openpyxl = importlib.import_module("openpyxl")
    except ImportError:
        raise UserError("this is an Excel workbook, and openpyxl, which reads it, is not installed", str(table),
                        fix="pip install openpyxl (the extra 'excel'), or save the sheet as CSV (UTF-8)") from None
    return openpyxl.load_workbook(io.BytesIO(table.read_bytes()), read_only=True, data_only=True)  # of a path it would judge the ending


def _sheet(table: Path, title: str) -> Iterator[tuple[int, list[Any]]]:
    """Yields (row number, cells) of a sheet, blank ones left out; the first are the names of the columns."""
    sheet = next((sheet for sheet in _book(table).worksheets if sheet.title == title), None)
    rows = enumerate(sheet.iter_rows(values_only=True), 1) if sheet is not None else ()
    filled = ((number, list(cells)) for number, cells in rows if any(cell not in (None, "") for cell in cells))
    for number, cells in islice(filled, 1):
        yield number, ["" if cell is None else str(cell).strip() for cell in cells]
    yield from filled
