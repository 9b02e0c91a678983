"""``kaleidobert push``: a copy of a run, a bank or an index for others, in a folder, on S3 or in a repository of Hugging Face.

    TARGET/manifest.json    name, size and SHA-256 of every file, by which `kaleidobert pull` checks what it fetches
           README.md        of a run: its model card
           ...              the files
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from kaleidobert import io
from kaleidobert.app_zoo import fetch
from kaleidobert.configs.sharing import PushConfig
from kaleidobert.datasets.products import stamp
from kaleidobert.errors import UserError
from kaleidobert.io import sha256
from kaleidobert.remote import manifests, uploads
from kaleidobert.remote.downloads import DEFAULT
from kaleidobert.remote.manifests import File
from kaleidobert.remote.uploads import Place

MANIFEST, CARD, README = "manifest.json", "MODEL_CARD.md", "README.md"
KINDS = {"bank": ("index.json", "table.jsonl"), "index": ("index.json",), "run": ("best.npz", "results.json")}  # files that tell each
ARTICLES = {"bank": "a bank", "index": "an index", "run": "a run"}
LEFT = ("last.npz", "work.json")  # what goes on with a training or a bank, and nobody else needs
LEFT_FOLDERS = ("tensorboard", "shards")


def dry_run(config: PushConfig) -> None:
    """Lists what would be copied; opens no connection."""
    what, files = _files(config.source)
    _check_target(config)
    for name, path in files.items():
        print(f"{fetch.in_bytes(path.stat().st_size):>12}  {name}")
    print(f"{what} {config.source}: {len(files):,} files, {fetch.in_bytes(_size(files))}, to {config.target}")


def run(config: PushConfig) -> None:
    """Copies what the target does not have yet; until all of it is there its manifest says that it is unfinished."""
    what, files = _files(config.source)
    _check_target(config)
    place = uploads.open_place(config.target, replace(DEFAULT, workers=config.workers, endpoint=config.endpoint), config.private)
    with tqdm(files.items(), desc="hashes", unit="file", leave=False) as bar:
        stamps = {name: stamp(path) for name, path in files.items()}
        listed = [File(name, size=path.stat().st_size, sha256=sha256(path)) for name, path in bar]
    there = _there(place, what, files)
    new = {file.name: files[file.name] for file in listed if there.get(file.name) != file.sha256}
    texts = {}
    if CARD in files:
        texts[README] = files[CARD].read_text(encoding="utf-8")
    texts[MANIFEST] = manifest(what, listed)
    kept = [file for file in listed if file.name not in new]
    begun = {MANIFEST: manifest(what, kept, unfinished=True)} if new else {}
    with tqdm(total=len(new), desc="push", unit="file") as bar:
        def copied(name: str) -> None:
            if stamp(files[name]) != stamps[name]:
                raise UserError("this file changed while it was copied", str(files[name]), "a run, bank or index that nobody writes",
                                "wait until it is finished and run the same command again")
            bar.update()

        place.put(new, texts, begun, copied)
    print(f"{what}: {len(files):,} files, {fetch.in_bytes(_size(files))}, of which {len(files) - len(new):,} were there, in {place.name}\n"
          f"  elsewhere: kaleidobert pull {place.name} FOLDER")
    if what == "run":
        print("  the bank that it was trained on is pushed by its own folder; its config.yaml names the paths of this machine")


def manifest(what: str, files: list[File], unfinished: bool = False) -> str:
    """Returns the text of a manifest. unfinished: more files are on their way."""
    rows: list[dict[str, Any]] = [{"name": file.name, "size": file.size, "sha256": file.sha256} for file in files]
    return json.dumps({"kaleidobert": what, **({"unfinished": True} if unfinished else {}), "files": rows}, indent=1) + "\n"


@dataclass(frozen=True)
class Listing:
    """A manifest: what it lists, and the files. unfinished: a push has begun and not ended."""

    what: str
    files: tuple[File, ...]
    unfinished: bool = False


def kind_of(folder: Path) -> str:
    """Returns what a folder is, a key of KINDS, "" where it is none of them."""
    return next((what for what, names in KINDS.items() if all((folder / name).is_file() for name in names)), "")


def _files(folder: Path) -> tuple[str, dict[str, Path]]:
    """Returns (what a folder is, {name: path} of its files that others need)."""
    what = kind_of(folder)
    if not what:
        below = sorted(str(path) for depth in ("*/", "*/*/") for path in folder.glob(depth) if kind_of(path))
        raise UserError("this is no finished run, no bank and no index" if folder.is_dir() else "there is no such folder", str(folder),
                        "a folder with best.npz and results.json, or with index.json",
                        f"name one of {', '.join(below)}" if below else "name the folder of a run, a bank or an index")
    io.check_unlocked(folder, "wait until it has ended")
    names = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*"))}
    names = {name: path for name, path in names.items() if name not in (MANIFEST, README) and path.name not in LEFT
             and not any(part.startswith(".") or part in LEFT_FOLDERS for part in name.split("/"))}
    for name, path in names.items():
        if path.is_symlink() and not path.is_file():
            raise UserError(f"this link leads to {'a folder' if path.is_dir() else 'nothing'}, and would not be copied", str(path),
                            "files, folders and links to files", "put what it means in its place, or delete it")
        if "\\" in name or name[1:2] == ":":
            raise UserError("a file of this name cannot be pulled", str(path), "names without \\, and no second letter ':'", "rename it")
    return what, {name: path for name, path in names.items() if path.is_file()}


def _check_target(config: PushConfig) -> None:
    """Raises UserError where the target is the source or lies in it."""
    if "://" not in config.target and Path(config.target).resolve().is_relative_to(config.source.resolve()):
        raise UserError("the copy would lie in what it is a copy of", config.target, f"a folder outside of {config.source}",
                        "choose another target")


def _there(place: Place, what: str, files: dict[str, Path]) -> dict[str, str]:
    """Returns {name: SHA-256} of what the target has, and its manifest lists. Raises UserError where files there are of something else."""
    sizes = place.sizes()
    if MANIFEST not in sizes:
        foreign = next((name for name in files if name in sizes), "")
        if foreign:
            raise UserError(f"a file {foreign} is there already, and no {MANIFEST} says that `kaleidobert push` copied it", place.name,
                            "a new place, or one of an earlier push", "choose another target, or delete what is there")
        return {}
    found = listing(place.read(MANIFEST), f"{place.name}/{MANIFEST}")
    if found.what != what:
        raise UserError(f"{ARTICLES[found.what]} is there already", place.name, f"{ARTICLES[what]}, or nothing", "choose another target")
    return {file.name: file.sha256 for file in found.files if sizes.get(file.name) == file.size}  # some may have been deleted since


def listing(text: str, where: str) -> Listing:
    """Reads a manifest of ``push``. Raises UserError where it is none."""
    files, tree = manifests.parse(text, where), json.loads(text)
    what = str(tree.get("kaleidobert", ""))
    own = any(file.name == MANIFEST or file.name.startswith(".") or "/." in file.name for file in files)  # names that pulling writes
    if what not in KINDS or own or not all(file.sha256 and file.size is not None for file in files):
        raise UserError("this manifest is none that `kaleidobert push` wrote", where, "kind, and every file with size and SHA-256",
                        "push it again, or fetch the files with `kaleidobert fetch`")
    return Listing(what, files, bool(tree.get("unfinished")))


def _size(files: dict[str, Path]) -> int:
    return sum(path.stat().st_size for path in files.values())
