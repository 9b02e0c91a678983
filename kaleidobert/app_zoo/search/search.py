"""``kaleidobert search``: find products of an index by words, by a picture, or by both; printed, as JSON lines, or as a page."""

import json
import sys
from pathlib import Path

from kaleidobert import io
from kaleidobert.app_zoo.search import answers
from kaleidobert.app_zoo.search.answers import Asked
from kaleidobert.app_zoo.search.searcher import Answer, Searcher, as_dict
from kaleidobert.configs.search import SearchConfig
from kaleidobert.datasets.bank.queries import check_texts
from kaleidobert.datasets.products import read_image
from kaleidobert.errors import UserError


def dry_run(config: SearchConfig) -> None:
    """Opens the index and checks the query's text, picture and filters; searches nothing."""
    searcher = _open(config)
    searcher.check_filters(config.filter)
    print(f"{searcher.describe()}\nthe query: {_asked(config).title}")


def run(config: SearchConfig) -> None:
    """Searches, prints the answer and writes ``out`` and ``page``."""
    searcher, asked = _open(config), _asked(config)
    answer = searcher.answer(config.text or None, config.picture, config.top, config.filter, config.rerank, config.find)
    lines = "".join(json.dumps(as_dict(hit), ensure_ascii=False) + "\n" for hit in answer.hits)
    if config.out is not None:
        io.write_text(config.out, lines)
    gone = 0
    if config.page is not None:
        shown = [answers.thumbnail(hit.image_path) for hit in answer.hits]
        gone = shown.count(None)
        io.write_text(config.page, answers.page(asked, answer, shown, searcher.describe()))
    if config.format == "json":
        print(lines, end="")
        for line in (*(f"note: {note}" for note in answers.notes(asked, answer)), *_written(config, answer, gone)):
            print(line, file=sys.stderr)  # programs read the JSON lines alone
        return
    print(answers.table(asked, answer), *_written(config, answer, gone), sep="\n")


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


def _asked(config: SearchConfig) -> Asked:
    filters = {label: list(values) for label, values in config.filter.items()}
    return Asked(config.text.strip(), config.picture, config.find, filters, config.top)


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
