"""Files as torch.save writes them of a state dict, byte by byte and without PyTorch, so that every byte of them can be another.

    entries = {"a": tensor("0", 6, (2, 3))}
    zip_file(path, pickled(entries), {"0": np.arange(6, dtype=np.float32)})
    legacy_file(path, pickled(entries), {"0": np.arange(6, dtype=np.float32)})
"""

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

TYPES = {"<f4": "Float", "<f8": "Double", "<f2": "Half", "<i8": "Long", "<i4": "Int", "|b1": "Bool", "|u1": "Byte"}
PROTOCOL = b"\x80\x02"
STOP = b"."
ORDERED_DICT = b"ccollections\nOrderedDict\n)R"
MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # of legacy files


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value) if -1 << 31 <= value < 1 << 31 else pickle.dumps(value, 2)[2:-1]


def several(*values: bytes) -> bytes:
    """A tuple."""
    return b"(" + b"".join(values) + b"t"


def numbers(values) -> bytes:
    return several(*map(number, values))


def storage(key: str, count: int, kind: str = "Float", extra: bytes = b"") -> bytes:
    """A persistent id; extra: further values of it."""
    return several(text("storage"), f"ctorch\n{kind}Storage\n".encode(), text(key), text("cpu"), number(count), extra) + b"Q"


def tensor(key: str, count: int, size, strides=None, offset: int = 0, kind: str = "Float", of: bytes | None = None) -> bytes:
    """A tensor of the storage ``key`` with ``count`` elements; of: another storage."""
    contiguous = np.cumprod([1, *size[:0:-1]])[::-1].tolist() if size else []
    arguments = several(of or storage(key, count, kind), number(offset), numbers(size), numbers(contiguous if strides is None else strides),
                        b"\x89", ORDERED_DICT)
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"


def pickled(entries: Mapping[str, bytes], attributes: bytes = b"}" + text("_metadata") + ORDERED_DICT + b"s") -> bytes:
    """A state dict, with the attributes that torch gives it."""
    items = b"".join(text(name) + value for name, value in entries.items())
    return PROTOCOL + ORDERED_DICT + b"(" + items + b"u" + attributes + b"b" + STOP


def state_dict(arrays: Mapping[str, np.ndarray]) -> tuple[bytes, dict[str, np.ndarray]]:
    """The pickle and the storages of a state dict of whole arrays."""
    storages = {str(number): np.ascontiguousarray(array).reshape(-1) for number, array in enumerate(arrays.values())}
    entries = {name: tensor(str(number), array.size, array.shape, kind=TYPES[array.dtype.str])
               for number, (name, array) in enumerate(arrays.items())}
    return pickled(entries), storages


def zip_file(path: Path, state: bytes, storages: Mapping[str, np.ndarray], compression: int = zipfile.ZIP_STORED,
             others: Mapping[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in {"data.pkl": state, "byteorder": b"little", **(others or {}),
                              **{f"data/{key}": array.tobytes() for key, array in storages.items()}, "version": b"3\n"}.items():
            archive.writestr(f"archive/{name}", content)
    return path


def legacy_file(path: Path, state: bytes, storages: Mapping[str, np.ndarray], little_endian: bool = True) -> Path:
    contents = b"".join(struct.pack("<q", len(array)) + array.tobytes() for array in storages.values())
    system = {"protocol_version": 1001, "little_endian": little_endian, "type_sizes": {"int": 4}}
    head = MAGIC + pickle.dumps(1001, 2) + pickle.dumps(system, 2)
    path.write_bytes(head + state + pickle.dumps(list(storages), 2) + contents)
    return path
