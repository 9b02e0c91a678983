"""Pictures in the cells of tables: they are read from there, a few at a time, and a bank follows their bytes."""

import doctest
import hashlib
import io
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from PIL import Image

from kaleidobert import configs
from kaleidobert.app_zoo.catalogue import check, examination
from kaleidobert.app_zoo.catalogue.examination import examine
from kaleidobert.configs import Columns
from kaleidobert.datasets import arrow_tables
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.products import digest, read_image, stamp
from kaleidobert.datasets.sources import reading
from kaleidobert.datasets.sources.table import TableSource
from kaleidobert.errors import UserError
from tests.datasets.test_builder import content
from tests.support.apps_data import World, call
from tests.support.catalogues import parquet, survey
from tests.support.tables import TWO
from tests.support.tiny import COLUMNS, tiny_catalogue

NAMED = Columns("image", "image", ("text",), labels={"category": "label"})


def pixels(number: int) -> np.ndarray:
    """uint8[6, 8, 3]: a picture that is like no other."""
    return np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)


def png(number: int) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels(number)).save(sink, "PNG")
    return sink.getvalue()


def table(count: int = 40, column=lambda n: {"bytes": png(n), "path": f"{n % 30}.png"}) -> pa.Table:
    """A data set of Hugging Face, whose names of pictures repeat as those of several folders do."""
    names = {"info": {"features": {"label": {"names": ["tie", "hat"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}}}
    rows = [{"image": column(n), "text": f"words of {n}", "label": n % 3 - 1} for n in range(count)]
    return pa.Table.from_pylist(rows).replace_schema_metadata({b"huggingface": json.dumps(names).encode()})


def write(path: Path, format_: str, made: pa.Table) -> Path:
    """Writes a table, in parts of seven rows where the format has parts; returns what names it."""
    if format_ == "parquet":
        pq.write_table(made, path, row_group_size=7)
    elif format_ == "feather":
        feather.write_feather(made, path, compression="lz4", chunksize=7)
    elif format_ == "folder":
        path.mkdir()
        for number in range(0, len(made), 7):
            pq.write_table(made.slice(number, 7), path / f"train-{number:02d}.parquet")
    else:
        with (pa.ipc.new_stream if format_ == "stream" else pa.ipc.new_file)(path, made.schema) as writer:
            writer.write_table(made, 7)
    return path


FORMATS = ("parquet", "stream", "file", "feather", "folder")


@pytest.mark.parametrize("format_", FORMATS)
def test_pictures_are_read_from_their_cells(tmp_path, format_):
    path = write(tmp_path / "shop #1", format_, table())
    result = reading.survey(TableSource(path, NAMED))
    assert not result.skipped and not result.absent and "pictures that the table itself holds: 40" in result.notes()
    assert [p.product_id for p in result.products[28:33]] == ["28.png", "29.png", "0.png-2", "1.png-2", "2.png-2"]
    assert [p.labels["category"] for p in result.products[:3]] == ["", "tie", "hat"]
    order = [0, 1, 2, 39, 17, 16, 3, 3, 38]
    for number, product in [*enumerate(result.products), *((n, result.products[n]) for n in order)]:
        np.testing.assert_array_equal(read_image(product.image_path), pixels(number))
        np.testing.assert_array_equal(product.load_image(), pixels(number))
        np.testing.assert_array_equal(read_image(Path(product.image_path)), pixels(number))
        assert digest(product.image_path) == hashlib.sha256(png(number)).hexdigest() and stamp(product.image_path)
    with ThreadPoolExecutor(8) as pool:
        for number, image in enumerate(pool.map(read_image, [product.image_path for product in result.products])):
            np.testing.assert_array_equal(image, pixels(number))


CELLS = {  # a cell, the id that its picture gets, what the picture is
    "without a name": (lambda n: {"bytes": png(n), "path": None}, "t-4"),
    "bytes alone": (png, "t-4"),
    "a name alone": (lambda n: {"bytes": None, "path": f"files/{n}.png"}, "files/3.png"),
    "a name in bytes": (lambda n: f"files/{n}.png".encode(), "files/3.png"),
    "large bytes": (lambda n: {"bytes": png(n), "path": f"a/{n}.png", "width": 8}, "a/3.png"),
}


@pytest.mark.parametrize("case", CELLS)
def test_cells_of_pictures(tmp_path, case):
    cell, name = CELLS[case]
    (tmp_path / "files").mkdir()
    (tmp_path / "files/3.png").write_bytes(png(3))
    made = table(4, cell)
    if case == "large bytes":
        kind = pa.struct([("bytes", pa.large_binary()), ("path", pa.string()), ("width", pa.int64())])
        made = made.set_column(0, "image", made["image"].cast(kind))
    path = write(tmp_path / "t.parquet", "parquet", made.slice(3) if "name" in case and "without" not in case else made)
    product = reading.survey(TableSource(path, NAMED)).products[-1]
    assert product.product_id == name
    np.testing.assert_array_equal(read_image(product.image_path), pixels(3))


def test_a_list_of_pictures_is_the_views_of_a_product(tmp_path):
    rows = [{"id": n, "image": [{"bytes": png(10 * n + k), "path": None} for k in range(n)], "title": "Tie", "kind": "k"} for n in (1, 3)]
    result = survey(tmp_path, parquet(rows), "t.parquet")
    assert [p.image_id for p in result.products] == ["1", "3", "3/2", "3/3"]
    for product, number in zip(result.products, (10, 30, 31, 32)):
        np.testing.assert_array_equal(read_image(product.image_path), pixels(number))


def test_what_is_no_picture_is_said(tmp_path):
    cells = [{"bytes": png(0), "path": "0.png"}, {"bytes": png(1)[:60], "path": "1.png"}, {"bytes": b"", "path": "2.png"},
             {"bytes": None, "path": None}, {"bytes": None, "path": "lost.png"}, {"bytes": b"<html>", "path": "5.png"}]
    path = write(tmp_path / "t.parquet", "parquet", table(6, cells.__getitem__))
    result = reading.survey(TableSource(path, NAMED))
    assert [(row["where"], row["reason"]) for row in result.skipped] == [("t.parquet, row 4", "no id in column 'image'")]
    assert [row["image_id"] for row in result.absent] == ["lost.png"]
    for number, words in ((1, "row=2&column=image: the picture cannot be decoded"), (2, "row=3&.*the picture file is empty .0 bytes"),
                          (4, "row=6&.*the picture cannot be decoded .of no known kind.;")):
        with pytest.raises(UserError, match=words):
            read_image(result.products[number].image_path)
    for name, words in ((f"{path}#row=7&column=image", "the cell holds no picture"), (f"{path}#row=1&column=text", "holds no picture"),
                        (f"{path}#row=1&item=2&column=image", "holds no picture"), (f"{path}#row=1&column=no", "cannot be read"),
                        (f"{tmp_path}/none#row=1&column=image", "there is no such table of pictures")):
        with pytest.raises(UserError, match=words):
            read_image(name)
        assert digest(name) == ""
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match="the table of the picture cannot be read"):
        read_image(f"{path}#row=1&column=image")


def test_docstrings():
    result = doctest.testmod(arrow_tables)
    assert result.attempted and not result.failed


@pytest.mark.parametrize("format_", ["parquet", "stream"])
def test_a_few_pictures_are_in_memory_at_a_time(tmp_path, monkeypatch, format_):
    cells = [b"\xff" + np.random.default_rng(n).bytes(100_000) for n in range(200)]
    made = pa.table({"image": cells, "text": ["words"] * 200, "label": [0] * 200})
    if format_ == "parquet":
        pq.write_table(made, tmp_path / "t", compression="none", write_batch_size=8)  # 20 MB, one row group of several pages
    else:
        write(tmp_path / "t", format_, made)
    del made
    before, most, cell = pa.total_allocated_bytes(), [0], arrow_tables._cell

    def watched(*given):
        most.append(pa.total_allocated_bytes() - before)
        return cell(*given)

    monkeypatch.setattr(arrow_tables, "_cell", watched)
    for product, content_ in zip(reading.survey(TableSource(tmp_path / "t", NAMED)).products, cells):
        assert digest(product.image_path) == hashlib.sha256(content_).hexdigest()
        most.append(pa.total_allocated_bytes() - before)
    arrow_tables._column.cache_clear()
    assert len(most) > 400 and max(most) < 12e6


# --- The commands


def with_pictures(source: TableSource, path: Path, change=lambda rows: None) -> TableSource:
    """Writes a table of JSON lines as Parquet, with the bytes of pictures and masks in its cells."""
    folder = source.table.parent
    rows = [json.loads(line) for line in source.table.read_text().splitlines()]
    for row in rows:
        row.update({key: {"bytes": (folder / row[key]).read_bytes(), "path": row[key]} for key in ("image", "mask")})
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=5)
    return TableSource(path, COLUMNS)


