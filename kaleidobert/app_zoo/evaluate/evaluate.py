"""``kaleidobert evaluate``: count what anyone's model answered; scores of retrieval, predicted classes, captions."""

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from kaleidobert import io
from kaleidobert.app_zoo import tables
from kaleidobert.app_zoo.evaluate import captions, predictions, scores
from kaleidobert.configs import EvaluateConfig
from kaleidobert.configs.addresses import written
from kaleidobert.datasets.bank.bank import sha256
from kaleidobert.engines.run_folder import Run, check_folder
from kaleidobert.errors import UserError
from kaleidobert.evaluators.report.results import NOT_KNOWN, head_name
from kaleidobert.evaluators.report.tables import TASKS

PARTS = {"scores": scores, "predictions": predictions, "captions": captions}
READS = {  # keys that only some parts read: elsewhere they would be ignored without a word
    "scores": ("direction", "columns", "candidates", "protocol", "counting", "other_direction", "texts", "against", "identical_texts",
               "data", "subcategory", "permutations"),
    "predictions": ("prediction_columns", "label", "modality", "trained_classes", "against", "data", "permutations"),
    "captions": ("references", "against", "permutations")}
INPUTS = ("scores", "candidates", "other_direction", "texts", "predictions", "trained_classes", "captions", "references", "against")
OF_RUNS = ("scores.jsonl", "result_img2txt.txt", "result_txt2img.txt", "predictions.csv", "captions.jsonl", "captions_coco.json")
WRITTEN = ("results.json", "table.md", "scores.jsonl", "ranks.png", "queries.png", "confusion.png", "classes.csv")


def dry_run(config: EvaluateConfig) -> None:
    """Read and check all files, print sizes."""
    check_folder(config.run, config)
    _, part = _part(config)
    print(part.describe_inputs(part.read(config)))


def run(config: EvaluateConfig) -> None:
    """Count, and write the run folder."""
    check_folder(config.run, config)
    name, part = _part(config)
    material = part.read(config)
    folder = Run(config.run, config)  # claimed when nothing is left to refuse
    results = {"model": _model(getattr(config, name)), **part.evaluate(config, material)}
    results["inputs"] = _inputs(config)
    results["seed"] = config.seed
    folder.results(results, config)
    if results["task"] in TASKS:
        tables.write(config.run, results)
    print(f"head: {head_name(results['model'])}; trained: {results['model']['trained']}")
    print("\n".join([*part.lines(results), *(f"note: {note}" for note in results.get("notes", []))]))
    print(f"run folder: {config.run}\n  {', '.join(name for name in WRITTEN if (config.run / name).is_file())}")


def _part(config: EvaluateConfig) -> tuple[str, ModuleType]:
    """(what is evaluated, the module that does it); UserError for a key that it does not read."""
    name = next(name for name in PARTS if getattr(config, name) is not None)
    plain = EvaluateConfig(config.run, **{key: getattr(config, key) for key in (name, "references")})
    for key in sorted({key for keys in READS.values() for key in keys} - set(READS[name])):
        if getattr(config, key) != getattr(plain, key):
            raise UserError(f"{key} is set, and nothing reads it beside {name}", "evaluate", f"one of {', '.join(READS[name])}",
                            f"leave {key} out")
    return name, PARTS[name]


def _model(answers: Path) -> dict[str, Any]:
    """Which model gave the answers in a file: that of the run of ours in whose folder the file lies, else one that is not known."""
    path = answers.parent / "results.json"
    found = io.read_json(path) if answers.name in OF_RUNS and path.is_file() else None
    model = found.get("model") if isinstance(found, Mapping) else None
    if not isinstance(model, Mapping):
        return {"head": NOT_KNOWN, "head_of": NOT_KNOWN, "trained": NOT_KNOWN}
    return {**model, "run": written(answers.parent)}


def _inputs(config: EvaluateConfig) -> dict[str, Any]:
    """{key: its file and the file's SHA-256}."""
    paths = {key: getattr(config, key) for key in INPUTS if getattr(config, key) is not None}
    return {key: {"file": written(path), "sha256": sha256(path)} for key, path in paths.items()}
