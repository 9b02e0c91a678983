"""Retrieval: ranks with ties by expectation, Rank@K, MRR, median rank, mAP, their intervals, bounds and chance levels, paired tests.

A query has N candidates with a score each; one or more of them are right, and the best right one gives the rank. Equal scores come in
random order, so that a constant scorer gets exactly what chance gives; the bounds hold for the same scores with the right candidates last
(pessimistic) or first (optimistic) among their equals. Letters: Q queries, N the length of the longest list.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kaleidobert.errors import UserError
from kaleidobert.evaluators import statistics
from kaleidobert.evaluators.statistics import PERMUTATIONS, RESAMPLES

RANKS = (1, 5, 10)
TIES = ("expectation", "pessimistic", "optimistic")


@dataclass(frozen=True)
class RankStatistics:
    """The candidates around the best right one of each query; i64[Q] each.

    above: wrong candidates with a higher score; tied_wrong: wrong ones with the same score; tied_right: right ones with that score.
    """

    above: np.ndarray
    tied_wrong: np.ndarray
    tied_right: np.ndarray

    def ranks(self, ties: str = "expectation") -> np.ndarray:
        """Computes f64[Q], 1 = first. In a random order of e wrong and r right equals e / (r + 1) wrong ones precede the first right
        one: e / 2 for a single right one.
        """
        extra = {"expectation": self.tied_wrong / (self.tied_right + 1), "pessimistic": self.tied_wrong, "optimistic": 0 * self.tied_wrong}
        return 1.0 + self.above + extra[ties]

    def hits(self, k: int, ties: str = "expectation") -> np.ndarray:
        """Computes f64[Q]: the chance that the best right candidate is among the first k."""
        if ties != "expectation":
            return (self.ranks(ties) <= k).astype(np.float64)
        missing, free = np.ones(len(self.above)), k - self.above  # the chance that all free positions go to wrong equals
        for i in range(k):
            chance = np.clip(self.tied_wrong - i, 0, None) / np.maximum(self.tied_wrong + self.tied_right - i, 1)
            missing *= np.where(i < free, chance, 1.0)
        return 1.0 - missing

    def reciprocal_ranks(self, ties: str = "expectation") -> np.ndarray:
        """Computes f64[Q]: the mean of 1 / rank over the random orders (larger than 1 / mean rank)."""
        if ties != "expectation":
            return 1.0 / self.ranks(ties)
        result, missing = np.zeros(len(self.above)), np.ones(len(self.above))
        for i in range(int(self.tied_wrong.max(initial=0)) + 1):  # i wrong equals precede the first right one
            chance = np.clip(self.tied_wrong - i, 0, None) / np.maximum(self.tied_wrong + self.tied_right - i, 1)
            result += missing * (1.0 - chance) / (1.0 + self.above + i)
            missing *= chance
        return result


def rank_statistics(scores: np.ndarray, relevant: np.ndarray, valid: np.ndarray | None = None) -> RankStatistics:
    """Ranks scores f32[Q, N] with relevant bool[Q, N] and valid bool[Q, N] (False = padding; None = no padding).

    Raises UserError where shapes differ, a score is NaN or a query has no right candidate.

    >>> one = rank_statistics(np.array([[0.9, 0.5, 0.5, 0.1]]), np.array([[False, True, False, False]]))
    >>> one.ranks().tolist(), one.hits(1).tolist(), one.hits(2).tolist(), one.reciprocal_ranks().round(4).tolist()
    ([2.5], [0.0], [0.5], [0.4167])
    """
    scores, relevant, valid = _checked(scores, relevant, valid)
    right = relevant & valid
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
    wrong, equal = valid & ~relevant, scores == best
    return RankStatistics((wrong & (scores > best)).sum(axis=1), (wrong & equal).sum(axis=1), (right & equal).sum(axis=1))


def average_precision(scores: np.ndarray, relevant: np.ndarray, valid: np.ndarray | None = None,
                      ties: str = "expectation") -> np.ndarray:
    """Computes f64[Q]: precision at each right candidate, averaged over them; the mean over queries is mAP.

    Over random orders of equals: of n equals with r right ones behind N0 candidates with R0 right ones, position i holds a right one with
    chance r / n, and then (i - 1)(r - 1) / (n - 1) of the equals before it are right (McSherry and Najork, 2008).

    >>> average_precision(np.array([[0.9, 0.5, 0.5, 0.1]]), np.array([[True, True, False, False]])).tolist()
    [0.9166666666666666]
    """
    scores, relevant, valid = _checked(scores, relevant, valid)
    right, last = relevant & valid, {"expectation": relevant * 0, "pessimistic": relevant, "optimistic": ~relevant}[ties]
    order = np.lexsort((last, -scores.astype(np.float64), ~valid), axis=1)  # padding last
    scores, right = np.take_along_axis(scores, order, axis=1), np.take_along_axis(right, order, axis=1)
    seen, positions = right.cumsum(axis=1), np.arange(1, scores.shape[1] + 1)
    if ties == "expectation":
        first, past = _runs(scores, np.take_along_axis(valid, order, axis=1))
        padded = np.pad(seen, ((0, 0), (1, 0)))
        before = np.take_along_axis(padded, first, axis=1)  # R0
        r, n = np.take_along_axis(padded, past, axis=1) - before, past - first
        expected = before + 1.0 + (positions - 1 - first) * (r - 1) / np.maximum(n - 1, 1)
        precision = r / n * expected / positions
    else:
        precision = right * seen / positions
    return precision.sum(axis=1) / seen[:, -1]


@dataclass(frozen=True)
class PerQueryMetrics:
    """The metrics of each of Q queries; those of lists that do not fit into memory together are computed piece by piece and concatenated.

    tables: {"expectation", "pessimistic", "optimistic": ties; "chance": {metric: f64[Q]}}; lengths, rights, tied i64[Q]: candidates, right
    ones, and wrong ones with the score of the best right one.
    """

    tables: dict[str, dict[str, np.ndarray]]
    lengths: np.ndarray
    rights: np.ndarray
    tied: np.ndarray

    def ranks(self) -> np.ndarray:
        """Returns f64[Q], as ``RankStatistics.ranks``."""
        return self.tables["expectation"]["median_rank"]


def per_query_metrics(scores: np.ndarray, relevant: np.ndarray, valid: np.ndarray | None = None) -> PerQueryMetrics:
    """Evaluates every query; shapes and errors as for ``rank_statistics``."""
    scores, relevant, valid = _checked(scores, relevant, valid)
    tables = {ties: _per_query(scores, relevant, valid, ties) for ties in TIES}
    lengths, rights = valid.sum(axis=1), relevant.sum(axis=1)
    # chance follows from these two numbers, and most queries have the same ones
    pairs, pair = np.unique(np.stack([lengths, rights], axis=1), axis=0, return_inverse=True)
    positions = np.arange(scores.shape[1])
    some = positions < pairs[:, 1:], positions < pairs[:, :1]
    chance = _per_query(np.zeros(some[0].shape, np.float32), *some, "expectation")
    tables["chance"] = {name: values[pair] for name, values in chance.items()}
    return PerQueryMetrics(tables, lengths, rights, rank_statistics(scores, relevant, valid).tied_wrong)


def concatenate(pieces: Sequence[PerQueryMetrics]) -> PerQueryMetrics:
    """Returns the metrics of all their queries, in this order."""
    tables = {key: {name: np.concatenate([one.tables[key][name] for one in pieces]) for name in table}
              for key, table in pieces[0].tables.items()}
    return PerQueryMetrics(tables, *[np.concatenate([getattr(one, name) for one in pieces]) for name in ("lengths", "rights", "tied")])


def summarise(metrics: PerQueryMetrics, rng: np.random.Generator, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Returns the ``report`` of per-query metrics."""
    intervals = _intervals(metrics.tables["expectation"], resamples, rng)
    lengths = metrics.lengths
    result = {
        "queries": len(lengths),
        "list_length": {"min": int(lengths.min()), "mean": float(lengths.mean()), "max": int(lengths.max())},
        "ties": "expectation", "share_several_right": float((metrics.rights > 1).mean()),
        "share_tied": float((metrics.tied > 0).mean()), "resamples": resamples,
    }
    for name in metrics.tables["expectation"]:
        values = {key: _summary(name, table[name]) for key, table in metrics.tables.items()}
        result[name] = {**statistics.interval(values["expectation"], *intervals[name]),
                        **{key: values[key] for key in ("pessimistic", "optimistic", "chance")}}
    return result


