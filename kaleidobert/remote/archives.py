"""Unpacking archives that nobody vouches for: tar, tar.gz, tar.bz2, tar.xz and zip.

Into the folder come regular files and folders, nothing else, and the folder appears complete or not at all. An archive is refused as a
whole where a member has an absolute path or "..", is a device, is a link to anything but a file of the same archive, or where it
holds more files or bytes than the limits. Inner links become hard links, so that no link can ever lead out of the folder.
"""

import bz2
import errno
import gzip
import lzma
import math
import os
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
    """What is read of an archive, compressed or not."""

    def read(self, size: int, /) -> bytes: ...

    def seek(self, offset: int, whence: int = 0, /) -> int: ...

    def tell(self) -> int: ...


CHUNK = 1 << 20
MOST_AT_ONCE = 1 << 20  # bytes of a tar header; one that wants to be larger is an attack on the memory
MOST_LINKS_IN_A_CHAIN = 8
COMPRESSIONS: dict[bytes, Callable[[BinaryIO], Stream]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
BROKEN = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, UnicodeError, RuntimeError,
          NotImplementedError, ValueError)


@dataclass(frozen=True)
class Limits:
    """What an archive may hold. files: members; total: bytes unpacked, 0 = 100 times the archive's size, but at least 1 GiB."""

    files: int = 1_000_000
    total: int = 0


@dataclass(frozen=True)
class Member:
    """A file, a folder or a link. name: as safe_name gives it; target: of a link; open: the bytes of a file."""

    name: PurePosixPath
    kind: str  # file | folder | link
    size: int = 0
    target: str = ""
    open: Callable[[], IO[bytes]] | None = None


def safe_name(name: str, where: str) -> PurePosixPath:
    """A relative path that stays below its folder; raises UserError for any other."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    odd = name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or (parts and parts[0][1:2] == ":")
    if odd:
        raise UserError(f"the name {name!r} leads out of the folder", where, "relative names without '..'", "use this source no more")
    return PurePosixPath(*parts)


def unpack(archive: str | Path, folder: str | Path, limits: Limits = Limits(), progress: Callable[[int], None] | None = None) -> Path:
    """Unpack into ``folder``, which must not exist yet; where all lies in one folder of the archive, that folder becomes it.

    progress(bytes) is called as they are written. Raises UserError for what is refused or broken; nothing is left behind then.
    """
    archive, folder = Path(archive), Path(folder)
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
        links: list[Member] = []
        with open(self.archive, "rb") as file:
            reader = _zip_members if file.read(2) == b"PK" else _tar_members
            for count, member in enumerate(reader(file, str(self.archive))):
                if count >= self.limits.files:
                    raise self._refused(f"holds more than {self.limits.files:,} files")
                if member.kind == "folder":
                    self._place(member, parent=False).mkdir(parents=True, exist_ok=True)
                elif member.kind == "link":
                    links.append(member)
                else:
                    self._write(member)
        self._link(links)

    def _write(self, member: Member) -> None:
        assert member.open is not None  # of every file
        path, written = self._place(member), 0
        path.unlink(missing_ok=True)  # a later member of the same name replaces the earlier one
        with member.open() as source, open(path, "xb") as target:
            while data := source.read(CHUNK):
                written += len(data)
                self.bytes += len(data)
                if self.bytes > self.limits.total:
                    raise self._refused(f"holds more than {self.limits.total:,} bytes")
                target.write(data)
                self.progress(len(data))
        if written != member.size:
            raise EOFError(f"{member.name} has {written:,} of {member.size:,} bytes")

    def _link(self, links: list[Member]) -> None:
        """Links to files of the archive, chains of links too, whatever their order."""
        for _ in range(MOST_LINKS_IN_A_CHAIN):
            waiting = []
            for member in links:
                target, path = self.work / member.target, self._place(member)
                if target == path or not target.is_file():
                    waiting.append(member)
                    continue
                path.unlink(missing_ok=True)
                os.link(target, path)
            links = waiting
        if links:
            raise self._refused(f"holds a link to what is no file of it ({links[0].name} -> {links[0].target})")

    def _place(self, member: Member, parent: bool = True) -> Path:
        path = self.work / member.name
        if parent and path == self.work:
            raise self._refused("holds a file without a name")
        if parent:
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _refused(self, what: str) -> UserError:
        return UserError(what, str(self.archive), "an archive of files and folders within the limits", "unpack it by hand if you trust it")


class _Bounded:
    """A file of which tarfile may read so many bytes as a header; a map of holes in a file goes on until its numbers end."""

    def __init__(self, file: Stream):
        self.file, self.seek, self.tell = file, file.seek, file.tell
        self.left: float = MOST_AT_ONCE

    def next(self, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        """The next member; its content may be of any size."""
        self.left = MOST_AT_ONCE
        info = tar.next()
        self.left = math.inf
        return info

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self.left:
            raise tarfile.ReadError(f"a header of {size:,} bytes" if size > MOST_AT_ONCE else f"a header beyond {MOST_AT_ONCE:,} bytes")
        self.left -= size
        return self.file.read(size)


def _tar_members(file: BinaryIO, where: str) -> Iterator[Member]:
    file.seek(0)
    start = file.read(8)
    file.seek(0)
    opener = next((opener for magic, opener in COMPRESSIONS.items() if start.startswith(magic)), None)
    plain: Stream = opener(file) if opener else file
    bounded = _Bounded(plain)
    with tarfile.open(fileobj=bounded, mode="r:") as tar:  # type: ignore[call-overload]  # nothing is written
        while (info := bounded.next(tar)) is not None:
            tar.members.clear()  # or a million members stay in memory
            name = safe_name(info.name, where)
            if info.isdir():
                yield Member(name, "folder")
            elif info.isreg():
                yield Member(name, "file", info.size, "", partial(_content, tar, info))
            elif info.islnk():
                yield Member(name, "link", target=str(safe_name(info.linkname, where)))
            elif info.issym():
                yield Member(name, "link", target=_inside(name, info.linkname, where))
            else:
                raise UserError(f"holds {info.name!r}, a device or a pipe", where, "files and folders", "use this source no more")
        plain.seek(tar.offset)
        if plain.read(512) != bytes(512):  # tarfile takes what it cannot read for the end
            raise EOFError("cut off, or not an archive after some point")
    while plain.read(CHUNK):  # to the end, where the checksum of the compression is
        pass


def _content(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(info)
    assert content is not None  # as of every regular file
    return content


def _zip_members(file: BinaryIO, where: str) -> Iterator[Member]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            name, mode = safe_name(info.filename, where), info.external_attr >> 16
            if info.is_dir():
                yield Member(name, "folder")
            elif stat.S_ISLNK(mode):
                if info.file_size > 4096:
                    raise zipfile.BadZipFile(f"a link of {info.file_size:,} bytes")
                yield Member(name, "link", target=_inside(name, archive.read(info).decode(), where))
            elif stat.S_IFMT(mode) in (0, stat.S_IFREG):
                yield Member(name, "file", info.file_size, "", partial(archive.open, info))
            else:
                raise UserError(f"holds {info.filename!r}, a device or a pipe", where, "files and folders", "use this source no more")


def _inside(name: PurePosixPath, target: str, where: str) -> str:
    """Where a symbolic link leads, from the archive's own folder; UserError where that is outside."""
    path = os.path.normpath(name.parent / target)
    if target.startswith("/") or path.split("/")[0] == "..":
        raise UserError(f"the link {str(name)!r} leads out of the folder, to {target!r}", where, "files and folders",
                        "use this source no more")
    return str(safe_name(path, where))
