"""Weights of ours under the names of exported/modeling_kaleido_bert.py, one to one, transposed where PyTorch has them so."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kaleidobert.errors import UserError
from kaleidobert.levels import KaleidoLevel
from kaleidobert.model_zoo.kaleidobert import TaskModel

BASE = "kaleido_bert."  # of the parts that every model has
NORM = {"gamma": "weight", "beta": "bias"}
TEXT = {
    "word_embeddings": "word_embeddings.weight",
    "position_embeddings": "position_embeddings.weight",
    "token_type_embeddings": "token_type_embeddings.weight",
    **{f"layer_norm/{ours}": f"layer_norm.{theirs}" for ours, theirs in NORM.items()},
}
LEVEL = {
    "projector/kernel": "projector.weight",
    "type_embeddings": "type_embeddings.weight",
    **{f"layer_norm/{ours}": f"layer_norm.{theirs}" for ours, theirs in NORM.items()},
}
BLOCK = {
    **{f"attention/{name}_{ours}": f"{name}.{theirs}" for name in ("query", "key", "value")
       for ours, theirs in (("kernel", "weight"), ("bias", "bias"))},
    "attention_output/kernel": "attention_output.weight", "attention_output/bias": "attention_output.bias",
    "feed_inner/kernel": "intermediate.weight", "feed_inner/bias": "intermediate.bias",
    "feed_output/kernel": "output.weight", "feed_output/bias": "output.bias",
    **{f"attention_norm/{ours}": f"attention_norm.{theirs}" for ours, theirs in NORM.items()},
    **{f"feed_norm/{ours}": f"output_norm.{theirs}" for ours, theirs in NORM.items()},
}
OTHERS = {
    "feature_scale/mean": "embeddings.feature_scale.mean", "feature_scale/scale": "embeddings.feature_scale.scale",
    "box_projection/kernel": "embeddings.box_projection.weight",
    "pooler/dense/kernel": "pooler.weight", "pooler/dense/bias": "pooler.bias",
}
HEADS = {
    "head_mlm/dense/kernel": "mlm_head.dense.weight", "head_mlm/dense/bias": "mlm_head.dense.bias",
    "head_mlm/layer_norm/gamma": "mlm_head.layer_norm.weight", "head_mlm/layer_norm/beta": "mlm_head.layer_norm.bias",
    "head_mlm/bias": "mlm_head.bias",
    "head_itm/kernel": "itm_head.weight", "head_itm/bias": "itm_head.bias",
    "head_label/kernel": "label_head.weight", "head_label/bias": "label_head.bias",
    "head_features/dense/kernel": "feature_head.dense.weight",
    "head_words/vectors": "word_head.vectors.weight", "head_words/log_weights": "word_head.log_weights",
    "head_length/kernel": "length_head.weight", "head_length/bias": "length_head.bias",
    "head_product/dense/kernel": "product_dense.weight", "head_product/dense/bias": "product_dense.bias",
    "head_product/output_dense/kernel": "itm_head.weight", "head_product/output_dense/bias": "itm_head.bias",
    "head_contrastive/text_dense/kernel": "contrast.text_dense.weight",
    "head_contrastive/picture_dense/kernel": "contrast.picture_dense.weight",
    "head_contrastive/scale": "contrast.scale",
    "head_contrastive_match/gain": "contrast.match_gain", "head_contrastive_match/bias": "contrast.match_bias",
    "head_towers/scale": "towers.scale",
    "head_towers/text_tower/vectors": "towers.text_tower.vectors.weight",
    "head_towers/text_tower/log_weights": "towers.text_tower.log_weights",
    "head_towers/picture_tower/scale/mean": "towers.picture_tower.scale.mean",
    "head_towers/picture_tower/scale/scale": "towers.picture_tower.scale.scale",
    "head_towers/picture_tower/dense/kernel": "towers.picture_tower.dense.weight",
}


def names(levels: tuple[KaleidoLevel, ...], num_layers: int) -> dict[str, str]:
    """Returns {path of a weight of ours: name of theirs} of all that a model with these levels and layers may have."""
    result = {f"text_embedding/{ours}": f"{BASE}embeddings.text.{theirs}" for ours, theirs in TEXT.items()}
    result |= {ours: f"{BASE}{theirs}" for ours, theirs in OTHERS.items()} | HEADS
    for level in levels:
        place = f"{BASE}embeddings.patches.level_{level.name}"
        result |= {f"patches_{level.name}/{ours}": f"{place}.{theirs}" for ours, theirs in LEVEL.items()}
        result |= {f"head_level_{level.name}/dense/{ours}": f"level_heads.level_{level.name}.{theirs}"
                   for ours, theirs in (("kernel", "weight"), ("bias", "bias"))}
    for number in range(num_layers):
        result |= {f"encoder_{number}/{ours}": f"{BASE}layers.{number}.{theirs}" for ours, theirs in BLOCK.items()}
    return result


def of_model(model: TaskModel) -> dict[str, np.ndarray]:
    """Returns {name of theirs: f32 array} of all weights of a model. Raises UserError where they have no name for one, or one for two."""
    known = names(tuple(model.backbone.levels), model.backbone.num_layers)
    unknown = [weight.path for weight in model.weights if weight.path not in known]
    result = {known[weight.path]: _oriented(weight.path, weight) for weight in model.weights if weight.path in known}
    if unknown or len(result) < len(model.weights):
        raise UserError(f"the export has no place for {', '.join(unknown) or 'two weights of one name'}", f"the {model.kind}",
                        "heads of the paper and those of matching, labels and captions")
    return result


def _oriented(path: str, weight: Any) -> np.ndarray:
    """Returns a matrix as PyTorch has it, [outputs, inputs]; others as they are."""
    array = np.asarray(weight, np.float32)
    return np.ascontiguousarray(array.T) if path.endswith("kernel") else array


# --- Picture networks, whose batch normalisation is folded into their convolutions


def of_patch_encoder(network: Any) -> dict[str, np.ndarray]:
    """Returns {name of theirs: f32 array} of an EfficientNet-lite0 without batch normalisation (preprocessors.encoders.folded)."""
    result: dict[str, np.ndarray] = {}
    for name, arrays in _layers(network).items():
        block, _, part = name.removesuffix("_conv").rpartition("_")
        place = f"blocks.{block.removeprefix('block')}.{part}" if block else part
        result |= {f"{BASE}patch_encoder.{place}.{kind}": array for kind, array in arrays.items()}
    return result


def of_foreground_net(network: Any) -> dict[str, np.ndarray]:
    """Returns {name of theirs: f32 array} of a foreground network without batch normalisation."""
    result: dict[str, np.ndarray] = {}
    for name, arrays in _layers(network).items():
        plain = name.removesuffix("_conv")
        depth = plain.lstrip("abcdefghijklmnopqrstuvwxyz_")
        place = f"{plain.removesuffix(depth)}.{depth}" if depth else plain
        result |= {f"{place}.{kind}": array for kind, array in arrays.items()}
    return result


def _layers(network: Any) -> dict[str, Mapping[str, np.ndarray]]:
    """Returns {layer: {"weight", "bias"}} of the layers that have weights, oriented as PyTorch has them."""
    import keras

    result: dict[str, Mapping[str, np.ndarray]] = {}
    for layer in network.layers:
        if not layer.weights:
            continue
        kernel, bias = (np.asarray(weight, np.float32) for weight in layer.weights)
        if isinstance(layer, keras.layers.DepthwiseConv2D):  # [height, width, channels, 1]
            kernel = kernel.transpose(2, 3, 0, 1)
        elif kernel.ndim == 4:  # [height, width, inputs, outputs], of a transposed convolution [.., outputs, inputs]
            kernel = kernel.transpose(3, 2, 0, 1)
        else:
            kernel = kernel.T
        result[layer.name] = {"weight": np.ascontiguousarray(kernel), "bias": bias}
    return result
