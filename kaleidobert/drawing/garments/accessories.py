"""Bags and hats."""

from itertools import pairwise

from kaleidobert.drawing.design import RGB, Design, dark, deep, light, luminance
from kaleidobert.drawing.garments import elements
from kaleidobert.drawing.sketch import Points, Sketch, box, ellipse, mirrored, path

# --- Bags


def _leather(design: Design, key: str) -> RGB:
    """Returns the colour of straps and trim."""
    return design.trim(key, deep(design.main, 0.32))


def _stitches(sketch: Sketch, points: Points) -> None:
    """Draws a dashed seam along a line."""
    for start, end in list(pairwise(points))[::2]:
        sketch.seam([start, end], 0.01)


def tote(design: Design, back: bool) -> Sketch:
    top, bottom = -0.25, design.dial("length", 0.7, 0.95)
    wide, foot = design.dial("width", 0.6, 0.76), design.dial("flare", -0.12, 0.04)
    rise = 0.72 if design.has("handles", "long") else 0.36
    sketch = Sketch()
    handle = path((-wide * 0.45, top + 0.08), (-wide * 0.38, top - rise * 0.6, 0.08), (wide * 0.38, top - rise * 0.6, 0.32),
                  (wide * 0.45, top + 0.08, 0.08))
    sketch.line([(x * 0.94, y - 0.05) for x, y in handle], dark(_leather(design, "handles"), 0.3), 0.055)
    sketch.fill(path((-wide, top), (wide, top, 0.02), (wide + foot, bottom, 0.02), (-wide - foot, bottom, 0.03),
                     (-wide, top, 0.02)), None, volume=0.22)
    sketch.seam(path((-wide + 0.01, top + 0.07), (wide - 0.01, top + 0.07, 0.01)))
    if design.has("base"):
        y = bottom - 0.26
        sketch.fill(path((-wide - foot * 0.78, y), (wide + foot * 0.78, y), (wide + foot, bottom, 0.02),
                         (-wide - foot, bottom, 0.03)),
                    design.trim("base", dark(design.main, 0.28)), "base", volume=0.22)
    if design.has("zip"):
        sketch.line([(-wide * 0.85, top + 0.005), (wide * 0.85, top + 0.005)], dark(design.main, 0.5), 0.05, "zip")
        sketch.fill(box(wide * 0.8, top - 0.01, 0.05, 0.12), elements.METAL)
    if not back:
        if design.has("pocket"):
            elements.patch_pocket(sketch, design, 0, top + 0.32, wide * 0.95, 0.45)
        if design.has("print"):
            elements.printed(sketch, design, 0, (top + bottom) / 2 - 0.02, design.dial("detail", 0.2, 0.28))
    sketch.line(handle, _leather(design, "handles"), 0.06, "handles")
    for x in (handle[0][0], handle[-1][0]):
        sketch.fill(box(x, top + 0.03, 0.1, 0.14), _leather(design, "handles"))
    return sketch


def backpack(design: Design, back: bool) -> Sketch:
    half, bottom = design.dial("width", 0.5, 0.6), design.dial("length", 0.72, 0.92)
    sketch = Sketch()
    strap = _leather(design, "straps")
    for side in (1, -1):  # straps show at the sides, or in full on the back
        line = path((side * half * 0.5, -0.72), (side * (half + 0.16), 0.0, side * 0.2),
                    (side * half * 0.8, bottom - 0.12, side * 0.12))
        sketch.line(line, strap, 0.085)
        sketch.part("straps", [(x + side * e, y) for x, y in line if abs(x) > half for e in (-0.04, 0.04)])
    sketch.line(path((-0.14, -0.74), (0.14, -0.74, 0.6)), _leather(design, "handle"), 0.06, "handle")
    sketch.fill(mirrored((0, -0.8), (half * 0.72, -0.74, 0.04), (half, -0.4, 0.2), (half, bottom - 0.12),
                         (half - 0.12, bottom, 0.2), (0, bottom + 0.01)), None, volume=0.26)
    if back:
        for side in (1, -1):
            line = path((side * 0.16, -0.62), (side * 0.3, -0.1, side * 0.12), (side * half * 0.85, bottom - 0.12, side * 0.06))
            sketch.line(line, strap, 0.13, "straps")
        sketch.fill(box(0, -0.68, half, 0.1), dark(design.main, 0.25))
        return sketch
    arch = path((-half * 0.86, 0.0), (-half * 0.6, -0.6, 0.24), (half * 0.6, -0.6, 0.05), (half * 0.86, 0.0, 0.24))
    pocket = design.trim("pocket")
    front = mirrored((0, 0.12), (half * 0.7, 0.14, 0.05), (half * 0.8, 0.24, 0.2), (half * 0.8, bottom - 0.14),
                     (half * 0.7, bottom - 0.06, 0.2), (0, bottom - 0.05))
    sketch.fill(front, pocket, "pocket", volume=0.2)
    if design.has("flap"):
        flap = mirrored((0, -0.8), (half * 0.74, -0.75, 0.04), (half + 0.02, -0.4, 0.2), (half * 0.96, 0.02), (0, 0.2, 0.14))
        sketch.fill(flap, design.trim("flap"), "flap", volume=0.24)
        for side in (1, -1):
            sketch.fill(box(side * half * 0.45, -0.12, 0.075, 0.5), strap)
            sketch.fill(box(side * half * 0.45, 0.16, 0.12, 0.1), elements.METAL, "buckles")
    else:
        sketch.line(arch, deep(design.main, 0.45), 0.035, "zip")
        sketch.fill(box(arch[-1][0], -0.03, 0.05, 0.14), elements.METAL)
        sketch.seam(path((-half * 0.7, 0.25), (half * 0.7, 0.25, 0.03)), 0.022)
    return sketch


