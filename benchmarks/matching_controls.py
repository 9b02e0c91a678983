"""Does matching look? The accuracy of a pre-trained model's matching task on a split, and what is left without the picture.

    python -m benchmarks.matching_controls BANK runs/pretrain/best.npz                  # split val, five draws of masks and negatives
    python -m benchmarks.matching_controls BANK runs/pretrain/best.npz --split train

Rows: how the examples are masked (AGM where the bank has an alignment, at random, not at all), and with that the picture's features
set to zero, those of another picture of the same draw, and a text of [CLS] [SEP]. Whatever is above .5 without a picture or without
a text was read from masks, boxes or which products are drawn. Intervals are bootstrapped over products, whose draws hang together.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import report
from kaleidobert import io
from kaleidobert.configs import Sampling
from kaleidobert.datasets.bank import alignment
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sampling.pretraining import PretrainSampler, generator
from kaleidobert.engines import steps
from kaleidobert.evaluators import statistics
from kaleidobert.io import sha256
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import rebuild
from kaleidobert.preprocessors import examples, features

BATCH = 64
STREAM, ORDER = 17, 18  # of the random numbers: no training draws from them
RESAMPLES = 2_000

Arrays = Mapping[str, np.ndarray]


def main(arguments: list[str] | None = None) -> int:
    """Runs the program; returns the exit status."""
    parser = argparse.ArgumentParser("python -m benchmarks.matching_controls", description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bank", type=Path)
    parser.add_argument("checkpoint", type=Path, help="of a pre-training")
    parser.add_argument("--split", default="val")
    parser.add_argument("--draws", type=report.positive, default=5, help="times that every picture is drawn; default: 5")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--same", type=float, default=0.3, help="share of negatives from the same subcategory; default: .3")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    return report.guarded(run, parser.parse_args(arguments))


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures and prints."""
    bank = Bank(options.bank)
    model = rebuild(checkpoints.load_meta(options.checkpoint), precision="float32")
    checkpoints.restore(options.checkpoint, model)
    forward, rows = steps.forward(model), []
    print(f"matching by {options.checkpoint} on {options.split!r} of {options.bank}, {options.draws} draws, seed {options.seed}")
    for masking in ("AGM", "random", "none") if alignment.strengths(bank) is not None else ("random", "none"):
        policy = "random" if masking != "AGM" else "alignment_guided"
        sampler = PretrainSampler(bank, bank.rows(options.split), bank.levels,
                                  Sampling(masking=policy, negatives_same_subcategory=options.same), BATCH, options.seed)
        for name, change in CONTROLS.items():
            hits, products = _hits(forward, sampler, bank, options, change, masked=masking != "none")
            low, high = interval(hits, products, np.random.Generator(np.random.Philox(options.seed)))
            rows.append({"masks": masking, "input": name, "accuracy": float(hits.mean()), "low": low, "high": high, "examples": len(hits),
                         "checkpoint_sha256": sha256(options.checkpoint)})
            print(f"  masks {masking:7s} {name:28s} {hits.mean():.3f} [{low:.3f}, {high:.3f}]  {len(hits):,} examples")
    if options.json:
        io.write_json(options.json, rows)
    return rows


def _without_picture(inputs: Arrays, bank: Bank) -> Arrays:
    return {**inputs, "patch_features": np.zeros_like(inputs["patch_features"])}


def _other_picture(inputs: Arrays, bank: Bank) -> Arrays:
    """Returns the features of the example before, so that no text stands beside its own picture but by chance."""
    return {**inputs, "patch_features": np.roll(inputs["patch_features"], 1, axis=0)}


def _without_text(inputs: Arrays, bank: Bank) -> Arrays:
    """Returns [CLS] [SEP] and padding, of the same length: the number of positions stays."""
    vocabulary, ids = bank.vocabulary, np.full_like(inputs["token_ids"], bank.vocabulary.pad)
    ids[:, 0], ids[:, 1] = vocabulary.start, vocabulary.end
    return {**inputs, **examples.text(ids, vocabulary.pad), "masked_tokens": np.zeros_like(inputs["masked_tokens"])}


CONTROLS: dict[str, Callable[[Arrays, Bank], Arrays]] = {
    "whole": lambda inputs, bank: inputs, "picture's features zero": _without_picture,
    "another picture's features": _other_picture, "no text": _without_text}


def _hits(forward: Callable, sampler: PretrainSampler, bank: Bank, options: argparse.Namespace, change: Callable,
          masked: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns (f64[N] 1 where the answer is right, products [N]) of every row of the sampler, drawn options.draws times."""
    # shuffled: in a table neighbours are often views of one product, and of one subcategory
    rows = np.concatenate([generator(options.seed, ORDER, number).permutation(sampler.order.rows) for number in range(options.draws)])
    hits = []
    for step, start in enumerate(range(0, len(rows), BATCH)):
        batch = rows[start : start + BATCH]
        drawn = sampler.draw(batch, generator(options.seed, STREAM, step))
        inputs, targets, _ = sampler.assemble(drawn)
        inputs = features.to_floats(inputs)
        if not masked:
            clean = features.to_floats(examples.clean(batch, bank.levels, bank.gather))
            inputs = {**inputs, **clean, **examples.text(bank.token_ids[drawn.text_rows], bank.vocabulary.pad)}
        answers = forward(change(inputs, bank))["itm"].argmax(-1)
        hits.append(answers == targets["itm"])
    return np.concatenate(hits).astype(float), bank.column("product_id")[rows]


def interval(hits: np.ndarray, products: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """Returns the 95% interval of the mean, by bootstrap over products."""
    _, number = np.unique(products, return_inverse=True)
    sums = np.stack([np.bincount(number, hits), np.bincount(number)], axis=1)  # [products, 2]
    low, high = statistics.bootstrap(lambda units: np.divide(*(statistics.times_drawn(units) @ sums).T), len(sums), rng, RESAMPLES)
    return float(low), float(high)


if __name__ == "__main__":
    sys.exit(main())
