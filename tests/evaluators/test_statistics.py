"""Intervals and paired tests: against all sign flips and all orders of ties, level and power, refusals; metrics by brute force."""

import doctest
from dataclasses import replace
from fractions import Fraction
from itertools import permutations, product
from math import comb
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from kaleidobert.errors import UserError
from kaleidobert.evaluators import classification, retrieval, statistics
from kaleidobert.evaluators.files import scores as score_files
from tests.support.score_data import random_pairs, write

FEW = settings(max_examples=60, deadline=None, derandomize=True)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def tables(tmp_path, *seeds):
    """Score tables on the same lists with other scores."""
    made = []
    for seed in seeds:
        pairs = random_pairs(0, queries=40)
        pairs.scores = rng(seed).integers(6, size=len(pairs.scores)).astype(float).tolist()
        made.append(score_files.read(write(tmp_path / f"{seed}.npz", pairs)))
    return made


def compare(first, second, *arguments, **options):
    """Two score tables, as `kaleidobert evaluate` compares them."""
    sides = (retrieval.rank_statistics(table.scores, table.relevant, table.valid) for table in score_files.matched(first, second))
    return retrieval.compare(*sides, *arguments, **options)


def test_examples_in_docstrings():
    assert doctest.testmod(statistics).attempted == 2 and not doctest.testmod(statistics).failed


@FEW
@given(st.integers(0, 60), st.integers(0, 60))
def test_the_sign_test_is_that_of_a_fair_coin(wins, losses):
    tail = sum(comb(wins + losses, k) for k in range(min(wins, losses) + 1))
    ranks = np.repeat([1.0, 2.0, 3.0], [wins, losses, 5]), np.repeat([2.0, 1.0, 3.0], [wins, losses, 5])
    found = statistics.sign_test(*ranks)
    assert found == {"first": wins, "second": losses, "p": pytest.approx(min(1.0, 2 * tail / 2 ** (wins + losses)), rel=1e-9)}


@FEW
@given(st.lists(st.sampled_from([-1.0, -0.5, -1 / 3, 0.0, 0.25, 1.0]), min_size=1, max_size=9))
def test_few_differences_are_flipped_in_all_ways(gaps):
    found = statistics.difference(np.array(gaps), np.zeros(len(gaps)), rng(), resamples=10)
    exact = [Fraction(gap).limit_denominator(12) for gap in gaps]
    sums = [sum(sign * gap for sign, gap in zip(signs, exact)) for signs in product((1, -1), repeat=len(gaps))]
    assert found["p"] == pytest.approx(float(np.mean([abs(total) >= abs(sum(exact)) for total in sums])))
    assert found["difference"] == pytest.approx(fmean(gaps)) and found["low"] - 1e-9 <= found["high"]


def test_drawn_flips_come_close_to_all_flips(monkeypatch):
    gaps = np.round(rng(1).normal(0.3, 1, 12), 2)
    exact = statistics.difference(gaps, np.zeros(12), rng())["p"]
    monkeypatch.setattr(statistics, "EXACT", 0)
    monkeypatch.setattr(statistics, "BLOCK", 1000)
    assert statistics.difference(gaps, np.zeros(12), rng(), permutations=20_000)["p"] == pytest.approx(exact, abs=0.012)


def test_a_true_hypothesis_is_refused_as_often_as_it_says_and_a_difference_is_found():
    def ps(shift):
        made = []
        for seed in range(150):
            first, second = rng(seed).normal(size=(2, 60))
            made.append(statistics.difference(first + shift, second, rng(seed), resamples=1, permutations=400)["p"])
        return np.array(made)

    same = ps(0.0)
    assert 0.02 <= (same < 0.1).mean() <= 0.19 and (ps(1.0) < 0.01).mean() > 0.95


