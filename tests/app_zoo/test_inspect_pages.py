"""The pages of ``kaleidobert inspect``: what they say and show against what the sampler did."""

import numpy as np
import pytest
from markupsafe import escape

from kaleidobert import levels as kaleido
from kaleidobert.app_zoo.inspect import content, pages, pictures
from kaleidobert.datasets.sampling.pretraining import generator
from kaleidobert.evaluators import pretraining
from kaleidobert.levels import KALEIDO, PRETEXTS, KaleidoLevel
from kaleidobert.preprocessors.pretexts import SPOILING
from tests.support.inspect_data import World
from tests.support.tables import TABLES

pytestmark = pytest.mark.eager


@pytest.fixture(scope="module", params=TABLES)
def world(request, tmp_path_factory):
    return World(tmp_path_factory.mktemp(request.param), TABLES[request.param])


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    return World(tmp_path_factory.mktemp("errors"), KALEIDO)


def answers(right: bool):
    """A model that knows every answer, or that takes a wrong one each time."""

    def outputs(draw, targets):
        def logits(target, classes):
            return 9 * np.eye(classes, dtype=np.float32)[target if right else (target + 1) % classes]

        made = {"mlm": logits(targets["mlm"], 200), "itm": logits(targets["itm"], 2)}
        for name, target in targets.items():
            if name not in made:
                spoiled = draw.spoiled[name]
                classes = {1: 4, 4: 24, 9: 9}.get(spoiled.vectors.shape[1], 0) if spoiled.answer is not None else 0
                made[name] = logits(target, classes) if classes else (
                    target.astype(np.float32) if right else -5 * target.astype(np.float32))
        return made

    return outputs


def test_pixels_shown_are_the_ones_whose_features_the_model_reads(world):
    """The pages cut the patches again: encoded, they must be what the sampler takes out of the bank."""
    sampler = world.sampler()
    for row in range(6):
        draw = sampler.draw(np.array([row]), generator(3, 2, row))
        features = sampler.assemble(draw)[0]["patch_features"][0].astype(np.float32)
        donor = world.photo(int(draw.donors[0]))
        for level, part in zip(world.levels, kaleido.patch_slices(world.levels).values()):
            spoiled = draw.spoiled[level.name]
            shown = content.cells(level, spoiled, world.photo(row), donor, 8).reshape(level.num_patches, -1) / 255.0
            expected, blank = features[part], spoiled.zeroed[0]
            assert not expected[blank].any()
            np.testing.assert_allclose(shown[~blank], expected[~blank], atol=1e-3)


def test_pages_of_a_bank_whose_turned_patches_are_square(tmp_path):
    levels = (KaleidoLevel("rotation", 1, "none"), *TABLES["kaleido"][1:])  # a run that asks nothing of them sees them no less
    for shown in (TABLES["kaleido"], levels):
        square = World(tmp_path / shown[0].pretext, TABLES["kaleido"], turned="square")
        square.bank, square.levels = square.bank.require(shown, ""), shown
        test_pixels_shown_are_the_ones_whose_features_the_model_reads(square)
        card = square.page(3)[0].levels[0]
        assert {one.image.width == one.image.height for one in card.figures} == {True}
    assert not card.answer and card.correct is None and card.question == "Nothing is to be predicted."
    page = square.page(3)[0]
    assert [one.name for one in page.target_levels] == [level.name for level in levels[1:]]
    text = pages.page(page, ())
    assert text.count("Truth:") == 5 and "Nothing is to be predicted." in text  # text and picture, four levels
    index = pages.index([pages.thumbnail(square.page(3, answers(True))[0])], ())
    assert "<th>jigsaw</th>" in index and "<th>rotation</th>" not in index


@pytest.mark.parametrize("table", ["kaleido", "two"])
@pytest.mark.parametrize("right", [True, False])
def test_answers_are_compared_with_the_truth(tmp_path, table, right):
    world = World(tmp_path, TABLES[table])
    page, draw, _ = world.page(3, answers(right), mask_rate=0.9)
    assert page.target_tokens and all(token.correct is right for token in page.target_tokens)
    assert [card.correct for card in (page.match, *page.levels)] == [right] * (1 + len(world.levels))
    for card in (page.match, *page.levels):
        assert sum(one.correct for one in card.predictions) == (0 if card.divergences else 1)
        assert all(("✓" if right else "✗") in text for text in (card.verdict, pages.page(page, ())))
    for card, level in zip(page.levels, world.levels):
        assert len(card.divergences) == (level.num_masked if level.answer == "feature" else 0)
        assert all((one.predicted < 1e-9) == right for one in card.divergences)
        places = [f"patch {patch + 1}" for patch in draw.masks.patches.get(level.name, np.zeros((1, 0)))[0]]
        assert not card.divergences or [one.name for one in card.divergences] == places


