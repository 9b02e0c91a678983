"""Kaleido-BERT (Zhuge et al., "Kaleido-BERT: Vision-Language Pre-training on Fashion Domain", CVPR 2021) in PyTorch, for transformers.

    model = AutoModel.from_pretrained(FOLDER, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(FOLDER, trust_remote_code=True)
    outputs = model(**processor(images=[picture], text=["red striped t-shirt"]))

What the paper proposes, and where it is:

- Kaleido patches (section 3.1). The product is cut out of its picture and split 1 x 1, 2 x 2, 3 x 3, 4 x 4 and 5 x 5: levels of 1, 4, 9, 16
  and 25 patches. processing_kaleido_bert.py cuts them; a frozen picture network makes a feature of each (EfficientNetLite0, PixelEncoder);
  KaleidoBertPatchEmbeddings brings those of one level into the sequence.
- One encoder for both (section 3.4). Word pieces and the patches of all levels are one sequence, through which a BERT attends
  (KaleidoBertModel).
- Kaleido tasks (section 3.3). Pre-training spoils each level in its own way, and asks what was done: how far a patch is turned, how the
  patches are shuffled, which is another product's, what a grey and what a blank patch look like. KaleidoBertForPreTraining has these heads.
  Which words and patches are spoiled, alignment-guided masking (section 3.2) decides while training; a finished model sees whole pictures.

Heads that say "ours" are of the implementation that has trained the model, not of the paper.

Letters of shapes: B batch, T pieces of text, P patches of all levels, n of one level, S = T + P, F size of a patch's feature, H hidden
size, V vocabulary, C classes, N predicted positions, W width of a vector.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

NORM_EPSILON = 1e-12
MASKED_SCORE = -10000.0  # added to the attention scores of what is hidden
NEVER = -1e9  # added to the logits of pieces that no caption has
START_SCALE, MAX_SCALE = 20.0, 100.0  # of a learnt scale of cosines
MAX_HALF = 65504.0  # of float16


class KaleidoBertConfig(PretrainedConfig):
    """levels: of patches, each with name, grid (n = grid * grid), pretext, answer ("class", "feature" or "": nothing), num_masked and
    num_classes. feature_size: F. text_length: the longest text in pieces, [CLS] and [SEP] among them.
    special_tokens: ids of pad, unknown, start, end and mask. patch_encoder: {"name": "pixels" or "efficientnet_lite0", "size": pixels,
    "storage": "float16" or "uint8", how precisely features are kept}; None: features are given, pictures cannot be.
    head, contrastive, width: see the models. captioning: how captions are written, see KaleidoBertForCaptioning.
    """

    model_type = "kaleido_bert"

    def __init__(self, levels: Sequence[dict[str, Any]] = (), feature_size: int = 2048, vocab_size: int = 30522, text_length: int = 64,
                 hidden_size: int = 768, num_hidden_layers: int = 12, num_attention_heads: int = 12, intermediate_size: int = 3072,
                 max_position_embeddings: int = 512, type_vocab_size: int = 2, patch_type_vocab_size: int = 6,
                 hidden_dropout_prob: float = 0.1, attention_probs_dropout_prob: float = 0.1, initializer_range: float = 0.02,
                 standardise_features: bool = False, special_tokens: dict[str, int] | None = None,
                 patch_encoder: dict[str, Any] | None = None, head: str = "plain", contrastive: bool = False, width: int = 512,
                 head_dropout: float = 0.1, feature_dropout: float = 0.3, captioning: dict[str, Any] | None = None, **kwargs: Any):
        self.levels = [dict(level) for level in levels]
        self.feature_size, self.vocab_size, self.text_length = feature_size, vocab_size, text_length
        self.hidden_size, self.num_hidden_layers, self.num_attention_heads = hidden_size, num_hidden_layers, num_attention_heads
        self.intermediate_size, self.max_position_embeddings = intermediate_size, max_position_embeddings
        self.type_vocab_size, self.patch_type_vocab_size = type_vocab_size, patch_type_vocab_size
        self.hidden_dropout_prob, self.attention_probs_dropout_prob = hidden_dropout_prob, attention_probs_dropout_prob
        self.initializer_range, self.standardise_features = initializer_range, standardise_features
        self.special_tokens = special_tokens or {"pad": 0, "unknown": 100, "start": 101, "end": 102, "mask": 103}
        self.patch_encoder, self.captioning = patch_encoder, captioning
        self.head, self.contrastive, self.width = head, contrastive, width
        self.head_dropout, self.feature_dropout = head_dropout, feature_dropout
        super().__init__(**kwargs)

    @property
    def num_patches(self) -> int:
        """P, of all levels."""
        return sum(level["grid"] ** 2 for level in self.levels)

    @property
    def patch_slices(self) -> dict[str, slice]:
        """{level: its slice of the patch axis}."""
        ends = [sum(level["grid"] ** 2 for level in self.levels[: number + 1]) for number in range(len(self.levels))]
        return {level["name"]: slice(end - level["grid"] ** 2, end) for level, end in zip(self.levels, ends)}


# --- Patch encoders: what makes a feature of a patch. They are frozen


class PixelEncoder(nn.Module):
    """The pixels themselves: uint8[N, 3, s, s] -> float[N, s * s * 3] of 0 to 1, pixel by pixel."""

    def forward(self, patches: Tensor) -> Tensor:
        return patches.permute(0, 2, 3, 1).flatten(1).float() / 255


class SamePadConv2d(nn.Conv2d):
    """A convolution that pads as TensorFlow's "same": a stride of 2 starts one pixel later than PyTorch's would."""

    def forward(self, inputs: Tensor) -> Tensor:
        padding: list[int] = []
        for axis in (1, 0):  # F.pad begins with the last axis
            size, kernel, stride = inputs.shape[2 + axis], self.kernel_size[axis], self.stride[axis]
            total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(F.pad(inputs, padding))


class InvertedResidual(nn.Module):
    """A block of EfficientNet-lite: widened, filtered channel by channel, narrowed; batch normalisation is part of the weights."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        wide = inputs * expansion
        self.expand = SamePadConv2d(inputs, wide, 1) if expansion > 1 else None
        self.depthwise = SamePadConv2d(wide, wide, kernel, stride, groups=wide)
        self.project = SamePadConv2d(wide, outputs, 1)
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = inputs if self.expand is None else F.relu6(self.expand(inputs))
        hidden = self.project(F.relu6(self.depthwise(hidden)))
        return inputs + hidden if self.is_residual else hidden


