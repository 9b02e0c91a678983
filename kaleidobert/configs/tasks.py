"""The configurations of the downstream tasks, and of the commands that judge and show models: evaluate, tables, ablate and
inspect."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from kaleidobert.configs.data import Source
from kaleidobert.configs.section import Checked, Limits, key, required
from kaleidobert.configs.training import Data, Model, Noise, Sampling, Train, TrainingData
from kaleidobert.errors import UserError
from kaleidobert.levels import KaleidoLevel


@dataclass(frozen=True)
class FineTuningConfig(Checked):
    """What every downstream task has: data, the checkpoint that it starts from, and a training."""
    run: Path = required("folder of the run: its configuration, log, checkpoints and results")
    data: TrainingData = required("what to train and to evaluate on")
    init: Path | None = key(
        None, "checkpoint of the pre-training to start from; without one the command refuses unless from_scratch is true")
    from_scratch: bool = key(False, "start from random weights; init stays empty")
    levels: tuple[KaleidoLevel, ...] = key(
        (), "kaleido levels of the model; empty = those of init, and those of the bank where the weights are random")
    model: Model = key(Model(), "sizes of the network; empty = those of init, and those of BERT-base where the weights are random")
    train: Train = key(Train(epochs=20, learning_rate=2e-5), "optimiser and schedule")


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig(FineTuningConfig):
    """``kaleidobert classify``: train and evaluate a classifier of one label column."""
    label: str = required("label to predict, such as category")
    modality: Literal["both", "image", "text"] = key("both", "what the model sees")
    head: Literal["plain", "wide"] = key("plain", "classification head; wide (ours): linear models on features and words are added")
    plain_run: Path | None = key(
        None, "beside the wide head: show the figures of this run folder, which has head=plain and the same examples")
    head_dropout: float = key(0.1, "dropout before the classification head")
    feature_dropout: float = key(0.5, "dropout of the features in the wide head")
    noise: Noise = key(Noise(), "what training hides of its examples")
    baselines: bool = key(True, "fit linear models on the same features and texts, too")


@dataclass(frozen=True)
class Matching(Checked):
    """Fine-tuning of the matching task before retrieval; train.epochs 0 = the head of pre-training as it is."""
    head: Literal["plain", "product", "contrastive", "dual_encoder"] = key(
        "plain", "matching head: that of pre-training; ours: a product, the sides of losses.itc_weight, or these and two towers")
    objective: Literal["pairwise", "listwise"] = key("pairwise", "loss per pair, or softmax over a right pair and its negatives")
    negatives: int = key(3, "negatives per example")
    negatives_same_subcategory: float = key(0.5, "fraction of the negatives that come from the same subcategory")
    width: int = key(512, "size of the towers of dual_encoder")
    feature_dropout: float = key(0.3, "dropout of the features in the picture tower of dual_encoder")

    limits: ClassVar[Limits] = {"negatives": (1,), "negatives_same_subcategory": (0, 1), "width": (1,), "feature_dropout": (0, 0.99)}


@dataclass(frozen=True, kw_only=True)
class RetrieveConfig(FineTuningConfig):
    """``kaleidobert retrieve``: rank fixed candidate lists by the matching head."""
    direction: Literal["i2t", "t2i"] = required("rank texts for pictures, or pictures for texts")
    matching: Matching = key(Matching(), "head and fine-tuning of the matching task")
    dual_encoder: Train = key(
        Train(epochs=10, batch_size=128, learning_rate=1e-3, beta_2=0.999, clip_norm=5.0),
        "training of the two towers of matching.head=dual_encoder")
    train: Train = key(
        Train(epochs=0, learning_rate=2e-5), "fine-tuning of the matching task; epochs 0 = the head of pre-training as it is")
    num_candidates: int = key(101, "candidates of a query, the right one included")
    max_queries: int = key(1000, "largest number of queries")
    candidates_seed: int = key(0, "seed by which queries and candidates are drawn")
    protocol: str = key("kaleido", "how the lists are drawn; full and mvlt take no num_candidates and max_queries", table="protocols")
    rerank: int = key(
        0, "protocol full: candidates of a query that the network scores, the first ones by vectors (ours); 0 = every pair")
    candidates: Path | None = key(None, "candidates.jsonl of an earlier run, instead of new lists")
    plain: bool = key(True, "beside a head of ours: score the plain head of the pre-training on the same lists, which doubles the scoring")
    plain_run: Path | None = key(
        None, "beside a head of ours: show the figures of this run folder, which has matching.head=plain and the same lists")
    subcategory: str = key("subcategory", "label that is the subcategory")
    baselines: bool = key(True, "count simple rankings on the same lists, too")
    predict_batch_size: int = key(256, "pairs per step of prediction")


@dataclass(frozen=True)
class Writing(Checked):
    """How ``kaleidobert caption`` writes."""
    num_beams: int = key(4, "causal: captions followed at a time; 1 = greedy")
    length_penalty: float = key(0.7, "causal: power of the length by which log-probabilities are divided")
    iterations: int = key(4, "mask-predict: rounds of prediction")
    length_candidates: int = key(
        3, "the other modes, length predicted: lengths tried; the caption with the best mean log-probability stays")
    max_length: int = key(0, "largest number of word pieces of a caption; 0 = as many as the longest text of the bank")
    matcher: Path | None = key(
        None, "checkpoint of a `retrieve` run with head dual_encoder: picks among what was written and the training texts; empty = none")

    limits: ClassVar[Limits] = {
        "num_beams": (1,),
        "length_penalty": (0,),
        "iterations": (1,),
        "length_candidates": (1,),
        "max_length": (0,),
    }


@dataclass(frozen=True, kw_only=True)
class CaptionConfig(FineTuningConfig):
    """``kaleidobert caption``: train the encoder to write captions, and write those of the validation split."""
    mode: Literal["mask-all", "mask-predict", "causal"] = key(
        "mask-all", "all pieces at once (the paper); refined in rounds; one after another")
    length: Literal["predicted", "fixed", "oracle"] = key(
        "predicted", "length of captions of the first two modes; oracle: the reference's own")
    fixed_length: int = key(0, "word pieces where length is fixed; 0 = the median of the training texts")
    noise: Noise = key(Noise(), "what training hides of its examples")
    smoothing: float = key(0.0, "fraction of the truth that label smoothing spreads over all pieces")
    held_out: float = key(0.05, "fraction of the training groups that chooses the best epoch; 0 = none, the last epoch is kept")
    writing: Writing = key(Writing(), "how captions are written")
    subcategory: str = key("subcategory", 'label of the baseline "most frequent caption of the subcategory"')
    baselines: bool = key(True, "count simple captions, too")
    predict_batch_size: int = key(64, "pictures per step of prediction")

    limits: ClassVar[Limits] = {"fixed_length": (0,), "smoothing": (0, 0.99), "held_out": (0, 0.5), "predict_batch_size": (1,)}


@dataclass(frozen=True)
class ScoreColumns:
    """What the columns of a table of scores are called (CSV, TSV, JSONL, NPZ with one row per query and candidate)."""
    query: str = key("query", "column of the query's id")
    candidate: str = key("candidate", "column of the candidate's id")
    label: str = key("label", "column that is 1 where the candidate is right, else 0; not needed beside `candidates`")
    score: str = key("score", "column of the score; higher = better")


@dataclass(frozen=True)
class PredictionColumns:
    """What the columns of a table of predicted classes are called."""
    id: str = key("image_id", "column of the picture's id")
    label: str = key("label", "column of the true class")
    prediction: str = key("prediction", "column of the predicted class")


@dataclass(frozen=True)
class EvaluationData:
    """A bank that knows more about the ids in the files: baselines, identical texts, classes of training."""
    bank: Path | None = key(None, "folder of a bank that knows the ids; empty = none")
    train_split: str = key("train", "split that the model was trained on")
    val_split: str = key("val", "split of the predictions")
    train_share: float = key(1.0, "fraction of the training groups that the model saw")


@dataclass(frozen=True)
class EvaluateConfig(Checked):
    """``kaleidobert evaluate``: count what any model predicted. One of scores, predictions, captions."""
    run: Path = required("folder of the run: its configuration, log, checkpoints and results")
    scores: Path | None = key(None, "retrieval: scores.jsonl of ours, a released result file, or a table of scores (CSV, TSV, JSONL, NPZ)")
    direction: Literal["", "i2t", "t2i"] = key("", "direction of the scores; needed by released result files and beside a bank")
    columns: ScoreColumns = key(ScoreColumns(), "what the columns of a table of scores are called")
    candidates: Path | None = key(None, "candidates.jsonl to which the scores must belong")
    protocol: str = key(
        "", "how the lists were drawn, where no candidates.jsonl says so; is written into the result", table="protocols")
    counting: Literal["expectation", "released", "fashionbert", "fashionsap", "mvlt"] = key(
        "expectation", "how ranks are counted; the others stand beside expectation")
    other_direction: Path | None = key(None, "scores of the other direction of the same model, for SumR")
    texts: Path | None = key(None, "table with columns id and text: candidates whose text equals the query's are right too")
    identical_texts: bool = key(True, "count candidates with the query's text as right, by `texts` or the bank")
    predictions: Path | None = key(None, "classification: predictions.csv of ours, or any table of id, label, prediction")
    prediction_columns: PredictionColumns = key(PredictionColumns(), "what the columns of a table of predicted classes are called")
    label: str = key("", "label of the bank that was predicted")
    modality: Literal["both", "image", "text"] = key("both", "what the baselines of a classification see")
    trained_classes: Path | None = key(None, "names of the classes seen in training, one a line; a bank knows them")
    captions: Path | None = key(None, "generation: JSONL or COCO results with image_id and caption")
    references: Path | None = key(None, "generation: JSONL or COCO annotations")
    against: Path | None = key(None, "the same file of another model, for paired tests")
    data: EvaluationData = key(EvaluationData(), "bank that knows more about the ids: baselines, identical texts, classes of training")
    subcategory: str = key("subcategory", "label of the oracle that knows the subcategory")
    baselines: bool = key(True, "count linear models on the bank's features and texts, too")
    resamples: int = key(1000, "resamples of every bootstrap")
    permutations: int = key(10000, "permutations of every sign-flip test")
    seed: int = key(0, "seed of bootstraps, tests and baselines")

    limits: ClassVar[Limits] = {"resamples": (1,), "permutations": (1,), "seed": (0,)}

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [name for name in ("scores", "predictions", "captions") if getattr(self, name) is not None]
        if len(given) != 1:
            raise UserError(f"{' and '.join(given) or 'none'} of scores, predictions and captions is set", "section EvaluateConfig",
                            "exactly one", "say scores=FILE, predictions=FILE or captions=FILE")
        if (self.captions is None) != (self.references is None):
            raise UserError("captions and references belong together", "section EvaluateConfig", "both or none")
        if self.predictions is not None and self.data.bank is not None and not self.label:
            raise UserError("label is not set", "section EvaluateConfig", "the label of the bank that was predicted", "say label=...")


@dataclass(frozen=True)
class TablesConfig:
    """``kaleidobert tables``: results of finished runs beside the paper's."""
    runs: tuple[Path, ...] = key((), "folders of runs, or folders above them")
    out: Path | None = key(None, "folder for tables.md and tables.json; empty = printed")


