"""Checkpoints: one .npz of named arrays. Loading is exact or refused; no variable stays at its start value unnoticed.

Entries: "model/<variable path>" (weights and the states of the dropout generators), "optimizer/<variable path>", and
"__meta__", a JSON text: the model (KaleidoModel.describe) and what the caller adds, such as the step. No entry is pickled, so that reading
a checkpoint executes nothing; the same file serves every backend. released/checkpoints.py reads TensorFlow 1
checkpoints as well.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kaleidobert.errors import UserError
from kaleidobert.io import atomic

if TYPE_CHECKING:
    import keras  # not loaded: files are read without a network library


@dataclass(frozen=True)
class LazyArray:
    """An array that is still in its file, so that a checkpoint larger than memory is converted one array at a time.

    shape and dtype are known; load() reads the array, checks it, and raises UserError where it is damaged. numpy functions take it as
    an array, and read it every time.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    load: Callable[[], np.ndarray]

    @property
    def T(self) -> LazyArray:
        """The transposed array, unread."""
        return LazyArray(self.shape[::-1], self.dtype, lambda: self.load().T)

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.load(), dtype)


FORMAT = 2  # 1 had other names of variables and settings
META = "__meta__"
GENERATOR = "/seed_generator_state"  # how the path of a dropout generator's state ends
LOSS_SCALE = "optimizer/loss_scale/"  # of float16, which every run finds for itself
HEAD = "head_"  # how the path of a task's own variable begins

Arrays = dict[str, np.ndarray]
Reader = Callable[[str | Path, Callable[[str], bool]], tuple[dict[str, Any], Arrays]]


def save(path: str | Path, model: keras.Model, optimizer: keras.optimizers.Optimizer | None = None,
         meta: Mapping[str, Any] | None = None, extra: Mapping[str, np.ndarray | LazyArray] | None = None) -> None:
    """Writes model, optimizer and meta; the file appears complete or not at all.

    The optimizer must have been built. extra: further entries under their full names, such as the state of an optimizer from another
    file. Raises UserError where the disk is full or the folder cannot be written.
    """
    header = {"format": FORMAT} | (model.describe() if hasattr(model, "describe") else {}) | dict(meta or {})
    arrays: dict[str, np.ndarray] = {}
    bfloat16: list[str] = []
    for name, variable in _named(model, optimizer).items():
        array = np.asarray(variable)
        if array.dtype.name == "bfloat16":  # numpy has no such type: keep the bits
            array = array.view(np.uint16)
            bfloat16.append(name)
        arrays[name] = array
    header["bfloat16"] = bfloat16
    with atomic(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, stored in {META: np.array(json.dumps(header)), **arrays, **(extra or {})}.items():
            # not np.savez: it stores the time of day, and equal runs would have unequal checksums
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asarray(stored), allow_pickle=False)


def load_meta(path: str | Path) -> dict[str, Any]:
    """Reads the meta of a checkpoint. Raises UserError where the file is missing, cut off or no checkpoint."""
    return read(path, lambda name: False)[0]


def read(path: str | Path, is_wanted: Callable[[str], bool]) -> tuple[dict[str, Any], Arrays]:
    """Reads the meta and the arrays whose names are wanted, checked against the file's own checksums. Raises UserError as load_meta."""
    where = str(path)
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            meta = json.loads(str(file[META]))
            arrays = {name: file[name] for name in file.files if name != META and is_wanted(name)}
    except FileNotFoundError:
        raise UserError("there is no such checkpoint", where) from None
    except IsADirectoryError:
        raise UserError("this is a folder", where, "a checkpoint file (.npz)") from None
    except Exception as error:  # zipfile, zlib, numpy and json raise many kinds over a damaged file
        raise UserError(f"cannot be read ({error})", where, "a complete checkpoint (.npz)", "use an earlier one") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise UserError("is not in this program's format", where, f"format {FORMAT}", "make it again: older files have other names")
    for name in set(meta.get("bfloat16", ())) & set(arrays):
        import ml_dtypes  # comes with either backend; needed for pure bfloat16 models only

        arrays[name] = arrays[name].view(ml_dtypes.bfloat16)
    return meta, arrays


