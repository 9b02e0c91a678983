"""Mask plans: quotas, no id twice, nothing but maskable tokens, rates of the replacement."""

import numpy as np
import pytest

from kaleidobert.errors import UserError
from kaleidobert.levels import KALEIDO
from kaleidobert.preprocessors import alignment_guided_masking
from kaleidobert.preprocessors.alignment_guided_masking import Quota, Texts
from tests.support.tables import TABLES


def rng(seed=0):
    return np.random.Generator(np.random.Philox(seed))


def maskable(lengths, width=64):
    places = np.arange(width)
    return (places >= 1) & (places <= np.asarray(lengths)[:, None])


def single(allowed):
    """token_words where every piece is a word."""
    return np.where(allowed, np.arange(allowed.shape[1]), -1).astype(np.int16)


def random_plan(allowed, levels=KALEIDO, words=None, whole_word=False):
    texts = Texts(allowed, single(allowed) if words is None else words)
    return alignment_guided_masking.plan("random", texts, levels, Quota(0.15, 10, whole_word), rng())


@pytest.mark.parametrize("levels", TABLES.values(), ids=TABLES)
def test_quotas_and_uniqueness(levels):
    lengths = np.arange(0, 63)
    allowed = maskable(lengths)
    plan = random_plan(allowed, levels)
    used = plan.token_weights > 0
    assert (used.sum(1) == np.minimum(np.clip(np.rint(0.15 * lengths), 1, 10), lengths)).all()
    for row, (positions, weight) in enumerate(zip(plan.tokens, used)):
        chosen = positions[weight]
        assert len(set(chosen)) == len(chosen) and allowed[row, chosen].all() and (positions[~weight] == 0).all()
    assert set(plan.patches) == {level.name for level in levels if level.num_masked}
    for level in levels:
        if level.num_masked:
            chosen = plan.patches[level.name]
            assert chosen.shape == (63, level.num_masked) and chosen.min() >= 0 and chosen.max() < level.num_patches
            assert (np.diff(chosen, axis=1) > 0).all()


def test_every_token_and_patch_is_equally_likely():
    plan = random_plan(maskable(np.full(20_000, 20), 24))
    counts = np.bincount(plan.tokens[plan.token_weights > 0], minlength=24)[1:21]
    expected = 20_000 * 3 / 20
    assert ((counts - expected) ** 2 / expected).sum() < 43.8  # chi-square, 19 degrees of freedom, p = .001
    counts = np.bincount(plan.patches["blank"].ravel(), minlength=25)
    expected = 20_000 * 3 / 25
    assert ((counts - expected) ** 2 / expected).sum() < 51.2  # 24 degrees of freedom


def test_replacement_is_80_10_10_and_touches_nothing_else():
    ids = np.tile(np.arange(1000, 1064), (20_000, 1)).astype(np.int32)
    allowed = maskable(np.full(20_000, 60))
    plan = random_plan(allowed)
    replaced = alignment_guided_masking.replace(ids, plan, 103, (2000, 30_000), rng(1))
    chosen = np.zeros(ids.shape, bool)
    rows, slots = np.nonzero(plan.token_weights)
    chosen[rows, plan.tokens[rows, slots]] = True
    assert (replaced[~chosen] == ids[~chosen]).all()
    shares = [(replaced[chosen] == 103).mean(), (replaced[chosen] >= 2000).mean(), (replaced[chosen] == ids[chosen]).mean()]
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.005)


def test_unknown_policy():
    with pytest.raises(UserError, match="policy 'best' is not available.*random, alignment"):
        alignment_guided_masking.plan("best", Texts(maskable([3]), single(maskable([3]))), KALEIDO, Quota(), rng())
    with pytest.raises(UserError, match="there is no alignment"):
        alignment_guided_masking.plan("alignment_guided", Texts(maskable([3]), single(maskable([3]))), KALEIDO, Quota(), rng())


def test_whole_words_are_masked_together_but_for_the_last_one():
    allowed = maskable(np.full(5000, 40))
    words = np.where(allowed, np.cumsum(rng(5).random(allowed.shape) < 0.6, axis=1), -1).astype(np.int16)
    plan = random_plan(allowed, words=words, whole_word=True)
    loose = random_plan(allowed, words=words)
    assert (plan.token_weights == loose.token_weights).all()  # the quota is the same
    partly, masked_words = np.zeros(5000, int), []
    for row in range(5000):
        chosen = np.zeros(64, bool)
        chosen[plan.tokens[row, plan.token_weights[row] > 0]] = True
        for word in np.unique(words[row, chosen]):
            partly[row] += not chosen[words[row] == word].all()
            masked_words.append((words[row] == word).sum())
    assert partly.max() <= 1 and 0.1 < partly.mean() < 0.9
    # long words are not preferred: the words that are begun are a sample of all words but for the edge
    lengths = np.concatenate([np.unique(row[row >= 0], return_counts=True)[1] for row in words])
    assert abs(np.mean(masked_words) / lengths.mean() - 1) < 0.1
