"""Jeans, shorts and sweatpants."""

from dataclasses import dataclass

from kaleidobert.drawing.curves import Points, band, box, ellipse, mirrored, path
from kaleidobert.drawing.design import Design
from kaleidobert.drawing.garments import details
from kaleidobert.drawing.garments.sketch import Sketch
from kaleidobert.drawing.palette import RGB, dark, light, luminance

WAIST = -0.95


@dataclass(frozen=True)
class Legs:
    """Half-widths at waist and hip, and of one leg at the knee and the ankle (outer and inner x)."""

    waist: float
    hip: float
    knee: tuple[float, float]
    ankle: tuple[float, float]
    bottom: float
    crotch: float = -0.28

    def outline(self) -> Points:
        middle = (self.bottom + self.crotch) / 2
        return mirrored((0, WAIST), (self.waist, WAIST), (self.hip, -0.5, 0.06), (self.knee[0], middle, 0.02),
                        (self.ankle[0], self.bottom, -0.01),
                        (self.ankle[1], self.bottom), (self.knee[1], middle), (0.0, self.crotch, 0.06))

    def cuff(self, side: int, height: float) -> Points:
        """The last piece of one leg."""
        low, y = self.bottom, self.bottom - height
        return [(side * (self.ankle[0] + 0.012), y), (side * (self.ankle[0] + 0.012), low), (side * (self.ankle[1] - 0.012), low),
                (side * (self.ankle[1] - 0.012), y)]


def _trousers(sketch: Sketch, design: Design, legs: Legs) -> None:
    sketch.fill(legs.outline(), None, volume=0.2)
    for side in (1, -1):
        middle = (legs.knee[0] + legs.knee[1]) / 2
        knee = (legs.bottom + legs.crotch) / 2
        sketch.shade(path((side * legs.knee[1], legs.crotch + 0.1), (side * (middle + 0.05), knee),
                          (side * legs.ankle[1], legs.bottom, 0.03)), 0.07)
        sketch.shade(path((0, legs.crotch), (side * 0.2, legs.crotch - 0.14, side * 0.1), (side * 0.03, legs.crotch - 0.02)),
                     0.16)


def _waistband(sketch: Sketch, design: Design, legs: Legs, height: float = 0.09) -> None:
    ring = path((-legs.waist, WAIST), (legs.waist, WAIST, 0.01), (legs.waist + 0.01, WAIST + height),
                (-legs.waist - 0.01, WAIST + height, -0.01))
    paint = design.ink("waistband")
    sketch.fill(ring, paint, "waistband", volume=0.25)
    if design.has("waistband", "elastic"):
        for k in range(-7, 8):
            x = legs.waist * k / 8
            sketch.seam([(x, WAIST + 0.012), (x, WAIST + height - 0.01)], 0.009, dark(paint, 0.25))
    else:
        for x in (-0.75, -0.35, 0.35, 0.75):
            sketch.fill(box(x * legs.waist, WAIST - 0.012, 0.035, height + 0.03), dark(design.main, 0.15))


def _cuffs(sketch: Sketch, design: Design, legs: Legs) -> None:
    if not design.has("cuffs"):
        for side in (1, -1):
            ring = legs.cuff(side, 0.05)
            sketch.seam([ring[0], ring[3]], 0.01)
        return
    ribbed = design.has("cuffs", "ribbed")
    paint = design.ink("cuffs") if ribbed else design.trim("cuffs", light(design.main, 0.3))
    for side in (1, -1):
        ring = legs.cuff(side, 0.12)
        sketch.fill(ring, paint, "cuffs", volume=0.2)
        if ribbed:
            for t in (0.2, 0.4, 0.6, 0.8):
                x = ring[0][0] + (ring[3][0] - ring[0][0]) * t
                sketch.seam([(x, ring[0][1] + 0.01), (x, ring[1][1] - 0.01)], 0.009, dark(paint, 0.25))


def _stitching(main: RGB) -> RGB:
    return (206, 140, 70) if luminance(main) < 140 else dark(main, 0.35)