def open_arrays(path: str | Path, prefix: str) -> dict[str, LazyArray]:
    """Opens the entries below a ``prefix``, such as "optimizer/": {name: LazyArray}, each read when it is used.

    Raises UserError as load_meta, and where an entry is damaged, at the latest when it is read.
    """
    load_meta(path)  # refuses what is no checkpoint
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.startswith(prefix)]
        for name in names:
            with _explained(path, name), archive.open(f"{name}.npy") as entry:
                np.lib.format.read_magic(entry)
                shape, _, dtype = np.lib.format.read_array_header_1_0(entry)
            arrays[name] = LazyArray(shape, dtype, partial(_load, path, name))
    return arrays


def num_parameters(path: str | Path) -> int:
    """Returns the number of weights of a checkpoint, the states of dropout generators left out; raises UserError as load_meta."""
    return sum(int(np.prod(array.shape)) for name, array in open_arrays(path, "model/").items() if not name.endswith(GENERATOR))


def restore(path: str | Path, model: keras.Model, optimizer: keras.optimizers.Optimizer | None = None) -> dict[str, Any]:
    """Loads a checkpoint of the same kind of model and returns its meta.

    The file and the model must have exactly the same variables, dropout generators included; the same holds for those of an optimizer,
    which must be built; without one, the file's optimizer is ignored.
    Nothing is changed unless everything fits. Raises UserError that lists what is missing (-) and unexpected (+).
    """
    wanted = _named(model, optimizer)
    meta, arrays = read(path, lambda name: name.startswith("model/") or optimizer is not None)
    if hasattr(model, "kind") and meta.get("kind", model.kind) != model.kind:
        raise UserError(f"holds a {meta['kind']}", str(path), f"a {model.kind}", "start from it instead of resuming it")
    if optimizer is not None and not any(name.startswith("optimizer/") for name in arrays):
        raise UserError("holds weights but no optimizer", str(path), "a checkpoint of an unfinished run",
                        "resume from the run's last checkpoint, or start from these weights")
    _check_identity(path, meta, model)
    check_fit(wanted, arrays, str(path))
    _assign(wanted, arrays)
    return meta


def transfer(path: str | Path, model: keras.Model, reader: Reader = read) -> list[str]:
    """Initialises ``model`` from a checkpoint of another task; returns the paths of the variables that keep their start values.

    The file must have every weight of the backbone. Heads (variables whose path begins with "head_") that only the file has are
    ignored; heads that only the model has keep their start values and are returned; a head that both have is loaded. Dropout
    generators stay as they are. Nothing is changed unless everything fits. Raises UserError that lists what does not (-, +).
    reader: reads the file, where it is of another format.
    """
    wanted = {f"model/{weight.path}": weight for weight in model.weights}
    meta, arrays = reader(path, lambda name: name.startswith("model/") and not name.endswith(GENERATOR))
    _check_identity(path, meta, model)
    present = {_top(name) for name in arrays}
    new_parameters = {name for name in set(wanted) - set(arrays) if _is_head(name) and _top(name) not in present}
    needed = {_top(name) for name in wanted}
    ignored = {name for name in set(arrays) - set(wanted) if _is_head(name) and _top(name) not in needed}
    loaded = {name: variable for name, variable in wanted.items() if name not in new_parameters}
    arrays = {name: array for name, array in arrays.items() if name not in ignored}
    check_fit(loaded, arrays, str(path))
    _assign(loaded, arrays)
    return sorted(name.removeprefix("model/") for name in new_parameters)


