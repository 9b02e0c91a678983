"""scripts/quickstart.sh --reduced runs every command of the quickstart, from the script to the report.

The order of its commands and what ends it: tests/app_zoo/test_quickstart.py; the scripts with stand-ins: tests/test_scripts.py.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kaleidobert.app_zoo import quickstart

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
# Python of an environment in which the package is installed: nothing is installed by a test
PYTHON = """#!/bin/sh
case "$1 $2" in
"-c import sys; print(sys.prefix)") echo "{environment}" ;;
"-m pip") ;;
*) exec "{python}" "$@" ;;
esac
"""


@pytest.fixture
def project(tmp_path) -> Path:
    """A copy of the package: the quickstart writes its results beside the configurations, where those of this user may lie."""
    for name in ("kaleidobert", "configs", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / "project" / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path / "project")
    programs = tmp_path / "environment/bin"
    programs.mkdir(parents=True)
    (programs / "python").write_text(PYTHON.format(environment=programs.parent, python=sys.executable))
    (programs / "kaleidobert").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kaleidobert.cli "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    return tmp_path / "project"


def test_it_runs(project, tmp_path):
    environment = tmp_path / "environment"
    variables = os.environ | {"VIRTUAL_ENV": str(environment), "PATH": f"{environment / 'bin'}:{os.environ['PATH']}",
                              "PYTHONPATH": f"{project}:{os.environ.get('PYTHONPATH', '')}", "CUDA_VISIBLE_DEVICES": "-1"}
    words = ["sh", "scripts/quickstart.sh", "--reduced"]
    done = subprocess.run(words, cwd=project, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    print(done.stdout)  # pytest shows it where the test fails
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    steps = sorted(quickstart.STEPS, key=lambda step: step.beside)  # what ran beside the others is shown behind them
    assert [line for line in lines if line.startswith("== ") and "," not in line] == [f"== {step.name}" for step in steps]
    results = project / quickstart.REDUCED_FOLDER
    assert all((results / name).is_file() for name in ("report.html", "tables.md", "pages/index.html"))
