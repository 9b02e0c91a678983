"""Answers of the demo as plain values, without the web: a search, the page of a product, what the heads say of an uploaded picture."""

import io
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from kaleidobert.app_zoo.inspect import pages
from kaleidobert.app_zoo.inspect.inspect import Inspector
from kaleidobert.app_zoo.product_model import Pictures, ProductModel
from kaleidobert.app_zoo.search import searcher as searching
from kaleidobert.app_zoo.search.searcher import RERANK, Searcher
from kaleidobert.datasets.products import read_image
from kaleidobert.errors import UserError
from kaleidobert.model_zoo.kaleidobert import Captioner, Matcher, Pretrainer

THUMBNAIL = 320  # pixels of the longer side of the pictures of a search
KEPT = 1024  # of an uploaded picture, of which this copy alone stays, in memory
Filters = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Answer:
    """What the heads say of a picture, and of a text beside it. labels: {label: {class: probability}}; caption: "" without a captioner;
    match: the probability that text and picture belong together, None without a text or without a matcher; notes: how labels were read.
    """

    labels: Mapping[str, Mapping[str, float]]
    caption: str
    match: float | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProductView:
    """A product's picture as the model sees it. html: its page, as `kaleidobert inspect` writes it; answer: of the heads, to its picture
    and its own text; other: the text of another product, and other_match the probability that it belongs to this picture."""

    image_id: str
    text: str
    html: str
    answer: Answer
    other: str
    other_match: float | None


class Studio:
    """Answers what the page asks about the runs of one folder. Several threads may ask at once; in each part one of them computes.

    inspector: makes the pages of products; None where they cannot be made, and ``why``. Raises UserError where the parts are of different
    banks.
    """

    def __init__(self, model: ProductModel, searcher: Searcher, inspector: Inspector | None, why: str = ""):
        folders = {str(part.bank.folder.resolve()) for part in (model, searcher, inspector) if part is not None}
        if len(folders) > 1:
            raise UserError(f"runs, index and pages are of different banks: {', '.join(sorted(folders))}", "the demo", "one bank",
                            "name the runs and the index of one bank")
        self._model, self._searcher, self._inspector, self._why = model, searcher, inspector, why
        self._lock = threading.Lock()  # of the networks: an answer uses all cores
        self.bank = model.bank
        self._rows = {row["image_id"]: number for number, row in enumerate(self.bank.table)}
        self.choices = searcher.labels()

    def warm_up(self) -> None:
        """Asks everything once, because the first question builds and compiles a network."""
        row = self.bank.table[self._rows[self.any_product(0)]]
        if self._inspector is not None:
            self.product(row["image_id"])
        self.search(row["text"], None, {}, 1, RERANK)
        picture = read_image(row["image_path"])
        self.look_at(picture, row["text"])
        self.search("", picture, {}, 1, RERANK)

    def search(self, text: str, picture: np.ndarray | None, filters: Filters, top: int, rerank: int) -> searching.Answer:
        """Returns the products that fit words, a picture uint8[h, w, 3], or both. Raises UserError where there is neither."""
        if not text.strip() and picture is None:
            raise UserError("there is no query", "search", "words, a picture, or both")
        chosen = {name: list(values) for name, values in filters.items() if values}
        return self._searcher.answer(text.strip() or None, picture, top, chosen, rerank)

    def product(self, image_id: str) -> ProductView:
        """Returns a product's picture. Raises UserError for an id that the bank does not have, and for a picture that has gone."""
        row = self._row(image_id)
        if self._inspector is None:
            raise UserError(f"products are not shown: {self._why}")
        with self._lock:
            page = self._inspector.page(row)
            html = pages.page(page, self._inspector.settings)
        entry, other = self.bank.table[row], self.bank.table[self._another(row)]["text"]
        picture = self._model.of_bank(np.array([row]))
        return ProductView(entry["image_id"], entry["text"], html, self._answer(picture, entry["text"]), other, self._match(picture, other))

    def look_at(self, picture: np.ndarray, text: str) -> Answer:
        """Returns what the heads say of a picture uint8[h, w, 3], and of a text beside it, which may be empty."""
        return self._answer(self._model.read(picture), text.strip())

    def any_product(self, number: int) -> str:
        """Returns the id of a picture, another for each number."""
        ids = list(self._rows)
        return ids[number * 7919 % len(ids)]

    @lru_cache(512)  # noqa: B019  a studio lives as long as its process
    def thumbnail(self, path: str) -> Image.Image:
        """Returns a small copy of a catalogue's picture. Raises UserError where it has gone."""
        image = Image.fromarray(read_image(path))
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        return image

    def _row(self, image_id: str) -> int:
        name = image_id.strip()
        if name in self._rows:
            return self._rows[name]
        own = [row["image_id"] for row in self.bank.table if row["product_id"] == name]
        if not own:
            raise UserError(f"there is no product {name!r}", "this catalogue", f"an id such as {next(iter(self._rows))!r}")
        return self._rows[own[0]]

    def _another(self, row: int) -> int:
        """Returns the next row whose text is another."""
        count, text = len(self.bank.table), self.bank.table[row]["text"]
        others = (number % count for number in range(row + 1, row + count))
        return next((number for number in others if self.bank.table[number]["text"] != text), row)

    def _answer(self, picture: Pictures, text: str) -> Answer:
        runs, labels, notes = self._model.runs, {}, []
        for name in self._model.labels:
            modality = runs[f"label {name}"].config.modality
            if text or modality != "text":
                labels[name] = dict(self._model.classify(picture, text, label=name)[0][name])
            if modality != "image":
                learnt = "texts alone" if modality == "text" else "pictures and texts together"
                how = ", and the text is read for it" if text else ": it needs a text" if modality == "text" else ": a text makes it surer"
                notes.append(f"{name} was learnt from {learnt}{how}")
        caption = self._model.caption(picture)[0] if Captioner.kind in runs else ""
        return Answer(labels, caption, self._match(picture, text) if text else None, tuple(notes))

    def _match(self, picture: Pictures, text: str) -> float | None:
        return float(self._model.match(picture, text)[0]) if self._model.runs.keys() & {Matcher.kind, Pretrainer.kind} else None


def read_upload(path: str | Path, max_megabytes: float) -> Image.Image:
    """Returns an uploaded picture, upright, at most KEPT pixels on a side, and deletes its file.

    Of an animated picture the first frame counts. Raises one UserError for what is too large, empty, damaged or no picture.
    """
    file = Path(path)
    try:
        size = file.stat().st_size
        if size > max_megabytes * 1e6:
            raise UserError(f"the file has {size / 1e6:.1f} MB", file.name, f"at most {max_megabytes:g} MB", "scale the picture down")
        try:
            image = Image.fromarray(read_image(file))
        except UserError as error:
            what = error.what.replace(str(file), file.name)  # no path of this machine on a page
            raise UserError(what, file.name, error.expected or "a picture: JPEG, PNG, WebP, GIF, ...", error.fix) from None
    finally:
        file.unlink(missing_ok=True)
    image.thumbnail((KEPT, KEPT), Image.Resampling.LANCZOS)
    return image


def as_jpeg(image: Image.Image) -> bytes:
    """Returns a picture as the bytes of a JPEG file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()
