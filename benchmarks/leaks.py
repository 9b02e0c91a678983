"""What masks give away: linear probes for the answers of pre-training, from what is masked and where.

    python -m benchmarks.leaks BANK                       # masks at random and, where the bank has an alignment, AGM
    python -m benchmarks.leaks BANK --examples 100000 --json leaks.json

Examples are drawn as in training, without features. A probe is ridge regression onto the classes, trained on the draws of three
quarters of the products and tested on the others'. It sees one of:

    tokens       which positions of the text are masked, and how long the text is
    slots        which patches are masked, singly and in pairs; of the predicted level none
    both         tokens, slots, and every masked position together with every masked patch
    word kinds   how many content words and how many other pieces are masked, and are there (ITM only)
    kinds, slots how many content words are masked, together with every masked patch (ITM only)
    masked text  the pieces of the spoiled text, and those beside masked ones (ITM only)
    words, slots whether the slots are those that the text's words usually have, and the same for the masked words (ITM only)

Where nothing is given away, no probe is right more often than the share of the commonest answer. The last probe alone may be: a
picture is masked where the words of its own text lie, so that its masked patches say something about that text, and a text with
such words is more likely its own. That is content: masks show a little of it, and the picture shows all of it.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import linalg, sparse

from benchmarks import report
from kaleidobert import io
from kaleidobert import levels as kaleido
from kaleidobert.configs import Sampling
from kaleidobert.datasets.bank import alignment
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sampling.pretraining import EXAMPLES, PretrainSampler, generator
from kaleidobert.preprocessors import alignment_generator

BATCH = 64
TESTED = 4  # one product of so many is tested on
RIDGE = 30.0  # in examples
SEVERAL = 12  # pieces, or more
PIECES = 1000  # of the text, the most frequent ones
NORMAL = 1.96  # a 95% interval is so many standard errors to either side
SOME = 8  # examples of a word, at least, before its usual slots are believed


@dataclass(frozen=True)
class Draws:
    """N examples as sparse 0/1 matrices: tokens [N, T] masked, length [N, T], slots [N, P] masked, pieces and beside [N, V] of the
    spoiled text, visible and masked [N, V] of the true one; answers {task: i64[N]}; products i64[N],
    the text's; slot_levels: the tasks whose answer is a masked slot."""

    tokens: sparse.csr_array
    length: sparse.csr_array
    slots: sparse.csr_array
    pieces: sparse.csr_array
    beside: sparse.csr_array
    visible: sparse.csr_array
    masked: sparse.csr_array
    answers: dict[str, np.ndarray]
    products: np.ndarray
    slot_levels: tuple[str, ...]


@dataclass(frozen=True)
class ProbeResult:
    """The result of a probe: accuracy on n examples, and the share of the commonest answer there."""

    task: str
    probe: str
    accuracy: float
    share: float
    examples: int

    @property
    def interval(self) -> tuple[float, float]:
        """95%, of the accuracy."""
        half = NORMAL * np.sqrt(max(self.accuracy * (1 - self.accuracy), self.share * (1 - self.share)) / self.examples)
        return self.accuracy - half, self.accuracy + half


