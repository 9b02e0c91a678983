"""Retrieval: every figure against all orders of equal scores, chance levels, intervals, refusals."""

import doctest
import json
from fractions import Fraction
from itertools import pairwise, permutations
from statistics import fmean

import numpy as np
import pytest

from kaleidobert.errors import UserError
from kaleidobert.evaluators import retrieval, statistics


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def brute_force(scores, relevant, valid):
    """Every order of the candidates that the scores allow -> one (rank, 1/rank, AP) each, as exact fractions."""
    places = [i for i in range(len(scores)) if valid[i]]
    results = []
    for order in permutations(places):
        if any(scores[a] < scores[b] for a, b in pairwise(order)):
            continue
        hits = [place for place, i in enumerate(order, start=1) if relevant[i]]
        precision = [Fraction(number, place) for number, place in enumerate(hits, start=1)]
        results.append((hits[0], Fraction(1, hits[0]), sum(precision) / len(precision)))
    return results


def cases():
    """Lists of six with few distinct scores, several right ones and padding."""
    generator = rng(7)
    for levels in (1, 2, 3):
        for _ in range(12):
            scores = generator.integers(levels, size=6).astype(np.float32)
            relevant = generator.random(6) < generator.choice([0.2, 0.5, 0.9])
            valid = generator.random(6) < 0.85
            if (relevant & valid).any():
                yield scores, relevant, valid


def test_examples_in_docstrings():
    assert doctest.testmod(retrieval).attempted >= 3
    assert doctest.testmod(retrieval).failed == 0


def test_expectations_and_bounds_over_all_orders():
    count = 0
    for scores, relevant, valid in cases():
        count += 1
        orders = brute_force(scores, relevant, valid)
        ranks = [rank for rank, _, _ in orders]
        one = retrieval.rank_statistics(scores[None], relevant[None], valid[None])
        for ties, of, of_ranks in (("expectation", fmean, fmean), ("pessimistic", min, max), ("optimistic", max, min)):
            assert one.ranks(ties)[0] == pytest.approx(float(of_ranks(ranks)))
            assert one.reciprocal_ranks(ties)[0] == pytest.approx(float(of([inverse for _, inverse, _ in orders])))
            found = retrieval.average_precision(scores[None], relevant[None], valid[None], ties)[0]
            assert found == pytest.approx(float(of([precision for _, _, precision in orders])))
            for k in range(1, 8):
                assert one.hits(k, ties)[0] == pytest.approx(float(of([Fraction(rank <= k) for rank in ranks])))
    assert count > 25


def test_one_right_candidate_gives_the_plain_formula():
    scores, relevant = rng(1).integers(4, size=(50, 30)).astype(np.float32), np.zeros((50, 30), bool)
    relevant[np.arange(50), rng(2).integers(30, size=50)] = True
    own = scores[relevant][:, None]
    expected = 1 + (scores > own).sum(axis=1) + ((scores == own).sum(axis=1) - 1) / 2
    np.testing.assert_allclose(retrieval.rank_statistics(scores, relevant).ranks(), expected)


def test_a_constant_scorer_gets_exactly_chance():
    relevant = rng(3).random((40, 101)) < 0.02
    relevant[:, 17] = True
    result = retrieval.report(np.full((40, 101), 0.3, np.float32), relevant, None, rng())
    for name in ("rank@1", "rank@5", "rank@10", "mrr", "median_rank", "map"):
        assert result[name]["value"] == pytest.approx(result[name]["chance"])
    assert result["rank@1"]["value"] == pytest.approx((relevant.sum(axis=1) / 101).mean())
    assert result["share_tied"] == 1.0 and 0 < result["share_several_right"] < 1
    assert result["rank@1"]["pessimistic"] == 0.0 and result["rank@1"]["optimistic"] == 1.0


def test_chance_of_one_right_in_101():
    relevant = np.zeros((3, 101), bool)
    relevant[:, 100] = True
    result = retrieval.report(rng().random((3, 101), np.float32), relevant, None, rng())
    assert [result[f"rank@{k}"]["chance"] for k in (1, 5, 10)] == pytest.approx([1 / 101, 5 / 101, 10 / 101])
    assert result["median_rank"]["chance"] == 51
    assert result["mrr"]["chance"] == pytest.approx(sum(1 / k for k in range(1, 102)) / 101)


