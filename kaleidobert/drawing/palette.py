"""The named colours of drawn products and what is derived from a colour: darker and lighter tones, outlines."""

from collections.abc import Sequence

import numpy as np

RGB = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
    "black": (34, 34, 38), "white": (245, 245, 243), "grey": (152, 154, 158), "navy": (32, 44, 92), "blue": (46, 104, 200),
    "turquoise": (70, 188, 200), "green": (40, 140, 76), "olive": (112, 114, 56), "mint": (168, 222, 190),
    "yellow": (246, 212, 66), "orange": (238, 134, 40), "red": (208, 38, 46), "burgundy": (112, 28, 50),
    "pink": (244, 160, 186), "purple": (108, 54, 148), "lilac": (192, 172, 226), "brown": (112, 72, 46), "beige": (220, 200, 164),
}


def luminance(rgb: RGB) -> float:
    """Perceived brightness, 0 to 255 (the weights of ITU-R BT.601)."""
    return 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]


def mix(first: RGB, second: RGB, share: float) -> RGB:
    """``share`` of the second colour in the first."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def dark(rgb: RGB, share: float = 0.2) -> RGB:
    return mix(rgb, (0, 0, 0), share)


def light(rgb: RGB, share: float = 0.2) -> RGB:
    return mix(rgb, (255, 255, 255), share)


def deep(rgb: RGB, share: float) -> RGB:
    """A clearly darker tone, or a lighter one where the colour is too dark for that: straps, soles, tapes."""
    return dark(rgb, share) if luminance(rgb) > 70 else light(rgb, 0.22)


def tonal(rgb: RGB) -> RGB:
    """A slightly different tone of the same colour: what a rib or a collar looks like beside the body."""
    return light(rgb, 0.13) if luminance(rgb) < 60 else dark(rgb, 0.1)


def outline(rgb: RGB) -> RGB:
    """The colour of an edge or a seam on ``rgb``: darker, except on colours too dark to show that."""
    return light(rgb, 0.3) if luminance(rgb) < 62 else dark(rgb, 0.42)


def jitter(rgb: RGB, lots: Sequence[float] | np.ndarray) -> RGB:
    """The colour of one dye lot: a little darker or lighter, hardly another hue; lots: three numbers in [0, 1)."""
    shift = 16 * lots[0] - 8
    own = (lots[1], lots[2], 1 - lots[1])
    red, green, blue = (min(252, max(8, round(c + shift + 5 * u - 2.5))) for c, u in zip(rgb, own, strict=True))
    return red, green, blue
