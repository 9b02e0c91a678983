"""The run folder, the training loop around one step, and prediction in batches; no network is compiled here."""

import json
import threading
from pathlib import Path

import keras
import numpy as np
import pytest

from kaleidobert import configs
from kaleidobert.engines import steps
from kaleidobert.engines.prediction import predict, prefetch
from kaleidobert.engines.run_folder import Run, check_folder, read_metrics
from kaleidobert.engines.trainer import Goal, Schedule, Trainer
from kaleidobert.errors import UserError
from kaleidobert.model_zoo import checkpoints


def config(folder: Path, **changes) -> configs.PretrainConfig:
    return configs.PretrainConfig(folder, configs.Data(folder.parent / "bank"), **changes)


def test_a_folder_is_claimed_once_and_opened_again(tmp_path):
    folder = tmp_path / "deep/run"
    check_folder(folder, config(folder))
    assert not folder.parent.exists()
    Run(folder, config(folder))
    first = (folder / "config.yaml").stat().st_mtime_ns
    Run(folder, config(folder))
    assert (folder / "config.yaml").stat().st_mtime_ns == first
    other = config(folder, train=configs.Train(epochs=3, seed=7))
    for claim in (Run, check_folder):
        with pytest.raises(UserError, match=r"holds another run \(train.epochs: 25.0 -> 3.*train.seed: 0 -> 7.*run=\.\.\."):
            claim(folder, other)


def test_what_is_no_run_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="this is a file.*a folder"):
        Run(tmp_path / "file", config(tmp_path / "file"))
    (tmp_path / "photos").mkdir()
    Run(tmp_path / "photos", config(tmp_path / "photos"))  # an empty folder is fine
    (tmp_path / "other").mkdir()
    (tmp_path / "other/picture.jpg").write_text("mine")
    with pytest.raises(UserError, match="not empty and holds no run"):
        Run(tmp_path / "other", config(tmp_path / "other"))
    assert (tmp_path / "other/picture.jpg").read_text() == "mine" and len(list((tmp_path / "other").iterdir())) == 1


def test_what_a_killed_write_left_is_cleared(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".config.yaml.4711.tmp").write_text("run: hal")  # killed in its very first write
    Run(folder, config(folder))
    assert [path.name for path in folder.iterdir()] == ["config.yaml"]


