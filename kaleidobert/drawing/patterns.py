"""The patterned material of a product, drawn in the product's own coordinates so that it moves and turns with it."""

from math import hypot

import numpy as np
from PIL import Image, ImageDraw

from kaleidobert.drawing.curves import Points, ellipse
from kaleidobert.drawing.design import Design
from kaleidobert.drawing.palette import COLOURS, dark, light, luminance, mix

REACH = 1.6  # patterns fill -REACH to REACH; sketches stay inside


class Pen:
    """Draws polygons given in product coordinates on a picture in pixels; matrix: [2, 3]."""

    def __init__(self, image: Image.Image, matrix: np.ndarray):
        self.draw, self.matrix = ImageDraw.Draw(image, "RGBA"), matrix

    def areas(self, areas: list[Points], colour: tuple[int, ...]) -> None:
        """Fill several polygons of equally many points."""
        points = np.array(areas, np.float64) @ self.matrix[:, :2].T + self.matrix[:, 2]  # [areas, points, 2]
        for area in np.round(points).astype(int).reshape(len(areas), -1).tolist():
            self.draw.polygon(area, fill=colour)


def material(design: Design, matrix: np.ndarray, pixels: int, rng: np.random.Generator) -> Image.Image | None:
    """The material as a picture of pixels x pixels, or None where it is one colour. rng: the product's own generator."""
    if design.pattern == "solid":
        return None
    image = Image.new("RGB", (pixels, pixels), design.main)
    _PATTERNS[design.pattern](Pen(image, matrix), design, rng)
    return image


def _bars(start: float, period: float, width: float, across: bool) -> list[Points]:
    marks = np.arange(-REACH + start * period, REACH, period).tolist()
    if across:
        return [[(-REACH, y), (REACH, y), (REACH, y + width), (-REACH, y + width)] for y in marks]
    return [[(x, -REACH), (x, REACH), (x + width, REACH), (x + width, -REACH)] for x in marks]


def _striped(pen: Pen, design: Design, rng: np.random.Generator) -> None:
    start, size, share, turn = rng.random(4).tolist()
    period = 0.13 + 0.16 * size
    pen.areas(_bars(start, period, period * (0.3 + 0.25 * share), across=turn < 0.85), design.second)


def _pinstriped(pen: Pen, design: Design, rng: np.random.Generator) -> None:
    start, size = rng.random(2).tolist()
    thin = light(design.main, 0.55) if luminance(design.main) < 130 else dark(design.main, 0.45)
    pen.areas(_bars(start, 0.085 + 0.05 * size, 0.016, across=False), thin)


def _checked(pen: Pen, design: Design, rng: np.random.Generator) -> None:
    start, size, fine = rng.random(3).tolist()
    period = 0.2 + 0.18 * size
    for across in (True, False):
        pen.areas(_bars(start, period, period * 0.46, across), (*design.second, 120))
    if fine < 0.5:  # a tartan has a thin line in each gap
        line = light(design.main, 0.7) if luminance(design.main) < 130 else dark(design.main, 0.6)
        for across in (True, False):
            pen.areas(_bars(start + 0.7, period, 0.018, across), (*line, 200))


def _dotted(pen: Pen, design: Design, rng: np.random.Generator) -> None:
    start, size, share = rng.random(3).tolist()
    period = 0.15 + 0.1 * size
    radius = period * (0.2 + 0.1 * share)
    dots = []
    for row, y in enumerate(np.arange(-1.3 + start * period, 1.3, period * 0.8).tolist()):
        dots += [ellipse(x, y, radius, radius, 10) for x in np.arange(-1.3 + (row % 2) * period / 2, 1.3, period).tolist()]
    pen.areas(dots, design.second)


