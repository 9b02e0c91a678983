"""Time the sampler of pre-training (PretrainSampler.batch) on a memory-mapped bank that lies in the page cache."""

import argparse
import sys
from typing import Any

import numpy as np

from benchmarks import floors, random_bank, report
from kaleidobert import levels as kaleido
from kaleidobert.datasets.sampler import PretrainSampler


def main(arguments: list[str] | None = None) -> int:
    """The program; returns the exit status."""
    parser = report.parser("benchmarks.sampler", __doc__)
    parser.add_argument("--pictures", type=report.positive, default=512, help="in the bank; default: 512, 155 MB at --size base")
    return report.guarded(run, parser.parse_args(arguments))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure and print."""
    machine, batch = report.machine(), options.batch or random_bank.SIZES[options.size].batch
    config = random_bank.config(options.size, batch)
    with random_bank.opened(options.size, options.pictures) as bank:
        rows, vectors = bank.rows("train"), np.arange(kaleido.num_vectors(config.levels))
        for row in rows:  # into the page cache, and into this process's page tables
            bank.gather(np.full(len(vectors), row), vectors)
        sampler = PretrainSampler(bank, rows, config.levels, config.sampling, batch, config.train.seed)
        done = 0

        def repeat(times: int) -> None:
            nonlocal done
            for _ in range(times):
                sampler.batch(done)
                done += 1

        inputs, targets, _ = sampler.batch(0)
        features = [inputs["patch_features"], *(targets[level.name] for level in kaleido.feature_levels(config.levels))]
        moved = sum(array.nbytes for array in features)
        stored = bank.size * len(vectors) * bank.feature_size * features[0].itemsize
        case = floors.Case("sampler", moved / 1e9, "GB", repeat)
        timing, *against = floors.interleaved([case, floors.copies(moved, stored)], options.repeats)
    facts = {"title": f"sampler: {options.size}, batch {batch}, bank of {options.pictures} pictures, {stored / 1e6:.0f} MB",
             "machine": machine, "batch": batch, "feature_bytes": moved, "bank_bytes": stored}
    return report.show(facts, timing, against, options.json)


if __name__ == "__main__":
    sys.exit(main())
