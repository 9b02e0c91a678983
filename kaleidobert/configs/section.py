"""What the sections of a configuration are made of: keys with their meaning, and limits of their numbers."""

import dataclasses
import typing
from typing import Any, TypeVar

from kaleidobert.errors import UserError

T = TypeVar("T")
Limits = dict[str, tuple[float, ...]]  # name: (least,) or (least, most)
MEANING = "meaning"  # where the metadata of a field hold what the key means


def key(default: T, meaning: str) -> T:
    """A key with its default and the line that ``--help`` says of it; each object gets a mapping of its own where that is the default."""
    given: dict[str, Any] = {"default_factory": default.copy} if isinstance(default, dict) else {"default": default}
    return dataclasses.field(**given, metadata={MEANING: meaning})


def required(meaning: str) -> Any:
    """A key that must be set, with the line that ``--help`` says of it."""
    return dataclasses.field(metadata={MEANING: meaning})


class Checked:
    """Base of sections with numbers: raises UserError where one lies outside its ``limits``, or is NaN or infinite."""

    limits: typing.ClassVar[Limits] = {}

    def __post_init__(self) -> None:
        for name, (least, *most) in self.limits.items():
            value = getattr(self, name)
            if not (least <= value <= most[0] if most else least <= value < float("inf")):
                raise UserError(f"{name} is {value}", f"section {type(self).__name__}",
                                f"{least:g} to {most[0]:.6g}" if most else f"at least {least:g}" + ", finite" * (value == float("inf")))
