"""The fuzzing program: clean on the reader as it is, and it finds faults that are planted there; its reference on known values."""

import struct

import numpy as np
import pytest

from benchmarks import fuzz_data_files, fuzz_drawing, fuzz_reference
from benchmarks.fuzz_reference import Refused
from kaleidobert.released import files, numbers
from kaleidobert.released.schema import Column


def test_two_hundred_cases_are_clean():
    found, counts = fuzz_data_files.run(seed=0, seconds=0, cases=200)
    assert found == 0 and counts["cases"] == 200
    assert counts["lines, untouched: refused"] == 0 < counts["lines, untouched: valid"] and counts["lines, blank line: refused"]
    assert all(counts[f"columns, {kind}: {end}"] for kind in ("int vector", "int scalar", "float vector", "float scalar", "str", "base64")
               for end in ("valid", "refused"))
    assert all(counts[f"lines, {name}: valid"] + counts[f"lines, {name}: refused"] for name in fuzz_drawing.MUTATIONS if name != "newline")
    assert counts["lists: valid"] and counts["lists: refused"]


def test_a_seed_repeats_itself(capsys):
    first, again = (fuzz_data_files.run(seed=3, seconds=0, cases=10)[1] for _ in range(2))
    assert {**first, "CPU seconds": 0} == {**again, "CPU seconds": 0}
    assert fuzz_data_files.main(["--seed", "3", "--cases", "2", "--first", "8"]) == 0
    assert "cases" in capsys.readouterr().out


def rounded_twice(item: bytes) -> np.float32:
    if not numbers.FLOAT.fullmatch(item.strip(numbers.BLANKS)):
        raise ValueError(item)
    with np.errstate(over="ignore"):
        return np.float32(float(item))


@pytest.mark.parametrize(("module", "name", "fault"), [
    (numbers, "float_item", rounded_twice),
    (numbers, "integer_item", int),
    (files, "_int32", lambda field: int(field) % 2**31),
    (files, "_at", lambda line, column: line.where),
    (files, "GZIP", b"\xff\xff")])
def test_planted_faults_are_found(monkeypatch, capsys, module, name, fault):
    monkeypatch.setattr(module, name, fault)
    assert fuzz_data_files.main(["--seed", "1", "--cases", "400"]) == 1
    told = capsys.readouterr().out
    assert "FOUND by --seed 1 --first" in told and "schema: " in told


@pytest.mark.parametrize(("text", "bits"), [
    ("1", 0x3F800000), ("-0", 0x80000000), (" .5e1\f", 0x40A00000), ("16777217", 0x4B800000), ("16777219", 0x4B800002), ("1e-45", 1),
    ("340282356779733661637539395458142568447", 0x7F7FFFFF), ("340282356779733661637539395458142568448", 0x7F800000),
    ("1.1754943e-38", 0x7FFFFF + 1), ("7e-46", 0), ("1e9999999", 0x7F800000), ("-iNf", 0xFF800000), ("+nan", 0x7FC00000), ("1e", None),
    ("", None), (".", None), ("1.2.3", None), ("0x1", None), ("1_0", None), ("1e 5", None)])
def test_reference_floats(text, bits):
    assert fuzz_reference.bits(text.encode()) == bits


def test_reference_fields():
    assert fuzz_reference.field(Column("x", "int", 2), b",-7,,+00" + b"0" * 5000 + b"8", "utf-8") == struct.pack("<2q", -7, 8)
    assert fuzz_reference.field(Column("x", "int", 1), b"", "utf-8") == bytes(4)
    for kind, length, text in (("int", 1, b"+1"), ("int", 1, b"2147483648"), ("int", 2, b"1"), ("float", 2, b"1,2,3"), ("str", 1, b"\xff"),
                               ("base64", 1, b"AAAAAA="), ("base64", 1, b"AAAA")):
        with pytest.raises(Refused):
            fuzz_reference.field(Column("x", kind, length), text, "utf-8")
    assert fuzz_reference.field(Column("x", "base64", 1), b"__-_Pw", "utf-8") == b"\xff\xff\xbf\x3f"
