"""The commands on released files: golden scores and counts through the command line, runs that are continued, and refusals."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kaleidobert import cli, configs
from kaleidobert.app_zoo import models, released_runs
from kaleidobert.app_zoo import pretrain as app
from kaleidobert.engines import steps
from kaleidobert.errors import UserError
from kaleidobert.evaluators.files.scores import read_released, released_line
from kaleidobert.levels import KALEIDO, KaleidoLevel
from kaleidobert.losses import pretraining as losses
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import pretrainer, rebuild
from kaleidobert.released import counting
from kaleidobert.released import rows as released_rows
from tests.engines.test_resume import same_run
from tests.support import golden_data, released_data, released_writer
from tests.support.apps_data import SIZES, call, refused, results
from tests.support.golden_data import GOLDEN, needs_golden
from tests.support.released_data import TEXT, VOCABULARY

pytestmark = [pytest.mark.slow, pytest.mark.eager]

G4 = GOLDEN / "G4"
TRAIN = configs.Train(epochs=2, batch_size=4, learning_rate=1e-2, save_every=1)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with files of every task."""
    folder = tmp_path_factory.mktemp("files")
    for task in ("pretrain", "finetune", "retrieve"):
        released_data.write(folder / task, task, 8, "train", seed=1)
        released_data.write(folder / task, task, 6, "val", seed=2)
    return folder


def data(folder, task, val=True, **changes):
    options = {"files": folder / task / "train.list_csv", "schema": str(released_data.schema(task)), "vocabulary_size": VOCABULARY}
    options |= {"val_files": folder / task / "val.list_csv"} if val else {}
    return configs.TrainingData(**options | changes)


def pretrain(world, run, **changes):
    options = {"data": data(world, "pretrain"), "levels": KALEIDO, "model": SIZES, "train": TRAIN} | changes
    return configs.PretrainConfig(world / run, **options)


def classify(world, run, **changes):
    options = {"data": data(world, "finetune"), "label": "subcategory", "model": SIZES, "train": TRAIN, "from_scratch": True} | changes
    return configs.ClassifyConfig(world / run, **options)


def retrieve(world, run, **changes):
    options = {"data": data(world, "retrieve", False), "direction": "i2t", "model": SIZES, "init": world / "start/best.npz",
               "predict_batch_size": 3} | changes
    return configs.RetrieveConfig(world / run, **options)


@pytest.fixture(scope="module")
def start(world):
    """A pre-training run on files."""
    done = call("pretrain", pretrain(world, "start"))
    assert done.status == 0, done.err
    return world / "start"


# --- golden -----------------------------------------------------------------------------------------------------------


def g4(run: Path, *words: str) -> int:
    """`kaleidobert retrieve configs/released/i2t.yaml` on golden/G4."""
    (run.parent / "list.list_csv").write_text(f"7\n\n{G4 / 'data/retrieve_i2t__a'}\n  {G4 / 'data/retrieve_i2t__b'}\n")
    sizes = ("hidden_size=16", "num_layers=2", "num_heads=2", "intermediate_size=32")
    return cli.main(["retrieve", str(ROOT / "configs/released/i2t.yaml"), f"run={run}", f"data.files={run.parent / 'list.list_csv'}",
                     f"init={G4 / 'ckpt/kaleidobert.ckpt-7'}", "data.vocabulary_size=200", *(f"model.{size}" for size in sizes), *words])


