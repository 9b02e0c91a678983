"""Foreground: mask -> bounding box (paper, section 3.1: the product is cut out before it is split into patches).

The mask comes from colour distance to the border, which is good on shop pictures; any callable with the same signature can
take its place.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from PIL import Image, ImageOps
from scipy import ndimage

Box = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels, x2 and y2 exclusive


class Predictor(Protocol):
    """f32[1, size, size, 4] -> probabilities f32[1, size, size]."""

    @property
    def size(self) -> int: ...

    def __call__(self, inputs: np.ndarray, /) -> np.ndarray: ...

MIN_FRACTION = 0.01  # of the picture: a smaller foreground is dust, not a product
MIN_COMPONENT = 0.02  # of the largest component: smaller ones are specks; a pair of shoes is two components
MIN_BORDER = 0.5  # of the border must be of one colour, else the picture has no plain background
REFINED = 320  # longest side in pixels at which a network's answer is fitted to the picture's edges
CLOSER = 0.2  # a network's second look: margin of the box, as a fraction of its longer side
GUIDE_RADIUS, GUIDE_SOFTNESS = 0.025, 0.002  # of the guided filter: fraction of the longer side, variance that counts as an edge


@dataclass(frozen=True)
class Foreground:
    """mask bool[h, w], box, and why the whole picture was taken ("" = it was not)."""

    mask: np.ndarray
    box: Box
    fallback: str = ""


def find(image: np.ndarray, segment: Callable[[np.ndarray], np.ndarray] | None, margin: float = 0.03) -> Foreground:
    """Returns the foreground of uint8[h, w, 3]; ``segment`` maps a picture to bool[h, w], None takes the whole picture.

    margin: fraction of the box's longer side added on every side. A picture without a foreground falls back to the whole
    picture and says why in ``fallback``.
    """
    height, width = image.shape[:2]
    whole = Foreground(np.ones((height, width), bool), (0, 0, width, height))
    if segment is None:
        return whole
    mask = segment(image)
    fraction = float(mask.mean())
    if fraction < MIN_FRACTION:
        return Foreground(whole.mask, whole.box, "no foreground found")
    return Foreground(mask, bounding_box(mask, margin))


def bounding_box(mask: np.ndarray, margin: float = 0.0) -> Box:
    """Returns the smallest box around all True pixels of bool[h, w], widened by ``margin`` of its longer side, inside the picture."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x1, x2, y1, y2 = columns[0], columns[-1] + 1, rows[0], rows[-1] + 1
    add = int(round(margin * max(x2 - x1, y2 - y1)))
    height, width = mask.shape
    return int(max(0, x1 - add)), int(max(0, y1 - add)), int(min(width, x2 + add)), int(min(height, y2 + add))