def continue_optimizer(path: str | Path, model: keras.Model, optimizer: keras.optimizers.Optimizer,
                       arrays: Mapping[str, np.ndarray | LazyArray] | None = None) -> int:
    """Loads the state of a built optimizer from a checkpoint of the same kind of model; returns the step at which it was saved.

    arrays: the entries below "optimizer/" of a file in another format. Nothing is changed unless everything fits. Raises UserError
    that lists what does not (-, +), and where there is no such state.
    """
    wanted = {name: variable for name, variable in _named(model, optimizer).items() if name.startswith("optimizer/")}
    if arrays is None:
        arrays = {name: array for name, array in open_arrays(path, "optimizer/").items() if not name.startswith(LOSS_SCALE)}
    if not arrays:
        raise UserError("holds weights but no optimizer", str(path), "the last.npz of a run, or a file of `kaleidobert convert` "
                        "with optimizer=true", "leave init_optimizer out to start from the weights alone")
    check_fit(wanted, arrays, str(path))
    _assign(wanted, {name: np.asarray(array) for name, array in arrays.items()})
    return int(np.asarray(optimizer.iterations))


def check_fit(wanted: Mapping[str, Any], present: Mapping[str, Any], where: str, fix: str = "") -> None:
    """Raises UserError unless both have the same names with the same shapes; lists "- wanted" and "+ present"."""
    expected = {name: (tuple(value.shape), _number_type(value)) for name, value in wanted.items()}
    others = {name: (tuple(value.shape), _number_type(value)) for name, value in present.items()}
    lines = [f"- {name} {expected[name][1]}{list(expected[name][0])}" for name in expected if others.get(name) != expected[name]]
    lines += [f"+ {name} {others[name][1]}{list(others[name][0])}" for name in others if others[name] != expected.get(name)]
    if lines:
        lines.sort(key=lambda line: (line[2:].split()[0], line[0] == "+"))
        listing = "".join(f"\n  {line}" for line in lines)
        raise UserError(f"the variables do not fit:{listing}\n(-: expected, +: in the file)", where, fix=fix)


def _named(model: keras.Model, optimizer: keras.optimizers.Optimizer | None) -> dict[str, keras.Variable]:
    named = {}
    for prefix, owner in (("model", model), ("optimizer", optimizer)):
        for variable in owner.variables if owner is not None else ():
            name = f"{prefix}/{variable.path}"
            if name in named:
                raise ValueError(f"two variables are called {name}: give their layers different names")
            named[name] = variable
    return named


def _assign(variables: Mapping[str, keras.Variable], arrays: Arrays) -> None:
    for name, variable in variables.items():
        variable.assign(arrays[name])


def _load(path: str | Path, name: str) -> np.ndarray:
    with _explained(path, name), np.load(path, allow_pickle=False) as file:
        return file[name]


@contextmanager
def _explained(path: str | Path, name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{name} cannot be read ({error})", str(path), "a complete checkpoint (.npz)", "use an earlier one") from error


def _check_identity(path: str | Path, meta: Mapping[str, Any], model: keras.Model) -> None:
    """Refuses weights that fit by name and shape and mean something else, such as another number of heads."""
    theirs = meta.get("identity")
    ours = model.describe()["identity"] if hasattr(model, "describe") else None
    if theirs and ours and theirs != ours:
        differing = [key for key in ours if theirs.get(key) != ours[key]]
        raise UserError("; ".join(f"{key} is {theirs.get(key)}" for key in differing), str(path),
                        "; ".join(f"{key} {ours[key]}" for key in differing), "build the model as the checkpoint says")


def _number_type(value: Any) -> str:
    """Returns float or int: precision may differ between file and model, the type of number may not."""
    name = str(value.dtype)
    return "float" if "float" in name else "int" if "int" in name else name


def _top(name: str) -> str:
    return name.removeprefix("model/").split("/")[0]


def _is_head(name: str) -> bool:
    return _top(name).startswith(HEAD)
