"""The upper body of a garment: its outline, sleeves, cuffs and hem, shared by tops, knitwear, outerwear and dresses."""

from dataclasses import dataclass
from math import cos, sin
from typing import TypedDict

from kaleidobert.drawing.curves import Points, lerp, mirrored, path
from kaleidobert.drawing.design import Design
from kaleidobert.drawing.garments.sketch import CLOTH, Sketch
from kaleidobert.drawing.palette import RGB, dark, tonal

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
        """The body, clockwise, without sleeves."""
        return mirrored(*self.half())

    def half(self) -> list[tuple[float, ...]]:
        middle = (self.underarm + self.bottom) / 2
        corner = [(self.neck * 0.85, TOP + self.depth)] if self.square else []
        return [(0, TOP + self.depth), *corner, (self.neck, TOP, self.bulge), (self.shoulder, TOP + self.slope, 0.02),
                (self.chest, self.underarm, -0.1), (self.waist, middle), (self.hem, self.bottom),
                (0, self.bottom + self.curve, self.curve)]

    def side(self, y: float) -> float:
        """The half-width at a height below the underarm."""
        middle = (self.underarm + self.bottom) / 2
        if y < middle:
            return self.chest + (self.waist - self.chest) * max(0.0, (y - self.underarm) / (middle - self.underarm))
        return self.waist + (self.hem - self.waist) * (y - middle) / (self.bottom - middle)


class Neckline(TypedDict):
    """The Torso arguments that a collar decides."""

    neck: float
    depth: float
    bulge: float
    square: bool


def neckline(design: Design) -> Neckline:
    """The Torso arguments of a design's collar."""
    depth, bulge = NECKS.get(design.features.get("collar", "crew"), NECKS["crew"])
    deep = depth * design.dial("neck", 0.85, 1.15)
    return {"neck": design.dial("neck", 0.17, 0.22), "depth": deep, "bulge": bulge, "square": design.has("collar", "square")}


def inside(sketch: Sketch, design: Design, torso: Torso, back: bool) -> None:
    """What is seen of the inner back through the neck; drawn first."""
    if not back:
        sketch.fill(mirrored((0, TOP + 0.03), (torso.neck, TOP, -0.1), (torso.neck + 0.07, TOP + torso.depth),
                             (0, TOP + torso.depth + 0.04)),
                    dark(design.main, 0.4))


def behind(torso: Torso) -> Torso:
    """The same garment from behind: the neck is cut high and round."""
    return Torso(torso.neck, 0.045, -0.16, torso.shoulder, torso.slope, torso.underarm, torso.chest, torso.waist, torso.hem,
                 torso.bottom, torso.curve)


def sleeves(sketch: Sketch, design: Design, torso: Torso, width: float = 0.13, paint: RGB | None = CLOTH) -> None:
    """Both sleeves with their cuffs; drawn before the body. width: at the wrist."""
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
        sketch.part("sleeve", [(side * x, y) for x, y in upper[1:] + lower[:-1]])  # without what the body hides
        if choice == "long":  # folds at the elbow
            outer, inner = lerp(upper[1], upper[-1], 0.56), lerp(lower[-2], lower[0], 0.5)
            for t, drop in ((0.55, 0.04), (0.35, -0.03)):
                x, y = lerp(inner, outer, t)
                sketch.seam([(side * inner[0], inner[1] + drop), (side * x, y + drop * 1.8)])
        _cuff(sketch, design, upper, lower, side, 0.085 if choice == "long" else 0.12)


def _arm(torso: Torso, length: float, angle: float, width: float, puff: bool) -> tuple[Points, Points]:
    """(the outer edge from the shoulder down, the inner edge from the cuff up)."""
    tip, pit = (torso.shoulder, TOP + torso.slope), (torso.chest - 0.02, torso.underarm)
    end = (tip[0] + length * sin(angle), tip[1] + length * cos(angle))
    inner = (end[0] - width * cos(angle), end[1] + width * sin(angle))
    root = (torso.shoulder - 0.12, TOP + torso.slope - 0.03)
    upper = path(root, tip, (*end, 0.32 if puff else 0.05))
    return upper, path(inner, (*pit, 0.15 if puff else 0.02), (torso.chest - 0.15, torso.underarm - 0.05))


def _cuff(sketch: Sketch, design: Design, upper: Points, lower: Points, side: int, height: float) -> None:
    start, end, inner, pit = upper[1], upper[-1], lower[0], lower[-2]
    reach = max(abs(end[0] - start[0]) + abs(end[1] - start[1]), 0.1)
    share = height / reach
    ring = [lerp(end, start, share), end, inner, lerp(inner, pit, share)]
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
    """The body with soft folds."""
    sketch.fill(torso.outline(), paint, volume=0.24)
    lean = design.dial("curve", -0.1, 0.1)
    for x, y, reach in ((torso.chest * 0.9, torso.underarm + 0.03, 0.55), (-torso.chest * 0.9, torso.underarm + 0.06, 0.5)):
        far = (x * (0.45 + lean), y + reach * 0.75)
        sketch.shade(path((x, y), (*far, 0.12), (x * 0.97, y + 0.07, -0.06)), 0.13)


def hem(sketch: Sketch, design: Design, torso: Torso, height: float = 0.1) -> None:
    """The lower border, as far as the design has one; ribs on knitwear, a stitched line otherwise."""
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
