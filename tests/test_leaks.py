"""No answer of pre-training is told by what is masked and where: linear probes on many drawn examples (benchmarks/leaks.py)."""

import numpy as np
import pytest

from benchmarks import leaks
from kaleidobert import configs
from kaleidobert import levels as kaleido
from kaleidobert.app_zoo import pretrain
from kaleidobert.configs import Sampling
from kaleidobert.datasets.bank import alignment as alignments
from kaleidobert.datasets.sampling.pretraining import PretrainSampler
from kaleidobert.preprocessors import alignment_generator
from tests.support.tiny import tiny_bank

pytestmark = pytest.mark.slow

EXAMPLES = 20_000
MORE = 0.03  # by so much the upper end of an interval may lie above the share: it is half as wide with so many examples
WORDS_OF_ALIGNMENT = {"generated": 0.4, "teacher_forced": 1.0}  # share of the content words that have links


@pytest.fixture(scope="module")
def banks(tmp_path_factory):
    return {mode: linked(tmp_path_factory.mktemp(mode), mode) for mode in WORDS_OF_ALIGNMENT}


def linked(folder, mode):
    """A bank of which every content word, or some, is linked to the patches of a place of its own, the same for all products."""
    bank = tiny_bank(folder, num_products=120)
    rng, size = np.random.Generator(np.random.Philox(3)), bank.vocabulary.size
    pieces = [piece.removeprefix("##") for piece in bank.tokenizer().pieces(np.arange(size))]
    chosen = alignment_generator.content(pieces) & (rng.random(size) < WORDS_OF_ALIGNMENT[mode])
    by_piece = np.zeros((size, 55), np.float16)
    across, down = rng.random((2, size))
    for level, part in zip(bank.levels, kaleido.patch_slices(bank.levels).values()):
        if level.num_masked:
            patch = (down * level.grid).astype(int) * level.grid + (across * level.grid).astype(int)
            by_piece[np.flatnonzero(chosen), part.start + patch[chosen]] = 0.5
    alignments.write(bank, [by_piece[bank.token_ids]], ({} for _ in range(bank.size)), mode=mode, settings={})
    return bank


SETTINGS = {"random": {"masking": "random"}, "whole words": {"masking": "random", "whole_word": True}, "AGM": {},
            "AGM, all pairs": {"pairs": "all"}, "AGM, whole words": {"whole_word": True}}


CASES = [("teacher_forced", name) for name in SETTINGS] + [("generated", "AGM")]


@pytest.mark.parametrize("mode, settings", CASES)
def test_no_answer_is_told_by_masks(banks, mode, settings):
    bank, seen = banks[mode], []
    for found in leaks.probe(leaks.draws(bank, Sampling(**SETTINGS[settings]), EXAMPLES), bank):
        assert found.interval[1] < found.share + MORE or found.probe == "words, slots", found
        seen.append((found.task, found.probe))
    assert {task for task, _ in seen} == {"itm", "rotation", "jigsaw", "camouflage"} and len(seen) == 16


def test_the_probes_find_what_is_told(banks):
    """By the paper AGM chooses which patch is replaced: then the grey and blank patches beside it tell it."""
    bank = banks["teacher_forced"]
    found = {one.probe: one for one in leaks.probe(leaks.draws(bank, Sampling(camouflage="guided"), EXAMPLES), bank)
             if one.task == "camouflage"}
    assert found["slots"].interval[0] > found["slots"].share + 0.1 and found["tokens"].interval[1] < found["tokens"].share + 0.1


def test_where_masks_tell_the_slot_chance_is_the_commonest_one(banks):
    bank, guided = banks["teacher_forced"], Sampling(camouflage="guided")
    config = configs.PretrainConfig(None, configs.TrainingData(bank=bank.folder), levels=bank.levels, sampling=guided)
    train, val = (PretrainSampler(bank, bank.rows("train"), bank.levels, guided, 32, seed) for seed in (0, 1))
    chance = pretrain.baseline(bank, bank.rows("train"), train, val, config)["camouflage_accuracy"]
    slots = leaks.draws(bank, guided, 4_000).answers["camouflage"]
    assert abs(chance - np.bincount(slots).max() / len(slots)) < 0.06 and chance > 1 / 9
    config = configs.PretrainConfig(None, config.data, levels=bank.levels, sampling=Sampling())
    assert pretrain.baseline(bank, bank.rows("train"), train, val, config)["camouflage_accuracy"] == 1 / 9
