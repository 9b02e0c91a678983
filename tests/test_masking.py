"""Mask plans: quotas, no id twice, nothing but maskable tokens, rates of the replacement."""

import numpy as np
import pytest

from kaleidobert.errors import UserError
from kaleidobert.levels import KALEIDO
from kaleidobert.preprocessors import masking
from tests.tables import TABLES


def rng(seed=0):
    return np.random.Generator(np.random.Philox(seed))


def maskable(lengths, width=64):
    places = np.arange(width)
    return (places >= 1) & (places <= np.asarray(lengths)[:, None])


@pytest.mark.parametrize("levels", TABLES.values(), ids=TABLES)
def test_quotas_and_uniqueness(levels):
    lengths = np.arange(0, 63)
    allowed = maskable(lengths)
    plan = masking.plan("random", allowed, None, levels, (0.15, 10), rng())
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
    plan = masking.plan("random", maskable(np.full(20_000, 20), 24), None, KALEIDO, (0.15, 10), rng())
    counts = np.bincount(plan.tokens[plan.token_weights > 0], minlength=24)[1:21]
    expected = 20_000 * 3 / 20
    assert ((counts - expected) ** 2 / expected).sum() < 43.8  # chi-square, 19 degrees of freedom, p = .001
    counts = np.bincount(plan.patches["blank"].ravel(), minlength=25)
    expected = 20_000 * 3 / 25
    assert ((counts - expected) ** 2 / expected).sum() < 51.2  # 24 degrees of freedom


def test_replacement_is_80_10_10_and_touches_nothing_else():
    ids = np.tile(np.arange(1000, 1064), (20_000, 1)).astype(np.int32)
    allowed = maskable(np.full(20_000, 60))
    plan = masking.plan("random", allowed, None, KALEIDO, (0.15, 10), rng())
    replaced = masking.replace(ids, plan, 103, (2000, 30_000), rng(1))
    chosen = np.zeros(ids.shape, bool)
    rows, slots = np.nonzero(plan.token_weights)
    chosen[rows, plan.tokens[rows, slots]] = True
    assert (replaced[~chosen] == ids[~chosen]).all()
    shares = [(replaced[chosen] == 103).mean(), (replaced[chosen] >= 2000).mean(), (replaced[chosen] == ids[chosen]).mean()]
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.005)


def test_unknown_policy():
    with pytest.raises(UserError, match="policy 'best' is not available.*random"):
        masking.plan("best", maskable([3]), None, KALEIDO, (0.15, 10), rng())
