"""captions.png of ``kaleidobert caption``: a dozen pictures with what was written, what stands in the catalogue, and the nearest text."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from kaleidobert import io
from kaleidobert.app_zoo.inspect.pages_png import INK, Sheet
from kaleidobert.app_zoo.inspect.pictures import GREEN, GREY
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.products import read_image
from kaleidobert.errors import UserError

COUNT, COLUMNS = 12, 2
SIDE, TEXT, PAD = 200, 460, 28  # pixels: longer side of a picture, width of the text beside it, margin
MOST = 230  # letters of a text
LABELS = {"captions": "written", "reference": "catalogue", "nearest_picture": "nearest picture"}


def draw(path: Path, bank: Bank, rows: np.ndarray, captions: Mapping[str, Sequence[str]], references: Sequence[Sequence[str]]) -> str:
    """Write the picture of (at most) a dozen of the rows, evenly spread; "", or where a picture is not at hand why none was drawn."""
    chosen = np.unique(np.linspace(0, len(rows) - 1, COUNT).round().astype(int))
    try:
        images = [read_image(bank.table[rows[number]]["image_path"]) for number in chosen]
    except UserError as error:
        return f"no captions.png ({error})"
    sheet = Sheet(COLUMNS * (SIDE + TEXT + 3 * PAD))
    y = PAD
    for first in range(0, len(chosen), COLUMNS):
        below = [y + SIDE]
        for column, (number, image) in enumerate(zip(chosen[first : first + COLUMNS], images[first : first + COLUMNS])):
            x = PAD + column * (SIDE + TEXT + 3 * PAD)
            texts = {"captions": captions["captions"][number], "reference": references[number][0]}
            texts |= {name: captions[name][number] for name in LABELS if name in captions}
            below.append(_card(sheet, (x, y), image, bank.table[rows[number]]["image_id"], texts))
        y = max(below) + PAD
    with io.atomic(path) as file:
        sheet.fit(y).save(file, "PNG")
    return ""


def _card(sheet: Sheet, at: tuple[int, int], pixels: np.ndarray, name: str, texts: Mapping[str, str]) -> int:
    """A picture with its texts on the right; returns the y below."""
    (x, y), image = at, ImageOps.contain(Image.fromarray(pixels), (SIDE, SIDE), Image.Resampling.LANCZOS)
    sheet.need(y + SIDE + PAD)
    sheet.image.paste(image, (x + (SIDE - image.width) // 2, y))
    x += SIDE + PAD
    y = sheet.text((x, y), name, TEXT, 13, fill=GREY)
    for key, label in LABELS.items():
        if key in texts:
            text = texts[key] if len(texts[key]) <= MOST else f"{texts[key][: MOST - 1]}…"
            y = sheet.text((x, y + 6), label, TEXT, 12, fill=GREY)
            y = sheet.text((x, y), text, TEXT, 17, bold=key == "captions", fill=GREEN if key == "captions" else INK)
    return y
