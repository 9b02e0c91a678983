"""What fuzz_data_files.py feeds to the reader: schemas, numbers in many spellings, lines and what can befall them, files, lists."""

import base64
import gzip
import random
import re
import struct
from collections.abc import Callable
from decimal import Context, Decimal
from pathlib import Path

from kaleidobert.released.files import Position
from kaleidobert.released.schema import Column, Schema

Draw = Callable[[random.Random], str]
BLANKS = ("", "", "", "", " ", "  ", "\v", "\f")  # a TAB is between columns, and a carriage return is dropped
TEXTS = ("", "h", "a shirt, blue", '"quoted"', " x ", "0", "été", "\xa0", "a\0b", "end\0", "%s", "\\t", "\x1c", "x" * 300)
WIDE_TEXTS = ("白い", "👗", "\u2028", "\ufeff", "e\u0301")  # not in latin-1
BAD = ("1e", "1e+", "e5", ".", "-", "1_0", "0x10", "nan(1)", "infin", "1 2", "--1", "+-1", "1.2.3", "0.5f", "[1", "٣", " ", "+ 1", "1e5.0",
       "1,0", "\x1c1", "1.0", "1e3", "1e 5", "None", "½", "1\0", "9223372036854775808", "-9223372036854775809", "1" * 30, "\xb2")
NOISE = [bytes([value]) for value in b",,,\n\r\0 \v.+-eE09=_/\xff\xc3\x80\x1c"] + [b"\t"]
ODD_NAMES = ("nowhere", "x" * 300, "a/" * 3000, "x" * 20000, "~", ".", "..", "a folder", "lists", "a\0b", "a\tb", "\udcff",
             "x\ry", "/", "\x85")
HARMLESS = ("", "   ", "12345", " 678 ", "\ufeff9", "\t", "\xa0", "00")


def schema(rng: random.Random) -> Schema:
    """Returns 1 to 8 columns of any type."""
    columns = []
    for number in range(rng.choice((1, 2, 3, 5, 8))):
        type_ = rng.choice(("int", "float", "float", "str", "base64"))
        length = 1 if type_ == "str" else rng.choice((1, 1, rng.randint(2, 12), rng.randint(2, 12), rng.randint(1, 300)))
        columns.append(Column(f"c{number}" if rng.random() < 0.9 else f"é{number}'", type_, length))
    return Schema(tuple(columns), "flag", rng.choice(("utf-8", "utf-8", "latin-1")))


# --- Numbers ------------------------------------------------------------------------------------------------------


def middle(rng: random.Random) -> str:
    """Returns a number halfway between two float32 (or the last one and infinity), or next to it by one in a digit far behind."""
    low = rng.choice((rng.randrange(0x7F800000), rng.randrange(0x800000), rng.randrange(0x3F000000, 0x40000000), 0, 0x7F7FFFFF, 0x7FFFFF))
    near, above = (struct.unpack("<f", struct.pack("<I", low + more))[0] if low + more < 0x7F800000 else 2.0**128 for more in (0, 1))
    half, context = Decimal((near + above) / 2), Context(prec=rng.choice((150, 200, 1000)), Emin=-10**6, Emax=10**6)
    half = rng.choice((lambda: half, lambda: context.next_plus(half), lambda: context.next_minus(half)))()
    return format(half, rng.choice("fe"))


def long_digits(rng: random.Random) -> str:
    """Returns many digits, or many zeros before or behind them, of a number of ordinary size."""
    count = rng.choice((18, 19, 20, 25, 60, 400, 4299, 4300, 4301, 6000)) if rng.random() < 0.3 else rng.randint(17, 40)
    some = "".join(rng.choices("0123456789", k=min(count, 50))) + rng.choice("0123456789") * max(count - 50, 0)
    return rng.choice((lambda: "0." + some, lambda: "0" * count + repr(rng.random()), lambda: f"{some}e-{count}",
                       lambda: f"0.{'0' * count}{some[:20]}e{count}", lambda: f"{rng.random()!r}{'0' * count}", lambda: some[:30] + ".5",
                       lambda: f"1{'0' * count}e-{count}"))()


