"""``kaleidobert report``: one page about one or several runs that needs no other file: report card, tables, curves, pictures,
configurations, lineage, environment.

    FOLDER/report.html     beside the first of the folders' runs, or where ``out`` says

Runs that are unfinished or damaged are named in a line each. No network library is loaded.
"""

import base64
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from kaleidobert import io
from kaleidobert.app_zoo.inspect.pages import environment
from kaleidobert.app_zoo.report import content, runs
from kaleidobert.app_zoo.report.content import Picture, Report
from kaleidobert.configs import ReportConfig
from kaleidobert.errors import UserError
from kaleidobert.evaluators.report import tables
from kaleidobert.evaluators.report.claims import Claim

NAME = "report.html"
CARD_WIDTH = 118  # of the report card in a terminal
TEXT = 400_000  # bytes of a page beside its pictures, about
WIDTHS = (1600, 1200, 900, 640)  # of a chart or sheet, in pixels: the first with which all of them fit
QUALITY = 82  # of WebP


def dry_run(config: ReportConfig) -> None:
    """Names the runs that the page would show, those that it cannot, and where it would lie."""
    found = runs.find(config.runs)
    out = _out(config)
    io.check_folder(out.parent, "choose another place with out=...")
    print(f"{len(found.runs)} runs: {', '.join(run.name for run in found.runs)}")
    _print_problems(found.problems)
    print(f"the page would be {out}")


def run(config: ReportConfig) -> None:
    """Writes the page and prints its report card. Raises UserError where no run has finished."""
    out = _out(config)
    report = write(config.runs, out, config.max_megabytes)
    if report.card:
        print(f"report card: does the data support each idea?\n\n{show(report.card)}\n")
    _print_problems(report.problems)
    print(f"{len(report.glance)} runs with figures on one page ({out.stat().st_size / 1e6:.1f} MB); open this:\n  {out.absolute()}")


def write(folders: Sequence[Path], out: Path, max_megabytes: float = ReportConfig.max_megabytes) -> Report:
    """Writes the page of all runs below the folders to ``out``; returns what it says. Raises UserError where no run has finished."""
    report = content.gather(runs.find(folders), out.parent.absolute())
    io.write_text(out, render(report, max_megabytes))
    return report


def render(report: Report, max_megabytes: float) -> str:
    """Returns the HTML of a report, its pictures inside."""
    pictures = list(report.pictures())
    embedded, left_out = embed([picture.source for picture in pictures], max(0.0, max_megabytes * 1e6 - TEXT))
    by_picture = {id(picture): embedded[position] for position, picture in enumerate(pictures) if position in embedded}

    def image(picture: Picture) -> Embedded | None:
        return by_picture.get(id(picture))

    return environment(__package__).get_template("report.html").render(
        title=f"Report: {report.title}", report=report, image=image, show=tables.show, cells=content.cells, anchor=content.anchor,
        problems=[*report.problems, *left_out])


def show(claims: Sequence[Claim]) -> str:
    """Returns the report card as text."""
    lines = []
    for claim in claims:
        lines.append(f"{claim.verdict:10s}{claim.idea}: {claim.claim}")
        lines += textwrap.wrap(claim.measured, CARD_WIDTH, initial_indent=" " * 12, subsequent_indent=" " * 12)
    return "\n".join(lines)


def _out(config: ReportConfig) -> Path:
    if not config.runs:
        raise UserError("no run is named", "report", "folders of runs", "say kaleidobert report runs/quickstart")
    if config.out is None:
        return config.runs[0] / NAME
    return config.out if config.out.suffix in (".html", ".htm") else config.out / NAME


def _print_problems(lines: Sequence[str]) -> None:
    print("".join(f"note: {line}\n" for line in lines), end="")


# --- Pictures inside of the page: as WebP in data addresses, as wide as the size of the page allows


@dataclass(frozen=True)
class Embedded:
    """A picture for <img>. width, height: in pixels; original: its width before it was made smaller."""

    address: str
    width: int
    height: int
    original: int


def embed(pictures: Sequence[Path | Image.Image], room: float) -> tuple[dict[int, Embedded], list[str]]:
    """Returns ({position in ``pictures``: the picture}, a line for each that is left out).

    room: bytes that all addresses together may take; where they do not even at the least width, the largest are left out. A picture that
    cannot be read is left out, too.
    """
    opened, lines = _opened(pictures)
    made: dict[int, Embedded] = {}
    for width in WIDTHS:
        made = {position: _encoded(image, width) for position, image in opened.items()}
        if _size(made) <= room:
            break
    for position in sorted(made, key=lambda position: -len(made[position].address)):
        if _size(made) <= room:
            break
        del made[position]
        where = pictures[position]
        lines.append(f"{where if isinstance(where, Path) else 'a picture'}: left out, for the page would be too large (max_megabytes)")
    return made, lines


def _opened(pictures: Sequence[Path | Image.Image]) -> tuple[dict[int, Image.Image], list[str]]:
    opened, lines = {}, []
    for position, picture in enumerate(pictures):
        try:
            if isinstance(picture, Path):
                with Image.open(picture) as image:
                    opened[position] = image.convert("RGB")
            else:
                opened[position] = picture.convert("RGB")
        except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            lines.append(f"{picture}: damaged, no picture ({error})")
    return opened, lines


def _encoded(image: Image.Image, width: int) -> Embedded:
    original = image.width
    if image.width > width:
        image = image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY, method=2)
    return Embedded(f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}", image.width, image.height, original)


def _size(made: Mapping[int, Embedded]) -> int:
    return sum(len(one.address) for one in made.values())
