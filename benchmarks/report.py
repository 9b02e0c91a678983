"""The command line of all programs, and what they print."""

import argparse
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import kaleidobert
from benchmarks.floors import CLOCKS, Timing, ratio
from benchmarks.random_bank import SIZES
from kaleidobert import io
from kaleidobert.errors import UserError


def parser(program: str, description: str) -> argparse.ArgumentParser:
    """Returns a parser of the arguments that all programs take."""
    made = argparse.ArgumentParser(f"python -m {program}", description=description)
    made.add_argument("--size", choices=SIZES, default="base", help="which shipped configuration, see README.md; default: base")
    made.add_argument("--batch", type=positive, help="examples in a batch; default: " + ", ".join(
        f"{size.batch} ({name})" for name, size in SIZES.items()))
    made.add_argument("--repeats", type=positive, default=7, help="rounds; case and floors are timed once in each; default: 7")
    made.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to this file")
    return made


def add_precision(made: argparse.ArgumentParser) -> None:
    """Adds --precision, as train.precision of a configuration."""
    made.add_argument("--precision", choices=("float32", "mixed_bfloat16", "mixed_float16"), default="float32")


def positive(text: str) -> int:
    """Reads, as an argparse type, a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


def guarded(run: Callable[[argparse.Namespace], Any], options: argparse.Namespace) -> int:
    """Runs run(options); returns the exit status: 0 done, 2 a mistake explained on standard error."""
    try:
        run(options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def machine() -> dict[str, Any]:
    """Describes processor, cores, load, versions, and the accelerators that the backend sees (where keras is loaded)."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = {"kaleidobert": kaleidobert.__version__, "python": platform.python_version(), "numpy": np.__version__}
    versions |= {name: sys.modules[name].__version__ for name in ("keras", "tensorflow", "jax") if name in sys.modules}
    return {"processor": names[0] if names else platform.processor(), "cores": cores, "accelerators": _accelerators(),
            "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None, "versions": versions}


def _accelerators() -> list[str]:
    if "keras" not in sys.modules:
        return []
    import keras

    if keras.backend.backend() == "jax":
        import jax

        return [device.device_kind for device in jax.devices() if device.platform != "cpu"]
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    return [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]


def show(metadata: Mapping[str, Any], case: Timing, floors: Sequence[Timing], path: Path | None) -> dict[str, Any]:
    """Prints times, rates and the ratio of the case's rate to each floor's as Markdown; writes them to ``path`` too.

    metadata: "title", "machine" as it was at the start, and whatever else belongs into the file (JSON-able).
    """
    used = clocks(metadata["machine"])
    result = {**metadata, "timings": [row(timing, used) for timing in (case, *floors)], "ratios": {}}
    for floor in floors:
        result["ratios"][floor.case.name] = {clock: asdict(ratio(case, floor, clock)) for clock in used}
    print(markdown(result, used))
    if path is not None:
        io.write_json(path, result)
    return result


def clocks(machine: Mapping[str, Any]) -> Sequence[str]:
    """Returns the clocks that say something there: a GPU's work costs no CPU seconds."""
    return CLOCKS[:1] if machine["accelerators"] else CLOCKS


def row(timing: Timing, clocks: Sequence[str]) -> dict[str, Any]:
    """Returns a timing as JSON-able figures."""
    return {"name": timing.case.name, "work": timing.case.work, "unit": timing.case.unit,
            "seconds": {clock: timing.seconds[clock].tolist() for clock in clocks}}


def markdown(result: Mapping[str, Any], clocks: Sequence[str]) -> str:
    """Returns the two tables of a report: medians over the rounds; ratios with their range."""
    at = result["machine"]
    where = [at["processor"], f"{at['cores']} cores", f"load {at['load']}", *at["accelerators"]]
    versions = ", ".join(" ".join(pair) for pair in at["versions"].items())
    lines = [f"## {result['title']}", "", ", ".join(where) + "; " + versions, ""]
    heads = [f"{clock} {what}" for clock in clocks for what in ("ms", "rate")]
    lines += ["| | work | " + " | ".join(heads) + " |", "|---|" + "---:|" * (1 + len(heads))]
    for row in result["timings"]:
        cells = [f"{row['work']:.4g} {row['unit']}"]
        for clock in clocks:
            middle = float(np.median(row["seconds"][clock]))
            cells += [f"{1e3 * middle:.2f}", f"{row['work'] / middle:.4g} {row['unit']}/s"]
        lines.append(f"| {row['name']} | " + " | ".join(cells) + " |")
    of = result.get("ratios_of", f"rate of the {result['timings'][0]['name']} as a share of")
    lines += ["", f"| {of} | " + " | ".join(clocks) + " |", "|---|" + "---:|" * len(clocks)]
    for name, values in result["ratios"].items():
        cells = [f"{v['median']:.3f} ({v['low']:.3f} to {v['high']:.3f})" for v in (values[clock] for clock in clocks)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
