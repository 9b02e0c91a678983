"""``kaleidobert evaluate``: files of anyone through the command line, next to what the other commands counted; refusals."""

import csv
import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from kaleidobert import cli, configs
from kaleidobert.configs import EvaluationData
from kaleidobert.evaluators import candidates, retrieval
from kaleidobert.evaluators import captions as caption_evaluation
from kaleidobert.evaluators.files import captions as caption_files
from kaleidobert.evaluators.files import scores as score_files
from kaleidobert.evaluators.files.scores import read_released
from kaleidobert.released import counting
from tests.released.test_runs import G4
from tests.support.apps_data import TRAIN, World, call, refused, results
from tests.support.golden_data import needs_golden
from tests.support.quick import still
from tests.support.score_data import Long, random_pairs, write, write_caption_lines, write_reference_lines
from tests.support.tables import TWO
from tests.support.tiny import tiny_bank

pytestmark = [pytest.mark.slow, pytest.mark.eager]

METRICS = ("rank@1", "rank@5", "rank@10", "mrr", "median_rank", "map")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    """A bank with runs of retrieve, in both directions, and of classify; other.jsonl: other scores of the first one's lists."""
    folder = tmp_path_factory.mktemp("two")
    world = World(folder, TWO, tiny_bank(folder, TWO))
    start, short = {"init": None, "from_scratch": True}, replace(TRAIN, epochs=1)
    with pytest.MonkeyPatch.context() as patch:
        still(patch)
        for name, config in (("retrieve", world.retrieve("i2t", 1, **start)),
                             ("retrieve", world.retrieve("t2i", direction="t2i", init=folder / "i2t/best.npz")),
                             ("classify", world.classify(label="subcategory", baselines=True, train=short, **start))):
            done = call(name, config)
            assert done.status == 0, done.err
    rng, lines = np.random.default_rng(3), (folder / "i2t/scores.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    (folder / "other.jsonl").write_text("".join(json.dumps(row | {"scores": rng.random(5).tolist()}) + "\n" for row in rows))
    return world


def evaluated(tmp_path, **changes):
    """(what the command printed, results.json)."""
    done = call("evaluate", configs.EvaluateConfig(tmp_path / "run", **{"resamples": 50, "permutations": 50} | changes))
    assert done.status == 0, done.err
    return done.out, results(tmp_path / "run")


# --- scores -------------------------------------------------------------------------------------------------------------


@pytest.mark.plotted
@pytest.mark.parametrize("direction", ["i2t", "t2i"])
def test_scores_of_ours_beside_a_bank(world, tmp_path, direction):
    run = world.folder / direction
    out, found = evaluated(tmp_path, scores=run / "scores.jsonl", candidates=run / "candidates.jsonl", data=EvaluationData(world.data.bank),
                           resamples=1000)
    before = results(run)
    assert found["metrics"] == before["metrics"] and found["direction"] == direction and found["protocol"] == "kaleido"
    assert found["baselines"].keys() == {"subcategory_oracle", "ridge"} and found["task"] == "retrieve"
    assert found["baselines"]["subcategory_oracle"] == before["baselines"]["subcategory_oracle"]
    assert found["candidates"]["sha256"] == before["candidates"]["sha256"] and found["bank"] == before["bank"]
    content = (run / "scores.jsonl").read_bytes()
    assert found["inputs"]["scores"] == {"file": str(run / "scores.jsonl"), "sha256": hashlib.sha256(content).hexdigest()}
    assert found["config"]["resamples"] == 1000 and found["seed"] == 0 and found["counting"] == "expectation"
    for name in ("ranks.png", "queries.png"):
        Image.open(tmp_path / "run" / name).verify()
    assert all(name in out for name in (*METRICS, "ridge", "subcategory_oracle", "95% interval"))
    assert out.endswith(f"run folder: {tmp_path / 'run'}\n  results.json, table.md, scores.jsonl, ranks.png, queries.png\n")
    assert [json.loads(line) for line in (tmp_path / "run/scores.jsonl").read_text().splitlines()] == [
        json.loads(line) for line in content.decode().splitlines()]
    assert f"{100 * found['metrics']['rank@5']['value']:.1f}" in (tmp_path / "run/table.md").read_text()
    ridge = call("retrieve", world.retrieve(f"{direction}-ridge", direction=direction, baselines=True, init=run / "best.npz"))
    assert ridge.status == 0 and found["baselines"] == results(world.folder / f"{direction}-ridge")["baselines"]


def test_against_another_model(world, tmp_path):
    one, other = world.folder / "i2t/scores.jsonl", world.folder / "other.jsonl"
    out, found = evaluated(tmp_path, scores=one, against=other)
    compared = found["comparison"]
    tables = [score_files.read(path) for path in (one, other)]
    ranked = [retrieval.rank_statistics(table.scores, table.relevant, table.valid) for table in tables]
    values = [one.reciprocal_ranks().mean() for one in ranked]
    assert compared["mrr"]["difference"] == pytest.approx(values[0] - values[1]) and compared["against"] == str(other)
    assert compared["sign_test"] == retrieval.compare(*ranked, np.random.default_rng(0), 5, 5)["sign_test"]
    assert f"against {other} (differences are this one minus that one)" in out and "(sign flips)" in out and "sign test: ranked" in out
    assert "mcnemar: right alone" in out


def test_both_directions_make_sumr(world, tmp_path):
    out, found = evaluated(tmp_path, scores=world.folder / "i2t/scores.jsonl", other_direction=world.folder / "t2i/scores.jsonl",
                           direction="i2t")
    both = [results(world.folder / name)["metrics"] for name in ("i2t", "t2i")]
    assert found["sum_of_ranks"] == pytest.approx(retrieval.sum_of_ranks(*both))
    assert f"SumR of both directions: {found['sum_of_ranks']:.1f}" in out
    assert found["other_direction"]["metrics"]["mrr"]["value"] == both[1]["mrr"]["value"]


def test_a_table_of_anyone_for_our_lists(world, tmp_path):
    """Columns of other names, no labels: the lists know what is right."""
    lists = candidates.read(world.folder / "i2t/candidates.jsonl")
    rows = [(query, name, f"{(7 * number) % 5}") for query, names in zip(lists.queries, lists.candidates)
            for number, name in enumerate(names)]
    (tmp_path / "a.tsv").write_text("picture\ttext\tcosine\n" + "".join("\t".join(row) + "\n" for row in rows))
    columns = configs.ScoreColumns("picture", "text", score="cosine")
    _, found = evaluated(tmp_path, scores=tmp_path / "a.tsv", columns=columns, candidates=world.folder / "i2t/candidates.jsonl")
    assert found["metrics"]["queries"] == len(lists.queries) and found["candidates"]["sha256"] == lists.sha256
    refused(call("evaluate", configs.EvaluateConfig(tmp_path / "other", tmp_path / "a.tsv", columns=columns)), "no column 'label'")


def test_a_table_of_texts(tmp_path):
    write(tmp_path / "a.csv", Long(["q", "q", "q"], ["a", "b", "c"], [1, 0, 0], [1.0, 2.0, 0.5]))
    (tmp_path / "texts.csv").write_text('id,text\nq,Red  Shirt\na,red shirt\nb,"RED shirt "\nc,blue shirt\n')
    out, found = evaluated(tmp_path, scores=tmp_path / "a.csv", texts=tmp_path / "texts.csv")
    assert found["metrics"]["rank@1"]["value"] == 1.0 and found["right_by_their_text"] == 1 and "1 candidates are right because" in out
    assert found["metrics"]["share_several_right"] == 1.0 and found["task"] == "evaluate" and not (tmp_path / "run/table.md").exists()
    config = configs.EvaluateConfig(tmp_path / "off", tmp_path / "a.csv", texts=tmp_path / "texts.csv", identical_texts=False)
    assert call("evaluate", config).status == 0 and results(tmp_path / "off")["metrics"]["rank@1"]["value"] == 0.0
    (tmp_path / "texts.csv").write_text("id,text\nq,Red\na,red\na,blue\n")
    refused(call("evaluate", replace(config, identical_texts=True, run=tmp_path / "no")), "line 4: the id 'a' has two texts")


@needs_golden
@pytest.mark.parametrize(("direction", "name"), [("i2t", "img2txt"), ("t2i", "txt2img")])
def test_golden_analysis_to_the_last_digit(tmp_path, direction, name):
    path = G4 / "analysis/result_img2txt.txt"
    out, found = evaluated(tmp_path, scores=path, direction=direction, counting="released")
    expected = (G4 / f"analysis/result_img2txt.{name}.stdout.py37.txt").read_text()
    assert expected in out
    counted = counting.count_as_released(read_released(path), direction)
    assert {key: found["released_counting"][key] for key in counted} == counted
    assert found["queries_without_a_right_candidate"] == found["released_counting"]["queries"] - found["metrics"]["queries"] > 0
    config = configs.EvaluateConfig(tmp_path / "plain", path, direction)
    refused(call("evaluate", config), "queries have no right candidate, the first is", "counting=released")


@needs_golden
def test_golden_analysis_as_a_table(tmp_path):
    """The same pairs as CSV: the same released hits, but for what needs both logits."""
    pairs = read_released(G4 / "analysis/result_img2txt.txt")
    write(tmp_path / "a.csv", Long(pairs.products, [f"{name}-{i}" for i, name in enumerate(pairs.texts)], pairs.labels.tolist(),
                                   pairs.logits[:, 1].tolist()))
    _, found = evaluated(tmp_path, scores=tmp_path / "a.csv", counting="released")
    counted, expected = found["released_counting"], counting.count_as_released(pairs, "i2t")
    assert {**expected, **counted} == {**counted, **expected} and "right" not in counted


def test_another_protocols_counting_is_offered(tmp_path):
    write(tmp_path / "a.csv", random_pairs())
    out, found = evaluated(tmp_path, scores=tmp_path / "a.csv", protocol="fashionsap", counting="fashionsap")
    assert found["counted"]["rank@1"] == found["metrics"]["rank@1"]["optimistic"] > found["metrics"]["rank@1"]["value"]
    assert "counted as fashionsap: queries 12, rank@1" in out and found["protocol"] == "fashionsap" and "note" not in out
    done = call("evaluate", configs.EvaluateConfig(tmp_path / "other", tmp_path / "a.csv", protocol="fashionsap"))
    assert "note: the source of protocol 'fashionsap' counts otherwise: counting=fashionsap" in done.out


def test_scores_that_do_not_fit(world, tmp_path):
    run = world.folder / "i2t"
    table, lists, bank = run / "scores.jsonl", run / "candidates.jsonl", EvaluationData(world.data.bank)
    base, strange = configs.EvaluateConfig(tmp_path / "no", table, candidates=lists), tmp_path / "strange.csv"
    lines = table.read_text().splitlines(keepends=True)
    (tmp_path / "short.jsonl").write_text("".join(lines[1:]))
    (tmp_path / "changed.jsonl").write_text(lists.read_text().replace('"relevant": [', '"relevant": [ ', 1))
    strange.write_text("query,candidate,label,score\nx,y,1,0\nx,z,0,0\n")
    for config, words in (
            (replace(base, scores=tmp_path / "short.jsonl"), ("short.jsonl: 1 of 8 queries are missing, the first is", "candidates.jsonl")),
            (replace(base, candidates=tmp_path / "changed.jsonl"), ("changed.jsonl: the lists are not those that were saved",)),
            (replace(base, candidates=world.folder / "t2i/candidates.jsonl"), ("scores.jsonl: .*quer",)),
            (replace(base, direction="t2i"), ("the lists are for direction i2t",)),
            (replace(base, protocol="full"), ("the lists are for protocol kaleido",)),
            (replace(base, against=tmp_path / "short.jsonl", candidates=None), ("short.jsonl: 1 of 8 queries are missing",)),
            (replace(base, candidates=None, data=bank), ("direction is not set",)),
            (replace(base, scores=strange, candidates=None, direction="i2t", data=bank),
             ("strange.csv: 1 query ids are unknown, the first is 'x'; expected: ids of the split 'val'",)),
            (replace(base, scores=strange, candidates=None, counting="fashionbert"), ("counting as fashionbert does needs",)),
            (replace(base, label="category"), ("label is set, and nothing reads it beside scores",)),
            (replace(base, other_direction=table, candidates=None), ("direction is not set",))):
        refused(call("evaluate", config), *words)
        assert not (tmp_path / "no").exists()


def test_what_is_evaluated_must_be_said(capsys):
    for words, message in ((["run=r"], "none of scores, predictions and captions is set"),
                           (["run=r", "scores=a", "captions=b", "references=c"], "scores and captions of scores"),
                           (["run=r", "captions=b"], "captions and references belong together"),
                           (["run=r", "predictions=b", "data.bank=c"], "label is not set"),
                           (["run=r", "scores=a", "counting=relased"], "did you mean 'released'")):
        assert cli.main(["evaluate", *words]) == 2 and message in capsys.readouterr().err


# --- classes ------------------------------------------------------------------------------------------------------------


@pytest.mark.plotted
def test_predictions_of_ours_beside_a_bank(world, tmp_path):
    run = world.folder / "classify"
    _, found = evaluated(tmp_path, predictions=run / "predictions.csv", label="subcategory", data=EvaluationData(world.data.bank),
                         resamples=1000)
    before = results(run)
    assert found["metrics"] == before["metrics"] and found["baselines"] == before["baselines"] and found["task"] == "classify"
    assert all(values.keys() == {"accuracy", "macro_f1_all"} for values in found["baselines"].values()) and found["baselines"]
    assert (tmp_path / "run/classes.csv").read_text() == (run / "classes.csv").read_text()
    Image.open(tmp_path / "run/confusion.png").verify()


def test_predictions_with_a_list_of_classes_and_without(world, tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"id": i, "truth": truth, "guess": guess}) + "\n" for i, (truth, guess) in
                                              enumerate(["aa", "ab", "bb", "ca", "aa"])))
    columns = configs.PredictionColumns("id", "truth", "guess")
    (tmp_path / "classes.txt").write_text("a\nb\nd\n\n")
    out, found = evaluated(tmp_path, predictions=tmp_path / "a.jsonl", prediction_columns=columns, trained_classes=tmp_path / "classes.txt")
    metrics = found["metrics"]
    f1 = {"a": 2 * 2 / 6, "b": 2 / 3, "c": 0.0, "d": 0.0}
    assert metrics["accuracy"]["value"] == 0.6 and metrics["present_but_not_trained"] == ["c"] and metrics["chance"] is None
    assert metrics["macro_f1_all"]["value"] == pytest.approx(sum(f1.values()) / 4)
    assert metrics["macro_f1_present"]["value"] == pytest.approx((f1["a"] + f1["b"]) / 3)
    assert metrics["macro_f1_trained"]["value"] == pytest.approx((f1["a"] + f1["b"]) / 3)
    assert metrics["num_classes"] == {"all": 4, "present": 3, "trained": 3} and "macro_f1_trained" in out
    done = call("evaluate", configs.EvaluateConfig(tmp_path / "bare", predictions=tmp_path / "a.jsonl", prediction_columns=columns))
    bare = results(tmp_path / "bare")
    assert done.status == 0 and "macro_f1_trained" not in bare["metrics"] and bare["task"] == "evaluate"
    assert "macro-F1 over the classes of training is missing: say trained_classes=FILE" in done.out


