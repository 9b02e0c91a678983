"""The elements of garments: the upper body with sleeves, cuffs and hem; collars and hoods; closures, pockets and other details."""

from dataclasses import dataclass
from math import cos, sin
from typing import TypedDict

from kaleidobert.drawing.design import RGB, Design, dark, deep, luminance, outline, tonal
from kaleidobert.drawing.sketch import CLOTH, Points, Sketch, box, ellipse, flip, lerp, mirrored, path, shift, star

# --- The upper body


TOP = -0.85  # where shoulder and neck meet
REACH = {"short": 0.42, "elbow": 0.68, "long": 1.22, "puff": 0.36}  # length of a sleeve
NECKS = {"crew": (0.13, -0.22), "scoop": (0.3, -0.25), "vneck": (0.42, 0.0), "square": (0.26, 0.0)}  # depth, bulge


@dataclass(frozen=True)
class Torso:
    """Half-widths and heights of a garment. neck, depth, bulge: the neckline; curve: how far the hem's middle hangs lower."""

    neck: float = 0.19
    depth: float = 0.13
    bulge: float = -0.22
    shoulder: float = 0.46
    slope: float = 0.12
    underarm: float = -0.36
    chest: float = 0.46
    waist: float = 0.45
    hem: float = 0.46
    bottom: float = 0.75
    curve: float = 0.0
    square: bool = False

    def outline(self) -> Points:
        """Returns the body, clockwise, without sleeves."""
        return mirrored(*self.half())

    def half(self) -> list[tuple[float, ...]]:
        middle = (self.underarm + self.bottom) / 2
        corner = [(self.neck * 0.85, TOP + self.depth)] if self.square else []
        return [(0, TOP + self.depth), *corner, (self.neck, TOP, self.bulge), (self.shoulder, TOP + self.slope, 0.02),
                (self.chest, self.underarm, -0.1), (self.waist, middle), (self.hem, self.bottom),
                (0, self.bottom + self.curve, self.curve)]

    def side(self, y: float) -> float:
        """Returns the half-width at a height below the underarm."""
        middle = (self.underarm + self.bottom) / 2
        if y < middle:
            return self.chest + (self.waist - self.chest) * max(0.0, (y - self.underarm) / (middle - self.underarm))
        return self.waist + (self.hem - self.waist) * (y - middle) / (self.bottom - middle)


class Neckline(TypedDict):
    """The Torso arguments that a collar determines."""

    neck: float
    depth: float
    bulge: float
    square: bool


def neckline(design: Design) -> Neckline:
    """Returns the Torso arguments of a design's collar."""
    depth, bulge = NECKS.get(design.features.get("collar", "crew"), NECKS["crew"])
    deep = depth * design.dial("neck", 0.85, 1.15)
    return {"neck": design.dial("neck", 0.17, 0.22), "depth": deep, "bulge": bulge, "square": design.has("collar", "square")}


def inside(sketch: Sketch, design: Design, torso: Torso, back: bool) -> None:
    """Draws the inner back that shows through the neck; called first."""
    if not back:
        sketch.fill(mirrored((0, TOP + 0.03), (torso.neck, TOP, -0.1), (torso.neck + 0.07, TOP + torso.depth),
                             (0, TOP + torso.depth + 0.04)),
                    dark(design.main, 0.4))


def behind(torso: Torso) -> Torso:
    """Returns the same garment from behind: the neck is cut high and round."""
    return Torso(torso.neck, 0.045, -0.16, torso.shoulder, torso.slope, torso.underarm, torso.chest, torso.waist, torso.hem,
                 torso.bottom, torso.curve)


def sleeves(sketch: Sketch, design: Design, torso: Torso, width: float, paint: RGB | None = CLOTH) -> None:
    """Draws both sleeves with their cuffs, before the body. width: at the wrist."""
    choice = design.features.get("sleeve", "sleeveless")
    if choice == "sleeveless":
        return
    length = REACH[choice] * design.dial("sleeve", 0.92, 1.05) * (0.9 + 0.1 * (torso.bottom > 0.7))
    angle = design.dial("pose", 0.16, 0.36) if choice == "long" else design.dial("pose", 0.4, 0.62)
    width = width if choice == "long" else max(width, 0.25 if choice == "short" else 0.2)
    for side in (1, -1):
        upper, lower = _arm(torso, length, angle, width, puff=choice == "puff")
        arm = [(side * x, y) for x, y in upper + lower]
        sketch.fill(arm, paint, volume=0.3)
        sketch.part("sleeve", [(side * x, y) for x, y in upper[1:] + lower[:-1]])  # without the points that the body hides
        if choice == "long":  # folds at the elbow
            outer, inner = lerp(upper[1], upper[-1], 0.56), lerp(lower[-2], lower[0], 0.5)
            for t, drop in ((0.55, 0.04), (0.35, -0.03)):
                x, y = lerp(inner, outer, t)
                sketch.seam([(side * inner[0], inner[1] + drop), (side * x, y + drop * 1.8)])
        _cuff(sketch, design, upper, lower, side, 0.085 if choice == "long" else 0.12)


