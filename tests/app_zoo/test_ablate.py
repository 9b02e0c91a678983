"""``kaleidobert ablate``: its runs, their sharing, processes, resuming; nothing is trained. Verdicts: tests/evaluators/test_ablation.py."""

import doctest
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from kaleidobert import cli, configs
from kaleidobert.app_zoo import commands, processes
from kaleidobert.app_zoo.ablate import ablate
from kaleidobert.app_zoo.processes import Step
from kaleidobert.errors import UserError
from tests.evaluators.test_ablation import results

ROOT = Path(__file__).resolve().parents[2]
OF_A_SEED = ["pretrain", "masked_words", "i2t", "t2i", "cat", "subcat"]


def loaded(folder: Path, *words: str) -> configs.AblateConfig:
    return commands.load("ablate", "ablate", [f"run={folder / 'run'}", *words])


@pytest.fixture
def fake(monkeypatch):
    """Processes that end at once and leave the files of their step. started: their titles and environments; failing: {title: status}."""
    world = SimpleNamespace(started=[], environments=[], failing={}, rounds=1)

    def start(step, environment):
        processes.claim(step)
        world.started.append(step.title)
        world.environments.append(dict(environment))
        status, left = world.failing.get(step.title, 0), [world.rounds]
        step.log.parent.mkdir(parents=True, exist_ok=True)
        step.log.write_text("a line\r  5%|#\rkaleidobert x: the words of the end\n\n")

        def poll():
            left[0] -= 1
            if left[0] <= 0 and status in (0, 3) and not step.is_done():
                step.done.parent.mkdir(parents=True, exist_ok=True)
                step.done.write_text(json.dumps(results()[step.name].values if step.name in results() else {}))
            return status if left[0] <= 0 else None

        return SimpleNamespace(poll=poll, returncode=status, wait=lambda: status, pid=0)

    monkeypatch.setattr(processes, "start", start)
    monkeypatch.setattr(processes, "PAUSE", 0)
    monkeypatch.setattr(processes.os, "killpg", lambda pid, how: world.started.append(f"stopped by {how}"))
    monkeypatch.setattr(processes.builder, "gpus", lambda: [])
    return world


# --- which runs there are


def test_rows_that_are_the_same_model_have_the_same_runs(tmp_path):
    steps = ablate.plan(loaded(tmp_path, "seeds=[0,1]"))
    assert len(steps) == 4 + 10 * 2 * 6 + 2 * 4 and len({step.folder for step in steps}) == len(steps)
    assert [step.title for step in steps[:4]] == ["bank network: records", "bank network: align", "bank none: records", "bank none: align"]
    assert [step.name for step in steps if step.row == "b_i-v" and step.seed == 1] == OF_A_SEED
    shared = ablate.plan(loaded(tmp_path, "rows=[kaleido-saliency,agm,b_i-v]", "seeds=[5]"))
    assert [step.title for step in shared[2:]] == [f"b_i-v, seed 5: {name.replace('_', ' ')}" if name == "masked_words" else
                                                   f"b_i-v, seed 5: {name}" for name in OF_A_SEED]


def test_levels_masking_banks_and_seeds_of_the_rows(tmp_path):
    config = loaded(tmp_path, "tasks=[retrieval,captions]", "seeds=[2]")
    steps = {(step.row, step.seed, step.name): step.config for step in ablate.plan(config)}
    run = tmp_path / "run"
    grids = {row: [level.grid for level in steps[row, 2, "pretrain"].levels] for row in ("fixed", "kaleido", "b")}
    assert grids == {"fixed": [5], "kaleido": [1, 2, 3, 4, 5], "b": [1, 2, 3, 4, 5]}
    pretrainings = {row: each for (row, seed, name), each in steps.items() if name == "pretrain" and seed == 2}
    assert {row for row, each in pretrainings.items() if each.data.bank == run / "banks/none"} == {"fixed", "kaleido"}
    assert {row for row, each in pretrainings.items() if each.sampling.masking == "random"} == {"random"}
    assert [steps["", 0, "records"].foreground.method] == ["none"]  # the last of two
    for name in ("pretrain", "i2t", "t2i", "caption"):
        assert steps["b_v", 2, name].train.seed == 2 and steps["b_v", 2, name].data.bank == run / "banks/network"
    assert steps["b_v", 2, "i2t"].init == steps["b_v", 2, "caption"].init == run / "b_v/2/pretrain/best.npz"
    assert steps["b_v", 2, "pretrain"].losses.itc_weight == 5  # the quickstart's own
    assert steps["b_v", 2, "t2i"].init == run / "b_v/2/i2t/best.npz" and not steps["b_v", 2, "i2t"].baselines