def test_the_interval_holds_the_true_difference():
    held = []
    for seed in range(150):
        first = (rng(seed).random(200) < 0.5).astype(float)
        second = np.where(rng(seed + 999).random(200) < 0.8, first, 1 - first)  # the true difference is 0
        found = statistics.difference(first, second, rng(seed), resamples=300, permutations=1)
        held.append(found["low"] <= 0 <= found["high"])
    assert np.mean(held) >= 0.89


def test_two_tables(tmp_path):
    one, other = tables(tmp_path, 1, 2)
    found = compare(one, other, rng(), resamples=50, permutations=50)
    ranks = [retrieval.report(table.scores, table.relevant, table.valid, rng(), 1) for table in (one, other)]
    for name in ("rank@1", "rank@5", "rank@10", "mrr"):
        assert [found[name]["first"], found[name]["second"]] == pytest.approx([rank[name]["value"] for rank in ranks])
        assert found[name]["difference"] == pytest.approx(found[name]["first"] - found[name]["second"])
    assert found["queries"] == 40 and found["mcnemar"] is None and found["sign_test"]["first"] + found["sign_test"]["second"] <= 40
    turned, signs = compare(other, one, rng(), resamples=50, permutations=50), found["sign_test"]
    assert turned["sign_test"] == {"first": signs["second"], "second": signs["first"], "p": signs["p"]}
    assert compare(one, other, rng(), 50, 50) == found


def test_mcnemar_without_ties(tmp_path):
    one, other = (replace(table, scores=table.scores + rng(seed).random(table.scores.shape) / 2) for seed, table in
                  enumerate(tables(tmp_path, 1, 2)))
    found = compare(one, other, rng(), resamples=1, permutations=1)
    hits = [retrieval.rank_statistics(table.scores, table.relevant, table.valid).hits(1) == 1 for table in (one, other)]
    wins, losses = int((hits[0] & ~hits[1]).sum()), int((hits[1] & ~hits[0]).sum())
    p = binomtest(wins, wins + losses).pvalue
    assert wins and losses and found["mcnemar"] == {"first": wins, "second": losses, "p": pytest.approx(p)}


def test_a_model_against_itself(tmp_path):
    (one,) = tables(tmp_path, 1)
    found = compare(one, one, rng(), 10, 10)
    for name in ("rank@1", "mrr"):
        assert [found[name][key] for key in ("difference", "low", "high", "p")] == [0, 0, 0, 1]
    assert found["sign_test"] == {"first": 0, "second": 0, "p": 1.0}


def test_tables_that_do_not_belong_together(tmp_path):
    one, other = tables(tmp_path, 1, 2)
    with pytest.raises(UserError, match=r"2.npz: 2 of 40 queries are missing, the first is 'q38'; expected: the queries of .*1.npz"):
        compare(one, score_files.select(other, np.arange(38)), rng())
    with pytest.raises(UserError, match="2 queries are not in .*1.npz, the first is 'q38'"):
        compare(score_files.select(one, np.arange(38)), other, rng())
    with pytest.raises(UserError, match="query 'q0': 1 candidates are not in its list, the first is 'x'"):
        compare(one, replace(other, candidates=[["x", *other.candidates[0][1:]], *other.candidates[1:]]), rng())
    with pytest.raises(UserError, match="query 'q0': the label of .* differs"):
        compare(one, replace(other, relevant=~other.relevant & other.valid), rng())
    with pytest.raises(UserError, match="two vectors of one length"):
        statistics.difference(np.ones(3), np.ones(4), rng())