def _arm(torso: Torso, length: float, angle: float, width: float, puff: bool) -> tuple[Points, Points]:
    """Returns (the outer edge from the shoulder down, the inner edge from the cuff up)."""
    tip, pit = (torso.shoulder, TOP + torso.slope), (torso.chest - 0.02, torso.underarm)
    end = (tip[0] + length * sin(angle), tip[1] + length * cos(angle))
    inner = (end[0] - width * cos(angle), end[1] + width * sin(angle))
    root = (torso.shoulder - 0.12, TOP + torso.slope - 0.03)
    upper = path(root, tip, (*end, 0.32 if puff else 0.05))
    return upper, path(inner, (*pit, 0.15 if puff else 0.02), (torso.chest - 0.15, torso.underarm - 0.05))


def _cuff(sketch: Sketch, design: Design, upper: Points, lower: Points, side: int, height: float) -> None:
    start, end, inner, pit = upper[1], upper[-1], lower[0], lower[-2]
    reach = max(abs(end[0] - start[0]) + abs(end[1] - start[1]), 0.1)
    fraction = height / reach
    ring = [lerp(end, start, fraction), end, inner, lerp(inner, pit, fraction)]
    ring = [(side * x, y) for x, y in ring]
    if not design.has("cuffs"):
        sketch.seam([ring[0], ring[3]])
        return
    sketch.fill(ring, design.ink("cuffs"), "cuffs", volume=0.2)
    if design.has("cuffs", "ribbed", "elastic"):
        for t in (0.2, 0.4, 0.6, 0.8):
            sketch.seam([lerp(ring[0], ring[3], t), lerp(ring[1], ring[2], t)], 0.008, dark(design.ink("cuffs"), 0.25))
    if design.has("cuffs", "barrel"):
        x, y = lerp(lerp(ring[0], ring[3], 0.35), lerp(ring[1], ring[2], 0.35), 0.5)
        sketch.fill([(x - 0.014, y), (x, y - 0.014), (x + 0.014, y), (x, y + 0.014)], (240, 240, 236))


def body(sketch: Sketch, design: Design, torso: Torso, paint: RGB | None = CLOTH) -> None:
    """Draws the body with soft folds."""
    sketch.fill(torso.outline(), paint, volume=0.24)
    lean = design.dial("curve", -0.1, 0.1)
    for x, y, reach in ((torso.chest * 0.9, torso.underarm + 0.03, 0.55), (-torso.chest * 0.9, torso.underarm + 0.06, 0.5)):
        far = (x * (0.45 + lean), y + reach * 0.75)
        sketch.shade(path((x, y), (*far, 0.12), (x * 0.97, y + 0.07, -0.06)), 0.13)


def hem(sketch: Sketch, design: Design, torso: Torso, height: float = 0.1) -> None:
    """Draws the lower border: ribs on knitwear, a stitched line otherwise."""
    y, half = torso.bottom, torso.side(torso.bottom - height)
    if design.has("hem", "ribbed"):
        ring = path((-half, y - height), (half, y - height), (torso.hem * 0.96, y), (-torso.hem * 0.96, y))
        sketch.fill(ring, design.ink("hem"), "hem", volume=0.22)
        for k in range(1, 16):
            x = half * (k / 8 - 1)
            sketch.seam([(x, y - height + 0.012), (x * 0.96, y - 0.012)], 0.008, dark(design.ink("hem"), 0.22))
        return
    drop = torso.curve
    sketch.seam(path((-torso.hem + 0.01, y - 0.045), (torso.hem - 0.01, y - 0.045, -drop)), 0.009)
    if design.has("hem"):
        sketch.part("hem", [(-torso.hem, y - 0.08), (torso.hem, y + max(drop, 0.0))])
    if design.has("hem", "vented"):
        for side in (1, -1):
            sketch.fill([(side * torso.hem, y + 0.005), (side * (torso.hem - 0.05), y + 0.005),
                         (side * torso.side(y - 0.14), y - 0.14)],
                        dark(tonal(design.main), 0.35), edge=False)


