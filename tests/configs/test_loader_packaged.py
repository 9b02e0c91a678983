"""The YAML files that come with the package: found by name, where their relative paths start, what is said of unknown names."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kaleidobert import configs
from kaleidobert.app_zoo import commands
from kaleidobert.configs import loader
from kaleidobert.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def wheel(tmp_path, monkeypatch) -> Path:
    """The files as a wheel has them, in kaleidobert/configs/yaml of a folder that is no repository; the current folder is another."""
    folder = tmp_path / "site-packages/kaleidobert/configs/yaml"
    shutil.copytree(ROOT / "configs", folder)
    monkeypatch.setattr(loader, "YAML_FOLDER", folder)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def test_the_files_have_one_home():
    assert os.readlink(ROOT / "kaleidobert/configs/yaml") == "../../configs" and loader.YAML_FOLDER == ROOT / "configs"
    if (ROOT / ".git").exists() and shutil.which("git"):
        words = ["git", "ls-files", "-s", "kaleidobert/configs/yaml"]
        listed = subprocess.run(words, cwd=ROOT, text=True, capture_output=True)
        assert listed.returncode or listed.stdout.split()[0] == "120000"


def test_every_file_has_a_name_and_every_command_with_files_knows_them():
    assert len(loader.packaged_names()) == len(list((ROOT / "configs").rglob("*.yaml"))) > 40
    assert loader.packaged_names()[0] == "ablate" and "quickstart/pretrain" in loader.packaged_names()
    by_command = [name for command in commands.every() for name in loader.packaged_of_command(command)]
    assert sorted(by_command) == sorted(loader.packaged_names())


@pytest.mark.parametrize("name", ["pretrain", "quickstart/pretrain", "table4/b_i-ii"])
def test_a_name_is_the_file_of_the_repository(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pretrain").mkdir()  # a folder is no configuration
    config = configs.load(configs.PretrainConfig, name, ["data.bank=bank"])
    assert config == configs.load(configs.PretrainConfig, ROOT / f"configs/{name}.yaml", ["data.bank=bank"])
    assert config.run.is_relative_to(ROOT / "runs") and config.data.bank == tmp_path / "bank"


def test_a_file_wins_over_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pretrain").write_text("run: mine\ndata: {bank: b}\n")
    assert configs.load(configs.PretrainConfig, "pretrain").run == tmp_path / "mine"


def test_relative_paths_of_a_wheels_files_start_at_the_current_folder(wheel, tmp_path):
    here = tmp_path / "here"
    for path in ("quickstart/pretrain", wheel / "quickstart/pretrain.yaml"):  # with two bases below it
        config = configs.load(configs.PretrainConfig, path)
        assert (config.run, config.data.bank) == (here / "runs/quickstart/pretrain", here / "runs/quickstart/bank")
        assert config.model.hidden_size == 96 and config.held_out == 0
    assert configs.load(configs.RetrieveConfig, "released/t2i").run == here / "runs/released/t2i"
    (here / "my.yaml").write_text(f"base: {wheel}/quickstart/pretrain.yaml\nrun: runs/mine\n")
    config = configs.load(configs.PretrainConfig, "my.yaml")
    assert (config.run, config.data.bank) == (here / "runs/mine", here / "runs/quickstart/bank")


@pytest.mark.parametrize("word, fix", [
    ("pretrian", "did you mean pretrain"), ("quickstart/pretrian", "did you mean quickstart/pretrain"), ("small/caption", "small/caption"),
    ("configs/pretrain", "did you mean .*pretrain"), ("nonsense of mine", "one of catalogue_small/, quickstart/, released/, table4/$"),
    ("../configs/pretrain", "pretrain"), ("", "a YAML file"), (".", "a YAML file")])
def test_unknown_names(word, fix, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no configuration named") as raised:
        configs.load(configs.PretrainConfig, word)
    message = str(raised.value)
    assert "expected: a YAML file, one of ablate, align, caption, " in message and len(message.splitlines()) == 1
    assert raised.match(fix)


@pytest.mark.parametrize("path, name", [("configs/pretrain.yaml", "such as pretrain$"),
                                        ("configs/quickstart/pretrain.yaml", "such as quickstart/pretrain$"),
                                        ("my/configs/t2i.yaml", "such as t2i$"), ("zzz.yaml", "such as pretrain$"),
                                        ("quickstart/cat.yml", "such as cat$")])
def test_a_path_of_the_repository_where_there_is_none_is_told_its_name(wheel, path, name):
    with pytest.raises(UserError, match="there is no such configuration file") as raised:
        configs.load(configs.PretrainConfig, path)
    assert raised.match(name)
