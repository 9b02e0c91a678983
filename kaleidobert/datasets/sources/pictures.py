"""The pictures that a row of a table names: several in a cell, and files whose names are spelled otherwise than in the table."""

import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from kaleidobert.datasets import addresses
from kaleidobert.datasets.arrow_tables import Embedded
from kaleidobert.datasets.products import H5_ROW

ENDING = re.compile(r"\.(?:jpe?g|jfif|png|webp|gif|bmp|tiff?|avif)(?:[?#]\S*)?$", re.IGNORECASE)
ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.-]+:)?//[^/]", re.IGNORECASE)
ABSOLUTE = re.compile(r"[\\/]|[a-zA-Z]:[\\/]|file:")  # a path of another machine: its folders say nothing here
ANOTHER = re.compile(r"(?:\s*[|;,]\s*|\s+)(?=(?:https?|s3|ftp)://|//[^/])", re.IGNORECASE)  # what stands between two addresses
QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
SEPARATORS = ("\n", "|", ";", ",")  # of the pictures of a cell, in the order in which they are tried
NAME_KEYS = ("path", "file_name", "src", "url", "link", "image")  # of an object that stands for a picture
SHOWN = 3
DEEPEST = 12  # folders of an address, counted from its file, that are looked for
ABSENT = ("there is no such picture", "the picture is an address that cannot be fetched (https://host/path and s3://bucket/path can)")
MOVED = "in the folder"
NAMES_ALONE = 2  # tables of the index from here on know no folders


def split(value: Any, separator: str = "") -> list[str]:
    """Returns the pictures of a cell. Without a given separator a cell is split where every piece ends like the name of a picture;
    addresses are split where another one begins, and a list as JSON or Python writes it is one.

    >>> split("a.jpg| b.jpg"), split("red, blue.jpg"), split(["a.png", "b.png"])
    (['a.jpg', 'b.jpg'], ['red, blue.jpg'], ['a.png', 'b.png'])
    >>> split("https://h/w_1,h_1/a.jpg"), split("https://h/p?id=1, https://h/p?id=2"), split('["a.jpg", "b.jpg"]')
    (['https://h/w_1,h_1/a.jpg'], ['https://h/p?id=1', 'https://h/p?id=2'], ['a.jpg', 'b.jpg'])
    """
    if value is None or isinstance(value, bytes):
        return []
    if isinstance(value, Embedded):
        return [value]
    if isinstance(value, dict):  # of the interfaces of shops
        return split(next((value[key] for key in NAME_KEYS if value.get(key)), None))
    if isinstance(value, (list, tuple)):
        return [name for item in value for name in split(item, separator)]
    text = str(value).strip()
    if not separator and text.startswith("[") and text.endswith("]") and (items := _items(text)) is not None:
        return split(items)
    if not separator and ADDRESS.match(text):
        return ANOTHER.split(text.rstrip("|;, \n"))
    for mark in (separator.replace("\\n", "\n"),) if separator else SEPARATORS:
        pieces = [piece.strip() for piece in text.split(mark) if piece.strip()]
        if separator or mark in text and all(map(ENDING.search, pieces)):
            return pieces
    return [text] if text else []


def _items(text: str) -> list[Any] | None:
    """Returns what a list in a text holds, as JSON or as programs in Python write it; None where it is none."""
    try:
        return list(json.loads(text))
    except (ValueError, RecursionError):
        names = [one or other for one, other in QUOTED.findall(text)]
        return names if names and "{" not in text else None


class Match(NamedTuple):
    """path: of the file, or what the cell names where there is none; fault: why there is none."""

    path: str
    fault: str = ""


