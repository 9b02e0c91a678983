"""Layouts of tables as shops export them: presets, categories, parents and variants, and a folder in place of a table."""

import json

import pyarrow as pa
import pytest

from kaleidobert.configs import Columns
from kaleidobert.datasets.sources import presets, reading
from kaleidobert.datasets.sources.table import TableSource
from kaleidobert.errors import UserError
from tests.support.catalogues import COLUMNS, FILES, ROWS, is_whole, parquet, survey, text

# --- layouts ----------------------------------------------------------------------------------------------------------



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


# --- categories that are paths ----------------------------------------------------------------------------------------



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


# --- parents and variants ---------------------------------------------------------------------------------------------



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


# --- a folder in place of a table -------------------------------------------------------------------------------------



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
