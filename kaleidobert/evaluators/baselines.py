"""Linear baselines on the same records: every table of results shows them beside the large model.

Pictures are their frozen features f32[N, D]; texts are TF-IDF vectors. Each function fits on training records and returns predictions or
scores, which classification.py and retrieval.py evaluate like those of any model. A held-out tenth of the training records, whole groups at
a time, chooses the strength of regularisation; the same seed gives the same result.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kaleidobert.errors import UserError
from kaleidobert.evaluators import candidates as lists
from kaleidobert.evaluators import retrieval

NEIGHBOURS = 5
HELD_OUT = 0.1
LOGISTIC_CS = (1e-3, 1e-2, 1e-1)  # for standardised features
TEXT_CS = (1.0, 10.0, 100.0)  # for TF-IDF rows of length 1
RIDGE_ALPHAS = (1e-1, 1.0, 1e1, 1e2, 1e3, 1e4)
MAX_ITERATIONS = 300
MAX_WORDS = 20_000
MAX_JUDGED = 1000  # held-out pictures that choose alpha
CHUNK = 8192  # rows turned into float64 at a time


def nearest_neighbours(train: np.ndarray, labels: np.ndarray, features: np.ndarray, count: int = NEIGHBOURS) -> np.ndarray:
    """Predicts i64[Q], the most frequent label of the nearest rows by cosine: train f32[N, D], labels int[N], features f32[Q, D]."""
    from sklearn.neighbors import KNeighborsClassifier

    _same_length("nearest neighbours", train=train, labels=labels)
    model = KNeighborsClassifier(min(count, len(train)), metric="cosine", algorithm="brute")
    return model.fit(train, labels).predict(features).astype(np.int64)


def logistic_regression(train: np.ndarray, labels: np.ndarray, features: np.ndarray, seed: int,
                        groups: Sequence[str] | None = None) -> np.ndarray:
    """Predicts i64[Q] from features of mean 0 and deviation 1: train f32[N, D], labels int[N], features f32[Q, D].

    groups: one per training row; rows of a group are held out together. Raises UserError for fewer than two classes.
    """
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train)
    return _logistic(scaler.transform(train), labels, scaler.transform(features), LOGISTIC_CS, seed, groups)


def text_logistic_regression(train: Sequence[str], labels: np.ndarray, texts: Sequence[str], seed: int,
                             groups: Sequence[str] | None = None) -> np.ndarray:
    """Predicts i64[Q] from the TF-IDF vectors of the texts: how far the words alone determine the class."""
    vectorizer = _tfidf()
    return _logistic(_fitted(vectorizer, train), labels, vectorizer.transform(texts), TEXT_CS, seed, groups)


@dataclass(frozen=True)
class RidgeMatcher:
    """Ridge regression from features to TF-IDF vectors, as two maps into one space of size D + 1 (the regression's inputs).

    There, the product of a picture and a text is the cosine of the predicted and the true TF-IDF vector, and neither side
    is as long as the vocabulary. alpha: the strength that was chosen.
    """

    vectorizer: Any
    mean: np.ndarray  # [D]
    weights: np.ndarray  # [D + 1, W] of W words
    alpha: float

    def pictures(self, features: np.ndarray) -> np.ndarray:
        """Maps f32[N, D] -> f64[N, D + 1], scaled so that the predicted TF-IDF vectors have length 1."""
        rows = _with_one(features - self.mean)
        gram = self.weights @ self.weights.T
        return rows / np.sqrt(np.maximum(np.einsum("nd,de,ne->n", rows, gram, rows, optimize=True), 1e-12))[:, None]

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Maps N texts -> f64[N, D + 1]; a text without a known word becomes 0."""
        return self.vectorizer.transform(texts) @ self.weights.T


@dataclass(frozen=True)
class RidgeVectors:
    """The same regression as vectors of one space in which pictures compare with pictures, too.

    The product of a picture and a text is that of a RidgeMatcher; a picture has length 1, and the product of two pictures is the cosine of
    their predicted TF-IDF vectors. picture_map f32[D + 1, R], text_map f32[words, R]; words, idf: of the TF-IDF vectors.
    """

    words: list[str]
    idf: np.ndarray
    picture_map: np.ndarray
    text_map: np.ndarray

    @classmethod
    def of(cls, matcher: RidgeMatcher) -> "RidgeVectors":
        """Turns the space of a matcher so that its Gram matrix becomes the identity."""
        values, vectors = np.linalg.eigh(matcher.weights @ matcher.weights.T)
        kept = values > values.max() * 1e-9
        values, vectors = values[kept], vectors[:, kept]
        picture_map = vectors * np.sqrt(values)
        picture_map[-1] -= matcher.mean @ picture_map[:-1]
        text_map = matcher.weights.T @ (vectors / np.sqrt(values))
        numbers = matcher.vectorizer.vocabulary_
        return cls(sorted(numbers, key=numbers.__getitem__), matcher.vectorizer.idf_.astype(np.float64),
                   picture_map.astype(np.float32), text_map.astype(np.float32))

    def pictures(self, features: np.ndarray) -> np.ndarray:
        """Maps f32[N, D] -> f32[N, R] of length 1."""
        rows = features.astype(np.float32) @ self.picture_map[:-1] + self.picture_map[-1]
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Maps N texts -> f32[N, R]; a text without a known word becomes 0."""
        vectorizer = _tfidf(dict(zip(self.words, range(len(self.words)))))
        vectorizer.idf_ = self.idf
        return np.asarray(vectorizer.transform(texts) @ self.text_map, np.float32)


def fit_ridge(features: np.ndarray, texts: Sequence[str], seed: int, groups: Sequence[str] | None = None) -> RidgeMatcher:
    """Fits features f32[N, D] and texts of the same N training records; alpha is the one with the best MRR between held-out
    pictures and held-out texts, both directions averaged. Raises UserError where the lengths differ or no text has a word.
    """
    _same_length("ridge regression", features=features, texts=texts)
    texts, kept = list(texts), ~_held_out(len(features), seed, groups)
    judged = np.flatnonzero(~kept)[:MAX_JUDGED]
    options = _ridge_options(features[kept], [texts[i] for i in np.flatnonzero(kept)], RIDGE_ALPHAS)
    qualities = [_held_out_mrr(model, features[judged], [texts[i] for i in judged]) for model in options]
    return next(_ridge_options(features, texts, [RIDGE_ALPHAS[int(np.argmax(qualities))]]))


def products(pictures: np.ndarray, texts: np.ndarray, given: lists.CandidateLists) -> np.ndarray:
    """Returns f32[Q, L], the lists' pairs by the product of their two sides, f64[N, D] of all N records each; -inf = padding."""
    queries, answers = (pictures, texts) if given.direction == "i2t" else (texts, pictures)
    if len(given.queries) and not given.candidates.strides[0]:  # all queries have the same row of a gallery
        return (queries[given.queries] @ answers[given.candidates[0]].T).astype(np.float32)
    scores = np.empty(given.candidates.shape, np.float32)
    for i, (query, row) in enumerate(zip(given.queries, given.candidates)):
        scores[i] = answers[row] @ queries[query]
    return np.where(given.valid, scores, -np.inf)


def _logistic(train: Any, labels: np.ndarray, rows: Any, strengths: Sequence[float], seed: int,
              groups: Sequence[str] | None) -> np.ndarray:
    """Predicts i64[Q] of dense or sparse rows, fitted on ``train``.

    Warm starts: the strengths rise, each fit begins where the one before ended.
    """
    _same_length("logistic regression", train=train, labels=labels)
    labels = np.asarray(labels)
    if len(np.unique(labels)) < 2:
        raise UserError("all training rows have one label", "logistic regression", "at least two classes")
    held = _held_out(train.shape[0], seed, groups)
    accuracies = [0.0]
    if len(np.unique(labels[~held])) > 1:  # else there are too few rows to hold any out, and the strongest regularisation counts
        fits = _logistic_fits(train[~held], labels[~held], strengths)
        accuracies = [float((predict(train[held]) == labels[held]).mean()) for predict in fits]
    predict = next(_logistic_fits(train, labels, [strengths[int(np.argmax(accuracies))]]))
    return predict(rows).astype(np.int64)


def _logistic_fits(train: Any, labels: np.ndarray, strengths: Sequence[float]) -> Iterator[Callable[[Any], np.ndarray]]:
    """Yields a prediction function per strength C, which is valid until the next one: a fit begins where the last ended."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    model = LogisticRegression(max_iter=MAX_ITERATIONS, tol=1e-3, warm_start=True)
    for strength in strengths:
        # one thread: on a busy machine several wait for each other in every tiny product, ten times slower
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # MAX_ITERATIONS is a choice, and held-out rows judge the fit
            model.set_params(C=strength).fit(train, labels)
        yield model.predict


def _ridge_options(features: np.ndarray, texts: Sequence[str], alphas: Sequence[float]) -> Iterator[RidgeMatcher]:
    """Yields one fit per alpha from a single eigendecomposition. Rows are centred, so the constant column's weights are the mean
    text (all but unshrunk); sums run over chunks, as float64 copies of all rows may not fit into memory.
    """
    vectorizer = _tfidf()
    words = _fitted(vectorizer, texts)  # sparse [N, W]
    mean = features.mean(axis=0, dtype=np.float64)
    gram, product = np.zeros((len(mean) + 1, len(mean) + 1)), np.zeros((words.shape[1], len(mean) + 1))
    for start in range(0, len(features), CHUNK):
        rows = _with_one(features[start:start + CHUNK] - mean)
        gram += rows.T @ rows
        product += words[start:start + CHUNK].T @ rows
    values, vectors = np.linalg.eigh(gram)
    product = vectors.T @ product.T  # [D + 1, W]
    for alpha in alphas:
        yield RidgeMatcher(vectorizer, mean, vectors @ (product / (values + alpha)[:, None]), alpha)


def _held_out_mrr(matcher: RidgeMatcher, features: np.ndarray, texts: Sequence[str]) -> float:
    """Averages the MRR of every picture among all texts and of every text among all pictures; equal texts are right for each other."""
    _, codes = np.unique([lists.normalise(text) for text in texts], return_inverse=True)
    scores = matcher.pictures(features) @ matcher.texts(texts).T
    equal = codes[:, None] == codes
    return float(np.mean([retrieval.rank_statistics(table, equal).reciprocal_ranks().mean() for table in (scores, scores.T)]))


def _held_out(count: int, seed: int, groups: Sequence[str] | None) -> np.ndarray:
    """Draws bool[count]: about a tenth of the rows, at least one, whole groups at a time; none of a single group."""
    _, codes = np.unique(np.arange(count) if groups is None else np.asarray(groups), return_inverse=True)
    if len(codes) != count:
        raise UserError(f"{count} training rows, {len(codes)} groups", "baselines", "one group per row")
    total = int(codes.max(initial=-1)) + 1
    size = min(max(1, round(HELD_OUT * total)), total - 1)
    rng = np.random.Generator(np.random.Philox(seed))
    return np.isin(codes, rng.permutation(total)[:size])


def _tfidf(vocabulary: dict[str, int] | None = None) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    # lower case, words of two or more letters, length 1
    return TfidfVectorizer(sublinear_tf=True, max_features=MAX_WORDS, vocabulary=vocabulary)


def _fitted(vectorizer: Any, texts: Sequence[str]) -> Any:
    try:
        return vectorizer.fit_transform(texts)
    except ValueError as error:  # scikit-learn calls it an empty vocabulary
        raise UserError(f"the texts cannot be used ({error})", "TF-IDF of the training texts", "texts with words") from error


def _with_one(rows: np.ndarray) -> np.ndarray:
    return np.hstack([rows, np.ones((len(rows), 1))])


def _same_length(where: str, **arrays: Any) -> None:
    lengths = {name: array.shape[0] if hasattr(array, "shape") else len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1 or not all(lengths.values()):
        raise UserError(f"lengths are {lengths}", where, "one and the same, at least 1")
