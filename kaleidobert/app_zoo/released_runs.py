"""Pre-training, fine-tuning and retrieval from the text files of the release, or from folders that `convert` makes of them."""

import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import FileIO
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from kaleidobert import io
from kaleidobert import levels as kaleido
from kaleidobert.app_zoo import lineage, models, training
from kaleidobert.app_zoo.models import ENCODER, SAMPLE
from kaleidobert.app_zoo.training import Choice, LabelData, PretrainData
from kaleidobert.configs import ClassifyConfig, PretrainConfig, RetrieveConfig, TrainingData
from kaleidobert.datasets.sampling.pretraining import EpochOrder
from kaleidobert.engines import steps
from kaleidobert.engines.run_folder import Run
from kaleidobert.errors import UserError
from kaleidobert.evaluators import pretraining as tasks
from kaleidobert.evaluators import retrieval
from kaleidobert.evaluators.files.scores import ScoreTable, read_released, released_line
from kaleidobert.evaluators.report import plots
from kaleidobert.evaluators.report.results import head_name
from kaleidobert.io import sha256
from kaleidobert.levels import KaleidoLevel
from kaleidobert.model_zoo import checkpoints
from kaleidobert.released import counting
from kaleidobert.released import files as released_files
from kaleidobert.released import rows as released_rows
from kaleidobert.released import samplers as released_samplers
from kaleidobert.released import schema as released_schema
from kaleidobert.released.rows import MAX_THREADS, Columns, FolderRows, Rows, TextRows
from kaleidobert.released.samplers import FileLabelSampler, FilePretrainSampler, Reader

JUDGED = 2000  # validation rows on which constant answers are judged: reading text is slow

Config = PretrainConfig | ClassifyConfig | RetrieveConfig


@dataclass(frozen=True)
class FileLayout:
    """A models.Layout of rows. What a model has learnt from files, with boxes in pixels, is refused on a bank, and the other way."""

    feature_size: int
    text_length: int
    vocabulary: Any
    identity: dict[str, str]
    rows: Rows

    @property
    def index(self) -> dict[str, Any]:
        """As of a bank: what a run must find unchanged when it is continued. Counts the lines at the first need."""
        return {"files": self.rows.fingerprint()}


def schema_of(data: TrainingData, task: str, levels: tuple[KaleidoLevel, ...], also: tuple[str, ...] = ()) -> released_schema.Schema:
    """Returns the schema of the files with the lengths that the levels give; task: pretrain, finetune or retrieve."""
    if data.schema:
        schema = released_schema.parse(data.schema, "data.schema", data.encoding)
    else:
        schema = released_schema.parse(str(released_schema.released(task, levels)), f"the published schema for {task}", data.encoding)
    return released_schema.for_task(schema, task, levels, also)


def open_files(config: Config, source: Path | None, task: str, also: tuple[str, ...] = ()) -> Rows:
    """Returns the rows of data.files or data.val_files; raises UserError where that is not set, and where the files are not there."""
    if source is None:
        raise UserError("data.val_files is not set", "data", "the files to evaluate on, as data.files is given")
    if config.data.encoder:
        raise UserError(f"data.encoder is {config.data.encoder!r}, of files", "data", "nothing: features are baked into files",
                        "empty it (data.encoder=)")
    schema = schema_of(config.data, task, kaleido.check(config.levels), also)
    rows = released_rows.open_rows(source, schema, config.data.threads)
    rows.first("input_ids")  # a schema of other files is refused now, not in the first step
    return rows


def layout(config: Config, rows: Rows) -> FileLayout:
    """Returns sizes from the columns' lengths."""
    level = config.levels[0]
    width = rows.schema.column(released_schema.feature_column(level)).length // level.num_patches
    return FileLayout(width, rows.schema.column("input_ids").length, SimpleNamespace(size=config.data.vocabulary_size),
                      {"encoder": ENCODER}, rows)


def describe(config: PretrainConfig | ClassifyConfig, train: Rows, val: Rows) -> Mapping[str, Any]:
    """Returns for results.json {split: where it lies, its size, and how many of its rows are used}."""
    return {split: {"source": str(source), "rows": len(rows), "used": used, "schema": str(rows.schema)} for split, source, rows, used in (
        ("train", config.data.files, train, len(train)), ("val", config.data.val_files, val, len(_judged(config, val))))}


