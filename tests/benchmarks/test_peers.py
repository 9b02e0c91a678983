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
    words = ["--size", "tiny", "--batch", "4", "--micro", "2", "--repeats", "2", "--torch", str(tmp_path / "python"), "--json", str(path)]
    assert peers.main(words) == 0
    result, printed = json.loads(path.read_text()), capsys.readouterr().out
    assert "torch: cannot be started" in result["contestants"]["torch"]["skipped"] and "**torch was skipped**: torch: cannot" in printed
    names = [row["name"] for row in result["timings"]]
    groups = [(names[0], *[f"{who}: {work}" for who in ("ours", "plain") for work in works]) for works in peers.GROUPS]
    assert names == [name for group in groups for name in group]
    assert names[0].startswith("matrix products")
    assert set(result["ratios"]) == {f"{work} / {other}" for work in peers.WORKS for other in (names[0], "plain")}
    seconds = {row["name"]: np.array(row["seconds"]["wall"]) for row in result["timings"]}
    ratio = result["ratios"]["prediction / plain"]["wall"]["median"]
    assert ratio == pytest.approx(np.median(seconds["plain: prediction"] / seconds["ours: prediction"]))
    assert set(result["optimiser_share"]) == {"ours", "plain"} and result["contestants"]["ours"]["peak_bytes"] > 1e8
    sizes, work = random_bank.sizes("tiny"), {row["name"]: row["work"] for row in result["timings"]}
    assert work["ours: step"] == pytest.approx(4 * flops.training(flops.pretrainer(sizes, KALEIDO, 10)) / 1e9)
    assert work["plain: prediction"] == pytest.approx(4 * sum(flops.matcher(sizes, KALEIDO).values()) / 1e9)


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
