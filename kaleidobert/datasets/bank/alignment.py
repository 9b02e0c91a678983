"""Alignments: which token of a row belongs to which of its patches, stored inside a bank's folder.

    bank/alignment.json       format, mode, settings, what it was made for, sizes and checksums, statistics; written last
         alignment.npy        f16[N, T, P], strengths, 0 = not linked; opened as a memory map
         captions.jsonl       one line per row: what the captioner wrote, with what else the command keeps of it
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from kaleidobert import configs, io
from kaleidobert import levels as kaleido
from kaleidobert.datasets.bank.bank import Bank, checksums
from kaleidobert.errors import UserError
from kaleidobert.io import sha256

FORMAT = 2
INFO, STRENGTHS, CAPTIONS = "alignment.json", "alignment.npy", "captions.jsonl"
AGAIN = "run `kaleidobert align` for this bank again"
WAIT = 60.0  # seconds for which another process that writes the bank is waited for
COPY = "copy the bank into a folder that can be written, and name that as data.bank"
MADE_FOR = ("token_ids.npy", "token_words.npy", "boxes.npy")  # bank files on whose content an alignment depends


def write(bank: Bank, blocks: Iterable[np.ndarray], captions: Iterable[Mapping[str, Any]], *, mode: str, settings: Mapping[str, Any],
          captioner: str = "", statistics: Callable[[np.ndarray], Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """Writes a bank's alignment and returns its alignment.json; what stood there before is replaced.

    blocks: f16[n, T, P] in the order of the bank's rows, all N rows together; captions: N dicts that JSON can hold. mode: how
    the alignment was made; captioner: SHA-256 of the captioner's checkpoint; settings: what else decided about it.
    statistics(strengths f16[N, T, P]) -> what is to be remembered of the whole. alignment.json goes first and comes last: an
    interrupted write leaves no alignment. Raises UserError where blocks or captions do not fit the bank, the disk is full or another
    process writes the bank for more than a minute.
    """
    with io.locked(bank.folder, WAIT, "wait until it has ended and run the same command again: what was made is kept"):
        return _write(bank, blocks, captions, {"mode": mode, "captioner_sha256": captioner, "settings": dict(settings)}, statistics)


def check_folder(bank: Bank) -> None:
    """Raises UserError where an alignment could not be written into the bank: it is read-only, or the disk has no room for it."""
    io.check_folder(bank.folder, COPY)
    io.check_room(bank.folder, 2 * math.prod(_shape(bank)), "the alignment")


def _write(bank: Bank, blocks: Iterable[np.ndarray], captions: Iterable[Mapping[str, Any]], made: Mapping[str, Any],
           statistics: Callable[[np.ndarray], Mapping[str, Any]] | None) -> dict[str, Any]:
    """Writes as ``write`` does, in the process that holds the lock; made: what alignment.json says of how it was made."""
    folder = bank.folder
    with io.explained(folder):
        (folder / INFO).unlink(missing_ok=True)
    shape = _shape(bank)
    with io.atomic(folder / STRENGTHS) as file:
        # only its write method: into a real file numpy writes past Python, and a full disk is an error without a number
        np.lib.format.write_array_header_1_0(SimpleNamespace(write=file.write), {"descr": "<f2", "fortran_order": False, "shape": shape})
        rows = 0
        for block in blocks:
            if block.shape[1:] != shape[1:] or not (np.isfinite(block).all() and (block >= 0).all()):
                raise UserError(f"a block of strengths is {block.dtype}{list(block.shape)}", "alignment",
                                f"float16[n, {shape[1]}, {shape[2]}], finite and at least 0")
            file.write(np.ascontiguousarray(block, "<f2").tobytes())
            rows += len(block)
        _expect_rows(rows, shape[0], "blocks of strengths")
    with io.atomic(folder / CAPTIONS) as file:
        lines = 0
        for caption in captions:
            file.write((json.dumps(caption, ensure_ascii=False) + "\n").encode())
            lines += 1
        _expect_rows(lines, shape[0], "captions")
    strengths = np.load(folder / STRENGTHS, mmap_mode="r")
    info = {
        "format": FORMAT, "mode": made["mode"], "size": shape[0], "text_length": shape[1], "patches": shape[2],
        "levels": configs.to_dict(bank.made_with), "vocabulary_sha256": bank.identity["vocabulary_sha256"],
        "captioner_sha256": made["captioner_sha256"], "settings": made["settings"], "made_for": _made_for(bank),
        "statistics": dict(statistics(strengths)) if statistics else {},
        "files": checksums(folder, (STRENGTHS, CAPTIONS)),
    }
    io.write_json(folder / INFO, info)
    return info


def info(bank: Bank) -> dict[str, Any] | None:
    """Returns the content of alignment.json, None where the bank has no alignment.

    Raises UserError where the alignment has another format, was made with other levels, another vocabulary or for other texts or
    boxes than the bank has now, or where one of its files is missing or cut off.
    """
    path = bank.folder / INFO
    if not path.is_file():
        return None
    result = io.read_json(path)
    if not isinstance(result, dict) or result.get("format") != FORMAT:
        raise UserError("the alignment has another format", str(path), f"format {FORMAT}", AGAIN)
    mine, its = (_grids(levels) for levels in (configs.to_dict(bank.made_with), result["levels"]))
    if mine != its:
        raise UserError(f"the alignment was made with levels {its}", str(path), mine, AGAIN)
    if result["vocabulary_sha256"] != bank.identity["vocabulary_sha256"]:
        raise UserError("the alignment was made with another vocabulary than the bank's", str(path), fix=AGAIN)
    if (result["size"], result["text_length"], result["patches"]) != _shape(bank):
        raise UserError(f"the alignment has {result['size']} rows of {result['text_length']} tokens and {result['patches']} patches",
                        str(path), "{} rows of {} tokens and {} patches".format(*_shape(bank)), AGAIN)
    if result["made_for"] != _made_for(bank):
        raise UserError("the alignment was made for other texts or boxes than the bank has now, or other pictures", str(path), fix=AGAIN)
    for name, entry in result["files"].items():
        path_of_file = bank.folder / name
        size = path_of_file.stat().st_size if path_of_file.is_file() else None
        if size != entry["bytes"]:
            raise UserError("is missing" if size is None else f"has {size:,} bytes", str(path_of_file), f"{entry['bytes']:,} bytes", AGAIN)
    return result


def strengths(bank: Bank) -> "np.ndarray | PatchColumns | None":
    """Returns f16[N, T, P] as a memory map, of a bank of which some levels are shown their patches; None where the bank has no alignment.

    Raises as ``info`` does.
    """
    if info(bank) is None:
        return None
    path = bank.folder / STRENGTHS
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"not a numpy array ({error})", str(path), fix=AGAIN) from None
    if array.shape != _shape(bank) or array.dtype != np.float16:
        raise UserError(f"the array is {array.dtype}{list(array.shape)}", str(path), f"float16{list(_shape(bank))}", AGAIN)
    return array if bank.patches is None else PatchColumns(array, bank.patches)


def captions(bank: Bank) -> list[dict[str, Any]]:
    """Returns one dict per row of the bank, as ``write`` was given them; empty where the bank has no alignment."""
    if info(bank) is None:
        return []
    with open(bank.folder / CAPTIONS, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def verify(bank: Bank) -> None:
    """Reads the alignment's files and compares their SHA-256; raises UserError that names the first that differs."""
    for name, entry in ((info(bank) or {}).get("files", {})).items():
        if sha256(bank.folder / name) != entry["sha256"]:
            raise UserError(f"the content does not fit the checksum in {INFO}", str(bank.folder / name), fix=AGAIN)


