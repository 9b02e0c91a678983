"""Does it help? Saliency against the whole picture, Alignment Guided Masking against random masking, one pretext after another: same
data, same steps, seeds.

    python -m benchmarks.ablation runs/ablation --configs configs/quickstart --seeds 0 1 2
    python -m benchmarks.ablation runs/ablation --variants b b_i b_i-ii b_i-iii b_i-iv b_i-v b_v

makes a bank per foreground, aligns those that a variant masks by, and for every variant and seed pre-trains, fine-tunes and
evaluates with the commands of the package (paper, table 4). Which words count as aligned comes from one bank for all variants,
the saliency bank where there is one. A step whose results exist is not run again, so the program can be interrupted and continued.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy import stats

from benchmarks import report
from kaleidobert import io
from kaleidobert.errors import UserError

ROWS = Path(__file__).parents[1] / "configs" / "table4"  # level tables of the paper's table 4
USUAL = {  # name: (is the foreground cut out, the file of ROWS with levels and sampling.masking)
    "saliency-agm": (True, "b_i-v"), "saliency-random": (True, "random"), "whole-agm": (False, "b_i-v"), "whole-random": (False, "random")}
VARIANTS = USUAL | {path.stem: (path.stem != "fixed", path.stem) for path in sorted(ROWS.glob("*.yaml"))}
METRICS = ("mlm aligned", "mlm unaligned", "itm", "subcategory", "i2t rank@1", "i2t rank@5", "i2t rank@10", "t2i rank@1",
           "t2i rank@5", "t2i rank@10")
MASK_DRAWS = 5  # times that every validation text is masked for the accuracy on masked words


def main(arguments: list[str] | None = None) -> int:
    """The program; returns the exit status."""
    parser = argparse.ArgumentParser("python -m benchmarks.ablation", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="where banks and runs go")
    parser.add_argument("--configs", type=Path, default=Path("configs/quickstart"), help="folder of the YAML files; default: quickstart")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(USUAL), metavar="NAME",
                        help=f"of {', '.join(VARIANTS)}; default: {', '.join(USUAL)}")
    parser.add_argument("--saliency", choices=("border", "network", "masks"), default="network", help="foreground.method; default: network")
    for name in ("records", "align", "pretrain", "subcat", "i2t", "t2i"):
        parser.add_argument(f"--{name}", nargs="+", default=[], metavar="KEY=VALUE", help=f"further words for {name}")
    parser.add_argument("--banks", nargs="+", default=[], metavar="METHOD=FOLDER", help="aligned banks that exist already")
    return report.guarded(run, parser.parse_args(arguments))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run what is missing, print the table, write results.json."""
    methods = {name: options.saliency if VARIANTS[name][0] else "none" for name in options.variants}
    banks = dict(word.split("=", 1) for word in options.banks)
    judge = options.saliency if options.saliency in methods.values() else "none"  # its links say which words count as aligned
    aligned = {judge} | {methods[name] for name in options.variants if row(name)["sampling"]["masking"] == "alignment_guided"}
    for method in sorted(set(methods.values())):
        bank = Path(banks.setdefault(method, str(options.folder / method / "bank")))
        command(options, "records", "records", bank, [f"foreground.method={method}"], bank / "index.json")
        if method in aligned:
            command(options, "align", "align", options.folder / method / "align", [f"data.bank={bank}"], bank / "alignment.json")
    by_variant: dict[str, dict[str, list[float]]] = {}
    for seed in options.seeds:
        for name in options.variants:
            values = measure(options, name, seed, banks[methods[name]], banks[judge])
            for metric, value in values.items():
                by_variant.setdefault(name, {}).setdefault(metric, []).append(value)
    result = {"machine": report.machine(), "seeds": options.seeds, "variants": by_variant}
    io.write_json(options.folder / "results.json", result)
    print(markdown(by_variant))
    print(f"every figure: {options.folder / 'results.json'}")
    return result


def row(name: str) -> dict[str, Any]:
    """What a variant says of levels and sampling."""
    return yaml.safe_load((ROWS / f"{VARIANTS[name][1]}.yaml").read_text(encoding="utf-8"))


def command(options: argparse.Namespace, verb: str, config: str, folder: Path, words: Sequence[str], done: Path | None = None) -> None:
    """Run one command of the package into ``folder`` unless its result, ``done`` or results.json, is there."""
    if (done or folder / "results.json").is_file():
        return
    own = [f"bank={folder}"] if verb == "records" else [f"run={folder}"]
    further = getattr(options, config, [])
    full = [sys.executable, "-m", "kaleidobert.cli", verb, str(options.configs / f"{config}.yaml"), *own, *words, *further]
    print("+", *full[2:], flush=True)
    subprocess.run(full, check=True)


