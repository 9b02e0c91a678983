"""A bank follows its catalogue: what is there is copied, what is new is encoded, and the result is the bank made from nothing."""

import doctest
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kaleidobert import configs, io
from kaleidobert.datasets.bank import alignment, builder, changes, states
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sources import reading
from kaleidobert.errors import UserError
from kaleidobert.preprocessors import encoders
from tests.datasets.test_bank_pictures import again, features, recolour
from tests.datasets.test_builder import content
from tests.support.apps_data import World, call, edit, refused, world_with_bank
from tests.support.tables import TWO
from tests.support.tiny import draw


@pytest.fixture
def world(tmp_path) -> World:
    """A catalogue of 22 pictures, and a bank of four shards in "made"."""
    return world_with_bank(tmp_path, TWO)


def added(world: World, position: int, name: str = "new", number: int = 99) -> None:
    """Put a product with a picture of its own into the table."""
    folder = world.folder / "catalogue"
    draw(folder / f"{name}.png", folder / f"{name}-mask.png", number, "front")
    edit(world.source, lambda rows: rows.insert(position, {**rows[3], "id": name, "image": f"{name}.png", "mask": f"{name}-mask.png"}))


@pytest.mark.parametrize("options", [{}, {"storage": "uint8"}, {"foreground": configs.Foreground("masks")}])
def test_a_product_in_the_middle_is_added_and_removed(world, options):
    if options:
        shutil.rmtree(world.folder / "made")
        assert call("records", world.records(shard_size=6, **options)).status == 0
    before, first = content(world.folder / "made"), features(world.folder / "made")["features-00000.npy"]
    added(world, 9)
    dry = call("records", world.records(shard_size=6, **options), "--dry-run")
    words = "1 picture added (new/{}); 1 {} encoded, the vectors of 22 are kept"
    view = json.loads(world.source.table.read_text().splitlines()[9])["view"]
    assert words.format(view, "would be") in dry.out and content(world.folder / "made") == before
    assert words.format(view, "is") in again(world, **options).out
    assert features(world.folder / "made")["features-00000.npy"] == first  # what lies before it is not touched
    edit(world.source, lambda rows: rows.pop(9))
    assert "1 picture gone" in again(world, **options).out and content(world.folder / "made") == before


def test_an_encoder_is_built_for_new_pictures_alone(world, monkeypatch):
    seen = []
    build = encoders.build
    monkeypatch.setattr(builder, "_ENCODERS", {})
    monkeypatch.setattr(encoders, "build", lambda config: seen.append(config) or build(config))
    edit(world.source, lambda rows: (rows.reverse(), rows.pop(4), rows[2].update(text="quite another text")))
    done = call("records", world.records(shard_size=6))
    assert done.status == 0 and not seen
    assert "1 picture gone" in done.out and "1 with another text, label, split or group" in done.out and "none are encoded" in done.out
    again(world)


def test_names_groups_and_labels_are_no_matter_of_vectors(world):
    def rename(rows):
        for row in rows:
            row.update(id=f"q{row['id'][1:]}", category="all", split="train" if row["id"] == "p01" else row["split"])

    edit(world.source, rename)
    before = features(world.folder / "made")
    assert "22 pictures added (the first: q00/front), 22 gone (the first: p00/front); none are encoded" in again(world).out
    assert features(world.folder / "made") == before  # not even copied


@pytest.mark.slow
def test_several_processes_encode_what_is_new(world):
    added(world, 2, "one", 61)
    added(world, 20, "two", 62)
    done = call("records", world.records(shard_size=6, workers=2))
    assert done.status == 0 and "2 are encoded, the vectors of 22 are kept" in done.out
    assert call("records", world.records("anew", shard_size=6)).status == 0
    assert content(world.folder / "made") == content(world.folder / "anew")


def test_more_than_one_change_at_a_time(world):
    for number, position in enumerate((0, 7, 20)):
        added(world, position, f"new{number}", 70 + number)
    recolour(world.folder / "catalogue/p07-front.png")
    edit(world.source, lambda rows: [rows.pop(5), rows[8].update(text="new words")])
    done = again(world)
    assert "1 picture changed (p07/front), 3 added" in done.out and "; 4 are encoded, the vectors of 20 are kept" in done.out


def test_another_catalogue_does_not_empty_a_bank(world):
    before = content(world.folder / "made")
    edit(world.source, lambda rows: rows.__delitem__(slice(10)))
    again(world)  # 12 of 22 are left
    edit(world.source, lambda rows: rows.__delitem__(slice(7)))
    for flags in ([], ["--dry-run"]):
        refused(call("records", world.records(shard_size=6), *flags), "holds another bank: 7 of its 12 pictures are not in the table")
    assert content(world.folder / "made") != before and Bank(world.folder / "made").size == 12


def test_a_picture_of_the_table_that_is_gone_is_refused_as_ever(world):
    added(world, 9)
    (world.folder / "catalogue/p05-front.png").unlink()
    before = content(world.folder / "made")
    for flags in ([], ["--dry-run"]):
        refused(call("records", world.records(shard_size=6), *flags), "1 of the pictures that the bank was made of cannot be read any more")
    assert content(world.folder / "made") == before