def test_predictions_against_another_model(world, tmp_path):
    one = world.folder / "classify/predictions.csv"
    rows = list(csv.DictReader(one.read_text().splitlines()))
    lines = [f"{row['image_id']},{row['label']},{row['label']}" for row in rows[::-1]]  # all right, in another order
    (tmp_path / "best.csv").write_text("\n".join(["image_id,label,prediction", *lines]) + "\n")
    out, found = evaluated(tmp_path, predictions=tmp_path / "best.csv", against=one)
    wrong = sum(row["label"] != row["prediction"] for row in rows)
    assert wrong and found["comparison"]["mcnemar"] == {"first": wrong, "second": 0, "p": pytest.approx(min(1, 2 * 0.5**wrong))}
    assert found["comparison"]["macro_f1_all"]["difference"] > 0 and f"right alone {wrong} to 0" in out


def test_predicted_classes_that_look_like_empty_cells_are_told(tmp_path):
    (tmp_path / "a.csv").write_text("image_id,label,prediction\na,tote,tote\nb,nan,tote\nc,nan,NULL\nd,vest,vest\n")
    out, _ = evaluated(tmp_path, predictions=tmp_path / "a.csv")
    for words in (f"2 labels of {tmp_path / 'a.csv'} are 'nan' and count as a class: should these cells be empty?", "1 predictions of"):
        assert f"note: {words}" in out


