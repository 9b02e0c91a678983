"""Word presence: it finds the patches of a term from its presence in texts alone; start, members and checkpoint."""

import numpy as np
import pytest

from kaleidobert.engines import optimizers, steps
from kaleidobert.errors import UserError
from kaleidobert.losses import auxiliary
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.word_presence import Evidence, WordPresence

SIZES = {"num_terms": 3, "feature_size": 5, "cells": 9, "hidden_size": 8, "members": 2, "dropout": 0.0}


def riddle(rows: int = 64) -> tuple[dict, dict, np.ndarray, np.ndarray]:
    """Pictures with a mark of each of two kinds or without, each on a patch of its own; the text has term 0 or 1 where the mark is there,
    and term 2 at random. Returns inputs, targets, the patches of the marks i64[rows, 2] and whether they are there."""
    rng = np.random.default_rng(0)
    cells, there, places = rng.normal(0, 0.1, (rows, 9, 5)), rng.random((rows, 2)) < 0.5, np.argsort(rng.random((rows, 9)), 1)[:, :2]
    for kind in (0, 1):
        cells[np.flatnonzero(there[:, kind]), places[there[:, kind], kind], kind] += 3
    labels = np.concatenate([there, rng.random((rows, 1)) < 0.5], 1).astype(np.float32)
    return {"cells": cells.astype(np.float32)}, {"presence": labels}, places, there


def train(model: WordPresence, number: int, seed: int = 0) -> float:
    inputs, targets, *_ = riddle()
    optimizer = optimizers.adam(1e-2)
    optimizer.build(model.trainable_variables)
    update = steps.train_step(model, lambda outputs, targets, weights: {
        "loss": auxiliary.presence_loss(outputs["presence"], targets["presence"])}, optimizer, 0.0)
    for _ in range(number):
        loss = update(inputs, targets, {"presence": np.ones(len(inputs["cells"]), np.float32)})["loss"]
    return float(loss)


def test_terms_find_their_patches_from_their_presence_alone():
    model, (inputs, _, places, there) = WordPresence(**SIZES), riddle()
    first, last = train(model, 1), train(model, 200)
    evidence = steps.forward(Evidence(model))(inputs)["evidence"]
    assert last < 0.6 * first and evidence.shape == (64, 9, 3)
    for kind in (0, 1):
        peaks = evidence[there[:, kind], :, kind].argmax(1)
        assert (peaks == places[there[:, kind], kind]).mean() > 0.95


def test_a_new_model_says_the_frequencies():
    model, (inputs, *_) = WordPresence(**SIZES | {"competition": 0.0}), riddle()
    model.set_frequencies(np.array([0.5, 0.1, 0.9]))
    shares = 1 / (1 + np.exp(-steps.forward(model)(inputs)["presence"]))
    assert shares.shape == (64, 2, 3)
    np.testing.assert_allclose(shares.mean((0, 1)), [0.5, 0.1, 0.9], atol=0.05)


def test_the_loss_by_hand():
    logits, labels = np.array([[[0.0, 0.0], [100.0, -100.0]]], np.float32), np.array([[1.0, 0.0]], np.float32)
    assert float(auxiliary.presence_loss(logits, labels)) == pytest.approx(2 * np.log(2))
    assert float(auxiliary.presence_loss(logits, 1 - labels)) == pytest.approx(2 * np.log(2) + 200)


def test_members_differ_and_a_checkpoint_restores_them(tmp_path):
    model, (inputs, *_) = WordPresence(**SIZES), riddle(4)
    model.adapt_features(inputs["cells"])
    evidence = np.asarray(model.evidence(model.cells(inputs)))
    assert np.abs(evidence[0] - evidence[1]).max() > 1e-3
    checkpoints.save(tmp_path / "a.npz", model)
    again = WordPresence(**SIZES | {"seed": 4})
    checkpoints.restore(tmp_path / "a.npz", again)
    np.testing.assert_array_equal(np.asarray(again.evidence(again.cells(inputs))), evidence)
    with pytest.raises(UserError, match="competition is 0.5"):
        checkpoints.restore(tmp_path / "a.npz", WordPresence(**SIZES | {"competition": 0.25}))
    assert WordPresence(**model.get_config()).get_config() == model.get_config()
