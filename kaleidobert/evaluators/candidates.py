"""Fixed candidate lists for retrieval, drawn once from a seed, saved and reused: the right answer and, by default, 100 others.

"i2t": the query is a picture, the candidates are texts; "t2i": the query is a text, the candidates are pictures. A protocol says how
lists are drawn. With ours, the others come from the same subcategory first and are filled up from all the rest (paper, section 4.2, does
not say what small subcategories do); each is another product, never one of the query's group. Letters: Q queries, L candidates per list.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kaleidobert import io
from kaleidobert.errors import UserError

DIRECTIONS = ("i2t", "t2i")
LIST_LENGTH = 101
MAX_QUERIES = 1000
FORMAT = "kaleidobert candidates 1"
PADDING = -1
CHUNK = 2**20  # pairs of a chunk, of which the computation takes some 130 MB
MAX_PAIRS = 2**27  # of a gallery that is laid out as a table: 1.3 GB


@dataclass(frozen=True)
class Protocol:
    """One of the ways in which public code draws "1,000 queries x 101 candidates", or the full gallery.

    Rank@K of different protocols is not comparable: fewer candidates, filled lists and several views of one product all change the chance.
    queries: products (one record each), items (any records), or all (every picture, every text once).
    others: wrong candidates are distinct products, by one record each, or items of which several may be of one product.
    fill: where a subcategory has too few, others of any subcategory follow; False = the list is shorter.
    groups: products of the query's group (near-duplicates) are excluded, not the query's product alone.
    right: position of the right candidate. draws: lists are drawn so many times (seed, seed + 1, ...), and results are averaged.
    shipped: the lists come from a file and are never drawn. counting: how the source breaks ties and which scores it ranks by
    (released/counting.py, on request only).
    """

    name: str
    queries: Literal["products", "items", "all"] = "products"
    others: Literal["products", "items", "all"] = "products"
    fill: bool = True
    groups: bool = False
    right: Literal["anywhere", "first", "last"] = "anywhere"
    draws: int = 1
    shipped: bool = False
    counting: str = "expectation"


PROTOCOLS = {row.name: row for row in (
    Protocol("kaleido", groups=True, counting="released"),
    Protocol("fashionbert", fill=False, counting="fashionbert"),  # 100 others of the subcategory, or simply fewer rows
    Protocol("fashionvil", queries="items", others="items", draws=5),  # and fame-vil
    Protocol("fashionsap", right="last", counting="fashionsap"),
    Protocol("mvlt", right="first", shipped=True, counting="mvlt"),
    Protocol("full", queries="all", others="all"),  # every picture against every different text
)}


def protocol_of(name: str) -> Protocol:
    """Returns the protocol of a name. Raises UserError where there is none."""
    if name not in PROTOCOLS:
        raise UserError(f"unknown protocol {name!r}", "candidate lists", f"one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


@dataclass(frozen=True)
class CandidateLists:
    """Lists as rows of the records: queries i64[Q], candidates i64[Q, L] (-1 = padding, at the end), relevant bool[Q, L].

    sha256: of direction, seed, protocol and lists, by ids and not by rows: the same lists of a reordered table have the same hash.
    """

    queries: np.ndarray
    candidates: np.ndarray
    relevant: np.ndarray
    direction: str
    seed: int
    sha256: str
    protocol: str = "kaleido"

    @property
    def valid(self) -> np.ndarray:
        """bool[Q, L]: False for padding."""
        return self.candidates != PADDING

    @property
    def length(self) -> int:
        """L."""
        return self.candidates.shape[1]

    @property
    def num_pairs(self) -> int:
        """The number of pairs without padding."""
        return int(self.valid.sum())

    def chunks(self, pairs: int = CHUNK) -> Iterator["CandidateLists"]:
        """Yields the same lists, as many queries at a time as have ``pairs`` pairs, at least one."""
        for chunk in _slices(len(self.queries), self.length, pairs):
            yield CandidateLists(self.queries[chunk], self.candidates[chunk], self.relevant[chunk], self.direction, self.seed, self.sha256,
                                 self.protocol)


@dataclass(frozen=True)
class Gallery:
    """Lists of queries that share L candidates, none of them padding, too many for a table; otherwise as CandidateLists.

    queries i64[Q], gallery i64[L]: rows of the records; right: a slice of the queries -> bool[q, L].
    """

    queries: np.ndarray
    gallery: np.ndarray
    right: Callable[[slice], np.ndarray]
    direction: str
    seed: int
    sha256: str
    protocol: str

    @property
    def length(self) -> int:
        return len(self.gallery)

    @property
    def num_pairs(self) -> int:
        return len(self.queries) * self.length

    def chunks(self, pairs: int = CHUNK) -> Iterator[CandidateLists]:
        for chunk in _slices(len(self.queries), self.length, pairs):
            queries = self.queries[chunk]
            yield CandidateLists(queries, np.broadcast_to(self.gallery, (len(queries), self.length)), self.right(chunk), self.direction,
                                 self.seed, self.sha256, self.protocol)

    @property
    def candidates(self) -> np.ndarray:
        """i64[Q, L]. Raises UserError where that is more than MAX_PAIRS."""
        return self._whole.candidates

    @property
    def relevant(self) -> np.ndarray:
        return self._whole.relevant

    @property
    def valid(self) -> np.ndarray:
        return self._whole.valid

    @property
    def _whole(self) -> CandidateLists:
        if self.num_pairs > MAX_PAIRS:
            raise UserError(f"{len(self.queries):,} queries times {self.length:,} candidates are too many for one table", "candidate lists",
                            f"at most {MAX_PAIRS:,} pairs", "go through them with chunks()")
        return next(self.chunks(self.num_pairs))


def _slices(queries: int, length: int, pairs: int) -> Iterator[slice]:
    step = max(1, pairs // max(1, length))
    return (slice(start, min(start + step, queries)) for start in range(0, queries, step))


class Pool:
    """N records in the order of their ids, so that their order on disk does not matter; products and texts are numbers."""

    def __init__(self, ids: Sequence[str], products: Sequence[str], groups: Sequence[str], subcategories: Sequence[str],
                 texts: Sequence[str]):
        self.rows = np.array(sorted(range(len(ids)), key=lambda row: ids[row]), np.int64)
        self.texts = self._codes(texts)
        self.products, group_codes = self._codes(products), self._codes(groups)
        self.num_products = int(self.products.max(initial=-1)) + 1
        self.by_product = np.argsort(self.products, kind="stable")  # the views of a product lie side by side
        self.num_views = np.bincount(self.products, minlength=self.num_products)
        self.first_view = np.cumsum(self.num_views) - self.num_views
        self.subcategory = self._codes(subcategories)[self.by_product[self.first_view]]  # [products]
        self.groups_of: list[set[int]] = [set() for _ in range(self.num_products)]
        self.products_of: dict[int, set[int]] = {group: set() for group in group_codes.tolist()}
        for product, group in zip(self.products.tolist(), group_codes.tolist()):
            self.groups_of[product].add(group)
            self.products_of[group].add(product)

    def queries(self, protocol: Protocol, max_queries: int, rng: np.random.Generator) -> Iterator[int]:
        """Yields up to ``max_queries`` records; the record of a product is drawn when its turn comes."""
        if protocol.queries == "items":
            yield from rng.permutation(len(self.rows))[:max_queries].tolist()
        else:
            for product in rng.permutation(self.num_products)[:max_queries]:
                yield int(self.draw_views(np.array([product]), rng)[0])

    def right(self, protocol: Protocol, query: int, direction: str, rng: np.random.Generator) -> int:
        """Returns the right record: the query's own, or for a text any of its product's pictures with that text."""
        if direction == "i2t" or protocol.queries == "items":
            return query
        return int(rng.choice(self.same_text_views(query)))

    def others(self, protocol: Protocol, query: int, count: int, rng: np.random.Generator) -> np.ndarray:
        """Returns up to ``count`` records of other products, those of the query's subcategory first."""
        product = int(self.products[query])
        if protocol.others == "products":
            return self.draw_views(self.draw_others(product, count, rng, protocol.groups, protocol.fill), rng)
        order = rng.permutation(len(self.rows))
        order = order[~self._barred(product, protocol.groups)[self.products[order]]]
        return self._same_first(order, self.subcategory[self.products[order]] == self.subcategory[product], protocol.fill)[:count]

    def gallery(self, direction: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns (queries i64[Q], candidates i64[L] of every query): every picture against every different text, by its first record."""
        _, first = np.unique(self.texts, return_index=True)
        pictures = np.arange(len(self.rows))
        return (pictures, first) if direction == "i2t" else (first, pictures)

    def right_in_gallery(self, direction: str, chunk: slice) -> np.ndarray:
        """Returns bool[q, L] of a slice of the gallery's queries.

        The right answer of a picture is the text equal to its own; those of a text are all views of the products that have it.
        """
        codes = np.arange(self.texts.max() + 1)  # the texts in the order in which the gallery has them
        if direction == "i2t":
            return self.texts[chunk][:, None] == codes
        owns = np.zeros((len(codes[chunk]), self.num_products), bool)
        rows = np.flatnonzero((self.texts >= chunk.start) & (self.texts < chunk.stop))
        owns[self.texts[rows] - chunk.start, self.products[rows]] = True
        return owns[:, self.products]

    def views(self, product: int) -> np.ndarray:
        """Returns all records of a product."""
        start = self.first_view[product]
        return self.by_product[start:start + self.num_views[product]]

    def same_text_views(self, record: int) -> np.ndarray:
        """Returns the records of the same product with the same text, this one included."""
        views = self.views(self.products[record])
        return views[self.texts[views] == self.texts[record]]

    def draw_views(self, products: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draws one record for each of the products."""
        return self.by_product[self.first_view[products] + rng.integers(self.num_views[products])]

    def draw_others(self, product: int, count: int, rng: np.random.Generator, groups: bool, fill: bool) -> np.ndarray:
        """Draws up to ``count`` other products, as many of its subcategory as there are; groups, fill: as of a Protocol."""
        order = rng.permutation(self.num_products)
        order = order[~self._barred(product, groups)[order]]
        return self._same_first(order, self.subcategory[order] == self.subcategory[product], fill)[:count]

    @staticmethod
    def _same_first(order: np.ndarray, same: np.ndarray, fill: bool) -> np.ndarray:
        return order[np.argsort(~same, kind="stable")] if fill else order[same]

    def _barred(self, product: int, groups: bool) -> np.ndarray:
        """Returns bool[products]: the product, and those of its groups where ``groups``."""
        barred = np.zeros(self.num_products, bool)
        barred[product] = True
        for group in self.groups_of[product] if groups else ():
            barred[list(self.products_of[group])] = True
        return barred

    def _codes(self, values: Sequence[str]) -> np.ndarray:
        """Numbers values, i64 in the order of ``rows``: equal values have equal numbers, which follow the sorted values."""
        numbers = {value: number for number, value in enumerate(sorted(set(values)))}
        return np.array([numbers[values[row]] for row in self.rows], np.int64)


@dataclass(frozen=True)
class Records:
    """The records from which lists are drawn, pictures with their texts; all sequences have one length.

    ids: unique, of the picture and its text. products: of each picture. groups: of products that are not independent. A product has one
    subcategory, that of its first record in the order of the ids. texts: compared by ``normalise``; an empty one equals those of its own
    product alone.
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


def normalise(text: str) -> str:
    """Returns the form in which texts are compared: lower case, blanks collapsed.

    >>> normalise("  Red  Silk\\tTie ")
    'red silk tie'
    """
    return " ".join(text.lower().split())


def build(records: Records, direction: str, seed: int, max_queries: int = MAX_QUERIES,
          length: int = LIST_LENGTH, protocol: Protocol = PROTOCOLS["kaleido"]) -> CandidateLists | Gallery:
    """Draws the lists, which depend on the records (in any order), the direction, the seed and the protocol alone.

    Queries are up to max_queries distinct products, each with one of its records at random. A candidate product has one of its records at
    random; the right picture of a text is any of the product's pictures with that text. The list is in random order, so that neither the
    right candidate nor the subcategory can be guessed from the position. relevant: the right one, and every candidate whose text equals its
    text. Lists are shorter, and padded, where there are too few other products; ``summary`` counts them. Other protocols differ as their
    rows say; the full gallery takes every query and candidate, whatever max_queries and length are. Raises UserError for an unknown
    direction, fewer than two products, and a protocol whose lists are shipped.
    """
    if direction not in DIRECTIONS:
        raise UserError(f"unknown direction {direction!r}", "candidate lists", f"one of {', '.join(DIRECTIONS)}")
    if protocol.shipped:
        raise UserError(f"the lists of {protocol.name!r} are shipped, not drawn", "candidate lists", "a file of them",
                        "give it as candidates=FILE")
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, DIRECTIONS.index(direction)])))
    # a missing text equals no other: a record without one is right for the pictures of its own product alone
    texts = [normalise(text) or f" {product}" for text, product in zip(records.texts, records.products)]
    pool = Pool(records.ids, records.products, records.groups, records.subcategories, texts)
    if pool.num_products < 2:
        raise UserError(f"{pool.num_products} products", "candidate lists", "at least two")
    if protocol.others == "all":
        every_query, every_candidate = pool.gallery(direction)
        right = partial(pool.right_in_gallery, direction)
        lists: CandidateLists | Gallery = Gallery(pool.rows[every_query], pool.rows[every_candidate], right, direction,
                                                         seed, "", protocol.name)
    else:
        queries, candidates, relevant = _draw(pool, direction, protocol, rng, max_queries, length)
        lists = CandidateLists(queries, candidates, relevant, direction, seed, "", protocol.name)
    return replace(lists, sha256=_digest(_head(lists), _lines(lists, records.ids)))


def part_of_gallery(lists: Gallery, chosen: np.ndarray, ids: Sequence[str]) -> CandidateLists:
    """Returns lists of some candidates of each query of a gallery: chosen i64[Q, L], columns of it. No right one need be among them."""
    start, relevant = 0, []
    for chunk in lists.chunks():
        relevant.append(np.take_along_axis(chunk.relevant, chosen[start : start + len(chunk.queries)], axis=1))
        start += len(chunk.queries)
    short = CandidateLists(lists.queries, lists.gallery[chosen], np.concatenate(relevant), lists.direction, lists.seed, "", lists.protocol)
    return replace(short, sha256=_digest(_head(short), _lines(short, ids)))


def _draw(pool: Pool, direction: str, protocol: Protocol, rng: np.random.Generator, max_queries: int,
          length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (queries, candidates, relevant) as of CandidateLists."""
    lists = []
    for query in pool.queries(protocol, max_queries, rng):
        right = pool.right(protocol, query, direction, rng)
        row = np.append(pool.others(protocol, query, length - 1, rng), right)
        row = rng.permutation(row) if protocol.right == "anywhere" else row
        lists.append((query, row))
    queries, candidates = np.array([query for query, _ in lists]), np.full((len(lists), length), PADDING, np.int64)
    for i, (_, row) in enumerate(lists):
        candidates[i, :len(row)] = row
    relevant = (pool.texts[candidates] == pool.texts[queries][:, None]) & (candidates != PADDING)
    return pool.rows[queries], np.where(candidates == PADDING, PADDING, pool.rows[candidates]), relevant


def summary(lists: CandidateLists | Gallery, records: Records) -> dict[str, Any]:
    """Describes lists beside a result: sizes, short lists, queries with several right candidates.

    share_same_subcategory: of the candidates that are other products than the query's, the fraction of its subcategory, the mean over
    queries; share_all_same_subcategory: the fraction of queries whose others are all so. Both are None where no query has a subcategory and
    others.
    """
    named, codes = np.unique(np.asarray(records.subcategories), return_inverse=True)
    products = np.unique(np.asarray(records.products), return_inverse=True)[1]
    counted = []
    for chunk in lists.chunks():
        others = (products[chunk.candidates] != products[chunk.queries][:, None]) & chunk.valid
        same = (codes[chunk.candidates] == codes[chunk.queries][:, None]) & others
        countable = others.any(axis=1) & (named[codes[chunk.queries]] != "")
        fractions = np.where(countable, same.sum(axis=1) / np.maximum(others.sum(axis=1), 1), np.nan)
        counted.append((chunk.valid.sum(axis=1), chunk.relevant.sum(axis=1) > 1, fractions))
    lengths, several, fractions = (np.concatenate(values) for values in zip(*counted))
    fractions = fractions[~np.isnan(fractions)]
    return {
        "direction": lists.direction, "seed": lists.seed, "sha256": lists.sha256, "queries": len(lists.queries),
        "list_length": lists.length, "short_lists": int((lengths < lists.length).sum()),
        "shortest_list": int(lengths.min()), "share_several_right": float(several.mean()),
        "share_same_subcategory": float(fractions.mean()) if len(fractions) else None,
        "share_all_same_subcategory": float((fractions == 1).mean()) if len(fractions) else None,
    }


def save(lists: CandidateLists | Gallery, ids: Sequence[str], path: str | Path) -> None:
    """Writes JSONL: a head with direction, seed and SHA-256, then per query {"query": id, "candidates": [ids], "relevant": [positions of
    the right ones]}. ids: of the records that the lists were built from. Raises UserError for other ids.
    """
    head = _head(lists)
    digest = _digest(head, _lines(lists, ids))
    if digest != lists.sha256:
        raise UserError("the ids are not those of the records that the lists were drawn from", str(path),
                        "the same ids, row by row")
    with io.atomic(path) as file:
        for line in chain([json.dumps(head | {"sha256": digest})], _lines(lists, ids)):
            file.write(line.encode("utf-8") + b"\n")


@dataclass(frozen=True)
class SavedLists:
    """The content of a file of lists: ids, not rows. candidates: at most L for each of Q queries; relevant: positions of the right ones."""

    queries: list[str]
    candidates: list[list[str]]
    relevant: list[list[int]]
    direction: str
    seed: int
    length: int
    protocol: str
    sha256: str


def read(path: str | Path) -> SavedLists:
    """Reads what ``save`` writes. Raises UserError where the file is missing, of another format, or changed since it was saved."""
    where = str(path)
    try:
        first, *lines = Path(path).read_text(encoding="utf-8").removesuffix("\n").split("\n")
        head = json.loads(first)
        file_format, sha256 = head.pop("format"), head.pop("sha256")
        entries = [json.loads(line) for line in lines]
        lists = SavedLists([entry["query"] for entry in entries], [entry["candidates"] for entry in entries],
                           [entry["relevant"] for entry in entries], head["direction"], head["seed"], head["length"],
                           head.get("protocol", "kaleido"), sha256)
    except FileNotFoundError:
        raise UserError("there is no such file", where, fix="build the candidate lists first") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"not a file of candidate lists ({error!r})", where, f"JSONL as {FORMAT!r}") from error
    if file_format != FORMAT:
        raise UserError(f"the format is {file_format!r}", where, repr(FORMAT))
    if _digest({"format": file_format} | head, lines) != sha256:
        raise UserError("the lists are not those that were saved: the SHA-256 differs", where, sha256,
                        "restore the file, or build the lists again and evaluate every model anew")
    protocol_of(lists.protocol)
    return lists


