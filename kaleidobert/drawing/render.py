"""From a sketch to pixels: placing it in the frame, painting it at three times the size, light and shadow."""

from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from kaleidobert.drawing.curves import bounds, clip
from kaleidobert.drawing.garments.sketch import CLOTH, Shape, Sketch
from kaleidobert.drawing.palette import RGB, outline
from kaleidobert.drawing.patterns import thickness

OVERSAMPLING = 3


@cache
def _sides(strength: float) -> Image.Image:
    """How dark the columns of something round are, from edge to edge."""
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
        """Paint all shapes, the first one deepest."""
        counts = np.cumsum([len(shape.points) for shape in shapes])[:-1]
        every = np.array([point for shape in shapes for point in shape.points], np.float64)
        every = np.round((every @ self.matrix[:, :2].T + self.matrix[:, 2]) * 4) / 4  # rounded: the same on every machine
        for shape, points in zip(shapes, np.split(every, counts), strict=True):
            flat = points.ravel().tolist()
            if shape.kind == "fill":
                self._fill(shape, points, flat)
            elif shape.kind == "shade":
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
    """The product alone: colour float32[size, size, 3] on black, cover float32[size, size, 1] from 0 to 1.

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
    """Brightness float32[size, size] of something soft lit from the top left: its far edges are darker."""
    radius = size * 0.04
    soft = np.asarray(mask.filter(ImageFilter.BoxBlur(radius)).filter(ImageFilter.BoxBlur(radius)), np.float32) / 255
    step = max(1, round(size * 0.02))
    slope = np.zeros_like(soft)
    slope[step:-step, step:-step] = soft[2 * step:, 2 * step:] - soft[:-2 * step, :-2 * step]
    return np.clip(0.94 + 0.06 * soft + 0.16 * slope, 0.7, 1.08)


def place(sketch: Sketch, size: int, fill: float, turn: float, offset: tuple[float, float], narrow: float = 1.0,
          slant: float = 0.0,
          mirror: bool = False) -> np.ndarray:
    """The matrix [2, 3] that brings the sketch into the frame.

    fill: the share of the frame that its longer side takes. turn: radians. offset: -1 to 1 of the room left on each side.
    narrow, slant: seen from an angle.
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
    """The matrix of a detail: ``factor`` times as large, with the pixel ``focus`` in the middle."""
    closer = matrix * factor
    closer[:, 2] += size / 2 - factor * np.array(focus)
    return closer


def visible(points: list[tuple[float, float]], matrix: np.ndarray, size: int) -> tuple[float, tuple[float, float, float, float]]:
    """(the share of the part's box inside the frame, the box in pixels cut to the frame)."""
    placed = [(x, y) for x, y in (np.array(points) @ matrix[:, :2].T + matrix[:, 2]).tolist()]
    x1, y1, x2, y2 = bounds(placed)
    inside = clip(placed, size)
    if not inside:
        return 0.0, (0.0, 0.0, 0.0, 0.0)
    left, top, right, bottom = (min(max(round(v, 1), 0.0), float(size)) for v in bounds(inside))
    return (right - left) * (bottom - top) / max((x2 - x1) * (y2 - y1), 1e-6), (left, top, right, bottom)
