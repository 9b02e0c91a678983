"""What ``kaleidobert retrieve`` reports: results.json with the figures of the run's head and of what stands beside it, and queries.png."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from kaleidobert import io
from kaleidobert.app_zoo import lineage
from kaleidobert.app_zoo.classify import picture_features
from kaleidobert.app_zoo.lineage import PlainHead
from kaleidobert.app_zoo.retrieve import fine_tuning, two_stages
from kaleidobert.app_zoo.retrieve.ranking import is_large
from kaleidobert.configs import RetrieveConfig
from kaleidobert.configs.loader import path_as_written
from kaleidobert.datasets.bank.bank import Bank, describe
from kaleidobert.datasets.products import read_image
from kaleidobert.errors import UserError
from kaleidobert.evaluators import baselines, retrieval, statistics
from kaleidobert.evaluators.candidates import CandidateLists, Gallery
from kaleidobert.evaluators.report import plots, sheets
from kaleidobert.evaluators.report.results import head_name
from kaleidobert.evaluators.report.sheets import Query, Shown
from kaleidobert.evaluators.retrieval import PerQueryMetrics, average

PARTS = {"dual_encoder": {"own": "encoder alone", "dual_encoder": "dual encoder alone"},  # {head: {answer: its name in results.json}}
         "contrastive": {"own": "[CLS] alone", "contrastive": "contrast alone"}}
PLAIN, RIDGE = "plain head", "ridge regression"


def collect(config: RetrieveConfig, bank: Bank, others: "Baselines", lists: Sequence[CandidateLists | Gallery],
            own: list[dict[str, PerQueryMetrics]], plain: PlainHead | None, plain_tallies: list[PerQueryMetrics] | None) -> dict[str, Any]:
    """Returns the content of results.json, of several draws the means; draws ranks.png of the first draw.

    own: per draw {answer: tally}, the answers as Ranker.names, of two stages as two_stages.count; plain, plain_tallies: of the paper's
    plain head on the same lists.
    """
    reports, compared, ridge = [], [], []
    for number, (one, tallies) in enumerate(zip(lists, own)):
        rng = _rng(config, number)
        reports.append(retrieval.summarise(tallies["itm"], rng))
        counted = others.tallies(one)
        compared.append(values(counted, rng))
        ridge += [counted["ridge"]] if "ridge" in counted else []
    plots.rank_histogram(own[0]["itm"].ranks(), config.run / "ranks.png", lists[0].length)
    draws = [{"seed": one.seed, "sha256": one.sha256, "metrics": report} for one, report in zip(lists, reports)]
    return {"task": "retrieve", "model": lineage.model(config.matching.head, config.init, fine_tuning.trained_steps(config)),
            "direction": config.direction, "protocol": lists[0].protocol, "metrics": average(reports),
            **beside(config, own, plain, plain_tallies, ridge), "baselines": mean_baselines(compared), "bank": describe(bank),
            **({"draws": draws} if len(draws) > 1 else {})}


def beside(config: RetrieveConfig, own: list[dict[str, PerQueryMetrics]], plain: PlainHead | None,
           plain_tallies: list[PerQueryMetrics] | None, ridge: list[PerQueryMetrics]) -> dict:
    """Returns what stands beside the figures of a head: {"parts", "plain"} of a head of ours, and the "differences" to these and to ridge.

    differences: the head less the other, on the same queries; {name of the other: {metric: {first, second, difference, low, high}}}.
    """
    answers = {"first": two_stages.ALONE} if config.rerank else PARTS.get(config.matching.head, {})
    others = {name: [tallies[answer] for tallies in own] for answer, name in answers.items()}
    made: dict[str, Any] = {"parts": {name: _mean(config, tallies) for name, tallies in others.items()}} if others else {}
    if plain is not None:
        metrics = _mean(config, plain_tallies) if plain_tallies else None
        if metrics is None and plain.run is not None:
            metrics = io.read_json(plain.run / "results.json")["metrics"]
        origin = {"checkpoint": plain.checkpoint, "run": plain.run}
        made["plain"] = {"model": plain.model, "metrics": metrics, **({"why": plain.why} if metrics is None else {}),
                         **{name: path_as_written(path) for name, path in origin.items() if path is not None}}
    others |= ({PLAIN: plain_tallies} if plain_tallies else {}) | ({RIDGE: ridge} if ridge else {})
    return made | ({"differences": {name: _differences(config, own, tallies) for name, tallies in others.items()}} if others else {})


def print_summary(config: RetrieveConfig, draws: Sequence[CandidateLists | Gallery], results: dict, sheet: Path | None) -> None:
    """Prints which model it is, the metrics of it, of its parts and of the plain head, and what was written."""
    model, plain, fraction = results["model"], results.get("plain"), results["candidates"]["share_same_subcategory"]
    print(f"{config.direction}: {head_name(model)}, {model['trained']}; masking: {model['masking']}")
    others = dict(results.get("parts", {})) | ({PLAIN: plain["metrics"]} if plain and plain["metrics"] else {})
    if plain:
        print(f"{PLAIN}: " + (f"{head_name(plain['model'])}, {plain['model']['trained']}" if plain["metrics"]
                              else f"not measured: {plain['why']}"))
    if fraction is not None:
        print(f"of the other candidates {fraction:.1%} are of the query's own subcategory (mean over queries)")
    for name in ("rank@1", "rank@5", "rank@10"):
        value = results["metrics"][name]
        beside = "".join(f"; {other} {numbers[name]['value']:.4f}" for other, numbers in others.items())
        beside += "".join(f"; {other} {numbers[name]:.4f}" for other, numbers in results["baselines"].items())
        print(f"{config.direction} {name}: {value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]{beside}; "
              f"chance {value['chance']:.4f}")
    if stages := results.get("two_stages"):
        print(f"stage one: {stages['stage_one']}; the right one is among its first "
              + ", ".join(f"{k}: {value:.4f}" for k, value in stages["recall"].items()))
    for other, numbers in results.get("differences", {}).items():
        gap = numbers["rank@1"]
        print(f"rank@1 less that of the {other}: {gap['difference']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}]")
    digest = f"(sha256 {(stages['candidates_sha256'] if stages else draws[0].sha256)[:12]})"
    as_array = is_large(draws[0]) and not stages
    written = ["scores.npy", f"gallery.json {digest}"] if as_array else ["scores.jsonl", f"candidates.jsonl {digest}"]
    written += ["ranks.png", "results.json", "table.md"] + ["queries.png"] * bool(sheet)
    written += [f"scores-2.jsonl to scores-{len(draws)}.jsonl: the other draws"] if len(draws) > 1 else []
    print(f"run folder: {config.run}\n  {', '.join(written)}")


def _mean(config: RetrieveConfig, tallies: list[PerQueryMetrics]) -> dict[str, Any]:
    """Returns the report over all draws."""
    return average([retrieval.summarise(one, _rng(config, number)) for number, one in enumerate(tallies)])


def _differences(config: RetrieveConfig, own: list[dict[str, PerQueryMetrics]], others: list[PerQueryMetrics]) -> dict[str, dict]:
    """Returns {metric: as statistics.difference}, of several draws the means, without p."""
    made = {}
    for metric in METRICS:
        each = [statistics.difference(one["itm"].tables["expectation"][metric], other.tables["expectation"][metric], _rng(config, number))
                for number, (one, other) in enumerate(zip(own, others))]
        made[metric] = each[0] if len(each) == 1 else {key: float(np.mean([one[key] for one in each])) for key in each[0] if key != "p"}
    return made


def _rng(config: RetrieveConfig, number: int) -> np.random.Generator:
    """Returns the generator of a draw: all metrics of its lists resample the same queries."""
    return np.random.Generator(np.random.Philox(config.candidates_seed + number))


# --- What ranks the same lists without a model: the oracle of the subcategory, and ridge regression


METRICS = ("rank@1", "rank@5", "rank@10", "mrr")
RESAMPLES = 100  # their intervals are not shown


class Baselines:
    """Over lists whose rows are those of ``val_rows``. ridge: fit the regression too, on the rows ``rows``, once."""

    def __init__(self, bank: Bank, rows: np.ndarray, val_rows: np.ndarray, subcategory: str, ridge: bool, seed: int):
        self._bank, self._rows, self._val_rows, self._seed, self._ridge = bank, rows, val_rows, seed, ridge
        self._subcategories = bank.subcategories(subcategory)[val_rows].tolist()

    def tallies(self, lists: CandidateLists | Gallery) -> dict[str, PerQueryMetrics]:
        """Returns {baseline: tally}."""
        def oracle(chunk: CandidateLists) -> np.ndarray:
            return retrieval.subcategory_oracle(self._subcategories, chunk.queries, chunk.candidates)

        scorers = {"subcategory_oracle": oracle} | ({"ridge": partial(baselines.products, *self.sides)} if self._ridge else {})
        return {name: retrieval.concatenate([retrieval.per_query_metrics(score(chunk), chunk.relevant, chunk.valid)
                                             for chunk in lists.chunks()]) for name, score in scorers.items()}

    @cached_property
    def sides(self) -> tuple[np.ndarray, np.ndarray]:
        """(pictures, texts) f64[len(val_rows), D + 1] of the regression, as ``RidgeMatcher`` maps them."""
        rows, texts, groups = self._rows, self._bank.column("text"), self._bank.column("group")
        features = picture_features(self._bank, np.concatenate([rows, self._val_rows]))
        matcher = baselines.fit_ridge(features[: len(rows)], texts[rows].tolist(), self._seed, groups[rows].tolist())
        return matcher.pictures(features[len(rows):]), matcher.texts(texts[self._val_rows].tolist())


def values(tallies: Mapping[str, PerQueryMetrics], rng: np.random.Generator) -> dict[str, dict[str, float]]:
    """Returns {baseline: {metric: value}} of {baseline: tally}."""
    reports = {name: retrieval.summarise(tally, rng, RESAMPLES) for name, tally in tallies.items()}
    return {name: {metric: report[metric]["value"] for metric in METRICS} for name, report in reports.items()}


def mean_baselines(draws: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Returns the means over several draws of lists."""
    return {name: {metric: float(np.mean([draw[name][metric] for draw in draws])) for metric in values}
            for name, values in draws[0].items()}


