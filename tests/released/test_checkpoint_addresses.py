"""A TensorFlow 1 checkpoint at an address: named without the endings of its files, or by its folder, which a path may do too."""

import shutil
from dataclasses import replace

import pytest
import yaml

from kaleidobert.app_zoo import fetch
from kaleidobert.configs.loader import Address
from kaleidobert.remote import downloads
from tests.configs.test_loader_s3 import fetched, upload  # noqa: F401 (a fixture)
from tests.support.apps_data import call, refused
from tests.support.checkpoint_data import npz, same
from tests.support.convert_data import convert
from tests.support.released_world import Released

pytestmark = [pytest.mark.usefixtures("surroundings", "untrained"), pytest.mark.slow, pytest.mark.eager]
PARTS = ["model.ckpt-5.data-00000-of-00001", "model.ckpt-5.index"]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Released:
    return Released(tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(downloads, "DEFAULT", downloads.Options(attempts=2, pause=0.001, timeout=5))


def test_a_checkpoint_in_a_bucket(bucket, world, fetched, tmp_path):  # noqa: F811
    shutil.copytree(world.prefix.parent, tmp_path / "tf1")
    shutil.copy(world.bank.folder / "vocab.txt", tmp_path / "tf1")
    (tmp_path / "tf1/model.ckpt-5.meta").write_bytes(b"nobody reads it")
    (tmp_path / "tf1/model.ckpt-50.index").write_bytes(b"another one")
    folder = upload(bucket, tmp_path / "tf1", "models/released")
    init = Address.of(f"{folder.url}/{world.prefix.name}")
    config = world.classify("far", init=init)
    done = call("classify", config, "--dry-run")
    assert done.status == 0 and f"init: {init.url}: would be fetched: 4 file(s), " in done.out and not fetched
    done = call("classify", config)
    assert done.status == 0 and "which vocabulary" not in done.out, done.err
    assert sorted(fetched) == ["config.json", *PARTS, "vocab.txt"]
    assert yaml.safe_load((config.run / "config.yaml").read_text())["init"] == init.url
    assert call("classify", world.classify("near")).status == 0
    assert same(npz(config.run / "best.npz"), npz(world.folder / "near/best.npz"))
    fetched.clear()
    done = call("classify", replace(config, run=world.folder / "again"), "--dry-run")
    assert done.status == 0 and "is here, in" in done.out and "pictures to train on" in done.out and not fetched
    refused(call("classify", replace(config, init=folder)), "models/released: the folder holds 2 checkpoints: model.ckpt-5, model.ckpt-50")
    bucket.Object("models/released/model.ckpt-50.index").delete()
    fetched.clear()
    done = call("classify", replace(config, init=folder, run=world.folder / "by-folder"))
    assert done.status == 0 and not fetched, done.err  # all came with the refused command
    assert yaml.safe_load((world.folder / "by-folder/config.yaml").read_text())["init"] == folder.url
    assert same(npz(config.run / "best.npz"), npz(world.folder / "by-folder/best.npz"))
    target = tmp_path / "converted.npz"
    assert convert(init.url, target).status == 0 and target.is_file()


def test_a_checkpoint_on_the_web(server, world, tmp_path):
    for name in (*PARTS, "config.json"):
        server.add(f"m/{name}", (world.prefix.parent / name).read_bytes())
    at = Address.of(f"{server.url}/m/{world.prefix.name}")
    for _ in range(2):
        found = fetch.localize(world.classify("web", init=at)).init
        assert found.name == world.prefix.name and found.url == at.url
        assert sorted(path.name for path in found.parent.iterdir()) == ["config.json", *PARTS]
    assert len(server.ranges(f"m/{PARTS[0]}")) == 3  # asked, fetched, asked again
    server.add("m/vocab.txt", b"a\n")
    assert (fetch.localize(world.classify("web", init=at)).init.parent / "vocab.txt").is_file()
    del server.files[f"/m/{PARTS[0]}"]
    refused(call("classify", world.classify("web", init=at)), f"init: {PARTS[1]} is there, and {PARTS[0]} is not", "name the folder")
    none = Address.of(f"{server.url}/m/none.ckpt-1")
    refused(call("classify", world.classify("web", init=none)), "none.ckpt-1: init: there is no such file")


@pytest.mark.parametrize("name", ["pretrain", "retrieve"])
def test_a_folder_of_this_machine(world, tmp_path, name):
    whole = world.config(name, f"{name}-prefix")
    assert call(name, whole).status == 0
    for number, init in enumerate((world.prefix.parent, world.prefix.with_name(PARTS[1]))[: 2 if name == "retrieve" else 1]):
        config = world.config(name, f"{name}-{number}", init=init)
        assert call(name, config).status == 0
        assert same(npz(config.run / "best.npz"), npz(whole.run / "best.npz"))
    (tmp_path / "run").mkdir()
    refused(call(name, world.config(name, "none", init=tmp_path / "run")), "run: the folder holds 0 checkpoints: none.*init=FOLDER/NAME")
