"""Write a TensorFlow checkpoint (V2, "tensor bundle") with numpy alone; tf_checkpoint.py reads the format and describes it.

The same arrays give the same bytes as TensorFlow's own writer where the index fits into one block, as all but huge ones do.
"""

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from kaleidobert.errors import UserError
from kaleidobert.io import atomic, write_text
from kaleidobert.model_zoo.checkpoints import LazyArray
from kaleidobert.released.tf_checkpoint import DTYPES, FOOTER, TABLE_MAGIC, crc32c, mask

BLOCK = 1 << 18  # bytes of names and entries after which a block of the index ends
RESTART = 16  # entries of a block after which a name is stored whole again
NUMBERS = {np.dtype(code): number for number, code in DTYPES.items()}
HEADER = bytes([1 << 3, 1, 3 << 3 | 2, 2, 1 << 3, 1])  # one data file; made by version 1 of the format

Entries = list[tuple[bytes, bytes]]


def files_of(prefix: str | Path) -> list[Path]:
    """The two files of a checkpoint with one data file."""
    return [Path(f"{prefix}.index"), Path(f"{prefix}.data-00000-of-00001")]


def write(prefix: str | Path, arrays: Mapping[str, np.ndarray | LazyArray]) -> None:
    """Write <prefix>.index, <prefix>.data-00000-of-00001 and the file ``checkpoint`` beside them, replacing what was there.

    The arrays are read and written one at a time, in the order of their names. Each file appears complete or not at all, the
    index last but for ``checkpoint``. Raises UserError for a type that has no number here, and where the disk is full.
    """
    entries, offset = [(b"", HEADER)], 0
    index, data = files_of(prefix)
    with atomic(index) as index_file:
        with atomic(data) as data_file:
            for name in sorted(arrays, key=str.encode):
                array = np.asarray(arrays[name], order="C")
                if array.dtype.newbyteorder("<") not in NUMBERS:
                    raise UserError(f"{name} is of type {array.dtype}", str(prefix), "plain numbers")
                raw = array.astype(array.dtype.newbyteorder("<"), copy=False).reshape(-1).view(np.uint8)
                data_file.write(raw.data)
                entries.append((name.encode(), _entry(array, offset, crc32c(raw))))
                offset += len(raw)
        index_file.write(_table(entries))
    write_text(index.with_name("checkpoint"), state(prefix))


def state(prefix: str | Path) -> str:
    """What the file ``checkpoint`` says, by which TensorFlow finds the latest checkpoint of a folder."""
    name = "".join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}" for byte in Path(prefix).name.encode())
    return f'model_checkpoint_path: "{name}"\nall_model_checkpoint_paths: "{name}"\n'


def _entry(array: np.ndarray, offset: int, crc: int) -> bytes:
    """The protocol buffer of one tensor; fields that are 0 are left out."""
    dims = b"".join(_message(2, _number(1, size)) for size in array.shape)
    return (_number(1, NUMBERS[array.dtype.newbyteorder("<")]) + _message(2, dims) + _number(4, offset) + _number(5, array.nbytes)
            + bytes([6 << 3 | 5]) + struct.pack("<I", mask(crc)))


def _table(entries: Entries) -> bytes:
    """A sorted string table: blocks of entries, an empty one, one that says where the blocks lie, the footer."""
    out, handles, start = bytearray(), [], 0

    def add(block: bytes) -> bytes:
        """Append a block; returns where it lies."""
        handle = _varint(len(out)) + _varint(len(block))
        crc = mask(crc32c(np.frombuffer(block + b"\0", np.uint8)))
        out.extend(block + b"\0" + struct.pack("<I", crc))  # 0: not compressed
        return handle

    for stop in _cuts(entries):
        last = entries[stop - 1][0]
        if stop == len(entries):
            last = _successor(last)
        handles.append((last, add(_block(entries[start:stop], RESTART))))
        start = stop
    footer = add(_block([], RESTART)) + add(_block(handles, 1))
    out.extend(footer + bytes(FOOTER - 8 - len(footer)) + struct.pack("<Q", TABLE_MAGIC))
    return bytes(out)


def _cuts(entries: Entries) -> Iterable[int]:
    """Where blocks end, as counts of entries."""
    size = 0
    for count, (key, value) in enumerate(entries, 1):
        size += len(key) + len(value) + 8
        if size >= BLOCK or count == len(entries):
            yield count
            size = 0


def _block(entries: Entries, interval: int) -> bytes:
    """Entries, each key as what differs from the one before; then the places where keys are whole, and their number."""
    body, restarts, before = bytearray(), [0], b""
    for number, (key, value) in enumerate(entries):
        shared = 0
        if number % interval == 0:
            restarts[number // interval :] = [len(body)]
        else:
            shared = next((i for i, (a, b) in enumerate(zip(key, before)) if a != b), min(len(key), len(before)))
        body += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:] + value
        before = key
    return bytes(body) + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def _successor(key: bytes) -> bytes:
    """A short key that is not before this one."""
    place = next((i for i, byte in enumerate(key) if byte < 255), None)
    return key if place is None else key[:place] + bytes([key[place] + 1])


def _number(field: int, value: int) -> bytes:
    return bytes([field << 3]) + _varint(value) if value else b""


def _message(field: int, value: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
