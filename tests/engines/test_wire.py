"""Features as bytes: what is lost, that both ends agree, and that everything runs from a bank of bytes."""

import numpy as np
import pytest
from keras import ops

from kaleidobert.engines import wire
from kaleidobert.errors import UserError
from kaleidobert.preprocessors.features import dequantise, quantise, to_floats


def relu_like(*shape) -> np.ndarray:
    rng = np.random.Generator(np.random.Philox(3))
    return (rng.gamma(0.6, 0.8, shape) * (rng.random(shape) < 0.65)).astype(np.float16)


def test_a_vector_loses_half_a_step_at_most():
    features = relu_like(40, 7, 512)
    numbers, scale = quantise(features)
    assert numbers.dtype == np.uint8 and scale.dtype == np.float32 and numbers.shape == features.shape and scale.shape == (40, 7)
    assert (numbers.max(-1) == 255).all()
    back = dequantise(numbers, scale)
    error = np.abs(back.astype(np.float32) - features)
    assert back.dtype == np.float16 and (error <= scale[..., None] * 0.51 + 1e-3 * features).all()
    lost = np.linalg.norm(error, axis=-1) / np.linalg.norm(features.astype(np.float32), axis=-1)
    assert 1e-4 < lost.mean() < 1e-2
    assert np.array_equal(quantise(back)[0], numbers)  # once more changes nothing


def test_zero_stays_zero_and_what_bytes_cannot_hold_is_refused():
    numbers, scale = quantise(np.zeros((2, 5), np.float16))
    assert not numbers.any() and not scale.any() and not dequantise(numbers, scale).any()
    assert quantise(np.zeros((0, 5), np.float16))[0].shape == (0, 5)
    tiny = np.array([[0, 3e-7, 6e-8]], np.float16)
    assert np.allclose(dequantise(*quantise(tiny)), tiny, atol=6e-8)
    with pytest.raises(UserError, match=r"a feature is -0.5.*storage=float16"):
        quantise(np.array([[1, -0.5]], np.float16))


def test_the_compiled_step_reads_what_the_bank_holds():
    features = relu_like(3, 4, 16)
    numbers, scale = quantise(features)
    sent = {"patch_features": numbers, "patch_features_scale": scale, "boxes": np.ones(3, np.float32)}
    here, there = to_floats(sent), wire.expand({name: ops.convert_to_tensor(array) for name, array in sent.items()})
    assert set(here) == set(there) == {"patch_features", "boxes"}
    assert here["patch_features"].dtype == np.float16
    np.testing.assert_allclose(ops.convert_to_numpy(there["patch_features"]), here["patch_features"], rtol=1e-3)
    np.testing.assert_array_equal(ops.convert_to_numpy(there["patch_features"]), numbers * scale[..., None])


def test_floats_pass_untouched_whatever_their_names():
    sent = {"grey": np.ones((2, 3), np.float16), "grey_scale": np.ones(2, np.float32), "bytes": np.ones(2, np.uint8)}
    for expand in (wire.expand, to_floats):
        found = expand(sent)
        assert set(found) == set(sent) and all(found[name] is sent[name] for name in sent)
