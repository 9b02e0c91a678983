"""Losses of the networks beside the transformer.

The captioner: cross-entropy of the next token, and doubly stochastic attention (Xu et al., 2015). The word grounder, and what ties the
captioner's attention to it (ours). The foreground network.
"""

from keras import ops


def caption_cross_entropy(logits, pieces, weights):
    """Computes f32[]: the mean over the weighted pieces; logits [B, T, V], pieces i32[B, T], weights f32[B, T]."""
    log_probabilities = ops.log_softmax(ops.cast(logits, "float32"))
    of_pieces = ops.take_along_axis(log_probabilities, pieces[..., None], -1)[..., 0]
    return -ops.sum(of_pieces * weights) / ops.maximum(ops.sum(weights), 1.0)


def coverage(alpha, weights):
    """Computes f32[]: the mean over pictures and cells of (1 - N / L * sum over the caption's L pieces of alpha)^2; alpha [B, T, N].

    It is 0 where all cells have the same attention over the caption. The paper wants sums of 1 from L pieces over N cells, which is
    possible only where L = N; the factor N / L makes it possible for every length and grid.
    """
    lengths = ops.maximum(ops.sum(weights, 1), 1.0)
    sums = ops.sum(alpha * weights[..., None], 1) * (alpha.shape[-1] / lengths[:, None])
    return ops.mean(ops.square(1.0 - sums))


def grounding_loss(outputs, targets, weights):
    """Computes (co-occurrence, presence), f32[] each, per predicted piece: what the attention of single words is trained on.

    outputs: "cooccurrence_labels", "presence_labels" of the word grounder, logits that are added to the "cooccurrence_prior" and
    "presence_prior" of targets; targets has the labels under the names of the outputs, weights says which of them count
    (datasets/sampling/captions.py). Binary cross-entropies: summed over the words that could stand in the sentence, and over those that the
    text could have.
    """
    number = ops.maximum(ops.sum(weights["cooccurrence_labels"]), 1.0)
    cooccurrence = (
        _binary(outputs["cooccurrence_labels"] + targets["cooccurrence_prior"], targets["cooccurrence_labels"])
        * weights["cooccurrence_labels"][..., None]
    )
    presence = _binary(outputs["presence_labels"] + targets["presence_prior"], targets["presence_labels"]) * weights["presence_labels"]
    return ops.sum(cooccurrence) / number, ops.sum(presence) / number


def presence_loss(logits, labels):
    """Computes f32[]: the binary cross-entropy of logits [B, M, V] of M members with labels f32[B, V], the mean over pictures of the sum
    over members and terms (ours)."""
    return ops.mean(ops.sum(_binary(logits, labels[:, None]), (1, 2)))


def attention_distillation(word_attention, alpha, weights):
    """Computes f32[]: the cross-entropy of the captioner's attention alpha [B, T, N] with that of single words, word_attention [B, T, N].

    It is the mean over the weighted pieces, f32[B, T]. No gradient passes through ``word_attention``.
    """
    losses = -ops.sum(ops.stop_gradient(word_attention) * ops.log(alpha + 1e-8), -1)
    return ops.sum(losses * weights) / ops.maximum(ops.sum(weights), 1.0)


def _binary(logits, labels):
    return ops.maximum(logits, 0.0) - logits * labels + ops.log1p(ops.exp(-ops.abs(logits)))


def cross_entropy_and_dice(truth, logits):
    """Computes f32[B], per picture: the mean binary cross entropy plus 1 - Dice (soft overlap), from [B, h, w, 1] both.

    The cross entropy is about every pixel; Dice keeps small products from having no weight beside the background.
    """
    truth = ops.cast(truth, logits.dtype)
    axes = (1, 2, 3)
    entropy = ops.mean(ops.maximum(logits, 0) - logits * truth + ops.log1p(ops.exp(-ops.abs(logits))), axes)
    probability = ops.sigmoid(logits)
    overlap = (2 * ops.sum(probability * truth, axes) + 1) / (ops.sum(probability, axes) + ops.sum(truth, axes) + 1)
    return entropy + 1 - overlap
