"""``kaleidobert catalogue check`` and ``catalogue run``: faults of every kind, the plan by the size, and all stages of a tiny catalogue."""

import contextlib
import doctest
import io
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image

from kaleidobert import cli
from kaleidobert.app_zoo import processes
from kaleidobert.app_zoo.catalogue import check, examination, run, sizing
from kaleidobert.app_zoo.catalogue.examination import examine
from kaleidobert.configs import Columns
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sources import reading
from kaleidobert.datasets.sources.table import TableSource
from kaleidobert.errors import UserError
from tests.support.tiny import draw, tiny_catalogue

KINDS = ("bag", "shirt", "hat")


def said(*words: str) -> tuple[int, str, str]:
    """A command line in this process: its status and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(list(words))
    return status, out.getvalue(), err.getvalue()


def picture(path, number: int, size: int = 96) -> None:
    """A picture that is like no other."""
    blocks = np.random.default_rng(number).integers(0, 256, (6, 6, 3), np.uint8)
    Image.fromarray(blocks).resize((size, size), Image.Resampling.NEAREST).save(path)


def shop(folder, count: int = 60, extra: str = "", skip=()) -> TableSource:
    """A table whose columns have to be guessed, and its pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["SKU;Product name;Kind;Photo"]
    for number in range(count):
        lines.append(f"A{number};fine {KINDS[number % 3]} number {number};{KINDS[number % 3]};{number}.png")
        if number not in skip:
            picture(folder / f"{number}.png", number)
    (folder / "export.csv").write_text("\n".join(lines) + "\n" + extra, encoding="utf-8")
    return TableSource(folder / "export.csv")


def by_what(own: examination.Examination) -> dict[str, examination.Finding]:
    return {one.what: one for one in own.findings}


# --- check


def test_columns_of_an_unknown_table_are_guessed_and_shown(tmp_path):
    own = examine(shop(tmp_path))
    assert [(row[0], row[1]) for row in own.columns] == [("id", "SKU"), ("image", "Photo"), ("text", "Product name"),
                                                        ("split", "drawn by the group"), ("label Kind", "Kind")]
    assert "A0, A1, A2" in check.columns(own) and check.findings([]) == "nothing was found that is wrong"
    assert list(by_what(own)) == ["products to judge by: every figure has a wide interval"]
    assert "30% of the groups are val" in check.columns(own)
    assert own.facts()["labels"] == {"Kind": {"classes": 3, "rare": 0, "only_val": 0, "usable": True}}


def test_every_kind_of_fault_is_found_and_the_counts_add_up(tmp_path):
    extra = ("A1;another text;bag;2.png\n;no id here;bag;3.png\nB1;;bag;4.png\nB2;a lost picture;bag;nowhere.png\n"
             "B3;a broken one;bag;broken.png\nB4;a very small one;bag;small.png\nB5;the copy of five;cap;copy.png\n"
             "B6;fine bag number 6;bag;6b.png\nB7;too;many;cells;here\n")
    source = shop(tmp_path, extra=extra)
    (tmp_path / "broken.png").write_bytes((tmp_path / "1.png").read_bytes()[:100])
    picture(tmp_path / "small.png", 100, 20)
    picture(tmp_path / "copy.png", 5, 72)
    picture(tmp_path / "6b.png", 101)
    own = examine(source)
    found = by_what(own)
    lost = {one.what: one.count for one in own.findings if one.severity == "loses"}
    assert sum(lost.values()) + len(own.products) == own.reading.rows == 69 and len(lost) == 6, lost
    assert found["products have nearly the same picture as another product: they stay in one split"].examples == ("A5 / B5",)
    assert found["products have the text of another product: they stay in one split"].examples == ("A6 / B6",)
    assert own.joined == {"B5": "A5", "B6": "A6"}
    assert found["label Kind: classes with fewer than 5 training pictures"].examples == ("cap",)
    assert found["pictures whose shorter side has fewer than 64 pixels"].count == 1
    severities = [one.severity for one in own.findings]
    assert severities == sorted(severities, key=list(examination.MEANINGS).index)
    shown = check.findings(own.findings)
    assert "1 x the picture cannot be decoded" in shown and "B3" in shown and "loses: left out of the bank" in shown


