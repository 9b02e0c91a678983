"""What run.py measures: a name, a program with its arguments for the full and the quick run, a time limit, and what is aimed at."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Result = Mapping[str, Any]
Value = Callable[[Result], float | None]


@dataclass(frozen=True)
class Target:
    """A figure of a result that should be at least ``least``; value(result) is None where the result has no such figure."""

    what: str
    least: float
    value: Value


@dataclass(frozen=True)
class Measurement:
    """words: a program of benchmarks and its arguments; quick: those of the quick run, None = left out of it. limit: seconds.

    accelerator: True where it needs a GPU, False where it is of no use beside one, None for either.
    """

    name: str
    words: tuple[str, ...]
    quick: tuple[str, ...] | None
    limit: int
    targets: tuple[Target, ...] = ()
    accelerator: bool | None = None


def ratio(pattern: str, clock: str = "wall") -> Value:
    """Returns the median of the first ratio whose name matches."""

    def value(result: Result) -> float | None:
        medians = [values[clock]["median"] for name, values in result.get("ratios", {}).items() if re.search(pattern, name)]
        return medians[0] if medians else None

    return value


def figure(*path: str) -> Value:
    """Returns the number at a path of keys."""

    def value(result: Result) -> float | None:
        for key in path:
            if not isinstance(result, Mapping) or key not in result:
                return None
            result = result[key]
        return float(result)

    return value


def never_waiting(result: Result) -> float | None:
    """Returns the best over the numbers of threads, of the shortest steps."""
    rows = result.get("waiting", [])
    shortest = min((row["step ms"] for row in rows), default=0)
    return max((100 - row["waits, % of the time"] for row in rows if row["step ms"] == shortest), default=None)


FLOOR32 = (Target("forward and backward, share of the float32 products", 0.85, ratio("^forward and backward / matrix products float32")),
           Target("prediction, share of the float32 products", 0.85, ratio("^prediction / matrix products float32")))
TORCH = (Target("forward and backward, times PyTorch's rate", 1.0, ratio("^forward and backward / torch")),
         Target("prediction, times PyTorch's rate", 1.0, ratio("^prediction / torch")))


def _network(batch: int, precision: str, repeats: int, limit: int, *more: str) -> Measurement:
    words = ("peers", "--size", "base", "--batch", str(batch), "--precision", precision, "--repeats", str(repeats), *more)
    quick = ("peers", "--size", "tiny", "--batch", "8", "--precision", precision, "--repeats", "2", "--eager")
    if batch != 8 or precision != "float32":
        quick = None
    targets = (*FLOOR32, *TORCH) if precision == "float32" else TORCH
    return Measurement(f"network-{batch}-{precision.removeprefix('mixed_')}", words, quick, limit, targets)


def _scaling(curve: str, limit: int) -> Measurement:
    quick = ("scaling", curve, "--size", "tiny", "--batch", "4", "--repeats", "2", "--points", "2", "--layers", "1")
    return Measurement(f"scaling-{curve}", ("scaling", curve), quick if curve in ("text", "levels") else None, limit)


def _sampler(name: str, *more: str) -> Measurement:
    quick = ("sampler", "--size", "tiny", "--batch", "8", "--pictures", "64", "--repeats", "3", *more)
    target = Target("examples/s of a core", 8000, figure("examples_per_second", "cpu"))
    return Measurement(name, ("sampler", "--size", "base", "--batch", "64", *more), quick, 300, (target,))


SUITE = (
    _network(8, "float32", 15, 900),
    _network(8, "mixed_bfloat16", 7, 600, "--peers", "torch"),
    _network(64, "float32", 4, 900, "--micro", "32", "--peers", "torch", "--works", "forward and backward", "prediction"),
    _network(64, "mixed_bfloat16", 3, 900, "--micro", "32", "--peers", "torch", "--works", "forward and backward", "prediction"),
    _sampler("sampler"), _sampler("sampler-alignment", "--masking", "alignment_guided"), _sampler("sampler-uint8", "--storage", "uint8"),
    Measurement("sampler-feeding", ("sampler", "--size", "base", "--batch", "256", "--step-ms", "50", "100"), None, 300,
                (Target("% of the time in which steps of 50 ms on a GPU do not wait", 95, never_waiting),)),
    Measurement("sampler-cold", ("sampler", "--batch", "64", "--pictures", "8192", "--repeats", "3", "--cold"), None, 400),
    Measurement("masking", ("masking",), ("masking", "--batch", "8", "--repeats", "3"), 120),
    Measurement("records", ("records", "--pictures", "6", "--repeats", "2", "--processes", "1", "--processes", "2"),
                ("records", "--size", "tiny", "--pictures", "4", "--repeats", "1"), 600),
    Measurement("retrieval", ("retrieval", "--queries", "1", "--repeats", "3"),
                ("retrieval", "--size", "tiny", "--queries", "1", "--candidates", "11", "--pictures", "64", "--repeats", "2"), 600,
                (Target("share of the float32 products, as pairs", 0.85, ratio("^matrix products float32")),)),
    Measurement("search", ("search", "--vectors", "7000"), ("search", "--vectors", "500", "--queries", "20"), 300),
    _scaling("text", 300), _scaling("levels", 300), _scaling("batch", 400), _scaling("hidden", 400),
    Measurement("devices", ("devices",), ("devices", "--steps", "2", "--batch", "8"), 400,
                (Target("digits in which all losses agree", 4, figure("equal_digits")),)),
    Measurement("accelerator", ("accelerator",), None, 600, accelerator=True),
    Measurement("cost", ("cost",), ("cost",), 60),
)
NAMES = tuple(measurement.name for measurement in SUITE)


def more_than(results: Mapping[str, Result]) -> list[tuple[str, float, float]]:
    """Returns (what, value, least) of figures that need two results: how many times as fast bfloat16 is, both against the float32
    products."""
    rows = []
    for batch in (8, 64):
        pair = [results.get(f"network-{batch}-{precision}") for precision in ("bfloat16", "float32")]
        for work in ("forward and backward", "prediction"):
            values = [result and ratio(f"^{work} / matrix products float32")(result) for result in pair]
            if all(values):
                rows.append((f"{work}, batch {batch}, bfloat16 over float32", values[0] / values[1], 1.4))
    return rows
