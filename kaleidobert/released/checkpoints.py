"""Released TensorFlow 1 checkpoints: their names and config.json, conversion to checkpoints of ours and back, and BERT as a start.

read, load_meta, transfer and continue_optimizer take a checkpoint of ours as well: they serve ``init``, which may name either.

Names: an exact map in both directions. A "bare" name lacks its first component, which the release calls
"kaleido_bert_pre_trained_model"; other files carry another one that contains "pre_trained_model", or none. The release spells some
names oddly; they are its format. prefix, in every function: the path of a checkpoint without ".index".

State of Adam, there: "<variable>/Adam" (m), "<variable>/Adam_1" (v), global_step, and the two powers that correct the bias of the
next step. Here: "optimizer/adam/<path>_momentum", "..._velocity" and "optimizer/adam/iteration".

Google's BERT as the start of pre-training gives its text part; everything else is drawn anew. Its next-sentence head
(cls/seq_relationship) is skipped: its label 0 means "is next" where ours means "no match", so that it would start with the answers
swapped, and it judged a second sentence, which ours never sees.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np

from kaleidobert.errors import UserError
from kaleidobert.io import read_json
from kaleidobert.levels import KALEIDO, KaleidoLevel
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.checkpoints import LazyArray
from kaleidobert.model_zoo.kaleidobert import Backbone, Classifier, Pretrainer, TaskModel
from kaleidobert.released import tf_checkpoint

# --- Names


A = TypeVar("A", np.ndarray, LazyArray)

SCOPE = "kaleido_bert_pre_trained_model"
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
TEXT = {  # with the blocks: the weights that BERT has too
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
    """The bare released name of a variable, and whether it is stored transposed there."""

    bare: str
    transposed: bool = False

    def oriented(self, array: A) -> A:
        """Returns an array of one side as the other side stores it."""
        return array.T if self.transposed else array


def name_map(num_layers: int, levels: Sequence[KaleidoLevel] = KALEIDO) -> dict[str, Name]:
    """Returns {path in a Pretrainer: Name}, one to one. Raises UserError for levels that the release does not have."""
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
    """Returns the names of ``name_map`` that Google's BERT has too: text embeddings, encoder, pooler, masked language model."""
    names = {path: Name(bare) for path, bare in TEXT.items()}
    for index in range(num_layers):
        names |= {f"encoder_{index}/{path}": Name(f"bert/encoder/layer_{index}/{bare}") for path, bare in BLOCK.items()}
    return names


def label_names(task: str) -> dict[str, Name]:
    """Returns {path in a Classifier: Name} of a fine-tuning head; task: one of LABELS."""
    return {f"head_label/{weight}": Name(f"{task}_dense/{weight}") for weight in ("kernel", "bias")}


def bare_name(name: str) -> str:
    """Returns a name without the first component that contains "pre_trained_model", if it has one."""
    first, _, rest = name.partition("/")
    return rest if "pre_trained_model" in first else name


def full_name(path: str, name: Name) -> str:
    """Returns the released name of a variable of ours; a fine-tuning head has no first component."""
    return name.bare if path.startswith("head_label/") else f"{SCOPE}/{name.bare}"


def is_bert(names: Iterable[str]) -> bool:
    """Whether bare names are those of a BERT, which has text embeddings and no picture embeddings."""
    scopes = [f"bert/{scope}_embeddings/" for scope, *_ in LEVELS.values()]
    pictures = ("bert/position_dense", "cls/img_", *scopes)
    names = list(names)
    return TEXT["text_embedding/word_embeddings"] in names and not any(name.startswith(pictures) for name in names)


# --- config.json and vocab.txt


SIZES = {"vocab_size": "vocabulary_size", "hidden_size": "hidden_size", "intermediate_size": "intermediate_size",
         "num_hidden_layers": "num_layers", "num_attention_heads": "num_heads", "max_position_embeddings": "max_positions",
         "type_vocab_size": "type_vocabulary_size"}
OPTIONS = {"hidden_dropout_prob": "dropout", "attention_probs_dropout_prob": "attention_dropout",
           "initializer_range": "initializer_range", "patch_feature_size": "feature_size", "text_seq_len": "text_length"}
