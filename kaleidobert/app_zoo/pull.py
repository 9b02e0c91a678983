"""``kaleidobert pull``: a run, a bank or an index that ``kaleidobert push`` copied, every file compared with its SHA-256.

It is fetched into a folder beside the target (.NAME.pull), with which the same command continues, and appears there when all of it is
right.
"""

import shutil
import tempfile
from pathlib import Path

from tqdm import tqdm

from kaleidobert import io
from kaleidobert.app_zoo import fetch, push
from kaleidobert.app_zoo.push import MANIFEST, Listing
from kaleidobert.configs.sharing import PullConfig
from kaleidobert.errors import UserError
from kaleidobert.io import sha256
from kaleidobert.remote import downloads, uploads
from kaleidobert.remote.downloads import Options
from kaleidobert.remote.manifests import File
from kaleidobert.remote.streams import redacted


def dry_run(config: PullConfig) -> None:
    """Lists what would be fetched."""
    _check_target(config)
    found = _listing(config)
    for file in found.files:
        print(f"{fetch.in_bytes(file.size):>12}  {file.name}")
    print(f"{found.what}: {len(found.files):,} files, {fetch.in_bytes(_size(found))}, into {config.target}")


def run(config: PullConfig) -> None:
    """Fetches and checks; an interrupted run continues where it stopped."""
    _check_target(config)
    found, begun = _listing(config), config.target.with_name(f".{config.target.name}.pull")
    with io.locked(begun, fix="wait until it has ended, or choose another folder"):
        _check_target(config)  # another process may have been faster
        for file in found.files:  # of an earlier manifest, or damaged
            if (begun / file.name).is_file() and sha256(begun / file.name) != file.sha256:
                (begun / file.name).unlink()
        missing = [file for file in found.files if not (begun / file.name).is_file()]
        io.check_room(begun, sum(file.size or 0 for file in missing), f"{len(missing):,} files")
        if config.source.startswith(uploads.HUB):
            _of_hub(config.source, found, begun)
        else:
            with tqdm(unit="B", unit_scale=True, unit_divisor=1024, desc="pull") as bar:
                downloads.fetch(found.files, begun, config.source.rstrip("/"), _options(config), fetch.Bar(bar, found.files))
        kept = {MANIFEST, *(file.name for file in found.files)}
        for path in sorted(begun.rglob("*"), reverse=True):  # of an earlier manifest
            if path.is_file() and path.relative_to(begun).as_posix() not in kept and path.name != io.LOCK:
                path.unlink()
        io.write_text(begun / MANIFEST, push.manifest(found.what, list(found.files)))
        _check_target(config)
        begun.rename(config.target)
    (config.target / io.LOCK).unlink(missing_ok=True)
    print(f"{found.what}: {len(found.files):,} files, {fetch.in_bytes(_size(found))}, each as its SHA-256 says, in {config.target}")
    if found.what == "run":
        print(f'  try: kaleidobert.load("{config.target}", bank=FOLDER), with the bank that it was trained on, pulled by its own address')


def _check_target(config: PullConfig) -> None:
    if config.target.exists():
        raise UserError("this is there already", str(config.target), "a new folder", "choose another target, or delete that one")
    io.check_folder(config.target.parent, "choose another target")


def _listing(config: PullConfig) -> Listing:
    """Returns the manifest of the source. Raises UserError where a push to it has not ended."""
    found = _read(config)
    if found.unfinished:
        raise UserError("a push to this place has not ended", redacted(config.source), "all files that belong together",
                        "wait until it has ended; if it was interrupted, run the same `kaleidobert push` again")
    return found


def _read(config: PullConfig) -> Listing:
    if config.source.startswith(uploads.HUB):
        place = uploads.open_place(config.source)
        if MANIFEST not in place.sizes():
            raise UserError("there is no manifest, no such repository, or no access to it", config.source, "a repository that "
                            f"`kaleidobert push` made, with {MANIFEST}", f"look at the address; for a private one {uploads.TOKEN}")
        return push.listing(place.read(MANIFEST), config.source)
    with tempfile.TemporaryDirectory() as folder:
        downloads.fetch([File(MANIFEST)], folder, config.source.rstrip("/"), _options(config))
        with io.readable(config.source):
            text = (Path(folder) / MANIFEST).read_text(encoding="utf-8")
        return push.listing(text, redacted(config.source))


def _of_hub(source: str, found: Listing, folder: Path) -> None:
    """Fetches the files of a repository into a folder. Raises UserError where one is not what the manifest says."""
    repository, revision = uploads.repository_of(source)
    with uploads.explained_hub(source):
        api, _ = uploads.hub()
        api.snapshot_download(repository, revision=revision, local_dir=folder, allow_patterns=[file.name for file in found.files])
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    for file in found.files:
        digest = sha256(folder / file.name) if (folder / file.name).is_file() else "none: it did not come"
        if digest != file.sha256:
            raise UserError(f"what came is not what the manifest says: it has the SHA-256 {digest}", f"{source}, {file.name}", file.sha256,
                            "run the same command again; if it stays so, the repository was changed after `kaleidobert push`")


def _options(config: PullConfig) -> Options:
    return Options(config.workers, config.attempts, endpoint=config.endpoint)


def _size(found: Listing) -> int:
    return sum(file.size or 0 for file in found.files)
