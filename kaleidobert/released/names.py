"""The names of the released TensorFlow 1 checkpoint: an exact map in both directions.

Here a name is "bare" without its first component, which the release calls "kaleido_bert_pre_trained_model"; other files
carry another one that contains "pre_trained_model", or none. The release spells some names oddly; they are its format.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from kaleidobert.errors import UserError
from kaleidobert.levels import KALEIDO, KaleidoLevel
from kaleidobert.model_zoo.checkpoints import LazyArray

A = TypeVar("A", np.ndarray, LazyArray)

PREFIX = "kaleido_bert_pre_trained_model"
LABELS = ("catepred", "subcatepred")  # fine-tuning tasks; their head is "<task>_dense" outside the first component
SLOTS = ("/Adam", "/Adam_1")
COUNTERS = ("beta1_power", "beta2_power", "global_step")
TYPE_TABLE = "bert/rotation_embeddings/rotation_type_embeddings"

# level: (scope of its embeddings, first word of their names, weights of its head, bias of its head)
LEVELS = {
    "rotation": ("rotation", "rotation", "img_rotation/rotation_output_weights", "img_rotation/rotation_output_bias"),
    "jigsaw": ("jigsaw", "jigsaw", "img_jigsaw/jiasaw_output_weights", "img_jigsaw/jigsaw_output_bias"),
    "camouflage": ("camouflage", "camouflage", "img_camouflage/camouflage_output_weights",
                   "img_camouflage/camouflage_output_bias"),
    "grey": ("greymask", "greymask", "img_greymask/greymask_output_weights", None),
    "blank": ("blank", "blankmask", "img_blankmask/blanmask_output_weights", None),
}
BLOCK = {
    "attention/query_kernel": "attention/self/query/kernel", "attention/query_bias": "attention/self/query/bias",
    "attention/key_kernel": "attention/self/key/kernel", "attention/key_bias": "attention/self/key/bias",
    "attention/value_kernel": "attention/self/value/kernel", "attention/value_bias": "attention/self/value/bias",
    "attention_output/kernel": "attention/output/dense/kernel", "attention_output/bias": "attention/output/dense/bias",
    "attention_norm/beta": "attention/output/LayerNorm/beta", "attention_norm/gamma": "attention/output/LayerNorm/gamma",
    "feed_inner/kernel": "intermediate/dense/kernel", "feed_inner/bias": "intermediate/dense/bias",
    "feed_output/kernel": "output/dense/kernel", "feed_output/bias": "output/dense/bias",
    "feed_norm/beta": "output/LayerNorm/beta", "feed_norm/gamma": "output/LayerNorm/gamma",
}
TEXT = {  # with the blocks: what BERT has too
    "text_embedding/word_embeddings": "bert/embeddings/word_embeddings",
    "text_embedding/position_embeddings": "bert/embeddings/position_embeddings",
    "text_embedding/token_type_embeddings": "bert/embeddings/token_type_embeddings",
    "text_embedding/layer_norm/beta": "bert/embeddings/LayerNorm/beta",
    "text_embedding/layer_norm/gamma": "bert/embeddings/LayerNorm/gamma",
    "pooler/dense/kernel": "bert/pooler/dense/kernel", "pooler/dense/bias": "bert/pooler/dense/bias",
    "head_mlm/bias": "cls/predictions/output_bias",
    "head_mlm/dense/kernel": "cls/predictions/transform/dense/kernel",
    "head_mlm/dense/bias": "cls/predictions/transform/dense/bias",
    "head_mlm/layer_norm/beta": "cls/predictions/transform/LayerNorm/beta",
    "head_mlm/layer_norm/gamma": "cls/predictions/transform/LayerNorm/gamma",
}
REST = {"box_projection/kernel": "bert/position_dense", "head_itm/bias": "cls/seq_relationship/output_bias"}
TRANSPOSED = {"head_itm/kernel": "cls/seq_relationship/output_weights"}  # [classes, inputs] there, [inputs, classes] here


@dataclass(frozen=True)
class Name:
    """A variable's bare released name, and whether it lies there transposed."""

    bare: str
    transposed: bool = False

    def turn(self, array: A) -> A:
        """An array of one side as the other side has it."""
        return array.T if self.transposed else array


def name_map(num_layers: int, levels: Sequence[KaleidoLevel] = KALEIDO) -> dict[str, Name]:
    """{path in a Pretrainer: Name}, one to one. Raises UserError for levels that the release does not have."""
    if [(level.name, level.grid, level.pretext) for level in levels] != [(x.name, x.grid, x.pretext) for x in KALEIDO]:
        raise UserError(f"levels are {[level.name for level in levels]}", "released checkpoint",
                        f"the release's five: {[level.name for level in KALEIDO]}", "use the standard level table")
    names = text_names(num_layers) | {path: Name(bare) for path, bare in REST.items()}
    names |= {path: Name(bare, transposed=True) for path, bare in TRANSPOSED.items()}
    for level, (scope, word, weights, bias) in LEVELS.items():
        inner = f"bert/{scope}_embeddings/{word}"
        names[f"patches_{level}/projector/kernel"] = Name(f"{inner}_projector")
        names[f"patches_{level}/type_embeddings"] = Name(f"{inner}_type_embeddings")
        names[f"patches_{level}/layer_norm/beta"] = Name(f"{inner}EmbLayerNorm/beta")
        names[f"patches_{level}/layer_norm/gamma"] = Name(f"{inner}EmbLayerNorm/gamma")
        names[f"head_level_{level}/dense/kernel"] = Name(f"cls/{weights}", transposed=bias is not None)
        if bias:
            names[f"head_level_{level}/dense/bias"] = Name(f"cls/{bias}")
    return names


def text_names(num_layers: int) -> dict[str, Name]:
    """The part of ``name_map`` that Google's BERT has under the same names: text embeddings, encoder, pooler, masked words."""
    names = {path: Name(bare) for path, bare in TEXT.items()}
    for index in range(num_layers):
        names |= {f"encoder_{index}/{path}": Name(f"bert/encoder/layer_{index}/{bare}") for path, bare in BLOCK.items()}
    return names


def label_names(task: str) -> dict[str, Name]:
    """{path in a Classifier: Name} of a fine-tuning head; task: one of LABELS."""
    return {f"head_label/{part}": Name(f"{task}_dense/{part}") for part in ("kernel", "bias")}


def bare(name: str) -> str:
    """A name without the first component that says "pre_trained_model", if it has one."""
    first, _, rest = name.partition("/")
    return rest if "pre_trained_model" in first else name


def full(path: str, name: Name) -> str:
    """The released name of a variable of ours; a fine-tuning head has no first component."""
    return name.bare if path.startswith("head_label/") else f"{PREFIX}/{name.bare}"


def is_bert(names: Iterable[str]) -> bool:
    """Whether bare names are those of a BERT, which has text and nothing of pictures."""
    scopes = [f"bert/{scope}_embeddings/" for scope, *_ in LEVELS.values()]
    pictures = ("bert/position_dense", "cls/img_", *scopes)
    names = list(names)
    return TEXT["text_embedding/word_embeddings"] in names and not any(name.startswith(pictures) for name in names)
