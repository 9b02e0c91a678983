"""Intervals and paired tests of all evaluations, by scipy.stats: bootstraps, sign flips, McNemar's test, the sign test, Student's t.

Intervals are 95% percentile intervals over examples; over a few seeds they are Student's. Two intervals that overlap say little about two
models: the same queries are hard for both, so their difference varies less than either. A paired test compares every example with itself;
differences are first minus second.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kaleidobert.errors import UserError

CONFIDENCE = 0.95
RESAMPLES, PERMUTATIONS = 1000, 10_000
BLOCK = 4_000_000  # drawn numbers in memory at a time
EXACT = 12  # up to so many differing examples, all sign flips are enumerated
DIGITS = 9  # of relative sums: sums of the same values in another order are equal

Statistic = Callable[[np.ndarray], np.ndarray]


def interval(value: float | np.ndarray, low: float | np.ndarray, high: float | np.ndarray) -> dict[str, float]:
    """Returns a figure with its interval, ready for JSON."""
    return {"value": float(value), "low": float(low), "high": float(high)}


def bootstrap(statistic: Statistic, count: int, rng: np.random.Generator, resamples: int = RESAMPLES) -> tuple[np.ndarray, np.ndarray]:
    """Returns (low, high), f64[...] each, from resamples of ``count`` independent units: examples, queries, or clusters of them.

    statistic: drawn units i64[b, count] -> f64[..., b]. Figures of one call come from the same resamples.
    """
    if count == 1 or resamples == 1:  # scipy refuses a single observation, and warns of the deviation of a single resample
        only = statistic(rng.integers(count, size=(1, count)))[..., 0]
        return only, only
    from scipy import stats

    result = stats.bootstrap((np.arange(count),), lambda units, axis: statistic(units), n_resamples=resamples, vectorized=True,
                             confidence_level=CONFIDENCE, method="percentile", batch=max(1, BLOCK // count), rng=rng)
    return np.asarray(result.confidence_interval.low), np.asarray(result.confidence_interval.high)


def times_drawn(units: np.ndarray) -> np.ndarray:
    """Returns f64[b, n], how often each of n units occurs in the resamples i64[b, n]; its product with values f64[n, C] are their sums.

    A product is faster than gathering drawn values where C is large: 12 times for 3,000 units of 300 values.
    """
    rows = np.arange(len(units))[:, None] * units.shape[1]
    return np.bincount((rows + units).ravel(), minlength=units.size).reshape(units.shape).astype(np.float64)


def stratified_bootstrap(statistic: Statistic, strata: np.ndarray, counts: np.ndarray, rng: np.random.Generator,
                         resamples: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (low, high), f64[...] each, from resamples in which every stratum keeps its number of examples.

    strata, counts i64[K]: the stratum and the number of examples of K different outcomes; statistic: counts f64[b, K] -> f64[..., b].
    scipy.stats.bootstrap takes a sample per stratum, but refuses one with a single example, which rare classes have; the counts of redrawn
    examples are multinomial.
    """
    groups = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    # a generator per stratum: what is drawn does not depend on the size of the blocks
    generators = [np.random.Generator(np.random.Philox(seed)) for seed in rng.integers(2**63, size=len(groups)).tolist()]
    blocks, step = [], max(1, BLOCK // len(counts))
    for start in range(0, resamples, step):
        drawn = np.zeros((min(step, resamples - start), len(counts)))
        for group, generator in zip(groups, generators):
            total = counts[group].sum()
            drawn[:, group] = generator.multinomial(total, counts[group] / total, len(drawn))
        blocks.append(statistic(drawn))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(blocks, axis=-1), (tail, 1 - tail), axis=-1)
    return low, high


def proportion(hits: float, count: int) -> dict[str, float]:
    """Returns a proportion with the limit of its bootstrap interval for many resamples: redrawn examples make the hits binomial."""
    from scipy import stats

    low, high = stats.binom.interval(CONFIDENCE, count, hits / count)
    return interval(hits / count, low / count, high / count)


