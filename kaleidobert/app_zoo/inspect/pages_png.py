"""A page of ``kaleidobert inspect`` as one picture, drawn with Pillow: the same content as the HTML page.

The letters are DejaVu's: scripts that it lacks, such as Chinese, show as boxes here and rightly in the HTML page.
"""

from collections.abc import Callable, Sequence
from functools import partial

from PIL import Image, ImageDraw, ImageFont

from kaleidobert.app_zoo.inspect import pages
from kaleidobert.app_zoo.inspect.content import Card, Guess, Page, Shown, Token
from kaleidobert.app_zoo.inspect.pictures import GREEN, GREY, LINE, ORANGE, font

WIDTH, EDGE, PAD = 1440, 40, 24  # pixels: the page, its margin, a card's margin
INK, PAPER, SOFT, BAR = "#1D2530", "#ECEFF3", "#F3F5F8", "#9AA7B8"
BODY, SMALL = 20, 16
CHIPS = {"plain": (SOFT, LINE, INK), "special": ("white", LINE, "#8A94A2"), "masked": (ORANGE, ORANGE, "white"),
         "replaced": ("#FDE5D4", ORANGE, INK), "kept": ("white", ORANGE, INK)}  # fill, outline, letters


class Sheet:
    """A picture that grows downwards; methods that draw return the y below what they drew."""

    def __init__(self, width: int):
        self.image = Image.new("RGB", (width, 2000), PAPER)
        self.brush = ImageDraw.Draw(self.image)

    def need(self, y: float) -> None:
        """Grow to at least ``y`` pixels."""
        if y >= self.image.height:
            taller = Image.new("RGB", (self.image.width, int(y) + 2000), PAPER)
            taller.paste(self.image)
            self.image, self.brush = taller, ImageDraw.Draw(taller)

    def text(self, at: tuple[float, float], text: str, width: float, size: int = BODY, bold: bool = False,
             fill: str = INK) -> int:
        """Wrapped text."""
        letters, (x, y) = font(size, bold), at
        for line in wrap(text, letters, width):
            self.need(y + 2 * size)
            self.brush.text((x, y), line, font=letters, fill=fill)
            y += round(1.4 * size)
        return int(y)

    def chip(self, at: tuple[float, float], text: str, kind: str, right: float, size: int = BODY) -> tuple[float, float]:
        """A token's chip, on the next line where it would pass ``right``; returns where it stands."""
        (x, y), letters, (fill, outline, ink) = at, font(size), CHIPS[kind]
        text = wrap(text, letters, right - EDGE - 2 * PAD)[0]
        width, height = self.brush.textlength(text, font=letters) + 0.9 * size, round(1.6 * size)
        if x + width > right:
            x, y = EDGE + PAD, y + round(1.95 * size)
        self.need(y + 2 * height)
        frame = 2 if kind == "kept" else 1
        self.brush.rounded_rectangle((x, y, x + width, y + height), 7, fill=fill, outline=outline, width=frame)
        self.brush.text((x + 0.45 * size, y + height / 2), text, font=letters, fill=ink, anchor="lm")
        return x + width + 0.4 * size, y

    def pictures(self, at: tuple[int, int], shown: Sequence[Shown]) -> tuple[int, int]:
        """Pictures side by side with their captions; returns the corner right of and below them."""
        x, y = at
        bottom = y
        for item in shown:
            self.need(y + item.image.height + 3 * SMALL)
            self.image.paste(item.image, (x, y))
            end = self.text((x, y + item.image.height + 6), item.caption, max(item.image.width, 120), SMALL, fill=GREY)
            bottom, x = max(bottom, end), x + max(item.image.width, 120) + PAD
        return x, bottom

    def fit(self, height: int) -> Image.Image:
        """The finished picture."""
        self.need(height)
        return self.image.crop((0, 0, self.image.width, height))


