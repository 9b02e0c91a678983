"""Pictures with their true foreground for the foreground network: drawn products over procedural backgrounds, nothing else.

    scene(seed, index, size) -> Scene      seeds of training and test differ, and so do the backgrounds where held_out
Two training scenes of five are a shop's (white or a plain backdrop), the others are cluttered. What a person in the picture
wears, holds and shows is foreground as the garment is; shadows, furniture and other products cut by the frame are not.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter
from scipy import ndimage

from kaleidobert.datasets.drawn import backgrounds
from kaleidobert.datasets.drawn.design import design, generator
from kaleidobert.datasets.drawn.figures import Layer, person, small_goods
from kaleidobert.datasets.drawn.patterns import material
from kaleidobert.datasets.drawn.render import paint, place, zoom
from kaleidobert.datasets.drawn.sketches import SKETCHES
from kaleidobert.datasets.drawn.surroundings import HELD_OUT, SHOP, TRAINING, noise

PURPOSE = 1000  # of the generators: far from those of the catalogue's pictures
ROOM = 1.25  # scenes are drawn so much larger than asked, so that a window of them can be taken
LEAST, MOST = 0.02, 0.97  # of the picture: what a foreground may cover
WORN = {"TOPS": "upper", "KNITWEAR": "upper", "OUTERWEAR": "upper", "TROUSERS": "lower", "DRESSES & SKIRTS": "both"}
OTHER = 500_000  # added to the index for the product beside the product


@dataclass(frozen=True)
class Scene:
    """image uint8[size, size, 3]; mask bool[size, size]; what the background is."""

    image: np.ndarray
    mask: np.ndarray
    background: str


def scene(seed: int, index: int, size: int = 128, held_out: str = "", shop: float = 0.4) -> Scene:
    """One scene; the same arguments give the same pixels.

    held_out: a name of surroundings.HELD_OUT, "" for the backgrounds of the training. shop: share of scenes before white or
    a plain backdrop (without held_out).
    """
    rng = generator(seed, index, PURPOSE)
    large = round(size * ROOM)
    plain = not held_out and rng.random() < shop
    families = (HELD_OUT[held_out],) if held_out else SHOP if plain else TRAINING
    family = families[int(rng.integers(len(families)))]
    colour, cover = _foreground(seed, index, large, bool(held_out), rng)
    white = plain and family.__name__ == "white"
    if white and rng.random() < 0.3:  # white on white: only shading and edges tell
        faded = rng.uniform(0.4, 0.93)
        colour = colour * (1 - faded) + 253 * cover * faded
    behind = np.clip(family(large, rng), 0, 255).astype(np.float32)
    if not plain and not held_out and rng.random() < 0.3:
        behind = _beside(seed, index, behind, rng)
    if rng.random() < (0.4 if white else 0.8):
        shadow = backgrounds.shadow(np.broadcast_to(cover, cover.shape), rng) * _contact(cover, rng)
        behind = behind * (1 - rng.uniform(0.1, 1) * (1 - shadow))
    image = colour + behind * (1 - cover)
    image, mask = _window(image, cover[:, :, 0], size, rng)
    return Scene(_camera(image, white, rng), mask >= 0.5, held_out or family.__name__)


def split(seed: int, count: int, size: int, start: int = 0, held_out: Sequence[str] = ()) -> tuple[np.ndarray, np.ndarray]:
    """images uint8[count, size, size, 3] and masks bool[count, size, size]; the held-out families take turns."""
    made = [scene(seed, index, size, held_out[index % len(held_out)] if held_out else "") for index in range(start, start + count)]
    return np.stack([one.image for one in made]), np.stack([one.mask for one in made])


def _foreground(seed: int, index: int, size: int, alone: bool, rng: np.random.Generator) -> Layer:
    """A garment, a person who wears it, a pair, or small goods; alone: nobody wears it."""
    lot = rng.random()
    if lot < 0.12:
        return _photographed(small_goods(size, rng), rng)
    product = design(seed, index)
    half = WORN.get(product.kind.category, "")
    worn = bool(half) and lot < 0.55 and not alone
    pair = not half and lot < 0.3
    fill = rng.uniform(0.35, 0.85) if worn else rng.uniform(0.3, 0.52) if pair else rng.uniform(0.45, 0.98)
    sketch = SKETCHES[product.subcategory](product, bool(rng.random() < 0.3))
    matrix = place(sketch, size, fill, rng.normal(0, 0.12 if half else 0.3), (rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5)),
                   narrow=rng.uniform(0.6, 1.25), slant=rng.normal(0, 0.06), mirror=bool(rng.random() < 0.5))
    if not pair and rng.random() < 0.08:
        matrix = zoom(matrix, tuple(rng.uniform(0.3, 0.7, 2) * size), rng.uniform(1.3, 2.2), size)
    state = rng.bit_generator.state
    colour, cover = _photographed(paint(sketch, matrix, size, product.main, lambda m, p: material(product, m, p, rng)), rng)
    if pair:  # side by side, apart or overlapping
        rng.bit_generator.state = state
        moved = matrix.copy()
        moved[:, 2] += rng.uniform(0.25, 0.6) * size * np.array(rng.choice([-1, 1])), rng.normal(0, 0.06) * size
        second = paint(sketch, moved, size, product.main, lambda m, p: material(product, m, p, rng))
        return _over((colour, cover), _photographed(second, rng))
    rows, columns = np.flatnonzero(cover.max((1, 2)) > 0.5), np.flatnonzero(cover.max((0, 2)) > 0.5)
    if worn and len(rows) and len(columns):
        box = (float(columns[0]), float(rows[0]), float(columns[-1]), float(rows[-1]))
        return _over((colour, cover), _photographed(person(size, box, half, rng), rng))
    return colour, cover


def _over(top: Layer, bottom: Layer) -> Layer:
    return top[0] + bottom[0] * (1 - top[1]), top[1] + bottom[1] * (1 - top[1])


def _photographed(layer: Layer, rng: np.random.Generator) -> Layer:
    """What light and cloth do to a flat drawing: folds, a weave, highlights; one in four stays a drawing."""
    colour, cover = layer
    if rng.random() < 0.25:
        return layer
    size = colour.shape[0]
    folds = noise(size, rng, 2, 4, float(rng.choice([0.3, 1.0, 3.0]))) * rng.uniform(0.02, 0.16)
    weave = rng.standard_normal((size, size)).astype(np.float32) * rng.uniform(0, 0.06)
    colour = colour * (1 + folds + weave)[:, :, None]
    if rng.random() < 0.3:  # a gloss
        colour = colour + cover * (np.clip(noise(size, rng, 3, 3) - 1.2, 0, 1) * rng.uniform(20, 90))[:, :, None]
    if rng.random() < 0.5:  # outlines of a drawing are harder than those of a photograph
        radius = rng.uniform(0.4, 1.3) * size / 160
        soft, edge = (ndimage.gaussian_filter(part, (radius, radius, 0)) for part in (colour, cover))
        colour = np.where(cover > 0, soft / np.maximum(edge, 0.2) * cover, 0)
    return np.clip(colour, 0, 255 * cover).astype(np.float32), cover


def _beside(seed: int, index: int, behind: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Other products, cut by the frame."""
    size = behind.shape[0]
    for number in range(int(rng.integers(1, 4))):
        other = design(seed, index + OTHER * (number + 1))
        sketch = SKETCHES[other.subcategory](other, False)
        matrix = place(sketch, size, rng.uniform(0.3, 0.6), rng.normal(0, 0.5), (0.0, 0.0))
        angle = rng.uniform(0, 2 * np.pi)
        way = np.array([np.cos(angle), np.sin(angle)])
        matrix[:, 2] += size * rng.uniform(0.5, 0.62) * way / np.abs(way).max()
        colour, cover = paint(sketch, matrix, size, other.main, lambda m, p, other=other: material(other, m, p, rng))
        behind = colour * rng.uniform(0.6, 1) + behind * (1 - cover)
    return behind


