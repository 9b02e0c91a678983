"""Linear baselines on made-up data with a known answer: they must find it, choose sensibly and repeat themselves."""

import numpy as np
import pytest

from kaleidobert.errors import UserError
from kaleidobert.evaluators import baselines, candidates, retrieval

COLOURS, KINDS = ("red", "blue", "green", "black"), ("shirt", "belt", "shoe", "hat", "bag")


def ridge_scores(matcher, features, texts, lists):
    return baselines.products(matcher.pictures(features), matcher.texts(texts), lists)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def garments(count: int, seed: int, noise: float = 0.3):
    """Features that are a noisy linear code of colour and kind on very different scales, and the text that names both."""
    generator = rng(seed)
    colour, kind = generator.integers(len(COLOURS), size=count), generator.integers(len(KINDS), size=count)
    code = rng(99).normal(size=(len(COLOURS) + len(KINDS), 12))
    features = code[colour] + code[len(COLOURS) + kind] + noise * generator.normal(size=(count, 12))
    texts = [f"A {COLOURS[c]} {KINDS[k]}, number {number}" for number, (c, k) in enumerate(zip(colour, kind))]
    return (features * np.logspace(-1, 1, 12)).astype(np.float32), texts, kind


def records(texts):
    names = [f"{i:03}" for i in range(len(texts))]
    return candidates.Records(names, names, names, ["one"] * len(texts), texts)