def test_kl_without_looking_is_that_of_the_evaluators(five):
    page, _, targets = five.page(4, answers(False))
    uniform = np.full(five.bank.feature_size, 1 / five.bank.feature_size)
    for card, level in zip(page.levels, five.levels):
        if card.divergences:
            total, count = pretraining.constant_kl(uniform, targets[level.name], np.ones(1))
            assert sum(one.constant for one in card.divergences) / count == pytest.approx(total / count)


def test_tokens_are_the_text_without_padding(five):
    tokenizer = five.bank.tokenizer()
    for row in range(8):
        page, draw, _ = five.page(row, negative_share=0, mask_rate=0.5)
        ids = five.bank.token_ids[row]
        truth = tokenizer.pieces(ids[ids != five.bank.vocabulary.pad].tolist())
        assert [token.truth if token in page.target_tokens else token.text for token in page.tokens] == truth
        assert [token.state for token in page.tokens].count("special") == 2
        assert [token.position - 1 for token in page.target_tokens] == draw.masks.tokens[0][draw.masks.token_weights[0] > 0].tolist()
        for token in page.target_tokens:
            assert (token.state == "masked") == (token.text == "[MASK]") and (token.state == "kept") == (token.text == token.truth)


def test_another_products_text_is_named(five):
    own, draw, _ = five.page(3, negative_share=0)
    assert not own.negative and own.match.answer.startswith("yes")
    other, draw, _ = five.page(3, negative_share=1)
    row = five.bank.table[draw.text_rows[0]]
    assert other.negative == row["text"] != other.text and f"no, it is that of {row['image_id']}" in other.match.answer
    assert escape(row["text"]) in pages.page(other, ())


def test_truth_of_each_pretext_in_words(five):
    page, draw, _ = five.page(5)
    rotation, jigsaw, camouflage, grey, blank = page.levels
    turns = int(draw.spoiled["rotation"].answer[0])
    assert (f"by {90 * turns}° to the left" if turns else "not at all") in rotation.answer
    assert " ".join(str(patch + 1) for patch in draw.spoiled["jigsaw"].vectors[0]) in jigsaw.answer
    assert f"patch {draw.masks.patches['camouflage'][0, 0] + 1} " in camouflage.answer
    donor = five.bank.table[draw.donors[0]]["image_id"]
    lent = draw.spoiled["camouflage"].vectors[0][draw.spoiled["camouflage"].from_donor[0]][0]
    assert camouflage.figures[2].caption == f"patch {lent + 1} of {donor}"
    for card in (grey, blank):
        assert ", ".join(str(patch + 1) for patch in draw.masks.patches[card.name][0]) in card.answer
    assert all(pretext.question for pretext in PRETEXTS.values())
    of_classes = [KaleidoLevel(name, 2, name, num_masked=int(name == "camouflage"))
                  for name, row in PRETEXTS.items() if row.answer == "class"]
    assert len(of_classes) == 3 and all("class" not in SPOILING[level.name].class_name(level, 0) for level in of_classes)


@pytest.mark.parametrize("aspect", [0.01, 0.5, 1, 3, 50])
def test_grids_keep_within_their_size(aspect):
    for grid in (1, 2, 5, 9):
        cell = pictures.cell_size(grid, aspect)
        black = np.zeros((grid * grid, 4, 4, 3), np.uint8)
        picture = pictures.patch_grid(black, grid, cell, marked=[0], blank=[0], names={0: "1"})
        assert max(picture.size) <= pictures.SIDE + grid and min(picture.size) >= 4 * grid
        assert (cell[0] - cell[1]) * (aspect - 1) >= 0


def test_words_of_parts_do_not_cover_each_other_and_stay_inside():
    parts = [{"word": f"part {number}", "box": [5, 5, 35, 40]} for number in range(4)]
    shown = np.asarray(pictures.described_parts(np.full((52, 40, 3), 255, np.uint8), parts)).astype(int)
    for colour in pictures.PART_COLOURS[:4]:  # every word's ground is there to be seen
        rgb = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)])
        assert (np.abs(shown - rgb).sum(2) < 6).sum() > 300
