"""``kaleidobert convert`` on the release's own files: there and back, bit for bit, and training that goes on from them."""

from pathlib import Path

import numpy as np
import pytest

from kaleidobert.engines.optimizers import WarmupLinearDecay, adam, clip_by_global_norm
from kaleidobert.losses import pretraining
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import rebuild
from kaleidobert.released import checkpoints as released
from kaleidobert.released import tf_checkpoint
from tests.released.test_checkpoints import CHECKPOINTS
from tests.released.test_golden import check_loss
from tests.support import golden_data as data
from tests.support.apps_data import refused
from tests.support.checkpoint_data import FIRST, npz, same
from tests.support.convert_data import convert, done
from tests.support.golden_data import needs_golden

pytestmark = needs_golden
FINE_TUNED = [name for name in CHECKPOINTS if "G3" in name]


def files(prefix: Path) -> list[bytes]:
    return [path.read_bytes() for path in (*tf_checkpoint.files_of(prefix), prefix.with_name("checkpoint"))]


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_there_and_back_and_there(name, tmp_path):
    source, prefix = data.GOLDEN / name, tmp_path / "back" / Path(name).name
    adam = ["optimizer=true"] if "step3" in name else []
    done(source, tmp_path / "one.npz", *adam)
    done(tmp_path / "one.npz", prefix, *adam)
    done(prefix, tmp_path / "two.npz", *adam)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    theirs, ours = tf_checkpoint.read(source), tf_checkpoint.read(prefix)
    if name in FINE_TUNED:  # whose heads of pre-training get start values
        assert theirs.keys() == ours.keys() and not same(theirs, ours)
        assert same(*[{key: value for key, value in arrays.items() if "/cls/" not in key} for arrays in (theirs, ours)])
    else:
        assert files(prefix) == files(source)


def test_training_goes_on_from_the_released_state_of_adam(tmp_path):
    done(data.GOLDEN / "G1/ckpt_step3", tmp_path / "last.npz", "optimizer=true")
    model = rebuild(checkpoints.load_meta(tmp_path / "last.npz"))
    optimizer = adam(WarmupLinearDecay(1e-3, total_steps=20, warmup_steps=2))
    optimizer.build(model.trainable_variables)
    meta = checkpoints.restore(tmp_path / "last.npz", model, optimizer)
    assert meta["step"] == int(np.asarray(optimizer.iterations)) == 3 and meta["best"] is None
    stored, names = tf_checkpoint.read(data.GOLDEN / "G1/ckpt_step3/model.ckpt-3"), released.names_of(model)
    slots = {variable.path: np.asarray(variable) for variable in optimizer.variables}
    for weight in model.trainable_weights:
        for slot, kind in (("Adam", "momentum"), ("Adam_1", "velocity")):
            expected = names[weight.path].oriented(stored[f"{FIRST}{names[weight.path].bare}/{slot}"])
            np.testing.assert_array_equal(slots[f"adam/{weight.path.replace('/', '_')}_{kind}"], expected, weight.path)
    golden = data.load("G1")
    batch, losses = data.pretraining(golden), pretraining.for_tasks(model.backbone.levels, "joint")
    run = data.gradients(model, lambda: pretraining.total(losses, model(batch["inputs"], training=True), batch["targets"],
                                                    batch["weights"])["total"])
    for step in range(3, 8):
        value, gradients = run()
        check_loss(value, golden["train.loss_before_step"][step], step)
        optimizer.apply(clip_by_global_norm(gradients, 1.0)[0], model.trainable_variables)
    check_loss(run()[0], golden["train.loss_before_step"][8], 8)


@pytest.mark.parametrize("task", ("catepred", "subcatepred"))
def test_a_fine_tuned_checkpoint(task, tmp_path):
    left = done(data.GOLDEN / f"G3/ckpt_{task}", tmp_path / "a.npz")
    assert len([line for line in left if line.startswith("+ cls/")]) == 15 and len(left) == 16 and "- vocab.txt" in left[-1]
    meta = checkpoints.load_meta(tmp_path / "a.npz")
    assert meta["kind"] == "classifier" and meta["task"] == task and meta["step"] == 0
    left = done(tmp_path / "a.npz", tmp_path / "back/model.ckpt-0")
    assert len([line for line in left if line.startswith(f"- {FIRST}cls/")]) == 15
    assert done(data.GOLDEN / f"G3/ckpt_{task}", tmp_path / "p.npz", "task=pretraining")[0].startswith(f"+ {task}_dense/")
    assert checkpoints.load_meta(tmp_path / "p.npz")["kind"] == "pretrainer"


def test_the_state_of_adam_is_never_dropped_silently(tmp_path):
    left = done(data.GOLDEN / "G1/ckpt_step3", tmp_path / "a.npz")
    assert left[-1].startswith("+ 184 variables of the optimiser") and "optimizer=true" in left[-1]
    done(data.GOLDEN / "G1/ckpt_step3", tmp_path / "last.npz", "optimizer=true")
    assert "+ the state of the optimiser" in done(tmp_path / "last.npz", tmp_path / "b/model.ckpt-3")[-1]
    assert same(npz(tmp_path / "a.npz"), {key: value for key, value in npz(tmp_path / "last.npz").items() if key.startswith("model/")})
    refused(convert(data.GOLDEN / "G1/ckpt", tmp_path / "c.npz", "optimizer=true"), "- beta1_power", r"- bert/.*/Adam_1 float\[")
    refused(convert(tmp_path / "a.npz", tmp_path / "c/model.ckpt-3", "optimizer=true"), "no optimizer.*last.npz")
    assert not (tmp_path / "c.npz").exists() and not (tmp_path / "c").exists()


def test_an_adam_with_other_numbers(tmp_path):
    arrays = tf_checkpoint.read(data.GOLDEN / "G1/ckpt_step3/model.ckpt-3")
    tf_checkpoint.write(tmp_path / "a", arrays | {"beta2_power": np.float32(0.999**4)})
    outcome = convert(tmp_path / "a", tmp_path / "a.npz", "optimizer=true", f"model={data.GOLDEN / 'G1/config.json'}")
    assert outcome.status == 0 and "beta2_power is 0.996006, not 0.98^4: it was trained with another beta" in outcome.out
    lost = f"{FIRST}bert/position_dense/Adam"
    tf_checkpoint.write(tmp_path / "b", {name: array for name, array in arrays.items() if name != lost})
    words = ["optimizer=true", f"model={data.GOLDEN / 'G1/config.json'}"]
    refused(convert(tmp_path / "b", tmp_path / "b.npz", *words), r"- bert/position_dense/Adam float\[5, 48\]")
