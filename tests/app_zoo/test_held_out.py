"""What chooses the weights of a training: groups held out of the training split, and never the split that is reported on."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kaleidobert.app_zoo import pretrain
from kaleidobert.app_zoo.align import align
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sampling import pretraining
from kaleidobert.errors import UserError
from kaleidobert.model_zoo import checkpoints
from tests.support.apps_data import CAPTIONER, TRAIN, World, call, edit, refused, results
from tests.support.tables import TWO
from tests.support.tiny import make_bank, tiny_bank, tiny_catalogue

pytestmark = [pytest.mark.slow, pytest.mark.eager]

LONG = replace(TRAIN, epochs=3)
COMMANDS = {"pretrain": {"held_out": 0.2}, "align": {"held_out": 0.2, "word_grounding": LONG},
            **dict.fromkeys(("classify", "retrieve", "caption"), {"init": None, "from_scratch": True})}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    folder = tmp_path_factory.mktemp("world")
    return World(folder, TWO, tiny_bank(folder, TWO))


def config(world: World, command: str, run: str = "val"):
    """Of a run in the folder command-run, in which weights can be chosen."""
    return getattr(world, command)(f"{command}-{run}", train=LONG, **COMMANDS[command])


@pytest.fixture(scope="module")
def trained(world):
    """A function: command -> its run that reports on the validation split, and what it printed."""
    made = {}

    def get(command: str) -> tuple[Path, str]:
        if command not in made:
            done = call(command, config(world, command))
            assert done.status == 0, done.err
            made[command] = config(world, command).run, done.out
        return made[command]

    return get


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def weights(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files if name.startswith("model/")}


def same(one: Path, two: Path) -> bool:
    left, right = weights(one), weights(two)
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("share, held", ((0.01, 2), (0.25, 4), (0.5, 8)))
def test_groups_are_held_out_whole(world, share, held):
    bank, rows = world.bank, world.bank.rows("train")
    groups = bank.column("group")
    kept, out = pretraining.hold_out(bank, rows, share, 3, "")
    assert pretraining.count_groups(bank, out) == held and not set(groups[kept]) & set(groups[out])
    assert sorted([*kept, *out]) == rows.tolist()
    np.testing.assert_array_equal(pretraining.hold_out(bank, rows, share, 3, "")[1], out)
    assert not np.array_equal(pretraining.hold_out(bank, rows, share, 4, "")[1], out)


def test_two_groups_are_left_on_either_side(world):
    bank, groups = world.bank, world.bank.column("group")
    rows = np.flatnonzero(np.isin(groups, np.unique(groups)[:4]))
    for share in (0.01, 0.5, 0.9):
        assert [pretraining.count_groups(bank, part) for part in pretraining.hold_out(bank, rows, share, 0, "")] == [2, 2]
    with pytest.raises(UserError, match=r"3 group\(s\).*at least 4.*or do without"):
        pretraining.hold_out(bank, rows[groups[rows] != groups[rows[0]]], 0.05, 0, "do without")
    kept, held = pretraining.hold_out(bank, rows[:1], 0, 0, "")
    assert len(kept) == 1 and not len(held)


def test_pre_training_is_chosen_by_what_it_never_saw(world, trained):
    run, out = trained("pretrain")
    data = pretrain.bank_data(config(world, "pretrain"))
    rows, held = data.sampler.order.rows, data.held.order.rows
    groups = world.bank.column("group")
    assert not set(groups[rows]) & set(groups[held]) and sorted([*rows, *held]) == world.bank.rows("train").tolist()
    assert data.num_examples == len(rows)
    losses = {row["step"]: row["loss"] for row in lines(run) if row["split"] == "held_out"}
    best, outcome = checkpoints.load_meta(run / "best.npz"), results(run)
    assert best["step"] == min(losses, key=losses.get) == outcome["best_step"] and best["loss"] == losses[best["step"]]
    assert outcome["choice"] == {"by": "held_out", "groups": 3, "pictures": len(held), "val_chose": False}
    assert f"chosen by {len(held)} held-out training pictures" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_the_validation_split_chooses_nothing(world, trained, command):
    """Another split to report on changes no weight, whichever epoch is best there."""
    one, other = trained(command)[0], config(world, command, "train")
    done = call(command, other, "data.val_split=train")
    assert done.status == 0, done.err
    for part in ("word_grounding", "captioner") if command == "align" else ("",):
        assert all(same(one / part / name, other.run / part / name) for name in ("best.npz", "last.npz"))
    place = "generated" if command == "align" else ""
    assert results(one / place)["metrics"] != results(other.run / place)["metrics"]


def test_without_held_out_groups_the_last_epoch_is_kept(world):
    run = world.folder / "last"
    assert call("pretrain", world.pretrain("last", held_out=0, train=LONG)).status == 0
    outcome, evaluated = results(run), [row for row in lines(run) if row["split"] == "val"]
    assert outcome["best_step"] == outcome["steps"] == evaluated[-1]["step"] and same(run / "best.npz", run / "last.npz")
    assert outcome["choice"] == {"by": "none", "groups": 0, "pictures": 0, "val_chose": False}
    assert outcome["metrics"] == {name: value for name, value in evaluated[-1].items() if name not in ("step", "split")}


def test_a_finished_run_reports_the_same_when_it_is_started_again(world, trained):
    run, _ = trained("pretrain")
    before, told = results(run), lines(run)
    (run / "results.json").unlink()
    assert call("pretrain", config(world, "pretrain")).status == 0
    assert results(run) == before and lines(run) == told


def test_alignment_is_chosen_by_held_out_rows(world, trained):
    run, _ = trained("align")
    rows = align.open_task(config(world, "align")).rows
    groups = world.bank.column("group")
    assert not set(groups[rows.train]) & set(groups[rows.held]) and len(rows.held)
    assert sorted([*rows.train, *rows.held]) == world.bank.rows("train").tolist()
    for part, metric in (("word_grounding", "loss"), ("captioner", "perplexity")):
        found = lines(run / part)
        values = {row["step"]: row[metric] for row in found if row["split"] == "held_out"}
        assert {row["split"] for row in found} == {"train", "held_out"}
        best = checkpoints.load_meta(run / part / "best.npz")
        assert best["step"] == min(values, key=values.get) and best[metric] == values[best["step"]]
    outcome = results(run / "generated")
    assert outcome["choice"] == {"by": "held_out", "groups": 3, "pictures": len(rows.held), "val_chose": False}
    assert outcome["metrics"]["perplexity"] not in values.values()


def test_alignment_without_held_out_groups_keeps_the_last_epochs(world):
    patient = replace(CAPTIONER, patience=0)
    last = world.align("align-last", held_out=0, captioner=patient)
    refused(call("align", world.align("align-last", held_out=0)), "held_out is 0 and captioner.patience is 4", "captioner.patience=0")
    assert call("align", last).status == 0
    for part in ("word_grounding", "captioner"):
        assert same(last.run / part / "best.npz", last.run / part / "last.npz")
        assert {row["split"] for row in lines(last.run / part)} == {"train", "val"}
    assert results(last.run / "generated")["choice"]["by"] == "none"


def test_fine_tuning_says_what_it_judged_by(trained):
    assert {row["split"] for row in lines(trained("retrieve")[0])} == {"train", "held_out"}
    run, _ = trained("classify")  # chooses nothing
    assert {row["split"] for row in lines(run)} == {"train", "val"} and same(run / "best.npz", run / "last.npz")


def test_too_few_groups_are_refused(tmp_path, untrained):
    source = tiny_catalogue(tmp_path / "catalogue", 12)
    edit(source, lambda rows: [row.update(split="val" if row["id"] > "p02" else "train") for row in rows])
    world = World(tmp_path, TWO, make_bank(tmp_path / "bank", source, TWO))
    assert pretraining.count_groups(Bank(tmp_path / "bank"), world.bank.rows("train")) == 3
    wanted = r"training split has 3 group\(s\)", "at least 4"
    refused(call("pretrain", world.pretrain(), "--dry-run"), *wanted, "held_out=0")
    refused(call("align", world.align(), "--dry-run"), *wanted, "held_out=0 and captioner.patience=0")
    assert call("pretrain", world.pretrain(held_out=0)).status == 0
