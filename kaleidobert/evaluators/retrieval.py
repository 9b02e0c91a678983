"""Retrieval: ranks with ties by expectation, Rank@K, MRR, median rank, mAP, their intervals, bounds and chance levels.

A query has N candidates with a score each; one or more of them are right, and the best right one gives the rank. Equal
scores come in random order, so that a constant scorer gets exactly what chance gives; the bounds say what the same scores
would give if the right ones came last (pessimistic) or first (optimistic) among their equals. Letters: Q queries, N the
length of the longest list.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kaleidobert.errors import UserError

RANKS = (1, 5, 10)
RESAMPLES = 1000
LEVEL = (2.5, 97.5)  # percentiles of a 95% interval
BLOCK = 4_000_000  # drawn queries held in memory at a time
TIES = ("expectation", "pessimistic", "optimistic")


@dataclass(frozen=True)
class RankStatistics:
    """Where the best right candidate of each query stands; i64[Q] each.

    above: wrong candidates with a higher score; level: wrong ones with the same score; right: right ones with that score.
    """

    above: np.ndarray
    level: np.ndarray
    right: np.ndarray

    def ranks(self, ties: str = "expectation") -> np.ndarray:
        """f64[Q], 1 = first. In a random order of e wrong and r right equals e / (r + 1) wrong ones precede the first right
        one: e / 2 for a single right one.
        """
        extra = {"expectation": self.level / (self.right + 1), "pessimistic": self.level, "optimistic": 0 * self.level}
        return 1.0 + self.above + extra[ties]

    def hits(self, k: int, ties: str = "expectation") -> np.ndarray:
        """f64[Q]: the chance that the best right candidate is among the first k."""
        if ties != "expectation":
            return (self.ranks(ties) <= k).astype(np.float64)
        missing, free = np.ones(len(self.above)), k - self.above  # the chance that all free places go to wrong equals
        for i in range(k):
            chance = np.clip(self.level - i, 0, None) / np.maximum(self.level + self.right - i, 1)
            missing *= np.where(i < free, chance, 1.0)
        return 1.0 - missing

    def reciprocal_ranks(self, ties: str = "expectation") -> np.ndarray:
        """f64[Q]: the mean of 1 / rank over the random orders (larger than 1 / mean rank)."""
        if ties != "expectation":
            return 1.0 / self.ranks(ties)
        result, missing = np.zeros(len(self.above)), np.ones(len(self.above))
        for i in range(int(self.level.max(initial=0)) + 1):  # i wrong equals precede the first right one
            chance = np.clip(self.level - i, 0, None) / np.maximum(self.level + self.right - i, 1)
            result += missing * (1.0 - chance) / (1.0 + self.above + i)
            missing *= chance
        return result


def standing(scores: np.ndarray, relevant: np.ndarray, valid: np.ndarray | None = None) -> RankStatistics:
    """scores f32[Q, N], relevant bool[Q, N], valid bool[Q, N] (False = padding; None = no padding).

    Raises UserError where shapes differ, a score is NaN or a query has no right candidate.

    >>> one = standing(np.array([[0.9, 0.5, 0.5, 0.1]]), np.array([[False, True, False, False]]))
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
    """f64[Q]: precision at each right candidate, averaged over them; the mean over queries is mAP.

    Over random orders of equals: of n equals with r right ones behind N0 candidates with R0 right ones, place i holds a right
    one with chance r / n, and then (i - 1)(r - 1) / (n - 1) of the equals before it are right (McSherry and Najork, 2008).

    >>> average_precision(np.array([[0.9, 0.5, 0.5, 0.1]]), np.array([[True, True, False, False]])).tolist()
    [0.9166666666666666]
    """
    scores, relevant, valid = _checked(scores, relevant, valid)
    right, last = relevant & valid, {"expectation": relevant * 0, "pessimistic": relevant, "optimistic": ~relevant}[ties]
    order = np.lexsort((last, -scores.astype(np.float64), ~valid), axis=1)  # padding last
    scores, right = np.take_along_axis(scores, order, axis=1), np.take_along_axis(right, order, axis=1)
    seen, places = right.cumsum(axis=1), np.arange(1, scores.shape[1] + 1)
    if ties == "expectation":
        first, past = _runs(scores, np.take_along_axis(valid, order, axis=1))
        padded = np.pad(seen, ((0, 0), (1, 0)))
        before = np.take_along_axis(padded, first, axis=1)  # R0
        r, n = np.take_along_axis(padded, past, axis=1) - before, past - first
        expected = before + 1.0 + (places - 1 - first) * (r - 1) / np.maximum(n - 1, 1)
        precision = r / n * expected / places
    else:
        precision = right * seen / places
    return precision.sum(axis=1) / seen[:, -1]


