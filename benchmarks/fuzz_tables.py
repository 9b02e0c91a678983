"""Fuzz the reader of catalogues: random tables in every format, encoding and spelling, whole and damaged, against what was written.

    python -m benchmarks.fuzz_tables --seconds 600 --seed 0

Python's csv, json and xml writers, pyarrow and openpyxl write the tables, so what is right is known. Of a whole table every row comes back
as it was written, with the picture that its cell holds. Of a damaged one every row that the damage does not touch does, or the table is
refused with a message; no cell stands in another row, and no row is lost without a reason. Anything else, any error but a UserError
included, is a finding: it is printed with seed, case and table, and the exit status is 1.
"""

import argparse
import csv
import gzip
import io
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape, quoteattr

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import fuzzing, report
from kaleidobert.app_zoo.catalogue import examination
from kaleidobert.configs import Columns
from kaleidobert.datasets import arrow_tables
from kaleidobert.datasets.products import Product
from kaleidobert.datasets.sources import feeds, reading
from kaleidobert.datasets.sources.table import TableSource
from kaleidobert.errors import UserError

Row = dict[str, str]
COLUMNS = Columns("id", "image", ("title", "note"), labels={"category": "kind"})
NAMES = ("id", "image", "title", "note", "kind", "unused")
BETWEEN = "~"  # texts of two columns
MARK = re.compile(r"<(\d+)>")  # in every cell of row n: <n>
WORDS = ("red", "soft, warm", "a;b", "x|y", 'so "fine"', '"70s style', '18" chain', "\u00e9t\u00e9", "\u65e5\u672c\u8a9e", "\U0001f457",
         "=1+2", "sep=;", "{", "[1]", "a & b", "<3", "<b>", "\\n", "\\", "'", "nan", "0", "\u2028", "\u00a0", "\x0b", "\x85", "\u0130")
BREAKS = ("\n", "\r\n", "\n\n", "\n red, blue, green, white, \n", '"\n"')  # of cells over several lines
LATIN = ("red", "soft, warm", "a;b", "x|y", 'so "fine"', "\u00e9t\u00e9", "a & b", "\u00df", "nan", "\\n", "'")  # of code pages
UNICODE = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be")
PAGES = ("cp1252", "latin-1", "cp850")
OTHERS = ("ascii", "utf-16", "utf-32", "shift_jis", "gb18030", "hex", "nonsense", "utf-7", "rot13", "punycode", "idna")
WIDEST = 4  # bytes of a line break
BINARY = ("parquet", "arrow", "excel")
FORMATS = ("csv", "csv", "csv", "jsonl", "json", "objects", "xml", *BINARY)
DAMAGE = ("none", "none", "cut", "flip", "insert", "drop", "quote", "separator", "joined", "blank lines", "encoding", "wrong encoding")


class Difference(Exception):
    """The reader gives other rows than were written."""


class Table(NamedTuple):
    """A written table. spans: where its rows lie in its bytes, () where that is not known; options: of the source."""

    rows: list[Row]
    data: bytes
    format: str
    spans: tuple[tuple[int, int], ...] = ()
    separator: str = ""
    encoding: str = "utf-8"
    options: dict[str, Any] = {}


def draw_rows(rng: random.Random, words: tuple[str, ...], with_breaks: bool) -> list[Row]:
    """Returns 1 to 14 rows; every cell says in which row it stands."""
    pieces = (*words, *BREAKS) if with_breaks else words
    rows = []
    for n in range(rng.randint(1, 14)):
        def text(least: int = 0, n: int = n) -> str:
            chosen = rng.choices(pieces, k=rng.randint(least, 4))
            chosen.insert(rng.randint(0, len(chosen)), f"<{n}>")
            return " ".join(chosen)

        note = text(1) if n == 0 or rng.random() < 0.5 else ""  # a column that no row fills is one that JSON and XML have not
        rows.append({"id": f"p<{n}>", "image": f"i<{n}>.jpg", "title": text(), "note": note, "kind": f"k<{n}>",
                     "unused": rng.choice(["", text()])})
    return rows


