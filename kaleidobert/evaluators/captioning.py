"""Captions against references: BLEU-4 (Papineni et al., 2002) and CIDEr-D (Vedantam et al., 2015), on words as they are given.

Both agree with the figures of the COCO caption evaluation (closest reference length; document frequencies from the references).
"""

from collections import Counter
from collections.abc import Sequence
from math import exp, log

import numpy as np

from kaleidobert.errors import UserError

ORDERS = 4
SIGMA = 6.0  # of CIDEr-D's penalty on lengths, in words
TINY, SMALL = 1e-15, 1e-9  # keep a corpus without any common 4-gram from a logarithm of 0

Words = Sequence[str]


def bleu(captions: Sequence[Words], references: Sequence[Sequence[Words]], order: int = ORDERS) -> float:
    """BLEU of a corpus: captions, and for each its references, as lists of words; 0 to 1.

    >>> round(bleu([["a", "red", "bag"]], [[["a", "red", "hat"]]], order=1), 4)
    0.6667
    """
    _check(captions, references)
    hits, tries, length, wanted = [0] * order, [0] * order, 0, 0
    for caption, others in zip(captions, references):
        length += len(caption)
        wanted += min((len(other) for other in others), key=lambda size: (abs(size - len(caption)), size))
        for size in range(1, order + 1):
            found, most = _ngrams(caption, size), Counter()
            for other in others:
                most |= _ngrams(other, size)
            hits[size - 1] += sum((found & most).values())
            tries[size - 1] += max(0, len(caption) - size + 1)
    precision = sum(log((hit + TINY) / (count + SMALL)) for hit, count in zip(hits, tries)) / order
    brevity = min(0.0, 1 - (wanted + SMALL) / (length + TINY))
    return exp(precision + brevity)


def cider_d(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> float:
    """CIDEr-D of a corpus, mean over captions, 0 to 10; words that every product's references hold count nothing."""
    _check(captions, references)
    seen: Counter[tuple[str, ...]] = Counter()
    for others in references:
        seen.update({ngram for other in others for size in range(1, ORDERS + 1) for ngram in _ngrams(other, size)})
    total = log(max(len(references), 1))
    scores = []
    for caption, others in zip(captions, references):
        mine = _vectors(caption, seen, total)
        scores.append(10 * float(np.mean([_similarity(mine, len(caption), _vectors(other, seen, total), len(other)) for other in others])))
    return float(np.mean(scores))


def perplexity(log_likelihoods: np.ndarray) -> float:
    """exp of the mean negative log-likelihood f[n] of the pieces.

    >>> perplexity(np.log(np.full(7, 0.25)))
    4.0
    """
    return round(float(np.exp(-np.mean(log_likelihoods, dtype=np.float64))), 12)


def _ngrams(words: Words, size: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + size]) for start in range(len(words) - size + 1))


def _vectors(words: Words, seen: Counter, total: float) -> list[dict[tuple[str, ...], float]]:
    """Counts times inverse document frequency, order by order."""
    return [{ngram: count * (total - log(max(1, seen[ngram]))) for ngram, count in _ngrams(words, size).items()}
            for size in range(1, ORDERS + 1)]


def _similarity(mine: list[dict], length: int, other: list[dict], other_length: int) -> float:
    """Cosine with counts clipped to the reference's, damped by the difference of lengths, mean over orders."""
    values = []
    for ours, theirs in zip(mine, other):
        common = sum(min(value, theirs.get(ngram, 0.0)) * theirs.get(ngram, 0.0) for ngram, value in ours.items())
        size = np.sqrt(sum(v * v for v in ours.values()) * sum(v * v for v in theirs.values()))
        values.append(common / size if size else common)
    return float(np.mean(values)) * exp(-((length - other_length) ** 2) / (2 * SIGMA**2))


def _check(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> None:
    if not captions or len(captions) != len(references) or not all(references):
        raise UserError(f"{len(captions)} captions, {len(references)} lists of references", "captioning",
                        "one caption, and at least one reference each")
