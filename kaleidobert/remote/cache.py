"""Local copies of remote files and folders: ``cached("s3://bucket/banks/mine")`` is a path to read from.

    KALEIDO_CACHE (or ~/.cache/kaleidobert)/
        3f2a.../            one folder per address
            mine            the file or folder
            kept.json       the source of the copy: {"address", "files": {name: [bytes, validator]}}
            .mine.part      a partial file, or the fetched files of a folder, whose state .mine.part.json records
            .lock           held while one process fetches and others wait

Beside these folders lie the weights that preprocessors/efficientnet_lite0.py converts.
"""

import dataclasses
import hashlib
import os
import re
import shutil
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

from kaleidobert import io
from kaleidobert.errors import UserError
from kaleidobert.remote import manifests
from kaleidobert.remote.archives import safe_name
from kaleidobert.remote.downloads import DEFAULT, MAX_PAUSE, Fetcher, Options, Progress, locked
from kaleidobert.remote.manifests import File
from kaleidobert.remote.streams import Broken, is_remote, redacted

MANIFEST = "manifest.json"
MAX_MANIFEST = 1 << 26  # bytes
SUFFIXES = (".index", ".data-00000-of-00001")  # the files of a TensorFlow 1 checkpoint, and the files beside it
BESIDE = ("config.json", "bert_config.json", "vocab.txt")
Listing = dict[str, list]  # name, "" for the one file: [bytes or None, validator]


def cached(url: str | Path, options: Options = DEFAULT, progress: Progress | None = None, checkpoint: bool = False) -> Path:
    """Returns the local copy of a file or folder; a local path is returned as it is.

    s3://bucket/path is a file or a folder; https://host/path a file, https://host/path/ a folder whose manifest.json names its files.
    Every call compares the copy with the server: changed files are fetched, unchanged ones kept, and files that the server no longer
    has are deleted. Without network the copy is used as it is, with a note on standard error.
    checkpoint: the address may also be a TensorFlow 1 checkpoint, named without the suffixes of its files; they are fetched with the
    config.json and vocab.txt beside them, and the path of the copy has no suffix either.
    Raises UserError where there is neither network nor copy, and where the server refuses.
    """
    if not is_remote(url):
        return Path(url)
    copy = _Copy(str(url), options, progress, checkpoint)
    with io.explained(copy.root, resumes=True), locked(copy.root / ".lock", threading.Event()):
        return copy.bring()


def missing(url: str | Path, options: Options = DEFAULT, checkpoint: bool = False) -> tuple[Path, list[int | None]]:
    """Returns (path of the copy, bytes of every file that ``cached`` would fetch, None where unknown); writes nothing."""
    if not is_remote(url):
        return Path(url), []
    copy = _Copy(str(url), options, None, checkpoint)
    kept, listing = copy.compare()
    return copy.path(listing), [state[0] for name, state in listing.items() if kept.get(name) != state or not copy.is_whole({name: state})]