def test_a_row_without_pretraining_is_the_same_network_from_random_weights(tmp_path):
    steps = ablate.plan(loaded(tmp_path, "rows=[b_i-v,scratch]", "seeds=[3]", "words.pretrain=[model.hidden_size=64]"))
    own = {step.name: step for step in steps if step.row == "scratch"}
    other = {step.name: step.config for step in steps if step.row == "b_i-v"}
    assert list(own) == ["i2t", "t2i", "cat", "subcat"]
    for name in ("i2t", "cat", "subcat"):
        config = own[name].config
        assert config.init is None and config.from_scratch and config.model == other["pretrain"].model and config.model.hidden_size == 64
        assert (config.train, config.data) == (other[name].train, other[name].data)
        assert own[name].needs == (config.data.bank / "index.json",)
    assert own["t2i"].config.init == own["i2t"].folder / "best.npz" and not own["t2i"].config.from_scratch


def test_random_masking_needs_no_links_of_its_own_and_words_reach_their_steps(tmp_path):
    config = loaded(tmp_path, "rows=[fixed,kaleido]", "words.pretrain=[train.epochs=7]", "words.i2t=train.epochs=1", "seeds=[0]")
    steps = ablate.plan(config)
    assert [step.title for step in steps[:3]] == ["bank none: records", "bank none: align", "fixed, seed 0: pretrain"]
    assert steps[2].config.train.epochs == 7 and next(step for step in steps if step.name == "i2t").config.train.epochs == 1
    random = next(step for step in ablate.plan(loaded(tmp_path, "rows=[random]")) if step.name == "pretrain")
    assert [path.name for path in random.needs] == ["index.json"]


def test_the_configuration_beside_a_run_is_that_of_the_run(tmp_path):
    steps = ablate.plan(loaded(tmp_path, "rows=[fixed]", "seeds=[1]", "tasks=[retrieval,classification,captions]"))
    for step in steps:
        processes.claim(step)
        if step.config is not None:
            assert commands.load(step.words[1], step.file) == step.config
            assert step.file.read_text().startswith(f"# kaleidobert {step.words[1]} ")


def test_a_folder_of_ones_own_and_banks_that_exist(tmp_path, monkeypatch):
    (tmp_path / "my").mkdir()
    for name in ("records", "align", "pretrain", "cat", "subcat"):
        (tmp_path / f"my/{name}.yaml").write_text(f"base: {ROOT}/configs/catalogue_small/{name}.yaml\n")
    for method in ("network", "none"):
        (tmp_path / method).mkdir()
        (tmp_path / f"{method}/index.json").write_text(json.dumps({"config": {"foreground": {"method": method}}}))
    monkeypatch.chdir(tmp_path)
    words = ["configs=my", "tasks=[classification]", "seeds=[0]", "banks={network: network, none: none}"]
    steps = ablate.plan(loaded(tmp_path, *words))
    assert [step.title for step in steps[:2]] == ["bank network: align", "bank none: align"] and steps[2].name == "pretrain"
    assert steps[0].done == tmp_path / "network/alignment.json" and steps[2].config.data.bank == tmp_path / "none"
    with pytest.raises(UserError, match="words.records is set, and every bank is one that exists"):
        ablate.plan(loaded(tmp_path, *words, "words.records=[encoder.size=32]"))
    ablate.plan(loaded(tmp_path, *words, "words.align=[mode=generated]"))  # they get links by the ablation
    for method in ("network", "none"):
        (tmp_path / method / "alignment.json").touch()
    with pytest.raises(UserError, match="words.align is set, and every bank is one that exists"):
        ablate.plan(loaded(tmp_path, *words, "words.align=[mode=generated]"))
    with pytest.raises(UserError, match="banks.none is a bank made with foreground.method=network"):
        ablate.plan(loaded(tmp_path, *words[:3], "banks.none=network"))
    with pytest.raises(UserError, match="banks.network names no finished bank"):
        ablate.plan(loaded(tmp_path, *words[:3], "banks.network=my"))
    with pytest.raises(UserError, match="banks is 'border'; expected: one of .*network"):
        ablate.plan(loaded(tmp_path, *words[:3], "banks.border=none"))