def _floral(pen: Pen, design: Design, rng: np.random.Generator) -> None:
    period = 0.2 + 0.1 * rng.random()
    grid = [(x, y) for y in np.arange(-1.25, 1.25, period).tolist() for x in np.arange(-1.25, 1.25, period).tolist()]
    lots = rng.random((len(grid), 3)).tolist()
    leaves, petals, hearts = [], [], []
    for (x, y), (u, v, w) in zip(grid, lots, strict=True):
        x, y, r = x + (u - 0.5) * period * 0.7, y + (v - 0.5) * period * 0.7, period * (0.15 + 0.08 * w)
        leaves.append(ellipse(x + 1.9 * r, y + 1.2 * r, r * 1.1, r * 0.5, 8))
        turn = (u + v) % 1
        petals += [ellipse(x + px * r, y + py * r, r * 0.72, r * 0.72, 8) for px, py in ellipse(0, 0, 1, 1, 5, turn, turn + 1)]
        hearts.append(ellipse(x, y, r * 0.6, r * 0.6, 8))
    leaf = COLOURS["green"] if design.colour not in ("green", "olive") else COLOURS["mint"]
    pen.areas(leaves, leaf)
    pen.areas(petals, design.second)
    pen.areas(hearts, COLOURS["yellow"] if design.accent not in ("yellow", "orange") else COLOURS["red"])


def _zigzag(pen: Pen, design: Design, rng: np.random.Generator) -> None:
    start, size, share = rng.random(3).tolist()
    period, step = 0.2 + 0.12 * size, 0.07 + 0.04 * share
    xs = np.arange(-REACH, REACH, step).tolist()
    top = [(x, (k % 2) * step) for k, x in enumerate(xs)]
    ring = top + [(x, y + period * 0.4) for x, y in reversed(top)]
    pen.areas([[(x, y + dy) for x, y in ring] for dy in np.arange(-REACH + start * period, REACH, period).tolist()],
              design.second)


def _colour_block(pen: Pen, design: Design, rng: np.random.Generator) -> None:
    where, tilt = rng.random(2).tolist()
    middle, slope = 0.05 + 0.3 * where, 0.0 if tilt < 0.6 else 0.5
    pen.areas([[(-REACH, middle - slope), (REACH, middle + slope), (REACH, REACH), (-REACH, REACH)]], design.second)


def _camouflage(pen: Pen, design: Design, rng: np.random.Generator) -> None:
    lots = rng.random((3, 46, 6)).tolist()
    for tone, blobs in zip((dark(design.main, 0.35), light(design.main, 0.3), mix(design.main, COLOURS["brown"], 0.5)), lots,
                           strict=True):
        areas = []
        for u, v, w, a, b, c in blobs:
            x, y, r = (2 * u - 1) * 1.25, (2 * v - 1) * 1.25, 0.07 + 0.1 * w
            bumps = (1 + a, 0.6 + b, 1.3 - a * 0.6, 0.7 + c, 1.2 - b * 0.5, 0.8 + a * b)
            areas.append([(x + r * bumps[k // 2 % 6] * px * 1.4, y + r * bumps[k // 2 % 6] * py * 0.8)
                          for k, (px, py) in enumerate(ellipse(0, 0, 1, 1, 12))])
        pen.areas(areas, tone)


def _gradient(pen: Pen, design: Design, rng: np.random.Generator) -> None:
    start = -0.6 + 0.5 * rng.random()
    height = 2.2 / 40
    for k in range(40):
        y = -1.1 + k * height
        share = min(1.0, max(0.0, (y - start) / 1.2))
        top = -REACH if k == 0 else y
        bottom = REACH if k == 39 else y + height * 1.2
        pen.areas([[(-REACH, top), (REACH, top), (REACH, bottom), (-REACH, bottom)]], mix(design.main, design.second, share))


_PATTERNS = {"striped": _striped, "pinstriped": _pinstriped, "checked": _checked, "dotted": _dotted, "floral": _floral,
             "zigzag": _zigzag, "colour-block": _colour_block, "camouflage": _camouflage, "gradient": _gradient}


def thickness(matrix: np.ndarray) -> float:
    """Pixels per unit of product coordinates, the mean of both axes."""
    return (hypot(matrix[0, 0], matrix[1, 0]) + hypot(matrix[0, 1], matrix[1, 1])) / 2

