"""The matching head with two towers, the objectives, and what is a fair answer in a batch."""

import numpy as np
import pytest
from keras import ops

from kaleidobert.app_zoo.retrieve.fine_tuning import DualEncoderModel
from kaleidobert.configs import Matching
from kaleidobert.datasets.sampling.finetuning import DualEncoderSampler, MatchSampler
from kaleidobert.errors import UserError
from kaleidobert.losses import contrastive, finetuning
from kaleidobert.model_zoo.kaleidobert import matcher
from tests.support.tables import TABLES, TWO
from tests.support.tiny import tiny_bank

SIZES = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 32, "vocabulary_size": 50, "max_positions": 32}


@pytest.mark.parametrize("levels", TABLES.values(), ids=TABLES)
def test_the_contrast_head_adds_the_product_of_the_sides_to_the_match(tmp_path, levels):
    bank = tiny_bank(tmp_path, levels)
    model = matcher({**SIZES, "levels": levels, "feature_size": bank.feature_size, "vocabulary_size": bank.vocabulary.size,
                     "text_length": bank.text_length}, "dual_encoder", width=24)
    sampler = MatchSampler(bank, bank.rows("train"), "subcategory", Matching(), 4, 0)
    inputs, targets, _ = sampler.batch(0)
    outputs = {name: np.asarray(array) for name, array in model(inputs).items()}
    sides = {name: np.asarray(array) for name, array in DualEncoderModel(model)(inputs).items()}
    assert outputs["itm"].shape == (16, 2) and sides["text_side"].shape == sides["picture_side"].shape == (16, 24)
    np.testing.assert_allclose(np.linalg.norm(sides["text_side"], axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(sides["picture_side"], axis=1), 20, rtol=1e-5)
    product = (sides["text_side"] * sides["picture_side"]).sum(1)
    np.testing.assert_allclose(outputs["itm"] - outputs["own"], np.stack([0 * product, product], 1), atol=1e-4)
    for objective in finetuning.OBJECTIVES.values():
        assert np.isfinite(float(objective(outputs["own"], targets["itm"], 4)))


def test_heads_are_named_and_others_refused():
    with pytest.raises(UserError, match="unknown head 'best'"):
        matcher({**SIZES, "text_length": 8}, "best")


def test_objectives_by_hand():
    logits, labels = ops.convert_to_tensor(np.array([[0, 2], [0, 1], [0, 0], [0, 3]], np.float32)), np.array([1, 0, 1, 0])
    lists = np.log([1 + np.exp(-1.0), 1 + np.exp(3.0)])
    np.testing.assert_allclose(finetuning.listwise(logits, labels, 2), lists.mean(), rtol=1e-5)
    pairs = [np.log1p(np.exp(-2.0)), np.log1p(np.exp(1.0)), np.log(2), np.log1p(np.exp(3.0))]
    np.testing.assert_allclose(finetuning.pairwise(logits, labels, 2), 0.5 * (np.mean(pairs[::2]) + np.mean(pairs[1::2])), rtol=1e-5)
    sides, own = ops.stack([ops.eye(4), 2 * ops.eye(4)], 1), np.arange(4)
    np.testing.assert_allclose(contrastive.in_batch(sides, np.stack([own] * 5, 1)), np.log((np.e**2 + 3) / np.e**2), rtol=1e-5)
    # picture 0 is of the group of texts 1 to 3: it has no wrong text, these one wrong picture less
    identity = np.stack([[9, 1, 2, 3], [7, 9, 9, 9], own, own, own], 1)
    over_texts, over_pictures = [0] + 3 * [np.log((np.e**2 + 3) / np.e**2)], [np.log((np.e**2 + 3) / np.e**2)]
    over_pictures += 3 * [np.log((np.e**2 + 2) / np.e**2)]
    np.testing.assert_allclose(contrastive.in_batch(sides, identity), 0.5 * np.add(over_texts, over_pictures), rtol=1e-5)


def test_related_products_are_no_wrong_answers(tmp_path):
    bank = tiny_bank(tmp_path, num_products=36)
    groups, texts = bank.column("group"), bank.column("text")
    sampler = DualEncoderSampler(bank, bank.rows("train"), "subcategory", 24, 1)
    rows = sampler.order.batch(3)
    inputs, targets, _ = sampler.batch(3)
    np.testing.assert_array_equal(inputs["token_ids"], bank.token_ids[rows])
    related = (groups[rows][:, None] == groups[rows]) | (texts[rows][:, None] == texts[rows])
    assert related.sum() > len(rows)
    np.testing.assert_array_equal(contrastive.related(targets["identity"]), related)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_the_product_of_the_towers_is_float32_whatever_the_precision(tmp_path, precision):
    bank = tiny_bank(tmp_path, TWO)
    model = matcher({**SIZES, "levels": TWO, "feature_size": bank.feature_size, "vocabulary_size": bank.vocabulary.size,
                     "text_length": bank.text_length, "precision": precision}, "dual_encoder", width=24)
    inputs, _, _ = MatchSampler(bank, bank.rows("train"), "subcategory", Matching(), 4, 0).batch(0)
    outputs, sides = model(inputs), DualEncoderModel(model)(inputs)
    product = (np.asarray(sides["text_side"]) * np.asarray(sides["picture_side"])).sum(1)
    np.testing.assert_allclose(np.asarray(outputs["itm"] - outputs["own"])[:, 1], product, atol=1e-4)