@pytest.fixture
def world(tmp_path) -> World:
    tiny_catalogue(tmp_path / "catalogue", 16)  # 22 pictures
    return World(tmp_path, TWO)


def test_a_bank_of_such_a_table_is_that_of_the_files_and_follows_the_bytes(world):
    def records(name: str):
        done = call("records", world.records(name, source=source, shard_size=6, foreground=configs.Foreground("masks")))
        assert done.status == 0, done.err
        return done.out

    def edited(rows):
        rows.insert(4, {**rows[3], "id": "new", "image": {"bytes": other, "path": "new.png"}})
        rows[9]["image"]["bytes"] = other[:100]
        rows[12]["image"]["bytes"] = rows[13]["image"]["bytes"]

    other, source = large(7), with_pictures(world.source, world.folder / "t.parquet")
    assert call("records", world.records("files", shard_size=6, foreground=configs.Foreground("masks"))).status == 0
    assert "pictures that the table itself holds: 22" in records("made")
    for number in range(4):
        one, two = (world.folder / name / f"features-{number:05d}.npy" for name in ("made", "files"))
        assert one.read_bytes() == two.read_bytes()
    assert [row["image_id"] for row in Bank(world.folder / "made").table] == [row["image_id"] for row in Bank(world.folder / "files").table]
    with_pictures(world.source, source.table, edited)
    out = records("made")
    assert "2 pictures changed" in out and "1 added (new/" in out and "the picture cannot be decoded x 1" in out
    assert records("anew") and content(world.folder / "made") == content(world.folder / "anew")
    with_pictures(world.source, source.table)  # as it was at first
    assert "1 picture tried again that were left out" in records("made").replace("1 tried", "1 picture tried")
    shutil.rmtree(world.folder / "anew")
    records("anew")
    assert content(world.folder / "made") == content(world.folder / "anew")


