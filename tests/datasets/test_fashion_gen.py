"""The raw release of Fashion-Gen as a source of products: HDF5 files, extracted pictures and info texts, and what is wrong with them."""

import json
from collections import Counter
from dataclasses import replace

import h5py
import numpy as np
import pytest

from kaleidobert import configs
from kaleidobert.app_zoo.commands import load
from kaleidobert.configs import Columns
from kaleidobert.datasets import grid_features, products
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.products import read_image
from kaleidobert.datasets.sources import SOURCES, reading
from kaleidobert.errors import UserError
from tests.configs.test_loader import ROOT
from tests.support import raw_fashion_gen as raw
from tests.support.apps_data import World, call, refused
from tests.support.tables import TWO

pytestmark = pytest.mark.slow

H5 = "fashiongen_256_256_{}.h5"


def source(folder, name="fashion_gen", **changes):
    """As the named config has it, on another folder."""
    return replace(load("records", ROOT / f"configs/{name}.yaml").source, table=folder, **changes)


def change(folder, split, key, edit):
    """Put other texts into an array of a file."""
    with h5py.File(folder / H5.format(split), "r+") as file:
        values = file[key][:]
        width = values.dtype.itemsize
        new = np.array([[value] for value in edit([value[0].ljust(width, b"\0") for value in values])], f"S{width + 60}")
        del file[key]
        file[key] = new


@pytest.mark.parametrize("padding", [b"\0", b" ", b" \0"], ids=["NULs", "blanks", "both"])
def test_every_row_of_the_files_becomes_a_picture_of_a_product(tmp_path, padding):
    folder = raw.write_h5(tmp_path / "raw", padding=padding[:1])
    if len(padding) > 1:
        change(folder, "train", "input_name", lambda values: [value[:-5] + b"\0" * 5 for value in values])
    products, skipped = reading.read(source(folder))
    expected = [(split, row) for split, name in (("train", "train"), ("val", "validation"))
                for row in raw.pictures(name, 9 if split == "train" else 6)]
    assert not skipped and len(products) == len(expected)
    for product, (split, row) in zip(products, expected):
        assert (product.product_id, product.group, product.split) == (str(row.product), str(row.product), split)
        assert product.image_id == f"{row.product}/id_gridfs_{row.view + 1}"
        assert product.text == f"{row.name}. {row.description}" and "détail" in product.text
        assert product.labels == {"category": row.category, "subcategory": row.subcategory, "gender": row.gender}
        assert np.array_equal(product.load_image(), row.pixels) and np.array_equal(read_image(product.image_path), row.pixels)
    assert Counter(product.product_id for product in products)["86626"] == 4  # its views


def test_the_extracted_release_holds_the_same_products(tmp_path):
    one, _ = reading.read(source(raw.write_h5(tmp_path / "raw")))
    two, skipped = reading.read(source(raw.write_extracted(tmp_path / "raw"), "fashion_gen_extracted"))
    assert not skipped and len(one) == len(two)
    for a, b in zip(one, two):
        assert (a.product_id, a.split, a.labels["category"]) == (b.product_id, b.split, b.labels["category"])
        assert a.text.endswith(b.text) and np.array_equal(a.load_image(), b.load_image())
    assert two[1].image_id == "86612/0" and two[2].image_id == "86612/1"
    assert two[0].labels == {"category": "JACKETS & COATS", "category_id": "7", "subcategory": "DENIM JACKETS", "subcategory_id": "39"}


@pytest.mark.parametrize("place", ["extracted_images", "elsewhere"])
def test_pictures_are_found_where_they_were_unpacked(tmp_path, place):
    folder = raw.write_extracted(tmp_path / "raw")
    (folder / place).mkdir()
    for name in ("extracted_train_images", "extracted_valid_images"):
        (folder / name).rename(folder / place / name)
    images = folder / place if place == "elsewhere" else None
    products, _ = reading.read(source(folder, "fashion_gen_extracted", images=images))
    assert all(product.load_image().shape == (raw.SIZE, raw.SIZE, 3) for product in products)


def test_a_bank_of_the_release_and_the_report_of_classes(tmp_path):
    world = World(tmp_path, TWO)
    found = source(raw.write_h5(tmp_path / "raw"))
    lines = ("label category: 4 classes, 1 only in train (KEYCHAINS), 1 only in val (GLOVES)", "label gender: 2 classes\n")
    dry = call("records", world.records(source=found), "--dry-run")
    done = call("records", world.records(source=found))
    assert dry.status == done.status == 0 and all(line in dry.out and line in done.out for line in lines)
    bank = Bank(tmp_path / "made")
    assert bank.size == 34 and bank.index["classes"]["subcategory"]["one_split"] == {"train": ["KEYCHAINS"], "val": ["GLOVES"]}
    assert bank.index["classes"]["gender"] == {"ids": {"Men": 0, "Women": 1}, "one_split": {}}
    assert grid_features.cut(bank.table[3], 8).shape == (8, 8, 3)  # what reads the pictures again finds them
    several = call("records", world.records("several", source=found, shard_size=7, workers=2))
    assert several.status == 0 and np.array_equal(bank.token_ids, Bank(tmp_path / "several").token_ids)


