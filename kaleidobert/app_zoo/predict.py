"""``kaleidobert predict``: what trained models say of the pictures and texts of a table or a folder, as JSON lines or Parquet.

    OUT              a line or row of every picture, in the order of the table; at the end the rows that could not be used
    OUT.info.json    runs, checkpoints and table that it was made of, and how long it took
    OUT.parts/       while it is made: the answers of every finished chunk, with which the same command continues
"""

import hashlib
import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from tqdm import tqdm

from kaleidobert import configs, io
from kaleidobert.app_zoo import product_model, records, trained_runs
from kaleidobert.app_zoo.catalogue import examination
from kaleidobert.app_zoo.product_model import MATCHERS, Pictures, ProductModel
from kaleidobert.configs.predict import Answer, PredictConfig
from kaleidobert.configs.section import check_name
from kaleidobert.datasets import addresses, products
from kaleidobert.datasets.products import Product, read_image
from kaleidobert.datasets.sources import formats, table
from kaleidobert.datasets.sources.pictures import walk
from kaleidobert.datasets.sources.reading import Reading, survey
from kaleidobert.errors import Incomplete, UserError
from kaleidobert.io import sha256
from kaleidobert.model_zoo.kaleidobert import Captioner, Classifier
from kaleidobert.remote import pictures

FORMATS = (".jsonl", ".parquet")
TABLES = (".parquet",)  # of those: make a folder a table by lying in it
REASONS = 8  # that are printed
DIGITS = 7  # of a number in JSON lines, as many as float32 has
FIX = "wait until it has ended, or name another file with out=..."


def dry_run(config: PredictConfig) -> None:
    """Opens runs and table, and says what would be answered; reads no picture."""
    task = _open(config)
    print(f"{task.model!r}\n{task.describe()}")
    _begun(task)


def run(config: PredictConfig) -> None:
    """Answers every picture; an interrupted run continues where it stopped.

    Incomplete where more than config.max_skipped of the pictures cannot be read; the answers of the others are written then.
    """
    task = _open(config)
    print(task.describe())
    _begun(task)  # refuses before anything is written
    with io.locked(task.parts, fix=FIX):
        if _begun(task) == "finished":  # looked at again: another process may have been faster
            print(f"the same pictures have been answered by the same runs before: {config.out}")
        else:
            io.write_json(task.parts / "made_of.json", task.identity)
            started, made = time.monotonic(), _answer_all(task)
            seconds = time.monotonic() - started
            _join(task, {"pictures": made, "seconds": round(seconds, 1)})
            if made:
                print(f"{made:,} pictures in {seconds:.0f} s: {made / seconds:.1f} a second")
        shutil.rmtree(task.parts)
    print(f"answers: {config.out}")
    _account(config, io.read_json(task.info))


