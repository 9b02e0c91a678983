"""Banks that hold bytes: made so, or copied, and read by everything that reads a bank."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from kaleidobert import configs, specs
from kaleidobert.app_zoo import convert
from kaleidobert.configs import Matching, Noise, Sampling
from kaleidobert.datasets.bank import alignment, builder
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sampling import finetuning
from kaleidobert.datasets.sampling.pretraining import PretrainSampler, clean_batch, clean_features
from kaleidobert.errors import UserError
from kaleidobert.preprocessors import features
from tests.datasets.test_bank import build
from tests.support.random_data import random_bank
from tests.support.tables import TABLES
from tests.support.tiny import tiny_catalogue


@pytest.fixture(scope="module", params=TABLES)
def banks(request, tmp_path_factory):
    """A bank of float16 and its copy of uint8."""
    folder = tmp_path_factory.mktemp("banks")
    bank = random_bank(folder / "bank", TABLES[request.param])
    assert sum(builder.copy_bank(bank, folder / "copy", "uint8")) == bank.size
    return bank, Bank(folder / "copy")


def test_a_copy_holds_the_same_to_half_a_step(banks):
    bank, copy = banks
    copy.verify()
    alignment.verify(copy)
    assert bank.storage == "float16" and copy.storage == "uint8" and copy.identity == bank.identity and copy.table == bank.table
    assert np.array_equal(alignment.strengths(copy), alignment.strengths(bank))
    rows = np.arange(bank.size)
    vectors = np.tile(np.arange(bank._features.arrays[0].shape[1]), (bank.size, 1))
    old, new = bank.features(rows, vectors).astype(np.float32), copy.features(rows, vectors).astype(np.float32)
    step = old.max(-1, keepdims=True) / 255
    assert new.shape == old.shape and (np.abs(new - old) <= 0.5 * step + 1e-3 * old).all()
    sizes = [sum(one.index["files"][name]["bytes"] for name in one.index["files"] if "features" in name) for one in banks]
    assert 0.45 < sizes[1] / sizes[0] < 0.6


def test_batches_of_bytes_ask_the_same_of_the_same(banks):
    one, two = (PretrainSampler(bank, bank.rows("train"), bank.levels, Sampling("alignment_guided"), 11, 4) for bank in banks)
    bank, copy = banks
    before, sent = one.batch(3), two.batch(3)
    specs.check(sent[0], specs.inputs(copy.levels, copy.text_length, copy.feature_size, 10, "uint8"), "inputs")
    specs.check(sent[1], specs.targets(copy.levels, copy.feature_size, 10, "uint8"), "targets")
    assert set(sent[2]) == set(before[2])
    for old, new in zip(before, (features.to_floats(part) for part in sent)):
        assert set(old) == set(new)
        for name, array in old.items():
            assert array.dtype == new[name].dtype
            np.testing.assert_allclose(new[name].astype(np.float32), array.astype(np.float32), atol=3e-3)
    for name, array in two.validation(0)[1].items():
        assert array.dtype == one.validation(0)[1][name].dtype  # what evaluators count with are floats


def test_fine_tuning_reads_bytes(banks):
    bank, copy = banks
    rows = bank.rows("train")
    assert clean_batch(copy, rows[:5])["patch_features"].dtype == np.uint8
    np.testing.assert_allclose(clean_features(copy, rows), clean_features(bank, rows), atol=3e-3)
    labels, _ = finetuning.label_ids(bank, "subcategory", rows)
    for modality in ("both", "text"):
        pair = [finetuning.LabelSampler(one, rows, labels, modality, Noise(0.3, 0.1), 9, 1).batch(2)[0] for one in banks]
        new = features.to_floats(pair[1])
        assert all(np.allclose(new[name], array, atol=3e-3) for name, array in pair[0].items())
    inputs = finetuning.MatchSampler(copy, rows, "subcategory", Matching(negatives=2), 6, 2).batch(1)[0]
    assert inputs["patch_features"].shape[:2] == inputs["patch_features_scale"].shape


def test_a_bank_can_be_made_of_bytes(tmp_path):
    source = tiny_catalogue(tmp_path / "catalogue", 14)
    bank, other = build(tmp_path / "bank", source), build(tmp_path / "bytes", source, storage="uint8")
    assert other.index["scales"] == [name.replace("features", "scales") for name in other.index["shards"]]
    assert set(other.index["scales"]) <= set(other.index["files"]) and "storage" not in bank.index
    assert bank.index["fingerprint"] != other.index["fingerprint"]
    list(builder.copy_bank(bank, tmp_path / "copy", "uint8"))
    for name in (*other.index["shards"], *other.index["scales"], "boxes.npy", "token_ids.npy", "table.jsonl"):
        assert (tmp_path / "bytes" / name).read_bytes() == (tmp_path / "copy" / name).read_bytes()
    (tmp_path / "bytes/scales-00001.npy").unlink()
    with pytest.raises(UserError, match="scales-00001.npy: is missing"):
        Bank(tmp_path / "bytes")


def test_the_command_copies_both_ways_and_goes_on(tmp_path, capsys):
    random_bank(tmp_path / "bank")
    config = configs.ConvertConfig(tmp_path / "bank", tmp_path / "bytes", storage="uint8")
    convert.dry_run(config)
    assert not (tmp_path / "bytes").exists() and "features as uint8" in capsys.readouterr().out
    steps = builder.copy_bank(Bank(tmp_path / "bank"), tmp_path / "bytes", "uint8")
    next(steps), next(steps), steps.close()  # interrupted
    (tmp_path / "bytes/.features-00002.npy.9.tmp").write_bytes(b"half")
    kept = (tmp_path / "bytes/features-00000.npy").stat().st_mtime_ns
    convert.run(config)
    assert (tmp_path / "bytes/features-00000.npy").stat().st_mtime_ns == kept
    assert not list((tmp_path / "bytes").glob(".*")) and "features as uint8, 0.00 GB" in capsys.readouterr().out
    convert.run(replace(config, source=tmp_path / "bytes", target=tmp_path / "floats", storage="float16"))
    floats, copied = Bank(tmp_path / "floats"), Bank(tmp_path / "bytes")
    assert floats.storage == "float16" and "scales" not in floats.index
    assert np.array_equal(alignment.strengths(floats), alignment.strengths(copied))
    rows = np.arange(copied.size)
    assert np.array_equal(clean_features(floats, rows), clean_features(copied, rows))


def test_what_makes_no_sense_is_refused(tmp_path):
    bank = random_bank(tmp_path / "bank")
    config = configs.ConvertConfig(tmp_path / "bank", tmp_path / "copy")
    for changed, words in ((config, "storage is not set.*storage=uint8"), (replace(config, storage="float16"), "holds float16 already"),
                           (replace(config, storage="uint8", target=tmp_path / "bank"), "not empty and holds no copy"),
                           (replace(config, storage="uint8", target=tmp_path / "bank/index.json"), "this is a file")):
        for command in (convert.dry_run, convert.run):
            with pytest.raises(UserError, match=words):
                command(changed)
    stored = np.lib.format.open_memmap(bank.folder / "features-00001.npy", "r+")
    stored[2, 0, 0] = -1
    stored.flush()
    with pytest.raises(UserError, match="a feature is -1, and bytes hold none below 0"):
        convert.run(replace(config, storage="uint8"))
    index = json.loads((bank.folder / "index.json").read_text())
    (bank.folder / "index.json").write_text(json.dumps({**index, "storage": "uint8"}))
    with pytest.raises(UserError, match="missing.*vectors_scale"):
        Bank(bank.folder)
    shutil.rmtree(bank.folder)
