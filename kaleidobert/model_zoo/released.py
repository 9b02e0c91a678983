"""The released TensorFlow 1 checkpoint: an exact name map in both directions, and its import.

Here a name is "bare" without its first component, which the release calls "kaleido_bert_pre_trained_model"; other files
carry another one that contains "pre_trained_model", or none. The release spells some names oddly; they are its format.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kaleidobert.errors import UserError
from kaleidobert.files import read_json
from kaleidobert.levels import KALEIDO, KaleidoLevel
from kaleidobert.model_zoo import checkpoints, tf_checkpoint
from kaleidobert.model_zoo.kaleidobert import Backbone, Classifier, Pretrainer, TaskModel

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
REST = {
    "box_projection/kernel": "bert/position_dense",
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
    "head_itm/bias": "cls/seq_relationship/output_bias",
}
TRANSPOSED = {"head_itm/kernel": "cls/seq_relationship/output_weights"}  # [classes, inputs] there, [inputs, classes] here

SIZES = {"vocab_size": "vocabulary_size", "hidden_size": "hidden_size", "intermediate_size": "intermediate_size",
         "num_hidden_layers": "num_layers", "num_attention_heads": "num_heads", "max_position_embeddings": "max_positions",
         "type_vocab_size": "type_vocabulary_size"}
OPTIONS = {"hidden_dropout_prob": "dropout", "attention_probs_dropout_prob": "attention_dropout",
           "initializer_range": "initializer_range", "patch_feature_size": "feature_size", "text_seq_len": "text_length"}
MASKED = {"masked_greymask_patch_num": "grey", "masked_blankmask_patch_num": "blank"}
FIXED = {"img_rotation_seq_len": 1, "img_jigsaw_seq_len": 4, "img_camouflage_seq_len": 9, "img_greymask_seq_len": 16,
         "img_blankmask_seq_len": 25, "img_rotation_label_num": 4, "img_jigsaw_label_num": 24,
         "img_camouflage_label_num": 9, "model_type": "kaleidobert", "hidden_act": "gelu"}
# patch_type_vocab_size is read from the checkpoint; the others do not reach the network
PASSED_OVER = ("patch_type_vocab_size", "max_patch_position_embeddings", "directionality", "pooler_fc_size",
               "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head", "pooler_type")


@dataclass(frozen=True)
class Name:
    """A variable's bare released name, and whether it lies there transposed."""

    bare: str
    transposed: bool = False

    def turn(self, array: np.ndarray) -> np.ndarray:
        """An array of one side as the other side has it."""
        return array.T if self.transposed else array


def name_map(num_layers: int, levels: Sequence[KaleidoLevel] = KALEIDO) -> dict[str, Name]:
    """{path in a Pretrainer: Name}, one to one. Raises UserError for levels that the release does not have."""
    if [(level.name, level.grid, level.pretext) for level in levels] != [(x.name, x.grid, x.pretext) for x in KALEIDO]:
        raise UserError(f"levels are {[level.name for level in levels]}", "released checkpoint",
                        f"the release's five: {[level.name for level in KALEIDO]}", "use the standard level table")
    names = {path: Name(bare) for path, bare in REST.items()}
    names |= {path: Name(bare, transposed=True) for path, bare in TRANSPOSED.items()}
    for index in range(num_layers):
        names |= {f"encoder_{index}/{path}": Name(f"bert/encoder/layer_{index}/{bare}") for path, bare in BLOCK.items()}
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


def label_names(task: str) -> dict[str, Name]:
    """{path in a Classifier: Name} of a fine-tuning head; task: one of LABELS."""
    return {f"head_label/{part}": Name(f"{task}_dense/{part}") for part in ("kernel", "bias")}


def bare(name: str) -> str:
    """A name without the first component that says "pre_trained_model", if it has one."""
    first, _, rest = name.partition("/")
    return rest if "pre_trained_model" in first else name


def read_weights(prefix: str | Path) -> dict[str, np.ndarray]:
    """{bare name: array} of a TF1 checkpoint, without optimiser slots and counters; prefix: the path without ".index".

    Raises UserError where the file is missing or damaged, or two names become the same.
    """
    arrays = tf_checkpoint.read(prefix, lambda name: not name.endswith(SLOTS) and bare(name) not in COUNTERS)
    weights = {bare(name): array for name, array in arrays.items()}
    if len(weights) < len(arrays):
        raise UserError(f"{len(arrays)} variables but {len(weights)} names", str(prefix), "the weights of one model")
    return weights