@dataclass(frozen=True)
class _Task:
    """What is asked: model and table, opened; answers, labels: those of the configuration, or all that there are."""

    config: PredictConfig
    model: ProductModel
    reading: Reading
    answers: tuple[Answer, ...]
    labels: tuple[str, ...]

    @property
    def products(self) -> list[Product]:
        """The pictures with their texts."""
        return self.reading.products

    @property
    def parts(self) -> Path:
        """The folder of finished chunks."""
        return self.config.out.with_name(f"{self.config.out.name}.parts")

    @property
    def info(self) -> Path:
        """The file beside the answers."""
        return self.config.out.with_name(f"{self.config.out.name}.info.json")

    @cached_property
    def chunks(self) -> dict[Path, list[Product]]:
        """{file of its answers: the pictures of a chunk}."""
        size = self.config.chunk
        return {self.parts / f"{start // size:06d}{self.config.out.suffix}": self.products[start : start + size]
                for start in range(0, len(self.products), size)}

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What decides the answers: they are continued and kept only where all of it is the same."""
        rows = hashlib.sha256()
        for product in self.products:
            # a picture at an address is fetched on the way, and stays as it is then
            stamp = None if addresses.is_one(product.image_path) else products.stamp(product.image_path)
            rows.update(json.dumps([product.image_id, product.image_path, product.text, stamp]).encode())
        rows.update(json.dumps(self.reading.skipped).encode())
        return {"checkpoints": {head: sha256(run.checkpoint) for head, run in self.model.runs.items()},
                "pictures and texts": rows.hexdigest(), "answers": list(self.answers), "labels": list(self.labels),
                "top": self.config.top, "chunk": self.config.chunk, "batch_size": self.config.batch_size}

    def describe(self) -> str:
        """Returns what is answered of what, in words."""
        named = [f"label {label}" for label in self.labels if "labels" in self.answers]
        named += [answer.replace("_", " ") for answer in self.answers if answer != "labels"]
        lines = [f"{len(self.products):,} pictures: {', '.join(named)}"]
        without = sum(not product.text for product in self.products)
        if without:
            reads = [label for label in self.labels if self.modality(label) != "image" and "labels" in self.answers]
            lines.append(f"{without:,} have no text: they get no match and no text vector" + (
                f"; {', '.join(reads)} was learnt with texts, and is less sure without" if reads else ""))
        return "\n".join(lines)

    def modality(self, label: str) -> str:
        """Returns what a label was learnt from: both, image or text."""
        return next(run.config.modality for run in self.model.runs.values() if run.meta.get("label") == label)

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of a Parquet file."""
        classes = pa.list_(pa.struct([("class", pa.string()), ("probability", pa.float32())]))
        types = {"labels": pa.struct([(label, classes) for label in self.labels]), "caption": pa.string(), "match": pa.float32(),
                 "picture_vector": pa.list_(pa.float32()), "text_vector": pa.list_(pa.float32())}
        return pa.schema([*((name, pa.string()) for name in ("image_id", "product_id", "image")),
                          *((answer, types[answer]) for answer in self.answers), ("fault", pa.string())])


# --- What is asked


def _open(config: PredictConfig) -> _Task:
    if config.out.suffix not in FORMATS:
        raise UserError(f"out ends in {config.out.suffix!r}", str(config.out), " or ".join(FORMATS), "set out=answers.jsonl")
    if config.out.is_dir():
        raise UserError("this is a folder", str(config.out), "a file", "name a file in it")
    if config.source.table.is_dir() and config.out.parent == config.source.table and config.out.suffix in TABLES:
        raise UserError("the answers would be read as the table of this folder by the next command", str(config.out),
                        "a file outside of the folder of the pictures, or .jsonl", "choose another folder with out=...")
    io.check_folder(config.out.parent, "choose another folder with out=...")
    reading = _read(config.source)
    model = product_model.load(config.run, bank=config.bank)
    return _Task(config, model, reading, *_possible(config, model))


def _possible(config: PredictConfig, model: ProductModel) -> tuple[tuple[Answer, ...], tuple[str, ...]]:
    """Returns the answers and labels that are wanted. Raises UserError where no run gives one."""
    matches = any(kind in model.runs for kind in MATCHERS)
    given: dict[Answer, bool] = {"labels": bool(model.labels), "caption": Captioner.kind in model.runs, "match": matches,
                                 "picture_vector": matches, "text_vector": matches}
    usual: tuple[Answer, ...] = ("labels", "caption", "match")
    answers = config.answers or tuple(answer for answer in usual if given[answer])
    for answer in answers:
        if not given[answer]:
            needed = {"labels": Classifier.kind, "caption": Captioner.kind}.get(answer, MATCHERS[0])
            command = trained_runs.COMMANDS[needed]
            there = ", ".join(name for name, is_there in given.items() if is_there)
            raise UserError(f"no run gives the answer {answer!r}", str(config.run), f"answers out of {there}",
                            f"train one with `kaleidobert {command}`, and name the folder above the runs")
        if answer.endswith("_vector"):
            model.embed(texts=[])  # refuses a matching head that has no vectors
    for label in config.labels:
        check_name(label, model.labels, "labels", "predict")
    return tuple(dict.fromkeys(answers)), tuple(dict.fromkeys(config.labels)) or tuple(model.labels)


