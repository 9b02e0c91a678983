"""queries.png of a retrieval run: its best and worst queries with their first candidates."""

import json
from pathlib import Path
from typing import Any

from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.products import read_image
from kaleidobert.errors import UserError
from kaleidobert.evaluators.report import sheets
from kaleidobert.evaluators.report.sheets import Query, Shown

LEADS = {"i2t": "A picture asks for its text", "t2i": "A text asks for its picture"}


def draw(run: Path, bank: Bank, direction: str, count: int = 5) -> Path | None:
    """Draw run/queries.png of run/scores.jsonl, ``count`` best and worst queries; returns its path.

    The scores' ids are image ids of the bank; pictures are read where its table says. None, and a line that says so, where one of
    them is not there. Raises UserError for a line of the scores that does not fit the bank.
    """
    lists, path = _read(run / "scores.jsonl"), run / "queries.png"
    best, worst = sheets.choose([line["scores"] for line in lists], [line["relevant"] for line in lists], count)
    if not best:
        print("queries.png is not drawn: no query has a right and a wrong candidate")
        return None
    rows = {row["image_id"]: row for row in bank.table}
    strange = {name for number in (*best, *worst) for name in (lists[number]["query"], *lists[number]["candidates"])} - rows.keys()
    if strange:
        raise UserError(f"the bank has no picture {min(strange)!r}", str(run / "scores.jsonl"), f"image ids of {bank.folder}")

    def show(image_id: str, picture: bool) -> Shown:
        return read_image(rows[image_id]["image_path"]) if picture else rows[image_id]["text"]

    def query(number: int) -> Query:
        line = lists[number]
        shown = sheets.candidates(line["scores"], line["relevant"], lambda i: show(line["candidates"][i], direction == "t2i"))
        rank = sheets.rank(line["scores"], line["relevant"])
        return Query(show(line["query"], direction == "i2t"), rank, len(line["scores"]), shown)

    try:
        drawn = [query(number) for number in best], [query(number) for number in worst]
    except UserError as error:
        print(f"queries.png is not drawn: {error.what}: {error.where}")
        return None
    lead = (f"{LEADS[direction]}, {len(lists):,} queries. Beside each its first candidates with their scores; right ones have a frame. "
            f"Behind the dots: the right one that is not among the first {sheets.SHOWN}.")
    sheets.queries(f"{run.name}: best and worst queries", lead, *drawn, path)
    return path


def _read(path: Path) -> list[dict[str, Any]]:
    """The lines of scores.jsonl; UserError names one that is broken."""
    if not path.is_file():
        raise UserError("there is no such file", str(path), "the scores that `kaleidobert retrieve` writes")
    lines = []
    for number, text in enumerate(path.read_bytes().splitlines(), 1):
        try:
            line = json.loads(text)
            fits = len(line["candidates"]) == len(line["relevant"]) == len(line["scores"]) and isinstance(line["query"], str)
        except (ValueError, KeyError, TypeError):
            fits = False
        if not fits:
            raise UserError(f"line {number} is broken", str(path), "query, and candidates, relevant and scores of one length",
                            "rank again")
        lines.append(line)
    return lines
