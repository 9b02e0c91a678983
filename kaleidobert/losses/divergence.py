"""The loss of masked patches: KL divergence between softmaxed features (paper, section 3.3)."""

from keras import ops

SMALLEST = 1e-7  # as released: both distributions are clipped to [SMALLEST, 1]


def kl(logits, features, joint: bool = False):
    """KL(softmax(features) || softmax(logits)) per patch, in nats and float32: both [..., k, F] -> [..., k].

    joint: as the release does with grey patches, the softmax of the true features runs over all k*F at once. A patch's
    target then sums to about 1/k and the value, no longer a divergence, may be negative.
    """
    logits, features = ops.cast(logits, "float32"), ops.cast(features, "float32")
    rank = len(features.shape)
    axis = (rank - 2, rank - 1) if joint else -1  # counted from the front: Keras mistakes several counted from the end
    target = ops.clip(ops.softmax(features, axis=axis), SMALLEST, 1.0)
    predicted = ops.clip(ops.softmax(logits, axis=-1), SMALLEST, 1.0)
    return ops.sum(target * (ops.log(target) - ops.log(predicted)), axis=-1)
