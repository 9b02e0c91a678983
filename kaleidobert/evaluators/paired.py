"""Is one model better than another on the same examples? Paired tests, numpy only.

Two intervals that overlap say little: the same queries are hard for both models, so their difference varies less than either. Here
every example is compared with itself: a 95% interval of the difference by bootstrap over examples, and p values of the hypothesis
that the two models are exchangeable. Differences are first minus second.
"""

from math import comb
from typing import Any

import numpy as np

from kaleidobert.errors import UserError
from kaleidobert.evaluators import classification, retrieval
from kaleidobert.evaluators.files.score_checks import matched
from kaleidobert.evaluators.files.score_tables import ScoreTable

RESAMPLES, PERMUTATIONS = 1000, 10_000
LEVEL = (2.5, 97.5)
BLOCK = 2_000_000  # drawn examples held in memory at a time
EXACT = 12  # up to so many examples that differ, all sign flips are tried
ROUNDING = 1e-9  # relative: sums of the same values in another order are the same sum


def compare_scores(first: ScoreTable, second: ScoreTable, rng: np.random.Generator, resamples: int = RESAMPLES,
                   permutations: int = PERMUTATIONS) -> dict[str, Any]:
    """Two score tables on the same lists: {metric: as ``difference``} for Rank@1/5/10 and MRR, and tests of the order.

    mcnemar (of Rank@1; None where a tie makes a query half right), sign_test (of the ranks): {first, second: queries that each alone
    gets right / ranks higher, p}. Ties count by expectation. Raises UserError where queries, candidates or labels differ.
    """
    one, other = (retrieval.standing(table.scores, table.relevant, table.valid) for table in matched(first, second))
    values = {f"rank@{k}": (one.hits(k), other.hits(k)) for k in retrieval.RANKS}
    values["mrr"] = one.reciprocal_ranks(), other.reciprocal_ranks()
    result: dict[str, Any] = {"queries": len(first.queries)}
    result |= {name: difference(*pair, rng, resamples, permutations) for name, pair in values.items()}
    hits = values["rank@1"]
    whole = all(np.isin(np.round(side, 12), (0, 1)).all() for side in hits)
    result["mcnemar"] = mcnemar(*(np.round(side) == 1 for side in hits)) if whole else None
    result["sign_test"] = sign_test(one.ranks(), other.ranks())
    return result


def difference(first: np.ndarray, second: np.ndarray, rng: np.random.Generator, resamples: int = RESAMPLES,
               permutations: int = PERMUTATIONS) -> dict[str, float]:
    """f64[N] each, a value per example -> {first, second, difference: means; low, high: 95% of the difference; p}.

    p: two-sided, of flipping the signs of the differences at random; of all 2^n flips where at most EXACT examples differ, else of
    ``permutations`` draws, (1 + as large) / (1 + draws), never 0.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape or first.ndim != 1 or not first.size:
        raise UserError(f"values {list(first.shape)} and {list(second.shape)}", "paired test", "two vectors of one length, not empty")
    gaps = first - second
    low, high = np.percentile(_resampled_means(gaps, rng, resamples), LEVEL)
    return {"first": float(first.mean()), "second": float(second.mean()), "difference": float(gaps.mean()), "low": float(low),
            "high": float(high), "p": _sign_flips(gaps[gaps != 0], rng, permutations)}


def mcnemar(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """bool[N] each, right or wrong -> {first, second: examples that each alone has right, p: exact, two-sided}.

    >>> mcnemar(np.array([1, 1, 1, 1, 1, 0, 0]) == 1, np.array([0, 0, 0, 0, 0, 0, 1]) == 1)
    {'first': 5, 'second': 1, 'p': 0.21875}
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    wins, losses = int((first & ~second).sum()), int((second & ~first).sum())
    return {"first": wins, "second": losses, "p": binomial(wins, losses)}


def sign_test(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """Ranks f64[N] each, 1 = best -> as ``mcnemar``, of the examples that one ranks higher than the other."""
    wins, losses = int((first < second).sum()), int((second < first).sum())
    return {"first": wins, "second": losses, "p": binomial(wins, losses)}


def binomial(wins: int, losses: int) -> float:
    """Two-sided p of so many wins and losses with a fair coin, exact."""
    total, tail = wins + losses, sum(comb(wins + losses, k) for k in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail / 2**total)


def compare_predictions(labels: np.ndarray, first: np.ndarray, second: np.ndarray, classes: dict[str, np.ndarray],
                        rng: np.random.Generator, resamples: int = RESAMPLES, permutations: int = PERMUTATIONS) -> dict[str, Any]:
    """Predictions i64[N] of two models, classes: {name: bool[C]} over which F1 is averaged, as classification.report has them.

    {accuracy: as ``difference``; mcnemar; macro_f1_<name>: {first, second, difference, low, high}}: the examples of every class are
    redrawn among themselves, the same for both models.
    """
    num_classes = len(next(iter(classes.values())))
    one, other = (classification.confusion_matrix(labels, guesses, num_classes) for guesses in (first, second))
    right = first == labels, second == labels
    result: dict[str, Any] = {"n": len(labels), "accuracy": difference(*right, rng, resamples, permutations), "mcnemar": mcnemar(*right)}
    seed = int(rng.integers(2**63))  # the same draws for both: they depend on the labels alone
    drawn = np.subtract(*(classification._resampled_f1(labels, guesses, num_classes, resamples, np.random.Generator(np.random.Philox(seed)))
                          for guesses in (first, second)))
    for name, used in classes.items():
        low, high = np.percentile(drawn[:, used].mean(axis=1), LEVEL)
        values = classification.macro_f1(one, used), classification.macro_f1(other, used)
        result[f"macro_f1_{name}"] = {"first": values[0], "second": values[1], "difference": values[0] - values[1], "low": float(low),
                                      "high": float(high)}
    return result


def _resampled_means(values: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
    step, means = max(1, BLOCK // len(values)), []
    for start in range(0, resamples, step):
        rows = rng.integers(len(values), size=(min(step, resamples - start), len(values)))
        means.append(values[rows].mean(axis=1))
    return np.concatenate(means)


def _sign_flips(gaps: np.ndarray, rng: np.random.Generator, permutations: int) -> float:
    if not gaps.size:
        return 1.0
    least = abs(gaps.sum()) - ROUNDING * np.abs(gaps).sum()
    if gaps.size <= EXACT:
        bits = (np.arange(2**gaps.size)[:, None] >> np.arange(gaps.size)) & 1
        return float((np.abs((2 * bits - 1) @ gaps) >= least).mean())
    step, larger = max(1, BLOCK // len(gaps)), 0
    for start in range(0, permutations, step):
        count = min(step, permutations - start)
        signs = 2.0 * rng.integers(2, size=(count, len(gaps)), dtype=np.int8) - 1
        larger += int((np.abs(signs @ gaps) >= least).sum())
    return (1 + larger) / (1 + permutations)
