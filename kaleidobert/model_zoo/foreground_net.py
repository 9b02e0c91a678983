"""The foreground network: a small U-Net for the probability that a pixel belongs to the product.

``kaleidobert train-foreground`` trains it on drawn scenes alone. Its weights file has float16 arrays and a JSON header and is read without
pickle, so that it cannot execute anything.
"""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

from kaleidobert.configs.data import FOREGROUND_REMAKE, FOREGROUND_WEIGHTS
from kaleidobert.errors import UserError
from kaleidobert.io import atomic
from kaleidobert.model_zoo import checkpoints
from kaleidobert.specs import Tensor

HEADER, FORMAT = "__header__", 1
INPUTS = 4  # red, green, blue, distance from the border's colour


def network(channels: Sequence[int], size: int, precision: str = "float32") -> keras.Model:
    """Makes the network: f32[B, size, size, 4] -> logits f32[B, size, size, 1].

    channels: at 1/2, 1/4, ... of the size; only the first and the last convolution are computed at full size.
    precision: a Keras dtype policy; the logits are float32 whatever it is.
    Raises UserError where size does not halve evenly for each of them.
    """
    # --- Layers
    if len(channels) < 2 or min(channels) < 1 or size % 2 ** len(channels) or size < 2 ** (len(channels) + 1):
        raise UserError(f"channels {list(channels)} do not go with size {size}", "foreground network",
                        "at least two numbers of channels, and a size that halves evenly for each")
    image = keras.Input((size, size, INPUTS), name="image")

    def block(x: Tensor, width: int, name: str, kernel: int = 3, stride: int = 1) -> Tensor:
        # plain convolutions: on CPUs depthwise ones, with a ninth of the products, take as long
        x = layers.Conv2D(width, kernel, strides=stride, padding="same", use_bias=False, dtype=precision, name=f"{name}_conv")(x)
        x = layers.BatchNormalization(momentum=0.95, dtype=precision, name=f"{name}_norm")(x)
        return layers.ReLU(dtype=precision, name=f"{name}_relu")(x)

    # --- Functional Model
    x, skips = image, []
    for depth, width in enumerate(channels):
        x = block(x, width, f"down{depth}", kernel=3 if depth else 4, stride=2)
        x = layers.Add(dtype=precision, name=f"add{depth}")([x, block(x, width, f"block{depth}")])
        skips.append(x)
    # the mean of the whole picture is added at every position
    pooled = layers.GlobalAveragePooling2D(keepdims=True, dtype=precision, name="pool")(x)
    context = layers.Dense(channels[-1], dtype=precision, name="context")(pooled)
    x = layers.Add(dtype=precision, name="add_context")([block(x, channels[-1], "bottom"), context])
    for depth in range(len(channels) - 2, -1, -1):
        x = layers.Conv2D(channels[depth], 1, dtype=precision, name=f"narrow{depth}")(x)
        x = layers.UpSampling2D(2, interpolation="nearest", dtype=precision, name=f"up{depth}")(x)
        x = layers.Concatenate(dtype=precision, name=f"join{depth}")([x, skips[depth]])
        x = block(x, channels[depth], f"merge{depth}")
    logit = layers.Conv2DTranspose(1, 4, strides=2, padding="same", dtype="float32", name="logit")
    return keras.Model(image, logit(x), name="foreground_net")


def save(path: str | Path, model: keras.Model) -> None:
    """Writes the weights as float16; the same weights give the same bytes. Raises UserError where the file cannot be written."""
    widths = [layer.filters for layer in model.layers if layer.name.startswith("down") and layer.name.endswith("conv")]
    header = {"format": FORMAT, "size": model.input_shape[1], "channels": widths}
    arrays = {variable.path: np.asarray(variable).astype(np.float16) for variable in model.variables if "seed" not in variable.path}
    with atomic(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in {HEADER: np.array(json.dumps(header)), **arrays}.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as entry:  # ZipInfo: without the time of day
                np.lib.format.write_array(entry, array, allow_pickle=False)


def load(path: str | Path = FOREGROUND_WEIGHTS) -> keras.Model:
    """Loads the network with the weights of a file, by default the package's own.

    Raises UserError where the file is missing, cut off, or of another network.
    """
    path = Path(path)
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            header = json.loads(str(file[HEADER]))
            arrays = {name: file[name] for name in file.files if name != HEADER}
        if header["format"] != FORMAT:
            raise ValueError(f"format {header['format']}")
        model = network(header["channels"], header["size"])
    except FileNotFoundError:
        raise UserError("the weights of the foreground network are missing", str(path),
                        fix=f"{FOREGROUND_REMAKE}, or use foreground.method=border") from None
    except UserError:
        raise
    except Exception as error:  # zipfile, zlib, numpy and json raise many kinds over a damaged file
        raise UserError(f"the weights of the foreground network cannot be read ({error})", str(path),
                        "a complete file", f"{FOREGROUND_REMAKE}, or use foreground.method=border") from error
    wanted = {variable.path: variable for variable in model.variables if "seed" not in variable.path}
    checkpoints.check_fit(wanted, arrays, str(path), FOREGROUND_REMAKE)
    for name, variable in wanted.items():
        variable.assign(arrays[name].astype(np.float32))
    return model


class Predictor:
    """f32[B, size, size, 4] -> probabilities f32[B, size, size]."""

    def __init__(self, model: keras.Model):
        self.size = int(model.input_shape[1])
        self._outputs = keras.Model(model.input, ops.sigmoid(model.output)[..., 0])
        self._outputs.compile(jit_compile=False)  # XLA convolutions are several times slower on CPUs

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        return np.asarray(self._outputs.predict_on_batch(inputs))


def build(path: str | Path = FOREGROUND_WEIGHTS) -> Predictor:
    """Makes the predictor with the weights of a file. Raises UserError as ``load``."""
    return Predictor(load(path))
