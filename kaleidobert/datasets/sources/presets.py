"""Layouts of tables that shops and data sets export: ``source.preset`` names one, and a header that has its signs is recognised.

A row of PRESETS is all that a layout needs. Names of columns are compared without case, and with blanks and underscores as one; of
several names in a tuple the first that the header has is taken, and what the header has not is left out.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

from kaleidobert.configs import Columns

Name = str | tuple[str, ...]
TEMPLATE = re.compile(r"\{([^{}]+)\}")  # of a picture's name: images/{id}.jpg
FOLDERS, NO_PRESET = "folders", "none"
OWN_SOURCES = {"fashion-gen": "fashion_gen"}  # layouts that are no tables, and their source.kind


class Preset(NamedTuple):
    """title: what the layout is, for people; signs: columns by which it is recognised, all of them; columns: {key of Columns: names};
    substitute: what stands for an empty id, made of other columns; patterns: {label: what of its cell it is, as source.label_patterns};
    is_carried: whether a row without id and text goes on with the product above."""

    title: str
    signs: tuple[Name, ...]
    columns: Mapping[str, Name | list[Name] | dict[str, Name]]
    substitute: str = ""
    patterns: Mapping[str, str] = {}
    is_carried: bool = False


NAME, PATH = r"(?:\\.|[^,>\\])", r"(?:\\.|[^,\\])"  # characters of a category, and of a path A > B, in which commas are \\,
PRESETS = {
    "shopify": Preset("a Shopify product export", (("Handle", "URL handle"), ("Image Src", "Product image URL")), {
        "id": ("Handle", "URL handle"), "image": ("Image Src", "Product image URL"), "view": [("Image Position",)],
        "text": ["Title", ("Body (HTML)", "Body HTML", "Description")],
        "labels": {"category": ("Product Category", "Type"), "subcategory": ("Type", "Product Type")}}),
    "woocommerce": Preset("a WooCommerce product export", ("SKU", "Name", "Images", "Categories"), {
        "id": ("SKU", "ID"), "image": "Images", "group": "Parent", "text": ["Name", "Short description", "Description"],
        "labels": {"category": "Categories", "subcategory": "Categories"}},
        substitute="id:{ID}",  # so Parent names what has no SKU
        patterns={"category": rf"^(?:{NAME}*,)* ?({NAME}+?) ?>|^({PATH}+)",  # of the first path with a level below, such as A > B, or path
                  "subcategory": rf"^(?:{NAME}*,)* ?({NAME}+>{PATH}+)|^({PATH}+)"}),
    "google-merchant": Preset("a Google Merchant feed", ("id", "title", "image_link"), {
        "id": "id", "image": "image_link", "more_images": ["additional_image_link"], "group": "item_group_id",
        "text": ["title", "description"], "labels": {"category": "google_product_category", "subcategory": "product_type"}}),
    "magento": Preset("a Magento product export", ("sku", "name", ("base_image", "_media_image"), ("categories", "_category")), {
        "id": "sku", "image": ("base_image", "image", "_media_image"), "more_images": [("additional_images", "_media_image")],
        "group": ("parent_sku", "configurable_sku"),
        "variants": [("configurable_variations",), ("_super_products_sku",), ("additional_attributes",)],
        "text": ["name", ("description", "short_description")],
        "labels": {"category": ("attribute_set_code", "_attribute_set"), "subcategory": ("categories", "_category")}},
        patterns={"subcategory": "([^,]+)$"},  # those above stand before it
        is_carried=True),
    "kaggle-fashion": Preset("styles.csv of Kaggle's fashion products", ("id", "articleType", "productDisplayName"), {
        "id": "id", "image": "images/{id}.jpg", "text": ["productDisplayName"],
        "labels": {"category": "masterCategory", "subcategory": "articleType"}}),
    "imagefolder": Preset("the metadata of a Hugging Face ImageFolder", ("file_name",), {
        "id": "file_name", "image": "file_name", "text": [("text", "caption", "description", "title")],
        "labels": {"category": ("category", "label"), "subcategory": ("subcategory", "label")}}),
    FOLDERS: Preset("a folder per class", (), {
        "id": "id", "image": "image", "text": ["text"], "split": "split", "labels": {"category": "class", "subcategory": "class"}}),
}


def recognise(header: Sequence[str]) -> str:
    """Returns the name of the first preset all of whose signs a header has; "" where it is none.

    >>> recognise(["Handle", "Title", "Image Src"])
    'shopify'
    """
    return next((name for name, preset in PRESETS.items() if preset.signs and all(_first(sign, header) for sign in preset.signs)), "")


def columns_of(preset: str, header: Sequence[str]) -> Columns:
    """Returns the columns of a preset that a header has.

    >>> columns_of("kaggle-fashion", ["id", "articleType", "productDisplayName"])
    Columns(id='id', image='images/{id}.jpg', text=('productDisplayName',), group='', view=(), split='', \
labels={'subcategory': 'articleType'}, mask='', parts='', more_images=(), variants=())
    """
    values: dict[str, Any] = {"id": "", "image": "", "text": ()}
    for key, names in PRESETS[preset].columns.items():
        if isinstance(names, dict):
            values[key] = {label: name for label, each in names.items() if (name := _first(each, header))}
        elif isinstance(names, list):
            values[key] = tuple(dict.fromkeys(name for each in names if (name := _first(each, header))))
        else:
            values[key] = _first(names, header)
    return Columns(**values)


def substitute_of(preset: str, header: Sequence[str]) -> str:
    """Returns the template of what stands for an empty id in a layout, by the names of a header; "" where there is none."""
    return _first(PRESETS[preset].substitute, header) if preset in PRESETS else ""


def filled(template: str, row: Mapping[str, Any]) -> str:
    """Returns a template with the cells of a row, "" where one of them is empty.

    >>> filled("images/{id}.jpg", {"id": 7}), filled("images/{id}.jpg", {"id": None})
    ('images/7.jpg', '')
    """
    cells = {name: row.get(name) for name in TEMPLATE.findall(template)}
    return "" if any(cell in (None, "") for cell in cells.values()) else TEMPLATE.sub(lambda match: str(cells[match[1]]), template)


def completed(columns: Columns, other: Columns) -> Columns:
    """Returns columns with those of ``other`` where they name none."""
    return replace(columns, **{field.name: getattr(other, field.name) for field in fields(Columns) if not getattr(columns, field.name)})


def _first(name: Name, header: Sequence[str]) -> str:
    """Returns the column of a header that has one of some names, or a template all of whose columns the header has."""
    known = {_normal(column): column for column in reversed(header)}
    for each in _several(name):
        if TEMPLATE.search(each) and all(_normal(part) in known for part in TEMPLATE.findall(each)):
            return TEMPLATE.sub(lambda match: "{" + known[_normal(match[1])] + "}", each)
        if _normal(each) in known:
            return known[_normal(each)]
    return ""


def _several(name: Name) -> Iterable[str]:
    return (name,) if isinstance(name, str) else name


def _normal(column: str) -> str:
    return " ".join(column.replace("_", " ").casefold().removeprefix("g:").split())  # g: of feeds
