"""Tables of finished runs: the paper's Tables 2 and 3 with its rows beside ours (``kaleidobert tables``), and a plain table of figures:

    python -m kaleidobert.app_zoo.tables FOLDER
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaleidobert import io
from kaleidobert.configs import TablesConfig
from kaleidobert.errors import UserError
from kaleidobert.evaluators import retrieval
from kaleidobert.evaluators.report.results import PLAIN_HEAD, Counted, Result, source_of
from kaleidobert.evaluators.report.tables import TASKS, markdown, tables, task_with_tables, to_json

PICTURES = ("sheet.png", "losses.png", "confusion.png", "ranks.png", "queries.png", "captions.png", "parts.png", "index.html")
SUM = "SumR"
HEADS = ("run", "head", "trained", "task", "metric", "value", "chance")


def write(run: Path, results: Mapping[str, Any]) -> Path:
    """Writes table.md into a run's folder, the tables that its own results fill; returns its path.

    results: as in results.json. Raises UserError where an entry is missing.
    """
    path = run / "table.md"
    result = Result(run.name, str(run / "results.json"), results, source_of(results))
    io.write_text(path, "\n".join(map(markdown, tables([result]))))
    return path


def dry_run(config: TablesConfig) -> None:
    """Names the runs whose results fill the tables, and those that belong into none of them."""
    results = _read(config)
    if config.out is not None:
        io.check_folder(config.out, "choose another folder with out=...")
    made = tables(results)
    print(f"{len(results)} results files: {'; '.join(table.title for table in made)}")
    for result in results:
        print(f"  {task_with_tables(result)}: {Path(result.where).parent}")


def run(config: TablesConfig) -> None:
    """Prints the tables as Markdown, or writes tables.md and tables.json into ``out``."""
    results = _read(config)
    made = tables(results)
    text = "\n".join(map(markdown, made))
    if config.out is None:
        print(text, end="")
        return
    with io.locked(config.out, wait=10, name=".tables.md.lock"):  # so that both files hold the same tables
        io.write_text(config.out / "tables.md", text)
        io.write_json(config.out / "tables.json", {"runs": [str(Path(result.where).parent) for result in results],
                                                      "tables": [to_json(table) for table in made]})
    print(f"{len(results)} runs in {len(made)} tables, the paper's figures beside them:\n  {config.out / 'tables.md'}\n"
          f"  {config.out / 'tables.json'}")


def _read(config: TablesConfig) -> list[Result]:
    """Returns the results below the folders, each once, in the order of their names; a name is what sets a path apart from the others."""
    paths: dict[Path, None] = {}
    for folder in config.runs:
        if not folder.is_dir():
            raise UserError("there is no such folder", str(folder), "the folder of a run, or one that holds such folders")
        own = folder / "results.json"
        below = [own] if own.is_file() else sorted(folder.rglob("results.json"))
        if not below:
            raise UserError("no run below this folder has finished", str(folder), "a results.json", "name the folder of a finished run")
        paths |= dict.fromkeys(path.absolute() for path in below)
    if not paths:
        raise UserError("no run is named", "tables", "folders of runs", "say kaleidobert tables runs/i2t runs/t2i")
    shared = Path(os.path.commonpath([path.parent.parent for path in paths]))
    results: list[Result] = []
    others: list[Result] = []
    for path in paths:
        values = io.read_json(path)
        result = Result(path.parent.relative_to(shared).as_posix(), str(path), values, source_of(values))
        (results if task_with_tables(result) else others).append(result)
    if others:
        print("not in these tables: " + ", ".join(f"{result.name} ({result.text('task')})" for result in others), file=sys.stderr)
    if not results:
        raise UserError("none of the runs has a place in these tables", str(shared), f"results of {', '.join(TASKS)}")
    return results


# --- The plain table of all figures


@dataclass(frozen=True)
class Line:
    """A figure with its run, head, training, task and metric, and its chance level where it has one."""

    run: str
    head: str
    trained: str
    task: str
    metric: str
    value: float
    chance: float | None = None

    def cells(self) -> tuple[str, ...]:
        """Returns the line as text, in the order of HEADS."""
        value = f"{self.value:.1f}" if self.metric == SUM else f"{self.value:.3f}"
        return self.run, self.head, self.trained, self.task, self.metric, value, "" if self.chance is None else f"{self.chance:.3f}"


def summary(folder: Path) -> list[Line]:
    """Returns the figures of every results.json below the folder, run by run in the order of finishing, then the sums of ranks."""
    results = finished(folder)
    return [line for result in results for line in _lines(result)] + sums_of_ranks(results)


def pictures(folder: Path) -> list[Path]:
    """Returns the pictures and pages below the folder."""
    return [path for name in PICTURES for path in sorted(folder.rglob(name))]


def show(folder: Path) -> str:
    """Returns the summary, remarks and the paths of the pictures as text."""
    rows = [HEADS, *(line.cells() for line in summary(folder))]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row[:5], widths)),
                        *(cell.rjust(width) for cell, width in zip(row[5:], widths[5:]))]).rstrip() for row in rows]
    remarks = [remark for result in finished(folder) for remark in _remarks(result)]
    return "\n".join([*lines, *([""] if remarks else []), *remarks, "", "pictures:", *(f"  {path}" for path in pictures(folder))])


def sums_of_ranks(results: list[Result]) -> list[Line]:
    """Returns the SumR of every model that has one retrieval run in each direction."""
    by_model: dict[tuple[str, str], dict[str, list[tuple[Counted, Mapping[str, Any]]]]] = {}
    for result in results:
        for model in result.counted() if result.find("task") == "retrieve" else []:
            if model.keys and result.need(*model.keys):
                sides = by_model.setdefault((model.name, model.head), {})
                sides.setdefault(result.text("direction"), []).append((model, result.group(*model.keys)))
    lines = []
    for sides in by_model.values():
        if set(sides) == {"i2t", "t2i"} and all(len(each) == 1 for each in sides.values()):
            (first, one), (second, other) = sides["i2t"][0], sides["t2i"][0]
            trained = " | ".join(dict.fromkeys([first.trained, second.trained]))
            lines.append(Line("", first.head, trained, "both directions, three ranks", SUM, retrieval.sum_of_ranks(one, other)))
    return lines


def finished(folder: Path) -> list[Result]:
    """Returns every results.json below the folder, the oldest first; its name is the folder of the run."""
    results = []
    for path in sorted(folder.rglob("results.json"), key=lambda p: p.stat().st_mtime):
        values = io.read_json(path)
        if not isinstance(values, dict):
            raise UserError(f"the results are a {type(values).__name__}", str(path), "names and values", "evaluate again")
        run = path.parent.parent if values.get("task") == "align" else path.parent  # align/teacher_forced/results.json
        results.append(Result(run.name, str(path), values))
    return results


def _lines(result: Result) -> list[Line]:
    """Returns a line per figure, of the run's own model and, for a head of ours, of its parts and of the plain head."""
    lines = []
    for model in result.counted():
        if model.keys:
            lines += [Line(result.name, model.head, model.trained, *figure) for figure in _figures(result, result.find(*model.keys) or {})]
    return lines


