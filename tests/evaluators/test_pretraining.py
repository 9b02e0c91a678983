"""Metrics of pre-training: values by hand, sums over batches, the released graph's figures, constant predictions."""

import doctest
import os
from math import log
from pathlib import Path

import numpy as np
import pytest

from kaleidobert.errors import UserError
from kaleidobert.evaluators import pretraining
from kaleidobert.levels import KALEIDO, KaleidoLevel

SHARED = Path(os.environ.get("KALEIDO_SHARED", Path(__file__).resolve().parents[3] / "shared"))
TABLES = {
    "paper": KALEIDO,
    "six": (*KALEIDO, KaleidoLevel("fine", 6, "blank", num_masked=4)),
    "two": (KaleidoLevel("turn", 2, "rotate"), KaleidoLevel("hidden", 2, "blank", num_masked=1)),
}
B, M, V, F = 6, 4, 11, 7


def rng() -> np.random.Generator:
    return np.random.Generator(np.random.Philox(5))


def batch(levels, generator, size=B):
    outputs = {"mlm": generator.normal(size=(size, M, V)), "itm": generator.normal(size=(size, 2))}
    targets = {"mlm": generator.integers(V, size=(size, M)), "itm": generator.integers(2, size=size)}
    weights = {"mlm": generator.integers(2, size=(size, M)).astype(np.float32), "itm": np.ones(size, np.float32)}
    for level in levels:
        shape = (size, level.num_classes) if level.answer == "class" else (size, level.num_masked, F)
        outputs[level.name] = generator.normal(size=shape).astype(np.float32)
        targets[level.name] = (generator.integers(level.num_classes, size=size) if level.answer == "class"
                               else generator.exponential(size=shape).astype(np.float16))
        weights[level.name] = generator.integers(3, size=size).astype(np.float32)
    return outputs, targets, weights


def take(arrays, part):
    return {name: array[part] for name, array in arrays.items()}


def test_examples_in_docstrings():
    assert doctest.testmod(pretraining).attempted > 0
    assert doctest.testmod(pretraining).failed == 0


@pytest.mark.parametrize("table", TABLES)
def test_against_a_plain_loop(table):
    levels = TABLES[table]
    outputs, targets, weights = batch(levels, rng())
    found = pretraining.means([pretraining.sums(outputs, targets, weights, levels)])
    names = ["mlm_accuracy", "mlm_loss", "itm_accuracy", "itm_loss"]
    for level in levels:
        names += [f"{level.name}_accuracy", f"{level.name}_loss"] if level.answer == "class" else [f"{level.name}_kl"]
    assert list(found) == names
    for name in ("mlm", "itm", *(level.name for level in levels if level.answer == "class")):
        losses, hits, total = 0.0, 0.0, 0.0
        for place in np.ndindex(targets[name].shape):
            share = np.exp(outputs[name][place]) / np.exp(outputs[name][place]).sum()
            losses -= weights[name][place] * log(share[targets[name][place]])
            hits += weights[name][place] * (outputs[name][place].argmax() == targets[name][place])
            total += weights[name][place]
        assert found[f"{name}_loss"] == pytest.approx(losses / total, rel=1e-5)
        assert found[f"{name}_accuracy"] == pytest.approx(hits / total)
    for level in levels:
        if level.answer == "feature":
            total, count = 0.0, 0.0
            for i in range(B):
                for j in range(level.num_masked):
                    p, q = (np.exp(a[level.name][i, j].astype(float)) for a in (targets, outputs))
                    p, q = p / p.sum(), q / q.sum()
                    total += weights[level.name][i] * float((p * np.log(p / q)).sum())
                    count += weights[level.name][i]
            assert found[f"{level.name}_kl"] == pytest.approx(total / count, rel=1e-6)


