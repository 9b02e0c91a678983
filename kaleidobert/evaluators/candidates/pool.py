"""What candidate lists are drawn from, in an order of its own; the draws of every protocol. candidates.py makes lists of them."""

from collections.abc import Iterator, Sequence

import numpy as np

from kaleidobert.evaluators.candidates.protocols import Protocol


class Pool:
    """N records in the order of their ids, so that their order on disk does not matter; products as numbers, texts by ``texts``."""

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

    def queries(self, protocol: Protocol, most: int, rng: np.random.Generator) -> Iterator[int]:
        """Up to ``most`` records; the record of a product is drawn when it is asked for."""
        if protocol.queries == "items":
            yield from rng.permutation(len(self.rows))[:most].tolist()
        else:
            for product in rng.permutation(self.num_products)[:most]:
                yield int(self.draw_views(np.array([product]), rng)[0])

    def right(self, protocol: Protocol, query: int, direction: str, rng: np.random.Generator) -> int:
        """The record that answers: the query's own, or for a text any of its product's pictures with that text."""
        if direction == "i2t" or protocol.queries == "items":
            return query
        return int(rng.choice(self.same_text_views(query)))

    def others(self, protocol: Protocol, query: int, count: int, rng: np.random.Generator) -> np.ndarray:
        """Up to ``count`` records of other products, those of the query's subcategory first."""
        product = int(self.products[query])
        if protocol.others == "products":
            return self.draw_views(self.draw_others(product, count, rng, protocol.groups, protocol.fill), rng)
        order = rng.permutation(len(self.rows))
        order = order[~self._barred(product, protocol.groups)[self.products[order]]]
        return self._same_first(order, self.subcategory[self.products[order]] == self.subcategory[product], protocol.fill)[:count]

    def gallery(self, direction: str) -> tuple[np.ndarray, np.ndarray]:
        """(queries i64[Q], candidates i64[L] of every query): every picture against every different text, which stands for itself by
        its first record."""
        _, first = np.unique(self.texts, return_index=True)
        pictures = np.arange(len(self.rows))
        return (pictures, first) if direction == "i2t" else (first, pictures)

    def right_in_gallery(self, direction: str, part: slice) -> np.ndarray:
        """bool[q, L] of a part of the gallery's queries. A picture's right answer is the text equal to its own; those of a text are all
        views of the products that have it."""
        codes = np.arange(self.texts.max() + 1)  # the texts in the order in which the gallery has them
        if direction == "i2t":
            return self.texts[part][:, None] == codes
        owns = np.zeros((len(codes[part]), self.num_products), bool)
        asked = np.flatnonzero((self.texts >= part.start) & (self.texts < part.stop))
        owns[self.texts[asked] - part.start, self.products[asked]] = True
        return owns[:, self.products]

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

    def draw_others(self, product: int, count: int, rng: np.random.Generator, groups: bool, fill: bool) -> np.ndarray:
        """Up to count other products, as many of its subcategory as there are; groups, fill: as of a Protocol."""
        order = rng.permutation(self.num_products)
        order = order[~self._barred(product, groups)[order]]
        return self._same_first(order, self.subcategory[order] == self.subcategory[product], fill)[:count]

    @staticmethod
    def _same_first(order: np.ndarray, same: np.ndarray, fill: bool) -> np.ndarray:
        return order[np.argsort(~same, kind="stable")] if fill else order[same]

    def _barred(self, product: int, groups: bool) -> np.ndarray:
        """bool[products]: the product, and those of its groups where ``groups``."""
        barred = np.zeros(self.num_products, bool)
        barred[product] = True
        for group in self.groups_of[product] if groups else ():
            barred[list(self.products_of[group])] = True
        return barred

    def _codes(self, values: Sequence[str]) -> np.ndarray:
        """i64, in the order of ``rows``: equal values, equal numbers; the numbers follow the sorted values."""
        numbers = {value: number for number, value in enumerate(sorted(set(values)))}
        return np.array([numbers[values[row]] for row in self.rows], np.int64)