def test_predictions_of_two_models():
    labels = rng(0).integers(5, size=300)
    first, second = (np.where(rng(seed).random(300) < share, labels, rng(seed + 9).integers(6, size=300))
                     for seed, share in ((1, 0.8), (2, 0.5)))
    sets = {"all": np.ones(7, bool), "present": np.arange(7) < 5}
    found = classification.compare(labels, first, second, sets, rng(), resamples=200, permutations=200)
    assert found["accuracy"]["difference"] == pytest.approx((first == labels).mean() - (second == labels).mean())
    assert found["accuracy"]["p"] < 0.01
    wins, losses = ((first == labels) & (second != labels)).sum(), ((first != labels) & (second == labels)).sum()
    assert found["mcnemar"] == {"first": wins, "second": losses, "p": pytest.approx(binomtest(int(wins), int(wins + losses)).pvalue)}
    for name, classes in (("all", range(7)), ("present", range(5))):
        value = found[f"macro_f1_{name}"]
        scores = [f1_score(labels, guesses, labels=list(classes), average="macro", zero_division=0) for guesses in (first, second)]
        assert [value["first"], value["second"]] == pytest.approx(scores) and value["low"] < value["difference"] < value["high"]
        assert value["low"] > 0
    same = classification.compare(labels, first, first, sets, rng(), 20, 20)["macro_f1_all"]
    assert same["low"] == same["high"] == same["difference"] == 0  # the same draws for both models


# --- the metrics themselves, by counting everything -------------------------------------------------------------------------


@st.composite
def ranked_lists(draw):
    """Short lists with few distinct scores, of several lengths, at least one right candidate each."""
    made = []
    for _ in range(draw(st.integers(1, 4))):
        length = draw(st.integers(1, 6))
        scores = draw(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=length, max_size=length))
        right = draw(st.lists(st.booleans(), min_size=length, max_size=length))
        right[draw(st.integers(0, length - 1))] = True
        made.append((scores, right))
    return made


def all_orders(scores, right):
    """(rank of the first right one, average precision) in every order that the scores allow, as fractions."""
    found = []
    for order in permutations(range(len(scores))):
        if [scores[i] for i in order] == sorted(scores, reverse=True):
            places = [place for place, i in enumerate(order, 1) if right[i]]
            found.append((places[0], sum(Fraction(number, place) for number, place in enumerate(places, 1)) / len(places)))
    return found


@FEW
@given(ranked_lists())
def test_every_metric_is_its_mean_over_all_orders_of_ties(lists):
    shape = len(lists), max(len(scores) for scores, _ in lists)
    scores, right, valid = np.full(shape, np.nan), np.zeros(shape, bool), np.zeros(shape, bool)
    for row, (values, truths) in enumerate(lists):
        scores[row, : len(values)], right[row, : len(values)], valid[row, : len(values)] = values, truths, True
    report = retrieval.report(scores, right, valid, rng(), resamples=2)
    orders = [all_orders(*one) for one in lists]

    def expected(of, over):
        return float(sum(over([of(*order) for order in query]) for query in orders) / len(orders))

    def mean(values):
        return sum(values) / Fraction(len(values))

    metrics = {f"rank@{k}": lambda rank, _, k=k: Fraction(rank <= k) for k in (1, 5, 10)}
    metrics |= {"mrr": lambda rank, _: Fraction(1, rank), "map": lambda _, precision: precision}
    for name, of in metrics.items():
        for key, over in (("value", mean), ("pessimistic", min), ("optimistic", max)):
            assert report[name][key] == pytest.approx(expected(of, over), abs=1e-12)
    assert report["median_rank"]["value"] == pytest.approx(float(np.median([float(mean([rank for rank, _ in query])) for query in orders])))


@FEW
@given(st.integers(0, 10**6), st.integers(2, 8), st.integers(1, 60))
def test_the_three_macro_f1_are_scikit_learns(seed, classes, examples):
    labels, guesses = rng(seed).integers(classes, size=(2, examples))
    counts = rng(seed + 1).integers(0, 2, classes)
    counts[0] = 1
    found = classification.report(labels, guesses, [str(i) for i in range(classes)], counts, rng(), resamples=2)
    sets = {"all": range(classes), "present": sorted(set(labels.tolist())), "trained": np.flatnonzero(counts).tolist()}
    for name, used in sets.items():
        score = f1_score(labels, guesses, labels=list(used), average="macro", zero_division=0)
        assert found[f"macro_f1_{name}"]["value"] == pytest.approx(score)
