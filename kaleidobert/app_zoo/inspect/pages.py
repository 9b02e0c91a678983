"""The pages of ``kaleidobert inspect`` as HTML: one file each, pictures inside, nothing fetched, no script; for screen, phone
and paper. Every text that comes from data is escaped.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import replace
from html import escape

from PIL import Image

from kaleidobert.app_zoo.inspect.content import Card, Guess, Page, Shown, Token

THUMBNAIL = 168  # pixels; shown at half of it, for dense screens
HOW = {"masked": "hidden by the mask", "replaced": "replaced by another piece", "kept": "left as it is"}
LEGEND = (("plain", "word piece"), ("special", "start, end"), ("masked", "hidden by the mask"),
          ("replaced", "replaced by another piece"), ("kept", "left as it is, yet asked"))
TEXT_LEAD = "The word pieces as the model reads them, without padding. It has to name the coloured ones."
PATCH_LEAD = ("Every level cuts the foreground into a finer grid; each is spoiled in its own way, and the model is asked what "
              "was done or what is missing. Patches keep their shape here; the encoder gets each as a square.")
KL = ("KL is how far an answer lies from the true feature of a patch: 0 is exact, smaller is better. Without looking: the one "
      "answer that is best for all training pictures together.")

STYLE = """
:root { --blue: #0072b2; --orange: #d55e00; --green: #00795a; --grey: #5f6b7a; --line: #d5dae1; --soft: #f3f5f8 }
* { box-sizing: border-box }
body { margin: 0; background: #eceff3; color: #1d2530; font: 1rem/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  -webkit-text-size-adjust: 100%; print-color-adjust: exact; -webkit-print-color-adjust: exact; color-scheme: light }
main { max-width: 1080px; margin: 0 auto; padding: 1.2rem clamp(.7rem, 2.5vw, 2rem) 2rem }
h1 { font-size: 1.5rem; margin: .2rem 0; overflow-wrap: anywhere }
h2 { font-size: 1.15rem; margin: 1.8rem 0 .2rem }
h3 { font-size: 1rem; margin: 0 }
a { color: var(--blue) }
p { margin: .25rem 0 }
.lead, figcaption, footer, .small { color: var(--grey); font-size: .86rem }
.card { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 1rem; margin: .7rem 0; break-inside: avoid;
  display: flex; flex-wrap: wrap; gap: .8rem 1.2rem; align-items: flex-start }
.words { flex: 1 1 300px; min-width: 0 }
.head { display: flex; flex-wrap: wrap; gap: .2rem .8rem; align-items: baseline; justify-content: space-between }
figure { margin: 0; max-width: 100% }
figure img { display: block; max-width: 100%; height: auto }
.big img { width: 300px } .grids { display: flex; flex-wrap: wrap; gap: .8rem; align-items: flex-start }
.grids figure img { width: var(--w, 100%) }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem .9rem; margin: .4rem 0 }
dt { color: var(--grey) } dd { margin: 0; overflow-wrap: anywhere }
.note { color: var(--orange); font-weight: 600 }
.answer b { font-weight: 600 }
.tokens { display: flex; flex-wrap: wrap; gap: .35rem; margin: .5rem 0 }
.token { border: 1px solid var(--line); background: var(--soft); border-radius: 6px; padding: .05rem .45rem;
  overflow-wrap: anywhere }
.special { color: #8a94a2; background: #fff; border-style: dashed }
.masked { background: var(--orange); border-color: var(--orange); color: #fff }
.replaced { background: #fde5d4; border-color: var(--orange) }
.kept { background: #fff; border: 2px solid var(--orange) }
.legend .token { font-size: .78rem }
table { border-collapse: collapse; width: 100%; background: #fff }
th { text-align: left; color: var(--grey); font-weight: 500; font-size: .86rem }
th, td { padding: .35rem .6rem .35rem 0; vertical-align: top; border-bottom: 1px solid var(--line); overflow-wrap: anywhere }
tr:last-child td { border-bottom: 0 }
.guess { display: grid; grid-template-columns: 2.2rem minmax(0, 1fr) minmax(1.5rem, 6rem) 4.1rem 1.1rem; gap: .45rem;
  align-items: center; margin: .12rem 0; font-size: .92rem; max-width: 34rem }
.guess .rank { color: var(--grey); font-size: .78rem; white-space: nowrap; text-align: right }
.bar { background: var(--soft); border-radius: 4px; height: .65rem; overflow: hidden }
.bar i { display: block; height: 100%; background: #9aa7b8 }
.true .bar i { background: var(--green) } .true { font-weight: 600 }
.p { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
.right, .wrong { color: var(--green); font-weight: 600; white-space: nowrap } .wrong { color: var(--orange) }
.scroll { overflow-x: auto } .scroll th { white-space: nowrap } .scroll :is(th, td) { overflow-wrap: normal; padding-right: 1rem }
.scroll img { width: 84px; height: auto; display: block }
.scroll .text { min-width: 12rem } .scroll .id { min-width: 7rem } .scroll .hits { white-space: nowrap }
.asked td:first-child { width: 3.5rem } .asked td:nth-child(2) { width: 18% } .asked td:nth-child(3) { width: 28% }
.asked td:last-child { width: auto } .asked th { white-space: nowrap } .asked tr { break-inside: avoid }
blockquote { margin: .3rem 0; padding-left: .8rem; border-left: 3px solid var(--line); overflow-wrap: anywhere }
@media (max-width: 560px) { .big { margin: 0 auto } .grids figure { flex: 1 1 40% } .card { padding: .75rem }
  .asked th { display: none } .asked td { display: inline-block; width: auto !important; border: 0; padding: .1rem .5rem .1rem 0 }
  .asked tr { display: block; border-bottom: 1px solid var(--line); padding: .3rem 0 } .asked td:nth-child(4) { display: block } }
@media print { html { font-size: 12px } body { background: #fff } main { max-width: none; padding: 0 }
  h2, .lead { break-after: avoid } footer { break-inside: avoid }
  .card { margin: .5rem 0; padding: .7rem } .flow { break-inside: auto; display: block } .words { flex-basis: 200px }
  .big img { width: 200px } .grids figure img { width: calc(.66 * var(--w)) } .screen { display: none } @page { margin: 13mm } }
"""


def page(content: Page, settings: Sequence[tuple[str, str]], sections: str = "") -> str:
    """The HTML of one page. settings: (name, value) of what it was made with; sections: HTML of what comes last."""
    figures = "".join(figure(shown, "big") for shown in content.shown)
    note = f'<p class="note">{escape(content.note)}</p>' if content.note else ""
    body = f"""<p class="small screen"><a href="index.html">All pictures</a></p>
<h1>{escape(content.image_id)}</h1>
<p>{escape(content.text)}</p>
<section class="card">{figures}<div class="words">{_facts(content.facts)}{note}</div></section>
<h2>Text</h2><p class="lead">{TEXT_LEAD}</p>
{_text(content)}
{_card(content.match)}
<h2>Patches</h2><p class="lead">{PATCH_LEAD}</p>
{''.join(_card(card) for card in content.levels)}
{sections}
<footer>{f'<p>{KL}</p>' if any(card.measures for card in content.levels) else ''}{_facts(settings)}</footer>"""
    return _document(content.image_id, body)


def index(pages: Sequence[Page], settings: Sequence[tuple[str, str]], sections: str = "") -> str:
    """The HTML of index.html: a table of all pages (see ``thumbnail``) with links to <name>.html and <name>.png; sections: HTML
    of what comes behind it."""
    model = any(content.match.guesses for content in pages)
    names = [card.name for card in pages[0].asked_levels] if model else []
    header = "".join(f"<th>{escape(name)}</th>" for name in
                     ("picture", "", "its text in the example", *(["words", "text and picture", *names] if model else [])))
    rows = "".join(f"<tr>{_row(content, model)}</tr>" for content in pages)
    legend = ("<p class=\"lead\">✓ right, ✗ wrong; words: how many of the asked word pieces; where a feature is asked: is the "
              "model's answer closer than the best one without looking?</p>") if model else ""
    body = f"""<h1>Inspected pictures</h1>
<p class="lead">Pictures with their texts as the pre-training sees them: cut, spoiled{', answered by the model' if model else ''}.
A page each.</p>
<div class="card scroll"><table><tr>{header}</tr>{rows}</table></div>{legend}{sections}<footer>{_facts(settings)}</footer>"""
    return _document("Inspected pictures", body)


def thumbnail(content: Page) -> Page:
    """The page with one small picture: all that the index needs, so that a thousand pages fit into memory."""
    image = content.shown[0].image.copy()
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return replace(content, shown=(Shown("", image),), aligned=None,
                   levels=tuple(replace(card, shown=()) for card in content.levels))


def percent(share: float) -> str:
    """A probability for people: 12.3%, 0.04%, <0.01%."""
    return f"{share:.1%}" if share >= 0.001 else f"{share:.2%}" if share >= 0.0001 else "<0.01%"


def verdict(card: Card) -> str:
    """The card's result in words; "" without a model."""
    if card.right is None:
        return ""
    if card.measures:
        return "✓ closer than without looking" if card.right else "✗ no closer than without looking"
    return "✓ right" if card.right else "✗ wrong"


def _document(title: str, body: str) -> str:
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style>{STYLE}</style></head>
<body><main>
{body}
</main></body></html>
"""


def _row(content: Page, model: bool) -> str:
    links = (f'<a href="{escape(content.name)}.html">{escape(content.image_id)}</a><br>'
             f'<a class="small" href="{escape(content.name)}.png">as PNG</a>')
    text = escape(content.text)
    if content.negative:
        text = f'<span class="wrong">another product\'s</span>: {escape(content.negative)}'
    cells = [_image(content.shown[0].image, content.image_id), links, text]
    if model:
        hits = sum(token.guesses[0].true for token in content.asked)
        cells += [f"{hits} of {len(content.asked)}"]
        cells += [f'<span class="{"right" if card.right else "wrong"}">{"✓" if card.right else "✗"}</span>'
                  for card in (content.match, *content.asked_levels)]
    kinds = ("", "id", "text", "hits", *[""] * len(cells))
    return "".join(f'<td class="{kind}">{cell}</td>' if kind else f"<td>{cell}</td>" for kind, cell in zip(kinds, cells))


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(value)}</dd>' for name, value in facts)}</dl>"


def _text(content: Page) -> str:
    used = {token.kind for token in content.tokens}
    tokens = "".join(f'<span class="token {token.kind}">{escape(token.text)}</span>' for token in content.tokens)
    legend = "".join(f'<span class="token {kind}">{words}</span>' for kind, words in LEGEND if kind in used)
    negative = ""
    if content.negative:
        negative = (f'<p class="note">This example got the text of another product:</p><blockquote>{escape(content.negative)}'
                    "</blockquote>")
    rows = "".join(_asked(token) for token in content.asked)
    model = "<th>what the model says</th>" if any(token.guesses for token in content.asked) else ""
    header = f"<tr><th>place</th><th>truth</th><th>the model reads</th>{model}</tr>"
    table = f'<table class="asked">{header}{rows}</table>' if rows else ""
    return (f'<section class="card flow"><div class="words">{negative}<div class="tokens">{tokens}</div>'
            f'<div class="tokens legend">{legend}</div>{table}</div></section>')


def _asked(token: Token) -> str:
    guesses = f"<td>{_guesses(token.guesses)}</td>" if token.guesses else ""
    return (f'<tr><td>{token.place}</td><td><b>{escape(token.truth)}</b></td><td><span class="token {token.kind}">'
            f'{escape(token.text)}</span> <span class="small">{HOW[token.kind]}</span></td>{guesses}</tr>')


def _card(card: Card) -> str:
    result = f'<span class="{"right" if card.right else "wrong"}">{verdict(card)}</span>' if card.right is not None else ""
    figures = "".join(figure(shown, "") for shown in card.shown)
    grids = f'<div class="grids">{figures}</div>' if figures else ""
    answer = f'<p class="answer">Truth: <b>{escape(card.answer)}</b></p>' if card.answer else ""
    return f"""<section class="card">{grids}<div class="words"><div class="head"><h3>{escape(card.title)}</h3>{result}</div>
<p>{escape(card.question)}</p>{answer}
{_guesses(card.guesses)}{_measures(card)}</div></section>"""


def _guesses(guesses: Sequence[Guess]) -> str:
    lines = []
    for guess in guesses:
        kind, mark = ("right", "✓") if guess.true else ("wrong", "✗" if guess.rank == 1 else "")
        lines.append(f'<div class="guess{" true" if guess.true else ""}"><span class="rank">{guess.rank}.</span>'
                     f'<span>{escape(guess.name)}</span>'
                     f'<span class="bar"><i style="width:{100 * guess.probability:.1f}%"></i></span>'
                     f'<span class="p">{percent(guess.probability)}</span><span class="{kind}">{mark}</span></div>')
    return "".join(lines)


def _measures(card: Card) -> str:
    rows = []
    for measure in card.measures:
        kind, mark = ("right", "✓") if measure.predicted < measure.constant else ("wrong", "✗")
        rows.append(f'<tr><td>{escape(measure.name)}</td><td class="{kind}">{measure.predicted:.4g} {mark}</td>'
                    f"<td>{measure.constant:.4g}</td></tr>")
    header = "<tr><th>KL</th><th>the model</th><th>without looking</th></tr>"
    return f"<table>{header}{''.join(rows)}</table>" if rows else ""


def figure(shown: Shown, kind: str) -> str:
    """A picture and its caption; kind: its CSS class, "" = one of several grids."""
    style = "" if kind else f' style="--w:{round(0.6 * shown.image.width)}px"'
    return (f'<figure class="{kind}"{style}>{_image(shown.image, shown.caption)}'
            f"<figcaption>{escape(shown.caption)}</figcaption></figure>")


def _image(image: Image.Image, words: str) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90, subsampling=0)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{escape(words)}" width="{image.width}" height="{image.height}" src="data:image/jpeg;base64,{data}">'
