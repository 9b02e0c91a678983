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


def grounding_loss(outputs, targets, weights):
    """(f32[], f32[]): what the attention of single words is trained on, each per asked piece of the batch.

    outputs: "cooccurrence_labels", "presence_labels" of the word grounder, logits to be added to the "cooccurrence_prior" and
    "presence_prior" of targets, which hold the truth under the same names; weights: what is asked (sampling.cooccurrence). Binary
    cross-entropies, summed over the words that could stand in the sentence, and over those that the text could hold.
    """
    number = ops.maximum(ops.sum(weights["cooccurrence_labels"]), 1.0)
    cooccurrence = (
        _binary(outputs["cooccurrence_labels"] + targets["cooccurrence_prior"], targets["cooccurrence_labels"])
        * weights["cooccurrence_labels"][..., None]
    )
    presence = _binary(outputs["presence_labels"] + targets["presence_prior"], targets["presence_labels"]) * weights["presence_labels"]
    return ops.sum(cooccurrence) / number, ops.sum(presence) / number


def attention_distillation(word_attention, alpha, weights):
    """f32[]: cross-entropy of the captioner's attention alpha [B, T, N] with where the words look by themselves, ``word_attention``
    [B, T, N]; the mean over the weighted pieces, f32[B, T]. No gradient passes through ``word_attention``."""
    found = -ops.sum(ops.stop_gradient(word_attention) * ops.log(alpha + 1e-8), -1)
    return ops.sum(found * weights) / ops.maximum(ops.sum(weights), 1.0)


def _binary(logits, truth):
    return ops.maximum(logits, 0.0) - logits * truth + ops.log1p(ops.exp(-ops.abs(logits)))
