"""One process per folder: a second command is refused, whoever dies gives its lock back, readers wait for nobody."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from kaleidobert import cli, configs, io
from kaleidobert.app_zoo import synthesize
from kaleidobert.datasets.bank import alignment
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.engines.run_folder import Run, check_folder, read_metrics
from kaleidobert.errors import UserError
from kaleidobert.model_zoo import checkpoints
from tests.datasets.test_alignment import write
from tests.engines.test_distribution import ROOT
from tests.engines.test_run_folder import config
from tests.support.apps_data import TRAIN, World, call, refused
from tests.support.locking import holding
from tests.support.tables import TWO
from tests.support.tiny import tiny_bank, tiny_catalogue

pytestmark = [pytest.mark.slow, pytest.mark.eager]

IN_USE = "another process is using this folder"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    folder = tmp_path_factory.mktemp("locks")
    return World(folder, TWO, tiny_bank(folder, TWO))


# --- the lock itself ----------------------------------------------------------------------------------------------------


def test_the_lock_of_another_process_and_its_death(tmp_path):
    with holding(tmp_path / "run") as process:
        for take in (io.lock, io.check_unlocked):
            with pytest.raises(UserError, match=f"{IN_USE} .process {process.pid} on {socket.gethostname()}, since 2001.*wait until"):
                take(tmp_path / "run")
        process.send_signal(signal.SIGKILL)
        process.wait()
        io.check_unlocked(tmp_path / "run")
        kept = io.lock(tmp_path / "run")
        assert json.loads((tmp_path / "run/.lock").read_text())["process"] == os.getpid()
        kept.release()
    assert list((tmp_path / "run").iterdir()) == []


def test_a_lock_that_is_waited_for(tmp_path):
    with holding(tmp_path) as process:
        threading.Timer(0.3, process.kill).start()
        with io.locked(tmp_path, wait=20):
            assert (tmp_path / ".lock").exists()
    assert not (tmp_path / ".lock").exists()


def test_a_process_takes_its_own_lock_again_and_a_scope_gives_it_back(tmp_path):
    asked = [sys.executable, "-c", f"from pathlib import Path; from kaleidobert import io; io.check_unlocked(Path({str(tmp_path)!r}))"]

    def is_held() -> bool:
        return IN_USE in subprocess.run(asked, cwd=ROOT, capture_output=True, text=True).stderr

    with io.lock_scope():
        io.lock(tmp_path)
        with io.lock_scope(), io.locked(tmp_path):
            assert io.lock(tmp_path) is io.lock(tmp_path)
        io.check_unlocked(tmp_path)
        assert is_held()  # the inner ones had only borrowed it
    assert not is_held() and not (tmp_path / ".lock").exists()
    run = Run(tmp_path / "run", config(tmp_path / "run"))  # without a scope: for as long as it is kept
    assert (tmp_path / "run/.lock").exists()
    child = os.fork()
    if child == 0:  # a child that ends does not give back what its parent holds
        run._lock.release()
        os._exit(0)
    os.waitpid(child, 0)
    assert (tmp_path / "run/.lock").exists()
    del run
    assert not (tmp_path / "run/.lock").exists()


def test_what_a_killed_process_leaves_is_no_content(tmp_path):
    folder = tmp_path / "run"
    with holding(folder):
        pass
    assert (folder / ".lock").exists()
    check_folder(folder, config(folder))
    Run(folder, config(folder))
    assert [path.name for path in folder.iterdir()] == ["config.yaml"]


def test_a_disk_without_locks_is_told_of_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(io, "fcntl", None)
    for _ in range(2):
        io.lock(tmp_path).release()
    assert capsys.readouterr().err.count("has no locks") == 1


# --- commands -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pretrain", "classify", "retrieve", "caption", "evaluate", "inspect", "align", "train-foreground",
                                  "records", "synthesize", "index"])
def test_a_folder_that_another_process_writes_is_left_alone(tmp_path, name):
    tiny_catalogue(tmp_path / "catalogue", 12)
    made = World(tmp_path, TWO).all()[name]
    target = next(getattr(made, key) for key in ("run", "bank", "catalogue", "index") if hasattr(made, key))
    with holding(target) as process:
        for flags in ([], ["--dry-run"]):
            refused(call(name, made, *flags), f"{target}: {IN_USE} .process {process.pid}")
        assert [path.name for path in target.iterdir()] == [".lock"]


def test_converted_checkpoints_and_tables_are_locked_by_name(tmp_path):
    made = World(tmp_path, TWO).convert()
    with holding(tmp_path, f".{made.target.name}.lock"):
        refused(call("convert", made), f"{made.target}: another process is using this file")
        assert call("convert", replace(made, target=tmp_path / "other.npz")).status == 0  # the folder is not locked
    assert call("convert", made).status == 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".lock") == []


def test_a_copy_of_a_bank(world, tmp_path):
    made = configs.ConvertConfig(world.bank.folder, tmp_path / "small", storage="uint8")
    with holding(tmp_path / "small"):
        for flags in ([], ["--dry-run"]):
            refused(call("convert", made, *flags), f"small: {IN_USE}")
    assert call("convert", made).status == 0 and not (tmp_path / "small/.lock").exists()


# `kaleidobert pretrain` that stops for good, as by Ctrl-Z, before step 21: in the middle of its work, however fast it is
STOPPING = """
import os, signal, sys
import pytest
from kaleidobert import cli
from kaleidobert.engines import steps
from tests.support import quick

