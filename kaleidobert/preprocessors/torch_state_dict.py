"""Reads the tensors of a file that ``torch.save`` wrote of a state dict, without PyTorch, and executes nothing of what the file says.

Such a file is a pickle, a program for a stack machine that may call any function of Python. The machine here has the two dozen operations
of a state dict and calls nothing: its globals are signs for an ordered dict, for the rebuilding of a tensor and for types of storages,
and everything else is refused. Tensors become read-only views of the file's bytes, inside of their storages.

    zip:    ROOT/data.pkl, ROOT/data/KEY with a storage each, ROOT/byteorder; entries are not compressed
    legacy: four pickles (a magic number, a protocol, the system, the state dict), one of the storages' keys, and of each storage the
            number of its elements (int64) and the elements
"""

import io as streams
import math
import os
import pickletools
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kaleidobert import io
from kaleidobert.errors import UserError

EXPECTED = "a state dict of tensors that torch.save wrote"
MAX_BYTES = 1 << 30
MAX_DIMENSIONS = 32  # of a tensor; products of thousands of sizes take seconds
LEGACY_MAGIC, LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class _Callable(Enum):
    """What a state dict calls; here these are signs alone."""

    ORDERED_DICT = "collections OrderedDict"
    TENSOR = "torch._utils _rebuild_tensor_v2"


STORAGES = {"Double": "<f8", "Float": "<f4", "Half": "<f2", "Long": "<i8", "Int": "<i4", "Short": "<i2", "Char": "i1", "Byte": "u1",
            "Bool": "?"}
GLOBALS: dict[str, Any] = {**{sign.value: sign for sign in _Callable},
                           **{f"torch {name}Storage": np.dtype(dtype) for name, dtype in STORAGES.items()}}


class _Refused(Exception):
    """Why a file is not read."""


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype
    count: int  # of elements


@dataclass(frozen=True)
class _Tensor:
    """size, strides: of every axis, strides and offset in elements of the storage."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    strides: tuple[int, ...]


def read(path: str | Path, fix: str = "") -> dict[str, np.ndarray]:
    """Returns {name: array} of a state dict, in its order; the arrays are read-only.

    Raises UserError, with ``fix``, where the file is missing, larger than MAX_BYTES, damaged, cut off, or anything else than a state dict.
    """
    with io.readable(path, EXPECTED, fix), open(path, "rb") as file:
        too_large = os.fstat(file.fileno()).st_size > MAX_BYTES
        data = b"" if too_large else file.read()
    try:
        if too_large:
            raise _Refused(f"it has more than {MAX_BYTES:,} bytes")
        return _read_zip(data) if data.startswith(b"PK\3\4") else _read_legacy(data)
    except _Refused as error:
        raise UserError(f"is not read: {error}", str(path), EXPECTED, fix) from None
    except Exception as error:  # pickletools, zipfile and numpy raise many kinds over a damaged file
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"is damaged or cut off ({reason})", str(path), EXPECTED, fix) from error


def _read_zip(data: bytes) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(streams.BytesIO(data)) as archive:
        roots = [name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise _Refused(f"it holds {len(roots)} entries named data.pkl")

        def entry(name: str, storage: _Storage | None = None) -> bytes:
            info = archive.getinfo(roots[0] + name)
            if storage is not None and info.file_size != storage.count * storage.dtype.itemsize:  # unread: entries may lie over each other
                raise _Refused(f"a storage has {info.file_size // storage.dtype.itemsize:,} elements, and its tensors say "
                               f"{storage.count:,}")
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                raise _Refused(f"its entry {name[:80]!r} is compressed")
            return archive.read(info)

        if roots[0] + "byteorder" in archive.namelist() and entry("byteorder") != b"little":
            raise _Refused("its byte order is not little-endian")
        tensors = _tensors(_unpickle(streams.BytesIO(entry("data.pkl"))))
        storages = _storages(tensors, len(data))
        return _arrays(tensors, {key: np.frombuffer(entry(f"data/{key}", storage), storage.dtype) for key, storage in storages.items()})


def _read_legacy(data: bytes) -> dict[str, np.ndarray]:
    stream = streams.BytesIO(data)
    magic, protocol, system = (_unpickle(stream) for _ in range(3))
    if (magic, protocol) != (LEGACY_MAGIC, LEGACY_PROTOCOL):
        raise _Refused("it does not begin as files of torch.save do")
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise _Refused("its byte order is not little-endian")
    tensors = _tensors(_unpickle(stream))
    storages = _storages(tensors, len(data))
    keys = _unpickle(stream)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or sorted(keys) != sorted(storages):
        raise _Refused("its storages are not those of its tensors")
    position, contents = stream.tell(), {}
    for key in keys:
        count = int(np.frombuffer(data, "<i8", 1, position)[0])
        if count != storages[key].count:
            raise _Refused(f"a storage has {count:,} elements, and its tensors say {storages[key].count:,}")
        contents[key] = np.frombuffer(data, storages[key].dtype, count, position + 8)
        position += 8 + contents[key].nbytes
    if position != len(data):
        raise _Refused("it goes on behind its storages")
    return _arrays(tensors, contents)


# --- The stack machine: what a pickle describes, without executing anything


LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"}
MAKERS: dict[str, Callable[[], Any]] = {"NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_TUPLE": tuple,
                                        "EMPTY_LIST": list, "EMPTY_DICT": dict}
COUNTS = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "APPEND": 1, "SETITEM": 2}  # values that the operation takes; others go by a mark


def _unpickle(stream: BinaryIO) -> Any:
    """Returns what the next pickle of a stream describes, and leaves the stream behind it."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}  # pickle's own is a list, whose length a file decides
    argument: Any
    for operation, argument, _ in pickletools.genops(stream):
        name = operation.name
        if name in LITERALS:
            stack.append(argument)
        elif name in MAKERS:
            stack.append(MAKERS[name]())
        elif name == "MARK":
            marks.append(len(stack))
        elif name in COUNTS or name in ("TUPLE", "APPENDS", "SETITEMS"):
            begin = len(stack) - COUNTS[name] if name in COUNTS else marks.pop()
            values = stack[begin:]
            del stack[begin:]
            _collect(name, stack, values)
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "GLOBAL":
            if argument not in GLOBALS:
                raise _Refused(f"it names {argument.replace(' ', '.')[:80]}, which is no part of a state dict")
            stack.append(GLOBALS[argument])
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(_reduce(stack.pop(), arguments))
        elif name == "BUILD":
            stack.pop()  # attributes, such as _metadata of a state dict, hold no tensors
        elif name == "STOP":
            return stack.pop()
        elif name != "PROTO":
            raise _Refused(f"it uses the operation {name}, which is no part of a state dict")


