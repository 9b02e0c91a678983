"""Checkpoints: exact or refused, never half-read, the same on every backend."""

import json
import zipfile

import keras
import numpy as np
import pytest

from kaleidobert.engines.optimizers import adam, clip_by_global_norm
from kaleidobert.errors import UserError
from kaleidobert.losses import pretraining
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import Classifier, Matcher, Pretrainer, rebuild
from tests.support.golden_data import gradients
from tests.support.network_data import backbone, batch


def state(owner):
    return {variable.path: np.asarray(variable).copy() for variable in owner.variables}


def same(first, second):
    return first.keys() == second.keys() and all(np.array_equal(value, second[name]) for name, value in first.items())


def trainer(seed=0, **changes):
    model = Pretrainer(backbone(seed=seed, **changes))
    optimizer = adam(1e-2)
    optimizer.build(model.trainable_variables)
    return model, optimizer


def train(model, optimizer, num_steps):
    data, losses = batch("two"), pretraining.for_tasks(model.backbone.levels)
    run = gradients(model, lambda: pretraining.total(losses, model(data["inputs"], training=True), data["targets"],
                                               data["weights"])["total"])
    for _ in range(num_steps):
        optimizer.apply(clip_by_global_norm(run()[1], 1.0)[0], model.trainable_variables)


def test_a_restored_run_continues_bit_by_bit(tmp_path):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the small loop of this test draws no dropout on other backends")
    model, optimizer = trainer()
    train(model, optimizer, 1)
    checkpoints.save(tmp_path / "a.npz", model, optimizer, {"step": 1, "note": "é"})
    train(model, optimizer, 1)
    again, fresh = trainer(seed=9)
    meta = checkpoints.restore(tmp_path / "a.npz", again, fresh)
    assert meta["step"] == 1 and meta["note"] == "é" and int(np.asarray(fresh.iterations)) == 1
    train(again, fresh, 1)
    assert same(state(model), state(again)) and same(state(optimizer), state(fresh))


def test_equal_runs_have_equal_files(tmp_path):
    for name in ("one.npz", "two.npz"):
        model, optimizer = trainer()
        train(model, optimizer, 1)
        checkpoints.save(tmp_path / name, model, optimizer, {"step": 1})
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_meta_rebuilds_the_model(tmp_path):
    model, _ = trainer(seed=4)
    checkpoints.save(tmp_path / "a.npz", model, meta={"step": 7})
    meta = checkpoints.load_meta(tmp_path / "a.npz")
    assert meta["kind"] == "pretrainer" and meta["step"] == 7
    again = rebuild(meta)
    for variable in again.variables:
        variable.assign(np.zeros(variable.shape))
    checkpoints.restore(tmp_path / "a.npz", again)
    assert same(state(model), state(again))


def test_weights_alone_are_restored_from_a_full_checkpoint(tmp_path):
    model, optimizer = trainer()
    checkpoints.save(tmp_path / "a.npz", model, optimizer)
    other, _ = trainer(seed=1)
    checkpoints.restore(tmp_path / "a.npz", other)
    assert same(state(model), state(other))
    checkpoints.save(tmp_path / "b.npz", model)
    with pytest.raises(UserError, match="no optimizer"):
        checkpoints.restore(tmp_path / "b.npz", *trainer())


def test_every_misfit_is_listed_and_nothing_is_changed(tmp_path):
    checkpoints.save(tmp_path / "a.npz", Pretrainer(backbone("two", feature_size=20, num_layers=3)))
    model = Pretrainer(backbone("two"))
    before = state(model)
    with pytest.raises(UserError) as refusal:
        checkpoints.restore(tmp_path / "a.npz", model)
    text = str(refusal.value)
    assert "- model/head_level_grey/dense/kernel float[16, 12]" in text
    assert "+ model/head_level_grey/dense/kernel float[16, 20]" in text
    assert "+ model/encoder_2/attention/key_bias float[16]" in text and "encoder_1" not in text
    assert same(before, state(model))


def test_a_lost_and_an_extra_entry_are_refused(tmp_path):
    model = Matcher(backbone())
    checkpoints.save(tmp_path / "a.npz", model)
    with np.load(tmp_path / "a.npz") as file:
        entries = dict(file)
    lost = {name: value for name, value in entries.items() if name != "model/pooler/dense/bias"}
    np.savez(tmp_path / "lost.npz", **lost)
    np.savez(tmp_path / "extra.npz", **entries, **{"model/new": np.zeros(2)})
    np.savez(tmp_path / "kind.npz", **lost, **{"model/pooler/dense/bias": np.zeros(16, int)})
    np.savez(tmp_path / "half.npz", **{name: value for name, value in entries.items() if name != "model/head_itm/bias"})
    np.savez(tmp_path / "more.npz", **entries, **{"model/head_itm/scale": np.zeros(2)})
    for name, line in (("lost", "- model/pooler/dense/bias"), ("extra", r"\+ model/new"), ("kind", r"\+ .*bias int\[16\]"),
                       ("half", "- model/head_itm/bias"), ("more", r"\+ model/head_itm/scale")):
        for load in (checkpoints.restore, checkpoints.transfer):
            with pytest.raises(UserError, match=line):
                load(tmp_path / f"{name}.npz", model)