def backbone_config(config: str | Path | Mapping[str, Any], type_rows: int = 0) -> dict[str, Any]:
    """The Backbone's arguments from a released config.json (or its content); type_rows: the checkpoint's.

    Raises UserError for a missing size, an unknown key, or a level table other than the release's.
    """
    where = "config" if isinstance(config, Mapping) else str(config)
    values = dict(config) if isinstance(config, Mapping) else read_json(config)
    known = {*SIZES, *OPTIONS, *MASKED, *FIXED, *PASSED_OVER}
    unknown, missing = sorted(set(values) - known), sorted(set(SIZES) - set(values))
    if unknown or missing:
        listing = "".join([*(f"\n  - {key}" for key in missing), *(f"\n  + {key}" for key in unknown)])
        raise UserError(f"the keys do not fit:{listing}\n(-: missing, +: unknown)", where, "a released config.json")
    for key, value in FIXED.items():
        if values.get(key, value) != value:
            raise UserError(f"{key} is {values[key]!r}", where, f"{value!r}, as in the release")
    arguments = {ours: values[key] for key, ours in (SIZES | OPTIONS).items() if key in values}
    masked = {level: values[key] for key, level in MASKED.items() if key in values}
    levels = [replace(level, num_masked=masked.get(level.name, level.num_masked)) for level in KALEIDO]
    return arguments | {"levels": levels, "patch_type_vocabulary_size": type_rows}


def import_checkpoint(prefix: str | Path, config: str | Path | Mapping[str, Any], task: str = "",
                      precision: str | None = None) -> TaskModel:
    """A released checkpoint as a Pretrainer, or as a Classifier where it holds a fine-tuning head.

    prefix: the path without ".index"; config: its config.json. task: "pretraining", "catepred" or "subcatepred"; "" = what
    the checkpoint holds. A Classifier leaves the heads of pre-training aside and a Pretrainer those of fine-tuning; all else
    must fit one to one. Raises UserError that lists what is missing (-) and unexpected (+).
    """
    if task not in ("", "pretraining", *LABELS):
        raise UserError(f"unknown task {task!r}", "import", f"pretraining, {' or '.join(LABELS)}")
    arrays = read_weights(prefix)
    task = task or next((label for label in LABELS if f"{label}_dense/kernel" in arrays), "pretraining")
    arguments = backbone_config(config, len(arrays[TYPE_TABLE]) if TYPE_TABLE in arrays else 0)
    backbone = Backbone.from_config(arguments | {"precision": precision})
    if task == "pretraining":
        model = Pretrainer(backbone)
    else:
        kernel = arrays.get(f"{task}_dense/kernel", np.zeros((0, 2)))
        model = Classifier(backbone, kernel.shape[-1])
    names = names_of(model, task)
    heads = {name.bare for path, name in name_map(backbone.num_layers).items() if path.startswith(checkpoints.HEAD)}
    heads |= {name.bare for label in LABELS for name in label_names(label).values()}
    wanted = {names[weight.path].bare: names[weight.path].turn(np.broadcast_to(np.float32(0), weight.shape))
              for weight in model.weights}
    found = {name: array for name, array in arrays.items() if name in wanted or name not in heads}
    checkpoints.fit(wanted, found, str(prefix), "check that config.json belongs to this checkpoint")
    for weight in model.weights:
        weight.assign(names[weight.path].turn(arrays[names[weight.path].bare]))
    return model


def names_of(model: TaskModel, task: str = "pretraining") -> dict[str, Name]:
    """{path: Name} of exactly the weights that this model has; task: whose head a Classifier's is."""
    known = name_map(model.backbone.num_layers, model.backbone.levels) | (label_names(task) if task in LABELS else {})
    unknown = [weight.path for weight in model.weights if weight.path not in known]
    if unknown:
        raise UserError(f"the release has no {', '.join(unknown)}", f"the {model.kind}", "a model with released heads only")
    return {weight.path: known[weight.path] for weight in model.weights}


def export_weights(model: TaskModel, task: str = "pretraining") -> dict[str, np.ndarray]:
    """{released name: array} of a model's weights: the way back. A fine-tuning head has no first component."""
    names, arrays = names_of(model, task), {}
    for weight in model.weights:
        first = "" if weight.path.startswith("head_label/") else f"{PREFIX}/"
        arrays[first + names[weight.path].bare] = names[weight.path].turn(np.asarray(weight).copy())
    return arrays
