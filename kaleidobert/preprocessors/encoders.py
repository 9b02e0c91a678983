"""Picture encoders: ``ENCODERS`` turn a patch into a feature vector of the bank, ``GRID_ENCODERS`` a picture into a grid of features.

Each table is the one list of its encoders; everything else reads the size of features, F, from the bank.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kaleidobert import configs, devices, io, keras_private
from kaleidobert.configs.section import check_name
from kaleidobert.errors import UserError
from kaleidobert.preprocessors import efficientnet_lite0
from kaleidobert.specs import Tensor

MIN_NETWORK_SIZE = 32  # pixels: the stride of the networks
# patches that go through a network together: more large ones exceed the caches of a CPU, fewer small ones leave it waiting
CPU_BATCH, CPU_SMALL_BATCH, GPU_BATCH = 32, 128, 512
SMALL = 112  # pixels
CPU_INFO, AMX = Path("/proc/cpuinfo"), "amx_bf16"  # of Linux; with AVX512's bfloat16 alone small networks are slower than in float32


@dataclass(frozen=True)
class PictureEncoder:
    """feature_size F; encode: uint8[N, s, s, 3] -> f32[N, F], of every patch by itself: the same bits whatever is beside it.

    batch: the number of patches per call that is fastest; parallel: whether calls of several threads at a time take as many cores.
    """

    feature_size: int
    encode: Callable[[np.ndarray], np.ndarray]
    batch: int = CPU_BATCH
    parallel: bool = False


@dataclass(frozen=True)
class FrozenNetwork:
    """make: (size, whether positions are averaged) -> a Keras network without its top, for pictures of that size; prepare: pixels of 0 to
    255, an array or a tensor, -> what it reads."""

    make: Callable[[int, bool], Any]
    prepare: Callable[[Any], Any]


@dataclass(frozen=True)
class Architecture:
    """A picture network and where its weights come from.

    load: (weights file, None = its ImageNet weights; the ``fix`` of the UserError where they cannot be loaded) -> the network.
    weights: what a bank notes of the ImageNet weights. file: what a weights file is. check: raises UserError where the ImageNet
    weights cannot be had.
    """

    load: Callable[[Path | None, str], FrozenNetwork]
    weights: str = "imagenet"
    file: str = "a Keras weights file without the top"
    check: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class EncoderType:
    """A row of ENCODERS.

    feature_size: settings -> F, without building the encoder. build: settings -> the encoder. architecture: of a network, which has
    weights and a precision, and needs patches of at least MIN_NETWORK_SIZE pixels; None = it is none.
    """

    feature_size: Callable[[configs.Encoder], int]
    build: Callable[[configs.Encoder], PictureEncoder]
    architecture: Architecture | None = None


def build(config: configs.Encoder) -> PictureEncoder:
    """Returns the encoder that the configuration names.

    Raises UserError as ``feature_size`` does, and where the weights do not fit or cannot be fetched.
    """
    feature_size(config)
    return ENCODERS[config.name].build(resolved(config))


def feature_size(config: configs.Encoder) -> int:
    """Returns F of an encoder without building it.

    Raises UserError where the name is no row of ENCODERS, the patches are too small, the weights file is missing, or a setting does not
    go with the encoder.
    """
    check_name(config.name, ENCODERS, "encoder.name")
    network = ENCODERS[config.name].architecture
    minimum = MIN_NETWORK_SIZE if network else 1
    if config.size < minimum:
        raise UserError(f"encoder.size is {config.size}", config.name, f"at least {minimum} pixels")
    if config.small_size and not (network and MIN_NETWORK_SIZE <= config.small_size < config.size):
        raise UserError(f"encoder.small_size is {config.small_size}", config.name, f"{MIN_NETWORK_SIZE} pixels to less than encoder.size, "
                        "or 0" if network else "0, as the number of its features follows from the size")
    if not network and (config.folded or config.precision not in ("float32", "auto")):
        raise UserError(f"encoder.precision is {config.precision}, encoder.folded is {config.folded}", config.name,
                        "float32 (or auto) and false, as pixels are not computed")
    if network:
        _check_weights(network, config.weights, "encoder.weights")
    return ENCODERS[config.name].feature_size(config)


def weights_identity(config: configs.Encoder) -> str:
    """Returns which weights an encoder has: the SHA-256 of a file, "imagenet" for what Keras fetches, "" for none."""
    architecture = ENCODERS[config.name].architecture
    if architecture is None:
        return ""
    return io.sha256(config.weights) if config.weights else architecture.weights


def resolved(config: configs.Encoder, accelerated: bool | None = None) -> configs.Encoder:
    """Returns the configuration with what precision ``auto`` stands for on this machine: a network's normalisation is folded, and its
    products are bfloat16 where TensorFlow computes on CPUs with matrix units for it (AMX), else float32.

    accelerated: whether there is a GPU; None = Keras is asked, which takes hold of it.
    """
    if config.precision != "auto":
        return config
    if ENCODERS[config.name].architecture is None:
        return replace(config, precision="float32")
    fast = _has_amx()
    if fast:
        import keras

        fast = keras.backend.backend() == "tensorflow" and not (devices.accelerated() if accelerated is None else accelerated)
    return replace(config, folded=True, precision="mixed_bfloat16" if fast else "float32")


def _has_amx() -> bool:
    with suppress(OSError):  # not Linux
        return AMX in CPU_INFO.read_text(encoding="utf-8").split()
    return False


def _check_weights(architecture: Architecture, weights: Path | None, key: str) -> None:
    if weights is None:
        architecture.check()
    elif not weights.is_file():
        raise UserError("there is no such weights file", str(weights), architecture.file,
                        f"correct {key}, or leave it empty for the ImageNet weights")


def _pixels(patches: np.ndarray) -> np.ndarray:
    return patches.reshape(len(patches), -1).astype(np.float32) / 255.0


def network(architecture: Architecture, feature_size: int) -> EncoderType:
    """Returns the row of a network with F features, which are means over its last positions."""
    return EncoderType(lambda config: feature_size, partial(_network, architecture), architecture)


def imagenet(name: str, module: str) -> Architecture:
    """Returns a network of keras.applications: its class and the module that prepares pictures for it, such as "ResNet50" of "resnet50".
    Keras downloads the ImageNet weights where no file is given."""
    return Architecture(partial(_load_imagenet, name, module))


def _load_imagenet(name: str, module: str, weights: Path | None, fix: str) -> FrozenNetwork:
    import keras

    make, source = getattr(keras.applications, name), str(weights) if weights else "imagenet"
    try:
        # built at 224: the weights do not depend on the size, and Keras's ImageNet files are for this one
        network = make(include_top=False, weights=source, input_shape=(224, 224, 3))
    except UserError:
        raise
    except Exception as error:  # a failed download and a file that does not fit raise many types
        raise UserError(f"the weights of {module} cannot be loaded ({' '.join(str(error).split())[:200]})", source,
                        "ImageNet weights without the top", fix) from error

    def resized(size: int, pooled: bool) -> Any:
        other = make(include_top=False, weights=None, input_shape=(size, size, 3), pooling="avg" if pooled else None)
        other.set_weights(network.get_weights())
        return other

    return FrozenNetwork(resized, getattr(keras.applications, module).preprocess_input)


def _load_lite0(weights: Path | None, fix: str) -> FrozenNetwork:
    arrays = efficientnet_lite0.weights(weights, fix)
    return FrozenNetwork(partial(efficientnet_lite0.build, arrays=arrays), efficientnet_lite0.prepare)


def _network(architecture: Architecture, config: configs.Encoder) -> PictureEncoder:
    import keras  # here: reading a catalogue or training from a bank needs no picture network

    made = architecture.load(config.weights, "give a fitting file as encoder.weights, or use encoder.name=pixels")
    prepare_on_device = config.folded or config.precision != "float32"
    runs = {}
    for size in filter(None, (config.size, config.small_size)):
        resized = made.make(size, True)
        inputs = keras.Input((size, size, 3), dtype="uint8" if prepare_on_device else "float32")
        if prepare_on_device:  # the bytes are sent to the device, a quarter of the floats
            result = folded(resized, config.precision)(made.prepare(keras.ops.cast(inputs, "float32")), training=False)
        else:
            result = resized(inputs, training=False)
        runs[size] = keras.Model(inputs, result)
        runs[size].compile(jit_compile=False)  # XLA convolutions are several times slower on CPUs
    batch = GPU_BATCH if devices.accelerated() else CPU_SMALL_BATCH if config.size <= SMALL else CPU_BATCH

    def outputs(full: np.ndarray) -> np.ndarray:
        given = full if prepare_on_device else made.prepare(full.astype(np.float32))
        return np.asarray(runs[full.shape[1]].predict_on_batch(given), np.float32)

    positions = {size: alike_positions(outputs, batch, size) for size in runs}

    def encode(patches: np.ndarray) -> np.ndarray:
        features, own = [], positions[patches.shape[1]]
        for start in range(0, len(patches), len(own)):
            chunk = patches[start : start + len(own)]
            # always full batches: a network is compiled for a shape, and a product with one row is rounded differently
            full = np.zeros((batch, *chunk.shape[1:]), chunk.dtype)
            full[own[: len(chunk)]] = chunk
            features.append(outputs(full)[own[: len(chunk)]])
        return np.concatenate(features)

    return PictureEncoder(int(runs[config.size].output_shape[-1]), encode, min(map(len, positions.values())), not devices.accelerated())


def alike_positions(outputs: Callable[[np.ndarray], np.ndarray], batch: int, size: int) -> np.ndarray:
    """Returns the positions of a batch that give a patch the same bits, i64[n]: kernels round what is left over behind their last whole
    block otherwise, on CPUs the last patch of 128. All positions where hardly any agree, as where the order of additions is chance.

    outputs: uint8[batch, size, size, 3] -> f32[batch, F].
    """
    patch = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    _, kinds, counts = np.unique(outputs(np.repeat(patch, batch, axis=0)), axis=0, return_inverse=True, return_counts=True)
    alike = np.flatnonzero(kinds.ravel() == counts.argmax())
    return alike if 2 * len(alike) >= batch else np.arange(batch)


MOBILENET_V2, RESNET50 = imagenet("MobileNetV2", "mobilenet_v2"), imagenet("ResNet50", "resnet50")
EFFICIENTNET_LITE0 = Architecture(_load_lite0, efficientnet_lite0.SHA256, "a PyTorch state dict (.pth) of EfficientNet-lite0",
                                  efficientnet_lite0.check)

ENCODERS: dict[str, EncoderType] = {
    "pixels": EncoderType(lambda config: 3 * config.size**2, lambda config: PictureEncoder(3 * config.size**2, _pixels)),
    "efficientnet_lite0": network(EFFICIENTNET_LITE0, efficientnet_lite0.FEATURES),
    "mobilenet_v2": network(MOBILENET_V2, 1280),
    "resnet50": network(RESNET50, 2048),
}


def folded(network: Any, precision: str = "float32") -> Any:
    """Copies a Keras network for prediction, with every batch normalisation folded into the weights of the convolution before it.

    Nothing else may read the output of such a convolution. precision: a dtype policy; the mean over positions is float32 whatever it is.
    """
    import keras

    norm, convolutions = keras.layers.BatchNormalization, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)

    def clone(layer):
        config = layer.get_config()
        if isinstance(layer, convolutions):
            config["use_bias"] = True
        if not isinstance(layer, keras.layers.InputLayer):
            config["dtype"] = "float32" if isinstance(layer, keras.layers.GlobalAveragePooling2D) else precision
        return type(layer).from_config(config)

    def call(layer, *inputs, **options):
        return inputs[0] if isinstance(layer, norm) else layer(*inputs, **options)

    copy = keras.models.clone_model(network, clone_function=clone, call_function=call)
    norms = {keras_private.producer(layer.input).name: layer for layer in network.layers if isinstance(layer, norm)}
    for layer in network.layers:
        if isinstance(layer, convolutions):
            kernel, bias = (*layer.get_weights(), 0.0)[:2]
            if layer.name in norms:
                after = norms[layer.name]
                gamma, beta, mean, variance = (np.asarray(weight, np.float64) for weight in after.get_weights())
                scale = gamma / np.sqrt(variance + after.epsilon)
                kernel = kernel * (scale[:, None] if isinstance(layer, keras.layers.DepthwiseConv2D) else scale)
                bias = beta + (bias - mean) * scale
            target = copy.get_layer(layer.name)
            target.set_weights([kernel, np.broadcast_to(bias, target.bias.shape)])
        elif layer.weights and not isinstance(layer, norm):
            copy.get_layer(layer.name).set_weights(layer.get_weights())
    return copy


# --- Frozen networks that turn a picture into a grid of features for the captioner
#
# The features are those of layers of 14 x 14 cells at 224 pixels, and of finer ones averaged to as many cells. Early layers have small
# receptive fields, so that the features of a cell are about its own location; late ones recognise things.


CHUNK = 32  # pictures that go through the network together


@dataclass(frozen=True)
class GridEncoder:
    """A row of GRID_ENCODERS: a frozen network, or one that is trained with the captioner.

    stride: pixels per cell. architecture: of the frozen network, None = trained along. layers: the names of those whose outputs are
    kept; features: their sizes, the last one of a late layer.
    """

    stride: int
    architecture: Architecture | None = None
    layers: tuple[str, ...] = ()
    features: tuple[int, ...] = ()

    @property
    def near_features(self) -> int:
        """Features of the early layers, which see little of what lies around a cell."""
        return sum(self.features[:-1])


GRID_ENCODERS: dict[str, GridEncoder] = {
    "small": GridEncoder(8),
    "efficientnet_lite0": GridEncoder(16, EFFICIENTNET_LITE0, ("block3_expand_relu", "block5_expand_relu", "block11_expand_relu"),
                                      (144, 240, 672)),
    "mobilenet_v2": GridEncoder(16, MOBILENET_V2, ("block_3_expand_relu", "block_6_expand_relu", "block_13_expand_relu"), (144, 192, 576)),
    "resnet50": GridEncoder(16, RESNET50, ("conv2_block3_out", "conv3_block4_out", "conv4_block6_out"), (256, 512, 1024)),
}


@dataclass(frozen=True)
class GridNetwork:
    """grid: cells on a side; feature_size: F; encode: uint8[N, s, s, 3] -> f16[N, grid * grid, F], None = the encoder is trained along."""

    grid: int
    feature_size: int
    encode: Callable[[np.ndarray], np.ndarray] | None


def describe_grid(config: configs.Grid) -> tuple[int, int]:
    """Returns (cells on a side, F) without building a network.

    Raises UserError for a name that is no row of GRID_ENCODERS, a size that makes no whole cells, and a missing weights file.
    """
    check_name(config.network, GRID_ENCODERS, "grid.network")
    row = GRID_ENCODERS[config.network]
    if config.size < row.stride or config.size % row.stride:
        raise UserError(f"grid.size is {config.size}", config.network, f"a multiple of {row.stride}, such as {14 * row.stride}")
    if row.architecture:
        _check_weights(row.architecture, config.weights, "grid.weights")
    return config.size // row.stride, sum(row.features) or config.channels


def build_grid_network(config: configs.Grid) -> GridNetwork:
    """Returns the network that the configuration names; raises UserError as ``describe_grid`` does, and where the weights do not fit."""
    grid, feature_size = describe_grid(config)
    row = GRID_ENCODERS[config.network]
    return GridNetwork(grid, feature_size, _frozen(row.architecture, row.layers, config) if row.architecture else None)


def _frozen(architecture: Architecture, layers: Sequence[str], config: configs.Grid) -> Callable[[np.ndarray], np.ndarray]:
    import keras  # here: `small` needs none of these

    made = architecture.load(config.weights, "give a fitting file as grid.weights, or use grid.network=small")
    network = made.make(config.size, False)  # fully convolutional, so that another size is another input
    model = keras.Model(network.input, _cells([network.get_layer(name).output for name in layers], describe_grid(config)[0]))
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
