"""Trousers, skirts, and what has them: jeans, shorts, sweatpants, dresses, gowns, skirts, jumpsuits."""

from dataclasses import dataclass, replace

from kaleidobert.drawing.design import RGB, Design, dark, light, luminance
from kaleidobert.drawing.garments import elements
from kaleidobert.drawing.garments.elements import TOP, Torso, behind, inside, neckline, sleeves
from kaleidobert.drawing.sketch import Points, Sketch, band, box, ellipse, flip, mirrored, path

# --- Trousers


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
        """Returns the lower end of one leg."""
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
            elements.patch_pocket(sketch, design, side * 0.17, -0.64, 0.21, 0.24)
            sketch.seam(path((side * 0.09, -0.53), (side * 0.17, -0.48), (side * 0.25, -0.53)), 0.012, stitch)
        sketch.seam([(0, -0.86), (0, legs.crotch)], 0.014)
    else:
        for side in (1, -1):
            scoop = path((side * 0.15, -0.86), (side * (hip - 0.01), -0.62, -side * 0.28))
            sketch.seam(scoop, 0.022, stitch)
            sketch.part("pocket", scoop)
        sketch.seam([(0, -0.86), (0, legs.crotch)], 0.014)
        sketch.seam(path((0.07, -0.86), (0.07, -0.55), (0, -0.42, 0.2)), 0.012, stitch)
        sketch.fill(ellipse(0, WAIST + 0.045, 0.028, 0.028, 12), elements.GOLD, "button")
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
            elements.patch_pocket(sketch, design, side * hip * 0.72, bottom - 0.32, 0.2, 0.2)
            elements.flap_pocket(sketch, design, side * hip * 0.72, bottom - 0.36, 0.22, 0.07, key="")
    elif not back:
        for side in (1, -1):
            elements.slit_pocket(sketch, design, (side * (hip - 0.14), -0.84), (side * (hip - 0.015), -0.56))
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
            elements.slit_pocket(sketch, design, (side * (hip - 0.13), -0.84), (side * (hip - 0.02), -0.54),
                                design.has("pocket", "zip"))
    _waistband(sketch, design, legs, 0.11)
    _fly(sketch, design, legs, back)
    _cuffs(sketch, design, legs)
    return sketch


def _fly(sketch: Sketch, design: Design, legs: Legs, back: bool) -> None:
    sketch.seam([(0, WAIST + 0.1), (0, legs.crotch)], 0.012)
    if not back and design.has("drawstring"):
        elements.drawstring(sketch, design, 0.035, WAIST + 0.06, design.dial("detail", 0.22, 0.32))


def _stripe(sketch: Sketch, design: Design, legs: Legs) -> None:
    if not design.has("stripe"):
        return
    middle = (legs.bottom + legs.crotch) / 2
    for side in (1, -1):
        line = path((side * (legs.hip - 0.045), -0.5), (side * (legs.knee[0] - 0.04), middle, side * 0.02),
                    (side * (legs.ankle[0] - 0.035), legs.bottom - 0.1))
        top = path((side * (legs.waist - 0.04), WAIST + 0.1), (side * (legs.hip - 0.045), -0.5, side * 0.06))
        sketch.fill(band(top[:-1] + line, 0.055), design.second, "stripe", edge=False)


# --- Dresses, gowns, skirts and jumpsuits


def _skirt(top: float, waist: float, hip: float, hem: float, bottom: float) -> Points:
    """Returns a skirt from its waist, clockwise; hip: half-width a third of the way down."""
    y = top + (bottom - top) * 0.35
    drop = 0.05 + 0.08 * max(0.0, hem - 0.5)
    return mirrored((0, top), (waist, top), (hip, y, 0.05), (hem, bottom, -0.02), (0, bottom + drop * 0.6, drop))


