"""The pictures on a page of ``kaleidobert inspect``, drawn with Pillow: foreground, described parts, grids of patches, the donor's patch,
heat maps of words, lines from words to patches.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from kaleidobert.evaluators.report.sheets import font
from kaleidobert.preprocessors import alignment_generator, patch_generator

BLUE, ORANGE, GREEN, GREY, LINE = "#0072B2", "#D55E00", "#00795A", "#5F6B7A", "#D5DAE1"  # colour-blind readers can distinguish them
COLOURS = (BLUE, ORANGE, GREEN, "#A0417F", "#7A6200", "#3B3B98", "#9C2F2F", "#00707A", "#6B4E9B", "#4F6B1E")  # of words
PART_COLOURS = COLOURS[:6]
SIDE, WHOLE, DONOR = 340, 440, 220  # longer sides in pixels: of a grid of patches, of a picture, of the picture of a donor
MAX_ASPECT = 4.0  # a belt of 20:1 would leave patches of a line's height: it is shown less wide
GAP = 5  # pixels between patches
HEAT = np.array([(255, 255, 255), (254, 217, 142), (254, 153, 41), (217, 95, 14), (153, 52, 4)], np.float32)  # from cold to hot
LETTERS = 17  # pixels
ROW = 30  # pixels of a word in the column of words


def foreground(image: np.ndarray, box: Sequence[int], mask: np.ndarray | None, side: int = WHOLE) -> Image.Image:
    """Draws the foreground's box on uint8[h, w, 3] and fades the background: all outside of bool[h, w] ``mask``, without one of the box."""
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


def described_parts(image: np.ndarray, parts: Sequence[Mapping]) -> Image.Image:
    """Draws a box with its word on uint8[h, w, 3] for every part {"word", "box"}."""
    picture, scale = _scaled(image, WHOLE)
    brush = ImageDraw.Draw(picture)
    taken: list = []
    boxes = [[round(value * scale) for value in part["box"]] for part in parts]
    for number, box in enumerate(boxes):
        _frame(brush, box, PART_COLOURS[number % len(PART_COLOURS)], 3)
    for number, (part, box) in enumerate(zip(parts, boxes)):
        taken.append(_label(brush, str(part["word"]), box, PART_COLOURS[number % len(PART_COLOURS)], taken, picture.size))
    return picture


def donor_patch(image: np.ndarray, box: Sequence[int], tile: Sequence[int]) -> Image.Image:
    """Draws the foreground's box and the patch that it gives on the donor's picture, uint8[h, w, 3]."""
    picture, scale = _scaled(image, DONOR)
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
    """Returns (width, height) in pixels of one patch of a ``grid x grid`` whose width is ``aspect`` times its height."""
    aspect = min(max(aspect, 1 / MAX_ASPECT), MAX_ASPECT)
    whole = (SIDE, SIDE / aspect) if aspect >= 1 else (SIDE * aspect, SIDE)
    width, height = (max(4, round((length - GAP * (grid - 1)) / grid)) for length in whole)
    return width, height


def patch_grid(cells: Sequence[np.ndarray] | np.ndarray, grid: int, cell: tuple[int, int], marked: Collection[int] = (),
               blank: Collection[int] = (), names: Mapping[int, str] | None = None) -> Image.Image:
    """Draws a level's patches as they lie in the picture.

    cells: uint8[s, s, 3], one per slot, each stretched to ``cell``, (width, height). marked: slots with a frame; blank: slots with hatching
    instead of pixels; names: {slot: text in its corner}.
    """
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


@dataclass(frozen=True)
class WordLinks:
    """A word of the text and the strengths f[n] of its links to the patches of one level; number: its rank among the linked words, which
    decides its colour."""

    text: str
    number: int
    strengths: np.ndarray


def colour(number: int) -> str:
    """Returns the colour of the number-th word, the same in every picture of a page."""
    return COLOURS[number % len(COLOURS)]


def heat_map(image: np.ndarray, box: Sequence[int], attention: np.ndarray, threshold: float, side: int = 190) -> Image.Image:
    """Draws a map f[G, G] over the box of uint8[h, w, 3], hot where the word is seen, and an outline of the region that is linked:
    where the map reaches ``threshold`` of its maximum."""
    picture = crop(image, box, side)
    fine = alignment_generator.refine(np.asarray(attention, np.float32)[None])[0]
    fine = fine / max(float(fine.max()), 1e-12)
    shown = np.asarray(Image.fromarray(fine).resize(picture.size, Image.Resampling.BILINEAR)).clip(0, 1)[..., None]
    step = shown * (len(HEAT) - 1)
    low = np.floor(step).astype(int).clip(0, len(HEAT) - 2)[..., 0]
    warm = HEAT[low] + (step - low[..., None]) * (HEAT[low + 1] - HEAT[low])
    grey = np.asarray(picture.convert("L"), np.float32)[..., None]
    opacity = 0.25 + 0.45 * shown
    pixels = (1 - opacity) * grey + opacity * warm
    region = np.asarray(Image.fromarray(fine).resize(picture.size, Image.Resampling.NEAREST)) >= threshold
    pixels[ndimage.binary_dilation(region, iterations=2) & ~region] = (29, 37, 48)
    return Image.fromarray(pixels.round().astype(np.uint8))


