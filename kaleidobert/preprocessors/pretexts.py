"""The pretexts: rotate, shuffle, camouflage, grey, blank (paper, section 3.3), and none, as pixels and as indices.

Pixels: ``views`` makes every picture that a level can ever need, once, before the encoder. Indices: ``spoil`` chooses, anew for
every example, which stored vector stands in which slot. Boxes belong to slots and are never moved.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import permutations

import numpy as np

from kaleidobert.levels import KaleidoLevel


def views(level: KaleidoLevel, patches: np.ndarray) -> np.ndarray:
    """Returns all views of patches uint8[n, s, s, 3], uint8[V, n, s, s, 3]; view 0 is the untouched patch."""
    return SPOILING[level.pretext].views(patches)


def grey(pixels: np.ndarray) -> np.ndarray:
    """Returns the ITU-R 601 luminance of uint8[..., 3], repeated on the three channels."""
    luminance = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.repeat(np.rint(luminance).astype(np.uint8)[..., None], 3, axis=-1)


def blank(features: np.ndarray, patches: np.ndarray) -> np.ndarray:
    """Returns features [B, n, F] with the patches i32[B, k] set to zero; an id that occurs twice NEGATES its feature, as released."""
    count = np.zeros(features.shape[:2], features.dtype)
    np.add.at(count, (np.arange(len(patches))[:, None], patches), 1)
    return features * (1 - count)[..., None]


@lru_cache
def orders(count: int) -> np.ndarray:
    """Returns i16[count!, count], all permutations in lexicographic order; row = the jigsaw label.

    >>> orders(3)[:3].tolist()
    [[0, 1, 2], [0, 2, 1], [1, 0, 2]]
    """
    return np.array(list(permutations(range(count))), np.int16)


@dataclass(frozen=True)
class Spoiled:
    """Which stored vector of the level stands in which slot, for a batch of B examples.

    vectors i64[B, n]: index into the level's stored vectors (view-major). from_donor, zeroed: bool[B, n], slots filled from the
    donor or set to zero. answer i32[B]: the class; None where the answer is the original feature of the masked patches, or where
    there is no target.
    """

    vectors: np.ndarray
    from_donor: np.ndarray
    zeroed: np.ndarray
    answer: np.ndarray | None = None

    def chunk(self, rows: slice) -> "Spoiled":
        """Returns the same of some rows of the batch."""
        answer = None if self.answer is None else self.answer[rows]
        return Spoiled(self.vectors[rows], self.from_donor[rows], self.zeroed[rows], answer)


def untouched(level: KaleidoLevel, batch: int) -> Spoiled:
    """Returns the patches as they are, every slot with its own: the pretext none, fine-tuning and prediction."""
    slots = np.tile(np.arange(level.num_patches), (batch, 1))
    none = np.zeros(slots.shape, bool)
    return Spoiled(slots, none, none)


def spoil(level: KaleidoLevel, masked: np.ndarray, rng: np.random.Generator) -> Spoiled:
    """Spoils a level for B examples; masked i32[B, k]: the patches of the level that the mask plan chose."""
    return SPOILING[level.pretext].spoil(level, masked, rng)


def turns(patches: np.ndarray) -> np.ndarray:
    """Returns four views; view k is turned counter-clockwise by k quarter turns."""
    return np.stack([np.rot90(patches, k, axes=(1, 2)) for k in range(4)])


def show_view(level: KaleidoLevel, masked: np.ndarray, rng: np.random.Generator) -> Spoiled:
    """Shows in all slots the view that the label names, drawn evenly; for rotate label k = k quarter turns."""
    base, label = untouched(level, len(masked)), rng.integers(level.num_classes, size=len(masked))
    return replace(base, vectors=base.vectors + label[:, None] * level.num_patches, answer=label.astype(np.int32))


def shuffle(level: KaleidoLevel, masked: np.ndarray, rng: np.random.Generator) -> Spoiled:
    """Shows patch perm[i] in slot i; label = the index of perm in lexicographic order, drawn evenly."""
    label = rng.integers(level.num_classes, size=len(masked))
    order = orders(level.num_patches)[label].astype(np.int64)
    return replace(untouched(level, len(masked)), vectors=order, answer=label.astype(np.int32))


def camouflage(level: KaleidoLevel, masked: np.ndarray, rng: np.random.Generator) -> Spoiled:
    """Shows one of the donor's patches, drawn evenly, in the masked slot; label = the slot."""
    base, chosen = untouched(level, len(masked)), _chosen(level, masked)
    patch = rng.integers(level.num_patches, size=len(masked))
    return replace(base, vectors=np.where(chosen, patch[:, None], base.vectors), from_donor=chosen, answer=masked[:, 0].astype(np.int32))


def show_grey(level: KaleidoLevel, masked: np.ndarray, rng: np.random.Generator) -> Spoiled:
    """Shows the grey view in the masked slots."""
    base = untouched(level, len(masked))
    return replace(base, vectors=base.vectors + _chosen(level, masked) * level.num_patches)


def show_blank(level: KaleidoLevel, masked: np.ndarray, rng: np.random.Generator) -> Spoiled:
    """Sets the masked slots to zero."""
    return replace(untouched(level, len(masked)), zeroed=_chosen(level, masked))


def _chosen(level: KaleidoLevel, masked: np.ndarray) -> np.ndarray:
    """Returns bool[B, n]: which slots of the level are masked."""
    chosen = np.zeros((len(masked), level.num_patches), bool)
    np.put_along_axis(chosen, masked.astype(np.int64), True, axis=1)
    return chosen


@dataclass(frozen=True)
class Spoiling:
    """What a pretext does, a row of SPOILING.

    views: patches uint8[n, s, s, 3] -> uint8[V, n, s, s, 3], V as levels.PRETEXTS says, view 0 untouched. spoil: (level, masked i32[B, k],
    generator) -> Spoiled. class_name: (level, class) -> the class in words.
    """

    views: Callable[[np.ndarray], np.ndarray]
    spoil: Callable[[KaleidoLevel, np.ndarray, np.random.Generator], Spoiled]
    class_name: Callable[[KaleidoLevel, int], str] = lambda level, label: f"class {label}"


def _only_untouched(patches: np.ndarray) -> np.ndarray:
    return patches[None]


# by the names of levels.PRETEXTS, which says what is to be predicted of each
SPOILING: dict[str, Spoiling] = {
    "rotate": Spoiling(turns, show_view, lambda level, label: f"by {90 * label}° to the left" if label else "not at all"),
    "shuffle": Spoiling(_only_untouched, shuffle,
                        lambda level, label: " ".join(str(patch + 1) for patch in orders(level.num_patches)[label])),
    "camouflage": Spoiling(_only_untouched, camouflage, lambda level, label: f"patch {label + 1}"),
    "grey": Spoiling(lambda patches: np.stack([patches, grey(patches)]), show_grey),
    "blank": Spoiling(_only_untouched, show_blank),
    "none": Spoiling(_only_untouched, lambda level, masked, rng: untouched(level, len(masked))),
}


def all_views(levels: Sequence[KaleidoLevel], patches: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Returns V views uint8[s, s, 3], each of its level's size, in the order in which the bank stores their vectors."""
    return [view for level in levels for view in views(level, patches[level.name]).reshape(-1, *patches[level.name].shape[1:])]
