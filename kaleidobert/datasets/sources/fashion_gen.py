"""The raw release of Fashion-Gen: its HDF5 files, or the extracted pictures beside their info texts.

    fashiongen_256_256_train.h5, fashiongen_256_256_validation.h5     one row of every array per picture:
        input_image uint8[N, h, w, 3]; input_productID int or bytes [N, 1]; texts as latin-1 bytes of a fixed length [N, 1]:
        input_name, input_description, input_category, input_subcategory, input_pose, input_gender, input_brand, ...
    full_train_info.txt, full_valid_info.txt     one line per picture, fields of INFO joined by \\x01
    extracted_train_images/, extracted_valid_images/     IMAGE_ID.png, for example 86605_0.png

Beside the release's own columns every row has ``split``; a row of the info texts also has ``image`` and ``view`` (the end of the
picture's id behind the product's).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np

from kaleidobert.configs import Source, section
from kaleidobert.errors import UserError

Row = tuple[str, dict[str, Any]]
H5_SPLITS = {"train": "fashiongen_256_256_train.h5", "val": "fashiongen_256_256_validation.h5"}
INFO_SPLITS = {"train": "full_train_info.txt", "val": "full_valid_info.txt"}
INFO = ("product_id", "image_id", "category", "category_id", "subcategory", "subcategory_id", "description")
SEPARATOR = b"\x01"
POSE = "input_pose"
CHUNK = 4096  # rows read at a time: the texts of a whole file, padded to their fixed length, would take gigabytes
FETCH = "dataset/get_raw_dataset.sh fetches the extracted pictures and texts; fashion-gen.com gives the HDF5 files"


@dataclass(frozen=True)
class _FashionGen(Source):
    """What both forms of the release share: every view of a product has its text and labels."""

    splits: dict[str, str] = section.key({}, "names of splits, and the file of each; empty = as released")

    views_share_text: ClassVar[bool] = True


@dataclass(frozen=True)
class FashionGenSource(_FashionGen):
    """The HDF5 files of the release, which hold pictures and all texts."""

    kind: str = section.key("fashion_gen", "the HDF5 files of Fashion-Gen")

    def rows(self, wanted: Sequence[str]) -> Iterator[Row]:
        """Yields (where, row) of every picture, the wanted columns only; a picture is named FILE.h5#input_image/ROW.

        A pose that a product has twice gets a running number. Raises UserError where a file is missing, is no HDF5 file or damaged,
        lacks a wanted array, or its arrays differ in length or hold more than one value per picture.
        """
        poses: Counter[tuple[str, str]] = Counter()
        for split, name in (self.splits or H5_SPLITS).items():
            path = _existing(self.table / name)
            try:
                file = h5py.File(path, "r")
            except OSError as error:
                raise UserError(f"not an HDF5 file, or cut off ({error})", str(path), "a file of the release", FETCH) from None
            with file:
                keys = [key for key in wanted if key in file]
                if missing := [key for key in wanted if key not in file and key != "split"]:
                    raise UserError(f"lacks {', '.join(map(repr, missing))}", str(path), f"arrays named as in source.columns; it has "
                                    f"{', '.join(file)}", "correct source.columns")
                size = _length(file, keys, self.columns.image, path)
                for start in range(0, size, CHUNK):
                    for number, row in enumerate(_chunk(file, keys, self.columns.image, start, path), start):
                        row |= {self.columns.image: f"{name}#{self.columns.image}/{number}", "split": split}
                        if POSE in row:
                            key = str(row.get(self.columns.id)), row[POSE]
                            poses[key] += 1
                            row[POSE] += f"-{poses[key]}" if poses[key] > 1 else ""
                        yield f"{name}, row {number}", row

    @property
    def picture_folder(self) -> Path:
        return self.table  # the pictures are inside the files


@dataclass(frozen=True)
class ExtractedFashionGenSource(_FashionGen):
    """The extracted pictures and the info texts of the release, which hold descriptions without names."""

    kind: str = section.key("fashion_gen_extracted", "the extracted pictures of Fashion-Gen")

    def rows(self, wanted: Sequence[str]) -> Iterator[Row]:
        """Yields (where, row) of every line of the info texts.

        The pictures' folders are looked for in ``images``, or in the release's folder as it was unpacked. Raises UserError for a missing
        file, missing pictures, a line with another number of fields, and a class with two ids or an id with two classes.
        """
        ids: dict[tuple[str, str], tuple[str, str]] = {}
        base = self.images or self.table
        for split, name in (self.splits or INFO_SPLITS).items():
            path, folder = _existing(self.table / name), None
            for number, fields in _info_lines(path):
                where = f"{name}, line {number}"
                row: dict[str, Any] = dict(zip(INFO, fields))
                for column in ("category", "subcategory"):
                    for known, value in ((column, f"{column}_id"), (f"{column}_id", column)):
                        before, first = ids.setdefault((known, row[known]), (row[value], where))
                        if before != row[value]:
                            raise UserError(f"the {known} {row[known]!r} has the {value} {row[value]!r}, but {before!r} in {first}", where,
                                            "one id per class, the same in all splits", "correct the info texts")
                folder = _pictures(base, path) if folder is None else folder
                suffix = row["image_id"].removeprefix(row["product_id"]).strip("_")
                yield where, row | {"image": f"{folder}/{row['image_id']}.png", "view": suffix, "split": split}


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UserError("there is no such file", str(path), "the raw release of Fashion-Gen in the folder source.table", FETCH)
    return path


def _length(file: h5py.File, keys: Sequence[str], image: str, path: Path) -> int:
    for key in keys:
        shape = getattr(file[key], "shape", None)
        if not shape or key != image and shape[1:] not in ((), (1,)):
            raise UserError(f"{key!r} is {'no array' if not shape else f'of shape {list(shape)}'}", str(path),
                            "one value per picture: [N] or [N, 1]", "correct source.columns")
    sizes = {key: len(file[key]) for key in keys}
    if len(set(sizes.values())) > 1:
        raise UserError(f"the arrays differ in length: {', '.join(f'{key} {size:,}' for key, size in sizes.items())}", str(path),
                        "one row per picture in every array", FETCH)
    pictures = file[image]
    if pictures.ndim != 4 or pictures.shape[-1] != 3 or pictures.dtype != np.uint8:
        raise UserError(f"{image!r} is {pictures.dtype}{list(pictures.shape)}", str(path), "uint8[N, height, width, 3]",
                        "correct source.columns.image")
    return len(pictures)


def _chunk(file: h5py.File, keys: Sequence[str], image: str, start: int, path: Path) -> Iterator[dict[str, Any]]:
    columns = {}
    for key in keys:
        try:
            if key != image:
                columns[key] = _values(file[key][start : start + CHUNK])
        except OSError as error:
            raise UserError(f"the rows from {start:,} on cannot be read ({error})", f"{path}, array {key!r}", "an undamaged file",
                            FETCH) from None
    for values in zip(*columns.values()):
        yield dict(zip(columns, values))


def _values(array: np.ndarray) -> list[str]:
    """Returns the rows of an array [n] or [n, 1] as texts: bytes are latin-1, padded with NULs or blanks."""
    flat = array.reshape(len(array), -1)[:, 0].tolist()
    texts = [value.decode("latin-1") if isinstance(value, bytes) else str(value) for value in flat]
    return [text.replace("\0", " ").strip() for text in texts]


def _info_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            fields = line.rstrip(b"\r\n").split(SEPARATOR)
            if len(fields) != len(INFO):
                raise UserError(f"line {number} has {len(fields)} fields", str(path), f"{len(INFO)}, joined by the character \\x01: "
                                f"{', '.join(INFO)}", FETCH)
            try:
                yield number, [field.decode("utf-8").strip() for field in fields]
            except UnicodeDecodeError:  # the HDF5 files, which they come from, are latin-1
                yield number, [field.decode("latin-1").strip() for field in fields]


def _pictures(base: Path, info: Path) -> str:
    """Returns the folder of an info text's pictures, relative to ``base``: as in the release, unpacked here or by
    dataset/get_raw_dataset.sh."""
    split = "train" if "train" in info.name else "valid"
    names = [f"extracted_{split}_images", f"extracted_images/extracted_{split}_images", "extracted_images", "."]
    for name in names:
        if any((base / name).glob("*.png")):
            return name
    raise UserError(f"there are no pictures of {info.name}", str(base), f"*.png in one of {', '.join(names)}",
                    "unpack extracted_images.tar.gz there, or set source.images")