class EfficientNetLite0(nn.Module):
    """EfficientNet-lite0 (Tan and Le, 2019) without its top: uint8[N, 3, s, s] -> float[N, 1280], the means over all positions."""

    STAGES = (  # repeats, kernel, stride, expansion, channels
        (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))

    def __init__(self) -> None:
        super().__init__()
        self.stem = SamePadConv2d(3, 32, 3, 2)
        blocks, channels = [], 32
        for repeats, kernel, first_stride, expansion, outputs in self.STAGES:
            for stride in (first_stride, *[1] * (repeats - 1)):
                blocks.append(InvertedResidual(channels, outputs, kernel, stride, expansion))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = SamePadConv2d(channels, 1280, 1)

    def forward(self, patches: Tensor) -> Tensor:
        pixels = (patches.to(self.stem.weight.dtype) - 127) / 128
        return F.relu6(self.head(self.blocks(F.relu6(self.stem(pixels))))).mean((2, 3))


PATCH_ENCODERS = {"pixels": PixelEncoder, "efficientnet_lite0": EfficientNetLite0}


def as_stored(features: Tensor, storage: str) -> Tensor:
    """Rounds features as training has read them: to float16, and with storage "uint8" to bytes with a scale for each patch before."""
    features = features.clamp(-MAX_HALF, MAX_HALF).half().float()
    if storage == "uint8":
        scale = features.amax(-1, keepdim=True) / 255
        features = ((features / torch.where(scale > 0, scale, 1)).round() * scale).half().float()
    return features


# --- Embeddings: how words and patches enter the sequence


class FeatureScale(nn.Module):
    """(features - mean) * scale of each feature, measured on the training data (ours)."""

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) * self.scale


class KaleidoBertTextEmbeddings(nn.Module):
    """Word + position + segment, LayerNorm, dropout: int[B, T] twice -> [B, T, H]."""

    def __init__(self, config: KaleidoBertConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=NORM_EPSILON)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        positions = self.position_embeddings.weight[: input_ids.shape[1]]
        embedded = self.word_embeddings(input_ids) + self.token_type_embeddings(token_type_ids) + positions
        return self.dropout(self.layer_norm(embedded))


class KaleidoBertPatchEmbeddings(nn.Module):
    """The patches of one level: projected feature + the level's type + where the patch is, LayerNorm, dropout: [B, n, F], [B, n, H] ->
    [B, n, H].

    row: of the level in its type table, counted from 1; beyond the table, as released, the type is zero.
    """

    def __init__(self, config: KaleidoBertConfig, row: int):
        super().__init__()
        self.row = row
        self.projector = nn.Linear(config.feature_size, config.hidden_size, bias=False)
        self.type_embeddings = nn.Embedding(config.patch_type_vocab_size, config.hidden_size)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=NORM_EPSILON)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, features: Tensor, boxes: Tensor) -> Tensor:
        embedded = self.projector(self.dropout(features)) + boxes
        if self.row < self.type_embeddings.num_embeddings:
            embedded = embedded + self.type_embeddings.weight[self.row]
        return self.dropout(self.layer_norm(embedded))


class KaleidoBertEmbeddings(nn.Module):
    """Text and patches, each as their part of the sequence."""

    def __init__(self, config: KaleidoBertConfig):
        super().__init__()
        self.slices = config.patch_slices
        self.text = KaleidoBertTextEmbeddings(config)
        self.feature_scale = FeatureScale(config.feature_size) if config.standardise_features else None
        self.box_projection = nn.Linear(5, config.hidden_size, bias=False)  # x1, x2, y1, y2 and area of a patch
        self.patches = nn.ModuleDict({f"level_{name}": KaleidoBertPatchEmbeddings(config, row)
                                      for row, name in enumerate(self.slices, start=1)})

    def scaled(self, features: Tensor) -> Tensor:
        """Brings features to one scale, where the model does so."""
        return features if self.feature_scale is None else self.feature_scale(features)

    def embed_patches(self, features: Tensor, boxes: Tensor) -> Tensor:
        """Embeds features [B, P, F] and boxes [B, P, 5] of all levels -> [B, P, H]."""
        features, boxes = self.scaled(features), self.box_projection(boxes)
        return torch.cat([self.patches[f"level_{name}"](features[:, part], boxes[:, part]) for name, part in self.slices.items()], 1)


# --- The encoder


