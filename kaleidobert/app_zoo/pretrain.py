"""``kaleidobert pretrain``: the seven tasks on a bank (paper, section 3)."""

import keras
import numpy as np

from kaleidobert import levels as kaleido
from kaleidobert.app_zoo import models, released_runs, trimming
from kaleidobert.app_zoo.materials import PretrainMaterial
from kaleidobert.configs import PretrainConfig
from kaleidobert.datasets.bank import Bank, describe, sha256
from kaleidobert.datasets.sampler import PretrainSampler, share_of_groups
from kaleidobert.engines import distribution, steps
from kaleidobert.engines.runs import Run, check_folder, check_room
from kaleidobert.engines.trainer import Goal, Trainer
from kaleidobert.errors import UserError
from kaleidobert.evaluators import plots, tasks
from kaleidobert.losses import tasks as losses
from kaleidobert.losses.additive import Additive
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import pretrainer


def dry_run(config: PretrainConfig) -> None:
    """Check the data and the configuration, print sizes and the number of steps."""
    _check(config)
    if config.data.files is not None:
        return released_runs.dry_run(config)
    bank, rows, _ = _open(config)
    _, total = models.schedule(config.train, len(rows))
    PretrainSampler(bank, rows, config.levels, config.sampling, config.train.batch_size, config.train.seed)
    arguments = models.backbone_config(bank, config.levels, config.model, config.train)
    check_room(config.run, 4 * models.num_parameters(arguments), 8 * models.num_parameters(arguments))
    print(f"{len(rows):,} pictures to train on, {total:,} steps of {config.train.batch_size}; "
          f"{models.num_parameters(arguments):,} parameters in the backbone; about "
          f"{16 * models.num_parameters(arguments) / 1e9:.1f} GB for weights, gradients and optimiser")


def run(config: PretrainConfig) -> None:
    """Train, evaluate after every epoch, write the run folder."""
    _check(config)
    with distribution.over(config.train):
        _run(config)


def _run(config: PretrainConfig) -> None:
    data = released_runs.pretraining(config) if config.data.files is not None else material(config)
    arguments = models.backbone_config(data.bank, config.levels, config.model, config.train)
    model = pretrainer(models.like(config.init, arguments))
    if config.init is None:
        data.adapt(model)
    else:
        fresh = checkpoints.transfer(config.init, model)
        models.tell(config.init, fresh, data.bank)
        if models.is_unmeasured(config.init):
            data.adapt(model)
    optimizer, total = models.schedule(config.train, data.num_examples)
    begun = _begun(config, model, optimizer, total) if config.init_optimizer else 0
    by_task = losses.for_tasks(config.levels, config.losses.feature_target, config.losses.mlm_weight, config.losses.itm_weight)

    kinds = {task: "loss" for task in by_task} | {level.name: "kl" for level in kaleido.feature_levels(config.levels)}
    if config.losses.feature_target == "joint":  # another quantity than the KL per patch that validation reports
        kinds |= {level.name: "joint_kl" for level in config.levels if level.pretext == "grey"}

    def loss(outputs, targets, weights, over):
        values = losses.total(by_task, outputs, targets, weights, over)
        return {"loss": values["total"], **{f"{task}_{kind}": values[task] for task, kind in kinds.items()}}

    folder = Run(config.run, config)  # claimed when nothing is left to refuse
    trainer = Trainer(folder, model, optimizer, models.origin(model, data.bank))
    trainer.step = begun
    shares = {f"{task}_{kind.removeprefix('joint_')}": by_task[task].share for task, kind in kinds.items()}
    batch, validation = (trimming.batches(make, config.train) for make in (data.sampler.batch, data.validation.validation))
    goal = Goal(evaluator(model, validation, config.levels, shares), "loss", higher_is_better=False)
    additive = Additive(loss, lambda weights: losses.denominators(by_task, weights))
    trainer.fit(batch, additive, goal, models.plan(config.train, total), config.train.clip_norm, models.part_of(data.sampler, config.train))

    rows_of_metrics = folder.metrics()
    chosen = checkpoints.load_meta(folder.best)["step"]
    row = next(row for row in rows_of_metrics if row["split"] == "val" and row["step"] == chosen)
    final = {name: value for name, value in row.items() if name not in ("step", "split")}
    baselines = data.baselines()
    plots.loss_curves(rows_of_metrics, config.run / "losses.png", baselines)
    folder.results({"task": "pretrain", "metrics": final, "baselines": baselines, "steps": total, "best_step": chosen,
                    "bank": data.facts(), "checkpoint_sha256": sha256(folder.best)}, config)
    _table(final, baselines)
    print(f"run folder: {config.run}\n  weights: {folder.best} (best, step {chosen}), {folder.last} (last)\n"
          f"  curves: {config.run / 'losses.png'}")


