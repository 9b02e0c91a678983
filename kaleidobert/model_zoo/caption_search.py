"""How a trained Captioner writes: piece by piece with a beam (causal), or all pieces at once, refined by masking again the least
certain ones (Ghazvininejad et al., 2019). ``special``: whatever has the ids pad, unknown, start, end and mask."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kaleidobert.model_zoo.kaleidobert import Captioner
from kaleidobert.model_zoo.show_attend_tell import NEVER, log_likelihood

Arrays = Mapping[str, np.ndarray]


class Written(NamedTuple):
    """pieces: ids without special ones; log_probability: their sum, with that of the end piece where there is one."""

    pieces: list[int]
    log_probability: float


class Scorer(keras.Model):
    """{"pieces": f32[B, N], "length": f32[B] unless causal}: the log-probability of given answers. Inputs: the captioner's, and
    those answers as "right_pieces" i32[B, N], "right_length" i32[B]."""

    def __init__(self, captioner: Captioner):
        super().__init__(name="scorer")
        self.captioner = captioner
        self.built = True

    def call(self, inputs, training=False):
        outputs = self.captioner(inputs)
        found = {"pieces": log_likelihood(outputs["pieces"], inputs["right_pieces"])}
        if "length" in outputs:
            found["length"] = log_likelihood(outputs["length"][:, None], inputs["right_length"][:, None])[:, 0]
        return found


class Filler(keras.Model):
    """{"pieces", "log_probability" [B, N]: the likeliest piece at each of predict_positions, none of the special ones;
    "length" f32[B, T-2]: log-probabilities}. Inputs: the captioner's."""

    def __init__(self, captioner: Captioner, special: Any):
        super().__init__(name="filler")
        self.captioner = captioner
        self.barred = barred(captioner, special)
        self.built = True

    def call(self, inputs, training=False):
        outputs = self.captioner(inputs)
        chances = ops.log_softmax(ops.cast(outputs["pieces"], "float32") + self.barred)
        return {"pieces": ops.argmax(chances, -1), "log_probability": ops.max(chances, -1), "length": ops.log_softmax(outputs["length"])}


