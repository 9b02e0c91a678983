"""Measure everything on the machine at hand: a Markdown table and JSON with hardware, versions and ratios.

    python benchmarks/run.py                      # all of it (about half an hour on two idle cores), into runs/benchmarks
    python benchmarks/run.py --quick              # small sizes, a minute or two, to see that everything starts
    python benchmarks/run.py --only sampler --again

Every measurement is a process of its own with a time limit, and what fails is a line in the table. Results are written after each;
those that the folder has already are not made again unless --again says so.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for `python benchmarks/run.py`, which puts the folder of this file there

from benchmarks import hardware, peers, tables, turns  # noqa: E402
from benchmarks.suite import NAMES, SUITE, Measurement  # noqa: E402
from kaleidobert import io  # noqa: E402
from kaleidobert.errors import UserError  # noqa: E402

JSON, MARKDOWN = "results.json", "results.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns the exit status: 0 everything was measured, 1 something failed, 2 a mistake explained on standard error."""
    parser = argparse.ArgumentParser("python -m benchmarks.run", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, a minute or two: to see that everything starts")
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", help="these alone: " + ", ".join(NAMES))
    parser.add_argument("--out", type=Path, help="default: runs/benchmarks, with --quick runs/benchmarks_quick")
    parser.add_argument("--again", action="store_true", help="measure what the folder has already, too")
    parser.add_argument("--torch", metavar="PYTHON", help=f"a Python with torch and transformers; default: ${peers.TORCH}, else this one")
    options = parser.parse_args(arguments)
    options.out = options.out or ROOT / "runs" / ("benchmarks_quick" if options.quick else "benchmarks")
    try:
        return run(options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


def run(options: argparse.Namespace) -> int:
    """Measures what is missing, writes after each, prints where everything is. Raises UserError where the folder is another machine's."""
    if options.torch:
        os.environ[peers.TORCH] = options.torch
    state, chosen = opened(options.out, hardware.describe(os.environ.get(peers.TORCH))), selected(options)
    for number, measurement in enumerate(chosen, start=1):
        words = measurement.quick if options.quick else measurement.words
        known = state["measurements"].get(measurement.name)
        if known and known["status"] == "done" and known["command"] == command(words) and not options.again:
            print(f"[{number}/{len(chosen)}] {measurement.name}: measured already", flush=True)
            continue
        print(f"[{number}/{len(chosen)}] {measurement.name} ...", end=" ", flush=True)
        result = state["measurements"][measurement.name] = measured(words, measurement.limit)
        write(options.out, state)
        print(f"{result['status']}, {result['seconds']:.0f} s" + (f": {result['reason']}" if "reason" in result else ""), flush=True)
    write(options.out, state)
    print(f"table: {options.out / MARKDOWN}\nevery figure: {options.out / JSON}")
    return int(any(state["measurements"][measurement.name]["status"] != "done" for measurement in chosen))


def selected(options: argparse.Namespace) -> list[Measurement]:
    """Returns what is to be measured here, in the suite's order."""
    gpu = bool(hardware.gpus())
    wanted = [measurement for measurement in SUITE if not options.only or measurement.name in options.only]
    wanted = [measurement for measurement in wanted if options.only or measurement.accelerator in (None, gpu)]
    if options.quick:
        missing = [measurement.name for measurement in wanted if measurement.quick is None]
        if options.only and missing:
            raise UserError(f"there is no quick run of {', '.join(missing)}", "--only", "other names, or no --quick")
        wanted = [measurement for measurement in wanted if measurement.quick is not None]
    return wanted


def opened(folder: Path, machine: dict[str, Any]) -> dict[str, Any]:
    """Returns the results that a folder holds, or none; UserError where they were measured on another machine."""
    path = folder / JSON
    if not path.is_file():
        return {"machine": machine, "measurements": {}}
    state = io.read_json(path)
    differing = hardware.same(state["machine"], machine)
    if differing:
        raise UserError(f"measured with another {', '.join(differing)}: {hardware.sentence(state['machine'])}", str(path),
                        "results of this machine", "choose another folder with --out")
    return state | {"machine": machine}


def command(words: Sequence[str]) -> list[str]:
    """Returns the command that measures, and the backend where it is not the default; equal commands make comparable results."""
    backend = os.environ.get("KERAS_BACKEND")
    return [*([f"KERAS_BACKEND={backend}"] if backend else []), "python", "-m", f"benchmarks.{words[0]}", *words[1:]]


def measured(words: Sequence[str], limit: float) -> dict[str, Any]:
    """Runs a measurement in a process group of its own: command, when, load at the start, status, seconds, and result and printed text, or
    the reason why there are none."""
    about = {"command": command(words), "begun": datetime.now(UTC).isoformat(timespec="seconds"), "load": hardware.load()}
    begun = perf_counter()
    with tempfile.TemporaryDirectory(prefix="kaleido-benchmark-") as folder:
        path, said = Path(folder) / "result.json", Path(folder) / "said"
        full = [sys.executable, "-m", f"benchmarks.{words[0]}", *words[1:], "--json", str(path)]
        with said.open("w+", encoding="utf-8", errors="replace") as log:
            process = subprocess.Popen(full, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)
            try:
                printed, _ = process.communicate(timeout=limit)
            except BaseException as error:  # an interruption too must not leave it working
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                return about | {"status": "over time", "seconds": perf_counter() - begun, "reason": f"longer than {limit} s"}
        about["seconds"] = perf_counter() - begun
        if process.returncode or not path.is_file():
            return about | {"status": "failed", "reason": f"status {process.returncode}: {turns.reason(said.read_text(errors='replace'))}"}
        return about | {"status": "done", "result": json.loads(path.read_text()), "printed": printed}


def write(folder: Path, state: Mapping[str, Any]) -> None:
    """Writes results.json and results.md."""
    io.write_json(folder / JSON, state)
    io.write_text(folder / MARKDOWN, tables.markdown(state))


if __name__ == "__main__":
    sys.exit(main())
