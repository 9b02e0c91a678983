"""What an example costs against the length of the text, the number of levels, the batch and the width of the network.

    python -m benchmarks.scaling text          # or levels, batch, hidden

Times forward and backward, and prediction, beside the floor of the same shape, by turns at each point. Four layers of the size's
width: what a layer costs shows, and so does what is paid once. One model serves all texts and all batches, as in a run.
"""

import argparse
import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import keras
import numpy as np

from benchmarks import floors, flops, keras_peer, random_bank, report
from kaleidobert import io
from kaleidobert.configs import PretrainConfig
from kaleidobert.datasets.sampling.pretraining import PretrainSampler
from kaleidobert.engines import steps
from kaleidobert.levels import KALEIDO, KaleidoLevel
from kaleidobert.model_zoo.kaleidobert import Matcher, pretrainer

WORKS = ("forward and backward", "prediction")
POINTS = {"text": (8, 16, 32, 48, 64), "levels": (1, 2, 3, 4, 5), "batch": (1, 2, 4, 8, 16, 32, 64, 128),
          "hidden": (128, 256, 512, 768, 1024)}
HEAD_SIZE = 64  # of BERT, whatever its width
LAYERS, BATCH = 4, 8

Batch = tuple[Mapping[str, np.ndarray], ...]


