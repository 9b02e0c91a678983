"""``kaleidobert retrieve``: rank fixed candidate lists by the matching head (paper, section 4.2: ITR = i2t, TIR = t2i)."""

import json
from pathlib import Path

import numpy as np

from kaleidobert import files
from kaleidobert.app_zoo import models, query_sheets, released_retrieval, tables, towers
from kaleidobert.app_zoo.retrieval_baselines import Baselines, mean
from kaleidobert.configs import RetrieveConfig
from kaleidobert.datasets.bank import Bank, describe, sha256
from kaleidobert.datasets.sampler import clean_batch, share_of_groups
from kaleidobert.datasets.task_samplers import MatchSampler
from kaleidobert.engines import steps
from kaleidobert.engines.predictor import predict
from kaleidobert.engines.runs import Run, check_folder
from kaleidobert.engines.trainer import Goal, Schedule, Trainer
from kaleidobert.errors import UserError
from kaleidobert.evaluators import candidates, plots, retrieval
from kaleidobert.evaluators.draws import average
from kaleidobert.evaluators.protocols import PROTOCOLS
from kaleidobert.losses import matching
from kaleidobert.model_zoo import checkpoints

HELD_QUERIES, HELD_CANDIDATES = 100, 21  # small lists over held-out training groups, to choose the best epoch of fine-tuning


def dry_run(config: RetrieveConfig) -> None:
    """Check bank and checkpoint, build the candidate lists, print sizes."""
    if _of_files(config):
        return released_retrieval.dry_run(config)
    bank, rows, val_rows = _open(config)
    models.check_start(config, bank)
    draws, records = _test_lists(bank, val_rows, config)
    for lists in draws:
        print(f"{len(rows):,} pictures to train on; lists: {json.dumps(candidates.summary(lists, records))}; "
              f"{lists.valid.sum():,} pairs to score")
    _warn(config, draws)


def run(config: RetrieveConfig) -> None:
    """Fine-tune the matching task where asked for, score the lists, write the run folder."""
    if _of_files(config):
        return released_retrieval.run(config)
    bank, rows, val_rows = _open(config)
    model = models.start(models.matcher(config.matching), config, bank)
    draws, records = _test_lists(bank, val_rows, config)
    _warn(config, draws)
    forward = steps.forward(model)
    if config.train.epochs:
        folder = _finetune(config, model, forward, bank, rows)
        checkpoints.restore(folder.best, model)
    else:
        folder = Run(config.run, config)
        checkpoints.save(folder.best, model, None, models.origin(model, bank))
    reports, compared = [], []
    others = Baselines(bank, rows, val_rows, config.subcategory, config.baselines, config.train.seed)
    for number, lists in enumerate(draws):
        candidates.save(lists, records.ids, config.run / _name("candidates.jsonl", number))
        scores = score(forward, bank, val_rows, lists, config.predict_batch_size, config.direction)
        rng = np.random.Generator(np.random.Philox(config.candidates_seed + number))
        reports.append(retrieval.report(scores, lists.relevant, lists.valid, rng))
        compared.append(others.compare(lists, rng))
        _write_scores(config.run / _name("scores.jsonl", number), lists, records, scores)
        if not number:
            plots.rank_histogram(retrieval.standing(scores, lists.relevant, lists.valid).ranks(), config.run / "ranks.png",
                                 lists.candidates.shape[1])
    report, baselines = average(reports), mean(compared)
    several = [{"seed": lists.seed, "sha256": lists.sha256, "metrics": one} for lists, one in zip(draws, reports)]
    folder.results({"task": "retrieve", "direction": config.direction, "protocol": draws[0].protocol, "metrics": report,
                    "candidates": candidates.summary(draws[0], records), "baselines": baselines, "bank": describe(bank),
                    "checkpoint_sha256": sha256(folder.best), **({"draws": several} if len(draws) > 1 else {})}, config)
    tables.write(config.run, files.read_json(config.run / "results.json"))
    sheet = query_sheets.draw(config.run, bank, config.direction)
    for name in ("rank@1", "rank@5", "rank@10"):
        value = report[name]
        beside = "".join(f"; {other} {numbers[name]:.4f}" for other, numbers in baselines.items())
        print(f"{config.direction} {name}: {value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]; "
              f"chance {value['chance']:.4f}{beside}")
    written = ["scores.jsonl", f"candidates.jsonl (sha256 {draws[0].sha256[:12]})", "ranks.png", "results.json", "table.md"]
    written += ["queries.png"] if sheet else []
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


