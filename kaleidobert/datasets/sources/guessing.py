"""Which column of an unknown table holds what, guessed from names and cells: a proposal that people see before it is used (ours)."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from kaleidobert.configs import Columns
from kaleidobert.datasets import arrow_tables
from kaleidobert.datasets.sources.pictures import ADDRESS, ENDING, split
from kaleidobert.datasets.sources.reading import SPELLINGS

NAMES = {  # words of a column's name that say what it holds, the likeliest first; a name is split at case, blanks and signs
    "id": ("sku", "asin", "handle", "id", "code", "reference", "ref", "nr", "number", "article", "artikel", "key"),
    "image": ("image", "picture", "photo", "img", "bild", "foto", "file", "filename", "path", "src", "url", "link"),
    "text": ("title", "name", "titel", "titre", "nom", "nombre", "bezeichnung", "caption", "description", "text", "body", "details",
             "beschreibung", "descripcion", "features", "bullet", "summary"),
    "group": ("group", "parent", "style", "model", "family"),
    "view": ("view", "angle", "position", "pose"),
    "split": ("split", "subset", "partition", "fold", "set"),
}
MAX_CLASSES = 200
SHOWN_CELLS = 6
ROWS_PER_CLASS = 3  # of a label, on average
LETTERS = 40  # of a class, on average: longer cells are lists of attributes
FAULTS = 0.02  # fraction of the pictures up to which an id that stands twice is a fault, and no sign of views
NUMBER = re.compile(r"[-+]?[\d.,\s]*\d[\d.,\s]*%?|[-+]?[\d.,]+\s?(?:[$€£¥]|eur|usd|gbp|kg|g|cm|mm)|[$€£¥]\s?[\d.,]+", re.IGNORECASE)
FLAGS = {"true", "false", "yes", "no", "y", "n", "0", "1", "ja", "nein"}


@dataclass(frozen=True)
class Column:
    """What a look at the cells of a column says. filled: the fraction that is not empty; distinct: of the filled ones, relative to them;
    words, letters: of a cell, on average; classes: different cells; pictures, numbers, flags, splits: fractions of the filled cells that
    name or are such."""

    name: str
    filled: float
    distinct: float
    classes: int
    words: float
    letters: float
    pictures: float
    numbers: float
    flags: float


@dataclass(frozen=True)
class Guess:
    """columns: the proposal; reasons: {key of Columns: why, for people}; lacks: what no column was found for, of id, image and text;
    notes: of columns that are not what their names say."""

    columns: Columns
    reasons: Mapping[str, str] = field(default_factory=dict)
    lacks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def split_columns(header: Sequence[str]) -> list[str]:
    """Returns the columns whose names say that they hold splits."""
    return [name for name in dict.fromkeys(header) if _rank(name, "split")]


def guess(header: Sequence[str], rows: Sequence[Mapping[str, object]], template: str = "",
          splits: Mapping[str, Collection[str]] | None = None) -> Guess:
    """Returns what the columns of a table hold, by its first rows. template: how pictures follow from the column of ids, where one does.
    splits: {one of split_columns: its cells in the whole table, which may begin with all of train}; None = as in these rows.

    Labels get the names of their columns.
    """
    looks = {name: _look(name, rows) for name in dict.fromkeys(header)}
    free, reasons = dict(looks), {}
    splits = {name: cells_of(name, rows) for name in split_columns(header)} if splits is None else splits

    def take(key: str, column: Column | None, why: str) -> str:
        if column is None:
            return ""
        free.pop(column.name)
        reasons[key] = why
        return column.name

    split = take("split", _best(free, "split", lambda c: _are_splits(splits.get(c.name, ()))), "its cells name splits")
    odd = [] if split else [name for name in splits if _rank(name, "split") > 1]  # a "set" may be one of pans
    for name in odd:
        free.pop(name, None)
    picture = _best(free, "image", lambda c: c.pictures >= 0.5)
    image = take("image", picture, f"{picture.pictures:.0%} of its cells name pictures" if picture else "")
    own = _best(free, "id", lambda c: c.filled >= 0.9 and c.pictures < 0.5 and c.words < 1.5 and bool(_rank(c.name, "id"))) or \
        _best(free, "id", lambda c: c.filled == 1 and c.distinct == 1 and c.words < 1.5 and c.pictures < 0.5)
    name = take("id", own, f"{own.distinct:.0%} of its cells are different" if own else "")
    if not name and image:
        name, reasons["id"] = image, "no column of ids; the picture's name is one"
    if not image and template:
        image, reasons["image"] = template, "pictures are named like this"
    group = take("group", _best(free, "group", lambda c: c.filled > 0.5 and c.distinct < 1 and bool(_rank(c.name, "group"))),
                 "its name, and that rows share it")
    view = take("view", _best(free, "view", lambda c: c.filled == 1 and bool(_rank(c.name, "view"))), "its name")
    texts = _texts(free)
    for column in texts:
        free.pop(column.name)
    if texts:
        reasons["text"] = f"{', '.join(f'{column.words:.1f}' for column in texts)} words a cell"
    labels = {column.name: column.name for column in free.values() if _is_label(column, len(rows))}
    if labels:
        reasons["labels"] = ", ".join(f"{free[label].classes} classes" for label in labels)
    views = _views(rows, name, image, view, [column.name for column in free.values() if column.classes <= MAX_CLASSES])
    if views and views != ((view,) if view else ()):
        reasons["view"] = "tells the pictures of one product apart"
    columns = Columns(name, image, tuple(column.name for column in texts), group, views, split, labels)
    return Guess(columns, reasons, tuple(key for key in ("id", "image", "text") if not getattr(columns, key)),
                 tuple(f"the column {name!r} is not taken as the split, which is drawn: its cells are {_named(splits[name])}, and 'train' "
                       "and 'val' are needed" for name in odd))


def cells_of(name: str, rows: Iterable[Mapping[str, object]]) -> set[str]:
    """Returns the different cells of a column, as texts."""
    return {str(row.get(name) if row.get(name) is not None else "").strip() for row in rows}


def _are_splits(cells: Collection[str]) -> bool:
    return {"train", "val"} <= {SPELLINGS.get(cell.casefold(), cell.casefold()) for cell in cells} <= {"train", "val", "test"}


def _named(cells: Collection[str]) -> str:
    """Returns the first cells in words."""
    return ", ".join(map(repr, sorted(cells)[:SHOWN_CELLS])) + ", ..." * (len(cells) > SHOWN_CELLS)


def _look(name: str, rows: Sequence[Mapping[str, object]]) -> Column:
    cells = [str(row.get(name) if row.get(name) is not None else "").strip() for row in rows]
    filled = [cell for cell in cells if cell]

    def part(test: Callable[[str], object]) -> float:
        return fmean(map(bool, map(test, filled))) if filled else 0.0

    return Column(name, len(filled) / max(1, len(cells)), len(set(filled)) / max(1, len(filled)), len(set(filled)),
                  fmean(len(cell.split()) for cell in filled) if filled else 0.0, fmean(map(len, filled)) if filled else 0.0,
                  part(_names_pictures), part(NUMBER.fullmatch),
                  part(lambda cell: cell.casefold() in FLAGS))


def _names_pictures(cell: str) -> bool:
    """Whether a cell is the name of a picture, or a list of such names."""
    names = split(cell) if cell.startswith("[") else [cell]
    return bool(names) and all(ENDING.search(name) or ADDRESS.match(name) or arrow_tables.table_of(name) for name in names)


def _rank(name: str, key: str) -> int:
    """Returns how well a name fits a key, 0 = not at all.

    >>> _rank("productDisplayName", "text") > 0, _rank("image_url", "image") > _rank("url", "image"), _rank("price", "id")
    (True, True, 0)
    """
    words = [word.casefold() for word in re.findall(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+(?![a-z])", name)]
    known = NAMES[key]
    return max((len(known) - known.index(word) for word in words if word in known), default=0)


def _best(columns: Mapping[str, Column], key: str, test: Callable[[Column], bool]) -> Column | None:
    """Returns the column that passes a test and whose name fits best; of equals the one with the most different cells, then the first."""
    fitting = [column for column in columns.values() if test(column)]
    return max(fitting, key=lambda column: (_rank(column.name, key), column.distinct, column.filled), default=None)


def _texts(columns: Mapping[str, Column]) -> list[Column]:
    """Returns the columns of text: those with a name that says so, else the wordiest one."""
    wordy = [column for column in columns.values() if column.pictures < 0.5 and column.numbers < 0.5 and column.filled > 0.02]
    named = [column for column in wordy if _rank(column.name, "text") and column.words >= 1.2 and column.classes > 1]
    if named:
        return sorted(named, key=lambda column: -_rank(column.name, "text"))
    return sorted((column for column in wordy if column.words >= 2), key=lambda column: -column.words)[:1]


def _views(rows: Sequence[Mapping[str, object]], own: str, image: str, first: str, others: Sequence[str]) -> tuple[str, ...]:
    """Returns the columns that tell the pictures of one product apart: ``first``, if any, and what of ``others`` is needed beside it."""
    pictures = list({(str(row.get(own)), str(row.get(image))): row for row in rows if row.get(own)}.values())
    chosen = [first] if first else []

    def alike(columns: Sequence[str]) -> int:
        return len(pictures) - len({tuple(str(row.get(column)) for column in (own, *columns)) for row in pictures})

    while (left := alike(chosen)) > FAULTS * len(pictures):
        best = min(others, key=lambda column: alike([*chosen, column]), default="")
        if not best or alike([*chosen, best]) == left:
            break
        chosen.append(best)
    return tuple(chosen)


def _is_label(column: Column, rows: int) -> bool:
    return (column.filled >= 0.5 and 2 <= column.classes <= min(MAX_CLASSES, rows * column.filled / ROWS_PER_CLASS)
            and column.words <= 4 and column.letters <= LETTERS and column.numbers < 0.5 and column.flags < 0.5 and column.pictures < 0.5)
