"""The loss of the foreground network, pure keras.ops."""

from keras import ops


def cross_entropy_and_dice(truth, logits):
    """Per picture f32[B]: mean binary cross entropy plus 1 - Dice (soft overlap), from [B, h, w, 1] both.

    The cross entropy settles every pixel; Dice keeps small products from drowning in background.
    """
    truth = ops.cast(truth, logits.dtype)
    axes = (1, 2, 3)
    entropy = ops.mean(ops.maximum(logits, 0) - logits * truth + ops.log1p(ops.exp(-ops.abs(logits))), axes)
    share = ops.sigmoid(logits)
    overlap = (2 * ops.sum(share * truth, axes) + 1) / (ops.sum(share, axes) + ops.sum(truth, axes) + 1)
    return entropy + 1 - overlap
