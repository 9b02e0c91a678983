"""``kaleidobert retrieve``: rank fixed candidate lists by the matching head (paper, section 4.2: ITR = i2t, TIR = t2i)."""

import json

import numpy as np

from kaleidobert import files
from kaleidobert.app_zoo import models, released_retrieval
from kaleidobert.app_zoo.classify import picture_features
from kaleidobert.configs import RetrieveConfig
from kaleidobert.datasets.bank import Bank, describe, sha256
from kaleidobert.datasets.sampler import clean_batch, share_of_groups
from kaleidobert.datasets.task_samplers import MatchSampler
from kaleidobert.engines import steps
from kaleidobert.engines.predictor import predict
from kaleidobert.engines.runs import Run, check_folder
from kaleidobert.engines.trainer import Goal, Schedule, Trainer
from kaleidobert.errors import UserError
from kaleidobert.evaluators import baselines, candidates, plots, retrieval
from kaleidobert.losses import matching
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import matcher

HELD_QUERIES, HELD_CANDIDATES = 100, 21  # small lists over held-out training groups, to choose the best epoch of fine-tuning


def dry_run(config: RetrieveConfig) -> None:
    """Check bank and checkpoint, build the candidate lists, print sizes."""
    check_folder(config.run, config)
    if config.data.files is not None:
        return released_retrieval.dry_run(config)
    bank, rows, val_rows = _open(config)
    models.check_start(config, bank)
    lists, records = _test_lists(bank, val_rows, config)
    print(f"{len(rows):,} pictures to train on; lists: {json.dumps(candidates.summary(lists, records))}; "
          f"{lists.valid.sum():,} pairs to score")


def run(config: RetrieveConfig) -> None:
    """Fine-tune the matching task where asked for, score the lists, write the run folder."""
    check_folder(config.run, config)
    if config.data.files is not None:
        return released_retrieval.run(config)
    bank, rows, val_rows = _open(config)
    model = models.start(lambda arguments: matcher(arguments, config.matching.head), config, bank)
    lists, records = _test_lists(bank, val_rows, config)
    forward = steps.forward(model)
    if config.train.epochs:
        folder = _finetune(config, model, forward, bank, rows)
        checkpoints.restore(folder.best, model)
    else:
        folder = Run(config.run, config)
        checkpoints.save(folder.best, model, None, models.origin(model, bank))
    candidates.save(lists, records.ids, config.run / "candidates.jsonl")
    scores = score(forward, bank, val_rows, lists, config.predict_batch_size, config.direction)
    report, compared = evaluate(config, bank, (rows, val_rows), (lists, records), scores)
    _write_scores(config, lists, records, scores)
    folder.results({"task": "retrieve", "direction": config.direction, "protocol": "kaleido", "metrics": report,
                    "candidates": candidates.summary(lists, records), "baselines": compared, "bank": describe(bank),
                    "checkpoint_sha256": sha256(folder.best)}, config)
    for name in ("rank@1", "rank@5", "rank@10"):
        value = report[name]
        others = "".join(f"; {other} {numbers[name]:.4f}" for other, numbers in compared.items())
        print(f"{config.direction} {name}: {value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]; "
              f"chance {value['chance']:.4f}{others}")
    print(f"run folder: {config.run}\n  scores.jsonl, candidates.jsonl (sha256 {lists.sha256[:12]}), ranks.png, results.json")


def build_lists(bank: Bank, rows: np.ndarray, config: RetrieveConfig, max_queries: int, length: int):
    """(candidate lists, the records that they were drawn from) over the given rows of the bank."""
    names = ("image_id", "product_id", "group", config.subcategory, "text")
    records = candidates.Records(*[bank.column(name)[rows].tolist() for name in names])
    return candidates.build(records, config.direction, config.candidates_seed, max_queries, length), records


def _test_lists(bank: Bank, rows: np.ndarray, config: RetrieveConfig):
    """The lists to report on: drawn from the seed, or those of an earlier run, whose hash must fit."""
    lists, records = build_lists(bank, rows, config, config.max_queries, config.num_candidates)
    if config.candidates is not None:
        lists = candidates.load(config.candidates, records.ids)
        if lists.direction != config.direction:
            raise UserError(f"the lists are for {lists.direction}", str(config.candidates), config.direction)
    return lists, records


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


