"""The frame of a downstream task on a bank: a task's module opens its data as a ``Task``, and everything else happens here.

    def dry_run(config):
        fine_tuning.dry_run(config, open_task)

    def run(config):
        fine_tuning.run(config, open_task)

The commands of the paper's tasks (classify, retrieve, caption) report more, and use the same parts by themselves. docs/extending.md adds a
task.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from kaleidobert.app_zoo import lineage, models, training
from kaleidobert.app_zoo.training import Batch
from kaleidobert.configs import FineTuningConfig
from kaleidobert.datasets.bank.bank import Bank, describe
from kaleidobert.engines import steps
from kaleidobert.engines.distributed import distribution
from kaleidobert.engines.prediction import predict
from kaleidobert.engines.run_folder import Run, check_folder
from kaleidobert.engines.trainer import Goal
from kaleidobert.io import sha256
from kaleidobert.losses import decomposable
from kaleidobert.model_zoo.backbone import Backbone
from kaleidobert.model_zoo.kaleidobert import TaskModel
from kaleidobert.preprocessors.examples import Arrays

C = TypeVar("C", bound=FineTuningConfig)


@dataclass(frozen=True)
class Task:
    """What makes a downstream task.

    name: of the task, under which its answer stands in outputs, targets and weights. rows: i64[N] to train on; batch: step -> (inputs,
    targets, weights). model: backbone -> network; its own layers are named "head_...". loss: (outputs, targets, weights) -> {"loss":
    mean over the batch, ...}. val_rows: i64[N] to report on; inputs: rows -> inputs of the network. metrics: outputs of all val_rows ->
    {metric: value}, the first of which is logged after every epoch; chance: {metric: value} without a look at the example.
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
    chance: Mapping[str, float]


def dry_run(config: C, open_task: Callable[[C], Task]) -> None:
    """Checks data and checkpoint, prints sizes; raises UserError as ``run`` does before its training."""
    config = models.resolve(config)
    check_folder(config.run, config)
    task = open_task(config)
    models.check_start(config, task.bank)
    print(f"{task.name}: {len(task.rows):,} pictures to train on, {len(task.val_rows):,} to evaluate")
    print(models.peak_rate(config.train, len(task.rows)))


def run(config: C, open_task: Callable[[C], Task]) -> None:
    """Trains, reports on the weights of the last epoch (nothing is chosen on the validation split), and writes the run folder.

    Raises UserError where data, checkpoint and configuration do not fit, before anything is trained.
    """
    config = models.resolve(config)
    check_folder(config.run, config)
    with distribution.scope(config.train):
        _run(config, open_task(config))


def _run(config: FineTuningConfig, task: Task) -> None:
    model = models.start(lambda arguments: task.model(Backbone.from_config(arguments)), config, task.bank)
    work, forward = models.schedule(config.train, len(task.rows)), steps.forward(model)
    past = config.init, lineage.epochs(f"{task.name} fine-tuned", config.train.epochs)
    folder = Run(config.run, config)  # claimed when nothing is left to refuse

    def evaluate() -> dict[str, float]:
        return task.metrics(predict(forward, task.inputs, task.val_rows, config.train.batch_size))

    goal = Goal(evaluate, next(iter(task.chance)), higher_is_better=None)
    training.fit(folder, model, models.origin(model, task.bank, lineage.extend(*past)), config.train, work, task.batch,
                 decomposable.mean(task.loss, task.name), goal)
    metrics = evaluate()
    figures = [[task.name, metric, value, task.chance.get(metric)] for metric, value in metrics.items()]
    folder.results({"task": task.name, "model": lineage.model(task.name, *past), "metrics": metrics, "figures": figures, "steps": work[1],
                    "bank": describe(task.bank), "checkpoint_sha256": sha256(folder.best)}, config)
    for name, metric, value, chance in figures:
        print(f"{name} {metric}: {value:.4f}" + (f"; without a look {chance:.4f}" if chance is not None else ""))
    print(f"run folder: {config.run}\n  weights: {folder.best}\n  pictures: losses.png")
