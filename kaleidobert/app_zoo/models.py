"""The model that a command starts from: a checkpoint that fits the bank, or random weights where the configuration says so."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import keras
import numpy as np

from kaleidobert import configs
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sampling.pretraining import clean_features
from kaleidobert.engines import optimizers
from kaleidobert.engines.distributed import cluster
from kaleidobert.engines.distributed.distribution import SINGLE_PROCESS, ShardMaker, current_process
from kaleidobert.engines.run_folder import check_room
from kaleidobert.engines.trainer import Schedule
from kaleidobert.errors import UserError
from kaleidobert.levels import KALEIDO, KaleidoLevel
from kaleidobert.model_zoo import kaleidobert
from kaleidobert.preprocessors import examples
from kaleidobert.released import tf_checkpoint
from kaleidobert.released.checkpoints import load_meta, transfer

NO_CHECKPOINT = UserError("no pre-trained checkpoint is named", "init", "the best.npz of a pre-training run",
                          "set init=..., or from_scratch=true to start from random weights")
SAMPLE = 500  # rows from which a scale of features is measured, and the best constant answers are taken
ENCODER = "baked into released files"  # the encoder of released text files: no bank has it, and their boxes are in pixels
# what a checkpoint may have been made with otherwise
OF_THIS_RUN = ("seed", "precision", "dropout", "attention_dropout", "initializer_range", "text_length", "gradient_checkpointing")


class Layout(Protocol):
    """What a model depends on in its data: sizes, and what a checkpoint remembers (identity, index["files"]). A Bank is one."""

    @property
    def feature_size(self) -> int: ...

    @property
    def text_length(self) -> int: ...

    @property
    def vocabulary(self) -> Any: ...  # of which size counts

    @property
    def identity(self) -> dict[str, str]: ...

    @property
    def index(self) -> dict[str, Any]: ...


def backbone_config(bank: Layout, levels: tuple, model: configs.Model, train: configs.Train) -> dict[str, Any]:
    """Returns the backbone's arguments: sizes from the configuration; vocabulary, features and text length from the bank."""
    return {**_sizes(model, configs.to_dict(configs.BERT_BASE)), "levels": configs.to_dict(levels), "feature_size": bank.feature_size,
            "vocabulary_size": bank.vocabulary.size, "text_length": bank.text_length, "seed": train.seed,
            "precision": train.precision, "gradient_checkpointing": train.gradient_checkpointing}


F = TypeVar("F", bound=configs.FineTuningConfig)


def resolve(config: F) -> F:
    """Returns the configuration of a downstream task with what it leaves out filled in.

    The level table and the sizes of the model are those of the checkpoint that it starts from; of random weights the levels are those of
    the bank, or the five kaleido levels of released files, and sizes that are left out those of BERT-base. Raises UserError for random
    weights without a size.
    """
    if config.levels and None not in configs.to_dict(config.model).values():
        return config
    levels = KALEIDO if config.data.bank is None else Bank(config.data.bank).levels  # a missing bank is refused before a checkpoint
    sizes = configs.to_dict(configs.BERT_BASE)
    if config.init is None and config.from_scratch and config.model.hidden_size is None:
        raise UserError("random weights are asked for and the network has no size", "from_scratch, model", "model.hidden_size and the "
                        "other sizes, which otherwise come from init", "set model.hidden_size, num_layers, num_heads, intermediate_size "
                        "and max_positions; of BERT-base these are 768, 12, 12, 3072 and 512")
    if config.init is not None and (config.data.files is None or config.init.exists() or tf_checkpoint.exists(config.init)):
        meta = load_meta(config.init)  # missing files are refused before their checkpoint
        levels, sizes = levels_of(meta), sizes | backbone_of(meta)
    return replace(config, levels=config.levels or levels, model=configs.Model(**_sizes(config.model, sizes)))


