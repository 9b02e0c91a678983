"""The part of ``kaleidobert evaluate`` that counts retrieval scores."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kaleidobert.configs import EvaluateConfig
from kaleidobert.configs.addresses import written
from kaleidobert.datasets.bank.bank import Bank, describe
from kaleidobert.errors import UserError
from kaleidobert.evaluators import paired, retrieval
from kaleidobert.evaluators.candidates import candidates
from kaleidobert.evaluators.candidates.candidates import CandidateLists, SavedLists
from kaleidobert.evaluators.candidates.protocols import PROTOCOLS
from kaleidobert.evaluators.files import score_checks, score_tables
from kaleidobert.evaluators.files.columns import kind_of, read_columns
from kaleidobert.evaluators.files.score_tables import ScoreTable
from kaleidobert.evaluators.report import plots
from kaleidobert.released import counting
from kaleidobert.released import results as counted_as_released

MISSED = ("released", "fashionbert")  # ways to count in which a query without a right candidate is missed, not refused
OTHER = {"i2t": "t2i", "t2i": "i2t", "": ""}


@dataclass(frozen=True)
class Material:
    """What the files of a configuration hold, checked against each other. labelled: the scores before texts are compared, which other
    ways to count do not do. turned: candidates right by their text alone."""

    table: ScoreTable
    labelled: ScoreTable
    direction: str
    protocol: str
    lists: SavedLists | None
    bank: Bank | None
    against: ScoreTable | None
    other: ScoreTable | None
    turned: int


def read(config: EvaluateConfig) -> Material:
    """All tables of a configuration; UserError for what does not fit together."""
    assert config.scores is not None  # or another part reads
    lists = candidates.read(config.candidates) if config.candidates is not None else None
    direction = _agreed("direction", config.direction, lists.direction if lists else "", config.candidates)
    protocol = _agreed("protocol", config.protocol, lists.protocol if lists else "", config.candidates)
    bank = Bank(config.data.bank) if config.data.bank is not None else None
    if bank and not direction:
        raise UserError("direction is not set", "evaluate", "i2t (pictures ask for texts) or t2i", "say direction=i2t or direction=t2i")
    texts = _texts(config, bank)
    labelled = _labelled(config, config.scores, direction, lists, bank)
    table, turned = _with_texts(labelled, texts)
    counting.check(table, config.counting)
    against = other = None
    if config.against is not None:
        _, against = score_checks.matched(table, _with_texts(_labelled(config, config.against, direction, lists, bank), texts)[0])
    if config.other_direction is not None:
        if not direction:
            raise UserError("direction is not set", "evaluate", "that of the scores, for SumR", "say direction=i2t or direction=t2i")
        other, _ = _with_texts(_labelled(config, config.other_direction, OTHER[direction], None, bank), texts)
    return Material(table, labelled, direction, protocol, lists, bank, against, other, turned)


def describe_inputs(material: Material) -> str:
    """A line for --dry-run."""
    table = material.table
    lengths = table.valid.sum(axis=1)
    beside = [f"against {material.against.source}"] if material.against else []
    return (f"{len(table.queries):,} queries with {lengths.min()} to {lengths.max()} candidates, {lengths.sum():,} pairs; "
            + "; ".join([*beside, "the files fit together"]))


def evaluate(config: EvaluateConfig, material: Material) -> dict[str, Any]:
    """The results; writes scores.jsonl, ranks.png, and queries.png beside a bank."""
    assert config.scores is not None
    rng = np.random.Generator(np.random.Philox(config.seed))
    table, lonely = _with_answers(material.table)
    report = retrieval.report(table.scores, table.relevant, table.valid, rng, config.resamples)
    plots.rank_histogram(retrieval.standing(table.scores, table.relevant, table.valid).ranks(), config.run / "ranks.png",
                         table.scores.shape[1])
    score_tables.write(material.table, config.run / "scores.jsonl")
    if material.bank:
        from kaleidobert.app_zoo.retrieve.results import draw_query_sheet

        draw_query_sheet(config.run, material.bank, material.direction)
    lists = material.lists
    drawn = {"sha256": lists.sha256, "seed": lists.seed} if lists else {}
    results: dict[str, Any] = {"task": "retrieve" if material.direction else "evaluate", "direction": material.direction,
               "protocol": material.protocol or "as the file has them", "metrics": report, "counting": config.counting,
               "queries_without_a_right_candidate": lonely, "right_by_their_text": material.turned,
               "candidates": {"direction": material.direction, "list_length": table.scores.shape[1], **drawn},
               "baselines": _baselines(config, material.bank, material.direction, table, rng) if material.bank else {},
               "files": {"source": written(config.scores)}, "notes": [*material.table.notes, *_other_counting(config, material)]}
    if material.bank:
        results["bank"] = describe(material.bank)
    if config.counting != "expectation":
        counted = counting.count(material.labelled, config.counting, material.direction, rng)
        results["released_counting" if config.counting == "released" else "counted"] = counted
    if material.other:
        other, _ = _with_answers(material.other)
        second = retrieval.report(other.scores, other.relevant, other.valid, rng, config.resamples)
        results["other_direction"] = {"direction": OTHER[material.direction], "metrics": second}
        results["sum_of_ranks"] = retrieval.sum_of_ranks(report, second)
    if material.against and config.against:
        compared = paired.compare_scores(table, _with_answers(material.against)[0], rng, config.resamples, config.permutations)
        results["comparison"] = {"against": written(config.against), **compared}
    return results


def lines(results: Mapping[str, Any]) -> list[str]:
    """A short table for people."""
    report, others = results["metrics"], results["baselines"]
    length = report["list_length"]
    size = f"{length['min']}" if length["min"] == length["max"] else f"{length['min']} to {length['max']}"
    made = [f"{results['direction'] or 'retrieval'}: {report['queries']:,} queries, {size} candidates each, protocol: "
            f"{results['protocol']}; equal scores (at {report['share_tied']:.1%} of the queries) count by expectation, the worst and "
            "best order beside it"]
    made.append(f"{'':12s}{'value':>8s}{'95% interval':>20s}{'worst':>9s}{'best':>9s}{'chance':>9s}"
                + "".join(f"{name:>20s}" for name in others))
    for name in counting.METRICS:
        value = report[name]
        interval = f"[{value['low']:.4f}, {value['high']:.4f}]"
        beside = "".join(f"{numbers[name]:20.4f}" if name in numbers else f"{'':20s}" for numbers in others.values())
        made.append(f"{name:12s}{value['value']:8.4f}{interval:>20s}{value['pessimistic']:9.4f}{value['optimistic']:9.4f}"
                    f"{value['chance']:9.4f}{beside}".rstrip())
    if results["queries_without_a_right_candidate"]:
        made.append(f"{results['queries_without_a_right_candidate']} queries without a right candidate are left out of these lines")
    if results["right_by_their_text"]:
        made.append(f"{results['right_by_their_text']:,} candidates are right because their text is the query's")
    if "sum_of_ranks" in results:
        made.append(f"SumR of both directions: {results['sum_of_ranks']:.1f}")
    counted = results.get("released_counting") or results.get("counted") or {}
    if "right" in counted and results["counting"] == "released":
        made += ["as the release printed it:", counted_as_released.show(counted).rstrip("\n")]
    elif counted:
        made.append(f"counted as {results['counting']}: " + ", ".join(_number(name, value) for name, value in counted.items()))
    return made + comparison_lines(results.get("comparison"))


def comparison_lines(compared: Mapping[str, Any] | None) -> list[str]:
    """The paired tests for people."""
    if not compared:
        return []
    made = [f"against {compared['against']} (differences are this one minus that one):"]
    for name, value in compared.items():
        if isinstance(value, Mapping) and "difference" in value:
            p = f", p {value['p']:.4g} (sign flips)" if "p" in value else ""
            made.append(f"  {name:17s}{value['first']:.4f} - {value['second']:.4f} = {value['difference']:+.4f} "
                        f"[{value['low']:+.4f}, {value['high']:+.4f}]{p}")
    for name, words in (("mcnemar", "right alone"), ("sign_test", "ranked higher")):
        if compared.get(name):
            value = compared[name]
            made.append(f"  {name.replace('_', ' ')}: {words} {value['first']} to {value['second']}, exact p {value['p']:.4g}")
    return made


def _number(name: str, value: Any) -> str:
    return f"{name} {value['value']:.4f}" if isinstance(value, Mapping) else f"{name} {value}"


def _labelled(config: EvaluateConfig, path: Path, direction: str, lists: SavedLists | None, bank: Bank | None) -> ScoreTable:
    """A table with what is right as its file or the lists say."""
    table = score_tables.read(path, direction, config.columns, need_labels=lists is None)
    if bank:
        ids = bank.column("image_id")[bank.rows(config.data.val_split)].tolist()
        score_checks.known(table, ids, f"the split {config.data.val_split!r} of {bank.folder}")
    if lists:
        table = score_checks.with_lists(table, lists, str(config.candidates))
    return table if config.counting in MISSED else score_tables.require_right(table)


def _with_texts(table: ScoreTable, texts: Mapping[str, str] | None) -> tuple[ScoreTable, int]:
    """(the table with all that is right, how many candidates are so by their text alone)."""
    return score_checks.with_texts(table, texts) if texts is not None else (table, 0)


def _with_answers(table: ScoreTable) -> tuple[ScoreTable, int]:
    """(the queries that have a right candidate, how many have none)."""
    used = np.asarray(table.relevant.any(axis=1))
    if used.all():
        return table, 0
    if not used.any():
        score_tables.require_right(table)
    return score_tables.select(table, used), int((~used).sum())


def _texts(config: EvaluateConfig, bank: Bank | None) -> dict[str, str] | None:
    """{id: text}; None where the rule of identical texts is off or nothing tells the texts."""
    if not config.identical_texts:
        return None
    if config.texts is None:
        return None if bank is None else dict(zip(bank.column("image_id").tolist(), bank.column("text").tolist()))
    kind = kind_of(config.texts)
    table = read_columns(config.texts, kind, {"id": "id", "text": "text"})
    texts: dict[str, str] = {}
    for place, (name, text) in enumerate(zip(table["id"].values, table["text"].values)):
        if texts.setdefault(name, text) != text:
            raise UserError(f"the id {name!r} has two texts", table["id"].where(place), "one text per id")
    return texts


def _baselines(config: EvaluateConfig, bank: Bank, direction: str, table: ScoreTable,
               rng: np.random.Generator) -> dict[str, dict[str, float]]:
    """Oracle and ridge on the same lists."""
    from kaleidobert.app_zoo.retrieve.results import Baselines
    from kaleidobert.datasets.sampling.pretraining import share_of_groups

    data = config.data
    val_rows = bank.rows(data.val_split)
    rows = share_of_groups(bank, bank.rows(data.train_split), data.train_share, config.seed)
    places = {name: place for place, name in enumerate(bank.column("image_id")[val_rows].tolist())}
    answers = np.full(table.scores.shape, candidates.PADDING, np.int64)
    for row, names in enumerate(table.candidates):
        answers[row, : len(names)] = [places[name] for name in names]
    queries = np.array([places[name] for name in table.queries], np.int64)
    lists = CandidateLists(queries, answers, table.relevant, direction, config.seed, "")
    return Baselines(bank, rows, val_rows, config.subcategory, config.baselines, config.seed).compare(lists, rng)


def _other_counting(config: EvaluateConfig, material: Material) -> list[str]:
    """A note where the source of a protocol counts otherwise than asked for."""
    theirs = PROTOCOLS[material.protocol].counting if material.protocol not in ("", "kaleido") else "expectation"
    return [f"the source of protocol {material.protocol!r} counts otherwise: counting={theirs} shows its figures beside these"] \
        if theirs not in ("expectation", config.counting) else []


def _agreed(what: str, asked: str, found: str, path: Path | None) -> str:
    if asked and found and asked != found:
        raise UserError(f"the lists are for {what} {found}", str(path), asked, f"say {what}={found}, or name other lists")
    return asked or found
