"""What the released text files mean, in plain Python and slowly: the reference of fuzz_data_files.py.

Source: the behaviour of the released reader (33 golden cases of odd lines), and what kaleidobert is stricter about: vectors have the
length of their column, text is in its encoding, a file has a line. No numpy, no float, no regular expression, nothing of the reader.
"""

import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from kaleidobert.released.files import Position
from kaleidobert.released.schema import Column, Schema

BLANKS = " \t\n\v\f\r"
INFINITE, NAN, NEGATIVE = 0x7F800000, 0x7FC00000, 1 << 31  # bits of float32
CHUNK = 4000  # digits that int() takes
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
LONGEST_NAME = 1 << 14
BOM = b"\xef\xbb\xbf"


class Refused(Exception):
    """what: how the message begins; where: file, line and column as the message names them; column: its name, if it is one's."""

    def __init__(self, what: str, where: str = "", column: str = ""):
        super().__init__(what, where, column)
        self.what, self.where, self.column = what, where, column


# --- Numbers ------------------------------------------------------------------------------------------------------


def digits(text: str) -> int | None:
    """Returns the value of digits and nothing else, however many."""
    if not (text.isascii() and text.isdigit()):
        return None
    value = 0
    for at in range(0, len(text), CHUNK):
        part = text[at : at + CHUNK]
        value = value * 10 ** len(part) + int(part)
    return value


def signed(text: str) -> int | None:
    """Returns the value of digits behind at most one sign."""
    value = digits(text[1:] if text[:1] in ("+", "-") else text)
    return -value if value is not None and text[0] == "-" else value


def whole(item: bytes) -> int | None:
    """Returns the whole number that an item spells, of any size; None where it spells none."""
    return signed(item.decode("latin-1").strip(BLANKS))


def bits(item: bytes) -> int | None:
    """Returns the 32 bits of the float32 nearest to what an item spells, ties to even; None where it spells no number."""
    text = item.decode("latin-1").strip(BLANKS)
    sign = NEGATIVE if text[:1] == "-" else 0
    text = (text[1:] if text[:1] in ("+", "-") else text).lower()
    if text in ("nan", "inf", "infinity"):
        return sign | (NAN if text == "nan" else INFINITE)
    mantissa, mark, power = text.partition("e")
    before, _, after = mantissa.partition(".")
    value, exponent = digits(before + after), signed(power) if mark else 0
    if value is None or exponent is None:
        return None
    return sign | nearest(value, exponent - len(after), len((before + after).lstrip("0")))


def nearest(value: int, power: int, size: int) -> int:
    """Returns the bits of the float32 nearest to value * 10**power, for a value of ``size`` digits."""
    if value == 0 or size + power < -60:
        return 0
    if size + power > 60:
        return INFINITE
    above, below = value * 10 ** max(power, 0), 10 ** max(-power, 0)
    scale = max(above.bit_length() - below.bit_length() - 24, -149)  # of the last bit; that of the smallest float32 is 2**-149
    if (above << max(-scale, 0)) // (below << max(scale, 0)) >= 1 << 24:
        scale += 1
    below <<= max(scale, 0)
    units, rest = divmod(above << max(-scale, 0), below)
    units += 2 * rest > below or (2 * rest == below and units & 1)
    return min(units + ((scale + 149) << 23), INFINITE)  # a carry goes into the exponent, as it should


# --- Fields and lines ---------------------------------------------------------------------------------------------


def field(column: Column, text: bytes, encoding: str) -> bytes | str:
    """Returns the bytes of the tensor, or the text, that a column holds; raises Refused."""
    if column.type == "str":
        try:
            return text.decode(encoding)
        except UnicodeDecodeError as error:
            raise Refused(f"is not {encoding} (byte {error.start + 1} is") from None
    if column.type == "base64":
        return sextets(text.decode("latin-1"), column.length)
    floats, scalar = column.type == "float", column.length == 1
    items = [text or b"0"] if scalar else [item for item in text.split(b",") if item]
    limit, values = 1 << (31 if scalar else 63), []
    for number, item in enumerate(items, 1):
        value = bits(item) if floats else whole(item)
        if value is None or (not floats and (not -limit <= value < limit or (scalar and b"+" in item))):
            raise Refused(f"number {number:,} is ")
        if number > column.length:  # what comes behind is only counted
            break
        values.append(value)
    if len(items) != column.length:
        raise Refused(f"holds {len(items):,} numbers")
    return struct.pack(f"<{len(values)}{'I' if floats else 'i' if scalar else 'q'}", *values)