def test_predictions_that_do_not_fit(world, tmp_path):
    whole = (world.folder / "classify/predictions.csv").read_text()
    head, first, *rest = whole.splitlines(keepends=True)
    bank = {"label": "subcategory", "data": EvaluationData(world.data.bank)}
    image, label, _ = first.strip().split(",")
    other = "vest" if label != "vest" else "tote"
    for text, changes, words in (
            (head + "".join(rest), bank, f"1 of 10 examples are missing, the first is '{image}'"),
            (whole + "new,tote,vest\n", bank, "1 ids are unknown, the first is 'new'"),
            (whole + first, {}, f"line 12: the id '{image}' stood before, on line 2"),
            (head + first.replace(f",{label},", f",{other},", 1) + "".join(rest), bank,
             f"the label of '{image}' is '{other}'; expected: '{label}'"),
            (head + f"{image},,vest\n", {}, f"line 2: the label of '{image}' is empty"),
            (whole.replace("prediction", "predicted", 1), {}, "no column 'prediction'.*did you mean 'predicted'"),
            (whole[:-3].rpartition(",")[0], {}, "line 11: the line has 2 of 3 columns and is the last one"),
            ("", {}, "the file is empty"), (whole, {"trained_classes": tmp_path / "none"}, "none: cannot be read"),
            (whole, {"texts": tmp_path / "none"}, "texts is set, and nothing reads it beside predictions")):
        (tmp_path / "a.csv").write_text(text)
        refused(call("evaluate", configs.EvaluateConfig(tmp_path / "no", predictions=tmp_path / "a.csv", **changes)), words)
    assert not (tmp_path / "no").exists()