def draw(rng: random.Random) -> Table:
    """Returns a table as a program would write it."""
    format_ = rng.choice(FORMATS)
    encoding = rng.choice(PAGES if format_ == "csv" and rng.random() < 0.2 else UNICODE) if format_ not in BINARY else ""
    rows = draw_rows(rng, LATIN if encoding in PAGES else WORDS, format_ == "csv" and rng.random() < 0.4)
    names = rng.sample(NAMES, len(NAMES))
    if format_ in BINARY:
        return Table(rows, _binary(rng, rows, names, format_), format_)
    options = {"encoding": encoding} if encoding in PAGES else {}
    if format_ == "csv":
        return _csv(rng, rows, names, encoding, options)
    write = {"jsonl": _jsonl, "json": _json, "objects": _objects, "xml": _xml}[format_]
    return _encoded(rows, *write(rng, [{name: row[name] for name in names} for row in rows]), format_, encoding, options)


def _encoded(rows: list[Row], head: str, pieces: list[str], tail: str, format_: str, encoding: str, options: dict[str, Any],
             separator: str = "") -> Table:
    mark = len("".encode(encoding))

    def size(text: str) -> int:
        return len(text.encode(encoding)) - mark

    spans, position = [], mark + size(head)
    for piece in pieces:
        spans.append((position, position + size(piece)))
        position = spans[-1][1]
    return Table(rows, (head + "".join(pieces) + tail).encode(encoding), format_, tuple(spans), separator, encoding, options)


def _csv(rng: random.Random, rows: list[Row], names: list[str], encoding: str, options: dict[str, Any]) -> Table:
    separator, end, quoting = rng.choice(",;\t|"), rng.choice(["\n", "\r\n", "\r"]), rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    if end == "\r" and any("\n" in cell for row in rows for cell in row.values()):
        end = "\n"

    def line(cells: list[str]) -> str:
        out = io.StringIO(newline="")
        csv.writer(out, delimiter=separator, quoting=quoting, lineterminator=end).writerow(cells)
        return out.getvalue()

    head = rng.choice(["", "", f"sep={separator}{end}"]) + line(names)
    pieces = [line([row[name] for name in names]) for row in rows]
    if rng.random() < 0.2 and not pieces[-1].endswith(f'"{end}'):
        pieces[-1] = pieces[-1].removesuffix(end)
    return _encoded(rows, head, pieces, rng.choice(["", "", end, end * 3]), "csv", encoding, options, separator)


def _jsonl(rng: random.Random, rows: list[Row]) -> tuple[str, list[str], str]:
    ascii_ = rng.random() < 0.5
    end = rng.choice(["\n", "\r\n"])
    return "", [json.dumps(_lacking(rng, row), ensure_ascii=ascii_) + end for row in rows], rng.choice(["", end])


def _json(rng: random.Random, rows: list[Row]) -> tuple[str, list[str], str]:
    indent, ascii_ = rng.choice([None, 1, 4]), rng.random() < 0.5
    pieces = [json.dumps(_lacking(rng, row), indent=indent, ensure_ascii=ascii_) for row in rows]
    return rng.choice(["[", "[\n"]), [f"{piece}," for piece in pieces[:-1]] + pieces[-1:], rng.choice(["]", "]\n"])


def _objects(rng: random.Random, rows: list[Row]) -> tuple[str, list[str], str]:
    return "", [json.dumps(row, indent=2) + rng.choice(["\n", "\n\n"]) for row in rows], ""


def _lacking(rng: random.Random, row: Row) -> Row:
    """Returns a row of which empty cells may not be there at all."""
    return {name: cell for name, cell in row.items() if cell or rng.random() < 0.5}


