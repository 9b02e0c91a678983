"""A product as a list of shapes in its own coordinates (about -1 to 1, y downwards), before it has a size or a pose."""

from dataclasses import dataclass, field

from kaleidobert.drawing.curves import Points, band
from kaleidobert.drawing.palette import RGB

CLOTH = None  # the paint of what is made of the product's own, possibly patterned, material


@dataclass(frozen=True)
class Shape:
    """kind: fill, seam (a thin line in the outline colour of the cloth) or shade (a see-through area).

    paint: a colour, or CLOTH. width: of a seam. strength: of a shade, -1 (white) to 1 (black); of a fill, how much its sides
    darken, as on something round.
    """

    kind: str
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
        """A closed area with an outline; part: the key under which wording may speak of it."""
        self.shapes.append(Shape("fill", points, paint, strength=volume, edge=edge))
        self.part(part, points)

    def line(self, points: Points, paint: RGB | None = CLOTH, width: float = 0.02, part: str = "") -> None:
        """A long narrow thing: a strap, a lace, a cord."""
        self.fill(band(points, width), paint, part)

    def seam(self, points: Points, width: float = 0.012, paint: RGB | None = CLOTH) -> None:
        """A thin line on the product: a seam, a fold, a stitch; a colour may be given for contrast stitching."""
        self.shapes.append(Shape("seam", points, paint, width))

    def shade(self, points: Points, strength: float) -> None:
        self.shapes.append(Shape("shade", points, strength=strength))

    def part(self, key: str, points: Points) -> None:
        """Note where a part lies without drawing; two points are opposite corners; an empty key is no part."""
        if len(points) == 2:
            (x1, y1), (x2, y2) = points
            points = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
        if key:
            self.parts.append((key, points))

    def beside(self, dx: float, dy: float) -> None:
        """Draw everything so far once more, behind and moved: the other shoe of the pair (its parts are not described)."""
        moved = [Shape(s.kind, [(x + dx, y + dy) for x, y in s.points], s.paint, s.width, s.strength, s.edge)
                 for s in self.shapes]
        self.shapes = moved + self.shapes
