"""The results.json of a run: a missing or wrong entry is an error that names file and key. Which model its figures are of."""

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from kaleidobert import io
from kaleidobert.errors import UserError

MAX_NOTE = 1 << 20  # bytes of the catalogue.json of a drawn catalogue
NOT_KNOWN, NOT_MEASURED = "not known", "not measured"
PLAIN = {"head": "plain", "head_of": "the paper's"}
PLAIN_HEAD = "plain head"
PARTS: dict[tuple[str, str], tuple[str, ...]] = {
    ("retrieve", "dual_encoder"): ("encoder alone", "dual encoder alone"),
    ("retrieve", "contrastive"): ("[CLS] alone", "contrast alone"),
    ("classify", "wide"): ("encoder alone", "linear models alone"),
}
HEADS = {"retrieve": ("matching", "head"), "classify": ("head",), "caption": ("mode",)}  # where a configuration names it


@dataclass(frozen=True)
class Value:
    """A number with the ends of its interval, where it has one."""

    value: float
    low: float | None = None
    high: float | None = None


def head_name(model: Mapping[str, Any] | None) -> str:
    """Returns the head of a model, and whose idea it is.

    >>> head_name({"head": "dual_encoder", "head_of": "ours"}), head_name(None)
    ('dual_encoder (ours)', 'not known')
    """
    head, of = ((model or {}).get(key, NOT_KNOWN) for key in ("head", "head_of"))
    return str(head) if NOT_KNOWN in (head, of) else f"{head} ({of})"


def source_of(results: Any) -> str:
    """Returns the catalogue of the bank that a result names; "" where the bank is not there."""
    folder = Result("", "", results).find("bank", "folder")
    if not isinstance(folder, str) or not (Path(folder) / "index.json").is_file():
        return ""
    source = Result("", "", io.read_json(Path(folder) / "index.json")).find("config", "source")
    if not isinstance(source, Mapping):
        return ""
    if str(source.get("kind", "")).startswith("fashion_gen"):
        return "Fashion-Gen"
    table = Path(str(source.get("table")))
    return f"drawn catalogue {'/'.join(table.parent.parts[-2:])}" if _is_drawn(table) else f"catalogue {'/'.join(table.parts[-2:])}"


def _is_drawn(table: Path) -> bool:
    """Whether `kaleidobert synthesize` has made a table: its catalogue.json lies beside; a shop may have a file of that name, too."""
    made = table.parent / "catalogue.json"
    if made == table or not made.is_file() or made.stat().st_size > MAX_NOTE:
        return False
    with suppress(UserError, OSError):
        content = io.read_json(made)
        return isinstance(content, dict) and "drawing" in content
    return False


@dataclass(frozen=True)
class Counted:
    """One of the models of which a result has figures. name: "" for the run's own, otherwise of a part of it, or PLAIN_HEAD.

    head, trained: the model in words; keys: those of its figures, None where they are not measured.
    """

    name: str
    head: str
    trained: str
    keys: tuple[str, ...] | None

    def row(self, run: str) -> str:
        """Returns the name of its row."""
        return f"{run}: {self.name}" if self.name else run


