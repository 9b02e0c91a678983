"""Coats, bomber jackets, blazers and down jackets."""

from kaleidobert.drawing.curves import box, mirrored, path
from kaleidobert.drawing.design import Design
from kaleidobert.drawing.garments import details, necks
from kaleidobert.drawing.garments.sketch import CLOTH, Sketch
from kaleidobert.drawing.garments.torso import TOP, Torso, behind, body, hem, inside, sleeves
from kaleidobert.drawing.palette import RGB, dark, luminance, tonal


def _begin(design: Design, torso: Torso, back: bool, wrist: float,
           paint: RGB | None = CLOTH) -> tuple[Sketch, Torso]:
    sketch, seen = Sketch(), behind(torso) if back else torso
    inside(sketch, design, torso, back)
    sleeves(sketch, design, seen, wrist, paint)
    body(sketch, design, seen)
    return sketch, seen


def _front(sketch: Sketch, design: Design, torso: Torso, low: float, double: bool, overlap: float = 0.0) -> None:
    """The shirt beneath the lapels and the line where the front closes."""
    sketch.fill(mirrored((0, TOP + 0.02), (torso.neck * 0.86, TOP), (0, low)),
                (238, 238, 236) if luminance(design.main) < 170 else dark(design.main, 0.5))
    lap = 0.13 if double else overlap
    sketch.seam(path((0, low), (-lap, low + 0.06), (-lap, torso.bottom)), 0.016)


def coat(design: Design, back: bool) -> Sketch:
    double = design.has("buttons", "double")
    half = design.dial("width", 0.36, 0.43)
    torso = Torso(neck=0.16, depth=0.55, bulge=0.0, shoulder=half, chest=half, waist=half - 0.02 * design.has("belt"),
                  hem=half + design.dial("flare", 0.02, 0.16),
                  bottom=design.dial("length", 0.85, 1.1), underarm=-0.4)
    sketch, torso = _begin(design, torso, back, 0.15)
    sketch.seam([(-torso.hem + 0.02, torso.bottom - 0.05), (torso.hem - 0.02, torso.bottom - 0.05)], 0.009)
    low = TOP + 0.55
    if back:
        sketch.seam([(0, 0.35), (0, torso.bottom)])
    else:
        _front(sketch, design, torso, low, double)
        for x in (0.12, -0.12) if double else (0.04,):
            details.buttons(sketch, design, x, low + 0.06, low + 0.62, 3 if double else 4, radius=0.03)
        details.side_pockets(sketch, design, torso.hem * 0.62, 0.22, design.features["pocket"], 0.23)
    if design.has("belt"):
        details.belt(sketch, design, 0.02, torso.side(0.05) + 0.01, back)
    necks.collar(sketch, design, torso, back)
    return sketch


def bomber(design: Design, back: bool) -> Sketch:
    half = design.dial("width", 0.46, 0.55)
    torso = Torso(neck=0.19, depth=0.1, shoulder=half - 0.02, chest=half, waist=half + 0.02, hem=half - 0.06,
                  bottom=design.dial("length", 0.42, 0.6))
    sketch, torso = _begin(design, torso, back, 0.16, design.trim("sleeve"))
    hem(sketch, design, torso, 0.14)
    necks.collar(sketch, design, torso, back)
    if not back:
        details.side_pockets(sketch, design, half * 0.6, 0.05, design.features["pocket"])
        details.zipper(sketch, design, TOP + 0.0, torso.bottom - 0.005)
    return sketch


def blazer(design: Design, back: bool) -> Sketch:
    count = {"one": 1, "two": 2, "double": 2}[design.features["buttons"]]
    double = design.has("buttons", "double")
    half = design.dial("width", 0.4, 0.47)
    torso = Torso(neck=0.16, depth=design.dial("neck", 0.66, 0.8), bulge=0.0, shoulder=half + 0.01, chest=half, waist=half - 0.05,
                  hem=half + 0.02,
                  bottom=design.dial("length", 0.55, 0.72), slope=0.09, curve=0.07 * design.has("hem", "curved"))
    sketch, torso = _begin(design, torso, back, 0.14)
    low = TOP + torso.depth
    sketch.part("hem", [(-torso.hem, torso.bottom - 0.1), (torso.hem, torso.bottom + torso.curve)])
    if back:
        sketch.seam([(0, TOP + 0.1), (0, torso.bottom)])
    else:
        _front(sketch, design, torso, low, double)
        for x in (0.1, -0.1) if double else (0.035,):
            details.buttons(sketch, design, x, low + 0.05, low + 0.05 + 0.19 * (count - 1), count, radius=0.03)
        details.side_pockets(sketch, design, half * 0.56, torso.bottom - 0.42, design.features["pocket"], 0.22)
        sketch.line([(0.22, -0.3), (0.36, -0.34)], tonal(design.main), 0.03)
        if not double:  # the fronts are cut away below the last button
            sketch.seam(path((0, low + 0.2), (0.1, torso.bottom, -0.15)))
    necks.collar(sketch, design, torso, back)
    return sketch


def down_jacket(design: Design, back: bool) -> Sketch:
    half = design.dial("width", 0.46, 0.54)
    torso = Torso(neck=0.19, depth=0.1, shoulder=half - 0.03, chest=half, waist=half + 0.02, hem=half - 0.01,
                  bottom=design.dial("length", 0.45, 0.75))
    sketch = Sketch()
    if design.has("hood") and not back:
        necks.raised_hood(sketch, design, torso)
    torso = behind(torso) if back else torso
    sleeves(sketch, design, torso, 0.19)
    _baffles(sketch, design, torso)
    if design.has("hood") and back:
        necks.hood(sketch, design, torso, back)
    else:
        necks.collar(sketch, design, torso, back)
    if not back:
        if design.has("pocket"):
            details.side_pockets(sketch, design, half * 0.6, 0.12, "zip")
        details.zipper(sketch, design, TOP + 0.0, torso.bottom - 0.005)
    return sketch


def _baffles(sketch: Sketch, design: Design, torso: Torso) -> None:
    """Rolls of down: the body is a stack of rounded bands."""
    sketch.fill(torso.outline(), None, volume=0.3)
    step = design.dial("detail", 0.15, 0.22)
    y = torso.underarm - 0.22
    while y < torso.bottom - 0.02:
        low = min(y + step, torso.bottom)
        wide, wider = torso.side(max(y, torso.underarm)) - 0.01, torso.side(max(low, torso.underarm)) - 0.01
        if y >= torso.underarm:
            sketch.fill(path((-wide, y), (wide, y, 0.015), (wider, low, 0.22), (-wider, low, 0.015), (-wide, y, 0.22)), None,
                        volume=0.3)
        else:
            sketch.seam(path((-wide + 0.04, low), (wide - 0.04, low, -0.015)))
        sketch.shade(path((-wide, low - step * 0.3), (wide, low - step * 0.3, -0.02), (wider, low), (-wider, low, 0.02)), 0.12)
        sketch.shade(box(0, y + step * 0.15, wide * 1.7, step * 0.22), -0.1)
        y += step


