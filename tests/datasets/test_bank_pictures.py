"""A bank knows of which pictures it was made: what has changed is made again and counted, and nothing keeps old features."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from kaleidobert import configs
from kaleidobert.datasets.bank import alignment, builder, changes
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sources import reading
from tests.datasets.test_builder import content
from tests.datasets.test_fashion_gen import H5
from tests.datasets.test_fashion_gen import source as fashion_gen
from tests.support import raw_fashion_gen as raw
from tests.support.apps_data import World, call, edit, refused, world_with_bank
from tests.support.tables import TWO

MASKS = {"foreground": configs.Foreground("masks")}


@pytest.fixture
def world(tmp_path) -> World:
    """A catalogue of 22 pictures; a bank in "made", of four shards."""
    return world_with_bank(tmp_path, TWO)


def numbers(folder: Path) -> dict[str, bytes]:
    """What training reads of a bank: its features, its table, its tokens."""
    assert Bank(folder).size
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".npy", ".jsonl")}


def features(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("features-*")}


def recolour(path: Path, size: tuple[int, int] = (40, 52)) -> None:
    """Put another picture in the place of one, with its size and, as some copies have it, its time of change."""
    before = path.stat()
    Image.fromarray(np.random.default_rng(5).integers(0, 255, (*size[::-1], 3), np.uint8)).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def again(world: World, **options):
    """records in the begun folder; equal to a bank that is made anew."""
    done = call("records", world.records(**{"shard_size": 6} | options))
    assert done.status == 0, done.err
    shutil.rmtree(world.folder / "anew", ignore_errors=True)
    assert call("records", world.records("anew", **{"shard_size": 6} | options)).status == 0
    assert content(world.folder / "made") == content(world.folder / "anew")
    return done


def test_a_replaced_picture_is_taken_in_and_its_shard_alone_is_made_again(world):
    made, before = world.folder / "made", content(world.folder / "made")
    shards = features(made)
    recolour(world.folder / "catalogue/p05-front.png")
    dry = call("records", world.records(shard_size=6), "--dry-run")
    assert "1 picture changed (p05/front); 1 would be encoded, the vectors of 21 are kept" in dry.out and content(made) == before
    assert "1 picture changed (p05/front); 1 is encoded, the vectors of 21 are kept" in again(world).out
    assert [name for name, time in features(made).items() if time != shards[name]] == ["features-00001.npy"]
    assert "changed" not in again(world).out


@pytest.mark.parametrize("how", ["column", "images"])
def test_other_pictures_under_the_same_ids(world, how):
    folder = world.folder / "catalogue"
    (folder / "other").mkdir()
    for path in folder.glob("*.png"):
        Image.open(path).rotate(180).save(folder / "other" / path.name)
    edit(world.source, lambda rows: [row.update(second=f"other/{row['image']}") for row in rows])
    source = replace(world.source, columns=replace(world.source.columns, image="second")) if how == "column" else replace(
        world.source, images=folder / "other")
    old = numbers(world.folder / "made")
    assert "22 pictures changed (the first: p00/front); 22 are encoded, the vectors of 0 are kept" in again(world, source=source).out
    new = numbers(world.folder / "made")
    assert all(new[f"features-0000{number}.npy"] != old[f"features-0000{number}.npy"] for number in range(4))


@pytest.mark.parametrize("how", ["touched", "copied", "moved"])
def test_the_same_pictures_with_other_times_or_in_another_place_are_the_same(world, how, monkeypatch):
    folder, source = world.folder / "catalogue", world.source
    shards = features(world.folder / "made")
    if how == "touched":
        for path in folder.glob("*.png"):
            os.utime(path)
    elif how == "copied":
        shutil.copytree(folder, world.folder / "copy", copy_function=shutil.copyfile)
        source = replace(source, images=world.folder / "copy")
    else:
        folder.rename(world.folder / "away")
        source = replace(source, table=world.folder / "away/table.jsonl")
    assert "changed" not in again(world, source=source).out and features(world.folder / "made") == shards
    where = {"touched": "catalogue", "copied": "copy", "moved": "away"}[how]
    assert {Path(row["image_path"]).parent.name for row in Bank(world.folder / "made").table} == {where}
    monkeypatch.setattr(changes, "digest", None)  # and the next time nothing is read
    assert call("records", world.records(shard_size=6, source=source)).status == 0


def test_masks_count_where_they_decide(world):
    mask = world.folder / "catalogue/p05-front-mask.png"
    assert call("records", world.records("masked", shard_size=6, **MASKS)).status == 0
    Image.fromarray(np.pad(np.full((20, 20), 255, np.uint8), ((20, 12), (5, 15)))).save(mask)
    assert "changed" not in call("records", world.records(shard_size=6)).out
    done = call("records", world.records("masked", shard_size=6, **MASKS))
    assert done.status == 0 and "1 picture changed (p05/front); 1 is encoded" in done.out
    assert call("records", world.records("anew", shard_size=6, **MASKS)).status == 0
    assert content(world.folder / "masked") == content(world.folder / "anew")


@pytest.mark.parametrize("spoil", [lambda row: row["parts"].pop(), lambda row: row["parts"][0].update(box=[0, 0, 5, 5]),
                                   lambda row: row.update(parts=[{**row["parts"][0], "word": "zip"}])])
def test_what_else_a_table_says_of_a_picture_is_taken_over(world, spoil):
    shards = features(world.folder / "made")
    edit(world.source, lambda rows: spoil(rows[3]))
    assert "1 picture with another text, label, split or group" in again(world).out and features(world.folder / "made") == shards


def test_pictures_that_are_gone_cost_nothing_that_is_there(world):
    before = content(world.folder / "made")
    (world.folder / "catalogue").rename(world.folder / "away")
    source = replace(world.source, table=world.folder / "away/table.jsonl", images=world.folder / "nowhere")
    for flags in ([], ["--dry-run"]):
        refused(call("records", world.records(shard_size=6, source=source), *flags), "nowhere/p00-front.png: 22 of the pictures that "
                "the bank was made of cannot be read any more .the first: p00/front.*put them back")
    assert content(world.folder / "made") == before


def test_a_picture_that_was_left_out_is_taken_in_once_it_is_mended(world):
    path = world.folder / "catalogue/p07-front.png"
    whole = path.read_bytes()
    for bad in (b"", whole[:90]):
        path.write_bytes(bad)
        assert "1 left out" in again(world).out and Bank(world.folder / "made").size == 21
    path.unlink()  # it was not used, so nothing is lost
    assert "1 left out" in again(world).out
    path.write_bytes(whole)
    assert "1 picture tried again that were left out" in again(world).out and Bank(world.folder / "made").size == 22


def test_rows_of_an_hdf5_file(tmp_path):
    folder, world = raw.write_h5(tmp_path / "raw"), World(tmp_path, TWO)
    source = fashion_gen(folder)
    assert call("records", world.records(shard_size=6, source=source)).status == 0
    shards = features(tmp_path / "made")
    for path in folder.glob("*.h5"):
        os.utime(path)
    assert "changed" not in again(world, source=source).out and features(tmp_path / "made") == shards
    shutil.copytree(folder, tmp_path / "new")  # this process has the old files open
    with h5py.File(tmp_path / "new" / H5.format("train"), "r+") as file:
        file["input_image"][8] = 255 - file["input_image"][8]
    for path in (tmp_path / "new").iterdir():
        os.replace(path, folder / path.name)
    assert "1 picture changed" in again(world, source=source).out
    assert [name for name, time in features(tmp_path / "made").items() if time != shards[name]] == ["features-00001.npy"]


def test_a_bank_without_notes_of_its_pictures_opens_and_is_not_built_on(world):
    made = world.folder / "made"
    index = json.loads((made / "index.json").read_text())
    mark = index.pop("pictures") and index["fingerprint"]
    (made / "index.json").write_text(json.dumps(index))
    (made / "work.json").write_text(json.dumps({"fingerprint": mark}))
    for path in (made / "shards").iterdir():
        notes = json.loads(path.read_text())
        path.write_text(json.dumps({"kept": notes["pictures"], "skipped": []}))
    before = content(made)
    for flags in ([], ["--dry-run"]):
        refused(call("records", world.records(shard_size=6), *flags), "an earlier version made this bank.*delete it and make it again")
    assert content(made) == before
    dry = call("pretrain", world.pretrain(data=configs.Data(made)), "--dry-run")
    assert dry.status == 0 and " pictures to train on" in dry.out, dry.err


def test_a_bank_of_an_earlier_version_is_refused_and_stays_as_it_is(world):
    """One whose notes say "left_out": it is neither read nor lost."""
    made = world.folder / "made"
    index = json.loads((made / "index.json").read_text())
    (made / "index.json").write_text(json.dumps({**index, "format": 1}))
    work = json.loads((made / "work.json").read_text())
    (made / "work.json").write_text(json.dumps({**work, "format": 2}))
    for path in (made / "shards").iterdir():
        notes = json.loads(path.read_text())
        path.write_text(json.dumps({"left_out": [], **notes}))
    before = content(made)
    for flags in ([], ["--dry-run"]):
        refused(call("records", world.records(shard_size=6), *flags), "an earlier version made this bank.*delete it and make it again")
        refused(call("pretrain", world.pretrain(data=configs.Data(made)), *flags), "the bank has format 1; expected: format 2")
    assert content(made) == before


def test_an_alignment_is_of_the_pictures_that_it_was_made_for(world):
    """Where the foreground is the same, texts and boxes do not tell that a picture is another."""
    def write(bank: Bank) -> None:
        alignment.write(
            bank, [np.zeros((bank.size, bank.text_length, 5), np.float16)], [{}] * bank.size, mode="teacher_forced", settings={}
        )

    none = {"foreground": configs.Foreground("none")}
    assert call("records", world.records("plain", **none)).status == 0
    write(Bank(world.folder / "plain"))
    recolour(world.folder / "catalogue/p05-front.png")
    assert call("records", world.records("plain", **none)).status == 0
    with pytest.raises(Exception, match="or other pictures.*kaleidobert align"):
        alignment.info(Bank(world.folder / "plain"))


def test_only_what_has_another_stamp_is_read(world, monkeypatch):
    read = []
    monkeypatch.setattr(changes, "digest", lambda path: read.append(path) or "another")
    (world.folder / "catalogue/p05-front.png").touch()
    found = builder.compare(world.records(shard_size=6), reading.read(world.source)[0])
    assert found.counts["changed"] == 1 == len(read) and found.first["changed"] == "p05/front"
    assert [plan.number for plan in found.plans] == [1] and found.plans[0].copies.count(None) == 1
