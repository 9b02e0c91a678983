"""``kaleidobert search``: find products of an index by words, by a picture, or by both.

The answer is a table in the terminal, JSON lines, or a page that is one file: its pictures are inside, nothing is fetched and no script
runs.
"""

import base64
import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from pathlib import Path

import jinja2
from PIL import Image

from kaleidobert import io
from kaleidobert.app_zoo.search.searcher import Answer, Searcher
from kaleidobert.configs.search import SearchConfig
from kaleidobert.datasets.bank.queries import check_texts
from kaleidobert.datasets.products import read_image
from kaleidobert.errors import UserError

THUMBNAIL = 320  # pixels of the longer side; shown at half of it, for dense screens
MIN_WIDTH, LABELS = 60, 24  # characters of the table, and of its labels


def dry_run(config: SearchConfig) -> None:
    """Opens the index and checks the query's text, picture and filters; searches nothing."""
    searcher = _open(config)
    searcher.check_filters(config.filter)
    print(f"{searcher.describe()}\nthe query: {title(config)}")


def run(config: SearchConfig) -> None:
    """Searches, prints the answer and writes ``out`` and ``page``."""
    searcher = _open(config)
    answer = searcher.answer(config.text or None, config.picture, config.top, config.filter, config.rerank, config.find)
    lines = "".join(json.dumps({**vars(hit), "labels": dict(hit.labels)}, ensure_ascii=False) + "\n" for hit in answer.hits)
    if config.out is not None:
        io.write_text(config.out, lines)
    gone = 0
    if config.page is not None:
        shown = [thumbnail(hit.image_path) for hit in answer.hits]
        gone = shown.count(None)
        io.write_text(config.page, page(config, answer, shown, searcher.describe()))
    if config.format == "json":
        print(lines, end="")
        for line in (*(f"note: {note}" for note in notes(config, answer)), *_written(config, answer, gone)):
            print(line, file=sys.stderr)  # programs read the JSON lines alone
        return
    print(table(config, answer), *_written(config, answer, gone), sep="\n")


def _open(config: SearchConfig) -> Searcher:
    for path in (config.out, config.page):
        if path is not None:
            if path.is_dir():
                raise UserError("this is a folder", str(path), "a file", "name a file in it")
            io.check_folder(path.parent, "choose another folder")
    check_texts([config.text])
    if config.picture is not None:
        read_image(config.picture)  # refused before networks are loaded
    return Searcher(config.index, config.bank, config.init)


def _written(config: SearchConfig, answer: Answer, gone: int) -> list[str]:
    """Returns lines on what was written."""
    lines = []
    if config.out is not None:
        lines.append(f"as JSON lines: {config.out}")
    if config.page is not None:
        lines.append(f"page: {Path(config.page).absolute()}")
    if gone:
        lines.append(f"the page shows {gone} of {len(answer.hits)} products without a picture: it does not lie where the bank has it")
    return lines


# --- The answer for people


def title(config: SearchConfig) -> str:
    """Returns the query in a line."""
    text = config.text.strip()
    return " and ".join([f'"{text}"'] * bool(text) + ([] if config.picture is None else [f"the picture {config.picture.name}"]))


def summary(config: SearchConfig, answer: Answer) -> str:
    """Returns how the answer came about, in a sentence."""
    what = "the products' pictures" if config.find == "pictures" else "the products' texts"
    filters = "; ".join(f"{label}: {' or '.join(values)}" for label, values in config.filter.items())
    searched = f"{answer.searched:,} searched" + f" with {filters}" * bool(filters)
    stages = f"the first {answer.candidates:,} re-ranked by the matching head" if answer.reranked else "by stage one alone"
    return f"compared with {what}: {searched}, {stages}"


def notes(config: SearchConfig, answer: Answer) -> list[str]:
    """Returns what a person should know about the answer, the last line where fewer came than were asked for."""
    lines = list(answer.notes)
    if answer.searched and len(answer.hits) < config.top:
        rest = "there are no more products"
        if answer.candidates < answer.searched:
            rest = "no more were found: lists and graph (kind ivf, hnsw) look through a part of the index; kind=flat compares all"
        lines.append(f"{config.top} were asked for, and {rest}")
    return lines


def table(config: SearchConfig, answer: Answer) -> str:
    """Returns the answer as text, as wide as the terminal."""
    width = max(MIN_WIDTH, shutil.get_terminal_size((120, 24)).columns)
    lines = [f"{title(config)}: {len(answer.hits)} products", summary(config, answer), *(f"note: {note}" for note in notes(config, answer))]
    if not answer.hits:
        return "\n".join(lines)
    ids = min(32, max(len("picture"), *(len(hit.image_id) for hit in answer.hits)))
    heads = ("stage 2", "stage 1") if answer.reranked else ("stage 1",)
    room = width - 4 - 9 * len(heads) - ids - LABELS - 4
    lines.append(f"{'':4}" + "".join(f"{head:>9}" for head in heads) + f"  {'picture':{ids}}  {'labels':{LABELS}}text")
    for number, hit in enumerate(answer.hits, 1):
        scores = (hit.score, hit.first_score) if answer.reranked else (hit.first_score,)
        labels = _cut(", ".join(dict.fromkeys(value for value in hit.labels.values() if value)), LABELS - 2)
        lines.append(f"{number:3} " + "".join(f"{score:9.3f}" for score in scores)
                     + f"  {_cut(hit.image_id, ids):{ids}}  {labels:{LABELS}}{_cut(hit.text, max(10, room))}")
    return "\n".join(lines)


def _cut(text: str, width: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else textwrap.shorten(text, width, placeholder="…") if " " in text else f"{text[: width - 1]}…"


def thumbnail(path: str | Path) -> Image.Image | None:
    """Returns a small picture; None where the file is gone or cannot be read any more."""
    try:
        image = Image.fromarray(read_image(path))
    except UserError:
        return None
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return image


def page(config: SearchConfig, answer: Answer, pictures: Sequence[Image.Image | None], searched: str) -> str:
    """Returns the HTML of an answer. pictures: of the hits; searched: what was searched, in words."""
    own = None if config.picture is None else thumbnail(config.picture)
    return _environment().get_template("search.html").render(
        title=title(config), heading=config.text.strip() or title(config), answer=answer, summary=summary(config, answer),
        notes=notes(config, answer), own=own, rows=list(zip(answer.hits, pictures)), searched=searched,
        gone=sum(one is None for one in pictures))


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(loader=jinja2.PackageLoader(__package__), autoescape=True, undefined=jinja2.StrictUndefined,
                                     trim_blocks=True, lstrip_blocks=True)
    environment.filters["jpeg"] = _jpeg
    return environment


def _jpeg(image: Image.Image) -> str:
    """Returns the picture as a data address."""
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
