"""The matching head with two towers, the objectives, and what is a fair answer in a batch."""

import numpy as np
import pytest
from keras import ops

from kaleidobert.configs import Matching
from kaleidobert.datasets.task_samplers import MatchSampler
from kaleidobert.errors import UserError
from kaleidobert.losses import matching
from kaleidobert.model_zoo.kaleidobert import matcher
from tests.tables import TABLES
from tests.tiny import tiny_bank

SIZES = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 32, "vocabulary_size": 50, "max_positions": 32}


@pytest.mark.parametrize("levels", TABLES.values(), ids=TABLES)
def test_the_contrast_head_adds_the_product_of_the_sides_to_the_match(tmp_path, levels):
    bank = tiny_bank(tmp_path, levels)
    model = matcher({**SIZES, "levels": levels, "feature_size": bank.feature_size, "vocabulary_size": bank.vocabulary.size,
                     "text_length": bank.text_length}, "contrast")
    sampler = MatchSampler(bank, bank.rows("train"), "subcategory", Matching(), 4, 0)
    inputs, targets, _ = sampler.batch(0)
    outputs = {name: np.asarray(array) for name, array in model(inputs).items()}
    assert outputs["itm"].shape == (16, 2) and outputs["text_side"].shape == outputs["picture_side"].shape == (16, 16)
    np.testing.assert_allclose(np.linalg.norm(outputs["text_side"], axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(outputs["picture_side"], axis=1), 10, rtol=1e-5)
    for objective in matching.OBJECTIVES.values():
        assert np.isfinite(float(objective(outputs, targets, 4)))


def test_heads_are_named_and_others_refused():
    with pytest.raises(UserError, match="unknown head 'best'"):
        matcher({**SIZES, "text_length": 8}, "best")


def test_objectives_by_hand():
    itm = ops.convert_to_tensor(np.array([[0, 2], [0, 1], [0, 0], [0, 3]], np.float32))
    outputs = {"itm": itm, "text_side": ops.eye(4), "picture_side": ops.eye(4)}
    targets = {"itm": np.array([1, 0, 1, 0]), "open_texts": np.ones((2, 4)), "open_pictures": np.ones((2, 4))}
    lists = np.log([1 + np.exp(-1.0), 1 + np.exp(3.0)])
    np.testing.assert_allclose(matching.listwise(outputs, targets, 2), lists.mean(), rtol=1e-5)
    pairs = [np.log1p(np.exp(-2.0)), np.log1p(np.exp(1.0)), np.log(2), np.log1p(np.exp(3.0))]
    np.testing.assert_allclose(matching.pair(outputs, targets, 2), 0.5 * (np.mean(pairs[::2]) + np.mean(pairs[1::2])), rtol=1e-5)
    side = np.log((np.e + 3) / np.e)
    np.testing.assert_allclose(matching.contrast(outputs, targets, 2), lists.mean() + side, rtol=1e-5)
    targets["open_texts"] = targets["open_pictures"] = np.array([[1, 0, 1, 0], [0, 1, 1, 1]])
    closed = np.mean([np.log((np.e + 1) / np.e), np.log((np.e + 2) / np.e)])
    np.testing.assert_allclose(matching.contrast(outputs, targets, 2), lists.mean() + closed, rtol=1e-5)


def test_related_products_are_no_wrong_answers(tmp_path):
    bank = tiny_bank(tmp_path, num_products=36)
    groups, texts = bank.column("group"), bank.column("text")
    sampler = MatchSampler(bank, bank.rows("train"), "subcategory", Matching(negatives=2), 12, 1)
    rows = sampler.order.batch(3)
    inputs, targets, _ = sampler.batch(3)
    by_text = {tuple(ids): row for row, ids in enumerate(bank.token_ids.tolist())}
    for i, row in enumerate(rows):
        for j, ids in enumerate(inputs["token_ids"].tolist()):
            other = by_text[tuple(ids)]
            related = groups[other] == groups[row] or texts[other] == texts[row]
            assert targets["open_texts"][i, j] == (j == 3 * i or not related)
    assert targets["open_pictures"].shape == (12, 36) and (targets["open_pictures"][np.arange(12), 3 * np.arange(12)] == 1).all()
