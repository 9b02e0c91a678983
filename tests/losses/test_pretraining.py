"""Losses by value, weight and gradient, against plain numpy."""

import keras
import numpy as np
import pytest

from kaleidobert.errors import UserError
from kaleidobert.levels import KaleidoLevel
from kaleidobert.losses import pretraining
from kaleidobert.losses.pretraining import cross_entropy, kl
from tests.support.golden_data import close, gradients
from tests.support.network_data import TABLES, batch

RNG = np.random.Generator(np.random.Philox(0))


def softmax(values, axis=-1):
    powers = np.exp(values - values.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def logits_for(table, data):
    outputs = {"mlm": (*data["targets"]["mlm"].shape, 50), "itm": (3, 2)}
    outputs |= {level.name: (3, level.num_classes) if level.answer == "class" else (3, level.num_masked, 12)
                for level in TABLES[table]}
    return {task: RNG.normal(size=shape).astype(np.float32) for task, shape in outputs.items()}


def test_cross_entropy():
    logits, labels = RNG.normal(size=(2, 3, 5)).astype(np.float32), np.array([[0, 4, 2], [1, 1, 3]])
    expected = -np.log(np.take_along_axis(softmax(logits), labels[..., None], -1)[..., 0])
    close(cross_entropy(logits, labels), expected, 1e-6)
    close(cross_entropy(np.array([[1000.0, 0.0]]), np.array([1])), [1000.0], 0)


def test_a_label_out_of_range_is_worth_nothing():
    close(cross_entropy(np.ones((3, 4), np.float32), np.array([-1, 4, 3])), [0, 0, np.log(4)], 1e-6)


def test_kl_per_patch_and_joint():
    logits, features = (RNG.normal(size=(2, 3, 7)).astype(np.float32) for _ in range(2))
    target, predicted = softmax(features), softmax(logits)
    close(kl(logits, features), (target * np.log(target / predicted)).sum(-1), 1e-6)
    close(kl(features, features), np.zeros((2, 3)), 1e-6)
    joint = softmax(features.reshape(2, 21)).reshape(2, 3, 7)
    close(kl(logits, features, joint=True), (joint * np.log(joint / predicted)).sum(-1), 1e-6)
    assert np.asarray(kl(features, features, joint=True)).max() < 0  # each target sums to about a third
    close(kl(logits[:, :1], features[:, :1], joint=True), kl(logits[:, :1], features[:, :1]), 1e-6)


def test_kl_is_clipped_and_finite_where_a_distribution_has_one_peak():
    peak, other = np.array([[[100.0, 0, 0]]]), np.array([[[0, 100.0, 0]]])
    value = float(np.asarray(kl(peak.astype(np.float16), other.astype(np.float16)))[0, 0])
    assert value == pytest.approx(-np.log(1e-7) + 1e-7 * np.log(1e-7), rel=1e-5)


@pytest.mark.parametrize("table", TABLES)
def test_weighted_means(table):
    data = batch(table)
    outputs, targets, weights = logits_for(table, data), data["targets"], dict(data["weights"])
    weights["mlm"] = np.array([[1, 0], [1, 1], [0, 0]], np.float32)
    weights |= {level.name: np.array([1, 0, 1], np.float32) for level in TABLES[table]}
    losses = pretraining.for_tasks(TABLES[table], mlm_weight=2.0, itm_weight=0.5)
    values = {task: float(value) for task, value in pretraining.total(losses, outputs, targets, weights).items()}
    assert list(values) == ["mlm", "itm", *(level.name for level in TABLES[table]), "total"]
    tokens = np.asarray(cross_entropy(outputs["mlm"], targets["mlm"]))
    assert values["mlm"] == pytest.approx((tokens * weights["mlm"]).sum() / (3 + 1e-5), rel=1e-6)
    for level in TABLES[table]:
        counted = {name: np.asarray(side[level.name])[[0, 2]] for name, side in (("logits", outputs), ("target", targets))}
        each = np.asarray(cross_entropy(*counted.values()) if level.answer == "class" else kl(*counted.values()))
        assert values[level.name] == pytest.approx(each.mean(), rel=1e-5)
    shares = {"mlm": 2.0, "itm": 0.5} | {level.name: level.weight for level in TABLES[table]}
    assert values["total"] == pytest.approx(sum(share * values[task] for task, share in shares.items()), rel=1e-5)


def test_only_grey_levels_become_joint():
    data = batch("kaleido")
    outputs = logits_for("kaleido", data)
    ours, theirs = (pretraining.total(pretraining.for_tasks(TABLES["kaleido"], name), outputs, data["targets"], data["weights"])
                    for name in ("per-patch", "joint"))
    assert {task for task in ours if float(ours[task]) != float(theirs[task])} == {"grey", "total"}


def test_weights_of_zero_give_zero_and_no_nan():
    data = batch("kaleido")
    layers = {task: keras.layers.Dense(value.shape[-1]) for task, value in logits_for("kaleido", data).items()}
    inputs = {task: np.ones((*value.shape[:-1], 3), np.float32) for task, value in logits_for("kaleido", data).items()}
    symbols = {task: keras.Input(value.shape[1:], name=task) for task, value in inputs.items()}
    model = keras.Model(symbols, {task: layers[task](symbol) for task, symbol in symbols.items()})
    weights = {task: np.zeros_like(value) for task, value in data["weights"].items()}
    losses = pretraining.for_tasks(TABLES["kaleido"])
    value, found = gradients(model, lambda: pretraining.total(losses, model(inputs), data["targets"], weights)["total"])()
    assert float(value) == 0 and len(found) == 14
    assert all((np.asarray(gradient) == 0).all() for gradient in found)


def test_parts_of_a_batch_add_up_to_the_whole():
    data = batch("kaleido", rows=4)
    outputs = {task: np.concatenate([value, value[:1] + 1]) for task, value in logits_for("kaleido", batch("kaleido")).items()}
    weights = data["weights"] | {"mlm": np.array([[1, 1], [1, 0], [0, 0], [1, 0]], np.float32), "grey": np.array([1, 1, 0, 1])}
    losses = pretraining.for_tasks(TABLES["kaleido"])
    whole = pretraining.total(losses, outputs, data["targets"], weights)
    over = pretraining.denominators(losses, weights)
    sides = (outputs, data["targets"], weights)
    parts = [pretraining.total(losses, *({task: value[rows] for task, value in side.items()} for side in sides), over)
             for rows in (slice(0, 1), slice(1, 4))]
    for task, value in whole.items():
        assert float(parts[0][task]) + float(parts[1][task]) == pytest.approx(float(value), rel=1e-5)


def test_refusals():
    with pytest.raises(UserError, match="per-patch or joint"):
        pretraining.for_tasks(TABLES["two"], "both")
    with pytest.raises(UserError, match="total"):
        pretraining.for_tasks((KaleidoLevel("total", 1, "rotate"),))
    clash = (KaleidoLevel("dull", 4, "grey", num_masked=2), KaleidoLevel("dull_joint", 5, "blank", num_masked=3))
    assert len(pretraining.for_tasks(clash)) == 4
    with pytest.raises(UserError, match="'dull_joint', as is the joint loss"):
        pretraining.for_tasks(clash, "joint")
