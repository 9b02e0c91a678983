"""Two processes pre-train as one does; one that is killed ends the other with a message, and the same command goes on."""

import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from kaleidobert import configs
from kaleidobert.engines.distributed import cluster, distribution
from kaleidobert.engines.distributed.cluster import Cluster
from kaleidobert.errors import UserError
from kaleidobert.model_zoo import checkpoints
from tests.engines.test_distribution import BACKENDS, ROOT, python
from tests.support.apps_data import SIZES, World, call
from tests.support.tables import TWO
from tests.support.tiny import tiny_bank

pytestmark = pytest.mark.slow

TRAIN = configs.Train(epochs=8, batch_size=8, learning_rate=1e-2, save_every=4)  # 22 steps, 3 to an epoch
SLOWEST = 300  # seconds


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    folder = tmp_path_factory.mktemp("processes")
    return World(folder, TWO, tiny_bank(folder, TWO))


def config(world: World, run: str) -> configs.PretrainConfig:
    return world.pretrain(run, train=TRAIN, model=replace(SIZES, dropout=0.0, attention_dropout=0.0))


def start(world: World, backend: str, run: str, size: int) -> list[subprocess.Popen]:
    """`kaleidobert pretrain` without dropout, in ``size`` processes."""
    (world.folder / f"{run}.yaml").write_text(configs.dump(config(world, run)))
    common = os.environ | {"KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3", "KALEIDO_SIZE": str(size),
                           "KALEIDO_ADDRESS": f"localhost:{cluster.free_port()}"}
    code = ("import sys, keras; from tests.support import quick; quick.turn_graph_optimiser_off(); from kaleidobert import cli; "
            "sys.exit(cli.main(['pretrain', sys.argv[1]]))")
    words = [python(backend, True), "-c", code, str(world.folder / f"{run}.yaml")]
    return [subprocess.Popen(words, cwd=ROOT, env=common | {"KALEIDO_RANK": str(rank)}, text=True, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE) for rank in range(size)]


def metrics(run: Path) -> list[dict]:
    """The numbers of all lines."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "split"} for row in rows]


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_processes_are_as_one_and_a_killed_one_ends_both(world, backend):
    one, two = world.folder / f"{backend}-one", world.folder / f"{backend}-two"
    processes = start(world, backend, two.name, 2)
    for _ in range(SLOWEST * 100):
        if (two / "last.npz").is_file():
            break
        assert all(process.poll() is None for process in processes), processes[0].communicate()[1][-2000:]
        time.sleep(0.01)
    os.kill(processes[1].pid, signal.SIGKILL)
    begun = time.monotonic()
    _, err = processes[0].communicate(timeout=60)
    assert processes[0].returncode == 2 and time.monotonic() - begun < 30
    assert "process 0: process 1 of 2 is gone" in err and "the run continues from its last checkpoint" in err
    processes[1].communicate()
    step = checkpoints.load_meta(two / "last.npz")["step"]

    processes = start(world, backend, two.name, 2)
    (first, first_err), (second, _) = (process.communicate(timeout=SLOWEST) for process in processes)
    assert [process.returncode for process in processes] == [0, 0], first_err[-2000:]
    assert f"resuming {two} at step {step}" in first and "kaleido" not in second and "resuming" not in second
    if backend == "tensorflow":  # as this process
        done = call("pretrain", config(world, one.name))
        assert done.status == 0, done.err
    else:
        single, = start(world, backend, one.name, 1)
        _, err = single.communicate(timeout=SLOWEST)
        assert single.returncode == 0, err[-2000:]
    mine, theirs = metrics(one), metrics(two)
    assert len(mine) == len(theirs) > 10
    for left, right in zip(mine, theirs):
        assert right == pytest.approx(left, rel=1e-4, abs=1e-6)
    assert (two / "results.json").is_file() and (two / "losses.png").is_file()


def test_a_folder_that_is_not_shared_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(distribution, "FILE_DELAY", 0.1)
    process = distribution.Process(Cluster(1, 2, "a:1"))
    with pytest.raises(UserError, match="the run folder of process 0 is not seen by process 1 on .*one folder that all processes share"):
        process.wait_for(lambda: False, "the run folder", str(tmp_path))
    process.wait_for(lambda: True, "the run folder", str(tmp_path))
