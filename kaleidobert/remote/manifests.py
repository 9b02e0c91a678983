"""Manifests: lists of files with their addresses, sizes and hashes.

A manifest is JSON, in which only ``files`` and ``name`` are required:

    {"address": "https://host/folder/", "ask": "whom to ask for what has no address",
     "files": [{"name": "raw/pictures.tar.gz", "url": "pictures.tar.gz", "size": 1048576, "sha256": "...", "unpack": "raw/pictures"}]}

``name`` is the path below the target folder and below a mirror. ``url`` is relative to ``address`` unless it is absolute; a file
without one can be fetched from a mirror only. ``unpack`` names the folder that the archive becomes.
"""

import difflib
import fnmatch
import json
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kaleidobert.errors import UserError
from kaleidobert.remote.archives import safe_name

PACKAGED = Path(__file__).parent / "lists"  # dataset.json and checkpoint.json: the files of the 2021 release
KEYS = {"name": str, "url": str, "size": int, "sha256": str, "unpack": str, "ask": str}


@dataclass(frozen=True)
class File:
    """A file of a manifest. size: bytes, None = unknown; sha256: "" = unknown; unpack: a folder, "" = no archive; ask: a person."""

    name: str
    url: str = ""
    size: int | None = None
    sha256: str = ""
    unpack: str = ""
    ask: str = ""


def read(path: str | Path) -> tuple[File, ...]:
    """Reads the files of a manifest. Raises UserError that names the wrong entry.

    A path that ends in dataset/manifest.json or checkpoint/manifest.json and does not exist means the manifest that the package holds.
    """
    folder, name = Path(path).parts[-2:] if len(Path(path).parts) > 1 else ("", "")
    packaged = PACKAGED / f"{folder}.json"
    if name == "manifest.json" and not Path(path).exists() and packaged.is_file():
        path = packaged
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the manifest cannot be read ({error})", str(path), fix="name a manifest, such as dataset/manifest.json") from None
    return parse(text, str(path))


def parse(text: str, where: str) -> tuple[File, ...]:
    """Parses the text of a manifest; where: its origin, for messages."""
    try:
        tree = json.loads(text)
        address, ask, rows = tree.get("address", ""), tree.get("ask", ""), tree["files"]
        entries = [(row, f"{where}, file {count} ({row.get('name', 'without a name')})") for count, row in enumerate(rows, 1)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"not a manifest ({type(error).__name__}: {error})", where,
                        'JSON such as {"files": [{"name": ..., "url": ...}]}') from None
    files = tuple(_entry(row, address, ask, origin) for row, origin in entries)
    names = [file.name for file in files]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UserError(f"names {twice!r} twice", where, "every file once")
    return files


def _entry(row: dict, address: str, ask: str, where: str) -> File:
    odd = [key for key, value in row.items() if key not in KEYS or value is not None and type(value) is not KEYS[key]]
    if odd or not row.get("name"):
        raise UserError(f"{odd[0]!r} is unknown or of a wrong type" if odd else "has no name", where, ", ".join(
            f"{key} ({type_.__name__})" for key, type_ in KEYS.items()))
    values = {key: value for key, value in row.items() if value is not None}
    sha256 = values.get("sha256", "").lower()
    if sha256 and (len(sha256) != 64 or set(sha256) - set("0123456789abcdef")):
        raise UserError("sha256 is none", where, "64 hexadecimal digits")
    url = values.get("url", "")
    if url and "://" not in url:
        url = address.rstrip("/") + "/" + url
    for key in ("name", "unpack"):
        if values.get(key):
            values[key] = str(safe_name(values[key], where))
            if values[key] == ".":
                raise UserError(f"{key} names the target folder itself", where, "a name below it")
    return File(**{"ask": ask} | values | {"url": url, "sha256": sha256})


def select(files: Sequence[File], only: Sequence[str], where: str = "") -> tuple[File, ...]:
    """Returns the files that match a name, folder or pattern (retrieve/*i2t*), or all without any; UserError for a word without match."""
    def fits(file: File, word: str) -> bool:
        return file.name == word or file.name.startswith(word.rstrip("/") + "/") or fnmatch.fnmatchcase(file.name, word)

    for word in only:
        if not any(fits(file, word) for file in files):
            known = sorted({file.name.partition("/")[0] for file in files} | {file.name for file in files})
            near = difflib.get_close_matches(word, known, 1, 0.5)
            raise UserError(f"{word!r} fits no file of the manifest", where, f"names, patterns or folders such as {', '.join(known[:3])}",
                            f"did you mean {near[0]!r}?" if near else "")
    return tuple(file for file in files if not only or any(fits(file, word) for word in only))


def address(file: File, mirror: str = "") -> str:
    """Returns the address of a file, below the mirror (an address or a local folder) if one is named. UserError where there is none."""
    if not mirror:
        if file.url:
            return file.url
        raise UserError("has no public address", file.name, fix=f"{file.ask or 'ask its owner for it'}; "
                        "with the file at hand, name its folder or address with mirror=URL_OR_FOLDER, or put it there by hand")
    if "://" not in mirror:
        return str(Path(mirror).expanduser() / file.name)
    return f"{mirror.rstrip('/')}/{file.name if mirror.startswith('s3://') else urllib.parse.quote(file.name)}"
