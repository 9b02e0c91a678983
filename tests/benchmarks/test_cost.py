"""benchmarks.cost and the parts of benchmarks.accelerator that need no accelerator."""

import json
from dataclasses import replace

import pytest

from benchmarks import accelerator, cost, kernels
from benchmarks.cost import Inputs, Plan
from kaleidobert.errors import UserError

STEPS = Inputs(steps=((64, 0.02), (16, 0.01), (256, 0.06)), link=100.0, network=10.0, latency=0.5, price=2.0, epochs=25)


def test_ring():
    assert cost.ring(1, 100, 10, 1) == 0
    assert cost.ring(4, 100, 10, 0.5) == pytest.approx(2 * 3 / 4 * 10 + 6 * 0.5)


def test_exchange_inside_of_hosts_and_between_them():
    assert cost.exchange(Plan(1, 1, 8), STEPS, 100) == 0
    assert cost.exchange(Plan(1, 8, 8), STEPS, 100) == pytest.approx(14 / 8 + 7)
    # between hosts a GPU exchanges an eighth of the gradients with the seven in its place
    assert cost.exchange(Plan(8, 8, 64), STEPS, 100) == pytest.approx(14 / 8 + 7 + 14 / 8 * 100 / 8 / 10 + 7)
    assert cost.exchange(Plan(2, 1, 64), STEPS, 100) == pytest.approx(1 * 100 / 10 + 1)


def test_step():
    assert [cost.step(own, STEPS) for own in (1, 16, 40, 64, 512)] == pytest.approx([0.01, 0.01, 0.015, 0.02, 0.12])
    assumed = Inputs(products=1e12, share=0.5, least=0.01)
    assert cost.step(100, assumed) == pytest.approx(100 * cost.flop() / 0.5e12) and cost.step(0.001, assumed) == 0.01
    assert cost.flop() == pytest.approx(64.0e9, rel=0.01)  # three times the forward pass of 119 positions through twelve layers


def test_total():
    alone = cost.total(Plan(1, 1, 64), STEPS)
    assert alone["examples_per_second"] == pytest.approx(3200) and alone["hours"] == pytest.approx(25 * 260480 / 3200 / 3600)
    assert alone["money"] == pytest.approx(2 * alone["hours"]) and alone["input"] == pytest.approx(3200 * 60 * 2048 * 2)
    wide = replace(STEPS, link=4.84e9, latency=0.0)
    eight = cost.total(Plan(1, 8, 512), wide)
    assert eight["waiting"] == pytest.approx(0.175) and eight["gpu_hours"] == pytest.approx(8 * eight["hours"])
    assert cost.total(Plan(1, 8, 512), replace(wide, overlap=1.0))["waiting"] == 0


def test_program(tmp_path, capsys):
    path, measured = tmp_path / "cost.json", tmp_path / "accelerator.json"
    assert cost.main(["--json", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "assumed: products at 790 TFLOP/s" in printed and "| 8 hosts of 8, batch 4,096 |" in printed
    assert [(row["hosts"], row["gpus"], row["batch"]) for row in json.loads(path.read_text())["rows"]] == [
        (1, 1, 256), (1, 8, 256), (8, 8, 256), (1, 1, 64), (1, 8, 512), (8, 8, 4096)]
    rows = {"batches": [{"batch": 64, "ms": 20.0}, {"batch": 256, "ms": 60.0}]}
    for found in (rows, {"measurements": {"accelerator": {"result": rows}}}):
        measured.write_text(json.dumps(found))
        assert cost.measured(measured) == ((64, 0.02), (256, 0.06))
    assert cost.main(["--measured", str(measured)]) == 0
    assert "measured: 64 examples in 20.0 ms, 256 examples in 60.0 ms" in capsys.readouterr().out
    measured.write_text("{}")
    with pytest.raises(UserError, match="no measured steps"):
        cost.measured(measured)
    assert cost.main(["--share", "1.5"]) == 2


def test_kernels_are_added_up_by_name():
    def event(pid, tid, name, microseconds):
        return {"ph": "X", "pid": pid, "tid": tid, "name": name, "dur": microseconds}

    names = [{"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "/device:GPU:0"}},
             {"ph": "M", "name": "process_name", "pid": 2, "args": {"name": "/host:CPU"}},
             {"ph": "M", "name": "thread_name", "pid": 1, "tid": 1, "args": {"name": "Stream #14(Compute)"}},
             {"ph": "M", "name": "thread_name", "pid": 1, "tid": 2, "args": {"name": "XLA Modules"}}]
    events = [event(1, 1, "gemm_fusion_dot.12", 30.0), event(1, 1, "gemm_fusion_dot.7", 60.0), event(1, 1, "loop_add_fusion", 30.0),
              event(1, 2, "jit_step", 500.0), event(2, 1, "python", 900.0)]
    found = kernels.added_up(names + events)
    assert found["seconds"] == pytest.approx(120e-6 / kernels.TIMES)
    assert found["kernels"] == [["gemm_fusion_dot", pytest.approx(90e-6 / kernels.TIMES), pytest.approx(2 / kernels.TIMES)],
                                ["loop_add_fusion", pytest.approx(30e-6 / kernels.TIMES), pytest.approx(1 / kernels.TIMES)]]
    on_cpu = kernels.added_up(names[1:2] + [event(2, 1, "$run.py:1 main", 900.0), event(2, 1, "dot.3", 30.0)])
    assert [row[0] for row in on_cpu["kernels"]] == ["dot"]
    assert kernels.added_up(names) == {"none": "the trace names no kernel"}


def test_accelerator_s_report():
    result = {"title": "t", "notes": ["batch 512: XlaRuntimeError: RESOURCE_EXHAUSTED"], "set": [], "gflop_of_an_example": 64.0,
              "bank_bytes": 2e9, "matrix": {"square": {"case": "c", "rates": [700e3, 800e3, 900e3]}},
              "batches": [{"batch": 64, "ms": 20.0, "examples_per_second": 3200.0, "tflops": 204.8, "share": {"square": 0.256},
                           "peak_bytes": 12e9, "hours": 0.57}],
              "input": [{"batch": 64, "workers": 2, "waited": 0.034, "examples_per_second": 3100.0, "sampler_alone_per_second": 9000.0}],
              "profile": {"batch": 64, "seconds": {"forward": 0.006, "forward and backward": 0.018, "step": 0.02, "making a batch": 0.007,
                                                   "moving it to the device": 0.001}}}
    text = accelerator.markdown(result)
    assert "800.0 TFLOP/s (700.0 to 900.0)" in text and "| 64 | 20.0 | 3,200 | 204.80 | 0.26 | 12.0 | 0.57 |" in text
    assert "| 64 | 2 | 3,100 | 3.4% | 9,000 |" in text
    assert "| backward | 12.0 | 0.60 |" in text and "| clipping and Adam | 2.0 | 0.10 |" in text
    assert "- not measured: batch 512: XlaRuntimeError" in text
    assert "not measured: parts" in accelerator.markdown({"title": "t", "notes": ["parts: stopped after 5 s"]})
