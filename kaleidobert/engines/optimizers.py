"""Adam, the learning rate and clipping as released (paper, section 4.1)."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kaleidobert import keras_private
from kaleidobert.errors import UserError
from kaleidobert.specs import Tensor

# Variables that weight decay leaves alone: biases and LayerNorm. Keras matches "gamma" on one backend and
# "patches_grey/layer_norm/gamma:0" on another.
NO_DECAY = [r"(^|/)(\w*bias|beta|gamma)(:\d+)?$"]


FROM_START, AFTER_WARMUP = "from-start", "after-warmup"  # when the decay of the rate begins


class WarmupLinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of step t, counted before the update, so that the first step of a warm-up has rate 0.

    T = total_steps, W = warmup_steps (0 = none).

    decay "from-start", as released: rate(t) = peak * (1 - min(t, T) / T) * (t / W where t < W), so that the decay runs during the
    warm-up too. "after-warmup": peak * t / W where t < W, then peak * (T - min(t, T)) / (T - W), which is ``peak`` at t = W.
    """

    def __init__(self, peak: float, total_steps: int, warmup_steps: int = 0, decay: str = FROM_START):
        if total_steps < 1 or warmup_steps < 0:
            raise UserError(f"{total_steps} steps with {warmup_steps} of warm-up", "the schedule", "at least 1, at least 0")
        if decay not in (FROM_START, AFTER_WARMUP):
            raise UserError(f"decay is {decay!r}", "the schedule", f"{FROM_START} or {AFTER_WARMUP}")
        self.peak, self.total_steps, self.warmup_steps, self.decay = peak, total_steps, warmup_steps, decay

    def __call__(self, step):
        done, total, warmup = ops.cast(step, "float32"), float(self.total_steps), self.warmup_steps
        if self.decay == AFTER_WARMUP and warmup:
            falling = (total - ops.minimum(done, total)) / max(total - warmup, 1.0)
            return self.peak * ops.minimum(done / warmup, falling)
        rate = self.peak * (1.0 - ops.minimum(done, total) / total)
        return rate * ops.minimum(done / warmup, 1.0) if warmup else rate

    def get_config(self) -> dict[str, Any]:
        return {"peak": self.peak, "total_steps": self.total_steps, "warmup_steps": self.warmup_steps, "decay": self.decay}