@pytest.mark.parametrize("words, message", [
    (["rows=[b_ii]"], r"rows is 'b_ii'.*did you mean 'b_i"), (["rows=[b,b]"], "rows has b, b"), (["seeds=[]"], "seeds is"),
    (["seeds=[1,1]"], "seeds has 1, 1.*each one once"), (["seeds=[-1]"], "seeds is"), (["tasks=[]"], "tasks is empty"),
    (["tasks=[retrieve]"], "did you mean 'retrieval'"), (["parallel=0"], "parallel is 0"), (["configs=quickstar"], "quickstar/records"),
    (["words.pretrain=[train.seed=3]"], "words.pretrain sets train.seed, which the ablation sets itself"),
    (["words.pretrian=[a=b]"], "did you mean 'pretrain'"), (["words.cat=[train.epoch=3]"], "unknown key 'train.epoch'"),
    (["words.records=[foreground.method=none]"], "foreground.method of records is none")])
def test_refusals(tmp_path, capsys, words, message):
    status = cli.main(["ablate", "ablate", f"run={tmp_path / 'run'}", *words])
    err = capsys.readouterr().err
    assert status == 2 and err.count("\n") == 1 and re.search(message, err), err
    assert not list(tmp_path.iterdir())


# --- running them


SMALL = ["rows=[random,agm]", "seeds=[0,1]"]


def test_all_of_it_and_nothing_twice(fake, tmp_path, capsys):
    words = ["ablate", "ablate", f"run={tmp_path / 'run'}", *SMALL]
    assert cli.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(fake.started) == 2 + 2 * 2 * 6 and lines[:2] == ["26 runs", "[ 1/26] bank network: records ... 0 s"]
    assert lines[26] == "[26/26] b_i-v, seed 1: subcat ... 0 s"
    text = "\n".join(lines)
    assert "| **AGM**    | masking |     2 | 350.0 [350.0, 350.0] | 319.52 | 250.0 [250.0, 250.0] | 300.0 [300.0, 300.0] | 318.14 |" in text
    assert "| AGM is ahead of random masking |             Sum CLS |     2 | +0.0 [+0.0, +0.0] |  +3.83 | undecided" in text
    assert (tmp_path / "run/table.md").read_text() in text
    values = json.loads((tmp_path / "run/results.json").read_text())
    assert values["task"] == "ablate" and values["rows"]["agm"]["seeds"] == [0, 1] and values["config"]["seeds"] == [0, 1]
    fake.started.clear()
    assert cli.main(words) == 0 and not fake.started and capsys.readouterr().out.startswith("26 runs, 26 of them finished before\n")
    assert cli.main([*words[:3], "rows=[agm]", "seeds=[2]"]) == 0 and len(fake.started) == 6  # another seed beside them
    assert "is ahead of" not in capsys.readouterr().out  # one row: no claim


def test_a_run_that_fails_is_one_message_and_the_next_call_continues_there(fake, tmp_path, capsys):
    words = ["ablate", "ablate", f"run={tmp_path / 'run'}", *SMALL]
    fake.failing["b_i-v, seed 1: i2t"] = 2
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    log = tmp_path / "run/b_i-v/1/i2t.log"
    assert err == (f"kaleidobert ablate: log {log}: b_i-v, seed 1: i2t failed with status 2: kaleidobert x: the words of the end; to fix: "
                   f"mend that (keys of this run: words.i2t=[key=value]), and the same command continues there; this run alone: "
                   f"kaleidobert retrieve {log.with_suffix('.yaml')}\n")
    assert f"what is finished: {tmp_path / 'run/table.md'}" in out
    table = (tmp_path / "run/table.md").read_text()
    assert "| **AGM**    | masking |     1 |" in table and "undecided (one seed)" in table
    fake.failing.clear()
    fake.started.clear()
    assert cli.main(words) == 0 and fake.started == [f"b_i-v, seed 1: {name}" for name in ("i2t", "t2i", "cat", "subcat")]


