"""AAG: maps to strengths by hand and by counting fine cells, which patches are kept, what is a content word."""

import numpy as np
import pytest

from kaleidobert import levels as kaleido
from kaleidobert.errors import UserError
from kaleidobert.levels import KALEIDO
from kaleidobert.preprocessors import alignment_generator, patch_generator
from tests.support.tables import TABLES

WHOLE = np.array([[0, 1, 0, 1]], np.float32)


def boxes(levels, box=(0, 0, 1000, 1000)):
    return patch_generator.boxes(box, 1000, 1000, levels)[None]


def spot(grid, row, column):
    """A map with one bright cell."""
    found = np.zeros((1, 1, grid, grid), np.float32)
    found[..., row, column] = 1
    return found


def align(maps, words=(-1, 0, 0, -1), has_map=None, levels=KALEIDO, **changes):
    options = {"boxes": boxes(levels), "frames": WHOLE, "levels": levels} | changes
    words = np.array([words], np.int16)
    return alignment_generator.align(words, maps, np.ones(maps.shape[:2], bool) if has_map is None else has_map, **options)[0]


def test_content():
    words = ["Navy", "the", "with", "top", "back", "V-neck", "2", "100%", "x", "-", "", "3d", "袋", "côte", "and/or"]
    expected = [True, False, False, True, True, True, False, False, False, False, False, True, True, True, True]
    assert alignment_generator.content(words).tolist() == expected
    assert alignment_generator.content([]).shape == (0,) and alignment_generator.content([]).dtype == bool


@pytest.mark.parametrize("levels", TABLES.values(), ids=TABLES)
def test_a_bright_cell_links_to_the_patches_under_it(levels):
    grid = 60  # so fine that the region is a point in every level
    for row, column in ((2, 3), (31, 58), (13, 40)):
        strengths = align(spot(grid, row, column), levels=levels)
        for level, part in zip(levels, kaleido.patch_slices(levels).values()):
            found = np.flatnonzero(strengths[1, part])
            if not level.num_masked:
                assert not len(found)
            else:
                place = int((row + 0.5) / grid * level.grid) * level.grid + int((column + 0.5) / grid * level.grid)
                assert place in found and strengths[1, part].argmax() == place and len(found) <= 2
                assert len(found) > 1 or strengths[1, part].max() > 0.6
    assert not strengths[[0, 3]].any() and (strengths[1] == strengths[2]).all() and strengths.dtype == np.float16


def test_strengths_are_shares_of_the_region_by_exact_areas():
    """Against counting: the picture in 840 x 840 points, each in one fine cell and in one patch of a level."""
    rng = np.random.default_rng(0)
    maps = rng.random((1, 1, 5, 5)).astype(np.float32) ** 3
    frame, box = np.array([[0.1, 0.8, 0.2, 0.9]], np.float32), (120, 50, 930, 870)
    found = align(maps, boxes=boxes(KALEIDO, box), frames=frame, top_k=99, relative_threshold=0, threshold=0.4)[1].astype(float)
    fine = alignment_generator.refine(maps)[0, 0]
    points = (np.arange(2000) + 0.5) / 2000
    cells = len(fine)
    rows, columns = (np.floor((points - low) / (high - low) * cells).astype(int) for low, high in ((0.2, 0.9), (0.1, 0.8)))
    attention = np.where(fine >= 0.4 * fine.max(), fine, 0)
    share = attention[rows.clip(0, cells - 1)][:, columns.clip(0, cells - 1)]
    share *= ((rows >= 0) & (rows < cells))[:, None] & ((columns >= 0) & (columns < cells))
    for place, (x1, x2, y1, y2, _) in enumerate(boxes(KALEIDO, box)[0]):
        inside = ((points >= y1) & (points < y2))[:, None] & ((points >= x1) & (points < x2))
        expected = share[inside].sum() / share.sum() if place >= 5 else 0
        assert found[place] == pytest.approx(expected, abs=2e-3)


def test_refine_keeps_cells_and_goes_straight_between_them():
    ramp = np.broadcast_to(np.arange(4.0), (4, 4))[None]
    fine = alignment_generator.refine(ramp)
    assert fine.shape == (1, 16, 16)
    np.testing.assert_allclose(fine[0, 7], np.clip((np.arange(16) + 0.5) / 4 - 0.5, 0, 3), atol=1e-6)
    np.testing.assert_allclose(alignment_generator.refine(np.full((2, 3, 3), 0.7)), 0.7, rtol=1e-6)
    assert alignment_generator.refine(np.array([[[0.3]]])).tolist() == [[[pytest.approx(0.3)] * 4] * 4]


def test_most_and_share_decide_how_many_are_kept():
    flat = np.ones((1, 1, 7, 7), np.float32)
    for most in (1, 2, 5):
        kept = align(flat, top_k=most)[1] > 0
        assert [kept[part].sum() for part in kaleido.patch_slices(KALEIDO).values()] == [0, 0, most, most, most]
    equal = boxes(KALEIDO, (0, 0, 600, 600))  # sides that can be divided by 3, 4 and 5
    assert align(flat, boxes=equal)[1].nonzero()[0].tolist() == [5, 6, 14, 15, 30, 31]  # the first, whatever rounding does
    corner = align(spot(7, 0, 0), top_k=9)[1, 30:]  # the cell of 1/7 lies in a patch of 1/5
    assert corner.nonzero()[0].tolist() == [0]
    assert align(spot(7, 0, 0), top_k=9, relative_threshold=0.0, threshold=0.1)[1, 30:].nonzero()[0].tolist() == [
        0,
        1,
        5,
    ]  # and the interpolated rim


