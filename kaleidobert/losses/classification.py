"""Cross-entropy per element, and its mean over weighted ones."""

from keras import ops

from kaleidobert.specs import Tensor


def cross_entropy(logits, labels):
    """-log softmax(logits)[label], in nats and float32: logits [..., C], labels int[...] -> [...].

    A label outside 0..C-1 gives 0, as released: there it still counts in the mean.
    """
    logits = ops.cast(logits, "float32")
    chosen = ops.one_hot(labels, logits.shape[-1], dtype="float32")
    return -ops.sum(chosen * ops.log_softmax(logits, axis=-1), axis=-1)


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor, smoothing: float = 0.0, over: Tensor | None = None) -> Tensor:
    """f32[]: sum(w * ce) / over, which is max(sum(w), 1) unless it is given, of logits [..., C], labels int[...], weights f32[...].

    smoothing: the share of the truth that is spread evenly over all classes (Szegedy et al., 2016).
    """
    found = cross_entropy(logits, labels)
    if smoothing:
        evenly = -ops.mean(ops.log_softmax(ops.cast(logits, "float32"), axis=-1), axis=-1)
        found = (1 - smoothing) * found + smoothing * evenly
    return ops.sum(found * weights) / (ops.maximum(ops.sum(weights), 1.0) if over is None else over)
