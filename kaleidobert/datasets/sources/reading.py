"""The rows of any source become products: cells become fields, and rows that cannot be used are skipped with their reason.

A source (a class of ``SOURCES``) only yields its rows; missing texts, repeated ids, groups in two splits and all that follows are
handled here, the same way for every source.
"""

import difflib
import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kaleidobert import io, table_text
from kaleidobert.configs import Columns, Source
from kaleidobert.datasets import arrow_tables, near_duplicates
from kaleidobert.datasets.arrow_tables import Embedded
from kaleidobert.datasets.products import Product, read_image
from kaleidobert.datasets.sources import markup, pictures
from kaleidobert.datasets.sources.pictures import PictureFolder
from kaleidobert.datasets.sources.presets import TEMPLATE, filled
from kaleidobert.errors import UserError
from kaleidobert.specs import Part

SPELLINGS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}  # of splits
SkippedRow = dict[str, str]  # image_id, where, reason
ROUNDED = re.compile(r"\d([.,]\d+)?[eE]\+\d+")  # 1.00123E+12: what a spreadsheet shows, and exports, of a long number
UNREADABLE = 0.5  # fraction of lines that cannot be read from which on a file is not the table that it is taken for
SHOWN = 5  # positions, and words, that one line names
REPEATED, BY_SPREADSHEET = "the id was used before", "a spreadsheet rounded it"
LONG = 80  # characters of a picture's name that a line has
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
VARIANT = re.compile(r"(?:^|[=,|;])\s*sku=\s*\"?([^\",|;]+)")  # Magento's sku=A-red,color=red|sku=A-blue,color=blue
PARENT = re.compile(r"(?:^|[,|;])\s*(?:parent|configurable)_sku=\s*\"?([^\",|;]+)")
ADVICE = re.compile(r"; | \(|, in | is \0|, (?=[^\0 ]+$)")  # what follows the reason in a row's reason


class Unreadable(str):
    """The reason why a line of a table is no row; a source yields it in the row's place."""


@dataclass
class Reading:
    """The products of a source and its skipped rows.

    source: with all that was found by a look at it. found: lines that say what. rows: number of rows read. missing: {(column, word): number
    of cells} with a word that stands for an empty cell; markup: {column: cells} with HTML; rounded: of every row whose id or group looks
    like a number that a spreadsheet rounded, the first such text. spellings: {(split, as which it is read): rows}. views: {what: number of
    rows} of rows that name several pictures or none. absent: pictures that no file holds. searched: where they were looked for, a line for
    people. shortened: {label: {cell: what of it is the label}}. embedded: pictures that the table itself holds. spelled, ambiguous,
    addresses: as of pictures.PictureFolder.
    """

    source: Source
    found: list[str] = field(default_factory=list)
    rows: int = 0

    products: list[Product] = field(default_factory=list)
    skipped: list[SkippedRow] = field(default_factory=list)
    missing: Counter[tuple[str, str]] = field(default_factory=Counter)
    rounded: list[str] = field(default_factory=list)
    spellings: Counter[tuple[str, str]] = field(default_factory=Counter)
    markup: Counter[str] = field(default_factory=Counter)
    views: Counter[str] = field(default_factory=Counter)
    absent: list[SkippedRow] = field(default_factory=list)
    searched: str = ""
    shortened: dict[str, dict[str, str]] = field(default_factory=dict)
    embedded: int = 0
    spelled: Counter[str] = field(default_factory=Counter)
    ambiguous: list[str] = field(default_factory=list)
    addresses: dict[str, Path] = field(default_factory=dict)

    @property
    def has_views(self) -> bool:
        """Whether rows and pictures are not one to one."""
        return bool(self.views)

    def notes(self) -> list[str]:
        """Returns lines to print: views, names of pictures, markup, the cells that count as empty, and ids that look rounded."""
        lines = [f"{what}: {count:,}" for what, count in self.views.items()]
        lines += [f"the split {name!r} is read as {split!r}: {count:,}" for (name, split), count in self.spellings.items()]
        lines += [f"pictures that the table itself holds: {self.embedded:,}"] if self.embedded else []
        lines += [f"pictures whose file is named otherwise {how}: {count:,}" for how, count in self.spelled.items()]
        if self.ambiguous:
            more = ", ..." if len(self.ambiguous) > SHOWN else ""
            lines.append(f"{len(self.ambiguous):,} names of pictures fit several files: {', '.join(self.ambiguous[:SHOWN])}{more}")
        for name, cells in self.shortened.items():
            cell, label = next(iter(cells.items()))
            lines.append(f"label {name}: of {len(cells):,} different cells a part is the label (source.label_patterns), such as {label!r} "
                         f"of {cell!r}")
        if self.markup:
            shown = ", ".join(f"{column!r} x {count:,}" for column, count in self.markup.items())
            lines.append(f"{self.markup.total():,} cells had HTML, which was taken out (source.strip_html): {shown}")
        for column in dict.fromkeys(column for column, _ in self.missing):
            words = Counter({word: count for (other, word), count in self.missing.items() if other == column})
            shown = ", ".join(f"{word!r} x {count:,}" for word, count in words.most_common(SHOWN))
            more = ", ..." if len(words) > SHOWN else ""
            lines.append(f"{words.total():,} cells of {column!r} count as empty (source.missing): {shown}{more}")
        repeated = sum(row["reason"].startswith(REPEATED) and BY_SPREADSHEET not in row["reason"] for row in self.skipped)
        if repeated:
            lines.append(f"{repeated:,} rows have the id of a product above and a text of their own: where they are pictures of it, "
                         "source.columns.view names a column that tells them apart, such as that of the picture")
        if self.rounded:
            lines.append(f"{len(self.rounded):,} rows have an id or a group such as {self.rounded[0]!r}, which looks rounded by a "
                         "spreadsheet: different products may share it; make the column text there and export the table again")
        return lines


