"""The first half of ``kaleidobert align``: single words learn where to look, before a captioner looks with their eyes.

    run/word_grounding/    the word grounder's run folder
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kaleidobert import configs
from kaleidobert.app_zoo import models
from kaleidobert.app_zoo.align import words
from kaleidobert.configs import AlignConfig
from kaleidobert.datasets import grid_features
from kaleidobert.datasets.bank.bank import Bank, sha256
from kaleidobert.datasets.grid_features import Grids
from kaleidobert.datasets.sampling.captions import CaptionSampler, CaptionVocabulary
from kaleidobert.datasets.sampling.cooccurrence import WordCooccurrenceTargets
from kaleidobert.engines import steps
from kaleidobert.engines.feeding import prefetch
from kaleidobert.engines.run_folder import Run, check_folder
from kaleidobert.engines.trainer import HELD_OUT, VAL, Goal, Trainer
from kaleidobert.evaluators.report import plots
from kaleidobert.losses import captioning
from kaleidobert.model_zoo import checkpoints, grid_encoders
from kaleidobert.model_zoo.word_grounding import Cells, WordGrounder

SAMPLE = 256  # training pictures by which the features of frozen networks are brought to one scale
OF_CAPTIONER = ("attention_size", "context_size", "dropout", "min_count", "patience")  # options that both share


def settings(config: AlignConfig) -> dict[str, Any]:
    """The part of the configuration on which the word grounder's weights depend."""
    parts = {name: configs.to_dict(getattr(config, name)) for name in ("data", "grid", "word_grounding", "held_out", "subcategory")}
    parts["grid"].pop("keep")
    captioner = configs.to_dict(config.captioner)
    return parts | {"captioner": {name: captioner[name] for name in OF_CAPTIONER}}


def folder(config: AlignConfig) -> Path:
    """The run folder of the word grounder, inside that of the command."""
    return config.run / "word_grounding"


@dataclass(frozen=True)
class Rows:
    """Rows of a bank whose text says something: to train on, held out of the training split (maybe none), of the validation split."""

    train: np.ndarray
    held: np.ndarray
    val: np.ndarray

    @property
    def judge(self) -> tuple[np.ndarray, bool | None, str]:
        """What is evaluated after every epoch, and Goal's higher_is_better and split: what is held out chooses by a loss or perplexity,
        the validation split chooses nothing."""
        return (self.held, False, HELD_OUT) if len(self.held) else (self.val, None, VAL)


def cooccurrence_targets(config: AlignConfig, bank: Bank, pieces: CaptionVocabulary, rows: np.ndarray) -> WordCooccurrenceTargets:
    """What the texts of training ``rows`` say of their words; a bank without the label is one subcategory."""
    labels = [row["labels"].get(config.subcategory, "") for row in bank.table]
    groups = np.unique(np.array(labels), return_inverse=True)[1]
    texts = [words.plain(text).lower() for text in bank.tokenizer().pieces(pieces.bank_ids)]
    return WordCooccurrenceTargets(pieces.encode(bank.token_ids), pieces, texts, groups, rows)


def sample(grids: Grids, rows: np.ndarray) -> np.ndarray:
    """Grids of a sample of training rows."""
    return grids.gather(rows[:: -(-len(rows) // SAMPLE)])


class WordGroundingRun:
    """Training of the word grounder on a bank; raises UserError where its folder holds one with other settings."""

    def __init__(self, config: AlignConfig, bank: Bank, pieces: CaptionVocabulary, targets: WordCooccurrenceTargets):
        check_folder(folder(config), settings(config))
        self.config, self.bank, self.pieces, self.targets = config, bank, pieces, targets

    def train(self, grids: Grids, rows: Rows) -> WordGrounder:
        """Train, or load what was trained; the weights that tell most of the held-out texts stay, without such the last ones."""
        config, bank, grid, train = self.config, self.bank, self.config.grid, self.config.word_grounding
        run, model = Run(folder(config), settings(config)), self.build()
        if grid.network != "small":
            model.adapt_features(sample(grids, rows.train))

        def sampler(chosen: np.ndarray, augment: bool) -> CaptionSampler:
            return CaptionSampler(bank, grids, self.pieces, chosen, train.batch_size, train.seed, augment, self.targets.arrays)

        def loss(outputs, targets, weights):
            cooccurrence, presence = captioning.grounding_loss(outputs, targets, weights)
            return {"loss": cooccurrence + presence, "cooccurrence": cooccurrence, "presence": presence}

        batches = sampler(rows.train, grid.augment and grid.network == "small")
        optimizer, total = models.schedule(train, len(batches.rows), "word_grounding")
        judge, better, split = rows.judge
        goal = Goal(evaluator(model, sampler(judge, False)), "loss", better, config.captioner.patience, split)
        trainer = Trainer(run, model, optimizer, models.origin(model, bank))
        trainer.fit(batches.batch, loss, goal, models.plan(train, total), train.clip_norm)
        checkpoints.restore(run.best, model)
        plots.loss_curves(run.metrics(), run.folder / "losses.png")
        return model

    def build(self) -> WordGrounder:
        """A word grounder with fresh weights."""
        grid, options = self.config.grid, self.config.captioner
        cells, feature_size = grid_encoders.describe(grid)
        return WordGrounder(
            self.pieces.size,
            feature_size,
            len(self.targets.context_words),
            cells,
            grid.size if grid.network == "small" else 0,
            grid_encoders.NEAR.get(grid.network, 0),
            options.attention_size,
            options.context_size,
            options.dropout,
            self.config.word_grounding.seed,
        )

    def cells(self, model: WordGrounder, place: Path) -> Iterator[int]:
        """Keep what the word grounder's own encoder sees of every picture in ``place``; yields the number of pictures done."""
        encode = steps.forward(Cells(model))
        size = self.config.predict_batch_size

        def kept(pictures: np.ndarray) -> np.ndarray:
            parts = [encode({"picture": pictures[i : i + size]})["cells"] for i in range(0, len(pictures), size)]
            return np.concatenate(parts).astype(np.float16)

        return grid_features.make(self.bank, self.config.grid.size, place, lambda: kept,
                                  {"word_grounding": sha256(folder(self.config) / "best.npz")})


def evaluator(model: WordGrounder, sampler: CaptionSampler):
    """A function () -> {"loss", "cooccurrence", "presence"} over all rows of the sampler, without dropout."""
    forward, size = steps.forward(model), sampler.batch_size

    def evaluate() -> dict[str, float]:
        sums, asked = np.zeros(2), 0.0
        for inputs, targets, weights in prefetch(lambda start: sampler.questions(sampler.rows[start : start + size]),
                                                 range(0, len(sampler.rows), size)):
            number = float(weights["cooccurrence_labels"].sum())
            sums += number * np.array([float(part) for part in captioning.grounding_loss(forward(inputs), targets, weights)])
            asked += number
        cooccurrence, presence = sums / max(asked, 1.0)
        return {"loss": float(cooccurrence + presence), "cooccurrence": float(cooccurrence), "presence": float(presence)}

    return evaluate
