"""Sneakers, boots, heels, sandals and loafers, seen from the side with the toe to the left; the ground is at GROUND."""

from kaleidobert.drawing.design import RGB, Design, dark, deep, luminance
from kaleidobert.drawing.garments.elements import GOLD, METAL
from kaleidobert.drawing.sketch import Points, Sketch, band, box, ellipse, lerp, path

GROUND = 0.5
RUBBER: RGB = (240, 238, 230)
GUM: RGB = (186, 132, 82)
CORK: RGB = (200, 158, 110)


def _pair(sketch: Sketch, design: Design) -> Sketch:
    """Adds the other shoe to most pictures."""
    if design.dials["place"] < 0.6:
        sketch.beside(design.dial("pose", 0.12, 0.3), -design.dial("detail", 0.16, 0.26))
    return sketch


def _laces(sketch: Sketch, design: Design, start: tuple[float, float], end: tuple[float, float], count: int,
           width: float) -> None:
    """Draws laces across the instep, from the toe upwards."""
    paint = design.second if design.dials["curve"] < 0.3 else (246, 246, 242) if luminance(design.main) < 190 else (64, 64, 70)
    points: Points = []
    for k in range(count):
        x, y = lerp(start, end, k / (count - 1))
        lace = path((x - 0.02, y - 0.015), (x + width, y + width * 0.62, 0.1))
        sketch.line(lace, paint, 0.035)
        points += lace
    loop = path(end, (end[0] - 0.16, end[1] + 0.02, 0.35), (end[0] + 0.02, end[1] + 0.03, 0.35))
    sketch.line(loop, paint, 0.026)
    sketch.part("laces", points + loop)


def sneaker(design: Design, back: bool) -> Sketch:
    high = design.has("top", "high")
    thick = 0.24 if design.has("sole", "platform") else design.dial("size", 0.13, 0.17)
    base = GROUND - thick
    top, rise = (-0.62, -0.3) if high else (-0.2, 0.0)
    sketch = Sketch()
    sketch.fill(path((0.02, -0.05 + rise * 0.8), (0.05, top - 0.12, 0.1), (0.24, top - 0.1, 0.2), (0.3, 0.0)),
                design.trim("tab", dark(design.main, 0.12)))
    sketch.fill(path((0.12, top + 0.05), (0.8, top), (0.8, top + 0.2), (0.2, top + 0.25)), dark(design.main, 0.45))
    upper = path((-0.97, base), (-0.9, base - 0.2, 0.2), (-0.5, base - 0.33, 0.16), (0.14, top + 0.02, -0.06),
                 (0.5, top + (0.03 if high else 0.14), -0.08), (0.84, top - 0.06, -0.1),
                 (0.9, base, -0.05 if high else 0.04))
    sketch.fill(upper, None, volume=0.2)
    if design.has("toe"):
        cap = path((-0.97, base), (-0.9, base - 0.2, 0.2), (-0.66, base - 0.285, 0.08), (-0.55, base, 0.18))
        sketch.fill(cap, design.trim("toe", RUBBER), "toe")
    else:
        sketch.seam(path((-0.58, base - 0.3), (-0.48, base, 0.2)))
        sketch.part("toe", [(-0.97, base - 0.3), (-0.52, base)])
    sketch.seam(path((0.52, base), (0.62, top + 0.22, -0.15), (0.82, top + 0.06, 0.1)))
    if design.has("stripes"):
        for k in range(3):
            x = -0.05 + 0.16 * k
            sketch.fill([(x, base - 0.02), (x + 0.075, base - 0.02), (x - 0.02, base - 0.34), (x - 0.095, base - 0.34)],
                        design.second)
        sketch.part("stripes", [(-0.15, base - 0.34), (0.35, base - 0.02)])
    if design.has("tab"):
        sketch.fill(path((0.68, top - 0.01), (0.84, top - 0.07), (0.88, top + 0.2), (0.73, top + 0.2)), design.second, "tab")
    _sole(sketch, design, base)
    if design.has("closure", "laces"):
        _laces(sketch, design, (-0.42, base - 0.33), (0.08, top + 0.06), 6 if high else 4, 0.2)
    else:
        for k in range(3 if high else 2):
            x, y = lerp((-0.3, base - 0.36), (0.08, top + 0.12), k / 2 + 0.1)
            sketch.fill(band(path((x, y), (x + 0.34, y + 0.2, 0.12)), 0.12), deep(design.main, 0.22), "straps")
    return _pair(sketch, design)


