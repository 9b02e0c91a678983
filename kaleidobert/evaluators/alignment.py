"""How well alignments locate the parts that words name, where the parts' boxes are known, and statistics of a corpus's alignment.

Pointing game: whether the peak of a word's map lies in a box of the part, without the tolerance that some papers allow. Patch hits: the
fraction of the word's linked patches of a level that hit the part; a patch hits where its centre lies in a box or a box's centre lies in
the patch, so that parts smaller than a patch and larger ones can both be hit. METHODS to choose the point or the patches:
    alignment      the peak of the map, the linked patches
    chance         a point of the frame, or a patch of the level, drawn uniformly (expected value)
    centre         the frame's centre, or the patches nearest to it
    mean_position  the mean position of the same word's parts in training rows, or the patches nearest to it
    best_position  the point or patch that hits the same word's parts most often in training rows. It is stricter than the mean position:
                   it is chosen by the truth, which the captioner never sees, and lies on one sleeve instead of between two
CONTROLS show whether an alignment looks at the picture: what stands in for the word's own map, and then is treated alike
    position_alone  the mean of the word's maps in training rows: the same map in every picture
    other_picture   the word's map in a picture of another product, drawn at random
    other_word      the map of another word of the same text, drawn at random
    look            no map, but the alignment's score less that of position_alone: what looking at the picture brings
Positions are fractions of the whole picture, x1, x2, y1, y2 as everywhere. Letters: N sightings, K boxes, P patches.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kaleidobert import levels as kaleido
from kaleidobert.errors import UserError
from kaleidobert.evaluators.statistics import RESAMPLES, bootstrap, interval, times_drawn
from kaleidobert.levels import KaleidoLevel

POINTS = 49  # per side of the frame: the raster of chance and best_position; odd, so that the middle is one of them
METHODS = ("alignment", "chance", "centre", "mean_position", "best_position")
CONTROLS = ("position_alone", "other_picture", "other_word")
LOOK = "look"
BLOCK = 512  # rows in memory at a time
NEAR = 1e-6  # patches of even grids lie equally near to the centre


@dataclass(frozen=True)
class Sightings:
    """Words that name a part of a picture, one per word and picture.

    rows i64[N]: of the bank; words str[N]: lower case; boxes f64[N, K, 4]: of the parts, NaN where there are fewer; frames f64[N, 4]: the
    foreground; patches f64[N, P, 5].
    """

    rows: np.ndarray
    words: np.ndarray
    boxes: np.ndarray
    frames: np.ndarray
    patches: np.ndarray


def sightings(rows: Sequence[int] | np.ndarray, table: Sequence[Mapping[str, Any]], boxes: np.ndarray) -> Sightings:
    """Returns the sightings of some rows of a bank. table: its lines with "box" and "parts" in pixels; boxes f32[N, P, 5]: of all rows.

    Raises UserError where no picture has a described part.
    """
    seen = []
    for row in rows:
        x1, x2, y1, y2 = frame = frames(boxes[row])
        left, top, right, bottom = table[row]["box"]
        by_word: dict[str, list] = {}
        for part in table[row]["parts"]:
            (a, b, c, d), wide, high = part["box"], (x2 - x1) / (right - left), (y2 - y1) / (bottom - top)
            by_word.setdefault(part["word"].lower(), []).append(
                (x1 + (a - left) * wide, x1 + (c - left) * wide, y1 + (b - top) * high, y1 + (d - top) * high))
        seen += [(row, word, part_boxes, frame) for word, part_boxes in by_word.items()]
    if not seen:
        raise UserError("no picture has described parts", "evaluation of the alignment", "a catalogue with a column of parts",
                        "map source.columns.parts and make the bank again")
    padded = np.full((len(seen), max(len(part_boxes) for _, _, part_boxes, _ in seen), 4), np.nan)
    for target, (_, _, part_boxes, _) in zip(padded, seen):
        target[: len(part_boxes)] = part_boxes
    of_rows = np.array([row for row, *_ in seen])
    return Sightings(of_rows, np.array([word for _, word, *_ in seen]), padded, np.array([frame for *_, frame in seen]),
                     boxes[of_rows].astype(np.float64))


def frames(boxes: np.ndarray) -> np.ndarray:
    """Returns f64[..., 4], the region that patches [..., P, 5] tile: the foreground's box."""
    boxes = boxes.astype(np.float64)
    return np.stack([boxes[..., 0].min(-1), boxes[..., 1].max(-1), boxes[..., 2].min(-1), boxes[..., 3].max(-1)], -1)


