"""The configuration of data, re-exported by the package: of the commands that fetch and convert it, the parts of align, and of those
that train on it. That of catalogues and records is in configs/records.py.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from kaleidobert.configs.loader import Checked, Limits
from kaleidobert.errors import UserError
from kaleidobert.levels import KALEIDO, KaleidoLevel


@dataclass(frozen=True)
class FetchConfig(Checked):
    """``kaleidobert fetch``: the files of a manifest, from their addresses or from a mirror."""
    manifest: Path
    into: Path | None = None  # default: the manifest's folder
    only: tuple[str, ...] = ()  # names, folders or patterns of the manifest, such as pretrain or retrieve/*i2t*; empty = all
    mirror: str = ""  # https://, s3:// or a local folder that holds the same names, instead of the manifest's addresses
    endpoint: str = ""  # of an S3-compatible service; default: as the environment and ~/.aws say
    workers: int = 4  # files fetched at a time
    attempts: int = 5  # at a file that brings no further byte
    keep_archives: bool = False  # keep archives that were unpacked

    limits: ClassVar[Limits] = {"workers": (1, 64), "attempts": (1,)}

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("mirror", "endpoint"):  # configurations are printed and kept
            if "@" in getattr(self, name).partition("://")[2].partition("/")[0]:
                raise UserError(f"{name} holds a user or a password", "section FetchConfig", "an address without them",
                                "put them into ~/.netrc for https, into the environment or ~/.aws for S3")


@dataclass(frozen=True)
class NewParameters(Checked):
    """What a BERT lacks and is drawn anew."""
    levels: tuple[KaleidoLevel, ...] = KALEIDO
    feature_size: int = 2048  # of the bank to train on
    standardise_features: bool = False  # as in Model; measured by the run that starts from it
    seed: int = 0

    limits: ClassVar[Limits] = {"feature_size": (1,), "seed": (0,)}


@dataclass(frozen=True)
class FilesFormat:
    """Released text files, to be a folder of arrays."""
    schema: str | dict[str, str] = ""  # of their columns, as in TrainingData; empty = the published one with as many columns
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    half: bool = False  # features as float16: half the room, rounded
    threads: int = 0  # 0 = one per core, at most 8


@dataclass(frozen=True)
class ConvertConfig:
    """``kaleidobert convert``: TensorFlow 1 checkpoints, released or BERT, to ours (.npz), and ours to the released format;
    released text files to a folder of arrays; a bank to one that holds its features otherwise."""
    source: Path  # an .npz of ours; the path of a checkpoint without .index; a folder with one; a data file, a list, a pattern; a bank
    target: Path  # .npz: one of ours; else a TensorFlow 1 checkpoint, such as converted/kaleidobert.ckpt-0; of data, a bank: a folder
    model: Path | None = None  # config.json of a TensorFlow 1 source; default: beside it or a folder above
    vocabulary: Path | None = None  # vocab.txt; default: likewise
    task: Literal["", "pretraining", "catepred", "subcatepred"] = ""  # whose heads; empty = as the source says
    optimizer: bool = False  # take the state of Adam along
    new_parameters: NewParameters = NewParameters()
    files: FilesFormat = FilesFormat()
    storage: Literal["", "float16", "uint8"] = ""  # of a bank as the source: how its copy holds the features


@dataclass(frozen=True)
class Grid(Checked):
    """What the captioner sees: a grid of features of the foreground box."""
    network: Literal["small", "mobilenet_v2", "resnet50"] = "mobilenet_v2"  # small: trained along with the captioner
    size: int = 224  # pixels to which the box is resized; small has 8 pixels per cell, the others 16
    weights: Path | None = None  # of mobilenet_v2 and resnet50; default: ImageNet weights fetched by Keras
    channels: int = 96  # features of small
    augment: bool = True  # small only: mirror and move the pictures while training
    keep: bool = False  # keep the pictures or features on disk when all is done

    limits: ClassVar[Limits] = {"channels": (1,)}


@dataclass(frozen=True)
class Captioner(Checked):
    """Show, Attend and Tell."""
    hidden_size: int = 256
    embedding_size: int = 128
    attention_size: int = 64
    context_size: int = 128
    dropout: float = 0.3
    query: Literal["state", "word"] = "word"  # what decides where to look: the LSTM's state, or the word before as well
    start: Literal["mean", "zero"] = "mean"  # the LSTM's first state: from the mean of all cells, or nothing
    positions: bool = True  # cells know where they lie
    coverage: float = 1.0  # weight of the doubly stochastic penalty
    grounding: float = 1.0  # weight of looking where a word grounder, trained before, looks for each word; 0 = as in the paper
    min_count: int = 2  # word pieces that are rarer in the training texts are unknown
    patience: int = 4  # training (the word grounder's too) ends after so many epochs without a better result on what is held out; 0 = never

    limits: ClassVar[Limits] = {"hidden_size": (1,), "embedding_size": (1,), "attention_size": (1,), "context_size": (1,),
                                "dropout": (0, 0.99), "coverage": (0,), "grounding": (0,), "min_count": (1,), "patience": (0,)}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.grounding and self.query != "word":
            raise UserError(f"grounding is {self.grounding} and query is {self.query}", "section Captioner",
                            "query word, for grounding ties words to places", "set captioner.grounding=0 as in the paper, or query=word")


@dataclass(frozen=True)
class Decoding(Checked):
    """How captions are written."""
    num_beams: int = 3  # captions followed at a time; 1 = greedy
    length_penalty: float = 0.7  # log-likelihoods are divided by length to this power
    max_length: int = 0  # pieces; 0 = as many as a text of the bank has at most

    limits: ClassVar[Limits] = {"num_beams": (1,), "length_penalty": (0,), "max_length": (0,)}


@dataclass(frozen=True)
class Regions(Checked):
    """How the map of a word becomes links to patches."""
    threshold: float = 0.5  # a word's region: where its map reaches this share of its maximum
    relative_threshold: float = 0.5  # a patch is linked where it has this share of the strength of its level's best
    top_k: int = 2  # patches per word and level
    content_only: bool = False  # link no stop words, numbers and punctuation (ours)

    limits: ClassVar[Limits] = {"threshold": (0, 1), "relative_threshold": (0, 1), "top_k": (1,)}


@dataclass(frozen=True)
class Data:
    """Which bank, and what it must have been made with."""
    bank: Path
    encoder: str = ""  # refuse a bank of another encoder; empty = any
    train_split: str = "train"
    val_split: str = "val"
    train_share: float = 1.0  # use only this share of the training groups, drawn from the seed


@dataclass(frozen=True)
class TrainingData(Data):
    """A bank, or the text files of the release (see released/rows.py), of which splits and shares are files."""
    bank: Path | None = None
    files: Path | None = None  # to train on, to retrieve from: a data file, a list of them, a pattern with *, a folder of `convert`
    val_files: Path | None = None  # to evaluate on
    val_limit: int = 0  # evaluate on so many rows from the first on; 0 = all
    schema: str | dict[str, str] = ""  # columns of the files, as --input_schema or {name: "type:length"}; empty = as published
    encoding: Literal["utf-8", "latin-1"] = "utf-8"  # of texts in the files
    vocabulary_size: int = 30522  # of the ids in the files
    threads: int = 0  # that read files; 0 = one per core, at most 8

    def __post_init__(self) -> None:
        if self.bank is None and self.files is None:
            raise UserError("'data.bank' is not set, nor is 'data.files'", "", "a bank or released files")
        if self.bank is not None and self.files is not None:
            raise UserError("'data.bank' and 'data.files' are both set", "", "one of the two", "empty the other one (data.bank=)")
        if self.val_limit < 0 or self.val_limit and self.files is None:
            raise UserError(f"data.val_limit is {self.val_limit}", "", "0; of files (data.files) a number of rows")
        if self.files is not None and self.train_share != 1:
            raise UserError(f"data.train_share is {self.train_share}, of files", "", "1", "name fewer files in a list")
