"""Candidate lists scored chunk by chunk; the scores are kept on disk, so that an interrupted run continues where it stopped.

    run/.scores.part       a line that says of what the scores are; then of every batch, in the order of engines.prediction, its scores as
                           little-endian float32 and their CRC-32; removed when the results are written
        scores.jsonl       of all queries
        scores.npy         of a gallery with more than MAX_LINES pairs instead, f32[Q, L]; its rows and columns: gallery.json
"""

import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, TypeGuard

import numpy as np
from tqdm import tqdm

from kaleidobert import io
from kaleidobert.configs import RetrieveConfig
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sampling import finetuning
from kaleidobert.engines.prediction import PairScorer, Sides
from kaleidobert.evaluators.candidates import CandidateLists, Gallery
from kaleidobert.model_zoo.kaleidobert import Matcher

MAX_LINES = 10**7  # pairs of a gallery that are written as text, some 30 bytes each
SAFE_AFTER = 1.0  # seconds after which what was scored is forced onto the disk
ScoredChunk = tuple[CandidateLists, dict[str, np.ndarray]]  # some queries; of each answer (Ranker.names) f32[q, L], -inf for padding


class Ranker:
    """Scores lists whose rows are those of ``rows`` of the bank by a matcher: logit[1] of every pair, "itm" (model_zoo.pairs.output_names).

    Of the head "dual_encoder" also what is added in it, computed in the same pass: "own" of the encoder, "dual_encoder".
    """

    def __init__(self, model: Matcher, bank: Bank, rows: np.ndarray, config: RetrieveConfig):
        lengths = finetuning.text_lengths(bank) if config.train.dynamic_padding else np.full(bank.size, bank.text_length)
        sides = Sides(lambda chosen: finetuning.picture_inputs(bank, chosen), lambda chosen: finetuning.text_inputs(bank, chosen), lengths)
        self._rows, self._scorer = rows, PairScorer(model, sides, config.predict_batch_size)
        self.names = self._scorer.names

    def table(self, lists: CandidateLists) -> np.ndarray:
        """Returns f32[Q, L] of small lists, without progress."""
        return np.concatenate([tables["itm"] for _, tables in self.chunks(lists)])

    def chunks(self, lists: CandidateLists | Gallery, title: str = "", store: "ScoreCache | None" = None) -> Iterator[ScoredChunk]:
        """Yields all queries with their scores, some at a time; what the store holds is read, and what is scored is added to it.

        Raises UserError where a score is not finite or the disk is full.
        """
        with tqdm(total=lists.num_pairs, desc=title, unit="pair", disable=not title, leave=False, smoothing=0) as bar:
            for chunk in lists.chunks():
                query, position = np.nonzero(chunk.valid)
                wanted, answer = self._rows[chunk.queries[query]], self._rows[chunk.candidates[query, position]]
                batches = self._scorer.batches(*((wanted, answer) if lists.direction == "i2t" else (answer, wanted)))
                result, done, answers = np.empty((len(self.names), len(query)), np.float32), 0, len(self.names)
                while store is not None and done < len(batches) and (known := store.read(answers * len(batches[done].pairs))) is not None:
                    result[:, batches[done].pairs] = known.reshape(answers, -1)
                    bar.initial += len(batches[done].pairs)  # the rate is that of this process
                    bar.update(len(batches[done].pairs))
                    done += 1
                for batch, scores in self._scorer.answers(batches[done:], title):
                    result[:, batch.pairs] = scores
                    if store is not None:
                        store.add(scores.ravel())
                    bar.update(len(batch.pairs))
                tables = {name: np.full(chunk.candidates.shape, -np.inf, np.float32) for name in self.names}
                for table, values in zip(tables.values(), result):
                    table[query, position] = values
                yield chunk, tables


class ScoreCache:
    """Scores on the disk, batch by batch. identity: of what they are (JSON-able); those of something else are dropped."""

    def __init__(self, path: Path, identity: dict[str, Any]):
        self.path, self._reading, self._safe = path, True, monotonic()
        with io.explained(path, resumes=True):
            self._file = open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
        head = json.dumps(identity, sort_keys=True).encode() + b"\n"
        self.resumed = self._file.read(len(head)) == head and os.path.getsize(path) > len(head)
        if not self.resumed:
            self._cut(0)
            self._write(head)

    def read(self, count: int) -> np.ndarray | None:
        """Returns the scores of the next batch; None, from then on, where they are not there or damaged: a crash left them so."""
        if not self._reading:
            return None
        start, size = self._file.tell(), 4 * count
        record = self._file.read(size + 4)
        if len(record) == size + 4 and zlib.crc32(record[:size]) == int.from_bytes(record[size:], "little"):
            return np.frombuffer(record[:size], "<f4")
        self._reading = False
        self._cut(start)
        return None

    def add(self, scores: np.ndarray) -> None:
        """Appends scores behind what was read or added last. Raises UserError where the disk is full."""
        if self._reading:
            self._reading = False
            self._cut(self._file.tell())
        content = scores.astype("<f4").tobytes()
        self._write(content + zlib.crc32(content).to_bytes(4, "little"))
        if monotonic() - self._safe > SAFE_AFTER:
            os.fsync(self._file.fileno())
            self._safe = monotonic()

    def __enter__(self) -> "ScoreCache":
        return self

    def __exit__(self, *error: Any) -> None:
        self._file.close()

    def _cut(self, size: int) -> None:
        self._file.seek(size)
        self._file.truncate()

    def _write(self, content: bytes) -> None:
        with io.explained(self.path, resumes=True):
            while content:
                content = content[self._file.write(content):]


def is_large(lists: CandidateLists | Gallery) -> TypeGuard[Gallery]:
    """Whether lists and scores are not written as text."""
    return isinstance(lists, Gallery) and lists.num_pairs > MAX_LINES


def save_gallery(lists: Gallery, ids: Sequence[str], path: Path) -> None:
    """Writes the ids of the rows and columns of scores.npy."""
    io.write_json(path, {"direction": lists.direction, "protocol": lists.protocol, "sha256": lists.sha256,
                            "queries": [ids[row] for row in lists.queries], "candidates": [ids[row] for row in lists.gallery]})


@contextmanager
def writer(path: Path, lists: CandidateLists | Gallery, ids: Sequence[str]) -> Iterator[Callable[[CandidateLists, np.ndarray], int]]:
    """Yields a function that writes some queries; the file appears when all are written: JSON lines, or an array where ``is_large``."""
    with io.atomic(path) as file:
        if is_large(lists):
            shape = (len(lists.queries), lists.length)
            np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
            yield lambda chunk, scores: file.write(scores.astype("<f4").tobytes())
        else:
            yield lambda chunk, scores: file.write("".join(_lines(chunk, scores, ids)).encode())


def _lines(chunk: CandidateLists, scores: np.ndarray, ids: Sequence[str]) -> Iterator[str]:
    for query, row, right, values in zip(chunk.queries, chunk.candidates, chunk.relevant, scores):
        used = row >= 0
        yield json.dumps({"query": ids[query], "candidates": [ids[i] for i in row[used]], "relevant": right[used].astype(int).tolist(),
                          "scores": [float(f"{value:.9g}") for value in values[used]]}) + "\n"  # exact: ties must stay ties
