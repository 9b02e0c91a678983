"""The report card: what each idea claims, what was measured of it beside its baseline, and whether the figures support it.

A claim is supported ("yes") where the whole 95% interval lies on its side of the baseline, contradicted ("no") where the whole interval
lies on the other, and "undecided" in between. Baselines are figures of the same examples; beside another model the interval is that of the
paired difference, beside chance and oracles it is the model's own. Matching is judged beside chance and the figures of its controls, as
they stand: a control's own interval counts for nothing. Pictures count as independent: where products have several, intervals are a little
narrow. Two settings that were trained with the same seeds are judged by the paired difference over the seeds (``over_seeds``);
evaluators/report/ablation.py has the claims of the paper's Table 4.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kaleidobert.evaluators import statistics
from kaleidobert.evaluators.alignment import LOOK
from kaleidobert.evaluators.report.results import Result, head_name

YES, NO, UNDECIDED = "yes", "no", "undecided"
MIN_SEEDS = 3  # that decide
ALONE = ("contrast alone", "encoder alone", "[CLS] alone")  # parts of a retrieval that are the encoder's own, the best known first
DIRECTIONS = {"i2t": "image to text", "t2i": "text to image"}


@dataclass(frozen=True)
class Claim:
    """idea: of the paper, or ours; claim: what it promises; measured: the figures in words; verdict: YES, NO or UNDECIDED."""

    idea: str
    claim: str
    measured: str
    verdict: str


def verdict(low: float, high: float, baseline: float) -> str:
    """Returns whether an interval lies above a baseline.

    >>> verdict(0.2, 0.3, 0.1), verdict(0.05, 0.3, 0.1), verdict(0.02, 0.08, 0.1)
    ('yes', 'undecided', 'no')
    """
    return YES if low > baseline else NO if high < baseline else UNDECIDED


@dataclass(frozen=True)
class Comparison:
    """first, second: the means of two settings; difference: first less second, paired by seed, with its interval; verdict: whether first is
    ahead. low, high: None with one seed, which decides nothing."""

    seeds: int
    first: float
    second: float
    difference: float
    low: float | None
    high: float | None
    verdict: str

    @property
    def half_width(self) -> float | None:
        """The smallest mean difference that these seeds would have shown."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2

    def judged(self, digits: int = 1) -> str:
        """Returns the verdict in words; of UNDECIDED what these seeds could have shown."""
        if self.verdict != UNDECIDED:
            return self.verdict
        if self.seeds < MIN_SEEDS or not self.half_width:
            return f"{UNDECIDED} ({'one seed' if self.seeds == 1 else f'{self.seeds} seeds'})"
        return f"{UNDECIDED} (±{self.half_width:.{digits}f} would show)"