@dataclass(frozen=True)
class ReportConfig(Checked):
    """``kaleidobert report``: one page of one or several runs."""
    runs: tuple[Path, ...] = key((), "folders of runs, or folders above them")
    out: Path | None = key(None, "the page (.html), or a folder for report.html; empty = report.html in the first of the folders")
    max_megabytes: float = key(12.0, "size of the page: pictures are made smaller, and at last left out, to stay below it")

    limits: ClassVar[Limits] = {"max_megabytes": (0.5, 500)}


@dataclass(frozen=True)
class AblateConfig(Checked):
    """``kaleidobert ablate``: the paper's Table 4, every row with every seed."""
    run: Path = required("folder for banks, runs and the table")
    configs: str = key("quickstart", "folder of the YAML files records, align, pretrain, cat, ...: a packaged one by name, or a path")
    rows: tuple[str, ...] = key((), "rows of the table, such as random, agm, b_i; empty = the paper's, and scratch (ours): no pre-training")
    seeds: tuple[int, ...] = key((0, 1, 2), "train.seed of all that comes after bank and alignment; two are needed for an interval")
    tasks: tuple[Literal["retrieval", "classification", "captions"], ...] = key(
        ("retrieval", "classification"), "what every pre-training is fine-tuned and judged by")
    parallel: int = key(1, "runs at the same time; they divide the CPU cores, or have one of the GPUs each")
    banks: dict[str, Path] = key({}, "banks that exist already, by their foreground.method, such as {network: runs/my/bank}")
    words: dict[str, tuple[str, ...]] = key({}, "further key=value words by file of configs, such as {pretrain: [train.epochs=60]}")

    limits: ClassVar[Limits] = {"parallel": (1,)}

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("rows", "seeds", "tasks"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise UserError(f"{name} has {', '.join(map(str, values))}", "section AblateConfig", "each one once")
        if not self.seeds or min(self.seeds) < 0:
            raise UserError(f"seeds is {list(self.seeds)}", "section AblateConfig", "whole numbers from 0 on, at least one",
                            "say seeds=[0,1,2]")
        if not self.tasks:
            raise UserError("tasks is empty", "section AblateConfig", "one or more of retrieval, classification, captions")


@dataclass(frozen=True)
class InspectConfig:
    """``kaleidobert inspect``: one page per chosen picture."""
    run: Path = required("folder for the pages")
    data: Data = required("bank whose pictures are shown")
    checkpoint: Path | None = key(None, "checkpoint of a pre-training run: shows its predictions beside the truth; empty = none")
    products: tuple[str, ...] = key((), "ids of the pictures to show; empty = `count` of data.val_split, drawn from the seed")
    count: int = key(6, "pictures to draw where products is empty")
    source: Source | None = key(None, "catalogue of the bank: shows its masks, and finds pictures that lie elsewhere now; empty = none",
                               table="sources")
    maps: Path | None = key(
        None, "folder of an align run's mode, such as runs/align/generated: shows the maps of words; empty = none")
    sampling: Sampling = key(Sampling(masking="random"), "how examples are masked and paired")
    seed: int = key(0, "seed of the choice and of the masking")
