"""Raw pictures and texts become what the bank holds of them, whatever they come as; those that cannot are named."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kaleidobert.configs import Foreground
from kaleidobert.datasets.bank import builder, queries
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.bank.queries import BY_NETWORK, QueryReader
from kaleidobert.datasets.products import read_image
from kaleidobert.datasets.sampling.finetuning import text_inputs
from kaleidobert.datasets.sampling.pretraining import clean_features
from kaleidobert.errors import UserError
from kaleidobert.levels import KALEIDO
from kaleidobert.preprocessors import encoders
from tests.support.tiny import tiny_bank

ROWS = np.array([0, 3, 7, 1])


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> Bank:
    return tiny_bank(tmp_path_factory.mktemp("queries"), num_products=12)


@pytest.fixture(scope="module")
def reader(bank) -> QueryReader:
    return QueryReader(bank, encoders.build)


def paths(bank: Bank) -> list[str]:
    return [bank.table[row]["image_path"] for row in ROWS]


def equal(arrays, bank: Bank) -> None:
    expected = {"patch_features": clean_features(bank, ROWS), "patch_boxes": bank.boxes[ROWS]}
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        assert arrays[name].dtype == array.dtype and np.array_equal(arrays[name], array), name


@pytest.mark.parametrize("form", [str, Path, Image.open, read_image, lambda path: Image.open(path).convert("RGBA"),
                                  lambda path: np.asarray(Image.open(path).convert("RGBA"))])
def test_pictures_are_those_of_the_bank(bank, reader, form):
    equal(reader.pictures([form(path) for path in paths(bank)]), bank)


def test_what_cannot_be_read_is_told_apart(bank, reader, tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    first, second, *rest = paths(bank)
    arrays, faults = reader.readable([tmp_path / "empty.png", first, tmp_path / "none.png", second, *rest])
    equal(arrays, bank)
    said = {number: fault.what for number, fault in faults.items()}
    assert said == {0: "the picture file is empty (0 bytes)", 2: "there is no such picture"}
    arrays, faults = reader.readable([tmp_path / "none.png"])
    assert list(faults) == [0] and arrays["patch_features"].shape[0] == 0 and arrays["patch_boxes"].shape[0] == 0


def test_another_pillow_is_said(bank, reader, monkeypatch):
    assert "Pillow" not in reader.note
    monkeypatch.setattr(queries.PIL, "__version__", "99.1.0")
    note = QueryReader(bank, encoders.build).note
    assert "made with Pillow" in note and "this is Pillow 99.1.0" in note


def test_a_bank_of_bytes_and_one_with_fewer_levels(bank, tmp_path):
    for _ in builder.copy_bank(bank, tmp_path / "bytes", "uint8"):
        pass
    equal(QueryReader(Bank(tmp_path / "bytes"), encoders.build).pictures(paths(bank)), Bank(tmp_path / "bytes"))
    fewer = bank.require((KALEIDO[1], replace(KALEIDO[3], pretext="none", num_masked=0)), "")
    equal(QueryReader(fewer, encoders.build).pictures(paths(bank)), fewer)


def test_texts_are_those_of_the_bank(bank, reader):
    texts = [bank.table[row]["text"] for row in ROWS]
    expected = text_inputs(bank, ROWS)
    for given in (texts, [f"<p>{text.replace(' ', '&nbsp; ')}</p>\n" for text in texts]):
        arrays = reader.texts(given)
        assert all(np.array_equal(arrays[name], expected[name]) and arrays[name].dtype == expected[name].dtype for name in expected)
    empty, long = reader.texts(["", "red shirt " * 40])["token_mask"].sum(1)
    assert (empty, long) == (2, bank.text_length)
    assert reader.texts([])["token_ids"].shape == (0, bank.text_length)


def test_odd_pictures_are_read(bank, reader, tmp_path):
    whole = Image.open(paths(bank)[0])
    grey, deep = whole.convert("L"), Image.fromarray(np.asarray(whole.convert("L")).astype(np.uint16) * 257)
    frames = [whole.convert("P"), Image.new("P", whole.size)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "first.gif")
    whole.convert("CMYK").save(tmp_path / "cmyk.tif")
    same = {"grey": [grey, np.asarray(grey), np.asarray(grey)[..., None], deep, np.asarray(deep)],
            "first frame": [tmp_path / "first.gif", tmp_path / "moving.gif", Image.open(tmp_path / "moving.gif")],
            "CMYK": [whole.convert("CMYK"), str(tmp_path / "cmyk.tif")]}
    for name, forms in same.items():
        features = reader.pictures(forms)["patch_features"]
        assert all(np.array_equal(features[0], one) for one in features[1:]), name
    assert reader.pictures([])["patch_features"].shape == (0, 55, bank.feature_size)


def test_what_is_no_picture_is_named(bank, reader, tmp_path):
    good = paths(bank)[0]
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("a red shirt")
    (tmp_path / "drawing.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>')
    Image.new("RGB", (1, 1)).save(tmp_path / "tiny.png")
    for name, words in (("empty.jpg", "0 bytes"), ("text.jpg", "cannot be decoded"), ("drawing.svg", "cannot be decoded"),
                        ("tiny.png", "1 x 1 pixels; expected: at least 5 x 5"), ("missing.jpg", "no such picture")):
        with pytest.raises(UserError, match=f"{name}: .*{words}"):
            reader.pictures([good, tmp_path / name])
    for item, words in ((Image.new("RGB", (1, 1)), "1 x 1 pixels"), (Image.new("RGB", (0, 9)), "0 x 9 pixels"), (b"\xff\xd8", "a bytes"),
                        (None, "a NoneType"), (np.zeros((9, 9, 3)), r"float64\[9, 9, 3\]"), (np.zeros((9, 9, 2), np.uint8), "uint8"),
                        (np.zeros((0, 9, 3), np.uint8), r"uint8\[0, 9, 3\]")):
        with pytest.raises(UserError, match=f"^picture 2 of 2: .*{words}"):
            reader.pictures([good, item])
    with pytest.raises(UserError, match=r"https://shop.example/a.png: .*at an address"):
        reader.pictures(["https://shop.example/a.png?key=secret"])
    with pytest.raises(UserError, match="^text 2 of 2: a text is a float"):
        reader.texts(["red", float("nan")])
    for text in ("bl\udcffue", "bl\ud83d"):
        with pytest.raises(UserError, match="^text 2 of 2: character 3 of the text is none.*; expected: UTF-8 text"):
            reader.texts(["red", text])


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_pictures_that_are_too_large_are_named(reader, tmp_path, monkeypatch):
    Image.new("1", (20_000, 10_000)).save(tmp_path / "large.png")
    with pytest.raises(UserError, match="large.png: the picture has far too many pixels; expected: at most 100,000,000"):
        reader.pictures([tmp_path / "large.png"])
    monkeypatch.setattr("kaleidobert.datasets.products.MAX_PIXELS", 1000)
    with pytest.raises(UserError, match="^picture 1 of 1: the picture is 40 x 30 pixels"):
        reader.pictures([np.zeros((30, 40, 3), np.uint8)])


def test_a_feature_that_cannot_be_used_is_named(bank, monkeypatch):
    monkeypatch.setattr(builder, "_ENCODERS", {})
    broken = encoders.PictureEncoder(bank.feature_size, lambda patches: np.full((len(patches), bank.feature_size), np.nan), 64)
    with pytest.raises(UserError, match=f"{paths(bank)[1]}: .*NaN"):
        QueryReader(bank, lambda config: broken).pictures(paths(bank)[1:2])


def test_where_masks_gave_the_foreground_the_network_finds_it(bank, tmp_path, monkeypatch):
    monkeypatch.setattr(builder, "_NETWORKS", {})

    class Middle:
        size = 16

        def __call__(self, inputs):
            answer = np.zeros(inputs.shape[:3], np.float32)
            answer[:, 4:12, 4:12] = 1
            return answer

    shutil.copytree(bank.folder, tmp_path / "bank")
    other = Bank(tmp_path / "bank")
    other.index["config"]["foreground"]["method"] = "masks"
    reader = QueryReader(other, encoders.build, lambda weights: Middle())
    boxes = reader.pictures(paths(bank))["patch_boxes"]
    assert reader.note == BY_NETWORK and not np.array_equal(boxes, bank.boxes[ROWS])
    assert 0.05 < boxes[:, 0, 4].min() < boxes[:, 0, 4].max() < 0.6


def test_an_encoder_or_a_network_that_is_another_now(bank, tmp_path):
    other = Bank(bank.folder)
    other.index["config"]["foreground"] |= {"method": "network", "weights": "/elsewhere/model_zoo/weights/foreground_net.npz"}
    assert queries._config(other)[0].foreground.weights == Foreground().weights  # the package's own, which lay elsewhere
    other.index["config"]["foreground"]["weights"] = "/elsewhere/mine.npz"
    with pytest.raises(UserError, match="/elsewhere/mine.npz: the weights of the foreground network are not there"):
        QueryReader(other, encoders.build)
    other = Bank(bank.folder)
    other.index["encoder"]["weights"] = "f00"
    with pytest.raises(UserError, match="pixels: the encoder's weights are none; expected: .*f00"):
        QueryReader(other, encoders.build)
