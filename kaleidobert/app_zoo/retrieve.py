"""``kaleidobert retrieve``: rank fixed candidate lists by the matching head (paper, section 4.2: ITR = i2t, TIR = t2i)."""

import json
from pathlib import Path

import keras
import numpy as np

from kaleidobert import files
from kaleidobert.app_zoo import models, query_sheets, released_retrieval, tables, towers, trimming
from kaleidobert.app_zoo.ranking import Ranker, Store, is_large, save_gallery, writer
from kaleidobert.app_zoo.retrieval_baselines import Baselines, mean
from kaleidobert.configs import RetrieveConfig
from kaleidobert.datasets.bank import Bank, describe, sha256
from kaleidobert.datasets.sampler import share_of_groups
from kaleidobert.datasets.task_samplers import MatchSampler
from kaleidobert.engines import distribution, scoring
from kaleidobert.engines.runs import Run, check_folder
from kaleidobert.engines.trainer import Goal, Trainer
from kaleidobert.errors import UserError
from kaleidobert.evaluators import candidates, plots, retrieval
from kaleidobert.evaluators.candidate_lists import CandidateLists, Gallery
from kaleidobert.evaluators.draws import average
from kaleidobert.evaluators.protocols import PROTOCOLS
from kaleidobert.losses import additive, matching
from kaleidobert.model_zoo import checkpoints

HELD_QUERIES, HELD_CANDIDATES = 100, 21  # small lists over held-out training groups, to choose the best epoch of fine-tuning


def dry_run(config: RetrieveConfig) -> None:
    """Check bank and checkpoint, build the candidate lists, print sizes."""
    config = models.with_levels(config)
    if _of_files(config):
        return released_retrieval.dry_run(config)
    bank, rows, val_rows = _open(config)
    models.check_start(config, bank)
    draws, records = _test_lists(bank, val_rows, config)
    for lists in draws:
        print(f"{len(rows):,} pictures to train on; lists: {json.dumps(candidates.summary(lists, records))}; "
              f"{lists.num_pairs:,} pairs to score")
    _warn(config, draws)


def run(config: RetrieveConfig) -> None:
    """Fine-tune the matching task where asked for, score the lists, write the run folder."""
    config = models.with_levels(config)
    if _of_files(config):
        return released_retrieval.run(config)
    if not config.train.epochs:
        return _run(config)
    with distribution.over(config.train) as place:
        towers.check_place(config, place)
        _run(config)


def _run(config: RetrieveConfig) -> None:
    bank, rows, val_rows = _open(config)
    model = models.start(models.matcher(config.matching), config, bank)
    draws, records = _test_lists(bank, val_rows, config)
    _warn(config, draws)
    ranker = Ranker(model, bank, val_rows, config)
    if config.train.epochs:
        folder = _finetune(config, model, bank, rows)
        checkpoints.restore(folder.best, model)
    else:
        folder = Run(config.run, config)
        checkpoints.save(folder.best, model, None, models.origin(model, bank))
    reports, compared, kept = [], [], []
    others = Baselines(bank, rows, val_rows, config.subcategory, config.baselines, config.train.seed)
    for number, lists in enumerate(draws):
        with _store(config, folder, number, lists, bank) as store:
            counted = _count(config, number, lists, records, ranker.parts(lists, config.direction, store))
        kept.append(store.path)
        rng = np.random.Generator(np.random.Philox(config.candidates_seed + number))
        reports.append(retrieval.summarise(counted, rng))
        compared.append(others.compare(lists, rng))
        if not number:
            plots.rank_histogram(counted.ranks(), config.run / "ranks.png", lists.length)
    report, baselines = average(reports), mean(compared)
    several = [{"seed": lists.seed, "sha256": lists.sha256, "metrics": one} for lists, one in zip(draws, reports)]
    folder.results({"task": "retrieve", "direction": config.direction, "protocol": draws[0].protocol, "metrics": report,
                    "candidates": candidates.summary(draws[0], records), "baselines": baselines, "bank": describe(bank),
                    "checkpoint_sha256": sha256(folder.best), **({"draws": several} if len(draws) > 1 else {})}, config)
    tables.write(config.run, files.read_json(config.run / "results.json"))
    for path in kept:
        path.unlink()
    _tell(config, draws, report, baselines, query_sheets.draw(config.run, bank, config.direction) if not is_large(draws[0]) else None)


