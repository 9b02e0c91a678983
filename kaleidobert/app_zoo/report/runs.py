"""The runs below folders: those that a report shows, and those that it can only name, each in one line."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaleidobert import io
from kaleidobert.engines import environment
from kaleidobert.engines.run_folder import read_metrics
from kaleidobert.errors import UserError
from kaleidobert.evaluators.report import claims, figures, tables
from kaleidobert.evaluators.report.claims import Claim
from kaleidobert.evaluators.report.results import Result, source_of

RESULTS, CONFIG = "results.json", "config.yaml"
ORDER = ("catalogue check", "align", "pretrain", "classify", "retrieve", "caption", "evaluate")  # of the pipeline; other tasks follow
LAST = ("inspect",)
# raised by entries that no command of this version wrote, but an earlier version, another program or somebody's hand
BROKEN = (UserError, KeyError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True)
class ReportedRun:
    """A finished run. result: its results.json; claims: about it, for the report card; in_tables: whether the paper's tables show it;
    parts: run folders of networks that were trained on the way, such as i2t/dual_encoder; environment: as engines.environment writes it, {}
    of runs of earlier versions."""

    result: Result
    folder: Path
    claims: Sequence[Claim]
    in_tables: bool
    parts: tuple[Path, ...]
    environment: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What sets its folder apart from those of the other runs."""
        return self.result.name

    @property
    def task(self) -> str:
        """The task, as results.json has it."""
        return str(self.result.find("task") or "other")


@dataclass(frozen=True)
class Found:
    """What lies below the folders. runs: in the order of the pipeline; problems: a line for each that is unfinished, damaged, or lacks a
    part; root: of their names."""

    runs: Sequence[ReportedRun]
    problems: Sequence[str]
    root: Path


def find(folders: Sequence[Path]) -> Found:
    """Returns the runs in and below the folders, each once. Raises UserError for no folder, for one that is not there, and where no run
    below them has finished."""
    if not folders:
        raise UserError("no run is named", "report", "folders of runs", "say kaleidobert report runs/quickstart")
    finished: dict[Path, None] = {}
    begun: dict[Path, None] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError("there is no such folder", str(folder), "the folder of a run, or one that holds such folders")
        finished |= dict.fromkeys(path.parent.absolute() for path in sorted(folder.rglob(RESULTS)))
        begun |= dict.fromkeys(path.parent.absolute() for path in sorted(folder.rglob(CONFIG)) if path.parent.absolute() not in finished)
    parts = {folder: owner for folder in begun if (owner := _owner(folder, finished)) is not None}
    root = Path(os.path.commonpath([path.parent for path in (*finished, *begun)] or [folders[0].absolute()]))
    runs, problems = [], [_unfinished(folder, root) for folder in begun if folder not in parts]
    for folder in finished:
        run, lines = _read(folder, root, tuple(part for part, owner in parts.items() if owner == folder))
        runs += [run] if run else []
        problems += lines
    if not runs:
        raise UserError("no run below this folder has finished" + (f" ({'; '.join(problems[:3])})" if problems else ""), str(folders[0]),
                        "a results.json", "name the folder of a finished run")
    return Found(sorted(runs, key=_place), problems, root)


def _owner(folder: Path, finished: Mapping[Path, None]) -> Path | None:
    """Returns the finished run that a run folder without results is a part of: of a dual encoder the folder above, of a network of
    `align` a folder beside it, of one of its modes."""
    if folder.parent in finished:
        return folder.parent
    return next((other for other in finished if other.parent == folder.parent and (other / "work.json").is_file()), None)


def _unfinished(folder: Path, root: Path) -> str:
    steps = [row.get("step") for row in read_metrics(folder / "metrics.jsonl") if isinstance(row, dict)]
    return f"{_name(folder, root)}: not finished" + (f", at step {steps[-1]}" if steps else "")


def _read(folder: Path, root: Path, parts: tuple[Path, ...]) -> tuple[ReportedRun | None, list[str]]:
    """Returns the run, None where it is damaged, and lines that say what is wrong with it."""
    name, lines = _name(folder, root), []
    try:
        values = io.read_json(folder / RESULTS)
        if not isinstance(values, dict):
            raise UserError(f"the results are a {type(values).__name__}", RESULTS)
        result = Result(name, str(folder / RESULTS), values, source_of(values))
        figures.figures(result)
    except BROKEN as error:
        return None, [f"{name}: damaged ({_reason(error)})"]
    judged: Sequence[Claim] = ()
    try:
        judged = claims.report_card([result])
    except BROKEN as error:
        lines.append(f"{name}: not on the report card ({_reason(error)})")
    try:
        in_tables = bool(tables.tables([result]))
    except BROKEN as error:
        in_tables = False
        lines.append(f"{name}: not in the tables ({_reason(error)})")
    return ReportedRun(result, folder, judged, in_tables, parts, environment.read(folder)), lines


def _reason(error: Exception) -> str:
    return error.what if isinstance(error, UserError) else f"results.json is none of a run: {type(error).__name__} {error}"


def _name(folder: Path, root: Path) -> str:
    return folder.relative_to(root).as_posix()


def _place(run: ReportedRun) -> tuple[int, str]:
    order = ORDER.index(run.task) if run.task in ORDER else len(ORDER) + (run.task in LAST)
    return order, run.name
