"""From a sketch to pixels: the patterned cloth, the pose in the frame, painting at three times the size, light and shadow.

A pattern is drawn in the product's own coordinates, so that it moves and turns with the product.
"""

from collections.abc import Callable
from functools import cache
from math import hypot

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from kaleidobert.drawing.design import COLOURS, RGB, Design, dark, light, luminance, mix, outline
from kaleidobert.drawing.sketch import CLOTH, Points, Shape, Sketch, bounds, clip, ellipse

# --- Patterns


REACH = 1.6  # patterns fill -REACH to REACH; sketches stay inside


class Pen:
    """Draws polygons given in product coordinates on a picture in pixels; matrix: [2, 3]."""

    def __init__(self, image: Image.Image, matrix: np.ndarray):
        self.draw, self.matrix = ImageDraw.Draw(image, "RGBA"), matrix

    def areas(self, areas: list[Points], colour: tuple[int, ...]) -> None:
        """Fills several polygons of equally many points."""
        points = np.array(areas, np.float64) @ self.matrix[:, :2].T + self.matrix[:, 2]  # [areas, points, 2]
        for area in np.round(points).astype(int).reshape(len(areas), -1).tolist():
            self.draw.polygon(area, fill=colour)


def material(design: Design, matrix: np.ndarray, pixels: int, rng: np.random.Generator) -> Image.Image | None:
    """Draws the cloth as a picture of pixels x pixels; None where it has one colour. rng: the product's own generator."""
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
    start, size, fraction, turn = rng.random(4).tolist()
    period = 0.13 + 0.16 * size
    pen.areas(_bars(start, period, period * (0.3 + 0.25 * fraction), across=turn < 0.85), design.second)


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
    start, size, fraction = rng.random(3).tolist()
    period = 0.15 + 0.1 * size
    radius = period * (0.2 + 0.1 * fraction)
    dots = []
    for row, y in enumerate(np.arange(-1.3 + start * period, 1.3, period * 0.8).tolist()):
        dots += [ellipse(x, y, radius, radius, 10) for x in np.arange(-1.3 + (row % 2) * period / 2, 1.3, period).tolist()]
    pen.areas(dots, design.second)


