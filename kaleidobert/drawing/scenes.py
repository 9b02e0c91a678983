"""Scenes that train and test the foreground network, in memory and on disk.

    recompose(foregrounds, backgrounds, size, rng) -> (image, mask)

A scene of the test is drawn in full. Scenes of the training are put together anew at every step, of foregrounds and backgrounds that
are drawn once: three of ten are a shop's (white or a plain backdrop); before all others the background is a mixture of drawn ones,
with other products cut by the frame beside the product.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from math import cos, pi, sin
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Protocol

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter
from scipy import ndimage, special

from kaleidobert import io
from kaleidobert.drawing.backgrounds import CLUTTER, HELD_OUT, noise, shadow, studio, tone
from kaleidobert.drawing.design import design, generator
from kaleidobert.drawing.garments import SKETCHES
from kaleidobert.drawing.render import material, paint, pose_matrix, zoom
from kaleidobert.drawing.sketch import band, ellipse

# --- What surrounds a garment in a shop's picture: a simple human figure that wears it, and small goods that are no garment


OVERSAMPLING = 2
SKINS = ((252, 226, 206), (240, 200, 172), (224, 172, 138), (192, 132, 96), (140, 90, 62), (90, 58, 42))
HAIRS = ((28, 22, 20), (60, 40, 28), (110, 72, 40), (190, 150, 90), (150, 148, 146), (120, 50, 30))
Layer = tuple[np.ndarray, np.ndarray]  # colour float32[size, size, 3] times cover, cover float32[size, size, 1] of 0 to 1


class _Brush:
    """Paints polygons and records their cover; coordinates in pixels of the finished picture."""

    def __init__(self, size: int):
        self.size, shape = size, (size * OVERSAMPLING, size * OVERSAMPLING)
        self.image, self.mask = Image.new("RGB", shape), Image.new("L", shape)
        self.draw, self.cover = ImageDraw.Draw(self.image), ImageDraw.Draw(self.mask)

    def area(self, points: list[tuple[float, float]], colour: np.ndarray | tuple, hole: bool = False) -> None:
        flat = [(x * OVERSAMPLING, y * OVERSAMPLING) for x, y in points]
        self.draw.polygon(flat, fill=tuple(int(min(255, max(0, v))) for v in colour))
        self.cover.polygon(flat, fill=0 if hole else 255)

    def limb(self, points: list[tuple[float, float]], widths: tuple[float, float], colour: np.ndarray | tuple) -> None:
        """Draws a line that grows thinner, with round joints."""
        for k, (start, end) in enumerate(zip(points, points[1:])):
            a, b = (widths[0] + (widths[1] - widths[0]) * (k + d) / (len(points) - 1) for d in (0, 1))
            self.area(band([start, end], (a + b) / 2), colour)
            self.area(ellipse(*end, b / 2, b / 2, 14), colour)
            self.area(ellipse(*start, a / 2, a / 2, 14), colour)

    def layer(self, rng: np.random.Generator) -> Layer:
        """Returns the painting with soft light: darker towards its sides, uneven inside."""
        cover = np.asarray(self.mask.reduce(OVERSAMPLING), np.float32)[:, :, None] / 255
        soft = np.asarray(self.mask.reduce(OVERSAMPLING).filter(ImageFilter.GaussianBlur(self.size * 0.03)), np.float32)[:, :, None] / 255
        light = 0.72 + 0.3 * soft + 0.05 * noise(self.size, rng, 3, 4)[:, :, None]
        return np.clip(np.asarray(self.image.reduce(OVERSAMPLING), np.float32) * light, 0, 255 * cover), cover


def person(size: int, box: tuple[float, float, float, float], half: str, rng: np.random.Generator) -> Layer:
    """Draws a person behind a garment of box (x1, y1, x2, y2) in pixels; half: the half that it covers, "upper", "lower" or "both".

    The rest is skin, hair and other clothes, and may lie outside the frame.
    """
    x1, y1, x2, y2 = box
    middle, wide, high = (x1 + x2) / 2, x2 - x1, y2 - y1
    skin, brush = np.array(SKINS[int(rng.integers(len(SKINS)))], np.float32) * rng.uniform(0.92, 1.05), _Brush(size)
    if half == "lower":  # shoulders lie above the garment
        torso = high * rng.uniform(0.55, 0.9)
        shoulder, hip, span = y1 - torso, y1, wide * rng.uniform(0.9, 1.3)
    else:
        shoulder, hip, span = y1 + 0.08 * high, y2 if half == "upper" else y1 + 0.45 * high, wide * rng.uniform(0.45, 0.75)
    reach = max(hip - shoulder, 1.0)
    clothes = tone(rng)
    if half != "lower" and rng.random() < 0.9:  # legs below the hem
        trousers = tone(rng, 10, 160) if rng.random() < 0.7 else skin
        for side in (-1, 1):
            knee = (middle + side * 0.2 * span, hip + 0.9 * reach)
            foot = (middle + side * rng.uniform(0.15, 0.35) * span, hip + 1.9 * reach)
            brush.limb([(middle + side * 0.16 * span, hip - 0.2 * reach), knee, foot], (0.42 * span, 0.25 * span), trousers)
            brush.area(ellipse(foot[0] + side * 0.05 * span, foot[1], 0.17 * span, 0.09 * span, 16), tone(rng, 10, 120))
    elif half == "lower":
        for side in (-1, 1):
            foot = (middle + side * rng.uniform(0.2, 0.4) * wide, y2)
            brush.limb([(middle + side * 0.2 * wide, y2 - 0.4 * high), foot], (0.3 * wide, 0.2 * wide), skin)
            brush.area(ellipse(foot[0] + side * 0.05 * wide, y2 + 0.05 * wide, 0.17 * wide, 0.08 * wide, 16), tone(rng, 10, 200))
    for side in (-1, 1):  # arms, hanging or on the hip
        top, bent = (middle + side * 0.5 * span, shoulder + 0.05 * reach), rng.random() < 0.4
        elbow = (middle + side * rng.uniform(0.55, 0.95) * span, shoulder + 0.5 * reach)
        hand = (middle + side * (0.45 if bent else rng.uniform(0.5, 0.9)) * span, shoulder + rng.uniform(0.8, 1.15) * reach)
        brush.limb([top, elbow, hand], (0.24 * span, 0.14 * span), skin if rng.random() < 0.6 else clothes)
        brush.area(ellipse(*hand, 0.08 * span, 0.1 * span, 12), skin)
    if half == "lower":
        brush.area([(middle - 0.5 * span, shoulder), (middle + 0.5 * span, shoulder), (middle + 0.42 * span, hip + 0.1 * high),
                    (middle - 0.42 * span, hip + 0.1 * high)], clothes)
    _head(brush, (middle, shoulder), span, skin, rng)
    return brush.layer(rng)


def _head(brush: _Brush, neck: tuple[float, float], span: float, skin: np.ndarray, rng: np.random.Generator) -> None:
    x, y = neck[0] + rng.normal(0, 0.04) * span, neck[1] - rng.uniform(0.42, 0.55) * span
    rx, ry = span * rng.uniform(0.17, 0.22), span * rng.uniform(0.24, 0.3)
    hair = np.array(HAIRS[int(rng.integers(len(HAIRS)))], np.float32)
    if rng.random() < 0.5:  # long hair falls behind the shoulders
        brush.area(ellipse(x, y + ry * 0.7, rx * 1.5, ry * rng.uniform(1.5, 2.4), 24), hair)
    brush.limb([(x, y), (neck[0], neck[1] + 0.1 * span)], (0.2 * span, 0.26 * span), skin * 0.9)
    brush.area(ellipse(x, y - 0.18 * ry, rx * 1.12, ry * 1.08, 24), hair)
    brush.area(ellipse(x, y + 0.12 * ry, rx * 0.95, ry * 0.95, 24), skin)
    for side in (-1, 1):
        brush.area(ellipse(x + side * 0.4 * rx, y, 0.14 * rx, 0.07 * ry, 10), hair * 0.6)
    brush.area(ellipse(x, y + 0.55 * ry, 0.3 * rx, 0.07 * ry, 10), skin * (0.8, 0.55, 0.55))


def small_goods(size: int, rng: np.random.Generator) -> Layer:
    """Draws a watch, a belt, glasses, a tie, jewellery or a wallet: shapes that no garment has."""
    brush, colour, second = _Brush(size), tone(rng), tone(rng)
    shapes = (_ring, _belt, _glasses, _watch, _strip, _wallet, _chain)
    shapes[int(rng.integers(len(shapes)))](brush, size * rng.uniform(0.28, 0.46), colour, second, rng)
    return brush.layer(rng)


def _at(brush: _Brush, points: list[tuple[float, float]], turn: float, reach: float) -> list[tuple[float, float]]:
    half = brush.size / 2
    return [(half + reach * (x * cos(turn) - y * sin(turn)), half + reach * (x * sin(turn) + y * cos(turn))) for x, y in points]


def _ring(brush: _Brush, reach: float, colour: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> None:
    flat, inner, turn = rng.uniform(0.4, 1), rng.uniform(0.6, 0.9), rng.uniform(-0.6, 0.6)
    brush.area(_at(brush, ellipse(0, 0, 1, flat, 40), turn, reach), colour)
    brush.area(_at(brush, ellipse(0, rng.uniform(-0.05, 0.05), inner, flat * inner, 40), turn, reach), (0, 0, 0), hole=True)
    brush.area(_at(brush, ellipse(0, flat * 0.92, 0.16, 0.16, 16), turn, reach), second)


def _belt(brush: _Brush, reach: float, colour: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> None:
    flat, width = rng.uniform(0.12, 0.35), rng.uniform(0.14, 0.24)
    brush.area(_at(brush, ellipse(0, -width, 1, flat, 40), 0, reach), colour * 0.6)
    brush.area(_at(brush, ellipse(0, -width, 0.95, flat * 0.8, 40), 0, reach), (0, 0, 0), hole=True)
    front = ellipse(0, 0, 1, flat, 24, 0, 0.5) + [(x, y - 2 * width) for x, y in ellipse(0, 0, 1, flat, 24, 0, 0.5)][::-1]
    brush.area(_at(brush, front, 0, reach), colour)
    high, low = flat - 2.2 * width, flat + 0.1 * width
    brush.area(_at(brush, [(-0.12, high), (0.14, high), (0.14, low), (-0.12, low)], 0, reach), second)


def _glasses(brush: _Brush, reach: float, colour: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> None:
    turn, flat = rng.uniform(-0.3, 0.3), rng.uniform(0.22, 0.36)
    for side in (-1, 1):
        brush.area(_at(brush, ellipse(side * 0.5, 0, 0.45, flat, 24), turn, reach), colour)
        brush.area(_at(brush, ellipse(side * 0.5, 0, 0.38, flat - 0.06, 24), turn, reach), second)
        arm = [(side * 0.95, -0.05), (side * rng.uniform(0.6, 1.1), -0.35)]
        brush.limb(_at(brush, arm, turn, reach), (0.07 * reach, 0.05 * reach), colour)
    brush.limb(_at(brush, [(-0.12, -0.04), (0.12, -0.04)], turn, reach), (0.08 * reach, 0.08 * reach), colour)


def _watch(brush: _Brush, reach: float, colour: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> None:
    turn, width, radius = rng.uniform(-0.3, 0.3), rng.uniform(0.2, 0.34), rng.uniform(0.36, 0.52)
    brush.area(_at(brush, [(-width, -1), (width, -1), (width * 1.1, 1), (-width * 1.1, 1)], turn, reach), colour)
    brush.area(_at(brush, ellipse(0, 0, radius * 1.15, radius * 1.15, 30), turn, reach), second)
    brush.area(_at(brush, ellipse(0, 0, radius * 0.9, radius * 0.9, 30), turn, reach), tone(rng))
    brush.limb(_at(brush, [(0, 0), (0.1, -radius * 0.6)], turn, reach), (2, 1), second)


def _strip(brush: _Brush, reach: float, colour: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> None:
    """Draws a tie, a scarf or a sock, long and hanging."""
    top, foot = rng.uniform(0.1, 0.3), rng.uniform(0.16, 0.4)
    right = [(top, -1), (top * 0.7, -0.8), (foot, rng.uniform(0.5, 0.8))]
    bow = [*right, (rng.uniform(-0.1, 0.1), 1), (-foot, 0.7), (-top * 0.7, -0.8), (-top, -1)]
    brush.area(_at(brush, bow, rng.uniform(-0.4, 0.4), reach), colour)


def _wallet(brush: _Brush, reach: float, colour: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> None:
    turn, flat = rng.uniform(-0.2, 0.2), rng.uniform(0.45, 0.9)
    brush.area(_at(brush, [(-1, -flat), (1, -flat), (1, flat), (-1, flat)], turn, reach), colour)
    fold = rng.uniform(-0.3, 0.3)
    crease = [(-0.98, fold - 0.02), (0.98, fold - 0.02), (0.98, fold + 0.04), (-0.98, fold + 0.04)]
    brush.area(_at(brush, crease, turn, reach), colour * 0.6)
    brush.area(_at(brush, ellipse(rng.uniform(-0.5, 0.5), fold, 0.1, 0.1, 12), turn, reach), second)


def _chain(brush: _Brush, reach: float, colour: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> None:
    """Draws a thin line that hangs in a loop, with a pendant."""
    flat, width = rng.uniform(0.5, 1.2), reach * rng.uniform(0.02, 0.06)
    points = [(sin(a), -0.6 + flat * (1 - cos(a)) / 2 * 1.2) for a in np.linspace(-0.75 * pi, 0.75 * pi, 30).tolist()]
    line = _at(brush, [(x, 0.6 - y) for x, y in points], rng.uniform(-0.5, 0.5), reach)
    brush.limb(line, (max(width, 1.2), max(width, 1.2)), colour)
    brush.area(ellipse(*line[15], reach * 0.12, reach * rng.uniform(0.12, 0.3), 16), second)


# --- Scenes drawn in full, and the foregrounds of the training


PURPOSE = 1000  # of the generators: far from those of the catalogue's pictures
ROOM = 1.25  # scenes are drawn so much larger, so that a window of them can be taken
MIN_COVER, MAX_COVER = 0.02, 0.97  # fractions of the picture that a foreground may cover
NORMAL = special.ndtri((np.arange(256) + 0.5) / 256)  # quantiles: a random byte becomes a normal number
WORN = {"TOPS": "upper", "KNITWEAR": "upper", "OUTERWEAR": "upper", "TROUSERS": "lower", "DRESSES & SKIRTS": "both"}
GOODS = 0.08  # fraction of the foregrounds of the training: small things that are no garment


@dataclass(frozen=True)
class Scene:
    """image uint8[size, size, 3]; mask bool[size, size]; what the background is."""

    image: np.ndarray
    mask: np.ndarray
    background: str


def scene(seed: int, index: int, size: int = 128, held_out: str = "catalogue", goods: bool = False) -> Scene:
    """Draws a scene of the test: a product that nobody wears (goods: a small thing that is no product) before a background of HELD_OUT.

    The same arguments give the same pixels.
    """
    rng, large = generator(seed, index, PURPOSE), round(size * ROOM)
    layer = _pixels(_foreground(seed, index, large, True, goods, rng))
    behind = Image.fromarray(np.clip(HELD_OUT[held_out](large, rng), 0, 255).astype(np.uint8))
    image, mask = finish(layer, behind, False, size, rng)
    return Scene(image, mask, held_out)


def split(seed: int, start: int, count: int, size: int, goods: bool = False) -> np.ndarray:
    """Draws scenes of the test: uint8[count, size, size, 4], 1 in the last channel where there is foreground; families alternate."""
    names = list(HELD_OUT)
    made = [scene(seed, index, size, names[index % len(names)], goods) for index in range(start, start + count)]
    return np.stack([np.concatenate([one.image, one.mask[:, :, None].astype(np.uint8)], axis=2) for one in made])


def foregrounds(seed: int, start: int, count: int, size: int) -> np.ndarray:
    """Draws foregrounds of the training: uint8[count, s, s, 4], s = size * ROOM, colours times cover, and cover."""
    made = []
    for index in range(start, start + count):
        rng = generator(seed, index, PURPOSE)
        goods = rng.random() < GOODS
        made.append(_pixels(_foreground(seed, index, round(size * ROOM), False, goods, rng)))
    return np.stack(made)


def finish(layer: np.ndarray, behind: Image.Image, white: bool, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Adds light, frame and camera to a foreground before a background: image uint8[size, size, 3], mask bool[size, size].

    layer: uint8[s, s, 4], colours times cover, and cover; behind: RGB. white: a shop's white background.
    """
    cover = Image.fromarray(np.ascontiguousarray(layer[:, :, 3]))
    if rng.random() < (0.4 if white else 0.8):
        fraction = np.asarray(cover, np.float32)[:, :, None] / 255
        lit = 1 - rng.uniform(0.1, 1) * (1 - shadow(fraction, rng) * _contact(fraction, rng))
        behind = times(behind, Image.fromarray((255 * lit[:, :, 0] + 0.5).astype(np.uint8)))
    colour = Image.fromarray(np.ascontiguousarray(layer[:, :, :3]))
    image = ImageChops.add(colour, times(behind, ImageChops.invert(cover)))
    image, mask = _window(Image.merge("RGBX", (*image.split(), cover)), size, rng)  # X: it is not to weigh the colours
    return _camera(image, white, rng), mask


