"""Several devices and micro-batches give the steps of one device; overflow of float16; what is refused."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kaleidobert.engines.distributed import cluster
from tests.support.quick import kept

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
CASES = {
    "one": {},
    "accumulated": {"gradient_accumulation_steps": 4},
    "two": {"devices": 2},
    "both": {"devices": 2, "gradient_accumulation_steps": 2},
    "unclipped": {"clip": 0},
    "half": {"precision": "mixed_float16", "blow_up": 1, "count": 4},
    "half, both": {"precision": "mixed_float16", "blow_up": 1, "count": 4, "devices": 2, "gradient_accumulation_steps": 2},
    "dropout": {"devices": 2, "dropout": 0.3, "precision": "mixed_float16", "gradient_accumulation_steps": 2},
    "dropout, resumed": {"devices": 2, "dropout": 0.3, "precision": "mixed_float16", "gradient_accumulation_steps": 2, "halt": 2},
    "masks": {"masks": {"devices": 2}},
    "uneven": {"devices": 2, "gradient_accumulation_steps": 3},
    "too many": {"devices": 5},
    "whole": {"whole": True, "gradient_accumulation_steps": 2},
}
BACKENDS = ["tensorflow", "jax", "torch"]
PYTHONS = {"jax": "KALEIDO_JAX_PYTHON", "torch": "KALEIDO_TORCH_PYTHON"}  # variables that name an interpreter
QUICK_JAX = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # of a process: compiling takes nearly all of the time of a few steps
OF_PROCESSES = ("two", "both", "half, both", "dropout", "dropout, resumed", "masks")  # on PyTorch, which has one device in each


def python(backend: str, asked: bool = False) -> str:
    """An interpreter that has the backend: this one, or for JAX and PyTorch that of PYTHONS; asked: JAX's only so, as it takes minutes."""
    variable = PYTHONS.get(backend, "")
    if asked and backend == "jax" and variable not in os.environ:
        pytest.skip("takes minutes: set KALEIDO_JAX_PYTHON to an interpreter that has JAX")
    found = os.environ.get(variable, sys.executable)
    code = f"import sys; from importlib.util import find_spec; sys.exit(not all(map(find_spec, ({backend!r}, 'keras'))))"
    if subprocess.run([found, "-c", code]).returncode:
        pytest.skip(f"{backend} is not installed ({variable} names another interpreter)")
    return found


@pytest.fixture(scope="module", params=BACKENDS)
def cases(request, tmp_path_factory) -> dict:
    """What tests.support.parallel_steps found, by the name of the case; JAX compiles what it has not compiled in an earlier run."""
    compiled = {"JAX_COMPILATION_CACHE_DIR": str(kept(request.config, "jax", tmp_path_factory.mktemp("jax"))),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    backend = request.param
    found = {"backend": backend}
    if backend != "torch":
        return found | steps(backend, CASES, {**QUICK_JAX, **compiled})
    alone = {name: case for name, case in CASES.items() if name not in OF_PROCESSES}
    alone["uneven"] = {"gradient_accumulation_steps": 3}
    return found | steps(backend, alone, {}) | steps(backend, {name: CASES[name] for name in OF_PROCESSES}, {}, 2)


def steps(backend: str, chosen: dict[str, dict], variables: dict[str, str], size: int = 1) -> dict:
    """What the program found of some cases, in ``size`` processes."""
    common = os.environ | {"KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": "-1", **variables}
    if size > 1:
        common |= {"KALEIDO_SIZE": str(size), "KALEIDO_ADDRESS": f"localhost:{cluster.free_port()}"}
    words = [python(backend), "-m", "tests.support.parallel_steps", json.dumps(list(chosen.values()))]
    runs = [subprocess.Popen(words, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             env=common | ({"KALEIDO_RANK": str(rank)} if size > 1 else {})) for rank in range(size)]
    (out, err), *_ = [run.communicate() for run in runs]
    assert not any(run.returncode for run in runs), err[-3000:]
    return dict(zip(chosen, json.loads(out.splitlines()[-1])))


@pytest.mark.parametrize("name", ["accumulated", "two", "both"])
def test_the_steps_of_one_device(cases, name):
    one, other = cases["one"], cases[name]
    assert one["names"] == other["names"] and len(one["losses"]) == 3
    for mine, theirs in zip(one["losses"], other["losses"]):
        assert theirs == pytest.approx(mine, rel=2e-5)
    assert other["states"][-1] == pytest.approx(one["states"][-1], rel=1e-4, abs=1e-7)


def test_clipping_comes_after_the_sum(cases):
    """It makes a difference here, so equal steps above mean that the parts were not clipped one by one."""
    one, unclipped = cases["one"], cases["unclipped"]
    assert one["losses"][0]["gradient_norm"] > 0.2 == 4 * 0.05 and one["losses"][0] == unclipped["losses"][0]
    assert one["states"][0] != unclipped["states"][0]


@pytest.mark.parametrize("name", ["half", "half, both"])
def test_overflow_skips_the_step_and_training_goes_on(cases, name):
    case = cases[name]
    assert [math.isfinite(row["gradient_norm"]) for row in case["losses"]] == [True, False, True, True]
    assert all(math.isfinite(row["loss"]) for row in case["losses"])
    kept = [k for k, name in enumerate(case["names"]) if not name.endswith(("dynamic_scale", "step_counter"))]
    states = [[state[k] for k in kept] for state in case["states"]]
    assert states[0] == states[1] != states[2] != states[3]
    assert [row["loss_scale"] for row in case["losses"]] == [2**15, 2**40, 2**10, 2**10] and case["losses"][1]["scale_behind"] == 2**39
    for mine, theirs in zip(cases["half"]["losses"], case["losses"]):
        assert theirs["loss"] == pytest.approx(mine["loss"], rel=2e-3)
    assert case["losses"][0]["gradient_norm"] == pytest.approx(cases["one"]["losses"][0]["gradient_norm"], rel=1e-2)


def test_resuming_on_several_devices_is_exact(cases):
    assert cases["dropout"]["losses"] == cases["dropout, resumed"]["losses"]
    assert cases["dropout"]["states"] == cases["dropout, resumed"]["states"]
    assert cases["dropout"]["losses"] != cases["half"]["losses"][:3]


def test_devices_draw_masks_of_their_own(cases):
    one, other = cases["masks"]
    assert one != other and 0 in one and 2 in one


def test_refusals(cases):
    count = 1 if cases["backend"] == "torch" else 2
    assert f"8 rows, which cannot be split over {count} devices and 3 micro-batches" in cases["uneven"]["error"]
    assert "train.devices is 5" in cases["too many"]["error"]
    assert ("torchrun --nproc-per-node=5" if count == 1 else "with 4 CPU device(s)") in cases["too many"]["error"]
    assert "compares all examples of a batch" in cases["whole"]["error"]
