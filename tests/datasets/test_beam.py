"""Making a bank on Apache Beam: the shards of the local path, byte for byte; and what is refused."""

import importlib.util
import sys
from dataclasses import replace

import pytest

from kaleidobert import configs
from kaleidobert.datasets.bank import beam as beam_records
from kaleidobert.datasets.bank import builder, states
from kaleidobert.datasets.bank.changes import ShardPlan
from kaleidobert.datasets.sources import reading
from kaleidobert.errors import UserError
from kaleidobert.preprocessors import encoders
from tests.datasets.test_builder import content
from tests.datasets.test_fashion_gen import source as fashion_gen
from tests.support import raw_fashion_gen as raw
from tests.support.apps_data import World, call, refused
from tests.support.tables import TWO
from tests.support.tiny import tiny_catalogue

needs_beam = pytest.mark.skipif(importlib.util.find_spec("apache_beam") is None, reason="apache-beam is not installed")
DIRECT = configs.Beam("DirectRunner")


@pytest.fixture
def fresh(tmp_path) -> World:
    tiny_catalogue(tmp_path / "catalogue", 16)
    return World(tmp_path, TWO)


@needs_beam
@pytest.mark.parametrize("kind", ["table", "fashion_gen"])
def test_the_shards_are_those_of_the_local_path(fresh, kind):
    source = fresh.source if kind == "table" else fashion_gen(raw.write_h5(fresh.folder / "raw"))
    assert call("records", fresh.records("local", source=source, shard_size=6)).status == 0
    assert call("records", fresh.records("beam", source=source, shard_size=6, beam=DIRECT)).status == 0
    one, two = content(fresh.folder / "local"), content(fresh.folder / "beam")
    assert one == two and "features-00003.npy" in one


@needs_beam
def test_what_goes_to_the_workers_is_small_and_enough(fresh, monkeypatch):
    from apache_beam.internal import pickler

    config = fresh.records(shard_size=6, beam=DIRECT)
    sent = []
    monkeypatch.setattr(beam_records, "_run", lambda _, numbers, make: sent.extend([list(numbers), pickler.dumps(make)]))
    refused(call("records", config), "is not here")
    assert [plan.number for plan in sent[0]] == [0, 1, 2, 3] and len(sent[1]) < 5000 and len(pickler.dumps(sent[0])) < 1000
    monkeypatch.setattr(beam_records, "_PRODUCTS", {})  # as in another process
    make = pickler.loads(sent[1])
    assert [make(plan) for plan in sent[0]] == [6, 6, 6, 4] and states.is_noted(config.bank, 3)


def test_a_worker_makes_its_shard_from_the_source_alone(fresh, monkeypatch):
    config = fresh.records(shard_size=6)
    products, _ = reading.read(fresh.source)
    builder.claim(config, products)
    monkeypatch.setattr(beam_records, "_PRODUCTS", {})
    assert beam_records._make(ShardPlan(3), config, encoders.build, None) == 4 and states.is_noted(config.bank, 3)
    monkeypatch.setattr(beam_records, "_PRODUCTS", {})
    fresh.source.table.write_text("\n".join(fresh.source.table.read_text().splitlines()[1:]))
    with pytest.raises(UserError, match="another bank"):  # the table has changed since the bank was begun
        beam_records._make(ShardPlan(1), config, encoders.build, None)


@needs_beam
def test_what_is_there_is_not_made_again(fresh, monkeypatch):
    local = fresh.records(shard_size=6)
    assert call("records", local).status == 0
    before = content(fresh.folder / "made")
    (fresh.folder / "made/shards/00001.json").unlink()
    kept = (fresh.folder / "made/features-00000.npy").stat().st_mtime_ns
    assert call("records", replace(local, beam=DIRECT)).status == 0
    assert content(fresh.folder / "made") == before and (fresh.folder / "made/features-00000.npy").stat().st_mtime_ns == kept
    monkeypatch.setattr(beam_records, "_run", None)  # nothing is left to do
    assert call("records", replace(local, beam=DIRECT)).status == 0


@needs_beam
def test_a_changed_picture_is_made_again_as_on_the_local_path(fresh):
    local = fresh.records(shard_size=6)
    assert call("records", local).status == 0
    picture = fresh.folder / "catalogue/p05-front.png"
    picture.write_bytes((fresh.folder / "catalogue/p06-front.png").read_bytes())
    done = call("records", replace(local, beam=DIRECT))
    assert done.status == 0 and "1 picture changed (p05/front); 1 is encoded" in done.out
    assert call("records", replace(local, bank=fresh.folder / "local")).status == 0
    assert content(fresh.folder / "made") == content(fresh.folder / "local")


@needs_beam
@pytest.mark.parametrize("beam, words", [
    (configs.Beam("DirectRuner"), "beam.runner DirectRuner: there is no such runner.*DirectRunner"),
    (configs.Beam("DirectRunner", {"direct_num_worker": "2"}), "unknown option 'direct_num_worker'.*did you mean 'direct_num_workers'"),
])
def test_settings_that_beam_does_not_know(fresh, beam, words):
    for flags in ([], ["--dry-run"]):
        refused(call("records", fresh.records(beam=beam), *flags), words)
    assert not (fresh.folder / "made").exists()


def failing(config):
    raise RuntimeError("no memory for the network")


def refusing(config):
    raise UserError("the weights are gone", "weights.h5", "weights", "fetch them")


@needs_beam
@pytest.mark.parametrize("build, words", [
    (failing, "the pipeline failed .no memory for the network.*finished shards are kept"),
    (refusing, "^weights.h5: the weights are gone; expected: weights; to fix: fetch them$"),
])
def test_a_pipeline_that_fails(fresh, monkeypatch, build, words):
    monkeypatch.setattr(builder, "_ENCODERS", {})
    config = fresh.records(beam=DIRECT)
    products, _ = reading.read(fresh.source)
    builder.claim(config, products)
    with pytest.raises(UserError, match=words):
        list(beam_records.build_shards(config, products, build))


@needs_beam
def test_workers_that_see_another_folder(fresh, monkeypatch):
    monkeypatch.setattr(beam_records, "_run", lambda *_: None)
    refused(call("records", fresh.records(beam=DIRECT)), "shard 0 was made, but is not here.*shared file system")


def test_without_beam_the_message_says_how_to_get_it(fresh, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    for flags in ([], ["--dry-run"]):
        done = call("records", fresh.records(beam=DIRECT), *flags)
        refused(done, r"Apache Beam is not installed; to fix: pip install 'kaleidobert\[beam\]'")
