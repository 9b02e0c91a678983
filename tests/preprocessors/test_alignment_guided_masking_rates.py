"""Alignment Guided Masking: how often what is masked, by chi-square tests and by hand."""

from dataclasses import replace

import numpy as np

from kaleidobert import levels as kaleido
from kaleidobert.levels import KALEIDO
from tests.support.guide_cases import ALL, WIDTH, make

MANY = 8_000


def pattern(links, length=16, per_word=1.0, quota=None):
    """MANY times one text of single-piece words 1..length, linked to patches of KALEIDO: {word: {patch: strength}}."""
    case = make(np.full(MANY, length), KALEIDO, 0, 0, per_word, quota or ALL)
    for word, strengths in links.items():
        for patch, strength in strengths.items():
            case.alignment[:, word, patch] = strength
    return case


def hits(plan):
    """(bool[B, T] masked tokens, bool[B, 55] masked patches)."""
    tokens, patches = np.zeros((len(plan.tokens), WIDTH + 1), bool), np.zeros((len(plan.tokens), 55), bool)
    np.put_along_axis(tokens, np.where(plan.token_weights > 0, plan.tokens, WIDTH), True, 1)
    for name, part in kaleido.patch_slices(KALEIDO).items():
        if name in plan.patches:
            np.put_along_axis(patches, part.start + plan.patches[name], True, 1)
    return tokens[:, :WIDTH], patches


def chi_square(counts, expected):
    return ((np.asarray(counts) - expected) ** 2 / expected).sum()


def test_a_fair_coin_says_which_side_is_masked():
    tokens, patches = hits(pattern({5: {7: 0.5, 20: 0.5, 40: 0.5}}).plan())
    text, picture = tokens[:, 5], patches[:, [7, 20, 40]]
    assert chi_square([text.sum(), (~text).sum()], MANY / 2) < 10.83  # one degree of freedom, p = .001
    assert (picture.all(1) == ~text).all() and (picture.any(1) == ~text).all()  # all its patches or none


def test_groups_come_in_random_order_and_both_sides_are_equally_likely():
    """Eight words with patches of their own, two places for tokens and one on level 3: every word as often as every other."""
    tokens, patches = hits(pattern({1 + w: {5 + w: 0.1 + 0.1 * w} for w in range(8)}).plan())
    by_word, by_patch = tokens[:, 1:9].sum(0), patches[:, 5:13].sum(0)
    assert chi_square(by_word, by_word.mean()) < 24.3 and chi_square(by_patch, by_patch.mean()) < 24.3  # 7 degrees of freedom
    assert not (tokens[:, 1:9] & patches[:, 5:13]).any()
    # what is not aligned comes in where all coins say the same; of tokens, of which there are two, where all but one do
    assert 0 < patches[:, 13].mean() < 3 * 2**-8 / 7 and abs(tokens[:, 9:].any(1).mean() - 9 * 2**-8) < 0.006


def test_what_is_not_aligned_is_chosen_uniformly():
    tokens, patches = hits(pattern({5: {7: 0.5}}).plan())
    others = np.delete(np.arange(1, 17), 4)
    counts = tokens[:, others].sum(0)
    assert chi_square(counts, counts.mean()) < 36.1  # 14 degrees of freedom
    counts = patches[:, 30:].sum(0)
    assert chi_square(counts, counts.mean()) < 51.2  # 24
    counts = np.delete(patches[tokens[:, 5]][:, 5:14].sum(0), 2)
    assert patches[tokens[:, 5], 7].sum() == 0 and chi_square(counts, counts.mean()) < 24.3


def test_without_links_it_is_random_masking():
    tokens, patches = hits(pattern({}).plan())
    for counts, limit in ((tokens[:, 1:17].sum(0), 37.7), (patches[:, 5:14].sum(0), 26.1), (patches[:, 14:30].sum(0), 37.7)):
        assert chi_square(counts, counts.mean()) < limit


def test_the_strongest_patch_of_a_group_comes_first_and_equal_ones_are_drawn():
    _, patches = hits(pattern({5: {6: 0.2, 9: 0.4, 12: 0.4, 13: 0.1}}).plan())
    aligned = patches[:, [6, 9, 12, 13]]
    picture = aligned[:, 1] | aligned[:, 2]  # one place on level 3: the coin said patches
    assert abs(picture.mean() - 0.5) < 0.02 and not aligned[picture][:, [0, 3]].any()
    assert chi_square([aligned[:, 1].sum(), aligned[:, 2].sum()], picture.sum() / 2) < 10.83


def test_a_patch_of_several_words_goes_to_the_text_where_they_disagree():
    """Two words share their only patch: it is masked where both coins say so, and then neither word is."""
    tokens, patches = hits(pattern({5: {7: 0.5}, 9: {7: 0.5}}).plan())
    word, patch = tokens[:, 5] | tokens[:, 9], patches[:, 7]
    assert (word == ~patch).all() and abs(patch.mean() - 1 / 4) < 0.015
    assert abs((tokens[:, 5] & tokens[:, 9]).mean() - 1 / 4) < 0.015


def test_pieces_of_an_aligned_word_go_together():
    case = make(np.full(MANY, 14), KALEIDO, 0, 0, 1.0, replace(ALL, mask_rate=0.3))
    case.words[:, 5:8] = case.words[:, 5:6]  # three pieces; four tokens are masked
    case.alignment[:, 5:8, 7] = 0.5
    tokens, patches = hits(case.plan())
    together = tokens[:, 5:8]
    assert (together.all(1) == together.any(1)).all() and abs(together.all(1).mean() - 0.5) < 0.02
    assert (patches[:, 7] == ~together.any(1)).all()
    case.quota = ALL  # two are masked: the word takes both places, its pieces at random
    tokens, _ = hits(case.plan())
    counts = tokens[:, 5:8].sum(0)
    assert set(tokens[:, 5:8].sum(1).tolist()) == {0, 2} and chi_square(counts, counts.mean()) < 13.8


def test_all_words_on_one_patch_leave_it_alone():
    """A token has to be masked, and every one of them means the patch."""
    tokens, patches = hits(pattern({word: {7: 0.5} for word in range(1, 17)}).plan())
    assert (tokens.sum(1) == 2).all() and patches[:, 5:14].sum() == MANY and not patches[:, 7].any()
    counts = tokens[:, 1:17].sum(0)
    assert chi_square(counts, counts.mean()) < 37.7


def test_where_all_words_share_few_patches_the_text_is_aligned_and_the_patches_are_as_at_random():
    """Ten of sixteen words, each linked to two of the same three patches of each level: the worst case of sharing."""
    case = pattern({})
    draw = np.random.Generator(np.random.Philox(9))
    for start in (5, 14, 30):
        links = draw.random((MANY, 10, 3)).argsort(-1) < 2
        case.alignment[:, 1:11, start : start + 3] = 0.5 * links
    tokens, patches = hits(case.plan())
    aligned = [patches[:, start : start + 3].sum() / patches[:, start:stop].sum() for start, stop in ((5, 14), (14, 30), (30, 55))]
    assert tokens[:, 1:11].sum() / tokens.sum() > 0.95  # 10 / 16 at random
    assert np.allclose(aligned, [3 / 9, 3 / 16, 3 / 25], atol=0.03)
    assert not np.einsum("bt,btp,bp->b", tokens[:, 1:11], case.alignment[:, 1:11].astype(np.float32) > 0, patches).any()
