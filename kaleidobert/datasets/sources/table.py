"""A catalogue as a table: CSV, TSV or JSONL, one line per picture, beside a folder of pictures."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaleidobert import table_text
from kaleidobert.configs import Source
from kaleidobert.configs.data import MISSING
from kaleidobert.configs.section import key
from kaleidobert.datasets.sources.reading import Unreadable, require
from kaleidobert.errors import UserError


@dataclass(frozen=True)
class TableSource(Source):
    """A CSV, TSV or JSONL table with one line per picture."""

    kind: str = key("table", "a table of products, one line per picture")
    missing: tuple[str, ...] = key(MISSING, "cells that count as empty, in capitals or not; [] = only empty cells")

    def rows(self, wanted: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any] | Unreadable]]:
        """Yields ("file, line", row) of every line; a row maps column names to cells."""
        if not self.table.is_file():
            raise UserError("there is no such table", str(self.table), "a .csv, .tsv or .jsonl file", "set source.table")
        text, is_json = _decoded(self.table), self.table.suffix.lower() in (".jsonl", ".ndjson", ".json")
        for line, row in _object_rows(text, wanted) if is_json else _cell_rows(text, self, wanted):
            yield f"{self.table.name}, line {line}", row

    @property
    def empty_words(self) -> tuple[str, ...]:
        return self.missing

    @property
    def picture_folder(self) -> Path:
        return self.images or self.table.parent


def _decoded(table: Path) -> str:
    try:
        data = table.read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", str(table)) from None
    except UnicodeDecodeError as error:
        line = len(data[: error.start].splitlines()) or 1
        raise UserError(f"not UTF-8 text (line {line}: {error.reason}, byte 0x{data[error.start]:02x})", str(table),
                        fix="save the table as UTF-8") from None


def _object_rows(text: str, wanted: Sequence[str]) -> Iterator[tuple[int, Mapping[str, Any] | Unreadable]]:
    for line, row, fault in table_text.objects(io.StringIO(text, newline="")):
        twice = [column for column in wanted if column in row.twice]
        if twice:
            fault = f"the key {twice[0]!r} stands twice in the object"
        yield line, Unreadable(fault) if fault else row


def _cell_rows(text: str, source: Source, wanted: Sequence[str]) -> Iterator[tuple[int, Mapping[str, Any] | Unreadable]]:
    separator = "\t" if source.table.suffix.lower() == ".tsv" else ","
    header, rows = table_text.separated(text, separator, [source.columns.id, source.columns.image])
    if header.fault:
        raise UserError(header.fault, str(source.table), "the names of the columns in the first line", "save the table as UTF-8")
    require(wanted, header.cells, str(source.table))
    for row in rows:
        cells = dict(zip(header.cells, row.cells))
        broken = next((column for column in (source.columns.id, source.columns.image) if len(cells.get(column, "").splitlines()) > 1), "")
        fault = row.fault or (f"a line break in column {broken!r}: is a quote not closed?" if broken else "")
        yield row.line, Unreadable(fault) if fault else cells
