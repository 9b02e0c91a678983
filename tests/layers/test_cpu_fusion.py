"""GELU, dropout and LayerNorm against plain formulas, on the way that keras.ops takes and on the one that is compiled in one piece."""

import keras
import numpy as np
import pytest
from keras import ops

from kaleidobert.layers import cpu_fusion
from kaleidobert.layers.core import Dropout
from kaleidobert.layers.cpu_fusion import FUNCTIONS, MIN_WIDTH
from kaleidobert.layers.encoder import SelfAttention
from tests.support.golden_data import close

WIDTHS = (16, 96, 119, 256)  # below and above what is compiled; by halves as far as 48, not at all, and 16
EPSILON, RATE = 1e-12, 0.1
assert WIDTHS[0] < MIN_WIDTH < WIDTHS[1]


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.Generator(np.random.Philox(seed)).standard_normal(shape).astype(np.float32)


def state(*values: int):
    kind = {"jax": "uint32", "torch": "int32"}.get(keras.backend.backend(), "int64")
    return ops.cast(ops.convert_to_tensor(np.array(values, np.int32)), kind)


def gradients(function, arrays, upstream):
    """[value, gradient of each array] of a function of float arrays, through the backend's own differentiation."""
    if keras.backend.backend() == "jax":
        import jax

        value, back = jax.vjp(function, *arrays)
        return [value, *back(jax.numpy.asarray(upstream, value.dtype))]
    if keras.backend.backend() == "torch":
        import torch

        given = [ops.convert_to_tensor(array).detach().requires_grad_() for array in arrays]
        with torch.enable_grad():
            value = function(*given)
        return [value.detach(), *torch.autograd.grad(value, given, ops.cast(upstream, value.dtype))]
    import tensorflow as tf

    given = [tf.convert_to_tensor(array) for array in arrays]
    with tf.GradientTape() as tape:
        tape.watch(given)
        value = function(*given)
    return [value, *tape.gradient(value, given, output_gradients=tf.cast(upstream, value.dtype))]


def cases(width: int):
    """{name: (function of float arrays, its arrays, the same in plain keras.ops)}."""
    x, residual, (bias, gamma, beta) = numbers(7, width), numbers(7, width, seed=1), numbers(3, width, seed=2)
    mask = ops.convert_to_tensor(np.asarray(cpu_fusion.dropout(np.ones_like(x), state(3, 4), RATE)))

    def norm(x, gamma, beta):
        centred = x - ops.mean(x, -1, keepdims=True)
        return centred / ops.sqrt(ops.mean(centred**2, -1, keepdims=True) + EPSILON) * gamma + beta

    return {"gelu": (cpu_fusion.gelu, [x], lambda x: ops.gelu(x, approximate=True)),
            "dropout": (lambda x: cpu_fusion.dropout(x, state(3, 4), RATE), [x], lambda x: x * mask),
            "layer_norm": (lambda *a: cpu_fusion.layer_norm(*a, EPSILON), [x, gamma, beta], norm),
            "bias_gelu": (cpu_fusion.gelu, [x, bias], lambda x, bias: ops.gelu(x + bias, approximate=True)),
            "add_norm": (lambda x, r, *w: cpu_fusion.add_norm(x, r, w, EPSILON), [x, residual, bias, gamma, beta],
                         lambda x, r, bias, *w: norm(x + bias + r, *w)),
            "drop_add_norm": (lambda x, r, *w: cpu_fusion.add_norm(x, r, w, EPSILON, state(3, 4), RATE), [x, residual, bias, gamma, beta],
                              lambda x, r, bias, *w: norm((x + bias) * mask + r, *w))}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients(name, width):
    function, arrays, plain = cases(width)[name]
    upstream = numbers(7, width, seed=9)
    found, expected = gradients(function, arrays, upstream), gradients(plain, arrays, upstream)
    assert len(found) == 1 + len(arrays)
    for place, (value, other) in enumerate(zip(found, expected)):
        assert np.ptp(np.asarray(value)) > 0
        close(value, np.asarray(other), 2e-5, 1e-5, f"{name} {place}")


