"""Outputs of a model for many rows, and scores of a Matcher for many pairs of pictures and texts.

Pairs: each side is computed once (model_zoo.pairs) into a table that stays on the device, and a pair sends three numbers to it. Pairs
are sorted by the length of the text. Where the tables do not fit into ``memory``, they are made for blocks of pictures and texts.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from keras import ops
from scipy.special import expit
from tqdm import tqdm

from kaleidobert.engines import steps
from kaleidobert.engines.feeding import prefetch
from kaleidobert.model_zoo.kaleidobert import Matcher
from kaleidobert.model_zoo.pairs import Pairs, PictureCache, TextSide, bytes_of_a_row, output_names
from kaleidobert.specs import Tensor


def predict(forward: Callable[[steps.Arrays], dict[str, np.ndarray]], make_inputs: Callable[[np.ndarray], steps.Arrays],
            rows: np.ndarray, batch_size: int, title: str = "", lengths: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Computes the model's outputs for all rows, at least one, in their order; make_inputs(rows of a batch) -> inputs.

    lengths: of the rows' texts; rows of similar length then share a batch, so that make_inputs can cut their texts. forward:
    steps.forward(model), made once per model, as each one compiles. Raises UserError where an output is not finite.
    """
    order = np.arange(len(rows)) if lengths is None else np.argsort(lengths, kind="stable")
    rows, batches_of_outputs = rows[order], []
    starts = range(0, len(rows), batch_size)
    batches = prefetch(lambda number: make_inputs(rows[starts[number] : starts[number] + batch_size]), range(len(starts)))
    with steps.held(forward):
        for inputs in tqdm(batches, desc=title, total=len(starts), unit="batch", disable=not title, leave=False):
            outputs = forward(inputs)
            for name, array in outputs.items():
                if not np.isfinite(array).all():
                    raise steps.not_finite(f"the model's output {name!r}", title or "prediction", inputs)
            batches_of_outputs.append(outputs)
    return {name: np.concatenate([outputs[name] for outputs in batches_of_outputs])[np.argsort(order)] for name in batches_of_outputs[0]}


# --- Scores of many pairs of pictures and texts by a Matcher


MEMORY = 2**30  # bytes of both tables, half for each side; up to twice as much while a table is made
ORDER = 1  # raised when pairs are batched differently: half-finished runs then start again
MULTIPLE = 8  # texts are cut to multiples of so many tokens
SIDES_AT_ONCE = 64  # of one table


@dataclass(frozen=True)
class Sides:
    """Reads pictures and texts: rows -> patch_features, patch_boxes; rows -> token_ids, segment_ids, token_mask [n, T].

    lengths i64[N]: the number of tokens of each row's text.
    """

    pictures: Callable[[np.ndarray], steps.Arrays]
    texts: Callable[[np.ndarray], steps.Arrays]
    lengths: np.ndarray


@dataclass(frozen=True)
class Batch:
    """Pairs that are computed together.

    pairs i64[n]: their numbers among all; pictures, texts: their rows in the tables, which have ``all_pictures`` and ``all_texts``;
    length: T' to which the texts are cut.
    """

    pairs: np.ndarray
    pictures: np.ndarray
    texts: np.ndarray
    all_pictures: np.ndarray
    all_texts: np.ndarray
    length: int


