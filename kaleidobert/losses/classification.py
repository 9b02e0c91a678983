"""Cross-entropy per element."""

from keras import ops


def cross_entropy(logits, labels):
    """-log softmax(logits)[label], in nats and float32: logits [..., C], labels int[...] -> [...].

    A label outside 0..C-1 gives 0, as released: there it still counts in the mean.
    """
    logits = ops.cast(logits, "float32")
    chosen = ops.one_hot(labels, logits.shape[-1], dtype="float32")
    return -ops.sum(chosen * ops.log_softmax(logits, axis=-1), axis=-1)
