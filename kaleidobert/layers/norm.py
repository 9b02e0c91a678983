"""LayerNorm as the network uses it: alone, or behind dropout and a residual, in one go."""

import keras

from kaleidobert.layers import elementwise

NORM_EPSILON = 1e-12  # as released, in every LayerNorm


class Norm(keras.layers.Layer):
    """LayerNorm over the last axis, computed in float32: [..., H] -> [..., H]; of residual + dropout(inputs) where these are given.

    state, rate: of elementwise.dropout, drawn by a Dropout layer; without a state nothing is dropped.
    """

    def build(self, inputs_shape: tuple) -> None:
        size = inputs_shape[-1:]
        self.gamma = self.add_weight(size, "ones", autocast=False, name="gamma")
        self.beta = self.add_weight(size, "zeros", autocast=False, name="beta")

    def call(self, inputs, residual=None, state=None, rate: float = 0.0):
        if residual is None:
            return elementwise.layer_norm(inputs, *self._weights(), NORM_EPSILON)
        return elementwise.add_norm(inputs, residual, *self._weights(), NORM_EPSILON, state, rate)

    def _weights(self):
        return keras.ops.convert_to_tensor(self.gamma), keras.ops.convert_to_tensor(self.beta)
