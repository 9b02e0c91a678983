"""Folders of arrays made of released files: the same numbers, interrupted and continued, and what is refused."""

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from kaleidobert import cli
from kaleidobert.errors import UserError
from kaleidobert.levels import KALEIDO, KaleidoLevel
from kaleidobert.released import files
from kaleidobert.released import rows as released_rows
from kaleidobert.released import schema as released_schema
from kaleidobert.released.rows import FolderRows, convert
from tests.support import released_data

SIX = (*KALEIDO, KaleidoLevel("fine", 6, "blank", num_masked=4))


def source(tmp_path, task="finetune", rows=11, **named):
    path = released_data.write(tmp_path, task, rows, **named)
    schema = released_data.schema(task, named.get("levels", KALEIDO))
    return released_rows.open_rows(path, schema)


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if not path.name.startswith(".")}


@pytest.mark.parametrize("levels", [KALEIDO, SIX], ids=["kaleido", "six"])
@pytest.mark.parametrize("task", ["pretrain", "finetune", "retrieve"])
def test_round_trip(tmp_path, task, levels):
    texts = np.array(["", "é\u4e2d", "a, b", "x" * 300, "", "z"])[:, None]
    text = source(tmp_path, task, 6, levels=levels, prod_desc=texts)
    rows = convert(text.paths, text.schema, tmp_path / "made", threads=2)
    rows.verify()
    numbers = np.array([5, 0, 3, 3, 1, 4])
    ours, theirs = rows.take(numbers), text.take(numbers)
    assert len(rows) == 6 and rows.schema.columns == text.schema.columns and ours.keys() == theirs.keys()
    for name, values in theirs.items():
        assert ours[name].dtype.kind == values.dtype.kind and ours[name].tolist() == values.tolist(), name
        if values.dtype.kind != "U":
            assert ours[name].dtype == values.dtype
        assert rows.first(name).tolist() == np.atleast_1d(text.first(name)).tolist()
    streamed = [columns["input_ids"] for _, columns in rows.stream(4)]
    assert np.concatenate(streamed).tolist() == np.concatenate([part["input_ids"] for _, part in text.stream(4)]).tolist()
    name = "nx_sent_labels" if task != "finetune" else "img_category"
    assert rows.scan([name])[name].tolist() == text.scan([name])[name].tolist()


def test_half(tmp_path):
    text = source(tmp_path, "pretrain")
    rows = convert(text.paths, text.schema, tmp_path / "made", half=True)
    both = rows.take(np.arange(11)), text.take(np.arange(11))
    name = "img_feature_convert_blank_mask"
    assert both[0][name].dtype == np.float32 and both[0][name].tolist() == both[1][name].astype(np.float16).astype(np.float32).tolist()
    assert both[0]["masked_lm_weights"].tolist() == both[1]["masked_lm_weights"].tolist()
    large = np.full((11, 25 * released_data.FEATURES), 1e6, np.float32)
    text = source(tmp_path / "large", "pretrain", img_feature_convert_blank_mask=large)
    with pytest.raises(UserError, match="rows__0, line 1, column 'img_.*_blank_mask': holds numbers beyond float16.*half=false"):
        convert(text.paths, text.schema, tmp_path / "large/made", half=True)
    large[:7] = 1
    text = source(tmp_path / "one", "pretrain", img_feature_convert_blank_mask=large)
    with pytest.raises(UserError, match="rows__1, line 2, column"):
        convert(text.paths, text.schema, tmp_path / "one/made", half=True)
    with pytest.raises(UserError, match="begun with another half"):
        convert(text.paths, text.schema, tmp_path / "one/made")


