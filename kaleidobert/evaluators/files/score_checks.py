"""Does a table of scores belong to what it is counted with: candidate lists, a bank's ids, texts, another model's table."""

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from kaleidobert.errors import UserError
from kaleidobert.evaluators.candidates.candidates import SavedLists, normalise
from kaleidobert.evaluators.files.score_tables import ScoreTable, select

ANEW = "score the lists of that file, all of them"


def with_lists(table: ScoreTable, lists: SavedLists, where: str) -> ScoreTable:
    """The table with the right answers of candidate lists. where: the lists' file, for errors.

    UserError for queries that are missing or not in the lists, a query with other candidates than its list has, a label 1 where the
    lists say that the candidate is wrong. Labels 0 of answers that are right give way to the lists, and a note tells how many.
    """
    places = {query: place for place, query in enumerate(lists.queries)}
    _same_queries(table, lists.queries, where)
    relevant, turned = np.zeros(table.relevant.shape, bool), 0
    for row, query in enumerate(table.queries):
        wanted, names = lists.candidates[places[query]], table.candidates[row]
        _same_candidates(table, query, names, wanted, where)
        right = {wanted[place] for place in lists.relevant[places[query]]}
        relevant[row, : len(names)] = [name in right for name in names]
        wrong = np.flatnonzero(table.relevant[row] & ~relevant[row])
        if wrong.size:
            raise UserError(f"query {query!r}: the label of {names[wrong[0]]!r} is 1", table.source, f"0, as in {where}")
        turned += int((relevant[row] & ~table.relevant[row]).sum()) if table.labelled else 0
    note = (f"{turned} labels 0 of {table.source} were taken for 1, as in {where}",) if turned else ()
    return replace(table, relevant=relevant, labelled=True, notes=(*table.notes, *note))


def known(table: ScoreTable, ids: Collection[str], where: str) -> None:
    """UserError where the table names an id that is not among ``ids`` (of the split of a bank: ``where``)."""
    ids = set(ids)
    for what, names in (("query", table.queries), ("candidate", {name for row in table.candidates for name in row})):
        unknown = sorted(set(names) - ids)
        if unknown:
            near = difflib.get_close_matches(unknown[0], ids, 1, 0.5)
            raise UserError(f"{len(unknown)} {what} ids are unknown, the first is {unknown[0]!r}", table.source, f"ids of {where}",
                            f"did you mean {near[0]!r}?" if near else "")


def with_texts(table: ScoreTable, texts: Mapping[str, str]) -> tuple[ScoreTable, int]:
    """(the table in which candidates of the query's text are right as well, how many became so); texts: {id: text} of all ids.

    Texts are compared in lower case with blanks collapsed; empty ones equal nothing. UserError for an id without a text.
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
    """Two tables on the same lists, the queries of the second in the order of the first; candidates keep their places.

    UserError where queries, candidates or labels differ.
    """
    _same_queries(second, first.queries, first.source)
    places = {query: place for place, query in enumerate(second.queries)}
    second = select(second, np.array([places[query] for query in first.queries], np.int64))
    for row, query in enumerate(first.queries):
        ours, theirs = first.candidates[row], second.candidates[row]
        _same_candidates(second, query, theirs, ours, first.source)
        mine, other = ({name for name, right in zip(table.candidates[row], table.relevant[row]) if right} for table in (first, second))
        if mine != other:
            raise UserError(f"query {query!r}: the label of {min(mine ^ other)!r} differs", second.source, f"as in {first.source}")
    return first, second


def _same_queries(table: ScoreTable, wanted: Sequence[str], where: str) -> None:
    there = set(table.queries)
    missing, unknown = [query for query in wanted if query not in there], sorted(there - set(wanted))
    if missing:
        raise UserError(f"{len(missing)} of {len(wanted)} queries are missing, the first is {missing[0]!r}", table.source,
                        f"the queries of {where}", ANEW)
    if unknown:
        raise UserError(f"{len(unknown)} queries are not in {where}, the first is {unknown[0]!r}", table.source, "the queries of that file")


def _same_candidates(table: ScoreTable, query: str, names: Sequence[str], wanted: Sequence[str], where: str) -> None:
    if sorted(names) == sorted(wanted):
        return
    missing, unknown = sorted(set(wanted) - set(names)), sorted(set(names) - set(wanted))
    what = f"{len(unknown)} candidates are not in its list, the first is {unknown[0]!r}" if unknown else \
        f"{len(missing)} candidates are missing, the first is {missing[0]!r}" if missing else "a candidate stands twice"
    raise UserError(f"query {query!r}: {what}", table.source, f"the candidates of {where}", ANEW)
