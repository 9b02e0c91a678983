"""The compiled loops of numbers.py, which imports this module at the first number: importing numba is slow.

A loop reads comma-separated numbers from text[at] on into out[count] and on, and returns (status, position, count). DONE: the end;
FULL: out has no room for another number; HARD: Python must parse the item that begins at the position.

Each loop is one function: numba counts references to an array that is passed on, which takes longer than a number. Mispredicted
branches and waiting for the position of the next number would take most of the time; so _plain looks at eight characters at once,
as the bytes of one 64-bit word (the first character in the lowest byte), has no branch that depends on the number of decimals up to
eight, and finds the comma without reading the digits before it.
"""

import numpy as np
from numba import njit

DONE, HARD, FULL = 0, 1, 2
COMMA, POINT, PLUS, MINUS, ZERO, NINE, SMALL_E, BIG_E, SPACE, TAB, RETURN = b",.+-09eE \t\r"
ZEROS, COMMAS, ABOVE_NINE, LOW, HIGH = (np.uint64(0x0101010101010101 * byte) for byte in (ZERO, COMMA, 0x76, 0x01, 0x80))
# positions in the text are unsigned, so that no compiled loop checks for negative ones
ONE, TWO, THREE, SEVEN, EIGHT, TEN, SIXTEEN, HIGHEST = (np.uint64(value) for value in (1, 2, 3, 7, 8, 10, 16, 56))
DIGITS, DECIMALS, ROOM = np.uint64(18), np.uint64(17), np.uint64(26)  # of a whole number, of a plain float; what _plain looks ahead
MAX_MANTISSA = np.uint64(10**17)  # below it, one more digit still fits a mantissa
POWERS = 10.0 ** np.arange(23)  # exact in float64
TENS = 10 ** np.arange(9, dtype=np.uint64)


@njit(nogil=True)
def _first_byte(bits):
    """Returns the index of the lowest byte with a bit set, of words in which only highest bits of bytes are set; 0 for none."""
    # 1 << 8n times this constant has n in its highest byte
    return ((bits & (~bits + ONE)) >> SEVEN) * np.uint64(0x0001020304050607) >> HIGHEST


@njit(nogil=True)
def _length(word):
    """Counts the digits at the beginning of eight characters, given as characters ^ "0"."""
    other = ((word + ABOVE_NINE) | word) & HIGH  # the lowest bit that is set is that of the first other character
    return EIGHT if other == 0 else _first_byte(other)


@njit(nogil=True)
def _eight(word):
    """Returns the number that eight digits form."""
    pairs = word * TEN + (word >> EIGHT)  # in every other byte
    low, high = pairs & np.uint64(0xFF000000FF), (pairs >> np.uint64(16)) & np.uint64(0xFF000000FF)
    return (low * np.uint64((10**6 << 32) + 100) + high * np.uint64((10**4 << 32) + 1)) >> np.uint64(32)


@njit(nogil=True)
def _commas(word):
    """Returns a word whose lowest set bit is in the byte of the first comma of eight characters; 0 where there is none."""
    other = word ^ COMMAS
    return (other - LOW) & ~other & HIGH


@njit(nogil=True, error_model="numpy")
def _plain(text, words, at, out, count):
    """Reads numbers of one digit and up to 17 decimals; returns (position, count) before anything else, or near the end."""
    size, limit = np.uint64(len(text)), len(out)
    while at + ROOM < size and count < limit:
        commas, more = _commas(words[at]), _commas(words[at + EIGHT])
        far = np.uint64(commas == 0)  # no branch: the processor could not guess which numbers are that long
        commas |= more & (~far + ONE)
        comma = at + (far << THREE)
        if commas == 0:
            commas, comma = _commas(words[at + SIXTEEN]), at + SIXTEEN
        comma += _first_byte(commas)
        begin = at + np.uint64(text[at] == MINUS)
        lead = np.uint64(text[begin]) - np.uint64(ZERO)
        point = begin + ONE + np.uint64(text[begin + ONE] == POINT)
        word, length = words[point] ^ ZEROS, comma - point
        left, mantissa = length, lead
        if length >= EIGHT:
            if length > DECIMALS or _length(word) < EIGHT:  # a comma before the point makes the length huge
                break
            mantissa, word, left = lead * TENS[EIGHT] + _eight(word), words[point + EIGHT] ^ ZEROS, length - EIGHT
            if left >= EIGHT:
                if _length(word) < EIGHT:
                    break
                mantissa, word, left = mantissa * TENS[EIGHT] + _eight(word), words[point + SIXTEEN] ^ ZEROS, left - EIGHT
        mantissa = mantissa * TENS[left] + _eight((word << (HIGHEST - EIGHT * left)) << EIGHT)
        value = float(mantissa) / POWERS[length]
        near = np.float32(value * (1 - 2.0**-50))
        several = (length > 0) & (text[begin + ONE] != POINT)  # digits before the point
        if (commas == 0) | (lead > 9) | several | (_length(word) != left) | (near != np.float32(value * (1 + 2.0**-50))):
            break
        out[count] = -near if text[at] == MINUS else near
        count += 1
        at = comma + ONE
    return at, count


