"""Time the scoring of candidate lists: engines.prediction, against every pair by itself at full length, and against matrix products.

A "pair" of the matrix products is as much work as a pair needs where sides are shared, texts cut and the head reads [CLS] alone.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from benchmarks import floors, flops, random_bank, report
from kaleidobert import levels as kaleido
from kaleidobert.app_zoo import models
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sampling import finetuning
from kaleidobert.datasets.sampling.pretraining import clean_batch
from kaleidobert.engines import prediction, steps
from kaleidobert.engines.prediction import Batch, PairScorer, Sides, predict
from kaleidobert.errors import UserError
from kaleidobert.levels import KaleidoLevel
from kaleidobert.model_zoo.kaleidobert import MATCHING_HEADS, matcher

PAPER = 1000, 101  # queries and candidates of the paper's protocol
AGREES = 1e-3  # scores of both ways, relative to their size; half precision is not compared


def main(arguments: list[str] | None = None) -> int:
    """Runs the program; returns the exit status."""
    parser = report.parser("benchmarks.retrieval", __doc__)
    report.add_precision(parser)
    parser.add_argument("--queries", type=report.positive, default=2, help="lists; default: 2")
    parser.add_argument("--candidates", type=report.positive, default=101, help="in each list; default: 101")
    parser.add_argument("--pictures", type=report.positive, default=128, help="products of the bank; default: 128")
    parser.add_argument("--head", choices=MATCHING_HEADS, default="plain")
    parser.add_argument("--direction", choices=("i2t", "t2i"), default="i2t")
    return report.guarded(run, parser.parse_args(arguments))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measures and prints; UserError where both ways do not give the same scores."""
    machine, batch = report.machine(), options.batch or 101
    config = random_bank.config(options.size, batch, options.precision)
    with random_bank.opened(options.size, max(options.pictures, options.candidates)) as bank:
        sizes = models.backbone_config(bank, config.levels, config.model, config.train)
        model = matcher(sizes, options.head)
        pictures, texts = lists(bank, options)
        sides = Sides(lambda rows: finetuning.picture_inputs(bank, rows), lambda rows: finetuning.text_inputs(bank, rows),
                      finetuning.text_lengths(bank))
        scorer, forward, scores = PairScorer(model, sides, batch), steps.forward(model), {}
        batches = scorer.batches(pictures, texts)

        def shared(times: int) -> None:
            for _ in range(times):
                of_pairs = scores["shared"] = np.empty(len(pictures), np.float32)
                for chunk, values in scorer.scores(batches):
                    of_pairs[chunk.pairs] = values

        def plain(times: int) -> None:
            for _ in range(times):
                outputs = predict(forward, lambda rows: clean_batch(bank, pictures[rows], texts[rows]), np.arange(len(pictures)), batch)
                scores["plain"] = outputs["itm"][:, 1]

        count, parts = len(pictures), needed(sizes, config.levels, batches, options.head)
        whole = flops.matcher(sizes, config.levels)
        products = [replace(floor, name=f"{floor.name}, as pairs", work=count * floor.work / (sum(parts.values()) / 1e9), unit="pairs")
                    for floor in floors.products_like(sizes, config.levels, batch)]
        cases = [floors.Case("retrieval", count, "pairs", shared), floors.Case("every pair by itself", count, "pairs", plain), *products]
        timing, *against = floors.interleaved(cases, options.repeats)
    if "16" not in options.precision and abs(scores["shared"] - scores["plain"]).max() > AGREES * max(1, abs(scores["plain"]).max()):
        raise UserError("scores of both ways differ", "retrieval", "the same scores", "report it")
    seconds = {clock: float(np.median(timing.seconds[clock])) / count * PAPER[0] * PAPER[1] for clock in report.clocks(machine)}
    title = (f"retrieval: {options.size}, {options.queries} x {options.candidates} {options.direction}, head {options.head}, "
             f"batch {batch}, {options.precision}, {keras.backend.backend()}")
    metadata = {"title": title,
                "machine": machine, "sizes": sizes, "batch": batch, "pairs": count, "flop": parts,
                "flop_plain": count * sum(whole.values()), "extrapolated_seconds_of_1000_x_101": seconds}
    result = report.show(metadata, timing, against, options.json)
    print(f"{sum(parts.values()) / metadata['flop_plain']:.3f} of the plain way's FLOPs; 1,000 x 101 pairs, extrapolated: "
          + ", ".join(f"{value:,.0f} s {clock}" for clock, value in seconds.items()))
    return result


def lists(bank: Bank, options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Returns i64[pairs] each: rows of the pictures and of the texts, list after list."""
    rng = np.random.Generator(np.random.Philox(1))
    queries = np.repeat(rng.integers(bank.size, size=options.queries), options.candidates)
    answers = np.concatenate([rng.permutation(bank.size)[: options.candidates] for _ in range(options.queries)])
    return (queries, answers) if options.direction == "i2t" else (answers, queries)


def needed(sizes: Mapping[str, Any], levels: Sequence[KaleidoLevel], batches: Sequence[Batch], head: str) -> dict[str, int]:
    """Returns {step: FLOPs of all pairs}, forward, where each side is computed once, as benchmarks.flops counts. What the
    dual encoder adds is not counted.

    sides: projections of features and boxes, and the first block's query, key and value; last_block: less than the others where the
    head reads [CLS] alone.
    """
    hidden, inner, layers, patches = (*(sizes[name] for name in ("hidden_size", "intermediate_size", "num_layers")),
                                      kaleido.num_patches(levels))
    own, start = flops.backbone(sizes, levels), 2 * hidden * 3 * hidden  # of a position
    tables = {tuple(batch.all_pictures): batch for batch in batches}.values()
    pictures = sum(len(batch.all_pictures) for batch in tables)
    texts = sum(len(batch.all_texts) * prediction.round_up(max(one.length for one in batches), prediction.MULTIPLE)
                for batch in {tuple(batch.all_texts): batch for batch in batches}.values())
    result = {"sides": pictures * (own["patches"] + own["boxes"] + patches * start) + texts * start, "blocks": 0, "last_block": 0}
    for batch in batches:
        length, count = min(batch.length, sizes["text_length"]) + patches, len(batch.pairs)
        behind = 2 * hidden * hidden + 4 * hidden * inner  # of a position: what follows its attention
        attention = 4 * length * hidden  # of a position that asks
        block = length * (start + attention + behind)
        cut = head == "plain" and layers > 1
        last = length * 2 * hidden * 2 * hidden + 2 * hidden * hidden + attention + behind if cut else block
        result["blocks"] += count * ((layers - 1) * block - length * start)
        result["last_block"] += count * last
    result["heads"] = sum(len(batch.pairs) for batch in batches) * (own["pooler"] + 4 * hidden)
    return result


if __name__ == "__main__":
    sys.exit(main())
