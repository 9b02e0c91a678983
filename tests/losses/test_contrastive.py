"""Image-text contrast: the loss by hand, what is no negative, and two sides that do not see each other."""

import numpy as np
import pytest
from keras import ops

from kaleidobert import configs
from kaleidobert.app_zoo import pretrain
from kaleidobert.configs import Sampling
from kaleidobert.datasets.sampling.pretraining import NegativeSampler, PretrainSampler, clean_batch
from kaleidobert.errors import UserError
from kaleidobert.evaluators import pretraining
from kaleidobert.losses import contrastive
from kaleidobert.losses import pretraining as losses
from kaleidobert.model_zoo.kaleidobert import CONTRASTIVE_MATCH, matcher, pretrainer
from tests.support.tables import TWO
from tests.support.tiny import tiny_bank

RANDOM = Sampling(masking="random")
SIZES = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "intermediate_size": 32, "max_positions": 32, "initializer_range": 0.3,
         "dropout": 0.0, "attention_dropout": 0.0}


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return tiny_bank(tmp_path_factory.mktemp("contrast"), TWO, num_products=36)


def arguments_of(bank):
    return {**SIZES, "levels": bank.levels, "feature_size": bank.feature_size, "vocabulary_size": bank.vocabulary.size,
            "text_length": bank.text_length}


def test_the_loss_by_hand():
    """Four pairs: text 1 is of picture 0's group, texts 2 and 3 are equal, and text 3 stands beside a picture of another product."""
    sides = np.stack([np.eye(4), 2 * np.eye(4)], 1).astype(np.float32)
    identity = np.array([[7, 7, 0, 0, 0], [7, 7, 1, 1, 1], [8, 8, 2, 2, 2], [9, 8, 3, 2, -1]])
    found = np.asarray(contrastive.in_batch(sides, identity))
    own, other = np.e**2, 1.0
    # negatives of the pictures: texts {2, 3}, {2, 3}, {0, 1}, all; of the texts: pictures {2, 3}, {2, 3}, {0, 1, 3}, {0, 1}
    counts = np.array([[2, 2], [2, 2], [2, 3]])
    np.testing.assert_allclose(found[:3], np.log((own + other * counts) / own).mean(1), rtol=1e-5)
    assert found[3] == 0  # its own text is not there
    sums = pretraining.contrast_sums(sides, identity, np.array([1.0, 1.0, 1.0, 0.0]))
    assert sums["itc_accuracy"] == (3.0, 3.0) and sums["itc_loss"][0] == pytest.approx(float(found[:3].sum()), rel=1e-5)
    chance = pretraining.contrast_chance(identity, np.array([1.0, 1.0, 1.0, 0.0]))
    assert chance["itc_accuracy"][0] == pytest.approx((1 / (1 + counts[:3])).mean(1).sum())


def test_the_own_text_is_found_at_its_place():
    """Texts of pictures 0 to 2 in the order 2, 0, 1: scores and loss are those of the same pairs side by side."""
    rng = np.random.default_rng(0)
    sides, order = rng.normal(size=(4, 2, 3)).astype(np.float32), np.array([2, 0, 1, 3])
    straight = np.repeat(np.arange(4)[:, None], 5, 1)
    turned, moved = straight.copy(), sides.copy()
    moved[:, 0] = sides[order, 0]
    turned[:, 1], turned[:, 3], turned[:, 4] = order, order, np.argsort(order)
    np.testing.assert_allclose(contrastive.in_batch(moved, turned), contrastive.in_batch(sides, straight), rtol=1e-5)
    for each in (lambda s, i: pretraining.contrast_sums(s, i, np.ones(4)), lambda s, i: pretraining.contrast_chance(i, np.ones(4))):
        assert {name: pytest.approx(value) for name, value in each(moved, turned).items()} == each(sides, straight)


