"""Pictures with their true foreground for the foreground network: drawn products over procedural backgrounds, nothing else.

    scene(seed, index, size) -> Scene        a scene of the test: a product that no training has, before a background that none has
    foregrounds(seed, start, count, size)    what recomposition.py puts together for the training
What a person in the picture wears, holds and shows is foreground as the garment is; shadows, furniture and other products cut by
the frame are not.
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageFilter
from scipy import ndimage, special

from kaleidobert.drawing import backgrounds
from kaleidobert.drawing.design import design, generator
from kaleidobert.drawing.garments.sketches import SKETCHES
from kaleidobert.drawing.patterns import material
from kaleidobert.drawing.render import paint, place, zoom
from kaleidobert.drawing.scenes.figures import Layer, person, small_goods
from kaleidobert.drawing.scenes.surroundings import HELD_OUT, noise

PURPOSE = 1000  # of the generators: far from those of the catalogue's pictures
ROOM = 1.25  # scenes are drawn so much larger than asked, so that a window of them can be taken
LEAST, MOST = 0.02, 0.97  # of the picture: what a foreground may cover
NORMAL = special.ndtri((np.arange(256) + 0.5) / 256)  # quantiles: a random byte becomes a normal number
WORN = {"TOPS": "upper", "KNITWEAR": "upper", "OUTERWEAR": "upper", "TROUSERS": "lower", "DRESSES & SKIRTS": "both"}
GOODS = 0.08  # of the foregrounds of the training: small things that are no garment


@dataclass(frozen=True)
class Scene:
    """image uint8[size, size, 3]; mask bool[size, size]; what the background is."""

    image: np.ndarray
    mask: np.ndarray
    background: str


def scene(seed: int, index: int, size: int = 128, held_out: str = "catalogue", goods: bool = False) -> Scene:
    """One scene of the test, drawn in full: a product (goods: a small thing that is none) that nobody wears, before a
    background of surroundings.HELD_OUT. The same arguments give the same pixels."""
    rng, large = generator(seed, index, PURPOSE), round(size * ROOM)
    layer = _pixels(_foreground(seed, index, large, True, goods, rng))
    behind = Image.fromarray(np.clip(HELD_OUT[held_out](large, rng), 0, 255).astype(np.uint8))
    image, mask = finish(layer, behind, False, size, rng)
    return Scene(image, mask, held_out)


def split(seed: int, start: int, count: int, size: int, goods: bool = False) -> np.ndarray:
    """Scenes of the test, uint8[count, size, size, 4], 1 in the last channel where there is foreground; the families take turns."""
    names = list(HELD_OUT)
    made = [scene(seed, index, size, names[index % len(names)], goods) for index in range(start, start + count)]
    return np.stack([np.concatenate([one.image, one.mask[:, :, None].astype(np.uint8)], axis=2) for one in made])


def foregrounds(seed: int, start: int, count: int, size: int) -> np.ndarray:
    """What the training puts together anew at every step: uint8[count, s, s, 4], s = size * ROOM, colours times cover, and cover."""
    made = []
    for index in range(start, start + count):
        rng = generator(seed, index, PURPOSE)
        goods = rng.random() < GOODS
        made.append(_pixels(_foreground(seed, index, round(size * ROOM), False, goods, rng)))
    return np.stack(made)


def finish(layer: np.ndarray, behind: Image.Image, white: bool, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """What light, frame and camera make of a foreground before a background: image uint8[size, size, 3], mask bool[size, size].

    layer: uint8[s, s, 4], colours times cover, and cover; behind: RGB. white: a shop's white background.
    """
    cover = Image.fromarray(np.ascontiguousarray(layer[:, :, 3]))
    if rng.random() < (0.4 if white else 0.8):
        share = np.asarray(cover, np.float32)[:, :, None] / 255
        lit = 1 - rng.uniform(0.1, 1) * (1 - backgrounds.shadow(share, rng) * _contact(share, rng))
        behind = times(behind, Image.fromarray((255 * lit[:, :, 0] + 0.5).astype(np.uint8)))
    colour = Image.fromarray(np.ascontiguousarray(layer[:, :, :3]))
    image = ImageChops.add(colour, times(behind, ImageChops.invert(cover)))
    image, mask = _window(Image.merge("RGBX", (*image.split(), cover)), size, rng)  # X: it is not to weigh the colours
    return _camera(image, white, rng), mask


def times(image: Image.Image, share: Image.Image) -> Image.Image:
    """An RGB picture times a grey one, 255 = 1. Pillow takes a tenth of numpy's time for what the training does at every step."""
    return ImageChops.multiply(image, Image.merge("RGB", (share, share, share)))


