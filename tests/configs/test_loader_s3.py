"""Inputs given as addresses: through the command line from S3 (moto's server on the loopback), resumed, changed, missing, refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from kaleidobert import cli, configs
from kaleidobert.app_zoo import fetch
from kaleidobert.configs.loader import Address
from kaleidobert.datasets.sources import SOURCES
from kaleidobert.errors import UserError
from kaleidobert.remote import downloads
from kaleidobert.remote.downloads import Fetcher
from tests.support.apps_data import TRAIN, World, call, refused, results
from tests.support.quick import still
from tests.support.servers import SECRETS
from tests.support.tables import TWO
from tests.support.tiny import make_bank, tiny_bank, tiny_catalogue

pytestmark = [pytest.mark.usefixtures("surroundings"), pytest.mark.slow, pytest.mark.eager]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> World:
    """A bank and the checkpoint of a pre-training run that learnt nothing."""
    folder = tmp_path_factory.mktemp("made")
    world = World(folder, TWO, tiny_bank(folder, TWO))
    with pytest.MonkeyPatch.context() as patch:
        still(patch)
        assert call("pretrain", world.pretrain(train=replace(TRAIN, epochs=0.5))).status == 0
    return world


@pytest.fixture
def world(made, tmp_path, monkeypatch) -> World:
    """The same, whose runs go into a folder of this test; servers that fail are not asked for long."""
    monkeypatch.setattr(downloads, "DEFAULT", downloads.Options(attempts=2, pause=0.001, timeout=5))
    world = World(made.folder, TWO, made.bank)
    world.folder = tmp_path
    return world


@pytest.fixture
def fetched(monkeypatch) -> list[str]:
    """The names of the files that were fetched."""
    names, real = [], Fetcher._download
    monkeypatch.setattr(Fetcher, "_download", lambda self, file, *rest: (names.append(file.name), real(self, file, *rest))[1])
    return names


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def upload(bucket, path: Path, key: str) -> Address:
    for name in names(path) if path.is_dir() else [""]:
        bucket.upload_file(str(path / name), f"{key}/{name}".rstrip("/"))
    return Address.of(f"s3://{bucket.name}/{key}")


def on_s3(bucket, world: World) -> dict:
    """What a configuration of a training says of data and init."""
    bank = upload(bucket, world.bank.folder, "banks/tiny")
    return {"data": configs.TrainingData(bank), "init": upload(bucket, world.best, "models/best.npz")}


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


# --- commands -----------------------------------------------------------------------------------------------------------


def test_a_run_on_s3_is_interrupted_resumed_and_ends_as_one_on_local_files(bucket, world, fetched, interrupt, tmp_path):
    assert call("classify", world.classify("local")).status == 0
    config = world.classify("far", **on_s3(bucket, world))
    interrupt(4)
    done = call("classify", config)
    assert done.status == 130
    assert sorted(fetched) == sorted(["best.npz", *names(world.bank.folder)])
    assert f"data.bank: s3://{bucket.name}/banks/tiny is read from {tmp_path}/cache/" in done.out
    assert yaml.safe_load((config.run / "config.yaml").read_text())["data"]["bank"] == f"s3://{bucket.name}/banks/tiny"
    interrupt(0)
    fetched.clear()
    done = call("classify", config)
    assert done.status == 0 and "resuming" in done.out and not fetched
    for name, array in arrays(world.folder / "local/best.npz").items():
        if name != "__meta__":
            assert np.array_equal(array, arrays(config.run / "best.npz")[name])
    assert results(config.run)["metrics"] == results(world.folder / "local")["metrics"]
    assert results(config.run)["config"]["init"] == f"s3://{bucket.name}/models/best.npz"
    assert not any(secret in text for text in (done.out, done.err, *(path.read_text() for path in config.run.glob("*.[jy]*")))
                   for secret in SECRETS)
    other = replace(config, init=upload(bucket, world.best, "models/other.npz"))
    refused(call("classify", other), "the folder holds another run", r"models/best\.npz -> s3://bucket-\d+/models/other\.npz")


def test_changed_objects_are_fetched_again_and_a_run_on_another_bank_is_not_resumed(bucket, world, fetched, untrained, interrupt):
    config = world.classify("far", **on_s3(bucket, world))
    interrupt(4)
    assert call("classify", config).status == 130
    interrupt(0)
    source = tiny_catalogue(world.folder / "catalogue")  # the same texts, one picture is another
    (source.table.parent / "p00-front.png").write_bytes((source.table.parent / "p01-front.png").read_bytes())
    upload(bucket, make_bank(world.folder / "other", source, TWO).folder, "banks/tiny")
    fetched.clear()
    refused(call("classify", config), r"last\.npz: .*bank_sha256")
    assert sorted(fetched) == ["boxes.npy", "features-00000.npy", "index.json", "shards/00000.json", "table.jsonl"]
    assert call("classify", replace(config, run=world.folder / "new")).status == 0


def test_a_dry_run_fetches_nothing_and_checks_what_is_here(bucket, world, fetched, tmp_path):
    config = world.classify("far", **on_s3(bucket, world))
    done = call("classify", config, "--dry-run")
    assert done.status == 0 and not fetched and not (tmp_path / "cache").exists() and not config.run.exists()
    assert f"data.bank: s3://{bucket.name}/banks/tiny: would be fetched: {len(names(world.bank.folder))} file(s), " in done.out
    assert "models/best.npz: would be fetched: 1 file(s), " in done.out and "a dry run fetches nothing" in done.out
    assert "pictures to train on" not in done.out
    fetch.localize(config)
    fetched.clear()
    done = call("classify", config, "--dry-run")
    assert done.status == 0 and "banks/tiny: is here, in" in done.out and "pictures to train on" in done.out and not fetched
    (world.folder / "new").write_bytes(b"no checkpoint")
    upload(bucket, world.folder / "new", "models/best.npz")
    done = call("classify", config, "--dry-run")
    assert done.status == 0 and "models/best.npz: would be fetched: 1 file(s), 13 B" in done.out and "banks/tiny: is here" in done.out
    refused(call("classify", config), r"best\.npz")
    refused(call("classify", config, "init=s3://nobody-has-this/best.npz", "--dry-run"), "init: there is no such bucket")


def test_what_is_not_there_is_named_with_its_key(bucket, world, monkeypatch):
    config = world.classify("far", **on_s3(bucket, world))
    for word, *patterns in (
            (f"init=s3://{bucket.name}/models/none.npz", r"none\.npz: init: there is no such file .*404", "look at the address that init"),
            (f"data.bank=s3://{bucket.name}/banks/none/", "banks/none/: data.bank: there is no such folder, or it is empty"),
            ("data.bank=s3://nobody-has-this/bank", "data.bank: there is no such bucket"),
            ("init=s3://", "s3://: init: is no valid address of a file"), ("init=s3://nobody", "init: there is no such bucket")):
        assert "mirror" not in refused(call("classify", config, word), *patterns)
    assert not config.run.exists()
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
        refused(call("classify", config), "banks/tiny: data.bank: the S3 endpoint cannot be reached.*no copy here")


def test_credentials_that_are_refused(server, world, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
    server.add("bucket/best.npz", b"", "status 403")
    for _ in range(2):  # without credentials, and with wrong ones
        done = call("classify", world.classify("far", init=Address.of("s3://bucket/best.npz")))
        text = refused(done, "best.npz: init: access is refused .HTTP 403.", "look at the credentials .environment, ~/.aws. and the endp")
        assert not any(secret in text + done.out for secret in SECRETS)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", SECRETS[0])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRETS[1])


def test_a_file_that_may_be_read_but_not_listed(server, world, monkeypatch):
    """As in many public buckets: the server of this test lists nothing."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
    content = server.add("bucket/models/best.npz", world.best.read_bytes())
    assert fetch.localize(replace(world.inspect(), checkpoint=Address.of("s3://bucket/models/best.npz"))).checkpoint.read_bytes() == content
    with pytest.raises(UserError, match="checkpoint: there is no such file"):
        fetch.localize(replace(world.inspect(), checkpoint=Address.of("s3://bucket/models/")))


