"""The figures of one run whatever its task, each with its interval and what stands beside it: for pages of runs and for model cards."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kaleidobert.evaluators import statistics
from kaleidobert.evaluators.report.results import Result, Value
from kaleidobert.evaluators.report.tables import CAPTION_KEYS, baseline_name

CHANCE, BLIND, PLAIN = "chance", "without looking", "plain head"
RANKS = {"rank@1": "Rank@1", "rank@5": "Rank@5", "rank@10": "Rank@10", "mrr": "MRR"}
LABELS = {"accuracy": "accuracy", "macro_f1_all": "macro-F1, all classes", "macro_f1_present": "macro-F1, classes present"}
PRETRAINED = {"itm": "text belongs to picture", "mlm": "masked words", "itc": "own text in the batch",
              "itm_cls": "text belongs to picture, [CLS] alone"}
LOWER = ("cross_entropy", "perplexity")  # of an alignment
POSITIONS = {"chance": CHANCE, "position_alone": "the word's usual place", "best_position": "the best of all places, an oracle"}
FIRST = ("itm", "mlm", "itc")  # of a pre-training, before the levels


@dataclass(frozen=True)
class Figure:
    """metric: for people; key: as results.json has it; beside: {what: its figure}, of the same examples; simple: which of these need no
    such model and no knowledge of the answer; lower: whether less is better."""

    metric: str
    key: str
    value: Value
    beside: Mapping[str, Value] = field(default_factory=dict)
    simple: Collection[str] = ()
    lower: bool = False

    @property
    def rival(self) -> str:
        """The best of the simple ones; "" where there is none."""
        known = [name for name in self.simple if name in self.beside]
        return min(known, key=lambda name: self.beside[name].value * (1 if self.lower else -1), default="")


def figures(result: Result) -> list[Figure]:
    """Returns the figures of a run, the most telling one first; none where its task is not known and it has no list of its own.

    Raises UserError, which names file and key, where an entry is of a wrong type.
    """
    by_task = {"pretrain": _pretraining, "align": _alignment, "classify": _labels, "retrieve": _retrieval, "caption": _captions}
    return list(by_task.get(str(result.find("task")), _others)(result))


def beside(result: Result) -> dict[str, str]:
    """Returns {control: what it means} of a pre-training, for people."""
    return {"picture zeroed": "the picture's features are 0: a model that compares is at chance",
            "another picture under the same masks": "the picture is another product's",
            "every word hidden": "the whole text is masked"} if result.group("controls") else {}


def _pretraining(result: Result) -> Iterator[Figure]:
    metrics, counts = result.group("metrics"), result.group("examples")
    names = [name for name in metrics if name.endswith(("_accuracy", "_kl"))]
    for name in sorted(names, key=lambda name: ([name != f"{task}_accuracy" for task in FIRST], names.index(name))):
        task, _, kind = name.rpartition("_")
        value = result.number("metrics", name)
        count = counts.get(name) or 0
        spread = statistics.proportion(value * count, int(count)) if kind == "accuracy" and count else {}
        others = {BLIND: result.measure("baselines", name)} if name in result.group("baselines") else {}
        others |= {what: result.measure("controls", what, name) for what, each in result.group("controls").items() if name in each}
        title = f"{PRETRAINED.get(task, task)}, {'KL' if kind == 'kl' else 'accuracy'}"
        yield Figure(title, name, Value(value, spread.get("low"), spread.get("high")), _known(others), [BLIND], kind == "kl")


def _alignment(result: Result) -> Iterator[Figure]:
    for measure, methods in result.group("parts").items():
        if isinstance(methods, Mapping) and "alignment" in methods:  # beside counts
            others = {title: result.measure("parts", measure, name, "sightings") for name, title in POSITIONS.items()
                      if isinstance(methods.get(name), Mapping)}
            title = "peak of a word's map lies in its part" if measure == "pointing" else f"linked patches of {measure} hit the word's part"
            own = result.measure("parts", measure, "alignment", "sightings")
            if own:
                yield Figure(title, f"parts.{measure}", own, _known(others), list(POSITIONS.values())[:2])
    for name in sorted(result.group("metrics"), key=lambda name: name in LOWER):
        known = {what: result.measure("baselines", what, name) for what, each in result.group("baselines").items()
                 if isinstance(each, Mapping) and isinstance(each.get(name), int | float)}
        value = result.find("metrics", name)
        if isinstance(value, int | float | Mapping) and (own := result.measure("metrics", name)):
            yield Figure(name.replace("_", " "), name, own, _known(known), list(known), name in LOWER)


def _labels(result: Result) -> Iterator[Figure]:
    for key, title in LABELS.items():
        if own := _optional(result, "metrics", key):
            others: dict[str, Value | None] = {"commonest class": _optional(result, "metrics", "chance")} if key == "accuracy" else {}
            yield Figure(title, key, own, _known(others | _compared(result, key)), [*others, *_simple(result)])


def _retrieval(result: Result) -> Iterator[Figure]:
    for key, title in RANKS.items():
        if own := _optional(result, "metrics", key):
            others = {CHANCE: _optional(result, "metrics", key, "chance"), **_compared(result, key)}
            yield Figure(title, key, own, _known(others), [CHANCE, *_simple(result)])


def _captions(result: Result) -> Iterator[Figure]:
    for key in ("cider_d", *(name for name in CAPTION_KEYS if name != "cider_d")):
        if own := _optional(result, "metrics", key):
            yield Figure(CAPTION_KEYS[key], key, own, _known(_compared(result, key)), _simple(result))


def _others(result: Result) -> Iterator[Figure]:
    """Yields the list that training.run_task writes, [task, metric, value, chance], or plain numbers under ``metrics``."""
    listed = result.find("figures")
    if isinstance(listed, list):
        for _, metric, value, chance in listed:
            others = {} if chance is None else {CHANCE: Value(float(chance))}
            yield Figure(str(metric), str(metric), Value(float(value)), others, [CHANCE])
        return
    for name, value in result.group("metrics").items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield Figure(name.replace("_", " "), name, Value(float(value)))


def _compared(result: Result, key: str) -> dict[str, Value | None]:
    """Returns {baseline, part of the head, or plain head: its figure}."""
    made: dict[str, Value | None] = {}
    for name, each in result.group("baselines").items():
        if isinstance(each, Mapping):
            made[baseline_name(name)] = _optional(result, "baselines", name, key)
        elif key == "accuracy":  # of earlier versions
            made[baseline_name(name)] = _optional(result, "baselines", name)
    made |= {name: _optional(result, "parts", name, key) for name in result.group("parts")}
    return made | ({PLAIN: _optional(result, "plain", "metrics", key)} if result.group("plain", "metrics") else {})


def _simple(result: Result) -> list[str]:
    """Returns the names of the baselines, but for those that know a part of the answer."""
    return [baseline_name(name) for name in result.group("baselines") if "oracle" not in name]


def _optional(result: Result, *keys: str) -> Value | None:
    return None if result.find(*keys) is None else result.measure(*keys)


def _known(others: Mapping[str, Any]) -> dict[str, Value]:
    return {name: value for name, value in others.items() if value is not None}