def test_duplicates_across_a_given_split_are_leaks(tmp_path):
    source = shop(tmp_path)
    lines = (tmp_path / "export.csv").read_text().splitlines()
    lines = [lines[0] + ";split"] + [f"{line};{'val' if number % 5 == 4 else 'train'}" for number, line in enumerate(lines[1:])]
    (tmp_path / "export.csv").write_text("\n".join(lines) + "\n")
    picture(tmp_path / "4.png", 0)  # val, as 0 of train
    own = examine(source)
    leaks = [one for one in own.findings if one.severity == "leaks"]
    assert [(one.count, one.examples) for one in leaks] == [(1, ("A0 / A4",))] and own.joined == {}


def test_the_page_and_the_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shop(tmp_path / "my", extra="B5;the copy of <five>;bag;copy.png\n", skip=(7,))
    picture(tmp_path / "my/copy.png", 5, 72)
    status, out, err = said("catalogue", "check", "my/export.csv", "sheet=4")
    assert status == 0 and "kaleidobert catalogue run" in out and "61 rows read: 60 pictures can be used, 1 cannot" in out
    folder = tmp_path / "runs/export/check"
    page = (folder / "index.html").read_text()
    assert page.count("data:image/jpeg") == 4 and "Loses" in page and not re.search(r'(src|href)="http', page)
    written = yaml.safe_load((folder / "records.yaml").read_text())
    assert written["source"]["columns"]["labels"] == {"Kind": "Kind"} and written["source"]["val_fraction"] == 0.3
    assert json.loads((folder / "groups.json").read_text()) == {"B5": "A5"}
    status, out, err = said("records", str(folder / "records.yaml"), "encoder.name=pixels", "--dry-run")
    assert status == 0 and "60 used, 1 left out" in out
    source = TableSource(tmp_path / "my/export.csv", examine(TableSource(tmp_path / "my/export.csv")).source.columns,
                         groups=folder / "groups.json")
    products = {product.product_id: product for product in reading.read(source)[0]}
    assert products["B5"].group == "A5" and products["B5"].split == products["A5"].split


def test_what_cannot_be_guessed_is_asked_for(tmp_path):
    (tmp_path / "t.csv").write_text("n,size\n1,2\n2,3\n")
    status, _, err = said("catalogue", "check", str(tmp_path / "t.csv"))
    assert status == 2 and "no column looks like image or text" in err and "source.columns.image=COLUMN" in err
    status, _, err = said("catalogue", "check", str(tmp_path / "none.csv"))
    assert status == 2 and "there is no such table" in err


def test_a_table_without_rows_says_so(tmp_path):
    (tmp_path / "t.csv").write_text("id,title,image\n")
    status, _, err = said("catalogue", "check", str(tmp_path / "t.csv"), f"run={tmp_path / 'run'}")
    assert status == 2 and "the table has no rows" in err


def test_where_no_picture_can_be_used_the_reasons_are_written_and_the_status_says_it(tmp_path):
    source = shop(tmp_path, 20)
    for path in tmp_path.glob("*.png"):
        path.write_bytes(b"no picture")
    status, out, err = said("catalogue", "check", str(source.table), f"run={tmp_path / 'run'}")
    assert status == 2 and "20 x the picture cannot be decoded" in out and "no picture can be used" in err
    assert (tmp_path / "run/check/index.html").is_file()


