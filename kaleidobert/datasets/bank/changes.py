"""What has to be made of a bank whose catalogue has changed.

A shard depends on its pictures alone, in their order, and a picture's vectors on the content of its files. The vectors of every picture
whose content a shard already holds are therefore copied, wherever the table has it now and whatever its text and labels are; the others
are encoded. The result is the bank that would be made from nothing.

An entry of the notes, one per product of a shard:

    {"image_id", "row", "files": [{"path", "stamp", "sha256"}]}     row: a digest of what else the table says; files: the picture, and the
                                                                    mask where masks give the foreground
    with {"box", "size", "fallback"}                                where its vectors are in the shard
    or   {"where", "reason", "unread"}                              where it was skipped; unread: because a file could not be read
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from kaleidobert.configs import RecordsConfig
from kaleidobert.datasets import addresses
from kaleidobert.datasets.bank import states
from kaleidobert.datasets.products import Product, digest, stamp
from kaleidobert.errors import UserError

READERS = 16  # threads that look at pictures: on a network disk each waits for its answer
SAME_BANK = 0.5  # fraction of a bank's pictures that a table has to name, or it is another catalogue's

Entry = dict[str, Any]


class Copied(NamedTuple):
    """Vectors in a row of a shard, and the entry of the product that they are copied for."""

    shard: int
    row: int
    entry: Entry


@dataclass(frozen=True)
class ShardPlan:
    """A shard to make. root: where it is written, as states.free_root says; copies: what is copied for each product, None = it is encoded;
    () = all are encoded."""

    number: int
    root: str = ""
    copies: tuple[Copied | None, ...] = ()

    def encoded(self, products: Sequence[Product]) -> list[Product]:
        """Returns those of its products whose pictures are encoded."""
        return [product for product, copy in zip(products, self.copies or [None] * len(products)) if copy is None]


@dataclass(frozen=True)
class Changes:
    """What has to be made of a bank, and how its catalogue has changed.

    plans: of the shards that are missing. notes: {(root, number): new entries} of shards that stay, whose products have other names or
    whose files lie elsewhere. stale: numbers of shards of an unfinished new state that this one does not use.
    counts: {change: number of pictures}; first: {change: id of one}; kept, encoded: pictures whose vectors are there, and are missing.
    """

    plans: tuple[ShardPlan, ...]
    notes: Mapping[tuple[str, int], list[Entry]] = field(default_factory=dict)
    stale: tuple[int, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    first: Mapping[str, str] = field(default_factory=dict)
    kept: int = 0
    encoded: int = 0

    def describe(self, dry: bool) -> str:
        """Returns a line to print, "" where nothing has changed; dry: of a run that makes nothing.

        >>> Changes((), counts={"added": 1, "gone": 2}, first={"added": "a7", "gone": "a2"}, kept=998, encoded=1).describe(dry=True)
        'the catalogue has changed: 1 picture added (a7), 2 gone (the first: a2); 1 would be encoded, the vectors of 998 are kept'
        """
        words = [f"{count:,} {'pictures ' if not number and count != 1 else 'picture ' if not number else ''}{what} "
                 f"({'the first: ' if count > 1 else ''}{self.first[what]})"
                 for number, (what, count) in enumerate((what, count) for what, count in self.counts.items() if count)]
        if not words:
            return ""
        verb = "would be" if dry else "is" if self.encoded == 1 else "are"
        return (f"the catalogue has changed: {', '.join(words)}; {f'{self.encoded:,}' if self.encoded else 'none'} {verb} encoded, "
                f"the vectors of {self.kept:,} are kept")


CHANGED, ADDED, GONE, MENDED, OTHER_ROW = ("changed", "added", "gone", "tried again that were left out",
                                           "with another text, label, split or group")


def compare(config: RecordsConfig, products: Sequence[Product], begun: bool = False) -> Changes:
    """Returns what has to be made; writes nothing. Only files whose path or stamp differs from the notes are read. begun: whether the bank
    is already being made of these products; those without a note are then unfinished, and none of them counts as added.

    Raises UserError where pictures that the bank was made of cannot be read any more, and where less than half of them are in the table:
    their vectors would be lost.
    """
    return _Comparison(config, products).changes(begun)


def portions(config: RecordsConfig, products: Sequence[Product]) -> Iterator[tuple[int, Sequence[Product]]]:
    """Yields (number, products) of every shard."""
    for number, start in enumerate(range(0, len(products), config.shard_size)):
        yield number, products[start : start + config.shard_size]


def entry(config: RecordsConfig, product: Product, known: Mapping[str, Entry] | None = None) -> Entry:
    """Returns what the notes say of a product and its files; the digest of a file is taken from ``known``, {path: file}, where its stamp is
    the one there. A file that is replaced while it is read gets the older stamp: it counts as changed the next time."""
    files = []
    for path in [product.image_path] + [product.mask_path] * (config.foreground.method == "masks"):
        now, old = {"path": path, "stamp": stamp(path)}, (known or {}).get(path)
        files.append({**now, "sha256": old["sha256"] if old is not None and old["stamp"] == now["stamp"] else digest(path)})
    row = [product.product_id, product.group, product.view, product.split, product.text, dict(product.labels),
           [[part.word, *part.box] for part in product.parts]]
    return {"image_id": product.image_id, "row": hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()[:16], "files": files}


def content(one: Entry) -> tuple[str, ...]:
    """Returns the digests that a picture's vectors depend on; "" stands for a file that cannot be read."""
    return tuple(file["sha256"] for file in one["files"])