def test_padding_changes_nothing():
    scores, relevant = rng(4).integers(5, size=(20, 12)).astype(np.float32), rng(5).random((20, 12)) < 0.3
    relevant[:, 0] = True
    padded = np.full((20, 15), np.nan, np.float32)
    padded[:, :12] = scores
    valid = np.arange(15)[None].repeat(20, axis=0) < 12
    assert retrieval.report(padded, np.pad(relevant, ((0, 0), (0, 3)), constant_values=True), valid, rng()) == \
        retrieval.report(scores, relevant, None, rng())


def test_report_by_hand():
    scores = np.array([[3, 2, 1], [1, 3, 2], [1, 2, 3], [2, 2, 1]], np.float32)
    relevant = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 1]], bool)  # ranks 1, 3, 3, 1.5
    result = retrieval.report(scores, relevant, None, rng())
    assert result["rank@1"]["value"] == pytest.approx((1 + 0 + 0 + 0.5) / 4)
    assert result["rank@1"]["pessimistic"] == 0.25 and result["rank@1"]["optimistic"] == 0.5
    assert result["rank@5"]["value"] == 1.0
    assert result["mrr"]["value"] == pytest.approx((1 + 1 / 3 + 1 / 3 + 0.75) / 4)
    assert result["median_rank"]["value"] == 2.25
    assert result["map"]["value"] == pytest.approx((1 + 1 / 3 + 1 / 3 + (1 + 2 / 3 + 1 / 2 + 2 / 3) / 4) / 4)
    assert result["share_several_right"] == 0.25 and result["share_tied"] == 0.25
    assert result["queries"] == 4 and result["list_length"] == {"min": 3, "mean": 3.0, "max": 3}
    assert json.loads(json.dumps(result)) == result
    assert retrieval.sum_of_ranks(result, result) == pytest.approx(2 * 100 * (0.375 + 1 + 1))


def test_interval_of_a_share_of_28_percent(monkeypatch):
    """At 1,000 queries the 95% interval of Rank@1 = 28% is +-2.8 points."""
    scores, relevant = np.zeros((1000, 3), np.float32), np.zeros((1000, 3), bool)
    relevant[:, 0] = True
    scores[:280, 0], scores[280:, 1] = 1, 1
    whole = retrieval.report(scores, relevant, None, rng())
    assert whole["rank@1"]["value"] == pytest.approx(0.28)
    assert whole["rank@1"]["high"] - whole["rank@1"]["low"] == pytest.approx(0.056, abs=0.005)
    monkeypatch.setattr(statistics, "BLOCK", 7000)
    assert retrieval.report(scores, relevant, None, rng()) == whole


def test_subcategory_oracle():
    subcategories = ["shirt", "belt", "shirt", "belt"]
    found = retrieval.subcategory_oracle(subcategories, np.array([0, 1]), np.array([[0, 1, 2], [3, 0, -1]]))
    assert found.tolist() == [[1, 0, 1], [1, 0, 0]]


def test_infinite_scores_are_scores():
    scores = np.array([[-np.inf, 0.0, np.inf], [np.inf, np.inf, 0.0]], np.float32)
    relevant = np.array([[True, False, False], [True, False, False]])
    assert retrieval.rank_statistics(scores, relevant).ranks().tolist() == [3.0, 1.5]
    assert retrieval.average_precision(scores, relevant).tolist() == pytest.approx([1 / 3, 3 / 4])


def test_refusals():
    scores, relevant = np.zeros((2, 3), np.float32), np.array([[True, False, False], [False, True, False]])
    broken = scores.copy()
    broken[1, 2] = np.nan
    with pytest.raises(UserError, match="query 1.*NaN"):
        retrieval.report(broken, relevant, None, rng())
    valid = np.ones((2, 3), bool)
    valid[1, 1] = False
    with pytest.raises(UserError, match="query 1.*no right candidate"):
        retrieval.rank_statistics(scores, relevant, valid)
    with pytest.raises(UserError, match="one shape"):
        retrieval.rank_statistics(scores, relevant[:, :2])
    with pytest.raises(UserError, match="at least one query"):
        retrieval.rank_statistics(scores[:0], relevant[:0])
