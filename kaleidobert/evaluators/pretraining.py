"""The metrics of pre-training as sums that add up over batches, and their values without a model.

Names are the task's own: mlm_loss, rotation_accuracy, grey_kl. A "class" level has accuracy and loss, a "feature" level the
KL divergence per patch (paper, section 3.3): softmax over the F features on both sides, KL(target || prediction), mean over
patches and batch. The feature target "joint" computes feature levels as the release does, and gives a grey level
grey_joint_kl beside grey_kl. Letters as in specs.py; k masked patches of a level, V words of the vocabulary.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import log

import numpy as np

from kaleidobert import levels as kaleido
from kaleidobert.errors import UserError
from kaleidobert.levels import KaleidoLevel

Arrays = Mapping[str, np.ndarray]
Sums = dict[str, tuple[float, float]]
CHUNK = 4096  # feature vectors turned into float64 at a time
CLASS_CHUNK = 512  # rows of logits at a time: V is large
SMALLEST = 1e-7  # as released: both distributions are clipped to [SMALLEST, 1], as in losses.pretraining


def sums(outputs: Arrays, targets: Arrays, weights: Arrays, levels: Sequence[KaleidoLevel], feature_target: str = "per-patch") -> Sums:
    """Returns {metric: (weighted sum, sum of weights)} of one batch; ``means`` adds batches up.

    outputs: logits mlm [B, M, V], itm [B, 2], each class level [B, C], each feature level [B, k, F]; any float type; where image-text
    contrast is learnt, itc [B, 2, W] and own [B, 2], the matching logits of [CLS] without it.
    targets: mlm [B, M], itm [B], itc [B, 5], each class level [B] int; each feature level [B, k, F].
    weights: mlm [B, M], the others [B]; an example of weight 0 does not count.
    feature_target: "per-patch", or "joint", which clips feature levels as released and adds "{name}_joint_kl" of every grey level,
    whose true features have one softmax over all k*F. It is no divergence and may be negative.
    Raises UserError where a task is missing or its arrays do not fit together.

    >>> one = {"itm": np.array([[0.0, 0.0], [-50.0, 50.0]]), "mlm": np.zeros((2, 1, 4))}
    >>> sums(one, {"itm": np.array([1, 1]), "mlm": np.zeros((2, 1), int)}, {"itm": np.ones(2), "mlm": np.zeros((2, 1))}, ())
    {'mlm_accuracy': (0.0, 0.0), 'mlm_loss': (0.0, 0.0), 'itm_accuracy': (1.5, 2.0), 'itm_loss': (0.6931471805599453, 2.0)}
    """
    result: Sums = {}
    answers = {"mlm": "class", "itm": "class"} | {level.name: level.answer for level in kaleido.target_levels(levels)}
    if "itc" in targets:
        answers["itc"] = "contrast"
    if "own" in outputs:  # what [CLS] says of the match without contrast
        result |= _class_sums("itm_cls", *(np.asarray(one) for one in (outputs["own"], targets["itm"], weights["itm"])))
    greys = {level.name for level in levels if level.pretext == "grey"}
    for name, answer in answers.items():
        for side, arrays in (("outputs", outputs), ("targets", targets), ("weights", weights)):
            if name not in arrays:
                raise UserError(f"there is no {name!r} in the {side}", "task metrics", f"all of {', '.join(answers)}")
        arguments = np.asarray(outputs[name]), np.asarray(targets[name]), np.asarray(weights[name], np.float64)
        if answer == "class":
            result |= _class_sums(name, *arguments)
        elif answer == "contrast":
            result |= contrast_sums(*arguments)
        else:
            result |= _feature_sums(name, *arguments, clipped=feature_target == "joint" and name not in greys)
            if feature_target == "joint" and name in greys:
                result |= _feature_sums(f"{name}_joint", *arguments, clipped=True, joint=True)
    return result


def add(batches: Iterable[Sums]) -> Sums:
    """Returns the sums over all batches."""
    total: Sums = {}
    for batch in batches:
        for name, (value, weight) in batch.items():
            before = total.get(name, (0.0, 0.0))
            total[name] = before[0] + value, before[1] + weight
    return total


def means(batches: Iterable[Sums]) -> dict[str, float]:
    """Returns the weighted means over all batches, without the metrics whose weights add up to 0."""
    return {name: value / weight for name, (value, weight) in add(batches).items() if weight > 0}


def chance(levels: Sequence[KaleidoLevel], vocab_size: int = 0) -> dict[str, float]:
    """Returns accuracy and cross-entropy of a uniform guess by metric; of mlm where the vocabulary's size is given."""
    classes = ({"mlm": vocab_size} if vocab_size else {}) | {"itm": 2}
    classes |= {level.name: level.num_classes for level in levels if level.answer == "class"}
    return {f"{name}_{metric}": value for name, count in classes.items()
            for metric, value in (("accuracy", 1 / count), ("loss", log(count)))}


