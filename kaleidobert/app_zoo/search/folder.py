"""The index on the disk.

    index/index.json          of which bank and model, how it is searched, and size and checksum of every file; it is written last
          rows-*.npy          i64[N]: the rows of the bank
          digests-*.npy       u8[N, 2, 16]: of the content of each picture and each text
          pictures-*.npy      f32[N, W]: their vectors; texts-*.npy: those of their texts
          pictures-*.faiss    lists or graph, where the vectors are not compared one by one; texts-*.faiss too
          words-*.npy, idf-*.npy, picture_map-*.npy, text_map-*.npy    the regression of an index without a model's vectors
          work/               vectors of an unfinished index, with the mark work.json: the same command continues with them

A file is named by its content and never changed, so that an index that is open stays as it was. A file with another name is never
deleted, and a folder that holds one and no index is refused.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kaleidobert import io
from kaleidobert.datasets.bank.bank import checksums, write_array
from kaleidobert.errors import UserError

FORMAT = 1
INFO, WORK, MARK = "index.json", "work", "work.json"
OWN = re.compile(r"(rows|digests|pictures|texts|words|idf|picture_map|text_map)-[0-9a-f]{12}\.(npy|faiss)")  # what ``write`` writes
PARTS = re.compile(r"(pictures|texts)-[0-9]{5,}(-digests)?\.npy")  # of unfinished work
SIDES = ("pictures", "texts")
REMAKE = "run `kaleidobert index` again: it makes what is missing"
OTHER = "choose another folder with index=..."
FIX = f"wait until it has ended, or {OTHER}"
PART = 4096  # vectors that are made before they are kept


@dataclass(frozen=True)
class Stored:
    """An index that was checked. info: index.json; rows i64[N]; digests u8[N, 2, 16]; vectors: {"pictures", "texts": f32[N, W]}; others:
    further arrays by their names."""

    folder: Path
    info: Mapping[str, Any]
    rows: np.ndarray
    digests: np.ndarray
    vectors: Mapping[str, np.ndarray]
    others: Mapping[str, np.ndarray]

    def structure(self, side: str) -> Path | None:
        """Returns the file of lists or graph, None where vectors are compared one by one."""
        name = self.info["structures"].get(side)
        return None if name is None else self.folder / name


def read(folder: Path) -> Stored:
    """Opens a finished index; raises UserError where there is none, and where a file is missing or is not what was written."""
    info = _info(folder)
    try:
        return _open(folder, info)
    except UserError:
        if (now := _info(folder)) == info:
            raise
        return _open(folder, now)  # another process has brought it up to date meanwhile


def _open(folder: Path, info: Mapping[str, Any]) -> Stored:
    for name, entry in info["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != entry["bytes"]:
            state = f"has {path.stat().st_size:,} bytes" if path.is_file() else "is missing"
            raise UserError(f"the index is damaged: {name} {state}", str(folder), f"{entry['bytes']:,} bytes", REMAKE)
        if io.sha256(path) != entry["sha256"]:
            raise UserError(f"the index is damaged: the content of {name} does not fit its checksum", str(folder), fix=REMAKE)
    vectors = {side: np.asarray(np.load(folder / info["arrays"][side], mmap_mode="r", allow_pickle=False)) for side in SIDES}
    arrays = {name: np.load(folder / file, allow_pickle=False) for name, file in info["arrays"].items() if name not in SIDES}
    return Stored(folder, info, arrays.pop("rows"), arrays.pop("digests"), vectors, arrays)


def _info(folder: Path) -> Mapping[str, Any]:
    if not (folder / INFO).is_file():
        begun = (folder / WORK).is_dir()
        raise UserError("the index is half written" if begun else "there is no index", str(folder),
                        "a folder made by `kaleidobert index`", "run `kaleidobert index` again: it continues where it stopped" if begun
                        else "make one: kaleidobert index quickstart/index")
    info = io.read_json(folder / INFO)
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        version = info.get("format") if isinstance(info, dict) else None
        raise UserError(f"the index has format {version}", str(folder), f"format {FORMAT}", "delete the folder and make it again")
    if not _is_index(info):
        raise UserError("the folder holds no index: its index.json is of something else", str(folder),
                        "a folder made by `kaleidobert index`")
    return info


def _is_index(info: Any) -> bool:
    """Whether the content of an index.json is that of an index, of whatever format: a bank's has other keys."""
    return isinstance(info, dict) and {"format", "identity", "arrays", "structures", "files"} <= info.keys()


