"""The pages of ``kaleidobert inspect``: what they say, as plain values, and their HTML, rendered by the templates beside this module.

A page is one file for screen, phone and paper: its pictures are inside as JPEG, nothing is fetched and no script runs. Jinja escapes
every value (autoescape). Patches and positions count from 1, as people count; labels count from 0, as the model does.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import jinja2
from PIL import Image

THUMBNAIL = 168  # pixels of the longer side; shown at half of it, for dense screens


@dataclass(frozen=True)
class Figure:
    """A picture and its caption."""

    caption: str
    image: Image.Image


@dataclass(frozen=True)
class Prediction:
    """A class that the model predicts; rank 1 is its first choice."""

    rank: int
    name: str
    probability: float
    correct: bool


@dataclass(frozen=True)
class Divergence:
    """The KL divergence from one masked patch's true feature: of the model's answer, and of the best constant answer."""

    name: str
    predicted: float
    constant: float

    @property
    def correct(self) -> bool:
        """Whether the model comes closer than the constant answer."""
        return self.predicted < self.constant


@dataclass(frozen=True)
class Card:
    """One task: the question to the model, the true answer and the predictions. name: of the task.

    A level without a pretext has no answer. predictions: of a task whose answer is a class; divergences: of one whose answer is a feature.
    """

    name: str
    title: str
    question: str
    answer: str
    figures: tuple[Figure, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    divergences: tuple[Divergence, ...] = ()

    @property
    def correct(self) -> bool | None:
        """Whether the first prediction is right, or the total KL is below that of the constant answer; None without a model."""
        if self.divergences:
            return sum(one.predicted for one in self.divergences) < sum(one.constant for one in self.divergences)
        return self.predictions[0].correct if self.predictions else None

    @property
    def verdict(self) -> str:
        """The result in words; "" without a model."""
        if self.correct is None:
            return ""
        if self.divergences:
            return "✓ closer than without looking" if self.correct else "✗ no closer than without looking"
        return "✓ right" if self.correct else "✗ wrong"


@dataclass(frozen=True)
class Token:
    """A word piece as the model reads it. state: "special", "plain", or for a piece to predict "masked", "replaced" or "kept"."""

    text: str
    state: str
    position: int
    truth: str = ""
    predictions: tuple[Prediction, ...] = ()

    @property
    def correct(self) -> bool | None:
        """Whether the first prediction is right; None without a model."""
        return self.predictions[0].correct if self.predictions else None


@dataclass(frozen=True)
class Plan:
    """What a masking policy hides of a picture and its own text."""

    title: str
    note: str
    tokens: tuple[Token, ...]
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Alignment:
    """What the bank's alignment says of a picture.

    caption: of the captioner, "" without one; maps: where each word is seen; links: the words and their patches, level by level; plans:
    Alignment Guided Masking beside random masking.
    """

    caption: str
    note: str
    maps: tuple[Figure, ...]
    links: tuple[Figure, ...]
    plans: tuple[Plan, ...]


@dataclass(frozen=True)
class Corpus:
    """The alignment of a whole bank: statistics as evaluators.alignment computes them, and a picture of them."""

    statistics: Mapping[str, Any]
    figure: Figure


@dataclass(frozen=True)
class Page:
    """Everything about one picture. name: of its file, without ending, "" of a page that stands alone; negative: the text of another
    product that the example got, "" where it kept its own."""

    image_id: str
    name: str
    text: str
    metadata: tuple[tuple[str, str], ...]
    note: str
    figures: tuple[Figure, ...]
    tokens: tuple[Token, ...]
    negative: str
    match: Card
    levels: tuple[Card, ...]
    alignment: Alignment | None = None

    @property
    def target_levels(self) -> tuple[Card, ...]:
        """The cards of the levels that have a target."""
        return tuple(card for card in self.levels if card.answer)

    @property
    def target_cards(self) -> tuple[Card, ...]:
        """The cards of matching and of the levels that have a target."""
        return (self.match, *self.target_levels)

    @property
    def target_tokens(self) -> tuple[Token, ...]:
        """The tokens that are to be predicted."""
        return tuple(token for token in self.tokens if token.state in ("masked", "replaced", "kept"))


def page(content: Page, settings: Sequence[tuple[str, str]]) -> str:
    """Returns the HTML of one page. settings: (name, value) of what it was made with."""
    return environment().get_template("page.html").render(title=content.image_id, page=content, settings=settings)


def index(pages: Sequence[Page], settings: Sequence[tuple[str, str]], corpus: Corpus | None = None) -> str:
    """Returns index.html: a table of all pages (see ``thumbnail``) with links to <name>.html, then the alignment of the bank."""
    title = "Inspected pictures"
    return environment().get_template("index.html").render(title=title, pages=pages, settings=settings, corpus=corpus)


def catalogue_check(name: str, numbers: Sequence[tuple[str, str]], own: Any, meanings: Mapping[str, str], sheet: Sequence[Figure]) -> str:
    """Returns the HTML of what was found in a catalogue.

    name: of the table; numbers: (what, value); own: a catalogue.examination.Examination; meanings: {severity: what it means}; sheet:
    pictures with the boxes of their products.
    """
    return environment().get_template("catalogue_check.html").render(title=name, numbers=numbers, own=own, meanings=meanings, sheet=sheet)


def thumbnail(content: Page) -> Page:
    """Returns the page with one small picture: all that the index needs, so that a thousand pages fit into memory."""
    image = content.figures[0].image.copy()
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return replace(content, figures=(Figure("", image),), alignment=None,
                   levels=tuple(replace(card, figures=()) for card in content.levels))


@cache
def environment(package: str = __package__) -> jinja2.Environment:
    """Returns what renders the templates of a package, which may use those of this one: its frame, style and macros."""
    loaders = [jinja2.PackageLoader(name) for name in dict.fromkeys([package, __package__])]
    made = jinja2.Environment(loader=jinja2.ChoiceLoader(loaders), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True)
    made.filters |= {"jpeg": _jpeg, "percent": _percent}
    return made


def _percent(fraction: float) -> str:
    """Returns a probability for people: 12.3%, 0.04%, <0.01%."""
    return f"{fraction:.1%}" if fraction >= 0.001 else f"{fraction:.2%}" if fraction >= 0.0001 else "<0.01%"


def _jpeg(image: Image.Image) -> str:
    """Returns the picture as a data address."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
