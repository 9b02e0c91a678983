"""``kaleidobert ablate``: the rows of the paper's Table 4 and what they support (paper, section 4.4).

A bank per foreground method and its alignment; then for every row and seed a pre-training, what it knows of masked words, and the
fine-tunings, each a process of its own. What has finished is passed over, so that the same command continues where it stopped; a seed
(train.seed) changes everything after the bank.

    run/results.json, table.md   the results
        banks/METHOD/            a bank; align/METHOD/ the run folder of its alignment, where a row masks by it
        ROW/SEED/pretrain/, masked_words/, i2t/, t2i/, cat/, subcat/, caption/
        ...                      beside each of these folders NAME.yaml, the configuration that it is made with, and NAME.log, what it said

Rows that are the same model have the same runs: kaleido + saliency, AGM and B+I-V are b_i-v.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import kaleidobert
from kaleidobert import configs, io
from kaleidobert.app_zoo import backends, commands, processes
from kaleidobert.app_zoo.processes import Step
from kaleidobert.configs import AblateConfig, PretrainConfig, loader
from kaleidobert.configs.section import check_name
from kaleidobert.errors import UserError
from kaleidobert.evaluators.report import ablation
from kaleidobert.evaluators.report.ablation import ROWS, SCRATCH
from kaleidobert.evaluators.report.results import Result
from kaleidobert.evaluators.report.tables import markdown
from kaleidobert.preprocessors.alignment_guided_masking import POLICIES

FIX = "wait until it has ended, or choose another folder with run=..."
Finished = dict[str, dict[int, dict[str, Result]]]
WHOLE = "none"  # the foreground method of rows that see the whole picture
WHOLE_ROWS = {"fixed": "fixed", "kaleido": "b_i-v"}  # {runs of such a row: its file of configs/table4}; of the others it has their name
MASKED_WORDS = "masked_words"
SET_HERE = {  # {file of configs: the keys that the ablation sets itself}
    "records": ("bank",), "align": ("run", "data.bank"), "pretrain": ("run", "data.bank", "train.seed", "levels", "sampling.masking"),
    **dict.fromkeys(("i2t", "t2i", "cat", "subcat", "caption"), ("run", "data.bank", "init", "from_scratch", "train.seed"))}
COMMANDS = {"i2t": "retrieve", "t2i": "retrieve", "cat": "classify", "subcat": "classify"}  # of the others it has the file's name
FINE_TUNINGS = {"retrieval": ("i2t", "t2i"), "classification": ("cat", "subcat"), "captions": ("caption",)}


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
    return "\n".join(map(markdown, ablation.tables(row_names(config), _figures(found), _sums(config), _heads(found))))


def write(config: AblateConfig, found: Finished) -> str:
    """Writes results.json and table.md; returns the tables."""
    text = table(config, found)
    results = ablation.to_json(row_names(config), _figures(found), _sums(config))
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
    steps = plan(config)
    io.check_unlocked(config.run, FIX)
    io.check_folder(config.run, "choose another folder with run=...")
    processes.check_unchanged(steps)
    if not all(step.is_done() for step in steps):
        backends.check()
    return steps


# --- The plan


def plan(config: AblateConfig) -> list[Step]:
    """Returns the runs, each once, in their order: banks, alignments, then every row with every seed; nothing is written.

    Raises UserError for unknown rows and files, for words that a run does not take or that the ablation sets itself, and for banks that
    are not there or that another foreground method made.
    """
    return _Planner(config).steps()


def row_names(config: AblateConfig) -> list[str]:
    """Returns the rows of the table, in the paper's order. Raises UserError for an unknown one."""
    for name in config.rows:
        check_name(name, ROWS, "rows")
    return [name for name in ROWS if not config.rows or name in config.rows]


