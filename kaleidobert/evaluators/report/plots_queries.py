"""Best and worst queries of a retrieval run with their candidates, as one PNG drawn with Pillow.

The letters are DejaVu's, which come with matplotlib: scripts that it lacks, such as Chinese, show as boxes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kaleidobert import io
from kaleidobert.errors import UserError
from kaleidobert.evaluators.retrieval import standing

SHOWN = 5  # first candidates of a query
WIDTH, EDGE, GAP, PAD = 1500, 36, 14, 16  # pixels: the sheet, its margin, between cards, within cards
QUERY, CARD, TALL = 250, 172, 172  # width of a query, width and height of a candidate
INK, GREY, PAPER, LINE, RIGHT, SOFT = "#1D2530", "#5F6B7A", "#ECEFF3", "#D5DAE1", "#00795A", "#F6F8FA"
BODY, SMALL, HEAD = 16, 14, 24
LEADING = 1.35  # of a line, in sizes of its letters

Shown = np.ndarray | str  # a picture, uint8[h, w, 3], or a text


@dataclass(frozen=True)
class Candidate:
    """place: 1 = highest score; shown: picture or text."""

    shown: Shown
    score: float
    right: bool
    place: int


@dataclass(frozen=True)
class Query:
    """rank: of the best right candidate, ties by expectation; length: of the list; candidates: in the order of their places."""

    shown: Shown
    rank: float
    length: int
    candidates: Sequence[Candidate]


def choose(scores: Sequence[Sequence[float]], relevant: Sequence[Sequence[int]], count: int) -> tuple[list[int], list[int]]:
    """(the best queries, the worst ones, the very worst first), at most ``count`` each and no query twice.

    By the rank of the best right candidate, then by how far its score lies from that of the best wrong one. Queries without a right
    or without a wrong candidate are left out.

    >>> choose([[3, 1], [1, 2], [9, 0]], [[1, 0], [1, 0], [1, 0]], 1)
    ([2], [1])
    """
    order = []
    for number, (row, marks) in enumerate(zip(scores, relevant)):
        values, right = np.asarray(row, np.float64), np.asarray(marks, bool)
        if right.any() and not right.all():
            order.append((rank(values, right), values[~right].max() - values[right].max(), number))
    order.sort()
    best = [number for _, _, number in order[: min(count, (len(order) + 1) // 2)]]
    return best, [number for _, _, number in order[::-1] if number not in best][:count]


def rank(scores: Sequence[float] | np.ndarray, right: Sequence[int] | np.ndarray) -> float:
    """Of the best right candidate in one list, ties by expectation."""
    return float(standing(np.array([scores], np.float64), np.array([right], bool)).ranks()[0])


def candidates(scores: Sequence[float], right: Sequence[int], show: Callable[[int], Shown]) -> list[Candidate]:
    """The first five of a list, and the best right one where it is not among them. show: number in the list -> picture or text."""
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    places = list(range(min(SHOWN, len(order))))
    first = next((place for place, number in enumerate(order) if right[number]), None)
    if first is not None and first not in places:
        places.append(first)
    return [Candidate(show(int(order[place])), float(scores[order[place]]), bool(right[order[place]]), place + 1) for place in places]


def sheet(title: str, lead: str, best: Sequence[Query], worst: Sequence[Query], path: str | Path) -> None:
    """Write the sheet: a row per query. Raises UserError where there is no query."""
    if not best and not worst:
        raise UserError("there is no query to draw", str(path), "at least one with a right and a wrong candidate")
    parts: list[Image.Image] = [_lines([(title, HEAD, True, INK), (lead, BODY, False, GREY)], WIDTH - 2 * EDGE, PAPER)]
    for name, queries in (("Best queries", best), ("Worst queries", worst)):
        parts += [_lines([(name, HEAD - 4, True, INK)], WIDTH - 2 * EDGE, PAPER)] if queries else []
        parts += [_row(query) for query in queries]
    height = 2 * EDGE + sum(part.height + GAP for part in parts) - GAP
    picture, y = Image.new("RGB", (WIDTH, height), PAPER), EDGE
    for part in parts:
        picture.paste(part, (EDGE, y))
        y += part.height + GAP
    with io.atomic(path) as file:
        picture.save(file, "PNG")


def _row(query: Query) -> Image.Image:
    """A white card: the query and its rank, then the candidates."""
    asked = _query(query)
    cards = [_candidate(candidate) for candidate in query.candidates]
    height = max([asked.height, *(card.height for card in cards)]) + 2 * PAD
    row = Image.new("RGB", (WIDTH - 2 * EDGE, height), PAPER)
    brush = ImageDraw.Draw(row)
    brush.rounded_rectangle((0, 0, row.width - 1, height - 1), 12, fill="white", outline=LINE)
    row.paste(asked, (PAD, PAD))
    x = PAD + QUERY + 2 * GAP
    brush.line((x - GAP, PAD, x - GAP, height - PAD), fill=LINE)
    for candidate, card in zip(query.candidates, cards):
        if candidate.place > SHOWN:  # set apart: the places between are left out
            end, x = x - GAP, row.width - PAD - CARD
            brush.text(((end + x) / 2, PAD + TALL / 2), "…", font=_font(HEAD, True), fill=GREY, anchor="mm")
        row.paste(card, (x, PAD))
        x += CARD + GAP
    return row


def _query(query: Query) -> Image.Image:
    """The picture or text that asks, and the rank below."""
    number = f"{query.rank:g}" if query.rank == round(query.rank) else f"{query.rank:.1f}"
    colour = RIGHT if query.rank == 1 else INK
    below = _lines([(f"rank {number} of {query.length}", BODY, True, colour)], QUERY, "white")
    if isinstance(query.shown, str):
        above = _lines([(query.shown, BODY, False, INK)], QUERY, "white", most=8)
    else:
        above = _fitted(query.shown, QUERY, TALL)
    return _stack([above, below], QUERY, 6)


def _candidate(candidate: Candidate) -> Image.Image:
    """A picture or a text in a frame, green where right; place and score below."""
    box = Image.new("RGB", (CARD, TALL), "white")
    if isinstance(candidate.shown, str):
        brush = ImageDraw.Draw(box)
        brush.rectangle((0, 0, CARD - 1, TALL - 1), fill=SOFT)
        text = _lines([(candidate.shown, SMALL, False, INK)], CARD - 20, SOFT, most=8)
        box.paste(text, (10, 10))
    else:
        box.paste(_fitted(candidate.shown, CARD - 12, TALL - 12), (6, 6))
    ImageDraw.Draw(box).rectangle((0, 0, CARD - 1, TALL - 1), outline=RIGHT if candidate.right else LINE, width=4 if candidate.right else 1)
    words = f"{candidate.place}.  {candidate.score:.2f}"
    caption = (f"{words}  ✓ right", SMALL, True, RIGHT) if candidate.right else (words, SMALL, False, GREY)
    return _stack([box, _lines([caption], CARD, "white")], CARD, 5)


def _fitted(image: np.ndarray, width: int, height: int) -> Image.Image:
    """The whole picture in the middle of a white box."""
    box = Image.new("RGB", (width, height), "white")
    picture = Image.fromarray(image)
    scale = min(width / picture.width, height / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    box.paste(picture, ((width - picture.width) // 2, (height - picture.height) // 2))
    return box


def _stack(parts: Sequence[Image.Image], width: int, gap: int) -> Image.Image:
    picture = Image.new("RGB", (width, sum(part.height for part in parts) + gap * (len(parts) - 1)), "white")
    y = 0
    for part in parts:
        picture.paste(part, (0, y))
        y += part.height + gap
    return picture


def _lines(paragraphs: Sequence[tuple[str, int, bool, str]], width: int, ground: str, most: int = 40) -> Image.Image:
    """Paragraphs (text, size, bold, colour), wrapped, each of at most ``most`` lines."""
    placed, y = [], 0
    for text, size, bold, colour in paragraphs:
        for line in wrap(text, _font(size, bold), width, most):
            placed.append((y, line, _font(size, bold), colour))
            y += round(LEADING * size)
    picture = Image.new("RGB", (width, max(1, y)), ground)
    brush = ImageDraw.Draw(picture)
    for top, line, letters, colour in placed:
        brush.text((0, top), line, font=letters, fill=colour)
    return picture


def wrap(text: str, letters: ImageFont.FreeTypeFont, width: float, most: int) -> list[str]:
    """At most ``most`` lines no wider than ``width`` pixels; words wider than a line are cut, what is left out is marked by an ellipsis."""
    lines: list[str] = []
    rest = " ".join(text.split())
    while rest and len(lines) < most:
        size = len(rest)
        if letters.getlength(rest) > width:
            size = max(1, next((end for end in range(1, len(rest)) if letters.getlength(rest[: end + 1]) > width), 1))
            blank = rest.rfind(" ", 0, size + 1)
            size = blank if blank > 0 else size
        lines.append(rest[:size])
        rest = rest[size:].lstrip()
    if rest:
        last = lines[-1]
        while last and letters.getlength(last + "…") > width:
            last = last[:-1]
        lines[-1] = last.rstrip() + "…"
    return lines


@lru_cache
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf" / f"DejaVuSans{'-Bold' if bold else ''}.ttf", size)
