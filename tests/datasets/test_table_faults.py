"""Faulty tables: every row is read rightly or left out with its line and reason, and never gets a cell of another one."""

import csv
import io
import json
import random
import re
from dataclasses import replace

import pytest

from kaleidobert import cli
from kaleidobert.configs import Columns
from kaleidobert.datasets.sources import reading as catalogue
from kaleidobert.datasets.sources.table import TableSource
from kaleidobert.errors import UserError
from tests.support.apps_data import World, call, edit, refused
from tests.support.tables import TWO
from tests.support.tiny import tiny_catalogue

COLUMNS = Columns("id", "image", ("title", "description"), labels={"category": "category"})
NAMES = ("id", "image", "title", "description", "category")
HEAD = "id¦image¦title¦description¦category\n"  # ¦ stands for the separator


def row(number: int, title: str = "", description: str = "soft") -> str:
    return f"{number}¦{number}.jpg¦{title or f'Dress {number}'}¦{description}¦kind{number}\n"


def read(tmp_path, text: str | bytes, name: str = "table.csv", columns: Columns = COLUMNS, hurt: str = "", **options):
    """({id: (text, category)}, {line: reason})"""
    text = text if isinstance(text, bytes) else text.replace("¦", ",").encode()
    (tmp_path / name).write_bytes(text)
    products, skipped = catalogue.read(TableSource(tmp_path / name, columns, **options))
    for product in products:
        kind = product.labels.get("category", "").strip('"')
        assert kind in ("", f"kind{product.product_id}") or product.product_id == hurt, "a cell of another row"
    lines = {int(re.search(r"line (\d+)$", entry["where"])[1]): entry["reason"] for entry in skipped}
    assert len(lines) == len(skipped)
    return {product.product_id: (product.text, product.labels.get("category", "")) for product in products}, lines


# --- quotes -------------------------------------------------------------------------------------------------------------


QUOTES = {  # rows 2 (and 3) of a table, ¦ between their cells; their texts, or why they are left out
    "opens": ([row(2, '"70s style')], ['"70s style. soft']),
    "closes early": ([row(2, '"80s" shoe')], ['"80s" shoe. soft']),
    "in the middle": ([row(2, '18" chain')], ['18" chain. soft']),
    "alone": ([row(2, '"')], ['". soft']),
    "in the last text": ([row(2, "Dress", '"Cosy')], ['Dress. "Cosy']),
    "two in a row": ([row(2, '"70s', '"Cosy" one')], ['"70s. "Cosy" one']),
    "beside a good one": ([row(2, '"70s style', '"soft¦ warm ""wool"""')], ['"70s style. soft¦ warm "wool"']),
    "doubled": ([row(2, '"18"" chain"')], ['18" chain. soft']),
    "two rows": ([row(2, '"70s'), row(3, '"80s')], ['"70s. soft', '"80s. soft']),
    "closed by the next row": ([row(2, '"70s'), row(3, '18"')], ['"70s. soft', '18". soft']),
    "closed by the end of the next row": ([row(2, '"70s'), row(3, "Dress", 'made of 18"')], ['"70s. soft', 'Dress. made of 18"']),
    "with a separator": ([row(2, '"70s¦ blue')], ["a quote opens a cell and is not closed; the line has 6 of 5 columns"]),
    "with a separator, closed by the next row": ([row(2, '"70s¦ blue'), row(3, '18"')],
                                                 ["a quote opens a cell and is not closed; the line has 6 of 5 columns"]),
    "a text that goes on": (['2¦2.jpg¦Dress¦Soft¦"He said "wow"\n', "and left¦kind2\n"],
                            ["a quote opens a cell and is not closed", "the line has 2 of 5 columns"]),
    "before an empty cell in quotes": ([row(2, '"70s'), row(3, '""', '"so ""soft"""')], ['"70s. soft', 'so "soft"']),
    "a line break": ([row(2, "Dress", '"soft¦\nwarm¦ ""wool""\n\nand long"')], ['Dress. soft¦ warm¦ "wool" and long']),
    "prose with as many separators": (['2¦2.jpg¦Dress¦"Sizes\nred¦ warm¦ cosy¦ long¦ new"¦kind2\n'],
                                      ["Dress. Sizes red¦ warm¦ cosy¦ long¦ new"]),
    "lists with as many separators": (['2¦2.jpg¦Dress¦"S\nXL¦XXL¦3XL¦4XL¦5XL\nM¦L¦XL¦XXL"¦kind2\n'],
                                      ["Dress. S XL¦XXL¦3XL¦4XL¦5XL M¦L¦XL¦XXL"]),
}


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name, separator", [("table.csv", ","), ("table.tsv", "\t")])
@pytest.mark.parametrize("case", QUOTES)
def test_a_quote_damages_no_other_row(tmp_path, case, name, separator, ends):
    rows, expected = QUOTES[case]
    table = "".join([HEAD, row(1), *rows, row(8), row(9, "Dress", '"long¦ ""warm"""')])
    products, skipped = read(tmp_path, table.replace("¦", separator).replace("\n", ends), name)
    assert {"1", "8", "9"} <= products.keys()
    as_read = separator.replace("\t", "")  # a tab is a blank
    assert products["1"] == ("Dress 1. soft", "kind1") and products["9"] == (f'Dress. long{as_read} "warm"', "kind9")
    if "columns" in expected[-1]:
        assert list(skipped.values()) == expected and list(skipped) == [3, 4][: len(expected)]
        assert ("3" in products) == ("next row" in case)
    else:
        expected = [" ".join(words.replace("¦", separator).split()) for words in expected]
        assert not skipped and [products[str(number)][0] for number in (2, 3)[: len(expected)]] == expected