def check_target(folder: Path) -> None:
    """Raises UserError where an index cannot be written: another process writes it, or the folder holds something else.

    It may be absent or empty, and may hold an index, finished or not.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError("this is a file", str(folder), "a folder", OTHER)
    with io.explained(folder):
        if (folder / INFO).is_file():
            _check_info(folder)
        elif others := sorted(path.name for path in io.contents(folder) if path.name != WORK and not _own(path, OWN)):
            raise UserError(f"the folder is not empty and holds no index, but {_listed(others)}", str(folder),
                            "a new or empty folder, or that of an index", OTHER)
        elif io.contents(folder) and not (folder / WORK).is_dir():
            raise UserError("the folder is not empty and holds no index: files of an index lie there without index.json", str(folder),
                            fix=f"delete the folder, or {OTHER}")
        _check_work(folder)
    io.check_unlocked(folder, FIX)
    io.check_folder(folder, OTHER)


def _check_info(folder: Path) -> None:
    """Raises UserError where index.json is not that of an index."""
    try:
        own = _is_index(io.read_json(folder / INFO))
    except UserError as error:
        raise UserError(f"index.json cannot be read: {error.what}", str(folder), "the index.json of an index",
                        f"delete the folder if it is an index, to make it again, or {OTHER}") from error
    if not own:
        raise UserError("the folder is not empty and holds no index: its index.json is of something else, such as a bank", str(folder),
                        "a new or empty folder, or that of an index", OTHER)


def _check_work(folder: Path) -> None:
    """Raises UserError where ``work`` is not that of an unfinished index; an empty one is what a killed command may leave."""
    work = folder / WORK
    held = [path.name for path in io.contents(work)]
    if (held and not _is_marked(work)) or (work.exists() and not work.is_dir()):
        what = f"a folder that holds {_listed(sorted(held))}" if held else "a file"
        raise UserError(f"the folder is not empty and holds no index, but {WORK}, {what}" if not (folder / INFO).is_file() else
                        f"{WORK} is not that of an unfinished index: it is {what}", str(folder), f"no {WORK}, or one with {MARK}",
                        f"move or delete it, or {OTHER}")


def _is_marked(work: Path) -> bool:
    """Whether a folder is that of an unfinished index."""
    try:
        mark = io.read_json(work / MARK)
    except UserError:
        return False
    return isinstance(mark, dict) and mark.keys() == {"unfinished_index"}


def _own(path: Path, names: re.Pattern[str]) -> bool:
    """Whether a file has one of the names, or is what ``io.atomic`` left of one."""
    left = re.fullmatch(r"\.(.+)\.[0-9]+-[0-9]+\.tmp", path.name)
    return bool(left and left[1] in (INFO, MARK) or names.fullmatch(left[1] if left else path.name)) and path.is_file()


def _listed(names: Sequence[str]) -> str:
    """Returns the first names, for messages."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def _clear_work(work: Path) -> None:
    """Deletes the vectors of an unfinished index, the mark last, and the folder where nothing else lies in it."""
    if not _is_marked(work):
        return
    _remove(work, [*(path for path in sorted(work.iterdir()) if _own(path, PARTS)), work / MARK])  # a part's digests before its vectors
    with suppress(OSError):
        work.rmdir()


def _remove(folder: Path, files: Sequence[Path]) -> None:
    """Deletes files in order."""
    with io.explained(folder):
        for path in files:
            path.unlink()


def earlier(folder: Path) -> tuple[Stored | None, str]:
    """Returns the index that is there, or None and why it cannot be used; "" where there simply is none."""
    if not (folder / INFO).is_file():
        return None, ""
    try:
        return read(folder), ""
    except UserError as error:
        return None, error.what


