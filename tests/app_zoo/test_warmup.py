"""Every command that trains tells how high its rate of learning gets, and refuses a warm-up that takes most of the run."""

from dataclasses import replace

import pytest

from kaleidobert import configs
from tests.support.apps_data import TRAIN, World, call, refused
from tests.support.tables import TWO
from tests.support.tiny import tiny_bank

FRESH = {"init": None, "from_scratch": True}
SECTIONS = {"pretrain": ("train",), "classify": ("train",), "caption": ("train",), "retrieve": ("dual_encoder", "train"),
            "align": ("word_grounding", "train"), "train-foreground": ("train",)}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    folder = tmp_path_factory.mktemp("world")
    return World(folder, TWO, tiny_bank(folder, TWO))


def config(world: World, command: str):
    dual_encoder = {"matching": configs.Matching(head="dual_encoder", width=24), "dual_encoder": replace(TRAIN, batch_size=100)}
    changes = {"classify": FRESH, "caption": FRESH, "retrieve": FRESH | dual_encoder | {"epochs": 2}}
    return getattr(world, command.replace("-", "_"))(f"rates-{command}", **changes.get(command, {}))


@pytest.mark.parametrize("command", SECTIONS)
def test_a_dry_run_tells_the_highest_rate(world, command):
    done = call(command, config(world, command), "--dry-run")
    assert done.status == 0, done.err
    for section in SECTIONS[command]:
        assert f"{section}: the rate is highest after 0 of " in done.out and "steps, 0.01 (" in done.out


@pytest.mark.parametrize("command, section", [(command, section) for command in SECTIONS for section in SECTIONS[command]])
def test_a_warmup_above_half_of_the_run_is_refused_before_anything_is_made(world, command, section):
    asked = config(world, command)
    for words in (("--dry-run",), ()):
        refused(call(command, asked, f"{section}.warmup_steps=1000", *words), r"warm-up takes 1,000 steps and the run has \d+: its rate "
                rf"would reach \S+ of the 0\.01 configured.*set {section}\.warmup_steps=0 {section}\.warmup_share=0\.1")
        refused(call(command, asked, f"{section}.warmup_share=0.9", *words), "warm-up takes", "at most half of the steps")
    assert not asked.run.exists()


def test_what_is_printed_follows_the_decay(world):
    for decay, rate in (("from-start", "0.00625"), ("after-warmup", "0.01")):
        done = call("pretrain", config(world, "pretrain"), "--dry-run", "train.warmup_share=0.45", "train.epochs=4", f"train.decay={decay}")
        assert f"after 3 of 8 steps, {rate} (train.learning_rate is 0.01)" in done.out, done.out


def test_the_foreground_network_has_its_own_decay(world):
    refused(call("train-foreground", config(world, "train-foreground"), "train.decay=from-start"), "decay is from-start", "half cosine")
