"""``kaleidobert convert`` of data: released text files to a folder of arrays, which data.files then names instead of them."""

import os
from pathlib import Path

from kaleidobert import io
from kaleidobert.configs import ConvertConfig
from kaleidobert.errors import UserError
from kaleidobert.released import bank, tf_checkpoint
from kaleidobert.released import files as released_files
from kaleidobert.released import rows as released_rows
from kaleidobert.released import schema as released_schema
from kaleidobert.released.schema import Schema

CHECKPOINTS = (".npz", ".index", ".meta", ".data-00000-of-00001")


def is_data(source: Path) -> bool:
    """Whether a source is a data file, a list of them or a pattern, and no checkpoint."""
    pattern = any(mark in source.name for mark in "*?")
    return pattern or source.is_file() and not source.name.endswith(CHECKPOINTS) and not tf_checkpoint.exists(source)


def dry_run(config: ConvertConfig) -> None:
    """Read the first line, print sizes, write nothing."""
    io.check_folder(config.target, "choose another target")
    paths = released_rows.data_files(config.source)
    schema = schema_of(config, paths)
    rows = released_rows.TextRows(paths, schema, config.target)
    rows.first(schema.names[0])
    print(f"{config.source}: {rows.summary()} ({schema.origin})\nwould be written: {config.target}")


def run(config: ConvertConfig) -> None:
    """Convert, or go on with a conversion that was interrupted."""
    if config.target.suffix == ".npz":
        raise UserError("the source is data and the target a checkpoint", "source, target", "a folder as the target")
    io.check_folder(config.target, "choose another target")
    paths = released_rows.data_files(config.source)
    threads = config.files.threads or min(os.cpu_count() or 1, released_rows.MOST_THREADS)
    rows = bank.convert(paths, schema_of(config, paths), config.target, threads, config.files.half)
    print(f"written: {config.target}: {rows.summary()}; use it as data.files or data.val_files")


def schema_of(config: ConvertConfig, paths: list[Path]) -> Schema:
    """files.schema, or the published one that has as many columns as the first line, with the lengths that the levels give."""
    if config.files.schema:
        schema = released_schema.parse(config.files.schema, "files.schema", config.files.encoding)
        task = "pretrain" if "masked_lm_ids" in schema.names else "retrieve" if "nx_sent_labels" in schema.names else "finetune"
        return released_schema.for_task(schema, task)
    line = next(released_files.lines(paths))
    count = line.content.count(b"\t") + 1
    published = {task: released_schema.released(task) for task in released_schema.TASKS}
    task = next((task for task, schema in published.items() if len(schema.columns) == count), None)
    if task is None:
        known = ", ".join(f"{len(schema.columns)} ({task})" for task, schema in published.items())
        raise UserError(f"the line has {count} columns", line.where, f"as a published schema: {known}", "give files.schema")
    return released_schema.parse(str(published[task]), f"the published schema for {task}", config.files.encoding)
