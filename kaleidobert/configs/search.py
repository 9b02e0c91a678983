"""The configurations of ``kaleidobert index``, ``kaleidobert search`` and ``kaleidobert demo``."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from kaleidobert.configs.section import Checked, Limits, key, required
from kaleidobert.errors import UserError


@dataclass(frozen=True)
class IndexData:
    """What is searched."""
    bank: Path = required("folder of the feature bank")
    splits: tuple[str, ...] = key((), "splits whose pictures and texts are searched; empty = all of the bank")
    train_split: str = key("train", "where the model has no vectors of its own: split on which the regression that stands in is fitted")


@dataclass(frozen=True, kw_only=True)
class IndexConfig(Checked):
    """``kaleidobert index``: the vectors of a bank's pictures and texts, to be searched."""
    index: Path = required("folder of the index")
    data: IndexData = required("what is searched")
    init: Path | None = key(
        None, "best.npz of a `retrieve` or `pretrain` run, or the folder of the run; empty = no model: frozen features and TF-IDF")
    kind: Literal["auto", "flat", "ivf", "hnsw"] = key(
        "auto", "how vectors are searched: all of them (flat), lists around centres (ivf), a graph (hnsw); auto = by their number")
    predict_batch_size: int = key(64, "pictures or texts per step of prediction")
    seed: int = key(0, "seed of centres, samples and regression")

    limits: ClassVar[Limits] = {"predict_batch_size": (1,), "seed": (0,)}


@dataclass(frozen=True, kw_only=True)
class SearchConfig(Checked):
    """``kaleidobert search``: find products by words, by a picture, or by both."""
    index: Path = required("folder of the index; the first word of the command line")
    text: str = key("", "words to search for; the other words of the command line")
    picture: Path | None = key(None, "picture to search for; the word of the command line that names a file")
    find: Literal["pictures", "texts"] = key("pictures", "what is compared with the query: the products' pictures, or their texts")
    top: int = key(20, "largest number of products in the answer")
    filter: dict[str, tuple[str, ...]] = key({}, "labels that a product must have, such as filter.category=tops, filter.colour=[red,blue]")
    rerank: int = key(100, "candidates of stage one that the matching head re-ranks; 0 = stage one alone")
    format: Literal["table", "json"] = key("table", "what is printed: a table for people, or JSON lines for programs")
    out: Path | None = key(None, "file for the answer as JSON lines; empty = none")
    page: Path | None = key(None, "file for the answer as an HTML page with pictures; empty = none")
    bank: Path | None = key(None, "folder of the bank, where it lies elsewhere now; empty = as the index has it")
    init: Path | None = key(None, "the checkpoint, where it lies elsewhere now; empty = as the index has it")

    limits: ClassVar[Limits] = {"top": (1,), "rerank": (0,)}

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.text.strip() and self.picture is None:
            raise UserError("there is no query", "section SearchConfig", "words, a picture or both",
                            'say kaleidobert search INDEX "red striped t-shirt", or name a picture')


@dataclass(frozen=True)
class DemoConfig(Checked):
    """``kaleidobert demo``: a web page on this machine that searches, shows and asks what a folder of runs has learnt."""
    run: Path | None = key(None, "folder of finished runs, as of the quickstart or of `catalogue run`; empty = the quickstart's")
    index: Path | None = key(None, "search index, made where there is none; empty = the one beside the runs, or one of its own")
    bank: Path | None = key(None, "folder of the bank, where it lies elsewhere now; empty = that of the runs")
    host: str = key("127.0.0.1", "address on which it listens; 0.0.0.0 = all networks of this machine")
    port: int = key(0, "port; 0 = the first that is free from 7860 on")
    top: int = key(20, "largest number of products that a search shows")
    rerank: int = key(100, "candidates that the matching head re-ranks; 0 = none")
    max_megabytes: float = key(10.0, "largest picture that may be uploaded")
    at_once: int = key(2, "answers that are computed at the same time; others wait")
    queue: int = key(200, "questions that may wait; more are refused")
    open_browser: bool = key(False, "whether the page is opened in this machine's browser")

    limits: ClassVar[Limits] = {"port": (0, 65535), "top": (1, 100), "rerank": (0,), "max_megabytes": (0.01, 1000), "at_once": (1, 64),
                                "queue": (1, 100_000)}
