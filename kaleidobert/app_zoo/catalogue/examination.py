"""What a catalogue holds and what is wrong with it, found by reading the table and opening the pictures."""

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from kaleidobert import configs
from kaleidobert.configs import Source
from kaleidobert.configs.catalogue import CatalogueCheckConfig
from kaleidobert.datasets import addresses, arrow_tables, near_duplicates
from kaleidobert.datasets.products import Product, read_image, stamp, tabulate_classes
from kaleidobert.datasets.products import digest as digest_of
from kaleidobert.datasets.sources import formats, guessing, presets, reading
from kaleidobert.datasets.sources.reading import Reading
from kaleidobert.datasets.sources.table import TableSource
from kaleidobert.errors import UserError

LOSES, LEAKS, WEAK, NOTE = "loses", "leaks", "weak", "note"
MEANINGS = {LOSES: "left out of the bank", LEAKS: "the evaluation would ask for what was trained on", WEAK: "little can be learnt of it",
            NOTE: "what was found"}
LOOKED_AT = 20_000  # rows from which columns are guessed
MANY_CELLS = 50  # different ones of a column, which is no split then
SHOWN = 3
FEW = 5  # training pictures of a class, below which it can hardly be learnt
FEW_QUERIES = 30  # val products, below which intervals are wider than most differences
MOST_VAL = 0.3  # fraction of the groups
READERS = 8
GARBLED = re.compile("[\u00c2\u00c3\u00e2]")  # with what UTF-8 that is read as cp1252 begins
TRAIN, VAL = "train", "val"


@dataclass(frozen=True)
class Finding:
    """severity: a key of MEANINGS; what: in words; count: of rows, pictures, ...; examples: for people; fix: what to do, "" = nothing."""

    severity: str
    what: str
    count: int
    examples: tuple[str, ...] = ()
    fix: str = ""


@dataclass(frozen=True)
class LabelFacts:
    """train: {class: training pictures}; rare: of them the classes with fewer than FEW; only_val: classes that no training picture has."""

    train: Mapping[str, int]
    rare: tuple[str, ...]
    only_val: tuple[str, ...]

    @property
    def usable(self) -> bool:
        """Whether at least two classes can be learnt, and these are most of the pictures."""
        learnt = sum(count for value, count in self.train.items() if value not in self.rare)
        return len(self.train) - len(self.rare) >= 2 and 2 * learnt >= sum(self.train.values())


@dataclass
class Examination:
    """columns: (what it holds, column, why it is taken, first cells); groups, words: of all texts; opened: pictures that were opened;
    blank: ids of those of one colour; contents: {id: SHA-256} of those that the table itself holds."""

    source: Source
    found: list[str]
    columns: list[tuple[str, str, str, str]]
    reading: Reading
    opened: int = 0
    faults: dict[str, str] = field(default_factory=dict)
    sides: list[int] = field(default_factory=list)
    blank: list[str] = field(default_factory=list)
    contents: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    labels: dict[str, LabelFacts] = field(default_factory=dict)
    joined: dict[str, str] = field(default_factory=dict)

    @property
    def products(self) -> list[Product]:
        """Those whose picture can be read, as far as it was opened."""
        return [product for product in self.reading.products if product.image_id not in self.faults]

    @property
    def words(self) -> np.ndarray:
        """i64[N]: the number of words of every text."""
        return np.array([len(product.text.split()) for product in self.products], np.int64)

    def facts(self) -> dict[str, Any]:
        """Returns numbers that say how large the catalogue is, JSON-able."""
        splits = Counter(product.split for product in self.products)
        words = self.words
        return {"rows": self.reading.rows, "pictures": len(self.products), "splits": dict(splits),
                "products": len({product.product_id for product in self.products}),
                "train_groups": len({product.group for product in self.products if product.split == TRAIN}),
                "words": {"mean": float(words.mean()), "p95": float(np.percentile(words, 95)), "max": int(words.max())} if len(words) else
                {"mean": 0.0, "p95": 0.0, "max": 0},
                "different_texts": len({product.text for product in self.products}),
                "labels": {name: {"classes": len(one.train), "rare": len(one.rare), "only_val": len(one.only_val), "usable": one.usable}
                           for name, one in self.labels.items()}}


