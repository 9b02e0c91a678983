"""Retrieval from released files: pairs are scored as they are read, so that memory does not grow with the files."""

import json

import numpy as np
from tqdm import tqdm

from kaleidobert import files
from kaleidobert.app_zoo import models, released_runs
from kaleidobert.configs import RetrieveConfig
from kaleidobert.datasets.bank import sha256
from kaleidobert.datasets.released_rows import Rows
from kaleidobert.datasets.released_samplers import Reader
from kaleidobert.engines import steps
from kaleidobert.engines.runs import Run
from kaleidobert.errors import UserError
from kaleidobert.evaluators import plots, released_results, retrieval
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import matcher

RESULT = {"i2t": "result_img2txt.txt", "t2i": "result_txt2img.txt"}  # what prediction_analysis of the release reads
IDS = ("text_prod_id", "image_prod_id", "prod_img_id")


def dry_run(config: RetrieveConfig) -> None:
    """Check the checkpoint against the first line of the files, print sizes."""
    rows = _open(config)
    print(f"pairs to score: {config.data.files}: {rows.summary()}")


def run(config: RetrieveConfig) -> None:
    """Score every pair of the files in their order; write the released result file, scores.jsonl and results.json."""
    rows = _open(config)
    model = models.start(lambda arguments: matcher(arguments, config.matching.head), config, released_runs.layout(config, rows))
    folder, result = Run(config.run, config), config.run / RESULT[config.direction]
    meta = {**model.describe(), "encoder": released_runs.ENCODER}
    checkpoints.save(folder.best, model, None, meta)
    _score(config, rows, steps.forward(model), result)
    analysis = released_results.analyse(released_results.read(result), config.direction)
    _write_scores(analysis.lists, config)
    counted = analysis.released
    folder.results({"task": "retrieve", "direction": config.direction, "protocol": "kaleido (release)", "metrics": analysis.metrics,
                    "released_counting": counted, "queries_without_a_right_candidate": analysis.lonely,
                    "files": {"source": str(config.data.files), "rows": counted["examples"], "schema": str(rows.schema)},
                    "checkpoint_sha256": sha256(folder.best)}, config)
    print(released_results.show(counted), end="")
    print("\n".join(released_results.lines(analysis, config.direction)))
    print(f"run folder: {config.run}\n  {result.name} (released format), scores.jsonl, results.json")


def _open(config: RetrieveConfig) -> Rows:
    if config.train.epochs:
        raise UserError(f"train.epochs is {config.train.epochs}, of files", "retrieve", "0: retrieval files hold pairs to score",
                        "fine-tune the matching task on a bank, or set train.epochs=0")
    rows = released_runs.open_files(config, config.data.files, "retrieve")
    models.check_start(config, released_runs.layout(config, rows))
    return rows


def _score(config: RetrieveConfig, rows: Rows, forward, path) -> None:
    """The result file, a line per batch; it appears when all pairs are scored."""
    reader = Reader(rows, config.levels, config.data.vocabulary_size)
    with files.atomic(path) as file, tqdm(unit="pair", desc=config.direction) as bar:
        for start, columns in rows.stream(config.predict_batch_size):
            numbers = start + np.arange(len(columns["input_ids"]))
            inputs = reader.inputs(numbers, columns)
            labels = reader.classes(numbers, columns, "nx_sent_labels", 2)
            logits = forward(inputs)["itm"]
            if not np.isfinite(logits).all():
                raise steps.not_finite("the model's answer 'itm'", f"pairs from {rows.where(int(numbers[0]))} on", inputs)
            try:
                line = released_results.line(*[columns[name][:, 0].tolist() for name in IDS], labels, logits)
            except UserError as error:
                raise UserError(error.what, f"pairs from {rows.where(int(numbers[0]))} on", error.expected) from None
            file.write(line.encode("utf-8") + b"\n")
            bar.update(len(numbers))


def _write_scores(lists: released_results.Lists, config: RetrieveConfig) -> None:
    """As `retrieve` on a bank writes them; ranks.png of the queries that have a right candidate."""
    with files.atomic(config.run / "scores.jsonl") as file:
        for query, candidates, scores, relevant in zip(lists.queries, lists.candidates, lists.scores, lists.relevant):
            row = {"query": query, "candidates": candidates, "relevant": relevant[: len(candidates)].astype(int).tolist(),
                   "scores": [float(f"{value:.9g}") for value in scores[: len(candidates)]]}
            file.write(json.dumps(row).encode() + b"\n")
    used = lists.relevant.any(1)
    if used.any():
        standing = retrieval.standing(lists.scores[used], lists.relevant[used], lists.valid[used])
        plots.rank_histogram(standing.ranks(), config.run / "ranks.png", lists.scores.shape[1])
