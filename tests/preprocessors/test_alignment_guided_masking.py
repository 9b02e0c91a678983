"""Alignment Guided Masking: against a plain loop over one example, its rules as properties, quotas, degenerate input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaleidobert import levels as kaleido
from kaleidobert.preprocessors.alignment_guided_masking import Quota
from tests.support.guide_cases import WIDTH, chosen, loop, make, rng
from tests.support.tables import TABLES

FEW = settings(max_examples=120, deadline=None, derandomize=True)

cases = st.builds(make, st.lists(st.integers(0, WIDTH - 2), min_size=1, max_size=6), st.sampled_from(list(TABLES.values())),
                  st.sampled_from([0.0, 0.1, 0.4, 0.8, 1.0]), st.integers(0, 10**6), st.sampled_from([0.4, 0.8, 1.0]),
                  st.builds(Quota, st.sampled_from([0.15, 0.5, 1.0]), st.sampled_from([1, 4, 10]), st.booleans(),
                            st.sampled_from(["quota", "all"]), st.sampled_from(["even", "guided"])))


@FEW
@given(cases, st.integers(0, 10**6))
def test_it_does_what_the_plain_loop_does(case, seed):
    plan = case.plan(seed)
    for row, expected in enumerate(loop(case, seed)):
        assert chosen(plan, row) == expected


# --- properties -------------------------------------------------------------------------------------------------------


@FEW
@given(cases, st.integers(0, 10**6))
def test_quotas_are_met_and_no_word_is_masked_on_both_sides_while_there_is_a_choice(case, seed):
    plan = case.plan(seed)
    slices = kaleido.patch_slices(case.levels)
    for row in range(len(case.maskable)):
        tokens, patches = chosen(plan, row)
        allowed = set(np.flatnonzero(case.maskable[row]).tolist())
        limit = min(len(allowed), max(1, min(case.quota.max_masked, round(case.quota.mask_rate * len(allowed)))))
        assert tokens <= allowed and len(tokens) == limit == plan.token_weights[row].sum()
        assert {name: len(k) for name, k in patches.items()} == {x.name: x.num_masked for x in case.levels if x.num_masked}
        hidden = {slices[name].start + p for name, k in patches.items() for p in k}
        even = set() if case.quota.camouflage == "guided" else {
            p for level in case.levels if level.answer == "class" for p in range(slices[level.name].start, slices[level.name].stop)}
        linked = {t: set(np.flatnonzero(case.alignment[row, t]).tolist()) - even for t in allowed}
        of_hidden_words = set().union(*(linked[t] for t in tokens))
        for p in hidden & of_hidden_words:  # both sides of a word: then there is no other patch on that level
            part = next(part for part in slices.values() if part.start <= p < part.stop)
            assert set(range(part.start, part.stop)) - hidden <= of_hidden_words


@FEW
@given(cases, st.integers(0, 10**6))
def test_the_same_draws_give_the_same_plan_whatever_else_is_true_of_padding(case, seed):
    first = case.plan(seed)
    case.words[~case.maskable] = 7  # what stands in special tokens and padding
    case.words[:, 0] = -1
    case.alignment[~case.maskable] = 1
    again = case.plan(seed)
    assert (first.tokens == again.tokens).all() and all((first.patches[name] == again.patches[name]).all() for name in first.patches)


@pytest.mark.parametrize("levels", TABLES.values(), ids=TABLES)
def test_quotas_over_many_draws(levels):
    """100,000 examples: 5,000 texts, 20 times each."""
    lengths = rng(1).integers(0, WIDTH - 1, 5_000)
    case = make(lengths, levels, 0.4)
    for seed in range(20):
        plan = case.plan(seed)
        used = plan.token_weights > 0
        assert (used.sum(1) == np.minimum(np.clip(np.rint(0.15 * lengths), 1, 10), lengths)).all()
        assert np.take_along_axis(case.maskable, plan.tokens, 1)[used].all()
        assert (np.diff(np.where(used, plan.tokens, WIDTH + np.arange(used.shape[1])), axis=1) > 0).all()
        for level in levels:
            if level.num_masked:
                k = plan.patches[level.name]
                assert k.shape == (5_000, level.num_masked) and 0 <= k.min() and k.max() < level.num_patches
                assert (np.diff(k, axis=1) > 0).all()


# --- degenerate input -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("lengths", [[0], [1], [2], [18], [0, 1, 18], []])
@pytest.mark.parametrize("kind", ["none", "one token", "one patch", "everything", "first levels only"])
def test_degenerate_input(levels, lengths, kind):
    for whole_word in (False, True):
        case = make(lengths, levels, 0, 1, 0.5, Quota(0.15, 10, whole_word))
        count, slices = kaleido.num_patches(levels), kaleido.patch_slices(levels)
        first = next((slices[level.name].start for level in levels if level.num_masked), 0)
        if kind == "one token":
            case.alignment[:, 1, first:] = 0.5
        elif kind == "one patch":
            case.alignment[:, :, first] = 1
        elif kind == "everything":
            case.alignment[:] = 1
        elif kind == "first levels only":
            case.alignment[:, :, :first] = 1
        for seed in range(8):
            plan, expected = case.plan(seed), loop(case, seed)
            assert plan.tokens.shape == (len(lengths), 10) and (plan.token_weights.sum(1) == np.ceil(0.15 * np.array(lengths) - 0.5).clip(
                np.minimum(1, lengths))).all()
            assert all(k.max(initial=0) < count for k in plan.patches.values())
            for row in range(len(lengths)):
                assert chosen(plan, row) == expected[row]
