"""Adam, the learning rate and clipping as released (paper, section 4.1)."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kaleidobert.engines.adam import FusedAdam, sum_of_squares
from kaleidobert.errors import UserError

# Variables that weight decay leaves alone: biases and LayerNorm. Keras matches "gamma" on one backend and
# "patches_grey/layer_norm/gamma:0" on another.
NO_DECAY = [r"(^|/)(\w*bias|beta|gamma)(:\d+)?$"]


class WarmupLinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """rate(t) = peak * (1 - min(t, T) / T) * (t / W where t < W), t counted before the update: the first step has rate 0.

    T = total_steps, W = warmup_steps (0 = none). As released, the decay runs from the first step on, during the warm-up too.
    """

    def __init__(self, peak: float, total_steps: int, warmup_steps: int = 0):
        if total_steps < 1 or warmup_steps < 0:
            raise UserError(f"{total_steps} steps with {warmup_steps} of warm-up", "the schedule", "at least 1, at least 0")
        self.peak, self.total_steps, self.warmup_steps = peak, total_steps, warmup_steps

    def __call__(self, step):
        done = ops.cast(step, "float32")
        rate = self.peak * (1.0 - ops.minimum(done, float(self.total_steps)) / self.total_steps)
        return rate * ops.minimum(done / self.warmup_steps, 1.0) if self.warmup_steps else rate

    def get_config(self) -> dict[str, Any]:
        return {"peak": self.peak, "total_steps": self.total_steps, "warmup_steps": self.warmup_steps}


def steps(num_examples: int, epochs: float, batch_size: int, warmup_steps: int = 0, warmup_share: float = 0.1) -> tuple[int, int]:
    """(T, W): int(examples * epochs / batch) + 1 as released, and warmup_steps or, where that is 0, int(share * T)."""
    total = int(num_examples * epochs / batch_size) + 1
    return total, warmup_steps or int(warmup_share * total)


def adam(learning_rate, weight_decay: float = 0.0, beta_1: float = 0.9, beta_2: float = 0.98,
         epsilon: float = 1e-6) -> keras.optimizers.Adam:
    """Adam with epsilon outside the bias correction, as released; decay is decoupled and spares biases and LayerNorm.

    It clips nothing: gradients are clipped after they are summed over replicas (clip_by_global_norm).
    """
    optimizer = FusedAdam(learning_rate, beta_1, beta_2, epsilon, weight_decay=weight_decay or None, name="adam")
    optimizer.exclude_from_weight_decay(var_names=NO_DECAY)
    return optimizer


def with_loss_scale(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.LossScaleOptimizer:
    """For float16, whose smallest numbers many gradients fall below: the loss is multiplied by a scale, and the gradients divided.

    A step whose scaled gradients overflow changes nothing but the scale, which it halves; after 2,000 steps without one it doubles.
    """
    return keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale")


def loss_scale(optimizer: keras.optimizers.Optimizer):
    """The variable that holds the scale of the loss, or None."""
    return getattr(optimizer, "dynamic_scale", None)


def clip_by_global_norm(gradients: Sequence[Any], limit: float, scale=None):
    """(gradients, norm): all scaled by limit / norm where their common L2 norm exceeds the limit; limit 0 = only measured.

    scale: of the loss; the norm is that of the gradients divided by it, which they themselves are not.

    A sparse gradient becomes dense first, as it is on other backends; the release counts the rows of a word that occurs
    several times one by one, which moves the norm of fine-tuning by 0.03%. None stays None. A norm that is not finite makes
    every gradient NaN; the caller looks at the norm.
    """
    found = [None if gradient is None else dense(gradient) for gradient in gradients]
    squares = [sum_of_squares(gradient) for gradient in found if gradient is not None]
    norm = ops.sqrt(sum(squares))
    if scale is not None:
        norm = norm / scale
    if not limit:
        return found, norm
    factor = limit / ops.maximum(norm, limit)
    return [None if gradient is None else gradient * ops.cast(factor, gradient.dtype) for gradient in found], norm


def dense(gradient):
    """TensorFlow's gradient of a look-up is a list of rows; Keras's Adam would square repeated rows one by one: wrong."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.convert_to_tensor(gradient)
    return ops.convert_to_tensor(gradient)
