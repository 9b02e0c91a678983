"""What every array that travels through the system looks like, derived from the level table.

Letters: B batch, T tokens, P patches, F feature, M masked tokens, k masked patches of a level, K masked patches of all
"feature" levels, C classes, V vectors stored per picture.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kaleidobert import levels as kaleido
from kaleidobert.errors import UserError
from kaleidobert.levels import KaleidoLevel

Tensor = Any  # an array of the backend at hand, or what stands for one while a network is put together
SCALE = "_scale"  # name + SCALE: the scales of features that are stored as uint8
TEXT = ("token_ids", "segment_ids", "token_mask")
ALONG_TEXT = (*TEXT, "predict_positions", "pieces")  # axis 1 of these is cut to the longest text
ALONG_CAPTION = (
    "pieces",
    "next_tokens",
    "cooccurrence_labels",
    "cooccurrence_prior",
    "content_mask",
)  # the same, of what the alignment generator learns from


@dataclass(frozen=True)
class Part:
    """A described part of a product and where it is: box = (x1, y1, x2, y2) in pixels, x2 and y2 exclusive."""

    word: str
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Spec:
    """shape: sizes, or letters where the size is free; dtype: numpy name; meaning: one line for people."""

    shape: tuple[int | str, ...]
    dtype: str
    meaning: str


def record(levels: Sequence[KaleidoLevel], text_length: int, feature_size: int, storage: str = "float16") -> dict[str, Spec]:
    """Describes one picture with its text, as the bank stores it; storage: of the features, float16 or uint8."""
    patches, vectors = kaleido.num_patches(levels), kaleido.num_vectors(levels)
    return {
        **_features("vectors", (vectors, feature_size), storage, "features of all patches in all views, level by level, view-major"),
        "token_ids": Spec((text_length,), "int32", "[CLS] text [SEP], then padding"),
        "token_words": Spec((text_length,), "int16", "index of the word a piece belongs to; -1 for special tokens and padding"),
        "boxes": Spec((patches, 5), "float32", "x1, x2, y1, y2, area of each patch as fractions of the picture"),
    }


def inputs(levels: Sequence[KaleidoLevel], text_length: int, feature_size: int, max_masked: int = 0,
           storage: str = "float16") -> dict[str, Spec]:
    """Describes what the model reads; the masked positions only for pre-training (max_masked > 0)."""
    patches = kaleido.num_patches(levels)
    specs = {
        "token_ids": Spec(("B", text_length), "int32", "word pieces, some replaced by [MASK] or a random piece"),
        "segment_ids": Spec(("B", text_length), "int32", "0: one sentence"),
        "token_mask": Spec(("B", text_length), "bool", "True for real tokens"),
        **_features("patch_features", ("B", patches, feature_size), storage, "spoiled features; the model casts"),
        "patch_boxes": Spec(("B", patches, 5), "float32", "boxes of the slots, never moved"),
    }
    if max_masked:
        count = sum(level.num_masked for level in kaleido.feature_levels(levels))
        specs["masked_tokens"] = Spec(("B", max_masked), "int32", "text positions to predict, 0 where unused")
        specs["masked_patches"] = Spec(("B", count), "int32", "grey and blank positions on the patch axis, in level order")
    return specs


def targets(levels: Sequence[KaleidoLevel], feature_size: int, max_masked: int, storage: str = "float16",
            contrastive: bool = False) -> dict[str, Spec]:
    """Describes what the model predicts; the weights have the same keys, [B, M] for mlm and [B] for the others.

    contrastive: with what image-text contrast needs.
    """
    specs = {
        "mlm": Spec(("B", max_masked), "int32", "the true pieces at masked_tokens"),
        "itm": Spec(("B",), "int32", "1 = the text belongs to the picture"),
    }
    if contrastive:
        specs["itc"] = Spec(("B", 5), "int32", "groups of picture and text, numbers of the own text and of the text, place of the own")
    for level in kaleido.target_levels(levels):
        if level.answer == "class":
            specs[level.name] = Spec(("B",), "int32", f"one of {level.num_classes} classes of {level.pretext!r}")
        else:
            specs |= _features(level.name, ("B", level.num_masked, feature_size), storage, "the original features of the masked patches")
    return specs


def check(arrays: Mapping[str, np.ndarray], specs: Mapping[str, Spec], where: str) -> None:
    """Raises UserError where an array is missing, unexpected or of another shape or type; quotes both sides."""
    missing, unexpected = sorted(set(specs) - set(arrays)), sorted(set(arrays) - set(specs))
    if missing or unexpected:
        raise UserError(f"missing {missing}, unexpected {unexpected}", where, f"exactly {sorted(specs)}")
    for name, spec in specs.items():
        array = arrays[name]
        same = len(array.shape) == len(spec.shape) and all(
            isinstance(want, str) or want == have for want, have in zip(spec.shape, array.shape))
        if not same or array.dtype != np.dtype(spec.dtype):
            raise UserError(f"{name} is {array.dtype}{list(array.shape)}", where, f"{spec.dtype}{list(spec.shape)} ({spec.meaning})")


def _features(name: str, shape: tuple[int | str, ...], storage: str, meaning: str) -> dict[str, Spec]:
    if storage == "float16":
        return {name: Spec(shape, "float16", meaning)}
    return {name: Spec(shape, "uint8", f"{meaning}; to be multiplied by {name}{SCALE}"),
            name + SCALE: Spec(shape[:-1], "float32", f"the scales of {name}")}
