"""Files of captions: both ways through, pairs, and what is said of damaged ones."""

import json

import pytest

from kaleidobert.errors import UserError
from kaleidobert.evaluators.files import captions as coco
from tests.support.score_data import write_caption_lines, write_reference_lines

CAPTIONS = {"7": "A red bag", "img-2.jpg": "", "3": "Élan shoes"}
REFERENCES = {"7": ["Red bag", "A bag, red"], "img-2.jpg": ["Hat"], "3": ["Shoes"]}


@pytest.mark.parametrize("write", [coco.write_results, write_caption_lines])
def test_captions_both_ways(tmp_path, write):
    write(tmp_path / "c", [7, "img-2.jpg", "3"], list(CAPTIONS.values()))
    assert coco.read_results(tmp_path / "c") == CAPTIONS
    first = json.loads((tmp_path / "c").read_text().replace("\n", " ").split("}")[0].lstrip("[ ") + "}")
    assert first == {"image_id": 7, "caption": "A red bag"}


@pytest.mark.parametrize("write", [coco.write_annotations, write_reference_lines])
def test_references_both_ways(tmp_path, write):
    write(tmp_path / "r", [7, "img-2.jpg", "3"], list(REFERENCES.values()))
    assert coco.read_references(tmp_path / "r") == REFERENCES


def test_annotations_are_coco_s(tmp_path):
    coco.write_annotations(tmp_path / "r.json", ["a", "b"], [["one", "two"], ["three"]])
    assert json.loads((tmp_path / "r.json").read_text()) == {
        "images": [{"id": "a"}, {"id": "b"}],
        "annotations": [{"image_id": "a", "id": 1, "caption": "one"}, {"image_id": "a", "id": 2, "caption": "two"},
                        {"image_id": "b", "id": 3, "caption": "three"}]}
    (tmp_path / "plain.json").write_text('{"annotations": [{"image_id": 2, "caption": "x"}, {"image_id": 2, "caption": "y"}]}')
    assert coco.read_references(tmp_path / "plain.json") == {"2": ["x", "y"]}  # images are not needed


def test_one_line_is_a_file(tmp_path):
    (tmp_path / "c").write_text('{"image_id": 1, "caption": "x"}')
    assert coco.read_results(tmp_path / "c") == {"1": "x"}
    (tmp_path / "r").write_text('\ufeff{"image_id": 1, "references": ["x"]}\n\n', encoding="utf-8")
    assert coco.read_references(tmp_path / "r") == {"1": ["x"]}


def test_pairs_stand_in_the_order_of_the_references():
    assert coco.paired({"3": "c", "7": "a", "img-2.jpg": "b"}, REFERENCES) == (
        ["7", "img-2.jpg", "3"], ["a", "b", "c"], list(REFERENCES.values()))


@pytest.mark.parametrize("captions, references, message", [
    ({"1": "x"}, {"1": ["x"], "2": ["y"]}, "1 of 2 images have no caption, the first of them '2'"),
    ({"1": "x", "4": "y"}, {"1": ["x"]}, "1 of 2 images have no references, the first of them '4'")])
def test_ids_on_one_side(captions, references, message):
    with pytest.raises(UserError, match=f"mine.json: {message}"):
        coco.paired(captions, references, "mine.json")


@pytest.mark.parametrize("text, message", [
    ("", "file is empty"), ("[]", "no captions"), ('[{"image_id": 1, "caption": "x"},\n {"image_id": 2, "cap', "file, line 2.*cut off"),
    ('{"image_id": 1, "caption": "x"}\n{"image_id": 2, "capt', "file, line 2: not valid JSON, perhaps cut off"),
    ('{"image_id": 1, "capt', "file, line 1: not valid JSON, perhaps cut off"),
    ('{"image_id": 1, "caption": "x"}\n{"image_id": "1", "caption": "y"}', "line 2: image '1' has a second caption"),
    ('[{"image_id": 1, "caption": "x"}, {"caption": "y"}]', r"entry 1 \(from 0\): there is no image_id"),
    ('[{"image_id": 1.5, "caption": "x"}]', "image_id is 1.5"), ('[{"image_id": true, "caption": "x"}]', "image_id is True"),
    ('[{"image_id": 1, "caption": null}]', "caption of image '1' is None"), ('["x"]', "'x' is no object"),
    ('{"annotations": []}', "annotations in place of results"), ("3", "not a list"), (b"\xff\xfe", "is not UTF-8 .*at byte 0")])
def test_damaged_results(tmp_path, text, message):
    (tmp_path / "file").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message):
        coco.read_results(tmp_path / "file")


@pytest.mark.parametrize("text, message", [
    ("\n", "file is empty"), ('{"annotations": []}', "no captions"), ('{"images": [{"id": 1}]}', "no annotations"),
    ('[{"image_id": 1, "caption": "x"}]', "no annotations"), ('{"annotations": [{"image_id": 1, "caption"', "line 1: not valid JSON"),
    ('{"images": [{"id": 1}], "annotations": [{"image_id": 2, "caption": "x"}]}', "image '2' is not among the images"),
    ('{"images": [{"id": 1}, {"id": 1}], "annotations": []}', r"images, entry 1 \(from 0\): image '1' stands here a second time"),
    ('{"images": [{"id": 1}], "annotations": []}', "image '1' has no references"),
    ('{"annotations": [{"image_id": 1, "caption": " "}]}', "annotations, entry 0.*image '1' has an empty reference"),
    ('{"image_id": 1, "references": []}', "line 1: image '1' has no references"),
    ('{"image_id": 1, "references": "x"}', "line 1: image '1' has no references"),
    ('{"image_id": 1, "references": ["x", ""]}', "empty reference"), ('{"image_id": 1, "references": ["x", 5]}', "empty reference"),
    ('{"image_id": 1, "references": ["x"]}\n{"image_id": 1, "references": ["y"]}', "line 2: image '1' stands here a second time"),
    ('{"image_id": 1, "references": ["x"]}\n[1]', r"line 2: '\[1\]' is no object")])
def test_damaged_references(tmp_path, text, message):
    (tmp_path / "file").write_text(text)
    with pytest.raises(UserError, match=message):
        coco.read_references(tmp_path / "file")


def test_missing_file_and_unequal_writes(tmp_path):
    for reader in (coco.read_results, coco.read_references):
        with pytest.raises(UserError, match="none.json: cannot be read"):
            reader(tmp_path / "none.json")
    for ids, values, message in (([1], [], "1 ids, 0"), ([], [], "at least one"), ([1, "1"], ["x", "y"], "twice")):
        for write in (coco.write_results, coco.write_annotations):
            with pytest.raises(UserError, match=message):
                write(tmp_path / "file", ids, values)
    with pytest.raises(UserError, match="image 5 has no references"):
        coco.write_annotations(tmp_path / "file", [5], [[]])
    assert not list(tmp_path.iterdir())
