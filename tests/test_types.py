"""The annotations of the package agree with each other and with its code, as far as mypy can tell."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.quick import kept

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = ("--ignore-missing-imports", "--follow-imports=silent", "--disallow-incomplete-defs", "--no-error-summary")


def mypy() -> str | None:
    """KALEIDO_MYPY, for one in another environment, or the one beside this Python, or on the path."""
    beside = Path(sys.executable).with_name("mypy")
    return os.environ.get("KALEIDO_MYPY") or (str(beside) if beside.is_file() else shutil.which("mypy"))


def test_the_package_is_clean(request, tmp_path):
    program = mypy()
    if program is None:
        pytest.skip("mypy is not installed (pip install mypy, or set KALEIDO_MYPY to one elsewhere)")
    words = [program, "--python-executable", sys.executable, "--cache-dir", str(kept(request.config, "mypy", tmp_path)), *SETTINGS]
    done = subprocess.run([*words, "kaleidobert"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert not errors, "\n".join(errors)