def test_names_with_the_signs_of_an_account_are_counted(tmp_path):
    """Lines such as "reason x 3: places" must not be taken apart again."""
    source = shop(tmp_path)
    text = source.table.read_text().replace("A3;", "dress x 3: large;").replace("A4;", "dress x 4;")
    source.table.write_text(text)
    for number in (3, 4):
        (tmp_path / f"{number}.png").unlink()
    own = examine(TableSource(source.table, Columns("SKU", "Photo", ("Product name",))))
    assert by_what(own)["there is no such picture"].count == 2


@pytest.mark.parametrize("cells, taken", [(("Training", "training", "Validation"), True), (("train", "", "foo"), False),
                                          (("train", "test", "test"), False)])
def test_a_column_of_splits_is_taken_or_said_to_be_none(tmp_path, cells, taken):
    source = shop(tmp_path)
    lines = source.table.read_text().splitlines()
    order = sorted(range(60), key=lambda number: number % 3)  # the first rows are all of one split
    source.table.write_text("\n".join([f"{lines[0]};split", *(f"{lines[n + 1]};{cells[n % 3]}" for n in order)]) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examination, "LOOKED_AT", 10)
        patch.setattr(examination.guessing, "ROWS_PER_CLASS", 1)
        own = examine(source)
    assert {product.split for product in own.products} == {"train", "val"} and "split" not in own.source.columns.labels
    assert own.source.columns.split == ("split" if taken else "")
    assert taken == (not any("the column 'split' is not taken as the split" in line for line in own.found))


def test_addresses_show_no_passwords_and_no_queries(tmp_path):
    lines = "".join(f"A{n},fine bag number {n},https://{'me:HIDDEN@' * (n % 2)}cdn.invalid/{n}.jpg?sig=HIDDEN\n" for n in range(30))
    (tmp_path / "t.csv").write_text(f"id,title,image\n{lines}")
    status, out, err = said("catalogue", "check", str(tmp_path / "t.csv"), f"run={tmp_path / 'run'}", "sheet=0")
    assert status == 0 and "cdn.invalid/0.jpg" in out, err
    written = "".join((tmp_path / "run/check" / name).read_text() for name in ("index.html", "results.json"))
    assert "HIDDEN" not in out + err + written


