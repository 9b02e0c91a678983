"""The floating-point operations of the network, counted from its sizes.

A product of [m, k] with [k, n] counts 2mkn. Counted are the products that define the network; not counted are sums, norms,
softmax, GELU, dropout, and the products with one-hot rows that stand for look-ups. Everything is per example.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kaleidobert import levels as kaleido
from kaleidobert.levels import KaleidoLevel

WITHOUT_INPUT_GRADIENT = ("patches", "boxes")  # the gradient of features and boxes is not needed


def backbone(sizes: Mapping[str, Any], levels: Sequence[KaleidoLevel]) -> dict[str, int]:
    """Returns {part: FLOPs of one example, forward}. sizes: the backbone's arguments (hidden_size, num_layers, ...)."""
    hidden, layers, patches = sizes["hidden_size"], sizes["num_layers"], kaleido.num_patches(levels)
    length = sizes["text_length"] + patches
    return {
        "patches": 2 * patches * sizes["feature_size"] * hidden,
        "boxes": 2 * patches * 5 * hidden,
        "attention_projections": layers * 2 * length * hidden * 4 * hidden,  # query, key, value, output
        "attention": layers * 2 * 2 * length * length * hidden,  # scores and context, all heads together
        "feed_forward": layers * 2 * 2 * length * hidden * sizes["intermediate_size"],
        "pooler": 2 * hidden * hidden,
    }


def matcher(sizes: Mapping[str, Any], levels: Sequence[KaleidoLevel]) -> dict[str, int]:
    """Counts the backbone and the plain matching head, as ``backbone`` counts."""
    return backbone(sizes, levels) | {"itm": 2 * sizes["hidden_size"] * 2}


def pretrainer(sizes: Mapping[str, Any], levels: Sequence[KaleidoLevel], num_masked: int) -> dict[str, int]:
    """Counts the backbone and the heads of all tasks, as ``backbone`` counts. num_masked: slots for masked tokens of a text."""
    hidden = sizes["hidden_size"]
    parts = matcher(sizes, levels) | {"mlm": num_masked * 2 * hidden * (hidden + sizes["vocabulary_size"])}
    for level in levels:
        outputs = level.num_patches * level.num_classes if level.answer == "class" else level.num_masked * sizes["feature_size"]
        parts[level.name] = 2 * hidden * outputs
    return parts


def training(forward: Mapping[str, int]) -> int:
    """Counts forward and backward: every product has two gradients of its own size, the first ones only that of their weights."""
    return 3 * sum(forward.values()) - sum(forward[part] for part in WITHOUT_INPUT_GRADIENT)