@needs_golden
@pytest.mark.eager(False)
def test_golden_retrieval_through_the_command_line(tmp_path, capsys):
    assert g4(tmp_path / "run", "predict_batch_size=4") == 0
    golden = json.loads((G4 / "e2e_retrieval_nsp.json").read_text())
    pairs = read_released(tmp_path / "run/result_img2txt.txt")
    assert [f"{text}|{product}" for text, product in zip(pairs.texts, pairs.products)] == list(golden)
    golden_data.close(pairs.logits, [value["nsp_logits"] for value in golden.values()], golden_data.LOGITS)
    assert pairs.labels.tolist() == [value["label"] for value in golden.values()] and pairs.pictures[0] == "IMG0_0"
    rows = [json.loads(line) for line in (tmp_path / "run/scores.jsonl").read_text().splitlines()]
    assert [row["query"] for row in rows] == ["IMG0", "IMG1"] and rows[1]["relevant"] == [1, 0, 0]
    assert np.array_equal(np.float32(rows[0]["scores"]), pairs.logits[:3, 1])
    counted = results(tmp_path / "run")["released_counting"]
    assert counting.released_report(counted) in capsys.readouterr().out and counted["right"] == 4 and counted["rank@5"] == 2 / (2 + 1e-5)


@needs_golden
@pytest.mark.eager(False)
def test_golden_loss_of_the_evaluation_through_the_command_line(tmp_path, capsys):
    """The released evaluation's loss: `kaleidobert pretrain configs/released/pretrain.yaml` on golden/G4, at a rate of next to 0."""
    files = _list(tmp_path, G4 / "data/pretrain_train__a", G4 / "data/pretrain_train__b")
    sizes = ("hidden_size=16", "num_layers=2", "num_heads=2", "intermediate_size=32")
    words = [f"run={tmp_path / 'run'}", f"data.files={files}", f"data.val_files={files}", f"init={G4 / 'ckpt/kaleidobert.ckpt-7'}",
             "data.vocabulary_size=200", "train.epochs=1", "train.batch_size=4", "train.learning_rate=1e-30"]
    assert cli.main(["pretrain", str(ROOT / "configs/released/pretrain.yaml"), *words, *(f"model.{size}" for size in sizes)]) == 0
    found = results(tmp_path / "run")["metrics"]
    assert found["loss"] == pytest.approx(17.817453, abs=1e-5)
    assert found["grey_joint_kl"] == pytest.approx(-0.029785, abs=1e-5) and found["grey_kl"] == pytest.approx(0.633186, abs=1e-5)
    assert "grey_joint_kl" in capsys.readouterr().out


@needs_golden
@pytest.mark.parametrize(("direction", "name"), [("i2t", "img2txt"), ("t2i", "txt2img")])
def test_golden_analysis_to_the_last_digit(direction, name, capsys):
    path = G4 / "analysis/result_img2txt.txt"
    assert counting.main([str(path), direction]) == 0
    expected = (G4 / f"analysis/result_img2txt.{name}.stdout.py37.txt").read_text()
    assert capsys.readouterr().out.startswith(expected)


@needs_golden
def test_a_result_file_is_written_as_the_release_wrote_it():
    path = G4 / "analysis/result_img2txt.txt"
    pairs, first, again = read_released(path), 0, []
    for line in path.read_text().splitlines():
        part = slice(first, first + line.count("['TXT"))
        ids = pairs.texts[part], pairs.products[part], pairs.pictures[part]
        again.append(released_line(*ids, pairs.labels[part], pairs.logits[part]))
        first = part.stop
    assert again == path.read_text().splitlines() and first == 293


@needs_golden
def test_35_positions_are_refused_by_the_command(tmp_path):
    config = configs.PretrainConfig(tmp_path / "run", configs.TrainingData(
        files=_list(tmp_path, G4 / "data/pretrain_published35"), val_files=_list(tmp_path, G4 / "data/pretrain_published35"),
        schema=json.loads((G4 / "schemas.json").read_text())["pretrain_published35"], vocabulary_size=200), model=SIZES_64, train=TRAIN)
    for words in ((), ("--dry-run",)):
        place = "pretrain_published35, line 1, column 'img_loc_position_camouflage'"
        refused(call("pretrain", config, *words), f"{place}: holds 35 numbers; expected: 45")


FINER = (*KALEIDO, KaleidoLevel("fine", 6, "blank", num_masked=4))
SIZES_64 = replace(SIZES, max_positions=64)


