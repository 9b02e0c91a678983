"""What people get wrong: one clear message that says what, where and what to do; a refused command leaves nothing behind."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from kaleidobert import configs
from kaleidobert.app_zoo import models
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import Classifier, Matcher, pretrainer
from tests.support.apps_data import SIZES, TRAIN, World, call, edit, refused, results
from tests.support.tables import TWO
from tests.support.tiny import make_bank, tiny_bank, tiny_catalogue

pytestmark = pytest.mark.eager
COMMANDS = ("pretrain", "classify", "retrieve")


class Start(World):
    """A World whose checkpoint is an untrained one."""

    def __init__(self, folder: Path):
        super().__init__(folder, TWO, tiny_bank(folder, TWO))
        self.best.parent.mkdir()
        self.save(self.best)

    def save(self, path: Path, head=None, bank: Bank | None = None, **changes) -> Path:
        bank = bank or self.bank
        sizes = models.backbone_config(bank, self.levels, SIZES, TRAIN)
        model = pretrainer(sizes | changes)
        checkpoints.save(path, head(model.backbone) if head else model, None, bank.identity)
        return path

    def config(self, name: str, run: str, **changes):
        return getattr(self, name)(run, **changes)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Start:
    return Start(tmp_path_factory.mktemp("world"))


# --- banks --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_banks_that_do_not_fit(world, name):
    other = (TWO[0], replace(TWO[1], grid=3))
    cases = [({"data": configs.Data(world.folder / "nowhere")}, "nowhere: there is no finished bank"),
             ({"levels": other}, "made with levels whole 1x1 rotate, quarters 2x2 blank; expected: .*3x3"),
             ({"data": replace(world.data, encoder="resnet50-224")}, "with the encoder 'pixels-8'; expected: 'resnet50-224'"),
             ({"data": replace(world.data, val_split="test")}, "split 'test' is empty; expected: one of .*'val'"),
             ({"data": replace(world.data, train_split="all")}, "split 'all' is empty"),
             ({"data": replace(world.data, train_share=0.0)}, "train_share is 0")]
    for changes, words in cases:
        refused(call(name, world.config(name, "refused", **changes)), words)
    assert not (world.folder / "refused").exists()  # a refused first try does not claim the folder


def test_a_truncated_bank(world, tmp_path):
    shutil.copytree(world.bank.folder, tmp_path / "bank")
    path = tmp_path / "bank/features-00000.npy"
    path.write_bytes(path.read_bytes()[:-100])
    for name in COMMANDS:
        config = world.config(name, "truncated", data=configs.Data(tmp_path / "bank"))
        refused(call(name, config), "features-00000.npy: has .* bytes; expected: .* bytes; to fix: delete the folder")


def test_nan_in_a_bank(world, tmp_path, untrained):
    shutil.copytree(world.bank.folder, tmp_path / "bank")
    stored = np.lib.format.open_memmap(tmp_path / "bank/features-00000.npy", "r+")
    stored[:, :, 3] = np.nan
    stored.flush()
    data, words = configs.Data(tmp_path / "bank"), r"the bank \(patch_features\).*make it again with `kaleidobert records`"
    refused(call("retrieve", world.retrieve("nan", data=data)), "the model's output 'itm' is not finite", words)
    refused(call("classify", world.classify("nan-label", data=data)), "the model's output 'label' is not finite", words)
    done = call("pretrain", world.pretrain("nan-val", data=data))
    refused(done, "loss of the evaluation after step 2 is nan.*the pictures of the evaluation have broken features")
    assert not list(world.folder.glob("nan-*/best.npz"))


def test_nan_in_a_bank_stops_training_at_once(world, tmp_path):
    shutil.copytree(world.bank.folder, tmp_path / "bank")
    stored = np.lib.format.open_memmap(tmp_path / "bank/features-00000.npy", "r+")
    stored[:, -1, 3] = np.nan  # one number in one patch
    stored.flush()
    config = world.pretrain("nan-train", data=configs.Data(tmp_path / "bank"))
    refused(call("pretrain", config), f"{config.run}: the loss of step 1 is not finite", "input from the bank.*delete the bank")
    assert not list(config.run.glob("*.npz"))


def test_one_product_in_a_subcategory_and_labels_that_only_validation_has(tmp_path, untrained):
    source = tiny_catalogue(tmp_path / "catalogue", 16)

    def change(rows):
        train, val = ([row for row in rows if row["split"] == split] for split in ("train", "val"))
        train[0].update(subcategory="lonely", colour="mauve"), val[0].update(colour="ochre"), val[1].update(colour="")

    edit(source, change)
    world = World(tmp_path, TWO, make_bank(tmp_path / "bank", source, TWO))
    done = call("pretrain", world.pretrain())
    assert done.status == 0, done.err
    for name, config in (("retrieve", world.retrieve(epochs=1)), ("classify", world.classify(label="colour"))):
        done = call(name, config)
        assert done.status == 0, done.err
    assert "1 value(s) of 'colour' occur in 'val' only and count as wrong: ochre" in done.out
    outcome = results(tmp_path / "classify")["metrics"]
    assert outcome["present_but_not_trained"] == ["ochre"] and outcome["n"] == len(world.bank.rows("val")) - 1
    answers = (tmp_path / "classify/predictions.csv").read_text().splitlines()[1:]
    assert sum(",ochre," in line for line in answers) == 1 and not any(line.endswith(",ochre") for line in answers)


def test_labels_that_cannot_be_learnt(tmp_path):
    source = tiny_catalogue(tmp_path / "catalogue", 16)
    edit(source, lambda rows: [row.update(colour="red" if row["split"] == "train" else "navy") for row in rows])
    edit(source, lambda rows: [row.update(category=row["category"] if row["split"] == "train" else "") for row in rows])
    world = World(tmp_path, TWO, make_bank(tmp_path / "bank", source, TWO))
    for label, words in (("colour", r"'colour' has 1 class\(es\) in the training split: \['red'\]; expected: at least two"),
                         ("category", "no picture of 'val' has a 'category'"), ("size", "no label 'size'.*'colour'")):
        for flags in ([], ["--dry-run"]):
            refused(call("classify", world.classify(label=label, init=None, from_scratch=True), *flags), words)
    assert not (tmp_path / "classify").exists()


# --- configurations, checkpoints, run folders ---------------------------------------------------------------------------


@pytest.mark.parametrize("words, message", [
    (["train.batchsize=3"], "unknown key 'train.batchsize'.*did you mean 'train.batch_size'"),
    (["train.batch_size=many"], "train.batch_size is 'many'.*expected: a whole number"),
    (["train.batch_size=0"], "batch_size is 0; expected: at least 1"), (["train.save_every=0"], "save_every is 0"),
    (["train.epochs=-1"], "epochs is -1"), (["train.learning_rate=.nan"], "learning_rate is nan"),
    (["model.num_heads=0"], "num_heads is 0"),
    (["modality=sound"], "modality is 'sound'; expected: one of both, image, text"),
    (["levels=[{name: a, grid: 4, pretext: shuffle}]"], "4x4 'shuffle' has no usable number of classes"),
    (["batch"], "'batch' is not an override"),
])
def test_mistyped_words(world, words, message):
    refused(call("classify", world.classify("typed"), *words), message)


@pytest.mark.parametrize("name", COMMANDS)
def test_checkpoints_that_do_not_fit(world, tmp_path, name):
    (tmp_path / "text.npz").write_text("no checkpoint")
    make_bank(tmp_path / "other", world.source, TWO, 16)
    foreign = Bank(tmp_path / "other")
    foreign.index["files"]["vocab.txt"]["sha256"] = "0" * 64
    foreign.encoder = "resnet50-224"
    cases = {"nowhere.npz": "nowhere.npz: there is no such checkpoint", "text.npz": "text.npz: cannot be read",
             world.save(tmp_path / "wide.npz", hidden_size=32): r"not fit.*- hidden_size 32 \+ 16.*to fix: set the model's sizes",
             world.save(tmp_path / "words.npz", vocabulary_size=99): r"- vocabulary_size 99 \+ \d+",
             world.save(tmp_path / "foreign.npz", bank=foreign): r"- encoder resnet50-224 \+ pixels-8; - vocabulary_sha256 0+ \+",
             world.save(tmp_path / "grids.npz", levels=TWO[:1]): r"- levels \[\('whole', 1, 'rotate'\)\] \+ .*'quarters'"}
    for path, words in cases.items():
        for flags in ([], ["--dry-run"]):
            refused(call(name, world.config(name, "unfit", init=tmp_path / path), *flags), words)
    assert not (world.folder / "unfit").exists()


@pytest.mark.parametrize("name", ["classify", "retrieve"])
def test_random_starts_are_never_silent(world, name):
    for changes, words in (({"init": None}, "no pre-trained checkpoint is named.*from_scratch=true"),
                           ({"from_scratch": True}, "init, from_scratch: a checkpoint is named and from_scratch is true")):
        for flags in ([], ["--dry-run"]):
            refused(call(name, world.config(name, "random", **changes), *flags), words)
    untrained = {"init": None, "from_scratch": True, "train": replace(TRAIN, epochs=0)}
    refused(call(name, world.config(name, "random", **untrained)), "random weights and no training")
    assert not (world.folder / "random").exists()


def test_an_untrained_head_does_not_rank(world, tmp_path):
    label = world.save(tmp_path / "label.npz", head=partial(Classifier, num_classes=2))
    product = world.save(tmp_path / "product.npz", head=partial(Matcher, head="product"))
    for init, head, words in ((label, "plain", "no trained head_itm/bias, head_itm/kernel"),
                              (product, "plain", "no trained head_itm"), (world.best, "product", "no trained head_product")):
        refused(call("retrieve", world.retrieve("ranked", init=init, matching=configs.Matching(head))), words, "set train.epochs")
    refused(call("classify", world.classify("ranked", train=replace(TRAIN, epochs=0))), "no trained head_label/bias")
    assert not (world.folder / "ranked").exists()


def test_retrieval_settings(world):
    for changes, words in (({"num_candidates": 1}, "num_candidates is 1; expected: at least 2"),
                           ({"max_queries": 0}, "max_queries is 0"), ({"predict_batch_size": 0}, "predict_batch_size is 0"),
                           ({"subcategory": "kind"}, "no label 'kind'"),
                           ({"epochs": 1, "data": replace(world.data, train_share=0.1)}, r"2 group\(s\); expected: at least 4")):
        refused(call("retrieve", world.retrieve("settings", **changes)), words)
    assert not (world.folder / "settings").exists()


def test_pretraining_settings_are_checked_by_a_dry_run_too(world):
    for sampling, words in ((configs.Sampling(masking="alignment_guided"), "no alignment.*sampling.masking=random"),
                            (configs.Sampling(masking="random", subcategory="kind"), "no label 'kind'")):
        for flags in ([], ["--dry-run"]):
            refused(call("pretrain", world.pretrain("sampled", sampling=sampling), *flags), words)
    assert not (world.folder / "sampled").exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_run_folders_that_hold_something_else(world, name):
    folder = world.folder / f"taken-{name}"
    folder.mkdir()
    (folder / "photo.jpg").write_text("mine")
    (world.folder / f"file-{name}").write_text("mine")
    for flags in ([], ["--dry-run"]):
        refused(call(name, world.config(name, folder.name), *flags), "not empty and holds no run.*run=")
        refused(call(name, world.config(name, f"file-{name}"), *flags), "this is a file")
    (folder / "photo.jpg").unlink()
    (folder / "config.yaml").write_text(configs.dump(world.config(name, folder.name, train=replace(TRAIN, seed=8))))
    words = r"holds another run \(.*train.seed: 8 -> 0.*\).*choose another folder with run="
    refused(call(name, world.config(name, folder.name)), words)
    assert [path.name for path in folder.iterdir()] == ["config.yaml"]
