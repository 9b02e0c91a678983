"""The house rules that a program can hold: import directions, function sizes, quiet imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "kaleidobert"
FILES = sorted(PACKAGE.rglob("*.py"))
BASE = {"levels", "errors", "files", "locks", "addresses", "specs", "configs", "configs_data", "configs_records", "configs_training",
        "configs_evaluation", "config_files"}
MAY_IMPORT = {  # siblings (preprocessors, layers, losses, evaluators) never import each other
    "preprocessors": BASE, "layers": BASE, "losses": BASE, "evaluators": BASE,
    "datasets": BASE | {"preprocessors"},
    "model_zoo": BASE | {"layers"},
    "engines": BASE | {"losses", "evaluators", "layers", "model_zoo"},
}
NO_TENSORFLOW = {"preprocessors", "evaluators", "datasets", "losses", "layers"}
TENSORFLOW_ALONE = {"layers/fusion_tensorflow.py"}  # what only TensorFlow needs and only TensorFlow can do


def imports(path: Path) -> set[str]:
    """Full names of the modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    place = path.relative_to(PACKAGE).parts[0]
    rooms = {name.split(".")[1] for name in imports(path) if name.startswith("kaleidobert.")}
    rooms.discard("__version__")
    if place in MAY_IMPORT:
        assert rooms <= MAY_IMPORT[place] | {place}
    elif place != "app_zoo":
        assert rooms <= BASE
    if place in NO_TENSORFLOW and str(path.relative_to(PACKAGE)) not in TENSORFLOW_ALONE:
        assert not any(name.split(".")[0] == "tensorflow" for name in imports(path))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_functions_stay_small_and_no_except_is_bare(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, node.name
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None)


def test_reading_the_command_line_loads_no_network_library():
    code = "import sys, kaleidobert.app_zoo.cli as c; c.parser(); sys.exit(any(m in sys.modules for m in ('keras', 'tensorflow')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent).returncode == 0
