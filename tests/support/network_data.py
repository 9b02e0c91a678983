"""Shared by the tests of the network: level tables, small models and a random batch for them."""

import numpy as np

from kaleidobert import levels as kaleido
from kaleidobert.levels import KALEIDO, KaleidoLevel
from kaleidobert.model_zoo.kaleidobert import Backbone

TABLES = {
    "kaleido": KALEIDO,
    "two": (KaleidoLevel("grey", 2, "grey", num_masked=2), KaleidoLevel("turn", 1, "rotate")),
    "six": (*KALEIDO, KaleidoLevel("fine", 6, "blank", num_masked=4)),
    "renamed": (KaleidoLevel("label", 2, "shuffle"), KaleidoLevel("text", 3, "camouflage", num_masked=1, weight=0.5),
                KaleidoLevel("head_mlm", 2, "blank", num_masked=4)),
    "classes": (KaleidoLevel("whole", 1, "rotate"),),
}
SIZES = {"feature_size": 12, "vocabulary_size": 50, "text_length": 8, "hidden_size": 16, "num_layers": 2, "num_heads": 4,
         "intermediate_size": 24, "max_positions": 10}


def backbone(table: str = "two", **changes) -> Backbone:
    return Backbone(TABLES[table], **SIZES | changes)


def batch(table: str, rows: int = 3, seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    """inputs, targets and weights for a Pretrainer; the last row has no padding, the first one real token."""
    levels, rng = TABLES[table], np.random.Generator(np.random.Philox(seed))
    length, size, patches = SIZES["text_length"], SIZES["feature_size"], kaleido.num_patches(TABLES[table])
    real = np.linspace(1, length, rows).astype(int)
    slices = kaleido.patch_slices(levels)
    masked = [np.stack([rng.permutation(level.num_patches)[: level.num_masked] + slices[level.name].start for _ in range(rows)])
              for level in kaleido.feature_levels(levels)]
    inputs = {"token_ids": rng.integers(0, SIZES["vocabulary_size"], (rows, length)).astype(np.int32),
              "segment_ids": rng.integers(0, 2, (rows, length)).astype(np.int32),
              "token_mask": np.arange(length) < real[:, None],
              "patch_features": rng.random((rows, patches, size)).astype(np.float16),
              "patch_boxes": rng.random((rows, patches, 5)).astype(np.float32),
              "masked_tokens": rng.integers(0, length, (rows, 2)).astype(np.int32)}
    if masked:
        inputs["masked_patches"] = np.concatenate(masked, 1).astype(np.int32)
    targets = {"mlm": rng.integers(0, SIZES["vocabulary_size"], (rows, 2)), "itm": rng.integers(0, 2, rows)}
    for level in levels:
        targets[level.name] = rng.integers(0, level.num_classes, rows) if level.answer == "class" \
            else rng.random((rows, level.num_masked, size)).astype(np.float16)
    weights = {task: np.ones(target.shape[: 2 if task == "mlm" else 1], np.float32) for task, target in targets.items()}
    return {"inputs": inputs, "targets": targets, "weights": weights}
