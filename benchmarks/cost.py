"""Time and money for the pre-training on Fashion-Gen, on 1 GPU, 8 GPUs of a host and 8 hosts: a model, its inputs named in COST.md.

    python -m benchmarks.cost                               # from assumed rates
    python -m benchmarks.cost --measured accelerator.json   # step times as accelerator.py or run.py measured them
"""

import argparse
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import flops, random_bank, report
from kaleidobert import configs, io
from kaleidobert.configs import PretrainConfig
from kaleidobert.errors import UserError

PAIRS = 260_480  # Fashion-Gen's training pairs
WEIGHTS = 121_000_000  # of the pre-training model at size base
FLOAT = 4  # bytes of a gradient, whatever the precision of the products
VECTORS = 60  # features of an example that travel: 55 patches and 5 targets, float16


@dataclass(frozen=True)
class Inputs:
    """The inputs of the model. Rates in units per second, money in any currency.

    steps: (batch of a GPU, seconds of its step) as measured, or () and the next three say it: the rate of matrix products, the share
    of it that a step reaches, and the least time that a step takes. link: bytes/s of a GPU to others of its host, one way; network:
    to other hosts. overlap: share of the exchange of gradients that is hidden behind the backward pass.
    """

    steps: tuple[tuple[int, float], ...] = ()
    products: float = 790e12
    share: float = 0.45
    least: float = 0.02
    link: float = 450e9
    network: float = 50e9
    latency: float = 1e-5
    overlap: float = 0.0
    price: float = 3.0
    gpus: int = 8
    epochs: float = 25.0


@dataclass(frozen=True)
class Plan:
    """hosts of gpus each, and the batch of all of them together."""

    hosts: int
    gpus: int
    batch: int

    @property
    def own(self) -> float:
        """Examples of a GPU in a step."""
        return self.batch / (self.hosts * self.gpus)


def ring(members: int, size: float, rate: float, latency: float) -> float:
    """Returns the seconds in which a ring of so many members sums ``size`` bytes of each: every byte is sent 2 (n - 1) / n times by
    each."""
    return 2 * (members - 1) / members * size / rate + 2 * (members - 1) * latency if members > 1 else 0.0


def exchange(plan: Plan, inputs: Inputs, size: float = FLOAT * WEIGHTS) -> float:
    """Returns the seconds for summing the gradients: inside of each host first, then every GPU its share of them with its fellows
    elsewhere."""
    inside = ring(plan.gpus, size, inputs.link, inputs.latency)
    return inside + ring(plan.hosts, size / plan.gpus, inputs.network, inputs.latency)


def step(own: float, inputs: Inputs) -> float:
    """Returns the seconds that a GPU computes for ``own`` examples. Measured: on the line between the two nearest batches, never below the
    smallest, and at the rate of the largest above it."""
    if not inputs.steps:
        return max(inputs.least, own * flop() / (inputs.products * inputs.share))
    batches, seconds = (np.array(column, float) for column in zip(*sorted(inputs.steps)))
    return float(np.interp(own, batches, seconds)) if own <= batches[-1] else float(own * seconds[-1] / batches[-1])


def flop() -> int:
    """Returns the FLOPs of an example at size base, forward and backward."""
    config = random_bank.config("base", 1)
    return flops.training(flops.pretrainer(random_bank.sizes("base"), config.levels, config.sampling.max_masked))


def total(plan: Plan, inputs: Inputs) -> dict[str, float]:
    """Returns seconds of a step (computing, and waiting for gradients), examples/s, hours, GPU-hours, money, bytes/s of input for a
    host."""
    computing = step(plan.own, inputs)
    waiting = (1 - inputs.overlap) * exchange(plan, inputs)
    rate = plan.batch / (computing + waiting)
    hours = inputs.epochs * PAIRS / rate / 3600
    gpu_hours = hours * plan.hosts * plan.gpus
    feature = random_bank.content("base").feature_size
    return {"computing": computing, "waiting": waiting, "examples_per_second": rate, "hours": hours, "gpu_hours": gpu_hours,
            "money": gpu_hours * inputs.price, "input": rate / plan.hosts * VECTORS * feature * 2}


def plans(inputs: Inputs, of_a_gpu: int) -> list[tuple[str, Plan]]:
    """Returns two plans: the batch of configs/pretrain.yaml on all GPUs, and a batch that grows with their number."""
    sizes = (("1 GPU", 1, 1), (f"{inputs.gpus} GPUs of a host", 1, inputs.gpus), (f"8 hosts of {inputs.gpus}", 8, inputs.gpus))
    fixed = configs.load(PretrainConfig, random_bank.CONFIGS / "pretrain.yaml").train.batch_size
    return [(f"{name}, batch {batch:,}", Plan(hosts, gpus, batch)) for grows in (False, True) for name, hosts, gpus in sizes
            for batch in [of_a_gpu * hosts * gpus if grows else fixed]]