def _sole(sketch: Sketch, design: Design, base: float) -> None:
    paint = GUM if design.has("sole", "gum") else RUBBER
    sole = path((-1.0, base - 0.03), (0.92, base - 0.03), (0.95, GROUND - 0.03, 0.12), (0.9, GROUND), (-0.85, GROUND),
                (-1.02, base + 0.03, 0.2))
    sketch.fill(sole, paint, "sole")
    sketch.seam([(-0.98, (base + GROUND) / 2), (0.93, (base + GROUND) / 2)], 0.014, dark(paint, 0.25))
    sketch.seam([(-0.9, GROUND - 0.012), (0.9, GROUND - 0.012)], 0.02, dark(paint, 0.45))


def boot(design: Design, back: bool) -> Sketch:
    knee = design.has("shaft", "knee")
    heel = {"flat": 0.1, "block": 0.24, "stiletto": 0.34}[design.features["heel"]]
    top = -1.5 if knee else design.dial("length", -0.75, -0.55)
    seat, slim = GROUND - heel, 0.06 if knee else 0.0
    toe = -0.95 if design.has("toe", "pointed") else -0.88
    sketch = Sketch()
    _heel(sketch, design, seat, deep(design.main, 0.5))
    sketch.fill(path((0.04 - slim, top + 0.06), (0.76, top + 0.02, 0.1), (0.7, top + 0.14), (0.1, top + 0.16)),
                dark(design.main, 0.5))
    nose = [(toe, GROUND - 0.1), (toe + 0.1, 0.2, 0.22), (-0.5, 0.12, 0.1)]
    if design.has("toe", "pointed"):
        nose = [(toe, GROUND - 0.08), (-0.5, 0.14, 0.14)]
    wide = 0.08 if knee else 0.0
    upper = path((toe, GROUND - 0.05), *nose, (0.0, -0.12, -0.16), (0.03 - wide, top + 0.08, -0.02),
                 (0.78 + wide * 0.7, top, -0.06), (0.72, -0.1, 0.02), (0.84, seat, 0.06),
                 (0.42, seat + 0.03), (-0.2, GROUND - 0.05, -0.06))
    sketch.fill(upper, None, volume=0.3)
    sketch.part("shaft", [(0.0 - wide, top), (0.8, -0.05)])
    sketch.part("toe", [(toe, 0.14), (-0.5, GROUND)])
    sketch.fill(path((toe - 0.02, GROUND - 0.055), (-0.2, GROUND - 0.055), (0.42, seat + 0.02, 0.06), (0.42, seat + 0.06),
                     (-0.2, GROUND), (toe + 0.02, GROUND)), (46, 40, 38))
    if design.has("closure", "laces"):
        _laces(sketch, design, (-0.36, 0.1), (0.03, top + 0.2 if not knee else -0.5), 6, 0.22)
    elif design.has("closure", "zip"):
        sketch.line([(0.5, 0.1), (0.48, top + 0.08)], (60, 58, 60) if luminance(design.main) > 90 else METAL, 0.03, "zip")
        sketch.fill(box(0.48, top + 0.08, 0.05, 0.09), METAL)
    elif design.has("closure", "panels") and not knee:
        sketch.fill(path((0.26, top + 0.06), (0.58, top + 0.04), (0.48, 0.02, 0.05), (0.36, 0.02)),
                    design.trim("closure", dark(design.main, 0.4)), "panels")
    if design.has("tab"):
        sketch.line(path((0.74, top + 0.14), (0.8, top - 0.07, 0.2), (0.66, top + 0.03, 0.4)),
                    design.trim("tab", dark(design.main, 0.2)), 0.045, "tab")
    if design.has("strap"):
        sketch.fill(band(path((-0.05, -0.05), (0.74, -0.02, -0.08)), 0.1), dark(design.main, 0.3), "strap")
        sketch.fill(box(0.3, -0.06, 0.12, 0.13), METAL)
    return _pair(sketch, design)


