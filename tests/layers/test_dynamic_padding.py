"""Texts cut to the longest of the batch: the same answers, losses and gradients as with the padding."""

import keras
import numpy as np
import pytest

from kaleidobert.engines import steps
from kaleidobert.errors import UserError
from kaleidobert.levels import patch_slices
from kaleidobert.losses import pretraining
from kaleidobert.model_zoo.kaleidobert import CAPTION_MODES, MATCHING_HEADS, Backbone, Captioner, Classifier, Matcher, Pretrainer
from kaleidobert.preprocessors import examples
from tests.support.golden_data import close, gradients
from tests.support.network_data import SIZES, TABLES, batch

LONG = 20  # of the texts, of which the batches fill eight
PLAIN = {"dropout": 0.0, "attention_dropout": 0.0, "initializer_range": 0.3}


def body(table: str) -> Backbone:
    return Backbone(TABLES[table], **SIZES | PLAIN | {"text_length": LONG, "max_positions": LONG})


def padded(table: str) -> dict[str, dict[str, np.ndarray]]:
    """A batch whose texts have 12 places of padding more; what stands there must not matter."""
    data = batch(table)
    fill = {"token_ids": 7, "segment_ids": 1, "token_mask": 0}
    wide = {name: np.pad(data["inputs"][name], [(0, 0), (0, LONG - 8)], constant_values=value) for name, value in fill.items()}
    return {**data, "inputs": {**data["inputs"], **wide}}


def test_the_longest_text_decides():
    mask = np.zeros((3, 20), bool)
    mask[0, :3], mask[2, :9] = True, True
    assert [examples.longest_text(mask, multiple) for multiple in (1, 4, 8, 16, 64)] == [9, 12, 16, 16, 20]
    assert examples.longest_text(mask[:2]) == 8 and examples.longest_text(mask[1:2]) == 8 and examples.longest_text(mask[:, :5]) == 5
    assert examples.longest_text(mask.astype(np.int64), 1) == 9


def test_only_text_is_cut_and_nothing_is_copied():
    inputs = padded("two")["inputs"]
    short = examples.trim(inputs)
    assert {name for name in inputs if short[name].shape != inputs[name].shape} == set(examples.TEXT)
    assert all(short[name].shape == (3, 8) and short[name].base is inputs[name] for name in examples.TEXT)
    assert examples.trim(inputs, length=12)["token_ids"].shape == (3, 12)
    assert examples.trim(inputs, 32)["token_ids"].shape == (3, LONG)


@pytest.mark.parametrize("table", TABLES)
def test_pretraining_is_the_same(table):
    model, data = Pretrainer(body(table)), padded(table)
    losses, found = pretraining.for_tasks(TABLES[table]), {}
    for name, inputs in (("whole", data["inputs"]), ("short", examples.trim(data["inputs"]))):
        outputs = {task: np.asarray(value) for task, value in model(inputs).items()}
        run = gradients(model, lambda: pretraining.total(losses, model(inputs), data["targets"], data["weights"])["total"])  # noqa: B023
        found[name] = (outputs, *run())
    assert all(np.ptp(value) > 0 for value in found["whole"][0].values())
    for task, value in found["whole"][0].items():
        close(found["short"][0][task], value, 1e-5, what=task)
    close(found["short"][1], found["whole"][1], 0, 1e-6)
    for variable, short, whole in zip(model.trainable_variables, found["short"][2], found["whole"][2]):
        close(dense(short), dense(whole), 1e-5, what=variable.path)


def dense(gradient) -> np.ndarray:
    if not hasattr(gradient, "indices"):
        return np.asarray(gradient)
    import tensorflow as tf

    return tf.convert_to_tensor(gradient).numpy()


@pytest.mark.parametrize(("head", "table"), [*((head, "two") for head in ("wide", *MATCHING_HEADS)),
                                             *(("dual_encoder", table) for table in TABLES if table != "two")])
