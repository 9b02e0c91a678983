"""environment.json: what a run ran on, start by start, and nothing that names the machine."""

import json
import socket
from types import SimpleNamespace

from kaleidobert.engines import environment
from kaleidobert.engines.environment import Start, read


def test_every_start_has_its_time(tmp_path, monkeypatch):
    now = iter([10.0, 12.5, 20.0, 100.0, 107.0])
    times = iter(f"2026-01-01T00:00:{number:02d}+00:00" for number in range(10))
    monkeypatch.setattr(environment, "monotonic", lambda: next(now))
    monkeypatch.setattr(environment, "_now", lambda: next(times))
    first = Start(tmp_path)
    first.write()  # at an evaluation: an interruption loses no more than what follows
    first.write()
    second = Start(tmp_path)
    second.write()
    starts = read(tmp_path)["starts"]
    assert [start["seconds"] for start in starts] == [10.0, 7.0] and [start["began"][-8:-6] for start in starts] == ["00", "03"]


def test_what_it_says(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "ROOT", tmp_path)  # no checkout
    environment._code.cache_clear()
    Start(tmp_path / "run").write()
    text = (tmp_path / "run/environment.json").read_text()
    made = json.loads(text)
    environment._code.cache_clear()
    assert made["code"] == {} and made["versions"]["numpy"] and made["machine"]["cores"] and made["machine"]["processor"]
    assert socket.gethostname() not in text


def test_the_commit_is_that_of_the_start(tmp_path, monkeypatch):
    (tmp_path / ".git").mkdir()
    commit = ["first"]
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(environment.subprocess, "run", lambda words, **_: SimpleNamespace(stdout=commit[0] * ("rev-parse" in words)))
    environment._code.cache_clear()
    start = Start(tmp_path / "run")
    commit[0] = "made meanwhile"
    start.write()
    environment._code.cache_clear()
    assert read(tmp_path / "run")["code"] == {"commit": "first", "changed": False}


def test_a_damaged_one_is_none(tmp_path):
    for text in ("", "[]", '{"starts": 3}', '{"starts": [3]}'):
        (tmp_path / "environment.json").write_text(text)
        assert read(tmp_path) == {}
    assert read(tmp_path / "nowhere") == {}
