"""The loop around a step: what float16 skips, numbers read a step late, keys that may change while a run lasts, refused batches."""

from dataclasses import replace

import numpy as np
import pytest

from kaleidobert import configs
from kaleidobert.app_zoo import models
from kaleidobert.engines.distributed import distribution
from kaleidobert.engines.run_folder import Run, check_folder
from kaleidobert.errors import UserError
from kaleidobert.losses import decomposable, pretraining
from kaleidobert.model_zoo import checkpoints
from tests.engines.test_run_folder import Loop, config
from tests.support.network_data import TABLES, batch


def row(norm: float, scale: float) -> dict:
    return {"loss": np.float32(2), "gradient_norm": np.float32(norm), "loss_scale": np.float32(scale)}


def test_a_step_that_float16_skips_does_not_end_the_run(tmp_path, monkeypatch):
    loop = Loop(tmp_path / "run", monkeypatch, [row(3, 2**15), row(np.inf, 2**15), row(5, 2**14), row(np.nan, 2**14)], [1.0, 1.0])
    loop.fit(epoch=2, save=2)
    found = [(line["step"], line["gradient_norm"], line["loss_scale"]) for line in loop.run.metrics() if line["split"] == "train"]
    assert found == [(2, 3, 2**15), (4, 5, 2**14)]  # means over the steps that had a gradient
    assert checkpoints.load_meta(loop.run.last)["step"] == 4


@pytest.mark.parametrize("broken, what", [(row(np.inf, 1.0), "the gradient of step 2"),
                                          ({**row(1, 2**15), "loss": np.float32(np.nan)}, "the loss of step 2")])
def test_what_no_scale_mends_ends_it(tmp_path, monkeypatch, broken, what):
    loop = Loop(tmp_path / "run", monkeypatch, [row(1, 2.0), broken, row(1, 1.0)], [1.0, 1.0])
    with pytest.raises(UserError, match=f"{what} is not finite"):
        loop.fit(epoch=3, save=9)
    assert not loop.run.last.exists()


class Pending:
    """A number that the device still computes: tells when it is waited for."""

    def __init__(self, value: float, told: list, name: str):
        self.value, self.told, self.name = value, told, name

    def __float__(self) -> float:
        self.told.append(self.name)
        return self.value


def test_numbers_are_read_while_the_next_step_is_computed(tmp_path, monkeypatch):
    told = []
    loop = Loop(tmp_path / "run", monkeypatch, [{"loss": Pending(1.0, told, f"read {step}")} for step in range(4)], [1.0])
    update = loop.update
    monkeypatch.setattr(loop, "update", lambda *batch: (told.append(f"step {int(batch[0]['x'][0, 0])}"), update(*batch))[1])
    loop.fit(epoch=4, save=3)
    assert told == ["step 0", "step 1", "read 0", "step 2", "read 1", "read 2", "step 3", "read 3"]  # all, before a checkpoint


def test_a_run_goes_on_with_other_devices_and_threads_only(tmp_path):
    folder = tmp_path / "run"
    Run(folder, config(folder, train=configs.Train()))
    check_folder(folder, config(folder, train=configs.Train(devices=4, workers=3)))
    with pytest.raises(UserError, match="train.gradient_accumulation_steps: 1 -> 2"):
        check_folder(folder, config(folder, train=configs.Train(gradient_accumulation_steps=2, devices=4)))


def test_what_runs_in_one_process_or_on_one_device_says_so(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="devices is 2.*1: this training runs on one device"):
        models.trainer_schedule(configs.Train(devices=2), 10)
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "a")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="the environment names 2 processes.*start it once"):
        Run(tmp_path / "run", config(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "changes, pieces", [({"gradient_accumulation_steps": 4}, 4), ({"devices": 3}, 3), ({"devices": 2, "gradient_accumulation_steps": 3}, 6)]
)
def test_a_batch_that_does_not_divide_is_refused_before_anything_is_made(changes, pieces):
    train = configs.Train(batch_size=10, epochs=1)
    with pytest.raises(UserError, match=f"train.batch_size is 10.*a multiple of {pieces}"):
        models.schedule(replace(train, **changes), 100)
    models.schedule(replace(train, gradient_accumulation_steps=5, devices=2), 100)


def test_processes_and_devices_split_rows_evenly(monkeypatch):
    process = distribution.Process(distribution.Cluster(1, 2, "a:1"), devices=("x", "y"))
    found = ({"x": np.arange(8)}, {"y": np.arange(8) * 2}, {"y": np.ones(8)})
    inputs, targets, weights, whole = distribution.split(found, process, 2)
    assert inputs["x"].tolist() == [4, 5, 6, 7] and targets["y"].tolist() == [8, 10, 12, 14] and len(weights["y"]) == 4
    assert whole is found[2]
    with pytest.raises(UserError, match="8 rows, which cannot be split over 4 devices and 3 micro-batches"):
        distribution.split(found, process, 3)
    with pytest.raises(UserError, match="equal numbers of rows"):
        distribution.split(({"x": np.arange(8)}, {"y": np.arange(4)}, {}), process, 1)


@pytest.mark.parametrize("target", pretraining.FEATURE_TARGETS)
def test_losses_of_parts_add_up_whatever_the_feature_target(target):
    """The joint softmax of the release runs over the patches of one picture, so pictures can be parted."""
    found, rng = batch("kaleido", 4), np.random.Generator(np.random.Philox(1))
    sizes = {"mlm": 50, "itm": 2} | {level.name: level.num_classes for level in TABLES["kaleido"] if level.answer == "class"}
    outputs = {task: rng.normal(size=(*each.shape, sizes[task]) if task in sizes else each.shape).astype(np.float32)
               for task, each in found["targets"].items()}
    by_task = pretraining.for_tasks(TABLES["kaleido"], target)
    loss = decomposable.DecomposableLoss(lambda *sides: pretraining.total(by_task, *sides),
                                         lambda weights: pretraining.denominators(by_task, weights))
    sides = (outputs, found["targets"], found["weights"])
    whole, over = loss(*sides), loss.denominators(found["weights"])
    parts = [loss.micro_batch(*({task: each[rows] for task, each in side.items()} for side in sides), over)
             for rows in (slice(0, 1), slice(1, 4))]
    for task, value in whole.items():
        assert sum(float(part[task]) for part in parts) == pytest.approx(float(value), rel=1e-5)


def test_means_of_parts():
    loss = decomposable.mean(lambda outputs, targets, weights: {"loss": outputs["a"].mean()}, "a")
    outputs, weights = {"a": np.array([1.0, 2.0, 6.0], np.float32)}, {"a": np.ones(3, np.float32)}
    parts = [loss.micro_batch({"a": outputs["a"][rows]}, {}, {"a": weights["a"][rows]}, loss.denominators(weights))["loss"]
             for rows in (slice(0, 1), slice(1, 3))]
    assert float(sum(parts)) == pytest.approx(3.0) == float(loss(outputs, {}, weights)["loss"])
