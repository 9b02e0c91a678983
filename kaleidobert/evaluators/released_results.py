"""The released retrieval result file and the released way to count: one line per batch, five lists with \\x01 between them.

    [text ids]\\x01[ids of the pictures' products]\\x01[ids of pictures]\\x01[labels]\\x01[two logits per pair, one behind the other]

Counted as released: a query is a text (t2i) or the product of a picture (i2t); candidates are sorted by float32 logit[1], equal ones
stay in the order of the file; queries without a right candidate count in the denominators, to which 1e-5 is added; AUC over all pairs.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kaleidobert.errors import UserError
from kaleidobert.evaluators import retrieval

RANKS = (1, 5, 10, 100)
ADDED = 1e-5  # to denominators
MARK = "\x01"
FIELDS = ("text ids", "product ids", "picture ids", "labels", "logits")
UNFIT = "[], \t\r\n'\"\x01"  # characters with which an id would not be read back
QUOTED = re.compile(r"b?(['\"])(.*)\1", re.DOTALL)  # as Python shows a text


@dataclass(frozen=True)
class Pairs:
    """N scored pairs in the order of their file: ids as text, labels i32[N] (1 = right), logits f32[N, 2]."""

    texts: list[str]
    products: list[str]
    pictures: list[str]
    labels: np.ndarray
    logits: np.ndarray

    def queries(self, direction: str) -> list[str]:
        """The id of each pair's query; direction: i2t or t2i."""
        return self.products if direction == "i2t" else self.texts

    def answers(self, direction: str) -> list[str]:
        """The id of each pair's candidate."""
        return self.texts if direction == "i2t" else self.products


def line(texts: Sequence[str], products: Sequence[str], pictures: Sequence[str], labels: np.ndarray, logits: np.ndarray) -> str:
    """A batch as its line of the file, without its end; UserError for an id that could not be read back."""
    for name, ids in zip(FIELDS, (texts, products, pictures)):
        wrong = next((value for value in ids if not value or any(mark in value for mark in UNFIT)), None)
        if wrong is not None:
            raise UserError(f"the id {wrong!r} among the {name} cannot stand in a result file", "retrieval result",
                            "ids without blanks, commas, brackets and quotes")
    lists = [[[value] for value in ids] for ids in (texts, products, pictures)]
    numbers = [[[int(label)] for label in labels], np.asarray(logits, np.float32).ravel().astype(float).tolist()]
    return MARK.join(map(str, [*lists, *numbers]))


def read(path: str | Path) -> Pairs:
    """The pairs of a result file. Brackets and blanks are dropped before splitting at commas. UserError names a line that does not fit."""
    texts, products, pictures, labels, logits = [], [], [], [], []
    try:
        with open(path, encoding="utf-8") as file:
            for number, content in enumerate(file, 1):
                where = f"{path}, line {number:,}"
                fields = content.rstrip("\r\n").split(MARK)
                if len(fields) != len(FIELDS):
                    raise UserError(f"the line has {len(fields)} fields", where, f"{len(FIELDS)}: {', '.join(FIELDS)}")
                parts = [field.translate({ord(mark): None for mark in "[] "}).split(",") for field in fields]
                try:
                    numbers = np.array(list(map(int, parts[3])), np.int32), np.array(list(map(float, parts[4])), np.float32)
                except ValueError as error:
                    raise UserError(str(error), where, "labels 0 and 1, two logits per pair") from None
                if {len(part) for part in parts[:4]} != {len(parts[0])} or len(parts[4]) != 2 * len(parts[0]):
                    raise UserError(f"the lists have {', '.join(str(len(part)) for part in parts)} items", where,
                                    "as many ids and labels, twice as many logits")
                for kept, part in zip((texts, products, pictures), parts):
                    kept += [QUOTED.sub(r"\2", value) for value in part]
                labels.append(numbers[0])
                logits.append(numbers[1])
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", str(path), "a retrieval result file") from None
    except UnicodeDecodeError:
        raise UserError("is not UTF-8", str(path), "a retrieval result file") from None
    if not texts:
        raise UserError("the file is empty", str(path), "a retrieval result file")
    return Pairs(texts, products, pictures, np.concatenate(labels), np.concatenate(logits).reshape(-1, 2))


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
    found, made = analysis.metrics, []
    for name in [f"rank@{k}" for k in retrieval.RANKS] if found else []:
        value = found[name]
        made.append(f"{direction} {name}: {value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]; chance {value['chance']:.4f}")
    return made + ([f"{analysis.lonely} queries without a right candidate are left out of these lines"] if analysis.lonely else [])


def _groups(ids: Sequence[str]) -> dict[str, list[int]]:
    """{id: its rows}, both in the order of the file."""
    groups: dict[str, list[int]] = {}
    for row, value in enumerate(ids):
        groups.setdefault(value, []).append(row)
    return groups
