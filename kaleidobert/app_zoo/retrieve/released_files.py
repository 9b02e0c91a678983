"""Retrieval from released files: pairs are scored as they are read, so that memory does not grow with the files.

    run/scoring.json               of which data and which checkpoint the scores are; other ones are refused
        .result_img2txt.txt.part   the lines of the result file that are done; an interrupted run goes on behind them
        result_img2txt.txt         all of them
"""

import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from kaleidobert import io
from kaleidobert.app_zoo import lineage, models, released_runs, training
from kaleidobert.configs import RetrieveConfig
from kaleidobert.engines import steps
from kaleidobert.engines.run_folder import Run
from kaleidobert.errors import UserError
from kaleidobert.evaluators import retrieval
from kaleidobert.evaluators.files.scores import ScoreTable, read_released, released_line
from kaleidobert.evaluators.report import plots
from kaleidobert.evaluators.report.results import head_name
from kaleidobert.io import sha256
from kaleidobert.model_zoo import checkpoints
from kaleidobert.released import counting
from kaleidobert.released import files as released_files
from kaleidobert.released.rows import MAX_THREADS, Columns, Rows, TextRows
from kaleidobert.released.samplers import Reader

RESULT = {"i2t": "result_img2txt.txt", "t2i": "result_txt2img.txt"}  # what prediction_analysis of the release reads
IDS = ("text_prod_id", "image_prod_id", "prod_img_id")


def dry_run(config: RetrieveConfig) -> None:
    """Checks the checkpoint against the first line of the files, prints sizes."""
    rows = _open(config)
    print(f"pairs to score: {config.data.files}: {rows.summary()}")


def run(config: RetrieveConfig) -> None:
    """Scores every pair of the files in their order; writes the released result file, scores.jsonl and results.json."""
    rows = _open(config)
    model = models.start(models.matcher(config.matching), config, released_runs.layout(config, rows))
    folder, result = Run(config.run, config), config.run / RESULT[config.direction]
    meta = {**model.describe(), "encoder": released_runs.ENCODER, "lineage": lineage.extend(config.init)}
    checkpoints.save(folder.best, model, None, meta)
    digest = sha256(folder.best)
    if not _begun(config.run / "scoring.json", {"data": _stamps(rows), "checkpoint_sha256": digest}, result):
        _score(config, rows, steps.forward(model), result)
    analysis = counting.analyse(read_released(result), config.direction)
    _write_scores(analysis.lists, config)
    counted = analysis.released
    which = lineage.model(config.matching.head, config.init)
    folder.results({"task": "retrieve", "model": which, "direction": config.direction, "protocol": "kaleido (release)",
                    "metrics": analysis.metrics, "released_counting": counted, "queries_without_a_right_candidate": analysis.unanswerable,
                    "files": {"source": str(config.data.files), "rows": counted["examples"], "schema": str(rows.schema)},
                    "checkpoint_sha256": digest}, config)
    print(f"{head_name(which)}, {which['trained']}; masking: {which['masking']}")
    print(counting.released_report(counted), end="")
    print("\n".join(counting.metric_lines(analysis, config.direction)))
    print(f"run folder: {config.run}\n  {result.name} (released format), scores.jsonl, results.json")


def _open(config: RetrieveConfig) -> Rows:
    if config.train.epochs:
        raise UserError(f"train.epochs is {config.train.epochs}, of files", "retrieve", "0: retrieval files hold pairs to score",
                        "fine-tune the matching task on a bank, or set train.epochs=0")
    rows = released_runs.open_files(config, config.data.files, "retrieve")
    models.check_start(config, released_runs.layout(config, rows))
    return rows


def _begun(note: Path, state: dict[str, Any], result: Path) -> bool:
    """Whether all pairs were scored before. Raises UserError where scores of other data or of another checkpoint lie there."""
    part, before = _part(result), io.read_json(note) if note.is_file() else None
    scored = result.is_file() or part.is_file() and part.stat().st_size > 0
    if before is None or before != state and not scored:
        part.unlink(missing_ok=True)  # nobody knows of what it is
        io.write_json(note, state)
        return False
    if before != state:
        changed = [name for name, value in state.items() if before.get(name) != value]
        raise UserError(f"the scores in this folder are of other {' and '.join(changed)}", str(note), "the data and the checkpoint that "
                        "the run began with", "put them back as they were, choose another folder with run=..., or delete this one")
    if result.is_file():
        print(f"all pairs were scored before: {result}")
    return result.is_file()


