"""TensorFlow checkpoints (V2, "tensor bundle"): reading needs numpy alone, writing needs TensorFlow.

Layout: ``<prefix>.index`` is a sorted string table whose values are small protocol buffers: where a tensor lies in which
``<prefix>.data-xxxxx-of-yyyyy``, its type, shape and checksum. Every block and tensor carries a masked CRC-32C.
"""

import errno
import math
import os
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from kaleidobert import io
from kaleidobert.configs.loader import path_as_written
from kaleidobert.errors import UserError
from kaleidobert.model_zoo.checkpoints import LazyArray

TABLE_MAGIC = 0xDB4775248B80FB57
FOOTER = 48  # bytes: two block handles, padding, the magic number
TRAILER = 5  # bytes after a block: its compression and checksum
POLYNOMIAL = 0x82F63B78  # CRC-32C, bits reversed
LANES = 4096  # pieces of a long tensor that are checksummed side by side
MIN_STEPS = 32  # look-ups per lane below which lanes are slower
DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 9: "<i8", 10: "?", 17: "<u2", 19: "<f2", 22: "<u4", 23: "<u8"}


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies. dtype: TensorFlow's number of the type; crc: masked CRC-32C of its bytes."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    sliced: bool


def exists(path: str | Path) -> bool:
    """Whether a path is the prefix of a checkpoint: the name of its files without .index or .data-..."""
    return Path(f"{path}.index").is_file()


def read(prefix: str | Path, is_wanted: Callable[[str], bool] = lambda name: True) -> dict[str, np.ndarray]:
    """Reads the tensors whose names are wanted, {name: array}, and compares each with its checksum.

    prefix: the path without ".index". Raises UserError where a file is missing, cut off, damaged or of another format, and
    for a wanted tensor that is a string, partitioned, or of a type that numpy lacks.
    """
    return {name: stored.load() for name, stored in open_arrays(prefix, is_wanted).items()}


def open_arrays(prefix: str | Path, is_wanted: Callable[[str], bool] = lambda name: True) -> dict[str, LazyArray]:
    """Opens what ``read`` reads; an array is read and compared with its checksum when it is loaded, everything else is checked at once."""
    entries, num_shards = index(prefix)
    sizes: dict[int, int] = {}
    arrays = {}
    for name, entry in entries.items():
        if not is_wanted(name):
            continue
        if entry.sliced or entry.dtype not in DTYPES:
            raise UserError(f"{name} is partitioned or of type {entry.dtype}", str(prefix), "whole tensors of plain numbers")
        path = Path(f"{prefix}.data-{entry.shard:05d}-of-{num_shards:05d}")
        if entry.shard not in sizes:
            with io.readable(path, "the data beside the .index file"):
                sizes[entry.shard] = path.stat().st_size
        available = min(entry.size, max(0, sizes[entry.shard] - entry.offset))
        dtype = np.dtype(DTYPES[entry.dtype])
        if available != entry.size or entry.size != dtype.itemsize * math.prod(entry.shape):
            raise UserError(f"{name} ends after {available} of {entry.size} bytes", str(path), "a complete file", "copy it again")
        arrays[name] = LazyArray(entry.shape, dtype, partial(_load, name, entry, path))
    return arrays


def _load(name: str, entry: Entry, path: Path) -> np.ndarray:
    # not a memory map: its pages would stay until the whole file has been in memory
    raw = np.fromfile(path, np.uint8, entry.size, offset=entry.offset)
    if mask(crc32c(raw)) != entry.crc:
        raise UserError(f"the checksum of {name} does not match", str(path), "an undamaged file", "copy it again")
    return raw.view(DTYPES[entry.dtype]).reshape(entry.shape)


def index(prefix: str | Path) -> tuple[dict[str, Entry], int]:
    """Reads ({name: Entry}, number of data files); raises UserError as ``read`` does."""
    path = Path(f"{prefix}.index")
    with io.readable(path, "the .index file of a TensorFlow checkpoint", "give the path without .index, .data or .meta"):
        data = path.read_bytes()
    try:
        return _parse(data)
    except (ValueError, IndexError, KeyError, TypeError, struct.error) as error:
        raise UserError(f"is no complete index of a TensorFlow checkpoint ({error})", str(path), fix="copy it again") from error


