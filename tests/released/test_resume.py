"""Retrieval from released files that is interrupted: scores are kept, go on to the same bytes, and are never mixed with others."""

from dataclasses import replace
from pathlib import Path

import pytest

from kaleidobert import configs
from kaleidobert.app_zoo import released_runs
from kaleidobert.engines import steps
from kaleidobert.levels import KALEIDO
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import pretrainer
from kaleidobert.released import rows as released_rows
from tests.support import released_data
from tests.support.apps_data import SIZES, TRAIN, call, refused, results
from tests.support.released_data import FEATURES, TEXT, VOCABULARY

pytestmark = [pytest.mark.slow, pytest.mark.eager]
RESULT = "result_img2txt.txt"
KEPT = (RESULT, "scores.jsonl", "best.npz")


class World:
    """Eleven pairs as text and as a folder of arrays, four to a batch."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.text = released_data.write(folder / "retrieve", "retrieve", 11)
        rows = released_rows.open_rows(self.text, released_data.schema("retrieve"))
        self.arrays = folder / "arrays"
        released_rows.convert(rows.paths, rows.schema, self.arrays)
        self.init = self.start(folder / "start.npz", 1)

    def start(self, path: Path, seed: int) -> Path:
        sizes = configs.to_dict(SIZES) | {"feature_size": FEATURES, "vocabulary_size": VOCABULARY, "text_length": TEXT, "seed": seed}
        checkpoints.save(path, pretrainer(sizes | {"levels": KALEIDO}))
        return path

    def config(self, run: Path, files: Path | None = None, **changes) -> configs.RetrieveConfig:
        data = configs.TrainingData(files=files or self.text, schema=str(released_data.schema("retrieve")), vocabulary_size=VOCABULARY)
        options = {"direction": "i2t", "model": SIZES, "train": replace(TRAIN, epochs=0), "init": self.init, "predict_batch_size": 4}
        return configs.RetrieveConfig(run, data, **options | changes)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def whole(world) -> Path:
    """A run that nothing disturbed."""
    config = world.config(world.folder / "whole")
    assert call("retrieve", config).status == 0
    return config.run


@pytest.fixture
def press(monkeypatch):
    """A function: from now on Ctrl-C is pressed in the given batch of a run, counted from where it begins; 0 = never. Returns the list of
    the sizes of batches that were scored."""
    make = steps.forward

    def press(number: int) -> list[int]:
        done = []

        def forward(model):
            scores = make(model)

            def run(inputs):
                done.append(len(inputs["token_ids"]))
                if len(done) == number:
                    raise KeyboardInterrupt
                return scores(inputs)

            return run

        monkeypatch.setattr(steps, "forward", forward)
        return done

    return press


def same(first: Path, second: Path) -> None:
    for name in KEPT:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    assert results(first)["released_counting"] == results(second)["released_counting"]


@pytest.mark.parametrize(("source", "batch"), [("text", 1), ("text", 2), ("text", 3), ("arrays", 2)])
def test_an_interrupted_run_ends_as_one_that_was_not(world, whole, press, tmp_path, source, batch):
    config = world.config(tmp_path / "run", getattr(world, source))
    press(batch)
    done = call("retrieve", config)
    assert done.status == 130 and "the same command continues where it stopped" in done.err
    assert not (config.run / RESULT).exists() and not (config.run / "results.json").exists()
    scored = press(0)
    done = call("retrieve", config)
    assert done.status == 0 and scored == [4, 4, 3][batch - 1 :]
    assert ("resuming" in done.out) == (batch > 1) and (f"after {4 * (batch - 1)} pairs" in done.out) == (batch > 1)
    same(whole, config.run)
    assert not (config.run / f".{RESULT}.part").exists()


def test_twice_interrupted_and_a_line_cut_off(world, whole, press, tmp_path):
    config = world.config(tmp_path / "run")
    for _ in range(2):
        press(2)
        assert call("retrieve", config).status == 130
    part = config.run / f".{RESULT}.part"
    part.write_bytes(part.read_bytes()[:-30])  # a crash of the machine
    scored = press(0)
    assert call("retrieve", config).status == 0 and scored == [4, 3]
    same(whole, config.run)


def test_a_finished_run_scores_nothing_again(world, whole, press, tmp_path, monkeypatch):
    config = world.config(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(released_runs.counting, "analyse", lambda *arguments: exec("raise KeyboardInterrupt"))
        assert call("retrieve", config).status == 130  # all is scored, and nothing counted yet
    scored = press(0)
    done = call("retrieve", config)
    assert done.status == 0 and "all pairs were scored before" in done.out and not scored
    same(whole, config.run)


def test_scores_of_other_data_or_weights_are_not_mixed(world, press, tmp_path):
    path = released_data.write(tmp_path / "retrieve", "retrieve", 11)
    config = world.config(tmp_path / "run", path, init=world.start(tmp_path / "start.npz", 1))
    press(2)
    assert call("retrieve", config).status == 130
    kept = (config.run / f".{RESULT}.part").read_bytes()
    press(0)
    first = tmp_path / "retrieve/rows__0"
    content = first.read_bytes()
    first.write_bytes(content + content)
    refused(call("retrieve", config), "scoring.json: the scores in this folder are of other data; expected: the data and the checkpoint")
    world.start(tmp_path / "start.npz", 2)
    refused(call("retrieve", config), "are of other data and checkpoint_sha256")
    assert (config.run / f".{RESULT}.part").read_bytes() == kept
    refused(call("retrieve", replace(config, predict_batch_size=3)), "holds another run")


def test_nothing_was_scored_yet(world, whole, press, tmp_path):
    """A mistake in the first line, put right: the run goes on with the corrected file."""
    ids = released_data.columns("retrieve", 11)["text_prod_id"].copy()
    ids[0] = "T 0"
    path = released_data.write(tmp_path / "retrieve", "retrieve", 11, text_prod_id=ids)
    config = world.config(tmp_path / "run", path)
    refused(call("retrieve", config), "rows__0, line 1 on: the id 'T 0'")
    released_data.write(tmp_path / "retrieve", "retrieve", 11)
    assert call("retrieve", config).status == 0
    same(whole, config.run)


def test_a_full_disk_keeps_what_is_done(world, whole, press, tmp_path, full_disk, monkeypatch):
    config = world.config(tmp_path / "run")
    press(2)
    assert call("retrieve", config).status == 130
    press(0)
    full_disk(RESULT, ".part")
    refused(call("retrieve", config), "img2txt.txt.part: no space left on the disk.*continues where it stopped")
    monkeypatch.undo()
    assert call("retrieve", config).status == 0
    same(whole, config.run)


@pytest.mark.parametrize(("content", "message"), [
    (b"x\n", "part, line 1: the line has 1 fields"),
    (2 * b"['T0']\x01['P0']\x01['P0_0']\x01[1]\x01[0.5, 1.0]\n", "2 pairs in 2 lines; .*4 in each")])
def test_a_part_that_does_not_fit(world, press, tmp_path, content, message):
    config = world.config(tmp_path / "run")
    press(2)
    assert call("retrieve", config).status == 130
    (config.run / f".{RESULT}.part").write_bytes(content)
    refused(call("retrieve", config), message)
