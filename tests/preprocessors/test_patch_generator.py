"""Foreground, exact tiling, boxes, views and features."""

import numpy as np
import pytest

from kaleidobert import levels as kaleido
from kaleidobert.errors import UserError
from kaleidobert.levels import KALEIDO
from kaleidobert.preprocessors import features, foreground, pretexts
from kaleidobert.preprocessors import patch_generator as patches
from tests.support.tables import TABLES


def scene(height=60, width=80, box=(20, 10, 50, 40), colour=(200, 30, 40), background=(250, 250, 250)):
    image = np.full((height, width, 3), background, np.uint8)
    image[box[1]:box[3], box[0]:box[2]] = colour
    return image


def test_the_border_mask_finds_the_product_and_its_holes_stay_closed():
    image = scene()
    image[20:25, 30:35] = 250  # a white print in the middle: not reached from the border
    mask = foreground.border_mask(image)
    truth = np.zeros(mask.shape, bool)
    truth[10:40, 20:50] = True
    assert (mask == truth).all()


def test_specks_are_removed_and_pairs_are_kept():
    image = scene(box=(5, 10, 30, 40))
    image[15:38, 50:75] = (20, 30, 120)
    image[2, 2] = 0
    found = foreground.find(image, foreground.border_mask, margin=0)
    assert found.box == (5, 10, 75, 40) and not found.fallback


def test_noise_of_jpeg_is_no_foreground():
    rng = np.random.default_rng(0)
    noisy = np.clip(scene().astype(int) + rng.integers(-6, 7, (60, 80, 3)), 0, 255).astype(np.uint8)
    assert foreground.find(noisy, foreground.border_mask, margin=0).box == (20, 10, 50, 40)


@pytest.mark.parametrize("image", [np.full((30, 40, 3), 255, np.uint8),
                                   np.random.default_rng(0).integers(0, 255, (30, 40, 3)).astype(np.uint8)], ids=["empty", "no plain edge"])
def test_a_picture_without_a_foreground_falls_back_and_says_so(image):
    found = foreground.find(image, foreground.border_mask)
    assert found.box == (0, 0, 40, 30) and found.fallback == "no foreground found" and found.mask.all()


def test_no_segmentation_takes_the_whole_picture_without_a_complaint():
    found = foreground.find(scene(), None)
    assert found.box == (0, 0, 80, 60) and not found.fallback


def test_the_margin_stays_inside_the_picture():
    mask = np.zeros((50, 60), bool)
    mask[0:10, 40:60] = True
    assert foreground.bounding_box(mask, 0.1) == (38, 0, 60, 12)


@pytest.mark.parametrize("box", [(0, 0, 55, 47), (3, 5, 8, 10), (7, 1, 20, 33)])
@pytest.mark.parametrize("grid", [1, 2, 3, 4, 5])
def test_every_pixel_of_the_box_belongs_to_exactly_one_patch(box, grid):
    count = np.zeros((60, 60), int)
    for x1, y1, x2, y2 in patches.tiles(box, grid):
        assert x2 > x1 and y2 > y1
        count[y1:y2, x1:x2] += 1
    inside = np.zeros((60, 60), int)
    inside[box[1]:box[3], box[0]:box[2]] = 1
    assert (count == inside).all()


def test_a_box_that_is_too_small_grows_and_a_picture_that_is_too_small_is_refused():
    assert patches.enlarge((28, 29, 30, 30), 30, 30, KALEIDO) == (25, 25, 30, 30)
    with pytest.raises(UserError, match="4 x 30 pixels.*at least 5 x 5"):
        patches.enlarge((0, 0, 4, 30), 4, 30, KALEIDO)


@pytest.mark.parametrize("levels", TABLES.values(), ids=TABLES)
def test_boxes_are_shares_of_the_picture_and_areas_add_up(levels):
    boxes = patches.boxes((20, 10, 50, 40), 80, 60, levels)
    assert boxes.shape == (kaleido.num_patches(levels), 5) and boxes.dtype == np.float32
    np.testing.assert_allclose(boxes[:, 4], (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2]), rtol=1e-5)
    for part in kaleido.patch_slices(levels).values():
        np.testing.assert_allclose(boxes[part, 4].sum(), 30 * 30 / (80 * 60), rtol=1e-5)
        assert boxes[part, 0].min() == np.float32(20 / 80) and boxes[part, 3].max() == np.float32(40 / 60)


def test_a_patch_sees_no_pixel_of_its_neighbours():
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, 20:] = 255
    left, right = patches.cut(image, (0, 0, 40, 40), KALEIDO, 8)["jigsaw"][:2]
    assert left.max() == 0 and right.min() == 255


@pytest.mark.parametrize("levels", TABLES.values(), ids=TABLES)
def test_views_come_in_the_order_of_the_stored_vectors(levels):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 255, (37, 41, 3)).astype(np.uint8)
    cut = features.cut(image, foreground.find(image, None), levels, 6)
    assert len(cut.views) == kaleido.num_vectors(levels) and {view.shape for view in cut.views} == {(6, 6, 3)}
    pieces = patches.cut(image, (0, 0, 41, 37), levels, 6)
    for level in levels:
        part = np.stack(cut.views)[kaleido.vector_slices(levels)[level.name]].reshape(level.num_views, level.num_patches, 6, 6, 3)
        assert (part[0] == pieces[level.name]).all()
        if level.pretext == "rotate":
            for k in range(4):
                assert (part[k][0] == np.rot90(pieces[level.name][0], k)).all()
        if level.pretext == "grey":
            assert (part[1] == part[1][..., :1]).all() and (part[1][..., 0] == pretexts.grey(pieces[level.name])[..., 0]).all()


