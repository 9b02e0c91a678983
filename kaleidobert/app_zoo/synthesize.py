"""``kaleidobert synthesize``: draw a catalogue with known masks and part boxes."""

import io
import os

import numpy as np
from PIL import Image
from tqdm import tqdm

from kaleidobert import io as files
from kaleidobert.configs import SynthesizeConfig
from kaleidobert.datasets.products import read_image
from kaleidobert.datasets.sources.reading import jsonl_rows
from kaleidobert.drawing import catalogue

SHEET = (6, 10)  # rows and columns of the contact sheet
BYTES_PER_PIXEL = 0.45  # picture and mask, measured on drawn catalogues


def dry_run(config: SynthesizeConfig) -> None:
    """Checks the folder, prints sizes."""
    files.check_unlocked(config.catalogue)
    files.check_folder(config.catalogue)
    pictures = config.num_products * config.views
    print(f"{pictures:,} pictures of {config.size} x {config.size} in {config.catalogue}, about "
          f"{pictures * config.size**2 * BYTES_PER_PIXEL / 1e6:.0f} MB")


def run(config: SynthesizeConfig) -> None:
    """Draws the catalogue and a contact sheet; an interrupted run continues where it stopped."""
    with tqdm(unit="picture", desc="synthesize") as bar:
        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        counts = catalogue.write_catalogue(config.catalogue, config.num_products, config.seed, config.size, config.views,
                                           config.clutter, config.val_fraction, config.workers or os.cpu_count() or 1, progress)
    table = config.catalogue / "products.jsonl"
    sheet = config.catalogue / "sheet.png"
    with files.atomic(sheet) as file:
        file.write(contact_sheet(config))
    print(f"catalogue: {table}: {counts['products']:,} products ({counts['train']:,} train, {counts['val']:,} val), "
          f"{counts['pictures']:,} pictures, {counts['categories']} categories, {counts['subcategories']} subcategories\n"
          f"  pictures: {sheet}")


def contact_sheet(config: SynthesizeConfig) -> bytes:
    """Returns a PNG with the first views of the first products."""
    side = 96
    sheet = np.full((SHEET[0] * side, SHEET[1] * side, 3), 255, np.uint8)
    firsts = [row for _, row in jsonl_rows(config.catalogue / "products.jsonl") if row["view"] == catalogue.VIEWS[0]]
    for position, row in enumerate(firsts[: SHEET[0] * SHEET[1]]):
        picture = Image.fromarray(read_image(config.catalogue / row["image"])).resize((side, side), Image.Resampling.LANCZOS)
        y, x = divmod(position, SHEET[1])
        sheet[y * side : (y + 1) * side, x * side : (x + 1) * side] = np.asarray(picture)
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "PNG")
    return buffer.getvalue()
