"""Keras's backend: what cannot be had is one message before anything is loaded, and commands that need none do not ask."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kaleidobert.app_zoo import backends
from kaleidobert.errors import UserError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A home of its own; the folder of keras.json, which is not there yet."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    return tmp_path / ".keras"


@pytest.fixture
def installed(monkeypatch):
    """A function: from now on only these libraries are found."""

    def only(*names: str) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: True if name in names else None)

    only("keras", "tensorflow", "jax", "torch")
    return only


def settings(home: Path, text: str) -> Path:
    home.mkdir(exist_ok=True)
    (home / "keras.json").write_text(text)
    return home / "keras.json"


def refused(*words: str) -> None:
    with pytest.raises(UserError) as error:
        backends.check()
    assert "\n" not in str(error.value) and all(word in str(error.value) for word in words), str(error.value)


def test_the_variable_counts_before_the_file_and_the_file_before_the_default(home, installed, monkeypatch, tmp_path):
    assert backends.chosen() == ("tensorflow", "the default backend")
    path = settings(home, '{"backend": "jax"}')
    assert backends.chosen() == ("jax", str(path))
    monkeypatch.setenv("KERAS_BACKEND", "")  # Keras passes over an empty one
    assert backends.chosen() == ("jax", str(path))
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    assert backends.chosen() == ("tensorflow", "KERAS_BACKEND")
    backends.check()
    monkeypatch.delenv("KERAS_BACKEND")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "other"))
    assert backends.chosen()[0] == "tensorflow"
    path = settings(tmp_path / "other", '{"backend": "jax", "floatx": "float32", "image_data_format": "channels_last", "epsilon": 1e-7}')
    assert backends.chosen() == ("jax", str(path))
    backends.check()


@pytest.mark.parametrize("text", ["", "\n"])
def test_a_file_that_another_process_is_writing_names_nothing(home, installed, text):
    settings(home, text)
    backends.check()


def test_words_that_name_no_backend(home, installed, monkeypatch):
    for word, fix in (("jaxx", "did you mean 'jax'?"), ("TensorFlow", "did you mean 'tensorflow'?"), ("jax ", "did you mean 'jax'?"),
                      ("three", "set KERAS_BACKEND=tensorflow"), ("a\nb", "there is no backend 'a\\nb'")):
        monkeypatch.setenv("KERAS_BACKEND", word)
        refused("KERAS_BACKEND: there is no backend", "expected: tensorflow or jax or torch", fix)
    for word in ("numpy", "openvino"):
        monkeypatch.setenv("KERAS_BACKEND", word)
        refused(f"KERAS_BACKEND: the backend '{word}' is not supported yet; expected: tensorflow or jax or torch; to fix: set "
                "KERAS_BACKEND=tensorflow")
    monkeypatch.delenv("KERAS_BACKEND")
    for value in ("numpy", None, 3, ["jax"]):
        path = settings(home, json.dumps({"backend": value}))
        refused(f"{path}: ", repr(value), "tensorflow or jax or torch")


def test_backends_that_are_not_installed(home, installed, monkeypatch):
    installed("keras", "tensorflow")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    refused("KERAS_BACKEND: jax is not installed; to fix: pip install jax, or set KERAS_BACKEND=tensorflow")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    refused("KERAS_BACKEND: torch is not installed; to fix: pip install torch, or set KERAS_BACKEND=tensorflow")
    installed("keras", "torch")
    backends.check()
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    installed("keras", "jax")
    backends.check()
    monkeypatch.delenv("KERAS_BACKEND")
    refused("the default backend: tensorflow is not installed; to fix: pip install tensorflow, or set KERAS_BACKEND=jax")
    path = settings(home, '{"backend": "tensorflow"}')
    refused(f"{path}: tensorflow is not installed")
    installed("keras")
    refused("to fix: pip install tensorflow")
    settings(home, '{"backend": "three"}')
    refused("to fix: install tensorflow or jax or torch")
    settings(home, "{}")
    installed("tensorflow")
    refused("this Python: keras is not installed; to fix: pip install keras")


def test_settings_that_cannot_be_read(home, installed, monkeypatch):
    for text in ('{"backend": "jax"', "backend: jax", "\x00"):
        path = settings(home, text)
        refused(f"{path}: the settings of Keras are not JSON", "delete it")
    path.write_bytes(b"\xff\xfe\x00")
    refused("are not JSON")
    settings(home, "[]")
    refused("the settings of Keras are a list")
    path.unlink()
    path.mkdir()
    refused(f"{path}: the settings of Keras cannot be read (Is a directory)")


@pytest.mark.parametrize(("key", "value"), [("floatx", "float16"), ("floatx", "bfloat3"), ("image_data_format", "channels_first")])
def test_settings_that_the_networks_are_not_made_for(home, installed, key, value):
    path = settings(home, json.dumps({key: value}))
    refused(f"{path}: {key} is '{value}'; expected: '{backends.SETTINGS[key]}'")


# --- commands ---------------------------------------------------------------------------------------------------------


def command(folder: Path, backend: str, *words: str, module: str = "kaleidobert.cli") -> subprocess.CompletedProcess:
    """A command line in a process of its own, in ``folder``, which is its home."""
    variables = os.environ | {"KERAS_BACKEND": backend, "HOME": str(folder), "PYTHONPATH": str(ROOT)}
    variables.pop("KERAS_HOME", None)
    return subprocess.run([sys.executable, "-m", module, *words], cwd=folder, env=variables, text=True, capture_output=True)


def test_commands_that_need_none_work_whatever_it_says(tmp_path):
    backend = "nonsense"
    rows = "".join(f"{query},{candidate},{int(query == candidate)},{number}\n" for query in "ab" for number, candidate in enumerate("abcd"))
    (tmp_path / "scores.csv").write_text(f"query,candidate,label,score\n{rows}")
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/one").write_text("1")
    (tmp_path / "manifest.json").write_text('{"files": [{"name": "one"}]}')
    for words in (["--help"], ["--version"], ["pretrain", "--help"],
                  ["evaluate", "scores=scores.csv", "direction=i2t", "run=runs/evaluated", "--dry-run"],
                  ["evaluate", "scores=scores.csv", "direction=i2t", "run=runs/evaluated"],
                  ["tables", "runs", "out=tables"], ["fetch", "manifest=manifest.json", "mirror=mirror", "into=fetched"],
                  ["synthesize", "catalogue=drawn", "num_products=4", "views=1", "size=32", "workers=1"]):
        done = command(tmp_path, backend, *words)
        assert done.returncode == 0, (words, done.stderr[-2000:])
    assert json.loads((tmp_path / "runs/evaluated/results.json").read_text())["metrics"]["rank@1"]["value"] == 0
    assert (tmp_path / "fetched/one").read_text() == "1" and (tmp_path / "drawn/products.jsonl").is_file()
    done = command(tmp_path, backend, "runs", module="kaleidobert.app_zoo.tables")
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(("backend", "text", "message"), [
    ("openvino", "", "KERAS_BACKEND: the backend 'openvino' is not supported yet"),
    ("nonsense", "", "KERAS_BACKEND: there is no backend 'nonsense'"),
    ("", '{"backend": "numpy"}', ".keras/keras.json: the backend 'numpy' is not supported yet"),
    ("", "{", ".keras/keras.json: the settings of Keras are not JSON")], ids=["openvino", "nonsense", "file", "no JSON"])
def test_commands_that_need_one_say_it_in_a_line(tmp_path, backend, text, message):
    settings(tmp_path / ".keras", text)
    for words in (["pretrain", "data.bank=none", "run=run"], ["records", str(ROOT / "configs/quickstart/records.yaml"), "--dry-run"]):
        done = command(tmp_path, backend, *words)
        assert done.returncode == 2 and not done.stdout and len(done.stderr.splitlines()) == 1, done.stderr[-2000:]
        assert done.stderr.startswith(f"kaleidobert {words[0]}: ") and message in done.stderr
    done = command(tmp_path, backend, "i2t", str(ROOT / "configs"), "data.bank=b", module="kaleidobert.released_cli")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and message in done.stderr


def test_an_installation_that_does_not_load_is_one_line_too(tmp_path):
    (tmp_path / "jax").mkdir()
    code = "import sys\nprint('a warning', file=sys.stderr)\nraise ImportError('libcuda.so:\\nnot here')\n"
    (tmp_path / "jax/__init__.py").write_text(code)
    done = command(tmp_path, "jax", "retrieve", "data.bank=none", "run=run", "direction=i2t")  # -m looks in the current folder first
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr[-2000:]
    assert "KERAS_BACKEND: Keras cannot be loaded with jax (ImportError: libcuda.so: not here)" in done.stderr
