"""Programs that take turns, each a process of its own: other libraries and environments on the same machine in one run.

A contestant reads one line of settings, prepares, answers with metadata, and then answers every line {"case": ..., "times": ...} with
the seconds that one time took, {"wall": ..., "cpu": ...}; all lines are JSON. While one works, the others wait for their line.
"""

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.floors import Case
from kaleidobert.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
PEAK = {"case": "peak", "times": 0}  # requests the memory that was needed

Cases = Mapping[str, Callable[[int], Any]]  # {name: run(n) does it n times and returns when it is done}


def cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def reason(stderr: str) -> str:
    """Returns the line in what a program printed on standard error that says why it failed: that of the last exception, else the last
    one."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt|Exit)\b", line)]
    return ((errors or lines)[-1] if lines else "it printed nothing")[:300]


class Contestant:
    """A process that serves cases (``serve``), seen from its parent; a context, at the end of which it ends.

    metadata: its answer to ``settings``. All contestants get as many threads as this process may use cores. Raises UserError, with
    the last line that the process printed, where it cannot be started or ends too early.
    """

    def __init__(self, name: str, words: Sequence[str], settings: Mapping[str, Any], environment: Mapping[str, str] | None = None):
        self.name, self._stderr = name, tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        threads = {variable: str(cores()) for variable in THREADS}
        try:
            self._process = subprocess.Popen(list(words), cwd=ROOT, env={**os.environ, **threads, **(environment or {})}, text=True,
                                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr)
        except OSError as error:
            raise UserError(f"cannot be started ({error.strerror})", name, "a Python that has its libraries") from error
        self.metadata = self._request(settings)

    def __enter__(self) -> "Contestant":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self._stderr.close()

    def measure(self, case: str, times: int) -> dict[str, float]:
        """Returns the seconds of one run of a case, by clock, out of so many runs one after another."""
        return self._request({"case": case, "times": times})

    def peak(self) -> int:
        """Returns the bytes of memory that it needed at most."""
        return self._request(PEAK)["bytes"]

    def _request(self, line: Mapping[str, Any]) -> dict[str, Any]:
        try:
            self._process.stdin.write(json.dumps(line) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise UserError(f"it ended early: {self._last_words()}", self.name)
        answer = json.loads(answer)
        if "error" in answer:
            raise UserError(answer["error"], self.name)
        return answer

    def _last_words(self) -> str:
        status = self._process.wait(10)
        self._stderr.seek(0)
        return f"{reason(self._stderr.read())} (status {status})"


@dataclass(frozen=True)
class Remote(Case):
    """A case that a contestant works at; ``run`` is of no use."""

    contestant: Contestant
    case: str

    def measure(self, times: int) -> dict[str, float]:
        return self.contestant.measure(self.case, times)


def remote(contestant: Contestant, case: str, work: float, name: str = "", unit: str = "GFLOP") -> Remote:
    """Returns a contestant's case of so much work, to be timed among others; its name there is CONTESTANT: CASE unless given."""
    return Remote(name or f"{contestant.name}: {case}", work, unit, lambda times: contestant.measure(case, times), contestant, case)


def serve(prepare: Callable[[dict[str, Any]], tuple[dict[str, Any], Cases]]) -> int:
    """Serves the contestant's side: prepare(settings) -> (metadata, cases); then cases as requested until the parent hangs up.

    Returns the exit status.
    Standard output belongs to the answers; whatever libraries print goes to standard error.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(value: Mapping[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    try:
        metadata, cases = prepare(json.loads(sys.stdin.readline()))
        answer(metadata)
        for line in sys.stdin:
            answer(_done(json.loads(line), cases))
    except Exception as error:  # whatever it is, the parent says it in its own words
        traceback.print_exc()
        answer({"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"})
        return 1
    return 0


def _done(request: Mapping[str, Any], cases: Cases) -> dict[str, float]:
    if request == PEAK:
        return {"bytes": peak_memory()}
    return Case(request["case"], 0.0, "", cases[request["case"]]).measure(request["times"])


def peak_memory() -> int:
    """Returns the bytes of memory that this process needed at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
