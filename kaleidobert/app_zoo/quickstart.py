"""``kaleidobert quickstart``: every command on a drawn catalogue of toy size, one after another, then a table of their results.

The commands are those of configs/quickstart, each in a process of its own. What has finished is recognised and passed over by the
commands themselves, so that the quickstart continues where it stopped.
"""

import subprocess
import sys
from dataclasses import dataclass

from kaleidobert.configs import loader

FOLDER, REDUCED_FOLDER = "runs/quickstart", "runs/quickstart_reduced"  # of the results, below loader.packaged_start()


@dataclass(frozen=True)
class Step:
    """A command with its file of configs/quickstart; reduced: its words in the reduced quickstart, {runs} = the folder of results."""

    name: str
    command: str
    reduced: str

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
    Step("cat", "classify", "run={runs}/cat data.bank={runs}/bank init={runs}/pretrain/best.npz train.epochs=1"),
    Step("subcat", "classify", "run={runs}/subcat data.bank={runs}/bank init={runs}/pretrain/best.npz train.epochs=1"),
    Step("i2t", "retrieve", "run={runs}/i2t data.bank={runs}/bank init={runs}/pretrain/best.npz train.epochs=1 dual_encoder.epochs=2"),
    Step("t2i", "retrieve", "run={runs}/t2i data.bank={runs}/bank init={runs}/i2t/best.npz"),
    Step("caption", "caption", "run={runs}/caption data.bank={runs}/bank init={runs}/pretrain/best.npz train.epochs=1"),
    Step("inspect", "inspect", "run={runs}/pages data.bank={runs}/bank checkpoint={runs}/pretrain/best.npz "
                               "maps={runs}/align/word_presence source.table={runs}/catalogue/products.jsonl count=2"),
)


def commands(reduced: bool) -> list[tuple[str, list[str]]]:
    """Returns (heading, command line) of every process, in order; the last three put the results into tables and onto one
    page, and have no heading."""
    runs = REDUCED_FOLDER if reduced else FOLDER
    steps = [(f"== {step.name}", ["kaleidobert.cli", *step.words(reduced)]) for step in STEPS]
    return steps + [("", ["kaleidobert.app_zoo.tables", runs]), ("", ["kaleidobert.cli", "tables", runs, f"out={runs}"]),
                    ("", ["kaleidobert.cli", "report", runs])]


def run(reduced: bool = False) -> int:
    """Runs all commands; returns 0, or the exit status of the first that fails, which ends the quickstart."""
    for heading, words in commands(reduced):
        print(f"\n{heading}" if heading else "", flush=True)
        status = _call([sys.executable, "-m", *words])
        if status:
            return status
    return 0


def dry_run(reduced: bool = False) -> int:
    """Prints the commands; returns 0."""
    print(f"in {loader.packaged_start()}:")
    for _, words in commands(reduced):
        print(" ".join(["kaleidobert" if words[0] == "kaleidobert.cli" else f"python -m {words[0]}", *words[1:]]))
    return 0


def _call(words: list[str]) -> int:
    """Returns the exit status of a command in the folder at which the paths of configs/quickstart start; 130 where it was interrupted."""
    interrupted = False
    with subprocess.Popen(words, cwd=loader.packaged_start()) as process:
        while True:
            try:
                status = process.wait()
                break
            except KeyboardInterrupt:  # the terminal sends it to the command, too, which keeps what it has and ends by itself
                interrupted = True
    return 130 if interrupted else status if status >= 0 else 128 - status  # as a shell has it where a signal ends a command
