"""``kaleidobert classify``: category or subcategory recognition, or any other label column (paper, section 4.2: CR, SUB)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from kaleidobert import io
from kaleidobert.app_zoo import lineage, models, released_runs, tables, training
from kaleidobert.app_zoo.training import LabelData
from kaleidobert.configs import ClassifyConfig
from kaleidobert.datasets.bank.bank import Bank, describe
from kaleidobert.datasets.sampling import finetuning
from kaleidobert.datasets.sampling.finetuning import LabelSampler, label_ids, modality_inputs
from kaleidobert.datasets.sampling.pretraining import clean_features
from kaleidobert.engines import steps
from kaleidobert.engines.distributed import distribution
from kaleidobert.engines.prediction import predict
from kaleidobert.engines.run_folder import Run, check_folder
from kaleidobert.engines.trainer import Goal
from kaleidobert.errors import UserError
from kaleidobert.evaluators import baselines, classification, statistics
from kaleidobert.evaluators.report import plots
from kaleidobert.evaluators.report.results import head_name
from kaleidobert.io import sha256
from kaleidobert.losses import decomposable
from kaleidobert.losses.pretraining import cross_entropy
from kaleidobert.model_zoo.kaleidobert import classifier
from kaleidobert.preprocessors.examples import EMPTY_TEXT

PARTS = {"own": "encoder alone", "linear": "linear models alone"}  # of the head "wide": {answer of Classifier: its name in results.json}


def dry_run(config: ClassifyConfig) -> None:
    """Checks data, label and checkpoint, prints sizes."""
    config = models.resolve(config)
    check_folder(config.run, config)
    if config.data.files is not None:
        return released_runs.dry_run(config)
    data = bank_data(config)
    models.check_start(config, data.bank)
    _plain(config, data)
    _, total = models.schedule(config.train, data.num_examples)
    print(f"{len(data.names)} classes of {config.label!r}; {data.num_examples:,} pictures to train on, {len(data.val_rows):,} to "
          f"evaluate, {total:,} steps of {config.train.batch_size}")
    print(models.peak_rate(config.train, data.num_examples))


def run(config: ClassifyConfig) -> None:
    """Trains, evaluates the weights of the last epoch (nothing is chosen on the validation split), writes the run folder."""
    config = models.resolve(config)
    check_folder(config.run, config)
    with distribution.scope(config.train):
        _run(config)


def _run(config: ClassifyConfig) -> None:
    data = released_runs.labelling(config) if config.data.files is not None else bank_data(config)
    short = {"text_length": EMPTY_TEXT} if config.modality == "image" else {}
    model = models.start(lambda arguments: classifier({**arguments, **short}, len(data.names), config.head_dropout, config.head,
                                                      config.feature_dropout), config, data.bank, data.adapt)
    optimizer, total = models.schedule(config.train, data.num_examples)
    forward, inputs = steps.forward(model), training.trim_inputs(data.inputs, config.train)
    plain, past = _plain(config, data), (config.init, lineage.epochs("classifier fine-tuned", config.train.epochs))
    folder = Run(config.run, config)  # claimed when nothing is left to refuse

    def loss(outputs, targets, weights):
        return {"loss": ops.mean(cross_entropy(outputs["label"], targets["label"]) * weights["label"])}

    def guess() -> dict[str, np.ndarray]:
        answers = predict(forward, inputs, data.val_rows, config.train.batch_size, lengths=data.lengths)
        return {name: logits.argmax(1) for name, logits in answers.items()}

    if data.unknown:
        print(f"{len(data.unknown)} value(s) of {config.label!r} occur in {config.data.val_split!r} only and count as wrong: "
              f"{', '.join(data.unknown[:8])}")

    origin = models.origin(model, data.bank, lineage.extend(*past))
    goal = Goal(lambda: {"accuracy": float((guess()["label"] == data.truth).mean())}, "accuracy", higher_is_better=None)
    training.fit(folder, model, {**origin, "label": config.label, "classes": data.names}, config.train, (optimizer, total),
                 training.trim_batches(data.batch, config.train), decomposable.mean(loss, "label"), goal)
    guesses = guess()
    report = evaluate(config, data, guesses["label"])
    compared = beside_baselines(data.truth, guesses["label"], data.baselines() if config.baselines else {},
                                len(data.names) + len(data.unknown), config.train.seed)
    compared["differences"] |= (beside := _beside(config, data, guesses, plain)).pop("differences", {})
    folder.results({"task": "classify", "model": lineage.model(config.head, *past), "label": config.label, "modality": config.modality,
                    "metrics": report, **beside, **compared, "steps": total,
                    "bank": data.metadata(), "checkpoint_sha256": sha256(folder.best)}, config)
    results = io.read_json(config.run / "results.json")
    tables.write(config.run, results)
    _print_summary(config, results)
    print(f"run folder: {config.run}\n  weights: {folder.best}\n  table: table.md\n  pictures: losses.png, confusion.png; classes.csv")


def _plain(config: ClassifyConfig, data: LabelData) -> lineage.PlainLabels | None:
    """Returns the plain head that stands beside the wide one. Raises UserError where plain_run names none on the same examples."""
    all_names = [*data.names, *data.unknown]
    return lineage.plain_labels(config, [str(image) for image in data.ids], [all_names[number] for number in data.truth])


def _beside(config: ClassifyConfig, data: LabelData, guesses: Mapping[str, np.ndarray], plain: lineage.PlainLabels | None) -> dict:
    """Returns what stands beside the figures of the wide head: {"parts", "plain", "differences"}; nothing beside the plain one.

    differences: of the accuracies, the wide head's less the other's, as statistics.difference.
    """
    if plain is None:
        return {}
    all_names, right = [*data.names, *data.unknown], {name: each == data.truth for name, each in guesses.items()}
    parts = {name: classification.report(data.truth, guesses[answer], all_names, data.counts, _rng(config))
             for answer, name in PARTS.items()}
    others = {name: right[answer] for answer, name in PARTS.items()} | ({"plain head": plain.right} if plain.right is not None else {})
    return {"parts": parts, "plain": plain.entry,
            "differences": {name: {"accuracy": statistics.difference(right["label"], each, _rng(config))} for name, each in others.items()}}


def _rng(config: ClassifyConfig) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(config.train.seed))


def _print_summary(config: ClassifyConfig, results: Mapping[str, Any]) -> None:
    """Prints which model it is, and its figures beside the others."""
    model, report, plain = results["model"], results["metrics"], results.get("plain")
    print(f"{head_name(model)}, {model['trained']}; masking: {model['masking']}")
    hits, f1 = report["accuracy"], report["macro_f1_all"]
    parts = dict(results.get("parts", {})) | ({"plain head": plain["metrics"]} if plain and plain["metrics"] else {})
    print(f"{config.label} ({config.modality}): accuracy {hits['value']:.4f} [{hits['low']:.4f}, {hits['high']:.4f}], "
          f"macro-F1 {f1['value']:.4f}"
          + "".join(f"; {name} {one['accuracy']['value']:.4f} ({one['macro_f1_all']['value']:.4f})" for name, one in parts.items())
          + f"; majority class {report['chance']:.4f}"
          + "".join(f"; {name} {value['accuracy']:.4f} ({value['macro_f1_all']:.4f})" for name, value in results["baselines"].items()))
    for name, gap in ((name, gaps["accuracy"]) for name, gaps in results["differences"].items()):
        print(f"accuracy less that of {name.replace('_', ' ')}: {gap['difference']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}]")
    if plain:
        print("plain head: " + (f"{head_name(plain['model'])}, {plain['model']['trained']}" if plain["metrics"]
                                else f"not measured: {plain['why']}"))


def beside_baselines(truth: np.ndarray, guesses: np.ndarray, compared: Mapping[str, np.ndarray], num_classes: int,
                     seed: int) -> dict[str, dict]:
    """Returns {"baselines": {name: {"accuracy", "macro_f1_all"}}, "differences": {name: {"accuracy": the model's less the baseline's,
    paired, as statistics.difference}}}; truth, guesses and the answers of ``compare`` are classes i64[N]."""
    made: dict[str, dict] = {"baselines": {}, "differences": {}}
    for name, answers in compared.items():
        matrix, rng = classification.confusion_matrix(truth, answers, num_classes), np.random.Generator(np.random.Philox(seed))
        made["baselines"][name] = {"accuracy": classification.accuracy(matrix), "macro_f1_all": classification.macro_f1(matrix)}
        made["differences"][name] = {"accuracy": statistics.difference(guesses == truth, answers == truth, rng)}
    return made


def evaluate(config: ClassifyConfig, data: LabelData, guesses: np.ndarray) -> dict[str, Any]:
    """Returns the report with three macro-F1; writes confusion.png, classes.csv, predictions.csv."""
    all_names = [*data.names, *data.unknown]
    report = classification.report(data.truth, guesses, all_names, data.counts, _rng(config))
    matrix = classification.confusion_matrix(data.truth, guesses, len(all_names))
    write_classes(config.run, matrix, all_names)
    io.write_csv(config.run / "predictions.csv", ["image_id", "label", "prediction"],
                 ([image, all_names[t], all_names[g]] for image, t, g in zip(data.ids, data.truth, guesses)))
    return report


def write_classes(run: Path, matrix: np.ndarray, names: list[str]) -> None:
    """Writes classes.csv and confusion.png, of a confusion matrix i64[C, C] and the names of its classes, into a run's folder."""
    plots.confusion(matrix, names, run / "confusion.png")
    rows = classification.per_class(matrix, names)
    io.write_csv(run / "classes.csv", list(rows[0]), (row.values() for row in rows))


