"""The configurations of ``kaleidobert push`` and ``kaleidobert pull``."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from kaleidobert.configs.section import Checked, Limits, key, required


@dataclass(frozen=True)
class PushConfig(Checked):
    """``kaleidobert push``: a copy of a run or a bank for others."""
    source: Path = required("folder of a finished run, of a bank or of a search index")
    target: str = required("a folder, s3://bucket/folder, or hf://owner/name, a model repository of Hugging Face")
    endpoint: str = key("", "address of an S3-compatible service; empty = as the environment and ~/.aws say")
    private: bool = key(True, "a repository of Hugging Face that this makes is seen by its owners alone")
    workers: int = key(4, "files copied at a time")

    limits: ClassVar[Limits] = {"workers": (1, 64)}


@dataclass(frozen=True)
class PullConfig(Checked):
    """``kaleidobert pull``: what ``push`` copied, checked."""
    source: str = required("where `push` copied to: a folder, s3://bucket/folder, https://host/folder, or hf://owner/name[@revision]")
    target: Path = required("folder for it, which must not exist yet")
    endpoint: str = key("", "address of an S3-compatible service; empty = as the environment and ~/.aws say")
    workers: int = key(4, "files fetched at a time")
    attempts: int = key(5, "attempts at a file that brings no further byte")

    limits: ClassVar[Limits] = {"workers": (1, 64), "attempts": (1,)}
