"""How a retrieval result file is counted: as the release does, as other public code does, and as ours does:

    python -m kaleidobert.released.counting runs/released/i2t/result_img2txt.txt i2t

released: candidates are sorted by float32 logit[1], equal ones stay in the order of the file; queries without a right candidate
count in the denominators, to which 1e-5 is added; AUC over all pairs. fashionbert: the same with ids split at commas and their
blanks kept, so that the first pair of every line of the file (a batch) has an id of its own and becomes a query of its own.
fashionsap: the right candidate wins every tie. mvlt: ranks by the softmax of both logits in half precision, where close scores
become equal.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kaleidobert.errors import UserError
from kaleidobert.evaluators import retrieval
from kaleidobert.evaluators.files.columns import MARK
from kaleidobert.evaluators.files.scores import Pairs, ScoreTable, read_released, score_table

# --- As released, and ours

RANKS = (1, 5, 10, 100)
ADDED = 1e-5  # to denominators


def count_as_released(pairs: Pairs, direction: str) -> dict[str, Any]:
    """Returns {examples, queries, right, accuracy, rank@1/5/10/100, auc}; auc is None where all labels are the same."""
    from sklearn.metrics import roc_auc_score

    hits = dict.fromkeys(RANKS, 0)
    groups = _groups(pairs.queries(direction))
    for rows in groups.values():
        ordered = pairs.labels[rows][np.argsort(-pairs.logits[rows, 1], kind="stable")]
        first = int(np.argmax(ordered != 0)) if ordered.any() else len(ordered) + RANKS[-1]
        for k in RANKS:
            hits[k] += first < k
    right, total = int((pairs.logits.argmax(1) == pairs.labels).sum()), len(pairs.labels)
    both = len(np.unique(pairs.labels)) == 2
    return {"examples": total, "queries": len(groups), "right": right, "accuracy": float(right) / (float(total) + ADDED),
            **{f"rank@{k}": float(hits[k]) / float(len(groups) + ADDED) for k in RANKS},
            "auc": float(roc_auc_score(pairs.labels, pairs.logits[:, 1])) if both else None}


def released_report(counted: dict[str, Any]) -> str:
    """Formats the report that the release prints under Python 3."""
    lines = [f"Read Examples_cnt {counted['examples']}, Queries {counted['queries']}, true_pred_cnt {counted['right']}",
             f"Accuracy:  {counted['accuracy']}"]
    for k in RANKS:
        lines += [f"========== Rank @ {k} evaluation ============", f"========== Rank @ {k} is {counted[f'rank@{k}']} ============"]
    return "\n".join([*lines, f"==== AUC {counted['auc']} ===="]) + "\n"


@dataclass(frozen=True)
class Analysis:
    """released: counted as the release does. metrics: our report over the queries that have a right candidate (None where there is
    none). unanswerable: queries without one. lists: the candidate lists."""

    released: dict[str, Any]
    metrics: dict[str, Any] | None
    unanswerable: int
    lists: ScoreTable


def analyse(pairs: Pairs, direction: str) -> Analysis:
    """Counts the pairs of a result file as the release does and as ours does."""
    table = score_table(pairs, direction)
    used = table.relevant.any(1)
    rng = np.random.Generator(np.random.Philox(0))
    metrics = retrieval.report(table.scores[used], table.relevant[used], table.valid[used], rng) if used.any() else None
    return Analysis(count_as_released(pairs, direction), metrics, int((~used).sum()), table)


def metric_lines(analysis: Analysis, direction: str) -> list[str]:
    """Formats our metrics, a line for each rank."""
    metrics, lines = analysis.metrics or {}, []
    for name in [f"rank@{k}" for k in retrieval.RANKS] if metrics else []:
        value = metrics[name]
        lines.append(f"{direction} {name}: {value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]; "
                     f"chance {value['chance']:.4f}")
    if not analysis.unanswerable:
        return lines
    return [*lines, f"{analysis.unanswerable} queries without a right candidate are not in these lines"]


def _groups(ids: Sequence[str]) -> dict[str, list[int]]:
    """Returns {id: its rows}, both in the order of the file."""
    groups: dict[str, list[int]] = {}
    for row, value in enumerate(ids):
        groups.setdefault(value, []).append(row)
    return groups


# --- As other public code


NEEDS = {"fashionbert": "the lines of a released result file, each a batch", "mvlt": "both logits of a released result file"}
METRICS = (*(f"rank@{k}" for k in retrieval.RANKS), "mrr", "median_rank", "map")


def count(table: ScoreTable, counting: str, direction: str, rng: np.random.Generator) -> dict[str, Any]:
    """Returns the metrics of one way to count. direction: i2t or t2i, of a released result file.

    released: {examples, queries, hits@1/5/10/100, rank@1/5/10/100, auc}, of a result file right and accuracy too; queries without a
    right candidate count as missed. fashionbert: the same over the queries that the split at commas makes, beside real_queries. fashionsap:
    {queries, metric: value}. mvlt: {queries, share_tied, metric: {value, pessimistic, optimistic}}, for its sort was not stable.
    UserError for fashionbert and mvlt where the table is no released result file.
    """
    if counting == "fashionsap":
        report = retrieval.report(table.scores, table.relevant, table.valid, rng, resamples=1)
        return {"queries": len(table.queries)} | {name: report[name]["optimistic"] for name in METRICS}
    if counting == "released" and table.pairs is None:
        counted = _with_hits(count_as_released(_as_pairs(table), "i2t"))
        return {name: value for name, value in counted.items() if name not in ("right", "accuracy")}  # these need both logits
    check(table, counting)
    assert table.pairs is not None  # what is left needs them
    if counting == "mvlt":
        return _half_precision(table.pairs, direction, rng)
    pairs = with_blanks(table.source, table.pairs) if counting == "fashionbert" else table.pairs
    counted = _with_hits(count_as_released(pairs, direction))
    return counted | ({"real_queries": len(table.queries)} if counting == "fashionbert" else {})


def check(table: ScoreTable, counting: str) -> None:
    """Raises UserError where a way to count needs a released result file and the table is none."""
    if table.pairs is None and counting in NEEDS:
        raise UserError(f"counting as {counting} does needs {NEEDS[counting]}", table.source, fix="say counting=expectation")


def with_blanks(path: str | Path, pairs: Pairs) -> Pairs:
    """Returns the pairs with the ids of a reader that drops brackets, splits at commas and keeps the blanks: every id but the first
    of a line begins with a blank.
    """
    with open(path, encoding="utf-8") as file:
        lengths = [line.split(MARK)[3].count(",") + 1 for line in file]
    first = np.zeros(len(pairs.labels), bool)
    first[np.cumsum([0, *lengths[:-1]])] = True
    texts, products, pictures = ([name if bare else f" {name}" for name, bare in zip(names, first)]
                                 for names in (pairs.texts, pairs.products, pairs.pictures))
    return replace(pairs, texts=texts, products=products, pictures=pictures)


def half_softmax(logits: np.ndarray) -> np.ndarray:
    """Computes f32[N, 2] -> f16[N]: the probability of class 1, from half-precision logits, in half precision.

    >>> half_softmax(np.array([[0, 8.0], [0, 8.3], [0, 1.0]])).tolist()
    [0.99951171875, 0.99951171875, 0.73095703125]
    """
    logits = np.asarray(logits).astype(np.float16).astype(np.float32)
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (probabilities[:, 1] / probabilities.sum(axis=1)).astype(np.float16)


def _half_precision(pairs: Pairs, direction: str, rng: np.random.Generator) -> dict[str, Any]:
    probabilities = half_softmax(pairs.logits)
    lists = score_table(replace(pairs, logits=np.stack([1 - probabilities, probabilities], axis=1)), direction)
    used = lists.relevant.any(1)
    report = retrieval.report(lists.scores[used], lists.relevant[used], lists.valid[used], rng, resamples=1)
    return {"queries": int(used.sum()), "share_tied": report["share_tied"]} | {
        name: {key: report[name][key] for key in ("value", "pessimistic", "optimistic")} for name in METRICS}


def _as_pairs(table: ScoreTable) -> Pairs:
    """Turns any table into the pairs of a result file whose queries are products."""
    rows, columns = np.nonzero(table.valid)
    scores, labels = table.scores[rows, columns].astype(np.float32), table.relevant[rows, columns].astype(np.int32)
    answers = [name for names in table.candidates for name in names]
    return Pairs(answers, [table.queries[row] for row in rows], answers, labels, np.stack([np.zeros_like(scores), scores], axis=1))


def _with_hits(counted: dict[str, Any]) -> dict[str, Any]:
    """Adds the counts from which the fractions were made."""
    total = counted["queries"] + ADDED
    return counted | {f"hits@{k}": round(counted[f"rank@{k}"] * total) for k in RANKS}


DIRECTIONS = {"i2t": "i2t", "t2i": "t2i", "img2txt": "i2t", "txt2img": "t2i"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints both counts of FILE DIRECTION; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if len(words) != 2 or words[1] not in DIRECTIONS:
        print(f"usage: python -m kaleidobert.released.counting FILE {'|'.join(DIRECTIONS)}", file=sys.stderr)
        return 2
    direction = DIRECTIONS[words[1]]
    try:
        analysis = analyse(read_released(words[0]), direction)
    except UserError as error:
        print(f"counting: {error}", file=sys.stderr)
        return 2
    print(released_report(analysis.released), end="")
    print("\n".join(metric_lines(analysis, direction)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
