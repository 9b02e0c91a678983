"""A catalogue as a table, as shops and programs export it, beside a folder of pictures; or a folder of pictures per class."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from kaleidobert.configs import Columns, Source
from kaleidobert.configs.data import MISSING, Download
from kaleidobert.configs.section import check_name, key
from kaleidobert.datasets.sources import formats, pictures, presets
from kaleidobert.datasets.sources.reading import Unreadable, mapped, picture_columns, require
from kaleidobert.errors import UserError

NONE = Columns("", "", ())
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "val"}  # folders of a split
METADATA = (".csv", ".jsonl", ".parquet")  # of metadata.*, by which Hugging Face's ImageFolder describes the pictures beside it
TABLES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".parquet", ".arrow", ".feather", ".xlsx", ".xml", ".gz")


@dataclass(frozen=True)
class TableSource(Source):
    """A table (CSV, JSON, XML, Parquet, Arrow, Excel) of products and their pictures, or a folder per class."""

    columns: Columns = key(NONE, "which column holds what; what is not named is the preset's; empty = the catalogue has no such column")
    kind: str = key("table", "a table of products, or a folder per class")
    preset: str = key("", "layout of the table, such as shopify (docs/own-catalogue.md); empty = recognised by its columns; none = none")
    format: str = key("", "csv, jsonl, json, xml, parquet, arrow or excel; empty = found by the content")
    separator: str = key("", "of CSV: comma, semicolon, tab, bar or a character; empty = found")
    encoding: str = key("", "encoding of the text, such as cp1252; empty = UTF-8 or UTF-16, found by the first bytes")
    sheet: str = key("", "of a workbook: the name of its sheet; empty = the one whose header has most of the columns")
    image_separator: str = key("", "what is between several pictures of a cell; empty = found: a line break, | ; or ,")
    label_patterns: dict[str, str] = key({}, "what of a cell is the label: {label: regular expression with a group}; empty = the preset's")
    strip_html: bool = key(True, "take tags and entities out of texts and labels")
    missing: tuple[str, ...] = key(MISSING, "cells that count as empty, in capitals or not; [] = only empty cells")
    download: Download = key(Download(), "how pictures at addresses are fetched")

    is_export: ClassVar[bool] = True

    def resolved(self) -> tuple[Source, list[str]]:
        """Returns the source with format, preset and columns set, and lines that say which were found. Raises UserError where there is no
        such table, it is none, or its columns are not known."""
        if self.preset in presets.OWN_SOURCES:
            kind = presets.OWN_SOURCES[self.preset]
            raise UserError(f"source.preset is {self.preset!r}, which is no layout of a table", "source", "a source of its own",
                            f"set source.kind={kind}, as configs/{kind}.yaml does")
        if self.preset not in ("", presets.NO_PRESET):
            check_name(self.preset, presets.PRESETS, "source.preset")
        if self.table.is_dir() and not self.is_data_set():
            return self._of_folder()
        if not self.table.exists():
            raise UserError("there is no such table", str(self.table), "a table of products (.csv, .txt, .json, .parquet, .xlsx, ...), or "
                            "a folder per class", "set source.table")
        layout = self._layout()
        header = formats.header(self.table, layout)
        if layout.format in formats.JSON_FORMATS:
            formats.check_object(self.table, layout, list(mapped(self.columns)))
        preset = self.preset or presets.recognise(header)
        found, columns = [layout.describe()], self.columns
        if preset not in ("", presets.NO_PRESET):
            columns = self._of_preset(preset, header, found)
            preset = preset if self.preset or len(found) > 1 and not self._is_mapped() else presets.NO_PRESET
        elif not self._is_mapped():
            raise UserError("source.columns does not say which columns hold id and image, and the layout is not one that is known",
                            str(self.table), f"columns out of {', '.join(header)}, or a preset: {', '.join(presets.PRESETS)}",
                            formats.hint(self.table, layout, ()) or "set source.columns")
        own = presets.PRESETS[preset].patterns if preset in presets.PRESETS else {}
        patterns = {label: pattern for label, pattern in own.items() if label in columns.labels and label not in self.columns.labels}
        return replace(self, columns=columns, label_patterns=patterns | self.label_patterns, preset=preset or presets.NO_PRESET,
                       format=layout.format, separator=layout.separator, encoding=layout.encoding, sheet=layout.sheet), found

    def is_data_set(self) -> bool:
        """Whether the table is a folder of Parquet or Arrow files, and no ImageFolder that has its metadata so."""
        return (self.table.is_dir() and self.preset != presets.FOLDERS
                and any(path.stem != "metadata" for path in formats.files(self.table)))

    def _of_folder(self) -> tuple[Source, list[str]]:
        """Returns the same of a table that is a folder: of the metadata of its pictures, of a data set, or of a folder per class."""
        if self.preset != presets.FOLDERS:
            beside, *below = [sorted(self.table.glob(f"{start}metadata.*")) for start in ("", "*/")]
            tables = [path for path in beside if path.suffix in METADATA]
            if tables:
                return replace(self, table=tables[0]).resolved()
            deeper = [str(path) for path in below[0] if path.suffix in METADATA]
            if deeper:
                raise UserError(f"this folder has tables of its own: {', '.join(deeper)}", str(self.table), "one table",
                                "set source.table to one of them, or join them; source.preset=folders reads the pictures without them")
        sets = [path.name for path in sorted(self.table.glob("*/")) if path.is_dir() and formats.files(path)]
        rows = (row for _, row in _classes(self.table))
        first = next(rows, {})
        if not first and sets:
            raise UserError(f"this folder has several data sets: {', '.join(sets)}", str(self.table), "one of them",
                            f"set source.table={self.table / sets[0]}")
        if not first:
            tables = [path for path in sorted(self.table.glob("*")) if path.suffix.lower() in TABLES and path.name != "state.json"]
            raise UserError("this folder has no pictures", str(self.table), "a table, or a folder of pictures for each class",
                            f"name the table inside, such as {tables[0]}" if tables else "set source.table")
        if not first["class"] and not any(row["class"] for row in rows):
            raise UserError("the pictures lie in the folder itself", str(self.table), "a folder of pictures for each class, or a table "
                            "that names them", "put them into folders, such as shoes/1.jpg, or set source.table to their table")
        columns = presets.completed(self.columns, presets.columns_of(presets.FOLDERS, list(first)))
        hint = "" if self.preset else "this is a folder per class: set source.preset=folders"
        require(list(mapped(columns)), list(first), str(self.table), hint)
        left = ", ".join(f"{ending} x {count:,}" for ending, count in pictures.others(self.table).most_common())
        return replace(self, preset=presets.FOLDERS, columns=columns), [
            f"a folder per class ({self.table})", *([f"files that are no pictures by their ending: {left}"] if left else [])]

    def _is_mapped(self) -> bool:
        """Whether the columns that every table has are given."""
        return bool(self.columns.id and self.columns.image)

    def _of_preset(self, preset: str, header: Sequence[str], found: list[str]) -> Columns:
        """Returns the columns, completed by those of a preset; adds to the lines. Where columns are named without a preset, only further
        columns of pictures are taken."""
        columns, known = self.columns, presets.columns_of(preset, header)
        title = presets.PRESETS[preset].title
        if self.preset or not self._is_mapped():
            columns = presets.completed(columns, known)
            if not self.columns.image and picture_columns(columns) and not (self.picture_folder / columns.image).parent.is_dir():
                # the files may lie in another folder
                columns = replace(columns, image=self.template(columns.id) or f"images/{{{columns.id}}}.jpg")
            labels = "" if self.columns.labels else ", ".join(f"{label} = {name!r}" for label, name in known.labels.items())
            used = f"id = {columns.id!r}, image = {columns.image!r}, text = {' + '.join(map(repr, columns.text))}"
            found.append(f"{'read as' if self.preset else 'this looks like'} {title} (source.preset={preset}): "
                         f"{', '.join(filter(None, (used, labels)))}")
        elif known.more_images and columns.image == known.image and not columns.more_images:
            columns = replace(columns, more_images=known.more_images)
            found.append(f"this looks like {title}: the pictures of {', '.join(map(repr, known.more_images))} are views, too "
                         "(source.preset=none leaves them out)")
        if not all((columns.id, columns.image, columns.text)):
            raise UserError(f"this is not {title}: it has no column for "
                            f"{', '.join(name for name in ('id', 'image', 'text') if not getattr(columns, name))}", str(self.table),
                            f"columns out of {', '.join(header)}", "set source.columns, or another source.preset")
        return columns

    def rows(self, wanted: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any] | Unreadable]]:
        """Yields ("file, line", row) of every row; a row maps column names to cells."""
        if self.preset == presets.FOLDERS:
            yield from _classes(self.table)
            return
        if not self.table.exists():
            raise UserError("there is no such table", str(self.table), "a table of products", "set source.table")
        keys = [column for column in (self.columns.id, self.columns.image) if not presets.TEMPLATE.search(column)]

        def check(header: Sequence[str]) -> None:
            self._check(wanted, header)

        layout = self._layout()
        header = formats.header(self.table, layout)
        if layout.format in formats.KEYED_FORMATS and keys and header and not set(keys) & set(header):  # a few rows may lack some
            check(header)
        substitute = presets.substitute_of(self.preset, header)
        needed = [*wanted, *presets.TEMPLATE.findall(substitute)]
        is_carried = self.preset in presets.PRESETS and presets.PRESETS[self.preset].is_carried
        above = ""
        for position, row in formats.rows(self.table, layout, keys, needed, check):
            fault = row if isinstance(row, str) else self._torn(row, keys) if layout.format == "csv" else ""
            if substitute and isinstance(row, Mapping) and not str(row.get(self.columns.id) or "").strip():
                row = {**row, self.columns.id: presets.filled(substitute, row)}
            if is_carried and isinstance(row, Mapping):
                goes_on = not any(map(row.get, (self.columns.id, *self.columns.text)))
                row = {**row, self.columns.id: above} if goes_on else row
                above = row.get(self.columns.id, "")
            yield f"{self.table.name}, {position}", row if isinstance(row, Mapping) and not fault else Unreadable(fault)

    def _torn(self, row: Mapping[str, Any], keys: Sequence[str]) -> str:
        """Returns why a row may be two, "" where it is not: an id or a picture of several lines that is no list of pictures."""
        return next((f"a line break in column {column!r}: is a quote not closed?" for column in keys
                     if len(row.get(column, "").splitlines()) > 1
                     and not (column == self.columns.image and len(pictures.split(row[column])) > 1)), "")

    def _layout(self) -> formats.Layout:
        if self.format:
            check_name(self.format, formats.FORMATS, "source.format")
        given = formats.Layout(self.format, self.separator, self.encoding, sheet=self.sheet)
        return formats.find(self.table, list(mapped(self.columns)), given)

    def _check(self, wanted: Sequence[str], header: Sequence[str]) -> None:
        """Raises UserError where a wanted column is missing or stands twice; says how a picture's name is made of others, which preset
        a header looks like, and how the header may be found."""
        columns = self.columns
        hint = "" if set(wanted) <= set(header) else formats.hint(self.table, self._layout(), wanted)
        if any(map(pictures.ENDING.search, header)) and not set(wanted) & set(header):
            hint = "the first line seems to be a product: put a line with the names of the columns above it"
        if not hint and (named := self.hint(header)):
            raise UserError(f"there is no column {columns.image!r}", str(self.table), f"one of {', '.join(header)}", named)
        preset = presets.recognise(header)
        if not hint and preset and preset != self.preset:
            hint = f"this looks like {presets.PRESETS[preset].title}: set source.preset={preset}"
        require(wanted, header, str(self.table), hint)

    def hint(self, header: Sequence[str]) -> str:
        """Returns how the name of a picture follows from others, where no column holds it."""
        columns = self.columns
        if columns.image in header or columns.id not in header or picture_columns(columns):
            return ""
        template = self.template(columns.id) or f"images/{{{columns.id}}}.jpg"
        return f"where the picture is named after other columns, say so: image: {template!r}"

    def template(self, column: str) -> str:
        """Returns how the names of pictures follow from a column of ids, by the files that are there; "" where none do."""
        rows = formats.rows(self.table, self._layout(), (), [column], lambda header: None)
        ids = [str(row[column]) for _, row in islice(rows, 20) if isinstance(row, Mapping) and row.get(column)]
        return pictures.PictureFolder(self.picture_folder).like(ids).replace("{}", f"{{{column}}}")

    @property
    def empty_words(self) -> tuple[str, ...]:
        return self.missing

    @property
    def patterns(self) -> dict[str, str]:
        return self.label_patterns

    @property
    def strips_markup(self) -> bool:
        return self.strip_html

    @property
    def picture_separator(self) -> str:
        return self.image_separator

    @property
    def picture_folder(self) -> Path:
        return self.images or (self.table if self.preset == presets.FOLDERS else self.table.parent)


def _classes(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields (path, row) of every picture in a folder per class; folders train, val, test above them are the split."""
    files = list(pictures.walk(folder))
    tops = {path.split("/")[0].lower() for path in files}
    splits = {SPLITS.get(top, "") for top in tops}
    below = "" not in splits and (len(splits) > 1 or all(path.count("/") > 1 for path in files))
    names = Counter(path.rpartition(".")[0] for path in files)
    for path in files:
        *folders, _ = path.split("/")
        name = path.rpartition(".")[0]
        row = {"id": path if names[name] > 1 else name, "image": path}
        split = SPLITS[folders.pop(0).lower()] if below else ""
        if len(splits) > 1 and below:  # one alone tells nothing apart
            row["split"] = split
        row["class"] = folders[0] if folders else ""
        row["text"] = " ".join(" ".join(folders).replace("_", " ").replace("-", " ").split())
        yield path, row
