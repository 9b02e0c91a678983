"""The annotations of the package agree with each other and with its code, as far as mypy can tell."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = ("--ignore-missing-imports", "--follow-imports=silent", "--disallow-incomplete-defs", "--no-error-summary")


def mypy() -> str | None:
    """KALEIDO_MYPY, for one in another environment, or the one beside this Python, or on the path."""
    beside = Path(sys.executable).with_name("mypy")
    return os.environ.get("KALEIDO_MYPY") or (str(beside) if beside.is_file() else shutil.which("mypy"))


@pytest.fixture
def cache(request, tmp_path) -> Path:
    """Where mypy keeps what it knows: pytest's own folder, so that a second run takes a tenth of the time."""
    kept = getattr(request.config, "cache", None)
    return kept.mkdir("mypy") if kept is not None else tmp_path


def test_the_package_is_clean(cache):
    program = mypy()
    if program is None:
        pytest.skip("mypy is not installed (pip install mypy, or set KALEIDO_MYPY to one elsewhere)")
    done = subprocess.run([program, "--python-executable", sys.executable, "--cache-dir", str(cache), *SETTINGS, "kaleidobert"],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert not errors, "\n".join(errors)
