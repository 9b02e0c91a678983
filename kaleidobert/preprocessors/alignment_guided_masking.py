"""What is masked: a plan of tokens and patches for every example of a batch (paper, section 3.2; quotas as released).

Policies are rows of POLICIES: ``random``, and ``alignment_guided``, the paper's Alignment Guided Masking (AGM). Whatever the policy, the
quotas are met exactly, [CLS], [SEP] and padding are never masked, and no id is taken twice.

Masks reveal no answer. A policy is a pure function of a product (its text, its links) and of random numbers. Where the text of an
example is another product's, its tokens are masked as in that product, and its patches as in the picture's own product, with the
same random numbers: tokens alone and patches alone are masked alike whether text and picture belong together or not. And the
patch that ``camouflage`` predicts is drawn evenly, so that no other masked patch reveals it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kaleidobert import levels as kaleido
from kaleidobert.errors import UserError
from kaleidobert.levels import KaleidoLevel

# Priorities are numbers, the highest comes first: a whole number orders words, the fraction behind it what belongs to one word, a draw
# from 0..1 orders what belongs to none
KEYS = 2.0**24  # whole numbers of words; two of 30 words share one once in 40,000 texts, and then their pieces and patches mix
JITTER = 2.0**-16  # times a draw: strengths as close as this are equal and drawn; far above the precision of the whole numbers
LAST = -2.0  # added to a draw: behind everything else


@dataclass(frozen=True)
class Quota:
    """How much is masked, and how AGM draws.

    mask_rate: fraction of the maskable tokens that is masked, at least one and at most ``max_masked``. whole_word: the pieces of a word
    are masked together; where the quota ends inside a word, as many of its pieces as are left, drawn at random: the number of masked
    tokens stays what it is without whole words, and at most one word per text is masked in part. pairs: how many aligned words AGM draws
    at most: "quota", as many as tokens are masked, or "all". camouflage: the slot that is predicted is drawn "even", or "guided" by AGM
    as in the paper, where the other masked patches reveal it.
    """

    mask_rate: float = 0.15
    max_masked: int = 10
    whole_word: bool = False
    pairs: str = "quota"
    camouflage: str = "even"


@dataclass(frozen=True)
class MaskPlan:
    """tokens i32[B, M]: masked text positions, ascending, 0 where unused; token_weights f32[B, M]: 1 used, 0 not;
    patches {level name: i32[B, k]}: masked patches inside the level, ascending, for levels with num_masked > 0."""

    tokens: np.ndarray
    token_weights: np.ndarray
    patches: dict[str, np.ndarray]

    def chunk(self, rows: slice) -> "MaskPlan":
        """Returns the plan of some rows of the batch."""
        return MaskPlan(self.tokens[rows], self.token_weights[rows], {name: chosen[rows] for name, chosen in self.patches.items()})


@dataclass(frozen=True)
class Texts:
    """The texts of B products. maskable bool[B, T]; token_words i16[B, T], index of each piece's word, the pieces of a word side by
    side; alignment f16[B, T, P], strengths of the links between the pieces and the product's own picture, 0 = not linked, or None."""

    maskable: np.ndarray
    token_words: np.ndarray
    alignment: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> "Texts":
        """Returns the texts of some of the products."""
        return Texts(self.maskable[rows], self.token_words[rows], None if self.alignment is None else self.alignment[rows])


@dataclass(frozen=True)
class Lots:
    """Random numbers from 0..1, all that a policy leaves to chance. words f64[B, T]: of a word, at its first piece; tokens f64[B, T];
    patches f64[B, P]."""

    words: np.ndarray
    tokens: np.ndarray
    patches: np.ndarray

    def take(self, rows: np.ndarray) -> "Lots":
        """Returns the same of some of the examples."""
        return Lots(self.words[rows], self.tokens[rows], self.patches[rows])


def draw(shape: tuple[int, int], levels: Sequence[KaleidoLevel], rng: np.random.Generator) -> Lots:
    """Returns the lots of B texts of T tokens, shape = (B, T)."""
    return Lots(rng.random(shape), rng.random(shape), rng.random((shape[0], kaleido.num_patches(levels))))


def plan(policy: str, texts: Texts, levels: Sequence[KaleidoLevel], quota: Quota, rng: np.random.Generator,
         foreign: np.ndarray | None = None, own: Texts | None = None) -> MaskPlan:
    """Returns the mask plan of a batch.

    texts: those that the examples show, each with the alignment of its own product; foreign bool[B]: where the text is not the
    picture's; own: the texts of the pictures' own products, for these examples only, by which their patches are masked.
    Raises UserError for an unknown policy or one that needs an alignment where there is none.
    """
    if policy not in POLICIES:
        raise UserError(f"the masking policy {policy!r} is not available", "sampling.masking", f"one of {', '.join(POLICIES)}")
    lots = draw(texts.maskable.shape, levels, rng)
    result = POLICIES[policy].plan(texts, levels, quota, lots)
    if foreign is None or not foreign.any():
        return result
    assert own is not None  # comes with ``foreign``
    beside = POLICIES[policy].plan(own, levels, quota, lots.take(np.flatnonzero(foreign))).patches
    patches = {name: chosen.copy() for name, chosen in result.patches.items()}
    for name, chosen in beside.items():
        patches[name][foreign] = chosen
    return MaskPlan(result.tokens, result.token_weights, patches)


