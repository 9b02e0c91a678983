"""Products that are not independent because their pictures are nearly the same or their texts are equal (ours).

Such products must not stand in train and in val: the evaluation would ask for what was trained on. Pictures are compared as thumbnails;
what is compared with what grows with the square of their number, a second for 6,500 and minutes for 100,000 pictures.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from PIL import Image

SIDE = 16  # of a thumbnail in pixels
DISTANCE = 6.0  # of 255, root mean square: a picture that was scaled or compressed again lies within 2, another colour of a thing within 6
CONTRAST = 0.1  # and this fraction of the thumbnails' own deviation: white things on white ground are near to all others
BLOCK = 1024  # pictures compared with all others at a time
SHARED = 30  # pictures of others: one that more are like stands for none of them, such as "no picture yet"
COMMON = 8  # products with one text from which on it says what a product is, not which


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Returns f32[768]: a picture uint8[h, w, 3] as 16 x 16 pixels."""
    small = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float32).ravel()


def alike(thumbnails: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pairs (i, j), i < j, of thumbnails f32[N, 768] of different owners i64[N] that are nearly the same picture, i64[M, 2];
    and the places i64[S] of pictures that more than SHARED of other owners are like, which are in no pair."""
    size = thumbnails.shape[1]
    centred = thumbnails.astype(np.float32) - 128
    squares, deviations = (centred**2).sum(1), centred.std(1)
    counts, before, pairs = np.zeros(len(centred), np.int64), np.zeros(len(centred), np.int64), [np.zeros((0, 2), np.int64)]
    for start in range(0, len(centred), BLOCK):
        rows = slice(start, start + BLOCK)
        distances = squares[rows, None] + squares[None, start:] - 2 * centred[rows] @ centred[start:].T
        least = np.minimum(deviations[rows, None], deviations[None, start:])
        near = distances <= size * np.minimum(DISTANCE, CONTRAST * least) ** 2 + 1e-2 * size  # rounding of float32
        near = np.triu(near & (owners[rows, None] != owners[None, start:]), 1)
        kept = near & (near.cumsum(0, dtype=np.int16) + before[start:] <= SHARED)  # one with more pairs is in none in the end
        pairs.append(np.argwhere(kept) + start)
        counts[rows] += near.sum(1)
        counts[start:] += near.sum(0)
        before[start:] += near.sum(0)
    every, shared = np.concatenate(pairs), counts > SHARED
    return every[~shared[every].any(1)], np.flatnonzero(shared)


def same_texts(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yields pairs of places with equal texts, but for case and punctuation; of a text that very many have none.

    >>> list(same_texts(["Red dress.", "blue dress", "red  DRESS"]))
    [(0, 2)]
    """
    places: dict[str, list[int]] = defaultdict(list)
    for place, text in enumerate(texts):
        places[" ".join(re.findall(r"\w+", text.casefold()))].append(place)
    for key, same in places.items():
        if key and len(same) < COMMON:
            yield from ((same[0], other) for other in same[1:])


def joined(groups: Sequence[str], pairs: Iterable[tuple[int, int]]) -> dict[str, str]:
    """Returns {group: the group that it belongs to} of the groups that pairs of places join, which is the first of them.

    >>> joined(["a", "b", "c", "b"], [(0, 2), (2, 3)])
    {'b': 'a', 'c': 'a'}
    """
    order = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    parents: dict[str, str] = {}

    def root(group: str) -> str:
        while group in parents:
            group = parents[group]
        return group

    for i, j in pairs:
        one, other = sorted((root(groups[i]), root(groups[j])), key=order.__getitem__)
        if one != other:
            parents[other] = one
    return {group: root(group) for group in order if group in parents}


def across(splits: Sequence[str], pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Returns the pairs whose two places are in different splits."""
    return [(i, j) for i, j in pairs if splits[i] != splits[j]]