def _floral(pen: Pen, design: Design, rng: np.random.Generator) -> None:
    period = 0.2 + 0.1 * rng.random()
    grid = [(x, y) for y in np.arange(-1.25, 1.25, period).tolist() for x in np.arange(-1.25, 1.25, period).tolist()]
    draws = rng.random((len(grid), 3)).tolist()
    leaves, petals, hearts = [], [], []
    for (x, y), (u, v, w) in zip(grid, draws, strict=True):
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
    start, size, fraction = rng.random(3).tolist()
    period, step = 0.2 + 0.12 * size, 0.07 + 0.04 * fraction
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
    draws = rng.random((3, 46, 6)).tolist()
    for tone, blobs in zip((dark(design.main, 0.35), light(design.main, 0.3), mix(design.main, COLOURS["brown"], 0.5)), draws,
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
        fraction = min(1.0, max(0.0, (y - start) / 1.2))
        top = -REACH if k == 0 else y
        bottom = REACH if k == 39 else y + height * 1.2
        pen.areas([[(-REACH, top), (REACH, top), (REACH, bottom), (-REACH, bottom)]], mix(design.main, design.second, fraction))


_PATTERNS = {"striped": _striped, "pinstriped": _pinstriped, "checked": _checked, "dotted": _dotted, "floral": _floral,
             "zigzag": _zigzag, "colour-block": _colour_block, "camouflage": _camouflage, "gradient": _gradient}


def thickness(matrix: np.ndarray) -> float:
    """Returns the pixels per unit of product coordinates, the mean of both axes."""
    return (hypot(matrix[0, 0], matrix[1, 0]) + hypot(matrix[0, 1], matrix[1, 1])) / 2


# --- Painting


OVERSAMPLING = 3


@cache
def _sides(strength: float) -> Image.Image:
    """Returns the darkness of the columns of something round, from edge to edge."""
    across = np.clip(np.abs(np.linspace(-1, 1, 64)) * 1.5 - 0.5, 0, 1)
    return Image.fromarray((255 * strength * across * np.sqrt(across)).astype(np.uint8)[None].repeat(2, 0))


class Painter:
    """Paints shapes on a square picture. main: the outline's base colour on CLOTH; material: its pattern or None."""

    def __init__(self, pixels: int, matrix: np.ndarray, main: RGB, material: Image.Image | None):
        self.pixels, self.matrix, self.main, self.material = pixels, matrix, main, material
        self.image = Image.new("RGB", (pixels, pixels))
        self.mask = Image.new("L", (pixels, pixels))
        self.draw, self.cover = ImageDraw.Draw(self.image), ImageDraw.Draw(self.mask)
        self.glaze = ImageDraw.Draw(self.image, "RGBA")
        self.scale = thickness(matrix)
        self.hair = max(1, round(0.008 * self.scale + 0.3))  # the width of an outline

    def paint(self, shapes: list[Shape]) -> None:
        """Paints all shapes, the first one at the back."""
        counts = np.cumsum([len(shape.points) for shape in shapes])[:-1]
        every = np.array([point for shape in shapes for point in shape.points], np.float64)
        every = np.round((every @ self.matrix[:, :2].T + self.matrix[:, 2]) * 4) / 4  # rounded: the same on every machine
        for shape, points in zip(shapes, np.split(every, counts), strict=True):
            flat = points.ravel().tolist()
            if shape.type == "fill":
                self._fill(shape, points, flat)
            elif shape.type == "shade":
                tone = (0, 0, 0) if shape.strength > 0 else (255, 255, 255)
                self.glaze.polygon(flat, fill=(*tone, round(255 * abs(shape.strength))))
            else:
                ink = outline(self.main) if shape.paint is CLOTH else shape.paint
                self.draw.line(flat, fill=ink, width=max(1, round(shape.width * self.scale)))

    def _fill(self, shape: Shape, points: np.ndarray, flat: list[float]) -> None:
        base = self.main if shape.paint is CLOTH else shape.paint
        pattern = self.material if shape.paint is CLOTH else None
        self.cover.polygon(flat, fill=255)
        if pattern is None:
            self.draw.polygon(flat, fill=base)
        if pattern is not None or shape.strength:
            x1, y1 = np.clip(np.floor(points.min(0)), 0, self.pixels - 1).astype(int).tolist()
            x2, y2 = np.clip(np.ceil(points.max(0)) + 1, 1, self.pixels).astype(int).tolist()
            if x2 <= x1 or y2 <= y1:
                return
            stencil = Image.new("L", (x2 - x1, y2 - y1))
            ImageDraw.Draw(stencil).polygon((points - (x1, y1)).ravel().tolist(), fill=255)
            if pattern is not None:
                self.image.paste(pattern.crop((x1, y1, x2, y2)), (x1, y1), stencil)
            if shape.strength:
                sides = _sides(shape.strength).resize(stencil.size, Image.Resampling.BILINEAR)
                self.image.paste((0, 0, 0), (x1, y1, x2, y2), ImageChops.multiply(stencil, sides))
        if shape.edge:
            ring = [*flat, flat[0], flat[1]]
            self.cover.line(ring, fill=255, width=self.hair)
            self.draw.line(ring, fill=outline(base), width=self.hair)


def paint(sketch: Sketch, matrix: np.ndarray, size: int, main: RGB,
          material: Callable[[np.ndarray, int], Image.Image | None]) -> tuple[np.ndarray, np.ndarray]:
    """Paints the product alone: colour float32[size, size, 3] on black, cover float32[size, size, 1] from 0 to 1.

    matrix: [2, 3] from product coordinates to pixels of the finished picture. material(matrix, pixels) -> picture or None.
    """
    fine, pixels = matrix * OVERSAMPLING, size * OVERSAMPLING
    painter = Painter(pixels, fine, main, material(fine, pixels))
    painter.paint(sketch.shapes)
    mask = painter.mask.reduce(OVERSAMPLING)
    cover = np.asarray(mask, np.float32)[:, :, None]
    colour = np.minimum(np.asarray(painter.image.reduce(OVERSAMPLING), np.float32), cover)  # a seam may not leave the product
    return colour * _light(mask, size)[:, :, None], cover / 255


def _light(mask: Image.Image, size: int) -> np.ndarray:
    """Returns the brightness float32[size, size] of something soft lit from the top left, whose far edges are darker."""
    radius = size * 0.04
    soft = np.asarray(mask.filter(ImageFilter.BoxBlur(radius)).filter(ImageFilter.BoxBlur(radius)), np.float32) / 255
    step = max(1, round(size * 0.02))
    slope = np.zeros_like(soft)
    slope[step:-step, step:-step] = soft[2 * step:, 2 * step:] - soft[:-2 * step, :-2 * step]
    return np.clip(0.94 + 0.06 * soft + 0.16 * slope, 0.7, 1.08)


def pose_matrix(sketch: Sketch, size: int, fill: float, turn: float, offset: tuple[float, float], narrow: float = 1.0,
          slant: float = 0.0, mirror: bool = False) -> np.ndarray:
    """Returns the matrix [2, 3] from the sketch to the frame.

    fill: fraction of the frame that the longer side takes. turn: radians. offset: -1 to 1 of the room left on each side.
    narrow, slant: of a view from an angle.
    """
    cos, sin = np.cos(turn), np.sin(turn)
    pose = np.array([[cos, -sin], [sin, cos]]) @ np.array([[-narrow if mirror else narrow, slant], [slant * 0.3, 1.0]])
    points = np.array([point for shape in sketch.shapes for point in shape.points]) @ pose.T
    low, high = points.min(0), points.max(0)
    scale = size * fill / max(high - low)
    room = (size - scale * (high - low)) / 2
    middle = size / 2 + room * np.array(offset)
    return np.concatenate([pose * scale, (middle - scale * (low + high) / 2)[:, None]], axis=1)


def zoom(matrix: np.ndarray, focus: tuple[float, float], factor: float, size: int) -> np.ndarray:
    """Returns the matrix of a detail: ``factor`` times as large, with the pixel ``focus`` in the middle."""
    closer = matrix * factor
    closer[:, 2] += size / 2 - factor * np.array(focus)
    return closer


def visible(points: list[tuple[float, float]], matrix: np.ndarray, size: int) -> tuple[float, tuple[float, float, float, float]]:
    """Returns (fraction of the part's box inside the frame, the box in pixels cut to the frame)."""
    pixels = [(x, y) for x, y in (np.array(points) @ matrix[:, :2].T + matrix[:, 2]).tolist()]
    x1, y1, x2, y2 = bounds(pixels)
    inside = clip(pixels, size)
    if not inside:
        return 0.0, (0.0, 0.0, 0.0, 0.0)
    left, top, right, bottom = (min(max(round(v, 1), 0.0), float(size)) for v in bounds(inside))
    return (right - left) * (bottom - top) / max((x2 - x1) * (y2 - y1), 1e-6), (left, top, right, bottom)
