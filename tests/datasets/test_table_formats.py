"""Tables as shops and programs export them: formats, encodings, separators, layouts, several pictures, names of files, markup."""

import csv
import gzip
import io
import json
import random
import struct
import time
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kaleidobert.configs import Columns
from kaleidobert.datasets.sources import formats, markup, presets, reading
from kaleidobert.datasets.sources.table import TableSource
from kaleidobert.errors import UserError

COLUMNS = Columns("id", "image", ("title",), labels={"category": "kind"})
ROWS = [{"id": str(n), "image": f"{n}.jpg", "title": f"Dr\u00e9ss, {n}", "kind": f"kind{n}"} for n in range(1, 5)]


def survey(tmp_path, data: bytes | str, name: str = "t.csv", columns: Columns | None = COLUMNS, files=(), **options) -> reading.Reading:
    (tmp_path / name).write_bytes(data.encode() if isinstance(data, str) else data)
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(b"picture")
    return reading.survey(TableSource(tmp_path / name, *([columns] if columns else []), **options))


def text(separator: str = ",", rows=ROWS, first: str = "") -> str:
    cells = [list(rows[0]), *(list(row.values()) for row in rows)]
    quoted = [[f'"{cell}"' if separator in cell else cell for cell in row] for row in cells]
    return first + "".join(separator.join(row) + "\n" for row in quoted)


def is_whole(result: reading.Reading) -> bool:
    return not result.skipped and [(p.product_id, p.text, p.labels["category"]) for p in result.products] == [
        (row["id"], row["title"], row["kind"]) for row in ROWS]


# --- formats ------------------------------------------------------------------------------------------------------------


def arrow(stream: bool) -> bytes:
    table, sink = pa.Table.from_pylist(ROWS), io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def parquet(rows) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


LINES = "\n".join(map(json.dumps, ROWS))
NUMBERED = [{**row, "id": float(row["id"])} for row in ROWS]
FORMATS = {  # name of the file, its bytes, what the first line says
    "commas": ("t.csv", text(), "CSV separated by ',', UTF-8"),
    "semicolons": ("t.csv", text(";"), "CSV separated by ';', UTF-8"),
    "tabs": ("t.txt", text("\t"), "CSV separated by tabs, UTF-8"),
    "tabs in .csv": ("t.csv", text("\t"), "CSV separated by tabs"),
    "commas in .tsv": ("t.tsv", text(), "CSV separated by ','"),
    "bars": ("t.dat", text("|"), "CSV separated by '|'"),
    "a line sep=": ("t.csv", text(";", first="sep=;\r\n"), "CSV separated by ';'"),
    "a line sep= in quotes, of another separator": ("t.csv", text("^", first='"sep=^"\n'), "CSV separated by '^'"),
    "a line sep= after a mark": ("t.csv", b"\xef\xbb\xbf" + text(";", first="sep=;\n").encode(), "CSV separated by ';', UTF-8"),
    "UTF-8 with a mark": ("t.csv", text().encode("utf-8-sig"), "UTF-8"),
    "UTF-16 with a mark": ("t.csv", text("\t").encode("utf-16"), "CSV separated by tabs, UTF-16"),
    "UTF-16-LE": ("t.csv", text().encode("utf-16-le"), "UTF-16-LE"),
    "UTF-16-BE": ("t.csv", text(";").encode("utf-16-be"), "CSV separated by ';', UTF-16-BE"),
    "gzip": ("t.csv.gz", gzip.compress(text(";").encode()), "CSV separated by ';', UTF-8, compressed"),
    "gzip of lines of JSON": ("t.gz", gzip.compress(LINES.encode()), "JSON, an object per line, UTF-8, compressed"),
    "lines of JSON": ("t.json", LINES, "JSON, an object per line"),
    "lines of JSON in UTF-16": ("t.txt", LINES.encode("utf-16"), "JSON, an object per line, UTF-16"),
    "one JSON list": ("t.jsonl", json.dumps(ROWS), "one JSON list"),
    "one JSON list over lines": ("t.json", "\ufeff" + json.dumps(ROWS, indent=1), "one JSON list"),
    "Parquet": ("t.parquet", parquet(ROWS), "Parquet"),
    "Parquet with decimal ids": ("t.bin", parquet(NUMBERED), "Parquet"),
    "Arrow": ("t.arrow", arrow(False), "Arrow"),
    "an Arrow stream": ("t.feather", arrow(True), "Arrow"),
}


@pytest.mark.parametrize("case", FORMATS)
def test_the_format_is_found(tmp_path, case):
    name, data, words = FORMATS[case]
    result = survey(tmp_path, data, name)
    assert is_whole(result) and words in result.found[0]


def test_what_is_found_can_be_set(tmp_path):
    assert is_whole(survey(tmp_path, text("^"), separator="^"))
    assert is_whole(survey(tmp_path, text("\t"), separator="tab"))
    assert is_whole(survey(tmp_path, text().encode("cp1252"), encoding="cp1252"))
    assert is_whole(survey(tmp_path, text(";").encode("mac-roman"), encoding="mac-roman"))
    for options, words in (({"separator": ";;"}, "source.separator is ';;'"), ({"encoding": "utf-9"}, "source.encoding is 'utf-9'"),
                           ({"format": "cvs"}, "source.format is 'cvs'.*did you mean 'csv'"),
                           ({"preset": "shopfy"}, "source.preset is 'shopfy'.*did you mean 'shopify'"),
                           ({"encoding": "idna"}, "source.encoding is 'idna'"), ({"encoding": "base64"}, "source.encoding is 'base64'"),
                           ({"encoding": "ascii"}, "not ascii text .line 2: .*name the encoding")):
        with pytest.raises(UserError, match=words):
            survey(tmp_path, text(), **options)


def test_positions_are_lines_of_the_file(tmp_path):
    result = survey(tmp_path, "sep=;\n" + text(";").replace("2;2.jpg", "2;2.jpg;x"))
    assert [row["where"] for row in result.skipped] == ["t.csv, line 4"] and len(result.products) == 3
    rows = json.dumps([*ROWS[:2], "text", ROWS[2]], indent=1)
    result = survey(tmp_path, rows, "t.json")
    assert [row["where"] for row in result.skipped] == ["t.json, line 14"] and "holds a str" in result.skipped[0]["reason"]
    assert len(result.products) == 3
    result = survey(tmp_path, parquet([*ROWS, {**ROWS[0], "title": None, "id": "9"}]), "t.parquet")
    assert [row["where"] for row in result.skipped] == ["t.parquet, row 5"]


