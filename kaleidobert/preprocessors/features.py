"""From pictures to rows of the feature bank: cut, make every view, encode many pictures in one batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kaleidobert.errors import UserError
from kaleidobert.levels import KaleidoLevel
from kaleidobert.preprocessors import foreground, patches, pretexts

Encode = Callable[[np.ndarray], np.ndarray]  # uint8[N, s, s, 3] -> f32[N, F]


@dataclass(frozen=True)
class Cut:
    """One picture ready for the encoder: views uint8[V, s, s, 3], boxes f32[P, 5], the foreground's box and fallback note."""

    views: np.ndarray
    boxes: np.ndarray
    box: foreground.Box
    fallback: str


def cut(image: np.ndarray, found: foreground.Foreground, levels: Sequence[KaleidoLevel], size: int) -> Cut:
    """Cut uint8[h, w, 3] at its foreground; UserError where the picture is smaller than the finest grid."""
    height, width = image.shape[:2]
    box = patches.enlarge(found.box, width, height, levels)
    pieces = patches.cut(image, box, levels, size)
    return Cut(pretexts.all_views(levels, pieces), patches.boxes(box, width, height, levels), box, found.fallback)


def encode(cuts: Sequence[Cut], encoder: Encode) -> tuple[np.ndarray, list[str]]:
    """f16[len(cuts), V, F] and for each picture "" or why its features cannot be used (NaN, infinite, too large for float16)."""
    flat = np.concatenate([item.views for item in cuts])
    features = np.asarray(encoder(flat), np.float32)
    if features.shape[:1] != flat.shape[:1] or features.ndim != 2:
        raise UserError(f"the encoder returned {list(features.shape)}", "features", f"[{len(flat)}, F]")
    features = features.reshape(len(cuts), -1, features.shape[-1])
    finite = np.isfinite(features).all((1, 2))
    small = (np.abs(np.nan_to_num(features)) <= np.finfo(np.float16).max).all((1, 2))
    faults = ["" if f and s else "the encoder returned a NaN or infinite feature" if not f else
              "a feature is too large for float16" for f, s in zip(finite, small)]
    return np.nan_to_num(features, posinf=0, neginf=0).clip(-65504, 65504).astype(np.float16), faults
