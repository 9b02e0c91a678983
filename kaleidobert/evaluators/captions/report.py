"""Captions against references: BLEU-4, METEOR, ROUGE-L and CIDEr-D with 95% intervals, as the COCO caption evaluation counts them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kaleidobert.errors import UserError
from kaleidobert.evaluators.captions import meteor, metrics
from kaleidobert.evaluators.captions.tokens import all_tokens

RESAMPLES = 1000
LEVEL = (2.5, 97.5)  # percentiles of a 95% interval
BLOCK = 4_000_000  # drawn captions held in memory at a time
NEEDS_JAVA = "METEOR: needs Java"
Draw = Callable[[np.ndarray], np.ndarray]


def report(captions: Sequence[str], references: Sequence[Sequence[str]], rng: np.random.Generator | None = None,
           resamples: int = RESAMPLES) -> dict[str, Any]:
    """Captions as written, and for each one or more references as written. They are split into words as in ``tokens``.

    bleu4, meteor, rouge_l: {value, low, high}, 0 to 1; cider_d: likewise, 0 to 10. low, high: 95% interval by bootstrap over
    captions; CIDEr-D keeps its document frequencies, BLEU and METEOR add up the counts of the drawn captions. count; different_captions;
    mean_length, reference_length: words. meteor is None where its program cannot run, and meteor_note says why.

    rng: default a fixed one. An empty caption scores 0. Raises UserError for unequal or no captions and for missing or blank references.
    """
    words, others = _words(captions, references)
    draw = _draws(len(words), np.random.Generator(np.random.Philox(0)) if rng is None else rng, resamples)
    counts = metrics.bleu_counts(_apart(words), list(map(_apart, others)))
    result: dict[str, Any] = {"bleu4": _interval(metrics.bleu_of(counts.sum(axis=0)), metrics.bleu_of(draw(counts)))}
    result |= _meteor(words, others, draw)
    for name, values in _each(words, others).items():
        result[name] = _interval(values.mean(), draw(values[:, None])[:, 0] / len(values))
    return result | {
        "count": len(words), "different_captions": len(set(map(tuple, words))), "mean_length": float(np.mean([len(w) for w in words])),
        "reference_length": float(np.mean([len(other) for several in others for other in several]))}


def per_caption(captions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
    """{"rouge_l", "cider_d": f64[N]}, whose means the report gives. Raises as ``report``."""
    return _each(*_words(captions, references))


def _each(words: list[list[str]], others: list[list[list[str]]]) -> dict[str, np.ndarray]:
    return {"rouge_l": metrics.rouge_l_each(words, others), "cider_d": metrics.cider_d_each(_apart(words), list(map(_apart, others)))}


def _words(captions: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[list[list[str]], list[list[list[str]]]]:
    if not len(captions) or len(captions) != len(references):
        raise UserError(f"{len(captions)} captions, {len(references)} lists of references", "captions", "as many of each, at least one")
    for number, several in enumerate(references):
        if isinstance(several, str) or not several or not all(other.strip() for other in several):
            raise UserError("no references" if not several else "references are not a list" if isinstance(several, str)
                            else "an empty reference", f"caption {number} (from 0)", "one or more references, none empty")
    found = iter(all_tokens(other for several in references for other in several))  # of all together: see all_tokens
    return all_tokens(captions), [[next(found) for _ in several] for several in references]


def _apart(lists: Sequence[Sequence[str]]) -> list[list[str]]:
    """BLEU and CIDEr-D of the COCO evaluation take "1\\xa01/2" for two words, ROUGE-L for one."""
    return [[part for word in words for part in word.split()] for words in lists]


def _meteor(words: Sequence[Sequence[str]], others: Sequence[Sequence[Sequence[str]]], draw: Draw) -> dict[str, Any]:
    try:
        with meteor.Meteor() as program:
            counts = np.array([program.statistics(" ".join(mine), [" ".join(other) for other in several])
                               for mine, several in zip(words, others)])
            value, *drawn = program.scores(np.concatenate([counts.sum(axis=0, keepdims=True), draw(counts)]))
    except meteor.Missing:
        return {"meteor": None, "meteor_note": NEEDS_JAVA}
    except UserError as error:  # the other figures are worth having
        return {"meteor": None, "meteor_note": f"METEOR: {error}"}
    return {"meteor": _interval(value, np.array(drawn))}


def _draws(number: int, rng: np.random.Generator, resamples: int) -> Draw:
    """A function f64[N, C] -> f64[resamples, C], sums over N drawn captions, the same ones for whatever it is given."""
    seed = rng.integers(2**63)

    def draw(values: np.ndarray) -> np.ndarray:
        again, sums, step = np.random.Generator(np.random.Philox(seed)), [], max(1, BLOCK // number)
        for begin in range(0, resamples, step):
            times = again.multinomial(number, np.full(number, 1 / number), min(step, resamples - begin))
            sums.append(times @ values)
        return np.concatenate(sums)

    return draw


def _interval(value: float | np.ndarray, drawn: np.ndarray) -> dict[str, float]:
    low, high = np.percentile(drawn, LEVEL)
    return {"value": float(value), "low": float(low), "high": float(high)}