def clutch(design: Design, back: bool) -> Sketch:
    half, tall = design.dial("width", 0.85, 0.98), design.dial("length", 0.36, 0.48)
    sketch = Sketch()
    if design.has("strap"):
        sketch.line(path((half - 0.06, -tall + 0.12), (half + 0.3, tall * 0.7, 0.22), (half + 0.12, tall * 0.75, 0.3),
                         (half - 0.06, -tall + 0.18, -0.12)), _leather(design, "strap"), 0.05, "strap")
    sketch.fill(path((-half, -tall), (half, -tall, 0.02), (half, tall - 0.05), (half - 0.05, tall, 0.2), (-half + 0.05, tall),
                     (-half, tall - 0.05, 0.2)), None, volume=0.22)
    if back:
        sketch.seam([(-half + 0.04, tall - 0.06), (half - 0.04, tall - 0.06)])
        return sketch
    if design.has("flap"):
        point = design.dial("detail", 0.0, 0.2)
        sketch.fill(path((-half - 0.005, -tall), (half + 0.005, -tall, 0.02), (half - 0.02, -tall + 0.16),
                         (0, point + 0.05, 0.03), (-half + 0.02, -tall + 0.16, 0.03)),
                    design.trim("flap"), "flap", volume=0.15)
        sketch.shade(path((half - 0.05, -tall + 0.2), (0, point + 0.12, 0.03), (-half + 0.05, -tall + 0.2, 0.03),
                          (0, point + 0.04)), 0.15)
        sketch.fill(ellipse(0, point, 0.065, 0.065, 16), elements.GOLD, "clasp")
    else:
        sketch.line([(-half + 0.02, -tall), (half - 0.02, -tall)], elements.GOLD, 0.06)
        for side in (1, -1):
            sketch.fill(ellipse(side * 0.045, -tall - 0.07, 0.06, 0.06, 14), elements.GOLD)
        sketch.part("clasp", box(0, -tall - 0.13, 0.22, 0.13))
    if design.has("tassel"):
        _tassel(sketch, design, -half + 0.14, -tall + 0.06)
    return sketch


def _tassel(sketch: Sketch, design: Design, x: float, y: float) -> None:
    paint = _leather(design, "tassel")
    sketch.fill(path((x - 0.03, y + 0.08), (x + 0.03, y + 0.08), (x + 0.085, y + 0.45), (x - 0.085, y + 0.45)), paint, "tassel")
    sketch.fill(ellipse(x, y + 0.07, 0.045, 0.05, 12), dark(paint, 0.2))
    sketch.line([(x, y), (x, y + 0.05)], paint, 0.02)
    for k in (-0.04, 0.0, 0.04):
        sketch.seam([(x + k * 0.6, y + 0.16), (x + k, y + 0.44)], 0.01)


