"""A run that is killed and started again ends as one that was not: weights, optimizer, dropout generators, numbers, all bits."""

import builtins
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kaleidobert import configs
from kaleidobert.model_zoo import checkpoints
from tests.support.apps_data import SIZES, World, call, results
from tests.support.tables import TWO
from tests.support.tiny import tiny_bank

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
TRAIN = configs.Train(epochs=14, batch_size=10, learning_rate=1e-2, save_every=4)  # an epoch has 2 steps, as groups are held out
SHORT = replace(TRAIN, epochs=2.5, save_every=3)
SLOWEST = 300  # seconds that a subprocess may take on a busy machine


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    folder = tmp_path_factory.mktemp("world")
    world = World(folder, TWO, tiny_bank(folder, TWO))
    assert 0 < SIZES.dropout and 0 < SIZES.attention_dropout
    return world


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files if name != checkpoints.META}


def same_run(one: Path, two: Path) -> None:
    """Asserts that two run folders hold the same weights, states and numbers."""
    for name in ("last.npz", "best.npz"):
        left, right = arrays(one / name), arrays(two / name)
        assert left.keys() == right.keys()
        differing = [key for key in left if not np.array_equal(left[key], right[key])]
        assert not differing, f"{name}: {differing[:4]}"
        assert checkpoints.load_meta(one / name) == checkpoints.load_meta(two / name)
    assert any(key.startswith("optimizer/") for key in arrays(one / "last.npz"))
    assert any(key.endswith("seed_generator_state") for key in arrays(one / "last.npz"))
    assert (one / "metrics.jsonl").read_text() == (two / "metrics.jsonl").read_text()
    assert outcome(one) == outcome(two)


def outcome(run: Path) -> dict:
    """results.json without the folder's own name, and without the file's checksum, which depends on the time of day."""
    kept = results(run)
    kept["config"].pop("run"), kept.pop("checkpoint_sha256")
    return kept


def saved(run: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in run.iterdir() if path.suffix == ".npz"}


def start(config: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "kaleidobert.cli", "pretrain", str(config)], cwd=ROOT,
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def kill_after(step: int, process: subprocess.Popen, run: Path) -> None:
    """SIGKILL once metrics.jsonl tells of the step."""
    for _ in range(SLOWEST * 500):
        text = (run / "metrics.jsonl").read_text() if (run / "metrics.jsonl").is_file() else ""
        if f'"step": {step},' in text:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            assert process.returncode == -signal.SIGKILL
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    pytest.fail(f"step {step} was not reached within {SLOWEST} s")


@pytest.fixture(scope="module")
def whole(world) -> Path:
    """The folder of a pre-training run that nothing disturbed."""
    config = world.pretrain("whole", train=TRAIN)
    assert call("pretrain", config).status == 0
    return config.run


@pytest.mark.plotted
def test_sigkill_in_pretraining(world, whole):
    config, path = world.pretrain("killed", train=TRAIN), world.folder / "killed.yaml"
    path.write_text(configs.dump(config))
    kill_after(8, start(path), config.run)
    step = checkpoints.load_meta(config.run / "last.npz")["step"]
    assert 0 < step < results(whole)["steps"] and not (config.run / "results.json").exists()
    # as if a later kill had hit the writing of a checkpoint and of a line
    left = config.run / ".last.npz.1234567.tmp"
    left.write_bytes((config.run / "last.npz").read_bytes()[:1000])
    with open(config.run / "metrics.jsonl", "a") as file:
        file.write('{"step": 9999, "spl')
    again = start(path)
    out, _ = again.communicate(timeout=SLOWEST)
    assert again.returncode == 0 and f"resuming {config.run} at step {step}" in out
    assert not left.exists() and (config.run / "losses.png").exists()
    same_run(whole, config.run)


def test_a_finished_run_is_not_trained_again(world, whole, interrupt):
    before, metrics, outcomes = saved(whole), (whole / "metrics.jsonl").read_bytes(), results(whole)
    interrupt(1)
    assert call("pretrain", world.pretrain("whole", train=TRAIN)).status == 0
    assert saved(whole) == before and results(whole) == outcomes and (whole / "metrics.jsonl").read_bytes() == metrics


