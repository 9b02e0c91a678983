"""The configuration of every command as frozen dataclasses; configs/loader.py reads them from YAML and dotted words."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from kaleidobert import levels
from kaleidobert.configs.data import Captioner, ConvertConfig, Data, Decoding, FetchConfig, Grid, NewParameters, Regions, TrainingData
from kaleidobert.configs.evaluation import (
    CaptionConfig,
    EvaluateConfig,
    EvaluationData,
    PredictionColumns,
    ScoreColumns,
    TablesConfig,
    Writing,
)
from kaleidobert.configs.loader import differences, dump, load, to_dict
from kaleidobert.configs.records import Beam, Columns, Encoder, Foreground, RecordsConfig, Source, SynthesizeConfig, Text
from kaleidobert.configs.section import Checked, Limits, key, required
from kaleidobert.configs.training import Losses, Matching, Model, Noise, Sampling, Train, check_asked
from kaleidobert.errors import UserError
from kaleidobert.levels import KALEIDO, KaleidoLevel

__all__ = ["differences", "dump", "load", "to_dict", "Beam", "Columns", "Data", "TrainingData", "Encoder", "Foreground", "Source",
           "Text", "SynthesizeConfig", "RecordsConfig", "FetchConfig", "ConvertConfig", "NewParameters", "Grid", "Captioner", "Decoding",
           "Regions", "Model", "Sampling", "Losses", "Train", "Noise", "Matching", "AlignConfig",
           "TrainForegroundConfig", "PretrainConfig", "ClassifyConfig", "RetrieveConfig", "InspectConfig", "TablesConfig",
           "CaptionConfig", "Writing", "EvaluateConfig", "EvaluationData", "PredictionColumns", "ScoreColumns"]


@dataclass(frozen=True)
class AlignConfig(Checked):
    """``kaleidobert align``: train a captioner, and link the words of every text to patches by where it looked for them."""
    run: Path = required("folder of the run: its configuration, log, checkpoints and results")
    data: Data = required("bank whose texts and pictures are aligned")
    mode: Literal["generated", "teacher_forced"] = key(
        "generated", "maps of words that the captioner wrote itself (paper), or of the text's own words")
    grid: Grid = key(Grid(), "what the captioner sees: a grid of features of the foreground box")
    captioner: Captioner = key(Captioner(), "sizes and options of Show, Attend and Tell")
    word_grounding: Train = key(
        Train(epochs=30, batch_size=32, learning_rate=2e-3, beta_2=0.999, clip_norm=5.0),
        "training of the word grounder, which runs where captioner.grounding is above 0")
    train: Train = key(Train(epochs=30, learning_rate=1e-3, beta_2=0.999, clip_norm=5.0), "training of the captioner")
    decoding: Decoding = key(Decoding(), "how captions are written")
    regions: Regions = key(Regions(), "how the map of a word becomes links to patches")
    held_out: float = key(
        0.05,
        "share of the training groups that chooses the best epochs and ends trainings (captioner.patience); 0 = the last epochs are kept")
    subcategory: str = key("subcategory", 'label of the baseline "most frequent caption of the predicted subcategory"')
    baselines: bool = key(True, "count simple captions beside the captioner's")
    keep_maps: bool = key(True, "write the words' maps into the run folder")
    predict_batch_size: int = key(64, "pictures per step of prediction")

    limits: ClassVar[Limits] = {"held_out": (0, 0.5)}


@dataclass(frozen=True)
class TrainForegroundConfig(Checked):
    """``kaleidobert train-foreground``: the foreground network, trained on drawn scenes."""
    run: Path = required("folder of the run: its configuration, log, checkpoints and results")
    foregrounds: int = key(6000, "products drawn for the training")
    backgrounds: int = key(5000, "backgrounds drawn for the training")
    scenes: int = key(20000, "scenes put together of them in an epoch, every one new")
    held_out: int = key(240, "scenes drawn for the test: other products, other families of backgrounds")
    goods: int = key(80, "scenes drawn for the test, too: small things that no drawn catalogue has, such as watches")
    size: int = key(160, "side in pixels to which every picture is squeezed for the network")
    channels: tuple[int, ...] = key((16, 32, 48, 64, 96), "features at 1/2, 1/4, ... of the size")
    train: Train = key(
        Train(epochs=11, batch_size=16, learning_rate=3e-3, warmup_share=0.05, weight_decay=1e-4, beta_2=0.99, epsilon=1e-7,
              precision="mixed_bfloat16", decay="after-warmup"),
        "optimiser and schedule")
    average: float = key(0.998, "momentum of the running average of the weights")
    install: bool = key(False, "put the weights into the package")
    workers: int = key(0, "processes that draw; 0 = one per core")

    limits: ClassVar[Limits] = {"foregrounds": (1,), "backgrounds": (1,), "scenes": (1,), "held_out": (1,), "goods": (1,), "size": (16,),
                              "average": (0, 0.9999)}


@dataclass(frozen=True)
class PretrainConfig(Checked):
    """``kaleidobert pretrain``"""
    run: Path = required("folder of the run: its configuration, log, checkpoints and results")
    data: TrainingData = required("what to train on")
    levels: tuple[KaleidoLevel, ...] = key(
        KALEIDO, "kaleido levels to train: rows of name, grid, pretext, num_masked, weight (of the loss); must fit the bank")
    model: Model = key(Model(), "sizes of the network")
    sampling: Sampling = key(Sampling(), "how examples are masked and paired")
    losses: Losses = key(Losses(), "weights of the text tasks, and the target of grey")
    held_out: float = key(
        0.05,
        "share of the training groups that chooses the best epoch; 0 = none, the last one is kept; of data.files data.val_files chooses")
    train: Train = key(Train(), "optimiser and schedule")
    init: Path | None = key(None, "checkpoint to start from; empty = random weights")
    init_optimizer: bool = key(False, "go on at the step of init, with its state of Adam")

    limits: ClassVar[Limits] = {"held_out": (0, 0.5)}

    def __post_init__(self) -> None:
        super().__post_init__()
        levels.check(self.levels)
        check_asked(self.levels, self.sampling, self.losses)
        bare = [level.name for level in self.levels if not level.answer]
        if bare and self.data.files is not None:
            raise UserError(f"levels: {', '.join(bare)} without a pretext, of released files", "", "a pretext: patches of the files are "
                            "spoiled already", "give the levels the pretexts of configs/pretrain.yaml, or train on a bank")


@dataclass(frozen=True)
class ClassifyConfig:
    """``kaleidobert classify``: train and evaluate a classifier of one label column."""
    run: Path = required("folder of the run: its configuration, log, checkpoints and results")
    data: TrainingData = required("what to train and to evaluate on")
    label: str = required("label to predict, such as category")
    modality: Literal["both", "image", "text"] = key("both", "what the model sees")
    init: Path | None = key(
        None, "checkpoint of the pre-training to start from; without one the command refuses unless from_scratch is true")
    from_scratch: bool = key(False, "start from random weights; init stays empty")
    levels: tuple[KaleidoLevel, ...] = key(
        (), "kaleido levels of the model; empty = those of init, and those of the bank where the weights are random")
    model: Model = key(Model(), "sizes of the network, which are those of init where it is set")
    head: Literal["plain", "wide"] = key("plain", "classification head; wide (ours): linear models on features and words are added")
    plain_run: Path | None = key(
        None, "beside the wide head: show the figures of this run folder, which has head=plain and the same examples")
    head_dropout: float = key(0.1, "dropout before the classification head")
    feature_dropout: float = key(0.5, "dropout of the features in the wide head")
    noise: Noise = key(Noise(), "what training hides of its examples")
    baselines: bool = key(True, "fit linear models on the same features and texts, too")
    train: Train = key(Train(epochs=20, learning_rate=2e-5), "optimiser and schedule")


@dataclass(frozen=True)
class RetrieveConfig:
    """``kaleidobert retrieve``: rank fixed candidate lists by the matching head."""
    run: Path = required("folder of the run: its configuration, log, checkpoints and results")
    data: TrainingData = required("what to train on, and to rank")
    direction: Literal["i2t", "t2i"] = required("rank texts for pictures, or pictures for texts")
    init: Path | None = key(
        None, "checkpoint of the pre-training to start from; without one the command refuses unless from_scratch is true")
    from_scratch: bool = key(False, "start from random weights; init stays empty")
    levels: tuple[KaleidoLevel, ...] = key(
        (), "kaleido levels of the model; empty = those of init, and those of the bank where the weights are random")
    model: Model = key(Model(), "sizes of the network, which are those of init where it is set")
    matching: Matching = key(Matching(), "head and fine-tuning of the matching task")
    dual_encoder: Train = key(
        Train(epochs=10, batch_size=128, learning_rate=1e-3, beta_2=0.999, clip_norm=5.0),
        "training of the two towers of matching.head=dual_encoder")
    train: Train = key(
        Train(epochs=0, learning_rate=2e-5), "fine-tuning of the matching task; epochs 0 = the head of pre-training as it is")
    num_candidates: int = key(101, "candidates of a query, the right one included")
    max_queries: int = key(1000, "most queries")
    candidates_seed: int = key(0, "seed by which queries and candidates are drawn")
    protocol: str = key("kaleido", "how the lists are drawn; full and mvlt take no num_candidates and max_queries", table="protocols")
    candidates: Path | None = key(None, "candidates.jsonl of an earlier run, instead of new lists")
    plain: bool = key(True, "beside a head of ours: score the plain head of the pre-training on the same lists, which doubles the scoring")
    plain_run: Path | None = key(
        None, "beside a head of ours: show the figures of this run folder, which has matching.head=plain and the same lists")
    subcategory: str = key("subcategory", "label that is the subcategory")
    baselines: bool = key(True, "count simple rankings on the same lists, too")
    predict_batch_size: int = key(256, "pairs per step of prediction")


@dataclass(frozen=True)
class InspectConfig:
    """``kaleidobert inspect``: one page per chosen picture."""
    run: Path = required("folder for the pages")
    data: Data = required("bank whose pictures are shown")
    checkpoint: Path | None = key(None, "checkpoint of a pre-training run: shows its answers beside the truth; empty = none")
    products: tuple[str, ...] = key((), "ids of the pictures to show; empty = `count` of data.val_split, drawn from the seed")
    count: int = key(6, "pictures to draw where products is empty")
    source: Source | None = key(None, "catalogue of the bank: shows its masks, and finds pictures that lie elsewhere now; empty = none",
                               table="sources")
    maps: Path | None = key(
        None, "folder of an align run's mode, such as runs/align/generated: shows where the captioner looked; empty = none")
    sampling: Sampling = key(Sampling(masking="random"), "how examples are masked and paired")
    seed: int = key(0, "seed of the choice and of the masking")
