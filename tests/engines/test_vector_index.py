"""The nearest vectors: every kind against plain products, filters, equal scores, files."""

import numpy as np
import pytest

from kaleidobert.engines import vector_index
from kaleidobert.engines.vector_index import VectorIndex
from kaleidobert.errors import UserError


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """Of length 1, in bunches, as those of products are."""
    rng = np.random.Generator(np.random.Philox(0))
    rows = rng.standard_normal((20, 16), np.float32)[rng.integers(20, size=1500)] + 0.4 * rng.standard_normal((1500, 16), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def by_hand(vectors: np.ndarray, query: np.ndarray, count: int, rows: np.ndarray | None = None) -> list[int]:
    rows = np.arange(len(vectors)) if rows is None else rows
    return rows[np.argsort(-(vectors[rows] @ query), kind="stable")][:count].tolist()


@pytest.mark.parametrize("kind", vector_index.KINDS)
def test_kinds_find_the_nearest(vectors, kind):
    index = vector_index.build(vectors, kind, vectors[::7])
    found = index.search(vectors[:40], 10)
    assert vector_index.recall(index, vectors[:40], 10) > 0.9 and (found.rows[:, 0] == np.arange(40)).mean() > 0.9
    np.testing.assert_allclose(found.scores[0], vectors[found.rows[0]] @ vectors[0], rtol=1e-5)
    assert (np.diff(found.scores, axis=1) <= 0).all()
    if kind == "flat":
        assert [row.tolist() for row in found.rows] == [by_hand(vectors, query, 10) for query in vectors[:40]]


@pytest.mark.parametrize("kind", vector_index.KINDS)
def test_with_a_filter_nothing_that_fits_is_missed(vectors, kind):
    index, allowed = vector_index.build(vectors, kind, vectors[::7]), np.arange(len(vectors)) % 97 == 5
    found = index.search(vectors[:3], 50, allowed)
    assert [row.tolist() for row in found.rows] == [by_hand(vectors, query, 50, np.flatnonzero(allowed)) for query in vectors[:3]]
    assert index.search(vectors[:3], 50, np.zeros(len(vectors), bool)).rows.shape == (3, 0)


def test_more_than_there_are_and_equal_ones():
    vectors = np.ones((5, 4), np.float32)
    found = VectorIndex(vectors).search(vectors[:1], 9)
    assert found.rows.tolist() == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_the_same_vectors_give_the_same_file_which_reads_back(vectors, kind, tmp_path):
    first, again = (vector_index.build(vectors, kind, vectors[::7]) for _ in range(2))
    assert first.content() == again.content() and first.probes == again.probes
    path = tmp_path / "vectors.faiss"
    path.write_bytes(first.content())
    opened = vector_index.load(path, vectors, kind, first.probes)
    assert opened.search(vectors[:9], 20).rows.tolist() == first.search(vectors[:9], 20).rows.tolist()
    with pytest.raises(UserError, match="is of 1500 vectors of 16; expected: 3 of 16"):
        vector_index.load(path, vectors[:3], kind, 1)
    path.write_bytes(first.content()[:50])
    with pytest.raises(UserError, match="vectors.faiss: cannot be read"):
        vector_index.load(path, vectors, kind, first.probes)


def test_the_kind_follows_from_the_number():
    most = vector_index.MAX_FLAT
    assert [vector_index.choose(most), vector_index.choose(most + 1), vector_index.choose(9, "hnsw")] == ["flat", "ivf", "hnsw"]
