"""Time a training step of pre-training: seven losses, gradients, clipping and Adam, through engines.steps.train_step."""

import argparse
import sys
from typing import Any

import keras
import numpy as np

from benchmarks import floors, flops, random_bank, report
from kaleidobert.app_zoo import models
from kaleidobert.datasets.sampling.pretraining import PretrainSampler
from kaleidobert.engines import steps
from kaleidobert.errors import UserError
from kaleidobert.losses import pretraining as losses
from kaleidobert.model_zoo.kaleidobert import pretrainer


def main(arguments: list[str] | None = None) -> int:
    """Runs the program; returns the exit status."""
    parser = report.parser("benchmarks.training_step", __doc__)
    report.add_precision(parser)
    return report.guarded(run, parser.parse_args(arguments))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measures and prints; UserError where the loss is not finite, as timings of such numbers mean nothing."""
    machine, batch = report.machine(), options.batch or random_bank.SIZES[options.size].batch
    config = random_bank.config(options.size, batch, options.precision)
    with random_bank.opened(options.size, max(64, 2 * batch)) as bank:
        rows = bank.rows("train")
        examples = PretrainSampler(bank, rows, config.levels, config.sampling, batch, config.train.seed).batch(0)
        sizes = models.backbone_config(bank, config.levels, config.model, config.train)
    parts = flops.pretrainer(sizes, config.levels, examples[0]["masked_tokens"].shape[1])
    step = _step(pretrainer(sizes), config, len(rows))
    last = {}

    def repeat(times: int) -> None:
        for _ in range(times):
            last.update(step(*examples))
        last.update(steps.read(last))  # waits

    case = floors.Case("training step", batch * flops.training(parts) / 1e9, "GFLOP", repeat)
    timing, *against = floors.interleaved([case, *floors.products_like(sizes, config.levels, batch)], options.repeats)
    if not np.isfinite(last["loss"]):
        raise UserError(f"the loss is {last['loss']}", "training step", "a finite number", "choose another --precision")
    metadata = {"title": f"training step: {options.size}, batch {batch}, {options.precision}, {keras.backend.backend()}",
             "machine": machine, "sizes": sizes, "batch": batch, "forward_flop_per_example": parts,
             "losses": last}
    return report.show(metadata, timing, against, options.json)


def _step(model, config, num_rows: int):
    """Returns the step as ``kaleidobert pretrain`` makes it."""
    optimizer, _ = models.schedule(config.train, num_rows)
    optimizer.build(model.trainable_variables)
    by_task = losses.for_tasks(config.levels, config.losses.feature_target, config.losses.mlm_weight, config.losses.itm_weight)

    def loss(outputs, targets, weights):
        values = losses.total(by_task, outputs, targets, weights)
        return {"loss": values.pop("total"), **values}

    return steps.train_step(model, loss, optimizer, config.train.clip_norm)


if __name__ == "__main__":
    sys.exit(main())
