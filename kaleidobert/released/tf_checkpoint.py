"""Read a TensorFlow checkpoint (V2, "tensor bundle") with numpy alone, so that released weights load without TensorFlow.

Layout: ``<prefix>.index`` is a sorted string table whose values are small protocol buffers: where a tensor lies in which
``<prefix>.data-xxxxx-of-yyyyy``, its type, shape and checksum. Every block and tensor carries a masked CRC-32C.
"""

import math
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from kaleidobert.configs.addresses import written
from kaleidobert.errors import UserError
from kaleidobert.model_zoo.checkpoints import LazyArray

TABLE_MAGIC = 0xDB4775248B80FB57
FOOTER = 48  # bytes: two block handles, padding, the magic number
TRAILER = 5  # bytes after a block: its compression and checksum
POLYNOMIAL = 0x82F63B78  # CRC-32C, bits reversed
LANES = 4096  # a long tensor is checksummed in so many pieces side by side
SHORT = 32  # look-ups per lane below which lanes do not pay
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
    """Whether a path is the prefix of such a checkpoint: the name of its files without .index or .data-..."""
    return Path(f"{path}.index").is_file()


def read(prefix: str | Path, wants: Callable[[str], bool] = lambda name: True) -> dict[str, np.ndarray]:
    """{name: array} of the tensors whose names are wanted, each checked against its checksum.

    prefix: the path without ".index". Raises UserError where a file is missing, cut off, damaged or of another format, and
    for a wanted tensor that is a string, partitioned, or of a type that numpy lacks.
    """
    return {name: stored.load() for name, stored in open_arrays(prefix, wants).items()}


def open_arrays(prefix: str | Path, wants: Callable[[str], bool] = lambda name: True) -> dict[str, LazyArray]:
    """As ``read``, but an array is read and its checksum compared when it is asked for; all else is checked at once."""
    entries, num_shards = index(prefix)
    sizes: dict[int, int] = {}
    arrays = {}
    for name, entry in entries.items():
        if not wants(name):
            continue
        if entry.sliced or entry.dtype not in DTYPES:
            raise UserError(f"{name} is partitioned or of type {entry.dtype}", str(prefix), "whole tensors of plain numbers")
        path = Path(f"{prefix}.data-{entry.shard:05d}-of-{num_shards:05d}")
        if entry.shard not in sizes:
            sizes[entry.shard] = _size(path)
        there = min(entry.size, max(0, sizes[entry.shard] - entry.offset))
        dtype = np.dtype(DTYPES[entry.dtype])
        if there != entry.size or entry.size != dtype.itemsize * math.prod(entry.shape):
            raise UserError(f"{name} ends after {there} of {entry.size} bytes", str(path), "a complete file", "copy it again")
        arrays[name] = LazyArray(entry.shape, dtype, partial(_load, name, entry, path))
    return arrays


def _load(name: str, entry: Entry, path: Path) -> np.ndarray:
    # not a memory map: its pages would stay until the whole file has been in memory
    raw = np.fromfile(path, np.uint8, entry.size, offset=entry.offset)
    if mask(crc32c(raw)) != entry.crc:
        raise UserError(f"the checksum of {name} does not match", str(path), "an undamaged file", "copy it again")
    return raw.view(DTYPES[entry.dtype]).reshape(entry.shape)


def index(prefix: str | Path) -> tuple[dict[str, Entry], int]:
    """({name: Entry}, number of data files); raises UserError as ``read`` does."""
    path = Path(f"{prefix}.index")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", str(path), "the .index file of a TensorFlow checkpoint",
                        "give the path without .index, .data or .meta") from error
    try:
        return _parse(data)
    except (ValueError, IndexError, KeyError, TypeError, struct.error) as error:
        raise UserError(f"is no complete index of a TensorFlow checkpoint ({error})", str(path), fix="copy it again") from error


def crc32c(data: np.ndarray) -> int:
    """CRC-32C (Castagnoli) of uint8[n]. Long data is cut into lanes that advance together, two bytes a table look-up."""
    crc = 0xFFFFFFFF
    steps = len(data) // LANES // 2  # look-ups per lane
    if steps > SHORT:
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
    """What each value of the register's lowest bits turns into after that many bits."""
    table = np.arange(1 << bits, dtype=np.uint32)
    for _ in range(bits):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(POLYNOMIAL), table >> 1).astype(np.uint32)
    return table


def _zeros_operator(count: int) -> Callable[[int], int]:
    """What ``count`` zero bytes do to the register: a 32 x 32 matrix over bits, by repeated squaring, as four tables."""
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
    tables = [[apply(total, byte << (8 * place)) for byte in range(256)] for place in range(4)]
    return lambda crc: (tables[0][crc & 0xFF] ^ tables[1][(crc >> 8) & 0xFF] ^ tables[2][(crc >> 16) & 0xFF]
                        ^ tables[3][crc >> 24])


def mask(crc: int) -> int:
    """A checksum as it is stored: data that holds checksums of its own must not look right by chance."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", str(path), "the data beside the .index file") from error


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
    """The (key, value) pairs of a block; a key is stored as what differs from the one before."""
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
    """(number, value) of a protocol buffer's fields, undecoded."""
    value: int | bytes
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        kind = tag & 7
        if kind == 0:
            value, position = _varint(message, position)
        elif kind in (1, 2, 5):
            length, position = _varint(message, position) if kind == 2 else ({1: 8, 5: 4}[kind], position)
            value, position = message[position : position + length], position + length
        else:
            raise ValueError(f"wire type {kind}")
        yield tag >> 3, value


def _varints(data: bytes) -> Iterator[int]:
    position = 0
    while position < len(data):
        value, position = _varint(data, position)
        yield value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """(value, next position) of an integer in groups of seven bits, lowest first."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


# --- Which TensorFlow 1 checkpoint a path means: people name its folder, or one of its files


PARTS = (".index", ".meta", ".data-00000-of-00001")  # how the files of a checkpoint end


def prefix_of(path: Path, key: str) -> Path:
    """The path without the endings of a checkpoint's files; of a folder, the path of the one that it holds; others as they are.

    key: of the configuration, for the message. UserError where a folder holds none, or several.
    """
    if path.is_dir():
        found = sorted(path.glob("*.index"))
        if len(found) != 1:
            names = ", ".join(file.name.removesuffix(".index") for file in found) or "none"
            raise UserError(f"the folder holds {len(found)} checkpoints: {names}", written(path), "one",
                            f"name the checkpoint: {key}=FOLDER/NAME")
        return Path(path / found[0].name.removesuffix(".index"))
    ending = next((part for part in PARTS if path.name.endswith(part)), "")
    return path.with_name(path.name.removesuffix(ending)) if ending else path