def _read(source: configs.Source) -> Reading:
    """Returns the pictures of a table, or those below a folder without one; texts may be missing."""
    folder = source.table
    if folder.is_dir() and source.kind == "table" and not source.columns.id and not _has_table(folder):
        found = [Product(path, path, "", "val", path, str(folder / path), "", {}, partial(read_image, folder / path))
                 for path in walk(folder)]
        if not found:
            raise UserError("this folder has no pictures", str(folder), "pictures in it or below, or a table", "name another folder")
        print(f"{folder}: a folder of {len(found):,} pictures")
        return Reading(source, rows=len(found), products=found)
    source, guess = examination.with_columns(source, needs_text=False)
    for line in guess.notes:
        print(line)
    if guess.reasons:
        columns = source.columns
        text, view = (" + ".join(map(repr, names)) for names in (columns.text, columns.view))
        print(f"read as (guessed): id = {columns.id!r}, image = {columns.image!r}, text = {text or 'none'}"
              f"{f', view = {view}' if view else ''}; source.columns says otherwise")
    reading = survey(source, needs_text=False)
    for line in (f"table: {reading.rows:,} rows, {'; '.join(reading.found)}" if reading.found else "", *reading.notes()):
        if line:
            print(line)
    if reading.source.writes_pictures:
        records.write_pictures(reading.source, reading.products)
    return reading


def _has_table(folder: Path) -> bool:
    """Whether a folder is a data set, or describes its pictures in a file metadata.*."""
    return bool(formats.files(folder)) or any(path.suffix in table.METADATA for path in folder.glob("metadata.*"))


def _begun(task: _Task) -> str:
    """Returns "finished", "begun" or "" for what is there. Raises UserError where it is of another question."""
    for path, state in ((task.info, "finished"), (task.parts / "made_of.json", "begun")):
        there = task.config.out.exists() if state == "finished" else path.is_file()
        if not there:
            continue
        before = io.read_json(path) if path.is_file() else {}
        before = before.get("identity", {}) if state == "finished" else before
        changed = [name for name, value in task.identity.items() if before.get(name) != value]
        if changed:
            raise UserError(f"{'the file is' if state == 'finished' else 'finished chunks are'} there already, of other "
                            f"{', '.join(changed)}", str(task.config.out if state == "finished" else task.parts), "a new file",
                            f"choose another file with out=..., or delete {task.config.out if state == 'finished' else task.parts}")
        return state
    return ""


# --- Answers


def _answer_all(task: _Task) -> int:
    """Answers the chunks that are missing; returns their number of pictures."""
    made = 0
    with tqdm(total=len(task.products), unit="picture", desc="predict") as bar:
        for path, chunk in task.chunks.items():
            if not path.is_file():
                _write(task, path, _answer(task, chunk))
                made += len(chunk)
            bar.update(len(chunk))
    return made


def _answer(task: _Task, chunk: Sequence[Product]) -> list[dict[str, Any]]:
    """Returns a row of each product of a chunk: its answers, or why its picture cannot be read."""
    _fetch(task.reading, chunk)
    rows = [{"image_id": product.image_id, "product_id": product.product_id, "image": addresses.shown(product.image_path)}
            for product in chunk]
    places = [_located(product.image_path) for product in chunk]
    faults = {number: place for number, place in enumerate(places) if isinstance(place, UserError)}
    there = [number for number in range(len(chunk)) if number not in faults]
    read, unreadable = task.model.readable([place for place in places if not isinstance(place, UserError)])
    faults |= {there[number]: fault for number, fault in unreadable.items()}
    for number, fault in faults.items():
        rows[number]["fault"] = fault.what
    seen = [number for number in range(len(chunk)) if number not in faults]
    for answer in task.answers if seen else ():
        for number, value in zip(seen, _values(task, answer, read, [chunk[number].text for number in seen])):
            rows[number][answer] = value
    return rows


def _values(task: _Task, answer: Answer, read: Pictures, texts: Sequence[str]) -> Sequence[Any]:
    """Returns one answer of every picture of a chunk; None of those that have no text where it needs one."""
    model, size = task.model, task.config.batch_size
    if answer == "labels":
        return _labels(task, read, texts)
    if answer == "caption":
        return model.caption(read, size)
    if answer == "picture_vector":
        return [_numbers(vector) for vector in model.embed(read, batch_size=size)]
    told = [number for number, text in enumerate(texts) if text]
    given: Sequence[Any] = []
    if told and answer == "match":
        given = _numbers(model.match(Pictures(read.features[told], read.boxes[told]), [texts[number] for number in told], size))
    elif told:
        given = [_numbers(vector) for vector in model.embed(texts=[texts[number] for number in told], batch_size=size)]
    values = dict(zip(told, given))
    return [values.get(number) for number in range(len(texts))]


