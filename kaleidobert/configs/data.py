"""The configuration of data, re-exported by the package: of the commands that fetch and convert it, the parts of align, and of those
that train on it. That of catalogues and records is in configs/records.py.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from kaleidobert.configs.section import Checked, Limits, key, required
from kaleidobert.errors import UserError
from kaleidobert.levels import KALEIDO, KaleidoLevel


@dataclass(frozen=True)
class FetchConfig(Checked):
    """``kaleidobert fetch``: the files of a manifest, from their addresses or from a mirror."""
    manifest: Path = required("JSON list of the files: names, addresses, sizes, checksums")
    into: Path | None = key(None, "folder for the files; empty = the manifest's folder")
    only: tuple[str, ...] = key((), "names, folders or patterns of the manifest, such as pretrain or retrieve/*i2t*; empty = all")
    mirror: str = key("", "https://, s3:// or a local folder that holds the same names, instead of the manifest's addresses")
    endpoint: str = key("", "address of an S3-compatible service; empty = as the environment and ~/.aws say")
    workers: int = key(4, "files fetched at a time")
    attempts: int = key(5, "attempts at a file that brings no further byte")
    keep_archives: bool = key(False, "keep archives after they are unpacked")

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
    levels: tuple[KaleidoLevel, ...] = key(KALEIDO, "kaleido levels whose heads are drawn")
    feature_size: int = key(2048, "numbers per patch in the bank to train on")
    standardise_features: bool = key(False, "as model.standardise_features; the run that starts from the checkpoint measures the scale")
    seed: int = key(0, "seed of what is drawn")

    limits: ClassVar[Limits] = {"feature_size": (1,), "seed": (0,)}


@dataclass(frozen=True)
class FilesFormat:
    """Released text files, to be a folder of arrays."""
    schema: str | dict[str, str] = key("", "columns of the files, as data.schema; empty = the published ones with as many columns")
    encoding: Literal["utf-8", "latin-1"] = key("utf-8", "encoding of the texts")
    half: bool = key(False, "store features as float16: half the room, rounded")
    threads: int = key(0, "threads that read files; 0 = one per core, at most 8")


@dataclass(frozen=True)
class ConvertConfig:
    """``kaleidobert convert``: TensorFlow 1 checkpoints, released or BERT, to ours (.npz), and ours to the released format;
    released text files to a folder of arrays; a bank to one that holds its features otherwise."""
    source: Path = required(
        "an .npz of ours, a TensorFlow 1 checkpoint (path without .index) or its folder, a data file, list or pattern, or a bank")
    target: Path = required(
        ".npz = a checkpoint of ours; else a TensorFlow 1 checkpoint, such as mine/kaleidobert.ckpt-0; of data or a bank: a folder")
    model: Path | None = key(None, "config.json of a TensorFlow 1 source; empty = beside the source or a folder above")
    vocabulary: Path | None = key(None, "vocab.txt of the source; empty = beside the source or a folder above")
    task: Literal["", "pretraining", "catepred", "subcatepred"] = key("", "task whose heads are taken; empty = as the source says")
    optimizer: bool = key(False, "take the state of Adam along")
    new_parameters: NewParameters = key(NewParameters(), "what a BERT lacks and is drawn anew")
    files: FilesFormat = key(FilesFormat(), "format of a source that is released text files")
    storage: Literal["", "float16", "uint8"] = key("", "of a bank as the source: how its copy holds the features")


@dataclass(frozen=True)
class Grid(Checked):
    """What the captioner sees: a grid of features of the foreground box."""
    network: str = key(
        "mobilenet_v2", "picture encoder of the captioner; small is trained along with it", table="grid encoders")
    size: int = key(224, "pixels to which the foreground box is resized; small has 8 pixels per cell, the others 16")
    weights: Path | None = key(None, "weights file of mobilenet_v2 or resnet50; empty = ImageNet weights, fetched by Keras")
    channels: int = key(96, "small only: features per cell")
    augment: bool = key(True, "small only: mirror and move the pictures while training")
    keep: bool = key(False, "keep the pictures or features on disk when all is done")

    limits: ClassVar[Limits] = {"channels": (1,)}


@dataclass(frozen=True)
class Captioner(Checked):
    """Show, Attend and Tell."""
    hidden_size: int = key(256, "size of the LSTM's state")
    embedding_size: int = key(128, "size of a word piece's embedding")
    attention_size: int = key(64, "size in which word and cells are compared")
    context_size: int = key(128, "size of a cell's features as the LSTM reads them")
    dropout: float = key(0.3, "dropout of word embeddings and of the output")
    query: Literal["state", "word"] = key("word", "what decides where to look: the LSTM's state (paper), or the word before as well")
    start: Literal["mean", "zero"] = key("mean", "first state of the LSTM: from the mean of all cells, or zero")
    positions: bool = key(True, "tell every cell its place in the picture")
    coverage: float = key(1.0, "weight of the doubly stochastic penalty of attention")
    grounding: float = key(1.0, "weight of looking where the word grounder looks for each word; 0 = none, as in the paper")
    min_count: int = key(2, "word pieces that are rarer in the training texts are unknown")
    patience: int = key(
        4, "epochs without a better result on what is held out, after which a training ends (the grounder's too); 0 = never")

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
    num_beams: int = key(3, "captions followed at a time; 1 = greedy")
    length_penalty: float = key(0.7, "power of the length by which log-likelihoods are divided")
    max_length: int = key(0, "most word pieces of a caption; 0 = as many as a text of the bank has at most")

    limits: ClassVar[Limits] = {"num_beams": (1,), "length_penalty": (0,), "max_length": (0,)}


@dataclass(frozen=True)
class Regions(Checked):
    """How the map of a word becomes links to patches."""
    threshold: float = key(0.5, "share of its maximum that the map of a word reaches inside the word's region")
    relative_threshold: float = key(0.5, "share of the strength of its level's best patch from which a patch is linked")
    top_k: int = key(2, "patches linked per word and level")
    content_only: bool = key(False, "link no stop words, numbers and punctuation (ours)")

    limits: ClassVar[Limits] = {"threshold": (0, 1), "relative_threshold": (0, 1), "top_k": (1,)}


@dataclass(frozen=True)
class Data:
    """Which bank, and what it must have been made with."""
    bank: Path = required("folder of the feature bank")
    encoder: str = key("", "refuse a bank of another encoder; empty = any")
    train_split: str = key("train", "split to train on")
    val_split: str = key("val", "split to evaluate on")
    train_share: float = key(1.0, "share of the training groups to use, drawn from the seed")


@dataclass(frozen=True)
class TrainingData(Data):
    """A bank, or the text files of the release (see released/rows.py), of which splits and shares are files."""
    bank: Path | None = key(None, "folder of the feature bank; empty where files is set")  # type: ignore[assignment]  # wider
    files: Path | None = key(
        None, "released text files to train on or to retrieve from: a file, a list, a pattern with *, a folder of `convert`")
    val_files: Path | None = key(None, "released text files to evaluate on")
    val_limit: int = key(0, "of val_files only so many rows from the first on; 0 = all")
    schema: str | dict[str, str] = key("", 'columns of the files, as --input_schema or {name: "type:length"}; empty = as published')
    encoding: Literal["utf-8", "latin-1"] = key("utf-8", "encoding of texts in the files")
    vocabulary_size: int = key(30522, "size of the vocabulary of the ids in the files")
    threads: int = key(0, "threads that read files; 0 = one per core, at most 8")

    def __post_init__(self) -> None:
        if self.bank is None and self.files is None:
            raise UserError("'data.bank' is not set, nor is 'data.files'", "", "a bank or released files")
        if self.bank is not None and self.files is not None:
            raise UserError("'data.bank' and 'data.files' are both set", "", "one of the two", "empty the other one (data.bank=)")
        if self.val_limit < 0 or self.val_limit and self.files is None:
            raise UserError(f"data.val_limit is {self.val_limit}", "", "0; of files (data.files) a number of rows")
        if self.files is not None and self.train_share != 1:
            raise UserError(f"data.train_share is {self.train_share}, of files", "", "1", "name fewer files in a list")