def _xml(rng: random.Random, rows: list[Row]) -> tuple[str, list[str], str]:
    item, prefix = rng.choice(["item", "entry", "product"]), rng.choice(["", "g:"])
    pieces = []
    for row in rows:
        inside = "".join(f"<{prefix}{name}>{rng.choice([escape, _cdata])(_printable(cell))}</{prefix}{name}>"
                         for name, cell in row.items() if cell)
        pieces.append(f"<{item}>{inside}</{item}>\n")
    return f"<?xml version='1.0'?>\n<feed xmlns:g={quoteattr('http://g')}>", pieces, "</feed>"


def _cdata(text: str) -> str:
    return f"<![CDATA[{text}]]>"


def _printable(text: str) -> str:
    """Returns a text without what XML cannot hold."""
    return text.replace("\x0b", " ")


def _binary(rng: random.Random, rows: list[Row], names: list[str], format_: str) -> bytes:
    out = io.BytesIO()
    if format_ == "excel":
        book = openpyxl.Workbook()
        for cells in (names, *([_printable(row[name]) for name in names] for row in rows)):
            book.active.append([None if cell == "" else cell for cell in cells])
        for line in book.active.iter_rows():
            for cell in line:
                cell.data_type = "s" if cell.data_type == "f" else cell.data_type  # =1+2 is a text
        book.save(out)
        return out.getvalue()
    columns: dict[str, list[Any]] = {name: [row[name] or rng.choice(["", None]) for row in rows] for name in names}
    how = rng.choice(["names", "names", "bytes", "bytes and paths"])
    if how != "names":  # the pictures themselves
        columns["image"] = [picture(row["id"]) for row in rows]
    if how == "bytes and paths":
        columns["image"] = [{"bytes": cell, "path": rng.choice([None, row["image"]])} for cell, row in zip(columns["image"], rows)]
    table = pa.table(columns)
    if format_ == "parquet":
        pq.write_table(table, out, compression=rng.choice(["none", "snappy", "zstd"]), row_group_size=rng.choice([1, 3, 100]))
    else:
        with rng.choice([pa.ipc.new_file, pa.ipc.new_stream])(out, table.schema) as writer:
            writer.write_table(table, rng.choice([1, 100]))
    return out.getvalue()


def picture(name: str) -> bytes:
    """Returns bytes that are no text, such as those of a picture, and say whose."""
    return b"\xff\xd8" + name.encode() * 20


# --- Damage


def damaged(rng: random.Random, table: Table, how: str) -> tuple[Table, tuple[int, int]] | None:
    """Returns the table with damage, and the bytes (of what was written) that it touches; None where it cannot be done to this table."""
    data, size = table.data, len(table.data)
    at = rng.randrange(size)
    if how == "none":
        return table, (0, 0)
    if how == "cut":
        return table._replace(data=data[:at]), (at, size)
    if how == "flip":
        return table._replace(data=data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]), (at, at + 1)
    if how == "insert":
        return table._replace(data=data[:at] + bytes(rng.choices(range(256), k=rng.randint(1, 3))) + data[at:]), (at, at)
    if how == "drop":
        end = min(size, at + rng.randint(1, 40))
        return table._replace(data=data[:at] + data[end:]), (at, end)
    if not table.spans or table.encoding not in ("utf-8", "utf-8-sig", *PAGES):
        return None
    if how == "quote":
        starts = [n + 1 for n, byte in enumerate(data[:-1]) if byte in table.separator.encode() + b"\n"] if table.separator else []
        at = rng.choice(starts) if starts and rng.random() < 0.7 else at  # where it opens a cell
        return table._replace(data=data[:at] + b'"' + data[at:]), (at, at)
    if how == "separator" and table.separator:
        return table._replace(data=data[:at] + table.separator.encode() + data[at:]), (at, at)
    if how == "joined" and table.format in ("csv", "jsonl"):  # files that were put one behind the other, each with a mark or a header
        begin = rng.choice(table.spans)[0]
        head = [line + b"\n" for line in data[: table.spans[0][0]].splitlines() if line]
        again = head[-1] if head and b"\r" not in data.replace(b"\r\n", b"") else b"\xef\xbb\xbf" * (table.encoding not in PAGES)
        return table._replace(data=data[:begin] + again + data[begin:], spans=_moved(table.spans, begin, len(again))), (0, 0)
    if how == "blank lines" and table.format in ("csv", "jsonl", "objects"):
        begin = rng.choice(table.spans)[0]
        return table._replace(data=data[:begin] + b"\n\n" + data[begin:], spans=_moved(table.spans, begin, 2)), (0, 0)
    if how == "encoding" and table.encoding == "utf-8":
        return table._replace(options={**table.options, "encoding": rng.choice(["UTF8", "utf-8", "U8", "utf_8"])}), (0, 0)
    if how == "wrong encoding":
        return table._replace(options={**table.options, "encoding": rng.choice(OTHERS)}), (0, size)
    return None


