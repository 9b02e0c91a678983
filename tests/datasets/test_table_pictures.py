"""The pictures that tables name: several of a product, and files that are named otherwise."""

import json

import pytest

from kaleidobert.configs import Columns
from kaleidobert.datasets.sources import reading
from kaleidobert.datasets.sources.table import TableSource
from kaleidobert.errors import UserError
from tests.support.catalogues import parquet, survey, text


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


def test_a_name_may_begin_with_the_folder_itself(tmp_path):
    table = "id,image,title,kind\n1,Images/a.jpg,Tie,k\n2,images/x/b.png,Hat,k\n3,other/a.jpg,Cap,k\n"
    result = survey(tmp_path, table, files=["images/a.jpg", "images/x/b.jpg"], images=tmp_path / "images")
    assert [row["image_id"] for row in result.absent] == ["3"] and sum(result.spelled.values()) == 2
    assert [product.image_path for product in result.products[:2]] == [str(tmp_path / "images/a.jpg"), str(tmp_path / "images/x/b.jpg")]


def test_addresses_of_two_folders_are_not_one_file(tmp_path):
    table = "id,image,title,kind\n1,https://x.example/1/front.jpg,Tie,k\n2,https://x.example/2/front.jpg?v=1,Hat,k\n"
    result = survey(tmp_path, table, files=["front.jpg"])
    assert not result.absent and not result.ambiguous and list(result.addresses) == ["https://x.example/2/front.jpg?v=1"]


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
    table = "id,image,title,kind\n1,A.jpg,Tie,k\n2,no.jpg,Tie,k\n3,ftp://x.example/a.jpg,Tie,k\n"
    result = survey(tmp_path, table, files=["x/a.jpg", "y/a.jpg"])
    assert [row["reason"].partition(";")[0] for row in result.absent] == [
        "the name of the picture fits 2 files", "there is no such picture",
        "the picture is an address that cannot be fetched (https://host/path and s3://bucket/path can)"]
    assert any("'A.jpg' may be 'x/a.jpg' or 'y/a.jpg'" in line for line in result.notes()) and len(result.products) == 3


def test_one_file_is_not_the_picture_of_two_names(tmp_path):
    table = "id,image,title,kind\n1,C:\\p1\\front.jpg,Tie,k\n2,C:\\p2\\front.jpg,Hat,k\n3,C:\\p1\\front.jpg,Tie,k\n"
    result = survey(tmp_path, table, files=["x/front.jpg"])
    assert [row["image_id"] for row in result.absent] == ["2"] and "may both be 'x/front.jpg'" in " ".join(result.notes())