def _count(config: RetrieveConfig, number: int, lists: CandidateLists | Gallery, records: candidates.Records, parts) -> retrieval.Tally:
    """Write the lists and their scores, part by part, and tally them."""
    scores = config.run / _name("scores.jsonl", number)
    if is_large(lists):
        scores = scores.with_suffix(".npy")
        save_gallery(lists, records.ids, config.run / "gallery.json")
    else:
        candidates.save(lists, records.ids, config.run / _name("candidates.jsonl", number))
    with writer(scores, lists, records.ids) as write:
        tallies = []
        for part, found in parts:
            tallies.append(retrieval.tally(found, part.relevant, part.valid))
            write(part, found)
    return retrieval.joined(tallies)


def _store(config: RetrieveConfig, folder: Run, number: int, lists: CandidateLists | Gallery, bank: Bank) -> Store:
    """What an earlier start of this run has scored of these lists, with the same weights."""
    identity = {"lists": lists.sha256, "checkpoint": sha256(folder.best), "bank": sha256(bank.folder / "index.json"),
                "batch": config.predict_batch_size, "trimmed": config.train.trim_text, "backend": keras.backend.backend(),
                "order": scoring.ORDER}
    store = Store(config.run / _name(".scores.part", number), identity)
    if store.resumed:
        print(f"resuming {config.run}: pairs that were scored before are not scored again")
    return store


def _tell(config: RetrieveConfig, draws: list, report: dict, baselines: dict, sheet: Path | None) -> None:
    """Print the metrics, and what was written."""
    for name in ("rank@1", "rank@5", "rank@10"):
        value = report[name]
        beside = "".join(f"; {other} {numbers[name]:.4f}" for other, numbers in baselines.items())
        print(f"{config.direction} {name}: {value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]; "
              f"chance {value['chance']:.4f}{beside}")
    digest = f"(sha256 {draws[0].sha256[:12]})"
    written = ["scores.npy", f"gallery.json {digest}"] if is_large(draws[0]) else ["scores.jsonl", f"candidates.jsonl {digest}"]
    written += ["ranks.png", "results.json", "table.md"] + ["queries.png"] * bool(sheet)
    written += [f"scores-2.jsonl to scores-{len(draws)}.jsonl: the other draws"] if len(draws) > 1 else []
    print(f"run folder: {config.run}\n  {', '.join(written)}")


def _of_files(config: RetrieveConfig) -> bool:
    """Whether released files are to be scored; UserError where the run folder is taken or the files' lists are to be drawn."""
    check_folder(config.run, config)
    if config.data.files is not None and config.protocol != "kaleido":
        raise UserError(f"protocol is {config.protocol!r}, of files", "retrieve", "kaleido: released files hold the pairs to score",
                        "leave protocol out, or draw lists from a bank")
    return config.data.files is not None


def records_of(bank: Bank, rows: np.ndarray, subcategory: str) -> candidates.Records:
    """What candidate lists are drawn from, over the given rows of the bank."""
    names = ("image_id", "product_id", "group", subcategory, "text")
    return candidates.Records(*[bank.column(name)[rows].tolist() for name in names])


