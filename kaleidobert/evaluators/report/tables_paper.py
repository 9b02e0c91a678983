"""The paper's figures, and what its tables and ours have in common: keys of the columns, names of rows."""

from collections.abc import Iterable, Sequence

from kaleidobert.evaluators.report.tables_layout import Cell, Column, Value
from kaleidobert.evaluators.retrieval import RANKS

# name: ITR Rank@1/5/10, TIR Rank@1/5/10; accuracy and macro-F1 of categories, of subcategories; BLEU-4, METEOR, ROUGE-L, CIDEr.
# As printed: all in percent but macro-F1.
PAPER = {
    "FashionBERT": ((23.96, 46.31, 52.12, 26.75, 46.48, 55.74), (91.25, 0.705, 85.27, 0.620), (3.3, 9.8, 29.7, 30.1)),
    "ImageBERT": ((22.76, 41.89, 50.77, 24.78, 45.20, 55.90), (90.77, 0.699, 80.11, 0.575), ()),
    "OSCAR": ((23.39, 44.67, 52.55, 25.10, 49.14, 56.68), (91.79, 0.727, 84.23, 0.591), (4.5, 10.9, 30.1, 30.7)),
    "Kaleido-BERT": ((27.99, 60.09, 68.37, 33.88, 60.60, 68.59), (95.07, 0.714, 88.07, 0.636), (5.7, 12.8, 32.9, 32.6)),
}
PRINTED = {"head": "as printed", "trained": "as printed"}
NO_NETWORK = {"head": "no network"}
PAPERS = "The paper's figure, on Fashion-Gen; not comparable with rows on other data"
DIRECTIONS = {"i2t": "ITR", "t2i": "TIR"}
RANK_KEYS = [f"{direction} rank@{k}" for direction in DIRECTIONS for k in RANKS]
LABELS = {"category": "CR", "subcategory": "SUB"}
LABEL_KEYS = [f"{label} {metric}" for label in LABELS.values() for metric in ("accuracy", "macro_f1_all")]
CAPTION_KEYS = {"bleu4": "BLEU-4", "meteor": "METEOR", "rouge_l": "ROUGE-L", "cider_d": "CIDEr-D"}
BASELINES = {
    "ridge": "ridge regression to TF-IDF", "subcategory_oracle": "oracle of the subcategory",
    "nearest_neighbours_image": "nearest neighbours, picture", "logistic_regression_image": "logistic regression, picture",
    "logistic_regression_text": "logistic regression, text", "commonest_of_subcategory": "most frequent caption of the subcategory",
    "nearest_picture": "caption of the nearest picture"}
MODALITIES = {"both": "picture and text", "image": "picture", "text": "text"}
INTERVALS = "In brackets: 95% intervals, by bootstrap over queries or examples."


def printed(columns: Sequence[Column], numbers: Sequence[float]) -> dict[str, Cell]:
    """The paper's numbers, unscaled; none where it has none."""
    return {column.key: Value(number / column.scale) for column, number in zip(columns, numbers)}


def both(settings: Iterable[str]) -> str:
    """One note of two runs, which mostly share it."""
    return " | ".join(dict.fromkeys(settings))


def words(name: str) -> str:
    return BASELINES.get(name, name.replace("_", " "))
