"""``init=`` names a TensorFlow 1 checkpoint directly: the same as its conversion, and as exact."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kaleidobert import configs
from kaleidobert.app_zoo import models
from kaleidobert.errors import UserError
from kaleidobert.levels import KALEIDO
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import Classifier
from kaleidobert.released import checkpoints as released
from kaleidobert.released import tf_checkpoint
from tests.released.test_checkpoints import CHECKPOINTS
from tests.support import golden_data as data
from tests.support.apps_data import SIZES, TRAIN, call, refused
from tests.support.checkpoint_data import npz, same
from tests.support.golden_data import needs_golden
from tests.support.released_world import Released

pytestmark = pytest.mark.eager
COMMANDS = ("pretrain", "classify", "retrieve")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Released:
    return Released(tmp_path_factory.mktemp("world"))


@needs_golden
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_what_is_read_is_what_is_imported(name, tmp_path):
    """config.json lies a folder above."""
    path = data.GOLDEN / name
    model = released.import_checkpoint(path, path.parents[1] / "config.json")
    meta, arrays = released.load_meta(path), released.read(path, lambda name: True)[1]
    described = model.describe()
    assert meta["kind"] == described["kind"] and meta["identity"] == described["identity"]
    body = {"backbone": meta["config"]["backbone"] | {"precision": "float32"}}
    del body["backbone"]["gradient_checkpointing"]  # of a run, not of the weights
    assert meta["config"] | body == described["config"] and meta["step"] == int(tf_checkpoint.read(path)["global_step"])
    weights = {f"model/{weight.path}": np.asarray(weight) for weight in model.weights}
    assert same(weights, {key: value for key, value in arrays.items() if key in weights})
    assert all(key.startswith("model/head_") for key in set(arrays) - set(weights))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_run_starts_from_it_as_from_its_conversion(world, untrained, name):
    checkpoints.save(world.best.with_name("same.npz"), world.model)
    for run, init in ((f"{name}-tf1", world.prefix), (f"{name}-npz", world.best.with_name("same.npz"))):
        outcome = call(name, world.config(name, run, init=init))
        assert outcome.status == 0, outcome.err
        assert f"weights from {init}" in outcome.out and "does not say with which features it was made" in outcome.out
    first, second = (npz(world.folder / run / "best.npz") for run in (f"{name}-tf1", f"{name}-npz"))
    assert same(first, second)
    mine = {f"model/{weight.path}": np.asarray(weight) for weight in world.model.weights}
    assert same({key: value for key, value in first.items() if key in mine}, {key: mine[key] for key in mine if key in first})
    assert first["model/patches_blank/type_embeddings"].shape == (3, 16)


def test_a_fine_tuned_one_serves_both_tasks(world, tmp_path, untrained):
    arrays = released.export_weights(world.model) | released.export_weights(Classifier(world.model.backbone, 2), "catepred")
    prefix = world.save(tmp_path / "a/b", arrays)
    for name in ("classify", "retrieve"):
        outcome = call(name, world.config(name, f"tuned-{name}", init=prefix))
        assert outcome.status == 0 and "new:" not in outcome.out, outcome.err
    wide = released.export_weights(Classifier(world.model.backbone, 48), "catepred")
    refused(call("classify", world.config("classify", "wide", init=world.save(tmp_path / "c/d", arrays | wide))),
            r"- model/head_label/kernel float\[16, 2\]", r"\+ model/head_label/kernel float\[16, 48\]")


@pytest.mark.parametrize("name", COMMANDS)
def test_what_does_not_fit_is_refused(world, tmp_path, name):
    arrays = released.export_weights(world.model)
    lost = next(key for key in arrays if key.endswith("bert/pooler/dense/bias"))
    less = {key: value for key, value in arrays.items() if key != lost} | {"kaleido_bert_pre_trained_model/bert/pooler/bias": arrays[lost]}
    scopes = [f"/{part}_embeddings/" for part in ("rotation", "jigsaw", "camouflage", "greymask", "blank")]
    text = {key: value for key, value in arrays.items() if not any(part in key for part in (*scopes, "/cls/", "/position_dense"))}
    cases = [(world.prefix, {"model": replace(SIZES, hidden_size=32)}, r"- hidden_size 16 \+ 32"),
             (world.save(tmp_path / "a/b", less), {}, r"\+ model/bert/pooler/bias float\[16\]\n  - model/pooler/dense/bias"),
             (world.save(tmp_path / "c/d", arrays, hidden_sise=1), {}, r"\+ hidden_sise"),
             (world.save(tmp_path / "e/f", text), {}, "is a BERT.*kaleidobert convert")]
    for init, changes, words in cases:
        refused(call(name, world.config(name, "unfit", init=init, **changes)), words)
    (tmp_path / "a/config.json").unlink()
    refused(call(name, world.config(name, "unfit", init=tmp_path / "a/b")), "there is no config.json beside it")
    damaged = Path(shutil.copytree(world.prefix.parent, tmp_path / "g")) / world.prefix.name
    path = tf_checkpoint.files_of(damaged)[1]
    path.write_bytes(path.read_bytes()[:-2])
    refused(call(name, world.config(name, "unfit", init=damaged)), "ends after")
    assert not (world.folder / "unfit").exists()


def test_another_vocabulary_is_refused_where_the_checkpoint_knows_its_own(world, tmp_path):
    folder = Path(shutil.copytree(world.prefix.parent, tmp_path / "a"))
    shutil.copy(world.bank.folder / "vocab.txt", folder)
    data = configs.to_dict(models.backbone_config(world.bank, KALEIDO, SIZES, TRAIN))
    meta = models.require(folder / world.prefix.name, data, world.bank)
    assert meta["vocabulary_sha256"] == world.bank.identity["vocabulary_sha256"]
    pieces = (folder / "vocab.txt").read_text().split("\n")[:-1]
    (folder / "vocab.txt").write_text("\n".join(pieces[::-1]))
    with pytest.raises(UserError, match="- vocabulary_sha256"):
        models.require(folder / world.prefix.name, data, world.bank)
    assert tf_checkpoint.exists(folder / world.prefix.name)