class Vectors:
    """The vectors that one model has made, by the content that they are made of: those of the present index and of an unfinished one.

    identity: of model and settings; vectors of another one are not taken. It is used inside of the folder's lock.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], before: Stored | None):
        self._work, self._known, self._parts = folder / WORK, {side: dict[bytes, np.ndarray]() for side in SIDES}, 0
        if before is not None and before.info["identity"] == identity:
            for number, side in enumerate(SIDES):
                self._add(side, before.digests[:, number], before.vectors[side])
        mark = {"unfinished_index": dict(identity)}
        if not _is_marked(self._work) or io.read_json(self._work / MARK) != mark:
            _clear_work(self._work)
            io.write_json(self._work / MARK, mark)
        parts = [path for path in sorted(self._work.glob("*-digests.npy")) if PARTS.fullmatch(path.name)]
        for path in parts:  # written behind its vectors
            side = path.name.split("-")[0]
            self._add(side, np.load(path), np.load(path.with_name(path.name.replace("-digests", ""))))
            self._parts += 1

    def missing(self, side: str, digests: np.ndarray) -> np.ndarray:
        """Returns the positions whose vectors have to be made, each content once."""
        _, first = np.unique(digests, axis=0, return_index=True)
        return np.array([position for position in np.sort(first) if digests[position].tobytes() not in self._known[side]], np.int64)

    def make(self, side: str, digests: np.ndarray, rows: np.ndarray, encode: Callable[[np.ndarray], np.ndarray],
             size: int) -> Iterator[int]:
        """Makes the missing vectors of rows of a bank, writes them to the disk every PART vectors, and yields the number of each batch."""
        positions, made = self.missing(side, digests), list[tuple[np.ndarray, np.ndarray]]()
        for batch in in_slots(digests, positions, size):
            used = batch >= 0
            vectors = encode(rows[np.where(used, batch, batch[used][0])])
            made.append((digests[batch[used]], vectors[used]))
            if sum(len(one) for one, _ in made) >= PART:
                self._keep(side, made)
                made = []
            yield int(used.sum())
        if made:
            self._keep(side, made)

    def _keep(self, side: str, made: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        """Writes vectors into the folder of unfinished work."""
        digests, vectors = (np.concatenate(each) for each in zip(*made))
        name = f"{side}-{self._parts:05d}"
        write_array(self._work / f"{name}.npy", vectors)
        write_array(self._work / f"{name}-digests.npy", digests)
        self._add(side, digests, vectors)
        self._parts += 1

    def take(self, side: str, digests: np.ndarray) -> np.ndarray:
        """Returns f32[N, W] of all rows."""
        return np.stack([self._known[side][one.tobytes()] for one in digests])

    def _add(self, side: str, digests: np.ndarray, vectors: np.ndarray) -> None:
        self._known[side].update((one.tobytes(), vector) for one, vector in zip(digests, vectors))


def in_slots(digests: np.ndarray, positions: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yields batches i64[size] of positions, -1 where a slot is empty; the same content always has the same slot.

    The last bits of what a network computes depend on the row of the batch, at which a thread's part of the array may end, and on nothing
    else in the batch. A vector that is kept therefore equals, bit by bit, the one that would be made again.
    """
    slot = np.ascontiguousarray(digests[positions][:, :8]).view("<u8").ravel() % size
    turn, seen = np.zeros(len(positions), np.int64), np.zeros(size, np.int64)
    for number, own in enumerate(slot):
        turn[number] = seen[own]
        seen[own] += 1
    for batch in range(int(seen.max(initial=0))):
        chosen = turn == batch
        result = np.full(size, -1, np.int64)
        result[slot[chosen]] = positions[chosen]
        yield result


def write(folder: Path, info: Mapping[str, Any], arrays: Mapping[str, np.ndarray], structures: Mapping[str, bytes]) -> None:
    """Writes a finished index, index.json last, and removes files of earlier ones. structures: {"pictures", "texts": lists or graph}."""
    _remove(folder, [path for path in folder.glob(io.LEFTOVER) if _own(path, OWN)])
    named, stored = {}, {}
    for name, array in arrays.items():
        named[name] = f"{name}-{hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()[:12]}.npy"
        write_array(folder / named[name], array)
    for name, content in structures.items():
        stored[name] = f"{name}-{hashlib.sha256(content).hexdigest()[:12]}.faiss"
        with io.atomic(folder / stored[name]) as file:
            file.write(content)
    files = [*named.values(), *stored.values()]
    io.write_json(folder / INFO, {"format": FORMAT, **info, "arrays": named, "structures": stored, "files": checksums(folder, files)})
    _clear_work(folder / WORK)
    _remove(folder, [path for path in folder.iterdir() if path.name not in files and _own(path, OWN)])
