"""benchmarks.accelerator from end to end on a CPU, at toy size; needs JAX, here or where KALEIDO_JAX_PYTHON says."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.engines.test_distribution import python

ROOT = Path(__file__).resolve().parents[2]


def test_program(tmp_path):
    path = tmp_path / "accelerator.json"
    words = ["--size", "tiny", "--batches", "2", "4", "--square", "64", "--least", "0.05", "--pictures", "64", "--workers", "2",
             "--repeats", "2", "--seconds", "550", "--peers", "--json", str(path)]
    done = subprocess.run([python("jax", True), "-m", "benchmarks.accelerator", *words], cwd=ROOT, text=True, capture_output=True,
                          env=os.environ | {"KERAS_BACKEND": "jax", "CUDA_VISIBLE_DEVICES": "-1"})
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(path.read_text())
    assert result["notes"] == [] and [row["batch"] for row in result["batches"]] == [2, 4]
    for row in result["batches"]:
        assert row["examples_per_second"] == pytest.approx(1e3 * row["batch"] / row["ms"])
        assert row["tflops"] == pytest.approx(row["examples_per_second"] * result["gflop_of_an_example"] / 1e3)
        assert row["hours"] == pytest.approx(25 * 260480 / row["examples_per_second"] / 3600)
    (fed,) = result["input"]
    assert fed["workers"] == 2 and 0 <= fed["waited"] <= 1 and fed["examples_per_second"] > 0
    seconds = result["profile"]["seconds"]
    assert set(seconds) == {"forward", "forward and backward", "step", "making a batch", "moving it to the device"}
    assert seconds["forward"] < seconds["forward and backward"] and "kernels" in result["kernels"]
    assert f"| {result['best_batch']} | 2 |" in done.stdout and "share of square products" in done.stdout
