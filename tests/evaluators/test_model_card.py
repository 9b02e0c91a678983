"""Figures of runs of every task, and the model card that is made of them."""

import doctest

import pytest
import yaml

from kaleidobert import io
from kaleidobert.evaluators.report import figures, model_card
from kaleidobert.evaluators.report.model_card import Weights
from kaleidobert.evaluators.report.results import Result, source_of
from tests.app_zoo.test_tables import captioning, classification, dual_encoder, interval
from tests.evaluators.test_claims import pretraining

ALIGN = {"task": "align", "metrics": {"cross_entropy": 3.0}, "baselines": {"frequencies": {"cross_entropy": 4.0}},
         "parts": {"coverage": 0.9, "pointing": {name: {"sightings": interval(value)} for name, value in
                                                 (("alignment", 0.4), ("chance", 0.1), ("position_alone", 0.3), ("best_position", 0.8))}}}
OWN = {"task": "season", "figures": [["season", "accuracy", 0.5, 0.25], ["season", "loss", 1.5, None]]}
RUNS = {  # {task: (results, the first figure, the best that needs no such model)}
    "pretrain": (pretraining(), "text belongs to picture, accuracy", "without looking"),
    "align": (ALIGN, "peak of a word's map lies in its part", "the word's usual place"),
    "classify": (classification("category", 0.9), "accuracy", "nearest neighbours, picture"),
    "retrieve": (dual_encoder("i2t", 0.4), "Rank@1", "chance"),
    "caption": (captioning("causal", "end piece", None), "CIDEr-D", "most frequent caption of the subcategory"),
    "season": (OWN, "accuracy", "chance"),
}


def card(values, name="run", source="", **weights) -> tuple[dict, str]:
    """(the header, the text below it)"""
    text = model_card.model_card(Result(name, "run/results.json", values, source), Weights("best.npz", **weights))
    start, header, body = text.split("---\n", 2)
    assert start == ""
    return yaml.safe_load(header), body


def test_the_examples_of_the_docstrings():
    assert doctest.testmod(model_card).failed == 0


@pytest.mark.parametrize("task", RUNS)
def test_the_first_figure_of_a_run_and_what_it_has_to_beat(task):
    values, metric, rival = RUNS[task]
    made = figures.figures(Result("run", "run/results.json", values))
    assert (made[0].metric, made[0].rival) == (metric, rival)
    assert len({one.metric for one in made}) == len(made)
    assert {one.rival for one in made}.isdisjoint({"dual encoder alone", "plain head", "the best of all places, an oracle"})


def test_less_is_better_where_it_is():
    made = {one.metric: one for one in figures.figures(Result("run", "", pretraining()))}
    assert made["blank, KL"].lower and made["blank, KL"].value.low is None and not made["rotation, accuracy"].lower
    assert made["rotation, accuracy"].value.low < 0.7 < made["rotation, accuracy"].value.high
    assert made["text belongs to picture, accuracy"].beside["picture zeroed"].value == 0.5


@pytest.mark.parametrize("task", RUNS)
def test_the_header_is_what_the_hub_reads(task):
    header, body = card(RUNS[task][0], source="Fashion-Gen")
    assert {"language", "license", "tags", "pipeline_tag", "library_name", "datasets", "metrics", "model-index"} <= header.keys()
    (index,) = header["model-index"]
    (result,) = index["results"]
    assert result["task"]["type"] == header["pipeline_tag"] and header["language"] == "en" and header["datasets"] == ["fashion-gen"]
    assert result["dataset"]["type"] == "fashion-gen"
    assert all(isinstance(one["value"], float) and one["type"] in header["metrics"] and one["name"] for one in result["metrics"])
    assert all(f"## {title}\n" in body for title in ("The model", "Training", "Figures", "What it must not be used for"))


def test_figures_stand_with_intervals_and_baselines_and_controls_apart():
    header, body = card(pretraining())
    assert "| text belongs to picture, accuracy | 0.800 [0.748, 0.848] | without looking 0.500 |" in body
    assert "| text belongs to picture, accuracy | picture zeroed | 0.500 [0.440, 0.560] | 0.800 [0.748, 0.848] |" in body
    assert "blank, KL (less is better)" in body and "(95% interval 0.748 to 0.848)" in str(header["model-index"])


def test_texts_with_marks_of_yaml_and_markdown_stay_what_they_are():
    name, source = "a: b #1 [x] {y} 'q' | *s*", 'catalogue my: "shop"/#1.csv'
    header, body = card(classification("category", 0.9), name=name, source=source)
    assert header["model-index"][0]["name"] == name and header["model-index"][0]["results"][0]["dataset"]["name"] == source
    assert header["datasets"] == ["catalogue-my-shop-1.csv"] and r"# a: b #1 [x] {y} 'q' \| \*s\*:" in body


def test_what_is_not_known_is_said_and_not_guessed():
    header, body = card({})
    assert header["license"] == "other" and header["language"] == "und" and "model-index" not in header and "datasets" not in header
    assert "set `language` and `license`" in body and "None" not in body
    header, body = card(RUNS["caption"][0], source="drawn catalogue catalogue/products.jsonl")
    assert header["license"] == "mit" and header["language"] == "en" and "knows no photograph" in body and "unread" in body


def test_sizes_and_loading_are_those_of_the_checkpoint():
    config = {"backbone": {"hidden_size": 96, "num_layers": 2, "levels": [{"name": "rotation", "grid": 1}]}}
    _, body = card(pretraining(), kind="pretrainer", config=config, parameters=1234567, how_to_load=model_card.load_ours("best.npz"))
    assert "| parameters | 1,234,567 |" in body and "| hidden size | 96 |" in body and "rotation 1 × 1" in body
    assert 'checkpoints.restore("best.npz", model)' in body


def test_no_path_of_a_disk_is_told():
    model = {"head": "plain", "head_of": "the paper's", "trained": "x", "init": "/home/me/runs/pre/best.npz"}
    values = classification("category", 0.9, model=model)
    _, body = card(values)
    assert "`pre/best.npz`" in body and "/home" not in body and "/nowhere" not in body


@pytest.mark.parametrize("content", ['7', '{"id": 1}\n{"id": 2}', '[{"id": 1}]', '{"drawing": 1}', ""])
@pytest.mark.parametrize("table", ["catalogue.json", "products.csv"])
def test_a_shop_may_call_a_table_catalogue_json(tmp_path, table, content):
    (tmp_path / "bank").mkdir()
    (tmp_path / "catalogue.json").write_text(content)
    io.write_json(tmp_path / "bank/index.json", {"config": {"source": {"kind": "table", "table": str(tmp_path / table)}}})
    drawn = content == '{"drawing": 1}' and table != "catalogue.json"
    assert source_of({"bank": {"folder": str(tmp_path / "bank")}}).startswith("drawn catalogue" if drawn else "catalogue ")