def read(source: Source) -> tuple[list[Product], list[SkippedRow]]:
    """Returns the products of a source in its order, and the skipped rows, as ``survey`` without its counts."""
    reading = survey(source)
    return reading.products, reading.skipped


def survey(source: Source, needs_text: bool = True) -> Reading:
    """Reads all products of a source, one per picture, in its order; every skipped row has its position and reason.

    Skipped are lines that are no row (another number of columns, a quote that is never closed, broken JSON, ...), rows without an id, a
    picture or text, rows with a repeated id, and, where ``source.views_share_text``, a view whose text or labels differ from those of
    its product's first view. Pictures are not opened. needs_text: False where rows without a text are used, too.

    Raises UserError where the table is missing, lacks a mapped column or has it twice, where most lines are no rows, no row can be
    used or a group is in two splits, and as ``source.rows`` does.
    """
    source, found = source.resolved()
    reading, absent = Reading(source, found), dict.fromkeys(mapped(source.columns))
    taker = _Taker(reading, needs_text)
    there: dict[str, None] = {}
    unreadable: list[SkippedRow] = []
    for where, row in source.rows(list(absent)):
        reading.rows += 1
        if isinstance(row, Unreadable):
            unreadable.append({"image_id": "", "where": where, "reason": str(row)})
            reading.skipped.append(unreadable[-1])
            continue
        if absent:
            there |= dict.fromkeys(row)
            absent = {column: None for column in absent if column not in row}
        taker.take(row, where)
        if source.limit and len(reading.products) >= source.limit:
            del reading.products[source.limit :]
            break
    taker.finish()
    _check_readable(unreadable, len(reading.products) + len(reading.skipped), source)
    if there:
        require(list(absent), list(there), str(source.table), source.hint(list(there)))
    reading.spelled, reading.ambiguous, reading.addresses = taker.folder.spelled, taker.folder.ambiguous, taker.folder.addresses
    reading.searched = _searched(reading.absent, taker.folder)
    _fill_splits(reading)
    _check_groups(reading.products, str(source.table), taker.seen)
    if not reading.products:
        reasons = f" ({'; '.join(account(reading.skipped))})" if reading.skipped else ""
        raise UserError(f"no usable row{reasons}", str(source.table), "at least one row with id, picture and text")
    return reading