def peaks(maps: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Returns f64[N, 2]: x, y of the centre of the highest cell of maps [N, G, G] over their frames; NaN where a map is NaN."""
    grid = maps.shape[-1]
    flat = maps.reshape(len(maps), -1)
    row, column = np.divmod(np.where(np.isnan(flat), -1, flat).argmax(1), grid)
    fraction = (np.stack([column, row], 1) + 0.5) / grid
    low, high = frames[:, [0, 2]], frames[:, [1, 3]]
    return np.where(np.isnan(flat).any(1)[:, None], np.nan, low + fraction * (high - low))


def inside(points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Returns bool[N, Q], whether points [N, Q, 2] lie in a box of [N, K, 4]."""
    x, y = points[..., 0, None], points[..., 1, None]
    x1, x2, y1, y2 = boxes.transpose(2, 0, 1)[:, :, None]
    return ((x >= x1) & (x < x2) & (y >= y1) & (y < y2)).any(-1)


def patch_hits(sightings: Sightings) -> np.ndarray:
    """Returns bool[N, P], whether a patch hits the sighting's part."""
    centres = (sightings.patches[..., [0, 2]] + sightings.patches[..., [1, 3]]) / 2
    middles = (sightings.boxes[..., [0, 2]] + sightings.boxes[..., [1, 3]]) / 2  # [N, K, 2]
    hit = inside(centres, sightings.boxes)
    for k in range(middles.shape[1]):
        x, y = middles[:, k, None, 0], middles[:, k, None, 1]
        x1, x2, y1, y2 = sightings.patches.transpose(2, 0, 1)[:4]
        hit |= (x >= x1) & (x < x2) & (y >= y1) & (y < y2)
    return hit


def scores(test: Sightings, train: Sightings, peaks: np.ndarray, links: np.ndarray, levels: Sequence[KaleidoLevel],
           controls: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None) -> dict[str, dict[str, np.ndarray]]:
    """Returns {"pointing" or level: {method: f64[N]}}, 0..1 for each sighting of ``test``, for METHODS and levels with num_masked > 0.

    peaks f64[N, 2]; links [N, P]: strengths of the sighting's word. A word without a link on a level hits nothing there. controls: further
    methods, peaks and links of each; LOOK stands beside them where position_alone is one, and lies within -1..1.
    """
    answers = {"alignment": (peaks, links), **(controls or {})}
    raster = (np.stack(np.meshgrid(np.arange(POINTS), np.arange(POINTS), indexing="xy"), -1).reshape(-1, 2) + 0.5) / POINTS
    hit, known = (inside(x.frames[:, None, [0, 2]] + raster * (x.frames[:, None, [1, 3]] - x.frames[:, None, [0, 2]]), x.boxes)
                  for x in (test, train))
    centre = ((test.frames[:, [0, 2]] + test.frames[:, [1, 3]]) / 2)[:, None]
    middle = np.broadcast_to((np.abs(raster - 0.5) < 1e-9).all(1), hit.shape)
    mean = _mean_position(test, train)
    result = {"pointing": {
        "alignment": inside(peaks[:, None], test.boxes)[:, 0], "chance": hit.mean(1), "centre": inside(centre, test.boxes)[:, 0],
        "mean_position": inside(mean, test.boxes)[:, 0], "best_position": _best_position(hit, test.words, known, train.words, middle),
        **{name: inside(own[:, None], test.boxes)[:, 0] for name, (own, _) in answers.items()}}}
    hits, known = patch_hits(test), patch_hits(train)
    from_centre, from_mean = (np.hypot(*((test.patches[..., [0, 2]] + test.patches[..., [1, 3]]) / 2 - point).transpose(2, 0, 1))
                              for point in (centre, mean))
    for level, own in zip(levels, kaleido.patch_slices(levels).values()):
        if level.num_masked:
            middle, usual = (_nearest(far[:, own]) for far in (from_centre, from_mean))
            result[level.name] = {"alignment": _mean(hits[:, own], links[:, own] > 0), "chance": hits[:, own].mean(1),
                                  "centre": _mean(hits[:, own], middle), "mean_position": _mean(hits[:, own], usual),
                                  "best_position": _best_position(hits[:, own], test.words, known[:, own], train.words, middle),
                                  **{name: _mean(hits[:, own], strengths[:, own] > 0) for name, (_, strengths) in answers.items()}}
    as_floats = {name: {method: values.astype(np.float64) for method, values in row.items()} for name, row in result.items()}
    for row in as_floats.values():
        if CONTROLS[0] in row:
            row[LOOK] = row["alignment"] - row[CONTROLS[0]]
    return as_floats


def summary(scores: Mapping[str, Mapping[str, np.ndarray]], sightings: Sightings, rng: np.random.Generator, resamples: int = RESAMPLES
            ) -> dict[str, Any]:
    """Returns {measure: {method: {value, low, high, sightings: {value, low, high}}, "words": {word: {"count", method: mean}}}}.

    value: the mean over words of each word's mean over its sightings, so that frequent words do not decide it; under "sightings" the mean
    over all sightings. low, high: 95% interval by bootstrap over pictures, because the words of one picture are not independent.
    """
    names, word = np.unique(sightings.words, return_inverse=True)
    pictures, picture = np.unique(sightings.rows, return_inverse=True)
    counts = np.zeros((len(pictures), len(names)))
    np.add.at(counts, (picture, word), 1)
    table = [(measure, method, np.zeros_like(counts)) for measure, by_method in scores.items() for method in by_method]
    for measure, method, sums in table:
        np.add.at(sums, (picture, word), scores[measure][method])

    def means(units: np.ndarray) -> np.ndarray:
        """Computes f64[K, 2, b]: of every row of the table, the mean over words and over sightings."""
        times = times_drawn(units)
        drawn = times @ counts
        # a word that a resample lacks has no mean there
        return np.array([[np.nanmean(np.where(drawn > 0, times @ sums / np.maximum(drawn, 1), np.nan), 1),
                          times @ sums.sum(1) / drawn.sum(1)] for _, _, sums in table])

    low, high = bootstrap(means, len(pictures), rng, resamples)
    result: dict[str, dict[str, Any]] = {
        measure: {"words": {name: {"count": int(count)} for name, count in zip(names.tolist(), counts.sum(0))}} for measure in scores}
    for row, (measure, method, sums) in enumerate(table):
        of_words = sums.sum(0) / counts.sum(0)
        result[measure][method] = {**interval(of_words.mean(), low[row, 0], high[row, 0]),
                                   "sightings": interval(sums.sum() / counts.sum(), low[row, 1], high[row, 1])}
        for name, mean in zip(names.tolist(), of_words):
            result[measure]["words"][name][method] = float(mean)
    return {measure: {**{name: row for name, row in of.items() if name != "words"}, "words": of["words"]} for measure, of in result.items()}


def statistics(strengths: np.ndarray, token_words: np.ndarray, words: Sequence[Sequence[str]], levels: Sequence[KaleidoLevel],
               counted: Callable[[Sequence[str]], np.ndarray] | None = None, min_count: int = 5, top: int = 20) -> dict[str, Any]:
    """Returns statistics of a corpus's alignment, ready for JSON.

    strengths f16[N, T, P]; token_words i16[N, T]; words: those of each row's text, by token_words. aligned_*_share: the fraction of tokens,
    words and rows with a link; patches_per_word: {level: [words with 0, 1, ... patches]} of the linked ones; patch_use: {level: fraction of
    the level's links by patch}; most, least: [word, occurrences, fraction of them aligned], of words that occur ``min_count`` times or more
    and that ``counted`` (words -> bool) accepts, where it is given.
    """
    masked = {level.name: own for level, own in zip(levels, kaleido.patch_slices(levels).values()) if level.num_masked}
    totals = np.zeros(6, np.int64)
    seen: Counter[str] = Counter()
    aligned: Counter[str] = Counter()
    use = {name: np.zeros(own.stop - own.start, np.int64) for name, own in masked.items()}
    per_word = {name: np.zeros(own.stop - own.start + 1, np.int64) for name, own in masked.items()}
    for start in range(0, len(strengths), BLOCK):
        rows = slice(start, start + BLOCK)
        linked, owners = np.asarray(strengths[rows]) > 0, token_words[rows]
        heads = owners >= 0
        hit = linked.any(2) & heads
        totals[:2] += heads.sum(), hit.sum()
        heads[:, 1:] &= owners[:, 1:] != owners[:, :-1]
        totals[2:] += heads.sum(), (heads & hit).sum(), len(heads), hit.any(1).sum()
        for name, own in masked.items():
            patches = linked[..., own][heads & hit]
            use[name] += patches.sum(0)
            per_word[name] += np.bincount(patches.sum(1), minlength=len(per_word[name]))
        for row, token in zip(*np.nonzero(heads)):
            word = words[start + row][owners[row, token]].lower()
            seen[word] += 1
            aligned[word] += int(hit[row, token])
    names = [word for word in seen if seen[word] >= min_count]
    names = [word for word, keep in zip(names, counted(names) if counted and names else [True] * len(names)) if keep]
    ranked = sorted(names, key=lambda word: (-aligned[word] / seen[word], -seen[word], word))
    rate = [[word, seen[word], aligned[word] / seen[word]] for word in ranked]
    fractions = totals[1::2] / np.maximum(totals[::2], 1)
    return {"tokens": int(totals[0]), "words": int(totals[2]), "rows": int(totals[4]),
            **{f"aligned_{name}_share": float(value) for name, value in zip(("tokens", "words", "rows"), fractions)},
            "patches_per_word": {name: np.trim_zeros(counts, "b").tolist() for name, counts in per_word.items()},
            "patch_use": {name: (counts / max(1, counts.sum())).tolist() for name, counts in use.items()},
            "most": rate[:top], "least": rate[::-1][:top]}


def _nearest(far: np.ndarray) -> np.ndarray:
    """Returns bool[N, Q], the smallest of the distances f64[N, Q], all of them where several are equal."""
    return far <= far.min(1, keepdims=True) + NEAR


def _mean_position(test: Sightings, train: Sightings) -> np.ndarray:
    """Returns f64[N, 1, 2], the mean position of the same word's parts in training rows, relative to the foreground's box; the centre for
    a word that they lack."""
    low, side = train.frames[:, [0, 2]], train.frames[:, [1, 3]] - train.frames[:, [0, 2]]
    middles = np.nanmean((train.boxes[..., [0, 2]] + train.boxes[..., [1, 3]]) / 2, axis=1)
    relative = (middles - low) / side
    means = {word: relative[train.words == word].mean(0) for word in np.unique(train.words)}
    fraction = np.array([means.get(word, np.array([0.5, 0.5])) for word in test.words])
    return (test.frames[:, [0, 2]] + fraction * (test.frames[:, [1, 3]] - test.frames[:, [0, 2]]))[:, None]


def _mean(hits: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Returns f64[N], the fraction of hits among the chosen ones, 0 where none is chosen."""
    return (hits & chosen).sum(1) / np.maximum(chosen.sum(1), 1)


def _best_position(hits: np.ndarray, words: np.ndarray, known: np.ndarray, known_words: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """Returns f64[N], hits [N, Q] at the position q where the word's ``known`` hits most, the mean over equally good ones; at ``middle``
    bool[N, Q] for a word that ``known`` lacks."""
    result = np.zeros(len(hits))
    for word in np.unique(words):
        seen, rows = known[known_words == word], words == word
        often = seen.sum(0)
        best = middle[rows] if not often.any() else np.broadcast_to(often == often.max(), (rows.sum(), len(often)))
        result[rows] = _mean(hits[rows], best)
    return result
