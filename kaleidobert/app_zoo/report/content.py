"""What a report says: plain values for its template, and the pictures that stand in it."""

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from kaleidobert.app_zoo.inspect import content as inspected
from kaleidobert.app_zoo.report import provenance
from kaleidobert.app_zoo.report.provenance import BankFacts, Comparison, Node, Origin, Surroundings
from kaleidobert.app_zoo.report.runs import Found, ReportedRun
from kaleidobert.configs import Sampling
from kaleidobert.datasets.bank import alignment as alignments
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.products import read_image
from kaleidobert.errors import UserError
from kaleidobert.evaluators.report import figures, plots, tables
from kaleidobert.evaluators.report.claims import Claim
from kaleidobert.evaluators.report.figures import Figure
from kaleidobert.evaluators.report.model_card import number
from kaleidobert.evaluators.report.results import NOT_KNOWN, Result, Value, head_name
from kaleidobert.evaluators.report.tables import Table

PRODUCTS = 3  # whose alignment is drawn
CAPTIONS = 9  # pictures with their captions
CONFUSIONS = 8  # the most frequent ones
THUMBNAIL = 240  # pixels of the longer side
PLOT, SHEET = 96 / plots.DPI, 1.0  # of the pixels of a file: the size at which its letters are as large as those around it
CHARTS = {  # {file of a run folder: (what it shows, its size)}
    "losses.png": ("Loss by task and step", PLOT),
    "confusion.png": ("Confusions: a row is the true class, a column what was predicted", PLOT),
    "ranks.png": ("Ranks of the right candidate, and how many lie within the first K", PLOT),
    "queries.png": ("Best and worst queries with their first candidates; the right one has a frame", SHEET),
    "captions.png": ("Captions beside pictures", SHEET),
    "parts.png": ("How often words find their part, beside what does not look", PLOT),
    "alignment.png": ("Links of words and patches in the whole bank", PLOT),
}
TITLES = {
    "catalogue check": ("The table", "What was read, and what of it was lost."),
    "align": ("Alignments", "Which words of a text are linked to which patches of the picture, and whether they lie on the part that the "
              "word names."),
    "pretrain": ("Pre-training", "What the network learnt to tell, on products that no training saw, beside the same without looking."),
    "classify": ("Labels", "How often the right class comes first."),
    "retrieve": ("Retrieval", "Where the right text, or picture, lies in a list of candidates."),
    "caption": ("Captions", "What the network writes about a picture, and what the catalogue says."),
    "evaluate": ("Answers of other models", "Counted from files."),
    "inspect": ("Inspected pictures", "A page for each, with patches, tokens, masks and predictions."),
    "ablate": ("Ablation", "The paper's Table 4."),
}


@dataclass(frozen=True)
class Picture:
    """A picture of the page, encoded later. size: at which it is shown, in its pixels; a phone scrolls it rather than make it smaller."""

    caption: str
    source: Path | Image.Image
    size: float = 0.6


@dataclass(frozen=True)
class Aligned:
    """A product with where its words are seen, and the links to the patches of each masked level."""

    image_id: str
    text: str
    maps: tuple[Picture, ...]
    links: tuple[Picture, ...]


@dataclass(frozen=True)
class Captioned:
    """A picture with its caption and the catalogue's text; picture: None where it is not there."""

    image_id: str
    picture: Picture | None
    caption: str
    reference: str


@dataclass(frozen=True)
class RunSection:
    """A run on the page. figures: rows of a table whose columns are ``beside``; confusions: (true, predicted, how often); pages: (title,
    relative address)."""

    run: ReportedRun
    title: str
    facts: tuple[tuple[str, str], ...]
    figures: tuple[Figure, ...]
    beside: tuple[str, ...]
    charts: tuple[Picture, ...]
    confusions: tuple[tuple[str, str, int], ...] = ()
    captions: tuple[Captioned, ...] = ()
    aligned: tuple[Aligned, ...] = ()
    pages: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class TaskSection:
    """The runs of one task. name: the anchor of the section."""

    name: str
    title: str
    lead: str
    runs: tuple[RunSection, ...]


@dataclass(frozen=True)
class Glance:
    """A row of the first table: a run, its most telling figure, and the best of what needs no such model."""

    run: str
    task: str
    metric: str
    value: str
    beside: str


@dataclass(frozen=True)
class Report:
    """Everything on the page, in its order. card: the claims; problems: lines."""

    title: str
    glance: tuple[Glance, ...]
    card: tuple[Claim, ...]
    tables: tuple[Table, ...]
    tasks: tuple[TaskSection, ...]
    comparisons: tuple[Comparison, ...]
    tree: tuple[Node, ...]
    banks: tuple[BankFacts, ...]
    origins: tuple[Origin, ...]
    surroundings: tuple[Surroundings, ...]
    total_time: str
    problems: tuple[str, ...]

    def pictures(self) -> Iterator[Picture]:
        """Yields all pictures of the page, in their order."""
        for section in (run for task in self.tasks for run in task.runs):
            yield from section.charts
            yield from (one.picture for one in section.captions if one.picture)
            for one in section.aligned:
                yield from (*one.maps, *one.links)


