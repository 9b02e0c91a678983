"""AAG, the second half: the captioner's attention becomes maps of words, and these become strengths between tokens and patches (paper,
section 3.2).

A word of the product's own text has a map where the captioner also wrote it (``generated_maps``, the paper), or where it was made to write
the product's own text (``teacher_forced_maps``, ours): where the captioner looked while it wrote the word. Without a captioner, the
evidence of single patches for a word makes its map (``evidence_maps``, ours).
The map's high-attention region links the word to the patches that the region overlaps most. Only levels of which patches are
masked get links (levels 3, 4 and 5 of the paper's table): a link is there to be masked.
"""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from kaleidobert import levels as kaleido
from kaleidobert.errors import UserError
from kaleidobert.levels import KaleidoLevel
from kaleidobert.preprocessors.tokenization import Word

# stop words of ordinary English that name things of a picture here: a garment, a side of it, its make
NOT_STOP_WORDS = frozenset({"back", "bottom", "detail", "front", "full", "side", "thick", "thin", "top"})
STOP_WORDS = ENGLISH_STOP_WORDS - NOT_STOP_WORDS
FINER = 4  # map cells are divided by so many on each side, with bilinear interpolation, before the region is cut out
IDEOGRAPHS = 0x2E80  # from here on one character can be a word
TIE = 1e-5  # of the best: closer strengths are equal, so that rounding decides nothing


def content(words: Sequence[str]) -> np.ndarray:
    """Returns bool[len(words)]: True where a word can be seen: no stop word, number, punctuation or single letter.

    >>> content(["A", "V-neck", "top", "with", "2", "buttons", "."]).tolist()
    [False, True, True, False, False, True, False]
    """
    return np.array([_is_content(word.lower()) for word in words], bool)


def _is_content(word: str) -> bool:
    long_enough = len(word) > 1 or (len(word) == 1 and ord(word) >= IDEOGRAPHS)
    return long_enough and word not in STOP_WORDS and any(letter.isalpha() for letter in word)


def align(token_words: np.ndarray, maps: np.ndarray, has_map: np.ndarray, *, boxes: np.ndarray, frames: np.ndarray,
          levels: Sequence[KaleidoLevel], threshold: float = 0.5, relative_threshold: float = 0.5, top_k: int = 2) -> np.ndarray:
    """Returns f16[B, T, P]: how strongly each token is linked to each patch, 0 = not at all (paper, section 3.2).

    token_words i16[B, T]: index of each piece's word, -1 for special pieces and padding; all pieces of a word share a row.
    maps f32[B, W, G, G]: attention of word w, rows from top to bottom; has_map bool[B, W]: whether the word has one. A word
    beyond W has none. boxes f32[B, P, 5]: as patch_generator.boxes gives them; frames f32[B, 4]: x1, x2, y1, y2 of the region that
    the maps cover, both as fractions of the whole picture.

    A word's region is where its map, refined by bilinear interpolation, reaches ``threshold`` of its maximum. The strength of
    a patch is the fraction of the region's attention that falls into it, by exact areas. On each level with num_masked > 0, at
    most ``top_k`` patches are kept, those with at least ``relative_threshold`` of the best one's strength; of equal ones the first.
    Raises UserError where shapes do not fit each other or a map holds negative or infinite numbers.
    """
    _check(token_words, maps, has_map, boxes, frames, levels)
    if not maps.shape[1]:
        return np.zeros((*token_words.shape, boxes.shape[1]), np.float16)
    region = _regions(maps, has_map, threshold)
    strengths = _overlap(region, boxes, frames)
    kept = np.zeros_like(strengths)
    for level, columns in zip(levels, kaleido.patch_slices(levels).values()):
        if level.num_masked:
            kept[..., columns] = _best(strengths[..., columns], relative_threshold, top_k)
    words = np.clip(token_words.astype(np.int64), 0, maps.shape[1] - 1)
    known = (token_words >= 0) & (token_words < maps.shape[1])
    return np.where(known[..., None], np.take_along_axis(kept, words[..., None], 1), 0).astype(np.float16)


