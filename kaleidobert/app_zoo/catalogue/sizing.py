"""The one dial: what follows from the size of a catalogue and of the machine. docs/own-catalogue.md says what they rest on.

A size names a folder of configurations (quickstart, catalogue_small, or the paper's own); the rules below change of them what depends on
the number of pictures, the length of texts and the labels.
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kaleidobert.configs.training import MIN_CONTRAST_BATCH
from kaleidobert.datasets.bank import builder

AUTO = "auto"
MANY_CLASSES = 20  # of a label, from which on it is trained longer
REFERENCE = 200.0  # GFLOP/s in float32, as ``rate`` measures it, of the machine of two cores to which the seconds below belong


@dataclass(frozen=True)
class Size:
    """A row of SIZES. folder: of configs, "" = the paper's own; from_pictures: training pictures from which on "auto" takes it, on a
    machine with a GPU where gpu is set. length: of texts, in pieces, to which the seconds of a pre-training step belong. seconds:
    {stage: (at its start, per picture or step)} on the reference machine, roughly: of small from the steps of the quickstart, of medium
    from one alignment and one pre-training, its other stages by their sizes; of an index from one of 1,000 pictures beside other
    programs; empty = not known.
    """

    folder: str
    from_pictures: int
    gpu: bool
    length: int
    seconds: Mapping[str, tuple[float, float]]


SIZES = {
    "small": Size("quickstart", 0, False, 32, {
        "records": (15, 0.055), "align": (20, 0.035), "pretrain": (22, 0.20), "classify": (15, 0.06), "i2t": (20, 0.10), "t2i": (20, 0.0),
        "caption": (20, 0.06), "inspect": (10, 0.0), "index": (12, 0.006)}),
    "medium": Size("catalogue_small", 2000, False, 64, {
        "records": (15, 0.055), "align": (25, 0.33), "pretrain": (25, 0.80), "classify": (20, 0.12), "i2t": (25, 0.35), "t2i": (60, 0.0),
        "caption": (30, 0.20), "inspect": (10, 0.0), "index": (12, 0.006)}),
    "base": Size("", 20_000, True, 64, {}),
}


@dataclass(frozen=True)
class Stage:
    """A command of the run. name: of its configuration, and of its folder; file: that it starts from; words: what the rules set;
    seconds: estimated, on this machine; links: whether it needs those of the alignment."""

    name: str
    command: str
    file: str
    words: tuple[str, ...]
    seconds: float
    links: bool = False


@dataclass(frozen=True)
class Sizing:
    """size: a row of SIZES; why: in words; stages: in their order; skipped: {stage: why it is not done}."""

    size: str
    why: str
    stages: tuple[Stage, ...]
    skipped: Mapping[str, str]

    @property
    def seconds(self) -> float:
        """The estimate of the whole run."""
        return sum(stage.seconds for stage in self.stages)


def choose(size: str, train: int, gpus: int) -> tuple[str, str]:
    """Returns (size, why) for a number of training pictures.

    >>> choose("auto", 300, 0)[0], choose("auto", 6000, 0)[0], choose("auto", 50_000, 0)[0], choose("auto", 50_000, 1)[0]
    ('small', 'medium', 'medium', 'base')
    """
    if size != AUTO:
        return size, "as set"
    fitting = [name for name, row in SIZES.items() if train >= row.from_pictures and (gpus or not row.gpu)]
    return fitting[-1], f"{train:,} training pictures, {'a GPU' if gpus else 'no GPU'}"


def plan(facts: Mapping[str, Any], size: str, labels: Sequence[str]) -> Sizing:
    """Returns the stages of a run. facts: as examination.facts gives them; labels: to classify, () = all that can be learnt."""
    train, val = (int(facts["splits"].get(split, 0)) for split in ("train", "val"))
    chosen, why = choose(size, train, len(builder.gpus()))
    return _Planner(facts, chosen, train, val, REFERENCE / rate()).plan(why, labels)


def rate(seconds: float = 0.3) -> float:
    """Measures GFLOP/s of products of float32 matrices on this machine."""
    one = np.ones((768, 768), np.float32)
    one @ one
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        one @ one
        count += 1
    return count * 2 * 768**3 / (time.perf_counter() - start) / 1e9


def epochs_of(steps: float, train: int, batch: int, least: int = 2) -> int:
    """Returns the epochs that make about so many steps.

    >>> epochs_of(530, 750, 64)
    48
    """
    return max(least, round(steps / max(1, train // batch)))


class _Planner:
    def __init__(self, facts: Mapping[str, Any], size: str, train: int, val: int, slowness: float):
        self._facts, self._name, self._size, self._train, self._val = facts, size, SIZES[size], train, val
        self._slowness = slowness
        self._batch = min(64, max(1, train // 4))
        self._stages: list[Stage] = []
        self._skipped: dict[str, str] = {}
        usable = {name: one["classes"] for name, one in facts["labels"].items() if one["usable"]}
        self._usable = usable
        named = usable or {name: one["classes"] for name, one in facts["labels"].items()}  # rare classes tell negatives apart all the same
        self._finest = max(named, key=lambda name: named[name]) if named else ""

    def plan(self, why: str, labels: Sequence[str]) -> Sizing:
        self._add("records", "records", self._records(), self._train + self._val)
        terms = self._train >= 40
        if terms:
            self._add("align", "align", self._align(), self._steps("align"))
        else:
            self._skipped["align"] = f"{self._train} training pictures: no word stands in enough texts to learn where it is seen"
        # a step takes about as long as its batch has examples, and these tokens
        examples = self._batch / 64 * self._text_length / self._size.length
        self._add("pretrain", "pretrain", self._pretrain(terms), self._steps("pretrain") * examples, links=terms)
        for name in labels or self._usable:
            epochs = 12 if self._usable.get(name, 0) > MANY_CLASSES else 8
            self._add(stage_of(name, [stage.name for stage in self._stages]), "classify",
                      [f"label={quoted(name)}", *self._training(epochs, 16)], epochs * self._train / 16, "cat")
        for name, one in self._facts["labels"].items():
            if not one["usable"] and name not in labels:
                self._skipped[stage_of(name)] = "too few of its classes can be learnt"
            elif labels and name not in labels:
                self._skipped[stage_of(name)] = "not among labels"
        if not self._facts["labels"]:
            self._skipped["labels"] = "no column is a label; wrong texts in training come from the whole split"
        self._retrieval()
        self._add("caption", "caption", [f"subcategory={quoted(self._finest)}", *self._training(self._caption_epochs(), 16)],
                  self._caption_epochs() * self._train / 16)
        self._add("inspect", "inspect", [], 0, "quickstart/inspect", terms)
        self._add("index", "index", [], self._train + self._val, "quickstart/index")
        return Sizing(self._name, why, tuple(self._stages), self._skipped)

    @property
    def _text_length(self) -> int:
        """Pieces of a text: 1.4 for a word, of the 95th percentile."""
        return min(128 if self._name == "base" else 64, max(16, 8 * round((1.4 * self._facts["words"]["p95"] + 2) / 8 + 0.5)))

    def _add(self, name: str, command: str, words: Sequence[str], units: float, file: str = "", links: bool = False) -> None:
        start, each = self._size.seconds.get(name, self._size.seconds.get(command, (0.0, 0.0)))
        file = file or name
        path = f"{self._size.folder}/{file}" if self._size.folder and "/" not in file else file
        self._stages.append(Stage(name, command, path, tuple(words), (start + each * units) * self._slowness, links))

    def _records(self) -> list[str]:
        vocabulary = min(8000, max(200, int(12 * self._facts["different_texts"] ** 0.8)))
        encoder = [] if self._name == "base" else ["encoder={name: efficientnet_lite0, size: 64, precision: auto, batch_size: 64}"]
        return [*encoder, f"text={{vocabulary: , vocabulary_size: {vocabulary}, length: {self._text_length}}}", "max_skipped=1"]

    def _align(self) -> list[str]:
        batch = min(32, self._train)
        return ["mode=word_presence", f"word_presence.batch_size={batch}",
                f"word_presence.epochs={epochs_of(self._steps('align'), self._train, batch)}"]

    def _pretrain(self, aligned: bool) -> list[str]:
        contrast = 5 if self._batch >= MIN_CONTRAST_BATCH and self._name != "base" else 0
        words = [f"sampling.masking={'alignment_guided' if aligned else 'random'}", f"sampling.subcategory={quoted(self._finest)}",
                 f"losses.itc_weight={contrast}", "held_out=0"]
        if self._name == "base":
            return words
        return [*words, f"train.batch_size={self._batch}", f"train.epochs={epochs_of(self._steps('pretrain'), self._train, self._batch)}"]

    def _retrieval(self) -> None:
        if self._val < 2:
            self._skipped["retrieval"] = f"{self._val} pictures to judge by"
            return
        candidates = min(101, max(2, self._val))
        towers = 40 if self._train < 3000 else 10
        batch = min(128, max(2, self._train // 4))
        lists = [f"num_candidates={candidates}", f"subcategory={quoted(self._finest)}"]
        head = ["matching.head=dual_encoder", "matching.objective=listwise", f"dual_encoder.epochs={towers}",
                f"dual_encoder.batch_size={batch}"]
        self._add("i2t", "retrieve", [*lists, *head, *self._training(3, 16)], 3 * self._train / 16)
        self._add("t2i", "retrieve", [*lists, *head], 0)

    def _training(self, epochs: int, batch: int) -> list[str]:
        if self._name == "base":
            return []
        return [f"train.epochs={epochs}", f"train.batch_size={min(batch, max(1, self._train // 4))}"]

    def _caption_epochs(self) -> int:
        return 30 if self._train < 2000 else 12

    def _steps(self, stage: str) -> float:
        """Returns the steps of a training: they grow more slowly than the pictures, so that small catalogues see each one more often."""
        steps, power = {"align": (700, 0.36), "pretrain": (530, 0.35)}[stage]
        return steps * (max(self._train, 20) / 750) ** power


def stage_of(label: str, taken: Sequence[str] = ()) -> str:
    """Returns the name of a label's stage, which is a folder's: none of ``taken``.

    >>> stage_of("Type / Material"), stage_of("a/b", ["label-a_b"])
    ('label-Type_Material', 'label-a_b-2')
    """
    name = "label-" + re.sub(r"[^\w.-]+", "_", label)
    return next(each for each in (name, *(f"{name}-{number}" for number in range(2, len(taken) + 3))) if each not in taken)


def quoted(name: str) -> str:
    """Returns a value for a key=value word, taken literally."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'

