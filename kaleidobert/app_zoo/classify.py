"""``kaleidobert classify``: category or subcategory recognition, or any other label column (paper, section 4.2: CR, SUB)."""

import csv
import io

import numpy as np
from keras import ops

from kaleidobert import files
from kaleidobert.app_zoo import models
from kaleidobert.configs import ClassifyConfig
from kaleidobert.datasets.bank import Bank, describe, sha256
from kaleidobert.datasets.sampler import clean_batch, share_of_groups
from kaleidobert.datasets.task_samplers import LabelSampler, label_ids, modality_inputs
from kaleidobert.engines import steps
from kaleidobert.engines.predictor import predict
from kaleidobert.engines.runs import Run, check_folder
from kaleidobert.engines.trainer import Goal, Schedule, Trainer
from kaleidobert.errors import UserError
from kaleidobert.evaluators import baselines, classification, plots
from kaleidobert.losses.classification import cross_entropy
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import classifier
from kaleidobert.preprocessors.examples import EMPTY_TEXT


def dry_run(config: ClassifyConfig) -> None:
    """Check bank, label and checkpoint, print sizes."""
    check_folder(config.run, config)
    bank, rows, val_rows, _, names = _open(config)
    models.check_start(config, bank)
    _, total = models.schedule(config.train, len(rows))
    print(f"{len(names)} classes of {config.label!r}; {len(rows):,} pictures to train on, {len(val_rows):,} to evaluate, "
          f"{total:,} steps of {config.train.batch_size}")


def run(config: ClassifyConfig) -> None:
    """Train, evaluate the weights of the last epoch (nothing is chosen on the validation split), write the run folder."""
    check_folder(config.run, config)
    bank, rows, val_rows, labels, names = _open(config)
    short = {"text_length": EMPTY_TEXT} if config.modality == "image" else {}
    model = models.start(lambda arguments: classifier({**arguments, **short}, len(names), config.head_dropout), config, bank)
    optimizer, total = models.schedule(config.train, len(rows))
    sampler = LabelSampler(bank, rows, labels, config.modality, config.noise, config.train.batch_size, config.train.seed)
    forward = steps.forward(model)
    folder = Run(config.run, config)  # claimed when nothing is left to refuse

    def loss(outputs, targets, weights):
        return {"loss": ops.mean(cross_entropy(outputs["label"], targets["label"]) * weights["label"])}

    def guess() -> np.ndarray:
        logits = predict(forward, lambda part: modality_inputs(bank, part, config.modality), val_rows, config.train.batch_size)
        return logits["label"].argmax(1)

    unknown = [str(value) for value in np.unique(bank.column(config.label)[val_rows][labels[val_rows] < 0])]
    if unknown:
        print(f"{len(unknown)} value(s) of {config.label!r} occur in {config.data.val_split!r} only and count as wrong: "
              f"{', '.join(unknown[:8])}")

    trainer = Trainer(folder, model, optimizer, {**models.origin(model, bank), "label": config.label, "classes": names})
    goal = Goal(lambda: {"accuracy": float((guess() == labels[val_rows]).mean())}, "accuracy", higher_is_better=None)
    trainer.fit(sampler.batch, loss, goal, Schedule(total, config.train.epochs, config.train.save_every), config.train.clip_norm)
    checkpoints.restore(folder.best, model)
    plots.loss_curves(folder.metrics(), config.run / "losses.png")
    report, compared = evaluate(config, bank, (rows, val_rows), (labels, names, unknown), guess())
    folder.results({"task": "classify", "label": config.label, "modality": config.modality, "metrics": report,
                    "baselines": compared, "steps": total, "bank": describe(bank),
                    "checkpoint_sha256": sha256(folder.best)}, config)
    hits, f1 = report["accuracy"], report["macro_f1_all"]
    print(f"{config.label} ({config.modality}): accuracy {hits['value']:.4f} [{hits['low']:.4f}, {hits['high']:.4f}], "
          f"macro-F1 {f1['value']:.4f}; majority class {report['chance']:.4f}"
          + "".join(f"; {name} {value:.4f}" for name, value in compared.items()))
    print(f"run folder: {config.run}\n  weights: {folder.best}\n  pictures: losses.png, confusion.png; classes.csv")


def evaluate(config: ClassifyConfig, bank: Bank, parts: tuple, classes: tuple, guesses: np.ndarray) -> tuple[dict, dict]:
    """(report with three macro-F1, {baseline: accuracy}); writes confusion.png, classes.csv, predictions.csv.

    parts: training and validation rows. classes: label ids of all rows, class names, names that training does not know.
    """
    (rows, val_rows), (labels, names, unknown) = parts, classes
    all_names = [*names, *unknown]
    numbers = {name: number for number, name in enumerate(all_names)}
    truth = np.array([numbers[str(value)] for value in bank.column(config.label)[val_rows]])
    counts = np.bincount(labels[rows], minlength=len(all_names))
    rng = np.random.Generator(np.random.Philox(config.train.seed))
    report = classification.report(truth, guesses, all_names, counts, rng)
    matrix = classification.confusion_matrix(truth, guesses, len(all_names))
    plots.confusion(matrix, all_names, config.run / "confusion.png")
    _write_csv(config.run / "classes.csv", classification.per_class(matrix, all_names))
    ids = bank.column("image_id")[val_rows]
    _write_csv(config.run / "predictions.csv", [{"image_id": image, "label": all_names[t], "prediction": all_names[g]}
                                                for image, t, g in zip(ids, truth, guesses)])
    compared = {}
    groups = bank.column("group")[rows]
    if config.baselines and config.modality != "text":
        mean = picture_features(bank, np.concatenate([rows, val_rows]))
        nearest = baselines.nearest_neighbours(mean[: len(rows)], labels[rows], mean[len(rows):])
        compared["nearest_neighbours_image"] = float((nearest == truth).mean())
        answers = baselines.logistic_regression(mean[: len(rows)], labels[rows], mean[len(rows):], config.train.seed, groups)
        compared["logistic_regression_image"] = float((answers == truth).mean())
    if config.baselines and config.modality != "image":
        texts = bank.column("text")
        answers = baselines.text_logistic_regression(texts[rows].tolist(), labels[rows], texts[val_rows].tolist(),
                                                     config.train.seed, groups)
        compared["logistic_regression_text"] = float((answers == truth).mean())
    return report, compared


def picture_features(bank: Bank, rows: np.ndarray) -> np.ndarray:
    """f32[len(rows), F]: the mean of all untouched patches, the frozen feature of the baselines."""
    parts = [clean_batch(bank, rows[i : i + 256])["patch_features"].astype(np.float32).mean(1) for i in range(0, len(rows), 256)]
    return np.concatenate(parts)


def _open(config: ClassifyConfig):
    bank = Bank(config.data.bank)
    bank.require(config.levels, config.data.encoder)
    all_rows = bank.rows(config.data.train_split)
    rows = share_of_groups(bank, all_rows, config.data.train_share, config.train.seed)
    val_rows = bank.rows(config.data.val_split)
    labels, names = label_ids(bank, config.label, rows)
    rows = rows[labels[rows] >= 0]  # pictures without a label
    val_rows = val_rows[bank.column(config.label)[val_rows] != ""]
    if not len(val_rows):
        raise UserError(f"no picture of {config.data.val_split!r} has a {config.label!r}", str(bank.folder),
                        fix="choose another label or data.val_split")
    return bank, rows, val_rows, labels, names


def _write_csv(path, rows: list[dict]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(path, text.getvalue())
