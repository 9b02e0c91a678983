"""``kaleidobert catalogue run``: from a table to labels, retrieval, captions and a report, with one dial.

    FOLDER/check/        what the table holds, records.yaml; its page
           bank/, bank.made_of, align/, pretrain/, label-NAME/, i2t/, t2i/, caption/, pages/, index/ beside each its NAME.yaml and NAME.log
           report.html, tables.md, catalogue.json, made_of.json

Every stage is a process of its own. What has finished is passed over, and an unfinished one continues, so that the same command goes on
after an interruption or a failure. A table that has changed is checked again, and refused where trainings are of other products; a bank
follows it.
"""

from collections.abc import Sequence
from pathlib import Path

from kaleidobert import configs, io
from kaleidobert.app_zoo import commands, processes, tables
from kaleidobert.app_zoo.catalogue import sizing
from kaleidobert.app_zoo.catalogue.examination import identity, state
from kaleidobert.app_zoo.catalogue.sizing import Sizing, Stage
from kaleidobert.app_zoo.processes import Step, duration
from kaleidobert.app_zoo.report import report
from kaleidobert.configs.catalogue import CatalogueCheckConfig, CatalogueRunConfig
from kaleidobert.configs.section import check_name
from kaleidobert.datasets.sources.table import TableSource
from kaleidobert.errors import UserError

FIX = "wait until it has ended, or choose another folder with run=..."
# whose weights a stage starts from
STARTS = {"i2t": "pretrain", "caption": "pretrain", "classify": "pretrain", "t2i": "i2t", "index": "i2t"}


def dry_run(config: CatalogueRunConfig) -> None:
    """Prints the stages and the time that they will take, where the table has been checked, else what would be done first."""
    folder = config.folder
    io.check_folder(folder, "choose another folder with run=...")
    if not _check_step(config).is_done():
        print(f"first: kaleidobert catalogue check {config.source.table}; the stages follow from what it finds")
        return
    planned = _plan(config)
    print(describe(planned, steps(config, planned)))
    print(f"results: {folder}")


def run(config: CatalogueRunConfig) -> None:
    """Runs what is missing and prints the report card. Raises UserError where a stage fails: the same command goes on from there."""
    folder = config.folder
    if isinstance(config.source, TableSource) and not config.source.table.exists():
        raise UserError("there is no such table", str(config.source.table), "a table of products, or a folder per class")
    io.lock(folder, fix=FIX)
    check = _check_step(config)
    _forget_other(check, config)
    processes.run_all([check], 1)
    _check_products(folder)
    planned = _plan(config)
    stages = steps(config, planned)
    processes.check_unchanged(stages)
    print(describe(planned, stages))
    processes.run_all(stages, 1)
    _report(folder, planned)


def steps(config: CatalogueRunConfig, planned: Sizing) -> list[Step]:
    """Returns the stages as processes. Raises UserError for words that a stage does not take."""
    ranked = any(stage.name == "i2t" for stage in planned.stages)
    return [_step(config, stage, ranked) for stage in planned.stages]


def describe(planned: Sizing, stages: Sequence[Step]) -> str:
    """Returns the plan in words: size, stages with their times, and what is left out and why."""
    missing = [step for step in stages if not step.is_done()]
    known, pace = all(step.seconds for step in missing), processes.pace(stages)
    length = f"about {duration(pace * sum(step.seconds for step in missing))}" if known else "how long it takes was never measured"
    lines = [f"size {planned.size} ({planned.why}); {length}{', by what the others took' if known and pace != 1 else ''}:"]
    for step in stages:
        how_long = f"about {duration(pace * step.seconds)}" if step.seconds else "of unknown length"
        lines.append(f"  {step.name:24s} {'done' if step.is_done() else how_long}")
    lines += [f"  {name:24s} left out: {why}" for name, why in planned.skipped.items()]
    return "\n".join(lines)


def _check_step(config: CatalogueRunConfig) -> Step:
    folder = config.folder / "check"
    own = CatalogueCheckConfig(config.source, config.folder, config.pictures, config.sheet)
    return Step("check", "check", folder, folder / "results.json", (), ("kaleidobert.cli", "catalogue check", str(_beside(folder))), own,
                has_words=False)


def _forget_other(check: Step, config: CatalogueRunConfig) -> None:
    """Has the check made again where the table has changed since, or where it was another check."""
    if check.is_done():
        made = io.read_json(check.done)
        now = state(config.source)
        if now is not None and made.get("table") != now or made.get("config") != identity(check.config):
            check.done.unlink()


