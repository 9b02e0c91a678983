"""The dual encoder of ``kaleidobert retrieve``: as many epochs as asked for, settings that are refused."""

from dataclasses import replace

import pytest

from kaleidobert import configs
from tests.support.apps_data import TRAIN, World, call, refused, results
from tests.support.tables import TWO
from tests.support.tiny import tiny_bank


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    folder = tmp_path_factory.mktemp("two")
    return World(folder, TWO, tiny_bank(folder, TWO))


def dual_encoder(world, run: str, **changes):
    options = {"init": None, "from_scratch": True, "matching": configs.Matching("dual_encoder", width=8), "dual_encoder": TRAIN} | changes
    return world.retrieve(run, 1, **options)


@pytest.mark.eager
def test_a_batch_of_all_rows_is_an_epoch(world, untrained):
    """More pictures asked for in a batch than there are: the schedule must count those that are there."""
    done = call("retrieve", dual_encoder(world, "large", dual_encoder=replace(TRAIN, epochs=5, batch_size=500)))
    assert done.status == 0 and results(world.folder / "large")["config"]["dual_encoder"]["batch_size"] == 500
    lines = [line for line in done.err.split("\r") if line.startswith("dual_encoder:")]
    assert "6/6" in lines[-1]  # 5 epochs of a step, and one as the schedule adds


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    "changes, message",
    [
        ({"epochs": 0}, "dual_encoder.epochs is 0"),
        ({"precision": "mixed_bfloat16"}, "dual_encoder.precision is mixed_bfloat16; expected: float32"),
    ],
)
def test_settings_that_could_not_be_kept_to_are_refused(world, changes, message, words):
    refused(call("retrieve", dual_encoder(world, "no", dual_encoder=replace(TRAIN, **changes)), *words), message)
    assert not (world.folder / "no").exists()
