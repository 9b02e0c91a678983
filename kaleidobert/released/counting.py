"""Ways to count that public code has and ours has not, on request: to compare with figures that were counted so.

released: the Kaleido-BERT release; see results.py. fashionbert: the same with ids split at commas and their blanks kept, so that the
first pair of every line of the file (a batch) has an id of its own and becomes a query of its own. fashionsap: the right candidate wins
every tie. mvlt: ranks by the softmax of both logits in half precision, where close scores become equal.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kaleidobert.errors import UserError
from kaleidobert.evaluators import retrieval
from kaleidobert.evaluators.files.released_results import MARK, Pairs
from kaleidobert.evaluators.files.scores import ScoreTable
from kaleidobert.released import results

NEEDS = {"fashionbert": "the lines of a released result file, each a batch", "mvlt": "both logits of a released result file"}
METRICS = (*(f"rank@{k}" for k in retrieval.RANKS), "mrr", "median_rank", "map")


def count(table: ScoreTable, counting: str, direction: str, rng: np.random.Generator) -> dict[str, Any]:
    """The figures of one way to count; direction: of a released result file.

    released: {examples, queries, hits@1/5/10/100, rank@1/5/10/100, auc}, of a result file right and accuracy too; queries without a
    right candidate count as missed. fashionbert: the same, of the queries that the fault makes, beside real_queries. fashionsap:
    {queries, metric: value}. mvlt: {queries, share_tied, metric: {value, pessimistic, optimistic}}, for its sort was not stable.
    UserError for fashionbert and mvlt where the table is no released result file.
    """
    if counting == "fashionsap":
        report = retrieval.report(table.scores, table.relevant, table.valid, rng, resamples=1)
        return {"queries": len(table.queries)} | {name: report[name]["optimistic"] for name in METRICS}
    if counting == "released" and table.pairs is None:
        counted = _with_hits(results.count(_as_pairs(table), "i2t"))
        return {name: value for name, value in counted.items() if name not in ("right", "accuracy")}  # these need both logits
    check(table, counting)
    assert table.pairs is not None  # what is left needs them
    if counting == "mvlt":
        return _half_precision(table.pairs, direction, rng)
    pairs = with_blanks(table.source, table.pairs) if counting == "fashionbert" else table.pairs
    counted = _with_hits(results.count(pairs, direction))
    return counted | ({"real_queries": len(table.queries)} if counting == "fashionbert" else {})


def check(table: ScoreTable, counting: str) -> None:
    """UserError where a way to count needs a released result file and the table is none."""
    if table.pairs is None and counting in NEEDS:
        raise UserError(f"counting as {counting} does needs {NEEDS[counting]}", table.source, fix="say counting=expectation")


def with_blanks(path: str | Path, pairs: Pairs) -> Pairs:
    """The pairs of a result file under the ids that a reader gets who drops brackets and splits at commas, and leaves the blanks:
    only the first id of a line has none.
    """
    with open(path, encoding="utf-8") as file:
        lengths = [line.split(MARK)[3].count(",") + 1 for line in file]
    first = np.zeros(len(pairs.labels), bool)
    first[np.cumsum([0, *lengths[:-1]])] = True
    texts, products, pictures = ([name if bare else f" {name}" for name, bare in zip(names, first)]
                                 for names in (pairs.texts, pairs.products, pairs.pictures))
    return replace(pairs, texts=texts, products=products, pictures=pictures)


def half_softmax(logits: np.ndarray) -> np.ndarray:
    """f32[N, 2] -> f16[N]: the share of logit 1, of half-precision logits, rounded to half precision.

    >>> half_softmax(np.array([[0, 8.0], [0, 8.3], [0, 1.0]])).tolist()
    [0.99951171875, 0.99951171875, 0.73095703125]
    """
    logits = np.asarray(logits).astype(np.float16).astype(np.float32)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (shares[:, 1] / shares.sum(axis=1)).astype(np.float16)


def _half_precision(pairs: Pairs, direction: str, rng: np.random.Generator) -> dict[str, Any]:
    shares = half_softmax(pairs.logits)
    lists = results.lists(replace(pairs, logits=np.stack([1 - shares, shares], axis=1)), direction)
    used = lists.relevant.any(1)
    report = retrieval.report(lists.scores[used], lists.relevant[used], lists.valid[used], rng, resamples=1)
    return {"queries": int(used.sum()), "share_tied": report["share_tied"]} | {
        name: {key: report[name][key] for key in ("value", "pessimistic", "optimistic")} for name in METRICS}


def _as_pairs(table: ScoreTable) -> Pairs:
    """Any table as the pairs of a result file whose queries are products."""
    rows, places = np.nonzero(table.valid)
    scores, labels = table.scores[rows, places].astype(np.float32), table.relevant[rows, places].astype(np.int32)
    answers = [name for names in table.candidates for name in names]
    return Pairs(answers, [table.queries[row] for row in rows], answers, labels, np.stack([np.zeros_like(scores), scores], axis=1))


def _with_hits(counted: dict[str, Any]) -> dict[str, Any]:
    """The whole numbers that the shares were made of, beside them."""
    total = counted["queries"] + results.ADDED
    return counted | {f"hits@{k}": round(counted[f"rank@{k}"] * total) for k in results.RANKS}
