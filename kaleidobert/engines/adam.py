"""Adam, and the norm that gradients are clipped by, with one pass over the weights on TensorFlow: equal to Keras's up to rounding."""

import keras
from keras import ops


class FusedAdam(keras.optimizers.Adam):
    """keras.optimizers.Adam, whose formula and variables it has, by TensorFlow's own operation for it.

    Keras writes a dozen intermediate arrays, each as large as the weights, where one loop reads four numbers and writes three, and
    three more for weight decay, where a factor is enough. Under JAX, whose compiler joins these steps, and where amsgrad is asked
    for, everything is Keras's.
    """

    @property
    def _fused(self) -> bool:
        return keras.backend.backend() == "tensorflow" and not self.amsgrad

    def _apply_weight_decay(self, variables):
        if not self._fused:  # else a part of update_step
            super()._apply_weight_decay(variables)

    def update_step(self, gradient, variable, learning_rate):
        """Update one variable and its two moments."""
        if not self._fused:
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow as tf

        index, kind = self._get_variable_index(variable), variable.dtype
        if self.weight_decay and self._use_weight_decay(variable):
            variable.assign(variable * (1 - tf.cast(self.weight_decay, kind) * tf.cast(learning_rate, kind)))
        step = tf.cast(self.iterations.value + 1, kind)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle, m=self._momentums[index].value.handle, v=self._velocities[index].value.handle,
            beta1_power=tf.pow(tf.cast(self.beta_1, kind), step), beta2_power=tf.pow(tf.cast(self.beta_2, kind), step),
            lr=tf.cast(learning_rate, kind), beta1=tf.cast(self.beta_1, kind), beta2=tf.cast(self.beta_2, kind),
            epsilon=tf.cast(self.epsilon, kind), grad=tf.cast(gradient, kind))


def sum_of_squares(gradient):
    """f32[]: of a dense gradient; without writing its squares down."""
    gradient = ops.cast(gradient, "float32")
    if keras.backend.backend() != "tensorflow":
        return ops.sum(ops.square(gradient))
    import tensorflow as tf

    return 2.0 * tf.nn.l2_loss(gradient)
