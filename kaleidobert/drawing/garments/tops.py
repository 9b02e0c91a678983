"""T-shirts, shirts, polos, tank tops, sweaters, cardigans, hoodies, coats, bomber jackets, blazers and down jackets."""

from dataclasses import replace

from kaleidobert.drawing.design import RGB, Design, dark, luminance, tonal
from kaleidobert.drawing.garments import elements
from kaleidobert.drawing.garments.elements import TOP, Torso, behind, body, hem, inside, neckline, sleeves
from kaleidobert.drawing.sketch import CLOTH, Sketch, box, flip, mirrored, path

# --- Tops and knitwear


def _torso(design: Design, low: float, high: float) -> Torso:
    """Returns a torso whose free measures follow the dials; low, high: the range of its length."""
    half = design.dial("width", 0.42, 0.54)
    flare = design.dial("flare", -0.04, 0.05)
    return replace(Torso(**neckline(design)), shoulder=half, chest=half, waist=half + flare * 0.5 - 0.01, hem=half + flare,
                   bottom=design.dial("length", low, high), slope=design.dial("size", 0.1, 0.16))


def _start(design: Design, torso: Torso, back: bool, wrist: float = 0.13) -> tuple[Sketch, Torso]:
    """Returns a sketch with sleeves and body, and the torso as seen from this side."""
    sketch, seen = Sketch(), behind(torso) if back else torso
    inside(sketch, design, torso, back)
    sleeves(sketch, design, seen, wrist)
    body(sketch, design, seen)
    return sketch, seen


def t_shirt(design: Design, back: bool) -> Sketch:
    torso = replace(_torso(design, 0.55, 0.85), curve=0.07 if design.has("hem", "curved") else 0.0)
    sketch, torso = _start(design, torso, back, 0.17)
    hem(sketch, design, torso)
    elements.collar(sketch, design, torso, back)
    if not back and design.has("pocket"):
        elements.patch_pocket(sketch, design, 0.21, -0.42, 0.22, 0.24)
    if not back and design.has("print"):
        elements.printed(sketch, design, 0, -0.12, design.dial("detail", 0.16, 0.25))
    return sketch


def shirt(design: Design, back: bool) -> Sketch:
    torso = replace(_torso(design, 0.65, 0.95), depth=0.14, curve=0.12 if design.has("hem", "curved") else 0.0)
    sketch, torso = _start(design, torso, back, 0.15)
    hem(sketch, design, torso)
    if back:
        sketch.seam(path((-torso.shoulder + 0.03, -0.56), (torso.shoulder - 0.03, -0.56, -0.03)))
    else:
        low = TOP + torso.depth
        sketch.fill(box(0, low, 0.1, torso.bottom + torso.curve - low - 0.005), None)
        for x in [0.23] if design.has("pocket", "chest") else [0.23, -0.23] if design.has("pocket", "two") else []:
            elements.patch_pocket(sketch, design, x, -0.4, 0.21, 0.24)
        elements.buttons(sketch, design, 0, low + 0.08, torso.bottom - 0.1, 6)
    elements.collar(sketch, design, torso, back)
    return sketch


def polo(design: Design, back: bool) -> Sketch:
    torso = replace(_torso(design, 0.6, 0.85), depth=0.15)
    sketch, torso = _start(design, torso, back, 0.17)
    hem(sketch, design, torso)
    if not back:
        low = TOP + torso.depth
        sketch.fill(box(0, low - 0.02, 0.1, 0.32), tonal(design.main), "placket")
        if design.has("placket", "buttons"):
            elements.buttons(sketch, design, 0, low + 0.08, low + 0.22, 2, key="")
        else:
            elements.zipper(sketch, design, low + 0.02, low + 0.27)
        if design.has("logo"):
            elements.logo(sketch, design, 0.24, -0.38)
    elements.collar(sketch, design, torso, back)
    return sketch