def test_wrong_texts_are_those_of_the_batch(bank):
    """So that nearly every picture's own text is there: no row is lost for the contrast because its example got a wrong text."""
    sampler = PretrainSampler(bank, bank.rows("train"), bank.levels, RANDOM, 16, 3, contrastive=True)
    for step in range(4):
        _, targets, weights = sampler.batch(step)
        identity, match = targets["itc"], targets["itm"].astype(bool)
        assert 0 < match.sum() < 16 and weights["itc"].mean() > 0.9 and ((identity[:, 4] >= 0) == (weights["itc"] > 0)).all()
        assert (identity[match, 4] == np.flatnonzero(match)).all()
        has = identity[:, 4] >= 0
        np.testing.assert_array_equal(identity[identity[has, 4], 3], identity[has, 2])  # the text there is the picture's own
    _, targets, weights = sampler.validation(0)  # a wrong text is any of the split, as without a contrast
    plain = PretrainSampler(bank, bank.rows("train"), bank.levels, RANDOM, 16, 3).validation(0)
    np.testing.assert_array_equal(targets["itm"], plain[1]["itm"])
    np.testing.assert_array_equal(targets["mlm"], plain[1]["mlm"])


def test_equal_sides_score_as_a_guess():
    sides, identity = np.ones((5, 2, 3), np.float32), np.repeat(np.arange(5)[:, None], 5, 1)
    sums, chance = (each(*arguments) for each, arguments in (
        (pretraining.contrast_sums, (sides, identity, np.ones(5))), (pretraining.contrast_chance, (identity, np.ones(5)))))
    assert {name: pytest.approx(value) for name, value in sums.items()} == chance


def test_the_two_sides_do_not_see_each_other(bank):
    model = pretrainer(arguments_of(bank), contrastive=True)
    inputs, targets, weights = PretrainSampler(bank, bank.rows("train"), bank.levels, RANDOM, 8, 0, contrastive=True).batch(0)
    before = np.asarray(model(inputs)["itc"])
    other_text = np.asarray(model({**inputs, "token_ids": inputs["token_ids"][::-1], "token_mask": inputs["token_mask"][::-1]})["itc"])
    features = inputs["patch_features"][::-1]
    other_picture = np.asarray(model({**inputs, "patch_features": features})["itc"])
    np.testing.assert_allclose(before[:, 1], other_text[:, 1], atol=1e-5)
    np.testing.assert_allclose(before[:, 0], other_picture[:, 0], atol=1e-6)
    assert np.abs(before[:, 0] - other_text[:, 0]).max() > 0.01 and np.abs(before[:, 1] - other_picture[:, 1]).max() > 0.01
    np.testing.assert_allclose(np.linalg.norm(before, axis=2), np.broadcast_to([1, 20], (8, 2)), rtol=1e-4)
    by_task = losses.for_tasks(bank.levels, itc_weight=1.0)
    assert float(losses.total(by_task, model(inputs), targets, weights)["itc"]) > 0


def test_the_match_starts_as_that_of_the_paper_and_learns_the_sides(bank):
    model, inputs = matcher(arguments_of(bank), "contrastive"), clean_batch(bank, bank.rows("train")[:8])
    before = {name: np.asarray(value) for name, value in model(inputs).items()}
    np.testing.assert_array_equal(before["itm"], before["own"])
    model.get_layer(CONTRASTIVE_MATCH).gain.assign(0.5)
    after = np.asarray(model(inputs)["itm"])
    np.testing.assert_array_equal(after[:, 0], before["own"][:, 0])
    assert np.ptp(after[:, 1] - before["own"][:, 1]) > 0.01


def test_a_batch_that_would_be_split_is_refused(bank, tmp_path):
    """Contrast compares all texts of a batch with all of its pictures: parts of it have other negatives."""
    words = [f"data.bank={bank.folder}", f"run={tmp_path / 'run'}", "sampling.masking=random", "losses.itc_weight=1"]
    for word in ("train.gradient_accumulation_steps=2", "train.devices=2"):
        with pytest.raises(UserError, match="a batch is split"):
            pretrain.run(configs.load(configs.PretrainConfig, "pretrain", [*words, word]))
    assert not (tmp_path / "run").exists()


