"""Files and folders that commands write.

A file appears whole or not at all (temporary name, flush to disk, rename). A folder is checked before work begins: whether it can be
written and has room, and what a killed command has left in it. One process at a time writes a folder, by a lock that the system
releases when its holder ends, however it ends:

    with lock_scope():           # a command: what it locks is released at its end
        lock(folder)             # from here on this process alone writes the folder
    check_unlocked(folder)       # UserError where another process writes it now; needs no right to write

The lock is that of the system on the file ``.lock`` in the folder, so on a network file system it holds between hosts. The file says
who holds it and goes with the lock; one that a killed process left behind is no hindrance. A process that has a lock may take it
again. Where a file system knows no locks, a note on standard error says so.
"""

import csv
import errno
import hashlib
import json
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import StringIO
from pathlib import Path
from typing import Any, BinaryIO

from kaleidobert.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # the one way to say that the module is not there

LEFTOVER = ".*.tmp"  # what ``atomic`` leaves behind where the process was killed
LOCK = ".lock"  # the lock of a folder, which a killed process leaves behind too
FULL = (errno.ENOSPC, errno.EDQUOT)
REFUSED = (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EFBIG,
           errno.EIO, errno.ESTALE)


@contextmanager
def atomic(path: str | Path) -> Iterator[BinaryIO]:
    """Opens a binary file that appears under ``path`` complete or not at all; what was there before survives a failure.

    Raises UserError when the disk is full or the folder cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}.tmp")  # two threads may write the same
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise explain(error, path) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    with atomic(path) as file:
        file.write(text.encode("utf-8"))


def write_csv(path: str | Path, header: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Writes a table as CSV atomically, a line per row below the names of the columns."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_json(path: str | Path, value: Any) -> None:
    """Writes JSON atomically, indented, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Reads JSON; raises UserError where the file is missing or cut off."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError("there is no such file", str(path)) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"not valid JSON ({error})", str(path), fix="make the file again") from error


@contextmanager
def readable(path: str | Path, expected: str = "", fix: str = "") -> Iterator[None]:
    """Raises what keeps a file from being read inside, or its text from being UTF-8, as a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", str(path), expected, fix) from error
    except UnicodeDecodeError as error:
        raise UserError(f"is not UTF-8 ({error.reason} at byte {error.start:,})", str(path), expected or "UTF-8 text") from error


def sha256(path: str | Path) -> str:
    """Returns the SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_root() -> Path:
    """Returns the folder of what can be made or fetched again: KALEIDO_CACHE, or ~/.cache/kaleidobert."""
    return Path(os.environ.get("KALEIDO_CACHE") or "~/.cache/kaleidobert").expanduser()


class NoSpace(UserError):
    """The disk is full."""


def explain(error: OSError, path: str | Path, resumes: bool = False) -> UserError | OSError:
    """Returns what the disk refuses as a UserError (NoSpace where it is full), and any other error unchanged.

    resumes: the command continues an unfinished file; the fix then says so, and every error becomes a UserError.
    """
    if error.errno in FULL:
        kept = "it continues where it stopped" if resumes else "everything finished before this file is kept"
        return NoSpace("no space left on the disk", str(path), fix=f"free some space and run the same command again; {kept}")
    if resumes or error.errno in REFUSED:
        return UserError(f"cannot write here ({error.strerror or error})", str(path), fix="choose another folder")
    return error


@contextmanager
def explained(path: str | Path, resumes: bool = False) -> Iterator[None]:
    """Raises every OSError inside as ``explain`` returns it."""
    try:
        yield
    except OSError as error:
        raise explain(error, path, resumes) from error


def contents(folder: Path) -> list[Path]:
    """Lists a folder without what killed commands left; empty where there is no such folder."""
    return [path for path in folder.iterdir() if not path.match(LEFTOVER) and path.name != LOCK] if folder.is_dir() else []


def clear(folder: Path) -> None:
    """Deletes the half-written files of killed commands in a folder."""
    with explained(folder):
        for path in folder.glob(LEFTOVER):
            path.unlink(missing_ok=True)


def check_folder(folder: Path, fix: str = "choose another folder") -> None:
    """Raises UserError where ``folder``, which need not exist yet, cannot be written; leaves nothing behind."""
    try:
        try:
            os.stat(folder)
        except (FileNotFoundError, NotADirectoryError):
            pass
        existing = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
        if not existing.is_dir():
            what = "a file" if existing.exists() else "a link that leads nowhere"
            raise UserError(f"cannot write here: this is {what}", str(existing), "a folder", fix)
        if existing == folder:
            with tempfile.TemporaryFile(dir=folder) as file:  # nameless where the system can
                file.write(b".")
        elif not os.access(existing, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "it is read-only, or belongs to somebody else")
    except OSError as error:
        if error.errno in FULL:
            raise UserError("no space left on the disk", str(folder), fix=f"free some space, or {fix}") from error
        raise UserError(f"cannot write here ({error.strerror or error})", str(folder), fix=fix) from error