def tank_top(design: Design, back: bool) -> Sketch:
    bottom = design.dial("length", 0.2, 0.3) if design.has("hem", "cropped") else design.dial("length", 0.5, 0.75)
    half, flare = design.dial("width", 0.36, 0.44), 0.18 if design.has("hem", "flared") else design.dial("flare", -0.03, 0.04)
    thin = design.has("straps", "thin")
    depth = 0.32 if back else {"scoop": 0.42, "vneck": 0.52, "square": 0.4}[design.features["collar"]]
    low = TOP + depth
    near, top, strap = (half * 0.68, TOP + 0.3, 0.0) if thin else (0.19, TOP, 0.14)
    low += 0.08 * thin
    if design.has("collar", "square") and not back:
        neck = path((0, low), (near * 0.92, low), (near, top))
    elif design.has("collar", "scoop") or back:
        neck = path((0, low), (near * 0.8, low - 0.11, -0.2), (near, top, -0.02 - 0.06 * thin))
    else:
        neck = path((0, low), (near, top, -0.02))
    wide = path((near + strap, top), (near + strap - 0.01, top + 0.14), (half, -0.33, -0.2))
    hole = path((near, top), (half, -0.33, -0.1)) if thin else wide
    sketch, paint = Sketch(), design.trim("straps")
    if not back:
        sketch.fill(mirrored((0, top + 0.25 - 0.1 * thin), (near, top + 0.02, -0.2), (near + 0.05 * (not thin), top + 0.02),
                             (near + 0.03, low), (0, low + 0.04)), dark(design.main, 0.4))
    if thin:
        for side in (1, -1):
            sketch.line(path((side * (near - 0.005), top + 0.03), (side * (near - 0.06), TOP - 0.1, side * 0.04)), paint, 0.045,
                        "straps")
    side_seam = path(hole[-1], (half + flare * 0.3, 0.0), (half + flare, bottom, -0.04), (0, bottom + flare * 0.3, flare * 0.3))
    right = neck + hole + side_seam[1:]
    sketch.fill(right + flip(right), None, volume=0.26)
    if not thin:
        piece = [p for p in neck if p[1] < TOP + 0.2] + [p for p in hole if p[1] < TOP + 0.22]
        for points in (piece, flip(piece)):
            sketch.fill(points, paint, "straps", edge=paint is not None)
    sketch.part("collar", [(-near, TOP + depth * 0.35), (near, low + 0.05)])
    rim = [(x, y + 0.035) for x, y in neck]
    sketch.seam(flip(rim) + rim)
    if design.has("print") and not back:
        elements.printed(sketch, design, 0, low + 0.28, design.dial("detail", 0.13, 0.18))
    sketch.seam(path((-half - flare + 0.02, bottom - 0.05), (half + flare - 0.02, bottom - 0.05, -flare * 0.3)))
    sketch.part("hem", [(-half - flare, bottom - 0.08), (half + flare, bottom + 0.02)])
    return sketch


def sweater(design: Design, back: bool) -> Sketch:
    torso = _torso(design, 0.5, 0.72)
    sketch, torso = _start(design, torso, back, 0.14)
    hem(sketch, design, torso, 0.13)
    elements.collar(sketch, design, torso, back)
    if not back and design.has("print"):
        elements.printed(sketch, design, 0, -0.05, design.dial("detail", 0.18, 0.26))
    return sketch


def cardigan(design: Design, back: bool) -> Sketch:
    torso = replace(_torso(design, 0.55, 0.85), depth=0.62, bulge=-0.03)
    sketch, torso = _start(design, torso, back, 0.14)
    hem(sketch, design, torso, 0.12)
    if back:
        elements.collar(sketch, design, torso, back)
        return sketch
    low = TOP + torso.depth
    if design.has("collar", "shawl"):
        elements.collar(sketch, design, torso, back)
    else:
        for side in (1, -1):
            edge = path((side * torso.neck, TOP - 0.01), (side * 0.01, low, side * 0.03), (side * 0.01, low + 0.13),
                        (side * (torso.neck + 0.08), TOP + 0.02, -side * 0.05))
            sketch.fill(edge, tonal(design.main), "collar")
    sketch.fill(box(0, low, 0.11, torso.bottom - low), tonal(design.main))
    elements.buttons(sketch, design, 0, low + 0.07, torso.bottom - 0.08, 5, radius=0.028)
    if design.has("pocket"):
        elements.side_pockets(sketch, design, torso.hem * 0.55, torso.bottom - 0.46, "patch", 0.25)
    return sketch


