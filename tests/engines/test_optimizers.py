"""Schedule, Adam and clipping against their formulas; golden/ has the released values (test_golden.py)."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml
from keras import ops

from kaleidobert import configs
from kaleidobert.app_zoo import commands, models
from kaleidobert.engines.optimizers import (
    NO_DECAY,
    FusedAdam,
    WarmupLinearDecay,
    adam,
    clip_by_global_norm,
    count_steps,
    peak_rate,
    sum_of_squares,
)
from kaleidobert.errors import UserError
from kaleidobert.levels import KaleidoLevel
from kaleidobert.model_zoo.kaleidobert import Backbone, Classifier
from tests.support.golden_data import close
from tests.support.network_data import SIZES

ROOT = Path(__file__).resolve().parents[2]


def test_steps():
    assert count_steps(1000, 25, 64) == (391, 39)
    assert count_steps(1000, 0.5, 64) == (8, 0)
    assert count_steps(1000, 25, 64, warmup_steps=50) == (391, 50)
    assert count_steps(1000, 25, 64, warmup_share=0.5) == (391, 195)


@pytest.mark.parametrize("total, warmup", ((20, 2), (20, 0), (5, 10)))
def test_schedule(total, warmup):
    schedule = WarmupLinearDecay(1e-3, total, warmup)
    for t in range(total + 5):
        expected = 1e-3 * (1 - min(t, total) / total) * (t / warmup if t < warmup else 1)
        close(schedule(t), expected, 1e-10, 1e-6)
    assert WarmupLinearDecay.from_config(schedule.get_config()).get_config() == schedule.get_config()


@pytest.mark.parametrize("total, warmup", ((20, 2), (20, 0), (21, 10), (5, 5), (1, 0)))
def test_the_decay_begins_behind_the_warmup(total, warmup):
    schedule = WarmupLinearDecay(1e-3, total, warmup, "after-warmup")
    for t in range(total + 5):
        falling = 1e-3 * (total - min(t, total)) / max(total - warmup, 1)
        close(schedule(t), 1e-3 * t / warmup if t < warmup else min(falling, 1e-3), 1e-10, 1e-6)
    assert float(schedule(warmup)) == np.float32(1e-3) or warmup == total  # exactly the configured rate
    assert WarmupLinearDecay.from_config(schedule.get_config()).get_config() == schedule.get_config()


def test_the_papers_rate_is_reached_after_its_warmup():
    config = configs.load(configs.PretrainConfig, ROOT / "configs/pretrain.yaml")
    optimizer, total = models.schedule(config.train, 260_000)
    assert total > 10_000 and float(optimizer._learning_rate(5000)) == np.float32(2e-5) > float(optimizer._learning_rate(5001))
    assert max(float(optimizer._learning_rate(t)) for t in range(0, total, 500)) == np.float32(2e-5)


@pytest.mark.parametrize("total, warmup", ((391, 39), (391, 195), (7, 0), (1, 0), (74, 5000), (200, 150), (20, 20)))
@pytest.mark.parametrize("decay", ("from-start", "after-warmup"))
def test_the_highest_rate_is_the_highest(total, warmup, decay):
    rates = [float(WarmupLinearDecay(2e-5, total, warmup, decay)(t)) for t in range(total)]
    reached, step = peak_rate(2e-5, total, warmup, decay)
    close(reached, max(rates), 1e-12, 1e-6)
    close(rates[step], max(rates), 1e-12, 1e-6)


def test_what_was_reached_silently_is_refused():
    paper = configs.Train(batch_size=256, learning_rate=2e-5, warmup_steps=5000)
    for pictures, steps_of_run, rate in ((750, "74", "7.4e-08"), (5865, "573", "5.7e-07"), (60_000, "5,860", "5.9e-06")):
        with pytest.raises(UserError, match=f"warm-up takes 5,000 steps and the run has {steps_of_run}: its rate would reach {rate} of the "
                           "2e-05 configured.*at most half.*set train.warmup_steps=0 train.warmup_share=0.1"):
            models.schedule(paper, pictures)
    for train in (replace(paper, warmup_steps=0, warmup_share=0.6), replace(paper, decay="after-warmup")):
        with pytest.raises(UserError, match="set word_grounding.warmup_steps=0"):
            models.schedule(train, 60_000, "word_grounding")
    assert models.steps_and_warmup(paper, 102_400) == (10_001, 5000)  # just half


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/**/*.yaml")), ids=lambda path: str(path.relative_to(ROOT / "configs")))
def test_every_shipped_schedule_is_named_or_the_released_one(path):
    """The paper's own configuration alone begins its decay behind the warm-up."""
    found = [section for section in ("train", "word_grounding", "dual_encoder") if section in (yaml.safe_load(path.read_text()) or {})]
    command = path.read_text().split()[2]
    if not found or command == "train-foreground":
        return
    config = commands.load(command, path)
    assert {getattr(config, section).decay for section in found} == {
        "after-warmup" if path == ROOT / "configs/pretrain.yaml" else "from-start"}


def test_schedule_without_steps_is_refused():
    with pytest.raises(UserError, match="0 steps"):
        WarmupLinearDecay(1e-3, 0)
    with pytest.raises(UserError, match="decay is 'soon'"):
        WarmupLinearDecay(1e-3, 10, 1, "soon")


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


# --- The fused Adam against Keras's own: weights, moments and checkpoints


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
    if keras.backend.backend() != "tensorflow" or not compiled:
        return lambda gradients: made.apply([ops.convert_to_tensor(gradient) for gradient in gradients], variables)
    import tensorflow as tf

    graph = tf.function(lambda gradients: made.apply(gradients, variables), autograph=False)
    return lambda gradients: graph([tf.convert_to_tensor(gradient) for gradient in gradients])


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras's own joins all variables there, and rounds otherwise")
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
