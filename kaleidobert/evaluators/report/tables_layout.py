"""Tables of results as values, and as Markdown that also reads well in a terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

MISSING = "–"


@dataclass(frozen=True)
class Value:
    """A number with the ends of its interval, where it has one."""

    value: float
    low: float | None = None
    high: float | None = None


Cell = Value | str | None


@dataclass(frozen=True)
class Column:
    """digits: behind the point; printed: those of the paper's numbers. scale: what a value is multiplied with when it is shown."""

    key: str
    head: str
    digits: int = 0
    printed: int = 0
    scale: float = 1.0


MODEL_COLUMNS = (Column("head", "head"), Column("trained", "trained"))  # which model a row is of, in every table


@dataclass(frozen=True)
class Row:
    """kind: whose numbers. cells: {column's key: cell}, left out = none.

    note: what a reader must know of the row; rows with equal notes share one footnote.
    """

    name: str
    kind: Literal["paper", "baseline", "ours"]
    cells: Mapping[str, Cell]
    note: str = ""


@dataclass(frozen=True)
class Table:
    """remarks: lines below the footnotes that hold for the whole table."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    remarks: Sequence[str] = field(default=())


def markdown(table: Table) -> str:
    """Heading, table with aligned columns, footnotes, remarks."""
    notes = list(dict.fromkeys(row.note for row in table.rows if row.note))
    lines = [["", *(column.head for column in table.columns)]]
    for row in table.rows:
        mark = f" [{notes.index(row.note) + 1}]" if row.note else ""
        name = f"**{_plain(row.name)}**" if row.kind == "ours" else _plain(row.name)
        lines.append([name + mark, *(_show(row.cells.get(column.key), column, row.kind) for column in table.columns)])
    widths = [max(map(len, cells)) for cells in zip(*lines)]
    made = ["| " + " | ".join([line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))]) + " |"
            for line in lines]
    made.insert(1, "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|")
    below = [f"[{number}] {_plain(note)}" for number, note in enumerate(notes, 1)] + list(table.remarks)
    return "\n".join([f"## {table.title}", "", *made, *(["", *(f"- {line}" for line in below)] if below else []), ""])


def to_json(table: Table) -> dict[str, Any]:
    """The same, ready for JSON; values are not scaled."""
    rows = [{"name": row.name, "kind": row.kind, "note": row.note,
             "cells": {column.key: _plain_value(row.cells.get(column.key)) for column in table.columns}} for row in table.rows]
    columns = [{"key": column.key, "head": column.head, "scale": column.scale} for column in table.columns]
    return {"title": table.title, "columns": columns, "rows": rows, "remarks": list(table.remarks)}


def merged(rows: Sequence[Row]) -> list[Row]:
    """Rows of one name and note become one where no cell contradicts; the order is that of the first ones."""
    found: list[Row] = []
    for row in rows:
        for place, other in enumerate(found):
            if (other.name, other.kind, other.note) == (row.name, row.kind, row.note) and _agree(other.cells, row.cells):
                found[place] = Row(row.name, row.kind, {**other.cells, **row.cells}, row.note)
                break
        else:
            found.append(row)
    return found


def together(simple: list[Row], ours: list[Row]) -> list[Row]:
    """Baselines, then runs, setting by setting."""
    rows = [*merged(simple), *ours]
    order = {note: place for place, note in enumerate(dict.fromkeys(row.note for row in rows))}
    return sorted(rows, key=lambda row: (order[row.note], row.kind == "ours"))


def total(cells: Mapping[str, Cell], keys: Sequence[str], name: str) -> dict[str, Cell]:
    """The cells with their sum, where all are there."""
    values = [value for value in map(cells.get, keys) if isinstance(value, Value)]
    return {**cells, name: Value(sum(value.value for value in values)) if len(values) == len(keys) else None}


def _agree(one: Mapping[str, Cell], other: Mapping[str, Cell]) -> bool:
    return all(_same(one[key], other[key]) for key in one.keys() & other.keys())


def _same(one: Cell, other: Cell) -> bool:
    """Sums over the same numbers in another order differ in the last digit."""
    if isinstance(one, Value) and isinstance(other, Value):
        return abs(one.value - other.value) < 1e-9
    return one == other


def _show(cell: Cell, column: Column, kind: str) -> str:
    if cell is None:
        return MISSING
    if isinstance(cell, str):
        return _plain(cell)
    digits = column.printed if kind == "paper" else column.digits
    numbers = [f"{number * column.scale:.{digits}f}" for number in (cell.value, cell.low, cell.high) if number is not None]
    return f"{numbers[0]} [{numbers[1]}, {numbers[2]}]" if len(numbers) == 3 else numbers[0]


def _plain_value(cell: Cell) -> Any:
    return vars(cell) if isinstance(cell, Value) else cell


def _plain(text: str) -> str:
    """What would end a cell or start markup, made harmless."""
    for mark in "\\|*`<":
        text = text.replace(mark, "\\" + mark)
    return " ".join(text.split())
