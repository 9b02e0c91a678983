"""What ``kaleidobert align`` works on: the bank, its rows, and for a captioner its vocabulary and the targets of words.

    run/presence/          the run folder of word presence, in mode word_presence
        word_grounding/    the word grounder's run folder, in the other modes, as all that follows
        captioner/         the captioner's run folder; grids/ and cells/ in it hold what it sees of every picture
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from kaleidobert import configs
from kaleidobert.app_zoo import models, training
from kaleidobert.app_zoo.training import Choice
from kaleidobert.configs import AlignConfig
from kaleidobert.datasets import grid_features
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.grid_features import Grids
from kaleidobert.datasets.sampling.captions import PAD, CaptionVocabulary, WordCooccurrenceTargets
from kaleidobert.datasets.sampling.pretraining import fraction_of_groups, hold_out
from kaleidobert.datasets.sampling.word_presence import TermVocabulary
from kaleidobert.engines.run_folder import Run, check_folder
from kaleidobert.engines.trainer import HELD_OUT, VAL
from kaleidobert.io import sha256
from kaleidobert.preprocessors import encoders
from kaleidobert.preprocessors.encoders import GRID_ENCODERS
from kaleidobert.preprocessors.tokenization import Word, plain_piece

SHARED = ("attention_size", "context_size", "dropout", "min_count", "patience")  # options of the captioner that the grounder has, too


@dataclass(frozen=True)
class Rows:
    """Rows of a bank whose text says something: to train on, held out of the training split (maybe none), of the validation split."""

    train: np.ndarray
    held: np.ndarray
    val: np.ndarray

    @property
    def judge(self) -> tuple[np.ndarray, bool | None, str]:
        """Returns the rows that are evaluated after every epoch, and Goal's higher_is_better and split: held-out rows choose by a loss or
        perplexity, the validation split chooses nothing."""
        return (self.held, False, HELD_OUT) if len(self.held) else (self.val, None, VAL)


@dataclass(frozen=True)
class Task:
    """What every mode has."""

    config: AlignConfig
    bank: Bank
    rows: Rows

    @property
    def choice(self) -> Choice:
        """What chooses the weights."""
        return training.choice(self.bank, self.rows.held)


@dataclass(frozen=True)
class WordMaps:
    """Of one text: its words, maps f32[W, N] over the cells of the picture, has_map bool[W], and what else is to be kept of the picture."""

    words: list[Word]
    maps: np.ndarray
    has_map: np.ndarray
    notes: dict[str, Any]


class Linker(Protocol):
    """What gives words their maps: a captioner, or word presence.

    side: of its maps, in cells; network: what it is called; weights: its checkpoint. report: the notes of all pictures and the mode's
    folder -> what results.json says of it, "metrics" and "baselines" at least; summary: that in a line.
    """

    task: Any
    side: int
    network: str
    weights: Path

    def maps(self, rows: np.ndarray) -> list[WordMaps]: ...

    def report(self, notes: list[dict], folder: Path) -> dict[str, Any]: ...

    def summary(self, report: dict[str, Any]) -> str: ...


@dataclass(frozen=True)
class PresenceTask(Task):
    """Mode word_presence: no row is held out, as the number of steps is fixed."""

    vocabulary: TermVocabulary


@dataclass(frozen=True)
class CaptionTask(Task):
    """cells x cells cells of feature_size features are seen of a picture; targets: of the word grounder, None without one."""

    vocabulary: CaptionVocabulary
    targets: WordCooccurrenceTargets | None
    cells: int
    feature_size: int

    @property
    def sees_pictures(self) -> bool:
        """Whether the networks have an encoder of their own in place of a frozen one."""
        return not GRID_ENCODERS[self.config.grid.network].architecture


def make(config: AlignConfig, bank: Bank) -> PresenceTask | CaptionTask:
    """Returns the task of a bank. Raises UserError where a split holds no text or too few groups, and where the run's folders hold networks
    with other settings."""
    if config.mode == "word_presence":
        check_folder(presence_folder(config), presence_settings(config))
        rows = _split(config, bank, 0.0)
        return PresenceTask(config, bank, rows, TermVocabulary(bank, rows.train, config.word_presence.min_count))
    check_folder(captioner_folder(config), captioner_settings(config))
    rows = _split(config, bank, config.held_out)
    vocabulary, targets = CaptionVocabulary(bank, rows.train, config.captioner.min_count), None
    if config.captioner.grounding:
        targets = _targets(config, bank, vocabulary, rows.train)
        check_folder(grounder_folder(config), grounder_settings(config))
    return CaptionTask(config, bank, rows, vocabulary, targets, *encoders.describe_grid(config.grid))


def presence_folder(config: AlignConfig) -> Path:
    """Returns the run folder of word presence, inside that of the command."""
    return config.run / "presence"


def captioner_folder(config: AlignConfig) -> Path:
    """Returns the run folder of the captioner, inside that of the command."""
    return config.run / "captioner"


def grounder_folder(config: AlignConfig) -> Path:
    """Returns the run folder of the word grounder, inside that of the command."""
    return config.run / "word_grounding"


def presence_settings(config: AlignConfig) -> dict[str, Any]:
    """Returns the settings on which the weights of word presence depend."""
    return {name: configs.to_dict(getattr(config, name)) for name in ("data", "word_presence")}


def captioner_settings(config: AlignConfig) -> dict[str, Any]:
    """Returns the settings on which the captioner's weights depend: another mode or beam needs no other captioner."""
    return grounder_settings(config) | {name: configs.to_dict(getattr(config, name)) for name in ("captioner", "train")}


