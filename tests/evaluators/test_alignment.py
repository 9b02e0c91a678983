"""Pointing game, patch hits, their priors and intervals, and the statistics of an alignment, on cases worked out by hand."""

import json

import numpy as np
import pytest

from kaleidobert import levels as kaleido
from kaleidobert.errors import UserError
from kaleidobert.evaluators import alignment
from kaleidobert.levels import KALEIDO
from kaleidobert.preprocessors import patch_generator
from tests.support.tables import TABLES


def rng(seed=0):
    return np.random.Generator(np.random.Philox(seed))


def line(*parts, box=(100, 200, 300, 600)):
    return {"box": list(box), "parts": [{"word": word, "box": list(place)} for word, place in parts]}


def boxes(*frames, levels=KALEIDO):
    return np.stack([patch_generator.boxes(frame, 1000, 1000, levels) for frame in frames])


def whole(*parts, levels=KALEIDO, words=None):
    """Sightings in pictures that are all foreground, one per part (x1, y1, x2, y2 in thousandths)."""
    table = [line(("part" if words is None else words[i], part), box=(0, 0, 1000, 1000)) for i, part in enumerate(parts)]
    return alignment.sightings(range(len(parts)), table, boxes(*[(0, 0, 1000, 1000)] * len(parts), levels=levels))


def links(found, levels=KALEIDO, **chosen):
    """[N, P] with the patches of each level linked for every sighting."""
    strengths = np.zeros((len(found.words), kaleido.num_patches(levels)))
    for name, places in chosen.items():
        strengths[:, kaleido.patch_slices(levels)[name].start + np.array(places)] = 0.5
    return strengths


def test_sightings_are_words_with_all_their_boxes_in_shares_of_the_picture():
    table = [line(("Sleeves", (120, 300, 140, 400)), ("hem", (100, 590, 300, 600)), ("sleeves", (260, 300, 280, 400))), line(),
             line(("hem", (0, 0, 50, 50)), box=(0, 0, 500, 500))]
    found = alignment.sightings([0, 1, 2], table, boxes((100, 200, 300, 600), (0, 0, 9, 9), (0, 0, 500, 500)))
    assert found.rows.tolist() == [0, 0, 2] and found.words.tolist() == ["sleeves", "hem", "hem"]
    np.testing.assert_allclose(found.boxes[0], [[0.12, 0.14, 0.3, 0.4], [0.26, 0.28, 0.3, 0.4]], atol=1e-6)
    np.testing.assert_allclose(found.boxes[2, 0], [0, 0.05, 0, 0.05], atol=1e-6)
    assert np.isnan(found.boxes[1:, 1]).all() and found.patches.shape == (3, 55, 5)
    np.testing.assert_allclose(found.frames, [[0.1, 0.3, 0.2, 0.6]] * 2 + [[0, 0.5, 0, 0.5]], atol=1e-6)
    with pytest.raises(UserError, match="no picture has described parts"):
        alignment.sightings([1], table, boxes(*[(0, 0, 9, 9)] * 3))


def test_peaks_are_centres_of_the_highest_cell():
    maps = np.zeros((3, 4, 4))
    maps[0, 1, 2], maps[1, 3, 0], maps[2] = 1, 1, np.nan
    frames = np.array([[0, 1, 0, 1], [0.2, 0.6, 0.5, 0.9], [0, 1, 0, 1]])
    np.testing.assert_allclose(alignment.peaks(maps, frames), [[0.625, 0.375], [0.25, 0.85], [np.nan, np.nan]])


@pytest.mark.parametrize("levels", TABLES.values(), ids=TABLES)
def test_a_patch_hits_by_its_centre_or_by_the_box_s(levels):
    found = whole((0, 0, 500, 1000), (10, 10, 20, 20), (600, 600, 990, 990), levels=levels)
    hits = alignment.patch_hits(found)
    for level, part in zip(levels, kaleido.patch_slices(levels).values()):
        n = level.grid
        square = hits[:, part].reshape(3, n, n)
        centres = (np.arange(n) + 0.5) / n
        assert (square[0][:, centres < 0.499]).all() and not square[0][:, centres > 0.51].any() or n == 1
        assert square[1, 0, 0] and square[1].sum() == 1  # smaller than a patch: the one that it lies in
        expected = np.outer(centres > 0.6, centres > 0.6)
        expected[int(0.795 * n), int(0.795 * n)] = True
        assert (square[2] == expected).all()