def test_a_new_picture_that_cannot_be_read_is_left_out_until_it_can(world):
    added(world, 9)
    path = world.folder / "catalogue/new.png"
    whole = path.read_bytes()
    for bad in (None, b"", whole[:50]):
        path.unlink() if bad is None else path.write_bytes(bad)
        assert "1 left out" in again(world).out and Bank(world.folder / "made").size == 22
    path.write_bytes(whole)
    assert "1 picture tried again that were left out" in again(world).out and Bank(world.folder / "made").size == 23


class Killed(BaseException):
    """The process ends here."""


def make(config: configs.RecordsConfig) -> None:
    """The command, without its prints."""
    products, skipped = reading.read(config.source)
    with io.lock_scope():
        mark = builder.claim(config, products)
        result = builder.compare(config, products)
        builder.refresh(config, result, mark)
        for _ in builder.build_shards(config, products, encoders.build, None, result):
            pass
        builder.finish(config, products, skipped, mark)


def killed_after(monkeypatch, steps: int, config: configs.RecordsConfig) -> bool:
    """Whether the command ends before so many changes of the disk; at that one it is killed."""
    left = [steps]

    def counted(function):
        def step(*arguments, **options):
            if not str(arguments[0]).endswith((io.LOCK, ".tmp")) or function is os.replace:
                left[0] -= 1
            if left[0] < 0 and not str(arguments[0]).endswith(io.LOCK):
                raise Killed
            return function(*arguments, **options)
        return step

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", counted(os.replace))
        for name in ("replace", "unlink", "rmdir"):
            patch.setattr(Path, name, counted(getattr(Path, name)))
        try:
            make(config)
        except Killed:
            return False
    return True


@pytest.mark.slow
def test_killed_at_any_moment_the_bank_is_the_old_one_or_none_and_the_command_goes_on(world, monkeypatch):
    config = world.records("work", shard_size=6, storage="uint8")
    make(config)
    shutil.copytree(config.bank, world.folder / "old")
    old = content(config.bank)
    added(world, 3, "one", 61)
    added(world, 14, "two", 62)
    recolour(world.folder / "catalogue/p07-front.png")
    edit(world.source, lambda rows: rows.pop(0))
    make(replace(config, bank=world.folder / "anew"))
    new = content(world.folder / "anew")
    encoded = []
    build = encoders.build

    def counting(config):
        made = build(config)
        return replace(made, encode=lambda patches: encoded.append(len(patches)) or made.encode(patches))

    monkeypatch.setattr(encoders, "build", counting)
    monkeypatch.setattr(builder, "_ENCODERS", {})
    steps, ended, opened = 0, False, set()
    while not ended:
        shutil.rmtree(config.bank)
        shutil.copytree(world.folder / "old", config.bank)
        ended = killed_after(monkeypatch, steps, config)
        if not ended:
            if (config.bank / "index.json").exists():
                Bank(config.bank).verify()
                seen = content(config.bank)["index.json"]
                assert seen in (old["index.json"], new["index.json"])
                opened.add("old" if seen == old["index.json"] else "new")
            else:
                with pytest.raises(UserError, match="no finished bank"):
                    Bank(config.bank)
            if steps % 3 == 0:  # killed a second time
                killed_after(monkeypatch, 5, config)
            encoded.clear()
            make(config)
            assert sum(encoded) <= 4 * 21  # the three new pictures, and never what was there
        assert content(config.bank) == new
        steps += 1
    assert "old" in opened and steps > 25


def test_a_table_that_changes_between_two_runs_of_which_the_first_was_killed(world, monkeypatch):
    config = world.records(shard_size=6)
    added(world, 3, "one", 61)
    assert not killed_after(monkeypatch, 8, config)
    edit(world.source, lambda rows: rows.pop(3))
    added(world, 12, "two", 62)
    again(world)
    assert not (world.folder / "made/next").exists()


def test_fewer_shards_leave_no_file_behind(world):
    edit(world.source, lambda rows: rows.__delitem__(slice(11, None)))
    again(world)
    assert sorted(features(world.folder / "made")) == ["features-00000.npy", "features-00001.npy"]
    assert states.noted(world.folder / "made") == [0, 1]


def test_what_fits_the_former_bank_alone_is_said(world):
    bank = Bank(world.folder / "made")
    alignment.write(bank, [np.zeros((22, bank.text_length, 5), np.float16)], [{}] * 22, mode="teacher_forced", settings={})
    edit(world.source, lambda rows: rows[2].update(category="other"))
    done = call("records", world.records(shard_size=6))
    assert done.status == 0 and "alignment" not in done.out and alignment.info(Bank(world.folder / "made"))  # labels are no matter of it
    added(world, 9)
    edit(world.source, lambda rows: rows[9].update(text="perfectly unheard words"))
    out = call("records", world.records(shard_size=6)).out
    assert "the alignment is that of the former bank, and is refused: run `kaleidobert align` for this bank again" in out
    assert "the vocabulary is another one" in out and "text.vocabulary=FILE keeps one" in out
    with pytest.raises(UserError, match="run `kaleidobert align`"):
        alignment.info(Bank(world.folder / "made"))


def test_a_damaged_shard_is_not_copied(world):
    path = world.folder / "made/features-00001.npy"
    path.write_bytes(path.read_bytes()[:300])
    added(world, 9)
    refused(call("records", world.records(shard_size=6)), "features-00001.npy: a shard of the bank is damaged")


def test_the_line_of_the_documentation():
    assert doctest.testmod(changes).failed == 0
