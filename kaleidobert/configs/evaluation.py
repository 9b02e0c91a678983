"""The configuration of the commands that evaluate and generate, re-exported by the package."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from kaleidobert.configs.data import TrainingData
from kaleidobert.configs.loader import Checked, Limits
from kaleidobert.configs.training import Model, Noise, Train
from kaleidobert.errors import UserError
from kaleidobert.levels import KaleidoLevel

ProtocolName = Literal["kaleido", "fashionbert", "fashionvil", "fashionsap", "mvlt", "full"]  # rows of evaluators/candidates/protocols.py


@dataclass(frozen=True)
class ScoreColumns:
    """What the columns of a table of scores are called (CSV, TSV, JSONL, NPZ with one row per query and candidate)."""
    query: str = "query"
    candidate: str = "candidate"
    label: str = "label"  # 1 = right, 0 = wrong; not needed beside `candidates`
    score: str = "score"  # higher = better


@dataclass(frozen=True)
class PredictionColumns:
    """What the columns of a table of predicted classes are called."""
    id: str = "image_id"
    label: str = "label"
    prediction: str = "prediction"


@dataclass(frozen=True)
class EvaluationData:
    """A bank that tells more of the ids in the files: baselines, identical texts, classes of training."""
    bank: Path | None = None
    train_split: str = "train"
    val_split: str = "val"
    train_share: float = 1.0


@dataclass(frozen=True)
class EvaluateConfig(Checked):
    """``kaleidobert evaluate``: count what anyone's model answered. One of scores, predictions, captions."""
    run: Path
    scores: Path | None = None  # retrieval: scores.jsonl of ours, a released result file, or a table of scores
    direction: Literal["", "i2t", "t2i"] = ""  # of the scores; needed by released result files and beside a bank
    columns: ScoreColumns = ScoreColumns()
    candidates: Path | None = None  # candidates.jsonl to which the scores must belong
    protocol: Literal["", ProtocolName] = ""  # how the lists were drawn, if no candidates.jsonl says so; is written into the result
    counting: Literal["expectation", "released", "fashionbert", "fashionsap", "mvlt"] = "expectation"  # others stand beside it
    other_direction: Path | None = None  # scores of the other direction of the same model: SumR
    texts: Path | None = None  # table with columns id and text: candidates whose text equals the query's are right too
    identical_texts: bool = True  # that rule; the texts are those of `texts`, or of the bank
    predictions: Path | None = None  # classification: predictions.csv of ours, or any table of id, label, prediction
    prediction_columns: PredictionColumns = PredictionColumns()
    label: str = ""  # which label of the bank was predicted
    modality: Literal["both", "image", "text"] = "both"  # what the baselines of a classification see
    trained_classes: Path | None = None  # names of the classes seen in training, one a line; of a bank they are known
    captions: Path | None = None  # generation: JSONL or COCO results with image_id and caption
    references: Path | None = None  # JSONL or COCO annotations
    against: Path | None = None  # the same file of another model: paired tests
    data: EvaluationData = EvaluationData()
    subcategory: str = "subcategory"  # the label of the oracle
    baselines: bool = True  # linear models on the bank's features and texts
    resamples: int = 1000  # of every bootstrap
    permutations: int = 10000  # of every sign-flip test
    seed: int = 0

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
    runs: tuple[Path, ...] = ()  # folders of runs, or folders that hold such
    out: Path | None = None  # where tables.md and tables.json go; None = printed


@dataclass(frozen=True)
class Writing(Checked):
    """How ``kaleidobert caption`` writes."""
    num_beams: int = 4  # causal: captions followed at a time; 1 = greedy
    length_penalty: float = 0.7  # causal: log-probabilities are divided by length to this power
    iterations: int = 4  # mask-predict: times that pieces are asked
    length_candidates: int = 3  # the other modes, length "predicted": lengths tried; the caption with the best mean log-probability stays
    max_length: int = 0  # pieces; 0 = as many as a text of the bank has at most
    matcher: Path | None = None  # of a `retrieve` run with head dual_encoder: the best match of what was written and of the training texts

    limits: ClassVar[Limits] = {
        "num_beams": (1,),
        "length_penalty": (0,),
        "iterations": (1,),
        "length_candidates": (1,),
        "max_length": (0,),
    }


@dataclass(frozen=True)
class CaptionConfig(Checked):
    """``kaleidobert caption``: train the encoder to write captions, and write those of the validation split."""
    run: Path
    data: TrainingData
    mode: Literal["mask-all", "mask-predict", "causal"] = "mask-all"  # all pieces at once (the paper); refined; one after another
    length: Literal["predicted", "fixed", "oracle"] = "predicted"  # of captions of the first two; oracle: the reference's own
    fixed_length: int = 0  # pieces where length is fixed; 0 = the median of the training texts
    init: Path | None = None  # the pre-trained checkpoint; refused without one unless from_scratch
    from_scratch: bool = False
    levels: tuple[KaleidoLevel, ...] = ()  # default: those of init; from random weights those of the bank
    model: Model = Model()
    noise: Noise = Noise()
    smoothing: float = 0.0  # of labels: the share of the truth that is spread over all pieces
    held_out: float = 0.05  # share of the training groups that chooses the best epoch; 0 = none, the last epoch is kept
    writing: Writing = Writing()
    subcategory: str = "subcategory"  # the label of the baseline "commonest caption of the subcategory"
    baselines: bool = True
    train: Train = Train(epochs=20, learning_rate=2e-5)
    predict_batch_size: int = 64

    limits: ClassVar[Limits] = {"fixed_length": (0,), "smoothing": (0, 0.99), "held_out": (0, 0.5), "predict_batch_size": (1,)}
