"""The captioner of ``kaleidobert align`` and its word grounder (ours): their training and their use on rows of a bank."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from kaleidobert import io
from kaleidobert.app_zoo import models, training
from kaleidobert.app_zoo.align.task import (
    CaptionTask,
    WordMaps,
    captioner_folder,
    captioner_settings,
    extract_grid_features,
    grounder_folder,
    grounder_settings,
)
from kaleidobert.app_zoo.caption.writing import simple_captions
from kaleidobert.datasets import grid_features
from kaleidobert.datasets.grid_features import Grids
from kaleidobert.datasets.sampling.captions import CaptionSampler
from kaleidobert.engines import steps
from kaleidobert.engines.feeding import prefetch
from kaleidobert.engines.run_folder import Run
from kaleidobert.engines.trainer import Goal
from kaleidobert.evaluators import captions as captioning
from kaleidobert.io import sha256
from kaleidobert.losses import auxiliary
from kaleidobert.model_zoo.show_attend_tell import Caption, Scorer, ShowAttendTell, Writer, best
from kaleidobert.model_zoo.word_grounding import Cells, WordGrounder
from kaleidobert.preprocessors import alignment_generator
from kaleidobert.preprocessors.encoders import GRID_ENCODERS
from kaleidobert.preprocessors.tokenization import join_pieces, words_of_text


class Captioner:
    """A captioner and what it sees: a Linker by its attention. Scores the texts of rows, and writes captions for them."""

    def __init__(self, task: CaptionTask, grids: Grids, model: ShowAttendTell):
        self.task, self.grids, self.model, self.side, self.network = task, grids, model, task.cells, "captioner"
        self.weights = captioner_folder(task.config) / "best.npz"
        self._score = steps.forward(Scorer(model))
        self._writer: Callable[[np.ndarray], list[Caption]] | None = None

    def maps(self, rows: np.ndarray) -> list[WordMaps]:
        """Returns the maps of the words of the rows' texts, and beside them what the captioner wrote."""
        task, tokenizer, self._writer = self.task, self.task.bank.tokenizer(), self._writer or self.writer()
        bank, config, result = task.bank, task.config, []
        scores = self.score(rows) if config.mode == "teacher_forced" else None
        after = config.captioner.query == "word"  # with the query "word" the attention finds a word after the word was read
        for number, (row, caption) in enumerate(zip(rows, self._writer(rows))):
            words = words_of_text(tokenizer.pieces(bank.token_ids[row]), bank.token_words[row])
            written = join_pieces(tokenizer.pieces(task.vocabulary.bank_ids[caption.pieces]))
            if scores is not None:
                own = alignment_generator.teacher_forced_maps(words, scores[number][1], after, config.regions.content_only)
            else:
                own = alignment_generator.generated_maps(words, written, caption.alpha, after, config.regions.content_only)
            result.append(WordMaps(words, *own, {"caption": " ".join(word.text for word in written),
                                                 "log_likelihood": round(caption.score, 4)}))
        return result

    def report(self, notes: list[dict], folder: Path) -> dict[str, Any]:
        """Returns {"metrics", "baselines", ...} of the captions of the first picture of every validation product; writes captions.csv."""
        config, bank = self.task.config, self.task.bank
        rows = training.first_of_products(bank, self.task.rows.val)
        references = [[notes[row]["words"]] for row in rows]
        captions = {"caption": [notes[row]["caption"].split() for row in rows]}
        if config.baselines:
            train = np.union1d(self.task.rows.train, self.task.rows.held)
            simple = simple_captions(bank, train, [" ".join(notes[row]["words"]) for row in train], rows, config.subcategory)
            captions |= {name: [text.split() for text in texts] for name, texts in simple.items()}
        report = {name: {"bleu4": captioning.bleu(result, references), "cider_d": float(captioning.cider_d(result, references).mean())}
                  for name, result in captions.items()}
        metrics = {"perplexity": self.perplexity(self.task.rows.val), **report.pop("caption"),
                   "different_captions": len({" ".join(words) for words in captions["caption"]})}
        io.write_csv(folder / "captions.csv", ["image_id", "text", *captions],
                     ([notes[row]["image_id"], " ".join(notes[row]["words"]), *(" ".join(result[number]) for result in captions.values())]
                      for number, row in enumerate(rows)))
        return {"metrics": metrics, "baselines": report, "products": len(rows), "vocabulary": self.task.vocabulary.size}

    def summary(self, report: dict[str, Any]) -> str:
        """Returns a report in a line."""
        metrics = report["metrics"]
        return (f"captions of {report['products']:,} {self.task.config.data.val_split!r} products: perplexity {metrics['perplexity']:.2f}, "
                f"BLEU-4 {metrics['bleu4']:.4f}, CIDEr-D {metrics['cider_d']:.3f}, {metrics['different_captions']:,} different"
                + "".join(f"; {name} {values['bleu4']:.4f}, {values['cider_d']:.3f}" for name, values in report["baselines"].items()))

    def sampler(self, rows: np.ndarray, augment: bool = False, word_targets: Any = None) -> CaptionSampler:
        """Returns batches of rows with text."""
        task, train = self.task, self.task.config.train
        return CaptionSampler(task.bank, self.grids, task.vocabulary, rows, train.batch_size, train.seed, augment, word_targets)

    def score(self, rows: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Returns (log-likelihood f32[L], alpha f32[L, N]) of the L pieces, the end included, of each row's own text."""
        sampler, result, size = self.sampler(self.task.rows.train), [], self.task.config.predict_batch_size
        for inputs, targets, weights in prefetch(lambda start: sampler.examples(rows[start : start + size]), range(0, len(rows), size)):
            outputs = self._score({**inputs, "next_tokens": targets["pieces"]})
            for row, length in enumerate(weights["pieces"].sum(1).astype(int)):
                result.append((outputs["log_likelihood"][row, :length], outputs["alpha"][row, :length]))
        return result

    def perplexity(self, rows: np.ndarray) -> float:
        """Returns exp of the mean cross-entropy of the rows' pieces, ends included."""
        by_length = rows[np.argsort((self.task.bank.token_words[rows] >= 0).sum(1), kind="stable")]  # less padding
        return float(np.exp(-np.concatenate([likelihood for likelihood, _ in self.score(by_length)]).mean()))

    def writer(self) -> Callable[[np.ndarray], list[Caption]]:
        """Returns a function of rows that writes their captions by beam search."""
        decoding = self.task.config.decoding
        write = steps.forward(Writer(self.model, decoding.num_beams, decoding.max_length or self.task.bank.text_length - 1))

        def captions(rows: np.ndarray) -> list[Caption]:
            pictures = self.grids.gather(rows)
            return best(write({"picture" if pictures.ndim == 4 else "grid": pictures}), decoding.length_penalty)

        return captions


def train(task: CaptionTask) -> Captioner:
    """Trains captioner and word grounder, or loads what was trained."""
    grids, grounder = extract_grid_features(task), None
    if task.targets:
        grounder = train_grounder(task, grids)
        if grounder.encoder is not None:  # trained along; the captioner sees its cells from then on
            grids = extract_cells(task, grounder)
    return train_captioner(task, grids, grounder)


def build_captioner(task: CaptionTask, grids: Grids, grounder: WordGrounder | None) -> ShowAttendTell:
    """Returns a captioner with fresh weights, with the word grounder's cells where there is one."""
    options, grid = task.config.captioner, task.config.grid
    model = ShowAttendTell(task.vocabulary.size, task.feature_size, task.cells, grid.size if task.sees_pictures and not grounder else 0,
                           options.hidden_size, options.embedding_size, options.attention_size, options.context_size, options.dropout,
                           options.query, options.start, options.positions, GRID_ENCODERS[grid.network].near_features,
                           grounder is not None, task.config.train.seed)
    if grounder:
        model.copy_word_attention(grounder)
    if not task.sees_pictures:
        model.adapt_features(sample(grids, task.rows.train))
    model.set_frequencies(task.vocabulary.frequencies(task.bank.token_ids[task.rows.train]))
    return model


def train_captioner(task: CaptionTask, grids: Grids, grounder: WordGrounder | None) -> Captioner:
    """Trains the captioner, or loads what was trained; keeps the weights with the best held-out perplexity, else the last."""
    config, options, run = task.config, task.config.captioner, Run(captioner_folder(task.config), captioner_settings(task.config))
    captioner = Captioner(task, grids, build_captioner(task, grids, grounder))
    sampler = captioner.sampler(task.rows.train, config.grid.augment and captioner.model.encoder is not None,
                                task.targets.content_mask if task.targets else None)
    work = models.schedule(config.train, len(sampler.rows))

    def loss(outputs, targets, weights):
        written = weights["pieces"]
        terms = {"cross_entropy": auxiliary.caption_cross_entropy(outputs["logits"], targets["pieces"], written),
                 "coverage": auxiliary.coverage(outputs["alpha"], written)}
        total = terms["cross_entropy"] + options.coverage * terms["coverage"]
        if options.grounding:
            terms["attention_distillation"] = auxiliary.attention_distillation(outputs["word_attention"], outputs["alpha"],
                                                                                weights["content_mask"])
            total = total + options.grounding * terms["attention_distillation"]
        return {"loss": total, **terms}

    judge, better, split = task.rows.judge
    goal = Goal(lambda: {"perplexity": captioner.perplexity(judge)}, "perplexity", better, options.patience, split)
    training.fit(run, captioner.model, models.origin(captioner.model, task.bank), config.train, work, sampler.batch, loss, goal)
    return captioner


# --- The word grounder: single words learn where to look, before a captioner looks with their eyes (ours)


SAMPLE = 256  # training pictures by which the features of frozen networks are brought to one scale


def train_grounder(task: CaptionTask, grids: Grids) -> WordGrounder:
    """Trains the word grounder, or loads what was trained; keeps the weights with the smallest held-out loss, else the last."""
    config, options = task.config, task.config.word_grounding
    run, model = Run(grounder_folder(config), grounder_settings(config)), build_grounder(task)
    if not task.sees_pictures:
        model.adapt_features(sample(grids, task.rows.train))

    assert task.targets is not None  # there is one for every word grounder
    arrays = task.targets.arrays

    def sampler(rows: np.ndarray, augment: bool) -> CaptionSampler:
        return CaptionSampler(task.bank, grids, task.vocabulary, rows, options.batch_size, options.seed, augment, arrays)

    def loss(outputs, targets, weights):
        cooccurrence, presence = auxiliary.grounding_loss(outputs, targets, weights)
        return {"loss": cooccurrence + presence, "cooccurrence": cooccurrence, "presence": presence}

    batches = sampler(task.rows.train, config.grid.augment and task.sees_pictures)
    work = models.schedule(options, len(batches.rows), "word_grounding")
    judge, better, split = task.rows.judge
    goal = Goal(_evaluator(model, sampler(judge, False)), "loss", better, config.captioner.patience, split)
    training.fit(run, model, models.origin(model, task.bank), options, work, batches.batch, loss, goal)
    return model


def build_grounder(task: CaptionTask) -> WordGrounder:
    """Returns a word grounder with fresh weights."""
    assert task.targets is not None  # there is one for every word grounder
    grid, options = task.config.grid, task.config.captioner
    return WordGrounder(task.vocabulary.size, task.feature_size, len(task.targets.context_words), task.cells,
                        grid.size if task.sees_pictures else 0, GRID_ENCODERS[grid.network].near_features, options.attention_size,
                        options.context_size, options.dropout, task.config.word_grounding.seed)


def extract_cells(task: CaptionTask, model: WordGrounder) -> Grids:
    """Returns what the word grounder's own encoder sees of every picture, as far as it is not there yet."""
    encode, size, folder = steps.forward(Cells(model)), task.config.predict_batch_size, captioner_folder(task.config) / "cells"

    def cells(pictures: np.ndarray) -> np.ndarray:
        chunks = [encode({"picture": pictures[i : i + size]})["cells"] for i in range(0, len(pictures), size)]
        return np.concatenate(chunks).astype(np.float16)

    source = {"word_grounding": sha256(grounder_folder(task.config) / "best.npz")}
    with tqdm(total=task.bank.size, unit="picture", desc="cells") as bar:
        for count in grid_features.make(task.bank, task.config.grid.size, folder, lambda: cells, source):
            bar.update(count)
    return Grids(task.bank, folder)


def sample(grids: Grids, rows: np.ndarray) -> np.ndarray:
    """Returns the grids of a sample of training rows."""
    return grids.gather(rows[:: -(-len(rows) // SAMPLE)])


def _evaluator(model: WordGrounder, sampler: CaptionSampler) -> Callable[[], dict[str, float]]:
    """Returns a function () -> {"loss", "cooccurrence", "presence"} over all rows of the sampler, without dropout."""
    forward, size = steps.forward(model), sampler.batch_size

    def evaluate() -> dict[str, float]:
        sums, wanted = np.zeros(2), 0.0
        for inputs, targets, weights in prefetch(lambda start: sampler.with_word_targets(sampler.rows[start : start + size]),
                                                 range(0, len(sampler.rows), size)):
            number = float(weights["cooccurrence_labels"].sum())
            sums += number * np.array([float(chunk) for chunk in auxiliary.grounding_loss(forward(inputs), targets, weights)])
            wanted += number
        cooccurrence, presence = sums / max(wanted, 1.0)
        return {"loss": float(cooccurrence + presence), "cooccurrence": float(cooccurrence), "presence": float(presence)}

    return evaluate
