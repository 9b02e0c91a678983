"""The configuration of ``kaleidobert demo``."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from kaleidobert.configs.section import Checked, Limits, key


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
