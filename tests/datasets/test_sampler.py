"""Batches: stateless, well-formed, and no answer can be read from anything but the features that ask for it."""

import copy
import dataclasses

import numpy as np
import pytest

from kaleidobert import levels as kaleido
from kaleidobert import specs
from kaleidobert.configs import Matching, Sampling
from kaleidobert.datasets.bank import alignment
from kaleidobert.datasets.sampling import finetuning, pretraining
from kaleidobert.datasets.sampling.pretraining import PretrainSampler
from kaleidobert.errors import UserError
from kaleidobert.levels import KALEIDO
from tests.support.tables import TABLES
from tests.support.tiny import tiny_bank

VECTORS = kaleido.vector_slices(KALEIDO)
PATCHES = kaleido.patch_slices(KALEIDO)


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return tiny_bank(tmp_path_factory.mktemp("bank"), num_products=60)


def make(bank, split="train", batch=16, seed=3, **options):
    return PretrainSampler(bank, bank.rows(split), bank.levels, Sampling(**{"masking": "random"} | options), batch, seed)


@pytest.mark.parametrize("levels", TABLES.values(), ids=TABLES)
def test_batches_are_what_the_specs_say(tmp_path, levels):
    bank = tiny_bank(tmp_path, levels)
    inputs, targets, weights = make(bank).batch(0)
    specs.check(inputs, specs.inputs(levels, bank.text_length, bank.feature_size, 10), "inputs")
    specs.check(targets, specs.targets(levels, bank.feature_size, 10), "targets")
    assert set(weights) == set(targets)
    for name, array in weights.items():
        assert array.shape == ((16, 10) if name == "mlm" else (16,)) and array.dtype == np.float32


def test_a_batch_is_a_function_of_seed_and_step(bank):
    one, two, other = make(bank), make(bank), make(bank, seed=4)
    one.batch(0), one.batch(9)
    for first, again, third in zip(one.batch(5), two.batch(5), other.batch(5)):
        assert all((first[name] == again[name]).all() for name in first)
        assert any((first[name] != third[name]).any() for name in first)
    assert any((one.batch(5)[0][name] != one.batch(6)[0][name]).any() for name in ("token_ids", "patch_features"))


def test_every_epoch_shows_every_row_once_in_a_new_order(bank):
    order = make(bank, batch=7).order
    rows = np.concatenate([order.batch(step) for step in range(len(order.rows) * 2)])
    first, second = rows[: len(order.rows)], rows[len(order.rows) : 2 * len(order.rows)]
    assert sorted(first) == sorted(second) == sorted(order.rows) and (first != second).any()


def test_validation_covers_the_split_once_the_same_way(bank):
    one, two = make(bank, "val", batch=8), make(bank, "val", batch=8)
    rows, step = [], 0
    while (batch := one.validation(step)) is not None:
        again = two.validation(step)
        assert all((batch[0][name] == again[0][name]).all() for name in batch[0])
        rows.append(len(batch[1]["itm"]))
        step += 1
    assert sum(rows) == len(bank.rows("val"))


def test_pretexts_are_drawn_anew_for_the_same_row(bank):
    samples = make(bank)
    rows = np.full(64, bank.rows("train")[0])
    draw = samples.draw(rows, np.random.Generator(np.random.Philox(0)))
    for level in KALEIDO:
        assert len(np.unique(draw.spoiled[level.name].vectors, axis=0)) > 1 or level.pretext == "blank"
    assert len(np.unique(draw.masks.patches["blank"], axis=0)) > 10 and len(np.unique(draw.donors)) > 10


