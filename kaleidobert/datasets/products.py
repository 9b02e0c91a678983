"""The Product contract: what every source of products yields; how a picture is read, and which classes the labels of products have."""

import hashlib
import io
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from kaleidobert.datasets import addresses, arrow_tables
from kaleidobert.errors import UserError
from kaleidobert.io import sha256
from kaleidobert.specs import Part

H5_ROW = re.compile(r"(.+\.(?:h5|hdf5))#(.+)/(\d+)")  # file.h5#input_image/17: row 17 of the array input_image
BLOCKS = 1 << 26  # bytes of unpacked blocks that an HDF5 file keeps
MAX_PIXELS = 100_000_000  # beyond this a file is more likely a decompression bomb than a product picture


@dataclass(frozen=True)
class Product:
    """One picture of one product with its text and labels.

    product_id names the product, image_id this picture (unique in a source); group joins products that are not independent
    (colour variants, same title): a group never crosses splits and is never its own negative. labels: {column: value}.
    load_image() -> uint8[h, w, 3]; load_mask() -> bool[h, w], the true foreground, where it is known; image_path and mask_path:
    where they lie, as read_image takes them.
    """

    product_id: str
    group: str
    view: str
    split: str
    image_id: str
    image_path: str
    text: str
    labels: Mapping[str, str]
    load_image: Callable[[], np.ndarray]
    load_mask: Callable[[], np.ndarray] | None = None
    parts: tuple[Part, ...] = field(default=())
    mask_path: str = ""


def read_image(path: str | Path) -> np.ndarray:
    """Decodes a picture to uint8[h, w, 3] sRGB, upright; transparency becomes white.

    Reads whatever Pillow reads, CMYK, grey, palette and 16-bit pictures included, and one row of an HDF5 array of pictures,
    named like pictures.h5#input_image/17; one cell of a table, as arrow_tables names it; of an address its copy in the cache. Raises
    UserError for a missing, empty, truncated, corrupt or absurdly large file.
    """
    name, is_address, path = str(path), addresses.is_one(path), addresses.local(path)
    where = name.partition("?")[0] if is_address else name
    try:
        if h5_row := H5_ROW.fullmatch(where):
            return _h5_picture(Path(h5_row[1]), h5_row[2], int(h5_row[3]))
        data = arrow_tables.picture(where)
        if data == b"" or data is None and path.stat().st_size == 0:
            raise UserError("the picture file is empty (0 bytes)", where)
        with Image.open(path if data is None else io.BytesIO(data)) as image:
            return decode(image, where)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(addresses.fault(name) if is_address else "there is no such picture", where) from None
    except Exception as error:
        raise _undecodable(error, where) from error


def decode(image: Image.Image, where: str) -> np.ndarray:
    """Returns an opened picture as uint8[h, w, 3] sRGB, upright, transparency white; of an animation the frame that it stands at.

    where: names it in messages. Raises UserError as ``read_image``; the picture itself stays as it is.
    """
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UserError(f"the picture is {width} x {height} pixels", where, f"at most {MAX_PIXELS:,} pixels", "scale it down")
    try:
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image))
    except Exception as error:
        raise _undecodable(error, where) from error


def _undecodable(error: Exception, where: str) -> UserError:
    """Returns what is said of an error of Pillow's decoders, of many types: OSError, SyntaxError, struct.error, ValueError, ..."""
    if isinstance(error, Image.DecompressionBombError):
        return UserError("the picture has far too many pixels", where, f"at most {MAX_PIXELS:,} pixels", "scale it down")
    said = "of no known kind" if isinstance(error, UnidentifiedImageError) else error  # Pillow names a file, or a place in the memory
    return UserError(f"the picture cannot be decoded ({said})", where, "a complete picture file")


def stamp(path: str | Path) -> list[int] | None:
    """Returns what says cheaply that a picture is still the same: size, times of change and number of its file; None where there is none.

    Of a row of an HDF5 file, and of a cell of a table, that of the file.
    """
    h5_row = H5_ROW.fullmatch(str(path))
    try:
        state = os.stat(h5_row[1] if h5_row else arrow_tables.table_of(str(path)) or addresses.local(path))
    except (OSError, ValueError):
        return None
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]


def digest(path: str | Path) -> str:
    """Returns the SHA-256 of a picture's content: of the file, of the bytes in a cell of a table, or of the pixels of a row of an
    HDF5 file; "" where it cannot be read."""
    try:
        if h5_row := H5_ROW.fullmatch(str(path)):
            image = _h5_picture(Path(h5_row[1]), h5_row[2], int(h5_row[3]))
            return hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).hexdigest()
        data = arrow_tables.picture(str(path))
        return sha256(addresses.local(path)) if data is None else hashlib.sha256(data).hexdigest()
    except (UserError, OSError, ValueError):
        return ""


