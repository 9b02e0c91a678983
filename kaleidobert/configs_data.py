"""The configuration of the commands that make data, re-exported by configs.py: synthesize, records."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kaleidobert.levels import KALEIDO, KaleidoLevel


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
    """A catalogue: a CSV or JSONL table and a folder of pictures."""
    table: Path
    columns: Columns
    images: Path | None = None  # pictures are named relative to it; default: the table's folder
    text_separator: str = ". "
    val_fraction: float = 0.1  # share of the groups that go to "val" where the table has no split column
    limit: int = 0  # read only so many pictures; 0 = all


@dataclass(frozen=True)
class Foreground:
    """How the product is told from its background."""
    method: Literal["border", "none", "masks"] = "border"
    tolerance: float = 12.0  # largest colour distance (of 255, root mean square over channels) that is still background
    margin: float = 0.03  # of the box's longer side, added on every side


@dataclass(frozen=True)
class Encoder:
    """The picture encoder: what turns a patch into a feature vector."""
    name: Literal["pixels", "mobilenet_v2", "resnet50"] = "pixels"
    size: int = 26  # side in pixels to which every patch is resized
    weights: Path | None = None  # a weights file; default: ImageNet weights fetched by Keras
    batch_size: int = 64  # pictures whose patches are encoded together


@dataclass(frozen=True)
class Text:
    """How text becomes word pieces."""
    tokenizer: Literal["wordpiece", "sentencepiece"] = "wordpiece"
    vocabulary: Path | None = None  # vocab.txt or a SentencePiece model; default: trained on the training split
    vocabulary_size: int = 8000  # of a trained vocabulary
    length: int = 64


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
    workers: int = 0  # processes; 0 = one per core


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