def times(image: Image.Image, factor: Image.Image) -> Image.Image:
    """Multiplies an RGB picture by a grey one, 255 = 1; Pillow takes a tenth of numpy's time."""
    return ImageChops.multiply(image, Image.merge("RGB", (factor, factor, factor)))


def _pixels(layer: Layer) -> np.ndarray:
    return (np.concatenate([layer[0], 255 * layer[1]], axis=2) + 0.5).astype(np.uint8)


def _foreground(seed: int, index: int, size: int, alone: bool, goods: bool, rng: np.random.Generator) -> Layer:
    """Draws a garment, a person who wears it, or a pair of shoes; goods: a small thing instead; alone: nobody wears it."""
    if goods:
        return _photographed(small_goods(size, rng), rng)
    chance = rng.random()
    product = design(seed, index)
    half = WORN.get(product.product_type.category, "")
    worn = bool(half) and chance < 0.45 and not alone
    pair = not half and chance < 0.2
    fill = rng.uniform(0.35, 0.85) if worn else rng.uniform(0.3, 0.52) if pair else rng.uniform(0.45, 0.98)
    sketch = SKETCHES[product.subcategory](product, bool(rng.random() < 0.3))
    matrix = pose_matrix(sketch, size, fill, rng.normal(0, 0.12 if half else 0.3), (rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5)),
                   narrow=rng.uniform(0.6, 1.25), slant=rng.normal(0, 0.06), mirror=bool(rng.random() < 0.5))
    if not pair and rng.random() < 0.08:
        matrix = zoom(matrix, tuple(rng.uniform(0.3, 0.7, 2) * size), rng.uniform(1.3, 2.2), size)
    state = rng.bit_generator.state
    colour, cover = _photographed(paint(sketch, matrix, size, product.main, lambda m, p: material(product, m, p, rng)), rng)
    if pair:  # side by side, apart or overlapping
        rng.bit_generator.state = state
        moved = matrix.copy()
        moved[:, 2] += rng.uniform(0.25, 0.6) * size * np.array(rng.choice([-1, 1])), rng.normal(0, 0.06) * size
        second = paint(sketch, moved, size, product.main, lambda m, p: material(product, m, p, rng))
        return _over((colour, cover), _photographed(second, rng))
    rows, columns = np.flatnonzero(cover.max((1, 2)) > 0.5), np.flatnonzero(cover.max((0, 2)) > 0.5)
    if worn and len(rows) and len(columns):
        box = (float(columns[0]), float(rows[0]), float(columns[-1]), float(rows[-1]))
        return _over((colour, cover), _photographed(person(size, box, half, rng), rng))
    return colour, cover


