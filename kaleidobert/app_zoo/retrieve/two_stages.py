"""The full gallery by two stages, as ``kaleidobert search`` answers: vectors rank all candidates, the network re-ranks the first k.

A query's rank counts in the whole gallery: the first k in the order of the network, behind them the others in that of stage one. No
query can be right whose answer is not among the first k: that recall is the ceiling of stage two, and is reported for several k.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kaleidobert.app_zoo.search import vectors
from kaleidobert.app_zoo.search.vectors import MatcherEncoder
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sampling import finetuning
from kaleidobert.evaluators import candidates, retrieval
from kaleidobert.evaluators.candidates import CandidateLists, Gallery
from kaleidobert.evaluators.retrieval import PerQueryMetrics
from kaleidobert.model_zoo import pairs
from kaleidobert.model_zoo.kaleidobert import Matcher

ALONE = "stage one alone"
CEILINGS = (10, 50, 100)  # k whose recall is reported, beside the one in use
BATCH = 64


@dataclass(frozen=True)
class FirstStage:
    """The vectors f32[N, W] of all records, whose products rank. name: what they are."""

    pictures: np.ndarray
    texts: np.ndarray
    name: str

    def chunks(self, lists: Gallery) -> Iterator[tuple[CandidateLists, np.ndarray]]:
        """Yields some queries at a time with their scores f32[q, L]."""
        wanted, offered = (self.pictures, self.texts) if lists.direction == "i2t" else (self.texts, self.pictures)
        for chunk in lists.chunks():
            yield chunk, (wanted[chunk.queries] @ offered[lists.gallery].T).astype(np.float32)

    def nearest(self, lists: Gallery, count: int, ids: Sequence[str]) -> CandidateLists:
        """Returns lists of every query's first ``count`` candidates, in order; equal ones in the order of the gallery."""
        order = np.concatenate([np.argsort(-scores, axis=1, kind="stable")[:, :count] for _, scores in self.chunks(lists)])
        return candidates.part_of_gallery(lists, order, ids)


def of_matcher(model: Matcher, bank: Bank, rows: np.ndarray) -> FirstStage:
    """Returns the vectors that a matcher has of its own (pairs.has_vectors), of rows of the bank."""
    made_by, batches = MatcherEncoder(model, ""), [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    pictures = [made_by.pictures(finetuning.picture_inputs(bank, batch)) for batch in batches]
    texts = [made_by.texts(finetuning.text_inputs(bank, batch), ()) for batch in batches]
    return FirstStage(np.concatenate(pictures), np.concatenate(texts), made_by.name)


def first_stage(model: Matcher, bank: Bank, rows: np.ndarray, linear: tuple[np.ndarray, np.ndarray] | None) -> FirstStage:
    """Returns what ranks first: the matcher's vectors, or, where it has none, those of ridge regression, ``linear`` (pictures, texts)."""
    if pairs.has_vectors(model):
        return of_matcher(model, bank, rows)
    assert linear is not None  # the caller fits it where the matcher has none
    return FirstStage(*linear, vectors.LINEAR)


def count(stage: FirstStage, lists: Gallery, short: CandidateLists,
          scores: np.ndarray) -> tuple[dict[str, PerQueryMetrics], dict[str, float]]:
    """Returns ({"itm": both stages, "first": stage one alone}, {k: its recall ceiling}). short: of ``nearest``; scores f32[Q, k]: of the
    network."""
    positions = np.full(int(max(lists.gallery.max(), short.candidates.max())) + 1, -1)
    positions[lists.gallery] = np.arange(lists.length)
    tallies: dict[str, list[PerQueryMetrics]] = {"itm": [], "first": []}
    ceilings: dict[int, list[np.ndarray]] = {k: [] for k in sorted({*CEILINGS, short.length}) if k <= lists.length}
    start = 0
    for chunk, first in stage.chunks(lists):
        stop = start + len(chunk.queries)
        both = join(first, positions[short.candidates[start:stop]], scores[start:stop])
        for name, table in (("itm", both), ("first", first)):
            tallies[name].append(retrieval.per_query_metrics(table, chunk.relevant))
        ranks = retrieval.rank_statistics(first, chunk.relevant)
        for k, hits in ceilings.items():
            hits.append(ranks.hits(k))
        start = stop
    return ({name: retrieval.concatenate(each) for name, each in tallies.items()},
            {str(k): float(np.concatenate(hits).mean()) for k, hits in ceilings.items()})


def join(first: np.ndarray, chosen: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns f64[q, L]: ``scores`` f32[q, k] at the columns ``chosen`` i64[q, k]; the others, in the order of ``first`` f32[q, L], below.

    >>> join(np.array([[4.0, 3, 2, 1]]), np.array([[0, 1]]), np.array([[-1.0, 7]])).tolist()
    [[-1.0, 7.0, -2.0, -3.0]]
    """
    table = first.astype(np.float64)
    np.put_along_axis(table, chosen, -np.inf, axis=1)
    if chosen.shape[1] < first.shape[1]:
        table += scores.min(axis=1, keepdims=True) - 1.0 - table.max(axis=1, keepdims=True)
    np.put_along_axis(table, chosen, scores.astype(np.float64), axis=1)
    return table


def describe(stage: FirstStage, short: CandidateLists, ceilings: dict[str, float]) -> dict[str, Any]:
    """Returns the entry "two_stages" of results.json."""
    return {"rerank": short.length, "stage_one": stage.name, "recall": ceilings, "candidates_sha256": short.sha256}
