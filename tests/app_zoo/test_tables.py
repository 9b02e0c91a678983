"""Tables of results: the paper's figures, what stands beside them, what is refused, and the command."""

import contextlib
import copy
import io
import json
import re

import pytest

from kaleidobert import cli
from kaleidobert import io as files
from kaleidobert.app_zoo import tables as app
from kaleidobert.errors import UserError
from kaleidobert.evaluators.report.tables import PAPER, Result, markdown, tables, to_json

BANK = {"folder": "/nowhere/bank", "splits": {"train": 90, "val": 30}, "encoder": "pixels-8", "sha256": "ab"}
PAPER_SUMS = {"FashionBERT": 251.36, "ImageBERT": 241.30, "OSCAR": 251.53, "Kaleido-BERT": 319.52}  # of the paper


def interval(value: float, width: float = 0.1) -> dict:
    return {"value": value, "low": value - width, "high": value + width, "pessimistic": value - 0.02, "optimistic": value + 0.02,
            "chance": 0.25}


def retrieval(direction: str, value: float, **changes) -> dict:
    metrics = {"queries": 30, "list_length": {"min": 4, "mean": 4.0, "max": 4}, "ties": "expectation", "share_tied": 0.5,
               "share_several_right": 0.0, **{name: interval(value) for name in ("rank@1", "rank@5", "rank@10", "mrr", "map")},
               "median_rank": interval(2.0)}
    baselines = {"ridge": {"rank@1": value / 2, "rank@5": value / 2, "rank@10": value / 2, "mrr": 0.1}}
    return {"task": "retrieve", "direction": direction, "protocol": "kaleido", "metrics": metrics, "baselines": baselines,
            "candidates": {"sha256": "0123456789abcdef", "seed": 7, "share_same_subcategory": 0.37}, "bank": BANK} | changes


def classification(label: str, value: float, **changes) -> dict:
    metrics = {"n": 30, "accuracy": interval(value), "macro_f1_all": interval(value / 2), "macro_f1_present": interval(value / 4),
               "macro_f1_trained": interval(value / 8), "chance": 0.125, "num_classes": {"all": 9, "present": 8, "trained": 7}}
    return {"task": "classify", "label": label, "modality": "both", "metrics": metrics, "baselines": {"nearest_neighbours_image": 0.44},
            "bank": BANK} | changes


def captioning(mode: str, length: str, meteor) -> dict:
    metrics = {"bleu4": interval(0.061, 0.01), "meteor": meteor, "rouge_l": interval(0.3), "cider_d": interval(0.4)}
    return {"task": "caption", "mode": mode, "length": length, "metrics": metrics, "bank": BANK,
            "baselines": {"nearest_picture": {"bleu4": 0.021}, "commonest_of_subcategory": dict(metrics)}}


def made(**runs: dict) -> list:
    return tables([Result(name, f"{name}/results.json", values) for name, values in runs.items()])


def whole(text: str) -> dict[str, list[str]]:
    """{name of a row without its mark and note: its cells} of the first table in a Markdown text."""
    lines = text.split("\n\n")[1].splitlines()
    assert len({len(line) for line in lines}) == 1, "columns are not aligned"
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert len({len(line) for line in cells}) == 1 and cells[0][1:3] == ["head", "trained"]
    return {re.sub(r"\*\*| \[\d+]$", "", line[0]): line[1:] for line in cells[2:]}


def rows(text: str) -> dict[str, list[str]]:
    """The figures of ``whole``, behind head and training."""
    return {name: cells[2:] for name, cells in whole(text).items()}


