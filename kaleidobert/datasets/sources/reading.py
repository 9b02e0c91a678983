"""The rows of any source become products: cells become fields, and rows that cannot be used are skipped with their reason.

A source (a class of ``SOURCES``) only yields its rows; missing texts, repeated ids, groups in two splits and all that follows are
handled here, the same way for every source.
"""

import difflib
import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kaleidobert import table_text
from kaleidobert.configs import Columns, Source
from kaleidobert.datasets.products import Product, read_image
from kaleidobert.errors import UserError
from kaleidobert.specs import Part

SkippedRow = dict[str, str]  # image_id, where, reason
ROUNDED = re.compile(r"\d([.,]\d+)?[eE]\+\d+")  # 1.00123E+12: what a spreadsheet shows, and exports, of a long number
UNREADABLE = 0.5  # fraction of lines that cannot be read from which on a file is not the table that it is taken for
SHOWN = 5  # positions, and words, that one line names


class Unreadable(str):
    """The reason why a line of a table is no row; a source yields it in the row's place."""


@dataclass
class Reading:
    """The products of a source and its skipped rows.

    missing: {(column, word): number of cells} with a word that stands for an empty cell; rounded: of every row whose id or group looks
    like a number that a spreadsheet rounded, the first such text.
    """

    products: list[Product] = field(default_factory=list)
    skipped: list[SkippedRow] = field(default_factory=list)
    missing: Counter[tuple[str, str]] = field(default_factory=Counter)
    rounded: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        """Returns lines to print: the cells that count as empty, and ids that look rounded."""
        lines = []
        for column in dict.fromkeys(column for column, _ in self.missing):
            words = Counter({word: count for (other, word), count in self.missing.items() if other == column})
            shown = ", ".join(f"{word!r} x {count:,}" for word, count in words.most_common(SHOWN))
            more = ", ..." if len(words) > SHOWN else ""
            lines.append(f"{words.total():,} cells of {column!r} count as empty (source.missing): {shown}{more}")
        if self.rounded:
            lines.append(f"{len(self.rounded):,} rows have an id or a group such as {self.rounded[0]!r}, which looks rounded by a "
                         "spreadsheet: different products may share it; make the column text there and export the table again")
        return lines


def read(source: Source) -> tuple[list[Product], list[SkippedRow]]:
    """Returns the products of a source in its order, and the skipped rows, as ``survey`` without its counts."""
    reading = survey(source)
    return reading.products, reading.skipped


def survey(source: Source) -> Reading:
    """Reads all products of a source, one per picture, in its order; every skipped row has its position and reason.

    Skipped are lines that are no row (another number of columns, a quote that is never closed, broken JSON, ...), rows without an id, a
    picture or text, rows with a repeated id, and, where ``source.views_share_text``, a view whose text or labels differ from those of
    its product's first view. Pictures are not opened. Raises UserError where the table is missing, lacks a mapped column or has it
    twice, where most lines are no rows, no row can be used or a group is in two splits, and as ``source.rows`` does.
    """
    reading, absent = Reading(), dict.fromkeys(mapped(source.columns))
    seen: dict[str, str] = {}
    firsts: dict[str, Product] = {}
    there: dict[str, None] = {}
    words = {word.strip().casefold() for word in source.empty_words}
    unreadable: list[SkippedRow] = []
    for where, row in source.rows(list(absent)):
        if isinstance(row, Unreadable):
            unreadable.append({"image_id": "", "where": where, "reason": str(row)})
            reading.skipped.append(unreadable[-1])
            continue
        if absent:
            there |= dict.fromkeys(row)
            absent = {column: None for column in absent if column not in row}
        reason, product = _take(row, source, where, words, reading)
        if product is not None:
            reason = reason or _fault(product, seen, source.columns)
            if not reason and source.views_share_text:
                reason = _contradiction(product, firsts.setdefault(product.product_id, product))
        if reason or product is None:
            reading.skipped.append({"image_id": product.image_id if product else "", "where": where, "reason": reason})
            continue
        seen[product.image_id] = where
        reading.products.append(product)
        if source.limit and len(reading.products) >= source.limit:
            break
    _check_readable(unreadable, len(reading.products) + len(reading.skipped), source)
    if there:
        require(list(absent), list(there), str(source.table))
    _check_groups(reading.products, str(source.table))
    if not reading.products:
        reasons = f" ({'; '.join(account(reading.skipped))})" if reading.skipped else ""
        raise UserError(f"no usable row{reasons}", str(source.table), "at least one row with id, picture and text")
    return reading