def _test_lists(bank: Bank, rows: np.ndarray, config: RetrieveConfig) -> tuple[list[candidates.CandidateLists], candidates.Records]:
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


def _warn(config: RetrieveConfig, draws: list[candidates.CandidateLists]) -> None:
    """The full gallery through a network that sees pairs is dear: say so before it begins."""
    if config.protocol == "full" or len(draws) > 1:
        total = sum(int(lists.valid.sum()) for lists in draws)
        print(f"note: protocol {config.protocol!r} has {total:,} pairs, and each goes through the whole network: "
              f"{-(-total // config.predict_batch_size):,} batches of {config.predict_batch_size}")


def _name(name: str, number: int) -> str:
    """scores.jsonl, scores-2.jsonl, ... of the draws 0, 1, ..."""
    stem, _, suffix = name.partition(".")
    return name if not number else f"{stem}-{number + 1}.{suffix}"


def score(forward, bank: Bank, rows: np.ndarray, lists: candidates.CandidateLists, batch_size: int, title: str) -> np.ndarray:
    """f32[Q, L]: logit[1] of the matching head for every pair of the lists, -inf for padding. forward: steps.forward(model)."""
    query, place = np.nonzero(lists.valid)
    asked, answer = rows[lists.queries[query]], rows[lists.candidates[query, place]]
    pictures, texts = (asked, answer) if lists.direction == "i2t" else (answer, asked)
    pairs = np.arange(len(query))
    logits = predict(forward, lambda part: clean_batch(bank, pictures[part], texts[part]), pairs, batch_size, title)
    scores = np.full(lists.candidates.shape, -np.inf, np.float32)
    scores[query, place] = logits["itm"][:, 1]
    return scores


def _finetune(config: RetrieveConfig, model, forward, bank: Bank, rows: np.ndarray) -> Run:
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
    objective = matching.OBJECTIVES[config.matching.objective]
    folder = Run(config.run, config)  # claimed when nothing is left to refuse

    def loss(outputs, targets, weights):
        # with towers the encoder learns the task by itself, as they did: together they know more than one that corrects the other
        return {"loss": objective(outputs.get("own", outputs["itm"]), targets["itm"], 1 + config.matching.negatives)}

    def ranks() -> dict[str, float]:
        return retrieval.brief(score(forward, bank, held, lists, config.predict_batch_size, ""), lists.relevant, lists.valid)

    if config.matching.head == "contrast":
        towers.train(config, model, bank, kept, (held, lists))
    optimizer, total = models.schedule(train, len(kept))  # of the variables that towers.train left to be trained
    trainer = Trainer(folder, model, optimizer, models.origin(model, bank))
    trainer.fit(sampler.batch, loss, Goal(ranks, "mrr", True), Schedule(total, train.epochs, train.save_every), train.clip_norm)
    plots.loss_curves(folder.metrics(), config.run / "losses.png")
    return folder


def _open(config: RetrieveConfig):
    for name, least in (("num_candidates", 2), ("max_queries", 1), ("predict_batch_size", 1)):
        if getattr(config, name) < least:
            raise UserError(f"{name} is {getattr(config, name)}", "retrieve", f"at least {least}")
    towers.check(config)
    bank = Bank(config.data.bank)
    bank.require(config.levels, config.data.encoder)
    rows = share_of_groups(bank, bank.rows(config.data.train_split), config.data.train_share, config.train.seed)
    return bank, rows, bank.rows(config.data.val_split)


def _write_scores(path: Path, lists: candidates.CandidateLists, records: candidates.Records, scores: np.ndarray) -> None:
    lines = []
    for query, row, right, values in zip(lists.queries, lists.candidates, lists.relevant, scores):
        used = row >= 0
        lines.append(json.dumps({"query": records.ids[query], "candidates": [records.ids[i] for i in row[used]],
                                 "relevant": right[used].astype(int).tolist(),
                                 "scores": [float(f"{value:.9g}") for value in values[used]]}))  # exact: ties must stay ties
    files.write_text(path, "\n".join(lines) + "\n")