def test_metrics_are_rewound_to_a_step(tmp_path):
    run = Run(tmp_path / "run", config(tmp_path / "run"))
    for step in (2, 4, 6):
        run.log(step, "train", {"loss": np.float32(step / 10)})
        run.log(step, "val", {"accuracy": step})
    with open(tmp_path / "run/metrics.jsonl", "a") as file:
        file.write('{"step": 8, "split": "tra')
    assert [row["step"] for row in run.metrics()] == [2, 2, 4, 4, 6, 6]
    kept = run.rewind(4)
    assert kept == run.metrics() == read_metrics(tmp_path / "run/metrics.jsonl")
    assert kept[-2:] == [{"step": 4, "split": "train", "loss": pytest.approx(0.4)}, {"step": 4, "split": "val", "accuracy": 4.0}]
    run.log(6, "val", {"accuracy": 1})
    assert (tmp_path / "run/metrics.jsonl").read_text().count("\n") == 5  # the torn line is gone
    assert list((tmp_path / "run/tensorboard").glob("events*")) and read_metrics(tmp_path / "none") == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_under_the_metrics_is_explained(tmp_path):
    run = Run(tmp_path / "run", config(tmp_path / "run"))
    (tmp_path / "run/metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(UserError, match="No space left.*continues from last.npz"):
        run.log(1, "train", {"loss": 1})


def test_results_hold_versions_and_configuration(tmp_path):
    run = Run(tmp_path / "run", config(tmp_path / "run"))
    run.results({"metrics": {"loss": 1.5}}, config(tmp_path / "run"))
    found = json.loads((tmp_path / "run/results.json").read_text())
    assert found["metrics"] == {"loss": 1.5} and found["versions"]["keras"] == keras.__version__
    assert found["config"] == configs.to_dict(config(tmp_path / "run"))


def test_a_finished_run_has_a_model_card_and_says_how_long_it_took(tmp_path):
    run, inputs = Run(tmp_path / "run", config(tmp_path / "run")), keras.Input((2,))
    checkpoints.save(run.best, keras.Model(inputs, keras.layers.Dense(3)(inputs)))
    values = {"task": "classify", "model": {"head": "plain", "head_of": "the paper's", "trained": "classifier fine-tuned 2 epochs"}}
    run.log(1, "train", {"loss": 1})
    assert not (run.folder / "environment.json").exists()
    run.log(1, "val", {"loss": 1})  # from here on an interrupted run has its time, too
    assert len(json.loads((run.folder / "environment.json").read_text())["starts"]) == 1
    run.results(values, config(run.folder))
    first = (run.folder / "results.json").read_bytes()
    card = (run.folder / "MODEL_CARD.md").read_text()
    assert card.startswith("---\n") and "| parameters | 9 |" in card and "classifier fine-tuned 2 epochs" in card
    again = Run(run.folder, config(run.folder))
    again.results(values, config(run.folder))
    assert (run.folder / "results.json").read_bytes() == first  # the same command, the same results
    Run(tmp_path / "other", config(tmp_path / "other")).results({"task": "inspect"}, config(tmp_path / "other"))
    assert not (tmp_path / "other/MODEL_CARD.md").exists()


class Loop:
    """A Trainer of a two-number model; step n has the loss losses[n - 1], evaluations give ``values`` one by one."""

    def __init__(self, folder: Path, monkeypatch, losses, values, higher_is_better=False, bank="one", **broken):
        inputs = keras.Input((1,), name="x")
        model = keras.Model({"x": inputs}, {"y": keras.layers.Dense(1, name="dense")(inputs)})
        self.model, self.losses, self.values, self.broken, self.steps = model, losses, iter(values), broken, []
        monkeypatch.setattr(steps, "train_step", lambda *arguments: self.update)
        self.run = Run(folder, config(folder))
        self.trainer = Trainer(self.run, model, keras.optimizers.SGD(0.1, name="sgd"), {"bank": bank})
        self.goal = Goal(lambda: {"value": next(self.values)}, "value", higher_is_better)

    def batch(self, step: int):
        inputs, targets = ({**self.broken.get(side, {})} for side in ("inputs", "targets"))
        return {"x": np.full((2, 1), step, np.float32), **inputs}, targets, {}

    def update(self, inputs, targets, weights):
        step = int(inputs["x"][0, 0])
        self.steps.append(step)
        loss = self.losses[step]
        self.model.get_layer("dense").bias.assign([float(step + 1)])
        return loss if isinstance(loss, dict) else {"loss": np.float32(loss), "gradient_norm": np.float32(1)}

    def fit(self, epoch: int, **schedule) -> None:
        total = len(self.losses)
        self.trainer.fit(self.batch, lambda *_: {}, self.goal, Schedule(total, total / epoch, **schedule), 1.0)

    def bias(self, name: str) -> float:
        with np.load(self.run.folder / name) as file:
            return float(file["model/dense/bias"][0])


@pytest.mark.parametrize("higher, best", [(False, 4), (True, 2), (None, 5)])  # None: the latest weights
def test_steps_logs_checkpoints_and_the_best_weights(tmp_path, monkeypatch, higher, best):
    loop = Loop(tmp_path / "run", monkeypatch, [1, 2, 3, 4, 5], [0.5, 0.25, 0.25], higher)
    loop.fit(epoch=2, save=3)
    assert loop.steps == [0, 1, 2, 3, 4]
    rows = [(row["step"], row["split"], row.get("loss", row.get("value"))) for row in loop.run.metrics()]
    assert rows == [(2, "train", 1.5), (2, "val", 0.5), (3, "train", 3.0), (4, "train", 4.0), (4, "val", 0.25), (5, "train", 5.0),
                    (5, "val", 0.25)]
    assert (loop.bias("best.npz"), loop.bias("last.npz")) == (best, 5)
    meta = checkpoints.load_meta(loop.run.last)
    assert (meta["step"], meta["best"], meta["bank"]) == (5, 0.5 if higher else 0.25, "one")


@pytest.mark.parametrize("total, epochs, epoch", [(31, 3, 11), (10, 1, 10), (1, 0.1, 10), (5, 25, 1), (3957, 25.0, 159)])
def test_an_evaluation_after_each_epoch(total, epochs, epoch):
    schedule = Schedule(total, epochs, 500)
    assert schedule.epoch == epoch and -(-total // epoch) <= max(1, epochs)


def test_resuming_continues_behind_the_last_checkpoint_and_remembers_the_best(tmp_path, monkeypatch):
    schedule = {"epoch": 2, "save": 9, "log": 1}
    with pytest.raises(UserError):
        Loop(tmp_path / "run", monkeypatch, [1, 2, 3, np.nan, 5], [0.5]).fit(**schedule)
    assert [row["step"] for row in read_metrics(tmp_path / "run/metrics.jsonl")] == [1, 2, 2, 3]
    again = Loop(tmp_path / "run", monkeypatch, [1, 2, 3, 4, 5], [0.6, 0.7])
    again.fit(**schedule)
    assert again.steps == [2, 3, 4] and again.bias("best.npz") == 2  # the best of before the break
    assert [row["step"] for row in again.run.metrics()] == [1, 2, 2, 3, 4, 4, 5, 5]  # step 3 stands there once
    with pytest.raises(UserError, match="the run began with another bank.*run="):
        Loop(tmp_path / "run", monkeypatch, [1, 2, 3, 4, 5], [], bank="two").fit(**schedule)


@pytest.mark.parametrize("name, what", [("loss", "the loss of step 3"), ("gradient_norm", "the gradient of step 3")])
def test_a_step_that_is_not_finite_stops_before_any_checkpoint(tmp_path, monkeypatch, name, what):
    """A gradient that is not finite breaks the weights while the loss still looks well."""
    losses = [1, 2, {"loss": np.float32(1), "gradient_norm": np.float32(1)} | {name: np.float32(np.inf)}, 4]
    loop = Loop(tmp_path / "run", monkeypatch, losses, [1.0, 1.0])
    with pytest.raises(UserError, match=f"{what} is not finite although.*has diverged.*lower train.learning_rate"):
        loop.fit(epoch=2, save=1)
    assert loop.bias("last.npz") == 2 and checkpoints.load_meta(loop.run.last)["step"] == 2


@pytest.mark.parametrize("broken", [
    {"inputs": {"patch_features": np.array([np.nan])}}, {"targets": {"grey": np.array([np.inf])}}])
def test_broken_numbers_of_the_bank_are_told_from_diverged_training(tmp_path, monkeypatch, broken):
    loop = Loop(tmp_path / "run", monkeypatch, [np.nan], [], **broken)
    with pytest.raises(UserError, match=r"from the bank \((patch_features|grey)\).*make it again with `kaleidobert records`"):
        loop.fit(epoch=2, save=1)


def test_a_result_that_is_not_a_number_never_becomes_the_best(tmp_path, monkeypatch):
    loop = Loop(tmp_path / "run", monkeypatch, [1, 2], [float("nan")])
    with pytest.raises(UserError, match="value of the evaluation after step 1 is nan"):
        loop.fit(epoch=1, save=1)
    assert not loop.run.best.exists() and not loop.run.last.exists()


def test_prefetch_keeps_the_order_ends_early_and_hands_on_errors():
    threads = set()

    def make(number):
        threads.add(threading.get_ident())
        if number == 5:
            raise UserError("broken")
        return None if number == 3 else number

    assert list(prefetch(make, range(3))) == [0, 1, 2] == list(prefetch(make, range(9)))
    assert list(prefetch(make, range(0))) == [] and threading.get_ident() not in threads
    with pytest.raises(UserError, match="broken"):
        list(prefetch(make, range(4, 9)))


def test_predictions_stand_in_the_order_of_the_rows():
    sizes = []

    def forward(inputs):
        sizes.append(len(inputs["x"]))
        return {"y": 2 * inputs["x"]}

    rows = np.array([5, 1, 4, 2, 3])
    np.testing.assert_array_equal(predict(forward, lambda part: {"x": part.astype(np.float32)}, rows, 2)["y"], 2 * rows)
    assert sizes == [2, 2, 1]
    with pytest.raises(UserError, match="i2t: the model's output 'y' is not finite.*input from the bank"):
        predict(forward, lambda part: {"x": np.where(part == 4, np.nan, 0)}, rows, 2, "i2t")
    with pytest.raises(UserError, match="although the bank's features are"):
        predict(lambda inputs: {"y": inputs["x"] * np.inf}, lambda part: {"x": part + 1.0}, rows, 2)
