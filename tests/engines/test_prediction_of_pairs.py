"""Pairs scored with shared sides: the answers of the plain way, whatever the batches and the memory, and after an interruption."""

import json
import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
from keras import ops

from benchmarks import floors, flops
from benchmarks import retrieval as retrieval_benchmark
from kaleidobert import configs
from kaleidobert.app_zoo import models
from kaleidobert.app_zoo.retrieve import ranking
from kaleidobert.app_zoo.retrieve.ranking import Ranker, ScoreCache
from kaleidobert.datasets.sampling import finetuning
from kaleidobert.datasets.sampling.pretraining import clean_batch
from kaleidobert.engines import prediction, steps
from kaleidobert.engines.prediction import PairScorer, Sides, predict
from kaleidobert.errors import UserError
from kaleidobert.evaluators import candidates, retrieval
from kaleidobert.evaluators.candidates import PADDING, PROTOCOLS, CandidateLists, Records
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import CONTRASTIVE_MATCH, MATCHING_HEADS, matcher, pretrainer
from kaleidobert.model_zoo.pairs import Pairs
from kaleidobert.preprocessors import examples
from tests.support.apps_data import SIZES as WORLD_SIZES
from tests.support.apps_data import World, call, results
from tests.support.random_data import random_bank
from tests.support.tables import TABLES
from tests.support.tiny import tiny_bank

pytestmark = pytest.mark.slow

SIZES = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "intermediate_size": 32, "max_positions": 32, "initializer_range": 0.2}
# every head, compiled, and every level table; the head with all parts on the paper's table is in test_batches_memory_and_trimming
CASES = [*((head, "two") for head in MATCHING_HEADS),
         *(pytest.param("product", name, marks=pytest.mark.eager) for name in TABLES if name != "two")]
HALF = {"precision": "mixed_bfloat16"}


@dataclass
class Settings:
    """What a Ranker reads of a RetrieveConfig."""

    predict_batch_size: int = 16
    train: configs.Train = configs.Train()


@pytest.fixture(scope="module")
def banks(tmp_path_factory):
    return {name: random_bank(tmp_path_factory.mktemp(name), levels) for name, levels in TABLES.items()}


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> World:
    """A tiny bank, and the checkpoint of a network that knows nothing yet."""
    folder = tmp_path_factory.mktemp("two")
    world = World(folder, TABLES["two"], tiny_bank(folder, TABLES["two"]))
    model = pretrainer(models.backbone_config(world.bank, world.levels, WORLD_SIZES, configs.Train()))
    checkpoints.save(world.best, model, None, {**model.describe(), **world.bank.identity})
    return world


def model_of(bank, head="plain", **changes):
    sizes = {"levels": bank.levels, "feature_size": bank.feature_size, "vocabulary_size": bank.vocabulary.size,
             "text_length": bank.text_length, "standardise_features": head != "plain"}
    model = matcher({**SIZES, **sizes, **changes}, head, width=24)
    if head == "contrastive":
        model.get_layer(CONTRASTIVE_MATCH).gain.assign(0.05)  # a fresh one is 0: the sides would not count
    return model


def sides_of(bank) -> Sides:
    return Sides(lambda rows: finetuning.picture_inputs(bank, rows), lambda rows: finetuning.text_inputs(bank, rows),
                 finetuning.text_lengths(bank))