def gather(found: Found, out: Path) -> Report:
    """Returns the report of the runs. out: the folder of the page, from which its links start."""
    in_tables = [run.result for run in found.runs if run.in_tables]
    tasks: dict[str, list[RunSection]] = {}
    problems = list(found.problems)
    for run in found.runs:
        tasks.setdefault(run.task, []).append(_section(run, found, out, problems))
    shown = [TaskSection(name.replace(" ", "-"), *TITLES.get(name, (name.capitalize(), "")), tuple(each)) for name, each in tasks.items()
             if any(map(_says_something, each))]
    return Report(
        title=(found.root.name or "runs") if len(found.runs) > 1 else found.runs[0].name,
        glance=tuple(_glance(run) for run in found.runs if figures.figures(run.result)),
        card=tuple(claim for run in found.runs for claim in run.claims), tables=tuple(tables.tables(_without_folders(in_tables))),
        tasks=tuple(shown),
        comparisons=tuple(provenance.compare(found.runs)), tree=tuple(provenance.tree(found.runs)),
        banks=tuple(provenance.banks(found.runs, found.root)), origins=tuple(provenance.origins(found.runs)),
        surroundings=tuple(provenance.surroundings(found.runs)), total_time=provenance.total_time(found.runs), problems=tuple(problems))


def _without_folders(results: Sequence[Result]) -> list[Result]:
    """Returns the results with the ends of their banks' folders: a page does not say where they lie on somebody's disk. Folders with equal
    ends stay as they are."""
    folders = {str(result.find("bank", "folder")) for result in results}
    ends = {folder: "/".join(Path(folder).parts[-2:]) for folder in folders}
    short = {folder: end for folder, end in ends.items() if list(ends.values()).count(end) == 1}

    def shortened(result: Result) -> Result:
        bank, folder = result.group("bank"), str(result.find("bank", "folder"))
        return replace(result, values={**result.values, "bank": {**bank, "folder": short[folder]}}) if folder in short and bank else result

    return [shortened(result) for result in results]


def anchor(name: str) -> str:
    """Returns the name of a run as the name of a place on the page.

    >>> anchor("align/word presence")
    'run-align-word-presence'
    """
    return "run-" + "".join(letter if letter.isalnum() else "-" for letter in name)


def _says_something(section: RunSection) -> bool:
    return any((section.figures, section.charts, section.captions, section.aligned, section.pages, section.confusions))


def _glance(run: ReportedRun) -> Glance:
    first, model = figures.figures(run.result)[0], run.result.model()
    beside = f"{number(first.beside[first.rival])}: {first.rival}" if first.rival else ""
    what = [TITLES.get(run.task, (run.task, ""))[0]] + ([head_name(model)] if model.get("head") != NOT_KNOWN else [])
    return Glance(run.name, ", ".join(what), first.metric, number(first.value), beside)


def _section(run: ReportedRun, found: Found, out: Path, problems: list[str]) -> RunSection:
    own = figures.figures(run.result)
    beside = tuple(dict.fromkeys(name for one in own for name in one.beside))
    captions = _captions(run, found) if run.task == "caption" else ()
    left_out = {"captions.png"} if captions and all(one.picture for one in captions) else set()
    charts = [Picture(title, run.folder / name, size) for name, (title, size) in CHARTS.items()
              if (run.folder / name).is_file() and name not in left_out]
    charts += [Picture(f"{CHARTS['losses.png'][0]}, {part.name.replace('_', ' ')}", part / "losses.png", PLOT)
               for part in run.parts if (part / "losses.png").is_file()]
    aligned = _aligned(run, found, problems) if run.task == "align" else ()
    address = _relative(run.folder / "index.html", out)
    return RunSection(run, run.name, tuple(_facts(run)), tuple(own), beside, tuple(charts), tuple(_confusions(run)), captions, aligned,
                      ((address, address),) if address else ())


def _facts(run: ReportedRun) -> Iterator[tuple[str, str]]:
    result, model = run.result, run.result.model()
    if run.task == "catalogue check":
        yield from _check(result)
    if result.group("model"):
        yield "head", head_name(model)
        yield "trained", str(model.get("trained", NOT_KNOWN))
    if model.get("masking"):
        yield "masks", str(model["masking"])
    for key, title in (("label", "label"), ("modality", "from"), ("direction", "direction"), ("protocol", "protocol"), ("mode", "mode")):
        if value := result.find(key):
            yield title, {"i2t": "a picture asks for its text", "t2i": "a text asks for its picture",
                          **tables.MODALITIES}.get(str(value), str(value))
    counted = {"examples": ("metrics", "n"), "queries": ("metrics", "queries"), "pictures": ("pictures",)}
    for title, keys in counted.items():
        if isinstance(value := result.find(*keys), int):
            yield title, f"{value:,}"
    if isinstance(length := result.find("metrics", "list_length", "max"), int):
        yield "candidates", f"{length:,} a query"
    if isinstance(steps := result.find("steps"), int):
        yield "steps", f"{steps:,}"


