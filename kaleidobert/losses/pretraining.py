"""Cross-entropy per element, and the losses of pre-training by task name: masked tokens, matching, one per level (paper, section 3.3)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
from keras import ops

from kaleidobert import levels as kaleido
from kaleidobert.errors import UserError
from kaleidobert.levels import KaleidoLevel
from kaleidobert.losses import contrastive
from kaleidobert.specs import Tensor


def cross_entropy(logits, labels):
    """Computes -log softmax(logits)[label], in nats and float32: logits [..., C], labels int[...] -> [...].

    A label outside 0..C-1 gives 0, as released: there it still counts in the mean.
    """
    logits = ops.cast(logits, "float32")
    if keras.backend.backend() == "torch":  # its one_hot takes no label outside, and is int64
        inside = ops.logical_and(labels >= 0, labels < logits.shape[-1])
        chosen = ops.expand_dims(ops.where(inside, labels, 0), -1)
        return -ops.where(inside, ops.take_along_axis(ops.log_softmax(logits, axis=-1), chosen, -1)[..., 0], 0.0)
    chosen = ops.one_hot(labels, logits.shape[-1], dtype="float32")
    return -ops.sum(chosen * ops.log_softmax(logits, axis=-1), axis=-1)


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor, smoothing: float = 0.0, over: Tensor | None = None) -> Tensor:
    """Computes f32[]: sum(w * cross_entropy) / over, of logits [..., C], labels int[...], weights f32[...].

    over: the divisor; None = max(sum(w), 1), of this batch.
    smoothing: the fraction of the target that is spread evenly over all classes (Szegedy et al., 2016).
    """
    losses = cross_entropy(logits, labels)
    if smoothing:
        uniform = -ops.mean(ops.log_softmax(ops.cast(logits, "float32"), axis=-1), axis=-1)
        losses = (1 - smoothing) * losses + smoothing * uniform
    return ops.sum(losses * weights) / (ops.maximum(ops.sum(weights), 1.0) if over is None else over)


TOKEN_EPSILON = 1e-5  # as released: mlm = sum(w * loss) / (sum(w) + 1e-5)
SMALLEST_SUM = 1e-12  # a batch in which no example counts has loss 0
FEATURE_TARGETS = ("per-patch", "joint")


@dataclass(frozen=True)
class Loss:
    """A weighted mean: sum(weights * elements(logits, target)) / denominator(weights).

    elements gives one value per weight. factor: of the task in the total. added: to the sum of weights; where it is 0 the sum is kept
    from being 0. Numerator and denominator are public because the mean over a batch is not the mean of its micro-batches' or
    replicas' means: those divide by the denominator of the whole batch.
    """

    elements: Callable[[Any, Any], Any]
    factor: float = 1.0
    added: float = 0.0

    def numerator(self, logits, target, weights):
        return ops.sum(ops.cast(weights, "float32") * self.elements(logits, target))

    def denominator(self, weights):
        count = ops.sum(ops.cast(weights, "float32"))
        return count + self.added if self.added else ops.maximum(count, SMALLEST_SUM)

    def __call__(self, logits, target, weights):
        return self.numerator(logits, target, weights) / self.denominator(weights)


def for_tasks(levels: Sequence[KaleidoLevel], feature_target: str = "per-patch", mlm_weight: float = 1.0,
              itm_weight: float = 1.0, itc_weight: float = 0.0) -> dict[str, Loss]:
    """Makes {task: Loss}: mlm, itm, itc where it has weight, then the levels that have a pretext; a level's factor is its ``weight``.

    feature_target: "per-patch" as in the paper, or "joint" as released, where grey levels softmax all their targets at
    once (``kl``). Weights are [B, M] for mlm and [B] for the others; with all of them 1 every value is the
    release's. Raises UserError for another feature_target, and with "joint" for a level that is called as a grey level's metric,
    NAME_joint.
    """
    if feature_target not in FEATURE_TARGETS:
        raise UserError(f"feature_target is {feature_target!r}", "losses", " or ".join(FEATURE_TARGETS))
    taken = {f"{level.name}_joint" for level in levels if level.pretext == "grey"} & {level.name for level in levels}
    if feature_target == "joint" and taken:
        raise UserError(f"a level is called {taken.pop()!r}, as is the joint loss of a grey level", "losses", "another name")
    losses = {"mlm": Loss(cross_entropy, mlm_weight, TOKEN_EPSILON), "itm": Loss(cross_entropy, itm_weight)}
    if itc_weight:
        losses["itc"] = Loss(contrastive.in_batch, itc_weight)
    for level in kaleido.target_levels(levels):
        joint = feature_target == "joint" and level.pretext == "grey"
        elements = partial(_patches, joint=joint) if level.answer == "feature" else cross_entropy
        losses[level.name] = Loss(elements, level.weight)
    return losses


def denominators(losses: Mapping[str, Loss], weights: Mapping[str, Any]) -> dict[str, Any]:
    """Computes {task: what its numerator is divided by} from the weights alone, so that it is known for a whole batch in advance."""
    return {task: loss.denominator(weights[task]) for task, loss in losses.items()}


def total(losses: Mapping[str, Loss], outputs: Mapping[str, Any], targets: Mapping[str, Any], weights: Mapping[str, Any],
          over: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Computes {task: loss, ..., "total": sum of factor * loss}, float32 scalars.

    over: denominators of the larger batch that this is a micro-batch of; the values of all of them add up to that batch's.
    """
    over = denominators(losses, weights) if over is None else over
    values = {task: loss.numerator(outputs[task], targets[task], weights[task]) / over[task]
              for task, loss in losses.items()}
    return values | {"total": sum(losses[task].factor * value for task, value in values.items())}


def _patches(logits: Tensor, features: Tensor, joint: bool) -> tuple[Tensor, Tensor]:
    return ops.mean(kl(logits, features, joint), axis=-1)  # [B]: k is the same for all, so that the mean over B is that over B * k


# --- The loss of masked patches: KL divergence between softmaxed features (paper, section 3.3)


SMALLEST = 1e-7  # as released: both distributions are clipped to [SMALLEST, 1]


def kl(logits: Tensor, features: Tensor, joint: bool = False) -> Tensor:
    """Computes KL(softmax(features) || softmax(logits)) per patch, in nats and float32: both [..., k, F] -> [..., k].

    joint: as the release does with grey patches, the softmax of the true features runs over all k*F at once. A patch's
    target then sums to about 1/k and the value, no longer a divergence, may be negative.
    """
    logits, features = ops.cast(logits, "float32"), ops.cast(features, "float32")
    rank = len(features.shape)
    axis = (rank - 2, rank - 1) if joint else -1  # counted from the front: Keras mistakes several counted from the end
    target = ops.clip(ops.softmax(features, axis=axis), SMALLEST, 1.0)
    predicted = ops.clip(ops.softmax(logits, axis=-1), SMALLEST, 1.0)
    return ops.sum(target * (ops.log(target) - ops.log(predicted)), axis=-1)