def refine(maps: np.ndarray) -> np.ndarray:
    """Returns f32[..., FINER * G, FINER * G]: maps [..., G, G] with every cell divided, interpolated bilinearly between the centres of
    the cells; beyond the outermost centres the value stays."""
    grid = maps.shape[-1]
    centres = np.clip((np.arange(grid * FINER) + 0.5) / FINER - 0.5, 0, grid - 1)
    # row i: the weights of the cells in fine cell i, 1 - distance for the two nearest ones
    weights = np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(grid))).astype(np.float32)
    return weights @ maps.astype(np.float32) @ weights.T


def _regions(maps: np.ndarray, has_map: np.ndarray, threshold: float) -> np.ndarray:
    """Returns f32[B, W, g, g]: the attention inside each word's region, of sum 1; 0 everywhere where a word has no map."""
    fine = np.where(has_map[..., None, None], refine(maps), 0)
    top = fine.max((2, 3), keepdims=True, initial=0)
    inside = np.where((fine >= threshold * top) & (top > 0), fine, 0)
    return inside / np.maximum(inside.sum((2, 3), keepdims=True), np.finfo(np.float32).tiny)


def _overlap(region: np.ndarray, boxes: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Returns f32[B, W, P]: the fraction of each region that lies in each patch. Cells and patches are upright rectangles, so that the
    covered fraction of a cell is the product of the covered fractions of its sides."""
    cells = region.shape[-1]
    across = _covered(boxes[..., 0], boxes[..., 1], frames[:, 0], frames[:, 1], cells)  # [B, P, g]
    down = _covered(boxes[..., 2], boxes[..., 3], frames[:, 2], frames[:, 3], cells)
    columns = region @ across.transpose(0, 2, 1)[:, None]  # [B, W, g rows, P]
    return np.einsum("bwyp,bpy->bwp", columns, down)


def _covered(low: np.ndarray, high: np.ndarray, start: np.ndarray, stop: np.ndarray, cells: int) -> np.ndarray:
    """Returns f32[B, P, cells]: the fraction of each cell's side, start..stop [B] divided equally, that low..high [B, P] covers."""
    side = ((stop - start) / cells)[:, None, None]
    borders = start[:, None, None] + side * np.arange(cells + 1)
    common = np.minimum(high[..., None], borders[..., 1:]) - np.maximum(low[..., None], borders[..., :-1])
    return (np.maximum(common, 0) / side).astype(np.float32)


def _best(strengths: np.ndarray, relative_threshold: float, top_k: int) -> np.ndarray:
    """Returns the strengths [B, W, n] of one level with all but the strongest set to 0."""
    best = strengths.max(-1, keepdims=True)
    steps = np.rint(strengths / np.maximum(TIE * best, np.finfo(np.float32).tiny))
    order = np.argsort(-steps, axis=-1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(order.shape[-1]), order.shape), -1)
    return np.where((rank < top_k) & (strengths >= relative_threshold * (1 - TIE) * best), strengths, 0)


def _check(token_words: np.ndarray, maps: np.ndarray, has_map: np.ndarray, boxes: np.ndarray, frames: np.ndarray,
           levels: Sequence[KaleidoLevel]) -> None:
    batch, words = maps.shape[:2] if maps.ndim == 4 else (-1, -1)
    result = {"token_words": token_words.shape[:1], "maps": maps.shape, "has_map": has_map.shape, "boxes": boxes.shape,
             "frames": frames.shape}
    fits = {"token_words": (batch,), "maps": (batch, words, *maps.shape[-1:] * 2), "has_map": (batch, words),
            "boxes": (batch, kaleido.num_patches(levels), 5), "frames": (batch, 4)}
    for name, shape in result.items():
        if shape != fits[name]:
            raise UserError(f"{name} has shape {list(shape)}", "alignment", f"{list(fits[name])}, as maps is {list(maps.shape)}")
    shown = maps[has_map]
    if not (np.isfinite(shown).all() and (shown >= 0).all()):
        raise UserError("a map holds negative or infinite numbers", "alignment", "attention, at least 0")
    if not ((frames[:, 1] > frames[:, 0]) & (frames[:, 3] > frames[:, 2])).all():
        raise UserError("a frame is empty", "alignment", "x1 < x2 and y1 < y2")


