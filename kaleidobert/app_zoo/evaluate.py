"""``kaleidobert evaluate``: count what anyone's model answered; scores of retrieval, predicted classes, captions."""

from types import ModuleType
from typing import Any

from kaleidobert.addresses import written
from kaleidobert.app_zoo import evaluate_captions, evaluate_predictions, evaluate_scores, tables
from kaleidobert.configs import EvaluateConfig
from kaleidobert.datasets.bank import sha256
from kaleidobert.engines.runs import Run, check_folder
from kaleidobert.errors import UserError
from kaleidobert.evaluators.tables import TASKS

PARTS = {"scores": evaluate_scores, "predictions": evaluate_predictions, "captions": evaluate_captions}
READS = {  # keys that only some parts read: elsewhere they would be ignored without a word
    "scores": ("direction", "columns", "candidates", "protocol", "counting", "other_direction", "texts", "against", "identical_texts",
               "data", "subcategory", "permutations"),
    "predictions": ("prediction_columns", "label", "modality", "trained_classes", "against", "data", "permutations"),
    "captions": ("references", "against", "permutations")}
INPUTS = ("scores", "candidates", "other_direction", "texts", "predictions", "trained_classes", "captions", "references", "against")
WRITTEN = ("results.json", "table.md", "scores.jsonl", "ranks.png", "queries.png", "confusion.png", "classes.csv")


def dry_run(config: EvaluateConfig) -> None:
    """Read and check all files, print sizes."""
    check_folder(config.run, config)
    _, part = _part(config)
    print(part.describe_inputs(part.read(config)))


def run(config: EvaluateConfig) -> None:
    """Count, and write the run folder."""
    check_folder(config.run, config)
    _, part = _part(config)
    material = part.read(config)
    folder = Run(config.run, config)  # claimed when nothing is left to refuse
    results = part.evaluate(config, material)
    results["inputs"] = _inputs(config)
    results["seed"] = config.seed
    folder.results(results, config)
    if results["task"] in TASKS:
        tables.write(config.run, results)
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


def _inputs(config: EvaluateConfig) -> dict[str, Any]:
    """{key: its file and the file's SHA-256}."""
    paths = {key: getattr(config, key) for key in INPUTS if getattr(config, key) is not None}
    return {key: {"file": written(path), "sha256": sha256(path)} for key, path in paths.items()}