@pytest.mark.parametrize("table", TABLES)
def test_features_as_released(table):
    """By hand: one softmax over all masked patches of a grey level, per patch elsewhere, both distributions clipped to [1e-7, 1]."""
    levels = TABLES[table]
    outputs, targets, weights = batch(levels, rng())
    for level in levels:
        if level.answer == "feature":  # far apart, so that clipping counts
            outputs[level.name], targets[level.name] = outputs[level.name] * 15, (targets[level.name] * 15).astype(np.float16)
    plain, found = (pretraining.means([pretraining.sums(outputs, targets, weights, levels, name)]) for name in ("per-patch", "joint"))
    greys = [level.name for level in levels if level.pretext == "grey"]
    assert found.keys() - plain.keys() == {f"{name}_joint_kl" for name in greys} and not plain.keys() - found.keys()
    for level in levels:
        if level.answer != "feature":
            continue
        true, answer = np.exp(targets[level.name].astype(np.float64)), np.exp(outputs[level.name].astype(np.float64))
        axes = (1, 2) if level.name in greys else 2
        true = np.clip(true / true.sum(axis=axes, keepdims=True), 1e-7, 1)
        answer = np.clip(answer / answer.sum(axis=2, keepdims=True), 1e-7, 1)
        each = (true * np.log(true / answer)).sum(axis=2).mean(axis=1)
        expected = float((weights[level.name] * each).sum() / weights[level.name].sum())
        name = f"{level.name}_joint_kl" if level.name in greys else f"{level.name}_kl"
        assert found[name] == pytest.approx(expected, rel=1e-9) and found[name] != pytest.approx(plain[f"{level.name}_kl"], rel=1e-4)
    same = plain.keys() - {f"{level.name}_kl" for level in levels if level.answer == "feature" and level.name not in greys}
    assert {name: found[name] for name in same} == {name: plain[name] for name in same}  # grey per patch stands beside it


@pytest.mark.parametrize("feature_target", ["per-patch", "joint"])
@pytest.mark.parametrize("table", TABLES)
def test_batches_add_up_to_the_whole(table, feature_target):
    """Uneven batches, some positions without weight: the mean is that of all examples, not of batch means."""
    levels = TABLES[table]
    arrays = batch(levels, rng(), size=10)
    arrays[2].update({level.name: np.array([0, 1, 1, 2, 1, 1, 0, 0, 2, 1.0]) for level in levels})  # the second part has no weight
    whole = pretraining.means([pretraining.sums(*arrays, levels, feature_target)])
    parts = [slice(0, 7), slice(7, 8), slice(8, 10)]
    split = pretraining.means(pretraining.sums(*(take(side, part) for side in arrays), levels, feature_target) for part in parts)
    assert split == pytest.approx(whole)


def test_weight_zero_is_left_out_and_huge_logits_do_not_overflow():
    outputs = {"mlm": np.array([[[1e4, 0.0], [0.0, 1e4]]], np.float32), "itm": np.array([[np.nan, 0.0]])}
    targets = {"mlm": np.array([[0, 0]]), "itm": np.array([0])}
    weights = {"mlm": np.array([[1.0, 1.0]]), "itm": np.array([0.0])}
    assert pretraining.means([pretraining.sums(outputs, targets, weights, ())]) == {"mlm_accuracy": 0.5, "mlm_loss": 5e3}
    weights["itm"][:] = 1  # NaN that counts must show
    found = pretraining.means([pretraining.sums(outputs, targets, weights, ())])
    assert np.isnan(found["itm_loss"]) and found["itm_accuracy"] == 0


def test_large_classes_are_counted_in_chunks(monkeypatch):
    arrays = batch(KALEIDO, rng())
    whole = pretraining.sums(*arrays, KALEIDO)
    monkeypatch.setattr(pretraining, "CLASS_CHUNK", 3)
    assert {k: v for k, v in pretraining.sums(*arrays, KALEIDO).items()} == {k: pytest.approx(v) for k, v in whole.items()}


def test_constant_answers_have_the_accuracy_and_loss_of_chance():
    outputs, targets, weights = batch(KALEIDO, rng(), size=500)
    flat = {name: np.zeros_like(value) for name, value in outputs.items()}
    found = pretraining.means([pretraining.sums(flat, targets, weights, KALEIDO)])
    expected = pretraining.chance(KALEIDO, vocab_size=V)
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert expected["jigsaw_accuracy"] == 1 / 24 and expected["itm_loss"] == pytest.approx(log(2))
    assert "mlm_loss" not in pretraining.chance(KALEIDO)


def test_wrong_arrays_are_refused():
    outputs, targets, weights = batch(KALEIDO, rng())
    with pytest.raises(UserError, match="'grey' in the targets"):
        pretraining.sums(outputs, {k: v for k, v in targets.items() if k != "grey"}, weights, KALEIDO)
    with pytest.raises(UserError, match="'blank'"):
        pretraining.sums(outputs | {"blank": outputs["blank"][:, :2]}, targets, weights, KALEIDO)
    with pytest.raises(UserError, match="'jigsaw'.*0 to 23"):
        pretraining.sums(outputs, targets | {"jigsaw": targets["jigsaw"] + 24}, weights, KALEIDO)
    with pytest.raises(UserError, match="'mlm'"):
        pretraining.sums(outputs, targets, weights | {"mlm": weights["mlm"][:, 0]}, KALEIDO)