def test_pointing_and_its_chance_levels():
    test = whole((0, 0, 500, 1000), (250, 250, 750, 750), (900, 900, 1000, 1000), words=["left", "mid", "corner"])
    train = whole((0, 0, 500, 1000), (0, 0, 200, 1000), (880, 890, 960, 960), words=["left", "left", "corner"])
    peaks = np.array([[0.49, 0.9], [0.2, 0.5], [0.95, 0.91]])
    pointing = alignment.scores(test, train, peaks, links(test), KALEIDO)["pointing"]
    assert pointing["alignment"].tolist() == [1, 0, 1] and pointing["centre"].tolist() == [0, 1, 0]
    np.testing.assert_allclose(pointing["chance"], [0.5, 0.25, 0.01], atol=0.02)
    # left: left of .2, in both training boxes; mid was never seen: the centre; corner: a part of the training box is outside
    assert pointing["best_position"][:2].tolist() == [1, 1] and 0.4 < pointing["best_position"][2] < 1


def test_points_are_compared_within_the_frame():
    """A part that fills a quarter of the foreground is a quarter for chance, wherever the foreground lies."""
    found = alignment.sightings([0], [line(("part", (200, 200, 300, 400)))], boxes((100, 200, 300, 600)))
    pointing = alignment.scores(found, found, np.array([[0.25, 0.3]]), links(found), KALEIDO)["pointing"]
    assert pointing["chance"][0] == pytest.approx(0.25, abs=0.01) and pointing["alignment"][0] == 1


def test_patch_hits_of_links_beside_chance_centre_and_place():
    test = whole((0, 0, 350, 350), (0, 0, 350, 350), words=["a", "b"])  # patch 0 of 3 x 3, 0 of 4 x 4 ...
    train = whole((0, 0, 350, 350), (650, 0, 1000, 350), (660, 0, 1000, 350), words=["a", "b", "b"])
    result = alignment.scores(test, train, np.zeros((2, 2)), links(test, camouflage=[0, 8], grey=[15]), KALEIDO)
    assert set(result) == {"pointing", "camouflage", "grey", "blank"}
    level = result["camouflage"]
    assert level["alignment"].tolist() == [0.5, 0.5] and level["chance"].tolist() == [1 / 9] * 2
    assert level["centre"].tolist() == [0, 0] and level["best_position"].tolist() == [1, 0]
    assert result["grey"]["alignment"].tolist() == [0, 0] and result["blank"]["alignment"].tolist() == [0, 0]  # nothing linked: no hit
    middle = whole((400, 400, 600, 600))
    result = alignment.scores(middle, test, np.zeros((1, 2)), links(middle), KALEIDO)
    assert result["camouflage"]["centre"] == [1] and result["blank"]["centre"] == [1]
    # four patches are equally near to the centre; the box's own centre lies in one of them, theirs in none
    assert result["grey"]["centre"] == [0.25] and result["grey"]["best_position"] == [0.25]


def test_controls_are_scored_like_the_alignment_and_show_what_looking_brings():
    test, peaks = whole((0, 0, 350, 350), (0, 0, 350, 350)), np.array([[0.2, 0.2], [0.2, 0.2]])
    own, other = links(test, camouflage=[0]), links(test, camouflage=[8])
    controls = {"position_alone": (np.array([[0.2, 0.2], [0.9, 0.9]]), other), "other_word": (peaks, own)}
    result = alignment.scores(test, test, peaks, own, KALEIDO, controls)
    assert result["pointing"]["position_alone"].tolist() == [1, 0] and result["pointing"][alignment.LOOK].tolist() == [0, 1]
    assert result["camouflage"]["other_word"].tolist() == result["camouflage"]["alignment"].tolist() == [1, 1]
    assert result["camouflage"][alignment.LOOK].tolist() == [1, 1]
    assert set(alignment.scores(test, test, peaks, own, KALEIDO)["grey"]) == set(alignment.METHODS)


