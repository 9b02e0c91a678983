"""More backgrounds for the foreground network's training: prints, checks, splinters, litter, lines. float32[size, size, 3], 0 to 255.

None of them is a shop's; they are what a product has to be told from although it is patterned, edged or coloured as products are.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from kaleidobert.drawing.curves import ellipse, star
from kaleidobert.drawing.design import design
from kaleidobert.drawing.patterns import material
from kaleidobert.drawing.scenes.surroundings import PLAIN, TRAINING, Family, noise, ramp, tone

PRODUCTS = 2**40  # indices of designs whose cloth is shown; below are those of products


def fabric(size: int, rng: np.random.Generator) -> np.ndarray:
    """A cloth with a product's pattern all over the picture, turned, with folds."""
    product = design(int(rng.integers(2**31)), PRODUCTS)
    angle, scale = rng.uniform(0, 2 * np.pi), size * rng.uniform(0.5, 1.6)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    cloth = material(product, np.concatenate([turn, np.full((2, 1), size / 2)], axis=1), size, rng)
    flat = np.asarray(cloth, np.float32) if cloth is not None else np.broadcast_to(np.array(product.main, np.float32), (size, size, 3))
    folds = rng.uniform(0, 0.2) * noise(size, rng, 2, 4, float(rng.choice([0.3, 1.0, 3.0])))
    return flat * (1 + folds)[:, :, None]


def checks(size: int, rng: np.random.Generator) -> np.ndarray:
    """Stripes, checks or a plaid at any angle, hard or soft."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    angle, period = rng.uniform(0, np.pi), rng.uniform(0.03, 0.4)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    image, hard = ramp(size, tone(rng), tone(rng), rng), rng.choice([1.0, 3.0, 30.0])
    for number in range(int(rng.integers(1, 5))):
        place = along if number % 2 == 0 or rng.random() < 0.3 else across
        wave = np.cos(2 * np.pi * (place / (period * rng.choice([0.5, 1.0, 1.0, 2.0])) + rng.random()))
        share = rng.uniform(0.15, 1) * np.clip(0.5 + hard * (wave - rng.uniform(-0.6, 0.9)), 0, 1)
        image = image + share[:, :, None] * (tone(rng) - image)
    return image


def splinters(size: int, rng: np.random.Generator) -> np.ndarray:
    """Areas between straight lines that cross the whole picture, each of its own shade."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
    area = np.zeros((size, size), np.int64)
    for _ in range(int(rng.integers(3, 12))):
        angle = rng.uniform(0, 2 * np.pi)
        area = (area * 2 + (x * np.cos(angle) + y * np.sin(angle) > rng.uniform(-0.5, 0.5))) % 4093
    first, spread = tone(rng), rng.uniform(0.05, 0.5)
    shades = 1 + spread * rng.standard_normal((4096, 1)).astype(np.float32)
    if rng.random() < 0.4:
        shades = shades + spread * rng.standard_normal((4096, 3)).astype(np.float32)
    return (first * shades)[area]


def blotches(size: int, rng: np.random.Generator) -> np.ndarray:
    """A few flat tones with wandering borders, as a map or a cowhide."""
    count = int(rng.integers(2, 6))
    tones = np.stack([tone(rng) for _ in range(count)])
    if rng.random() < 0.5:
        tones = tones[0] + 0.35 * (tones - tones[0])
    field = noise(size, rng, int(rng.integers(1, 8)), int(rng.integers(1, 4)))
    level = np.clip((field + 1.6) / 3.2 * count, 0, count - 1.001)
    hard = rng.choice([1.0, 4.0, 40.0])
    low = np.floor(level)
    share = np.clip(0.5 + hard * (level - low - 0.5), 0, 1)[:, :, None]
    low = low.astype(int)
    return tones[low] * (1 - share) + tones[np.minimum(low + 1, count - 1)] * share


