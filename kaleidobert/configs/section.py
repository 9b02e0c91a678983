"""What the sections of a configuration are made of: keys with their meaning, limits of numbers, and names out of tables."""

import dataclasses
import difflib
import typing
from collections.abc import Collection, Iterable
from typing import Any, TypeVar

from kaleidobert.errors import UserError

T = TypeVar("T")
Limits = dict[str, tuple[float, ...]]  # name: (minimum,) or (minimum, maximum)
# {key or value of an earlier version: what it is called now}, for the messages; CHANGELOG.md has the whole list
RENAMED = {
    "accumulate": "gradient_accumulation_steps", "trim_text": "dynamic_padding", "checkpoint_blocks": "gradient_checkpointing",
    "towers": "dual_encoder", "contrast": "dual_encoder", "pair": "pairwise", "list": "listwise", "alignment": "alignment_guided",
    "patches": "patch_dropout", "tokens": "token_dropout", "beam": "num_beams", "share": "relative_threshold", "most": "top_k",
    "forced": "teacher_forced", "finder": "word_grounding", "max_left_out": "max_skipped",
}
WHOLE = ("labels",)  # mappings of names of the user's own: a file replaces that of its base, where others are merged into it
SUPERSEDES = {"preset": "columns"}  # a key of a file, and the key beside it that the file does not take over from its base
MEANING, TABLE = "meaning", "table"  # entries of a field's metadata: what the key means, and the table that has its values


def key(default: T, meaning: str, table: str = "") -> T:
    """Declares a key with its default and its line in ``--help``; each object gets a mapping of its own where that is the default.

    table: the key's value is the name of a row of this table, see app_zoo.commands.TABLES.
    """
    given: dict[str, Any] = {"default_factory": default.copy} if isinstance(default, dict) else {"default": default}
    return dataclasses.field(**given, metadata={MEANING: meaning, TABLE: table})


def required(meaning: str, table: str = "") -> Any:
    """Declares a key that must be set, with its line in ``--help``; of a section, ``table`` has its classes by their key ``kind``."""
    return dataclasses.field(metadata={MEANING: meaning, TABLE: table})


def check_name(name: object, names: Collection[str], key: str, where: str = "") -> None:
    """Raises UserError with the nearest valid name where the value of a key is none of ``names``."""
    if not isinstance(name, str) or name not in names:
        raise unknown_name(name, names, key, where)


def unknown_name(name: object, names: Iterable[object], key: str, where: str) -> UserError:
    """Returns the error of a value that is none of ``names``, with the nearest one."""
    valid = [str(each) for each in names]
    near = [new for new in (RENAMED.get(str(name)),) if new in valid] or difflib.get_close_matches(str(name), valid, 1)
    return UserError(f"{key} is {name!r}", where, f"one of {', '.join(valid)}", f"did you mean {near[0]!r}?" if near else "")


class Checked:
    """Base of sections with numbers: raises UserError where one lies outside its ``limits``, or is NaN or infinite."""

    limits: typing.ClassVar[Limits] = {}

    def __post_init__(self) -> None:
        for name, (low, *high) in self.limits.items():
            value = getattr(self, name)
            if value is not None and not (low <= value <= high[0] if high else low <= value < float("inf")):
                raise UserError(f"{name} is {value}", f"section {type(self).__name__}",
                                f"{low:g} to {high[0]:.6g}" if high else f"at least {low:g}" + ", finite" * (value == float("inf")))