def crc32c(data: np.ndarray) -> int:
    """Returns the CRC-32C (Castagnoli) of uint8[n]. Long data is cut into lanes that advance together, two bytes per table look-up."""
    crc = 0xFFFFFFFF
    steps = len(data) // LANES // 2  # look-ups per lane
    if steps > MIN_STEPS:
        table = _table(16)
        lanes = np.ascontiguousarray(data[: 2 * steps * LANES].reshape(LANES, 2 * steps).view("<u2").T)  # [steps, LANES]
        state = np.zeros(LANES, np.uint32)
        for row in lanes:
            state = np.take(table, (state ^ row).astype(np.uint16)) ^ (state >> np.uint32(16))
        skip = _zeros_operator(2 * steps)
        for lane in state.tolist():  # the register is linear: move it over a lane of zeros, add what the lane itself does
            crc = skip(crc) ^ lane
        data = data[2 * steps * LANES :]
    entries = _table(8).tolist()
    for byte in data.tolist():
        crc = entries[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


@cache
def _table(bits: int) -> np.ndarray:
    """Returns what each value of the register's lowest bits becomes after that many bits."""
    table = np.arange(1 << bits, dtype=np.uint32)
    for _ in range(bits):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(POLYNOMIAL), table >> 1).astype(np.uint32)
    return table


def _zeros_operator(count: int) -> Callable[[int], int]:
    """Returns the effect of ``count`` zero bytes on the register: a 32 x 32 matrix over bits, by repeated squaring, as four tables."""
    def apply(matrix: list[int], vector: int) -> int:
        result = 0
        for column in matrix:
            if vector & 1:
                result ^= column
            vector >>= 1
        return result

    entries = _table(8).tolist()
    power = [entries[bit & 0xFF] ^ (bit >> 8) for bit in (1 << i for i in range(32))]  # one zero byte
    total = [1 << i for i in range(32)]
    while count:
        if count & 1:
            total = [apply(power, column) for column in total]
        power = [apply(power, column) for column in power]
        count >>= 1
    tables = [[apply(total, byte << (8 * position)) for byte in range(256)] for position in range(4)]
    return lambda crc: (tables[0][crc & 0xFF] ^ tables[1][(crc >> 8) & 0xFF] ^ tables[2][(crc >> 16) & 0xFF]
                        ^ tables[3][crc >> 24])


def mask(crc: int) -> int:
    """Returns a checksum as it is stored: masked, because data may hold checksums of its own."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _parse(data: bytes) -> tuple[dict[str, Entry], int]:
    footer = data[-FOOTER:]
    if len(data) < FOOTER or struct.unpack("<Q", footer[-8:])[0] != TABLE_MAGIC:
        raise ValueError("the magic number is missing")
    _, _, offset, size = (value for value, _ in zip(_varints(footer), range(4)))
    entries, num_shards = {}, 1
    for _, handle in _block(data, offset, size):
        start, length = (value for value, _ in zip(_varints(handle), range(2)))
        for key, value in _block(data, start, length):
            if key:
                entries[key.decode()] = _entry(value)
            else:  # the header
                header = dict(_fields(value))
                num_shards = int(header.get(1, 1))
                if header.get(2, 0):
                    raise ValueError("its numbers are big-endian")
    return entries, num_shards


def _entry(message: bytes) -> Entry:
    fields = list(_fields(message))
    first = dict(fields)
    shape = tuple(_number(dict(_fields(_bytes(dim))), 1) for number, dim in _fields(_bytes(first.get(2, b""))) if number == 2)
    crc = struct.unpack("<I", _bytes(first[6]))[0]
    dtype, shard, offset, size = (_number(first, name) for name in (1, 3, 4, 5))
    return Entry(dtype, shape, shard, offset, size, crc, any(n == 7 for n, _ in fields))


def _number(fields: Mapping[int, int | bytes], name: int) -> int:
    value = fields.get(name, 0)
    if not isinstance(value, int):
        raise ValueError(f"field {name} is no number")
    return value


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a number stands where bytes are expected")
    return value


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yields the (key, value) pairs of a block; a key is stored as its difference from the one before."""
    trailer = data[offset + size : offset + size + TRAILER]
    if len(trailer) < TRAILER:
        raise ValueError("the file is cut off")
    if trailer[0] != 0:
        raise ValueError("the index is compressed")
    if mask(crc32c(np.frombuffer(data, np.uint8, size + 1, offset))) != struct.unpack("<I", trailer[1:])[0]:
        raise ValueError("a checksum does not match")
    block = data[offset : offset + size]
    end = size - 4 - 4 * struct.unpack("<I", block[-4:])[0]
    position, key = 0, b""
    while position < end:
        shared, position = _varint(block, position)
        added, position = _varint(block, position)
        length, position = _varint(block, position)
        key = key[:shared] + block[position : position + added]
        position += added
        yield key, block[position : position + length]
        position += length


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yields (number, value) of a protocol buffer's fields, undecoded."""
    value: int | bytes
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        wire_type = tag & 7
        if wire_type == 0:
            value, position = _varint(message, position)
        elif wire_type in (1, 2, 5):
            length, position = _varint(message, position) if wire_type == 2 else ({1: 8, 5: 4}[wire_type], position)
            value, position = message[position : position + length], position + length
        else:
            raise ValueError(f"wire type {wire_type}")
        yield tag >> 3, value


