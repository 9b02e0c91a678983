"""Locks of half-fetched files, among threads of one process as among processes."""

import threading

import pytest

from kaleidobert import io
from kaleidobert.remote.downloads import Stopped, locked


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