def _over(top: Layer, bottom: Layer) -> Layer:
    return top[0] + bottom[0] * (1 - top[1]), top[1] + bottom[1] * (1 - top[1])


def _photographed(layer: Layer, rng: np.random.Generator) -> Layer:
    """Adds folds, a weave and highlights to a flat drawing; one in four stays as it is."""
    colour, cover = layer
    if rng.random() < 0.25:
        return layer
    size = colour.shape[0]
    folds = noise(size, rng, 2, 4, float(rng.choice([0.3, 1.0, 3.0]))) * rng.uniform(0.02, 0.16)
    weave = rng.standard_normal((size, size)).astype(np.float32) * rng.uniform(0, 0.06)
    colour = colour * (1 + folds + weave)[:, :, None]
    if rng.random() < 0.3:  # a gloss
        colour = colour + cover * (np.clip(noise(size, rng, 3, 3) - 1.2, 0, 1) * rng.uniform(20, 90))[:, :, None]
    if rng.random() < 0.5:  # outlines of a drawing are harder than those of a photograph
        radius = rng.uniform(0.4, 1.3) * size / 160
        soft, edge = (ndimage.gaussian_filter(channels, (radius, radius, 0)) for channels in (colour, cover))
        colour = np.where(cover > 0, soft / np.maximum(edge, 0.2) * cover, 0)
    return np.clip(colour, 0, 255 * cover).astype(np.float32), cover