def test_features_are_those_that_the_draw_names(bank):
    samples = make(bank, batch=24)
    draw = samples.draw(samples.order.batch(0), np.random.Generator(np.random.Philox(1)))
    inputs, targets, _ = samples.assemble(draw)
    stored = np.concatenate([np.load(bank.folder / name) for name in bank.index["shards"]])
    for i, row in enumerate(draw.rows):
        features = inputs["patch_features"][i]
        assert (features[PATCHES["rotation"]] == stored[row, draw.spoiled["rotation"].answer[i]]).all()
        for slot, patch in enumerate(draw.spoiled["jigsaw"].vectors[i]):
            assert (features[PATCHES["jigsaw"].start + slot] == stored[row, VECTORS["jigsaw"].start + patch]).all()
        slot = targets["camouflage"][i]
        lent = stored[draw.donors[i], VECTORS["camouflage"].start + draw.spoiled["camouflage"].vectors[i, slot]]
        assert (features[PATCHES["camouflage"].start + slot] == lent).all()
        for k, patch in enumerate(draw.masks.patches["grey"][i]):
            assert (features[PATCHES["grey"].start + patch] == stored[row, VECTORS["grey"].start + 16 + patch]).all()
            assert (targets["grey"][i, k] == stored[row, VECTORS["grey"].start + patch]).all()
        for k, patch in enumerate(draw.masks.patches["blank"][i]):
            assert not features[PATCHES["blank"].start + patch].any()
            assert (targets["blank"][i, k] == stored[row, VECTORS["blank"].start + patch]).all()
        assert sorted(inputs["masked_patches"][i]) == inputs["masked_patches"][i].tolist()
        expected = np.concatenate([PATCHES[name].start + draw.masks.patches[name][i] for name in ("grey", "blank")])
        assert (inputs["masked_patches"][i] == expected).all()  # never the camouflaged patch


def test_answers_cannot_be_read_from_anything_but_features(bank, monkeypatch):
    """With features that say nothing, the inputs of one row are the same whatever the answers are."""
    samples = make(bank)
    monkeypatch.setattr(bank, "gather", lambda rows, vectors: {
        name: np.ones((*numbers.shape, bank.feature_size), np.float16) for name, numbers in vectors.items()})
    rows = np.full(200, bank.rows("train")[3])
    draw = samples.draw(rows, np.random.Generator(np.random.Philox(2)))
    # the same tokens and masked patches for all, so that only the answers differ
    same = dataclasses.replace(draw.masks, patches={name: np.repeat(chosen[:1], 200, 0) if name in ("grey", "blank") else chosen
                                                    for name, chosen in draw.masks.patches.items()})
    zeroed = dataclasses.replace(draw.spoiled["blank"], zeroed=np.repeat(draw.spoiled["blank"].zeroed[:1], 200, 0))
    inputs, targets, _ = samples.assemble(dataclasses.replace(draw, masks=same, spoiled=draw.spoiled | {"blank": zeroed}))
    for name in ("rotation", "jigsaw", "camouflage"):
        assert len(np.unique(targets[name])) > 3
    for name in ("patch_features", "patch_boxes", "masked_patches"):
        assert (inputs[name] == inputs[name][:1]).all()
    assert (inputs["patch_boxes"] == bank.boxes[rows]).all()


def test_the_masked_token_is_not_in_the_input_more_often_than_it_should(bank):
    samples = make(bank, batch=64, losses_on_negatives="all")  # so that the weights tell which slots are used
    kept = total = 0
    for step in range(40):
        inputs, targets, weights = samples.batch(step)
        seen = np.take_along_axis(inputs["token_ids"], inputs["masked_tokens"], 1)
        used = weights["mlm"] > 0
        kept, total = kept + (seen == targets["mlm"])[used].sum(), total + used.sum()
    assert 0.05 < kept / total < 0.2


def test_masked_pieces_are_those_that_batches_ask_for(bank):
    sampler = make(bank)
    expected, slots = np.zeros(bank.vocabulary.size), []
    for step in range(3):
        _, targets, weights = sampler.batch(step)
        np.add.at(expected, targets["mlm"], weights["mlm"])
        slots.append(targets["camouflage"])
    pieces, patches = sampler.masked(["camouflage"], 3)
    assert expected.sum() > 3 and (pieces == expected).all()
    assert patches == {"camouflage": np.bincount(np.concatenate(slots)).argmax()} and not sampler.masked((), 1)[1]


def test_negatives_are_half_and_look_like_positives_but_for_the_text(bank):
    samples = make(bank, batch=500)
    groups, texts, kinds = bank.column("group"), bank.column("text"), bank.column("subcategory")
    draw = samples.draw(samples.order.batch(0), np.random.Generator(np.random.Philox(3)))
    inputs, targets, weights = samples.assemble(draw)
    negative = targets["itm"] == 0
    assert 0.42 < negative.mean() < 0.58
    assert (draw.text_rows == draw.rows)[~negative].all()
    assert (groups[draw.text_rows] != groups[draw.rows])[negative].all() and (texts[draw.text_rows] != texts[draw.rows])[negative].all()
    same = (kinds[draw.text_rows] == kinds[draw.rows])[negative].mean()
    assert 0.5 < same < 0.8  # half by request, and a quarter of the others by chance
    assert (weights["itm"] == 1).all() and (weights["rotation"] == ~negative).all() and not weights["mlm"][negative].any()
    # the pictures of negatives are spoiled as those of positives
    for name in ("rotation", "jigsaw", "camouflage"):
        means = [targets[name][part].mean() for part in (negative, ~negative)]
        assert abs(means[0] - means[1]) < 4 * targets[name].std() / np.sqrt(100)
    every = make(bank, losses_on_negatives="all").batch(0)[2]
    assert all((weight == 1).all() for name, weight in every.items() if name != "mlm")