def _sizes(model: configs.Model, others: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the sizes of a model; those that are None are taken from ``others``."""
    return {name: others[name] if value is None else value for name, value in configs.to_dict(model).items()}


def start(make: Callable[[dict[str, Any]], keras.Model], config: Any, bank: Layout,
          fit: Callable[[keras.Model], None] | None = None) -> keras.Model:
    """Returns a model on the backbone of ``config.init``, or with random weights where ``config.from_scratch`` says so.

    make: backbone arguments -> model. fit: what ``adapt`` is for a bank, where ``bank`` is none. Raises UserError where check_start
    does, and where a head would be used untrained.
    """
    check_start(config, bank)
    arguments = backbone_config(bank, config.levels, config.model, config.train)

    def fitted(model: keras.Model) -> None:
        if fit is not None:
            fit(model)
        elif isinstance(bank, Bank):
            adapt(model, bank, config.data.train_split)
        elif model.unadapted:
            raise UserError("the checkpoint leaves the scale of its features to a training, and these files are not trained on",
                            str(config.init), "the best.npz of a run that measured it")

    if config.init is None:
        model = make(arguments)
        fitted(model)
        return model
    own = {name: arguments[name] for name in OF_THIS_RUN}
    model = make({**backbone_of(load_meta(config.init)), **own})
    new = transfer(config.init, model)
    if new and not config.train.epochs:
        raise UserError(f"the checkpoint has no trained {', '.join(new)}", str(config.init), "one, as train.epochs is 0",
                        "set train.epochs, or name the best.npz of a run that trained it")
    print_start(config.init, new, bank)
    if new or is_unadapted(config.init):
        fitted(model)
    return model


def matcher(matching: configs.Matching) -> Callable[[dict[str, Any]], keras.Model]:
    """Returns what makes a matcher with this head out of the backbone's arguments."""
    return lambda arguments: kaleidobert.matcher(arguments, matching.head, matching.width, matching.feature_dropout)


def adapt(model: keras.Model, bank: Bank, split: str) -> None:
    """Fits scales of features that are not set, those of fresh models and heads, to a ``sample`` of the split."""
    if model.unadapted:
        model.adapt_features(clean_features(bank, sample(bank.rows(split))))


def sample(rows: np.ndarray) -> np.ndarray:
    """Returns evenly spaced ones of the rows, some SAMPLE where there are many more."""
    return rows[:: max(1, len(rows) // SAMPLE)]


def is_unadapted(init: Path) -> bool:
    """Whether a checkpoint leaves the scale of features to the run that starts from it, as a BERT does that `convert` has made one of."""
    return bool(load_meta(init).get("unadapted"))


def like_checkpoint(init: Path | None, arguments: dict[str, Any]) -> dict[str, Any]:
    """Returns the backbone's arguments; what they leave open, such as the rows of a released type table, is as in the checkpoint."""
    return arguments if init is None else {**backbone_of(load_meta(init)), **arguments}


def print_start(init: Path, new: list[str], bank: Layout) -> None:
    """Prints where the weights come from, which layers keep their start values, and what the checkpoint does not say of its origin."""
    layers, meta = sorted({name.split("/")[0] for name in new}), load_meta(init)
    print(f"weights from {init}" + (f"; new: {', '.join(layers)}" if layers else ""))
    for key, what in (("encoder", "which features"), ("vocabulary_sha256", "which vocabulary")):
        if key not in meta:
            print(f"  it does not say with {what} it was made: that they are those of the data is taken on trust")
    if "encoder" not in meta and isinstance(bank, Bank):
        print("  the release's was trained on boxes in pixels; a bank's are fractions of the picture: on a bank its answers mean little")


def check_start(config: Any, bank: Layout) -> None:
    """Raises UserError where a checkpoint is needed and none is named, or where it does not fit, and where the disk has no room for those
    of the run; builds no model."""
    if config.init is None and not config.from_scratch:
        raise NO_CHECKPOINT
    if config.init is not None and config.from_scratch:
        raise UserError("a checkpoint is named and from_scratch is true", "init, from_scratch", "one of the two",
                        "empty init (init=), or set from_scratch=false")
    if config.init is None and not config.train.epochs:
        raise UserError("random weights and no training", "from_scratch, train.epochs", "epochs above 0, or init=...")
    arguments = backbone_config(bank, config.levels, config.model, config.train)
    if config.init is not None:
        require(config.init, arguments, bank)
    if config.train.epochs and cluster.read(os.environ).rank == 0:
        check_room(config.run, 4 * num_parameters(arguments), 8 * num_parameters(arguments))


def require(path: Path, arguments: dict[str, Any], bank: Layout) -> dict[str, Any]:
    """Returns the meta of a checkpoint that fits; raises UserError that lists which sizes, levels, encoder, vocabulary differ: - its +
    ours."""
    meta = load_meta(path)
    have = backbone_of(meta)
    free = (*OF_THIS_RUN, "levels")
    lines = [f"- {key} {have.get(key)} + {value}" for key, value in arguments.items()
             if key not in free and have.get(key) != value]
    tables = [[(row["name"], row["grid"], row["pretext"]) for row in table] for table in (have["levels"], arguments["levels"])]
    if tables[0] != tables[1]:
        lines.append(f"- levels {tables[0]} + {tables[1]}")
    lines += [f"- {key} {meta[key]} + {value}" for key, value in bank.identity.items() if meta.get(key, value) != value]
    if lines:
        fix = ("set the model's sizes as in the config.yaml of the run that made it, and use a bank with the same encoder, vocabulary and "
               "levels")
        if "encoder" in meta and (meta["encoder"] == ENCODER) != (bank.identity.get("encoder") == ENCODER):
            fix = ("use what was trained on released files on such files (data.files) and what was trained on a bank on banks: features "
                   "come from other networks, and boxes are in pixels in files and fractions of the picture in banks")
        raise UserError(f"the checkpoint (-) does not fit the configuration and the bank (+): {'; '.join(lines)}", str(path), fix=fix)
    return meta


def backbone_of(meta: dict[str, Any]) -> dict[str, Any]:
    """Returns the backbone's arguments out of a checkpoint's meta; raises UserError where it holds no model of ours."""
    if "config" not in meta:
        raise UserError("the checkpoint does not say what model it holds", "init", "the best.npz of a run")
    return dict(meta["config"].get("backbone", meta["config"]))


def bank_of(path: Path, bank: Bank) -> Bank:
    """Returns the bank as the model of a checkpoint sees it, with its levels. Raises UserError where the two do not fit."""
    bank = bank.require(levels_of(load_meta(path)), "")
    sizes = {"feature_size": bank.feature_size, "vocabulary_size": bank.vocabulary.size, "levels": configs.to_dict(bank.levels)}
    require(path, sizes, bank)
    return bank


def levels_of(meta: dict[str, Any]) -> tuple[KaleidoLevel, ...]:
    """Returns the level table out of a checkpoint's meta; raises UserError as backbone_of."""
    return tuple(KaleidoLevel(**row) for row in backbone_of(meta)["levels"])


def origin(model: keras.Model, bank: Layout, lineage: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Returns what the checkpoints of a run remember: the model, what it depends on in a bank, the bank's very content, and the lineage."""
    files = json.dumps(bank.index["files"], sort_keys=True)
    past = {"lineage": dict(lineage)} if lineage else {}
    return {**model.describe(), **bank.identity, "bank_sha256": hashlib.sha256(files.encode()).hexdigest(), **past}


def steps_and_warmup(train: configs.Train, num_examples: int, name: str = "train") -> tuple[int, int]:
    """Returns (all steps, those of the warm-up) of a training configuration, the section called ``name``. Raises UserError for no epochs,
    and for a warm-up above half of the run."""
    if not train.epochs:
        raise UserError(f"{name}.epochs is 0", "the schedule", "more than 0: this command trains")
    total, warmup = optimizers.count_steps(num_examples, train.epochs, train.batch_size, train.warmup_steps, train.warmup_share)
    reached, _ = optimizers.peak_rate(train.learning_rate, total, warmup, train.decay)
    optimizers.check_warmup(total, warmup, reached, train.learning_rate, name)
    return total, warmup


def peak_rate(train: configs.Train, num_examples: int, name: str = "train") -> str:
    """Returns the highest rate of learning and when it comes, for dry runs; raises UserError as ``steps_and_warmup``."""
    total, warmup = steps_and_warmup(train, num_examples, name)
    return rate_line(*optimizers.peak_rate(train.learning_rate, total, warmup, train.decay), total, train.learning_rate, name)


def rate_line(reached: float, step: int, total: int, target: float, name: str = "train") -> str:
    """Returns the line of ``peak_rate`` for any schedule."""
    return f"{name}: the rate is highest after {step:,} of {total:,} steps, {reached:.3g} ({name}.learning_rate is {target:.3g})"


def schedule(train: configs.Train, num_examples: int, name: str = "train") -> tuple[keras.optimizers.Optimizer, int]:
    """Returns (optimizer, total steps) of a training configuration, the section called ``name``; raises UserError where its numbers make no
    sense."""
    total, warmup = steps_and_warmup(train, num_examples, name)
    devices = max(current_process().replicas, cluster.read(os.environ).size * max(1, train.devices))  # a dry run is alone
    if train.batch_size % (devices * train.gradient_accumulation_steps):
        raise UserError(
            f"{name}.batch_size is {train.batch_size}",
            "the schedule",
            f"a multiple of {devices * train.gradient_accumulation_steps}: it is "
            f"split over {devices} device(s), and there into {train.gradient_accumulation_steps} micro-batches "
            f"({name}.gradient_accumulation_steps)",
        )
    rates = optimizers.WarmupLinearDecay(train.learning_rate, total, warmup, train.decay)
    adam = optimizers.adam(rates, train.weight_decay, train.beta_1, train.beta_2, train.epsilon)
    return optimizers.with_loss_scale(adam) if train.precision == "mixed_float16" else adam, total


def trainer_schedule(train: configs.Train, total: int) -> Schedule:
    """Returns the Schedule of a training configuration; raises UserError for several devices outside of distribution.scope."""
    if train.devices != 1 and current_process() is SINGLE_PROCESS:
        raise UserError(f"devices is {train.devices}", "the schedule", "1: this training runs on one device")
    return Schedule(
        total, train.epochs, train.save_every, gradient_accumulation_steps=train.gradient_accumulation_steps, workers=train.workers
    )


def shard_maker(sampler: Any, train: configs.Train) -> ShardMaker | None:
    """Returns what makes shards of batches for distribution.feed, of samplers that can, as PretrainSampler; None of others."""
    if not hasattr(sampler, "token_mask"):
        return None

    def shard(step: int, number: int, count: int) -> tuple:
        rows = slice(number * train.batch_size // count, (number + 1) * train.batch_size // count)
        inputs, targets, weights = sampler.batch(step, rows)
        if train.dynamic_padding:  # all shards alike
            inputs = examples.trim(inputs, length=examples.longest_text(sampler.token_mask(step)))
        return inputs, targets, weights, sampler.weights(step)

    return shard


def num_parameters(arguments: dict[str, Any]) -> int:
    """Returns the number of weights of a backbone with these arguments; builds no variable."""
    a, levels = arguments, arguments["levels"]
    hidden, rows = a["hidden_size"], max(6, len(levels) + 1)
    text = (a["vocabulary_size"] + a["max_positions"] + 2) * hidden + 2 * hidden
    patches = len(levels) * (a["feature_size"] + rows + 2) * hidden + 5 * hidden
    block = 4 * (hidden + 1) * hidden + (2 * a["intermediate_size"] + 5) * hidden + a["intermediate_size"]
    return text + patches + a["num_layers"] * block + (hidden + 1) * hidden

