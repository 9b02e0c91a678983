"""Fetching over a real connection that breaks, from servers that lie: what is there in the end is right, or a clear refusal."""

import errno
import hashlib
import os
import random
import tarfile
import threading
from pathlib import Path

import pytest

from kaleidobert import io
from kaleidobert.errors import UserError
from kaleidobert.remote import downloads
from kaleidobert.remote.downloads import Options, Stopped, fetch, locked
from kaleidobert.remote.manifests import File
from tests.support.servers import Server, serving

FAST = Options(attempts=3, pause=0.001, timeout=5)
CONTENT = random.Random(0).randbytes(600_000)  # more than two chunks


def entry(server: Server, name: str = "a.bin", **changes) -> File:
    return File(**{"name": name, "url": f"{server.url}/{name}"} | changes)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob(".*"))


def half(server: Server, folder: Path, count: int = 300_000) -> None:
    """Fetch the beginning of a.bin and lose the connection for good."""
    server.add("a.bin", CONTENT, f"cut {count}", "status 503")
    with pytest.raises(UserError, match=r"a\.bin: the server answered HTTP 503; tried 3 times; to fix: .* continues where it stopped"):
        fetch([entry(server)], folder, options=FAST)
    assert not (folder / "a.bin").exists() and (folder / ".a.bin.part").stat().st_size == count


def test_a_broken_connection_is_resumed_at_the_byte_where_it_broke(server, tmp_path):
    server.add("a.bin", CONTENT, "cut 200000", "cut 100000", "status 503", "ok")
    fetch([entry(server)], tmp_path, options=FAST)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT and hidden(tmp_path) == []
    assert server.ranges("a.bin") == ["", "bytes=200000-", "bytes=300000-", "bytes=300000-"] and server.bytes == len(CONTENT)


def test_a_later_call_resumes_too(server, tmp_path):
    half(server, tmp_path)
    server.plan["/a.bin"], server.bytes = ["ok"], 0
    fetch([entry(server)], tmp_path, options=FAST)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT and server.bytes == 300_000 and hidden(tmp_path) == []
    assert server.requests[-1][1]["If-Range"].startswith('"')


def test_a_rest_whose_whole_size_is_not_said_is_not_cut_off_unnoticed(server, tmp_path):
    half(server, tmp_path)
    server.plan["/a.bin"] = ["no-total cut 100000", "no-total"]
    fetch([entry(server)], tmp_path, options=FAST)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT and server.ranges("a.bin")[-2:] == ["bytes=300000-", "bytes=400000-"]


def test_another_range_than_the_asked_one_is_not_taken(server, tmp_path):
    half(server, tmp_path)
    server.plan["/a.bin"] = ["shift", "ok"]
    fetch([entry(server)], tmp_path, options=FAST)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT and server.ranges("a.bin")[-2:] == ["bytes=300000-", ""]


@pytest.mark.parametrize("how", ["ok", "no-range", "no-if-range", "no-tag"])
def test_a_file_that_changed_meanwhile_starts_anew(server, tmp_path, how):
    half(server, tmp_path)
    other = server.add("a.bin", CONTENT[::-1], how)
    fetch([entry(server)], tmp_path, options=FAST)
    assert (tmp_path / "a.bin").read_bytes() == other


def test_without_a_validator_only_a_known_hash_allows_to_resume(server, tmp_path):
    for name, known, asked in (("a", "", ["", "", ""]), ("b", sha256(CONTENT), ["", "bytes=200000-", "bytes=300000-"])):
        server.add(name, CONTENT, "no-tag cut 200000", "no-tag cut 100000", "no-tag")
        fetch([entry(server, name, sha256=known)], tmp_path, options=FAST)
        assert (tmp_path / name).read_bytes() == CONTENT and server.ranges(name) == asked


def test_another_address_continues_only_where_a_hash_will_tell(server, tmp_path):
    for known, asked in (("", ""), (sha256(CONTENT), "bytes=300000-")):
        half(server, tmp_path)
        server.add("b.bin", CONTENT)
        server.requests.clear()
        fetch([entry(server, url=f"{server.url}/b.bin", sha256=known)], tmp_path, options=FAST)
        assert server.ranges("b.bin") == [asked] and (tmp_path / "a.bin").read_bytes() == CONTENT
        (tmp_path / "a.bin").unlink()


