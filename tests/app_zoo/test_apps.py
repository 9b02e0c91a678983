"""Every command from its command line to its run folder, on several level tables."""

import csv
import json
from dataclasses import fields, replace

import numpy as np
import pytest
from PIL import Image

from kaleidobert import __version__, cli, configs
from kaleidobert import levels as kaleido
from kaleidobert.app_zoo import commands, models
from kaleidobert.configs import loader
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sampling.finetuning import modality_inputs
from kaleidobert.datasets.sampling.pretraining import clean_batch
from kaleidobert.datasets.sources.table import TableSource
from kaleidobert.engines import steps
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import classifier
from tests.support.apps_data import SIZES, TRAIN, World, call, results
from tests.support.tables import ALL
from tests.support.tiny import COLUMNS, tiny_bank

pytestmark = pytest.mark.slow

# by level table; six levels are pre-trained in tests/test_extending.py
MODALITIES = {"kaleido": "both", "two": "image", "classes": "text", "bare": "both"}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """A function: name of a level table -> its World with a finished pre-training run, what it printed as ``done``."""
    made = {}

    def get(name: str) -> World:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            made[name] = World(folder, ALL[name], tiny_bank(folder, ALL[name]))
            made[name].done = call("pretrain", made[name].pretrain())
        return made[name]

    return get


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.plotted if name == "kaleido" else pytest.mark.eager) for name in MODALITIES])
def world(request, worlds) -> World:
    world = worlds(request.param)
    world.name = request.param
    return world


@pytest.fixture
def two(worlds) -> World:
    return worlds("two")


