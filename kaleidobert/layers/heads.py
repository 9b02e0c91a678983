"""Heads on the encoder's output: masked tokens, the class of a level, the features of masked patches, matching; and linear towers
beside the encoder.

The last product of the small heads is float32 whatever the precision: candidates are ranked by these logits, and half
precision would tie them.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kaleidobert.layers.core import Dropout, LayerNorm, dense, flatten_tokens, gelu, seed_for, truncated_normal
from kaleidobert.layers.embeddings import FeatureStandardizer, TextEmbedding
from kaleidobert.specs import Tensor


def gather(sequence, positions):
    """Gathers rows of sequence [B, S, H] at int[B, N] -> [B, N, H].

    It is a product with one-hot rows: exact, and its gradient is a product too, so that it is deterministic on every device.
    """
    selection = ops.one_hot(positions, ops.shape(sequence)[1], dtype=sequence.dtype)
    return ops.matmul(selection, sequence)


class MaskedTokenHead(keras.layers.Layer):
    """Dense, GELU, LayerNorm at the masked positions, then the word embeddings transposed + bias: -> [B, M, V]."""

    def __init__(self, embedding: TextEmbedding, initializer_range: float, seed: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.embedding = embedding
        policy = self.dtype_policy
        self.dense = dense(embedding.hidden_size, initializer_range, seed, "dense", activation=gelu, dtype=policy)
        self.layer_norm = LayerNorm(dtype=policy, name="layer_norm")

    def build(self, sequence_shape: tuple, positions_shape: tuple) -> None:
        hidden = (*positions_shape, sequence_shape[-1])
        self.dense.build(hidden)
        self.layer_norm.build(hidden)
        self.bias = self.add_weight((self.embedding.vocabulary_size,), "zeros", name="bias")

    def call(self, sequence, positions):
        return self.logits(gather(sequence, positions))

    def logits(self, hidden):
        """Computes [B, M, H] -> [B, M, V]."""
        shape = ops.shape(hidden)
        hidden = self.layer_norm(self.dense(flatten_tokens(hidden)))
        words = ops.cast(self.embedding.word_embeddings, self.compute_dtype)  # [V, H]
        logits = ops.add(ops.matmul(hidden, ops.transpose(words)), self.bias)  # [B * M, V]
        return ops.reshape(logits, (*shape[:-1], self.embedding.vocabulary_size))

    def compute_output_shape(self, sequence_shape: tuple, positions_shape: tuple) -> tuple:
        return (*positions_shape, self.embedding.vocabulary_size)


class LevelClassHead(keras.layers.Layer):
    """A "class" level: one matrix on its hidden states, flattened patch by patch: sequence [B, S, H] -> [B, C].

    positions: the level's slice of the sequence, counted from its end, as the patches come after texts of any length.
    """

    def __init__(self, positions: slice, num_classes: int, initializer_range: float, seed: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.positions = positions
        self.num_classes = num_classes
        self.dense = dense(num_classes, initializer_range, seed, "dense", dtype="float32")

    def build(self, sequence_shape: tuple) -> None:
        self.width = ((self.positions.stop or 0) - self.positions.start) * sequence_shape[-1]
        self.dense.build((sequence_shape[0], self.width))

    def call(self, sequence):
        return self.dense(ops.reshape(sequence[:, self.positions], (-1, self.width)))

    def compute_output_shape(self, sequence_shape: tuple) -> tuple:
        return (sequence_shape[0], self.num_classes)


class LevelFeatureHead(keras.layers.Layer):
    """A "feature" level: one matrix, no bias, on the hidden states of its masked patches -> [B, k, F].

    columns: the level's slice of masked_patches [B, K], which holds positions on the patch axis; that axis of ``num_patches`` is
    the end of the sequence.
    """

    def __init__(self, columns: slice, num_patches: int, feature_size: int, initializer_range: float, seed: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.columns = columns
        self.num_patches = num_patches
        self.feature_size = feature_size
        self.dense = dense(feature_size, initializer_range, seed, "dense", use_bias=False, dtype=self.dtype_policy)

    def build(self, sequence_shape: tuple, masked_patches_shape: tuple) -> None:
        self.dense.build((sequence_shape[0], None, sequence_shape[-1]))

    def call(self, sequence, masked_patches):
        start = ops.shape(sequence)[1] - self.num_patches
        return self.dense(gather(sequence, masked_patches[:, self.columns] + start))

    def compute_output_shape(self, sequence_shape: tuple, masked_patches_shape: tuple) -> tuple:
        return (sequence_shape[0], self.columns.stop - self.columns.start, self.feature_size)


def mean_states(sequence, token_mask):
    """Averages each side of sequence [B, S, H] -> text [B, H], over the real tokens, and patches [B, H]."""
    length = ops.shape(token_mask)[1]
    return mean_of_tokens(sequence[:, :length], token_mask), ops.mean(sequence[:, length:], axis=1)


def mean_of_tokens(states, token_mask):
    """Averages states [B, T, H] over the real tokens -> [B, H]."""
    real = ops.expand_dims(ops.cast(token_mask, states.dtype), -1)  # [B, T, 1]
    return ops.sum(states * real, axis=1) / ops.maximum(ops.sum(real, axis=1), 1)


class ProductHead(keras.layers.Layer):
    """A matching head that compares the two sides directly (ours; neither in the paper nor in the release) -> [B, 2].

    Mean hidden state of the real tokens times mean hidden state of the patches, beside the pooled output; dense, GELU, 2-way.
    """

    def __init__(self, initializer_range: float, seed: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.initializer_range = initializer_range
        self.seed = seed

    def build(self, sequence_shape: tuple, pooled_shape: tuple, token_mask_shape: tuple) -> None:
        hidden = pooled_shape[-1]
        self.dense = dense(hidden, self.initializer_range, self.seed, "dense", activation=gelu, dtype=self.dtype_policy)
        self.output_dense = keras.layers.Dense(
            2, kernel_initializer=truncated_normal(self.initializer_range, seed_for(self.seed, "output"), "kernel"),
            dtype="float32", name="output_dense")
        self.dense.build((pooled_shape[0], 2 * hidden))
        self.output_dense.build(pooled_shape)

    def call(self, sequence, pooled, token_mask):
        text, patches = mean_states(sequence, token_mask)
        return self.output_dense(self.dense(ops.concatenate([text * patches, pooled], axis=-1)))

    def compute_output_shape(self, sequence_shape: tuple, pooled_shape: tuple, token_mask_shape: tuple) -> tuple:
        return (pooled_shape[0], 2)


START_SCALE, MAX_SCALE = 20.0, 100.0  # of the cosine; learnt


class ContrastiveHead(keras.layers.Layer):
    """Both sides of image-text contrast, each from its own half of the encoder: sequence [B, S, H] of Backbone.apart, token_mask [B, T] ->
    f32[B, 2, H], the text of norm 1, then the picture, whose norm is the learnt scale.

    Ours; neither in the paper nor in the release. It aligns the streams before they meet (Li et al., 2021, "Align before Fuse").
    """

    def __init__(self, initializer_range: float, seed: int, **kwargs: Any):
        super().__init__(dtype="float32", **kwargs)  # half precision would round both sides before their product
        self.initializer_range, self.seed = initializer_range, seed

    def build(self, sequence_shape: tuple, token_mask_shape: tuple) -> None:
        hidden = sequence_shape[-1]
        self.text_dense, self.picture_dense = (
            dense(hidden, self.initializer_range, seed_for(self.seed, name), name, use_bias=False, dtype="float32")
            for name in ("text_dense", "picture_dense"))
        for layer in (self.text_dense, self.picture_dense):
            layer.build((sequence_shape[0], hidden))
        self.scale = self.add_weight((), "ones", name="scale")  # relative to the start, as in DualEncoder

    def call(self, sequence, token_mask):
        text, patches = mean_states(sequence, token_mask)
        return ops.stack([self.text_side(text), self.picture_side(patches)], axis=1)

    def text_side(self, text):
        """Computes [B, H] of norm 1 from the mean state of the text."""
        return ops.normalize(self.text_dense(text), axis=-1)

    def picture_side(self, patches):
        """Computes [B, H], whose norm is the learnt scale, from the mean state of the patches."""
        return ops.normalize(self.picture_dense(patches), axis=-1) * self.learnt_scale()

    def learnt_scale(self):
        """Computes f32[], the norm of the picture's side."""
        return ops.clip(self.scale * START_SCALE, 1.0, MAX_SCALE)

    def compute_output_shape(self, sequence_shape: tuple, token_mask_shape: tuple) -> tuple:
        return (sequence_shape[0], 2, sequence_shape[-1])

    def compute_output_spec(self, sequence, token_mask):
        return keras.KerasTensor(self.compute_output_shape(sequence.shape, token_mask.shape), dtype="float32")