@pytest.mark.parametrize("name, data, words", [
    ("t.csv", b"PK\x03\x04" + b"a" * 40, "this is a ZIP archive.*unpack it"),
    ("t.xls", b"\xd0\xcf\x11\xe0" + bytes(600), "an Excel workbook of the old format"),
    ("t.csv", b"PAR1" + bytes(range(200)) + b"PAR1", "this is Parquet, and it is damaged"),
    ("t.csv", arrow(False)[:100], "this is Arrow, and it is damaged"),
    ("t.csv", gzip.compress(text().encode(), mtime=0)[:-12], "cannot be read.*copy or download it again"),
    ("t.xml", "<?xml version='1.0'?><rss></rss>", "a page or a feed in XML or HTML"),
    ("t.json", json.dumps(ROWS, indent=1)[:-30], "the JSON list .*damaged at line 2"),
    ("t.json", json.dumps(ROWS)[:-1], "the JSON list ends or is damaged at line 1"),
    ("t.json", "[]", "no usable row"),
    ("t.csv", text().encode("cp1252"), r"not UTF-8 text .line 2: .*set source.encoding=cp1252 .*'\u00e9' there, in 'Dr\u00e9ss'"),
    ("t.csv.bz2", b"BZh91AY&SY" + bytes(range(200)), "a file compressed with bzip2.*gzip"),
    ("t.csv.xz", b"\xfd7zXZ\0" + bytes(range(200)), "a file compressed with xz"),
    ("t.csv.zst", b"\x28\xb5\x2f\xfd" + bytes(range(200)), "compressed with Zstandard"),
    ("t.csv", b"\xff\xd8\xff\xe0" + bytes(range(200)), "this is a picture.*name the table"),
    ("t.tar", b"t.csv" + bytes(252) + b"ustar\x0000" + bytes(200), "this is a TAR archive"),
    ("t.ods", b"PK\x03\x04" + bytes(26) + b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet",
     "an OpenDocument spreadsheet.*as .xlsx"),
    ("t.csv", bytes(range(256)) * 3, "this is no text, and no format that is known"),
    ("t.csv", "id,title\n1,\u0433\u0430\u043b\u0441\u0442\u0443\u043a".encode("cp1251"),
     "in '\xe3\xe0\xeb\xf1\xf2\xf3\xea'; where that is no word"),
], ids=("zip", "xls", "parquet", "arrow", "gzip", "xml", "json cut", "json open", "json empty", "cp1252", "bzip2", "xz", "zstd", "picture",
        "tar", "ods", "no text", "cp1251"))
def test_what_is_no_table_is_named(tmp_path, name, data, words):
    with pytest.raises(UserError, match=words):
        survey(tmp_path, data, name)


def test_damaged_lengths_in_arrow_are_refused(tmp_path):
    """They would be read from anywhere in the memory."""
    data, lengths = arrow(False), struct.pack("<5i", 0, 1, 2, 3, 4)
    assert data.count(lengths) == 1
    with pytest.raises(UserError, match="this is Arrow, and it is damaged"):
        survey(tmp_path, data.replace(lengths, struct.pack("<5i", 0, 1, 1 << 28, 3, 4)), "t.arrow")


def test_a_workbook_is_read_or_named(tmp_path, monkeypatch):
    def missing(name):
        raise ImportError

    book = b"PK\x03\x04" + b"\0" * 30 + b"[Content_Types].xml" + b"xl/workbook.xml"
    monkeypatch.setattr(formats.importlib, "import_module", missing)
    with pytest.raises(UserError, match="this is an Excel workbook, and openpyxl, .*pip install openpyxl .*or save the sheet as CSV"):
        survey(tmp_path, book, "t.xlsx")
    cells = [[None, None], list(ROWS[0]), [None] * 4, *([float(row["id"]), *list(row.values())[1:]] for row in ROWS)]
    sheets = [SimpleNamespace(title=title, iter_rows=lambda values_only, rows=rows: iter(rows)) for title, rows in (
        ("Empty", []), ("Read me", [["Our products", None]]), ("Products", cells), ("Old", [["id", "image"]]))]
    monkeypatch.setattr(formats.importlib, "import_module",
                        lambda name: SimpleNamespace(load_workbook=lambda *_, **__: SimpleNamespace(worksheets=sheets)))
    result = survey(tmp_path, book, "t.xlsx")
    assert is_whole(result) and result.found == ["an Excel workbook, sheet 'Products' (not read: 'Read me', 'Old')"]
    with pytest.raises(UserError, match="no column 'title', nor 'kind'"):
        survey(tmp_path, book, "t.xlsx", sheet="Old")
    with pytest.raises(UserError, match="source.sheet is 'Product'.*did you mean 'Products'"):
        survey(tmp_path, book, "t.xlsx", sheet="Product")
    cells.insert(1, ["Our products"])
    with pytest.raises(UserError, match="row 3 has these columns: remove what stands above it"):
        survey(tmp_path, book, "t.xlsx", sheet="Products")
    del cells[1]
    cells[-1][2] = None
    assert survey(tmp_path, book, "t.xlsx").skipped[0]["where"] == "t.xlsx, row 7"


def test_a_workbook_of_openpyxl(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in [list(ROWS[0]), *([int(row["id"]), *list(row.values())[1:]] for row in ROWS)]:
        book.active.append(row)
    book.create_sheet("Read me").append(["Our products"])
    book.save(tmp_path / "book.xlsx")
    for name in ("t.xlsx", "t.csv", "products"):  # whatever its ending
        assert is_whole(survey(tmp_path, (tmp_path / "book.xlsx").read_bytes(), name))
    good = (tmp_path / "book.xlsx").read_bytes()
    entry = good.rindex(b"PK\x01\x02")
    of_no_version = good[: entry + 6] + b"\x63" + good[entry + 7 :]  # zipfile raises NotImplementedError
    for bad in (b"PK\x03\x04" + b"\0" * 30 + b"xl/workbook.xml", good[:-200], of_no_version):
        with pytest.raises(UserError, match="this is an Excel workbook, and it is damaged"):
            survey(tmp_path, bad, "t.xlsx")


PIECES = ["red", "soft, warm", "a;b", "x|y", "1\t2", 'so "fine"', "\u00e9", "\u65e5\u672c", "line\nbreak", "=1+2", "  ", "sep=;",
          "{", "[", "a & b", "<3"]


def random_table(draw: random.Random) -> tuple[list[dict[str, str]], bytes]:
    """Rows whose cells have all that separates cells, and a file of them."""
    rows = [{"id": f"p{n}", "image": f"{n}.jpg", "title": f"t{' '.join(draw.choices(PIECES, k=draw.randint(1, 4)))}x",
             "note": draw.choice(["", f"d{draw.choice(PIECES)}x"]), "kind": f"k{n}"} for n in range(draw.randint(1, 12))]
    names, out, separator = draw.sample(list(rows[0]), 5), io.StringIO(newline=""), draw.choice(",;\t|")
    if draw.random() < 0.3:
        data = draw.choice([json.dumps(rows, indent=draw.choice([None, 1])), "\n".join(map(json.dumps, rows))])
    else:
        writer = csv.writer(out, delimiter=separator, quoting=draw.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
                            lineterminator=draw.choice(["\n", "\r\n"]))
        writer.writerows([names, *([row[name] for name in names] for row in rows)])
        data = draw.choice(["", f"sep={separator}\n"]) + out.getvalue()
    packed = data.encode(draw.choice(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]))
    return rows, gzip.compress(packed) if draw.random() < 0.2 else packed


