"""The level table: sizes, slices, refusals."""

import pytest

from kaleidobert import levels as kaleido
from kaleidobert.errors import UserError
from kaleidobert.levels import KALEIDO, KaleidoLevel
from tests.tables import TABLES


def test_the_paper_has_55_patches_and_74_vectors():
    assert kaleido.num_patches(KALEIDO) == 55
    assert kaleido.num_vectors(KALEIDO) == 74
    assert [level.num_classes for level in KALEIDO] == [4, 24, 9, 0, 0]
    assert kaleido.patch_slices(KALEIDO)["grey"] == slice(14, 30)
    assert kaleido.vector_slices(KALEIDO)["jigsaw"] == slice(4, 8)


@pytest.mark.parametrize("levels", TABLES.values(), ids=TABLES)
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
    (("mlm", 1, "rotate"), "cannot be used"),
])
def test_rows_that_make_no_sense_are_refused(row, words):
    with pytest.raises(UserError, match=words):
        KaleidoLevel(*row)


def test_a_table_names_each_level_once():
    with pytest.raises(UserError, match="each name once"):
        kaleido.check((KALEIDO[0], KALEIDO[0]))
