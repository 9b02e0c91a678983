"""``kaleidobert ablate``: the rows of the paper's Table 4 and what they support (paper, section 4.4).

A bank per foreground method and its alignment; then for every row and seed a pre-training, what it knows of masked words, and the
fine-tunings, each a process of its own. What has finished is passed over, so that the same command continues where it stopped; a seed
(train.seed) changes everything after the bank. Results: run/results.json and run/table.md.
"""

from collections.abc import Sequence

import kaleidobert
from kaleidobert import configs, io
from kaleidobert.app_zoo import backends, processes
from kaleidobert.app_zoo.ablate import plan
from kaleidobert.app_zoo.processes import Step
from kaleidobert.configs import AblateConfig
from kaleidobert.errors import UserError
from kaleidobert.evaluators.report import ablation
from kaleidobert.evaluators.report.results import Result
from kaleidobert.evaluators.report.tables import markdown

FIX = "wait until it has ended, or choose another folder with run=..."
Finished = dict[str, dict[int, dict[str, Result]]]


def dry_run(config: AblateConfig) -> None:
    """Lists the runs, calls the commands that could begin now with --dry-run, and prints the table of the rows that are finished.

    Of a command that could begin in several rows and seeds, one is called; of pretrain one per row, whose level tables differ.
    """
    steps = _open(config)
    print(listing(steps))
    checked = {(step.name, step.row if step.name == "pretrain" else ""): step for step in reversed(steps)
               if step.config is not None and not step.is_done() and step.is_ready()}
    processes.check(list(reversed(checked.values())))
    if found := finished(steps):
        print(f"\n{table(config, found)}", end="")


def run(config: AblateConfig) -> None:
    """Runs what is missing, writes results.json and table.md, prints the table.

    They hold what is finished where a run fails or Ctrl-C is pressed, too: a row with the seeds of which every run is there.
    """
    steps = _open(config)
    io.lock(config.run, fix=FIX)
    try:
        processes.run_all(steps, config.parallel)
    except (UserError, KeyboardInterrupt):
        if found := finished(steps):
            write(config, found)
            print(f"what is finished: {config.run / 'table.md'}")
        raise
    print(f"\n{write(config, finished(steps))}\n  {config.run / 'table.md'}\n  every figure: {config.run / 'results.json'}")


def listing(steps: Sequence[Step]) -> str:
    """Returns a line per bank, and per row and seed: which runs are done and which are missing; then their numbers."""
    groups: dict[str, dict[str, bool]] = {}
    for step in steps:
        where, _, what = step.title.partition(": ")
        groups.setdefault(where, {})[what] = step.is_done()
    lines = []
    for where, each in groups.items():
        parts = [f"{word} {', '.join(names)}" for word, wanted in (("done", True), ("missing", False))
                 if (names := [name for name, done in each.items() if done is wanted])]
        lines.append(f"  {where}: {'; '.join(parts)}")
    done = sum(step.is_done() for step in steps)
    return "\n".join([*lines, f"{len(steps)} runs: {done} done, {len(steps) - done} missing"])


def finished(steps: Sequence[Step]) -> Finished:
    """Returns {runs of a row: {seed: {step: its results}}} of the seeds of which every run is finished."""
    by_seed: dict[tuple[str, int], list[Step]] = {}
    for step in steps:
        if step.row:
            by_seed.setdefault((step.row, step.seed), []).append(step)
    made: Finished = {}
    for (row, seed), each in by_seed.items():
        if all(step.is_done() for step in each):
            made.setdefault(row, {})[seed] = {step.name: Result(step.title, str(step.done), io.read_json(step.done)) for step in each}
    return made


def table(config: AblateConfig, found: Finished) -> str:
    """Returns the tables as Markdown."""
    return "\n".join(map(markdown, ablation.tables(plan.row_names(config), _figures(found), _sums(config), _heads(found))))


def write(config: AblateConfig, found: Finished) -> str:
    """Writes results.json and table.md; returns the tables."""
    text = table(config, found)
    results = ablation.to_json(plan.row_names(config), _figures(found), _sums(config))
    io.write_json(config.run / "results.json", {"task": "ablate", **results, "heads": _heads(found), "config": configs.to_dict(config),
                                                "versions": {"kaleidobert": kaleidobert.__version__}})
    io.write_text(config.run / "table.md", text)
    return text


def _heads(found: Finished) -> dict[str, str]:
    """Returns the heads of the first results: those of all rows are made with the same words."""
    return next((ablation.heads(results) for by_seed in found.values() for results in by_seed.values()), {})


def _figures(found: Finished) -> dict[str, dict[int, dict[str, float]]]:
    return {row: {seed: ablation.figures(results) for seed, results in by_seed.items()} for row, by_seed in found.items()}


def _sums(config: AblateConfig) -> list[str]:
    return [name for task, name in ablation.TASKS.items() if task in config.tasks]


def _open(config: AblateConfig) -> list[Step]:
    """Returns the runs. Raises UserError where nothing has to be run to know that they would be refused."""
    steps = plan.steps(config)
    io.check_unlocked(config.run, FIX)
    io.check_folder(config.run, "choose another folder with run=...")
    processes.check_unchanged(steps)
    if not all(step.is_done() for step in steps):
        backends.check()
    return steps