def lists_of(bank, direction="i2t", queries=13, length=9) -> CandidateLists:
    """Random lists, the last of them half padding."""
    rng = np.random.Generator(np.random.Philox(3))
    found = np.stack([rng.permutation(bank.size)[:length] for _ in range(queries)])
    found[-1, length // 2 :] = PADDING
    return CandidateLists(rng.permutation(bank.size)[:queries], found, np.arange(length) == np.zeros((queries, 1)), direction, 0, "")


def plainly(model, bank, lists) -> np.ndarray:
    """f32[Q, L]: every pair by itself, at full length; nothing is compiled."""
    query, place = np.nonzero(lists.valid)
    asked, answer = lists.queries[query], lists.candidates[query, place]
    pictures, texts = (asked, answer) if lists.direction == "i2t" else (answer, asked)
    scores = np.full(lists.candidates.shape, -np.inf, np.float32)
    scores[query, place] = ops.convert_to_numpy(ops.cast(model(clean_batch(bank, pictures, texts), training=False)["itm"], "float32"))[:, 1]
    return scores


# --- the same answers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("head", "name"), CASES)
def test_scores_are_those_of_the_plain_way(banks, head, name):
    bank = banks[name]
    model = model_of(bank, head)
    ranker = Ranker(model, bank, np.arange(bank.size), Settings())
    for direction in candidates.DIRECTIONS:
        lists = lists_of(bank, direction)
        expected, found = plainly(model, bank, lists), ranker.table(lists)
        assert np.ptp(expected[lists.valid]) > 0.01 and np.isneginf(found[~lists.valid]).all() and (~lists.valid).any()
        np.testing.assert_allclose(found[lists.valid], expected[lists.valid], rtol=1e-4, atol=5e-6)


@pytest.mark.parametrize(("head", "changes"), [
    ("plain", {"num_layers": 1}), ("dual_encoder", {"num_layers": 1}), ("plain", {"num_layers": 3, **HALF}), ("product", HALF),
    ("contrastive", HALF), ("dual_encoder", HALF)])
def test_other_networks(banks, head, changes):
    bank, half = banks["two"], "precision" in changes
    model, lists = model_of(bank, head, **changes), lists_of(bank)
    expected, found = plainly(model, bank, lists), Ranker(model, bank, np.arange(bank.size), Settings()).table(lists)
    # half precision rounds in another order; the towers' product, which is added to it, is float32
    np.testing.assert_allclose(found[lists.valid], expected[lists.valid], rtol=1e-4, atol=0.03 if half else 5e-6)


def test_batches_memory_and_trimming_change_nothing_but_speed(banks):
    bank = banks["kaleido"]
    model, lists = model_of(bank, "dual_encoder"), lists_of(bank)
    query, place = np.nonzero(lists.valid)
    pictures, texts = lists.queries[query], lists.candidates[query, place]
    expected = plainly(model, bank, lists)[query, place]
    whole = np.full(bank.size, bank.text_length)
    lengths = finetuning.text_lengths(bank)
    for batch_size, memory, longest in ((1000, 2**30, lengths), (16, 2**18, whole), (5, 2**17, lengths)):
        sides = Sides(lambda rows: finetuning.picture_inputs(bank, rows), lambda rows: finetuning.text_inputs(bank, rows), longest)
        scorer = PairScorer(model, sides, batch_size, memory)
        batches = scorer.batches(pictures, texts)
        assert sorted(np.concatenate([batch.pairs for batch in batches])) == list(range(len(query)))
        assert max(len(batch.pairs) for batch in batches) <= batch_size
        blocks = {(tuple(batch.all_pictures), tuple(batch.all_texts)) for batch in batches}
        assert (len(blocks) > 1) == (memory < 2**30)
        found, again = (np.full(len(query), np.nan, np.float32) for _ in range(2))
        for target in (found, again):
            for batch, scores in scorer.scores(batches):
                assert (batch.all_pictures[batch.pictures] == pictures[batch.pairs]).all()
                assert (batch.all_texts[batch.texts] == texts[batch.pairs]).all()
                assert batch.length >= longest[texts[batch.pairs]].max()
                target[batch.pairs] = scores
        assert found.tobytes() == again.tobytes()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=5e-6)


def test_tables_and_texts_of_all_sizes_are_one_trace(banks, monkeypatch):
    bank, traced, call = banks["kaleido"], [], Pairs.call
    monkeypatch.setattr(Pairs, "call", lambda *args, **kwargs: (traced.append(1), call(*args, **kwargs))[1])
    scorer, tables = PairScorer(model_of(bank, "dual_encoder"), sides_of(bank), 8), set()
    for size in (2, 3, 4, 5, 6):
        pictures, texts = (part.ravel() for part in np.mgrid[:size, bank.size - 4 : bank.size])
        for batch, scores in scorer.scores(scorer.batches(pictures, texts)):
            tables.add((len(batch.all_pictures), batch.length))
            assert len(batch.pairs) == len(scores) in (4, 8)
    assert len(tables) >= 4
    assert len(traced) == 2  # of batches of eight pairs, and of four