def main(arguments: list[str] | None = None) -> int:
    """Runs the program; returns the exit status."""
    parser = argparse.ArgumentParser("python -m benchmarks.cost", description=__doc__.split("\n")[0])
    parser.add_argument("--measured", type=Path, metavar="FILE", help="the JSON of accelerator.py, or results.json of run.py")
    parser.add_argument("--of-a-gpu", type=report.positive, default=64, help="batch of each where it grows; default: 64, as released")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to this file")
    for name, what in (("products", "FLOP/s of bfloat16 products"), ("share", "of it that a step reaches"), ("least", "seconds of a step"),
                       ("link", "bytes/s between GPUs of a host"), ("network", "bytes/s of a GPU to other hosts"),
                       ("latency", "seconds of a message"), ("overlap", "share of the exchange that is hidden"),
                       ("price", "of a GPU for an hour"), ("epochs", "of training")):
        parser.add_argument(f"--{name}", type=float, default=getattr(Inputs, name), help=f"{what}; default: {getattr(Inputs, name):g}")
    parser.add_argument("--gpus", type=report.positive, default=Inputs.gpus, help="of a host; default: 8")
    return report.guarded(run, parser.parse_args(arguments))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Computes, prints, writes."""
    given = {name: getattr(options, name) for name in Inputs.__dataclass_fields__ if name != "steps"}
    if not (0 < options.share <= 1 and 0 <= options.overlap <= 1 and min(options.products, options.link, options.network) > 0):
        raise UserError("a share is not between 0 and 1, or a rate is not positive", "cost")
    inputs = Inputs(measured(options.measured) if options.measured else (), **given)
    rows = [{"plan": name, **asdict(plan), **total(plan, inputs)} for name, plan in plans(inputs, options.of_a_gpu)]
    result = {"title": "cost of the pre-training", "inputs": asdict(inputs), "gflop_of_an_example": flop() / 1e9, "rows": rows}
    print(markdown(result, bool(options.measured)))
    if options.json is not None:
        io.write_json(options.json, result)
    return result


def measured(path: Path) -> tuple[tuple[int, float], ...]:
    """Returns (batch, seconds) of every step in a file; UserError where it holds none."""
    content = io.read_json(path)
    content = content.get("measurements", {}).get("accelerator", {}).get("result", content)
    if not content.get("batches"):
        raise UserError("no measured steps", str(path), "the JSON of benchmarks.accelerator, or results.json of a run that has it")
    return tuple((row["batch"], row["ms"] / 1e3) for row in content["batches"])


def markdown(result: dict[str, Any], is_measured: bool) -> str:
    """Returns the inputs, each with where it comes from, and a line for each plan."""
    given, megabytes = result["inputs"], FLOAT * WEIGHTS / 1e6
    lines = ["## " + result["title"], "", f"{given['epochs']:g} epochs of {PAIRS:,} pairs, {result['gflop_of_an_example']:.1f} GFLOP for "
             f"an example and {WEIGHTS / 1e6:.0f} million weights, whose gradients are {megabytes:.0f} MB (all counted).", ""]
    if is_measured:
        lines += ["- measured: " + ", ".join(f"{batch} examples in {1e3 * seconds:.1f} ms" for batch, seconds in given["steps"])]
    else:
        lines += [f"- assumed: products at {given['products'] / 1e12:g} TFLOP/s, of which a step reaches {given['share']:g}; no step "
                  f"takes less than {1e3 * given['least']:g} ms"]
    lines += [f"- assumed: {given['link'] / 1e9:g} GB/s between GPUs of a host, {given['network'] / 1e9:g} GB/s of each to other hosts, "
              f"{1e6 * given['latency']:g} µs a message, {given['overlap']:.0%} of the exchange hidden, {given['price']:g} a GPU-hour", "",
              "| | ms computing | ms exchanging | examples/s | hours | GPU-hours | money | input of a host, GB/s |",
              "|---|---:|---:|---:|---:|---:|---:|---:|"]
    for row in result["rows"]:
        lines.append(f"| {row['plan']} | {1e3 * row['computing']:.1f} | {1e3 * row['waiting']:.2f} | {row['examples_per_second']:,.0f} | "
                     f"{row['hours']:.3g} | {row['gpu_hours']:.3g} | {row['money']:.3g} | {row['input'] / 1e9:.2f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