class _Planner:
    def __init__(self, config: AblateConfig):
        self._config = config
        self._folder = Path(config.configs).expanduser()
        self._files: dict[str, Any] = {}
        for name, words in config.words.items():
            check_name(name, SET_HERE, "words")
            for word in words:
                key = word.partition("=")[0]
                if key in SET_HERE[name]:
                    raise UserError(f"words.{name} sets {key}, which the ablation sets itself", "words", f"keys of {name} beside "
                                    f"{', '.join(SET_HERE[name])}", "leave it out")
        self._runs = list(dict.fromkeys(ROWS[name].runs for name in row_names(config)))
        self._table4 = {runs: configs.load(PretrainConfig, f"table4/{WHOLE_ROWS.get(runs, runs)}")
                        for runs in self._runs if runs != SCRATCH}
        self._saliency = self._file("records").foreground.method
        cut_out = any(runs not in WHOLE_ROWS for runs in self._runs)
        if cut_out and self._saliency == WHOLE:
            raise UserError(f"foreground.method of records is {WHOLE}, and these rows have the product cut out", str(self._path("records")),
                            "network, border or masks", "say words.records=[foreground.method=network]")
        self._judge = self._saliency if cut_out else WHOLE  # its links say which words are aligned, for every row
        self._banks = {name: self._check_bank(name, folder) for name, folder in config.banks.items()}

    def steps(self) -> list[Step]:
        guided = {self._judge} | {self._method(runs) for runs in self._runs if self._is_guided(runs)}
        made = []
        for method in dict.fromkeys([self._judge, *map(self._method, self._runs)]):
            bank, title = self._bank(method), f"bank {method}"
            if method not in self._banks:
                config = self._file("records")
                config = replace(config, bank=bank, foreground=replace(config.foreground, method=method))
                made.append(_step("records", title, bank, config, (), done=bank / "index.json"))
            if method in guided:
                run = self._config.run / "align" / method
                config = _on(self._file("align"), run, bank)
                made.append(_step("align", title, run, config, (bank / "index.json",), done=self._linked(method)))
        self._check_heeded(made)
        return made + [step for seed in self._config.seeds for runs in self._runs for step in self._of_row(runs, seed)]

    def _check_heeded(self, made: Sequence[Step]) -> None:
        """Raises UserError where words are said to a step that no bank needs."""
        begun = {step.name for step in made if step.name == "records" or not (step.is_done() and step.done.name == "alignment.json")}
        for name in ("records", "align"):
            if self._config.words.get(name) and name not in begun:
                raise UserError(f"words.{name} is set, and every bank is one that exists (banks) with what {name} would make",
                                "words, banks", f"a bank that the ablation makes, for words.{name}",
                                f"leave words.{name} out, or name no bank")

    def _of_row(self, runs: str, seed: int) -> list[Step]:
        folder, bank = self._config.run / runs / str(seed), self._bank(self._method(runs))

        def step(name: str, *needs: Path, **keys: Any) -> Step:
            config = _on(self._file(name), folder / name, bank)
            config = replace(config, train=replace(config.train, seed=seed), **keys)
            return _step(name, f"{runs}, seed {seed}", folder / name, config, needs, row=runs, seed=seed)

        made = []
        if runs != SCRATCH:
            links = (self._linked(self._method(runs)),) if self._is_guided(runs) else ()
            row, pretrain = self._table4[runs], self._file("pretrain")
            sampling = replace(pretrain.sampling, masking=row.sampling.masking)
            made = [step("pretrain", bank / "index.json", *links, sampling=sampling, levels=row.levels), self._masked_words(runs, seed)]
        for name in (name for task in FINE_TUNINGS if task in self._config.tasks for name in FINE_TUNINGS[task]):
            before = folder / ("i2t" if name == "t2i" else "pretrain")  # t2i ranks with the model that i2t fine-tuned
            if runs == SCRATCH and name != "t2i":
                random = {"init": None, "from_scratch": True, "model": self._file("pretrain").model}
                made.append(step(name, bank / "index.json", **random))
            else:
                made.append(step(name, before / "results.json", init=before / "best.npz"))
        return made

    def _masked_words(self, runs: str, seed: int) -> Step:
        folder = self._config.run / runs / str(seed)
        result, judge = folder / MASKED_WORDS / f"by_{self._judge}", self._bank(self._judge)
        words = (f"{__package__}.{MASKED_WORDS}", str(folder / "pretrain" / "best.npz"), str(self._bank(self._method(runs))), str(judge),
                 str(result))
        return Step(MASKED_WORDS, f"{runs}, seed {seed}: masked words", result, result / "results.json",
                    (folder / "pretrain" / "results.json", self._linked(self._judge)), words, row=runs, seed=seed)

    def _file(self, name: str) -> Any:
        """Returns the configuration of a file of ``configs`` with the words for it; the ablation sets the rest."""
        if name not in self._files:
            quick = ["baselines=false"] if "init" in SET_HERE[name] else []
            needed = [f"{key}={json.dumps(str(self._config.run))}" for key in SET_HERE[name] if key in ("bank", "run", "data.bank")]
            self._files[name] = commands.load(COMMANDS.get(name, name), self._path(name),
                                              [*quick, *self._config.words.get(name, ()), *needed])
        return self._files[name]

    def _path(self, name: str) -> Path:
        """Returns the path of a file of ``configs``."""
        return loader.find_file(self._folder / f"{name}.yaml" if self._folder.is_dir() else f"{self._config.configs.rstrip('/')}/{name}")

    def _bank(self, method: str) -> Path:
        return self._banks.get(method, self._config.run / "banks" / method)

    def _linked(self, method: str) -> Path:
        """Returns the file that is there when a bank's words are linked: the last that the run writes, of banks that exist the links."""
        if method in self._banks:
            return self._bank(method) / "alignment.json"
        return self._config.run / "align" / method / self._file("align").mode / "results.json"

    def _method(self, runs: str) -> str:
        return WHOLE if runs in WHOLE_ROWS else self._saliency

    def _is_guided(self, runs: str) -> bool:
        return runs != SCRATCH and POLICIES[self._table4[runs].sampling.masking].needs_alignment

    def _check_bank(self, method: str, folder: Path) -> Path:
        check_name(method, {self._saliency, WHOLE}, "banks")
        if not (folder / "index.json").is_file():
            raise UserError(f"banks.{method} names no finished bank", str(folder), "a folder that `kaleidobert records` has made")
        index = io.read_json(folder / "index.json")
        made: Mapping[str, Any] = (index.get("config") or {}).get("foreground") or {}
        if made.get("method", method) != method:
            raise UserError(f"banks.{method} is a bank made with foreground.method={made['method']}", str(folder), method,
                            f"say banks.{made['method']}=..., or make it with foreground.method={method}")
        return folder


def _on(config: Any, run: Path, bank: Path) -> Any:
    """Returns the configuration of a run on a bank."""
    return replace(config, run=run, data=replace(config.data, bank=bank))


def _step(name: str, where: str, folder: Path, config: Any, needs: Sequence[Path], done: Path | None = None, **of_row: Any) -> Step:
    made = Step(name, f"{where}: {name}", folder, done or folder / "results.json", tuple(needs), (), config, **of_row)
    return replace(made, words=("kaleidobert.cli", COMMANDS.get(name, name), str(made.file)))
