"""The wheel: what it holds, and that its commands run away from the repository."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from kaleidobert import __version__

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy of what it is made of, by the setuptools of this environment."""
    pytest.importorskip("setuptools")
    pytest.importorskip("wheel")
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    shutil.copytree(ROOT / "kaleidobert", tree / "kaleidobert", symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "configs", tree / "configs")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "dataset/manifest.json", "checkpoint/manifest.json"):
        (tree / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    code = f"from setuptools import build_meta; build_meta.build_wheel({str(folder)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=tree, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = folder.glob("*.whl")
    shutil.rmtree(tree)
    return path


@pytest.fixture(scope="module")
def command(wheel):
    """Calls a command of the wheel alone in a folder, as the console command does."""
    place = wheel.parent / "installed"
    with zipfile.ZipFile(wheel) as file:
        file.extractall(place)
    code = f"import sys; sys.path[0] = {str(place)!r}; from kaleidobert.cli import main; sys.exit(main())"
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def call(folder: Path, *words: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-c", code, *words], cwd=folder, env=variables, text=True, capture_output=True)
    return call


def test_it_holds_the_package_and_its_files(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        metadata = file.read(f"kaleidobert-{__version__}.dist-info/METADATA").decode()
        entry = file.read(f"kaleidobert-{__version__}.dist-info/entry_points.txt").decode()
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "kaleidobert").rglob("*.py")}
    files = {f"kaleidobert/configs/yaml/{path.relative_to(ROOT / 'configs')}" for path in (ROOT / "configs").rglob("*.yaml")}
    others = {"kaleidobert/py.typed", "kaleidobert/model_zoo/weights/foreground_net.npz", "kaleidobert/remote/lists/dataset.json",
              "kaleidobert/remote/lists/checkpoint.json"}
    templates = {str(path.relative_to(ROOT)) for path in (ROOT / "kaleidobert/app_zoo").glob("*/templates/*")}
    assert len(templates) == 11 and {name for name in names if ".dist-info/" not in name} == modules | files | templates | others
    assert "kaleidobert = kaleidobert.cli:main" in entry
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert metadata.count("\nRequires-Dist: ") == len(project["dependencies"]) + sum(map(len, project["optional-dependencies"].values()))
    assert f"\nVersion: {__version__}\n" in metadata and "\nRequires-Python: >=3.11\n" in metadata and "# Kaleido-BERT" in metadata


def test_its_commands_run_in_an_empty_folder(command, tmp_path):
    done = command(tmp_path, "pretrain", "--help")
    assert done.returncode == 0 and "quickstart/pretrain" in done.stdout, done.stderr
    done = command(tmp_path, "synthesize", "quickstart/synthesize", "num_products=4", "views=1", "size=32", "workers=1")
    assert done.returncode == 0 and (tmp_path / "runs/quickstart/catalogue/products.jsonl").is_file(), done.stderr
    done = command(tmp_path, "quickstart", "--dry-run")
    assert done.returncode == 0 and done.stdout.startswith(f"in {tmp_path}:\n"), done.stderr
    done = command(tmp_path, "pretrain", "configs/pretrain.yaml")
    assert done.returncode == 2 and done.stderr.rstrip().endswith("by its name, such as pretrain"), done.stderr


@pytest.mark.parametrize("words, some", [([], "retrieve/"), (["manifest=checkpoint/manifest.json"], "pretrained")])
def test_it_knows_what_the_release_names(command, tmp_path, words, some):
    done = command(tmp_path, "fetch", "fetch", *words, "--dry-run")
    assert done.returncode == 0 and some in done.stdout, done.stderr
    assert f"into {tmp_path}/{'checkpoint' if words else 'dataset'}, from the addresses of the manifest" in done.stdout
    assert not list(tmp_path.iterdir())