def material(config: PretrainConfig) -> PretrainMaterial:
    """The splits of data.bank, spoiled anew for every example."""
    bank, rows, val_rows = _open(config)
    settings = (config.sampling, config.train.batch_size, config.train.seed)
    sampler, validation = (PretrainSampler(bank, part, config.levels, *settings) for part in (rows, val_rows))
    return PretrainMaterial(bank, len(rows), sampler, validation, lambda model: models.adapt(model, bank, config.data.train_split),
                            lambda: baseline(bank, rows, validation, config.levels), lambda: describe(bank))


def evaluator(model, batch, levels, shares: dict[str, float]):
    """A function () -> {metric: value} over what batch(step) gives, None behind the last: a split, spoiled the same way every time.

    "loss" is the sum of the tasks' losses, each times its share; the feature tasks count per patch, as in the paper.
    """
    forward = steps.forward(model)

    def evaluate() -> dict[str, float]:
        parts, step = [], 0
        while (found := batch(step)) is not None:
            inputs, targets, weights = found
            parts.append(tasks.sums(forward(inputs), targets, weights, levels))
            step += 1
        values = tasks.means(parts)
        values["loss"] = sum(share * values.get(name, 0.0) for name, share in shares.items())
        return values

    return evaluate


def baseline(bank: Bank, rows: np.ndarray, sampler: PretrainSampler, levels) -> dict[str, float]:
    """What each metric is worth without looking: chance, and for "feature" levels the KL of the best constant answer,
    which is the mean of the softmaxed features of (at most) 500 training pictures."""
    starts, constants = kaleido.vector_slices(levels), {}
    sample = rows[:: max(1, len(rows) // 500)]
    for level in kaleido.feature_levels(levels):
        place = np.broadcast_to(starts[level.name].start + np.arange(level.num_patches), (len(sample), level.num_patches))
        constants[level.name] = tasks.mean_distribution(bank.features(sample, place))
    parts, step = [], 0
    while (batch := sampler.validation(step)) is not None:
        parts.append({f"{name}_kl": tasks.constant_kl(constant, batch[1][name], batch[2][name])
                      for name, constant in constants.items()})
        step += 1
    return {**tasks.chance(levels, bank.vocabulary.size), **tasks.means(parts)}


def _check(config: PretrainConfig) -> None:
    check_folder(config.run, config)
    if config.init_optimizer and config.init is None:
        raise UserError("init_optimizer is set and no checkpoint is named", "init", "the last.npz of a run, or a TensorFlow 1 checkpoint "
                        "of training", "set init=..., or init_optimizer=false")


def _begun(config: PretrainConfig, model: keras.Model, optimizer: keras.optimizers.Optimizer, total: int) -> int:
    """Load the state of Adam that ``init`` holds; the step at which the run goes on. UserError where all steps are done."""
    optimizer.build(model.trainable_variables)
    step = checkpoints.continue_optimizer(config.init, model, getattr(optimizer, "inner_optimizer", optimizer))
    if step >= total:
        raise UserError(f"the checkpoint has done {step:,} steps", str(config.init), f"fewer than the {total:,} of this run",
                        "set a larger train.epochs, or init_optimizer=false to start from the weights alone")
    print(f"  with the state of Adam, at step {step:,} of {total:,}")
    return step


def _open(config: PretrainConfig):
    kaleido.check(config.levels)
    bank = Bank(config.data.bank)
    bank.require(config.levels, config.data.encoder)
    if config.init is not None:
        models.require(config.init, models.backbone_config(bank, config.levels, config.model, config.train), bank)
    rows = share_of_groups(bank, bank.rows(config.data.train_split), config.data.train_share, config.train.seed)
    return bank, rows, bank.rows(config.data.val_split)


def _table(metrics: dict[str, float], baselines: dict[str, float]) -> None:
    print(f"{'metric':24s} {'value':>9s} {'without looking':>16s}")
    for name, value in metrics.items():
        other = f"{baselines[name]:16.4f}" if name in baselines else ""
        print(f"{name:24s} {value:9.4f} {other}")
