"""``kaleidobert catalogue check``: what a table holds, what of it is lost, one page, and a configuration that reads it."""

import json
import shlex
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageDraw

from kaleidobert import configs, io
from kaleidobert.app_zoo.catalogue.examination import MEANINGS, Examination, Finding, digest, examine, identity, state
from kaleidobert.app_zoo.inspect import pages
from kaleidobert.configs.catalogue import CatalogueCheckConfig
from kaleidobert.configs.data import Columns, Foreground
from kaleidobert.datasets.bank import builder
from kaleidobert.datasets.products import Product, read_image, stamp
from kaleidobert.datasets.sources import reading
from kaleidobert.errors import UserError
from kaleidobert.model_zoo import foreground_net
from kaleidobert.preprocessors import foreground

WIDTH = 118
THUMBNAIL = 150  # longer side of a picture of the contact sheet
BOX = (0, 114, 178)
WHOLE = "(whole)"  # of a picture in which no product was found
LINES = 40  # findings that are printed; the page has all


def dry_run(config: CatalogueCheckConfig) -> None:
    """Prints what the table holds; opens one picture and writes nothing."""
    io.check_folder(config.folder / "check", "choose another folder with run=...")
    own = examine(config.source, pictures=1)
    print(columns(own))
    print(f"results: {config.folder / 'check'}")


def run(config: CatalogueCheckConfig) -> None:
    """Opens the pictures, prints what was found, and writes the page, the configuration and the groups into the folder ``check``."""
    folder = config.folder / "check"
    io.check_folder(folder, "choose another folder with run=...")
    before = state(config.source)  # before the table is read: what changes while it is counts as a change
    own = examine(config.source, config.pictures)
    sheet = contact_sheet(own, config.sheet)
    write(folder, own, sheet, {"config": identity(config), "table": before})
    print(columns(own))
    print()
    print(findings(own.findings))
    used = len(own.products)
    unopened = len(own.reading.products) - own.opened - len(own.reading.absent)
    print(f"\n{own.reading.rows:,} rows read: {used:,} pictures can be used, {len(own.reading.skipped) + len(own.faults):,} cannot"
          + (f"; {unopened:,} were not opened" if unopened > 0 else ""))
    print(f"  page: {folder / 'index.html'}")
    if not used:
        raise UserError("no picture can be used", str(config.source.table), "pictures that can be read, of the rows of the table",
                        "mend what is listed above, and check again")
    print(f"  a configuration that reads it: kaleidobert records {shlex.quote(str(folder / 'records.yaml'))}\n"
          f"  all of it: {command(config)}")


def command(config: CatalogueCheckConfig) -> str:
    """Returns the command that goes on from a check, with the words that decide what it reads and where it writes."""
    plain, own = configs.to_dict(type(config.source)(config.source.table, Columns("", "", ()))), configs.to_dict(config.source)
    words = [str(config.source.table), *(f"source.{name}={json.dumps(value, ensure_ascii=False)}" for name, value in _changed(plain, own))]
    if config.run is not None:
        words.append(f"run={json.dumps(str(config.run), ensure_ascii=False)}")
    return f"kaleidobert catalogue run {' '.join(map(shlex.quote, words))}"


