"""LayerNorm as the network uses it: alone, or behind dropout and a residual, in one go."""

import keras
from keras import ops

from kaleidobert.layers import elementwise
from kaleidobert.specs import Tensor

NORM_EPSILON = 1e-12  # as released, in every LayerNorm


class Norm(keras.layers.Layer):
    """LayerNorm over the last axis, computed in float32: [..., H] -> [..., H]; of residual + dropout(inputs + bias) where these are
    given.

    state, rate: of elementwise.dropout, drawn by a Dropout layer; without a state nothing is dropped.
    """

    def build(self, inputs_shape: tuple) -> None:
        size = inputs_shape[-1:]
        self.gamma = self.add_weight(size, "ones", autocast=False, name="gamma")
        self.beta = self.add_weight(size, "zeros", autocast=False, name="beta")

    def call(self, inputs: Tensor, residual: Tensor | None = None, bias: Tensor | None = None, state: Tensor | None = None,
             rate: float = 0.0) -> Tensor:
        weights = ops.convert_to_tensor(self.gamma), ops.convert_to_tensor(self.beta)
        if residual is None:
            return elementwise.layer_norm(inputs, *weights, NORM_EPSILON)
        bias = ops.zeros_like(weights[1]) if bias is None else bias
        return elementwise.add_norm(inputs, residual, (bias, *weights), NORM_EPSILON, state, rate)