@pytest.mark.parametrize("columns", ["title,id,image,category", "category,title,image,id", "id,title,image,category",
                                     "id,category,image,title"])
def test_cells_across_lines_in_any_column(tmp_path, columns):
    texts = ('"Red\ndress"', '"Soft, warm, and cosy\nfor you"', '"a\nb, c"', '"a, b, c\nd"', '"a\nb, c, d"', '"a\n\nb"', '"say ""hi""\n"')
    rows = [dict(zip(("id", "image", "title", "category"), (str(n), f"{n}.jpg", text, f"kind{n}"))) for n, text in enumerate(texts)]
    names = columns.split(",")
    table = "\n".join([columns, *(",".join(cells[name] for name in names) for cells in rows)]) + "\n"
    products, skipped = read(tmp_path, table, columns=Columns("id", "image", ("title",), labels={"category": "category"}))
    expected = [" ".join(text[1:-1].replace('""', '"').split()) for text in texts]
    assert not skipped and [words for words, _ in products.values()] == expected


def test_a_line_between_two_cells_of_several_lines_is_no_row(tmp_path):
    lines = ["title,image,id,category,description", '"Red', 'tie",1.jpg,1,kind1,"Soft', 'silk"', "Hat,2.jpg,2,kind2,warm"]
    products, skipped = read(tmp_path, "\n".join(lines) + "\n")
    assert not skipped and products == {"1": ("Red tie. Soft silk", "kind1"), "2": ("Hat. warm", "kind2")}


def test_a_line_too_short_for_a_row_is_the_start_of_a_closed_cell(tmp_path):
    lines = ["title,text,id,image,category", "Tie,soft,1,1.jpg,kind1", 'Red,"S', 'M,L",2,2.jpg,kind2', "Tie,soft,3,3.jpg,kind3"]
    products, skipped = read(tmp_path, "\n".join(lines), columns=Columns("id", "image", ("title",), labels={"category": "category"}))
    assert list(products) == ["1", "2", "3"] and not skipped


def test_what_may_be_one_row_or_two_is_left_out(tmp_path):
    """Names without a suffix do not tell a list of sizes in a cell from a row; the first line is never kept with half a cell."""
    lines = ["id,image,category,type,description", "1,S1,kind1,b,plain", '2,S2,kind2,b,"Sizes and colours', "red,S,M,L,XL", 'end"',
             "3,S3,kind3,b,fine"]
    columns = Columns("id", "image", ("description",), labels={"category": "category"})
    products, skipped = read(tmp_path, "\n".join(lines) + "\n", columns=columns, hurt="red")
    assert not any('"' in text for text, *_ in products.values()) and {"1", "3"} <= products.keys() and "2" not in products
    assert skipped[3] == "a quote opens a cell that may run to line 5, or is not closed"


