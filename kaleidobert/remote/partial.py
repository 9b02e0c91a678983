"""A file that is being fetched: hidden beside its final name, locked, kept for resuming, and renamed when it is complete."""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from kaleidobert import io
from kaleidobert.errors import UserError
from kaleidobert.remote.streams import Stream, shown


class Stopped(Exception):
    """Somebody asked to stop; what was fetched stays."""


class NoSpace(UserError):
    """The disk is full."""


@contextmanager
def locked(path: Path, stop: threading.Event) -> Iterator[BinaryIO]:
    """The file ``path``, opened for reading and writing and held by this process alone; waits for another that has it.

    Raises Stopped once ``stop`` is set. The file may be renamed or deleted by its holder.
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


class Part:
    """What there is of a file, ``.NAME.part``, with a note of where it comes from, ``.NAME.part.json``."""

    def __init__(self, target: Path, file: BinaryIO):
        self.target, self.file = target, file
        self.path = target.with_name(f".{target.name}.part")
        self.note_path = target.with_name(f".{target.name}.part.json")
        self.size = file.seek(0, os.SEEK_END)
        self.note: dict = {}
        with suppress(UserError):
            self.note = io.read_json(self.note_path)

    def resume(self, url: str, will_be_checked: bool) -> str | None:
        """How to go on: None = not at all, "" = only because a hash will be checked, else the validator of what is there."""
        validator = self.note.get("validator", "") if self.note.get("source") == shown(url) else ""
        if self.size and (validator or will_be_checked):
            return validator
        self.restart()
        return None

    def is_complete(self) -> bool:
        """Whether the note of what is there says so."""
        return bool(self.size) and self.note.get("size") == self.size

    def restart(self) -> None:
        """Forget what is there."""
        self.file.seek(0)
        self.file.truncate()
        self.size, self.note = 0, {}

    def begin(self, url: str, stream: Stream) -> None:
        """Note what comes, before its first byte. Raises UserError where the disk has no room for it."""
        if stream.start != self.size:
            self.restart()
        self.note = {"source": shown(url), "validator": stream.validator, "size": stream.total}
        with explained(self.target):
            io.write_json(self.note_path, self.note)
            state = os.statvfs(self.path.parent)
            if (stream.total or 0) - self.size > state.f_bavail * state.f_frsize:
                raise OSError(errno.ENOSPC, f"{stream.total:,} bytes")

    def write(self, data: bytes) -> None:
        """Append. Raises UserError on a full disk; what fits stays."""
        with explained(self.target):
            self.file.write(data)
        self.size += len(data)

    def finish(self) -> None:
        """The file under its final name, safely on the disk."""
        with explained(self.target):
            self.file.flush()
            os.fsync(self.file.fileno())
            os.replace(self.path, self.target)
        self.note_path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Leave nothing behind."""
        self.path.unlink(missing_ok=True)
        self.note_path.unlink(missing_ok=True)


@contextmanager
def part(target: Path, stop: threading.Event) -> Iterator[Part]:
    """The half-fetched file of ``target``, held by this process alone; after an error it stays, unless it is empty."""
    with explained(target), locked(target.with_name(f".{target.name}.part"), stop) as file:
        held = Part(target, file)
        try:
            yield held
        finally:
            with suppress(OSError):
                file.flush()
            if held.path.exists() and held.size == 0:
                held.discard()


@contextmanager
def explained(target: Path) -> Iterator[None]:
    """Turns what the disk refuses into a UserError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace("no space left on the disk", str(target),
                          fix="free some space and run the same command again; it continues where it stopped") from error
        raise UserError(f"cannot write here ({error.strerror or error})", str(target), fix="choose another folder") from error
