"""What a trained captioner is used for: writing captions by beam search, and weighing given ones; both with attention maps."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kaleidobert.model_zoo.show_attend_tell import ShowAttendTell

PAD, UNKNOWN, START, END = range(4)  # the first pieces of a captioner's vocabulary
NEVER = -1e9  # log-probability of what must not be written


class Scorer(keras.Model):
    """Given captions: {"log_likelihood": f32[B, L] of each piece of "next_tokens" [B, L], "alpha": f32[B, L, N]}.

    Inputs: the captioner's, and following.
    """

    free_axes = ShowAttendTell.free_axes

    def __init__(self, captioner: ShowAttendTell):
        super().__init__(name="scorer")
        self.captioner = captioner
        self.built = True

    def call(self, inputs, training=False):
        outputs = self.captioner({name: array for name, array in inputs.items() if name != "next_tokens"})
        return {"log_likelihood": log_likelihood(outputs["logits"], inputs["next_tokens"]), "alpha": outputs["alpha"]}


class Writer(keras.Model):
    """Beam search over ``length`` pieces with ``beam`` captions at a time; one is greedy. Inputs: the captioner's picture.

    Outputs, to be read by ``best``: pieces, parents (which caption each extends) i32[B, length, K], alpha f32[B, length, K, N]
    of the captions before they were extended, scores f32[B, K] (log-likelihoods) and lengths i32[B, K] with the END.
    """

    def __init__(self, captioner: ShowAttendTell, beam: int, length: int):
        super().__init__(name="writer")
        self.captioner, self.beam, self.length = captioner, beam, length
        self.built = True

    def call(self, inputs, training=False):
        memory, size = self.captioner.look(inputs), self.captioner.vocabulary_size
        # repeat, not a product with ones: TensorFlow's graph optimiser drops such a product and broadcasts wrongly inside the loop
        h, c = (ops.repeat(array, self.beam, axis=1) for array in (memory.h, memory.c))  # [B, K, H]
        alpha = ops.repeat(ops.zeros_like(memory.keys[:, None, :, 0]), self.beam, axis=1)
        zeros = ops.zeros_like(h[:, :, 0])
        none = ops.cast(zeros, "int32")
        barred = np.full(size, 0.0, np.float32)
        barred[[PAD, UNKNOWN, START]] = NEVER
        only_pad = np.full(size, NEVER, np.float32)
        only_pad[PAD] = 0.0
        # all beams start equal: only the first may be extended, or they would stay equal
        scores = zeros + ops.convert_to_tensor([[0.0] + [NEVER] * (self.beam - 1)])
        state = (h, c, scores, none + START, none, alpha, none)

        def extend(state, _):
            h, c, scores, last, lengths, _, _ = state
            embedded = self.captioner.embedding(last)  # [B, K, E]
            h, c, context, alpha = self.captioner.step(memory, (h, c), self.captioner.feed(embedded, last))
            chances = ops.log_softmax(self.captioner.logits(embedded, h, context)) + barred  # [B, K, V]
            ended = ops.logical_or(last == END, last == PAD)
            totals = scores[..., None] + ops.where(ended[..., None], only_pad, chances)
            scores, places = ops.top_k(ops.reshape(totals, (-1, self.beam * size)), self.beam)
            parents, last = ops.cast(places // size, "int32"), ops.cast(places % size, "int32")
            chosen = ops.one_hot(parents, self.beam)  # [B, K, K]: which caption each goes on from
            h, c = ops.matmul(chosen, h), ops.matmul(chosen, c)
            lengths = ops.take_along_axis(lengths, parents, 1) + ops.cast(last != PAD, "int32")
            state = (h, c, scores, last, lengths, alpha, parents)
            return state, state  # TensorFlow wants the outputs of a scan to look like what it carries

        (_, _, scores, _, lengths, _, _), steps = ops.scan(extend, state, length=self.length)
        pieces, alpha, parents = (ops.swapaxes(steps[number], 0, 1) for number in (3, 5, 6))
        return {"pieces": pieces, "parents": parents, "alpha": alpha, "scores": scores, "lengths": lengths}


class Caption(NamedTuple):
    """pieces: the captioner's ids without START and END; alpha f32[len(pieces) + 1, N]: row k is where it looked having written k
    pieces (the last row again where there was no room for the END); score: log-likelihood, END included."""

    pieces: list[int]
    alpha: np.ndarray
    score: float


def best(outputs: dict[str, np.ndarray], length_penalty: float) -> list[Caption]:
    """The caption with the highest log-likelihood / length ** length_penalty of every picture of a Writer's outputs."""
    normed = outputs["scores"] / np.maximum(outputs["lengths"], 1) ** length_penalty
    captions = []
    for row, beam in enumerate(normed.argmax(1)):
        pieces, maps, score = [], [], float(outputs["scores"][row, beam])
        for step in reversed(range(outputs["pieces"].shape[1])):
            pieces.append(int(outputs["pieces"][row, step, beam]))
            beam = outputs["parents"][row, step, beam].astype(int)
            maps.append(outputs["alpha"][row, step, beam])
        written = [piece for piece in pieces[::-1] if piece not in (PAD, END)]  # nothing but PAD follows the END
        maps = [*maps[::-1], maps[0]][: len(written) + 1]
        captions.append(Caption(written, np.array(maps, np.float32), score))
    return captions


def log_likelihood(logits: Any, pieces: Any) -> Any:
    """f32[B, L]: the log-probability of each of ``pieces`` i32[B, L] under logits [B, L, V]."""
    chances = ops.log_softmax(ops.cast(logits, "float32"))
    return ops.take_along_axis(chances, pieces[..., None], -1)[..., 0]
