"""The loop of the fuzzers: cases, each drawn from its own seed, until the time, their number or the findings are reached."""

import random
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm


class Fuzz(Protocol):
    """A fuzzer. case: makes and judges a case, and raises where it finds something; context: what the case is made of; counts: of
    what was drawn and read."""

    context: dict[str, Any]
    counts: Counter

    def case(self, rng: random.Random) -> None: ...


def run(make: Callable[[Path], Fuzz], seed: int, seconds: float, cases: int | None = None, first: int = 0,
        findings: int = 1) -> tuple[int, Counter]:
    """Returns (number of findings, counts) of cases first, first + 1, ... up to a number of them, of findings, or of CPU seconds.

    make: folder for files -> the fuzzer.
    """
    found = 0
    with tempfile.TemporaryDirectory(prefix="kaleidobert-fuzz-") as folder, tqdm(total=cases, unit="case", desc=f"seed {seed}",
                                                                                 disable=None) as bar:
        fuzz, begin, number = make(Path(folder)), time.process_time(), first
        while number < first + cases if cases else time.process_time() - begin < seconds:
            try:
                fuzz.case(random.Random(f"{seed}/{number}"))
            except Exception as error:  # whatever it is, it is what these programs look for
                tqdm.write(f"FOUND by --seed {seed} --first {number} --cases 1:\n" + "".join(traceback.format_exception(error)[-3:]))
                tqdm.write("\n".join(f"{name}: {value}" for name, value in fuzz.context.items()))
                found += 1
                if found == findings:
                    break
            number += 1
            bar.update()
        fuzz.counts["cases"], fuzz.counts["CPU seconds"] = number - first, round(time.process_time() - begin)
    return found, fuzz.counts
