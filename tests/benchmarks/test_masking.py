"""benchmarks.masking: what is timed is what its title says, and what is printed is what is written."""

import json

import numpy as np

from benchmarks import masking
from tests.benchmarks.test_benchmarks import check_report


def test_program(tmp_path, capsys):
    assert masking.main(["--batch", "4", "--repeats", "2", "--json", str(tmp_path / "m.json")]) == 0
    written = json.loads((tmp_path / "m.json").read_text())
    check_report(capsys.readouterr().out, written, "AGM", [row["name"] for row in written["timings"][1:]])
    assert [row["work"] for row in written["timings"]] == [0.004] * 3


def test_texts():
    found = masking.texts(64, 5)
    maskable, words, alignment = found.maskable, found.token_words, found.alignment
    assert maskable.shape == words.shape == (64, 64) and alignment.shape == (64, 64, 55) and alignment.dtype == np.float16
    assert ((words >= 0) == maskable).all() and not alignment[~maskable].any()
    for row in range(64):
        linked = np.unique(words[row][alignment[row].any(1)])
        assert 1 <= len(linked) <= 5
    assert set(np.count_nonzero(alignment, axis=2).ravel().tolist()) == {0, 6}