def test_a_server_that_breaks_and_cannot_resume_ends_in_a_refusal_not_in_a_circle(server, tmp_path):
    server.add("a.bin", CONTENT, "no-range cut 1000")
    with pytest.raises(UserError, match="the connection ended after 1,000 of 600,000 bytes; tried 3 times"):
        fetch([entry(server)], tmp_path, options=FAST)
    assert len(server.requests) <= 4


def test_bytes_that_are_wrong(server, tmp_path):
    server.add("a.bin", CONTENT, "wrong")
    with pytest.raises(UserError, match=f"not what the manifest says: has the SHA-256 [0-9a-f]+; expected: {sha256(CONTENT)}.*mirror="):
        fetch([entry(server, sha256=sha256(CONTENT))], tmp_path, options=FAST)
    assert list(tmp_path.iterdir()) == []
    server.plan["/a.bin"] = ["ok"]
    fetch([entry(server, sha256=sha256(CONTENT), size=len(CONTENT))], tmp_path, options=FAST)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_wrong_beginning_is_fetched_again_by_itself(server, tmp_path):
    half(server, tmp_path)
    part = tmp_path / ".a.bin.part"
    part.write_bytes(bytes(300_000))
    server.plan["/a.bin"] = ["ok"]
    fetch([entry(server, sha256=sha256(CONTENT))], tmp_path, options=FAST)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_wrong_size_is_refused_before_a_byte_is_fetched(server, tmp_path):
    server.add("a.bin", CONTENT)
    with pytest.raises(UserError, match=r"a\.bin: the file there has 600,000 bytes; expected: 7 bytes"):
        fetch([entry(server, size=7)], tmp_path, options=FAST)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size, message", [(700_000, "ended after 600,000 of 700,000 bytes; tried"), (500_000, "more than 500,000 bytes")])
def test_a_server_that_tells_no_length(server, tmp_path, size, message):
    server.add("a.bin", CONTENT, "no-length")
    with pytest.raises(UserError, match=message):
        fetch([entry(server, size=size)], tmp_path, options=FAST)
    fetch([entry(server, size=600_000)], tmp_path / "right", options=FAST)
    assert (tmp_path / "right/a.bin").read_bytes() == CONTENT


def test_without_network_it_ends_at_once_however_many_files(tmp_path):
    with serving() as gone:
        url = gone.url
    files = [File(f"{k}.bin", f"{url}/{k}.bin") for k in range(40)]
    with pytest.raises(UserError, match="the connection to 127.0.0.1:[0-9]+ broke .Connection refused.; tried 3 times") as caught:
        fetch(files, tmp_path, options=Options(2, 3, pause=0.001))
    assert str(caught.value).count("tried 3 times") <= 4
    with pytest.raises(UserError, match=r"the host nowhere\.invalid cannot be found \(no network\?\); tried 3 times"):
        fetch([File("a.bin", "https://nowhere.invalid/a.bin")], tmp_path, options=FAST)


def test_what_fails_does_not_hold_up_the_others(server, tmp_path):
    server.add("a.bin", CONTENT)
    files = [entry(server, "gone", ask="ask Ann"), entry(server), entry(server, "lost", ask="ask Ann")]
    with pytest.raises(UserError, match=r"2 of 3 files could not be fetched") as caught:
        fetch(files, tmp_path, options=FAST)
    assert str(caught.value).count("HTTP 404") == 2 and str(caught.value).count("ask Ann") == 1
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_many_files_come_in_parallel_with_progress(server, tmp_path):
    server.together = threading.Barrier(4, timeout=5)
    seen = {}
    for k in range(4):
        server.add(f"deep/{k}", CONTENT[k:])
    fetch([entry(server, f"deep/{k}") for k in range(4)], tmp_path, options=FAST, progress=lambda *told: seen.update({told[0]: told[1:]}))
    assert server.most_at_once == 4 and seen == {f"deep/{k}": (len(CONTENT) - k,) * 2 for k in range(4)}
    assert all((tmp_path / f"deep/{k}").read_bytes() == CONTENT[k:] for k in range(4))


def test_what_is_there_is_checked_and_never_overwritten(server, tmp_path):
    (tmp_path / "a.bin").write_bytes(b"mine")
    fetch([entry(server)], tmp_path, options=FAST)  # nothing is known of it
    fetch([entry(server, size=4, sha256=sha256(b"mine"))], tmp_path, options=FAST)
    for wrong in ({"size": 5}, {"sha256": sha256(b"other")}):
        with pytest.raises(UserError, match=r"a\.bin: is there already, but has .*to fix: delete it"):
            fetch([entry(server, **wrong)], tmp_path, options=FAST)
    assert (tmp_path / "a.bin").read_bytes() == b"mine" and server.requests == []