def test_pretraining_writes_what_it_promises(world):
    run = world.folder / "pretrain"
    assert world.done.status == 0
    charts = ("losses.png",) if world.name == "kaleido" else ()
    for name in ("config.yaml", "metrics.jsonl", "results.json", "last.npz", "best.npz", *charts):
        assert (run / name).stat().st_size > 0 and str(run) in world.done.out
    assert list((run / "tensorboard").glob("events*"))
    assert all(f"{run / name}" in world.done.out for name in ("best.npz", "last.npz", "losses.png"))
    for name in charts:
        Image.open(run / name).verify()
    outcome, rows = results(run), [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert outcome["steps"] == 4 and outcome["config"] == configs.to_dict(world.pretrain())
    assert [row["step"] for row in rows if row["split"] == "train"] == [2, 4]  # at checkpoints and at ends of epochs
    assert [row["step"] for row in rows if row["split"] == "held_out"] == [2, 4] and {row["split"] for row in rows} == {"train", "held_out"}
    assert not any(name.startswith(f"{level.name}_") for level in world.levels if not level.answer for row in rows for name in row)
    for level in kaleido.target_levels(world.levels):
        metrics = {"class": {f"{level.name}_loss", f"{level.name}_accuracy"}, "feature": {f"{level.name}_kl"}}[level.answer]
        assert metrics <= outcome["metrics"].keys() and metrics <= outcome["baselines"].keys()
        assert all(any(name in row for name in metrics) for row in rows) and all(name in world.done.out for name in metrics)
    assert configs.load(configs.PretrainConfig, run / "config.yaml") == world.pretrain()
    last, best = (checkpoints.load_meta(run / name) for name in ("last.npz", "best.npz"))
    losses = {row["step"]: row["loss"] for row in rows if row["split"] == "held_out"}
    assert last["step"] == 4 and best["loss"] == last["best"] == losses[best["step"]] == min(losses.values())
    assert outcome["best_step"] == best["step"] and outcome["metrics"]["loss"] != best["loss"]  # that of the validation split
    assert best["encoder"] == "pixels-8" and best["vocabulary_sha256"] == world.bank.identity["vocabulary_sha256"]


def test_classify(world, request):
    modality = MODALITIES[world.name]
    if world.name != "kaleido":  # what is trained has nothing to do with levels
        request.getfixturevalue("untrained")
    done = call("classify", world.classify(modality=modality, baselines=world.name == "kaleido"))
    run = world.folder / "classify"
    assert done.status == 0 and str(run) in done.out and f"category ({modality})" in done.out and "head_label" in done.out
    charts = ("losses.png", "confusion.png") if world.name == "kaleido" else ()
    for name in ("config.yaml", "metrics.jsonl", "last.npz", "best.npz", "classes.csv", *charts):
        assert (run / name).stat().st_size > 0
    outcome, answers = results(run), list(csv.DictReader((run / "predictions.csv").read_text().splitlines()))
    assert [row["image_id"] for row in answers] == world.bank.column("image_id")[world.bank.rows("val")].tolist()
    assert [row["label"] for row in answers] == world.bank.column("category")[world.bank.rows("val")].tolist()
    share = np.mean([row["label"] == row["prediction"] for row in answers])
    kept = checkpoints.load_meta(run / "best.npz")
    assert outcome["metrics"]["accuracy"]["value"] == pytest.approx(share) == kept["accuracy"]
    assert kept["step"] == outcome["steps"] and kept["classes"] == ["bags", "tops"] and outcome["modality"] == modality
    linear = {"logistic_regression_image", "logistic_regression_text"}
    assert linear <= outcome["baselines"].keys() if world.name == "kaleido" else not outcome["baselines"]
    for name, values in outcome["baselines"].items():
        assert values.keys() == {"accuracy", "macro_f1_all"} and all(0 <= value <= 1 for value in values.values()) and name in done.out


def test_retrieve_with_the_head_of_pretraining(world):
    direction = "t2i" if world.name == "two" else "i2t"
    done = call("retrieve", world.retrieve(direction=direction, predict_batch_size=16))
    run = world.folder / "retrieve"
    assert done.status == 0 and str(run) in done.out and f"{direction} rank@1" in done.out
    lines = [json.loads(line) for line in (run / "scores.jsonl").read_text().splitlines()]
    drawn = [json.loads(line) for line in (run / "candidates.jsonl").read_text().splitlines()][1:]
    assert [line["candidates"] for line in lines] == [line["candidates"] for line in drawn] and len(lines) == 8
    for line in lines:
        assert len(line["scores"]) == len(set(line["candidates"])) == 5 and sum(line["relevant"]) >= 1
    firsts = np.mean([line["relevant"][int(np.argmax(line["scores"]))] for line in lines])
    outcome = results(run)
    assert outcome["metrics"]["rank@1"]["value"] == pytest.approx(firsts) and outcome["direction"] == direction
    with np.load(world.best) as start, np.load(run / "best.npz") as used:  # nothing was trained
        weights = [name for name in used.files if name.endswith("kernel")]
        assert weights and all(np.array_equal(start[name], used[name]) for name in weights)
    assert not (run / "last.npz").exists() and not (run / "metrics.jsonl").exists()


@pytest.mark.eager
def test_pretraining_from_a_checkpoint(two, monkeypatch):
    monkeypatch.setattr(steps, "train_step", lambda *arguments: lambda *batch: {"loss": 0.0})  # changes no weight
    done = call("pretrain", two.pretrain("again", init=two.best, train=replace(TRAIN, epochs=0.1, seed=5)))
    assert done.status == 0 and f"weights from {two.best}\n" in done.out
    with np.load(two.best) as start, np.load(two.folder / "again/last.npz") as end:
        weights = [name for name in start.files if name.startswith("model/") and "seed_generator" not in name]
        assert all(np.array_equal(start[name], end[name]) for name in weights)


@pytest.mark.parametrize("head, objective, other, new", [
    pytest.param("product", "listwise", "t2i", "head_product", marks=pytest.mark.plotted),
    pytest.param("dual_encoder", "listwise", None, "head_contrastive, head_contrastive_match, head_towers", marks=pytest.mark.eager),
])
def test_a_finetuned_head_ranks_again_without_training(two, head, objective, other, new, request):
    if head == "dual_encoder":  # test_heads trains it
        request.getfixturevalue("untrained")
    matching = configs.Matching(head, objective, 2)
    done = call("retrieve", two.retrieve(head, 1, matching=matching, baselines=True))
    run = two.folder / head
    assert done.status == 0 and f"new: {new}\n" in done.out and "ridge" in done.out
    charts = ("losses.png", "ranks.png") if head == "product" else ()
    assert all((run / name).stat().st_size for name in ("metrics.jsonl", "last.npz", "best.npz", *charts))
    first = results(run)
    assert {"subcategory_oracle", "ridge"} <= first["baselines"].keys()
    again = call("retrieve", two.retrieve(f"{head}-again", matching=matching, init=run / "best.npz"))
    assert again.status == 0 and "new:" not in again.out
    assert results(two.folder / f"{head}-again")["metrics"] == first["metrics"]
    if other:
        turned = call("retrieve", two.retrieve(f"{head}-{other}", matching=matching, init=run / "best.npz", direction=other))
        assert turned.status == 0 and results(two.folder / f"{head}-{other}")["candidates"]["direction"] == other


def test_dropout_and_seed_of_a_run_are_its_own(two):
    """Sizes come from the checkpoint; what shapes this run's training comes from this run's configuration."""
    config = two.classify(model=replace(SIZES, dropout=0.4, attention_dropout=0.0), train=replace(TRAIN, seed=9))
    backbone = models.start(lambda arguments: classifier(arguments, 2), config, two.bank).backbone
    assert (backbone.dropout, backbone.attention_dropout, backbone.seed) == (0.4, 0.0, 9)


def test_modalities_hide_the_other_side(two):
    rows, vocabulary = two.bank.rows("val"), two.bank.vocabulary
    both, image, text = (modality_inputs(two.bank, rows, modality) for modality in ("both", "image", "text"))
    assert all(np.array_equal(both[name], array) for name, array in clean_batch(two.bank, rows).items())
    assert image["token_ids"].tolist() == [[vocabulary.start, vocabulary.end]] * len(rows) and image["token_mask"].all()
    assert np.array_equal(image["patch_features"], both["patch_features"]) and both["patch_features"].any()
    assert np.array_equal(text["token_ids"], both["token_ids"])
    assert not text["patch_features"].any() and not text["patch_boxes"].any()


def test_records(two):
    done = call("records", two.records())
    assert done.status == 0 and str(two.folder / "made") in done.out and "32 pictures" in done.out
    bank = Bank(two.folder / "made")
    assert (bank.size, bank.text_length, bank.feature_size, bank.encoder) == (32, 12, 48, "pixels-4")
    again = call("records", two.records())
    assert again.status == 0 and again.out == done.out


def test_synthesize_then_records(two):
    done = call("synthesize", two.synthesize())
    table = two.folder / "drawn/products.jsonl"
    assert done.status == 0 and str(table) in done.out
    columns = replace(COLUMNS, id="product_id", labels={"subcategory": "subcategory"})
    assert call("records", two.records("drawn-bank", source=TableSource(table, columns))).status == 0
    assert Bank(two.folder / "drawn-bank").size == 10


def test_inspect(two):
    done = call("inspect", two.inspect())
    assert done.status == 0 and str(two.folder / "pages/index.html") in done.out and results(two.folder / "pages")


def test_dry_runs_write_nothing_and_print_sizes(two):
    before = {path: path.stat().st_mtime_ns for path in two.folder.rglob("*") if path.suffix != ".yaml"}
    for name, config in two.all().items():
        done = call(name, config, "--dry-run")
        assert done.status == 0, done.err
        assert any(word in done.out for word in ("pictures", "pages", "files"))
        for field in fields(config):
            assert f"\n{field.name}:" in f"\n{done.out}"  # the resolved configuration
    assert {path: path.stat().st_mtime_ns for path in two.folder.rglob("*") if path.suffix != ".yaml"} == before


@pytest.mark.parametrize("name", commands.every())
def test_help_names_every_key(name, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([name, "--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0 and "--dry-run" in text
    example = text.partition(f"\nexample: kaleidobert {name} ")[2].split()[0]
    named = text.partition("\nconfigurations by name:")[2]
    row = commands.every()[name]
    takes = row.takes_folders or row.takes_query or row.leading
    assert takes or example in loader.packaged_of_command(name) and f" {example}" in named
    for field in fields(commands.config_class(name)):
        assert f"  {field.name}:" in text


def test_version_and_no_command(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert end.value.code == 0 and capsys.readouterr().out == f"kaleidobert {__version__}\n"
    with pytest.raises(SystemExit) as end:
        cli.main([])
    text = capsys.readouterr().out
    assert end.value.code == 0 and all(name in text for name in commands.every())