def measure(options: argparse.Namespace, name: str, seed: int, bank: str, judge: str) -> dict[str, float]:
    """Pre-train, fine-tune and evaluate one variant with one seed; judge: the bank that says which words are aligned."""
    folder = options.folder / name / str(seed)
    words = [f"data.bank={bank}", f"train.seed={seed}"]
    start = f"init={folder / 'pretrain' / 'best.npz'}"
    own = [f"sampling.masking={row(name)['sampling']['masking']}", f"levels={json.dumps(row(name)['levels'])}"]
    command(options, "pretrain", "pretrain", folder / "pretrain", [*words, *own])
    command(options, "classify", "subcat", folder / "subcat", [*words, start, "baselines=false"])
    command(options, "retrieve", "i2t", folder / "i2t", [*words, start, "baselines=false"])
    command(options, "retrieve", "t2i", folder / "t2i", [*words, f"init={folder / 'i2t' / 'best.npz'}", "baselines=false"])
    if not (folder / "masked_words.json").is_file():
        io.write_json(folder / "masked_words.json", masked_words(folder / "pretrain" / "best.npz", Path(bank), Path(judge)))
    values = io.read_json(folder / "masked_words.json")
    values["itm"] = io.read_json(folder / "pretrain" / "results.json")["metrics"]["itm_accuracy"]
    values["subcategory"] = io.read_json(folder / "subcat" / "results.json")["metrics"]["accuracy"]["value"]
    for direction in ("i2t", "t2i"):
        metrics = io.read_json(folder / direction / "results.json")["metrics"]
        values |= {f"{direction} {rank}": metrics[rank]["value"] for rank in ("rank@1", "rank@5", "rank@10")}
    return values


def masked_words(checkpoint: Path, folder: Path, judge: Path) -> dict[str, float]:
    """Accuracy on masked word pieces of matching validation texts, apart for pieces that the bank ``judge`` aligns and others.

    Masked at random, the same pieces for every variant, with the picture untouched except by the pretexts. Raises UserError
    where the two banks do not hold the same texts in the same order.
    """
    from kaleidobert.app_zoo import models
    from kaleidobert.configs import Sampling
    from kaleidobert.datasets.bank import alignment as alignments
    from kaleidobert.datasets.bank.bank import Bank
    from kaleidobert.datasets.sampling.pretraining import PretrainSampler
    from kaleidobert.engines import steps
    from kaleidobert.model_zoo import checkpoints
    from kaleidobert.model_zoo.kaleidobert import rebuild

    meta = checkpoints.load_meta(checkpoint)
    bank = Bank(folder).require(models.levels_of(meta), "")
    model = rebuild(meta, precision="float32")
    checkpoints.restore(checkpoint, model)
    forward = steps.forward(model)
    other = Bank(judge)
    if not np.array_equal(other.token_ids, bank.token_ids):
        raise UserError("the banks hold other texts, or the same in another order", f"{folder}, {judge}",
                        "banks of one catalogue that differ in foreground.method only", "make both with the same source and text keys")
    linked = (alignments.strengths(other) > 0).any(-1)  # [N, T]
    right, aligned_of_batches = [], []
    for draw in range(MASK_DRAWS):
        sampler = PretrainSampler(bank, bank.rows("val"), bank.levels, Sampling(masking="random", negative_share=0.0), 64, draw)
        step = 0
        while (batch := sampler.validation(step)) is not None:
            inputs, targets, weights = batch
            rows = sampler.order.rows[step * 64 : (step + 1) * 64]
            hit = np.asarray(forward(inputs)["mlm"]).argmax(-1) == targets["mlm"]
            used = weights["mlm"] > 0
            right.append(hit[used])
            aligned_of_batches.append(np.take_along_axis(linked[rows], inputs["masked_tokens"], 1)[used])
            step += 1
    hits, aligned = np.concatenate(right), np.concatenate(aligned_of_batches)
    return {"mlm aligned": float(hits[aligned].mean()), "mlm unaligned": float(hits[~aligned].mean())}


def markdown(result: dict[str, dict[str, list[float]]]) -> str:
    """A table: the mean over the seeds and, with several, the 95% interval of the mean (Student's t)."""
    lines = ["| | " + " | ".join(result) + " |", "|---|" + "---:|" * len(result)]
    for metric in METRICS:
        cells = []
        for values in (np.array(result[name][metric]) for name in result):
            error = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else None
            cells.append(f"{values.mean():.3f}" + (f" ± {error:.3f}" if error is not None else ""))
        lines.append(f"| {metric} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
