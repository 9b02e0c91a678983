"""Which column of an unknown table holds what."""

import doctest

import pytest

from kaleidobert.datasets.sources import guessing

COLOURS = ("red", "blue", "green")


def rows(**columns) -> list[dict]:
    """48 rows; a column is a function of the row's number."""
    return [{name: make(number) for name, make in columns.items()} for number in range(48)]


TABLES = {  # rows, {key: column}
    "german": (rows(Artikelnummer=lambda n: f"A{n}", Bezeichnung=lambda n: f"rotes Kleid {n}", Preis=lambda n: f"{n},99 €",
                    Warengruppe=lambda n: ("Kleider", "Hosen")[n % 2], Bilddatei=lambda n: f"{n}.jpg",
                    Lagernd=lambda n: ("ja", "nein")[n % 2]),
               dict(id="Artikelnummer", image="Bilddatei", text=("Bezeichnung",), labels={"Warengruppe": "Warengruppe"})),
    "addresses": (rows(asin=lambda n: f"B{n}", title=lambda n: f"red dress {n}", price=lambda n: n / 3, brand=lambda n: COLOURS[n % 3],
                       imUrl=lambda n: f"https://shop.example/p?id={n}", url=lambda n: f"https://shop.example/{n}"),
                  dict(id="asin", image="imUrl", text=("title",), labels={"brand": "brand"})),
    "no ids": (rows(caption=lambda n: f"a photo of a thing {n}", file=lambda n: f"x/{n}.png"),
               dict(id="file", image="file", text=("caption",), labels={})),
    "unnamed": (rows(a=lambda n: f"k{n}", b=lambda n: f"pictures/{n}.webp", c=lambda n: f"some words about product {n}",
                     d=lambda n: COLOURS[n % 3]), dict(id="a", image="b", text=("c",), labels={"d": "d"})),
    "two texts and groups": (rows(sku=lambda n: f"s{n}", parent=lambda n: f"g{n // 3}", image=lambda n: f"{n}.jpg",
                                  description=lambda n: f"long words about {n} that go on", title=lambda n: f"dress {n}",
                                  split=lambda n: ("train", "val")[n % 5 == 0]),
                             dict(id="sku", group="parent", image="image", text=("title", "description"), split="split", labels={})),
    "views by colour": (rows(sku=lambda n: f"s{n // 3}", image=lambda n: f"{n}.jpg", title=lambda n: f"dress {n // 3}",
                             colour=lambda n: COLOURS[n % 3], season=lambda n: ("summer", "winter")[n // 24], view=lambda n: "main"),
                        dict(id="sku", image="image", text=("title",), view=("view", "colour"),
                             labels={"colour": "colour", "season": "season"})),
    "sizes of one picture": (rows(sku=lambda n: f"s{n // 3}", image=lambda n: f"{n // 3}.jpg", title=lambda n: f"dress {n // 3}",
                                  size=lambda n: "SML"[n % 3]), dict(id="sku", image="image", view=(), labels={"size": "size"})),
    "mostly empty texts": (rows(id=lambda n: n, image=lambda n: f"{n}.jpg", title=lambda n: f"dress {n}",
                                description=lambda n: f"words about {n}" if n % 10 == 0 else None),
                           dict(id="id", image="image", text=("title", "description"), labels={})),
}


@pytest.mark.parametrize("name", TABLES)
def test_columns_are_found(name):
    table, expected = TABLES[name]
    result = guessing.guess(list(table[0]), table)
    assert {key: getattr(result.columns, key) for key in expected} == expected and not result.lacks
    assert set(result.reasons) >= {"id", "image", "text"} and all(result.reasons.values())


def test_docstrings():
    assert doctest.testmod(guessing).attempted and not doctest.testmod(guessing).failed


def test_numbers_flags_and_too_many_or_too_few_classes_are_no_labels():
    table = rows(id=lambda n: n, image=lambda n: f"{n}.jpg", title=lambda n: f"dress {n}", weight=lambda n: f"{n % 3} kg",
                 stock=lambda n: n % 4, new=lambda n: ("yes", "no")[n % 2], one=lambda n: "x", many=lambda n: f"m{n // 2}",
                 long=lambda n: "material=Wool;pattern=Solid;climate=" + "abc"[n % 3] * 20, rare=lambda n: "a b"[n % 2] if n < 10 else "")
    assert guessing.guess(list(table[0]), table).columns.labels == {}


def test_a_template_stands_for_the_picture():
    table = rows(id=lambda n: n, title=lambda n: f"dress {n}")
    assert guessing.guess(list(table[0]), table).lacks == ("image",)
    result = guessing.guess(list(table[0]), table, "images/{id}.jpg")
    assert result.columns.image == "images/{id}.jpg" and result.columns.id == "id" and not result.lacks


def test_an_empty_table_lacks_all():
    assert guessing.guess(["a", "b"], []).lacks == ("id", "image", "text") and guessing.guess([], []).lacks