@pytest.mark.parametrize("make, fresh", (
    (lambda body: Classifier(body, 3), ["head_label/bias", "head_label/kernel"]), (Matcher, []), (Pretrainer, []),
    (lambda body: Matcher(body, "product"), ["head_product/dense/bias", "head_product/dense/kernel",
                                             "head_product/output_dense/bias", "head_product/output_dense/kernel"])))
def test_transfer_starts_another_task(tmp_path, make, fresh):
    source, model = Pretrainer(backbone(seed=1)), make(backbone(seed=2, dropout=0.0))
    checkpoints.save(tmp_path / "a.npz", source, *[trainer()[1]])
    before = state(model)
    assert checkpoints.transfer(tmp_path / "a.npz", model) == fresh
    expected, after = state(source), state(model)
    for weight in model.weights:
        np.testing.assert_array_equal(after[weight.path], (before if weight.path in fresh else expected)[weight.path])


def test_transfer_of_another_head_or_backbone_is_refused(tmp_path):
    checkpoints.save(tmp_path / "a.npz", Classifier(backbone(), 3))
    with pytest.raises(UserError, match=r"- model/head_label/bias float\[4\]"):
        checkpoints.transfer(tmp_path / "a.npz", Classifier(backbone(), 4))
    with pytest.raises(UserError, match="- model/encoder_2/"):
        checkpoints.transfer(tmp_path / "a.npz", Matcher(backbone(num_layers=3)))
    assert checkpoints.transfer(tmp_path / "a.npz", Matcher(backbone())) == ["head_itm/bias", "head_itm/kernel"]


def test_what_fits_by_shape_and_means_something_else_is_refused(tmp_path):
    checkpoints.save(tmp_path / "a.npz", Pretrainer(backbone()))
    with pytest.raises(UserError, match="num_heads is 4.*num_heads 2"):
        checkpoints.transfer(tmp_path / "a.npz", Matcher(backbone(num_heads=2)))
    with pytest.raises(UserError, match="pretrainer.*matcher"):
        checkpoints.restore(tmp_path / "a.npz", Matcher(backbone()))


@pytest.mark.parametrize("dtype", ("float16", "bfloat16"))
def test_narrow_variables(tmp_path, dtype):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(2, dtype=dtype, name="dense")(inputs))
    before = state(model)
    checkpoints.save(tmp_path / "a.npz", model)
    for variable in model.variables:
        variable.assign(np.zeros(variable.shape))
    checkpoints.restore(tmp_path / "a.npz", model)
    assert before["dense/kernel"].dtype.name == dtype and same(before, state(model))


def test_damaged_files_are_refused(tmp_path):
    model, path = Matcher(backbone()), tmp_path / "a.npz"
    with pytest.raises(UserError, match="no such checkpoint"):
        checkpoints.restore(path, model)
    with pytest.raises(UserError, match="a folder"):
        checkpoints.load_meta(tmp_path)
    checkpoints.save(path, model)
    whole, before = path.read_bytes(), state(model)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    cut = [whole[:size] for size in (0, 10, len(whole) // 2, len(whole) - 1)]
    for damaged in (*cut, bytes(flipped), b"x" * 100):
        path.write_bytes(damaged)
        for load in (checkpoints.restore, checkpoints.transfer):
            with pytest.raises(UserError, match="cannot be read"):
                load(path, model)
    assert same(before, state(model))


def test_what_is_no_checkpoint_is_refused_and_never_executed(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **{"model/x": np.zeros(2)})
    with pytest.raises(UserError, match="cannot be read"):
        checkpoints.load_meta(path)
    np.savez(path, **{checkpoints.META: np.array(json.dumps({"format": 99}))})
    with pytest.raises(UserError, match=f"format {checkpoints.FORMAT}.*make it again"):
        checkpoints.load_meta(path)
    bomb = type("Bomb", (), {"__reduce__": lambda self: (pytest.fail, ("executed",))})()
    np.savez(path, **{checkpoints.META: np.array(json.dumps({"format": checkpoints.FORMAT})), "model/x": np.array([bomb], object)})
    with pytest.raises(UserError, match="cannot be read"):
        checkpoints.restore(path, Matcher(backbone()))


def test_saving_is_all_or_nothing(tmp_path, monkeypatch):
    model, path = Matcher(backbone()), tmp_path / "a.npz"
    checkpoints.save(path, model)
    before = path.read_bytes()

    def fail(*arguments, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "open", fail)
    with pytest.raises(UserError, match="no space"):
        checkpoints.save(path, model)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["a.npz"]
