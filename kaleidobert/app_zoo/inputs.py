"""Inputs that a configuration names by an address (s3://, https://): the path of their copy in the cache takes its place.

The cache is the folder KALEIDO_CACHE, or ~/.cache/kaleidobert. What a command writes keeps the address: see configs/addresses.py.
"""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tqdm import tqdm

from kaleidobert.app_zoo.fetch import Bar, in_bytes
from kaleidobert.configs import AlignConfig, FetchConfig, RecordsConfig
from kaleidobert.configs.addresses import Address
from kaleidobert.errors import UserError
from kaleidobert.released.tf_checkpoint import prefix_of
from kaleidobert.remote import cache, downloads
from kaleidobert.remote.streams import MIRROR

CHECKPOINTS = ("init", "checkpoint", "source")  # keys of checkpoints: such an address may be that of a TensorFlow 1 one, without endings
WRITTEN = ("run", "bank", "catalogue", "into", "target")  # keys of what commands write

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound="DataclassInstance")


def local(config: C, dry: bool = False) -> C | None:
    """The configuration with the copy of every address in its place, fetched or brought up to date, and with the one checkpoint of a
    folder that init or checkpoint names.

    dry: nothing is fetched, but listed; None where anything would have to be. Raises UserError where an address stands for what a
    command writes, or for more than one file or folder, before anything is fetched; else as cache.cached.
    """
    _each(config, partial(_check, config))
    if not dry:
        return _chosen(_each(config, _fetch))
    counts: list[int] = []
    config = _each(config, partial(_look, counts))
    if any(counts):
        print("a dry run fetches nothing: what these files hold is checked once they are here")
        return None
    return _chosen(config)


def _chosen(config: C) -> C:
    """The TensorFlow 1 checkpoint itself where its folder, or one of its files, is named."""
    named = {key: getattr(config, key, None) for key in CHECKPOINTS[:2]}  # source: convert looks at it, for it may be data
    found = {key: prefix_of(path, key) for key, path in named.items() if isinstance(path, Path)}
    changed = {key: (named[key], path) for key, path in found.items() if path != named[key]}
    return dataclasses.replace(config, **{key: Address.of(old.url, path) if isinstance(old, Address) else path
                                          for key, (old, path) in changed.items()})


def _each(config: C, change: Callable[[str, Address], Path], prefix: str = "") -> C:
    """The configuration with change(key, address) in the place of every address."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value, key = getattr(config, field.name), f"{prefix}{field.name}"
        if isinstance(value, Address):
            changes[field.name] = change(key, value)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            changes[field.name] = _each(value, change, f"{key}.")
    return dataclasses.replace(config, **changes)


def _check(config: Any, key: str, address: Address) -> Address:
    if key in WRITTEN or key == "source.images" and isinstance(config, RecordsConfig) and config.source.writes_pictures:
        raise UserError(f"{key} is an address, and this command writes there", address.url, "a path of this machine",
                        "write to a folder and copy it afterwards")
    if key == "data.bank" and isinstance(config, AlignConfig):
        raise UserError("data.bank is an address, and align writes its links into the bank", address.url, "a path of this machine",
                        "copy the bank into a folder first, and copy it back afterwards")
    if "*" in address.url:
        raise UserError(f"{key} is an address with a pattern", address.url, "one file, or one folder", "fetch the files first")
    if key == "source.table" and config.source.picture_folder != config.source.table and config.source.images is None:
        raise UserError("source.images is not set, and what lies beside a table at an address is not fetched", address.url,
                        fix="set source.images to the folder of the pictures, by its path or address")
    if key == "manifest" and isinstance(config, FetchConfig) and config.into is None:
        raise UserError("into is not set, and there is no folder of a manifest at an address", address.url, fix="set into=FOLDER")
    return address


def _fetch(key: str, address: Address) -> Address:
    with _explained(key), tqdm(unit="B", unit_scale=True, unit_divisor=1024, desc=key, leave=False, delay=1) as bar:
        copy = cache.cached(address.url, downloads.DEFAULT, Bar(bar, ()), key in CHECKPOINTS)
    print(f"{key}: {address.url} is read from {copy}")
    return Address.of(address.url, copy)


def _look(counts: list[int], key: str, address: Address) -> Address:
    with _explained(key):
        copy, sizes = cache.missing(address.url, downloads.DEFAULT, key in CHECKPOINTS)
    counts.append(len(sizes))
    known_sizes = [size for size in sizes if size is not None]
    known = in_bytes(sum(known_sizes) if len(known_sizes) == len(sizes) else None)
    print(f"{key}: {address.url}: " + (f"would be fetched: {len(sizes):,} file(s), {known}" if sizes else f"is here, in {copy}"))
    return Address.of(address.url, copy)


@contextmanager
def _explained(key: str) -> Iterator[None]:
    """Names the key of the address in errors."""
    try:
        yield
    except UserError as error:
        fix = error.fix.replace(MIRROR, f"look at the address that {key} is")
        raise UserError(f"{key}: {error.what}", error.where, error.expected, fix) from None