def _folds(sketch: Sketch, top: float, waist: float, hem: float, bottom: float, count: int = 3) -> None:
    """Draws folds that fan out from the waist."""
    for k in range(count):
        for side in (1, -1):
            t = (k + 0.6) / count
            x = side * hem * t
            start = (side * waist * t * 0.9, top + 0.12 + 0.1 * (k % 2))
            sketch.shade([start, (x + side * 0.05, bottom - 0.02), (x - side * 0.03, bottom)], 0.13)


def _ruffle(sketch: Sketch, y: float, half: float, height: float, flare: float) -> None:
    """Draws a gathered flounce with a wavy edge."""
    waves, top = 7, path((-half, y), (half, y))
    edge = [(half + flare, y + height)]
    for k in range(waves):
        x = (half + flare) * (1 - 2 * (k + 1) / waves)
        edge += path(edge[-1], (x, y + height, -0.3 if k % 2 else 0.05))[1:]
    sketch.fill(top + edge, None, "hem", volume=0.18)
    for k in range(1, 2 * waves):
        x = half * (1 - k / waves)
        sketch.seam([(x, y + 0.01), (x * (1 + flare / half), y + height * 0.7)], 0.01)


def _cut(sketch: Sketch, x: float, bottom: float, height: float, key: str = "slit") -> None:
    """Draws a slit: a dark wedge that opens towards the hem."""
    sketch.fill(path((x, bottom - height), (x + 0.075, bottom + 0.02, 0.05), (x - 0.03, bottom + 0.03)), (226, 188, 162), key)


def dress(design: Design, back: bool) -> Sketch:
    half = design.dial("width", 0.32, 0.38)
    waist_y, bottom = design.dial("size", -0.12, 0.0), design.dial("length", 0.6, 0.95)
    sleeved = not design.has("sleeve", "sleeveless")
    neck = neckline(design)
    torso = replace(Torso(**neck), shoulder=half if sleeved else half - 0.05, chest=half, waist=half - 0.05, hem=half - 0.06,
                    bottom=waist_y, slope=0.1, underarm=-0.42, depth=neck["depth"] * 0.9)
    low, high = {"flared": (0.28, 0.45), "straight": (0.06, 0.06), "ruffle": (0.1, 0.2)}[design.features["hem"]]
    hem = half + design.dial("flare", low, high)
    ruffle = 0.18 if design.has("hem", "ruffle") else 0.0
    sketch, seen = Sketch(), behind(torso) if back else torso
    inside(sketch, design, torso, back)
    sleeves(sketch, design, seen, 0.12)
    if ruffle:
        _ruffle(sketch, bottom - ruffle, hem - 0.02, ruffle, 0.07)
    sketch.fill(_skirt(waist_y, half - 0.06, half + (hem - half) * 0.45, hem, bottom - ruffle), None, volume=0.2)
    sketch.fill(seen.outline(), None, volume=0.2)
    _folds(sketch, waist_y, half - 0.06, hem, bottom - ruffle)
    if not ruffle:
        sketch.part("hem", [(-hem, bottom - 0.1), (hem, bottom + 0.05)])
        sketch.seam(path((-hem + 0.02, bottom - 0.05), (hem - 0.02, bottom - 0.05, -0.06)), 0.009)
    if design.has("belt"):
        elements.belt(sketch, design, waist_y - 0.04, half - 0.05, back)
    if not back and design.has("buttons"):
        elements.buttons(sketch, design, 0, TOP + torso.depth + 0.1, waist_y - 0.08, 4)
    elements.collar(sketch, design, seen, back)
    if back:
        sketch.seam([(0, TOP + 0.06), (0, waist_y + 0.1)], 0.014)
    return sketch


