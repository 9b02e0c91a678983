"""Unpacking: what is right comes out as it was, what is hostile or broken is refused and leaves nothing, inside or outside."""

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from kaleidobert.errors import UserError
from kaleidobert.remote import archives
from kaleidobert.remote.archives import Limits, unpack

FILES = {"a.txt": b"first", "deep/er/b.bin": bytes(range(256)) * 500, "deep/empty": b"", "ü n.txt": b"name"}


def tar(path: Path, *members: tuple[tarfile.TarInfo, bytes], opener=open, form=tarfile.PAX_FORMAT) -> Path:
    with opener(path, "wb") as file, tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for info, content in members:
            info.size = len(content) or info.size
            archive.addfile(info, io.BytesIO(content))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", **values) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    for key, value in values.items():
        setattr(info, key, value)
    return info


def plain(**changes) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [(member(name), content) for name, content in (FILES | changes).items()]


def zipped(path: Path, contents: dict[str, bytes], modes: dict[str, int] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (modes or {}).get(name, stat.S_IFREG | 0o644) << 16
            archive.writestr(info, content)
    return path


def found(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(archive: Path, message: str, limits: Limits | None = None) -> None:
    """Refused, and nothing beside the archive is there afterwards."""
    before = set(archive.parent.rglob("*"))
    with pytest.raises(UserError, match=message):
        unpack(archive, archive.parent / "in/out", limits or Limits())
    assert set(archive.parent.rglob("*")) - before <= {archive.parent / "in"}


@pytest.mark.parametrize("opener", [open, gzip.open, bz2.open, lzma.open], ids=["tar", "gz", "bz2", "xz"])
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
def test_tars_come_out_as_they_were(tmp_path, opener, form):
    seen = []
    path = tar(tmp_path / "x", *plain(), (member("n" * 150 + "/" + "m" * 120), b"long"), opener=opener, form=form)
    assert unpack(path, tmp_path / "out", progress=seen.append) == tmp_path / "out"
    assert found(tmp_path / "out") == FILES | {"n" * 150 + "/" + "m" * 120: b"long"}
    assert sum(seen) == sum(map(len, FILES.values())) + 4 and sorted(p.name for p in tmp_path.iterdir()) == ["out", "x"]


def test_zips_come_out_as_they_were_and_a_zip_inside_a_tar_stays_a_file(tmp_path):
    path = zipped(tmp_path / "x.zip", FILES)
    unpack(path, tmp_path / "out")
    assert found(tmp_path / "out") == FILES
    unpack(tar(tmp_path / "y.tar", (member("inner.zip"), path.read_bytes())), tmp_path / "second")
    assert found(tmp_path / "second") == {"inner.zip": path.read_bytes()}


def test_one_folder_that_holds_all_becomes_the_folder(tmp_path):
    path = tar(tmp_path / "x", (member("top", tarfile.DIRTYPE), b""), (member("top/a"), b"1"), (member("top/b/c"), b"2"))
    unpack(path, tmp_path / "out")
    assert found(tmp_path / "out") == {"a": b"1", "b/c": b"2"}
    with pytest.raises(UserError, match="out: is already there"):
        unpack(path, tmp_path / "out")


def test_a_python_whose_tarfile_has_no_data_filter_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    """Debian 12 has Python 3.11.2; the filter came with 3.11.4."""
    monkeypatch.delattr(tarfile, "data_filter")
    for path in (tar(tmp_path / "x", *plain()), zipped(tmp_path / "x.zip", FILES)):
        refused(path, r"in/out: archives cannot be unpacked safely by this Python, 3\.\d+\.\d+; "
                r"expected: Python 3\.11\.4 or newer, .*; to fix: run the command with a newer Python, or .* by hand$")


def test_a_later_member_replaces_an_earlier_one_and_files_are_not_executable(tmp_path):
    unpack(tar(tmp_path / "x", (member("a"), b"old"), (member("b"), b""), (member("a", mode=0o6777), b"new")), tmp_path / "out")
    assert found(tmp_path / "out") == {"a": b"new", "b": b""}
    assert (tmp_path / "out/a").stat().st_mode & 0o7111 == 0


def test_inner_links_become_files(tmp_path):
    path = tar(tmp_path / "x", (member("early", tarfile.SYMTYPE, "late"), b""), (member("d/up", tarfile.SYMTYPE, "../a"), b""),
               (member("late", tarfile.SYMTYPE, "d/./hard"), b""), (member("a"), b"1"), (member("d/hard", tarfile.LNKTYPE, "a"), b""))
    unpack(path, tmp_path / "out")
    assert found(tmp_path / "out") == dict.fromkeys(("early", "d/up", "late", "a", "d/hard"), b"1")
    assert not any(p.is_symlink() for p in (tmp_path / "out").rglob("*"))
    unpack(zipped(tmp_path / "x.zip", {"l": b"a", "a": b"1"}, {"l": stat.S_IFLNK | 0o777}), tmp_path / "second")
    assert found(tmp_path / "second") == {"l": b"1", "a": b"1"}


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "..", "a\\..\\..\\x", "C:/x", "c:x"])
def test_names_that_lead_out(tmp_path, name):
    refused(tar(tmp_path / "x", (member("fine"), b"1"), (member(name), b"2")), "leads out of the folder")
    (tmp_path / "x").unlink()
    if "\\" not in name:  # zipfile writes no backslashes
        refused(zipped(tmp_path / "x", {"fine": b"1", name: b"2"}), "leads out of the folder")
    with pytest.raises(UserError, match="here: the name .* leads out"):
        archives.safe_name(name, "here")


