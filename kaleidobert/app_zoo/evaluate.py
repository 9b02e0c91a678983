"""``kaleidobert evaluate``: counts what any model predicted, read from files: scores of retrieval, classes, or captions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from kaleidobert import io
from kaleidobert.app_zoo import tables
from kaleidobert.configs import ClassifyConfig, EvaluateConfig, TrainingData
from kaleidobert.configs.loader import path_as_written
from kaleidobert.datasets.bank.bank import Bank, describe
from kaleidobert.engines.run_folder import Run, check_folder
from kaleidobert.errors import UserError
from kaleidobert.evaluators import candidates, classification, retrieval, statistics
from kaleidobert.evaluators import captions as caption_metrics
from kaleidobert.evaluators.candidates import PROTOCOLS, CandidateLists, SavedLists
from kaleidobert.evaluators.files import captions as caption_files
from kaleidobert.evaluators.files import predictions as prediction_files
from kaleidobert.evaluators.files import scores as score_files
from kaleidobert.evaluators.files.columns import format_of, read_columns
from kaleidobert.evaluators.files.predictions import Predictions
from kaleidobert.evaluators.files.scores import ScoreTable
from kaleidobert.evaluators.report import plots
from kaleidobert.evaluators.report.results import NOT_KNOWN, head_name
from kaleidobert.evaluators.report.tables import TASKS as TASKS_WITH_TABLES
from kaleidobert.io import sha256
from kaleidobert.released import counting

INPUTS = ("scores", "candidates", "other_direction", "texts", "predictions", "trained_classes", "captions", "references", "against")
RUN_FILES = ("scores.jsonl", "result_img2txt.txt", "result_txt2img.txt", "predictions.csv", "captions.jsonl", "captions_coco.json")
WRITTEN = ("results.json", "table.md", "scores.jsonl", "ranks.png", "queries.png", "confusion.png", "classes.csv")
LENIENT_COUNTINGS = ("released", "fashionbert")  # count a query without a right candidate as missed, where others refuse it
OTHER = {"i2t": "t2i", "t2i": "i2t", "": ""}
CLASS_SETS = ("all", "present", "trained")
OF_TRAINING = ("macro_f1_trained", "chance", "majority_class", "present_but_not_trained")  # unknown without the classes of training


def dry_run(config: EvaluateConfig) -> None:
    """Reads and checks all files, and prints their sizes."""
    check_folder(config.run, config)
    print(_task(config).read(config).describe())


def run(config: EvaluateConfig) -> None:
    """Evaluates the files and writes the run folder."""
    check_folder(config.run, config)
    task = _task(config)
    data = task.read(config)
    folder = Run(config.run, config)  # claimed when nothing is left to refuse
    results = {"model": _model(getattr(config, task.name)), **data.evaluate(config)}
    results["inputs"] = _inputs(config)
    results["seed"] = config.seed
    folder.results(results, config)
    if results["task"] in TASKS_WITH_TABLES:
        tables.write(config.run, results)
    print(f"head: {head_name(results['model'])}; trained: {results['model']['trained']}")
    print("\n".join([*task.lines(results), *(f"note: {note}" for note in results.get("notes", []))]))
    print(f"run folder: {config.run}\n  {', '.join(name for name in WRITTEN if (config.run / name).is_file())}")


def _task(config: EvaluateConfig) -> "type[ScoreData] | type[PredictionData] | type[CaptionData]":
    """Returns the task whose file is named. Raises UserError for a key that the task does not read, which would be ignored silently."""
    task = next(task for task in TASKS if getattr(config, task.name) is not None)
    plain = EvaluateConfig(config.run, **{key: getattr(config, key) for key in (task.name, "references")})
    for key in sorted({key for other in TASKS for key in other.keys} - set(task.keys)):
        if getattr(config, key) != getattr(plain, key):
            raise UserError(f"{key} is set, and nothing reads it beside {task.name}", "evaluate", f"one of {', '.join(task.keys)}",
                            f"leave {key} out")
    return task


def _model(answers: Path) -> dict[str, Any]:
    """Returns the model whose answers a file holds: that of the run in whose folder the file lies, else one that is not known."""
    path = answers.parent / "results.json"
    run = io.read_json(path) if answers.name in RUN_FILES and path.is_file() else None
    model = run.get("model") if isinstance(run, Mapping) else None
    if not isinstance(model, Mapping):
        return {"head": NOT_KNOWN, "head_of": NOT_KNOWN, "trained": NOT_KNOWN}
    return {**model, "run": path_as_written(answers.parent)}


def _inputs(config: EvaluateConfig) -> dict[str, Any]:
    """Returns {key: {"file", "sha256"}} of the files that the configuration names."""
    paths = {key: getattr(config, key) for key in INPUTS if getattr(config, key) is not None}
    return {key: {"file": path_as_written(path), "sha256": sha256(path)} for key, path in paths.items()}


def _comparison_lines(compared: Mapping[str, Any] | None) -> list[str]:
    """Returns the paired tests as lines for people."""
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


# --- Retrieval


@dataclass(frozen=True)
class ScoreData:
    """Scores of one or two models, checked against lists, bank and each other.

    labelled: the scores before texts are compared, for other ways to count. turned: the number of candidates right by their text alone.
    """

    table: ScoreTable
    labelled: ScoreTable
    direction: str
    protocol: str
    lists: SavedLists | None
    bank: Bank | None
    against: ScoreTable | None
    other: ScoreTable | None
    turned: int

    name: ClassVar[str] = "scores"
    keys: ClassVar[Sequence[str]] = ("direction", "columns", "candidates", "protocol", "counting", "other_direction", "texts", "against",
                                     "identical_texts", "data", "subcategory", "permutations")

    @classmethod
    def read(cls, config: EvaluateConfig) -> "ScoreData":
        """Reads and checks all tables of a configuration. Raises UserError where they do not fit together."""
        assert config.scores is not None  # or another task reads
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
            _, against = score_files.matched(table, _with_texts(_labelled(config, config.against, direction, lists, bank), texts)[0])
        if config.other_direction is not None:
            if not direction:
                raise UserError("direction is not set", "evaluate", "that of the scores, for SumR", "say direction=i2t or direction=t2i")
            other, _ = _with_texts(_labelled(config, config.other_direction, OTHER[direction], None, bank), texts)
        return cls(table, labelled, direction, protocol, lists, bank, against, other, turned)

    def describe(self) -> str:
        """Returns a line for --dry-run."""
        table = self.table
        lengths = table.valid.sum(axis=1)
        beside = [f"against {self.against.source}"] if self.against else []
        return (f"{len(table.queries):,} queries with {lengths.min()} to {lengths.max()} candidates, {lengths.sum():,} pairs; "
                + "; ".join([*beside, "the files fit together"]))

    def evaluate(self, config: EvaluateConfig) -> dict[str, Any]:
        """Returns the results; writes scores.jsonl, ranks.png, and with a bank queries.png."""
        assert config.scores is not None
        rng = np.random.Generator(np.random.Philox(config.seed))
        table, lonely = _with_answers(self.table)
        report = retrieval.report(table.scores, table.relevant, table.valid, rng, config.resamples)
        plots.rank_histogram(retrieval.rank_statistics(table.scores, table.relevant, table.valid).ranks(), config.run / "ranks.png",
                             table.scores.shape[1])
        score_files.write(self.table, config.run / "scores.jsonl")
        if self.bank:
            from kaleidobert.app_zoo.retrieve.results import draw_query_sheet

            draw_query_sheet(config.run, self.bank, self.direction)
        lists = self.lists
        drawn = {"sha256": lists.sha256, "seed": lists.seed} if lists else {}
        results: dict[str, Any] = {"task": "retrieve" if self.direction else "evaluate", "direction": self.direction,
                   "protocol": self.protocol or "as the file has them", "metrics": report, "counting": config.counting,
                   "queries_without_a_right_candidate": lonely, "right_by_their_text": self.turned,
                   "candidates": {"direction": self.direction, "list_length": table.scores.shape[1], **drawn},
                   "baselines": _retrieval_baselines(config, self.bank, self.direction, table, rng) if self.bank else {},
                   "files": {"source": path_as_written(config.scores)}, "notes": [*self.table.notes, *_other_counting(config, self)]}
        if self.bank:
            results["bank"] = describe(self.bank)
        if config.counting != "expectation":
            counted = counting.count(self.labelled, config.counting, self.direction, rng)
            results["released_counting" if config.counting == "released" else "counted"] = counted
        if self.other:
            other, _ = _with_answers(self.other)
            reverse = retrieval.report(other.scores, other.relevant, other.valid, rng, config.resamples)
            results["other_direction"] = {"direction": OTHER[self.direction], "metrics": reverse}
            results["sum_of_ranks"] = retrieval.sum_of_ranks(report, reverse)
        if self.against and config.against:
            first, second = (retrieval.rank_statistics(side.scores, side.relevant, side.valid)
                             for side in score_files.matched(table, _with_answers(self.against)[0]))
            compared = retrieval.compare(first, second, rng, config.resamples, config.permutations)
            results["comparison"] = {"against": path_as_written(config.against), **compared}
        return results

    @staticmethod
    def lines(results: Mapping[str, Any]) -> list[str]:
        """Returns a short table for people."""
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
            made.append(f"{results['queries_without_a_right_candidate']} queries without a right candidate are not in these lines")
        if results["right_by_their_text"]:
            made.append(f"{results['right_by_their_text']:,} candidates are right because their text is the query's")
        if "sum_of_ranks" in results:
            made.append(f"SumR of both directions: {results['sum_of_ranks']:.1f}")
        counted = results.get("released_counting") or results.get("counted") or {}
        if "right" in counted and results["counting"] == "released":
            made += ["as the release printed it:", counting.released_report(counted).rstrip("\n")]
        elif counted:
            made.append(f"counted as {results['counting']}: " + ", ".join(_number(name, value) for name, value in counted.items()))
        return made + _comparison_lines(results.get("comparison"))


def _number(name: str, value: Any) -> str:
    return f"{name} {value['value']:.4f}" if isinstance(value, Mapping) else f"{name} {value}"


def _labelled(config: EvaluateConfig, path: Path, direction: str, lists: SavedLists | None, bank: Bank | None) -> ScoreTable:
    """Returns the scores of a file, their labels those of the file or of the lists."""
    table = score_files.read(path, direction, config.columns, need_labels=lists is None)
    if bank:
        ids = bank.column("image_id")[bank.rows(config.data.val_split)].tolist()
        score_files.check_ids(table, ids, f"the split {config.data.val_split!r} of {bank.folder}")
    if lists:
        table = score_files.with_lists(table, lists, str(config.candidates))
    return table if config.counting in LENIENT_COUNTINGS else score_files.require_right(table)


def _with_texts(table: ScoreTable, texts: Mapping[str, str] | None) -> tuple[ScoreTable, int]:
    """Returns (the table with every right candidate, how many are right by their text alone)."""
    return score_files.with_texts(table, texts) if texts is not None else (table, 0)


def _with_answers(table: ScoreTable) -> tuple[ScoreTable, int]:
    """Returns (the queries that have a right candidate, how many have none)."""
    used = np.asarray(table.relevant.any(axis=1))
    if used.all():
        return table, 0
    if not used.any():
        score_files.require_right(table)
    return score_files.select(table, used), int((~used).sum())


def _texts(config: EvaluateConfig, bank: Bank | None) -> dict[str, str] | None:
    """Returns {id: text}; None where identical texts do not count as right, or no texts are known."""
    if not config.identical_texts:
        return None
    if config.texts is None:
        return None if bank is None else dict(zip(bank.column("image_id").tolist(), bank.column("text").tolist()))
    table = read_columns(config.texts, format_of(config.texts), {"id": "id", "text": "text"})
    texts: dict[str, str] = {}
    for row, (name, text) in enumerate(zip(table["id"].values, table["text"].values)):
        if texts.setdefault(name, text) != text:
            raise UserError(f"the id {name!r} has two texts", table["id"].where(row), "one text per id")
    return texts


def _retrieval_baselines(config: EvaluateConfig, bank: Bank, direction: str, table: ScoreTable,
                         rng: np.random.Generator) -> dict[str, dict[str, float]]:
    """Returns {baseline: {metric: value}} of the oracle and ridge regression on the same lists."""
    from kaleidobert.app_zoo.retrieve.results import Baselines, values
    from kaleidobert.datasets.sampling.pretraining import fraction_of_groups

    data = config.data
    val_rows = bank.rows(data.val_split)
    rows = fraction_of_groups(bank, bank.rows(data.train_split), data.train_share, config.seed)
    numbers = {name: number for number, name in enumerate(bank.column("image_id")[val_rows].tolist())}
    answers = np.full(table.scores.shape, candidates.PADDING, np.int64)
    for row, names in enumerate(table.candidates):
        answers[row, : len(names)] = [numbers[name] for name in names]
    queries = np.array([numbers[name] for name in table.queries], np.int64)
    lists = CandidateLists(queries, answers, table.relevant, direction, config.seed, "")
    return values(Baselines(bank, rows, val_rows, config.subcategory, config.baselines, config.seed).tallies(lists), rng)


def _other_counting(config: EvaluateConfig, data: ScoreData) -> list[str]:
    """Returns a note where the source of a protocol counts in another way than ``counting``."""
    theirs = PROTOCOLS[data.protocol].counting if data.protocol not in ("", "kaleido") else "expectation"
    return [f"the source of protocol {data.protocol!r} counts otherwise: counting={theirs} shows its figures beside these"] \
        if theirs not in ("expectation", config.counting) else []


def _agreed(key: str, configured: str, of_lists: str, path: Path | None) -> str:
    """Returns the value of a key, of the configuration or of the lists. Raises UserError where they differ."""
    if configured and of_lists and configured != of_lists:
        raise UserError(f"the lists are for {key} {of_lists}", str(path), configured, f"say {key}={of_lists}, or name other lists")
    return configured or of_lists


# --- Classification


@dataclass(frozen=True)
class PredictionData:
    """Predicted classes of one or two models, checked against each other and the bank.

    names: the label map, classes of training first; counts: their training examples (None = unknown, ones = known to be trained).
    more: classes that only the other model predicts. rows, val_rows: of the bank.
    """

    table: Predictions
    against: Predictions | None
    names: list[str]
    counts: np.ndarray | None
    more: list[str]
    bank: Bank | None
    rows: np.ndarray | None
    val_rows: np.ndarray | None

    name: ClassVar[str] = "predictions"
    keys: ClassVar[Sequence[str]] = ("prediction_columns", "label", "modality", "trained_classes", "against", "data", "permutations")

    @classmethod
    def read(cls, config: EvaluateConfig) -> "PredictionData":
        """Reads and checks all tables of a configuration. Raises UserError where they do not fit together."""
        assert config.predictions is not None  # or another task reads
        table = prediction_files.read(config.predictions, config.prediction_columns)
        against = None if config.against is None else prediction_files.matched(
            table, prediction_files.read(config.against, config.prediction_columns))
        bank = rows = val_rows = counts = None
        trained: list[str] = []
        if config.data.bank is not None:
            bank = Bank(config.data.bank)
            rows, val_rows, trained, counts = _of_bank(config, bank, table)
        elif config.trained_classes is not None:
            trained = _class_names(config.trained_classes)
            counts = np.ones(len(trained), np.int64)
        names = [*trained, *sorted({*table.labels, *table.predictions} - set(trained))]
        more = sorted(set(against.predictions) - set(names)) if against else []
        counts = None if counts is None else np.pad(counts, (0, len(names) - len(counts)))
        return cls(table, against, names, counts, more, bank, rows, val_rows)

    def describe(self) -> str:
        """Returns a line for --dry-run."""
        beside = f" against {self.against.source}" if self.against else ""
        return f"{len(self.table.ids):,} examples of {len(self.names)} classes{beside}; the files fit together"

    def evaluate(self, config: EvaluateConfig) -> dict[str, Any]:
        """Returns the results; writes confusion.png and classes.csv."""
        from kaleidobert.app_zoo.classify import write_classes

        assert config.predictions is not None
        rng = np.random.Generator(np.random.Philox(config.seed))
        names, table = self.names, self.table
        labels, guesses = table.numbered(names)
        known = self.counts is not None
        counts = np.ones(len(names), np.int64) if self.counts is None else self.counts
        report = classification.report(labels, guesses, names, counts, rng, config.resamples)
        if not known:
            report["num_classes"].pop("trained")
        report = {name: value for name, value in report.items() if known or name not in OF_TRAINING}
        if known and self.bank is None:  # a list of names has no counts
            report |= {"chance": None, "majority_class": None}
        matrix = classification.confusion_matrix(labels, guesses, len(names))
        write_classes(config.run, matrix, names)
        results: dict[str, Any] = {"task": "classify" if known else "evaluate", "label": config.label or config.prediction_columns.label,
                   "modality": config.modality, "metrics": report, **_label_baselines(config, self, guesses),
                   "files": {"source": path_as_written(config.predictions)}, "notes": list(table.notes)}
        if self.bank:
            results["bank"] = describe(self.bank)
        if self.against and config.against:
            both = [*names, *self.more]  # one label map for the two; the figures above are of this model alone
            sets = {"all": np.ones(len(both), bool), "present": np.bincount(labels, minlength=len(both)) > 0}
            sets |= {"trained": np.pad(counts, (0, len(self.more))) > 0} if known else {}
            others = self.against.numbered(both)[1]
            compared = classification.compare(labels, guesses, others, sets, rng, config.resamples, config.permutations)
            results["comparison"] = {"against": path_as_written(config.against), **compared}
        return results

    @staticmethod
    def lines(results: Mapping[str, Any]) -> list[str]:
        """Returns a short table for people."""
        report, sizes = results["metrics"], results["metrics"]["num_classes"]
        made = [f"{results['label']}: {report['n']:,} examples", f"{'':18s}{'value':>8s}{'95% interval':>20s}{'classes':>9s}"]
        for name in ("accuracy", *(f"macro_f1_{which}" for which in CLASS_SETS)):
            if name in report:
                value = report[name]
                interval, size = f"[{value['low']:.4f}, {value['high']:.4f}]", sizes.get(name.rpartition("_")[2], "")
                made.append(f"{name:18s}{value['value']:8.4f}{interval:>20s}{size:>9}".rstrip())
        made += [f"{'majority class':18s}{report['chance']:8.4f}"] if report.get("chance") is not None else []
        made += [f"{name:26s} accuracy {value['accuracy']:.4f}  macro-F1 {value['macro_f1_all']:.4f}"
                 for name, value in results["baselines"].items()]
        if "macro_f1_trained" not in report:
            made.append("macro-F1 over the classes of training is missing: say trained_classes=FILE, or data.bank and label")
        return made + _comparison_lines(results.get("comparison"))


def _of_bank(config: EvaluateConfig, bank: Bank, table: Predictions) -> tuple[np.ndarray, np.ndarray, list[str], np.ndarray]:
    """Returns (training rows, validation rows in the order of the table, classes of training, their counts); checks ids and labels."""
    from kaleidobert.datasets.sampling.finetuning import label_ids
    from kaleidobert.datasets.sampling.pretraining import fraction_of_groups

    data, column = config.data, bank.column(config.label)
    rows = fraction_of_groups(bank, bank.rows(data.train_split), data.train_share, config.seed)
    ids, names = label_ids(bank, config.label, rows)
    rows = rows[ids[rows] >= 0]
    val_rows = bank.rows(data.val_split)
    val_rows = val_rows[column[val_rows] != ""]
    images = bank.column("image_id")[val_rows].tolist()
    where = f"{config.label!r} of {data.val_split!r} in {bank.folder}"
    prediction_files.check(table, dict(zip(images, map(str, column[val_rows]))), where)
    row_of = dict(zip(images, val_rows.tolist()))
    return rows, np.array([row_of[name] for name in table.ids], np.int64), names, np.bincount(ids[rows], minlength=len(names))


def _label_baselines(config: EvaluateConfig, data: PredictionData, guesses: np.ndarray) -> dict[str, dict]:
    """Returns the figures of neighbours and logistic regression on the bank and the differences to them, as `kaleidobert classify`."""
    if data.bank is None or data.rows is None or data.val_rows is None or not config.baselines:
        return {"baselines": {}, "differences": {}}
    from kaleidobert.app_zoo.classify import beside_baselines, compare
    from kaleidobert.configs import Train

    labels, _ = data.table.numbered(data.names)
    numbers = {name: number for number, name in enumerate(data.names)}
    column = data.bank.column(config.label)[data.rows]
    classify = ClassifyConfig(config.run, TrainingData(config.data.bank), label=config.label, modality=config.modality,
                             train=Train(seed=config.seed))
    compared = compare(classify, data.bank, data.rows, data.val_rows, np.array([numbers[str(value)] for value in column]))
    return beside_baselines(labels, guesses, compared, len(data.names), config.seed)


def _class_names(path: Path) -> list[str]:
    """Returns the lines of a file, each a class. Raises UserError where it cannot be read or has none."""
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read ({error})", str(path), "names of classes, one a line") from None
    if not names:
        raise UserError("the file is empty", str(path), "names of classes, one a line")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"the class {twice!r} stands twice", str(path), "every class once")
    return names


# --- Captioning


@dataclass(frozen=True)
class CaptionData:
    """Captions, the references of each, and another model's captions of the same pictures."""

    captions: list[str]
    references: list[list[str]]
    against: list[str] | None

    name: ClassVar[str] = "captions"
    keys: ClassVar[Sequence[str]] = ("references", "against", "permutations")

    @classmethod
    def read(cls, config: EvaluateConfig) -> "CaptionData":
        """Reads captions beside their references. Raises UserError where they do not fit together."""
        assert config.captions is not None and config.references is not None  # or another task reads
        references = caption_files.read_references(config.references)
        _, captions, several = caption_files.paired(caption_files.read_results(config.captions), references, str(config.captions))
        against = None
        if config.against is not None:
            _, against, _ = caption_files.paired(caption_files.read_results(config.against), references, str(config.against))
        return cls(captions, several, against)

    def describe(self) -> str:
        """Returns a line for --dry-run."""
        return f"{len(self.captions):,} captions, {sum(map(len, self.references)):,} references; the files fit together"

    def evaluate(self, config: EvaluateConfig) -> dict[str, Any]:
        """Returns the results."""
        assert config.captions is not None
        rng = np.random.Generator(np.random.Philox(config.seed))
        report = caption_metrics.report(self.captions, self.references, rng, config.resamples)
        results: dict[str, Any] = {"task": "caption", "mode": "captions of a file", "references": sum(map(len, self.references)),
                                   "metrics": report, "baselines": {}, "files": {"source": path_as_written(config.captions)}}
        if self.against and config.against:
            first, second = (caption_metrics.per_caption(captions, self.references)
                             for captions in (self.captions, self.against))
            compared = {name: statistics.difference(values, second[name], rng, config.resamples, config.permutations)
                        for name, values in first.items()}
            results["comparison"] = {"against": path_as_written(config.against), **compared}
        return results

    @staticmethod
    def lines(results: Mapping[str, Any]) -> list[str]:
        """Returns a line per metric."""
        report = results["metrics"]
        made = [f"{report['count']:,} captions, {results['references']:,} references"]
        for name, value in report.items():
            if isinstance(value, Mapping):
                made.append(f"{name:18s}{value['value']:8.4f}  [{value['low']:.4f}, {value['high']:.4f}]")
            elif isinstance(value, str):
                made.append(value)
            elif value is not None and name != "count":
                made.append(f"{name:18s}{value:8.6g}")
        return made + _comparison_lines(results.get("comparison"))


TASKS = (ScoreData, PredictionData, CaptionData)
