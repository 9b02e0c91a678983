"""Examples: what a model reads and what it predicts, as index arrays into the bank and flat dicts of numpy arrays.

``pretraining`` spoils every level anew; ``clean`` shows the pictures as they are (fine-tuning, prediction). Features are
fetched by a callable, so that nothing here knows how the bank stores them.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from kaleidobert import levels as kaleido
from kaleidobert.levels import KaleidoLevel
from kaleidobert.preprocessors.pretexts import Spoiled
from kaleidobert.specs import TEXT

Arrays = dict[str, np.ndarray]
Gather = Callable[[np.ndarray, Mapping[str, np.ndarray]], Arrays]  # rows [B], {name: [B, K]} -> {name: f16[B, K, F]}, see Bank.gather
EMPTY_TEXT = 2  # pieces of an empty text: [CLS] [SEP]


def text(token_ids: np.ndarray, pad: int) -> Arrays:
    """Returns token_ids, segment_ids i32[B, T] and token_mask bool[B, T]."""
    return {"token_ids": token_ids, "segment_ids": np.zeros_like(token_ids), "token_mask": token_ids != pad}


def pretraining(rows: np.ndarray, donors: np.ndarray, masked: Mapping[str, np.ndarray], spoiled: Mapping[str, Spoiled],
                levels: Sequence[KaleidoLevel], gather: Gather) -> tuple[Arrays, Arrays]:
    """Returns (inputs: patch_features, masked_patches; targets of the image tasks) of B pictures.

    rows, donors i64[B]: bank rows of the pictures and of the donors of camouflage patches. masked: i32[B, k] by level,
    from the mask plan; spoiled: by level, from pretexts.spoil. Features are as ``gather`` brings them.
    """
    starts = kaleido.vector_slices(levels)
    predicted = [level for level in levels if level.answer == "feature"]
    vectors = np.concatenate([starts[level.name].start + spoiled[level.name].vectors for level in levels], 1)
    result = gather(rows, {"patch_features": vectors, **{level.name: starts[level.name].start + masked[level.name] for level in predicted}})
    inputs = {name: result.pop(name) for name in list(result) if name.startswith("patch_features")}
    donor_slots = np.nonzero(np.concatenate([spoiled[level.name].from_donor for level in levels], 1))
    others = gather(donors[donor_slots[0]], {"patch_features": vectors[donor_slots][:, None]})
    zeroed = np.nonzero(np.concatenate([spoiled[level.name].zeroed for level in levels], 1))
    for name, array in inputs.items():
        array[donor_slots] = others[name][:, 0]
        array[zeroed] = 0
    positions = kaleido.patch_slices(levels)
    hidden = [np.zeros((len(rows), 0), np.int32), *(positions[level.name].start + masked[level.name] for level in predicted)]
    inputs["masked_patches"] = np.concatenate(hidden, 1).astype(np.int32)
    answers = {level.name: spoiled[level.name].answer for level in levels if level.answer == "class"}
    return inputs, result | {name: answer for name, answer in answers.items() if answer is not None}


def clean(rows: np.ndarray, levels: Sequence[KaleidoLevel], gather: Gather) -> Arrays:
    """Returns patch_features [B, P, F] of unspoiled pictures, as ``gather`` brings them."""
    starts = kaleido.vector_slices(levels)
    order = np.concatenate([starts[level.name].start + np.arange(level.num_patches) for level in levels])
    return gather(rows, {"patch_features": np.broadcast_to(order, (len(rows), len(order)))})


def without_text(arrays: Arrays, start: int, end: int, pad: int) -> Arrays:
    """Returns the same example with the empty text [CLS] [SEP], of length 2. For models that see the picture only."""
    token_ids = np.tile(np.array([start, end], arrays["token_ids"].dtype), (len(arrays["token_ids"]), 1))
    return {**arrays, **text(token_ids, pad)}


def without_picture(arrays: Arrays) -> Arrays:
    """Returns the same example with features and boxes of zero. For models that see the text only."""
    return {**arrays, "patch_features": np.zeros_like(arrays["patch_features"]), "patch_boxes": np.zeros_like(arrays["patch_boxes"])}


def hide(arrays: Arrays, patches: float, tokens: float, mask_id: int, rng: np.random.Generator, batch_size: int = 0,
         chosen: slice = slice(None)) -> Arrays:
    """Returns the same examples with random patches blank (features of zero) and random word pieces replaced by [MASK].

    patches, tokens: the probability of each patch and of each piece; the first piece, [CLS], and padding stay. batch_size, chosen: the
    arrays are these rows of a batch of so many examples, all of which are drawn for; 0 = they are all.
    """
    features, token_ids = arrays["patch_features"], arrays["token_ids"]
    batch_size = batch_size or len(token_ids)
    if patches:
        blank = rng.random((batch_size, features.shape[1]))[chosen] < patches
        features = np.where(blank[..., None], np.zeros((), features.dtype), features)
    if tokens:
        hidden = (rng.random((batch_size, token_ids.shape[1]))[chosen] < tokens) & arrays["token_mask"]
        hidden[:, 0] = False
        token_ids = np.where(hidden, np.int32(mask_id), token_ids)
    return {**arrays, "patch_features": features, "token_ids": token_ids}


# --- Dynamic padding: the texts of a batch are cut to the longest of them
#
# The network's outputs are the same with and without (layers.encoder hides padding from attention); this changes speed only.


MULTIPLE = 8  # lengths are rounded up to its multiples: few shapes to compile, and products of even sizes


def longest_text(token_mask: np.ndarray, multiple: int = MULTIPLE) -> int:
    """Returns up to which position [B, T] has real tokens, rounded up to ``multiple``, at most T; B may be that of a larger batch."""
    result = np.flatnonzero(np.asarray(token_mask).any(0))
    needed = int(result[-1]) + 1 if len(result) else 1
    return min(-(-needed // multiple) * multiple, token_mask.shape[1])


def trim(inputs: Mapping[str, np.ndarray], multiple: int = MULTIPLE, length: int = 0) -> Arrays:
    """Returns the same inputs with token_ids, segment_ids and token_mask [B, T] cut to [B, T'].

    T' is ``longest_text`` of this batch, or ``length`` where that is given: shards of one batch must be cut alike. The arrays are views.
    """
    length = length or longest_text(inputs["token_mask"], multiple)
    return {name: array[:, :length] if name in TEXT else array for name, array in inputs.items()}


def trim_captions(inputs: Arrays, targets: Arrays, weights: Arrays) -> tuple[Arrays, Arrays, Arrays]:
    """Returns the examples of a captioner with their texts cut, as ``trim``.

    The k-th prediction is piece k + 1 of the text (CaptionTaskSampler); those behind the longest text have no weight and are cut, too.
    """
    inputs = trim(inputs)
    length = inputs["token_mask"].shape[1] - 1
    return ({**inputs, "predict_positions": inputs["predict_positions"][:, :length]}, {**targets, "pieces": targets["pieces"][:, :length]},
            {**weights, "pieces": weights["pieces"][:, :length]})
