"""Drawn scenes: reproducible, never without a product, and the held-out backgrounds are no backgrounds of the training."""

import numpy as np
import pytest

from kaleidobert.datasets.drawn import figures, scenes, surroundings
from kaleidobert.datasets.drawn.design import generator


def test_the_same_arguments_give_the_same_scene_and_others_another():
    first, again, other, seed = (scenes.scene(*key, size=48) for key in ((3, 5), (3, 5), (3, 6), (4, 5)))
    assert np.array_equal(first.image, again.image) and np.array_equal(first.mask, again.mask)
    assert not np.array_equal(first.image, other.image) and not np.array_equal(first.image, seed.image)


def test_every_scene_has_a_foreground_and_a_background():
    images, masks = scenes.split(11, 60, 48)
    assert images.shape == (60, 48, 48, 3) and images.dtype == np.uint8 and masks.dtype == bool
    share = masks.mean((1, 2))
    assert (share > 0).all() and (share < 1).all() and 0.1 < share.mean() < 0.6
    assert {scene.background for scene in (scenes.scene(11, k, 24) for k in range(40))} >= {"white", "studio", "floor", "room"}


def test_held_out_backgrounds_are_not_in_the_training():
    training = {*surroundings.TRAINING, *surroundings.SHOP, *surroundings.PLAIN}
    assert not training & set(surroundings.HELD_OUT.values()) and len(surroundings.HELD_OUT) >= 3
    for name in surroundings.HELD_OUT:
        scene = scenes.scene(1, 2, 32, held_out=name)
        assert scene.background == name and scene.mask.any()


@pytest.mark.parametrize("family", [*surroundings.TRAINING, *surroundings.SHOP, *surroundings.HELD_OUT.values()], ids=lambda f: f.__name__)
def test_backgrounds_are_finite_pictures(family):
    for index in range(3):
        picture = family(40, generator(0, index, 7))
        assert picture.shape == (40, 40, 3) and np.isfinite(picture).all()
        assert family is surroundings.white or picture.std() > 0.5


def test_a_person_reaches_beyond_the_garment_and_small_goods_fit_the_frame():
    for half, above in (("upper", True), ("lower", True), ("both", True)):
        colour, cover = figures.person(80, (30.0, 35.0, 50.0, 55.0), half, generator(0, 1, 7))
        rows = np.flatnonzero(cover.max((1, 2)) > 0.5)
        assert (rows[0] < 30) == above and rows[-1] > 55 and (colour <= 255 * cover + 1e-3).all()
    for index in range(12):
        _, cover = figures.small_goods(64, generator(0, index, 8))
        assert 0.002 < (cover > 0.5).mean() < 0.9