@needs_golden
@pytest.mark.parametrize("published", ["", "pretrain_published35"])
def test_45_positions_pass_under_either_schema(tmp_path, published):
    schema = json.loads((G4 / "schemas.json").read_text()).get(published, "")
    files = _list(tmp_path, G4 / "data/pretrain_train__a", G4 / "data/pretrain_train__b")
    source = configs.TrainingData(files=files, val_files=files, schema=schema, vocabulary_size=200)
    config = configs.PretrainConfig(tmp_path / "run", source, model=SIZES_64, train=TRAIN)
    done = call("pretrain", config, "--dry-run")
    assert done.status == 0 and "2 file(s), 0.00292 GB, about 6 rows" in done.out


def _list(folder: Path, *paths: Path) -> Path:
    released_writer.write_list(folder / "files.list_csv", paths)
    return folder / "files.list_csv"


# --- runs -------------------------------------------------------------------------------------------------------------


def test_pretraining_from_files(world, start):
    report = results(start)
    assert report["steps"] == 5 and report["bank"]["train"]["rows"] == 8 and report["bank"]["val"]["rows"] == 6
    names = {"mlm_loss", "itm_accuracy", "rotation_accuracy", "jigsaw_loss", "camouflage_loss", "grey_kl", "blank_kl", "loss"}
    assert names <= report["metrics"].keys()
    assert {"mlm_accuracy", "grey_kl", "blank_kl"} <= report["baselines"].keys()


@pytest.mark.parametrize("feature_target", ["joint", "per-patch"])
def test_the_loss_of_an_evaluation_is_that_of_training(world, start, feature_target):
    """One batch, judged as validation and by the loss that is trained; "joint" counts grey over all masked patches at once."""
    config = pretrain(world, "judged", sampling=configs.Sampling(losses_on_negatives="all"), train=replace(TRAIN, batch_size=6))
    batch = released_runs.pretraining(config).validation.validation
    model, by_task = rebuild(checkpoints.load_meta(start / "best.npz")), losses.for_tasks(KALEIDO, feature_target, 2.0, 0.5)
    checkpoints.restore(start / "best.npz", model)
    inputs, targets, weights = batch(0)
    trained = losses.total(by_task, model(inputs), targets, weights)
    kinds = {task: "loss" for task in by_task} | {"blank": "kl", "grey": {"joint": "joint_kl", "per-patch": "kl"}[feature_target]}
    shares = {f"{task}_{kind}": by_task[task].factor for task, kind in kinds.items()}
    judged = app.evaluator(steps.forward(model), batch, KALEIDO, shares, feature_target)()
    assert judged["loss"] == pytest.approx(float(trained["total"]), rel=1e-5)
    for task, kind in kinds.items():
        assert judged[f"{task}_{kind}"] == pytest.approx(float(trained[task]), rel=1e-4, abs=1e-6), task


def test_a_run_is_chosen_by_the_loss_that_it_trains(world):
    """As released: "loss" of every evaluation holds the grey loss over all masked patches, and best.npz is the lowest of them."""
    config = pretrain(world, "joint", losses=configs.Losses(feature_target="joint"), sampling=configs.Sampling(losses_on_negatives="all"))
    assert call("pretrain", config).status == 0
    rows = [json.loads(line) for line in (config.run / "metrics.jsonl").read_text().splitlines()]
    judged = [row for row in rows if row["split"] == "val"]
    assert judged and all("grey_joint_kl" in row for row in rows)
    for row in judged:
        parts = [value for name, value in row.items() if name.endswith(("_loss", "_kl")) and name != "grey_kl"]
        assert len(parts) == 7 and row["loss"] == pytest.approx(sum(parts), rel=1e-9)
    assert results(config.run)["best_step"] == min(judged, key=lambda row: row["loss"])["step"]


