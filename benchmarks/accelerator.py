"""Pre-training on an NVIDIA GPU: needs JAX, Keras and this repository, no TensorFlow, no data, no network. Under ten minutes.

    KERAS_BACKEND=jax python -m benchmarks.accelerator --json accelerator.json

A bank of random features is made here; the sampler, the masks and all losses are real. Measured, against the rate of matrix products
in the same run: examples/s and memory over batch sizes up to the largest that fits, the time for 25 epochs of Fashion-Gen's pairs,
the share of time that a step waits for input, where the time goes, and the same step in PyTorch with transformers where torch is.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks import hardware, peers, report, turns
from kaleidobert import io
from kaleidobert.errors import UserError

SHARE_OF_MEMORY = {"XLA_PYTHON_CLIENT_MEM_FRACTION": ".92"}  # for ours alone
HALF_OF_MEMORY = {"XLA_PYTHON_CLIENT_MEM_FRACTION": ".45"}  # beside PyTorch
LEAST_FOR_PEERS = 170.0  # seconds


def main(arguments: list[str] | None = None) -> int:
    """Runs the program; returns the exit status."""
    parser = report.parser("benchmarks.accelerator", __doc__.split("\n")[0])
    report.add_precision(parser)
    handed_on(parser)
    parser.add_argument("--total", type=float, default=580, help="seconds for everything; default: 580")
    parser.add_argument("--peers-batch", type=report.positive, default=256, help="default: 256")
    parser.add_argument("--peers", nargs="*", choices=("plain", "torch"), default=["torch"], help="beside ours; default: torch")
    parser.add_argument("--torch", metavar="PYTHON", help=f"default: ${peers.TORCH}, else this one")
    return report.guarded(run, parser.parse_args(arguments))


def handed_on(parser: argparse.ArgumentParser) -> None:
    """Returns the arguments that accelerator_parts.py takes too."""
    parser.add_argument("--batches", type=report.positive, nargs="+", default=[64, 128, 256, 512, 768, 1024],
                        help="tried in this order until one does not fit; default: 64 to 1024")
    parser.add_argument("--pictures", type=report.positive, default=4096, help="in the bank; default: 4096, 1.2 GB at size base")
    parser.add_argument("--square", type=report.positive, default=8192, help="rows of the square products; default: 8192")
    parser.add_argument("--workers", type=report.positive, nargs="+", default=[1, 2, 4], help="threads that make batches; default: 1 2 4")
    parser.add_argument("--least", type=float, default=3.0, help="seconds of a measurement; default: 3")
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="of pretrain.yaml, such as model.dropout=0")
    parser.add_argument("--seconds", type=float, default=330, help="no new part of ours begins after so many; default: 330")
    parser.set_defaults(precision="mixed_bfloat16", repeats=3)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measures ours, then ours and the peers by turns; prints and writes what there is, whatever failed."""
    begun = perf_counter()
    os.environ.setdefault("KERAS_BACKEND", "jax")
    words = ["--size", options.size, "--precision", options.precision, "--repeats", str(options.repeats)]
    words += [word for name in ("pictures", "square", "least", "seconds") for word in (f"--{name}", str(getattr(options, name)))]
    words += [word for name in ("batches", "workers", "set") for word in (f"--{name}", *map(str, getattr(options, name)))]
    ours = child("accelerator_parts", words, options.total - (LEAST_FOR_PEERS if options.peers else 0), SHARE_OF_MEMORY)
    result = {"title": f"accelerator: {options.size}, {options.precision}", "machine": hardware.describe(), **ours["result"]}
    result["notes"] = result.get("notes", []) + ours["notes"]
    if options.peers:
        # torch.compile takes longer than all else
        words = ["--size", options.size, "--precision", options.precision, "--repeats", str(max(3, options.repeats)),
                 "--batch", str(options.peers_batch), "--peers", *options.peers, *(["--torch", options.torch] if options.torch else [])]
        beside = child("peers", words, max(LEAST_FOR_PEERS, options.total - (perf_counter() - begun)), HALF_OF_MEMORY)
        result |= {"peers": beside["result"], "notes": result["notes"] + beside["notes"]}
        result["ratios"] = beside["result"].get("ratios", {})
    print(markdown(result))
    if options.json is not None:
        io.write_json(options.json, result)
    if not result.get("batches"):
        raise UserError("no step could be timed: " + "; ".join(result["notes"]), "accelerator")
    return result


