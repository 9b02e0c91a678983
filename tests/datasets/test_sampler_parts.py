"""Parts of a batch, as several processes make them, are together the whole one, byte for byte."""

import numpy as np
import pytest

from kaleidobert.configs import Matching, Noise, Sampling
from kaleidobert.datasets.sampling import finetuning
from kaleidobert.datasets.sampling.pretraining import PretrainSampler
from tests.support.random_data import random_bank
from tests.support.tables import ALL

SIZE, STEP = 12, 5


@pytest.fixture(scope="module", params=ALL)
def bank(request, tmp_path_factory):
    return random_bank(tmp_path_factory.mktemp("bank"), ALL[request.param])


def samplers(bank):
    rows = bank.rows("train")
    labels, _ = finetuning.label_ids(bank, "subcategory", rows)
    for masking, losses in (("random", "itm-only"), ("alignment_guided", "all")):
        yield PretrainSampler(bank, rows, bank.levels, Sampling(masking, losses_on_negatives=losses), SIZE, 3)
    for modality in ("both", "image", "text"):
        yield finetuning.LabelSampler(bank, rows, labels, modality, Noise(0.2, 0.3), SIZE, 3)
    yield finetuning.MatchSampler(bank, rows, "subcategory", Matching(negatives=2), SIZE, 3)


@pytest.mark.parametrize("ends", [(0, 6, 12), (0, 3, 6, 9, 12), (0, 1, 12), tuple(range(13))])
def test_joined_parts_are_the_whole_batch(bank, ends):
    for sampler in samplers(bank):
        whole = sampler.batch(STEP)
        parts = [sampler.batch(STEP, slice(*pair)) for pair in zip(ends, ends[1:])]
        for number, arrays in enumerate(whole):
            assert all(set(part[number]) == set(arrays) for part in parts)
            for name, array in arrays.items():
                joined = np.concatenate([part[number][name] for part in parts])
                assert joined.dtype == array.dtype and joined.shape == array.shape and joined.tobytes() == array.tobytes(), name


def test_the_weights_of_the_whole_need_no_feature(bank, monkeypatch):
    expected = [sampler.batch(STEP)[2] for sampler in samplers(bank)]
    monkeypatch.setattr(bank, "gather", None)
    for sampler, weights in zip(samplers(bank), expected):
        found = sampler.weights(STEP)
        assert set(found) == set(weights)
        assert all(found[name].tobytes() == array.tobytes() and found[name].shape == array.shape for name, array in weights.items())


def test_only_the_part_is_read(bank, monkeypatch):
    read, gather = [], bank.gather
    monkeypatch.setattr(bank, "gather", lambda rows, vectors: read.append(len(rows)) or gather(rows, vectors))
    sampler = next(samplers(bank))
    sampler.batch(STEP, slice(4, 6))
    assert read and max(read) <= 2
