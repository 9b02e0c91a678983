"""Keras's backend, checked before Keras is loaded: what KERAS_BACKEND or keras.json names has to be supported and installed.

Keras reads ``backend`` from keras.json in the folder KERAS_HOME, or ~/.keras, and the variable KERAS_BACKEND counts before the file.
"""

import difflib
import importlib.util
import json
import os
from pathlib import Path
from typing import Any

from kaleidobert.errors import UserError

VARIABLE = "KERAS_BACKEND"
SUPPORTED = ("tensorflow", "jax", "torch")
UNSUPPORTED = ("numpy", "openvino")  # Keras has them; training here is written for the others
SETTINGS = {"floatx": "float32", "image_data_format": "channels_last"}  # what the networks are made for; train.precision says the rest


def check() -> None:
    """Raises UserError where Keras, or the backend that it will choose, is not there or not supported, and where keras.json cannot be read
    or asks for what the networks are not made for."""
    name, where = chosen()
    there = [backend for backend in SUPPORTED if _is_installed(backend)]
    other = next((backend for backend in there if backend != name), "")
    fix = f"set {VARIABLE}={other}" if other else ""
    if name not in SUPPORTED:
        near = difflib.get_close_matches(str(name).strip().lower(), SUPPORTED, 1)
        what = f"the backend {name!r} is not supported yet" if name in UNSUPPORTED else f"there is no backend {name!r}"
        fix = f"did you mean {near[0]!r}?" if near else fix or f"install {' or '.join(SUPPORTED)}"
        raise UserError(what, where, " or ".join(SUPPORTED), fix)
    for library in (name, "keras"):
        if not _is_installed(library):
            fix = f"pip install {library}" + (f", or {fix}" if fix and library == name else "")
            raise UserError(f"{library} is not installed", where if library == name else "this Python", fix=fix)


def chosen() -> tuple[Any, str]:
    """Returns (the backend that Keras will choose, where it is named). Raises UserError where keras.json is wrong."""
    path = settings_path()
    settings = _read(path)
    if os.environ.get(VARIABLE):
        return os.environ[VARIABLE], VARIABLE
    if "backend" in settings:
        return settings["backend"], str(path)
    return SUPPORTED[0], "the default backend"


def settings_path() -> Path:
    """Returns where Keras looks for keras.json, which need not exist."""
    home = os.path.expanduser("~")
    folder = os.environ.get("KERAS_HOME", os.path.join(home if os.access(home, os.W_OK) else "/tmp", ".keras"))
    return Path(os.path.expanduser(os.path.join(folder, "keras.json")))


def load() -> None:
    """Imports Keras; raises UserError as check() raises, and where the import fails."""
    check()
    try:
        import keras  # noqa: F401
    except Exception as error:  # whatever a broken installation or a setting of Keras's own raises
        name, where = chosen()
        said = " ".join(str(error).split())
        raise UserError(f"Keras cannot be loaded with {name} ({type(error).__name__}: {said})", where,
                        fix=f"mend the installation of {name}, or the settings in {settings_path()}") from error


def _read(path: Path) -> dict[str, Any]:
    """Returns what the file says, {} where there is none or an empty one: another process may be writing it at this moment."""
    fix = f"mend the file or delete it: Keras writes it anew, and {VARIABLE} names a backend without it"
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        settings = json.loads(text) if text.strip() else {}
    except OSError as error:
        raise UserError(f"the settings of Keras cannot be read ({error.strerror or error})", str(path), fix=fix) from None
    except ValueError as error:
        raise UserError(f"the settings of Keras are not JSON ({' '.join(str(error).split())})", str(path), fix=fix) from None
    if not isinstance(settings, dict):
        raise UserError(f"the settings of Keras are a {type(settings).__name__}", str(path), "keys and values", fix)
    for key, value in SETTINGS.items():
        if settings.get(key, value) != value:
            raise UserError(f"{key} is {settings[key]!r}", str(path), repr(value), "mend the file, or set KERAS_HOME to another folder")
    return settings


def _is_installed(library: str) -> bool:
    try:
        return importlib.util.find_spec(library) is not None
    except (ImportError, ValueError):  # something in its place that is no library
        return False