def sextets(text: str, length: int) -> bytes:
    """Returns the bytes of base64 of one of two alphabets, with all of its padding or none; bits left over are ignored."""
    bare = text.rstrip("=")
    last = "-_" if "-" in bare or "_" in bare else "+/"
    if len(bare) % 4 == 1 or len(text) - len(bare) not in (0, -len(bare) % 4) or not set(bare) <= set(ALPHABET + last):
        raise Refused("is not base64")
    value = 0
    for letter in bare:
        value = value << 6 | (ALPHABET + last).index(letter)
    size = len(bare) * 6 // 8
    if size % 4:
        raise Refused("is not base64")
    if size != 4 * length:
        raise Refused(f"holds {size // 4:,} numbers")
    return (value >> (len(bare) * 6 - size * 8)).to_bytes(size, "big")


def row(content: bytes, where: str, schema: Schema) -> dict[str, bytes | str]:
    """Returns {column: bytes of its tensor, or its text} of a line; raises Refused."""
    content = content.replace(b"\r", b"")
    if not content:
        raise Refused("the line is blank", where)
    fields = content.split(b"\t")
    if len(fields) != len(schema.columns):
        raise Refused(f"the line has {len(fields)} columns", where)
    made = {}
    for column, text in zip(schema.columns, fields):
        try:
            made[column.name] = field(column, text, schema.encoding)
        except Refused as refused:
            raise Refused(refused.what, f"{where}, column {column.name!r}", column.name) from None
    return made


# --- Files and lists ----------------------------------------------------------------------------------------------


def lines(paths: Sequence[Path], contents: Sequence[bytes | None], start: Position, longest: int) -> Iterator[tuple[bytes, str, Position]]:
    """Returns (line, where it is, position after it) of files with these contents, None for what cannot be read; raises Refused."""
    if not 0 <= start.file <= len(paths):
        raise Refused("the position to continue from", "data files")
    for number in range(start.file, len(paths)):
        path, content = str(paths[number]), contents[number]
        at, line = (start.offset, start.line) if number == start.file else (0, 0)
        if content is None:
            raise Refused("cannot be read", path)
        if content.startswith(b"\x1f\x8b"):
            raise Refused("is compressed", path)
        if at and at != len(content) and content[at - 1 : at] != b"\n":
            raise Refused("no line begins at byte", path)
        if not content:
            raise Refused("the file is empty", path)
        rest = content[at:]
        while rest:
            text, end, rest = rest.partition(b"\n")
            at, line = at + len(text) + len(end), line + 1
            if len(text) >= longest:
                raise Refused("no line end within", f"{path}, line {line:,}")
            yield text, f"{path}, line {line:,}", Position(number, at, line)


def rows(paths: Sequence[Path], contents: Sequence[bytes | None], schema: Schema, start: Position,
         longest: int) -> Iterator[tuple[Position, dict[str, bytes | str]]]:
    """Returns (position after the row, row) from a position on; raises Refused."""
    for text, where, after in lines(paths, contents, start, longest):
        yield after, row(text, where, schema)


def names(path: Path, content: bytes, folders: Sequence[str]) -> list[Path]:
    """Returns the files that a list file names, each in the first of the folders that has it; raises Refused."""
    result = []
    for text, where, _ in lines([path], [content], Position(), LONGEST_NAME):
        try:
            name = text.removeprefix(BOM).decode().strip()
        except UnicodeDecodeError:
            raise Refused("is not UTF-8", where) from None
        if not name or set(name) <= set("0123456789"):
            continue
        if "\t" in name or "\0" in name:
            raise Refused("holds a TAB or a zero byte", where)
        there = [each for each in (Path(folder, name) for folder in folders) if os.path.isfile(each)]  # Path drops a last slash
        if not there:
            raise Refused("there is no file", where)
        result.append(there[0])
    if not result:
        raise Refused("names no data file", str(path))
    return result
