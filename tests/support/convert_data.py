"""Shared by the tests of ``kaleidobert convert``: the command in this process."""

import contextlib
import io
from pathlib import Path

from kaleidobert import cli
from tests.support.apps_data import Done


def convert(source: Path, target: Path, *words: str) -> Done:
    """The command line; words: overrides, a configuration file."""
    first = [word for word in words if word.endswith(".yaml")]
    rest = [word for word in words if word not in first]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(["convert", *first, f"source={source}", f"target={target}", *rest])
    return Done(status, out.getvalue(), err.getvalue())


def done(source: Path, target: Path, *words: str) -> list[str]:
    """The command, which must succeed; the lines that list what is missing (-) or skipped (+)."""
    outcome = convert(source, target, *words)
    assert outcome.status == 0, outcome.err
    return [line for line in outcome.out.splitlines() if line[:2] in ("- ", "+ ")]
