"""Small things on garments: pockets, buttons, zips, cords, belts, prints."""

from kaleidobert.drawing.curves import Points, box, ellipse, flip, path, shift, star
from kaleidobert.drawing.design import Design
from kaleidobert.drawing.garments.sketch import Sketch
from kaleidobert.drawing.palette import RGB, dark, deep, luminance, outline

METAL = (196, 190, 178)
GOLD = (212, 176, 92)


def patch_pocket(sketch: Sketch, design: Design, x: float, y: float, width: float, height: float, key: str = "pocket") -> None:
    """A pocket sewn on; (x, y) is the middle of its opening."""
    paint = design.trim(key)
    half = width / 2
    sketch.fill(path((x - half, y), (x + half, y), (x + half, y + height * 0.8), (x, y + height, 0.08),
                     (x - half, y + height * 0.8, 0.08)), paint, key)
    sketch.seam([(x - half, y + height * 0.2), (x + half, y + height * 0.2)], 0.01)


def flap_pocket(sketch: Sketch, design: Design, x: float, y: float, width: float, height: float = 0.085,
                key: str = "pocket") -> None:
    """A pocket of which only the flap shows."""
    paint = design.ink(key)
    sketch.fill(path((x - width / 2, y), (x + width / 2, y), (x + width / 2, y + height, 0.05),
                     (x - width / 2, y + height, 0.04)), paint, key)


def slit_pocket(sketch: Sketch, design: Design, start: tuple[float, float], end: tuple[float, float],
                zipped: bool = False) -> None:
    """A pocket opening from start to end: a welt or a short zip."""
    if zipped:
        sketch.line([start, end], METAL, 0.02, "pocket")
        sketch.fill(ellipse(*start, 0.022, 0.022, 8), METAL)
    else:
        sketch.line([start, end], design.ink("pocket"), 0.03, "pocket")


def side_pockets(sketch: Sketch, design: Design, x: float, y: float, style: str, width: float = 0.24) -> None:
    """A pocket on each side, x from the middle, at height y."""
    for side in (1, -1):
        if style == "patch":
            patch_pocket(sketch, design, side * x, y, width, width * 1.15)
        elif style == "flap":
            flap_pocket(sketch, design, side * x, y, width)
        elif style == "welt":
            slit_pocket(sketch, design, (side * (x - width / 2), y + 0.05), (side * (x + width / 2), y))
        else:
            slit_pocket(sketch, design, (side * (x + 0.08), y + 0.2), (side * (x - 0.03), y - 0.04), zipped=style == "zip")


def kangaroo(sketch: Sketch, design: Design, y: float, width: float, height: float) -> None:
    half = path((0, y), (width * 0.55, y), (width, y + height * 0.62, -0.1), (width, y + height), (0, y + height))
    sketch.fill(half + flip(half), design.trim("pocket"), "pocket")


def buttons(sketch: Sketch, design: Design, x: float, top: float, bottom: float, count: int, key: str = "buttons",
            radius: float = 0.024) -> None:
    """A column of buttons."""
    paint = design.trim(key, _button(design.main))
    for k in range(count):
        y = top + (bottom - top) * (k / (count - 1) if count > 1 else 0.5)
        sketch.fill(ellipse(x, y, radius, radius, 12), paint)
        sketch.seam([(x - radius * 0.3, y), (x + radius * 0.3, y)], 0.008, outline(paint))
    sketch.part(key, box(x, top - radius, 2.4 * radius, bottom - top + 2 * radius))


def _button(main: RGB) -> RGB:
    return (244, 240, 228) if luminance(main) < 150 else dark(main, 0.62)


def zipper(sketch: Sketch, design: Design, top: float, bottom: float, x: float = 0.0) -> None:
    """A vertical zip with its slider."""
    tape = design.trim("zip", deep(design.main, 0.45))
    sketch.line([(x, top), (x, bottom)], tape, 0.035, "zip")
    y = top
    while y < bottom - 0.02:
        sketch.seam([(x - 0.012, y), (x + 0.012, y + 0.012)], 0.012, METAL)
        y += 0.045
    sketch.fill(box(x, top, 0.045, 0.07), METAL)


def drawstring(sketch: Sketch, design: Design, x: float, y: float, length: float) -> None:
    """Two cords hanging down, with knots."""
    paint = design.trim("drawstring", (245, 243, 236) if luminance(design.main) < 190 else (70, 70, 74))
    cords: Points = []
    for side in (1, -1):
        cord = path((side * x, y), (side * (x + 0.035), y + length, -0.1 * side))
        sketch.line(cord, paint, 0.022)
        sketch.fill(ellipse(cord[-1][0], cord[-1][1], 0.022, 0.03, 8), paint)
        cords += cord
    sketch.part("drawstring", [*cords, (-x - 0.055, y + length + 0.03), (x + 0.055, y)])


def belt(sketch: Sketch, design: Design, y: float, half: float, back: bool, height: float = 0.085) -> None:
    """A belt around the waist; at the front it has a buckle or tied ends."""
    paint = design.trim("belt", deep(design.main, 0.3))
    ring = path((-half, y), (half, y, -0.02), (half, y + height), (-half, y + height, -0.02))
    sketch.fill(ring, paint, "belt", volume=0.2)
    if back:
        return
    if design.dials["detail"] < 0.5:
        sketch.fill(box(0, y - 0.012, 0.13, height + 0.03), GOLD)
        sketch.fill(box(0, y + 0.015, 0.075, height - 0.025), paint)
    else:
        for side in (1, -1):
            sketch.fill(path((0, y + 0.02), (side * 0.1, y + 0.3), (side * 0.04, y + 0.31), (0, y + 0.1)), paint)
        sketch.fill(ellipse(0, y + height / 2, 0.04, 0.05, 12), paint)


def emblem(shape: str, x: float, y: float, radius: float) -> list[Points]:
    """The areas of a printed figure."""
    if shape == "star":
        return [star(x, y, radius)]
    if shape == "heart":
        half = path((0, -0.45), (0.95, -0.35, 0.42), (0, 0.9, 0.08))
        return [[(x + radius * px, y + radius * py) for px, py in half + flip(half)]]
    if shape == "moon":
        return [shift(path((0.3 * radius, -radius), (0.3 * radius, radius, -0.5), (0.3 * radius, -radius, 0.25)), x, y)]
    if shape == "lightning":
        bolt = [(0.25, -1), (-0.55, 0.15), (-0.05, 0.15), (-0.3, 1), (0.55, -0.25), (0.05, -0.25)]
        return [[(x + radius * px, y + radius * py) for px, py in bolt]]
    return [ellipse(x, y, radius, radius), ellipse(x, y, radius * 0.5, radius * 0.5)]


def printed(sketch: Sketch, design: Design, x: float, y: float, radius: float, key: str = "print") -> None:
    """The figure printed on the product, in its second colour."""
    areas = emblem(design.features[key], x, y, radius)
    sketch.fill(areas[0], design.second, key, edge=False)
    for area in areas[1:]:
        sketch.fill(area, design.main, edge=False)


def logo(sketch: Sketch, design: Design, x: float, y: float, radius: float = 0.05, key: str = "logo") -> None:
    """A small embroidered badge."""
    sketch.fill(ellipse(x, y, radius, radius * 0.8, 14), design.second, key)
    sketch.seam([(x - radius * 0.5, y), (x, y - radius * 0.35), (x + radius * 0.5, y)], 0.016, design.main)
