"""Scores of many pairs of pictures and texts by a Matcher: each side is computed once, pairs are sorted by the length of the text.

Tables of what the sides are brought to (model_zoo.pairs) stay on the device; a pair costs three numbers on the wire. Where the
tables do not fit into ``memory``, the pictures are taken block by block, and the texts beside each of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from keras import ops
from tqdm import tqdm

from kaleidobert.engines import steps
from kaleidobert.engines.feeding import prefetch
from kaleidobert.model_zoo.kaleidobert import Matcher
from kaleidobert.model_zoo.pairs import Pairs, PictureCache, TextSide, answers, bytes_of_a_row
from kaleidobert.specs import Tensor


def predict(forward: Callable[[steps.Arrays], dict[str, np.ndarray]], make_inputs: Callable[[np.ndarray], steps.Arrays],
            rows: np.ndarray, batch_size: int, title: str = "", lengths: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """The model's outputs for all rows, at least one, in their order; make_inputs(rows of a batch) -> inputs.

    lengths: of the rows' texts; rows of one length then go together, so that make_inputs can cut their texts. forward:
    steps.forward(model), made once per model, for it compiles anew each time. Raises UserError where an output is not finite.
    """
    order = np.arange(len(rows)) if lengths is None else np.argsort(lengths, kind="stable")
    rows, parts = rows[order], []
    starts = range(0, len(rows), batch_size)
    batches = prefetch(lambda number: make_inputs(rows[starts[number] : starts[number] + batch_size]), range(len(starts)))
    with steps.held(forward):
        for inputs in tqdm(batches, desc=title, total=len(starts), unit="batch", disable=not title, leave=False):
            outputs = forward(inputs)
            for name, array in outputs.items():
                if not np.isfinite(array).all():
                    raise steps.not_finite(f"the model's answer {name!r}", title or "prediction", inputs)
            parts.append(outputs)
    return {name: np.concatenate([part[name] for part in parts])[np.argsort(order)] for name in parts[0]}


# --- Scores of many pairs of pictures and texts by a Matcher


MEMORY = 2**30  # bytes of both tables, half for each side; up to twice as much while a table is made
ORDER = 1  # changes where pairs are put into other batches than before: half-finished runs then begin anew
MULTIPLE = 8  # texts are cut to multiples of so many tokens
SIDES_AT_ONCE = 64  # of one table


@dataclass(frozen=True)
class Sides:
    """Where pictures and texts come from: rows -> patch_features, patch_boxes; rows -> token_ids, segment_ids, token_mask [n, T].

    lengths i64[N]: up to which position each row's text has tokens.
    """

    pictures: Callable[[np.ndarray], steps.Arrays]
    texts: Callable[[np.ndarray], steps.Arrays]
    lengths: np.ndarray


@dataclass(frozen=True)
class Batch:
    """Pairs to be computed together: ``pairs`` i64[n], which of those asked for; rows of their pictures and texts, in tables that hold
    ``all_pictures`` and ``all_texts``; length: T' to which the texts are cut."""

    pairs: np.ndarray
    pictures: np.ndarray
    texts: np.ndarray
    all_pictures: np.ndarray
    all_texts: np.ndarray
    length: int