def examine(source: Source, pictures: int = 0) -> Examination:
    """Reads a source and opens its pictures. Raises UserError where it cannot be read at all.

    Columns that neither the source nor a known layout names are guessed by their names and cells. pictures: how many are opened, 0 = all.
    """
    source, guess = with_columns(source)
    result = reading.survey(source)
    if more := _val_fraction(result):
        result = reading.survey(replace(source, val_fraction=more))
        result.found.append(f"{more:.0%} of the groups are val, to have something to judge by (source.val_fraction)")
    own = Examination(result.source, [*guess.notes, *result.found], _shown(result, guess.reasons), result)
    _open(own, pictures)
    own.labels = {name: _label(own.products, name) for name in own.source.columns.labels}
    own.findings = sorted(_findings(own), key=lambda one: (list(MEANINGS).index(one.severity), -one.count))
    return own


def identity(config: CatalogueCheckConfig) -> dict[str, Any]:
    """Returns the configuration without the folder, as JSON gives it back: what it finds follows from it, the table and the pictures."""
    return json.loads(json.dumps({name: value for name, value in configs.to_dict(config).items() if name != "run"}))


def digest(own: Examination) -> str:
    """Returns the SHA-256 of the products: ids, texts, labels, groups, splits and pictures' names; of the pictures those in the table."""
    products = [[p.image_id, p.product_id, p.group, p.view, p.split, p.text, dict(p.labels), p.image_path] for p in own.reading.products]
    parts = [products, own.joined, *([own.contents] if own.contents else [])]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def state(source: Source) -> list[Any] | None:
    """Returns what says cheaply that a table is still the same: the stamps of its files; None where there is no such table."""
    if isinstance(source, TableSource) and source.is_data_set():
        return [stamp(path) for path in formats.files(source.table)]
    return stamp(source.table)


def _val_fraction(result: Reading) -> float:
    """Returns a larger fraction of val for a catalogue of which a tenth would be too few products to judge by, 0 where it stays."""
    source = result.source
    usual = type(source).__dataclass_fields__["val_fraction"].default
    groups = len({product.group for product in result.products})
    fraction = round(min(MOST_VAL, FEW_QUERIES / groups), 2)
    return fraction if not source.columns.split and source.val_fraction == usual and fraction > usual else 0.0


def with_columns(source: Source, needs_text: bool = True) -> tuple[Source, guessing.Guess]:
    """Returns the source with guessed columns where none are given and the layout is none that is known, and why each was taken.

    needs_text: False where the table may have no texts. Raises UserError where no column looks like one that is needed.
    """
    none = guessing.Guess(source.columns)
    if not isinstance(source, TableSource) or source.preset not in ("", presets.NO_PRESET):
        return source, none
    if not source.table.is_file() and not source.is_data_set():
        return source, none
    if source.columns.id and source.columns.image and source.columns.text:
        return source, none
    layout = formats.find(source.table, [], formats.Layout(source.format, source.separator, source.encoding))
    header = formats.header(source.table, layout)
    if not source.preset and presets.recognise(header):
        return source, none
    every = (row for _, row in formats.rows(source.table, layout, (), header, lambda names: None) if isinstance(row, Mapping))
    rows = list(islice(every, LOOKED_AT))
    splits: dict[str, set[str]] = {name: set() for name in guessing.split_columns(header)}
    for row in chain(rows, every) if splits else ():
        for name, cells in splits.items():
            if len(cells) < MANY_CELLS:
                cells |= guessing.cells_of(name, [row])
    first = guessing.guess(header, rows, "", splits)
    template = source.template(first.columns.id) if first.columns.id and not first.columns.image else ""
    guess = guessing.guess(header, rows, template, splits) if template else first
    if not rows:
        raise UserError("the table has no rows", str(source.table), f"rows below the names of the columns: {', '.join(header)}")
    lacks = [key for key in guess.lacks if not getattr(source.columns, key) and (needs_text or key != "text")]
    if lacks:
        raise UserError(f"no column looks like {' or '.join(lacks)}", str(source.table), f"columns out of {', '.join(header)}",
                        "say which: " + " ".join(f"source.columns.{key}=COLUMN" for key in lacks))
    columns = presets.completed(source.columns, guess.columns)
    return replace(source, columns=columns, preset=presets.NO_PRESET), guess