def test_a_batch_too_small_for_wrong_texts_of_its_own_is_refused(bank, tmp_path):
    words = [f"data.bank={bank.folder}", f"run={tmp_path / 'run'}", "sampling.masking=random", "losses.itc_weight=1", "train.batch_size=7"]
    with pytest.raises(UserError, match="train.batch_size 7.*at least 8 examples"):
        pretrain.run(configs.load(configs.PretrainConfig, "pretrain", words))


def test_an_exchange_is_an_order_of_the_rows_and_mends_what_is_related(bank):
    """Half of the rows share one text or one group: the others are exchanged all the same."""
    negatives, rng = NegativeSampler(bank, bank.rows("train"), "subcategory"), np.random.default_rng(0)
    rows = bank.rows("train")[:16]
    negatives._text = negatives._text.copy()
    negatives._text[rows[:5]] = negatives._text[rows[0]]
    for _ in range(20):
        drawn = negatives.exchange(rows, rng)
        assert sorted(drawn) == sorted(rows) and not negatives.related(drawn, rows).any()
    assert negatives.exchange(rows[:5], rng).tolist() == rows[:5].tolist()  # all have one text: none is wrong
    assert negatives.exchange(rows[:1], rng).tolist() == rows[:1].tolist() and not negatives.exchange(rows[:0], rng).size


@pytest.mark.parametrize("control, changed", [("with_other_pictures", {"patch_features", "patch_boxes"}), ("without_words", {"token_ids"})])
def test_a_control_keeps_the_masks_and_the_answers(bank, control, changed):
    sampler = PretrainSampler(bank, bank.rows("train"), bank.levels, RANDOM, 8, 0, contrastive=True)
    (inputs, targets, _), (other, same, _) = sampler.validation(0), getattr(sampler, control)(0)
    assert inputs.keys() == other.keys() and targets.keys() == same.keys()
    differ = {name for name in inputs if not np.array_equal(inputs[name], other[name])}
    assert differ and differ <= changed
    assert all(np.array_equal(targets[name], same[name]) for name in targets)
    assert getattr(sampler, control)(100) is None


def test_hidden_words_leave_the_length_of_the_text(bank):
    sampler = PretrainSampler(bank, bank.rows("train"), bank.levels, RANDOM, 8, 0, contrastive=True)
    inputs, vocabulary = sampler.without_words(0)[0], bank.vocabulary
    assert set(inputs["token_ids"].ravel().tolist()) <= {vocabulary.pad, vocabulary.start, vocabulary.end, vocabulary.mask}
    assert ((inputs["token_ids"] != vocabulary.pad) == inputs["token_mask"]).all()


def test_batches_tell_what_is_no_negative(bank):
    sampler = PretrainSampler(bank, bank.rows("train"), bank.levels, RANDOM, 16, 3, contrastive=True)
    _, targets, weights = sampler.batch(0)
    identity, match = targets["itc"], targets["itm"].astype(bool)
    assert identity.shape == (16, 5) and 0 < match.sum() < 16
    np.testing.assert_array_equal(weights["itc"], identity[:, 4] >= 0)
    np.testing.assert_array_equal(sampler.weights(0)["itc"], weights["itc"])
    assert (identity[match, 0] == identity[match, 1]).all() and (identity[match, 2] == identity[match, 3]).all()
    assert (identity[~match, 0] != identity[~match, 1]).all()
    related = np.asarray(contrastive.related(ops.convert_to_tensor(identity)))
    np.testing.assert_array_equal(related, ~pretraining.negatives(identity))
    plain = PretrainSampler(bank, bank.rows("train"), bank.levels, RANDOM, 16, 3).batch(0)
    assert "itc" not in plain[1] and "itc" not in plain[2]
