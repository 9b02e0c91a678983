"""Time a batch of prediction: does the text belong to the picture (Matcher), through engines.steps.forward."""

import argparse
import sys
from typing import Any

import keras
import numpy as np

from benchmarks import floors, flops, random_bank, report
from kaleidobert.app_zoo import models
from kaleidobert.datasets.sampling.pretraining import clean_batch
from kaleidobert.engines import steps
from kaleidobert.errors import UserError
from kaleidobert.model_zoo.kaleidobert import matcher


def main(arguments: list[str] | None = None) -> int:
    """Runs the program; returns the exit status."""
    parser = report.parser("benchmarks.prediction", __doc__)
    report.add_precision(parser)
    return report.guarded(run, parser.parse_args(arguments))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measures and prints; UserError where the logits are not finite, as timings of such numbers mean nothing."""
    machine, batch = report.machine(), options.batch or random_bank.SIZES[options.size].batch
    config = random_bank.config(options.size, batch, options.precision)
    with random_bank.opened(options.size, batch) as bank:
        inputs = clean_batch(bank, bank.rows("train"))
        sizes = models.backbone_config(bank, config.levels, config.model, config.train)
    forward, parts = steps.forward(matcher(sizes)), flops.matcher(sizes, config.levels)
    last = {}

    def repeat(times: int) -> None:
        for _ in range(times):
            last.update(forward(inputs))

    case = floors.Case("prediction", batch * sum(parts.values()) / 1e9, "GFLOP", repeat)
    timing, *against = floors.interleaved([case, *floors.products_like(sizes, config.levels, batch)], options.repeats)
    if not np.isfinite(last["itm"]).all():
        raise UserError("a logit is not finite", "prediction", "finite numbers", "choose another --precision")
    metadata = {"title": f"prediction: {options.size}, batch {batch}, {options.precision}, {keras.backend.backend()}",
             "machine": machine, "sizes": sizes, "batch": batch, "forward_flop_per_example": parts}
    return report.show(metadata, timing, against, options.json)


if __name__ == "__main__":
    sys.exit(main())