FLOATS: tuple[Draw, ...] = (
    lambda rng: repr(rng.uniform(-2, 2)), lambda rng: f"{rng.gauss(0, 1):.6g}", lambda rng: f"{rng.random():.{rng.randrange(20)}f}",
    lambda rng: f"{rng.uniform(0, 10):.{rng.randrange(18)}f}", lambda rng: str(rng.randrange(10 ** rng.randint(1, 22))),
    lambda rng: f"{rng.random() * 10.0 ** rng.randint(-50, 45):.{rng.randrange(20)}e}", middle, long_digits,
    lambda rng: repr(struct.unpack("<f", struct.pack("<I", rng.randrange(0x1000000)))[0]),  # subnormal, or nearly
    lambda rng: f"{rng.randrange(10**6)}{rng.choice('eE')}{rng.choice(('', '+', '-', '-0'))}{rng.randrange(60)}",
    lambda rng: rng.choice(("0", "0.0", "1", "7.", ".5", "00.50", "1e39", "3.4028235e38", "3.4028236e38", "1e400", "1e-60", "1e-45",
                            "7e-46", "1e99999999999999999999", "0e99999999999999999999", "1e-99999999999999999999", "nan", "NaN", "inf",
                            "INF", "Infinity", "16777217", "1e23", "9007199254740993")))
INTS: tuple[Draw, ...] = (
    lambda rng: str(rng.randrange(2000)), lambda rng: str(rng.randrange(10 ** rng.randint(1, 19)) % 2**63),
    lambda rng: str(rng.choice((2**63 - 1, 2**31 - 1, 2**31, 2**53 + 1, 10**18, 10**18 - 1, 0, 1))),
    lambda rng: "0" * rng.choice((1, 2, 17, 18, 19, 30, rng.choice((4300, 6000)))) + str(rng.randrange(10**6)))


def number(rng: random.Random, type_: str, scalar: bool, style: int | None) -> str:
    """Returns a number of a column, in any spelling or in that of the style."""
    draws = FLOATS if type_ == "float" else INTS
    text = draws[style](rng) if style is not None else rng.choice(draws)(rng)
    if type_ == "int" and scalar and len(text) < 4000 and int(text) >= 2**31:
        text = str(int(text) % 2**31)
    if type_ == "int" and rng.random() < 0.02:
        text = f"-{2**31 if scalar else 2**63}"
    if text[0] != "-" and rng.random() < 0.2:
        text = rng.choice("-+" if type_ == "float" or not scalar else "-") + text
    return rng.choice(BLANKS) + text + rng.choice(BLANKS) if rng.random() < 0.1 else text


def field(rng: random.Random, column: Column, encoding: str) -> bytes:
    """Returns one column of a good line."""
    if column.type == "str":
        return rng.choice(TEXTS + (WIDE_TEXTS if encoding == "utf-8" else ())).encode(encoding)
    if column.type == "base64":
        raw = rng.randbytes(4 * column.length)
        return rng.choice((base64.b64encode, base64.urlsafe_b64encode, lambda data: base64.b64encode(data).rstrip(b"=")))(raw)
    draws = FLOATS if column.type == "float" else INTS
    style = rng.randrange(len(draws)) if rng.random() < 0.5 else None
    items = [number(rng, column.type, column.length == 1, style) for _ in range(column.length)]
    if column.length == 1:
        return b"" if rng.random() < 0.1 else items[0].encode()
    while rng.random() < 0.2:
        items.insert(rng.randint(0, len(items)), "")
    return ",".join(items).encode()


# --- Lines and what befalls them ----------------------------------------------------------------------------------


def put(more: Callable[[random.Random], bytes], out: int = 0) -> Callable[[random.Random, bytes], bytes]:
    """Returns a mutation: these bytes at a random position, where ``out`` bytes are taken out."""
    def mutate(rng: random.Random, line: bytes) -> bytes:
        at = rng.randint(0, max(len(line) - out, 0))
        return line[:at] + more(rng) + line[at + out :]
    return mutate