def random(texts: Texts, levels: Sequence[KaleidoLevel], quota: Quota, lots: Lots) -> MaskPlan:
    """Masks tokens (words, where the quota says so) and patches independently and uniformly at random."""
    tokens = lots.tokens
    if quota.whole_word:
        tokens = lots.words.ravel()[_heads(texts.token_words)] + JITTER * tokens
    return MaskPlan(*_tokens(tokens, texts.maskable, quota), _patches(lots.patches, levels))


def alignment_guided(texts: Texts, levels: Sequence[KaleidoLevel], quota: Quota, lots: Lots) -> MaskPlan:
    """Masks by Alignment Guided Masking (paper, section 3.2).

    A word with a link is a group: its pieces and its patches on the masked levels. At most as many groups as tokens are masked are
    drawn (``pairs``). A fair coin per drawn group says which side of it is masked, pieces or patches, never both. The groups come
    in random order, each takes what is left of the quotas; of a group's patches on a level, the strongest first. What they leave
    of the quotas goes at random to all other tokens and patches, those of groups that were not drawn included: otherwise words
    without a link are hardly ever masked where most have one. A patch of a word with a masked piece, and a piece of a word whose
    patches were drawn, are used only when nothing else is left. A word whose patches lie on other levels only has one side, its
    pieces.

    Two words can share a patch, of which one has a masked piece and the other claims the patch. Text comes first: the patches of words with
    a masked piece are blocked, and the claim is dropped. The other way round would cost more: a few pieces block few patches, but a few
    patches, each of which belongs to many words, would block most words that mean something. Where all words share the same few patches,
    aligned words are masked, and their patches are blocked, so that the masked patches are as good as random.
    """
    if texts.alignment is None:
        raise UserError("there is no alignment", "sampling.masking: alignment_guided", "strengths of tokens and patches")
    maskable = texts.maskable
    (batch, width), num_patches = maskable.shape, kaleido.num_patches(levels)
    # a word goes by the place of its first piece in [B * T]; what is known by word has that size
    word = _heads(texts.token_words)
    piece, patch, strength = _links(texts.alignment, maskable)  # [L]: of each link
    linked, claimable = word.ravel()[piece], _guided(levels, quota)[patch]  # the word of each link; whether AGM may mask its patch

    # 1. Groups: the order of the words (a whole number, the higher the earlier), the coin of each, and which are drawn
    order = 1 + np.floor(2 * KEYS * lots.words.ravel())
    on_text = order > KEYS  # the coin
    order -= KEYS * on_text
    drawn, has_patches = np.zeros((2, maskable.size), bool)
    drawn[linked], has_patches[linked[claimable]] = True, True
    on_text |= ~has_patches
    if quota.pairs == "quota":
        drawn &= _highest(np.where(drawn, order, 0).reshape(batch, width), _wanted(maskable, quota)).ravel()

    # 2. Text: the pieces of drawn words by their order, all others at random; those of words whose patches are to be masked come last
    alone = lots.tokens if not quota.whole_word else lots.tokens.ravel()[word]
    grouped = np.where(on_text, order, LAST + lots.tokens.ravel())[word]
    tokens, weights = _tokens(np.where(drawn[word], grouped, alone) + JITTER * lots.tokens, maskable, quota)

    # 3. Patches: those of words with a masked piece are blocked; drawn words claim theirs, the strongest first; the rest at random
    linked, piece, patch, strength = linked[claimable], piece[claimable], patch[claimable], strength[claimable]
    slot = piece // width * num_patches + patch  # of each link, in [B * P]
    has_masked_piece, blocked = np.zeros(maskable.size, bool), np.zeros(batch * num_patches, bool)
    rows, columns = np.nonzero(weights)
    has_masked_piece[word[rows, tokens[rows, columns]]] = True
    blocked[slot[has_masked_piece[linked]]] = True
    claims = np.flatnonzero(drawn[linked] & ~on_text[linked])
    claim, at_random = np.zeros(batch * num_patches), lots.patches.ravel()
    np.maximum.at(claim, slot[claims], order[linked[claims]] + strength[claims] / 2 + JITTER * at_random[slot[claims]])
    priority = np.where(blocked, LAST + at_random, np.where(claim > 0, claim, at_random))
    return MaskPlan(tokens, weights, _patches(priority.reshape(batch, num_patches), levels))