def test_random_tables_are_read_as_they_were_written(tmp_path):
    draw = random.Random(5)
    columns = Columns("id", "image", ("title", "note"), labels={"category": "kind"})
    for _ in range(300):
        rows, data = random_table(draw)
        result = survey(tmp_path, data, columns=columns, text_separator="~", strip_html=False)
        assert not result.skipped, result.skipped
        assert [(p.product_id, p.text, p.labels["category"]) for p in result.products] == [
            (row["id"], "~".join(" ".join(row[name].split()) for name in ("title", "note") if row[name]), row["kind"]) for row in rows]


# --- layouts ------------------------------------------------------------------------------------------------------------


SHOPIFY = """Handle,Title,Body (HTML),Type,Tags,Image Src,Image Position,Variant SKU
red-tie,Red tie,"<p>A <b>red</b> tie&nbsp;&amp; a pin</p>",Ties,silk,a.jpg,1,s1
red-tie,,,,,b.jpg,2,s2
red-tie,,,,,,,s3
hat,Hat,Warm,Hats,wool,c.jpg,1,h1
hat,,,,,d.jpg,,
"""
LAYOUTS = {  # a table; {image_id: (text, picture, group, labels)}
    "shopify": (SHOPIFY, {
        "red-tie/1": ("Red tie. A red tie & a pin", "a.jpg", "red-tie", ["Ties", "Ties"]),
        "red-tie/2": ("Red tie. A red tie & a pin", "b.jpg", "red-tie", ["Ties", "Ties"]),
        "hat/1": ("Hat. Warm", "c.jpg", "hat", ["Hats", "Hats"]), "hat/2": ("Hat. Warm", "d.jpg", "hat", ["Hats", "Hats"])}),
    "woocommerce": ("ID,Type,SKU,Name,Short description,Description,Categories,Images,Parent\n"
                    "1,variable,w1,Tie,,Silk\\n\\n<b>Care</b>: dry,Men > Ties,\"a.jpg, b.jpg\",\n"
                    "2,variation,w2,Tie red,,Silk,Men > Ties,c.jpg,w1\n", {
        "w1": ("Tie. Silk Care: dry", "a.jpg", "w1", ["Men", "Men > Ties"]),
        "w1/2": ("Tie. Silk Care: dry", "b.jpg", "w1", ["Men", "Men > Ties"]),
        "w2": ("Tie red. Silk", "c.jpg", "w1", ["Men", "Men > Ties"])}),
    "google-merchant": ("id\ttitle\tdescription\timage link\tadditional image link\titem group id\tproduct type\n"
                        'g1\tTie\t18" long\ta.jpg\tb.jpg,a.jpg\tgroup\tTies\ng2\tHat\tWarm\tc.jpg\t\tgroup\tHats\n', {
        "g1": ('Tie. 18" long', "a.jpg", "group", ["Ties"]), "g1/2": ('Tie. 18" long', "b.jpg", "group", ["Ties"]),
        "g2": ("Hat. Warm", "c.jpg", "group", ["Hats"])}),
    "magento": ("sku,store_view_code,attribute_set_code,categories,name,description,base_image,additional_images\n"
                'm1,,Top,"Default/Men",Tie,<p>Silk</p>,/a.jpg,"/b.jpg,/c.jpg"\nm1,de,,,,,,\n', {
        "m1": ("Tie. Silk", "a.jpg", "m1", ["Top", "Default/Men"]), "m1/2": ("Tie. Silk", "b.jpg", "m1", ["Top", "Default/Men"]),
        "m1/3": ("Tie. Silk", "c.jpg", "m1", ["Top", "Default/Men"])}),
    "kaggle-fashion": ("id,gender,masterCategory,subCategory,articleType,productDisplayName\n1,Men,Apparel,Top,Ties,Acme tie\n", {
        "1": ("Acme tie", "images/1.jpg", "1", ["Apparel", "Ties"])}),
    "imagefolder": ("file_name,text,label\nx/a.jpg,Tie,ties\n", {"x/a.jpg": ("Tie", "x/a.jpg", "x/a.jpg", ["ties", "ties"])}),
}
FILES = ("a.jpg", "b.jpg", "c.jpg", "d.jpg", "images/1.jpg", "x/a.jpg")


@pytest.mark.parametrize("is_named", [False, True])
@pytest.mark.parametrize("preset", LAYOUTS)
def test_a_layout_is_recognised(tmp_path, preset, is_named):
    table, expected = LAYOUTS[preset]
    result = survey(tmp_path, table, "feed.txt", None, FILES, preset=preset if is_named else "")
    assert not result.skipped and not result.absent and result.source.preset == preset
    assert {p.image_id: (p.text, p.image_path.removeprefix(f"{tmp_path}/"), p.group, list(p.labels.values())) for p in result.products
            } == expected
    assert presets.PRESETS[preset].title in result.found[1] and f"source.preset={preset}" in result.found[1]


def test_columns_given_by_hand_come_before_those_of_a_preset(tmp_path):
    result = survey(tmp_path, SHOPIFY, "t.csv", Columns("", "", (), labels={"fabric": "Tags"}), FILES)
    assert result.products[1].labels == {"fabric": "silk"} and result.products[1].image_id == "red-tie/2"
    result = survey(tmp_path, SHOPIFY, "t.csv", Columns("Handle", "Image Src", ("Title",), labels={}), FILES)
    assert [p.image_id for p in result.products] == ["red-tie", "red-tie/2", "hat", "hat/2"] and len(result.found) == 1
    with pytest.raises(UserError, match="this is not a Magento product export: it has no column for id, image, text"):
        survey(tmp_path, SHOPIFY, columns=None, preset="magento")
    with pytest.raises(UserError, match="source.preset is 'fashion-gen', .*set source.kind=fashion_gen"):
        survey(tmp_path, SHOPIFY, preset="fashion-gen")
    with pytest.raises(UserError, match="no column 'sku'.*this looks like a Shopify product export: set source.preset=shopify"):
        survey(tmp_path, SHOPIFY, columns=Columns("sku", "Image Src", ("Title",)))
    with pytest.raises(UserError, match="the layout is not one that is known.*id, image, title, kind, or a preset: shopify"):
        survey(tmp_path, text(), columns=None)


def test_a_layout_whose_pictures_lie_in_another_folder(tmp_path):
    """The folder of a name that is made of the id is a guess of the preset."""
    table, expected = LAYOUTS["kaggle-fashion"]
    result = survey(tmp_path, table, "styles.csv", None, ["data/pics/1.png"])
    assert not result.absent and "image = 'data/pics/{id}.png'" in result.found[1] and len(result.products) == len(expected)


