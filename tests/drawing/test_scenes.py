"""Drawn scenes: reproducible, never without a product, and the held-out backgrounds are no backgrounds of the training."""

import numpy as np
import pytest
from PIL import Image

from kaleidobert.drawing import backgrounds, scenes
from kaleidobert.drawing.design import generator


@pytest.fixture(scope="module")
def parts():
    return scenes.foregrounds(11, 0, 24, 48), scenes.training_backgrounds(11, 0, 24, 48)


def test_the_same_arguments_give_the_same_scene_and_others_another():
    first, again, other, seed = (scenes.scene(*key, size=48) for key in ((3, 5), (3, 5), (3, 6), (4, 5)))
    assert np.array_equal(first.image, again.image) and np.array_equal(first.mask, again.mask)
    assert not np.array_equal(first.image, other.image) and not np.array_equal(first.image, seed.image)


def test_every_scene_of_the_test_has_a_foreground_and_a_background():
    made = scenes.split(11, 0, 40, 48)
    assert made.shape == (40, 48, 48, 4) and made.dtype == np.uint8 and set(np.unique(made[..., 3])) == {0, 1}
    share = made[..., 3].mean((1, 2))
    assert (share > 0).all() and (share < 1).all() and 0.1 < share.mean() < 0.6
    assert np.array_equal(made[7:9], scenes.split(11, 7, 2, 48))
    assert not np.array_equal(made[:4], scenes.split(11, 0, 4, 48, goods=True))


def test_what_the_training_puts_together_is_drawn_the_same_in_any_portion(parts):
    layers, behind = parts
    side = round(48 * scenes.ROOM)
    assert layers.shape == (24, side, side, 4) and behind.shape == (24, side, side, 3) and layers.dtype == behind.dtype == np.uint8
    assert np.array_equal(layers[5:7], scenes.foregrounds(11, 5, 2, 48))
    assert np.array_equal(behind[5:7], scenes.training_backgrounds(11, 5, 2, 48))
    assert (layers[..., :3] <= layers[..., 3:]).all() and (layers[..., 3].max((1, 2)) == 255).all()


def test_a_scene_put_together_shows_its_foreground_where_its_mask_says():
    """A red square on green backgrounds: nothing but the mask's pixels is redder than green, whatever light and camera do."""
    layer, behind = np.zeros((60, 60, 4), np.uint8), np.zeros((60, 60, 3), np.uint8)
    layer[20:40, 15:45], behind[...] = (250, 0, 0, 255), (0, 250, 0)
    for index in range(40):
        rng, red = generator(0, index, 9), layer.copy()
        image, mask = scenes.finish(red, Image.fromarray(behind), False, 48, rng)
        found = image[..., 0].astype(int) > image[..., 1]
        assert image.shape == (48, 48, 3) and 0 < mask.mean() < 1 and (found == mask).mean() > 0.97


def test_scenes_put_together_are_never_the_same_twice_but_repeat_with_the_generator(parts):
    made = [scenes.recompose(*parts, 48, generator(1, index, 9)) for index in (*range(60), 0)]
    images = np.stack([image for image, _ in made])
    assert images.shape == (61, 48, 48, 3) and images.dtype == np.uint8 and all(mask.dtype == bool for _, mask in made)
    assert np.array_equal(images[0], images[60]) and np.array_equal(made[0][1], made[60][1])
    assert len({image.tobytes() for image in images}) == 60
    white = (images[:, 0, 0].min(1) > 230).mean()
    assert 0.05 < white < 0.6 and 0.05 < np.mean([mask.mean() for _, mask in made]) < 0.6


def test_held_out_backgrounds_are_not_in_the_training():
    training = {*backgrounds.CLUTTER, *backgrounds.TRAINING, *backgrounds.PLAIN, backgrounds.studio}
    assert not training & set(backgrounds.HELD_OUT.values()) and len(backgrounds.HELD_OUT) >= 3
    for name in backgrounds.HELD_OUT:
        scene = scenes.scene(1, 2, 32, held_out=name)
        assert scene.background == name and scene.mask.any()


@pytest.mark.parametrize("family", sorted({*backgrounds.CLUTTER, *backgrounds.HELD_OUT.values()}, key=lambda f: f.__name__),
                         ids=lambda f: f.__name__)
def test_backgrounds_are_finite_pictures(family):
    for index in range(3):
        picture = family(40, generator(0, index, 7))
        assert picture.shape == (40, 40, 3) and np.isfinite(picture).all()
        assert picture.std() > 0.5


def test_a_person_reaches_beyond_the_garment_and_small_goods_fit_the_frame():
    for half, above in (("upper", True), ("lower", True), ("both", True)):
        colour, cover = scenes.person(80, (30.0, 35.0, 50.0, 55.0), half, generator(0, 1, 7))
        rows = np.flatnonzero(cover.max((1, 2)) > 0.5)
        assert (rows[0] < 30) == above and rows[-1] > 55 and (colour <= 255 * cover + 1e-3).all()
    for index in range(12):
        _, cover = scenes.small_goods(64, generator(0, index, 8))
        assert 0.002 < (cover > 0.5).mean() < 0.9
