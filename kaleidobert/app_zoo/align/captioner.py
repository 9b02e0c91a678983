"""The captioner of ``kaleidobert align``: what it sees, its training, and its use on rows of a bank."""

from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from kaleidobert import configs
from kaleidobert.app_zoo import materials, models
from kaleidobert.app_zoo.align import word_grounding
from kaleidobert.app_zoo.align.word_grounding import Rows
from kaleidobert.app_zoo.materials import Choice
from kaleidobert.configs import AlignConfig
from kaleidobert.datasets import grid_features
from kaleidobert.datasets.bank.bank import Bank, sha256
from kaleidobert.datasets.sampling.captions import PAD, CaptionSampler, CaptionVocabulary
from kaleidobert.datasets.sampling.pretraining import hold_out, share_of_groups
from kaleidobert.engines import steps
from kaleidobert.engines.feeding import prefetch
from kaleidobert.engines.run_folder import Run, check_folder
from kaleidobert.engines.trainer import Goal, Trainer
from kaleidobert.errors import UserError
from kaleidobert.evaluators.report import plots
from kaleidobert.losses import captioning
from kaleidobert.model_zoo import checkpoints, grid_encoders
from kaleidobert.model_zoo.caption_decoder import Caption, Scorer, Writer, best
from kaleidobert.model_zoo.show_attend_tell import ShowAttendTell
from kaleidobert.model_zoo.word_grounding import WordGrounder


def settings(config: AlignConfig) -> dict[str, Any]:
    """The part of the configuration on which the captioner's weights depend: another mode or beam needs no other captioner."""
    own = {name: configs.to_dict(getattr(config, name)) for name in ("captioner", "train")}
    return word_grounding.settings(config) | own


def folder(config: AlignConfig) -> Path:
    """The run folder of the captioner, inside that of the command."""
    return config.run / "captioner"


def split_rows(config: AlignConfig, bank: Bank) -> Rows:
    """The rows to learn from, to choose by and to evaluate on; UserError where a split holds no text, or too few groups."""
    data, found = config.data, []
    train = share_of_groups(bank, bank.rows(data.train_split), data.train_share, config.train.seed)
    for name, rows in ((data.train_split, train), (data.val_split, bank.rows(data.val_split))):
        found.append(rows[(bank.token_words[rows] >= 0).any(1)])
        if not len(found[-1]):
            raise UserError(f"no picture of {name!r} has a text", str(bank.folder), "texts to learn captions from",
                            "map source.columns.text and make the bank again")
    kept, held = hold_out(bank, found[0], config.held_out, config.train.seed, "set held_out=0 and captioner.patience=0")
    return Rows(kept, held, found[1])


