"""What lies behind a product: white, or clutter made of gradients, textures, shapes and a shadow."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from kaleidobert.drawing.curves import ellipse, path, star
from kaleidobert.drawing.palette import COLOURS, RGB, dark, light, mix

SOFT = 0.35  # clutter is paler than products, as rooms and streets mostly are


def cluttered(size: int, rng: np.random.Generator) -> np.ndarray:
    """A busy background, float32[size, size, 3]."""
    lots = rng.random(16).tolist()
    names = tuple(COLOURS)
    first, second, third = (mix(COLOURS[names[int(u * len(names))]], (206, 204, 200), SOFT + 0.35 * v)
                            for u, v in zip(lots[:3], lots[3:6], strict=True))
    image = _gradient(size, first, second, lots[6])
    draw = ImageDraw.Draw(image, "RGBA")
    _TEXTURES[int(lots[7] * len(_TEXTURES))](draw, size, third, rng)
    _shapes(draw, size, 2 + int(lots[8] * 6), rng)
    image = image.filter(ImageFilter.GaussianBlur(0.6 + 1.2 * lots[9]))
    grain = rng.integers(-5, 6, (size, size, 1)).astype(np.float32)
    return np.clip(np.asarray(image, np.float32) + grain, 0, 255)


def shadow(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How much light is left beside the product, float32[size, size, 1]; mask: its cover, [size, size, 1] in 0..1."""
    size = mask.shape[0]
    u, v, w = rng.random(3).tolist()
    soft = Image.fromarray((mask[:, :, 0] * 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(size * (0.015 + 0.03 * u)))
    dx, dy = round(size * (0.06 * v - 0.03)), round(size * (0.015 + 0.03 * w))
    moved = np.roll(np.asarray(soft, np.float32) / 255, (dy, dx), (0, 1))
    moved[:dy] = 0
    return 1 - 0.4 * moved[:, :, None]


def _gradient(size: int, first: RGB, second: RGB, lot: float) -> Image.Image:
    ramp = np.linspace(0, 1, size, dtype=np.float32)
    share = ramp[:, None] * (0.3 + 0.7 * lot) + ramp[None] * (0.7 - 0.7 * lot)
    colours = np.array(first, np.float32) + share[:, :, None] * (np.array(second, np.float32) - np.array(first, np.float32))
    return Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))


def _planks(draw: ImageDraw.ImageDraw, size: int, colour: RGB, rng: np.random.Generator) -> None:
    step = size * (0.09 + 0.12 * rng.random())
    flat = rng.random() < 0.5
    for k in range(int(size / step) + 1):
        a, b = k * step, (k + 1) * step
        area = [(0, a), (size, a), (size, b), (0, b)] if flat else [(a, 0), (a, size), (b, size), (b, 0)]
        draw.polygon(area, fill=(*colour, 30 + int(90 * rng.random())), outline=(*dark(colour, 0.6), 130))


def _tiles(draw: ImageDraw.ImageDraw, size: int, colour: RGB, rng: np.random.Generator) -> None:
    step, shade = size * (0.1 + 0.12 * rng.random()), 70 + int(80 * rng.random())
    count = int(size / step) + 1
    for row in range(count):
        for column in range(row % 2, count, 2):
            draw.rectangle([column * step, row * step, (column + 1) * step, (row + 1) * step], fill=(*colour, shade))


def _bricks(draw: ImageDraw.ImageDraw, size: int, colour: RGB, rng: np.random.Generator) -> None:
    high = size * (0.06 + 0.05 * rng.random())
    wide, gap, lots = high * 2.2, min(1.0, high / 8), rng.random(600).tolist()
    for row in range(int(size / high) + 1):
        for column in range(int(size / wide) + 2):
            x = (column - 0.5 * (row % 2)) * wide
            tone = mix(colour, (120, 70, 50), 0.5 * lots[(row * 29 + column) % 600])
            draw.rectangle([x + gap, row * high + gap, x + wide - gap, (row + 1) * high - gap], fill=(*tone, 150))


def _blotches(draw: ImageDraw.ImageDraw, size: int, colour: RGB, rng: np.random.Generator) -> None:
    for x, y, r, a in rng.random((40, 4)).tolist():
        radius = size * (0.04 + 0.16 * r)
        tone = light(colour, 0.5 * a) if a > 0.5 else dark(colour, a)
        draw.ellipse([x * size - radius, y * size - radius * 0.7, x * size + radius, y * size + radius * 0.7], fill=(*tone, 45))


def _room(draw: ImageDraw.ImageDraw, size: int, colour: RGB, rng: np.random.Generator) -> None:
    """A wall and a floor, with a framed picture."""
    u, v, w = rng.random(3).tolist()
    floor, x, y = size * (0.62 + 0.25 * u), size * (0.05 + 0.6 * v), size * (0.05 + 0.2 * w)
    draw.rectangle([0, floor, size, size], fill=(*dark(colour, 0.25), 210))
    draw.line([(0, floor), (size, floor)], fill=(*light(colour, 0.6), 255), width=max(2, size // 60))
    draw.rectangle([x, y, x + size * 0.28, y + size * 0.34], fill=(*light(colour, 0.4), 255), outline=(*dark(colour, 0.6), 255),
                   width=max(2, size // 64))


_TEXTURES = (_planks, _tiles, _bricks, _blotches, _room)


def _shapes(draw: ImageDraw.ImageDraw, size: int, count: int, rng: np.random.Generator) -> None:
    """Things lying about, mostly near the edges where the product leaves room."""
    names = tuple(COLOURS)
    for x, y, r, kind, tone, side, alpha, turn in rng.random((count, 8)).tolist():
        x = x * 0.3 if side < 0.5 else 1 - x * 0.3
        radius, colour = 0.06 + 0.13 * r, COLOURS[names[int(tone * len(names))]]
        if kind < 0.3:
            points = ellipse(x, y, radius, radius * (0.5 + 0.5 * turn), 24)
        elif kind < 0.5:
            points = star(x, y, radius, 4 + int(turn * 4), 0.6)
        elif kind < 0.75:  # a leaf
            points = path((x, y - radius * 1.6), (x + radius * (turn - 0.3), y + radius * 1.6, 0.28), (x, y - radius * 1.6, 0.22))
        else:
            points = [(x - radius, y - radius * turn), (x + radius * turn, y - radius), (x + radius, y + radius * turn),
                      (x - radius * turn, y + radius)]
        draw.polygon([(px * size, py * size) for px, py in points], fill=(*colour, 110 + int(140 * alpha)))