def test_words_without_a_map_and_beyond_the_maps_have_no_links():
    maps = np.concatenate([spot(7, 3, 3), np.full((1, 1, 7, 7), np.nan, np.float32), np.zeros((1, 1, 7, 7), np.float32)], 1)
    strengths = align(maps, (0, 1, 2, 3, -1), np.array([[True, False, True]]))
    assert (strengths > 0).any(1).tolist() == [True, False, False, False, False]
    assert not align(np.zeros((1, 0, 7, 7), np.float32)).any()
    assert alignment_generator.align(np.zeros((0, 4), np.int16), np.zeros((0, 2, 7, 7), np.float32), np.zeros((0, 2), bool),
                           boxes=np.zeros((0, 55, 5), np.float32), frames=np.zeros((0, 4), np.float32), levels=KALEIDO).shape == (0, 4, 55)


def test_a_region_beside_the_product_links_to_nothing():
    away = {"boxes": boxes(KALEIDO, (500, 500, 1000, 1000))}
    assert not align(spot(7, 0, 0), **away).any() and align(spot(7, 6, 6), **away).any()
    frame = np.array([[0.5, 1, 0.5, 1]], np.float32)  # the same map over the product's own part of the picture
    assert align(spot(7, 0, 0), frames=frame, **away)[1, 5:14].argmax() == 0


def test_every_row_of_a_batch_is_on_its_own():
    rng = np.random.default_rng(1)
    maps, words = rng.random((3, 4, 7, 7)).astype(np.float32), rng.integers(-1, 5, (3, 9)).astype(np.int16)
    places = np.concatenate([boxes(KALEIDO, box) for box in ((0, 0, 1000, 1000), (100, 20, 700, 900), (400, 400, 600, 500))])
    frames = np.array([[0, 1, 0, 1], [0, 1, 0.1, 0.9], [0.2, 0.8, 0, 1]], np.float32)
    has_map = rng.random((3, 4)) < 0.7
    together = alignment_generator.align(words, maps, has_map, boxes=places, frames=frames, levels=KALEIDO)
    for b in range(3):
        one = slice(b, b + 1)
        alone = alignment_generator.align(words[one], maps[one], has_map[one], boxes=places[one], frames=frames[one], levels=KALEIDO)
        np.testing.assert_allclose(together[one], alone, rtol=2e-3)


@pytest.mark.parametrize("changes, message", [
    ({"boxes": np.zeros((1, 54, 5), np.float32)}, r"boxes has shape \[1, 54, 5\].*\[1, 55, 5\]"),
    ({"frames": np.zeros((2, 4), np.float32)}, r"frames has shape \[2, 4\]"),
    ({"frames": np.array([[0.5, 0.5, 0, 1]], np.float32)}, "a frame is empty"),
    ({"has_map": np.ones((1, 2), bool)}, "has_map has shape"),
    ({"maps": np.ones((1, 1, 7, 6), np.float32)}, r"maps has shape \[1, 1, 7, 6\]"),
    ({"maps": np.full((1, 1, 7, 7), np.nan, np.float32)}, "negative or infinite"),
    ({"maps": np.full((1, 1, 7, 7), -1, np.float32)}, "negative or infinite"),
])
def test_refusals(changes, message):
    options = {"maps": np.ones((1, 1, 7, 7), np.float32)} | changes
    with pytest.raises(UserError, match=message):
        align(**options)


def test_evidence_of_patches_makes_maps_of_words():
    grids, side = (2, 5), alignment_generator.MAP_SIDE
    evidence = np.zeros((29, 3), np.float32)
    evidence[4 + 7, 0] = evidence[0, 0] = 6  # patch 7 of 5 x 5 and the upper left of 2 x 2, where it lies
    evidence[4 + 24, 1] = 6
    words = [[0], [], [1], [0, 1]]
    maps, known = alignment_generator.evidence_maps(evidence, words, grids)
    assert known.tolist() == [True, False, True, True] and not maps[1].any()
    np.testing.assert_allclose(maps[known].sum(1), 1, atol=1e-5)
    row, column = np.divmod(maps.argmax(1), side)
    assert (row[0], column[0]) in {(int(1.5 / 5 * side), int(2.5 / 5 * side)), (int(1.5 / 5 * side), int(2.5 / 5 * side) - 1)}
    assert row[2] >= 0.8 * side and column[2] >= 0.8 * side
    for word in (0, 2):  # a word of two terms is seen where either is
        assert maps[3, maps[word].argmax()] > np.quantile(maps[3], 0.9)
    loud = evidence + np.arange(29, dtype=np.float32)[:, None]  # what a patch says of all terms alike says nothing
    np.testing.assert_allclose(alignment_generator.evidence_maps(loud, words, grids)[0], maps, rtol=1e-3, atol=1e-5)
    nothing, none = alignment_generator.evidence_maps(evidence[:, :0], [[], []], grids)
    assert not nothing.any() and not none.any()
