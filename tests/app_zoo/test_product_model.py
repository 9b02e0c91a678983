"""``kaleidobert.load``: answers in Python are those of the commands, whatever pictures and texts come as; which runs it takes."""

import csv
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax

import kaleidobert
from kaleidobert import configs, io
from kaleidobert.app_zoo import models, product_model, trained_runs
from kaleidobert.app_zoo.product_model import Pictures, ProductModel
from kaleidobert.datasets.products import read_image
from kaleidobert.datasets.sampling.finetuning import picture_inputs, text_inputs, text_lengths
from kaleidobert.datasets.sampling.pretraining import clean_batch
from kaleidobert.engines import steps
from kaleidobert.engines.prediction import PairScorer, Sides
from kaleidobert.errors import UserError
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import CONTRASTIVE_MATCH, matcher, pretrainer, rebuild
from kaleidobert.model_zoo.pairs import side_weights
from tests.support.apps_data import SIZES, TRAIN, World, call
from tests.support.quick import still
from tests.support.tables import TWO
from tests.support.tiny import tiny_bank

pytestmark = [pytest.mark.slow, pytest.mark.eager]

ROOT = Path(__file__).resolve().parents[2]
ONCE = replace(TRAIN, epochs=1)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    """A bank and finished runs: labels learnt from both sides, pictures (of one level) and texts, a matcher, two captioners."""
    folder = tmp_path_factory.mktemp("load")
    world = World(folder, TWO, tiny_bank(folder, TWO))
    matching = configs.Matching("dual_encoder", "listwise", 2, width=8)
    for name, config in (
        ("pretrain", world.pretrain(train=ONCE, losses=configs.Losses(itc_weight=1.0))),
        ("classify", world.classify("cat")),
        ("classify", world.classify("subcat", label="subcategory", modality="image", init=None, from_scratch=True, levels=TWO[1:])),
        ("classify", world.classify("colour", label="colour", modality="text", head="wide")),
        ("retrieve", world.retrieve("i2t", 1, matching=matching, dual_encoder=TRAIN)),
        ("caption", world.caption("refined", mode="mask-predict", held_out=0.0, train=ONCE)),
        ("caption", world.caption("chosen", mode="causal", held_out=0.0, train=ONCE,
                                  writing=configs.Writing(matcher=folder / "i2t/best.npz"))),
    ):
        with pytest.MonkeyPatch.context() as patch:
            if name in ("classify", "retrieve"):  # their answers differ enough as they start
                still(patch)
            done = call(name, config)
        assert done.status == 0, done.err
    return world


@pytest.fixture(scope="module")
def model(world) -> ProductModel:
    return kaleidobert.load(world.folder)


def rows_of(world, ids) -> np.ndarray:
    numbers = {image: row for row, image in enumerate(world.bank.column("image_id").tolist())}
    return np.array([numbers[image] for image in ids])


def paths(world, rows) -> list[str]:
    return [world.bank.table[row]["image_path"] for row in rows]


def texts(world, rows) -> list[str]:
    return world.bank.column("text")[rows].tolist()


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- The answers are those of the commands


@pytest.mark.parametrize("run, label", [("cat", "category"), ("subcat", "subcategory"), ("colour", "colour")])
def test_classes_are_those_of_classify(world, model, run, label):
    with open(world.folder / run / "predictions.csv", encoding="utf-8") as file:
        expected = list(csv.DictReader(file))
    rows = rows_of(world, [line["image_id"] for line in expected])
    given = {"cat": (paths(world, rows), texts(world, rows)), "subcat": (paths(world, rows), None), "colour": (None, texts(world, rows))}
    answers = model.classify(*given[run], label=label, top=99, batch_size=4)
    assert [answer[label][0][0] for answer in answers] == [line["prediction"] for line in expected]
    for answer in answers:
        names, probabilities = zip(*answer[label])
        assert sorted(names) == model.labels[label] and sum(probabilities) == pytest.approx(1) and list(probabilities) == sorted(
            probabilities, reverse=True)


def test_all_labels_at_once(world, model):
    rows = world.bank.rows("val")[:5]
    answers = model.classify(paths(world, rows), texts(world, rows), top=2)
    assert [list(answer) for answer in answers] == [["category", "subcategory", "colour"]] * 5
    for label, answer in answers[3].items():
        alone = model.classify(paths(world, rows)[3], texts(world, rows)[3], label)
        assert [name for name, _ in answer] == [name for name, _ in alone[0][label][:2]]


