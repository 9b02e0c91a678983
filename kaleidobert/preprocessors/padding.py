"""Texts of a batch cut to the longest of them: padding that no text needs is not computed.

The network answers the same with and without (layers.encoder hides padding from attention), so this changes speed only.
"""

from collections.abc import Mapping

import numpy as np

from kaleidobert.preprocessors.examples import Arrays
from kaleidobert.specs import TEXT

MULTIPLE = 8  # lengths are rounded up to its multiples: few shapes to compile, and products of even sizes


def longest(token_mask: np.ndarray, multiple: int = MULTIPLE) -> int:
    """Up to which position [B, T] has real tokens, rounded up to ``multiple``, at most T; B may be that of a larger batch."""
    found = np.flatnonzero(np.asarray(token_mask).any(0))
    needed = int(found[-1]) + 1 if len(found) else 1
    return min(-(-needed // multiple) * multiple, token_mask.shape[1])


def trimmed(inputs: Mapping[str, np.ndarray], multiple: int = MULTIPLE, length: int = 0) -> Arrays:
    """The same inputs with token_ids, segment_ids and token_mask [B, T] cut to [B, T'].

    T' is ``longest`` of this batch, or ``length`` where that is given: parts of one batch must be cut alike. The arrays are views.
    """
    length = length or longest(inputs["token_mask"], multiple)
    return {name: array[:, :length] if name in TEXT else array for name, array in inputs.items()}


def trimmed_captions(inputs: Arrays, targets: Arrays, weights: Arrays) -> tuple[Arrays, Arrays, Arrays]:
    """``trimmed`` for a captioner, whose k-th question is about piece k + 1 of the text (datasets.CaptionTaskSampler): those behind the
    longest text, which have no weight, are not asked."""
    inputs = trimmed(inputs)
    asked = inputs["token_mask"].shape[1] - 1
    return ({**inputs, "predict_positions": inputs["predict_positions"][:, :asked]}, {**targets, "pieces": targets["pieces"][:, :asked]},
            {**weights, "pieces": weights["pieces"][:, :asked]})