def test_more_pictures_of_a_feed_whose_columns_are_given(tmp_path):
    table, _ = LAYOUTS["google-merchant"]
    columns = Columns("id", "image link", ("title",), labels={})
    result = survey(tmp_path, table, columns=columns, files=FILES)
    assert [p.image_id for p in result.products] == ["g1", "g1/2", "g2"] and "'additional image link' are views, too" in result.found[1]
    assert [p.image_id for p in survey(tmp_path, table, columns=columns, preset="none").products] == ["g1", "g2"]


def test_a_folder_per_class(tmp_path):
    for path in ("red_ties/a.jpg", "red_ties/b.PNG", "hats/c.webp", "hats/notes.txt", ".cache/x.jpg"):
        (tmp_path / "plain" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "plain" / path).write_bytes(b"picture")
    products, skipped = reading.read(TableSource(tmp_path / "plain"))
    assert not skipped and {p.image_id: (p.text, p.labels["category"]) for p in products} == {
        "hats/c": ("hats", "hats"), "red_ties/a": ("red ties", "red_ties"), "red_ties/b": ("red ties", "red_ties")}
    for split in ("train", "test"):
        (tmp_path / "split" / split / "hats").mkdir(parents=True)
        (tmp_path / "split" / split / "hats/c.webp").write_bytes(b"picture")
    products, _ = reading.read(TableSource(tmp_path / "split", preset="folders"))
    assert [(p.image_id, p.split, p.labels["category"]) for p in products] == [
        ("test/hats/c", "val", "hats"), ("train/hats/c", "train", "hats")]


# --- pictures -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell, options", [
    ("a.jpg|b.PNG", {}), ("a.jpg; b.PNG", {}), ('"a.jpg,b.PNG"', {}), ('"a.jpg\nb.PNG\n"', {}), ("a.jpg|b.PNG|", {}),
    ("a.jpg b.PNG", {"image_separator": " "}), ("a.jpg~b.PNG", {"image_separator": "~"}),
])
def test_several_pictures_of_a_cell_are_views(tmp_path, cell, options):
    result = survey(tmp_path, f"id,image,title,kind\n1,{cell},Tie,k\n2,c.jpg,Hat,k\n", files=("a.jpg", "b.PNG", "c.jpg"), **options)
    assert [p.image_id for p in result.products] == ["1", "1/2", "2"] and not result.absent and result.rows == 2 and result.has_views
    assert "rows with several pictures, which become views of their product: 1" in result.notes()


def test_a_name_with_a_comma_is_one_name(tmp_path):
    result = survey(tmp_path, 'id,image,title,kind\n1,"tie, red.jpg",Tie,k\n', files=("tie, red.jpg",))
    assert not result.absent and result.products[0].image_path.endswith("tie, red.jpg")


def test_lists_of_pictures_in_json_and_parquet(tmp_path):
    rows = [{"id": 1, "image": ["a.jpg", "b.jpg"], "title": "Tie", "kind": "k"}]
    for data, name in ((json.dumps(rows), "t.json"), (parquet(rows), "t.parquet")):
        assert [p.image_id for p in survey(tmp_path, data, name).products] == ["1", "1/2"]


def test_rows_of_one_product(tmp_path):
    """A row without text continues its product; one with a text of its own keeps it; equal ids with equal texts are still refused."""
    table = ("id,image,title,kind,family\n1,a.jpg,Tie,k,f\n2,b.jpg,Hat,h,g\n1,c.jpg,nan,,\n1,a.jpg,,,\n1,,,,\n1,d.jpg,Tie,k,f\n"
             "1.00123E+12,a.jpg,Tie,k,f\n1.00123E+12,b.jpg,,,\n")
    result = survey(tmp_path, table, columns=Columns("id", "image", ("title",), group="family", labels={"category": "kind"}))
    assert [(p.image_id, p.text, p.group, p.labels["category"]) for p in result.products[:3]] == [
        ("1", "Tie", "f", "k"), ("2", "Hat", "g", "h"), ("1/2", "Tie", "f", "k")]
    assert len(result.products) == 4 and len(result.rounded) == 2
    assert ["used before" in row["reason"] for row in result.skipped] == [True, True]
    assert "rows without a picture, of a product that stands above: 1" in result.notes()
    assert "rows that name a picture of their product again: 1" in result.notes()


def test_rows_of_one_product_with_texts_of_their_own_are_told_apart_by_a_view(tmp_path):
    table = "id,image,title,kind\n1,a.jpg,Tie,k\n1,b.jpg,Tie,k\n1,c.jpg,Red tie,k\n"
    result = survey(tmp_path, table)
    assert len(result.products) == 1 and any(line.startswith("2 rows have the id of a product above") for line in result.notes())
    columns = Columns("id", "image", ("title",), view=("image",), labels={"category": "kind"})
    assert [p.image_id for p in survey(tmp_path, table, columns=columns).products] == ["1/a.jpg", "1/b.jpg", "1/c.jpg"]


def test_a_name_made_of_columns(tmp_path):
    columns = Columns("id", "pics/{kind}/{id}.jpg", ("title",), labels={})
    result = survey(tmp_path, text() + "5,x,Tie,\n", columns=columns, files=[f"pics/kind{n}/{n}.jpg" for n in range(1, 5)])
    assert not result.absent and len(result.products) == 4 and "no picture" in result.skipped[0]["reason"]
    with pytest.raises(UserError, match="no column 'code'"):
        survey(tmp_path, text(), columns=Columns("id", "{code}.jpg", ("title",)))


@pytest.mark.parametrize("files, words", [(["photos/3.png"], "image: 'photos/{id}.png'"), ([], "image: 'images/{id}.jpg'")])
def test_a_table_without_a_column_of_pictures(tmp_path, files, words):
    with pytest.raises(UserError, match=f"there is no column 'photo'.*{words}"):
        survey(tmp_path, text(), columns=Columns("id", "photo", ("title",)), files=files)


NAMES = {  # what the table says, the files, how the right one is named otherwise
    "case": ("Pics/A.JPG", ["pics/a.jpg", "pics/b.jpg"], "in case, accents or slashes"),
    "Unicode": ("robe\u0301.jpg", ["rob\u00e9.jpg"], "in case, accents or slashes"),
    "ending": ("a.jpeg", ["a.png", "b.png"], "in the ending"),
    "no ending": ("pics/a", ["pics/a.png"], "in the ending"),
    "slashes": ("\\pics\\\\a.jpg", ["pics/a.jpg"], "in case, accents or slashes"),
    "leading slash": ("/pics/a.jpg", ["pics/a.jpg"], "in case, accents or slashes"),
    "percent": ("red%20tie.jpg", ["red tie.jpg"], "in case, accents or slashes"),
    "percent in the file": ("red%20tie.jpg", ["red%20tie.jpg"], ""),
    "folder": ("a.jpg", ["pics/a.jpg"], "in the folder"),
    "dot": ("./pics/a.jpg", ["pics/a.jpg"], ""),
    "a path of Windows": ("C:\\shop\\pics\\a.jpg", ["photos/a.jpg", "photos/b.jpg"], "in the folder"),
    "a path from the root": ("/m/a/a.jpg", ["a.png"], "in folder and ending"),
}