def finetuning(world, whole, name: str, run: str):
    train = replace(SHORT, batch_size=6 if name == "retrieve" else 10)
    return getattr(world, name)(f"{name}-{run}", train=train, init=whole / "best.npz")


def continues(world, whole, name: str, files: tuple[str, ...]) -> None:
    """Asserts that the run "cut", started again, ends as the run "whole", which nothing disturbed."""
    one, two = finetuning(world, whole, name, "whole"), finetuning(world, whole, name, "cut")
    assert call(name, two).status == call(name, one).status == 0
    same_run(one.run, two.run)
    for file in files:
        assert (one.run / file).read_text() == (two.run / file).read_text()


def test_classification_interrupted_before_its_first_checkpoint(world, whole, interrupt):
    config = finetuning(world, whole, "classify", "cut")
    interrupt(2)
    done = call("classify", config)
    assert done.status == 130 and "the same command continues where it stopped" in done.err
    assert (config.run / "metrics.jsonl").exists() and not (config.run / "last.npz").exists()
    interrupt(0)
    continues(world, whole, "classify", ("predictions.csv", "classes.csv"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_matching_stopped_by_a_full_disk_loses_the_steps_since_the_last_checkpoint_only(world, whole, monkeypatch):
    config, real, writes = finetuning(world, whole, "retrieve", "cut"), builtins.open, []

    def full(path, *arguments, **named):
        if Path(str(path)).name.startswith(".last.npz."):
            writes.append(path)
            path = path if len(writes) < 3 else "/dev/full"
        return real(path, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "open", full)
        done = call("retrieve", config)
    assert done.status == 2 and len(writes) == 3 and "Traceback" not in done.err
    assert f"{config.run / 'last.npz'}: no space left on the disk" in done.err and "run the same command again" in done.err
    assert checkpoints.load_meta(config.run / "last.npz")["step"] == 4  # an end of an epoch; before it came step 3
    assert not [path for path in config.run.iterdir() if path.name.endswith(".tmp")]
    continues(world, whole, "retrieve", ("scores.jsonl", "candidates.jsonl"))


def test_matching_with_towers_interrupted_in_both_stages(world, whole, interrupt):
    train = replace(SHORT, batch_size=6)
    one, two = (world.retrieve(f"towers-{run}", train=train, dual_encoder=replace(train, epochs=1, save_every=2), init=whole / "best.npz",
                               matching=configs.Matching("dual_encoder", width=8)) for run in ("whole", "cut"))
    for step, last in ((3, "dual_encoder/last.npz"), (6, "last.npz")):  # the towers have 4 steps
        interrupt(step)
        assert call("retrieve", two).status == 130 and (two.run / last).exists() and not (two.run / "results.json").exists()
        assert (two.run / "last.npz").exists() == (last == "last.npz")
    interrupt(0)
    assert call("retrieve", two).status == call("retrieve", one).status == 0
    same_run(one.run, two.run)
    assert (one.run / "scores.jsonl").read_text() == (two.run / "scores.jsonl").read_text()
    for name in ("last.npz", "best.npz"):
        left, right = arrays(one.run / "dual_encoder" / name), arrays(two.run / "dual_encoder" / name)
        assert left.keys() == right.keys() and all(np.array_equal(left[key], right[key]) for key in left)
    assert (one.run / "dual_encoder/metrics.jsonl").read_text() == (two.run / "dual_encoder/metrics.jsonl").read_text()


def test_another_bank_under_a_begun_run_is_refused(world, whole, interrupt):
    index, before = world.bank.folder / "index.json", saved(whole)
    text = index.read_text()
    index.write_text(text.replace(world.bank.index["files"]["boxes.npy"]["sha256"], "0" * 64))
    interrupt(1)
    try:
        done = call("pretrain", world.pretrain("whole", train=TRAIN))
    finally:
        index.write_text(text)
    assert done.status == 2 and f"{whole / 'last.npz'}: the run began with another bank" in done.err and saved(whole) == before
