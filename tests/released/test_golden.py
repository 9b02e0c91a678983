"""Pre-training against the released code (golden/G1): forward pass, losses, gradients, optimiser, evaluation."""

import numpy as np
import pytest

from kaleidobert.engines.optimizers import WarmupLinearDecay, adam, clip_by_global_norm
from kaleidobert.losses import pretraining
from kaleidobert.released import checkpoints
from tests.support import golden_data as data
from tests.support.golden_data import close, needs_golden

pytestmark = needs_golden
OUTPUTS = {"mlm": "mlm", "itm": "nsp", "rotation": "rotation", "jigsaw": "jigsaw", "camouflage": "camouflage",
           "grey": "greymask", "blank": "blankmask"}  # ours: theirs


def build():
    return checkpoints.import_checkpoint(data.GOLDEN / "G1/ckpt/model.ckpt-0", data.GOLDEN / "G1/config.json")


@pytest.fixture(scope="module")
def golden():
    return data.load("G1")


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture(scope="module")
def batch(golden):
    return data.pretraining(golden)


def check_logits(outputs, golden, mode, names=OUTPUTS):
    for ours, theirs in names.items():
        expected = golden[f"{mode}.{theirs}_logits"]
        close(np.reshape(outputs[ours], expected.shape), expected, data.LOGITS, what=ours)


def check_loss(actual, expected, what):
    assert abs(float(actual) - expected) <= max(2e-5, 1e-5 * abs(expected)), (what, float(actual), expected)


def test_import_gives_the_weights_that_were_saved(golden, model):
    exported = checkpoints.export_weights(model)
    expected = {name[3:]: value for name, value in golden.items() if name.startswith("w0.")}
    assert exported.keys() == expected.keys() and len(exported) == 91
    for name, value in expected.items():
        np.testing.assert_array_equal(exported[name], value, name)


def test_evaluation_forward(golden, model, batch):
    check_logits(model(batch["inputs"]), golden, "eval")
    hidden = model.backbone(batch["inputs"])
    close(hidden["sequence"], golden["eval.sequence_output"], data.LOGITS)
    close(hidden["pooled"], golden["eval.pooled_output"], data.LOGITS)


def test_prediction_forward(golden, model):
    rows = len(golden["in.input_ids"])
    ones = {"masked_tokens": np.ones((rows, 64), int),
            "masked_patches": np.array([[1 + data.GREY] * 2 + [1 + data.BLANK] * 3] * rows)}
    inputs = data.inputs(golden, "in.") | ones
    check_logits(model(inputs), golden, "predict")
    for name, value in model.backbone(inputs).items():
        if f"predict.{name}_output" in golden:
            close(value, golden[f"predict.{name}_output"], data.LOGITS)


def test_a_patch_named_twice_is_negated_as_released(golden, model):
    batch = data.pretraining(golden, "dup.in.img_blank_lm_ids")
    outputs = model(batch["inputs"])
    check_logits(outputs, golden, "dup.eval", {"blank": "blankmask"})
    close(model.backbone(batch["inputs"])["sequence"], golden["dup.eval.sequence_output"], data.LOGITS)
    losses = pretraining.for_tasks(model.backbone.levels, "joint")
    check_loss(pretraining.total(losses, outputs, batch["targets"], batch["weights"])["total"], golden["dup.eval.loss.total"], "total")


def test_losses(golden, model, batch):
    losses = pretraining.for_tasks(model.backbone.levels, "joint")
    values = pretraining.total(losses, model(batch["inputs"]), batch["targets"], batch["weights"])
    for ours, theirs in (OUTPUTS | {"total": "total"}).items():
        check_loss(values[ours], golden[f"eval.loss.{theirs}"], ours)


def test_grey_loss_of_the_paper(golden, model, batch):
    losses = pretraining.for_tasks(model.backbone.levels)
    values = pretraining.total(losses, model(batch["inputs"]), batch["targets"], batch["weights"])
    assert abs(float(values["grey"]) - 0.628) < 5e-4  # the released graph on the golden batch
    check_loss(values["blank"], golden["eval.loss.blankmask"], "blank")


def test_accuracies(golden, model, batch):
    outputs = model(batch["inputs"])
    metrics = {"itm": "next_sentence", "mlm": "eval_masked_lm"} | {name: name for name in ("rotation", "jigsaw", "camouflage")}
    for ours, theirs in metrics.items():
        weights = batch["weights"][ours]
        right = np.argmax(np.asarray(outputs[ours]), -1) == batch["targets"][ours]
        expected = float(golden[f"eval.metric.{theirs}_accuracy"])
        assert np.sum(weights * right) / np.sum(weights) == pytest.approx(expected, abs=1e-6)


def test_training(golden, batch):
    """Gradients at the start, weights after three steps, losses, norms and rates over eight."""
    model = build()
    losses = pretraining.for_tasks(model.backbone.levels, "joint")
    run = data.gradients(model, lambda: pretraining.total(losses, model(batch["inputs"], training=True), batch["targets"],
                                                    batch["weights"])["total"], often=True)
    schedule = WarmupLinearDecay(1e-3, total_steps=20, warmup_steps=2)
    optimizer = adam(schedule)
    optimizer.build(model.trainable_variables)
    names = checkpoints.names_of(model)
    for step in range(8):
        value, gradients = run()
        check_loss(value, golden["train.loss_before_step"][step], step)
        close(schedule(step), golden["train.lr_at_step"][step], 1e-9, 1e-6)
        clipped, norm = clip_by_global_norm(gradients, 1.0)
        close(norm, golden["train.grad_global_norm_at_step"][step], 0, 5e-5)
        if step == 0:
            check_gradients(model, names, gradients, golden)
        optimizer.apply(clipped, model.trainable_variables)
        if step == 2:
            for name, value in checkpoints.export_weights(model).items():
                close(value, golden[f"w3.{name}"], data.WEIGHTS, what=name)
    check_loss(run()[0], golden["train.loss_before_step"][8], 8)


def check_gradients(model, names, gradients, golden):
    dense, norm = clip_by_global_norm(gradients, 0)
    close(norm, golden["train.grad_global_norm"], 0, 1e-5)
    for variable, gradient in zip(model.trainable_variables, dense):
        name = names[variable.path]
        expected = golden[f"grad.{checkpoints.SCOPE}/{name.bare}"]
        close(name.oriented(np.asarray(gradient)), expected, 1e-6, 1e-4, variable.path)
        close(np.linalg.norm(gradient), golden[f"gradnorm.{checkpoints.SCOPE}/{name.bare}"], 1e-6, 1e-5, variable.path)