@pytest.mark.parametrize("width", WIDTHS[:2])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_attention(width, dtype):
    scores, upstream = numbers(2, 3, 5, 7), ops.cast(numbers(2, 3, 5, 7, seed=1), dtype)
    score_bias = ops.convert_to_tensor(np.float32([0, 0, 0, 0, 0, -10000, -10000]) * np.ones((2, 1, 1, 1), np.float32))
    mask = ops.convert_to_tensor(np.asarray(cpu_fusion.dropout(np.ones_like(scores), state(3, 4), RATE, width)))
    layer = SelfAttention(3, RATE, 0.02, 0, dtype=dtype)

    def ours(scores):
        return layer.dropout.drop(layer.softmax(scores, score_bias), state(3, 4), width)

    def plain(scores):
        return ops.cast(ops.softmax(scores + score_bias) * mask, dtype)

    tolerance = 1e-6 if dtype == "float32" else 2e-2
    found, expected = (gradients(function, [scores], upstream) for function in (ours, plain))
    assert keras.backend.standardize_dtype(found[0].dtype) == dtype
    for value, other in zip(found, expected):
        close(np.asarray(ops.cast(value, "float32")), np.asarray(ops.cast(other, "float32")), tolerance)
    whole = layer.softmax(ops.convert_to_tensor(scores), score_bias)
    close(np.asarray(ops.cast(whole, "float32")), np.asarray(ops.softmax(ops.add(scores, score_bias))), tolerance)
    assert not np.asarray(ops.cast(whole, "float32"))[..., 5:].any()


@pytest.mark.parametrize("width", WIDTHS[:2])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_half_precision_is_computed_in_float32_and_rounded_once(name, width):
    function, arrays, _ = cases(width)[name]
    number = 2 if name.endswith("add_norm") else 1  # bias, gamma and beta are float32
    half = [ops.cast(array, "bfloat16") for array in arrays[:number]]
    value = function(*half, *[ops.convert_to_tensor(array) for array in arrays[number:]])
    whole = function(*[ops.cast(array, "float32") for array in half], *[ops.convert_to_tensor(array) for array in arrays[number:]])
    assert keras.backend.standardize_dtype(value.dtype) == "bfloat16"
    np.testing.assert_array_equal(np.asarray(ops.cast(value, "float32")), np.asarray(ops.cast(ops.cast(whole, "bfloat16"), "float32")))


def hashed(seed: int, counter: int, size: int) -> np.ndarray:
    """cpu_fusion.random_bits by numpy."""
    word = np.uint64(0xFFFFFFFF)

    def step(x, shift, factor):
        return (x ^ (x >> np.uint64(shift))) * np.uint64(factor) & word

    def scramble(x):
        x = step(step(x & word, 16, 0x7FEB352D), 15, 0x846CA68B)
        return x ^ (x >> np.uint64(16))

    seed, counter = np.uint64(seed), np.uint64(counter)
    first = scramble(seed ^ scramble(counter + np.uint64(0x9E3779B9)))
    second = scramble(first + (counter * np.uint64(0x85EBCA6B) & word))
    x = step(np.arange(size, dtype=np.uint64) ^ first, 16, 0x7FEB352D) + second & word
    x = step(x, 15, 0x846CA68B)
    return x ^ (x >> np.uint64(16))


@pytest.mark.parametrize("seed, counter", [(0, 0), (5, 7), (2**31 - 1, 123456)])
def test_bits_are_those_of_the_hash_on_every_backend(seed, counter):
    found = np.asarray(cpu_fusion.random_bits(state(seed, counter), (3, 4, 50)))
    assert found.dtype == (np.int32 if keras.backend.backend() == "torch" else np.uint32)
    found = found.view(np.uint32)
    np.testing.assert_array_equal(found.ravel(), hashed(seed, counter, 600))