def load(path: str | Path, ids: Sequence[str]) -> CandidateLists:
    """Reads the lists of a file as rows. ids: of the records, in any order; the lists need not name all of them.

    Raises UserError as ``read``, and where the lists name an id that is not among the ids.
    """
    saved, rows = read(path), _rows(ids)
    unknown = sorted({name for query, row in zip(saved.queries, saved.candidates) for name in (query, *row)} - set(rows))
    if unknown:
        raise UserError(f"{len(unknown)} ids are not among the records, the first is {unknown[0]!r}", str(path),
                        "the records that the lists were built from", "use the same data and split, or build new lists")
    shape = len(saved.queries), saved.length
    candidates, relevant = np.full(shape, PADDING, np.int64), np.zeros(shape, bool)
    for i, (row, positions) in enumerate(zip(saved.candidates, saved.relevant)):
        candidates[i, :len(row)], relevant[i, positions] = [rows[name] for name in row], True
    queries = np.array([rows[name] for name in saved.queries], np.int64)
    return CandidateLists(queries, candidates, relevant, saved.direction, saved.seed, saved.sha256, saved.protocol)


def _rows(ids: Sequence[str]) -> dict[str, int]:
    rows = {name: row for row, name in enumerate(ids)}
    if len(rows) < len(ids):
        twice = next(name for row, name in enumerate(ids) if rows[name] != row)
        raise UserError(f"the id {twice!r} occurs more than once", "retrieval records", "unique ids")
    return rows


def _head(lists: CandidateLists | Gallery) -> dict[str, Any]:
    named = {} if lists.protocol == "kaleido" else {"protocol": lists.protocol}  # older files have no such key, and a hash of theirs
    return {"format": FORMAT, "direction": lists.direction, "seed": lists.seed, "queries": len(lists.queries),
            "length": lists.length} | named


def _lines(lists: CandidateLists | Gallery, ids: Sequence[str]) -> Iterator[str]:
    """Yields one line of JSON per query."""
    for chunk in lists.chunks():
        for query, row_list, right in zip(chunk.queries.tolist(), chunk.candidates.tolist(), chunk.relevant):
            yield json.dumps({"query": ids[query], "candidates": [ids[row] for row in row_list if row != PADDING],
                              "relevant": np.flatnonzero(right).tolist()}, ensure_ascii=False)


def _digest(head: dict[str, Any], lines: Iterable[str]) -> str:
    digest = hashlib.sha256(json.dumps(head).encode("utf-8"))
    for line in lines:
        digest.update(f"\n{line}".encode())
    return digest.hexdigest()
