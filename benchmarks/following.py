"""Time how a bank follows its catalogue: one product is added, gets another picture, gets another text, is removed, each in the middle of
the table; and compare every bank, byte for byte, with one that is made from nothing in its place.

Words as on the command line of `kaleidobert records` change configs/quickstart/records.yaml. The catalogue is drawn. Wall and CPU seconds
are those of the whole command, its start included.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks import report
from kaleidobert import io
from kaleidobert.drawing import catalogue as synthetic
from kaleidobert.errors import UserError

Rows = list[dict[str, Any]]


def main(arguments: list[str] | None = None) -> int:
    """Runs the program; returns the exit status, 1 where a bank is not the one made from nothing."""
    parser = argparse.ArgumentParser("python -m benchmarks.following", description=__doc__)
    parser.add_argument("--products", type=report.positive, default=1000, help="default: 1000")
    parser.add_argument("--side", type=report.positive, default=96, help="pixels of a picture; default: 96")
    parser.add_argument("--unchecked", action="store_true", help="make only the first bank from nothing")
    parser.add_argument("words", nargs="*", metavar="key=value", help="changes of records.yaml")
    options = parser.parse_intermixed_args(arguments)
    with tempfile.TemporaryDirectory(prefix="kaleido-benchmark-") as folder:
        return run(options, Path(folder))


def run(options: argparse.Namespace, folder: Path) -> int:
    """Measures and prints; returns the exit status."""
    synthetic.write_catalogue(folder / "catalogue", options.products + 1, views=1, size=options.side)
    table, bank = folder / "catalogue/products.jsonl", folder / "bank"
    rows = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()]
    middle = options.products // 2
    late = rows.pop(middle)
    write(table, rows)
    command = [sys.executable, "-m", "kaleidobert.cli", "records", "quickstart/records", f"source.table={table}", f"bank={bank}",
               *options.words]
    print(json.dumps(report.machine()))
    print("| | wall s | CPU s | made from nothing, wall s | CPU s | the same bytes |\n|---|---:|---:|---:|---:|---|")
    wall, cpu = timed(command)
    print(f"| all {options.products:,} products | {wall:.1f} | {cpu:.1f} | | | |", flush=True)
    equal = True
    for name, change in changes(rows, middle, late, table.parent).items():
        change()
        write(table, rows)
        wall, cpu = timed(command)
        line = f"| {name} | {wall:.1f} | {cpu:.1f} |"
        if not options.unchecked:
            followed = folder / "followed"
            bank.rename(followed)
            anew = timed(command)
            same = contents(followed) == contents(bank)
            equal &= same
            shutil.rmtree(followed)
            line += f" {anew[0]:.1f} | {anew[1]:.1f} | {'yes' if same else 'NO'} |"
        print(line, flush=True)
    return 0 if equal else 1


def changes(rows: Rows, middle: int, late: dict[str, Any], folder: Path) -> dict[str, Callable[[], Any]]:
    """Returns {change: a function that applies it to the rows or the pictures}; each is applied upon the one before."""
    def other_picture() -> None:
        path = folder / rows[middle + 1]["image"]
        path.unlink()
        shutil.copyfile(folder / rows[middle - 1]["image"], path)
        with open(path, "ab") as file:  # other bytes: it counts as a picture that no product had
            file.write(b"\0")

    return {"one product added": lambda: rows.insert(middle, late), "one picture changed": other_picture,
            "one text changed": lambda: rows[middle - 3].update(text=f"{rows[middle - 3]['text']} New this season."),
            "one product removed": lambda: rows.pop(middle + 5)}


def write(table: Path, rows: Rows) -> None:
    """Writes the catalogue."""
    io.write_text(table, "".join(json.dumps(row) + "\n" for row in rows))


def timed(command: list[str]) -> tuple[float, float]:
    """Runs a command; returns (wall seconds, CPU seconds of it and of its processes)."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])})
    if done.returncode:
        raise UserError(f"the command failed: {done.stderr[-500:]}", " ".join(command))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return perf_counter() - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def contents(bank: Path) -> dict[str, str]:
    """Returns {name: SHA-256} of the index and of every file that it names."""
    return {name: io.sha256(bank / name) for name in ("index.json", *io.read_json(bank / "index.json")["files"])}


if __name__ == "__main__":
    sys.exit(main())
