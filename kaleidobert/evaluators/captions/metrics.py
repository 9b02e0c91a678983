"""Captions against references: BLEU (Papineni et al., 2002), ROUGE-L (Lin, 2004) and CIDEr-D (Vedantam et al., 2015), on words as given.

All agree with the figures of the COCO caption evaluation: closest reference length, beta 1.2, document frequencies from the
references. Its words are those of ``tokens``. N captions; a caption or reference may have no words.
"""

from collections import Counter
from collections.abc import Sequence
from math import exp, log, sqrt

import numpy as np

from kaleidobert.errors import UserError

ORDERS = 4
BETA = 1.2  # of ROUGE-L: recall counts so much more than precision
SIGMA = 6.0  # of CIDEr-D's penalty on lengths, in words
TINY, SMALL = 1e-15, 1e-9  # keep a corpus without any common 4-gram from a logarithm of 0

Words = Sequence[str]


def bleu(captions: Sequence[Words], references: Sequence[Sequence[Words]], order: int = ORDERS) -> float:
    """BLEU of a corpus: captions, and for each its references, as lists of words; 0 to 1.

    >>> round(bleu([["a", "red", "bag"]], [[["a", "red", "hat"]]], order=1), 4)
    0.6667
    """
    return float(bleu_of(bleu_counts(captions, references, order).sum(axis=0)))


def bleu_counts(captions: Sequence[Words], references: Sequence[Sequence[Words]], order: int = ORDERS) -> np.ndarray:
    """f64[N, 2 + 2 order]: what BLEU needs of each caption. Its length, that of the closest reference, then for each order the
    n-grams that a reference has too and all n-grams. Rows add up to those of a corpus.
    """
    _check(captions, references)
    rows = []
    for caption, others in zip(captions, references):
        wanted = min((len(other) for other in others), key=lambda size: (abs(size - len(caption)), size))
        hits, tries = [], []
        for size in range(1, order + 1):
            found, most = _ngrams(caption, size), Counter[tuple[str, ...]]()
            for other in others:
                most |= _ngrams(other, size)
            hits.append(sum((found & most).values()))
            tries.append(max(0, len(caption) - size + 1))
        rows.append([len(caption), wanted, *hits, *tries])
    return np.array(rows, np.float64)


def bleu_of(counts: np.ndarray) -> np.ndarray:
    """BLEU of (sums of) rows of ``bleu_counts``: f64[..., 2 + 2 order] -> f64[...]."""
    length, wanted = counts[..., 0], counts[..., 1]
    hits, tries = np.split(counts[..., 2:], 2, axis=-1)
    precision = np.log((hits + TINY) / (tries + SMALL)).mean(axis=-1)
    return np.exp(precision + np.minimum(0.0, 1 - (wanted + SMALL) / (length + TINY)))


def rouge_l(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> float:
    """ROUGE-L of a corpus, mean over captions, 0 to 1.

    >>> round(rouge_l([["a", "red", "bag"]], [[["a", "big", "red", "bag"]]]), 4)
    0.8356
    """
    return float(rouge_l_each(captions, references).mean())


def rouge_l_each(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> np.ndarray:
    """f64[N]: F-measure of the longest common subsequence, from the best precision and the best recall over the references.

    As in the COCO evaluation, nothing counts as one empty word: it equals nothing, and is right where a reference is empty too.
    """
    _check(captions, references)
    scores = []
    for caption, others in zip(captions, references):
        caption, others = caption or [""], [other or [""] for other in others]
        common = [_common(caption, other) for other in others]
        precision = max(common) / len(caption)
        recall = max(size / len(other) for size, other in zip(common, others))
        scores.append((1 + BETA**2) * precision * recall / (recall + BETA**2 * precision) if precision and recall else 0.0)
    return np.array(scores)


def cider_d(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> float:
    """CIDEr-D of a corpus, mean over captions, 0 to 10; words that every product's references hold count nothing."""
    return float(cider_d_each(captions, references).mean())


def cider_d_each(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> np.ndarray:
    """f64[N]: CIDEr-D of each caption, with the document frequencies of all references; 0 where there is only one caption."""
    _check(captions, references)
    seen: Counter[tuple[str, ...]] = Counter()
    for others in references:
        seen.update({ngram for other in others for size in range(1, ORDERS + 1) for ngram in _ngrams(other, size)})
    total = log(len(references))
    scores = []
    for caption, others in zip(captions, references):
        mine = _vectors(caption, seen, total)
        scores.append(10 * float(np.mean([_similarity(mine, len(caption), _vectors(other, seen, total), len(other)) for other in others])))
    return np.array(scores)


def _ngrams(words: Words, size: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + size]) for start in range(len(words) - size + 1))


def _common(one: Words, other: Words) -> int:
    """Length of the longest common subsequence."""
    best = [0] * (len(other) + 1)  # of what was read of one and so many words of other
    for word in one:
        corner = 0
        for place, theirs in enumerate(other, 1):
            above = best[place]
            best[place] = corner + 1 if word == theirs else max(above, best[place - 1])
            corner = above
    return best[-1]


def _vectors(words: Words, seen: Counter, total: float) -> list[dict[tuple[str, ...], float]]:
    """Counts times inverse document frequency, order by order."""
    return [{ngram: count * (total - log(max(1, seen[ngram]))) for ngram, count in _ngrams(words, size).items()}
            for size in range(1, ORDERS + 1)]


def _similarity(mine: list[dict], length: int, other: list[dict], other_length: int) -> float:
    """Cosine with counts clipped to the reference's, damped by the difference of lengths, mean over orders."""
    values = []
    for ours, theirs in zip(mine, other):
        common = sum(min(value, theirs.get(ngram, 0.0)) * theirs.get(ngram, 0.0) for ngram, value in ours.items())
        size = sqrt(sum(v * v for v in ours.values()) * sum(v * v for v in theirs.values()))
        values.append(common / size if size else common)
    return float(np.mean(values)) * exp(-((length - other_length) ** 2) / (2 * SIGMA**2))


def _check(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> None:
    if not captions or len(captions) != len(references) or not all(references):
        raise UserError(f"{len(captions)} captions, {len(references)} lists of references", "captioning",
                        "one caption, and at least one reference each")