@pytest.mark.parametrize("case", NAMES)
def test_names_spelled_otherwise(tmp_path, case):
    name, files, how = NAMES[case]
    result = survey(tmp_path, f"id,image,title,kind\n1,{name},Tie,k\n", files=files)
    assert not result.absent and (tmp_path / files[0]).samefile(result.products[0].image_path)
    assert dict(result.spelled) == ({how: 1} if how else {})


ADDRESSES = {  # what the table says, the files, which of them it is
    "a name": ("https://cdn.example/files/a.jpg?v=17", ["a.jpg", "b.jpg"], 0),
    "below": ("https://cdn.example/files/Red%20Tie.JPG", ["pics/red tie.jpg"], 0),
    "no host": ("http://[::1/a.jpg", ["a.jpg"], 0),
    "another ending": ("//cdn.example/a.jpg", ["a.webp"], 0),
    "folders of the server": ("https://shop.example/wp-content/uploads/2020/01/a.jpg", ["2021/01/a.jpg", "2020/01/a.jpg"], 1),
}


@pytest.mark.parametrize("case", ADDRESSES)
def test_an_address_is_the_file_of_its_name(tmp_path, case):
    name, files, number = ADDRESSES[case]
    result = survey(tmp_path, f"id,image,title,kind\n1,{name},Tie,k\n", files=files)
    assert not result.absent and (tmp_path / files[number]).samefile(result.products[0].image_path) and sum(result.spelled.values()) == 1


def test_an_address_of_very_many_folders_is_no_work(tmp_path):
    """All of its ends would fill the memory."""
    result = survey(tmp_path, f"id,image,title,kind\n1,https://x.example/{'a/' * 1_000_000}a.jpg,Tie,k\n", files=["a/a.jpg"])
    assert not result.absent


def test_addresses_of_two_folders_are_not_one_file(tmp_path):
    table = "id,image,title,kind\n1,https://x.example/1/front.jpg,Tie,k\n2,https://x.example/2/front.jpg?v=1,Hat,k\n"
    result = survey(tmp_path, table, files=["front.jpg"])
    assert [row["image_id"] for row in result.absent] == ["2"] and "may both be 'front.jpg'" in " ".join(result.notes())


def test_where_pictures_were_looked_for_is_told(tmp_path):
    result = survey(tmp_path, text(), files=["pics/x.jpg", "pics/y.png"])
    names = "'1.jpg', '2.jpg', '3.jpg', '4.jpg'; source.images names"
    assert f"{tmp_path} (2 pictures, such as 'pics/x.jpg'); not there: {names}" in result.searched
    assert not survey(tmp_path, "id,image,title,kind\n1,X.JPG,Tie,k\n", files=["pics/x.jpg", "more/x.jpg"]).searched
    result = survey(tmp_path, text(), images=tmp_path / "nowhere")
    assert f"{tmp_path / 'nowhere'}, and there is no such folder; not there: '1.jpg'" in result.searched


def test_pictures_behind_links_are_seen_and_circles_are_not_followed(tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "disk/ties").mkdir(parents=True)
    (tmp_path / "disk/ties/a.jpg").write_bytes(b"picture")
    (tmp_path / "shop/ties").symlink_to(tmp_path / "disk/ties")
    (tmp_path / "disk/ties/again").symlink_to(tmp_path / "disk")
    (product,) = reading.survey(TableSource(tmp_path / "shop")).products
    assert (product.image_id, product.labels["category"]) == ("ties/a", "ties")


def test_links_to_one_file_are_one_and_broken_links_none(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "pics")
    (tmp_path / "no.jpg").symlink_to(tmp_path / "nothing")
    result = survey(tmp_path, "id,image,title,kind\n1,a.JPG,Tie,k\n2,no.jpg,Hat,k\n", files=["pics/a.jpg"])
    assert [row["image_id"] for row in result.absent] == ["2"] and (tmp_path / "pics/a.jpg").samefile(result.products[0].image_path)


def test_names_that_fit_several_files_or_none(tmp_path):
    table = "id,image,title,kind\n1,A.jpg,Tie,k\n2,no.jpg,Tie,k\n3,https://x.example/a.jpg,Tie,k\n"
    result = survey(tmp_path, table, files=["x/a.jpg", "y/a.jpg"])
    assert [row["reason"].partition(";")[0] for row in result.absent] == [
        "the name of the picture fits 2 files", "there is no such picture",
        "the picture is an address, and pictures are read from a folder"]
    assert any("'A.jpg' may be 'x/a.jpg' or 'y/a.jpg'" in line for line in result.notes()) and len(result.products) == 3


def test_one_file_is_not_the_picture_of_two_names(tmp_path):
    table = "id,image,title,kind\n1,C:\\p1\\front.jpg,Tie,k\n2,C:\\p2\\front.jpg,Hat,k\n3,C:\\p1\\front.jpg,Tie,k\n"
    result = survey(tmp_path, table, files=["x/front.jpg"])
    assert [row["image_id"] for row in result.absent] == ["2"] and "may both be 'x/front.jpg'" in " ".join(result.notes())


# --- texts --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell, plain", [
    ("<p class='a'>Red</p><p>tie</p>", "Red tie"), ("re<b>d</b> tie", "red tie"), ("A&nbsp;tie &amp; pin", "A tie & pin"),
    ("x<br/>y<BR>z", "x y z"), ("a &amp;amp; b &lt;i&gt;c&lt;/i&gt;", "a & b c"), ("<!-- x --> <script>var a = '<b>'</script>tie", "tie"),
    ("30&deg; &#8217; &#x41;", "30\u00b0 \u2019 A"), ("soft\\n\\nwarm\\r\\nlong", "soft warm long"), ("<o:p>tie</o:p>", "tie"),
    ("size < 40 and > 30", "size < 40 and > 30"), ("R&D, AT&T; <3 ties", "R&D, AT&T; <3 ties"), ("<unknown> tie", "<unknown> tie"),
    ("a<b and c>d", "a<b and c>d"), ("<p", "<p"), ("<br / >x<p  >y<a  b = 'c'>z</a>", "x yz"), ("<!-- a --> <!-- b\n-->x", "x"),
    ("<style>p {}</style>x<STYLE>q</Style >y", "x y"),
])
def test_markup(cell, plain):
    assert markup.plain(cell) == plain


def test_markup_is_counted_and_can_be_kept(tmp_path):
    table = "id,image,title,kind\n1,a.jpg,<b>Tie</b>,Ties &amp; Pins\n2,a.jpg,<p>&nbsp;</p>,k\n3,a.jpg,<p>NULL</p>,k\n4,a.jpg,Hat,k\n"
    result = survey(tmp_path, table)
    assert [(p.text, p.labels["category"]) for p in result.products] == [("Tie", "Ties & Pins"), ("Hat", "k")]
    assert "4 cells had HTML, which was taken out (source.strip_html): 'title' x 3, 'kind' x 1" in result.notes()
    assert survey(tmp_path, table, strip_html=False).products[0].text == "<b>Tie</b>"