def litter(size: int, rng: np.random.Generator) -> np.ndarray:
    """Things of all sizes lying anywhere, see-through or not, with or without an outline, sharp or out of focus."""
    image = Image.fromarray(np.clip(_ground(size, rng), 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image, "RGBA")
    tones = [tone(rng) for _ in range(int(rng.integers(1, 7)))]
    least, most = sorted(rng.uniform(0.008, 0.3, 2).tolist())
    clear, outlined = rng.uniform(30, 255), rng.random() < 0.4
    for x, y, r, kind, flat, turn in rng.random((int(rng.choice([4, 10, 25, 70, 160])), 6)).tolist():
        radius = least * (most / least) ** r
        points = _thing(radius, kind, flat, rng)
        cos, sin = np.cos(6.28 * turn), np.sin(6.28 * turn)
        points = [((x + a * cos - b * sin) * size, (y + a * sin + b * cos) * size) for a, b in points]
        colour = tuple(int(v) for v in np.clip(tones[int(rng.integers(len(tones)))] * rng.uniform(0.7, 1.3), 0, 255))
        edge = tuple(int(0.5 * v) for v in colour) if outlined else None
        draw.polygon(points, fill=(*colour, int(rng.uniform(clear, 255))), outline=edge)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(float(rng.choice([0.2, 0.6, 1.5, 4.0])) * size / 128)), np.float32)


def wallpaper(size: int, rng: np.random.Generator) -> np.ndarray:
    """Wallpaper: one or two motifs in rows."""
    image = Image.fromarray(np.clip(_ground(size, rng), 0, 255).astype(np.uint8))
    draw, step = ImageDraw.Draw(image, "RGBA"), rng.uniform(0.05, 0.4)
    for _ in range(int(rng.integers(1, 3))):
        motif = _thing(step * rng.uniform(0.15, 0.6), rng.random(), rng.random(), rng)
        turn, shift, moved = rng.uniform(0, 6.28), rng.choice([0.0, 0.5]), rng.random(2) * step
        turned = np.array(motif) @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        colour = (*(int(v) for v in tone(rng)), int(rng.uniform(60, 255)))
        for row in range(-1, int(1 / step) + 2):
            for column in range(-1, int(1 / step) + 2):
                middle = (np.array([column + shift * (row % 2), row]) * step + moved)
                draw.polygon(((turned + middle) * size).ravel().tolist(), fill=colour)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(float(rng.choice([0.2, 0.6, 2.0])) * size / 128)), np.float32)


def lines(size: int, rng: np.random.Generator) -> np.ndarray:
    """Branches, grass, wires: lines that wander across."""
    image = Image.fromarray(np.clip(_ground(size, rng), 0, 255).astype(np.uint8))
    draw, main = ImageDraw.Draw(image, "RGBA"), rng.uniform(0, 2 * np.pi)
    base, spread, wild = tone(rng), rng.choice([0.1, 0.5, 3.0]), rng.uniform(0, 0.4)
    for _ in range(int(rng.choice([4, 15, 60]))):
        angles = main + spread * rng.standard_normal() + np.cumsum(wild * rng.standard_normal(12))
        steps = rng.uniform(0.03, 0.13) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        points = (rng.uniform(-0.3, 1, 2) + np.cumsum(steps, axis=0)) * size
        colour = tuple(int(v) for v in np.clip(base * rng.uniform(0.5, 1.5), 0, 255))
        draw.line(points.ravel().tolist(), fill=(*colour, int(rng.uniform(90, 255))), width=max(1, round(size * rng.uniform(0.004, 0.04))))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(float(rng.choice([0.2, 0.6, 2.0, 4.0])) * size / 128)), np.float32)


def _ground(size: int, rng: np.random.Generator) -> np.ndarray:
    return PLAIN[int(rng.integers(len(PLAIN)))](size, rng)


def _thing(radius: float, kind: float, flat: float, rng: np.random.Generator) -> list[tuple[float, float]]:
    """The outline of a small thing about the origin."""
    if kind < 0.3:
        return ellipse(0, 0, radius, radius * (0.3 + 0.7 * flat), 20)
    if kind < 0.45:
        return ellipse(0, 0, radius, radius * (0.05 + 0.15 * flat), 12)
    if kind < 0.55:
        return star(0, 0, radius, 3 + int(5 * flat), 0.3 + 0.4 * kind)
    if kind < 0.75:
        return [(-radius, -radius * flat), (radius, -radius * flat), (radius, radius * flat), (-radius, radius * flat)]
    corners = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
    return [(radius * r * np.cos(a), radius * r * np.sin(a)) for a, r in zip(corners.tolist(), rng.uniform(0.5, 1, len(corners)).tolist())]


CLUTTER: tuple[Family, ...] = (*TRAINING, fabric, checks, splinters, blotches, litter, litter, litter, wallpaper, lines)