# --- captions -----------------------------------------------------------------------------------------------------------


CAPTIONS = {"1": "a red bag with gold handles", "2": "a hat of blue wool"}
REFERENCES = {"1": ["red bag with handles", "a bag of gold"], "2": ["a blue hat of wool"]}


@pytest.mark.parametrize("format", ["coco", "lines"])
def test_captions(tmp_path, format):
    paths = {name: tmp_path / name for name in ("captions", "references", "against")}
    others = ["red bag", REFERENCES["2"][0]]
    results_of, references_of = {"coco": (caption_files.write_results, caption_files.write_annotations),
                                 "lines": (write_caption_lines, write_reference_lines)}[format]
    results_of(paths["captions"], list(CAPTIONS)[::-1], list(CAPTIONS.values())[::-1])
    results_of(paths["against"], list(CAPTIONS), others)
    references_of(paths["references"], list(REFERENCES), list(REFERENCES.values()))
    out, found = evaluated(tmp_path, **paths)
    expected = caption_evaluation.report(list(CAPTIONS.values()), list(REFERENCES.values()), np.random.default_rng(0), 50)
    assert found["metrics"]["bleu4"]["value"] == expected["bleu4"]["value"] and found["references"] == 3
    assert found["metrics"].keys() == expected.keys() and "2 captions, 3 references" in out and "cider_d" in out
    each = [caption_evaluation.per_caption(list(of), list(REFERENCES.values()))["rouge_l"].mean() for of in (CAPTIONS.values(), others)]
    assert found["comparison"]["rouge_l"]["difference"] == pytest.approx(each[0] - each[1]) and "rouge_l" in out.partition("against")[2]
    assert set(found["inputs"]) == set(paths)