def test_donors_are_other_products(bank):
    samples, groups = make(bank, batch=400), bank.column("group")
    draw = samples.draw(samples.order.batch(1), np.random.Generator(np.random.Philox(4)))
    assert (groups[draw.donors] != groups[draw.rows]).all()


def test_without_any_other_text_there_are_no_negatives(bank, monkeypatch):
    monkeypatch.setattr(bank, "column", lambda name: np.full(bank.size, "same") if name == "text" else type(bank).column(bank, name))
    targets = make(bank).batch(0)[1]
    assert (targets["itm"] == 1).all()


def test_alignment_is_refused_until_the_bank_has_one(bank):
    with pytest.raises(UserError, match="holds no alignment.*run `kaleidobert align`.*masking=random"):
        make(bank, masking="alignment_guided")
    with pytest.raises(UserError, match="batch_size is 0"):
        make(bank, batch=0)


def test_alignment_guides_texts_and_pictures_whether_they_match_or_not(tmp_path):
    """The first word of every text is linked to the first patch of each level with a feature to be told. Beside the own picture the
    two are never masked together and always one of them; a text is masked alike beside another's picture, and a picture beside
    another's text: half the time by the link."""
    bank = tiny_bank(tmp_path, num_products=60)
    strengths = np.zeros((bank.size, bank.text_length, 55), np.float16)
    strengths[:, 1, [5, 14, 30]] = 0.5  # the first piece, which is a word: a colour
    alignment.write(bank, [strengths], ({} for _ in range(bank.size)), mode="test", settings={})
    samples = make(bank, batch=2000, masking="alignment_guided")
    draw = samples.draw(samples.order.batch(0), np.random.Generator(np.random.Philox(5)))
    word = ((draw.masks.tokens == 1) & (draw.masks.token_weights > 0)).any(1)
    patch = np.stack([(draw.masks.patches[name] == 0).any(1) for name in ("camouflage", "grey", "blank")], 1)
    negative = draw.text_rows != draw.rows
    assert not (word & patch[:, 1:].any(1))[~negative].any() and (word | patch[:, 1:].all(1))[~negative].all()
    for part in (negative, ~negative):
        assert abs(word[part].mean() - 0.5) < 0.05 and np.allclose(patch[part].mean(0), [1 / 9, 0.5, 0.5], atol=0.05)
    for first, again in zip(samples.batch(3), make(bank, batch=2000, masking="alignment_guided").batch(3)):
        assert all((first[name] == again[name]).all() for name in first)


def test_a_picture_is_masked_by_its_own_alignment_and_a_text_by_its_own(tmp_path):
    """Every product links its own word to its own patch: beside another's text the picture's patch is masked, not the text's."""
    bank = tiny_bank(tmp_path, num_products=60)
    strengths, own = np.zeros((bank.size, bank.text_length, 55), np.float16), np.arange(bank.size) % 2
    strengths[np.arange(bank.size), 1 + own, 30 + 20 * own] = 0.5
    alignment.write(bank, [strengths], ({} for _ in range(bank.size)), mode="test", settings={})
    samples = make(bank, batch=4000, masking="alignment_guided")
    draw = samples.draw(samples.order.batch(0), np.random.Generator(np.random.Philox(5)))
    used = draw.masks.token_weights > 0
    for kind in (0, 1):
        word = ((draw.masks.tokens == 1 + kind) & used).any(1)
        patch = (draw.masks.patches["blank"] == 20 * kind).any(1)
        for text, picture in ((0, 0), (0, 1), (1, 0), (1, 1)):
            part = (own[draw.text_rows] == text) & (own[draw.rows] == picture) & (draw.text_rows != draw.rows)
            assert part.sum() > 300
            assert abs(word[part].mean() - (0.5 if text == kind else 0.1)) < 0.12
            assert abs(patch[part].mean() - (0.5 if picture == kind else 0.1)) < 0.12