def test_neighbours_by_cosine_by_hand():
    train = np.array([[1, 0], [2, 0.1], [0, 3], [0.1, 5], [1, 1]], np.float32)
    asked = np.array([[9, 0.2], [0.01, 0.02]], np.float32)
    found = baselines.nearest_neighbours(train, np.array([7, 7, 3, 3, 9]), asked, count=3)
    assert found.tolist() == [7, 3] and found.dtype == np.int64
    assert baselines.nearest_neighbours(train, np.arange(5) // 5, train).tolist() == [0] * 5  # fewer rows than neighbours is fine


def test_pictures_and_texts_are_classified():
    features, texts, kinds = garments(300, seed=1)
    test_features, test_texts, test_kinds = garments(200, seed=2)
    kinds, test_kinds = kinds * 10 + 3, test_kinds * 10 + 3  # labels need not be 0, 1, 2, ...
    found = baselines.logistic_regression(features, kinds, test_features, seed=0)
    assert (found == test_kinds).mean() > 0.95
    assert (baselines.nearest_neighbours(features, kinds, test_features) == test_kinds).mean() > 0.6
    words = baselines.text_logistic_regression(texts, kinds, test_texts, seed=0)
    assert (words == test_kinds).mean() > 0.99
    assert (found == baselines.logistic_regression(features, kinds, test_features, seed=0)).all()


def test_strength_is_chosen_on_held_out_groups(monkeypatch):
    """The grid is fitted on nine tenths of the groups, the winner on all rows; no group is split."""
    used = []
    fits = baselines._logistic_fits

    def spy(train, labels, strengths):
        used.append((train.shape[0], tuple(strengths)))
        return fits(train, labels, strengths)

    monkeypatch.setattr(baselines, "_logistic_fits", spy)
    features, _, kinds = garments(200, seed=3)
    groups = np.arange(200) // 4
    baselines.logistic_regression(features, kinds, features[:2], seed=0, groups=groups)
    (kept, tried), (final, chosen) = used
    assert kept == 180 and final == 200 and tried == baselines.LOGISTIC_CS
    assert len(chosen) == 1 and chosen[0] in tried
    held = baselines._held_out(200, 0, groups)
    assert held.sum() == 20 and all(len(set(held[groups == group])) == 1 for group in range(50))


def test_too_few_rows_to_hold_out():
    found = baselines.logistic_regression(np.array([[0.0], [1.0]]), np.array([4, 8]), np.array([[-1.0], [2.0]]), seed=0)
    assert found.tolist() == [4, 8]
    assert not baselines._held_out(3, 0, ["g", "g", "g"]).any()


@pytest.mark.parametrize("direction", candidates.DIRECTIONS)
def test_ridge_finds_the_text_of_a_picture(direction):
    features, texts, _ = garments(400, seed=4, noise=0.05)
    test_features, test_texts, _ = garments(60, seed=5, noise=0.05)
    plain = [text.split(",")[0] for text in test_texts]  # equal texts: every garment of that colour and kind is right
    lists = candidates.build(records(plain), direction, seed=0, length=50)
    matcher = baselines.fit_ridge(features, texts, seed=0)
    scores = ridge_scores(matcher, test_features, plain, lists)
    result = retrieval.report(scores, lists.relevant, lists.valid, rng())
    assert scores.shape == (60, 50) and scores.dtype == np.float32
    assert result["rank@1"]["value"] > 0.97 > 2 * result["rank@1"]["chance"]


def test_ridge_is_the_cosine_of_a_ridge_regression_by_scikit_learn():
    from sklearn.linear_model import Ridge

    features, texts, _ = garments(50, seed=6)
    matcher = baselines.fit_ridge(features, texts, seed=0)
    words = matcher.vectorizer.transform(texts).toarray()
    centred = np.hstack([features - features.mean(axis=0), np.ones((50, 1))])
    predicted = Ridge(alpha=matcher.alpha, fit_intercept=False).fit(centred, words).predict(centred)
    predicted /= np.linalg.norm(predicted, axis=1, keepdims=True)
    np.testing.assert_allclose(matcher.pictures(features) @ matcher.texts(texts).T, predicted @ words.T, atol=1e-5)
    assert matcher.alpha in baselines.RIDGE_ALPHAS
    for direction in candidates.DIRECTIONS:
        lists = candidates.build(records(texts), direction, seed=0, length=50)
        cosines = predicted @ words.T if direction == "i2t" else (predicted @ words.T).T  # [query, candidate]
        expected = cosines[lists.queries[:, None], lists.candidates]
        np.testing.assert_allclose(ridge_scores(matcher, features, texts, lists), expected, atol=1e-5)


def test_ridge_in_chunks_is_the_same(monkeypatch):
    features, texts, _ = garments(50, seed=6)
    whole = baselines.fit_ridge(features, texts, seed=0)
    monkeypatch.setattr(baselines, "CHUNK", 7)
    parts = baselines.fit_ridge(features, texts, seed=0)
    assert parts.alpha == whole.alpha
    np.testing.assert_allclose(parts.weights, whole.weights, atol=1e-9)


def test_padding_and_unknown_words_are_scored_harmlessly():
    features, texts, _ = garments(30, seed=7)
    matcher = baselines.fit_ridge(features, texts, seed=0)
    lists = candidates.build(records(["", "zzz", "red shirt"]), "i2t", seed=0, length=5)
    scores = ridge_scores(matcher, features[:3], ["", "zzz", "red shirt"], lists)
    assert np.isneginf(scores[~lists.valid]).all() and np.isfinite(scores[lists.valid]).all()
    retrieval.report(scores, lists.relevant, lists.valid, rng())


def test_refusals():
    features, texts, kinds = garments(20, seed=8)
    with pytest.raises(UserError, match="at least two classes"):
        baselines.logistic_regression(features, kinds * 0, features, seed=0)
    with pytest.raises(UserError, match="lengths are"):
        baselines.logistic_regression(features, kinds[:5], features, seed=0)
    with pytest.raises(UserError, match="lengths are"):
        baselines.fit_ridge(features, texts[:5], seed=0)
    with pytest.raises(UserError, match="20 training rows, 3 groups"):
        baselines.logistic_regression(features, kinds, features, seed=0, groups=["a", "b", "c"])
    with pytest.raises(UserError, match="texts with words"):
        baselines.text_logistic_regression(["", "!"] * 10, kinds, [""], seed=0)


def test_the_regression_as_vectors_gives_the_same_products_and_reads_back():
    rng = np.random.Generator(np.random.Philox(1))
    features = rng.standard_normal((60, 12)).astype(np.float32)
    colours, kinds = ("red", "blue", "green"), ("coat", "shirt", "boots", "hat")
    texts = [f"{colours[int(row[0] > 0) + int(row[1] > 0)]} {kinds[int(row[2] > 0) * 2 + int(row[3] > 0)]}" for row in features]
    matcher = baselines.fit_ridge(features, texts, 0)
    vectors = baselines.RidgeVectors.of(matcher)
    pictures, words = vectors.pictures(features), vectors.texts([*texts, "unheard of"])
    np.testing.assert_allclose(pictures @ words.T, matcher.pictures(features) @ matcher.texts([*texts, "unheard of"]).T, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(pictures, axis=1), 1, atol=1e-5)
    assert not words[-1].any()
    predicted = (np.hstack([features - matcher.mean, np.ones((60, 1))]) @ matcher.weights)
    predicted /= np.linalg.norm(predicted, axis=1, keepdims=True)
    np.testing.assert_allclose(pictures @ pictures.T, predicted @ predicted.T, atol=1e-3)