def test_a_long_cell_may_stand_before_the_keys(tmp_path):
    text = 'description,image,id\n"size:S,M,L\n\ncare,wash,dry\n\nred, blue",p1.jpg,101\n"soft",p2.jpg,102\n'
    products, skipped = read(tmp_path, text, columns=Columns("id", "image", ("description",), labels={}))
    assert list(products) == ["101", "102"] and not skipped and products["101"][0] == "size:S,M,L care,wash,dry red, blue"


@pytest.mark.parametrize("distance", [1, 2, 300])
def test_a_quote_that_another_one_closes_far_below(tmp_path, distance):
    """RFC 4180 alone would make one product of all these rows, and its columns would be as many as they should."""
    rows = [row(number) for number in range(400)]
    rows[50], rows[50 + distance] = row(50, '"70s style'), row(50 + distance, 'chain 18"')
    products, skipped = read(tmp_path, HEAD + "".join(rows))
    assert not skipped and len(products) == 400
    assert products["50"][0] == '"70s style. soft' and products[str(50 + distance)][0] == 'chain 18". soft'


@pytest.mark.parametrize("end, kept", [("\n", True), ("\n\n\n", True), ("", False)])
def test_a_quote_that_is_open_at_the_end(tmp_path, end, kept):
    last = '3¦3.jpg¦"70s¦soft¦kind3'
    products, skipped = read(tmp_path, HEAD + row(1) + row(2) + last + end)
    assert products.keys() - {"3"} == {"1", "2"}
    assert ("3" in products) == kept and skipped == ({} if kept else {4: "a quote opens a cell and is not closed"})  # perhaps cut off
    products, skipped = read(tmp_path, HEAD + row(1) + row(2) + '3,3.jpg,Dress,"one line\nand one more\n')
    assert list(products) == ["1", "2"] and list(skipped) == [4, 5]


def test_rows_of_a_csv_writer_are_read_as_it_wrote_them(tmp_path):
    draw = random.Random(7)
    for _ in range(60):
        pieces = ['"', '""', ",", "\n", "\r\n", "red", "soft, warm", "18\"", "a,b,c,d,e", "\t", " ", "é"]
        rows = [(str(n), f"{n}.jpg", *("".join(draw.choices(pieces, k=draw.randint(1, 6))) + "x" for _ in range(2)), f"kind{n}")
                for n in range(30)]
        text = io.StringIO(newline="")
        separator = draw.choice(",\t")
        csv.writer(text, delimiter=separator, quoting=draw.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])).writerows([NAMES, *rows])
        products, skipped = read(tmp_path, text.getvalue(), "t.tsv" if separator == "\t" else "t.csv", text_separator="|")
        assert not skipped
        for number, _, title, description, category in rows:
            assert products[number] == (" ".join(f"{title.strip()}|{description}".split()), category) or "|" in products[number][0]
            words = "".join(f"{title}{description}".split())
            assert "".join(products[number][0].replace("|", "").split()) == words


def test_one_quote_put_anywhere_damages_no_other_row(tmp_path):
    draw = random.Random(8)
    good = [row(n, *draw.sample(["Tie", '"a ""fine"" tie"', '"red, soft"', '"two\nlines"', '18" tie', '""'], 2)) for n in range(20)]
    whole, skipped = read(tmp_path, HEAD + "".join(good))
    assert not skipped and len(whole) == 20
    for _ in range(300):
        number = draw.randrange(20)
        place = draw.randrange(len(good[number].split("¦")[0]) + 1, len(good[number]))
        hurt = good[number][:place] + '"' + good[number][place:]
        products, _ = read(tmp_path, HEAD + "".join([*good[:number], hurt, *good[number + 1 :]]), hurt=str(number))
        others = {key: value for key, value in whole.items() if key != str(number)}
        assert {key: products.get(key) for key in others} == others, hurt


