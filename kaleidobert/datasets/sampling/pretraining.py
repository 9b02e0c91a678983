"""Bank -> batches. Sampling is STATELESS: the batch is a pure function of (seed, step), so that the same run gives the same
batches whatever the number of workers, replicas or restarts, and resuming needs only the step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from kaleidobert import levels as kaleido
from kaleidobert.configs import Sampling
from kaleidobert.configs.section import check_name
from kaleidobert.datasets.bank import alignment
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.errors import UserError
from kaleidobert.levels import KaleidoLevel
from kaleidobert.preprocessors import alignment_guided_masking, examples, features, pretexts
from kaleidobert.preprocessors.examples import Arrays

ORDER, EXAMPLES, VALIDATION, OTHERS = range(4)  # independent random streams of one seed
ALL = slice(None)


def generator(seed: int, stream: int, step: int) -> np.random.Generator:
    """Returns a counter-based generator: its draws depend on these three numbers only."""
    key = np.random.SeedSequence([seed, stream]).generate_state(2, np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, step]))


class EpochOrder:
    """Rows in the order of training: every epoch a new permutation, batches run on across epochs."""

    def __init__(self, rows: np.ndarray, batch_size: int, seed: int):
        if batch_size < 1:
            raise UserError(f"train.batch_size is {batch_size}", "sampler", "at least 1")
        self.rows, self.batch_size, self._seed = rows, batch_size, seed
        self._permutation = lru_cache(2)(lambda epoch: generator(seed, ORDER, epoch).permutation(rows))

    def batch(self, step: int) -> np.ndarray:
        """Returns i64[batch_size]: the rows of a step, 0-based."""
        first = step * self.batch_size
        positions = np.arange(first, first + self.batch_size)
        epochs, indices = np.divmod(positions, len(self.rows))
        return np.concatenate([self._permutation(int(epoch))[indices[epochs == epoch]] for epoch in np.unique(epochs)])


class NegativeSampler:
    """Other products for a row: texts for negatives, donors for camouflage. Never the row's own product, group or text."""

    def __init__(self, bank: Bank, rows: np.ndarray, subcategory: str):
        self.rows = rows
        _, self._group = np.unique(bank.column("group"), return_inverse=True)
        texts = [" ".join(text.lower().split()) for text in bank.column("text")]
        _, self._text = np.unique(texts, return_inverse=True)
        _, self._subcategory = np.unique(bank.subcategories(subcategory), return_inverse=True)
        order = rows[np.argsort(self._subcategory[rows], kind="stable")]
        subcategories = self._subcategory[order]
        self._by_subcategory = order
        self._first = np.searchsorted(subcategories, np.arange(self._subcategory.max() + 1), "left")
        self._last = np.searchsorted(subcategories, np.arange(self._subcategory.max() + 1), "right")

    def related(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Returns bool, of the shapes' broadcast: the same group or the same text, so that one is no negative of the other."""
        return (self._group[rows] == self._group[others]) | (self._text[rows] == self._text[others])

    def identity(self, pictures: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """Returns i32[B, 5] of rows of pictures and texts: group of each, number of the picture's own text and of the text, and at which
        place of the batch the picture's own text stands, -1 = nowhere."""
        places = texts == pictures[:, None]
        own = np.where(texts == pictures, np.arange(len(texts)), np.where(places.any(1), places.argmax(1), -1))
        return np.stack((self._group[pictures], self._group[texts], self._text[pictures], self._text[texts], own), 1).astype(np.int32)

    def exchange(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns i64[B]: the rows in an order in which each stands at another product with another text; itself where none was found."""
        order = rng.permutation(len(rows))
        drawn = rows.copy()
        drawn[order] = rows[np.roll(order, 1)]
        for place in np.flatnonzero(self.related(drawn, rows)):  # changes with one that suits both, where there is one
            suited = np.flatnonzero(~self.related(drawn, rows[place]) & ~self.related(drawn[place], rows))
            if suited.size:
                other = rng.choice(suited)
                drawn[[place, other]] = drawn[[other, place]]
        return np.where(self.related(drawn, rows), rows, drawn)

    def draw(self, rows: np.ndarray, same_subcategory: np.ndarray, rng: np.random.Generator, tries: int = 8) -> np.ndarray:
        """Returns i64[B]: a row of another product with another text, from the same subcategory where same_subcategory[b]; the row itself
        where none was found (all texts equal, say). A subcategory without another product is left for the whole split."""
        result = rows.copy()
        for attempt in range(2 * tries):
            draw = rng.random(len(rows))
            own = self._subcategory[rows]
            low, high = self._first[own], self._last[own]
            inside = self._by_subcategory[np.minimum(low + (draw * (high - low)).astype(np.int64), len(self._by_subcategory) - 1)]
            anywhere = self.rows[(draw * len(self.rows)).astype(np.int64)]
            drawn = np.where(same_subcategory & (attempt < tries), inside, anywhere)
            missing = result == rows
            result = np.where(missing & ~self.related(drawn, rows), drawn, result)
            if not (result == rows).any():
                break
        return result


@dataclass(frozen=True)
class BatchPlan:
    """How B examples were spoiled: bank rows of pictures, texts and camouflage donors, what is masked, which stored vector
    stands in which slot (by level), and the token ids after replacement. A text of another row is a negative."""

    rows: np.ndarray
    text_rows: np.ndarray
    donors: np.ndarray
    masks: alignment_guided_masking.MaskPlan
    spoiled: dict[str, pretexts.Spoiled]
    token_ids: np.ndarray

    def chunk(self, rows: slice) -> "BatchPlan":
        """Returns the plan of some rows of the batch."""
        spoiled = {name: one.chunk(rows) for name, one in self.spoiled.items()}
        return BatchPlan(self.rows[rows], self.text_rows[rows], self.donors[rows], self.masks.chunk(rows), spoiled, self.token_ids[rows])


class PretrainSampler:
    """Pre-training batches: (inputs, targets, weights) as specs.inputs and specs.targets describe them, in the bank's storage.

    batch(step) spoils the step's rows anew; validation(step) spoils the split in its own order, the same way every time.
    contrastive: with targets and weights of image-text contrast, "itc"; a wrong text then is that of another product of the batch, so that
    the right texts of (nearly) all pictures are there to be told apart.
    """

    def __init__(self, bank: Bank, rows: np.ndarray, levels: Sequence[KaleidoLevel], sampling: Sampling, batch_size: int, seed: int,
                 contrastive: bool = False):
        check_name(sampling.masking, alignment_guided_masking.POLICIES, "sampling.masking")
        needs_alignment = alignment_guided_masking.POLICIES[sampling.masking].needs_alignment
        self._alignment = alignment.strengths(bank) if needs_alignment else None
        if needs_alignment and self._alignment is None:
            raise UserError(f"the bank holds no alignment, which sampling.masking={sampling.masking} needs", str(bank.folder), fix="run "
                            "`kaleidobert align` for this bank first, see configs/align.yaml, or set sampling.masking=random")
        self._bank, self._levels, self._sampling, self._seed = bank, tuple(levels), sampling, seed
        self._contrastive = contrastive
        self.order = EpochOrder(rows, batch_size, seed)
        self._negatives = NegativeSampler(bank, rows, sampling.subcategory)
        # batch and weights of a step share it
        self._drawn = lru_cache(4)(lambda step: self.draw(self.order.batch(step), generator(seed, EXAMPLES, step), contrastive))

    def batch(self, step: int, rows: slice = ALL) -> tuple[Arrays, Arrays, Arrays]:
        """Returns ``rows`` of the training batch of a step, a pure function of (seed, step); the features of these rows alone are read."""
        return self.assemble(self._drawn(step).chunk(rows))

    def weights(self, step: int) -> Arrays:
        """Returns the weights of the whole batch of a step; reads no feature."""
        return self._weights(self._drawn(step))

    def token_mask(self, step: int) -> np.ndarray:
        """Returns bool[B, T]: where the texts of the whole batch of a step have tokens; reads no feature."""
        return self._bank.token_ids[self._drawn(step).text_rows] != self._bank.vocabulary.pad

    def masked(self, levels: Sequence[str] = (), batches: int = 64) -> tuple[np.ndarray, dict[str, int]]:
        """Returns what the first batches mask: f64[V], how often each piece of the vocabulary, and of each of ``levels`` the patch that is
        masked most often; reads no feature."""
        counts = np.zeros(self._bank.vocabulary.size)
        patches = {level.name: np.zeros(level.num_patches) for level in self._levels if level.name in levels}
        for step in range(batches):
            plan = self._drawn(step)
            pieces = np.take_along_axis(self._bank.token_ids[plan.text_rows], plan.masks.tokens, 1)
            counts += np.bincount(pieces.ravel(), self._weights(plan)["mlm"].ravel(), len(counts))
            for name, seen in patches.items():
                seen += np.bincount(plan.masks.patches[name].ravel(), minlength=len(seen))
        return counts, {name: int(seen.argmax()) for name, seen in patches.items()}

    def validation(self, step: int) -> tuple[Arrays, Arrays, Arrays] | None:
        """Returns the step-th batch of the split in its own order, the last one smaller; None behind the end. Targets are always floats."""
        plan = self._validation_plan(step)
        return None if plan is None else self._judged(plan)

    def with_other_pictures(self, step: int) -> tuple[Arrays, Arrays, Arrays] | None:
        """Returns validation(step) with the picture of another product in every example, under the same masks: a control."""
        plan = self._validation_plan(step)
        if plan is None:
            return None
        inputs, targets, weights = self._judged(plan)
        others = self._negatives.draw(plan.rows, np.zeros(len(plan.rows), bool), generator(self._seed, OTHERS, step))
        pictures, _ = examples.pretraining(others, plan.donors, plan.masks.patches, plan.spoiled, self._levels, self._bank.gather)
        return {**inputs, **pictures, "patch_boxes": self._bank.boxes[others]}, targets, weights

    def without_words(self, step: int) -> tuple[Arrays, Arrays, Arrays] | None:
        """Returns validation(step) with [MASK] in place of every piece of the texts, whose lengths stay: a control."""
        plan = self._validation_plan(step)
        if plan is None:
            return None
        inputs, targets, weights = self._judged(plan)
        hidden = np.where(maskable(self._bank, plan.text_rows), np.int32(self._bank.vocabulary.mask), inputs["token_ids"])
        return {**inputs, "token_ids": hidden}, targets, weights

    def _validation_plan(self, step: int) -> BatchPlan | None:
        size = self.order.batch_size
        rows = self.order.rows[step * size : (step + 1) * size]
        return self.draw(rows, generator(self._seed, VALIDATION, step)) if len(rows) else None

    def _judged(self, plan: BatchPlan) -> tuple[Arrays, Arrays, Arrays]:
        inputs, targets, weights = self.assemble(plan)
        return inputs, features.to_floats(targets), weights

    def examples(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[Arrays, Arrays, Arrays]:
        """Returns spoiled examples of the given rows."""
        return self.assemble(self.draw(rows, rng))

    def draw(self, rows: np.ndarray, rng: np.random.Generator, exchange: bool = False) -> BatchPlan:
        """Returns everything that is random in the examples of rows; reads no feature. exchange: wrong texts are those of other rows."""
        bank, sampling, batch = self._bank, self._sampling, len(rows)
        negative = rng.random(batch) < sampling.negative_share
        same = rng.random(batch) < sampling.negatives_same_subcategory
        text_rows = rows.copy()
        text_rows[negative] = self._negatives.exchange(rows[negative], rng) if exchange else self._negatives.draw(rows, same, rng)[negative]
        donors = self._negatives.draw(rows, np.zeros(batch, bool), rng)
        foreign = text_rows != rows
        masks = alignment_guided_masking.plan(sampling.masking, self._texts(text_rows), self._levels, quota(sampling), rng, foreign,
                             self._texts(rows[foreign]))
        none = np.zeros((batch, 0), np.int32)
        spoiled = {level.name: pretexts.spoil(level, masks.patches.get(level.name, none), rng) for level in self._levels}
        replaced = alignment_guided_masking.replace(bank.token_ids[text_rows], masks, bank.vocabulary.mask, bank.vocabulary.ordinary, rng)
        return BatchPlan(rows, text_rows, donors, masks, spoiled, replaced)

    def _texts(self, rows: np.ndarray) -> alignment_guided_masking.Texts:
        """Returns the texts of rows, each with the links to its own picture where the policy needs them."""
        links = None if self._alignment is None else self._alignment[rows]
        can_be = maskable(self._bank, rows) & bool(self._sampling.mask_rate)  # at least one token would be masked otherwise
        return alignment_guided_masking.Texts(can_be, self._bank.token_words[rows], links)

    def assemble(self, draw: BatchPlan) -> tuple[Arrays, Arrays, Arrays]:
        """Returns the examples of a draw."""
        bank, rows, masks = self._bank, draw.rows, draw.masks
        token_ids, match = bank.token_ids[draw.text_rows], draw.text_rows == rows
        inputs, targets = examples.pretraining(rows, draw.donors, masks.patches, draw.spoiled, self._levels, bank.gather)
        inputs |= {**examples.text(token_ids, bank.vocabulary.pad), "token_ids": draw.token_ids}
        inputs |= {"patch_boxes": bank.boxes[rows], "masked_tokens": masks.tokens}
        targets |= {"mlm": np.take_along_axis(token_ids, masks.tokens, 1), "itm": match.astype(np.int32)}
        if self._contrastive:
            targets["itc"] = self._negatives.identity(rows, draw.text_rows)
        return inputs, targets, self._weights(draw)

    def _weights(self, draw: BatchPlan) -> Arrays:
        match, ones = draw.text_rows == draw.rows, np.ones(len(draw.rows), np.float32)
        counts = ones if self._sampling.losses_on_negatives == "all" else match.astype(np.float32)
        weights = {level.name: counts for level in kaleido.target_levels(self._levels)}
        if self._contrastive:
            weights["itc"] = np.isin(draw.rows, draw.text_rows).astype(np.float32)
        return weights | {"mlm": draw.masks.token_weights * counts[:, None], "itm": ones}


def quota(sampling: Sampling) -> alignment_guided_masking.Quota:
    """Returns what alignment_guided_masking.plan reads of a configuration."""
    return alignment_guided_masking.Quota(sampling.mask_rate, sampling.max_masked, sampling.whole_word, sampling.pairs, sampling.camouflage)


def maskable(bank: Bank, rows: np.ndarray | slice) -> np.ndarray:
    """Returns bool[B, T]: the pieces of rows that can be masked: neither [CLS] nor [SEP] nor padding."""
    vocabulary = bank.vocabulary
    return ~np.isin(bank.token_ids[rows], (vocabulary.pad, vocabulary.start, vocabulary.end))


def clean_batch(bank: Bank, rows: np.ndarray, text_rows: np.ndarray | None = None) -> Arrays:
    """Returns model inputs of unspoiled pictures with their own texts, or with those of ``text_rows``; features in the bank's storage."""
    token_ids = bank.token_ids[rows if text_rows is None else text_rows]
    picture = examples.clean(rows, bank.levels, bank.gather)
    return {**examples.text(token_ids, bank.vocabulary.pad), **picture, "patch_boxes": bank.boxes[rows]}


def clean_features(bank: Bank, rows: np.ndarray) -> np.ndarray:
    """Returns f16[B, P, F] of unspoiled pictures, however the bank is stored."""
    return features.to_floats(examples.clean(rows, bank.levels, bank.gather))["patch_features"]


def fraction_of_groups(bank: Bank, rows: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Returns the rows of a fraction of the groups, drawn from the seed: few labels, without near-duplicates of the others."""
    if not 0 < fraction <= 1:
        raise UserError(f"data.train_share is {fraction}", "sampler", "a fraction above 0 and at most 1")
    if fraction == 1:
        return rows
    groups = np.unique(bank.column("group")[rows])
    kept = generator(seed, ORDER, 0).permutation(groups)[: max(1, round(fraction * len(groups)))]
    return rows[np.isin(bank.column("group")[rows], kept)]


def hold_out(bank: Bank, rows: np.ndarray, fraction: float, seed: int, fix: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns (rows to train on, rows that choose the weights): the second are those of a fraction of the groups, at least two and at most
    all but two, drawn from the seed; none where the fraction is 0. So nothing is chosen by rows that are reported on afterwards.

    fix: how the command does without. Raises UserError for fewer than 4 groups.
    """
    if not fraction:
        return rows, rows[:0]
    groups = count_groups(bank, rows)
    if groups < 4:
        raise UserError(f"the training split has {groups} group(s)", str(bank.folder), "at least 4: two to train on and two that "
                        "are held out to choose the best epoch", f"use a larger data.train_share, or {fix}")
    held = fraction_of_groups(bank, rows, min(max(fraction, 2 / groups), 1 - 2 / groups), seed + 1)
    return np.setdiff1d(rows, held), held


def count_groups(bank: Bank, rows: np.ndarray) -> int:
    """Returns how many groups the rows belong to."""
    return len(np.unique(bank.column("group")[rows]))
