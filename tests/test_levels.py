"""The level table: sizes, slices, refusals."""

import pytest

from kaleidobert import levels as kaleido
from kaleidobert.errors import UserError
from kaleidobert.levels import KALEIDO, KaleidoLevel
from tests.support.tables import ALL


def test_the_paper_has_55_patches_and_74_vectors():
    assert kaleido.num_patches(KALEIDO) == 55
    assert kaleido.num_vectors(KALEIDO) == 74
    assert [level.num_classes for level in KALEIDO] == [4, 24, 9, 0, 0]
    assert kaleido.patch_slices(KALEIDO)["grey"] == slice(14, 30)
    assert kaleido.vector_slices(KALEIDO)["jigsaw"] == slice(4, 8)


@pytest.mark.parametrize("levels", ALL.values(), ids=ALL)
def test_slices_tile_the_axis(levels):
    for slices, total in ((kaleido.patch_slices(levels), kaleido.num_patches(levels)),
                          (kaleido.vector_slices(levels), kaleido.num_vectors(levels))):
        covered = [i for part in slices.values() for i in range(part.start, part.stop)]
        assert covered == list(range(total))


@pytest.mark.parametrize("row, words", [
    (("a", 1, "turn"), "unknown pretext"),
    (("a", 0, "rotate"), "grid is 0"),
    (("a", 4, "shuffle"), "no usable number of classes"),
    (("a", 1, "shuffle"), "no usable number of classes"),
    (("a", 3, "camouflage"), "num_masked is 0"),
    (("a", 3, "rotate", 1), "num_masked is 1"),
    (("a", 2, "blank", 5), "1 to 4"),
    (("a", 2, "grey", -1), "num_masked is -1; expected: 1 to 4"),
    (("a", 3, "camouflage", 9), "num_masked is 9; expected: 1 for 'camouflage'"),
    (("mlm", 1, "rotate"), "cannot be used"),
    (("total", 1, "rotate"), "cannot be used"),
    (("patch_features", 1, "rotate"), "cannot be used"),
    (("a", 1000, "shuffle"), "grid is 1000; expected: a grid of 1 to 32"),
    (("a", 1, "rotate", 0, -0.5), "weight is -0.5; expected: a finite number, at least 0; .*pretext: none"),
    (("a", 1, "rotate", 0, float("nan")), "weight is nan"),
    (("a", 1, "rotate", 0, float("inf")), "weight is inf"),
    (("a", 1, "none", 0, 2.0), "weight is 2.0, and nothing is predicted of a level without a pretext; .*leave weight out"),
    (("a", 2, "none", 1), "num_masked is 1; expected: 0 for 'none'; .*leave num_masked out"),
])
def test_rows_that_make_no_sense_are_refused(row, words):
    with pytest.raises(UserError, match=words):
        KaleidoLevel(*row)


def test_a_table_names_each_level_once():
    with pytest.raises(UserError, match="each name once"):
        kaleido.check((KALEIDO[0], KALEIDO[0]))


def test_a_level_without_a_pretext_is_asked_nothing():
    bare = KaleidoLevel("a", 4, "none")
    assert (bare.answer, bare.num_views, bare.num_classes, bare.num_masked) == ("", 1, 0, 0)
    assert kaleido.target_levels((KALEIDO[0], bare, KALEIDO[4])) == (KALEIDO[0], KALEIDO[4])
    assert kaleido.feature_levels((bare, KALEIDO[4])) == (KALEIDO[4],)


def test_a_picture_of_which_nothing_is_left_is_refused():
    all_blank = KaleidoLevel("a", 2, "blank", 4)
    with pytest.raises(UserError, match="all 4 patches are blank"):
        kaleido.check((all_blank,))
    assert len(kaleido.check((all_blank, KaleidoLevel("b", 1, "none")))) == 2  # answered from the other level


def test_some_levels_in_the_same_order_with_their_pretext_or_none():
    bare = tuple(KaleidoLevel(level.name, level.grid, "none") for level in KALEIDO)
    assert kaleido.subset(KALEIDO, KALEIDO) == kaleido.subset(KALEIDO, bare) == [0, 1, 2, 3, 4]
    assert kaleido.subset(KALEIDO, (bare[1], KALEIDO[3])) == [1, 3]
    assert kaleido.subset(bare, bare[2:]) == [2, 3, 4]
    for other in ((KALEIDO[1], KALEIDO[0]), (KALEIDO[0], bare[0]), bare[:1] + (KaleidoLevel("more", 2, "none"),),
                  (KaleidoLevel("rotation", 2, "none"),), (KaleidoLevel("jigsaw", 2, "blank", num_masked=1),)):
        assert kaleido.subset(KALEIDO, other) is None
    assert kaleido.subset(bare, KALEIDO) is None  # a bank without turned views has none to show