def shoulder_bag(design: Design, back: bool) -> Sketch:
    half, top, bottom = design.dial("width", 0.55, 0.7), -0.05, design.dial("length", 0.6, 0.8)
    peak = -design.dial("curve", 0.9, 1.25)
    sketch = Sketch()
    strap = path((-half + 0.05, top + 0.1), (-half * 0.5, peak + 0.1, 0.05), (half * 0.5, peak + 0.1, 0.22),
                 (half - 0.05, top + 0.1, 0.05))
    if design.has("strap", "chain"):
        sketch.line(strap, elements.GOLD, 0.03, "strap")
        for x, y in strap[1:-1:2]:
            sketch.fill(ellipse(x, y, 0.04, 0.04, 10), elements.GOLD)
    else:
        sketch.line(strap, _leather(design, "strap"), 0.06, "strap")
    for side in (1, -1):
        sketch.fill(ellipse(side * (half - 0.05), top + 0.08, 0.06, 0.06, 14), elements.METAL)
    sketch.fill(mirrored((0, top), (half - 0.06, top, 0.01), (half, top + 0.1, 0.2), (half + 0.02, bottom - 0.14),
                         (half - 0.12, bottom, 0.24), (0, bottom + 0.01)), None, volume=0.24)
    if back:
        sketch.line([(-half * 0.7, top + 0.16), (half * 0.7, top + 0.16)], dark(design.main, 0.4), 0.03)
        return sketch
    low = top + (bottom - top) * design.dial("detail", 0.45, 0.62)
    if design.has("pocket"):
        elements.patch_pocket(sketch, design, 0, low + 0.04, half * 1.3, bottom - low - 0.1)
    edge, droop = (low - 0.14, 0.14) if design.has("flap", "round") else (low, 0.0)
    flap = path((-half + 0.06, top - 0.01), (half - 0.06, top - 0.01), (half + 0.005, top + 0.1, 0.2), (half + 0.015, edge),
                (-half - 0.015, edge, droop), (-half - 0.005, top + 0.1), (-half + 0.06, top - 0.01, 0.2))
    sketch.fill(flap, design.trim("flap"), "flap", volume=0.2)
    _stitches(sketch, [(x * 0.94, y - 0.035) for x, y in flap if y > top + 0.12 and (x < half or y < edge)])
    if design.has("clasp"):
        sketch.fill(box(0, low - 0.1, 0.16, 0.12), elements.GOLD, "clasp")
        sketch.fill(box(0, low - 0.065, 0.04, 0.05), dark(elements.GOLD, 0.5))
    if design.has("tassel"):
        _tassel(sketch, design, half - 0.03, top + 0.12)
    return sketch


# --- Hats


def cap(design: Design, back: bool) -> Sketch:
    """Draws a cap from the front left: the brim points to the left."""
    tall, reach = design.dial("length", 0.62, 0.78), design.dial("width", 1.15, 1.35)
    brim = design.trim("brim")
    sketch = Sketch()
    sketch.fill(path((-0.62, 0.3), (0.0, -tall + 0.22, 0.24), (0.68, 0.28, 0.3), (0.62, 0.36), (-0.55, 0.38, 0.06)), None,
                volume=0.3)
    sketch.seam(path((0.0, -tall + 0.23), (-0.3, 0.32, -0.16)))
    sketch.seam(path((0.0, -tall + 0.23), (0.34, 0.34, 0.14)))
    if design.has("eyelets"):
        for x in (-0.32, 0.06, 0.4):
            sketch.fill(ellipse(x, -tall * 0.25 + 0.15 + abs(x - 0.05) * 0.2, 0.03, 0.03, 10), dark(design.main, 0.5), "eyelets")
    sketch.fill(ellipse(0.0, -tall + 0.22, 0.06, 0.04, 12), design.trim("button", dark(design.main, 0.2)), "button")
    if design.has("logo") and not back:
        elements.logo(sketch, design, -0.36, 0.1, 0.12)
    curve = 0.1 if design.has("brim", "curved") else 0.0
    sketch.fill(path((-0.62, 0.26), (0.1, 0.36, -0.06), (-0.1, 0.47 + curve, 0.1),
                     (-reach, 0.42 + curve * 2, 0.12 if curve else 0.02), (-0.62, 0.26, 0.14)), brim, "brim", volume=0.15)
    for k in (0.0, 0.045):
        sketch.seam(path((-0.02, 0.43 + curve * 0.7 + k * 0.3), (-reach + 0.12, 0.39 + curve * 1.6 + k, 0.1 if curve else 0.02)),
                    0.009)
    return sketch