class PairScorer:
    """The forward pass of a Matcher over pairs. Compiles once; makes new tables in every call, as weights may have changed.

    Raises UserError where an output is not finite.
    """

    def __init__(self, matcher: Matcher, sides: Sides, batch_size: int, memory: int = MEMORY):
        self._batch_size, self.names = batch_size, output_names(matcher)
        # positions of which either table holds the sides, and those of a picture
        self._positions, self._patches = memory // 2 // bytes_of_a_row(matcher), matcher.backbone.num_patches
        self._take(sides)
        self._compiled = [steps.on_device(PictureCache(matcher), ()), steps.on_device(TextSide(matcher), ()),
                          steps.on_device(Pairs(matcher), shared=("pictures", "texts", "positions"))]

    def over(self, sides: Sides, batch_size: int) -> "PairScorer":
        """Returns a scorer of other pictures and texts, which shares what is compiled."""
        other = copy.copy(self)
        other._batch_size = batch_size
        other._take(sides)
        return other

    def _take(self, sides: Sides) -> None:
        self._sides, self._width = sides, max(1, sides.lengths.max(initial=1))
        self._max_pictures, self._max_texts = (max(1, self._positions // count)
                                               for count in (self._patches, round_up(int(self._width), MULTIPLE)))

    def batches(self, pictures: np.ndarray, texts: np.ndarray) -> list[Batch]:
        """Divides pairs of rows i64[n] into batches: a function of the pairs, batch_size and memory alone."""
        own, picture_position = np.unique(pictures, return_inverse=True)
        other, text_position = np.unique(texts, return_inverse=True)
        by_length = np.argsort(self._sides.lengths[other], kind="stable")
        other, text_position = other[by_length], np.argsort(by_length)[text_position]
        blocks = picture_position // self._max_pictures * len(other) + text_position // self._max_texts
        order = np.lexsort((picture_position, text_position, blocks))
        batches, ends = [], np.flatnonzero(np.diff(blocks[order], append=-1)) + 1
        for start, end in zip([0, *ends[:-1]], ends):
            first = order[start]
            block = [number * size for number, size in ((picture_position[first] // self._max_pictures, self._max_pictures),
                                                   (text_position[first] // self._max_texts, self._max_texts))]
            tables = own[block[0] : block[0] + self._max_pictures], other[block[1] : block[1] + self._max_texts]
            for number in range(start, end, self._batch_size):
                chosen = order[number : min(number + self._batch_size, end)]
                length = round_up(int(self._sides.lengths[texts[chosen]].max()), MULTIPLE)
                batches.append(Batch(chosen, picture_position[chosen] - block[0], text_position[chosen] - block[1], *tables, length))
        return batches

    def scores(self, batches: Sequence[Batch], title: str = "pairs") -> Iterator[tuple[Batch, np.ndarray]]:
        """Yields (batch, f32[n]: logit[1] of its pairs)."""
        for batch, logits in self.answers(batches, title):
            yield batch, logits[0]

    def answers(self, batches: Sequence[Batch], title: str = "pairs") -> Iterator[tuple[Batch, np.ndarray]]:
        """Yields (batch, f32[A, n]: logit[1] of its pairs and the logits that it is the sum of, in the order of ``names``).

        The device computes the next batch meanwhile.
        """
        for batch, outputs in self._outputs(batches, title):
            yield batch, np.stack([outputs[name][:, 1] if outputs[name].ndim == 2 else outputs[name] for name in self.names])

    def probabilities(self, batches: Sequence[Batch], title: str = "pairs") -> Iterator[tuple[Batch, np.ndarray]]:
        """Yields (batch, f32[n]: the probability that a pair belongs together, the softmax of its two logits)."""
        for batch, outputs in self._outputs(batches, title):
            yield batch, expit(outputs["itm"][:, 1] - outputs["itm"][:, 0])

    def _outputs(self, batches: Sequence[Batch], title: str) -> Iterator[tuple[Batch, dict[str, np.ndarray]]]:
        """Yields (batch, the outputs of its pairs)."""
        tables, pending = (_Table(), _Table()), None
        with steps.held(self._compiled[-1]):
            for batch in batches:
                begun = batch, self._begin(batch, tables)
                if pending:
                    yield self._finish(*pending, title)
                pending = begun
            if pending:
                yield self._finish(*pending, title)

    def _begin(self, batch: Batch, tables: tuple["_Table", "_Table"]) -> Mapping[str, Tensor]:
        """Starts a batch; the device may still be computing what is returned."""
        (pictures, texts), (picture_side, text_side, pairs) = tables, self._compiled
        pictures.fill(batch.all_pictures, lambda rows: picture_side(self._sides.pictures(rows)))
        texts.fill(batch.all_texts, lambda rows: self._texts(text_side, rows, int(self._sides.lengths[batch.all_texts].max())))
        positions = np.arange(min(batch.length, texts.values["token_mask"].shape[1]), dtype=np.int32)
        return pairs({"pictures": pictures.values, "texts": texts.values, "picture": padded(batch.pictures),
                      "text": padded(batch.texts), "positions": positions})

    def _texts(self, text_side: Callable, rows: np.ndarray, longest: int) -> dict[str, Tensor]:
        """Computes the text side of rows, cut to the longest text of their table."""
        inputs = {name: array[:, : round_up(longest, MULTIPLE)] for name, array in self._sides.texts(rows).items()}
        return {**text_side(inputs), "token_mask": ops.convert_to_tensor(inputs["token_mask"])}

    def _finish(self, batch: Batch, outputs: Mapping[str, Tensor], title: str) -> tuple[Batch, dict[str, np.ndarray]]:
        answers = {}
        for name in self.names:
            answer = ops.convert_to_numpy(ops.cast(outputs[name], "float32"))[: len(batch.pairs)]
            if not np.isfinite(answer).all():
                inputs = {**self._sides.pictures(batch.all_pictures[batch.pictures]), **self._sides.texts(batch.all_texts[batch.texts])}
                raise steps.not_finite(f"the model's output {name!r}", title or "pairs", inputs)
            answers[name] = answer
        return batch, answers


class _Table:
    """One side of all rows of a block, on the device; it is kept as long as the rows stay the same."""

    def __init__(self):
        self.values, self._rows = {}, None

    def fill(self, rows: np.ndarray, compute: Callable[[np.ndarray], dict]) -> None:
        if self._rows is not None and np.array_equal(rows, self._rows):
            return
        self.values, self._rows = {}, None  # frees the old table before the new one is made
        chunks = [compute(padded(rows[start : start + SIDES_AT_ONCE])) for start in range(0, len(rows), SIDES_AT_ONCE)]
        self.values = {name: ops.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
        self._rows = rows


def round_up(number: int, multiple: int) -> int:
    """Rounds up to a multiple."""
    return -(-number // multiple) * multiple


def padded(rows: np.ndarray) -> np.ndarray:
    """Repeats the last row, so that few lengths are compiled; at most 1/8 more. Returns i32."""
    size = round_up(len(rows), max(1, 2 ** (len(rows).bit_length() - 4)))
    return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows))]).astype(np.int32)


CANDIDATES = 50  # of a query that are computed together


class QueryScorer:
    """The forward pass of a Matcher over one query and its candidates: one picture with many texts, or one text with many pictures.

    Every side is computed once, and candidates CANDIDATES at a time, the last ones filled up: three shapes are compiled, and no more of
    them as queries come and go. Raises UserError where an output is not finite.
    """

    def __init__(self, matcher: Matcher):
        self._pictures, self._texts = steps.on_device(PictureCache(matcher), ()), steps.on_device(TextSide(matcher), ())
        self._pairs = steps.on_device(Pairs(matcher), shared=("pictures", "texts", "positions"))

    def scores(self, pictures: steps.Arrays, texts: steps.Arrays) -> np.ndarray:
        """Returns f32[n], logit[1] of all pairs. pictures: patch_features, patch_boxes; texts: token_ids, segment_ids, token_mask; one
        of the two sides has one row, which is paired with every row of the other."""
        count = max(len(pictures["patch_boxes"]), len(texts["token_ids"]))
        length = round_up(int(np.flatnonzero(texts["token_mask"].any(0)).max(initial=0)) + 1, MULTIPLE)
        sides = {"pictures": pictures, "texts": {name: array[:, :length] for name, array in texts.items()}}
        query, others = ("texts", "pictures") if len(texts["token_ids"]) == 1 else ("pictures", "texts")
        tables, scores = {query: self._table(query, sides[query])}, []
        numbers = {query: np.zeros(CANDIDATES, np.int32), others: np.arange(CANDIDATES, dtype=np.int32)}
        shared = {"picture": numbers["pictures"], "text": numbers["texts"],
                  "positions": np.arange(sides["texts"]["token_ids"].shape[1], dtype=np.int32)}
        for start in range(0, count, CANDIDATES):
            rows = np.minimum(np.arange(start, start + CANDIDATES), count - 1)
            tables[others] = self._table(others, {name: array[rows] for name, array in sides[others].items()})
            logits = self._pairs({**tables, **shared})["itm"]
            scores.append(ops.convert_to_numpy(ops.cast(logits, "float32"))[: count - start, 1])
        result = np.concatenate(scores)
        if not np.isfinite(result).all():
            raise steps.not_finite("the model's output 'itm'", "search", {**pictures, **texts})
        return result

    def _table(self, side: str, inputs: steps.Arrays) -> dict[str, Tensor]:
        """Computes one side of all rows of the inputs, on the device."""
        if side == "pictures":
            return self._pictures(inputs)
        return {**self._texts(inputs), "token_mask": ops.convert_to_tensor(inputs["token_mask"])}
