"""The captioner of ``kaleidobert align``: its training, and its use on rows of a bank."""

from collections.abc import Callable
from typing import Any

import numpy as np

from kaleidobert.app_zoo import models, training
from kaleidobert.app_zoo.align import word_grounding
from kaleidobert.app_zoo.align.task import Task, captioner_folder, captioner_settings
from kaleidobert.datasets.grid_features import Grids
from kaleidobert.datasets.sampling.captions import CaptionSampler
from kaleidobert.engines import steps
from kaleidobert.engines.feeding import prefetch
from kaleidobert.engines.run_folder import Run
from kaleidobert.engines.trainer import Goal
from kaleidobert.losses import captioning
from kaleidobert.model_zoo.caption_decoder import Caption, Scorer, Writer, best
from kaleidobert.model_zoo.show_attend_tell import ShowAttendTell
from kaleidobert.model_zoo.word_grounding import WordGrounder
from kaleidobert.preprocessors.grid_encoders import GRID_ENCODERS


class Captioner:
    """A captioner and what it sees: scores the texts of rows, and writes captions for them."""

    def __init__(self, task: Task, grids: Grids, model: ShowAttendTell):
        self.task, self.grids, self.model = task, grids, model
        self._score = steps.forward(Scorer(model))

    def sampler(self, rows: np.ndarray, augment: bool = False, ask: Any = None) -> CaptionSampler:
        """Batches of rows with text."""
        task, train = self.task, self.task.config.train
        return CaptionSampler(task.bank, self.grids, task.vocabulary, rows, train.batch_size, train.seed, augment, ask)

    def score(self, rows: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """(log-likelihood f32[L], alpha f32[L, N]) of the L pieces, the end included, of each row's own text."""
        sampler, found, size = self.sampler(self.task.rows.train), [], self.task.config.predict_batch_size
        for inputs, targets, weights in prefetch(lambda start: sampler.examples(rows[start : start + size]), range(0, len(rows), size)):
            outputs = self._score({**inputs, "next_tokens": targets["pieces"]})
            for row, length in enumerate(weights["pieces"].sum(1).astype(int)):
                found.append((outputs["log_likelihood"][row, :length], outputs["alpha"][row, :length]))
        return found

    def perplexity(self, rows: np.ndarray) -> float:
        """exp of the mean cross-entropy of the rows' pieces, ends included."""
        by_length = rows[np.argsort((self.task.bank.token_words[rows] >= 0).sum(1), kind="stable")]  # less padding
        return float(np.exp(-np.concatenate([likelihood for likelihood, _ in self.score(by_length)]).mean()))

    def writer(self) -> Callable[[np.ndarray], list[Caption]]:
        """rows -> their captions, by beam search."""
        decoding = self.task.config.decoding
        write = steps.forward(Writer(self.model, decoding.num_beams, decoding.max_length or self.task.bank.text_length - 1))

        def captions(rows: np.ndarray) -> list[Caption]:
            pictures = self.grids.gather(rows)
            return best(write({"picture" if pictures.ndim == 4 else "grid": pictures}), decoding.length_penalty)

        return captions


def build(task: Task, grids: Grids, grounder: WordGrounder | None) -> ShowAttendTell:
    """A captioner with fresh weights, which looks with the word grounder's eyes where there is one."""
    options, grid = task.config.captioner, task.config.grid
    model = ShowAttendTell(task.vocabulary.size, task.feature_size, task.cells, grid.size if task.sees_pictures and not grounder else 0,
                           options.hidden_size, options.embedding_size, options.attention_size, options.context_size, options.dropout,
                           options.query, options.start, options.positions, GRID_ENCODERS[grid.network].near_features,
                           grounder is not None, task.config.train.seed)
    if grounder:
        model.follow(grounder)
    if not task.sees_pictures:
        model.adapt_features(word_grounding.sample(grids, task.rows.train))
    model.start_from(task.vocabulary.frequencies(task.bank.token_ids[task.rows.train]))
    return model


def train(task: Task, grids: Grids, grounder: WordGrounder | None) -> Captioner:
    """Train, or load what was trained; the weights with the best perplexity on what is held out stay, or the last."""
    config, options, run = task.config, task.config.captioner, Run(captioner_folder(task.config), captioner_settings(task.config))
    captioner = Captioner(task, grids, build(task, grids, grounder))
    sampler = captioner.sampler(task.rows.train, config.grid.augment and captioner.model.encoder is not None,
                                task.targets.content_mask if task.targets else None)
    work = models.schedule(config.train, len(sampler.rows))

    def loss(outputs, targets, weights):
        written = weights["pieces"]
        parts = {"cross_entropy": captioning.cross_entropy(outputs["logits"], targets["pieces"], written),
                 "coverage": captioning.coverage(outputs["alpha"], written)}
        total = parts["cross_entropy"] + options.coverage * parts["coverage"]
        if options.grounding:
            parts["attention_distillation"] = captioning.attention_distillation(outputs["word_attention"], outputs["alpha"],
                                                                                weights["content_mask"])
            total = total + options.grounding * parts["attention_distillation"]
        return {"loss": total, **parts}

    judge, better, split = task.rows.judge
    goal = Goal(lambda: {"perplexity": captioner.perplexity(judge)}, "perplexity", better, options.patience, split)
    training.fit(run, captioner.model, models.origin(captioner.model, task.bank), config.train, work, sampler.batch, loss, goal)
    return captioner