def test_each_side_is_read_once_and_texts_go_by_length(banks):
    bank, read = banks["two"], {"pictures": [], "texts": []}

    def noted(name, make):
        return lambda rows: read[name].append(rows) or make(bank, rows)

    sides = Sides(noted("pictures", finetuning.picture_inputs), noted("texts", finetuning.text_inputs), finetuning.text_lengths(bank))
    scorer = PairScorer(model_of(bank), sides, 16)
    pictures, texts = (grid.ravel() for grid in np.meshgrid(np.arange(40), np.arange(20)))
    batches = scorer.batches(pictures, texts)
    list(scorer.scores(batches))
    assert sorted(np.concatenate(read["pictures"])) == list(range(40)) and sorted(np.concatenate(read["texts"])) == list(range(20))
    cut = [batch.length for batch in batches]
    assert cut == sorted(cut) and cut[0] == 8 < cut[-1] == 24 and len(batches) == 50


def test_bytes_instead_of_floats(banks, monkeypatch):
    bank = banks["two"]
    model, lists = model_of(bank), lists_of(bank)
    features = finetuning.picture_inputs(bank, np.arange(bank.size))["patch_features"].astype(np.float32)
    scale = features.max(-1) / 255
    stored = {"patch_features": np.rint(features / scale[..., None]).astype(np.uint8), "patch_features_scale": scale}
    same = {"patch_features": stored["patch_features"] * scale[..., None]}

    def found(arrays):
        chosen = {name: array for name, array in arrays.items()}
        monkeypatch.setattr(finetuning, "picture_inputs", lambda _, rows: {"patch_boxes": bank.boxes[rows]} | {
            name: array[rows] for name, array in chosen.items()})
        return Ranker(model, bank, np.arange(bank.size), Settings()).table(lists)

    np.testing.assert_allclose(found(stored), found(same), rtol=1e-5, atol=1e-6)


def test_answers_that_are_not_finite_are_refused(banks):
    bank = banks["two"]
    model = model_of(bank)
    broken = Sides(lambda rows: {**finetuning.picture_inputs(bank, rows), "patch_boxes": bank.boxes[rows] * np.nan},
                   lambda rows: finetuning.text_inputs(bank, rows),
                 finetuning.text_lengths(bank))
    scorer = PairScorer(model, broken, 8)
    with pytest.raises(UserError, match=r"i2t: the model's output 'itm' is not finite, nor is the input from the bank \(patch_boxes\)"):
        list(scorer.scores(scorer.batches(np.arange(9), np.arange(9)), "i2t"))
    model.get_layer("head_itm").bias.assign(np.array([0, np.inf], np.float32))
    scorer = PairScorer(model, sides_of(bank), 8)
    with pytest.raises(UserError, match="although the bank's features are: training has diverged"):
        list(scorer.scores(scorer.batches(np.arange(9), np.arange(9))))


# --- interrupted ------------------------------------------------------------------------------------------------------


def test_a_store_gives_back_what_is_whole(tmp_path):
    rng, path = np.random.Generator(np.random.Philox(0)), tmp_path / ".scores.part"
    batches = [rng.standard_normal(size).astype(np.float32) for size in (5, 3, 1)]
    with ScoreCache(path, {"lists": "a"}) as store:
        assert not store.resumed and store.read(5) is None
        for batch in batches:
            store.add(batch)
    whole = path.read_bytes()
    for kept, count in ((len(whole), 3), (len(whole) - 1, 2), (len(whole) - 8, 2), (len(whole) - 9, 1), (len(whole) - 40, 0)):
        path.write_bytes(whole[:kept])
        with ScoreCache(path, {"lists": "a"}) as again:
            for number, batch in enumerate(batches):
                found = again.read(len(batch))
                assert (found is not None) == (number < count) and (found is None or found.tobytes() == batch.tobytes())
                if found is None:
                    again.add(batch)
        assert path.read_bytes() == whole
    path.write_bytes(whole[:-20] + b"\0" * 20)  # what a machine that lost its power may leave
    with ScoreCache(path, {"lists": "a"}) as damaged:
        assert [damaged.read(len(batch)) is not None for batch in batches] == [True, False, False]
    with ScoreCache(path, {"lists": "b"}) as other:
        assert not other.resumed and path.read_bytes() == b'{"lists": "b"}\n'