@pytest.mark.parametrize("members, message", [
    ([member("s", tarfile.SYMTYPE, "/etc/passwd")], "leads out of the folder, to '/etc/passwd'"),
    ([member("s", tarfile.SYMTYPE, "../x")], "leads out"),
    ([member("d/s", tarfile.SYMTYPE, "../../x")], "leads out"),
    ([member("h", tarfile.LNKTYPE, "/etc/passwd")], "leads out"),
    ([member("h", tarfile.LNKTYPE, "../x")], "leads out"),
    ([member("s", tarfile.SYMTYPE, "."), member("s/x")], "holds a link to what is no file of it"),  # a folder behind a link
    ([member("d", tarfile.SYMTYPE, "."), member("s", tarfile.SYMTYPE, "d/../.."), member("s/x")], "leads out"),
    ([member("s", tarfile.SYMTYPE, "missing")], "holds a link to what is no file of it"),
    ([member("s", tarfile.SYMTYPE, "s")], "holds a link"),
    ([member("a", tarfile.SYMTYPE, "b"), member("b", tarfile.SYMTYPE, "a")], "holds a link"),
    ([member("null", tarfile.CHRTYPE)], "a device or a pipe"), ([member("disk", tarfile.BLKTYPE)], "a device or a pipe"),
    ([member("pipe", tarfile.FIFOTYPE)], "a device or a pipe"), ([member(".")], "a file without a name"),
    ([member("a"), member("a/b")], "cannot be unpacked"), ([member("n" * 300)], "cannot be unpacked"),
])
def test_members_that_are_refused(tmp_path, members, message):
    (tmp_path / "x").mkdir()
    refused(tar(tmp_path / "x/y", *((info, b"") for info in members)), message)


def test_zip_links_and_devices(tmp_path):
    refused(zipped(tmp_path / "x", {"l": b"../../etc"}, {"l": stat.S_IFLNK | 0o777}), "leads out")
    refused(zipped(tmp_path / "x", {"l": b"x" * 5000}, {"l": stat.S_IFLNK | 0o777}), "a link of 5,000 bytes")
    refused(zipped(tmp_path / "x", {"d": b""}, {"d": stat.S_IFCHR | 0o666}), "a device or a pipe")


