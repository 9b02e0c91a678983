"""The stage of the towers in ``kaleidobert retrieve matching.head=contrast``: as many epochs as asked for, settings that are refused."""

from dataclasses import replace

import pytest

from kaleidobert import configs
from tests.apps_data import TRAIN, World, call, refused, results
from tests.tables import TWO
from tests.tiny import tiny_bank


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    folder = tmp_path_factory.mktemp("two")
    return World(folder, TWO, tiny_bank(folder, TWO))


def contrast(world, run: str, **changes):
    options = {"init": None, "from_scratch": True, "matching": configs.Matching("contrast", width=8), "towers": TRAIN} | changes
    return world.retrieve(run, 1, **options)


def test_a_batch_of_all_rows_is_an_epoch(world, untrained):
    """More pictures asked for in a batch than there are: the schedule must count those that are there."""
    done = call("retrieve", contrast(world, "large", towers=replace(TRAIN, epochs=5, batch_size=500)))
    assert done.status == 0 and results(world.folder / "large")["config"]["towers"]["batch_size"] == 500
    lines = [line for line in done.err.split("\r") if line.startswith("towers:")]
    assert "6/6" in lines[-1]  # 5 epochs of a step, and one as the schedule adds


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
@pytest.mark.parametrize("changes, message", [({"epochs": 0}, "towers.epochs is 0"),
                                              ({"precision": "mixed_bfloat16"}, "towers.precision is mixed_bfloat16; expected: float32")])
def test_settings_that_could_not_be_kept_to_are_refused(world, changes, message, words):
    refused(call("retrieve", contrast(world, "no", towers=replace(TRAIN, **changes)), *words), message)
    assert not (world.folder / "no").exists()