def peak_rate(peak: float, total: int, warmup: int, decay: str) -> tuple[float, int]:
    """Returns the highest rate of a WarmupLinearDecay and its step t, also where the warm-up is longer than the run."""
    if decay == AFTER_WARMUP:
        step = min(warmup, total - 1)
        return peak * (step / warmup if warmup else 1.0), step
    step = min(warmup, total // 2)  # t (1 - t / T) rises up to T / 2
    return peak * (1 - step / total) * (step / warmup if warmup else 1.0), step


def count_steps(num_examples: int, epochs: float, batch_size: int, warmup_steps: int = 0, warmup_share: float = 0.1) -> tuple[int, int]:
    """Returns T = int(examples * epochs / batch) + 1, as released, and W = warmup_steps or, where that is 0, int(warmup_share * T)."""
    total = int(num_examples * epochs / batch_size) + 1
    return total, warmup_steps or int(warmup_share * total)


def check_warmup(total: int, warmup: int, reached: float, configured: float, name: str) -> None:
    """Raises UserError for a warm-up above half of all steps: the rate stays far below the configured one, or has no steps at it.

    reached: the highest rate of the run; configured: the learning rate; name: of the section, such as train.
    """
    if warmup > total / 2:
        raise UserError(f"the warm-up takes {warmup:,} steps and the run has {total:,}: its rate would reach {reached:.2g} of the "
                        f"{configured:.2g} configured", f"{name}.warmup_steps, {name}.warmup_share",
                        f"at most half of the steps, {total // 2:,}",
                        f"set {name}.warmup_steps=0 {name}.warmup_share=0.1 for the first tenth, {total // 10:,} steps; or take more "
                        f"steps by a larger {name}.epochs or a smaller {name}.batch_size")


def adam(learning_rate: float | keras.optimizers.schedules.LearningRateSchedule, weight_decay: float = 0.0, beta_1: float = 0.9,
         beta_2: float = 0.98,
         epsilon: float = 1e-6) -> keras.optimizers.Adam:
    """Makes Adam with epsilon outside the bias correction, as released; decay is decoupled and spares biases and LayerNorm.

    The optimizer does not clip: gradients are clipped after they are summed over replicas (clip_by_global_norm).
    """
    # under PyTorch Keras has one of its own, with few operations for all variables together, in the place of Adam itself alone
    kind = keras.optimizers.Adam if keras.backend.backend() == "torch" else FusedAdam
    optimizer = kind(learning_rate, beta_1, beta_2, epsilon, weight_decay=weight_decay or None, name="adam")
    optimizer.exclude_from_weight_decay(var_names=NO_DECAY)
    return optimizer


def with_loss_scale(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.LossScaleOptimizer:
    """Wraps an optimizer for float16, in which many gradients underflow: the loss is multiplied by a scale, and the gradients divided.

    A step whose scaled gradients overflow changes nothing but the scale, which halves; after 2,000 steps without overflow it doubles.
    """
    return keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale")


def loss_scale(optimizer: keras.optimizers.Optimizer) -> Tensor | None:
    """Returns the variable that holds the scale of the loss, or None."""
    return getattr(optimizer, "dynamic_scale", None)


def clip_by_global_norm(gradients: Sequence[Any], limit: float, scale: Tensor | None = None) -> tuple[list[Tensor], Tensor]:
    """Scales all gradients by limit / norm where their common L2 norm exceeds the limit; returns (gradients, norm). limit 0 = no clipping.

    scale: of the loss; the norm is that of the gradients divided by it, while the gradients stay scaled.

    A sparse gradient becomes dense first, as it is on other backends; the release counts the rows of a word that occurs
    several times one by one, which moves the norm of fine-tuning by 0.03%. None stays None. A norm that is not finite makes
    every gradient NaN; the caller checks the norm.
    """
    whole = [None if gradient is None else dense(gradient) for gradient in gradients]
    squares = [sum_of_squares(gradient) for gradient in whole if gradient is not None]
    norm = ops.sqrt(sum(squares))
    if scale is not None:
        norm = norm / scale
    if not limit:
        return whole, norm
    factor = limit / ops.maximum(norm, limit)
    return [None if gradient is None else gradient * ops.cast(factor, gradient.dtype) for gradient in whole], norm


def dense(gradient):
    """Makes a gradient dense: TensorFlow's of a look-up is a list of rows, of which Keras's Adam would square repeated ones one by one."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.convert_to_tensor(gradient)
    return ops.convert_to_tensor(gradient)


# --- Adam, and the norm that gradients are clipped by, with one pass over the weights on TensorFlow: equal to Keras's up to rounding


class FusedAdam(keras.optimizers.Adam):
    """keras.optimizers.Adam, with its formula and variables, by TensorFlow's own operation.

    Keras writes a dozen intermediate arrays, each as large as the weights, and three more for weight decay. The operation is one loop
    that reads four numbers and writes three, and the decay is a factor. Under JAX, whose compiler joins these steps, and with amsgrad,
    everything is Keras's.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self._fused:
            keras_private.skip_weight_decay(self)  # a part of update_step

    @property
    def _fused(self) -> bool:
        return keras.backend.backend() == "tensorflow" and not self.amsgrad

    def update_step(self, gradient, variable, learning_rate):
        """Updates one variable and its two moments."""
        if not self._fused:
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow as tf

        (momentum, velocity), dtype = keras_private.adam_moments(self, variable), variable.dtype
        if keras_private.decays(self, variable):
            variable.assign(variable * (1 - tf.cast(self.weight_decay, dtype) * tf.cast(learning_rate, dtype)))
        step = tf.cast(self.iterations.value + 1, dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle, m=momentum.value.handle, v=velocity.value.handle,
            beta1_power=tf.pow(tf.cast(self.beta_1, dtype), step), beta2_power=tf.pow(tf.cast(self.beta_2, dtype), step),
            lr=tf.cast(learning_rate, dtype), beta1=tf.cast(self.beta_1, dtype), beta2=tf.cast(self.beta_2, dtype),
            epsilon=tf.cast(self.epsilon, dtype), grad=tf.cast(gradient, dtype))


def sum_of_squares(gradient):
    """Computes f32[]: the sum of squares of a dense gradient, without an array of squares."""
    gradient = ops.cast(gradient, "float32")
    if keras.backend.backend() != "tensorflow":
        return ops.sum(ops.square(gradient))
    import tensorflow as tf

    return 2.0 * tf.nn.l2_loss(gradient)
