"""The released retrieval result file: one line per batch, five lists with \\x01 between them. released/counting.py counts it.

    [text ids]\\x01[ids of the pictures' products]\\x01[ids of pictures]\\x01[labels]\\x01[two logits per pair, one behind the other]

A query is a text (t2i) or the product of a picture (i2t).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kaleidobert.errors import UserError

MARK = "\x01"
FIELDS = ("text ids", "product ids", "picture ids", "labels", "logits")
UNFIT = "[], \t\r\n'\"\x01"  # characters with which an id would not be read back
QUOTED = re.compile(r"b?(['\"])(.*)\1", re.DOTALL)  # as Python shows a text


@dataclass(frozen=True)
class Pairs:
    """N scored pairs in the order of their file: ids as text, labels i32[N] (1 = right), logits f32[N, 2]."""

    texts: list[str]
    products: list[str]
    pictures: list[str]
    labels: np.ndarray
    logits: np.ndarray

    def queries(self, direction: str) -> list[str]:
        """Returns the id of each pair's query; direction: i2t or t2i."""
        return self.products if direction == "i2t" else self.texts

    def answers(self, direction: str) -> list[str]:
        """Returns the id of each pair's candidate."""
        return self.texts if direction == "i2t" else self.products


def line(texts: Sequence[str], products: Sequence[str], pictures: Sequence[str], labels: np.ndarray, logits: np.ndarray) -> str:
    """Returns a batch as its line of the file, without line end. Raises UserError for an id that could not be read back."""
    for name, ids in zip(FIELDS, (texts, products, pictures)):
        wrong = next((value for value in ids if not value or any(mark in value for mark in UNFIT)), None)
        if wrong is not None:
            raise UserError(f"the id {wrong!r} among the {name} cannot stand in a result file", "retrieval result",
                            "ids without blanks, commas, brackets and quotes")
    lists = [[[value] for value in ids] for ids in (texts, products, pictures)]
    numbers = [[[int(label)] for label in labels], np.asarray(logits, np.float32).ravel().astype(float).tolist()]
    return MARK.join(map(str, [*lists, *numbers]))


def read(path: str | Path) -> Pairs:
    """Reads the pairs of a result file; brackets and blanks are dropped before splitting at commas. Raises UserError for a line that does
    not fit."""
    texts: list[str] = []
    products: list[str] = []
    pictures: list[str] = []
    labels, logits = [], []
    try:
        with open(path, encoding="utf-8") as file:
            for number, content in enumerate(file, 1):
                where = f"{path}, line {number:,}"
                fields = content.rstrip("\r\n").split(MARK)
                if len(fields) != len(FIELDS):
                    raise UserError(f"the line has {len(fields)} fields", where, f"{len(FIELDS)}: {', '.join(FIELDS)}")
                lists = [field.translate({ord(mark): None for mark in "[] "}).split(",") for field in fields]
                try:
                    numbers = np.array(list(map(int, lists[3])), np.int32), np.array(list(map(float, lists[4])), np.float32)
                except ValueError as error:
                    raise UserError(str(error), where, "labels 0 and 1, two logits per pair") from None
                if {len(one) for one in lists[:4]} != {len(lists[0])} or len(lists[4]) != 2 * len(lists[0]):
                    raise UserError(f"the lists have {', '.join(str(len(one)) for one in lists)} items", where,
                                    "as many ids and labels, twice as many logits")
                for kept, values in zip((texts, products, pictures), lists):
                    kept += [QUOTED.sub(r"\2", value) for value in values]
                labels.append(numbers[0])
                logits.append(numbers[1])
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", str(path), "a retrieval result file") from None
    except UnicodeDecodeError:
        raise UserError("is not UTF-8", str(path), "a retrieval result file") from None
    if not texts:
        raise UserError("the file is empty", str(path), "a retrieval result file")
    return Pairs(texts, products, pictures, np.concatenate(labels), np.concatenate(logits).reshape(-1, 2))
