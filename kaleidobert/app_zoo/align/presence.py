"""Word presence in ``kaleidobert align`` (ours): its training on the bank's own patches, and the maps of words that it gives."""

from pathlib import Path
from typing import Any

import numpy as np

from kaleidobert.app_zoo import models, training
from kaleidobert.app_zoo.align.task import PresenceTask, WordMaps, presence_folder, presence_settings
from kaleidobert.datasets.sampling.word_presence import PresenceSampler
from kaleidobert.engines import steps
from kaleidobert.engines.run_folder import Run
from kaleidobert.engines.trainer import Goal
from kaleidobert.evaluators import retrieval
from kaleidobert.losses import auxiliary
from kaleidobert.model_zoo.word_presence import Evidence, WordPresence
from kaleidobert.preprocessors import alignment_generator


class Presence:
    """Trained word presence: a Linker by the evidence of patches for the terms of a text."""

    def __init__(self, task: PresenceTask, sampler: PresenceSampler, model: WordPresence):
        self.task, self.model, self.side, self.network = task, model, alignment_generator.MAP_SIDE, "word presence"
        self.weights = presence_folder(task.config) / "best.npz"
        self._sampler, self._evidence, self._presence = sampler, steps.forward(Evidence(model)), steps.forward(model)
        self._usual: np.ndarray | None = None

    def maps(self, rows: np.ndarray) -> list[WordMaps]:
        """Returns the maps of the content words of the rows' texts that have a known term."""
        usual = self._usual = self.usual() if self._usual is None else self._usual
        evidence, vocabulary, result = self._evidence(self._sampler.inputs(rows))["evidence"] + usual, self.task.vocabulary, []
        grids = [level.grid for level in self._sampler.levels]
        for number, row in enumerate(rows):
            words, columns = vocabulary.words(row), vocabulary.columns(row)
            own = sorted({column for of_word in columns for column in of_word})
            local = {column: position for position, column in enumerate(own)}
            maps, known = alignment_generator.evidence_maps(
                evidence[number][:, own], [[local[column] for column in of_word] for of_word in columns], grids)
            result.append(WordMaps(words, maps, known, {"caption": ""}))
        return result

    def usual(self) -> np.ndarray:
        """Returns f32[N, V]: the mean evidence of each patch for each term in the training pictures whose text has it, less that in the
        others: where the term usually is."""
        rows, size, sums = self._sampler.rows, self.task.config.predict_batch_size, [0.0, 0.0]
        for start in range(0, len(rows), size):
            chunk = rows[start : start + size]
            evidence, labels = self._evidence(self._sampler.inputs(chunk))["evidence"], self._sampler.labels(chunk)
            for number, weights in enumerate((labels, 1 - labels)):
                sums[number] = sums[number] + np.einsum("bnv,bv->nv", evidence, weights, optimize=True)
        having = len(rows) * self._sampler.frequencies()
        with_term, without = sums
        return (with_term / np.maximum(having, 1) - without / np.maximum(len(rows) - having, 1)).astype(np.float32)

    def report(self, notes: list[dict], folder: Path) -> dict[str, Any]:
        """Returns {"metrics", "baselines", ...}: how well the pictures of the validation split tell which terms their texts have, beside
        the terms' frequencies in the training texts."""
        judge = PresenceSampler(self.task.bank, self.task.vocabulary, self.task.rows.val, 1, 0)
        frequencies = np.clip(self._sampler.frequencies(), 1e-3, 1 - 1e-3)
        labels, logits = judge.labels(judge.rows), self._logits(judge)
        usual = np.broadcast_to(np.log(frequencies / (1 - frequencies)), labels.shape)
        return {"metrics": _quality(logits, labels), "baselines": {"frequencies": _quality(usual, labels)}, "pictures": len(labels),
                "vocabulary": self.task.vocabulary.size}

    def summary(self, report: dict[str, Any]) -> str:
        """Returns a report in a line."""
        return (f"which of {report['vocabulary']:,} terms the texts of {report['pictures']:,} {self.task.config.data.val_split!r} pictures "
                "have: " + "; ".join(f"{name} average precision {values['average_precision']:.3f}, cross-entropy "
                                     f"{values['cross_entropy']:.2f} per picture"
                                     for name, values in (("word presence", report["metrics"]), *report["baselines"].items())))

    def _logits(self, sampler: PresenceSampler) -> np.ndarray:
        """Returns f32[n, V] of all rows of a sampler, the mean over the members."""
        rows, size = sampler.rows, self.task.config.predict_batch_size
        return np.concatenate([self._presence(sampler.inputs(rows[start : start + size]))["presence"].mean(1)
                               for start in range(0, len(rows), size)])


def train(task: PresenceTask) -> Presence:
    """Trains word presence, or loads what was trained; the last step is kept.

    A held-out loss would choose an early step: the presence of terms overfits long before the evidence has found its patches.
    """
    config, settings = task.config.word_presence, presence_settings(task.config)
    run, sampler = Run(presence_folder(task.config), settings), PresenceSampler(
        task.bank, task.vocabulary, task.rows.train, config.batch_size, config.seed)
    presence = Presence(task, sampler, build(task, sampler))

    def loss(outputs, targets, weights):
        return {"loss": auxiliary.presence_loss(outputs["presence"], targets["presence"])}

    judge = PresenceSampler(task.bank, task.vocabulary, task.rows.val, config.batch_size, config.seed)
    goal = Goal(lambda: _quality(presence._logits(judge), judge.labels(judge.rows)), "cross_entropy", None)
    meta = models.origin(presence.model, task.bank) | {"terms": task.vocabulary.names}
    work = models.schedule(config, len(task.rows.train), "word_presence")
    training.fit(run, presence.model, meta, config, work, sampler.batch, loss, goal)
    return presence


def build(task: PresenceTask, sampler: PresenceSampler) -> WordPresence:
    """Returns the network with fresh weights, and the scale of the features and the frequencies of the terms as in training."""
    config = task.config.word_presence
    model = WordPresence(task.vocabulary.size, task.bank.feature_size, sampler.num_cells, config.hidden_size, config.members,
                         config.sharpness, config.competition, config.dropout, config.seed)
    model.adapt_features(sampler.inputs(models.sample(task.rows.train))["cells"])
    model.set_frequencies(sampler.frequencies())
    return model


def _quality(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Returns {"cross_entropy": the mean over pictures of the sum over terms, "average_precision": of the terms that some picture has and
    some lacks, the mean of the average precision with which their pictures come first}."""
    entropy = np.maximum(logits, 0) - logits * labels + np.log1p(np.exp(-np.abs(logits)))
    open_terms = (labels.max(0) > 0) & (labels.min(0) < 1)
    precision = retrieval.average_precision(logits.T[open_terms], labels.T[open_terms] > 0)
    return {"cross_entropy": float(entropy.sum(1).mean()), "average_precision": float(precision.mean()) if open_terms.any() else 0.0}