def _moved(spans: tuple[tuple[int, int], ...], begin: int, count: int) -> tuple[tuple[int, int], ...]:
    return tuple((first + count, end + count) if first >= begin else (first, end) for first, end in spans)


# --- What is right


def expected(row: Row, format_: str) -> tuple[str, str, str]:
    """Returns (id, text, label) of a product."""
    cells = {name: " ".join(_printable(cell).split() if format_ in ("xml", "excel") else cell.split()) for name, cell in row.items()}
    texts = [cells[name] for name in ("title", "note") if cells[name]]
    return cells["id"], BETWEEN.join([text.rstrip(". ") for text in texts[:-1]] + texts[-1:]), cells["kind"]


def check(table: Table, touched: tuple[int, int], how: str, result: reading.Reading) -> None:
    """Raises Difference where a reading is not what was written."""
    got = {product.product_id: (product.product_id, product.text, product.labels["category"]) for product in result.products}
    right = [expected(row, table.format) for row in table.rows]
    for product in result.products:
        marks = {cell: set(MARK.findall(text)) for cell, text in (("id", product.product_id), ("image", Path(product.image_path).name),
                                                                  ("text", product.text), ("label", product.labels["category"]))}
        known = [mark for mark in marks.values() if mark]
        if table.format not in BINARY and known and len(set.union(*known)) > 1 and not _is_one_row(table, touched, marks):
            raise Difference(f"cells of several rows in one product: {product.product_id!r}, {product.text!r}, {marks}")
    if how in ("none", "joined", "blank lines", "encoding"):
        for cells in right:
            if got.get(cells[0]) != cells:
                raise Difference(f"written {cells}, read {got.get(cells[0])}; skipped {result.skipped}")
    elif table.spans and how != "wrong encoding":
        for cells, (first, end) in zip(right, table.spans):
            whole = end + WIDEST < touched[0] or first > touched[1] + WIDEST  # a line break that is hit is that of the next row, too
            # an id that is another's now; a section of XML that runs into the next product
            repeated = any(row["reason"].startswith((reading.REPEATED, feeds.UNCLOSED)) for row in result.skipped)
            if whole and got.get(cells[0]) != cells and not _has_break(table) and not repeated:
                raise Difference(f"not touched, and read as {got.get(cells[0])}: {cells}; skipped {result.skipped}")
    lost = len(table.rows) - len(result.products)
    if lost > 0 and not result.skipped and how != "cut" and table.format not in BINARY and not _may_hide(table, touched, how):
        raise Difference(f"{lost} rows are lost, and nothing is skipped")


def check_pictures(products: Sequence[Product], how: str) -> None:
    """Raises Difference where the cell of a whole table does not give the picture of its row; a damaged one may be refused."""
    for product in products:
        try:
            data = arrow_tables.picture(product.image_path)
        except UserError as error:
            if how == "none":
                raise Difference(f"{product.product_id}: {error}") from error
        else:
            if how == "none" and data not in (None, picture(product.product_id)):
                raise Difference(f"{product.product_id} has the picture {data!r}")


