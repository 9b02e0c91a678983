"""Objectives of the matching task when it is fine-tuned for retrieval.

pairwise and listwise compare one matching pair with its negatives: a batch has N lists of ``size`` pairs, list by list, the matching
pair first; logits [N * size, 2], labels int[N * size], 1 = matches. in_batch_contrastive compares all texts and pictures of a batch of
matching pairs.
"""

from collections.abc import Mapping
from typing import Any

from keras import ops

from kaleidobert.losses import contrastive
from kaleidobert.losses.pretraining import cross_entropy
from kaleidobert.specs import Tensor


def pairwise(logits: Tensor, labels: Tensor, size: int) -> Tensor:
    """Computes f32[]: two-way cross-entropy, in which the matching pair of a list weighs as much as its negatives together."""
    losses = ops.reshape(cross_entropy(logits, labels), (-1, size))
    return 0.5 * (ops.mean(losses[:, 0]) + ops.mean(losses[:, 1:]))


def listwise(logits: Tensor, labels: Tensor, size: int) -> Tensor:
    """Computes f32[]: softmax cross-entropy over the pairs of a list on logit[1], the score that ranks."""
    scores = ops.reshape(ops.cast(logits[:, 1], "float32"), (-1, size))
    return ops.mean(ops.logsumexp(scores, axis=1) - scores[:, 0])


def in_batch_contrastive(outputs: Mapping[str, Any], comparable: Tensor) -> Tensor:
    """Computes f32[]: softmax cross-entropy of every picture over the batch's texts and of every text over its pictures, the mean of both.

    outputs: "text_side", "picture_side" [B, W]; row i of one matches row i of the other. comparable f32[B, B]: 0 for pairs that are no
    negatives, such as two products with one text.
    """
    return ops.mean(contrastive.in_batch(outputs["text_side"], outputs["picture_side"], 1.0 - comparable))


OBJECTIVES = {"pairwise": pairwise, "listwise": listwise}
