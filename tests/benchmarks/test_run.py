"""benchmarks.run: what is measured, resumed, refused and written."""

import json
import sys
import time
from pathlib import Path

import pytest

from benchmarks import hardware, run, suite, tables
from benchmarks.suite import Measurement, Target
from kaleidobert.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
SPREAD = {"median": 0.5, "low": 0.4, "high": 0.6}


@pytest.fixture
def programs(monkeypatch):
    """A suite of three programs that take no time, and a count of what was started."""
    started, real = [], run.measured

    def measured(words, limit):
        started.append(words)
        return real(words, limit)

    cost = Measurement("cost", ("cost",), ("cost", "--gpus", "2"), 60, (Target("one", 5, suite.figure("rows")),))
    broken = Measurement("broken", ("no_such_program",), ("no_such_program",), 60)
    gpu = Measurement("gpu", ("cost",), None, 60, accelerator=True)
    monkeypatch.setattr(run, "SUITE", (broken, cost, gpu))
    monkeypatch.setattr(tables, "SUITE", (broken, Measurement("cost", ("cost",), None, 60), gpu))
    monkeypatch.setattr(run, "measured", measured)
    monkeypatch.setattr(hardware, "gpus", lambda: [])
    return started


def test_a_run_goes_on_after_a_failure_and_is_not_made_twice(programs, tmp_path, capsys):
    assert run.main(["--quick", "--out", str(tmp_path)]) == 1
    assert programs == [("no_such_program",), ("cost", "--gpus", "2")]  # no GPU here
    state = json.loads((tmp_path / "results.json").read_text())
    broken, cost = state["measurements"].values()
    assert broken["status"] == "failed" and "No module named" in broken["reason"] and "no_such_program" in broken["reason"]
    assert cost["status"] == "done" and cost["result"]["inputs"]["gpus"] == 2 and "GPU-hours" in cost["printed"]
    text = (tmp_path / "results.md").read_text()
    assert state["machine"]["processor"] in text and "| broken | failed: status 1" in text and "GPU-hours" in text
    assert "broken ... failed" in capsys.readouterr().out

    assert run.main(["--quick", "--out", str(tmp_path)]) == 1
    assert programs[2:] == [("no_such_program",)]  # what failed is tried again, what is there is not
    assert run.main(["--out", str(tmp_path)]) == 1
    assert programs[3:] == [("no_such_program",), ("cost",)]  # another command is another measurement
    assert run.main(["--quick", "--again", "--out", str(tmp_path)]) == 1
    assert len(programs) == 7 and not list(tmp_path.glob(".*"))


def test_results_of_another_machine_are_left_alone(programs, tmp_path, capsys):
    run.main(["--quick", "--out", str(tmp_path)])
    state = json.loads((tmp_path / "results.json").read_text())
    state["machine"]["processor"] = "an abacus"
    (tmp_path / "results.json").write_text(json.dumps(state))
    assert run.main(["--quick", "--out", str(tmp_path)]) == 2
    assert "another processor: an abacus" in capsys.readouterr().err
    assert json.loads((tmp_path / "results.json").read_text()) == state


def test_a_time_limit_ends_a_measurement_with_its_children(tmp_path, monkeypatch):
    mark = tmp_path / "alive"
    child = f"import time; time.sleep(4); open({str(mark)!r}, 'w')"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks/sleeper.py").write_text(program)
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)  # it could name the repository, whose benchmarks would hide these
    found = run.measured(("sleeper",), 1.5)
    assert (found["status"], found["reason"]) == ("over time", "longer than 1.5 s") and found["seconds"] < 4
    time.sleep(4)
    assert not mark.exists()


def test_only(programs, capsys):
    with pytest.raises(SystemExit):
        run.main(["--only", "nothing"])
    assert "invalid choice: 'nothing'" in capsys.readouterr().err
    options = type("Options", (), {"only": ["gpu"], "quick": True})
    with pytest.raises(UserError, match="no quick run of gpu"):
        run.selected(options)
    options.quick = False
    assert [item.name for item in run.selected(options)] == ["gpu"]  # asked for by name, wherever it is


def test_as_a_script_it_finds_its_package(tmp_path):
    import subprocess

    done = subprocess.run([sys.executable, ROOT / "benchmarks/run.py", "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "--quick" in done.stdout


@pytest.mark.parametrize("measurement", suite.SUITE, ids=suite.NAMES)
def test_the_suite_names_programs_that_are_there_and_take_its_words(measurement):
    assert (ROOT / f"benchmarks/{measurement.words[0]}.py").is_file()
    source = (ROOT / f"benchmarks/{measurement.words[0]}.py").read_text() + (ROOT / "benchmarks/report.py").read_text()
    for words in (measurement.words, measurement.quick or ()):
        assert all(f'"{word}"' in source for word in words if word.startswith("--")), words
    assert measurement.limit <= 900


def test_aims():
    network = {"ratios": {"forward and backward / matrix products float32, 952 x 768 x 3072": {"wall": SPREAD, "cpu": SPREAD},
                          "forward and backward / torch": {"wall": SPREAD | {"median": 1.5}}}}
    faster = {"ratios": {"forward and backward / matrix products float32, 9 x 9 x 9": {"wall": SPREAD | {"median": 1.0}}}}
    assert suite.more_than({"network-8-float32": network, "network-8-bfloat16": faster}) == [
        ("forward and backward, batch 8, bfloat16 over float32", 2.0, 1.4)]

    def done(name, result):
        (item,) = (item for item in suite.SUITE if item.name == name)
        return {"status": "done", "load": 0.1, "begun": "now", "seconds": 3.0, "command": run.command(item.words),
                "printed": "its own words", "result": result}

    made = {"network-8-float32": done("network-8-float32", network), "network-8-bfloat16": done("network-8-bfloat16", faster),
            "devices": done("devices", {"equal_digits": 5.5}), "cost": done("cost", {}) | {"command": ["python"]},
            "records": {"status": "failed", "reason": "a | b", "load": None, "begun": "now", "seconds": 3.0, "command": ["python"]}}
    text = tables.markdown({"machine": hardware.describe(), "measurements": made})
    made["devices"]["command"] = ["python", "-m", "benchmarks.devices", "--steps", "2"]
    assert "digits" not in tables.markdown({"machine": hardware.describe(), "measurements": made})  # a quick run meets nothing
    assert "| network-8-float32: forward and backward, share of the float32 products | 0.5 | 0.85 | **missed** |" in text
    assert "| network-8-float32: forward and backward, times PyTorch's rate | 1.5 | 1 | met |" in text
    assert "| devices: digits in which all losses agree | 5.5 | 4 | met |" in text and "bfloat16 over float32 | 2 | 1.4 | met |" in text
    assert "failed: a \\| b" in text and text.count("its own words") == 4
    assert "0.500 (0.400 to 0.600) | 0.500 (0.400 to 0.600) |" in text


def test_hardware(monkeypatch):
    machine = hardware.describe()
    assert machine["cores"] >= 1 and machine["memory_bytes"] > 2**28 and {"python", "numpy", "keras"} <= set(machine["versions"])
    assert set(machine["flags"]) <= set(hardware.FLAGS) and machine["processor"] in hardware.sentence(machine)
    assert hardware.same(machine, machine) == [] and hardware.same(machine, machine | {"gpus": ["one"]}) == ["gpus"]
    assert hardware._versions_of("/no/such/python") == {}