MASKED = {"masked_greymask_patch_num": "grey", "masked_blankmask_patch_num": "blank"}
FIXED = {"img_rotation_seq_len": 1, "img_jigsaw_seq_len": 4, "img_camouflage_seq_len": 9, "img_greymask_seq_len": 16,
         "img_blankmask_seq_len": 25, "img_rotation_label_num": 4, "img_jigsaw_label_num": 24,
         "img_camouflage_label_num": 9, "model_type": "kaleidobert", "hidden_act": "gelu"}
FRACTIONS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range")
# patch_type_vocab_size is read from the checkpoint; the others do not reach the network
IGNORED = ("patch_type_vocab_size", "max_patch_position_embeddings", "directionality", "pooler_fc_size",
               "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head", "pooler_type")


def backbone_config(config: str | Path | Mapping[str, Any], type_rows: int = 0, fixed: Mapping[str, Any] = FIXED) -> dict[str, Any]:
    """Returns the Backbone's arguments from a released config.json (or its content).

    type_rows: rows of the checkpoint's type tables. fixed: values that are required.

    Raises UserError for a missing size, an unknown key, or a level table other than the release's.
    """
    where = "config" if isinstance(config, Mapping) else str(config)
    values = config if isinstance(config, Mapping) else read_json(config)
    if not isinstance(values, Mapping):
        raise UserError(f"holds a {type(values).__name__}", where, "keys and values", "give a released config.json")
    known = {*SIZES, *OPTIONS, *MASKED, *FIXED, *IGNORED}
    unknown, missing = sorted(set(values) - known), sorted(set(SIZES) - set(values))
    if unknown or missing:
        listing = "".join([*(f"\n  - {key}" for key in missing), *(f"\n  + {key}" for key in unknown)])
        raise UserError(f"the keys do not fit:{listing}\n(-: missing, +: unknown)", where, "a released config.json")
    for key in sorted({*SIZES, *OPTIONS, *MASKED} & set(values)):
        whole = isinstance(values[key], int) and not isinstance(values[key], bool)
        if not (whole and values[key] > 0 if key not in FRACTIONS else whole or isinstance(values[key], float)):
            raise UserError(f"{key} is {values[key]!r}", where, "a number" if key in FRACTIONS else "a whole number above 0")
    for key, value in fixed.items():
        if values.get(key, value) != value:
            raise UserError(f"{key} is {values[key]!r}", where, f"{value!r}, as in the release")
    arguments = {ours: values[key] for key, ours in (SIZES | OPTIONS).items() if key in values}
    masked = {level: values[key] for key, level in MASKED.items() if key in values}
    levels = [replace(level, num_masked=masked.get(level.name, level.num_masked)) for level in KALEIDO]
    return arguments | {"levels": levels, "patch_type_vocabulary_size": type_rows}


def config_json(backbone: Backbone) -> dict[str, Any]:
    """Returns the config.json of a backbone with the release's levels.

    text_seq_len is ours; the released code keeps unknown keys and never reads them.
    """
    masked = {level.name: level.num_masked for level in backbone.levels}
    values = {key: getattr(backbone, ours) for key, ours in (SIZES | OPTIONS).items()}
    values |= {key: masked[level] for key, level in MASKED.items()}
    fixed = {key: value for key, value in FIXED.items() if key != "hidden_act"}
    return values | fixed | {"patch_type_vocab_size": backbone.patch_type_vocabulary_size}


def find_beside(path: str | Path, names: Sequence[str]) -> Path | None:
    """Finds the first of the files in the folder of ``path``, or in the one above it."""
    parent = Path(path).absolute().parent
    return next((folder / name for folder in (parent, parent.parent) for name in names if (folder / name).is_file()), None)


