"""Products of rows: of arrays with two axes, whatever shape the owner thinks in."""

import keras
from keras import ops


def rows(inputs):
    """[..., H] -> [N, H].

    A bias, a sum or GELU directly behind a product of two axes is computed along with it by TensorFlow, which does not see them
    behind a reshape; or does, and of one row with one column of three axes makes two (its graph optimiser, 2.21).
    """
    return ops.reshape(inputs, (-1, inputs.shape[-1]))


def products(one, other):
    """[N, H], [V, H] -> [N, V]: of every row with every row.

    Keras's product of a transposed array has a gradient that is computed the other way round and then copied into place, which for a
    vocabulary takes as long as a block of the encoder.
    """
    if keras.backend.backend() != "tensorflow":
        return ops.matmul(one, ops.transpose(other))
    from kaleidobert.layers import fusion_tensorflow

    return fusion_tensorflow.products(one, other)


def trained_product(inputs, kernel):
    """[N, H], [H, M] -> [N, M], with a gradient that is made for M several times H."""
    if keras.backend.backend() != "tensorflow":
        return ops.matmul(inputs, kernel)
    from kaleidobert.layers import fusion_tensorflow

    return fusion_tensorflow.trained_product(inputs, kernel)