def _contact(cover: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the light left in the shadow on the ground under the product, float32[size, size, 1]."""
    size = cover.shape[0]
    rows = np.flatnonzero(cover.max((1, 2)) > 0.5)
    if not len(rows) or rng.random() < 0.5:
        return np.ones_like(cover)
    foot = rows[-1]
    columns = np.flatnonzero(cover[max(0, foot - size // 12):foot + 1, :, 0].max(0) > 0.5)
    middle, half = columns.mean(), max(2.0, 0.55 * (columns[-1] - columns[0]))
    position = np.arange(size, dtype=np.float32)
    across = np.exp(-(((position - middle) / half) ** 2))
    down = np.exp(-(((position - foot) / (size * rng.uniform(0.015, 0.07))) ** 2))
    return 1 - np.float32(rng.uniform(0.1, 0.7)) * (down[:, None] * across)[:, :, None]


def _window(image: Image.Image, size: int, rng: np.random.Generator) -> tuple[Image.Image, np.ndarray]:
    """Cuts the frame: the whole picture and its cover, or a window that cuts the product; any window becomes square."""
    large = image.width
    x, y, width, height = 0, 0, large, large
    if rng.random() < 0.4:
        width, height = (round(large * v) for v in rng.uniform(0.55, 1, 2))
        x, y = int(rng.integers(large - width + 1)), int(rng.integers(large - height + 1))
        if not MIN_COVER <= (np.asarray(image.getchannel(3))[y:y + height, x:x + width] >= 128).mean() <= MAX_COVER:
            x, y, width, height = 0, 0, large, large
    *colours, cover = image.resize((size, size), Image.Resampling.BILINEAR, (x, y, x + width, y + height)).split()
    return Image.merge("RGB", colours), np.asarray(cover) >= 128


def _camera(image: Image.Image, white: bool, rng: np.random.Generator) -> np.ndarray:
    """Adds exposure, grain, blur and JPEG: uint8[h, w, 3]."""
    if not white:
        curve = 255 * (np.arange(256) / 255) ** rng.uniform(0.7, 1.5)
        image = image.point(np.clip(np.outer(rng.uniform(0.8, 1.1, 3), curve) + 0.5, 0, 255).astype(int).ravel().tolist())
    if rng.random() < 0.5:
        grain = (NORMAL * rng.uniform(0, 2 if white else 7)).astype(np.float32)
        noisy = np.asarray(image) + grain[rng.integers(0, 256, (image.height, image.width, 3), np.uint8)]
        image = Image.fromarray(np.clip(noisy + 0.5, 0, 255).astype(np.uint8))
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.9)))
    if rng.random() < 0.6:
        buffer = BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(45, 96)))
        image = Image.open(buffer).convert("RGB")
    return np.asarray(image)


# --- Scenes put together for the training


SHOP = 0.3  # fraction of scenes before white or a plain backdrop
WHITE = 0.65  # of these, before white
BEHIND = PURPOSE + 1  # purpose of the generators of the backgrounds


class Pictures(Protocol):
    """Pictures by their numbers."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> np.ndarray: ...


def training_backgrounds(seed: int, start: int, count: int, size: int) -> np.ndarray:
    """Draws backgrounds of the training: uint8[count, s, s, 3], s = size * ROOM."""
    made = []
    for index in range(start, start + count):
        rng = generator(seed, index, BEHIND)
        made.append(CLUTTER[int(rng.integers(len(CLUTTER)))](round(size * ROOM), rng))
    return np.clip(np.stack(made) + 0.5, 0, 255).astype(np.uint8)


def recompose(foregrounds: Pictures, behind: Pictures, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Puts a scene together: image uint8[size, size, 3] and mask bool[size, size].

    foregrounds: uint8[s, s, 4] each; behind: backgrounds, uint8[s, s, 3] each.
    """
    layer = _recoloured(foregrounds[int(rng.integers(len(foregrounds)))], rng)
    plain = rng.random() < SHOP
    white = plain and rng.random() < WHITE
    if rng.random() < 0.5:
        layer = layer[:, ::-1]
    if white:
        back = Image.new("RGB", layer.shape[1::-1], (255 if rng.random() < 0.6 else int(rng.uniform(236, 255)),) * 3)
        if rng.random() < 0.3:  # white on white: only shading and edges show
            faded = rng.uniform(0.4, 0.93)
            pale = layer[:, :, 3:] * np.array([253 / 255, 253 / 255, 253 / 255, 1], np.float32)
            layer = (layer + np.float32(faded) * (pale - layer) + 0.5).astype(np.uint8)
    elif plain:
        back = Image.fromarray(np.clip(studio(layer.shape[0], rng), 0, 255).astype(np.uint8))
    else:
        back = _mixture(foregrounds, behind, rng)
    return finish(layer, back, white, size, rng)


def _recoloured(layer: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Recolours half of the layers, uint8[s, s, 4]."""
    if rng.random() < 0.5:
        return layer
    *colours, cover = Image.fromarray(layer, "RGBX").split()
    colour = ImageChops.darker(_tinted(Image.merge("RGB", colours), 0.0, rng), Image.merge("RGB", (cover, cover, cover)))
    return np.asarray(Image.merge("RGBX", (*colour.split(), cover)))


def _tinted(image: Image.Image, lift: float, rng: np.random.Generator) -> Image.Image:
    """Swaps channels and changes saturation and brightness; lift: largest change of all colours."""
    swapped = np.eye(3)[rng.permutation(3) if rng.random() < 0.6 else [0, 1, 2]]
    vivid = rng.uniform(0.3, 1.3)
    matrix = (vivid * swapped + (1 - vivid) / 3) * rng.uniform(0.75, 1.2, (3, 1))
    return image.convert("RGB", tuple(np.column_stack([matrix, np.full(3, rng.uniform(-lift, lift))]).ravel().tolist()))


def _mixture(foregrounds: Pictures, behind: Pictures, rng: np.random.Generator) -> Image.Image:
    """Mixes one or two drawn backgrounds, with or without other products cut by the frame, sharp or not."""
    image = _piece(behind, rng)
    if rng.random() < 0.4:
        image = Image.composite(_piece(behind, rng), image, _transition(behind, image.width, rng))
    if rng.random() < 0.3:
        image = _beside(foregrounds, image, rng)
    if rng.random() < 0.2:
        image = image.filter(ImageFilter.BoxBlur(rng.uniform(0.5, 4) * image.width / 200))
    return image


def _piece(behind: Pictures, rng: np.random.Generator) -> Image.Image:
    """Cuts a window of a drawn background in any of the eight orientations, recoloured or not."""
    image = Image.fromarray(behind[int(rng.integers(len(behind)))])
    size = image.width
    if rng.random() < 0.6:
        side = round(size * rng.uniform(0.45, 1))
        x, y = rng.integers(size - side + 1, size=2).tolist()
        image = image.resize((size, size), Image.Resampling.BILINEAR, (x, y, x + side, y + side))
    position = int(rng.integers(8))
    if position < 7:  # of Pillow's seven; the eighth is as it was
        image = image.transpose(Image.Transpose(position))
    return _tinted(image, 30, rng) if rng.random() < 0.5 else image


def _transition(behind: Pictures, size: int, rng: np.random.Generator) -> Image.Image:
    """Returns the mask of a transition between two backgrounds: beyond a line, or where a third one is light."""
    highest = rng.uniform(100, 255)
    if rng.random() < 0.4:
        angle, position = rng.uniform(0, 2 * np.pi), np.linspace(-0.5, 0.5, size, dtype=np.float32)
        level = (position * np.cos(angle))[:, None] + (position * np.sin(angle) - rng.uniform(-0.35, 0.35))[None]
        return Image.fromarray((highest * np.clip(0.5 + level * rng.choice([3.0, 20.0, 200.0]), 0, 1)).astype(np.uint8))
    third = Image.fromarray(behind[int(rng.integers(len(behind)))]).getchannel(int(rng.integers(3)))
    away = np.arange(256) - np.asarray(third).mean()
    return third.point((highest * np.clip(0.5 + away * rng.choice([0.01, 0.05, 1.0]), 0, 1)).astype(int).tolist())


def _beside(foregrounds: Pictures, image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Adds other products, smaller, turned, and cut by the frame."""
    size = image.width
    for _ in range(int(rng.integers(1, 4))):
        layer = _recoloured(foregrounds[int(rng.integers(len(foregrounds)))], rng)
        turned = Image.fromarray(np.ascontiguousarray(np.rot90(layer, int(rng.integers(4)))), "RGBX")
        box = turned.getchannel(3).point(lambda v: 255 * (v > 127)).getbbox()
        if box is None:
            continue
        # the middle lies about on the frame, anywhere along it
        side = rng.uniform(0.3, 0.8)
        wide, high = max(2, round(side * (box[2] - box[0]))), max(2, round(side * (box[3] - box[1])))
        small = turned.resize((wide, high), Image.Resampling.BILINEAR, box)
        along, end = rng.uniform(0, 1), float(rng.choice([0.0, 1.0]))
        x, y = (along, end) if rng.random() < 0.5 else (end, along)
        moved = Image.new("RGBX", (size, size))
        moved.paste(small, (round(x * size - wide * rng.uniform(0.35, 0.65)), round(y * size - high * rng.uniform(0.35, 0.65))))
        *colours, cover = moved.split()
        image = ImageChops.add(Image.merge("RGB", colours), times(image, ImageChops.invert(cover)))
    return image


# --- On disk


SHARD = 100
SETS: dict[str, Callable[[int, int, int, int], np.ndarray]] = {  # seed, start, count, size -> pictures
    "foregrounds": foregrounds, "backgrounds": training_backgrounds, "test": split,
    "goods": partial(split, goods=True)}


@dataclass(frozen=True)
class Scenes:
    """images uint8[N, s, s, 3] and masks bool[N, s, s]."""

    images: np.ndarray
    masks: np.ndarray


class StoredPictures:
    """The pictures of a set, read from the disk when they are used."""

    def __init__(self, folder: Path, name: str):
        self._files = [np.load(path, mmap_mode="r", allow_pickle=False) for path in _paths(folder, name)]
        self._shard = len(self._files[0])

    def __len__(self) -> int:
        return self._shard * (len(self._files) - 1) + len(self._files[-1])

    def __getitem__(self, index: int) -> np.ndarray:
        return np.asarray(self._files[index // self._shard][index % self._shard])


def draw_files(folder: Path, name: str, seed: int, count: int, size: int, workers: int) -> Iterator[int]:
    """Draws the missing files of a set; yields how many pictures were finished since the last time. workers: 0 = one per core."""
    tasks = [(folder / f"{name}-{start:06d}.npy", name, seed, start, min(SHARD, count - start), size)
             for start in range(0, count, SHARD)]
    todo = [task for task in tasks if not task[0].is_file()]
    yield sum(task[4] for task in tasks) - sum(task[4] for task in todo)
    workers = min(workers or os.cpu_count() or 1, len(todo))
    if workers <= 1:
        yield from map(_draw_some, todo)
        return
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:  # spawn: a process with TensorFlow's threads must not be copied
        try:
            for future in as_completed([pool.submit(_draw_some, task) for task in todo]):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def read_scenes(folder: Path, name: str) -> Scenes:
    """Reads all scenes of a set ("test" or "goods"), in the order of their numbers."""
    together = np.concatenate([np.load(path, allow_pickle=False) for path in _paths(folder, name)])
    return Scenes(together[..., :3], together[..., 3] > 0)


def _paths(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"{name}-*.npy"))


def _draw_some(task: tuple) -> int:
    path, name, seed, start, count, size = task
    made = SETS[name](seed, start, count, size)
    with io.atomic(path) as file:
        # only its write method: into a real file numpy writes past Python, and a full disk is an error without a number
        np.save(SimpleNamespace(write=file.write), made, allow_pickle=False)
    return count