@pytest.mark.parametrize("status, words", [(-9, "was ended by signal SIGKILL, often for want of memory"), (130, "was interrupted"),
                                           (0, "ended without .*index.json")])
def test_other_ends(fake, tmp_path, monkeypatch, status, words):
    fake.failing["bank network: records"] = status
    if status == 0:
        monkeypatch.setattr(Step, "has_result", lambda step: False)
    with pytest.raises(UserError, match=f"bank network: records {words}"):
        processes.run_all(ablate.plan(loaded(tmp_path, *SMALL)), 1)


def test_a_bank_with_many_rows_left_out_is_said_and_used(fake, tmp_path, capsys):
    fake.failing["bank network: records"] = 3
    processes.run_all(ablate.plan(loaded(tmp_path, *SMALL)), 1)
    assert "[ 1/26] bank network: records ... 0 s; kaleidobert x: the words of the end\n[ 2/26]" in capsys.readouterr().out


def test_a_changed_configuration_is_refused_where_its_run_was_begun(fake, tmp_path, capsys):
    words = ["ablate", "ablate", f"run={tmp_path / 'run'}", *SMALL]
    assert cli.main(words) == 0
    capsys.readouterr()
    fake.started.clear()
    assert cli.main([*words, "words.pretrain=[train.epochs=60]"]) == 2 and not fake.started
    err = capsys.readouterr().err
    assert err.startswith(f"kaleidobert ablate: {tmp_path}/run/random/0/pretrain: random, seed 0: pretrain is made with another "
                          "configuration (train.epochs: 45.0 -> 60.0), and 3 other runs are; expected: the same configuration; to fix: ")
    assert cli.main([*words, "words.pretrain=[train.workers=3]", "parallel=2"]) == 0  # what changes no results may change