def dry_run(config: PretrainConfig | ClassifyConfig) -> None:
    """Reads the first line of the files and prints sizes; counts no lines."""
    task, also = ("pretrain", ()) if isinstance(config, PretrainConfig) else ("finetune", (released_samplers.label_column(config.label),))
    opened = []
    for name, source, limit in (("to train on", config.data.files, 0), ("to evaluate on", config.data.val_files, config.data.val_limit)):
        rows = open_files(config, source, task, also)
        print(f"{name}: {source}: {rows.summary()}" + (f", of which at most the first {limit:,}" if limit else ""))
        _check_init(config, rows)
        opened.append(rows)
    print(_rate(config, opened[0]))
    if isinstance(config, PretrainConfig):
        print("data.val_files chooses the best epoch, as in the release; held_out is for banks, whose groups are known")


def _rate(config: PretrainConfig | ClassifyConfig, rows: Rows) -> str:
    """Returns the highest rate of learning, where the rows are counted; else what is known of it."""
    if isinstance(rows, FolderRows):
        return models.peak_rate(config.train, len(rows))
    return ("lines of text files are not counted in a dry run: the run itself says how many steps it has, and refuses a warm-up that takes "
            "more than half of them")


def pretraining(config: PretrainConfig) -> PretrainData:
    """Returns the rows of data.files and data.val_files as pre-training reads them."""
    train, val = (open_files(config, source, "pretrain") for source in (config.data.files, config.data.val_files))
    _check_init(config, train)
    settings = (config.sampling.losses_on_negatives, config.train.batch_size, config.train.seed)
    samplers = [FilePretrainSampler(Reader(rows, config.levels, config.data.vocabulary_size), *settings) for rows in (train, val)]
    samplers[1].order = EpochOrder(_judged(config, val), *settings[1:])

    def baselines() -> dict[str, float]:
        return baseline(samplers[0], samplers[1], config.levels, config.data.vocabulary_size)

    return PretrainData(layout(config, train), len(train), samplers[0], None, samplers[1], Choice("val_files"),
                            lambda model: _adapt(model, samplers[0].examples, len(train)), baselines,
                            lambda: describe(config, train, val))


def _judged(config: PretrainConfig | ClassifyConfig, val: Rows) -> np.ndarray:
    """Returns the rows to evaluate on."""
    return np.arange(min(len(val), config.data.val_limit or len(val)))


