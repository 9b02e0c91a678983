"""Google's BERT as the start of pre-training: its text part, everything else drawn anew.

The next-sentence head (cls/seq_relationship) is left out: its label 0 means "is next" where ours means "no match", so that it would
start with the answer turned round, and it judged a second sentence, which ours never sees.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kaleidobert.levels import KaleidoLevel
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.backbone import Backbone
from kaleidobert.model_zoo.kaleidobert import Pretrainer
from kaleidobert.released import checkpoints as released
from kaleidobert.released.config import backbone_config
from kaleidobert.released.names import text_names

CONFIGS = ("bert_config.json", "config.json")
MASKED_WORDS = "head_mlm/"


def start(prefix: str | Path, config: str | Path, levels: Sequence[KaleidoLevel], feature_size: int,
          seed: int, standardise_features: bool = False) -> tuple[Pretrainer, list[str]]:
    """(a Pretrainer for these levels and features, what did not come from BERT and what of it was left out, a line each).

    prefix: a TensorFlow 1 checkpoint with Google's names; config: its bert_config.json. A BERT without cls/predictions, as after
    fine-tuning, leaves the head of masked words fresh. Raises UserError that lists what is missing (-) or misshapen (-, +).
    """
    stored = released.open_weights(prefix)
    arguments = backbone_config(config, fixed={"hidden_act": "gelu"})
    model = Pretrainer(Backbone.from_config(arguments | {"levels": levels, "feature_size": feature_size, "seed": seed,
                                                    "standardise_features": standardise_features}))
    names = text_names(model.backbone.num_layers)
    heads = {path: name for path, name in names.items() if path.startswith(MASKED_WORDS)}
    if not any(name.bare in stored for name in heads.values()):
        names = {path: name for path, name in names.items() if path not in heads}
    weights = {weight.path: weight for weight in model.weights}
    wanted = {name.bare: np.broadcast_to(np.float32(0), weights[path].shape) for path, name in names.items()}
    found = {name: array for name, array in stored.items() if name in wanted}
    blocks = {name: array for name, array in stored.items() if name.startswith("bert/encoder/")}  # a deeper BERT is another one
    checkpoints.fit(wanted, found | blocks, str(prefix), "check that the bert_config.json belongs to this checkpoint")
    for path, name in names.items():
        weights[path].assign(stored[name.bare].load())
    lines = [f"- {path} {list(weight.shape)}: not in BERT, " + (f"drawn from seed {seed}" if weight.trainable else
             "measured by the run that starts from it") for path, weight in weights.items() if path not in names]
    lines += [f"+ {name} {list(array.shape)}: left out" for name, array in stored.items() if name not in wanted]
    return model, lines
