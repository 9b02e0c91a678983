"""Every kind of table that shops export has siblings: another separator, encoding, order of columns or spelling of the same.

Two at least of each kind are read as they were written; test_table_formats, _faults, _layouts and _pictures have the kinds themselves.
"""

import gzip
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from kaleidobert.configs import Columns
from kaleidobert.errors import UserError
from tests.support.catalogues import COLUMNS, FILES, survey


class Case(NamedTuple):
    """products: {image_id: (text, picture, label)}, of ``more`` lines (group, labels) in their place where they are asked for; skipped:
    {position: the reason's beginning}; error: of a table that is refused."""

    data: str | bytes
    products: dict[str, tuple[str, ...]] = {}
    skipped: dict[str, str] = {}
    name: str = "t.csv"
    columns: Columns | None = COLUMNS
    options: dict[str, Any] = {}
    files: tuple[str, ...] = FILES
    error: str = ""
    note: str = ""
    with_groups: bool = False


def product(title: str, picture: str, kind: str = "") -> tuple[str, str, str]:
    return title, picture, kind


TIE, HAT = product("Tie", "a.jpg", "k"), product("Hat", "b.jpg", "h")
TWO = {"1": TIE, "2": HAT}
OBJECTS = [{"id": 1, "image": "a.jpg", "title": "Tie", "kind": "k"}, {"id": 2, "image": "b.jpg", "title": "Hat", "kind": "h"}]
PLAIN = "id,image,title,kind\n1,a.jpg,Tie,k\n2,b.jpg,Hat,h\n"
STYLES = Columns("id", "images/{id}.jpg", ("productDisplayName",), labels={"category": "articleType"})
MERCHANT = Columns("id", "image_link", ("title",), more_images=("additional_image_link",), group="item_group_id",
                   labels={"category": "product_type"})


def of_columns(**columns: list) -> pa.Table:
    return pa.table(columns)


