"""``kaleidobert export``: what it writes, what it refuses, and, where torch and transformers are at hand, that it answers as the model."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from kaleidobert import configs
from kaleidobert.app_zoo.export import parity, transformers_folder, weights
from kaleidobert.configs.export import ExportConfig
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.bank.queries import QueryReader
from kaleidobert.levels import KaleidoLevel
from kaleidobert.model_zoo import checkpoints, foreground_net, kaleidobert
from kaleidobert.preprocessors import encoders
from tests.support import checkpoint_data
from tests.support.apps_data import World, call, refused
from tests.support.export_data import PYTHON, make_run, needs_transformers, shake
from tests.support.network_data import TABLES, backbone
from tests.support.tiny import tiny_bank

pytestmark = pytest.mark.slow

LEVELS = (KaleidoLevel("turn", 1, "rotate"), KaleidoLevel("grey", 2, "grey", num_masked=2), KaleidoLevel("whole", 2, "none"))
CLASSES = ["bags", "tops"]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    """A bank, and a run of every kind and head, whose weights are random."""
    folder = tmp_path_factory.mktemp("export")
    world = World(folder, LEVELS, tiny_bank(folder, LEVELS))
    make_run(world, "pretrain", lambda arguments: kaleidobert.pretrainer(arguments, True), world.pretrain())
    for head in kaleidobert.MATCHING_HEADS:
        config = world.retrieve(head, matching=configs.Matching(head, width=8))
        make_run(world, "retrieve", lambda arguments, head=head: kaleidobert.matcher(arguments, head, 8), config)
    for name, options in (("plain", {}), ("wide", {"head": "wide"}), ("image", {"modality": "image", "levels": LEVELS[1:]}),
                          ("text", {"modality": "text", "head": "wide"})):
        config = world.classify(f"label-{name}", **options)
        make_run(world, "classify", lambda arguments, head=config.head: kaleidobert.classifier(arguments, 2, head=head), config,
                 label="category", classes=CLASSES)
    for mode in kaleidobert.CAPTION_MODES:
        make_run(world, "caption", lambda arguments, mode=mode: kaleidobert.captioner(arguments, mode), world.caption(mode, mode=mode))
    return world


RUNS = ("pretrain", *kaleidobert.MATCHING_HEADS, "label-plain", "label-wide", "label-image", "label-text", *kaleidobert.CAPTION_MODES)


def export(run: Path, out: Path, *words: str, **options):
    """The command in this process; without torch nothing is compared."""
    return call("export", ExportConfig(run=run, out=out, **{"check_rows": 0} | options), *words)


@pytest.fixture(scope="module")
def exported(world, tmp_path_factory):
    """A function: the name of a run -> the folder of its export, made once and not compared with the model."""
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("out") / name
            done = export(world.folder / name, made[name])
            assert done.status == 0, done.err
        return made[name]

    return get


# --- What is written


@pytest.mark.parametrize("run", RUNS)
def test_every_weight_stands_in_the_file_under_its_one_name(world, exported, run):
    model = kaleidobert.rebuild(checkpoints.load_meta(world.folder / run / "best.npz"))
    checkpoints.restore(world.folder / run / "best.npz", model)
    stored = load_file(exported(run) / "model.safetensors")
    known = weights.names(model.backbone.levels, model.backbone.num_layers)
    assert len(stored) == len(model.weights) and {known[weight.path] for weight in model.weights} == stored.keys()
    for weight in model.weights:
        array = np.asarray(weight)
        np.testing.assert_array_equal(stored[known[weight.path]], array.T if weight.path.endswith("kernel") else array, weight.path)


def test_the_folder_says_how_it_is_read(world, exported):
    folder = exported("label-image")
    config = json.loads((folder / "config.json").read_text())
    assert config["auto_map"]["AutoModel"] == "modeling_kaleido_bert.KaleidoBertForClassification"
    assert config["id2label"] == {"0": "bags", "1": "tops"} and config["num_hidden_layers"] == 1
    assert [(level["name"], level["answer"]) for level in config["levels"]] == [("grey", "feature"), ("whole", "")]
    assert config["patch_encoder"] == {"name": "pixels", "size": 8, "storage": "float16"}
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    assert processor["foreground"] == {"method": "border", "margin": 0.03, "tolerance": 12.0} and processor["reads"] == "image"
    names = {"config.json", "model.safetensors", "modeling_kaleido_bert.py", "processing_kaleido_bert.py", "preprocessor_config.json",
             "vocab.txt", "tokenizer.json", "tokenizer_config.json", "README.md", "export.json"}
    assert {path.name for path in folder.iterdir()} == names
    card = (folder / "README.md").read_text()
    assert "library_name: transformers" in card and "inputs = processor(images=[picture])" in card and str(world.folder) not in card


def test_texts_are_split_as_the_bank_splits_them(world, exported):
    texts = ["Red TOTE with stripes", "caf\u00e9 [MASK] t-shirt, 100% linen!", "", " ".join(["navy clutch"] * 20)]
    fast = Tokenizer.from_file(str(exported("plain") / "tokenizer.json"))
    ids, _ = world.bank.tokenizer().encode(texts, world.bank.text_length)
    for row, encoding in zip(ids, fast.encode_batch(texts)):
        assert encoding.ids == row[row != world.bank.vocabulary.pad].tolist()


def test_files_are_the_same_every_time(world, exported, tmp_path):
    assert export(world.folder / "plain", tmp_path / "again").status == 0
    for path in exported("plain").iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_what_a_killed_export_left_goes(world, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(transformers_folder.io, "atomic", lambda path: pytest.fail("killed"))
        patch.setattr(shutil, "rmtree", lambda *words, **options: None)
        with pytest.raises(pytest.fail.Exception):
            export(world.folder / "plain", tmp_path / "out")
    left = set(tmp_path.glob(".out*"))
    assert left
    done = export(world.folder / "plain", tmp_path / "out")
    assert done.status == 0 and not set(tmp_path.glob(".out*")), done.err


def test_a_dry_run_writes_nothing(world, tmp_path):
    done = export(world.folder / "plain", tmp_path / "out", "--dry-run")
    assert done.status == 0 and "model.safetensors" in done.out and not (tmp_path / "out").exists()


def test_a_released_checkpoint_becomes_a_model_that_takes_features(tmp_path):
    checkpoint_data.write(tmp_path / "model.ckpt-0")
    done = export(tmp_path, tmp_path / "out")
    assert done.status == 0, done.err
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"config.json", "model.safetensors", "modeling_kaleido_bert.py", "README.md", "export.json"}  # no vocabulary is known
    stored = load_file(tmp_path / "out/model.safetensors")
    query = checkpoint_data.released_small()[0][f"{checkpoint_data.FIRST}bert/encoder/layer_1/attention/self/query/kernel"]
    np.testing.assert_array_equal(stored["kaleido_bert.layers.1.query.weight"].T, query)


def test_without_pictures_the_processor_stays_away(world, tmp_path):
    done = export(world.folder / "dual_encoder", tmp_path / "out", pictures=False)
    assert done.status == 0 and "features of patches" in done.out
    assert not (tmp_path / "out/preprocessor_config.json").exists() and (tmp_path / "out/tokenizer.json").is_file()


# --- What is refused


def test_an_export_is_checked_again_and_never_written_over(world, exported, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(exported("plain"), folder)
    assert "nothing is written" in export(world.folder / "plain", folder).out
    refused(export(world.folder / "product", folder), "another model")
    refused(export(world.folder / "plain", folder, pictures=False), "other settings")
    refused(export(world.folder / "plain", world.folder / "catalogue"), "holds no export")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-9] + b"\0" * 9)
    refused(export(world.folder / "plain", folder), "weights are damaged", "model.safetensors", "export again")
    (folder / "model.safetensors").write_bytes(content)
    (folder / "vocab.txt").write_text((folder / "vocab.txt").read_text().replace("tote", "bags"))
    refused(export(world.folder / "plain", folder), "another vocabulary", "vocab.txt")
    (folder / "vocab.txt").unlink()
    refused(export(world.folder / "plain", folder), "missing", "vocab.txt")


@pytest.mark.parametrize("encoder, words", [
    ({"name": "mobilenet_v2", "size": 32}, ("mobilenet_v2", "pixels or efficientnet_lite0", "pictures=false")),
    ({"name": "efficientnet_lite0", "size": 64, "small_size": 32}, ("small_size is 32", "one size")),
    ({"name": "efficientnet_lite0", "size": 64, "precision": "mixed_bfloat16"}, ("mixed_bfloat16", "float32"))])
def test_pictures_that_the_export_cannot_read_are_refused(world, tmp_path, monkeypatch, encoder, words):
    monkeypatch.setattr(QueryReader, "__init__", lambda self, bank, *rest: self.__dict__.update(
        bank=bank, note="", config=world.records(encoder=configs.Encoder(**encoder))))
    refused(export(world.folder / "plain", tmp_path / "out"), *words)
    assert export(world.folder / "plain", tmp_path / "out", pictures=False).status == 0


def test_what_is_no_one_model_is_refused(world, tmp_path):
    refused(export(world.folder, tmp_path / "out"), "holds 12 runs", "name it")
    refused(export(tmp_path / "nothing", tmp_path / "out"), "no such run")
    refused(export(world.folder / "plain", tmp_path / "out", bank=tmp_path), "bank of the run is not there", "bank=FOLDER")
    nowhere = {"check_rows": 1, "python": tmp_path / "python"}
    refused(export(world.folder / "plain", tmp_path / "out", **nowhere), "there is no .*python", "correct python")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_a_head_without_a_place_is_refused():
    model = kaleidobert.Matcher(backbone())
    model.get_layer("head_itm").kernel._path = "head_new/kernel"
    with pytest.raises(Exception, match="no place for head_new/kernel"):
        weights.of_model(model)


def test_a_level_may_have_any_name():
    model = shake(kaleidobert.Pretrainer(backbone("renamed")))
    assert len(weights.of_model(model)) == len(model.weights) and len(TABLES["renamed"]) == 3


def test_without_torch_it_says_what_is_missing(world, tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "lacking", lambda python: "torch is not installed: " + parity.EXTRA)
    done = export(world.folder / "plain", tmp_path / "out", check_rows=2)
    assert done.status == 0 and "not compared with the model: torch is not installed" in done.out
    assert (tmp_path / "out/model.safetensors").is_file()


# --- Its answers are the model's, by torch and transformers alone


@needs_transformers
@pytest.mark.parametrize("run", RUNS)
def test_answers_are_those_of_the_model(world, tmp_path, run):
    done = export(world.folder / run, tmp_path / run, check_rows=3, python=PYTHON)
    assert done.status == 0, done.err
    lines = done.out[done.out.index("its answers are the model's:") :]
    assert "features: " in lines and ("0.00% differ" in lines or run == "label-text" and "pictures: label" in lines)
    assert ("captions, the same 3" in lines) == (run in kaleidobert.CAPTION_MODES)


@needs_transformers
def test_a_released_checkpoint_answers_as_ours_does(tmp_path):
    checkpoint_data.write(tmp_path / "model.ckpt-0")
    done = export(tmp_path, tmp_path / "out", check_rows=3, python=PYTHON)
    assert done.status == 0 and "features: blank" in done.out, done.err


@needs_transformers
def test_wrong_weights_are_noticed_and_nothing_is_left(world, tmp_path, monkeypatch):
    right = weights.of_model
    monkeypatch.setattr(weights, "of_model", lambda model: {name: array + 1e-3 if name == "itm_head.bias" else array
                                                             for name, array in right(model).items()})
    refused(export(world.folder / "plain", tmp_path / "out", check_rows=2, python=PYTHON), "differ by 1.0e-03", "at most 2e-05")
    monkeypatch.setattr(weights, "of_model", lambda model: {name: array for name, array in right(model).items()
                                                             if name != "itm_head.bias"})
    refused(export(world.folder / "plain", tmp_path / "out", check_rows=2, python=PYTHON), "cannot load", "itm_head.bias")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out.*tmp"))


@needs_transformers
def test_a_file_that_is_cut_off_is_one_message(world, exported, tmp_path):
    shutil.copytree(exported("plain"), tmp_path / "out")
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "out/model.safetensors")
    for content in ((tmp_path / "out/model.safetensors").read_bytes(), b"\1\2"):
        (tmp_path / "out/model.safetensors").write_bytes(content)
        with pytest.raises(Exception, match="transformers cannot load the export"):
            parity.ask(tmp_path / "out", {"token_ids": np.array([[2, 3]])}, [], [], PYTHON)


@needs_transformers
@pytest.mark.parametrize("method", ["network", "none"])
def test_foregrounds_and_patches_are_those_of_a_bank(world, exported, tmp_path, method):
    """With the weights of the networks, and of a larger picture than the bank's, to which the network's answer is scaled."""
    made = world.records(f"made-{method}", foreground=configs.Foreground(method),
                         encoder=configs.Encoder("efficientnet_lite0", 32, turned="square", folded=True))
    assert call("records", made).status == 0
    whole = world.pretrain(f"of-{method}", data=configs.TrainingData(made.bank))
    make_run(world, "pretrain", kaleidobert.pretrainer, whole)
    done = export(whole.run, tmp_path / "out", check_rows=4, python=PYTHON)
    assert done.status == 0 and "boxes are the same" in done.out, done.err
    reader = QueryReader(Bank(made.bank), encoders.build, foreground_net.build)
    rng = np.random.default_rng(0)
    picture = np.full((500, 380, 3), 235, np.uint8)
    picture[90:400, 120:260] = rng.integers(0, 120, (310, 140, 3))
    ours = reader.pictures([picture])
    theirs = parity.ask(tmp_path / "out", {}, [picture], [], PYTHON)
    np.testing.assert_array_equal(theirs["pictures/patch_boxes"], ours["patch_boxes"])
    np.testing.assert_allclose(theirs["pictures/patch_features"], ours["patch_features"], rtol=2e-3, atol=1e-3)
