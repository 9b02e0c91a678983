"""``kaleidobert predict``: the answers are those of ``kaleidobert.load``, none is lost or made twice, and bad pictures get their reason."""

import contextlib
import io as streams
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

import kaleidobert
from kaleidobert import cli, configs
from kaleidobert.app_zoo import predict
from tests.support.apps_data import TRAIN, Done, World, call
from tests.support.quick import still
from tests.support.tables import TWO
from tests.support.tiny import tiny_bank

pytestmark = [pytest.mark.slow, pytest.mark.eager]

ONCE = replace(TRAIN, epochs=1)
ALL = "answers=[labels,caption,match,picture_vector,text_vector]"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    """A bank and finished runs, hardly trained: a label from both sides, one from pictures, one from texts, a matcher, a captioner."""
    folder = tmp_path_factory.mktemp("predict")
    world = World(folder, TWO, tiny_bank(folder, TWO))
    own = {"init": None, "from_scratch": True, "train": ONCE}
    for name, config in (
        ("classify", world.classify("runs/both", **own)),
        ("classify", world.classify("runs/image", label="subcategory", modality="image", **own)),
        ("classify", world.classify("runs/text", label="colour", modality="text", **own)),
        ("retrieve", world.retrieve("runs/i2t", 1, matching=configs.Matching("dual_encoder", "listwise", 2, width=8), dual_encoder=TRAIN,
                                    init=None, from_scratch=True)),
        ("caption", world.caption("runs/caption", mode="causal", held_out=0.0, **own)),
    ):
        with pytest.MonkeyPatch.context() as patch:
            still(patch)
            (folder / "runs").mkdir(exist_ok=True)
            done = call(name, config)
        assert done.status == 0, done.err
    return world


def told(*words: str) -> Done:
    """The command line in this process."""
    out, err = streams.StringIO(), streams.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(["predict", *map(str, words)])
    return Done(status, out.getvalue(), err.getvalue())


def asked(world: World, out: Path, *words: str) -> Done:
    """What is said of the tiny catalogue."""
    columns = json.dumps(configs.to_dict(world.source.columns))
    return told(world.folder / "runs", world.source.table, f"source.columns={columns}", f"out={out}", "chunk=10", *words)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def answered(world) -> Path:
    """The answers about the tiny catalogue as JSON lines."""
    out = world.folder / "answers.jsonl"
    done = asked(world, out, ALL, "top=2")
    assert done.status == 0, done.err
    assert f"{len(world.bank.table)} pictures: {len(world.bank.table)} answered, 0 left out" in done.out and not out.with_name(
        "answers.jsonl.parts").exists()
    return out


def test_answers_are_those_of_load(world, answered):
    model, table = kaleidobert.load(world.folder / "runs"), world.bank.table
    rows = lines(answered)
    assert [row["image_id"] for row in rows] == [row["image_id"] for row in table]
    texts, read = world.bank.column("text").tolist(), model.read([row["image_path"] for row in table])
    expected = model.classify(read, texts, top=2)
    for row, answer in zip(rows, expected):
        for label, classes in answer.items():
            assert [one["class"] for one in row["labels"][label]] == [name for name, _ in classes]
            assert [one["probability"] for one in row["labels"][label]] == pytest.approx([value for _, value in classes], abs=1e-6)
    assert [row["caption"] for row in rows] == model.caption(read)
    assert [row["match"] for row in rows] == pytest.approx(model.match(read, texts).tolist(), abs=1e-6)
    np.testing.assert_allclose([row["picture_vector"] for row in rows], model.embed(read), atol=1e-6)
    np.testing.assert_allclose([row["text_vector"] for row in rows], model.embed(texts=texts), atol=1e-6)


def test_parquet_holds_the_same(world, answered):
    out = world.folder / "answers.parquet"
    assert asked(world, out, ALL, "top=2").status == 0
    for row, expected in zip(pyarrow.parquet.read_table(out).to_pylist(), lines(answered), strict=True):
        assert row["fault"] is None and row["labels"].keys() == expected["labels"].keys()
        assert row["caption"] == expected["caption"] and row["match"] == pytest.approx(expected["match"], abs=1e-6)
        np.testing.assert_allclose(row["picture_vector"], expected["picture_vector"], atol=1e-6)


