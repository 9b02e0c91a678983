"""Addresses in place of paths: ``data.bank=s3://bucket/banks/mine``.

A configuration keeps the address and commands read the copy: an Address is the path of the copy, and is written down as its url.
"""

import re
from pathlib import Path

from kaleidobert.errors import UserError

SCHEMES = ("s3", "https", "http")
SECRET = "@?#"  # what stands beside a user, a password or a signature in an address


class Address(type(Path())):  # type: ignore[misc]  # Path itself has no subclasses before Python 3.12
    """The path of the local copy of ``url``, which names nothing until the copy is made. Of paths made from it url is ""."""

    url = ""

    @classmethod
    def of(cls, url: str, copy: str | Path = "") -> "Address":
        """Returns ``url``, with the path of its copy where there is one."""
        path = cls(copy or url)
        path.url = url
        return path

    def __reduce__(self) -> tuple:
        return Address.of, (self.url, str(self))


def parse(value: str, key: str, where: str) -> Address | None:
    """Returns the address that a value of a configuration is; None of a path. Raises UserError for one that cannot be fetched or may hold a
    password."""
    start = re.match(r"([a-z][a-z0-9+.-]+):/", value, re.IGNORECASE)
    if not start:
        return None
    if is_secret(value):  # configurations are printed and kept
        raise UserError(f"{key} is an address with one of {SECRET}, beside which passwords stand", where, "an address without them",
                        "put credentials into ~/.netrc for https, into the environment or ~/.aws for S3")
    if start[1] not in SCHEMES or not value.startswith(f"{start[1]}://"):
        raise UserError(f"{key} is {value!r}", where, "a local path, s3://bucket/path or https://host/path")
    return Address.of(value)


def is_secret(text: str) -> bool:
    """Whether a text is, or holds, an address that may hold a password."""
    return ":/" in text and any(mark in text for mark in SECRET)


def written(path: Path) -> str:
    """Returns how a path stands in a configuration."""
    return getattr(path, "url", "") or str(path)
