"""Retrieval scores of anyone as one table, whatever file they lie in.

    scores.jsonl of `kaleidobert retrieve`   {"query", "candidates": [...], "relevant": [0/1], "scores": [...]} per line
    released result file                     see released_results.py
    CSV, TSV, JSONL, NPZ                      one row per pair with columns query, candidate, label, score, in any order of rows

Every refusal names the file and the line, or the row of an NPZ. Letters: Q queries, L length of the longest list, N pairs.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kaleidobert import io
from kaleidobert.configs.tasks import ScoreColumns
from kaleidobert.errors import UserError
from kaleidobert.evaluators.files import released_results
from kaleidobert.evaluators.files.columns import Column, kind_of, read_columns
from kaleidobert.evaluators.files.released_results import Pairs

DIRECTIONS = ("i2t", "t2i")
TRUTHS = {"true": 1.0, "false": 0.0}
LISTS = ("query", "candidates", "relevant", "scores")  # keys of our own files


@dataclass(frozen=True)
class ScoreTable:
    """Scored candidate lists. Within a query the candidates keep the order of the file; padding is at the end.

    queries: Q ids; candidates: their ids, list by list; scores f64[Q, L] (-inf = padding); relevant bool[Q, L]; valid bool[Q, L].
    labelled: the file says what is right; without labels ``relevant`` is all False until score_checks.with_lists fills it.
    pairs: of a released result file, for its own ways to count. notes: what a person should know of the file.
    """

    source: str
    queries: list[str]
    candidates: list[list[str]]
    scores: np.ndarray
    relevant: np.ndarray
    valid: np.ndarray
    labelled: bool = True
    pairs: Pairs | None = None
    notes: tuple[str, ...] = ()


def read(path: str | Path, direction: str = "", columns: ScoreColumns | None = None, need_labels: bool = True) -> ScoreTable:
    """The table of a file, its format told by what it holds. direction: i2t or t2i, of a released result file.

    need_labels: refuse a file without a column of labels. UserError for a file that is missing, empty or cut off, of other columns,
    with columns of unequal length, a pair that stands twice, a score that is no finite number, a label other than 0 and 1.
    """
    columns = columns or ScoreColumns()
    where, kind = str(path), kind_of(path)
    if kind == "result":
        return _result(where, direction)
    names = {"query": columns.query, "candidate": columns.candidate, "label": columns.label, "score": columns.score}
    optional = () if need_labels else ("relevant", *(["label"] if columns.label == ScoreColumns.label else []))
    table = read_columns(path, kind, names, optional, LISTS)
    if table.lists:
        _one_line_per_query(table["query"])
        table = table.flat({"query": "query", "candidates": "candidate", "relevant": "label", "scores": "score"})
    scores = numbers(table["score"], "score")
    labels = truths(table["label"]) if "label" in table else None
    return _table(where, table["query"], table["candidate"], scores, labels, notes=table.notes)


def write(table: ScoreTable, path: str | Path) -> None:
    """The table in the format of `kaleidobert retrieve`; scores keep all digits, for ties must stay ties."""
    with io.atomic(path) as file:
        for query, names, scores, relevant in zip(table.queries, table.candidates, table.scores.tolist(), table.relevant):
            rights = relevant[: len(names)].astype(int).tolist()
            line = {"query": query, "candidates": names, "relevant": rights, "scores": scores[: len(names)]}
            file.write(json.dumps(line).encode() + b"\n")


def require_right(table: ScoreTable) -> ScoreTable:
    """The table; UserError where a query has no right candidate."""
    lonely = np.flatnonzero(~table.relevant.any(axis=1))
    if lonely.size:
        raise UserError(f"{lonely.size} of {len(table.queries)} queries have no right candidate, the first is {table.queries[lonely[0]]!r}",
                        table.source, "at least one candidate with label 1 for each query",
                        "label them, or say counting=released, which leaves them out and counts them as missed beside it")
    return table


def select(table: ScoreTable, kept: np.ndarray) -> ScoreTable:
    """The queries at the places ``kept`` (bool[Q] or indices), in that order."""
    places = np.flatnonzero(kept) if np.asarray(kept).dtype == bool else np.asarray(kept)
    return ScoreTable(table.source, [table.queries[i] for i in places], [table.candidates[i] for i in places], table.scores[places],
                      table.relevant[places], table.valid[places], table.labelled, None, table.notes)


def numbers(column: Column, what: str) -> np.ndarray:
    """f64[N]: the values of a column; UserError names the first that is no finite number."""
    try:
        values = np.array(column.values, np.float64)
        if values.ndim != 1:
            raise ValueError
    except (ValueError, TypeError):
        place = next(i for i, value in enumerate(column.values) if not _is_number(value))
        raise UserError(f"the {what} is {column.values[place]!r}", column.where(place), "a number") from None
    wrong = np.flatnonzero(~np.isfinite(values))
    if wrong.size:
        raise UserError(f"the {what} is {values[wrong[0]]} ({wrong.size} such {what}s)", column.where(wrong[0]), "finite numbers",
                        "check the model that made them: training may have diverged")
    return values


def truths(column: Column) -> np.ndarray:
    """bool[N]: 0 and 1, or true and false."""
    words = [TRUTHS.get(value.strip().lower(), value) if isinstance(value, str) else value for value in column.values]
    values = numbers(Column(words, column.lines, column.source, column.unit), "label")
    wrong = np.flatnonzero((values != 0) & (values != 1))
    if wrong.size:
        raise UserError(f"the label is {column.values[wrong[0]]}", column.where(wrong[0]), "0 or 1 (1 = the candidate is right)")
    return values == 1


def _result(where: str, direction: str) -> ScoreTable:
    if direction not in DIRECTIONS:
        raise UserError("a released result file can be read in both directions", where, "direction i2t or t2i", "say direction=i2t")
    pairs = released_results.read(where)
    lines = list(range(1, len(pairs.labels) + 1))
    queries, answers, labels = (Column(values, lines, where, "pair") for values in
                                (pairs.queries(direction), pairs.answers(direction), pairs.labels.tolist()))
    scores = numbers(Column(pairs.logits[:, 1].tolist(), lines, where, "pair"), "score")
    return _table(where, queries, answers, scores, truths(labels), pairs, repeated=True)


def _one_line_per_query(queries: Column) -> None:
    first: dict[str, int] = {}
    for place, query in enumerate(queries.values):
        if first.setdefault(query, place) != place:
            raise UserError(f"the query {query!r} stood before, on {queries.where(first[query], short=True)}", queries.where(place),
                            "one line per query")


def _table(source: str, queries: Column, answers: Column, scores: np.ndarray, labels: np.ndarray | None, pairs: Pairs | None = None,
           notes: tuple[str, ...] = (), repeated: bool = False) -> ScoreTable:
    """Long columns to padded lists. repeated: a candidate may stand twice in a list, as in released files."""
    codes, names = _codes(queries.values)
    answer_codes, answer_names = _codes(answers.values)
    keys = codes * len(answer_names) + answer_codes
    if not repeated:
        _refuse_twice(queries, answers, keys)
    elif len(keys) > len(np.unique(keys)):
        notes = (*notes, f"{len(keys) - len(np.unique(keys)):,} pairs of {source} stand there more than once and count as often")
    order, lengths = np.argsort(codes, kind="stable"), np.bincount(codes)
    starts = np.cumsum(lengths) - lengths
    row, place = codes[order], np.arange(len(order)) - np.repeat(starts, lengths)
    shape = len(names), int(lengths.max())
    padded, relevant, valid = np.full(shape, -np.inf), np.zeros(shape, bool), np.zeros(shape, bool)
    padded[row, place], valid[row, place] = scores[order], True
    if labels is not None:
        relevant[row, place] = labels[order]
    sorted_answers = [answer_names[code] for code in answer_codes[order].tolist()]
    candidates = [sorted_answers[start:start + length] for start, length in zip(starts.tolist(), lengths.tolist())]
    return ScoreTable(source, names, candidates, padded, relevant, valid, labels is not None, pairs, notes)


def _refuse_twice(queries: Column, answers: Column, keys: np.ndarray) -> None:
    order = np.argsort(keys, kind="stable")
    twice = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    if twice.size:
        second = int(order[1:][twice].min())
        first = int(np.flatnonzero(keys == keys[second])[0])
        raise UserError(f"the candidate {answers.values[second]!r} of query {queries.values[second]!r} stood before, on "
                        f"{queries.where(first, short=True)}; {twice.size} such pairs", queries.where(second), "every pair once")


def _codes(values: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """(i64[N], names): numbers in the order in which the values first occur."""
    codes: dict[str, int] = {}
    numbered = np.fromiter((codes.setdefault(value, len(codes)) for value in values), np.int64, len(values))
    return numbered, list(codes)


def _is_number(value: Any) -> bool:
    try:
        return np.ndim(np.float64(value)) == 0
    except (ValueError, TypeError):
        return False
