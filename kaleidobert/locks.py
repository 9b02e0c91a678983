"""One process per folder: a lock that the system releases when its holder ends, however it ends.

    with locks.scope():                # a command: what it takes is released at its end
        locks.claim(folder)            # from here on this process alone writes the folder
    locks.check(folder)                # UserError where another process writes it now; needs no right to write

The lock is that of the system on the file ``.lock`` in the folder, so on a network file system it holds between hosts. The file says
who holds it and goes with the lock; one that a killed process left behind is no hindrance. A process that has a lock may take it
again. Where a file system knows no locks, a note on standard error says so.
"""

import errno
import json
import os
import socket
import sys
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from kaleidobert import io
from kaleidobert.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

MOMENT = 0.5  # seconds for which a lock is waited for: somebody who looks whether it is free holds it so long
WITHOUT = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
FIX = "wait until it has ended, or choose another folder"


class Claim:
    """A lock of this process: held until ``release`` is called, the last reference is gone or the process ends."""

    def __init__(self, file: BinaryIO, path: Path):
        self.release = weakref.finalize(self, _release, file, path, os.getpid())


_CLAIMS: weakref.WeakValueDictionary[str, Claim] = weakref.WeakValueDictionary()  # of this process, by the lock's path
_SCOPES: list[list[Claim]] = []
_TOLD: set[str] = set()  # folders without locks that a note was written about


@contextmanager
def scope() -> Iterator[None]:
    """What is claimed inside is held until its end, unless it was held before."""
    kept: list[Claim] = []
    _SCOPES.append(kept)
    try:
        yield
    finally:
        _SCOPES.pop()
        for claim_ in reversed(kept):
            claim_.release()


def claim(folder: Path, wait: float = MOMENT, fix: str = FIX, name: str = io.LOCK) -> Claim:
    """Take the lock of a folder, which is made where it is not there: inside of a scope for its length, else for as long as the result
    is kept. name: of the lock's file; .NAME.lock for a lock of the file NAME in the folder alone.

    Raises UserError where another process has it for longer than ``wait`` seconds, and where the folder cannot be written.
    """
    path = folder / name
    if (mine := _own(path)) is not None:
        return mine
    end = time.monotonic() + wait
    with io.explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        while (file := attempt(path)) is None:
            if time.monotonic() > end:
                raise _in_use(path, fix)
            time.sleep(0.05)
    with suppress(OSError):  # on a full disk nobody is named
        file.truncate()  # a killed process left it
        file.write(json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}).encode())
        file.flush()
    made = _CLAIMS[_key(path)] = Claim(file, path)
    if _SCOPES:
        _SCOPES[-1].append(made)
    return made


@contextmanager
def held(folder: Path, wait: float = MOMENT, fix: str = FIX, name: str = io.LOCK) -> Iterator[None]:
    """``claim`` for the length of a block."""
    before = _own(folder / name)
    mine = claim(folder, wait, fix, name)
    try:
        yield
    finally:
        if mine is not before:
            mine.release()


def check(folder: Path, fix: str = FIX, name: str = io.LOCK) -> None:
    """UserError where another process holds the lock of a folder; writes nothing."""
    path = folder / name
    if _own(path) is not None:
        return
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError:  # nobody took it
        return
    with file:
        if not _lock(file, path, shared=True):
            raise _in_use(path, fix)


def attempt(path: Path) -> BinaryIO | None:
    """The file ``path``, open and locked, or None where another process has it. Its holder may rename or delete it."""
    file = open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")  # noqa: SIM115  its holder closes it
    try:
        if _lock(file, path) and _is(file, path):
            return file
    except BaseException:
        file.close()
        raise
    file.close()
    return None


def _own(path: Path) -> Claim | None:
    found = _CLAIMS.get(_key(path))
    return found if found is not None and found.release.alive else None


def _key(path: Path) -> str:
    return os.path.realpath(path)


def _lock(file: BinaryIO, path: Path, shared: bool = False) -> bool:
    """Whether nobody else has it; a shared one can be had by several, and needs a file open for reading only."""
    if fcntl is None:
        _tell(path.parent)
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in WITHOUT:
            return False
        _tell(path.parent)
    return True


def _tell(folder: Path) -> None:
    if str(folder) not in _TOLD:
        _TOLD.add(str(folder))
        print(f"note: {folder}: this system or disk has no locks: start no second command that writes this folder", file=sys.stderr)


def _is(file: BinaryIO, path: Path) -> bool:
    """Whether the open file still lies there: its former holder may have renamed or deleted it."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def _in_use(path: Path, fix: str) -> UserError:
    who = ""
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(path.read_text(encoding="utf-8"))
        who = f" (process {found['process']} on {found['host']}, since {found['since']})"
    folder = path.name == io.LOCK
    where = path.parent if folder else path.with_name(path.name.removeprefix(".").removesuffix(io.LOCK))
    return UserError(f"another process is using this {'folder' if folder else 'file'}{who}", str(where), fix=fix)


def _release(file: BinaryIO, path: Path, process: int) -> None:
    """The file goes while it is locked: whoever has opened it by then sees that it is gone, and begins anew."""
    if os.getpid() == process:  # a forked child shares the lock, and does not end it
        with suppress(OSError):
            if _is(file, path):
                path.unlink()
    with suppress(OSError):
        file.close()