def test_the_printed_command_goes_on_from_this_check(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = shop(tmp_path / "m\u00fcller & co")
    words = [str(source.table), "source.columns.labels={}", "run=my run", "sheet=0"]
    status, out, _ = said("catalogue", "check", *words)
    command = shlex.split(next(line for line in out.splitlines() if "all of it:" in line).partition("kaleidobert ")[2])
    assert status == 0 and command[:3] == ["catalogue", "run", str(source.table)] and f'run="{tmp_path / "my run"}"' in command
    status, out, err = said(*command, "--dry-run")
    assert status == 0 and "about" in out, err


def test_groups_that_are_given_stay_joined(tmp_path):
    source = shop(tmp_path)
    picture(tmp_path / "7.png", 5)
    (tmp_path / "groups.json").write_text('{"A1": "A5", "A2": "A7"}')
    words = [str(source.table), f"source.groups={tmp_path / 'groups.json'}", f"run={tmp_path / 'run'}", "sheet=0"]
    assert said("catalogue", "check", *words)[0] == 0
    assert json.loads((tmp_path / "run/check/groups.json").read_text()) == {"A1": "A5", "A2": "A5", "A7": "A5"}
    (tmp_path / "groups.json").write_text('["A1"]')
    status, _, err = said("catalogue", "check", *words)
    assert status == 2 and "holds no groups" in err


def test_val_is_never_empty_where_there_are_two_groups(tmp_path):
    for count in range(2, 12):
        products = reading.read(examine(shop(tmp_path / str(count), count)).source)[0] if count > 6 else _few(tmp_path, count)
        assert {product.split for product in products} == {"train", "val"}, count


def _few(folder, count: int):
    (folder / "t.csv").write_text("id,image,text\n" + "".join(f"x{n},{n}.png,words of {n}\n" for n in range(count)))
    from kaleidobert.configs import Columns

    return reading.read(TableSource(folder / "t.csv", Columns("id", "image", ("text",))))[0]


# --- the dial


def facts(train: int, val: int = 50, labels: int = 2, usable: bool = True, words: float = 12.0) -> dict:
    return {"splits": {"train": train, "val": val}, "words": {"mean": 8.0, "p95": words, "max": 90}, "different_texts": train,
            "labels": {f"l{n}": {"classes": 5 + n, "rare": 0, "only_val": 0, "usable": usable} for n in range(labels)}}


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(sizing.builder, "gpus", lambda: [])
    monkeypatch.setattr(sizing, "rate", lambda: sizing.REFERENCE)


def test_more_pictures_take_longer_and_fewer_epochs(no_gpu):
    seconds, epochs = [], []
    for train in (100, 1000, 1999, 2000, 10_000, 100_000):
        planned = sizing.plan(facts(train), "auto", ())
        seconds.append(planned.seconds)
        words = next(stage for stage in planned.stages if stage.name == "pretrain").words
        epochs.append(int(next(word for word in words if word.startswith("train.epochs")).partition("=")[2]))
    assert seconds == sorted(seconds) and epochs == sorted(epochs, reverse=True) and epochs[-1] >= 2


def test_longer_texts_take_longer(no_gpu):
    short, long = (sizing.plan(facts(1000, words=words), "small", ()).seconds for words in (20.0, 60.0))
    assert long > 1.1 * short


@pytest.mark.parametrize("given, names, skipped", [
    (facts(500), ["records", "align", "pretrain", "label-l0", "label-l1", "i2t", "t2i", "caption", "inspect", "index"], set()),
    (facts(500, labels=0), ["records", "align", "pretrain", "i2t", "t2i", "caption", "inspect", "index"], {"labels"}),
    (facts(500, usable=False), ["records", "align", "pretrain", "i2t", "t2i", "caption", "inspect", "index"], {"label-l0", "label-l1"}),
    (facts(500, val=1), ["records", "align", "pretrain", "label-l0", "label-l1", "caption", "inspect", "index"], {"retrieval"}),
    (facts(12), ["records", "pretrain", "label-l0", "label-l1", "i2t", "t2i", "caption", "inspect", "index"], {"align"}),
], ids=["all", "no labels", "no label that can be learnt", "one picture to judge by", "few pictures"])
def test_what_cannot_be_done_is_left_out_and_said(no_gpu, given, names, skipped):
    planned = sizing.plan(given, "auto", ())
    assert [stage.name for stage in planned.stages] == names and set(planned.skipped) == skipped and all(planned.skipped.values())


def test_every_size_makes_configurations_that_load(no_gpu, tmp_path):
    (tmp_path / "check").mkdir()
    (tmp_path / "check/records.yaml").write_text("base: catalogue_small/records\nbank: b\nsource: {table: t.csv, columns: {labels: {}}}\n")
    (tmp_path / "check/results.json").write_text('{"products": "of these"}')
    config = run.CatalogueRunConfig(TableSource(tmp_path / "t.csv"), tmp_path, words={"pretrain": ("train.epochs=3",)})
    for size in sizing.SIZES:
        steps = {step.name: step for step in run.steps(config, sizing.plan(facts(500), size, ("l1",)))}
        assert steps["pretrain"].config.train.epochs == 3 and steps["i2t"].config.init == tmp_path / "pretrain/best.npz"
        assert steps["t2i"].config.init == tmp_path / "i2t/best.npz" and steps["label-l1"].config.label == "l1"
        assert steps["records"].config.bank == tmp_path / "bank" and steps["i2t"].config.matching == steps["t2i"].config.matching
        assert steps["pretrain"].config.sampling.subcategory == "l1"


def test_labels_have_folders_of_their_own_whatever_they_are_called(no_gpu):
    given = facts(500, labels=0) | {"labels": {name: {"classes": 3, "rare": 0, "only_val": 0, "usable": True}
                                               for name in ("Type / Material", "Type/Material", "größe")}}
    names = [stage.name for stage in sizing.plan(given, "auto", ()).stages if stage.command == "classify"]
    assert names == ["label-Type_Material", "label-Type_Material-2", "label-größe"]


def test_words_of_no_stage_are_refused(tmp_path, no_gpu):
    (tmp_path / "check").mkdir(parents=True)
    (tmp_path / "check/results.json").write_text(json.dumps({"facts": facts(100)}))
    (tmp_path / "t.csv").write_text("id\n")
    with pytest.raises(UserError, match="words is 'pretain'.*did you mean 'pretrain'"):
        run.dry_run(run.CatalogueRunConfig(TableSource(tmp_path / "t.csv"), tmp_path, words={"pretain": ()}))


def test_labels_that_cannot_be_learnt_tell_negatives_apart_all_the_same(no_gpu):
    """A bank with labels refuses a subcategory of no name."""
    words = {stage.name: stage.words for stage in sizing.plan(facts(30, usable=False), "auto", ()).stages}
    assert 'sampling.subcategory="l1"' in words["pretrain"] and 'subcategory="l1"' in words["i2t"]


def test_labels_that_are_named_are_not_left_out(no_gpu):
    planned = sizing.plan(facts(500, labels=3, usable=False), "auto", ("l1",))
    assert "label-l1" in {stage.name for stage in planned.stages} and set(planned.skipped) == {"label-l0", "label-l2"}


def test_the_run_itself_loads_no_network_library():
    """It would hold its memory, and a GPU, beside every stage."""
    code = "import sys, kaleidobert.app_zoo.catalogue.run; sys.exit('keras' in sys.modules or 'tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_size_whose_times_were_never_measured_names_none(no_gpu, tmp_path):
    (tmp_path / "check").mkdir()
    (tmp_path / "check/records.yaml").write_text("base: catalogue_small/records\nbank: b\nsource: {table: t.csv, columns: {labels: {}}}\n")
    (tmp_path / "check/results.json").write_text('{"products": "of these"}')
    config = run.CatalogueRunConfig(TableSource(tmp_path / "t.csv"), tmp_path)
    for size, words in (("base", "never measured"), ("small", "; about ")):
        planned = sizing.plan(facts(500), size, ())
        assert words in run.describe(planned, run.steps(config, planned)).splitlines()[0]


@pytest.mark.parametrize("continued", [False, True])
def test_what_is_left_follows_from_what_the_others_took(tmp_path, monkeypatch, capsys, continued):
    """The estimates are off by a factor: 100, 200 and 300 seconds are 250, 500 and 750."""
    clock = [0.0]
    steps = [processes.Step(name, name, tmp_path / name, tmp_path / name / "done", (), ("none",), seconds=seconds)
             for name, seconds in (("one", 100.0), ("two", 200.0), ("three", 300.0))]

    def start(step, environment):
        processes.claim(step)
        if step.name == "three" and not continued:
            raise KeyboardInterrupt
        step.folder.mkdir(exist_ok=True)
        step.done.touch()
        step.log.touch()
        ends = iter([clock[0] + 2.5 * step.seconds])

        def poll() -> int:
            clock[0] = next(ends)
            return 0

        return SimpleNamespace(poll=poll, returncode=0, wait=lambda: 0, pid=0)

    monkeypatch.setattr(processes, "start", start)
    monkeypatch.setattr(processes, "time", SimpleNamespace(sleep=lambda seconds: None, monotonic=lambda: clock[0]))
    if continued:
        steps[1].folder.mkdir()
        (steps[1].folder / "last.npz").touch()  # what is there of it takes no time any more
        processes.run_all(steps, 1)
        assert json.loads(steps[0].took.read_text()) == {"seconds": 250.0} and not steps[1].took.exists()
    else:
        with pytest.raises(KeyboardInterrupt):
            processes.run_all(steps, 1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == ["[1/3] one ... 250 s; about 21 min left", "[2/3] two ... 500 s; about 12 min left"]
    assert processes.pace(steps) == 2.5  # of a later call, too
    planned = sizing.Sizing("small", "as set", (), {})
    assert ("about 12 min, by what the others took:" in run.describe(planned, steps)) != continued


def test_docstrings():
    for module in (sizing, processes):
        assert doctest.testmod(module).attempted and not doctest.testmod(module).failed


# --- all of it


@pytest.fixture
def in_this_process(monkeypatch):
    """Stages run in this process. names: of those that ran."""
    names = []

    def start(step, environment):
        processes.claim(step)
        names.append(step.name)
        status, out, err = said(*step.words[1:])
        step.log.write_text(out + err)
        return SimpleNamespace(poll=lambda: status, returncode=status, wait=lambda: status, pid=0)

    monkeypatch.setattr(processes, "start", start)
    monkeypatch.setattr(processes, "PAUSE", 0)
    return names


SHORT = "words=" + json.dumps({
    "records": ["encoder={name: pixels, size: 8}", "foreground.method=border"], "align": ["word_presence.epochs=1"],
    "pretrain": ["train.epochs=1", "model={hidden_size: 16, num_layers: 1, num_heads: 2, intermediate_size: 16}"],
    "classify": ["train.epochs=1", "baselines=false"], "retrieve": ["dual_encoder.epochs=1", "train.epochs=1"],
    "caption": ["train.epochs=1"], "inspect": ["count=1"]})


def test_a_bank_alone_follows_the_table_and_trainings_do_not(tmp_path):
    for name in ("check", "bank", "pretrain"):
        (tmp_path / name).mkdir()
    (tmp_path / "bank.yaml").touch()
    for path in ("bank/index.json", "bank/work.json", "pretrain/last.npz"):
        (tmp_path / path).touch()
    io_results = tmp_path / "check/results.json"
    io_results.write_text('{"products": "first"}')
    run._check_products(tmp_path)
    io_results.write_text('{"products": "second"}')
    with pytest.raises(UserError, match="those of which pretrain was made.*run=.*or delete pretrain there.*only the pictures that are new"):
        run._check_products(tmp_path)
    (tmp_path / "pretrain/last.npz").unlink()
    run._check_products(tmp_path)
    left = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["index.json", "made_of.json", "results.json", "work.json"]  # a bank that is there still opens


def test_a_table_that_is_refused_leaves_the_bank_and_a_mended_one_goes_on(tmp_path, in_this_process, no_gpu, monkeypatch):
    shop(tmp_path, 40)
    table, bank = tmp_path / "export.csv", tmp_path / "run/bank"
    whole = table.read_text().splitlines()
    own = "words=" + json.dumps({"records": ["encoder={name: pixels, size: 8}", "foreground.method=border"]})
    words = ["catalogue", "run", str(table), f"run={tmp_path / 'run'}", "sheet=0", own]
    plan = sizing.plan
    monkeypatch.setattr(sizing, "plan", lambda *given: replace(plan(*given), stages=plan(*given).stages[:1], skipped={}))
    monkeypatch.setattr(run, "_report", lambda *_: None)
    # a table that is written anew is checked anew
    expected = [(whole, 0, 40, ["check", "records"]), (whole, 0, 40, ["check"]), (whole[:14], 2, 40, ["check", "records"]),
                (whole[:14], 2, 40, ["check", "records"]), (whole[:31], 0, 30, ["check", "records"]), (whole[:31], 0, 30, ["check"])]
    for lines, status, size, ran in expected:
        in_this_process.clear()
        table.write_text("\n".join(lines) + "\n")
        found, out, err = said(*words)
        assert found == status and ("are not in the table" in err) == bool(status), err
        assert in_this_process == ran and Bank(bank).size == size


def test_a_stage_that_was_killed_is_of_no_state(tmp_path):
    """What it had put in place is of the new state, and the mark would be of the old one."""
    step = processes.Step("records", "records", tmp_path / "bank", tmp_path / "bank/index.json", (), ("none",), made_of="old")
    (tmp_path / "bank").mkdir()
    step.done.touch()
    assert not step.is_done() and step.has_result()
    step.mark.write_text("old")
    assert step.is_done() and not replace(step, made_of="new").is_done()
    processes.claim(replace(step, made_of="new"))
    assert not step.is_done()


@pytest.mark.slow
@pytest.mark.eager
def test_from_a_table_to_a_report(tmp_path, in_this_process, no_gpu, untrained):
    source = tiny_catalogue(tmp_path / "shop", 48)
    columns = "source.columns={id: id, image: image, text: [text], view: [view], split: split, labels: {category: category}}"
    words = ["catalogue", "run", str(source.table), f"run={tmp_path / 'run'}", columns, "sheet=2", SHORT]
    status, out, err = said(*words)
    assert status == 0, err + out
    assert in_this_process == ["check", "records", "align", "pretrain", "label-category", "i2t", "t2i", "caption", "inspect", "index"]
    assert "size small" in out and "report card" in out
    for name in ("check/index.html", "report.html", "pages/index.html", "tables.md", "catalogue.json"):
        assert (tmp_path / "run" / name).is_file() and str(tmp_path / "run") in out
    in_this_process.clear()
    status, again, err = said(*words)
    assert status == 0, err
    assert in_this_process == [] and "done" in again
    os.utime(source.table)  # touched, and the same
    status, again, err = said(*words)
    assert status == 0 and in_this_process == ["check"], err
    source.table.write_text(source.table.read_text().replace("text\": \"", "text\": \"another ", 1))
    for _ in range(2):
        status, again, err = said(*words)
        assert status == 2 and "the products are others than those of which" in err and "run=" in err


@pytest.mark.slow
@pytest.mark.eager
def test_twelve_pictures_go_to_the_end(tmp_path, in_this_process, no_gpu):
    folder = tmp_path / "shop"
    folder.mkdir()
    for number in range(12):
        draw(folder / f"{number}.png", folder / f"{number}-mask.png", number, "front")
    (folder / "t.csv").write_text("id,image,text\n" + "".join(f"p{n},{n}.png,a thing that is number {n}\n" for n in range(12)))
    status, out, err = said("catalogue", "run", str(folder / "t.csv"), f"run={tmp_path / 'run'}", "sheet=0", SHORT)
    assert status == 0, err
    assert "align" not in in_this_process and "no column is a label" in out and "training pictures: no word stands in enough texts" in out


def test_what_is_no_table_is_said_at_once_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = said("catalogue", "run", "none.csv")
    assert status == 2 and "none.csv: there is no such table" in err and not any(tmp_path.iterdir())
    for words in ((), ("sheet=0",)):
        status, _, err = said("catalogue", "check", *words)
        assert status == 2 and "no table is named" in err and "catalogue check my/products_export.csv" in err
    shop(tmp_path / "a=b")
    status, out, err = said("catalogue", "check", "a=b/export.csv", "sheet=0")
    assert status == 0 and "60 rows read" in out, err


def test_a_check_that_fails_names_no_words_that_it_does_not_have(tmp_path, in_this_process):
    (tmp_path / "t.csv").write_text("n,size\n1,2\n")
    status, _, err = said("catalogue", "run", str(tmp_path / "t.csv"), f"run={tmp_path / 'run'}")
    assert status == 2 and "no column looks like image or text" in err and "words.check" not in err


def test_a_dry_run_says_what_comes_first(tmp_path):
    shop(tmp_path)
    status, out, _ = said("catalogue", "run", str(tmp_path / "export.csv"), f"run={tmp_path / 'run'}", "--dry-run")
    assert status == 0 and "first: kaleidobert catalogue check" in out and not (tmp_path / "run").exists()
