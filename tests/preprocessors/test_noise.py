"""What fine-tuning hides, and the scale of features."""

import numpy as np
import pytest

from kaleidobert.layers.embeddings import FeatureStandardizer
from kaleidobert.preprocessors import examples


def arrays(batch=400, length=6, patches=5):
    tokens = np.tile(np.array([2, 11, 12, 13, 3, 0], np.int32), (batch, 1))
    return {**examples.text(tokens, 0), "patch_features": np.ones((batch, patches, 3), np.float16)}


def test_hide_hides_the_asked_share_of_whole_patches_and_pieces():
    before = arrays()
    after = examples.hide(before, 0.3, 0.2, 4, np.random.Generator(np.random.Philox(1)))
    blank = (after["patch_features"] == 0).all(-1)
    assert np.array_equal(blank, (after["patch_features"] == 0).any(-1)) and after["patch_features"].dtype == np.float16
    assert blank.mean() == pytest.approx(0.3, abs=0.04)
    masked = after["token_ids"] == 4
    assert masked[:, 1:5].mean() == pytest.approx(0.2, abs=0.04)
    assert not masked[:, 0].any() and not masked[:, 5].any()
    assert np.array_equal(after["token_ids"][~masked], before["token_ids"][~masked])
    assert (before["patch_features"] == 1).all() and not (before["token_ids"] == 4).any()  # the bank's arrays stay as they are


def test_hide_nothing_changes_nothing():
    before = arrays()
    after = examples.hide(before, 0.0, 0.0, 4, np.random.Generator(np.random.Philox(1)))
    assert all(after[name] is before[name] for name in before)


def test_feature_scale_starts_as_the_identity_and_brings_features_to_mean_0_and_spread_1():
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.gamma(1, 2, (50, 7, 15)), np.zeros((50, 7, 1))], -1).astype(np.float16)  # one is never used
    layer = FeatureStandardizer()
    assert np.array_equal(np.asarray(layer(features)), features.astype(np.float32))
    layer.adapt(features)
    scaled = np.asarray(layer(features)).reshape(-1, 16)
    assert np.abs(scaled.mean(0)).max() < 1e-3
    assert np.allclose(scaled[:, :15].std(0), 1, atol=0.07) and np.abs(scaled[:, 15]).max() == 0
    assert not layer.trainable_weights and len(layer.weights) == 2