def link_lines(image: np.ndarray, box: Sequence[int], grid: int, words: Sequence[WordLinks], side: int = 330) -> Image.Image:
    """Draws the words in a column, beside it the box of uint8[h, w, 3] cut into grid x grid, and a line from each word to the middle of
    each of its patches; a stronger link has a thicker line."""
    photo, letters = crop(image, box, side), font(LETTERS)
    column = 40 + max([round(letters.getlength(word.text)) for word in words], default=60)
    height = max(photo.height, ROW * len(words))
    picture = Image.new("RGB", (column + 60 + photo.width, height), "white")
    top, left = (height - photo.height) // 2, column + 60
    faded = np.asarray(photo, np.float32) * 0.7 + 255 * 0.3
    picture.paste(Image.fromarray(faded.round().astype(np.uint8)), (left, top))
    brush = ImageDraw.Draw(picture)
    tiles = patch_generator.tiles((left, top, left + photo.width, top + photo.height), grid)
    for x1, y1, x2, y2 in tiles.tolist():
        brush.rectangle((x1, y1, x2 - 1, y2 - 1), outline=LINE)
    owners: dict[int, int] = {}
    for word in words:  # frames first, so that no frame hides a line; those of one patch stand inside one another
        for patch in np.flatnonzero(word.strengths).tolist():
            inset = 4 * owners.get(patch, 0)
            owners[patch] = owners.get(patch, 0) + 1
            x1, y1, x2, y2 = tiles[patch].tolist()
            if min(x2 - x1, y2 - y1) > 2 * inset + 6:
                brush.rectangle((x1 + inset, y1 + inset, x2 - 1 - inset, y2 - 1 - inset), outline=colour(word.number), width=3)
    first = (height - ROW * len(words)) // 2 + ROW // 2
    best = max([float(word.strengths.max(initial=0)) for word in words], default=0)
    for number, word in enumerate(words):
        y, ink = first + number * ROW, colour(word.number)
        for patch in np.flatnonzero(word.strengths).tolist():
            x1, y1, x2, y2 = tiles[patch].tolist()
            middle = ((x1 + x2) // 2, (y1 + y2) // 2)
            width = 1 + round(3 * float(word.strengths[patch]) / best)
            brush.line((column, y, *middle), fill="white", width=width + 2)
            brush.line((column, y, *middle), fill=ink, width=width)
            brush.ellipse((middle[0] - 5, middle[1] - 5, middle[0] + 5, middle[1] + 5), fill=ink, outline="white")
        brush.rounded_rectangle((2, y - 13, column, y + 13), 7, fill=ink)
        brush.text((column - 14, y), word.text, font=letters, fill="white", anchor="rm")
    if not words:
        brush.text((2, height // 2), "no links", font=letters, fill=GREY, anchor="lm")
    return picture


def crop(image: np.ndarray, box: Sequence[int], side: int) -> Image.Image:
    """Returns the box of uint8[h, w, 3], its longer side ``side`` pixels."""
    x1, y1, x2, y2 = box
    scale = side / max(x2 - x1, y2 - y1)
    size = max(12, round((x2 - x1) * scale)), max(12, round((y2 - y1) * scale))
    return Image.fromarray(image[y1:y2, x1:x2]).resize(size, Image.Resampling.LANCZOS)


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
    """Draws a frame with a white line inside, so that it shows on every garment."""
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
    """Writes a part's word at the first of the box's corners where no other word stands; returns the word's box."""
    letters = font(17)
    width, height = brush.textlength(text, font=letters) + 0.7 * letters.size, 1.35 * letters.size
    x1, y1, x2, y2 = box
    corners = [(x1, y1), (x2 - width, y2 - height), (x2 - width, y1), (x1, y2 - height), (x1, y1 - height), (x1, y2),
               (x1, (y1 + y2) / 2)]
    options = []
    for x, y in corners:
        x, y = min(max(0, x), max(0, size[0] - width)), min(max(0, y), max(0, size[1] - height))
        options.append((x, y, x + width, y + height))
    free = [option for option in options if not any(_overlap(option, other) for other in taken)]
    best = (free or options)[0]
    _pill(brush, (round(best[0]), round(best[1])), text, letters, colour)
    return best


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
