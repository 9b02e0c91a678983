"""``kaleidobert convert`` of data. Of a bank: a copy whose features are bytes (storage=uint8, half the room), or float16 again."""

import os
from pathlib import Path

from tqdm import tqdm

from kaleidobert import io
from kaleidobert.configs import ConvertConfig
from kaleidobert.datasets.bank import storage
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.errors import UserError
from kaleidobert.released import files as released_files
from kaleidobert.released import rows as released_rows
from kaleidobert.released import schema as released_schema
from kaleidobert.released import tf_checkpoint
from kaleidobert.released.schema import Schema


def is_bank(source: Path) -> bool:
    """Whether a source is the folder of a bank."""
    return (source / "index.json").is_file()


def dry_run(config: ConvertConfig) -> None:
    """Check the bank and the target, print sizes."""
    bank = _bank(config)
    storage.check(bank, config.target, config.storage)
    print(f"{config.source}: {bank.size:,} pictures, features as {bank.storage}, {_gigabytes(bank):.2f} GB\n"
          f"would be written: {config.target}, features as {config.storage}")


def run(config: ConvertConfig) -> None:
    """Copy the bank, or go on with a copy that was interrupted."""
    bank = _bank(config)
    with tqdm(total=bank.size, unit="picture", desc="convert") as bar:
        for count in storage.convert(bank, config.target, config.storage):
            bar.update(count)
    print(f"written: {config.target}: features as {config.storage}, {_gigabytes(Bank(config.target)):.2f} GB in the place of "
          f"{_gigabytes(bank):.2f} GB; use it as data.bank")


def _bank(config: ConvertConfig) -> Bank:
    if not config.storage:
        raise UserError("storage is not set", f"source {config.source}, a bank", "uint8 or float16", "set storage=uint8")
    return Bank(config.source)


def _gigabytes(bank: Bank) -> float:
    return sum(bank.index["files"][name]["bytes"] for name in (*bank.index["shards"], *bank.index.get("scales", ()))) / 1e9


# --- ``kaleidobert convert`` of data: released text files to a folder of arrays, which data.files then names instead of them


CHECKPOINTS = (".npz", ".index", ".meta", ".data-00000-of-00001")


def is_data(source: Path) -> bool:
    """Whether a source is a data file, a list of them or a pattern, and no checkpoint."""
    pattern = any(mark in source.name for mark in "*?")
    return pattern or source.is_file() and not source.name.endswith(CHECKPOINTS) and not tf_checkpoint.exists(source)


def dry_run_files(config: ConvertConfig) -> None:
    """Read the first line, print sizes, write nothing."""
    io.check_folder(config.target, "choose another target")
    paths = released_rows.data_files(config.source)
    schema = schema_of(config, paths)
    rows = released_rows.TextRows(paths, schema, config.target)
    rows.first(schema.names[0])
    print(f"{config.source}: {rows.summary()} ({schema.origin})\nwould be written: {config.target}")


def run_files(config: ConvertConfig) -> None:
    """Convert, or go on with a conversion that was interrupted."""
    if config.target.suffix == ".npz":
        raise UserError("the source is data and the target a checkpoint", "source, target", "a folder as the target")
    io.check_folder(config.target, "choose another target")
    paths = released_rows.data_files(config.source)
    threads = config.files.threads or min(os.cpu_count() or 1, released_rows.MAX_THREADS)
    rows = released_rows.convert(paths, schema_of(config, paths), config.target, threads, config.files.half)
    print(f"written: {config.target}: {rows.summary()}; use it as data.files or data.val_files")


def schema_of(config: ConvertConfig, paths: list[Path]) -> Schema:
    """files.schema, or the published one that has as many columns as the first line, with the lengths that the levels give."""
    if config.files.schema:
        schema = released_schema.parse(config.files.schema, "files.schema", config.files.encoding)
        kind = "pretrain" if "masked_lm_ids" in schema.names else "retrieve" if "nx_sent_labels" in schema.names else "finetune"
        return released_schema.for_task(schema, kind)
    line = next(released_files.lines(paths))
    count = line.content.count(b"\t") + 1
    published = {task: released_schema.released(task) for task in released_schema.TASKS}
    task = next((task for task, schema in published.items() if len(schema.columns) == count), None)
    if task is None:
        known = ", ".join(f"{len(schema.columns)} ({task})" for task, schema in published.items())
        raise UserError(f"the line has {count} columns", line.where, f"as a published schema: {known}", "give files.schema")
    return released_schema.parse(str(published[task]), f"the published schema for {task}", config.files.encoding)
