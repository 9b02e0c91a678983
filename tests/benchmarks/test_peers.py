"""benchmarks.peers and turns: contestants take turns, do the same work, and drop out without harm."""

import json
import re
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from benchmarks import floors, flops, keras_peer, peers, plain_bert, random_bank, turns
from kaleidobert.errors import UserError
from kaleidobert.levels import KALEIDO

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def program(tmp_path, body: str) -> list[str]:
    """The words that run a contestant with such a ``prepare``."""
    path = tmp_path / "contestant.py"
    path.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom benchmarks import turns\n" + textwrap.dedent(body)
                    + "\nsys.exit(turns.serve(prepare))\n")
    return [sys.executable, str(path)]


def test_turns(tmp_path):
    words = program(tmp_path, """
        import os, time
        def prepare(settings):
            print("a library greets")
            log = open(settings["log"], "ab", buffering=0)
            def work(times):
                print("and talks")
                log.write(settings["name"].encode() * times)
                time.sleep(0.01 * times)
            return {"threads": os.environ["OMP_NUM_THREADS"]}, {"work": work}
        """)
    log = tmp_path / "log"
    with (turns.Contestant("a", words, {"log": str(log), "name": "a"}) as one,
          turns.Contestant("b", words, {"log": str(log), "name": "b"}) as other):
        assert one.metadata == {"threads": str(turns.cores())}
        first = one.measure("work", 2)
        assert 0.01 <= first["wall"] < 1 and 0 <= first["cpu"] < first["wall"]
        timings = floors.interleaved([turns.remote(one, "work", 3.0), turns.remote(other, "work", 3.0, "b's")], 2, compiled=True)
        assert one.peak() > 1e6
    assert [timing.case.name for timing in timings] == ["a: work", "b's"] and timings[0].seconds["wall"].shape == (2,)
    assert re.fullmatch("aa" "ab" "a+b+" "b*a+", log.read_text())  # measured, tried, one round and, the other way round, another


@pytest.mark.parametrize(("body", "expected"), [
    ("def prepare(settings):\n    raise ValueError('no room\\nfor more')", "ValueError: no room"),
    ("import os\ndef prepare(settings):\n    print('Segmentation fault', flush=True)\n    os._exit(3)", "Segmentation fault (status 3)"),
    ("def prepare(settings):\n    return {}, {}", "KeyError: 'work'")])
def test_a_contestant_that_fails_says_why(tmp_path, body, expected):
    with pytest.raises(UserError) as caught, turns.Contestant("c", program(tmp_path, body), {}) as one:
        one.measure("work", 1)
    assert expected in str(caught.value) and str(caught.value).startswith("c: ")


def test_reason():
    assert turns.reason("Traceback\n  File\nValueError: bad\n\n  • training=True\n") == "ValueError: bad"
    assert turns.reason("one\nlast\n\n") == "last" and turns.reason("") == "it printed nothing"


