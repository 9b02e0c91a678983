"""``python -m kaleidobert.app_zoo.summary FOLDER``: one table over all finished runs below a folder, and where their pictures lie."""

import sys
from pathlib import Path
from typing import Any

from kaleidobert import files
from kaleidobert.evaluators import retrieval

PICTURES = ("sheet.png", "losses.png", "confusion.png", "ranks.png", "queries.png", "captions.png", "parts.png", "index.html")


def table(folder: Path) -> list[tuple[str, str, float, float | None]]:
    """Rows (task, metric, value, chance level) of every results.json below the folder."""
    rows = []
    for path in sorted(folder.rglob("results.json"), key=lambda p: p.stat().st_mtime):
        result = files.read_json(path)
        rows += _rows(result, (path.parent.parent if result.get("task") == "align" else path.parent).name)  # align/forced/results.json
    return rows


def pictures(folder: Path) -> list[Path]:
    """Pictures and pages below the folder."""
    return [path for name in PICTURES for path in sorted(folder.rglob(name))]


def show(folder: Path) -> str:
    """The table and the paths as text."""
    lines = [f"{'run':10s} {'task':34s} {'metric':12s} {'value':>8s} {'chance':>8s}"]
    for run, metric, value, chance in table(folder):
        task, _, name = metric.rpartition(" ")
        lines.append(f"{run:10s} {task:34s} {name:12s} {value:8.3f} {'' if chance is None else f'{chance:.3f}':>8s}")
    total = sum_of_ranks(folder)
    lines += [f"{'':10s} {'SumR: both directions, three ranks':34s} {'':12s} {total:8.1f}"] if total is not None else []
    return "\n".join([*lines, "", "pictures:", *(f"  {path}" for path in pictures(folder))])


def sum_of_ranks(folder: Path) -> float | None:
    """SumR where the folder has one retrieval run in each direction."""
    results = [files.read_json(path) for path in folder.rglob("results.json")]
    runs = {result["direction"]: result["metrics"] for result in results if result.get("task") == "retrieve"}
    return retrieval.sum_of_ranks(runs["i2t"], runs["t2i"]) if set(runs) == {"i2t", "t2i"} else None


def _rows(result: dict[str, Any], run: str) -> list[tuple[str, str, float, float | None]]:
    metrics = result.get("metrics", {})
    if result.get("task") == "pretrain":
        chance = result["baselines"]
        return [(run, f"{_task(name)} {name.rpartition('_')[2]}", value, chance.get(name)) for name, value in metrics.items()
                if name.endswith(("_accuracy", "_kl"))]
    if result.get("task") == "align":
        rows = [(run, f"captions {name}", value, None) for name, value in metrics.items() if name != "different_captions"]
        found = result["parts"].get("pointing")
        return rows + ([(run, "peaks of words in their parts share", found["found"]["sightings"]["value"],
                         found["chance"]["sightings"]["value"])] if found else [])
    if result.get("task") == "classify":
        what = f"{result['label']} from {result['modality']}"
        return [(run, f"{what} accuracy", metrics["accuracy"]["value"], metrics["chance"]),
                (run, f"{what} macro-F1", metrics["macro_f1_all"]["value"], None)]
    if result.get("task") == "caption":
        measures = {"bleu4": "BLEU-4", "rouge_l": "ROUGE-L", "cider_d": "CIDEr-D"}
        return [(run, f"captions, {result['mode']} {title}", metrics[name]["value"], None) for name, title in measures.items()]
    if result.get("task") == "retrieve":
        what = {"i2t": "image to text", "t2i": "text to image"}[result["direction"]]
        length = result["candidates"]["list_length"]
        return [(run, f"{what}, {length} candidates {name}", metrics[name]["value"], metrics[name]["chance"])
                for name in ("rank@1", "rank@5", "rank@10")]
    return []


def _task(name: str) -> str:
    task = name.rpartition("_")[0]
    return {"mlm": "masked words", "itm": "text belongs to picture"}.get(task, task)


if __name__ == "__main__":
    print(show(Path(sys.argv[1])))
