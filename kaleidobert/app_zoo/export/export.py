"""``kaleidobert export``: a trained model as files that other programs load, without this package."""

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kaleidobert import io
from kaleidobert.app_zoo.export import parity, subject, transformers_folder
from kaleidobert.app_zoo.export.subject import Subject
from kaleidobert.app_zoo.export.transformers_folder import NOTE, VOCABULARY, WEIGHTS, checkpoint_digest
from kaleidobert.configs.export import ExportConfig
from kaleidobert.errors import UserError

AGAIN = "delete the folder and export again"


def dry_run(config: ExportConfig) -> None:
    """Opens the model and everything that goes along, writes nothing."""
    io.check_folder(config.out.parent, "choose another folder: out=...")
    exported = subject.read(config)
    _exported_before(config.out, exported)
    print("\n".join(_description(exported)))
    print(f"files that would be written: {', '.join(str(config.out / name) for name in transformers_folder.contents(exported))}")


def run(config: ExportConfig) -> None:
    """Writes the folder once it answers as the model does; checks it again where it was written before."""
    io.check_folder(config.out.parent, "choose another folder: out=...")
    exported = subject.read(config)
    print("\n".join(_description(exported)))
    with io.locked(config.out.parent, name=f".{config.out.name}.lock"):
        if (before := _exported_before(config.out, exported)) is not None:
            _check_files(config.out, before)
            print("\n".join(_checked(config, exported, config.out)))
            print(f"it was exported before, and nothing is written: {config.out}")
            return
        made = transformers_folder.contents(exported)
        with _appearing(config.out) as folder:
            transformers_folder.write(folder, made)
            lines = _checked(config, exported, folder)
    print("\n".join(lines))
    size = sum(map(len, made.values())) / 1e6
    print(f"written: {config.out}, {size:,.1f} MB: {', '.join(made)}")


def _description(exported: Subject) -> list[str]:
    """Returns lines about the model."""
    model = exported.model
    reads = "raw pictures and texts" if exported.reader is not None else "features of patches, and texts"
    return [f"{exported.checkpoint}: {model.kind}, {model.count_params():,} parameters; the export reads {reads}",
            *(f"  note: {line}" for line in transformers_folder.notes(exported))]


def _checked(config: ExportConfig, exported: Subject, folder: Path) -> list[str]:
    """Compares the export with the model where that is possible; returns lines about it."""
    if not config.check_rows:
        return ["not compared with the model: check_rows is 0"]
    if why := parity.lacking(config.python):
        if config.python is not None:
            raise UserError(why, "python", "a Python with torch and transformers", "correct python=..., or leave it out")
        return [f"not compared with the model: {why}, then give the same command again; or name another Python, python=PATH"]
    print("comparing its answers with the model's, by torch and transformers ...", flush=True)
    return ["its answers are the model's:", *parity.check(folder, exported, config.check_rows, config.python)]


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """Opens a folder that appears as ``out`` whole, or not at all; what a killed export left goes. The caller has the lock of ``out``."""
    work = out.with_name(f".{out.name}.export")
    try:
        with io.explained(out):
            if work.exists():
                shutil.rmtree(work)
            work.mkdir(parents=True)
            yield work
            if out.is_dir():
                out.rmdir()  # it is empty
            os.replace(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _exported_before(out: Path, exported: Subject) -> Mapping[str, Any] | None:
    """Returns the note of an earlier export of the same model; None where the folder is free. UserError where it holds anything else."""
    if out.exists() and not out.is_dir():
        raise UserError("this is a file", str(out), "a folder", "choose another: out=...")
    if not io.contents(out):
        return None
    note = io.read_json(out / NOTE) if (out / NOTE).is_file() else None
    if not isinstance(note, Mapping) or not isinstance(note.get("files"), Mapping):
        raise UserError("the folder is not empty and holds no export", str(out), "a new folder", "choose another: out=...")
    if note.get("checkpoint") != checkpoint_digest(exported.checkpoint) or note.get("pictures") != (exported.reader is not None):
        raise UserError("the folder holds an export of another model, or with other settings", str(out), "a new folder",
                        "choose another, out=..., or delete this one")
    return note


def _check_files(out: Path, note: Mapping[str, Any]) -> None:
    """Raises UserError where a file of an export is not as it was written."""
    for name, digest in note["files"].items():
        path = out / name
        if not path.is_file():
            raise UserError("the file is missing", str(path), "a whole export", AGAIN)
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            what = {WEIGHTS: "the weights are damaged, or not those that were exported",
                    VOCABULARY: "this is another vocabulary than the model's"}.get(name, "the file has changed since the export")
            raise UserError(what, str(path), f"SHA-256 {digest}", AGAIN)