# --- Collars, lapels, hoods


def collar(sketch: Sketch, design: Design, torso: Torso, back: bool) -> None:
    """Draws the collar of the design, after the body."""
    choice = design.features.get("collar", "none")
    if back and choice in _FROM_BEHIND:
        _FROM_BEHIND[choice](sketch, design, torso)
    elif back:
        _rib(sketch, design, torso, 0.05)
    else:
        _COLLARS[choice](sketch, design, torso)


def _rib(sketch: Sketch, design: Design, torso: Torso, width: float = 0.06) -> None:
    """Draws a band that follows the neckline, whatever its shape."""
    n, d, b = torso.neck, torso.depth, torso.bulge
    corner = [(n * 0.85, TOP + d)] if torso.square else []
    outer = [(n * 0.85 + width * 0.8, TOP + d + width)] if torso.square else []
    half = path((0, TOP + d), *corner, (n, TOP, b))
    rim = path((0, TOP + d + width * (1.5 if b == 0 and not torso.square else 1.0)), *outer, (n + width * 0.75, TOP + 0.018, b))
    ring = flip(half) + half[1:] + rim[::-1] + [(-x, y) for x, y in rim[1:]]
    sketch.fill(ring, design.ink("collar"), "collar")


def _turtle(sketch: Sketch, design: Design, torso: Torso) -> None:
    n = torso.neck + 0.02
    sketch.fill(mirrored((0, TOP - 0.15), (n * 0.86, TOP - 0.14, 0.06), (n * 1.02, TOP + 0.03, -0.08), (0, TOP + 0.09, 0.12)),
                design.ink("collar"), "collar", volume=0.35)
    sketch.seam(mirrored((0, TOP - 0.005), (n * 0.95, TOP - 0.03, -0.1))[0:9])
    for k in range(-4, 5):
        sketch.seam([(k * n * 0.2, TOP - 0.13), (k * n * 0.22, TOP + 0.05)], 0.007, dark(design.ink("collar"), 0.2))


def _spread(sketch: Sketch, design: Design, torso: Torso) -> None:
    n, point = torso.neck, design.dial("neck", 0.2, 0.3)
    stand = mirrored((0, TOP - 0.055), (n * 0.8, TOP - 0.05, 0.08), (n, TOP + 0.01), (0, TOP + 0.09, 0.06))
    sketch.fill(stand, dark(design.ink("collar"), 0.3), "collar")
    leaf = path((n * 0.86, TOP - 0.06), (n + 0.05, TOP + 0.015, 0.1), (n * 0.95, TOP + point),
                (0.008, TOP + torso.depth + 0.02, 0.03), (n * 0.8, TOP - 0.04, -0.12))
    for side in (leaf, flip(leaf)):
        sketch.fill(side, design.trim("collar"), "collar")


def _band(sketch: Sketch, design: Design, torso: Torso) -> None:
    n = torso.neck
    ring = path((n * 0.82, TOP - 0.075), (n + 0.03, TOP + 0.01), (0.012, TOP + torso.depth + 0.065, -0.22),
                (0.012, TOP + torso.depth - 0.02), (n * 0.78, TOP - 0.07, -0.2))
    for side in (ring, flip(ring)):
        sketch.fill(side, design.ink("collar"), "collar")


def _lapels(sketch: Sketch, design: Design, torso: Torso, shape: str) -> None:
    n, low = torso.neck, TOP + torso.depth
    wide = design.dial("detail", 0.17, 0.23)
    notch = TOP + 0.24
    if shape == "shawl":
        lapel = path((n * 0.8, TOP - 0.06), (n + 0.06, TOP + 0.02, 0.1), (wide + 0.1, TOP + 0.26, 0.1), (0.0, low, 0.14),
                     (n * 0.75, TOP - 0.03, -0.04))
    elif shape == "peak":
        lapel = path((n * 0.8, TOP - 0.06), (n + 0.06, TOP + 0.02, 0.1), (wide, notch), (wide + 0.15, notch - 0.09),
                     (0.0, low, 0.1), (n * 0.75, TOP - 0.03, -0.04))
    else:
        lapel = path((n * 0.8, TOP - 0.06), (n + 0.06, TOP + 0.02, 0.1), (wide + 0.07, notch - 0.03), (wide - 0.02, notch),
                     (wide + 0.1, notch + 0.045),
                     (0.0, low, 0.1), (n * 0.75, TOP - 0.03, -0.04))
    for side in (lapel, flip(lapel)):
        sketch.fill(side, design.trim("collar"), "collar")
        if shape != "shawl":
            x = 1 if side is lapel else -1
            sketch.seam([(x * n * 0.75, TOP + 0.11), (x * wide, notch)])