def test_matches_are_those_of_retrieve(world, model):
    found = lines(world.folder / "i2t/scores.jsonl")
    own = rebuild(checkpoints.load_meta(world.folder / "i2t/best.npz"))
    checkpoints.restore(world.folder / "i2t/best.npz", own)
    for line in found[:4]:
        picture, others = rows_of(world, [line["query"]]), rows_of(world, line["candidates"])
        logits = steps.forward(own)(clean_batch(world.bank, np.repeat(picture, len(others)), others))["itm"]
        np.testing.assert_allclose(logits[:, 1], line["scores"], rtol=1e-4, atol=1e-5)
        probabilities = model.match(paths(world, picture)[0], texts(world, others))
        assert probabilities.dtype == np.float32
        np.testing.assert_allclose(probabilities, softmax(logits, 1)[:, 1], rtol=1e-4)


@pytest.mark.parametrize("run", ["refined", "chosen"])
def test_captions_are_those_of_caption(world, run):
    found = lines(world.folder / run / "captions.jsonl")
    rows = rows_of(world, [line["image_id"] for line in found])
    model = kaleidobert.load(world.folder / run)
    assert model.caption(paths(world, rows), batch_size=3) == [line["caption"] for line in found]
    assert model.caption(model.of_bank(rows[:1])) == [found[0]["caption"]] and model.caption([]) == []


def test_vectors_multiply_to_what_the_logit_knows_of_the_sides(world, model):
    own, bank = model._matcher, world.bank
    own.get_layer(CONTRASTIVE_MATCH).gain.assign(-0.3)  # another sign than the towers'
    try:
        rows = world.bank.rows("val")
        fresh = kaleidobert.load(world.folder)
        fresh.__dict__["_matcher"] = own
        pictures, words = fresh.embed(paths(world, rows)), fresh.embed(texts=texts(world, rows))
        np.testing.assert_allclose(np.linalg.norm(np.concatenate([pictures, words]), axis=1), 1, rtol=1e-5)
        weights = side_weights(own)
        assert weights["contrast"] < 0 < weights["tower"] and pictures.shape[1] == 8 + SIZES.hidden_size
        sides = Sides(lambda some: picture_inputs(bank, some), lambda some: text_inputs(bank, some), text_lengths(bank))
        pairs = {}
        for head in ("dual_encoder", "contrastive"):
            both = PairScorer(own, sides, 64)
            (batch, answers), = both.answers(both.batches(rows, np.roll(rows, 1)))
            pairs[head] = answers[:, np.argsort(batch.pairs)]
        encoder_and_contrast, towers = pairs["dual_encoder"][1:]
        alone = np.array([steps.forward(own)(clean_batch(bank, rows, np.roll(rows, 1)))["own"][:, 1]]) - encoder_and_contrast
        np.testing.assert_allclose(alone, 0, atol=1e-4)
        products = (pictures * np.roll(words, 1, 0)).sum(1) * sum(map(abs, weights.values()))
        plain = matcher(models.backbone_of(fresh.runs["matcher"].meta), "plain")
        shared = {weight.path: weight for weight in own.weights}
        for weight in plain.weights:
            weight.assign(shared[weight.path])
        encoder = steps.forward(plain)(clean_batch(bank, rows, np.roll(rows, 1)))["itm"][:, 1]
        bias = float(own.get_layer(CONTRASTIVE_MATCH).bias)
        np.testing.assert_allclose(products, towers + encoder_and_contrast - encoder - bias, rtol=1e-3, atol=1e-4)
    finally:
        own.get_layer(CONTRASTIVE_MATCH).gain.assign(0.0)


# --- What pictures and texts come as


def test_pictures_and_texts_in_every_form(world, model):
    rows = world.bank.rows("val")[:3]
    files, words = paths(world, rows), texts(world, rows)
    expected = model.match(files, words)
    arrays = [read_image(path) for path in files]
    for form in (tuple(map(Path, files)), map(Image.open, files), arrays, np.stack(arrays), model.read(files), model.of_bank(rows)):
        np.testing.assert_allclose(model.match(form, tuple(words)), expected, rtol=1e-5)
    for one in (files[1], Path(files[1]), Image.open(files[1]), arrays[1], [files[1]]):
        np.testing.assert_allclose(model.match(one, words[1]), expected[1:2], rtol=1e-5)
    np.testing.assert_allclose(model.match(files, words[1])[1], expected[1], rtol=1e-5)
    np.testing.assert_allclose(model.match(files[1], words)[1], expected[1], rtol=1e-5)
    assert isinstance(model.read(files), Pictures) and len(model.read(files)) == 3


def test_batches_change_nothing(world, model):
    rows = world.bank.rows("val")
    pictures, words = model.of_bank(rows), texts(world, rows)
    for answer in (model.match, lambda *given, batch_size: model.embed(given[0], batch_size=batch_size),
                   lambda *given, batch_size: model.embed(texts=given[1], batch_size=batch_size)):
        whole = answer(pictures, words, batch_size=64)
        for size in (8, 20):
            np.testing.assert_allclose(answer(pictures, words, batch_size=size), whole, rtol=1e-4, atol=1e-6)
    assert model.match([], []).shape == (0,) and model.embed([]).shape == model.embed(texts=[]).shape == (0, model.embed(pictures).shape[1])
    assert model.match([], "red").shape == (0,) and model.classify([], [], "category") == []
    assert len(model.embed(texts="")) == len(model.match(pictures, "")) // len(rows) == 1


