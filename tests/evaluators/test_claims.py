"""The report card: verdicts by hand, from results as the commands write them. Its page: tests/app_zoo/test_report.py."""

import doctest

from kaleidobert.evaluators.report import claims
from kaleidobert.evaluators.report.claims import NO, UNDECIDED, YES
from kaleidobert.evaluators.report.results import Result

MODEL = {"head": "contrastive", "head_of": "ours", "trained": "pre-trained 1 epoch"}


def figure(value, low, high, **more):
    return {"value": value, "low": low, "high": high, **more}


def pretraining(rotation=0.7, itm=0.8, blank=1.4):
    return {"task": "pretrain", "model": MODEL, "metrics": {"rotation_accuracy": rotation, "rotation_loss": 0.6, "blank_kl": blank,
                                                            "itm_accuracy": itm, "loss": 9.0},
            "baselines": {"rotation_accuracy": 0.25, "rotation_loss": 1.4, "blank_kl": 1.5, "itm_accuracy": 0.5},
            "examples": {"rotation_accuracy": 100.0, "itm_accuracy": 250.0, "blank_kl": 100.0},
            "controls": {"picture zeroed": {"itm_accuracy": figure(0.5, 0.44, 0.56)}}}


GAP = {"first": 0.7, "second": 0.55, "difference": 0.15, "low": -0.1, "high": 0.3}


def retrieval(low=0.01, high=0.3):
    gap = GAP | {"low": low, "high": high}
    return {"task": "retrieve", "model": MODEL, "direction": "i2t", "metrics": {"list_length": {"max": 101}},
            "parts": {"contrast alone": {"rank@1": figure(0.58, 0.5, 0.66, chance=0.01)}},
            "baselines": {"subcategory_oracle": {"rank@1": 0.24}}, "differences": {"ridge regression": {"rank@1": gap}}}


def card(*values):
    return claims.report_card([Result(f"run{number}", f"{number}/results.json", each) for number, each in enumerate(values)])


def test_the_examples_of_the_docstrings():
    assert doctest.testmod(claims).failed == 0


def test_a_rank_that_every_candidate_has_is_no_claim():
    few = retrieval()
    few["metrics"] = {"list_length": {"max": 5}}
    few["differences"]["ridge regression"] |= {name: GAP for name in ("rank@5", "rank@10")}
    assert [claim.claim for claim in card(few) if "ridge" in claim.claim] == ["image to text: ahead of ridge regression, rank@1 of 5"]


def test_without_labels_ranks_are_compared_with_chance():
    bare = retrieval()
    bare["baselines"]["subcategory_oracle"]["rank@1"] = 0.01
    first = card(retrieval())[0], card(bare)[0]
    assert ["subcategory" in claim.claim + claim.measured for claim in first] == [True, False]
    assert "better than chance" in first[1].claim and first[1].verdict == claims.YES


def test_pretexts_and_matching():
    pretexts, matching = card(pretraining())
    assert pretexts.verdict == matching.verdict == YES and "rotation 0.70 (0.25), blank 1.40 (1.50)" in pretexts.measured
    assert "0.800 [0.748, 0.848]; chance 0.500; picture zeroed 0.500 [0.440, 0.560]" == matching.measured
    assert [claim.verdict for claim in card(pretraining(rotation=0.3, itm=0.53))] == [UNDECIDED, UNDECIDED]
    assert [claim.verdict for claim in card(pretraining(rotation=0.1, itm=0.4))] == [NO, NO]
    assert card(pretraining(rotation=0.24))[0].verdict == UNDECIDED  # below chance, and the interval is not
    assert card(pretraining(blank=1.6))[0].verdict == UNDECIDED  # a feature level that is worse than the constant answer, no interval


def test_matching_that_needs_no_picture_is_not_supported():
    leaky = pretraining(itm=0.62)
    assert card(leaky)[1].verdict == YES
    leaky["controls"]["picture zeroed"]["itm_accuracy"] = figure(0.6, 0.54, 0.66)
    assert card(leaky)[1].verdict == UNDECIDED
    leaky["controls"]["picture zeroed"]["itm_accuracy"] = figure(0.75, 0.69, 0.8)
    assert card(leaky)[1].verdict == NO


def test_retrieval_is_judged_by_the_paired_difference():
    alone, ahead = card(retrieval())
    assert alone.verdict == YES and "contrast alone" in alone.idea and "oracle of the subcategory 0.240" in alone.measured
    assert ahead.verdict == YES and "difference +0.150 [+0.010, +0.300]" in ahead.measured
    assert card(retrieval(low=-0.1))[1].verdict == UNDECIDED and card(retrieval(-0.3, -0.1))[1].verdict == NO


def test_alignment_classes_and_captions():
    align = {"task": "align", "model": MODEL, "parts": {
        "coverage": 0.9, "sightings": 680,  # as the command writes beside the measures
        "pointing": {"alignment": {"sightings": figure(0.25, 0.22, 0.28)}, "chance": {"sightings": figure(0.1, 0.09, 0.11)},
                     "position_alone": {"sightings": figure(0.2, 0.1, 0.3)}, "look": {"sightings": figure(0.05, -0.01, 0.11)}},
        "blank": {"alignment": {"sightings": figure(0.12, 0.1, 0.14)}, "chance": {"sightings": figure(0.11, 0.1, 0.12)}}}}
    label = {"task": "classify", "model": MODEL, "label": "category", "metrics": {"accuracy": figure(0.9, 0.86, 0.94)},
             "baselines": {"nearest_neighbours_image": {"accuracy": 0.7}, "logistic_regression_text": {"accuracy": 0.95}},
             "differences": {"logistic_regression_text": {"accuracy": GAP | {"first": 0.9, "second": 0.95, "difference": -0.05}}}}
    caption = {"task": "caption", "model": MODEL, "metrics": {"cider_d": figure(1.2, 1.0, 1.4)},
               "baselines": {"nearest_picture": {"cider_d": figure(1.1, 0.9, 1.3)}},
               "differences": {"nearest_picture": {"cider_d": GAP | {"low": 0.1}}}}
    found = card(caption, label, pretraining(), align)  # in the order of the pipeline
    assert [claim.verdict for claim in found] == [YES, UNDECIDED, UNDECIDED, YES, YES, UNDECIDED, YES]
    assert "logistic regression text 0.950" in found[5].measured and "patches of blank" in found[2].claim
    assert "usual place 0.200; difference +0.050 [-0.010, +0.110]" in found[1].measured
