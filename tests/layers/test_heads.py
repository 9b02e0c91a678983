"""layers.heads: what a head gets of frozen features."""

import numpy as np
import pytest

from kaleidobert.layers.heads import LevelMeans

TABLES = [[slice(0, 1), slice(1, 5)], [slice(0, 4), slice(4, 13), slice(13, 14)]]


@pytest.mark.parametrize("levels", TABLES)
def test_hidden_patches_do_not_bend_the_mean_of_their_level(levels):
    count = levels[-1].stop
    rng = np.random.Generator(np.random.Philox(3))
    features = rng.normal(size=(2, count, 6)).astype(np.float32)
    seen = np.ones((2, count), bool)
    seen[0, levels[1].start] = seen[1, levels[0]] = False
    means = np.asarray(LevelMeans(levels, 3, 0.0, seed=1, rescale=False).means(features, seen)).reshape(2, len(levels), 6)
    for row in range(2):
        for number, level in enumerate(levels):
            kept = features[row, level][seen[row, level]]
            np.testing.assert_allclose(means[row, number], kept.mean(0) if len(kept) else np.zeros(6), atol=1e-6)


def test_all_patches_seen_is_the_plain_mean():
    features = np.random.Generator(np.random.Philox(4)).normal(size=(3, 5, 4)).astype(np.float32)
    layer = LevelMeans(TABLES[0], 2, 0.0, seed=1, rescale=False)
    np.testing.assert_allclose(np.asarray(layer(features, np.ones((3, 5)))), np.asarray(layer(features)), atol=1e-6)


def test_without_a_scale_there_is_nothing_to_measure():
    assert LevelMeans(TABLES[0], 2, 0.0, seed=1, rescale=False).adapted
    scaled = LevelMeans(TABLES[0], 2, 0.0, seed=1)
    scaled.build((None, 5, 4))
    assert not scaled.adapted