class ContrastiveMatch(keras.layers.Layer):
    """The matching logits of [CLS] with what ContrastiveHead knows (ours): logits [B, 2], sides [B, 2, W] -> [B, 2].

    The product of the sides, times a learnt gain and plus a learnt bias, is added to the second column. Both start at 0: at the start it is
    the paper's head.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(dtype="float32", **kwargs)

    def build(self, logits_shape: tuple, sides_shape: tuple) -> None:
        self.gain, self.bias = (self.add_weight((), "zeros", name=name) for name in ("gain", "bias"))

    def call(self, logits, sides):
        return self.add(logits, product_of_sides(sides[:, 0], sides[:, 1]))

    def add(self, logits, product):
        """Adds the product [B] of the two sides."""
        match = self.gain * product + self.bias
        return ops.cast(logits, "float32") + ops.stack([ops.zeros_like(match), match], axis=-1)

    def compute_output_shape(self, logits_shape: tuple, sides_shape: tuple) -> tuple:
        return logits_shape


def product_of_sides(text, picture):
    """Computes f32[B] of text, picture [B, W]: how well the two sides fit."""
    return ops.sum(ops.cast(text, "float32") * ops.cast(picture, "float32"), axis=-1)


# --- Linear towers beside the encoder, from frozen features and words to a head (ours; neither in the paper nor in the release)
#
# On a few thousand products a linear model on the picture features and a bag of words beats a small transformer, whose hidden states are
# far narrower than the features. LevelMeans and WordBag give a head what the linear models have; head ``wide`` adds their logits.
#
# DualEncoder is a matching head of two such towers. Matching is slow to learn: a pair's loss stays near ln 2 for the first epochs. The
# towers are trained first and alone, in batches so large that every text is compared with hundreds of others
# (app_zoo/retrieve/fine_tuning.py); DualEncoderHead adds their product to the encoder's own logit.


class LevelMeans(keras.layers.Layer):
    """features [B, P, F], seen [B, P] -> [B, W]: each level's mean feature, concatenated, dropout, linear, in float32.

    There is no bias: in a tower it would prefer the same texts for all pictures.
    levels: slices of the patch axis. stddev: of the start weights; None = 1 / sqrt(number of inputs). rescale: standardise the means by a
    scale that ``adapt`` measures. Patches with seen = 0 do not count; the mean of a level without others is 0; seen None = all count.
    """

    def __init__(self, levels: Sequence[slice], width: int, dropout: float, seed: int, stddev: float | None = None,
                 rescale: bool = True, **kwargs: Any):
        super().__init__(dtype="float32", **kwargs)
        self.levels, self.width, self.stddev, self.seed = list(levels), width, stddev, seed
        self.scale = FeatureStandardizer(name="scale") if rescale else None  # the mean of 25 patches varies far less than one patch
        self.dropout = Dropout(dropout, seed_for(seed, "dropout"), dtype="float32", name="dropout")

    def build(self, features_shape: tuple, seen_shape: tuple | None = None) -> None:
        size = len(self.levels) * features_shape[-1]
        initializer = truncated_normal(size**-0.5 if self.stddev is None else self.stddev, self.seed, "kernel")
        self.dense = keras.layers.Dense(self.width, use_bias=False, kernel_initializer=initializer, dtype="float32", name="dense")
        self.dense.build((features_shape[0], size))
        self.dropout.build((features_shape[0], size))
        if self.scale is not None:
            self.scale.build((features_shape[0], size))

    @property
    def adapted(self) -> bool:
        """Whether the scale has been measured, where there is one."""
        return self.scale is None or self.scale.adapted

    def adapt(self, features: Tensor) -> None:
        """Measures the scale on a sample [N, P, F]."""
        assert self.scale is not None  # only means that are rescaled have a scale
        self.scale.adapt(ops.convert_to_numpy(self.means(features)))

    def means(self, features, seen=None):
        """Averages by level: [B, P, F], [B, P] -> [B, levels * F]."""
        means = []
        for level in self.levels:
            patches = ops.cast(features[:, level.start : level.stop], "float32")
            if seen is None:
                means.append(ops.mean(patches, axis=1))
            else:
                weights = ops.expand_dims(ops.cast(seen[:, level.start : level.stop], "float32"), 1)  # [B, 1, n]
                means.append(ops.matmul(weights / ops.maximum(ops.sum(weights, -1, keepdims=True), 1.0), patches)[:, 0])
        return ops.concatenate(means, axis=-1)

    def call(self, features, seen=None, training=False):
        means = self.means(features, seen)
        return self.dense(self.dropout(means if self.scale is None else self.scale(means), training=training))

    def compute_output_shape(self, features_shape: tuple, seen_shape: tuple | None = None) -> tuple:
        return (features_shape[0], self.width)


class WordBag(keras.layers.Layer):
    """token_ids, token_mask [B, T] -> [B, W]: a vector for every word piece, summed over the text with learnt weights, in float32.

    The first and the last piece, [CLS] and [SEP], are skipped, as all texts have them. The sum is divided by the square root of the
    text's length, so that long and short texts have sums of one size.
    """

    def __init__(self, vocabulary_size: int, width: int, seed: int, stddev: float | None = None, **kwargs: Any):
        super().__init__(dtype="float32", **kwargs)
        self.vocabulary_size, self.width, self.seed = vocabulary_size, width, seed
        self.stddev = width**-0.5 if stddev is None else stddev

    def build(self, token_ids_shape: tuple, token_mask_shape: tuple) -> None:
        initializer = truncated_normal(self.stddev, self.seed, "vectors")
        self.vectors = self.add_weight((self.vocabulary_size, self.width), initializer, name="vectors")
        self.log_weights = self.add_weight((self.vocabulary_size,), "zeros", name="log_weights")

    def call(self, token_ids, token_mask):
        real = ops.cast(token_mask, "float32")
        real = ops.pad(real[:, 1:-1] * real[:, 2:], [[0, 0], [1, 1]])  # pieces with one before and one after
        weights = ops.exp(ops.take(self.log_weights, token_ids, axis=0)) * real  # [B, T]
        total = ops.matmul(ops.expand_dims(weights, 1), ops.take(self.vectors, token_ids, axis=0))[:, 0]
        return total / ops.sqrt(ops.maximum(ops.sum(real, axis=1, keepdims=True), 1.0))

    def compute_output_shape(self, token_ids_shape: tuple, token_mask_shape: tuple) -> tuple:
        return (token_ids_shape[0], self.width)


class DualEncoder(keras.layers.Layer):
    """features [B, P, F], token_ids, token_mask [B, T] -> text [B, W] of norm 1, picture [B, W] whose norm is the learnt scale.

    Both are float32 whatever the precision: their product ranks candidates.
    """

    def __init__(self, levels: Sequence[slice], vocabulary_size: int, width: int, dropout: float, seed: int, **kwargs: Any):
        super().__init__(dtype="float32", **kwargs)
        self.text_tower = WordBag(vocabulary_size, width, seed_for(seed, "text_tower"), name="text_tower")
        self.picture_tower = LevelMeans(levels, width, dropout, seed_for(seed, "picture_tower"), name="picture_tower")
        self.width = width

    def build(self, features_shape: tuple, token_ids_shape: tuple, token_mask_shape: tuple) -> None:
        self.text_tower.build(token_ids_shape, token_mask_shape)
        self.picture_tower.build(features_shape)
        # relative to the start: the learning rate of all weights is small for a number of 20
        self.scale = self.add_weight((), "ones", name="scale")

    @property
    def adapted(self) -> bool:
        """Whether the scale of the picture tower has been measured."""
        return self.picture_tower.adapted

    def adapt(self, features: Tensor) -> None:
        """Measures the scale of the picture tower on a sample [N, P, F]."""
        self.picture_tower.adapt(features)

    def call(self, features, token_ids, token_mask, training=False):
        return self.text_side(token_ids, token_mask), self.picture_side(features, training)

    def text_side(self, token_ids, token_mask):
        """Computes [B, W] of norm 1."""
        return ops.normalize(self.text_tower(token_ids, token_mask), axis=-1)

    def picture_side(self, features, training=False):
        """Computes [B, W] whose norm is the learnt scale."""
        return ops.normalize(self.picture_tower(features, training=training), axis=-1) * self.learnt_scale()

    def learnt_scale(self):
        """Computes f32[], the norm of the picture's side."""
        return ops.clip(self.scale * START_SCALE, 1.0, MAX_SCALE)

    def compute_output_shape(self, features_shape: tuple, token_ids_shape: tuple, token_mask_shape: tuple) -> tuple:
        return ((features_shape[0], self.width),) * 2

    def compute_output_spec(self, features, token_ids, token_mask, training=False):
        shapes = self.compute_output_shape(features.shape, token_ids.shape, token_mask.shape)
        return tuple(keras.KerasTensor(shape, dtype="float32") for shape in shapes)


class DualEncoderHead(keras.layers.Layer):
    """text, picture [B, W] of DualEncoder, own [B, 2] of ContrastiveMatch -> logits [B, 2]: their product is added to the second column."""

    def __init__(self, **kwargs: Any):
        super().__init__(dtype="float32", **kwargs)

    def call(self, text, picture, own):
        return self.add(own, product_of_sides(text, picture))

    def add(self, own, product):
        """Adds the product [B] of the two sides."""
        return own + ops.stack([ops.zeros_like(product), product], axis=-1)

    def compute_output_shape(self, text_shape: tuple, picture_shape: tuple, own_shape: tuple) -> tuple:
        return own_shape
