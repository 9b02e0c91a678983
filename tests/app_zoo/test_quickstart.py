"""``kaleidobert quickstart``: its commands in their order, where they run, what ends it; the script: tests/test_scripts.py."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from kaleidobert import cli
from kaleidobert.app_zoo import commands, quickstart
from kaleidobert.configs import loader

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def called(monkeypatch):
    """The command lines that would have run, and the statuses that they are to have."""
    lines, statuses = [], {}
    monkeypatch.setattr(quickstart, "_call", lambda words: lines.append(words) or statuses.get(len(lines), 0))
    run = quickstart._Lane._run  # the second lane calls what the first one does

    def beside(lane):
        with monkeypatch.context() as patch:
            patch.setattr(quickstart.subprocess, "Popen", lambda words, **_: Stub(quickstart._call(words)))
            run(lane)

    monkeypatch.setattr(quickstart._Lane, "_run", beside)
    monkeypatch.setattr(quickstart.threading.Thread, "start", lambda self: self.run())
    monkeypatch.setattr(quickstart.threading.Thread, "is_alive", lambda self: False)
    return lines, statuses


@dataclass
class Stub:
    """A process that has ended."""

    returncode: int

    def communicate(self) -> tuple[bytes, None]:
        return b"50%\r100%\nsaid beside\n", None

    def poll(self) -> int:
        return self.returncode


@pytest.mark.parametrize("words, folder", [([], "runs/quickstart"), (["--reduced"], "runs/quickstart_reduced")])
def test_it_goes_through_its_commands(called, capsys, words, folder):
    lines, _ = called
    assert cli.main(["quickstart", *words]) == 0
    assert all(line[:2] == [sys.executable, "-m"] and line[2] in ("kaleidobert.cli", "kaleidobert.app_zoo.tables") for line in lines)
    assert [line[3] for line in lines if line[2] == "kaleidobert.cli"] == [
        "synthesize", "records", "align", "pretrain", "caption", "inspect", "classify", "classify", "retrieve", "retrieve", "index",
        "tables", "report"]
    assert lines[-3][2:] == ["kaleidobert.app_zoo.tables", folder] and lines[-2][3:] == ["tables", folder, f"out={folder}"]
    assert lines[-1][3:] == ["report", folder]
    assert (lines[0][4:] == ["quickstart/synthesize"]) == (not words)
    assert all(word.count("=") <= 1 and " " not in word for line in lines for word in line[3:])
    said = [line for line in capsys.readouterr().out.splitlines() if line]
    assert said == ["== synthesize", "== records", "== align", "== pretrain", "== caption, == inspect: beside what follows, shown when it "
                    "has ended", "== cat", "== subcat", "== i2t", "== t2i", "== index", "== caption", "100%", "said beside", "== inspect",
                    "100%", "said beside"]


@pytest.mark.parametrize("reduced", [False, True])
def test_every_command_has_its_configuration_and_reads_what_the_ones_before_wrote(reduced, monkeypatch):
    monkeypatch.chdir(ROOT)
    runs = ROOT / (quickstart.REDUCED_FOLDER if reduced else quickstart.FOLDER)
    found = {step.name: commands.load(step.command, step.words(reduced)[1], step.words(reduced)[2:])
             for step in quickstart.STEPS}
    assert list(found) == ["synthesize", "records", "align", "pretrain", "caption", "inspect", "cat", "subcat", "i2t", "t2i", "index"]
    assert found["synthesize"].catalogue == runs / "catalogue" and found["records"].bank == runs / "bank"
    assert found["records"].source.table == found["inspect"].source.table == runs / "catalogue/products.jsonl"
    assert all(found[name].data.bank == runs / "bank" for name in list(found)[2:])
    assert all(found[name].run == runs / ("pages" if name == "inspect" else name) for name in list(found)[2:-1])
    assert found["index"].index == runs / "index" and found["index"].init == runs / "i2t/best.npz"
    assert {found[name].init for name in ("cat", "subcat", "i2t", "caption")} == {runs / "pretrain/best.npz"}
    assert found["t2i"].init == runs / "i2t/best.npz" and found["inspect"].checkpoint == runs / "pretrain/best.npz"
    assert found["inspect"].maps == runs / "align/word_presence"


def test_the_first_command_that_fails_ends_it(called):
    lines, statuses = called
    statuses[2] = 9
    assert cli.main(["quickstart"]) == 9 and len(lines) == 2


def test_a_command_of_the_second_lane_that_fails_ends_it_before_the_tables(called, capsys):
    lines, statuses = called
    statuses[5] = 7  # caption
    assert cli.main(["quickstart"]) == 7 and "said beside" in capsys.readouterr().out
    assert [line[3] for line in lines] == ["synthesize", "records", "align", "pretrain", "caption", "classify", "classify", "retrieve",
                                           "retrieve", "index"]


def test_where_the_first_lane_fails_the_second_is_interrupted_and_shown(monkeypatch, tmp_path, capfdbinary):
    """With processes: the one beside keeps what it has and ends before the quickstart does."""
    script = tmp_path / "beside.py"
    script.write_text("import time\nprint('began', flush=True)\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n"
                      "    print('kept', flush=True)\n    raise SystemExit(130)\n")
    slow = quickstart.Process("== slow", ("runpy",), beside=True)
    monkeypatch.setattr(quickstart.Process, "command", property(lambda self: [sys.executable, *(
        [str(script)] if self.beside else ["-c", "import time; time.sleep(1.5); raise SystemExit(9)"])]))
    never = quickstart.Process("== never", ("x",), beside=True)
    monkeypatch.setattr(quickstart, "commands", lambda reduced: [slow, never, quickstart.Process("== fails", ("x",))])
    assert quickstart.run() == 9
    said = capfdbinary.readouterr().out.decode()
    assert "began" in said and "kept" in said and said.index("== fails") < said.rindex("== slow") and said.count("== never") == 1


def test_sigterm_interrupts_the_commands_of_both_lanes(tmp_path):
    (tmp_path / "step.py").write_text("import pathlib, sys, time\nname = sys.argv[1]\npathlib.Path(name).touch()\n"
                                      "try:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    pathlib.Path(name + '-kept').touch()\n"
                                      "    raise SystemExit(130)\n")
    code = ("import sys\nfrom kaleidobert.app_zoo import quickstart\nfrom kaleidobert.configs import loader\n"
            "loader.YAML_FOLDER = loader.Path('configs').absolute()\nquickstart.commands = lambda reduced: [\n"
            "    quickstart.Process('== beside', ['step', 'beside'], True), quickstart.Process('== first', ['step', 'first']),\n"
            "    quickstart.Process('== never', ['step', 'never'])]\nsys.exit(quickstart.run())\n")
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"},
                               stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while not all((tmp_path / name).exists() for name in ("beside", "first")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.terminate()
    assert process.wait(60) == 130
    written = sorted(path.name for path in tmp_path.iterdir() if path.is_file() and path.suffix != ".py")
    assert written == ["beside", "beside-kept", "first", "first-kept"]


def test_a_dry_run_prints_the_commands(called, capsys):
    lines, _ = called
    assert cli.main(["quickstart", "--reduced", "--dry-run"]) == 0 and not lines
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"in {ROOT}:" and out[1].startswith("kaleidobert synthesize quickstart/synthesize catalogue=runs/quickstart_reduced/")
    assert len(out) == 1 + len(quickstart.STEPS) + 3


@pytest.mark.parametrize("words", [["--reducd"], ["x"], ["--reduced", "x"]])
def test_other_words_are_refused(called, capsys, words):
    with pytest.raises(SystemExit) as end:
        cli.main(["quickstart", *words])
    assert end.value.code == 2 and "usage:" in capsys.readouterr().err and not called[0]


def test_commands_run_in_the_folder_of_the_configurations_and_keep_their_status(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(loader, "YAML_FOLDER", tmp_path / "configs")
    assert quickstart._call([sys.executable, "-c", "import os; print(os.getcwd()); raise SystemExit(3)"]) == 3
    assert capfd.readouterr().out == f"{tmp_path}\n"
    assert quickstart._call([sys.executable, "-c", "import os; os.kill(os.getpid(), 15)"]) == 128 + 15


HEEDED = "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell that starts tests in the background has it ignored


def test_an_interrupt_waits_for_the_command_that_keeps_what_it_has(tmp_path):
    """The terminal sends the signal to both; the command takes its time, and no other one is begun."""
    (tmp_path / "step.py").write_text("import pathlib, signal, time\n" + HEEDED + "pathlib.Path('begun').touch()\n"
                                      "try:\n    time.sleep(60)\n"
                                      "except KeyboardInterrupt:\n    time.sleep(1)\n    pathlib.Path('kept').touch()\n")
    code = ("import signal, sys\n" + HEEDED + "from kaleidobert.app_zoo import quickstart\nfrom kaleidobert.configs import loader\n"
            "loader.YAML_FOLDER = loader.Path('configs').absolute()\n"
            "quickstart.commands = lambda reduced: [quickstart.Process(name, ['step']) for name in ('== a', '== b')]\n"
            "sys.exit(quickstart.run())\n")
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=variables, stdout=subprocess.PIPE, text=True,
                               start_new_session=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and (tmp_path / "kept").exists() and "== a" in out and "== b" not in out