@pytest.fixture(scope="module")
def labelled(world, start):
    """A fine-tuning run on files, of the pictures alone."""
    done = call("classify", classify(world, "labelled", init=start / "best.npz", from_scratch=False, modality="image"))
    assert done.status == 0, done.err
    return world / "labelled"


def continued(name, config, interrupt):
    """What a run said that was stopped in its third step and started again."""
    interrupt(3)
    assert call(name, config).status == 130 and (config.run / "last.npz").exists()
    interrupt(0)
    return call(name, config)


def test_interrupted_pretraining_goes_on(world, start, interrupt):
    done = continued("pretrain", config := pretrain(world, "cut"), interrupt)
    assert done.status == 0 and "at step 2" in done.out
    same_run(start, config.run)


def test_interrupted_classification_goes_on(world, start, labelled, interrupt):
    config = classify(world, "cut-labels", init=start / "best.npz", from_scratch=False, modality="image")
    done = continued("classify", config, interrupt)
    assert done.status == 0 and "at step 2" in done.out
    same_run(labelled, config.run)


def test_files_that_changed_under_a_begun_run_are_refused(tmp_path, untrained, interrupt):
    for name, rows in (("train", 8), ("val", 6)):
        released_data.write(tmp_path / "pretrain", "pretrain", rows, name)
    config = pretrain(tmp_path, "run")
    interrupt(3)
    assert call("pretrain", config).status == 130
    interrupt(0)
    released_data.write(tmp_path / "pretrain", "pretrain", 9, "train")
    refused(call("pretrain", config), "last.npz: the run began with another bank")


def test_classification_from_files(labelled):
    metrics = results(labelled)["metrics"]
    assert metrics["n"] == 6 and metrics["num_classes"] == {"all": 122, "present": 3, "trained": 3}
    table = (labelled / "classes.csv").read_text().splitlines()
    assert table[1].startswith("TOTE,2,") and table[4].startswith("3,0,") and len(table) == 123
    assert (labelled / "predictions.csv").read_text().splitlines()[1].startswith("P0_0,TOTE,")


def test_retrieval_from_text_and_from_a_folder_and_both_directions(world, start):
    rows = released_rows.open_rows(world / "retrieve/train.list_csv", released_data.schema("retrieve"))
    released_rows.convert(rows.paths, rows.schema, world / "retrieve-folder")
    kept = []
    for run, source in (("text", world / "retrieve/train.list_csv"), ("folder", world / "retrieve-folder")):
        config = retrieve(world, f"ret-{run}", data=data(world, "retrieve", False, files=source))
        done = call("retrieve", config)
        assert done.status == 0 and "Read Examples_cnt 8, Queries 3" in done.out, done.err
        kept.append([(config.run / name).read_text() for name in ("result_img2txt.txt", "scores.jsonl")])
    assert kept[0] == kept[1] and kept[0][0].count("\n") == 3
    config = retrieve(world, "ret-t2i", direction="t2i")
    done = call("retrieve", config)
    assert done.status == 0 and "Queries 8" in done.out and results(config.run)["queries_without_a_right_candidate"] == 5
    assert (config.run / "result_txt2img.txt").is_file()
    model = results(config.run)["model"]
    assert (model["head"], model["head_of"], model["masking"]) == ("plain", "the paper's", "as baked into the files")
    assert model["trained"] == "pre-trained 2 epochs; not fine-tuned" and f"plain (the paper's), {model['trained']}" in done.out


def test_every_command_says_what_it_would_read(world, start):
    for name, config in (("pretrain", pretrain(world, "dry")), ("classify", classify(world, "dry")), ("retrieve", retrieve(world, "dry"))):
        done = call(name, config, "--dry-run")
        assert done.status == 0 and "2 file(s)" in done.out and "about 8 rows" in done.out, done.err
        assert not config.run.exists()


