"""Unpacking of untrusted archives: tar, tar.gz, tar.bz2, tar.xz and zip.

The folder receives regular files and folders, nothing else, and appears complete or not at all. An archive is refused as a whole
where a member has an absolute path or "..", where tarfile's data filter refuses it (devices, links that leave the folder), where a
link leads to anything but a file of the same archive, or where there are more files or bytes than the limits. Links become hard
links, so that none can ever leave the folder.
"""

import bz2
import errno
import gzip
import lzma
import math
import os
import platform
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, Protocol

from kaleidobert.errors import UserError


class Stream(Protocol):
    """The file methods that reading an archive needs; compressed files have them too."""

    def read(self, size: int, /) -> bytes: ...

    def seek(self, offset: int, whence: int = 0, /) -> int: ...

    def tell(self) -> int: ...


CHUNK = 1 << 20
MAX_HEADER = 1 << 20  # bytes of a tar header; a larger one is an attack on the memory
MAX_CHAINED_LINKS = 8
MAX_LINK = 4096  # bytes of the target of a link in a zip
COMPRESSIONS: dict[bytes, Callable[[BinaryIO], Stream]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
BROKEN = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, UnicodeError, RuntimeError,
          NotImplementedError, ValueError)


@dataclass(frozen=True)
class Limits:
    """Limits of an archive. files: members; total: bytes unpacked, 0 = 100 times the archive's size, but at least 1 GiB."""

    files: int = 1_000_000
    total: int = 0


Contents = Iterator[tuple[tarfile.TarInfo, Callable[[], IO[bytes] | None]]]  # a member, and what opens its content


