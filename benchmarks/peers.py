"""Our network beside others of the same size on the same batch, by turns in one run: a plain Keras BERT, and one of Hugging Face
transformers in PyTorch (where KALEIDO_TORCH_PYTHON or --torch names a Python that has both, or this one has)."""

import argparse
import importlib.util
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import floors, flops, random_bank, report, turns
from benchmarks.floors import Timing
from benchmarks.turns import Contestant
from kaleidobert import configs, io
from kaleidobert import levels as kaleido
from kaleidobert.configs import PretrainConfig
from kaleidobert.datasets.sampling.pretraining import PretrainSampler
from kaleidobert.errors import UserError

WORKS = ("forward and backward", "step", "prediction")
GROUPS = (WORKS[:2], WORKS[2:])  # timed together, each with the floors right before ours: the speed of a machine drifts
TORCH = "KALEIDO_TORCH_PYTHON"
KERAS = ("ours", "plain")


def main(arguments: list[str] | None = None) -> int:
    """Runs the program; returns the exit status."""
    parser = report.parser("benchmarks.peers", __doc__)
    report.add_precision(parser)
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS), help="default: all three")
    parser.add_argument("--peers", nargs="*", choices=("plain", "torch"), default=["plain", "torch"], help="beside ours; default: both")
    parser.add_argument("--torch", metavar="PYTHON", help=f"a Python with torch and transformers; default: ${TORCH}, else this one")
    parser.add_argument("--micro", type=report.positive, help="examples of a step that are computed at a time; default: all")
    parser.add_argument("--eager", action="store_true", help="do not compile PyTorch's network")
    return report.guarded(run, parser.parse_args(arguments))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measures, prints, writes. A peer that is missing or fails is skipped with a note; ours is not."""
    machine, batch = report.machine(), options.batch or random_bank.SIZES[options.size].batch
    if batch % (options.micro or batch):
        raise UserError(f"--micro {options.micro} does not divide a batch of {batch}", "peers", "a divisor")
    config, sizes = random_bank.config(options.size, batch, options.precision), random_bank.sizes(options.size, options.precision)
    with tempfile.TemporaryDirectory(prefix="kaleido-benchmark-") as folder, ExitStack() as stack:
        file = write_batch(Path(folder) / "batch.npz", options.size, config)
        present, metadata = {}, {}
        for name in ("ours", *options.peers):
            try:
                contestant = stack.enter_context(_start(name, options, file, sizes, config))
                for case in (*options.works, *contestant.metadata.get("floors", {})):
                    contestant.measure(case, 1)  # compiles; whoever cannot do it is out before the first round
            except UserError as error:
                if name == "ours":
                    raise
                metadata[name] = {"skipped": str(error)}
            else:
                present[name], metadata[name] = contestant, contestant.metadata
        floor = [turns.remote(present["ours"], name, work, name) for name, work in metadata["ours"]["floors"].items()]
        groups, work = [], works(sizes, config, batch)
        for names in filter(None, ([name for name in group if name in options.works] for group in GROUPS)):
            cases = floor + [turns.remote(contestant, name, work[name]) for contestant in present.values() for name in names]
            groups.append({timing.case.name: timing for timing in floors.interleaved(cases, options.repeats, compiled=True)})
        for name, contestant in present.items():
            metadata[name]["peak_bytes"] = contestant.peak()
    machine["versions"] |= metadata["ours"]["versions"] | metadata.get("torch", {}).get("versions", {})
    machine["accelerators"] = metadata["ours"]["accelerators"]
    parts = f" in parts of {options.micro}" if options.micro else ""
    title = f"peers: {options.size}, batch {batch}{parts}, {options.precision}, {metadata['ours']['backend']}"
    result = summary({"title": title, "machine": machine, "sizes": sizes, "batch": batch, "contestants": metadata}, groups)
    print(markdown(result))
    if options.json is not None:
        io.write_json(options.json, result)
    return result


def write_batch(path: Path, size: str, config: PretrainConfig) -> Path:
    """Writes the first batch of the real sampler from a bank of random features, as arrays "inputs/token_ids" and so on."""
    batch = config.train.batch_size
    with random_bank.opened(size, max(64, 2 * batch)) as bank:
        parts = PretrainSampler(bank, bank.rows("train"), config.levels, config.sampling, batch, config.train.seed).batch(0)
    names = ("inputs", "targets", "weights")
    np.savez(path, **{f"{part}/{name}": array for part, arrays in zip(names, parts) for name, array in arrays.items()})
    return path


def works(sizes: Mapping[str, Any], config: PretrainConfig, batch: int) -> dict[str, float]:
    """Returns the GFLOP of each work for a batch; the same for every contestant."""
    training = batch * flops.training(flops.pretrainer(sizes, config.levels, config.sampling.max_masked)) / 1e9
    prediction = batch * sum(flops.matcher(sizes, config.levels).values()) / 1e9
    return {"forward and backward": training, "step": training, "prediction": prediction}


def torch_python(named: str | None) -> str:
    """Returns the Python to run torch_peer.py with; UserError where none is named and this one lacks torch or transformers."""
    if named or os.environ.get(TORCH):
        return named or os.environ[TORCH]
    if all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
        return sys.executable
    raise UserError("no PyTorch and transformers here", "torch", "a Python that has both", f"--torch PYTHON or {TORCH}=PYTHON")


def _start(name: str, options: argparse.Namespace, file: Path, sizes: Mapping[str, Any], config: PretrainConfig) -> Contestant:
    settings = {"precision": options.precision, "batch": str(file), "micro": options.micro or config.train.batch_size}
    if name in KERAS:
        return Contestant(name, [sys.executable, "-m", "benchmarks.keras_peer"], {**settings, "model": name, "size": options.size})
    table = [{"name": level.name, "patches": level.num_patches, "masked": level.num_masked,
              "classes": level.num_classes if level.answer == "class" else 0} for level in kaleido.check(config.levels)]
    train = {key: getattr(config.train, key) for key in ("learning_rate", "weight_decay", "clip_norm")}
    settings |= {"sizes": {**sizes, "levels": configs.to_dict(config.levels)}, "levels": table, "compile": not options.eager, **train}
    return Contestant(name, [torch_python(options.torch), "-m", "benchmarks.torch_peer"], settings)


def summary(metadata: dict[str, Any], groups: Sequence[Mapping[str, Timing]]) -> dict[str, Any]:
    """Returns the result: every figure; ratios "WORK / OTHER" of our rate to the floors' and the peers'; the optimiser's share of a
    step."""
    clocks = report.clocks(metadata["machine"])
    result = {**metadata, "timings": [report.row(timing, clocks) for timings in groups for timing in timings.values()], "ratios": {},
              "ratios_of": "our rate / that of"}
    for timings in groups:
        for work in (name.removeprefix("ours: ") for name in timings if name.startswith("ours: ")):
            ours = timings[f"ours: {work}"]
            for name, other in timings.items():
                who, _, what = name.partition(": ")
                if other is not ours and what in ("", work):  # the floors have no colon
                    result["ratios"][f"{work} / {who}"] = {clock: asdict(floors.ratio(ours, other, clock)) for clock in clocks}
        if {"ours: step", "ours: forward and backward"} <= set(timings):
            for who in (name for name, known in metadata["contestants"].items() if "skipped" not in known):
                step, backward = (timings[f"{who}: {work}"].seconds for work in ("step", "forward and backward"))
                fractions = {clock: float(np.median(1 - backward[clock] / step[clock])) for clock in clocks}
                result.setdefault("optimiser_share", {})[who] = fractions
    return result


def markdown(result: Mapping[str, Any]) -> str:
    """Returns the report's two tables, the optimiser's share, and who was there."""
    lines = [report.markdown(result, report.clocks(result["machine"]))]
    for who, fractions in result.get("optimiser_share", {}).items():
        cells = ", ".join(f"{value:.2f} ({clock})" for clock, value in fractions.items())
        lines.append(f"- clipping and Adam, share of a step of {who}: {cells}")
    for who, known in result["contestants"].items():
        if "skipped" in known:
            lines.append(f"- **{who} was skipped**: {known['skipped']}")
        else:
            compiled = f", compiled: {known['compiled']}, attention: {known['attention']}" if "compiled" in known else ""
            lines.append(f"- {who}: {known['parameters']:,} weights, {known['peak_bytes'] / 1e9:.1f} GB of memory at most{compiled}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