def evaluate(config: RetrieveConfig, bank: Bank, parts: tuple, drawn: tuple, scores: np.ndarray) -> tuple[dict, dict]:
    """(report with intervals, {baseline: {metric: value}}); draws ranks.png. parts: training and validation rows."""
    (rows, val_rows), (lists, records) = parts, drawn
    rng = np.random.Generator(np.random.Philox(config.candidates_seed))
    report = retrieval.report(scores, lists.relevant, lists.valid, rng)
    plots.rank_histogram(retrieval.standing(scores, lists.relevant, lists.valid).ranks(), config.run / "ranks.png",
                         lists.candidates.shape[1])
    others = {"subcategory_oracle": retrieval.subcategory_oracle(records.subcategories, lists.queries, lists.candidates)}
    if config.baselines:
        texts, groups = bank.column("text"), bank.column("group")
        features = picture_features(bank, np.concatenate([rows, val_rows]))
        ridge = baselines.fit_ridge(features[: len(rows)], texts[rows].tolist(), config.train.seed, groups[rows].tolist())
        others["ridge"] = baselines.ridge_scores(ridge, features[len(rows):], texts[val_rows].tolist(), lists)
    compared = {}
    for name, values in others.items():
        result = retrieval.report(values, lists.relevant, lists.valid, rng, resamples=100)
        compared[name] = {metric: result[metric]["value"] for metric in ("rank@1", "rank@5", "rank@10", "mrr")}
    return report, compared


def _finetune(config: RetrieveConfig, model, forward, bank: Bank, rows: np.ndarray) -> Run:
    """Train the matching task in the run folder; the best epoch is chosen on lists over held-out training groups."""
    train, groups = config.train, len(np.unique(bank.column("group")[rows]))
    if groups < 4:
        raise UserError(f"the training split has {groups} group(s)", str(bank.folder), "at least 4: two to train on and two that "
                        "are held out to choose the best epoch", "use a larger data.train_share, or set train.epochs=0")
    held = share_of_groups(bank, rows, max(0.1, 2 / groups), train.seed + 1)
    kept = np.setdiff1d(rows, held)
    optimizer, total = models.schedule(train, len(kept))
    sampler = MatchSampler(bank, kept, config.subcategory, config.matching, train.batch_size, train.seed)
    lists, _ = build_lists(bank, held, config, HELD_QUERIES, HELD_CANDIDATES)
    objective = matching.OBJECTIVES[config.matching.objective]
    if config.matching.objective == "contrast" and config.matching.head != "contrast":
        raise UserError(f"the head {config.matching.head!r} has no sides to contrast", "matching.objective", "list or pair",
                        "set matching.head=contrast")
    folder = Run(config.run, config)  # claimed when nothing is left to refuse

    def loss(outputs, targets, weights):
        return {"loss": objective(outputs, targets, 1 + config.matching.negatives)}

    def ranks() -> dict[str, float]:
        scores = score(forward, bank, held, lists, config.predict_batch_size, "")
        report = retrieval.report(scores, lists.relevant, lists.valid, np.random.Generator(np.random.Philox(0)), resamples=10)
        return {name: report[name]["value"] for name in ("mrr", "rank@1", "rank@5", "rank@10")}

    trainer = Trainer(folder, model, optimizer, models.origin(model, bank))
    trainer.fit(sampler.batch, loss, Goal(ranks, "mrr", True), Schedule(total, train.epochs, train.save_every), train.clip_norm)
    plots.loss_curves(folder.metrics(), config.run / "losses.png")
    return folder


def _open(config: RetrieveConfig):
    for name, least in (("num_candidates", 2), ("max_queries", 1), ("predict_batch_size", 1)):
        if getattr(config, name) < least:
            raise UserError(f"{name} is {getattr(config, name)}", "retrieve", f"at least {least}")
    bank = Bank(config.data.bank)
    bank.require(config.levels, config.data.encoder)
    rows = share_of_groups(bank, bank.rows(config.data.train_split), config.data.train_share, config.train.seed)
    return bank, rows, bank.rows(config.data.val_split)


def _write_scores(config: RetrieveConfig, lists, records, scores: np.ndarray) -> None:
    lines = []
    for query, row, right, values in zip(lists.queries, lists.candidates, lists.relevant, scores):
        used = row >= 0
        lines.append(json.dumps({"query": records.ids[query], "candidates": [records.ids[i] for i in row[used]],
                                 "relevant": right[used].astype(int).tolist(),
                                 "scores": [float(f"{value:.9g}") for value in values[used]]}))  # exact: ties must stay ties
    files.write_text(config.run / "scores.jsonl", "\n".join(lines) + "\n")
