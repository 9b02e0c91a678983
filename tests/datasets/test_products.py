"""Pictures of every kind that a catalogue may hold, and those that cannot be read."""

import numpy as np
import pytest
from PIL import Image

from kaleidobert.datasets import products
from kaleidobert.errors import UserError


def picture(mode: str) -> Image.Image:
    red = Image.fromarray(np.full((8, 6, 3), (250, 10, 20), np.uint8))
    return red.quantize(8) if mode == "P" else red.convert(mode)  # the web palette would dither


@pytest.mark.parametrize("mode, suffix", [("RGB", "png"), ("RGB", "jpg"), ("CMYK", "jpg"), ("CMYK", "tif"), ("P", "png"), ("RGBA", "png"),
                                          ("P", "gif"), ("RGB", "webp"), ("RGB", "bmp")])
def test_colours_survive_every_kind_of_file(tmp_path, mode, suffix):
    picture(mode).save(tmp_path / f"a.{suffix}")
    image = products.read_image(tmp_path / f"a.{suffix}")
    assert image.shape == (8, 6, 3) and image.dtype == np.uint8
    assert np.abs(image.astype(int) - (250, 10, 20)).max() <= 40


def test_grey_pictures_have_three_equal_channels(tmp_path):
    picture("L").save(tmp_path / "a.png")
    image = products.read_image(tmp_path / "a.png")
    assert image.shape == (8, 6, 3) and np.ptp(image, axis=2).max() == 0


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    ramp = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    image = products.read_image(tmp_path / "a.png")[..., 0]
    assert image.min() == 0 and image.max() == 255 and np.all(np.diff(image.ravel().astype(int)) >= 3)


def test_transparency_becomes_white(tmp_path):
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "a.png")
    assert products.read_image(tmp_path / "a.png").min() == 255


def test_a_turned_photograph_stands_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (10, 4)).save(tmp_path / "a.jpg", exif=exif)
    assert products.read_image(tmp_path / "a.jpg").shape == (10, 4, 3)


def test_missing_empty_corrupt_truncated_and_huge_pictures_are_explained(tmp_path, monkeypatch):
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "corrupt.jpg").write_bytes(b"not a picture at all")
    picture("RGB").resize((300, 300)).save(tmp_path / "good.jpg")
    (tmp_path / "truncated.jpg").write_bytes((tmp_path / "good.jpg").read_bytes()[:600])
    for name, words in (("missing.jpg", "no such picture"), ("empty.jpg", "0 bytes"), ("corrupt.jpg", "cannot be decoded"),
                        ("truncated.jpg", "cannot be decoded")):
        with pytest.raises(UserError, match=f"{name}.*{words}"):
            products.read_image(tmp_path / name)
    monkeypatch.setattr(products, "MAX_PIXELS", 1000)
    with pytest.raises(UserError, match="300 x 300 pixels"):
        products.read_image(tmp_path / "good.jpg")
