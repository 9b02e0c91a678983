"""The part of ``kaleidobert evaluate`` that counts predicted classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kaleidobert.app_zoo.evaluate.scores import comparison_lines
from kaleidobert.configs import ClassifyConfig, EvaluateConfig, TrainingData
from kaleidobert.configs.addresses import written
from kaleidobert.datasets.bank.bank import Bank, describe
from kaleidobert.errors import UserError
from kaleidobert.evaluators import classification, paired
from kaleidobert.evaluators.files import prediction_tables
from kaleidobert.evaluators.files.prediction_tables import Predictions
from kaleidobert.evaluators.report import plots

SETS = ("all", "present", "trained")
OF_TRAINING = ("macro_f1_trained", "chance", "majority_class", "present_but_not_trained")  # not known without the classes of training


@dataclass(frozen=True)
class Material:
    """names: the label map, classes of training first; counts: their training examples (None = not known which were trained, ones
    = known to be trained). more: classes that only the other model named. rows, val_rows: of the bank."""

    table: Predictions
    against: Predictions | None
    names: list[str]
    counts: np.ndarray | None
    more: list[str]
    bank: Bank | None
    rows: np.ndarray | None
    val_rows: np.ndarray | None


def read(config: EvaluateConfig) -> Material:
    """All tables of a configuration; UserError for what does not fit together."""
    assert config.predictions is not None  # or another part reads
    table = prediction_tables.read(config.predictions, config.prediction_columns)
    against = None if config.against is None else prediction_tables.matched(
        table, prediction_tables.read(config.against, config.prediction_columns))
    bank = rows = val_rows = counts = None
    trained: list[str] = []
    if config.data.bank is not None:
        bank = Bank(config.data.bank)
        rows, val_rows, trained, counts = _of_bank(config, bank, table)
    elif config.trained_classes is not None:
        trained = _class_names(config.trained_classes)
        counts = np.ones(len(trained), np.int64)
    names = [*trained, *sorted({*table.labels, *table.guesses} - set(trained))]
    more = sorted(set(against.guesses) - set(names)) if against else []
    counts = None if counts is None else np.pad(counts, (0, len(names) - len(counts)))
    return Material(table, against, names, counts, more, bank, rows, val_rows)


def describe_inputs(material: Material) -> str:
    """A line for --dry-run."""
    beside = f" against {material.against.source}" if material.against else ""
    return f"{len(material.table.ids):,} examples of {len(material.names)} classes{beside}; the files fit together"


def evaluate(config: EvaluateConfig, material: Material) -> dict[str, Any]:
    """The results; writes confusion.png and classes.csv."""
    from kaleidobert.app_zoo.classify import _write_csv

    assert config.predictions is not None
    rng = np.random.Generator(np.random.Philox(config.seed))
    names, table = material.names, material.table
    labels, guesses = table.numbered(names)
    known = material.counts is not None
    counts = np.ones(len(names), np.int64) if material.counts is None else material.counts
    report = classification.report(labels, guesses, names, counts, rng, config.resamples)
    if not known:
        report["num_classes"].pop("trained")
    report = {name: value for name, value in report.items() if known or name not in OF_TRAINING}
    if known and material.bank is None:  # a list of names has no counts
        report |= {"chance": None, "majority_class": None}
    matrix = classification.confusion_matrix(labels, guesses, len(names))
    plots.confusion(matrix, names, config.run / "confusion.png")
    _write_csv(config.run / "classes.csv", classification.per_class(matrix, names))
    results: dict[str, Any] = {"task": "classify" if known else "evaluate", "label": config.label or config.prediction_columns.label,
               "modality": config.modality, "metrics": report, "baselines": _baselines(config, material),
               "files": {"source": written(config.predictions)}, "notes": list(table.notes)}
    if material.bank:
        results["bank"] = describe(material.bank)
    if material.against and config.against:
        both = [*names, *material.more]  # one label map for the two; the figures above are of this model alone
        sets = {"all": np.ones(len(both), bool), "present": np.bincount(labels, minlength=len(both)) > 0}
        sets |= {"trained": np.pad(counts, (0, len(material.more))) > 0} if known else {}
        others = material.against.numbered(both)[1]
        compared = paired.compare_predictions(labels, guesses, others, sets, rng, config.resamples, config.permutations)
        results["comparison"] = {"against": written(config.against), **compared}
    return results


def lines(results: Mapping[str, Any]) -> list[str]:
    """A short table for people."""
    report, sizes = results["metrics"], results["metrics"]["num_classes"]
    made = [f"{results['label']}: {report['n']:,} examples", f"{'':18s}{'value':>8s}{'95% interval':>20s}{'classes':>9s}"]
    for name in ("accuracy", *(f"macro_f1_{which}" for which in SETS)):
        if name in report:
            value = report[name]
            interval, size = f"[{value['low']:.4f}, {value['high']:.4f}]", sizes.get(name.rpartition("_")[2], "")
            made.append(f"{name:18s}{value['value']:8.4f}{interval:>20s}{size:>9}".rstrip())
    made += [f"{'majority class':18s}{report['chance']:8.4f}"] if report.get("chance") is not None else []
    made += [f"{name:26s} accuracy {value['accuracy']:.4f}  macro-F1 {value['macro_f1_all']:.4f}"
             for name, value in results["baselines"].items()]
    if "macro_f1_trained" not in report:
        made.append("macro-F1 over the classes seen in training is left out: say trained_classes=FILE, or data.bank and label")
    return made + comparison_lines(results.get("comparison"))


def _of_bank(config: EvaluateConfig, bank: Bank, table: Predictions) -> tuple[np.ndarray, np.ndarray, list[str], np.ndarray]:
    """(training rows, validation rows in the order of the table, classes of training, their counts); checks ids and labels."""
    from kaleidobert.datasets.sampling.finetuning import label_ids
    from kaleidobert.datasets.sampling.pretraining import share_of_groups

    data, column = config.data, bank.column(config.label)
    rows = share_of_groups(bank, bank.rows(data.train_split), data.train_share, config.seed)
    ids, names = label_ids(bank, config.label, rows)
    rows = rows[ids[rows] >= 0]
    val_rows = bank.rows(data.val_split)
    val_rows = val_rows[column[val_rows] != ""]
    images = bank.column("image_id")[val_rows].tolist()
    where = f"{config.label!r} of {data.val_split!r} in {bank.folder}"
    prediction_tables.check(table, dict(zip(images, map(str, column[val_rows]))), where)
    places = dict(zip(images, val_rows.tolist()))
    return rows, np.array([places[name] for name in table.ids], np.int64), names, np.bincount(ids[rows], minlength=len(names))


def _baselines(config: EvaluateConfig, material: Material) -> dict[str, dict[str, float]]:
    """Neighbours and logistic regression on the bank, as `kaleidobert classify` has them beside its result."""
    if material.bank is None or material.rows is None or material.val_rows is None or not config.baselines:
        return {}
    from kaleidobert.app_zoo.classify import compare
    from kaleidobert.configs import Train

    labels, _ = material.table.numbered(material.names)
    places = {name: place for place, name in enumerate(material.names)}
    column = material.bank.column(config.label)[material.rows]
    asked = ClassifyConfig(config.run, TrainingData(config.data.bank), label=config.label, modality=config.modality,
                           train=Train(seed=config.seed))
    return compare(asked, material.bank, material.rows, material.val_rows, np.array([places[str(value)] for value in column]), labels,
                   len(material.names))


def _class_names(path: Path) -> list[str]:
    """The lines of a file, each a class; UserError where it cannot be read or holds none."""
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read ({error})", str(path), "names of classes, one a line") from None
    if not names:
        raise UserError("the file is empty", str(path), "names of classes, one a line")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"the class {twice!r} stands twice", str(path), "every class once")
    return names
