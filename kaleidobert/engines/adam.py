"""Adam, and the norm that gradients are clipped by, with one pass over the weights on TensorFlow: equal to Keras's up to rounding."""

import keras
from keras import ops


class FusedAdam(keras.optimizers.Adam):
    """keras.optimizers.Adam, whose formula and variables it has, by TensorFlow's own operation for it.

    Keras writes a dozen intermediate arrays, each as large as the weights, where one loop reads four numbers and writes three. Weight
    decay is Keras's. Under JAX, whose compiler joins these steps, and where amsgrad is asked for, everything is Keras's.
    """

    def update_step(self, gradient, variable, learning_rate):
        """Update one variable and its two moments."""
        if keras.backend.backend() != "tensorflow" or self.amsgrad:
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow as tf

        index, kind = self._get_variable_index(variable), variable.dtype
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
