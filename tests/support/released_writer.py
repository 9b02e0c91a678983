"""Writing text files in the released format, for exports and tests: what released_files reads back, bit for bit.

    released_writer.write("train__a", schema, [{"input_ids": ids, "img_rotate_gt": labels, ...}])     # ids int[N, 64], labels int[N, 1]
    released_writer.write_list("train_list.list_csv", ["data/train__a"])
"""

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from kaleidobert import io
from kaleidobert.errors import UserError
from kaleidobert.released.schema import Column, Schema


def write(path: str | Path, schema: Schema, batches: Iterable[Mapping[str, np.ndarray]], digits: int = 0) -> int:
    """Write the rows of all batches ({column: [N, length]}, also [N] where the length is 1) atomically; returns their number.

    digits: significant digits of a float; 0 = as many as give the same float32 again. Batches may hold more columns than the
    schema. UserError where a column is missing, or has another shape or type, or a text holds a TAB or a line end, and for no rows.
    """
    count = 0
    with io.atomic(path) as file:
        for batch in batches:
            columns = [_texts(column, batch, schema, digits) for column in schema.columns]
            sizes = {column.name: len(texts) for column, texts in zip(schema.columns, columns)}
            if len(set(sizes.values())) > 1:
                raise UserError(f"the columns have different numbers of rows: {sizes}", str(path), "as many in each")
            for fields in zip(*columns):
                line = b"\t".join(fields)
                if not line:
                    raise UserError("a row without any character would be a blank line", str(path), "more columns, or a text")
                file.write(line + b"\n")
                count += 1
        if not count:
            raise UserError("there is no row to write", str(path), "at least one: readers refuse an empty file")
    return count


def write_list(path: str | Path, names: Sequence[str | Path]) -> None:
    """Write a list file; the names are written as they are."""
    for name in map(str, names):
        if not name.strip() or name.strip() != name or name.isdigit() or any(mark in name for mark in "\t\r\n"):
            raise UserError(f"the name {name!r} cannot stand in a list", str(path), "neither blanks at its ends nor digits only")
    io.write_text(path, "".join(f"{name}\n" for name in names))


def _texts(column: Column, batch: Mapping[str, np.ndarray], schema: Schema, digits: int) -> list[bytes]:
    """One column of a batch as it stands in the file, row by row."""
    where = f"{schema.origin}, column {column.name!r}"
    if column.name not in batch:
        raise UserError("there is no such array", where, f"one of {sorted(batch)}")
    values = np.asarray(batch[column.name])
    if values.ndim == 1 and column.length == 1:
        values = values[:, None]
    kinds = {"int": "iub", "str": "USO"}.get(column.type, "fiu")
    if values.ndim != 2 or values.shape[1] != column.length or values.dtype.kind not in kinds:
        raise UserError(f"the array is {values.dtype}{list(values.shape)}", where, f"{column.type}[rows, {column.length}]")
    if column.type == "str":
        return [_text(value, schema.encoding, where) for value in values[:, 0]]
    if column.type == "int":
        _check_range(values, np.int64 if column.length > 1 else np.int32, where)
        return [",".join(map(str, row.tolist())).encode() for row in values.astype(np.int64)]
    with np.errstate(over="ignore"):
        small = values.astype(np.float32)
    if not np.array_equal(np.isfinite(small), np.isfinite(values)):
        raise UserError("holds numbers beyond float32", where, f"up to {np.finfo(np.float32).max:g}")
    if column.type == "base64":
        return [base64.b64encode(row.astype("<f4").tobytes()) for row in small]
    show = _shortest if not digits else _rounded(digits)
    return [show(row).encode() for row in small]


def _shortest(row: np.ndarray) -> str:
    return ",".join(row.astype(str).tolist())


def _rounded(digits: int) -> Callable[[np.ndarray], str]:
    pattern = f"%.{digits}g"
    return lambda row: ",".join([pattern % value for value in row.tolist()])


def _text(value: str | bytes, encoding: str, where: str) -> bytes:
    try:
        text = value if isinstance(value, bytes) else str(value).encode(encoding)
    except UnicodeEncodeError as error:
        raise UserError(f"{value!r} cannot be written as {encoding} ({error.reason})", where) from None
    if any(mark in text for mark in b"\t\r\n"):
        raise UserError(f"the text {value!r} holds a TAB or a line end", where, "one line", "replace it by a blank")
    return text


def _check_range(values: np.ndarray, dtype: type, where: str) -> None:
    limits = np.iinfo(dtype)
    if values.size and not limits.min <= int(values.min()) <= int(values.max()) <= limits.max:
        raise UserError(f"holds numbers from {values.min()} to {values.max()}", where, f"{limits.min} to {limits.max}")