def main(arguments: list[str] | None = None) -> int:
    """Runs the program; returns the exit status."""
    parser = argparse.ArgumentParser("python -m benchmarks.leaks", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bank", type=Path)
    parser.add_argument("--examples", type=report.positive, default=40_000, help="that are drawn; default: 40,000")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of `sampling`, such as pairs=all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    return report.guarded(run, parser.parse_args(arguments))


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Draws, probes and prints, for every policy that the bank allows."""
    bank, rows = Bank(options.bank), []
    settings = dict(word.split("=", 1) for word in options.set)
    for policy in ("random", "alignment_guided") if alignment.strengths(bank) is not None else ("random",):
        sampling = Sampling(masking=policy, **settings)
        print(f"{policy}: {options.examples:,} examples of {bank.folder}{''.join(f', {word}' for word in options.set)}")
        for result in probe(draws(bank, sampling, options.examples), bank):
            low, high = result.interval
            print(f"  {result.task:12s} {result.probe:13s} {result.accuracy:.3f} [{low:.3f}, {high:.3f}]  share {result.share:.3f}")
            rows.append({"policy": policy, **vars(result), "low": low, "high": high})
    if options.json:
        io.write_json(options.json, rows)
    return rows


def draws(bank: Bank, sampling: Sampling, examples: int, seed: int = 0) -> Draws:
    """Draws examples of the training split, as many as requested or a few more."""
    sampler = PretrainSampler(bank, bank.rows("train"), bank.levels, sampling, BATCH, seed)
    batches = [sampler.draw(sampler.order.batch(step), generator(seed, EXAMPLES, step)) for step in range(-(-examples // BATCH))]
    rows, text_rows = (np.concatenate([getattr(one, name) for one in batches]) for name in ("rows", "text_rows"))
    tokens, weights = (np.concatenate([getattr(one.masks, name) for one in batches]) for name in ("tokens", "token_weights"))
    ids, true = np.concatenate([one.token_ids for one in batches]), bank.token_ids[text_rows]
    plain = ~np.isin(true, (bank.vocabulary.pad, bank.vocabulary.start, bank.vocabulary.end))
    hidden = np.zeros(ids.shape, bool)
    hidden[np.nonzero(weights)[0], tokens[weights > 0]] = True
    near = np.zeros(ids.shape, bool)
    near[:, 1:] |= hidden[:, :-1]
    near[:, :-1] |= hidden[:, 1:]
    slots, starts = np.zeros((len(rows), kaleido.num_patches(bank.levels)), bool), kaleido.patch_slices(bank.levels)
    for name in batches[0].masks.patches:
        np.put_along_axis(slots, starts[name].start + np.concatenate([one.masks.patches[name] for one in batches]), True, 1)
    answers = {"itm": (rows == text_rows).astype(int)} | {
        level.name: np.concatenate([one.spoiled[level.name].answer for one in batches]) for level in bank.levels if level.answer == "class"}
    size = bank.vocabulary.size
    length = np.zeros(ids.shape, bool)
    length[np.arange(len(ids)), np.maximum(plain.sum(1) - 1, 0)] = True
    return Draws(*map(sparse.csr_array, (hidden.astype(np.float32), length.astype(np.float32), slots.astype(np.float32))),
                 _bag(ids, plain, size), _bag(ids, near & plain, size), _bag(true, plain & ~hidden, size), _bag(true, hidden, size),
                 answers, np.unique(bank.column("product_id"), return_inverse=True)[1][text_rows],
                 tuple(level.name for level in bank.levels if level.answer == "class" and level.num_masked))


def probe(drawn: Draws, bank: Bank) -> Iterator[ProbeResult]:
    """Yields the results of every probe of every answer."""
    slices, learnt = kaleido.patch_slices(bank.levels), drawn.products % TESTED != 0
    seen: dict[str, list[str]] = {}  # tasks that see the same patches: of camouflage the masked slot is the answer itself
    for task in drawn.answers:
        seen.setdefault(task if task in drawn.slot_levels else "", []).append(task)
    for level, tasks in seen.items():
        slots = _without(drawn.slots, slices[level] if level else slice(0))
        tokens = sparse.hstack([drawn.tokens, drawn.length])
        columns = np.arange(slots.shape[1])
        once = np.flatnonzero(columns[:, None] < columns)
        pairs = sparse.hstack([slots, _products(slots, slots)[:, once]])
        together = sparse.hstack([tokens, pairs, _products(drawn.tokens, slots)])
        for name, features in (("tokens", tokens), ("slots", pairs), ("both", together)):
            yield from _fit(drawn, tasks, name, features, learnt)
    kinds = _kinds(drawn, bank)
    yield from _fit(drawn, ["itm"], "word kinds", kinds, learnt)
    kinds = kinds[:, :SEVERAL]  # of masked content words alone: the others tell the text's length and what it is about
    yield from _fit(drawn, ["itm"], "kinds, slots", sparse.hstack([kinds, drawn.slots, _products(kinds, drawn.slots)]), learnt)
    yield from _fit(drawn, ["itm"], "masked text", sparse.hstack([_frequent(drawn.pieces), _frequent(drawn.beside)]), learnt)
    yield from _fit(drawn, ["itm"], "words, slots", _usual(drawn, learnt), learnt)


def _fit(drawn: Draws, tasks: list[str], name: str, features: sparse.coo_array, learnt: np.ndarray) -> Iterator[ProbeResult]:
    """Fits ridge regression onto the classes of several tasks at once; yields a result for each."""
    inputs = sparse.hstack([features, np.ones((features.shape[0], 1), np.float32)], format="csr").astype(np.float64)
    inputs = inputs[:, np.flatnonzero(inputs[learnt].sum(0))]
    classes = [np.eye(drawn.answers[task].max() + 1)[drawn.answers[task]] for task in tasks]
    gram = (inputs[learnt].T @ inputs[learnt]).toarray() + RIDGE * np.eye(inputs.shape[1])
    weights = linalg.solve(gram, inputs[learnt].T @ np.concatenate(classes, 1)[learnt], assume_a="pos")
    scores = np.split(inputs[~learnt] @ weights, np.cumsum([one.shape[1] for one in classes])[:-1], axis=1)
    for task, result in zip(tasks, scores):
        answers = drawn.answers[task]
        share = np.bincount(answers[~learnt]).max() / (~learnt).sum()
        yield ProbeResult(task, name, float((result.argmax(1) == answers[~learnt]).mean()), float(share), int((~learnt).sum()))


def _without(slots: sparse.csr_array, left_out: slice) -> sparse.csr_array:
    """Returns the same with 0 in some columns."""
    dense = slots.toarray()
    dense[:, left_out] = 0
    return sparse.csr_array(dense)


def _kinds(drawn: Draws, bank: Bank) -> sparse.csr_array:
    """Returns [N, 3 * SEVERAL]: whether so many content pieces are masked, so many others, so many of them among the visible ones."""
    pieces = bank.tokenizer().pieces(np.arange(bank.vocabulary.size))
    content = alignment_generator.content([piece.removeprefix("##") for piece in pieces]).astype(np.float32)
    counts = (drawn.masked @ content, drawn.masked @ (1 - content), drawn.visible @ content)
    known = np.eye(SEVERAL, dtype=np.float32)
    return sparse.csr_array(np.concatenate([known[np.minimum(count, SEVERAL - 1).astype(int)] for count in counts], 1))


def _frequent(bag: sparse.csr_array) -> sparse.csr_array:
    """Returns the columns of the most frequent pieces."""
    return bag[:, np.sort(np.argsort(-bag.sum(0), kind="stable")[:PIECES])]


def _products(left: sparse.csr_array, right: sparse.csr_array) -> sparse.csr_array:
    """Returns [N, A * B]: every column of the one times every column of the other, example by example."""
    size, (rows, columns) = right.shape[1], left.nonzero()
    other = right[rows].tocoo()
    position = (rows[other.coords[0]], columns[other.coords[0]] * size + other.coords[1])
    return sparse.csr_array((np.ones(len(position[0]), np.float32), position), (left.shape[0], left.shape[1] * size))


def _usual(drawn: Draws, learnt: np.ndarray) -> sparse.csr_array:
    """Returns [N, 4]: how much more often than otherwise the masked slots are masked beside the text's visible words, and beside its masked
    ones, where text and picture belong together: the tables are counted there, on the examples that are learnt from. The sum over
    words and slots, and its largest part."""
    together = learnt & (drawn.answers["itm"] == 1)
    general, columns = drawn.slots[together].mean(0), []
    for words in (drawn.visible, drawn.masked):
        count = np.asarray(words[together].sum(0))
        table = (words[together].T @ drawn.slots[together]).toarray() / np.maximum(count, 1)[:, None]
        table = np.where(count[:, None] >= SOME, np.log((table + 1e-2) / (general + 1e-2)), 0)
        by_slot = words @ table * drawn.slots.toarray()  # [N, P]
        columns += [by_slot.sum(1), by_slot.max(1)]
    return sparse.csr_array(np.stack(columns, 1).astype(np.float32))


def _bag(ids: np.ndarray, chosen: np.ndarray, size: int) -> sparse.csr_array:
    """Returns [N, V]: which pieces stand in the chosen positions."""
    rows, columns = np.nonzero(chosen)
    result = sparse.csr_array((np.ones(len(rows), np.float32), (rows, ids[rows, columns])), (len(ids), size))
    result.sum_duplicates()
    result.data[:] = 1
    return result


if __name__ == "__main__":
    sys.exit(main())
