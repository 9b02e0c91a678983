"""The number parser against Python's exact arithmetic, compiled and not."""

import random
import time
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaleidobert.released import numbers

NUMBERS = st.from_regex(r"\A[+-]?([0-9]{1,25}\.?[0-9]{0,25}|\.[0-9]{1,25})([eE][+-]?[0-9]{1,2})?\Z").filter(str.isascii)


@pytest.fixture(params=["compiled", "plain"])
def way(request, monkeypatch):
    if request.param == "plain":
        monkeypatch.setattr(numbers, "_loops", lambda: None)
    elif not numbers.compiled():
        pytest.skip("numba is not installed")


def exact(text: str) -> np.float32:
    """The nearest float32, ties to even, by fractions."""
    value, near = Fraction(Decimal(text)), np.float32(float(text))
    if not np.isfinite(near):
        return near
    around = [near, np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))]
    around = [x for x in around if np.isfinite(x)]
    return min(around, key=lambda x: (abs(Fraction(float(x)) - value), int(np.float32(x).view(np.uint32)) & 1))


def same(left, right) -> bool:
    return np.asarray(left, np.float32).tobytes() == np.asarray(right, np.float32).tobytes()


def test_digits_of_all_sorts(way):
    rng, items = random.Random(0), []
    for number in range(4000):
        near = np.float32(rng.uniform(0, 2))
        middle = format(Decimal((float(near) + float(np.nextafter(near, np.float32(9)))) / 2), "f")
        wide = rng.random() * 10.0 ** rng.randrange(-44, 38)
        items.append([repr(rng.random()), f"{rng.gauss(0, 1):.3g}", str(near), middle, middle + "1", f"{wide:.17g}",
                      str(rng.randrange(10**17)), f"{rng.random():.6g}", "0", "-0.0", "7", "-1.5"][number % 12])
    read = numbers.floats(",".join(items).encode(), len(items))
    expected = [exact(item) if float(item) else np.float32(item) for item in items]
    assert [item for item, a, b in zip(items, read, expected) if not same(a, b)] == []


@settings(max_examples=60, deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=30))
def test_any_digits_and_exponents(items):
    loops = numbers._loops
    try:
        for loop in (loops, lambda: None):
            numbers._loops = loop
            with np.errstate(over="ignore"):
                expected = [np.copysign(exact(item), -1.0 if item[0] == "-" else 1.0) for item in items]
            assert same(numbers.floats(",".join(items).encode(), len(items)), expected)
    finally:
        numbers._loops = loops


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_any_integers(values):
    assert numbers.integers(",".join(map(str, values)).encode(), len(values)).tolist() == values


def test_as_released(way):
    read = numbers.floats(b" 0.5 ,,1e-3\t, +7,.5,5.,nan,-INF,infinity,1e400,1e-60,-0,", 11)
    assert same(read, np.array([0.5, 1e-3, 7, 0.5, 5, np.nan, -np.inf, np.inf, np.inf, 0, -0.0], np.float32))
    assert numbers.integers(b"001, 2 ,,+3,-4,0000000000000000000000005,", 5).tolist() == [1, 2, 3, -4, 5]


def test_the_largest_float_and_infinity(way):
    read = numbers.floats(b"340282356779733661637539395458142568447,-340282356779733661637539395458142568447.9,"
                          b"340282356779733661637539395458142568448,3.4028236e38,-1e39", 5)
    largest = np.finfo(np.float32).max
    assert same(read, [largest, -largest, np.inf, np.inf, -np.inf])


def test_a_long_item_that_is_no_number_is_refused_in_no_time(way):
    """Not in quadratic time: a megabyte of digits took a day."""
    began = time.process_time()
    with pytest.raises(numbers.BadNumber):
        numbers.floats(b"1" * 200_000 + b"x,1", 2)
    assert time.process_time() - began < 5


def test_each_loop_is_compiled_once_whatever_the_length_of_a_column():
    if not numbers.compiled():
        pytest.skip("numba is not installed")
    for text in (b"", b"1", b"1,2", b"1,2,3,4", b"1,2,3,45", b"1,2,3,4,5", b"1," * 30 + b"1"):
        for field in (text, memoryview(text), memoryview(b"x" + text)[1:]):
            for read in (numbers.floats, numbers.integers):
                assert read(field, len(text.split(b",")) if text else 0).sum() == sum(map(int, filter(None, text.split(b","))))
    assert {kind: len(loop.signatures) for kind, loop in numbers._loops().items()} == {"f": 1, "i": 1}


def test_decimals_of_every_count_before_anything(way):
    """Commas at every distance, for the compiled loops look at eight characters at once, behind one, none or several digits."""
    items = [f"{sign}{lead}{point}{'1234567890123456789'[:count]}" for count in range(20) for sign in ("", "-") for point in (".", "")
             for lead in ("7", "0", "", "12") if lead or (point and count)]
    for ahead in range(0, len(items), 3):
        part = items[ahead:] + items[:ahead]
        read = numbers.floats(",".join(part).encode(), len(part))
        assert [item for item, a in zip(part, read) if not same(a, np.copysign(exact(item), -1.0 if item[0] == "-" else 1.0))] == []
    for wrong in ("0.1234x67,1", "0.12345678x,1", "0.1234567812345678x,1", "x.5", "0-5", "0.5 5", ".", "-", "0.12345678,x"):
        with pytest.raises(numbers.BadNumber):
            numbers.floats(f"1,{wrong},{'0.25,' * 20}".encode(), 50)


def test_more_zeros_than_int_takes(way):
    zeros = b"0" * 5000
    assert numbers.integers(zeros + b",-" + zeros + b"7,+" + zeros + b"9223372036854775807", 3).tolist() == [0, -7, 2**63 - 1]
    with pytest.raises(numbers.BadNumber):
        numbers.integers(b"1" + zeros, 1)


@pytest.mark.parametrize("item", [b"abc", b"1_0", b"0x10", b"1e", b"1e+", b".", b" ", b"1 2", b"--1", b"1.2.3", b"0.5f", b"nan(1)", b"[1",
                                  b"\xff", b"\x00", "٣".encode()])
def test_no_numbers(way, item):
    with pytest.raises(numbers.BadNumber) as error:
        numbers.floats(b"0.5,1,," + item + b",0.25,1,1,1,1,1,1,1,1,1,1,1", 15)
    assert error.value.number == 3 and error.value.item == item


@pytest.mark.parametrize("item", [b"1.0", b"1e3", b"9223372036854775808", b"-9223372036854775809", b"x", b" ", b"-"])
def test_no_integers(way, item):
    with pytest.raises(numbers.BadNumber) as error:
        numbers.integers(b"5," + item, 2)
    assert error.value.number == 2 and error.value.item == item


@pytest.mark.parametrize(("field", "size"), [(b"", 2), (b"1", 2), (b"1,2,3", 2), (b"1,,2,3" + b",0.25" * 30, 5), (b"1,2,nan", 2)])
def test_wrong_count(way, field, size):
    with pytest.raises(numbers.WrongCount) as error:
        numbers.floats(field, size)
    assert error.value.count == len([item for item in field.split(b",") if item])