def test_inspect_shows_pictures_of_the_files(tmp_path):
    world = World(tmp_path, TWO)
    call("records", world.records("bank", source=source(raw.write_h5(tmp_path / "raw"))))
    config = configs.InspectConfig(tmp_path / "pages", world.data, count=1)
    assert call("inspect", config).status == 0
    (tmp_path / "raw" / H5.format("validation")).unlink()
    refused(call("inspect", replace(config, run=tmp_path / "again")), "no such file of pictures", "fashiongen_256_256_validation.h5#input")


def test_the_ids_of_the_release_are_kept(tmp_path):
    world = World(tmp_path, TWO)
    found = source(raw.write_extracted(tmp_path / "raw"), "fashion_gen_extracted")
    assert call("records", world.records(source=found)).status == 0
    tables = Bank(tmp_path / "made").index["classes"]
    assert list(tables) == ["category", "subcategory"]
    assert tables["category"]["ids"] == raw.CATEGORIES and tables["subcategory"]["ids"] == raw.SUBCATEGORIES


def test_ids_that_are_none_are_not_taken_for_ids():
    labels = [{"kind": "a", "kind_id": "x"}, {"kind": "b", "kind_id": "1"}]
    for rows in (labels, [{"kind": "a", "kind_id": "1"}, {"kind": "b", "kind_id": "1"}],
                 [{"kind": "a", "kind_id": "1"}, {"kind": "a", "kind_id": "2"}, {"kind": "b", "kind_id": "3"}]):
        assert products.tabulate_classes([("train", row) for row in rows], ["kind", "kind_id"])["kind"]["ids"] == {"a": 0, "b": 1}
    many = products.tabulate_classes([("val", {"kind": f"k{i:02}"}) for i in range(14)] + [("train", {"kind": ""})], ["kind"])
    assert products.class_lines(many)[0].endswith("k11, ...)") and "14 only in val" in products.class_lines(many)[0]


def test_views_that_contradict_their_product_are_left_out(tmp_path):
    folder = raw.write_h5(tmp_path / "raw")
    change(folder, "train", "input_name", lambda values: [*values[:2], b"Another thing", *values[3:]])
    change(folder, "train", "input_category", lambda values: [*values[:5], b"JEANS", *values[6:]])
    change(folder, "train", "input_description", lambda values: [*values[:-1], b"\0 "])
    change(folder, "train", "input_name", lambda values: [*values[:-1], b""])
    _, skipped = reading.read(source(folder))
    assert [row["where"].split(", ")[1] for row in skipped] == ["row 2", "row 5", "row 20"]
    assert "the text is not that of another view of the product, 86612/id_gridfs_1" in skipped[0]["reason"]
    assert "category is 'JEANS', but 'KEYCHAINS' in another view of the product, 86619/id_gridfs_1" in skipped[1]["reason"]
    assert "no text" in skipped[2]["reason"]


def test_a_pose_that_comes_twice_gets_a_number(tmp_path):
    folder = raw.write_h5(tmp_path / "raw")
    change(folder, "train", "input_pose", lambda values: [b"id_gridfs_1"] * len(values))
    products, skipped = reading.read(source(folder))
    assert not skipped
    assert [product.view for product in products if product.product_id == "86619"] == ["id_gridfs_1", "id_gridfs_1-2", "id_gridfs_1-3"]


def test_products_in_both_splits_are_refused(tmp_path):
    folder = raw.write_h5(tmp_path / "raw")
    with h5py.File(folder / H5.format("validation"), "r+") as file:
        file["input_productID"][0] = 86605
    with pytest.raises(UserError, match="the group '86605' is in 'train' .* and in 'val'"):
        reading.read(source(folder))
    products, _ = reading.read(source(folder, splits={"val": H5.format("validation")}))
    assert {product.split for product in products} == {"val"}


def remove(folder, key):
    with h5py.File(folder / H5.format("validation"), "r+") as file:
        del file[key]


def shorten(folder, key):
    with h5py.File(folder / H5.format("train"), "r+") as file:
        values = file[key][:-1]
        del file[key]
        file[key] = values


def flatten(folder, _):
    with h5py.File(folder / H5.format("train"), "r+") as file:
        values = file["input_image"][..., 0]
        del file["input_image"]
        file["input_image"] = values


def widen(folder, key):
    with h5py.File(folder / H5.format("train"), "r+") as file:
        values = np.repeat(file[key][:], 2, 1)
        del file[key]
        file[key] = values


def group(folder, key):
    with h5py.File(folder / H5.format("train"), "r+") as file:
        del file[key]
        file.create_group(key)


