"""A catalogue of products: a CSV or JSONL table beside a folder of pictures.

The other kinds of sources (fashion_gen.py, tfds/) yield rows as a table does, and go the same way from there.
"""

import csv
import difflib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kaleidobert.configs import Columns, Source
from kaleidobert.datasets import fashion_gen
from kaleidobert.datasets.products import Part, Product, read_image
from kaleidobert.errors import UserError

LeftOut = dict[str, str]  # image_id, where, reason


def read(source: Source) -> tuple[list[Product], list[LeftOut]]:
    """All pictures of a source in the order of its table, and the rows that cannot be used, each with its reason.

    Rows without an id, with a repeated id or without text are left out, and of Fashion-Gen a view whose text or labels are not
    those of its product's first view; pictures are not opened here. Raises UserError where the table is missing, empty, malformed
    or lacks a mapped column, and as the reader of the source's kind does.
    """
    products, left_out, seen, firsts = [], [], {}, {}
    for where, row in _rows(source):
        product = _product(row, source, where)
        reason = _fault(product, seen, source.columns)
        if not reason and source.kind in ("fashion_gen", "fashion_gen_extracted"):
            reason = _contradiction(product, firsts.setdefault(product.product_id, product))
        if reason:
            left_out.append({"image_id": product.image_id, "where": where, "reason": reason})
            continue
        seen[product.image_id] = where
        products.append(product)
        if source.limit and len(products) >= source.limit:
            break
    _check_groups(products, str(source.table))
    if not products:
        reasons = f" ({left_out[0]['reason']})" if left_out else ""
        raise UserError(f"no usable row{reasons}", str(source.table), "at least one row with id, picture and text")
    return products, left_out


def _check_groups(products: list[Product], where: str) -> None:
    """A group in two splits, or a product in two groups, would leak training products into the evaluation."""
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
    """A foreground mask, bool[h, w]: True where the picture file is brighter than half."""
    return read_image(path)[..., 0] > 127


def split_of(group: str, val_fraction: float) -> str:
    """"val" for the given share of all groups, "train" for the others: a fixed function of the group's name."""
    draw = int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "big") / 2**64
    return "val" if draw < val_fraction else "train"


def jsonl_rows(table: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(line number, row) of a file with one JSON object per line; UserError names the line that is none."""
    with open(table, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"line {number} is not valid JSON ({error})", str(table)) from None
            if not isinstance(row, dict):
                raise UserError(f"line {number} holds a {type(row).__name__}", str(table), "an object with the columns as keys")
            yield number, row


def _product(row: Mapping[str, Any], source: Source, where: str) -> Product:
    columns = source.columns
    folder = _folder(source)
    product_id, view = _text(row, columns.id), "-".join(filter(None, (_text(row, column) for column in columns.view)))
    group = _text(row, columns.group) or product_id
    image_path = _text(row, columns.image)
    mask: Callable | None = None
    if _text(row, columns.mask):
        mask = partial(read_mask, folder / _text(row, columns.mask))
    pieces = [piece for piece in (_text(row, column) for column in columns.text) if piece]
    return Product(
        product_id=product_id,
        group=group,
        view=view,
        split=_text(row, columns.split) if columns.split else split_of(group, source.val_fraction),
        image_id=f"{product_id}/{view}" if view else product_id,
        image_path=str(folder / image_path) if image_path else "",
        text=source.text_separator.join([piece.rstrip(". ") for piece in pieces[:-1]] + pieces[-1:]),
        labels={name: _text(row, column) for name, column in columns.labels.items()},
        load_image=partial(read_image, folder / image_path),
        load_mask=mask,
        mask_path=str(folder / _text(row, columns.mask)) if mask else "",
        parts=_parts(row.get(columns.parts), columns.parts, where) if columns.parts else (),
    )


def _folder(source: Source) -> Path:
    """Where the pictures' names start."""
    if source.kind == "fashion_gen":
        return source.table  # the pictures are inside of the files
    return source.images or (source.table.parent if source.kind == "table" else source.table)


def _parts(value: Any, column: str, where: str) -> tuple[Part, ...]:
    try:
        return tuple(Part(str(part["word"]), tuple(float(edge) for edge in part["box"])) for part in value or ())
    except (TypeError, KeyError, ValueError):
        raise UserError(f"column {column!r} holds no list of parts", where, '[{"word": "collar", "box": [x1, y1, x2, y2]}, ...]',
                        "a JSONL table, or leave source.columns.parts empty") from None


def _fault(product: Product, seen: Mapping[str, str], columns: Columns) -> str:
    if not product.product_id:
        return f"no id in column {columns.id!r}"
    if not product.image_path:
        return f"no picture in column {columns.image!r}"
    if not product.split:
        return f"no split in column {columns.split!r}"
    if product.image_id in seen:
        return f"the id was used before, in {seen[product.image_id]}; pictures of one product are told apart by columns.view"
    if not product.text:
        return f"no text in {', '.join(repr(column) for column in columns.text)}"
    return ""


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column) if column else None
    return "" if value is None else " ".join(str(value).split())


