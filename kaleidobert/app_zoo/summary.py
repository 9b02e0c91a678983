"""``python -m kaleidobert.app_zoo.summary FOLDER``: one table over all finished runs below a folder, and where their pictures lie."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaleidobert import io
from kaleidobert.evaluators import retrieval
from kaleidobert.evaluators.report.tables_read import PLAIN_HEAD, Counted, Result

PICTURES = ("sheet.png", "losses.png", "confusion.png", "ranks.png", "queries.png", "captions.png", "parts.png", "index.html")


SUM = "SumR"
HEADS = ("run", "head", "trained", "task", "metric", "value", "chance")


@dataclass(frozen=True)
class Line:
    """A figure: of which run, head and training, of which task, what it is, and its chance level where it has one."""

    run: str
    head: str
    trained: str
    task: str
    metric: str
    value: float
    chance: float | None = None

    def cells(self) -> tuple[str, ...]:
        """As text, in the order of HEADS."""
        value = f"{self.value:.1f}" if self.metric == SUM else f"{self.value:.3f}"
        return self.run, self.head, self.trained, self.task, self.metric, value, "" if self.chance is None else f"{self.chance:.3f}"


def table(folder: Path) -> list[Line]:
    """The figures of every results.json below the folder, run by run in the order in which they finished, then the sums of ranks."""
    found = _results(folder)
    return [line for result in found for line in _lines(result)] + sums_of_ranks(found)


def pictures(folder: Path) -> list[Path]:
    """Pictures and pages below the folder."""
    return [path for name in PICTURES for path in sorted(folder.rglob(name))]


def show(folder: Path) -> str:
    """The table, what no figure says, and the paths of the pictures, as text."""
    rows = [HEADS, *(line.cells() for line in table(folder))]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row[:5], widths)),
                        *(cell.rjust(width) for cell, width in zip(row[5:], widths[5:]))]).rstrip() for row in rows]
    remarks = [remark for result in _results(folder) for remark in _remarks(result)]
    return "\n".join([*lines, *([""] if remarks else []), *remarks, "", "pictures:", *(f"  {path}" for path in pictures(folder))])


def sums_of_ranks(results: list[Result]) -> list[Line]:
    """SumR of every model that has one retrieval run in each direction."""
    found: dict[tuple[str, str], dict[str, list[tuple[Counted, Mapping[str, Any]]]]] = {}
    for result in results:
        for model in result.counted() if result.find("task") == "retrieve" else []:
            if model.keys and result.need(*model.keys):
                sides = found.setdefault((model.name, model.head), {})
                sides.setdefault(result.text("direction"), []).append((model, result.group(*model.keys)))
    lines = []
    for sides in found.values():
        if set(sides) == {"i2t", "t2i"} and all(len(each) == 1 for each in sides.values()):
            (first, one), (second, other) = sides["i2t"][0], sides["t2i"][0]
            trained = " | ".join(dict.fromkeys([first.trained, second.trained]))
            lines.append(Line("", first.head, trained, "both directions, three ranks", SUM, retrieval.sum_of_ranks(one, other)))
    return lines


def _results(folder: Path) -> list[Result]:
    """Of every results.json below the folder, the oldest first; named by the folder of its run."""
    found = []
    for path in sorted(folder.rglob("results.json"), key=lambda p: p.stat().st_mtime):
        values = io.read_json(path)
        place = path.parent.parent if values.get("task") == "align" else path.parent  # align/teacher_forced/results.json
        found.append(Result(place.name, str(path), values))
    return found


def _lines(result: Result) -> list[Line]:
    """A line per figure, of the run's own model and of what stands beside a head of ours."""
    lines = []
    for model in result.counted():
        if model.keys:
            lines += [Line(result.name, model.head, model.trained, *figure) for figure in _figures(result, result.find(*model.keys) or {})]
    return lines


def _remarks(result: Result) -> list[str]:
    """What stands beside a head of ours and is not measured, and how hard the lists of a retrieval are."""
    told = []
    for model in result.counted():
        if not model.keys:
            why = result.find("plain", "why") if model.name == PLAIN_HEAD else None
            told.append(f"{result.name}: {model.name} not measured" + (f": {why}" if why else ""))
    share = result.find("candidates", "share_same_subcategory")
    if isinstance(share, float):
        told.append(f"{result.name}: of the other candidates {share:.1%} are of the query's own subcategory (mean over queries)")
    return told


def _figures(result: Result, metrics: Mapping[str, Any]) -> list[tuple[str, str, float, float | None]]:
    """(task, metric, value, chance level) of one model of a result."""
    task, values = result.find("task"), result.values
    if task == "pretrain":
        chance = values["baselines"]
        return [(_task(name), name.rpartition("_")[2], value, chance.get(name)) for name, value in metrics.items()
                if name.endswith(("_accuracy", "_kl"))]
    if task == "align":
        rows = [("captions", name, value, None) for name, value in metrics.items() if name != "different_captions"]
        found = values["parts"].get("pointing")
        return rows + ([("peaks of words in their parts", "share", found["found"]["sightings"]["value"],
                         found["chance"]["sightings"]["value"])] if found else [])
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
    return [tuple(figure) for figure in values.get("figures", [])]  # of app_zoo.fine_tuning


def _task(name: str) -> str:
    task = name.rpartition("_")[0]
    return {"mlm": "masked words", "itm": "text belongs to picture"}.get(task, task)


if __name__ == "__main__":
    print(show(Path(sys.argv[1])))