def _stamps(rows: Rows) -> dict[str, Any]:
    """Returns the fingerprint of the data; of text files names, sizes and times of change, for they are read once only."""
    if not isinstance(rows, TextRows):
        return rows.fingerprint()
    states = [(path.name, path.stat()) for path in rows.paths]
    return {"schema": str(rows.schema), "files": [[name, state.st_size, state.st_mtime_ns] for name, state in states]}


def _part(result: Path) -> Path:
    return result.with_name(f".{result.name}.part")


def _kept(part: Path, size: int) -> int:
    """Returns the number of pairs in the complete lines of a part, and drops an incomplete last line. Raises UserError where they do not
    fit."""
    if not part.is_file():
        return 0
    with open(part, "rb+") as file:
        ends = [0, *(file.tell() for line in iter(file.readline, b"") if line.endswith(b"\n"))]
        file.truncate(ends[-1])
    count = len(read_released(part).texts) if ends[-1] else 0
    if not 0 <= (len(ends) - 1) * size - count < size:
        raise UserError(f"holds {count:,} pairs in {len(ends) - 1:,} lines", str(part), f"{size} in each", "delete it")
    return count


def _stream(config: RetrieveConfig, rows: Rows, done: int) -> Iterator[tuple[int, Columns]]:
    """Yields rows.stream() from row ``done`` on; earlier lines of text files are read, but not parsed."""
    size = config.predict_batch_size
    if not done:
        yield from rows.stream(size)
    elif isinstance(rows, TextRows):
        last = deque(islice(released_files.lines(rows.paths), done), 1).pop()
        threads = config.data.threads or max(1, min(os.cpu_count() or 1, MAX_THREADS))
        rest = released_files.rows(rows.paths, rows.schema, last.after, threads)
        for number, (_, columns) in enumerate(released_files.batches(rest, size)):
            yield done + number * size, columns
    else:
        for start in range(done, len(rows), size):
            yield start, rows.take(np.arange(start, min(start + size, len(rows))))


def _score(config: RetrieveConfig, rows: Rows, forward: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]], result: Path) -> None:
    """Writes the result file, a line per batch; it appears when all pairs are scored, and finished lines are kept beside it."""
    reader, part = Reader(rows, config.levels, config.data.vocabulary_size), _part(result)
    done, cut = _kept(part, config.predict_batch_size), training.trim_inputs(lambda inputs: inputs, config.train)
    if done:
        print(f"resuming {config.run} after {done:,} pairs")
    with io.explained(part, resumes=True):
        file = open(part, "ab", buffering=0)
    with file, tqdm(unit="pair", desc=config.direction, initial=done) as bar, steps.held(forward):
        for start, columns in _stream(config, rows, done):
            numbers = start + np.arange(len(columns["input_ids"]))
            inputs = cut(reader.inputs(numbers, columns))
            labels = reader.classes(numbers, columns, "nx_sent_labels", 2)
            logits = forward(inputs)["itm"]
            if not np.isfinite(logits).all():
                raise steps.not_finite("the model's output 'itm'", f"pairs from {rows.where(int(numbers[0]))} on", inputs)
            try:
                texts, products, pictures = (columns[name][:, 0].tolist() for name in IDS)
                line = released_line(texts, products, pictures, labels, logits)
            except UserError as error:
                raise UserError(error.what, f"pairs from {rows.where(int(numbers[0]))} on", error.expected) from None
            _append(file, part, line.encode("utf-8") + b"\n")
            bar.update(len(numbers))
    os.replace(part, result)


def _append(file: FileIO, part: Path, content: bytes) -> None:
    with io.explained(part, resumes=True):
        while content:
            content = content[file.write(content):]
        os.fsync(file.fileno())


def _write_scores(lists: ScoreTable, config: RetrieveConfig) -> None:
    """Writes scores.jsonl as `retrieve` on a bank does, and ranks.png of the queries that have a right candidate."""
    with io.atomic(config.run / "scores.jsonl") as file:
        for query, candidates, scores, relevant in zip(lists.queries, lists.candidates, lists.scores, lists.relevant):
            row = {"query": query, "candidates": candidates, "relevant": relevant[: len(candidates)].astype(int).tolist(),
                   "scores": [float(f"{value:.9g}") for value in scores[: len(candidates)]]}
            file.write(json.dumps(row).encode() + b"\n")
    used = lists.relevant.any(1)
    if used.any():
        standing = retrieval.rank_statistics(lists.scores[used], lists.relevant[used], lists.valid[used])
        plots.rank_histogram(standing.ranks(), config.run / "ranks.png", lists.scores.shape[1])
