"""``kaleidobert retrieve``: rank fixed candidate lists by the matching head (paper, section 4.2: ITR = i2t, TIR = t2i)."""

import json

import numpy as np

from kaleidobert import files
from kaleidobert.app_zoo import models
from kaleidobert.app_zoo.classify import picture_features
from kaleidobert.configs import RetrieveConfig
from kaleidobert.datasets.bank import Bank, describe, sha256
from kaleidobert.datasets.sampler import clean_batch, share_of_groups
from kaleidobert.datasets.task_samplers import MatchSampler
from kaleidobert.engines.predictor import predict
from kaleidobert.engines.runs import Run, check_folder
from kaleidobert.engines.trainer import Goal, Schedule, Trainer
from kaleidobert.errors import UserError
from kaleidobert.evaluators import baselines, candidates, plots, retrieval
from kaleidobert.losses import matching
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import matcher

HELD_QUERIES = 100  # of the validation lists' kind, used to choose the best epoch of fine-tuning


def dry_run(config: RetrieveConfig) -> None:
    """Check bank and checkpoint, build the candidate lists, print sizes."""
    check_folder(config.run, config)
    bank, rows, val_rows = _open(config)
    models.check_start(config, bank)
    lists, records = build_lists(bank, val_rows, config, config.max_queries)
    print(f"{len(rows):,} pictures to train on; lists: {json.dumps(candidates.summary(lists, records))}; "
          f"{lists.valid.sum():,} pairs to score")


def run(config: RetrieveConfig) -> None:
    """Fine-tune the matching task where asked for, score the lists, write the run folder."""
    bank, rows, val_rows = _open(config)
    if config.from_scratch and not config.train.epochs:
        raise UserError("there is nothing to rank with: random weights and no training", "train.epochs", "more than 0, or init=...")
    folder = Run(config.run, config)
    model = models.start(lambda arguments: matcher(arguments, config.matching.head), config, bank)
    if config.train.epochs:
        _finetune(config, folder, model, bank, rows)
        checkpoints.restore(folder.best, model)
    elif config.matching.head != "plain":
        raise UserError(f"the head {config.matching.head!r} is new and has not been trained", "matching.head", "plain",
                        "set train.epochs")
    else:
        checkpoints.save(folder.best, model, None, bank.identity)
    lists, records = build_lists(bank, val_rows, config, config.max_queries)
    candidates.save(lists, records.ids, config.run / "candidates.jsonl")
    scores = score(model, bank, val_rows, lists, config.predict_batch_size, config.direction)
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


def build_lists(bank: Bank, rows: np.ndarray, config: RetrieveConfig, max_queries: int):
    """(candidate lists, the records that they were drawn from) over the given rows of the bank."""
    names = ("image_id", "product_id", "group", config.subcategory, "text")
    records = candidates.Records(*[bank.column(name)[rows].tolist() for name in names])
    return candidates.build(records, config.direction, config.candidates_seed, max_queries, config.num_candidates), records


def score(model, bank: Bank, rows: np.ndarray, lists: candidates.CandidateLists, batch_size: int, title: str) -> np.ndarray:
    """f32[Q, L]: logit[1] of the matching head for every pair of the lists, -inf for padding."""
    query, place = np.nonzero(lists.valid)
    asked, answer = rows[lists.queries[query]], rows[lists.candidates[query, place]]
    pictures, texts = (asked, answer) if lists.direction == "i2t" else (answer, asked)
    logits = predict(model, lambda part: clean_batch(bank, pictures[part], texts[part]), np.arange(len(query)), batch_size, title)
    scores = np.full(lists.candidates.shape, -np.inf, np.float32)
    scores[query, place] = logits["itm"][:, 1]
    return scores


def evaluate(config: RetrieveConfig, bank: Bank, parts: tuple, drawn: tuple, scores: np.ndarray) -> tuple[dict, dict]:
    """(report with intervals, {baseline: {metric: value}}); draws ranks.png. parts: training and validation rows."""
    (rows, val_rows), (lists, records) = parts, drawn
    rng = np.random.Generator(np.random.Philox(config.candidates_seed))
    report = retrieval.report(scores, lists.relevant, lists.valid, rng)
    plots.rank_histogram(retrieval.standing(scores, lists.relevant, lists.valid).ranks(), config.run / "ranks.png")
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


def _finetune(config: RetrieveConfig, folder: Run, model, bank: Bank, rows: np.ndarray) -> None:
    """Train the matching task; the best epoch is chosen on lists over held-out training groups."""
    train = config.train
    held = share_of_groups(bank, rows, 0.1, train.seed + 1)
    kept = np.setdiff1d(rows, held)
    if not len(kept):
        raise UserError("too few groups to hold any out", str(bank.folder), "at least two groups in the training split")
    optimizer, total = models.schedule(train, len(kept))
    sampler = MatchSampler(bank, kept, config.subcategory, config.matching, train.batch_size, train.seed)
    lists, _ = build_lists(bank, held, config, HELD_QUERIES)
    objective = matching.OBJECTIVES[config.matching.objective]

    def loss(outputs, targets, weights):
        return {"loss": objective(outputs["itm"], targets["itm"], 1 + config.matching.negatives)}

    def ranks() -> dict[str, float]:
        scores = score(model, bank, held, lists, config.predict_batch_size, "")
        report = retrieval.report(scores, lists.relevant, lists.valid, np.random.Generator(np.random.Philox(0)), resamples=10)
        return {name: report[name]["value"] for name in ("mrr", "rank@1", "rank@5", "rank@10")}

    trainer = Trainer(folder, model, optimizer, {**model.describe(), **bank.identity})
    epoch = max(1, len(kept) // train.batch_size)
    trainer.fit(sampler.batch, loss, Goal(ranks, "mrr", True), Schedule(total, epoch, train.save_every), train.clip_norm)
    plots.loss_curves(folder.metrics(), config.run / "losses.png")


def _open(config: RetrieveConfig):
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
                                 "scores": [round(float(value), 6) for value in values[used]]}))
    files.write_text(config.run / "scores.jsonl", "\n".join(lines) + "\n")
