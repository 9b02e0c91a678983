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
    for name, path in files.items():
        print(f"{fetch.in_bytes(path.stat().st_size):>12}  {name}")
    print(f"{what} {config.source}: {len(files):,} files, {fetch.in_bytes(_size(files))}, to {config.target}")


def run(config: PushConfig) -> None:
    """Copies what the target does not have yet; its manifest comes last."""
    what, files = _files(config.source)
    place = uploads.open_place(config.target, replace(DEFAULT, workers=config.workers, endpoint=config.endpoint), config.private)
    with tqdm(files.items(), desc="hashes", unit="file", leave=False) as bar:
        listed = [File(name, size=path.stat().st_size, sha256=sha256(path)) for name, path in bar]
    there = _there(place, what)
    new = {file.name: files[file.name] for file in listed if there.get(file.name) != file.sha256}
    texts = {}
    if CARD in files:
        texts[README] = files[CARD].read_text(encoding="utf-8")
    texts[MANIFEST] = manifest(what, listed)
    with tqdm(total=len(new), desc="push", unit="file") as bar:
        place.put(new, texts, lambda name: bar.update())
    print(f"{what}: {len(files):,} files, {fetch.in_bytes(_size(files))}, of which {len(files) - len(new):,} were there, in {place.name}\n"
          f"  elsewhere: kaleidobert pull {place.name} FOLDER")
    if what == "run":
        print("  the bank that it was trained on is pushed by its own folder; its config.yaml names the paths of this machine")


def manifest(what: str, files: list[File]) -> str:
    """Returns the text of a manifest."""
    rows: list[dict[str, Any]] = [{"name": file.name, "size": file.size, "sha256": file.sha256} for file in files]
    return json.dumps({"kaleidobert": what, "files": rows}, indent=1) + "\n"


@dataclass(frozen=True)
class Listing:
    """A manifest: what it lists, and the files."""

    what: str
    files: tuple[File, ...]


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
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return what, {name: path for name, path in names.items() if name not in (*LEFT, MANIFEST, README)
                  and not any(part.startswith(".") or part in LEFT_FOLDERS for part in name.split("/"))}


def _there(place: Place, what: str) -> dict[str, str]:
    """Returns {name: SHA-256} of what the target has by its manifest. Raises UserError where that is of something else."""
    text = place.read(MANIFEST)
    if text is None:
        return {}
    found = listing(text, f"{place.name}/{MANIFEST}")
    if found.what != what:
        raise UserError(f"{ARTICLES[found.what]} is there already", place.name, f"{ARTICLES[what]}, or nothing", "choose another target")
    return {file.name: file.sha256 for file in found.files}


def listing(text: str, where: str) -> Listing:
    """Reads a manifest of ``push``. Raises UserError where it is none."""
    files = manifests.parse(text, where)
    what = json.loads(text).get("kaleidobert", "")
    if what not in KINDS or not all(file.sha256 and file.size is not None for file in files):
        raise UserError("this manifest is none that `kaleidobert push` wrote", where, "kind, and every file with size and SHA-256",
                        "push it again, or fetch the files with `kaleidobert fetch`")
    return Listing(what, files)


def _size(files: dict[str, Path]) -> int:
    return sum(path.stat().st_size for path in files.values())