def test_constant_kl_by_hand():
    half = np.log(np.array([[[0.5, 0.5]], [[0.25, 0.75]]]))  # targets whose softmax is (.5, .5) and (.25, .75)
    expected = 0.25 * log(0.25 / 0.5) + 0.75 * log(0.75 / 0.5)
    assert pretraining.constant_kl(np.array([0.5, 0.5]), half, np.array([1.0, 2.0])) == pytest.approx((2 * expected, 3.0))
    assert pretraining.constant_kl(np.array([0.0, 1.0]), half, np.ones(2))[0] == np.inf


def test_constant_words_by_hand():
    targets, weights = np.array([[0, 2], [1, 2]]), np.array([[1.0, 1.0], [1.0, 0.0]])
    found = pretraining.constant_words(np.array([0.5, 0.25, 0.25]), targets, weights)
    assert found == {"mlm_accuracy": (1.0, 3.0), "mlm_loss": (pytest.approx(log(2) + 2 * log(4)), 3.0)}


def test_the_mean_of_softmaxes_is_the_best_constant(monkeypatch):
    generator = rng()
    targets = (generator.exponential(size=(50, 3, F)) * 3).astype(np.float16)
    monkeypatch.setattr(pretraining, "CHUNK", 16)
    best = pretraining.mean_distribution(targets)
    assert best.sum() == pytest.approx(1.0)
    value = pretraining.constant_kl(best, targets, np.ones(50))[0] / 150
    mean_feature = targets.astype(np.float32).reshape(-1, F).mean(axis=0)
    softmaxed = np.exp(mean_feature) / np.exp(mean_feature).sum()
    assert value < pretraining.constant_kl(softmaxed, targets, np.ones(50))[0] / 150
    for _ in range(20):
        other = best * np.exp(0.1 * generator.normal(size=F))
        assert value < pretraining.constant_kl(other / other.sum(), targets, np.ones(50))[0] / 150
    with pytest.raises(UserError, match="no features"):
        pretraining.mean_distribution(targets[:0])


@pytest.mark.skipif(not (SHARED / "golden/G1/golden.npz").exists(), reason="the golden data of the released code is not here")
def test_released_figures():
    golden = np.load(SHARED / "golden/G1/golden.npz")
    size, features = len(golden["in.input_ids"]), golden["eval.blankmask_logits"].shape[-1]
    levels = KALEIDO
    outputs = {"mlm": golden["eval.mlm_logits"].reshape(size, 10, -1), "itm": golden["eval.nsp_logits"],
               "grey": golden["eval.greymask_logits"].reshape(size, 2, features),
               "blank": golden["eval.blankmask_logits"].reshape(size, 3, features)}
    outputs |= {name: golden[f"eval.{name}_logits"] for name in ("rotation", "jigsaw", "camouflage")}
    targets = {"mlm": golden["in.masked_lm_ids"], "itm": golden["in.nx_sent_labels"][:, 0],
               "rotation": golden["in.img_rotate_gt"][:, 0], "jigsaw": golden["in.img_jigsaw_gt"][:, 0],
               "camouflage": golden["in.img_camouflage_gt"][:, 0],
               "grey": golden["in.img_grey_mask_gt"].reshape(size, 2, features),
               "blank": golden["eval.target_raw_blank_features"].reshape(size, 3, features)}
    weights = {name: np.ones(size) for name in targets} | {"mlm": golden["in.masked_lm_weights"]}
    found = pretraining.means([pretraining.sums(outputs, targets, weights, levels, "joint")])
    expected = {"mlm_loss": golden["eval.metric.eval_masked_lm_loss"],
                "mlm_accuracy": golden["eval.metric.eval_masked_lm_accuracy"],
                "itm_loss": golden["eval.loss.nsp"], "itm_accuracy": golden["eval.metric.next_sentence_accuracy"],
                "blank_kl": golden["eval.loss.blankmask"], "grey_joint_kl": golden["eval.loss.greymask"],
                "grey_kl": 0.628}  # per patch, as the paper has it
    for name in ("rotation", "jigsaw", "camouflage"):
        expected |= {f"{name}_loss": golden[f"eval.loss.{name}"], f"{name}_accuracy": golden[f"eval.metric.{name}_accuracy"]}
    for name, value in expected.items():
        assert found[name] == pytest.approx(float(value), rel=1e-3 if name == "grey_kl" else 2e-5, abs=2e-5), name
