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
    ProtocolName,
    ScoreColumns,
    TablesConfig,
    Writing,
)
from kaleidobert.configs.loader import Checked, Limits, differences, dump, load, to_dict
from kaleidobert.configs.records import Beam, Columns, Encoder, Foreground, RecordsConfig, Source, SynthesizeConfig, Text
from kaleidobert.configs.training import Losses, Matching, Model, Noise, Sampling, Train, check_asked
from kaleidobert.errors import UserError
from kaleidobert.levels import KALEIDO, KaleidoLevel

__all__ = ["differences", "dump", "load", "to_dict", "Beam", "Columns", "Data", "TrainingData", "Encoder", "Foreground", "Source",
           "Text", "SynthesizeConfig", "RecordsConfig", "FetchConfig", "ConvertConfig", "NewParameters", "Grid", "Captioner", "Decoding",
           "Regions", "Model", "Sampling", "Losses", "Train", "Noise", "Matching", "AlignConfig",
           "TrainForegroundConfig", "PretrainConfig", "ClassifyConfig", "RetrieveConfig", "InspectConfig", "TablesConfig",
           "CaptionConfig", "Writing", "EvaluateConfig", "EvaluationData", "PredictionColumns", "ProtocolName", "ScoreColumns"]


@dataclass(frozen=True)
class AlignConfig(Checked):
    """``kaleidobert align``: train a captioner, and link the words of every text to patches by where it looked for them."""
    run: Path
    data: Data
    mode: Literal["generated", "teacher_forced"] = "generated"  # maps of words that it wrote itself (the paper), or of the text's own
    grid: Grid = Grid()
    captioner: Captioner = Captioner()
    word_grounding: Train = Train(epochs=30, batch_size=32, learning_rate=2e-3, beta_2=0.999, clip_norm=5.0)  # of captioner.grounding
    train: Train = Train(epochs=30, learning_rate=1e-3, beta_2=0.999, clip_norm=5.0)
    decoding: Decoding = Decoding()
    regions: Regions = Regions()
    held_out: float = 0.05  # share of the training groups by which the best epochs are chosen and captioner.patience ends the training;
    # 0 = none, the last epochs are kept
    subcategory: str = "subcategory"  # the label of the baseline "most frequent caption of the predicted subcategory"
    baselines: bool = True
    keep_maps: bool = True  # write the words' maps into the run folder
    predict_batch_size: int = 64

    limits: ClassVar[Limits] = {"held_out": (0, 0.5)}


@dataclass(frozen=True)
class TrainForegroundConfig(Checked):
    """``kaleidobert train-foreground``: the foreground network, trained on drawn scenes."""
    run: Path
    foregrounds: int = 6000  # drawn for the training
    backgrounds: int = 5000  # drawn for the training
    scenes: int = 20000  # put together of them in an epoch, every one new
    held_out: int = 240  # drawn for the test: other products, other families of backgrounds
    goods: int = 80  # drawn for the test too: small things that no drawn catalogue has, such as watches
    size: int = 160  # pixels to which every picture is squeezed for the network
    channels: tuple[int, ...] = (16, 32, 48, 64, 96)  # at 1/2, 1/4, ... of the size
    train: Train = Train(epochs=11, batch_size=16, learning_rate=3e-3, warmup_share=0.05, weight_decay=1e-4, beta_2=0.99, epsilon=1e-7,
                         precision="mixed_bfloat16", decay="after-warmup")
    average: float = 0.998  # momentum of the running average of the weights
    install: bool = False  # put the weights into the package
    workers: int = 0  # processes that draw; 0 = one per core

    limits: ClassVar[Limits] = {"foregrounds": (1,), "backgrounds": (1,), "scenes": (1,), "held_out": (1,), "goods": (1,), "size": (16,),
                              "average": (0, 0.9999)}


@dataclass(frozen=True)
class PretrainConfig(Checked):
    """``kaleidobert pretrain``"""
    run: Path
    data: TrainingData
    levels: tuple[KaleidoLevel, ...] = KALEIDO
    model: Model = Model()
    sampling: Sampling = Sampling()
    losses: Losses = Losses()
    held_out: float = 0.05  # share of the training groups that chooses the best epoch; 0 = none, the last one is kept. Of data.files the
    # groups are not known: there data.val_files chooses, as in the release, whatever held_out says
    train: Train = Train()
    init: Path | None = None  # start from this checkpoint instead of random weights
    init_optimizer: bool = False  # and go on at its step, with its state of Adam

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
    run: Path
    data: TrainingData
    label: str
    modality: Literal["both", "image", "text"] = "both"
    init: Path | None = None  # the pre-trained checkpoint; refused without one unless from_scratch
    from_scratch: bool = False
    levels: tuple[KaleidoLevel, ...] = ()  # default: those of init; from random weights those of the bank
    model: Model = Model()
    head: Literal["plain", "wide"] = "plain"  # wide (ours): linear models on features and words are added
    plain_run: Path | None = None  # beside the wide head: the figures of this run (its folder) with head=plain on the same examples
    head_dropout: float = 0.1
    feature_dropout: float = 0.5  # of the wide head
    noise: Noise = Noise()
    baselines: bool = True  # linear models on the same features and texts beside the result
    train: Train = Train(epochs=20, learning_rate=2e-5)


@dataclass(frozen=True)
class RetrieveConfig:
    """``kaleidobert retrieve``: rank fixed candidate lists by the matching head."""
    run: Path
    data: TrainingData
    direction: Literal["i2t", "t2i"]
    init: Path | None = None
    from_scratch: bool = False
    levels: tuple[KaleidoLevel, ...] = ()  # default: those of init; from random weights those of the bank
    model: Model = Model()
    matching: Matching = Matching()
    dual_encoder: Train = Train(epochs=10, batch_size=128, learning_rate=1e-3, beta_2=0.999, clip_norm=5.0)  # of the head "dual_encoder"
    train: Train = Train(epochs=0, learning_rate=2e-5)
    num_candidates: int = 101
    max_queries: int = 1000
    candidates_seed: int = 0
    protocol: ProtocolName = "kaleido"  # how the lists are drawn; full and mvlt take no num_candidates and max_queries
    candidates: Path | None = None  # lists of an earlier run (its candidates.jsonl) instead of new ones
    plain: bool = True  # beside a head of ours: score the plain head of the pre-training on the same lists, which doubles the scoring
    plain_run: Path | None = None  # ... or take the figures of this run (its folder) with matching.head=plain on the same lists
    subcategory: str = "subcategory"
    baselines: bool = True
    predict_batch_size: int = 256


@dataclass(frozen=True)
class InspectConfig:
    """``kaleidobert inspect``: one page per chosen picture."""
    run: Path
    data: Data
    checkpoint: Path | None = None  # of a pre-training run: its answers beside the truth
    products: tuple[str, ...] = ()  # image ids; empty = `count` of data.val_split, drawn from the seed
    count: int = 6
    source: Source | None = None  # the bank's catalogue: shows its masks; finds pictures that lie elsewhere now
    maps: Path | None = None  # folder of an align run's mode, such as runs/align/generated: shows where the captioner looked
    sampling: Sampling = Sampling(masking="random")  # so that a bank without alignment can be looked at
    seed: int = 0