@dataclass(frozen=True)
class Policy:
    """A row of POLICIES. plan: makes the MaskPlan; needs_alignment: whether it reads ``Texts.alignment``."""

    plan: Callable[[Texts, Sequence[KaleidoLevel], Quota, Lots], MaskPlan]
    needs_alignment: bool = False


POLICIES: dict[str, Policy] = {"random": Policy(random), "alignment_guided": Policy(alignment_guided, needs_alignment=True)}


def replace(token_ids: np.ndarray, masks: MaskPlan, mask_id: int, ordinary: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Returns i32[B, T]: of the masked tokens 80% become [MASK], 10% a random ordinary piece, 10% stay (BERT's rule)."""
    draw, other = rng.random(masks.tokens.shape), rng.integers(*ordinary, size=masks.tokens.shape)
    rows, slots = np.nonzero(masks.token_weights)
    positions = masks.tokens[rows, slots]
    draw, other, old = draw[rows, slots], other[rows, slots], token_ids[rows, positions]
    replaced = token_ids.copy()
    replaced[rows, positions] = np.where(draw < 0.8, mask_id, np.where(draw < 0.9, other, old))
    return replaced


def _heads(token_words: np.ndarray) -> np.ndarray:
    """Returns i64[B, T]: the position in [B * T] of the first piece of each token's word: a name for the word. A token of no word (-1)
    is a word of its own."""
    starts = np.ones(token_words.shape, bool)
    starts[:, 1:] = (token_words[:, 1:] != token_words[:, :-1]) | (token_words[:, 1:] < 0)
    positions = np.arange(token_words.size).reshape(token_words.shape)
    return np.maximum.accumulate(np.where(starts, positions, 0), axis=1)


def _guided(levels: Sequence[KaleidoLevel], quota: Quota) -> np.ndarray:
    """Returns bool[P]: the patches that AGM chooses among. The slot of a masked patch is the answer of a "class" level: there it is drawn
    evenly, unless the quota says otherwise, for the other masked patches of a word lie at the same location."""
    guided = [level.num_masked > 0 and (level.answer == "feature" or quota.camouflage == "guided") for level in levels]
    return np.repeat(guided, [level.num_patches for level in levels])


def _links(alignment: np.ndarray, maskable: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (piece i64[L]: position in [B * T]; patch i64[L]; strength f64[L]) of the links of pieces that can be masked."""
    alignment = np.ascontiguousarray(alignment, np.float16)
    # positive halves are positive integers of the same bits, which compare ten times as fast
    flat = np.flatnonzero(alignment.view(np.int16).ravel() > 0)
    piece, patch = np.divmod(flat, alignment.shape[-1])
    kept = maskable.ravel()[piece]
    return piece[kept], patch[kept], alignment.ravel()[flat[kept]].astype(np.float64)


def _tokens(priority: np.ndarray, maskable: np.ndarray, quota: Quota) -> tuple[np.ndarray, np.ndarray]:
    """Returns MaskPlan.tokens and token_weights: the maskable tokens of highest priority [B, T]."""
    return _top(np.where(maskable, priority, -np.inf), _wanted(maskable, quota), quota.max_masked)


def _wanted(maskable: np.ndarray, quota: Quota) -> np.ndarray:
    """Returns i64[B]: how many tokens of each text are masked."""
    count = maskable.sum(1)
    return np.minimum(np.clip(np.rint(quota.mask_rate * count), 1, quota.max_masked).astype(np.int64), count)


def _highest(keys: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Returns bool[B, T]: the count[b] highest keys [B, T] above 0; those equal to the last are all among them."""
    ordered = -np.sort(-np.pad(keys, ((0, 0), (0, 1))), axis=1)
    return (keys > 0) & (keys >= np.take_along_axis(ordered, np.maximum(count, 1)[:, None] - 1, 1))


def _patches(priority: np.ndarray, levels: Sequence[KaleidoLevel]) -> dict[str, np.ndarray]:
    """Returns MaskPlan.patches: on each masked level the num_masked patches of highest priority [B, P]."""
    patches = {}
    for level, columns in zip(levels, kaleido.patch_slices(levels).values()):
        if level.num_masked:
            best = np.argpartition(-priority[:, columns], level.num_masked - 1, axis=1)[:, : level.num_masked]
            patches[level.name] = np.sort(best, axis=1).astype(np.int32)
    return patches


def _top(priority: np.ndarray, count: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns positions of the count[b] highest priorities, ascending, as i32[B, width] (0 where unused), and 1/0 weights f32."""
    width = min(width, priority.shape[1])
    best = np.argpartition(-priority, width - 1, axis=1)[:, :width]
    best = np.take_along_axis(best, np.argsort(-np.take_along_axis(priority, best, 1), axis=1, kind="stable"), 1)
    used = np.arange(width) < count[:, None]
    positions = np.sort(np.where(used, best, priority.shape[1]), axis=1)
    used = positions < priority.shape[1]
    return np.where(used, positions, 0).astype(np.int32), used.astype(np.float32)
