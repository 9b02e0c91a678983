"""Frozen networks that turn a picture into a grid of features for the captioner.

The features are those of layers of 14 x 14 cells at 224 pixels, and of finer ones averaged to as many cells. Early layers have small
receptive fields, so that the features of a cell are about its own location; late ones recognise things.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kaleidobert import configs
from kaleidobert.errors import UserError
from kaleidobert.model_zoo.patch_encoders import imagenet
from kaleidobert.specs import Tensor

STRIDE = {"small": 8, "mobilenet_v2": 16, "resnet50": 16}  # pixels per cell
LAYERS = {"mobilenet_v2": ("block_3_expand_relu", "block_6_expand_relu", "block_13_expand_relu"),
          "resnet50": ("conv2_block3_out", "conv3_block4_out", "conv4_block6_out")}
FEATURES = {"mobilenet_v2": 144 + 192 + 576, "resnet50": 256 + 512 + 1024}
NEAR = {"mobilenet_v2": 144 + 192, "resnet50": 256 + 512}  # features of the early layers among these
CHUNK = 32  # pictures per call of the network


@dataclass(frozen=True)
class GridNetwork:
    """grid: cells on a side; feature_size: F; encode: uint8[N, s, s, 3] -> f16[N, grid * grid, F], None = the encoder is trained along."""

    grid: int
    feature_size: int
    encode: Callable[[np.ndarray], np.ndarray] | None


def describe(config: configs.Grid) -> tuple[int, int]:
    """Returns (cells on a side, F) without building a network.

    Raises UserError for a size that is not a whole number of cells, and for a missing weights file.
    """
    stride = STRIDE[config.network]
    if config.size < stride or config.size % stride:
        raise UserError(f"grid.size is {config.size}", config.network, f"a multiple of {stride}, such as {14 * stride}")
    if config.network != "small" and config.weights is not None and not config.weights.is_file():
        raise UserError("there is no such weights file", str(config.weights), "a Keras weights file without the top",
                        "correct grid.weights, or leave it empty to fetch the ImageNet weights")
    return config.size // stride, FEATURES.get(config.network, config.channels)


def build(config: configs.Grid) -> GridNetwork:
    """Builds the network that the configuration names. Raises UserError as ``describe``, and where the weights do not fit."""
    grid, feature_size = describe(config)
    return GridNetwork(grid, feature_size, None if config.network == "small" else _frozen(config))


def _frozen(config: configs.Grid) -> Callable[[np.ndarray], np.ndarray]:
    import keras  # here: network=small needs none of these

    made = imagenet(config.network, config.weights, "give a fitting file as grid.weights, or use grid.network=small")
    network = made.resized(config.size)  # fully convolutional, so that another size is another input
    model = keras.Model(network.input, _cells([network.get_layer(name).output for name in LAYERS[config.network]],
                                              config.size // STRIDE[config.network]))
    model.trainable = False
    model.compile(jit_compile=False)  # XLA convolutions are several times slower on CPUs

    def encode(pictures: np.ndarray) -> np.ndarray:
        chunks = [model.predict_on_batch(made.prepare(pictures[i : i + CHUNK].astype(np.float32))) for i in range(0, len(pictures), CHUNK)]
        return np.concatenate(chunks).reshape(len(pictures), -1, chunks[0].shape[-1]).astype(np.float16)

    return encode


def _cells(layers: list, grid: int) -> Callable[[Tensor], Tensor]:
    """Averages layers [B, n * grid, n * grid, F] over n x n cells and concatenates them: [B, grid, grid, sum of F]."""
    import keras

    pooled = [keras.layers.AveragePooling2D(layer.shape[1] // grid)(layer) for layer in layers]
    return keras.layers.Concatenate()(pooled)
