"""``kaleidobert fetch``: data and checkpoints named by a manifest."""

from pathlib import Path

from tqdm import tqdm

from kaleidobert.configs import FetchConfig
from kaleidobert.io import check_folder, check_room
from kaleidobert.remote import downloads, manifests
from kaleidobert.remote.manifests import File
from kaleidobert.remote.streams import redacted


def dry_run(config: FetchConfig) -> None:
    """List names and sizes, and what of it is there."""
    chosen, into = _chosen(config)
    for file in chosen:
        print(f"{in_bytes(file.size):>12}  {_state(file, into, config.mirror):<18}  {file.name}")
    known = [file.size for file in chosen if file.size is not None]
    sizes = f"{in_bytes(sum(known))} in the {len(known):,} of a known size" if known else "whose sizes the manifest does not know"
    source = redacted(config.mirror) if config.mirror else "the addresses of the manifest"
    print(f"{len(chosen):,} files, {sizes}, into {into}, from {source}")


def run(config: FetchConfig) -> None:
    """Fetch, check and unpack; an interrupted run continues where it stopped."""
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
    """The files of the manifest that are asked for, and where they come. UserError where that folder cannot be written, or its disk
    has no room for those of a known size that are not there."""
    into = config.into or config.manifest.parent
    chosen = manifests.select(manifests.read(config.manifest), config.only, str(config.manifest))
    check_folder(into, "choose another folder with into=...")
    missing = [file for file in chosen if _state(file, into, config.mirror) != "there"]
    parts = [part for file in missing if (part := _part(into / file.name)).is_file()]
    needed = sum(file.size or 0 for file in missing) - sum(part.stat().st_size for part in parts)
    check_room(into, needed, f"{len(missing):,} files", "free some space, or choose another folder with into=..., or "
               "fewer files with only=...")
    return chosen, into


def _state(file: File, into: Path, mirror: str) -> str:
    target = into / file.name
    if file.unpack and (into / file.unpack).is_dir() or target.exists():
        return "there"
    part = _part(target)
    if part.exists():
        return f"{in_bytes(part.stat().st_size)} there"
    return "" if file.url or mirror else "no public address"


def _part(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def in_bytes(count: int | None) -> str:
    """A number of bytes as a person reads it; ? of None."""
    if count is None:
        return "?"
    return next((f"{count / 1024**k:,.1f} {unit}" for k, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")) if count >= 1024**k), f"{count} B")