def test_captions_that_do_not_fit(tmp_path):
    config = configs.EvaluateConfig(tmp_path / "no", captions=tmp_path / "captions", references=tmp_path / "references")
    caption_files.write_annotations(config.references, list(REFERENCES), list(REFERENCES.values()))
    caption_files.write_results(config.captions, ["1"], ["a bag"])
    refused(call("evaluate", config), "captions: 1 of 2 images have no caption, the first of them '2'")
    config.captions.write_text('[{"image_id": 1, "caption": "a"}, {')
    refused(call("evaluate", config), "captions, line 1: not valid JSON, perhaps cut off")
    refused(call("evaluate", replace(config, direction="i2t")), "direction is set, and nothing reads it beside captions")
    assert not config.run.exists()


# --- protocols in retrieve ------------------------------------------------------------------------------------------------


def test_retrieve_with_several_draws(world):
    config = world.retrieve("vil", init=world.folder / "i2t/best.npz", protocol="fashionvil", num_candidates=4, max_queries=6,
                            baselines=True)
    dry = call("retrieve", config, "--dry-run")
    assert dry.status == 0 and "protocol 'fashionvil' has 120 pairs, and each goes through the whole network: 3 batches of 40" in dry.out
    done = call("retrieve", config)
    found, run = results(config.run), config.run
    assert done.status == 0, done.err
    assert found["protocol"] == "fashionvil" and found["metrics"]["draws"] == 5
    assert [draw["seed"] for draw in found["draws"]] == [0, 1, 2, 3, 4]
    values = []
    for number, draw in enumerate(found["draws"]):
        suffix = f"-{number + 1}" if number else ""
        lists = candidates.read(run / f"candidates{suffix}.jsonl")
        assert (lists.protocol, lists.seed, lists.sha256) == ("fashionvil", number, draw["sha256"])
        table = score_files.read(run / f"scores{suffix}.jsonl")
        values.append(retrieval.rank_statistics(table.scores, table.relevant, table.valid).hits(1).mean())
        assert draw["metrics"]["rank@1"]["value"] == pytest.approx(values[-1])
    assert found["metrics"]["rank@1"]["value"] == pytest.approx(np.mean(values))
    assert {"ridge", "subcategory_oracle"} == set(found["baselines"])