def _searched(absent: Sequence[SkippedRow], folder: PictureFolder) -> str:
    """Returns where pictures that are not there were looked for, "" where all are there or there are several of a name."""
    names = [row["reason"].partition("; ")[2] for row in absent if row["reason"].startswith(pictures.ABSENT)]
    if not names:
        return ""
    shown = ", ".join(repr(name if len(name) <= LONG else f"{name[:LONG]}...") for name in names[:SHOWN])
    return (f"pictures were looked for in {folder.describe()}; not there: {shown}{', ...' if len(names) > SHOWN else ''}; "
            "source.images names their folder")


def account(skipped: Sequence[SkippedRow]) -> list[str]:
    """Returns a line per reason, the most frequent first: the reason, its count and the first positions."""
    return [f"{reason} x {len(where):,}: {positions(where)}" for reason, where in tally(skipped).items()]


def tally(skipped: Sequence[SkippedRow]) -> dict[str, list[str]]:
    """Returns {reason: where the rows with it are}, the most frequent first."""
    result: dict[str, list[str]] = {}
    for row in skipped:
        result.setdefault(_reason(row), []).append(row["where"])
    return dict(sorted(result.items(), key=lambda item: -len(item[1])))


def positions(where: Sequence[str]) -> str:
    """Returns the first positions, with the file named once."""
    file = where[0].rpartition(", ")[0]
    shown = [where[0], *(position.removeprefix(f"{file}, ") if file else position for position in where[1:SHOWN])]
    return ", ".join([*shown, "..."] if len(where) > SHOWN else shown)


def _reason(row: SkippedRow) -> str:
    """Returns the reason of a row without names, values and advice, by which rows are counted together."""
    reason = row["reason"].removeprefix(f"{row['where']}: ")
    named = QUOTED.sub(lambda match: "\0" * len(match[0]), reason)  # a name of a column may hold all that ends a reason
    return reason[: len(ADVICE.split(named, maxsplit=1)[0])]


def _check_readable(unreadable: Sequence[SkippedRow], rows: int, source: Source) -> None:
    if len(unreadable) > 1 and len(unreadable) > UNREADABLE * rows:
        how = "; ".join(source.resolved()[1])
        raise UserError(f"{len(unreadable):,} of {rows:,} lines cannot be read ({'; '.join(account(unreadable)[:SHOWN])})",
                        str(source.table), f"a table{f' ({how})' if how else ''}",
                        "export it again, or set source.format and source.separator to what it is")


def _check_groups(products: list[Product], where: str, seen: Mapping[str, str]) -> None:
    """Raises UserError where a group is in two splits or a product in two groups: training products would leak into the evaluation.
    seen: {image_id: where it stands}."""
    splits: dict[str, Product] = {}
    groups: dict[str, Product] = {}
    for product in products:
        first = splits.setdefault(product.group, product)
        if first.split != product.split:
            raise UserError(f"the group {product.group!r} is in {first.split!r} ({first.image_id}) and in {product.split!r} "
                            f"({product.image_id}): {positions([seen[first.image_id], seen[product.image_id]])}", where,
                            "all pictures of a group in one split", "correct the split column")
        first = groups.setdefault(product.product_id, product)
        if first.group != product.group:
            raise UserError(f"the product {product.product_id!r} is in the groups {first.group!r} and {product.group!r}: "
                            f"{positions([seen[first.image_id], seen[product.image_id]])}", where, "one group per product",
                            "correct the group column")


def _fill_splits(reading: Reading) -> None:
    """Moves the group whose draw is nearest into a split that the draw left empty, where there are two groups and no column of splits."""
    if reading.source.columns.split or not 0 < reading.source.val_fraction < 1:
        return
    draws = {product.group: _draw(product.group) for product in reading.products}
    splits = {product.split for product in reading.products}
    if len(draws) < 2 or len(splits) == 2:
        return
    lacking, nearest = ("val", min(draws, key=draws.__getitem__)) if splits == {"train"} else ("train", max(draws, key=draws.__getitem__))
    reading.products[:] = [replace(product, split=lacking) if product.group == nearest else product for product in reading.products]


