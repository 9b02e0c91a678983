"""Fine-tuning of the matching task, after the dual encoder where the head has one; held-out training groups choose the epoch."""

import numpy as np

from kaleidobert.app_zoo import lineage, models, training
from kaleidobert.app_zoo.retrieve import dual_encoder
from kaleidobert.app_zoo.retrieve.ranking import Ranker
from kaleidobert.configs import RetrieveConfig
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sampling.finetuning import MatchSampler
from kaleidobert.datasets.sampling.pretraining import hold_out
from kaleidobert.engines.run_folder import Run
from kaleidobert.engines.trainer import HELD_OUT, Goal
from kaleidobert.evaluators import retrieval
from kaleidobert.evaluators.candidates import candidates
from kaleidobert.losses import additive, matching
from kaleidobert.model_zoo.kaleidobert import Matcher

HELD_SHARE = 0.1  # of the training groups, held out to choose the best epoch of fine-tuning
HELD_QUERIES, HELD_CANDIDATES = 100, 21  # of the small lists over them


def train(config: RetrieveConfig, model: Matcher, bank: Bank, rows: np.ndarray) -> Run:
    """Train the matching task in the run folder; the best epoch is chosen on lists over held-out training groups."""
    train, (kept, held) = config.train, split(config, bank, rows)
    rates(config, len(kept))  # refuses what cannot be trained before the towers are
    sampler = MatchSampler(bank, kept, config.subcategory, config.matching, train.batch_size, train.seed)
    lists = candidates.build(records_of(bank, held, config.subcategory), config.direction, config.candidates_seed, HELD_QUERIES,
                             HELD_CANDIDATES)
    assert isinstance(lists, candidates.CandidateLists)  # as of every protocol with lists of its own
    objective, ranker = matching.OBJECTIVES[config.matching.objective], Ranker(model, bank, held, config)
    folder = Run(config.run, config)  # claimed when nothing is left to refuse

    def loss(outputs, targets, weights):
        # with towers the encoder learns the task by itself, as they did: together they know more than one that corrects the other
        return {"loss": objective(outputs.get("own", outputs["itm"]), targets["itm"], 1 + config.matching.negatives)}

    def ranks() -> dict[str, float]:
        return retrieval.brief(ranker.table(lists), lists.relevant, lists.valid)

    if config.matching.head == "dual_encoder":
        dual_encoder.train(config, model, bank, kept, (held, lists))
    work = models.schedule(train, len(kept))  # of the variables that dual_encoder.train left to be trained
    meta = models.origin(model, bank, lineage.extend(config.init, steps(config)))
    training.fit(folder, model, meta, train, work, training.trim_batches(sampler.batch, train), additive.mean(loss, "itm"),
                 Goal(ranks, "mrr", True, split=HELD_OUT))
    return folder


def split(config: RetrieveConfig, bank: Bank, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rows to train on, rows that choose the epoch)."""
    return hold_out(bank, rows, HELD_SHARE, config.train.seed, "set train.epochs=0")


def rates(config: RetrieveConfig, num_rows: int) -> list[str]:
    """The highest rates of learning, of the towers where they are trained; UserError as models.pace."""
    first = (
        [models.rate(dual_encoder.sized(config.dual_encoder, num_rows), num_rows, "dual_encoder")]
        if config.matching.head == "dual_encoder"
        else []
    )
    return [*first, models.rate(config.train, num_rows)]


def steps(config: RetrieveConfig) -> list[str]:
    """What the run trains, in words."""
    with_dual_encoder = config.matching.head == "dual_encoder" and config.train.epochs
    return (lineage.epochs(lineage.DUAL_ENCODER, config.dual_encoder.epochs if with_dual_encoder else 0)
            + lineage.epochs("matching fine-tuned", config.train.epochs))


def records_of(bank: Bank, rows: np.ndarray, subcategory: str) -> candidates.Records:
    """What candidate lists are drawn from, over the given rows of the bank."""
    names = ("image_id", "product_id", "group", subcategory, "text")
    return candidates.Records(*[bank.column(name)[rows].tolist() for name in names])
