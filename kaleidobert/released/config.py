"""The files beside a TensorFlow 1 checkpoint: config.json both ways, and vocab.txt."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kaleidobert.errors import UserError
from kaleidobert.io import read_json
from kaleidobert.levels import KALEIDO
from kaleidobert.model_zoo.backbone import Backbone

SIZES = {"vocab_size": "vocabulary_size", "hidden_size": "hidden_size", "intermediate_size": "intermediate_size",
         "num_hidden_layers": "num_layers", "num_attention_heads": "num_heads", "max_position_embeddings": "max_positions",
         "type_vocab_size": "type_vocabulary_size"}
OPTIONS = {"hidden_dropout_prob": "dropout", "attention_probs_dropout_prob": "attention_dropout",
           "initializer_range": "initializer_range", "patch_feature_size": "feature_size", "text_seq_len": "text_length"}
MASKED = {"masked_greymask_patch_num": "grey", "masked_blankmask_patch_num": "blank"}
FIXED = {"img_rotation_seq_len": 1, "img_jigsaw_seq_len": 4, "img_camouflage_seq_len": 9, "img_greymask_seq_len": 16,
         "img_blankmask_seq_len": 25, "img_rotation_label_num": 4, "img_jigsaw_label_num": 24,
         "img_camouflage_label_num": 9, "model_type": "kaleidobert", "hidden_act": "gelu"}
SHARES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range")
# patch_type_vocab_size is read from the checkpoint; the others do not reach the network
PASSED_OVER = ("patch_type_vocab_size", "max_patch_position_embeddings", "directionality", "pooler_fc_size",
               "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head", "pooler_type")


def backbone_config(config: str | Path | Mapping[str, Any], type_rows: int = 0, fixed: Mapping[str, Any] = FIXED) -> dict[str, Any]:
    """The Backbone's arguments from a released config.json (or its content); type_rows: the checkpoint's; fixed: what must be so.

    Raises UserError for a missing size, an unknown key, or a level table other than the release's.
    """
    where = "config" if isinstance(config, Mapping) else str(config)
    values = config if isinstance(config, Mapping) else read_json(config)
    if not isinstance(values, Mapping):
        raise UserError(f"holds a {type(values).__name__}", where, "keys and values", "give a released config.json")
    known = {*SIZES, *OPTIONS, *MASKED, *FIXED, *PASSED_OVER}
    unknown, missing = sorted(set(values) - known), sorted(set(SIZES) - set(values))
    if unknown or missing:
        listing = "".join([*(f"\n  - {key}" for key in missing), *(f"\n  + {key}" for key in unknown)])
        raise UserError(f"the keys do not fit:{listing}\n(-: missing, +: unknown)", where, "a released config.json")
    for key in sorted({*SIZES, *OPTIONS, *MASKED} & set(values)):
        whole = isinstance(values[key], int) and not isinstance(values[key], bool)
        if not (whole and values[key] > 0 if key not in SHARES else whole or isinstance(values[key], float)):
            raise UserError(f"{key} is {values[key]!r}", where, "a number" if key in SHARES else "a whole number above 0")
    for key, value in fixed.items():
        if values.get(key, value) != value:
            raise UserError(f"{key} is {values[key]!r}", where, f"{value!r}, as in the release")
    arguments = {ours: values[key] for key, ours in (SIZES | OPTIONS).items() if key in values}
    masked = {level: values[key] for key, level in MASKED.items() if key in values}
    levels = [replace(level, num_masked=masked.get(level.name, level.num_masked)) for level in KALEIDO]
    return arguments | {"levels": levels, "patch_type_vocabulary_size": type_rows}


def config_json(backbone: Backbone) -> dict[str, Any]:
    """The config.json of a backbone with the release's levels.

    text_seq_len is ours; the released code keeps keys that it does not know and never looks at them.
    """
    masked = {level.name: level.num_masked for level in backbone.levels}
    values = {key: getattr(backbone, ours) for key, ours in (SIZES | OPTIONS).items()}
    values |= {key: masked[level] for key, level in MASKED.items()}
    fixed = {key: value for key, value in FIXED.items() if key != "hidden_act"}
    return values | fixed | {"patch_type_vocab_size": backbone.patch_type_vocabulary_size}


def beside(path: str | Path, names: Sequence[str]) -> Path | None:
    """The first of the files that lies in the folder of ``path``, or in the one above it."""
    folder = Path(path).absolute().parent
    return next((place / name for place in (folder, folder.parent) for name in names if (place / name).is_file()), None)


def vocabulary_sha256(path: str | Path, size: int) -> str:
    """The SHA-256 by which a bank made with this vocab.txt knows it: of its pieces, one a line.

    size: pieces that the model has. Raises UserError where the file is missing, is no text or has another number of them.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read ({error})", str(path), "a vocab.txt: one piece per line") from None
    pieces = [line.rstrip("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]
    if len(pieces) != size:
        raise UserError(f"has {len(pieces):,} pieces", str(path), f"the model's {size:,}", "give the vocab.txt it was made with")
    return hashlib.sha256("".join(f"{piece}\n" for piece in pieces).encode()).hexdigest()