def vocabulary_sha256(path: str | Path, size: int) -> str:
    """Returns the SHA-256 that a bank made with this vocab.txt stores: of its pieces, one per line.

    size: pieces of the model. Raises UserError where the file is missing, is no text or has another number of pieces.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read ({error})", str(path), "a vocab.txt: one piece per line") from None
    pieces = [line.rstrip("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]
    if len(pieces) != size:
        raise UserError(f"has {len(pieces):,} pieces", str(path), f"the model's {size:,}", "give the vocab.txt it was made with")
    return hashlib.sha256("".join(f"{piece}\n" for piece in pieces).encode()).hexdigest()


# --- Weights


TASKS = ("pretraining", *LABELS)


def open_weights(prefix: str | Path) -> dict[str, LazyArray]:
    """Opens the weights of a checkpoint, {bare name: array}, without optimiser slots and counters.

    Raises UserError where the file is missing or damaged, or where two bare names are equal.
    """
    arrays = tf_checkpoint.open_arrays(prefix, lambda name: not name.endswith(SLOTS) and bare_name(name) not in COUNTERS)
    weights = {bare_name(name): array for name, array in arrays.items()}
    if len(weights) < len(arrays):
        raise UserError(f"{len(arrays)} variables but {len(weights)} names", str(prefix), "the weights of one model")
    return weights


def task_of(names: Mapping[str, Any]) -> str:
    """Returns the last task of a checkpoint, one of TASKS: that of its fine-tuning head, if it has one."""
    return next((label for label in LABELS if f"{label}_dense/kernel" in names), "pretraining")


def global_step(prefix: str | Path) -> int | None:
    """Returns the step at which a checkpoint was written; None where it is not stored."""
    stored = list(tf_checkpoint.open_arrays(prefix, lambda name: bare_name(name) == "global_step").values())
    return int(stored[0].load()) if stored and stored[0].shape == () else None


def origin(prefix: str | Path, vocabulary: Path | None, size: int) -> dict[str, Any]:
    """Returns the meta of a checkpoint of ours beside the model: the step and the hash of the vocabulary of ``size``, where known.

    The encoder of the features is missing, for no TensorFlow 1 checkpoint names it.
    """
    step = global_step(prefix)
    known = {} if step is None else {"step": step}
    return known if vocabulary is None else known | {"vocabulary_sha256": vocabulary_sha256(vocabulary, size)}


def _read_released(prefix: str | Path, is_wanted: Callable[[str], bool]) -> tuple[dict[str, Any], checkpoints.Arrays]:
    """Reads (meta, {"model/path": array}) of a released checkpoint.

    config.json and an optional vocab.txt lie beside the checkpoint or a folder above. A variable without a name of ours keeps its own,
    so that it is reported as unexpected. Raises UserError where a file is missing, damaged or does not fit, and for a BERT.
    """
    stored = open_weights(prefix)
    if is_bert(stored):
        raise UserError("is a BERT, which knows nothing of pictures", str(prefix), "a Kaleido-BERT",
                        "make a start of it with `kaleidobert convert`")
    config, task = find_beside(prefix, ["config.json"]), task_of(stored)
    if config is None:
        raise UserError("there is no config.json beside it or a folder above", str(prefix), fix="put it there")
    arguments = backbone_config(config, type_rows(stored))
    names = name_map(arguments["num_layers"]) | (label_names(task) if task in LABELS else {})
    ours = {name.bare: (f"model/{path}", name) for path, name in names.items()}
    arrays = {}
    for name, array in stored.items():
        path, released = ours.get(name, (f"model/{name}", Name(name)))
        if is_wanted(path):
            arrays[path] = released.oriented(array).load()
    backbone = {name: value.default for name, value in signature(Backbone).parameters.items()} | arguments
    levels = backbone["levels"]
    meta: dict[str, Any] = {"format": checkpoints.FORMAT, "kind": Pretrainer.kind,
                            "config": {"backbone": backbone | {"levels": list(map(asdict, levels))}},
                            "identity": {"num_heads": backbone["num_heads"], "levels": [[x.name, x.grid, x.pretext] for x in levels]}}
    if task in LABELS:
        meta["kind"] = Classifier.kind
        options = {name: value.default for name, value in signature(Classifier).parameters.items() if value.default is not value.empty}
        meta["config"] |= options | {"num_classes": num_classes(stored, task)}
    return meta | origin(prefix, find_beside(prefix, ["vocab.txt"]), arguments["vocabulary_size"]), arrays


def type_rows(stored: Mapping[str, LazyArray]) -> int:
    """Returns the number of rows of the type tables; 0 = the checkpoint has none."""
    return stored[TYPE_TABLE].shape[0] if TYPE_TABLE in stored and stored[TYPE_TABLE].shape else 0


def num_classes(stored: Mapping[str, LazyArray], task: str) -> int:
    """Returns the classes of a fine-tuning head; 2 where there is none, so that it is reported with everything else that is missing."""
    kernel = stored.get(f"{task}_dense/kernel")
    return (kernel.shape[-1] or 2) if kernel is not None and kernel.shape else 2


def import_checkpoint(prefix: str | Path, config: str | Path | Mapping[str, Any], task: str = "",
                      precision: str | None = None) -> TaskModel:
    """Loads a released checkpoint as a Pretrainer, or as a Classifier where it holds a fine-tuning head.

    config: its config.json. task: one of TASKS; "" = that of the checkpoint. A Classifier ignores the heads of pre-training and a
    Pretrainer those of fine-tuning; everything else must fit one to one. Raises UserError that lists what is missing (-) and
    unexpected (+).
    """
    if task not in ("", *TASKS):
        raise UserError(f"unknown task {task!r}", "import", f"pretraining, {' or '.join(LABELS)}")
    stored = open_weights(prefix)
    task = task or task_of(stored)
    backbone = Backbone.from_config(backbone_config(config, type_rows(stored)) | {"precision": precision})
    model = Pretrainer(backbone) if task == "pretraining" else Classifier(backbone, num_classes(stored, task))
    names = names_of(model, task)
    heads = {name.bare for path, name in name_map(backbone.num_layers).items() if path.startswith(checkpoints.HEAD)}
    heads |= {name.bare for label in LABELS for name in label_names(label).values()}
    wanted = {names[weight.path].bare: names[weight.path].oriented(np.broadcast_to(np.float32(0), weight.shape))
              for weight in model.weights}
    relevant = {name: array for name, array in stored.items() if name in wanted or name not in heads}
    checkpoints.check_fit(wanted, relevant, str(prefix), "check that config.json belongs to this checkpoint")
    for weight in model.weights:
        weight.assign(names[weight.path].oriented(stored[names[weight.path].bare]).load())
    return model


def names_of(model: TaskModel, task: str = "pretraining") -> dict[str, Name]:
    """Returns {path: Name} of exactly the weights of this model; task: that of a Classifier's head."""
    known = name_map(model.backbone.num_layers, model.backbone.levels) | (label_names(task) if task in LABELS else {})
    unknown = [weight.path for weight in model.weights if weight.path not in known]
    if unknown:
        raise UserError(f"the release has no {', '.join(unknown)}", f"the {model.kind}", "a model with released heads only")
    return {weight.path: known[weight.path] for weight in model.weights}


