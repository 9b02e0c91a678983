"""Places to which files are copied for others: a folder, a folder of S3, a model repository of Hugging Face. Downloads fetch them again.

    place = open_place("s3://bucket/models/mine")
    place.put({"best.npz": Path("runs/mine/best.npz")}, texts={"manifest.json": "..."}, begun={"manifest.json": "..."})

Every place holds what is new of the files before it holds the texts, so that a manifest never names what is not there yet. Where files
arrive one by one, the texts of ``begun`` stand there until then.
"""

import importlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from kaleidobert import io
from kaleidobert.errors import UserError
from kaleidobert.remote import streams
from kaleidobert.remote.downloads import DEFAULT, Options

HUB = "hf://"
HUB_FIX = "pip install -e '.[share]' (huggingface_hub)"
TOKEN = "log in with `hf auth login`, or set HF_TOKEN"
Copied = Callable[[str], None]  # is told the name of every file that is there


class Place(Protocol):
    """A folder somewhere. name: for messages."""

    name: str

    def put(self, files: Mapping[str, Path], texts: Mapping[str, str], begun: Mapping[str, str], copied: Copied) -> None:
        """Writes the texts {name: content} of begun, copies files {name below the place: path}, then writes texts; as one step, without
        begun, where the place can. Raises UserError where it cannot."""

    def read(self, name: str) -> str:
        """Returns the text of a file of the place."""

    def sizes(self) -> dict[str, int]:
        """Returns {name: bytes} of all files of the place."""


def open_place(target: str, options: Options = DEFAULT, private: bool = True) -> Place:
    """Returns the place that an address or a path names. private: of a repository that has to be made."""
    if target.startswith("s3://"):
        return _Bucket(target.rstrip("/"), options)
    if target.startswith(HUB):
        return _Hub(target, private)
    if "://" in target:
        raise UserError("nothing can be copied to addresses of this scheme", streams.redacted(target), "a folder, s3:// or hf://")
    return _Folder(Path(target), options)


class _Folder:
    def __init__(self, folder: Path, options: Options):
        self.name, self._folder, self._workers = str(folder), folder, options.workers
        io.check_folder(folder, "choose another folder")

    def put(self, files: Mapping[str, Path], texts: Mapping[str, str], begun: Mapping[str, str], copied: Copied) -> None:
        io.check_room(self._folder, sum(path.stat().st_size for path in files.values()), f"{len(files):,} files")

        def copy(name: str, path: Path) -> None:
            target = self._folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "rb") as source, io.atomic(target) as file:
                shutil.copyfileobj(source, file)

        for name, text in begun.items():
            io.write_text(self._folder / name, text)
        _each(files, copy, copied, self._workers)
        for name, text in texts.items():
            io.write_text(self._folder / name, text)

    def read(self, name: str) -> str:
        return (self._folder / name).read_text(encoding="utf-8")

    def sizes(self) -> dict[str, int]:
        paths = [path for path in self._folder.rglob("*") if path.is_file()]
        return {path.relative_to(self._folder).as_posix(): path.stat().st_size for path in paths}


class _Bucket:
    def __init__(self, url: str, options: Options):
        self.name, self._url, self._options = streams.redacted(url), url, options
        self._remote = streams.Remote(options.endpoint, options.timeout)
        self._bucket, self._folder = streams.bucket_and_key(url)
        if not self._bucket or not self._folder:
            raise UserError("names a bucket and no folder in it", self.name, "s3://bucket/folder")

    def put(self, files: Mapping[str, Path], texts: Mapping[str, str], begun: Mapping[str, str], copied: Copied) -> None:
        def copy(name: str, path: Path) -> None:
            self._try(lambda client: client.upload_file(str(path), self._bucket, f"{self._folder}/{name}"))

        def write(name: str, text: str) -> None:
            self._try(lambda client: client.put_object(Bucket=self._bucket, Key=f"{self._folder}/{name}", Body=text.encode()))

        for name, text in begun.items():
            write(name, text)
        _each(files, copy, copied, self._options.workers)
        for name, text in texts.items():
            write(name, text)

    def read(self, name: str) -> str:
        return self._try(lambda client: client.get_object(Bucket=self._bucket, Key=f"{self._folder}/{name}")["Body"].read()).decode()

    def sizes(self) -> dict[str, int]:
        return {name: size for name, (size, _) in self._try(lambda client: self._remote.list(self._url)).items()}

    def _try(self, call: Callable[[Any], Any]) -> Any:
        """Returns what a call of the client gives; tries again where the connection breaks."""
        pause = self._options.pause
        for attempt in range(self._options.attempts):
            if attempt:
                time.sleep(pause)
                pause *= 2
            try:
                with streams.ExplainedS3(self._url, self._remote):
                    return call(self._remote.client())
            except streams.Broken as error:
                reason = str(error)
        raise UserError(f"{reason}; tried {self._options.attempts} times", self.name, fix="run the same command again")


