"""Which model a result is of: every task names head and training, and a head of ours stands beside its parts and the plain one."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from kaleidobert import configs, io
from kaleidobert.app_zoo import lineage
from kaleidobert.app_zoo import tables as app_tables
from kaleidobert.app_zoo.retrieve import fine_tuning as matching_app
from kaleidobert.app_zoo.retrieve.fine_tuning import DualEncoderModel
from kaleidobert.configs import TablesConfig
from kaleidobert.datasets.sampling.pretraining import clean_batch
from kaleidobert.engines import steps
from kaleidobert.engines.prediction import PairScorer
from kaleidobert.evaluators import candidates, classification, retrieval
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import rebuild
from tests.support.apps_data import TRAIN, World, call, refused, results
from tests.support.tables import TWO
from tests.support.tiny import tiny_bank

pytestmark = [pytest.mark.slow, pytest.mark.eager]

MATCHING = configs.Matching("dual_encoder", "listwise", 2, width=8)
ONCE = replace(TRAIN, epochs=1)
PRETRAINED = "pre-trained 2 epochs"
TUNED = f"{PRETRAINED}; dual encoder 2 epochs; matching fine-tuned 1 epoch"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    """Pre-training, a retrieval with head dual_encoder, the other direction with what it trained, a retrieval with head plain."""
    folder = tmp_path_factory.mktemp("two")
    world = World(folder, TWO, tiny_bank(folder, TWO))
    assert call("pretrain", world.pretrain()).status == 0
    world.first = call("retrieve", dual_encoder(world, "i2t", 1))
    world.second = call("retrieve", dual_encoder(world, "t2i", direction="t2i", init=folder / "i2t/best.npz"))
    assert (world.first.status, world.second.status) == (0, 0), world.first.err + world.second.err
    assert call("retrieve", world.retrieve("plain")).status == 0
    return world


def dual_encoder(world, run: str, epochs: float = 0, **changes) -> configs.RetrieveConfig:
    return world.retrieve(run, epochs, **{"matching": MATCHING, "dual_encoder": TRAIN} | changes)


def model_of(path):
    model = rebuild(checkpoints.load_meta(path))
    checkpoints.restore(path, model)
    return model


# --- retrieval --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", ["i2t", "t2i"])
def test_parts_are_what_encoder_and_towers_answer_alone(world, run):
    folder, rows = world.folder / run, world.bank.rows("val")
    ids, model = world.bank.column("image_id")[rows].tolist(), model_of(world.folder / run / "best.npz")
    lists = candidates.load(folder / "candidates.jsonl", ids)
    by_towers = matching_app.score_sides(*matching_app.sides(steps.forward(DualEncoderModel(model)), world.bank, rows), lists)
    query, place = np.nonzero(lists.valid)
    asked, answer = rows[lists.queries[query]], rows[lists.candidates[query, place]]
    pictures, texts = (asked, answer) if run == "i2t" else (answer, asked)
    own = np.full(lists.candidates.shape, -np.inf)
    own[query, place] = steps.forward(model)(clean_batch(world.bank, pictures, texts))["own"][:, 1]
    found = results(folder)
    assert found["parts"].keys() == {"encoder alone", "dual encoder alone"} and lists.sha256 == found["candidates"]["sha256"]
    for name, scores in (("encoder alone", own), ("dual encoder alone", by_towers)):
        rng = np.random.Generator(np.random.Philox(0))
        expected = json.loads(json.dumps(retrieval.report(scores, lists.relevant, lists.valid, rng)))
        for key, value in expected.items():
            assert found["parts"][name][key] == (pytest.approx(value) if isinstance(value, dict | float) else value), (name, key)
        both = found["differences"][name]["rank@1"]
        assert both["first"] == pytest.approx(found["metrics"]["rank@1"]["value"])
        assert both["second"] == pytest.approx(found["parts"][name]["rank@1"]["value"])
        assert both["low"] <= both["difference"] <= both["high"]
    lines = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]  # of both together
    np.testing.assert_allclose(np.array([line["scores"] for line in lines]), own + by_towers, rtol=1e-4, atol=1e-5)


def test_the_plain_head_of_pretraining_is_scored_on_the_same_lists(world):
    ours, plain = results(world.folder / "i2t"), results(world.folder / "plain")
    assert plain["candidates"]["sha256"] == ours["candidates"]["sha256"]
    assert ours["plain"]["metrics"] == plain["metrics"] and ours["plain"]["model"] == plain["model"]
    assert plain["model"]["trained"] == f"{PRETRAINED}; not fine-tuned" and "plain" not in plain and "parts" not in plain
    assert ours["differences"]["plain head"]["mrr"]["second"] == pytest.approx(plain["metrics"]["mrr"]["value"])
    turned = results(world.folder / "t2i")["plain"]  # by way of the checkpoint that i2t began with
    assert turned["checkpoint"] == str(world.best) and turned["metrics"]["rank@1"] and turned["model"]["head"] == "plain"
    for done in (world.first, world.second):
        for words in ("dual_encoder (ours), " + TUNED, "plain head: plain (the paper's)", "; dual encoder alone ", "; encoder alone ",
                      "; plain head ", "of the query's own subcategory", "masking: random", "rank@1 less that of the dual encoder alone: "):
            assert words in done.out, done.out
    assert not list((world.folder / "i2t").glob(".scores*"))


def test_models_are_named_in_every_task(world):
    assert results(world.folder / "pretrain")["model"] == {
        "head": "plain", "head_of": "the paper's", "trained": PRETRAINED, "trained_in_this_run": PRETRAINED, "init": None,
        "masking": "random"}
    first, second = (results(world.folder / run)["model"] for run in ("i2t", "t2i"))
    assert first["trained"] == second["trained"] == TUNED and first["masking"] == second["masking"] == "random"
    assert (
        first["trained_in_this_run"] == "dual encoder 2 epochs; matching fine-tuned 1 epoch" and second["trained_in_this_run"] == "nothing"
    )
    for model in (first, second):
        assert model["trained_parts"] == {
            "encoder alone": f"{PRETRAINED}; matching fine-tuned 1 epoch",
            "dual encoder alone": "dual encoder 2 epochs",
        }
    assert (first["head"], first["head_of"]) == ("dual_encoder", "ours") and second["init"] == str(world.folder / "i2t/best.npz")


def test_a_gallery_in_draws_keeps_all_parts(world, monkeypatch):
    """Interrupted in the pass of the plain head: what was scored of both heads is not scored again, and gives the same."""
    whole, broken = (dual_encoder(world, name, protocol="full", predict_batch_size=7, init=world.folder / "i2t/best.npz")
                     for name in ("whole", "broken"))
    assert call("retrieve", whole).status == 0
    begin, scored, heads = PairScorer._begin, [], []

    def begin_some(self, batch, tables):
        if self.names == ("itm",) and len(scored) == 3:
            raise KeyboardInterrupt
        scored.extend([1] if self.names == ("itm",) else [])
        return begin(self, batch, tables)

    monkeypatch.setattr(PairScorer, "_begin", begin_some)
    assert call("retrieve", broken).status == 130
    assert (broken.run / ".scores.part").is_file() and (broken.run / ".scores-plain.part").is_file()
    assert not (broken.run / "results.json").exists()
    monkeypatch.setattr(PairScorer, "_begin", lambda *some: heads.append(some[0].names) or begin(*some))
    assert call("retrieve", broken).status == 0
    assert set(heads) == {("itm",)}  # nothing of the head of this run
    for key in ("metrics", "parts", "plain", "differences"):
        assert results(broken.run)[key] == results(whole.run)[key]
    assert (broken.run / "scores.jsonl").read_bytes() == (whole.run / "scores.jsonl").read_bytes()
    assert not list(broken.run.glob(".scores*"))


def test_several_draws_are_averaged(world):
    config = dual_encoder(world, "draws", protocol="fashionvil", init=world.folder / "i2t/best.npz")
    assert call("retrieve", config).status == 0
    found = results(config.run)
    for metrics in (*found["parts"].values(), found["plain"]["metrics"]):
        assert metrics["draws"] == found["metrics"]["draws"] == len(found["draws"]) > 1
    gap = found["differences"]["dual encoder alone"]["rank@1"]
    assert gap["difference"] == pytest.approx(found["metrics"]["rank@1"]["value"] - found["parts"]["dual encoder alone"]["rank@1"]["value"])
    assert "p" not in gap and not list(config.run.glob("*scores*.part"))


def test_a_named_run_stands_beside(world):
    config = dual_encoder(world, "named", init=world.folder / "i2t/best.npz", plain_run=world.folder / "plain")
    done, plain = call("retrieve", config), results(world.folder / "plain")
    found = results(config.run)
    assert done.status == 0 and found["plain"]["metrics"] == plain["metrics"] and found["plain"]["run"] == str(world.folder / "plain")
    assert found["differences"]["plain head"]["rank@1"]["second"] == pytest.approx(plain["metrics"]["rank@1"]["value"])
    (world.folder / "plain-without").mkdir(exist_ok=True)
    io.write_json(world.folder / "plain-without/results.json", plain)  # as where the scores were not kept
    config = replace(config, run=world.folder / "named-again", plain_run=world.folder / "plain-without/results.json")
    assert call("retrieve", config).status == 0
    assert results(config.run)["plain"]["metrics"] == plain["metrics"] and "plain head" not in results(config.run)["differences"]


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_a_named_run_that_does_not_fit_is_refused(world, words):
    begun = {"init": world.folder / "i2t/best.npz"}
    plain = world.folder / "plain"
    for changes, message in (({"plain_run": plain, "candidates_seed": 9}, "the lists of this run are others"),
                             ({"plain_run": plain, "direction": "t2i"}, "the lists of this run are others"),
                             ({"plain_run": world.folder / "i2t"}, "with head 'dual_encoder'"),
                             ({"plain_run": world.folder / "pretrain"}, "results of 'pretrain'"),
                             ({"plain_run": world.folder / "bank"}, "has finished")):
        refused(call("retrieve", dual_encoder(world, "no", **begun | changes), *words), message)
    refused(call("retrieve", world.retrieve("no", plain_run=plain), *words), "matching.head is plain")
    assert not (world.folder / "no").exists()


def test_scores_that_were_changed_are_refused(world, tmp_path):
    lists = candidates.load(world.folder / "plain/candidates.jsonl", world.bank.column("image_id")[world.bank.rows("val")].tolist())
    ids = world.bank.column("image_id")[world.bank.rows("val")].tolist()
    lines = (world.folder / "plain/scores.jsonl").read_text().splitlines()
    (tmp_path / "scores.jsonl").write_text("\n".join([lines[1], lines[0], *lines[2:]]) + "\n")
    with pytest.raises(lineage.UserError, match="not of the lists"):
        lineage.plain_tallies(tmp_path, [lists], ids)
    assert lineage.plain_tallies(tmp_path / "nowhere", [lists], ids) is None


def test_what_is_not_measured_says_why(world, untrained):
    begun = {"init": world.folder / "i2t/best.npz"}
    done = call("retrieve", dual_encoder(world, "without", plain=False, **begun))
    found = results(world.folder / "without")
    assert done.status == 0 and found["plain"]["metrics"] is None and "not measured: plain is false" in done.out
    assert "the plain head beside it: not measured" in call("retrieve", dual_encoder(world, "dry", plain=False, **begun), "--dry-run").out
    assert f"of {world.best}" in call("retrieve", dual_encoder(world, "dry", **begun), "--dry-run").out
    scratch = call("retrieve", dual_encoder(world, "scratch", 1, init=None, from_scratch=True))
    found = results(world.folder / "scratch")
    assert scratch.status == 0 and found["model"]["trained"].startswith("not pre-trained; dual encoder 2 epochs; matching")
    assert "has no pre-training" in found["plain"]["why"] and found["model"]["masking"] is None


def test_a_pretraining_that_is_gone_or_another_is_not_measured(world, tmp_path):
    meta = checkpoints.load_meta(world.folder / "i2t/best.npz")
    model = model_of(world.folder / "i2t/best.npz")
    for name, changed, why in (("gone", {"checkpoint": str(tmp_path / "nowhere.npz")}, "is not there"),
                               ("other", {"sha256": "0" * 64}, "is not the checkpoint any more")):
        past = {**meta["lineage"], "plain": {**meta["lineage"]["plain"], **changed}}
        checkpoints.save(tmp_path / f"{name}.npz", model, None, {**meta, "lineage": past})
        config = dual_encoder(world, name, init=tmp_path / f"{name}.npz")
        done = call("retrieve", config)
        assert done.status == 0 and results(config.run)["plain"]["metrics"] is None and why in results(config.run)["plain"]["why"]


# --- lineage ----------------------------------------------------------------------------------------------------------


def test_lineages(world, tmp_path):
    meta = checkpoints.load_meta(world.best)
    assert lineage.has_plain_head(meta) and meta["lineage"] == {"steps": [PRETRAINED], "masking": "random", "plain": None}
    model = model_of(world.best)
    bert, old = tmp_path / "bert.npz", tmp_path / "old.npz"
    checkpoints.save(bert, model, None, {**meta, "lineage": lineage.converted("text part of the BERT x", False)})
    checkpoints.save(old, model, None, {name: value for name, value in meta.items() if name != "lineage"})
    assert not lineage.has_plain_head(checkpoints.load_meta(bert)) and lineage.has_plain_head(checkpoints.load_meta(old))
    assert (
        lineage.model("plain", bert, ["pre-trained 1 epoch"], "alignment_guided")["trained"]
        == "text part of the BERT x; pre-trained 1 epoch"
    )
    unknown = lineage.model("plain", old)
    assert unknown["trained"] == f"from {old}, whose training is not recorded; not fine-tuned" and unknown["masking"] == "not recorded"
    assert lineage.extend(world.folder / "i2t/best.npz")["plain"] == {"checkpoint": str(world.best),
                                                                           "sha256": lineage.digest(world.best)}


def test_a_run_begun_by_an_earlier_version_goes_on(world, untrained, interrupt):
    config = world.classify("older")
    interrupt(4)
    assert call("classify", config).status == 130
    last = config.run / "last.npz"
    with np.load(last) as file:
        arrays = {name: file[name] for name in file.files}
    meta = json.loads(str(arrays["__meta__"]))
    assert meta.pop("lineage")
    arrays["__meta__"] = np.array(json.dumps(meta))
    with open(last, "wb") as file:
        np.savez(file, **arrays)
    interrupt(0)
    done = call("classify", config)
    assert done.status == 0 and "resuming" in done.out
    assert checkpoints.load_meta(config.run / "best.npz")["lineage"]["steps"] == [PRETRAINED, "classifier fine-tuned 2 epochs"]


# --- classification, captions, evaluation -----------------------------------------------------------------------------


def test_a_wide_head_beside_its_parts_and_a_plain_run(world, untrained):
    assert call("classify", world.classify("cat-plain")).status == 0
    bare, named = world.classify("wide", head="wide"), world.classify("wide-named", head="wide", plain_run=world.folder / "cat-plain")
    for config in (bare, named):
        done = call("classify", config)
        assert done.status == 0 and "wide (ours), " in done.out and "; linear models alone " in done.out
    assert "plain head: not measured" in call("classify", bare).out
    rows, found = world.bank.rows("val"), results(bare.run)
    answers = steps.forward(model_of(bare.run / "best.npz"))(clean_batch(world.bank, rows))
    np.testing.assert_allclose(answers["own"] + answers["linear"], answers["label"], atol=1e-5)
    truth = np.array([["bags", "tops"].index(name) for name in world.bank.column("category")[rows]])
    for name, answer in (("encoder alone", "own"), ("linear models alone", "linear")):
        matrix = classification.confusion_matrix(truth, answers[answer].argmax(1), 2)
        assert found["parts"][name]["accuracy"]["value"] == pytest.approx(classification.accuracy(matrix))
        assert found["parts"][name]["macro_f1_all"]["value"] == pytest.approx(classification.macro_f1(matrix))
    plain, beside = results(world.folder / "cat-plain"), results(named.run)
    assert found["plain"]["metrics"] is None and beside["plain"]["metrics"] == plain["metrics"]
    assert beside["differences"]["plain head"]["accuracy"]["second"] == pytest.approx(plain["metrics"]["accuracy"]["value"])
    assert plain["model"]["head"] == "plain" and "parts" not in plain
    for changes, message in (({"modality": "image"}, "modality of this run is 'both'"), ({"label": "subcategory"}, "label of this run is"),
                             ({"head": "plain"}, "head is plain"), ({"plain_run": bare.run}, "head of this run is 'wide'")):
        refused(call("classify", replace(named, run=world.folder / "no", **changes)), message)
    changed = list(csv.reader((world.folder / "cat-plain/predictions.csv").read_text().splitlines()))
    (world.folder / "cat-other").mkdir()
    io.write_json(world.folder / "cat-other/results.json", plain)
    (world.folder / "cat-other/predictions.csv").write_text("\n".join(map(",".join, changed[:-1])) + "\n")
    refused(call("classify", replace(named, run=world.folder / "no", plain_run=world.folder / "cat-other")), "examples are missing")


def test_captions_name_their_mode_and_their_matcher(world, untrained):
    for mode, head, of in (("mask-all", "plain", "the paper's"), ("causal", "causal", "ours")):
        config = world.caption(f"caption-{mode}", mode=mode, train=ONCE)
        done = call("caption", config)
        assert done.status == 0 and f"{head} ({of}), {PRETRAINED}; captioning ({mode}) fine-tuned 1 epoch" in done.out
        model = results(config.run)["model"]
        assert (model["head"], model["head_of"], model["masking"]) == (head, of, "random")
    writing = configs.Writing(matcher=world.folder / "i2t/best.npz")
    config = world.caption("chosen", mode="causal", train=replace(TRAIN, epochs=0), init=world.folder / "caption-causal/best.npz",
                           writing=writing)
    done, model = call("caption", config), results(config.run)["model"]
    assert done.status == 0 and model["head"] == "causal, chosen by a matcher" and model["head_of"] == "ours"
    assert model["chosen_by"]["head"] == "dual_encoder" and model["chosen_by"]["trained"] == TUNED
    assert model["chosen_by"]["checkpoint"] == str(writing.matcher) and "chosen by the matcher" in done.out


def test_evaluate_names_the_model_where_it_is_known(world):
    known = world.evaluate("known", scores=world.folder / "t2i/scores.jsonl", direction="t2i")
    done = call("evaluate", known)
    assert done.status == 0 and f"head: dual_encoder (ours); trained: {TUNED}" in done.out
    assert results(known.run)["model"] == {**results(world.folder / "t2i")["model"], "run": str(world.folder / "t2i")}
    done = call("evaluate", world.evaluate("unknown"))
    assert done.status == 0 and results(world.folder / "unknown")["model"]["head"] == "not known"


# --- what is shown of it ----------------------------------------------------------------------------------------------


def test_tables_and_summary_name_the_head_in_every_row(world, capsys):
    folder = world.folder
    lines = app_tables.summary(folder / "i2t") + app_tables.summary(folder / "t2i") + app_tables.summary(folder / "pretrain")
    assert all(line.head and line.trained for line in lines)
    assert {line.trained for line in lines if line.head.startswith("dual encoder alone")} == {"dual encoder 2 epochs"}
    assert {line.head for line in lines} == {
        "dual_encoder (ours)",
        "encoder alone, of dual_encoder (ours)",
        "dual encoder alone, of dual_encoder (ours)",
        "plain (the paper's)",
    }
    shown = app_tables.show(folder / "i2t").splitlines()
    assert shown[0].split() == ["run", "head", "trained", "task", "metric", "value", "chance"] and len(shown) > 13
    assert all("(ours)" in line or "(the paper's)" in line for line in shown[1:13]) and "i2t: of the other candidates " in shown[14]
    assert not any("Kaleido-BERT" in line for line in shown)
    assert "subcategory" not in app_tables.show(folder / "pretrain")
    app_tables.run(TablesConfig((folder / "i2t", folder / "t2i", folder / "plain")))
    found = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| **")]
    assert len(found) == 5 + 9  # Table 2: two runs in four rows, one alone; details: four rows each, one alone
    assert all("(ours)" in line or "plain (the paper's)" in line for line in found)


def test_the_sum_of_ranks_is_that_of_one_model(world, tmp_path):
    both = tmp_path / "runs"
    for run in ("i2t", "t2i"):
        io.write_json(both / run / "results.json", results(world.folder / run))
    sums = {line.head: line.value for line in app_tables.summary(both) if line.metric == app_tables.SUM}
    first, second = (results(world.folder / run) for run in ("i2t", "t2i"))
    assert sums["dual_encoder (ours)"] == pytest.approx(retrieval.sum_of_ranks(first["metrics"], second["metrics"]))
    assert sums["dual encoder alone, of dual_encoder (ours)"] == pytest.approx(
        retrieval.sum_of_ranks(first["parts"]["dual encoder alone"], second["parts"]["dual encoder alone"]))
    assert sums["plain (the paper's)"] == pytest.approx(retrieval.sum_of_ranks(first["plain"]["metrics"], second["plain"]["metrics"]))
    io.write_json(both / "t2i/results.json", {**second, "model": {**second["model"], "head": "product"}})
    assert "dual_encoder (ours)" not in {line.head for line in app_tables.summary(both) if line.metric == app_tables.SUM}