def mean_over_seeds(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Returns (mean, low, high) of a figure per seed, with the 95% interval of the mean by Student's t; a single seed has none.

    The interval is over seeds, on the same examples; of paired differences it is that of the paired t-test. Raises UserError for no values.

    >>> [round(number, 3) for number in mean_over_seeds([1.0, 2.0, 3.0])], mean_over_seeds([2.0])
    ([2.0, -0.484, 4.484], (2.0, None, None))
    """
    if not len(values):
        raise UserError("there are no values", "mean over seeds", "a value per seed")
    mean = float(np.mean(values))
    if len(values) == 1:
        return mean, None, None
    from scipy import stats

    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


def difference(first: np.ndarray, second: np.ndarray, rng: np.random.Generator, resamples: int = RESAMPLES,
               permutations: int = PERMUTATIONS) -> dict[str, float]:
    """Compares f64[N] each, a value per example -> {first, second, difference: means; low, high: of the difference; p: of ``sign_flips``}.

    Raises UserError where the vectors differ in length or are empty.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape or first.ndim != 1 or not first.size:
        raise UserError(f"values {list(first.shape)} and {list(second.shape)}", "paired test", "two vectors of one length, not empty")
    gaps = first - second
    low, high = bootstrap(lambda units: gaps[units].mean(axis=1), len(gaps), rng, resamples)
    return {"first": float(first.mean()), "second": float(second.mean()), "difference": float(gaps.mean()), "low": float(low),
            "high": float(high), "p": sign_flips(gaps, rng, permutations)}


def sign_flips(gaps: np.ndarray, rng: np.random.Generator, permutations: int) -> float:
    """Returns the two-sided p of differences f64[N] under the hypothesis that the two models are exchangeable, so that each sign is random.

    All 2^n flips count where n <= EXACT examples differ; otherwise flips are drawn, and p is (1 + as large) / (1 + permutations), never 0.
    """
    from scipy import stats

    gaps = gaps[gaps != 0]
    if gaps.size < 2:  # both signs of a single difference are equally large
        return 1.0
    total = np.abs(gaps).sum()
    if gaps.size <= EXACT:
        return float(stats.permutation_test((gaps,), lambda flipped, axis: np.round(np.abs(flipped.sum(axis)) / total, DIGITS),
                                            permutation_type="samples", vectorized=True, n_resamples=np.inf, alternative="greater").pvalue)

    def signs(size: tuple[int, ...]) -> np.ndarray:
        return 2.0 * rng.integers(2, size=size, dtype=np.int8) - 1

    # draws of permutation_test take 27 s for 20,000 examples and 10,000 flips, these 5 s, with equal p
    return float(stats.monte_carlo_test(np.ones(gaps.size), signs, lambda drawn, axis: np.round(np.abs(drawn @ gaps) / total, DIGITS),
                                        vectorized=True, n_resamples=permutations, batch=max(1, BLOCK // gaps.size),
                                        alternative="greater").pvalue)


def mcnemar(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """Tests bool[N] each, right or wrong -> {first, second: examples that each alone has right, p: exact, two-sided}.

    >>> mcnemar(np.array([1, 1, 1, 1, 1, 0, 0]) == 1, np.array([0, 0, 0, 0, 0, 0, 1]) == 1)
    {'first': 5, 'second': 1, 'p': 0.21875}
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    return _fair_coin(first & ~second, second & ~first)


def sign_test(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """Tests ranks f64[N] each, 1 = best -> as ``mcnemar``, of the examples that one ranks higher than the other."""
    return _fair_coin(first < second, second < first)


def _fair_coin(wins: np.ndarray, losses: np.ndarray) -> dict[str, Any]:
    from scipy import stats

    first, second = int(wins.sum()), int(losses.sum())
    p = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    return {"first": first, "second": second, "p": float(p)}