@pytest.mark.eager
@pytest.mark.parametrize("direction", candidates.DIRECTIONS)
def test_an_interrupted_run_goes_on_with_the_same_bits(two: World, direction, monkeypatch):
    changes = {"direction": direction, "protocol": "full", "predict_batch_size": 7}
    whole, broken = (two.retrieve(f"{name}-{direction}", **changes) for name in ("whole", "broken"))
    assert call("retrieve", whole).status == 0
    begin, scored = PairScorer._begin, []

    def begin_some(self, batch, tables):
        if len(scored) == 4:
            raise KeyboardInterrupt
        scored.append(len(batch.pairs))
        return begin(self, batch, tables)

    monkeypatch.setattr(PairScorer, "_begin", begin_some)
    assert call("retrieve", broken).status == 130 and (broken.run / ".scores.part").is_file()
    assert not (broken.run / "scores.jsonl").exists()
    first = sum(scored[:3])  # the fourth was under way
    scored[:] = []
    monkeypatch.setattr(PairScorer, "_begin", lambda *batch: scored.append(len(batch[1].pairs)) or begin(*batch))
    done = call("retrieve", broken)
    assert done.status == 0 and "resuming" in done.out and "scored before" in done.out
    asked = sum(len(json.loads(line)["scores"]) for line in (whole.run / "scores.jsonl").read_text().splitlines())
    assert first + sum(scored) == asked and sum(scored) > 0
    assert (broken.run / "scores.jsonl").read_bytes() == (whole.run / "scores.jsonl").read_bytes()
    assert results(broken.run)["metrics"] == results(whole.run)["metrics"]
    assert not list(broken.run.glob(".scores*")) and not list(whole.run.glob(".scores*"))


# --- galleries too large for tables -----------------------------------------------------------------------------------


@pytest.mark.eager
def test_a_gallery_in_parts(two: World, monkeypatch):
    small, large = (two.retrieve(name, protocol="full", baselines=True) for name in ("as-text", "as-array"))
    assert call("retrieve", small).status == 0
    monkeypatch.setattr(ranking, "MAX_LINES", 10)
    done = call("retrieve", large)
    assert done.status == 0 and "scores.npy, gallery.json" in done.out
    lines = [json.loads(line) for line in (small.run / "scores.jsonl").read_text().splitlines()]
    table, named = np.load(large.run / "scores.npy"), json.loads((large.run / "gallery.json").read_text())
    np.testing.assert_allclose(table, [line["scores"] for line in lines], rtol=1e-6)
    assert named["queries"] == [line["query"] for line in lines]
    assert all(named["candidates"] == line["candidates"] for line in lines)
    first, second = results(small.run), results(large.run)
    assert first["metrics"] == second["metrics"] and first["baselines"] == second["baselines"]
    assert first["candidates"] == second["candidates"] and not list(large.run.glob("*.jsonl"))


