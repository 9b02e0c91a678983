"""What sits at the neck: rib and stand collars, pointed collars, lapels, hoods."""

from kaleidobert.drawing.curves import ellipse, flip, mirrored, path
from kaleidobert.drawing.design import Design
from kaleidobert.drawing.garments.sketch import Sketch
from kaleidobert.drawing.garments.torso import TOP, Torso
from kaleidobert.drawing.palette import dark


def collar(sketch: Sketch, design: Design, torso: Torso, back: bool) -> None:
    """Draw the collar that the design has; drawn after the body."""
    choice = design.features.get("collar", "none")
    if back and choice in _FROM_BEHIND:
        _FROM_BEHIND[choice](sketch, design, torso)
    elif back:
        _rib(sketch, design, torso, 0.05)
    else:
        _COLLARS[choice](sketch, design, torso)


def _rib(sketch: Sketch, design: Design, torso: Torso, width: float = 0.06) -> None:
    """A band that follows the neckline, whatever its shape."""
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
    """Any turned-down collar from behind: a crescent over the neck."""
    n = torso.neck
    sketch.fill(mirrored((0, TOP - 0.06), (n * 0.85, TOP - 0.05, 0.06), (n + 0.06, TOP + 0.05, 0.1), (0, TOP + 0.1, 0.05)),
                design.trim("collar"), "collar")


def raised_hood(sketch: Sketch, design: Design, torso: Torso) -> None:
    """A hood standing up behind a high collar; drawn before the body."""
    n, paint = torso.neck, design.trim("hood")
    sketch.fill(mirrored((0, TOP - 0.42), (n + 0.17, TOP - 0.1, 0.3), (n + 0.12, TOP + 0.1, 0.08), (0, TOP + 0.1)), paint, "hood",
                volume=0.3)
    sketch.fill(mirrored((0, TOP - 0.34), (n + 0.08, TOP - 0.1, 0.28), (n + 0.05, TOP + 0.06, 0.06), (0, TOP + 0.06)),
                dark(design.main, 0.42))


def hood(sketch: Sketch, design: Design, torso: Torso, back: bool) -> None:
    """A hood lying behind the neck or, from behind, on the back."""
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