# --- lines --------------------------------------------------------------------------------------------------------------


LINES = {  # the second line of three: what is left out
    "too few": ("2,2.jpg,Dress\n", "the line has 3 of 5 columns"),
    "too many": ("2,2.jpg,Dress,soft,kind2,blue\n", "the line has 6 of 5 columns"),
    "too many, in lines": ('2,2.jpg,Dress,"soft\nwarm",kind2,blue\n', "lines 3 to 4 have 6 of 5 columns"),
    "NUL": (row(2, "Dr\0ess"), "the line holds a NUL character"),
    "header": (HEAD, "the line is the header again"),
    "a lone line end": ("2,2.jpg,Dr\ress,soft,kind2\n", "the line has 3 of 5 columns"),
    "an id in lines": ('"2\n3",2.jpg,Dress,soft,kind2\n', "a line break in column 'id'"),
    "a picture in lines": ('2,"2\n.jpg",Dress,soft,kind2\n', "a line break in column 'image'"),
    "word for nothing": ("NaN,2.jpg,Dress,soft,kind2\n", "no id in column 'id'"),
    "no picture": ("2,#N/A,Dress,soft,kind2\n", "no picture in column 'image'"),
    "repeated": (row(1), "the id was used before, in table.csv, line 2"),
}


@pytest.mark.parametrize("case", LINES)
def test_lines_that_cannot_be_used_are_left_out_all_at_once(tmp_path, case):
    line, reason = LINES[case]
    products, skipped = read(tmp_path, HEAD + row(1) + line + row(8) + row(9) + row(10) + line)
    assert list(products) == ["1", "8", "9", "10"]
    first, *_ = skipped
    assert first == 3 and reason in skipped[3] and len(skipped) == (4 if case == "a lone line end" else 2)


@pytest.mark.parametrize("text", [
    HEAD + row(1) + "\n\n,,,,\n  \n" + row(2),
    HEAD + row(1).replace("\n", ",\n") + row(2).replace("\n", ", ,,\n"),
    HEAD.replace("\n", ",,\n") + row(1) + row(2),
    "\n\n" + HEAD + row(1) + row(2)[:-1],
    (HEAD + row(1) + row(2)).replace("\n", "\r\r\n"),
    "\ufeff" + HEAD + "\ufeff" + row(1) + row(2),  # two files joined
    HEAD.replace("¦", " , ") + row(1) + row(2),
    HEAD + row(1) + row(2).replace("Dress 2", "Dress\f2"),
    HEAD + row(1) + row(2).replace("Dress 2", "Dress\u20282"),
])
def test_harmless_oddities(tmp_path, text):
    products, skipped = read(tmp_path, text)
    assert not skipped and products == {"1": ("Dress 1. soft", "kind1"), "2": ("Dress 2. soft", "kind2")}


COMMAS = (HEAD + row(1)).replace("¦", ",")


@pytest.mark.parametrize("name, text, words", [
    ("t.csv", HEAD + row(1) + "a\nb\n", "2 of 3 lines cannot be read .the line has 1 of 5 columns x 2: t.csv, line 3, line 4"),
    ("t.jsonl", '{"id": 1,\n"image": 1}\n{"id": 2}\n}\n',
     "3 of 4 lines cannot be read .the line is not valid JSON x 3: t.jsonl, line 1, line 2, line 4"),
    ("t.csv", COMMAS.replace("image,", "im\0age,"), "the header holds NUL characters"),
    ("t.csv", (COMMAS + "Kn\u00f6pfe").encode("latin-1"), "not UTF-8 text .line 3: .*0xf6.*source.encoding=cp1252 .*'\u00f6'"),
    ("t.csv", "", "the table is empty"),
    ("t.csv", HEAD + ",,,,\n", "no usable row"),
])
def test_tables_that_are_none(tmp_path, name, text, words):
    with pytest.raises(UserError, match=words):
        read(tmp_path, text, name)


