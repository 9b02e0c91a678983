"""The foreground network and its weights: small, safe to read, right on drawn scenes that it never saw."""

import hashlib
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from kaleidobert import configs
from kaleidobert.configs.data import FOREGROUND_WEIGHTS
from kaleidobert.datasets.bank import builder
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sources.reading import read_mask
from kaleidobert.drawing import scenes
from kaleidobert.drawing.backgrounds import HELD_OUT
from kaleidobert.errors import UserError
from kaleidobert.model_zoo import foreground_net
from kaleidobert.preprocessors import foreground
from tests.support.apps_data import World, call, refused
from tests.support.tables import TWO
from tests.support.tiny import tiny_catalogue

trained = pytest.mark.skipif(not FOREGROUND_WEIGHTS.is_file(), reason=f"the package holds no trained weights ({FOREGROUND_WEIGHTS.name}): "
                             "kaleidobert train-foreground configs/train_foreground.yaml install=true makes them")


@pytest.fixture(scope="module")
def predict():
    return foreground_net.build()


@pytest.fixture(scope="module")
def segment(predict):
    return lambda image: foreground.network_mask(image, predict)


def smooth(mask: np.ndarray) -> np.ndarray:
    """Grey levels 0 to 1 with soft edges, as a camera has them."""
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(picture.resize((mask.shape[1] // 2, mask.shape[0] // 2), Image.Resampling.BOX), np.float32)[:, :, None] / 255


def ellipses(*boxes: tuple[float, float, float, float], size: tuple[int, int] = (200, 160)) -> np.ndarray:
    """bool[h, w] of ellipses given by middle and radii as fractions of the picture."""
    y, x = np.mgrid[0 : 2 * size[0], 0 : 2 * size[1]] / 2
    inside = [((x / size[1] - cx) / rx) ** 2 + ((y / size[0] - cy) / ry) ** 2 <= 1 for cx, cy, rx, ry in boxes]
    return np.any(inside, axis=0)


def iou(found: np.ndarray, truth: np.ndarray) -> float:
    return float(foreground.overlap(found, truth))


@trained
def test_the_package_holds_small_weights_that_cannot_execute_code():
    assert FOREGROUND_WEIGHTS.stat().st_size <= 2_000_000
    with np.load(FOREGROUND_WEIGHTS, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    assert all(array.dtype == np.float16 for name, array in arrays.items() if name != foreground_net.HEADER)
    assert sum(array.size for array in arrays.values()) <= 500_000
    assert foreground_net.load().count_params() <= 500_000


@trained
def test_it_finds_drawn_products_that_it_never_saw_before_backgrounds_that_it_never_saw(segment):
    names = list(HELD_OUT)
    made = [scenes.scene(77_001, index, 160, names[index % len(names)]) for index in range(24)]
    values = [iou(segment(scene.image), scene.mask) for scene in made]
    assert np.mean(values) >= 0.85 and np.mean(np.array(values) >= 0.5) >= 0.9


@trained
@pytest.mark.parametrize("shade", [(250, 250, 248), (240, 241, 243)])
def test_white_on_white_is_told_by_its_shading(segment, shade):
    cover = smooth(ellipses((0.5, 0.5, 0.3, 0.36)))
    y, x = np.mgrid[0:200, 0:160]
    folds = 1 - 0.05 * (1 + np.sin(x / 9 + y / 30)) - 0.08 * np.abs(x / 160 - 0.5)
    product = np.array(shade) * folds[:, :, None]
    image = np.clip(255 * (1 - cover) + product * cover, 0, 255).astype(np.uint8)
    assert iou(segment(image), cover[:, :, 0] >= 0.5) >= 0.85


@trained
def test_a_pair_is_one_object(segment):
    cover = smooth(ellipses((0.28, 0.5, 0.14, 0.2), (0.72, 0.55, 0.14, 0.2)))
    image = (255 * (1 - cover) + np.array((120, 60, 40)) * cover).astype(np.uint8)
    found = foreground.find(image, segment, margin=0.0)
    assert iou(found.mask, cover[:, :, 0] >= 0.5) >= 0.9 and found.box[0] < 30 and found.box[2] > 130 and found.fallback == ""


@trained
def test_a_product_cut_by_the_frame_reaches_the_frame(segment):
    cover = smooth(ellipses((0.5, 0.95, 0.4, 0.7)))
    image = (np.array((235, 236, 240)) * (1 - cover) + np.array((40, 60, 110)) * cover).astype(np.uint8)
    found = foreground.find(image, segment)
    assert found.box[3] == 200 and found.box[1] > 20 and iou(found.mask, cover[:, :, 0] >= 0.5) >= 0.9


@trained
@pytest.mark.parametrize("grey", [255, 200, 30])
def test_a_picture_of_nothing_is_taken_whole(segment, grey):
    found = foreground.find(np.full((120, 90, 3), grey, np.uint8), segment)
    assert found.box == (0, 0, 90, 120) and found.fallback == "no foreground found"


@trained
@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (500, 20), (40, 40), (700, 900)])
def test_any_shape_of_picture_gives_a_mask_of_that_shape(segment, shape):
    image = np.random.default_rng(0).integers(0, 255, (*shape, 3)).astype(np.uint8)
    mask = segment(image)
    assert mask.shape == shape and mask.dtype == bool


def test_refining_moves_an_edge_to_where_the_picture_has_it():
    image = np.full((60, 60, 3), 255, np.uint8)
    image[:, 30:] = (60, 80, 120)
    likely = np.tile(1 / (1 + np.exp(-(np.arange(60) - 28.0) / 1.5)), (60, 1)).astype(np.float32)
    truth = np.zeros((60, 60), bool)
    truth[:, 30:] = True
    assert iou(foreground.refine(likely, image) >= 0.5, truth) > iou(likely >= 0.5, truth) and \
        iou(foreground.refine(likely, image) >= 0.5, truth) > 0.98


def test_the_second_look_is_a_mirrored_one_at_what_the_first_found():
    looks = []

    def predict(inputs):
        looks.append(inputs[0, :, :, 0] < 0)
        return looks[-1][None].astype(np.float32)

    predict.size = 32
    image = np.full((120, 90, 3), 255, np.uint8)
    truth = np.zeros((120, 90), bool)
    truth[60:90, 10:30] = truth[80:90, 30:50] = True  # an L
    image[truth] = (20, 30, 60)
    assert iou(foreground.network_mask(image, predict), truth) > 0.95
    first, second = looks
    assert first[:, :16].sum() > 5 * first[:, 16:].sum() and second.mean() > 3 * first.mean()
    rows = np.flatnonzero(second.any(1))
    high, foot = second[rows[2]], second[rows[-3]]  # the L's upright is on the right now
    assert np.flatnonzero(high)[0] > np.flatnonzero(foot)[0] + 5 and abs(np.flatnonzero(high)[-1] - np.flatnonzero(foot)[-1]) <= 1
    looks.clear()
    assert not foreground.network_mask(np.full((50, 40, 3), 255, np.uint8), predict).any() and len(looks) == 1


def test_the_distance_channel_is_that_to_the_borders_colour():
    image = np.full((16, 16, 3), (10, 200, 90), np.uint8)
    image[6:9, 6:9] = (255, 0, 0)
    seen = foreground.channels(np.stack([image, 255 - image]))
    assert seen.shape == (2, 16, 16, 4) and seen.dtype == np.float32 and np.abs(seen).max() <= 1
    assert (seen[:, 0, 0, 3] == -1).all() and (seen[:, 7, 7, 3] > 0.5).all()
    np.testing.assert_allclose(seen[0], foreground.channels(image), atol=1e-6)


def test_missing_broken_and_foreign_weights_are_refused(tmp_path):
    path = tmp_path / "net.npz"
    with pytest.raises(UserError, match="are missing.*train-foreground"):
        foreground_net.load(path)
    foreground_net.save(tmp_path / "whole.npz", foreground_net.network((4, 6, 8), 16))
    whole = (tmp_path / "whole.npz").read_bytes()
    for broken in (b"", whole[: len(whole) // 2], whole.replace(b"conv", b"cold"), b"no archive"):
        path.write_bytes(broken)
        with pytest.raises(UserError, match="cannot be read|do not fit"):
            foreground_net.load(path)
    with np.load(tmp_path / "whole.npz") as file:
        arrays = {name: file[name] for name in file.files}
    del arrays[next(name for name in arrays if name.endswith("kernel"))]
    np.savez(path, **arrays)
    with pytest.raises(UserError, match="do not fit"):
        foreground_net.load(path)
    np.savez(path, **{foreground_net.HEADER: np.array([{"a": 1}], object)})
    with pytest.raises(UserError, match="cannot be read"):
        foreground_net.load(path)


def test_saving_and_loading_agree_and_equal_weights_give_equal_files(tmp_path):
    model = foreground_net.network((4, 6, 8), 16)
    foreground_net.save(tmp_path / "a.npz", model)
    foreground_net.save(tmp_path / "b.npz", foreground_net.load(tmp_path / "a.npz"))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with zipfile.ZipFile(io.BytesIO((tmp_path / "a.npz").read_bytes())) as archive:
        assert len({entry.date_time for entry in archive.infolist()}) == 1


@pytest.mark.parametrize("channels, size", [((8,), 32), ((4, 8, 8), 36), ((4, 0), 32), ((4, 8, 8, 8), 16)])
def test_a_network_that_does_not_halve_is_refused(channels, size):
    with pytest.raises(UserError, match="do not go with size"):
        foreground_net.network(channels, size)


@trained
def test_records_find_the_foreground_by_the_network(tmp_path):
    world = World(tmp_path, TWO)
    tiny_catalogue(tmp_path / "catalogue", 12)
    done = call("records", world.records(foreground=configs.Foreground("network", margin=0.0)))
    assert done.status == 0, done.err
    boxes = []
    for row in Bank(tmp_path / "made").table:
        truth = foreground.bounding_box(read_mask(str(row["image_path"]).replace(".png", "-mask.png")))
        boxes.append(np.abs(np.array(row["box"]) - truth).max())
    assert np.median(boxes) <= 2 and (tmp_path / "made/index.json").is_file()
    missing = world.records("none", foreground=configs.Foreground("network", weights=tmp_path / "none.npz"))
    refused(call("records", missing), "none.npz: the weights of the foreground network are not there")
    assert not (tmp_path / "none").exists()


def test_a_bank_knows_by_which_weights_its_foregrounds_were_found(tmp_path):
    path = tmp_path / "net.npz"
    path.write_bytes(b"one")
    marks = {str(builder.foreground_identity(configs.Foreground("network", weights=path)))}
    path.write_bytes(b"two")
    marks.add(str(builder.foreground_identity(configs.Foreground("network", weights=path))))
    assert len(marks) == 2 and all(str(tmp_path) not in mark for mark in marks)
    assert hashlib.sha256(b"two").hexdigest() in str(marks)
    border = builder.foreground_identity(configs.Foreground("border", weights=path))
    assert border == {"method": "border", "tolerance": 12.0, "margin": 0.03}
    with pytest.raises(UserError, match="are not there.*foreground.method=border"):
        builder.foreground_identity(configs.Foreground("network", weights=tmp_path / "none.npz"))