def bank_data(config: ClassifyConfig) -> LabelData:
    """Returns the splits of data.bank, pictures without a label left out."""
    bank, rows, val_rows = training.splits(config)
    labels, names = label_ids(bank, config.label, rows)
    rows = rows[labels[rows] >= 0]
    column = bank.column(config.label)
    val_rows = val_rows[column[val_rows] != ""]
    if not len(val_rows):
        raise UserError(f"no picture of {config.data.val_split!r} has a {config.label!r}", str(bank.folder),
                        fix="choose another label or data.val_split")
    unknown = [str(value) for value in np.unique(column[val_rows][labels[val_rows] < 0])]
    numbers = {name: number for number, name in enumerate([*names, *unknown])}
    truth = np.array([numbers[str(value)] for value in column[val_rows]])
    sampler = LabelSampler(bank, rows, labels, config.modality, config.noise, config.train.batch_size, config.train.seed)
    return LabelData(
        bank, len(rows), sampler.batch, lambda chosen: modality_inputs(bank, chosen, config.modality), val_rows, truth,
        bank.column("image_id")[val_rows], names, unknown, np.bincount(labels[rows], minlength=len(numbers)),
        lambda model: models.adapt(model, bank, config.data.train_split),
        lambda: compare(config, bank, rows, val_rows, labels[rows]), lambda: describe(bank),
        finetuning.text_lengths(bank)[val_rows])


def compare(config: ClassifyConfig, bank: Bank, rows: np.ndarray, val_rows: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Returns {baseline: class i64[len(val_rows)]} of linear models and neighbours on the same features and texts; labels of ``rows``."""
    compared, groups = {}, bank.column("group")[rows]
    if config.modality != "text":
        mean = picture_features(bank, np.concatenate([rows, val_rows]))
        compared["nearest_neighbours_image"] = baselines.nearest_neighbours(mean[: len(rows)], labels, mean[len(rows):])
        compared["logistic_regression_image"] = baselines.logistic_regression(mean[: len(rows)], labels, mean[len(rows):],
                                                                              config.train.seed, groups)
    if config.modality != "image":
        texts = bank.column("text")
        compared["logistic_regression_text"] = baselines.text_logistic_regression(texts[rows].tolist(), labels, texts[val_rows].tolist(),
                                                                                  config.train.seed, groups)
    return compared


def picture_features(bank: Bank, rows: np.ndarray) -> np.ndarray:
    """Returns f32[len(rows), F]: the mean of all untouched patches, the frozen feature of the baselines."""
    means = [clean_features(bank, rows[i : i + 256]).astype(np.float32).mean(1) for i in range(0, len(rows), 256)]
    return np.concatenate(means)