def test_batches_have_few_sizes():
    sizes = {len(filled) for count in range(1, 300) for _, filled in product_model._batches(count, 100)}
    assert sizes == {1, 4, 16, 64, 100}
    for chosen, filled in product_model._batches(150, 64):
        assert filled[: len(chosen)].tolist() == chosen.tolist() and set(filled[len(chosen) :]) <= {chosen[-1]}


def test_what_cannot_be_answered_is_refused_in_words(world, model, tmp_path):
    file, word = paths(world, [0])[0], texts(world, [0])[0]
    (tmp_path / "text.jpg").write_text("no picture")
    for ask, message in (
        (lambda: model.classify(file), "no texts are given, and the label 'category' was learnt from pictures and texts"),
        (lambda: model.classify(texts=word, label="subcategory"), "no pictures are given, and the label 'subcategory' was"),
        (lambda: model.classify(file, word, label="season"), "no run has learnt the label 'season'; expected: one of category"),
        (lambda: model.classify([file, file], [word] * 3), "2 pictures and 3 texts are given"),
        (lambda: model.classify([file, file], word), "2 pictures and 1 texts are given"),
        (lambda: model.match([file, file], [word] * 3), "2 pictures and 3 texts are given; .* or one picture or one text"),
        (lambda: model.match(file, word, batch_size=0), "batch_size is 0"),
        (lambda: model.match([file, tmp_path / "text.jpg"], word), "text.jpg: the picture cannot be decoded"),
        (lambda: model.match(None, word), "picture 1 of 1: a picture is a NoneType"),
        (lambda: model.match(b"\xff\xd8", word), "picture 1 of 1: a picture is a bytes"),
        (lambda: model.match(file, 7), "text 1 of 1: a text is a int"),
        (lambda: model.embed(), "neither pictures nor texts are given"),
        (lambda: model.embed(file, word), "pictures and texts are both given"),
    ):
        with pytest.raises(UserError, match=message):
            ask()


# --- Which runs it takes


def test_the_runs_are_named(world, model):
    shown = repr(model)
    for name in ("pretrain", "cat", "subcat", "colour", "i2t", "chosen"):
        assert str(world.folder / name) in shown
    assert "refined" not in shown  # an older captioner
    both = kaleidobert.load(world.folder / "refined", str(world.folder / "i2t/best.npz"))
    assert {head: run.folder.name for head, run in both.runs.items()} == {"captioner": "refined", "matcher": "i2t"}
    assert both.labels == {} and both.note == ""


def test_a_head_that_is_missing_says_which_run_it_needs(world):
    model, file = kaleidobert.load(world.folder / "subcat"), paths(world, [0])[0]
    for ask, command in ((lambda: model.match(file, "red"), "retrieve"), (lambda: model.embed(file), "retrieve"),
                         (lambda: model.caption(file), "caption")):
        with pytest.raises(UserError, match=f"subcat: no run of `kaleidobert {command}` is loaded; .*to fix: train one"):
            ask()
    with pytest.raises(UserError, match="no run of `kaleidobert classify` is loaded"):
        kaleidobert.load(world.folder / "i2t").classify(file)


def test_a_pretraining_matches_by_its_own_head(world, tmp_path):
    model, rows = kaleidobert.load(world.folder / "pretrain"), world.bank.rows("val")
    own = rebuild(checkpoints.load_meta(world.folder / "pretrain/best.npz"))
    checkpoints.restore(world.folder / "pretrain/best.npz", own)
    masked = {"masked_tokens": np.zeros((len(rows), 1), np.int32), "masked_patches": np.zeros((len(rows), 1), np.int32)}
    logits = steps.forward(own)({**clean_batch(world.bank, rows), **masked})["itm"]
    np.testing.assert_allclose(model.match(paths(world, rows), texts(world, rows)), softmax(logits, 1)[:, 1], rtol=1e-4)
    shutil.copy(world.folder / "pretrain/config.yaml", tmp_path)
    plain = pretrainer(models.backbone_config(world.bank, TWO, SIZES, TRAIN))
    checkpoints.save(tmp_path / "best.npz", plain, None, models.origin(plain, world.bank))
    with pytest.raises(UserError, match="the matching head 'plain' knows nothing of pictures and texts apart"):
        kaleidobert.load(tmp_path / "best.npz").embed(texts="red")


