"""Where runs come from: which run started from which, the banks, checksums, code and versions, machines, time, and configurations."""

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kaleidobert import configs, io
from kaleidobert.app_zoo import commands
from kaleidobert.app_zoo.processes import duration
from kaleidobert.app_zoo.report.runs import ReportedRun
from kaleidobert.errors import UserError
from kaleidobert.io import sha256

SHORT = 12  # characters of a checksum
NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class Node:
    """A run with those that started from its weights."""

    run: ReportedRun
    start: str = ""  # of a run that starts from what is not on the page
    later: list["Node"] = field(default_factory=list)


@dataclass(frozen=True)
class BankFacts:
    """name: of its folder; facts: (what, value); runs: of those on the page."""

    name: str
    facts: tuple[tuple[str, str], ...]
    runs: tuple[str, ...]


def tree(runs: Sequence[ReportedRun]) -> list[Node]:
    """Returns the runs below those whose weights they started from."""
    nodes = {run.name: Node(run, _start(run)) for run in runs if run.result.group("model")}
    top: list[Node] = []
    for name, node in nodes.items():
        parent = _parent(node.run, runs)
        (nodes[parent].later if parent in nodes and parent != name else top).append(node)
    return top


def banks(runs: Sequence[ReportedRun], root: Path) -> list[BankFacts]:
    """Returns the banks of the runs, each once, with what their index says where it still lies there."""
    groups: dict[tuple[str, str], list[ReportedRun]] = {}
    for run in runs:
        if "folder" in run.result.group("bank"):
            groups.setdefault((str(run.result.find("bank", "folder")), str(run.result.find("bank", "sha256"))), []).append(run)
    return [BankFacts("/".join(Path(folder).parts[-2:]), tuple(_bank(each[0].result.group("bank"), root)), tuple(run.name for run in each))
            for (folder, _), each in groups.items()]


def find_bank(bank: Mapping[str, Any], root: Path) -> Path | None:
    """Returns where the bank of a result lies: where it was, or, where the runs were moved or copied together with it, below ``root``.

    None where there is none with the same index.
    """
    recorded = Path(str(bank.get("folder")))
    for folder in (recorded, root / recorded.name):
        index = folder / "index.json"
        if index.is_file() and sha256(index) == bank.get("sha256"):
            return folder
    return None


def _bank(bank: Mapping[str, Any], root: Path) -> list[tuple[str, str]]:
    splits = bank.get("splits") or {}
    patches, size, length, pieces = (bank.get(name, "?") for name in ("patches", "feature_size", "text_length", "vocabulary"))
    facts = [("pictures", ", ".join(f"{count:,} {split}" for split, count in splits.items()) or str(bank.get("pictures", ""))),
             ("features", f"{bank.get('encoder', 'unknown')}: {patches} patches of {size} numbers"),
             ("texts", f"{length} pieces at most, of a vocabulary of {pieces}"),
             ("labels", ", ".join(bank.get("labels") or []) or "none"), ("SHA-256 of its index", str(bank.get("sha256", NOT_RECORDED)))]
    folder = find_bank(bank, root)
    if folder is None:
        return [*facts, ("now", "not there any more, or made anew since")]
    index = io.read_json(folder / "index.json")
    source = (index.get("config") or {}).get("source") or {}
    facts.insert(0, ("made of", f"{source.get('kind', 'table')} {'/'.join(Path(str(source.get('table'))).parts[-2:])}"))
    facts.insert(1, ("left out", f"{index.get('skipped', 0):,} rows or pictures"))
    linked = folder / "alignment.json"
    if linked.is_file():
        facts.append(("links of words to patches", str(_read(linked).get("mode", NOT_RECORDED))))
    return facts


@dataclass(frozen=True)
class Origin:
    """What a run is made of, for a row of a table; shas are short."""

    run: str
    checkpoint: str
    bank: str
    lists: str
    code: str


def origins(runs: Sequence[ReportedRun]) -> list[Origin]:
    """Returns the checksums and the code of the runs."""
    return [Origin(run.name, short(run.result.find("checkpoint_sha256")), short(run.result.find("bank", "sha256")),
                   short(run.result.find("candidates", "sha256")), code(run)) for run in runs if run.result.group("model")]


def code(run: ReportedRun) -> str:
    """Returns the version of the package that made a run, and its commit where it ran out of a checkout."""
    version = run.result.find("versions", "kaleidobert") or find(run.environment, "versions", "kaleidobert") or NOT_RECORDED
    commit = find(run.environment, "code", "commit")
    return f"{version}" + (f", commit {short(commit)}{' with changes' * bool(find(run.environment, 'code', 'changed'))}" if commit else "")


