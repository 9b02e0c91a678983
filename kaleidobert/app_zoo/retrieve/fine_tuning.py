"""Fine-tuning of the matching task, after the towers of the head "dual_encoder" where it has them; held-out groups choose the epoch."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import ops

from kaleidobert.app_zoo import lineage, models, training
from kaleidobert.app_zoo.retrieve.ranking import Ranker
from kaleidobert.configs import RetrieveConfig, Train
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sampling.finetuning import DualEncoderSampler, MatchSampler
from kaleidobert.datasets.sampling.pretraining import clean_batch, hold_out
from kaleidobert.engines import steps
from kaleidobert.engines.distributed.distribution import Process
from kaleidobert.engines.run_folder import Run
from kaleidobert.engines.trainer import HELD_OUT, Goal
from kaleidobert.errors import UserError
from kaleidobert.evaluators import candidates, retrieval
from kaleidobert.evaluators.candidates import CandidateLists
from kaleidobert.losses import contrastive, decomposable, finetuning
from kaleidobert.model_zoo.kaleidobert import DUAL_ENCODER, Matcher

HELD_SHARE = 0.1  # of the training groups, held out to choose the best epoch of fine-tuning
HELD_QUERIES, HELD_CANDIDATES = 100, 21  # of the small lists over them


def train(config: RetrieveConfig, model: Matcher, bank: Bank, rows: np.ndarray) -> Run:
    """Trains the matching task in the run folder; the best epoch is chosen on lists over held-out training groups."""
    train, (kept, held) = config.train, split(config, bank, rows)
    rates(config, len(kept))  # refuses what cannot be trained before the towers are
    sampler = MatchSampler(bank, kept, config.subcategory, config.matching, train.batch_size, train.seed)
    lists = candidates.build(records_of(bank, held, config.subcategory), config.direction, config.candidates_seed, HELD_QUERIES,
                             HELD_CANDIDATES)
    assert isinstance(lists, candidates.CandidateLists)  # as of every protocol with lists of its own
    objective, ranker = finetuning.OBJECTIVES[config.matching.objective], Ranker(model, bank, held, config)
    folder = Run(config.run, config)  # claimed when nothing is left to refuse

    def loss(outputs, targets, weights):
        # with towers the encoder learns the task by itself, as they did: together they know more than one that corrects the other
        return {"loss": objective(outputs.get("own", outputs["itm"]), targets["itm"], 1 + config.matching.negatives)}

    def ranks() -> dict[str, float]:
        return retrieval.brief(ranker.table(lists), lists.relevant, lists.valid)

    if config.matching.head == "dual_encoder":
        train_towers(config, model, bank, kept, (held, lists))
    work = models.schedule(train, len(kept))  # of the variables that train_towers left to be trained
    meta = models.origin(model, bank, lineage.extend(config.init, trained_steps(config)))
    training.fit(folder, model, meta, train, work, training.trim_batches(sampler.batch, train), decomposable.mean(loss, "itm"),
                 Goal(ranks, "mrr", True, split=HELD_OUT))
    return folder


def split(config: RetrieveConfig, bank: Bank, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (rows to train on, rows that choose the epoch)."""
    return hold_out(bank, rows, HELD_SHARE, config.train.seed, "set train.epochs=0")


def rates(config: RetrieveConfig, num_rows: int) -> list[str]:
    """Returns the highest rates of learning, of the towers where they are trained; raises UserError as models.steps_and_warmup."""
    first = (
        [models.peak_rate(sized(config.dual_encoder, num_rows), num_rows, "dual_encoder")]
        if config.matching.head == "dual_encoder"
        else []
    )
    return [*first, models.peak_rate(config.train, num_rows)]


def trained_steps(config: RetrieveConfig) -> list[str]:
    """Returns what the run trains, in words."""
    with_dual_encoder = config.matching.head == "dual_encoder" and config.train.epochs
    return (lineage.epochs(lineage.DUAL_ENCODER, config.dual_encoder.epochs if with_dual_encoder else 0)
            + lineage.epochs("matching fine-tuned", config.train.epochs))


def records_of(bank: Bank, rows: np.ndarray, subcategory: str) -> candidates.Records:
    """Returns what candidate lists are drawn from, over the given rows of the bank."""
    columns = [*map(bank.column, ("image_id", "product_id", "group")), bank.subcategories(subcategory), bank.column("text")]
    return candidates.Records(*[column[rows].tolist() for column in columns])


# --- The towers of the head "dual_encoder" without its encoder: what is trained first, and what searches a catalogue quickly (ours)


