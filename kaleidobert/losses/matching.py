"""Objectives of the matching task when it is fine-tuned for retrieval, over lists of one right pair and its wrong ones."""

from keras import ops

from kaleidobert.losses.classification import cross_entropy


def pair(logits, targets, size: int):
    """Two-way cross-entropy of [N * size, 2] logits, right and wrong pairs of a list weighing the same in total."""
    losses = ops.reshape(cross_entropy(logits, targets), (-1, size))
    return 0.5 * (ops.mean(losses[:, 0]) + ops.mean(losses[:, 1:]))


def listwise(logits, targets, size: int):
    """Softmax over the ``size`` pairs of a list on logit[1], the score that ranks: [N * size, 2] -> scalar.

    The right pair stands first in its list; ``targets`` (1 = right) are not needed.
    """
    scores = ops.reshape(ops.cast(logits[:, 1], "float32"), (-1, size))
    return ops.mean(ops.logsumexp(scores, axis=1) - scores[:, 0])


OBJECTIVES = {"pair": pair, "list": listwise}