def _is_one_row(table: Table, touched: tuple[int, int], marks: dict[str, set[str]]) -> bool:
    """Whether damage has made one row of several, as what stood between them is gone, or has changed one mark."""
    begin, behind = touched[0] - WIDEST, touched[1] + WIDEST
    rows = {str(n) for n, (first, end) in enumerate(table.spans) if first <= behind and end >= begin and touched != (0, 0)}
    return bool(rows) and (set.union(*marks.values()) <= rows or sum(bool(mark) and not mark <= rows for mark in marks.values()) == 1)


def _has_break(table: Table) -> bool:
    """Whether cells go over lines."""
    return table.format == "csv" and any("\n" in cell for row in table.rows for cell in row.values())


def _may_hide(table: Table, touched: tuple[int, int], how: str) -> bool:
    """Whether the damage itself may have taken rows away: their bytes, the header or the brackets around all."""
    return how == "drop" or how == "wrong encoding" or touched[0] <= table.spans[0][0] or table.format not in ("csv", "jsonl")


class Fuzz:
    """The cases. context: what a finding needs to be understood; counts: what was covered."""

    def __init__(self, folder: Path):
        self.folder, self.counts = folder, Counter()
        self.context: dict[str, Any] = {}

    def case(self, rng: random.Random) -> None:
        """Reads one table; raises Difference, or whatever the reader should not have raised."""
        how, table = rng.choice(DAMAGE), draw(rng)
        made = damaged(rng, table, how)
        if made is None:
            how, made = "none", (table, (0, 0))
        table, touched = made
        data = table.data
        if table.format not in BINARY and rng.random() < 0.15:
            data = gzip.compress(data, mtime=0)
            if rng.random() < 0.3:
                at = rng.randrange(len(data))
                data, how, touched = rng.choice([data[:at], data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]]), (
                    "packed"), (0, len(table.data))
        path = self.folder / rng.choice(["t.csv", "t.txt", "t.tsv", "t.json", "t.xlsx", "t.parquet", "t"])
        path.write_bytes(data)
        self.context = {"format": table.format, "damage": how, "touched": touched, "options": table.options, "encoding": table.encoding,
                        "data": data[:3000]}
        source = TableSource(path, COLUMNS, text_separator=BETWEEN, strip_html=False, missing=(), **table.options)
        name = f"{table.format}, {how}"
        try:
            result = reading.survey(source)
        except UserError as error:
            self.counts[f"{name}: refused"] += 1
            self.counts[f"message: {re.sub(r'[0-9]+|0x..', 'N', error.what)[:60]}"] += 1
            if how in ("none", "joined", "blank lines", "encoding"):
                raise Difference(f"a whole table is refused: {error}") from error
        else:
            self.counts[f"{name}: {'read, with skipped rows' if result.skipped else 'read'}"] += 1
            if how != "packed" and how != "wrong encoding":
                check(table, touched, how, result)
            check_pictures(result.products, how)
        if rng.random() < 0.1:  # the columns guessed
            try:
                examination.with_columns(TableSource(path, **table.options))
            except UserError:
                self.counts["columns guessed: refused"] += 1


def run(seed: int, seconds: float, cases: int | None = None, first: int = 0, findings: int = 1) -> tuple[int, Counter]:
    """Returns (number of findings, counts), as fuzzing.run."""
    return fuzzing.run(Fuzz, seed, seconds, cases, first, findings)


def main(arguments: list[str] | None = None) -> int:
    """Runs the program; returns the exit status: 0 nothing found, 1 a finding."""
    parser = argparse.ArgumentParser("python -m benchmarks.fuzz_tables", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=report.positive, default=600, help="of CPU time; default: 600")
    parser.add_argument("--cases", type=report.positive, help="stop after so many cases instead")
    parser.add_argument("--first", type=int, default=0, help="number of the first case: a finding names it; default: 0")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--findings", type=report.positive, default=1, help="stop after so many; default: 1")
    options = parser.parse_args(arguments)
    found, counts = run(options.seed, options.seconds, options.cases, options.first, options.findings)
    for name, count in sorted(counts.items()):
        print(f"{name:70} {count:12,}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
