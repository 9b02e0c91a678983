"""The captioner's loss (Xu et al., 2015): cross-entropy of the next piece, and doubly stochastic attention."""

import numpy as np
from keras import ops

SHARPNESS = 4.0  # of the soft maximum over cells


def cross_entropy(logits, pieces, weights):
    """f32[]: mean over the weighted pieces; logits [B, T, V], pieces i32[B, T], weights f32[B, T]."""
    chances = ops.log_softmax(ops.cast(logits, "float32"))
    found = ops.take_along_axis(chances, pieces[..., None], -1)[..., 0]
    return -ops.sum(found * weights) / ops.maximum(ops.sum(weights), 1.0)


def coverage(alpha, weights):
    """f32[]: mean over pictures and cells of (1 - N / L * sum over the caption's L pieces of alpha)^2; alpha [B, T, N].

    0 where all cells got the same attention over the caption. The paper asks for sums of 1 from L pieces over N cells, which is
    within reach only where L = N; N / L makes it so for every length and grid.
    """
    lengths = ops.maximum(ops.sum(weights, 1), 1.0)
    sums = ops.sum(alpha * weights[..., None], 1) * (alpha.shape[-1] / lengths[:, None])
    return ops.mean(ops.square(1.0 - sums))


def grounding(outputs, pieces, weights):
    """(f32[], f32[]): how badly the cells tell which pieces the text holds, and how far attention is from the cells that tell.

    outputs: "evidence" [B, N, V], "prior" [V], "alpha" [B, T, N]. The first is the cross-entropy of every piece of the vocabulary
    being in the text, from the soft maximum of its evidence over the cells, per piece of the text (multiple instances: Fang et
    al., 2015). The shares of the cells in that maximum are what the second holds attention to, by cross-entropy; no gradient
    passes through them. So attention goes where a word is seen, even where the words before give it away. Ours, not the
    paper's; no box is used.
    """
    evidence, cells = outputs["evidence"], outputs["alpha"].shape[-1]
    pooled = (ops.logsumexp(SHARPNESS * evidence, 1) - np.log(cells)) / SHARPNESS + outputs["prior"]  # [B, V]
    held = ops.max(ops.one_hot(pieces, evidence.shape[-1]) * weights[..., None], 1)  # [B, V]
    missed = ops.maximum(pooled, 0.0) - pooled * held + ops.log1p(ops.exp(-ops.abs(pooled)))
    chosen = ops.take_along_axis(ops.swapaxes(evidence, 1, 2), pieces[..., None], 1)  # [B, T, N]
    shares = ops.stop_gradient(ops.softmax(SHARPNESS * chosen))
    apart = -ops.sum(shares * ops.log(outputs["alpha"] + 1e-8), -1)  # [B, T]
    return ops.sum(missed) / ops.maximum(ops.sum(held), 1.0), ops.sum(apart * weights) / ops.maximum(ops.sum(weights), 1.0)
