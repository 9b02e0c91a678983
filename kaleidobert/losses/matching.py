"""Objectives of the matching task when it is fine-tuned for retrieval, over lists of one right pair and its wrong ones.

A batch holds N lists of ``size`` pairs, list by list, the right pair first. outputs: logits "itm" [N * size, 2] and, for
``contrast``, "text_side" and "picture_side" [N * size, H]. targets: "itm" (1 = right), "open_texts" and "open_pictures"
[N, N * size]: 1 where a text or picture of the batch is a fair answer to a list's right pair, 0 where it is related to it (the
same group or text) without being its own.
"""

from collections.abc import Mapping
from typing import Any

from keras import ops

from kaleidobert.losses.classification import cross_entropy


def pair(outputs: Mapping[str, Any], targets: Mapping[str, Any], size: int):
    """Two-way cross-entropy, the right pair of a list weighing as much as its wrong ones together; a scalar."""
    losses = ops.reshape(cross_entropy(outputs["itm"], targets["itm"]), (-1, size))
    return 0.5 * (ops.mean(losses[:, 0]) + ops.mean(losses[:, 1:]))


def listwise(outputs: Mapping[str, Any], targets: Mapping[str, Any], size: int):
    """Softmax over the pairs of a list on logit[1], the score that ranks; a scalar."""
    scores = ops.reshape(ops.cast(outputs["itm"][:, 1], "float32"), (-1, size))
    return ops.mean(ops.logsumexp(scores, axis=1) - scores[:, 0])


def contrast(outputs: Mapping[str, Any], targets: Mapping[str, Any], size: int):
    """listwise, plus a softmax of every right picture over all texts of the batch and of every right text over all pictures."""
    text, picture = outputs["text_side"], outputs["picture_side"]
    both = _softmax_over(picture[::size], text, targets["open_texts"], size) + _softmax_over(
        text[::size], picture, targets["open_pictures"], size)
    return listwise(outputs, targets, size) + 0.5 * both


def _softmax_over(asked, offered, fair, size: int):
    """asked [N, H], offered [N * size, H], fair [N, N * size]; the right answer of row i is column i * size."""
    scores = ops.matmul(asked, ops.transpose(offered)) - 1e9 * (1.0 - ops.cast(fair, "float32"))  # [N, N * size]
    right = ops.sum(asked * offered[::size], axis=-1)
    return ops.mean(ops.logsumexp(scores, axis=1) - right)


OBJECTIVES = {"pair": pair, "list": listwise, "contrast": contrast}
