"""Objectives of the matching task when it is fine-tuned for retrieval.

pairwise and listwise compare one matching pair with its negatives: a batch has N lists of ``size`` pairs, list by list, the matching
pair first; logits [N * size, 2], labels int[N * size], 1 = matches. losses/contrastive.py compares all texts and pictures of a batch.
"""

from keras import ops

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


OBJECTIVES = {"pairwise": pairwise, "listwise": listwise}
