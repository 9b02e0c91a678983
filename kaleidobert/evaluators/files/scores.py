"""Retrieval scores of any model as one table, whatever their file, and checks that a table belongs to lists, ids, texts, another table.

    scores.jsonl of `kaleidobert retrieve`   {"query", "candidates": [...], "relevant": [0/1], "scores": [...]} per line
    released result file                     one line per batch, five lists with \\x01 between them (released/counting.py counts them):
        [text ids]\\x01[ids of the pictures' products]\\x01[ids of pictures]\\x01[labels]\\x01[two logits per pair, one behind the other]
        A query is a text (t2i) or the product of a picture (i2t).
    CSV, TSV, JSONL, NPZ                      one row per pair with columns query, candidate, label, score, in any order of rows

Every refusal names the file and the line, or the row of an NPZ. Letters: Q queries, L length of the longest list, N pairs.
"""

import difflib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kaleidobert import io
from kaleidobert.configs.tasks import ScoreColumns
from kaleidobert.errors import UserError
from kaleidobert.evaluators.candidates import SavedLists, normalise
from kaleidobert.evaluators.files.columns import MARK, Column, format_of, read_columns

DIRECTIONS = ("i2t", "t2i")
TRUTHS = {"true": 1.0, "false": 0.0}
LISTS = ("query", "candidates", "relevant", "scores")  # keys of our own files
RESCORE = "score the lists of that file, all of them"


# --- The released result file


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
        """Returns the id of each pair's query; direction: i2t or t2i."""
        return self.products if direction == "i2t" else self.texts

    def answers(self, direction: str) -> list[str]:
        """Returns the id of each pair's candidate."""
        return self.texts if direction == "i2t" else self.products


def released_line(texts: Sequence[str], products: Sequence[str], pictures: Sequence[str], labels: np.ndarray, logits: np.ndarray) -> str:
    """Returns a batch as its line of the file, without line end. Raises UserError for an id that could not be read back."""
    for name, ids in zip(FIELDS, (texts, products, pictures)):
        wrong = next((value for value in ids if not value or any(mark in value for mark in UNFIT)), None)
        if wrong is not None:
            raise UserError(f"the id {wrong!r} among the {name} cannot stand in a result file", "retrieval result",
                            "ids without blanks, commas, brackets and quotes")
    lists = [[[value] for value in ids] for ids in (texts, products, pictures)]
    numbers = [[[int(label)] for label in labels], np.asarray(logits, np.float32).ravel().astype(float).tolist()]
    return MARK.join(map(str, [*lists, *numbers]))


def read_released(path: str | Path) -> Pairs:
    """Reads the pairs of a result file; brackets and blanks are dropped before splitting at commas. Raises UserError for a line that does
    not fit."""
    texts: list[str] = []
    products: list[str] = []
    pictures: list[str] = []
    labels, logits = [], []
    with io.readable(path, "a retrieval result file"), open(path, encoding="utf-8") as file:
        for number, content in enumerate(file, 1):
            where = f"{path}, line {number:,}"
            fields = content.rstrip("\r\n").split(MARK)
            if len(fields) != len(FIELDS):
                raise UserError(f"the line has {len(fields)} fields", where, f"{len(FIELDS)}: {', '.join(FIELDS)}")
            lists = [field.translate({ord(mark): None for mark in "[] "}).split(",") for field in fields]
            try:
                numbers = np.array(list(map(int, lists[3])), np.int32), np.array(list(map(float, lists[4])), np.float32)
            except ValueError as error:
                raise UserError(str(error), where, "labels 0 and 1, two logits per pair") from None
            if {len(one) for one in lists[:4]} != {len(lists[0])} or len(lists[4]) != 2 * len(lists[0]):
                raise UserError(f"the lists have {', '.join(str(len(one)) for one in lists)} items", where,
                                "as many ids and labels, twice as many logits")
            for kept, values in zip((texts, products, pictures), lists):
                kept += [QUOTED.sub(r"\2", value) for value in values]
            labels.append(numbers[0])
            logits.append(numbers[1])
    if not texts:
        raise UserError("the file is empty", str(path), "a retrieval result file")
    return Pairs(texts, products, pictures, np.concatenate(labels), np.concatenate(logits).reshape(-1, 2))


