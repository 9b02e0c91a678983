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
    """`kaleidobert pretrain`, whose graphs are those of this process."""
    code = ("import sys, keras; from kaleidobert import cli; from tests.support import quick; quick.turn_graph_optimiser_off(); "
            "sys.exit(cli.main(['pretrain', sys.argv[1]]))")
    return subprocess.Popen([sys.executable, "-c", code, str(config)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                            text=True)


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
    again = call("pretrain", config)
    assert again.status == 0 and f"resuming {config.run} at step {step}" in again.out
    assert not left.exists() and (config.run / "losses.png").exists()
    same_run(whole, config.run)


def test_a_finished_run_is_not_trained_again(world, whole, interrupt):
    before, metrics, outcomes = saved(whole), (whole / "metrics.jsonl").read_bytes(), results(whole)
    interrupt(1)
    assert call("pretrain", world.pretrain("whole", train=TRAIN)).status == 0
    assert saved(whole) == before and results(whole) == outcomes and (whole / "metrics.jsonl").read_bytes() == metrics


@pytest.mark.eager
def test_classification_interrupted_before_its_first_checkpoint(world, whole, interrupt):
    one, two = (world.classify(f"classify-{run}", train=SHORT, init=whole / "best.npz") for run in ("whole", "cut"))
    interrupt(2)
    done = call("classify", two)
    assert done.status == 130 and "the same command continues where it stopped" in done.err
    assert (two.run / "metrics.jsonl").exists() and not (two.run / "last.npz").exists()
    interrupt(0)
    assert call("classify", two).status == call("classify", one).status == 0
    same_run(one.run, two.run)
    for file in ("predictions.csv", "classes.csv"):
        assert (one.run / file).read_text() == (two.run / file).read_text()


@pytest.mark.eager
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_matching_with_towers_interrupted_in_one_stage_and_stopped_by_a_full_disk_in_the_other(world, whole, interrupt, monkeypatch):
    """The disk costs the steps since the last checkpoint only."""
    train, real, writes = replace(SHORT, batch_size=6), builtins.open, []
    one, two = (world.retrieve(f"towers-{run}", train=train, dual_encoder=replace(train, epochs=1, save_every=2), init=whole / "best.npz",
                               matching=configs.Matching("dual_encoder", width=8)) for run in ("whole", "cut"))
    interrupt(3)  # the towers have 4 steps
    assert call("retrieve", two).status == 130 and (two.run / "dual_encoder/last.npz").exists()
    assert not (two.run / "results.json").exists() and not (two.run / "last.npz").exists()
    interrupt(0)

    def full(path, *arguments, **named):
        if Path(str(path)).parent == two.run and Path(str(path)).name.startswith(".last.npz."):
            writes.append(path)
            path = path if len(writes) < 3 else "/dev/full"
        return real(path, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "open", full)
        done = call("retrieve", two)
    assert done.status == 2 and len(writes) == 3 and "Traceback" not in done.err
    assert f"{two.run / 'last.npz'}: no space left on the disk" in done.err and "run the same command again" in done.err
    assert checkpoints.load_meta(two.run / "last.npz")["step"] == 4  # an end of an epoch; before it came step 3
    assert not [path for path in two.run.iterdir() if path.name.endswith(".tmp")] and not (two.run / "results.json").exists()

    assert call("retrieve", two).status == call("retrieve", one).status == 0
    same_run(one.run, two.run)
    for name in ("scores.jsonl", "candidates.jsonl", "dual_encoder/metrics.jsonl"):
        assert (one.run / name).read_text() == (two.run / name).read_text()
    for name in ("last.npz", "best.npz"):
        left, right = arrays(one.run / "dual_encoder" / name), arrays(two.run / "dual_encoder" / name)
        assert left.keys() == right.keys() and all(np.array_equal(left[key], right[key]) for key in left)


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