def _check(result: Result) -> Iterator[tuple[str, str]]:
    """Yields what `kaleidobert catalogue check` found; its own page has the rest."""
    facts = result.group("facts")
    for key in ("rows", "pictures", "products", "different_texts"):
        if isinstance(facts.get(key), int):
            yield key.replace("_", " "), f"{facts[key]:,}"
    if isinstance(splits := facts.get("splits"), Mapping):
        yield "splits", ", ".join(f"{count:,} {name}" for name, count in splits.items())
    findings = result.find("findings")
    if isinstance(findings, list):
        counted = Counter(str(one.get("severity")) for one in findings if isinstance(one, Mapping))
        yield "findings", ", ".join(f"{count} {name}" for name, count in counted.items()) or "none"


def _relative(path: Path, out: Path) -> str:
    """Returns the address of a page below the folder of the report; "" of one that is not there, or lies elsewhere."""
    return path.relative_to(out).as_posix() if path.is_file() and path.is_relative_to(out) else ""


def _confusions(run: ReportedRun) -> list[tuple[str, str, int]]:
    """Returns the most frequent mistakes of predictions.csv."""
    path = run.folder / "predictions.csv"
    if run.task != "classify" or not path.is_file():
        return []
    try:
        with open(path, encoding="utf-8", newline="") as file:
            wrong = Counter((row["label"], row["prediction"]) for row in csv.DictReader(file) if row["label"] != row["prediction"])
    except (OSError, KeyError, UnicodeDecodeError, csv.Error):
        return []
    return [(label, guess, count) for (label, guess), count in wrong.most_common(CONFUSIONS)]


def _captions(run: ReportedRun, found: Found) -> tuple[Captioned, ...]:
    """Returns captions of pictures spread over the split, with the pictures where the bank's table says where they are."""
    try:
        lines = [json.loads(line) for line in (run.folder / "captions.jsonl").read_text(encoding="utf-8").splitlines()]
        chosen = [lines[number] for number in np.unique(np.linspace(0, len(lines) - 1, CAPTIONS).round().astype(int))] if lines else []
        folder = provenance.find_bank(run.result.group("bank"), found.root)
        paths = {row["image_id"]: row["image_path"] for row in Bank(folder).table} if folder else {}
        return tuple(Captioned(line["image_id"], _thumbnail(paths.get(line["image_id"])), line["caption"], line["references"][0])
                     for line in chosen)
    except (OSError, UserError, ValueError, KeyError, TypeError, IndexError):  # captions.png has them, too
        return ()


def _thumbnail(path: str | None) -> Picture | None:
    if path is None:
        return None
    try:
        image = Image.fromarray(read_image(path))
    except UserError:
        return None
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return Picture("", image)


def _aligned(run: ReportedRun, found: Found, problems: list[str]) -> tuple[Aligned, ...]:
    """Returns products with their heat maps and links; those of the inspected pictures, else the first of the validation split."""
    folder = provenance.find_bank(run.result.group("bank"), found.root)
    try:
        bank = Bank(folder) if folder else None
        info = alignments.info(bank) if bank else None
        if bank is None or info is None or info.get("mode") != run.result.find("mode"):
            return ()  # the bank is gone, or its links are those of another run
        linked = inspected.BankAlignment(bank, run.folder if (run.folder / "maps.npy").is_file() else None)
        return tuple(_product(linked, bank, row) for row in _rows(bank, found))
    except UserError as error:
        problems.append(f"{run.name}: no product is drawn with its links ({error.what})")
        return ()


def _rows(bank: Bank, found: Found) -> list[int]:
    known = {row["image_id"]: number for number, row in enumerate(bank.table)}
    named = [known[page["image_id"]] for run in found.runs if run.task == "inspect" for page in run.result.find("pages") or []
             if isinstance(page, Mapping) and page.get("image_id") in known]
    others = [number for number, row in enumerate(bank.table) if row["split"] == "val"] or list(range(bank.size))
    return (named or others[:: max(1, len(others) // PRODUCTS)])[:PRODUCTS]


def _product(linked: inspected.BankAlignment, bank: Bank, row: int) -> Aligned:
    entry = bank.table[row]
    photo = inspected.Photo(entry["image_id"], read_image(entry["image_path"]), tuple(entry["box"]), None, bank.square)
    made = inspected.build_alignment(linked, bank.levels, row, photo, Sampling(masking="random"), 0)
    return Aligned(entry["image_id"], entry["text"], tuple(Picture(one.caption, one.image) for one in made.maps),
                   tuple(Picture(one.caption, one.image) for one in made.links))


def cells(figure: Figure, beside: Sequence[str]) -> list[Value | None]:
    """Returns the value of a figure and those beside it, in the order of the columns."""
    return [figure.value, *(figure.beside.get(name) for name in beside)]
