"""Sheets of pictures and texts as PNG files, drawn with Pillow: queries of retrieval with their candidates, pictures with their captions.

The font is DejaVu Sans, which comes with matplotlib: scripts that it lacks, such as Chinese, show as boxes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kaleidobert import io
from kaleidobert.errors import UserError
from kaleidobert.evaluators.retrieval import rank_statistics

SHOWN = 5  # first candidates of a query
WIDTH, EDGE, GAP, PAD = 1500, 36, 14, 16  # pixels: the sheet, its margin, between cards, within cards
QUERY, CARD, TALL = 250, 172, 172  # width of a query, width and height of a candidate
CAPTIONED, CAPTIONS = 200, 460  # pixels of a captions sheet: longer side of a picture, width of its texts
MAX_LETTERS = 230  # of a text on a captions sheet
INK, GREY, PAPER, LINE, RIGHT, SOFT = "#1D2530", "#5F6B7A", "#ECEFF3", "#D5DAE1", "#00795A", "#F6F8FA"
BODY, SMALL, HEAD = 16, 14, 24
LEADING = 1.35  # of a line, in sizes of its letters

Shown = np.ndarray | str  # a picture, uint8[h, w, 3], or a text


@dataclass(frozen=True)
class Candidate:
    """rank: 1 = highest score; shown: picture or text."""

    shown: Shown
    score: float
    right: bool
    rank: int


@dataclass(frozen=True)
class Query:
    """rank: of the best right candidate, ties by expectation; length: of the list; candidates: in the order of their ranks."""

    shown: Shown
    rank: float
    length: int
    candidates: Sequence[Candidate]


def choose(scores: Sequence[Sequence[float]], relevant: Sequence[Sequence[int]], count: int) -> tuple[list[int], list[int]]:
    """Returns (the best queries, the worst ones, the very worst first), at most ``count`` each and no query twice.

    Queries are ordered by the rank of the best right candidate, then by how far its score lies from that of the best wrong one. Queries
    without a right or without a wrong candidate are skipped.

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
    """Returns the rank of the best right candidate in one list, ties by expectation."""
    return float(rank_statistics(np.array([scores], np.float64), np.array([right], bool)).ranks()[0])


def candidates(scores: Sequence[float], right: Sequence[int], show: Callable[[int], Shown]) -> list[Candidate]:
    """Returns the first five of a list, and the best right one where it is not among them. show: number in the list -> picture or text."""
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    ranks = list(range(min(SHOWN, len(order))))
    first = next((rank for rank, number in enumerate(order) if right[number]), None)
    if first is not None and first not in ranks:
        ranks.append(first)
    return [Candidate(show(int(order[rank])), float(scores[order[rank]]), bool(right[order[rank]]), rank + 1) for rank in ranks]


def queries(title: str, lead: str, best: Sequence[Query], worst: Sequence[Query], path: str | Path) -> None:
    """Writes a sheet with a row per query. Raises UserError where there is no query."""
    if not best and not worst:
        raise UserError("there is no query to draw", str(path), "at least one with a right and a wrong candidate")
    blocks: list[Image.Image] = [_lines([(title, HEAD, True, INK), (lead, BODY, False, GREY)], WIDTH - 2 * EDGE, PAPER)]
    for name, rows in (("Best queries", best), ("Worst queries", worst)):
        blocks += [_lines([(name, HEAD - 4, True, INK)], WIDTH - 2 * EDGE, PAPER)] if rows else []
        blocks += [_row(query) for query in rows]
    _save(_stack(blocks, WIDTH - 2 * EDGE, GAP, PAPER), path)


def captions(entries: Sequence[tuple[np.ndarray, str, Mapping[str, str]]], path: str | Path) -> None:
    """Writes a sheet of pictures, two in a row. entries: (picture uint8[h, w, 3], its name, {label: text}); the first text is the model's.

    Raises UserError where there is no entry.
    """
    if not entries:
        raise UserError("there is no picture to draw", str(path), "at least one")
    cards = [_captioned(*entry) for entry in entries]
    width = cards[0].width
    rows = []
    for pair in (cards[first : first + 2] for first in range(0, len(cards), 2)):
        row = Image.new("RGB", (2 * width + 2 * GAP, max(card.height for card in pair)), PAPER)
        for number, card in enumerate(pair):
            row.paste(card, (number * (width + 2 * GAP), 0))
        rows.append(row)
    _save(_stack(rows, rows[0].width, 2 * GAP, PAPER), path)


def _captioned(pixels: np.ndarray, name: str, texts: Mapping[str, str]) -> Image.Image:
    """Draws a picture with its texts on the right."""
    lines = [(name, SMALL - 1, False, GREY)]
    for number, (label, text) in enumerate(texts.items()):
        short = text if len(text) <= MAX_LETTERS else f"{text[: MAX_LETTERS - 1]}…"
        lines += [(label, SMALL - 2, False, GREY), (short, BODY, number == 0, RIGHT if number == 0 else INK)]
    picture, words = _fitted(pixels, CAPTIONED, CAPTIONED, PAPER), _lines(lines, CAPTIONS, PAPER)
    card = Image.new("RGB", (CAPTIONED + 2 * GAP + CAPTIONS, max(picture.height, words.height)), PAPER)
    card.paste(picture, (0, 0))
    card.paste(words, (CAPTIONED + 2 * GAP, 0))
    return card