def child(program: str, words: Sequence[str], limit: float, environment: Mapping[str, str]) -> dict[str, Any]:
    """Returns {"result": what the program wrote until its end or its limit, "notes": [why it is not all]}."""
    with tempfile.TemporaryDirectory(prefix="kaleido-benchmark-") as folder:
        path, notes = Path(folder) / "result.json", []
        full = [sys.executable, "-m", f"benchmarks.{program}", *words, "--json", str(path)]
        process = subprocess.Popen(full, cwd=turns.ROOT, env={**environment, **os.environ}, text=True, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE)
        try:
            _, said = process.communicate(timeout=limit)
            if process.returncode:
                notes.append(f"{program}: {turns.reason(said)}")
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            notes.append(f"{program}: stopped after {limit:.0f} s")
        return {"result": io.read_json(path) if path.is_file() else {}, "notes": notes}


def markdown(result: Mapping[str, Any]) -> str:
    """Returns tables of what there is."""
    lines = [f"## {result['title']}", ""]
    for name, known in result.get("matrix", {}).items():
        rates = np.array(known["rates"]) / 1e3
        lines.append(f"- {known['case']} ({name}): {np.median(rates):.1f} TFLOP/s ({rates.min():.1f} to {rates.max():.1f})")
    if "gflop_of_an_example" in result:
        lines.append(f"- {result['gflop_of_an_example']:.2f} GFLOP for an example, forward and backward; bank of "
                     f"{result['bank_bytes'] / 1e9:.2f} GB" + (f"; {' '.join(result['set'])}" if result["set"] else ""))
    lines += _batches(result) + _input(result) + _profile(result) + _kernels(result)
    if result.get("peers"):
        lines += ["", peers.markdown(result["peers"])]
    lines += [f"- not measured: {note}" for note in result["notes"]]
    return "\n".join(lines) + "\n"


def _batches(result: Mapping[str, Any]) -> list[str]:
    if not result.get("batches"):
        return []
    names = list(result["batches"][0]["share"])
    heads = ["batch", "ms a step", "examples/s", "TFLOP/s", *(f"share of {name} products" for name in names), "memory at most, GB",
             "hours for 25 epochs"]
    lines = ["", "| " + " | ".join(heads) + " |", "|---:" * len(heads) + "|"]
    for row in result["batches"]:
        peak = f"{row['peak_bytes'] / 1e9:.1f}" if row["peak_bytes"] else "–"
        cells = [str(row["batch"]), f"{row['ms']:.1f}", f"{row['examples_per_second']:,.0f}", f"{row['tflops']:.2f}",
                 *(f"{row['share'][name]:.2f}" for name in names), peak, f"{row['hours']:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _input(result: Mapping[str, Any]) -> list[str]:
    heads = ("batch", "threads that make batches", "examples/s in the loop of training", "waiting for input", "sampler alone, examples/s")
    lines = ["", "| " + " | ".join(heads) + " |", "|---:" * len(heads) + "|"]
    for row in result.get("input", []):
        lines.append(f"| {row['batch']} | {row['workers']} | {row['examples_per_second']:,.0f} | {row['waited']:.1%} | "
                     f"{row['sampler_alone_per_second']:,.0f} |")
    return lines if result.get("input") else []


def _profile(result: Mapping[str, Any]) -> list[str]:
    if "profile" not in result:
        return []
    seconds = result["profile"]["seconds"]
    parts = {"forward": seconds["forward"], "backward": seconds["forward and backward"] - seconds["forward"],
             "clipping and Adam": seconds["step"] - seconds["forward and backward"], "step": seconds["step"],
             "making a batch (on the CPU, meanwhile)": seconds["making a batch"],
             "moving it to the device (meanwhile)": seconds["moving it to the device"]}
    lines = ["", f"| part, batch {result['profile']['batch']} | ms | share of the step |", "|---|---:|---:|"]
    return lines + [f"| {name} | {1e3 * value:.1f} | {value / seconds['step']:.2f} |" for name, value in parts.items()]


def _kernels(result: Mapping[str, Any]) -> list[str]:
    longest = result.get("kernels", {})
    if "kernels" not in longest:
        return [f"- kernels: {longest['none']}"] if "none" in longest else []
    lines = ["", f"| kernel (all together {1e3 * longest['seconds']:.1f} ms a step) | ms | share | calls |", "|---|---:|---:|---:|"]
    return lines + [f"| `{name[:90].replace('|', '/')}` | {1e3 * value:.2f} | {value / longest['seconds']:.3f} | {calls:.0f} |"
                    for name, value, calls in longest["kernels"]]


if __name__ == "__main__":
    sys.exit(main())