class KaleidoBertLayer(nn.Module):
    """Self-attention and feed-forward network, each with residual and LayerNorm behind it: [B, S, H] -> [B, S, H]."""

    def __init__(self, config: KaleidoBertConfig):
        super().__init__()
        size = config.hidden_size
        self.num_heads, self.attention_dropout = config.num_attention_heads, config.attention_probs_dropout_prob
        self.query, self.key, self.value = nn.Linear(size, size), nn.Linear(size, size), nn.Linear(size, size)
        self.attention_output, self.attention_norm = nn.Linear(size, size), nn.LayerNorm(size, eps=NORM_EPSILON)
        self.intermediate = nn.Linear(size, config.intermediate_size)
        self.output, self.output_norm = nn.Linear(config.intermediate_size, size), nn.LayerNorm(size, eps=NORM_EPSILON)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Tensor, bias: Tensor | None, context: Tensor | None = None) -> Tensor:
        """Encodes hidden [B, S, H]. context [B, K, H]: what it attends to, None = itself. bias [B or 1, 1, 1 or S, K]: added to scores."""
        context = hidden if context is None else context
        query, key, value = self.heads(self.query(hidden)), self.heads(self.key(context)), self.heads(self.value(context))
        dropout = self.attention_dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout).transpose(1, 2).flatten(2)
        hidden = self.attention_norm(hidden + self.dropout(self.attention_output(attended)))
        fed = self.output(F.gelu(self.intermediate(hidden), approximate="tanh"))
        return self.output_norm(hidden + self.dropout(fed))

    def heads(self, states: Tensor) -> Tensor:
        """Splits into heads: [B, S, H] -> [B, A, S, H / A]."""
        return states.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


class Inputs(NamedTuple):
    """What a model reads, nothing missing: input_ids, attention_mask, token_type_ids int[B, T], features [B, P, F], boxes [B, P, 5]."""

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor
    features: Tensor
    boxes: Tensor


@dataclass
class KaleidoBertOutput(ModelOutput):
    """last_hidden_state [B, S, H], text first, then the levels in the order of their table; pooler_output [B, H], of [CLS]."""

    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None


class KaleidoBertPreTrainedModel(PreTrainedModel):
    """Loading and saving, of transformers."""

    config_class = KaleidoBertConfig
    base_model_prefix = "kaleido_bert"
    _supports_sdpa = True


