"""Scenes for the training of the foreground network: parts that were drawn once, put together anew every time.

    recompose(foregrounds, backgrounds, size, rng) -> (image, mask)
Three scenes of ten are a shop's (white or a plain backdrop); before all others the background is a mixture of drawn ones, with other
products cut by the frame beside the product.
"""

from typing import Protocol

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from kaleidobert.drawing.design import generator
from kaleidobert.drawing.scenes.clutter import CLUTTER
from kaleidobert.drawing.scenes.scenes import PURPOSE, ROOM, finish, times
from kaleidobert.drawing.scenes.surroundings import studio

SHOP = 0.3  # share of scenes before white or a plain backdrop
WHITE = 0.65  # of these, before white
BEHIND = PURPOSE + 1  # purpose of the generators of the backgrounds


class Stock(Protocol):
    """Pictures to choose from by their numbers."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> np.ndarray: ...


def backgrounds(seed: int, start: int, count: int, size: int) -> np.ndarray:
    """uint8[count, s, s, 3], s = size * ROOM: a background each, of the training's families."""
    made = []
    for index in range(start, start + count):
        rng = generator(seed, index, BEHIND)
        made.append(CLUTTER[int(rng.integers(len(CLUTTER)))](round(size * ROOM), rng))
    return np.clip(np.stack(made) + 0.5, 0, 255).astype(np.uint8)


def recompose(foregrounds: Stock, behind: Stock, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """image uint8[size, size, 3] and mask bool[size, size]; foregrounds uint8[s, s, 4] and backgrounds uint8[s, s, 3] to choose from."""
    layer = _recoloured(foregrounds[int(rng.integers(len(foregrounds)))], rng)
    plain = rng.random() < SHOP
    white = plain and rng.random() < WHITE
    if rng.random() < 0.5:
        layer = layer[:, ::-1]
    if white:
        back = Image.new("RGB", layer.shape[1::-1], (255 if rng.random() < 0.6 else int(rng.uniform(236, 255)),) * 3)
        if rng.random() < 0.3:  # white on white: only shading and edges tell
            faded = rng.uniform(0.4, 0.93)
            pale = layer[:, :, 3:] * np.array([253 / 255, 253 / 255, 253 / 255, 1], np.float32)
            layer = (layer + np.float32(faded) * (pale - layer) + 0.5).astype(np.uint8)
    elif plain:
        back = Image.fromarray(np.clip(studio(layer.shape[0], rng), 0, 255).astype(np.uint8))
    else:
        back = _mixture(foregrounds, behind, rng)
    return finish(layer, back, white, size, rng)


def _recoloured(layer: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8[s, s, 4], now and then in other colours."""
    if rng.random() < 0.5:
        return layer
    *colours, cover = Image.fromarray(layer, "RGBX").split()
    colour = ImageChops.darker(_tinted(Image.merge("RGB", colours), 0.0, rng), Image.merge("RGB", (cover, cover, cover)))
    return np.asarray(Image.merge("RGBX", (*colour.split(), cover)))


def _tinted(image: Image.Image, lift: float, rng: np.random.Generator) -> Image.Image:
    """Channels swapped, paler or stronger, brighter or darker; lift: most that is added to all colours or taken away."""
    swapped = np.eye(3)[rng.permutation(3) if rng.random() < 0.6 else [0, 1, 2]]
    vivid = rng.uniform(0.3, 1.3)
    matrix = (vivid * swapped + (1 - vivid) / 3) * rng.uniform(0.75, 1.2, (3, 1))
    return image.convert("RGB", np.column_stack([matrix, np.full(3, rng.uniform(-lift, lift))]).ravel().tolist())


def _mixture(foregrounds: Stock, behind: Stock, rng: np.random.Generator) -> Image.Image:
    """One or two drawn backgrounds, with or without other products cut by the frame, sharp or not."""
    image = _piece(behind, rng)
    if rng.random() < 0.4:
        image = Image.composite(_piece(behind, rng), image, _share(behind, image.width, rng))
    if rng.random() < 0.3:
        image = _beside(foregrounds, image, rng)
    if rng.random() < 0.2:
        image = image.filter(ImageFilter.BoxBlur(rng.uniform(0.5, 4) * image.width / 200))
    return image


def _piece(behind: Stock, rng: np.random.Generator) -> Image.Image:
    """A window of a drawn background in any of the eight positions, recoloured or not."""
    image = Image.fromarray(behind[int(rng.integers(len(behind)))])
    size = image.width
    if rng.random() < 0.6:
        side = round(size * rng.uniform(0.45, 1))
        x, y = rng.integers(size - side + 1, size=2).tolist()
        image = image.resize((size, size), Image.Resampling.BILINEAR, (x, y, x + side, y + side))
    position = int(rng.integers(8))
    if position < 7:  # of Pillow's seven; the eighth is as it was
        image = image.transpose(Image.Transpose(position))
    return _tinted(image, 30, rng) if rng.random() < 0.5 else image


def _share(behind: Stock, size: int, rng: np.random.Generator) -> Image.Image:
    """Where one background gives way to another, as grey levels: beyond a line, or where a third one is light."""
    most = rng.uniform(100, 255)
    if rng.random() < 0.4:
        angle, place = rng.uniform(0, 2 * np.pi), np.linspace(-0.5, 0.5, size, dtype=np.float32)
        level = (place * np.cos(angle))[:, None] + (place * np.sin(angle) - rng.uniform(-0.35, 0.35))[None]
        return Image.fromarray((most * np.clip(0.5 + level * rng.choice([3.0, 20.0, 200.0]), 0, 1)).astype(np.uint8))
    third = Image.fromarray(behind[int(rng.integers(len(behind)))]).getchannel(int(rng.integers(3)))
    away = np.arange(256) - np.asarray(third).mean()
    return third.point((most * np.clip(0.5 + away * rng.choice([0.01, 0.05, 1.0]), 0, 1)).astype(int).tolist())


def _beside(foregrounds: Stock, image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Other products, smaller, turned, and cut by the frame."""
    size = image.width
    for _ in range(int(rng.integers(1, 4))):
        layer = _recoloured(foregrounds[int(rng.integers(len(foregrounds)))], rng)
        turned = Image.fromarray(np.ascontiguousarray(np.rot90(layer, int(rng.integers(4)))), "RGBX")
        box = turned.getchannel(3).point(lambda v: 255 * (v > 127)).getbbox()
        if box is None:
            continue
        # the middle lies about on the frame, anywhere along it
        side = rng.uniform(0.3, 0.8)
        wide, high = max(2, round(side * (box[2] - box[0]))), max(2, round(side * (box[3] - box[1])))
        small = turned.resize((wide, high), Image.Resampling.BILINEAR, box)
        along, end = rng.uniform(0, 1), float(rng.choice([0.0, 1.0]))
        x, y = (along, end) if rng.random() < 0.5 else (end, along)
        moved = Image.new("RGBX", (size, size))
        moved.paste(small, (round(x * size - wide * rng.uniform(0.35, 0.65)), round(y * size - high * rng.uniform(0.35, 0.65))))
        *colours, cover = moved.split()
        image = ImageChops.add(Image.merge("RGB", colours), times(image, ImageChops.invert(cover)))
    return image
