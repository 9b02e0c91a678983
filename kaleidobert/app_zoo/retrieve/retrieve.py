"""``kaleidobert retrieve``: rank fixed candidate lists by the matching head (paper, section 4.2: ITR = i2t, TIR = t2i).

The steps: open the task (bank, rows, lists), fine-tune the model or take it as it is, score the lists by it, score them by the paper's
plain head, compare, write. Everything that is scored of a query is kept as retrieval.PerQueryMetrics: one per draw of the lists.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kaleidobert import io
from kaleidobert.app_zoo import lineage, models, released_runs, tables, training
from kaleidobert.app_zoo.lineage import PlainHead
from kaleidobert.app_zoo.retrieve import fine_tuning, results, two_stages
from kaleidobert.app_zoo.retrieve.ranking import Ranker, ScoreCache, ScoredChunk, is_large, save_gallery, writer
from kaleidobert.configs import RetrieveConfig
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.engines import prediction
from kaleidobert.engines.distributed import distribution
from kaleidobert.engines.run_folder import Run, check_folder
from kaleidobert.errors import UserError
from kaleidobert.evaluators import candidates, retrieval
from kaleidobert.evaluators.candidates import PROTOCOLS, CandidateLists, Gallery
from kaleidobert.evaluators.retrieval import PerQueryMetrics
from kaleidobert.io import sha256
from kaleidobert.model_zoo import checkpoints, pairs
from kaleidobert.model_zoo.kaleidobert import Matcher

Lists = CandidateLists | Gallery
SCORES, PLAIN_SCORES = ".scores.part", ".scores-plain.part"  # score caches, which go when the results are written


@dataclass(frozen=True)
class Task:
    """What is ranked: rows i64[N] of the bank to train on and to report on, and of the latter the lists, one per draw.

    records: what the lists are drawn from; plain: where the figures of the paper's plain head come from, None where the head is plain.
    """

    config: RetrieveConfig
    bank: Bank
    train_rows: np.ndarray
    val_rows: np.ndarray
    records: candidates.Records
    lists: list[Lists]
    plain: PlainHead | None


def dry_run(config: RetrieveConfig) -> None:
    """Checks bank and checkpoint, builds the candidate lists, prints sizes."""
    config = models.resolve(config)
    if _of_files(config):
        return released_runs.dry_run_retrieval(config)
    task = open_task(config)
    models.check_start(config, task.bank)
    for lists in task.lists:
        print(f"{len(task.train_rows):,} pictures to train on; lists: {json.dumps(candidates.summary(lists, task.records))}; "
              f"{lists.num_pairs:,} pairs to score")
    if config.train.epochs:
        print(*fine_tuning.rates(config, len(fine_tuning.split(config, task.bank, task.train_rows)[0])), sep="\n")
    _warn(task)
    if task.plain:
        print(task.plain.describe(sum(lists.num_pairs for lists in task.lists)))


def run(config: RetrieveConfig) -> None:
    """Fine-tunes the matching task for train.epochs, scores the lists, writes the run folder."""
    config = models.resolve(config)
    if _of_files(config):
        return released_runs.run_retrieval(config)
    if not config.train.epochs:
        return _run(config)
    with distribution.scope(config.train) as process:
        fine_tuning.check_single_device(config, process)
        _run(config)


def _run(config: RetrieveConfig) -> None:
    task = open_task(config)
    model = models.start(models.matcher(config.matching), config, task.bank)
    _warn(task)
    folder = fine_tune(task, model)
    others = results.Baselines(task.bank, task.train_rows, task.val_rows, config.subcategory, config.baselines, config.train.seed)
    more = {"candidates": candidates.summary(task.lists[0], task.records), "checkpoint_sha256": sha256(folder.best)}
    if config.rerank:
        own, more["two_stages"] = score_two_stages(task, model, folder.best, others)
    else:
        own = [score(task, number, model, folder.best) for number in range(len(task.lists))]
    plain = score_plain_head(task)
    result = results.collect(config, task.bank, others, task.lists, own, task.plain, plain)
    folder.results(result | more, config)
    result = io.read_json(config.run / "results.json")
    tables.write(config.run, result)
    for name in (SCORES, PLAIN_SCORES):
        for number in range(len(task.lists)):
            (config.run / _name(name, number)).unlink(missing_ok=True)
    as_lines = config.rerank or not is_large(task.lists[0])
    sheet = results.draw_query_sheet(config.run, task.bank, config.direction) if as_lines else None
    results.print_summary(config, task.lists, result, sheet)


def open_task(config: RetrieveConfig) -> Task:
    """Returns bank, rows and lists. Raises UserError for settings that make no sense, and where plain_run does not fit the lists."""
    for name, minimum in (("num_candidates", 2), ("max_queries", 1), ("predict_batch_size", 1), ("rerank", 0)):
        if getattr(config, name) < minimum:
            raise UserError(f"{name} is {getattr(config, name)}", "retrieve", f"at least {minimum}")
    if config.rerank and (config.protocol != "full" or config.candidates is not None):
        raise UserError(f"rerank is {config.rerank}, of lists that are drawn", "retrieve", "protocol=full: stage one draws them",
                        "set protocol=full and no candidates, or rerank=0")
    fine_tuning.check_towers(config)
    bank, rows, val_rows = training.splits(config)
    if lack := bank.lack_of_subcategories(config.subcategory):
        print(lack)
    records = fine_tuning.records_of(bank, val_rows, config.subcategory)
    lists = _lists(config, records)
    return Task(config, bank, rows, val_rows, records, lists, lineage.find_plain_head(config, lists, bank))


def fine_tune(task: Task, model: Matcher) -> Run:
    """Returns the run folder, with the weights in best.npz and in the model: fine-tuned, or as the checkpoint has them."""
    config = task.config
    if config.train.epochs:
        return fine_tuning.train(config, model, task.bank, task.train_rows)
    folder = Run(config.run, config)
    checkpoints.save(folder.best, model, None, models.origin(model, task.bank, lineage.extend(config.init)))
    return folder


def score(task: Task, number: int, model: Matcher, checkpoint: Path) -> dict[str, PerQueryMetrics]:
    """Scores the lists of a draw and writes lists and scores into the run folder; {answer: tally}, the answers as Ranker.names."""
    tallies: dict[str, list[PerQueryMetrics]] = {}
    for chunk, tables_of_chunk in _scored(task, task.lists[number], number, model, checkpoint):
        for name, table in tables_of_chunk.items():
            tallies.setdefault(name, []).append(retrieval.per_query_metrics(table, chunk.relevant, chunk.valid))
    return {name: retrieval.concatenate(each) for name, each in tallies.items()}


def score_two_stages(task: Task, model: Matcher, checkpoint: Path,
                     others: results.Baselines) -> tuple[list[dict[str, PerQueryMetrics]], dict[str, Any]]:
    """Ranks the gallery by vectors and its first ``rerank`` by the model; ([{"itm", "first": tally}], the entry "two_stages")."""
    (lists,) = task.lists
    assert isinstance(lists, Gallery)  # rerank is of protocol full alone
    linear = None if pairs.has_vectors(model) else others.sides
    stage = two_stages.first_stage(model, task.bank, task.val_rows, linear)
    short = stage.nearest(lists, task.config.rerank, task.records.ids)
    scores = np.concatenate([table["itm"] for _, table in _scored(task, short, 0, model, checkpoint)])
    tallies, ceilings = two_stages.count(stage, lists, short, scores)
    return [tallies], two_stages.describe(stage, short, ceilings)


def _scored(task: Task, lists: Lists, number: int, model: Matcher, checkpoint: Path) -> Iterator[ScoredChunk]:
    """Yields what the model scores of lists, and writes lists and scores into the run folder."""
    config, ids = task.config, task.records.ids
    ranker = Ranker(model, task.bank, task.val_rows, config)
    path = config.run / _name("scores.jsonl", number)
    if is_large(lists):
        path = path.with_suffix(".npy")
        save_gallery(lists, ids, config.run / "gallery.json")
    else:
        candidates.save(lists, ids, config.run / _name("candidates.jsonl", number))
    with _cache(task, lists, _name(SCORES, number), checkpoint, ranker) as cache, writer(path, lists, ids) as write:
        for chunk, tables_of_chunk in ranker.chunks(lists, config.direction, cache):
            yield chunk, tables_of_chunk
            write(chunk, tables_of_chunk["itm"])


def score_plain_head(task: Task) -> list[PerQueryMetrics] | None:
    """Returns what the plain head scores of each draw; None where there is no such head, or another run has its figures alone."""
    config, plain = task.config, task.plain
    if plain is None:
        return None
    if plain.checkpoint is None:
        return lineage.plain_tallies(plain.run, task.lists, task.records.ids) if plain.run is not None else None
    ranker, tallies = Ranker(lineage.plain_matcher(config, plain.checkpoint, task.bank), task.bank, task.val_rows, config), []
    for number, lists in enumerate(task.lists):
        with _cache(task, lists, _name(PLAIN_SCORES, number), plain.checkpoint, ranker) as cache:
            chunks = ranker.chunks(lists, f"{config.direction}, {results.PLAIN}", cache)
            tallies.append(retrieval.concatenate([retrieval.per_query_metrics(result["itm"], chunk.relevant, chunk.valid)
                                                  for chunk, result in chunks]))
    return tallies


def _cache(task: Task, lists: Lists, name: str, checkpoint: Path, ranker: Ranker) -> ScoreCache:
    """Returns what an earlier start of this run has scored of these lists, with the same weights."""
    config = task.config
    identity = {"lists": lists.sha256, "checkpoint": lineage.digest(checkpoint),
                "bank": sha256(task.bank.folder / "index.json"), "batch": config.predict_batch_size,
                "trimmed": config.train.dynamic_padding, "backend": keras.backend.backend(),
                "order": prediction.ORDER} | ({"answers": ranker.names} if len(ranker.names) > 1 else {})
    cache = ScoreCache(config.run / name, identity)
    if cache.resumed:
        print(f"resuming {config.run}: pairs that were scored before are not scored again")
    return cache


def _of_files(config: RetrieveConfig) -> bool:
    """Whether released files are to be scored; raises UserError where the run folder is taken or the files' lists are to be drawn."""
    check_folder(config.run, config)
    if config.data.files is not None and config.protocol != "kaleido":
        raise UserError(f"protocol is {config.protocol!r}, of files", "retrieve", "kaleido: released files hold the pairs to score",
                        "leave protocol out, or draw lists from a bank")
    return config.data.files is not None


