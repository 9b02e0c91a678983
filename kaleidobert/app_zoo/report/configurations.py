"""Configurations as a difference: of each run to the packaged one of its command, and so to the other runs of that command."""

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaleidobert import configs
from kaleidobert.app_zoo import commands
from kaleidobert.app_zoo.report.runs import ReportedRun
from kaleidobert.errors import UserError


@dataclass(frozen=True)
class Difference:
    """A key that is not everywhere as packaged. cells: (value, packaged value) per run."""

    key: str
    cells: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Comparison:
    """The runs of one command. runs: (name, packaged configuration that it is compared with); same, filled: how many keys are everywhere as
    packaged, and how many the packaged configuration leaves open and the bank or a checkpoint fills alike for all."""

    command: str
    runs: tuple[tuple[str, str], ...]
    rows: tuple[Difference, ...]
    same: int
    filled: int


def compare(runs: Sequence[ReportedRun]) -> list[Comparison]:
    """Returns a comparison per command; paths are left out, as they are of a machine."""
    groups: dict[str, list[tuple[ReportedRun, Any]]] = {}
    for run in runs:
        if run.result.group("config") and (packaged := _packaged(run)) is not None:
            groups.setdefault(run.task, []).append((run, packaged))
    return [_compared(task, each) for task, each in groups.items()]


def packaged_name(run: ReportedRun) -> str:
    """Returns the packaged configuration of a run's command, by its label or direction; "" of commands without one."""
    result = run.result
    names = {"classify": "subcat" if "subcat" in str(result.find("label")).lower() else "cat",
             "retrieve": str(result.find("direction")), "pretrain": "pretrain", "align": "align", "caption": "caption"}
    return names.get(run.task, "")


def _packaged(run: ReportedRun) -> Any:
    """Returns the packaged configuration that stands beside a run, None where there is none."""
    name = packaged_name(run)
    try:
        return commands.load(run.task, name) if name else None
    except UserError:  # a label or direction that no packaged file is for
        return None


def _compared(task: str, runs: Sequence[tuple[ReportedRun, Any]]) -> Comparison:
    paths = _paths(type(runs[0][1]))
    own, base = [_flat(run.result.group("config")) for run, _ in runs], [_flat(configs.to_dict(packaged)) for _, packaged in runs]
    rows, same, filled = [], 0, 0
    for key in dict.fromkeys(key for each in (*base, *own) for key in each):
        cells = tuple((show(mine.get(key)), show(theirs.get(key))) for mine, theirs in zip(own, base))
        if key in paths:
            continue
        if len({mine for mine, _ in cells}) == 1 and not any(theirs for _, theirs in cells):
            filled, same = filled + bool(cells[0][0]), same + (not cells[0][0])
        elif all(mine == theirs for mine, theirs in cells):
            same += 1
        else:
            rows.append(Difference(key, cells))
    return Comparison(task, tuple((run.name, packaged_name(run)) for run, _ in runs), tuple(rows), same, filled)


def show(value: Any) -> str:
    """Returns a value of a configuration in words.

    >>> show(0.001), show(True), show([{"name": "rotation", "grid": 1}]), show(None)
    ('0.001', 'true', 'rotation 1', '')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        short = [str(value[name]) for name in ("name", "grid", "pretext") if name in value]
        return " ".join(short[:2]) if short else ", ".join(f"{name}: {show(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(show, value))
    return str(value)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in tree.items():
        made |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return made


def _paths(section: Any, prefix: str = "") -> set[str]:
    """Returns the keys of a configuration that hold a path."""
    made: set[str] = set()
    for name, hint in typing.get_type_hints(section).items():
        options = (hint, *typing.get_args(hint))
        if Path in options:
            made.add(f"{prefix}{name}")
        inner = next((option for option in options if dataclasses.is_dataclass(option) and typing.get_origin(hint) is not tuple), None)
        made |= _paths(inner, f"{prefix}{name}.") if inner is not None else set()
    return made
