"""Downloads of the files of a manifest: in parallel, resumed and checked; every file appears complete or not at all.

A partial file is hidden beside its final name, locked, kept for resuming, and renamed when it is complete.
"""

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.request import BaseHandler

from kaleidobert import io
from kaleidobert.errors import UserError
from kaleidobert.remote import archives
from kaleidobert.remote.manifests import File, address
from kaleidobert.remote.streams import Broken, Changed, Remote, Stream, redacted

# --- Partial files


class Stopped(Exception):
    """The download was stopped; partial files stay."""


@contextmanager
def locked(path: Path, stop: threading.Event) -> Iterator[BinaryIO]:
    """Opens the file ``path`` for reading and writing, locked by this process; waits while another one holds the lock.

    Raises Stopped once ``stop`` is set. The holder may rename or delete the file.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = io.try_lock(path)
        if file is not None:
            with file:
                yield file
            return
        if stop.wait(0.1):
            raise Stopped


class PartialFile:
    """The beginning of a file, ``.NAME.part``, and a note of its source, ``.NAME.part.json``."""

    def __init__(self, target: Path, file: BinaryIO):
        self.target, self.file = target, file
        self.path = target.with_name(f".{target.name}.part")
        self.note_path = target.with_name(f".{target.name}.part.json")
        self.size = file.seek(0, os.SEEK_END)
        self.note: dict = {}
        with suppress(UserError):
            self.note = io.read_json(self.note_path)

    def resume(self, url: str, will_be_checked: bool) -> str | None:
        """Returns how to continue: None = from the start, "" = only because a hash will be checked, else the validator of the beginning."""
        validator = self.note.get("validator", "") if self.note.get("source") == redacted(url) else ""
        if self.size and (validator or will_be_checked):
            return validator
        self.restart()
        return None

    def is_complete(self) -> bool:
        """Whether the note states the present size as the whole size."""
        return bool(self.size) and self.note.get("size") == self.size

    def restart(self) -> None:
        """Empties the file and forgets its source."""
        self.file.seek(0)
        self.file.truncate()
        self.size, self.note = 0, {}

    def begin(self, url: str, stream: Stream) -> None:
        """Notes the source before the first byte. Raises UserError where the disk has no room for the file."""
        if stream.start != self.size:
            self.restart()
        self.note = {"source": redacted(url), "validator": stream.validator, "size": stream.total}
        with io.explained(self.target, resumes=True):
            io.write_json(self.note_path, self.note)
            state = os.statvfs(self.path.parent)
            if (stream.total or 0) - self.size > state.f_bavail * state.f_frsize:
                raise OSError(errno.ENOSPC, f"{stream.total:,} bytes")

    def write(self, data: bytes) -> None:
        """Appends. Raises UserError on a full disk; the bytes that fit stay."""
        with io.explained(self.target, resumes=True):
            self.file.write(data)
        self.size += len(data)

    def finish(self) -> None:
        """Flushes the file to the disk and gives it its final name."""
        with io.explained(self.target, resumes=True):
            self.file.flush()
            os.fsync(self.file.fileno())
            os.replace(self.path, self.target)
        self.note_path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Deletes the file and its note."""
        self.path.unlink(missing_ok=True)
        self.note_path.unlink(missing_ok=True)


@contextmanager
def partial_file(target: Path, stop: threading.Event) -> Iterator[PartialFile]:
    """Opens the partial file of ``target``, locked by this process; after an error it stays, unless it is empty."""
    with io.explained(target, resumes=True), locked(target.with_name(f".{target.name}.part"), stop) as file:
        held = PartialFile(target, file)
        try:
            yield held
        finally:
            with suppress(OSError):
                file.flush()
            if held.path.exists() and held.size == 0:
                held.discard()


# --- Downloads


CHUNK = 1 << 18
MAX_PAUSE = 60.0  # seconds
Progress = Callable[[str, int, int | None], None]  # name, bytes fetched, bytes of the whole file where known


class Exhausted(UserError):
    """Every attempt at a file ended with a broken connection."""


@dataclass(frozen=True)
class Options:
    """Options of a download.

    workers: files at a time. attempts: tries in a row that fetch no byte. pause: seconds after the first failure, doubled after each
    other one. timeout: seconds of silence. endpoint: of S3, "" = from the environment and ~/.aws. keep_archives: keep unpacked archives.
    """

    workers: int = 4
    attempts: int = 5
    pause: float = 1.0
    timeout: float = 30.0
    endpoint: str = ""
    keep_archives: bool = False