def _changed(plain: Mapping[str, Any], own: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (key, value) of what is another value than in ``plain``."""
    for name, value in own.items():
        if isinstance(value, Mapping) and plain.get(name):
            yield from _changed(plain[name], value, f"{prefix}{name}.")
        elif value != plain.get(name):
            yield prefix + name, value


def write(folder: Path, own: Examination, sheet: list[pages.Figure], made_of: Mapping[str, Any]) -> None:
    """Writes what was found into a folder. made_of: the configuration, and the state of the table."""
    facts = own.facts()
    numbers = [("rows", f"{facts['rows']:,}"), ("pictures", f"{facts['pictures']:,} of {facts['products']:,} products"),
               ("splits", ", ".join(f"{split} {count:,}" for split, count in facts["splits"].items())),
               ("words of a text", f"{facts['words']['mean']:.1f} on average, {facts['words']['p95']:.0f} at most in 95%"),
               ("different texts", f"{facts['different_texts']:,}")]
    io.write_text(folder / "index.html", pages.catalogue_check(own.source.table.name, numbers, own, MEANINGS, sheet))
    io.write_json(folder / "groups.json", _all_groups(own))
    io.write_text(folder / "records.yaml", records(folder, own))
    io.write_json(folder / "results.json", {
        "task": "catalogue check", "source": configs.to_dict(own.source), "found": own.found, "facts": facts, **made_of,
        "products": digest(own),
        "columns": [dict(zip(("key", "column", "why", "first"), row)) for row in own.columns],
        "findings": [vars(one) for one in own.findings],
        "labels": {name: {"train": dict(one.train), "rare": one.rare, "only_val": one.only_val} for name, one in own.labels.items()}})


def columns(own: Examination) -> str:
    """Returns what each column holds, with its first cells, as text."""
    lines = [*own.found]
    widths = [max(len(row[place]) for row in own.columns) for place in (0, 1)]
    for key, column, why, first in own.columns:
        lines.append(f"  {key:{widths[0]}s}  {column:{widths[1]}s}  {first}" + (f"  ({why})" if why else ""))
    return "\n".join(lines)


def findings(found: list[Finding]) -> str:
    """Returns the findings as text, those that lose the most first."""
    lines = []
    for severity, meaning in MEANINGS.items():
        own = [one for one in found if one.severity == severity]
        lines += [f"{severity}: {meaning}"] * bool(own)
        for one in own:
            words = f"{one.count:,} x {one.what}" if one.count and (severity != "note" or one.examples) else one.what
            words += f": {', '.join(one.examples)}" if one.examples else ""
            words += f"; to mend: {one.fix}" if one.fix else ""
            lines += textwrap.wrap(words, WIDTH, initial_indent="  ", subsequent_indent="    ", break_long_words=False)
    if len(lines) > LINES:
        lines[LINES:] = [f"  ... and {len(lines) - LINES:,} lines more, on the page"]
    return "\n".join(lines) or "nothing was found that is wrong"


def records(folder: Path, own: Examination) -> str:
    """Returns the YAML of ``kaleidobert records`` that reads the catalogue."""
    defaults = configs.to_dict(type(own.source)(own.source.table, own.source.columns))
    source: dict[str, Any] = {name: value for name, value in configs.to_dict(own.source).items() if value != defaults[name]}
    source["table"] = str(own.source.table.absolute())
    if own.source.images is not None:
        source["images"] = str(own.source.images.absolute())
    source["columns"] = configs.to_dict(own.source.columns)  # all of them: those of the base are another catalogue's
    if own.joined or own.source.groups:
        source["groups"] = str((folder / "groups.json").absolute())
    content = {"base": "catalogue_small/records", "bank": str((folder.parent / "bank").absolute()), "source": source}
    return "# written by kaleidobert catalogue check: the columns as it took them\n" + yaml.safe_dump(content, sort_keys=False,
                                                                                                     allow_unicode=True)


def _all_groups(own: Examination) -> dict[str, str]:
    """Returns {group: the group that it belongs to}, those that the configuration joins already included."""
    given = reading.joined_groups(own.source.groups) if own.source.groups else {}
    return {group: own.joined.get(other, other) for group, other in given.items()} | own.joined


def contact_sheet(own: Examination, count: int) -> list[pages.Figure]:
    """Returns pictures from all over the catalogue, each with the box in which the product was found."""
    there = [product for product in own.products if stamp(product.image_path) is not None]
    chosen = there[:: max(1, len(there) // count)][:count] if count else []
    if not chosen:
        return []
    segment = builder.segmenter(Foreground(), foreground_net.build)
    shown = [figure for product in chosen if (figure := _figure(product, segment)) is not None]
    whole = sum(figure.caption.endswith(WHOLE) for figure in shown)
    if whole:
        own.findings.append(Finding("weak", f"pictures of {len(shown)} looked at in which no product was found: they are taken whole",
                                    whole))
    return shown


def _figure(product: Product, segment: Any) -> pages.Figure | None:
    try:
        image = read_image(product.image_path)
    except UserError:
        return None
    found = foreground.find(image, segment)
    picture = Image.fromarray(image)
    scale = THUMBNAIL / max(picture.size)
    picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    draw = ImageDraw.Draw(picture)
    draw.rectangle([int(edge) for edge in np.clip(np.array(found.box) * scale, 0, THUMBNAIL - 1)], outline=BOX, width=2)
    return pages.Figure(product.image_id + (f" {WHOLE}" if found.fallback else ""), picture)
