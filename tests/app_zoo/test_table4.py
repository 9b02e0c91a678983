"""The rows of the paper's Table 4 from one bank of five levels: pre-trained, and what comes behind it started from them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kaleidobert import configs
from kaleidobert.app_zoo.ablate import masked_words
from kaleidobert.datasets.bank import alignment
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sampling.pretraining import PretrainSampler
from kaleidobert.engines import steps
from kaleidobert.levels import KALEIDO
from kaleidobert.model_zoo import checkpoints
from tests.support.apps_data import TRAIN, World, call, refused, results
from tests.support.tiny import tiny_bank

pytestmark = [pytest.mark.slow, pytest.mark.eager]

TRAIN_STEP = steps.train_step
ROWS = sorted((Path(__file__).parents[2] / "configs/table4").glob("*.yaml"))
ASKED = {"b": "", "b_i": "r", "b_i-ii": "rj", "b_i-iii": "rjc", "b_i-iv": "rjcg", "b_i-v": "rjcgb", "b_v": "b", "fixed": "b",
         "random": "rjcgb"}  # first letters of the levels


def loaded(path: Path) -> configs.PretrainConfig:
    return configs.load(configs.PretrainConfig, path)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    folder = tmp_path_factory.mktemp("world")
    bank = tiny_bank(folder)
    rng = np.random.default_rng(0)
    strengths = (rng.random((bank.size, bank.text_length, 55)) * (rng.random((bank.size, bank.text_length, 55)) < 0.1)).astype(np.float16)
    strengths[..., :5] = 0  # no links on levels without masked patches
    strengths[bank.token_words < 0] = 0
    alignment.write(bank, [strengths], [{"caption": ""}] * bank.size, mode="teacher_forced", settings={})
    return World(folder, KALEIDO, Bank(folder / "bank"))


def test_every_row_differs_from_the_paper_s_setting_in_levels_and_masking_only():
    paper = configs.to_dict(loaded(ROWS[0].parents[1] / "pretrain.yaml"))
    assert {path.stem for path in ROWS} == set(ASKED)
    for path in ROWS:
        config = loaded(path)
        keys = {line.partition(":")[0] for line in configs.differences(paper, configs.to_dict(config))}
        assert keys <= {"run", "levels", "sampling.masking"}
        assert "".join(level.name[0] for level in config.levels if level.answer) == ASKED[path.stem]
        assert [level.grid for level in config.levels] == ([5] if path.stem == "fixed" else [1, 2, 3, 4, 5])
        assert config.sampling.masking == ("random" if path.stem == "random" else "alignment_guided")


# nothing asked, one level, all of them, one grid; the others are like these, "random" is the training of test_apps
TRAINED = [path for path in ROWS if path.stem in ("b", "b_i", "b_i-v", "fixed")]


@pytest.mark.parametrize("path", TRAINED, ids=lambda path: path.stem)
def test_a_row_is_trained_and_started_from(world, path, untrained, monkeypatch):
    row, run = loaded(path), f"table4-{path.stem}"
    short, sampling = replace(TRAIN, epochs=0.4), replace(row.sampling, max_masked=4)
    with monkeypatch.context() as patch:
        patch.setattr(steps, "train_step", TRAIN_STEP)  # behind it nothing is trained
        done = call("pretrain", world.pretrain(run, levels=row.levels, sampling=sampling, train=short))
    assert done.status == 0, done.err
    metrics = results(world.folder / run)["metrics"]
    asked = {level.name for level in row.levels if level.answer}
    assert {name.rpartition("_")[0] for name in metrics} - {""} == {"mlm", "itm", *asked}
    start = {"levels": (), "init": world.folder / run / "best.npz"}  # the checkpoint knows its levels
    assert "head_level" not in "".join(checkpoints.load_meta(start["init"]))
    ranked = call("retrieve", world.retrieve(f"{run}-retrieve", **start))
    assert ranked.status == 0, ranked.err
    kept = json.loads((world.folder / f"{run}-retrieve/results.json").read_text())["config"]["levels"]
    assert kept == configs.to_dict(row.levels)
    if path.stem in ("b", "b_i-v"):
        assert call("classify", world.classify(f"{run}-classify", **start), "--dry-run").status == 0
        return
    assert call("classify", world.classify(f"{run}-classify", **start, train=short)).status == 0
    assert call("caption", world.caption(f"{run}-caption", **start, train=short)).status == 0
    words = masked_words.measure(start["init"], world.bank.folder, world.bank.folder)
    assert words.keys() == {"aligned"} and 0 <= words["aligned"] <= 1  # every word of this alignment has a link
    pages = call("inspect", replace(world.inspect(f"{run}-pages"), checkpoint=start["init"]))
    assert pages.status == 0, pages.err
    right = results(world.folder / f"{run}-pages")["pages"][0]["right"]
    assert right.keys() == {"itm", *asked} and None not in right.values()


def test_levels_that_are_not_the_checkpoint_s_are_refused(world, untrained):
    bare = tuple(replace(level, pretext="none", num_masked=0) for level in KALEIDO)
    assert call("pretrain", world.pretrain("bare", levels=bare, train=replace(TRAIN, epochs=0.1))).status == 0
    refused(call("classify", world.classify("refused", init=world.folder / "bare/best.npz", levels=KALEIDO)), "levels")
    scratch = world.classify("scratch", init=None, from_scratch=True, levels=())
    assert call("classify", scratch, "--dry-run").status == 0


def test_more_masked_pieces_than_a_text_has_are_refused(world):
    sampling = replace(configs.Sampling(masking="random"), max_masked=15)
    done = call("pretrain", world.pretrain("refused", sampling=sampling))
    refused(done, "max_masked is 15, and a text of the bank has at most 14 pieces")


def test_a_share_of_nothing_masks_nothing(world):
    for share, masked in ((0.0, False), (0.01, True)):
        sampling = configs.Sampling(masking="random", mask_rate=share)
        sampler = PretrainSampler(world.bank, world.bank.rows("train"), KALEIDO, sampling, 8, 0)
        inputs, _, weights = sampler.batch(0)
        assert weights["mlm"].any() == masked
        assert masked or (inputs["token_ids"] != world.bank.vocabulary.mask).all()