quick.run_eagerly(pytest.MonkeyPatch())
made, done = steps.train_step, []

def train_step(*arguments):
    update = made(*arguments)

    def run(*batch):
        done.append(1)
        if len(done) == 21:
            os.kill(os.getpid(), signal.SIGSTOP)
        return update(*batch)

    return run

steps.train_step = train_step
sys.exit(cli.main(["pretrain", sys.argv[1]]))
"""


def test_two_trainings_in_one_folder(world):
    """The second is refused; when the first is killed, the same command ends the run, and every step stands in it once."""
    made = world.pretrain("twice", train=replace(TRAIN, epochs=4, batch_size=3, save_every=100))  # 7 steps to an epoch
    path, run = world.folder / "first.yaml", world.folder / "twice"
    path.write_text(configs.dump(made))
    with subprocess.Popen([sys.executable, "-c", STOPPING, str(path)], cwd=ROOT, text=True,
                          env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as first:
        try:
            assert os.WIFSTOPPED(os.waitpid(first.pid, os.WUNTRACED)[1]), first.stderr.read()
            saved = checkpoints.load_meta(run / "last.npz")["step"]
            assert saved < max(row["step"] for row in read_metrics(run / "metrics.jsonl"))  # these steps are repeated
            before = {entry.name: entry.stat().st_mtime_ns for entry in run.iterdir()}
            for flags in ([], ["--dry-run"]):
                refused(call("pretrain", made, *flags), f"{run}: {IN_USE} .process {first.pid} on {socket.gethostname()}")
            assert {entry.name: entry.stat().st_mtime_ns for entry in run.iterdir()} == before
        finally:
            first.kill()
    assert not (run / "results.json").exists()
    done = call("pretrain", made)
    assert done.status == 0 and f"resuming {run} at step" in done.out, done.err
    steps = [(row["split"], row["step"]) for row in read_metrics(run / "metrics.jsonl")]
    assert len(steps) == len(set(steps)) and {7, 14, 20, 21} < {step for _, step in steps} and not (run / ".lock").exists()


def test_a_command_leaves_no_lock(world, untrained):
    assert call("pretrain", world.pretrain("plain")).status == 0
    assert not list(world.folder.rglob("plain/**/.lock"))


def test_other_processes_of_one_run_do_not_ask_for_its_lock(tmp_path, monkeypatch):
    monkeypatch.setenv("KALEIDO_SIZE", "2")
    monkeypatch.setenv("KALEIDO_ADDRESS", "localhost:1")
    with holding(tmp_path / "run"):
        monkeypatch.setenv("KALEIDO_RANK", "1")
        check_folder(tmp_path / "run", config(tmp_path / "run"))
        monkeypatch.setenv("KALEIDO_RANK", "0")
        with pytest.raises(UserError, match=IN_USE):
            check_folder(tmp_path / "run", config(tmp_path / "run"))


# --- banks --------------------------------------------------------------------------------------------------------------


def test_a_bank_is_not_read_while_it_is_written(world):
    with holding(world.bank.folder):
        for name in ("pretrain", "align"):
            for flags in ([], ["--dry-run"]):
                refused(call(name, getattr(world, name)(f"reads-{name}"), *flags), f"bank: {IN_USE}.*wait until it has ended")
    (world.bank.folder / ".lock").unlink()  # the killed process left it
    assert Bank(world.bank.folder).size and not (world.bank.folder / ".lock").exists()  # reading takes none


def test_an_alignment_waits_for_its_turn(tmp_path, monkeypatch):
    bank = tiny_bank(tmp_path, TWO, 12)
    write(bank)
    before = alignment.info(bank)
    with holding(bank.folder) as process:
        monkeypatch.setattr(alignment, "WAIT", 0.1)
        with pytest.raises(UserError, match=f"{IN_USE}.*run the same command again: what was made is kept"):
            write(bank)
        assert json.loads((bank.folder / alignment.INFO).read_text()) == before
        monkeypatch.setattr(alignment, "WAIT", 20)
        threading.Timer(0.3, process.kill).start()
        write(bank)
    assert alignment.strengths(Bank(bank.folder)) is not None and not (bank.folder / ".lock").exists()


def test_every_command_gives_back_what_it_took(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(synthesize, "run", lambda made: seen.append(io.lock(tmp_path / "taken")) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["synthesize", f"catalogue={tmp_path / 'drawn'}"])
    assert not seen[0].release.alive and not (tmp_path / "taken/.lock").exists()
