"""The configuration of catalogues and of the feature bank made from them, re-exported by the package: of synthesize and records."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kaleidobert.levels import KALEIDO, KaleidoLevel

# cells of a table that hold nothing, as pandas, R, SQL, JavaScript and spreadsheets write it; an NA or None that is a class of its own
# (a pattern "none") has to be taken off the list
MISSING = ("nan", "-nan", "null", "(null)", "[null]", "\\N", "none", "undefined", "n/a", "na", "<na>", "#n/a", "#na", "#null!", "#ref!",
           "#value!", "#name?", "#div/0!", "#num!", "-", "--")
FOREGROUND_WEIGHTS = Path(__file__).parents[1] / "model_zoo" / "weights" / "foreground_net.npz"  # part of the package


@dataclass(frozen=True)
class Columns:
    """Which column of the catalogue holds what; empty = the catalogue has no such column."""
    id: str
    image: str
    text: tuple[str, ...]
    group: str = ""
    view: tuple[str, ...] = ()  # what tells the pictures of one product apart; several columns are joined by "-"
    split: str = ""
    labels: dict[str, str] = field(default_factory=dict)  # label name: column
    mask: str = ""
    parts: str = ""


@dataclass(frozen=True)
class Source:
    """Where products come from: a CSV or JSONL table and a folder of pictures, the raw release of Fashion-Gen, or a TFDS data set."""
    table: Path  # the table; fashion_gen, fashion_gen_extracted: the folder of the release; tfds: the folder of prepared data sets
    columns: Columns  # fashion_gen: keys of the HDF5 files; fashion_gen_extracted: see datasets/sources/fashion_gen.py; tfds: features
    images: Path | None = None  # pictures are named relative to it; default: the table's folder; tfds: they are written there once
    text_separator: str = ". "
    val_fraction: float = 0.1  # share of the groups that go to "val" where the table has no split column
    limit: int = 0  # read only so many pictures; 0 = all
    missing: tuple[str, ...] = MISSING  # of a table: a cell that is one of these words, in capitals or not, counts as empty
    kind: Literal["table", "fashion_gen", "fashion_gen_extracted", "tfds"] = "table"
    name: str = ""  # tfds: the data set, such as kaleido_synthetic or coco_captions
    splits: dict[str, str] = field(default_factory=dict)  # not of a table: split: its file, or the TFDS split; default: as released


@dataclass(frozen=True)
class Foreground:
    """How the product is told from its background."""
    method: Literal["network", "border", "none", "masks"] = "network"
    weights: Path = FOREGROUND_WEIGHTS  # of the network
    tolerance: float = 12.0  # border: largest colour distance (of 255, root mean square over channels) that is still background
    margin: float = 0.03  # of the box's longer side, added on every side


@dataclass(frozen=True)
class Encoder:
    """The picture encoder: what turns a patch into a feature vector."""
    name: Literal["pixels", "mobilenet_v2", "resnet50"] = "pixels"
    size: int = 26  # side in pixels to which every patch is resized
    weights: Path | None = None  # a weights file; default: ImageNet weights fetched by Keras
    batch_size: int = 64  # pictures cut ahead of the network, which encodes their patches together
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"  # bfloat16: for GPUs, and CPUs that compute in it
    folded: bool = False  # batch normalisation folded into the convolutions: faster, other last bits; always so in mixed precision
    small_size: int = 0  # levels whose patches have at most so many pixels on a side are encoded at this size instead; 0 = none
    turned: Literal["squash", "square"] = "squash"  # of patches that get turned: squash the box as all others, or cut a square around it


@dataclass(frozen=True)
class Text:
    """How text becomes word pieces."""
    tokenizer: Literal["wordpiece", "sentencepiece"] = "wordpiece"
    vocabulary: Path | None = None  # vocab.txt or a SentencePiece model; default: trained on the training split
    vocabulary_size: int = 8000  # of a trained vocabulary
    length: int = 64


@dataclass(frozen=True)
class Beam:
    """Apache Beam as the engine of records; all its workers must see the same folders."""
    runner: str = ""  # such as DirectRunner, FlinkRunner, SparkRunner, DataflowRunner; empty = processes of this machine, no Beam
    options: dict[str, str] = field(default_factory=dict)  # of the runner, such as direct_num_workers or flink_master


@dataclass(frozen=True)
class RecordsConfig:
    """``kaleidobert records``"""
    bank: Path
    source: Source
    foreground: Foreground = Foreground()
    encoder: Encoder = Encoder()
    text: Text = Text()
    levels: tuple[KaleidoLevel, ...] = KALEIDO
    shard_size: int = 256  # pictures per shard: the unit of work, of progress and of resuming
    storage: Literal["float16", "uint8"] = "float16"  # of the features; uint8: half the room, a relative error of .4% (float16: .02%)
    workers: int = 0  # processes; 0 = one per NVIDIA GPU where the encoder is a network, without a GPU one per core
    threads: int = 0  # of each process, that read and cut pictures while others are encoded; 0 = the cores, shared among processes
    beam: Beam = Beam()  # make the shards on a Beam runner instead
    max_skipped: float = 0.1  # share of rows; where more are left out, the bank of the others is made and the exit status is 3


@dataclass(frozen=True)
class SynthesizeConfig:
    """``kaleidobert synthesize``"""
    catalogue: Path
    num_products: int = 600
    views: int = 2
    size: int = 192
    clutter: float = 0.25  # share of pictures with a cluttered background
    val_fraction: float = 0.15
    workers: int = 0
    seed: int = 0
