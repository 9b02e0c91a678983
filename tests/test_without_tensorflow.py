"""The other backends where there is no TensorFlow: training and prediction from a bank; on PyTorch every command of the quickstart."""

import json
import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from kaleidobert.app_zoo import quickstart
from kaleidobert.model_zoo import checkpoints
from tests.engines.test_distribution import QUICK_JAX, python
from tests.support.without_tensorflow import at_start

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_commands_run_without_tensorflow(tmp_path, backend):
    words = [python(backend), "-m", "tests.support.without_tensorflow", str(tmp_path)]
    variables = os.environ | {"KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": "-1", **QUICK_JAX}
    done = subprocess.run(words, cwd=ROOT, text=True, capture_output=True, env=variables)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == 4 and not any(found.values()), (found, done.stderr[-3000:])
    for run in ("pretrain", "classify", "retrieve", "caption"):
        results = json.loads((tmp_path / run / "results.json").read_text())
        assert results["versions"]["backend"] == backend and results["metrics"]
    assert checkpoints.load_meta(tmp_path / "pretrain/best.npz")["kind"] == "pretrainer"  # this process may be on TensorFlow
    assert list((tmp_path / "pretrain/tensorboard").glob("events*"))


@pytest.mark.nightly
def test_the_quickstart_runs_on_pytorch_alone(tmp_path):
    interpreter = python("torch")
    for name in ("kaleidobert", "configs"):
        shutil.copytree(ROOT / name, tmp_path / "project" / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path / "project")  # a checkout, where results lie beside the configurations
    code = tmp_path / "start"
    code.mkdir()
    variables = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"} | at_start(code, "torch")
    variables["PYTHONPATH"] = f"{tmp_path / 'project'}:{variables['PYTHONPATH']}"
    done = subprocess.run([interpreter, "-m", "kaleidobert.cli", "quickstart", "--reduced"], cwd=tmp_path / "project", env=variables,
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout[-3000:]
    results = tmp_path / "project" / quickstart.REDUCED_FOLDER
    assert all((results / name).is_file() for name in ("report.html", "tables.md", "pages/index.html", "index/index.json"))
    used = json.loads((results / "pretrain/environment.json").read_text())
    assert used["versions"]["backend"] == "torch"


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_requirements_are_those_of_the_package_but_tensorflow(backend):
    """So that `pip install --no-deps .` behind them leaves nothing out."""
    lines = (ROOT / f"requirements-{backend}.txt").read_text().splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [name for name in project["dependencies"] if not name.startswith(("tensorflow", "importlib-resources"))]
    assert [line for line in lines if not line.startswith("#")] == project["optional-dependencies"][backend] + needed
