"""An answer of search for people: a table in the terminal, and a page that is one file: its pictures are inside, nothing is fetched and
no script runs."""

import base64
import io
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jinja2
from PIL import Image

from kaleidobert.app_zoo.search.searcher import Answer
from kaleidobert.datasets.products import read_image
from kaleidobert.errors import UserError

THUMBNAIL = 320  # pixels of the longer side; shown at half of it, for dense screens
MIN_WIDTH, LABELS = 60, 24  # characters of the table, and of its labels


@dataclass(frozen=True)
class Asked:
    """The query as a person put it. filters: {label: values}."""

    text: str
    picture: Path | None
    find: str
    filters: Mapping[str, Sequence[str]]
    top: int

    @property
    def title(self) -> str:
        """The query in a line."""
        parts = [f'"{self.text}"'] * bool(self.text) + ([] if self.picture is None else [f"the picture {self.picture.name}"])
        return " and ".join(parts)

    @property
    def restriction(self) -> str:
        """The filters in a line, "" without one."""
        return "; ".join(f"{label}: {' or '.join(values)}" for label, values in self.filters.items())


def summary(asked: Asked, answer: Answer) -> str:
    """Returns how the answer came about, in a sentence."""
    what = "the products' pictures" if asked.find == "pictures" else "the products' texts"
    searched = f"{answer.searched:,} searched" + (f" with {asked.restriction}" if asked.restriction else "")
    stages = f"the first {answer.candidates:,} re-ranked by the matching head" if answer.reranked else "by stage one alone"
    return f"compared with {what}: {searched}, {stages}"


def notes(asked: Asked, answer: Answer) -> list[str]:
    """Returns what a person should know about the answer, the last line where fewer came than were asked for."""
    lines = list(answer.notes)
    if answer.searched and len(answer.hits) < asked.top:
        rest = "there are no more products"
        if answer.candidates < answer.searched:
            rest = "no more were found: lists and graph (kind ivf, hnsw) look through a part of the index; kind=flat compares all"
        lines.append(f"{asked.top} were asked for, and {rest}")
    return lines


def table(asked: Asked, answer: Answer) -> str:
    """Returns the answer as text, as wide as the terminal."""
    width = max(MIN_WIDTH, shutil.get_terminal_size((120, 24)).columns)
    lines = [f"{asked.title}: {len(answer.hits)} products", summary(asked, answer), *(f"note: {note}" for note in notes(asked, answer))]
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


def page(asked: Asked, answer: Answer, pictures: Sequence[Image.Image | None], searched: str) -> str:
    """Returns the HTML of an answer. pictures: of the hits; searched: what was searched, in words."""
    own = None if asked.picture is None else thumbnail(asked.picture)
    return _environment().get_template("search.html").render(
        asked=asked, answer=answer, summary=summary(asked, answer), notes=notes(asked, answer), own=own,
        rows=list(zip(answer.hits, pictures)), searched=searched,
        gone=sum(one is None for one in pictures))


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(loader=jinja2.PackageLoader(__package__), autoescape=True, undefined=jinja2.StrictUndefined,
                                     trim_blocks=True, lstrip_blocks=True)
    environment.filters["jpeg"] = _jpeg
    return environment


def _jpeg(image: Image.Image) -> str:
    """Returns the picture as a data address."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