def account(skipped: Sequence[SkippedRow]) -> list[str]:
    """Returns a line per reason, the most frequent first: the reason, its count and the first positions."""
    positions: dict[str, list[str]] = {}
    for row in skipped:
        positions.setdefault(_reason(row), []).append(row["where"])
    ordered = sorted(positions.items(), key=lambda item: -len(item[1]))
    return [f"{reason} x {len(where):,}: {_positions(where)}" for reason, where in ordered]


def _positions(where: Sequence[str]) -> str:
    """Returns the first positions, with the file named once."""
    file = where[0].rpartition(", ")[0]
    shown = [where[0], *(position.removeprefix(f"{file}, ") if file else position for position in where[1:SHOWN])]
    return ", ".join([*shown, "..."] if len(where) > SHOWN else shown)


def _reason(row: SkippedRow) -> str:
    """Returns the reason of a row without names, values and advice, by which rows are counted together."""
    reason = row["reason"].removeprefix(f"{row['where']}: ")
    return re.split(r"; | \(|, in | is '|, (?=[^' ]+$)", reason, maxsplit=1)[0]


def _check_readable(unreadable: Sequence[SkippedRow], rows: int, source: Source) -> None:
    if len(unreadable) > 1 and len(unreadable) > UNREADABLE * rows:
        raise UserError(f"{len(unreadable):,} of {rows:,} lines cannot be read ({'; '.join(account(unreadable)[:SHOWN])})",
                        str(source.table),
                        "a table as its ending says: .csv with commas, .tsv with tabs, .jsonl with one object per line",
                        "export it again, or give it the ending of what it is")


def _check_groups(products: list[Product], where: str) -> None:
    """Raises UserError where a group is in two splits or a product in two groups: training products would leak into the evaluation."""
    splits: dict[str, Product] = {}
    groups: dict[str, Product] = {}
    for product in products:
        first = splits.setdefault(product.group, product)
        if first.split != product.split:
            raise UserError(f"the group {product.group!r} is in {first.split!r} ({first.image_id}) and in {product.split!r} "
                            f"({product.image_id})", where, "all pictures of a group in one split", "correct the split column")
        first = groups.setdefault(product.product_id, product)
        if first.group != product.group:
            raise UserError(f"the product {product.product_id!r} is in the groups {first.group!r} and {product.group!r}", where,
                            "one group per product", "correct the group column")


def read_mask(path: Path) -> np.ndarray:
    """Returns a foreground mask, bool[h, w]: True where the picture file is brighter than half."""
    return read_image(path)[..., 0] > 127


def split_of(group: str, val_fraction: float) -> str:
    """Returns "val" for the given fraction of all groups, else "train": a fixed function of the group's name."""
    draw = int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "big") / 2**64
    return "val" if draw < val_fraction else "train"