def main(arguments: list[str] | None = None) -> int:
    """Runs the program; returns the exit status."""
    parser = report.parser("benchmarks.scaling", __doc__.split("\n")[0])
    report.add_precision(parser)
    parser.add_argument("curve", choices=POINTS)
    parser.add_argument("--points", type=report.positive, help="so many of the curve, from its first to its last; default: all")
    parser.add_argument("--layers", type=report.positive, default=LAYERS, help=f"default: {LAYERS}")
    parser.set_defaults(repeats=3)
    return report.guarded(run, parser.parse_args(arguments))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measures every point, prints, writes."""
    machine, points = report.machine(), list(POINTS[options.curve])
    if options.curve == "text":
        points = [point for point in points if point <= random_bank.content(options.size).text_length]
    if options.points:
        points = [points[position] for position in sorted({round(x) for x in np.linspace(0, len(points) - 1, options.points)})]
    rows, works, last = [], {}, None
    for point, sizes, levels, model, batch in models(options, points):
        if model is not last:
            works, last = functions(model, random_bank.config(options.size, 1), levels), model
        rows.append({options.curve: point, **measured(works, batch, sizes, levels, options.repeats)})
    names = {"text": "pieces of text", "levels": "levels", "batch": "batch", "hidden": "hidden size"}
    title = f"cost of an example against {names[options.curve]}: {options.size}, {options.layers} layers, {options.precision}"
    result = {"title": f"{title}, {keras.backend.backend()}", "machine": machine, "points": rows, "ratios": _ratios(rows, options.curve)}
    print(markdown(result, options.curve, report.clocks(machine)))
    if options.json is not None:
        io.write_json(options.json, result)
    return result


def models(options: argparse.Namespace, points: Sequence[int]) -> Iterator[tuple[int, dict, tuple[KaleidoLevel, ...], keras.Model, Batch]]:
    """Yields (point, sizes, levels, pre-training model, batch) of every point; one after another, as memory may not hold all."""
    base = random_bank.sizes(options.size, options.precision) | {"num_layers": options.layers}
    batch, model = options.batch or BATCH, None
    if options.curve in ("text", "batch"):
        whole = examples(options.size, max(points) if options.curve == "batch" else batch, KALEIDO)
        model = pretrainer(base)
        for point in points:
            rows, length = (point, base["text_length"]) if options.curve == "batch" else (batch, point)
            yield point, base | {"text_length": length}, KALEIDO, model, cut(whole, rows, length)
        return
    for point in points:
        del model
        keras.backend.clear_session()
        gc.collect()
        levels = KALEIDO[:point] if options.curve == "levels" else KALEIDO
        sizes = base | {"levels": [asdict(level) for level in levels]}
        if options.curve == "hidden":
            sizes |= {"hidden_size": point, "num_heads": max(1, point // HEAD_SIZE), "intermediate_size": 4 * point}
        model = pretrainer(sizes)
        yield point, sizes, levels, model, examples(options.size, batch, levels)


def examples(size: str, batch: int, levels: Sequence[KaleidoLevel]) -> Batch:
    """Returns a batch of the real sampler, from random features."""
    with random_bank.opened(size, max(64, 2 * batch), levels) as bank:
        config = random_bank.config(size, batch)
        return PretrainSampler(bank, bank.rows("train"), levels, config.sampling, batch, 0).batch(0)


def cut(batch: Batch, rows: int, length: int) -> Batch:
    """Returns the first rows, with texts of so many pieces; masked pieces beyond stand at the last one."""
    inputs, targets, weights = ({name: array[:rows] for name, array in part.items()} for part in batch)
    for name in ("token_ids", "segment_ids", "token_mask"):
        inputs[name] = inputs[name][:, :length]
    inputs["masked_tokens"] = np.minimum(inputs["masked_tokens"], length - 1)
    return inputs, targets, weights


def functions(model: keras.Model, config: PretrainConfig, levels: Sequence[KaleidoLevel]) -> dict[str, Callable[..., Any]]:
    """Returns {work: a compiled function of a batch}; made once for a model, as a run does."""
    forward = steps.forward(Matcher(model.backbone))
    return {WORKS[0]: keras_peer.gradients(model, keras_peer.loss_function(config, levels)), WORKS[1]: lambda *batch: forward(batch[0])}


def measured(works: Mapping[str, Callable[..., Any]], batch: Batch, sizes: Mapping[str, Any], levels: Sequence[KaleidoLevel],
             rounds: int) -> dict[str, Any]:
    """Measures GFLOP, seconds for an example, and share of the float32 floor's rate, of both works."""
    rows, masked = batch[0]["masked_tokens"].shape
    gflop = {WORKS[0]: flops.training(flops.pretrainer(sizes, levels, masked)) / 1e9,
             WORKS[1]: sum(flops.matcher(sizes, levels).values()) / 1e9}
    cases = [floors.Case(name, rows * gflop[name], "GFLOP", keras_peer.repeated(works[name], batch)) for name in WORKS]
    *timings, floor = floors.interleaved([*cases, floors.products_like(sizes, levels, rows)[0]], rounds)
    return {name: {"gflop": gflop[name], "seconds": {clock: float(np.median(values)) / rows for clock, values in timing.seconds.items()},
                   "share": {clock: asdict(floors.ratio(timing, floor, clock)) for clock in floors.CLOCKS}}
            for name, timing in zip(WORKS, timings)}


def _ratios(rows: Sequence[Mapping[str, Any]], curve: str) -> dict[str, Any]:
    return {f"{work}, {curve} {row[curve]} / float32 products": row[work]["share"] for work in WORKS for row in rows}


def markdown(result: Mapping[str, Any], curve: str, clocks: Sequence[str]) -> str:
    """Returns one table: a line for each point."""
    figures = ("GFLOP", *(f"{clock} ms" for clock in clocks), f"share of the floor ({clocks[-1]})")
    heads = [f"{work}: {what}" for work in WORKS for what in figures]
    lines = [f"## {result['title']}", "", "Of one example:", "", f"| {curve} | " + " | ".join(heads) + " |"]
    lines += ["|---:|" + "---:|" * len(heads)]
    for row in result["points"]:
        cells = []
        for work in (row[name] for name in WORKS):
            cells += [f"{work['gflop']:.3g}", *(f"{1e3 * work['seconds'][clock]:.1f}" for clock in clocks)]
            cells += [f"{work['share'][clocks[-1]]['median']:.2f}"]
        lines.append(f"| {row[curve]} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