class BeamWriter(keras.Model):
    """Beam search with ``beam`` captions at a time, one is greedy, of 1 to ``most`` pieces. Inputs: patch_features, patch_boxes.

    Patches are encoded once, and so is every piece: keys and values are kept. Outputs, to be read by ``best``: pieces i32[B, K, most + 1]
    with the end piece and padding behind, scores f32[B, K] (log-probabilities of the captions with their ends).
    """

    def __init__(self, captioner: Captioner, special: Any, beam: int, most: int):
        super().__init__(name="beam_writer", dtype=captioner.backbone.precision)  # by its type methods of the layers compute
        self.captioner, self.special, self.beam, self.most = captioner, special, beam, most
        self.built = True
        backbone = captioner.backbone
        self.text, self.head = backbone.get_layer("text_embedding"), captioner.get_layer("head_mlm")
        self.blocks = [backbone.get_layer(f"encoder_{number}") for number in range(backbone.num_layers)]

    def look(self, inputs):
        """(memory, cache): what the blocks know of the patches, and of no text yet, as EncoderBlock.extend takes it."""
        patches, memory, cache = self.captioner.backbone.embed_patches(inputs["patch_features"], inputs["patch_boxes"]), [], []
        for block in self.blocks:
            patches, known = block.remember(patches)
            memory.append(known)
            # repeat, not a product with ones: TensorFlow's graph optimiser drops such a product and broadcasts wrongly inside the loop
            for start, axis in ((ops.zeros_like(known[0][..., :1, None]), 3), (ops.zeros_like(known[1][:, :, :1, None]), 2)):
                cache.append(ops.repeat(ops.repeat(start, self.most + 1, axis), self.beam, axis + 1))
        return memory, tuple(cache)

    def step(self, pieces, place, memory, cache, seen):
        """(logits f32[B, K, V] of what follows ``pieces`` int[B, K] at ``place``, cache). seen f32[B, K, most + 1, K]: 1 for what was
        written at each place and belongs to a caption, its last piece included."""
        hidden, kept = self.text.at(pieces, place), []
        seen = ops.reshape(seen, (-1, self.beam, (self.most + 1) * self.beam))
        for number, block in enumerate(self.blocks):
            hidden, known = block.extend(hidden, memory[number], cache[2 * number : 2 * number + 2], place, seen)
            kept += known
        return ops.cast(self.head.logits(hidden), "float32"), tuple(kept)

    def call(self, inputs, training=False):
        memory, cache = self.look(inputs)
        special, no_end = self.special, barred(self.captioner, self.special)
        only_end, may_end = np.full_like(no_end, NEVER), no_end.copy()
        only_end[special.end] = may_end[special.end] = 0
        first = np.array([0.0] + [NEVER] * (self.beam - 1), np.float32)
        none = ops.cast(ops.repeat(ops.zeros_like(inputs["patch_boxes"][:, :1, 0]), self.beam, 1), "int32")  # [B, K]
        # all beams start equal: only the first may be extended, or they would stay equal
        scores = ops.cast(none, "float32") + first
        pieces = ops.repeat(none[..., None] + special.pad, self.most + 1, 2)
        seen = ops.repeat(ops.repeat(ops.cast(none, "float32")[..., None, None], self.most + 1, 2), self.beam, 3)
        places, own = np.arange(self.most + 1), np.eye(self.beam, dtype=np.float32)[:, None]  # [K, 1, K]

        def unfinished(place, last, *_):
            return ops.logical_and(place <= self.most, ops.any(ops.logical_and(last != special.end, last != special.pad)))

        def extend(place, last, scores, pieces, seen, *cache):
            seen = seen + own * ops.cast(ops.equal(places, place), "float32")[:, None]
            logits, cache = self.step(last, place, memory, cache, seen)
            allowed = ops.where(place == 0, no_end, ops.where(place == self.most, only_end, may_end))
            logits = logits + allowed
            likeliest, following = ops.top_k(logits, self.beam)  # [B, K, K]: no beam has more than that among the best of all
            ended = ops.logical_or(last == special.end, last == special.pad)[..., None]
            chances = ops.where(ended, first, likeliest - ops.logsumexp(logits, -1, keepdims=True))
            scores, chosen = ops.top_k(ops.reshape(scores[..., None] + chances, (-1, self.beam**2)), self.beam)
            parents = ops.cast(chosen // self.beam, "int32")
            following = ops.reshape(ops.where(ended, special.pad, ops.cast(following, "int32")), (-1, self.beam**2))
            last = ops.take_along_axis(following, ops.cast(chosen, "int32"), 1)
            pieces = ops.where(places == place, last[..., None], ops.take_along_axis(pieces, parents[..., None], 1))
            # a caption goes on from its parent's entries of the cache, which stay where they are
            seen = ops.einsum("bjk,bktc->bjtc", ops.one_hot(parents, self.beam, dtype="float32"), seen)
            return (place + 1, last, scores, pieces, seen, *cache)

        start = (ops.cast(0, "int32"), none + special.start, scores, pieces, seen, *cache)
        _, _, scores, pieces, *_ = ops.while_loop(unfinished, extend, start)
        return {"pieces": pieces, "scores": scores}


def barred(captioner: Captioner, special: Any) -> np.ndarray:
    """f32[V]: NEVER for what no caption holds, the special pieces; to be added to logits."""
    bias = np.zeros(captioner.backbone.vocabulary_size, np.float32)
    bias[[special.pad, special.unknown, special.start, special.end, special.mask]] = NEVER
    return bias


def best(outputs: Arrays, special: Any, length_penalty: float) -> list[Written]:
    """The caption with the highest log-probability / length ** length_penalty, ends counted, of every picture of a BeamWriter's outputs."""
    pieces = outputs["pieces"].astype(np.int64)
    lengths = (pieces != special.pad).sum(2)
    choice = (outputs["scores"] / np.maximum(lengths, 1) ** length_penalty).argmax(1)
    return [Written([int(piece) for piece in row[beam] if piece not in (special.pad, special.end)], float(scores[beam]))
            for row, beam, scores in zip(pieces, choice, outputs["scores"])]


def fill(answer: Callable[[Arrays], Arrays], pictures: Arrays, lengths: np.ndarray, iterations: int, special: Any,
         text_length: int) -> list[Written]:
    """A caption for each of B pictures: the one with the highest mean log-probability of C lengths.

    answer: a compiled Filler. pictures: patch_features, patch_boxes of B pictures; lengths i64[B, C]. All pieces are asked at once;
    in each further iteration the least certain of them are masked and asked again, fewer from time to time.
    """
    batch, candidates = lengths.shape
    length, slots = lengths.ravel(), np.arange(1, 1 + lengths.max())
    repeated = {name: np.repeat(array, candidates, 0) for name, array in pictures.items()}
    real = slots <= length[:, None]  # [B * C, N]
    ids = masked_text(length, special, text_length)
    asked = np.repeat(slots[None].astype(np.int32), len(length), 0)
    certain = np.where(real, -np.inf, np.inf)  # log-probability of each piece when it was last asked
    for iteration in range(iterations):
        count = length * (iterations - iteration) // iterations
        if not count.any():
            break
        order = np.argsort(np.argsort(certain, 1, kind="stable"), 1)
        masked = (order < count[:, None]) & real
        inside = ids[:, 1 : 1 + len(slots)]
        inside[masked] = special.mask
        found = answer({**repeated, **_text(ids, special), "predict_positions": asked})
        inside[masked] = found["pieces"][masked].astype(np.int32)
        certain[masked] = found["log_probability"][masked]
    totals = np.where(real, certain, 0).sum(1)
    choice = (totals / length).reshape(batch, candidates).argmax(1) + np.arange(batch) * candidates
    return [Written(ids[row, 1 : 1 + length[row]].tolist(), float(totals[row])) for row in choice]


def predicted_lengths(answer: Callable[[Arrays], Arrays], pictures: Arrays, candidates: int, special: Any, text_length: int) -> np.ndarray:
    """i64[B, C]: the likeliest lengths of captions, the likeliest first."""
    count = len(pictures["patch_boxes"])
    ids = masked_text(np.zeros(count, np.int64), special, text_length)
    chances = answer({**pictures, **_text(ids, special), "predict_positions": np.zeros((count, 1), np.int32)})["length"]
    return np.argsort(-chances, 1, kind="stable")[:, :candidates] + 1


def masked_text(lengths: np.ndarray, special: Any, text_length: int) -> np.ndarray:
    """i32[B, T]: [CLS], as many [MASK] as lengths i64[B] say, [SEP], padding."""
    places, lengths = np.arange(text_length), lengths[:, None]
    ids = np.where(places <= lengths, special.mask, np.where(places == lengths + 1, special.end, special.pad)).astype(np.int32)
    ids[:, 0] = special.start
    return ids


def _text(ids: np.ndarray, special: Any) -> dict[str, np.ndarray]:
    return {"token_ids": ids, "segment_ids": np.zeros_like(ids), "token_mask": ids != special.pad}
