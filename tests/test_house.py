"""The house rules that a program can hold: import directions, function sizes, quiet imports."""

import ast
import subprocess
import sys
from pathlib import Path

import keras
import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "kaleidobert"
FILES = sorted(PACKAGE.rglob("*.py"))
BASE = {"levels", "errors", "io", "specs", "table_text", "keras_private", "devices"}
CONFIGURED = BASE | {"configs"}
SIBLINGS = ("preprocessors", "layers", "losses", "evaluators", "drawing", "remote")  # never import each other
MODELS = CONFIGURED | {"layers", "model_zoo"}
MAY_IMPORT = {
    **dict.fromkeys(SIBLINGS, CONFIGURED), "configs": BASE,
    "datasets": CONFIGURED | {"preprocessors", "drawing"},
    "model_zoo": MODELS,
    "engines": MODELS | {"losses", "evaluators"},
    "released": MODELS | {"engines", "evaluators", "datasets", "preprocessors", "remote"},
    "app_zoo": {*CONFIGURED, *SIBLINGS, "datasets", "model_zoo", "engines", "released"},
    "cli": CONFIGURED | {"app_zoo"},
    "released_cli": CONFIGURED | {"app_zoo", "cli"},
    "__init__": {"app_zoo"},  # kaleidobert.load, when it is called
}
NO_TENSORFLOW = {"preprocessors", "evaluators", "datasets", "losses", "layers", "drawing", "remote"}
KERAS_HOOKS = {name for kind in (keras.Model, keras.optimizers.Adam) for name in dir(kind) if name[0] == "_" != name[1]}
TENSORFLOW_ALONE = {"layers/cpu_fusion.py"}  # what only TensorFlow needs and only TensorFlow can do


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
    place = path.relative_to(PACKAGE).with_suffix("").parts[0]
    rooms = {name.split(".")[1] for name in imports(path) if name.startswith("kaleidobert.")}
    rooms.discard("__version__")
    assert rooms <= MAY_IMPORT.get(place, BASE) | {place}
    if place in NO_TENSORFLOW and str(path.relative_to(PACKAGE)) not in TENSORFLOW_ALONE:
        assert not any(name.split(".")[0] == "tensorflow" for name in imports(path))


def test_no_module_imports_itself_by_way_of_others():
    """Function-level imports count, too: a circle that is hidden in a function is one."""
    names = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}
    waiting = {name: {other for other in imports(path) if other in names and other != name and not name.startswith(f"{other}.")}
               for name, path in names.items()}
    while free := {name for name, others in waiting.items() if not others & waiting.keys()}:
        waiting = {name: others for name, others in waiting.items() if name not in free}
    assert not waiting


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_private_names_of_keras_stand_in_one_module(path):
    """An attribute with a leading underscore belongs to the file that defines it; those of Keras and TensorFlow are in keras_private."""
    if path.name == "keras_private.py":
        return
    assert not {name for name in imports(path) if name.startswith(("keras.src", "tensorflow.python"))}
    nodes = list(ast.walk(ast.parse(path.read_text())))
    own = {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    own |= {node.attr for node in nodes
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self"}
    own |= {field.target.id for node in nodes if isinstance(node, ast.ClassDef) for field in node.body
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)}
    foreign = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute) and node.attr not in own
               and node.attr.startswith("_") and not node.attr.startswith("__")}
    assert foreign <= {"os._exit"}  # the standard library's
    assert not own & KERAS_HOOKS, "overrides a private method of Keras"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_functions_stay_small_and_no_except_is_bare(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, node.name
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None)


def test_reading_the_command_line_loads_no_network_library():
    code = "import sys, kaleidobert.cli as c; c.parser(); sys.exit(any(m in sys.modules for m in ('keras', 'tensorflow')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent).returncode == 0
