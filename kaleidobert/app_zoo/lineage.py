"""The model of a result: its head and whose idea that is, what was trained from what, how the pre-training masked; and the plain head
of the paper beside a head of ours.

Checkpoints keep their lineage in their meta, under "lineage":

    steps      ["pre-trained 30 epochs", "dual encoder 40 epochs", "matching fine-tuned 12 epochs"]: all training, from random weights on
    masking    of the pre-training; None without one, NOT_RECORDED where it is unknown
    plain      {"checkpoint", "sha256"} of the last checkpoint before this one that has the matching head of pre-training; None
    untrained  true where no head of pre-training is trained yet, as in a converted BERT
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kaleidobert import configs, io
from kaleidobert.app_zoo import models
from kaleidobert.configs import ClassifyConfig, RetrieveConfig
from kaleidobert.configs.loader import path_as_written
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.errors import UserError
from kaleidobert.evaluators import retrieval
from kaleidobert.evaluators.candidates import CandidateLists, Gallery
from kaleidobert.evaluators.files import predictions as prediction_files
from kaleidobert.evaluators.files import scores as score_files
from kaleidobert.evaluators.files.predictions import Predictions
from kaleidobert.io import sha256
from kaleidobert.model_zoo.kaleidobert import Matcher, Pretrainer, matcher
from kaleidobert.released import tf_checkpoint
from kaleidobert.released.checkpoints import load_meta, transfer

PAPERS, OURS = "the paper's", "ours"
NOT_RECORDED = "not recorded"
NOTHING, NOT_PRETRAINED = "nothing", "not pre-trained"
DUAL_ENCODER = "dual encoder"  # how the step of their training begins
OF_FILES = "as baked into the files"  # the masking of released files

Lineage = Mapping[str, Any]


def extend(init: Path | None, steps: Sequence[str] = (), masking: str | None = None) -> dict[str, Any]:
    """Returns the lineage of a run that starts from ``init``. steps: what it trains; masking: of a run that pre-trains."""
    if init is None:
        return {"steps": [*([] if masking else [NOT_PRETRAINED]), *steps], "masking": masking, "plain": None}
    meta = load_meta(init)
    before = _recorded(init, meta)
    plain = {"checkpoint": path_as_written(init), "sha256": digest(init)} if has_plain_head(meta) else before["plain"]
    return {"steps": [*before["steps"], *steps], "masking": masking or before["masking"], "plain": plain}


def model(head: str, init: Path | None, steps: Sequence[str] = (), masking: str | None = None) -> dict[str, Any]:
    """Returns the entry "model" of results.json: {head, head_of, trained, trained_in_this_run, init, masking}, for the heads "dual_encoder"
    and "contrastive" also trained_parts, {part of the head: its training}.

    head: "plain" is the paper's, every other one is ours. The other arguments are those of ``extend``.
    """
    past = extend(init, steps, masking)
    trained = list(past["steps"])
    if not steps and init is not None and _is_pretrained(load_meta(init)):
        trained.append("not fine-tuned")
    parts = {"encoder alone": [step for step in trained if not step.startswith(DUAL_ENCODER)],
             "dual encoder alone": [step for step in trained if step.startswith(DUAL_ENCODER)]} if head == "dual_encoder" else (
                 dict.fromkeys(("[CLS] alone", "contrast alone"), trained) if head == "contrastive" else {})
    return {"head": head, "head_of": PAPERS if head == "plain" else OURS, "trained": "; ".join(trained),
            **({"trained_parts": {name: "; ".join(each) or NOT_RECORDED for name, each in parts.items()}} if parts else {}),
            "trained_in_this_run": "; ".join(steps) or NOTHING, "init": None if init is None else path_as_written(init),
            "masking": past["masking"]}


def epochs(what: str, number: float) -> list[str]:
    """Returns a step of training, such as ['matching fine-tuned 12 epochs']; [] for no epochs."""
    return [f"{what} {number:g} epoch{'s' * (number != 1)}"] if number else []


def masking(sampling: configs.Sampling) -> str:
    """Returns how a pre-training on a bank masks: the policy, and for AGM its ``pairs``."""
    options = configs.to_dict(sampling)
    return ", ".join(
        [options["masking"], *([options["pairs"]] if options.get("pairs") and options["masking"] == "alignment_guided" else [])]
    )


def has_plain_head(meta: Mapping[str, Any]) -> bool:
    """Whether a checkpoint has the matching head of pre-training."""
    return _is_pretrained(meta) or meta.get("kind") == Matcher.kind and meta.get("config", {}).get("head", "plain") == "plain"


def digest(path: Path) -> str:
    """Returns the SHA-256 of a checkpoint; of a TensorFlow 1 checkpoint that of its index, which has the checksums of all tensors."""
    return sha256(path.with_name(f"{path.name}.index") if tf_checkpoint.exists(path) else path)


def converted(what: str, trained: bool) -> dict[str, Any]:
    """Returns the lineage of a converted checkpoint; trained: whether it has trained heads."""
    return {"steps": [what], "masking": NOT_RECORDED if trained else None, "plain": None, "untrained": not trained}


def _is_pretrained(meta: Mapping[str, Any]) -> bool:
    return meta.get("kind") == Pretrainer.kind and not (meta.get("lineage") or {}).get("untrained")


def _recorded(init: Path, meta: Mapping[str, Any]) -> Lineage:
    known = meta.get("lineage")
    if isinstance(known, Mapping) and isinstance(known.get("steps"), Sequence):
        return {"masking": NOT_RECORDED, "plain": None, **known}
    return {"steps": [f"from {path_as_written(init)}, whose training is not recorded"], "masking": NOT_RECORDED, "plain": None}


# --- The paper's plain head beside a head of ours, on the same candidate lists or examples
#
# Of retrieval either the figures of a run with head plain, whose lists must have the same hash, or the head of the pre-training that the
# run began with, scored as it is. Pre-training has no head for labels: the figures are those of a run with head plain on the same
# examples. Where there is none the result says "not measured", and why.


Lists = CandidateLists | Gallery


@dataclass(frozen=True)
class PlainHead:
    """checkpoint: to be scored; run: the results of another run; neither: ``why`` there are no figures. model: as ``model`` returns it."""

    model: dict[str, Any] | None
    checkpoint: Path | None = None
    run: Path | None = None
    why: str = ""

    def describe(self, pairs: int) -> str:
        """Returns a line of --dry-run."""
        if self.checkpoint is not None:
            return f"the plain head beside it: of {self.checkpoint}, {pairs:,} more pairs to score; plain=false leaves it out"
        return f"the plain head beside it: {f'figures of {self.run}' if self.run is not None else f'not measured: {self.why}'}"


def find_plain_head(config: RetrieveConfig, draws: Sequence[Lists], bank: Bank) -> PlainHead | None:
    """Returns where the figures come from; None for a run whose own head is plain.

    Raises UserError where plain_run names no finished run with head plain on lists of the same hash, and where the checkpoint does
    not fit the bank: before anything is trained.
    """
    if config.matching.head == "plain":
        if config.plain_run is not None:
            raise UserError("plain_run is set and matching.head is plain", "retrieve", "a head of ours, which the plain one stands beside",
                            "leave plain_run out")
        return None
    if config.plain_run is not None:
        return _plain_head_of_run(config.plain_run, draws)
    if not config.plain:
        return PlainHead(None, why="plain is false")
    if config.rerank:
        return PlainHead(None, why="rerank is set: the candidates are those that this model's own vectors rank first")
    if config.init is None:
        return PlainHead(None, why="the run began with random weights and has no pre-training")
    meta = load_meta(config.init)
    if has_plain_head(meta):
        return PlainHead(model("plain", config.init), config.init)
    recorded = (meta.get("lineage") or {}).get("plain")
    if not recorded:
        return PlainHead(None, why=f"{path_as_written(config.init)} has no plain head and does not say which pre-training it began with")
    path = Path(recorded["checkpoint"])
    if not path.is_file() and not Path(f"{path}.index").is_file():
        return PlainHead(None, why=f"the checkpoint that had it, {path}, is not there")
    if digest(path) != recorded["sha256"]:
        return PlainHead(None, why=f"{path} is not the checkpoint any more that {path_as_written(config.init)} was made from")
    models.require(path, models.backbone_config(bank, config.levels, config.model, config.train), bank)
    return PlainHead(model("plain", path), path)


@dataclass(frozen=True)
class PlainLabels:
    """entry: "plain" of results.json; right bool[N]: which examples the plain head has right, None where that is not measured."""

    entry: dict[str, Any]
    right: np.ndarray | None = None


def plain_labels(config: ClassifyConfig, ids: Sequence[str], truth: Sequence[str]) -> PlainLabels | None:
    """Returns what stands beside the wide head; None for a run whose own head is plain. ids, truth: of the examples, in their order.

    Raises UserError where plain_run names no finished run with head plain of this label on these examples.
    """
    if config.head == "plain":
        if config.plain_run is not None:
            raise UserError("plain_run is set and head is plain", "classify", "head=wide, which the plain one stands beside",
                            "leave plain_run out")
        return None
    if config.plain_run is None:
        return PlainLabels({"model": None, "metrics": None, "why": "no plain_run is named, and pre-training has no such head"})
    folder, result, head = _results_of_plain_run(config.plain_run, "classify", "head")
    for key, wanted in (("task", "classify"), ("head", "plain"), ("label", config.label), ("modality", config.modality)):
        have = head if key == "head" else result.get(key)
        if have != wanted:
            raise UserError(f"{key} of this run is {have!r}", str(folder / "results.json"), repr(wanted), "name another run as plain_run")
    own = Predictions("the examples of this run", list(ids), list(truth), list(truth))
    table = prediction_files.matched(own, prediction_files.read(folder / "predictions.csv"))
    entry = {"model": _model_of_plain_run(result), "metrics": result["metrics"], "run": path_as_written(folder)}
    return PlainLabels(entry, np.array([label == guess for label, guess in zip(table.labels, table.predictions)]))


def plain_matcher(config: RetrieveConfig, checkpoint: Path, bank: Bank) -> Matcher:
    """Returns the matcher with the plain head of a checkpoint, as it is. Raises UserError where it does not fit the bank."""
    arguments = models.backbone_config(bank, config.levels, config.model, config.train)
    meta = models.require(checkpoint, arguments, bank)
    model = matcher({**models.backbone_of(meta), **{name: arguments[name] for name in models.OF_THIS_RUN}})
    if new := transfer(checkpoint, model):
        raise UserError(f"the checkpoint has no trained {', '.join(new)}", str(checkpoint), "the plain head of a pre-training",
                        "set plain=false, or name a run with head plain as plain_run")
    if models.is_unadapted(checkpoint):
        models.adapt(model, bank, config.data.train_split)
    return model


def plain_tallies(run: Path, draws: Sequence[Lists], ids: Sequence[str]) -> list[retrieval.PerQueryMetrics] | None:
    """Returns what a run scored of the lists, a tally per draw; None where its scores are not kept as lines. ids: of the records.

    Raises UserError where they are not of these lists.
    """
    paths = [run / (f"scores-{number + 1}.jsonl" if number else "scores.jsonl") for number in range(len(draws))]
    if not all(path.is_file() for path in paths):
        return None
    counted = []
    for path, lists in zip(paths, draws):
        table, metrics, start = score_files.read(path, need_labels=False), [], 0
        for chunk in lists.chunks():
            rows = slice(start, start + len(chunk.queries))
            named = [[ids[row] for row in names[used]] for names, used in zip(chunk.candidates, chunk.valid)]
            if table.queries[rows] != [ids[query] for query in chunk.queries] or table.candidates[rows] != named:
                raise UserError("the scores are not of the lists that its results.json names", str(path), "the same queries and "
                                "candidates in the same order", "score the run anew")
            scores: np.ndarray = np.full(chunk.candidates.shape, -np.inf)
            scores[:, : table.scores.shape[1]] = table.scores[rows, : scores.shape[1]]
            metrics.append(retrieval.per_query_metrics(scores, chunk.relevant, chunk.valid))
            start = rows.stop
        counted.append(retrieval.concatenate(metrics))
    return counted


def _plain_head_of_run(run: Path, draws: Sequence[Lists]) -> PlainHead:
    folder, result, head = _results_of_plain_run(run, "retrieve", "matching.head")
    path = folder / "results.json"
    if result.get("task") != "retrieve" or head != "plain":
        raise UserError(f"these are results of {result.get('task')!r} with head {head!r}", str(path), "a retrieval with head plain")
    theirs = [one.get("sha256") for one in result.get("draws") or [result.get("candidates") or {}]]
    if theirs != [lists.sha256 for lists in draws]:
        raise UserError(f"the lists of this run are others (sha256 {str(theirs[0])[:12]})", str(path), f"sha256 {draws[0].sha256[:12]}",
                        f"score both runs on the same lists: candidates={folder / 'candidates.jsonl'}")
    return PlainHead(_model_of_plain_run(result), run=folder)


def _results_of_plain_run(run: Path, command: str, key: str) -> tuple[Path, dict[str, Any], Any]:
    """Returns (folder, results.json, head) of the run that plain_run names by its folder or its results.json. key: of its head in its
    config."""
    folder = run if run.is_dir() else run.parent
    path = folder / "results.json"
    if not path.is_file():
        raise UserError("no run in this folder has finished", str(run), f"the folder of a `kaleidobert {command}` run with {key}=plain",
                        "leave plain_run out, or name another run")
    result = io.read_json(path)
    result = result if isinstance(result, dict) else {}
    head = result.get("config") or {}
    for name in key.split("."):
        head = (head or {}).get(name)
    return folder, result, (result.get("model") or {}).get("head") or head


def _model_of_plain_run(result: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the model of a plain run; results of earlier versions do not say what was trained."""
    return result.get("model") or {"head": "plain", "head_of": PAPERS, "trained": NOT_RECORDED}
