"""The forward pass in half precision: weights are cast once for many batches, and are those of the moment."""

import logging

import keras
import numpy as np
import pytest

from kaleidobert.engines import backend_tensorflow, steps
from kaleidobert.model_zoo.kaleidobert import MATCHING_HEADS, Classifier, Matcher, Pretrainer
from kaleidobert.model_zoo.pairs import Pairs
from tests.support.network_data import backbone, batch

pytestmark = pytest.mark.slow

MAKERS = {**{head: lambda b, head=head: Matcher(b, head) for head in MATCHING_HEADS}, "wide": lambda b: Classifier(b, 5, head="wide"),
          "pretrainer": Pretrainer}


@pytest.mark.parametrize(("precision", "name"), [*(("mixed_bfloat16", name) for name in MAKERS), ("mixed_float16", "dual_encoder"),
                                                 ("mixed_float16", "wide"), ("float32", "pretrainer")])
def test_answers_with_held_weights_are_the_same(precision, name):
    model, inputs = MAKERS[name](backbone("two", precision=precision, initializer_range=0.3)), batch("two")["inputs"]
    forward = steps.forward(model)
    asked = forward(inputs)
    with steps.held(forward):
        for name, array in forward(inputs).items():
            np.testing.assert_array_equal(array, asked[name])
            assert np.ptp(array) > 0


@pytest.mark.parametrize(("precision", "stays"), [("mixed_bfloat16", True), ("float32", False)])
def test_weights_that_change_count_from_the_next_time_on(precision, stays):
    model, inputs = Matcher(backbone("two", precision=precision, initializer_range=0.3)), batch("two")["inputs"]
    forward, kernel = steps.forward(model), model.backbone.get_layer("encoder_1").feed_inner.kernel
    for _ in range(2):  # makes the copies, and makes them anew
        before = forward(inputs)["itm"]
        with steps.held(forward):
            kernel.assign(kernel * -2.0)
            assert np.array_equal(forward(inputs)["itm"], before) == stays
        assert np.abs(forward(inputs)["itm"] - before).max() > 1e-2


def test_only_weights_that_layers_cast_are_copied():
    model = Matcher(backbone("two", precision="mixed_bfloat16"))
    copied = {variable.path for variable, _ in backend_tensorflow._HalfPrecision(model)._weights}
    assert {path.split("/")[-1] for path in copied} >= {"query_kernel", "kernel", "position_embeddings"}
    others = {variable.path for variable in model.trainable_variables if len(variable.shape) > 1} - copied
    assert {path.split("backbone/")[-1] for path in others} >= {"text_embedding/word_embeddings", "box_projection/kernel"}
    assert not any("encoder_" in path for path in others)
    assert len(backend_tensorflow._HalfPrecision(Pairs(model))._weights) == len(copied)


def test_several_networks_are_no_reason_to_warn(monkeypatch):
    """TensorFlow warns of traces again and again; each of these networks has one."""
    said = []
    monkeypatch.setattr(logging.getLogger("tensorflow"), "handle", lambda record: said.append(record.getMessage()))
    for _ in range(8):
        steps.forward(FirstRow())({"x": np.zeros((2, 3), np.float32)})
    assert not said


class FirstRow(keras.Model):
    def call(self, inputs, training=False):
        return {"x": inputs["x"][:1]}


def test_a_function_that_holds_nothing():
    entered = []
    with steps.held(lambda inputs: inputs):
        entered.append(True)
    assert entered