def _remarks(result: Result) -> list[str]:
    """Returns lines on models beside a head of ours that are not measured, and on how hard the lists of a retrieval are."""
    remarks = []
    for model in result.counted():
        if not model.keys:
            why = result.find("plain", "why") if model.name == PLAIN_HEAD else None
            remarks.append(f"{result.name}: {model.name} not measured" + (f": {why}" if why else ""))
    fraction = result.find("candidates", "share_same_subcategory")
    if isinstance(fraction, float):
        remarks.append(f"{result.name}: of the other candidates {fraction:.1%} are of the query's own subcategory (mean over queries)")
    return remarks


def _figures(result: Result, metrics: Mapping[str, Any]) -> list[tuple[str, str, float, float | None]]:
    """Returns (task, metric, value, chance level) per figure of one model of a result."""
    task, values = result.find("task"), result.values
    if task == "pretrain":
        chance = values["baselines"]
        return [(_task(name), name.rpartition("_")[2], value, chance.get(name)) for name, value in metrics.items()
                if name.endswith(("_accuracy", "_kl"))]
    if task == "align":
        figures: list[tuple[str, str, float, float | None]]
        what = "words seen in the picture" if values["mode"] == "word_presence" else "captions"
        figures = [(what, name, value, result.find("baselines", "frequencies", name)) for name, value in metrics.items()
                   if name != "different_captions"]
        if result.find("parts", "pointing") is None:
            return figures
        value, chance = (result.need("parts", "pointing", name, "sightings", "value") for name in ("alignment", "chance"))
        return figures + [(f"peaks of words in their parts, {values['mode']}", "share", value, chance)]
    if task == "classify":
        what = f"{values['label']} from {values['modality']}"
        return [(what, "accuracy", metrics["accuracy"]["value"], metrics["chance"]),
                (what, "macro-F1", metrics["macro_f1_all"]["value"], None)]
    if task == "caption":
        measures = {"bleu4": "BLEU-4", "rouge_l": "ROUGE-L", "cider_d": "CIDEr-D"}
        return [(f"captions, {values['mode']}", title, metrics[name]["value"], None) for name, title in measures.items()]
    if task == "retrieve" and metrics:
        what = {"i2t": "image to text", "t2i": "text to image"}[values["direction"]]
        return [(f"{what}, {metrics['list_length']['max']} candidates", name, metrics[name]["value"], metrics[name]["chance"])
                for name in ("rank@1", "rank@5", "rank@10")]
    return [tuple(figure) for figure in values.get("figures", [])]  # of training.run_task


def _task(name: str) -> str:
    task = name.rpartition("_")[0]
    return {"mlm": "masked words", "itm": "text belongs to picture"}.get(task, task)


if __name__ == "__main__":
    print(show(Path(sys.argv[1])))
