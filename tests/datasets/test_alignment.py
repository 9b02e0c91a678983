"""Alignments in a bank's folder: what is read is what was written, and one that does not fit the bank is refused."""

import json
import shutil

import numpy as np
import pytest

from kaleidobert import levels as kaleido
from kaleidobert.datasets.bank import alignment
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.errors import UserError
from kaleidobert.levels import KaleidoLevel
from tests.support.tables import TABLES, TWO
from tests.support.tiny import tiny_bank


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return tiny_bank(tmp_path_factory.mktemp("bank"), TWO)


@pytest.fixture
def copy(tmp_path, bank):
    shutil.copytree(bank.folder, tmp_path / "bank")
    return Bank(tmp_path / "bank")


def example(bank, seed=0):
    rng = np.random.default_rng(seed)
    shape = (bank.size, bank.text_length, kaleido.num_patches(bank.levels))
    return (rng.random(shape) * (rng.random(shape) < 0.2)).astype(np.float16)


def write(bank, strengths=None, **changes):
    strengths = example(bank) if strengths is None else strengths
    words = {"blocks": [strengths[:5], strengths[5:]], "captions": ({"caption": f"n° {row}"} for row in range(bank.size)),
             "mode": "attention", "settings": {"threshold": 0.5}, "captioner": "abc", "statistics": lambda s: {"links": int((s > 0).sum())}}
    return alignment.write(bank, **words | changes)


def edit(bank, **changes):
    path = bank.folder / "alignment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return Bank(bank.folder)


@pytest.mark.parametrize("levels", TABLES.values(), ids=TABLES)
def test_what_is_read_is_what_was_written(tmp_path, levels):
    bank = tiny_bank(tmp_path, levels)
    assert alignment.strengths(bank) is None and alignment.info(bank) is None and alignment.captions(bank) == []
    strengths = example(bank)
    info = write(bank, strengths)
    for opened in (bank, Bank(bank.folder)):  # the one that was open before, too
        assert isinstance(alignment.strengths(opened), np.memmap) and alignment.strengths(opened).dtype == np.float16
        assert (alignment.strengths(opened) == strengths).all() and alignment.info(opened) == info
        alignment.verify(opened)
    assert (np.load(bank.folder / "alignment.npy") == strengths).all()
    assert [row["caption"] for row in alignment.captions(bank)] == [f"n° {row}" for row in range(bank.size)]
    assert info["statistics"] == {"links": int((strengths > 0).sum())}
    assert (info["mode"], info["settings"], info["captioner_sha256"]) == ("attention", {"threshold": 0.5}, "abc")
    again = write(bank, example(bank, 1))
    assert (alignment.strengths(bank) == example(bank, 1)).all() and again["files"] != info["files"]


def test_a_bank_that_shows_some_of_its_levels_shows_their_links(tmp_path):
    bank = tiny_bank(tmp_path, TABLES["kaleido"])
    strengths = example(bank)
    bare = bank.require((KaleidoLevel("rotation", 1, "none"), bank.levels[3]), "")
    assert alignment.strengths(bare) is None
    write(bank, strengths)
    columns = [0, *range(14, 30)]
    assert alignment.strengths(bare).shape == strengths[..., columns].shape and alignment.info(bare) == alignment.info(bank)
    for rows in (np.array([4, 0, 4]), slice(2, 3), 5):
        np.testing.assert_array_equal(alignment.strengths(bare)[rows], strengths[rows][..., columns])
    alignment.verify(bare)


def test_an_interrupted_write_leaves_no_alignment(copy):
    write(copy)

    def broken():
        yield example(copy)[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(copy, blocks=broken())
    assert alignment.strengths(Bank(copy.folder)) is None and not list(copy.folder.glob(".*.tmp"))


@pytest.mark.parametrize("changes, message", [
    ({"blocks": []}, "0 rows in the blocks of strengths"),
    ({"captions": [{}]}, "1 rows in the captions"),
    ({"blocks": [np.zeros((3, 2, 5), np.float16)]}, r"float16\[3, 2, 5\].*float16\[n, 16, 5\]"),
    ({"blocks": [np.full((32, 16, 5), np.nan, np.float16)]}, "finite and at least 0"),
])
def test_what_does_not_fit_the_bank_is_not_written(copy, changes, message):
    with pytest.raises(UserError, match=message):
        write(copy, **changes)
    assert alignment.strengths(Bank(copy.folder)) is None


@pytest.mark.parametrize("changes, message", [
    ({"format": 0}, "another format.*format 2"),
    ({"levels": [{"name": "whole", "grid": 3, "pretext": "rotate"}]}, "made with levels whole 3x3 rotate.*expected: whole 1x1 rotate"),
    ({"vocabulary_sha256": "x"}, "another vocabulary"),
    ({"size": 7}, "has 7 rows of 16 tokens and 5 patches.*expected: 32 rows"),
    ({"made_for": {}}, "other texts or boxes"),
])
def test_an_alignment_made_for_something_else_is_refused(copy, changes, message):
    write(copy)
    stale = edit(copy, **changes)
    for ask in (alignment.strengths, alignment.info, alignment.captions, alignment.verify):
        with pytest.raises(UserError, match=f"{message}.*kaleidobert align"):
            ask(stale)


def test_damaged_files_are_refused(copy):
    write(copy)
    path, whole = copy.folder / "alignment.npy", (copy.folder / "alignment.npy").read_bytes()
    path.write_bytes(whole[:-7])
    with pytest.raises(UserError, match="alignment.npy: has .*kaleidobert align"):
        _ = alignment.strengths(Bank(copy.folder))
    path.unlink()
    with pytest.raises(UserError, match="alignment.npy: is missing"):
        _ = alignment.strengths(Bank(copy.folder))
    path.write_bytes(whole[:-7] + b"changed")
    with pytest.raises(UserError, match="checksum in alignment.json"):
        alignment.verify(Bank(copy.folder))
    path.write_bytes(b"x" * len(whole))
    with pytest.raises(UserError, match="not a numpy array"):
        _ = alignment.strengths(Bank(copy.folder))
    rows = np.load(copy.folder / "token_words.npy")
    np.save(path, np.zeros((len(rows) - 1, 16, 5), np.float16))
    bank = edit(copy, files={"alignment.npy": {"bytes": path.stat().st_size, "sha256": ""}})
    with pytest.raises(UserError, match=r"float16\[31, 16, 5\].*float16\[32, 16, 5\]"):
        _ = alignment.strengths(bank)
