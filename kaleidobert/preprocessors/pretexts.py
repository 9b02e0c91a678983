"""The pretexts: rotate, shuffle, camouflage, grey, blank (paper, section 3.3), and none, as pixels and as indices.

Pixels: ``views`` makes every picture that a level can ever need, once, before the encoder. Indices: ``spoil`` chooses, anew for
every example, which stored vector stands in which slot. Boxes belong to slots and are never moved.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

import numpy as np

from kaleidobert.levels import KaleidoLevel


def views(level: KaleidoLevel, patches: np.ndarray) -> np.ndarray:
    """uint8[V, n, s, s, 3] from patches uint8[n, s, s, 3]; view 0 is the untouched patch.

    rotate: view k is turned counter-clockwise by k quarter turns. grey: view 1 is the luminance on all three channels.
    """
    if level.pretext == "rotate":
        return np.stack([np.rot90(patches, k, axes=(1, 2)) for k in range(level.num_views)])
    if level.pretext == "grey":
        return np.stack([patches, grey(patches)])
    return patches[None]


def grey(pixels: np.ndarray) -> np.ndarray:
    """ITU-R 601 luminance of uint8[..., 3], repeated on the three channels."""
    luminance = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.repeat(np.rint(luminance).astype(np.uint8)[..., None], 3, axis=-1)


def blank(features: np.ndarray, patches: np.ndarray) -> np.ndarray:
    """Features [B, n, F] with the patches i32[B, k] set to zero; an id that occurs twice NEGATES its feature, as released."""
    count = np.zeros(features.shape[:2], features.dtype)
    np.add.at(count, (np.arange(len(patches))[:, None], patches), 1)
    return features * (1 - count)[..., None]


@lru_cache
def orders(count: int) -> np.ndarray:
    """i16[count!, count]: all permutations in lexicographic order; row = the jigsaw label.

    >>> orders(3)[:3].tolist()
    [[0, 1, 2], [0, 2, 1], [1, 0, 2]]
    """
    return np.array(list(permutations(range(count))), np.int16)


@dataclass(frozen=True)
class Spoiled:
    """Which stored vector of the level stands in which slot, for a batch of B examples.

    vectors i64[B, n]: index into the level's stored vectors (view-major). from_donor, zeroed: bool[B, n], slots filled from the
    donor or set to zero. answer i32[B]: the class; None where the answer is the original feature of the masked patches, or where
    nothing is asked.
    """

    vectors: np.ndarray
    from_donor: np.ndarray
    zeroed: np.ndarray
    answer: np.ndarray | None = None

    def part(self, part: slice) -> "Spoiled":
        """Of a part of the batch."""
        answer = None if self.answer is None else self.answer[part]
        return Spoiled(self.vectors[part], self.from_donor[part], self.zeroed[part], answer)


def untouched(level: KaleidoLevel, batch: int) -> Spoiled:
    """Every slot shows its own patch: the pretext none, fine-tuning and prediction."""
    slots = np.tile(np.arange(level.num_patches), (batch, 1))
    none = np.zeros(slots.shape, bool)
    return Spoiled(slots, none, none)


def spoil(level: KaleidoLevel, masked: np.ndarray, rng: np.random.Generator) -> Spoiled:
    """Spoil a level for B examples; masked i32[B, k]: the patches of the level that the mask plan chose.

    rotate: label k = k quarter turns counter-clockwise. shuffle: slot i shows patch perm[i], label = index of perm in
    lexicographic order. camouflage: the masked slot shows one of the donor's patches, drawn at random; label = the slot.
    grey: the masked slots show the grey view. blank: the masked slots are zero. none: every slot shows its own patch, and nothing is
    drawn.
    """
    batch, count = len(masked), level.num_patches
    base = untouched(level, batch)
    if level.pretext == "none":
        return base
    chosen = np.zeros((batch, count), bool)
    np.put_along_axis(chosen, masked.astype(np.int64), True, axis=1)
    if level.pretext == "rotate":
        label = rng.integers(level.num_classes, size=batch)
        return Spoiled(base.vectors + label[:, None] * count, base.from_donor, base.zeroed, label.astype(np.int32))
    if level.pretext == "shuffle":
        label = rng.integers(level.num_classes, size=batch)
        return Spoiled(orders(count)[label].astype(np.int64), base.from_donor, base.zeroed, label.astype(np.int32))
    if level.pretext == "camouflage":
        patch = rng.integers(count, size=batch)
        return Spoiled(np.where(chosen, patch[:, None], base.vectors), chosen, base.zeroed, masked[:, 0].astype(np.int32))
    if level.pretext == "grey":
        return Spoiled(base.vectors + chosen * count, base.from_donor, base.zeroed)
    return Spoiled(base.vectors, base.from_donor, chosen)


def all_views(levels: Sequence[KaleidoLevel], patches: dict[str, np.ndarray]) -> list[np.ndarray]:
    """V views uint8[s, s, 3], each of its level's size, in the order in which the bank stores their vectors."""
    return [view for level in levels for view in views(level, patches[level.name]).reshape(-1, *patches[level.name].shape[1:])]