@dataclass(frozen=True)
class Surroundings:
    """Of one run: when it ended, how long it took, in how many starts; versions, machine: "" where they are not recorded."""

    run: str
    ended: str
    took: str
    starts: int
    versions: str
    machine: str


def surroundings(runs: Sequence[ReportedRun]) -> list[Surroundings]:
    """Returns the environment of every run; of runs without an environment.json what results.json and its date tell."""
    return [_surroundings(run) for run in runs]


def _surroundings(run: ReportedRun) -> Surroundings:
    starts, seconds = run.environment.get("starts", []), _seconds(run)
    ended = str(starts[-1].get("ended")) if starts else datetime.fromtimestamp((run.folder / "results.json").stat().st_mtime,
                                                                               UTC).isoformat(timespec="seconds")
    versions = find(run.environment, "versions") or run.result.group("versions")
    machine = find(run.environment, "machine") or {}
    words = [str(machine[name]) for name in ("processor", "system") if machine.get(name)]
    words += [f"{machine['cores']} cores"] if machine.get("cores") else []
    words += [f"{machine['memory_gb']:g} GB"] if isinstance(machine.get("memory_gb"), int | float) else []
    words += [", ".join(map(str, machine["devices"]))] if isinstance(machine.get("devices"), list) else []
    return Surroundings(run.name, ended.replace("T", " ").replace("+00:00", " UTC"), duration(sum(seconds)) if seconds else NOT_RECORDED,
                        len(starts), ", ".join(f"{name} {value}" for name, value in versions.items()), "; ".join(words))


def total_time(runs: Sequence[ReportedRun]) -> str:
    """Returns the time of all runs together, "" where none has it."""
    known = [each for run in runs for each in _seconds(run)]
    return duration(sum(known)) if known else ""


def _seconds(run: ReportedRun) -> list[float]:
    """Returns how long each start of a run took."""
    return [float(start["seconds"]) for start in run.environment.get("starts", []) if isinstance(start.get("seconds"), int | float)]


def short(digest: object) -> str:
    """Returns the beginning of a checksum; "" where there is none."""
    return str(digest)[:SHORT] if digest else ""


def find(values: Mapping[str, Any], *keys: str) -> Any:
    """Returns the entry under nested keys, None where there is none."""
    value: Any = values
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _start(run: ReportedRun) -> str:
    start = run.result.find("model", "init")
    return "/".join(Path(str(start)).parts[-2:]) if start else ""


def _parent(run: ReportedRun, runs: Sequence[ReportedRun]) -> str | None:
    """Returns the name of the run whose weights a run started from: by its folder, and where runs were moved by the folder's name."""
    start = run.result.find("model", "init")
    if not start:
        return None
    folder = Path(str(start)).parent
    by_path = [other.name for other in runs if other.folder == folder.absolute()]
    by_name = [other.name for other in runs if other.folder.name == folder.name]
    return by_path[0] if by_path else by_name[0] if len(by_name) == 1 else None


def _read(path: Path) -> Mapping[str, Any]:
    try:
        made = io.read_json(path)
    except UserError:
        return {}
    return made if isinstance(made, Mapping) else {}


# --- Configurations as a difference: of each run to the packaged one of its command, and so to the other runs of that command


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
        cells = tuple((in_words(mine.get(key)), in_words(theirs.get(key))) for mine, theirs in zip(own, base))
        if key in paths:
            continue
        if len({mine for mine, _ in cells}) == 1 and not any(theirs for _, theirs in cells):
            filled, same = filled + bool(cells[0][0]), same + (not cells[0][0])
        elif all(mine == theirs for mine, theirs in cells):
            same += 1
        else:
            rows.append(Difference(key, cells))
    return Comparison(task, tuple((run.name, packaged_name(run)) for run, _ in runs), tuple(rows), same, filled)


def in_words(value: Any) -> str:
    """Returns a value of a configuration in words.

    >>> in_words(0.001), in_words(True), in_words([{"name": "rotation", "grid": 1}]), in_words(None)
    ('0.001', 'true', 'rotation 1', '')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        parts = [str(value[name]) for name in ("name", "grid", "pretext") if name in value]
        return " ".join(parts[:2]) if parts else ", ".join(f"{name}: {in_words(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(in_words, value))
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
