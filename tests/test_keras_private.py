"""keras_private against the installed Keras. Where a test fails after Keras moved: mend the function in keras_private that it names."""

import keras
import numpy as np
import pytest

from kaleidobert import keras_private


def built(**settings) -> tuple[keras.optimizers.Adam, list[keras.Variable]]:
    variables = [keras.Variable(np.ones(3, np.float32), name=name) for name in ("kernel", "bias")]
    optimizer = keras.optimizers.Adam(0.1, **settings)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build(variables)
    return optimizer, variables


def test_moments_of_adam():
    optimizer, variables = built()
    optimizer.apply([np.full(3, float(number), np.float32) for number in (2, 3)], variables)
    for variable, gradient in zip(variables, (2, 3)):
        momentum, velocity = keras_private.adam_moments(optimizer, variable)
        np.testing.assert_allclose(np.asarray(momentum), 0.1 * gradient, rtol=1e-5)
        np.testing.assert_allclose(np.asarray(velocity), 0.001 * gradient**2, rtol=1e-4)


def test_weight_decay():
    optimizer, variables = built(weight_decay=0.5)
    assert [keras_private.decays(optimizer, variable) for variable in variables] == [True, False]
    optimizer, variables = built()
    assert not any(keras_private.decays(optimizer, variable) for variable in variables)
    for skip in (False, True):
        optimizer, variables = built(weight_decay=0.5)
        if skip:
            keras_private.skip_weight_decay(optimizer)
        optimizer.apply([np.zeros(3, np.float32)] * 2, variables)
        np.testing.assert_allclose(np.asarray(variables[0]), 1.0 if skip else 0.95, rtol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's replicas")
def test_gradients_are_not_summed_again():
    optimizer, variables = built()
    assert callable(optimizer._all_reduce_sum_gradients)
    keras_private.skip_gradient_sum(optimizer)
    pairs = [(np.ones(3), variable) for variable in variables]
    assert optimizer._all_reduce_sum_gradients(iter(pairs)) == pairs
    optimizer.apply([np.ones(3, np.float32)] * 2, variables)
    assert np.all(np.asarray(variables[0]) < 1)


def test_weights_that_are_cast():
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, dtype="mixed_bfloat16", name="half")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2, dtype="float32", name="whole")(hidden))
    (variable, dtype), = keras_private.weights_cast_in_calls(model)
    assert variable is model.get_layer("half").kernel and dtype == "bfloat16"


def test_the_layer_before():
    inputs = keras.Input((3,))
    first, second = keras.layers.Dense(4, name="first"), keras.layers.Dense(2, name="second")
    second(first(inputs))
    assert keras_private.producer(second.input) is first