def _shown(result: Reading, reasons: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
    """Returns a row per mapped column, with the first values that came of it."""
    columns, first = result.source.columns, result.products[:SHOWN]
    folder = f"{result.source.picture_folder}/"
    values = {"id": [product.product_id for product in first],
              "image": [addresses.shown(product.image_path).removeprefix(folder) for product in first],
              "text": [product.text for product in first], "group": [product.group for product in first],
              "view": [product.view for product in first], "split": [product.split for product in first]}
    rows = []
    for key, own in values.items():
        name = getattr(columns, key)
        if name or key == "split":
            what = " + ".join(name) if isinstance(name, tuple) else name or "drawn by the group"
            rows.append((key, what, reasons.get(key, ""), ", ".join(dict.fromkeys(map(_short, own)))))
    for label, name in columns.labels.items():
        rows.append((f"label {label}", name, "", ", ".join(dict.fromkeys(_short(product.labels[label]) for product in first))))
    return rows


def _short(text: str, length: int = 40) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."


# --- The pictures


def _open(own: Examination, count: int) -> None:
    """Opens pictures; notes which cannot be read, their sides, and which are nearly the same."""
    products = own.reading.products
    absent = {row["image_id"] for row in own.reading.absent}
    there = [product for product in products if product.image_id not in absent
             and not (addresses.is_one(product.image_path) and not addresses.local(product.image_path).is_file())]
    chosen = there[:: max(1, len(there) // count)][:count] if count else there
    thumbnails: dict[int, np.ndarray] = {}
    with ThreadPoolExecutor(READERS) as pool, tqdm(total=len(chosen), unit="picture", desc="opened", leave=False) as bar:
        for number, (product, seen) in enumerate(zip(chosen, pool.map(_look, chosen))):
            bar.update()
            if isinstance(seen, str):
                own.faults[product.image_id] = seen
            else:
                own.sides.append(seen.side)
                thumbnails[number] = seen.thumbnail
                own.contents.update({product.image_id: seen.content} if seen.content else {})
                if np.ptp(seen.thumbnail.reshape(-1, 3), axis=0).max() <= 2:
                    own.blank.append(product.image_id)
    own.opened = len(chosen)
    own.faults |= {row["image_id"]: row["reason"] for row in own.reading.absent}
    order = list(thumbnails)
    pairs: list[tuple[int, int]] = []
    if order:
        groups = np.unique([chosen[number].group for number in order], return_inverse=True)[1]
        near, shared = near_duplicates.alike(np.stack([thumbnails[number] for number in order]), groups)
        pairs = [(order[i], order[j]) for i, j in near]
    if order and len(shared):
        own.findings.append(Finding(WEAK, "pictures that very many products have: one stands for none, and joins no groups", len(shared),
                                    tuple(chosen[order[place]].image_id for place in shared[:SHOWN]),
                                    "leave these rows out where it says that there is no picture yet"))
    texts = list(near_duplicates.same_texts([product.text for product in chosen]))
    _join(own, chosen, pairs, [(i, j) for i, j in texts if chosen[i].product_id != chosen[j].product_id])


class _Seen(NamedTuple):
    """Of a picture its shorter side, its thumbnail and, where the table itself holds it, its SHA-256."""

    side: int
    thumbnail: np.ndarray
    content: str


def _look(product: Product) -> str | _Seen:
    try:
        image = read_image(product.image_path)
    except UserError as error:
        return error.what
    content = digest_of(product.image_path) if arrow_tables.table_of(product.image_path) else ""
    return _Seen(min(image.shape[:2]), near_duplicates.thumbnail(image), content)


def _join(own: Examination, products: Sequence[Product], pictures: list[tuple[int, int]], texts: list[tuple[int, int]]) -> None:
    """Notes the products of several groups that are not independent; where the catalogue has no split of its own, joins their groups."""
    groups = [product.group for product in products]
    for what, pairs in (("have nearly the same picture as another product", pictures), ("have the text of another product", texts)):
        apart = [(i, j) for i, j in pairs if groups[i] != groups[j]]
        if not apart:
            continue
        given = bool(own.source.columns.split)
        crossing = near_duplicates.across([product.split for product in products], apart) if given else apart
        shown = tuple(f"{products[i].image_id} / {products[j].image_id}" for i, j in crossing[:SHOWN])
        if given and crossing:
            own.findings.append(Finding(LEAKS, f"products of one split {what} of another", len(crossing), shown,
                                        "correct the split column, or leave it out of source.columns"))
        elif not given:
            own.findings.append(Finding(NOTE, f"products {what}: they stay in one split", len({j for _, j in apart}), shown))
    if not own.source.columns.split:
        own.joined = near_duplicates.joined(groups, [*pictures, *texts])


# --- What is wrong


def _label(products: Sequence[Product], name: str) -> LabelFacts:
    train = Counter(product.labels[name] for product in products if product.split == TRAIN and product.labels[name])
    lonely = tabulate_classes(((product.split, {name: product.labels[name]}) for product in products), [name])[name]["one_split"]
    return LabelFacts(dict(train), tuple(value for value, count in train.items() if count < FEW), tuple(lonely.get(VAL, ())))


def _findings(own: Examination) -> Iterator[Finding]:
    yield from own.findings
    result = own.reading
    for rows in (result.skipped, [{"image_id": key, "where": key, "reason": reason} for key, reason in own.faults.items()]):
        for reason, where in reading.tally(rows).items():
            yield Finding(LOSES, reason, len(where), (reading.positions(where),))
    waiting = [address for address in result.addresses if not addresses.local(address).is_file()]
    if waiting:
        yield Finding(NOTE, "pictures at addresses, which are not fetched yet", len(waiting), tuple(map(addresses.shown, waiting[:SHOWN])),
                      "fetch them (kaleidobert records), and check again: only then are they opened and compared")
    for line in result.notes():
        yield Finding(NOTE, line, 1)
    yield from _weak(own)


def _weak(own: Examination) -> Iterator[Finding]:
    products = own.products
    splits = Counter(product.split for product in products)
    for split in (TRAIN, VAL):
        if not splits[split]:
            yield Finding(WEAK, f"no picture is in the split {split!r}", 0, (),
                          f"source.columns.split has {', '.join(sorted(splits))}" * bool(own.source.columns.split))
    held = len({product.product_id for product in products if product.split == VAL})
    if 0 < held < FEW_QUERIES:
        yield Finding(WEAK, "products to judge by: every figure has a wide interval", held, (), "a larger source.val_fraction")
    for name, one in own.labels.items():
        yield from _of_label(name, one)
    texts = Counter(product.text for product in products)
    if products and len(texts) < 0.5 * len({product.product_id for product in products}):
        text, count = texts.most_common(1)[0]
        yield Finding(WEAK, "texts that several products share: retrieval cannot tell these apart", len(products) - len(texts),
                      (f"{_short(text)!r} x {count:,}",))
    strange = [product.image_id for product in products if is_garbled(product.text)]
    if strange:
        yield Finding(WEAK, "texts whose letters were lost or read in another encoding", len(strange), tuple(strange[:SHOWN]),
                      "export the table again as UTF-8, or set source.encoding")
    if own.blank:
        yield Finding(WEAK, "pictures of a single colour: they show nothing", len(own.blank), tuple(own.blank[:SHOWN]))
    small = sum(side < 64 for side in own.sides)
    if small:
        yield Finding(WEAK, "pictures whose shorter side has fewer than 64 pixels", small)


def is_garbled(text: str) -> bool:
    """Whether a text has characters that stand for lost ones, or UTF-8 that was read as a Windows code page.

    >>> is_garbled("caf\\u00e9"), is_garbled("caf\\u00c3\\u00a9"), is_garbled("caf\\ufffd")
    (False, True, True)
    """
    if "\ufffd" in text:
        return True
    if not GARBLED.search(text):
        return False
    try:
        return text.encode("cp1252").decode() != text
    except UnicodeError:  # letters that stand beside each other by chance
        return False


def _spelled_alike(classes: Iterable[str]) -> list[str]:
    """Returns "one / other" of the classes that are the same but for capitals, accents and blanks."""
    known: dict[str, str] = {}
    result = []
    for value in dict.fromkeys(classes):
        plain = "".join(letter for letter in unicodedata.normalize("NFKD", value) if not unicodedata.combining(letter))
        first = known.setdefault("".join(plain.casefold().split()), value)
        if first != value:
            result.append(f"{first} / {value}")
    return result


def _of_label(name: str, one: LabelFacts) -> Iterator[Finding]:
    def shown(classes: Iterable[str]) -> tuple[str, ...]:
        return tuple(map(_short, islice(classes, SHOWN)))

    if not one.train:
        yield Finding(WEAK, f"label {name}: no training picture has one", 0)
    elif not one.usable:
        yield Finding(WEAK, f"label {name} is not classified: fewer than two classes have {FEW} training pictures, or most pictures have "
                      "another one", len(one.train), shown(one.train))
    elif one.rare:
        yield Finding(WEAK, f"label {name}: classes with fewer than {FEW} training pictures", len(one.rare), shown(one.rare),
                      "join them in the table, or leave them empty there")
    spellings = _spelled_alike([*one.train, *one.only_val])
    if spellings:
        yield Finding(WEAK, f"label {name}: classes that differ in capitals, accents or blanks alone", len(spellings), shown(spellings),
                      "spell them alike in the table: each counts as a class of its own")
    if one.only_val:
        yield Finding(WEAK, f"label {name}: classes that stand in val alone", len(one.only_val), shown(one.only_val))
