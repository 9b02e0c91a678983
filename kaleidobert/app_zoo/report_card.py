"""The report card of a folder of runs, the last page of the quickstart: for each idea what it claims, what was measured, and a verdict.

    python -m kaleidobert.app_zoo.report_card FOLDER

prints it, and writes report_card.html into the folder.
"""

import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from kaleidobert import io
from kaleidobert.app_zoo import tables
from kaleidobert.app_zoo.inspect import pages
from kaleidobert.errors import UserError
from kaleidobert.evaluators.report.claims import Claim, report_card

WIDTH = 118


def write(folder: Path) -> list[Claim]:
    """Writes report_card.html of the finished runs below the folder; returns the claims. Raises UserError where there are none."""
    if not folder.is_dir():
        raise UserError("there is no such folder", str(folder), "the folder of runs, such as runs/quickstart")
    claims = report_card(tables.finished(folder))
    if not claims:
        raise UserError("no run below this folder has results to judge", str(folder), "finished runs of align, pretrain, retrieve, "
                        "classify or caption", "run the quickstart to its end")
    io.write_text(folder / "report_card.html", pages.report_card(claims))
    return claims


def show(claims: list[Claim]) -> str:
    """Returns the claims as text."""
    lines = []
    for claim in claims:
        lines.append(f"{claim.verdict:10s}{claim.idea}: {claim.claim}")
        lines += textwrap.wrap(claim.measured, WIDTH, initial_indent=" " * 12, subsequent_indent=" " * 12)
    return "\n".join(lines)


def main(words: Sequence[str]) -> int:
    """Prints the report card of the folder that is named; returns 0, or 1 with a message."""
    if len(words) != 1:
        print("usage: python -m kaleidobert.app_zoo.report_card FOLDER", file=sys.stderr)
        return 1
    try:
        card = write(Path(words[0]))
    except UserError as error:
        print(f"report card: {error}", file=sys.stderr)
        return 1
    print(f"report card: does the data support each idea?\n\n{show(card)}\n\n  page: {Path(words[0]) / 'report_card.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