class KaleidoBertModel(KaleidoBertPreTrainedModel):
    """Embeddings, encoder and pooler.

    Inputs of every model: input_ids, attention_mask, token_type_ids int[B, T], T at most config.text_length; pixel_values
    uint8[B, P, 3, s, s], the patches of all levels, or patch_features [B, P, F] in their place; patch_boxes [B, P, 5]. Without input_ids
    the text is empty, [CLS] [SEP]; without a picture features and boxes are zero.
    """

    def __init__(self, config: KaleidoBertConfig):
        super().__init__(config)
        self.embeddings = KaleidoBertEmbeddings(config)
        self.layers = nn.ModuleList([KaleidoBertLayer(config) for _ in range(config.num_hidden_layers)])
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size)
        self.patch_encoder = PATCH_ENCODERS[config.patch_encoder["name"]]() if config.patch_encoder else None
        self.post_init()

    def forward(self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None,
                pixel_values: Tensor | None = None, patch_features: Tensor | None = None, patch_boxes: Tensor | None = None
                ) -> KaleidoBertOutput:
        inputs = self.complete(input_ids, attention_mask, token_type_ids, pixel_values, patch_features, patch_boxes)
        return KaleidoBertOutput(*self.encode(inputs))

    def encode(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Encodes text and patches together: hidden states [B, S, H], and the pooled one of [CLS], [B, H]."""
        hidden = torch.cat([self.embeddings.text(inputs.input_ids, inputs.token_type_ids), self.patches(inputs)], 1)
        hidden = self.run(hidden, padding_bias(inputs.attention_mask, hidden, self.config.num_patches))
        return hidden, torch.tanh(self.pooler(hidden[:, 0]))

    def patches(self, inputs: Inputs) -> Tensor:
        """Embeds the patches: [B, P, H]."""
        return self.embeddings.embed_patches(inputs.features, inputs.boxes)

    def run(self, hidden: Tensor, bias: Tensor | None) -> Tensor:
        """Runs the layers: [B, S, H] -> [B, S, H]."""
        for layer in self.layers:
            hidden = layer(hidden, bias)
        return hidden

    def encode_text_alone(self, inputs: Inputs) -> Tensor:
        """Encodes the text without its picture and returns the mean over its pieces, [B, H]."""
        text = self.embeddings.text(inputs.input_ids, inputs.token_type_ids)
        return mean_of_tokens(self.run(text, padding_bias(inputs.attention_mask, text)), inputs.attention_mask)

    def encode_patches_alone(self, inputs: Inputs) -> Tensor:
        """Encodes the picture without its text and returns the mean over its patches, [B, H]."""
        return self.run(self.patches(inputs), None).mean(1)

    def complete(self, input_ids: Tensor | None, attention_mask: Tensor | None, token_type_ids: Tensor | None,
                 pixel_values: Tensor | None, patch_features: Tensor | None, patch_boxes: Tensor | None) -> Inputs:
        """Fills in what is not given; features of pictures come from the patch encoder."""
        device = self.device
        if pixel_values is not None:
            patch_features = self.encode_pixels(pixel_values.to(device))
        given = next((tensor for tensor in (input_ids, patch_features, patch_boxes) if tensor is not None), None)
        if given is None:
            raise ValueError("neither a text nor a picture is given")
        if (patch_features is None) != (patch_boxes is None):
            raise ValueError("patch_boxes belong to pixel_values or patch_features: give both, or none")
        batch, special, config = len(given), self.config.special_tokens, self.config
        if input_ids is None:
            input_ids = torch.tensor([[special["start"], special["end"]]]).repeat(batch, 1)
        if input_ids.shape[1] > config.text_length:
            raise ValueError(f"texts of {input_ids.shape[1]} word pieces; at most {config.text_length}")
        if attention_mask is None:
            attention_mask = input_ids != special["pad"]
        if patch_features is None or patch_boxes is None:
            patch_features = torch.zeros(batch, config.num_patches, config.feature_size)
            patch_boxes = torch.zeros(batch, config.num_patches, 5)
        token_type_ids = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        whole = (input_ids, attention_mask, token_type_ids)
        picture = (tensor.to(device, self.dtype) for tensor in (patch_features, patch_boxes))
        return Inputs(*(tensor.to(device) for tensor in whole), *picture)

    @torch.no_grad()
    def encode_pixels(self, pixel_values: Tensor) -> Tensor:
        """Makes features of patches: uint8[B, P, 3, s, s] -> [B, P, F]."""
        if self.patch_encoder is None:
            raise ValueError("this model was exported without a patch encoder: give patch_features")
        patches = pixel_values.flatten(0, 1).split(256)
        features = torch.cat([self.patch_encoder(chunk) for chunk in patches]).unflatten(0, pixel_values.shape[:2])
        return as_stored(features, self.config.patch_encoder["storage"]).to(self.dtype)


def padding_bias(attention_mask: Tensor, hidden: Tensor, num_patches: int = 0) -> Tensor:
    """Makes what hides the padding of texts, int[B, T], from all, and never a patch: [B, 1, 1, T + num_patches]."""
    hides = F.pad(1 - attention_mask.to(hidden.dtype), (0, num_patches))
    return hides[:, None, None] * MASKED_SCORE


def mean_of_tokens(states: Tensor, attention_mask: Tensor) -> Tensor:
    """Averages states [B, T, H] over the real pieces -> [B, H]."""
    real = attention_mask.to(states.dtype)[..., None]
    return (states * real).sum(1) / real.sum(1).clamp(min=1)


# --- Heads


class KaleidoBertMaskedTokenHead(nn.Module):
    """Which piece a hidden state [..., H] stands for: logits [..., V], by the transposed word embeddings."""

    def __init__(self, config: KaleidoBertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=NORM_EPSILON)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden: Tensor, word_embeddings: nn.Embedding) -> Tensor:
        hidden = self.layer_norm(F.gelu(self.dense(hidden), approximate="tanh"))
        return F.linear(hidden, word_embeddings.weight, self.bias)


class ContrastiveHead(nn.Module):
    """Both sides before they meet (ours): mean states [B, H] of text and patches -> text [B, H] of length 1, picture [B, H], whose length
    is the learnt scale; and the matching logits [B, 2] with what their product says."""

    def __init__(self, config: KaleidoBertConfig):
        super().__init__()
        self.text_dense = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.picture_dense = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.scale = nn.Parameter(torch.ones(()))
        self.match_gain, self.match_bias = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def forward(self, logits: Tensor, text: Tensor, picture: Tensor) -> Tensor:
        return add_to_match(logits, self.match_gain * (text * picture).sum(-1) + self.match_bias)

    def text_side(self, mean: Tensor) -> Tensor:
        return F.normalize(self.text_dense(mean), dim=-1)

    def picture_side(self, mean: Tensor) -> Tensor:
        return F.normalize(self.picture_dense(mean), dim=-1) * self.learnt_scale()

    def learnt_scale(self) -> Tensor:
        return (self.scale * START_SCALE).clamp(1, MAX_SCALE)


def add_to_match(logits: Tensor, product: Tensor) -> Tensor:
    """Adds product [B] to the second column of logits [B, 2]: that text and picture match."""
    return logits + torch.stack([torch.zeros_like(product), product], -1)


class LevelMeans(nn.Module):
    """The mean feature of each level, joined, then linear (ours): features [B, P, F] -> [B, W].

    seen bool[B, P]: the patches that count; None = all.
    """

    def __init__(self, config: KaleidoBertConfig, width: int, rescale: bool):
        super().__init__()
        self.slices, size = list(config.patch_slices.values()), len(config.levels) * config.feature_size
        self.scale = FeatureScale(size) if rescale else None
        self.dropout = nn.Dropout(config.feature_dropout)
        self.dense = nn.Linear(size, width, bias=False)

    def forward(self, features: Tensor, seen: Tensor | None = None) -> Tensor:
        weights = torch.ones_like(features[..., :1]) if seen is None else seen.to(features.dtype)[..., None]
        means = torch.cat([(features[:, part] * weights[:, part]).sum(1) / weights[:, part].sum(1).clamp(min=1)
                           for part in self.slices], -1)
        return self.dense(self.dropout(means if self.scale is None else self.scale(means)))


class WordBag(nn.Module):
    """A vector for every word piece, summed over the text with learnt weights (ours): int[B, T] twice -> [B, W].

    [CLS] and the last piece, [SEP], do not count. The sum is divided by the square root of the number of pieces.
    """

    def __init__(self, config: KaleidoBertConfig, width: int):
        super().__init__()
        self.vectors = nn.Embedding(config.vocab_size, width)
        self.log_weights = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        real = attention_mask.to(self.log_weights.dtype)
        real = F.pad(real[:, 1:-1] * real[:, 2:], (1, 1))  # pieces with one before and one after
        weights = self.log_weights[input_ids].exp() * real
        total = (weights[..., None] * self.vectors(input_ids)).sum(1)
        return total / real.sum(1, keepdim=True).clamp(min=1).sqrt()


class DualEncoder(nn.Module):
    """Two linear towers beside the encoder (ours): a text and a picture as vectors [B, W]; their product is part of the matching logit."""

    def __init__(self, config: KaleidoBertConfig):
        super().__init__()
        self.text_tower = WordBag(config, config.width)
        self.picture_tower = LevelMeans(config, config.width, rescale=True)
        self.scale = nn.Parameter(torch.ones(()))

    def text_side(self, inputs: Inputs) -> Tensor:
        return F.normalize(self.text_tower(inputs.input_ids, inputs.attention_mask), dim=-1)

    def picture_side(self, features: Tensor) -> Tensor:
        return F.normalize(self.picture_tower(features), dim=-1) * self.learnt_scale()

    def learnt_scale(self) -> Tensor:
        return (self.scale * START_SCALE).clamp(1, MAX_SCALE)


# --- Models


@dataclass
class KaleidoBertForPreTrainingOutput(ModelOutput):
    """mlm_logits [B, N, V]; itm_logits [B, 2], column 1 = text and picture match; level_logits {level: [B, C] of a class, or [B, k, F], the
    features of its masked patches}; own_logits [B, 2], with image-text contrast: the matching logits of [CLS] without it."""

    mlm_logits: Tensor | None = None
    itm_logits: Tensor | None = None
    level_logits: dict[str, Tensor] | None = None
    own_logits: Tensor | None = None


class KaleidoBertForPreTraining(KaleidoBertPreTrainedModel):
    """The heads of pre-training: masked words, matching, and what was done to each level of patches.

    masked_tokens int[B, N]: positions in the text that are predicted; None = all. masked_patches int[B, K]: positions on the patch axis, of
    all "feature" levels in their order; None = no features are predicted. config.contrastive: with image-text contrast (ours).
    """

    def __init__(self, config: KaleidoBertConfig):
        super().__init__(config)
        self.kaleido_bert = KaleidoBertModel(config)
        self.mlm_head, self.itm_head = KaleidoBertMaskedTokenHead(config), nn.Linear(config.hidden_size, 2)
        heads: dict[str, nn.Module] = {}
        for level in config.levels:
            if level["answer"] == "class":
                heads[f"level_{level['name']}"] = nn.Linear(level["grid"] ** 2 * config.hidden_size, level["num_classes"])
            elif level["answer"] == "feature":
                heads[f"level_{level['name']}"] = nn.Linear(config.hidden_size, config.feature_size, bias=False)
        self.level_heads = nn.ModuleDict(heads)
        self.contrast = ContrastiveHead(config) if config.contrastive else None
        self.post_init()

    def forward(self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None,
                pixel_values: Tensor | None = None, patch_features: Tensor | None = None, patch_boxes: Tensor | None = None,
                masked_tokens: Tensor | None = None, masked_patches: Tensor | None = None) -> KaleidoBertForPreTrainingOutput:
        bert = self.kaleido_bert
        inputs = bert.complete(input_ids, attention_mask, token_type_ids, pixel_values, patch_features, patch_boxes)
        sequence, pooled = bert.encode(inputs)
        text, patches = sequence.split([inputs.input_ids.shape[1], self.config.num_patches], 1)
        words = text if masked_tokens is None else at_positions(text, masked_tokens)
        mlm = self.mlm_head(words, bert.embeddings.text.word_embeddings)
        own, levels = self.itm_head(pooled), self.level_logits(patches, masked_patches)
        if self.contrast is None:
            return KaleidoBertForPreTrainingOutput(mlm, own, levels)
        sides = self.contrast.text_side(bert.encode_text_alone(inputs)), self.contrast.picture_side(bert.encode_patches_alone(inputs))
        return KaleidoBertForPreTrainingOutput(mlm, self.contrast(own, *sides), levels, own)

    def level_logits(self, patches: Tensor, masked_patches: Tensor | None) -> dict[str, Tensor]:
        """Answers for every level with a task: patches [B, P, H]."""
        answers, column = {}, 0
        for level in self.config.levels:
            name = level["name"]
            if level["answer"] == "class":  # one matrix on all patches of the level, side by side
                answers[name] = self.level_heads[f"level_{name}"](patches[:, self.config.patch_slices[name]].flatten(1))
            elif level["answer"] == "feature" and masked_patches is not None:
                positions = masked_patches[:, column : column + level["num_masked"]]
                answers[name] = self.level_heads[f"level_{name}"](at_positions(patches, positions))
                column += level["num_masked"]
        return answers


def at_positions(states: Tensor, positions: Tensor) -> Tensor:
    """Takes states [B, S, H] at int[B, N] -> [B, N, H]."""
    return torch.take_along_dim(states, positions.to(states.device).long()[..., None], 1)


@dataclass
class KaleidoBertForClassificationOutput(ModelOutput):
    """logits [B, C], in the order of config.id2label; loss: where labels are given."""

    loss: Tensor | None = None
    logits: Tensor | None = None


class KaleidoBertForClassification(KaleidoBertPreTrainedModel):
    """A label of a product, such as its category. labels: int[B].

    config.head: "plain" as in the paper, linear on [CLS]; or "wide" (ours), to which linear models on features and words are added.
    """

    def __init__(self, config: KaleidoBertConfig):
        super().__init__(config)
        self.kaleido_bert = KaleidoBertModel(config)
        self.dropout, self.label_head = nn.Dropout(config.head_dropout), nn.Linear(config.hidden_size, config.num_labels)
        is_wide = config.head == "wide"
        self.feature_head = LevelMeans(config, config.num_labels, rescale=False) if is_wide else None
        self.word_head = WordBag(config, config.num_labels) if is_wide else None
        self.post_init()

    def forward(self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None,
                pixel_values: Tensor | None = None, patch_features: Tensor | None = None, patch_boxes: Tensor | None = None,
                labels: Tensor | None = None) -> KaleidoBertForClassificationOutput:
        bert = self.kaleido_bert
        inputs = bert.complete(input_ids, attention_mask, token_type_ids, pixel_values, patch_features, patch_boxes)
        logits = self.label_head(self.dropout(bert.encode(inputs)[1]))
        if self.feature_head is not None and self.word_head is not None:
            seen = (inputs.features != 0).any(-1)  # a hidden patch, all zeros, would bias the mean of its level
            logits = logits + self.feature_head(bert.embeddings.scaled(inputs.features), seen)
            logits = logits + self.word_head(inputs.input_ids, inputs.attention_mask)
        loss = None if labels is None else F.cross_entropy(logits, labels.to(logits.device))
        return KaleidoBertForClassificationOutput(loss, logits)


@dataclass
class KaleidoBertForMatchingOutput(ModelOutput):
    """logits [B, 2], column 1 = text and picture match; own_logits [B, 2]: without the last part of heads of ours; loss: where labels are
    given."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    own_logits: Tensor | None = None


class KaleidoBertForMatching(KaleidoBertPreTrainedModel):
    """Whether text and picture belong together: candidates are ranked by the second logit. labels: int[B], 1 = they do.

    config.head: "plain" as in the paper, linear on [CLS]; of ours "product" (beside [CLS] the product of the mean states of text and
    patches), "contrastive" (ContrastiveHead is added), and "dual_encoder" (contrastive, and DualEncoder is added).
    """

    def __init__(self, config: KaleidoBertConfig):
        super().__init__(config)
        self.kaleido_bert = KaleidoBertModel(config)
        size, is_product = config.hidden_size, config.head == "product"
        self.product_dense = nn.Linear(2 * size, size) if is_product else None
        self.itm_head = nn.Linear(size, 2)
        self.contrast = ContrastiveHead(config) if config.head in ("contrastive", "dual_encoder") else None
        self.towers = DualEncoder(config) if config.head == "dual_encoder" else None
        self.post_init()

    def forward(self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None,
                pixel_values: Tensor | None = None, patch_features: Tensor | None = None, patch_boxes: Tensor | None = None,
                labels: Tensor | None = None) -> KaleidoBertForMatchingOutput:
        bert, own = self.kaleido_bert, None
        inputs = bert.complete(input_ids, attention_mask, token_type_ids, pixel_values, patch_features, patch_boxes)
        sequence, pooled = bert.encode(inputs)
        if self.product_dense is not None:
            text, patches = sequence.split([inputs.input_ids.shape[1], self.config.num_patches], 1)
            product = mean_of_tokens(text, inputs.attention_mask) * patches.mean(1)
            pooled = F.gelu(self.product_dense(torch.cat([product, pooled], -1)), approximate="tanh")
        logits = self.itm_head(pooled)
        if self.contrast is not None:
            own = logits
            sides = self.contrast.text_side(bert.encode_text_alone(inputs)), self.contrast.picture_side(bert.encode_patches_alone(inputs))
            logits = self.contrast(logits, *sides)
        if self.towers is not None:
            own = logits
            text, picture = self.towers.text_side(inputs), self.towers.picture_side(bert.embeddings.scaled(inputs.features))
            logits = add_to_match(logits, (text * picture).sum(-1))
        loss = None if labels is None else F.cross_entropy(logits, labels.to(logits.device))
        return KaleidoBertForMatchingOutput(loss, logits, own)

    # Vectors of texts and of pictures alone: the product of two is the part of the logit for which they need not meet, up to a factor

    @torch.no_grad()
    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None) -> Tensor:
        """Makes [B, W] of length 1, to be multiplied with those of pictures: heads "contrastive" and "dual_encoder"."""
        inputs = self.kaleido_bert.complete(input_ids, attention_mask, token_type_ids, None, None, None)
        roots, sides = self.roots_of_sides(), []
        if self.towers is not None and "towers" in roots:
            sides.append(self.towers.text_side(inputs) * roots["towers"].abs())
        if self.contrast is not None and "contrast" in roots:
            sides.append(self.contrast.text_side(self.kaleido_bert.encode_text_alone(inputs)) * roots["contrast"].abs())
        return torch.cat(sides, -1)

    @torch.no_grad()
    def get_image_features(self, pixel_values: Tensor | None = None, patch_features: Tensor | None = None,
                           patch_boxes: Tensor | None = None) -> Tensor:
        """Makes [B, W] of length 1 of pictures."""
        bert = self.kaleido_bert
        inputs = bert.complete(None, None, None, pixel_values, patch_features, patch_boxes)
        roots, sides = self.roots_of_sides(), []
        if self.towers is not None and "towers" in roots:
            sides.append(F.normalize(self.towers.picture_side(bert.embeddings.scaled(inputs.features)), dim=-1) * roots["towers"])
        if self.contrast is not None and "contrast" in roots:
            sides.append(F.normalize(self.contrast.picture_side(bert.encode_patches_alone(inputs)), dim=-1) * roots["contrast"])
        return torch.cat(sides, -1)

    def roots_of_sides(self) -> dict[str, Tensor]:
        """Returns by how much each pair of sides counts in the logit: the root of its fraction, with its sign."""
        weights: dict[str, Tensor] = {}
        if self.towers is not None:
            weights["towers"] = self.towers.learnt_scale()
        if self.contrast is not None:
            weights["contrast"] = self.contrast.learnt_scale() * self.contrast.match_gain
        weights = {name: weight for name, weight in weights.items() if weight != 0}
        if not weights:
            raise ValueError(f"the head {self.config.head!r} knows nothing of texts and pictures apart")
        total = torch.stack(list(weights.values())).abs().sum()
        return {name: (weight.abs() / total).sqrt() * weight.sign() for name, weight in weights.items()}


