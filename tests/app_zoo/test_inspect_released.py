"""``kaleidobert inspect`` of a TensorFlow 1 checkpoint: the answers of its conversion, and a word about where it comes from."""

import json
from dataclasses import replace

import pytest

from kaleidobert.app_zoo import models
from kaleidobert.model_zoo import checkpoints
from kaleidobert.released import checkpoints as released
from tests.support.apps_data import call, refused
from tests.support.released_world import Released

pytestmark = pytest.mark.eager


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Released:
    return Released(tmp_path_factory.mktemp("world"))


def test_its_pages_are_those_of_its_conversion(world):
    checkpoints.save(world.folder / "same.npz", world.model)
    pages = []
    for run, checkpoint in (("pages", world.folder / "same.npz"), ("pages-tf1", world.prefix), ("pages-folder", world.prefix.parent)):
        config = replace(world.inspect(run), checkpoint=checkpoint)
        done = call("inspect", config)
        assert done.status == 0, done.err
        assert ("trained on boxes in pixels; a bank's are fractions" in done.out) == (run != "pages")
        pages.append(json.loads((config.run / "results.json").read_text())["pages"])
    assert pages[0] == pages[1] == pages[2] and pages[0][0]["right"]["itm"] is not None


def test_what_is_refused(world, tmp_path):
    arrays = released.export_weights(world.model)
    for name, lost, words in (("a/b", "cls/img_jigsaw", "has no head_level_jigsaw/dense/bias, head_level_jigsaw/dense/kernel"),
                              ("c/d", "bert/pooler/dense/bias", r"- model/pooler/dense/bias float\[16\]")):
        less = {key: value for key, value in arrays.items() if lost not in key}
        refused(call("inspect", replace(world.inspect("no"), checkpoint=world.save(tmp_path / name, less))), words)
    path = tmp_path / "files.npz"
    checkpoints.save(path, world.model, None, {"encoder": models.ENCODER})
    for flags in ([], ["--dry-run"]):
        refused(call("inspect", replace(world.inspect("no"), checkpoint=path), *flags), "- encoder baked into released files [+] pixels-8",
                r"on such files \(data.files\).*boxes are in pixels in files and fractions of the picture in banks")
    assert not (world.folder / "no").exists()
