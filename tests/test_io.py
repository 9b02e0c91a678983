"""Atomic writes: a reader never sees half a file, and a full disk is one clear message."""

import pickle

import pytest

from kaleidobert import io
from kaleidobert.errors import UserError


def test_an_interrupted_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    io.write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), io.atomic(path) as file:
        file.write(b"new, but only ha")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_explained_and_nothing_is_lost(tmp_path, monkeypatch, full_disk):
    path = tmp_path / "a.txt"
    io.write_text(path, "old")
    full_disk()
    with pytest.raises(UserError, match="no space left.*free some space"):
        io.write_text(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_broken_json_names_the_file(tmp_path):
    (tmp_path / "a.json").write_text('{"a": ')
    with pytest.raises(UserError, match="a.json: not valid JSON"):
        io.read_json(tmp_path / "a.json")


def test_errors_survive_a_process_boundary():
    error = pickle.loads(pickle.dumps(UserError("what", "where", "this", "so")))
    assert str(error) == "where: what; expected: this; to fix: so"