@pytest.mark.parametrize("after", ["out.jsonl", "out.jsonl.info.json"])
def test_one_that_is_killed_at_its_last_files_ends_at_the_next_call(world, monkeypatch, tmp_path, after):
    replaced, out = os.replace, tmp_path / "out.jsonl"

    def killed(source, target):
        replaced(source, target)
        if Path(target).name == after:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    assert asked(world, out, "answers=[labels]").status == 130 and out.with_name("out.jsonl.parts").is_dir()
    monkeypatch.undo()
    monkeypatch.setattr(predict, "_answer", pytest.fail)
    done = asked(world, out, "answers=[labels]")
    assert done.status == 0, done.err
    assert len(lines(out)) == len(world.bank.table) and {path.name for path in tmp_path.iterdir()} == {"out.jsonl", "out.jsonl.info.json"}


def test_of_two_at_once_neither_overwrites_the_other(world, monkeypatch, tmp_path):
    out, locked = tmp_path / "out.jsonl", predict.io.locked

    @contextlib.contextmanager
    def faster(folder, **options):
        if not out.exists():
            out.write_text("of another question")
            out.with_name("out.jsonl.info.json").write_text('{"identity": {}}')
        with locked(folder, **options):
            yield

    monkeypatch.setattr(predict.io, "locked", faster)
    refused = asked(world, out, "answers=[labels]")
    assert refused.status == 2 and "there already" in refused.err and out.read_text() == "of another question"


@pytest.mark.parametrize("name", ["again.jsonl", "again.parquet"])
def test_an_interrupted_run_continues_without_loss_or_double(world, monkeypatch, name):
    whole, out, answer, seen = world.folder / f"whole-{name}", world.folder / name, predict._answer, []
    assert asked(world, whole, "answers=[labels]").status == 0

    def breaks(task, chunk):
        seen.extend(product.image_id for product in chunk)
        if len(seen) == 20:
            raise KeyboardInterrupt
        return answer(task, chunk)

    monkeypatch.setattr(predict, "_answer", breaks)
    assert asked(world, out, "answers=[labels]").status == 130 and not out.exists()
    refused = asked(world, out, "answers=[caption]")
    assert refused.status == 2 and "of other answers" in refused.err and "delete" in refused.err
    assert asked(world, out, "answers=[labels]").status == 0
    assert len(seen) == len(world.bank.table) + 10 and out.read_bytes() == whole.read_bytes()  # the broken chunk was asked twice
    done = asked(world, out, "answers=[labels]")
    assert done.status == 0 and "answered by the same runs before" in done.out and len(seen) == len(world.bank.table) + 10
    refused = asked(world, out, "answers=[labels]", "top=1")
    assert refused.status == 2 and "of other top" in refused.err and out.read_bytes() == whole.read_bytes()


