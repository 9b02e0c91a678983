"""``kaleidobert train-foreground``: a tiny training from end to end, resumed, repeated, refused."""

import numpy as np
import pytest

from kaleidobert.app_zoo import train_foreground
from kaleidobert.drawing import scenes
from kaleidobert.engines.trainer import Trainer
from kaleidobert.losses.auxiliary import cross_entropy_and_dice
from kaleidobert.model_zoo import foreground_net
from tests.support.apps_data import World, call, refused, results
from tests.support.tables import TWO

pytestmark = [pytest.mark.slow, pytest.mark.eager]


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, TWO)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("whole"), TWO)
    done = call("train-foreground", world.train_foreground())
    assert done.status == 0, done.err
    return world.folder / "foreground", done


def test_a_run_leaves_weights_figures_and_says_where(trained):
    folder, done = trained
    values = results(folder)
    assert 0 <= values["overlap"] <= 1 and values["families"].keys() == {"catalogue", "curtain", "pebbles", "lights"}
    assert 0 <= values["goods"]["overlap"] <= 1 and sum(row["scenes"] for row in values["areas"].values()) == 4
    assert values["bytes"] == (folder / "foreground_net.npz").stat().st_size and str(folder / "foreground_net.npz") in done.out
    assert foreground_net.load(folder / "foreground_net.npz").count_params() == values["parameters"]


def test_an_interrupted_run_ends_with_the_same_weights(trained, world, monkeypatch):
    after = Trainer._after

    def interrupted(self, *arguments):
        after(self, *arguments)
        if self.step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_after", interrupted)
        assert call("train-foreground", world.train_foreground()).status == 130
    assert not (world.folder / "foreground/foreground_net.npz").exists()
    done = call("train-foreground", world.train_foreground())
    assert done.status == 0 and "resuming" in done.out
    assert (world.folder / "foreground/foreground_net.npz").read_bytes() == (trained[0] / "foreground_net.npz").read_bytes()


def test_a_finished_run_is_installed_by_the_same_command(trained, monkeypatch, tmp_path):
    target, config = tmp_path / "weights/net.npz", World(trained[0].parent, TWO).train_foreground(install=True)
    monkeypatch.setattr(train_foreground, "FOREGROUND_WEIGHTS", target)
    done = call("train-foreground", config)
    assert done.status == 0 and f"installed as {target}" in done.out
    assert target.read_bytes() == (trained[0] / "foreground_net.npz").read_bytes()


def test_a_dry_run_draws_nothing_and_prints_sizes(world):
    done = call("train-foreground", world.train_foreground(), "--dry-run")
    assert done.status == 0 and "parameters" in done.out and "15 pictures" in done.out and not (world.folder / "foreground").exists()


@pytest.mark.parametrize("changes, message", [({"channels": (4, 6, 8), "size": 20}, "do not go with size 20")])
def test_impossible_sizes_are_refused(world, changes, message):
    refused(call("train-foreground", world.train_foreground(**changes)), message)


def test_batches_are_a_function_of_the_step_and_never_the_same(world):
    config = world.train_foreground()
    parts = scenes.foregrounds(0, 0, 5, 16), scenes.training_backgrounds(0, 0, 4, 16)
    first, again, other = (train_foreground.batch(*parts, config, step) for step in (5, 5, 6))
    assert first[0]["image"].shape == (3, 16, 16, 4) and first[1]["foreground"].shape == (3, 16, 16, 1)
    assert all(np.array_equal(first[part][name], again[part][name]) for part in (0, 1) for name in first[part])
    assert not np.array_equal(first[0]["image"], other[0]["image"])


@pytest.mark.parametrize("part", scenes.SETS)
def test_parts_are_drawn_once_and_the_same_by_any_number_of_workers(part, tmp_path, monkeypatch):
    monkeypatch.setattr(scenes, "SHARD", 2)
    assert sum(scenes.draw_files(tmp_path / "a", part, 3, 5, 16, workers=1)) == 5
    with monkeypatch.context() as patch:
        patch.setattr(scenes, "SETS", {})  # nothing is drawn a second time
        assert list(scenes.draw_files(tmp_path / "a", part, 3, 5, 16, workers=1)) == [5]
    assert sum(scenes.draw_files(tmp_path / "b", part, 3, 5, 16, workers=2)) == 5
    one, other = (scenes.StoredPictures(tmp_path / name, part) for name in "ab")
    assert len(one) == len(other) == 5 and all(np.array_equal(one[k], other[k]) for k in range(5))
    if part in ("test", "goods"):
        whole = scenes.read_scenes(tmp_path / "a", part)
        assert np.array_equal(whole.images[4], one[4][..., :3]) and np.array_equal(whole.masks[4], one[4][..., 3] > 0)


def test_half_precision_keeps_the_logits_exact():
    model = foreground_net.network((4, 6), 16, "mixed_bfloat16")
    assert model.get_layer("merge0_conv").compute_dtype == "bfloat16" and model.output.dtype == "float32"
    assert all(variable.dtype == "float32" for variable in model.variables)


def test_the_loss_prefers_the_truth_and_counts_small_things():
    truth = np.zeros((1, 8, 8, 1), np.float32)
    truth[0, 3, 3] = 1
    right, nothing, wrong = (np.asarray(cross_entropy_and_dice(truth, 20 * (x - 0.5)))[0]
                             for x in (truth, np.zeros_like(truth), 1 - truth))
    assert right < 0.01 < 0.5 < nothing < wrong and np.isfinite(wrong)
