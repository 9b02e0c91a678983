"""Pictures that a table names by address: each stands in the cache, where remote/pictures.py fetches it to, and is read from there."""

import hashlib
import re
from pathlib import Path
from urllib.parse import quote

from kaleidobert import io
from kaleidobert.errors import UserError

SCHEMES = ("http://", "https://", "s3://")
PLAIN = "%:/?#[]@!$&'()*+,;=~"  # stand in an address as they are
STRAY = re.compile(r"%(?![0-9a-fA-F]{2})")  # a sign of its own, not the beginning of a quoted one
ENDING = re.compile(r"\.\w{2,5}$")


def of(name: str) -> str:
    """Returns the address that a cell names, as it is asked for; "" where it is none that can be fetched. One with a password is none.

    >>> of("//cdn.example/a b.jpg?v=1"), of("HTTPS://Shop.example/\u00e9.png"), of("ftp://shop.example/a.png")
    ('https://cdn.example/a%20b.jpg?v=1', 'https://shop.example/%C3%A9.png', '')
    >>> of("https://b\u00fccher.example/50%.png")
    'https://xn--bcher-kva.example/50%25.png'
    """
    scheme, _, rest = (f"https:{name}" if name.startswith("//") else name).strip().partition("://")
    host, _, path = rest.partition("/")
    start = f"{scheme.lower()}://"
    if start not in SCHEMES or not host or not path or "@" in host:
        return ""
    if start == "s3://":
        return f"{start}{host}/{path}"
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            return ""
    path = quote(STRAY.sub("%25", path), safe=PLAIN).partition("#")[0]
    return f"{start}{host.lower()}/{path}"


def shown(name: str) -> str:
    """Returns a path as it is, and an address for messages and files: without user, password, query and fragment.

    >>> shown("https://me:secret@cdn.example/a.jpg?sig=secret"), shown("a?b.jpg")
    ('https://cdn.example/a.jpg', 'a?b.jpg')
    """
    before, sign, rest = name.partition("//")
    if not sign or before and not before.endswith(":"):
        return name
    host, slash, path = rest.partition("/")
    return re.split("[?#]", f"{before}//{host.rpartition('@')[2]}{slash}{path}")[0]


def is_one(path: str | Path) -> bool:
    """Whether a picture is named by its address."""
    return str(path).startswith(SCHEMES)


def copy(address: str) -> Path:
    """Returns the path in the cache at which the picture of an address stands, fetched or not."""
    digest = hashlib.sha256(address.encode()).hexdigest()
    ending = ENDING.search(address.partition("?")[0])
    return io.cache_root() / "pictures" / digest[:2] / (digest[2:32] + (ending[0].lower() if ending else ""))


def local(path: str | Path) -> Path:
    """Returns where a picture lies: of an address its copy, a path as it is."""
    return copy(str(path)) if is_one(path) else Path(path)


def note(address: str, fault: str) -> None:
    """Notes why the picture of an address cannot be fetched; "" takes the note away."""
    path = _note(address)
    if fault:
        io.write_json(path, {"fault": fault})
    else:
        with io.explained(path):
            path.unlink(missing_ok=True)


def fault(address: str) -> str:
    """Returns why the picture of an address is not there."""
    try:
        return str(io.read_json(_note(address))["fault"])
    except (UserError, KeyError, TypeError):
        return "the picture has not been fetched"


def _note(address: str) -> Path:
    path = copy(address)
    return path.with_name(f"{path.name}.fault.json")
