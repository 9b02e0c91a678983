"""Table 4: figures of a row, intervals and verdicts by hand, the table's text."""

import doctest

import pytest

from kaleidobert.errors import UserError
from kaleidobert.evaluators import statistics
from kaleidobert.evaluators.report import ablation
from kaleidobert.evaluators.report.ablation import CLAIMS, ROWS, SUM_CAP, SUM_CLS, SUMR, SUMS
from kaleidobert.evaluators.report.claims import NO, UNDECIDED, YES, over_seeds
from kaleidobert.evaluators.report.results import Result
from kaleidobert.evaluators.report.tables import markdown

T2, T1 = 4.302653, 12.706205  # quantiles .975 of Student's t with 2 and 1 degrees of freedom, from a printed table
TWO = (SUMR, SUM_CLS)


def figure(value):
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def ranks(*values):
    return {f"rank@{k}": figure(value) for k, value in zip((1, 5, 10), values)}


def results(**changes):
    head = {"head": "dual_encoder", "head_of": "ours", "trained": "long"}
    plain = {"model": {"head": "plain", "head_of": "the paper's", "trained": "long"}, "metrics": ranks(0.05, 0.1, 0.2)}
    made = {
        "pretrain": {"task": "pretrain", "metrics": {"itm_accuracy": 0.75}},
        "masked_words": {"task": "masked words", "metrics": {"aligned": 0.25, "unaligned": 0.5}},
        "i2t": {"task": "retrieve", "direction": "i2t", "model": head, "metrics": ranks(0.5, 0.75, 0.875),
                "parts": {"encoder alone": ranks(0.25, 0.5, 0.5)}, "plain": plain},
        "t2i": {"task": "retrieve", "direction": "t2i", "model": head, "metrics": ranks(0.25, 0.5, 0.625),
                "parts": {"encoder alone": ranks(0.125, 0.5, 0.625)}, "plain": {"metrics": None}},
        "cat": {"task": "classify", "metrics": {"accuracy": figure(0.9), "macro_f1_all": figure(0.7)}},
        "subcat": {"task": "classify", "metrics": {"accuracy": figure(0.8), "macro_f1_all": figure(0.6)}},
        "caption": {"task": "caption", "metrics": {"bleu4": figure(0.05), "meteor": figure(0.1), "rouge_l": figure(0.3),
                                                   "cider_d": figure(0.35)}}}
    return {name: Result(name, f"{name}/results.json", values) for name, values in (made | changes).items()}


def test_the_examples_of_the_docstrings():
    assert doctest.testmod(statistics).failed == doctest.testmod(ablation).failed == 0


def test_figures_of_a_row():
    found = ablation.figures(results())
    assert found == pytest.approx({
        "matching": 0.75, "masked aligned": 0.25, "masked unaligned": 0.5, "i2t rank@1": 0.5, "i2t rank@1 encoder alone": 0.25,
        "i2t rank@1 plain head": 0.05, "t2i rank@1": 0.25, "t2i rank@1 encoder alone": 0.125, SUMR: 350.0,
        f"{SUMR} encoder alone": 250.0, "subcategory": 0.8, SUM_CLS: 300.0, SUM_CAP: 80.0})
    silent = {"task": "caption", "metrics": {"bleu4": figure(0.05), "meteor": None, "rouge_l": figure(0.3), "cider_d": figure(0.35)}}
    assert SUM_CAP not in ablation.figures(results(caption=silent))  # no Java, no METEOR
    with pytest.raises(UserError, match="cat/results.json: there is no 'metrics.accuracy'"):
        ablation.figures(results(cat={"task": "classify", "metrics": {}}))


def test_the_papers_rows_and_differences():
    assert {name: row.paper for name, row in ROWS.items()}["b_v"] == (287.70, 300.21, 78.6) and len(ROWS) == 12 + 1 and len(CLAIMS) == 9 + 1
    assert {name for name, row in ROWS.items() if row.runs == "b_i-v"} == {"kaleido-saliency", "agm", "b_i-v"}
    assert ablation.papers_difference("blank alone (B+V) is ahead of B", SUMR) == pytest.approx(-8.0)
    assert [round(ablation.papers_difference("AGM is ahead of random masking", name), 2) for name in SUMS] == [20.02, 3.83, 5.4]
    ours = next(claim for claim, (_, other) in CLAIMS.items() if other == "scratch")
    assert ablation.papers_difference(ours, SUMR) is None
    assert set(CLAIMS).issuperset(ablation.compare(list(ROWS), {}, TWO)) and not ablation.compare(["agm"], {}, TWO)


def test_the_mean_over_seeds_by_hand():
    mean, low, high = statistics.mean_over_seeds([1.0, 2.0, 3.0])  # deviation 1
    assert (mean, low, high) == pytest.approx((2, 2 - T2 / 3**0.5, 2 + T2 / 3**0.5), abs=1e-5)
    assert statistics.mean_over_seeds([1.0, 3.0])[2] == pytest.approx(2 + T1, abs=1e-4)  # deviation sqrt 2, of two seeds
    assert statistics.mean_over_seeds([5.0]) == (5.0, None, None) and statistics.mean_over_seeds([4.0, 4.0]) == (4.0, 4.0, 4.0)
    with pytest.raises(UserError, match="no values"):
        statistics.mean_over_seeds([])


