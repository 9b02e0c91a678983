"""Comma-separated numbers of the released text files, as TensorFlow's decode_csv and to_number read them.

    floats(b"0.5,1e-3, 7", 3)        # float32[3]
    integers(b"1,2,3", 3)            # int64[3]

A number becomes the float32 nearest to its decimal digits, ties to even: bit for bit the result of tf.strings.to_number, without
rounding twice by way of float64. As released: empty items are dropped, blanks around a number mean nothing, a "+" is allowed.
Hexadecimal numbers and digits grouped by "_" are refused.

The loops are compiled by numba (seconds, once per process), release the interpreter's lock, and stop at the items that they cannot
decide (nan, inf, more than 18 digits of an integer, one float in 2**25), which Python parses. Without numba Python parses all.
"""

import binascii
import math
import re
import sys
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from functools import cache

import numpy as np

BLANKS = b" \t\n\v\f\r"
FLOAT = re.compile(rb"[+-]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|inf(?:inity)?|nan)", re.ASCII | re.IGNORECASE)
INTEGER = re.compile(rb"([+-]?)0*(\d{1,19})", re.ASCII)  # without its zeros: int() takes no more than 4,300 digits
DONE, HARD, FULL = 0, 1, 2  # how a compiled loop ended, see loops.py


class BadNumber(ValueError):
    """An item is no number. number: its index, from 1; item: its characters; expected: the form of a right one."""

    def __init__(self, number: int, item: bytes, expected: str):
        super().__init__(number, item, expected)
        self.number, self.item, self.expected = number, item, expected


class WrongCount(ValueError):
    """A column holds another count of numbers. count: the actual one."""

    def __init__(self, count: int):
        super().__init__(count)
        self.count = count


def floats(field: bytes | memoryview, size: int) -> np.ndarray:
    """Parses a column as f32[size]; raises WrongCount or BadNumber."""
    return _read(field, np.empty(size, np.float32), float_item, "a number")


def integers(field: bytes | memoryview, size: int) -> np.ndarray:
    """Parses a column as i64[size]; raises WrongCount or BadNumber."""
    return _read(field, np.empty(size, np.int64), integer_item, "a whole number of 64 bits")


def from_base64(field: bytes, size: int) -> np.ndarray:
    """Decodes base64 in either alphabet, with or without padding, as f32[size]; raises WrongCount or binascii.Error."""
    if any(mark in field for mark in b"-_"):
        if any(mark in field for mark in b"+/"):
            raise binascii.Error("two alphabets are mixed")
        field = field.translate(bytes.maketrans(b"-_", b"+/"))
    bare = field.rstrip(b"=")
    if len(field) - len(bare) not in (0, -len(bare) % 4):
        raise binascii.Error("the padding is wrong")
    raw = binascii.a2b_base64(bare + b"=" * (-len(bare) % 4), strict_mode=True)
    if len(raw) % 4:
        raise binascii.Error(f"{len(raw):,} bytes are no float32 numbers")
    if len(raw) != 4 * size:
        raise WrongCount(len(raw) // 4)
    return np.frombuffer(raw, "<f4").astype(np.float32)


def float_item(item: bytes) -> np.float32:
    """Parses the nearest float32 of one number, by Python alone; ValueError where the item is none."""
    item = item.strip(BLANKS)
    if not FLOAT.fullmatch(item):
        raise ValueError(item)
    wide = float(item)
    with np.errstate(over="ignore"):
        near = np.float32(wide)
        for other in (np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))):
            # float64 in the middle of two float32: which one is nearer is in digits that float64 has lost
            if (_bounded(near) + _bounded(other)) / 2 == wide:
                exact, middle = Fraction(Decimal(item.decode())), Fraction(wide)
                return near if exact == middle else max(near, other) if exact > middle else min(near, other)
    return near


def _bounded(value: np.float32) -> float:
    """Returns the value; of infinity the successor of the largest float32, so that the middle between both exists."""
    return math.copysign(2.0**128, value) if np.isinf(value) else float(value)


def integer_item(item: bytes) -> int:
    """Parses one whole number of 64 bits, by Python alone; ValueError where the item is none."""
    match = INTEGER.fullmatch(item.strip(BLANKS))
    value = int(match[1] + match[2]) if match else 2**63
    if not -(2**63) <= value < 2**63:
        raise ValueError(item)
    return value


def compiled() -> bool:
    """Whether the loops are compiled: numba is installed and the machine is little-endian."""
    return _loops() is not None


def _read(field: bytes | memoryview, out: np.ndarray, convert: Callable, expected: str) -> np.ndarray:
    loops, at, count = _loops(), 0, 0
    if loops is None:
        loop, field = None, bytes(field)
        if out.dtype.kind == "f" and _all_at_once(field, out):
            return out
    elif field:
        loop, text, words = loops[out.dtype.kind], np.frombuffer(field, np.uint8), _words(field)
    while at < len(field):
        status = HARD
        if loop is not None:
            status, at, count = loop(text, words, at, out, count)
        if status == HARD:
            field = bytes(field)  # copies a view, once
            end = field.find(b",", at)
            end = len(field) if end < 0 else end
            if end > at:
                try:
                    value = convert(field[at:end])
                except ValueError:
                    raise BadNumber(count + 1, field[at:end], expected) from None
                if count == len(out):
                    status = FULL
                else:
                    out[count], count = value, count + 1
            at = end + 1
        if status == FULL:
            raise WrongCount(sum(map(bool, bytes(field).split(b","))))
    if count < len(out):
        raise WrongCount(count)
    return out


def _words(field: bytes | memoryview) -> np.ndarray:
    """Returns the 64-bit word at each offset. Never fewer than two: numba would compile its loops again for arrays of one or none."""
    return np.ndarray(len(field) - 7, "<u8", field, strides=(1,)) if len(field) > 8 else _words(bytes(9))


def _all_at_once(field: bytes, out: np.ndarray) -> bool:
    """Fills ``out`` without numba, by way of float64; returns False where an item needs the exact parser or is wrong."""
    items = [item for item in field.split(b",") if item]
    if len(items) != len(out) or b"_" in field:
        return False
    try:
        wide = np.array(list(map(float, items)))
    except ValueError:
        return False
    with np.errstate(over="ignore"):
        out[:] = wide
        unsure = (wide * (1 - 2.0**-50)).astype(np.float32) != (wide * (1 + 2.0**-50)).astype(np.float32)
    for position in np.flatnonzero(unsure):
        out[position] = float_item(items[position])
    return True


@cache
def _loops() -> Mapping[str, Callable] | None:
    """Returns the compiled loops by the kind of their dtype, None without numba."""
    try:
        from kaleidobert.released import loops
    except ImportError:
        return None
    if sys.byteorder != "little":  # the loops look at eight characters as one word
        return None
    return {"f": loops.floats, "i": loops.integers}
