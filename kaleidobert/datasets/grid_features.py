"""What the captioner sees of every picture of a bank: its foreground box at one size, or the features of it, kept on disk.

    folder/grid.json          what the chunks were made of
           part-00000.npy     uint8[n, s, s, 3] or f16[n, N, F], opened as memory maps
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kaleidobert import io
from kaleidobert.datasets.bank.bank import Bank, write_array
from kaleidobert.datasets.products import read_image
from kaleidobert.errors import UserError

CHUNK = 256  # pictures per file: the unit of progress and of resuming
INDEX = "grid.json"

Encode = Callable[[np.ndarray], np.ndarray]  # uint8[n, s, s, 3] -> what is kept of n pictures


def cut(row: Mapping[str, Any], size: int) -> np.ndarray:
    """Returns uint8[size, size, 3]: the foreground box of a row of the bank's table; the sides are scaled one by one.

    Raises UserError where the picture cannot be read.
    """
    x1, y1, x2, y2 = row["box"]
    picture = read_image(row["image_path"])[y1:y2, x1:x2]
    if not picture.size:
        raise UserError(f"the picture has {picture.shape[1]} x {picture.shape[0]} pixels inside its foreground box {row['box']}",
                        str(row["image_path"]), "the picture that the bank was made from", "put it back, or make the bank again")
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0))


def frames(bank: Bank, rows: np.ndarray) -> np.ndarray:
    """Returns f32[n, 4]: x1, x2, y1, y2 of the foreground boxes, as fractions of the whole picture: what the grids of these rows cover."""
    # the union of the patches' boxes; on every level they tile the foreground box
    boxes = bank.boxes[rows]
    return np.stack([boxes[..., 0].min(1), boxes[..., 1].max(1), boxes[..., 2].min(1), boxes[..., 3].max(1)], 1).astype(np.float32)


class Grids:
    """The kept pictures or features of a bank's rows, complete; raises UserError where a chunk is missing."""

    def __init__(self, bank: Bank, folder: Path):
        self._chunks = []
        for number, start in enumerate(range(0, bank.size, CHUNK)):
            path = _path(folder, number)
            try:
                chunk = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError) as error:
                raise UserError(f"cannot be read ({error})", str(path), fix="delete the folder and run the same command again") from None
            if len(chunk) != min(CHUNK, bank.size - start):
                raise UserError(f"holds {len(chunk)} pictures", str(path), fix="delete the folder and run the same command again")
            self._chunks.append(chunk)

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """Returns [n, ...] of these rows."""
        return np.stack([self._chunks[row // CHUNK][row % CHUNK] for row in rows])


def make(bank: Bank, size: int, folder: Path, encode: Callable[[], Encode], source: Mapping[str, Any]) -> Iterator[int]:
    """Makes the chunks that are not there yet; yields the number of pictures done, chunk by chunk.

    encode() builds what turns uint8[n, size, size, 3] into what is kept, and is called once where something is to do. source:
    what decides about the content; chunks made of something else are made anew.
    """
    own = {name: bank.index["files"][name]["sha256"] for name in ("table.jsonl", "boxes.npy")}
    source = dict(source) | {"size": size, "bank": own | bank.pictures}
    if not (folder / INDEX).is_file() or io.read_json(folder / INDEX) != source:
        for path in folder.glob("part-*.npy"):
            path.unlink()
        io.write_json(folder / INDEX, source)
    io.clear(folder)
    network = None
    for number, start in enumerate(range(0, bank.size, CHUNK)):
        rows = bank.table[start : start + CHUNK]
        if not _path(folder, number).is_file():
            network = network or encode()
            kept = network(np.stack([cut(row, size) for row in rows]))
            write_array(_path(folder, number), kept)
        yield len(rows)


def _path(folder: Path, number: int) -> Path:
    return folder / f"part-{number:05d}.npy"