def joined_groups(path: Path) -> dict[str, str]:
    """Returns {group: the group that it belongs to} of a JSON file; raises UserError where it holds anything else."""
    result = io.read_json(path)
    if not isinstance(result, dict) or not all(isinstance(group, str) for group in result.values()):
        raise UserError("holds no groups", str(path), 'JSON such as {"group": "the group that it belongs to"}', "correct source.groups")
    return result


def read_mask(path: str | Path) -> np.ndarray:
    """Returns a foreground mask, bool[h, w]: True where the picture file is brighter than half."""
    return read_image(path)[..., 0] > 127


def split_of(group: str, val_fraction: float) -> str:
    """Returns "val" for the given fraction of all groups, else "train": a fixed function of the group's name."""
    return "val" if _draw(group) < val_fraction else "train"


def _draw(group: str) -> float:
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "big") / 2**64


def jsonl_rows(table: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yields (line number, row) of a file with one JSON object per line; raises UserError that names a line that is none."""
    with open(table, encoding="utf-8") as file:
        for number, row, fault in table_text.objects(file):
            if fault:
                raise UserError(f"line {number}: {fault}", str(table), "an object with the columns as keys")
            yield number, row


class _Taker:
    """Makes products of rows, one after the other: what a row means depends on those before it where a product has several."""

    def __init__(self, reading: Reading, needs_text: bool = True):
        self.reading, self.source, self.columns = reading, reading.source, reading.source.columns
        self._needs_text = needs_text
        self.folder = PictureFolder(self.source.picture_folder)
        self._words = {word.strip().casefold() for word in self.source.empty_words}
        self._cells = [column for column in mapped(self.columns) if column != self.columns.parts]
        self._names: Counter[str] = Counter()  # of pictures in cells that are ids
        self._patterns = {label: _pattern(label, pattern) for label, pattern in self.source.patterns.items()}
        self._named = {self.columns.image, *self.columns.more_images}
        self._listed = {*self.columns.text, *self.columns.labels.values(), *self.columns.variants}
        self._prose = {*self.columns.text, *self.columns.labels.values()} if self.source.strips_markup else set()
        self.seen: dict[str, str] = {}  # {image_id: where it stands}
        self._views: dict[str, Product] = {}  # the first view of every product, where all have to agree
        self._firsts: dict[str, _First] = {}
        self._joined = joined_groups(self.source.groups) if self.source.groups else {}
        self._parents: dict[str, str] = {}  # {id: the id of the product, or name of the group, of which it is a variant}
        self._variants: list[tuple[str, str]] = []  # (parent, variant) as the columns of variants have them
        self._bare: list[tuple[str, SkippedRow]] = []  # (id, its entry) of every product without a picture, which may be a variant

    def take(self, row: Mapping[str, Any], where: str) -> None:
        """Adds the products of a row, or the reason why there are none, to the reading."""
        try:
            texts = self._texts(row)
            names = self._pictures(row, texts)
            parts = _parts(row.get(self.columns.parts), self.columns.parts, where) if self.columns.parts else ()
        except UserError as error:
            self._skip("", where, str(error).removeprefix(f"{where}: "))
            return
        self._note_family(texts)
        base = "-".join(filter(None, (texts.get(column, "") for column in self.columns.view)))
        first = self._firsts.get(texts.get(self.columns.id, "")) if self.source.is_export else None
        continues = first is not None and self._inherit(texts, first)
        if first is not None and (continues or first.pictures and not names):
            new = [name for name in names if name not in first.pictures]
            if not new:
                self.reading.views["rows that name a picture of their product again" if names else
                                   "rows without a picture, of a product that stands above"] += 1
                return
            names = new
        if len(names) > 1:
            self.reading.views["rows with several pictures, which become views of their product"] += 1
        count = len(first.pictures) if first is not None and continues else 0
        for number, name in enumerate(names or [""], count + 1):
            view = base if number == count + 1 and (base or not count) else "-".join(filter(None, (base, str(number))))
            self._add(self._product(texts, name, view, parts), where)
        self._remember(texts, names, first if continues else None)

    def finish(self) -> None:
        """Joins the groups of products and their variants; gives variants the labels that they lack of their parent, which may stand below.
        Variants without a picture, which shops show with that of the parent, are no fault."""
        if not self.source.is_export:
            return
        self._join_families()
        parents = {product.product_id: self._firsts.get(product.product_id) for product in self.reading.products}
        for number, product in enumerate(self.reading.products):
            parent = parents.get(self._parents.get(product.product_id, ""))
            if parent is not None and not all(product.labels.values()):
                labels = {name: value or self._label(name, parent.texts[column])
                          for (name, column), value in zip(self.columns.labels.items(), product.labels.values())}
                self.reading.products[number] = replace(product, labels=labels)
        harmless = {}
        for product_id, row in self._bare:
            if product_id in parents:  # the first picture of a product stands in a row that goes on with it
                harmless[id(row)] = "rows without a picture, of a product that has one below"
            elif self._parents.get(product_id) in parents:
                harmless[id(row)] = "variants without a picture, of a product that has one"
        self.reading.views.update(harmless.values())
        self.reading.skipped[:] = [row for row in self.reading.skipped if id(row) not in harmless]

    def _note_family(self, texts: Mapping[str, str]) -> None:
        """Notes of which product a row is a variant, and which are variants of it."""
        own, parent = texts.get(self.columns.id, ""), texts.get(self.columns.group, "")
        for text in (texts[column] for column in self.columns.variants if texts[column]):
            if "=" in text:  # attributes, among which there are ids
                variants, above = VARIANT.findall(text), PARENT.search(text)
                self._variants += [(above[1].strip(), own)] if above and own else []
                parent = parent or (above[1].strip() if above else "")
            else:
                variants = re.split(r"[,|;]", text)
            for name in filter(None, map(str.strip, variants)):
                if own and name != own:
                    self._variants.append((own, name))
                    self._parents.setdefault(name, own)
        if own and parent and parent != own:
            self._parents.setdefault(own, parent)

    def _join_families(self) -> None:
        """Puts a product and its variants, those of several products, too, into one group."""
        group_of = {product.product_id: product.group for product in self.reading.products} if self._variants else {}
        names = [group_of.get(name) or self._joined.get(name, name) for pair in self._variants for name in pair]
        joined = near_duplicates.joined(names, ((number, number + 1) for number in range(0, len(names), 2)))
        for number, product in enumerate(self.reading.products if joined else ()):
            if group := joined.get(product.group):
                split = product.split if self.columns.split else split_of(group, self.source.val_fraction)
                self.reading.products[number] = replace(product, group=group, split=split)

    def _add(self, product: Product, where: str) -> None:
        reason = _fault(product, self.seen, self.columns, self._needs_text)
        if not reason and self.source.views_share_text:
            reason = _contradiction(product, self._views.setdefault(product.product_id, product))
        if reason:
            self._skip(product.image_id, where, reason)
            if product.product_id and not product.image_path:
                self._bare.append((product.product_id, self.reading.skipped[-1]))
            return
        self.seen[product.image_id] = where
        if self.source.is_export:
            match = self.folder.find(product.image_path)
            self.reading.embedded += isinstance(product.image_path, Embedded)
            product = replace(product, image_path=match.path, load_image=partial(read_image, match.path))
            if match.fault:
                self.reading.absent.append({"image_id": product.image_id, "where": where, "reason": match.fault})
        self.reading.products.append(product)

    def _skip(self, image_id: str, where: str, reason: str) -> None:
        self.reading.skipped.append({"image_id": image_id, "where": where, "reason": reason})

    def _texts(self, row: Mapping[str, Any]) -> dict[str, str]:
        """Returns {column: its text}, without markup and words that stand for nothing, both of which are counted. Raises UserError where a
        cell is no text."""
        texts = {column: self._cell(row.get(column), column) for column in self._cells}
        for column, text in texts.items():
            if column in self._prose and (plain := markup.plain(text)) != text:
                self.reading.markup[column] += 1
                text = texts[column] = plain
            if text.casefold() in self._words or _is_no_number(row.get(column)):
                self.reading.missing[column, text] += 1
                texts[column] = ""
        rounded = next((texts[column] for column in (self.columns.id, self.columns.group) if ROUNDED.fullmatch(texts.get(column, ""))), "")
        self.reading.rounded += [rounded] if rounded else []
        return texts

    def _cell(self, value: Any, column: str) -> str:
        """Returns a cell as a text; texts and labels may be lists, as the tags of a product are. Raises UserError where it is no text."""
        if isinstance(value, Embedded):
            return self._name_of(value, column)
        if not isinstance(value, (list, tuple, dict, bytes)):
            return _text(value)
        if column in self._named and column != self.columns.id:
            return "pictures" if value else ""
        if isinstance(value, bytes):
            try:
                return _text(value.decode())
            except UnicodeDecodeError:
                raise UserError(f"column {column!r} holds bytes and no text") from None
        if isinstance(value, dict) or column not in self._listed or any(isinstance(item, (list, dict, bytes)) for item in value):
            raise UserError(f"column {column!r} holds {'an object' if isinstance(value, dict) else 'a list'} and no text")
        return ", ".join(filter(None, map(_text, value)))

    def _name_of(self, picture: Embedded, column: str) -> str:
        """Returns the name of a picture in a cell; as an id one that no picture above has: names repeat where they were in folders."""
        if column == self.columns.mask:
            return str(picture)
        if column not in self._named:
            raise UserError(f"column {column!r} holds bytes and no text")
        if column != self.columns.id:
            return picture.name
        self._names[picture.name] += 1
        return picture.name if self._names[picture.name] == 1 else f"{picture.name}-{self._names[picture.name]}"

    def _pictures(self, row: Mapping[str, Any], texts: Mapping[str, str]) -> list[str]:
        """Returns the names of a row's pictures, each once."""
        if picture_columns(self.columns):
            result = list(filter(None, [filled(self.columns.image, texts)]))
        elif not self.source.is_export:
            return [texts[self.columns.image]] if texts.get(self.columns.image) else []
        else:
            result = pictures.split(row[self.columns.image], self.source.picture_separator) if texts.get(self.columns.image) else []
        for column in self.columns.more_images:
            result += pictures.split(row[column], self.source.picture_separator) if texts.get(column) else []
        return list(dict.fromkeys(result))

    def _inherit(self, texts: dict[str, str], first: "_First") -> bool:
        """Fills empty labels, group and split of a row from the first row of its product; where it has no text, this too. Returns whether
        it has none: such a row continues the one above."""
        continues = bool(self.columns.text) and not any(texts[column] for column in self.columns.text)
        own = [self.columns.group, self.columns.split, *self.columns.labels.values(), *(self.columns.text if continues else ())]
        texts.update({column: first.texts[column] for column in own if column and not texts[column]})
        return continues

    def _label(self, name: str, text: str) -> str:
        """Returns what of a cell is the label: the group of its pattern; all of it where there is none, or where it does not fit."""
        match = self._patterns[name].search(text) if name in self._patterns else None
        label = match[match.lastindex].strip() if match and match.lastindex else text
        if label != text:
            self.reading.shortened.setdefault(name, {})[text] = label
        return label

    def _remember(self, texts: Mapping[str, str], names: Sequence[str], first: "_First | None") -> None:
        product_id = texts.get(self.columns.id, "")
        if first is not None:
            first.pictures.update(dict.fromkeys(names))
        elif self.source.is_export and product_id and not ROUNDED.fullmatch(product_id):
            self._firsts.setdefault(product_id, _First(dict(texts), {})).pictures.update(dict.fromkeys(names))

    def _split(self, name: str) -> str:
        """Returns train or val for another spelling of it, which is counted."""
        split = SPELLINGS.get(name.casefold(), name)
        if split != name:
            self.reading.spellings[name, split] += 1
        return split

    def _product(self, texts: Mapping[str, str], picture: str, view: str, parts: tuple[Part, ...]) -> Product:
        columns, folder, product_id = self.columns, self.source.picture_folder, texts.get(self.columns.id, "")
        group, mask = texts.get(columns.group) or product_id, texts.get(columns.mask, "")
        mask = mask if not mask or arrow_tables.table_of(mask) else str(folder / mask)
        group = self._joined.get(group, group)
        pieces = [piece for piece in (texts.get(column, "") for column in columns.text) if piece]
        return Product(
            product_id=product_id,
            group=group,
            view=view,
            split=self._split(texts[columns.split]) if columns.split else split_of(group, self.source.val_fraction),
            image_id=f"{product_id}/{view}" if view else product_id,
            image_path=picture if self.source.is_export or not picture else str(folder / picture),
            text=self.source.text_separator.join([piece.rstrip(". ") for piece in pieces[:-1]] + pieces[-1:]),
            labels={name: self._label(name, texts.get(column, "")) for name, column in columns.labels.items()},
            load_image=partial(read_image, folder / picture),
            load_mask=partial(read_mask, mask) if mask else None,
            mask_path=mask,
            parts=parts,
        )


class _First(NamedTuple):
    """The cells of the first row of a product, and the names of all its pictures so far."""

    texts: dict[str, str]
    pictures: dict[str, None]


def _pattern(label: str, pattern: str) -> re.Pattern:
    try:
        result = re.compile(pattern)
    except re.error as error:
        raise UserError(f"source.label_patterns has no regular expression for {label!r} ({error})", pattern) from None
    if not result.groups:
        raise UserError(f"the regular expression for {label!r} in source.label_patterns has no group", pattern, "such as ([^,]+)$")
    return result


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


def _fault(product: Product, seen: Mapping[str, str], columns: Columns, needs_text: bool) -> str:
    if not product.product_id:
        return f"no id in column {columns.id!r}"
    if not product.image_path:
        return f"no picture in column {columns.image!r}"
    if not product.split:
        return f"no split in column {columns.split!r}"
    if product.image_id in seen:
        rounded = f" ({BY_SPREADSHEET} to {product.product_id})" if ROUNDED.fullmatch(product.product_id) else ""
        return f"{REPEATED}, in {seen[product.image_id]}{rounded}; pictures of one product are told apart by columns.view"
    if needs_text and not product.text:
        return f"no text in {', '.join(repr(column) for column in columns.text)}"
    return ""


def _text(value: Any) -> str:
    """Returns a value with single blanks; of a number without a fraction its whole one: an id of 1000.0 is 1000."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
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
    names = (columns.id, *(picture_columns(columns) or [columns.image]), *columns.text, columns.group, *columns.view, columns.split,
             columns.mask, columns.parts, *columns.labels.values(), *columns.more_images, *columns.variants)
    return dict.fromkeys(name for name in names if name)


def picture_columns(columns: Columns) -> list[str]:
    """Returns the columns of which the name of a picture is made, as in images/{id}.jpg; none where a column holds it."""
    return TEMPLATE.findall(columns.image)


def require(columns: Sequence[str], there: Sequence[str], where: str, hint: str = "") -> None:
    """Raises UserError where a mapped column is missing or stands twice. hint: how a missing one is mended."""
    for column in columns:
        numbers = table_text.positions(column, there)
        if len(numbers) > 1:
            raise UserError(f"the columns {' and '.join(map(str, numbers))} are both called {column!r}" if len(numbers) == 2 else
                            f"the columns {', '.join(map(str, numbers))} are all called {column!r}", where,
                            "one column of every name in source.columns", "rename or remove the others")
        if not numbers:
            missing = [name for name in columns if name not in there]
            others = f", nor {', '.join(map(repr, missing[1:]))}" if missing[1:] else ""
            near = [close for name in missing if (close := _near(name, there))]
            raise UserError(f"there is no column {column!r}{others}", where,
                            f"one of {', '.join(filter(None, there)) or 'the columns of a table'}",
                            hint or (f"did you mean {', '.join(map(repr, near))}?" if near else "correct source.columns"))


def _near(name: str, there: Sequence[str]) -> str:
    """Returns the column whose name is most like another, in capitals or not; "" where none is."""
    names = {column.casefold(): column for column in reversed(there)}
    return next((names[near] for near in difflib.get_close_matches(name.casefold(), names, 1, 0.5)), "")
