"""Pre-training that goes on from a checkpoint with its state of Adam: the release's, as it went on there, and our own."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from kaleidobert import configs
from kaleidobert.engines.run_folder import read_metrics
from kaleidobert.levels import KALEIDO
from kaleidobert.model_zoo import checkpoints
from kaleidobert.released import schema as released_schema
from tests.released.test_golden import check_loss
from tests.support import golden_data, released_writer
from tests.support.apps_data import SIZES, TRAIN, World, call, refused
from tests.support.checkpoint_data import npz, same
from tests.support.golden_data import GOLDEN, needs_golden
from tests.support.tables import TWO
from tests.support.tiny import tiny_bank

pytestmark = [pytest.mark.slow, pytest.mark.eager]


@needs_golden
@pytest.mark.eager(False)
@pytest.mark.parametrize("converted", [False, True])
def test_the_released_training_goes_on_as_it_did(tmp_path, converted, interrupt):
    """Its batch as a file, its checkpoint of step 3; the losses before steps 3 to 8 are those of the released code."""
    golden, schema = golden_data.load("G1"), released_schema.released("pretrain", KALEIDO, feature_size=32)
    columns = {name.removeprefix("in."): array for name, array in golden.items() if name.startswith("in.")}
    released_writer.write(tmp_path / "rows", schema, [columns])
    init = GOLDEN / "G1/ckpt_step3/model.ckpt-3"
    if converted:
        assert call("convert", configs.ConvertConfig(init, tmp_path / "last.npz", optimizer=True)).status == 0
        init = tmp_path / "last.npz"
    data = configs.TrainingData(files=tmp_path / "rows", val_files=tmp_path / "rows", schema=str(schema), vocabulary_size=200)
    config = configs.PretrainConfig(
        tmp_path / "run", data, model=configs.Model(48, 3, 4, 96, dropout=0, attention_dropout=0),
        sampling=configs.Sampling(losses_on_negatives="all"), losses=configs.Losses(feature_target="joint"), init=init,
        init_optimizer=True, train=configs.Train(epochs=19, batch_size=5, learning_rate=1e-3, warmup_steps=2, save_every=1))
    interrupt(7)
    done = call("pretrain", config)
    assert done.status == 130 and "with the state of Adam, at step 3 of 20" in done.out, done.err
    losses = {row["step"]: row["loss"] for row in read_metrics(config.run / "metrics.jsonl") if row["split"] == "train"}
    assert list(losses) == [4, 5, 6, 7, 8, 9]
    for step, loss in losses.items():
        check_loss(loss, golden["train.loss_before_step"][step - 1], step)
    interrupt(1)
    done = call("pretrain", config)
    assert done.status == 130 and "at step 9" in done.out  # of last.npz, not of init


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    folder = tmp_path_factory.mktemp("world")
    return World(folder, TWO, tiny_bank(folder, TWO))


def test_a_run_goes_on_in_another_folder(world, interrupt):
    """Without dropout, whose state is a run's own, it ends as the run that was never stopped."""
    options = {"model": replace(SIZES, dropout=0, attention_dropout=0), "train": replace(TRAIN, save_every=1)}
    whole, cut = world.pretrain("whole", **options), world.pretrain("cut", **options)
    assert call("pretrain", whole).status == 0
    interrupt(3)
    assert call("pretrain", cut).status == 130
    interrupt(0)
    shutil.copy(cut.run / "last.npz", world.folder / "moved.npz")
    other = world.pretrain("other", init=world.folder / "moved.npz", init_optimizer=True, **options)
    done = call("pretrain", other)
    assert done.status == 0 and "with the state of Adam, at step 2 of" in done.out, done.err
    assert same(npz(whole.run / "last.npz"), npz(other.run / "last.npz"))
    plain = world.pretrain("plain", init=world.folder / "moved.npz", **options)
    assert call("pretrain", plain).status == 0 and not same(npz(whole.run / "last.npz"), npz(plain.run / "last.npz"))
    longer = replace(whole, run=world.folder / "longer", init=whole.run / "last.npz", init_optimizer=True)
    total = checkpoints.load_meta(whole.run / "last.npz")["step"]
    refused(call("pretrain", longer), f"the checkpoint has done {total} steps; expected: fewer than the {total} of this run")
    interrupt(1)
    done = call("pretrain", replace(longer, train=replace(longer.train, epochs=3)))
    assert done.status == 130 and f"with the state of Adam, at step {total} of" in done.out


def test_refusals(world, untrained):
    assert call("pretrain", world.pretrain()).status == 0
    for flags in ([], ["--dry-run"]):
        refused(call("pretrain", world.pretrain("no", init_optimizer=True), *flags), "init_optimizer is set and no checkpoint is named")
    refused(call("pretrain", world.pretrain("no", init=world.best, init_optimizer=True)), "holds weights but no optimizer.*init_optimizer")
    stored = npz(world.best.with_name("last.npz"))
    name = next(name for name in stored if name.endswith("_velocity"))
    with np.load(world.best.with_name("last.npz")) as file:
        np.savez(world.folder / "less.npz", **{key: file[key] for key in file.files if key != name})
    refused(call("pretrain", world.pretrain("no", init=world.folder / "less.npz", init_optimizer=True)), f"- {name} float")
    assert not (world.folder / "no").exists()