def grounder_settings(config: AlignConfig) -> dict[str, Any]:
    """Returns the settings on which the word grounder's weights depend."""
    settings = {name: configs.to_dict(getattr(config, name)) for name in ("data", "grid", "word_grounding", "held_out", "subcategory")}
    settings["grid"].pop("keep")
    captioner = configs.to_dict(config.captioner)
    return settings | {"captioner": {name: captioner[name] for name in SHARED}}


def rates(task: PresenceTask | CaptionTask) -> list[str]:
    """Returns the highest rates of learning, of the word grounder where there is one; raises UserError as models.steps_and_warmup, before
    anything is trained."""
    if isinstance(task, PresenceTask):
        return [models.peak_rate(task.config.word_presence, len(task.rows.train), "word_presence")]
    lengths = (task.vocabulary.encode(task.bank.token_ids[task.rows.train]) != PAD).sum(1)
    trainings = [("word_grounding", task.config.word_grounding)] * bool(task.targets) + [("train", task.config.train)]
    return [models.peak_rate(train, int((lengths > 2).sum()), name) for name, train in trainings]


def extract_grid_features(task: CaptionTask) -> Grids:
    """Returns the grids of all pictures, as far as they are not there yet: features of a frozen network, or the pictures themselves."""
    config, grid = task.config, task.config.grid
    folder = captioner_folder(config) / "grids"
    Run(captioner_folder(config), captioner_settings(config))
    source = {"network": grid.network, "layers": list(GRID_ENCODERS[grid.network].layers),
              "weights": sha256(grid.weights) if grid.weights else ""}

    def encoder() -> Callable[[np.ndarray], np.ndarray]:
        encode = None if task.sees_pictures else encoders.build_grid_network(grid).encode
        return np.asarray if encode is None else encode

    with tqdm(total=task.bank.size, unit="picture", desc="grids") as bar:
        for count in grid_features.make(task.bank, grid.size, folder, encoder, source):
            bar.update(count)
    return Grids(task.bank, folder)


def _split(config: AlignConfig, bank: Bank, held_out: float) -> Rows:
    data, result = config.data, []
    seed = config.word_presence.seed if config.mode == "word_presence" else config.train.seed
    train = fraction_of_groups(bank, bank.rows(data.train_split), data.train_share, seed)
    for name, rows in ((data.train_split, train), (data.val_split, bank.rows(data.val_split))):
        result.append(training.rows_with_text(bank, rows, name))
    kept, held = hold_out(bank, result[0], held_out, seed, "set held_out=0 and captioner.patience=0")
    return Rows(kept, held, result[1])


def _targets(config: AlignConfig, bank: Bank, vocabulary: CaptionVocabulary, rows: np.ndarray) -> WordCooccurrenceTargets:
    """Returns the targets that the texts of training ``rows`` give for their words; a bank without the label is one subcategory."""
    labels = [row["labels"].get(config.subcategory, "") for row in bank.table]
    groups = np.unique(np.array(labels), return_inverse=True)[1]
    texts = [plain_piece(text).lower() for text in bank.tokenizer().pieces(vocabulary.bank_ids)]
    return WordCooccurrenceTargets(vocabulary.encode(bank.token_ids), vocabulary, texts, groups, rows)
