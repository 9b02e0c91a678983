"""The ways in which public code draws "1,000 queries x 101 candidates", and the full gallery, as data.

Each row says what public code does with its lists; how candidates.py draws them follows from it. Ours is ``kaleido``. Rank@K of
different rows is not comparable: fewer rows, filled rows and several views of one product all change what chance gives.
"""

from dataclasses import dataclass
from typing import Literal

from kaleidobert.errors import UserError


@dataclass(frozen=True)
class Protocol:
    """How lists are drawn.

    queries: what is asked for: products (one record each), items (any records), all (every picture, every text once).
    others: wrong candidates are distinct products, by one record each, or items of which several may be of one product.
    fill: where a subcategory has too few, others of any subcategory follow; False = the list is shorter.
    groups: products of the query's group (near-duplicates) are left out, not the query's product alone.
    right: where the right candidate stands. draws: lists are drawn so many times (seed, seed + 1, ...), results are averaged.
    shipped: the lists come from a file and are never drawn. counting: how the source breaks ties and which scores it ranks by,
    offered by counting.py on request only.
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


def named(name: str) -> Protocol:
    """The protocol of a name; UserError where there is none."""
    if name not in PROTOCOLS:
        raise UserError(f"unknown protocol {name!r}", "candidate lists", f"one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