# --- Tables of scores


@dataclass(frozen=True)
class ScoreTable:
    """Scored candidate lists. Within a query the candidates keep the order of the file; padding is at the end.

    queries: Q ids; candidates: their ids, list by list; scores f64[Q, L] (-inf = padding); relevant bool[Q, L]; valid bool[Q, L].
    labelled: whether the file has labels; without them ``relevant`` is all False until ``with_lists`` fills it.
    pairs: of a released result file, for its own ways to count. notes: remarks on the file for a person.
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
    """Reads the table of a file, whose content decides its format. direction: i2t or t2i, of a released result file.

    need_labels: refuse a file without a column of labels. Raises UserError for a file that is missing, empty or cut off, other columns,
    columns of unequal length, a repeated pair, a score that is no finite number, and a label other than 0 and 1.
    """
    columns = columns or ScoreColumns()
    where, file_format = str(path), format_of(path)
    if file_format == "result":
        return _result(where, direction)
    names = {"query": columns.query, "candidate": columns.candidate, "label": columns.label, "score": columns.score}
    optional = () if need_labels else ("relevant", *(["label"] if columns.label == ScoreColumns.label else []))
    table = read_columns(path, file_format, names, optional, LISTS)
    if table.lists:
        _one_line_per_query(table["query"])
        table = table.flat({"query": "query", "candidates": "candidate", "relevant": "label", "scores": "score"})
    scores = numbers(table["score"], "score")
    labels = truths(table["label"]) if "label" in table else None
    return _table(where, table["query"], table["candidate"], scores, labels, notes=table.notes)


def write(table: ScoreTable, path: str | Path) -> None:
    """Writes the table in the format of `kaleidobert retrieve`; scores keep all digits, for ties must stay ties."""
    with io.atomic(path) as file:
        for query, names, scores, relevant in zip(table.queries, table.candidates, table.scores.tolist(), table.relevant):
            rights = relevant[: len(names)].astype(int).tolist()
            line = {"query": query, "candidates": names, "relevant": rights, "scores": scores[: len(names)]}
            file.write(json.dumps(line).encode() + b"\n")


def require_right(table: ScoreTable) -> ScoreTable:
    """Returns the table. Raises UserError where a query has no right candidate."""
    lonely = np.flatnonzero(~table.relevant.any(axis=1))
    if lonely.size:
        raise UserError(f"{lonely.size} of {len(table.queries)} queries have no right candidate, the first is {table.queries[lonely[0]]!r}",
                        table.source, "at least one candidate with label 1 for each query",
                        "label them, or say counting=released, which leaves them out and counts them as missed beside it")
    return table


def select(table: ScoreTable, kept: np.ndarray) -> ScoreTable:
    """Returns the queries ``kept`` (bool[Q] or indices), in that order."""
    rows = np.flatnonzero(kept) if np.asarray(kept).dtype == bool else np.asarray(kept)
    return ScoreTable(table.source, [table.queries[i] for i in rows], [table.candidates[i] for i in rows], table.scores[rows],
                      table.relevant[rows], table.valid[rows], table.labelled, None, table.notes)


def with_lists(table: ScoreTable, lists: SavedLists, where: str) -> ScoreTable:
    """Returns the table with the right answers of candidate lists. where: the lists' file, for errors.

    Labels 0 of right candidates give way to the lists, and a note counts them. Raises UserError for queries that are missing or not in the
    lists, a query with other candidates than its list, and a label 1 where the candidate is wrong by the lists.
    """
    numbers_of = {query: number for number, query in enumerate(lists.queries)}
    _same_queries(table, lists.queries, where)
    relevant, turned = np.zeros(table.relevant.shape, bool), 0
    for row, query in enumerate(table.queries):
        wanted, names = lists.candidates[numbers_of[query]], table.candidates[row]
        _same_candidates(table, query, names, wanted, where)
        right = {wanted[position] for position in lists.relevant[numbers_of[query]]}
        relevant[row, : len(names)] = [name in right for name in names]
        wrong = np.flatnonzero(table.relevant[row] & ~relevant[row])
        if wrong.size:
            raise UserError(f"query {query!r}: the label of {names[wrong[0]]!r} is 1", table.source, f"0, as in {where}")
        turned += int((relevant[row] & ~table.relevant[row]).sum()) if table.labelled else 0
    note = (f"{turned} labels 0 of {table.source} were taken for 1, as in {where}",) if turned else ()
    return replace(table, relevant=relevant, labelled=True, notes=(*table.notes, *note))


def check_ids(table: ScoreTable, ids: Collection[str], where: str) -> None:
    """Raises UserError where the table has an id that is not among ``ids`` (of the split of a bank: ``where``)."""
    ids = set(ids)
    for what, names in (("query", table.queries), ("candidate", {name for row in table.candidates for name in row})):
        unknown = sorted(set(names) - ids)
        if unknown:
            near = difflib.get_close_matches(unknown[0], ids, 1, 0.5)
            raise UserError(f"{len(unknown)} {what} ids are unknown, the first is {unknown[0]!r}", table.source, f"ids of {where}",
                            f"did you mean {near[0]!r}?" if near else "")


def with_texts(table: ScoreTable, texts: Mapping[str, str]) -> tuple[ScoreTable, int]:
    """Returns (the table in which candidates of the query's text are right as well, their number). texts: {id: text} of all ids.

    Texts are compared in lower case with blanks collapsed; empty ones equal nothing. Raises UserError for an id without a text.
    """
    lonely = sorted(({name for row in table.candidates for name in row} | set(table.queries)) - set(texts))
    if lonely:
        raise UserError(f"{len(lonely)} ids have no text, the first is {lonely[0]!r}", table.source, "a text for every query and candidate",
                        "add them to the table of texts, or say identical_texts=false")
    plain = {name: normalise(text) for name, text in texts.items()}
    relevant = table.relevant.copy()
    for row, (query, names) in enumerate(zip(table.queries, table.candidates)):
        own = plain[query]
        relevant[row, : len(names)] |= [bool(own) and plain[name] == own for name in names]
    return replace(table, relevant=relevant), int((relevant & ~table.relevant).sum())


def matched(first: ScoreTable, second: ScoreTable) -> tuple[ScoreTable, ScoreTable]:
    """Returns two tables on the same lists, the queries of the second in the order of the first; candidates keep their order.

    Raises UserError where queries, candidates or labels differ.
    """
    _same_queries(second, first.queries, first.source)
    numbers_of = {query: number for number, query in enumerate(second.queries)}
    second = select(second, np.array([numbers_of[query] for query in first.queries], np.int64))
    for row, query in enumerate(first.queries):
        ours, theirs = first.candidates[row], second.candidates[row]
        _same_candidates(second, query, theirs, ours, first.source)
        mine, other = ({name for name, right in zip(table.candidates[row], table.relevant[row]) if right} for table in (first, second))
        if mine != other:
            raise UserError(f"query {query!r}: the label of {min(mine ^ other)!r} differs", second.source, f"as in {first.source}")
    return first, second


def numbers(column: Column, what: str) -> np.ndarray:
    """Returns the values of a column, f64[N]. Raises UserError for the first that is no finite number."""
    try:
        values = np.array(column.values, np.float64)
        if values.ndim != 1:
            raise ValueError
    except (ValueError, TypeError):
        row = next(i for i, value in enumerate(column.values) if not _is_number(value))
        raise UserError(f"the {what} is {column.values[row]!r}", column.where(row), "a number") from None
    wrong = np.flatnonzero(~np.isfinite(values))
    if wrong.size:
        raise UserError(f"the {what} is {values[wrong[0]]} ({wrong.size} such {what}s)", column.where(wrong[0]), "finite numbers",
                        "check the model that made them: training may have diverged")
    return values


def truths(column: Column) -> np.ndarray:
    """Returns a column of 0 and 1, or true and false, as bool[N]."""
    words = [TRUTHS.get(value.strip().lower(), value) if isinstance(value, str) else value for value in column.values]
    values = numbers(Column(words, column.lines, column.source, column.unit), "label")
    wrong = np.flatnonzero((values != 0) & (values != 1))
    if wrong.size:
        raise UserError(f"the label is {column.values[wrong[0]]}", column.where(wrong[0]), "0 or 1 (1 = the candidate is right)")
    return values == 1


def _result(where: str, direction: str) -> ScoreTable:
    if direction not in DIRECTIONS:
        raise UserError("a released result file can be read in both directions", where, "direction i2t or t2i", "say direction=i2t")
    pairs = read_released(where)
    lines = range(1, len(pairs.labels) + 1)
    truths(Column(pairs.labels.tolist(), lines, where, "pair"))
    numbers(Column(pairs.logits[:, 1].tolist(), lines, where, "pair"), "score")
    return score_table(pairs, direction, where)


def score_table(pairs: Pairs, direction: str, source: str = "") -> ScoreTable:
    """Groups the pairs of a released result file into one list per query, in the order of the file, with logit[1] as the score."""
    lines = range(1, len(pairs.labels) + 1)
    queries, answers = (Column(values, lines, source, "pair") for values in (pairs.queries(direction), pairs.answers(direction)))
    return _table(source, queries, answers, pairs.logits[:, 1].astype(np.float64), pairs.labels != 0, pairs, repeated=True)


def _one_line_per_query(queries: Column) -> None:
    first: dict[str, int] = {}
    for row, query in enumerate(queries.values):
        if first.setdefault(query, row) != row:
            raise UserError(f"the query {query!r} stood before, on {queries.where(first[query], short=True)}", queries.where(row),
                            "one line per query")


def _table(source: str, queries: Column, answers: Column, scores: np.ndarray, labels: np.ndarray | None, pairs: Pairs | None = None,
           notes: tuple[str, ...] = (), repeated: bool = False) -> ScoreTable:
    """Turns long columns into padded lists. repeated: a candidate may stand twice in a list, as in released files."""
    codes, names = _codes(queries.values)
    answer_codes, answer_names = _codes(answers.values)
    keys = codes * len(answer_names) + answer_codes
    if not repeated:
        _refuse_twice(queries, answers, keys)
    elif len(keys) > len(np.unique(keys)):
        notes = (*notes, f"{len(keys) - len(np.unique(keys)):,} pairs of {source} stand there more than once and count as often")
    order, lengths = np.argsort(codes, kind="stable"), np.bincount(codes)
    starts = np.cumsum(lengths) - lengths
    row, position = codes[order], np.arange(len(order)) - np.repeat(starts, lengths)
    shape = len(names), int(lengths.max())
    padded, relevant, valid = np.full(shape, -np.inf), np.zeros(shape, bool), np.zeros(shape, bool)
    padded[row, position], valid[row, position] = scores[order], True
    if labels is not None:
        relevant[row, position] = labels[order]
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
    """Returns (i64[N], names), numbers in the order in which the values first occur."""
    codes: dict[str, int] = {}
    numbered = np.fromiter((codes.setdefault(value, len(codes)) for value in values), np.int64, len(values))
    return numbered, list(codes)


def _is_number(value: Any) -> bool:
    try:
        return np.ndim(np.float64(value)) == 0
    except (ValueError, TypeError):
        return False


def _same_queries(table: ScoreTable, wanted: Sequence[str], where: str) -> None:
    present = set(table.queries)
    missing, unknown = [query for query in wanted if query not in present], sorted(present - set(wanted))
    if missing:
        raise UserError(f"{len(missing)} of {len(wanted)} queries are missing, the first is {missing[0]!r}", table.source,
                        f"the queries of {where}", RESCORE)
    if unknown:
        raise UserError(f"{len(unknown)} queries are not in {where}, the first is {unknown[0]!r}", table.source, "the queries of that file")


def _same_candidates(table: ScoreTable, query: str, names: Sequence[str], wanted: Sequence[str], where: str) -> None:
    if sorted(names) == sorted(wanted):
        return
    missing, unknown = sorted(set(wanted) - set(names)), sorted(set(names) - set(wanted))
    what = f"{len(unknown)} candidates are not in its list, the first is {unknown[0]!r}" if unknown else \
        f"{len(missing)} candidates are missing, the first is {missing[0]!r}" if missing else "a candidate stands twice"
    raise UserError(f"query {query!r}: {what}", table.source, f"the candidates of {where}", RESCORE)
