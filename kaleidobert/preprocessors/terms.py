"""Terms: what word presence looks for in a picture (ours): the content words of its text, and pairs of them that stand side by side.

"flap pockets" says more exactly than "pockets" what has to be seen, and where it is seen "pockets" are. Singular and plural are one term.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kaleidobert.preprocessors import alignment_generator


class Term(NamedTuple):
    """A term of a text, and the numbers of the words that it consists of."""

    name: str
    words: tuple[int, ...]


def terms(words: Sequence[str]) -> list[Term]:
    """Returns the terms of a text, one for every occurrence: its content words, then its pairs.

    >>> [term.name for term in terms(["Flap", "pockets", "at", "waist", "."])]
    ['flap', 'pocket', 'waist', 'flap pocket']
    """
    content, names = alignment_generator.content(words), [singular(word.lower()) for word in words]
    single = [Term(names[number], (number,)) for number in np.flatnonzero(content).tolist()]
    pairs = np.flatnonzero(content[:-1] & content[1:]).tolist()
    return single + [Term(f"{names[number]} {names[number + 1]}", (number, number + 1)) for number in pairs]


def singular(word: str) -> str:
    """Returns a word without the s of its plural; it is a key, and need be no word.

    >>> [singular(word) for word in ("pockets", "dress", "bus", "laces")]
    ['pocket', 'dress', 'bus', 'lace']
    """
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