@pytest.mark.parametrize("direction", ["i2t", "t2i"])
def test_retrieve_over_the_full_gallery(world, tmp_path, direction):
    config = world.retrieve(f"full-{direction}", direction=direction, init=world.folder / "i2t/best.npz", protocol="full", max_queries=2)
    dry, done = call("retrieve", config, "--dry-run"), call("retrieve", config)
    bank = world.bank
    rows = bank.rows("val")
    pairs = len(rows) * len({candidates.normalise(text) for text in bank.column("text")[rows]})
    assert done.status == 0 and f"{pairs:,} pairs, and each goes through" in dry.out
    _, found = evaluated(tmp_path, scores=config.run / "scores.jsonl", candidates=config.run / "candidates.jsonl")
    before = results(config.run)
    assert found["protocol"] == before["protocol"] == "full" and found["metrics"]["mrr"]["value"] == before["metrics"]["mrr"]["value"]


def test_retrieve_with_lists_of_another_protocol(world):
    path = world.folder / "i2t/candidates.jsonl"
    changes = {"init": world.folder / "i2t/best.npz", "candidates": path}
    refused(call("retrieve", world.retrieve("no", protocol="mvlt", **changes)), "the lists are for the protocol kaleido; expected: mvlt")
    refused(call("retrieve", world.retrieve("no", protocol="mvlt", init=world.folder / "i2t/best.npz")), "shipped, not drawn")
    same = call("retrieve", world.retrieve("again", **changes))
    assert same.status == 0 and results(world.folder / "again")["metrics"] == results(world.folder / "i2t")["metrics"]


def test_a_dry_run_reads_everything_and_writes_nothing(world, tmp_path):
    config = configs.EvaluateConfig(tmp_path / "run", world.folder / "i2t/scores.jsonl", against=world.folder / "other.jsonl")
    done = call("evaluate", config, "--dry-run")
    assert done.status == 0 and "8 queries with 5 to 5 candidates, 40 pairs" in done.out and "the files fit together" in done.out
    assert not (tmp_path / "run").exists()


def test_files_have_no_protocol(world):
    data = configs.TrainingData(files=world.folder / "rows")
    refused(call("retrieve", world.retrieve("no", data=data, protocol="full")), "protocol is 'full', of files; expected: kaleido")
