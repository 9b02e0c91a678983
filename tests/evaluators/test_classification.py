"""Classification: figures by hand and against scikit-learn, intervals, refusals."""

import doctest
import json

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_recall_fscore_support

from kaleidobert.errors import UserError
from kaleidobert.evaluators import classification, statistics

NAMES = ("bag", "belt", "cap", "dress", "hat")
LABELS = np.array([0, 0, 0, 1, 1, 2, 4, 4])
PREDICTIONS = np.array([0, 0, 1, 1, 3, 2, 0, 4])
COUNTS = np.array([10, 30, 5, 2, 0])  # hat was never seen in training; dress is absent from the evaluation set


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def test_examples_in_docstrings():
    assert doctest.testmod(classification).attempted >= 2
    assert doctest.testmod(classification).failed == 0


def test_report_by_hand():
    result = classification.report(LABELS, PREDICTIONS, NAMES, COUNTS, rng())
    # hits / support / predicted: bag 2/3/3, belt 1/2/2, cap 1/1/1, dress 0/0/1, hat 1/2/1
    f1 = [2 / 3, 1 / 2, 1.0, 0.0, 2 / 3]
    assert result["n"] == 8
    assert result["accuracy"]["value"] == 5 / 8
    assert result["macro_f1_all"]["value"] == pytest.approx(sum(f1) / 5)
    assert result["macro_f1_present"]["value"] == pytest.approx((f1[0] + f1[1] + f1[2] + f1[4]) / 4)
    assert result["macro_f1_trained"]["value"] == pytest.approx((f1[0] + f1[1] + f1[2] + f1[3]) / 4)
    assert result["chance"] == 2 / 8 and result["majority_class"] == "belt"
    assert result["num_classes"] == {"all": 5, "present": 4, "trained": 4}
    assert result["present_but_not_trained"] == ["hat"]
    for name in ("accuracy", "macro_f1_all", "macro_f1_present", "macro_f1_trained"):
        assert result[name]["low"] <= result[name]["value"] <= result[name]["high"]
    assert json.loads(json.dumps(result)) == result


@pytest.mark.parametrize("seed", range(5))
def test_f1_agrees_with_scikit_learn(seed):
    generator, count = rng(seed), 12
    labels, predictions = generator.integers(9, size=60), generator.integers(count, size=60)
    predictions[:30] = labels[:30]
    matrix = classification.confusion_matrix(labels, predictions, count)
    present = np.unique(labels)
    assert classification.macro_f1(matrix) == pytest.approx(
        f1_score(labels, predictions, labels=range(count), average="macro", zero_division=0))
    assert classification.macro_f1(matrix, present) == pytest.approx(
        f1_score(labels, predictions, labels=present, average="macro", zero_division=0))
    rows = classification.per_class(matrix, [str(i) for i in range(count)])
    expected = precision_recall_fscore_support(labels, predictions, labels=range(count), zero_division=0)
    for name, values in zip(("precision", "recall", "f1", "support"), expected):
        assert [row[name] for row in rows] == pytest.approx(list(values))
    assert list(rows[0]) == ["class", "support", "predicted", "precision", "recall", "f1"]


def test_intervals_of_f1_are_those_of_redrawn_examples(monkeypatch):
    """Against a plain loop that redraws the examples of every class among themselves; blocks change nothing but memory."""
    labels = rng(1).integers(5, size=300)
    predictions = np.where(rng(2).random(300) < 0.6, labels, rng(3).integers(5, size=300))
    generator, values = rng(4), []
    for _ in range(4000):
        rows = np.concatenate([generator.choice(np.flatnonzero(labels == label), (labels == label).sum()) for label in range(5)])
        values.append(classification.macro_f1(classification.confusion_matrix(labels[rows], predictions[rows], 5)))
    found = classification.report(labels, predictions, NAMES, np.ones(5, int), rng(), resamples=4000)
    assert [found["macro_f1_all"][end] for end in ("low", "high")] == pytest.approx(np.percentile(values, (2.5, 97.5)), abs=0.004)
    monkeypatch.setattr(statistics, "BLOCK", 100)
    assert classification.report(labels, predictions, NAMES, np.ones(5, int), rng(), resamples=4000) == found


def test_intervals_have_the_right_width_and_shrink():
    def width(n: int) -> float:
        labels = np.tile([0, 1], n // 2)
        predictions = np.where(np.arange(n) % 10 < 2, 1 - labels, labels)  # 80% right
        found = classification.report(labels, predictions, ["a", "b"], np.ones(2, int), rng(), resamples=4000)["accuracy"]
        return found["high"] - found["low"]

    assert width(1000) == pytest.approx(2 * 1.96 * np.sqrt(0.8 * 0.2 / 1000), rel=0.1)
    assert width(4000) == pytest.approx(width(1000) / 2, rel=0.1)


def test_perfect_and_rare():
    """A class with one example is never lost from a resample: perfect predictions have an interval of width 0."""
    labels = np.arange(7)
    result = classification.report(labels, labels, [str(i) for i in labels], np.ones(7, int), rng())
    for name in ("accuracy", "macro_f1_all", "macro_f1_present"):
        assert result[name] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_same_generator_same_report():
    results = [classification.report(LABELS, PREDICTIONS, NAMES, COUNTS, rng(seed), resamples=50) for seed in (1, 1, 2)]
    assert results[0] == results[1] != results[2]


@pytest.mark.parametrize("labels, predictions, message", [
    ([0, 5], [0, 0], "label 5.*0 to 4"),
    ([0, 1], [0, -1], "prediction -1.*0 to 4"),
    ([0, 1], [0], "one length"),
    ([], [], "at least one"),
    ([0.0, 1.0], [0, 1], "whole numbers"),
])
def test_refusals(labels, predictions, message):
    with pytest.raises(UserError, match=message):
        classification.report(np.array(labels), np.array(predictions), NAMES, COUNTS, rng())


def test_counts_must_fit_the_label_map():
    with pytest.raises(UserError, match="one count per class"):
        classification.report(LABELS, PREDICTIONS, NAMES, COUNTS[:3], rng())
    with pytest.raises(UserError, match="no class has a training example"):
        classification.report(LABELS, PREDICTIONS, NAMES, COUNTS * 0, rng())
