"""Folders that cannot be written, and disks without room, are found before work is done, by a dry run too; never a traceback."""

import builtins
import errno
import os
import re
import shutil
import subprocess
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from kaleidobert import cli, configs, io
from kaleidobert.app_zoo import synthesize
from kaleidobert.datasets.bank import builder
from kaleidobert.datasets.bank.changes import Changes, ShardPlan
from kaleidobert.datasets.sources import reading
from kaleidobert.errors import UserError
from tests.support.apps_data import World, call, refused
from tests.support.tables import TWO
from tests.support.tiny import tiny_bank, tiny_catalogue

pytestmark = [pytest.mark.slow, pytest.mark.eager]

WRITES = ["pretrain", "classify", "retrieve", "caption", "evaluate", "inspect", "align", "train-foreground", "records", "synthesize",
          "fetch", "convert", "catalogue check", "index"]
KEYS = ("run", "bank", "into", "catalogue", "target", "index")
Usage = namedtuple("Usage", "total used free")


def write_flags(mode: str | int) -> bool:
    return bool(mode & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) if isinstance(mode, int) else bool(set(mode) & set("wax+"))


@pytest.fixture(params=["mounted", "patched"])
def read_only(request, monkeypatch):
    """A function: from now on nothing in a folder can be written; by a mount where that is allowed here, and by patches."""
    mounted = []

    def mount(folder: Path) -> None:
        for words in (["--bind", folder, folder], ["-o", "remount,ro,bind", folder]):
            if shutil.which("mount") is None or subprocess.run(["mount", *map(str, words)], capture_output=True).returncode:
                pytest.skip("nothing can be mounted here")
            mounted[:] = [folder]

    def patch(folder: Path) -> None:
        def refusing(real, mode_of):
            def call_(path, *arguments, **named):
                if isinstance(path, (str, os.PathLike)) and Path(path).absolute().is_relative_to(folder) and mode_of(*arguments, **named):
                    raise OSError(errno.EROFS, "Read-only file system", str(path))
                return real(path, *arguments, **named)
            return call_

        monkeypatch.setattr(builtins, "open", refusing(builtins.open, lambda mode="r", *_, **named: write_flags(named.get("mode", mode))))
        monkeypatch.setattr(os, "open", refusing(os.open, lambda flags, *_, **__: write_flags(flags)))
        for name in ("mkdir", "unlink", "rmdir", "rename", "replace"):
            monkeypatch.setattr(os, name, refusing(getattr(os, name), lambda *_, **__: True))
        access = os.access
        monkeypatch.setattr(os, "access", lambda path, mode, **named: access(path, mode, **named) and not (
            mode & os.W_OK and Path(path).absolute().is_relative_to(folder)))

    yield mount if request.param == "mounted" else patch
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def world(tmp_path) -> World:
    tiny_catalogue(tmp_path / "catalogue", 12)
    return World(tmp_path, TWO)


def into(made, folder: Path):
    """The configuration with its target in another folder."""
    key = next(key for key in KEYS if hasattr(made, key))
    return replace(made, **{key: folder / getattr(made, key).name})


def run(capsys, yaml: Path, name: str, made, *flags: str):
    """The exit status and message of a command whose YAML file lies in a place that can be written."""
    yaml.write_text(configs.dump(made), encoding="utf-8")
    status = cli.main([name, str(yaml), *flags])
    found = capsys.readouterr()
    assert "Traceback" not in found.err + found.out
    return status, found.err


@pytest.mark.parametrize("name", WRITES)
def test_a_read_only_disk_is_found_at_once(world, read_only, name, capsys):
    folder = world.folder / "disk"
    folder.mkdir()
    made = into(world.all()[name], folder)
    deep = into(made, folder / "a/b")
    read_only(folder)
    for one in (made, deep):
        for flags in ([], ["--dry-run"]):
            status, err = run(capsys, world.folder / "config.yaml", name, one, *flags)
            assert status == 2 and "cannot write here (" in err and "to fix: " in err and str(folder) in err, err
    assert not list(folder.iterdir())


@pytest.mark.parametrize("name", WRITES)
def test_a_place_below_a_file_and_a_link_to_nothing(world, name, capsys):
    (world.folder / "file").write_text("mine")
    (world.folder / "link").symlink_to(world.folder / "nowhere")
    for place, words in (("file/deep", "file: cannot write here: this is a file"),
                         ("link/deep", "link: cannot write here: this is a link that leads nowhere")):
        made = into(world.all()[name], world.folder / place)
        for flags in ([], ["--dry-run"]):
            status, err = run(capsys, world.folder / "config.yaml", name, made, *flags)
            assert status == 2 and words in err and "expected: a folder" in err, err
    assert (world.folder / "file").read_text() == "mine"


