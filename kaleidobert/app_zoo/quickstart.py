"""``kaleidobert quickstart``: every command on a drawn catalogue of toy size, one after another, then a table of their results.

The commands are those of configs/quickstart, each in a process of its own. What has finished is recognised and passed over by the
commands themselves, so that the quickstart continues where it stopped. After pre-training two lanes of commands run at the same time: one
command alone does not fill two cores. What the second lane says is printed when it has ended.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from kaleidobert.app_zoo import processes
from kaleidobert.configs import loader
from kaleidobert.datasets.bank import builder

FOLDER, REDUCED_FOLDER = "runs/quickstart", "runs/quickstart_reduced"  # of the results, below loader.packaged_start()


@dataclass(frozen=True)
class Step:
    """A command with its file of configs/quickstart. reduced: its words in the reduced quickstart, {runs} = the folder of results; beside:
    whether it runs in the second lane, beside those that follow."""

    name: str
    command: str
    reduced: str
    beside: bool = False

    def words(self, reduced: bool) -> list[str]:
        """Returns the command line behind ``kaleidobert``."""
        words = self.reduced.format(runs=REDUCED_FOLDER).split() if reduced else []
        return [self.command, f"quickstart/{self.name}", *words]


STEPS = (
    Step("synthesize", "synthesize", "catalogue={runs}/catalogue num_products=60 size=96"),
    Step("records", "records", "bank={runs}/bank source.table={runs}/catalogue/products.jsonl encoder.size=32"),
    Step("align", "align", "run={runs}/align data.bank={runs}/bank word_presence.epochs=2"),
    Step("pretrain", "pretrain", "run={runs}/pretrain data.bank={runs}/bank train.epochs=2 model.hidden_size=32 "
                                 "model.num_layers=1"),
    Step("caption", "caption", "run={runs}/caption data.bank={runs}/bank init={runs}/pretrain/best.npz train.epochs=1", beside=True),
    Step("inspect", "inspect", "run={runs}/pages data.bank={runs}/bank checkpoint={runs}/pretrain/best.npz "
                               "maps={runs}/align/word_presence source.table={runs}/catalogue/products.jsonl count=2", beside=True),
    Step("cat", "classify", "run={runs}/cat data.bank={runs}/bank init={runs}/pretrain/best.npz train.epochs=1"),
    Step("subcat", "classify", "run={runs}/subcat data.bank={runs}/bank init={runs}/pretrain/best.npz train.epochs=1"),
    Step("i2t", "retrieve", "run={runs}/i2t data.bank={runs}/bank init={runs}/pretrain/best.npz train.epochs=1 dual_encoder.epochs=2"),
    Step("t2i", "retrieve", "run={runs}/t2i data.bank={runs}/bank init={runs}/i2t/best.npz"),
    Step("index", "index", "index={runs}/index data.bank={runs}/bank init={runs}/i2t/best.npz"),
)


@dataclass(frozen=True)
class Process:
    """A process of the quickstart. heading: "" of those that put results together; words: behind ``python -m``; beside: as of a Step."""

    heading: str
    words: Sequence[str]
    beside: bool = False

    @property
    def command(self) -> list[str]:
        """The command line."""
        return [sys.executable, "-m", *self.words]


def commands(reduced: bool) -> list[Process]:
    """Returns every process, in order; the last three put the results into tables and onto one page."""
    runs = REDUCED_FOLDER if reduced else FOLDER
    steps = [Process(f"== {step.name}", ("kaleidobert.cli", *step.words(reduced)), step.beside) for step in STEPS]
    return [*steps, Process("", ("kaleidobert.app_zoo.tables", runs)), Process("", ("kaleidobert.cli", "tables", runs, f"out={runs}")),
            Process("", ("kaleidobert.cli", "report", runs))]


def run(reduced: bool = False) -> int:
    """Runs all commands; returns 0, or the exit status of the first that fails, which ends the quickstart."""
    with processes.heeded_signals():
        return _run(commands(reduced))


def _run(every: Sequence[Process]) -> int:
    lane = _Lane([process for process in every if process.beside])
    for process in every:
        if process.beside:
            lane.begin()
            continue
        if not process.heading and (status := lane.end()):  # what follows needs the results of both lanes
            return status
        print(f"\n{process.heading}" if process.heading else "", flush=True)
        status = _call(process.command)
        if status:
            lane.interrupt()
            return status
    return 0


def dry_run(reduced: bool = False) -> int:
    """Prints the commands; returns 0."""
    print(f"in {loader.packaged_start()}:")
    for process in commands(reduced):
        words = process.words
        print(" ".join(["kaleidobert" if words[0] == "kaleidobert.cli" else f"python -m {words[0]}", *words[1:]])
              + "   (beside those that follow)" * process.beside)
    return 0


@dataclass
class _Lane:
    """Commands that run one after another in a thread, beside others; the first that fails ends them."""

    processes: Sequence[Process]
    said: list[tuple[str, bytes]] = field(default_factory=list)
    status: int = 0
    running: subprocess.Popen | None = None
    thread: threading.Thread | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)  # between looking whether to go on and starting a command

    def begin(self) -> None:
        """Starts the first command, where that was not done yet."""
        if self.thread is None:
            print(f"\n{', '.join(process.heading for process in self.processes)}: beside what follows, shown when it has ended", flush=True)
            self.thread = threading.Thread(target=self._run)
            self.thread.start()

    def end(self) -> int:
        """Waits for the last command and prints what all have said; returns the exit status of the one that failed, 0 where none did."""
        if self.thread is None:
            return 0
        while self.thread.is_alive():
            try:
                self.thread.join(1)
            except KeyboardInterrupt:
                self._hand_on()
        for heading, output in self.said:
            print(f"\n{heading}", flush=True)
            sys.stdout.buffer.write(output)
            sys.stdout.flush()
        self.said.clear()
        return self.status

    def interrupt(self) -> None:
        """Interrupts the command under way, which keeps what it has, and waits for its end."""
        self._hand_on()
        self.end()

    def _hand_on(self) -> None:
        with self.lock:
            self.status = self.status or 130  # no other begins
            if self.running is not None and self.running.poll() is None:
                self.running.send_signal(signal.SIGINT)

    def _run(self) -> None:
        for process in self.processes:
            with self.lock:
                if self.status:
                    return
                # a process group of its own: Ctrl-C is handed on once
                self.running = subprocess.Popen(
                    process.command, cwd=loader.packaged_start(), env=_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT, process_group=0)
            output, _ = self.running.communicate()
            final = b"\n".join(line.rpartition(b"\r")[2] for line in output.split(b"\n"))  # of a progress bar
            self.said.append((process.heading, final))
            if self.running.returncode:
                self.status = self.status or _status(self.running.returncode)
                return


def _call(words: list[str]) -> int:
    """Returns the exit status of a command in the folder at which the paths of configs/quickstart start; 130 where it was interrupted."""
    interrupted = False
    with subprocess.Popen(words, cwd=loader.packaged_start(), env=_environment()) as process:
        while True:
            try:
                status = process.wait()
                break
            except processes.Terminated:  # this process alone was told
                interrupted = True
                process.send_signal(signal.SIGINT)
            except KeyboardInterrupt:  # the terminal sends it to the command, too, which keeps what it has and ends by itself
                interrupted = True
    return 130 if interrupted else _status(status)


def _environment() -> dict[str, str]:
    """Returns the variables of a command, which takes the memory of a GPU as it needs it: another may run beside it."""
    return {**builder.SHARED, **os.environ}


def _status(status: int) -> int:
    """Returns the exit status of a process as a shell has it where a signal ends a command."""
    return status if status >= 0 else 128 - status
