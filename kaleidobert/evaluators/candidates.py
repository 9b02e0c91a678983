"""Fixed candidate lists for retrieval: the right answer and 100 others, drawn once from a seed, saved and reused.

"i2t": the query is a picture, the candidates are texts; "t2i": the query is a text, the candidates are pictures. The others
come from the same subcategory first and are filled up from all the rest (paper, section 4.2, says nothing of small
subcategories); each is another product, never one of the query's group. Letters: Q queries, L candidates per list.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kaleidobert import files
from kaleidobert.errors import UserError

DIRECTIONS = ("i2t", "t2i")
LIST_LENGTH = 101
MAX_QUERIES = 1000
PADDING = -1
FORMAT = "kaleidobert candidates 1"


@dataclass(frozen=True)
class Records:
    """What the lists are drawn from, one entry per record (a picture with its text); all of one length.

    ids: unique, names the picture and its text. products: whose picture it is. groups: products that are not independent.
    A product has one subcategory: that of its first record in the order of the ids. texts: compared by ``normalise``.
    """

    ids: Sequence[str]
    products: Sequence[str]
    groups: Sequence[str]
    subcategories: Sequence[str]
    texts: Sequence[str]

    def __post_init__(self) -> None:
        lengths = {name: len(values) for name, values in vars(self).items()}
        if len(set(lengths.values())) > 1:
            raise UserError(f"lengths differ: {lengths}", "retrieval records", "one entry per record in each")
        _rows(self.ids)


@dataclass(frozen=True)
class CandidateLists:
    """Rows of the records: queries i64[Q], candidates i64[Q, L] (-1 = padding, at the end), relevant bool[Q, L].

    sha256: of direction, seed and lists, as ids and not as rows: the same lists of a reordered table have the same hash.
    """

    queries: np.ndarray
    candidates: np.ndarray
    relevant: np.ndarray
    direction: str
    seed: int
    sha256: str

    @property
    def valid(self) -> np.ndarray:
        """bool[Q, L]: False for padding."""
        return self.candidates != PADDING


def normalise(text: str) -> str:
    """The form in which texts are compared: lower case, blanks collapsed.

    >>> normalise("  Red  Silk\\tTie ")
    'red silk tie'
    """
    return " ".join(text.lower().split())


def build(records: Records, direction: str, seed: int, max_queries: int = MAX_QUERIES,
          length: int = LIST_LENGTH) -> CandidateLists:
    """Draw the lists; a function of the records (in any order), the direction and the seed alone.

    Queries are up to max_queries distinct products, each by one of its records at random. A candidate product stands for
    itself by one of its records at random; the right picture of a text is any of the product's pictures with that text.
    The whole list is in random order, so that neither the right place nor the subcategory can be guessed from the position.
    relevant: the right one, and every candidate whose text equals its text. Lists are shorter, and padded, where there are
    too few other products: ``summary`` says how many. Raises UserError for an unknown direction or fewer than two products.
    """
    if direction not in DIRECTIONS:
        raise UserError(f"unknown direction {direction!r}", "candidate lists", f"one of {', '.join(DIRECTIONS)}")
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, DIRECTIONS.index(direction)])))
    pool = _Pool(records)
    if pool.num_products < 2:
        raise UserError(f"{pool.num_products} products", "candidate lists", "at least two")
    chosen = rng.permutation(pool.num_products)[:max_queries]
    queries = np.empty(len(chosen), np.int64)
    candidates = np.full((len(chosen), length), PADDING, np.int64)
    for i, product in enumerate(chosen):
        queries[i] = pool.draw_views(np.array([product]), rng)[0]
        right = queries[i] if direction == "i2t" else rng.choice(pool.same_text_views(queries[i]))
        others = pool.draw_views(pool.draw_others(product, length - 1, rng), rng)
        candidates[i, :len(others) + 1] = rng.permutation(np.append(others, right))
    relevant = (pool.texts[candidates] == pool.texts[queries][:, None]) & (candidates != PADDING)
    queries, candidates = pool.rows[queries], np.where(candidates == PADDING, PADDING, pool.rows[candidates])
    lists = CandidateLists(queries, candidates, relevant, direction, seed, "")
    return replace(lists, sha256=_digest(_head(lists), _lines(lists, records.ids)))


def summary(lists: CandidateLists, records: Records) -> dict[str, Any]:
    """What to print beside a result: sizes, short lists, queries with several right candidates, shares of a list's others
    that are of the query's subcategory.
    """
    lengths, several = lists.valid.sum(axis=1), lists.relevant.sum(axis=1) > 1
    _, codes = np.unique(np.asarray(records.subcategories), return_inverse=True)
    same = ((codes[lists.candidates] == codes[lists.queries][:, None]) & lists.valid).sum(axis=1) - 1
    return {
        "direction": lists.direction, "seed": lists.seed, "sha256": lists.sha256, "queries": len(lists.queries),
        "list_length": lists.candidates.shape[1], "short_lists": int((lengths < lists.candidates.shape[1]).sum()),
        "shortest_list": int(lengths.min()), "share_several_right": float(several.mean()),
        "share_same_subcategory": float(same.sum() / (lengths - 1).sum()) if (lengths > 1).any() else 0.0,
        "share_all_same_subcategory": float((same == lengths - 1).mean()),
    }


def save(lists: CandidateLists, ids: Sequence[str], path: str | Path) -> None:
    """Write JSONL: a head with direction, seed and SHA-256, then per query {"query": id, "candidates": [ids], "relevant":
    [places of the right ones]}. ids: of the records that the lists were built from.
    """
    head, lines = _head(lists), _lines(lists, ids)
    digest = _digest(head, lines)
    if digest != lists.sha256:
        raise UserError("the ids are not those of the records that the lists were drawn from", str(path),
                        "the same ids, row by row")
    files.write_text(path, "\n".join([json.dumps(head | {"sha256": digest}), *lines]) + "\n")


def load(path: str | Path, ids: Sequence[str]) -> CandidateLists:
    """Read what ``save`` wrote; ids: of the records at hand, in any order, more than the lists name are fine.

    Raises UserError where the file is missing, of another kind, changed since it was saved, or names an id that is not there.
    """
    where = str(path)
    try:
        first, *lines = Path(path).read_text(encoding="utf-8").removesuffix("\n").split("\n")
        head = json.loads(first)
        kind, sha256 = head.pop("format"), head.pop("sha256")
        direction, seed, length = head["direction"], head["seed"], head["length"]
        lists = [json.loads(line) for line in lines]
        names = [[entry["query"], *entry["candidates"]] for entry in lists]
        places = [entry["relevant"] for entry in lists]
    except FileNotFoundError:
        raise UserError("there is no such file", where, fix="build the candidate lists first") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"not a file of candidate lists ({error!r})", where, f"JSONL as {FORMAT!r}") from error
    if kind != FORMAT:
        raise UserError(f"the format is {kind!r}", where, repr(FORMAT))
    if _digest({"format": kind} | head, lines) != sha256:
        raise UserError("the lists are not those that were saved: the SHA-256 differs", where, sha256,
                        "restore the file, or build the lists again and evaluate every model anew")
    rows = _rows(ids)
    unknown = sorted({name for entry in names for name in entry} - set(rows))
    if unknown:
        raise UserError(f"{len(unknown)} ids are not among the records, the first is {unknown[0]!r}", where,
                        "the records that the lists were built from", "use the same data and split, or build new lists")
    candidates, relevant = np.full((len(names), length), PADDING, np.int64), np.zeros((len(names), length), bool)
    for i, (_, *others) in enumerate(names):
        candidates[i, :len(others)], relevant[i, places[i]] = [rows[name] for name in others], True
    queries = np.array([rows[entry[0]] for entry in names], np.int64)
    return CandidateLists(queries, candidates, relevant, direction, seed, sha256)


class _Pool:
    """The records in the order of their ids, so that their order on disk does not matter; products as numbers."""

    def __init__(self, records: Records):
        self.rows = np.array(sorted(range(len(records.ids)), key=lambda row: records.ids[row]), np.int64)
        self.texts = self._codes([normalise(text) for text in records.texts])
        self.products, groups = self._codes(records.products), self._codes(records.groups)
        self.num_products = int(self.products.max(initial=-1)) + 1
        self.by_product = np.argsort(self.products, kind="stable")  # the views of a product lie side by side
        self.num_views = np.bincount(self.products, minlength=self.num_products)
        self.first_view = np.cumsum(self.num_views) - self.num_views
        self.subcategory = self._codes(records.subcategories)[self.by_product[self.first_view]]  # [products]
        self.groups_of: list[set[int]] = [set() for _ in range(self.num_products)]
        self.products_of: dict[int, set[int]] = {group: set() for group in groups.tolist()}
        for product, group in zip(self.products.tolist(), groups.tolist()):
            self.groups_of[product].add(group)
            self.products_of[group].add(product)

    def views(self, product: int) -> np.ndarray:
        """All records of a product."""
        start = self.first_view[product]
        return self.by_product[start:start + self.num_views[product]]

    def same_text_views(self, record: int) -> np.ndarray:
        """The records of the same product with the same text, this one included."""
        views = self.views(self.products[record])
        return views[self.texts[views] == self.texts[record]]

    def draw_views(self, products: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One record at random for each of the products."""
        return self.by_product[self.first_view[products] + rng.integers(self.num_views[products])]

    def draw_others(self, product: int, count: int, rng: np.random.Generator) -> np.ndarray:
        """Up to count products outside the product's groups, as many of its subcategory as there are."""
        barred = np.zeros(self.num_products, bool)
        for group in self.groups_of[product]:
            barred[list(self.products_of[group])] = True
        order = rng.permutation(self.num_products)
        order = order[~barred[order]]
        same = self.subcategory[order] == self.subcategory[product]
        return order[np.argsort(~same, kind="stable")][:count]

    def _codes(self, values: Sequence[str]) -> np.ndarray:
        """i64, in the order of ``rows``: equal values, equal numbers; the numbers follow the sorted values."""
        numbers = {value: number for number, value in enumerate(sorted(set(values)))}
        return np.array([numbers[values[row]] for row in self.rows], np.int64)


def _rows(ids: Sequence[str]) -> dict[str, int]:
    rows = {name: row for row, name in enumerate(ids)}
    if len(rows) < len(ids):
        twice = next(name for row, name in enumerate(ids) if rows[name] != row)
        raise UserError(f"the id {twice!r} occurs more than once", "retrieval records", "unique ids")
    return rows


def _head(lists: CandidateLists) -> dict[str, Any]:
    return {"format": FORMAT, "direction": lists.direction, "seed": lists.seed, "queries": len(lists.queries),
            "length": lists.candidates.shape[1]}


def _lines(lists: CandidateLists, ids: Sequence[str]) -> list[str]:
    """One line of JSON per query."""
    return [json.dumps({"query": ids[query], "candidates": [ids[row] for row in row_list if row != PADDING],
                        "relevant": np.flatnonzero(right).tolist()}, ensure_ascii=False)
            for query, row_list, right in zip(lists.queries.tolist(), lists.candidates.tolist(), lists.relevant)]


def _digest(head: dict[str, Any], lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join([json.dumps(head), *lines]).encode("utf-8")).hexdigest()
