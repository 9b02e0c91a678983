"""The pictures on a page of ``kaleidobert inspect``, drawn with Pillow: foreground, parts, grids of patches, the lent patch."""

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

BLUE, ORANGE, GREEN, GREY, LINE = "#0072B2", "#D55E00", "#00795A", "#5F6B7A", "#D5DAE1"  # told apart by colour-blind readers
PARTS = (BLUE, ORANGE, GREEN, "#A0417F", "#7A6200", "#3B3B98")
SIDE = 340  # longer side of a grid of patches, in pixels
WIDEST = 4.0  # a belt of 20:1 would leave patches of a line's height: shown at most so wide or so tall
GAP = 5


@lru_cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib: the same letters on every machine."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf" / f"DejaVuSans{'-Bold' if bold else ''}.ttf", size)


def foreground(image: np.ndarray, box: Sequence[int], mask: np.ndarray | None, side: int = 440) -> Image.Image:
    """uint8[h, w, 3] with its foreground's box; the background is faded: outside of bool[h, w] ``mask``, else of the box."""
    picture, scale = _scaled(image, side)
    inside = np.zeros((picture.height, picture.width), bool)
    x1, y1, x2, y2 = corners = [round(value * scale) for value in box]
    inside[y1:y2, x1:x2] = True
    if mask is not None:
        inside = np.asarray(Image.fromarray(mask).resize(picture.size, Image.Resampling.NEAREST))
    pixels = np.asarray(picture).astype(np.float32)
    pixels = np.where(inside[..., None], pixels, 0.4 * pixels + 0.6 * 255)
    if mask is not None:
        outline = ndimage.binary_dilation(inside, iterations=3) & ~inside
        pixels[outline] = np.array([0, 0x79, 0x5A])
    picture = Image.fromarray(pixels.round().astype(np.uint8))
    _frame(ImageDraw.Draw(picture), corners, BLUE, 4)
    return picture


def described_parts(image: np.ndarray, parts: Sequence[Mapping], side: int = 440) -> Image.Image:
    """uint8[h, w, 3] with a box and its word for every part {"word", "box"}."""
    picture, scale = _scaled(image, side)
    brush = ImageDraw.Draw(picture)
    taken: list = []
    boxes = [[round(value * scale) for value in part["box"]] for part in parts]
    for number, box in enumerate(boxes):
        _frame(brush, box, PARTS[number % len(PARTS)], 3)
    for number, (part, box) in enumerate(zip(parts, boxes)):
        taken.append(_label(brush, str(part["word"]), box, PARTS[number % len(PARTS)], taken, picture.size))
    return picture


def lent_patch(image: np.ndarray, box: Sequence[int], tile: Sequence[int], side: int = 220) -> Image.Image:
    """The donor, uint8[h, w, 3], with the box of its foreground and the patch that it lends."""
    picture, scale = _scaled(image, side)
    x1, y1, x2, y2 = corners = [round(value * scale) for value in tile]
    pixels = np.asarray(picture).astype(np.float32)
    faded = 0.55 * pixels + 0.45 * 255
    faded[y1:y2, x1:x2] = pixels[y1:y2, x1:x2]
    picture = Image.fromarray(faded.round().astype(np.uint8))
    brush = ImageDraw.Draw(picture)
    _frame(brush, [round(value * scale) for value in box], BLUE, 2)
    _frame(brush, corners, ORANGE, 4)
    return picture


def cell_size(grid: int, aspect: float) -> tuple[int, int]:
    """(width, height) in pixels of one patch of a ``grid x grid`` whose width is ``aspect`` times its height."""
    aspect = min(max(aspect, 1 / WIDEST), WIDEST)
    whole = (SIDE, SIDE / aspect) if aspect >= 1 else (SIDE * aspect, SIDE)
    width, height = (max(4, round((length - GAP * (grid - 1)) / grid)) for length in whole)
    return width, height


def patch_grid(cells: Sequence[np.ndarray] | np.ndarray, grid: int, cell: tuple[int, int], marked: Collection[int] = (),
               blank: Collection[int] = (), names: Mapping[int, str] | None = None) -> Image.Image:
    """cells: uint8[s, s, 3], one per slot, each stretched to ``cell``. marked: slots with a frame; blank: slots with hatching
    instead of pixels; names: what stands in a slot's corner."""
    width, height = cell
    picture = Image.new("RGB", (grid * width + GAP * (grid - 1), grid * height + GAP * (grid - 1)), "white")
    brush = ImageDraw.Draw(picture)
    for slot, pixels in enumerate(cells):
        x, y = slot % grid * (width + GAP), slot // grid * (height + GAP)
        if slot in blank:
            picture.paste(_hatching(width, height), (x, y))
        else:
            picture.paste(Image.fromarray(pixels).resize(cell, Image.Resampling.LANCZOS), (x, y))
        frame, width_of_frame, ground = (ORANGE, 4, ORANGE) if slot in marked else (LINE, 1, "#3A4450")
        _rectangle(brush, (x, y, x + width, y + height), frame, width_of_frame)
        if names and slot in names:
            _pill(brush, (x + 5, y + 5), names[slot], font(max(11, min(20, min(cell) // 4))), ground)
    return picture


def _scaled(image: np.ndarray, side: int) -> tuple[Image.Image, float]:
    height, width = image.shape[:2]
    scale = side / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return Image.fromarray(image).resize(size, Image.Resampling.LANCZOS), scale


def _hatching(width: int, height: int) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    stripes = ((x + y) // 5 % 2).astype(bool)
    return Image.fromarray(np.where(stripes[..., None], np.array([226, 230, 236]), np.array([246, 248, 250])).astype(np.uint8))


def _rectangle(brush: ImageDraw.ImageDraw, box: Sequence[int], colour: str, width: int) -> None:
    """Pillow's corners are inclusive, ours are not."""
    brush.rectangle((box[0], box[1], max(box[0], box[2] - 1), max(box[1], box[3] - 1)), outline=colour, width=width)


def _frame(brush: ImageDraw.ImageDraw, box: Sequence[int], colour: str, width: int) -> None:
    """A frame with a white line inside, so that it shows on every garment."""
    _rectangle(brush, box, "white", width + 2)
    _rectangle(brush, box, colour, width)


def _pill(brush: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, letters: ImageFont.FreeTypeFont, colour: str) -> None:
    size = letters.size
    width = brush.textlength(text, font=letters)
    x, y = corner
    brush.rounded_rectangle((x, y, x + width + 0.7 * size, y + 1.35 * size), 0.4 * size, fill=colour)
    brush.text((x + 0.35 * size, y + 0.68 * size), text, font=letters, fill="white", anchor="lm")


def _label(brush: ImageDraw.ImageDraw, text: str, box: Sequence[int], colour: str, taken: Sequence[Sequence[float]],
           size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Write a part's word at the first of the box's corners where no other word stands; returns where it stands."""
    letters = font(17)
    width, height = brush.textlength(text, font=letters) + 0.7 * letters.size, 1.35 * letters.size
    x1, y1, x2, y2 = box
    corners = [(x1, y1), (x2 - width, y2 - height), (x2 - width, y1), (x1, y2 - height), (x1, y1 - height), (x1, y2),
               (x1, (y1 + y2) / 2)]
    places = []
    for x, y in corners:
        x, y = min(max(0, x), max(0, size[0] - width)), min(max(0, y), max(0, size[1] - height))
        places.append((x, y, x + width, y + height))
    free = [place for place in places if not any(_overlap(place, other) for other in taken)]
    best = (free or places)[0]
    _pill(brush, (round(best[0]), round(best[1])), text, letters, colour)
    return best


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