def border_mask(image: np.ndarray, tolerance: float = 12.0) -> np.ndarray:
    """Returns bool[h, w]: what differs from the border's colour and is not background reached from the border.

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


def channels(pictures: np.ndarray) -> np.ndarray:
    """Returns what the foreground network sees of uint8[..., s, s, 3]: f32[..., s, s, 4], colours and distance to the border's colour.

    The distance is logarithmic: a white product on white differs from the border by few grey levels.
    """
    edge = np.concatenate([pictures[..., :2, :, :], pictures[..., -2:, :, :], np.swapaxes(pictures[..., :, :2, :], -3, -2),
                           np.swapaxes(pictures[..., :, -2:, :], -3, -2)], axis=-3)
    border = np.median(edge.reshape(*edge.shape[:-3], -1, 3), axis=-2).astype(np.float32)[..., None, None, :]
    seen, away = np.empty((*pictures.shape[:-1], 4), np.float32), np.zeros(pictures.shape[:-1], np.float32)
    for channel in range(3):  # one by one: numpy is slow along so short an axis
        pixels = pictures[..., channel].astype(np.float32)
        away += np.square(pixels - border[..., channel])
        seen[..., channel] = pixels * np.float32(1 / 127.5) - 1
    seen[..., 3] = np.log1p(np.sqrt(away / 3)) * np.float32(2 / np.log(256)) - 1
    return seen


def network_mask(image: np.ndarray, predict: Predictor) -> np.ndarray:
    """Returns bool[h, w] from a network: predict f32[1, s, s, 4] -> probabilities f32[1, s, s], s its attribute ``size``.

    It looks twice: at the whole picture, then, mirrored, at the box of what it found; the mean of both counts.
    """
    picture, fine = Image.fromarray(image), Image.fromarray(image)
    picture.thumbnail((REFINED, REFINED), Image.Resampling.BILINEAR)  # a smaller picture stays as it is
    wide, high = picture.size
    likely = _look(fine, (0, 0, wide, high), picture.size, predict)
    sure = clean(likely >= 0.5)
    if sure.any():
        x1, y1, x2, y2 = bounding_box(sure, CLOSER)
        closer = np.zeros_like(likely)
        mirrored = ImageOps.mirror(fine)
        closer[y1:y2, x1:x2] = _look(mirrored, (wide - x2, y1, wide - x1, y2), picture.size, predict)[:, ::-1]
        likely = (likely + closer) / 2
    likely = refine(likely, np.asarray(picture))
    if picture.size != fine.size:
        likely = np.asarray(Image.fromarray(likely).resize(fine.size, Image.Resampling.BILINEAR))
    return clean(ndimage.binary_fill_holes(likely >= 0.5))


def _look(picture: Image.Image, box: Box, frame: tuple[int, int], predict: Predictor) -> np.ndarray:
    """Returns probabilities f32[h, w] inside of a box given in pixels of a ``frame`` (width, height) that shows the whole picture."""
    x, y = picture.width / frame[0], picture.height / frame[1]
    region = (box[0] * x, box[1] * y, box[2] * x, box[3] * y)
    small = np.asarray(picture.resize((predict.size, predict.size), Image.Resampling.BILINEAR, region, reducing_gap=3.0))
    likely = Image.fromarray(np.asarray(predict(channels(small)[None])[0], np.float32))
    return np.asarray(likely.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.BILINEAR))


def refine(likely: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Returns probabilities f32[h, w] moved to the edges of uint8[h, w, 3], by a guided filter (He et al., 2013).

    The guide is the logarithmic distance to the colour of the surest background.
    """
    away = (1 - likely) ** 2 + 1e-6
    pixels = image.astype(np.float32)
    colour = (pixels * away[:, :, None]).sum((0, 1)) / away.sum()
    guide = np.log1p(np.sqrt(np.mean((pixels - colour) ** 2, axis=2))) / np.log(256)
    size = 2 * max(3, round(GUIDE_RADIUS * max(likely.shape))) + 1
    mean = partial(ndimage.uniform_filter, size=size, mode="nearest")
    about, level = mean(guide), mean(likely)
    slope = (mean(guide * likely) - about * level) / (mean(guide * guide) - about * about + GUIDE_SOFTNESS)
    return mean(slope) * guide + mean(level - slope * about)


def overlap(result: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns the intersection over union of masks bool[..., h, w]; 1 where both are empty."""
    union = (result | truth).sum((-2, -1))
    return np.where(union == 0, 1.0, (result & truth).sum((-2, -1)) / np.maximum(union, 1))


def clean(mask: np.ndarray) -> np.ndarray:
    """Returns a mask after morphological cleaning: opened by one pixel, without specks, holes kept as they are."""
    opened = _squares(_squares(mask, np.logical_and), np.logical_or)
    labels, count = ndimage.label(opened)
    if not count:
        return opened
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    return np.isin(labels, np.flatnonzero(sizes >= max(1.0, MIN_COMPONENT * sizes.max())) ) & opened


def _squares(mask: np.ndarray, combine: Callable[..., np.ndarray]) -> np.ndarray:
    """Returns bool[h, w]: the 3 x 3 neighbours of every pixel of bool[h, w] combined; beyond the border lies no foreground."""
    wide = np.pad(mask, 1)
    rows = combine(combine(wide[:-2], wide[1:-1]), wide[2:])
    return combine(combine(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