@dataclass(frozen=True)
class Result:
    """The results.json of one run. name: of its rows; where: the file; source: of its data, "" where unknown.

    Methods raise UserError, which names file and key, where an entry is missing or of a wrong type.
    """

    name: str
    where: str
    values: Mapping[str, Any]
    source: str = ""

    def need(self, *keys: str) -> Any:
        """Returns the entry under nested keys, of any type."""
        value: Any = self.values
        for depth, key in enumerate(keys):
            if not isinstance(value, Mapping) or key not in value:
                raise UserError(f"there is no {'.'.join(keys[: depth + 1])!r} in the results", self.where,
                                "what `kaleidobert` writes at the end of an evaluation", "evaluate again")
            value = value[key]
        return value

    def text(self, *keys: str) -> str:
        """Returns a text."""
        value = self.need(*keys)
        if not isinstance(value, str):
            raise self._wrong(value, keys, "a text")
        return value

    def find(self, *keys: str) -> Any:
        """Returns the entry under nested keys, None where there is none."""
        value: Any = self.values
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def whole(self, *keys: str) -> int:
        """Returns a whole number."""
        value = self.need(*keys)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._wrong(value, keys, "a whole number")
        return value

    def group(self, *keys: str) -> Mapping[str, Any]:
        """Returns the mapping under nested keys, empty where there is none or null."""
        value = self.find(*keys)
        if not isinstance(value, Mapping | None):
            raise self._wrong(value, keys, "names and numbers")
        return value or {}

    def measure(self, *keys: str) -> Value | None:
        """Returns a number, or {"value", "low", "high"}; null is None."""
        value = self.need(*keys)
        named = {"": value} if not isinstance(value, Mapping) else {
            "value": self.need(*keys, "value"), "low": value.get("low"), "high": value.get("high")}
        numbers = list(named.values())
        if numbers[0] is None:
            return None
        for name, number in named.items():
            if number is not None and (not isinstance(number, int | float) or isinstance(number, bool) or not math.isfinite(number)):
                raise self._wrong(number, (*keys, name) if name else keys, "a finite number, or value, low and high")
        return Value(*numbers)

    def optional(self, *keys: str) -> Value | None:
        """Returns the same as ``measure``; None also for a figure that `kaleidobert evaluate` cannot compute."""
        return None if self.find(*keys) is None and self.find("task") == "evaluate" else self.measure(*keys)

    def number(self, *keys: str) -> float:
        """Returns the value of a measure, which must not be null."""
        measure = self.measure(*keys)
        if measure is None:
            raise self._wrong(None, keys, "a finite number, or value, low and high")
        return measure.value

    def _wrong(self, value: Any, keys: Sequence[str], expected: str) -> UserError:
        return UserError(f"{'.'.join(keys)!r} is {value!r}", self.where, expected, "evaluate again")

    def model(self) -> Mapping[str, Any]:
        """Returns {"head", "head_of", "trained", ...}; in results of earlier versions the configuration has the head."""
        if self.group("model"):
            return self.group("model")
        task = self.find("task")
        head = self.find("config", *HEADS[task]) if task in HEADS else None
        if not isinstance(head, str):
            return {"head": NOT_KNOWN, "head_of": NOT_KNOWN, "trained": NOT_KNOWN}
        plain = head in ("plain", "mask-all")
        return {"head": "plain" if plain else head, "head_of": PLAIN["head_of"] if plain else "ours", "trained": "not recorded"}

    def counted(self) -> list[Counted]:
        """Returns the run's own model, and for a head of ours its parts and the paper's plain head."""
        model, task = self.model(), self.find("task")
        head, trained = head_name(model), str(model.get("trained", NOT_KNOWN))
        models = [Counted("", head, trained, ("metrics",))]
        if model.get("head_of") != "ours" or task not in ("retrieve", "classify"):
            return models
        parts = self.group("parts")
        for name in dict.fromkeys([*PARTS.get((task, str(model.get("head"))), ()), *parts]):
            own = self.find("model", "trained_parts", name)
            models.append(Counted(name, f"{name}, of {head}", str(own or trained), ("parts", name) if name in parts else None))
        plain = self.group("plain", "model") or PLAIN
        measured = self.find("plain", "metrics") is not None
        trained = str(plain.get("trained", NOT_KNOWN)) if measured else NOT_MEASURED
        return [*models, Counted(PLAIN_HEAD, head_name(plain), trained, ("plain", "metrics") if measured else None)]

    def data(self) -> str:
        """Returns the data in words."""
        bank, named = self.group("bank"), [str(name) for name in (self.find("files", "source"),) if name]
        if "folder" in bank:
            sizes = ", ".join(f"{self.whole('bank', 'splits', split):,} {split}" for split in self.group("bank", "splits"))
            words = [f"bank {bank['folder']} ({sizes or 'unknown'} pictures, {bank.get('encoder', 'unknown')} features)"]
        else:  # classification of released files: {split: {"source": file}}
            named += [f"{split} {entry['source']}" for split, entry in bank.items() if isinstance(entry, Mapping) and "source" in entry]
            words = [f"files {', '.join(named)}" if named else "data not named"]
        fraction = self.find("config", "data", "train_share")
        words += [self.source] if self.source else []
        words += [f"trained on {fraction:.0%} of the training split"] if isinstance(fraction, float) and fraction < 1 else []
        return ", ".join(words)


def models_by_row(runs: Sequence[Result]) -> list[tuple[Counted, list[tuple[Result, Counted]]]]:
    """Returns the models of runs in one row, each with its figures in every run; different trainings are both named.

    >>> one = Result("i2t", "", {"task": "retrieve", "model": {"head": "plain", "head_of": "the paper's", "trained": "a"}})
    >>> [(model.name, model.head, model.trained, len(each)) for model, each in models_by_row([one, one])]
    [('', "plain (the paper's)", 'a', 2)]
    """
    by_name: dict[str, list[tuple[Result, Counted]]] = {}
    for result in runs:
        for model in result.counted():
            by_name.setdefault(model.name, []).append((result, model))
    made = []
    for each in by_name.values():
        heads, trained = (" | ".join(dict.fromkeys(getattr(model, name) for _, model in each)) for name in ("head", "trained"))
        made.append((replace(each[0][1], head=heads, trained=trained), each))
    return made


def pairs(results: Sequence[Result], first: Sequence[Result], token: str) -> list[tuple[Result | None, Result | None]]:
    """Pairs runs of ``first`` with the others whose names differ only where ``token`` matches and whose data, protocol and head agree.

    >>> one, other, third = (Result(name, "", {}) for name in ("a_i2t", "a_t2i", "b_t2i"))
    >>> [[run and run.name for run in pair] for pair in pairs([one, other, third], [one], "i2t|t2i")]
    [['a_i2t', 'a_t2i'], [None, 'b_t2i']]
    """
    groups: dict[tuple, tuple[list[Result], list[Result]]] = {}
    for result in results:
        key = re.sub(token, "*", result.name), result.data(), str(result.find("protocol")), head_name(result.model())
        groups.setdefault(key, ([], []))[0 if any(result is one for one in first) else 1].append(result)
    return [pair for sides in groups.values() for pair in zip_longest(*sides)]


def pair_name(pair: tuple[Result | None, Result | None], token: str) -> str:
    """Returns the common name of a pair: a_{i2t,t2i} of a_i2t and a_t2i.

    >>> pair_name((Result("x/cat", "", {}), Result("x/sub", "", {})), "cat|sub")
    'x/{cat,sub}'
    """
    names = [result.name for result in pair if result]
    matches = [match for name in names if (match := re.search(token, name))]
    if len(names) < 2 or len(matches) < len(names):
        return ", ".join(names)
    return names[0][: matches[0].start()] + "{" + ",".join(match[0] for match in matches) + "}" + names[0][matches[0].end() :]
