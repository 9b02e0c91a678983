"""The backends train alike: fifty steps of a toy pre-training from the same start, with the same dropout, give the same losses."""

import json
import os
import subprocess
import sys

import keras
import pytest

from kaleidobert.model_zoo import checkpoints
from tests.engines.test_distribution import BACKENDS, QUICK_JAX, ROOT, python
from tests.support import toy_steps

pytestmark = pytest.mark.slow

STEPS = 50


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> str:
    """A checkpoint of the start weights and dropout generators."""
    path = tmp_path_factory.mktemp("start") / "start.npz"
    checkpoints.save(path, toy_steps.network())
    return str(path)


def losses(backend: str, start: str) -> list[dict[str, float]]:
    """The losses of every step on a backend, in a process of its own."""
    interpreter = sys.executable if backend == keras.backend.backend() else python(backend)
    variables = os.environ | {"KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3", **QUICK_JAX}
    done = subprocess.run([interpreter, "-m", "tests.support.toy_steps", start, str(STEPS)], cwd=ROOT, env=variables, capture_output=True,
                          text=True)
    assert not done.returncode, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def ours(start) -> list[dict[str, float]]:
    """Those on the backend of this process."""
    return losses(keras.backend.backend(), start)


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != keras.backend.backend()])
def test_fifty_steps_from_one_start_are_those_of_another_backend(backend, start, ours):
    theirs = losses(backend, start)
    first, last = (sum(step["loss"] for step in part) for part in (ours[:10], ours[-10:]))  # ten batches, each once
    assert len(ours) == len(theirs) == STEPS and last < first
    for mine, other in zip(ours, theirs):
        assert other == pytest.approx(mine, rel=2e-5)
