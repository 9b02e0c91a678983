"""``kaleidobert caption``: its examples, its three modes from training to written captions, and what it refuses."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from kaleidobert import configs
from kaleidobert.app_zoo import models
from kaleidobert.app_zoo.caption import caption, writing
from kaleidobert.app_zoo.caption.writing import simple_captions
from kaleidobert.app_zoo.retrieve.fine_tuning import DualEncoderModel
from kaleidobert.datasets.sampling.finetuning import CaptionTaskSampler
from kaleidobert.datasets.sampling.pretraining import clean_batch, maskable
from kaleidobert.engines import optimizers, steps
from kaleidobert.evaluators import baselines
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import CAPTION_MODES, Captioner, captioner, classifier, matcher, pretrainer, rebuild
from kaleidobert.preprocessors import examples
from tests.support.apps_data import SIZES, TRAIN, World, call, edit, refused, results
from tests.support.quick import still
from tests.support.tables import TWO
from tests.support.tiny import make_bank, tiny_bank, tiny_catalogue

pytestmark = [pytest.mark.slow, pytest.mark.eager]

QUIET = configs.Noise()
ENOUGH = configs.Model(hidden_size=32, num_layers=1, num_heads=4, intermediate_size=64, max_positions=16, dropout=0.0,
                       attention_dropout=0.0, initializer_range=0.1, standardise_features=True)
NOTHING = "\u200b"  # a text without a word piece
STILL = replace(TRAIN, epochs=0)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    """With an untrained pre-training checkpoint."""
    folder = tmp_path_factory.mktemp("world")
    world = World(folder, TWO, tiny_bank(folder, TWO))
    checkpoints.save(world.best, pretrainer(models.backbone_config(world.bank, TWO, SIZES, TRAIN)), None, world.bank.identity)
    return world


@pytest.fixture(scope="module")
def runs(world) -> dict[str, str]:
    """Of each mode a finished run, and what it printed."""
    done = {}
    for mode in CAPTION_MODES:
        with pytest.MonkeyPatch.context() as patch:
            if mode == "mask-predict":  # trained as mask-all is
                still(patch)
            done[mode] = call("caption", world.caption(mode, mode=mode, baselines=mode == "causal",
                                                       held_out=0.2 if mode == "mask-all" else 0.0))
    assert all(one.status == 0 for one in done.values()), done
    return {mode: one.out for mode, one in done.items()}


# --- examples -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", CAPTION_MODES)
def test_examples_ask_what_the_mode_says(world, mode):
    bank, vocabulary = world.bank, world.bank.vocabulary
    sampler = CaptionTaskSampler(bank, bank.rows("train"), mode, QUIET, 8, 3)
    for step in range(4):
        inputs, targets, weights = sampler.batch(step)
        rows = sampler.order.batch(step)
        ids, asked = bank.token_ids[rows], weights["pieces"].astype(bool)
        assert np.array_equal(targets["pieces"][:8], ids[:, 1:]) and inputs["predict_positions"].shape == targets["pieces"].shape
        if mode == "causal":
            assert np.array_equal(inputs["token_ids"], ids) and np.array_equal(asked, ids[:, 1:] != vocabulary.pad)
            assert (inputs["predict_positions"] == np.arange(15)).all() and weights.keys() == {"pieces"}
            continue
        real = maskable(bank, rows)
        masked = inputs["token_ids"][:8] == vocabulary.mask
        assert np.array_equal(masked[:, 1:], asked[:8]) and (real | ~masked).all() and masked.any(1).all()
        assert np.array_equal(inputs["token_ids"][:8][~masked], ids[~masked]) and (inputs["predict_positions"] == np.arange(1, 16)).all()
        assert mode == "mask-predict" or np.array_equal(masked, real)
        # behind them an empty text for each fourth picture, of which the length alone is asked
        assert inputs["token_ids"][8:].tolist() == [[vocabulary.start, vocabulary.end] + [vocabulary.pad] * 14] * 2
        assert inputs["token_mask"][8:].sum() == 4 and not asked[8:].any() and weights["length"].tolist() == [0] * 8 + [1] * 2
        assert (targets["length"][8:] + 1).tolist() == real.sum(1)[:2].tolist()
        assert np.array_equal(inputs["patch_features"][8:], inputs["patch_features"][:2])


def test_every_number_of_masked_pieces_is_as_likely(world):
    sampler = CaptionTaskSampler(world.bank, world.bank.rows("train"), "mask-predict", QUIET, 16, 0)
    shares = []
    for step in range(200):
        _, targets, weights = sampler.batch(step)
        lengths = (targets["length"] + 1)[:16]
        shares.append(weights["pieces"][:16].sum(1)[lengths == 5])
    counts = np.bincount(np.concatenate(shares).astype(int), minlength=6)
    assert counts[0] == 0 and counts[1:].min() > 0.8 * counts[1:].mean()


@pytest.mark.parametrize("mode", CAPTION_MODES)
def test_examples_depend_on_seed_and_step_only_and_validation_is_quiet(world, mode):
    noise, rows = configs.Noise(patch_dropout=0.5, token_dropout=0.5), world.bank.rows("train")
    first, second = (CaptionTaskSampler(world.bank, rows, mode, noise, 8, 3) for _ in range(2))
    assert all(np.array_equal(a[name], b[name]) for a, b in zip(first.batch(5), second.batch(5)) for name in a)
    clean = CaptionTaskSampler(world.bank, rows, mode, QUIET, 8, 3)
    noisy, quiet = first.batch(5)[0], clean.batch(5)[0]
    assert not noisy["patch_features"].any(2).all() and quiet["patch_features"].any(2).all()
    changed = noisy["token_ids"] != quiet["token_ids"]
    assert changed.any() == (mode != "mask-all") and (noisy["token_ids"][changed] == world.bank.vocabulary.mask).all()
    assert all(np.array_equal(a[name], b[name]) for a, b in zip(first.validation(1), clean.validation(1)) for name in a)
    parts = []
    while (part := first.validation(len(parts))) is not None:
        parts.append(part[1]["pieces"][: len(rows[8 * len(parts) : 8 * len(parts) + 8])])
    assert np.array_equal(np.concatenate(parts), world.bank.token_ids[rows][:, 1:])


# --- learning -----------------------------------------------------------------------------------------------------------


@pytest.mark.eager(False)
@pytest.mark.parametrize("mode", CAPTION_MODES)
def test_texts_are_learnt_and_written(world, mode):
    bank = world.bank
    rows = bank.rows("train")[np.unique(bank.column("product_id")[bank.rows("train")], return_index=True)[1]][:8]
    model = captioner(models.backbone_config(bank, TWO, ENOUGH, TRAIN), mode)
    models.adapt(model, bank, "train")
    optimizer = optimizers.adam(optimizers.WarmupLinearDecay(1e-2, 300, 20))
    optimizer.build(model.trainable_variables)
    update = steps.train_step(model, caption.objective(0.0), optimizer, 1.0)
    sampler = CaptionTaskSampler(bank, rows, mode, QUIET, 8, 0)
    for step in range(200):
        update(*sampler.batch(step))
    config = world.caption(mode=mode, writing=configs.Writing(length_candidates=1))
    found = writing.texts(bank, bank.column("text")[rows], writing.write(config, model, bank, rows, rows))
    assert found == bank.column("text")[rows].tolist()
    if mode != "causal":
        oracle = writing.write(replace(config, length="oracle"), model, bank, rows, rows)
        assert [len(one.pieces) for one in oracle] == maskable(bank, rows).sum(1).tolist()


# --- the command --------------------------------------------------------------------------------------------------------


@pytest.mark.plotted
@pytest.mark.parametrize("mode", CAPTION_MODES)
def test_a_run_writes_what_it_promises(world, runs, mode):
    run, bank, out = world.folder / mode, world.bank, runs[mode]
    for name in ("config.yaml", "metrics.jsonl", "last.npz", "best.npz", "losses.png", "captions.png", "table.md"):
        assert (run / name).stat().st_size > 0
    Image.open(run / "captions.png").verify()
    outcome, lines = results(run), [json.loads(line) for line in (run / "captions.jsonl").read_text().splitlines()]
    rows = [bank.rows("val")[bank.column("product_id")[bank.rows("val")] == product][0]
            for product in dict.fromkeys(bank.column("product_id")[bank.rows("val")])]
    assert [line["image_id"] for line in lines] == bank.column("image_id")[rows].tolist()
    assert [line["references"] for line in lines] == [[text] for text in bank.column("text")[rows]]  # views share their text
    assert all(line["caption"] and line["length"] >= 1 and line["log_probability"] < 0 for line in lines)
    coco = json.loads((run / "captions_coco.json").read_text())
    assert coco == [{name: line[name] for name in ("image_id", "caption")} for line in lines]
    assert (outcome["task"], outcome["mode"], outcome["pictures"]) == ("caption", mode, len(lines))
    assert outcome["length"] == ("end piece" if mode == "causal" else "predicted")
    assert {"bleu4", "meteor", "rouge_l", "cider_d"} <= outcome["metrics"].keys()
    assert ("perplexity" in outcome["metrics"]) == (mode == "causal") and outcome["metrics"]["bleu4"].keys() == {"value", "low", "high"}
    assert set(outcome["baselines"]) == ({"nearest_picture", "commonest_of_subcategory"} if mode == "causal" else set())
    for text in (str(run), f"mode {mode}", "BLEU-4", "CIDEr-D", *outcome["baselines"], lines[0]["caption"]):
        assert text.replace("_", " ") in out.replace("_", " ")
    new = "new: head_length" if mode != "causal" else f"weights from {world.best}\n"
    assert new in out


def test_the_best_epoch_is_chosen_on_held_out_groups(world, runs):
    for mode in ("mask-all", "causal"):
        rows = [json.loads(line) for line in (world.folder / mode / "metrics.jsonl").read_text().splitlines()]
        split = "held_out" if mode == "mask-all" else "val"
        losses = {row["step"]: row["loss"] for row in rows if row["split"] == split}
        kept = checkpoints.load_meta(world.folder / mode / "best.npz")
        assert kept["step"] == (min(losses, key=losses.get) if mode == "mask-all" else max(losses)) and kept["loss"] == losses[kept["step"]]
    config = world.caption(held_out=0.2)
    train, held = caption._hold_out(config, caption.open_data(config))
    groups = world.bank.column("group")
    assert not set(groups[train]) & set(groups[held]) and set(train) | set(held) == set(world.bank.rows("train"))


def test_a_matcher_chooses_among_written_captions_and_training_texts(world, runs):
    arguments = models.backbone_config(world.bank, TWO, SIZES, TRAIN)
    for head in ("dual_encoder", "plain"):
        model = matcher(arguments, head, width=24)
        checkpoints.save(world.folder / f"{head}.npz", model, None, models.origin(model, world.bank))
    changes = {"mode": "causal", "init": world.folder / "causal/best.npz", "train": STILL}
    done = call("caption", world.caption("chosen", **changes, writing=configs.Writing(matcher=world.folder / "dual_encoder.npz")))
    outcome, lines = results(world.folder / "chosen"), written(world.folder / "chosen")
    assert done.status == 0 and f"{outcome['share_found']:.1%} of the captions are texts of training products" in done.out
    assert outcome["share_found"] == np.mean([line["found"] for line in lines]) > 0
    assert outcome["written"]["bleu4"] != outcome["metrics"]["bleu4"]

    data, own = caption.open_data(world.caption()), [line["caption"] for line in written(world.folder / "causal")]
    texts = list(dict.fromkeys([*own, *data.train_texts]))
    encoded, _ = world.bank.tokenizer().encode(texts, world.bank.text_length)
    model = matcher(arguments, "dual_encoder", width=24)
    for number, (row, line) in enumerate(zip(data.shown, lines)):
        inputs = {**examples.text(encoded, world.bank.vocabulary.pad)}
        inputs |= {"patch_features": np.repeat(clean_batch(world.bank, np.array([row]))["patch_features"], len(texts), 0)}
        sides = {name: np.asarray(array) for name, array in DualEncoderModel(model)(inputs).items()}
        match = dict(zip(texts, (sides["text_side"] * sides["picture_side"]).sum(1)))
        best = max([own[number], *data.train_texts], key=match.get)
        assert abs(match[line["caption"]] - match[best]) < 1e-4 and line["found"] == (line["caption"] != own[number])
    bad = call("caption", world.caption("bad", **changes, writing=configs.Writing(matcher=world.folder / "plain.npz")))
    assert bad.status == 2 and "without towers" in bad.err and not (world.folder / "bad").exists()


def test_a_trained_captioner_writes_again_without_training(world, runs):
    done = call("caption", world.caption("again", mode="causal", init=world.folder / "causal/best.npz", train=STILL))
    assert done.status == 0 and not (world.folder / "again/last.npz").exists()
    assert (world.folder / "again/captions.jsonl").read_text() == (world.folder / "causal/captions.jsonl").read_text()


def written(run) -> list[dict]:
    return [json.loads(line) for line in (run / "captions.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("length, said", [("fixed", "length: fixed"), ("oracle", r"length: oracle (leaks the reference's length)")])
def test_lengths_are_as_asked_and_called_so(world, runs, length, said):
    done = call("caption", world.caption(length, init=world.folder / "mask-all/best.npz", length=length, train=STILL))
    outcome, lengths = results(world.folder / length), [line["length"] for line in written(world.folder / length)]
    own, train = (maskable(world.bank, rows).sum(1) for rows in (caption.open_data(world.caption()).shown, world.bank.rows("train")))
    assert done.status == 0 and said in done.out and outcome["length"] == length
    assert lengths == (own.tolist() if length == "oracle" else [round(np.median(train))] * len(own))
    assert outcome.get("fixed_length") == (round(np.median(train)) if length == "fixed" else None)


def test_refinement_in_one_iteration_is_mask_all(world, runs):
    once = {"init": world.folder / "mask-predict/best.npz", "mode": "mask-predict", "train": STILL}
    assert call("caption", world.caption("once", **once, writing=configs.Writing(iterations=1))).status == 0
    model = captioner(models.backbone_config(world.bank, TWO, SIZES, TRAIN), "mask-all")
    checkpoints.transfer(once["init"], model)
    data = caption.open_data(world.caption())
    found = writing.write(world.caption(), model, world.bank, data.train, data.shown)
    assert [line["caption"] for line in written(world.folder / "once")] == writing.texts(world.bank, data.train_texts, found)


def test_an_interrupted_run_ends_as_one_that_was_not(world, runs, interrupt):
    config = world.caption("resumed", mode="causal", held_out=0.0)
    interrupt(3)
    assert call("caption", config).status == 130 and (world.folder / "resumed/last.npz").is_file()
    interrupt(0)
    done = call("caption", config)
    assert done.status == 0 and "resuming" in done.out
    for name in ("captions.jsonl", "metrics.jsonl", "best.npz", "last.npz"):
        one, two = (world.folder / folder / name for folder in ("causal", "resumed"))
        assert one.read_bytes() == two.read_bytes()


@pytest.mark.eager(False)
def test_references_are_all_texts_of_the_product_and_pictures_may_be_missing(tmp_path):
    source = tiny_catalogue(tmp_path / "catalogue")
    edit(source, lambda rows: [row.update(text="seen from behind") for row in rows if row["view"] == "back"])
    edit(source, lambda rows: [row.update(text=NOTHING) for row in rows if row["id"] == "p10"])
    world = World(tmp_path, TWO, make_bank(tmp_path / "bank", source, TWO))
    data = caption.open_data(world.caption())
    products = world.bank.column("product_id")[data.shown].tolist()
    assert "p10" not in products  # nothing to compare with
    texts = dict(zip(products, data.references))
    assert texts["p09"][1:] == ["seen from behind"] and len(texts["p11"]) == 1
    (tmp_path / "catalogue/p11-front.png").unlink()
    done = call("caption", world.caption(init=None, from_scratch=True, mode="causal", train=replace(TRAIN, epochs=0.5)))
    assert done.status == 0 and "no captions.png" in done.out and "p11-front.png" in done.out
    assert not (tmp_path / "caption/captions.png").exists() and results(tmp_path / "caption")["task"] == "caption"


def test_simple_captions(world, monkeypatch):
    bank = world.bank
    rows, texts = bank.rows("train"), bank.column("text")[bank.rows("train")].tolist()
    monkeypatch.setattr(baselines, "nearest_neighbours", lambda train, labels, features: labels)  # the truth
    found = simple_captions(bank, rows, texts, rows, "subcategory")
    assert found["nearest_picture"] == texts  # of a training picture its own
    for kind, text in zip(bank.column("subcategory")[rows], found["commonest_of_subcategory"]):
        assert kind in text and texts.count(text) == max(texts.count(other) for other in texts if kind in other)
    found = simple_captions(bank, rows, texts, rows[:3], "season")
    assert found.keys() == {"nearest_picture", "commonest"} and len(set(found["commonest"])) == 1


# --- what it refuses ----------------------------------------------------------------------------------------------------


def test_settings_that_make_no_sense(world, runs):
    for changes, words in [
        ({"init": None}, ("no pre-trained checkpoint", "from_scratch=true")),
        ({"init": world.folder / "none.npz"}, ("there is no such checkpoint",)),
        ({"model": replace(SIZES, hidden_size=32)}, ("does not fit", "hidden_size 16")),
        ({"mode": "causal", "length": "oracle"}, ("mode is causal and length is oracle", "end piece")),
        ({"length": "fixed", "fixed_length": 15}, ("fixed_length is 15", "at most 14")),
        ({"writing": configs.Writing(max_length=15)}, ("max_length is 15",)),
        ({"data": replace(world.training, val_split="test")}, ("split 'test' is empty", "train")),
        ({"data": replace(world.training, bank=None, files=world.folder / "data.tsv")}, ("data.files is set", "data.bank")),
        ({"train": STILL}, ("holds a 'pretrainer'", "'captioner' of mode mask-all", "train.epochs is 0")),
        ({"train": STILL, "init": world.folder / "causal/best.npz"}, ("holds a 'captioner' of mode causal", "mode mask-all")),
        ({"train": STILL, "init": None, "from_scratch": True}, ("random weights and no training",)),
        ({"data": replace(world.training, train_share=0.1)}, ("training split has 2 group", "held_out=0")),
    ]:
        for extra in ((), ("--dry-run",)):
            refused(call("caption", world.caption("refused", **changes), *extra), *words)
    assert not (world.folder / "refused").exists()


def test_mistyped_words(world):
    refused(call("caption", world.caption("typed"), "mode=casual"), "mode is 'casual'", "mask-all, mask-predict, causal", "'causal'")
    refused(call("caption", world.caption("typed"), "length=short"), "predicted, fixed, oracle")
    refused(call("caption", world.caption("typed"), "writing.num_beams=0"), "writing: num_beams is 0; expected: at least 1")


def test_a_split_without_texts(tmp_path):
    source = tiny_catalogue(tmp_path / "catalogue")
    edit(source, lambda rows: [row.update(text=NOTHING) for row in rows if row["split"] == "val"])
    world = World(tmp_path, TWO, make_bank(tmp_path / "bank", source, TWO))
    refused(call("caption", world.caption(init=None, from_scratch=True)), "no picture of 'val' has a text")


def test_a_captioner_starts_others_and_others_start_it(world, runs, tmp_path):
    arguments = models.backbone_config(world.bank, TWO, SIZES, TRAIN)
    other = classifier(arguments, 3)
    assert checkpoints.transfer(world.folder / "causal/best.npz", other) == ["head_label/bias", "head_label/kernel"]
    checkpoints.save(tmp_path / "other.npz", other)
    fresh = checkpoints.transfer(tmp_path / "other.npz", captioner(arguments, "causal"))
    assert {name.split("/")[0] for name in fresh} == {"head_mlm"}
    restored = rebuild(checkpoints.load_meta(world.folder / "causal/best.npz"))
    assert isinstance(restored, Captioner) and restored.mode == "causal"