def test_a_check_needs_no_names_by_hand(tmp_path):
    made = table(40, lambda n: {"bytes": large(n)[: 90 if n == 7 else None], "path": f"{n}.png"})
    for format_ in ("folder", "parquet"):
        path = write(tmp_path / format_, format_, made)
        own = examine(TableSource(path))
        assert {row[0]: row[1] for row in own.columns} == {"id": "image", "image": "image", "text": "text", "split": "drawn by the group",
                                                           "label label": "label"}
        assert own.opened == 40 and own.faults.keys() == {"7.png"} and "cannot be decoded" in own.faults["7.png"]
        assert own.source.table == path
    assert len(check.contact_sheet(own, 2)) == 2


def large(number: int) -> bytes:
    """A picture in which something can be found."""
    sink = io.BytesIO()
    Image.fromarray(pixels(number)).resize((96, 72), Image.Resampling.NEAREST).save(sink, "PNG")
    return sink.getvalue()


def test_a_table_written_anew_under_the_same_name_is_opened_anew(tmp_path):
    path = write(tmp_path / "t.parquet", "parquet", table(3))
    name = f"{path}#row=1&column=image"
    np.testing.assert_array_equal(read_image(name), pixels(0))
    write(path, "parquet", table(3, lambda n: {"bytes": png(n + 5), "path": ""}))
    os.utime(path, ns=(1, 1))
    np.testing.assert_array_equal(read_image(name), pixels(5))


@pytest.mark.parametrize("names, expected", [
    (("train", "test"), {"train": "train", "test": "val"}), (("train", "validation", "test"), {"train": "train", "validation": "val",
                                                                                              "test": "test"})])
@pytest.mark.parametrize("layout", ["folders", "files"])
def test_splits_are_the_names_of_files_or_folders(tmp_path, names, expected, layout):
    folder = tmp_path / "set"
    for number, name in enumerate(names):
        path = folder / name / "data-00000-of-00001.arrow" if layout == "folders" else folder / f"{name}-00000-of-00001-ab12.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, "stream" if layout == "folders" else "parquet", table(8, lambda n, k=number: {"bytes": png(100 * k + n), "path": ""}))
    if layout == "folders":
        (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(names)}))
    own = examine(TableSource(folder))
    assert own.source.columns.split == "split" and len(own.products) == 8 * len(names) and not own.faults
    assert {p.split: p.image_path for p in own.products}.keys() == set(expected.values())
    assert all(p.split == expected[next(name for name in names if name in p.image_path.removeprefix(str(folder)))] for p in own.products)


def test_a_check_knows_that_the_bytes_are_others(tmp_path):
    def checked(path):
        return examination.digest(examine(TableSource(path))), examination.state(TableSource(path))

    for format_ in ("parquet", "folder"):
        path = write(tmp_path / format_, format_, table(12, lambda n: {"bytes": large(n), "path": f"{n}.png"}))
        first = checked(path)
        assert checked(path) == first
        if format_ == "folder":
            shutil.rmtree(path)
        write(path, format_, table(12, lambda n: {"bytes": large(n + (n == 3)), "path": f"{n}.png"}))
        assert checked(path)[0] != first[0] and checked(path)[1] != first[1]