def report(scores: np.ndarray, relevant: np.ndarray, valid: np.ndarray | None, rng: np.random.Generator,
           resamples: int = RESAMPLES) -> dict[str, Any]:
    """Returns Rank@1/5/10, MRR, median rank and mAP, ready for JSON; shapes and errors as for ``rank_statistics``.

    Each metric: {value, low, high: 95% interval by bootstrap over queries; pessimistic, optimistic: other orders of equal
    scores; chance: a random order of the same lists}. median_rank takes each query's expected rank. share_several_right: the
    queries with more than one right candidate; share_tied: those whose best right candidate has a wrong one beside it.
    """
    return summarise(per_query_metrics(scores, relevant, valid), rng, resamples)


def compare(first: RankStatistics, second: RankStatistics, rng: np.random.Generator, resamples: int = RESAMPLES,
            permutations: int = PERMUTATIONS) -> dict[str, Any]:
    """Compares two models on the same lists: {metric: as statistics.difference} for Rank@1/5/10 and MRR, and tests of the order.

    mcnemar (of Rank@1; None where a tie makes a query half right), sign_test (of the ranks): {first, second: queries that each alone
    gets right / ranks higher, p}. Ties count by expectation.
    """
    values = {f"rank@{k}": (first.hits(k), second.hits(k)) for k in RANKS}
    values["mrr"] = first.reciprocal_ranks(), second.reciprocal_ranks()
    result: dict[str, Any] = {"queries": len(first.above)}
    result |= {name: statistics.difference(*pair, rng, resamples, permutations) for name, pair in values.items()}
    hits = values["rank@1"]
    whole = all(np.isin(np.round(side, 12), (0, 1)).all() for side in hits)
    result["mcnemar"] = statistics.mcnemar(*(np.round(side) == 1 for side in hits)) if whole else None
    result["sign_test"] = statistics.sign_test(first.ranks(), second.ranks())
    return result