# --- cells of JSON, Parquet and the like ----------------------------------------------------------------------------------


CELLS = {  # column, value, what becomes of it: its text, or the reason why the row is left out
    "a list of tags": ("title", ["Tie", "red"], "Tie, red"),
    "a list of classes": ("kind", ["ties", "silk"], "ties, silk"),
    "bytes": ("title", b"Tie", "Tie"),
    "bytes that are no text": ("title", b"\xff\xd8", "column 'title' holds bytes and no text"),
    "an object": ("title", {"en": "Tie", "de": "Schlips"}, "column 'title' holds an object and no text"),
    "a list of objects": ("kind", [{"a": 1}], "column 'kind' holds a list and no text"),
    "a list of ids": ("id", ["1", "2"], "column 'id' holds a list and no text"),
    "a picture itself": ("image", {"bytes": b"\xff\xd8", "path": None}, "column 'image' holds pictures, and they are read from files"),
    "the bytes of a picture": ("image", b"\xff\xd8", "column 'image' holds pictures, and they are read from files"),
}


@pytest.mark.parametrize("case", CELLS)
def test_a_cell_is_a_text_or_its_row_is_left_out(tmp_path, case):
    column, value, expected = CELLS[case]
    table = parquet([{**ROWS[0], column: value}])
    if "holds" in expected:
        with pytest.raises(UserError, match=f"no usable row .{expected} x 1: t.parquet, row 1"):
            survey(tmp_path, table, "t.parquet")
    else:
        (product,) = survey(tmp_path, table, "t.parquet").products
        assert {"title": product.text, **product.labels, "kind": product.labels["category"]}[column] == expected


def test_numbers_and_lists_in_json(tmp_path):
    row = {"id": 1000.0, "image": [{"src": "a.jpg"}, {"url": "b.jpg"}], "title": ["Tie", None, 2.0], "kind": 1.5}
    result = survey(tmp_path, json.dumps([row]), "t.json")
    assert [(p.image_id, p.text, p.labels["category"]) for p in result.products] == [("1000", "Tie, 2", "1.5"), ("1000/2", "Tie, 2", "1.5")]
    with pytest.raises(UserError, match="no usable row .column 'id' holds a list and no text"):
        survey(tmp_path, json.dumps({name: [row[name] for row in ROWS] for name in ROWS[0]}), "t.json")


def test_a_row_without_a_picture_of_a_product_above_is_no_fault(tmp_path):
    """Sizes and languages of a product are rows with a text of their own, and no further picture."""
    result = survey(tmp_path, "id,image,title,kind\n1,a.jpg,Tie,k\n1,,Tie,k\n1,,Schlips,\n2,,Hat,k\n")
    assert [p.text for p in result.products] == ["Tie"] and [row["where"] for row in result.skipped] == ["t.csv, line 5"]
    assert "rows without a picture, of a product that stands above: 2" in result.notes()


@pytest.mark.parametrize("name", ["Body (HTML)", "a; b", "is 'it', in", 'so "it", in'])
def test_reasons_are_counted_with_whole_names_of_columns(name):
    reason = f"no text in 'Title', {name!r}"
    assert reading.account([{"image_id": "", "where": "t.csv, line 2", "reason": reason}]) == [f"{reason} x 1: t.csv, line 2"]


# --- categories that are paths ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell, category, subcategory", [
    ("Shirts", "Shirts", "Shirts"), ("Men > Ties > Silk", "Men", "Men > Ties > Silk"), ("Sale, Men > Ties, New", "Men", "Men > Ties"),
    ("Men, Men > Ties", "Men", "Men > Ties"), ("New, Sale", "New", "New"),
    ("Tops\\\\, Shirts > Silk, Sale", "Tops\\, Shirts", "Tops\\, Shirts > Silk"),
    ("", "", ""), (">", ">", ">"), (", ,", ", ,", ", ,"),
])
def test_the_levels_of_categories_are_labels(tmp_path, cell, category, subcategory):
    cell = cell.replace("\\\\", "\\")
    table = f'ID,SKU,Name,Categories,Images\n1,a,Tie,"{cell}",a.jpg\n'
    result = survey(tmp_path, table, "wc.csv", None, preset="woocommerce")
    assert result.products[0].labels == {"category": category, "subcategory": subcategory}
    changed = (category != cell) + (subcategory != cell)
    assert sum("a part is the label" in line for line in result.notes()) == changed
    columns = Columns("SKU", "Images", ("Name",), labels={"category": "Categories"})
    assert survey(tmp_path, table, "wc.csv", columns, preset="woocommerce").products[0].labels == {"category": cell}


def test_what_of_a_cell_is_a_label_can_be_set(tmp_path):
    result = survey(tmp_path, text(), label_patterns={"category": "(\\d)"})
    assert [p.labels["category"] for p in result.products] == ["1", "2", "3", "4"]
    assert "label category: of 4 different cells a part is the label (source.label_patterns), such as '1' of 'kind1'" in result.notes()
    for pattern, words in (("(", "no regular expression for 'category'"), ("kind", "for 'category' in source.label_patterns has no group")):
        with pytest.raises(UserError, match=words):
            survey(tmp_path, text(), label_patterns={"category": pattern})


# --- parents and variants -------------------------------------------------------------------------------------------------


VARIANTS = """10,variable,tee,Tee,Soft,Shirts,"a.jpg, b.jpg",
11,variation,tee-r,Tee red,,,c.jpg,tee
12,variation,tee-b,Tee blue,,,,tee
13,variable,,Hood,Warm,Hoods,d.jpg,
14,variation,,Hood S,,,e.jpg,id:13
15,variation,lost,Lost S,,,,id:99
16,simple,bare,Bare,,Hats,,
""".splitlines(keepends=True)


@pytest.mark.parametrize("order", [1, -1])
def test_variants_have_the_labels_of_their_parent_wherever_it_stands(tmp_path, order):
    """WooCommerce writes categories into the row of the parent alone; it names a parent by its SKU or, where that is empty, by id:ID."""
    table = "ID,Type,SKU,Name,Description,Categories,Images,Parent\n" + "".join(VARIANTS[::order])
    result = survey(tmp_path, table, "wc.csv", None)
    products = {p.image_id: (p.text, p.group, p.labels["category"]) for p in result.products}
    assert products == {"tee": ("Tee. Soft", "tee", "Shirts"), "tee/2": ("Tee. Soft", "tee", "Shirts"),
                        "tee-r": ("Tee red", "tee", "Shirts"), "id:13": ("Hood. Warm", "id:13", "Hoods"),
                        "id:14": ("Hood S", "id:13", "Hoods")}
    assert {row["image_id"] for row in result.skipped} == {"lost", "bare"}
    assert "variants without a picture, of a product that has one: 1" in result.notes()


