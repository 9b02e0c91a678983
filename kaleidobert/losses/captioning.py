"""The captioner's losses: cross-entropy of the next piece and doubly stochastic attention (Xu et al., 2015), and what ties words to
places (ours)."""

from keras import ops


def cross_entropy(logits, pieces, weights):
    """f32[]: mean over the weighted pieces; logits [B, T, V], pieces i32[B, T], weights f32[B, T]."""
    chances = ops.log_softmax(ops.cast(logits, "float32"))
    found = ops.take_along_axis(chances, pieces[..., None], -1)[..., 0]
    return -ops.sum(found * weights) / ops.maximum(ops.sum(weights), 1.0)


def coverage(alpha, weights):
    """f32[]: mean over pictures and cells of (1 - N / L * sum over the caption's L pieces of alpha)^2; alpha [B, T, N].

    0 where all cells got the same attention over the caption. The paper asks for sums of 1 from L pieces over N cells, which is
    within reach only where L = N; N / L makes it so for every length and grid.
    """
    lengths = ops.maximum(ops.sum(weights, 1), 1.0)
    sums = ops.sum(alpha * weights[..., None], 1) * (alpha.shape[-1] / lengths[:, None])
    return ops.mean(ops.square(1.0 - sums))


def telling(outputs, targets, weights):
    """(f32[], f32[], f32[]): what the attention of single words is trained on, each per asked piece of the batch.

    outputs: "told", "held" of the captioner, logits to be added to the "told_prior", "held_prior" of targets; "told", "held" of
    targets: the truth; of weights: what is asked (datasets.companions). The first two are binary cross-entropies, summed over
    the words that could stand in the sentence and those that the text could hold. The third holds "alpha" to "looked", where the
    word looks by itself, by cross-entropy; no gradient passes through "looked".
    """
    asked = weights["told"]
    number = ops.maximum(ops.sum(asked), 1.0)
    told = _binary(outputs["told"] + targets["told_prior"], targets["told"]) * asked[..., None]
    held = _binary(outputs["held"] + targets["held_prior"], targets["held"]) * weights["held"]
    apart = -ops.sum(ops.stop_gradient(outputs["looked"]) * ops.log(outputs["alpha"] + 1e-8), -1) * asked
    return ops.sum(told) / number, ops.sum(held) / number, ops.sum(apart) / number


def _binary(logits, truth):
    return ops.maximum(logits, 0.0) - logits * truth + ops.log1p(ops.exp(-ops.abs(logits)))
