"""The Markdown of a run of everything: the machine, what was aimed at, every ratio, what failed, and what each program printed."""

from collections.abc import Mapping
from typing import Any

from benchmarks import hardware
from benchmarks.suite import SUITE, Measurement, more_than

UNKNOWN = "–"


def markdown(state: Mapping[str, Any]) -> str:
    """Returns the whole file as Markdown."""
    made = {item.name: state["measurements"][item.name] for item in SUITE if item.name in state["measurements"]}
    parts = ["# Benchmarks of this machine\n", hardware.sentence(state["machine"]) + "\n", _overview(made), _aims(made), _ratios(made)]
    parts += [f"<details><summary>{name}</summary>\n\n{known['printed'].strip()}\n\n</details>\n"
              for name, known in made.items() if known["status"] == "done"]
    return "\n".join(part for part in parts if part)


def _overview(made: Mapping[str, Any]) -> str:
    lines = ["| measurement | status | s | load at the start | begun | command |", "|---|---|---:|---:|---|---|"]
    for name, known in made.items():
        status = known["status"] + (f": {_cell(known['reason'])}" if "reason" in known else "")
        load = UNKNOWN if known["load"] is None else f"{known['load']:.1f}"
        lines.append(f"| {name} | {status} | {known['seconds']:.0f} | {load} | {known['begun']} | `{_cell(' '.join(known['command']))}` |")
    return "\n".join(lines) + "\n"


def _aims(made: Mapping[str, Any]) -> str:
    results = {item.name: made[item.name]["result"] for item in SUITE if is_full(item, made.get(item.name, {}))}
    rows = [(f"{item.name}: {target.what}", value, target.least) for item in SUITE for target in item.targets
            if (value := target.value(results.get(item.name, {}))) is not None]
    rows += more_than(results)
    if not rows:
        return ""
    lines = ["## What is aimed at\n", "| | measured | at least | |", "|---|---:|---:|---|"]
    lines += [f"| {what} | {value:,.3g} | {least:,.3g} | {'met' if value >= least else '**missed**'} |" for what, value, least in rows]
    return "\n".join(lines) + "\n"


def is_full(item: Measurement, known: Mapping[str, Any]) -> bool:
    """Whether this is a result of the full run: what is aimed at says nothing of small sizes."""
    program, *words = item.words
    return "result" in known and known["command"][-len(item.words) :] == [f"benchmarks.{program}", *words]


def _ratios(made: Mapping[str, Any]) -> str:
    lines = ["## Ratios: medians and ranges over the rounds of one run\n"]
    lines += ["| measurement | rate as a share of | wall | cpu |", "|---|---|---:|---:|"]
    for name, known in made.items():
        for of, clocks in known.get("result", {}).get("ratios", {}).items():
            cells = [_spread(clocks.get(clock)) for clock in ("wall", "cpu")]
            lines.append(f"| {name} | {_cell(of)} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines) + "\n" if len(lines) > 3 else ""


def _spread(value: Mapping[str, float] | None) -> str:
    return UNKNOWN if value is None else f"{value['median']:.3f} ({value['low']:.3f} to {value['high']:.3f})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
