"""The five scripts in a repository whose dataset/ and checkpoint/ are filled as the release fills them."""

import re
import shutil
from pathlib import Path

import pytest

from kaleidobert import released_cli
from kaleidobert.evaluators.files.scores import read_released
from kaleidobert.released import schema as released_schema
from tests.support import release_folder
from tests.support.apps_data import results

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SIZES = [f"model.{name}={value}" for name, value in release_folder.SMALL.items()]
FEW = ["train.epochs=1", "train.batch_size=4"]
WRITTEN = {"pretrain": ("best.npz", "last.npz", "losses.png"), "cat": ("best.npz", "predictions.csv", "classes.csv", "confusion.png"),
           "subcat": ("best.npz", "predictions.csv", "classes.csv"),
           "i2t": ("result_img2txt.txt", "scores.jsonl"), "t2i": ("result_txt2img.txt", "scores.jsonl")}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A repository; its configurations are those of this one."""
    root = tmp_path_factory.mktemp("repository")
    (root / "configs").symlink_to(ROOT / "configs")
    (root / "scripts").mkdir()
    release_folder.data(root)
    release_folder.checkpoint(root)
    return root


def script(root: Path, name: str, *words: str) -> int:
    """What scripts/run_NAME.sh calls."""
    return released_cli.main([name, str(root / "configs"), *words])


def flags(name: str, datasets: str = "./dataset") -> list[str]:
    """The flags of the released script, as it passes them."""
    task = {"pretrain": "pretrain", "cat": "finetune", "subcat": "finetune"}.get(name, "retrieve")
    schema = str(released_schema.released(task)).replace("img_loc_position_camouflage:int:45", "img_loc_position_camouflage:int:35")
    kind = {"cat": "catepred", "subcat": "subcatepred", "i2t": "img2txt", "t2i": "txt2img"}.get(name, "")
    common = ["--workerGPU=4", "--pretrain_model_name_or_path=pai-kaleidobert-base-en", "--input_sequence_length=64",
              f"--input_schema={schema}"]
    start = "--predict_checkpoint_path=./checkpoint/pretrained/kaleidobert.ckpt-50683"
    if task == "retrieve":
        return [*common, start, f"--type={kind}", "--mode=predict", f"--predict_input_fp={datasets}/eval_{kind}_list.list_csv",
                "--predict_batch_size=64", f"--output_dir=./checkpoint/retrieve/{kind}", "--image_feature_size=131072"]
    train, held = (f"train_{kind}", f"eval_{kind}") if kind else ("train", "dev")
    common += ["--mode=train_and_evaluate", f"--train_input_fp={datasets}/{train}_list.list_csv", "--train_batch_size=64",
               f"--eval_input_fp={datasets}/{held}_list.list_csv"]
    if task == "pretrain":
        return [*common, "--num_epochs=25", "--model_dir=./checkpoint/pretrained", "--learning_rate=1e-4", "--image_feature_size=131072"]
    return [*common, start, f"--task={kind}", "--num_epochs=20", f"--model_dir=./checkpoint/classification/{kind}",
            "--learning_rate=2e-5", f"--output_dir=./checkpoint/classification/{kind}_out"]


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.plotted if name in ("pretrain", "cat") else pytest.mark.eager)
                                  for name in released_cli.COMMANDS])
def test_a_script_without_words_takes_the_released_files(root, name, tmp_path, monkeypatch, capsys, request):
    """From any folder; the network here is small, and so is the training."""
    if name == "subcat":  # trained as "cat" is
        request.getfixturevalue("untrained")
    monkeypatch.chdir(tmp_path)
    more = FEW if name in ("pretrain", "cat", "subcat") else []
    assert script(root, name, *SIZES, *more) == 0
    out, run = capsys.readouterr().out, root / "runs/released" / name
    assert f" is there and {root}/dataset/catalogue/bank is not -> {root}/configs/released/{name}.yaml" in out
    assert f"run folder: {run}\n" in out and not list(tmp_path.iterdir())
    assert all((run / file).stat().st_size for file in (*WRITTEN[name], "results.json", "config.yaml"))
    report = results(run)
    if name in ("i2t", "t2i"):
        assert len(read_released(run / WRITTEN[name][0]).texts) == 6
        assert report["released_counting"]["queries"] == 2 and "Queries 2" in out
    elif name == "pretrain":
        assert report["bank"]["train"]["rows"] == 8 and report["steps"] == 3
    else:
        assert report["metrics"]["num_classes"]["all"] == {"cat": 48, "subcat": 122}[name]
    assert name == "pretrain" or f"weights from {root}/checkpoint/pretrained/kaleidobert.ckpt-50683" in out


@pytest.mark.parametrize("name", released_cli.COMMANDS)
def test_a_script_without_files_says_what_is_missing_and_how_to_get_it(name, tmp_path, capsys):
    """In one message, and no run is begun; whoever names a bank of his own is told of the bank alone, and --help helps."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    assert script(tmp_path, name) == script(tmp_path, name, f"run={tmp_path / 'run'}", "--dry-run") == 2
    out, err = capsys.readouterr()
    part = {"pretrain": "pretrain", "cat": "finetune", "subcat": "finetune"}.get(name, "retrieve")
    lines = err.splitlines()
    assert not out and len(lines) == 2 and lines[0] == lines[1]
    assert lines[0].startswith(f"kaleidobert {released_cli.COMMANDS[name]}: run_{name}.sh: neither ")
    assert f"({tmp_path}/dataset/{part}/" in err and f"({tmp_path}/dataset/catalogue/bank)" in err
    assert f"dataset/get_{part}_data.sh" in err and ("get_checkpoint.sh" in err) == (name != "pretrain") and "run_records.sh" in err
    for named in re.findall(r"(?:dataset|checkpoint|scripts)/\w+\.sh", err):
        assert (ROOT / named).is_file(), named
    assert script(tmp_path, name, f"data.bank={tmp_path / 'none'}") == 2 and "there is no finished bank" in capsys.readouterr().err
    with pytest.raises(SystemExit) as done:
        script(tmp_path, name, "--help")
    assert done.value.code == 0


