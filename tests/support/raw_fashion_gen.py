"""Small files in exactly the layouts of the raw release of Fashion-Gen: HDF5 files, and extracted pictures beside info texts.

    write_h5(folder); write_extracted(folder)      # the same products in both

Products have one to four views, next to each other; the names of classes, the kinds of texts and the padding are the release's.
KEYCHAINS occurs in train only, GLOVES in validation only.
"""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

SIZE = 24  # 256 in the release
LENGTHS = {"input_name": 60, "input_description": 200, "input_pose": 16}  # of the padded texts; 40 for the others
CATEGORIES = {"JACKETS & COATS": 7, "JEANS": 11, "KEYCHAINS": 13, "GLOVES": 9}
SUBCATEGORIES = {"DENIM JACKETS": 39, "SLIM JEANS": 101, "KEYCHAINS": 64, "GLOVES": 52}
KINDS = {"train": ("JACKETS & COATS/DENIM JACKETS", "JEANS/SLIM JEANS", "KEYCHAINS/KEYCHAINS"),
         "validation": ("JACKETS & COATS/DENIM JACKETS", "JEANS/SLIM JEANS", "GLOVES/GLOVES")}
COLOURS = {"Black": (20, 20, 24), "Écru": (210, 200, 170), "Red": (200, 30, 40)}


@dataclass(frozen=True)
class Picture:
    """One row of the release."""

    product: int
    view: int
    name: str
    description: str
    category: str
    subcategory: str
    gender: str
    pixels: np.ndarray


def pictures(split: str, num_products: int) -> list[Picture]:
    """The pictures of ``train`` or ``validation``."""
    rows = []
    for number in range(num_products):
        category, subcategory = KINDS[split][number % 3].split("/")
        colour = list(COLOURS)[number % len(COLOURS)]
        product = 86605 + number * 7 + (split == "validation") * 100_000
        name = f"{colour} {subcategory.title()}"
        description = f'Piece number {number} in {colour.lower()}. Signature détail at 6.75" front, tonal stitching.'
        for view in range(1 + number % 4):
            pixels = np.full((SIZE, SIZE, 3), 245, np.uint8)
            pixels[3 + view : 20, 4 : 18 - view] = COLOURS[colour]
            pixels[8 : 10 + view, 6:12] = (number * 40 % 256, view * 60, 128)
            rows.append(Picture(product, view, name, description, category, subcategory, ("Men", "Women")[number % 2], pixels))
    return rows


def write_h5(folder: Path, train: int = 9, validation: int = 6, padding: bytes = b"\0") -> Path:
    """fashiongen_256_256_{train,validation}.h5; texts are filled up with ``padding``. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, number in (("train", train), ("validation", validation)):
        rows = pictures(split, number)
        texts = {"input_name": [row.name for row in rows], "input_description": [row.description for row in rows],
                 "input_category": [row.category for row in rows], "input_subcategory": [row.subcategory for row in rows],
                 "input_gender": [row.gender for row in rows], "input_pose": [f"id_gridfs_{row.view + 1}" for row in rows],
                 "input_brand": ["Nobody"] * len(rows), "input_composition": ["100% cotton."] * len(rows),
                 "input_department": ["CLOTHING"] * len(rows), "input_season": ["SS2017"] * len(rows),
                 "input_concat_description": [f"{row.name} {row.description}"[:40] for row in rows]}
        with h5py.File(folder / f"fashiongen_256_256_{split}.h5", "w") as file:
            file["index"] = np.arange(len(rows))[:, None]
            file["index_2"] = np.arange(len(rows))
            file["input_productID"] = np.array([[row.product] for row in rows], np.int32)
            file["input_msrpUSD"] = np.full((len(rows), 1), 99.0, np.float32)
            file.create_dataset("input_image", data=np.stack([row.pixels for row in rows]), compression="gzip")
            for key, values in texts.items():
                length = LENGTHS.get(key, 40)
                file[key] = np.array([[value.encode("latin-1").ljust(length, padding)] for value in values], f"S{length}")
    return folder


def write_extracted(folder: Path, train: int = 9, validation: int = 6) -> Path:
    """full_{train,valid}_info.txt and extracted_{train,valid}_images/PRODUCT_VIEW.png. Returns the folder."""
    for split, part, number in (("train", "train", train), ("validation", "valid", validation)):
        (folder / f"extracted_{part}_images").mkdir(parents=True, exist_ok=True)
        lines = []
        for row in pictures(split, number):
            name = f"{row.product}_{row.view}"
            Image.fromarray(row.pixels).save(folder / f"extracted_{part}_images/{name}.png")
            lines.append("\x01".join([str(row.product), name, row.category, str(CATEGORIES[row.category]), row.subcategory,
                                      str(SUBCATEGORIES[row.subcategory]), row.description]))
        (folder / f"full_{part}_info.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
