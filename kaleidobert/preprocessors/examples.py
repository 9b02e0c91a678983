"""Examples: what a model reads and what it is asked, as index arrays into the bank and flat dicts of numpy arrays.

``pretraining`` spoils every level anew; ``clean`` shows the pictures as they are (fine-tuning, prediction). Features are
fetched by a callable, so that nothing here knows how the bank stores them.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from kaleidobert import levels as kaleido
from kaleidobert.levels import KaleidoLevel
from kaleidobert.preprocessors.pretexts import Spoiled

Gather = Callable[[np.ndarray, np.ndarray], np.ndarray]  # rows, vectors (same shape) -> f16[..., F]
Arrays = dict[str, np.ndarray]
EMPTY_TEXT = 2  # pieces of an empty text: [CLS] [SEP]


def text(token_ids: np.ndarray, pad: int) -> Arrays:
    """token_ids, segment_ids i32[B, T] and token_mask bool[B, T]."""
    return {"token_ids": token_ids, "segment_ids": np.zeros_like(token_ids), "token_mask": token_ids != pad}


def pretraining(rows: np.ndarray, donors: np.ndarray, masked: Mapping[str, np.ndarray], spoiled: Mapping[str, Spoiled],
                levels: Sequence[KaleidoLevel], gather: Gather) -> tuple[Arrays, Arrays]:
    """(inputs: patch_features, masked_patches; targets of the image tasks) of B pictures.

    rows, donors i64[B]: bank rows of the pictures and of the products that lend a camouflage patch. masked: i32[B, k] by level,
    from the mask plan; spoiled: by level, from pretexts.spoil.
    """
    starts = kaleido.vector_slices(levels)
    vectors = np.concatenate([starts[level.name].start + spoiled[level.name].vectors for level in levels], 1)
    from_donor = np.concatenate([spoiled[level.name].from_donor for level in levels], 1)
    features = gather(np.where(from_donor, donors[:, None], rows[:, None]), vectors)
    features[np.concatenate([spoiled[level.name].zeroed for level in levels], 1)] = 0
    targets, places = {}, [np.zeros((len(rows), 0), np.int32)]
    for level, place in zip(levels, kaleido.patch_slices(levels).values()):
        if level.answer == "class":
            targets[level.name] = spoiled[level.name].answer
        else:
            chosen = masked[level.name]
            targets[level.name] = gather(np.repeat(rows[:, None], chosen.shape[1], 1), starts[level.name].start + chosen)
            places.append(place.start + chosen)
    return {"patch_features": features, "masked_patches": np.concatenate(places, 1).astype(np.int32)}, targets


def clean(rows: np.ndarray, levels: Sequence[KaleidoLevel], gather: Gather) -> Arrays:
    """patch_features f16[B, P, F] of unspoiled pictures."""
    starts = kaleido.vector_slices(levels)
    order = np.concatenate([starts[level.name].start + np.arange(level.num_patches) for level in levels])
    grid = np.broadcast_to(rows[:, None], (len(rows), len(order)))
    return {"patch_features": gather(grid, np.broadcast_to(order, grid.shape))}


def without_text(arrays: Arrays, start: int, end: int, pad: int) -> Arrays:
    """The same example with the empty text [CLS] [SEP], of length 2. For models that see the picture only."""
    token_ids = np.tile(np.array([start, end], arrays["token_ids"].dtype), (len(arrays["token_ids"]), 1))
    return {**arrays, **text(token_ids, pad)}


def without_picture(arrays: Arrays) -> Arrays:
    """The same example with features and boxes of zero. For models that see the text only."""
    return {**arrays, "patch_features": np.zeros_like(arrays["patch_features"]), "patch_boxes": np.zeros_like(arrays["patch_boxes"])}


def hide(arrays: Arrays, patches: float, tokens: float, mask_id: int, rng: np.random.Generator) -> Arrays:
    """The same examples with random patches blank (features of zero) and random word pieces replaced by [MASK].

    patches, tokens: the probability of each patch and of each piece; the first piece, [CLS], and padding stay.
    """
    features, token_ids = arrays["patch_features"], arrays["token_ids"]
    if patches:
        features = np.where(rng.random(features.shape[:2])[..., None] < patches, np.zeros((), features.dtype), features)
    if tokens:
        hidden = (rng.random(token_ids.shape) < tokens) & arrays["token_mask"]
        hidden[:, 0] = False
        token_ids = np.where(hidden, np.int32(mask_id), token_ids)
    return {**arrays, "patch_features": features, "token_ids": token_ids}