def _contact(cover: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The shadow on the ground under the lowest part of the product: how much light is left, float32[size, size, 1]."""
    size = cover.shape[0]
    rows = np.flatnonzero(cover.max((1, 2)) > 0.5)
    if not len(rows) or rng.random() < 0.5:
        return np.ones_like(cover)
    foot = rows[-1]
    columns = np.flatnonzero(cover[max(0, foot - size // 12):foot + 1, :, 0].max(0) > 0.5)
    middle, half = columns.mean(), max(2.0, 0.55 * (columns[-1] - columns[0]))
    y, x = np.mgrid[0:size, 0:size]
    distance = ((x - middle) / half) ** 2 + ((y - foot) / (size * rng.uniform(0.015, 0.07))) ** 2
    return (1 - rng.uniform(0.1, 0.7) * np.exp(-distance))[:, :, None].astype(np.float32)


def _window(image: np.ndarray, cover: np.ndarray, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The frame: the whole scene, or a window of it that cuts the product; any window becomes square."""
    large = cover.shape[0]
    x, y, width, height = 0, 0, large, large
    if rng.random() < 0.4:
        width, height = (round(large * v) for v in rng.uniform(0.55, 1, 2))
        x, y = int(rng.integers(large - width + 1)), int(rng.integers(large - height + 1))
        if not LEAST <= (cover[y:y + height, x:x + width] >= 0.5).mean() <= MOST:
            x, y, width, height = 0, 0, large, large
    box = (x, y, x + width, y + height)
    channels = [image[:, :, k] for k in range(3)] + [cover]
    resized = [np.asarray(Image.fromarray(np.ascontiguousarray(one, np.float32)).resize((size, size), Image.Resampling.BILINEAR, box))
               for one in channels]
    return np.stack(resized[:3], axis=2), resized[3]


def _camera(image: np.ndarray, white: bool, rng: np.random.Generator) -> np.ndarray:
    """Exposure, blur, grain and JPEG."""
    if not white:
        image = 255 * np.clip(image / 255, 0, 1) ** rng.uniform(0.7, 1.5) * rng.uniform(0.8, 1.1, 3)
    if rng.random() < 0.5:
        image = image + rng.standard_normal(image.shape) * rng.uniform(0, 2 if white else 7)
    picture = Image.fromarray(np.clip(image + 0.5, 0, 255).astype(np.uint8))
    if rng.random() < 0.3:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.9)))
    if rng.random() < 0.6:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=int(rng.integers(45, 96)))
        picture = Image.open(buffer).convert("RGB")
    return np.asarray(picture)
