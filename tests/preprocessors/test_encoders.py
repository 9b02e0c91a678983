"""The tables of encoders: what a setting means for each of them, precision auto, and grids of features."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from kaleidobert import configs
from kaleidobert.errors import UserError
from kaleidobert.preprocessors import encoders

LITE0 = configs.Encoder("efficientnet_lite0", 64, precision="auto")


@pytest.mark.parametrize("flags, precision", [
    ("fpu sse avx512_bf16 amx_bf16 clflush", "mixed_bfloat16"), ("fpu avx512_bf16 amx_tile", "float32"), (None, "float32"),
])
def test_auto_is_what_the_processor_is_fast_in(flags, precision, tmp_path, monkeypatch):
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    monkeypatch.setattr(encoders, "CPU_INFO", tmp_path / "cpuinfo")
    fast = precision if keras.backend.backend() == "tensorflow" else "float32"
    assert encoders.resolved(LITE0) == replace(LITE0, folded=True, precision=fast)
    monkeypatch.setattr(encoders.devices, "accelerated", lambda: True)
    assert encoders.resolved(LITE0) == replace(LITE0, folded=True, precision="float32")


def test_auto_changes_nothing_else():
    for config in (configs.Encoder("resnet50", 224), configs.Encoder("mobilenet_v2", 96, precision="mixed_float16", folded=True)):
        assert encoders.resolved(config) is config
    pixels = configs.Encoder("pixels", 4, precision="auto")
    assert encoders.feature_size(pixels) == 48 and encoders.resolved(pixels) == configs.Encoder("pixels", 4)
    patches = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
    np.testing.assert_array_equal(encoders.build(pixels).encode(patches), encoders.build(configs.Encoder("pixels", 4)).encode(patches))


def test_feature_sizes_and_weights_need_no_network(tmp_path):
    sizes = {"pixels": 12, "efficientnet_lite0": 1280, "mobilenet_v2": 1280, "resnet50": 2048}
    assert sizes.keys() == encoders.ENCODERS.keys()
    for name, size in sizes.items():
        config = configs.Encoder(name, 2 if name == "pixels" else 32)
        assert encoders.feature_size(config) == size
        assert encoders.weights_identity(config)[:6] == {"pixels": "", "efficientnet_lite0": "579344"}.get(name, "imagen")
    with pytest.raises(UserError, match="none.pth: there is no such weights file; expected: a PyTorch state dict.*correct encoder.weights"):
        encoders.feature_size(configs.Encoder("efficientnet_lite0", 64, tmp_path / "none.pth"))
    with pytest.raises(UserError, match="expected: a Keras weights file.*correct grid.weights"):
        encoders.describe_grid(configs.Grid("resnet50", weights=tmp_path / "none.h5"))


def test_a_file_that_is_no_network_is_refused(tmp_path):
    (tmp_path / "x.pth").write_text("weights")
    for name, words in (("efficientnet_lite0", "x.pth: is "), ("mobilenet_v2", "the weights of mobilenet_v2 cannot be loaded")):
        with pytest.raises(UserError, match=f"{words}.*to fix: give a fitting file as encoder.weights, or use encoder.name=pixels"):
            encoders.build(configs.Encoder(name, 32, tmp_path / "x.pth"))
    with pytest.raises(UserError, match="to fix: give a fitting file as grid.weights, or use grid.network=small"):
        encoders.build_grid_network(configs.Grid("efficientnet_lite0", 32, tmp_path / "x.pth"))


@pytest.mark.parametrize("size", [48, 64])
def test_a_grid_of_efficientnet_lite0(size):
    """Early layers of a cell depend on what lies near it alone; what is stored is float16 of the layers' means."""
    made = encoders.build_grid_network(configs.Grid("efficientnet_lite0", size=size))
    cells, near = size // 16, encoders.GRID_ENCODERS["efficientnet_lite0"].near_features
    assert (made.grid, made.feature_size, near) == (cells, 1056, 384)
    picture = np.random.default_rng(0).integers(0, 256, (1, size, size, 3)).astype(np.uint8)
    other = picture.copy()
    other[:, -8:, -8:] = 0
    features = made.encode(np.concatenate([picture, other])).reshape(2, cells, cells, 1056)
    assert features.dtype == np.float16 and np.isfinite(features).all() and (features >= 0).all()
    change = np.abs(features[0].astype(np.float32) - features[1])
    assert change[-1, -1, :near].max() > 1 and change[0, 0, :near].max() < (0.01 if size == 48 else 1e-6)


@pytest.mark.slow
def test_networks_share_no_state():
    """Two encoders in one process, of other sizes and precisions, give what each gives alone."""
    patches = {size: np.random.default_rng(size).integers(0, 256, (3, size, size, 3)).astype(np.uint8) for size in (32, 64)}
    both = encoders.build(configs.Encoder("efficientnet_lite0", 64, small_size=32, folded=True))
    policy = keras.config.dtype_policy()
    encoders.build(configs.Encoder("efficientnet_lite0", 32, precision="mixed_bfloat16")).encode(patches[32])
    assert keras.config.dtype_policy() == policy
    for size, pixels in patches.items():
        alone = encoders.build(configs.Encoder("efficientnet_lite0", size, folded=True))
        np.testing.assert_array_equal(both.encode(pixels), alone.encode(pixels))
