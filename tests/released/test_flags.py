"""The released flags: what each becomes, what has no effect, what is refused, and the scripts."""

import os
import subprocess
from pathlib import Path

import pytest

from kaleidobert import cli, released_cli
from kaleidobert.errors import UserError
from kaleidobert.released_cli import split, translate

ROOT = Path(__file__).resolve().parents[2]
PRETRAIN = ["--workerGPU=4", "--mode=train_and_evaluate", "--train_input_fp=./datasets/mine.list_csv",
            "--eval_input_fp=./datasets/held.list_csv", "--pretrain_model_name_or_path=pai-kaleidobert-base-en",
            "--input_sequence_length=64", "--train_batch_size=64", "--num_epochs=25", "--model_dir=./checkpoint/mine",
            "--learning_rate=1e-4", "--image_feature_size=131072", "--input_schema=input_ids:int:64,input_mask:int:64"]
RETRIEVE = ["--workerGPU=4", "--type=img2txt", "--mode=predict", "--predict_input_fp=./list.list_csv", "--predict_batch_size=64",
            "--input_sequence_length=64", "--output_dir=./out", "--pretrain_model_name_or_path=pai-kaleidobert-base-en",
            "--image_feature_size=131072", "--predict_checkpoint_path=./checkpoint/pretrained/kaleidobert.ckpt-50683"]


@pytest.fixture
def called(monkeypatch):
    """The command lines that would have run."""
    lines = []
    monkeypatch.setattr(cli, "main", lambda words: lines.append(words) or 0)
    return lines


def test_the_flags_of_the_released_pretraining(called, capsys):
    assert released_cli.main(["pretrain", "configs", *PRETRAIN, "train.epochs=1", "--dry-run"]) == 0
    assert called == [["pretrain", "configs/released/pretrain.yaml", "data.files=./datasets/mine.list_csv", "data.bank=",
                       "data.val_files=./datasets/held.list_csv", "train.batch_size=256", "train.epochs=25", "run=./checkpoint/mine",
                       "train.learning_rate=1e-4", "data.schema=input_ids:int:64,input_mask:int:64", "train.epochs=1", "--dry-run"]]
    out = capsys.readouterr().out
    assert "--train_input_fp=./datasets/mine.list_csv -> data.files=./datasets/mine.list_csv data.bank=\n" in out
    assert "--train_batch_size=64 -> train.batch_size=256 (64 per GPU there, 4 GPUs)\n" in out
    assert "--workerGPU=4 -> nothing (train.devices=0 uses all GPUs that CUDA_VISIBLE_DEVICES shows; multiplies " in out
    assert "checkpoint/get_checkpoint.sh, then init=" in out and len(out.splitlines()) == len(PRETRAIN) + 1


def test_the_flags_of_the_released_retrieval(called):
    released_cli.main(["i2t", "configs", *[part for flag in RETRIEVE for part in flag.split("=", 1)]])  # --flag value
    assert called == [["retrieve", "configs/released/i2t.yaml", "direction=i2t", "data.files=./list.list_csv", "data.bank=",
                       "predict_batch_size=64", "run=./out", "init=./checkpoint/pretrained/kaleidobert.ckpt-50683"]]


def test_the_flags_of_the_released_classification():
    flags = {"task": "subcatepred", "predict_checkpoint_path": "a/ckpt-1", "pretrain_model_name_or_path": "pai-kaleidobert-base-en",
             "output_dir": "x"}
    words, lines = translate("subcat", flags)
    assert words == ["label=subcategory", "init=a/ckpt-1"] and "started from its model zoo" in lines[1]
    words, lines = translate("subcat", flags | {"pretrain_model_name_or_path": "zoo/model.ckpt"})
    assert words == ["label=subcategory", "init=zoo/model.ckpt"] and "as in the release" in lines[1]


def test_without_flags_the_scripts_are_as_before(called, capsys):
    released_cli.main(["cat", "configs", "my.yaml", "run=a"])
    released_cli.main(["cat", "configs", "data.bank=b", "run=a"])
    released_cli.main(["cat", "configs", "my.yaml", "--num_epochs", "3"])
    assert called == [["classify", "my.yaml", "run=a"], ["classify", "configs/cat.yaml", "data.bank=b", "run=a"],
                      ["classify", "my.yaml", "train.epochs=3"]]
    assert capsys.readouterr().out == "--num_epochs=3 -> train.epochs=3\n"


@pytest.mark.parametrize(("name", "words", "message"), [
    ("pretrain", ["--batch=3"], "unknown flag --batch; expected: one of --eval_input_fp, .*--workerGPU, --worker_hosts; or our own"),
    ("pretrain", ["--num_epochs"], "--num_epochs has no value"), ("pretrain", ["--num_epochs", "--mode=train"], "has no value"),
    ("pretrain", ["--num_epochs=3", "--num_epochs=4"], "given twice, as '3' and '4'"),
    ("pretrain", ["--mode=predict"], "--mode is 'predict'; expected: train_and_evaluate or train in this script"),
    ("i2t", ["--mode=train"], "expected: predict in this script"), ("i2t", ["--type=both"], "img2txt or txt2img"),
    ("i2t", ["--train_input_fp=a"], "--train_input_fp does not belong to this script"),
    ("cat", ["--predict_input_fp=a"], "does not belong"), ("pretrain", ["--task=catepred"], "does not belong"),
    ("cat", ["--workerGPU=two", "--train_batch_size=3"], "--workerGPU is 'two'")])
def test_refusals(name, words, message, capsys, called):
    with pytest.raises(UserError, match=message):
        translate(name, split(words)[0])
    assert released_cli.main([name, "configs", *words]) == 2
    assert capsys.readouterr().err.startswith(f"kaleidobert {released_cli.COMMANDS[name]}: ") and not called


@pytest.mark.parametrize("name", released_cli.COMMANDS)
def test_every_script_has_its_released_configuration(name):
    text = (ROOT / f"scripts/run_{name}.sh").read_text()
    assert f"released_cli {name} " in text and (ROOT / f"configs/released/{name}.yaml").is_file()
    for flag in (*released_cli.WORDS, *released_cli.IGNORED, *released_cli.VALUES, *released_cli.SPECIAL):
        assert flag in released_cli.KNOWN


def test_a_script_translates_and_runs(tmp_path):
    """From another folder, in the environment at hand; the files are not there, which the command says."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").write_text(f'#!/bin/sh\nexec "{os.sys.executable}" "$@"\n')
    (tmp_path / "bin/python").chmod(0o755)
    (tmp_path / "scripts").mkdir()
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "scripts/environment.sh").write_text("")
    (tmp_path / "scripts/run_i2t.sh").write_text((ROOT / "scripts/run_i2t.sh").read_text())
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", tmp_path / "scripts/run_i2t.sh", "--predict_input_fp=none.list_csv", f"run={tmp_path / 'run'}"],
                          capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert "--predict_input_fp=none.list_csv -> data.files=none.list_csv data.bank=" in done.stdout
    assert done.returncode == 2 and "none.list_csv: cannot be read" in done.stderr and "Traceback" not in done.stderr