class DualEncoderModel(keras.Model):
    """{"text_side", "picture_side"}: f32[B, W], whose product is the match. Inputs: patch_features, token_ids, token_mask.

    Its variables are the matcher's own: training it trains the matcher's towers.
    """

    kind = "dual_encoder"

    def __init__(self, matcher: Matcher):
        super().__init__(name=self.kind)
        self.matcher_config = matcher.get_config()
        self.scale = matcher.backbone.get_layer("feature_scale") if matcher.backbone.standardise_features else None
        self.towers = matcher.get_layer(DUAL_ENCODER)
        self.built = True

    def call(self, inputs, training=False):
        features = inputs["patch_features"] if self.scale is None else self.scale(inputs["patch_features"])
        text, picture = self.towers(features, inputs["token_ids"], inputs["token_mask"], training=training)
        return {"text_side": text, "picture_side": picture}

    def describe(self) -> dict[str, Any]:
        """Returns the same as KaleidoModel.describe."""
        return {"kind": self.kind, "config": self.matcher_config, "identity": {}}


def check_towers(config: RetrieveConfig) -> None:
    """Raises UserError for settings that the towers cannot follow."""
    if config.matching.head == "dual_encoder" and config.train.epochs and not config.dual_encoder.epochs:
        raise UserError(
            "dual_encoder.epochs is 0",
            "retrieve",
            "more than 0: the head dual_encoder ranks by its towers",
            "set train.epochs=0 and init=... to use trained ones as they are",
        )
    if config.dual_encoder.precision != "float32":
        raise UserError(f"dual_encoder.precision is {config.dual_encoder.precision}", "retrieve", "float32: the towers have no other")


def sized(options: Train, num_rows: int) -> Train:
    """Returns the configuration with a batch that is at most all rows: no pair stands twice in one."""
    return replace(options, batch_size=min(options.batch_size, num_rows))


def check_single_device(config: RetrieveConfig, process: Process) -> None:
    """Raises UserError where the towers would be trained on shards of a batch: they compare all of its texts with all of its pictures."""
    if config.matching.head == "dual_encoder" and process.replicas > 1:
        raise UserError(f"matching.head is dual_encoder, on {process.replicas} devices", "retrieve", "one device: its towers compare all "
                        "pairs of a batch", "set train.devices=1 and start one process, or choose another matching.head")


def train_towers(config: RetrieveConfig, model: Matcher, bank: Bank, rows: np.ndarray, held: tuple[np.ndarray, CandidateLists]) -> None:
    """Trains the towers of ``model`` on ``rows``, or loads what was trained, and freezes them.

    held: rows of the bank, and lists over them, whose mean reciprocal rank is logged; the last epoch is kept, for with the rate of
    learning gone down to 0 it ranked better than the one that happened to be best on a hundred lists.
    """
    options, towers = config.dual_encoder, DualEncoderModel(model)
    folder = Run(config.run / "dual_encoder", replace(config, run=config.run / "dual_encoder"))
    sampler = DualEncoderSampler(bank, rows, config.subcategory, options.batch_size, options.seed)
    work = models.schedule(sized(options, len(rows)), len(rows), "dual_encoder")  # as many epochs as configured
    forward, (held_rows, lists) = steps.forward(towers), held

    def loss(outputs, targets, weights):
        sides = ops.stack([outputs["text_side"], outputs["picture_side"]], axis=1)
        return {"loss": ops.mean(contrastive.in_batch(sides, targets["identity"]))}

    def ranks() -> dict[str, float]:
        return retrieval.brief(score_sides(*sides(forward, bank, held_rows), lists), lists.relevant, lists.valid)

    training.fit(folder, towers, models.origin(towers, bank), options, work, training.trim_batches(sampler.batch, options), loss,
                 Goal(ranks, "mrr", None, split=HELD_OUT))
    model.get_layer(DUAL_ENCODER).trainable = False


def sides(forward: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]], bank: Bank, rows: np.ndarray,
          batch_size: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Returns (texts, pictures) f32[len(rows), W] each; forward: steps.forward(DualEncoderModel)."""
    result = [forward(clean_batch(bank, rows[start : start + batch_size])) for start in range(0, len(rows), batch_size)]
    texts, pictures = (np.concatenate([sides[name] for sides in result]) for name in ("text_side", "picture_side"))
    return texts, pictures


def score_sides(texts: np.ndarray, pictures: np.ndarray, lists: CandidateLists) -> np.ndarray:
    """Returns f32[Q, L]: the products of the lists' pairs, -inf for padding; rows of the lists are rows of both arrays."""
    wanted, offered = (pictures, texts) if lists.direction == "i2t" else (texts, pictures)
    scores = np.einsum("qw,qlw->ql", wanted[lists.queries], offered[lists.candidates])
    return np.where(lists.valid, scores, -np.inf)
