"""Manifests, mirrors, the manifests of the release, and ``kaleidobert fetch`` with its scripts."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kaleidobert import cli
from kaleidobert.errors import UserError
from kaleidobert.remote import manifests
from kaleidobert.remote.downloads import Options, fetch
from kaleidobert.remote.manifests import File
from tests.remote.test_archives import member, tar

ROOT = Path(__file__).resolve().parents[2]
FAST = Options(attempts=3, pause=0.001, timeout=5)
CONTENT = bytes(range(256)) * 10


@pytest.mark.parametrize("mirror", ["web", "folder", "file"])
def test_mirrors_hold_the_same_names(server, tmp_path, mirror):
    place = tmp_path / "mirror/deep"
    place.mkdir(parents=True)
    (place / "a b.bin").write_bytes(CONTENT)
    server.add("m/deep/a%20b.bin", CONTENT)
    where = {"web": f"{server.url}/m/", "folder": str(tmp_path / "mirror"), "file": (tmp_path / "mirror").as_uri()}[mirror]
    file = File("deep/a b.bin", ask="ask Ann")
    with pytest.raises(UserError, match="deep/a b.bin: has no public address; to fix: ask Ann; .*mirror=URL_OR_FOLDER"):
        fetch([file], tmp_path / "into", options=FAST)
    fetch([file], tmp_path / "into", where, FAST)
    assert (tmp_path / "into/deep/a b.bin").read_bytes() == CONTENT
    with pytest.raises(UserError, match=r"HTTP 404|cannot be read \(No such file"):
        fetch([File("deep/none")], tmp_path / "into", where, FAST)


def test_manifests_that_are_wrong():
    def refused(text, message):
        with pytest.raises(UserError, match=message):
            manifests.parse(text, "m.json")

    refused("{", "m.json: not a manifest")
    refused("[]", "not a manifest")
    refused('{"files": [3]}', "not a manifest")
    refused('{"files": [{"url": "x"}]}', r"m.json, file 1 \(without a name\): has no name")
    refused('{"files": [{"name": "a", "nam": "b"}]}', "'nam' is unknown")
    refused('{"files": [{"name": "a", "size": "3"}]}', "'size' is unknown or of a wrong type")
    refused('{"files": [{"name": "a", "sha256": "xyz"}]}', "sha256 is none; expected: 64")
    refused('{"files": [{"name": "a"}, {"name": "a"}]}', "names 'a' twice")
    refused('{"files": [{"name": "."}]}', "name names the target folder itself")
    refused('{"files": [{"name": "a.tar", "unpack": "./"}]}', "unpack names the target folder itself")
    for name in ("/etc/passwd", "../a", "a/../../b", "a\\\\b"):
        refused(f'{{"files": [{{"name": "{name}"}}]}}', "leads out of the folder")


def test_what_the_manifest_says(tmp_path):
    path = tmp_path / "m.json"
    path.write_text('''{"address": "https://host/x/", "ask": "ask Ann", "files": [{"name": "./d//a", "url": "a", "size": null},
                        {"name": "b", "url": "s3://b/b", "ask": "ask Bob", "unpack": "c/", "sha256": "''' + "AB" * 32 + '"}]}')
    assert manifests.read(path) == (File("d/a", "https://host/x/a", ask="ask Ann"),
                                    File("b", "s3://b/b", None, "ab" * 32, "c", "ask Bob"))
    with pytest.raises(UserError, match="none.json: the manifest cannot be read"):
        manifests.read(tmp_path / "none.json")


def test_select():
    files = tuple(File(name) for name in ("pretrain/a", "pretrain/b", "retrieve/i2t__c", "retrieve/t2i__d"))
    assert manifests.select(files, ()) == files
    assert manifests.select(files, ("pretrain", "retrieve/i2t*")) == files[:3]
    assert manifests.select(files, ("pretrain/b",)) == files[1:2]
    with pytest.raises(UserError, match="'pretrian' fits no file of the manifest.*did you mean 'pretrain'"):
        manifests.select(files, ("retrieve", "pretrian"))


def test_the_manifests_of_the_release():
    data, checkpoint = (manifests.read(ROOT / folder / "manifest.json") for folder in ("dataset", "checkpoint"))
    counts = {word: len(manifests.select(data, (word,))) for word in
              ("pretrain/pretrain_train*", "pretrain/pretrain_valid*", "finetune", "retrieve/*i2t*", "retrieve/*t2i*", "raw")}
    assert list(counts.values()) == [30, 5, 10, 5, 5, 3]
    assert {file.name for file in data if not file.url} == {f"fashion_gen/fashiongen_256_256_{part}.h5" for part in ("train", "validation")}
    assert all(file.ask for file in data + checkpoint)
    assert {f"pretrained/kaleidobert.ckpt-50683.{end}" for end in ("index", "meta", "data-00000-of-00001")} < {f.name for f in checkpoint}


# --- the command --------------------------------------------------------------------------------------------------------


@pytest.fixture
def mirror(tmp_path):
    """A folder that holds two files and an archive of the manifest."""
    for name in ("raw/full_train_info.txt", "raw/full_valid_info.txt"):
        path = tmp_path / "mirror" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    tar(tmp_path / "mirror/raw/extracted_images.tar.gz", (member("extracted_images/a.png"), b"a"), (member("extracted_images/b.png"), b"b"))
    return tmp_path / "mirror"


def test_the_command_fetches_unpacks_and_lists(mirror, tmp_path, capsys):
    words = ["fetch", str(ROOT / "configs/fetch.yaml"), "only=raw", f"mirror={mirror}", f"into={tmp_path / 'into'}"]
    for keep in ("true", "false"):
        assert cli.main([*words, f"keep_archives={keep}"]) == 0
    out = capsys.readouterr().out
    assert f"3 files in {tmp_path / 'into'}; 3 have no SHA-256" in out
    names = sorted(path.relative_to(tmp_path / "into/raw").as_posix() for path in (tmp_path / "into/raw").rglob("*") if path.is_file())
    assert names == ["extracted_images.tar.gz", "extracted_images/a.png", "extracted_images/b.png", "full_train_info.txt",
                     "full_valid_info.txt"]
    assert cli.main([*words[:2], f"into={tmp_path / 'into'}", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["?", "there", "raw/full_train_info.txt"] for line in lines)
    assert any(line.split() == ["?", *"no public address".split(), "fashion_gen/fashiongen_256_256_train.h5"] for line in lines)
    assert lines[-1].startswith("60 files, whose sizes the manifest does not know, into")


def test_the_command_refuses(tmp_path, capsys):
    for words, message in ((["only=fashion_gen"], "2 of 2 files could not be fetched"), (["only=nothing"], "'nothing' fits no file"),
                           (["mirror=https://ann:SECRET@host/x"], "mirror holds a user or a password"),
                           (["manifest=none.json"], "cannot be read"), (["workers=0"], "workers is 0; expected: 1 to 64")):
        assert cli.main(["fetch", str(ROOT / "configs/fetch.yaml"), f"into={tmp_path / 'into'}", *words]) == 2
        error = capsys.readouterr().err
        assert message in error and "Traceback" not in error and "SECRET" not in error
    assert not (tmp_path / "into").exists()


@pytest.fixture
def project(tmp_path):
    """The scripts and manifests in a folder of their own, with an installation that does nothing."""
    for name in ("dataset", "checkpoint"):
        (tmp_path / "project" / name).mkdir(parents=True)
        for path in (*(ROOT / name).glob("get_*.sh"), ROOT / name / "manifest.json"):
            shutil.copy(path, tmp_path / "project" / name)
    (tmp_path / "project/scripts").mkdir()
    shutil.copy(ROOT / "scripts/fetch.sh", tmp_path / "project/scripts")
    (tmp_path / "project/scripts/environment.sh").write_text("")
    command = tmp_path / "bin/kaleidobert"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kaleidobert.cli "$@"\n')
    command.chmod(0o755)
    surroundings = os.environ | {"PATH": f"{command.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}

    def call(script: str, *words: str) -> subprocess.CompletedProcess:
        return subprocess.run(["bash", f"../project/{script}", *words], cwd=command.parent, env=surroundings,
                              capture_output=True, text=True)

    return call


def test_the_scripts(project, mirror, tmp_path):
    done = project("dataset/get_raw_dataset.sh", "--mirror", "../mirror")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "project/dataset/raw/extracted_images/a.png").read_bytes() == b"a"
    for script, count in (("dataset/get_pretrain_data.sh", 35), ("dataset/get_finetune_data.sh", 10), ("dataset/get_retrieve_data.sh", 10),
                          ("checkpoint/get_checkpoint.sh", 5)):
        done = project(script, "--list")
        assert done.returncode == 0 and f"\n{count} files" in done.stdout, done.stderr
    done = project("dataset/get_raw_dataset.sh", "--only", "fashion_gen", "--only", "raw/*.txt", "--list", "--into", "elsewhere",
                   "workers=2")
    assert "\n4 files" in done.stdout and f"into {tmp_path / 'bin/elsewhere'}" in done.stdout and "workers: 2" in done.stdout
    done = project("dataset/get_raw_dataset.sh", "--mirror")
    assert done.returncode == 2 and "scripts/fetch.sh MANIFEST" in done.stderr