def check_room(folder: Path, needed: float, what: str, fix: str = "free some space, or choose another folder") -> None:
    """Raises UserError where the disk of ``folder``, which need not exist yet, has less room than the ``needed`` bytes for ``what``."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise UserError(f"the disk has {_size(free)} free", str(folder), f"{_size(needed)} for {what}", fix)


def _size(count: float) -> str:
    """Formats a number of bytes.

    >>> _size(1_234_567)
    '1.2 MB'
    """
    units = {"GB": 1e9, "MB": 1e6, "kB": 1e3}
    return next((f"{count / unit:,.1f} {name}" for name, unit in units.items() if count >= unit), f"{count:,.0f} bytes")


# --- One process per folder: a lock that the system releases when its holder ends, however it ends


LOCK_WAIT = 0.5  # seconds to wait for a lock: a process that checks whether it is free holds it for a moment
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
LOCK_FIX = "wait until it has ended, or choose another folder"


class Lock:
    """A lock of this process: held until ``release`` is called, the last reference is gone or the process ends."""

    def __init__(self, file: BinaryIO, path: Path):
        self.release = weakref.finalize(self, _release, file, path, os.getpid())


_LOCKS: weakref.WeakValueDictionary[str, Lock] = weakref.WeakValueDictionary()  # of this process, by the lock's path
_SCOPES: list[list[Lock]] = []
_NOTED: set[str] = set()  # folders without locks that a note was written about


@contextmanager
def lock_scope() -> Iterator[None]:
    """Keeps what is locked inside locked until its end, unless it was held before."""
    kept: list[Lock] = []
    _SCOPES.append(kept)
    try:
        yield
    finally:
        _SCOPES.pop()
        for taken in reversed(kept):
            taken.release()


def lock(folder: Path, wait: float = LOCK_WAIT, fix: str = LOCK_FIX, name: str = LOCK) -> Lock:
    """Takes the lock of a folder, which is made where it does not exist: inside of a lock_scope for its length, else for as long as the
    result is kept. name: of the lock's file; .NAME.lock for a lock of the file NAME in the folder alone.

    Raises UserError where another process has it for longer than ``wait`` seconds, and where the folder cannot be written.
    """
    path = folder / name
    if (mine := _own(path)) is not None:
        return mine
    end = time.monotonic() + wait
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        while (file := try_lock(path)) is None:
            if time.monotonic() > end:
                raise _in_use(path, fix)
            time.sleep(0.05)
    with suppress(OSError):  # on a full disk nobody is named
        file.truncate()  # a killed process left it
        file.write(json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}).encode())
        file.flush()
    made = _LOCKS[_key(path)] = Lock(file, path)
    if _SCOPES:
        _SCOPES[-1].append(made)
    return made


@contextmanager
def locked(folder: Path, wait: float = LOCK_WAIT, fix: str = LOCK_FIX, name: str = LOCK) -> Iterator[None]:
    """Holds ``lock`` for the length of a block."""
    before = _own(folder / name)
    mine = lock(folder, wait, fix, name)
    try:
        yield
    finally:
        if mine is not before:
            mine.release()


def check_unlocked(folder: Path, fix: str = LOCK_FIX, name: str = LOCK) -> None:
    """Raises UserError where another process holds the lock of a folder; writes nothing."""
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


def try_lock(path: Path) -> BinaryIO | None:
    """Returns the file ``path``, open and locked, or None where another process has it. Its holder may rename or delete it."""
    file = open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")  # noqa: SIM115  its holder closes it
    try:
        if _lock(file, path) and _is(file, path):
            return file
    except BaseException:
        file.close()
        raise
    file.close()
    return None


def _own(path: Path) -> Lock | None:
    mine = _LOCKS.get(_key(path))
    return mine if mine is not None and mine.release.alive else None


def _key(path: Path) -> str:
    return os.path.realpath(path)


def _lock(file: BinaryIO, path: Path, shared: bool = False) -> bool:
    """Whether nobody else has the lock; several processes can have a shared one, which needs a file open for reading only."""
    if fcntl is None:
        _note_no_locks(path.parent)
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            return False
        _note_no_locks(path.parent)
    return True


def _note_no_locks(folder: Path) -> None:
    if str(folder) not in _NOTED:
        _NOTED.add(str(folder))
        print(f"note: {folder}: this system or disk has no locks: start no second command that writes this folder", file=sys.stderr)


def _is(file: BinaryIO, path: Path) -> bool:
    """Whether the open file still lies there: its former holder may have renamed or deleted it."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def _in_use(path: Path, fix: str) -> UserError:
    who = ""
    with suppress(OSError, ValueError, KeyError, TypeError):
        holder = json.loads(path.read_text(encoding="utf-8"))
        who = f" (process {holder['process']} on {holder['host']}, since {holder['since']})"
    folder = path.name == LOCK
    where = path.parent if folder else path.with_name(path.name.removeprefix(".").removesuffix(LOCK))
    return UserError(f"another process is using this {'folder' if folder else 'file'}{who}", str(where), fix=fix)


def _release(file: BinaryIO, path: Path, process: int) -> None:
    """Deletes the file while it is locked: whoever has opened it by then sees that it is gone, and begins anew."""
    if os.getpid() == process:  # a forked child shares the lock, and does not end it
        with suppress(OSError):
            if _is(file, path):
                path.unlink()
    with suppress(OSError):
        file.close()