def test_table_2_has_the_papers_figures_and_ours_with_intervals():
    main, details = made(i2t=retrieval("i2t", 0.4), t2i=retrieval("t2i", 0.5))
    found = rows(markdown(main))
    assert found["Kaleido-BERT"] == ["27.99", "60.09", "68.37", "33.88", "60.60", "68.59", "319.52"]
    assert {name: float(found[name][-1]) for name in PAPER} == PAPER_SUMS
    assert found["{i2t,t2i}"] == ["40.0 [30.0, 50.0]"] * 3 + ["50.0 [40.0, 60.0]"] * 3 + ["270.0"]
    assert found["ridge regression to TF-IDF"] == ["20.0"] * 3 + ["25.0"] * 3 + ["135.0"]
    assert found["chance"] == ["25.0"] * 6 + ["150.0"]
    note = next(line for line in markdown(main).splitlines() if line.startswith("- [2]"))
    assert all(words in note for words in ("/nowhere/bank (90 train, 30 val pictures", "30 queries, 4 candidates", "protocol kaleido",
                                           "seed 7", "ties by expectation"))
    bounds = rows(markdown(details))
    assert bounds["i2t"] == ["ITR", "30", *["40.0 [38.0, 42.0]"] * 3, "0.400 [0.380, 0.420]", "2.0 [2.0, 2.0]", "0.400 [0.380, 0.420]",
                             "50.0", "0.0", "37.0", "0123456789ab"]
    assert "mean over queries): i2t 37.0%, t2i 37.0%." in markdown(main)


def test_runs_stand_side_by_side_only_where_they_belong_together():
    other = retrieval("t2i", 0.5, bank=BANK | {"folder": "/nowhere/other"})
    found = rows(markdown(made(a_i2t=retrieval("i2t", 0.4), a_t2i=other, b_t2i=retrieval("t2i", 0.3, protocol="full"))[0]))
    assert found["a_i2t"][3:] == ["–"] * 4 and found["a_t2i"][:3] == ["–"] * 3 and found["a_t2i"][-1] == "–"
    full = rows(markdown(made(a_i2t=retrieval("i2t", 0.4), a_t2i=retrieval("t2i", 0.3, protocol="full"))[0]))
    assert "a_i2t" in full and "a_t2i" in full
    assert "a_{i2t,t2i}_x" in rows(markdown(made(a_i2t_x=retrieval("i2t", 0.4), a_t2i_x=retrieval("t2i", 0.4))[0]))


def test_table_3_joins_category_and_subcategory():
    main, details = made(cat=classification("category", 0.9), subcat=classification("img_subcategory", 0.8),
                         season=classification("season", 0.7), cat_image=classification("category", 0.6, modality="image"))
    found = rows(markdown(main))
    assert found["Kaleido-BERT"] == ["95.07", "0.714", "88.07", "0.636", "318.14", "5.7", "12.8", "32.9", "32.6"]
    assert found["ImageBERT"][5:] == ["–"] * 4
    assert found["{cat,subcat} (picture and text)"][:5] == ["90.0 [80.0, 100.0]", "0.450 [0.350, 0.550]", "80.0 [70.0, 90.0]",
                                                            "0.400 [0.300, 0.500]", "255.0"]
    assert found["cat_image (picture)"][0] == "60.0 [50.0, 70.0]" and found["cat_image (picture)"][4] == "–"
    assert found["nearest neighbours, picture"][:4] == ["44.0", "–", "44.0", "–"] and found["commonest class"][0] == "12.5"
    assert not any(name.startswith("season") for name in found)
    assert rows(markdown(details))["season"][3:8] == ["70.0 [60.0, 80.0]", "0.350 [0.250, 0.450]", "0.175 [0.075, 0.275]",
                                                      "0.087 [-0.013, 0.188]", "9 / 8 / 7"]


DUAL_ENCODER = {
    "head": "dual_encoder",
    "head_of": "ours",
    "trained": "pre-trained 3 epochs; matching fine-tuned 2 epochs, dual encoder 4 epochs",
}
PLAIN = {"head": "plain", "head_of": "the paper's", "trained": "pre-trained 3 epochs; not fine-tuned"}


def dual_encoder(direction: str, value: float, **changes) -> dict:
    metrics = {
        name: retrieval(direction, part)["metrics"] for name, part in (("encoder alone", 0.01), ("dual encoder alone", value - 0.01))
    }
    plain = {"model": PLAIN, "metrics": retrieval(direction, 0.02)["metrics"]}
    return retrieval(direction, value, model=DUAL_ENCODER, parts=metrics, plain=plain, **changes)


