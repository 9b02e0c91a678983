"""Procedural backgrounds for the scenes on which the foreground network is trained and tested: float32[size, size, 3], 0 to 255.

TRAINING and HELD_OUT share no family: a test on HELD_OUT asks for backgrounds that the network never saw.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from kaleidobert.drawing import backgrounds
from kaleidobert.drawing.curves import ellipse

Family = Callable[[int, np.random.Generator], np.ndarray]


def noise(size: int, rng: np.random.Generator, start: int = 2, octaves: int = 5, stretch: float = 1.0, fade: float = 0.55) -> np.ndarray:
    """Cloud-like noise float32[size, size], mean about 0, spread about 1; stretch: how much longer it is across than down."""
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        cells = start * 2**octave
        grid = rng.standard_normal((min(size, round(cells * stretch) + 2), min(size, cells + 2))).astype(np.float32)
        total += fade**octave * np.asarray(Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC))
    return (total - total.mean()) / (total.std() + 1e-6)


def tone(rng: np.random.Generator, dark: float = 20, bright: float = 245, colourful: float = 1.0) -> np.ndarray:
    """A colour float32[3] of any hue; colourful: 0 = greys only."""
    grey = rng.uniform(dark, bright)
    hue = rng.standard_normal(3)
    return np.clip(grey + colourful * rng.uniform(0, 45) * (hue - hue.mean()), 4, 252).astype(np.float32)


def ramp(size: int, first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A straight or round change from one colour to another."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * np.pi)
        share = np.clip(0.5 + x * np.cos(angle) + y * np.sin(angle), 0, 1)
    else:
        share = np.clip(np.hypot(x - rng.uniform(-0.3, 0.3), y - rng.uniform(-0.3, 0.3)) * rng.uniform(0.8, 1.6), 0, 1)
    return first + share[:, :, None] * (second - first)


def studio(size: int, rng: np.random.Generator) -> np.ndarray:
    """A plain backdrop of one colour with uneven light."""
    kind = rng.random()
    first = tone(rng, 190, 252, 0.3) if kind < 0.5 else tone(rng, 10, 60, 0.3) if kind < 0.65 else tone(rng)
    return ramp(size, first, np.clip(first * rng.uniform(0.72, 1.1), 0, 255), rng)


def marble(size: int, rng: np.random.Generator) -> np.ndarray:
    base = tone(rng, 185, 245, 0.15) if rng.random() < 0.7 else tone(rng, 20, 90, 0.3)
    veins = np.exp(-np.abs(noise(size, rng, 2, 5)) * rng.uniform(4, 12)) * rng.uniform(4, 30)
    image = ramp(size, base, base * rng.uniform(0.85, 1.05), rng) - veins[:, :, None]
    return image + (rng.uniform(1, 6) * noise(size, rng, 3, 4))[:, :, None]


def clouds(size: int, rng: np.random.Generator) -> np.ndarray:
    first = tone(rng)
    second = first + rng.uniform(0.15, 0.7) * (tone(rng) - first)
    fine, stretch, fade = int(rng.integers(1, 12)), rng.choice([1.0, 1.0, 4.0, 0.25]), rng.uniform(0.4, 0.9)
    share = np.clip(0.5 + 0.35 * noise(size, rng, fine, 5, stretch, fade), 0, 1)
    return first + share[:, :, None] * (second - first)


def wood(size: int, rng: np.random.Generator) -> np.ndarray:
    """Boards with grain, lying or standing."""
    base = tone(rng, 30, 220, 0.2) * np.array([1.08, 1.0, 0.88], np.float32)
    grain = noise(size, rng, 3, 5, rng.uniform(6, 16), 0.8) * rng.uniform(4, 16)
    image = np.repeat(base[None, None], size, 0).repeat(size, 1) + grain[:, :, None]
    step = max(6, round(size * rng.uniform(0.08, 0.4)))
    for row in range(0, size, step):
        image[row:row + step] *= rng.uniform(0.82, 1.12)
        image[row:row + 1] *= rng.uniform(0.4, 0.9)
    return image if rng.random() < 0.5 else image.transpose(1, 0, 2)


def wall(size: int, rng: np.random.Generator) -> np.ndarray:
    """Bricks or tiles, painted white as often as not, with a wide range of joints."""
    base = tone(rng, 200, 250, 0.1) if rng.random() < 0.55 else tone(rng, 40, 220, 0.7)
    image = np.repeat(base[None, None], size, 0).repeat(size, 1)
    high = max(5, round(size * rng.uniform(0.06, 0.3)))
    wide, shift = max(5, round(high * rng.choice([1.0, 2.0, 3.0]))), rng.choice([0.0, 0.5])
    joint, spread = rng.uniform(0.7, 1.1), rng.uniform(0, 0.08)
    for number, row in enumerate(range(0, size, high)):
        for left in range(-round(shift * wide) * (number % 2), size, wide):
            image[row:row + high, max(0, left):max(0, left + wide)] *= 1 + spread * rng.standard_normal()
            image[row:row + high, max(0, left):max(0, left + 1)] *= joint
        image[row:row + 1] *= joint
    return image + (rng.uniform(1, 7) * noise(size, rng, 4, 5))[:, :, None]


def floor(size: int, rng: np.random.Generator) -> np.ndarray:
    """A wall above, something else below: a table, a floor, the ground; the edge soft or hard."""
    rear, front = (PLAIN[int(rng.integers(len(PLAIN)))](size, rng) for _ in range(2))
    edge = size * rng.uniform(0.45, 0.95) + rng.uniform(-0.08, 0.08) * np.arange(size)
    share = np.clip((np.arange(size)[:, None] - edge[None]) / rng.choice([1.0, 3.0, 15.0]), 0, 1)[:, :, None]
    return rear * (1 - share) + front * share * rng.uniform(0.6, 1.0)


def leaves(size: int, rng: np.random.Generator) -> np.ndarray:
    """Leaves, petals or stones heaped up, sharp or out of focus."""
    base = tone(rng, 30, 150, 0.5) if rng.random() < 0.5 else np.array([60, 95, 45], np.float32) * rng.uniform(0.4, 1.8)
    image = Image.fromarray(np.clip(ramp(size, base, base * 0.5, rng), 0, 255).astype(np.uint8))
    draw, flat, reach = ImageDraw.Draw(image), rng.uniform(0.3, 1), rng.uniform(0.02, 0.1)
    for x, y, r, turn, light in rng.random((int(rng.integers(60, 260)), 5)).tolist():
        radius, angle = reach * (0.4 + r), 6.28 * turn
        points = ellipse(0, 0, radius, radius * flat, 10)
        cos, sin = np.cos(angle), np.sin(angle)
        points = [((x + a * cos - b * sin) * size, (y + a * sin + b * cos) * size) for a, b in points]
        draw.polygon(points, fill=tuple(int(v) for v in np.clip(base * (0.5 + 1.2 * light) + rng.uniform(-15, 15, 3), 0, 255)))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(float(rng.choice([0.3, 0.8, 2.0, 5.0])) * size / 128)), np.float32)


def room(size: int, rng: np.random.Generator) -> np.ndarray:
    """Boxes of all sizes, as furniture, houses and shelves are, mostly out of focus."""
    image = Image.fromarray(np.clip(ramp(size, tone(rng), tone(rng), rng), 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(4, 28))):
        x, y, w, h = (rng.uniform(-0.2, 1), rng.uniform(-0.2, 1), rng.uniform(0.03, 0.5), rng.uniform(0.03, 0.6))
        points = [(x, y), (x + w, y + rng.normal(0, 0.03)), (x + w + rng.normal(0, 0.03), y + h), (x, y + h)]
        draw.polygon([(a * size, b * size) for a, b in points], fill=tuple(int(v) for v in tone(rng, 20, 245, 0.6)))
    soft = np.asarray(image.filter(ImageFilter.GaussianBlur(float(rng.choice([0.6, 2.0, 4.0, 7.0])) * size / 128)), np.float32)
    return soft + (rng.uniform(0, 10) * noise(size, rng, 8, 4))[:, :, None]


def scatter(size: int, rng: np.random.Generator) -> np.ndarray:
    """A plain, marbled, wooden or walled ground on which small things lie about, most of them near the edges."""
    ground = PLAIN[int(rng.integers(len(PLAIN)))](size, rng)
    image = Image.fromarray(np.clip(ground, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image, "RGBA")
    for x, y, r, kind, side, flat in rng.random((int(rng.integers(2, 12)), 6)).tolist():
        x, radius = (0.3 * x if side < 0.5 else 1 - 0.3 * x), 0.03 + 0.13 * r
        corners = 32 if kind < 0.4 else int(rng.integers(3, 8))
        points = ellipse(x, y, radius, radius * (0.4 + 0.6 * flat), corners, kind, kind + 0.999)
        draw.polygon([(px * size, py * size) for px, py in points], fill=(*(int(v) for v in tone(rng)), int(rng.uniform(90, 255))))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 2.0) * size / 128)), np.float32)


PLAIN: tuple[Family, ...] = (studio, marble, wood, wall, clouds)
TRAINING: tuple[Family, ...] = (studio, marble, wood, wall, clouds, floor, floor, leaves, room, scatter, scatter)


# --- kept from the training -------------------------------------------------------------------------------------------


def curtain(size: int, rng: np.random.Generator) -> np.ndarray:
    """Folds of a hanging cloth, with a woven check."""
    base, x = tone(rng), np.arange(size, dtype=np.float32) / size
    folds = sum((rng.uniform(0.03, 0.12) * np.sin(2 * np.pi * (rng.uniform(2, 14) * x + rng.random())) for _ in range(3)),
                np.zeros(size, np.float32))
    image = base * (1 + folds)[None, :, None] * np.linspace(1, rng.uniform(0.7, 1), size)[:, None, None]
    weave = np.sign(np.sin(2 * np.pi * rng.uniform(4, 16) * x))
    return image * (1 + rng.uniform(0, 0.1) * (weave[:, None] + weave[None])[:, :, None])


def pebbles(size: int, rng: np.random.Generator) -> np.ndarray:
    """Cells around random points, each of its own shade, as gravel, terrazzo or a mosaic."""
    points = rng.random((int(rng.integers(20, 140)), 2)) * size
    y, x = np.mgrid[0:size, 0:size]
    distance = (y[:, :, None] - points[:, 0]) ** 2 + (x[:, :, None] - points[:, 1]) ** 2
    nearest = np.sort(np.sqrt(distance), axis=2)[:, :, :2]
    base, shades = tone(rng, 60, 200), 1 + rng.uniform(0.05, 0.35) * rng.standard_normal(len(points))
    image = base * shades[distance.argmin(2)][:, :, None]
    return image * np.clip(0.55 + (nearest[:, :, 1] - nearest[:, :, 0])[:, :, None] / (0.02 * size), 0.55, 1)


def lights(size: int, rng: np.random.Generator) -> np.ndarray:
    """A street at night or a party, far out of focus: bright discs on dark."""
    image = Image.fromarray(np.clip(ramp(size, tone(rng, 5, 80), tone(rng, 5, 120), rng), 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image, "RGBA")
    for x, y, r in rng.random((int(rng.integers(10, 60)), 3)).tolist():
        radius = (0.01 + 0.07 * r) * size
        colour = tuple(int(v) for v in tone(rng, 120, 250))
        box = [x * size - radius, y * size - radius, x * size + radius, y * size + radius]
        draw.ellipse(box, fill=(*colour, int(rng.uniform(60, 220))))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(size / 128)), np.float32)


HELD_OUT: dict[str, Family] = {"catalogue": backgrounds.cluttered, "curtain": curtain, "pebbles": pebbles, "lights": lights}