def _lists(config: RetrieveConfig, records: candidates.Records) -> list[Lists]:
    """Returns the lists to report on, one per draw: drawn from the seed, or those of an earlier run, whose hash must fit."""
    protocol = PROTOCOLS[config.protocol]
    if config.candidates is None:
        return [candidates.build(records, config.direction, config.candidates_seed + number, config.max_queries, config.num_candidates,
                                 protocol) for number in range(protocol.draws)]
    lists = candidates.load(config.candidates, records.ids)
    for what, result, wanted in (("", lists.direction, config.direction), ("the protocol ", lists.protocol, config.protocol)):
        if result != wanted:
            raise UserError(f"the lists are for {what}{result}", str(config.candidates), wanted)
    return [lists]


def _warn(task: Task) -> None:
    """Prints a note on the cost of a large protocol: every pair goes through the network."""
    config = task.config
    if config.rerank:
        print(f"of {sum(lists.num_pairs for lists in task.lists):,} pairs the network scores the first {config.rerank} of every query")
    elif config.protocol == "full" or len(task.lists) > 1:
        total = sum(lists.num_pairs for lists in task.lists)
        print(f"note: protocol {config.protocol!r} has {total:,} pairs, and each goes through the whole network: "
              f"{-(-total // config.predict_batch_size):,} batches of {config.predict_batch_size}")


def _name(name: str, number: int) -> str:
    """Returns the file name of a draw: scores.jsonl, scores-2.jsonl, ... of the draws 0, 1, ..."""
    stem, _, suffix = name.partition(".")
    return name if not number else f"{stem}-{number + 1}.{suffix}"