def test_a_head_of_ours_stands_beside_its_parts_and_the_plain_one():
    main, details = made(i2t=dual_encoder("i2t", 0.4), t2i=dual_encoder("t2i", 0.5))
    found = whole(markdown(main))
    ours = {name: cells for name, cells in found.items() if name.startswith("{i2t,t2i}")}
    assert {name: cells[0] for name, cells in ours.items()} == {
        "{i2t,t2i}": "dual_encoder (ours)", "{i2t,t2i}: encoder alone": "encoder alone, of dual_encoder (ours)",
        "{i2t,t2i}: dual encoder alone": "dual encoder alone, of dual_encoder (ours)", "{i2t,t2i}: plain head": "plain (the paper's)"}
    assert [cells[1] for cells in ours.values()] == [DUAL_ENCODER["trained"]] * 3 + [PLAIN["trained"]]
    assert [cells[2] for cells in ours.values()] == ["40.0 [30.0, 50.0]", "1.0 [-9.0, 11.0]", "39.0 [29.0, 49.0]", "2.0 [-8.0, 12.0]"]
    assert [cells[-1] for cells in ours.values()] == ["270.0", "6.0", "264.0", "12.0"]
    bounds = whole(markdown(details))
    assert [name for name in bounds if name.startswith("i2t")] == [
        "i2t",
        "i2t: encoder alone",
        "i2t: dual encoder alone",
        "i2t: plain head",
    ]
    assert bounds["i2t: dual encoder alone"][4] == "39.0 [37.0, 41.0]" and bounds["i2t: plain head"][0] == "plain (the paper's)"


def test_what_is_not_measured_beside_a_head_of_ours_is_said():
    old = retrieval("i2t", 0.4, config={"matching": {"head": "dual_encoder"}})  # of a version that wrote no model
    bare = retrieval("i2t", 0.4, model={**DUAL_ENCODER, "head": "product"}, plain={"model": None, "metrics": None, "why": "because"})
    for values, beside in ((old, ["encoder alone", "dual encoder alone", "plain head"]), (bare, ["plain head"])):
        main, details = made(i2t=values)
        found = whole(markdown(main))
        assert found["i2t"][0] == f"{'dual_encoder' if values is old else 'product'} (ours)"
        for name in beside:
            assert found[f"i2t: {name}"][2:5] == ["not measured"] * 3 and "not measured" in whole(markdown(details))[f"i2t: {name}"]
    assert whole(markdown(made(i2t=old)[0]))["i2t"][1] == "not recorded"
    assert whole(markdown(made(i2t=retrieval("i2t", 0.4))[0]))["i2t"][:2] == ["not known"] * 2
    plain = whole(markdown(made(i2t=retrieval("i2t", 0.4, model=PLAIN))[0]))
    assert plain["i2t"][:2] == ["plain (the paper's)", PLAIN["trained"]] and "i2t: plain head" not in plain


def test_runs_with_different_heads_do_not_share_a_row():
    found = whole(markdown(made(i2t=dual_encoder("i2t", 0.4), t2i=retrieval("t2i", 0.5, model=PLAIN))[0]))
    assert found["i2t"][0] == "dual_encoder (ours)" and found["t2i"][0] == "plain (the paper's)"


def test_a_wide_head_stands_beside_its_parts_and_the_plain_one():
    parts = {name: classification("category", value)["metrics"] for name, value in (("encoder alone", 0.5), ("linear models alone", 0.8))}
    wide = {"head": "wide", "head_of": "ours", "trained": "pre-trained 3 epochs; classifier fine-tuned 2 epochs"}
    main, details = made(cat=classification("category", 0.9, model=wide, parts=parts))
    found = whole(markdown(main))
    assert [found[f"cat (picture and text){part}"][:3] for part in ("", ": encoder alone", ": linear models alone", ": plain head")] == [
        ["wide (ours)", wide["trained"], "90.0 [80.0, 100.0]"], ["encoder alone, of wide (ours)", wide["trained"], "50.0 [40.0, 60.0]"],
        ["linear models alone, of wide (ours)", wide["trained"], "80.0 [70.0, 90.0]"],
        ["plain (the paper's)", "not measured", "not measured"]]
    assert whole(markdown(details))["cat: linear models alone"][5] == "80.0 [70.0, 90.0]"


