"""What makes small trainings quick: nearly all of their time goes into tracing and optimising graphs that run for a few steps."""

import sys
from pathlib import Path
from typing import Any

import pytest


def still(patch: pytest.MonkeyPatch) -> None:
    """From now on, until ``patch`` is undone, steps of training change nothing and trace nothing: for what happens around training."""
    patch.setattr("kaleidobert.engines.steps.train_step", lambda *arguments: lambda *batch: {"loss": 0.0, "gradient_norm": 0.0})


def run_eagerly(patch: pytest.MonkeyPatch) -> None:
    """From now on, until ``patch`` is undone, steps and predictions compute the same operation by operation, and trace nothing."""
    import keras

    if keras.backend.backend() == "tensorflow":
        from kaleidobert.engines import backend_tensorflow

        patch.setattr(backend_tensorflow, "tf", _Eager())
        patch.setattr(backend_tensorflow, "_with_free_axes", lambda compiled, model: compiled)
        patch.setattr(backend_tensorflow, "MIN_ROWS", sys.maxsize)  # no halves: nothing runs at the same time


class _Eager:
    """TensorFlow, whose ``function`` compiles nothing."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.modules["tensorflow"], name)

    @staticmethod
    def function(call, **options):
        tf = sys.modules["tensorflow"]
        return lambda *arguments: call(*tf.nest.map_structure(tf.convert_to_tensor, arguments))


def kept(config: pytest.Config, name: str, otherwise: Path) -> Path:
    """A folder for what a compiler or a checker knows from one run of the tests to the next; ``otherwise`` where pytest keeps nothing."""
    cache = getattr(config, "cache", None)
    return otherwise if cache is None else cache.mkdir(name)


def turn_graph_optimiser_off() -> None:
    """TensorFlow's, in this process, where it is loaded. It also fuses equal graphs of half precision in ways that round differently."""
    if "tensorflow" in sys.modules:
        sys.modules["tensorflow"].config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