# --- names that stand twice ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["title", "id", "category", " title "])
def test_a_mapped_column_that_stands_twice_is_refused(tmp_path, name):
    text = HEAD.replace("\n", f",{name}\n") + row(1).replace("\n", ",hidden\n")
    number = NAMES.index(name.strip()) + 1
    with pytest.raises(UserError, match=f"table.csv: the columns {number} and 6 are both called '{name.strip()}'; expected: one column"):
        read(tmp_path, text)
    with pytest.raises(UserError, match=f"the columns {number}, 6, 7 are all called"):
        read(tmp_path, text.replace(name + "\n", f"{name},{name}\n").replace("hidden", "hidden,too"))


def test_columns_of_no_use_may_stand_twice(tmp_path):
    products, skipped = read(tmp_path, HEAD.replace("\n", ",note,note\n") + row(1).replace("\n", ",a,b\n"))
    assert list(products) == ["1"] and not skipped


def test_keys_that_stand_twice_in_an_object(tmp_path):
    lines = [f'{{"id": {n}, "image": "a.jpg", "title": "Dress", "category": "kind{n}", "parts": [], "x": 1, "x": 2}}' for n in range(1, 6)]
    lines[1] = lines[1].replace('"title"', '"title": "hidden", "title"')
    columns = Columns("id", "image", ("title",), labels={"category": "category"}, parts="parts")
    lines[3] = lines[3].replace("[]", '[{"word": "a", "box": [0, 0, 1, 1], "box": [0, 0, 2, 2]}]')
    products, skipped = read(tmp_path, "\n".join(lines), "t.jsonl", columns)
    assert list(products) == ["1", "3", "5"]
    assert skipped == {2: "the key 'title' stands twice in the object", 4: "the key 'parts' stands twice in the object"}


# --- words for nothing --------------------------------------------------------------------------------------------------


WORDS = ("nan", "NaN", " NAN ", "NULL", "Null", "None", "N/A", "n/a", "NA", "<NA>", "#N/A", "#REF!", "#NAME?", "undefined", "\\N", "-")


@pytest.mark.parametrize("word", WORDS)
def test_words_for_nothing_are_neither_words_nor_classes(tmp_path, word):
    columns = Columns("id", "image", ("title", "description"), "family", ("side",), labels={"category": "category"}, mask="mask")
    text = (HEAD.replace("\n", ",family,side,mask\n") + f"1,1.jpg,{word},soft,{word},{word},{word},{word}\n2,2.jpg,{word},,kind2,f,s,m\n"
            f"3,3.jpg,{word} dress,so {word},kind3,f,s,m\n")
    products, skipped = read(tmp_path, text, columns=columns)
    assert products == {"1": ("soft", ""), "3": (" ".join(f"{word} dress. so {word}".split()), "kind3")}
    assert skipped == {3: "no text in 'title', 'description'"}
    (one, _), _ = catalogue.read(TableSource(tmp_path / "table.csv", columns))
    assert (one.group, one.view, one.image_id, one.load_mask) == ("1", "", "1", None)


def test_the_list_of_words_can_be_set(tmp_path):
    text = HEAD + "1,1.jpg,None,keine Angabe,kind1\n2,2.jpg,None,n/a,kind2\n"
    assert read(tmp_path, text, missing=("KEINE ANGABE",))[0] == {"1": ("None", "kind1"), "2": ("None. n/a", "kind2")}
    assert read(tmp_path, text, missing=())[0]["1"][0] == "None. keine Angabe"


def test_what_json_has_for_nothing(tmp_path):
    lines = [f'{{"id": {n}, "image": "{n}.jpg", "title": {value}, "description": "soft", "category": {value}, "split": "train"}}'
             for n, value in enumerate(("NaN", "Infinity", "-Infinity", "null", '"NaN"', "1e999"))]
    lines += ['{"id": NaN, "image": "9.jpg", "title": "Dress"}', '{"id": 10, "image": NaN, "title": "Dress", "description": ""}']
    products, skipped = read(tmp_path, "\n".join(lines), "t.jsonl")
    assert products == {str(number): ("soft", "") for number in range(6)}
    assert skipped == {7: "no id in column 'id'", 8: "no picture in column 'image'"}


