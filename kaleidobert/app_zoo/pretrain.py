"""``kaleidobert pretrain``: the seven tasks on a bank (paper, section 3)."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from kaleidobert import levels as kaleido
from kaleidobert.app_zoo import lineage, models, released_runs, step_memory, training
from kaleidobert.app_zoo.training import Batch, PretrainData, open_bank
from kaleidobert.configs import PretrainConfig
from kaleidobert.configs.training import MIN_CONTRAST_BATCH
from kaleidobert.datasets.bank.bank import Bank, describe
from kaleidobert.datasets.sampling.pretraining import PretrainSampler, fraction_of_groups, hold_out
from kaleidobert.engines import steps
from kaleidobert.engines.distributed import cluster, distribution
from kaleidobert.engines.run_folder import Run, check_folder, check_room
from kaleidobert.engines.trainer import HELD_OUT, VAL, Goal, Trainer
from kaleidobert.errors import UserError
from kaleidobert.evaluators import pretraining, statistics
from kaleidobert.evaluators.report import plots
from kaleidobert.evaluators.report.results import head_name
from kaleidobert.io import sha256
from kaleidobert.levels import KALEIDO, KaleidoLevel
from kaleidobert.losses import pretraining as losses
from kaleidobert.losses.decomposable import DecomposableLoss
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import pretrainer
from kaleidobert.preprocessors import examples
from kaleidobert.preprocessors.alignment_guided_masking import POLICIES
from kaleidobert.preprocessors.examples import Arrays
from kaleidobert.released.checkpoints import continue_optimizer, transfer

Forward = Callable[[Arrays], dict[str, np.ndarray]]  # steps.forward of the model: one for all that judges it on a split

def dry_run(config: PretrainConfig) -> None:
    """Checks the data and the configuration, prints sizes and the number of steps."""
    config = resolve(config)
    _check(config)
    if config.data.files is not None:
        return released_runs.dry_run(config)
    bank, rows, held, _ = _open(config)
    _, total = models.schedule(config.train, len(rows))
    PretrainSampler(bank, rows, config.levels, config.sampling, config.train.batch_size, config.train.seed)
    arguments = models.backbone_config(bank, config.levels, config.model, config.train)
    check_room(config.run, 4 * models.num_parameters(arguments), 8 * models.num_parameters(arguments))
    print(f"{len(rows):,} pictures to train on, {len(held):,} held out, {total:,} steps of {config.train.batch_size}; "
          f"{models.num_parameters(arguments):,} parameters in the backbone; about "
          f"{16 * models.num_parameters(arguments) / 1e9:.1f} GB for weights, gradients and optimiser")
    print(models.peak_rate(config.train, len(rows)))
    print(step_memory.report_line(arguments, config.train, config.sampling.max_masked, bool(config.losses.itc_weight)))


def run(config: PretrainConfig) -> None:
    """Trains, chooses the epoch by what is held out of the training split, evaluates on the validation split, writes the run folder."""
    config = resolve(config)
    _check(config)
    with distribution.scope(config.train):
        _run(config)


def resolve(config: PretrainConfig) -> PretrainConfig:
    """Returns the configuration with its level table: that of the bank, or the five kaleido levels of released files, unless it has one."""
    if config.levels:
        return config
    return replace(config, levels=KALEIDO if config.data.bank is None else Bank(config.data.bank).levels)


def _run(config: PretrainConfig) -> None:
    data = released_runs.pretraining(config) if config.data.files is not None else bank_data(config)
    arguments = models.backbone_config(data.bank, config.levels, config.model, config.train)
    model = pretrainer(models.like_checkpoint(config.init, arguments), bool(config.losses.itc_weight))
    if config.init is None:
        data.adapt(model)
    else:
        new = transfer(config.init, model)
        models.print_start(config.init, new, data.bank)
        if models.is_unadapted(config.init):
            data.adapt(model)
    optimizer, total = models.schedule(config.train, data.num_examples)
    begun = _begun(config, model, optimizer, total) if config.init_optimizer else 0
    by_task = losses.for_tasks(config.levels, config.losses.feature_target, config.losses.mlm_weight, config.losses.itm_weight,
                               config.losses.itc_weight)

    metric_of = {task: "loss" for task in by_task} | {level.name: "kl" for level in kaleido.feature_levels(config.levels)}
    if config.losses.feature_target == "joint":  # another quantity than the KL per patch
        metric_of |= {level.name: "joint_kl" for level in config.levels if level.pretext == "grey"}

    def loss(outputs, targets, weights, over):
        values = losses.total(by_task, outputs, targets, weights, over)
        return {"loss": values["total"], **{f"{task}_{metric}": values[task] for task, metric in metric_of.items()}}

    folder = Run(config.run, config)  # claimed when nothing is left to refuse
    what = "pre-trained" + " with image-text contrast" * bool(config.losses.itc_weight)
    past = config.init, lineage.epochs(what, config.train.epochs), masking(config)
    trainer = Trainer(folder, model, optimizer, models.origin(model, data.bank, lineage.extend(*past)))
    trainer.step = begun
    factors = {f"{task}_{metric}": by_task[task].factor for task, metric in metric_of.items()}
    batch = training.trim_batches(data.sampler.batch, config.train)
    validation = training.trim_batches(data.validation.validation, config.train)

    forward = steps.forward(model)  # val has its own: last digits depend on the batches a graph has met, and a finished run meets val alone

    def judge(own, make):
        return evaluator(own, make, config.levels, factors, config.losses.feature_target)

    evaluate = judge(forward, validation)
    goal = Goal(evaluate, "loss", higher_is_better=False if data.choice.by == "val_files" else None)
    if data.held is not None:
        held = training.trim_batches(data.held.validation, config.train)
        goal = Goal(judge(steps.forward(model), held), "loss", higher_is_better=False, split=HELD_OUT)
    additive = DecomposableLoss(loss, lambda weights: losses.denominators(by_task, weights))
    trainer.fit(batch, additive, goal, models.trainer_schedule(config.train, total), config.train.clip_norm,
                models.shard_maker(data.sampler, config.train))

    chosen = checkpoints.restore(folder.best, model)["step"]
    evaluated = [row for row in folder.metrics() if row["split"] == VAL and row["step"] == chosen]
    final = {name: value for name, value in evaluated[0].items() if name not in ("step", "split")} if evaluated else evaluate()
    _report(config, data, forward, folder, {"metrics": final, "steps": total, "best_step": chosen}, past)


def _report(config: PretrainConfig, data: PretrainData, forward: Forward, folder: Run, result: dict[str, Any], past: tuple) -> None:
    """Judges the controls, draws the curves, writes results.json and prints it. past: of lineage.model."""
    controls, counts = control(forward, config, data)
    baselines, chosen = data.baselines(), result["best_step"]
    plots.loss_curves(folder.metrics(), config.run / "losses.png", baselines)
    which = lineage.model("contrastive" if config.losses.itc_weight else "plain", *past)
    folder.results({"task": "pretrain", "model": which, **result, "baselines": baselines, "controls": controls, "examples": counts,
                    "choice": data.choice.metadata(), "bank": data.metadata(), "checkpoint_sha256": sha256(folder.best)}, config)
    print(f"{head_name(which)}, {which['trained']}; masking: {which['masking']}")
    _table(result["metrics"], baselines)
    for what, figures in controls.items():
        print(f"{what}: " + ", ".join(f"{name} {one['value']:.4f} [{one['low']:.4f}, {one['high']:.4f}]" for name, one in figures.items()))
    print(f"run folder: {config.run}\n  weights: {folder.best} (step {chosen}, {data.choice.describe()}), {folder.last} (last)\n"
          f"  curves: {config.run / 'losses.png'}")


def masking(config: PretrainConfig) -> str:
    """Returns how the run masks, in words: released files hold their masks."""
    return lineage.OF_FILES if config.data.files is not None else lineage.masking(config.sampling)


def bank_data(config: PretrainConfig) -> PretrainData:
    """Returns the splits of data.bank, spoiled anew for every example."""
    bank, rows, held, val_rows = _open(config)
    settings = (config.sampling, config.train.batch_size, config.train.seed)
    contrast = bool(config.losses.itc_weight)
    sampler, validation = (PretrainSampler(bank, of_split, config.levels, *settings, contrast) for of_split in (rows, val_rows))
    judge = PretrainSampler(bank, held, config.levels, *settings, contrast) if len(held) else None
    return PretrainData(bank, len(rows), sampler, judge, validation, training.choice(bank, held),
                            lambda model: models.adapt(model, bank, config.data.train_split),
                            lambda: baseline(bank, rows, sampler, validation, config), lambda: describe(bank))


def evaluator(forward: Forward, batch: Callable[[int], Batch | None], levels: tuple[KaleidoLevel, ...], factors: dict[str, float],
              feature_target: str) -> Callable[[], dict[str, float]]:
    """Returns a function () -> {metric: value} over what batch(step) gives, None behind the last: a split, spoiled the same way every time.

    "loss" is the sum of the metrics that ``factors`` names, each times its factor: with the feature target "per-patch" the feature tasks
    count per patch, as in the paper; with "joint" the loss is the released one, and grey per patch stands beside it.
    """
    def evaluate() -> dict[str, float]:
        values = pretraining.means(_sums(forward, batch, levels, feature_target))
        values["loss"] = sum(factor * values.get(name, 0.0) for name, factor in factors.items())
        return values

    return evaluate


def _sums(forward: Forward, batch: Callable[[int], Batch | None], levels: tuple[KaleidoLevel, ...],
          feature_target: str) -> Iterator[pretraining.Sums]:
    """Yields the sums of every batch of a split."""
    step = 0
    while (result := batch(step)) is not None:
        inputs, targets, weights = result
        yield pretraining.sums(forward(inputs), targets, weights, levels, feature_target)
        step += 1


ZEROED, ANOTHER, HIDDEN = "picture zeroed", "another picture under the same masks", "every word hidden"


def control(forward: Forward, config: PretrainConfig, data: PretrainData) -> tuple[dict[str, dict], dict[str, float]]:
    """Returns {control: {metric: {value, low, high}}} of the tasks of both sides, and {metric: number of examples} of all tasks.

    A model that compares picture and text is at chance where the picture's features are 0, and, of a bank, where the picture is another
    product's, or every word of the text is hidden: one that is not has found something else that gives the answer away. The last two keep
    the masks, which are such a thing where they differ between right and wrong texts.
    """
    def blind(step: int) -> Batch | None:
        result = data.validation.validation(step)
        return None if result is None else (examples.without_picture(result[0]), *result[1:])

    makers = {ZEROED: blind}
    if isinstance(data.validation, PretrainSampler):
        makers |= {ANOTHER: data.validation.with_other_pictures, HIDDEN: data.validation.without_words}
    sums = {what: pretraining.add(_sums(forward, training.trim_batches(make, config.train), config.levels, "per-patch"))
            for what, make in makers.items()}
    controls = {what: {name: statistics.proportion(value, int(weight)) for name, (value, weight) in each.items()
                       if name in ("itm_accuracy", "itc_accuracy") and weight} for what, each in sums.items()}
    return controls, {name: weight for name, (_, weight) in sums[ZEROED].items() if weight}


def baseline(bank: Bank, rows: np.ndarray, train: PretrainSampler, val: PretrainSampler, config: PretrainConfig) -> dict[str, float]:
    """Returns what each metric is worth without looking: chance; of masked words the piece that is masked most often in training, and how
    often each one is; where AGM chooses the slot of the answer, the slot that it chooses most often in training; and for "feature" levels
    the KL of the best constant answer."""
    levels, constants = config.levels, training.constant_answers(bank, rows, config.levels)
    guided = POLICIES[config.sampling.masking].needs_alignment and config.sampling.camouflage == "guided"
    pieces, slots = train.masked([level.name for level in levels if guided and level.pretext == "camouflage"])
    pieces = pieces + 1  # one that training never masks must not cost infinitely much
    sums, step = [], 0
    while (batch := val.validation(step)) is not None:
        sums.append({f"{name}_kl": pretraining.constant_kl(constant, batch[1][name], batch[2][name])
                      for name, constant in constants.items()})
        sums[-1] |= pretraining.constant_words(pieces / pieces.sum(), batch[1]["mlm"], batch[2]["mlm"])
        for name, slot in slots.items():
            sums[-1][f"{name}_accuracy"] = float(batch[2][name] @ (batch[1][name] == slot)), float(batch[2][name].sum())
        if config.losses.itc_weight:
            sums[-1] |= pretraining.contrast_chance(batch[1]["itc"], batch[2]["itc"])
        step += 1
    chance = pretraining.chance(levels, bank.vocabulary.size)
    own = {f"itm_cls_{metric}": chance[f"itm_{metric}"] for metric in ("accuracy", "loss")} if config.losses.itc_weight else {}
    return {**chance, **own, **pretraining.means(sums)}


def _check(config: PretrainConfig) -> None:
    check_folder(config.run, config)
    _check_contrast(config)
    if config.init_optimizer and config.init is None:
        raise UserError("init_optimizer is set and no checkpoint is named", "init", "the last.npz of a run, or a TensorFlow 1 checkpoint "
                        "of training", "set init=..., or init_optimizer=false")


def _check_contrast(config: PretrainConfig) -> None:
    """Raises UserError where a batch would be split, or is small: contrast compares all of its texts with all of its pictures."""
    train, processes = config.train, cluster.read(os.environ).size
    if config.losses.itc_weight and train.batch_size < MIN_CONTRAST_BATCH:
        raise UserError(f"losses.itc_weight is {config.losses.itc_weight:g}, and train.batch_size {train.batch_size}", "pretrain",
                        f"at least {MIN_CONTRAST_BATCH} examples, whose texts are each other's wrong ones",
                        "set a larger train.batch_size, or losses.itc_weight=0")
    if config.losses.itc_weight and (train.gradient_accumulation_steps > 1 or train.devices != 1 or processes > 1):
        raise UserError(f"losses.itc_weight is {config.losses.itc_weight:g}, and a batch is split: train.gradient_accumulation_steps is "
                        f"{train.gradient_accumulation_steps}, train.devices {train.devices}, of {processes} process(es)", "pretrain",
                        "one device and whole batches: contrast compares all texts of a batch with all of its pictures",
                        "set train.gradient_accumulation_steps=1 and train.devices=1, and start one process; or losses.itc_weight=0")


def _begun(config: PretrainConfig, model: keras.Model, optimizer: keras.optimizers.Optimizer, total: int) -> int:
    """Loads the state of Adam of ``init``; returns the step at which the run continues. Raises UserError where all steps are done."""
    optimizer.build(model.trainable_variables)
    assert config.init is not None  # whose state it is
    step = continue_optimizer(config.init, model, getattr(optimizer, "inner_optimizer", optimizer))
    if step >= total:
        raise UserError(f"the checkpoint has done {step:,} steps", str(config.init), f"fewer than the {total:,} of this run",
                        "set a larger train.epochs, or init_optimizer=false to start from the weights alone")
    print(f"  with the state of Adam, at step {step:,} of {total:,}")
    return step


def _open(config: PretrainConfig) -> tuple[Bank, np.ndarray, np.ndarray, np.ndarray]:
    bank = open_bank(config.data, config.levels)
    if lack := bank.lack_of_subcategories(config.sampling.subcategory):
        print(lack)
    room = bank.text_length - 2  # beside [CLS] and [SEP]
    if config.sampling.max_masked > room:
        raise UserError(f"sampling.max_masked is {config.sampling.max_masked}, and a text of the bank has at most {room} pieces",
                        str(bank.folder), f"1 to {room}", f"set sampling.max_masked={room} or less, or make the bank with a longer "
                        "text.length")
    if config.init is not None:
        models.require(config.init, models.backbone_config(bank, config.levels, config.model, config.train), bank)
    rows = fraction_of_groups(bank, bank.rows(config.data.train_split), config.data.train_share, config.train.seed)
    kept, held = hold_out(bank, rows, config.held_out, config.train.seed, "set held_out=0, which keeps the last epoch")
    return bank, kept, held, bank.rows(config.data.val_split)


def _table(metrics: dict[str, float], baselines: dict[str, float]) -> None:
    print(f"{'metric':24s} {'value':>9s} {'without looking':>16s}")
    for name, value in metrics.items():
        other = f"{baselines[name]:16.4f}" if name in baselines else ""
        print(f"{name:24s} {value:9.4f} {other}")