class _Hub:
    """A model repository of Hugging Face, made where there is none; all of a copy is one commit."""

    def __init__(self, target: str, private: bool):
        self.name, self._private = target, private
        self._repository, self._revision = repository_of(target)
        self._api, self._add = hub()

    def put(self, files: Mapping[str, Path], texts: Mapping[str, str], begun: Mapping[str, str], copied: Copied) -> None:
        operations = [self._add(path_in_repo=name, path_or_fileobj=str(path)) for name, path in files.items()]
        operations += [self._add(path_in_repo=name, path_or_fileobj=text.encode()) for name, text in texts.items()]
        with explained_hub(self.name):
            self._api.create_repo(self._repository, private=self._private, exist_ok=True)
            self._api.create_commit(self._repository, operations, commit_message="kaleidobert push", revision=self._revision)
        for name in files:
            copied(name)

    def read(self, name: str) -> str:
        with explained_hub(self.name):
            return Path(self._api.hf_hub_download(self._repository, name, revision=self._revision)).read_text(encoding="utf-8")

    def sizes(self) -> dict[str, int]:
        with explained_hub(self.name):
            if not self._api.repo_exists(self._repository):
                return {}
            entries = self._api.list_repo_tree(self._repository, recursive=True, revision=self._revision)
            return {entry.path: entry.size for entry in entries if hasattr(entry, "size")}  # folders have none


def repository_of(address: str) -> tuple[str, str | None]:
    """Returns (repository, revision or None) of hf://owner/name or hf://owner/name@revision.

    >>> repository_of("hf://shop/kaleido@v2"), repository_of("hf://shop/kaleido")
    (('shop/kaleido', 'v2'), ('shop/kaleido', None))
    """
    repository, _, revision = address.removeprefix(HUB).partition("@")
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise UserError("names no repository", address, "hf://owner/name, or hf://owner/name@revision")
    return repository, revision or None


def hub() -> tuple[Any, Any]:
    """Returns (what speaks to Hugging Face, or to HF_ENDPOINT; its class of a file to be added). Raises UserError where huggingface_hub is
    not installed."""
    try:
        module = importlib.import_module("huggingface_hub")
        return module.HfApi(endpoint=os.environ.get("HF_ENDPOINT")), module.CommitOperationAdd
    except ImportError:
        raise UserError("huggingface_hub, which speaks to Hugging Face, is not installed", HUB, fix=HUB_FIX) from None


@contextmanager
def explained_hub(where: str) -> Iterator[None]:
    """Turns the errors of huggingface_hub into ours."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        explained = _explained(error, where)
        if explained is None:
            raise
        raise explained from None


def _explained(error: Exception, where: str) -> UserError | None:
    """Returns the message of an error of the hub or of the network, None of any other."""
    errors = importlib.import_module("huggingface_hub.errors")
    if isinstance(error, errors.HfHubHTTPError):
        status = getattr(error.response, "status_code", 0)
        what = {401: "access is refused", 403: "access is refused", 404: "there is no such repository, or no access to it"}
        return UserError(f"{what.get(status, 'Hugging Face refuses')} (HTTP {status})", where, fix=TOKEN)
    if isinstance(error, (OSError, errors.HFValidationError)) or type(error).__module__.startswith("http"):
        said = " ".join(str(error).split())
        return UserError(f"Hugging Face cannot be reached ({type(error).__name__}: {said})", where,
                         fix="look at the network and at HF_ENDPOINT, and run the same command again")
    return None


def _each(files: Mapping[str, Path], copy: Callable[[str, Path], None], copied: Copied, workers: int) -> None:
    """Copies files, several at a time. Raises the first error, once those that have begun have ended."""
    with ThreadPoolExecutor(workers) as pool:
        running = {name: pool.submit(copy, name, path) for name, path in files.items()}
        try:
            for name, future in running.items():
                future.result()
                copied(name)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
