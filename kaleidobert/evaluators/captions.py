"""Captions against references: BLEU (Papineni et al., 2002), METEOR, ROUGE-L (Lin, 2004), CIDEr-D (Vedantam et al., 2015), with intervals.

All agree with the figures of the COCO caption evaluation: words of ``ptb_tokenizer``, closest reference length, beta 1.2, document
frequencies from the references. ``report`` takes texts, the metrics take words. N captions; a caption or reference may have no words.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from math import exp, log, sqrt
from typing import Any

import numpy as np

from kaleidobert.errors import UserError
from kaleidobert.evaluators import meteor
from kaleidobert.evaluators.ptb_tokenizer import tokenize_all
from kaleidobert.evaluators.statistics import RESAMPLES, bootstrap, interval, times_drawn

ORDERS = 4
BETA = 1.2  # of ROUGE-L: recall counts so much more than precision
SIGMA = 6.0  # of CIDEr-D's penalty on lengths, in words
TINY, SMALL = 1e-15, 1e-9  # keep a corpus without any common 4-gram from a logarithm of 0
NEEDS_JAVA = "METEOR: needs Java"

Words = Sequence[str]


def report(captions: Sequence[str], references: Sequence[Sequence[str]], rng: np.random.Generator | None = None,
           resamples: int = RESAMPLES) -> dict[str, Any]:
    """Scores captions as written against one or more references each, as written; both are split into words by ``ptb_tokenizer``.

    bleu4, meteor, rouge_l: {value, low, high}, 0 to 1; cider_d: likewise, 0 to 10. low, high: 95% interval by bootstrap over
    captions; CIDEr-D keeps its document frequencies, BLEU and METEOR add up the counts of the drawn captions. count; different_captions;
    mean_length, reference_length: words. meteor is None where its program cannot run, and meteor_note says why.

    rng: default a fixed one. An empty caption scores 0. Raises UserError for unequal or no captions and for missing or blank references.
    """
    words, others = _words(captions, references)
    seed = int((np.random.Generator(np.random.Philox(0)) if rng is None else rng).integers(2**63))

    def scored(statistic: Callable[[np.ndarray], np.ndarray], values: np.ndarray) -> dict[str, float]:
        """Computes the statistic of the sums of values f64[N, C] with its interval; every metric draws the same captions."""
        again = np.random.Generator(np.random.Philox(seed))
        ends = bootstrap(lambda units: statistic(times_drawn(units) @ values), len(values), again, resamples)
        return interval(statistic(values.sum(axis=0, keepdims=True))[0], *ends)

    result: dict[str, Any] = {"bleu4": scored(bleu_of, bleu_counts(_split_blanks(words), list(map(_split_blanks, others))))}
    result |= _meteor(words, others, scored)
    for name, values in _each(words, others).items():
        result[name] = scored(lambda sums: sums[:, 0] / len(words), values[:, None])
    return result | {
        "count": len(words), "different_captions": len(set(map(tuple, words))), "mean_length": float(np.mean([len(w) for w in words])),
        "reference_length": float(np.mean([len(other) for several in others for other in several]))}


def per_caption(captions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
    """Returns {"rouge_l", "cider_d": f64[N]}, whose means the report gives. Raises UserError as ``report``."""
    return _each(*_words(captions, references))


def bleu(captions: Sequence[Words], references: Sequence[Sequence[Words]], order: int = ORDERS) -> float:
    """Returns the BLEU of a corpus: captions, and for each its references, as lists of words; 0 to 1.

    >>> round(bleu([["a", "red", "bag"]], [[["a", "red", "hat"]]], order=1), 4)
    0.6667
    """
    return float(bleu_of(bleu_counts(captions, references, order).sum(axis=0)))


def bleu_counts(captions: Sequence[Words], references: Sequence[Sequence[Words]], order: int = ORDERS) -> np.ndarray:
    """Returns f64[N, 2 + 2 order], the counts of BLEU for each caption: its length, that of the closest reference, then for each order the
    n-grams that a reference has too, and for each order all n-grams. Rows add up to those of a corpus.
    """
    _check(captions, references)
    rows = []
    for caption, others in zip(captions, references):
        wanted = min((len(other) for other in others), key=lambda size: (abs(size - len(caption)), size))
        hits, tries = [], []
        for size in range(1, order + 1):
            mine, theirs = _ngrams(caption, size), Counter[tuple[str, ...]]()
            for other in others:
                theirs |= _ngrams(other, size)
            hits.append(sum((mine & theirs).values()))
            tries.append(max(0, len(caption) - size + 1))
        rows.append([len(caption), wanted, *hits, *tries])
    return np.array(rows, np.float64)


def bleu_of(counts: np.ndarray) -> np.ndarray:
    """Returns the BLEU of (sums of) rows of ``bleu_counts``: f64[..., 2 + 2 order] -> f64[...]."""
    length, wanted = counts[..., 0], counts[..., 1]
    hits, tries = np.split(counts[..., 2:], 2, axis=-1)
    precision = np.log((hits + TINY) / (tries + SMALL)).mean(axis=-1)
    return np.exp(precision + np.minimum(0.0, 1 - (wanted + SMALL) / (length + TINY)))


def rouge_l(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> np.ndarray:
    """Returns f64[N], the F-measure of the longest common subsequence, from the best precision and the best recall over the references.

    As in the COCO evaluation, nothing counts as one empty word: it equals nothing, and is right where a reference is empty too.

    >>> rouge_l([["a", "red", "bag"]], [[["a", "big", "red", "bag"]]]).round(4).tolist()
    [0.8356]
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


