"""Captions in files: the formats of the COCO caption evaluation, and JSONL.

    results       [{"image_id": 1, "caption": "..."}, ...]                              or lines {"image_id": 1, "caption": "..."}
    annotations   {"images": [{"id": 1}, ...], "annotations": [{"image_id": 1, "id": 7, "caption": "..."}, ...]}
                                                                                    or lines {"image_id": 1, "references": ["...", ...]}

Ids may be numbers or texts; in pairs 1 and "1" are the same.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kaleidobert import io
from kaleidobert.errors import UserError

RESULTS = '[{"image_id": ..., "caption": "..."}, ...], or one such object per line'
ANNOTATIONS = '{"annotations": [{"image_id": ..., "id": ..., "caption": "..."}, ...]}, or {"image_id": ..., "references": [...]} per line'
Id = str | int


def write_results(path: str | Path, ids: Sequence[Id], captions: Sequence[str]) -> None:
    """Writes COCO results. Raises UserError where ids and captions do not fit together."""
    _check(path, ids, captions)
    io.write_json(path, [{"image_id": name, "caption": caption} for name, caption in zip(ids, captions)])


def write_annotations(path: str | Path, ids: Sequence[Id], references: Sequence[Sequence[str]]) -> None:
    """Writes COCO annotations, references numbered from 1. Raises UserError as ``write_results``, and for an id without references."""
    _check(path, ids, references)
    for name, several in zip(ids, references):
        _references(list(several), name, str(path))
    pairs = [(name, caption) for name, several in zip(ids, references) for caption in several]
    notes = [{"image_id": name, "id": number, "caption": caption} for number, (name, caption) in enumerate(pairs, 1)]
    io.write_json(path, {"images": [{"id": name} for name in ids], "annotations": notes})


def read_results(path: str | Path) -> dict[str, str]:
    """Reads {id as text: caption} of COCO results or JSONL.

    Raises UserError with file and line (or entry) for what is not a caption, a repeated id, and a file that is empty or cut off.
    """
    captions: dict[str, str] = {}
    whole = _whole(path, RESULTS)
    if isinstance(whole, dict):
        raise UserError("an object, perhaps annotations in place of results", str(path), RESULTS)
    for entry, where in _lines(path, RESULTS) if whole is None else _entries(whole, str(path)):
        name, caption = _id(entry, "image_id", where, RESULTS), entry.get("caption")
        if not isinstance(caption, str):
            raise UserError(f"the caption of image {name!r} is {caption!r}", where, "a text; an empty one is allowed")
        if name in captions:
            raise UserError(f"image {name!r} has a second caption", where, "one caption per image")
        captions[name] = caption
    return _not_empty(captions, path, RESULTS)


def read_references(path: str | Path) -> dict[str, list[str]]:
    """Reads {id as text: references} of COCO annotations or JSONL, in the order of the images, or of lines.

    Raises UserError as ``read_results``, and for an image without references.
    """
    references: dict[str, list[str]] = {}
    whole = _whole(path, ANNOTATIONS)
    if whole is None:
        for entry, where in _lines(path, ANNOTATIONS):
            name = _id(entry, "image_id", where, ANNOTATIONS)
            if name in references:
                raise UserError(f"image {name!r} stands here a second time", where, "all references of an image in one line")
            references[name] = _references(entry.get("references"), name, where)
        return _not_empty(references, path, ANNOTATIONS)
    if not isinstance(whole, dict) or not isinstance(whole.get("annotations"), list):
        raise UserError("no annotations", str(path), ANNOTATIONS)
    for entry, where in _entries(whole.get("images", []), f"{path}, images"):
        name = _id(entry, "id", where, ANNOTATIONS)
        if name in references:
            raise UserError(f"image {name!r} stands here a second time", where, "each image once")
        references[name] = []
    for entry, where in _entries(whole["annotations"], f"{path}, annotations"):
        name = _id(entry, "image_id", where, ANNOTATIONS)
        if name not in references and whole.get("images"):
            raise UserError(f"image {name!r} is not among the images", where, "an id of the list images")
        references.setdefault(name, []).extend(_references([entry.get("caption")], name, where))
    for name, several in references.items():
        _references(several, name, str(path))
    return _not_empty(references, path, ANNOTATIONS)


def paired(captions: Mapping[str, str], references: Mapping[str, Sequence[str]],
           where: str = "captions") -> tuple[list[str], list[str], list[list[str]]]:
    """Returns (ids, captions, references of each), in the order of the references. Raises UserError where an id is on one side only."""
    for here, there, what in ((references, captions, "no caption"), (captions, references, "no references")):
        missing = [name for name in here if name not in there]
        if missing:
            raise UserError(f"{len(missing)} of {len(here)} images have {what}, the first of them {missing[0]!r}", where,
                            "the same ids in captions and references")
    return list(references), [captions[name] for name in references], [list(several) for several in references.values()]


def _check(path: str | Path, ids: Sequence[Id], values: Sequence[Any]) -> None:
    if len(ids) != len(values) or not len(ids):
        raise UserError(f"{len(ids)} ids, {len(values)} captions or references", str(path), "as many of each, at least one")
    if len(set(map(str, ids))) < len(ids):
        raise UserError("an id comes twice", str(path), "different ids")


def _text(path: str | Path) -> str:
    with io.readable(path):
        return Path(path).read_text(encoding="utf-8-sig")


def _whole(path: str | Path, expected: str) -> Any:
    """Returns the value of a file that is one JSON document and not one line of JSONL; None for JSONL."""
    text = _text(path)
    if not text.strip():
        raise UserError("the file is empty", str(path), expected)
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        first = text.lstrip().split("\n", 1)[0].strip()
        if first.startswith("{") and first.endswith("}"):
            return None  # lines, which are read one by one
        raise UserError(f"not valid JSON, perhaps cut off ({error.msg})", f"{path}, line {error.lineno}", expected,
                        "make the file again") from None
    return None if isinstance(whole, dict) and "image_id" in whole else whole


def _lines(path: str | Path, expected: str) -> Iterator[tuple[dict[str, Any], str]]:
    for number, line in enumerate(_text(path).split("\n"), 1):
        where = f"{path}, line {number}"
        if line.strip():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"not valid JSON, perhaps cut off ({error.msg})", where, expected) from None
            yield _object(entry, where), where


def _entries(entries: Any, where: str) -> Iterator[tuple[dict[str, Any], str]]:
    if not isinstance(entries, list):
        raise UserError("not a list", where, "a list of objects")
    for number, entry in enumerate(entries):
        location = f"{where}, entry {number} (from 0)"
        yield _object(entry, location), location


def _object(entry: Any, where: str) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise UserError(f"{str(entry)[:60]!r} is no object", where, '{"image_id": ..., ...}')
    return entry


def _id(entry: Mapping[str, Any], key: str, where: str, expected: str) -> str:
    name = entry.get(key)
    if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
        raise UserError(f"{key} is {name!r}" if key in entry else f"there is no {key}", where, expected)
    return str(name)


def _references(several: Any, name: Id, where: str) -> list[str]:
    if not isinstance(several, list) or not several:
        raise UserError(f"image {name!r} has no references", where, "one or more")
    if not all(isinstance(other, str) and other.strip() for other in several):
        raise UserError(f"image {name!r} has an empty reference", where, "texts")
    return several


def _not_empty(read: dict, path: str | Path, expected: str) -> dict:
    if not read:
        raise UserError("the file holds no captions", str(path), expected)
    return read