def jsonl_rows(table: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yields (line number, row) of a file with one JSON object per line; raises UserError that names a line that is none."""
    with open(table, encoding="utf-8") as file:
        for number, row, fault in table_text.objects(file):
            if fault:
                raise UserError(f"line {number}: {fault}", str(table), "an object with the columns as keys")
            yield number, row


def _take(row: Mapping[str, Any], source: Source, where: str, words: Collection[str], reading: Reading) -> tuple[str, Product | None]:
    """Returns (why the row cannot be used or "", the product or None); adds to the counts of ``reading``."""
    columns = source.columns
    texts = {column: _text(row.get(column)) for column in mapped(columns) if column != columns.parts}
    for column, text in texts.items():
        if text.casefold() in words or _is_no_number(row.get(column)):
            reading.missing[column, text] += 1
            texts[column] = ""
    rounded = next((texts[column] for column in (columns.id, columns.group) if ROUNDED.fullmatch(texts.get(column, ""))), "")
    reading.rounded += [rounded] if rounded else []
    try:
        return "", _product(texts, row, source, where)
    except UserError as error:
        return str(error).removeprefix(f"{where}: "), None


def _product(texts: Mapping[str, str], row: Mapping[str, Any], source: Source, where: str) -> Product:
    columns = source.columns
    folder = source.picture_folder
    product_id, view = texts.get(columns.id, ""), "-".join(filter(None, (texts.get(column, "") for column in columns.view)))
    group = texts.get(columns.group) or product_id
    image_path = texts.get(columns.image, "")
    mask: Callable | None = None
    if texts.get(columns.mask):
        mask = partial(read_mask, folder / texts[columns.mask])
    pieces = [piece for piece in (texts.get(column, "") for column in columns.text) if piece]
    return Product(
        product_id=product_id,
        group=group,
        view=view,
        split=texts[columns.split] if columns.split else split_of(group, source.val_fraction),
        image_id=f"{product_id}/{view}" if view else product_id,
        image_path=str(folder / image_path) if image_path else "",
        text=source.text_separator.join([piece.rstrip(". ") for piece in pieces[:-1]] + pieces[-1:]),
        labels={name: texts.get(column, "") for name, column in columns.labels.items()},
        load_image=partial(read_image, folder / image_path),
        load_mask=mask,
        mask_path=str(folder / texts[columns.mask]) if mask else "",
        parts=_parts(row.get(columns.parts), columns.parts, where) if columns.parts else (),
    )


def _parts(value: Any, column: str, where: str) -> tuple[Part, ...]:
    try:
        return () if _is_no_number(value) else tuple(Part(str(part["word"]), _box(part["box"])) for part in value or ())
    except (TypeError, KeyError, ValueError):
        raise UserError(f"column {column!r} holds no list of parts", where, '[{"word": "collar", "box": [x1, y1, x2, y2]}, ...]',
                        "a JSONL table, or leave source.columns.parts empty") from None


def _box(values: Iterable[Any]) -> tuple[float, float, float, float]:
    """Returns four finite numbers; raises ValueError or TypeError for anything else."""
    x1, y1, x2, y2 = map(float, values)
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        raise ValueError
    return x1, y1, x2, y2


def _fault(product: Product, seen: Mapping[str, str], columns: Columns) -> str:
    if not product.product_id:
        return f"no id in column {columns.id!r}"
    if not product.image_path:
        return f"no picture in column {columns.image!r}"
    if not product.split:
        return f"no split in column {columns.split!r}"
    if product.image_id in seen:
        rounded = f" (a spreadsheet rounded it to {product.product_id})" if ROUNDED.fullmatch(product.product_id) else ""
        return f"the id was used before, in {seen[product.image_id]}{rounded}; pictures of one product are told apart by columns.view"
    if not product.text:
        return f"no text in {', '.join(repr(column) for column in columns.text)}"
    return ""


def _text(value: Any) -> str:
    return "" if value is None else " ".join(str(value).split())


def _is_no_number(value: Any) -> bool:
    """Whether a value is JSON's NaN or Infinity."""
    return isinstance(value, float) and not math.isfinite(value)


def _contradiction(product: Product, first: Product) -> str:
    """Returns why a view cannot belong to the product whose first view is given, "" where it can."""
    names = [name for name, value in product.labels.items() if value != first.labels[name]]
    if names:
        return (f"{names[0]} is {product.labels[names[0]]!r}, but {first.labels[names[0]]!r} in another view of the product, "
                f"{first.image_id}")
    return f"the text is not that of another view of the product, {first.image_id}" if product.text != first.text else ""


def mapped(columns: Columns) -> dict[str, None]:
    """Returns the mapped columns, each once."""
    names = (columns.id, columns.image, *columns.text, columns.group, *columns.view, columns.split, columns.mask, columns.parts,
             *columns.labels.values())
    return dict.fromkeys(name for name in names if name)


def require(columns: Sequence[str], there: Sequence[str], where: str) -> None:
    """Raises UserError where a mapped column is missing or stands twice."""
    for column in columns:
        numbers = table_text.positions(column, there)
        if len(numbers) > 1:
            raise UserError(f"the columns {' and '.join(map(str, numbers))} are both called {column!r}" if len(numbers) == 2 else
                            f"the columns {', '.join(map(str, numbers))} are all called {column!r}", where,
                            "one column of every name in source.columns", "rename or remove the others")
        if not numbers:
            near = difflib.get_close_matches(column, there, 1, 0.5)
            raise UserError(f"there is no column {column!r}", where, f"one of {', '.join(there)}",
                            f"did you mean {near[0]!r}?" if near else "correct source.columns")
