"""Tests that do not ask for a backend, on PyTorch in a process of its own: released numbers, layers, losses, steps, resumed runs."""

import os
import subprocess

import keras
import pytest

from tests.engines.test_distribution import ROOT, python

pytestmark = [pytest.mark.slow, pytest.mark.nightly]

FILES = ("released/test_golden.py", "released/test_golden_finetuning.py", "layers", "losses", "engines/test_feeding.py",
         "engines/test_optimizers.py", "engines/test_prediction.py", "engines/test_resume.py", "model_zoo/test_caption_search.py",
         "model_zoo/test_checkpoints.py")


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="these tests run on PyTorch already")
def test_what_every_backend_gives():
    words = [python("torch"), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not one_trace",  # PyTorch traces nothing
             *(f"tests/{name}" for name in FILES)]
    done = subprocess.run(words, cwd=ROOT, env=os.environ | {"KERAS_BACKEND": "torch", "CUDA_VISIBLE_DEVICES": "-1"}, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert not done.returncode, done.stdout[-5000:]
