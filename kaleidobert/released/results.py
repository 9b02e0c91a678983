"""The released way to count a retrieval result file, and ours:

    python -m kaleidobert.released.results runs/released/i2t/result_img2txt.txt i2t

Counted as released: candidates are sorted by float32 logit[1], equal ones stay in the order of the file; queries without a right
candidate count in the denominators, to which 1e-5 is added; AUC over all pairs.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kaleidobert.errors import UserError
from kaleidobert.evaluators import retrieval
from kaleidobert.evaluators.files import released_results
from kaleidobert.evaluators.files.released_results import Pairs

RANKS = (1, 5, 10, 100)
ADDED = 1e-5  # to denominators
DIRECTIONS = {"i2t": "i2t", "t2i": "t2i", "img2txt": "i2t", "txt2img": "t2i"}


def count(pairs: Pairs, direction: str) -> dict[str, Any]:
    """{examples, queries, right, accuracy, rank@1/5/10/100, auc} as released; auc is None where all labels are the same."""
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


def show(counted: dict[str, Any]) -> str:
    """The lines that the release printed under Python 3."""
    lines = [f"Read Examples_cnt {counted['examples']}, Queries {counted['queries']}, true_pred_cnt {counted['right']}",
             f"Accuracy:  {counted['accuracy']}"]
    for k in RANKS:
        lines += [f"========== Rank @ {k} evaluation ============", f"========== Rank @ {k} is {counted[f'rank@{k}']} ============"]
    return "\n".join([*lines, f"==== AUC {counted['auc']} ===="]) + "\n"


@dataclass(frozen=True)
class Lists:
    """Candidate lists of Q queries, as evaluators.retrieval takes them: f32[Q, L], bool[Q, L], bool[Q, L] (False = padding)."""

    queries: list[str]
    candidates: list[list[str]]
    scores: np.ndarray
    relevant: np.ndarray
    valid: np.ndarray


def lists(pairs: Pairs, direction: str) -> Lists:
    """The pairs as one list per query, in the order of the file."""
    groups, answers = _groups(pairs.queries(direction)), pairs.answers(direction)
    shape = len(groups), max(map(len, groups.values()))
    scores, relevant, valid = np.full(shape, -np.inf, np.float32), np.zeros(shape, bool), np.zeros(shape, bool)
    for number, rows in enumerate(groups.values()):
        scores[number, : len(rows)] = pairs.logits[rows, 1]
        relevant[number, : len(rows)] = pairs.labels[rows] != 0
        valid[number, : len(rows)] = True
    return Lists(list(groups), [[answers[row] for row in rows] for rows in groups.values()], scores, relevant, valid)


@dataclass(frozen=True)
class Analysis:
    """released: counted as the release does. metrics: our report over the queries that have a right candidate (None where there is
    none), without the ``lonely`` ones that have none. lists: the candidate lists."""

    released: dict[str, Any]
    metrics: dict[str, Any] | None
    lonely: int
    lists: Lists


def analyse(pairs: Pairs, direction: str) -> Analysis:
    """Both ways to count, of the pairs of a result file."""
    table = lists(pairs, direction)
    used = table.relevant.any(1)
    rng = np.random.Generator(np.random.Philox(0))
    metrics = retrieval.report(table.scores[used], table.relevant[used], table.valid[used], rng) if used.any() else None
    return Analysis(count(pairs, direction), metrics, int((~used).sum()), table)


def lines(analysis: Analysis, direction: str) -> list[str]:
    """Our count as a line per rank."""
    found, made = analysis.metrics or {}, []
    for name in [f"rank@{k}" for k in retrieval.RANKS] if found else []:
        value = found[name]
        made.append(f"{direction} {name}: {value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]; chance {value['chance']:.4f}")
    return made + ([f"{analysis.lonely} queries without a right candidate are left out of these lines"] if analysis.lonely else [])


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints both counts of FILE DIRECTION; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if len(words) != 2 or words[1] not in DIRECTIONS:
        print(f"usage: python -m kaleidobert.released.results FILE {'|'.join(DIRECTIONS)}", file=sys.stderr)
        return 2
    direction = DIRECTIONS[words[1]]
    try:
        report = analyse(released_results.read(words[0]), direction)
    except UserError as error:
        print(f"results: {error}", file=sys.stderr)
        return 2
    print(show(report.released), end="")
    print("\n".join(lines(report, direction)))
    return 0


def _groups(ids: Sequence[str]) -> dict[str, list[int]]:
    """{id: its rows}, both in the order of the file."""
    groups: dict[str, list[int]] = {}
    for row, value in enumerate(ids):
        groups.setdefault(value, []).append(row)
    return groups


if __name__ == "__main__":
    sys.exit(main())