def _heel(sketch: Sketch, design: Design, seat: float, paint: RGB) -> None:
    """Draws the heel of a boot or pump whose back end sits at height ``seat``."""
    choice = design.features["heel"]
    if choice in ("stiletto", "kitten"):
        ring = path((0.45, seat + 0.02), (0.86, seat - 0.03), (0.82, GROUND, -0.04), (0.75, GROUND), (0.66, seat + 0.14, -0.06))
    elif choice == "wedge":
        ring = path((0.86, seat - 0.03), (0.84, GROUND), (-0.65, GROUND), (-0.4, GROUND - 0.1), (0.5, seat, -0.05))
    else:
        ring = [(0.44, seat), (0.86, seat - 0.03), (0.85, GROUND), (0.5, GROUND)]
    sketch.fill(ring, paint, "heel")


def pump(design: Design, back: bool) -> Sketch:
    rise = {"stiletto": 0.6, "block": 0.5, "kitten": 0.3, "wedge": 0.5}[design.features["heel"]] * design.dial("size", 0.92, 1.05)
    seat = GROUND - rise
    toe = {"pointed": -1.05, "round": -0.92, "open": -0.88}[design.features["toe"]]
    sketch = Sketch()
    _heel(sketch, design, seat, design.trim("heel", deep(design.main, 0.2)))
    sketch.fill(path((-0.45, 0.2), (0.3, seat + 0.0, -0.05), (0.74, seat - 0.34), (0.78, seat - 0.1), (0.3, seat + 0.12),
                     (-0.4, 0.36)), dark(design.main, 0.45))
    high, tip, bulge = (0.2, 0.45, 0.08) if design.has("toe", "pointed") else (0.17, 0.42, 0.24)
    nose = [(toe, tip), (-0.42, high, bulge)]
    upper = path((toe, GROUND - 0.02), *nose, (0.25, seat + 0.06, -0.16), (0.74, seat - 0.38, -0.12), (0.88, seat - 0.02, 0.16),
                 (0.5, seat + 0.04), (-0.3, GROUND - 0.03, -0.1))
    sketch.fill(upper, None, volume=0.2)
    if design.has("toe", "open"):
        sketch.fill(path((toe + 0.0, GROUND - 0.03), (toe + 0.02, GROUND - 0.16, 0.1), (toe + 0.17, GROUND - 0.05, 0.3)),
                    (236, 196, 172))
    sketch.part("toe", [(toe, GROUND - 0.28), (-0.5, GROUND)])
    sketch.fill(path((toe + 0.01, GROUND - 0.03), (-0.3, GROUND - 0.035), (0.5, seat + 0.03, 0.1), (0.5, seat + 0.06),
                     (-0.3, GROUND, -0.1), (toe + 0.06, GROUND)), (60, 48, 44), edge=False)
    if design.has("strap"):
        paint = design.trim("strap", dark(design.main, 0.15))
        sketch.line(path((0.34, seat - 0.42), (0.8, seat - 0.34, -0.2), (0.34, seat - 0.42, -0.2)), paint, 0.04, "strap")
        sketch.fill(box(0.38, seat - 0.4, 0.08, 0.09), GOLD)
    if design.has("bow"):
        x, y = -0.42, high - 0.03
        for side in (1, -1):
            sketch.fill(path((x, y), (x + side * 0.17, y - 0.1, side * 0.1), (x + side * 0.17, y + 0.08, side * 0.05), (x, y)),
                        design.trim("bow", dark(design.main, 0.12)))
        sketch.fill(ellipse(x, y, 0.045, 0.045, 12), dark(design.main, 0.25))
        sketch.part("bow", box(x, y - 0.12, 0.36, 0.22))
    return _pair(sketch, design)


