"""Decoding with a trained Captioner: beam search (causal), or mask-predict (Ghazvininejad et al., 2019).

Mask-predict fills all pieces of a caption at once, then masks and predicts the least certain ones again. ``special``: an object with the
ids pad, unknown, start, end and mask.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kaleidobert.model_zoo.kaleidobert import Captioner
from kaleidobert.model_zoo.show_attend_tell import NEVER, log_likelihood

Arrays = Mapping[str, np.ndarray]


class Written(NamedTuple):
    """A caption: ``pieces`` are ids without special ones, ``log_probability`` their sum, with that of the end piece where there is one."""

    pieces: list[int]
    log_probability: float


class Scorer(keras.Model):
    """Log-probabilities of given captions: {"pieces": f32[B, N], "length": f32[B] unless causal}.

    Inputs: the captioner's, and the captions as "right_pieces" i32[B, N], "right_length" i32[B].
    """

    def __init__(self, captioner: Captioner):
        super().__init__(name="scorer")
        self.captioner = captioner
        self.built = True

    def call(self, inputs, training=False):
        outputs = self.captioner(inputs)
        result = {"pieces": log_likelihood(outputs["pieces"], inputs["right_pieces"])}
        if "length" in outputs:
            result["length"] = log_likelihood(outputs["length"][:, None], inputs["right_length"][:, None])[:, 0]
        return result


class MaskFiller(keras.Model):
    """Predictions at masked positions: {"pieces", "log_probability" [B, N], "length" f32[B, T-2]: log-probabilities}.

    pieces: the likeliest piece at each of predict_positions, none of the special ones. Inputs: the captioner's.
    """

    def __init__(self, captioner: Captioner, special: Any):
        super().__init__(name="mask_filler")
        self.captioner = captioner
        self.special_bias = special_token_bias(captioner, special)
        self.built = True

    def call(self, inputs, training=False):
        outputs = self.captioner(inputs)
        chances = ops.log_softmax(ops.add(ops.cast(outputs["pieces"], "float32"), self.special_bias))
        return {"pieces": ops.argmax(chances, -1), "log_probability": ops.max(chances, -1), "length": ops.log_softmax(outputs["length"])}


class BeamWriter(keras.Model):
    """Beam search for captions of 1 to ``max_length`` pieces; one beam is greedy search. Inputs: patch_features, patch_boxes.

    Patches are encoded once, and so is every piece: keys and values are cached. Outputs, which ``best`` reads: pieces
    i32[B, K, max_length + 1], followed by the end piece and padding, and scores f32[B, K], log-probabilities of captions with their ends.
    """

    def __init__(self, captioner: Captioner, special: Any, num_beams: int, max_length: int):
        super().__init__(name="beam_writer", dtype=captioner.backbone.precision)  # methods of the layers compute in its dtype
        self.captioner, self.special, self.num_beams, self.max_length = captioner, special, num_beams, max_length
        self.built = True
        backbone = captioner.backbone
        self.text, self.head = backbone.get_layer("text_embedding"), captioner.get_layer("head_mlm")
        self.blocks = [backbone.get_layer(f"encoder_{number}") for number in range(backbone.num_layers)]

    def encode_pictures(self, inputs):
        """Returns (memory, cache) for EncoderBlock.decode_step: keys and values of the patches, and an empty cache for the text."""
        patches, memory, cache = self.captioner.backbone.embed_patches(inputs["patch_features"], inputs["patch_boxes"]), [], []
        for block in self.blocks:
            patches, keys_values = block.encode_patches(patches)
            memory.append(keys_values)
            # repeat, not a product with ones: TensorFlow's graph optimiser drops such a product and broadcasts wrongly inside the loop
            for start, axis in ((ops.zeros_like(keys_values[0][..., :1, None]), 3), (ops.zeros_like(keys_values[1][:, :, :1, None]), 2)):
                cache.append(ops.repeat(ops.repeat(start, self.max_length + 1, axis), self.num_beams, axis + 1))
        return memory, tuple(cache)

    def step(self, pieces, position, memory, cache, seen):
        """Returns (logits f32[B, K, V] of the pieces after ``pieces`` int[B, K] at ``position``, cache).

        seen f32[B, K, max_length + 1, K]: 1 for the piece at each position that belongs to a caption, its last one included.
        """
        hidden, caches = self.text.embed_at(pieces, position), []
        seen = ops.reshape(seen, (-1, self.num_beams, (self.max_length + 1) * self.num_beams))
        for number, block in enumerate(self.blocks):
            hidden, keys_values = block.decode_step(hidden, memory[number], cache[2 * number : 2 * number + 2], position, seen)
            caches += keys_values
        return ops.cast(self.head.logits(hidden), "float32"), tuple(caches)

    def call(self, inputs, training=False):
        memory, cache = self.encode_pictures(inputs)
        special, no_end = self.special, special_token_bias(self.captioner, self.special)
        only_end, may_end = np.full_like(no_end, NEVER), no_end.copy()
        only_end[special.end] = may_end[special.end] = 0
        first = ops.convert_to_tensor(np.array([0.0] + [NEVER] * (self.num_beams - 1), np.float32))
        none = ops.cast(ops.repeat(ops.zeros_like(inputs["patch_boxes"][:, :1, 0]), self.num_beams, 1), "int32")  # [B, K]
        # all beams start equal: only the first is extended, or they would stay equal
        scores = ops.cast(none, "float32") + first
        pieces = ops.repeat(none[..., None] + special.pad, self.max_length + 1, 2)
        seen = ops.repeat(ops.repeat(ops.cast(none, "float32")[..., None, None], self.max_length + 1, 2), self.num_beams, 3)
        positions = ops.convert_to_tensor(np.arange(self.max_length + 1, dtype=np.int32))
        own = ops.convert_to_tensor(np.eye(self.num_beams, dtype=np.float32)[:, None])  # [K, 1, K]

        def unfinished(position, last, *_):
            return ops.logical_and(position <= self.max_length, ops.any(ops.logical_and(last != special.end, last != special.pad)))

        def extend(position, last, scores, pieces, seen, *cache):
            seen = seen + own * ops.cast(ops.equal(positions, position), "float32")[:, None]
            logits, cache = self.step(last, position, memory, cache, seen)
            allowed = ops.where(position == 0, no_end, ops.where(position == self.max_length, only_end, may_end))
            logits = logits + allowed
            likeliest, following = ops.top_k(logits, self.num_beams)  # [B, K, K]: no beam has more pieces among the K best of all
            ended = ops.logical_or(last == special.end, last == special.pad)[..., None]
            log_probabilities = ops.where(ended, first, likeliest - ops.logsumexp(logits, -1, keepdims=True))
            scores, chosen = ops.top_k(ops.reshape(scores[..., None] + log_probabilities, (-1, self.num_beams**2)), self.num_beams)
            parents = ops.cast(chosen // self.num_beams, "int32")
            following = ops.reshape(ops.where(ended, special.pad, ops.cast(following, "int32")), (-1, self.num_beams**2))
            last = ops.take_along_axis(following, ops.cast(chosen, "int32"), 1)
            pieces = ops.where(positions == position, last[..., None], ops.take_along_axis(pieces, parents[..., None], 1))
            # a caption uses its parent's entries of the cache, which do not move
            seen = ops.einsum("bjk,bktc->bjtc", ops.one_hot(parents, self.num_beams, dtype="float32"), seen)
            return (position + 1, last, scores, pieces, seen, *cache)

        start = (ops.cast(0, "int32"), none + special.start, scores, pieces, seen, *cache)
        _, _, scores, pieces, *_ = ops.while_loop(unfinished, extend, start)
        return {"pieces": pieces, "scores": scores}


def special_token_bias(captioner: Captioner, special: Any) -> np.ndarray:
    """Makes f32[V], which is added to logits: NEVER for the special pieces, which no caption has."""
    bias = np.zeros(captioner.backbone.vocabulary_size, np.float32)
    bias[[special.pad, special.unknown, special.start, special.end, special.mask]] = NEVER
    return bias


def best(outputs: Arrays, special: Any, length_penalty: float) -> list[Written]:
    """Picks from a BeamWriter's outputs each picture's caption of highest log-probability / length ** length_penalty, ends counted."""
    pieces = outputs["pieces"].astype(np.int64)
    lengths = (pieces != special.pad).sum(2)
    choice = (outputs["scores"] / np.maximum(lengths, 1) ** length_penalty).argmax(1)
    return [Written([int(piece) for piece in row[beam] if piece not in (special.pad, special.end)], float(scores[beam]))
            for row, beam, scores in zip(pieces, choice, outputs["scores"])]


def mask_predict(forward: Callable[[Arrays], Arrays], pictures: Arrays, lengths: np.ndarray, iterations: int, special: Any,
         text_length: int) -> list[Written]:
    """Writes a caption for each of B pictures: of C lengths the one with the highest mean log-probability.

    forward: a compiled MaskFiller. pictures: patch_features, patch_boxes of B pictures; lengths i64[B, C]. All pieces are predicted at
    once; each further iteration masks and predicts the least certain ones again, fewer every time.
    """
    batch, candidates = lengths.shape
    length, slots = lengths.ravel(), np.arange(1, 1 + lengths.max())
    repeated = {name: np.repeat(array, candidates, 0) for name, array in pictures.items()}
    real = slots <= length[:, None]  # [B * C, N]
    ids = masked_text(length, special, text_length)
    predict_positions = np.repeat(slots[None].astype(np.int32), len(length), 0)
    certainty = np.where(real, -np.inf, np.inf)  # log-probability of each piece at its last prediction
    for iteration in range(iterations):
        count = length * (iterations - iteration) // iterations
        if not count.any():
            break
        order = np.argsort(np.argsort(certainty, 1, kind="stable"), 1)
        masked = (order < count[:, None]) & real
        inside = ids[:, 1 : 1 + len(slots)]
        inside[masked] = special.mask
        outputs = forward({**repeated, **_text(ids, special), "predict_positions": predict_positions})
        inside[masked] = outputs["pieces"][masked].astype(np.int32)
        certainty[masked] = outputs["log_probability"][masked]
    totals = np.where(real, certainty, 0).sum(1)
    choice = (totals / length).reshape(batch, candidates).argmax(1) + np.arange(batch) * candidates
    return [Written(ids[row, 1 : 1 + length[row]].tolist(), float(totals[row])) for row in choice]


def predicted_lengths(forward: Callable[[Arrays], Arrays], pictures: Arrays, candidates: int, special: Any, text_length: int) -> np.ndarray:
    """Predicts i64[B, C]: the likeliest lengths of captions, the likeliest first."""
    count = len(pictures["patch_boxes"])
    ids = masked_text(np.zeros(count, np.int64), special, text_length)
    log_probabilities = forward({**pictures, **_text(ids, special), "predict_positions": np.zeros((count, 1), np.int32)})["length"]
    return np.argsort(-log_probabilities, 1, kind="stable")[:, :candidates] + 1


def masked_text(lengths: np.ndarray, special: Any, text_length: int) -> np.ndarray:
    """Makes i32[B, T]: [CLS], as many [MASK] as lengths i64[B] say, [SEP], padding."""
    positions, lengths = np.arange(text_length), lengths[:, None]
    ids = np.where(positions <= lengths, special.mask, np.where(positions == lengths + 1, special.end, special.pad)).astype(np.int32)
    ids[:, 0] = special.start
    return ids


def _text(ids: np.ndarray, special: Any) -> dict[str, np.ndarray]:
    return {"token_ids": ids, "segment_ids": np.zeros_like(ids), "token_mask": ids != special.pad}