def test_captions_name_the_mode_and_the_matcher():
    model = {"head": "causal, chosen by a matcher", "head_of": "ours", "trained": "pre-trained 3 epochs; captioning fine-tuned 2 epochs",
             "writer": {"head": "causal", "head_of": "ours"}, "chosen_by": DUAL_ENCODER}
    written = captioning("causal", "end piece", None)
    found = whole(markdown(made(found=written | {"model": model, "share_found": 0.5, "written": written["metrics"]})[0]))
    chosen, own = (cells[:2] for name, cells in found.items() if name.startswith("found"))
    assert chosen[0] == "causal, chosen by a matcher (ours)" and "matcher: dual_encoder (ours), pre-trained" in chosen[1]
    assert own == ["causal (ours)", model["trained"]]


def test_no_row_of_ours_is_without_its_head_or_claims_to_be_the_papers():
    """Whatever the results hold, a row names a head, and the paper's name stands for the paper's printed figures alone."""
    several = [dual_encoder("i2t", 0.4), retrieval("t2i", 0.3), classification("category", 0.9), captioning("causal", "end piece", None),
               classification("season", 0.9, config={"head": "wide"}), retrieval("i2t", 0.4, model=PLAIN)]
    for table in made(**{f"run{number}": values for number, values in enumerate(several)}):
        for row in table.rows:
            assert row.cells["head"], (table.title, row.name)
            assert (row.name == "Kaleido-BERT") <= (row.origin == "paper")
            if row.origin == "ours":
                assert row.cells["trained"] and ("the paper's" not in row.cells["head"] or row.cells["head"].startswith("plain"))


def test_captions_are_rows_of_their_modes():
    (main,) = made(plain=captioning("mask-all", "predicted", interval(0.2)), cheat=captioning("mask-predict", "oracle", None))
    found = rows(markdown(main))
    assert found["plain (mask-all, length: predicted)"][5:] == ["6.1 [5.1, 7.1]", "20.0 [10.0, 30.0]", "30.0 [20.0, 40.0]",
                                                                "40.0 [30.0, 50.0]"]
    oracle = next(name for name in found if name.startswith("cheat"))
    assert "oracle" in oracle and found[oracle][6] == "needs Java"
    assert found["caption of the nearest picture"][5:] == ["2.1", "–", "–", "–"]
    assert found["most frequent caption of the subcategory"][5:7] == ["6.1 [5.1, 7.1]", "needs Java"]


def test_baselines_of_many_runs_stand_once_unless_they_differ():
    few = {"config": {"data": {"train_share": 0.1}}}
    main = made(a=classification("category", 0.9), b=classification("category", 0.8), c=classification("category", 0.7, **few))[0]
    assert [row.name for row in main.rows].count("nearest neighbours, picture") == 2  # of all training data and of a tenth
    main = made(a=classification("category", 0.9),
                b=classification("category", 0.8, baselines={"nearest_neighbours_image": {"accuracy": interval(0.3),
                                                                                          "macro_f1_all": interval(0.2)}}))[0]
    values = [row.cells for row in main.rows if row.name == "nearest neighbours, picture"]
    assert [cells["CR accuracy"].value for cells in values] == [0.44, 0.3] and values[1]["CR macro_f1_all"].low == pytest.approx(0.1)


def test_results_of_released_files():
    counted = {"rank@1": 0.12345, "rank@5": 0.5, "rank@10": 0.75, "queries": 1000}
    values = retrieval("i2t", 0.4, released_counting=counted, files={"source": "/nowhere/rows", "rows": 9}, metrics=None, bank=None)
    del values["baselines"], values["candidates"]
    main, details = made(run=values)
    assert rows(markdown(details))["run, counted as released"][:5] == ["ITR", "1,000", "12.3", "50.0", "75.0"]
    assert rows(markdown(main))["run"] == ["–"] * 7 and "files /nowhere/rows" in markdown(main)


