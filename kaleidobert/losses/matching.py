"""Objectives of the matching task when it is fine-tuned for retrieval.

pair, listwise: over lists of one right pair and its wrong ones. A batch holds N lists of ``size`` pairs, list by list, the right pair
first. logits [N * size, 2]; labels int[N * size], 1 = right. in_batch_contrastive: over all texts and pictures of a batch of right pairs.
"""

from collections.abc import Mapping
from typing import Any

from keras import ops

from kaleidobert.losses.classification import cross_entropy
from kaleidobert.specs import Tensor


def pairwise(logits: Tensor, labels: Tensor, size: int) -> Tensor:
    """Two-way cross-entropy, the right pair of a list weighing as much as its wrong ones together; a scalar."""
    losses = ops.reshape(cross_entropy(logits, labels), (-1, size))
    return 0.5 * (ops.mean(losses[:, 0]) + ops.mean(losses[:, 1:]))


def listwise(logits: Tensor, labels: Tensor, size: int) -> Tensor:
    """Softmax over the pairs of a list on logit[1], the score that ranks; a scalar."""
    scores = ops.reshape(ops.cast(logits[:, 1], "float32"), (-1, size))
    return ops.mean(ops.logsumexp(scores, axis=1) - scores[:, 0])


def in_batch_contrastive(outputs: Mapping[str, Any], open_: Tensor) -> Tensor:
    """Softmax of every picture over the batch's texts and of every text over its pictures, the mean of both; a scalar.

    outputs: "text_side", "picture_side" [B, W], of which row i belongs to row i. open_ f32[B, B]: 0 where a pair is to be passed over.
    """
    text, picture = outputs["text_side"], outputs["picture_side"]
    right = ops.sum(picture * text, axis=-1)
    closed = 1e9 * (1.0 - open_)
    over_texts = ops.logsumexp(ops.matmul(picture, ops.transpose(text)) - closed, axis=1)
    over_pictures = ops.logsumexp(ops.matmul(text, ops.transpose(picture)) - ops.transpose(closed), axis=1)
    return 0.5 * ops.mean(over_texts + over_pictures - 2.0 * right)


OBJECTIVES = {"pairwise": pairwise, "listwise": listwise}
