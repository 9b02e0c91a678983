"""``kaleidobert tables``: results of finished runs in the layout of the paper's Tables 2 and 3, the paper's rows beside ours."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kaleidobert import io
from kaleidobert.configs import TablesConfig
from kaleidobert.errors import UserError
from kaleidobert.evaluators.report.tables import TASKS, Result, kind, markdown, tables, to_json


def write(run: Path, results: Mapping[str, Any]) -> Path:
    """table.md in a run's folder, of its own results: the tables that they fill. Returns its path.

    results: as in results.json. Raises UserError where an entry is missing.
    """
    path = run / "table.md"
    result = Result(run.name, str(run / "results.json"), results, _source(results))
    io.write_text(path, "\n".join(map(markdown, tables([result]))))
    return path


def dry_run(config: TablesConfig) -> None:
    """Name the runs whose results would be used, and those that no table has room for."""
    found = _read(config)
    if config.out is not None:
        io.check_folder(config.out, "choose another folder with out=...")
    made = tables(found)
    print(f"{len(found)} results files: {'; '.join(table.title for table in made)}")
    for result in found:
        print(f"  {kind(result)}: {Path(result.where).parent}")


def run(config: TablesConfig) -> None:
    """Print the tables as Markdown, or write tables.md and tables.json into ``out``."""
    found = _read(config)
    made = tables(found)
    text = "\n".join(map(markdown, made))
    if config.out is None:
        print(text, end="")
        return
    with io.locked(config.out, wait=10, name=".tables.md.lock"):  # both files are of the same tables
        io.write_text(config.out / "tables.md", text)
        io.write_json(config.out / "tables.json", {"runs": [str(Path(result.where).parent) for result in found],
                                                      "tables": [to_json(table) for table in made]})
    print(f"{len(found)} runs in {len(made)} tables, the paper's figures beside them:\n  {config.out / 'tables.md'}\n"
          f"  {config.out / 'tables.json'}")


def _read(config: TablesConfig) -> list[Result]:
    """The results below the folders, each once, in the order of their names; the paths that they differ in are their names."""
    paths: dict[Path, None] = {}
    for folder in config.runs:
        if not folder.is_dir():
            raise UserError("there is no such folder", str(folder), "the folder of a run, or one that holds such folders")
        own = folder / "results.json"
        below = [own] if own.is_file() else sorted(folder.rglob("results.json"))
        if not below:
            raise UserError("no run below this folder has finished", str(folder), "a results.json", "name the folder of a finished run")
        paths |= dict.fromkeys(path.absolute() for path in below)
    if not paths:
        raise UserError("no run is named", "tables", "folders of runs", "say kaleidobert tables runs/i2t runs/t2i")
    shared = Path(os.path.commonpath([path.parent.parent for path in paths]))
    found: list[Result] = []
    others: list[Result] = []
    for path in paths:
        values = io.read_json(path)
        result = Result(path.parent.relative_to(shared).as_posix(), str(path), values, _source(values))
        (found if kind(result) else others).append(result)
    if others:
        print("not in these tables: " + ", ".join(f"{result.name} ({result.text('task')})" for result in others), file=sys.stderr)
    if not found:
        raise UserError("none of the runs has a place in these tables", str(shared), f"results of {', '.join(TASKS)}")
    return found


def _source(results: Any) -> str:
    """Of what a result's bank was made; "" where the bank is not at hand."""
    folder = Result("", "", results).find("bank", "folder")
    if not isinstance(folder, str) or not (Path(folder) / "index.json").is_file():
        return ""
    source = Result("", "", io.read_json(Path(folder) / "index.json")).find("config", "source")
    if not isinstance(source, Mapping):
        return ""
    if str(source.get("kind", "")).startswith("fashion_gen"):
        return "Fashion-Gen"
    return f"catalogue {'/'.join(Path(str(source.get('table'))).parts[-2:])}"
