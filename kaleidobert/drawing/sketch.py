"""Outlines and sketches: a product as a list of shapes in its own coordinates (about -1 to 1, y downwards), before it has a size or a pose.

Outlines are lists of points: bulging edges, mirrored halves, ellipses, bands along a line; plain Python, for they are short.
"""

from dataclasses import dataclass, field
from math import cos, hypot, pi, sin

from kaleidobert.drawing.design import RGB

# --- Outlines


Point = tuple[float, float]
Points = list[Point]

_STEPS = tuple(((1 - t / 10) ** 2, 2 * (t / 10) * (1 - t / 10), (t / 10) ** 2) for t in range(1, 11))


def path(*nodes: tuple[float, ...]) -> Points:
    """Returns points through nodes (x, y) or (x, y, bulge); y grows downwards.

    bulge: height of the arc that leads to the node, relative to its chord; positive lies left of the direction of travel,
    which is outside for a clockwise outline.
    """
    points = [(nodes[0][0], nodes[0][1])]
    for node in nodes[1:]:
        x0, y0 = points[-1]
        x1, y1 = node[0], node[1]
        if len(node) == 2 or node[2] == 0:
            points.append((x1, y1))
            continue
        cx, cy = (x0 + x1) / 2 + 2 * node[2] * (y1 - y0), (y0 + y1) / 2 - 2 * node[2] * (x1 - x0)
        points += [(a * x0 + b * cx + c * x1, a * y0 + b * cy + c * y1) for a, b, c in _STEPS]
    return points


def flip(points: Points) -> Points:
    """Mirrors an outline across the vertical axis; it stays clockwise."""
    return [(-x, y) for x, y in reversed(points)]


def mirrored(*nodes: tuple[float, ...]) -> Points:
    """Returns a symmetric outline from its right half, given clockwise from the top centre to the bottom centre."""
    half = path(*nodes)
    return half + flip(half)


def shift(points: Points, dx: float, dy: float) -> Points:
    return [(x + dx, y + dy) for x, y in points]


def lerp(a: Point, b: Point, t: float) -> Point:
    return a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t


def ellipse(x: float, y: float, rx: float, ry: float, steps: int = 20, start: float = 0.0, end: float = 1.0) -> Points:
    """Returns an arc of an ellipse, from ``start`` to ``end`` turns, clockwise from the right."""
    turns = [2 * pi * (start + (end - start) * k / steps) for k in range(steps + (end - start < 1))]
    return [(x + rx * cos(a), y + ry * sin(a)) for a in turns]


def box(x: float, y: float, width: float, height: float) -> Points:
    """Returns a rectangle from its top centre."""
    return [(x - width / 2, y), (x + width / 2, y), (x + width / 2, y + height), (x - width / 2, y + height)]


def band(points: Points, width: float) -> Points:
    """Returns the outline of a line of the given width."""
    left, right = [], []
    for k, (x, y) in enumerate(points):
        (xa, ya), (xb, yb) = points[max(k - 1, 0)], points[min(k + 1, len(points) - 1)]
        length = hypot(xb - xa, yb - ya) or 1.0
        nx, ny = (yb - ya) / length * width / 2, -(xb - xa) / length * width / 2
        left.append((x + nx, y + ny))
        right.append((x - nx, y - ny))
    return left + right[::-1]


def star(x: float, y: float, radius: float, spikes: int = 5, inner: float = 0.45) -> Points:
    """Returns a star that points upwards."""
    points = []
    for k in range(2 * spikes):
        r, a = radius * (inner if k % 2 else 1.0), pi * k / spikes - pi / 2
        points.append((x + r * cos(a), y + r * sin(a)))
    return points


def clip(points: Points, size: float) -> Points:
    """Cuts a polygon to the square from (0, 0) to (size, size), one side after the other; the result may be empty."""
    for axis, limit, sign in ((0, 0.0, 1), (0, size, -1), (1, 0.0, 1), (1, size, -1)):
        kept: Points = []
        for a, b in zip(points, points[1:] + points[:1], strict=True):
            da, db = sign * (a[axis] - limit), sign * (b[axis] - limit)
            if da >= 0:
                kept.append(a)
            if da * db < 0:
                kept.append(lerp(a, b, da / (da - db)))
        points = kept
    return points


def bounds(points: Points) -> tuple[float, float, float, float]:
    """Returns (x1, y1, x2, y2) of the points."""
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    return min(xs), min(ys), max(xs), max(ys)


# --- Sketches


CLOTH = None  # the paint of shapes made of the product's own cloth, which may be patterned


@dataclass(frozen=True)
class Shape:
    """A shape. type: fill, seam (a thin line in the outline colour of the cloth) or shade (a see-through area).

    paint: a colour, or CLOTH. width: of a seam. strength: of a shade, -1 (white) to 1 (black); of a fill, how much its sides
    darken, as on something round.
    """

    type: str
    points: Points
    paint: RGB | None = CLOTH
    width: float = 0.0
    strength: float = 0.0
    edge: bool = True


@dataclass
class Sketch:
    """Shapes from back to front, and the described parts: (key, points) in the order in which they were drawn."""

    shapes: list[Shape] = field(default_factory=list)
    parts: list[tuple[str, Points]] = field(default_factory=list)

    def fill(self, points: Points, paint: RGB | None = CLOTH, part: str = "", volume: float = 0.0, edge: bool = True) -> None:
        """Adds a closed area with an outline; part: its key in descriptions."""
        self.shapes.append(Shape("fill", points, paint, strength=volume, edge=edge))
        self.part(part, points)

    def line(self, points: Points, paint: RGB | None = CLOTH, width: float = 0.02, part: str = "") -> None:
        """Adds a long narrow thing: a strap, a lace, a cord."""
        self.fill(band(points, width), paint, part)

    def seam(self, points: Points, width: float = 0.012, paint: RGB | None = CLOTH) -> None:
        """Adds a thin line on the product: a seam, a fold, a stitch; paint: the colour of contrast stitching."""
        self.shapes.append(Shape("seam", points, paint, width))

    def shade(self, points: Points, strength: float) -> None:
        self.shapes.append(Shape("shade", points, strength=strength))

    def part(self, key: str, points: Points) -> None:
        """Notes the outline of a part without drawing it; two points are opposite corners; an empty key is no part."""
        if len(points) == 2:
            (x1, y1), (x2, y2) = points
            points = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
        if key:
            self.parts.append((key, points))

    def beside(self, dx: float, dy: float) -> None:
        """Repeats all shapes so far, behind and shifted: the other shoe of the pair, whose parts are not described."""
        moved = [Shape(s.type, [(x + dx, y + dy) for x, y in s.points], s.paint, s.width, s.strength, s.edge)
                 for s in self.shapes]
        self.shapes = moved + self.shapes