def test_several_at_a_time(fake, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(processes.os, "cpu_count", lambda: 9)
    fake.rounds = 3
    assert cli.main(["ablate", "ablate", f"run={tmp_path / 'run'}", *SMALL, "parallel=2"]) == 0
    assert fake.started[:5] == ["bank network: records", "bank network: align", "random, seed 0: pretrain",  # which needs no links
                                "random, seed 0: masked words", "random, seed 0: i2t"]
    assert len(fake.started) == len(set(fake.started)) == 26 and {one["TF_NUM_INTRAOP_THREADS"] for one in fake.environments} == {"4"}
    lines = capsys.readouterr().out.splitlines()
    assert [line[:7] for line in lines[1:27]] == [f"[{number:2}/26]" for number in range(1, 27)]


def test_gpus_are_handed_out(fake, tmp_path, monkeypatch):
    assert doctest.testmod(processes).failed == 0
    monkeypatch.setattr(processes.builder, "gpus", lambda: ["0", "MIG-7"])
    fake.rounds = 2
    processes.run_all(ablate.plan(loaded(tmp_path, *SMALL)), 2)
    assert {one["CUDA_VISIBLE_DEVICES"] for one in fake.environments} == {"0", "MIG-7"}
    assert "TF_FORCE_GPU_ALLOW_GROWTH" not in fake.environments[0]
    assert processes.variables(2, 3, ["0", "1"])["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"


def test_where_one_fails_the_others_are_interrupted(fake, tmp_path, capsys):
    steps = ablate.plan(loaded(tmp_path, *SMALL))
    for step in steps[:2]:
        step.done.parent.mkdir(parents=True, exist_ok=True)
        step.done.write_text("{}")
    fake.failing["random, seed 0: pretrain"] = 1
    real, fake.rounds = processes.start, 1

    def start(step, environment):
        fake.rounds = 1 if step.title == "random, seed 0: pretrain" else 100
        return real(step, environment)

    processes.start = start  # the fixture's monkeypatch puts the real one back
    with pytest.raises(UserError, match="random, seed 0: pretrain failed with status 1"):
        processes.run_all(steps, 2)
    assert fake.started == ["random, seed 0: pretrain", "b_i-v, seed 0: pretrain", f"stopped by {signal.SIGINT}"]
    assert "1 under way: b_i-v, seed 0: pretrain; they keep what they have" in capsys.readouterr().err


def test_a_dry_run_lists_and_checks_and_writes_nothing(fake, tmp_path, capsys, monkeypatch):
    called = []

    def run(words, **options):
        called.append(words[3])
        return subprocess.CompletedProcess(words, 2 if called[-1] == "classify" else 0, stdout=b"kaleidobert classify: no label\n")

    monkeypatch.setattr(processes.subprocess, "run", run)
    words = ["ablate", "ablate", f"run={tmp_path / 'run'}", *SMALL, "--dry-run"]
    assert cli.main(words) == 0 and called == ["records"] and not list(tmp_path.iterdir())
    out = capsys.readouterr().out
    assert "  random, seed 0: missing pretrain, masked words, i2t, t2i, cat, subcat\n" in out
    assert out.endswith("26 runs: 0 done, 26 missing\n")
    fake.failing["random, seed 0: subcat"] = 1
    assert cli.main(words[:-1]) == 2
    capsys.readouterr()
    called.clear()
    assert cli.main(words) == 2 and called == ["classify"]
    out, err = capsys.readouterr()
    assert "  random, seed 0: done pretrain, masked words, i2t, t2i, cat; missing subcat\n" in out and "26 runs: 7 done" in out
    assert err == ("kaleidobert ablate: random, seed 0: subcat would be refused: kaleidobert classify: no label; to fix: mend that (keys "
                   "of this run: words.subcat=[key=value])\n")


# --- processes


def a_step(folder: Path, name: str, code: str) -> Step:
    (folder / f"{name}.py").write_text(f"import pathlib, signal, time\ndone = pathlib.Path({str(folder / name / 'results.json')!r})\n"
                                       "done.parent.mkdir()\n" + code)
    return Step(name, f"b, seed 0: {name}", folder / name, folder / name / "results.json", (), (name,))


SLEEPS = "(done.parent / 'begun').touch()\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    (done.parent / 'kept').touch()\n"


def test_an_interrupt_reaches_every_process_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    steps = [a_step(tmp_path, name, SLEEPS) for name in ("one", "two")]

    def sleep(seconds):
        if all((step.folder / "begun").exists() for step in steps):
            raise KeyboardInterrupt
        time.monotonic()

    monkeypatch.setattr(processes, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    with pytest.raises(KeyboardInterrupt):
        processes.run_all(steps, 2)
    assert all((step.folder / "kept").exists() for step in steps)
    assert "2 under way: b, seed 0: one, b, seed 0: two; they keep what they have" in capsys.readouterr().err


def test_the_command_says_how_to_continue(fake, tmp_path, capsys, monkeypatch):
    def interrupted(steps, parallel):
        raise KeyboardInterrupt

    monkeypatch.setattr(processes, "run_all", interrupted)
    assert cli.main(["ablate", "ablate", f"run={tmp_path / 'run'}", "rows=[fixed]", "seeds=[0]"]) == 130
    assert "kaleidobert ablate: interrupted; the same command continues where it stopped" in capsys.readouterr().err


def test_sigterm_ends_it_as_ctrl_c_does(monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), processes.heeded_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_a_process_says_is_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(processes, "PAUSE", 0.01)
    one = a_step(tmp_path, "one", "print('made')\ndone.write_text('{}')\n")
    two = a_step(tmp_path, "two", "raise SystemExit('kaleidobert x: not so')\n")
    one.log.write_text("an earlier call\n")
    with pytest.raises(UserError, match="two failed with status 1: kaleidobert x: not so"):
        processes.run_all([one, two], 1)
    assert one.log.read_text() == "an earlier call\nmade\n"
    assert capsys.readouterr().out == "2 runs\n[1/2] b, seed 0: one ... 0 s\n[2/2] b, seed 0: two ...\n"


@pytest.mark.slow
def test_masked_words_wants_four_words(capsys, tmp_path):
    from kaleidobert.app_zoo.ablate import masked_words  # here: it loads TensorFlow

    assert masked_words.main(["a"]) == 2 and "usage:" in capsys.readouterr().err
    assert masked_words.main([str(tmp_path / "no.npz"), *[str(tmp_path)] * 3]) == 2
    assert capsys.readouterr().err.startswith(f"masked words: {tmp_path}/no.npz")


def test_nothing_of_it_loads_a_network_library():
    code = ("import sys\nfrom kaleidobert.app_zoo.ablate import ablate\n"
            "sys.exit(any(name in sys.modules for name in ('keras', 'tensorflow')))")
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
    assert ablate.finished([]) == {}
