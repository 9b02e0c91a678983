"""Schedule, Adam and clipping against their formulas; golden/ has the released values (test_golden.py)."""

import keras
import numpy as np
import pytest

from kaleidobert.engines.optimizers import WarmupLinearDecay, adam, clip_by_global_norm, steps
from kaleidobert.errors import UserError
from kaleidobert.levels import KaleidoLevel
from kaleidobert.model_zoo.kaleidobert import Backbone, Classifier
from tests.golden_data import close
from tests.network_data import SIZES


def test_steps():
    assert steps(1000, 25, 64) == (391, 39)
    assert steps(1000, 0.5, 64) == (8, 0)
    assert steps(1000, 25, 64, warmup_steps=5000) == (391, 5000)
    assert steps(1000, 25, 64, warmup_share=0.5) == (391, 195)


@pytest.mark.parametrize("total, warmup", ((20, 2), (20, 0), (5, 10)))
def test_schedule(total, warmup):
    schedule = WarmupLinearDecay(1e-3, total, warmup)
    for t in range(total + 5):
        expected = 1e-3 * (1 - min(t, total) / total) * (t / warmup if t < warmup else 1)
        close(schedule(t), expected, 1e-10, 1e-6)
    assert WarmupLinearDecay.from_config(schedule.get_config()).get_config() == schedule.get_config()


def test_schedule_without_steps_is_refused():
    with pytest.raises(UserError, match="0 steps"):
        WarmupLinearDecay(1e-3, 0)


def test_adam_follows_its_formula():
    rng = np.random.Generator(np.random.Philox(0))
    start, slopes = rng.normal(size=(4, 3)), rng.normal(size=(6, 4, 3))
    variable = keras.Variable(start.astype(np.float32), name="kernel")
    optimizer = adam(0.01, weight_decay=0.1)
    optimizer.build([variable])
    expected, m, v = start.copy(), 0.0, 0.0
    for t, slope in enumerate(slopes, start=1):
        optimizer.apply([keras.ops.convert_to_tensor(slope.astype(np.float32))], [variable])
        expected -= 0.01 * 0.1 * expected
        m, v = 0.9 * m + 0.1 * slope, 0.98 * v + 0.02 * slope**2
        expected -= 0.01 * np.sqrt(1 - 0.98**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-6)
    close(variable, expected, 1e-5)


def test_decay_spares_biases_and_layer_norm():
    model = Classifier(Backbone((KaleidoLevel("bias", 1, "rotate"),), **SIZES), 3)  # a level's name must not matter
    variables = model.trainable_variables
    for variable in variables:
        variable.assign(np.ones(variable.shape))
    optimizer = adam(0.5, weight_decay=0.1)
    optimizer.build(variables)
    optimizer.apply([keras.ops.zeros(variable.shape) for variable in variables], variables)
    for variable in variables:
        spared = len(variable.shape) == 1
        close(variable, np.full(variable.shape, 1.0 if spared else 0.95), 1e-6, what=variable.path)
    names = [variable.path for variable in optimizer.variables]
    assert len(set(names)) == len(names) == 2 * len(variables) + 2 and all(name.startswith("adam/") for name in names)


def test_clipping():
    gradients = [np.array([3.0, 0.0], np.float32), None, np.array([[4.0]], np.float32)]
    clipped, norm = clip_by_global_norm(gradients, 1.0)
    assert float(norm) == 5 and clipped[1] is None
    close(clipped[0], [0.6, 0], 1e-7)
    close(clipped[2], [[0.8]], 1e-7)
    for limit in (0, 5.0, 7.0):  # not measured only, not exceeded
        same, norm = clip_by_global_norm(gradients, limit)
        close(same[0], gradients[0], 0)
        assert float(norm) == 5
    broken, norm = clip_by_global_norm([np.array([np.inf, 1.0], np.float32)], 1.0)
    assert not np.isfinite(float(norm)) and np.isnan(np.asarray(broken[0])).any()


def test_a_sparse_gradient_counts_repeated_rows_summed():
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("only TensorFlow has sparse gradients")
    rows = tf.IndexedSlices(tf.constant([[1.0], [2.0], [4.0]]), tf.constant([0, 0, 1]), tf.constant([3, 1]))
    (dense,), norm = clip_by_global_norm([rows], 1.0)
    assert float(norm) == 5
    close(dense, [[0.6], [0.8], [0.0]], 1e-7)
