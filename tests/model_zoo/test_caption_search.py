"""Writing captions: the causal attention, kept keys and values, beam search and refinement, each against a plain loop."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from kaleidobert.engines import steps
from kaleidobert.errors import UserError
from kaleidobert.model_zoo import caption_search
from kaleidobert.model_zoo.kaleidobert import CAPTION_MODES, Captioner, Pretrainer
from tests.support.network_data import SIZES, backbone, batch

pytestmark = pytest.mark.slow

SPECIAL = SimpleNamespace(pad=0, unknown=1, start=2, end=3, mask=4)
LENGTH, VOCABULARY = SIZES["text_length"], SIZES["vocabulary_size"]
MOST = LENGTH - 2


def model(mode: str, table: str = "two", **changes) -> Captioner:
    return Captioner(backbone(table, initializer_range=0.3, **changes), mode)


@pytest.fixture(scope="module")
def causal() -> Captioner:
    return model("causal")


@pytest.fixture(scope="module")
def causal_logits(causal):
    return steps.forward(causal)


@pytest.fixture(scope="module")
def masked() -> Captioner:
    return model("mask-predict")


@pytest.fixture(scope="module")
def masked_logits(masked):
    return steps.forward(masked)


@pytest.fixture(scope="module")
def answer(masked):
    return steps.forward(caption_search.MaskFiller(masked, SPECIAL))


def pictures(table: str = "two", rows: int = 5) -> dict[str, np.ndarray]:
    return {name: batch(table, rows)["inputs"][name] for name in ("patch_features", "patch_boxes")}


def text(ids: np.ndarray) -> dict[str, np.ndarray]:
    return {"token_ids": ids, "segment_ids": np.zeros_like(ids), "token_mask": ids != SPECIAL.pad}


def random_text(rows: int = 5, seed: int = 1) -> np.ndarray:
    ids = np.random.Generator(np.random.Philox(seed)).integers(5, VOCABULARY, (rows, LENGTH)).astype(np.int32)
    ids[:, 0] = SPECIAL.start
    return ids


def everywhere(rows: int = 5) -> np.ndarray:
    return np.repeat(np.arange(LENGTH, dtype=np.int32)[None], rows, 0)


# --- causal attention ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["kaleido", "two"])
def test_no_piece_sees_a_later_one(table):
    forward = steps.forward(model("causal", table))
    ids, inputs = random_text(), {**pictures(table), "predict_positions": everywhere()}
    logits = forward({**inputs, **text(ids)})["pieces"]
    for place in range(1, LENGTH):
        other = ids.copy()
        other[:, place:] = (other[:, place:] + 7) % VOCABULARY
        shorter = ids.copy()
        shorter[:, place:] = SPECIAL.pad
        for changed in (other, shorter):
            found = forward({**inputs, **text(changed)})["pieces"]
            assert np.array_equal(found[:, :place], logits[:, :place])
            assert not np.allclose(found[:, place], logits[:, place])


def test_patches_see_no_text_and_text_sees_patches(causal):
    inputs = causal.backbone.declare_inputs()
    forward = steps.forward(keras.Model(inputs, {"sequence": causal.backbone.causal(inputs)["sequence"]}))
    clear = pictures()
    first = forward({**clear, **text(random_text())})["sequence"]
    other = forward({**clear, **text(random_text(seed=2))})["sequence"]
    assert np.array_equal(first[:, LENGTH:], other[:, LENGTH:]) and not np.allclose(first[:, :LENGTH], other[:, :LENGTH])
    spoiled = forward({**clear, "patch_features": clear["patch_features"][::-1], **text(random_text())})["sequence"]
    assert all(not np.allclose(first[row, :LENGTH], spoiled[row, :LENGTH]) for row in (0, 1))


@pytest.mark.parametrize("table", ["kaleido", "two"])
def test_kept_keys_and_values_give_the_logits_of_the_whole_text(table):
    captioner = model("causal", table)
    ids, clear = random_text(rows=10).reshape(5, 2, LENGTH), pictures(table)
    whole = steps.forward(captioner)
    expected = [whole({**clear, **text(ids[:, k]), "predict_positions": everywhere()})["pieces"] for k in range(2)]
    writer = caption_search.BeamWriter(captioner, SPECIAL, 2, LENGTH - 1)
    memory, cache = writer.encode_pictures({name: keras.ops.convert_to_tensor(array, "float32") for name, array in clear.items()})
    seen = np.zeros((5, 2, LENGTH, 2), np.float32)
    for place in range(LENGTH):
        seen[:, [0, 1], place, [0, 1]] = 1
        logits, cache = writer.step(ids[:, :, place], place, memory, cache, seen)
        for k in range(2):
            np.testing.assert_allclose(keras.ops.convert_to_numpy(logits)[:, k], expected[k][:, place], rtol=1e-5, atol=1e-5)


# --- beam search --------------------------------------------------------------------------------------------------------


def plain_search(forward, clear: dict, beam: int, most: int) -> list[tuple[float, list[int]]]:
    """(score, pieces with the end) of every caption in the beam of one picture, the best first; the whole text is computed anew."""
    alive = [(0.0, [])]
    for place in range(most + 1):
        options = []
        for score, pieces in alive:
            if pieces and pieces[-1] == SPECIAL.end:
                options.append((score, pieces))
                continue
            ids = np.array([([SPECIAL.start, *pieces] + [SPECIAL.pad] * LENGTH)[:LENGTH]], np.int32)
            logits = forward({**clear, **text(ids), "predict_positions": everywhere(1)})["pieces"][0, place].astype(np.float64)
            allowed = [SPECIAL.end] if place == most else [*([SPECIAL.end] if place else []), *range(5, VOCABULARY)]
            chances = logits[allowed] - np.log(np.exp(logits[allowed]).sum())
            options += [(score + chance, [*pieces, piece]) for chance, piece in zip(chances, allowed)]
        alive = sorted(options, key=lambda option: -option[0])[:beam]
    return alive


@pytest.mark.parametrize("beam, most", [(1, MOST), (3, MOST), (4, 3)])
def test_search_finds_what_a_plain_loop_finds(causal, causal_logits, beam, most):
    search = steps.forward(caption_search.BeamWriter(causal, SPECIAL, beam, most))
    for seed in range(2):
        clear = {name: array[seed : seed + 1] for name, array in pictures().items()}
        outputs, expected = search(clear), plain_search(causal_logits, clear, beam, most)
        found = [[int(piece) for piece in row if piece != SPECIAL.pad] for row in outputs["pieces"][0]]
        assert found == [pieces for _, pieces in expected]
        np.testing.assert_allclose(outputs["scores"][0], [score for score, _ in expected], rtol=1e-5, atol=1e-4)


def test_a_beam_is_no_worse_than_greedy_and_batches_do_not_matter(causal):
    clear = pictures(rows=12)
    search = {beam: steps.forward(caption_search.BeamWriter(causal, SPECIAL, beam, MOST)) for beam in (1, 4)}
    scores = {beam: function(clear)["scores"].max(1) for beam, function in search.items()}
    assert scores[4].mean() > scores[1].mean()
    parts = [search[4]({name: array[start : start + 5] for name, array in clear.items()})["scores"] for start in (0, 5, 10)]
    np.testing.assert_allclose(np.concatenate(parts).max(1), scores[4], rtol=1e-5)


def test_the_best_of_a_beam():
    outputs = {"pieces": np.array([[[7, 3, 0, 0], [7, 8, 9, 3]]]), "scores": np.array([[-2.0, -3.0]])}
    assert caption_search.best(outputs, SPECIAL, 0.0) == [caption_search.Written([7], -2.0)]
    assert caption_search.best(outputs, SPECIAL, 1.0) == [caption_search.Written([7, 8, 9], -3.0)]  # -2 / 2 < -3 / 4


def test_search_in_half_precision():
    captioner = model("causal", precision="mixed_bfloat16")
    outputs = steps.forward(caption_search.BeamWriter(captioner, SPECIAL, 2, MOST))(pictures())
    assert np.isfinite(outputs["scores"]).all() and (outputs["pieces"] == SPECIAL.end).sum(2).max() == 1


# --- masked texts -------------------------------------------------------------------------------------------------------


def plain_refinement(forward, clear: dict, length: int, iterations: int) -> tuple[list[int], float]:
    """The same for one picture and one length, without arrays."""
    pieces, certain = [SPECIAL.mask] * length, [-np.inf] * length
    for iteration in range(iterations):
        count = length * (iterations - iteration) // iterations
        places = sorted(range(length), key=lambda place: certain[place])[:count]
        for place in places:
            pieces[place] = SPECIAL.mask
        if not places:
            break
        ids = np.array([([SPECIAL.start, *pieces, SPECIAL.end] + [SPECIAL.pad] * LENGTH)[:LENGTH]], np.int32)
        logits = forward({**clear, **text(ids), "predict_positions": everywhere(1)})["pieces"][0].astype(np.float64)
        for place in places:
            chances = logits[place + 1, 5:] - np.log(np.exp(logits[place + 1, 5:]).sum())
            pieces[place], certain[place] = int(chances.argmax()) + 5, chances.max()
    return pieces, float(sum(certain))


@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_refinement_does_what_a_plain_loop_does(masked_logits, answer, iterations):
    clear, lengths = pictures(), np.array([[1], [2], [4], [5], [6]])
    found = caption_search.mask_predict(answer, clear, lengths, iterations, SPECIAL, LENGTH)
    for row, caption in enumerate(found):
        one = {name: array[row : row + 1] for name, array in clear.items()}
        pieces, total = plain_refinement(masked_logits, one, lengths[row, 0], iterations)
        assert caption.pieces == pieces and caption.log_probability == pytest.approx(total, abs=1e-4)


def test_of_several_lengths_the_best_mean_stays(answer):
    clear = pictures()
    lengths = np.array([[2, 5, 3]] * 5)
    each = [caption_search.mask_predict(answer, clear, lengths[:, k : k + 1], 2, SPECIAL, LENGTH) for k in range(3)]
    for row, caption in enumerate(caption_search.mask_predict(answer, clear, lengths, 2, SPECIAL, LENGTH)):
        best = max((found[row] for found in each), key=lambda one: one.log_probability / len(one.pieces))
        assert caption.pieces == best.pieces and caption.log_probability == pytest.approx(best.log_probability, abs=1e-5)


def test_lengths_are_asked_of_an_empty_text(masked_logits, answer):
    clear = pictures()
    ids = np.full((5, LENGTH), SPECIAL.pad, np.int32)
    ids[:, :2] = SPECIAL.start, SPECIAL.end
    logits = masked_logits({**clear, **text(ids), "predict_positions": everywhere()})["length"]
    found = caption_search.predicted_lengths(answer, clear, 3, SPECIAL, LENGTH)
    assert found.shape == (5, 3) and np.array_equal(found, np.argsort(-logits, 1)[:, :3] + 1)
    assert caption_search.predicted_lengths(answer, clear, 99, SPECIAL, LENGTH).shape == (5, MOST)


# --- the model ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", CAPTION_MODES)
def test_scores_are_log_probabilities_of_the_answers(mode):
    captioner = model(mode)
    inputs = {**pictures(), **text(random_text()), "predict_positions": everywhere()}
    right = {"right_pieces": random_text(seed=3), "right_length": np.arange(5, dtype=np.int32)}
    outputs, found = steps.forward(captioner)(inputs), steps.forward(caption_search.Scorer(captioner))({**inputs, **right})
    assert outputs.keys() == found.keys() == ({"pieces"} if mode == "causal" else {"pieces", "length"})
    for name, logits in outputs.items():
        chances = logits - np.log(np.exp(logits.astype(np.float64)).sum(-1, keepdims=True))
        np.testing.assert_allclose(found[name], np.take_along_axis(chances, right[f"right_{name}"][..., None], -1)[..., 0], atol=1e-4)


def test_unknown_modes_and_texts_without_room():
    with pytest.raises(UserError, match="mode 'both'.*mask-all or mask-predict or causal"):
        model("both")
    with pytest.raises(UserError, match="2 pieces of text.*at least 3"):
        model("causal", text_length=2)


@pytest.mark.parametrize("mode", CAPTION_MODES)
def test_variables_are_those_of_pretraining_and_one_head(mode):
    for table in ("two", "renamed"):
        pretrained = {weight.path: tuple(weight.shape) for weight in Pretrainer(backbone(table)).weights}
        mine = {weight.path: tuple(weight.shape) for weight in Captioner(backbone(table), mode).weights}
        own = {} if mode == "causal" else {"head_length/kernel": (SIZES["hidden_size"], MOST), "head_length/bias": (MOST,)}
        kept = {name: shape for name, shape in pretrained.items() if not name.startswith("head_") or name.startswith("head_mlm/")}
        assert mine == kept | own