def sandal(design: Design, back: bool) -> Sketch:
    thick = {"flat": 0.1, "platform": 0.27, "cork": 0.2}[design.features["sole"]]
    base = GROUND - thick
    paint = design.trim("sole", CORK if design.has("sole", "cork") else (132, 94, 64))
    sketch = Sketch()
    if design.has("straps", "gladiator"):  # the ankle strap passes behind the heel
        sketch.line(path((0.3, base - 0.62), (0.86, base - 0.55, 0.15), (0.74, base - 0.02, 0.1)), dark(design.main, 0.25), 0.08)
    sketch.fill(path((-0.95, base), (-0.3, base + 0.03, -0.03), (0.3, base - 0.02, 0.02), (0.9, base - 0.06),
                     (0.92, GROUND, 0.06), (-0.9, GROUND), (-0.98, base + 0.04, 0.2)), paint, "sole")
    sketch.seam(path((-0.95, base + 0.035), (0.9, base - 0.02)), 0.016, dark(paint, 0.3))
    straps: list[Points] = {
        "double": [path((-0.74, base + 0.01), (-0.58, base - 0.25, 0.05), (-0.36, base - 0.33, 0.03), (-0.3, base + 0.02, -0.06)),
                   path((-0.16, base + 0.01), (-0.06, base - 0.41, 0.02), (0.2, base - 0.48, 0.03), (0.36, base, -0.02))],
        "cross": [band(path((-0.7, base), (0.15, base - 0.46, 0.16)), 0.15),
                  band(path((-0.6, base - 0.26), (0.22, base, 0.16)), 0.15)],
        "gladiator": [band(path((x, base), (x + 0.18, base - h, 0.16)), 0.09) for x,
                      h in ((-0.72, 0.22), (-0.46, 0.3), (-0.2, 0.38))]
        + [band(path((-0.55, base - 0.2), (0.24, base - 0.5, 0.04), (0.3, base - 0.66)), 0.08),
           band(path((0.24, base - 0.5), (0.8, base - 0.42, -0.1)), 0.09)],
    }[design.features["straps"]]
    for strap in straps:
        sketch.fill(strap, None, "straps", volume=0.15)
    if design.has("buckle"):
        x, y = (0.5, base - 0.46) if design.has("straps", "gladiator") else (0.08, base - 0.16)
        sketch.fill(box(x, y - 0.07, 0.14, 0.14), METAL, "buckle")
        sketch.fill(box(x, y - 0.035, 0.07, 0.07), dark(design.main, 0.2))
    return _pair(sketch, design)


def loafer(design: Design, back: bool) -> Sketch:
    lug = design.has("sole", "lug")
    base = GROUND - (0.16 if lug else 0.09)
    toe = -1.0 if design.has("toe", "pointed") else -0.95
    paint = design.trim("sole", (44, 40, 40) if luminance(design.main) > 60 else (104, 78, 56))
    sketch = Sketch()
    sketch.fill(path((0.0, 0.02), (0.86, -0.16), (0.84, 0.06), (0.1, 0.16)), dark(design.main, 0.5))
    upper = path((toe, base), (toe + 0.06, base - 0.2, 0.25), (-0.45, base - 0.31, 0.1), (0.04, -0.06, -0.03), (0.5, 0.06, -0.1),
                 (0.87, -0.2, -0.14), (0.9, base, 0.06))
    sketch.fill(upper, None, volume=0.25)
    sketch.part("toe", [(toe, base - 0.3), (-0.5, base)])
    sketch.seam(path((toe + 0.12, base - 0.2), (-0.3, base - 0.2, 0.1), (0.08, 0.06, -0.05)), 0.02)
    sketch.fill(path((toe - 0.02, base - 0.02), (0.92, base - 0.02), (0.92, base + 0.06), (toe, base + 0.06, 0.02)), paint,
                "sole")
    sketch.fill([(0.42, base + 0.03), (0.92, base + 0.03), (0.9, GROUND + 0.04), (0.46, GROUND + 0.04)], dark(paint, 0.15),
                "heel")
    if lug:
        for k in range(7):
            sketch.fill(box(-0.85 + 0.18 * k, base + 0.04, 0.11, 0.1), paint)
    saddle = path((-0.32, base - 0.33), (-0.04, base - 0.43, 0.04), (0.14, base - 0.08, -0.08), (-0.14, base - 0.02, 0.05))
    if design.has("vamp", "penny"):
        sketch.fill(saddle, design.trim("vamp", dark(design.main, 0.2)), "strap")
        sketch.fill(ellipse(-0.1, base - 0.27, 0.07, 0.03, 10), dark(design.main, 0.55))
    elif design.has("vamp", "horsebit"):
        sketch.line(path((-0.22, 0.02), (0.1, 0.12, 0.08)), GOLD, 0.045, "horsebit")
        for x, y in ((-0.22, 0.02), (0.1, 0.12)):
            sketch.fill(ellipse(x, y, 0.055, 0.06, 14), GOLD)
    else:
        for x in (-0.22, -0.08):
            sketch.fill(path((x, 0.02), (x + 0.05, 0.04), (x + 0.06, 0.22), (x - 0.07, 0.2)),
                        design.trim("vamp", dark(design.main, 0.25)))
        sketch.part("tassel", [(-0.3, 0.0), (0.0, 0.22)])
    return _pair(sketch, design)
