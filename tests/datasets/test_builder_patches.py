"""Picture networks: features of the plain way, bit for bit, and how far the faster ways are from them."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from kaleidobert import configs
from kaleidobert.datasets.bank import builder
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sources import reading
from kaleidobert.levels import KALEIDO
from kaleidobert.preprocessors import efficientnet_lite0, encoders, patch_generator
from tests.support.apps_data import World, call, refused
from tests.support.tiny import HEIGHT, WIDTH, tiny_catalogue

pytestmark = pytest.mark.slow

SIZE = 40


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Of a MobileNetV2 whose normalisation is not that of a fresh network."""
    keras.utils.set_random_seed(3)
    network = keras.applications.MobileNetV2(include_top=False, pooling="avg", weights=None, input_shape=(224, 224, 3))
    _disturb(network)
    path = tmp_path_factory.mktemp("weights") / "mobilenet.weights.h5"
    network.save_weights(path)
    return path


def _disturb(network: keras.Model) -> None:
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.normal(center, 0.1, weight.shape).clip(0.3) if center else rng.normal(0, 0.1, weight.shape)
                               for center, weight in zip((1, 0, 0, 1), layer.get_weights())])


@pytest.fixture
def fresh(tmp_path, weights) -> World:
    tiny_catalogue(tmp_path / "catalogue", 12)
    world = World(tmp_path, KALEIDO)
    world.encoder = configs.Encoder("mobilenet_v2", SIZE, weights, batch_size=3)
    return world


@pytest.fixture(scope="module")
def plain(weights) -> encoders.PictureEncoder:
    """What world.encoder of ``fresh`` names; the same network makes its banks."""
    return builder.make_encoder(configs.Encoder("mobilenet_v2", SIZE, weights, batch_size=3), encoders.build)


def plain_features(paths: list[str], weights: Path) -> np.ndarray:
    """Every view of every patch, one after another through Keras, nothing left out, nothing shared."""
    network = keras.applications.MobileNetV2(include_top=False, pooling="avg", weights=None, input_shape=(SIZE, SIZE, 3))
    network.load_weights(weights)
    network.compile(jit_compile=False)
    views = []
    for path in paths:
        picture = Image.open(path)
        for level in KALEIDO:
            cut = [np.asarray(picture.crop(tuple(tile)).resize((SIZE, SIZE), Image.Resampling.BILINEAR))
                   for tile in patch_generator.tiles((0, 0, WIDTH, HEIGHT), level.grid)]
            if level.pretext == "rotate":
                cut = [np.rot90(patch, turns) for turns in range(4) for patch in cut]
            if level.pretext == "grey":
                cut += [np.repeat(np.rint(patch.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32))[..., None], 3, -1)
                        for patch in cut]
            views += cut
    pixels = keras.applications.mobilenet_v2.preprocess_input(np.stack(views).astype(np.float32))
    longer = np.concatenate([pixels, pixels[:1]])  # the last of a batch may be rounded otherwise
    return network.predict_on_batch(longer)[:-1].reshape(len(paths), 74, -1).astype(np.float16)


def test_the_bank_holds_what_the_plain_way_gives(fresh, weights):
    made = fresh.records(encoder=fresh.encoder, foreground=configs.Foreground("none"), shard_size=7, threads=2)
    assert call("records", made).status == 0
    bank = Bank(made.bank)
    stored = np.concatenate([np.load(bank.folder / name) for name in bank.index["shards"]])
    assert bank.encoder == "mobilenet_v2-40" and len(bank.index["shards"]) == 3
    np.testing.assert_array_equal(stored, plain_features([row["image_path"] for row in bank.table], weights))


def test_a_row_does_not_depend_on_its_company(plain):
    encoder = plain
    pixels = np.random.default_rng(0).integers(0, 255, (encoder.batch + 5, SIZE, SIZE, 3)).astype(np.uint8)
    whole = encoder.encode(pixels)
    assert whole.shape == (encoder.batch + 5, 1280) and whole.dtype == np.float32
    for part in (slice(0, 1), slice(3, 10), slice(5, encoder.batch + 5), slice(None, None, -1)):
        np.testing.assert_array_equal(encoder.encode(pixels[part]), whole[part])
    with ThreadPoolExecutor(2) as pool:
        for part, row in zip(pool.map(encoder.encode, np.split(pixels[-4:], 4)), whole[-4:]):
            np.testing.assert_array_equal(part[0], row)


@pytest.mark.parametrize("odd, expected", [([7], range(7)), ([0, 7], range(1, 7)), ([], range(8)), (range(8), range(8))])
def test_positions_of_a_batch_that_are_rounded_otherwise_are_left_free(odd, expected):
    def outputs(patches):
        result = patches.reshape(len(patches), -1)[:, :5].astype(np.float32)
        result[list(odd), 2] += 1e-2 * (1 + np.arange(len(odd)))
        return result / 3

    assert encoders.alike_positions(outputs, 8, 4).tolist() == list(expected)


@pytest.mark.parametrize("changes, largest", [({"folded": True}, 1e-4), ({"precision": "mixed_bfloat16"}, 0.1),
                                              ({"precision": "mixed_float16"}, 0.02)])