@dataclass
class KaleidoBertForCaptioningOutput(ModelOutput):
    """logits [B, N, V] of the pieces at, or in mode "causal" after, the predicted positions; length_logits [B, T - 2] of a text of 1, 2,
    ... pieces, in the other modes."""

    logits: Tensor | None = None
    length_logits: Tensor | None = None


class KaleidoBertForCaptioning(KaleidoBertPreTrainedModel):
    """Captions by the head of masked words.

    config.captioning: mode "mask-all" (all pieces at once, as in the paper), "mask-predict" (the least certain ones are predicted again,
    Ghazvininejad et al., 2019) or "causal" (one after another); and the defaults of ``generate``.
    """

    def __init__(self, config: KaleidoBertConfig):
        super().__init__(config)
        self.kaleido_bert = KaleidoBertModel(config)
        self.mlm_head = KaleidoBertMaskedTokenHead(config)
        self.is_causal = (config.captioning or {}).get("mode") == "causal"
        self.length_head = None if self.is_causal else nn.Linear(config.hidden_size, config.text_length - 2)
        self.post_init()

    def forward(self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None,
                pixel_values: Tensor | None = None, patch_features: Tensor | None = None, patch_boxes: Tensor | None = None,
                predict_positions: Tensor | None = None) -> KaleidoBertForCaptioningOutput:
        """predict_positions int[B, N]: None = all positions of the text."""
        bert = self.kaleido_bert
        inputs = bert.complete(input_ids, attention_mask, token_type_ids, pixel_values, patch_features, patch_boxes)
        if self.length_head is None:
            text, length = self.read_on(inputs.input_ids, self.memory(inputs)), None
        else:
            sequence, pooled = bert.encode(inputs)
            text, length = sequence[:, : inputs.input_ids.shape[1]], self.length_head(pooled)
        text = text if predict_positions is None else at_positions(text, predict_positions)
        return KaleidoBertForCaptioningOutput(self.mlm_head(text, bert.embeddings.text.word_embeddings), length)

    @torch.no_grad()
    def generate(self, pixel_values: Tensor | None = None, patch_features: Tensor | None = None, patch_boxes: Tensor | None = None,
                 num_beams: int | None = None, length_penalty: float | None = None, iterations: int | None = None,
                 length_candidates: int | None = None, max_length: int | None = None) -> Tensor:
        """Writes a caption for each picture: the ids of its pieces, filled up with padding, int[B, L]; processor.batch_decode makes texts.

        Mode "causal": num_beams are followed at a time, and the one of the highest log-probability / length ** length_penalty is taken. The
        others: of length_candidates lengths the caption of the highest mean log-probability; iterations: rounds of "mask-predict".
        max_length: of a caption in pieces. What is None is as the training run had it.
        """
        inputs = self.kaleido_bert.complete(None, None, None, pixel_values, patch_features, patch_boxes)
        settings = dict(self.config.captioning)
        given = {"num_beams": num_beams, "length_penalty": length_penalty, "iterations": iterations,
                 "length_candidates": length_candidates, "max_length": max_length}
        settings |= {name: value for name, value in given.items() if value is not None}
        longest = min(settings["max_length"], self.config.text_length - 2)
        if self.is_causal:
            return self.beam_search(inputs, settings["num_beams"], settings["length_penalty"], longest)
        if fixed := settings.get("fixed_length"):
            lengths = torch.full((len(inputs.boxes), 1), fixed, device=self.device)
        else:
            lengths = self.likeliest_lengths(inputs, settings["length_candidates"])
        return self.mask_predict(inputs, lengths.clamp(max=longest), settings["iterations"] if settings["mode"] == "mask-predict" else 1)

    # --- Mode "causal"

    def memory(self, inputs: Inputs) -> list[Tensor]:
        """Encodes the patches, which never see the text: their states [B, P, H] before each layer."""
        states = [self.kaleido_bert.patches(inputs)]
        for layer in self.kaleido_bert.layers:
            states.append(layer(states[-1], None))
        return states[:-1]

    def read_on(self, input_ids: Tensor, memory: list[Tensor]) -> Tensor:
        """Encodes a text of which each piece sees the patches and the pieces up to itself: int[B, T] -> [B, T, H]."""
        text = self.kaleido_bert.embeddings.text(input_ids, torch.zeros_like(input_ids))
        later = torch.ones(text.shape[1], text.shape[1], dtype=text.dtype, device=text.device).triu(1)
        bias = F.pad(later, (0, self.config.num_patches)) * MASKED_SCORE
        for layer, patches in zip(self.kaleido_bert.layers, memory):
            text = layer(text, bias[None, None], torch.cat([text, patches], 1))
        return text

    def beam_search(self, inputs: Inputs, num_beams: int, length_penalty: float, max_length: int) -> Tensor:
        """Writes one piece after another; one beam is greedy search."""
        pad, end = self.config.special_tokens["pad"], self.config.special_tokens["end"]
        batch, device = len(inputs.boxes), self.device
        memory = [states.repeat_interleave(num_beams, 0) for states in self.memory(inputs)]
        pieces = torch.full((batch * num_beams, max_length + 2), pad, device=device)
        pieces[:, 0] = self.config.special_tokens["start"]
        first = torch.full((num_beams,), NEVER, device=device)  # all beams start equal: only the first goes on, or they would stay equal
        first[0] = 0
        scores = first.repeat(batch, 1)
        for position in range(max_length + 1):
            last = pieces[:, position]
            ended = ((last == end) | (last == pad))[:, None]
            if ended.all():
                break
            hidden = self.read_on(pieces[:, : position + 1], memory)[:, -1]
            logits = self.mlm_head(hidden, self.kaleido_bert.embeddings.text.word_embeddings).float()
            logits = logits + self.allowed(may_end=position > 0, must_end=position == max_length)
            likeliest, following = logits.topk(num_beams)
            gained = torch.where(ended, first, likeliest - logits.logsumexp(-1, keepdim=True))  # what has ended goes on once, as it is
            following = following.masked_fill(ended, pad).view(batch, -1)
            scores, chosen = (scores[..., None] + gained.view(batch, num_beams, num_beams)).flatten(1).topk(num_beams)
            parents = torch.arange(batch, device=device)[:, None] * num_beams + chosen // num_beams
            pieces = pieces[parents.flatten()]
            pieces[:, position + 1] = following.gather(1, chosen).flatten()
        written = pieces[:, 1:].view(batch, num_beams, -1)
        lengths = (written != pad).sum(-1).clamp(min=1)
        best = (scores / lengths**length_penalty).argmax(1)
        result = written[torch.arange(batch, device=device), best]
        return result.masked_fill(result == end, pad)[:, :max_length]

    def allowed(self, may_end: bool, must_end: bool = False) -> Tensor:
        """Makes [V], added to logits: what no caption has, the special pieces, is NEVER written; the end piece where it may be."""
        special = self.config.special_tokens
        bias = torch.full((self.config.vocab_size,), NEVER if must_end else 0.0, device=self.device)
        bias[list(special.values())] = NEVER
        if may_end or must_end:
            bias[special["end"]] = 0
        return bias

    # --- Modes "mask-all" and "mask-predict"

    def likeliest_lengths(self, inputs: Inputs, candidates: int) -> Tensor:
        """Predicts int[B, candidates], the likeliest lengths of captions, from an empty text, which does not reveal it."""
        assert self.length_head is not None
        logits = self.length_head(self.kaleido_bert.encode(inputs)[1])
        return logits.argsort(dim=1, descending=True, stable=True)[:, :candidates] + 1

    def mask_predict(self, inputs: Inputs, lengths: Tensor, iterations: int) -> Tensor:
        """Predicts all pieces at once, then masks and predicts the least certain ones again, fewer every time; of the lengths int[B, C] the
        caption with the highest mean log-probability."""
        batch, candidates = lengths.shape
        length = lengths.flatten()
        features, boxes = (tensor.repeat_interleave(candidates, 0) for tensor in (inputs.features, inputs.boxes))
        ids, slots = self.masked_text(length), torch.arange(1, 1 + int(length.max()), device=self.device)
        real = slots <= length[:, None]
        certainty = torch.where(real, -torch.inf, torch.inf)  # log-probability of each piece at its last prediction
        inside = ids[:, 1 : 1 + len(slots)]  # a view
        positions = slots.expand(len(ids), -1)
        for iteration in range(iterations):
            count = length * (iterations - iteration) // iterations
            if not count.any():
                break
            order = certainty.argsort(dim=1, stable=True).argsort(dim=1)
            masked = (order < count[:, None]) & real
            inside[masked] = self.config.special_tokens["mask"]
            logits = self(ids, patch_features=features, patch_boxes=boxes, predict_positions=positions).logits.float()
            likeliest, pieces = (logits + self.allowed(may_end=False)).log_softmax(-1).max(-1)
            inside[masked], certainty[masked] = pieces[masked], likeliest[masked]
        mean = torch.where(real, certainty, 0).sum(1) / length
        chosen = mean.view(batch, candidates).argmax(1) + torch.arange(batch, device=self.device) * candidates
        return inside.masked_fill(~real, self.config.special_tokens["pad"])[chosen]

    def masked_text(self, length: Tensor) -> Tensor:
        """Makes int[B, T]: [CLS], as many [MASK] as int[B] says, [SEP], padding."""
        special, length = self.config.special_tokens, length[:, None]
        positions = torch.arange(self.config.text_length, device=self.device)
        ids = torch.where(positions <= length, special["mask"], torch.where(positions == length + 1, special["end"], special["pad"]))
        ids[:, 0] = special["start"]
        return ids