def test_what_counted_as_nothing_is_told(tmp_path):
    (tmp_path / "t.csv").write_text(HEAD.replace("¦", ",") + "1,1.jpg,nan,soft,NULL\n2,2.jpg,nan,soft,kind2\n3,3.jpg,NaN,soft,kind3\n")
    assert catalogue.survey(TableSource(tmp_path / "t.csv", COLUMNS)).notes() == [
        "3 cells of 'title' count as empty (source.missing): 'nan' x 2, 'NaN' x 1",
        "1 cells of 'category' count as empty (source.missing): 'NULL' x 1"]


# --- JSONL --------------------------------------------------------------------------------------------------------------


def test_broken_lines_of_jsonl_are_left_out(tmp_path):
    good = [f'{{"id": {number}, "image": "a.jpg", "title": "Dress"}}' for number in range(8)]
    bad = ['{"id": 9, "image": ', "[1]", '{"id": 9, "title": "\\ud83d"}', '"text"', "[" * 100_000, "9" * 5000]
    products, skipped = read(tmp_path, "\ufeff" + "\r\n".join([*good[:4], "", *bad, *good[4:]]), "t.jsonl",
                              Columns("id", "image", ("title",)))
    assert len(products) == 8 and list(skipped) == [6, 7, 8, 9, 10, 11]
    expected = ("not valid JSON", "holds a list", "half a character", "holds a str", "not valid JSON", "")
    assert all(words in reason for words, reason in zip(expected, skipped.values(), strict=True))


def test_a_key_that_some_objects_lack(tmp_path):
    lines = ['{"id": 1, "image": "a.jpg", "title": "Dress"}', '{"id": 2, "image": "a.jpg", "title": "Dress", "category": "kind2"}']
    columns = Columns("id", "image", ("title",), labels={"category": "category"})
    assert read(tmp_path, "\n".join(lines), "t.jsonl", columns)[0] == {"1": ("Dress", ""), "2": ("Dress", "kind2")}
    with pytest.raises(UserError, match="there is no column 'kategory'.*did you mean 'category'"):
        read(tmp_path, "\n".join(lines), "t.jsonl", Columns("id", "image", ("title",), labels={"category": "kategory"}))


def test_parts_that_are_none(tmp_path):
    rows = [{"id": n, "image": "a.jpg", "title": "Dress", "parts": parts} for n, parts in enumerate(
        ([], None, float("nan"), "text", [{"word": "hem", "box": [0, 0, 1]}], [{"word": "hem", "box": [0, 0, 1, float("nan")]}]))]
    text = "\n".join(map(json.dumps, rows))
    (tmp_path / "t.jsonl").write_text(text)
    products, skipped = catalogue.read(TableSource(tmp_path / "t.jsonl", Columns("id", "image", ("title",), parts="parts")))
    assert [product.image_id for product in products] == ["0", "1", "2"]
    assert all("'parts' holds no list of parts" in entry["reason"] for entry in skipped) and len(skipped) == 3


# --- the command --------------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh(tmp_path) -> World:
    tiny_catalogue(tmp_path / "catalogue", 16)  # 22 rows
    return World(tmp_path, TWO)


def test_the_rows_are_accounted_for(fresh):
    edit(fresh.source, lambda rows: (rows[3].update(text="nan"), rows.append(rows[5])))
    with open(fresh.source.table, "a") as file:
        file.write('{"id": \n')
    done = call("records", fresh.records(max_skipped=0.2))
    assert done.status == 0 and "24 rows read: 21 used, 3 left out" in done.out and not done.err.count("kaleidobert records")
    for line in ("the line is not valid JSON x 1: table.jsonl, line 24", "no text in 'text' x 1: table.jsonl, line 4",
                 "the id was used before x 1: table.jsonl, line 23", "1 cells of 'text' count as empty (source.missing): 'nan' x 1"):
        assert line in done.out
    left = [json.loads(line) for line in (fresh.folder / "made/skipped.jsonl").read_text().splitlines()]
    assert [row["where"] for row in left] == ["table.jsonl, line 4", "table.jsonl, line 23", "table.jsonl, line 24"]