def _labels(task: _Task, read: Pictures, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Returns {label: its likeliest classes} of every picture; none of a label that is learnt from texts alone where there is no text."""
    rows: list[dict[str, Any]] = [{} for _ in texts]
    for label in task.labels:
        answers = task.model.classify(read, texts, label, task.config.top, task.config.batch_size)
        for row, text, answer in zip(rows, texts, answers):
            if text or task.modality(label) != "text":
                row[label] = [{"class": name, "probability": _numbers(probability)} for name, probability in answer[label]]
    return rows


def _numbers(values: Any) -> Any:
    """Returns numbers as JSON has them, as exact as float32."""
    return np.round(np.asarray(values, np.float64), DIGITS).tolist()


def _located(path: str) -> Path | UserError:
    """Returns where a picture lies; of an address its copy, or why there is none."""
    local = addresses.local(path)
    return local if not addresses.is_one(path) or local.is_file() else UserError(addresses.fault(path), addresses.shown(path))


def _fetch(reading: Reading, chunk: Sequence[Product]) -> None:
    """Fetches the pictures of a chunk that are at addresses into the cache."""
    wanted = {product.image_path: reading.addresses[product.image_path] for product in chunk if product.image_path in reading.addresses}
    for address, fault in pictures.fetch(wanted, *records.download(reading.source)) if wanted else ():
        addresses.note(address, fault)


# --- Files


def _write(task: _Task, path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    if path.suffix == ".jsonl":
        io.write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return
    with io.atomic(path) as file:
        pyarrow.parquet.write_table(pa.Table.from_pylist(list(rows), task.schema), file)


def _join(task: _Task, taken: Mapping[str, Any]) -> None:
    """Writes the file of all answers, at the end of it the rows of the table that are no picture; before it is there, what it is made of:
    killed in between, the same command joins the chunks again."""
    last = task.parts / f"skipped{task.config.out.suffix}"
    _write(task, last, [{"image_id": row["image_id"], "fault": f"{row['where']}: {row['reason'].removeprefix(row['where'] + ': ')}"}
                        for row in task.reading.skipped])
    faults: Counter[str] = Counter()
    with io.atomic(task.config.out) as file:
        if task.config.out.suffix == ".jsonl":
            for path in (*task.chunks, last):
                content = path.read_bytes()
                file.write(content)
                faults.update(_faults(map(json.loads, content.splitlines())))
        else:
            with pyarrow.parquet.ParquetWriter(file, task.schema) as writer:
                for path in (*task.chunks, last):
                    part = pyarrow.parquet.read_table(path, schema=task.schema)
                    writer.write_table(part)
                    faults.update(_faults(part.select(["fault"]).to_pylist()))
        answered = len(task.products) + len(task.reading.skipped) - faults.total()
        io.write_json(task.info, {"identity": task.identity, "answered": answered, "left_out": faults.total(),
                                  "reasons": dict(faults.most_common(REASONS)),
                                  "runs": {head: str(run.folder) for head, run in task.model.runs.items()},
                                  "table": str(task.config.source.table), "this_time": taken})


def _faults(rows: Iterator[Mapping[str, Any]] | Sequence[Mapping[str, Any]]) -> list[str]:
    return [row["fault"] for row in rows if row.get("fault")]


def _account(config: PredictConfig, info: Mapping[str, Any]) -> None:
    """Prints how many pictures were answered and left out, now or before. Raises Incomplete where too many were left out."""
    left_out, reasons = info["left_out"], info["reasons"]
    rows = info["answered"] + left_out
    print(f"{rows:,} pictures: {info['answered']:,} answered, {left_out:,} left out, with the reason in column 'fault'")
    for reason, count in reasons.items():
        print(f"  {reason}" + f" x {count:,}" * (count > 1))
    if left_out > config.max_skipped * rows:
        raise Incomplete(f"{left_out:,} of {rows:,} pictures were left out ({100 * left_out / rows:.3g}%): {next(iter(reasons))}; the "
                         "answers of the others are written", str(config.out), f"at most {100 * config.max_skipped:.3g}% (max_skipped)",
                         f"mend them, delete {config.out} and run the same command again, or go on with the others")