def damage(folder, key):
    """Other bytes in a compressed array, as a bad disk leaves them."""
    path = folder / H5.format("train")
    with h5py.File(path, "r+") as file:
        values = file[key][:]
        del file[key]
        file.create_dataset(key, data=values, compression="gzip", fletcher32=True)
        place = file[key].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[place.byte_offset + place.size // 2] ^= 0x55
    path.write_bytes(content)


@pytest.mark.parametrize("spoil, words", [
    (lambda folder: widen(folder, "input_gender"), r"'input_gender' is of shape \[21, 2\]; expected: one value per picture"),
    (lambda folder: group(folder, "input_gender"), "train.h5: 'input_gender' is no array"),
    (lambda folder: damage(folder, "input_gender"), "train.h5, array 'input_gender': the rows from 0 on cannot be read"),
    (lambda folder: (folder / H5.format("validation")).unlink(), "validation.h5: there is no such file.*get_raw_dataset"),
    (lambda folder: (folder / H5.format("train")).write_bytes(b"x" * 100), "train.h5: not an HDF5 file"),
    (lambda folder: remove(folder, "input_pose"), "validation.h5: lacks 'input_pose'.*input_category"),
    (lambda folder: remove(folder, "input_image"), "lacks 'input_image'"),
    (lambda folder: shorten(folder, "input_gender"), "differ in length: .*input_image 21.*input_gender 20"),
    (lambda folder: flatten(folder, ""), r"'input_image' is uint8\[21, 24, 24\].*uint8\[N, height, width, 3\]"),
])
def test_files_that_are_not_the_release(tmp_path, spoil, words):
    folder = raw.write_h5(tmp_path / "raw")
    spoil(folder)
    with pytest.raises(UserError, match=words):
        reading.read(source(folder))


def test_a_folder_named_wrongly_through_the_command(tmp_path):
    refused(call("records", World(tmp_path, TWO).records(source=source(tmp_path / "nothing"))), "nothing/fashiongen_256_256_train.h5")


def test_a_column_that_is_no_array(tmp_path):
    columns = Columns("input_productID", "input_image", ("input_title",), split="split")
    with pytest.raises(UserError, match="lacks 'input_title'.*input_name"):
        reading.read(SOURCES["fashion_gen"](raw.write_h5(tmp_path / "raw"), columns))


@pytest.mark.parametrize("edit, words", [
    (lambda text: text.replace("\x01", "\t"), "line 1 has 1 fields.*7, joined by"),
    (lambda text: text.replace("\x0111\x01", "\x0112\x01", 1), "'JEANS' has the category_id '11', but '12' in full_train_info.txt, line 2"),
    (lambda text: text.replace("JEANS\x0111\x01", "JEANS\x017\x01"), "category_id '7' has the category 'JEANS', but 'JACKETS"),
])
def test_info_texts_that_are_not_the_release(tmp_path, edit, words):
    folder = raw.write_extracted(tmp_path / "raw")
    path = folder / "full_train_info.txt"
    path.write_text(edit(path.read_text()))
    with pytest.raises(UserError, match=words):
        reading.read(source(folder, "fashion_gen_extracted"))


def test_info_texts_without_pictures_and_in_latin_1(tmp_path):
    folder = raw.write_extracted(tmp_path / "raw")
    path = folder / "full_train_info.txt"
    path.write_bytes(path.read_text().encode("latin-1"))
    products, _ = reading.read(source(folder, "fashion_gen_extracted"))
    assert "détail" in products[0].text
    (folder / "extracted_valid_images").rename(folder / "pictures")
    with pytest.raises(UserError, match="no pictures of full_valid_info.txt.*source.images"):
        reading.read(source(folder, "fashion_gen_extracted"))


@pytest.mark.parametrize("reference, words", [("x.h5#input_image/99", "no such picture.*a row below 21"),
                                              ("x.h5#pictures/0", "no array 'pictures'.*one of index"),
                                              ("x.h5#input_name/0", r"the row is no picture \(\|S60\[1\]\)"),
                                              ("y.h5#input_image/0", "no such file of pictures"),
                                              ("z.h5#input_image/0", "cannot be decoded")])
def test_references_to_pictures_that_are_none(tmp_path, reference, words):
    (raw.write_h5(tmp_path) / H5.format("train")).rename(tmp_path / "x.h5")
    (tmp_path / "z.h5").write_bytes(b"\x89HDF, or so")
    with pytest.raises(UserError, match=words):
        read_image(tmp_path / reference)


def test_a_file_written_anew_is_read_anew(tmp_path):
    reference = raw.write_h5(tmp_path) / (H5.format("train") + "#input_image/0")
    before = read_image(reference)
    with h5py.File(tmp_path / "new.h5", "w") as file:
        file["input_image"] = 255 - before[None]
    (tmp_path / "new.h5").replace(tmp_path / H5.format("train"))
    assert np.array_equal(read_image(reference), 255 - before)


def test_left_out_rows_are_in_the_bank(tmp_path):
    folder = raw.write_h5(tmp_path / "raw")
    change(folder, "validation", "input_gender", lambda values: [*values[:2], b"Unisex", *values[3:]])
    world = World(tmp_path, TWO)
    assert call("records", world.records(source=source(folder), text=configs.Text(length=20))).status == 0
    (row,) = [json.loads(line) for line in (tmp_path / "made/skipped.jsonl").read_text().splitlines()]
    assert row["where"] == "fashiongen_256_256_validation.h5, row 2" and "gender is 'Unisex', but 'Women'" in row["reason"]