DEFAULT = Options()


def fetch(files: Sequence[File], into: str | Path, mirror: str = "", options: Options = DEFAULT,
          progress: Progress | None = None) -> None:
    """Fetches the files into a folder and unpacks the archives that name a folder; files that are there are checked, not fetched.

    progress is called from one thread at a time. Raises UserError at the end for all files that failed, after the others are fetched;
    at once where no byte came of any file, or where the disk is full. Partial files stay, and another call continues them.
    """
    Fetcher(options, progress).fetch(files, Path(into), mirror)


class Fetcher:
    """The common state of the threads of one download. stop: set it to end them. received: whether any byte has come.

    handlers: of requests by HTTP, as streams.Remote takes them; max_bytes: of a file; max_seconds: of an attempt at one; 0 = any number.
    """

    def __init__(self, options: Options = DEFAULT, progress: Progress | None = None, handlers: Sequence[type[BaseHandler]] = (),
                 max_bytes: int = 0, max_seconds: float = 0):
        self.options, self.remote = options, Remote(options.endpoint, options.timeout, handlers)
        self.max_bytes, self.max_seconds = max_bytes, max_seconds
        self.stop, self.received = threading.Event(), False
        self._progress, self._lock = progress, threading.Lock()

    def fetch(self, files: Sequence[File], into: Path, mirror: str = "") -> None:
        """Does what the function ``fetch`` says."""
        failed = []
        with ThreadPoolExecutor(self.options.workers) as pool:
            try:
                for future in as_completed([pool.submit(self.fetch_and_unpack, file, into, mirror) for file in files]):
                    try:
                        future.result()
                    except Stopped:
                        pass
                    except UserError as error:
                        failed.append(error)
                        if isinstance(error, io.NoSpace) or isinstance(error, Exhausted) and not self.received:
                            self.stop.set()
            except BaseException:
                self.stop.set()
                raise
        if failed:
            raise failed[0] if len(failed) == 1 else _together(failed, len(files))

    def fetch_and_unpack(self, file: File, into: Path, mirror: str = "") -> None:
        """Fetches one file of a manifest and unpacks it where it names a folder."""
        target, folder = into / file.name, into / file.unpack
        if file.unpack and folder.is_dir():
            return
        if file.unpack:
            archives.check_python(folder)  # before gigabytes are fetched for nothing
        self.fetch_file(file, target, lambda: address(file, mirror))
        if not file.unpack:
            return
        lock = folder.with_name(f".{folder.name}.lock")
        with io.explained(folder, resumes=True), locked(lock, self.stop):
            if not folder.is_dir():  # another process may have been faster
                archives.unpack(target, folder, progress=lambda count: self._end_if_stopped())
            lock.unlink()
        if not self.options.keep_archives:
            target.unlink(missing_ok=True)

    def fetch_file(self, file: File, target: Path, source: Callable[[], str], replace: bool = False) -> str:
        """Fetches ``target`` from the address that source() returns, which is called only when needed; returns its validator, or "".

        Raises UserError where the target exists with another size or hash, unless ``replace``.
        """
        if not replace and self._is_there(file, target):
            return ""
        url = source()
        with partial_file(target, self.stop) as held:
            if not replace and self._is_there(file, target):  # the process that held the lock has finished it
                held.discard()
                return ""
            resumed = self._download(file, url, held)
            wrong = _wrong(file, held.path)
            if wrong and resumed:  # the beginning may be of another file
                held.restart()
                self._download(file, url, held)
                wrong = _wrong(file, held.path)
            if wrong:
                held.restart()
                raise UserError(f"what came is not what the manifest says: {wrong[0]}", redacted(url), wrong[1],
                                "run the same command again; if it stays so, the file at this address is another: name another location "
                                "of it with mirror=URL_OR_FOLDER")
            validator = held.note.get("validator", "")
            held.finish()
            return validator

    def _download(self, file: File, url: str, held: PartialFile) -> bool:
        """Fetches until the file is complete; returns whether bytes of an earlier call were kept."""
        furthest, failures = held.size, 0
        while True:
            self._end_if_stopped()
            validator = held.resume(url, bool(file.sha256))
            if validator is not None and held.is_complete():
                self._report(file, held.size, held.size)
                return True
            try:
                with closing(self.remote.open(url, held.size, validator or "")) as stream:
                    self._copy(file, url, stream, held)
                with io.explained(held.target, resumes=True):
                    held.file.flush()
                return stream.start > 0
            except UserError as error:
                raise _with_contact(error, file) from None
            except Changed:
                reason, wait = "the file there changes while it is fetched", 0.0
                size = held.size
                held.restart()
            except Broken as error:
                reason, wait, size = str(error), error.wait, held.size
            failures = failures + 1 if size <= furthest else 1
            furthest = max(furthest, size)
            if failures >= self.options.attempts:
                exhausted = Exhausted(f"{reason}; tried {failures} times", redacted(url), fix="look at the network and the address, and "
                                      "run the same command again: it continues where it stopped")
                raise _with_contact(exhausted, file)
            self.stop.wait(min(MAX_PAUSE, max(wait, self.options.pause * 2 ** (failures - 1))))

    def _copy(self, file: File, url: str, stream: Stream, held: PartialFile) -> None:
        if file.size is not None and stream.total is not None and file.size != stream.total:
            raise _wrong_size(stream.total, file, url)
        self._check_size(stream.total or 0, url)
        held.begin(url, stream)
        total = stream.total if stream.total is not None else file.size
        start = time.monotonic()
        while data := stream.read(CHUNK):
            self._end_if_stopped()
            held.write(data)
            self.received = True
            self._report(file, held.size, total)
            if self.max_seconds and time.monotonic() - start > self.max_seconds:
                raise Exhausted(f"only {held.size:,} bytes came in {self.max_seconds:g} seconds", redacted(url))
            if self.max_bytes and held.size > self.max_bytes:
                held.restart()
                self._check_size(self.max_bytes + 1, url)
            if total is not None and held.size > total:
                held.restart()
                raise _wrong_size(f"more than {total:,}", file, url)
        if total is not None and held.size < total:
            raise Broken(f"the connection ended after {held.size:,} of {total:,} bytes")

    def _check_size(self, size: int, url: str) -> None:
        if self.max_bytes and size > self.max_bytes:
            raise UserError(f"the file is larger than {self.max_bytes:,} bytes", redacted(url))

    def _is_there(self, file: File, target: Path) -> bool:
        if not target.exists():
            return False
        wrong = _wrong(file, target)
        if wrong:
            raise UserError(f"is there already, but {wrong[0]}", str(target), wrong[1], "delete it and run the same command again")
        size = target.stat().st_size
        self._report(file, size, size)
        return True

    def _report(self, file: File, done: int, total: int | None) -> None:
        if self._progress:
            with self._lock:
                self._progress(file.name, done, total)

    def _end_if_stopped(self) -> None:
        if self.stop.is_set():
            raise Stopped