def test_program_without_pytorch(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("benchmarks.floors.LEAST_SECONDS", 0.001)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    path = tmp_path / "peers.json"
    words = ["--works", "prediction", "--size", "tiny", "--batch", "4", "--repeats", "2", "--torch", str(tmp_path / "python"),
             "--json", str(path)]
    assert peers.main(words) == 0
    result, printed = json.loads(path.read_text()), capsys.readouterr().out
    assert "torch: cannot be started" in result["contestants"]["torch"]["skipped"] and "**torch was skipped**: torch: cannot" in printed
    names = [row["name"] for row in result["timings"]]
    assert names == [names[0], "ours: prediction", "plain: prediction"] and names[0].startswith("matrix products")
    assert set(result["ratios"]) == {f"prediction / {names[0]}", "prediction / plain"}
    seconds = {row["name"]: np.array(row["seconds"]["wall"]) for row in result["timings"]}
    ratio = result["ratios"]["prediction / plain"]["wall"]["median"]
    assert ratio == pytest.approx(np.median(seconds["plain: prediction"] / seconds["ours: prediction"]))
    assert result["contestants"]["ours"]["peak_bytes"] > 1e8
    work = {row["name"]: row["work"] for row in result["timings"]}
    assert work["plain: prediction"] == pytest.approx(4 * sum(flops.matcher(random_bank.sizes("tiny"), KALEIDO).values()) / 1e9)


@pytest.mark.eager
@pytest.mark.parametrize("model", peers.KERAS)
def test_a_contestant_does_every_work(tmp_path, model, unfused):
    file = peers.write_batch(tmp_path / "batch.npz", "tiny", random_bank.config("tiny", 4))
    settings = {"model": model, "size": "tiny", "precision": "float32", "batch": str(file), "micro": 2}
    metadata, works = keras_peer.prepare(settings)
    assert set(works) == {*peers.WORKS, *metadata["floors"]} and bool(metadata["floors"]) == (model == "ours")
    for run in works.values():
        run(1)
    losses = works["step"](2)
    assert np.isfinite(list(losses.values())).all() and {"loss", "gradient_norm"} <= losses.keys() and metadata["parameters"] > 1e5


def test_figures_follow_from_seconds():
    machine = {"processor": "P", "cores": 2, "load": 0.5, "accelerators": [], "versions": {"python": "3"}}
    took = {"products": 1.0, "ours: forward and backward": 3.0, "ours: step": 4.0, "plain: forward and backward": 9.0, "plain: step": 10.0}
    metadata = {"title": "t", "machine": machine, "contestants": {
        **{who: {"parameters": 5, "peak_bytes": 1e9} for who in ("ours", "plain")}, "torch": {"skipped": "none here"}}}
    group = {name: floors.Timing(floors.Case(name, 1.0 if name == "products" else 2.0, "GFLOP", print),
                                 {clock: np.array([seconds] * 3) for clock in floors.CLOCKS}) for name, seconds in took.items()}
    result = peers.summary(metadata, [group])
    medians = {name: ratio["cpu"]["median"] for name, ratio in result["ratios"].items()}
    assert medians == pytest.approx({"forward and backward / products": 2 / 3, "forward and backward / plain": 3,
                                     "step / products": 0.5, "step / plain": 2.5})
    assert {who: part["cpu"] for who, part in result["optimiser_share"].items()} == pytest.approx({"ours": 0.25, "plain": 0.1})
    printed = peers.markdown(result)
    assert "share of a step of ours: 0.25 (wall), 0.25 (cpu)" in printed and "**torch was skipped**: none here" in printed
    gflop = peers.works(random_bank.sizes("tiny"), random_bank.config("tiny", 4), 4)
    assert gflop["step"] == pytest.approx(4 * flops.training(flops.pretrainer(random_bank.sizes("tiny"), KALEIDO, 10)) / 1e9)


def test_micro_batches_must_divide(capsys):
    assert peers.main(["--size", "tiny", "--batch", "4", "--micro", "3"]) == 2
    assert "--micro 3 does not divide a batch of 4" in capsys.readouterr().err


def test_where_pytorch_is(monkeypatch):
    monkeypatch.delenv(peers.TORCH, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="KALEIDO_TORCH_PYTHON"):
        peers.torch_python(None)
    monkeypatch.setenv(peers.TORCH, "/some/python")
    assert peers.torch_python(None) == "/some/python" and peers.torch_python("/other") == "/other"


def test_the_plain_network_answers_as_ours_and_learns(tmp_path):
    config = random_bank.config("tiny", 4)
    batch = keras_peer.read(str(peers.write_batch(tmp_path / "batch.npz", "tiny", config)))
    model, matching = plain_bert.plain_bert(random_bank.sizes("tiny"), KALEIDO)
    outputs = model(batch[0], training=False)
    vocabulary, feature = random_bank.content("tiny").vocabulary_size, random_bank.content("tiny").feature_size
    shapes = {name: tuple(output.shape) for name, output in outputs.items()}
    assert shapes == {"mlm": (4, 10, vocabulary), "itm": (4, 2), "rotation": (4, 4), "jigsaw": (4, 24), "camouflage": (4, 9),
                      "grey": (4, 2, feature), "blank": (4, 3, feature)}
    matched = matching({name: batch[0][name] for name in matching.input})["itm"]
    assert np.asarray(matched) == pytest.approx(np.asarray(outputs["itm"]), abs=1e-5)
    hidden = batch[0]["token_ids"].copy()
    hidden[~batch[0]["token_mask"].astype(bool)] = 7  # padding is not looked at
    changed = model({**batch[0], "token_ids": hidden}, training=False)
    assert np.asarray(changed["jigsaw"]) == pytest.approx(np.asarray(outputs["jigsaw"]), abs=1e-5)


def test_parts_of_a_batch():
    batch = tuple({"token_ids": np.arange(6)} for _ in range(3))
    assert [part[1]["token_ids"].tolist() for part in keras_peer.parts(batch, 4)] == [[0, 1, 2, 3], [4, 5]]
    assert len(list(keras_peer.parts(batch, 0))) == 1
