"""results.json of ``kaleidobert retrieve``: the figures of the run's head, and what stands beside them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kaleidobert import io
from kaleidobert.app_zoo import lineage
from kaleidobert.app_zoo.plain_head import PlainHead
from kaleidobert.app_zoo.retrieve import fine_tuning
from kaleidobert.app_zoo.retrieve.baselines import METRICS, Baselines, mean
from kaleidobert.app_zoo.retrieve.ranking import is_large
from kaleidobert.configs import RetrieveConfig
from kaleidobert.configs.addresses import written
from kaleidobert.datasets.bank.bank import Bank, describe
from kaleidobert.evaluators import retrieval, statistics
from kaleidobert.evaluators.candidates import CandidateLists, Gallery
from kaleidobert.evaluators.report import plots
from kaleidobert.evaluators.report.results import head_name
from kaleidobert.evaluators.retrieval import PerQueryMetrics, average

PARTS = {"own": "encoder alone", "dual_encoder": "dual encoder alone"}  # of the head "dual_encoder": {answer: its name in results.json}
PLAIN = "plain head"


def collect(config: RetrieveConfig, bank: Bank, rows: tuple[np.ndarray, np.ndarray], lists: Sequence[CandidateLists | Gallery],
            own: list[dict[str, PerQueryMetrics]], plain: PlainHead | None, plain_tallies: list[PerQueryMetrics] | None) -> dict[str, Any]:
    """The content of results.json, of several draws the means; draws ranks.png of the first draw.

    rows: those to train on and those that are ranked. own: per draw {answer: tally}, the answers as Ranker.names; plain, plain_tallies:
    of the paper's plain head on the same lists.
    """
    others = Baselines(bank, *rows, config.subcategory, config.baselines, config.train.seed)
    reports, compared = [], []
    for number, (one, tallies) in enumerate(zip(lists, own)):
        rng = _rng(config, number)
        reports.append(retrieval.summarise(tallies["itm"], rng))
        compared.append(others.compare(one, rng))
    plots.rank_histogram(own[0]["itm"].ranks(), config.run / "ranks.png", lists[0].length)
    draws = [{"seed": one.seed, "sha256": one.sha256, "metrics": report} for one, report in zip(lists, reports)]
    return {"task": "retrieve", "model": lineage.model(config.matching.head, config.init, fine_tuning.steps(config)),
            "direction": config.direction, "protocol": lists[0].protocol, "metrics": average(reports),
            **beside(config, own, plain, plain_tallies), "baselines": mean(compared), "bank": describe(bank),
            **({"draws": draws} if len(draws) > 1 else {})}


def beside(config: RetrieveConfig, own: list[dict[str, PerQueryMetrics]], plain: PlainHead | None,
           plain_tallies: list[PerQueryMetrics] | None) -> dict:
    """What stands beside the figures of a head of ours: {"parts", "plain", "differences"}, as far as the head has them.

    differences: the head less the other, on the same queries; {name of the other: {metric: {first, second, difference, low, high}}}.
    """
    others = {name: [tallies[answer] for tallies in own] for answer, name in PARTS.items() if answer in own[0]}
    made: dict[str, Any] = {"parts": {name: _mean(config, tallies) for name, tallies in others.items()}} if others else {}
    if plain is not None:
        metrics = _mean(config, plain_tallies) if plain_tallies else None
        if metrics is None and plain.run is not None:
            metrics = io.read_json(plain.run / "results.json")["metrics"]
        origin = {"checkpoint": plain.checkpoint, "run": plain.run}
        made["plain"] = {"model": plain.model, "metrics": metrics, **({"why": plain.why} if metrics is None else {}),
                         **{name: written(path) for name, path in origin.items() if path is not None}}
    others |= {PLAIN: plain_tallies} if plain_tallies else {}
    return made | ({"differences": {name: _differences(config, own, tallies) for name, tallies in others.items()}} if others else {})


def print_summary(config: RetrieveConfig, draws: Sequence[CandidateLists | Gallery], results: dict, sheet: Path | None) -> None:
    """Print which model it is, the metrics of it, of its parts and of the plain head, and what was written."""
    model, plain, share = results["model"], results.get("plain"), results["candidates"]["share_same_subcategory"]
    print(f"{config.direction}: {head_name(model)}, {model['trained']}; masking: {model['masking']}")
    others = dict(results.get("parts", {})) | ({PLAIN: plain["metrics"]} if plain and plain["metrics"] else {})
    if plain:
        print(f"{PLAIN}: " + (f"{head_name(plain['model'])}, {plain['model']['trained']}" if plain["metrics"]
                              else f"not measured: {plain['why']}"))
    if share is not None:
        print(f"of the other candidates {share:.1%} are of the query's own subcategory (mean over queries)")
    for name in ("rank@1", "rank@5", "rank@10"):
        value = results["metrics"][name]
        beside = "".join(f"; {other} {numbers[name]['value']:.4f}" for other, numbers in others.items())
        beside += "".join(f"; {other} {numbers[name]:.4f}" for other, numbers in results["baselines"].items())
        print(f"{config.direction} {name}: {value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]{beside}; "
              f"chance {value['chance']:.4f}")
    for other, numbers in results.get("differences", {}).items():
        gap = numbers["rank@1"]
        print(f"rank@1 less that of the {other}: {gap['difference']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}]")
    digest = f"(sha256 {draws[0].sha256[:12]})"
    written = ["scores.npy", f"gallery.json {digest}"] if is_large(draws[0]) else ["scores.jsonl", f"candidates.jsonl {digest}"]
    written += ["ranks.png", "results.json", "table.md"] + ["queries.png"] * bool(sheet)
    written += [f"scores-2.jsonl to scores-{len(draws)}.jsonl: the other draws"] if len(draws) > 1 else []
    print(f"run folder: {config.run}\n  {', '.join(written)}")


def _mean(config: RetrieveConfig, tallies: list[PerQueryMetrics]) -> dict[str, Any]:
    """The report over all draws."""
    return average([retrieval.summarise(one, _rng(config, number)) for number, one in enumerate(tallies)])


def _differences(config: RetrieveConfig, own: list[dict[str, PerQueryMetrics]], others: list[PerQueryMetrics]) -> dict[str, dict]:
    """{metric: as statistics.difference}, of several draws the means, without p."""
    made = {}
    for metric in METRICS:
        each = [statistics.difference(one["itm"].tables["expectation"][metric], other.tables["expectation"][metric], _rng(config, number))
                for number, (one, other) in enumerate(zip(own, others))]
        made[metric] = each[0] if len(each) == 1 else {key: float(np.mean([one[key] for one in each])) for key in each[0] if key != "p"}
    return made


def _rng(config: RetrieveConfig, number: int) -> np.random.Generator:
    """Of a draw: the same resampled queries for all that is counted of its lists."""
    return np.random.Generator(np.random.Philox(config.candidates_seed + number))