def hoodie(design: Design, back: bool) -> Sketch:
    torso = _torso(design, 0.52, 0.72)
    sketch, torso = _start(design, torso, back, 0.16)
    hem(sketch, design, torso, 0.11)
    if not back:
        if design.has("pocket"):
            elements.kangaroo(sketch, design, torso.bottom - 0.5, torso.hem * 0.66, 0.36)
        if design.has("print"):
            elements.printed(sketch, design, 0, -0.2, 0.17)
        if design.has("zip"):
            elements.zipper(sketch, design, TOP + torso.depth, torso.bottom - 0.005)
    elements.hood(sketch, design, torso, back)
    if not back and design.has("drawstring"):
        elements.drawstring(sketch, design, 0.08, TOP + torso.depth + 0.02, design.dial("detail", 0.22, 0.36))
    return sketch


# --- Outerwear


def _begin(design: Design, torso: Torso, back: bool, wrist: float,
           paint: RGB | None = CLOTH) -> tuple[Sketch, Torso]:
    sketch, seen = Sketch(), behind(torso) if back else torso
    inside(sketch, design, torso, back)
    sleeves(sketch, design, seen, wrist, paint)
    body(sketch, design, seen)
    return sketch, seen


def _front(sketch: Sketch, design: Design, torso: Torso, low: float, double: bool) -> None:
    """Draws the shirt beneath the lapels and the line where the front closes."""
    sketch.fill(mirrored((0, TOP + 0.02), (torso.neck * 0.86, TOP), (0, low)),
                (238, 238, 236) if luminance(design.main) < 170 else dark(design.main, 0.5))
    lap = 0.13 if double else 0.0
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
            elements.buttons(sketch, design, x, low + 0.06, low + 0.62, 3 if double else 4, radius=0.03)
        elements.side_pockets(sketch, design, torso.hem * 0.62, 0.22, design.features["pocket"], 0.23)
    if design.has("belt"):
        elements.belt(sketch, design, 0.02, torso.side(0.05) + 0.01, back)
    elements.collar(sketch, design, torso, back)
    return sketch


def bomber(design: Design, back: bool) -> Sketch:
    half = design.dial("width", 0.46, 0.55)
    torso = Torso(neck=0.19, depth=0.1, shoulder=half - 0.02, chest=half, waist=half + 0.02, hem=half - 0.06,
                  bottom=design.dial("length", 0.42, 0.6))
    sketch, torso = _begin(design, torso, back, 0.16, design.trim("sleeve"))
    hem(sketch, design, torso, 0.14)
    elements.collar(sketch, design, torso, back)
    if not back:
        elements.side_pockets(sketch, design, half * 0.6, 0.05, design.features["pocket"])
        elements.zipper(sketch, design, TOP + 0.0, torso.bottom - 0.005)
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
            elements.buttons(sketch, design, x, low + 0.05, low + 0.05 + 0.19 * (count - 1), count, radius=0.03)
        elements.side_pockets(sketch, design, half * 0.56, torso.bottom - 0.42, design.features["pocket"], 0.22)
        sketch.line([(0.22, -0.3), (0.36, -0.34)], tonal(design.main), 0.03)
        if not double:  # the fronts are cut away below the last button
            sketch.seam(path((0, low + 0.2), (0.1, torso.bottom, -0.15)))
    elements.collar(sketch, design, torso, back)
    return sketch


def down_jacket(design: Design, back: bool) -> Sketch:
    half = design.dial("width", 0.46, 0.54)
    torso = Torso(neck=0.19, depth=0.1, shoulder=half - 0.03, chest=half, waist=half + 0.02, hem=half - 0.01,
                  bottom=design.dial("length", 0.45, 0.75))
    sketch = Sketch()
    if design.has("hood") and not back:
        elements.raised_hood(sketch, design, torso)
    torso = behind(torso) if back else torso
    sleeves(sketch, design, torso, 0.19)
    _baffles(sketch, design, torso)
    if design.has("hood") and back:
        elements.hood(sketch, design, torso, back)
    else:
        elements.collar(sketch, design, torso, back)
    if not back:
        if design.has("pocket"):
            elements.side_pockets(sketch, design, half * 0.6, 0.12, "zip")
        elements.zipper(sketch, design, TOP + 0.0, torso.bottom - 0.005)
    return sketch


def _baffles(sketch: Sketch, design: Design, torso: Torso) -> None:
    """Draws rolls of down: the body is a stack of rounded bands."""
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