def test_what_evaluate_could_not_tell_is_left_out():
    scores = retrieval("", 0.4, task="evaluate", protocol="as the file has them", files={"source": "/my/scores.csv"}, bank=None)
    (details,) = made(mine=scores)
    assert rows(markdown(details))["mine"][:3] == ["", "30", "40.0 [38.0, 42.0]"]
    classes = classification("kind", 0.9, task="evaluate", baselines={})
    for name in ("macro_f1_trained", "chance"):
        del classes["metrics"][name]
    del classes["metrics"]["num_classes"]["trained"]
    assert rows(markdown(made(mine=classes)[0]))["mine"][3:] == ["90.0 [80.0, 100.0]", "0.450 [0.350, 0.550]", "0.225 [0.125, 0.325]", "–",
                                                                 "9 / 8 / –", "–"]
    with pytest.raises(UserError, match="macro_f1_trained"):
        made(mine=classes | {"task": "classify"})
    texts = {"task": "evaluate", "metrics": captioning("", "", None)["metrics"], "files": {"source": "/my/captions.jsonl"}}
    assert rows(markdown(made(mine=texts)[0]))["mine"][5:7] == ["6.1 [5.1, 7.1]", "needs Java"]


def test_both_directions_of_one_evaluation_and_several_draws():
    other = {"direction": "t2i", "metrics": retrieval("t2i", 0.5)["metrics"]}
    main = made(mine=retrieval("i2t", 0.4, other_direction=other))[0]
    assert rows(markdown(main))["mine"] == ["40.0 [30.0, 50.0]"] * 3 + ["50.0 [40.0, 60.0]"] * 3 + ["270.0"]
    several = retrieval("i2t", 0.4, protocol="fashionvil")
    several["metrics"]["draws"] = 5
    assert "protocol fashionvil, mean of 5 draws" in markdown(made(mine=several)[0])


@pytest.mark.parametrize("values, path", [
    (retrieval("i2t", 0.4), "metrics.rank@5.value"), (retrieval("i2t", 0.4), "metrics.queries"), (retrieval("i2t", 0.4), "direction"),
    (retrieval("i2t", 0.4), "task"), (retrieval("i2t", 0.4), "metrics.mrr.pessimistic"),
    (classification("category", 0.4), "metrics.macro_f1_present"),
    (classification("category", 0.4), "label"), (captioning("causal", "end piece", None), "metrics.rouge_l"),
])
def test_what_is_missing_or_broken_is_named(values, path):
    for wrong in (None, "nonsense", [1]):
        broken = copy.deepcopy(values)
        *parents, last = path.split(".")
        inner = broken
        for key in parents:
            inner = inner[key]
        if wrong is None:
            del inner[last]
        else:
            inner[last] = wrong
        if wrong == "nonsense" and path in ("direction", "label", "task"):
            continue  # a text as good as any
        with pytest.raises(UserError) as caught:
            made(run=broken)
        assert path in str(caught.value) and "run/results.json" in str(caught.value)


def test_a_value_that_is_no_number_is_refused():
    with pytest.raises(UserError, match="rank@1"):
        made(run=retrieval("i2t", float("nan")))


def test_json_holds_what_markdown_shows():
    table = made(i2t=retrieval("i2t", 0.4))[0]
    value = json.loads(json.dumps(to_json(table)))
    paper, ours = value["rows"][3], value["rows"][-1]
    assert paper["name"] == "Kaleido-BERT" and paper["cells"]["i2t rank@1"]["value"] == pytest.approx(0.2799)
    assert ours["kind"] == "ours" and ours["cells"]["i2t rank@1"] == {"value": 0.4, "low": 0.4 - 0.1, "high": 0.5}
    assert ours["cells"]["SumR"] is None


