"""The shards of a bank on disk, and how those of a new state take the place of the old ones at once.

Where an old shard has its number, a new shard lies in ``next`` until all new shards are complete: they copy from the old ones, and a
finished bank still opens meanwhile. Then ``settle`` moves them, in steps that can be repeated where a run is killed.

    bank/work.json            {"format", "identity", "fingerprint"}: which bank the shards belong to, and which products it is being made of
         shards/00000.json    the notes: {"pictures": an entry per product}, see ``changes.Entry``
         features-00000.npy   rows of the products that have no fault; scales-00000.npy beside them where they are bytes
         next/                the same files of the new state
         next/complete.json   {"shards": their number}: the new state is taking the old one's place
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kaleidobert import io

NEXT = "next"
NUMBERED = re.compile(r"(?:features|scales)-(\d+)\.npy|(\d+)\.json")


def notes_path(root: Path, number: int) -> Path:
    """Returns where the notes of a shard lie. root: the bank's folder, or ``next`` in it."""
    return root / "shards" / f"{number:05d}.json"


def features_path(root: Path, number: int) -> Path:
    """Returns where the features of a shard lie."""
    return root / f"features-{number:05d}.npy"


def scales_path(features: Path) -> Path:
    """Returns where the scales of features that are bytes lie."""
    return features.with_name(features.name.replace("features", "scales"))


def is_noted(root: Path, number: int) -> bool:
    """Whether a shard was made, even if nothing of it could be used."""
    return notes_path(root, number).is_file()


def read_notes(root: Path, number: int) -> list[dict[str, Any]]:
    """Returns the entries of a shard's products. Raises UserError where the notes are damaged."""
    entries: list[dict[str, Any]] = io.read_json(notes_path(root, number))["pictures"]
    return entries


def write_notes(root: Path, number: int, entries: Sequence[dict[str, Any]]) -> None:
    """Writes the entries of a shard's products, without indentation: there are many."""
    io.write_text(notes_path(root, number), json.dumps({"pictures": list(entries)}, ensure_ascii=False) + "\n")


def noted(root: Path) -> list[int]:
    """Returns the numbers of the shards that have notes."""
    return sorted(int(path.stem) for path in (root / "shards").glob("*.json") if path.stem.isdecimal())


def free_root(folder: Path, number: int) -> str:
    """Returns where a new shard is written: "" = beside the others, where the number is free, else ``next``."""
    return NEXT if is_noted(folder, number) or features_path(folder, number).exists() else ""


def planned(folder: Path) -> str:
    """Returns the fingerprint of the products that the bank is being made of; "" where nothing is begun."""
    path = folder / "work.json"
    return str(io.read_json(path)["fingerprint"]) if path.is_file() else ""


def clear(folder: Path) -> None:
    """Deletes half-written files of a killed run, and completes a change of state that it began."""
    for root in (folder, folder / NEXT):
        for each in (root, root / "shards"):
            io.clear(each)
    if is_complete(folder):
        settle(folder, io.read_json(folder / NEXT / "complete.json")["shards"])


def is_complete(folder: Path) -> bool:
    """Whether the new state is complete and has begun to take the old one's place."""
    return (folder / NEXT / "complete.json").is_file()


def drop(folder: Path, numbers: Sequence[int]) -> None:
    """Deletes shards of the new state."""
    with io.explained(folder):
        for number in numbers:
            _delete(folder / NEXT, number)


def settle(folder: Path, shards: int) -> None:
    """Puts the new state in the place of the old one, all of whose ``shards`` are complete; shards beyond are deleted.

    The index goes first: a bank whose shards are of two states must not open.
    """
    new = folder / NEXT
    with io.explained(folder):
        (folder / "index.json").unlink(missing_ok=True)
        if noted(new) and not is_complete(folder):
            io.write_json(new / "complete.json", {"shards": shards})
        for number in noted(new):
            notes_path(folder, number).unlink(missing_ok=True)  # they do not describe the features that come
            for path in (features_path(new, number), scales_path(features_path(new, number))):
                if path.exists():
                    path.replace(folder / path.name)
            if all("reason" in entry for entry in read_notes(new, number)):
                features_path(folder, number).unlink(missing_ok=True)
                scales_path(features_path(folder, number)).unlink(missing_ok=True)
            notes_path(new, number).replace(notes_path(folder, number))
        for number in {number for root in (folder, folder / "shards") for number in _numbers(root) if number >= shards}:
            _delete(folder, number)
        if new.is_dir():
            for number in _numbers(new):  # without notes: a killed run was writing them
                _delete(new, number)
            (new / "complete.json").unlink(missing_ok=True)
            for each in (new / "shards", new):
                if each.is_dir() and not any(each.iterdir()):
                    each.rmdir()


def _numbers(root: Path) -> list[int]:
    matches = [NUMBERED.fullmatch(path.name) for path in root.iterdir()] if root.is_dir() else []
    return [int(match[1] or match[2]) for match in matches if match]


def _delete(root: Path, number: int) -> None:
    """Deletes a shard, its notes first."""
    for path in (notes_path(root, number), features_path(root, number), scales_path(features_path(root, number))):
        path.unlink(missing_ok=True)
