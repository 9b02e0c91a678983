"""TensorFlow Datasets: the two builders, and prepared data sets as sources of products."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kaleidobert.app_zoo.commands import load
from kaleidobert.configs import Columns
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sources import SOURCES, reading
from kaleidobert.drawing import catalogue as synthetic
from kaleidobert.errors import UserError
from tests.configs.test_loader import ROOT
from tests.datasets.test_fashion_gen import change
from tests.datasets.test_fashion_gen import source as fashion_gen
from tests.support import raw_fashion_gen as raw
from tests.support.apps_data import World, call, refused
from tests.support.tables import TWO

for name in ("tensorflow_datasets", "importlib_resources"):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed", allow_module_level=True)

import tensorflow_datasets as tfds  # noqa: E402

import kaleidobert.datasets.tfds as builders  # noqa: E402

SMALL = builders.SyntheticConfig(name="small", num_products=10, size=48)
COLUMNS = Columns("product_id", "image", ("text",), "group", ("view",), "split",
                  {"category": "category", "subcategory": "subcategory"})


class Odd(tfds.core.GeneratorBasedBuilder):
    """What other people's data sets look like: no ids, several captions, class labels, names with a stroke, pixels as a tensor."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"image": tfds.features.Image(), "mask": tfds.features.Image(shape=(None, None, 1)),
                    "pixels": tfds.features.Tensor(shape=(6, 8, 3), dtype=np.uint8), "image/id": np.int64,
                    "captions": tfds.features.Sequence({"text": tfds.features.Text()}), "colours": tfds.features.Sequence(np.int64),
                    "label": tfds.features.ClassLabel(names=["tie", "hat"]), "about": {"maker": tfds.features.Text()}}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(7), "test": self._generate_examples(3)}

    def _generate_examples(self, number):
        for i in range(number):
            pixels = np.full((6, 8, 3), 20 * i, np.uint8)
            yield i, {"image": pixels, "mask": np.full((6, 8, 1), 255, np.uint8), "pixels": pixels + 1, "image/id": i, "colours": [5, i],
                      "captions": [{"text": f"cäption {i}"}, {"text": "another"}] if i else [], "label": i % 2, "about": {"maker": "me"}}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data_dir with the small drawn catalogue and the odd data set."""
    folder = tmp_path_factory.mktemp("tfds")
    for builder in (tfds.builder("kaleido_synthetic", config=SMALL, data_dir=folder), Odd(data_dir=folder)):
        builder.download_and_prepare(download_dir=folder / "downloads", file_format="tfrecord")
    return folder


@pytest.fixture
def source(prepared, tmp_path):
    return SOURCES["tfds"](prepared, COLUMNS, images=tmp_path / "pictures", name="kaleido_synthetic/small")


def odd(source, columns, **changes):
    changes = {"splits": {"train": "train", "val": "test"}} | changes
    return replace(source, name="odd", columns=replace(columns, split="split"), **changes)


# --- builders -----------------------------------------------------------------------------------------------------------


def test_the_drawn_catalogue_is_loaded_by_name(prepared, tmp_path):
    examples = list(tfds.as_numpy(tfds.load("kaleido_synthetic/small", split="train", data_dir=prepared, download=False)))
    synthetic.write_catalogue(tmp_path / "drawn", 10, size=48)
    rows = [json.loads(line) for line in (tmp_path / "drawn/products.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["split"] == "train"]
    assert len(examples) == len(rows) > 10
    for example, row in zip(examples, rows):
        assert example["text"].decode() == row["text"] and example["category"].decode() == row["category"]
        with Image.open(tmp_path / "drawn" / row["image"]) as picture:
            assert np.abs(example["image"].astype(int) - np.asarray(picture)).max() <= 8  # another JPEG decoder


def test_the_named_configs_are_there():
    assert tfds.builder("kaleido_synthetic", data_dir="/nowhere").builder_config.num_products == 600
    assert {config.name for config in builders.KaleidoSynthetic.BUILDER_CONFIGS} == {"n600", "n24", "n6000"}
    assert "fashion_gen" in tfds.list_builders(with_community_datasets=False)


@pytest.mark.parametrize("config, write, name", [("h5", raw.write_h5, "fashion_gen"),
                                                 ("extracted", raw.write_extracted, "fashion_gen_extracted")])
def test_fashion_gen_from_the_raw_files(tmp_path, config, write, name):
    manual = tfds.download.DownloadConfig(manual_dir=write(tmp_path / "raw"))
    builder = tfds.builder("fashion_gen", config=config, data_dir=tmp_path / "data")
    builder.download_and_prepare(download_dir=tmp_path / "downloads", download_config=manual)
    products, _ = reading.read(fashion_gen(tmp_path / "raw", name))
    found = {split: list(tfds.as_numpy(builder.as_dataset(split=split))) for split in ("train", "validation")}
    assert len(found["train"]) == 21 and len(found["validation"]) == 13
    for example, product in zip(found["train"] + found["validation"], products):
        assert example["product_id"].decode() == product.product_id and example["text"].decode() == product.text
        assert np.array_equal(example["image"], product.load_image())
        assert example["subcategory"].decode() == product.labels["subcategory"]


def test_rows_that_are_left_out_are_told(tmp_path, caplog):
    folder = raw.write_h5(tmp_path / "raw")
    change(folder, "train", "input_name", lambda values: [*values[:2], b"Another thing", *values[3:]])
    builder = tfds.builder("fashion_gen", config="h5", data_dir=tmp_path / "data")
    with caplog.at_level("WARNING", "absl"):
        builder.download_and_prepare(download_dir=tmp_path / "downloads", download_config=tfds.download.DownloadConfig(manual_dir=folder))
    assert "1 rows are left out, the first one, fashiongen_256_256_train.h5, row 2, because name is 'Another thing'" in caplog.text
    assert builder.info.splits["train"].num_examples == 20


@pytest.mark.skipif(not all(map(importlib.util.find_spec, ("mlcroissant", "apache_beam"))),
                    reason="mlcroissant and apache-beam, which the command tfds needs, are not installed")
def test_the_command_line_of_tfds(tmp_path, monkeypatch):
    from tensorflow_datasets.scripts.cli import main

    monkeypatch.setattr(sys, "argv", ["tfds"])
    arguments = ["tfds", "build", "fashion_gen/h5", "--imports", "kaleidobert.datasets.tfds", "--data_dir", str(tmp_path / "data"),
                 "--manual_dir", str(raw.write_h5(tmp_path / "raw", 3, 3)), "--download_dir", str(tmp_path / "downloads")]
    main.main(main._parse_flags(arguments))
    assert (tmp_path / "data/fashion_gen/h5/1.0.0/dataset_info.json").is_file()


# --- as a source of products --------------------------------------------------------------------------------------------


def test_a_bank_of_a_data_set_is_the_bank_of_the_catalogue(prepared, source, tmp_path):
    world = World(tmp_path, TWO)
    (drawn,) = (prepared / "downloads/kaleido_synthetic").iterdir()
    columns = replace(COLUMNS, group="group_id")
    assert call("records", world.records("table", source=SOURCES["table"](drawn / "products.jsonl", columns))).status == 0
    assert call("records", world.records("bank", source=source)).status == 0
    one, two = Bank(tmp_path / "table"), Bank(tmp_path / "bank")
    rows = [[row["image_id"] for row in bank.table] for bank in (one, two)]
    order = [rows[0].index(name) for name in rows[1]]
    assert sorted(rows[0]) == sorted(rows[1]) and one.size == 20
    features = [np.load(bank.folder / "features-00000.npy") for bank in (one, two)]
    assert np.array_equal(features[0][order], features[1])  # the picture files are the same, byte for byte
    lost = tmp_path / "pictures/image/val-00000000.img"
    lost.unlink()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "pictures").rglob("*.img")}
    assert call("records", world.records("again", source=source)).status == 0 and lost.is_file()
    before[lost] = lost.stat().st_mtime_ns
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "pictures").rglob("*.img")} and len(before) == 20


def test_a_dry_run_writes_nothing(source, tmp_path):
    done = call("records", World(tmp_path, TWO).records(source=source), "--dry-run")
    assert done.status == 0 and "20 pictures" in done.out and not (tmp_path / "pictures").exists()


def test_other_peoples_features(source):
    columns = Columns("row", "image", ("captions/text",), mask="mask",
                      labels={"kind": "label", "number": "image/id", "colour": "colours", "maker": "about/maker"})
    products, skipped = reading.read(odd(source, columns))
    assert len(products) == 8 and [row["reason"][:7] for row in skipped] == ["no text", "no text"]  # without captions
    by_number = {product.labels["number"]: product for product in products if product.split == "train"}
    one = by_number["3"]
    assert one.text == "cäption 3" and one.labels == {"kind": "hat", "number": "3", "colour": "5", "maker": "me"}
    assert one.product_id.startswith("train-0000000")
    assert sum(odd(source, columns).write_pictures(products)) == 8
    assert (one.load_image() == 60).all() and one.load_mask().all() and one.load_mask().shape == (6, 8)


@pytest.mark.parametrize("column, shape", [("colours", r"int64\[2\]"), ("image/id", r"int64\[\]")])
def test_features_that_are_no_pictures(source, column, shape):
    found = odd(source, Columns("row", column, ("about/maker",), labels={}))
    products, _ = reading.read(found)
    with pytest.raises(UserError, match=f"the feature '{column.replace('/', '-')}' is {shape}; expected: one picture"):
        list(found.write_pictures(products))
    assert not list(source.images.rglob(".*.tmp"))


def test_pictures_that_are_tensors_and_a_limit(source, tmp_path):
    found = odd(source, Columns("row", "pixels", (), labels={}), limit=3, splits={"train": "train[2:]", "val": "test"})
    with pytest.raises(UserError, match="no usable row .no text"):
        reading.read(found)
    world = World(tmp_path, TWO)
    found = replace(found, columns=replace(found.columns, text=("image/id",)))
    assert call("records", world.records(source=found)).status == 0
    assert len(list((tmp_path / "pictures/pixels").iterdir())) == Bank(tmp_path / "made").size == 3
    refused(call("records", world.records("other", source=replace(found, splits={"train": "train"}))),
            "pictures of another data set, of other splits.*source.images=")


@pytest.mark.parametrize("changes, words", [
    ({"name": "kaleido_sintetic"}, "there is no such data set.*did you mean 'kaleido_synthetic'"),
    ({"name": "kaleido_synthetic/n25"}, "TFDS refuses it.*n25"),
    ({"name": "kaleido_synthetic/n24"}, "not prepared; to fix: tfds build kaleido_synthetic/n24 --data_dir"),
    ({"images": None}, "source.images is empty"),
    ({"splits": {"train": "training"}}, "there is no split 'training'.*one of train, validation"),
    ({"columns": replace(COLUMNS, text=("texts",))}, "there is no feature 'texts'.*did you mean 'text'"),
    ({"columns": replace(COLUMNS, labels={"a": "category/name"})}, "there is no feature 'category/name'"),
    ({"columns": replace(COLUMNS, image="picture")}, "there is no feature 'picture'.*row, split"),
])
def test_what_is_refused(source, tmp_path, changes, words):
    refused(call("records", World(tmp_path, TWO).records(source=replace(source, **changes)), "--dry-run"), words)


def test_the_builders_of_the_package_are_known_before_anything_is_prepared(tmp_path):
    """In a process that has imported nothing else of ours."""
    words = ["-m", "kaleidobert.cli", "records", "tfds", f"bank={tmp_path / 'bank'}", f"source.table={tmp_path}", "--dry-run"]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 2 and "the data set is not prepared" in done.stderr, done.stderr


def test_the_named_config_fits_the_builder():
    found = load("records", ROOT / "configs/tfds.yaml").source
    assert found.name == "kaleido_synthetic/n600" and found.columns == COLUMNS and isinstance(found.images, Path)