def test_grey_is_luminance():
    assert pretexts.grey(np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8))[:, 0].tolist() == [76, 150, 29]


def random_cuts(count: int, levels=KALEIDO, size: int = 4) -> list[features.Cut]:
    rng = np.random.default_rng(2)
    pictures = [rng.integers(0, 255, (20, 20, 3)).astype(np.uint8) for _ in range(count)]
    return [features.cut(picture, foreground.Foreground(None, (0, 0, 20, 20)), levels, size) for picture in pictures]


def pixels(patches: np.ndarray) -> np.ndarray:
    return patches.reshape(len(patches), -1).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 7, 74, 1000])
def test_features_are_float16_rows_per_picture_and_faults_are_named(batch):
    cuts, calls = random_cuts(3), []
    bad = {cuts[1].views[3].tobytes(): np.nan, cuts[2].views[0].tobytes(): 1e6}

    def encoder(patches):
        calls.append(len(patches))
        rows = pixels(patches)
        rows[:, 5] = [bad.get(patch.tobytes(), row[5]) for patch, row in zip(patches, rows)]
        return rows

    rows, faults = features.encode(cuts, encoder, batch)
    assert rows.shape == (3, 74, 48) and rows.dtype == np.float16 and np.isfinite(rows).all()
    assert faults[0] == "" and "NaN" in faults[1] and "float16" in faults[2]
    assert (rows[0] == np.stack(cuts[0].views).reshape(74, -1)).all()
    assert set(calls[:-1]) <= {batch} and sum(calls) == 3 * 74
    with pytest.raises(UserError, match=r"the encoder returned \[\d+, 4, 4, 3\]; expected: \[\d+, F\]"):
        features.encode(cuts, lambda patches: patches, batch)
    assert features.encode([], encoder, batch)[1] == []


@pytest.mark.parametrize("levels", TABLES.values(), ids=TABLES)
def test_equal_patches_are_encoded_once(levels):
    picture = scene(40, 40, (20, 20, 40, 40), colour=(90, 90, 90))  # three quarters white, and grey in all views
    whole = foreground.Foreground(None, (0, 0, 40, 40))
    cuts = [features.cut(picture, whole, levels, 4), *random_cuts(1, levels), features.cut(picture, whole, levels, 4)]
    seen = []

    def encoder(patches):
        seen.extend(patch.tobytes() for patch in patches)
        return pixels(patches)

    rows, faults = features.encode(cuts, encoder, 5)
    assert len(seen) == len(set(seen)) and set(seen) == {view.tobytes() for cut in cuts for view in cut.views}
    for row, cut in zip(rows, cuts):
        assert (row == pixels(np.stack(cut.views)).astype(np.float16)).all()
    assert faults == ["", "", ""]
    if any(level.grid > 2 for level in levels):
        assert len(seen) < 2 * kaleido.num_vectors(levels)


def test_patches_that_are_small_in_the_picture_are_cut_smaller():
    image = np.random.default_rng(3).integers(0, 255, (40, 37, 3)).astype(np.uint8)
    whole = foreground.Foreground(None, (0, 0, 37, 40))  # sides of 40, 20, 14, 10 and 8 pixels at most
    plain, mixed = features.cut(image, whole, KALEIDO, 16), features.cut(image, whole, KALEIDO, 16, 10)
    assert {view.shape for view in plain.views} == {(16, 16, 3)}
    for name, part in kaleido.vector_slices(KALEIDO).items():
        assert {len(view) for view in mixed.views[part]} == ({10} if name in ("grey", "blank") else {16})
    assert (mixed.views[10] == plain.views[10]).all() and (mixed.boxes == plain.boxes).all()
    assert [len(view) for view in features.cut(image, whole, KALEIDO, 16, 9).views].count(9) == 25
    sizes = []

    def encoder(patches):
        sizes.append(patches.shape[1])
        return patches.reshape(len(patches), -1, 3).mean(1)

    rows, _ = features.encode([mixed, plain], encoder, 8)
    assert rows.shape == (2, 74, 3) and sizes.count(10) == 8  # 57 patches in calls of 8
    np.testing.assert_allclose(rows[0], [view.reshape(-1, 3).mean(0) for view in mixed.views], rtol=1e-3)


@pytest.mark.parametrize("place, rows, columns", [
    ((4, 2, 6, 8), range(2, 8), range(2, 8)),  # the picture has what lies around the box
    ((0, 2, 2, 8), range(2, 8), range(0, 6)),  # moved where it ends
    ((9, 0, 10, 4), range(0, 4), range(6, 10)),
    ((3, 0, 5, 12), range(1, 11), range(0, 10)),  # cut where the picture is narrower
    ((3, 0, 5, 11), range(0, 10), range(0, 10)),
    ((2, 3, 4, 5), range(3, 5), range(2, 4)),
])
def test_a_square_of_what_is_around_a_box(place, rows, columns):
    image = np.random.default_rng(0).integers(0, 256, (12, 10, 3)).astype(np.uint8)
    np.testing.assert_array_equal(patches.surroundings(image, place), image[np.ix_(rows, columns)])


def test_named_levels_are_cut_square_and_no_others():
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    plain, square = (patches.cut(image, (10, 5, 18, 28), KALEIDO, 23, square=names) for names in ((), ("rotation",)))
    assert (square["rotation"][0] == image[5:28, 2:25]).all()  # as it is, without resizing
    assert all((square[name] == plain[name]).all() == (name != "rotation") for name in plain)
