"""Show, Attend and Tell (Xu et al., 2015) with soft attention: writes a caption, with an attention map for every word.

For every word: energies e = v . tanh(W_a a + W_h h) + w(y, a) over the cells of the picture (y is the previous word; w is our
addition, see ``query``), alpha = softmax(e), context z = sigmoid(W_b h) * sum(alpha a), (h, c) = LSTM(y, z), and the next word
from tanh(y + W_o h + W_z z) by the embeddings themselves.
"""

from collections.abc import Mapping
from inspect import signature
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kaleidobert.layers.caption_attention import GridEncoder, WordAttention
from kaleidobert.layers.core import Dropout, seed_for
from kaleidobert.layers.embeddings import FeatureStandardizer
from kaleidobert.model_zoo.word_grounding import WordGrounder
from kaleidobert.specs import ALONG_CAPTION, Tensor

SCALE = 4.0  # of logits: start embeddings are small, and so are their products


class Memory(NamedTuple):
    """A picture as the decoder reads it: keys and word_keys [B, N, A], values [B, N, D], first state h, c [B, 1, H]."""

    keys: Any
    word_keys: Any
    values: Any
    h: Any
    c: Any


class ShowAttendTell(keras.Model):
    """The captioner of the alignment generator: {"logits": f32[B, T, V], "alpha": f32[B, T, N]} of the piece after each of ``pieces``.

    Inputs: pieces int[B, T], the caption so far, which begins with the start piece; and grid f[B, N, F], a frozen network's features of N
    cells, row by row (``adapt_features`` standardises them), or, where picture_size is not 0, picture uint8[B, s, s, 3], which an encoder
    that is trained along turns into N = grid x grid cells.
    query: what decides the attention: "state" = h alone as in the paper, "word" = the last piece too, so that alpha is the captioner's
    attention after it wrote that piece.
    start: the first h and c come from the mean of the cells as in the paper, or are "zero", so that the decoder knows the picture
    through attention only. positions: keys know where in the picture their cell is.
    near: as in WordGrounder. guided: words have the attention of a WordGrounder (``copy_word_attention``), which is not trained on; in
    training there is another output "word_attention" f32[B, T, N], the attention of each piece by itself. Needs query "word".
    """

    kind = "show_attend_tell"
    free_axes = dict.fromkeys(ALONG_CAPTION, (1,))

    def __init__(self, vocabulary_size: int, feature_size: int, grid: int = 14, picture_size: int = 0, hidden_size: int = 256,
                 embedding_size: int = 128, attention_size: int = 64, context_size: int = 128, dropout: float = 0.3,
                 query: str = "word", start: str = "mean", positions: bool = True, near: int = 0, guided: bool = False, seed: int = 0):
        super().__init__(name=self.kind)

        # --- Layers ---
        def dense(size, name, use_bias=True, activation=None):
            weights = keras.initializers.GlorotUniform(seed_for(seed, name))
            return keras.layers.Dense(size, activation, use_bias, kernel_initializer=weights, name=name)

        def table(name):
            return keras.initializers.RandomNormal(stddev=0.05, seed=seed_for(seed, name))

        self.encoder = GridEncoder(feature_size, grid, seed, name="encoder") if picture_size else None
        self.cell_norm = keras.layers.LayerNormalization(name="cell_norm") if picture_size else FeatureStandardizer(name="cell_norm")
        self.values, self.keys = dense(context_size, "values", activation="relu"), dense(attention_size, "keys")
        self.position_embedding = keras.layers.Embedding(grid * grid, feature_size, table("places"), name="places") if positions else None
        self.first = dense(2 * hidden_size, "first_state", activation="tanh") if start == "mean" else None
        self.embedding = keras.layers.Embedding(vocabulary_size, embedding_size, table("embedding"), name="embedding")
        self.word_attention = WordAttention(vocabulary_size, grid * grid, attention_size, seed, name="word_attention") \
            if query == "word" else None
        self.query_state, self.energy = dense(attention_size, "query_state", use_bias=False), dense(1, "energy", use_bias=False)
        self.gate = dense(context_size, "context_gate", activation="sigmoid")
        self.lstm_word, self.lstm_context = dense(4 * hidden_size, "lstm_word"), dense(4 * hidden_size, "lstm_context", False)
        self.lstm_state = keras.layers.Dense(4 * hidden_size, use_bias=False, name="lstm_state",
                                             kernel_initializer=keras.initializers.Orthogonal(seed=seed_for(seed, "lstm_state")))
        self.deep_state, self.deep_context = dense(embedding_size, "deep_state"), dense(embedding_size, "deep_context", False)
        self.bias = keras.layers.Embedding(1, vocabulary_size, "zeros", name="vocabulary_bias")
        self.drop_word = Dropout(dropout, seed_for(seed, "drop_word"), name="drop_word")
        self.drop_deep = Dropout(dropout, seed_for(seed, "drop_deep"), name="drop_deep")

        # --- Config ---
        self.vocabulary_size, self.feature_size, self.grid, self.picture_size = vocabulary_size, feature_size, grid, picture_size
        self.hidden_size, self.embedding_size = hidden_size, embedding_size
        self.attention_size, self.context_size = attention_size, context_size
        self.dropout, self.query, self.start, self.positions, self.seed = dropout, query, start, positions, seed
        self.near, self.guided = near or feature_size, guided

        self.build()
        if guided:
            assert self.word_attention is not None  # guided needs query "word"
            self.word_attention.trainable = False

    def build(self, inputs_shape: Any = None) -> None:
        """Makes every variable, under the name of its layer; the constructor has all sizes."""
        hidden, embedding = self.hidden_size, self.embedding_size
        if self.encoder is not None:
            self.encoder.build((None, self.picture_size, self.picture_size, 3))
        groups: list[tuple[int, tuple[keras.layers.Layer | None, ...]]] = [
            (self.feature_size, (self.cell_norm, self.values, self.keys)), (self.near, (self.word_attention,)),
            (embedding, (self.embedding, self.position_embedding, self.bias, self.lstm_word)), (self.attention_size, (self.energy,)),
            (self.context_size, (self.first, self.lstm_context, self.deep_context)),
            (hidden, (self.query_state, self.gate, self.lstm_state, self.deep_state))]
        for size, layers in groups:
            for layer in layers:
                if layer is not None:  # None where an option turns it off
                    layer.build((None, None, size))
        for dropout in (self.drop_word, self.drop_deep):
            dropout.build((None, None, embedding))

    def call(self, inputs, training=False):
        """Reads the given pieces, whatever the model would write (teacher forcing)."""
        cells = self.cells(inputs, training)
        memory = self.make_memory(cells)
        embedded = self.drop_word(self.embedding(inputs["pieces"]), training=training)  # [B, T, E]
        all_inputs = self.step_inputs(embedded, inputs["pieces"])

        def advance(state, step_inputs):
            state = self.step(memory, state[:2], step_inputs)
            return state, state  # TensorFlow needs a scan's outputs to have the structure of its state

        start = (memory.h, memory.c, ops.zeros_like(memory.values[:, :1]), ops.zeros_like(memory.keys[:, None, :, 0]))
        _, steps = ops.scan(advance, start, ops.expand_dims(ops.swapaxes(all_inputs, 0, 1), 2))  # one array, as TensorFlow's scan needs
        hidden, _, context, alpha = (ops.swapaxes(array[:, :, 0], 0, 1) for array in steps)  # [B, T, H] thrice, [B, T, N]
        outputs = {"logits": self.logits(embedded, hidden, context, training), "alpha": alpha}
        if self.guided and training:
            outputs["word_attention"] = ops.softmax(self.word_attention.energy(memory.word_keys, all_inputs[..., 4 * self.hidden_size :]))
        return outputs

    def encode_picture(self, inputs: Mapping[str, Tensor], training: bool = False) -> Memory:
        """Encodes the picture of ``inputs`` as a Memory."""
        return self.make_memory(self.cells(inputs, training))

    def cells(self, inputs, training=False):
        """Computes f32[B, N, F]: the normalised features of the picture's cells."""
        cells = self.encoder(inputs["picture"], training=training) if self.encoder is not None else ops.cast(inputs["grid"], "float32")
        return self.cell_norm(cells)

    def make_memory(self, cells: Tensor) -> Memory:
        """Makes a Memory of a picture's cells f32[B, N, F]."""
        word_keys = self.word_attention.keys(cells[..., : self.near]) if self.word_attention is not None else None
        if self.position_embedding is not None:
            cells = cells + self.position_embedding(ops.arange(self.grid**2))
        values, keys = self.values(cells), self.keys(cells)
        if self.first is None:
            h = c = ops.zeros_like(values[:, :1, :1]) * ops.zeros((1, 1, self.hidden_size))
        else:
            h, c = ops.split(self.first(ops.mean(values, 1, keepdims=True)), 2, -1)
        return Memory(keys, word_keys, values, h, c)

    def step_inputs(self, embedded, pieces):
        """Computes [..., 4H + A + N] of pieces [...], embedded [..., E]: a step's input to the LSTM and to the attention."""
        inputs = [self.lstm_word(embedded)] + ([self.word_attention.queries(pieces)] if self.word_attention is not None else [])
        return ops.concatenate(inputs, -1)

    def step(self, memory: Memory, state: tuple, step_inputs: Tensor) -> tuple[Any, Any, Any, Any]:
        """Computes h, c [B, K, H], context [B, K, D], alpha [B, K, N] of K captions each from (h, c), step_inputs [B, K, 4H + A + N]."""
        (h, c), query = state, self.query_state(state[0])  # [B, K, A]
        energy = self.energy(ops.tanh(memory.keys[:, None] + query[:, :, None]))[..., 0]  # [B, K, N]
        if self.word_attention is not None:
            energy = energy + self.word_attention.energy(memory.word_keys, step_inputs[..., 4 * self.hidden_size :])
        alpha = ops.softmax(energy)
        context = self.gate(h) * ops.matmul(alpha, memory.values)
        into, forget, out, new = ops.split(
            step_inputs[..., : 4 * self.hidden_size] + self.lstm_context(context) + self.lstm_state(h), 4, -1)
        c = ops.sigmoid(forget + 1.0) * c + ops.sigmoid(into) * ops.tanh(new)  # + 1: an open forget gate at the start of training
        return ops.sigmoid(out) * ops.tanh(c), c, context, alpha

    def logits(self, embedded, hidden, context, training=False):
        """Computes f32[..., V] of the next piece from the piece before, the state and the context."""
        deep = ops.tanh(embedded + self.deep_state(hidden) + self.deep_context(context))
        deep = self.drop_deep(deep, training=training)
        return ops.matmul(deep, ops.transpose(self.embedding.embeddings)) * SCALE + self.bias.embeddings[0]

    def adapt_features(self, grid: Any) -> None:
        """Measures, on a sample f[n, N, F], the scale that gives every feature of a frozen grid mean 0 and deviation 1."""
        self.cell_norm.adapt(grid)

    def copy_word_attention(self, grounder: WordGrounder) -> None:
        """Copies the word attention of a word grounder.

        The cells are those of its encoder, unchanged, or grids of the frozen network, adapted on the same sample as the word grounder.
        """
        assert self.word_attention is not None  # the captioner is guided
        self.word_attention.set_weights(grounder.word_attention.get_weights())

    def set_frequencies(self, counts: Any) -> None:
        """Sets the biases of a new model from f[V], the number of times each piece occurs."""
        self.bias.embeddings.assign(ops.log((counts + 1.0) / ops.sum(counts + 1.0))[None])

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, JSON-able."""
        return {name: getattr(self, name) for name in signature(ShowAttendTell).parameters}

    def describe(self) -> dict[str, Any]:
        """Returns kind, config, and identity: what weights mean beyond their names and shapes. JSON-able."""
        return {"kind": self.kind, "config": self.get_config(), "identity": {"query": self.query, "start": self.start}}


# --- What a trained captioner is used for: beam search, and scores of given captions; both with attention maps


PAD, UNKNOWN, START, END = range(4)  # the first pieces of a captioner's vocabulary
NEVER = -1e9  # log-probability of what must not be written


class Scorer(keras.Model):
    """Scores of given captions: {"log_likelihood": f32[B, L] of each piece of "next_tokens" [B, L], "alpha": f32[B, L, N]}.

    Inputs: the captioner's, and next_tokens.
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
    """Beam search over ``length`` pieces with ``num_beams`` captions at a time; one beam is greedy search. Inputs: the captioner's picture.

    Outputs, which ``best`` reads: pieces, parents (which caption each extends) i32[B, length, K], alpha f32[B, length, K, N]
    of the captions before they were extended, scores f32[B, K] (log-likelihoods) and lengths i32[B, K] with the END.
    """

    def __init__(self, captioner: ShowAttendTell, num_beams: int, length: int):
        super().__init__(name="writer")
        self.captioner, self.num_beams, self.length = captioner, num_beams, length
        self.built = True

    def call(self, inputs, training=False):
        memory, size = self.captioner.encode_picture(inputs), self.captioner.vocabulary_size
        # repeat, not a product with ones: TensorFlow's graph optimiser drops such a product and broadcasts wrongly inside the loop
        h, c = (ops.repeat(array, self.num_beams, axis=1) for array in (memory.h, memory.c))  # [B, K, H]
        alpha = ops.repeat(ops.zeros_like(memory.keys[:, None, :, 0]), self.num_beams, axis=1)
        zeros = ops.zeros_like(h[:, :, 0])
        none = ops.cast(zeros, "int32")
        special_bias = np.full(size, 0.0, np.float32)
        special_bias[[PAD, UNKNOWN, START]] = NEVER
        only_pad = np.full(size, NEVER, np.float32)
        only_pad[PAD] = 0.0
        # all beams start equal: only the first is extended, or they would stay equal
        scores = zeros + ops.convert_to_tensor([[0.0] + [NEVER] * (self.num_beams - 1)])
        state = (h, c, scores, none + START, none, alpha, none)

        def extend(state, _):
            h, c, scores, last, lengths, _, _ = state
            embedded = self.captioner.embedding(last)  # [B, K, E]
            h, c, context, alpha = self.captioner.step(memory, (h, c), self.captioner.step_inputs(embedded, last))
            log_probabilities = ops.add(ops.log_softmax(self.captioner.logits(embedded, h, context)), special_bias)  # [B, K, V]
            ended = ops.logical_or(last == END, last == PAD)
            totals = scores[..., None] + ops.where(ended[..., None], only_pad, log_probabilities)
            scores, positions = ops.top_k(ops.reshape(totals, (-1, self.num_beams * size)), self.num_beams)
            parents, last = ops.cast(positions // size, "int32"), ops.cast(positions % size, "int32")
            chosen = ops.one_hot(parents, self.num_beams)  # [B, K, K]: the caption that each extends
            h, c = ops.matmul(chosen, h), ops.matmul(chosen, c)
            lengths = ops.take_along_axis(lengths, parents, 1) + ops.cast(last != PAD, "int32")
            state = (h, c, scores, last, lengths, alpha, parents)
            return state, state  # TensorFlow needs a scan's outputs to have the structure of its state

        (_, _, scores, _, lengths, _, _), steps = ops.scan(extend, state, length=self.length)
        pieces, alpha, parents = (ops.swapaxes(steps[number], 0, 1) for number in (3, 5, 6))
        return {"pieces": pieces, "parents": parents, "alpha": alpha, "scores": scores, "lengths": lengths}


class Caption(NamedTuple):
    """A caption with its attention.

    pieces: the captioner's ids without START and END; alpha f32[len(pieces) + 1, N]: row k is its attention after k pieces (the last row
    repeats where there is no room for the END); score: log-likelihood, END included.
    """

    pieces: list[int]
    alpha: np.ndarray
    score: float


def best(outputs: dict[str, np.ndarray], length_penalty: float) -> list[Caption]:
    """Picks every picture's caption with the highest log-likelihood / length ** length_penalty from a Writer's outputs."""
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
    """Computes f32[B, L]: the log-probability of each of ``pieces`` i32[B, L] under logits [B, L, V]."""
    log_probabilities = ops.log_softmax(ops.cast(logits, "float32"))
    return ops.take_along_axis(log_probabilities, pieces[..., None], -1)[..., 0]