def test_whole_words_can_be_asked_for(bank):
    samples = make(bank, batch=400, whole_word=True, mask_rate=0.4)
    draw = samples.draw(samples.order.batch(0), np.random.Generator(np.random.Philox(6)))
    words, partly = bank.token_words[draw.text_rows], np.zeros(400, int)
    for row in range(400):
        chosen = np.zeros(bank.text_length, bool)
        chosen[draw.masks.tokens[row, draw.masks.token_weights[row] > 0]] = True
        partly[row] = sum(not chosen[words[row] == word].all() for word in np.unique(words[row, chosen]))
    assert partly.max() <= 1


def test_a_share_of_the_training_data_is_whole_groups(bank):
    rows, groups = bank.rows("train"), bank.column("group")
    some = pretraining.fraction_of_groups(bank, rows, 0.3, 0)
    assert 0.15 < len(some) / len(rows) < 0.5 and set(groups[some]).isdisjoint(groups[np.setdiff1d(rows, some)])
    assert (pretraining.fraction_of_groups(bank, rows, 1.0, 0) == rows).all()
    with pytest.raises(UserError, match="train_share is 0"):
        pretraining.fraction_of_groups(bank, rows, 0, 0)


def test_modalities_leave_nothing_of_the_other_side(bank):
    rows = bank.rows("val")[:4]
    image = finetuning.modality_inputs(bank, rows, "image")
    assert (image["token_ids"] == image["token_ids"][0]).all() and image["token_mask"].sum(1).tolist() == [2] * 4
    text = finetuning.modality_inputs(bank, rows, "text")
    assert not text["patch_features"].any() and not text["patch_boxes"].any()
    both = finetuning.modality_inputs(bank, rows, "both")
    assert (both["token_ids"] == bank.token_ids[rows]).all() and both["patch_features"].any()


@pytest.mark.parametrize("labels", [[], ["colour"]])
def test_a_bank_without_subcategories_draws_from_the_whole_split(bank, labels):
    bare = copy.copy(bank)
    bare.index = bank.index | {"labels": labels}
    assert "no label 'subcategory'" in bare.lack_of_subcategories("subcategory") and not bank.lack_of_subcategories("subcategory")
    one, other = (make(each, negative_share=1.0, negatives_same_subcategory=share) for each, share in ((bare, 1.0), (bank, 0.0)))
    rows, rng = np.arange(40), [np.random.default_rng(3) for _ in range(2)]
    drawn = one.draw(bank.rows("train")[rows], rng[0]).text_rows
    assert (drawn == other.draw(bank.rows("train")[rows], rng[1]).text_rows).mean() > 0.5  # the order of the split differs for ties alone
    assert (bank.column("subcategory")[drawn] != bank.column("subcategory")[bank.rows("train")[rows]]).any()
    matching = finetuning.MatchSampler(bare, bank.rows("train"), "subcategory", Matching(negatives=3), 8, 0)
    assert matching.batch(0)[1]["itm"].sum() == 8


def test_a_subcategory_that_is_named_must_exist(bank):
    with pytest.raises(UserError, match="has no label 'brand'.*category"):
        make(bank, subcategory="brand")


def test_matching_lists_hold_one_right_pair_each_and_vary_either_side(bank):
    matching = finetuning.MatchSampler(bank, bank.rows("train"), "subcategory", Matching(negatives=3), 8, 0)
    inputs, targets, _ = matching.batch(0)
    assert targets["itm"].reshape(8, 4).tolist() == [[1, 0, 0, 0]] * 8
    tokens, boxes = inputs["token_ids"].reshape(8, 4, -1), inputs["patch_features"].reshape(8, 4, -1)
    for i in range(8):
        same_text, same_picture = (tokens[i] == tokens[i, :1]).all(), (boxes[i] == boxes[i, :1]).all()
        assert (same_text, same_picture) == ((False, True) if i % 2 == 0 else (True, False))


def test_labels_come_from_training(bank):
    labels, names = finetuning.label_ids(bank, "subcategory", bank.rows("train"))
    assert names == ["clutch", "shirt", "tote", "vest"] and (labels >= 0).all()
    only = bank.rows("train")[bank.column("subcategory")[bank.rows("train")] != "vest"]
    assert (finetuning.label_ids(bank, "subcategory", only)[0] == -1).any()
    with pytest.raises(UserError, match="has no label 'brand'.*category"):
        finetuning.label_ids(bank, "brand", only)
    with pytest.raises(UserError, match="1 class"):
        finetuning.label_ids(bank, "subcategory", only[bank.column("subcategory")[only] == "tote"])
