"""What a page of ``kaleidobert inspect`` says about one spoiled example: made by examples.py, drawn by pages.py (HTML)
and pages_png.py.

Patches and places are counted from 1, as people count; labels from 0, as the model does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image


@dataclass(frozen=True)
class Shown:
    """A picture and the line below it."""

    caption: str
    image: Image.Image


@dataclass(frozen=True)
class Guess:
    """An answer of the model; rank 1 = its first choice."""

    rank: int
    name: str
    probability: float
    true: bool


@dataclass(frozen=True)
class Measure:
    """The KL divergence of one masked patch: of the model's answer and of the best answer without looking."""

    name: str
    predicted: float
    constant: float


@dataclass(frozen=True)
class Card:
    """One question to the model, the true answer, and what it said; a level of which nothing is asked has no answer. name: the
    task's."""

    name: str
    title: str
    question: str
    answer: str
    shown: tuple[Shown, ...] = ()
    guesses: tuple[Guess, ...] = ()
    measures: tuple[Measure, ...] = ()

    @property
    def right(self) -> bool | None:
        """Was the first guess right, or the KL below that without looking; None where there is no model."""
        if self.measures:
            return sum(m.predicted for m in self.measures) < sum(m.constant for m in self.measures)
        return self.guesses[0].true if self.guesses else None


@dataclass(frozen=True)
class Token:
    """A word piece as the model reads it; kind: "special", "plain", or what happened to it: "masked", "replaced", "kept"."""

    text: str
    kind: str
    place: int
    truth: str = ""
    guesses: tuple[Guess, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What a masking policy would hide of a picture and its own text."""

    title: str
    note: str
    tokens: tuple[Token, ...]
    shown: tuple[Shown, ...]


@dataclass(frozen=True)
class Aligned:
    """What the bank's alignment says of a picture. caption: what the captioner wrote; maps: where it looked, word by word;
    links: the words and their patches, level by level; plans: Alignment Guided Masking beside random masking."""

    caption: str
    note: str
    maps: tuple[Shown, ...]
    links: tuple[Shown, ...]
    plans: tuple[Plan, ...]


@dataclass(frozen=True)
class Corpus:
    """The alignment of a whole bank: statistics as evaluators.alignment makes them, and the same as a picture."""

    statistics: Mapping[str, Any]
    shown: Shown


@dataclass(frozen=True)
class Page:
    """Everything about one picture. name: of its files, without ending."""

    image_id: str
    name: str
    text: str
    facts: tuple[tuple[str, str], ...]
    note: str
    shown: tuple[Shown, ...]
    tokens: tuple[Token, ...]
    negative: str  # the text that the example got instead of its own; "" = its own
    match: Card
    levels: tuple[Card, ...]
    aligned: Aligned | None = None

    @property
    def asked_levels(self) -> tuple[Card, ...]:
        """The cards of the levels of which something is asked."""
        return tuple(card for card in self.levels if card.answer)

    @property
    def asked(self) -> tuple[Token, ...]:
        """The tokens that are to be predicted."""
        return tuple(token for token in self.tokens if token.kind in ("masked", "replaced", "kept"))
