"""Caps, beanies and brimmed hats."""

from kaleidobert.drawing.curves import ellipse, mirrored, path
from kaleidobert.drawing.design import Design
from kaleidobert.drawing.garments import details
from kaleidobert.drawing.garments.sketch import Sketch
from kaleidobert.drawing.palette import dark, deep, light, luminance


def cap(design: Design, back: bool) -> Sketch:
    """Seen from the front left: the brim points to the left."""
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
        details.logo(sketch, design, -0.36, 0.1, 0.12)
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
    """Brim seen slightly from above."""
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