def beanie(design: Design, back: bool) -> Sketch:
    half, tall = design.dial("width", 0.6, 0.74), design.dial("length", 0.75, 1.05)
    low, sketch = 0.5, Sketch()
    if design.has("pompom"):
        paint = design.trim("pompom", light(design.main, 0.3) if luminance(design.main) < 120 else dark(design.main, 0.15))
        fluff = [(x * (1.0 + 0.1 * (k % 2)), -tall + low - 0.02 + y * (1.0 + 0.1 * (k % 2))) for k,
                 (x, y) in enumerate(ellipse(0, 0, 0.2, 0.2, 28))]
        sketch.fill(fluff, paint, "pompom")
        sketch.shade(ellipse(0.05, -tall + low + 0.04, 0.11, 0.09, 14), 0.12)
    sketch.fill(mirrored((0, low - tall), (half, low - tall * 0.35, 0.26), (half * 0.97, low), (0, low)), None, volume=0.34)
    for k in range(-5, 6):
        x = half * k / 5.6
        sketch.seam(path((x * 0.3, low - tall + 0.05 + 0.02 * abs(k)), (x, low, 0.12 * k / 5)), 0.012)
    if design.has("cuff"):
        height = design.dial("detail", 0.26, 0.36)
        paint = design.ink("cuff")
        sketch.fill(path((-half - 0.03, low - height + 0.06), (half + 0.03, low - height + 0.06, 0.03),
                         (half + 0.01, low + 0.06, 0.06), (-half - 0.01, low + 0.06, -0.03),
                         (-half - 0.03, low - height + 0.06, 0.06)), paint, "cuff", volume=0.3)
        for k in range(-9, 10):
            x = (half + 0.01) * k / 10
            sketch.seam([(x, low - height + 0.07), (x, low + 0.02)], 0.012, dark(paint, 0.22))
        if design.has("patch") and not back:
            sketch.fill(path((-0.13, low - height * 0.72), (0.13, low - height * 0.72), (0.13, low - 0.03), (-0.13, low - 0.03)),
                        design.second, "patch")
    else:
        sketch.seam(path((-half * 0.97, low - 0.07), (half * 0.97, low - 0.07, -0.01)), 0.014)
    return sketch


def hat(design: Design, back: bool) -> Sketch:
    """Draws a hat whose brim is seen slightly from above."""
    reach = design.dial("width", 1.1, 1.25) if design.has("brim", "wide") else design.dial("width", 0.78, 0.9)
    half, tall, low = 0.5, design.dial("length", 0.58, 0.75), 0.25
    depth = 0.24 if design.has("brim", "wide") else 0.15
    sketch = Sketch()
    sketch.fill(ellipse(0, low + 0.05, reach, depth, 36), None, "brim", volume=0.2)
    sketch.shade(ellipse(0, low + 0.08, half * 1.15, depth * 0.55, 24), 0.22)
    if design.has("crown", "pinched"):
        top = [(0, low - tall + 0.07), (half * 0.55, low - tall, 0.1), (half * 0.86, low - tall + 0.14, 0.2), (half, low, 0.03),
               (0, low + 0.09, 0.1)]
    else:
        top = [(0, low - tall), (half * 0.95, low - tall * 0.45, 0.26), (half, low, 0.03), (0, low + 0.09, 0.1)]
    sketch.fill(mirrored(*top), None, "crown", volume=0.32)
    if design.has("crown", "pinched"):
        sketch.shade(path((-half * 0.5, low - tall + 0.02), (half * 0.5, low - tall + 0.02, -0.1), (0, low - tall + 0.2, 0.1)),
                     0.2)
        sketch.seam(path((half * 0.35, low - tall + 0.06), (half * 0.2, low - tall + 0.3, 0.15)))
    paint = design.trim("band", deep(design.main, 0.5))
    height = 0.16 if design.has("band", "ribbon") else 0.08
    sketch.fill(mirrored((0, low + 0.08 - height), (half * 0.99, low - height, -0.1), (half + 0.01, low + 0.01),
                         (0, low + 0.1, 0.1)), paint, "band", volume=0.2)
    if design.has("bow"):
        x, y = -half * 0.75, low - height * 0.4
        for side in (1, -1):
            sketch.fill(path((x, y), (x + side * 0.17, y - 0.1, side * 0.1), (x + side * 0.17, y + 0.1), (x, y, side * 0.1)),
                        paint)
        sketch.part("bow", [(x - 0.18, y - 0.11), (x + 0.18, y + 0.11)])
    if design.has("feather"):
        root, tip = (half * 0.62, low - 0.02), (half * 0.98, low - 0.56)
        quill = path(root, (*tip, 0.08))
        sketch.fill(path(root, (*tip, 0.2), (*root, 0.08)), design.second, "feather")
        sketch.seam(quill, 0.012)
    return sketch