# --- a folder in place of a table -----------------------------------------------------------------------------------------


def folder(tmp_path, files, **options):
    for file in files:
        (tmp_path / "pics" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pics" / file).write_text("picture")
    return reading.survey(TableSource(tmp_path / "pics", **options))


def test_a_folder_of_one_split_is_no_class(tmp_path):
    result = folder(tmp_path, ["train/ties/1.jpg", "train/hats/2.jpg"])
    assert [(p.text, p.labels["category"]) for p in result.products] == [("hats", "hats"), ("ties", "ties")]
    assert not result.source.columns.split


def test_pictures_of_one_name_with_two_endings_are_two(tmp_path):
    result = folder(tmp_path, ["ties/1.jpg", "ties/1.png", "ties/2.jpg"])
    assert [p.image_id for p in result.products] == ["ties/1.jpg", "ties/1.png", "ties/2"] and not result.skipped


def test_files_that_are_not_read_are_told(tmp_path):
    result = folder(tmp_path, ["ties/1.jpg", "ties/2.HEIC", "ties/3.heic", "notes"])
    assert result.found[1] == "files that are no pictures by their ending: .heic x 2, no ending x 1"


@pytest.mark.parametrize("files, options, words", [
    (["1.jpg", "2.jpg"], {}, "pics: the pictures lie in the folder itself; expected: a folder of pictures for each class.*put them into"),
    (["ties/1.jpg"], {"columns": COLUMNS}, "no column 'title'.*this is a folder per class: set source.preset=folders"),
    (["a/1.jpg", "a/metadata.csv", "b/metadata.csv"], {}, "this folder has tables of its own: .*a/metadata.csv, .*b/metadata.csv"),
    (["products.csv", "notes.md"], {}, "this folder has no pictures.*name the table inside, such as .*products.csv"),
], ids=("flat", "columns", "metadata below", "a table"))
def test_folders_that_are_none_of_classes(tmp_path, files, options, words):
    with pytest.raises(UserError, match=words):
        folder(tmp_path, files, **options)


def test_the_metadata_of_a_folder_are_its_table(tmp_path):
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics/metadata.jsonl").write_text('{"file_name": "a/1.jpg", "text": "Red tie"}\n')
    result = folder(tmp_path, ["a/1.jpg"])
    assert [p.text for p in result.products] == ["Red tie"] and not result.absent and "ImageFolder" in result.found[1]
    assert [p.text for p in folder(tmp_path, [], preset="folders").products] == ["a"]


def data_set(folder, rows=ROWS, names=("data-00000-of-00002.arrow", "data-00001-of-00002.arrow")) -> None:
    folder.mkdir(parents=True)
    for part, name in zip((rows[:1], rows[1:]), names):
        with pa.ipc.new_stream(folder / name, pa.Table.from_pylist(part).schema) as writer:
            writer.write_table(pa.Table.from_pylist(part))


def test_a_data_set_in_several_files_is_read_whole(tmp_path):
    data_set(tmp_path / "set")
    assert is_whole(reading.survey(TableSource(tmp_path / "set", COLUMNS)))
    (tmp_path / "set/cache-0123.arrow").write_bytes((tmp_path / "set/data-00000-of-00002.arrow").read_bytes())
    state = {"_data_files": [{"filename": f"data-0000{n}-of-00002.arrow"} for n in range(2)]}
    (tmp_path / "set/state.json").write_text(json.dumps(state))
    assert is_whole(reading.survey(TableSource(tmp_path / "set", COLUMNS)))
    (tmp_path / "set/state.json").write_text("{")
    with pytest.raises(UserError, match="state.json: the list of the files of a data set cannot be read"):
        reading.survey(TableSource(tmp_path / "set", COLUMNS))
    (tmp_path / "parts").mkdir()
    for number, rows in enumerate((ROWS[:2], ROWS[2:])):
        (tmp_path / f"parts/{number}.parquet").write_bytes(parquet(rows))
    result = reading.survey(TableSource(tmp_path / "parts", COLUMNS))
    assert is_whole(result) and result.found == ["Parquet"]


def test_rows_of_several_files_are_numbered_through(tmp_path):
    data_set(tmp_path / "set", [*ROWS, {**ROWS[0], "id": "9", "title": ""}])
    (row,) = reading.survey(TableSource(tmp_path / "set", COLUMNS)).skipped
    assert row["where"] == "set, row 5"


def test_a_folder_of_several_data_sets_is_named(tmp_path):
    for split in ("test", "train"):
        data_set(tmp_path / "sets" / split)
    with pytest.raises(UserError, match="this folder has several data sets: test, train; .*set source.table=.*sets/test"):
        reading.survey(TableSource(tmp_path / "sets", COLUMNS))


# --- JSON that is no list -------------------------------------------------------------------------------------------------


def test_objects_over_several_lines_are_rows(tmp_path):
    assert is_whole(survey(tmp_path, "\n".join(json.dumps(row, indent=1) for row in ROWS), "t.json"))
    assert is_whole(survey(tmp_path, ",\n".join(json.dumps(row, indent=1) for row in ROWS), "t.json"))
    rows = "\n".join(['{"id": ', *map(json.dumps, ROWS)])  # a line that is broken is still a line
    assert [row["where"] for row in survey(tmp_path, rows, "t.jsonl").skipped] == ["t.jsonl, line 1"]


@pytest.mark.parametrize("data, words", [
    (json.dumps(ROWS) + "\n" + json.dumps(ROWS), "text follows the JSON list at line 2"),
    (json.dumps(ROWS, indent=1) + ",", "text follows the JSON list at line 26"),
    (json.dumps({"count": 4, "products": ROWS}), "one JSON object and no list of products.*save the list that is its key 'products'"),
    (json.dumps({"products": ROWS}, indent=1), "one JSON object and no list of products.*save the list that is its key 'products'"),
    (json.dumps({str(n): row for n, row in enumerate(ROWS)}), "one JSON object and no list of products.*orient='records'"),
    ('{\n "id": 1,\n "image": \n}', r"the JSON objects are damaged at line 1 \(Expecting value: line 4"),
], ids=("two lists", "a comma", "a key", "a key over lines", "by index", "cut"))
def test_json_that_is_no_list_of_products(tmp_path, data, words):
    for columns in (COLUMNS, None):
        with pytest.raises(UserError, match=words):
            survey(tmp_path, data, "t.json", columns)


def test_half_a_character_in_a_list(tmp_path):
    rows = json.dumps([*ROWS, {**ROWS[0], "id": "9", "title": "x\ud83dy"}])
    (row,) = survey(tmp_path, rows, "t.json").skipped
    assert row["reason"].startswith("the object holds half a character")


# --- feeds in XML ---------------------------------------------------------------------------------------------------------


RSS = """<?xml version="1.0" encoding="{}"?>
<rss xmlns:g="http://base.google.com/ns/1.0" version="2.0"><channel><title>A shop</title><description>All of it</description>
<item><g:id>g1</g:id><title>Dr\u00e9ss</title><g:title>Dr\u00e9ss</g:title><description><![CDATA[<p>Silk</p> &amp; more]]></description>
<g:image_link>a.jpg</g:image_link><g:additional_image_link>b.jpg</g:additional_image_link>
<g:additional_image_link>c.jpg</g:additional_image_link><g:shipping><g:country>DE</g:country><g:price>4 EUR</g:price></g:shipping>
<g:item_group_id>group</g:item_group_id><g:product_type>Men &gt; Ties</g:product_type></item>
<item><g:id>g2</g:id><g:title>Hat</g:title><g:description>Warm <b>wool</b></g:description><g:image_link>d.jpg</g:image_link>
<g:item_group_id>group</g:item_group_id></item>
</channel></rss>
"""
ATOM = """<feed xmlns="http://www.w3.org/2005/Atom" xmlns:g="http://base.google.com/ns/1.0"><title>A shop</title><entry><g:id>g1</g:id>
<g:title>Hat</g:title><g:description>Warm</g:description><g:image_link>a.jpg</g:image_link></entry></feed>"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1", "gzip"])
@pytest.mark.parametrize("preset", ["", "google-merchant"])
def test_a_feed_in_xml_is_read(tmp_path, encoding, preset):
    declared = encoding if encoding in ("utf-16", "iso-8859-1") else "utf-8"
    data = RSS.format(declared).encode(declared if encoding == "gzip" else encoding)
    result = survey(tmp_path, gzip.compress(data) if encoding == "gzip" else data, "feed.xml", None, FILES, preset=preset)
    assert not result.skipped and not result.absent and result.found[0].startswith("an XML feed, ")
    assert [(p.image_id, p.text, p.group, p.labels["subcategory"]) for p in result.products] == [
        *((name, "Dr\u00e9ss. Silk & more", "group", "Men > Ties") for name in ("g1", "g1/2", "g1/3")),
        ("g2", "Hat. Warm wool", "group", "")]


def test_attributes_of_a_product_in_xml_are_columns(tmp_path):
    rows = "".join(f"<product id='{row['id']}' kind='{row['kind']}'><image>{row['image']}</image><title>{row['title']}</title></product>"
                   for row in ROWS)
    assert is_whole(survey(tmp_path, f"<products>{rows}</products>", "t.xml"))


def test_positions_in_xml_are_lines(tmp_path):
    result = survey(tmp_path, RSS.format("utf-8").replace("<g:id>g2</g:id>", "<g:id/>"), "feed.txt", None)
    assert [row["where"] for row in result.skipped] == ["feed.txt, line 7"]
    result = survey(tmp_path, "\n\n" + RSS.format("utf-8").replace("<g:id>g2</g:id>", "<g:id/>"), "feed.txt", None)
    assert [row["where"] for row in result.skipped] == ["feed.txt, line 9"]
    assert [p.text for p in survey(tmp_path, ATOM, "feed.xml", None).products] == ["Hat. Warm"]
    assert survey(tmp_path, ATOM.replace("Warm", "Tom&nbsp;&eacute; &amp; Co"), "feed.xml", None).products[0].text == "Hat. Tom \u00e9 & Co"


BOMB = "<!DOCTYPE x [<!ENTITY a 'ha'>" + "".join(f"<!ENTITY {b} '{f'&{a};' * 10}'>" for a, b in zip("abcdefgh", "bcdefghi")) + "]>"


@pytest.mark.parametrize("data, words", [
    (BOMB + "<rss><item><id>&i;</id></item></rss>", "the XML declares an entity, 'a', at line 1; .*without a DTD"),
    (RSS.format("utf-8")[:-40], "the XML is damaged at line 8 .unclosed token.; .*export it again"),
    (RSS.format("utf-8").replace("Hat", "Hat & Cap"), "the XML is damaged at line 7 "),
    ("<html><body>Log in</body></html>", "this is a page in HTML.*password"),
    ("<!-- x -->\n<!DOCTYPE html>\n<p>", "this is a page in HTML"),
    (RSS.format("utf-8").encode("cp1252"), "not UTF-8 text .line 3: "),
    (RSS.format("utf-99"), "source.encoding is 'utf-99'"),
], ids=("bomb", "cut", "ampersand", "page", "doctype", "cp1252", "unknown encoding"))
def test_xml_that_is_no_feed(tmp_path, data, words):
    with pytest.raises(UserError, match=words):
        survey(tmp_path, data, "feed.xml", None)


# --- headers that are not found -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data, options, words", [
    (text(";"), {"separator": "comma"}, "no column 'id', nor .*this looks separated by ';': set source.separator=semicolon"),
    (text("\t", first="sep=,\n"), {}, "no column 'id', nor .*this looks separated by tabs: set source.separator=tab"),
    (text().replace("id,image,title,kind", "ID,Image,Titel,Kind"), {}, "nor 'image', 'title', 'kind'.*mean 'ID', 'Image', 'Titel', 'Kind'"),
    ("Our products\n\n" + text(), {}, "no column 'id', .*line 3 has these columns: remove what stands above it"),
    (text().partition("\n")[2], {}, "the first line seems to be a product: put a line with the names of the columns above it"),
], ids=("separator", "sep=", "capitals", "title", "none"))
def test_a_header_that_is_not_found_is_explained(tmp_path, data, options, words):
    with pytest.raises(UserError, match=words):
        survey(tmp_path, data, **options)


def test_a_separator_is_found_by_the_lines_too(tmp_path):
    """The names of the columns have more commas than semicolons, and no names are given."""
    table = 'Handle;Title, long, plain;Body (HTML);Image Src, small, large;Image Src\nred;Tie;silk;x;1.jpg\nhat;Hat, warm;wool;x;2.jpg\n'
    result = survey(tmp_path, table.replace("Title, long, plain", "Title"), "t.csv", None)
    assert [p.text for p in result.products] == ["Tie. silk", "Hat, warm. wool"]
    with pytest.raises(UserError, match="columns out of SKU, Bild, klein, Titel, kurz, lang, Art, or a preset"):
        survey(tmp_path, "SKU;Bild, klein;Titel, kurz, lang;Art\n1;1.jpg;Tie;k\n", columns=None)


@pytest.mark.parametrize("text", ["<!-- ", "<script ", "<a =", "<p  ", "&amp;lt;"], ids=("comment", "script", "equals", "blanks", "entity"))
def test_markup_that_never_ends_is_read_once(text):
    """A text of a megabyte would take hours where every beginning is followed to the end."""
    start = time.perf_counter()
    markup.plain(text * (1_000_000 // len(text)))
    markup.plain(text[:3] + text[3:4] * 1_000_000)
    assert time.perf_counter() - start < 30
