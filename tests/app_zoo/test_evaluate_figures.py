"""``kaleidobert evaluate``: what must not move a figure: the rule of texts other ways to count, another model the figures of this one."""

import json

import pytest

from kaleidobert import configs
from tests.support.apps_data import call, refused, results


def evaluated(tmp_path, **changes) -> dict:
    run = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
    done = call("evaluate", configs.EvaluateConfig(run, **{"resamples": 20, "permutations": 20} | changes))
    assert done.status == 0, done.err
    return results(run)


@pytest.mark.parametrize("counting", ["released", "fashionsap"])
def test_other_ways_to_count_do_not_compare_texts(tmp_path, counting):
    (tmp_path / "a.csv").write_text("query,candidate,label,score\nq,q,1,0.1\nq,r,0,0.9\nr,r,1,0.8\nr,s,0,0.3\n")
    (tmp_path / "texts.csv").write_text("id,text\nq,Red  bag\nr,red bag\ns,hat\n")
    found = evaluated(tmp_path, scores=tmp_path / "a.csv", texts=tmp_path / "texts.csv", counting=counting)
    assert found["right_by_their_text"] == 1 and found["metrics"]["rank@1"]["value"] == 1
    counted = found["released_counting" if counting == "released" else "counted"]
    assert counted["rank@1"] == pytest.approx(0.5, abs=1e-4)


def test_another_model_does_not_move_the_figures_of_this_one(tmp_path):
    rows = [("a", "a", "a"), ("a", "b", "a"), ("b", "b", "x"), ("b", "a", "y")]  # the other model names classes that nobody has
    for name, column in (("one", 1), ("other", 2)):
        lines = [f"{number},{row[0]},{row[column]}" for number, row in enumerate(rows)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["image_id,label,prediction", *lines]) + "\n")
    alone = evaluated(tmp_path, predictions=tmp_path / "one.csv")
    beside = evaluated(tmp_path, predictions=tmp_path / "one.csv", against=tmp_path / "other.csv")
    assert beside["metrics"] == alone["metrics"] and alone["metrics"]["macro_f1_all"]["value"] == 0.5
    back = evaluated(tmp_path, predictions=tmp_path / "other.csv", against=tmp_path / "one.csv")["comparison"]["macro_f1_all"]
    compared = beside["comparison"]["macro_f1_all"]
    assert compared["first"] == pytest.approx(back["second"]) and compared["second"] == pytest.approx(back["first"])
    assert compared["second"] == pytest.approx((2 * 2 / 4) / 4)  # over a, b, x and y for both


def test_columns_that_say_too_little_are_refused(tmp_path):
    for name, text, words in (("bare.csv", "\ufeff\n", "bare.csv: the table is empty"),
                              ("twice.csv", "query,candidate,label,score,score\nq,a,1,1,2\n", "twice.csv: there are 2 columns 'score'"),
                              ("null.jsonl", json.dumps({"query": None, "candidate": "a", "label": 1, "score": 1}) + "\n",
                               "null.jsonl, line 1: 'query' is null; expected: a text or a number")):
        (tmp_path / name).write_text(text, encoding="utf-8")
        refused(call("evaluate", configs.EvaluateConfig(tmp_path / "no", tmp_path / name)), words)