@njit(nogil=True, error_model="numpy")
def floats(text, words, at, out, count):
    """Reads float32 numbers; words: the 64-bit word that begins at each position.

    HARD: items that are not plain decimal, or too near the middle of two float32 for float64 to decide.
    """
    size, limit, at = np.uint64(len(text)), len(out), np.uint64(at)
    while at < size:
        at, count = _plain(text, words, at, out, count)
        start = at
        if text[at] == COMMA:  # an empty item
            at += ONE
            continue
        while at < size and (text[at] == SPACE or (TAB <= text[at] <= RETURN)):
            at += ONE
        negative = at < size and text[at] == MINUS
        if at < size and (negative or text[at] == PLUS):
            at += ONE
        mantissa, scale, digits, fraction = np.uint64(0), 0, 0, 0
        while at < size and (ZERO <= text[at] <= NINE or (text[at] == POINT and fraction == 0)):
            if text[at] == POINT:
                fraction = 1
            else:
                digits += 1
                if mantissa < MAX_MANTISSA:
                    mantissa = mantissa * TEN + np.uint64(text[at] - ZERO)
                    scale -= fraction
                else:
                    scale += 1 - fraction
            at += ONE
        if at < size and (text[at] == SMALL_E or text[at] == BIG_E):
            down, power, first = at + ONE < size and text[at + ONE] == MINUS, 0, at
            at += TWO if down or (at + ONE < size and text[at + ONE] == PLUS) else ONE
            while at < size and ZERO <= text[at] <= NINE:
                power = min(power * 10 + (text[at] - ZERO), 10000)
                at += ONE
            scale += -power if down else power
            digits = 0 if at == first + ONE or not ZERO <= text[at - ONE] <= NINE else digits
        while at < size and (text[at] == SPACE or (TAB <= text[at] <= RETURN)):
            at += ONE
        if digits == 0 or (at < size and text[at] != COMMA) or scale < -22 or scale > 22:
            return HARD, start, count
        if count == limit:
            return FULL, start, count
        value = float(mantissa) * POWERS[scale] if scale > 0 else float(mantissa) / POWERS[-scale]
        # value is off by a few 2**-53 of itself; the nearest float32 is sure where that cannot change it
        near = np.float32(value * (1 - 2.0**-50))
        if near != np.float32(value * (1 + 2.0**-50)):
            return HARD, start, count
        out[count] = -near if negative else near
        count += 1
        at += ONE
    return DONE, at, count


@njit(nogil=True)
def integers(text, words, at, out, count):
    """Reads int64 numbers; words is not used. HARD: items that are no number, or have more than 18 digits."""
    size, limit, at = np.uint64(len(text)), len(out), np.uint64(at)
    while at < size:
        start = at
        if text[at] == COMMA:
            at += ONE
            continue
        while at < size and (text[at] == SPACE or (TAB <= text[at] <= RETURN)):
            at += ONE
        negative = at < size and text[at] == MINUS
        if at < size and (negative or text[at] == PLUS):
            at += ONE
        value, first = 0, at
        while at < size and ZERO <= text[at] <= NINE and at - first < DIGITS:
            value = value * 10 + (text[at] - ZERO)
            at += ONE
        any_digit = at > first
        while at < size and (text[at] == SPACE or (TAB <= text[at] <= RETURN)):
            at += ONE
        if not any_digit or (at < size and text[at] != COMMA):
            return HARD, start, count
        if count == limit:
            return FULL, start, count
        out[count] = -value if negative else value
        count += 1
        at += ONE
    return DONE, at, count