class PairScorer:
    """forward passes of a Matcher over pairs. Compiles once; makes new tables in every call, for weights may have changed.

    Raises UserError where an answer is not finite.
    """

    def __init__(self, matcher: Matcher, sides: Sides, batch_size: int, memory: int = MEMORY):
        self._sides, self._batch_size = sides, batch_size
        self._width = max(1, sides.lengths.max(initial=1))
        self.names, row = answers(matcher), bytes_of_a_row(matcher)
        self._most_pictures, self._most_texts = (max(1, memory // 2 // (row * count)) for count in
                                                 (matcher.backbone.num_patches, rounded(int(self._width), MULTIPLE)))
        self._compiled = [steps.on_device(PictureCache(matcher), ()), steps.on_device(TextSide(matcher), ()),
                          steps.on_device(Pairs(matcher), shared=("pictures", "texts", "places"))]

    def batches(self, pictures: np.ndarray, texts: np.ndarray) -> list[Batch]:
        """How pairs of rows i64[n] are computed: a function of the pairs, batch_size and memory alone."""
        own, picture_place = np.unique(pictures, return_inverse=True)
        other, text_place = np.unique(texts, return_inverse=True)
        by_length = np.argsort(self._sides.lengths[other], kind="stable")
        other, text_place = other[by_length], np.argsort(by_length)[text_place]
        blocks = picture_place // self._most_pictures * len(other) + text_place // self._most_texts
        order = np.lexsort((picture_place, text_place, blocks))
        found, ends = [], np.flatnonzero(np.diff(blocks[order], append=-1)) + 1
        for start, end in zip([0, *ends[:-1]], ends):
            first = order[start]
            block = [part * most for part, most in ((picture_place[first] // self._most_pictures, self._most_pictures),
                                                   (text_place[first] // self._most_texts, self._most_texts))]
            tables = own[block[0] : block[0] + self._most_pictures], other[block[1] : block[1] + self._most_texts]
            for number in range(start, end, self._batch_size):
                part = order[number : min(number + self._batch_size, end)]
                length = rounded(int(self._sides.lengths[texts[part]].max()), MULTIPLE)
                found.append(Batch(part, picture_place[part] - block[0], text_place[part] - block[1], *tables, length))
        return found

    def scores(self, batches: Sequence[Batch], title: str = "pairs") -> Iterator[tuple[Batch, np.ndarray]]:
        """(batch, f32[n]: logit[1] of its pairs) one after another."""
        for batch, found in self.answers(batches, title):
            yield batch, found[0]

    def answers(self, batches: Sequence[Batch], title: str = "pairs") -> Iterator[tuple[Batch, np.ndarray]]:
        """(batch, f32[A, n]: logit[1] of its pairs, and what it is made of, as ``names`` says) one after another; the next is under way
        while one is looked at."""
        tables, waiting = (_Table(), _Table()), None
        with steps.held(self._compiled[-1]):
            for batch in batches:
                under_way = batch, self._begin(batch, tables)
                if waiting:
                    yield self._finish(*waiting, title)
                waiting = under_way
            if waiting:
                yield self._finish(*waiting, title)

    def _begin(self, batch: Batch, tables: tuple["_Table", "_Table"]) -> Mapping[str, Tensor]:
        """The batch's answers, perhaps not computed yet."""
        (pictures, texts), (picture_side, text_side, pairs) = tables, self._compiled
        pictures.fill(batch.all_pictures, lambda rows: picture_side(self._sides.pictures(rows)))
        texts.fill(batch.all_texts, lambda rows: self._texts(text_side, rows, int(self._sides.lengths[batch.all_texts].max())))
        places = np.arange(min(batch.length, texts.values["token_mask"].shape[1]), dtype=np.int32)
        return pairs({"pictures": pictures.values, "texts": texts.values, "picture": filled(batch.pictures),
                      "text": filled(batch.texts), "places": places})

    def _texts(self, text_side: Callable, rows: np.ndarray, longest: int) -> dict[str, Tensor]:
        """Texts cut to the longest of their table."""
        inputs = {name: array[:, : rounded(longest, MULTIPLE)] for name, array in self._sides.texts(rows).items()}
        return {**text_side(inputs), "token_mask": ops.convert_to_tensor(inputs["token_mask"])}

    def _finish(self, batch: Batch, under_way: Mapping[str, Tensor], title: str) -> tuple[Batch, np.ndarray]:
        found = []
        for name in self.names:
            answer = ops.convert_to_numpy(ops.cast(under_way[name], "float32"))[: len(batch.pairs)]
            if not np.isfinite(answer).all():
                read = {**self._sides.pictures(batch.all_pictures[batch.pictures]), **self._sides.texts(batch.all_texts[batch.texts])}
                raise steps.not_finite(f"the model's answer {name!r}", title or "pairs", read)
            found.append(answer[:, 1] if answer.ndim == 2 else answer)
        return batch, np.stack(found)


class _Table:
    """What one side's rows were brought to, on the device. A function of the rows, so that it may stay while they do."""

    def __init__(self):
        self.values, self._rows = {}, None

    def fill(self, rows: np.ndarray, compute: Callable[[np.ndarray], dict]) -> None:
        if self._rows is not None and np.array_equal(rows, self._rows):
            return
        self.values, self._rows = {}, None  # the old one is gone before the new one is made
        parts = [compute(filled(rows[start : start + SIDES_AT_ONCE])) for start in range(0, len(rows), SIDES_AT_ONCE)]
        self.values = {name: ops.concatenate([part[name] for part in parts]) for name in parts[0]}
        self._rows = rows


def rounded(number: int, multiple: int) -> int:
    """Up to a multiple."""
    return -(-number // multiple) * multiple


def filled(rows: np.ndarray) -> np.ndarray:
    """i32, the last one repeated until there are few lengths to compile: at most 1/8 more."""
    size = rounded(len(rows), max(1, 2 ** (len(rows).bit_length() - 4)))
    return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows))]).astype(np.int32)