class PictureFolder:
    """Files by the names that tables give them: verbatim, and otherwise by the one file that is spelled alike.

    spelled: {how the name differs: number of pictures that were found so}; ambiguous: lines for people; addresses: {address: path} of the
    pictures that have to be fetched, each into its path in the cache.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.spelled: Counter[str] = Counter()
        self.ambiguous: list[str] = []
        self.addresses: dict[str, Path] = {}
        self._owners: dict[str, str] = {}  # {file: the first name that was found to be it}
        self._files: list[dict[str, list[str]]] | None = None

    def find(self, name: str) -> Match:
        """Returns the file that a cell names. A name without a folder, from the root or an address may also be that of a file in a folder
        below."""
        if isinstance(name, Embedded):
            return Match(str(name))
        verbatim = str(self.folder / name)
        if H5_ROW.fullmatch(verbatim) or os.path.isfile(verbatim):
            return Match(verbatim)
        if ADDRESS.match(name):
            said = len(self.ambiguous)
            match = self._alike("//" + re.split("[?#]", name.partition("//")[2])[0], verbatim)
            if not match.fault:  # it has been downloaded into the folder
                return match
            del self.ambiguous[said:]
            address = addresses.of(name)
            if address:
                self.addresses[address] = addresses.copy(address)
                return Match(address)
            return Match(addresses.shown(name), f"{ABSENT[1]}; {addresses.shown(name)}")
        return self._alike(name, verbatim)

    def _alike(self, name: str, verbatim: str) -> Match:
        """Returns the only file that is spelled like a name, or a match with the reason why there is none."""
        key = _key(name)
        tries = [("in case, accents or slashes", 0, key), ("in the ending", 1, _stem(key))]
        inside = key.removeprefix(f"{_key(self.folder.name, quoted=False)}/")
        if inside != key:  # images/a.jpg, where the folder of pictures is images itself
            tries += [(MOVED, 0, inside), ("in folder and ending", 1, _stem(inside))]
        if "/" not in key or ABSOLUTE.match(name):
            last = key.rpartition("/")[2]
            tries += [(MOVED, 0, end) for end in _ends(key)] + [(MOVED, 2, last), ("in folder and ending", 3, _stem(last))]
        for how, number, each in tries:
            files = [file for file in self._index()[number].get(each, []) if os.path.isfile(self.folder / file)]  # links may be broken
            if len(files) == 1 or len({os.path.realpath(self.folder / file) for file in files}) == 1:
                owner = self._owners.setdefault(files[0], name)
                if (how == MOVED or number >= NAMES_ALONE) and owner != name:  # front.jpg of two folders that are not here
                    self.ambiguous.append(f"{owner!r} and {name!r} may both be {files[0]!r}")
                    return Match(verbatim, f"the file that the picture may be is another name's, too; {name}")
                self.spelled[how] += 1
                return Match(str(self.folder / files[0]))
            if files:
                more = ", ..." if len(files) > SHOWN else ""
                self.ambiguous.append(f"{name!r} may be {' or '.join(map(repr, files[:SHOWN]))}{more}")
                return Match(verbatim, f"the name of the picture fits {len(files)} files; {name}")
        return Match(verbatim, f"{ABSENT[0]}; {name}")

    def describe(self) -> str:
        """Returns where pictures are looked for, for people."""
        if not self.folder.is_dir():
            return f"{self.folder}, and there is no such folder"
        files = [path for paths in self._index()[0].values() for path in paths]
        return f"{self.folder} ({len(files):,} pictures{f', such as {files[0]!r}' if files else ''})"

    def like(self, names: list[str]) -> str:
        """Returns the template {} of file names of which ``names`` are the changing part, "" where there is none."""
        for name in names:
            files = self._index()[1].get(_key(name), []) + self._index()[3].get(_key(name), [])
            if files:
                folder, _, file = files[0].rpartition("/")
                return f"{folder}/{{}}{os.path.splitext(file)[1]}".lstrip("/")
        return ""

    def _index(self) -> list[dict[str, list[str]]]:
        """Returns {name: files} by path, path without ending, name and name without ending; the folder is walked on the first miss."""
        if self._files is None:
            self._files = [{}, {}, {}, {}]
            for path in walk(self.folder):
                key = _key(path, quoted=False)
                for table, each in zip(self._files, (key, _stem(key), key.rpartition("/")[2], _stem(key).rpartition("/")[2])):
                    table.setdefault(each, []).append(path)
        return self._files


def walk(folder: Path) -> Iterator[str]:
    """Yields the pictures below a folder in alphabetical order, relative to it, also behind links; hidden folders are left out."""
    return (path for path in _files(folder) if ENDING.search(path))


def others(folder: Path) -> Counter[str]:
    """Returns {ending: number} of the files below a folder that are no pictures by their ending."""
    return Counter(os.path.splitext(path)[1].lower() or "no ending" for path in _files(folder) if not ENDING.search(path))


def _files(folder: Path) -> Iterator[str]:
    above: dict[str, frozenset[str]] = {}  # {folder: real paths of it and of those above it}, so that a link to one of them is not followed
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        line = above.pop(parent, frozenset())
        if real in line:
            folders[:] = []
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        above |= {os.path.join(parent, name): line | {real} for name in folders}
        below = os.path.relpath(parent, folder).replace(os.sep, "/")
        prefix = "" if below == "." else f"{below}/"
        yield from (prefix + name for name in sorted(files) if not name.startswith("."))


def _key(name: str, quoted: bool = True) -> str:
    """Returns a name without what people and programs spell differently: %20, Unicode form, case, slashes, ./ before it."""
    name = unicodedata.normalize("NFC", unquote(name) if quoted else name).casefold().replace("\\", "/")
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _ends(key: str) -> list[str]:
    """Returns the ends of a path that have a folder, the longest first: an address has a host, and a shop's server folders of its own.

    >>> _ends("shop.example/uploads/2020/a.jpg")
    ['uploads/2020/a.jpg', '2020/a.jpg']
    """
    parts = key.split("/")[-DEEPEST:]
    return ["/".join(parts[start:]) for start in range(len(parts) < DEEPEST, len(parts) - 1)]


def _stem(key: str) -> str:
    return ENDING.sub("", key)
