"""Any line of the released text files by its number: where each one begins, found in one pass and kept in a small file.

With it a batch is a function of seed and step: rows are drawn in any order, and a run resumes exactly without any state.

    index = released_index.Index.scan(paths)         # reads every file once; index.save(path), Index.load(path, paths)
    row = released_files.parse(index.line(17), schema)
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from kaleidobert import files
from kaleidobert.datasets.released_files import GZIP, LONGEST_LINE, Line, Position
from kaleidobert.errors import UserError

BLOCK = 1 << 24  # bytes


class Index:
    """Opened files and the places of their lines. ``starts[f]``: i64[lines + 1] byte offsets, the file's size at the end."""

    def __init__(self, paths: Sequence[str | Path], starts: Sequence[np.ndarray]):
        self.paths = [Path(path) for path in paths]
        self.starts = list(starts)
        self._first = np.cumsum([0] + [len(offsets) - 1 for offsets in self.starts])
        for path, offsets in zip(self.paths, self.starts):
            size = path.stat().st_size if path.is_file() else -1
            if size != offsets[-1]:
                raise UserError("is missing" if size < 0 else f"has {size:,} bytes", str(path), f"{offsets[-1]:,} bytes, as when its lines "
                                "were counted", "delete the index, so that they are counted again")

    @classmethod
    def scan(cls, paths: Sequence[str | Path]) -> "Index":
        """Read all files once; UserError where one is missing, empty, compressed, or has a line of more than LONGEST_LINE bytes."""
        return cls(paths, [_starts(Path(path)) for path in paths])

    def save(self, path: str | Path) -> None:
        """Write the places to a .npz file; the files' names stay outside, so that folders may move."""
        with files.atomic(path) as file:
            np.savez(file, *self.starts)

    @classmethod
    def load(cls, path: str | Path, paths: Sequence[str | Path]) -> "Index":
        """The index written by save for the same files in the same order; UserError where number or sizes differ."""
        try:
            with np.load(path, allow_pickle=False) as file:
                starts = [file[f"arr_{number}"] for number in range(len(file.files))]
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise UserError(f"is no index of lines ({error})", str(path), fix="delete it, so that the lines are counted again") from None
        if len(starts) != len(paths):
            raise UserError(f"is the index of {len(starts)} files", str(path), f"of {len(paths)}",
                            "delete it, so that the lines are counted again")
        return cls(paths, starts)

    def __len__(self) -> int:
        """Lines in all files."""
        return int(self._first[-1])

    def line(self, number: int) -> Line:
        """The line with this number, from 0 over all files; IndexError outside."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        which = int(np.searchsorted(self._first, number, "right")) - 1
        inside = int(number - self._first[which])
        begin, end = (int(value) for value in self.starts[which][inside : inside + 2])
        with open(self.paths[which], "rb", buffering=0) as file:
            file.seek(begin)
            content = bytearray()
            while len(content) < end - begin and (part := file.read(end - begin - len(content))):
                content += part
        where = f"{self.paths[which]}, line {inside + 1:,}"
        if len(content) < end - begin:
            raise UserError("the file has become shorter", where, fix="fetch it again and delete the index")
        ended = content.endswith(b"\n")
        return Line(bytes(content[:-1] if ended else content), where, Position(which, end, inside + 1), ended)


def _starts(path: Path) -> np.ndarray:
    """i64[lines + 1]: where lines begin, and the size of the file."""
    places, offset = [0], 0
    try:
        with open(path, "rb", buffering=0) as file:
            for block in iter(partial(file.read, BLOCK), b""):
                if not offset and block[:2] == GZIP:
                    raise UserError("is compressed", str(path), "a text file with one example in a line", "unpack it (gunzip)")
                at = block.find(b"\n")
                while at >= 0:
                    places.append(offset + at + 1)
                    at = block.find(b"\n", at + 1)
                offset += len(block)
                if offset - places[-1] > LONGEST_LINE:
                    raise UserError(f"no line end within {LONGEST_LINE:,} bytes", f"{path}, line {len(places):,}",
                                    "a text file with one example in a line")
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", str(path), "a data file") from None
    if not offset:
        raise UserError("the file is empty", str(path), "a text file with one example in a line", "fetch it again")
    return np.array(places if places[-1] == offset else [*places, offset], np.int64)