def jeans(design: Design, back: bool) -> Sketch:
    hip = design.dial("width", 0.33, 0.39)
    knee = {"skinny": (0.32, 0.1), "straight": (0.36, 0.07), "flared": (0.3, 0.09)}[design.features["fit"]]
    ankle = {"skinny": (0.28, 0.13), "straight": (0.37, 0.09), "flared": (0.46, 0.06)}[design.features["fit"]]
    legs = Legs(hip - 0.06, hip, knee, ankle, design.dial("length", 0.85, 1.05))
    sketch, stitch = Sketch(), _stitching(design.main)
    _trousers(sketch, design, legs)
    for side in (1, -1):  # faded thighs
        for r in (0.1, 0.08, 0.06, 0.04):
            sketch.shade(ellipse(side * 0.2, -0.05, r, r * 2.8, 16), -0.05)
        sketch.seam(path((side * (hip - 0.02), -0.48), (side * (knee[0] - 0.03), (legs.bottom + legs.crotch) / 2, 0.02),
                         (side * (ankle[0] - 0.025), legs.bottom)), 0.01, stitch)
    _waistband(sketch, design, legs)
    if back:
        sketch.seam(path((-hip + 0.02, -0.78), (0, -0.7), (hip - 0.02, -0.78)), 0.012, stitch)
        for side in (1, -1):
            details.patch_pocket(sketch, design, side * 0.17, -0.64, 0.21, 0.24)
            sketch.seam(path((side * 0.09, -0.53), (side * 0.17, -0.48), (side * 0.25, -0.53)), 0.012, stitch)
        sketch.seam([(0, -0.86), (0, legs.crotch)], 0.014)
    else:
        for side in (1, -1):
            scoop = path((side * 0.15, -0.86), (side * (hip - 0.01), -0.62, -side * 0.28))
            sketch.seam(scoop, 0.022, stitch)
            sketch.part("pocket", scoop)
        sketch.seam([(0, -0.86), (0, legs.crotch)], 0.014)
        sketch.seam(path((0.07, -0.86), (0.07, -0.55), (0, -0.42, 0.2)), 0.012, stitch)
        sketch.fill(ellipse(0, WAIST + 0.045, 0.028, 0.028, 12), details.GOLD, "button")
        if design.has("rips"):
            for side in (1, -1):
                x, y = side * (knee[0] + knee[1]) / 2, (legs.bottom + legs.crotch) / 2 - 0.05
                sketch.fill(path((x - 0.08, y), (x + 0.08, y + 0.01, 0.22), (x - 0.08, y, 0.25)), (228, 190, 164), "rips")
                for k in (-0.02, 0.012):
                    sketch.seam([(x - 0.06, y + k), (x + 0.06, y + k + 0.01)], 0.01, (244, 244, 240))
    _cuffs(sketch, design, legs)
    return sketch


def shorts(design: Design, back: bool) -> Sketch:
    hip = design.dial("width", 0.46, 0.54)
    flare = design.dial("flare", 0.0, 0.12)
    bottom = design.dial("length", 0.0, 0.42)
    legs = Legs(hip - 0.08, hip, (hip + flare * 0.6, 0.06), (hip + flare, 0.07), bottom, crotch=-0.36)
    sketch = Sketch()
    _trousers(sketch, design, legs)
    _stripe(sketch, design, legs)
    if design.has("pocket", "cargo"):
        for side in (1, -1):
            details.patch_pocket(sketch, design, side * hip * 0.72, bottom - 0.32, 0.2, 0.2)
            details.flap_pocket(sketch, design, side * hip * 0.72, bottom - 0.36, 0.22, 0.07, key="")
    elif not back:
        for side in (1, -1):
            details.slit_pocket(sketch, design, (side * (hip - 0.14), -0.84), (side * (hip - 0.015), -0.56))
    _waistband(sketch, design, legs)
    _fly(sketch, design, legs, back)
    _cuffs(sketch, design, legs)
    return sketch


def sweatpants(design: Design, back: bool) -> Sketch:
    hip = design.dial("width", 0.36, 0.43)
    slim = design.dial("flare", -0.04, 0.05)
    legs = Legs(hip - 0.08, hip, (hip + slim, 0.08), (0.31 + slim * 0.5, 0.13), design.dial("length", 0.8, 1.02))
    sketch = Sketch()
    _trousers(sketch, design, legs)
    _stripe(sketch, design, legs)
    if not back:
        for side in (1, -1):
            details.slit_pocket(sketch, design, (side * (hip - 0.13), -0.84), (side * (hip - 0.02), -0.54),
                                design.has("pocket", "zip"))
    _waistband(sketch, design, legs, 0.11)
    _fly(sketch, design, legs, back)
    _cuffs(sketch, design, legs)
    return sketch


def _fly(sketch: Sketch, design: Design, legs: Legs, back: bool) -> None:
    sketch.seam([(0, WAIST + 0.1), (0, legs.crotch)], 0.012)
    if not back and design.has("drawstring"):
        details.drawstring(sketch, design, 0.035, WAIST + 0.06, design.dial("detail", 0.22, 0.32))


def _stripe(sketch: Sketch, design: Design, legs: Legs) -> None:
    if not design.has("stripe"):
        return
    middle = (legs.bottom + legs.crotch) / 2
    for side in (1, -1):
        line = path((side * (legs.hip - 0.045), -0.5), (side * (legs.knee[0] - 0.04), middle, side * 0.02),
                    (side * (legs.ankle[0] - 0.035), legs.bottom - 0.1))
        top = path((side * (legs.waist - 0.04), WAIST + 0.1), (side * (legs.hip - 0.045), -0.5, side * 0.06))
        sketch.fill(band(top[:-1] + line, 0.055), design.second, "stripe", edge=False)
