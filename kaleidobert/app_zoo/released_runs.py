"""Pre-training and fine-tuning from the text files of the release, or from folders that `convert` makes of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np

from kaleidobert import levels as kaleido
from kaleidobert.app_zoo import models
from kaleidobert.app_zoo.models import ENCODER
from kaleidobert.app_zoo.training import Choice, LabelData, PretrainData
from kaleidobert.configs import ClassifyConfig, PretrainConfig, RetrieveConfig, TrainingData
from kaleidobert.datasets.sampling.pretraining import EpochOrder
from kaleidobert.errors import UserError
from kaleidobert.evaluators import pretraining as tasks
from kaleidobert.levels import KaleidoLevel
from kaleidobert.released import rows as released_rows
from kaleidobert.released import samplers as released_samplers
from kaleidobert.released import schema as released_schema
from kaleidobert.released.rows import FolderRows, Rows
from kaleidobert.released.samplers import FileLabelSampler, FilePretrainSampler, Reader

SAMPLE = 500  # rows from which the best constant answers are taken, and a scale of features
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
    _, targets, _ = train.examples(rows[:: max(1, len(rows) // SAMPLE)][:SAMPLE])
    constants = {level.name: tasks.mean_distribution(targets[level.name]) for level in kaleido.feature_levels(levels)}
    parts, size = [], val.order.batch_size
    for step in range(-(-min(len(val.order.rows), JUDGED) // size) if constants else 0):
        batch = val.validation(step)
        assert batch is not None  # there are more rows
        _, targets, weights = batch
        parts.append({f"{name}_kl": tasks.constant_kl(constant, targets[name], weights[name]) for name, constant in constants.items()})
    return {**tasks.chance(levels, vocabulary), **tasks.means(parts)}


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
        numbers = np.arange(size)[:: max(1, size // SAMPLE)][:SAMPLE]
        model.adapt_features(examples(numbers)[0]["patch_features"])