def test_the_summary_is_a_mean_over_words_with_intervals_over_pictures():
    found = whole(*[(0, 0, 500, 500)] * 40, words=["often"] * 36 + ["seldom"] * 4)
    values = np.array([1.0] * 18 + [0.0] * 18 + [1, 0, 0, 0])
    result = alignment.summary({"pointing": {"alignment": values, "chance": 0 * values + 0.2}}, found, rng())["pointing"]
    assert result["alignment"]["value"] == pytest.approx((0.5 + 0.25) / 2) and result["chance"]["value"] == pytest.approx(0.2)
    assert result["alignment"]["low"] < 0.3 and result["alignment"]["high"] > 0.5 and result["chance"]["low"] == pytest.approx(0.2)
    pooled = result["alignment"]["sightings"]
    assert pooled["value"] == pytest.approx(19 / 40) and 0.25 < pooled["low"] < 0.4 < 0.55 < pooled["high"] < 0.7
    assert result["words"]["seldom"] == {"count": 4, "alignment": 0.25, "chance": pytest.approx(0.2)}
    # ten sightings in one picture say no more than one
    together = alignment.Sightings(np.repeat(np.arange(4), 10), np.full(40, "w"), found.boxes, found.frames, found.patches)
    values = np.repeat([1.0, 1, 0, 0], 10)
    wide = alignment.summary({"p": {"alignment": values}}, together, rng())["p"]["alignment"]
    assert wide["low"] == 0 and wide["high"] == 1
    json.dumps(result)


@pytest.mark.parametrize("levels", TABLES.values(), ids=TABLES)
def test_chance_is_what_random_answers_get(levels):
    draw = rng(3)
    corners = draw.integers(0, 600, (300, 2))
    found = whole(*[(x, y, x + 300, y + 200) for x, y in corners.tolist()], levels=levels)
    strengths = (draw.random((300, kaleido.num_patches(levels))) < 0.5) * 1.0
    result = alignment.scores(found, found, draw.random((300, 2)), strengths, levels)
    for by_method in result.values():
        assert by_method["alignment"].mean() == pytest.approx(by_method["chance"].mean(), abs=0.06)


def test_statistics_by_hand():
    words = [["red", "shoes", "with", "laces"], ["red", "shirt"], []]
    token_words = np.array([[-1, 0, 1, 1, 2, 3, -1], [-1, 0, 1, -1, -1, -1, -1], [-1, -1, -1, -1, -1, -1, -1]], np.int16)
    strengths = np.zeros((3, 7, 55), np.float16)
    strengths[0, [2, 3]] = np.eye(55)[7] + np.eye(55)[30] + np.eye(55)[31]
    strengths[0, 1, 7] = 0.5
    found = alignment.statistics(strengths, token_words, words, KALEIDO, min_count=1, counted=lambda words: [w != "with" for w in words])
    assert (found["tokens"], found["words"], found["rows"]) == (7, 6, 3)
    shares = [found[f"aligned_{name}_share"] for name in ("tokens", "words", "rows")]
    assert shares == pytest.approx([3 / 7, 2 / 6, 1 / 3])
    assert found["patches_per_word"] == {"camouflage": [0, 2], "grey": [2], "blank": [1, 0, 1]}
    assert found["patch_use"]["camouflage"] == [0, 0, 1, 0, 0, 0, 0, 0, 0] and sum(found["patch_use"]["blank"]) == 1
    assert found["most"] == [["shoes", 1, 1.0], ["red", 2, 0.5], ["laces", 1, 0.0], ["shirt", 1, 0.0]]
    assert [word for word, *_ in found["least"]] == ["shirt", "laces", "red", "shoes"]
    assert [word for word, *_ in alignment.statistics(strengths, token_words, words, KALEIDO, min_count=2)["most"]] == ["red"]
    json.dumps(found)


def test_statistics_of_nothing(monkeypatch):
    monkeypatch.setattr(alignment, "BLOCK", 2)
    found = alignment.statistics(np.zeros((5, 4, 55), np.float16), np.full((5, 4), -1, np.int16), [[]] * 5, KALEIDO)
    assert found["aligned_tokens_share"] == 0 and found["most"] == [] and found["rows"] == 5