def _save(content: Image.Image, path: str | Path) -> None:
    """Writes a picture with a margin around it."""
    picture = Image.new("RGB", (content.width + 2 * EDGE, content.height + 2 * EDGE), PAPER)
    picture.paste(content, (EDGE, EDGE))
    with io.atomic(path) as file:
        picture.save(file, "PNG")


def _row(query: Query) -> Image.Image:
    """Draws a white card: the query and its rank, then the candidates."""
    left = _query(query)
    cards = [_candidate(candidate) for candidate in query.candidates]
    height = max([left.height, *(card.height for card in cards)]) + 2 * PAD
    row = Image.new("RGB", (WIDTH - 2 * EDGE, height), PAPER)
    brush = ImageDraw.Draw(row)
    brush.rounded_rectangle((0, 0, row.width - 1, height - 1), 12, fill="white", outline=LINE)
    row.paste(left, (PAD, PAD))
    x = PAD + QUERY + 2 * GAP
    brush.line((x - GAP, PAD, x - GAP, height - PAD), fill=LINE)
    for candidate, card in zip(query.candidates, cards):
        if candidate.rank > SHOWN:  # set apart: the ranks between are not shown
            end, x = x - GAP, row.width - PAD - CARD
            brush.text(((end + x) / 2, PAD + TALL / 2), "…", font=font(HEAD, True), fill=GREY, anchor="mm")
        row.paste(card, (x, PAD))
        x += CARD + GAP
    return row


def _query(query: Query) -> Image.Image:
    """Draws the picture or text of the query, and the rank below."""
    number = f"{query.rank:g}" if query.rank == round(query.rank) else f"{query.rank:.1f}"
    colour = RIGHT if query.rank == 1 else INK
    below = _lines([(f"rank {number} of {query.length}", BODY, True, colour)], QUERY, "white")
    if isinstance(query.shown, str):
        above = _lines([(query.shown, BODY, False, INK)], QUERY, "white", max_lines=8)
    else:
        above = _fitted(query.shown, QUERY, TALL)
    return _stack([above, below], QUERY, 6)


def _candidate(candidate: Candidate) -> Image.Image:
    """Draws a picture or a text in a frame, green where right; rank and score below."""
    box = Image.new("RGB", (CARD, TALL), "white")
    if isinstance(candidate.shown, str):
        brush = ImageDraw.Draw(box)
        brush.rectangle((0, 0, CARD - 1, TALL - 1), fill=SOFT)
        text = _lines([(candidate.shown, SMALL, False, INK)], CARD - 20, SOFT, max_lines=8)
        box.paste(text, (10, 10))
    else:
        box.paste(_fitted(candidate.shown, CARD - 12, TALL - 12), (6, 6))
    ImageDraw.Draw(box).rectangle((0, 0, CARD - 1, TALL - 1), outline=RIGHT if candidate.right else LINE, width=4 if candidate.right else 1)
    words = f"{candidate.rank}.  {candidate.score:.2f}"
    caption = (f"{words}  ✓ right", SMALL, True, RIGHT) if candidate.right else (words, SMALL, False, GREY)
    return _stack([box, _lines([caption], CARD, "white")], CARD, 5)


def _fitted(image: np.ndarray, width: int, height: int, ground: str = "white") -> Image.Image:
    """Draws the whole picture in the middle of a box."""
    box = Image.new("RGB", (width, height), ground)
    picture = Image.fromarray(image)
    scale = min(width / picture.width, height / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    box.paste(picture, ((width - picture.width) // 2, (height - picture.height) // 2))
    return box


def _stack(blocks: Sequence[Image.Image], width: int, gap: int, ground: str = "white") -> Image.Image:
    picture = Image.new("RGB", (width, sum(block.height for block in blocks) + gap * (len(blocks) - 1)), ground)
    y = 0
    for block in blocks:
        picture.paste(block, (0, y))
        y += block.height + gap
    return picture


def _lines(paragraphs: Sequence[tuple[str, int, bool, str]], width: int, ground: str, max_lines: int = 40) -> Image.Image:
    """Draws paragraphs (text, size, bold, colour), wrapped, each of at most ``max_lines`` lines."""
    placed, y = [], 0
    for text, size, bold, colour in paragraphs:
        for line in wrap(text, font(size, bold), width, max_lines):
            placed.append((y, line, font(size, bold), colour))
            y += round(LEADING * size)
    picture = Image.new("RGB", (width, max(1, y)), ground)
    brush = ImageDraw.Draw(picture)
    for top, line, letters, colour in placed:
        brush.text((0, top), line, font=letters, fill=colour)
    return picture


def wrap(text: str, letters: ImageFont.FreeTypeFont, width: float, max_lines: int) -> list[str]:
    """Returns at most ``max_lines`` lines no wider than ``width`` pixels; it cuts longer words and marks omitted text by an ellipsis."""
    lines: list[str] = []
    rest = " ".join(text.split())
    while rest and len(lines) < max_lines:
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
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Returns DejaVu Sans, which comes with matplotlib: the same letters on every machine."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf" / f"DejaVuSans{'-Bold' if bold else ''}.ttf", size)
