"""Predicted classes of any model: a table with columns image_id, label and prediction (CSV, TSV, JSONL, NPZ)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kaleidobert.configs.data import MISSING
from kaleidobert.configs.tasks import PredictionColumns
from kaleidobert.errors import UserError
from kaleidobert.evaluators.files.columns import format_of, read_columns


@dataclass(frozen=True)
class Predictions:
    """N examples: ids, names of the true and of the predicted classes. notes: remarks on the file for a person."""

    source: str
    ids: list[str]
    labels: list[str]
    predictions: list[str]
    notes: tuple[str, ...] = ()

    def numbered(self, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Returns (labels, predictions) i64[N], the positions in ``names``, which has all of them."""
        numbers = {name: number for number, name in enumerate(names)}
        labels, predictions = (np.array([numbers[name] for name in column], np.int64) for column in (self.labels, self.predictions))
        return labels, predictions


def read(path: str | Path, columns: PredictionColumns | None = None) -> Predictions:
    """Reads the predictions of a file. Raises UserError as ``read_columns``, and for a repeated id or an empty class."""
    columns = columns or PredictionColumns()
    file_format = format_of(path)
    if file_format == "result":
        raise UserError("this is a released result file of retrieval", str(path), "a table of classes", "give it as scores=FILE")
    table = read_columns(path, file_format, {"id": columns.id, "truth": columns.label, "prediction": columns.prediction})
    seen: dict[str, int] = {}
    for row, name in enumerate(table["id"].values):
        if seen.setdefault(name, row) != row:
            raise UserError(f"the id {name!r} stood before, on {table['id'].where(seen[name], short=True)}", table["id"].where(row),
                            "every example once")
    for what, role in (("label", "truth"), ("prediction", "prediction")):
        empty = next((row for row, value in enumerate(table[role].values) if not value), None)
        if empty is not None:
            raise UserError(f"the {what} of {table['id'].values[empty]!r} is empty", table[role].where(empty), "the name of a class")
    notes = tuple(f"{count:,} {what}s of {path} are {word!r} and count as a class: should these cells be empty?"
                  for what, role in (("label", "truth"), ("prediction", "prediction"))
                  for word, count in Counter(table[role].values).items() if word.casefold() in MISSING)
    return Predictions(str(path), table["id"].values, table["truth"].values, table["prediction"].values, table.notes + notes)


def check(predictions: Predictions, truth: Mapping[str, str], where: str) -> None:
    """Raises UserError where the examples are not exactly those of {id: label} (of ``where``), or a label differs."""
    missing, unknown = sorted(set(truth) - set(predictions.ids)), sorted(set(predictions.ids) - set(truth))
    if unknown:
        raise UserError(f"{len(unknown)} ids are unknown, the first is {unknown[0]!r}", predictions.source, f"ids of {where}")
    if missing:
        raise UserError(f"{len(missing)} of {len(truth)} examples are missing, the first is {missing[0]!r}", predictions.source,
                        f"all of {where}", "predict all of them: a part of a split gives another figure")
    for name, label in zip(predictions.ids, predictions.labels):
        if truth[name] != label:
            raise UserError(f"the label of {name!r} is {label!r}", predictions.source, f"{truth[name]!r}, as in {where}")


def matched(first: Predictions, second: Predictions) -> Predictions:
    """Returns the second in the order of the first. Raises UserError as ``check``."""
    check(second, dict(zip(first.ids, first.labels)), first.source)
    predictions = dict(zip(second.ids, second.predictions))
    return Predictions(second.source, first.ids, first.labels, [predictions[name] for name in first.ids], second.notes)
