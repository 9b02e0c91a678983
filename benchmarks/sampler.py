"""Time the sampler of pre-training (PretrainSampler.batch) on a memory-mapped bank that lies in the page cache; on request also how
long a step on a GPU would wait for its batch (--step-ms), and reading from storage (--cold)."""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import floors, masking, random_bank, reading, report
from kaleidobert import configs, io
from kaleidobert import levels as kaleido
from kaleidobert.datasets.bank import alignment, builder
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sampling.pretraining import PretrainSampler


def main(arguments: list[str] | None = None) -> int:
    """Runs the program; returns the exit status."""
    parser = report.parser("benchmarks.sampler", __doc__)
    parser.add_argument("--pictures", type=report.positive, default=512, help="in the bank; default: 512, 155 MB at --size base")
    parser.add_argument(
        "--masking", choices=("random", "alignment_guided"), default="random", help="alignment_guided: 12 linked words in a text"
    )
    parser.add_argument("--storage", choices=("float16", "uint8"), default="float16", help="of the features; default: float16")
    parser.add_argument("--step-ms", type=report.positive, nargs="*", default=[], metavar="MS",
                        help="pretended steps of so many milliseconds: the share of the time that they wait for batches")
    parser.add_argument("--cold", action="store_true", help="read pictures that are not in memory; give many --pictures")
    parser.add_argument("--workers", type=report.positive, nargs="+", default=[1, 2], help="threads of --step-ms and --cold; default: 1 2")
    return report.guarded(run, parser.parse_args(arguments))


@contextmanager
def opened(options: argparse.Namespace) -> Iterator[Path]:
    """Yields the temporary folder of the bank that the options ask for."""
    with tempfile.TemporaryDirectory(prefix="kaleido-benchmark-") as folder:
        random_bank.write(Path(folder, "float16"), options.size, options.pictures)
        bank = Bank(Path(folder, "float16"))
        if options.masking == "alignment_guided":
            blocks = (links(bank, start) for start in range(0, bank.size, random_bank.SHARD_SIZE))
            alignment.write(bank, blocks, ({} for _ in range(bank.size)), mode="random", settings={})
        if options.storage == "uint8":
            for _ in builder.copy_bank(bank, Path(folder, "uint8"), "uint8"):
                pass
        yield Path(folder, options.storage)


def links(bank: Bank, start: int) -> np.ndarray:
    """Returns f16[n, T, P] from row ``start`` on, as masking.py draws them."""
    result = masking.texts(min(random_bank.SHARD_SIZE, bank.size - start), 12).alignment[:, : bank.text_length]
    return np.pad(result, ((0, 0), (0, bank.text_length - result.shape[1]), (0, 0)))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measures and prints."""
    machine, batch = report.machine(), options.batch or random_bank.SIZES[options.size].batch
    with opened(options) as folder:
        result = timed(Bank(folder), options, machine, batch)
        result["cold"] = list(reading.cold(folder, batch, options.workers)) if options.cold else []
    for name in ("waiting", "cold"):
        if result[name]:
            print(f"{name}:\n\n{reading.table(result[name])}")
    if options.json is not None:
        io.write_json(options.json, result)
    return result


def timed(bank: Bank, options: argparse.Namespace, machine: dict[str, Any], batch: int) -> dict[str, Any]:
    """Times the sampler against copying, and pretended steps that it feeds."""
    config = random_bank.config(options.size, batch)
    sampling = configs.Sampling(**{**configs.to_dict(config.sampling), "masking": options.masking})
    rows, vectors = bank.rows("train"), np.arange(kaleido.num_vectors(config.levels))
    for row in rows:  # into the page cache, and into this process's page tables
        bank.gather(np.array([row]), {"all": vectors[None]})
    sampler = PretrainSampler(bank, rows, config.levels, sampling, batch, config.train.seed)
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
    timing, *against = floors.interleaved([floors.Case("sampler", moved / 1e9, "GB", repeat), floors.copies(moved, stored)],
                                          options.repeats)
    rates = {clock: batch / float(np.median(seconds)) for clock, seconds in timing.seconds.items()}
    title = f"sampler: {options.size}, batch {batch}, {options.masking} masking, {options.storage}"
    metadata = {"title": f"{title}, bank of {options.pictures} pictures, {stored / 1e6:.0f} MB", "machine": machine, "batch": batch,
             "feature_bytes": moved, "bank_bytes": stored, "examples_per_second": rates}
    result = report.show(metadata, timing, against, None)
    print("examples/s: " + ", ".join(f"{value:,.0f} ({clock})" for clock, value in rates.items()) + "\n")
    result["waiting"] = [row for milliseconds in options.step_ms
                         for row in reading.waiting(sampler.batch, batch, milliseconds / 1e3, options.workers)]
    return result


if __name__ == "__main__":
    sys.exit(main())