def safe_name(name: str, where: str) -> PurePosixPath:
    """Returns a relative path that stays below its folder; raises UserError for any other."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    odd = name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or (parts and parts[0][1:2] == ":")
    if odd:
        raise UserError(f"the name {name!r} leads out of the folder", where, "relative names without '..'", "use this source no more")
    return PurePosixPath(*parts)


def check_python(folder: str | Path) -> None:
    """Raises UserError where this Python's tarfile has no data filter, which came with 3.11.4: without it no archive is unpacked here.

    folder: what an archive would become, for the message.
    """
    if not hasattr(tarfile, "data_filter"):
        raise UserError(f"archives cannot be unpacked safely by this Python, {platform.python_version()}", str(folder),
                        "Python 3.11.4 or newer, whose tarfile refuses members that leave their folder",
                        "run the command with a newer Python, or fetch the archive by other means and unpack it into this folder by hand")


def unpack(archive: str | Path, folder: str | Path, limits: Limits = Limits(), progress: Callable[[int], None] | None = None) -> Path:
    """Unpacks into ``folder``, which must not exist yet. An archive that holds a single folder becomes that folder.

    progress(bytes) is called after every write. Raises UserError where the archive is refused or damaged, and leaves nothing behind;
    and as ``check_python``.
    """
    archive, folder = Path(archive), Path(folder)
    check_python(folder)
    if folder.exists():
        raise UserError("is already there", str(folder), fix="delete it to unpack again")
    work = folder.with_name(f".{folder.name}.unpacking")
    try:
        total = limits.total or max(1 << 30, 100 * archive.stat().st_size)
        shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
        work.mkdir(parents=True)
        _Unpacking(archive, work, Limits(limits.files, total), progress or (lambda count: None)).run()
        os.sync()  # the folder must not outlive a power cut that its files do not
        inner = list(work.iterdir())
        os.replace(inner[0] if len(inner) == 1 and inner[0].is_dir() else work, folder)
    except BROKEN as error:
        raise UserError(f"the archive is damaged ({error})", str(archive), fix="delete it and fetch it again") from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise UserError("no space left on the disk for what it holds" if full else f"cannot be unpacked ({error.strerror or error})",
                        str(archive), fix="free some space and run the same command again" if full else "") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


class _Unpacking:
    """One run over an archive into the folder ``work``."""

    def __init__(self, archive: Path, work: Path, limits: Limits, progress: Callable[[int], None]):
        self.archive, self.work, self.limits, self.progress = archive, work, limits, progress
        self.bytes = 0

    def run(self) -> None:
        links: list[tuple[PurePosixPath, PurePosixPath]] = []  # (name, target)
        where = str(self.archive)
        with open(self.archive, "rb") as file:
            members = _zip_members(file) if file.read(2) == b"PK" else _tar_members(file)
            for count, (info, content) in enumerate(members):
                if count >= self.limits.files:
                    raise self._refused(f"holds more than {self.limits.files:,} files")
                name = safe_name(info.name, where)
                self._filter(info)
                if info.isdir():
                    (self.work / name).mkdir(parents=True, exist_ok=True)
                elif info.islnk():
                    links.append((name, safe_name(info.linkname, where)))
                elif info.issym():
                    links.append((name, PurePosixPath(os.path.normpath(name.parent / info.linkname))))
                else:
                    self._write(name, info.size, content)
        self._link(links)

    def _filter(self, info: tarfile.TarInfo) -> None:
        """Raises UserError for what tarfile refuses to take from an untrusted archive: links that leave the folder, devices."""
        try:
            tarfile.data_filter(info, str(self.work))
        except tarfile.SpecialFileError:
            raise UserError(f"holds {info.name!r}, a device or a pipe", str(self.archive), "files and folders",
                            "use this source no more") from None
        except (tarfile.AbsoluteLinkError, tarfile.LinkOutsideDestinationError):
            raise UserError(f"the link {info.name!r} leads out of the folder, to {info.linkname!r}", str(self.archive),
                            "files and folders", "use this source no more") from None

    def _write(self, name: PurePosixPath, size: int, content: Callable[[], IO[bytes] | None]) -> None:
        path, written = self._parented(name), 0
        path.unlink(missing_ok=True)  # a later member of the same name replaces the earlier one
        source = content()
        assert source is not None  # of every regular file
        with source, open(path, "xb") as target:
            while data := source.read(CHUNK):
                written += len(data)
                self.bytes += len(data)
                if self.bytes > self.limits.total:
                    raise self._refused(f"holds more than {self.limits.total:,} bytes")
                target.write(data)
                self.progress(len(data))
        if written != size:
            raise EOFError(f"{name} has {written:,} of {size:,} bytes")

    def _link(self, links: list[tuple[PurePosixPath, PurePosixPath]]) -> None:
        """Makes the links, which may form chains, in any order."""
        for _ in range(MAX_CHAINED_LINKS):
            waiting = []
            for name, target in links:
                source, path = self.work / target, self._parented(name)
                if source == path or not source.is_file():
                    waiting.append((name, target))
                    continue
                path.unlink(missing_ok=True)
                os.link(source, path)
            links = waiting
        if links:
            raise self._refused(f"holds a link to what is no file of it ({links[0][0]} -> {links[0][1]})")

    def _parented(self, name: PurePosixPath) -> Path:
        """Returns the path of a file and makes its folder."""
        path = self.work / name
        if path == self.work:
            raise self._refused("holds a file without a name")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _refused(self, what: str) -> UserError:
        return UserError(what, str(self.archive), "an archive of files and folders within the limits", "unpack it by hand if you trust it")


class _Bounded:
    """A file of which tarfile may read MAX_HEADER bytes for one header: the map of a sparse file has no end of its own."""

    def __init__(self, file: Stream):
        self.file, self.seek, self.tell = file, file.seek, file.tell
        self.left: float = MAX_HEADER

    def next(self, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        """Returns the next member, whose content may be of any size."""
        self.left = MAX_HEADER
        info = tar.next()
        self.left = math.inf
        return info

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self.left:
            raise tarfile.ReadError(f"a header of {size:,} bytes" if size > MAX_HEADER else f"a header beyond {MAX_HEADER:,} bytes")
        self.left -= size
        return self.file.read(size)


def _tar_members(file: BinaryIO) -> Contents:
    file.seek(0)
    start = file.read(8)
    file.seek(0)
    opener = next((opener for magic, opener in COMPRESSIONS.items() if start.startswith(magic)), None)
    plain: Stream = opener(file) if opener else file
    bounded = _Bounded(plain)
    with tarfile.open(fileobj=bounded, mode="r:") as tar:  # type: ignore[call-overload]  # nothing is written
        while (info := bounded.next(tar)) is not None:
            tar.members.clear()  # or a million members stay in memory
            yield info, partial(tar.extractfile, info)
        plain.seek(tar.offset)
        if plain.read(512) != bytes(512):  # tarfile takes what it cannot read for the end
            raise EOFError("cut off, or not an archive after some point")
    while plain.read(CHUNK):  # to the end, where the checksum of the compression is
        pass


def _zip_members(file: BinaryIO) -> Contents:
    """Yields the members as tarfile would describe them, so that its filter checks both kinds of archives."""
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            info, form = tarfile.TarInfo(entry.filename), stat.S_IFMT(entry.external_attr >> 16)
            info.size = entry.file_size
            if entry.is_dir():
                info.type = tarfile.DIRTYPE
            elif form == stat.S_IFLNK:
                if info.size > MAX_LINK:
                    raise zipfile.BadZipFile(f"a link of {info.size:,} bytes")
                info.type, info.linkname = tarfile.SYMTYPE, archive.read(entry).decode()
            elif form not in (0, stat.S_IFREG):
                info.type = tarfile.CHRTYPE
            yield info, partial(archive.open, entry)