def over_seeds(first: Mapping[int, float], second: Mapping[int, float]) -> Comparison | None:
    """Judges whether one setting is ahead of another, {seed: figure} each, by the seeds of both; None where they share none.

    Figures of few examples are discrete, so that two seeds often differ equally: fewer than MIN_SEEDS decide nothing, nor do equal
    differences.

    >>> over_seeds({0: 3.0, 1: 5.0, 2: 4.0}, {0: 1.0, 1: 3.1, 2: 2.1}).verdict, over_seeds({0: 3.0}, {0: 1.0}).judged()
    ('yes', 'undecided (one seed)')
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return None
    gap, low, high = statistics.mean_over_seeds([first[seed] - second[seed] for seed in seeds])
    judged = UNDECIDED if low is None or high is None or high == low or len(seeds) < MIN_SEEDS else verdict(low, high, 0.0)
    own, other = (float(np.mean([values[seed] for seed in seeds])) for values in (first, second))
    return Comparison(len(seeds), own, other, gap, low, high, judged)


def report_card(results: Sequence[Result]) -> list[Claim]:
    """Returns the claims that the results of finished runs can judge, in the order of the pipeline.

    Raises UserError, which names file and key, where an entry is missing.
    """
    by_task = {"align": _alignment, "pretrain": _pretraining, "retrieve": _retrieval, "classify": _classification, "caption": _captions}
    known = [result for result in results if str(result.find("task")) in by_task]
    ordered = sorted(known, key=lambda result: list(by_task).index(result.text("task")))
    return [claim for result in ordered for claim in by_task[result.text("task")](result)]


def _alignment(result: Result) -> Iterator[Claim]:
    idea = f"alignment generator, {head_name(result.model())}"
    for measure in (name for name, figures in result.group("parts").items() if isinstance(figures, Mapping)):  # beside counts
        own, chance = ({end: result.number("parts", measure, method, "sightings", end) for end in ("value", "low", "high")}
                       for method in ("alignment", "chance"))
        what = "the peak of a word's map lies in the part that the word names" if measure == "pointing" else \
            f"patches of {measure} that are linked to a word hit its part"
        nearest = chance["high" if own["value"] > chance["value"] else "low"]
        yield Claim(idea, what, f"{_with_interval(own)}; chance {_with_interval(chance)}", verdict(own["low"], own["high"], nearest))
        if look := result.group("parts", measure, LOOK, "sightings"):
            alone = result.number("parts", measure, "position_alone", "sightings", "value")
            yield Claim(idea, f"{measure}: it looks at the picture, ahead of the place where the word's maps usually peak",
                        f"{own['value']:.3f}; the usual place {alone:.3f}; difference {look['value']:+.3f} "
                        f"[{look['low']:+.3f}, {look['high']:+.3f}]", verdict(look["low"], look["high"], 0.0))


def _pretraining(result: Result) -> Iterator[Claim]:
    metrics, baselines, counts = (result.group(name) for name in ("metrics", "baselines", "examples"))
    better, judged, shown = [], [], []
    for name, value in metrics.items():
        task, _, kind = name.rpartition("_")
        if name not in baselines or task in ("itm", "itm_cls", "itc") or kind not in ("accuracy", "kl"):
            continue
        shown.append(f"{task} {value:.2f} ({baselines[name]:.2f})")
        better.append(value > baselines[name] if kind == "accuracy" else value < baselines[name])
        if kind == "accuracy" and name in counts:
            own = statistics.proportion(value * counts[name], int(counts[name]))
            judged.append(verdict(own["low"], own["high"], baselines[name]))
    if shown:
        answer = NO if NO in judged else YES if set(judged) == {YES} and all(better) else UNDECIDED
        yield Claim("kaleido patches and masked words",
                    "every pretext is learnt: better than without looking (in brackets; KL, less is better, has no interval)",
                    ", ".join(shown), answer)
    for name, idea, what in (("itm_accuracy", "image-text matching", "tells on new products whether a text belongs to a picture"),
                             ("itc_accuracy", "image-text contrast", "finds the own text, or picture, in a batch of new products")):
        if name in metrics and name in counts:
            own = statistics.proportion(metrics[name] * counts[name], int(counts[name]))
            chance = result.number("baselines", name)
            controls = {control: figures[name] for control, figures in result.group("controls").items() if name in figures}
            words = f"{_with_interval(own)}; chance {chance:.3f}"
            words += "".join(f"; {control} {_with_interval(figure)}" for control, figure in controls.items())
            if name == "itm_accuracy" and "itm_cls_accuracy" in metrics:
                words += f"; [CLS] alone {result.number('metrics', 'itm_cls_accuracy'):.3f}"
            least = max([chance, *(figure["value"] for figure in controls.values())])  # what needs no picture, or no text, is no matching
            yield Claim(f"{idea}, {head_name(result.model())}", what, words, verdict(own["low"], own["high"], least))


def _retrieval(result: Result) -> Iterator[Claim]:
    ways = DIRECTIONS.get(result.text("direction"), result.text("direction"))
    length = result.whole("metrics", "list_length", "max")
    for part in ALONE:
        if own := result.group("parts", part, "rank@1"):
            oracle, chance = (result.number(*keys) for keys in (("baselines", "subcategory_oracle", "rank@1"),
                                                                ("parts", part, "rank@1", "chance")))
            by_label = oracle > chance  # else the candidates have no subcategory, or all have one
            what = f"{ways}: ranks {'by more than the subcategory' if by_label else 'better than chance'}, Rank@1 of {length}"
            yield Claim(f"the encoder's own answer, {part}", what,
                        f"{_with_interval(own)}; {f'oracle of the subcategory {oracle:.3f}; ' * by_label}chance {chance:.3f}",
                        verdict(own["low"], own["high"], oracle))
            break
    for rank in ("rank@1", "rank@5", "rank@10"):
        asks = int(rank.removeprefix("rank@")) < length  # of a small catalogue every candidate is among the first ten
        if asks and result.group("differences", "ridge regression", rank):
            what = f"{ways}: ahead of ridge regression, {rank} of {length}"
            yield Claim(f"the model of {result.name}, {head_name(result.model())}", what, *_paired(result, "ridge regression", rank))


def _classification(result: Result) -> Iterator[Claim]:
    others = result.group("baselines")
    if others:
        best = max(others, key=lambda name: result.number("baselines", name, "accuracy"))
        if result.group("differences", best):  # not of runs of before
            yield Claim(f"{result.text('label')} recognition, {head_name(result.model())}", "ahead of the best model without a transformer",
                        *_paired(result, best, "accuracy"))


def _captions(result: Result) -> Iterator[Claim]:
    if result.group("differences", "nearest_picture"):
        yield Claim(f"captions, {head_name(result.model())}", "better than the text of the nearest training picture, CIDEr-D",
                    *_paired(result, "nearest_picture", "cider_d"))


def _paired(result: Result, other: str, *metric: str) -> tuple[str, str]:
    """Returns the figures of a paired difference in words, and whether the model is ahead."""
    first, second, gap, low, high = (result.number("differences", other, *metric, name)
                                     for name in ("first", "second", "difference", "low", "high"))
    words = f"{first:.3f}; {other.replace('_', ' ')} {second:.3f}; difference {gap:+.3f} [{low:+.3f}, {high:+.3f}]"
    return words, verdict(low, high, 0.0)


def _with_interval(figure: Mapping[str, Any]) -> str:
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"
