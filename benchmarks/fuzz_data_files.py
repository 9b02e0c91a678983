"""Fuzz the reader of the released text files: random schemas, lines, lists and positions against a reference in plain Python.

    python -m benchmarks.fuzz_data_files --seconds 600 --seed 0

Every line must give the reference's bits, or a UserError that names the same file, line, column and mistake, whether numba
or Python reads the numbers, in one thread or three, in a row or by its number. Anything else, a warning included, is a finding: it
is printed with seed, schema and line, and the exit status is 1. The reference (fuzz_reference.py) shares no code with the reader.
"""

import argparse
import contextlib
import random
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks import fuzz_drawing, fuzz_reference, fuzzing, report
from benchmarks.fuzz_reference import Refused
from kaleidobert.errors import UserError
from kaleidobert.released import files
from kaleidobert.released import numbers as released_numbers
from kaleidobert.released import schema as released_schema
from kaleidobert.released.files import Line, Position, Row
from kaleidobert.released.schema import Schema

NAMES = ("rows", "rows 1", "été", "7x", "-", "٣", ".x", "a,b")  # of data files
THREADS = (1, 3)


class Difference(Exception):
    """Reader and reference do not agree."""


class Fuzz:
    """One case after the other in a folder; ``context`` is what a finding needs to be understood, ``counts`` what was covered."""

    def __init__(self, folder: Path):
        self.folder, self.counts = folder, Counter()
        self.context: dict[str, Any] = {}
        (folder / "lists").mkdir()
        (folder / "a folder").mkdir()

    def case(self, rng: random.Random) -> None:
        """Checks one schema, some files, a list; raises Difference, or whatever the reader should not have raised."""
        schema = fuzz_drawing.schema(rng)
        self.context = {"schema": str(schema), "encoding": schema.encoding}
        same("schema", released_schema.parse(str(schema), "flag", schema.encoding).columns, schema.columns)
        paths, contents, tags = [], [], {}
        for name in rng.sample(NAMES, rng.randint(1, 3)):
            content, label = fuzz_drawing.file(rng, schema, tags)
            self.counts[f"file: {label}"] += 1
            path = self.folder / {"a folder": "a folder", "long name": "x" * 300}.get(label, name)
            (self.folder / name).unlink(missing_ok=True)
            if content is not None:
                path.write_bytes(content)
            paths.append(path)
            contents.append(content)
        longest = rng.randint(20, 2000) if rng.random() < 0.1 else files.MAX_LINE
        with warnings.catch_warnings(), self.limits(rng, longest, sum(map(len, filter(None, contents)))):
            warnings.simplefilter("error")
            expected_lines = self.index(rng, paths, contents, schema, longest, tags)
            inside = [after for *_, after in rng.sample(expected_lines, min(2, len(expected_lines)))]
            positions = [Position(), *inside, fuzz_drawing.position(rng, contents)]
            for position in positions:
                with self.numbers(rng.random() < 0.5):
                    self.rows(rng, paths, contents, schema, position, longest)
            self.listing(rng, paths)

    @contextlib.contextmanager
    def limits(self, rng: random.Random, longest: int, size: int) -> Iterator[None]:
        """Makes blocks so small that lines reach over many of them, but few enough in all files together."""
        buffer, block = (max(rng.choice((2, 7, 64, 1 << 16)), size // 500) for _ in range(2))
        with (mock.patch.object(files, "BUFFER", buffer), mock.patch.object(files, "BLOCK", block),
              mock.patch.object(files, "MAX_LINE", longest)):
            yield

    @contextlib.contextmanager
    def numbers(self, compiled: bool) -> Iterator[None]:
        """Has numbers read by numba, or as where numba is not installed."""
        self.context["numbers by"] = "numba" if compiled and released_numbers.compiled() else "Python"
        with contextlib.nullcontext() if compiled else mock.patch.object(released_numbers, "_loops", lambda: None):
            yield

    def index(self, rng: random.Random, paths: list[Path], contents: list[bytes | None], schema: Schema, longest: int,
              tags: dict[bytes, str]) -> list[tuple[bytes, str, Position]]:
        """Checks every line by its number, in any order, and its row; returns the lines of files that have no fault as files."""
        expected_lines, refused = listed(fuzz_reference.lines(paths, contents, Position(), longest))
        index, error = attempt(lambda: files.LineIndex.scan(paths))
        self.agree("Index.scan", error, refused)
        if refused:
            return expected_lines
        same("lines in the index", len(index), len(expected_lines))
        for number in rng.sample(range(len(expected_lines)), len(expected_lines)):
            text, where, after = expected_lines[number]
            self.context["line"] = text
            line = index.line(number)
            ended = contents[after.file][after.offset - 1 : after.offset] == b"\n"
            same("Index.line", line, Line(text, where, after, ended))
            same_file = number + 1 < len(expected_lines) and expected_lines[number + 1][2].file == after.file
            same("Index.position", index.position(number + 1).offset, after.offset if same_file else 0)
            self.line(rng, line, schema, tags.get(text, "newline"))
        return expected_lines

    def line(self, rng: random.Random, line: Line, schema: Schema, tag: str) -> None:
        """Checks one line, by both ways of reading numbers, and some of its columns alone."""
        row, refused = attempt(lambda: fuzz_reference.row(line.content, line.where, schema))
        self.counts[f"lines, {tag}: {'refused' if refused else 'valid'}"] += 1
        for column in schema.columns if not refused else [schema.column(refused.column)] if refused.column else []:
            shape = f" {'scalar' if column.length == 1 else 'vector'}" if column.type in ("int", "float") else ""
            self.counts[f"columns, {column.type}{shape}: {'refused' if refused else 'valid'}"] += 1
        only = rng.sample(schema.names, rng.randint(1, len(schema.names)))
        for compiled in (True, False):
            with self.numbers(compiled):
                got, error = attempt(lambda: files.parse(line, schema))
                self.agree("parse", error, refused)
                if error is None:
                    same_row(got, row, schema)
                    some = files.parse(line, schema, only)
                    same_row(some, {name: row[name] for name in schema.names if name in only}, schema)

    def rows(self, rng: random.Random, paths: list[Path], contents: list[bytes | None], schema: Schema, position: Position,
             longest: int) -> None:
        """Checks all rows from a position on, up to the first mistake, in one thread and in several, and batches of them."""
        self.context |= {"position": position, "line": "of all files: " + repr(contents)}
        expected, refused = listed(fuzz_reference.rows(paths, contents, schema, position, longest))
        for threads in THREADS:
            self.context["threads"] = threads
            got, error = listed(files.rows(paths, schema, position, threads))
            self.agree("rows", error, refused)
            same("positions", [after for after, _ in got], [after for after, _ in expected])
            for (_, mine), (_, other) in zip(got, expected):
                same_row(mine, other, schema)
        size, start = rng.randint(1, 4), 0
        for after, batch in files.batches(iter(got), size):
            held = expected[start : start + size]
            start += len(held)
            same("position after a batch", after, held[-1][0])
            for column in schema.columns:
                values, whole = [row[column.name] for _, row in held], batch[column.name]
                same("batch", (len(whole), whole.tolist() if column.type == "str" else whole.tobytes()),
                     (len(held), [[value] for value in values] if column.type == "str" else b"".join(values)))
        same("rows in batches", start, len(expected))

    def listing(self, rng: random.Random, paths: list[Path]) -> None:
        """Checks a list file that names these files, and others."""
        root = self.folder if rng.random() < 0.3 else None
        path, content = self.folder / "lists" / "list", fuzz_drawing.list_file(rng, paths)
        path.write_bytes(content)
        self.context |= {"line": "of a list: " + repr(content), "root": root}
        folders = ["", str(path.parent), str(self.folder)] if root is None else [str(root)]
        expected, refused = attempt(lambda: fuzz_reference.names(path, content, folders))
        got, error = attempt(lambda: files.read_list(path, root))
        self.agree("read_list", error, refused)
        same("files of the list", got, expected)
        self.counts[f"lists: {'refused' if refused else 'valid'}"] += 1

    def agree(self, what: str, error: UserError | None, refused: Refused | None) -> None:
        """Checks that both went well, or both refused the same thing at the same position."""
        self.counts[f"checks, {what}"] += 1
        if (error is None) != (refused is None) or (error and not (error.where == refused.where and error.what.startswith(refused.what))):
            raise Difference(f"{what}: the reader says {error!r}, the reference {refused!r}")


def attempt(call: Callable[[], Any]) -> tuple[Any, Any]:
    """Returns what a call returns, and None; or None, and the UserError or Refused that it raises."""
    try:
        return call(), None
    except (UserError, Refused) as error:
        return None, error


def listed(source: Iterator[Any]) -> tuple[list[Any], Any]:
    """Returns what an iterator gives, and the UserError or Refused that ends it."""
    result: list[Any] = []
    try:
        for each in source:
            result.append(each)
    except (UserError, Refused) as error:
        return result, error
    return result, None


def same(what: str, mine: Any, other: Any) -> None:
    """Raises Difference where two values are not equal."""
    if mine != other:
        raise Difference(f"{what}: the reader gives {mine!r}, the reference {other!r}")


def same_row(row: Row, expected: dict[str, bytes | str], schema: Schema) -> None:
    """Raises Difference unless both have the same columns in the same order, with the same bits, types and shapes."""
    same("columns", list(row), list(expected))
    for name, value in expected.items():
        column, mine = schema.column(name), row[name]
        if column.type == "str":
            same(f"column {name}", (type(mine), mine), (str, value))
            continue
        dtype = np.float32 if column.type != "int" else np.int32 if column.length == 1 else np.int64
        same(f"type and shape of column {name}", (mine.dtype, mine.shape), (np.dtype(dtype), (column.length,)))
        size = mine.itemsize
        for number in range(column.length) if mine.tobytes() != value else ():
            position = slice(number * size, (number + 1) * size)
            same(f"column {name}, number {number + 1}", mine.tobytes()[position], value[position])


def run(seed: int, seconds: float, cases: int | None = None, first: int = 0) -> tuple[int, Counter]:
    """Returns (findings: 0 or 1, counts), as fuzzing.run."""
    released_numbers.floats(b"1", 1), released_numbers.integers(b"1", 1)  # numba compiles, and warns of its own affairs
    return fuzzing.run(Fuzz, seed, seconds, cases, first)


def main(arguments: list[str] | None = None) -> int:
    """Runs the program; returns the exit status: 0 nothing found, 1 a finding."""
    parser = argparse.ArgumentParser("python -m benchmarks.fuzz_data_files", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=report.positive, default=600, help="of CPU time; default: 600")
    parser.add_argument("--cases", type=report.positive, help="stop after so many cases instead")
    parser.add_argument("--first", type=int, default=0, help="number of the first case: a finding names it; default: 0")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    result, counts = run(options.seed, options.seconds, options.cases, options.first)
    for name, count in sorted(counts.items()):
        print(f"{name:45} {count:12,}")
    return result


if __name__ == "__main__":
    sys.exit(main())
