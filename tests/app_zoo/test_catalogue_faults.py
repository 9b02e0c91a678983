"""A catalogue with a fault of every kind planted: `catalogue check` names all, loses nothing good, and the counts add up; and its bank."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kaleidobert.app_zoo.catalogue.examination import examine
from kaleidobert.configs import Columns
from kaleidobert.datasets.sources.table import TableSource
from kaleidobert.errors import UserError
from tests.app_zoo.test_catalogue import picture, said

COLUMNS = Columns("sku", "photo", ("title", "body"), group="family", split="split", labels={"kind": "kind", "brand": "brand"})
KINDS = ("bag", "shirt", "hat")
GOOD = 40
LOST = {  # the line of a row: sku;photo;title;body;family;split;kind;brand, and what is said of it
    'X1;1.png;"seventies style;a cell that is never closed;;train;bag;ACME': "",  # read as it stands
    "X2;2.png;too;many;cells;here;train;bag;ACME;more": "the line has 10 of 8 columns",
    "X3;3.png;too few": "the line has 3 of 8 columns",
    "X4;4.png;a zero\0byte;;;train;bag;ACME": "the line holds a NUL character",
    "sku;photo;title;body;family;split;kind;brand": "the line is the header again",
    ";5.png;no id;;;train;bag;ACME": "no id in column 'sku'",
    "X6;;no picture;;;train;bag;ACME": "no picture in column 'photo'",
    "X7;7.png;;;;train;bag;ACME": "no text in 'title', 'body'",
    "X8;8.png;nan;<p><br></p>;;train;bag;ACME": "no text in 'title', 'body'",  # words for nothing, and markup alone
    "A1;9.png;the id of another;;;train;bag;ACME": "the id was used before",
    "1,00123E+12;10.png;rounded by a spreadsheet;;;train;bag;ACME": "",  # named, and read
    "1,00123E+12;11.png;another one;;;train;bag;ACME": "the id was used before",
    "X12;12.png;no split;;;;bag;ACME": "no split in column 'split'",
    "Y1;nowhere.png;a picture that is not there;;;train;bag;ACME": "there is no such picture",
    "Y2;empty.png;a picture of no bytes;;;train;bag;ACME": "the picture file is empty",
    "Y3;half.png;a picture that breaks off;;;train;bag;ACME": "the picture cannot be decoded",
    "Y4;page.jpg;a web page in place of a picture;;;train;bag;ACME": "the picture cannot be decoded",
    "Y5;twice.png;a name of two files;;;train;bag;ACME": "the name of the picture fits 2 files",
    "Y6;ftp://host/y6.png;an address of a kind that is not fetched;;;train;bag;ACME": "the picture is an address that cannot be fetched",
}
WEAK = {  # a line whose row is read, and what is said of it
    "Z1;z1.png;the copy of another picture;;;val;bag;ACME": r"products of one split have nearly the same picture .* of another",
    "Z2;z2.png;fine bag number 3;soft;;val;bag;ACME": r"products of one split have the text of another product .*of another",
    "Z3;z3.png;of a class that nobody else has;;;train;sword;ACME": r"label kind: classes with fewer than 5 training pictures",
    "Z4;z4.png;of a class that is not trained;;;val;shield;ACME": r"label kind: classes that stand in val alone",
    "Z5;z5.png;the class in capitals;;;train;BAG ;ACME": r"label kind: classes that differ in capitals, accents or blanks alone",
    "Z6;z6.png;a very small picture;;;train;bag;ACME": r"pictures whose shorter side has fewer than 64 pixels",
    "Z7;z7.png;a picture of nothing;;;train;bag;ACME": r"pictures of a single colour",
    "Z8;z8.png;caf\u00c3\u00a9 on the terrace;;;train;bag;ACME": r"texts whose letters were lost or read in another encoding",
    "Z9;Z9.PNG;spelled in other letters;;;train;bag;ACME": r"pictures whose file is named otherwise in case, accents or slashes",
    "Z10;z10.png;of a <b>bold</b> text;;;train;bag;ACME": r"cells had HTML, which was taken out",
    "Z11;z11.png;another word for train;;;training;bag;ACME": r"the split 'training' is read as 'train'",
    "Z12;https://shop.example/z12.png;at an address;;;train;bag;ACME": r"pictures at addresses, which are not fetched yet",
    "Z13;z13.png;a word for no class;;;train;N/A;ACME": r"cells of 'kind' count as empty",
}


@pytest.fixture
def catalogue(tmp_path) -> TableSource:
    """A table of good rows with a fault of every kind between them."""
    lines = [f"A{n};{n}.png;fine {KINDS[n % 3]} number {n};soft;;{'val' if n % 5 == 4 else 'train'};{KINDS[n % 3]};ACME"
             for n in range(GOOD)]
    for number, line in enumerate([*LOST, *WEAK]):
        lines.insert(2 + 2 * number, line)
    (tmp_path / "t.csv").write_bytes("\r\n".join(["sku;photo;title;body;family;split;kind;brand", *lines, ""]).encode())
    for n in range(GOOD):
        picture(tmp_path / f"{n}.png", n)
    for n in range(2, 14):
        picture(tmp_path / f"z{n}.png", 100 + n, 20 if n == 6 else 96)
    (tmp_path / "empty.png").touch()
    (tmp_path / "half.png").write_bytes((tmp_path / "1.png").read_bytes()[:120])
    (tmp_path / "page.jpg").write_text("<html>not found</html>")
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        picture(tmp_path / folder / "twice.png", ord(folder[0]))
    picture(tmp_path / "z1.png", 0, 72)  # as that of A0
    Image.fromarray(np.full((80, 80, 3), 200, np.uint8)).save(tmp_path / "z7.png")
    (tmp_path / "z12.png").unlink()
    return TableSource(tmp_path / "t.csv", COLUMNS)


def test_every_fault_is_named_and_nothing_good_is_lost(catalogue):
    own = examine(catalogue)
    lost = {one.what: one.count for one in own.findings if one.severity == "loses"}
    wanted: dict[str, int] = {}
    for words in filter(None, LOST.values()):
        wanted[words] = wanted.get(words, 0) + 1
    assert {words: sum(count for what, count in lost.items() if what.startswith(words)) for words in wanted} == wanted, lost
    assert sum(lost.values()) == sum(wanted.values())  # and nothing else
    said_ = [one.what for one in own.findings]
    for line, words in WEAK.items():
        assert any(re.search(words, what) for what in said_), (line, said_)
    assert any("which looks rounded by a spreadsheet" in what for what in said_)
    names = {product.product_id for product in own.products}
    assert names == {f"A{n}" for n in range(GOOD)} | {f"Z{n}" for n in range(1, 14)} | {"X1", "1,00123E+12"}
    assert own.reading.rows == len(own.products) + sum(lost.values()) == GOOD + len(LOST) + len(WEAK)
    good = {product.product_id: product for product in own.products}
    for n in range(GOOD):
        row = good[f"A{n}"]
        assert row.text == f"fine {KINDS[n % 3]} number {n}. soft" and row.labels["kind"] == KINDS[n % 3]
        assert Path(row.image_path).name == f"{n}.png"


def test_the_bank_of_it_counts_alike(catalogue, tmp_path):
    lines = catalogue.table.read_bytes().decode().splitlines()
    catalogue.table.write_bytes("\r\n".join(line for line in lines if "https://" not in line).encode())
    words = [f"source.table={catalogue.table}", f"bank={tmp_path / 'bank'}", "encoder.name=pixels", "encoder.size=4", "max_skipped=1",
             "foreground.method=none", "text={vocabulary: , vocabulary_size: 100, length: 16}", "workers=1",
             "source.columns={id: sku, image: photo, text: [title, body], group: family, view: [], split: split, mask: , parts: , "
             "labels: {kind: kind, brand: brand}}"]
    status, out, err = said("records", "quickstart/records", *words)
    assert status == 0, err
    lost = sum(map(bool, LOST.values()))
    rows = GOOD + len(LOST) + len(WEAK) - 1
    assert f"{rows} rows read: {rows - lost} used, {lost} left out" in out
    skipped = [json.loads(line) for line in (tmp_path / "bank/skipped.jsonl").read_text().splitlines()]
    assert len(skipped) == lost and all(row["reason"] and row["where"] for row in skipped)


@pytest.mark.parametrize("lines, words", [
    (["A1;1.png;one;;f;train;;", "A2;2.png;two;;f;val;;"], "the group 'f' is in 'train' .A1. and in 'val' .A2."),
    (["A1;1.png;one;;f;train;;", "A1;2.png;;;g;train;;"], "the product 'A1' is in the groups 'f' and 'g'"),
])
def test_groups_that_contradict_each_other_stop_it(tmp_path, lines, words):
    (tmp_path / "t.csv").write_text("\n".join(["sku;photo;title;body;family;split;kind;brand", *lines]))
    with pytest.raises(UserError, match=words):
        examine(TableSource(tmp_path / "t.csv", COLUMNS))