# --- The attention of word pieces to maps of the words of a text


def teacher_forced_maps(words: Sequence[Word], alpha: np.ndarray, after: bool, content_only: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns (maps f32[W, N], has_map bool[W]) of the words of a text.

    alpha f32[L, N]: attention, row k after k pieces were read. after: a word's map is the attention after the word was read, else the one
    by which the word is predicted. content_only: stop words, numbers and punctuation have no map.
    """
    maps, known = _no_maps(words, alpha)
    for number in _mapped(words, content_only):
        # position 0 is the start piece
        rows = [position - 1 + after for position in words[number].positions if position - 1 + after < len(alpha)]
        if rows:
            maps[number], known[number] = alpha[rows].mean(0), True
    return maps, known


def generated_maps(words: Sequence[Word], caption: Sequence[Word], alpha: np.ndarray, after: bool,
                   content_only: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns the same for the words of the text that occur in the caption: the mean over pieces and occurrences.

    alpha f32[L + 1, N]: attention of a caption of L pieces.
    """
    maps, known = _no_maps(words, alpha)
    for number in _mapped(words, content_only):
        same = [alpha[np.array(word.positions) + after].mean(0) for word in caption if word.text == words[number].text]
        if same:
            maps[number], known[number] = np.mean(same, 0), True
    return maps, known


def _mapped(words: Sequence[Word], content_only: bool) -> list[int]:
    """Returns the numbers of the words that may have a map: all but those of special pieces."""
    if content_only:
        chosen = content([word.text for word in words])
    else:
        chosen = np.array([bool(word.positions) for word in words], bool)
    return np.flatnonzero(chosen).tolist()


def _no_maps(words: Sequence[Word], alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((len(words), alpha.shape[-1]), np.float32), np.zeros(len(words), bool)


# --- The evidence of patches for terms (model_zoo.word_presence, ours) to maps of the words of a text


MAP_SIDE = 14  # cells of a map that patches of several levels make


def evidence_maps(evidence: np.ndarray, words: Sequence[Sequence[int]], grids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns (maps f32[W, MAP_SIDE**2] of sum 1, has_map bool[W]) of the words of a text.

    evidence f32[N, C]: of N patches for the C different terms of the text; words: the columns of each word's terms, a word without one
    has no map; grids: of the levels whose patches these are, one level after another.

    What a patch says of all terms of the text alike says of none where it is: their mean is subtracted. A word has the mean of its terms.
    Each level's evidence, less its mean, is spread linearly around the centres of the patches, and the levels are added, so that patches
    that overlap make a finer map than one level has; the softmax over the cells makes it at least 0.
    """
    maps, known = np.zeros((len(words), MAP_SIDE**2), np.float32), np.array([bool(columns) for columns in words], bool)
    if not known.any():
        return maps, known
    evidence = evidence - evidence.mean(1, keepdims=True)
    of_words = np.stack([evidence[:, columns].mean(1) for columns in words if columns])
    total, start = np.zeros((len(of_words), MAP_SIDE, MAP_SIDE), np.float32), 0
    for grid in grids:
        level = of_words[:, start : start + grid * grid]
        level = (level - level.mean(1, keepdims=True)).reshape(-1, grid, grid)
        spread = _spread(grid)
        total += spread @ level @ spread.T
        start += grid * grid
    fraction = np.exp(total - total.max((1, 2), keepdims=True))
    maps[known] = (fraction / fraction.sum((1, 2), keepdims=True)).reshape(len(of_words), -1)
    return maps, known


def _spread(grid: int) -> np.ndarray:
    """Returns f32[MAP_SIDE, grid]: the weight of each patch in each cell of a side, 1 at its centre and 0 from a patch's side away on."""
    cells, centres = (np.arange(MAP_SIDE) + 0.5) / MAP_SIDE, (np.arange(grid) + 0.5) / grid
    return np.maximum(0, 1 - np.abs(cells[:, None] - centres) * grid).astype(np.float32)
