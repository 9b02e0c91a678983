"""Every example of docs/extending.md: its code is taken from the page and run from a catalogue to results."""

import ast
import contextlib
import html
import importlib
import io
import json
import re
import sys
import textwrap
import types
from pathlib import Path

import numpy as np
import pytest

from kaleidobert import cli
from kaleidobert.app_zoo import commands, tables
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.engines.run_folder import read_metrics
from kaleidobert.levels import PRETEXTS
from kaleidobert.preprocessors.pretexts import SPOILING
from tests.support.quick import still
from tests.support.tiny import tiny_catalogue

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
BLOCKS = {code.partition("\n")[0].lstrip("# "): code for code in re.findall(r"```(?:python|yaml)\n(.*?)```", PAGE, re.DOTALL)}
TABLES = (PRETEXTS, SPOILING, commands.TASKS, *commands.TABLES.values())
NETWORK = ("model={hidden_size: 16, num_layers: 1, num_heads: 2, intermediate_size: 16}", "train.epochs=1", "train.batch_size=10")


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The page's files in my/ and the tiny catalogue, in a folder of their own; rows that examples add go afterwards."""
    saved = [dict(table) for table in TABLES]
    (tmp_path / "my").mkdir()
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for name, code in BLOCKS.items():
        if name.endswith(".yaml"):
            (tmp_path / name).write_text(code, encoding="utf-8")
    tiny_catalogue(tmp_path / "catalogue")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for table, rows in zip(TABLES, saved):
        table.clear()
        table.update(rows)


def add_row(place: str, module: str, **more) -> None:
    """Run the code of a row where it stands according to the page."""
    exec(BLOCKS[place], {**vars(importlib.import_module(module)), **more})


def add_module(monkeypatch, name: str, code: str) -> types.ModuleType:
    """Make a module of the page's code."""
    made = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, made)
    exec(code, vars(made))
    return made