def test_a_read_only_bank_is_read_but_not_aligned(tmp_path, read_only, untrained, capsys):
    world = World(tmp_path, TWO, tiny_bank(tmp_path, TWO, 12))
    read_only(world.bank.folder)
    for flags in ([], ["--dry-run"]):
        status, err = run(capsys, tmp_path / "config.yaml", "align", world.align(), *flags)
        assert status == 2 and f"{world.bank.folder}: cannot write here (" in err and "copy the bank into a folder" in err
    assert not (tmp_path / "align").exists()
    assert call("pretrain", world.pretrain()).status == 0


def test_a_finished_bank_on_a_read_only_disk(world, read_only, capsys):
    assert call("records", world.records()).status == 0
    read_only(world.folder / "made")
    for flags in ([], ["--dry-run"]):
        status, err = run(capsys, world.folder / "config.yaml", "records", world.records(), *flags)
        assert status == 2 and "made: cannot write here (" in err and "bank=" in err


@pytest.mark.parametrize("name, words", [
    ("records", "made: the disk has 100 bytes free; expected: 15.0 kB for 16 pictures; to fix: free some space.*storage=uint8"),
    ("pretrain", "the disk has 100 bytes free; expected: .* for checkpoints.*run="),
    ("align", "bank: the disk has 100 bytes free; expected: .* for the alignment"),
    ("convert", "the disk has 100 bytes free; expected: .* for the features"),
])
def test_a_disk_without_room_for_what_is_to_come(tmp_path, monkeypatch, name, words):
    world = World(tmp_path, TWO, tiny_bank(tmp_path, TWO, 12))
    made = configs.ConvertConfig(world.bank.folder, tmp_path / "small", storage="uint8") if name == "convert" else getattr(world, name)()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**6, 10**6 - 100, 100))
    for flags in ([], ["--dry-run"]):
        refused(call(name, made, *flags), words)
    assert not [path for target in ("made", "pretrain", "align", "small") for path in (tmp_path / target).rglob("*.np?")]


def test_the_room_of_a_bank_is_counted(world, monkeypatch):
    products, _ = reading.read(world.source)
    for storage in ("float16", "uint8"):
        made = world.records(storage, shard_size=6, storage=storage)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 0, 10**9))
        needed = builder.room(made, products, 48)
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=needed - 1: Usage(10**9, 0, free))
        refused(call("records", made), "the disk has")
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=needed: Usage(10**9, 0, free))
        assert call("records", made).status == 0
        written = sum(path.stat().st_size for path in (world.folder / storage).glob("*.npy"))
        headers = 128 * len(list((world.folder / storage).glob("*.npy")))
        assert needed == written - headers
        small = builder.room(made, products, 48)
        assert small < needed  # the shards are there
        assert builder.room(made, products, 48, Changes((ShardPlan(1),))) - small == (needed - small) * 6 // len(products)


def test_files_of_a_manifest_that_do_not_fit(tmp_path, monkeypatch):
    (tmp_path / "manifest.json").write_text('{"files": [{"name": "a.bin", "url": "http://127.0.0.1:1/a.bin", "size": 5000000000}]}')
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**10, 0, 10**9))
    for flags in ([], ["--dry-run"]):
        refused(call("fetch", configs.FetchConfig(tmp_path / "manifest.json", tmp_path / "into"), *flags),
                "the disk has 1.0 GB free; expected: 5.0 GB for 1 files")


@pytest.mark.parametrize("error, words", [(errno.EROFS, "refuses it .Read-only file system"), (errno.ENOSPC, "no space left on the disk"),
                                          (errno.EDQUOT, "no space left on the disk"), (errno.EACCES, "refuses it .Permission denied")])
def test_what_the_disk_refuses_anywhere_is_one_message(tmp_path, monkeypatch, capsys, error, words):
    def refuse(_):
        raise OSError(error, os.strerror(error), "/data/some.file")

    monkeypatch.setattr(synthesize, "run", refuse)
    assert cli.main(["synthesize", f"catalogue={tmp_path / 'drawn'}"]) == 2
    assert re.search(f"^kaleidobert synthesize: /data/some.file: .*{words}", capsys.readouterr().err)


def test_a_check_leaves_nothing_and_changes_nothing(tmp_path):
    before = tmp_path.stat().st_mtime_ns
    for folder in (tmp_path, tmp_path / "a/b"):
        io.check_folder(folder)
    assert not list(tmp_path.iterdir()) and tmp_path.stat().st_mtime_ns == before
    with pytest.raises(UserError, match="cannot write here .File name too long"):
        io.check_folder(tmp_path / ("x" * 300))
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match="cannot write here"):
        io.check_folder(tmp_path / "loop/run")
