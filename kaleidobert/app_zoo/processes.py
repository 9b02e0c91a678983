"""Commands that build on one another, each a process with its log, several at a time; stopped together where one fails or at Ctrl-C.

A process is a process group of its own: Ctrl-C reaches the parent alone, which hands it on once, so that every run keeps what it has.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from kaleidobert import configs, io
from kaleidobert.app_zoo import backends
from kaleidobert.datasets.bank import builder
from kaleidobert.engines.run_folder import FREE
from kaleidobert.errors import Incomplete, UserError

INSTALLED = "foreground.weights"  # part of the package, wherever that lies: a bank knows their checksum
PAUSE = 0.2  # seconds between two looks at the processes
INTERRUPTED = 130


@dataclass(frozen=True, eq=False)
class Step:
    """A command to run.

    name: by which its configuration is set. title: of messages. folder: what it makes, finished where the file ``done`` is there. needs:
    files without which it cannot begin. config: its configuration; words: its command line behind ``python -m``. row: of an ablation its
    runs, with the seed; "" of a bank. seconds: estimated, 0 = not. has_words: whether the key ``words`` has some of its own.
    made_of: a state of what it is made of; finished then only where it ended with that one, which is noted beside the folder.
    """

    name: str
    title: str
    folder: Path
    done: Path
    needs: tuple[Path, ...]
    words: tuple[str, ...]
    config: Any = None
    row: str = ""
    seed: int = 0
    seconds: float = 0.0
    has_words: bool = True
    made_of: str = ""

    @property
    def file(self) -> Path:
        """The configuration, beside the folder."""
        return self.folder.with_name(f"{self.folder.name}.yaml")

    @property
    def log(self) -> Path:
        """What the process says, beside the folder."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def mark(self) -> Path:
        """Of which state it was made, beside the folder; not there while it runs."""
        return self.folder.with_name(f"{self.folder.name}.made_of")

    def is_done(self) -> bool:
        """Whether its result is there, made of the present state."""
        return self.has_result() and (not self.made_of or self.mark.is_file() and self.mark.read_bytes() == self.made_of.encode())

    def has_result(self) -> bool:
        """Whether a result is there, of whatever state."""
        return self.done.is_file()

    def is_ready(self) -> bool:
        """Whether all that it needs is there."""
        return all(path.is_file() for path in self.needs)


@dataclass
class Running:
    """A step under way. slot: which of the parallel ones it is; since: when it began."""

    step: Step
    process: subprocess.Popen
    slot: int
    since: float


def run_all(steps: Sequence[Step], parallel: int) -> None:
    """Runs what is missing, in the order of the steps as far as what they need is there; prints a line per run.

    Raises UserError where one fails, and KeyboardInterrupt: after those under way were interrupted too, and have ended.
    """
    waiting = [step for step in steps if not step.is_done()]
    finished, total = len(steps) - len(waiting), len(steps)
    runs = f"{total} run{'s' * (total != 1)}"
    print(f"{runs}, {finished} of them finished before" if finished else runs)
    gpus = builder.gpus() if parallel > 1 and waiting else []
    running: list[Running] = []
    clock = _Clock(sum(step.seconds for step in waiting))
    try:
        with heeded_signals():
            while waiting or running:
                free = parallel - len(running)
                for step in [step for step in waiting if free and step.is_ready()][:free]:
                    waiting.remove(step)
                    slot = min(set(range(parallel)) - {one.slot for one in running})
                    if parallel == 1:
                        print(f"{_count(finished + 1, total)} {step.title} ...", end="", flush=True)
                    running.append(Running(step, start(step, variables(slot, parallel, gpus)), slot, time.monotonic()))
                if not running:
                    raise _no_way(waiting[0])
                time.sleep(PAUSE)
                for one in [one for one in running if one.process.poll() is not None]:
                    running.remove(one)
                    finished += 1
                    _finish(one, finished, total, parallel, clock)
    except BaseException:
        print(flush=True)
        _stop(running)
        raise


def start(step: Step, environment: Mapping[str, str]) -> subprocess.Popen:
    """Starts the process of a step, whose output is appended to its log."""
    claim(step)
    with io.explained(step.log):
        step.log.parent.mkdir(parents=True, exist_ok=True)
        with open(step.log, "ab") as log:
            return subprocess.Popen([sys.executable, "-m", *step.words], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                    env={**os.environ, **environment}, process_group=0)