def gown(design: Design, back: bool) -> Sketch:
    half = design.dial("width", 0.24, 0.29)
    top, waist_y, bottom = -0.62, -0.18, 1.1
    low, high = {"flared": (0.55, 0.75), "ruffle": (0.42, 0.55), "mermaid": (0.4, 0.5)}[design.features["hem"]]
    hem = design.dial("flare", low, high)
    sketch = Sketch()
    _gown_straps(sketch, design, half, top, back)
    if design.has("hem", "mermaid"):
        skirt = mirrored((0, waist_y), (half - 0.05, waist_y), (half + 0.04, 0.15, 0.1), (half - 0.02, 0.55), (hem, bottom, -0.1),
                         (0, bottom + 0.05, 0.05))
        sketch.fill(skirt, None, volume=0.25)
        sketch.part("hem", [(-hem, 0.6), (hem, bottom + 0.05)])
    else:
        ruffle = 0.26 if design.has("hem", "ruffle") else 0.0
        if ruffle:
            _ruffle(sketch, bottom - ruffle, hem - 0.03, ruffle, 0.12)
        sketch.fill(_skirt(waist_y, half - 0.05, half + (hem - half) * 0.32, hem, bottom - ruffle), None, volume=0.25)
        if not ruffle:
            sketch.part("hem", [(-hem, bottom - 0.12), (hem, bottom + 0.06)])
        _folds(sketch, waist_y, half - 0.05, hem, bottom - ruffle, 4)
    heart = design.has("bodice", "sweetheart") and not back
    edge = [(0, top + 0.07), (half, top - 0.03, 0.3)] if heart else [(0, top + 0.02), (half, top, -0.02)]
    bodice = mirrored(*edge, (half - 0.05, waist_y, -0.04), (0, waist_y + 0.02))
    sketch.fill(bodice, None, "bodice", volume=0.2)
    if not back:
        sketch.seam(path((half * 0.5, top + 0.05), (half * 0.4, waist_y, 0.08)))
        sketch.seam(path((-half * 0.5, top + 0.05), (-half * 0.4, waist_y, -0.08)))
        if design.has("slit"):
            _cut(sketch, hem * 0.42, bottom - (0.25 if design.has("hem", "ruffle") else 0.0), 0.7)
    if design.has("belt"):
        sketch.fill(path((-half + 0.04, waist_y - 0.05), (half - 0.04, waist_y - 0.05), (half - 0.04, waist_y + 0.05),
                         (-half + 0.04, waist_y + 0.05)),
                    design.ink("belt"), "belt", volume=0.2)
    return sketch


def _gown_straps(sketch: Sketch, design: Design, half: float, top: float, back: bool) -> None:
    paint = design.ink("straps")
    if design.has("straps", "thin"):
        for side in (1, -1):
            sketch.line(path((side * half * 0.7, top + 0.02), (side * half * 0.62, top - 0.28, side * 0.06)), paint, 0.026,
                        "straps")
    elif design.has("straps", "halter"):
        sketch.fill(mirrored((0, top - 0.3), (0.1, top - 0.3), (half * 0.85, top + 0.08, -0.06), (half * 0.3, top + 0.08),
                             (0.06, top - 0.25, 0.05), (0, top - 0.25)),
                    design.trim("straps"), "straps")
    elif design.has("straps", "single"):
        side = -1 if back else 1
        ring = path((half, top + 0.02), (half * 0.98, top - 0.24, -0.06), (half * 0.62, top - 0.28),
                    (-half * 0.9, top + 0.06, -0.18), (0, top + 0.15))
        sketch.fill([(side * x, y) for x, y in ring], design.trim("straps"), "straps")