def brief(scores: np.ndarray, relevant: np.ndarray, valid: np.ndarray) -> dict[str, float]:
    """Returns MRR and Rank@1/5/10 alone, as floats, ties by expectation; for choosing among epochs."""
    best = rank_statistics(scores, relevant, valid)
    return {"mrr": float(best.reciprocal_ranks().mean())} | {f"rank@{k}": float(best.hits(k).mean()) for k in RANKS}


def sum_of_ranks(image_to_text: Mapping[str, Any], text_to_image: Mapping[str, Any]) -> float:
    """Returns SumR of two reports: the six Rank@K values, times 100 (paper, section 4.2)."""
    return 100.0 * sum(result[f"rank@{k}"]["value"] for result in (image_to_text, text_to_image) for k in RANKS)


def subcategory_oracle(subcategories: Sequence[str], queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Returns f32[Q, N], 1 where a candidate has the query's subcategory, 0 elsewhere: what a perfect classifier alone gives.

    subcategories: one per record; queries i64[Q] and candidates i64[Q, N] are rows of them, -1 = padding.
    """
    _, codes = np.unique(np.asarray(subcategories), return_inverse=True)
    return ((codes[candidates] == codes[queries][:, None]) & (candidates >= 0)).astype(np.float32)


def _per_query(scores: np.ndarray, relevant: np.ndarray, valid: np.ndarray, ties: str) -> dict[str, np.ndarray]:
    best = rank_statistics(scores, relevant, valid)
    return {f"rank@{k}": best.hits(k, ties) for k in RANKS} | {
        "mrr": best.reciprocal_ranks(ties), "median_rank": best.ranks(ties),
        "map": average_precision(scores, relevant, valid, ties)}


def _summary(name: str, values: np.ndarray) -> float:
    return float(np.median(values) if name == "median_rank" else np.mean(values))


def _intervals(table: Mapping[str, np.ndarray], resamples: int, rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    """Returns {metric: (low, high)} over queries drawn with replacement, the same queries for all metrics."""
    def metrics(queries: np.ndarray) -> np.ndarray:
        return np.stack([np.median(values[queries], axis=1) if name == "median_rank" else values[queries].mean(axis=1)
                         for name, values in table.items()])

    low, high = statistics.bootstrap(metrics, len(table["mrr"]), rng, resamples)
    return dict(zip(table, zip(low.tolist(), high.tolist())))


def _runs(scores: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes of sorted rows i64[Q, N] each: index of the first position with the same score, index behind the last one."""
    length = scores.shape[1]
    starts = np.ones(scores.shape, bool)
    starts[:, 1:] = (scores[:, 1:] != scores[:, :-1]) | (valid[:, 1:] != valid[:, :-1])
    positions = np.broadcast_to(np.arange(length), scores.shape)
    first = np.maximum.accumulate(np.where(starts, positions, 0), axis=1)
    ends = np.ones(scores.shape, bool)
    ends[:, :-1] = starts[:, 1:]
    past = np.minimum.accumulate(np.where(ends, positions + 1, length)[:, ::-1], axis=1)[:, ::-1]
    return first, past


def _checked(scores: np.ndarray, relevant: np.ndarray, valid: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores, relevant = np.asarray(scores), np.asarray(relevant, bool)
    valid = np.ones(scores.shape, bool) if valid is None else np.asarray(valid, bool)
    if not (scores.ndim == 2 and scores.size and scores.shape == relevant.shape == valid.shape):
        raise UserError(f"scores {list(scores.shape)}, relevant {list(relevant.shape)}, valid {list(valid.shape)}", "retrieval",
                        "three tables of one shape [Q, N], at least one query")
    broken = np.flatnonzero((np.isnan(scores) & valid).any(axis=1))
    if broken.size:
        raise UserError(f"{broken.size} queries have a score that is not a number (NaN)", f"query {broken[0]}", "numbers",
                        "check the weights that scored them: training may have diverged")
    lonely = np.flatnonzero(~(relevant & valid).any(axis=1))
    if lonely.size:
        raise UserError(f"{lonely.size} queries have no right candidate", f"query {lonely[0]}", "at least one per query")
    return np.where(valid, scores, 0), relevant & valid, valid


def average(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Averages reports of several draws of the lists, as public code does: the metrics of the result are means over the draws.

    A single report comes back unchanged. low and high are means, too: the interval of one draw's queries, which is wider than that of the
    mean over draws. lowest and highest: of the draws' values.
    """
    first = reports[0]
    if len(reports) == 1:
        return first
    result = {**first, "draws": len(reports)}
    result |= {key: float(np.mean([report[key] for report in reports])) for key in ("share_several_right", "share_tied")}
    lengths = [report["list_length"] for report in reports]
    result["list_length"] = {"min": min(one["min"] for one in lengths), "mean": float(np.mean([one["mean"] for one in lengths])),
                             "max": max(one["max"] for one in lengths)}
    for name, value in first.items():
        if isinstance(value, dict) and "value" in value:
            values = [report[name]["value"] for report in reports]
            result[name] = {key: float(np.mean([report[name][key] for report in reports])) for key in value}
            result[name] |= {"lowest": min(values), "highest": max(values)}
    return result