# --- queries.png: the best and worst queries with their first candidates


LEADS = {"i2t": "A picture asks for its text", "t2i": "A text asks for its picture"}


def draw_query_sheet(run: Path, bank: Bank, direction: str, count: int = 5) -> Path | None:
    """Draws run/queries.png of run/scores.jsonl, ``count`` best and worst queries; returns its path.

    The scores' ids are image ids of the bank; pictures are read where its table says. None, and a line that says so, where one of
    them is not there. Raises UserError for a line of the scores that does not fit the bank.
    """
    lists, path = _read_scores(run / "scores.jsonl"), run / "queries.png"
    best, worst = sheets.choose([line["scores"] for line in lists], [line["relevant"] for line in lists], count)
    if not best:
        print("queries.png is not drawn: no query has a right and a wrong candidate")
        return None
    rows = {row["image_id"]: row for row in bank.table}
    strange = {name for number in (*best, *worst) for name in (lists[number]["query"], *lists[number]["candidates"])} - rows.keys()
    if strange:
        raise UserError(f"the bank has no picture {min(strange)!r}", str(run / "scores.jsonl"), f"image ids of {bank.folder}")

    def show(image_id: str, picture: bool) -> Shown:
        return read_image(rows[image_id]["image_path"]) if picture else rows[image_id]["text"]

    def query(number: int) -> Query:
        line = lists[number]
        shown = sheets.candidates(line["scores"], line["relevant"], lambda i: show(line["candidates"][i], direction == "t2i"))
        rank = sheets.rank(line["scores"], line["relevant"])
        return Query(show(line["query"], direction == "i2t"), rank, len(line["scores"]), shown)

    try:
        drawn = [query(number) for number in best], [query(number) for number in worst]
    except UserError as error:
        print(f"queries.png is not drawn: {error.what}: {error.where}")
        return None
    lead = (f"{LEADS[direction]}, {len(lists):,} queries. Beside each its first candidates with their scores; right ones have a frame. "
            f"Behind the dots: the right one that is not among the first {sheets.SHOWN}.")
    sheets.queries(f"{run.name}: best and worst queries", lead, *drawn, path)
    return path


def _read_scores(path: Path) -> list[dict[str, Any]]:
    """Returns the lines of scores.jsonl; raises UserError that names one that is broken."""
    if not path.is_file():
        raise UserError("there is no such file", str(path), "the scores that `kaleidobert retrieve` writes")
    lines = []
    for number, text in enumerate(path.read_bytes().splitlines(), 1):
        try:
            line = json.loads(text)
            fits = len(line["candidates"]) == len(line["relevant"]) == len(line["scores"]) and isinstance(line["query"], str)
        except (ValueError, KeyError, TypeError):
            fits = False
        if not fits:
            raise UserError(f"line {number} is broken", str(path), "query, and candidates, relevant and scores of one length",
                            "rank again")
        lines.append(line)
    return lines
