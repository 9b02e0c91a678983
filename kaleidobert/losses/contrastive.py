"""Image-text contrast within a batch: every picture is compared with all texts, and every text with all pictures."""

from keras import ops

from kaleidobert.specs import Tensor


def in_batch(sides: Tensor, identity: Tensor) -> Tensor:
    """Computes f32[B]: the softmax cross-entropies of picture i over the texts and of its own text over the pictures, their mean.

    sides f32[B, 2, W]: text i and picture i; identity int[B, 5]: at which place a picture's own text stands, -1 = nowhere, where the result
    is 0; and what is no negative, such as two products with one text (``related``).
    """
    text, picture = sides[:, 0], sides[:, 1]
    own = ops.cast(ops.equal(identity[:, 4][:, None], ops.arange(ops.shape(sides)[0])), "float32")
    scores = ops.matmul(picture, ops.transpose(text)) - 1e9 * ops.cast(related(identity), "float32") * (1.0 - own)
    of_texts = ops.sum(own * ops.logsumexp(scores, axis=0), axis=1)
    return 0.5 * (ops.logsumexp(scores, axis=1) * ops.sum(own, axis=1) + of_texts) - ops.sum(own * scores, axis=1)


def related(identity: Tensor) -> Tensor:
    """Computes bool[B, B]: whether picture i and text j have one group, or picture i's own text is text j.

    identity int[B, 5]: group of the picture, group of the text, number of the picture's own text, number of the text; the place is unused.
    """
    columns = [identity[:, column] for column in range(4)]
    return ops.logical_or(ops.equal(columns[0][:, None], columns[1]), ops.equal(columns[2][:, None], columns[3]))