def test_verdicts_are_paired_by_seed():
    noisy = {0: 100.0, 1: 200.0, 2: 300.0}  # seeds differ much, settings little: 10, 11, 12
    ahead = over_seeds({0: 110.0, 1: 211.0, 2: 312.0}, noisy)
    assert ahead.verdict == ahead.judged() == YES and (ahead.first, ahead.second, ahead.difference) == pytest.approx((211, 200, 11))
    assert (ahead.low, ahead.high) == pytest.approx((11 - T2 / 3**0.5, 11 + T2 / 3**0.5), abs=1e-5)
    behind = over_seeds(noisy, {0: 110.0, 1: 211.0, 2: 312.0})
    assert behind.verdict == NO and behind.difference == pytest.approx(-11)
    open_one = over_seeds({0: 102.0, 1: 200.0, 2: 304.0}, noisy)  # 2, 0, 4: deviation 2
    assert open_one.verdict == UNDECIDED and open_one.half_width == pytest.approx(2 * T2 / 3**0.5, abs=1e-5)
    assert open_one.judged() == "undecided (±5.0 would show)"
    single = over_seeds({1: 900.0}, noisy)
    assert (single.seeds, single.verdict, single.low, single.half_width) == (1, UNDECIDED, None, None)
    assert single.judged() == "undecided (one seed)" and over_seeds({7: 1.0}, noisy) is None
    assert over_seeds({0: 1.0, 1: 1.0}, {0: 1.0, 1: 1.0}).verdict == UNDECIDED  # no difference, without any doubt


def measured():
    def seeds(*values):
        return {seed: {SUMR: value, SUM_CLS: value / 2, "matching": 0.5, "i2t rank@1": 0.25, "i2t rank@1 encoder alone": 0.125}
                for seed, value in enumerate(values)}

    return {"random": seeds(100, 200, 300), "b_i-v": seeds(110, 211, 312), "b": seeds(100)}


def cells(text, name, number=0):
    line = [line for line in text.splitlines() if line.startswith(f"| {name} ")][number]
    return [cell.strip() for cell in line.split("|")[2:-1]]


def test_the_table_has_the_papers_layout_and_figures():
    main, finer, claims = map(markdown, ablation.tables(["random", "agm", "b", "b_v"], measured(), TWO))
    half = 100 * T2 / 3**0.5
    assert cells(main, "**random**") == ["masking", "3", f"200.0 [{200 - half:.1f}, {200 + half:.1f}]", "299.50",
                                         f"100.0 [{100 - half / 2:.1f}, {100 + half / 2:.1f}]", "314.31"]
    assert cells(main, "**B**") == ["pretexts", "1", "100.0", "295.70", "50.0", "297.40"] and "**B+V**" not in main
    assert "No seed of these rows is finished yet: pretexts: B+V." in main and "Sum CAP" not in main
    assert cells(finer, "**AGM**") == ["masking", "50.0 [50.0, 50.0]", "25.0 [25.0, 25.0]", "12.5 [12.5, 12.5]"]
    assert "ITR R@1, encoder alone" in finer
    assert cells(claims, "AGM is ahead of random masking") == [SUMR, "3", "+11.0 [+8.5, +13.5]", "+20.02", "yes"]
    assert cells(claims, "AGM is ahead of random masking", 1) == [SUM_CLS, "3", "+5.5 [+4.3, +6.7]", "+3.83", "yes"]
    assert cells(claims, "blank alone (B+V) is ahead of B") == [SUMR, "0", "–", "-8.00", "–"]
    assert "rotation (I)" not in claims and "alone stands beside" not in claims and "Heads" not in main


def test_the_encoders_own_part_of_a_head_of_ours_is_a_measure_too():
    own = {seed: {SUMR: 300.0 + seed, f"{SUMR} encoder alone": 100.0 + 10 * seed, f"{SUMR} plain head": 1.0} for seed in (0, 1)}
    other = {seed: {SUMR: 300.0, f"{SUMR} encoder alone": 99.0 + 10 * seed} for seed in (0, 1)}
    models = ablation.heads(results())
    assert models["i2t"] == models["t2i"] == "dual_encoder (ours)" and "masked_words" not in models
    main, _, claims = map(markdown, ablation.tables(["random", "agm"], {"b_i-v": own, "random": other}, [SUMR], models))
    assert cells(main, "**AGM**")[-1] == "105.0 [41.5, 168.5]" and "SumR, encoder alone" in main and "plain head" not in main
    assert "Heads: pretrain, cat, subcat, caption: not known; i2t, t2i: dual_encoder (ours)." in main
    expected = ["SumR, encoder alone", "2", "+1.0 [+1.0, +1.0]", "+20.02", "undecided (2 seeds)"]
    assert cells(claims, "AGM is ahead of random masking", 1) == expected
    assert "alone stands beside the paper's SumR" in claims


def test_results_for_programs():
    values = ablation.to_json(["random", "agm"], measured(), TWO)
    agm, (sumr, _) = values["rows"]["agm"], values["claims"]
    assert agm["runs"] == "b_i-v" and agm["seeds"] == [0, 1, 2] and agm["paper"] == {SUMR: 319.52, SUM_CLS: 318.14, SUM_CAP: 84.0}
    assert agm["by_seed"]["1"][SUMR] == 211 and agm["figures"][SUMR]["value"] == pytest.approx(211)
    assert (sumr["ahead"], sumr["of"], sumr["measure"], sumr["verdict"]) == ("agm", "random", SUMR, YES)
    assert (sumr["seeds"], sumr["paper"]) == (3, 20.02)
    empty = ablation.to_json(["random", "agm"], {}, TWO)
    assert empty["rows"]["agm"]["figures"] == {} and empty["claims"][0]["seeds"] == 0