def export_weights(model: TaskModel, task: str = "pretraining") -> dict[str, np.ndarray]:
    """Returns {released name: array} of a model's weights."""
    names = names_of(model, task)
    return {full_name(weight.path, names[weight.path]): names[weight.path].oriented(np.asarray(weight)) for weight in model.weights}


# --- The state of Adam


ENTRIES = dict(zip(SLOTS, ("momentum", "velocity")))
ITERATION = "optimizer/adam/iteration"
POWERS = {"beta1_power": 0.9, "beta2_power": 0.98}  # of the released optimiser

Arrays = dict[str, np.ndarray | LazyArray]


def import_optimizer(prefix: str | Path, model: TaskModel, task: str) -> tuple[Arrays, list[str]]:
    """Returns (entries of a checkpoint of ours, remarks) from a checkpoint of the model's task; UserError lists misfits (-, +)."""
    stored = {bare_name(name): array for name, array in tf_checkpoint.open_arrays(
        prefix, lambda name: name.endswith(SLOTS) or bare_name(name) in COUNTERS).items()}
    slots = list(_slots(model, task))
    wanted = {name.bare + slot: name.oriented(blank) for _, name, slot, _, blank in slots}
    wanted |= {counter: np.zeros((), np.int64 if counter == "global_step" else np.float32) for counter in COUNTERS}
    checkpoints.check_fit(wanted, stored, str(prefix), "leave optimizer=true out to convert the weights alone")
    step = int(stored["global_step"].load())
    arrays = {ITERATION: np.array(step)} | {entry: name.oriented(stored[name.bare + slot]) for _, name, slot, entry, _ in slots}
    remarks = []
    for counter, beta in POWERS.items():
        value = float(stored[counter].load())
        if not np.isclose(value, beta ** (step + 1), 0.01, 1e-30):
            remarks.append(f"{counter} is {value:.6g}, not {beta}^{step + 1}: it was trained with another beta than the release")
    return arrays, remarks


def export_optimizer(path: str | Path, model: TaskModel, task: str) -> tuple[Arrays, int]:
    """Returns ({released name: array}, steps done) from a checkpoint of ours that holds an optimiser; UserError lists misfits (-, +)."""
    entries = checkpoints.open_arrays(path, "optimizer/")
    if not entries:
        raise UserError("holds weights but no optimizer", str(path), "the last.npz of a run", "leave optimizer=true out")
    slots = list(_slots(model, task))
    checkpoints.check_fit({ITERATION: np.array(0)} | {entry: blank for *_, entry, blank in slots}, entries, str(path))
    step = int(entries[ITERATION].load())
    arrays = {full_name(where, name) + slot: name.oriented(entries[entry]) for where, name, slot, entry, _ in slots}
    # multiplied step by step in float32, as in the release
    return arrays | {counter: np.cumprod(np.full(step + 1, beta, np.float32))[-1] for counter, beta in POWERS.items()}, step