def _test_lists(bank: Bank, rows: np.ndarray, config: RetrieveConfig) -> tuple[list[CandidateLists | Gallery], candidates.Records]:
    """The lists to report on, one per draw: drawn from the seed, or those of an earlier run, whose hash must fit."""
    records, protocol = records_of(bank, rows, config.subcategory), PROTOCOLS[config.protocol]
    if config.candidates is None:
        return [candidates.build(records, config.direction, config.candidates_seed + number, config.max_queries, config.num_candidates,
                                 protocol) for number in range(protocol.draws)], records
    lists = candidates.load(config.candidates, records.ids)
    for what, found, asked in (("", lists.direction, config.direction), ("the protocol ", lists.protocol, config.protocol)):
        if found != asked:
            raise UserError(f"the lists are for {what}{found}", str(config.candidates), asked)
    return [lists], records


def _warn(config: RetrieveConfig, draws: list[CandidateLists | Gallery]) -> None:
    """The full gallery through a network that sees pairs is dear: say so before it begins."""
    if config.protocol == "full" or len(draws) > 1:
        total = sum(lists.num_pairs for lists in draws)
        print(f"note: protocol {config.protocol!r} has {total:,} pairs, and each goes through the whole network: "
              f"{-(-total // config.predict_batch_size):,} batches of {config.predict_batch_size}")


def _name(name: str, number: int) -> str:
    """scores.jsonl, scores-2.jsonl, ... of the draws 0, 1, ..."""
    stem, _, suffix = name.partition(".")
    return name if not number else f"{stem}-{number + 1}.{suffix}"


def _finetune(config: RetrieveConfig, model, bank: Bank, rows: np.ndarray) -> Run:
    """Train the matching task in the run folder; the best epoch is chosen on lists over held-out training groups."""
    train, groups = config.train, len(np.unique(bank.column("group")[rows]))
    if groups < 4:
        raise UserError(f"the training split has {groups} group(s)", str(bank.folder), "at least 4: two to train on and two that "
                        "are held out to choose the best epoch", "use a larger data.train_share, or set train.epochs=0")
    held = share_of_groups(bank, rows, max(0.1, 2 / groups), train.seed + 1)
    kept = np.setdiff1d(rows, held)
    sampler = MatchSampler(bank, kept, config.subcategory, config.matching, train.batch_size, train.seed)
    lists = candidates.build(records_of(bank, held, config.subcategory), config.direction, config.candidates_seed, HELD_QUERIES,
                             HELD_CANDIDATES)
    objective, ranker = matching.OBJECTIVES[config.matching.objective], Ranker(model, bank, held, config)
    folder = Run(config.run, config)  # claimed when nothing is left to refuse

    def loss(outputs, targets, weights):
        # with towers the encoder learns the task by itself, as they did: together they know more than one that corrects the other
        return {"loss": objective(outputs.get("own", outputs["itm"]), targets["itm"], 1 + config.matching.negatives)}

    def ranks() -> dict[str, float]:
        return retrieval.brief(ranker.table(lists), lists.relevant, lists.valid)

    if config.matching.head == "contrast":
        towers.train(config, model, bank, kept, (held, lists))
    optimizer, total = models.schedule(train, len(kept))  # of the variables that towers.train left to be trained
    trainer = Trainer(folder, model, optimizer, models.origin(model, bank))
    batch = trimming.batches(sampler.batch, train)
    trainer.fit(batch, additive.mean(loss, "itm"), Goal(ranks, "mrr", True), models.plan(train, total), train.clip_norm)
    plots.loss_curves(folder.metrics(), config.run / "losses.png")
    return folder


def _open(config: RetrieveConfig):
    for name, least in (("num_candidates", 2), ("max_queries", 1), ("predict_batch_size", 1)):
        if getattr(config, name) < least:
            raise UserError(f"{name} is {getattr(config, name)}", "retrieve", f"at least {least}")
    towers.check(config)
    bank = Bank(config.data.bank).require(config.levels, config.data.encoder)
    rows = share_of_groups(bank, bank.rows(config.data.train_split), config.data.train_share, config.train.seed)
    return bank, rows, bank.rows(config.data.val_split)