def part(separators: bytes, change: Callable[[random.Random, bytes], list[bytes]]) -> Callable[[random.Random, bytes], bytes]:
    """Returns a mutation: one part of the line between separators becomes several or none."""
    def mutate(rng: random.Random, line: bytes) -> bytes:
        parts = re.split(b"([" + separators + b"])", line)
        at = 2 * rng.randrange(len(parts) // 2 + 1)
        changed = change(rng, parts[at])
        if not changed:  # and one separator less
            return b"".join(parts[:at] + parts[at + 2 :])
        return b"".join(parts[:at]) + (parts[1] if len(parts) > 1 else separators[:1]).join(changed) + b"".join(parts[at + 1 :])
    return mutate


def flipped(rng: random.Random, line: bytes) -> bytes:
    """Returns the bytes with one bit of one byte turned over."""
    at = rng.randrange(len(line)) if line else 0
    return line[:at] + bytes(byte ^ 1 << rng.randrange(8) for byte in line[at : at + 1]) + line[at + 1 :]


MUTATIONS: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "bit flipped": flipped, "byte replaced": put(lambda rng: rng.choice(NOISE), 1), "byte inserted": put(lambda rng: rng.choice(NOISE)),
    "bytes deleted": lambda rng, line: put(lambda rng: b"", rng.randint(1, 4))(rng, line),
    "truncated": lambda rng, line: line[: rng.randint(0, len(line))], "TAB": put(lambda rng: b"\t"), "newline": put(lambda rng: b"\n"),
    "zero byte": put(lambda rng: b"\0"), "high byte": put(lambda rng: bytes([rng.randint(128, 255)])), "blank": put(lambda rng: b" "),
    "carriage return": put(lambda rng: b"\r"), "CRLF": lambda rng, line: line + b"\r",
    "item dropped": part(b",\t", lambda rng, item: []), "item doubled": part(b",", lambda rng, item: [item, item]),
    "item emptied": part(b",", lambda rng, item: [b"", b""]), "item replaced": part(b",\t", lambda rng, item: [rng.choice(BAD).encode()]),
    "number replaced": part(b",\t", lambda rng, item: [number(rng, rng.choice(("int", "float")), False, None).encode()]),
    "column dropped": part(b"\t", lambda rng, item: []), "column doubled": part(b"\t", lambda rng, item: [item, item]),
    "column replaced": part(b"\t", lambda rng, item: [rng.choice(TEXTS).encode()]),
    "padding": lambda rng, line: line + b"=" * rng.randint(1, 4)}


def file(rng: random.Random, schema: Schema, tags: dict[bytes, str]) -> tuple[bytes | None, str]:
    """Returns (content, what is odd about it): None for a file that is not there. ``tags`` gets {line: what befell it}."""
    made = []
    for _ in range(rng.randint(1, 5)):
        line, befell = b"\t".join(field(rng, column, schema.encoding) for column in schema.columns), "untouched"
        if rng.random() < 0.5:
            befell = rng.choice(list(MUTATIONS))
            line = MUTATIONS[befell](rng, line)
            if rng.random() < 0.2:
                line, befell = rng.choice(list(MUTATIONS.values()))(rng, line), "two mutations"
        tags |= {text: befell if text else "blank line" for text in line.split(b"\n")}
        made.append(line)
    content = b"\n".join(made) + b"\n"
    odd = rng.choice(("missing", "a folder", "long name", "empty", "compressed", "empty line")) if rng.random() < 0.08 else rng.choice(
        ("ordinary", "ordinary", "no newline at its end"))
    tags |= dict.fromkeys((b"", b"\r"), "blank line")
    changed = {"missing": None, "a folder": None, "long name": None, "empty": b"", "compressed": gzip.compress(content, mtime=0),
               "empty line": rng.choice((content + b"\n", b"\n" + content, content + b"\r\n")),
               "no newline at its end": content[:-1] or b"\r"}
    return changed.get(odd, content), odd


def position(rng: random.Random, contents: list[bytes | None]) -> Position:
    """Draws any position, mostly one where no line begins."""
    number = rng.randint(0, len(contents))
    size = len(contents[number] or b"") if number < len(contents) else 0
    return Position(number if rng.random() < 0.9 else number + 1, rng.choice((rng.randint(0, size), size, size + 1)), rng.randint(0, 2000))


def list_file(rng: random.Random, paths: list[Path]) -> bytes:
    """Returns the content of the list file ``lists/list`` beside the files."""
    entries: list[bytes] = []
    for path in paths * rng.randint(1, 2):
        name = rng.choice((str(path), path.name, f"./{path.name}", f"../{path.name}", f"lists/../{path.name}"))
        entries.append((rng.choice(BLANKS) + name + rng.choice(BLANKS)).encode())
    for _ in range(rng.choice((0, 0, 1, 3))):
        entries.insert(rng.randint(0, len(entries)), rng.choice(HARMLESS).encode())
    if rng.random() < 0.3:
        entries.insert(rng.randint(0, len(entries)), rng.choice(ODD_NAMES).encode("utf-8", "surrogateescape"))
    content = rng.choice((b"\n", b"\n", b"\r\n")).join(entries) + rng.choice((b"", b"\n"))
    if rng.random() < 0.2:
        content = rng.choice((flipped, MUTATIONS["byte inserted"], MUTATIONS["truncated"]))(rng, content)
    return rng.choice((b"", b"", b"", b"\xef\xbb\xbf")) + content