def _wrong(file: File, path: Path) -> tuple[str, str] | None:
    """Returns (the actual, the expected) where a file differs from the manifest, else None."""
    if not path.is_file():
        return "is no file", "a file"
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"has {size:,} bytes", f"{file.size:,} bytes"
    if file.sha256:
        digest = io.sha256(path)
        if digest != file.sha256:
            return f"has the SHA-256 {digest}", file.sha256
    return None


def _wrong_size(size: int | str, file: File, url: str) -> UserError:
    size = f"{size:,}" if isinstance(size, int) else size
    return UserError(f"the file there has {size} bytes", redacted(url), f"{file.size:,} bytes" if file.size is not None else "",
                     "the file at this address is another: name another location of it with mirror=URL_OR_FOLDER")


def _with_contact(error: UserError, file: File) -> UserError:
    """Adds whom to ask to an error."""
    if not file.ask:
        return error
    return type(error)(error.what, error.where, error.expected, f"{error.fix}; {file.ask}" if error.fix else file.ask)


def _together(failed: Sequence[UserError], count: int) -> UserError:
    """Joins many errors into one; equal advice appears once."""
    lines = [f"\n  {error.where}: {error.what}" + (f" (expected: {error.expected})" if error.expected else "") for error in failed]
    return UserError(f"{len(failed)} of {count} files could not be fetched" + "".join(lines) + "\n",
                     fix="\n  ".join(dict.fromkeys(error.fix for error in failed if error.fix)))
