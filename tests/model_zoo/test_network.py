"""The network over several level tables: shapes, gradients, masks, names and start weights."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from kaleidobert.errors import UserError
from kaleidobert.layers.core import Dropout, seed_for
from kaleidobert.layers.heads import gather
from kaleidobert.losses import pretraining
from kaleidobert.model_zoo.kaleidobert import Backbone, Classifier, Matcher, Pretrainer, classifier, matcher, pretrainer, rebuild
from tests.support.golden_data import close, gradients
from tests.support.network_data import SIZES, TABLES, backbone, batch

PLAIN = {"dropout": 0.0, "attention_dropout": 0.0}


def arrays(model):
    return {weight.path: np.asarray(weight).copy() for weight in model.weights}


@pytest.mark.parametrize("table", TABLES)
def test_outputs_losses_and_gradients(table):
    levels, data = TABLES[table], batch(table)
    model = Pretrainer(backbone(table, initializer_range=0.2))
    outputs = model(data["inputs"])
    names = ["mlm", "itm", *(level.name for level in levels)]
    assert list(outputs) == (sorted(names) if keras.backend.backend() == "torch" else names)
    assert tuple(outputs["mlm"].shape) == (3, 2, 50) and tuple(outputs["itm"].shape) == (3, 2)
    for level in levels:
        expected = (3, level.num_classes) if level.answer == "class" else (3, level.num_masked, 12)
        assert tuple(outputs[level.name].shape) == expected
    losses = pretraining.for_tasks(levels)
    run = gradients(model, lambda: pretraining.total(losses, model(data["inputs"], training=True), data["targets"],
                                               data["weights"])["total"])
    value, found = run()
    assert np.isfinite(float(value)) and len(found) == len(model.trainable_variables) == len(model.trainable_weights)
    for variable, gradient in zip(model.trainable_variables, found):
        gradient = np.asarray(gradient if not hasattr(gradient, "values") else gradient.values)
        assert np.isfinite(gradient).all(), variable.path
        assert "key_bias" in variable.path or gradient.any(), variable.path  # a key's bias cancels in the softmax
        if variable.path.endswith("type_embeddings") and variable.path.startswith("patches_"):
            row = 1 + [f"patches_{level.name}" for level in levels].index(variable.path.split("/")[0])
            assert gradient.any(-1).nonzero()[0].tolist() == [row]  # as released, level k reads row k only


@pytest.mark.parametrize("table", TABLES)
def test_paths_are_stable_unique_and_shared_by_all_tasks(table):
    first, second = Pretrainer(backbone(table)), Pretrainer(backbone(table))
    paths = [variable.path for variable in first.variables]
    assert paths == [variable.path for variable in second.variables] and len(set(paths)) == len(paths)
    body = {variable.path for variable in backbone(table).variables}
    for model in (first, Classifier(backbone(table), 3), Matcher(backbone(table)), Matcher(backbone(table), "product")):
        own = {weight.path for weight in model.weights} - body
        assert body <= {variable.path for variable in model.variables}
        assert own and all(path.startswith("head_") for path in own)


def test_seed_decides_the_start_weights():
    first, same, other = (arrays(Pretrainer(backbone(seed=seed))) for seed in (1, 1, 2))
    random = [path for path, value in first.items() if np.ptp(value) > 0]
    assert len(random) > 30
    for path, value in first.items():
        np.testing.assert_array_equal(value, same[path])
        assert path not in random or not np.array_equal(value, other[path]), path
    by_shape = {}
    for path in random:
        for twin in by_shape.setdefault(first[path].shape, []):
            assert not np.array_equal(first[path], first[twin]), (path, twin)
        by_shape[first[path].shape].append(path)


def test_start_weights_are_as_released_and_do_not_depend_on_other_layers():
    few, many = (arrays(backbone(table, hidden_size=64, patch_type_vocabulary_size=7)) for table in ("kaleido", "six"))
    assert few.keys() < many.keys()
    for path, value in few.items():
        np.testing.assert_array_equal(value, many[path])
    kernel = many["encoder_0/feed_inner/kernel"]
    assert np.abs(kernel).max() < 0.04 and abs(kernel.std() - 0.02 * 0.88) < 1e-3  # cut off at two deviations
    assert many["encoder_0/attention/query_bias"].any() and not many["encoder_0/attention_output/bias"].any()
    head = arrays(Classifier(backbone("two", hidden_size=64), 40))["head_label/kernel"]
    assert abs(head.std() - 0.01 * 0.88) < 1e-3


def test_padding_is_invisible_and_patches_are_not():
    data, model = batch("two"), backbone("two", initializer_range=0.5)
    before = np.asarray(model(data["inputs"])["sequence"])
    mask = data["inputs"]["token_mask"]
    changed = data["inputs"] | {"token_ids": np.where(mask, data["inputs"]["token_ids"], 7)}
    after = np.asarray(model(changed)["sequence"])
    seen = np.concatenate([mask, np.ones((3, 5), bool)], 1)
    close(after[seen], before[seen], 1e-6)
    assert np.abs(after[~seen] - before[~seen]).max() > 1e-3
    changed = data["inputs"] | {"patch_features": data["inputs"]["patch_features"] * np.array([1, 1, 1, 1, 0])[:, None]}
    assert np.abs(np.asarray(model(changed)["sequence"])[:, 0] - before[:, 0]).max() > 1e-3


def test_product_head_averages_real_tokens_only():
    data = batch("two")["inputs"]
    model = Matcher(backbone("two", initializer_range=0.5), "product")
    head = model.get_layer("head_product")
    rng = np.random.Generator(np.random.Philox(0))
    sequence, pooled = rng.random((3, 13, 16)).astype(np.float32), rng.random((3, 16)).astype(np.float32)
    kernel, bias = (np.asarray(weight) for weight in head.dense.weights)
    text = np.stack([sequence[row, :8][data["token_mask"][row]].mean(0) for row in range(3)])
    inner = np.concatenate([text * sequence[:, 8:].mean(1), pooled], 1) @ kernel + bias
    inner = 0.5 * inner * (1 + np.tanh(np.sqrt(2 / np.pi) * (inner + 0.044715 * inner**3)))
    expected = inner @ np.asarray(head.output_dense.kernel)
    close(head(sequence, pooled, data["token_mask"].astype(np.int32)), expected, 1e-5)
    assert tuple(model(data)["itm"].shape) == (3, 2)


def test_inputs_may_be_of_other_types_and_more_than_needed():
    data, model = batch("two")["inputs"], Classifier(backbone(), 3)
    expected = model(data)["label"]  # bool mask, float16 features, the masked positions beside them
    names = ("token_ids", "segment_ids", "token_mask", "patch_features", "patch_boxes")
    wide = {name: data[name].astype(np.float32 if "patch" in name else np.int64) for name in names}
    np.testing.assert_array_equal(np.asarray(model(wide)["label"]), np.asarray(expected))
    with pytest.raises(UserError, match="token_mask"):
        model({name: wide[name] for name in names if name != "token_mask"})


def test_a_type_row_beyond_the_table_is_zero():
    data, small = batch("kaleido")["inputs"], backbone("kaleido", patch_type_vocabulary_size=2)
    assert small.get_layer("patches_blank").type_embeddings.shape == (2, 16)
    before = np.asarray(small(data)["sequence"])
    small.get_layer("patches_blank").type_embeddings.assign(np.ones((2, 16)))
    np.testing.assert_array_equal(np.asarray(small(data)["sequence"]), before)
    small.get_layer("patches_rotation").type_embeddings.assign(np.arange(32).reshape(2, 16))
    assert np.abs(np.asarray(small(data)["sequence"]) - before).max() > 1e-3
    assert backbone("six").patch_type_vocabulary_size == 7 and backbone("two").patch_type_vocabulary_size == 6


def test_dropout_draws_anew_in_training_only_and_from_its_own_state():
    data, model = batch("two")["inputs"], Pretrainer(backbone(dropout=0.5))
    state = {variable.path: np.asarray(variable).copy() for variable in model.variables}
    first, second = (np.asarray(model(data, training=True)["itm"]) for _ in range(2))
    assert not np.allclose(first, second)
    np.testing.assert_array_equal(np.asarray(model(data)["itm"]), np.asarray(model(data)["itm"]))
    for variable in model.variables:
        variable.assign(state[variable.path])
    np.testing.assert_array_equal(np.asarray(model(data, training=True)["itm"]), first)
    plain = Pretrainer(backbone(**PLAIN))
    assert len(plain.variables) == len(plain.weights) and len(model.variables) > len(model.weights)
    np.testing.assert_array_equal(np.asarray(plain(data, training=True)["itm"]), np.asarray(plain(data)["itm"]))


def test_dropout_rate_and_scale():
    layer = Dropout(0.3, seed=1)
    dropped = np.asarray(layer(np.ones((200, 200), np.float32), training=True))
    assert abs((dropped == 0).mean() - 0.3) < 0.01 and np.allclose(dropped[dropped > 0], 1 / 0.7)
    assert seed_for(1, "a") == seed_for(1, "a") != seed_for(1, "b") and 0 <= seed_for(2, "a") < 2**31


def test_gather_picks_rows():
    rows = np.random.Generator(np.random.Philox(0)).random((2, 5, 3)).astype(np.float32)
    picked = gather(rows, np.array([[4, 0, 4], [1, 1, 2]]))
    np.testing.assert_array_equal(np.asarray(picked), np.stack([rows[0][[4, 0, 4]], rows[1][[1, 1, 2]]]))


@pytest.mark.parametrize("precision", ("mixed_bfloat16", "mixed_float16"))
def test_attention_is_softmaxed_in_float32(monkeypatch, precision):
    model, softmax, seen = backbone(precision=precision), ops.softmax, []
    monkeypatch.setattr(ops, "softmax", lambda x, axis: seen.append(str(np.asarray(x).dtype)) or softmax(x, axis))
    sequence = np.asarray(model(batch("two")["inputs"])["sequence"])
    assert seen == ["float32"] * 2 and str(sequence.dtype) in precision and np.isfinite(sequence.astype(np.float32)).all()


def test_mixed_precision_ranks_in_float32():
    data = batch("two")
    full, mixed = (Pretrainer(backbone(initializer_range=0.2, precision=name)) for name in ("float32", "mixed_bfloat16"))
    expected, outputs = full(data["inputs"]), mixed(data["inputs"])
    assert {name: str(np.asarray(value).dtype) for name, value in outputs.items()} == {
        "mlm": "bfloat16", "itm": "float32", "grey": "bfloat16", "turn": "float32"}
    for name, value in expected.items():
        close(np.asarray(outputs[name]).astype(np.float32), value, 0.1)
    values = pretraining.total(pretraining.for_tasks(TABLES["two"]), outputs, data["targets"], data["weights"])
    assert all(np.isfinite(float(value)) for value in values.values())
    assert all(variable.dtype == "float32" for variable in mixed.trainable_variables)


@pytest.mark.parametrize("make", (Backbone, Pretrainer, lambda b: Classifier(b, 5, 0.2), lambda b: Matcher(b, "product")))
def test_a_model_is_rebuilt_from_its_description(make):
    body = backbone("renamed", seed=3)
    model = body if make is Backbone else make(body)
    meta = json.loads(json.dumps(model.describe()))
    again = rebuild(meta)
    assert type(again) is type(model) and again.get_config() == model.get_config()
    assert {path: value.tolist() for path, value in arrays(again).items()} == {
        path: value.tolist() for path, value in arrays(model).items()}
    assert getattr(rebuild(meta, "mixed_bfloat16"), "backbone", rebuild(meta, "mixed_bfloat16")).precision == "mixed_bfloat16"


def test_shorthands_take_the_backbones_arguments():
    config = SIZES | {"levels": TABLES["two"]}
    assert pretrainer(config).backbone.hidden_size == 16
    assert classifier(config, 7).num_classes == 7 and matcher(config, "product").head == "product"


@pytest.mark.parametrize("change, said", (({"hiden_size": 8}, "hidden_size"), ({"num_heads": 5}, "num_heads"),
                                          ({"text_length": 11}, "max_positions"), ({"levels": ()}, "at least one level")))
def test_a_wrong_configuration_is_refused(change, said):
    with pytest.raises(UserError, match=said):
        pretrainer(SIZES | change)


def test_unknown_head_and_unknown_kind_are_refused():
    with pytest.raises(UserError, match="plain or product"):
        Matcher(backbone(), "other")
    with pytest.raises(UserError, match="writer"):
        rebuild({"kind": "writer"})