def _stand(sketch: Sketch, design: Design, torso: Torso, height: float = 0.1) -> None:
    n = torso.neck + 0.02
    ring = mirrored((0, TOP - height), (n * 0.84, TOP - height + 0.015, 0.05), (n, TOP + 0.03),
                    (0, TOP + torso.depth + 0.04, 0.2))
    sketch.fill(ring, design.ink("collar"), "collar", volume=0.3)
    for k in range(-4, 5):
        sketch.seam([(k * n * 0.2, TOP - height + 0.015), (k * n * 0.22, TOP + torso.depth * 0.6)], 0.007,
                    dark(design.ink("collar"), 0.2))


def _funnel(sketch: Sketch, design: Design, torso: Torso) -> None:
    n = torso.neck + 0.05
    for y, drop in ((TOP - 0.02, torso.depth + 0.06), (TOP - 0.11, 0.08)):
        sketch.fill(mirrored((0, y - 0.07), (n * 0.92, y - 0.06, 0.05), (n, y + 0.06, 0.3), (0, y + drop, 0.03)),
                    design.ink("collar"), "collar", volume=0.3)


def _behind(sketch: Sketch, design: Design, torso: Torso) -> None:
    """Draws any turned-down collar from behind: a crescent over the neck."""
    n = torso.neck
    sketch.fill(mirrored((0, TOP - 0.06), (n * 0.85, TOP - 0.05, 0.06), (n + 0.06, TOP + 0.05, 0.1), (0, TOP + 0.1, 0.05)),
                design.trim("collar"), "collar")


def raised_hood(sketch: Sketch, design: Design, torso: Torso) -> None:
    """Draws a hood that stands up behind a high collar, before the body."""
    n, paint = torso.neck, design.trim("hood")
    sketch.fill(mirrored((0, TOP - 0.42), (n + 0.17, TOP - 0.1, 0.3), (n + 0.12, TOP + 0.1, 0.08), (0, TOP + 0.1)), paint, "hood",
                volume=0.3)
    sketch.fill(mirrored((0, TOP - 0.34), (n + 0.08, TOP - 0.1, 0.28), (n + 0.05, TOP + 0.06, 0.06), (0, TOP + 0.06)),
                dark(design.main, 0.42))


def hood(sketch: Sketch, design: Design, torso: Torso, back: bool) -> None:
    """Draws a hood behind the neck or, from behind, on the back."""
    n, paint = torso.neck, design.trim("hood")
    if back:
        sketch.fill(mirrored((0, TOP - 0.14), (n + 0.06, TOP - 0.04, 0.2), (n + 0.04, TOP + 0.2, 0.12), (0, TOP + 0.44, 0.14)),
                    paint, "hood", volume=0.3)
        sketch.seam([(0, TOP - 0.12), (0, TOP + 0.42)])
        return
    low = TOP + torso.depth + 0.06
    rim = mirrored((0, TOP - 0.2), (n + 0.09, TOP - 0.02, 0.28), (n * 0.9, TOP + 0.1, 0.2), (0, low, -0.04))
    sketch.fill(rim, paint, "hood", volume=0.3)
    sketch.fill(mirrored((0, TOP - 0.13), (n * 0.8, TOP - 0.01, 0.24), (0, low - 0.03, 0.12)), dark(design.main, 0.42))
    sketch.shade(ellipse(0, TOP + 0.02, n * 0.5, 0.09), 0.25)


_COLLARS = {"crew": _rib, "scoop": _rib, "vneck": _rib, "square": _rib, "turtle": _turtle, "spread": _spread, "polo": _spread,
            "band": _band,
            "notch": lambda s, d, t: _lapels(s, d, t, "notch"), "peak": lambda s, d, t: _lapels(s, d, t, "peak"),
            "shawl": lambda s, d, t: _lapels(s, d, t, "shawl"), "stand": _stand, "funnel": _funnel, "none": lambda s, d, t: None}
_FROM_BEHIND = {"turtle": _turtle, "spread": _behind, "polo": _behind, "band": _behind, "notch": _behind, "peak": _behind,
                "shawl": _behind,
                "stand": _stand, "funnel": _funnel, "none": lambda s, d, t: None}


