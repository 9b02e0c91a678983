"""Addresses in place of paths: what a configuration makes of them, and how their copies take their place (S3: test_loader_s3.py)."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from kaleidobert import configs
from kaleidobert.app_zoo import fetch
from kaleidobert.configs.loader import Address
from kaleidobert.errors import UserError
from kaleidobert.released.files import read_list
from tests.support.apps_data import World, call, refused
from tests.support.servers import SECRETS
from tests.support.tables import TWO

pytestmark = pytest.mark.usefixtures("surroundings")


@pytest.fixture
def world(tmp_path) -> World:
    """Configurations alone: no bank is there."""
    return World(tmp_path, TWO)


def test_addresses_stay_what_they_are_through_files_copies_and_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("BUCKET", "b")
    path = tmp_path / "c.yaml"
    path.write_text("run: r\ndata: {bank: s3://$BUCKET/bank/}\ninit: https://host/m/best.npz\n")
    config = configs.load(configs.PretrainConfig, path)
    assert (config.data.bank.url, config.init.url) == ("s3://b/bank/", "https://host/m/best.npz") and config.run == tmp_path / "r"
    path.write_text(configs.dump(config))
    again = configs.load(configs.PretrainConfig, path)
    assert again == config and configs.to_dict(again) == configs.to_dict(config)
    copy = pickle.loads(pickle.dumps(Address.of("s3://b/bank", "/cache/bank")))
    assert isinstance(copy, Path) and str(copy) == "/cache/bank" and [copy.url, (copy / "x").url] == ["s3://b/bank", ""]
    assert [configs.to_dict(configs.Data(path))["bank"] for path in (copy, copy / "x")] == ["s3://b/bank", "/cache/bank/x"]


def test_every_input_of_every_command_may_be_an_address(world, server, tmp_path):
    """Of each command all keys of paths that are no outputs, each fetched under its own name."""
    for name in ("a.npz", "config.json", "vocab.txt", "manifest.json", "table.jsonl", "pictures/manifest.json", "pictures/a.npz"):
        server.add(name, b'{"files": [{"name": "a.npz"}]}' if "manifest" in name else name.encode())

    def at(name: str) -> Address:
        return Address.of(f"{server.url}/{name}")

    source = replace(world.source, table=at("table.jsonl"), images=at("pictures/"))
    data = configs.TrainingData(files=at("a.npz"), val_files=at("a.npz"))
    for config, count in (
            (world.records(source=source, foreground=configs.Foreground(weights=at("a.npz")), encoder=configs.Encoder(weights=at("a.npz")),
                           text=configs.Text(vocabulary=at("vocab.txt"))), 5),
            (world.align(grid=configs.Grid(weights=at("a.npz"))), 1), (world.classify(data=data, init=at("a.npz")), 3),
            (world.retrieve(candidates=at("a.npz")), 1),
            (replace(world.inspect(source=source, maps=at("pictures/")), checkpoint=at("a.npz")), 4),
            (replace(world.convert(), source=at("a.npz"), model=at("config.json"), vocabulary=at("vocab.txt")), 3),
            (replace(world.fetch(), manifest=at("manifest.json")), 1)):
        found, before = fetch.localize(config), configs.dump(config)
        assert configs.dump(found) == before and before.count(server.url) == count
        copies = paths(found)
        assert len(copies) == count
        for path in copies:
            assert str(path).startswith(f"{tmp_path}/cache/") and (path / "a.npz" if path.name == "pictures" else path).is_file()


def paths(config) -> list[Address]:
    found = []
    fetch._each(config, lambda key, address: found.append(address) or address)
    return found


@pytest.mark.parametrize("word", [f"init=https://me:{SECRETS[1]}@host/best.npz", f"init=s3://{SECRETS[0]}:a/{SECRETS[1]}@bucket/x",
                                  f"run=https://host/x?signature={SECRETS[1]}", f"data.bank=https://host/x#{SECRETS[1]}"])
def test_addresses_with_passwords_are_refused_and_not_shown(world, word):
    done = call("classify", world.classify(), word, "--dry-run")
    refused(done, "is an address with one of @\\?#", "~/.netrc for https")
    assert not any(secret in done.out + done.err for secret in SECRETS)
    done = call("classify", world.classify(), f"i{word}")
    refused(done, "unknown key")
    assert not any(secret in done.out + done.err for secret in SECRETS)


def test_lists_name_files_of_this_machine(tmp_path):
    (tmp_path / "list").write_text("s3://bucket/part-0\n")
    with pytest.raises(UserError, match="there is no file 's3://bucket/part-0'.*fetch the files first: a list names files of this machine"):
        read_list(tmp_path / "list")
