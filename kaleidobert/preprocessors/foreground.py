"""Foreground: mask -> bounding box (paper, section 3.1: the product is cut out before it is split into patches).

The mask comes from colour distance to the border, which is good on shop pictures; any callable with the same signature can
take its place.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

Box = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels, x2 and y2 exclusive

MIN_SHARE = 0.01  # of the picture: a smaller foreground is dust, not a product
MIN_COMPONENT = 0.02  # of the largest component: smaller ones are specks; a pair of shoes is two components
MIN_BORDER = 0.5  # of the border must be of one colour, else the picture has no plain background


@dataclass(frozen=True)
class Foreground:
    """mask bool[h, w], box, and why the whole picture was taken ("" = it was not)."""

    mask: np.ndarray
    box: Box
    fallback: str = ""


def find(image: np.ndarray, segment: Callable[[np.ndarray], np.ndarray] | None, margin: float = 0.03) -> Foreground:
    """The foreground of uint8[h, w, 3]; ``segment`` maps a picture to bool[h, w], None takes the whole picture.

    margin: share of the box's longer side added on every side. A picture without a foreground falls back to the whole
    picture and says why in ``fallback``.
    """
    height, width = image.shape[:2]
    whole = Foreground(np.ones((height, width), bool), (0, 0, width, height))
    if segment is None:
        return whole
    mask = segment(image)
    share = float(mask.mean())
    if share < MIN_SHARE:
        return Foreground(whole.mask, whole.box, "no foreground found")
    return Foreground(mask, bounding_box(mask, margin))


def bounding_box(mask: np.ndarray, margin: float = 0.0) -> Box:
    """The smallest box around all True pixels of bool[h, w], widened by ``margin`` of its longer side, inside the picture."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x1, x2, y1, y2 = columns[0], columns[-1] + 1, rows[0], rows[-1] + 1
    add = int(round(margin * max(x2 - x1, y2 - y1)))
    height, width = mask.shape
    return int(max(0, x1 - add)), int(max(0, y1 - add)), int(min(width, x2 + add)), int(min(height, y2 + add))


def border_mask(image: np.ndarray, tolerance: float = 12.0) -> np.ndarray:
    """bool[h, w]: what differs from the border's colour and is not background reached from the border.

    tolerance: largest root-mean-square colour distance (0..255) that still counts as background. All False where the border
    is not of one colour.
    """
    pixels = image.astype(np.float32)
    ring = max(1, round(0.02 * min(image.shape[:2])))
    edge = np.zeros(image.shape[:2], bool)
    edge[:ring], edge[-ring:], edge[:, :ring], edge[:, -ring:] = True, True, True, True
    distance = np.sqrt(np.mean((pixels - np.median(pixels[edge], axis=0)) ** 2, axis=2))
    plain = distance <= tolerance
    if plain[edge].mean() < MIN_BORDER:
        return np.zeros(image.shape[:2], bool)
    labels, _ = ndimage.label(plain)
    reached = np.unique(labels[edge & plain])
    return clean(~np.isin(labels, reached[reached > 0]))


def clean(mask: np.ndarray) -> np.ndarray:
    """Morphological cleaning: opened by one pixel, specks removed, holes kept as they are."""
    opened = ndimage.binary_opening(mask, np.ones((3, 3), bool))
    labels, count = ndimage.label(opened)
    if not count:
        return opened
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    return np.isin(labels, np.flatnonzero(sizes >= max(1.0, MIN_COMPONENT * sizes.max())) ) & opened