@dataclass(frozen=True)
class Tally:
    """What a report needs of every query, Q of them: lists that are too many to be held at once are tallied part by part and joined.

    tables: {"expectation", "pessimistic", "optimistic": ties; "chance": {metric: f64[Q]}}; lengths, rights, level i64[Q]: candidates,
    right ones, and wrong ones with the score of the best right one.
    """

    tables: dict[str, dict[str, np.ndarray]]
    lengths: np.ndarray
    rights: np.ndarray
    level: np.ndarray

    def ranks(self) -> np.ndarray:
        """f64[Q], as RankStatistics.ranks."""
        return self.tables["expectation"]["median_rank"]


def tally(scores: np.ndarray, relevant: np.ndarray, valid: np.ndarray | None = None) -> Tally:
    """Shapes and errors as for ``standing``."""
    scores, relevant, valid = _checked(scores, relevant, valid)
    tables = {ties: _per_query(scores, relevant, valid, ties) for ties in TIES}
    lengths, rights = valid.sum(axis=1), relevant.sum(axis=1)
    # what chance gives follows from these two numbers, of which most queries have the same
    kinds, kind = np.unique(np.stack([lengths, rights], axis=1), axis=0, return_inverse=True)
    places = np.arange(scores.shape[1])
    some = places < kinds[:, 1:], places < kinds[:, :1]
    chance = _per_query(np.zeros(some[0].shape, np.float32), *some, "expectation")
    tables["chance"] = {name: values[kind] for name, values in chance.items()}
    return Tally(tables, lengths, rights, standing(scores, relevant, valid).level)


def joined(tallies: Sequence[Tally]) -> Tally:
    """One tally of all their queries, in this order."""
    tables = {key: {name: np.concatenate([one.tables[key][name] for one in tallies]) for name in table}
              for key, table in tallies[0].tables.items()}
    return Tally(tables, *[np.concatenate([getattr(one, name) for one in tallies]) for name in ("lengths", "rights", "level")])


def summarise(counted: Tally, rng: np.random.Generator, resamples: int = RESAMPLES) -> dict[str, Any]:
    """``report`` of a tally."""
    drawn = _bootstrap(counted.tables["expectation"], resamples, rng)
    lengths = counted.lengths
    result = {
        "queries": len(lengths),
        "list_length": {"min": int(lengths.min()), "mean": float(lengths.mean()), "max": int(lengths.max())},
        "ties": "expectation", "share_several_right": float((counted.rights > 1).mean()),
        "share_tied": float((counted.level > 0).mean()), "resamples": resamples,
    }
    for name in counted.tables["expectation"]:
        low, high = np.percentile(drawn[name], LEVEL)
        values = {key: _summary(name, table[name]) for key, table in counted.tables.items()}
        result[name] = {"value": values["expectation"], "low": float(low), "high": float(high),
                        **{key: values[key] for key in ("pessimistic", "optimistic", "chance")}}
    return result