def test_faster_ways_are_near(plain, weights, changes, largest):
    pixels = np.random.default_rng(0).integers(0, 255, (6, SIZE, SIZE, 3)).astype(np.uint8)
    expected = plain.encode(pixels)
    before = keras.config.dtype_policy()
    other = encoders.build(configs.Encoder("mobilenet_v2", SIZE, weights, **changes)).encode(pixels)
    assert other.dtype == np.float32 and keras.config.dtype_policy() == before
    distance = np.linalg.norm(other - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert 0 < distance.max() < largest


def test_normalisation_folds_into_every_kind_of_convolution():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input((12, 12, 3))
    x = layers.ReLU()(layers.BatchNormalization(epsilon=0.01)(layers.Conv2D(4, 3)(image)))
    y = layers.BatchNormalization()(layers.DepthwiseConv2D(3, depth_multiplier=1, padding="same", use_bias=False)(x))
    y = layers.Add()([x, y])
    y = layers.Conv2D(5, 1, use_bias=False)(layers.Conv2D(5, 1, bias_initializer="ones")(y))  # without a normalisation
    plain = keras.Model(image, layers.Dense(4)(layers.GlobalAveragePooling2D()(y)))
    _disturb(plain)
    copy = encoders.folded(plain)
    pixels = np.random.default_rng(0).normal(size=(3, 12, 12, 3)).astype(np.float32)
    assert not any(isinstance(layer, layers.BatchNormalization) for layer in copy.layers)
    np.testing.assert_allclose(copy.predict_on_batch(pixels), plain.predict_on_batch(pixels), rtol=2e-4, atol=1e-5)


def test_small_patches_go_through_the_network_at_their_own_size(fresh):
    fine = replace(fresh.encoder, size=64, small_size=32)
    made = fresh.records(encoder=fine, foreground=configs.Foreground("none"))  # pictures of 40 x 52
    assert call("records", made).status == 0
    bank, encoder = Bank(made.bank), builder.make_encoder(fine, encoders.build)  # the network that made it
    assert bank.encoder == "mobilenet_v2-64-small32" and bank.feature_size == 1280
    picture = Image.open(bank.table[2]["image_path"])
    stored = np.load(bank.folder / "features-00000.npy")[2]
    whole = np.asarray(picture.resize((64, 64), Image.Resampling.BILINEAR))
    corner = np.asarray(picture.crop((0, 0, 20, 26)).resize((32, 32), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(stored[[0, 4]], np.concatenate([encoder.encode(whole[None]), encoder.encode(corner[None])])
                                  .astype(np.float16))


def test_a_bank_made_otherwise_is_another_encoder_s(fresh):
    names = [builder.encoder_name(replace(fresh.encoder, **changes)) for changes in (
        {}, {"batch_size": 9}, {"folded": True}, {"precision": "mixed_bfloat16"}, {"precision": "mixed_float16", "folded": True},
        {"small_size": 32, "folded": True}, {"turned": "square"})]
    assert names == ["mobilenet_v2-40", "mobilenet_v2-40", "mobilenet_v2-40-folded", "mobilenet_v2-40-bfloat16",
                     "mobilenet_v2-40-float16", "mobilenet_v2-40-small32-folded", "mobilenet_v2-40-square"]
    made = fresh.records(encoder=fresh.encoder)
    products, _ = reading.read(fresh.source)
    mark = builder.claim(made, products)  # a run that was interrupted at once
    assert builder.fingerprint(replace(made, threads=3, workers=2, encoder=replace(fresh.encoder, batch_size=9)), products) == mark
    for changes in ({"folded": True}, {"precision": "mixed_bfloat16"}, {"small_size": 32}, {"turned": "square"}):
        refused(call("records", replace(made, encoder=replace(fresh.encoder, **changes))), "holds another bank")


def test_a_bank_notes_what_auto_was(fresh, monkeypatch):
    made = fresh.records(encoder=configs.Encoder("efficientnet_lite0", 32, precision="auto"), foreground=configs.Foreground("none"))
    kinds = {False: "folded", **({True: "bfloat16"} if keras.backend.backend() == "tensorflow" else {})}
    for number, (amx, kind) in enumerate(kinds.items()):
        monkeypatch.setattr(encoders, "_has_amx", lambda amx=amx: amx)
        if number:
            refused(call("records", made), "holds another bank")
            made = replace(made, bank=fresh.folder / "other")
        assert call("records", made).status == call("records", made).status == 0  # the second finds all done
        bank = Bank(made.bank)
        assert bank.encoder == f"efficientnet_lite0-32-{kind}" and bank.feature_size == 1280
        assert bank.index["encoder"]["weights"] == bank.identity["encoder_weights"] == efficientnet_lite0.SHA256
        noted = bank.index["config"]["encoder"]
        assert noted["precision"] == {"folded": "float32", "bfloat16": "mixed_bfloat16"}[kind] and noted["folded"] is True
        assert f"({bank.encoder})" in call("records", made).out
