"""The captioner: attention, teacher forcing against single steps, beam search, learning, losses."""

import numpy as np
import pytest
from keras import ops

from kaleidobert.engines import optimizers, steps
from kaleidobert.errors import UserError
from kaleidobert.layers.grid_encoder import GridEncoder
from kaleidobert.losses import captioning
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.caption_decoder import END, START, Scorer, Writer, best
from kaleidobert.model_zoo.show_attend_tell import ShowAttendTell

SIZES = {"vocabulary_size": 12, "feature_size": 5, "grid": 3, "hidden_size": 8, "embedding_size": 6, "attention_size": 4,
         "context_size": 7, "dropout": 0.0}
VARIANTS = [{}, {"query": "state"}, {"start": "zero", "positions": False}, {"grounded": True}]


def captioner(spread: float = 0.6, **changes) -> ShowAttendTell:
    model = ShowAttendTell(**SIZES | changes)
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:  # start weights say too little: everything is nearly uniform
        variable.assign(rng.normal(0, spread, variable.shape))
    return model


def inputs(rows: int = 4, length: int = 6, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    pieces = rng.integers(4, 12, (rows, length)).astype(np.int32)
    pieces[:, 0] = START
    return {"grid": rng.normal(size=(rows, 9, 5)).astype(np.float32), "pieces": pieces}


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_shapes_and_attention(changes):
    model = captioner(**changes)
    outputs = steps.forward(model)(inputs())
    assert outputs["logits"].shape == (4, 6, 12) and outputs["alpha"].shape == (4, 6, 9)
    np.testing.assert_allclose(outputs["alpha"].sum(-1), 1, rtol=1e-5)
    assert (outputs["alpha"] >= 0).all() and outputs["alpha"].std() > 0.01


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_teacher_forcing_is_the_steps_one_by_one(changes):
    model, given = captioner(**changes), inputs()
    outputs = steps.forward(model)(given)
    memory = model.look(given)
    state = (memory.h, memory.c)
    for step in range(given["pieces"].shape[1]):
        embedded = model.embedding(given["pieces"][:, step : step + 1])
        *state, context, alpha = model.step(memory, tuple(state), model.feed(embedded))
        logits = model.logits(embedded, state[0], context)
        np.testing.assert_allclose(logits[:, 0], outputs["logits"][:, step], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(alpha[:, 0], outputs["alpha"][:, step], rtol=1e-4, atol=1e-6)


def test_the_context_is_gated_attention():
    model, given = captioner(), inputs(1)
    memory = model.look(given)
    _, _, context, alpha = model.step(memory, (memory.h, memory.c), model.feed(model.embedding(given["pieces"][:, :1])))
    kernel, bias = (np.asarray(weight) for weight in model.gate.weights)
    gate = 1 / (1 + np.exp(-(np.asarray(memory.h) @ kernel + bias)))
    np.testing.assert_allclose(context, gate * (np.asarray(alpha) @ np.asarray(memory.values)), rtol=1e-4)


def test_two_predictions_do_not_depend_on_later_pieces():
    model, given = captioner(), inputs()
    other = {**given, "pieces": np.concatenate([given["pieces"][:, :3], given["pieces"][:, 3:] % 8 + 4], 1)}
    first, second = (steps.forward(model)(each)["logits"] for each in (given, other))
    np.testing.assert_array_equal(first[:, :3], second[:, :3])
    assert not np.allclose(first[:, 3:], second[:, 3:])


def test_a_beam_of_one_is_greedy():
    model, given, length = captioner(), inputs(5), 7
    caption = best(steps.forward(Writer(model, 1, length))({"grid": given["grid"]}), 0.0)
    forward = steps.forward(model)
    pieces = np.full((5, 1), START, np.int32)
    for _ in range(length):
        logits = forward({"grid": given["grid"], "pieces": pieces})["logits"][:, -1]
        logits[:, [0, 1, START]] = -np.inf
        pieces = np.concatenate([pieces, logits.argmax(1)[:, None].astype(np.int32)], 1)
    for row, found in zip(pieces[:, 1:].tolist(), caption):
        assert found.pieces == (row[: row.index(END)] if END in row else row)


def score(model, given, captions, length) -> np.ndarray:
    """Log-likelihood of captions by teacher forcing, with the END where there was room for it."""
    following = np.zeros((len(captions), length), np.int32)
    for row, caption in enumerate(captions):
        whole = (caption.pieces + [END])[:length]
        following[row, : len(whole)] = whole
    pieces = np.concatenate([np.full((len(captions), 1), START, np.int32), following[:, :-1]], 1)
    outputs = steps.forward(Scorer(model))({"grid": given["grid"], "pieces": pieces, "following": following})
    for row, caption in enumerate(captions):
        np.testing.assert_allclose(caption.alpha, outputs["alpha"][row, : len(caption.pieces)], rtol=1e-3, atol=1e-5)
    return np.where(following > 0, outputs["log_likelihood"], 0).sum(1)


def test_a_wider_beam_finds_likelier_captions_and_tells_their_likelihood_and_maps():
    model, given, length, totals = captioner(0.3), inputs(16), 6, []
    biases = ops.convert_to_numpy(model.bias.embeddings).copy()
    biases[0, END] += 0.7  # to end at once is likelier than any long caption, but another piece is likelier to come first
    model.bias.embeddings.assign(biases)
    for beam in (1, 4):
        captions = best(steps.forward(Writer(model, beam, length))({"grid": given["grid"]}), 0.0)
        found = np.array([caption.score for caption in captions])
        np.testing.assert_allclose(found, score(model, given, captions, length), rtol=1e-4, atol=1e-4)
        totals.append(found.sum())
    assert totals[1] > totals[0]


def train(model, batch, number: int, coverage: float = 0.0, grounding: float = 0.0) -> dict:
    def loss(outputs, targets, weights):
        entropy = captioning.cross_entropy(outputs["logits"], targets["pieces"], weights["pieces"])
        total = entropy + coverage * captioning.coverage(outputs["alpha"], weights["pieces"])
        if grounding:
            total = total + grounding * sum(captioning.grounding(outputs, targets["pieces"], weights["pieces"]))
        return {"loss": total, "cross_entropy": entropy}

    optimizer = optimizers.adam(2e-2)
    optimizer.build(model.trainable_variables)
    update = steps.train_step(model, loss, optimizer, 5.0)
    for _ in range(number):
        last = update(*batch)
    return last


def lesson(rows: int = 4) -> tuple:
    """Each picture has one lit cell, and its caption names it twice."""
    grid, pieces = np.zeros((rows, 9, 5), np.float32), np.zeros((rows, 4), np.int32)
    for row in range(rows):
        grid[row, 2 * row, row] = 3.0
        pieces[row] = [START, 5 + row, 10, 5 + row]
    following = np.concatenate([pieces[:, 1:], np.full((rows, 1), END, np.int32)], 1)
    return {"grid": grid, "pieces": pieces}, {"pieces": following}, {"pieces": np.ones((rows, 4), np.float32)}


def test_learns_captions_by_heart_and_writes_them():
    model, batch = ShowAttendTell(**SIZES), lesson()
    assert train(model, batch, 150)["cross_entropy"] < 0.05
    captions = best(steps.forward(Writer(model, 2, 5))({"grid": batch[0]["grid"]}), 0.7)
    assert [caption.pieces for caption in captions] == [[5 + row, 10, 5 + row] for row in range(4)]


def test_grounding_makes_attention_look_at_the_cell_that_tells_the_word():
    model, batch = ShowAttendTell(**SIZES, grounded=True, positions=False), lesson()
    train(model, batch, 200, grounding=1.0)
    alpha = steps.forward(model)(batch[0])["alpha"]  # also the second time, when the words before give it away
    assert [alpha[row, 2].argmax() for row in range(4)] == [0, 2, 4, 6] and (alpha[np.arange(4), 2, 2 * np.arange(4)] > 0.5).all()


def test_coverage_is_nothing_where_all_cells_get_the_same():
    weights = np.array([[1, 1, 0]], np.float32)
    even, one = np.full((1, 3, 4), 0.25, np.float32), np.zeros((1, 3, 4), np.float32)
    one[..., 0] = 1
    assert float(captioning.coverage(even, weights)) == pytest.approx(0, abs=1e-6)
    assert float(captioning.coverage(one, weights)) == pytest.approx((3**2 + 3) / 4)  # sums 4, 0, 0, 0


def test_uniform_logits_have_the_entropy_of_the_vocabulary():
    logits, weights = np.zeros((2, 3, 12), np.float32), np.array([[1, 1, 0], [1, 0, 0]], np.float32)
    assert float(captioning.cross_entropy(logits, np.zeros((2, 3), np.int32), weights)) == pytest.approx(np.log(12))


def test_pictures_and_checkpoint(tmp_path):
    sizes = SIZES | {"picture_size": 24, "dropout": 0.2}
    model = ShowAttendTell(**sizes)
    picture = np.random.default_rng(0).integers(0, 256, (2, 24, 24, 3)).astype(np.uint8)
    given = {"picture": picture, "pieces": inputs(2)["pieces"]}
    before = steps.forward(model)(given)
    assert before["alpha"].shape == (2, 6, 9)
    checkpoints.save(tmp_path / "a.npz", model)
    again = ShowAttendTell(**sizes | {"seed": 5})
    assert not np.allclose(steps.forward(again)(given)["logits"], before["logits"])
    checkpoints.restore(tmp_path / "a.npz", again)
    np.testing.assert_array_equal(steps.forward(again)(given)["logits"], before["logits"])
    with pytest.raises(UserError, match="query is state"):
        checkpoints.save(tmp_path / "b.npz", ShowAttendTell(**sizes | {"query": "state"}))
        checkpoints.restore(tmp_path / "b.npz", ShowAttendTell(**sizes))


def test_cells_see_their_surroundings_only():
    encoder = GridEncoder(6, 8, 0)
    picture = np.zeros((1, 64, 64, 3), np.uint8)
    spotted = picture.copy()
    spotted[:, :8, :8] = 255
    changed = np.abs(np.asarray(encoder(picture)) - np.asarray(encoder(spotted))).sum(-1).reshape(8, 8) > 0
    assert changed[0, 0] and not changed[6:].any() and not changed[:, 6:].any()
    with pytest.raises(UserError, match="8 per cell"):
        GridEncoder(6, 8, 0)(picture[:, :60, :60])


def test_two_builds_are_equal():
    first, second = ShowAttendTell(**SIZES), ShowAttendTell(**SIZES)
    assert [v.path for v in first.variables] == [v.path for v in second.variables]
    for one, other in zip(first.variables, second.variables):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
