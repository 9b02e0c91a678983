"""METEOR (Denkowski and Lavie, 2014) by its own Java program, version 1.5, as the COCO caption evaluation runs it.

The figure depends on the program's stemmer, synonyms and 60 MB of paraphrases, so nothing else is called METEOR here. It needs Java, and
meteor-1.5.jar with data/paraphrase-en.gz beside it, both of which the package pycocoevalcap has; KALEIDO_METEOR_JAR may name the jar. The
program takes about 1.3 GB of memory, and half a minute to start on a busy machine.
"""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from threading import Timer

import numpy as np

from kaleidobert.errors import UserError

JAR = "meteor-1.5.jar"
PARAPHRASES = "data/paraphrase-en.gz"
VARIABLE = "KALEIDO_METEOR_JAR"
ARGUMENTS = ("-", "-", "-stdio", "-l", "en", "-norm")
MEMORY = "-Xmx2G"  # as the reference
START, ANSWER = 600.0, 120.0  # seconds without an answer after which the program is killed: while it starts, later
MARK = "|||"
BLOCK = 500  # statistics in one question


class Missing(UserError):
    """Java, the jar or its data are missing."""


def find() -> tuple[str, Path]:
    """Returns (java, the jar). Raises Missing, which names what is missing."""
    java = shutil.which("java")
    if java is None:
        raise Missing("METEOR needs Java", "PATH", "a program java", "install a Java runtime (for instance default-jre-headless)")
    jar = Path(os.environ[VARIABLE]) if VARIABLE in os.environ else _installed()
    if jar is None or not jar.is_file():
        raise Missing(f"METEOR needs {JAR}", str(jar or "pycocoevalcap is not installed"), "the Java program",
                      f"pip install pycocoevalcap, or let {VARIABLE} name the file")
    if not (jar.parent / PARAPHRASES).is_file():
        raise Missing("METEOR needs its paraphrases", str(jar.parent / PARAPHRASES), "the data file beside the jar",
                      "install pycocoevalcap anew")
    return java, jar


class Meteor:
    """The running program; a ``with`` block ends it.

    answer, start: seconds to wait for an answer, for the first one. Raises Missing where something is missing, UserError where the program
    fails or is silent.
    """

    def __init__(self, answer: float = ANSWER, start: float = START):
        java, jar = find()
        self._seconds, self._first, self._silent = answer, start, False
        self._stderr = tempfile.TemporaryFile()  # a file, because nobody reads while the program runs
        command = [java, "-jar", MEMORY, str(jar.resolve()), *ARGUMENTS]
        self._process = subprocess.Popen(command, cwd=jar.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr)
        assert self._process.stdin is not None and self._process.stdout is not None  # both are pipes
        self._questions, self._answers = self._process.stdin, self._process.stdout

    def __enter__(self) -> "Meteor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def statistics(self, caption: str, references: Sequence[str]) -> np.ndarray:
        """Returns METEOR's counts f64[23] of one caption (words with blanks between) against its references; such rows add up.

        Where caption and reference match throughout in one chunk, the program adds up no chunk; neither do these rows.
        """
        texts = [" ".join(text.replace(MARK, "").split("\n")) for text in (*references, caption)]
        (line,) = self._ask(f" {MARK} ".join(["SCORE", *texts]), 1)
        try:
            counts = np.array(line.split(), np.float64)
            length, other, chunks, matched, other_matched = counts[[0, 1, 20, 21, 22]]
        except (ValueError, IndexError):
            raise self._failure(f"the answer is {line[:80]!r}") from None
        if chunks == 1 and (matched, other_matched) == (length, other):
            counts[20] = 0
        return counts

    def scores(self, statistics: np.ndarray) -> np.ndarray:
        """Returns f64[N], METEOR of (sums of) rows of statistics f64[N, 23], 0 to 1; the sum of all rows gives that of the corpus."""
        scores: list[float] = []
        for begin in range(0, len(statistics), BLOCK):
            rows = [" ".join(map(repr, map(float, row))) for row in statistics[begin : begin + BLOCK]]
            lines = self._ask(f" {MARK} ".join(["EVAL", *rows]), len(rows) + 1)  # the last line is that of all of them
            try:
                scores += map(float, lines[:-1])
            except ValueError:
                raise self._failure(f"the answer is {lines[0][:80]!r}") from None
        return np.array(scores)

    def close(self) -> None:
        """Ends the program; harmless when it has ended."""
        for end in (self._questions, self._answers):
            try:
                end.close()
            except BrokenPipeError:
                pass
        self._process.kill()
        self._process.wait()
        self._stderr.close()

    def _ask(self, question: str, lines: int) -> list[str]:
        seconds, self._first = max(self._first, self._seconds), 0.0
        watch = Timer(seconds, self._give_up)
        watch.daemon = True
        watch.start()
        try:
            self._questions.write(f"{question}\n".encode())
            self._questions.flush()
            answers = [self._answers.readline().decode().strip() for _ in range(lines)]
        except OSError:  # it has ended
            answers = [""]
        finally:
            watch.cancel()
        if not answers[-1]:
            raise self._failure(f"no answer within {seconds:g} s" if self._silent else "it ended")
        return answers

    def _give_up(self) -> None:
        self._silent = True
        self._process.kill()  # which ends the waiting

    def _failure(self, what: str) -> UserError:
        self._process.kill()
        self._process.wait()
        self._stderr.seek(0)
        words = self._stderr.read().decode(errors="replace").strip()
        return UserError(f"METEOR's program failed: {what}", words[-300:], "numbers", f"it needs 2 GB of free memory ({MEMORY})")


def corpus(captions: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, np.ndarray]:
    """Returns (METEOR of the corpus, f64[N] of each caption); texts have blanks between their words. Raises as Meteor."""
    with Meteor() as program:
        statistics = np.array([program.statistics(*pair) for pair in zip(captions, references)])
        return float(program.scores(statistics.sum(axis=0, keepdims=True))[0]), program.scores(statistics)


def _installed() -> Path | None:
    try:
        package = importlib.util.find_spec("pycocoevalcap")
    except (ImportError, ValueError):
        package = None
    folders = package.submodule_search_locations if package else None
    return Path(next(iter(folders))) / "meteor" / JAR if folders else None