@pytest.mark.parametrize("after", [0, 1, 3, 5])
def test_an_interrupted_conversion_goes_on(tmp_path, monkeypatch, after):
    """Ctrl-C while the batch number ``after`` + 1 of two rows is read."""
    text = source(tmp_path)
    monkeypatch.setattr(released_rows, "BATCH", 2)
    monkeypatch.setattr(released_rows, "KEEP", 2)
    whole = content(convert(text.paths, text.schema, tmp_path / "whole").folder)
    real, seen = files.batches, []

    def batches(rows, size):
        for number, batch in enumerate(real(rows, size)):
            if number == after:
                raise KeyboardInterrupt
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(files, "batches", batches)
        with pytest.raises(KeyboardInterrupt):
            convert(text.paths, text.schema, tmp_path / "cut")
    with pytest.raises(UserError, match="no finished conversion"):
        released_rows.open_rows(tmp_path / "cut", text.schema)
    read = files.rows
    monkeypatch.setattr(files, "rows", lambda paths, schema, start, *rest: seen.append(start) or read(paths, schema, start, *rest))
    assert content(convert(text.paths, text.schema, tmp_path / "cut").folder) == whole
    assert seen == [text.index.position(after // 2 * 4)]  # what was safe on the disk is not read again


def test_a_finished_conversion_is_only_opened(tmp_path, monkeypatch, capsys):
    text = source(tmp_path)
    convert(text.paths, text.schema, tmp_path / "made")
    monkeypatch.setattr(files, "rows", lambda *arguments: pytest.fail("read again"))
    assert len(convert(text.paths, text.schema, tmp_path / "made")) == 11 and "is complete" in capsys.readouterr().out


def test_two_that_convert_into_one_folder_do_not_meet(tmp_path, monkeypatch):
    text = source(tmp_path)
    whole = content(convert(text.paths, text.schema, tmp_path / "whole").folder)
    real, both = files.rows, threading.Barrier(2)
    read = []

    def slow(*arguments):
        read.append(arguments)
        for number, row in enumerate(real(*arguments)):
            time.sleep(0.02 * (number < 3))
            yield row

    def one(_):
        both.wait(10)
        return convert(text.paths, text.schema, tmp_path / "made")

    monkeypatch.setattr(files, "rows", slow)
    with ThreadPoolExecutor(2) as pool:
        assert [len(rows) for rows in pool.map(one, range(2))] == [11, 11]
    assert len(read) == 1 and content(tmp_path / "made") == whole and not (tmp_path / "made/.lock").exists()


def test_rows_are_on_the_disk_before_it_says_so(tmp_path, monkeypatch):
    text, events = source(tmp_path), []
    real, write = os.fsync, released_rows.io.write_json
    monkeypatch.setattr(os, "fsync", lambda number: (events.append(os.readlink(f"/proc/self/fd/{number}")), real(number)))
    monkeypatch.setattr(released_rows.io, "write_json", lambda path, value: (events.append(value.get("rows")), write(path, value)))
    convert(text.paths, text.schema, tmp_path / "made")
    named = [event.rpartition("/")[2] for event in events[: events.index(11)] if isinstance(event, str)]
    assert set(content(tmp_path / "made")) - {"index.json"} <= set(named)


def test_texts_in_another_encoding_are_another_conversion(tmp_path):
    (tmp_path / "rows").write_bytes(b"1\t\xc3\xa9\n" * 3)
    convert([tmp_path / "rows"], released_schema.parse("a:int:1,b:str:1", "x"), tmp_path / "made")
    with pytest.raises(UserError, match="begun with another encoding"):
        convert([tmp_path / "rows"], released_schema.parse("a:int:1,b:str:1", "x", "latin-1"), tmp_path / "made")
    rows = convert([tmp_path / "rows"], released_schema.parse("a:int:1,b:str:1", "x", "latin-1"), tmp_path / "other")
    assert rows.take(np.arange(1))["b"].tolist() == [["Ã©"]]
    with pytest.raises(UserError, match="begun with another encoding"):
        convert([tmp_path / "rows"], released_schema.parse("a:int:1,b:str:1", "x"), tmp_path / "other")


def test_refusals(tmp_path):
    text = source(tmp_path)
    folder = convert(text.paths, text.schema, tmp_path / "made").folder
    with pytest.raises(UserError, match="begun with another half"):
        convert(text.paths, text.schema, folder, half=True)
    with pytest.raises(UserError, match="begun with another files"):
        convert(text.paths[:1], text.schema, folder)
    with pytest.raises(UserError, match="lacks the columns .*masked_lm_ids"):
        released_rows.open_rows(folder, released_data.schema("pretrain"))
    with pytest.raises(UserError, match="not empty and holds no conversion"):
        convert(text.paths, text.schema, tmp_path)
    blob = folder / "prod_desc.bin"
    kept = blob.read_bytes()
    blob.write_bytes(b"X" + kept[1:])
    with pytest.raises(UserError, match="prod_desc.bin: the content does not fit the checksum"):
        FolderRows(folder).verify()
    blob.write_bytes(kept[:-1])
    with pytest.raises(UserError, match="prod_desc.bin: has 164 bytes"):
        FolderRows(folder)
    blob.write_bytes(kept)
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(index | {"format": 7}))
    with pytest.raises(UserError, match="has format 7"):
        FolderRows(folder)


def test_a_mistake_in_the_files_names_its_place_and_can_be_mended(tmp_path, monkeypatch):
    text = source(tmp_path)
    good = text.paths[1].read_bytes()
    text.paths[1].write_bytes(good.replace(b"\t", b"\tx", 1))
    with pytest.raises(UserError, match="rows__1, line 1, column 'input_ids': number 1 is 'x"):
        convert(text.paths, text.schema, tmp_path / "made")
    text.paths[1].write_bytes(good)
    with pytest.raises(UserError, match="another files"):  # the lines may have moved
        convert(text.paths, text.schema, tmp_path / "made")
    assert len(convert(text.paths, text.schema, tmp_path / "again")) == 11
    monkeypatch.setattr(released_rows.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10}))
    with pytest.raises(UserError, match="GB are needed and 0.0 GB are free"):
        convert(text.paths, text.schema, tmp_path / "full")


# --- the command ------------------------------------------------------------------------------------------------------


def command(*words) -> int:
    return cli.main(["convert", *words])


@pytest.mark.parametrize("task", ["pretrain", "finetune", "retrieve"])
def test_the_command(tmp_path, capsys, task):
    text = source(tmp_path, task)
    words = (f"source={tmp_path / 'rows.list_csv'}", f"target={tmp_path / 'made'}", f"files.schema={text.schema}")
    assert command(*words, "--dry-run") == 0 and "about 11 rows" in capsys.readouterr().out and not (tmp_path / "made").exists()
    assert command(*words) == 0 and "use it as data.files" in capsys.readouterr().out
    assert len(released_rows.open_rows(tmp_path / "made", text.schema)) == 11
    assert command(words[0], f"target={tmp_path / 'other'}") == 2
    places = {"pretrain": 25, "finetune": 22, "retrieve": 19}
    assert f"column '{text.schema.names[0 if task == 'pretrain' else 1]}': holds 12 numbers; expected: 64" in capsys.readouterr().err
    assert len(text.schema.columns) == places[task]


def test_the_command_refuses(tmp_path, capsys):
    (tmp_path / "odd").write_bytes(b"1\t2\n")
    assert command(f"source={tmp_path / 'odd'}", f"target={tmp_path / 'made'}") == 2
    assert "odd, line 1: the line has 2 columns; expected: as a published schema: 25 (pretrain)" in capsys.readouterr().err
    assert command(f"source={tmp_path / 'odd'}", f"target={tmp_path / 'made.npz'}") == 2
    assert "a folder as the target" in capsys.readouterr().err
