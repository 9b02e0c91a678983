"""Time reading the released text files (released.files.rows) beside TensorFlow's decode_csv and to_number, the released way."""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import floors, report
from kaleidobert.errors import UserError
from kaleidobert.released import files, numbers
from kaleidobert.released import schema as released_schema
from kaleidobert.released.schema import Schema
from tests.support import released_writer


def main(arguments: list[str] | None = None) -> int:
    """Runs the program; returns the exit status."""
    parser = argparse.ArgumentParser("python -m benchmarks.data_files", description=__doc__)
    parser.add_argument("--rows", type=report.positive, default=8, help="in the file, of 117,000 numbers each; default: 8")
    parser.add_argument("--feature-size", type=report.positive, default=2048, help="numbers per patch; default: 2048, as released")
    parser.add_argument("--digits", type=int, default=6, help="significant digits of a feature; 0 = all of a float32; default: 6")
    parser.add_argument("--zeros", type=float, default=0.35, help="share of features that are 0, as after a ReLU; default: 0.35")
    parser.add_argument("--threads", type=report.positive, default=1, help="of either reader; default: 1")
    parser.add_argument("--repeats", type=report.positive, default=7, help="rounds; case and floors are timed once in each; default: 7")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to this file")
    return report.guarded(run, parser.parse_args(arguments))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measures and prints; UserError where the two readers differ in a single bit."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow  # noqa: F401  so that the machine's description names its version

    machine, schema = report.machine(), released_schema.released("pretrain", feature_size=options.feature_size)
    with tempfile.TemporaryDirectory(prefix="kaleidobert-data-files-") as folder:
        path = Path(folder) / "rows"
        released_writer.write(path, schema, [columns(schema, options.rows, options.zeros)], options.digits)
        released = released_reader(path, schema, options.threads)
        compare([row for _, row in files.rows([path], schema)], list(released()), schema)

        def case(name: str, reader: Any) -> floors.Case:
            def repeat(times: int) -> None:
                for _ in range(times):
                    for _ in reader():
                        pass

            return floors.Case(name, options.rows, "rows", repeat)

        timing, *against = floors.interleaved([
            case("reader", lambda: files.rows([path], schema, threads=options.threads)),
            case("decode_csv and to_number", released), case("lines alone", lambda: files.lines([path]))], options.repeats)
        size = path.stat().st_size / options.rows
    digits = f"{options.digits} digits" if options.digits else "all digits of a float32"
    metadata = {"title": f"data files: {options.rows} rows of {size / 1e6:.2f} MB, {digits}, {options.zeros:.0%} zeros, "
                      f"{options.threads} thread(s), numbers by {'numba' if numbers.compiled() else 'Python alone'}",
             "machine": machine, "rows": options.rows, "bytes_per_row": size}
    return report.show(metadata, timing, against, options.json)


def columns(schema: Schema, rows: int, zeros: float) -> dict[str, np.ndarray]:
    """Returns random arrays for every column of a schema; floats as after a ReLU."""
    rng, made = np.random.Generator(np.random.Philox(0)), {}
    for column in schema.columns:
        shape = (rows, column.length)
        if column.type == "float":
            made[column.name] = (np.abs(rng.normal(0, 0.5, shape)) * (rng.random(shape) >= zeros)).astype(np.float32)
        elif column.type == "base64":
            made[column.name] = rng.normal(0, 1, shape).astype(np.float32)
        elif column.type == "str":
            made[column.name] = rng.integers(0, 1000, shape).astype(str)
        else:
            made[column.name] = rng.integers(0, 2 if column.length == 1 else 2000, shape)
    return made


def released_reader(path: Path, schema: Schema, threads: int) -> Any:
    """Returns a function () -> iterator of {column: array}: TensorFlow's line reader, decode_csv, and split and to_number for vectors."""
    import tensorflow as tf

    scalars = {"int": tf.int32, "float": tf.float32, "str": tf.string}
    defaults = [tf.constant([""]) if column.length > 1 else tf.zeros([1], scalars[column.type]) for column in schema.columns]

    def parse(line: Any) -> dict[str, Any]:
        fields = tf.io.decode_csv(line, defaults, field_delim="\t", use_quote_delim=False)
        made = {}
        for column, field in zip(schema.columns, fields):
            if column.length > 1:
                dtype = tf.int64 if column.type == "int" else tf.float32
                made[column.name] = tf.strings.to_number(tf.strings.split(field[None], ",").values, dtype)
            else:
                made[column.name] = field[None]
        return made

    dataset = tf.data.TextLineDataset(str(path)).map(parse, num_parallel_calls=threads, deterministic=True)
    settings = tf.data.Options()
    settings.threading.private_threadpool_size = threads
    settings.threading.max_intra_op_parallelism = 1
    dataset = dataset.with_options(settings)

    def reader() -> Iterator[dict[str, np.ndarray]]:
        return iter(dataset.as_numpy_iterator())

    return reader


def compare(ours: list[files.Row], theirs: list[dict[str, np.ndarray]], schema: Schema) -> None:
    """Raises UserError where a row or a number differs, in its bits."""
    if len(ours) != len(theirs):
        raise UserError(f"{len(ours)} rows", "the two readers", f"{len(theirs)} rows")
    for number, (mine, other) in enumerate(zip(ours, theirs), 1):
        for name in schema.names:
            if mine[name].dtype != other[name].dtype or mine[name].tobytes() != other[name].tobytes():
                raise UserError(f"row {number}, column {name!r} differs", "the two readers", "the same bits")


if __name__ == "__main__":
    sys.exit(main())