def test_without_network_the_copies_are_used(bucket, world, monkeypatch):
    config = world.pretrain("far", **on_s3(bucket, world))
    found = fetch.localize(config)
    monkeypatch.setattr("kaleidobert.remote.streams.Remote.list", lambda *arguments: _broken())
    monkeypatch.setattr("kaleidobert.remote.streams.Remote.open", lambda *arguments: _broken())
    done = call("pretrain", config, "--dry-run")
    assert done.status == 0 and "is here, in" in done.out and "best.npz: no network; the copy in" in done.err
    assert fetch.localize(config) == found


def _broken():
    raise downloads.Broken("no network")


# --- what is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command, key", [
    ("classify", "run"), ("records", "bank"), ("synthesize", "catalogue"), ("fetch", "into"), ("convert", "target"),
    ("train-foreground", "run"), ("inspect", "run")])
@pytest.mark.parametrize("flag", [[], ["--dry-run"]])
def test_what_is_written_has_no_address(world, tmp_path, command, key, flag, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = command.replace("-", "_")
    before = set(tmp_path.rglob("*"))
    done = call(command, getattr(world, name)(), f"{key}=s3://bucket/out", *flag)
    text = refused(done, f"s3://bucket/out: {key} is an address, and this command writes there; expected: a path of this machine")
    assert text.count("\n") == 1
    assert {path.suffix for path in set(tmp_path.rglob("*")) - before} == {".yaml"}


def test_refusals_before_anything_is_fetched(world, fetched):
    def no(command, *words):
        *words, pattern = words
        refused(call(command, getattr(world, command)(), *words), pattern)

    no("align", "data.bank=s3://bucket/bank", "data.bank is an address, and align writes its links into the bank.*copy the bank")
    no("records", "source.table=s3://bucket/table.jsonl", "table.jsonl: source.images is not set.*set source.images")
    tfds = SOURCES["tfds"](world.source.table, world.source.columns)
    refused(call("records", world.records(source=tfds), "source.images=s3://bucket/pictures"),
            "source.images is an address, and this command writes there")
    no("fetch", "manifest=https://host/manifest.json", "into=", "into is not set")
    no("classify", "data.bank=", "data.files=s3://bucket/train__*", "data.files is an address with a pattern; expected: one file, or one")
    no("classify", "init=gs://bucket/best.npz", "init is 'gs://bucket/best.npz'; expected: a local path, s3://bucket/path or https://")
    no("classify", "init=s3:/bucket/best.npz", "init is 's3:/bucket/best.npz'; expected")
    assert not fetched


def test_commands_without_addresses_touch_no_cache(world, tmp_path):
    config = world.pretrain()
    assert fetch.localize(config) == config and cli.main(["pretrain", "--dry-run", "run=s3://b/c", "data.bank=x"]) == 2
    assert not (tmp_path / "cache").exists()