def test_a_schema_in_yaml(world, tmp_path):
    columns = {column.name: f"{column.type}:{column.length}" for column in released_data.schema("retrieve").columns}
    path = tmp_path / "run.yaml"
    lines = "".join(f"    {name}: {rest!r}\n" for name, rest in columns.items())
    path.write_text(f"run: run\ndirection: i2t\ndata:\n  files: files\n  schema:\n{lines}")
    config = configs.load(configs.RetrieveConfig, path)
    assert config.data.schema == columns and list(config.data.schema) == list(columns)
    assert configs.load(configs.RetrieveConfig, path, ["data.schema=a:int:3,b:str:1"]).data.schema == "a:int:3,b:str:1"


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_refusals_before_anything_is_trained(world, start, tmp_path):
    both, share = {"files": world / "x", "bank": world / "y"}, {"files": world / "x", "train_share": 0.5}
    for options, message in ((both, "both set"), ({}, "not set, nor is"), (share, "train_share is 0.5")):
        with pytest.raises(UserError, match=message):
            configs.TrainingData(**options)
    cases = [
        ("pretrain", pretrain(world, "no", data=data(world, "pretrain", False)), "data.val_files is not set"),
        ("pretrain", pretrain(world, "no", data=data(world, "pretrain", encoder="resnet50")), "data.encoder is 'resnet50', of files"),
        ("pretrain", pretrain(world, "no", data=data(world, "pretrain", schema="")), "column 'input_ids': holds 12 numbers; expected: 64"),
        ("pretrain", pretrain(world, "no", data=data(world, "finetune", schema=str(released_data.schema("finetune")))),
         "lacks the columns masked_lm_positions"),
        ("pretrain", pretrain(world, "no", levels=FINER), "declared with 150 numbers|lacks the columns"),
        ("classify", classify(world, "no", label="colour"), "no label 'colour'"),
        ("classify", classify(world, "no", from_scratch=False), "no pre-trained checkpoint"),
        ("retrieve", retrieve(world, "no", train=TRAIN), "train.epochs is 2.0, of files"),
        ("retrieve", retrieve(world, "no", model=replace(SIZES, num_layers=2)), "num_layers 1 . 2"),
        ("retrieve", retrieve(world, "no", data=data(world, "retrieve", False, vocabulary_size=99)), "vocabulary_size 150 . 99")]
    for name, config, message in cases:
        refused(call(name, config, "--dry-run"), message)
        refused(call(name, config), message)
        assert not config.run.exists()


def test_broken_files(world, tmp_path):
    path = released_data.write(tmp_path / "finetune", "finetune", 6, "train")
    released_data.write(tmp_path / "finetune", "finetune", 4, "val")
    config = classify(tmp_path, "run")
    text = path.read_text()
    path.write_text(text + "no/such/file\n")
    refused(call("classify", config), r"train.list_csv, line 3: there is no file 'no/such/file'")
    path.write_text(text)
    last = tmp_path / "finetune/train__1"
    content = last.read_bytes()
    last.write_bytes(content[:-40])
    refused(call("classify", config), r"train__1, line 3: the line has \d+ columns; expected: 22.*cut off")
    last.write_bytes(content.replace(b"\t2\n", b"\t122\n"))
    refused(call("classify", config), r"train__1, line 3, column 'img_subcategory_id': holds 122; expected: classes: 0 to 121")
    assert not config.run.exists()


def test_a_broken_row_stops_a_training_with_its_place(world, tmp_path):
    released_data.write(tmp_path / "pretrain", "pretrain", 4, "val")
    gone = released_data.columns("pretrain", 8)["img_jigsaw_gt"].copy()
    gone[6] = 24
    released_data.write(tmp_path / "pretrain", "pretrain", 8, "train", img_jigsaw_gt=gone)
    refused(call("pretrain", pretrain(tmp_path, "run")), r"train__1, line 3, column 'img_jigsaw_gt': holds 24; expected: classes: 0 to 23")