def of(bank: Bank) -> "np.ndarray | PatchColumns":
    """Returns the same as ``strengths``, of a bank that has an alignment."""
    result = strengths(bank)
    assert result is not None
    return result


class PatchColumns:
    """Some patches of an alignment f16[N, T, P]: rows are read from the file when they are indexed."""

    def __init__(self, strengths: np.ndarray, patches: np.ndarray):
        self._strengths, self._patches = strengths, patches
        self.shape, self.dtype = (*strengths.shape[:2], len(patches)), strengths.dtype

    def __getitem__(self, rows: int | slice | np.ndarray | tuple[int, np.ndarray]) -> np.ndarray:
        return np.asarray(self._strengths[rows])[..., self._patches]


def _shape(bank: Bank) -> tuple[int, int, int]:
    return bank.size, bank.text_length, kaleido.num_patches(bank.made_with)


def _made_for(bank: Bank) -> dict[str, str]:
    return {name: bank.index["files"][name]["sha256"] for name in MADE_FOR} | bank.pictures


def _grids(levels: Iterable[Mapping[str, Any]]) -> str:
    return ", ".join(f"{level['name']} {level['grid']}x{level['grid']} {level['pretext']}" for level in levels)


def _expect_rows(result: int, wanted: int, what: str) -> None:
    if result != wanted:
        raise UserError(f"{result} rows in the {what}", "alignment", f"{wanted}, one per row of the bank")
