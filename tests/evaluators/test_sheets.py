"""Contact sheets of best and worst queries: which queries, which candidates, and the picture that comes out."""

import json

import numpy as np
import pytest
from PIL import Image

from kaleidobert.app_zoo.retrieve import results
from kaleidobert.errors import UserError
from kaleidobert.evaluators.report import sheets
from kaleidobert.evaluators.report.sheets import Candidate, Query
from tests.support.tiny import tiny_bank


def test_best_and_worst_by_rank_then_by_distance():
    scores = [[5, 4, 0], [9, 1, 0], [1, 2, 3], [0, 2, 9], [2, 1, 3]]
    right = [[1, 0, 0]] * 5
    assert sheets.choose(scores, right, 2) == ([1, 0], [3, 2])  # both last; 3 lies further below the best wrong one
    assert sheets.choose(scores, right, 9) == ([1, 0, 4], [3, 2])  # no query twice
    assert sheets.choose([[1, 2], [3, 4], [5, 6]], [[0, 0], [1, 1], [1, 0]], 5) == ([2], [])
    assert sheets.choose([], [], 5) == ([], [])


def test_ranks_count_ties_by_expectation():
    assert sheets.rank([2, 2, 2, 1], [1, 0, 0, 0]) == 2.0
    assert sheets.rank([3, 2, 2, 9], [0, 1, 1, 0]) == 3.0


def test_the_first_candidates_and_the_right_one_behind_them():
    scores = [0.1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.2]
    shown = sheets.candidates(scores, [1, 0, 0, 0, 0, 0, 0, 1], str)
    assert [one.shown for one in shown] == ["1", "2", "3", "4", "5", "7"] and [one.rank for one in shown] == [1, 2, 3, 4, 5, 7]
    assert [one.right for one in shown] == [False] * 5 + [True]
    assert [one.rank for one in sheets.candidates(scores, [0, 0, 1, 0, 0, 0, 0, 1], str)] == [1, 2, 3, 4, 5]
    assert [one.shown for one in sheets.candidates([1, 2], [1, 0], str)] == ["1", "0"]


def test_texts_are_wrapped_and_cut():
    letters = sheets.font(16, False)
    text = "a long description of a dress " * 8 + "x" * 90
    whole = sheets.wrap(text, letters, 150, 99)
    assert all(letters.getlength(line) <= 150 for line in whole) and "".join("".join(whole).split()) == "".join(text.split())
    cut = sheets.wrap(text, letters, 150, 3)
    assert len(cut) == 3 and cut[-1].endswith("…") and letters.getlength(cut[-1]) <= 150 and cut[:2] == whole[:2]
    assert sheets.wrap("", letters, 150, 3) == [] and sheets.wrap("short", letters, 150, 3) == ["short"]


def pixels(path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def share(picture: np.ndarray, colour: str) -> float:
    return float((np.abs(picture - [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).max(2) < 3).mean())


def test_right_candidates_have_a_frame(tmp_path):
    tall, wide = np.full((90, 20, 3), 200, np.uint8), np.full((10, 300, 3), 100, np.uint8)

    def sheet(right: bool) -> np.ndarray:
        query = Query(wide, 2.5, 7, [Candidate(tall, 1.0, False, 1), Candidate("a text", 0.5, right, 6)])
        sheets.queries("title", "lead", [query], [query], tmp_path / "sheet.png")
        return pixels(tmp_path / "sheet.png")

    assert share(sheet(True), sheets.RIGHT) > 0.001 > share(sheet(False), sheets.RIGHT) == 0
    with pytest.raises(UserError, match="no query"):
        sheets.queries("title", "lead", [], [], tmp_path / "none.png")
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_pictures_with_their_captions(tmp_path):
    image = np.full((30, 20, 3), 100, np.uint8)
    entries = [(image, f"p{number}", {"written": "a text", "catalogue": "another " * 40}) for number in range(3)]
    sheets.captions(entries, tmp_path / "captions.png")
    assert share(pixels(tmp_path / "captions.png"), sheets.RIGHT) > 0.0005  # what the model wrote stands out
    assert (np.abs(pixels(tmp_path / "captions.png") - 100).max(2) == 0).sum() > 3 * 0.9 * 200 * 133
    with pytest.raises(UserError, match="no picture"):
        sheets.captions([], tmp_path / "none.png")


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return tiny_bank(tmp_path_factory.mktemp("bank"))


def scored(run, bank) -> None:
    """scores.jsonl over the bank's pictures: query k has its right candidate at place k."""
    ids, lines = bank.column("image_id").tolist(), []
    for number in range(8):
        names = [ids[number], *[name for name in ids if name != ids[number]][:7]]
        values = [-number - 0.5, *range(0, -7, -1)]
        lines.append(json.dumps({"query": ids[number], "candidates": names, "relevant": [1] + [0] * 7, "scores": values}))
    run.mkdir(exist_ok=True)
    (run / "scores.jsonl").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("direction", ["i2t", "t2i"])
def test_a_run_is_drawn(tmp_path, bank, direction):
    scored(tmp_path / "run", bank)
    path = results.draw_query_sheet(tmp_path / "run", bank, direction, 2)
    assert path == tmp_path / "run/queries.png" and share(pixels(path), sheets.RIGHT) > 0.001
    assert sorted(file.name for file in path.parent.iterdir()) == ["queries.png", "scores.jsonl"]


def test_a_run_without_its_pictures_is_not_drawn(tmp_path, bank, monkeypatch, capsys):
    scored(tmp_path / "run", bank)
    monkeypatch.setattr(bank, "table", [row | {"image_path": "/nowhere/picture.png"} for row in bank.table])
    for direction in ("i2t", "t2i"):
        assert results.draw_query_sheet(tmp_path / "run", bank, direction) is None
        assert "queries.png is not drawn" in (out := capsys.readouterr().out) and "/nowhere/picture.png" in out
    assert not (tmp_path / "run/queries.png").exists()


def test_scores_of_another_bank_or_broken_ones_are_refused(tmp_path, bank):
    scored(tmp_path, bank)
    path = tmp_path / "scores.jsonl"
    good = path.read_text()
    path.write_text(good.replace(bank.table[0]["image_id"], "stranger"))
    with pytest.raises(UserError, match="no picture 'stranger'"):
        results.draw_query_sheet(tmp_path, bank, "i2t")
    for line in ("{", "[]", '{"query": "a", "candidates": ["b"], "relevant": [], "scores": [1]}',
                 '{"candidates": [], "relevant": [], "scores": []}'):
        path.write_text(good + line + "\n")
        with pytest.raises(UserError, match="line 9 is broken"):
            results.draw_query_sheet(tmp_path, bank, "i2t")
    path.unlink()
    with pytest.raises(UserError, match="no such file"):
        results.draw_query_sheet(tmp_path, bank, "i2t")


def test_nothing_to_choose_from_is_said(tmp_path, bank, capsys):
    (tmp_path / "scores.jsonl").write_text('{"query": "a", "candidates": ["b"], "relevant": [1], "scores": [1]}\n')
    assert results.draw_query_sheet(tmp_path, bank, "t2i") is None and "not drawn" in capsys.readouterr().out