def test_bombs(tmp_path):
    refused(tar(tmp_path / "x", *((member(str(k)), b"1") for k in range(12))), "holds more than 11 files", Limits(files=11))
    refused(tar(tmp_path / "x", (member("a"), bytes(10_000_000)), opener=gzip.open), "holds more than 9,000,000 bytes",
            Limits(total=9_000_000))
    refused(zipped(tmp_path / "x", {"a": bytes(10_000_000)}), "holds more than 9,000,000 bytes", Limits(total=9_000_000))
    with gzip.open(tmp_path / "x", "wb") as file:  # a header that wants gigabytes of memory
        file.write(member("h", tarfile.XHDTYPE, size=3 << 30).tobuf(tarfile.USTAR_FORMAT) + bytes(10_000))
    refused(tmp_path / "x", "the archive is damaged .a header of 3,221,225,[0-9]+ bytes")
    sparse = tarfile.TarInfo("s")  # a map of the holes in a file, which goes on and on
    sparse.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s", "GNU.sparse.realsize": "9"}
    holes = b"9999999\n" + b"0\n" * 2_000_000
    refused(tar(tmp_path / "x", (sparse, holes), opener=gzip.open), "the archive is damaged .a header beyond 1,048,576 bytes")
    negative = member("n").tobuf()
    negative = negative[:124] + b"\xff" * 12 + negative[136:148] + b" " * 8 + negative[156:]
    checksum = b"%06o\0 " % sum(negative)
    (tmp_path / "x").write_bytes((negative[:148] + checksum + negative[156:]) + bytes(1024))
    refused(tmp_path / "x", "the archive is damaged")


@pytest.mark.parametrize("opener", [open, gzip.open, lzma.open], ids=["tar", "gz", "xz"])
def test_an_archive_that_is_cut_off_anywhere_is_refused(tmp_path, opener):
    whole = tar(tmp_path / "x", *plain(), opener=opener).read_bytes()
    needed = len(whole) if opener is not open else 512 * (1 + sum(1 + -(-len(content) // 512) for content in FILES.values()))
    ends = [512 * k for k in range(8)] + [needed - 512] if opener is open else []  # between members
    for count in [*range(0, needed, max(1, needed // 30)), *ends, needed - 1]:
        (tmp_path / "x").write_bytes(whole[:count])
        refused(tmp_path / "x", "the archive is damaged")


def test_rubbish_between_members_is_not_taken_for_the_end(tmp_path):
    whole = tar(tmp_path / "x", (member("a"), b"1"), (member("b"), b"2")).read_bytes()
    (tmp_path / "x").write_bytes(whole[:1024] + b"?" * 512 + whole[1536:])
    refused(tmp_path / "x", "the archive is damaged")


def test_a_flipped_byte_is_noticed(tmp_path):
    for make in (lambda: tar(tmp_path / "x", *plain(), opener=gzip.open), lambda: zipped(tmp_path / "x", FILES)):
        whole = make().read_bytes()
        for place in range(60, 400, 20):
            (tmp_path / "x").write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1:])
            try:
                unpack(tmp_path / "x", tmp_path / "out")
            except UserError:
                continue
            assert found(tmp_path / "out") == FILES  # a byte that says nothing, such as a time
            for path in sorted((tmp_path / "out").rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            (tmp_path / "out").rmdir()


def test_a_file_with_holes_comes_out_whole(tmp_path):
    info = tarfile.TarInfo("s")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s", "GNU.sparse.realsize": "3000000"}
    unpack(tar(tmp_path / "x", (info, b"2\n0\n3\n2999998\n2\n".ljust(512, b"\0") + b"abcde")), tmp_path / "out")
    assert found(tmp_path / "out") == {"s": b"abc" + bytes(2999995) + b"de"}


def test_what_is_no_archive(tmp_path):
    for content in (b"", b"PK", b"<html>404</html>" * 100, b"\x1f\x8b" + bytes(100)):
        (tmp_path / "x").write_bytes(content)
        refused(tmp_path / "x", "the archive is damaged .*fetch it again")