def wrap(text: str, letters: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Lines no wider than ``width``; a word wider than a line is cut."""
    lines = [""]
    for word in text.split(" "):
        while True:
            joined = f"{lines[-1]} {word}" if lines[-1] else word
            if letters.getlength(joined) <= width:
                lines[-1] = joined
                break
            if lines[-1]:
                lines.append("")
                continue
            keep = max(1, next((count for count in range(len(word), 0, -1) if letters.getlength(word[:count]) <= width), 1))
            lines[-1], word = word[:keep], word[keep:]
            if not word:
                break
            lines.append("")
    return lines


def page(content: Page, settings: Sequence[tuple[str, str]], sections: Callable[[Sheet, int], int] | None = None) -> Image.Image:
    """The picture of one page, 1440 pixels wide. settings: (name, value) of what it was made with; sections: draws what comes
    last from a y on and returns the y below."""
    sheet = Sheet(WIDTH)
    y = sheet.text((EDGE, EDGE), content.image_id, WIDTH - 2 * EDGE, 32, bold=True)
    y = sheet.text((EDGE, y + 4), content.text, WIDTH - 2 * EDGE) + 14
    y = on_card(sheet, y, lambda sheet, y: _about(sheet, y, content))
    y = heading(sheet, y, "Text", pages.TEXT_LEAD)
    y = on_card(sheet, y, lambda sheet, y: _tokens(sheet, y, content))
    y = on_card(sheet, y, lambda sheet, y: _card(sheet, y, content.match))
    y = heading(sheet, y, "Patches", pages.PATCH_LEAD)
    for card in content.levels:
        y = on_card(sheet, y, partial(_card, card=card))
    y = sections(sheet, y) if sections else y
    if any(card.measures for card in content.levels):
        y = sheet.text((EDGE, y), pages.KL, WIDTH - 2 * EDGE, SMALL, fill=GREY) + 8
    line = "   ".join(f"{name}: {value}" for name, value in settings)
    return sheet.fit(sheet.text((EDGE, y), line, WIDTH - 2 * EDGE, SMALL, fill=GREY) + EDGE)


def on_card(sheet: Sheet, y: int, draw: Callable[[Sheet, int], int]) -> int:
    """Draw twice: once to learn the height, then on the white card of that height."""
    bottom = y + draw(Sheet(WIDTH), PAD) + PAD
    sheet.need(bottom + PAD)
    sheet.brush.rounded_rectangle((EDGE, y, WIDTH - EDGE, bottom), 14, fill="white", outline=LINE)
    draw(sheet, y + PAD)
    return bottom + 16


def heading(sheet: Sheet, y: int, words: str, lead: str) -> int:
    """A heading and the line below it."""
    y = sheet.text((EDGE, y + 16), words, WIDTH, 26, bold=True)
    return sheet.text((EDGE, y), lead, WIDTH - 2 * EDGE, SMALL, fill=GREY) + 10


def _about(sheet: Sheet, y: int, content: Page) -> int:
    x, bottom = sheet.pictures((EDGE + PAD, y), content.shown)
    right = WIDTH - EDGE - PAD
    for name, value in content.facts:
        sheet.text((x, y), name, 150, SMALL, fill=GREY)
        y = sheet.text((x + 150, y - 2), value, right - x - 150) + 4
    if content.note:
        y = sheet.text((x, y + 6), content.note, right - x, bold=True, fill=ORANGE)
    return max(bottom, y)


def _tokens(sheet: Sheet, y: int, content: Page) -> int:
    left, right = EDGE + PAD, WIDTH - EDGE - PAD
    if content.negative:
        y = sheet.text((left, y), "This example got the text of another product:", right - left, bold=True, fill=ORANGE)
        y = sheet.text((left, y), content.negative, right - left) + 12
    at: tuple[float, float] = (left, y)
    for token in content.tokens:
        at = sheet.chip(at, token.text, token.kind, right)
    at = (left, at[1] + 2.3 * BODY)
    used = {token.kind for token in content.tokens}
    for kind, words in pages.LEGEND:
        if kind in used:
            at = sheet.chip(at, words, kind, right, 14)
    y = round(at[1] + 2.2 * SMALL)
    if content.asked:
        columns = (left, left + 80, left + 300, left + 740)
        names = ("place", "truth", "the model reads", "what the model says" if content.asked[0].guesses else "")
        for x, name in zip(columns, names):
            sheet.text((x, y), name, 400, SMALL, fill=GREY)
        y += 28
        for token in content.asked:
            y = _asked(sheet, y, token, columns, right)
    return y


def _asked(sheet: Sheet, y: int, token: Token, columns: Sequence[int], right: int) -> int:
    sheet.need(y + 60)
    sheet.brush.line((columns[0], y, right, y), fill=LINE)
    y += 10
    sheet.text((columns[0], y), str(token.place), 60)
    bottom = sheet.text((columns[1], y), token.truth, columns[2] - columns[1] - 12, bold=True)
    x, _ = sheet.chip((columns[2], y - 4), token.text, token.kind, columns[3])
    sheet.text((x + 4, y + 3), pages.HOW[token.kind], columns[3] - x, SMALL, fill=GREY)
    return max(bottom, _guesses(sheet, y, token.guesses, (columns[3], right))) + 8


def _card(sheet: Sheet, y: int, card: Card) -> int:
    x, bottom = sheet.pictures((EDGE + PAD, y), card.shown) if card.shown else (EDGE + PAD, y)
    right, words = WIDTH - EDGE - PAD, pages.verdict(card)
    right = right if card.shown else min(right, x + 760)  # no bars at the far end of an empty line
    if words and font(BODY, True).getlength(card.title + words) + PAD < right - x:
        sheet.brush.text((right, y), words, font=font(BODY, True), fill=GREEN if card.right else ORANGE, anchor="ra")
        words = ""
    y = sheet.text((x, y), card.title, right - x, bold=True) + 2
    if words:
        y = sheet.text((x, y), words, right - x, bold=True, fill=GREEN if card.right else ORANGE) + 2
    y = sheet.text((x, y), card.question, right - x)
    y = sheet.text((x, y), f"Truth: {card.answer}", right - x, bold=True) + 8 if card.answer else y + 8
    y = _guesses(sheet, y, card.guesses, (x, right))
    if card.measures:
        for place, name in zip((x, x + 150, x + 330), ("KL", "the model", "without looking")):
            sheet.text((place, y), name, 200, SMALL, fill=GREY)
        y += 26
    for measure in card.measures:
        mark, fill = ("✓", GREEN) if measure.predicted < measure.constant else ("✗", ORANGE)
        sheet.text((x, y), measure.name, 150)
        sheet.text((x + 150, y), f"{measure.predicted:.4g} {mark}", 180, bold=True, fill=fill)
        y = sheet.text((x + 330, y), f"{measure.constant:.4g}", 200) + 2
    return max(bottom, y)


def _guesses(sheet: Sheet, y: int, guesses: Sequence[Guess], span: tuple[int, int]) -> int:
    """Rank, name, bar, probability, mark; the bar takes what the name leaves, up to 150 pixels."""
    left, right = span
    bar = min(150, max(60, (right - left) // 4))
    start = right - bar - 125
    indent = 16 + max((round(font(SMALL).getlength(f"{guess.rank}.")) for guess in guesses), default=0)
    for guess in guesses:
        sheet.need(y + 60)
        sheet.text((left, y + 3), f"{guess.rank}.", 60, SMALL, fill=GREY)
        end = sheet.text((left + indent, y), guess.name, start - left - indent - 10, bold=guess.true)
        sheet.brush.rounded_rectangle((start, y + 6, start + bar, y + 20), 5, fill=SOFT)
        if (filled := round(bar * guess.probability)) > 0:
            sheet.brush.rounded_rectangle((start, y + 6, start + max(filled, 2), y + 20), 5 if filled > 9 else 0,
                                          fill=GREEN if guess.true else BAR)
        share = pages.percent(guess.probability)
        sheet.brush.text((right - 34, y + 1), share, font=font(BODY, guess.true), fill=INK, anchor="ra")
        mark = "✓" if guess.true else "✗" if guess.rank == 1 else ""
        sheet.brush.text((right - 24, y), mark, font=font(BODY), fill=GREEN if guess.true else ORANGE)
        y = end + 3
    return y