def _contradiction(product: Product, first: Product) -> str:
    """Why a view cannot belong to the product whose first view is given; the views of a product share text and labels."""
    names = [name for name, value in product.labels.items() if value != first.labels[name]]
    if names:
        return (f"{names[0]} is {product.labels[names[0]]!r}, but {first.labels[names[0]]!r} in another view of the product, "
                f"{first.image_id}")
    return f"the text is not that of another view of the product, {first.image_id}" if product.text != first.text else ""


def _rows(source: Source) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(where, {column: value}) of every row of any kind of source; UserError where a mapped column is not there."""
    columns = source.columns
    wanted = [name for name in (columns.id, columns.image, *columns.text, columns.group, *columns.view, columns.split, columns.mask,
                                columns.parts, *columns.labels.values()) if name]
    checked = False
    for where, row in _reader(source)(source, wanted):
        if not checked:
            for column in wanted:
                if column not in row:
                    near = difflib.get_close_matches(column, list(row), 1, 0.5)
                    raise UserError(f"there is no column {column!r}", str(source.table), f"one of {', '.join(row)}",
                                    f"did you mean {near[0]!r}?" if near else "correct source.columns")
            checked = True
        yield where, row


def _reader(source: Source) -> Callable[[Source, list[str]], Iterator[tuple[str, Mapping[str, Any]]]]:
    if source.kind == "tfds":  # imported here, for it loads TensorFlow
        from kaleidobert.datasets.tfds import products

        return products.rows
    return {"table": _table_rows, "fashion_gen": fashion_gen.rows, "fashion_gen_extracted": fashion_gen.extracted_rows}[source.kind]


def _table_rows(source: Source, _: list[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    table = source.table
    if not table.is_file():
        raise UserError("there is no such table", str(table), "a .csv, .tsv or .jsonl file", "set source.table")
    reader = jsonl_rows(table) if table.suffix.lower() in (".jsonl", ".ndjson", ".json") else _csv_rows(table)
    try:
        for line, row in reader:
            yield f"{table.name}, line {line}", row
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8 text ({error})", str(table), fix="save the table as UTF-8") from None


def _csv_rows(table: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    csv.field_size_limit(10_000_000)  # descriptions can be long; the default limit is 128 KiB
    with open(table, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t" if table.suffix.lower() == ".tsv" else ",")
        try:
            for row in reader:
                if None in row or None in row.values():
                    raise UserError(f"line {reader.line_num} has another number of columns than the header", str(table),
                                    f"{len(reader.fieldnames or ())} columns", "quote texts that hold the separator")
                yield reader.line_num, row
        except csv.Error as error:
            raise UserError(f"line {reader.line_num} is not valid CSV ({error})", str(table)) from None