def cider_d(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> np.ndarray:
    """Returns f64[N], the CIDEr-D of each caption, 0 to 10, by the document frequencies of all references; 0 for a single caption.

    Words that the references of every product hold count nothing.
    """
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


def _each(words: list[list[str]], others: list[list[list[str]]]) -> dict[str, np.ndarray]:
    return {"rouge_l": rouge_l(words, others), "cider_d": cider_d(_split_blanks(words), list(map(_split_blanks, others)))}


def _words(captions: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[list[list[str]], list[list[list[str]]]]:
    if not len(captions) or len(captions) != len(references):
        raise UserError(f"{len(captions)} captions, {len(references)} lists of references", "captions", "as many of each, at least one")
    for number, several in enumerate(references):
        if isinstance(several, str) or not several or not all(other.strip() for other in several):
            raise UserError("no references" if not several else "references are not a list" if isinstance(several, str)
                            else "an empty reference", f"caption {number} (from 0)", "one or more references, none empty")
    tokens = iter(tokenize_all(other for several in references for other in several))  # of all together: see tokenize_all
    return tokenize_all(captions), [[next(tokens) for _ in several] for several in references]


def _split_blanks(lists: Sequence[Sequence[str]]) -> list[list[str]]:
    """Splits words at blanks inside them: BLEU and CIDEr-D of the COCO evaluation take "1\\xa01/2" for two words, ROUGE-L for one."""
    return [[piece for word in words for piece in word.split()] for words in lists]


def _meteor(words: Sequence[Words], others: Sequence[Sequence[Words]], scored: Callable[..., dict[str, float]]) -> dict[str, Any]:
    try:
        with meteor.Meteor() as program:
            counts = np.array([program.statistics(" ".join(mine), [" ".join(other) for other in several])
                               for mine, several in zip(words, others)])
            return {"meteor": scored(program.scores, counts)}
    except meteor.Missing:
        return {"meteor": None, "meteor_note": NEEDS_JAVA}
    except UserError as error:  # the other figures stay useful
        return {"meteor": None, "meteor_note": f"METEOR: {error}"}


def _ngrams(words: Words, size: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + size]) for start in range(len(words) - size + 1))


def _common(one: Words, other: Words) -> int:
    """Returns the length of the longest common subsequence."""
    best = [0] * (len(other) + 1)  # of the words read so far of one, and so many words of other
    for word in one:
        corner = 0
        for length, theirs in enumerate(other, 1):
            above = best[length]
            best[length] = corner + 1 if word == theirs else max(above, best[length - 1])
            corner = above
    return best[-1]


def _vectors(words: Words, seen: Counter, total: float) -> list[dict[tuple[str, ...], float]]:
    """Counts times inverse document frequency, order by order."""
    return [{ngram: count * (total - log(max(1, seen[ngram]))) for ngram, count in _ngrams(words, size).items()}
            for size in range(1, ORDERS + 1)]


def _similarity(mine: list[dict], length: int, other: list[dict], other_length: int) -> float:
    """Computes the cosine with counts clipped to the reference's, damped by the difference of lengths, mean over orders."""
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
