"""Procedural backgrounds, float32[size, size, 3] from 0 to 255: of the catalogue, of scenes, and cluttered ones.

TRAINING and HELD_OUT have no family in common: a test on HELD_OUT measures backgrounds that the foreground network never saw.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from kaleidobert.drawing.design import COLOURS, RGB, dark, design, light, mix
from kaleidobert.drawing.render import material
from kaleidobert.drawing.sketch import ellipse, path, star

# --- Of the catalogue: gradients, textures, shapes and a shadow


SOFT = 0.35  # clutter is paler than products, as rooms and streets mostly are


def cluttered(size: int, rng: np.random.Generator) -> np.ndarray:
    """Draws a busy background, float32[size, size, 3]."""
    draws = rng.random(16).tolist()
    names = tuple(COLOURS)
    first, second, third = (mix(COLOURS[names[int(u * len(names))]], (206, 204, 200), SOFT + 0.35 * v)
                            for u, v in zip(draws[:3], draws[3:6], strict=True))
    image = _gradient(size, first, second, draws[6])
    draw = ImageDraw.Draw(image, "RGBA")
    _TEXTURES[int(draws[7] * len(_TEXTURES))](draw, size, third, rng)
    _shapes(draw, size, 2 + int(draws[8] * 6), rng)
    image = image.filter(ImageFilter.GaussianBlur(0.6 + 1.2 * draws[9]))
    grain = rng.integers(-5, 6, (size, size, 1)).astype(np.float32)
    return np.clip(np.asarray(image, np.float32) + grain, 0, 255)


def shadow(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the light beside the product, float32[size, size, 1] from 0.6 to 1; mask: its cover, [size, size, 1] from 0 to 1."""
    size = mask.shape[0]
    u, v, w = rng.random(3).tolist()
    soft = Image.fromarray((mask[:, :, 0] * 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(size * (0.015 + 0.03 * u)))
    dx, dy = round(size * (0.06 * v - 0.03)), round(size * (0.015 + 0.03 * w))
    moved = np.roll(np.asarray(soft, np.float32) / 255, (dy, dx), (0, 1))
    moved[:dy] = 0
    return 1 - 0.4 * moved[:, :, None]


def _gradient(size: int, first: RGB, second: RGB, lot: float) -> Image.Image:
    ramp = np.linspace(0, 1, size, dtype=np.float32)
    fraction = ramp[:, None] * (0.3 + 0.7 * lot) + ramp[None] * (0.7 - 0.7 * lot)
    colours = np.array(first, np.float32) + fraction[:, :, None] * (np.array(second, np.float32) - np.array(first, np.float32))
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
    wide, gap, draws = high * 2.2, min(1.0, high / 8), rng.random(600).tolist()
    for row in range(int(size / high) + 1):
        for column in range(int(size / wide) + 2):
            x = (column - 0.5 * (row % 2)) * wide
            tone = mix(colour, (120, 70, 50), 0.5 * draws[(row * 29 + column) % 600])
            draw.rectangle([x + gap, row * high + gap, x + wide - gap, (row + 1) * high - gap], fill=(*tone, 150))


def _blotches(draw: ImageDraw.ImageDraw, size: int, colour: RGB, rng: np.random.Generator) -> None:
    for x, y, r, a in rng.random((40, 4)).tolist():
        radius = size * (0.04 + 0.16 * r)
        tone = light(colour, 0.5 * a) if a > 0.5 else dark(colour, a)
        draw.ellipse([x * size - radius, y * size - radius * 0.7, x * size + radius, y * size + radius * 0.7], fill=(*tone, 45))


def _room(draw: ImageDraw.ImageDraw, size: int, colour: RGB, rng: np.random.Generator) -> None:
    """Draws a wall and a floor, with a framed picture."""
    u, v, w = rng.random(3).tolist()
    floor, x, y = size * (0.62 + 0.25 * u), size * (0.05 + 0.6 * v), size * (0.05 + 0.2 * w)
    draw.rectangle([0, floor, size, size], fill=(*dark(colour, 0.25), 210))
    draw.line([(0, floor), (size, floor)], fill=(*light(colour, 0.6), 255), width=max(2, size // 60))
    draw.rectangle([x, y, x + size * 0.28, y + size * 0.34], fill=(*light(colour, 0.4), 255), outline=(*dark(colour, 0.6), 255),
                   width=max(2, size // 64))


_TEXTURES = (_planks, _tiles, _bricks, _blotches, _room)


def _shapes(draw: ImageDraw.ImageDraw, size: int, count: int, rng: np.random.Generator) -> None:
    """Draws things that lie about, mostly near the edges, where the product leaves room."""
    names = tuple(COLOURS)
    for x, y, r, form, tone, side, alpha, turn in rng.random((count, 8)).tolist():
        x = x * 0.3 if side < 0.5 else 1 - x * 0.3
        radius, colour = 0.06 + 0.13 * r, COLOURS[names[int(tone * len(names))]]
        if form < 0.3:
            points = ellipse(x, y, radius, radius * (0.5 + 0.5 * turn), 24)
        elif form < 0.5:
            points = star(x, y, radius, 4 + int(turn * 4), 0.6)
        elif form < 0.75:  # a leaf
            points = path((x, y - radius * 1.6), (x + radius * (turn - 0.3), y + radius * 1.6, 0.28), (x, y - radius * 1.6, 0.22))
        else:
            points = [(x - radius, y - radius * turn), (x + radius * turn, y - radius), (x + radius, y + radius * turn),
                      (x - radius * turn, y + radius)]
        draw.polygon([(px * size, py * size) for px, py in points], fill=(*colour, 110 + int(140 * alpha)))


# --- Of scenes


Family = Callable[[int, np.random.Generator], np.ndarray]


def noise(size: int, rng: np.random.Generator, start: int = 2, octaves: int = 5, stretch: float = 1.0, fade: float = 0.55) -> np.ndarray:
    """Returns cloud-like noise float32[size, size], mean about 0, deviation about 1; stretch: ratio of width to height of its clouds."""
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        cells = start * 2**octave
        grid = rng.standard_normal((min(size, round(cells * stretch) + 2), min(size, cells + 2))).astype(np.float32)
        total += fade**octave * np.asarray(Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC))
    return (total - total.mean()) / (total.std() + 1e-6)


def tone(rng: np.random.Generator, dark: float = 20, bright: float = 245, colourful: float = 1.0) -> np.ndarray:
    """Draws a colour float32[3] of any hue; colourful: 0 = greys only."""
    grey = rng.uniform(dark, bright)
    hue = rng.standard_normal(3)
    return np.clip(grey + colourful * rng.uniform(0, 45) * (hue - hue.mean()), 4, 252).astype(np.float32)


def ramp(size: int, first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws a linear or radial gradient from one colour to another."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * np.pi)
        fraction = np.clip(0.5 + x * np.cos(angle) + y * np.sin(angle), 0, 1)
    else:
        fraction = np.clip(np.hypot(x - rng.uniform(-0.3, 0.3), y - rng.uniform(-0.3, 0.3)) * rng.uniform(0.8, 1.6), 0, 1)
    return first + fraction[:, :, None] * (second - first)


def studio(size: int, rng: np.random.Generator) -> np.ndarray:
    """Draws a plain backdrop of one colour with uneven light."""
    form = rng.random()
    first = tone(rng, 190, 252, 0.3) if form < 0.5 else tone(rng, 10, 60, 0.3) if form < 0.65 else tone(rng)
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
    fraction = np.clip(0.5 + 0.35 * noise(size, rng, fine, 5, stretch, fade), 0, 1)
    return first + fraction[:, :, None] * (second - first)


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
    """Draws a wall above, something else below: a table, a floor, the ground; the edge soft or hard."""
    rear, front = (PLAIN[int(rng.integers(len(PLAIN)))](size, rng) for _ in range(2))
    edge = size * rng.uniform(0.45, 0.95) + rng.uniform(-0.08, 0.08) * np.arange(size)
    fraction = np.clip((np.arange(size)[:, None] - edge[None]) / rng.choice([1.0, 3.0, 15.0]), 0, 1)[:, :, None]
    return rear * (1 - fraction) + front * fraction * rng.uniform(0.6, 1.0)


def leaves(size: int, rng: np.random.Generator) -> np.ndarray:
    """Leaves, petals or stones heaped up, sharp or out of focus."""
    base = tone(rng, 30, 150, 0.5) if rng.random() < 0.5 else np.array([60, 95, 45], np.float32) * rng.uniform(0.4, 1.8)
    image = Image.fromarray(np.clip(ramp(size, base, base * 0.5, rng), 0, 255).astype(np.uint8))
    draw, flat, reach = ImageDraw.Draw(image), rng.uniform(0.3, 1), rng.uniform(0.02, 0.1)
    for x, y, r, turn, tint in rng.random((int(rng.integers(60, 260)), 5)).tolist():
        radius, angle = reach * (0.4 + r), 6.28 * turn
        points = ellipse(0, 0, radius, radius * flat, 10)
        cos, sin = np.cos(angle), np.sin(angle)
        points = [((x + a * cos - b * sin) * size, (y + a * sin + b * cos) * size) for a, b in points]
        draw.polygon(points, fill=tuple(int(v) for v in np.clip(base * (0.5 + 1.2 * tint) + rng.uniform(-15, 15, 3), 0, 255)))
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
    """Draws a plain, marbled, wooden or walled ground on which small things lie about, most of them near the edges."""
    ground = PLAIN[int(rng.integers(len(PLAIN)))](size, rng)
    image = Image.fromarray(np.clip(ground, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image, "RGBA")
    for x, y, r, form, side, flat in rng.random((int(rng.integers(2, 12)), 6)).tolist():
        x, radius = (0.3 * x if side < 0.5 else 1 - 0.3 * x), 0.03 + 0.13 * r
        corners = 32 if form < 0.4 else int(rng.integers(3, 8))
        points = ellipse(x, y, radius, radius * (0.4 + 0.6 * flat), corners, form, form + 0.999)
        draw.polygon([(px * size, py * size) for px, py in points], fill=(*(int(v) for v in tone(rng)), int(rng.uniform(90, 255))))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 2.0) * size / 128)), np.float32)


PLAIN: tuple[Family, ...] = (studio, marble, wood, wall, clouds)
TRAINING: tuple[Family, ...] = (studio, marble, wood, wall, clouds, floor, floor, leaves, room, scatter, scatter)


# --- Of scenes, kept from the training


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
    """Draws a street at night or a party, far out of focus: bright discs on dark."""
    image = Image.fromarray(np.clip(ramp(size, tone(rng, 5, 80), tone(rng, 5, 120), rng), 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image, "RGBA")
    for x, y, r in rng.random((int(rng.integers(10, 60)), 3)).tolist():
        radius = (0.01 + 0.07 * r) * size
        colour = tuple(int(v) for v in tone(rng, 120, 250))
        box = [x * size - radius, y * size - radius, x * size + radius, y * size + radius]
        draw.ellipse(box, fill=(*colour, int(rng.uniform(60, 220))))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(size / 128)), np.float32)


HELD_OUT: dict[str, Family] = {"catalogue": cluttered, "curtain": curtain, "pebbles": pebbles, "lights": lights}


# --- More for the training: prints, checks, splinters, litter, lines, patterned, edged and coloured as products are


PRODUCTS = 2**40  # indices of designs whose cloth is shown; below are those of products


def fabric(size: int, rng: np.random.Generator) -> np.ndarray:
    """Draws a cloth with a product's pattern all over the picture, turned, with folds."""
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
        position = along if number % 2 == 0 or rng.random() < 0.3 else across
        wave = np.cos(2 * np.pi * (position / (period * rng.choice([0.5, 1.0, 1.0, 2.0])) + rng.random()))
        fraction = rng.uniform(0.15, 1) * np.clip(0.5 + hard * (wave - rng.uniform(-0.6, 0.9)), 0, 1)
        image = image + fraction[:, :, None] * (tone(rng) - image)
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
    """Draws a few flat tones with wandering borders, as a map or a cowhide."""
    count = int(rng.integers(2, 6))
    tones = np.stack([tone(rng) for _ in range(count)])
    if rng.random() < 0.5:
        tones = tones[0] + 0.35 * (tones - tones[0])
    field = noise(size, rng, int(rng.integers(1, 8)), int(rng.integers(1, 4)))
    level = np.clip((field + 1.6) / 3.2 * count, 0, count - 1.001)
    hard = rng.choice([1.0, 4.0, 40.0])
    low = np.floor(level)
    fraction = np.clip(0.5 + hard * (level - low - 0.5), 0, 1)[:, :, None]
    low = low.astype(int)
    return tones[low] * (1 - fraction) + tones[np.minimum(low + 1, count - 1)] * fraction


def litter(size: int, rng: np.random.Generator) -> np.ndarray:
    """Things of all sizes lying anywhere, see-through or not, with or without an outline, sharp or out of focus."""
    image = Image.fromarray(np.clip(_ground(size, rng), 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image, "RGBA")
    tones = [tone(rng) for _ in range(int(rng.integers(1, 7)))]
    smallest, largest = sorted(rng.uniform(0.008, 0.3, 2).tolist())
    clear, outlined = rng.uniform(30, 255), rng.random() < 0.4
    for x, y, r, form, flat, turn in rng.random((int(rng.choice([4, 10, 25, 70, 160])), 6)).tolist():
        radius = smallest * (largest / smallest) ** r
        points = _thing(radius, form, flat, rng)
        cos, sin = np.cos(6.28 * turn), np.sin(6.28 * turn)
        points = [((x + a * cos - b * sin) * size, (y + a * sin + b * cos) * size) for a, b in points]
        colour = tuple(int(v) for v in np.clip(tones[int(rng.integers(len(tones)))] * rng.uniform(0.7, 1.3), 0, 255))
        edge = tuple(int(0.5 * v) for v in colour) if outlined else None
        draw.polygon(points, fill=(*colour, int(rng.uniform(clear, 255))), outline=edge)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(float(rng.choice([0.2, 0.6, 1.5, 4.0])) * size / 128)), np.float32)


def wallpaper(size: int, rng: np.random.Generator) -> np.ndarray:
    """Draws wallpaper: one or two motifs in rows."""
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


def _thing(radius: float, form: float, flat: float, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Returns the outline of a small thing about the origin."""
    if form < 0.3:
        return ellipse(0, 0, radius, radius * (0.3 + 0.7 * flat), 20)
    if form < 0.45:
        return ellipse(0, 0, radius, radius * (0.05 + 0.15 * flat), 12)
    if form < 0.55:
        return star(0, 0, radius, 3 + int(5 * flat), 0.3 + 0.4 * form)
    if form < 0.75:
        return [(-radius, -radius * flat), (radius, -radius * flat), (radius, radius * flat), (-radius, radius * flat)]
    corners = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
    return [(radius * r * np.cos(a), radius * r * np.sin(a)) for a, r in zip(corners.tolist(), rng.uniform(0.5, 1, len(corners)).tolist())]


CLUTTER: tuple[Family, ...] = (*TRAINING, fabric, checks, splinters, blotches, litter, litter, litter, wallpaper, lines)
