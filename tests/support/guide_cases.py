"""For the tests of Alignment Guided Masking: small cases, and the rules as a plain loop over one example at a time."""

from dataclasses import dataclass

import numpy as np

from kaleidobert import levels as kaleido
from kaleidobert.preprocessors import alignment_guided_masking
from kaleidobert.preprocessors.alignment_guided_masking import JITTER, KEYS, Quota

WIDTH = 20


def rng(seed=0):
    return np.random.Generator(np.random.Philox(seed))


@dataclass
class Case:
    """What guide reads."""

    maskable: np.ndarray
    words: np.ndarray
    alignment: np.ndarray
    levels: tuple
    quota: Quota

    def plan(self, seed=0):
        return alignment_guided_masking.plan("alignment_guided", self.texts, self.levels, self.quota, rng(seed))

    @property
    def texts(self):
        return alignment_guided_masking.Texts(self.maskable, self.words, self.alignment)


ALL = Quota(pairs="all", camouflage="guided")  # every group is drawn, on every level: the plainest rules


def make(lengths, levels, density, seed=0, per_word=0.6, quota=ALL) -> Case:
    """Texts of these lengths, words of one or more pieces, a share of them linked; few different strengths, so that some tie."""
    draw, lengths = rng(seed), np.asarray(lengths)
    places = np.arange(WIDTH)
    maskable = (places >= 1) & (places <= lengths[:, None])
    words = np.where(maskable, np.cumsum(draw.random(maskable.shape) < per_word, axis=1), -1).astype(np.int16)
    count = kaleido.num_patches(levels)
    strengths = draw.integers(1, 5, (len(lengths), WIDTH + 1, count)) / 8
    strengths *= (draw.random(strengths.shape) < 2 / 9) & (draw.random(strengths.shape[:2]) < density)[..., None]
    masked = np.repeat([level.num_masked > 0 for level in levels], [level.num_patches for level in levels])
    linked = np.take_along_axis(strengths * masked, np.maximum(words, 0)[..., None].astype(int), 1) * maskable[..., None]
    return Case(maskable, words, linked.astype(np.float16), levels, quota)


def chosen(plan, row):
    """(masked tokens, {level: masked patches}) of an example, as sets."""
    return set(plan.tokens[row, plan.token_weights[row] > 0].tolist()), {name: set(k[row].tolist()) for name, k in plan.patches.items()}


# --- the rules, one example after the other, with the draws that guide makes ------------------------------------------


def loop(case: Case, seed: int):
    """What guide must do, for each example: (tokens, {level: patches})."""
    draw, (batch, width), count = rng(seed), case.maskable.shape, kaleido.num_patches(case.levels)
    coin, key = np.divmod(np.floor(2 * KEYS * draw.random((batch, width))), KEYS)
    any_token, any_patch = draw.random((batch, width)), draw.random((batch, count))
    return [one(case, row, coin[row] == 1, 1 + key[row], any_token[row], any_patch[row])
            for row in range(batch)]


def one(case, row, on_text, key, any_token, any_patch):
    words, allowed = case.words[row], np.flatnonzero(case.maskable[row]).tolist()
    head = {t: min(s for s in allowed if words[s] == words[t]) for t in allowed}
    slices = kaleido.patch_slices(case.levels)
    room = {level.name: level.num_masked for level in case.levels if level.num_masked}
    links = {head[t]: {} for t in allowed}
    for t in allowed:
        for p in np.flatnonzero(case.alignment[row, t]).tolist():
            links[head[t]][p] = max(float(case.alignment[row, t, p]), links[head[t]].get(p, 0))
    aligned = {h for h in links if links[h]}
    guided = {p for level in case.levels if level.num_masked and (level.answer == "feature" or case.quota.camouflage == "guided")
              for p in range(slices[level.name].start, slices[level.name].stop)}
    links = {h: {p: strength for p, strength in of.items() if p in guided} for h, of in links.items()}
    on_text = [bool(coin) or not links.get(t) for t, coin in enumerate(on_text)]
    limit = min(len(allowed), max(1, min(case.quota.max_masked, round(case.quota.mask_rate * len(allowed)))))
    groups = sorted(aligned, key=lambda h: -key[h])[: limit if case.quota.pairs == "quota" else None]
    tokens, patches = [], []

    def level_of(p):
        return next(name for name, part in slices.items() if part.start <= p < part.stop)

    def take_patches(candidates):
        for p in candidates:
            if p not in patches and room.get(level_of(p), 0):
                patches.append(p)
                room[level_of(p)] -= 1

    def take_tokens(candidates):
        tokens.extend([t for t in candidates if t not in tokens][: limit - len(tokens)])

    pieces = {h: sorted((t for t in allowed if head[t] == h), key=lambda t: -any_token[t]) for h in links}
    for g in groups:
        if on_text[g]:
            take_tokens(pieces[g])
    waiting = {g for g in groups if not on_text[g]}
    together = set(links if case.quota.whole_word else groups)
    at_random = sorted(allowed, key=lambda t: (-any_token[head[t] if head[t] in together else t], -any_token[t]))
    take_tokens(t for t in at_random if head[t] not in waiting)
    take_tokens(at_random)
    blocked = {p for t in tokens for p in links[head[t]]}
    for g in (g for g in groups if not on_text[g]):
        take_patches(sorted((p for p in links[g] if p not in blocked), key=lambda p: -links[g][p] / 2 - JITTER * any_patch[p]))
    order = np.argsort(-any_patch).tolist()
    take_patches(p for p in order if p not in blocked)
    take_patches(order)
    return set(tokens), {name: {p - slices[name].start for p in patches if level_of(p) == name} for name in room}