def test_retrieval_that_fails_leaves_no_result(world, start, tmp_path, monkeypatch):
    ids = np.array([f"T {row}" for row in range(6)])[:, None]
    path = released_data.write(tmp_path, "retrieve", 6, text_prod_id=ids)
    config = retrieve(world, "spoiled", data=data(world, "retrieve", False, files=path))
    refused(call("retrieve", config), r"pairs from .*rows__0, line 1 on: the id 'T 0' among the text ids cannot stand")
    assert not list(config.run.glob("result*")) and not (config.run / "results.json").exists()
    monkeypatch.setattr(steps, "forward", lambda model: lambda inputs: {"itm": np.full((len(inputs["token_ids"]), 2), np.nan)})
    refused(call("retrieve", retrieve(world, "nan")), "the model's output 'itm' is not finite")


@pytest.mark.parametrize(("content", "message"), [
    ("", "the file is empty"), ("[1]\x01[1]\x01[1]\x01[1]\n", "line 1: the line has 4 fields; expected: 5"),
    ("['a']\x01['b']\x01['c']\x01[1]\x01[0.5]\n", "the lists have 1, 1, 1, 1, 1 items"),
    ("['a']\x01['b']\x01['c']\x01[x]\x01[0.5, 1]\n", "line 1: invalid literal")])
def test_result_files_that_are_none(tmp_path, content, message, capsys):
    (tmp_path / "result").write_text(content)
    assert counting.main([str(tmp_path / "result"), "i2t"]) == 2 and message in capsys.readouterr().err


def test_a_result_without_any_right_candidate(tmp_path, capsys):
    (tmp_path / "result").write_text(released_line(["a", "b"], ["p", "p"], ["x", "x"], np.zeros(2), np.zeros((2, 2))) + "\n")
    assert counting.main([str(tmp_path / "result"), "i2t"]) == 0 and "AUC None" in capsys.readouterr().out


def test_text_length_is_what_the_files_hold(start):
    assert results(start)["bank"]["train"]["schema"].startswith(f"input_ids:int:{TEXT},")


def test_a_limit_of_the_rows_to_evaluate_on(world, start, untrained):
    same = {"init": start / "best.npz"}  # and it stays so
    config = pretrain(world, "limited", data=data(world, "pretrain", val_limit=5), **same)
    dry = call("pretrain", config, "--dry-run")
    assert "val.list_csv: 2 file(s), " in dry.out and ", of which at most the first 5\n" in dry.out
    assert call("pretrain", config).status == 0
    report, whole = results(config.run), results(start)
    assert report["bank"]["val"] | {"rows": 6, "used": 5} == report["bank"]["val"] and report["bank"]["train"]["used"] == 8
    assert whole["bank"]["val"]["used"] == 6 and report["metrics"]["loss"] != whole["metrics"]["loss"]
    more = pretrain(world, "more", data=data(world, "pretrain", val_limit=600), **same)
    assert call("pretrain", more).status == 0 and results(more.run)["metrics"] == whole["metrics"]
    few = classify(world, "few", data=data(world, "finetune", val_limit=4), from_scratch=False, **same)
    assert call("classify", few).status == 0 and results(few.run)["metrics"]["n"] == 4
    for options in ({"files": world / "x", "val_limit": -1}, {"bank": world / "x", "val_limit": 5}):
        with pytest.raises(UserError, match="data.val_limit is"):
            configs.TrainingData(**options)


def test_retrieval_from_files_refuses_a_checkpoint_whose_scale_of_features_is_to_be_measured(world, tmp_path):
    """It trains on nothing by which the scale could be measured."""
    sizes, config = replace(SIZES, standardise_features=True), retrieve(world, "unmeasured", levels=KALEIDO)
    rows = released_runs.open_files(config, config.data.files, "retrieve")
    arguments = models.backbone_config(released_runs.layout(config, rows), KALEIDO, sizes, TRAIN)
    checkpoints.save(tmp_path / "start.npz", pretrainer(arguments), None, {"unadapted": True})
    refused(call("retrieve", replace(config, model=sizes, init=tmp_path / "start.npz")),
            "leaves the scale of its features to a training")
