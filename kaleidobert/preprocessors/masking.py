"""What is masked: a plan of tokens and patches for every example of a batch (paper, section 3.2; quotas of SPEC section 2).

A policy maps (maskable tokens, alignment, rng) to priorities; the plan takes the highest ones within the quotas. [CLS], [SEP]
and padding are never masked, no id is taken twice. Policies are rows of POLICIES.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kaleidobert import levels as kaleido
from kaleidobert.errors import UserError
from kaleidobert.levels import KaleidoLevel

Priorities = tuple[np.ndarray, np.ndarray]  # f64[B, T], f64[B, P]


@dataclass(frozen=True)
class MaskPlan:
    """tokens i32[B, M]: masked text positions, ascending, 0 where unused; token_weights f32[B, M]: 1 used, 0 not;
    patches {level name: i32[B, k]}: masked patches inside the level, ascending, for levels with num_masked > 0."""

    tokens: np.ndarray
    token_weights: np.ndarray
    patches: dict[str, np.ndarray]


def plan(policy: str, maskable: np.ndarray, alignment: np.ndarray | None, levels: Sequence[KaleidoLevel], quota: tuple[float, int],
         rng: np.random.Generator) -> MaskPlan:
    """The mask plan of a batch.

    maskable: bool[B, T]; alignment: f16[B, T, P] or None; quota: (share of the maskable tokens, at most so many): at least
    one token where there is one. Raises UserError for an unknown policy or one that needs an alignment where there is none.
    """
    if policy not in POLICIES:
        raise UserError(f"the masking policy {policy!r} is not available", "sampling.masking", f"one of {', '.join(POLICIES)}")
    token_priority, patch_priority = POLICIES[policy](maskable, alignment, kaleido.num_patches(levels), rng)
    share, most = quota
    count = maskable.sum(1)
    wanted = np.clip(np.rint(share * count), 1, most).astype(np.int64)
    tokens, weights = _top(np.where(maskable, token_priority, -np.inf), np.minimum(wanted, count), most)
    patches = {}
    for level, part in zip(levels, kaleido.patch_slices(levels).values()):
        if level.num_masked:
            exactly = np.full(len(maskable), level.num_masked)
            patches[level.name] = _top(patch_priority[:, part], exactly, level.num_masked)[0]
    return MaskPlan(tokens, weights, patches)


def random(maskable: np.ndarray, alignment: np.ndarray | None, num_patches: int, rng: np.random.Generator) -> Priorities:
    """Tokens and patches independently and uniformly at random."""
    return rng.random(maskable.shape), rng.random((len(maskable), num_patches))


POLICIES: dict[str, Callable[[np.ndarray, np.ndarray | None, int, np.random.Generator], Priorities]] = {"random": random}


def replace(token_ids: np.ndarray, masks: MaskPlan, mask_id: int, ordinary: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """i32[B, T]: of the masked tokens 80% become [MASK], 10% a random ordinary piece, 10% stay (BERT's rule)."""
    draw, other = rng.random(masks.tokens.shape), rng.integers(*ordinary, size=masks.tokens.shape)
    rows, slots = np.nonzero(masks.token_weights)
    positions = masks.tokens[rows, slots]
    draw, other, old = draw[rows, slots], other[rows, slots], token_ids[rows, positions]
    replaced = token_ids.copy()
    replaced[rows, positions] = np.where(draw < 0.8, mask_id, np.where(draw < 0.9, other, old))
    return replaced


def _top(priority: np.ndarray, count: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the count[b] highest priorities, ascending, as i32[B, width] (0 where unused), and 1/0 weights f32."""
    width = min(width, priority.shape[1])
    best = np.argpartition(-priority, width - 1, axis=1)[:, :width]
    best = np.take_along_axis(best, np.argsort(-np.take_along_axis(priority, best, 1), axis=1, kind="stable"), 1)
    used = np.arange(width) < count[:, None]
    positions = np.sort(np.where(used, best, priority.shape[1]), axis=1)
    used = positions < priority.shape[1]
    return np.where(used, positions, 0).astype(np.int32), used.astype(np.float32)