def is_kept(one: Entry) -> bool:
    """Whether a picture was used."""
    return "reason" not in one


def fault(config: RecordsConfig, product: Product) -> str:
    """Returns why a product's files cannot be read, "" where they can."""
    try:
        product.load_image()
        if config.foreground.method == "masks" and product.load_mask is not None:
            product.load_mask()
    except UserError as error:
        return str(error)
    return ""


class _Comparison:
    def __init__(self, config: RecordsConfig, products: Sequence[Product]):
        self._config, self._products, folder = config, products, config.bank
        self._old = self._read(folder)
        new = folder / states.NEXT
        self._new = {number: states.read_notes(new, number) for number in states.noted(new)}
        if states.is_complete(folder):  # of a killed run, whose change of state the next one ends
            self._old |= self._new
        # in one go: where each old picture is, by its content and by its name
        self._vectors: dict[tuple[str, ...], tuple[int, int, Entry]] = {}
        self._named: dict[str, Entry] = {}
        known: dict[str, Entry] = {}
        for number, entries in self._old.items():
            row = 0
            has_features = self._has_features(number)
            for one in entries:
                self._named[one["image_id"]] = one
                if is_kept(one):
                    if has_features:
                        self._vectors.setdefault(content(one), (number, row, one))
                    row += 1
        for entries in (*self._new.values(), *self._old.values()):
            known.update((file["path"], file) for one in entries for file in one["files"])
        with ThreadPoolExecutor(READERS) as pool:
            self._now = list(pool.map(partial(entry, config, known=known), products)) if known else []

    @staticmethod
    def _read(folder: Path) -> dict[int, list[Entry]]:
        return {number: states.read_notes(folder, number) for number in states.noted(folder)}

    def _has_features(self, number: int) -> bool:
        roots = (self._config.bank, self._config.bank / states.NEXT)
        return any(states.features_path(root, number).is_file() for root in roots[: 1 + states.is_complete(self._config.bank)])

    def changes(self, begun: bool) -> Changes:
        if not self._now:  # nothing is there
            return Changes(tuple(ShardPlan(number, states.free_root(self._config.bank, number))
                                 for number, _ in portions(self._config, self._products)), encoded=len(self._products))
        self._check_lost()
        plans: list[ShardPlan] = []
        notes: dict[tuple[str, int], list[Entry]] = {}
        used, again, kept, encoded = set(), list[str](), 0, 0
        for number, chunk in portions(self._config, self._products):
            now = self._now[number * self._config.shard_size :][: len(chunk)]
            for root, shards in (("", self._old), (states.NEXT, self._new)):
                if number in shards and (entries := self._present(chunk, now, number, shards[number], again)) is not None:
                    used.add((root, number))
                    kept += sum(map(is_kept, entries))
                    if entries != shards[number]:
                        notes[root, number] = entries
                    break
            else:
                copies = tuple(map(self._copied, now))
                kept, encoded = kept + len(copies) - copies.count(None), encoded + copies.count(None)
                plans.append(ShardPlan(number, states.free_root(self._config.bank, number), copies))
        stale = tuple(number for number in self._new if (states.NEXT, number) not in used)
        counts, first = self._counts(begun, again)
        return Changes(tuple(plans), notes, stale, counts, first, kept, encoded)

    def _present(self, products: Sequence[Product], now: Sequence[Entry], number: int, old: Sequence[Entry], again: list[str]
                 ) -> list[Entry] | None:
        """Returns the new entries of a shard that is there and need not be made again, else None. Adds to ``again`` the ids of products
        that were skipped because their files could not be read, and that can be read now."""
        if len(now) != len(old) or not (self._has_features(number) or not any(map(is_kept, old))):
            return None
        if not all(content(one) == content(before) and (is_kept(before) or _same_files(one, before)) for one, before in zip(now, old)):
            return None
        entries = [{**before, **one} for one, before in zip(now, old)]
        mended = []
        for product, one in zip(products, entries):
            if not is_kept(one) and one["unread"]:
                if reason := fault(self._config, product):
                    one["reason"] = reason
                else:
                    mended.append(one["image_id"])
        again += mended
        return None if mended else entries

    def _check_lost(self) -> None:
        lost = [product for product, one in zip(self._products, self._now)
                if not all(content(one)) and one["image_id"] in self._named and is_kept(self._named[one["image_id"]])]
        if lost:
            raise UserError(f"{len(lost):,} of the pictures that the bank was made of cannot be read any more (the first: "
                            f"{lost[0].image_id})", addresses.shown(lost[0].image_path), "the files that were there",
                            "put them back, correct source.images or source.columns, or choose another folder with bank=...")
        there, names = {content(one) for one in self._now}, {one["image_id"] for one in self._now}
        made = [one for entries in self._old.values() for one in entries if is_kept(one)]
        still = sum(one["image_id"] in names or content(one) in there for one in made)
        if still < SAME_BANK * len(made):
            raise UserError(f"the folder holds another bank: {len(made) - still:,} of its {len(made):,} pictures are not in the table",
                            str(self._config.bank), "at least half of them", "choose another folder with bank=..., or delete this one")

    def _copied(self, one: Entry) -> Copied | None:
        if not all(content(one)) or content(one) not in self._vectors:
            return None
        number, row, before = self._vectors[content(one)]
        return Copied(number, row, {**one, **{key: before[key] for key in ("box", "size", "fallback")}})

    def _counts(self, begun: bool, again: Sequence[str]) -> tuple[dict[str, int], dict[str, str]]:
        """Returns {change: number of pictures} and {change: the id of the first}."""
        ids: dict[str, list[str]] = {CHANGED: [], ADDED: [], GONE: [], MENDED: list(again), OTHER_ROW: []}
        tried = set(again)
        for one in self._now:
            name, before = one["image_id"], self._named.get(one["image_id"])
            if before is None:
                ids[ADDED] += [name] * (not begun)
            elif name not in tried and content(one) != content(before):
                ids[CHANGED if is_kept(before) else MENDED].append(name)
            elif one["row"] != before["row"]:
                ids[OTHER_ROW].append(name)
        names = {one["image_id"] for one in self._now}
        ids[GONE] = [name for name in self._named if name not in names]
        return {what: len(some) for what, some in ids.items()}, {what: some[0] for what, some in ids.items() if some}


def _same_files(one: Entry, before: Entry) -> bool:
    """Whether a product that was skipped would be skipped with the same reason."""
    paths = zip_longest((file["path"] for file in one["files"]), (file["path"] for file in before["files"]))
    return one["image_id"] == before["image_id"] and all(path == other for path, other in paths)