def test_bits_look_random():
    drawn = np.stack([hashed(seed, counter, 20000) for seed in (0, 1, 99) for counter in (0, 1, 2, 3)])
    ones = (drawn[:, None] >> np.arange(32, dtype=np.uint64)[None, :, None]) & np.uint64(1)
    assert np.abs(ones.mean(2) - 0.5).max() < 5 * 0.5 / 20000**0.5  # every bit, of every state
    masks = (drawn < 0.1 * 2**32).astype(float)
    assert abs(masks.mean() - 0.1) < 0.003 and np.abs(masks.mean(1) - 0.1).max() < 0.01
    between = np.corrcoef(masks) - np.eye(len(masks))
    assert np.abs(between).max() < 5 / 20000**0.5  # masks of different states have nothing in common
    for distance in (1, 2, 64, 119, 768, 1024):
        assert np.abs((masks[:, distance:] * masks[:, :-distance]).mean() - 0.01) < 0.002, distance


@pytest.mark.parametrize("width", WIDTHS[:2])
def test_dropout_goes_on_from_step_to_step(width):
    layer, ones = Dropout(RATE, seed=1), np.ones((64, width), np.float32)
    first, second = (np.asarray(layer(ones, training=True)) for _ in range(2))
    assert not np.array_equal(first, second) and set(np.unique(first)) <= {np.float32(0), np.float32(1 / (1 - RATE))}
    again = Dropout(RATE, seed=1)
    np.testing.assert_array_equal(np.asarray(again(ones, training=True)), first)
    np.testing.assert_array_equal(np.asarray(layer(ones)), ones)
    assert layer.draw(False) is None and Dropout(0.0, seed=1).draw(True) is None


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("width", WIDTHS[:2])
def test_gelu_behind_a_product_in_prediction(width, dtype):
    """Where it is fused with the product nothing is rounded between."""
    arrays = numbers(40, width), numbers(width, width, seed=1) * 0.2, numbers(width, seed=2)
    x, kernel, bias = (ops.cast(array, dtype) for array in arrays)

    def product(training):
        def run(x):
            return cpu_fusion.gelu(ops.matmul(x, kernel), ops.cast(bias, "float32"), training)

        return np.asarray(ops.cast(compiled(run)(x), "float32"))

    found, expected = product(training=False), product(training=True)
    assert np.ptp(expected) > 1
    close(found, expected, *((1e-5, 1e-5) if dtype == "float32" else (1e-2, 1e-2)))


def compiled(function):
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    if keras.backend.backend() == "torch":
        return function
    import tensorflow as tf

    return tf.function(function, autograph=False)


@pytest.mark.parametrize("width", WIDTHS[:2])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_heads(width, dtype):
    batch, length, count = 3, 5, 4
    layer = SelfAttention(count, 0.0, 0.2, 0, dtype=dtype)
    layer.build((batch, length, width), (batch, 1, 1, length))
    inputs, upstream = numbers(batch, length, width), numbers(3, batch, count, length, width // count, seed=2)

    def ours(inputs):
        return ops.stack(layer.project(inputs))

    def plain(inputs):
        found = []
        for kernel, bias, scale in zip(layer.kernels, layer.biases, ((width // count) ** -0.5, 1, 1)):
            whole = ops.add(ops.matmul(inputs, ops.cast(kernel.value, dtype)), ops.cast(bias.value, dtype)) * ops.cast(scale, dtype)
            found.append(ops.stack(ops.split(whole, count, axis=-1), axis=1))  # the heads lie side by side
        return ops.stack(found)

    found, expected = (gradients(function, (ops.cast(inputs, dtype),), upstream) for function in (ours, plain))
    for one, other in zip(found, expected):
        assert keras.backend.standardize_dtype(one.dtype) == dtype
        close(*(np.asarray(ops.cast(array, "float32")) for array in (one, other)), *((1e-5, 1e-5) if dtype == "float32" else (2e-2, 1e-2)))
