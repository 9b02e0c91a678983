"""Any line of the released text files by its number: where each one begins, found in one pass and kept in a small file.

With it a batch is a function of seed and step: rows are drawn in any order, and a run resumes exactly without any state.

    index = released_index.Index.scan(paths)         # reads every file once; index.save(path), Index.load(path, paths)
    row = released_files.parse(index.line(17), schema)
    index = released_index.Index.open(paths, cache)  # the saved one where it is of these very files, else a scan that is saved
"""

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from os.path import isfile  # Path.is_file raises where a name is too long
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kaleidobert import io
from kaleidobert.errors import UserError
from kaleidobert.released.files import GZIP, LONGEST_LINE, Line, Position

BLOCK = 1 << 24  # bytes
QUICK = 1 << 30  # bytes that are counted without a progress bar


class Index:
    """Opened files and the places of their lines. ``starts[f]``: i64[lines + 1] byte offsets, the file's size at the end."""

    def __init__(self, paths: Sequence[str | Path], starts: Sequence[np.ndarray]):
        self.paths = [Path(path) for path in paths]
        self.starts = list(starts)
        self._first = np.cumsum([0] + [len(offsets) - 1 for offsets in self.starts])
        for path, offsets in zip(self.paths, self.starts):
            size = path.stat().st_size if isfile(path) else -1
            if size != offsets[-1]:
                raise UserError("is missing" if size < 0 else f"has {size:,} bytes", str(path), f"{offsets[-1]:,} bytes, as when its lines "
                                "were counted", "delete the index, so that they are counted again")

    @classmethod
    def scan(cls, paths: Sequence[str | Path]) -> "Index":
        """Read all files once; UserError where one is missing, empty, compressed, or has a line of more than LONGEST_LINE bytes."""
        sizes = [Path(path).stat().st_size if isfile(path) else 0 for path in paths]
        with tqdm(total=sum(sizes), unit="B", unit_scale=True, desc="counting lines", disable=sum(sizes) < QUICK, leave=False) as bar:
            return cls(paths, [_starts(Path(path), bar) for path in paths])

    @classmethod
    def open(cls, paths: Sequence[str | Path], cache: Path) -> "Index":
        """The index in ``cache`` where it is of these files as they are now (names, sizes, times of change); else a scan, which is
        saved there if that folder can be written. UserError as ``scan``."""
        stamp = _stamp(paths)
        try:
            with np.load(cache, allow_pickle=False) as file:
                if str(file["stamp"]) == stamp:
                    return cls(paths, [file[f"arr_{number}"] for number in range(len(paths))])
        except Exception:  # zipfile, zlib and numpy raise many kinds over a damaged file
            pass  # a cache: whatever is wrong with it, counting again puts it right
        index = cls.scan(paths)
        try:
            with io.atomic(cache) as file:
                np.savez(file, *index.starts, stamp=np.array(stamp))
        except UserError as error:
            print(f"the places of the lines are not kept ({error.what}): they are counted anew in every run")
        return index

    def save(self, path: str | Path) -> None:
        """Write the places to a .npz file; the files' names stay outside, so that folders may move."""
        with io.atomic(path) as file:
            np.savez(file, *self.starts)

    @classmethod
    def load(cls, path: str | Path, paths: Sequence[str | Path]) -> "Index":
        """The index written by save for the same files in the same order; UserError where number or sizes differ."""
        try:
            with np.load(path, allow_pickle=False) as file:
                starts = [file[f"arr_{number}"] for number in range(len(file.files))]
                if any(offsets.dtype != np.int64 or offsets.ndim != 1 or len(offsets) < 2 for offsets in starts):
                    raise ValueError("no places of lines")
        except Exception as error:  # as in open
            raise UserError(f"is no index of lines ({error})", str(path), fix="delete it, so that the lines are counted again") from None
        if len(starts) != len(paths):
            raise UserError(f"is the index of {len(starts)} files", str(path), f"of {len(paths)}",
                            "delete it, so that the lines are counted again")
        return cls(paths, starts)

    def __len__(self) -> int:
        """Lines in all files."""
        return int(self._first[-1])

    def fingerprint(self) -> dict[str, dict[str, int | str]]:
        """{name of a file: bytes, lines, SHA-256 of where its lines begin}: another file hardly has lines of the same lengths."""
        return {f"{number}/{path.name}": {"bytes": int(offsets[-1]), "lines": len(offsets) - 1,
                                          "places": hashlib.sha256(offsets.tobytes()).hexdigest()}
                for number, (path, offsets) in enumerate(zip(self.paths, self.starts))}

    def position(self, number: int) -> Position:
        """The place before the line with this number; ``len(index)`` = behind the last one."""
        if number == len(self):
            return Position(len(self.paths))
        which, inside = self._find(number)
        return Position(which, int(self.starts[which][inside]), inside)

    def where(self, number: int) -> str:
        """File and line number of a line, for messages."""
        which, inside = self._find(number)
        return f"{self.paths[which]}, line {inside + 1:,}"

    def _find(self, number: int) -> tuple[int, int]:
        """(file, line in it, from 0); IndexError outside."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        which = int(np.searchsorted(self._first, number, "right")) - 1
        return which, int(number - self._first[which])

    def line(self, number: int) -> Line:
        """The line with this number, from 0 over all files; IndexError outside."""
        which, inside = self._find(number)
        begin, end = (int(value) for value in self.starts[which][inside : inside + 2])
        with open(self.paths[which], "rb", buffering=0) as file:
            file.seek(begin)
            content = bytearray()
            while len(content) < end - begin and (part := file.read(end - begin - len(content))):
                content += part
        where = self.where(number)
        if len(content) < end - begin:
            raise UserError("the file has become shorter", where, fix="fetch it again and delete the index")
        ended = content.endswith(b"\n")
        return Line(bytes(content[:-1] if ended else content), where, Position(which, end, inside + 1), ended)


def _stamp(paths: Sequence[str | Path]) -> str:
    """Absolute names, sizes and times of change."""
    found = [Path(path).absolute() for path in paths]
    return json.dumps([[str(path), *((path.stat().st_size, path.stat().st_mtime_ns) if isfile(path) else (-1, 0))] for path in found])


def _starts(path: Path, bar: tqdm) -> np.ndarray:
    """i64[lines + 1]: where lines begin, and the size of the file."""
    places, offset = [0], 0
    try:
        with open(path, "rb", buffering=0) as file:
            for block in iter(partial(file.read, BLOCK), b""):
                if not offset and block[:2] == GZIP:
                    raise UserError("is compressed", str(path), "a text file with one example in a line", "unpack it (gunzip)")
                at = block.find(b"\n")
                while at >= 0:
                    if offset + at - places[-1] >= LONGEST_LINE:
                        raise _no_end(path, len(places))
                    places.append(offset + at + 1)
                    at = block.find(b"\n", at + 1)
                offset += len(block)
                bar.update(len(block))
                if offset - places[-1] >= LONGEST_LINE:
                    raise _no_end(path, len(places))
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", str(path), "a data file") from None
    if not offset:
        raise UserError("the file is empty", str(path), "a text file with one example in a line", "fetch it again")
    return np.array(places if places[-1] == offset else [*places, offset], np.int64)


def _no_end(path: Path, line: int) -> UserError:
    return UserError(f"no line end within {LONGEST_LINE:,} bytes", f"{path}, line {line:,}", "a text file with one example in a line")