def baseline(train: FilePretrainSampler, val: FilePretrainSampler, levels: tuple[KaleidoLevel, ...], vocabulary: int) -> dict[str, float]:
    """Returns what each metric is worth without looking: chance, and for "feature" levels the KL of the best constant answer, taken from
    the targets of (at most) SAMPLE training rows and judged on the first JUDGED validation rows."""
    rows = train.order.rows
    _, targets, _ = train.examples(models.sample(rows)[:SAMPLE])
    constants = {level.name: tasks.mean_distribution(targets[level.name]) for level in kaleido.feature_levels(levels)}
    sums, size = [], val.order.batch_size
    for step in range(-(-min(len(val.order.rows), JUDGED) // size) if constants else 0):
        batch = val.validation(step)
        assert batch is not None  # there are more rows
        _, targets, weights = batch
        sums.append({f"{name}_kl": tasks.constant_kl(constant, targets[name], weights[name]) for name, constant in constants.items()})
    return {**tasks.chance(levels, vocabulary), **tasks.means(sums)}


def labelling(config: ClassifyConfig) -> LabelData:
    """Returns the rows of data.files and data.val_files as fine-tuning reads them; reads the label columns of all rows."""
    column = released_samplers.label_column(config.label)
    train, val = (open_files(config, source, "finetune", (column,)) for source in (config.data.files, config.data.val_files))
    _check_init(config, train)
    readers = [Reader(rows, config.levels, config.data.vocabulary_size) for rows in (train, val)]
    known, names = released_samplers.label_map(train, config.label)
    truth, more = released_samplers.label_map(val, config.label)
    judged = _judged(config, val)
    count = released_samplers.CLASSES[config.label]
    called = {**more, **names}
    sampler = FileLabelSampler(readers[0], config.label, config.modality, config.noise, config.train.batch_size, config.train.seed)
    pictures = val.scan(["prod_img_id"])["prod_img_id"][:, 0] if "prod_img_id" in val.schema.names else np.arange(len(val)).astype(str)

    def inputs(numbers: np.ndarray) -> dict[str, np.ndarray]:
        return readers[1].restrict(readers[1].inputs(numbers, val.take(numbers)), config.modality)

    return LabelData(
        layout(config, train), len(train), sampler.batch, inputs, judged, truth[judged], pictures[judged],
        _distinct([called.get(number, "") for number in range(count)]), [], np.bincount(known, minlength=count),
        lambda model: _adapt(model, lambda numbers: (readers[0].inputs(numbers, train.take(numbers)),), len(train)), dict,
        lambda: describe(config, train, val))


def _check_init(config: PretrainConfig | ClassifyConfig, rows: Rows) -> None:
    """Raises UserError where the checkpoint that a run starts from does not fit the files."""
    result = layout(config, rows)
    if isinstance(config, ClassifyConfig):
        models.check_start(config, result)
    elif config.init is not None:
        models.require(config.init, models.backbone_config(result, config.levels, config.model, config.train), result)


def _distinct(names: list[str]) -> list[str]:
    """Returns names of classes: the number where there is none, and beside it where two classes have the same."""
    return [name if name and names.count(name) == 1 else f"{name} {number}".strip() for number, name in enumerate(names)]


def _adapt(model: keras.Model, examples: Callable[[np.ndarray], tuple], size: int) -> None:
    """Fits scales of features as models.adapt does, to SAMPLE rows."""
    if model.unadapted:
        model.adapt_features(examples(models.sample(np.arange(size))[:SAMPLE])[0]["patch_features"])


# --- Retrieval: pairs are scored as they are read, so that memory does not grow with the files
#
#     run/scoring.json               of which data and which checkpoint the scores are; other ones are refused
#         .result_img2txt.txt.part   the lines of the result file that are done; an interrupted run continues behind them
#         result_img2txt.txt         all of them


RESULT = {"i2t": "result_img2txt.txt", "t2i": "result_txt2img.txt"}  # what prediction_analysis of the release reads
IDS = ("text_prod_id", "image_prod_id", "prod_img_id")


def dry_run_retrieval(config: RetrieveConfig) -> None:
    """Checks the checkpoint against the first line of the files, prints sizes."""
    rows = _open_pairs(config)
    print(f"pairs to score: {config.data.files}: {rows.summary()}")


def run_retrieval(config: RetrieveConfig) -> None:
    """Scores every pair of the files in their order; writes the released result file, scores.jsonl and results.json."""
    rows = _open_pairs(config)
    model = models.start(models.matcher(config.matching), config, layout(config, rows))
    folder, result = Run(config.run, config), config.run / RESULT[config.direction]
    meta = {**model.describe(), "encoder": ENCODER, "lineage": lineage.extend(config.init)}
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


def _open_pairs(config: RetrieveConfig) -> Rows:
    if config.train.epochs:
        raise UserError(f"train.epochs is {config.train.epochs}, of files", "retrieve", "0: retrieval files hold pairs to score",
                        "fine-tune the matching task on a bank, or set train.epochs=0")
    rows = open_files(config, config.data.files, "retrieve")
    models.check_start(config, layout(config, rows))
    return rows


def _begun(note: Path, state: dict[str, Any], result: Path) -> bool:
    """Whether all pairs were scored before. Raises UserError where scores of other data or of another checkpoint lie there."""
    unfinished, before = _unfinished(result), io.read_json(note) if note.is_file() else None
    scored = result.is_file() or unfinished.is_file() and unfinished.stat().st_size > 0
    if before is None or before != state and not scored:
        unfinished.unlink(missing_ok=True)  # nobody knows of what it is
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


def _unfinished(result: Path) -> Path:
    return result.with_name(f".{result.name}.part")


def _kept(unfinished: Path, size: int) -> int:
    """Returns the number of pairs in the complete lines of an unfinished file, and drops an incomplete last line. Raises UserError where
    they do not fit."""
    if not unfinished.is_file():
        return 0
    with open(unfinished, "rb+") as file:
        ends = [0, *(file.tell() for line in iter(file.readline, b"") if line.endswith(b"\n"))]
        file.truncate(ends[-1])
    count = len(read_released(unfinished).texts) if ends[-1] else 0
    if not 0 <= (len(ends) - 1) * size - count < size:
        raise UserError(f"holds {count:,} pairs in {len(ends) - 1:,} lines", str(unfinished), f"{size} in each", "delete it")
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
    reader, unfinished = Reader(rows, config.levels, config.data.vocabulary_size), _unfinished(result)
    done, cut = _kept(unfinished, config.predict_batch_size), training.trim_inputs(lambda inputs: inputs, config.train)
    if done:
        print(f"resuming {config.run} after {done:,} pairs")
    with io.explained(unfinished, resumes=True):
        file = open(unfinished, "ab", buffering=0)
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
            _append(file, unfinished, line.encode("utf-8") + b"\n")
            bar.update(len(numbers))
    os.replace(unfinished, result)


def _append(file: FileIO, unfinished: Path, content: bytes) -> None:
    with io.explained(unfinished, resumes=True):
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
