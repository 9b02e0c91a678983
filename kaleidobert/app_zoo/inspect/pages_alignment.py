"""The alignment on a page of ``kaleidobert inspect``, as HTML and as part of the page's picture."""

from collections.abc import Iterable
from functools import partial
from html import escape

from kaleidobert.app_zoo.inspect.content import Aligned, Corpus, Plan, Shown
from kaleidobert.app_zoo.inspect.pages import figure
from kaleidobert.app_zoo.inspect.pages_png import EDGE, PAD, SMALL, WIDTH, Sheet, heading, on_card
from kaleidobert.app_zoo.inspect.pictures import GREY

LEAD = ("A captioner that learned from the texts says what it sees; where it looked at each word of the product's own text links "
        "the word to patches (paper, section 3.2).")
MAPS = "Where the captioner looked, word by word: dark is much; outlined: the region that is linked."
LINKS = "Words and their patches on the levels whose patches are masked; the thicker the line, the stronger the link."
PLANS = ("What each way of masking hides of the picture and its own text, drawn once. Guided: of a word and its patches one side, "
         "never both while there is a choice.")


def html(aligned: Aligned) -> str:
    """The section of a page."""
    caption = f"<p>The captioner wrote: <b>{escape(aligned.caption)}</b></p>" if aligned.caption else ""
    maps = f'<p class="lead">{MAPS}</p><div class="grids">{_figures(aligned.maps)}</div>' if aligned.maps else ""
    return f"""<h2>Alignment</h2><p class="lead">{LEAD}</p>
<section class="card flow"><div class="words">{caption}<p>{escape(aligned.note)}</p>{maps}</div></section>
<section class="card flow"><div class="words"><p class="lead">{LINKS}</p><div class="grids">{_figures(aligned.links)}</div></div></section>
<h2>Guided and random masking</h2><p class="lead">{PLANS}</p>
{''.join(_plan(plan) for plan in aligned.plans)}"""


def corpus(content: Corpus) -> str:
    """The section of the index."""
    return f"""<h2>Alignment of the bank</h2><p class="lead">{LEAD}</p>
<section class="card"><div class="grids">{figure(content.shown, "whole")}</div></section>"""


def draw(sheet: Sheet, y: int, aligned: Aligned) -> int:
    """Draw the section from y on; returns the y below it."""
    y = heading(sheet, y, "Alignment", LEAD)
    y = on_card(sheet, y, lambda sheet, y: _words(sheet, y, aligned))
    y = on_card(sheet, y, lambda sheet, y: _rows(sheet, sheet.text((EDGE + PAD, y), LINKS, _right() - EDGE - PAD, SMALL, fill=GREY) + 6,
                                                 aligned.links))
    y = heading(sheet, y, "Guided and random masking", PLANS)
    for plan in aligned.plans:
        y = on_card(sheet, y, partial(_draw_plan, plan=plan))
    return y


def _figures(shown: Iterable[Shown]) -> str:
    return "".join(figure(item, "") for item in shown)


def _plan(plan: Plan) -> str:
    tokens = "".join(f'<span class="token {token.kind}">{escape(token.text)}</span>' for token in plan.tokens)
    return f"""<section class="card flow"><div class="words"><h3>{escape(plan.title)}</h3><div class="tokens">{tokens}</div>
<p>{escape(plan.note)}</p><div class="grids">{_figures(plan.shown)}</div></div></section>"""


def _right() -> int:
    return WIDTH - EDGE - PAD


def _words(sheet: Sheet, y: int, aligned: Aligned) -> int:
    left, width = EDGE + PAD, _right() - EDGE - PAD
    if aligned.caption:
        y = sheet.text((left, y), f"The captioner wrote: {aligned.caption}", width, bold=True)
    y = sheet.text((left, y), aligned.note, width) + 6
    if aligned.maps:
        y = _rows(sheet, sheet.text((left, y), MAPS, width, SMALL, fill=GREY) + 6, aligned.maps)
    return y


def _rows(sheet: Sheet, y: int, shown: Iterable[Shown]) -> int:
    """Pictures in rows that are as full as they can be."""
    row: list[Shown] = []
    x = EDGE + PAD
    for item in shown:
        if row and x + max(item.image.width, 120) > _right():
            _, y = sheet.pictures((EDGE + PAD, y), row)
            row, x, y = [], EDGE + PAD, y + 12
        row.append(item)
        x += max(item.image.width, 120) + PAD
    return sheet.pictures((EDGE + PAD, y), row)[1]


def _draw_plan(sheet: Sheet, y: int, plan: Plan) -> int:
    left = EDGE + PAD
    y = sheet.text((left, y), plan.title, _right() - left, bold=True) + 6
    at: tuple[float, float] = (left, y)
    for token in plan.tokens:
        at = sheet.chip(at, token.text, token.kind, _right())
    y = sheet.text((left, round(at[1]) + 44), plan.note, _right() - left) + 8
    return _rows(sheet, y, plan.shown)
