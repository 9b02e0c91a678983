"""Writing files so that a reader never sees half of one: temporary name, flush to disk, rename.

And the folders that commands write: what a killed command leaves in them, and whether they can be written at all (locks.py: by
whom).
"""

import errno
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from kaleidobert.errors import UserError

LEFTOVER = ".*.tmp"  # what ``atomic`` leaves behind where the process was killed
LOCK = ".lock"  # the lock of a folder (locks.py), which a killed process leaves behind too
FULL = (errno.ENOSPC, errno.EDQUOT)
REFUSED = (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EFBIG,
           errno.EIO, errno.ESTALE)


@contextmanager
def atomic(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file that appears under ``path`` complete or not at all; what stood there before survives a failure.

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
    """Write UTF-8 text atomically."""
    with atomic(path) as file:
        file.write(text.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON atomically, indented, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read JSON; raises UserError where the file is missing or cut off."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError("there is no such file", str(path)) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"not valid JSON ({error})", str(path), fix="make the file again") from error


def explain(error: OSError, path: str | Path) -> Exception:
    """What the disk refuses as a UserError; other errors as they are."""
    if error.errno in FULL:
        return UserError("no space left on the disk", str(path), fix="free some space and run the same command again; "
                         "everything finished before this file is kept")
    if error.errno in REFUSED:
        return UserError(f"cannot write here ({error.strerror})", str(path), fix="choose another folder")
    return error


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Raises what the disk refuses inside as ``explain`` gives it."""
    try:
        yield
    except OSError as error:
        raise explain(error, path) from error


def contents(folder: Path) -> list[Path]:
    """What a folder holds beside what killed commands left; nothing where there is no such folder."""
    return [path for path in folder.iterdir() if not path.match(LEFTOVER) and path.name != LOCK] if folder.is_dir() else []


def clear(folder: Path) -> None:
    """Delete what killed commands left half written in a folder."""
    with explained(folder):
        for path in folder.glob(LEFTOVER):
            path.unlink(missing_ok=True)


def check_folder(folder: Path, fix: str = "choose another folder") -> None:
    """UserError where ``folder``, which need not be there yet, cannot be written; leaves nothing behind."""
    try:
        try:
            os.stat(folder)
        except (FileNotFoundError, NotADirectoryError):
            pass
        there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
        if not there.is_dir():
            what = "a file" if there.exists() else "a link that leads nowhere"
            raise UserError(f"cannot write here: this is {what}", str(there), "a folder", fix)
        if there == folder:
            with tempfile.TemporaryFile(dir=folder) as file:  # nameless where the system can
                file.write(b".")
        elif not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "it is read-only, or belongs to somebody else")
    except OSError as error:
        if error.errno in FULL:
            raise UserError("no space left on the disk", str(folder), fix=f"free some space, or {fix}") from error
        raise UserError(f"cannot write here ({error.strerror or error})", str(folder), fix=fix) from error


def check_room(folder: Path, needed: float, what: str, fix: str = "free some space, or choose another folder") -> None:
    """UserError where the disk of ``folder``, which need not be there yet, has less room than the ``needed`` bytes for ``what``."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise UserError(f"the disk has {_size(free)} free", str(folder), f"{_size(needed)} for {what}", fix)


def _size(count: float) -> str:
    """
    >>> _size(1_234_567)
    '1.2 MB'
    """
    units = {"GB": 1e9, "MB": 1e6, "kB": 1e3}
    return next((f"{count / unit:,.1f} {name}" for name, unit in units.items() if count >= unit), f"{count:,.0f} bytes")