def _varints(data: bytes) -> Iterator[int]:
    position = 0
    while position < len(data):
        value, position = _varint(data, position)
        yield value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Returns (value, next position) of an integer in groups of seven bits, lowest first."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


# --- Writing


def files_of(prefix: str | Path) -> list[Path]:
    """Returns the two files of a checkpoint with one data file."""
    return [Path(f"{prefix}.index"), Path(f"{prefix}.data-00000-of-00001")]


def latest(prefix: str | Path) -> str:
    """Returns the content of the file ``checkpoint``, in which TensorFlow looks up the latest checkpoint of a folder."""
    name = "".join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}" for byte in Path(prefix).name.encode())
    return f'model_checkpoint_path: "{name}"\nall_model_checkpoint_paths: "{name}"\n'


def require_tensorflow(prefix: str | Path) -> Any:
    """Imports tensorflow; UserError where it is not installed."""
    try:
        import tensorflow
    except ImportError:
        raise UserError("a TensorFlow 1 checkpoint is written by TensorFlow, which is not installed", str(prefix), "tensorflow",
                        "run this command where TensorFlow is installed: pip install tensorflow") from None
    return tensorflow


def write(prefix: str | Path, arrays: Mapping[str, np.ndarray | LazyArray]) -> None:
    """Writes <prefix>.index, <prefix>.data-00000-of-00001 and the file ``checkpoint``, replacing what was there.

    TensorFlow's own SaveV2 makes the files, in a folder beside them; it needs all arrays in memory at once. Each file appears
    complete or not at all, the index after the data. Raises UserError where TensorFlow is missing, for an array that is not of
    plain numbers, and where the disk is full or refuses.
    """
    tf = require_tensorflow(prefix)
    index_path, data_path = files_of(prefix)
    names, tensors = sorted(arrays, key=str.encode), []  # the released files hold their tensors in this order
    with io.explained(index_path), tf.device("CPU"):
        for name in names:
            array = np.asarray(arrays[name])
            if array.dtype.newbyteorder("<") not in DTYPES.values():
                raise UserError(f"{name} is of type {array.dtype}", str(prefix), "plain numbers")
            # a copy that TensorFlow borrows: tf.constant takes 1.7 times the memory
            tensors.append(tf.experimental.dlpack.from_dlpack(np.array(array, array.dtype.newbyteorder("="), order="C").__dlpack__()))
            del array
        index_path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{index_path.name}.", suffix=".tmp", dir=index_path.parent) as folder:
            work = Path(folder) / Path(prefix).name
            try:
                tf.raw_ops.SaveV2(prefix=str(work), tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors)
            except tf.errors.OpError as error:
                full = isinstance(error, tf.errors.ResourceExhaustedError)
                raise OSError(errno.ENOSPC if full else errno.EIO, error.message) from error
            for made, path in reversed(list(zip(files_of(work), (index_path, data_path)))):
                with open(made, "rb") as file:
                    os.fsync(file.fileno())
                os.replace(made, path)
    io.write_text(index_path.with_name("checkpoint"), latest(prefix))


# --- The checkpoint that a path means: its folder or one of its files


SUFFIXES = (".index", ".meta", ".data-00000-of-00001")


def prefix_of(path: Path, key: str) -> Path:
    """Returns a path without the suffix of a checkpoint's file; of a run folder its best.npz, of another folder the prefix of its one
    checkpoint; other paths unchanged.

    key: of the configuration, for the message. UserError where a folder holds none, or several.
    """
    if path.is_dir():
        if (path / "best.npz").is_file():
            return path / "best.npz"
        indices = sorted(path.glob("*.index"))
        if len(indices) != 1:
            names = ", ".join(file.name.removesuffix(".index") for file in indices) or "none"
            raise UserError(f"the folder holds {len(indices)} checkpoints: {names}", path_as_written(path), "one",
                            f"name the checkpoint: {key}=FOLDER/NAME")
        return Path(path / indices[0].name.removesuffix(".index"))
    suffix = next((suffix for suffix in SUFFIXES if path.name.endswith(suffix)), "")
    return path.with_name(path.name.removesuffix(suffix)) if suffix else path