def constant_kl(distribution: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Returns (weighted sum, sum of weights) of the KL of one distribution f64[F] as the answer for every patch, of which
    ``mean_distribution`` is the best. targets [B, k, F], weights [B]."""
    with np.errstate(divide="ignore"):  # log 0 = -inf: a feature of probability 0 that occurs costs infinitely much
        return _kl_sums(np.log(np.asarray(distribution, np.float64)), targets, weights)


def constant_words(distribution: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> Sums:
    """Returns the sums of one batch that one distribution f64[V] over pieces gives as the answer for every masked word. targets,
    weights [B, M]."""
    values = {"accuracy": targets == distribution.argmax(), "loss": -np.log(distribution[targets])}
    return {f"mlm_{metric}": (float((weights * value).sum()), float(weights.sum())) for metric, value in values.items()}


def mean_distribution(features: np.ndarray) -> np.ndarray:
    """Returns f64[F], the mean softmax of features [..., F]: the constant that minimises the mean KL(target || constant)."""
    rows = features.reshape(-1, features.shape[-1])
    if not len(rows):
        raise UserError("there are no features", "the mean distribution", "at least one feature vector")
    chunks = (np.exp(_log_softmax(rows[start:start + CHUNK])).sum(axis=0) for start in range(0, len(rows), CHUNK))
    return sum(chunks) / len(rows)


def _class_sums(name: str, logits: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> Sums:
    if targets.shape != logits.shape[:-1] or weights.shape != targets.shape:
        raise _misfit(name, logits, targets, weights, "[..., C], [...], [...]")
    if targets.size and not 0 <= targets.min() <= targets.max() < logits.shape[-1]:
        raise UserError(f"targets run from {targets.min()} to {targets.max()}", f"task {name!r}", f"0 to {logits.shape[-1] - 1}")
    used = weights > 0
    logits, targets, weights = logits[used], targets[used].astype(np.int64), weights[used]  # [N, C], [N], [N]
    hits = loss = 0.0
    for start in range(0, len(targets), CLASS_CHUNK):
        chunk = slice(start, start + CLASS_CHUNK)
        row_hits, row_loss = _hits_and_losses(logits[chunk], targets[chunk])
        hits, loss = hits + float(weights[chunk] @ row_hits), loss + float(weights[chunk] @ row_loss)
    weight = float(weights.sum())
    return {f"{name}_accuracy": (hits, weight), f"{name}_loss": (loss, weight)}


def contrast_sums(sides: np.ndarray, identity: np.ndarray, weights: np.ndarray) -> Sums:
    """Returns the sums of "itc" over both directions, halved: whether the own text, or picture, scores best in the batch, and the loss.

    sides [B, 2, W], identity int[B, 5], weights [B], as in ``sums``: 0 where a picture's own text is not in the batch.
    """
    if sides.shape[:2] != (len(identity), 2) or identity.shape[1:] != (5,) or weights.shape != identity.shape[:1]:
        raise _misfit("itc", sides, identity, weights, "[B, 2, W], [B, 5], [B]")
    used = weights > 0
    pictures, texts = np.flatnonzero(used), identity[used, 4]
    others = negatives(identity)
    others[pictures, texts] = True
    scores = np.where(others, sides[:, 1] @ sides[:, 0].T, -np.inf)
    both = [_hits_and_losses(scores[pictures], texts), _hits_and_losses(scores.T[texts], pictures)]
    hits, losses = (0.5 * float(weights[used] @ (one + other)) for one, other in zip(*both))
    return {"itc_accuracy": (hits, float(weights.sum())), "itc_loss": (losses, float(weights.sum()))}


def negatives(identity: np.ndarray) -> np.ndarray:
    """Returns bool[B, B]: whether text j is a negative of picture i, of identity int[B, 5] as specs.targets has it."""
    picture_group, text_group, own_text, text, _ = identity.T
    return (picture_group[:, None] != text_group) & (own_text[:, None] != text)


def contrast_chance(identity: np.ndarray, weights: np.ndarray) -> Sums:
    """Returns the sums of one batch that a uniform guess among a picture's own text and its negatives gives, and likewise of a text."""
    used = weights > 0
    texts = identity[used, 4]
    counts = 1.0 + negatives(identity).sum(1)[used], 1.0 + negatives(identity).sum(0)[texts]
    own = 0.5 * sum((weights[used] @ np.stack([1 / count, np.log(count)], 1) for count in counts), np.zeros(2))
    return {f"itc_{metric}": (float(value), float(weights.sum())) for metric, value in zip(("accuracy", "loss"), own)}


def _hits_and_losses(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes f64[N] each of logits [N, C], targets [N]. Equal top logits split the hit: a constant answer has chance accuracy."""
    logits = logits.astype(np.float32)
    top = logits.max(axis=-1)
    own = np.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
    with np.errstate(invalid="ignore"):  # NaN logits give a NaN loss, at which the trainer stops
        hits = (own >= top) / np.maximum((logits == top[:, None]).sum(axis=-1), 1)
        rest = np.exp(logits - top[:, None]).sum(axis=-1, dtype=np.float64)
        return hits, np.log(rest) + (top.astype(np.float64) - own)


def _feature_sums(name: str, logits: np.ndarray, targets: np.ndarray, weights: np.ndarray, clipped: bool = False,
                  joint: bool = False) -> Sums:
    """Sums the KL divergence. clipped: both distributions, as in losses.pretraining.kl.

    joint: one softmax over all k*F true features; only with clipped.
    """
    if logits.ndim != 3 or targets.shape != logits.shape or weights.shape != logits.shape[:1]:
        raise _misfit(name, logits, targets, weights, "[B, k, F], [B, k, F], [B]")
    used = weights > 0
    kl = _clipped_kl_sums(logits[used], targets[used], weights[used], joint) if clipped else _kl_sums(
        _log_softmax(logits[used]), targets[used], weights[used])
    return {f"{name}_kl": kl}


def _clipped_kl_sums(logits: np.ndarray, targets: np.ndarray, weights: np.ndarray, joint: bool) -> tuple[float, float]:
    size, patches, features = targets.shape
    together = targets.reshape(size, 1, patches * features) if joint else targets
    target = np.clip(np.exp(_log_softmax(together)), SMALLEST, 1.0).reshape(targets.shape)
    predicted = np.clip(np.exp(_log_softmax(logits)), SMALLEST, 1.0)
    kl = (target * np.log(target / predicted)).sum(axis=-1)  # [B, k]
    return float(weights @ kl.sum(axis=-1)), float(weights.sum() * patches)


def _kl_sums(log_predicted: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Sums KL of log_predicted [B, k, F] or [F], targets [B, k, F], weights [B]."""
    log_target = _log_softmax(np.asarray(targets))
    target = np.exp(log_target)
    with np.errstate(invalid="ignore"):
        terms = np.where(target > 0, target * (log_target - log_predicted), 0.0)  # 0 log 0 = 0
    kl = terms.sum(axis=-1)  # [B, k]
    weights = np.asarray(weights, np.float64)
    return float(weights @ kl.sum(axis=-1)), float(weights.sum() * kl.shape[-1])


def _log_softmax(values: np.ndarray) -> np.ndarray:
    """Computes the log-softmax over the last axis, in float64."""
    shifted = values.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _misfit(name: str, logits: np.ndarray, targets: np.ndarray, weights: np.ndarray, expected: str) -> UserError:
    shapes = ", ".join(f"{side} {list(array.shape)}" for side, array in
                       (("logits", logits), ("targets", targets), ("weights", weights)))
    return UserError(shapes, f"task {name!r}", expected)
