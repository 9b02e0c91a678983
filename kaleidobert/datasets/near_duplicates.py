"""Products that are not independent because their pictures are nearly the same or their texts are equal (ours).

Such products must not stand in train and in val: the evaluation would ask for what was trained on. Pictures are compared as thumbnails.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from PIL import Image

SIDE = 16  # of a thumbnail in pixels
DISTANCE = 6.0  # of 255, root mean square: a picture that was scaled or compressed again lies within 2, another colour of a thing within 6
CONTRAST = 0.1  # and this fraction of the thumbnails' own deviation: white things on white ground are near to all others
WAVES = ((1, 1, 1), 6), ((1, 0, -1), 3), ((1, -2, 1), 3)  # colours, and how many frequencies of each tell most pictures apart
ROWS, COLUMNS = 256, 4096  # pictures that are compared with others at a time
SHARED = 30  # pictures of others: one that more are like stands for none of them, such as "no picture yet"
COMMON = 8  # products with one text from which on it says what a product is, not which


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Returns uint8[768]: a picture uint8[h, w, 3] as 16 x 16 pixels."""
    small = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small).ravel()


def alike(thumbnails: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pairs (i, j), i < j, of thumbnails uint8[N, 768] of different owners i64[N] that are nearly the same picture, i64[M, 2];
    and the places i64[S] of pictures that more than SHARED of other owners are like, which are in no pair."""
    compared = _compared(thumbnails, owners)
    pairs, counts = _near(thumbnails[compared], owners[compared])
    shared = np.ones(len(thumbnails), bool)
    shared[compared] = counts > SHARED
    every = compared[pairs[~(counts > SHARED)[pairs].any(1)]]
    return every[np.lexsort(every.T[::-1])], np.flatnonzero(shared)


def _compared(thumbnails: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Returns the places i64[K] of the thumbnails to compare: of one that more than SHARED + 1 owners have, those of so many that each of
    them is like more than SHARED others; all the rest of it are so, too."""
    same: dict[bytes, list[int]] = defaultdict(list)
    for place, thumbnail_ in enumerate(np.ascontiguousarray(thumbnails)):
        same[hashlib.blake2b(thumbnail_.data, digest_size=16).digest()].append(place)
    compared: list[int] = []
    for places in same.values():
        first = {owners[place]: place for place in reversed(places)} if len(places) > SHARED + 1 else {}
        compared += sorted(first.values())[: SHARED + 2] if len(first) > SHARED + 1 else places
    return np.sort(np.array(compared, np.int64))


def _near(pictures: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the near pairs i64[M, 2] of pictures uint8[N, 768], and of how many others each is near, i64[N]; of those that are near more
    than SHARED not all pairs, and not all of the number.

    No two pictures are nearer than they are along some axes. So they are sorted along the one in which they differ most, compared with
    those that follow within reach along the others, and what is near there is looked at.
    """
    coordinates, deviations = _projected(pictures)
    longest = int(coordinates.var(0).argmax())
    order = np.argsort(coordinates[:, longest], kind="stable")
    pictures, owners, coordinates, size = pictures[order], owners[order], coordinates[order], pictures.shape[1]
    squares = (coordinates**2).sum(1, keepdims=True)
    limits = size * np.minimum(DISTANCE, CONTRAST * deviations[order]) ** 2 + 1e-2 * size  # rounding of float32
    slack = 1e-5 * squares.max(initial=0) + 1e-3 * limits  # the same, of what is projected
    ends = np.searchsorted(coordinates[:, longest], coordinates[:, longest] + np.sqrt(limits + slack), "right")
    left = np.hstack([-2 * coordinates, np.ones_like(squares), squares])  # left @ right.T = squared distances
    right = np.hstack([coordinates, squares, np.ones_like(squares)])
    counts, pairs = np.zeros(len(pictures), np.int64), [np.zeros((0, 2), np.int64)]
    for start in range(0, len(pictures), ROWS):
        rows = slice(start, start + ROWS)
        for first in range(start, ends[rows].max(), COLUMNS):
            i, j = np.nonzero(left[rows] @ right[first : first + COLUMNS].T <= (limits + slack)[rows, None])
            i, j = i + start, j + first
            # what both have too much of changes nothing: so ten thousand of one kind are not all compared with each other
            some = (i < j) & (owners[i] != owners[j]) & ((counts[i] <= SHARED) | (counts[j] <= SHARED))
            found = _close(pictures, limits, np.stack([i[some], j[some]], 1))
            pairs.append(found[(counts[found] <= SHARED).all(1)])  # one with more is in none in the end
            counts += np.bincount(found.ravel(), minlength=len(counts))
    by_place = np.empty_like(counts)
    by_place[order] = counts
    return np.sort(order[np.concatenate(pairs)], 1), by_place


def _projected(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pictures along A axes around their mean, f32[N, A], and the deviation of each one's pixels, f32[N]."""
    axes = _axes()
    blocks = (pictures[start : start + COLUMNS].astype(np.float32) for start in range(0, len(pictures), COLUMNS))
    coordinates, deviations = map(np.concatenate, zip(*((block @ axes, block.std(1)) for block in blocks)))
    return coordinates - coordinates.mean(0), deviations


def _axes() -> np.ndarray:
    """Returns orthogonal directions of length 1, f32[768, A]: the slowest waves of a cosine transform, most of them of grey."""
    places, frequencies = np.arange(SIDE) + 0.5, np.arange(SIDE)[:, None]
    waves = np.cos(np.pi / SIDE * places * frequencies) * np.where(frequencies, np.sqrt(2 / SIDE), np.sqrt(1 / SIDE))
    return np.stack([np.einsum("i,j,c->ijc", waves[u], waves[v], np.array(colour) / np.linalg.norm(colour)).ravel()
                     for colour, count in WAVES for u in range(count) for v in range(count - u)], 1).astype(np.float32)


def _close(pictures: np.ndarray, limits: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Returns those of the pairs i64[M, 2] whose pictures lie within the limits of both."""
    near = [np.zeros(0, bool)]
    for start in range(0, len(pairs), COLUMNS):
        i, j = pairs[start : start + COLUMNS].T
        apart = pictures[i].astype(np.float32) - pictures[j]
        near.append(np.einsum("ij,ij->i", apart, apart) <= np.minimum(limits[i], limits[j]))
    return pairs[np.concatenate(near)]


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
