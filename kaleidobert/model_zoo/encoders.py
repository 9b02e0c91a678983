"""Picture encoders: a patch becomes a feature vector. The feature size follows from the encoder everywhere."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kaleidobert import configs
from kaleidobert.errors import UserError

MIN_NETWORK_SIZE = 32  # below it the stride of 32 leaves nothing to pool


@dataclass(frozen=True)
class PictureEncoder:
    """name as written into the bank, F, and encode: uint8[N, s, s, 3] -> f32[N, F]."""

    name: str
    feature_size: int
    encode: Callable[[np.ndarray], np.ndarray]


def build(config: configs.Encoder) -> PictureEncoder:
    """The encoder that the configuration names.

    Raises UserError where feature_size does, and where its weights do not fit or cannot be fetched.
    """
    size = feature_size(config)
    return PictureEncoder(f"pixels-{config.size}", size, _pixels) if config.name == "pixels" else _network(config)


def feature_size(config: configs.Encoder) -> int:
    """F of an encoder, without building it; UserError where its patches are too small or its weights file is missing."""
    least = 1 if config.name == "pixels" else MIN_NETWORK_SIZE
    if config.size < least:
        raise UserError(f"encoder.size is {config.size}", config.name, f"at least {least} pixels")
    if config.name != "pixels" and config.weights is not None and not config.weights.is_file():
        raise UserError("there is no such weights file", str(config.weights), "a Keras weights file without the top",
                        "correct encoder.weights, or leave it empty to fetch the ImageNet weights")
    return {"pixels": 3 * config.size**2, "mobilenet_v2": 1280, "resnet50": 2048}[config.name]


def _pixels(patches: np.ndarray) -> np.ndarray:
    return patches.reshape(len(patches), -1).astype(np.float32) / 255.0


def _network(config: configs.Encoder) -> PictureEncoder:
    import keras  # here: reading a catalogue or training from a bank needs no picture network

    builders = {"mobilenet_v2": (keras.applications.MobileNetV2, keras.applications.mobilenet_v2.preprocess_input),
                "resnet50": (keras.applications.ResNet50, keras.applications.resnet50.preprocess_input)}
    make, prepare = builders[config.name]
    weights = str(config.weights) if config.weights else "imagenet"
    try:
        # built at 224: the weights do not depend on the size, and Keras names its ImageNet files by it
        network = make(include_top=False, pooling="avg", weights=weights, input_shape=(224, 224, 3))
        inputs = keras.Input((config.size, config.size, 3))
        if config.size != 224:
            resized = make(include_top=False, pooling="avg", weights=None, input_shape=(config.size, config.size, 3))
            resized.set_weights(network.get_weights())
            network = resized
        model = keras.Model(inputs, network(inputs, training=False))
    except UserError:
        raise
    except Exception as error:  # a download that fails and a file that does not fit raise many kinds
        raise UserError(f"the weights of {config.name} cannot be loaded ({' '.join(str(error).split())[:200]})", weights,
                        "ImageNet weights without the top", "give a fitting file as encoder.weights, or use encoder.name=pixels"
                        ) from error
    model.compile(jit_compile=False)  # XLA convolutions are several times slower on CPUs

    def encode(patches: np.ndarray) -> np.ndarray:
        outputs = [model.predict_on_batch(prepare(patches[i : i + 512].astype(np.float32))) for i in range(0, len(patches), 512)]
        return np.concatenate(outputs)

    return PictureEncoder(f"{config.name}-{config.size}", int(model.output_shape[-1]), encode)
