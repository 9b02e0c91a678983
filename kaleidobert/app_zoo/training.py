"""What the training commands share: their examples, of a bank or of released files, dynamic padding, the fit, and the frame of a task."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, TypeVar

import keras
import numpy as np

from kaleidobert import levels as kaleido
from kaleidobert.app_zoo import lineage, models
from kaleidobert.app_zoo.models import Layout
from kaleidobert.configs import FineTuningConfig, Train, TrainingData
from kaleidobert.datasets.bank.bank import Bank, describe
from kaleidobert.datasets.sampling.pretraining import count_groups, fraction_of_groups, maskable
from kaleidobert.engines import steps
from kaleidobert.engines.distributed import distribution
from kaleidobert.engines.prediction import predict
from kaleidobert.engines.run_folder import Run, check_folder
from kaleidobert.engines.trainer import Goal, Trainer
from kaleidobert.errors import UserError
from kaleidobert.evaluators import pretraining
from kaleidobert.evaluators.report import plots
from kaleidobert.io import sha256
from kaleidobert.levels import KaleidoLevel
from kaleidobert.losses import decomposable
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.backbone import Backbone
from kaleidobert.model_zoo.kaleidobert import TaskModel
from kaleidobert.preprocessors.examples import Arrays, trim

Batch = tuple[Arrays, Arrays, Arrays]  # inputs, targets, weights


def open_bank(data: TrainingData, levels: tuple[KaleidoLevel, ...]) -> Bank:
    """Returns the bank that is named; raises UserError where it was made with other levels or another encoder than configured."""
    assert data.bank is not None  # what reads data.files opens no bank
    return Bank(data.bank).require(levels, data.encoder)


def splits(config: FineTuningConfig) -> tuple[Bank, np.ndarray, np.ndarray]:
    """Returns the bank of a downstream task, and its rows to train on and to evaluate on, i64[N] each.

    Raises UserError as ``open_bank`` does, where a split is empty, and for released files.
    """
    if config.data.bank is None:
        raise UserError("data.bank is not set", "data", "a bank: this task does not train on released files", "set data.bank, and empty "
                        "data.files")
    bank, data = open_bank(config.data, config.levels), config.data
    rows = fraction_of_groups(bank, bank.rows(data.train_split), data.train_share, config.train.seed)
    return bank, rows, bank.rows(data.val_split)


def rows_with_text(bank: Bank, rows: np.ndarray, split: str) -> np.ndarray:
    """Returns those of the rows whose text has a piece of a word. Raises UserError, which names their split, where there is none."""
    rows = rows[(maskable(bank, rows) & (bank.token_words[rows] >= 0)).any(1)]
    if not len(rows):
        raise UserError(f"no picture of {split!r} has a text", str(bank.folder), "texts to learn captions from",
                        "map source.columns.text and make the bank again")
    return rows


def first_of_products(bank: Bank, rows: np.ndarray) -> np.ndarray:
    """Returns the first of the rows of every product, in order."""
    return rows[np.sort(np.unique(bank.column("product_id")[rows], return_index=True)[1])]


def constant_answers(bank: Bank, rows: np.ndarray, levels: Sequence[KaleidoLevel]) -> dict[str, np.ndarray]:
    """Returns {feature level: f64[F]}, the best answer that ignores the picture: the mean of the softmaxed features of a sample of rows."""
    rows, starts, constants = models.sample(rows), kaleido.vector_slices(levels), {}
    for level in kaleido.feature_levels(levels):
        vectors = np.broadcast_to(starts[level.name].start + np.arange(level.num_patches), (len(rows), level.num_patches))
        constants[level.name] = pretraining.mean_distribution(bank.features(rows, vectors))
    return constants


def fit(folder: Run, model: keras.Model, meta: Mapping[str, Any], train: Train, work: tuple[keras.optimizers.Optimizer, int],
        batch: Callable[[int], Batch], loss: steps.LossFunction, goal: Goal) -> None:
    """Trains a model in its run folder, gives it the weights that the goal chose, and draws the curves, losses.png.

    meta: what checkpoints remember, as ``models.origin``; work: optimizer and total steps, as ``models.schedule``. Raises UserError as
    Trainer.fit does.
    """
    optimizer, total = work
    Trainer(folder, model, optimizer, meta).fit(batch, loss, goal, models.trainer_schedule(train, total), train.clip_norm)
    checkpoints.restore(folder.best, model)
    plots.loss_curves(folder.metrics(), folder.folder / "losses.png")


class PretrainBatches(Protocol):
    """As pretraining.PretrainSampler."""

    def batch(self, step: int) -> Batch: ...

    def validation(self, step: int) -> Batch | None: ...


@dataclass(frozen=True)
class Choice:
    """What chooses among the weights of a training: groups and pictures held out of the training split; validation files, as in the
    release; or nothing, so that the last ones are kept."""

    by: Literal["held_out", "val_files", "none"]
    groups: int = 0
    pictures: int = 0

    def metadata(self) -> dict[str, Any]:
        """Returns the entry of results.json; "val_chose": whether the weights were chosen by the examples that they are reported on."""
        return {**asdict(self), "val_chose": self.by == "val_files"}

    def describe(self) -> str:
        """Returns the same in words."""
        return {"held_out": f"chosen by {self.pictures:,} held-out training pictures", "none": "the last epoch",
                "val_files": "chosen by data.val_files, as released"}[self.by]


def choice(bank: Bank, held: np.ndarray) -> Choice:
    """Returns the choice by held-out rows of a bank, or by nothing where there are none."""
    return Choice("held_out", count_groups(bank, held), len(held)) if len(held) else Choice("none")


@dataclass(frozen=True)
class PretrainData:
    """held: what chooses the weights, where the choice is by that; validation: what they are reported on. adapt: fits a fresh model's
    scale of features. baselines: {metric: value} without looking. metadata: for results.json."""

    bank: Layout
    num_examples: int
    sampler: PretrainBatches
    held: PretrainBatches | None
    validation: PretrainBatches
    choice: Choice
    adapt: Callable[[keras.Model], None]
    baselines: Callable[[], dict[str, float]]
    metadata: Callable[[], Mapping[str, Any]]


@dataclass(frozen=True)
class LabelData:
    """names: the classes of the model; unknown: further ones that only evaluation has, numbered behind them. val_rows: what
    ``inputs`` takes, with their truth i64[N] and ids. counts: training examples of each class, unknown ones included.
    baselines: {name: class i64[N]} of linear models. lengths: of the texts of val_rows, where they are known."""

    bank: Layout
    num_examples: int
    batch: Callable[[int], Batch]
    inputs: Callable[[np.ndarray], Arrays]
    val_rows: np.ndarray
    truth: np.ndarray
    ids: np.ndarray
    names: list[str]
    unknown: list[str]
    counts: np.ndarray
    adapt: Callable[[keras.Model], None]
    baselines: Callable[[], dict[str, np.ndarray]]
    metadata: Callable[[], Mapping[str, Any]]
    lengths: np.ndarray | None = None


B = TypeVar("B", Batch, Batch | None)


def _cut(inputs: Arrays, targets: Arrays, weights: Arrays) -> Batch:
    return trim(inputs), targets, weights


def trim_batches(make: Callable[..., B], train: Train, cut: Callable[[Arrays, Arrays, Arrays], Batch] = _cut) -> Callable[..., B]:
    """Returns ``make``, a function of a step, with the texts of its batches cut by ``cut`` where train.dynamic_padding says so.

    None behind the last batch stays.
    """
    if not train.dynamic_padding:
        return make

    def made(*arguments: Any) -> B:
        batch = make(*arguments)
        return None if batch is None else cut(*batch)

    return made


def trim_inputs(make: Callable[[Any], Arrays], train: Train) -> Callable[[Any], Arrays]:
    """Returns ``make``, a function of rows, with the texts of its inputs cut where train.dynamic_padding says so."""
    return (lambda rows: trim(make(rows))) if train.dynamic_padding else make


# --- The frame of a downstream task on a bank: a task's module opens its data as a ``Task``, and the rest happens here
#
#     def dry_run(config):
#         training.dry_run_task(config, open_task)
#
#     def run(config):
#         training.run_task(config, open_task)
#
# classify, retrieve and caption report more, and use the same functions by themselves. docs/extending.md adds a task.


C = TypeVar("C", bound=FineTuningConfig)


@dataclass(frozen=True)
class Task:
    """What makes a downstream task.

    name: of the task, a key of the weights, by which a mean over several devices goes. rows: i64[N] to train on; batch: step -> (inputs,
    targets, weights). model: backbone -> network; its own layers are named "head_...". loss: (outputs, targets, weights) -> {"loss":
    mean over the batch, ...}. val_rows: i64[N] to report on; inputs: rows -> inputs of the network. metrics: outputs of all val_rows ->
    {metric: value}; metric: the one that is logged after every epoch; chance: {metric: value} without a look at the example.
    """

    name: str
    bank: Bank
    rows: np.ndarray
    batch: Callable[[int], Batch]
    model: Callable[[Backbone], TaskModel]
    loss: Callable[..., dict]
    val_rows: np.ndarray
    inputs: Callable[[np.ndarray], Arrays]
    metrics: Callable[[dict[str, np.ndarray]], dict[str, float]]
    metric: str
    chance: Mapping[str, float]


def dry_run_task(config: C, open_task: Callable[[C], Task]) -> None:
    """Checks data and checkpoint, prints sizes; raises UserError as ``run_task`` does before its training."""
    config = models.resolve(config)
    check_folder(config.run, config)
    task = open_task(config)
    models.check_start(config, task.bank)
    models.schedule(config.train, len(task.rows))
    print(f"{task.name}: {len(task.rows):,} pictures to train on, {len(task.val_rows):,} to evaluate")
    print(models.peak_rate(config.train, len(task.rows)))


def run_task(config: C, open_task: Callable[[C], Task]) -> None:
    """Trains, reports on the weights of the last epoch (nothing is chosen on the validation split), and writes the run folder.

    Raises UserError where data, checkpoint and configuration do not fit, before anything is trained.
    """
    config = models.resolve(config)
    check_folder(config.run, config)
    with distribution.scope(config.train):
        _run_task(config, open_task(config))


def _run_task(config: FineTuningConfig, task: Task) -> None:
    model = models.start(lambda arguments: task.model(Backbone.from_config(arguments)), config, task.bank)
    work, forward = models.schedule(config.train, len(task.rows)), steps.forward(model)
    past = config.init, lineage.epochs(f"{task.name} fine-tuned", config.train.epochs)
    if task.name not in (weights := task.batch(0)[2]):
        raise UserError(f"the weights of a batch have no {task.name!r}", "Task.batch", f"the task's name among {', '.join(weights)}")
    folder = Run(config.run, config)  # claimed when nothing is left to refuse
    inputs = trim_inputs(task.inputs, config.train)

    def evaluate() -> dict[str, float]:
        return task.metrics(predict(forward, inputs, task.val_rows, config.train.batch_size))

    goal = Goal(evaluate, task.metric, higher_is_better=None)
    fit(folder, model, models.origin(model, task.bank, lineage.extend(*past)), config.train, work, trim_batches(task.batch, config.train),
        decomposable.mean(task.loss, task.name), goal)
    metrics = evaluate()
    figures = [[task.name, metric, value, task.chance.get(metric)] for metric, value in metrics.items()]
    folder.results({"task": task.name, "model": lineage.model(task.name, *past), "metrics": metrics, "figures": figures, "steps": work[1],
                    "bank": describe(task.bank), "checkpoint_sha256": sha256(folder.best)}, config)
    for name, metric, value, chance in figures:
        print(f"{name} {metric}: {value:.4f}" + (f"; without a look {chance:.4f}" if chance is not None else ""))
    print(f"run folder: {config.run}\n  weights: {folder.best}\n  pictures: losses.png")