def _slots(model: TaskModel, task: str) -> Iterator[tuple[str, Name, str, str, np.ndarray]]:
    """Yields (path, name, slot, entry of ours, an array of its shape) of every moment of a model."""
    names = names_of(model, task)
    for weight in model.trainable_weights:
        for slot, entry in ENTRIES.items():
            yield (weight.path, names[weight.path], slot, f"optimizer/adam/{weight.path.replace('/', '_')}_{entry}",
                   np.broadcast_to(np.float32(0), weight.shape))


# --- The checkpoint that ``init`` names: one of ours (.npz), or a released one by its prefix


def read(path: str | Path, is_wanted: Callable[[str], bool]) -> tuple[dict[str, Any], checkpoints.Arrays]:
    """Reads (meta, {"model/path": array}) as model_zoo.checkpoints.read does, of either."""
    return (_read_released if tf_checkpoint.exists(path) else checkpoints.read)(path, is_wanted)


def load_meta(path: str | Path) -> dict[str, Any]:
    """Reads the meta of either; that of a released checkpoint is made of its config.json and its names."""
    return read(path, lambda name: False)[0]


def transfer(path: str | Path, model: keras.Model) -> list[str]:
    """Initialises ``model`` from either, as model_zoo.checkpoints.transfer does; returns the paths that keep their start values."""
    return checkpoints.transfer(path, model, read)


def continue_optimizer(path: str | Path, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> int:
    """Loads the state of an optimizer from either and returns its step; prints what a released checkpoint leaves unverified."""
    if not tf_checkpoint.exists(path):
        return checkpoints.continue_optimizer(path, model, optimizer)
    arrays, remarks = import_optimizer(path, model, "pretraining")
    print("\n".join(f"  {remark}" for remark in remarks), end="\n" * bool(remarks))
    return checkpoints.continue_optimizer(path, model, optimizer, arrays)


# --- Google's BERT


BERT_CONFIGS = ("bert_config.json", "config.json")
MASKED_WORDS = "head_mlm/"


def start_from_bert(prefix: str | Path, config: str | Path, levels: Sequence[KaleidoLevel], feature_size: int,
                    seed: int, standardise_features: bool) -> tuple[Pretrainer, list[str]]:
    """Returns (a Pretrainer for these levels and features, a line for each weight that is new and for each of BERT that is skipped).

    prefix: a TensorFlow 1 checkpoint with Google's names; config: its bert_config.json. Of a BERT without cls/predictions, as after
    fine-tuning, the masked language model's head is new. Raises UserError that lists missing (-) and misshapen (-, +) weights.
    """
    stored = open_weights(prefix)
    arguments = backbone_config(config, fixed={"hidden_act": "gelu"})
    model = Pretrainer(Backbone.from_config(arguments | {"levels": levels, "feature_size": feature_size, "seed": seed,
                                                    "standardise_features": standardise_features}))
    names = text_names(model.backbone.num_layers)
    heads = {path: name for path, name in names.items() if path.startswith(MASKED_WORDS)}
    if not any(name.bare in stored for name in heads.values()):
        names = {path: name for path, name in names.items() if path not in heads}
    weights = {weight.path: weight for weight in model.weights}
    wanted = {name.bare: np.broadcast_to(np.float32(0), weights[path].shape) for path, name in names.items()}
    relevant = {name: array for name, array in stored.items() if name in wanted}
    blocks = {name: array for name, array in stored.items() if name.startswith("bert/encoder/")}  # a deeper BERT is another one
    checkpoints.check_fit(wanted, relevant | blocks, str(prefix), "check that the bert_config.json belongs to this checkpoint")
    for path, name in names.items():
        weights[path].assign(stored[name.bare].load())
    lines = [f"- {path} {list(weight.shape)}: not in BERT, " + (f"drawn from seed {seed}" if weight.trainable else
             "measured by the run that starts from it") for path, weight in weights.items() if path not in names]
    lines += [f"+ {name} {list(array.shape)}: skipped" for name, array in stored.items() if name not in wanted]
    return model, lines