def parquet(made: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(made, sink)
    return sink.getvalue()


def feathered(made: pa.Table) -> bytes:
    sink = io.BytesIO()
    feather.write_feather(made, sink, compression="lz4")
    return sink.getvalue()


def workbook(*rows: list, first: str = "") -> bytes:
    openpyxl = pytest.importorskip("openpyxl")
    book, sink = openpyxl.Workbook(), io.BytesIO()
    if first:
        book.active.title = first
        book.active.append(["Prices of the year"])
        book.create_sheet("Articles")
    for row in rows:
        book.worksheets[-1].append(row)
    book.save(sink)
    return sink.getvalue()


def twice(data: str) -> bytes:
    """A compressed file that was made by putting two behind each other."""
    half = len(data) // 2
    return gzip.compress(data[:half].encode()) + gzip.compress(data[half:].encode())


def categories() -> pa.Table:
    """As pandas writes columns of categories and of its own strings."""
    return pa.table({"id": pa.array([1, 2], pa.int32()), "image": pa.array(["a.jpg", "b.jpg"], pa.large_string()),
                     "title": pa.array(["Tie", "Hat"]).dictionary_encode(), "kind": pa.array(["k", "h"]).dictionary_encode(),
                     "price": pa.array([1.5, None])})


SIBLINGS = {
    "quote_unclosed": {
        "tabs, UTF-16, a size at the end": Case(
            'id\timage\ttitle\tkind\r\n1\ta.jpg\t"70s style\tk\r\n2\tb.jpg\tHat 24"\th\r\n3\tc.jpg\tCap\tc\r\n'.encode("utf-16"),
            {"1": ('"70s style', "a.jpg", "k"), "2": ('Hat 24"', "b.jpg", "h"), "3": ("Cap", "c.jpg", "c")}),
        "semicolons, all others in quotes": Case(
            '"kind";"title";"image";"id"\n"k";"Tie; ""soft""";"a.jpg";"1"\n"h";"Hat;"b.jpg";"2"\n"c";"Cap";"c.jpg";"3"\n',
            {"1": ('Tie; "soft"', "a.jpg", "k"), "2": ('"Hat', "b.jpg", "h"), "3": ("Cap", "c.jpg", "c")}),
        "in the last column, before the end": Case(
            'id|image|kind|title\n1|a.jpg|k|"Tie" of silk\n2|b.jpg|h|"Hat\n', {"1": ('"Tie" of silk', "a.jpg", "k"),
                                                                             "2": ('"Hat', "b.jpg", "h")}),
    },
    "merchant_tsv_quotes": {
        "columns in capitals, another order": Case(
            'Image_Link\tID\tTitle\tProduct_Type\tItem_Group_ID\na.jpg\tg1\t18" chain\tk\tx\nb.jpg\tg2\t"Hat\th\tx\n',
            {"g1": ('18" chain', "a.jpg", "k"), "g2": ('"Hat', "b.jpg", "h")}, name="feed.tsv", columns=None,
            options={"preset": "google-merchant"}),
        "commas, CRLF": Case('id,title,image_link,item_group_id,product_type,additional_image_link\r\ng1,"18"" chain",a.jpg,x,k,\r\n'
                             'g2,7" hat,b.jpg,x,h,c.jpg\r\n',
                             {"g1": ('18" chain', "a.jpg", "k"), "g2": ('7" hat', "b.jpg", "h"), "g2/2": ('7" hat', "c.jpg", "h")},
                             columns=MERCHANT),
    },
    "merchant_txt": {
        "names with g: before them": Case(
            "g:id\tg:title\tg:image_link\tg:additional_image_link\tg:product_type\n1\tTie\ta.jpg\tc.jpg,d.jpg\tk\n",
            {"1": TIE, "1/2": ("Tie", "c.jpg", "k"), "1/3": ("Tie", "d.jpg", "k")}, name="feed.txt", columns=None),
        "UTF-8 with a mark, bars": Case(
            b"\xef\xbb\xbfadditional image link|product type|id|image link|title\nc.jpg|k|1|a.jpg|Tie\n|h|2|b.jpg|Hat\n",
            {"1": TIE, "1/2": ("Tie", "c.jpg", "k"), "2": HAT}, name="feed.txt", columns=None),
    },
    "shopify_local": {
        "names since 2024, tabs": Case(
            "Title\tURL handle\tDescription\tType\tProduct image URL\nTie\ttie\t<p>Silk</p>\tk\ta.jpg\n\ttie\t\t\tc.jpg\n"
            "Hat\that\tWool\th\tb.jpg\n",
            {"tie": ("Tie. Silk", "a.jpg", "k"), "tie/2": ("Tie. Silk", "c.jpg", "k"), "hat": ("Hat. Wool", "b.jpg", "h")}, columns=None),
        "saved by Excel, the picture in the second row": Case(
            "\ufeffHandle;Title;Body (HTML);Type;Image Src;Image Position\r\ntie;Tie;;k;;\r\ntie;;;;a.jpg;1\r\ntie;;;;c.jpg;2\r\n"
            "hat;Hat;;h;b.jpg;1\r\n",
            {"tie/1": TIE, "tie/2": ("Tie", "c.jpg", "k"), "hat/1": HAT}, columns=None),
    },
    "woo_local": {
        "semicolons, UTF-16, the parent below": Case(
            "Parent;Images;SKU;ID;Name;Categories\nid:7;b.jpg;;8;Tie red;\n;a.jpg, c.jpg;;7;Tie;k\n".encode("utf-16"),
            {"id:8": ("Tie red", "b.jpg", "k"), "id:7": TIE, "id:7/2": ("Tie", "c.jpg", "k")}, columns=None),
        "addresses, with commas in them": Case(
            'ID,SKU,Name,Categories,Images,Parent\n1,w,Tie,k,"https://s.example/w_1,h_2/a.jpg, https://s.example/b.jpg",\n',
            {"w": TIE, "w/2": ("Tie", "b.jpg", "k")}, columns=None, files=("a.jpg", "b.jpg")),
    },
    "magento": {
        "semicolons, the parent first": Case(
            "configurable_variations;categories;name;sku;base_image\nsku=t-r,color=red|sku=t-b,color=blue;k;Tie;t;a.jpg\n"
            ";;Tie red;t-r;b.jpg\n;;Tie blue;t-b;\n",
            {"t": ("Tie", "a.jpg", "t"), "t-r": ("Tie red", "b.jpg", "t")}, columns=None, with_groups=True,
            note="variants without a picture, of a product that has one: 1"),
        "attributes that name the parent": Case(
            'sku,name,categories,base_image,additional_attributes\nr,Red,k,a.jpg,"color=red,parent_sku=t"\nb,Blue,k,b.jpg,parent_sku=t\n',
            {"r": ("Red", "a.jpg", "t"), "b": ("Blue", "b.jpg", "t")}, columns=None, with_groups=True),
        "a variant of two products": Case(
            'sku,name,categories,base_image,configurable_variations\nx,X,k,a.jpg,sku=v\ny,Y,k,b.jpg,"sku=""v"",size=M"\nv,V,k,c.jpg,\nz,Z,k,d.jpg,\n',
            {"x": ("X", "a.jpg", "x"), "y": ("Y", "b.jpg", "x"), "v": ("V", "c.jpg", "x"), "z": ("Z", "d.jpg", "z")}, columns=None,
            with_groups=True),
        "Magento 1, rows that go on": Case(
            "sku,_category,name,image,_media_image,_super_products_sku\nt1,k,Tie red,a.jpg,a.jpg,\n,,,,c.jpg,\nt,k,Tie,b.jpg,b.jpg,t1\n"
            ",,,,,t2\nt2,k,Tie blue,d.jpg,d.jpg,\n",
            {"t1": ("Tie red", "a.jpg", "t"), "t1/2": ("Tie red", "c.jpg", "t"), "t": ("Tie", "b.jpg", "t"),
             "t2": ("Tie blue", "d.jpg", "t")}, columns=None, with_groups=True),
    },
    "many_in_cell_pipe": {
        "a list of JSON in a cell": Case('id;image;title;kind\n1;"[""a.jpg"", ""c.jpg""]";Tie;k\n2;[];Hat;h\n',
                                         {"1": TIE, "1/2": ("Tie", "c.jpg", "k")}, {"t.csv, line 3": "no picture in column 'image'"}),
        "a list of Python in a cell": Case("id\timage\ttitle\tkind\n1\t['a.jpg', 'c.jpg']\tTie\tk\n2\t['b.jpg']\tHat\th\n",
                                           {**TWO, "1/2": ("Tie", "c.jpg", "k")}),
        "addresses between blanks": Case("id,image,title,kind\n1,https://s.example/a.jpg https://s.example/c.jpg,Tie,k\n",
                                         {"1": TIE, "1/2": ("Tie", "c.jpg", "k")}, files=("a.jpg", "c.jpg")),
    },
    "kaggle_styles_badlines": {
        "semicolons, a separator in the middle": Case(
            "productDisplayName;id;articleType\nTie;1;k\nHat; warm;2;h\nCap; red;3;c\nTop;1b;k\nBag;1c;k\n",
            {name: (title, f"images/{name}.jpg", "k") for name, title in (("1", "Tie"), ("1b", "Top"), ("1c", "Bag"))},
            {"t.csv, line 3": "the line has 4 of 3 columns", "t.csv, line 4": "the line has 4 of 3 columns"},
            columns=STYLES, files=("images/1.jpg", "images/1b.jpg", "images/1c.jpg")),
        "tabs, a column too few, compressed": Case(
            gzip.compress(b"id\tarticleType\tproductDisplayName\n1\tk\tTie\n2\tHat\n"), {"1": ("Tie", "images/1.jpg", "k")},
            {"t.csv.gz, line 3": "the line has 2 of 3 columns"}, "t.csv.gz", STYLES),
    },
    "kaggle_styles_no_image_column": {
        "a name of two columns": Case("code|brand|words\n7|acme|Tie\n", {"7": ("Tie", "acme/7_front.webp", "")},
                                      columns=Columns("code", "{brand}/{code}_front.webp", ("words",)), files=("acme/7_front.webp",)),
        "lines of JSON, the name is offered": Case(json.dumps({"sku": "x1", "title": "Tie"}), columns=Columns("sku", "photo", ("title",)),
                                                   name="t.jsonl", files=("pics/x1.png",), error="image: 'pics/{sku}.png'"),
    },
    "semicolon": {
        "decimal commas in every row": Case("id;image;title;price;weight;kind\n1;a.jpg;Tie;19,99;0,5;k\n2;b.jpg;Hat;7,50;1,5;h\n", TWO),
        "bars, with semicolons in texts": Case("id|image|title|kind\n1|a.jpg|Tie; silk; red|k\n2|b.jpg|Hat; warm; new|h\n",
                                               {"1": ("Tie; silk; red", "a.jpg", "k"), "2": ("Hat; warm; new", "b.jpg", "h")}),
    },
    "sep_line": {
        "in capitals, of a tab": Case("SEP=\t\r\n" + PLAIN.replace(",", "\t").replace("\n", "\r\n"), TWO),
        "in quotes, UTF-16 with a mark": Case(('"sep=|"\n' + PLAIN.replace(",", "|")).encode("utf-16"), TWO),
    },
    "trailing_commas": {
        "semicolons, of the header too": Case("id;image;title;kind;;\n1;a.jpg;Tie;k;;\n2;b.jpg;Hat;h\n", TWO),
        "tabs, and blank rows below": Case(PLAIN.replace(",", "\t").replace("k\n", "k\t\t \n") + "\t\t\t\n\n\t\t\t\n", TWO, name="t.txt"),
    },
    "dup_header": {
        "Parquet": Case(parquet(pa.Table.from_arrays([pa.array([cell]) for cell in ("1", "a.jpg", "Tie", "x", "k")],
                                                     names=["id", "image", "title", "title", "kind"])), name="t.parquet",
                        error="the columns 3 and 4 are both called 'title'"),
        "semicolons behind a line sep=": Case("sep=;\nid;kind;image;title;kind\n1;k;a.jpg;Tie;x\n",
                                              error="the columns 2 and 5 are both called 'kind'"),
    },
    "nan_texts": {
        "missing values of pandas": Case(parquet(of_columns(id=["1", "2"], image=["a.jpg", "b.jpg"], title=[None, "Hat"],
                                                            kind=[float("nan"), 2.0])),
                                         {"2": ("Hat", "b.jpg", "2")}, {"t.parquet, row 1": "no text"}, "t.parquet"),
        "those of databases, and words of one's own": Case(
            "id\timage\ttitle\tkind\n1\ta.jpg\tTie\t\\N\n2\tb.jpg\t(null)\th\n3\tc.jpg\tCap\tkeine Angabe\n",
            {"1": ("Tie", "a.jpg", ""), "3": ("Cap", "c.jpg", "")}, {"t.csv, line 3": "no text"},
            options={"missing": ("\\N", "(null)", "Keine Angabe")}),
    },
    "jsonl_first_row_lacks_key": {
        "a list, compressed": Case(gzip.compress(json.dumps([{k: v for k, v in OBJECTS[0].items() if k != "kind"}, OBJECTS[1]]).encode()),
                                   {"1": ("Tie", "a.jpg", ""), "2": HAT}, name="t.json.gz"),
        "a feed": Case("<feed><product><id>1</id><image>a.jpg</image><title>Tie</title></product><product><kind>h</kind><id>2</id>"
                       "<image>b.jpg</image><title>Hat</title></product></feed>", {"1": ("Tie", "a.jpg", ""), "2": HAT}, name="t.xml"),
    },
    "jsonl_bom": {
        "UTF-16": Case("\n".join(map(json.dumps, OBJECTS)).encode("utf-16"), TWO, name="t.jsonl"),
        "blank lines before it, CRLF": Case("\ufeff\r\n\r\n" + "\r\n".join(map(json.dumps, OBJECTS)) + "\r\n", TWO, name="t.txt"),
    },
    "json_array": {
        "a mark and an indent": Case("\ufeff" + json.dumps(OBJECTS, indent=4), TWO, name="t.json"),
        "UTF-16, as a file of no ending": Case(json.dumps(OBJECTS, ensure_ascii=False).encode("utf-16-le"), TWO, name="export"),
    },
    "labels_of_my_own": {
        "signs in the name": Case("id;image;title;Material / Fabric (%)\n1;a.jpg;Tie;silk\n", {"1": ("Tie", "a.jpg", "silk")},
                                  columns=Columns("id", "image", ("title",), labels={"fabric": "Material / Fabric (%)"})),
        "numbers and truth": Case(json.dumps([{"id": 1, "image": "a.jpg", "title": "Tie", "on": True}]), {"1": ("Tie", "a.jpg", "True")},
                                  name="t.json", columns=Columns("id", "image", ("title",), labels={"on": "on"})),
    },
    "labels_none": {
        "Parquet": Case(parquet(of_columns(id=[1], image=["a.jpg"], title=["Tie"])), {"1": ("Tie", "a.jpg", "")}, name="t.parquet",
                        columns=Columns("id", "image", ("title",))),
        "a known layout": Case("sku,name,categories,base_image\n1,Tie,k,a.jpg\n", {"1": ("Tie", "a.jpg", "k")}, columns=None),
    },
    "decimal_ids": {
        "a decimal comma": Case("id;image;title;kind\n1,00123E+12;a.jpg;Tie;k\n1,00123E+12;b.jpg;Hat;h\n", {"1,00123E+12": TIE},
                                {"t.csv, line 3": "the id was used before, in t.csv, line 2 (a spreadsheet rounded it"},
                                note="2 rows have an id or a group such as '1,00123E+12'"),
        "whole numbers in floats are exact": Case(parquet(of_columns(id=[1001230000001.0, 1001230000002.0], image=["a.jpg", "b.jpg"],
                                                                     title=["Tie", "Hat"], kind=["k", "h"])),
                                                  {"1001230000001": TIE, "1001230000002": HAT}, name="t.parquet"),
    },
    "texts_html": {
        "escaped once more, tabs": Case("id\timage\ttitle\tkind\n1\ta.jpg\t&lt;p&gt;Tie&lt;/p&gt;\tk\n2\tb.jpg\tHat&lt;br /&gt;\th\n", TWO),
        "in a feed": Case("<rss><item><id>1</id><image>a.jpg</image><title><![CDATA[<ul><li>Tie</li></ul>]]></title><kind>k</kind></item>"
                          "<item><id>2</id><image>b.jpg</image><title>&lt;b&gt;Hat&lt;/b&gt;&amp;nbsp;</title><kind>h</kind></item></rss>",
                          TWO, name="t.xml", note="2 cells had HTML"),
    },
    "xlsx": {
        "on the second sheet, numbers as ids": Case(lambda: workbook(["kind", "title", "image", "id"], ["k", "Tie", "a.jpg", 1],
                                                                     ["h", "Hat", "b.jpg", 2.0], first="Notes"), TWO, name="t.xlsx"),
        "called .csv, an empty column before": Case(lambda: workbook([None, "id", "image", "title", "kind"], [None, 1, "a.jpg", "Tie", "k"],
                                                                     [], [None, 2, "b.jpg", "Hat", "h"]), TWO),
    },
    "parquet": {
        "categories and large strings": Case(parquet(categories()), TWO, name="products"),
        "Feather, compressed": Case(feathered(categories()), TWO, name="t.feather"),
    },
    "csv_gz": {
        "two parts, semicolons": Case(twice(PLAIN.replace(",", ";")), TWO, name="t.csv.gz"),
        "called .csv, UTF-16": Case(gzip.compress(PLAIN.replace(",", "\t").encode("utf-16")), TWO),
    },
    "cp1252": {
        "cp1250": Case("id;image;title;kind\n1;a.jpg;\u017b\u00f3\u0142ty;k\n".encode("cp1250"),
                       {"1": ("\u017b\u00f3\u0142ty", "a.jpg", "k")}, options={"encoding": "cp1250"}),
        "Shift JIS, compressed": Case(gzip.compress("id,image,title,kind\n1,a.jpg,\u8d64\u3044\u670d,k\n".encode("shift_jis")),
                                      {"1": ("\u8d64\u3044\u670d", "a.jpg", "k")}, options={"encoding": "shift_jis"}),
        "not said, tabs": Case("id\timage\ttitle\tkind\n1\ta.jpg\tStr\u00fcmpfe\tk\n".encode("cp1252"),
                               error=r"line 2: .*set source.encoding=cp1252 .*'\u00fc' there, in 'Str\u00fcmpfe'"),
    },
}


@pytest.mark.parametrize("kind, sibling", [(kind, sibling) for kind, cases in SIBLINGS.items() for sibling in cases])
def test_a_sibling_is_read_as_it_was_written(tmp_path, kind, sibling):
    case = SIBLINGS[kind][sibling]
    data = case.data() if callable(case.data) else case.data
    if case.error:
        with pytest.raises(UserError, match=case.error):
            survey(tmp_path, data, case.name, case.columns, case.files, **case.options)
        return
    result = survey(tmp_path, data, case.name, case.columns, case.files, **case.options)
    found = {p.image_id: (p.text, str(Path(p.image_path).relative_to(tmp_path)), p.group if case.with_groups else
                          list(p.labels.values())[-1] if p.labels else "") for p in result.products}
    assert found == case.products and not result.absent, result.absent
    skipped = {row["where"]: row["reason"] for row in result.skipped}
    assert skipped.keys() == case.skipped.keys() and all(skipped[where].startswith(words) for where, words in case.skipped.items()), skipped
    assert any(line.startswith(case.note) for line in result.notes()) or not case.note
    if case.with_groups:
        splits = {p.group: p.split for p in result.products}
        assert all(splits[p.group] == p.split for p in result.products)


def test_every_kind_has_two_siblings():
    assert all(len(cases) >= 2 for cases in SIBLINGS.values())
