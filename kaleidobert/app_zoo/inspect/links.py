"""Pictures of an alignment on a page of ``kaleidobert inspect``: heat maps of words, and lines from words to patches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from kaleidobert.app_zoo.inspect.pictures import BLUE, GREEN, GREY, LINE, ORANGE, font
from kaleidobert.preprocessors import alignment_generator, patch_generator

COLOURS = (BLUE, ORANGE, GREEN, "#A0417F", "#7A6200", "#3B3B98", "#9C2F2F", "#00707A", "#6B4E9B", "#4F6B1E")
HEAT = np.array([(255, 255, 255), (254, 217, 142), (254, 153, 41), (217, 95, 14), (153, 52, 4)], np.float32)  # from cold to hot
LETTERS = 17  # pixels
ROW = 30  # pixels of a word in the column of words


@dataclass(frozen=True)
class Linked:
    """A word of the text and its strengths [n] to the patches of one level; number: its place among the words, for its colour."""

    text: str
    number: int
    strengths: np.ndarray


def colour(number: int) -> str:
    """The colour of the number-th word, the same in every picture of a page."""
    return COLOURS[number % len(COLOURS)]


def heat(image: np.ndarray, box: Sequence[int], attention: np.ndarray, threshold: float, side: int = 190) -> Image.Image:
    """The box of uint8[h, w, 3] under a map f[G, G], hot where the captioner looked; outlined: the region that is linked."""
    picture = crop(image, box, side)
    fine = alignment_generator.refine(np.asarray(attention, np.float32)[None])[0]
    fine = fine / max(float(fine.max()), 1e-12)
    shown = np.asarray(Image.fromarray(fine).resize(picture.size, Image.Resampling.BILINEAR)).clip(0, 1)[..., None]
    step = shown * (len(HEAT) - 1)
    low = np.floor(step).astype(int).clip(0, len(HEAT) - 2)[..., 0]
    warm = HEAT[low] + (step - low[..., None]) * (HEAT[low + 1] - HEAT[low])
    grey = np.asarray(picture.convert("L"), np.float32)[..., None]
    share = 0.25 + 0.45 * shown
    pixels = (1 - share) * grey + share * warm
    region = np.asarray(Image.fromarray(fine).resize(picture.size, Image.Resampling.NEAREST)) >= threshold
    pixels[ndimage.binary_dilation(region, iterations=2) & ~region] = (29, 37, 48)
    return Image.fromarray(pixels.round().astype(np.uint8))


def lines(image: np.ndarray, box: Sequence[int], grid: int, words: Sequence[Linked], side: int = 330) -> Image.Image:
    """The words in a column, the box of uint8[h, w, 3] cut into grid x grid beside it, and a line from each word to the middle
    of each of its patches; the stronger, the thicker."""
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
    for place, word in enumerate(words):
        y, ink = first + place * ROW, colour(word.number)
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
    """The box of uint8[h, w, 3], its longer side ``side`` pixels."""
    x1, y1, x2, y2 = box
    scale = side / max(x2 - x1, y2 - y1)
    size = max(12, round((x2 - x1) * scale)), max(12, round((y2 - y1) * scale))
    return Image.fromarray(image[y1:y2, x1:x2]).resize(size, Image.Resampling.LANCZOS)