def _collect(name: str, stack: list[Any], values: list[Any]) -> None:
    """Makes a tuple of values, or puts them into the list or dict on the stack."""
    if name.startswith("TUPLE"):
        stack.append(tuple(values))
    elif name.startswith("APPEND") and isinstance(stack[-1], list):
        stack[-1].extend(values)
    elif name.startswith("SETITEM") and isinstance(stack[-1], dict):
        keys = values[::2]
        if not all(isinstance(key, str) for key in keys):  # the hash of a tuple recurses as deep as a file wants
            raise _Refused("a key of it is no text")
        stack[-1].update(zip(keys, values[1::2], strict=True))
    else:
        raise _Refused("it fills something that is neither a list nor a dict")


def _storage(values: Any) -> _Storage:
    """Returns the storage of a persistent id: ("storage", type, key, device, elements), and None, in legacy files."""
    if not isinstance(values, tuple) or len(values) not in (5, 6) or (len(values) == 6 and values[5] is not None):
        raise _Refused("a storage of it is not described as torch.save does")
    word, dtype, key, _, count = values[:5]
    if word != "storage" or not isinstance(dtype, np.dtype) or not isinstance(key, str) or not _are_sizes([count]):
        raise _Refused("a storage of it is not described as torch.save does")
    return _Storage(key, dtype, count)


def _reduce(function: Any, arguments: Any) -> Any:
    if not isinstance(function, _Callable) or not isinstance(arguments, tuple):
        raise _Refused("it calls something that is no part of a state dict")
    if function is _Callable.ORDERED_DICT:
        if arguments:
            raise _Refused("an ordered dict of it is made of something")
        return {}
    if len(arguments) < 4:
        raise _Refused("a tensor of it is not described as torch.save does")
    storage, offset, size, strides = arguments[:4]
    if not isinstance(storage, _Storage) or not isinstance(size, tuple) or not isinstance(strides, tuple) or (
            len(size) != len(strides) or len(size) > MAX_DIMENSIONS or not _are_sizes([offset, *size, *strides])):
        raise _Refused("a tensor of it is not described as torch.save does")
    return _Tensor(storage, offset, size, strides)


def _are_sizes(values: Iterable[Any]) -> bool:
    return all(isinstance(value, int) and 0 <= value < 1 << 62 for value in values)


# --- From descriptions to arrays, none of which reads outside of its storage


def _tensors(state: Any) -> dict[str, _Tensor]:
    if not isinstance(state, dict) or not state:
        raise _Refused("it holds no dict")
    others = [name for name, value in state.items() if not isinstance(value, _Tensor)]
    if others:
        raise _Refused(f"{len(others):,} of its {len(state):,} entries are no tensors, such as {others[0][:80]!r}")
    return state


def _storages(tensors: dict[str, _Tensor], limit: int) -> dict[str, _Storage]:
    """Returns the storages by key; together they are no larger than the file, in which entries could lie over each other."""
    storages: dict[str, _Storage] = {}
    for tensor in tensors.values():
        if storages.setdefault(tensor.storage.key, tensor.storage) != tensor.storage:
            raise _Refused(f"its storage {tensor.storage.key[:80]!r} has two types or sizes")
    total = sum(storage.count * storage.dtype.itemsize for storage in storages.values())
    if total > limit:
        raise _Refused(f"its storages have {total:,} bytes, and the file has {limit:,}")
    return storages


def _arrays(tensors: dict[str, _Tensor], contents: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    result = {}
    for name, tensor in tensors.items():
        content, count = contents[tensor.storage.key], math.prod(tensor.size)
        if len(content) != tensor.storage.count:
            raise _Refused(f"a storage has {len(content):,} elements, and its tensors say {tensor.storage.count:,}")
        last = tensor.offset + sum((length - 1) * stride for length, stride in zip(tensor.size, tensor.strides))
        if count and (last >= len(content) or count > len(content)):
            raise _Refused(f"its tensor {name[:80]!r} does not fit into its storage")
        start = content[tensor.offset if count else len(content) :]
        strides = [stride * content.itemsize for stride in tensor.strides]
        result[name] = np.lib.stride_tricks.as_strided(start, tensor.size, strides if count else None, writeable=False)
    return result