def skirt(design: Design, back: bool) -> Sketch:
    waist = design.dial("width", 0.3, 0.36)
    pencil = design.has("fit", "pencil") and not design.has("pleats")
    bottom = design.dial("length", -0.15, 0.35)
    hem = waist + (0.04 if pencil else design.dial("flare", 0.25, 0.45))
    ruffle = 0.17 if design.has("hem", "ruffle") and not design.has("pleats") else 0.0
    hip = waist + (0.11 if pencil else (hem - waist) * 0.5)
    sketch = Sketch()
    if ruffle:
        _ruffle(sketch, bottom - ruffle, hem - 0.02, ruffle, 0.08)
    sketch.fill(_skirt(WAIST, waist, hip, hem, bottom - ruffle), None, volume=0.2)
    if design.has("pleats"):
        for k in range(-7, 8):
            x = waist * k / 7.5
            sketch.seam([(x, WAIST + 0.1), (x * hem / waist, bottom + 0.03 * (1 - abs(k) / 8))], 0.014)
            sketch.shade([(x, WAIST + 0.1), (x * hem / waist, bottom), ((x + 0.02) * hem / waist + 0.01, bottom)], 0.18)
    elif not pencil:
        _folds(sketch, WAIST, waist, hem, bottom - ruffle)
    else:
        for side in (1, -1):
            sketch.seam([(side * waist * 0.5, WAIST + 0.09), (side * waist * 0.45, WAIST + 0.3)])
    if not ruffle:
        sketch.part("hem", [(-hem, bottom - 0.1), (hem, bottom + 0.06)])
    if not back and design.has("buttons"):
        elements.buttons(sketch, design, 0, WAIST + 0.17, bottom - ruffle - 0.08, 5)
    if not back and design.has("slit"):
        _cut(sketch, hem * 0.45, bottom - ruffle, 0.42)
    band = path((-waist, WAIST - 0.01), (waist, WAIST - 0.01, 0.01), (waist + 0.01, WAIST + 0.09), (-waist - 0.01, WAIST + 0.09))
    sketch.fill(band, design.ink("waistband"), "waistband", volume=0.2)
    if design.has("waistband", "elastic"):
        for k in range(-6, 7):
            sketch.seam([(waist * k / 7, WAIST), (waist * k / 7, WAIST + 0.08)], 0.009, dark(design.ink("waistband"), 0.25))
    if back:
        sketch.seam([(0, WAIST + 0.09), (0, WAIST + 0.45)], 0.016)
    return sketch


def jumpsuit(design: Design, back: bool) -> Sketch:
    half = design.dial("width", 0.29, 0.34)
    waist_y, bottom = -0.14, design.dial("length", 0.95, 1.15)
    wide = 0.14 if design.has("fit", "wide") else 0.0
    sleeved = not design.has("sleeve", "sleeveless")
    torso = replace(Torso(**neckline(design)), neck=0.15, shoulder=half if sleeved else half - 0.06, chest=half, waist=half - 0.03,
                    hem=half - 0.05, bottom=waist_y, slope=0.1, underarm=-0.46)
    sketch, seen = Sketch(), behind(torso) if back else torso
    inside(sketch, design, torso, back)
    sleeves(sketch, design, seen, 0.12)
    legs = mirrored((0, waist_y), (half - 0.05, waist_y), (half + 0.05, 0.16, 0.06), (half + 0.02 + wide * 0.5, 0.6),
                    (half - 0.03 + wide, bottom),
                    (0.08, bottom), (0.05, 0.6), (0.0, 0.3, 0.04))
    sketch.fill(legs, None, volume=0.2)
    sketch.fill(seen.outline(), None, volume=0.2)
    half_fold = path((0.04, 0.36), (0.17, 0.75), (0.1, bottom))
    for fold in (half_fold, flip(half_fold)):
        sketch.shade(fold, 0.12)
    if not back:
        if design.has("pocket"):
            for side in (1, -1):
                elements.slit_pocket(sketch, design, (side * (half - 0.09), 0.0), (side * (half + 0.0), 0.2))
        if design.has("zip"):
            elements.zipper(sketch, design, TOP + torso.depth, 0.15)
    sketch.seam([(0, 0.16 if not back else waist_y), (0, 0.3)])
    if design.has("belt"):
        elements.belt(sketch, design, waist_y - 0.04, half - 0.03, back, height=0.075)
    else:
        sketch.fill(box(0, waist_y - 0.02, 2 * half - 0.08, 0.035), dark(design.main, 0.15))
    elements.collar(sketch, design, seen, back)
    return sketch