# --- Details


METAL = (196, 190, 178)
GOLD = (212, 176, 92)


def patch_pocket(sketch: Sketch, design: Design, x: float, y: float, width: float, height: float) -> None:
    """Draws a pocket sewn on; (x, y) is the middle of its opening."""
    paint = design.trim("pocket")
    half = width / 2
    sketch.fill(path((x - half, y), (x + half, y), (x + half, y + height * 0.8), (x, y + height, 0.08),
                     (x - half, y + height * 0.8, 0.08)), paint, "pocket")
    sketch.seam([(x - half, y + height * 0.2), (x + half, y + height * 0.2)], 0.01)


def flap_pocket(sketch: Sketch, design: Design, x: float, y: float, width: float, height: float = 0.085,
                key: str = "pocket") -> None:
    """Draws a pocket of which only the flap shows."""
    paint = design.ink(key)
    sketch.fill(path((x - width / 2, y), (x + width / 2, y), (x + width / 2, y + height, 0.05),
                     (x - width / 2, y + height, 0.04)), paint, key)


def slit_pocket(sketch: Sketch, design: Design, start: tuple[float, float], end: tuple[float, float],
                zipped: bool = False) -> None:
    """Draws a pocket opening from start to end: a welt or a short zip."""
    if zipped:
        sketch.line([start, end], METAL, 0.02, "pocket")
        sketch.fill(ellipse(*start, 0.022, 0.022, 8), METAL)
    else:
        sketch.line([start, end], design.ink("pocket"), 0.03, "pocket")


def side_pockets(sketch: Sketch, design: Design, x: float, y: float, style: str, width: float = 0.24) -> None:
    """Draws a pocket on each side, x from the middle, at height y."""
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
    """Draws a column of buttons."""
    paint = design.trim(key, _button(design.main))
    for k in range(count):
        y = top + (bottom - top) * (k / (count - 1) if count > 1 else 0.5)
        sketch.fill(ellipse(x, y, radius, radius, 12), paint)
        sketch.seam([(x - radius * 0.3, y), (x + radius * 0.3, y)], 0.008, outline(paint))
    sketch.part(key, box(x, top - radius, 2.4 * radius, bottom - top + 2 * radius))


def _button(main: RGB) -> RGB:
    return (244, 240, 228) if luminance(main) < 150 else dark(main, 0.62)


def zipper(sketch: Sketch, design: Design, top: float, bottom: float) -> None:
    """Draws a vertical zip with its slider."""
    tape = design.trim("zip", deep(design.main, 0.45))
    sketch.line([(0.0, top), (0.0, bottom)], tape, 0.035, "zip")
    y = top
    while y < bottom - 0.02:
        sketch.seam([(-0.012, y), (0.012, y + 0.012)], 0.012, METAL)
        y += 0.045
    sketch.fill(box(0.0, top, 0.045, 0.07), METAL)


def drawstring(sketch: Sketch, design: Design, x: float, y: float, length: float) -> None:
    """Draws two cords that hang down, with knots."""
    paint = design.trim("drawstring", (245, 243, 236) if luminance(design.main) < 190 else (70, 70, 74))
    cords: Points = []
    for side in (1, -1):
        cord = path((side * x, y), (side * (x + 0.035), y + length, -0.1 * side))
        sketch.line(cord, paint, 0.022)
        sketch.fill(ellipse(cord[-1][0], cord[-1][1], 0.022, 0.03, 8), paint)
        cords += cord
    sketch.part("drawstring", [*cords, (-x - 0.055, y + length + 0.03), (x + 0.055, y)])


def belt(sketch: Sketch, design: Design, y: float, half: float, back: bool, height: float = 0.085) -> None:
    """Draws a belt around the waist, at the front with a buckle or tied ends."""
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
    """Returns the areas of a printed figure."""
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
    """Draws the figure printed on the product, in its second colour."""
    areas = emblem(design.features[key], x, y, radius)
    sketch.fill(areas[0], design.second, key, edge=False)
    for area in areas[1:]:
        sketch.fill(area, design.main, edge=False)


def logo(sketch: Sketch, design: Design, x: float, y: float, radius: float = 0.05) -> None:
    """Draws a small embroidered badge."""
    sketch.fill(ellipse(x, y, radius, radius * 0.8, 14), design.second, "logo")
    sketch.seam([(x - radius * 0.5, y), (x, y - radius * 0.35), (x + radius * 0.5, y)], 0.016, design.main)
