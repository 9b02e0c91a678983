"""Schemas of the released files: the published ones, what is refused, and the one length that was published wrongly."""

import json

import pytest

from kaleidobert.errors import UserError
from kaleidobert.levels import KALEIDO, KaleidoLevel
from kaleidobert.released import schema as released_schema
from kaleidobert.released.schema import Column
from tests.support.golden_data import GOLDEN, needs_golden

TASKS = ("pretrain", "finetune", "retrieve")
TWO = (KaleidoLevel("rotation", 1, "rotate"), KaleidoLevel("blank", 6, "blank", num_masked=4))


@needs_golden
@pytest.mark.parametrize("task", TASKS)
def test_published_schemas(task):
    text = json.loads((GOLDEN / "G4/schemas.json").read_text())
    schema = released_schema.parse(text[task], "schemas.json")
    assert str(released_schema.released(task)) == text[task] == str(schema)
    assert released_schema.for_task(schema, task) == schema
    if task == "pretrain":
        published = released_schema.parse(text["pretrain_published35"], "schemas.json")
        assert released_schema.for_task(published, task).columns == schema.columns


@pytest.mark.parametrize("levels", [KALEIDO, TWO])
@pytest.mark.parametrize("task", TASKS)
def test_any_levels(task, levels):
    schema = released_schema.released(task, levels, 16, 4, 8)
    assert released_schema.for_task(schema, task, levels) == schema
    assert schema.column(released_schema.feature_column(levels[-1])).length == levels[-1].num_patches * 8
    as_base64 = str(schema).replace("rotation:float", "rotation:base64")
    parsed = released_schema.for_task(released_schema.parse(as_base64, "x"), task, levels)
    assert parsed.column("img_feature_convert_rotation").type == "base64"


@pytest.mark.parametrize("value", [
    "a:int:3, b:float:2\n", {"a": "int:3", "b": "float:2"}, ["a:int:3", Column("b", "float", 2)],
    [{"name": "a", "type": "int", "length": 3}, {"name": "b", "type": "float", "length": 2}]])
def test_forms(value):
    assert released_schema.parse(value, "x").columns == (Column("a", "int", 3), Column("b", "float", 2))


@pytest.mark.parametrize(("value", "message"), [
    ("a:int:3,b:double:2", "column 2 (b): unknown type 'double'"), ("a:int:0", "length is '0'"), ("a:int:-1", "length is '-1'"),
    ("a:int:x", "length is 'x'"), ("a:int:99999999999", "length is"),
    ("a:int:1,b:int:1,a:str:1", "'a' is there twice"), ("a:int", "'a:int' is no column"),
    ("a:int:1,,b:int:1", "column 2: is empty"), ("", "column 1: is empty"), (":int:1", "name '' cannot"),
    ("../x:int:1", "name '../x' cannot"), ("a:str:2", "length of a text"),
    ([], "no columns"), (7, "the schema is a int"), ([{"name": "a"}], "has the keys ['name']"), ([3], "3 is no column")])
def test_refusals(value, message):
    with pytest.raises(UserError) as error:
        released_schema.parse(value, "flag --input_schema")
    assert message in str(error.value) and str(error.value).startswith("flag --input_schema")


@pytest.mark.parametrize(("old", "new", "message"), [
    ("segment_ids:int:16,", "", "lacks the column segment_ids"),
    ("img_loc_position_jigsaw:int:20", "img_loc_position_jigsaw:int:21", "img_loc_position_jigsaw is declared with 21 numbers"),
    ("img_rotate_gt:int:1", "img_rotate_gt:float:1", "img_rotate_gt is declared as float"),
    ("img_feature_convert_grey_mask:float:128", "img_feature_convert_grey_mask:float:120", "declared with 120 numbers")])
def test_for_task_refuses(old, new, message):
    text = str(released_schema.released("pretrain", KALEIDO, 16, 4, 8))
    assert old in text
    with pytest.raises(UserError, match=message):
        released_schema.for_task(released_schema.parse(text.replace(old, new), "x"), "pretrain")


def test_encoding_and_task_are_known():
    with pytest.raises(UserError, match="unknown encoding"):
        released_schema.parse("a:str:1", "x", "ebcdic")
    with pytest.raises(UserError, match="unknown task"):
        released_schema.released("caption")
    with pytest.raises(UserError, match="lacks the column img_category_id"):
        text = str(released_schema.released("finetune")).replace("img_category_id:int:1,", "")
        released_schema.for_task(released_schema.parse(text, "x"), "finetune", required=["img_category_id"])
