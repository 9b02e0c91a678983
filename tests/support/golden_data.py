"""Shared by the parity tests: what the released code computed, as our models take it, and gradients on every backend."""

import os
from pathlib import Path

import keras
import numpy as np
import pytest

SHARED = Path(os.environ.get("KALEIDO_SHARED", Path(__file__).resolve().parents[3] / "shared"))
GOLDEN = SHARED / "golden"
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"the golden data is not in {GOLDEN} (KALEIDO_SHARED)")
LOGITS = 2e-5  # tolerances that come with the golden data: absolute for logits and sequence output; losses 1e-5 relative or 2e-5 absolute
WEIGHTS = 1e-5  # likewise, absolute, for weights after three steps
LEVELS = (("rotation", 1), ("jigsaw", 4), ("camouflage", 9), ("grey_mask", 16), ("blank_mask", 25))
GREY, BLANK = 14, 30  # where the two levels begin on the patch axis


def load(folder: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / folder / "golden.npz") as file:
        return dict(file)


def inputs(golden: dict[str, np.ndarray], prefix: str, zero: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """The backbone's inputs. zero: [B, 3] blank patches, whose features the released model multiplies by 1 - sum(one_hot)."""
    def column(name):
        return golden[prefix + name]

    batch = len(column("input_ids"))
    features = {level: column(f"img_feature_convert_{level}").reshape(batch, count, -1) for level, count in LEVELS}
    if zero is not None:
        features["blank_mask"] = features["blank_mask"] * (1 - np.eye(25, dtype=np.float32)[zero].sum(1))[:, :, None]
    boxes = [column(f"img_loc_position_{level}").reshape(batch, count, 5) for level, count in LEVELS]
    return {"token_ids": column("input_ids"), "segment_ids": column("segment_ids"), "token_mask": column("input_mask"),
            "patch_features": np.concatenate(list(features.values()), 1),
            "patch_boxes": np.concatenate(boxes, 1).astype(np.float32)}


def pretraining(golden: dict[str, np.ndarray], blank_ids: str = "in.img_blank_lm_ids") -> dict[str, dict[str, np.ndarray]]:
    """inputs, targets and weights of the pre-training batch, as in training and evaluation."""
    blank, batch = golden[blank_ids], len(golden["in.input_ids"])
    raw = golden["in.img_feature_convert_blank_mask"].reshape(batch, 25, -1)
    masked = {"masked_tokens": golden["in.masked_lm_positions"],
              "masked_patches": np.concatenate([golden["in.img_grey_lm_ids"] + GREY, blank + BLANK], 1)}
    targets = {"mlm": golden["in.masked_lm_ids"], "itm": golden["in.nx_sent_labels"][:, 0],
               "rotation": golden["in.img_rotate_gt"][:, 0], "jigsaw": golden["in.img_jigsaw_gt"][:, 0],
               "camouflage": golden["in.img_camouflage_gt"][:, 0],
               "grey": golden["in.img_grey_mask_gt"].reshape(batch, 2, -1),
               "blank": np.take_along_axis(raw, blank[:, :, None], 1)}
    weights = {task: np.ones(batch, np.float32) for task in targets} | {"mlm": golden["in.masked_lm_weights"]}
    return {"inputs": inputs(golden, "in.", blank) | masked, "targets": targets, "weights": weights}


def gradients(model: keras.Model, objective, often: bool = False):
    """A function () -> (value, gradients) of objective(), which reads the model's trainable variables.

    often: worth compiling where that is a choice.
    """
    variables = model.trainable_variables
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        def run():
            with tf.GradientTape() as tape:
                value = objective()
            return value, tape.gradient(value, variables)

        return tf.function(run) if often else run
    if keras.backend.backend() == "torch":
        import torch

        def by_autograd():
            with torch.enable_grad():
                value = objective()
                return value.detach(), torch.autograd.grad(value, [variable.value for variable in variables], allow_unused=True)

        return by_autograd
    import jax

    @jax.jit
    def value_and_gradients(values, others):
        def apply(values):
            mapping = [*zip(variables, values), *zip(model.non_trainable_variables, others)]
            with keras.StatelessScope(state_mapping=mapping):
                return objective()

        return jax.value_and_grad(apply)(values)

    return lambda: value_and_gradients([v.value for v in variables], [v.value for v in model.non_trainable_variables])


def close(actual, expected, absolute: float, relative: float = 0.0, what: str = "") -> None:
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=relative, atol=absolute, err_msg=what)