def test_every_row_and_picture_that_cannot_be_used_has_its_reason(world, answered):
    folder = world.folder / "damaged"
    shutil.copytree(world.folder / "catalogue", folder)
    rows = lines(folder / "table.jsonl")
    (folder / rows[1]["image"]).write_bytes(b"")
    (folder / rows[4]["image"]).unlink()
    rows[6]["id"] = ""
    rows[8]["text"] = ""
    (folder / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = json.dumps(configs.to_dict(world.source.columns))
    out = folder / "out.jsonl"
    words = [world.folder / "runs", folder / "table.jsonl", f"source.columns={columns}", f"out={out}", ALL, "chunk=10", "top=2"]
    done = told(*words, "max_skipped=0.5")
    assert done.status == 0, done.err
    said, before = lines(out), lines(answered)
    assert len(said) == len(rows) and f"{len(rows)} pictures: {len(rows) - 3} answered, 3 left out" in done.out
    faults = {row["image_id"]: row["fault"] for row in said if "fault" in row}
    assert list(faults.values()) == ["the picture file is empty (0 bytes)", "there is no such picture",
                                     "table.jsonl, line 7: no id in column 'id'"]
    bare = next(row for row in said if row["image_id"] == before[8]["image_id"])
    assert bare["match"] is None and bare["text_vector"] is None and list(bare["labels"]) == ["category", "subcategory"]
    assert "1 have no text" in done.out and bare["picture_vector"] == pytest.approx(before[8]["picture_vector"], abs=1e-5)
    same = [row for row in said if "fault" not in row and row["image_id"] != bare["image_id"]]
    by_name = {row["image_id"]: row for row in before}
    assert len(same) == len(rows) - 4
    assert all(row["match"] == pytest.approx(by_name[row["image_id"]]["match"], abs=1e-5) for row in same)
    out = folder / "again.jsonl"
    for _ in range(2):  # what was left out is told again where nothing is left to do
        done = told(*words, f"out={out}", "answers=[match]", "max_skipped=0.01")
        assert done.status == 3 and "3 left out" in done.out and len(lines(out)) == len(rows)


def test_a_folder_of_pictures_needs_no_table(world):
    folder = world.folder / "photos"
    (folder / "more").mkdir(parents=True)
    for row, name in zip(world.bank.table, ("a.png", "more/b.png")):
        shutil.copy(row["image_path"], folder / name)
    done = told(world.folder / "runs", folder, f"out={folder / 'out.jsonl'}")
    assert done.status == 0, done.err
    refused = told(world.folder / "runs", folder, f"out={folder / 'out.parquet'}")
    assert refused.status == 2 and "would be read as the table" in refused.err
    rows = lines(folder / "out.jsonl")
    assert [row["image_id"] for row in rows] == ["a.png", "more/b.png"] and "2 have no text" in done.out
    assert all(row["caption"] and row["labels"].keys() == {"category", "subcategory"} and row["match"] is None for row in rows)


def test_pictures_at_addresses_are_fetched_chunk_by_chunk(world, monkeypatch, tmp_path):
    monkeypatch.setenv("KALEIDO_CACHE", str(tmp_path / "cache"))
    table = tmp_path / "table.jsonl"
    table.write_text("".join(json.dumps({"id": str(number), "image": f"https://shop.example/{number}.png", "text": "red bag"}) + "\n"
                             for number in range(4)))
    asked_for = []

    def fetch(wanted, options, limits):
        asked_for.append(list(wanted))
        for address, path in wanted.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            if address.endswith("2.png"):
                yield address, "404 not found"
                continue
            Image.open(world.bank.table[0]["image_path"]).save(path)
            yield address, ""

    monkeypatch.setattr(predict.pictures, "fetch", fetch)
    words = [world.folder / "runs", table, f"out={tmp_path / 'o.jsonl'}", "answers=[match]", "chunk=2", "max_skipped=1"]
    answer = predict._answer

    def breaks(task, chunk):
        if len(asked_for) == 1:
            raise KeyboardInterrupt
        return answer(task, chunk)

    with monkeypatch.context() as patch:
        patch.setattr(predict, "_answer", breaks)
        assert told(*words).status == 130
    done = told(*words)  # what the first call has fetched is no other question
    assert done.status == 0, done.err
    assert "read as (guessed): id = 'id', image = 'image', text = 'text'" in done.out
    assert [len(part) for part in asked_for] == [2, 2]
    assert [row.get("fault") for row in lines(tmp_path / "o.jsonl")] == [None, None, "404 not found", None]
    assert "answered by the same runs before" in told(*words).out


@pytest.mark.parametrize("words, message", [
    (["out=answers.csv"], "out ends in '.csv'"),
    (["out=there/answers.jsonl", "answers=[picture_vector]", "labels=[kind]"], "kind"),
    (["out=answers.jsonl", "answers=[headline]"], "headline"),
    (["out=answers.jsonl", "top=0"], "top is 0"),
])
def test_bad_words_get_one_message(world, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = told(world.folder / "runs", world.folder / "catalogue", *words)
    assert done.status == 2 and message in done.err and "Traceback" not in done.err and not list(tmp_path.glob("answers*"))


def test_what_no_run_gives_is_named(world, tmp_path):
    done = told(world.folder / "runs/both", world.folder / "catalogue", f"out={tmp_path / 'a.jsonl'}", "answers=[caption]")
    assert done.status == 2 and "no run gives the answer 'caption'" in done.err and "kaleidobert caption" in done.err


def test_a_dry_run_reads_no_picture_and_writes_nothing(world, tmp_path, monkeypatch):
    monkeypatch.setattr(predict.ProductModel, "readable", pytest.fail)
    done = told(world.folder / "runs", world.folder / "catalogue", f"out={tmp_path / 'a.jsonl'}", "--dry-run")
    assert done.status == 0 and "label category" in done.out and not list(tmp_path.iterdir()), done.err