def test_texts_that_are_cut_are_told(fresh):
    edit(fresh.source, lambda rows: [row.update(text="red tie " * (20 if number < 5 else 1)) for number, row in enumerate(rows)])
    done = call("records", replace(fresh.records(), text=replace(fresh.records().text, length=22)))
    index = json.loads((fresh.folder / "made/index.json").read_text())
    assert {name: index["text"][name] for name in ("cut_texts", "words", "cut_words")} == {
        "cut_texts": 5, "words": 5 * 40 + 17 * 2, "cut_words": 5 * 20}
    assert "5 of 22 texts are longer than 22 pieces (text.length) and were cut: 42.7% of all words" in done.out


def test_a_large_share_left_out_is_no_success_but_the_bank_stays(fresh):
    edit(fresh.source, lambda rows: [row.update(id="1.00123E+12", view="") for row in rows[:4]])
    for path in ("p02-front.png", "p04-front.png"):
        (fresh.folder / "catalogue" / path).write_bytes(b"")
    edit(fresh.source, lambda rows: [row.update(split="train") for row in rows[:4]])
    for _ in range(2):  # the same command again says the same
        done = call("records", fresh.records())
        assert done.status == 3 and "Traceback" not in done.err
        (message,) = [line for line in done.err.splitlines() if line.startswith("kaleidobert records: ")]
        assert re.search(r"table.jsonl: \d of 22 rows were left out \(.*%\): the id was used before x 3: .*line 2, line 3, line 4", message)
        assert re.search("the bank of the other .* is complete; expected: at most 10% .max_skipped.", message)
        assert "4 rows have an id or a group such as '1.00123E+12', which looks rounded by a spreadsheet" in done.out
        assert (fresh.folder / "made/index.json").is_file()
    refused_by_dry_run = call("records", fresh.records("other"), "--dry-run")
    assert refused_by_dry_run.status == 3 and "3 of 22 rows were left out (13.6%)" in refused_by_dry_run.err
    assert not (fresh.folder / "other").exists()
    assert call("records", fresh.records(max_skipped=0.5)).status == 0


def test_pictures_that_cannot_be_read_count_too(fresh):
    for number in range(4, 8):
        (fresh.folder / f"catalogue/p{number:02d}-front.png").write_bytes(b"")
    done = call("records", fresh.records())
    assert done.status == 3 and "the picture file is empty x 4" in done.out and "4 of 22 rows were left out (18.2%)" in done.err


def test_a_dry_run_counts_pictures_that_are_not_there(fresh):
    pictures = sorted((fresh.folder / "catalogue").glob("*.png"))
    named = [json.loads(line)["image"] for line in fresh.source.table.read_text().splitlines()]
    for path in [path for path in pictures if path.name in named][:4]:
        path.unlink()
    done = call("records", fresh.records(), "--dry-run")
    assert done.status == 3 and "there is no such picture x 4: table.jsonl" in done.out and "22 rows read: 18 used, 4 left out" in done.out
    assert "table: 22 rows, JSON, an object per line, UTF-8" in done.out and "  pictures were looked for in " in done.out


def test_pictures_are_counted_where_rows_have_several(fresh):
    edit(fresh.source, lambda rows: (rows[0].update(image=[rows[0]["image"], rows[1]["image"]]), rows.append({"id": rows[2]["id"]})))
    done = call("records", fresh.records(), "--dry-run")
    assert done.status == 0 and "23 rows read, 23 pictures: 23 used, 0 left out" in done.out
    assert "rows without a picture, of a product that stands above: 1" in done.out


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_is_a_share(fresh, share):
    refused(call("records", fresh.records(max_skipped=share)), "max_skipped is .*expected: a fraction, 0 to 1")


def test_help_tells_the_exit_statuses(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert "3 done, but a large fraction of the input was left out" in capsys.readouterr().out
