"""The first half of ``kaleidobert align``: single words learn where to look, before a captioner looks with their eyes (ours)."""

from collections.abc import Callable

import numpy as np
from tqdm import tqdm

from kaleidobert.app_zoo import models, training
from kaleidobert.app_zoo.align.task import Task, captioner_folder, grounder_folder, grounder_settings
from kaleidobert.datasets import grid_features
from kaleidobert.datasets.bank.bank import sha256
from kaleidobert.datasets.grid_features import Grids
from kaleidobert.datasets.sampling.captions import CaptionSampler
from kaleidobert.engines import steps
from kaleidobert.engines.feeding import prefetch
from kaleidobert.engines.run_folder import Run
from kaleidobert.engines.trainer import Goal
from kaleidobert.losses import captioning
from kaleidobert.model_zoo.word_grounding import Cells, WordGrounder
from kaleidobert.preprocessors.grid_encoders import GRID_ENCODERS

SAMPLE = 256  # training pictures by which the features of frozen networks are brought to one scale


def train(task: Task, grids: Grids) -> WordGrounder:
    """Train, or load what was trained; the weights that tell most of the held-out texts stay, without such the last ones."""
    config, options = task.config, task.config.word_grounding
    run, model = Run(grounder_folder(config), grounder_settings(config)), build(task)
    if not task.sees_pictures:
        model.adapt_features(sample(grids, task.rows.train))

    assert task.targets is not None  # there is one for every word grounder
    arrays = task.targets.arrays

    def sampler(rows: np.ndarray, augment: bool) -> CaptionSampler:
        return CaptionSampler(task.bank, grids, task.vocabulary, rows, options.batch_size, options.seed, augment, arrays)

    def loss(outputs, targets, weights):
        cooccurrence, presence = captioning.grounding_loss(outputs, targets, weights)
        return {"loss": cooccurrence + presence, "cooccurrence": cooccurrence, "presence": presence}

    batches = sampler(task.rows.train, config.grid.augment and task.sees_pictures)
    work = models.schedule(options, len(batches.rows), "word_grounding")
    judge, better, split = task.rows.judge
    goal = Goal(_evaluator(model, sampler(judge, False)), "loss", better, config.captioner.patience, split)
    training.fit(run, model, models.origin(model, task.bank), options, work, batches.batch, loss, goal)
    return model


def build(task: Task) -> WordGrounder:
    """A word grounder with fresh weights."""
    assert task.targets is not None  # there is one for every word grounder
    grid, options = task.config.grid, task.config.captioner
    return WordGrounder(task.vocabulary.size, task.feature_size, len(task.targets.context_words), task.cells,
                        grid.size if task.sees_pictures else 0, GRID_ENCODERS[grid.network].near_features, options.attention_size,
                        options.context_size, options.dropout, task.config.word_grounding.seed)


def extract_cells(task: Task, model: WordGrounder) -> Grids:
    """What the word grounder's own encoder sees of every picture, as far as it is not there yet."""
    encode, size, place = steps.forward(Cells(model)), task.config.predict_batch_size, captioner_folder(task.config) / "cells"

    def cells(pictures: np.ndarray) -> np.ndarray:
        parts = [encode({"picture": pictures[i : i + size]})["cells"] for i in range(0, len(pictures), size)]
        return np.concatenate(parts).astype(np.float16)

    source = {"word_grounding": sha256(grounder_folder(task.config) / "best.npz")}
    with tqdm(total=task.bank.size, unit="picture", desc="cells") as bar:
        for count in grid_features.make(task.bank, task.config.grid.size, place, lambda: cells, source):
            bar.update(count)
    return Grids(task.bank, place)


def sample(grids: Grids, rows: np.ndarray) -> np.ndarray:
    """Grids of a sample of training rows."""
    return grids.gather(rows[:: -(-len(rows) // SAMPLE)])


def _evaluator(model: WordGrounder, sampler: CaptionSampler) -> Callable[[], dict[str, float]]:
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