def test_names_cannot_break_the_table():
    found = markdown(made(**{"a|b *i2t*": retrieval("i2t", 0.4)})[0])
    assert "a\\|b \\*i2t\\*" in found and rows(found)


def call(*words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(["tables", *words])
    return status, out.getvalue(), err.getvalue()


@pytest.fixture
def runs(tmp_path):
    """A folder of four finished runs, one of them of no table, and one that has not finished."""
    for name, values in {"i2t": retrieval("i2t", 0.4), "deep/lr=1e-4": classification("category", 0.9), "t2i": retrieval("t2i", 0.5),
                         "pretrain": {"task": "pretrain"}}.items():
        files.write_json(tmp_path / "runs" / name / "results.json", values)
    (tmp_path / "runs/unfinished").mkdir()
    return tmp_path / "runs"


def test_the_command_takes_folders_and_folders_of_folders(runs, tmp_path):
    status, out, err = call(str(runs))
    assert status == 0 and "{i2t,t2i}" in out and "deep/lr=1e-4" in out and err == "not in these tables: pretrain (pretrain)\n"
    assert call(str(runs), str(runs / "i2t"))[1] == out  # a run named twice stands once
    assert call(str(runs / "deep/lr=1e-4"))[1].startswith("## Classification")
    status, said, _ = call(f"out={tmp_path / 'out'}", str(runs))
    assert status == 0 and str(tmp_path / "out/tables.md") in said and (tmp_path / "out/tables.md").read_text() == out
    assert [table["title"] for table in files.read_json(tmp_path / "out/tables.json")["tables"]] == re.findall("^## (.*)$", out, re.M)


def test_the_dry_run_names_the_runs_and_writes_nothing(runs, tmp_path):
    status, out, _ = call("--dry-run", str(runs), f"out={tmp_path / 'out'}")
    assert status == 0 and f"out: {tmp_path / 'out'}" in out and not (tmp_path / "out").exists()
    assert all(f"{task}: {runs / name}\n" in out for task, name in (("retrieve", "i2t"), ("retrieve", "t2i"), ("classify", "deep/lr=1e-4")))


def test_the_command_explains_what_is_wrong(runs, tmp_path):
    def message(*words: str) -> str:
        status, _, err = call(*words)
        assert status == 2 and err.splitlines()[-1] and "Traceback" not in err
        return err

    assert "no run is named" in message() and "no such folder" in message(str(tmp_path / "nowhere"))
    assert "has finished" in message(str(runs / "unfinished")) and "has a place" in message(str(runs / "pretrain"))
    assert "did you mean 'out'" in message(str(runs), "outt=x")
    (runs / "i2t/results.json").write_text("{")
    assert "not valid JSON" in message(str(runs)) and "i2t/results.json" in message(str(runs))
    files.write_json(runs / "i2t/results.json", [])
    assert "'task'" in message(str(runs))


def test_help_lists_the_command_and_its_keys(capsys):
    for words in (["tables", "--help"], ["--help"]):
        with pytest.raises(SystemExit):
            cli.main(words)
    text = capsys.readouterr().out
    assert "  runs:" in text and "  out:" in text and "example: kaleidobert tables runs/" in text and "--dry-run" in text


@pytest.mark.parametrize("kind, words", [("fashion_gen", "Fashion-Gen"), ("table", "catalogue shop/products.csv")])
def test_a_run_writes_its_own_table_and_names_its_data(tmp_path, kind, words):
    files.write_json(tmp_path / "bank/index.json", {"config": {"source": {"kind": kind, "table": "/far/shop/products.csv"}}})
    values = retrieval("i2t", 0.4, bank=BANK | {"folder": str(tmp_path / "bank")})
    (tmp_path / "run").mkdir()
    path = app.write(tmp_path / "run", values)
    assert path == tmp_path / "run/table.md" and "run" in rows(path.read_text())
    note = next(line for line in path.read_text().splitlines() if line.startswith("- [2]"))
    assert f"features), {words};" in note