def _check_products(folder: Path) -> None:
    """Notes the products that the stages are made of; has a bank that stands alone follow them.

    Raises UserError where the table has others since trainings began: their results are of the products that were there.
    """
    now, path = io.read_json(folder / "check" / "results.json")["products"], folder / "made_of.json"
    begun = [part for part in sorted(folder.iterdir()) if part.is_dir() and part.name not in ("check", "bank") and io.contents(part)]
    if path.is_file() and io.read_json(path).get("products") != now:
        if begun:
            raise UserError(f"the products are others than those of which {begun[0].name}{' and more' * (len(begun) > 1)} was made: the "
                            "table, or how it is read, has changed", str(folder), "the products that were there",
                            f"choose another folder with run=...; or delete {', '.join(part.name for part in begun)} there, and the same "
                            "command trains anew, on a bank of which only the pictures that are new or changed are encoded")
        (folder / "bank.yaml").unlink(missing_ok=True)  # the stage runs again, as its mark is another; until it is taken a bank still opens
    io.write_json(path, {"products": now})


def _plan(config: CatalogueRunConfig) -> Sizing:
    facts = io.read_json(config.folder / "check" / "results.json")["facts"]
    for name in config.labels:
        check_name(name, facts["labels"], "labels", "catalogue run")
    if not facts["splits"].get("train"):
        raise UserError("no picture is in the split 'train'", str(config.source.table), f"'train' beside {sorted(facts['splits'])}",
                        "correct the split column, or leave it out of source.columns")
    planned = sizing.plan(facts, config.size, config.labels)
    stages = dict.fromkeys([*(stage.command for stage in planned.stages), *(stage.name for stage in planned.stages), *planned.skipped])
    for name in config.words:
        check_name(name, (*stages, "classify", "retrieve"), "words", "catalogue run")
    return planned


def _step(config: CatalogueRunConfig, stage: Stage, ranked: bool) -> Step:
    """Returns a stage as a process. ranked: whether retrieval is trained, whose matcher is then the one that searches."""
    run, bank = config.folder, config.folder / "bank"
    own = [*config.words.get(stage.command, ()), *(config.words.get(stage.name, ()) if stage.name != stage.command else ())]
    if stage.name == "records":
        folder, done, needs, file = bank, bank / "index.json", [run / "check" / "results.json"], str(run / "check" / "records.yaml")
        words = [*stage.words, f"bank={_path(bank)}"]
    else:
        folder, needs, file = run / ("pages" if stage.name == "inspect" else stage.name), [bank / "index.json"], stage.file
        done = folder / "results.json"
        words = [*stage.words, f"data.bank={_path(bank)}", f"run={_path(folder)}"]
    if stage.name == "index":
        done, words = folder / "index.json", [*stage.words, f"data.bank={_path(bank)}", f"index={_path(folder)}"]
    elif stage.name == "align":
        done = folder / "word_presence" / "results.json"
    made_of = io.read_json(run / "check" / "results.json")["products"] if stage.name == "records" else ""
    before = STARTS.get(stage.name, STARTS.get(stage.command))
    if stage.name == "index" and not ranked:
        before = "pretrain"
    if before is not None:
        needs.append(run / before / "results.json")
        words.append(f"init={_path(run / before / 'best.npz')}")
    elif stage.name == "pretrain":
        needs += [run / "align" / "word_presence" / "results.json"] * stage.links
    elif stage.name == "inspect":
        needs.append(run / "pretrain" / "results.json")
        words += [f"checkpoint={_path(run / 'pretrain' / 'best.npz')}", "source="]
        words += ["maps="] if not stage.links else [f"maps={_path(run / 'align' / 'word_presence')}"]
    if stage.command in ("pretrain", "classify", "retrieve", "caption"):
        words.append(f"train.seed={config.seed}")
    loaded = commands.load(stage.command, file, [*words, *own])
    return Step(stage.name, stage.name, folder, done, tuple(needs), ("kaleidobert.cli", stage.command, str(_beside(folder))), loaded,
                seconds=stage.seconds, made_of=made_of)


def _report(folder: Path, planned: Sizing) -> None:
    """Writes and prints the tables, and writes all of it onto one page, whose report card is printed."""
    tables.run(configs.TablesConfig((folder,), folder))
    page = folder / report.NAME
    card = report.write((folder,), page).card
    print(f"report card: does the data support each idea?\n\n{report.show(card)}\n")
    io.write_json(folder / "catalogue.json", {"size": planned.size, "skipped": dict(planned.skipped),
                                              "claims": [vars(claim) for claim in card]})
    print(f"results: {folder}\n  the table: {folder / 'check' / 'index.html'}\n  all of it on one page: {page}\n"
          f"  pictures as the model sees them: {folder / 'pages' / 'index.html'}\n  tables: {folder / 'tables.md'}\n"
          f"  search it: kaleidobert search {folder / 'index'} \"...\"\n  try it in a browser: kaleidobert demo {folder}")


def _beside(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.yaml")


def _path(path: Path) -> str:
    """Returns a path as the value of a key=value word, taken literally."""
    return sizing.quoted(str(path))
