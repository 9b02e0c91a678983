"""Frozen networks that turn a picture into a grid of features for the captioner.

The features are those of layers of 14 x 14 cells at 224 pixels, and of finer ones averaged to as many cells. Early layers have small
receptive fields, so that the features of a cell are about its own location; late ones recognise things.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kaleidobert import configs
from kaleidobert.configs.section import check_name
from kaleidobert.errors import UserError
from kaleidobert.preprocessors.patch_encoders import imagenet
from kaleidobert.specs import Tensor

CHUNK = 32  # pictures that go through the network together


@dataclass(frozen=True)
class GridEncoder:
    """A row of GRID_ENCODERS: a frozen network of keras.applications, or one that is trained with the captioner.

    stride: pixels per cell. architecture, module: its class and the module that prepares pictures, "" = trained along. layers: the
    names of those whose outputs are kept; features: their sizes, the last one of a late layer.
    """

    stride: int
    architecture: str = ""
    module: str = ""
    layers: tuple[str, ...] = ()
    features: tuple[int, ...] = ()

    @property
    def near_features(self) -> int:
        """Features of the early layers, which see little of what lies around a cell."""
        return sum(self.features[:-1])


GRID_ENCODERS: dict[str, GridEncoder] = {
    "small": GridEncoder(8),
    "mobilenet_v2": GridEncoder(16, "MobileNetV2", "mobilenet_v2", ("block_3_expand_relu", "block_6_expand_relu", "block_13_expand_relu"),
                                (144, 192, 576)),
    "resnet50": GridEncoder(16, "ResNet50", "resnet50", ("conv2_block3_out", "conv3_block4_out", "conv4_block6_out"), (256, 512, 1024)),
}


@dataclass(frozen=True)
class GridNetwork:
    """grid: cells on a side; feature_size: F; encode: uint8[N, s, s, 3] -> f16[N, grid * grid, F], None = the encoder is trained along."""

    grid: int
    feature_size: int
    encode: Callable[[np.ndarray], np.ndarray] | None


def describe(config: configs.Grid) -> tuple[int, int]:
    """Returns (cells on a side, F) without building a network.

    Raises UserError for a name that is no row of GRID_ENCODERS, a size that makes no whole cells, and a missing weights file.
    """
    check_name(config.network, GRID_ENCODERS, "grid.network")
    row = GRID_ENCODERS[config.network]
    if config.size < row.stride or config.size % row.stride:
        raise UserError(f"grid.size is {config.size}", config.network, f"a multiple of {row.stride}, such as {14 * row.stride}")
    if row.architecture and config.weights is not None and not config.weights.is_file():
        raise UserError("there is no such weights file", str(config.weights), "a Keras weights file without the top",
                        "correct grid.weights, or leave it empty to fetch the ImageNet weights")
    return config.size // row.stride, sum(row.features) or config.channels


def build(config: configs.Grid) -> GridNetwork:
    """Returns the network that the configuration names; raises UserError as ``describe`` does, and where the weights do not fit."""
    grid, feature_size = describe(config)
    row = GRID_ENCODERS[config.network]
    return GridNetwork(grid, feature_size, _frozen(row, config) if row.architecture else None)


def _frozen(row: GridEncoder, config: configs.Grid) -> Callable[[np.ndarray], np.ndarray]:
    import keras  # here: `small` needs none of these

    made = imagenet(row.architecture, row.module, config.weights, "give a fitting file as grid.weights, or use grid.network=small")
    network = made.resized(config.size)  # fully convolutional, so that another size is another input
    model = keras.Model(network.input, _cells([network.get_layer(name).output for name in row.layers], config.size // row.stride))
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