def _h5_picture(path: Path, key: str, row: int) -> np.ndarray:
    where = f"{path}#{key}/{row}"
    if not path.is_file():
        raise UserError("there is no such file of pictures", where)
    state = path.stat()
    pictures = _h5_array(path, key, state.st_size, state.st_mtime_ns)
    if row >= len(pictures):
        raise UserError("there is no such picture", where, f"a row below {len(pictures):,}")
    image = np.asarray(pictures[row])
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UserError(f"the row is no picture ({image.dtype}{list(image.shape)})", where, "uint8[height, width, 3]")
    return image


@lru_cache(4)
def _h5_array(path: Path, key: str, size: int, changed: int) -> h5py.Dataset:
    """Returns an array of a file that stays open: its compressed blocks may hold many pictures, and read in order each is unpacked once.

    size, changed: of the file now, so that a file written anew is opened anew.
    """
    file = h5py.File(path, "r", rdcc_nbytes=BLOCKS)
    if key not in file:
        raise UserError(f"there is no array {key!r}", str(path), f"one of {', '.join(file)}")
    return file[key]


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit and wider: scale to 8 bits, Pillow would clip
        values = np.asarray(image, np.float64)
        top = 65535.0 if values.max(initial=0) > 255 else 255.0
        grey = np.clip(values * (255.0 / top), 0, 255).round().astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return np.asarray(image.convert("RGB"), np.uint8)


# --- The classes of labels: their ids, and those of one split only, which no model can learn or no test shows


SHOWN_CLASSES = 12  # names of a list that are printed
ID_SUFFIX = "_id"


def tabulate_classes(rows: Iterable[tuple[str, Mapping[str, str]]], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Returns {label: {"ids": {class: id}, "one_split": {split: [classes that occur nowhere else]}}} of rows (split, labels).

    The ids are those of a label NAME_id beside the label NAME, as the raw release of Fashion-Gen has them, where that gives every
    class a whole number of its own; otherwise they count the classes in alphabetical order. Empty labels are no class.

    >>> tabulate_classes([("train", {"kind": "tie"}), ("val", {"kind": "hat"}), ("val", {"kind": "tie"})], ["kind"])
    {'kind': {'ids': {'hat': 0, 'tie': 1}, 'one_split': {'val': ['hat']}}}
    """
    plain = [name for name in names if not (name.endswith(ID_SUFFIX) and name.removesuffix(ID_SUFFIX) in names)]
    splits: dict[str, dict[str, set[str]]] = {name: {} for name in plain}
    given: dict[str, set[tuple[str, str]]] = {name: set() for name in plain}
    seen = set()
    for split, labels in rows:
        seen.add(split)
        for name in plain:
            if value := labels[name]:
                splits[name].setdefault(value, set()).add(split)
                given[name].add((labels.get(name + ID_SUFFIX, ""), value))
    result = {}
    for name in plain:
        alone = {split: sorted(value for value, where in splits[name].items() if where == {split}) for split in sorted(seen)}
        result[name] = {"ids": _given_ids(given[name]) or {value: position for position, value in enumerate(sorted(splits[name]))},
                        "one_split": {split: values for split, values in alone.items() if values and len(seen) > 1}}
    return result


def class_lines(tables: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns lines for people.

    >>> class_lines({"kind": {"ids": {"hat": 0, "tie": 1}, "one_split": {"val": ["hat"]}}})
    ['label kind: 2 classes, 1 only in val (hat)']
    """
    lines = []
    for name, table in tables.items():
        lonely = [f"{len(values):,} only in {split} ({', '.join(values[:SHOWN_CLASSES])}{', ...' if len(values) > SHOWN_CLASSES else ''})"
                  for split, values in table["one_split"].items()]
        lines.append(", ".join([f"label {name}: {len(table['ids']):,} classes", *lonely]))
    return lines


def _given_ids(pairs: set[tuple[str, str]]) -> dict[str, int]:
    """Returns {class: id} of pairs (id, class); empty where they are not one to one, or no numbers."""
    if not all(number.isdecimal() for number, _ in pairs):
        return {}
    ids = {value: int(number) for number, value in sorted(pairs, key=lambda pair: int(pair[0]))}
    return ids if len(pairs) == len(ids) == len(set(ids.values())) else {}
