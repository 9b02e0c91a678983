"""Catalogues: CSV, TSV and JSONL, column mapping, what is left out and what is refused."""

import json

import pytest

from kaleidobert.configs import Columns
from kaleidobert.datasets.sources import reading as catalogue
from kaleidobert.datasets.sources.table import TableSource
from kaleidobert.errors import UserError

COLUMNS = Columns("id", "picture", ("title", "description"), group="family", view=("side",), split="part",
                  labels={"category": "kind"})
HEAD = "id,picture,title,description,family,side,part,kind\n"


def source(tmp_path, text, name="table.csv", columns=COLUMNS, **options):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return TableSource(tmp_path / name, columns, **options)


def test_a_row_becomes_a_product(tmp_path):
    table = HEAD + 'a,pics/a.jpg,"Red tie.","Made of  silk,\nlong",f1,front,train,Ties\na,pics/b.jpg,Red tie,,f1,back,train,Ties\n'
    (one, two), skipped = catalogue.read(source(tmp_path, table))
    assert not skipped
    assert (one.image_id, one.product_id, one.group, one.view, one.split) == ("a/front", "a", "f1", "front", "train")
    assert one.text == "Red tie. Made of silk, long" and two.text == "Red tie"
    assert one.labels == {"category": "Ties"}
    assert one.image_path == str(tmp_path / "pics/a.jpg")


def test_jsonl_and_tsv_hold_the_same(tmp_path):
    row = {"id": "a", "picture": "a.jpg", "title": "Tie", "description": None, "family": 7, "side": "", "part": "val", "kind": "T"}
    (one,), _ = catalogue.read(source(tmp_path, json.dumps(row) + "\n\n", "table.jsonl"))
    (two,), _ = catalogue.read(source(tmp_path, HEAD.replace(",", "\t") + "a\ta.jpg\tTie\t\t7\t\tval\tT\n", "table.tsv"))
    assert (one.image_id, one.text, one.group, one.split) == (two.image_id, two.text, two.group, two.split) == ("a", "Tie", "7", "val")


def test_rows_that_cannot_be_used_are_left_out_with_the_reason(tmp_path):
    rows = ["a,a.jpg,Tie,,f,,train,T", "a,b.jpg,Tie,,f,,train,T", ",c.jpg,Tie,,f,,train,T", "d,,Tie,,f,,train,T", "e,e.jpg,,,f,,train,T",
            "f,f.jpg,Tie,,f,,,T"]
    products, skipped = catalogue.read(source(tmp_path, HEAD + "\n".join(rows) + "\n"))
    assert [product.image_id for product in products] == ["a"]
    reasons = [row["reason"] for row in skipped]
    for reason, words in zip(reasons, ("used before, in table.csv, line 2", "no id", "no picture", "no text", "no split")):
        assert words in reason
    assert skipped[0]["where"] == "table.csv, line 3"


def test_without_a_split_column_groups_are_split_by_a_hash(tmp_path):
    columns = Columns("id", "picture", ("title",), group="family")
    rows = "".join(f"p{i},a.jpg,Tie,,f{i // 2},,,T\n" for i in range(2000))
    products, _ = catalogue.read(source(tmp_path, HEAD + rows, columns=columns, val_fraction=0.2))
    splits = {}
    for product in products:
        assert splits.setdefault(product.group, product.split) == product.split
    assert 0.15 < sum(split == "val" for split in splits.values()) / len(splits) < 0.25


@pytest.mark.parametrize("text, words", [
    ("id,picture,titel,description,family,side,part,kind\na,b,c,d,e,f,g,h\n", "no column 'title'.*did you mean 'titel'"),
    (HEAD + "a,b\n", "no usable row .the line has 2 of 8 columns x 1: table.csv, line 2"),
    (HEAD, "no usable row"),
    (HEAD + ",,,,,,,\n", "no usable row; expected"),
    (HEAD + ",,,,,,,T\n", r"no usable row \(no id"),
])
def test_refused_tables(tmp_path, text, words):
    with pytest.raises(UserError, match=words):
        catalogue.read(source(tmp_path, text))


def test_broken_jsonl_names_the_line(tmp_path):
    with pytest.raises(UserError, match="the line is not valid JSON x 1: t.jsonl, line 2"):
        catalogue.read(source(tmp_path, '{"id": "a", "picture": "b"}\n{"id": \n', "t.jsonl", Columns("id", "picture", ())))
    with pytest.raises(UserError, match="no such table"):
        catalogue.read(TableSource(tmp_path / "no.csv", COLUMNS))


def test_limit(tmp_path):
    rows = "".join(f"p{i},a.jpg,Tie,,f,,train,T\n" for i in range(9))
    assert len(catalogue.read(source(tmp_path, HEAD + rows, limit=4))[0]) == 4


@pytest.mark.parametrize("rows, words", [
    (["a,a.jpg,Tie,,f,front,train,T", "b,b.jpg,Tie,,f,front,val,T"],
     "the group 'f' is in 'train' .a/front. and in 'val' .b/front.: .*line 2, line 3;"),
    (["a,a.jpg,Tie,,f,front,train,T", "a,b.jpg,Tie,,g,back,train,T"], "the product 'a' is in the groups 'f' and 'g': .*line 2, line 3;"),
])
def test_groups_that_leak_into_the_evaluation_are_refused(tmp_path, rows, words):
    with pytest.raises(UserError, match=words):
        catalogue.read(source(tmp_path, HEAD + "\n".join(rows) + "\n"))


def test_a_lone_title_keeps_its_full_stop(tmp_path):
    (one,), _ = catalogue.read(source(tmp_path, HEAD + "a,a.jpg,Tee.,,f,,train,T\n"))
    assert one.text == "Tee."


def test_other_spellings_of_a_split_are_read_and_said(tmp_path):
    (tmp_path / "t.csv").write_text("id,image,text,split\n1,a.jpg,a,Training\n2,b.jpg,b,valid\n3,c.jpg,c,train\n4,d.jpg,d,holdout\n")
    result = catalogue.survey(TableSource(tmp_path / "t.csv", Columns("id", "image", ("text",), split="split")))
    assert [product.split for product in result.products] == ["train", "val", "train", "holdout"]
    assert result.notes() == ["the split 'Training' is read as 'train': 1", "the split 'valid' is read as 'val': 1"]