class _Copy:
    """An address and the folder of its copy, which the caller has locked."""

    def __init__(self, url: str, options: Options, progress: Progress | None, checkpoint: bool):
        self.url, self.options, self.progress = url, options, progress
        self.checkpoint = checkpoint and not url.endswith(("/", ".npz"))
        self.fetcher = Fetcher(options, progress)
        service = self.fetcher.remote.client().meta.endpoint_url if url.startswith("s3://") else ""
        identity = "\n".join((service, redacted(url).rstrip("/"), url.partition("?")[2], *["checkpoint"] * self.checkpoint))  # no password
        self.name = redacted(url).rstrip("/").rpartition("/")[2]
        self.root = io.cache_root() / hashlib.sha256(identity.encode()).hexdigest()[:16]
        self.target, self.work = self.root / str(safe_name(self.name, redacted(url))), self.root / f".{self.name}.part"
        self.kept_path = self.root / ("kept.json" if self.name != "kept.json" else ".kept.json")
        self.work_path = self.root / f".{self.name}.part.json"
        if self.target == self.root:
            raise UserError("names no file", redacted(url), "https://host/path or s3://bucket/path")
        self.manifest: tuple[File, ...] = ()

    def compare(self) -> tuple[Listing, Listing]:
        """Returns the listings (of the copy, of the server); without network the first one twice, where the copy is complete."""
        kept = _listing(self.kept_path)
        try:
            return kept, self._list(patient=not self.is_whole(kept))
        except Broken as error:
            if not self.is_whole(kept):
                raise UserError(f"{error}, and there is no copy here", redacted(self.url),
                                fix="look at the network and the address") from None
            print(f"{redacted(self.url)}: {error}; the copy in {self.target} is used", file=sys.stderr)
            return kept, kept

    def bring(self) -> Path:
        """Brings the copy up to date and returns its path."""
        kept, listing = self.compare()
        if listing == kept and self.is_whole(kept):
            return self.path(listing)
        listing = self._fetch_file(listing) if "" in listing else self._fetch_folder(listing, kept)
        io.write_json(self.kept_path, {"address": redacted(self.url), "files": listing})
        return self.path(listing)

    def path(self, listing: Listing) -> Path:
        """Returns the path of the file, of the folder, or of the checkpoint in it."""
        return self.target / self.name if self.name + SUFFIXES[0] in listing and self.checkpoint else self.target

    def _list(self, patient: bool) -> Listing:
        """Lists the files of the server, in one attempt or (patient) in several."""
        for attempt in range(self.options.attempts - 1 if patient else 0):
            try:
                return self._list_once()
            except Broken as error:
                time.sleep(min(MAX_PAUSE, max(error.wait, self.options.pause * 2**attempt)))
        return self._list_once()

    def _list_once(self) -> Listing:
        remote = self.fetcher.remote
        if self.checkpoint and (listing := self._checkpoint_files()):
            return listing
        if self.url.startswith("s3://"):
            try:
                objects = remote.list(self.url)
            except UserError:  # many public buckets let nobody list them
                if self.url.endswith("/") or "/" not in self.url.removeprefix("s3://"):
                    raise
                objects = {}
            if objects or self.url.endswith("/"):
                self.manifest = tuple(File(str(safe_name(name, redacted(self.url))), f"{self.url.rstrip('/')}/{name}", size)
                                      for name, (size, _) in objects.items())
                if not objects:
                    raise UserError("there is no such folder, or it is empty", redacted(self.url))
                return {file.name: [size, tag] for file, (size, tag) in zip(self.manifest, objects.values())}
        elif self.url.endswith("/"):
            text = self._manifest()
            entries = manifests.parse(text.decode("utf-8", "replace"), redacted(self.url) + MANIFEST)
            self.manifest = tuple(dataclasses.replace(file, unpack="") for file in entries)
            return {file.name: [file.size, file.sha256] for file in self.manifest}
        with closing(remote.open(self.url)) as stream:
            return {"": [stream.total, stream.validator]}

    def _manifest(self) -> bytes:
        where, text = self.url + MANIFEST, b""
        with closing(self.fetcher.remote.open(where)) as stream:
            while chunk := stream.read(MAX_MANIFEST + 1 - len(text)):
                text += chunk
        if len(text) > MAX_MANIFEST:
            raise UserError(f"the manifest has more than {MAX_MANIFEST:,} bytes", redacted(where), "a list of files")
        if stream.total is not None and len(text) < stream.total:
            raise Broken(f"the connection ended after {len(text):,} of {stream.total:,} bytes of the manifest")
        return text

    def _checkpoint_files(self) -> Listing:
        """Lists the files of the checkpoint of this name and those beside it; empty where there is none."""
        folder = self.url.rpartition("/")[0]
        listing: Listing = {}
        for name in (*[self.name + suffix for suffix in SUFFIXES], *BESIDE):
            with suppress(UserError), closing(self.fetcher.remote.open(f"{folder}/{name}")) as stream:
                listing[name] = [stream.total, stream.validator]
            if not listing:
                return {}
        if self.name + SUFFIXES[1] not in listing:
            raise UserError(f"{self.name + SUFFIXES[0]} is there, and {self.name + SUFFIXES[1]} is not", redacted(self.url),
                            "a checkpoint of one part", "name the folder that holds it")
        self.manifest = tuple(File(name, f"{folder}/{name}", size) for name, (size, _) in listing.items())
        return listing

    def is_whole(self, listing: Listing) -> bool:
        """Whether all files of a listing, and at least one, are in the copy."""
        paths = {self.target / name if name else self.target: size for name, (size, _) in listing.items()}
        return bool(paths) and all(path.is_file() and size in (None, path.stat().st_size) for path, size in paths.items())

    def _fetch_file(self, listing: Listing) -> Listing:
        size, _ = listing[""]
        if self.target.is_dir():
            shutil.rmtree(self.target)
        validator = self.fetcher.fetch_file(File(self.name, self.url, size), self.target, lambda: self.url, replace=True)
        return {"": [self.target.stat().st_size if size is not None else None, validator]}

    def _fetch_folder(self, listing: Listing, kept: Listing) -> Listing:
        """Fetches into a folder beside the copy, which it replaces at the end; unchanged files are linked, not fetched."""
        self.work.mkdir(exist_ok=True)
        before = _listing(self.work_path)
        for path in [path for path in self.work.rglob("*") if path.is_file()]:
            half = re.fullmatch(r"\.(.+)\.part(\.json)?", path.name)  # a partial file knows itself whether it can be continued
            name = path.with_name(half[1] if half else path.name).relative_to(self.work).as_posix()
            if name not in listing or not half and before.get(name) != listing[name]:
                path.unlink()
        io.write_json(self.work_path, {"files": listing})
        for name, state in listing.items():
            source, target = self.target / name, self.work / name
            if kept.get(name) == state and source.is_file() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                with suppress(OSError):
                    os.link(source, target)
        if self.progress:
            for file in self.manifest:  # so that the total size is known from the start
                self.progress(file.name, 0, file.size)
        self.fetcher.fetch(self.manifest, self.work, "" if self.checkpoint or self.url.startswith("s3://") else self.url)
        old = self.root / f".{self.name}.old"
        shutil.rmtree(old, ignore_errors=True)
        if self.target.exists():
            os.replace(self.target, old)
        os.replace(self.work, self.target)
        self.work_path.unlink(missing_ok=True)
        shutil.rmtree(old, ignore_errors=True)
        return listing


def _listing(path: Path) -> Listing:
    with suppress(UserError, AttributeError, KeyError, TypeError):
        return dict(io.read_json(path)["files"])
    return {}