def test_other_tasks_are_the_same(head, table):
    model = Classifier(body(table), 5, head="wide") if head == "wide" else Matcher(body(table), head)
    inputs = padded(table)["inputs"]
    whole, short = ({name: np.asarray(value) for name, value in model(arrays).items()} for arrays in (inputs, examples.trim(inputs)))
    for name, value in whole.items():
        assert np.ptp(value) > 0
        close(short[name], value, 1e-5, what=name)


@pytest.mark.parametrize("mode", CAPTION_MODES)
def test_captions_are_the_same(mode):
    model, inputs = Captioner(body("two"), mode), padded("two")["inputs"]
    first = int(mode != "causal")
    inputs["predict_positions"] = np.repeat(np.arange(first, first + LONG - 1, dtype=np.int32)[None], 3, 0)
    weights = {"pieces": np.pad(batch("two")["inputs"]["token_mask"][:, 1:].astype(np.float32), [(0, 0), (0, LONG - 8)])}
    targets = {"pieces": np.zeros((3, LONG - 1), np.int32), "length": np.zeros(3, np.int32)}
    short, of, by = examples.trim_captions(inputs, targets, weights)
    assert short["predict_positions"].shape == of["pieces"].shape == by["pieces"].shape == (3, 7) and of["length"] is targets["length"]
    whole, found = ({name: np.asarray(value) for name, value in model(arrays).items()} for arrays in (inputs, short))
    real = by["pieces"] > 0
    assert real.sum() == weights["pieces"].sum() > 0
    close(found["pieces"][real], whole["pieces"][:, :7][real], 1e-5)
    assert mode == "causal" or found["length"].shape == (3, LONG - 2)
    if mode != "causal":
        close(found["length"], whole["length"], 1e-5)


def test_patches_are_counted_from_the_end():
    """A head that looked for a level where it lies in a full-length sequence would read other patches in a shorter one."""
    model, inputs = Pretrainer(body("two")), padded("two")["inputs"]
    before = {length: model(examples.trim(inputs, length=length)) for length in (8, 13, LONG)}
    for level in TABLES["two"]:
        part = patch_slices(TABLES["two"])[level.name]
        changed = {**inputs, "patch_features": inputs["patch_features"].copy()}
        changed["patch_features"][:, part] += 3
        moved = [np.asarray(model(examples.trim(changed, length=length))[level.name]) - np.asarray(before[length][level.name])
                 for length in before]
        assert np.abs(moved[0]).max() > 1e-2
        close(moved[1], moved[0], 1e-4), close(moved[2], moved[0], 1e-4)


def test_longer_texts_than_the_model_was_made_for_are_refused():
    inputs = padded("two")["inputs"]
    wide = {name: np.pad(array, [(0, 0), (0, 1)]) if name in examples.TEXT else array for name, array in inputs.items()}
    with pytest.raises(UserError, match="21 word pieces.*at most 20"):
        Classifier(body("two"), 3)(wide)


def test_all_lengths_are_one_trace(monkeypatch):
    model, data, traced = Matcher(body("two")), padded("two")["inputs"], []
    optimizer, call = keras.optimizers.SGD(0.0), Matcher.call
    optimizer.build(model.trainable_variables)
    monkeypatch.setattr(Matcher, "call", lambda *args, **kwargs: (traced.append(1), call(*args, **kwargs))[1])
    update = steps.train_step(model, lambda outputs, targets, weights: {"loss": keras.ops.mean(outputs["itm"])}, optimizer, 1.0)
    forward, found = steps.forward(model), []
    for length in (LONG, 8, 16):
        inputs = {name: examples.trim(data, length=length)[name] for name in model.input}
        found.append((update(inputs, {}, {})["loss"], forward(inputs)["itm"]))
    assert len(traced) == 2  # one of training, one of prediction
    for loss, answers in found[1:]:
        close(loss, found[0][0], 1e-5), close(answers, found[0][1], 1e-5)
