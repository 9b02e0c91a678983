"""The fused Adam against Keras's own: weights, moments and checkpoints."""

import keras
import numpy as np
import pytest
from keras import ops

from kaleidobert.engines.optimizers import NO_DECAY, FusedAdam, WarmupLinearDecay, sum_of_squares

SETTINGS = ((0.9, 0.98, 1e-6, None), (0.9, 0.999, 1e-7, 0.1), (0.0, 0.5, 1e-3, None))


def start() -> list[keras.Variable]:
    rng = np.random.Generator(np.random.Philox(1))
    return [keras.Variable(rng.standard_normal(shape).astype(np.float32), name=name) for name, shape in
            (("kernel", (300, 7)), ("bias", (7,)), ("scalar", ()))]


def optimizer(kind, settings):
    beta_1, beta_2, epsilon, decay = settings
    made = kind(WarmupLinearDecay(0.05, 20, 3), beta_1, beta_2, epsilon, weight_decay=decay, name="adam")
    made.exclude_from_weight_decay(var_names=NO_DECAY)
    return made


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("compiled", [False, True])
def test_equal_to_keras(settings, compiled):
    results = []
    for kind in (keras.optimizers.Adam, FusedAdam):
        variables, made = start(), optimizer(kind, settings)
        made.build(variables)
        apply = stepper(made, variables, compiled)
        rng = np.random.Generator(np.random.Philox(2))
        for number in range(8):
            scale = 10.0 ** (number - 4)  # small gradients, large ones
            apply([(scale * rng.standard_normal(variable.shape)).astype(np.float32) for variable in variables])
        results.append({f"{k} {v.path}": np.asarray(v) for k, v in enumerate([*variables, *made.variables])})
    assert list(results[0]) == list(results[1])  # so that a checkpoint of the one is one of the other
    for path, expected in results[0].items():
        # 1 - beta_2 is taken in float32: of .999 that is 1.00005 thousandths
        np.testing.assert_allclose(results[1][path], expected, rtol=5e-5, atol=1e-6 * np.abs(expected).max(), err_msg=path)
    assert not np.allclose(results[1]["0 kernel"], np.asarray(start()[0]))


def stepper(made, variables, compiled: bool):
    """A function of gradients that applies them, as a graph where there is a choice."""
    if keras.backend.backend() == "jax" or not compiled:
        return lambda gradients: made.apply([ops.convert_to_tensor(gradient) for gradient in gradients], variables)
    import tensorflow as tf

    graph = tf.function(lambda gradients: made.apply(gradients, variables), autograph=False)
    return lambda gradients: graph([tf.convert_to_tensor(gradient) for gradient in gradients])


def test_amsgrad_is_left_to_keras():
    found = []
    for kind in (keras.optimizers.Adam, FusedAdam):
        variables = start()
        made = kind(0.1, amsgrad=True)
        for scale in (3.0, 0.1):
            made.apply([ops.full(variable.shape, scale) for variable in variables], variables)
        found.append(np.asarray(variables[0]))
    np.testing.assert_array_equal(*found)


def test_sum_of_squares():
    values = np.random.Generator(np.random.Philox(3)).standard_normal((40, 30)).astype(np.float32)
    for kind, tolerance in (("float32", 1e-6), ("bfloat16", 1e-2)):
        found = float(sum_of_squares(ops.cast(values, kind)))
        assert found == pytest.approx((values.astype(np.float64) ** 2).sum(), rel=tolerance)
