"""Products that are not independent: pictures that are nearly the same, texts that are equal."""

import doctest
import io

import numpy as np
import pytest
from PIL import Image

from kaleidobert.datasets import near_duplicates as near
from kaleidobert.drawing.catalogue import draw


@pytest.fixture(scope="module")
def drawn() -> list[Image.Image]:
    """30 drawn products in 128 pixels, on plain grounds."""
    return [Image.fromarray(draw(5, index, 0, 128, 0.0).image) for index in range(30)]


def pairs(pictures) -> list[tuple[int, int]]:
    return [(int(i), int(j)) for i, j in alike(pictures, np.arange(len(pictures)))[0]]


def alike(pictures, owners) -> tuple[np.ndarray, np.ndarray]:
    return near.alike(np.stack([near.thumbnail(np.asarray(picture.convert("RGB"))) for picture in pictures]), owners)


def test_docstrings():
    result = doctest.testmod(near)
    assert not result.failed and result.attempted >= 2


def test_different_products_are_not_alike(drawn):
    assert pairs(drawn) == []


@pytest.mark.parametrize("changed", [
    lambda image: image.resize((90, 90)), lambda image: image.resize((200, 200)).resize((128, 128)),
    lambda image: recompressed(image, 40), lambda image: image.point(lambda value: min(255, value + 3))],
    ids=["smaller", "scaled twice", "compressed", "lighter"])
def test_a_copy_is_alike(drawn, changed):
    copies = [changed(image) for image in drawn[:10]]
    assert pairs([*drawn, *copies]) == [(number, 30 + number) for number in range(10)]


def test_white_things_on_white_ground_are_not_alike():
    """All their pixels are near to one another."""
    pictures = []
    for box in ((20, 20, 108, 108), (40, 10, 88, 118), (10, 40, 118, 88)):
        picture = Image.new("RGB", (128, 128), (255, 255, 255))
        picture.paste((247, 247, 247), box)
        pictures.append(picture)
    assert pairs(pictures) == [] and pairs([pictures[0], recompressed(pictures[0], 90)]) == [(0, 1)]


def test_the_search_goes_over_its_blocks(drawn, monkeypatch):
    whole = pairs([*drawn, *drawn])
    monkeypatch.setattr(near, "ROWS", 7)
    monkeypatch.setattr(near, "COLUMNS", 5)
    assert pairs([*drawn, *drawn]) == whole == [(number, 30 + number) for number in range(30)]


def test_a_picture_that_very_many_have_stands_for_none(drawn, monkeypatch):
    """"No picture yet" would join half a shop to one group, by a number of pairs that grows with the square."""
    monkeypatch.setattr(near, "ROWS", 11)
    several = [drawn[0]] * (near.SHARED + 2)
    joined, shared = alike([*drawn[1:4], *several, drawn[2]], np.arange(len(several) + 4))
    assert joined.tolist() == [[1, len(several) + 3]] and shared.tolist() == list(range(3, len(several) + 3))
    joined, shared = alike(several[:-1], np.arange(len(several) - 1))
    assert len(joined) == (near.SHARED + 1) * near.SHARED // 2 and not len(shared)


def plain(thumbnails: np.ndarray, owners: np.ndarray) -> tuple[list, list]:
    """The same of all pairs."""
    deviations = thumbnails.std(1)
    least = np.minimum(deviations[:, None], deviations)
    distances = np.array([((thumbnails - one) ** 2).mean(1) for one in thumbnails])
    near_ = (distances <= np.minimum(near.DISTANCE, near.CONTRAST * least) ** 2 + 1e-2) & (owners[:, None] != owners)
    shared = near_.sum(1) > near.SHARED
    return np.argwhere(np.triu(near_ & ~shared & ~shared[:, None], 1)).tolist(), np.flatnonzero(shared).tolist()


KINDS = {  # thumbnails of so many different ones, how far copies are from them, and which part is one that everybody has
    "apart": (2000, 0, 0.0), "copies": (60, 0, 0.0), "nearly copies": (60, 9, 0.0), "one that many have": (60, 0, 0.3),
    "one that many nearly have": (60, 6, 0.4), "greys": (40, 3, 0.2)}


@pytest.mark.parametrize("kind", KINDS)
def test_the_result_is_that_of_comparing_all_with_all(kind, monkeypatch):
    monkeypatch.setattr(near, "ROWS", 16)
    monkeypatch.setattr(near, "COLUMNS", 64)
    count, noise, common = KINDS[kind]
    rng = np.random.default_rng(7)
    base = rng.integers(110, 146, (count, 768)) if kind == "greys" else rng.integers(0, 256, (count, 768))
    which = np.where(rng.random(160) < common, 0, rng.integers(0, count, 160))
    thumbnails = np.clip(base[which] + rng.integers(-noise, noise + 1, (160, 768)) * rng.integers(0, 2, (160, 1)), 0, 255)
    owners = rng.integers(0, 120, 160)
    joined, shared = near.alike(thumbnails.astype(np.uint8), owners)
    assert (joined.tolist(), shared.tolist()) == plain(thumbnails.astype(np.float32), owners)
    assert joined.tolist() or kind == "apart"


def test_one_picture_is_near_none():
    joined, shared = near.alike(np.zeros((1, 768), np.uint8), np.zeros(1, np.int64))
    assert joined.shape == (0, 2) and shared.shape == (0,)


def test_pictures_of_one_owner_are_no_pair(drawn):
    joined, shared = alike([drawn[0]] * 21, np.repeat([0, 1], [20, 1]))
    assert joined.tolist() == [[number, 20] for number in range(20)] and not len(shared)


def test_a_text_that_very_many_share_says_not_which_product_it_is():
    assert list(near.same_texts(["a b"] * (near.COMMON - 1))) == [(0, number) for number in range(1, near.COMMON - 1)]
    assert list(near.same_texts(["a b"] * near.COMMON)) == [] and list(near.same_texts(["", "", "!"])) == []


def test_groups_are_joined_through_others():
    groups = ["a", "b", "c", "d", "e", "a"]
    assert near.joined(groups, [(1, 2), (3, 4), (4, 2)]) == {"c": "b", "d": "b", "e": "b"}
    assert near.joined(groups, []) == {} and near.joined(groups, [(0, 5)]) == {}


def test_pairs_across_splits():
    assert near.across(["train", "val", "train"], [(0, 1), (0, 2)]) == [(0, 1)]


def recompressed(image: Image.Image, quality: int) -> Image.Image:
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=quality)
    return Image.open(io.BytesIO(sink.getvalue()))