@pytest.mark.parametrize("name", released_cli.COMMANDS)
@pytest.mark.parametrize(("folder", "datasets"), [("", "./dataset"), ("scripts", "./datasets")])
def test_the_flags_of_the_released_scripts(root, name, folder, datasets, monkeypatch, capsys):
    """As they stand there, from either folder: the released scripts make the lists themselves; here they may be missing."""
    monkeypatch.chdir(root / folder)
    shutil.rmtree(root / "runs", ignore_errors=True)
    assert script(root, name, *flags(name, datasets), *SIZES, "--dry-run") == 0
    out = capsys.readouterr().out
    assert f"no configuration named -> {root}/configs/released/{name}.yaml" in out
    assert len(re.findall("there is no such list", out)) == (1 if name in ("i2t", "t2i") else 2)
    assert re.search(rf"{root}/dataset/\w+/\w+(_i2t|_t2i|_train)__\*: 2 file\(s\), .* about \d rows", out)
    there = name == "pretrain" and not folder  # the released checkpoint, over which it would be trained
    run = {"pretrain": "pretrained", "cat": "classification/catepred", "subcat": "classification/subcatepred"}.get(name, "retrieve/")
    assert (f"run: {root}/runs/released/pretrain" if there else f"run: {root / folder}/checkpoint/{run}") in out
    assert name == "pretrain" or f"init: {root}/checkpoint/pretrained/kaleidobert.ckpt-50683\n" in out.replace("scripts/../", "")


def test_lists_that_are_there_count(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(root)
    assert script(root, "t2i", *SIZES, f"run={tmp_path / 'pattern'}") == 0
    release_folder.lists(root)
    try:
        assert script(root, "t2i", *flags("t2i"), *SIZES) == 0
    finally:
        for path in (root / "dataset").glob("*.list_csv"):
            path.unlink()
    out = capsys.readouterr().out
    assert "--predict_input_fp=./dataset/eval_txt2img_list.list_csv -> data.files=./dataset/eval_txt2img_list.list_csv" in out
    assert (root / "checkpoint/retrieve/txt2img/result_txt2img.txt").read_bytes() == \
        (tmp_path / "pattern/result_txt2img.txt").read_bytes()


def test_a_named_configuration_or_a_bank_counts(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words in (["data.bank=my/bank"], [str(root / "configs/cat.yaml")]):
        assert script(root, "cat", *words) == 2
        assert "released" not in capsys.readouterr().out
    (tmp_path / "mine.yaml").write_text(f"base: {root}/configs/released/cat.yaml\n")
    assert script(root, "cat", str(tmp_path / "mine.yaml"), *flags("cat")) == 2
    assert "train_catepred_list.list_csv: cannot be read" in capsys.readouterr().err
    (root / "dataset/catalogue/bank").mkdir(parents=True)
    try:
        assert script(root, "cat") == 2 and "released" not in capsys.readouterr().out
    finally:
        (root / "dataset/catalogue/bank").rmdir()
