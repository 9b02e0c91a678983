"""The JAX backend where there is no TensorFlow: training and prediction from a bank."""

import json
import os
import subprocess
import tomllib
from pathlib import Path

import pytest

from kaleidobert.model_zoo import checkpoints
from tests.engines.test_distribution import QUICK_JAX, python

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]


def test_commands_run_without_tensorflow(tmp_path):
    words = [python("jax"), "-m", "tests.support.without_tensorflow", str(tmp_path)]
    variables = os.environ | {"KERAS_BACKEND": "jax", "CUDA_VISIBLE_DEVICES": "-1", **QUICK_JAX}
    done = subprocess.run(words, cwd=ROOT, text=True, capture_output=True, env=variables)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == 4 and not any(found.values()), (found, done.stderr[-3000:])
    for run in ("pretrain", "classify", "retrieve", "caption"):
        results = json.loads((tmp_path / run / "results.json").read_text())
        assert results["versions"]["backend"] == "jax" and results["metrics"]
    assert checkpoints.load_meta(tmp_path / "pretrain/best.npz")["kind"] == "pretrainer"  # this process may be on TensorFlow
    assert list((tmp_path / "pretrain/tensorboard").glob("events*"))


def test_requirements_are_those_of_the_package_but_tensorflow():
    """So that `pip install --no-deps .` behind them leaves nothing out."""
    lines = (ROOT / "requirements-jax.txt").read_text().splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [name for name in project["dependencies"] if not name.startswith(("tensorflow", "importlib-resources"))]
    assert [line for line in lines if not line.startswith("#")] == project["optional-dependencies"]["jax"] + needed
