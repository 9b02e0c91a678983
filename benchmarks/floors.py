"""Timing in turn, the floors, and ratios.

Case and floor take turns, round by round, so that both see the same machine. Each is timed twice: by the wall clock, and by
the CPU seconds of this process (all threads), which other people's programs disturb less. CPU seconds say nothing where a GPU
does the work; there they are skipped.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from time import perf_counter, process_time
from typing import Any

import numpy as np

from kaleidobert import levels as kaleido
from kaleidobert.levels import KaleidoLevel

LEAST_SECONDS = 0.1  # of one measurement; short cases are repeated within it
# Of the longest case. Machines have slow moments of some tenths of a second: a long case averages over them, a short floor meets
# none in most rounds, and the median over the rounds would compare two machines.
LEAST_SHARE = 0.5
PAIRS = 4  # products up and down again in one chain
CLOCKS = ("wall", "cpu")


@dataclass(frozen=True)
class Case:
    """Something to be timed. run(n) does it n times and returns when it is done; work: of one time, in ``unit`` (GFLOP, GB)."""

    name: str
    work: float
    unit: str
    run: Callable[[int], Any]

    def measure(self, times: int) -> dict[str, float]:
        """Returns the seconds of one run, by clock, out of so many runs one after another."""
        wall, cpu = perf_counter(), process_time()
        self.run(times)
        return {"wall": (perf_counter() - wall) / times, "cpu": (process_time() - cpu) / times}


@dataclass(frozen=True)
class Timing:
    """Seconds for one time of a case, one value per round and clock: {"wall": f64[R], "cpu": f64[R]}."""

    case: Case
    seconds: dict[str, np.ndarray]

    def rates(self, clock: str) -> np.ndarray:
        """Returns f64[R]: units of work per second."""
        return self.case.work / self.seconds[clock]


@dataclass(frozen=True)
class Spread:
    """Over the rounds."""

    median: float
    low: float
    high: float


def ratio(case: Timing, floor: Timing, clock: str) -> Spread:
    """Returns the rate of the case over that of the floor, both of the same round: 1 = as fast as the floor."""
    values = case.rates(clock) / floor.rates(clock)
    return Spread(float(np.median(values)), float(values.min()), float(values.max()))


def interleaved(cases: Sequence[Case], rounds: int, compiled: bool = False) -> list[Timing]:
    """Times the cases in turn, in the opposite order every other round; everything runs twice beforehand, once where it is compiled."""
    for case in () if compiled else cases:
        case.run(1)
    once = [case.measure(1)["wall"] for case in cases]
    least = max(LEAST_SECONDS, LEAST_SHARE * max(once))
    times = [max(1, ceil(least / seconds)) for seconds in once]
    seconds = [{clock: np.zeros(rounds) for clock in CLOCKS} for _ in cases]
    for number in range(rounds):
        for position in range(len(cases))[:: -1 if number % 2 else 1]:
            for clock, value in cases[position].measure(times[position]).items():
                seconds[position][clock][number] = value
    return [Timing(case, values) for case, values in zip(cases, seconds)]


# --- floors -----------------------------------------------------------------------------------------------------------


def matrix_products(rows: int, inner: int, outer: int, dtype: str) -> Case:
    """Returns a case: products as in the encoder's feed-forward network, [rows, inner] x [inner, outer] and back, on the device of the
    model."""
    import keras

    rng = np.random.Generator(np.random.Philox(0))
    # scaled so that numbers neither vanish nor overflow along the chain
    up, down = (rng.standard_normal(shape, np.float32) / shape[0] ** 0.5 for shape in ((inner, outer), (outer, inner)))
    arrays = [keras.ops.convert_to_tensor(array, dtype) for array in (rng.standard_normal((rows, inner), np.float32), up, down)]

    def chain(hidden, up, down):
        for _ in range(PAIRS):
            hidden = keras.ops.matmul(keras.ops.matmul(hidden, up), down)
        return hidden

    run = {"tensorflow": _tensorflow_chain, "jax": _jax_chain}[keras.backend.backend()](chain, arrays)
    work = PAIRS * 2 * 2 * rows * inner * outer / 1e9
    return Case(f"matrix products {dtype}, {rows} x {inner} x {outer}", work, "GFLOP", run)


def products_like(sizes: Mapping[str, Any], levels: Sequence[KaleidoLevel], batch: int) -> list[Case]:
    """Returns the floors of a network with these backbone arguments: in float32, and in the type it computes in where that is another."""
    import keras

    rows = batch * (sizes["text_length"] + kaleido.num_patches(levels))
    dtypes = dict.fromkeys(("float32", keras.dtype_policies.get(sizes["precision"]).compute_dtype))
    return [matrix_products(rows, sizes["hidden_size"], sizes["intermediate_size"], dtype) for dtype in dtypes]


def _tensorflow_chain(chain, arrays):
    import tensorflow as tf

    compiled = tf.function(chain)

    def run(times: int):
        for _ in range(times):
            last = compiled(*arrays)
        return last[0, 0].numpy()  # a GPU works through its queue in order: the last one done, all are done

    return run


def _jax_chain(chain, arrays):
    import jax

    compiled = jax.jit(chain)

    def run(times: int):
        for _ in range(times):
            last = compiled(*arrays)
        return jax.block_until_ready(last)

    return run


def copies(num_bytes: int, source_bytes: int) -> Case:
    """Returns a case: numpy copies of ``num_bytes`` into one array, out of one of ``source_bytes``, block after block, so that caches help
    as little as they do with rows drawn from a bank of that size."""
    blocks = max(1, source_bytes // num_bytes)
    source = np.ones((blocks, num_bytes), np.uint8)
    target, done = np.zeros(num_bytes, np.uint8), 0

    def run(times: int) -> None:
        nonlocal done
        for _ in range(times):
            np.copyto(target, source[done % blocks])
            done += 1

    return Case(f"copying {num_bytes / 1e6:.1f} MB", num_bytes / 1e9, "GB", run)