class CaptionerRun:
    """A captioner over a bank: ``train`` it, or load it where it is trained already; then score, write.

    Raises UserError where its folder holds a captioner with other settings.
    """

    def __init__(self, config: AlignConfig, bank: Bank):
        check_folder(folder(config), settings(config))
        self.config, self.bank, self.rows = config, bank, split_rows(config, bank)
        self.pieces = CaptionVocabulary(bank, self.rows.train, config.captioner.min_count)
        self.cells, self.feature_size = grid_encoders.describe(config.grid)
        self.tokenizer, self.model, self.grids = bank.tokenizer(), None, None
        self.cooccurrence = (
            word_grounding.cooccurrence_targets(config, bank, self.pieces, self.rows.train) if config.captioner.grounding else None
        )
        self.word_grounding = word_grounding.WordGroundingRun(config, bank, self.pieces, self.cooccurrence) if self.cooccurrence else None

    @property
    def choice(self) -> Choice:
        """By what the epochs of the word grounder and the captioner are chosen."""
        return materials.choice(self.bank, self.rows.held)

    def rates(self) -> list[str]:
        """The highest rates of learning, of the word grounder where there is one; UserError as models.pace, before anything is trained."""
        lengths = (self.pieces.encode(self.bank.token_ids[self.rows.train]) != PAD).sum(1)
        parts = [("word_grounding", self.config.word_grounding)] * bool(self.word_grounding) + [("train", self.config.train)]
        return [models.rate(train, int((lengths > 2).sum()), name) for name, train in parts]

    def look(self) -> None:
        """Make the grids of all pictures, as far as they are not there yet."""
        grid = self.config.grid
        place = folder(self.config) / "grids"
        Run(folder(self.config), settings(self.config))
        source = {"network": grid.network, "layers": list(grid_encoders.LAYERS.get(grid.network, ())),
                  "weights": sha256(grid.weights) if grid.weights else ""}
        frozen = grid.network != "small"
        with tqdm(total=self.bank.size, unit="picture", desc="grids") as bar:
            for count in grid_features.make(self.bank, grid.size, place, lambda: grid_encoders.build(grid).encode if frozen else np.asarray,
                                            source):
                bar.update(count)
        self.grids = grid_features.Grids(self.bank, place)

    def build(self, grounder: WordGrounder | None) -> ShowAttendTell:
        """A captioner with fresh weights, which looks with the word grounder's eyes where there is one."""
        options, grid = self.config.captioner, self.config.grid
        model = ShowAttendTell(
            self.pieces.size,
            self.feature_size,
            self.cells,
            grid.size if grid.network == "small" and not grounder else 0,
            options.hidden_size,
            options.embedding_size,
            options.attention_size,
            options.context_size,
            options.dropout,
            options.query,
            options.start,
            options.positions,
            grid_encoders.NEAR.get(grid.network, 0),
            grounder is not None,
            self.config.train.seed,
        )
        if grounder:
            model.follow(grounder)
        if grid.network != "small":
            model.adapt_features(word_grounding.sample(self.grids, self.rows.train))
        model.start_from(self.pieces.frequencies(self.bank.token_ids[self.rows.train]))
        return model

    def _find(self) -> WordGrounder | None:
        """The trained word grounder; a small encoder was trained along with it, and its cells are the captioner's grids from then on."""
        if not self.word_grounding:
            return None
        grounder = self.word_grounding.train(self.grids, self.rows)
        if grounder.encoder is not None:
            place = folder(self.config) / "cells"
            with tqdm(total=self.bank.size, unit="picture", desc="cells") as bar:
                for count in self.word_grounding.cells(grounder, place):
                    bar.update(count)
            self.grids = grid_features.Grids(self.bank, place)
        return grounder

    def train(self) -> None:
        """Train, or load what was trained; the weights with the best perplexity on what is held out stay, or the last."""
        config, run = self.config, Run(folder(self.config), settings(self.config))
        grounder = self._find()
        self.model = self.build(grounder)
        self._score, options = steps.forward(Scorer(self.model)), config.captioner
        sampler = self.sampler(self.rows.train, config.grid.augment and self.model.encoder is not None,
                               self.cooccurrence.content_mask if self.cooccurrence else None)
        optimizer, total = models.schedule(config.train, len(sampler.rows))

        def loss(outputs, targets, weights):
            written = weights["pieces"]
            parts = {"cross_entropy": captioning.cross_entropy(outputs["logits"], targets["pieces"], written),
                     "coverage": captioning.coverage(outputs["alpha"], written)}
            total = parts["cross_entropy"] + options.coverage * parts["coverage"]
            if options.grounding:
                parts["attention_distillation"] = captioning.attention_distillation(
                    outputs["word_attention"], outputs["alpha"], weights["content_mask"]
                )
                total = total + options.grounding * parts["attention_distillation"]
            return {"loss": total, **parts}

        trainer = Trainer(run, self.model, optimizer, models.origin(self.model, self.bank))
        judge, better, split = self.rows.judge
        goal = Goal(lambda: {"perplexity": self.perplexity(judge)}, "perplexity", better, config.captioner.patience, split)
        trainer.fit(sampler.batch, loss, goal, models.plan(config.train, total), config.train.clip_norm)
        checkpoints.restore(run.best, self.model)
        plots.loss_curves(run.metrics(), run.folder / "losses.png")

    def sampler(self, rows: np.ndarray, augment: bool = False, ask: Any = None) -> CaptionSampler:
        """Batches of rows with text."""
        train = self.config.train
        return CaptionSampler(self.bank, self.grids, self.pieces, rows, train.batch_size, train.seed, augment, ask)

    def score(self, rows: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """(log-likelihood f32[L], alpha f32[L, N]) of the L pieces, the end included, of each row's own text."""
        sampler, found, size = self.sampler(self.rows.train), [], self.config.predict_batch_size
        for inputs, targets, weights in prefetch(lambda start: sampler.examples(rows[start : start + size]), range(0, len(rows), size)):
            outputs = self._score({**inputs, "next_tokens": targets["pieces"]})
            for row, length in enumerate(weights["pieces"].sum(1).astype(int)):
                found.append((outputs["log_likelihood"][row, :length], outputs["alpha"][row, :length]))
        return found

    def perplexity(self, rows: np.ndarray) -> float:
        """exp of the mean cross-entropy of the rows' pieces, ends included."""
        by_length = rows[np.argsort((self.bank.token_words[rows] >= 0).sum(1), kind="stable")]  # less padding
        return float(np.exp(-np.concatenate([likelihood for likelihood, _ in self.score(by_length)]).mean()))

    def writer(self) -> Any:
        """rows -> their captions, by beam search."""
        decoding = self.config.decoding
        write = steps.forward(Writer(self.model, decoding.num_beams, decoding.max_length or self.bank.text_length - 1))

        def captions(rows: np.ndarray) -> list[Caption]:
            pictures = self.grids.gather(rows)
            return best(write({"picture" if pictures.ndim == 4 else "grid": pictures}), decoding.length_penalty)

        return captions
