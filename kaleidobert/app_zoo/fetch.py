"""``kaleidobert fetch``: data and checkpoints of a manifest; and the inputs of any command that a configuration names by an address."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tqdm import tqdm

from kaleidobert.configs import AlignConfig, FetchConfig, RecordsConfig
from kaleidobert.configs.loader import Address
from kaleidobert.errors import UserError
from kaleidobert.io import check_folder, check_room
from kaleidobert.released.tf_checkpoint import prefix_of
from kaleidobert.remote import cache, downloads, manifests
from kaleidobert.remote.manifests import File
from kaleidobert.remote.streams import MIRROR, redacted


def dry_run(config: FetchConfig) -> None:
    """Lists names and sizes, and what of it is there."""
    chosen, into = _chosen(config)
    for file in chosen:
        print(f"{in_bytes(file.size):>12}  {_state(file, into, config.mirror):<18}  {file.name}")
    known = [file.size for file in chosen if file.size is not None]
    sizes = f"{in_bytes(sum(known))} in the {len(known):,} of a known size" if known else "whose sizes the manifest does not know"
    source = redacted(config.mirror) if config.mirror else "the addresses of the manifest"
    print(f"{len(chosen):,} files, {sizes}, into {into}, from {source}")


def run(config: FetchConfig) -> None:
    """Fetches, checks and unpacks; an interrupted run continues where it stopped."""
    chosen, into = _chosen(config)
    options = downloads.Options(config.workers, config.attempts, endpoint=config.endpoint, keep_archives=config.keep_archives)
    with tqdm(unit="B", unit_scale=True, unit_divisor=1024, desc="fetch") as bar:
        downloads.fetch(chosen, into, config.mirror, options, Bar(bar, chosen))
    unchecked = sum(not file.sha256 for file in chosen)
    print(f"{len(chosen):,} files in {into}" + (f"; {unchecked:,} have no SHA-256 in the manifest: only their length was compared with "
                                                "what the server said" if unchecked else ""))


class Bar:
    """One bar over all files: progress(name, bytes here, bytes in all)."""

    def __init__(self, bar: tqdm, files: tuple[File, ...]):
        self.bar, self.total = bar, {file.name: file.size or 0 for file in files}
        self.done: dict[str, int] = {}

    def __call__(self, name: str, done: int, total: int | None) -> None:
        self.done[name], self.total[name] = done, total or self.total.get(name, 0)
        self.bar.total = max(sum(self.total.values()), sum(self.done.values()))
        self.bar.update(sum(self.done.values()) - self.bar.n)
        self.bar.set_postfix_str(Path(name).name[-24:], refresh=False)


def _chosen(config: FetchConfig) -> tuple[tuple[File, ...], Path]:
    """Returns the chosen files of the manifest, and their folder. Raises UserError where that folder cannot be written, or
    its disk has no room for those of a known size that are not there."""
    into = config.into or config.manifest.parent
    chosen = manifests.select(manifests.read(config.manifest), config.only, str(config.manifest))
    check_folder(into, "choose another folder with into=...")
    missing = [file for file in chosen if _state(file, into, config.mirror) != "there"]
    begun = [unfinished for file in missing if (unfinished := _unfinished(into / file.name)).is_file()]
    needed = sum(file.size or 0 for file in missing) - sum(unfinished.stat().st_size for unfinished in begun)
    check_room(into, needed, f"{len(missing):,} files", "free some space, or choose another folder with into=..., or "
               "fewer files with only=...")
    return chosen, into


def _state(file: File, into: Path, mirror: str) -> str:
    target = into / file.name
    if file.unpack and (into / file.unpack).is_dir() or target.exists():
        return "there"
    unfinished = _unfinished(target)
    if unfinished.exists():
        return f"{in_bytes(unfinished.stat().st_size)} there"
    return "" if file.url or mirror else "no public address"


def _unfinished(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def in_bytes(count: int | None) -> str:
    """Returns a number of bytes as a person reads it; ? of None."""
    if count is None:
        return "?"
    return next((f"{count / 1024**k:,.1f} {unit}" for k, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")) if count >= 1024**k), f"{count} B")


# --- Inputs that a configuration names by an address (s3://, https://): the path of their copy in the cache takes its place
#
# The cache is the folder KALEIDO_CACHE, or ~/.cache/kaleidobert. What a command writes keeps the address: see configs/loader.py.


CHECKPOINTS = ("init", "checkpoint", "source")  # keys of checkpoints: such an address may be that of a TensorFlow 1 one, without endings
WRITTEN = ("run", "bank", "catalogue", "into", "target", "index", "out", "page")  # keys of what commands write

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound="DataclassInstance")


def localize(config: C, dry: bool = False) -> C | None:
    """Returns the configuration with the copy of every address in its place, fetched or brought up to date, and with the one checkpoint of
    a folder that init or checkpoint names.

    dry: nothing is fetched, but listed; None where anything would have to be. Raises UserError where an address stands for what a
    command writes, or for more than one file or folder, before anything is fetched; else as cache.cached.
    """
    _each(config, partial(_check, config))
    if not dry:
        return _checkpoints(_each(config, _fetch))
    counts: list[int] = []
    config = _each(config, partial(_look, counts))
    if any(counts):
        print("a dry run fetches nothing: what these files hold is checked once they are here")
        return None
    return _checkpoints(config)


def _checkpoints(config: C) -> C:
    """Returns the TensorFlow 1 checkpoint itself where its folder, or one of its files, is named."""
    named = {key: getattr(config, key, None) for key in CHECKPOINTS[:2]}  # source: convert looks at it, for it may be data
    result = {key: prefix_of(path, key) for key, path in named.items() if isinstance(path, Path)}
    changed = {key: (named[key], path) for key, path in result.items() if path != named[key]}
    return dataclasses.replace(config, **{key: Address.of(old.url, path) if isinstance(old, Address) else path
                                          for key, (old, path) in changed.items()})


def _each(config: C, change: Callable[[str, Address], Path], prefix: str = "") -> C:
    """Returns the configuration with change(key, address) in the place of every address."""
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