def report(scores: np.ndarray, relevant: np.ndarray, valid: np.ndarray | None, rng: np.random.Generator,
           resamples: int = RESAMPLES) -> dict[str, Any]:
    """Rank@1/5/10, MRR, median rank and mAP, ready for JSON; shapes and errors as for ``standing``.

    Each metric: {value, low, high: 95% interval by bootstrap over queries; pessimistic, optimistic: other orders of equal
    scores; chance: a random order of the same lists}. median_rank takes each query's expected rank. share_several_right: the
    queries with more than one right candidate; share_tied: those whose best right candidate has a wrong one beside it.
    """
    return summarise(tally(scores, relevant, valid), rng, resamples)


def brief(scores: np.ndarray, relevant: np.ndarray, valid: np.ndarray | None = None) -> dict[str, float]:
    """MRR and Rank@1/5/10 alone, as floats, ties by expectation; for choosing among epochs."""
    best = standing(scores, relevant, valid)
    return {"mrr": float(best.reciprocal_ranks().mean())} | {f"rank@{k}": float(best.hits(k).mean()) for k in RANKS}


def sum_of_ranks(image_to_text: Mapping[str, Any], text_to_image: Mapping[str, Any]) -> float:
    """SumR of two reports: the six Rank@K values, times 100 (paper, section 4.2)."""
    return 100.0 * sum(result[f"rank@{k}"]["value"] for result in (image_to_text, text_to_image) for k in RANKS)


def subcategory_oracle(subcategories: Sequence[str], queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """f32[Q, N]: 1 where a candidate has the query's subcategory, 0 elsewhere: all that a classifier alone could give.

    subcategories: one per record; queries i64[Q] and candidates i64[Q, N] are rows of them, -1 = padding.
    """
    _, codes = np.unique(np.asarray(subcategories), return_inverse=True)
    return ((codes[candidates] == codes[queries][:, None]) & (candidates >= 0)).astype(np.float32)


def _per_query(scores: np.ndarray, relevant: np.ndarray, valid: np.ndarray, ties: str) -> dict[str, np.ndarray]:
    best = standing(scores, relevant, valid)
    return {f"rank@{k}": best.hits(k, ties) for k in RANKS} | {
        "mrr": best.reciprocal_ranks(ties), "median_rank": best.ranks(ties),
        "map": average_precision(scores, relevant, valid, ties)}


def _summary(name: str, values: np.ndarray) -> float:
    return float(np.median(values) if name == "median_rank" else np.mean(values))


def _bootstrap(table: dict[str, np.ndarray], resamples: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """{metric: f64[R]}: each metric over queries drawn with replacement, the same queries for all metrics."""
    count = len(table["mrr"])
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in table}
    step = max(1, BLOCK // count)
    for start in range(0, resamples, step):
        rows = rng.integers(count, size=(min(step, resamples - start), count))
        for name, values in table.items():
            drawn[name].append(np.median(values[rows], axis=1) if name == "median_rank" else values[rows].mean(axis=1))
    return {name: np.concatenate(parts) for name, parts in drawn.items()}


def _runs(scores: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted rows -> i64[Q, N] each: index of the first place with the same score, index behind the last one."""
    length = scores.shape[1]
    starts = np.ones(scores.shape, bool)
    starts[:, 1:] = (scores[:, 1:] != scores[:, :-1]) | (valid[:, 1:] != valid[:, :-1])
    places = np.broadcast_to(np.arange(length), scores.shape)
    first = np.maximum.accumulate(np.where(starts, places, 0), axis=1)
    ends = np.ones(scores.shape, bool)
    ends[:, :-1] = starts[:, 1:]
    past = np.minimum.accumulate(np.where(ends, places + 1, length)[:, ::-1], axis=1)[:, ::-1]
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


# --- Several draws of the same lists' protocol, counted as one: means, with what each draw gave


def average(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Reports as retrieval.report makes them -> one whose metrics are means over the draws, as public code averages them.

    A single report comes back as it is. low and high are means too: they tell how far one draw's queries are from all queries, not
    how far the mean of the draws is, which lies closer. lowest and highest: of the draws' values.
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
