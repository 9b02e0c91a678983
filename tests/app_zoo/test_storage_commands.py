"""Every command that reads a bank reads one of bytes, with results as near as its features are."""

import json
from dataclasses import replace

import numpy as np
import pytest

from kaleidobert import configs
from kaleidobert.datasets.bank import builder
from kaleidobert.datasets.bank.bank import Bank
from tests.support.apps_data import TRAIN, World, call, results
from tests.support.tables import TWO
from tests.support.tiny import tiny_bank

pytestmark = [pytest.mark.slow, pytest.mark.eager]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """Two worlds, of float16 and of uint8, pre-trained alike."""
    folder, levels = tmp_path_factory.mktemp("worlds"), TWO
    floats = World(folder / "float16", levels, tiny_bank(folder / "float16", levels))
    for _ in builder.copy_bank(floats.bank, folder / "uint8/bank", "uint8"):
        pass
    made = floats, World(folder / "uint8", levels, Bank(folder / "uint8/bank"))
    for world in made:
        assert call("pretrain", world.pretrain()).status == 0
    return made


def test_pretraining_learns_the_same(worlds):
    losses = [[json.loads(line)["loss"] for line in (world.folder / "pretrain/metrics.jsonl").read_text().splitlines()] for world in worlds]
    np.testing.assert_allclose(losses[1], losses[0], rtol=5e-3)
    assert results(worlds[1].folder / "pretrain")["bank"]["storage"] == "uint8"
    one, two = (results(world.folder / "pretrain")["baselines"] for world in worlds)
    assert set(one) == set(two) and all(two[name] == pytest.approx(value, rel=5e-3) for name, value in one.items())


def test_classification(worlds):
    for world in worlds:
        done = call("classify", world.classify(noise=configs.Noise(0.1, 0.1), modality="image", baselines=True, head="wide"))
        assert done.status == 0, done.err
    one, two = (results(world.folder / "classify")["metrics"]["accuracy"]["value"] for world in worlds)
    assert one == pytest.approx(two, abs=0.35)  # of few pictures


def test_retrieval(worlds):
    """With the head that is trained in two stages, and the plain head beside it."""
    scores = []
    for world in worlds:
        matching = configs.Matching(head="dual_encoder", width=6, objective="listwise")
        dual_encoder = replace(TRAIN, epochs=1, batch_size=8)
        done = call("retrieve", world.retrieve("dual_encoder", 1, matching=matching, dual_encoder=dual_encoder))
        assert done.status == 0, done.err
        assert results(world.folder / "dual_encoder")["plain"]["metrics"]
        lines = (world.folder / "dual_encoder/scores.jsonl").read_text().splitlines()
        scores.append(np.concatenate([json.loads(line)["scores"] for line in lines]))
    assert np.abs(scores[1] - scores[0]).max() < 0.1 * max(1, np.ptp(scores[0]))


def test_inspection_and_captions(worlds, untrained):
    world = worlds[1]
    done = call("inspect", world.inspect())
    assert done.status == 0, done.err
    done = call("caption", world.caption(mode="causal"))
    assert done.status == 0, done.err