def _pixels(layer: Layer) -> np.ndarray:
    return (np.concatenate([layer[0], 255 * layer[1]], axis=2) + 0.5).astype(np.uint8)


def _foreground(seed: int, index: int, size: int, alone: bool, goods: bool, rng: np.random.Generator) -> Layer:
    """A garment, a person who wears it, or a pair; goods: a small thing instead; alone: nobody wears it."""
    if goods:
        return _photographed(small_goods(size, rng), rng)
    lot = rng.random()
    product = design(seed, index)
    half = WORN.get(product.kind.category, "")
    worn = bool(half) and lot < 0.45 and not alone
    pair = not half and lot < 0.2
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


def _contact(cover: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The shadow on the ground under the lowest part of the product: how much light is left, float32[size, size, 1]."""
    size = cover.shape[0]
    rows = np.flatnonzero(cover.max((1, 2)) > 0.5)
    if not len(rows) or rng.random() < 0.5:
        return np.ones_like(cover)
    foot = rows[-1]
    columns = np.flatnonzero(cover[max(0, foot - size // 12):foot + 1, :, 0].max(0) > 0.5)
    middle, half = columns.mean(), max(2.0, 0.55 * (columns[-1] - columns[0]))
    place = np.arange(size, dtype=np.float32)
    across = np.exp(-(((place - middle) / half) ** 2))
    down = np.exp(-(((place - foot) / (size * rng.uniform(0.015, 0.07))) ** 2))
    return 1 - np.float32(rng.uniform(0.1, 0.7)) * (down[:, None] * across)[:, :, None]


def _window(image: Image.Image, size: int, rng: np.random.Generator) -> tuple[Image.Image, np.ndarray]:
    """The frame: the whole picture and its cover, or a window of them that cuts the product; any window becomes square."""
    large = image.width
    x, y, width, height = 0, 0, large, large
    if rng.random() < 0.4:
        width, height = (round(large * v) for v in rng.uniform(0.55, 1, 2))
        x, y = int(rng.integers(large - width + 1)), int(rng.integers(large - height + 1))
        if not LEAST <= (np.asarray(image.getchannel(3))[y:y + height, x:x + width] >= 128).mean() <= MOST:
            x, y, width, height = 0, 0, large, large
    *colours, cover = image.resize((size, size), Image.Resampling.BILINEAR, (x, y, x + width, y + height)).split()
    return Image.merge("RGB", colours), np.asarray(cover) >= 128


def _camera(image: Image.Image, white: bool, rng: np.random.Generator) -> np.ndarray:
    """Exposure, grain, blur and JPEG: uint8[h, w, 3]."""
    if not white:
        curve = 255 * (np.arange(256) / 255) ** rng.uniform(0.7, 1.5)
        image = image.point(np.clip(np.outer(rng.uniform(0.8, 1.1, 3), curve) + 0.5, 0, 255).astype(int).ravel().tolist())
    if rng.random() < 0.5:
        grain = (NORMAL * rng.uniform(0, 2 if white else 7)).astype(np.float32)
        noisy = np.asarray(image) + grain[rng.integers(0, 256, (image.height, image.width, 3), np.uint8)]
        image = Image.fromarray(np.clip(noisy + 0.5, 0, 255).astype(np.uint8))
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.9)))
    if rng.random() < 0.6:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(45, 96)))
        image = Image.open(buffer).convert("RGB")
    return np.asarray(image)
