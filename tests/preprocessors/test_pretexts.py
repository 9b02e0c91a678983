"""Spoiling: labels mean what the pretexts say."""

import numpy as np
import pytest

from kaleidobert.levels import KALEIDO, PRETEXTS, KaleidoLevel
from kaleidobert.preprocessors import pretexts

ROTATION, JIGSAW, CAMOUFLAGE, GREY, BLANK = KALEIDO


def rng():
    return np.random.Generator(np.random.Philox(5))


def test_rotation_shows_the_view_that_the_label_names():
    spoiled = pretexts.spoil(ROTATION, np.zeros((4000, 0), int), rng())
    assert (spoiled.vectors[:, 0] == spoiled.answer).all()
    assert np.abs(np.bincount(spoiled.answer) / 4000 - 0.25).max() < 0.03


def test_jigsaw_labels_are_lexicographic():
    spoiled = pretexts.spoil(JIGSAW, np.zeros((5000, 0), int), rng())
    assert pretexts.orders(4)[0].tolist() == [0, 1, 2, 3] and pretexts.orders(4)[23].tolist() == [3, 2, 1, 0]
    assert pretexts.orders(4)[1].tolist() == [0, 1, 3, 2]
    assert (spoiled.vectors == pretexts.orders(4)[spoiled.answer]).all()
    assert len(np.unique(spoiled.answer)) == 24


def test_camouflage_puts_any_patch_of_the_donor_into_the_masked_slot():
    masked = np.random.default_rng(0).integers(0, 9, (9000, 1))
    spoiled = pretexts.spoil(CAMOUFLAGE, masked, rng())
    assert (spoiled.from_donor.sum(1) == 1).all() and (spoiled.answer == masked[:, 0]).all()
    assert (spoiled.from_donor.argmax(1) == masked[:, 0]).all()
    lent = spoiled.vectors[spoiled.from_donor]
    assert np.abs(np.bincount(lent, minlength=9) / 9000 - 1 / 9).max() < 0.02  # the lent patch says nothing about the slot
    kept = ~spoiled.from_donor
    assert (spoiled.vectors[kept] == np.tile(np.arange(9), (9000, 1))[kept]).all()


def test_grey_shows_the_second_view_and_blank_nothing_of_the_masked_patches():
    masked = np.array([[0, 15], [3, 7]])
    spoiled = pretexts.spoil(GREY, masked, rng())
    assert spoiled.answer is None and spoiled.vectors[0].tolist()[::15] == [16, 31] and spoiled.vectors[1, 3] == 19
    assert (spoiled.vectors[0, 1:15] == np.arange(1, 15)).all()
    blank = pretexts.spoil(BLANK, np.array([[1, 2, 24]]), rng())
    assert np.flatnonzero(blank.zeroed[0]).tolist() == [1, 2, 24] and not blank.from_donor.any()


def test_a_repeated_blank_id_negates_as_released():
    features = np.arange(1, 7, dtype=np.float32).reshape(1, 3, 2)
    spoiled = pretexts.blank(features, np.array([[0, 2, 2]]))
    assert spoiled.tolist() == [[[0, 0], [3, 4], [-5, -6]]]


@pytest.mark.parametrize("level", KALEIDO, ids=lambda level: level.name)
def test_untouched_shows_every_patch_in_its_slot(level):
    untouched = pretexts.untouched(level, 2)
    assert (untouched.vectors == np.arange(level.num_patches)).all() and not (untouched.zeroed | untouched.from_donor).any()


def test_a_level_without_a_pretext_stays_as_it_is_and_draws_nothing():
    level, draws = KaleidoLevel("bare", 3, "none"), rng()
    before = str(draws.bit_generator.state)
    spoiled = pretexts.spoil(level, np.zeros((5, 0), np.int32), draws)
    assert (spoiled.vectors == np.arange(9)).all() and not spoiled.from_donor.any() and not spoiled.zeroed.any()
    assert spoiled.answer is None and str(draws.bit_generator.state) == before


def test_every_pretext_has_both_rows_and_as_many_views_as_it_says():
    assert pretexts.SPOILING.keys() == PRETEXTS.keys()
    patches = np.zeros((1, 4, 4, 3), np.uint8)
    assert {name: len(row.views(patches)) for name, row in pretexts.SPOILING.items()} == {
        name: row.num_views for name, row in PRETEXTS.items()}