def test_a_disk_without_room_is_told_before_the_transfer(server, tmp_path, monkeypatch):
    server.add("a.bin", CONTENT)
    real = os.statvfs(tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((*real[:4], 100, *real[5:])))
    with pytest.raises(UserError, match="no space left on the disk; to fix: .*continues where it stopped"):
        fetch([entry(server)], tmp_path, options=FAST)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_keeps_what_came(server, tmp_path, monkeypatch):
    server.add("a.bin", CONTENT)

    class Full:
        """A file that takes one piece, as large as it comes."""

        taken = 0

        def __init__(self, file):
            self.file, self.written = file, 0

        def write(self, data):
            self.written += 1
            if self.written > 1:
                raise OSError(errno.ENOSPC, "No space left on device")
            Full.taken = self.file.write(data)
            return Full.taken

        def __getattr__(self, name):
            return getattr(self.file, name)

    build = downloads.PartialFile.__init__
    with monkeypatch.context() as patch:
        patch.setattr(downloads.PartialFile, "__init__", lambda held, target, file: build(held, target, Full(file)))
        with pytest.raises(UserError, match="no space left on the disk"):
            fetch([entry(server)], tmp_path, options=FAST)
    server.requests.clear()
    fetch([entry(server)], tmp_path, options=FAST)
    assert 0 < Full.taken <= downloads.CHUNK
    assert server.ranges("a.bin") == [f"bytes={Full.taken}-"] and (tmp_path / "a.bin").read_bytes() == CONTENT


def test_an_interruption_stops_all_and_keeps_what_came(server, tmp_path):
    for name in "abc":
        server.add(name, CONTENT)

    def interrupt(name, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch([entry(server, name) for name in "abc"], tmp_path, options=Options(1), progress=interrupt)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []
    assert hidden(tmp_path)[0].endswith(".part")


def test_two_that_fetch_the_same_do_not_meet(server, tmp_path):
    server.add("a.bin", CONTENT)
    errors = []

    def one():
        try:
            fetch([entry(server)], tmp_path, options=FAST)
        except UserError as error:
            errors.append(error)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and (tmp_path / "a.bin").read_bytes() == CONTENT and hidden(tmp_path) == []
    assert len(server.requests) == 1


def test_a_lock_on_a_file_that_was_renamed_meanwhile_is_no_lock(tmp_path, monkeypatch):
    path, real, calls = tmp_path / "x", io._lock, []

    def slow(file, path, shared=False):
        calls.append(file)
        if len(calls) == 1:  # between opening and locking, its holder finishes
            path.rename(tmp_path / "final")
        return real(file, path, shared)

    monkeypatch.setattr(io, "_lock", slow)
    with locked(path, threading.Event()) as file:
        file.write(b"new")
    assert len(calls) == 2 and path.read_bytes() == b"new" and (tmp_path / "final").read_bytes() == b""


def test_a_second_one_waits_until_the_first_is_done_or_it_is_stopped(tmp_path):
    stop = threading.Event()
    with locked(tmp_path / "x", threading.Event()):
        threading.Timer(0.05, stop.set).start()
        with pytest.raises(Stopped), locked(tmp_path / "x", stop):
            pytest.fail("both have it")
    with locked(tmp_path / "x", threading.Event()):
        pass


def test_an_archive_that_this_python_cannot_unpack_is_not_even_fetched(server, tmp_path, monkeypatch):
    monkeypatch.delattr(tarfile, "data_filter")
    server.add("a.bin", CONTENT)
    with pytest.raises(UserError, match=r"folder: archives cannot be unpacked safely by this Python.*expected: Python 3\.11\.4 or newer"):
        fetch([entry(server, unpack="folder")], tmp_path, options=FAST)
    assert server.bytes == 0 and list(tmp_path.iterdir()) == []
    fetch([entry(server)], tmp_path, options=FAST)  # what is no archive needs no filter
    (tmp_path / "folder").mkdir()
    fetch([entry(server, unpack="folder")], tmp_path, options=FAST)  # unpacked by hand
