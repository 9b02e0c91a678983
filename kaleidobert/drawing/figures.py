"""The surroundings of a garment in a shop's picture: a simple human figure that wears it, and small goods that are no garment."""

from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from kaleidobert.drawing.backgrounds import noise, tone
from kaleidobert.drawing.sketch import band, ellipse

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
