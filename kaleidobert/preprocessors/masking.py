"""What is masked: a plan of tokens and patches for every example of a batch (paper, section 3.2; quotas of SPEC section 2).

Policies are rows of POLICIES: ``random``, and ``guide``, the paper's Alignment Guided Masking (AGM). Whatever the policy, the
quotas are met exactly, [CLS], [SEP] and padding are never masked, and no id is taken twice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kaleidobert import levels as kaleido
from kaleidobert.errors import UserError
from kaleidobert.levels import KaleidoLevel

# a word's key is a whole number, so that the fraction behind it can order what belongs to the word
KEYS = 2.0**24  # two of 30 words share a key once in 40,000 texts; then their patches and pieces mix, nothing worse
JITTER = 2.0**-16  # strengths as close as this are equal; far above the precision of a key, so that ties are drawn
LAST = -2.0  # added to a draw from 0..1: behind everything else


@dataclass(frozen=True)
class Quota:
    """How many tokens: ``share`` of the maskable ones, at least one and at most ``most``. whole_word: the pieces of a word are
    masked together; where the quota ends inside a word, as many of its pieces as are left, drawn at random: the number of
    masked tokens stays what it is without whole words, and at most one word per text is masked in part."""

    share: float = 0.15
    most: int = 10
    whole_word: bool = False


@dataclass(frozen=True)
class MaskPlan:
    """tokens i32[B, M]: masked text positions, ascending, 0 where unused; token_weights f32[B, M]: 1 used, 0 not;
    patches {level name: i32[B, k]}: masked patches inside the level, ascending, for levels with num_masked > 0."""

    tokens: np.ndarray
    token_weights: np.ndarray
    patches: dict[str, np.ndarray]

    def part(self, part: slice) -> "MaskPlan":
        """The plan of a part of the batch."""
        return MaskPlan(self.tokens[part], self.token_weights[part], {name: chosen[part] for name, chosen in self.patches.items()})


def plan(policy: str, maskable: np.ndarray, token_words: np.ndarray, alignment: np.ndarray | None, levels: Sequence[KaleidoLevel],
         quota: Quota, rng: np.random.Generator) -> MaskPlan:
    """The mask plan of a batch.

    maskable: bool[B, T]; token_words: i16[B, T], index of each piece's word, the pieces of a word side by side; alignment:
    f16[B, T, P], 0 = not linked, or None. Raises UserError for an unknown policy or one that needs an alignment where there
    is none.
    """
    if policy not in POLICIES:
        raise UserError(f"the masking policy {policy!r} is not available", "sampling.masking", f"one of {', '.join(POLICIES)}")
    return POLICIES[policy](maskable, token_words, alignment, levels, quota, rng)


def random(maskable: np.ndarray, token_words: np.ndarray, alignment: np.ndarray | None, levels: Sequence[KaleidoLevel],
           quota: Quota, rng: np.random.Generator) -> MaskPlan:
    """Tokens (words, where the quota says so) and patches independently and uniformly at random."""
    tokens = rng.random(maskable.shape)
    if quota.whole_word:
        tokens = tokens.ravel()[_heads(token_words)] + JITTER * rng.random(maskable.shape)
    return MaskPlan(*_tokens(tokens, maskable, quota), _patches(rng.random((len(maskable), kaleido.num_patches(levels))), levels))


def guide(maskable: np.ndarray, token_words: np.ndarray, alignment: np.ndarray | None, levels: Sequence[KaleidoLevel],
          quota: Quota, rng: np.random.Generator) -> MaskPlan:
    """Alignment Guided Masking (paper, section 3.2).

    A word with a link is a group: its pieces and its patches on the masked levels. A fair coin per group says which side of
    it is masked, pieces or patches, never both. Groups come in random order, each takes what is left of the quotas; of a
    group's patches on a level, the strongest first. What the groups leave of the quotas goes to other tokens and patches at
    random; a patch of a word with a masked piece, and a piece of a word with a masked patch, only when nothing else is left.

    Words can share a patch: one of them has a masked piece, another one wants to mask the patch. Text chooses first: the piece
    is masked and the patch stays. A few masked pieces forbid few patches, while a few masked patches, of which each belongs to
    many words, would forbid most pieces that mean something. Where all words share the same few patches, the masked pieces are
    aligned and the patches those of random masking.
    """
    if alignment is None:
        raise UserError("there is no alignment", "sampling.masking: alignment", "strengths of tokens and patches")
    (batch, width), count = maskable.shape, kaleido.num_patches(levels)
    word = _heads(token_words)
    key = 1 + np.floor(2 * KEYS * rng.random(maskable.size))  # by word, like all that has B * T elements
    on_text = key > KEYS  # the coin
    key -= KEYS * on_text
    any_token, any_patch = rng.random((batch, width)), rng.random((batch, count))

    piece, patch, strength = _links(alignment, maskable, levels)
    linked = word.ravel()[piece]  # the word of each link
    aligned = np.zeros(maskable.size, bool)
    aligned[linked] = True
    alone = any_token if not quota.whole_word else any_token.ravel()[word]
    grouped = np.where(on_text, key, LAST + any_token.ravel())[word]  # the pieces of words whose patches are to be masked wait
    tokens, weights = _tokens(np.where(aligned[word], grouped, alone) + JITTER * any_token, maskable, quota)

    hidden, blocked = np.zeros(maskable.size, bool), np.zeros(batch * count, bool)
    rows, slots = np.nonzero(weights)
    hidden[word[rows, tokens[rows, slots]]] = True
    place = piece // width * count + patch  # of each link in [B * P]
    blocked[place[hidden[linked]]] = True
    ours = np.flatnonzero(~on_text[linked])
    claim = np.zeros(batch * count)
    np.maximum.at(claim, place[ours], key[linked[ours]] + strength[ours] / 2 + JITTER * any_patch.ravel()[place[ours]])
    free = np.where(claim > 0, claim, any_patch.ravel())
    priority = np.where(blocked, LAST + any_patch.ravel(), free).reshape(batch, count)
    return MaskPlan(tokens, weights, _patches(priority, levels))


Policy = Callable[[np.ndarray, np.ndarray, np.ndarray | None, Sequence[KaleidoLevel], Quota, np.random.Generator], MaskPlan]
POLICIES: dict[str, Policy] = {"random": random, "alignment": guide}


def replace(token_ids: np.ndarray, masks: MaskPlan, mask_id: int, ordinary: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """i32[B, T]: of the masked tokens 80% become [MASK], 10% a random ordinary piece, 10% stay (BERT's rule)."""
    draw, other = rng.random(masks.tokens.shape), rng.integers(*ordinary, size=masks.tokens.shape)
    rows, slots = np.nonzero(masks.token_weights)
    positions = masks.tokens[rows, slots]
    draw, other, old = draw[rows, slots], other[rows, slots], token_ids[rows, positions]
    replaced = token_ids.copy()
    replaced[rows, positions] = np.where(draw < 0.8, mask_id, np.where(draw < 0.9, other, old))
    return replaced


def _heads(token_words: np.ndarray) -> np.ndarray:
    """i64[B, T]: the place in [B * T] of the first piece of each token's word: a name for the word. A token of no word (-1)
    is a word of its own."""
    starts = np.ones(token_words.shape, bool)
    starts[:, 1:] = (token_words[:, 1:] != token_words[:, :-1]) | (token_words[:, 1:] < 0)
    places = np.arange(token_words.size).reshape(token_words.shape)
    return np.maximum.accumulate(np.where(starts, places, 0), axis=1)


def _links(alignment: np.ndarray, maskable: np.ndarray, levels: Sequence[KaleidoLevel]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(piece i64[L]: place in [B * T]; patch i64[L]; strength f64[L]) of the links that can be masked on both sides."""
    alignment = np.ascontiguousarray(alignment, np.float16)
    # positive halves are positive integers of the same bits, which compare ten times as fast
    flat = np.flatnonzero(alignment.view(np.int16).ravel() > 0)
    piece, patch = np.divmod(flat, alignment.shape[-1])
    usable = np.repeat([level.num_masked > 0 for level in levels], [level.num_patches for level in levels])
    kept = usable[patch] & maskable.ravel()[piece]
    return piece[kept], patch[kept], alignment.ravel()[flat[kept]].astype(np.float64)


def _tokens(priority: np.ndarray, maskable: np.ndarray, quota: Quota) -> tuple[np.ndarray, np.ndarray]:
    """MaskPlan.tokens and token_weights: the maskable tokens of highest priority [B, T]."""
    count = maskable.sum(1)
    wanted = np.clip(np.rint(quota.share * count), 1, quota.most).astype(np.int64)
    return _top(np.where(maskable, priority, -np.inf), np.minimum(wanted, count), quota.most)


def _patches(priority: np.ndarray, levels: Sequence[KaleidoLevel]) -> dict[str, np.ndarray]:
    """MaskPlan.patches: on each masked level the num_masked patches of highest priority [B, P]."""
    patches = {}
    for level, part in zip(levels, kaleido.patch_slices(levels).values()):
        if level.num_masked:
            best = np.argpartition(-priority[:, part], level.num_masked - 1, axis=1)[:, : level.num_masked]
            patches[level.name] = np.sort(best, axis=1).astype(np.int32)
    return patches


def _top(priority: np.ndarray, count: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the count[b] highest priorities, ascending, as i32[B, width] (0 where unused), and 1/0 weights f32."""
    width = min(width, priority.shape[1])
    best = np.argpartition(-priority, width - 1, axis=1)[:, :width]
    best = np.take_along_axis(best, np.argsort(-np.take_along_axis(priority, best, 1), axis=1, kind="stable"), 1)
    used = np.arange(width) < count[:, None]
    positions = np.sort(np.where(used, best, priority.shape[1]), axis=1)
    used = positions < priority.shape[1]
    return np.where(used, positions, 0).astype(np.int32), used.astype(np.float32)
