"""The drawn catalogue: deterministic, truthful about mask, parts, words and colours; restarts and refuses."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from kaleidobert.drawing.catalogue import VIEWS, draw, layout, write_catalogue
from kaleidobert.drawing.design import COLOURS, PRODUCT_TYPES, design, subcategory
from kaleidobert.drawing.garments import SKETCHES
from kaleidobert.drawing.wording import describe
from kaleidobert.errors import UserError

SIZE = 96


def one_of_each(seed: int = 0) -> dict[str, int]:
    """{subcategory: the index of its first product}."""
    first: dict[str, int] = {}
    for index in range(300):
        first.setdefault(subcategory(seed, index), index)
    return first


EACH = one_of_each()


def read(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "products.jsonl").read_text(encoding="utf-8").splitlines()]


def content(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_enough_kinds_and_each_in_three_hundred_products():
    assert len({kind.category for kind in PRODUCT_TYPES.values()}) >= 6 and len(PRODUCT_TYPES) >= 18 and len(COLOURS) >= 14
    assert set(PRODUCT_TYPES) == set(SKETCHES)
    for seed in range(5):
        counts = {name: 0 for name in PRODUCT_TYPES}
        for index in range(300):
            counts[subcategory(seed, index)] += 1
        assert min(counts.values()) >= 2
        assert max(counts.values()) <= 25


@pytest.mark.parametrize("view", range(len(VIEWS)))
@pytest.mark.parametrize("name", sorted(PRODUCT_TYPES))
def test_every_kind_is_drawn_truthfully(name, view):
    index = EACH[name]
    drawing = draw(0, index, view, SIZE, clutter=0.0)
    assert drawing.image.shape == (SIZE, SIZE, 3) and drawing.image.dtype == np.uint8
    assert drawing.mask.shape == (SIZE, SIZE) and drawing.mask.dtype == bool
    assert drawing.labels == {"category": PRODUCT_TYPES[name].category, "subcategory": name}
    assert 0.04 < drawing.mask.mean() < 1
    # on white, whatever is clearly not white is the product; its edge pixels may be mixed
    coloured = (drawing.image < 160).any(2)
    grown = np.zeros_like(drawing.mask)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            grown |= np.roll(drawing.mask, (dy, dx), (0, 1))
    assert not (coloured & ~grown).any()
    for part in drawing.parts:
        x1, y1, x2, y2 = part.box
        assert 0 <= x1 < x2 <= SIZE and 0 <= y1 < y2 <= SIZE
        assert drawing.mask[int(y1):int(np.ceil(y2)), int(x1):int(np.ceil(x2))].any(), part
        assert re.search(rf"\b{part.word}\b", drawing.text, re.IGNORECASE), (part.word, drawing.text)


def test_clutter_changes_the_background_and_nothing_else():
    for index in range(12):
        plain, busy = draw(3, index, 0, SIZE, clutter=0.0), draw(3, index, 0, SIZE, clutter=1.0)
        assert (plain.mask == busy.mask).all() and plain.parts == busy.parts and plain.text == busy.text
        outside = ~plain.mask
        assert (plain.image[outside].min(1) > 250).mean() > 0.9
        assert (busy.image[outside].min(1) > 250).mean() < 0.2
        inside = np.abs(plain.image.astype(int) - busy.image)[plain.mask].max(1)
        assert np.median(inside) <= 1


def test_the_share_of_clutter_is_the_one_asked_for():
    drawings = [draw(1, index, 0, 32, clutter=0.4) for index in range(150)]
    busy = sum(np.median(drawing.image[~drawing.mask]) < 250 for drawing in drawings)
    assert 40 <= busy <= 80


def test_each_described_part_is_shown_from_the_front_and_no_other():
    described = 0
    for index in range(200):
        _, words = describe(design(2, index), 2, index)
        assert {part.word for part in layout(2, index, 0, 192).parts} == set(words.values()), index
        described += len(words)
    assert described > 500


def test_other_views_show_fewer_parts():
    front, back, detail, turned = (sum(len({part.word for part in layout(2, index, view, 192).parts}) for index in range(60))
                                   for view in range(len(VIEWS)))
    assert 0 < back < front and 0 < detail < front and turned > 0.95 * front


def test_a_part_lies_where_its_colour_is():
    """A printed figure has the second colour: the box named "print" holds nearly all of it."""
    checked = 0
    for index in range(800):
        product = design(5, index)
        if not product.has("print") or "HOODIES" in product.subcategory:
            continue
        drawing = draw(5, index, 0, SIZE, clutter=0.0)
        boxes = [part.box for part in drawing.parts if part.word in ("print", "graphic")]
        if not boxes or len(product.contrast):
            continue
        distance = np.abs(drawing.image.astype(int) - product.second).sum(2)
        ys, xs = np.nonzero((distance < 30) & drawing.mask)
        x1, y1, x2, y2 = boxes[0]
        within = (xs >= x1 - 1) & (xs <= x2) & (ys >= y1 - 1) & (ys <= y2)
        if len(xs) > 20 and product.accent not in ("white", "black", "grey", "beige"):  # buttons and linings have these colours
            checked += 1
            assert within.mean() > 0.8, (index, drawing.text)
    assert checked >= 8


def test_solid_products_have_the_colour_that_they_are_named_after():
    names = list(COLOURS)
    palette = np.array([COLOURS[name] for name in names], float)
    right = total = 0
    for index in range(260):
        product = design(7, index)
        if product.pattern == "solid" and not product.contrast and product.product_type.category != "SHOES":  # soles differ
            drawing = draw(7, index, 0, 48, clutter=0.0)
            mean = drawing.image[drawing.mask].astype(float).mean(0)
            total += 1
            right += names[int(((palette - mean) ** 2).sum(1).argmin())] == drawing.attributes["colour"]
            assert re.search(rf"\b{drawing.attributes['colour']}\b", drawing.text, re.IGNORECASE)
    assert total > 60
    assert right / total > 0.85


def test_same_seed_same_bytes_whatever_the_order():
    first = [draw(11, index, view, 64, 0.5) for index in range(6) for view in range(2)]
    again = [draw(11, index, view, 64, 0.5) for index in reversed(range(6)) for view in (1, 0)][::-1]
    other = [draw(12, index, view, 64, 0.5) for index in range(6) for view in range(2)]
    for a, b in zip(first, again, strict=True):
        assert a.image.tobytes() == b.image.tobytes() and a.mask.tobytes() == b.mask.tobytes()
        assert (a.text, a.parts, a.attributes) == (b.text, b.parts, b.attributes)
    assert all(a.image.tobytes() != b.image.tobytes() for a, b in zip(first, other, strict=True))


def test_texts_differ_and_are_not_the_label_alone():
    texts = [layout(0, index, 0, SIZE).text for index in range(400)]
    assert len(set(texts)) > 390
    assert max(len(text.split()) for text in texts) <= 45
    assert all(text[0].isupper() and text.endswith(".") and not set("{}~%*") & set(text) for text in texts)


def test_catalogue_on_disk(tmp_path):
    calls = []
    summary = write_catalogue(tmp_path / "a", 24, seed=4, size=48, views=2, progress=lambda *step: calls.append(step))
    rows = read(tmp_path / "a")
    assert summary["products"] == 24 and summary["pictures"] == summary["drawn"] == len(rows) == 48
    assert calls[0] == (0, 48) and calls[-1] == (48, 48)
    assert list(rows[0]) == ["image", "image_id", "product_id", "group_id", "view", "split", "category", "subcategory", "text",
                             "mask", "parts", "attributes", "size"]
    assert len({row["image_id"] for row in rows}) == 48
    for key in ("product_id", "group_id", "text"):
        splits: dict[str, set] = {}
        for row in rows:
            splits.setdefault(row[key], set()).add(row["split"])
        assert all(len(names) == 1 for names in splits.values())
    assert summary["val"] + summary["train"] == 24 and 2 <= summary["val"] <= 6
    for row in rows:
        with Image.open(tmp_path / "a" / row["image"]) as image, Image.open(tmp_path / "a" / row["mask"]) as mask:
            assert image.size == mask.size == (48, 48) == (row["size"],) * 2
            assert image.mode == "RGB" and mask.mode == "L" and set(np.unique(mask)) == {0, 255}
        index, view = int(row["product_id"][1:]), VIEWS.index(row["view"])
        drawing = draw(4, index, view, 48, 0.25)
        assert row["text"] == drawing.text and row["attributes"] == drawing.attributes
        assert [tuple(part["box"]) for part in row["parts"]] == [part.box for part in drawing.parts]
        assert all(isinstance(value, str) for value in row["attributes"].values())
    assert not [name for name in content(tmp_path / "a") if name.endswith(".tmp")]


def test_a_longer_catalogue_begins_with_the_shorter_one_and_workers_do_not_matter(tmp_path):
    write_catalogue(tmp_path / "short", 18, seed=1, size=32, views=1)
    write_catalogue(tmp_path / "long", 40, seed=1, size=32, views=1, workers=2)
    short, long = content(tmp_path / "short"), content(tmp_path / "long")
    assert long["products.jsonl"].startswith(short["products.jsonl"])
    for name, data in short.items():
        if name.endswith((".jpg", ".png")):
            assert long[name] == data


def test_restart_finishes_what_is_missing_and_reuse_draws_nothing(tmp_path):
    folder = tmp_path / "c"
    write_catalogue(folder, 6, size=32)
    whole = content(folder)
    (folder / "products.jsonl").unlink()  # as after an interruption
    (folder / "images" / "p000002-back.jpg").unlink()
    (folder / "masks" / "p000004-front.png").unlink()
    assert write_catalogue(folder, 6, size=32)["drawn"] == 2
    assert content(folder) == whole
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert write_catalogue(folder, 6, size=32)["drawn"] == 0
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("changed", [{"num_products": 4}, {"seed": 1}, {"size": 33}, {"views": 1}, {"clutter": 0.5},
                                     {"val_fraction": 0.3}])
def test_another_catalogue_is_refused(tmp_path, changed):
    write_catalogue(tmp_path / "d", **{"num_products": 3, "size": 32})
    with pytest.raises(UserError, match=next(iter(changed))):
        write_catalogue(tmp_path / "d", **{"num_products": 3, "size": 32, **changed})


def test_foreign_data_is_refused_and_left_alone(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(UserError, match="not drawn here"):
        write_catalogue(tmp_path, 2, size=32)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


@pytest.mark.parametrize("wrong", [{"num_products": 0}, {"num_products": 2.5}, {"size": 31}, {"size": True}, {"views": 0},
                                   {"views": 5}, {"clutter": 1.1}, {"clutter": -0.1}, {"val_fraction": 1.0}, {"seed": -1},
                                   {"workers": 0}, {"clutter": float("nan")}, {"num_products": "3"}])
def test_wrong_arguments_are_named(tmp_path, wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        write_catalogue(tmp_path / "e", **{"num_products": 2, **wrong})
    assert not (tmp_path / "e").exists()


def test_a_folder_that_cannot_be_made_is_one_message(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_catalogue(tmp_path / "file" / "sub", 2, size=32)