def variables(slot: int, parallel: int, gpus: Sequence[str]) -> dict[str, str]:
    """Returns the environment of one of several processes: a GPU of its own, as far as there are as many, or its part of the cores.

    What the environment says already stays. Processes that share a GPU take its memory as they need it.

    >>> variables(2, 3, ["0", "1"])["CUDA_VISIBLE_DEVICES"], variables(0, 1, ["0", "1"])
    ('0', {})
    """
    if parallel == 1:
        return {}
    threads = "OMP_NUM_THREADS" if backends.chosen()[0] == "torch" else "TF_NUM_INTRAOP_THREADS"
    made = {threads: str(max(1, (os.cpu_count() or 1) // parallel))}
    if gpus and parallel > len(gpus):
        made |= {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    made = {name: value for name, value in made.items() if name not in os.environ}
    return made | ({"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else {})


def check(steps: Sequence[Step]) -> None:
    """Calls the commands of these steps with --dry-run, one after another; raises UserError where one refuses."""
    with tempfile.TemporaryDirectory() as folder:
        for number, step in enumerate(steps):
            file = Path(folder) / f"{number}.yaml"
            file.write_text(configs.dump(step.config), encoding="utf-8")
            words = [sys.executable, "-m", *step.words[:2], str(file), "--dry-run"]
            done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            if done.returncode not in (0, Incomplete.status):
                raise UserError(f"{step.title} would be refused: {last_line(done.stdout)}",
                                fix=f"mend that (keys of this run: words.{step.name}=[key=value])")


def last_line(output: bytes) -> str:
    """Returns the last line that is not empty; a progress bar writes its lines over one another."""
    lines = [line.strip() for line in output.decode("utf-8", "replace").replace("\r", "\n").split("\n")]
    return next((line for line in reversed(lines) if line), "no output")


def check_unchanged(steps: Sequence[Step]) -> None:
    """Raises UserError where the folder of a step, finished or begun, is made with another configuration than it would be now."""
    changed = {step: lines for step in steps if (lines := _changes(step))}
    if changed:
        step, lines = next(iter(changed.items()))
        others = f", and {len(changed) - 1} other runs are" if len(changed) > 1 else ""
        raise UserError(f"{step.title} is made with another configuration ({'; '.join(lines[:5])}){others}", str(step.folder),
                        "the same configuration", "choose another folder with run=..., or delete this one and what was made from it")


def claim(step: Step) -> None:
    """Writes the configuration beside the folder of a step that begins, and takes the mark of what was made before away."""
    if step.made_of:
        with io.explained(step.mark):
            step.mark.unlink(missing_ok=True)
    if step.config is not None:
        io.write_text(step.file, f"# kaleidobert {step.words[1]} {step.file}\n\n{configs.dump(step.config)}")


def _changes(step: Step) -> list[str]:
    if step.config is None or not step.file.is_file() or not io.contents(step.folder):
        return []
    made = yaml.safe_load(step.file.read_text(encoding="utf-8")) or {}
    lines = {line.partition(":")[0]: line for line in configs.differences(made, configs.to_dict(step.config))}
    return [line for name, line in lines.items() if name.rpartition(".")[2] not in FREE and name != INSTALLED]


@dataclass
class _Clock:
    """How long the steps that are missing still take. left, estimated: seconds by the estimates, of these and of those that ended here;
    taken: what the last took in truth."""

    left: float
    estimated: float = 0.0
    taken: float = 0.0

    def end(self, step: Step, seconds: float) -> str:
        """Notes the end of a step; returns words that say how long the others take, "" where nothing was estimated."""
        self.left -= step.seconds
        self.estimated, self.taken = self.estimated + step.seconds, self.taken + seconds
        return f"; about {duration(self.left * self.taken / self.estimated)} left" if self.left > 1 and self.estimated else ""


def _finish(one: Running, finished: int, total: int, parallel: int, clock: _Clock) -> None:
    """Prints the line of a run that has ended. Raises UserError where it failed."""
    step, status = one.step, one.process.returncode
    said = last_line(_read_end(step.log))
    if status not in (0, Incomplete.status) or not step.has_result():
        raise _failure(step, status, said)
    if step.made_of:
        io.write_text(step.mark, step.made_of)
    head = "" if parallel == 1 else f"{_count(finished, total)} {step.title} ..."
    seconds = time.monotonic() - one.since
    print(f"{head} {seconds:.0f} s{clock.end(step, seconds)}" + (f"; {said}" if status == Incomplete.status else ""), flush=True)


def _no_way(step: Step) -> UserError:
    missing = next(path for path in step.needs if not path.is_file())
    return UserError(f"{step.title} cannot begin: there is no such file", str(missing), "what a run before it writes",
                     "delete the folder of that run, and run the same command again")


def _failure(step: Step, status: int, said: str) -> UserError:
    how = f"failed with status {status}"
    if status < 0:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else str(-status)
        how = f"was ended by signal {name}" + ", often for want of memory" * (name == "SIGKILL")
    elif status == INTERRUPTED:
        how = "was interrupted"
    elif status == 0:
        how = f"ended without {step.done}"
    command = " ".join(["kaleidobert" if step.words[0] == "kaleidobert.cli" else f"python -m {step.words[0]}", *step.words[1:]])
    own = f" (keys of this run: words.{step.name}=[key=value])" if step.config is not None and step.has_words else ""
    return UserError(f"{step.title} {how}: {said}", f"log {step.log}",
                     fix=f"mend that{own}, and the same command continues there; this run alone: {command}")


def _stop(running: Sequence[Running]) -> None:
    """Interrupts processes and waits for their end; another Ctrl-C ends them at once."""
    if running:
        print(f"{len(running)} under way: {', '.join(one.step.title for one in running)}; they keep what they have", file=sys.stderr)
    for how in (signal.SIGINT, signal.SIGTERM):
        for one in running:
            if one.process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(one.process.pid, how)
        try:
            for one in running:
                one.process.wait()
            return
        except KeyboardInterrupt:
            continue


class Terminated(KeyboardInterrupt):
    """SIGTERM, which reaches this process alone."""


@contextmanager
def heeded_signals() -> Iterator[None]:
    """SIGTERM interrupts as Ctrl-C does; processes heed SIGINT also where this one, which a shell started in the background, ignores it.

    Raises Terminated.
    """
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, interrupt)}
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # inherited by processes; a handler is not
        before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _read_end(path: Path, size: int = 4000) -> bytes:
    """Returns the end of a file; nothing where there is none."""
    with suppress(OSError), open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - size))
        return file.read()
    return b""


def _count(number: int, total: int) -> str:
    return f"[{number:{len(str(total))}}/{total}]"


def duration(seconds: float) -> str:
    """Returns a duration for people.

    >>> duration(40), duration(400), duration(9000)
    ('40 s', '7 min', '2.5 h')
    """
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