def test_what_is_no_run_is_refused(world, tmp_path):
    shutil.copytree(world.folder / "cat", tmp_path / "begun", ignore=shutil.ignore_patterns("results.json", "tensorboard"))
    shutil.copytree(world.folder / "cat", tmp_path / "files/run", ignore=shutil.ignore_patterns("tensorboard"))
    config = (tmp_path / "files/run/config.yaml").read_text()
    (tmp_path / "files/run/config.yaml").write_text(config.replace(f"bank: {world.folder / 'bank'}", "bank: null").replace(
        "files: null", f"files: {tmp_path / 'data.txt'}"))
    (tmp_path / "released").mkdir()
    (tmp_path / "released/model.ckpt-0.index").write_bytes(b"")
    shutil.copy(world.folder / "cat/best.npz", tmp_path / "alone.npz")
    for path, message in (
        (tmp_path / "nowhere", "there is no such run"), (tmp_path / "nowhere.npz", "there is no such checkpoint"),
        (world.folder / "bank", "no finished run is in this folder or below it; expected: runs of pretrain, classify, retrieve, caption"),
        (tmp_path / "begun", "the run has not finished"), (tmp_path / "alone.npz", "there is no config.yaml beside the checkpoint"),
        (tmp_path / "released", "this is a released checkpoint"), (tmp_path / "released/model.ckpt-0", "this is a released checkpoint"),
        (tmp_path / "files/run", "the run was trained on released files"),
    ):
        with pytest.raises(UserError, match=message):
            kaleidobert.load(path)
    with pytest.raises(UserError, match="no run is named"):
        kaleidobert.load()
    assert list(kaleidobert.load(tmp_path / "begun/best.npz").labels) == ["category"]


def test_runs_of_several_banks_are_refused_by_name(world, tmp_path):
    other = World(tmp_path, TWO, tiny_bank(tmp_path, TWO))
    own = models.origin(plain := matcher(models.backbone_config(other.bank, TWO, SIZES, TRAIN)), other.bank)
    (tmp_path / "other").mkdir()
    checkpoints.save(tmp_path / "other/best.npz", plain, None, own)
    io.write_text(tmp_path / "other/config.yaml", configs.dump(other.retrieve("other")))
    both = world.folder / "cat", tmp_path / "other/best.npz"
    with pytest.raises(UserError, match=rf"on 2 banks \({world.folder / 'bank'}: cat; {tmp_path / 'bank'}: other\)"):
        kaleidobert.load(*both)
    assert set(kaleidobert.load(*both, bank=tmp_path / "bank").runs) == {"label category", "matcher"}  # made alike
    (tmp_path / "bank").rename(tmp_path / "moved")
    with pytest.raises(UserError, match=f"{tmp_path / 'bank'}: the bank of the runs is not there; .*bank=FOLDER"):
        kaleidobert.load(both[1])
    assert kaleidobert.load(both[1], bank=tmp_path / "moved").match(paths(world, [0])[0], "red").shape == (1,)
    shorter = tiny_bank(tmp_path / "shorter", TWO, text_length=12)
    shorter.index["text"]["vocabulary"]["size"] -= 1
    index = shorter.folder / "index.json"
    io.write_json(index, shorter.index)
    with pytest.raises(UserError, match="cat/best.npz: the checkpoint .* does not fit .*vocabulary_size"):
        kaleidobert.load(world.folder / "cat", bank=shorter.folder)


def test_the_page_names_methods_that_exist():
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    named = {*re.findall(r"model\.(\w+)", page), *re.findall(r"^\| `(\w+)\(", page, re.M)}
    assert {"classify", "match", "embed", "caption", "read", "of_bank", "labels"} <= named <= set(dir(ProductModel))
    for block in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S):
        compile(block, "docs/python.md", "exec")


def test_importing_the_package_is_cheap():
    code = "import sys, kaleidobert; kaleidobert.load; sys.exit(any(name in sys.modules for name in ('keras', 'numpy', 'yaml')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_search_makes_an_index_of_the_run_once(world, capsys):
    folder = world.folder / "i2t"
    first = kaleidobert.load(folder).search("red tote", top=3)
    assert "of which 0 kept" in capsys.readouterr().out and (folder / "index/index.json").is_file()
    model = kaleidobert.load(folder)
    assert model.search("red tote", top=3) == first and not capsys.readouterr().out
    assert len({hit.product_id for hit in first}) == 3 and first[0].score >= first[1].score
    with pytest.raises(UserError, match="no product has the category 'shoes'"):
        model.search("red tote", filters={"category": "shoes"})


def test_a_run_that_only_evaluates_does_not_take_the_place_of_one_that_trained(world):
    runs = trained_runs.find([world.folder])
    [trained] = [run for run in runs if run.head == "matcher"]
    again = replace(trained, config=replace(trained.config, train=replace(trained.config.train, epochs=0.0)), finished=trained.finished + 9)
    assert trained_runs.newest([*runs, again])["matcher"] is trained
    assert trained_runs.newest([again])["matcher"] is again