def call(*words: str) -> str:
    """What a command prints; it must succeed."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(list(words))
    assert status == 0, err.getvalue()
    return out.getvalue()


def refused(*words: str) -> str:
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        assert cli.main(list(words)) == 2
    return err.getvalue()


def records(config: str, *words: str) -> str:
    own = ("bank=bank", "source.table=catalogue/table.jsonl", "source.columns.id=id", "source.columns.group=", "encoder.name=pixels",
           "encoder.size=4")
    return call("records", config, *own, "foreground.method=border", "workers=1", *words)


def pretrain(*words: str) -> dict:
    call("pretrain", "quickstart/pretrain", "data.bank=bank", "run=pretrain", "sampling.masking=random", *NETWORK, *words)
    return json.loads(Path("pretrain/results.json").read_text())["metrics"]


def test_a_level(page):
    assert "91 patches" in records("my/records.yaml")
    assert "fine_kl" in pretrain()


def test_a_pretext(page):
    add_row("levels.py, a row of PRETEXTS", "kaleidobert.levels")
    add_row("preprocessors/pretexts.py, a row of SPOILING", "kaleidobert.preprocessors.pretexts")
    records("my/mirrored.yaml")
    bank = Bank("bank")
    own, mirrored = bank.features(np.array([0]), np.array([[0, 4]]))[0].reshape(2, 4, 4, 3)
    assert abs(own[:, ::-1] - mirrored).max() < 2e-3  # resized, then mirrored
    found = pretrain()
    assert 0 <= found["mirrored_accuracy"] <= 1 and "mirrored_loss" in found
    call("inspect", "quickstart/inspect", "data.bank=bank", "source=", "maps=", "run=pages", "checkpoint=pretrain/best.npz", "count=2")
    for result in json.loads(Path("pages/results.json").read_text())["pages"]:
        text = html.unescape((Path("pages") / result["html"]).read_text(encoding="utf-8"))
        assert "What did 'mirror' do to the patches?" in text and re.search(r"class ([01]) \(label \1 of 0 to 1\)", text)


def test_a_source(page, monkeypatch):
    made = add_module(monkeypatch, "kaleidobert.datasets.sources.folders", BLOCKS["datasets/sources/folders.py"])
    add_row("datasets/sources/__init__.py, a row of SOURCES", "kaleidobert.datasets.sources", FolderSource=made.FolderSource)
    pictures = sorted((page / "catalogue").glob("*[kt].png"))[:12]
    for number, picture in enumerate(pictures):
        folder = page / "my/pictures" / ("ties", "hats")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / picture.name).write_bytes(picture.read_bytes())
        (folder / picture.name).with_suffix(".txt").write_text(f"product {number}")
    words = ("bank=bank", "source.table=my/pictures", "source.val_fraction=0.3", "foreground.method=none", "workers=1")
    assert "12 rows read: 12 used, 0 left out" in call("records", "my/folders.yaml", *words)
    assert {row["labels"]["category"] for row in Bank("bank").table} == {"ties", "hats"}
    assert "did you mean 'folders'?" in refused("records", "my/folders.yaml", *words, "source.kind=folder")
    assert "did you mean 'source.ending'?" in refused("records", "my/folders.yaml", *words, "source.endings=.jpg")


@pytest.mark.eager
def test_an_encoder(page, untrained):
    add_row("preprocessors/encoders.py, a row of ENCODERS", "kaleidobert.preprocessors.encoders")
    assert "55 patches of 3 features" in records("quickstart/records", "encoder.name=mean_colour")
    assert Bank("bank").feature_size == 3 and Bank("bank").index["encoder"]["weights"] == ""
    assert pretrain()["itm_accuracy"] >= 0
    assert "did you mean 'mean_colour'?" in refused("records", "quickstart/records", "encoder.name=mean_color")


@pytest.mark.eager
def test_a_masking_policy(page, untrained):
    add_row("preprocessors/alignment_guided_masking.py, a row of POLICIES", "kaleidobert.preprocessors.alignment_guided_masking")
    records("quickstart/records")
    assert pretrain("sampling.masking=span")["mlm_loss"] > 0
    message = refused("pretrain", "quickstart/pretrain", "sampling.masking=spam")
    assert "sampling.masking is 'spam'" in message and "one of random, alignment_guided, span; to fix: did you mean 'span'?" in message


def test_a_label(page):
    records("my/colours.yaml")
    assert "colour" in Bank("bank").index["labels"]


@pytest.mark.plotted
def test_a_downstream_task_and_a_metric(page, monkeypatch):
    code = BLOCKS["app_zoo/text_length.py"]
    add_module(monkeypatch, "kaleidobert.app_zoo.text_length", code)
    add_row("app_zoo/commands.py, a row of TASKS", "kaleidobert.app_zoo.commands")
    records("quickstart/records")
    with monkeypatch.context() as patch:
        still(patch)
        pretrain()
    words = ("text-length", "my/text_length.yaml", "data.bank=bank", "init=pretrain/best.npz")
    assert "to train on" in call(*words, "run=runs/one", "--dry-run")
    assert "text_length mean_error: " in call(*words, "run=runs/one")
    found = json.loads(Path("runs/one/results.json").read_text())
    assert Path("runs/one/losses.png").is_file()
    assert found["metrics"].keys() == {"mean_error"}
    assert found["model"]["trained"] == "pre-trained with image-text contrast 1 epoch; text_length fine-tuned 4 epochs"
    assert found["config"]["model"]["hidden_size"] == 16  # of init: the file does not say it
    assert found["config"]["levels"] == Bank("bank").index["levels"]
    assert "- hidden_size 16 + 32" in refused(*words, "run=runs/other", "model.hidden_size=32")
    for flags in ([], ["--dry-run"]):  # what is refused is refused by a dry run, too
        uneven = refused(*words, "run=runs/other", "train.batch_size=7", "train.gradient_accumulation_steps=2", *flags)
        assert "train.batch_size is 7" in uneven and "a multiple of 2" in uneven
        random = refused(*words[:3], "init=", "from_scratch=true", "run=runs/other", *flags)
        assert "the network has no size" in random and "set model.hidden_size" in random
        assert "data.bank is not set" in refused(*words[:2], words[3], "data.bank=", f"data.files={__file__}", "run=runs/other", *flags)
    assert not Path("runs/other").exists()
    with pytest.raises(SystemExit), contextlib.redirect_stdout(io.StringIO()) as out:
        cli.main(["text-length", "--help"])
    assert "word pieces that count as 1 in the loss" in out.getvalue()

    add_module(monkeypatch, "kaleidobert.app_zoo.text_length", with_metric(code))
    still(monkeypatch)
    assert "text_length within_two: " in call(*words, "run=runs/two")
    rows = [line.cells()[3:5] for line in tables.summary(page / "runs")]
    assert rows == [("text_length", "mean_error"), ("text_length", "mean_error"), ("text_length", "within_two")]


@pytest.mark.eager
def test_a_task_of_two_outputs(page, monkeypatch):
    names = ("app_zoo/text_length.py, two outputs", "app_zoo/text_length.py, in open_task with two outputs")
    parts = [BLOCKS[name].partition("\n")[2] for name in names]
    add_module(monkeypatch, "kaleidobert.app_zoo.text_length", with_parts(BLOCKS["app_zoo/text_length.py"], *parts))
    add_row("app_zoo/commands.py, a row of TASKS", "kaleidobert.app_zoo.commands")
    records("quickstart/records")
    call("text-length", "my/text_length.yaml", "data.bank=bank", "init=", "from_scratch=true", NETWORK[0], "train.epochs=2",
         "train.batch_size=10", "train.gradient_accumulation_steps=2", "train.learning_rate=1e-2", "run=runs/two")
    found = json.loads(Path("runs/two/results.json").read_text())
    assert found["metrics"].keys() == {"mean_error", "longest_word_error"}
    rows = [row for row in read_metrics(Path("runs/two/metrics.jsonl")) if row["split"] == "train"]
    for row in rows:
        assert row["loss"] == pytest.approx(row["text_length_loss"] + 0.5 * row["longest_word_loss"], rel=1e-4)
    for name in ("text_length_loss", "longest_word_loss"):
        assert 0 < rows[-1][name] < rows[0][name]


def with_metric(code: str) -> str:
    """The task's code with the function ``metrics`` of the last section."""
    return with_parts(code, BLOCKS["app_zoo/text_length.py, in open_task"].partition("\n")[2])


def with_parts(code: str, *parts: str) -> str:
    """The task's code with the definitions of the parts in place of its own; indented ones stand in ``open_task``, and what a part has
    besides definitions stands before its functions there."""
    tree = ast.parse(code)
    for part in parts:
        body = tree.body if part[0] != " " else next(node for node in tree.body if getattr(node, "name", "") == "open_task").body
        names = [getattr(node, "name", "") for node in body]
        for node in ast.parse(textwrap.dedent(part)).body:
            if isinstance(node, ast.Assign):
                body.insert(next(k for k, name in enumerate(names) if name), node)
                names = [getattr(other, "name", "") for other in body]
            else:
                assert ast.unparse(body[names.index(node.name)]) != ast.unparse(node)
                body[names.index(node.name)] = node
    return ast.unparse(tree)


def test_every_example_of_the_page_is_run():
    """Code that no test of this module names would not be."""
    own = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in BLOCKS if name not in own] == []
    assert len(BLOCKS) == len(re.findall(r"```(?:python|yaml)\n", PAGE)) == 16