@pytest.mark.parametrize("direction", candidates.DIRECTIONS)
def test_metrics_of_parts_are_those_of_the_whole(direction):
    names = [f"p{number:03d}" for number in range(120)]
    products = [f"q{number // 3}" for number in range(120)]
    texts = [f"text {number // 3 % 31}" for number in range(120)]
    lists = candidates.build(Records(names, products, products, ["s"] * 120, texts), direction, 0, protocol=PROTOCOLS["full"])
    rng = np.random.Generator(np.random.Philox(1))
    scores = rng.integers(0, 12, lists.candidates.shape).astype(np.float32)  # with ties
    expected = retrieval.report(scores, lists.relevant, lists.valid, np.random.default_rng(0))
    for size in (1, 500, 10**6):
        start, tallies = 0, []
        for part in lists.chunks(size):
            rows = slice(start, start + len(part.queries))
            assert (part.relevant == lists.relevant[rows]).all() and (part.candidates == lists.candidates[rows]).all()
            tallies.append(retrieval.per_query_metrics(scores[rows], part.relevant, part.valid))
            start = rows.stop
        assert start == len(lists.queries) and len(tallies) == {1: len(scores), 500: -(-len(scores) // (500 // lists.length))}.get(size, 1)
        assert retrieval.summarise(retrieval.concatenate(tallies), np.random.default_rng(0)) == expected


def test_chance_is_that_of_a_random_order():
    rng = np.random.Generator(np.random.Philox(4))
    valid = np.arange(14) < rng.integers(9, 15, (40, 1))
    relevant = (np.arange(14) < rng.integers(1, 4, (40, 1))) & valid
    found = retrieval.per_query_metrics(rng.random((40, 14)), relevant, valid).tables["chance"]
    constant = retrieval.per_query_metrics(np.zeros((40, 14)), relevant, valid).tables["expectation"]
    for name, values in constant.items():
        np.testing.assert_array_equal(found[name], values)


def test_the_memory_of_a_large_gallery_is_bounded():
    count = 6000
    names = [f"p{number:05d}" for number in range(count)]
    texts = [f"text {number}" for number in range(count)]
    tracemalloc.start()
    records = Records(names, names, names, ["s"] * count, texts)
    pool = candidates.Pool(names, names, names, ["s"] * count, texts)
    asked, offered = pool.gallery("t2i")
    lists = candidates.Gallery(pool.rows[asked], pool.rows[offered], lambda part: pool.right_in_gallery("t2i", part), "t2i", 0, "", "full")
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    parts = lists.chunks(20 * count)
    tallies = []
    for _ in range(3):
        part = next(parts)
        scores = -np.abs(part.candidates - part.queries[:, None]).astype(np.float32)
        tallies.append(retrieval.per_query_metrics(scores, part.relevant, part.valid))
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert lists.num_pairs == count**2 and peak < count**2  # not a byte a pair; tables would take 13
    assert (retrieval.concatenate(tallies).ranks() == 1).all() and records.ids[pool.rows[0]] == names[0]
    wide = candidates.Gallery(np.arange(20000), np.arange(20000), lists.right, "i2t", 0, "", "full")
    with pytest.raises(UserError, match="20,000 queries times 20,000 candidates are too many for one table"):
        wide.candidates  # noqa: B018


def test_prediction_by_length_keeps_the_order_of_its_rows(banks):
    bank, batches = banks["two"], []
    model, rows = model_of(bank), np.random.Generator(np.random.Philox(2)).permutation(40)

    def inputs(part):
        batches.append(finetuning.text_lengths(bank)[part].max())
        return examples.trim(clean_batch(bank, part))

    forward = steps.forward(model)
    expected = predict(forward, inputs, rows, 8)["itm"]
    unsorted, batches[:] = sum(batches), []
    found = predict(forward, inputs, rows, 8, lengths=finetuning.text_lengths(bank)[rows])["itm"]
    assert batches == sorted(batches) and sum(batches) < unsorted
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=5e-6)


def test_filled_lengths_are_few():
    sizes = {len(prediction.padded(np.arange(size))) for size in range(1, 257)}
    assert len(sizes) < 60
    for size in (1, 7, 16, 17, 202, 256):
        rows = prediction.padded(np.arange(size))
        assert rows[:size].tolist() == list(range(size)) and (rows[size:] == size - 1).all() and size <= len(rows) <= size * 9 / 8


# --- the benchmark ----------------------------------------------------------------------------------------------------


def test_one_pair_shares_nothing():
    levels, one = TABLES["kaleido"], np.array([0])
    sizes = {"hidden_size": 8, "num_layers": 3, "intermediate_size": 32, "feature_size": 5, "text_length": 16}
    batches = [prediction.Batch(one, one, one, one, one, 16)]
    whole = sum(flops.matcher(sizes, levels).values())
    assert sum(retrieval_benchmark.needed(sizes, levels, batches, "product").values()) == whole
    length = 16 + 55
    behind = (length - 1) * (4 * 8 * 8 + 4 * 8 * 32 + 4 * length * 8)  # query, output, feed-forward and attention of other positions
    assert sum(retrieval_benchmark.needed(sizes, levels, batches, "plain").values()) == whole - behind
    many = [prediction.Batch(np.arange(9), np.zeros(9, int), np.zeros(9, int), one, one, 16)]
    shared = 55 * (2 * 5 * 8 + 2 * 5 * 8) + length * 6 * 8 * 8
    assert sum(retrieval_benchmark.needed(sizes, levels, many, "product").values()) == 9 * whole - 8 * shared


def test_the_program(capsys, tmp_path, monkeypatch, unfused):
    monkeypatch.setattr(floors, "LEAST_SECONDS", 0.001)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = tmp_path / "figures.json"
    words = ["--size", "tiny", "--queries", "2", "--candidates", "6", "--pictures", "9", "--repeats", "1", "--batch", "8"]
    assert retrieval_benchmark.main([*words, "--direction", "t2i", "--json", str(path)]) == 0
    written, printed = json.loads(path.read_text()), capsys.readouterr().out
    assert printed.startswith(f"## {written['title']}\n") and "1,000 x 101 pairs, extrapolated: " in printed
    assert written["pairs"] == 12 and sum(written["flop"].values()) < written["flop_plain"]
    assert [row["unit"] for row in written["timings"]] == ["pairs"] * 3 and not list(tmp_path.glob("kaleido-benchmark-*"))
