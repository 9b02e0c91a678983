"""A catalogue of a few drawn products and its bank, made in a second: pictures with masks and part boxes, two categories of
two subcategories each, short texts, two splits, two views of every third product.

    bank = tiny_bank(tmp_path)            # bank.folder is what a configuration's data.bank names
    bank = tiny_bank(tmp_path, tables.TWO)
"""

import json
from pathlib import Path

from PIL import Image, ImageDraw

from kaleidobert import configs
from kaleidobert.datasets.bank import builder
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sources import reading
from kaleidobert.datasets.sources.table import TableSource
from kaleidobert.levels import KALEIDO, KaleidoLevel
from kaleidobert.preprocessors import encoders

COLUMNS = configs.Columns(id="id", image="image", text=("text",), view=("view",), split="split", mask="mask", parts="parts",
                          labels={"category": "category", "subcategory": "subcategory", "colour": "colour"})
KINDS = (("bags", "tote", "handle"), ("bags", "clutch", "clasp"), ("tops", "shirt", "collar"), ("tops", "vest", "hem"))
COLOURS = {"red": (190, 40, 45), "navy": (30, 40, 95), "green": (40, 120, 70), "brown": (110, 75, 45), "purple": (110, 50, 130)}
DETAILS = ("with stripes", "in soft cotton", "for long summer days", "with a printed front and a small pocket", "made of linen",
           "for the office", "with golden dots")
WIDTH, HEIGHT, BACKGROUND = 40, 52, (244, 244, 244)
BODIES = {"tote": (8, 20, 32, 46), "clutch": (5, 20, 35, 38), "shirt": (6, 8, 34, 44), "vest": (11, 6, 29, 47)}  # x1, y1, x2, y2


def tiny_bank(folder: Path, levels: tuple[KaleidoLevel, ...] = KALEIDO, num_products: int = 24, text_length: int = 16) -> Bank:
    """The opened bank of a tiny catalogue; writes folder/catalogue and folder/bank."""
    return make_bank(folder / "bank", tiny_catalogue(folder / "catalogue", num_products), levels, text_length)


def tiny_catalogue(folder: Path, num_products: int = 24) -> configs.Source:
    """Pictures, masks and table.jsonl; at least 12 products, so that there is a validation split."""
    folder.mkdir(parents=True)
    rows = []
    for number in range(num_products):
        (category, subcategory, _), colour = KINDS[number % len(KINDS)], list(COLOURS)[number % len(COLOURS)]
        for view in ("front", "back")[: 2 if number % 3 == 0 else 1]:
            name = f"p{number:02d}-{view}"
            parts = draw(folder / f"{name}.png", folder / f"{name}-mask.png", number, view)
            rows.append({"id": f"p{number:02d}", "view": view, "image": f"{name}.png", "mask": f"{name}-mask.png",
                         "text": f"{colour} {subcategory} {DETAILS[number % len(DETAILS)]}", "category": category,
                         "subcategory": subcategory, "colour": colour, "parts": parts,
                         "split": "val" if number // len(KINDS) % 3 == 2 else "train"})
    (folder / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return TableSource(folder / "table.jsonl", COLUMNS)


def make_bank(folder: Path, source: configs.Source, levels: tuple[KaleidoLevel, ...] = KALEIDO, text_length: int = 16,
              turned: str = "squash") -> Bank:
    """The opened bank of a catalogue, with the pixels encoder (F = 192)."""
    config = configs.RecordsConfig(folder, source, configs.Foreground("border"), encoder=configs.Encoder("pixels", 8, turned=turned),
                                   levels=levels, text=configs.Text(length=text_length), workers=1)
    products, skipped = reading.read(source)
    mark = builder.claim(config, products)
    for _ in builder.build_shards(config, products, encoders.build):
        pass
    builder.finish(config, products, skipped, mark)
    return Bank(folder)


def draw(picture: Path, mask: Path, number: int, view: str) -> list[dict]:
    """Draw one product and its mask; returns its described parts as the catalogue has them."""
    (_, subcategory, part), colour = KINDS[number % len(KINDS)], list(COLOURS.values())[number % len(COLOURS)]
    x1, y1, x2, y2 = body = BODIES[subcategory]
    image, shape = Image.new("RGB", (WIDTH, HEIGHT), BACKGROUND), Image.new("L", (WIDTH, HEIGHT), 0)
    detail = {"handle": (14, 8, 26, 20), "clasp": (18, 18, 23, 24), "collar": (15, 5, 25, 12), "hem": (11, 42, 29, 47)}[part]
    for canvas, fill in ((image, colour), (shape, 255)):
        brush = ImageDraw.Draw(canvas)
        brush.rectangle((x1, y1, x2 - 1, y2 - 1), fill)
        brush.rectangle((detail[0], detail[1], detail[2] - 1, detail[3] - 1), fill)
    brush, bright = ImageDraw.Draw(image), tuple(min(255, value + 70) for value in colour)
    brush.rectangle((detail[0], detail[1], detail[2] - 1, detail[3] - 1), bright)
    for line in range(y1 + 2 + number % 5, y2 - 1, 4 + number % 3):
        if view == "front":
            brush.line((x1 + 1, line, x2 - 2, line), bright)
    brush.rectangle((x1, y2 - 4, x1 + 4 + number % 7, y2 - 1), (250, 210, 60))  # no picture looks the same turned or mirrored
    image.save(picture)
    shape.save(mask)
    return [{"word": subcategory, "box": list(body)}, {"word": part, "box": list(detail)}]
