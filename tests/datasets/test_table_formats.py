"""Formats of tables: what a file is, its separator, encoding and sheet, its cells, and the header that is looked for."""

import csv
import gzip
import io
import json
import random
import struct
from types import SimpleNamespace

import pytest

from kaleidobert.configs import Columns
from kaleidobert.datasets.sources import formats, reading
from kaleidobert.errors import UserError
from tests.support.catalogues import COLUMNS, FILES, ROWS, arrow, is_whole, parquet, survey, text

# --- formats ----------------------------------------------------------------------------------------------------------


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


# --- cells of JSON, Parquet and the like ------------------------------------------------------------------------------



CELLS = {  # column, value, what becomes of it: its text, or the reason why the row is left out
    "a list of tags": ("title", ["Tie", "red"], "Tie, red"),
    "a list of classes": ("kind", ["ties", "silk"], "ties, silk"),
    "bytes": ("title", b"Tie", "Tie"),
    "bytes that are no text": ("title", b"\xff\xd8", "column 'title' holds bytes and no text"),
    "an object": ("title", {"en": "Tie", "de": "Schlips"}, "column 'title' holds an object and no text"),
    "a list of objects": ("kind", [{"a": 1}], "column 'kind' holds a list and no text"),
    "a list of ids": ("id", ["1", "2"], "column 'id' holds a list and no text"),
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


# --- JSON that is no list ---------------------------------------------------------------------------------------------



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


# --- feeds in XML -----------------------------------------------------------------------------------------------------



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


def test_a_feed_whose_columns_are_those_of_another_table_is_recognised(tmp_path):
    columns, words = Columns("product_id", "image", ("title",)), "Google Merchant feed: set source.preset=google-merchant"
    for data in (RSS.format("utf-8"), json.dumps([{"id": 1, "title": "Tie", "image_link": "a.jpg"}])):
        with pytest.raises(UserError, match=f"no column 'product_id', nor 'image'; .*{words}"):
            survey(tmp_path, data, "feed", columns)


def test_positions_in_xml_are_lines(tmp_path):
    result = survey(tmp_path, RSS.format("utf-8").replace("<g:id>g2</g:id>", "<g:id/>"), "feed.txt", None)
    assert [row["where"] for row in result.skipped] == ["feed.txt, line 7"]
    result = survey(tmp_path, "\n\n" + RSS.format("utf-8").replace("<g:id>g2</g:id>", "<g:id/>"), "feed.txt", None)
    assert [row["where"] for row in result.skipped] == ["feed.txt, line 9"]
    assert [p.text for p in survey(tmp_path, ATOM, "feed.xml", None).products] == ["Hat. Warm"]
    assert survey(tmp_path, ATOM.replace("Warm", "Tom&nbsp;&eacute; &amp; Co"), "feed.xml", None).products[0].text == "Hat. Tom \u00e9 & Co"


def test_a_section_of_xml_that_is_not_closed_gives_no_cell_to_another_product(tmp_path):
    """It ends where that of the next product does, and the feed is well-formed."""
    lines = [f"<item><id>{n}</id><title>Tie</title><image>a.jpg</image><kind><![CDATA[k{n}]]></kind></item>" for n in range(1, 6)]
    lines[1] = lines[1].replace("]]>", "]>")
    result = survey(tmp_path, "\n".join(["<rss>", *lines, "</rss>"]), "t.xml")
    assert [(p.product_id, p.labels["category"]) for p in result.products] == [("1", "k1"), ("4", "k4"), ("5", "k5")]
    assert [(row["where"], row["reason"]) for row in result.skipped] == [
        ("t.xml, line 3", "a CDATA section is not closed, and runs into what follows")]


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


# --- headers that are not found ---------------------------------------------------------------------------------------



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
