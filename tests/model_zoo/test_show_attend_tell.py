"""The captioner: attention, teacher forcing against single steps, beam search, learning, losses."""

import keras
import numpy as np
import pytest
from keras import ops

from kaleidobert.engines import optimizers, steps
from kaleidobert.errors import UserError
from kaleidobert.layers.caption_attention import GridEncoder
from kaleidobert.losses import auxiliary
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.show_attend_tell import END, START, Scorer, ShowAttendTell, Writer, best
from kaleidobert.model_zoo.word_grounding import Cells, WordGrounder

pytestmark = [pytest.mark.slow, pytest.mark.eager]

SIZES = {"vocabulary_size": 12, "feature_size": 5, "grid": 3, "hidden_size": 8, "embedding_size": 6, "attention_size": 4,
         "context_size": 7, "dropout": 0.0}
VARIANTS = [{}, {"query": "state"}, {"start": "zero", "positions": False}, {"guided": True, "near": 2}]


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
    memory = model.encode_picture(given)
    state = (memory.h, memory.c)
    for step in range(given["pieces"].shape[1]):
        embedded = model.embedding(given["pieces"][:, step : step + 1])
        feed = model.step_inputs(embedded, given["pieces"][:, step : step + 1])
        *state, context, alpha = model.step(memory, tuple(state), feed)
        logits = model.logits(embedded, state[0], context)
        np.testing.assert_allclose(logits[:, 0], outputs["logits"][:, step], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(alpha[:, 0], outputs["alpha"][:, step], rtol=1e-4, atol=1e-6)


def test_the_context_is_gated_attention():
    model, given = captioner(), inputs(1)
    memory = model.encode_picture(given)
    feed = model.step_inputs(model.embedding(given["pieces"][:, :1]), given["pieces"][:, :1])
    _, _, context, alpha = model.step(memory, (memory.h, memory.c), feed)
    kernel, bias = (np.asarray(weight) for weight in model.gate.weights)
    gate = 1 / (1 + np.exp(-(np.asarray(memory.h) @ kernel + bias)))
    np.testing.assert_allclose(context, gate * (np.asarray(alpha) @ np.asarray(memory.values)), rtol=1e-4)


def test_two_predictions_do_not_depend_on_later_pieces():
    model, given = captioner(), inputs()
    other = {**given, "pieces": np.concatenate([given["pieces"][:, :3], given["pieces"][:, 3:] % 8 + 4], 1)}
    first, second = (steps.forward(model)(each)["logits"] for each in (given, other))
    np.testing.assert_array_equal(first[:, :3], second[:, :3])
    assert not np.allclose(first[:, 3:], second[:, 3:])


@pytest.mark.eager(False)
def test_captions_of_all_lengths_are_one_trace(monkeypatch):
    model, given, traced, call = captioner(), inputs(), [], ShowAttendTell.call
    monkeypatch.setattr(ShowAttendTell, "call", lambda *args, **kwargs: (traced.append(1), call(*args, **kwargs))[1])
    optimizer = keras.optimizers.SGD(0.0)
    optimizer.build(model.trainable_variables)
    update = steps.train_step(model, lambda outputs, targets, weights: {"loss": keras.ops.mean(outputs["logits"])}, optimizer, 1.0)
    forward, score, found = steps.forward(model), steps.forward(Scorer(model)), []
    for length in (6, 2, 4):
        pieces = given["pieces"][:, :length]
        part = {**given, "pieces": pieces}
        update(part, {"pieces": pieces}, {"pieces": np.ones(pieces.shape, np.float32)})
        found.append((forward(part)["logits"], score({**part, "next_tokens": pieces})["log_likelihood"]))
    assert len(traced) == 3  # one of training, two of prediction
    for logits, likelihood in found[1:]:
        np.testing.assert_allclose(logits, found[0][0][:, : logits.shape[1]], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(likelihood, found[0][1][:, : logits.shape[1]], rtol=1e-5, atol=1e-6)


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
    outputs = steps.forward(Scorer(model))({"grid": given["grid"], "pieces": pieces, "next_tokens": following})
    for row, caption in enumerate(captions):
        rows = min(len(caption.pieces) + 1, length)
        np.testing.assert_allclose(caption.alpha[:rows], outputs["alpha"][row, :rows], rtol=1e-3, atol=1e-5)
    return np.where(following > 0, outputs["log_likelihood"], 0).sum(1)


def test_a_wider_beam_finds_likelier_captions_and_tells_their_likelihood_and_maps():
    model, given, length, totals = captioner(0.45), inputs(16), 6, []
    biases = ops.convert_to_numpy(model.bias.embeddings).copy()
    biases[0, END] += 0.7  # to end at once is likelier than any long caption, but another piece is likelier to come first
    model.bias.embeddings.assign(biases)
    for beam in (1, 4):
        captions = best(steps.forward(Writer(model, beam, length))({"grid": given["grid"]}), 0.0)
        found = np.array([caption.score for caption in captions])
        np.testing.assert_allclose(found, score(model, given, captions, length), rtol=1e-4, atol=1e-4)
        totals.append(found.sum())
    assert totals[1] > totals[0]


def caption_loss(outputs, targets, weights):
    entropy = auxiliary.caption_cross_entropy(outputs["logits"], targets["pieces"], weights["pieces"])
    if "word_attention" not in outputs:
        return {"loss": entropy, "cross_entropy": entropy}
    return {
        "loss": entropy + auxiliary.attention_distillation(outputs["word_attention"], outputs["alpha"], weights["cooccurrence_labels"]),
        "cross_entropy": entropy,
    }


def grounder_loss(outputs, targets, weights):
    return {"loss": sum(auxiliary.grounding_loss(outputs, targets, weights))}


def train(model, batch, number: int, loss=caption_loss) -> dict:
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


@pytest.mark.eager(False)
def test_learns_captions_by_heart_and_writes_them():
    model, batch = ShowAttendTell(**SIZES), lesson()
    assert train(model, batch, 150)["cross_entropy"] < 0.05
    captions = best(steps.forward(Writer(model, 2, 5))({"grid": batch[0]["grid"]}), 0.7)
    assert [caption.pieces for caption in captions] == [[5 + row, 10, 5 + row] for row in range(4)]


def riddle(rows: int = 64) -> tuple:
    """Somewhere in each picture lies a mark of one of two kinds, on cell 2 or 6, and somewhere else one of two others, on cell 1 or 5;
    the text says of piece 10 which kind the first is (5, 6), and of piece 11 the same of the second (7, 8); a third of the texts is
    silent about the second, which is then not there."""
    rng = np.random.default_rng(2)
    grid, kinds, places = np.zeros((rows, 9, 5), np.float32), rng.integers(0, 2, (rows, 2)), rng.integers(0, 2, (rows, 2))
    silent = np.arange(rows) % 3 == 0
    first, second = np.where(places[:, 0], 2, 6), np.where(places[:, 1], 1, 5)
    grid[np.arange(rows), first, kinds[:, 0]] = 3
    grid[~silent, second[~silent], 2 + kinds[~silent, 1]] = 3
    pieces = np.stack([np.full(rows, START), np.full(rows, 10), 5 + kinds[:, 0], np.where(silent, 0, 11),
                       np.where(silent, 0, 7 + kinds[:, 1])], 1).astype(np.int32)
    following = np.concatenate([pieces[:, 1:], np.full((rows, 1), END)], 1).astype(np.int32)
    told = np.zeros((rows, 5, 4), np.float32)  # 5, 6, 7, 8
    told[np.arange(rows), 1, kinds[:, 0]] = told[np.arange(rows), 3, 2 + kinds[:, 1]] = 1
    asked = np.zeros((rows, 5), np.float32)
    asked[:, 1], asked[:, 3] = 1, ~silent
    candidates = np.full((rows, 1), 11, np.int32)
    return (
        (
            {"grid": grid, "pieces": pieces, "candidates": candidates},
            {
                "pieces": following,
                "cooccurrence_labels": told,
                "cooccurrence_prior": np.zeros_like(told),
                "presence_labels": (~silent)[:, None].astype(np.float32),
                "presence_prior": np.zeros((rows, 1), np.float32),
            },
            {"pieces": (pieces > 0).astype(np.float32), "cooccurrence_labels": asked, "presence_labels": np.ones((rows, 1), np.float32)},
        ),
        first,
        second,
        silent,
    )


GROUNDER = {
    "vocabulary_size": 12,
    "feature_size": 5,
    "num_context_words": 4,
    "grid": 3,
    "attention_size": 4,
    "context_size": 7,
    "dropout": 0.0,
}


@pytest.mark.eager(False)
def test_a_grounder_makes_a_word_look_at_what_the_text_says_of_it_and_the_captioner_follows():
    grounder, (batch, first, second, silent) = WordGrounder(**GROUNDER), riddle()
    train(grounder, batch, 300, grounder_loss)
    captioner = ShowAttendTell(**SIZES, guided=True)
    captioner.copy_word_attention(grounder)
    before = captioner.word_attention.get_weights()
    train(captioner, batch, 200)
    for own, old in zip(captioner.word_attention.get_weights(), before):
        np.testing.assert_array_equal(own, old)
    looked = steps.forward(grounder)(batch[0])["word_attention"]
    alpha = steps.forward(captioner)({name: batch[0][name] for name in ("grid", "pieces")})["alpha"]  # row k: having read piece k
    for maps in (looked, alpha):
        assert (maps[:, 1].argmax(-1) == first).mean() > 0.9 and (maps[~silent, 3].argmax(-1) == second[~silent]).mean() > 0.9


@pytest.mark.eager(False)
def test_texts_of_all_lengths_are_one_trace_of_a_grounder(monkeypatch):
    grounder, (batch, *_), traced, call = WordGrounder(**GROUNDER), riddle(4), [], WordGrounder.call
    monkeypatch.setattr(WordGrounder, "call", lambda *args, **kwargs: (traced.append(1), call(*args, **kwargs))[1])
    optimizer = keras.optimizers.SGD(0.0)
    optimizer.build(grounder.trainable_variables)
    update, forward, found = steps.train_step(grounder, grounder_loss, optimizer, 1.0), steps.forward(grounder), []
    for length in (5, 2, 4):
        cut = [
            {
                name: array if name in ("grid", "candidates", "presence_labels", "presence_prior") else array[:, :length]
                for name, array in part.items()
            }
            for part in batch
        ]
        assert np.isfinite(update(*cut)["loss"])
        found.append(forward(cut[0])["cooccurrence_labels"])
    assert len(traced) == 2  # one of training, one of prediction
    for told in found[1:]:
        np.testing.assert_allclose(told, found[0][:, : told.shape[1]], rtol=1e-5, atol=1e-6)


def test_single_words_look_at_the_near_features_only():
    batch, *_ = riddle(4)
    grounder = WordGrounder(**GROUNDER | {"near": 2})
    train(grounder, batch, 3, grounder_loss)
    moved = batch[0] | {"grid": batch[0]["grid"] + np.where(np.arange(5) < 2, 0, 3).astype(np.float32)}
    first, second = (steps.forward(grounder)(each) for each in (batch[0], moved))
    for name in ("word_attention", "cooccurrence_labels", "presence_labels"):
        np.testing.assert_array_equal(first[name], second[name])
    other = batch[0] | {"grid": batch[0]["grid"] + np.where(np.arange(5) < 2, 1, 0).astype(np.float32) * np.arange(9)[:, None]}
    assert np.abs(steps.forward(grounder)(other)["word_attention"] - first["word_attention"]).max() > 1e-4


def test_a_grounder_of_pictures_and_its_cells():
    grounder = WordGrounder(**GROUNDER | {"picture_size": 24})
    picture = np.random.default_rng(0).integers(0, 256, (2, 24, 24, 3)).astype(np.uint8)
    cells = steps.forward(Cells(grounder))({"picture": picture})["cells"]
    given = {"pieces": np.array([[START, 5], [START, 6]], np.int32), "candidates": np.array([[5, 6], [6, 7]], np.int32)}
    looked = steps.forward(grounder)({"picture": picture, **given})["word_attention"]
    captioner = ShowAttendTell(**SIZES, guided=True)
    captioner.copy_word_attention(grounder)  # at the cells as they are: they are normalised
    memory = captioner.encode_picture({"grid": cells})
    energy = captioner.word_attention.energy(memory.word_keys, captioner.word_attention.queries(given["pieces"]))
    np.testing.assert_allclose(ops.convert_to_numpy(ops.softmax(energy)), looked, rtol=1e-4, atol=1e-6)


def test_telling_counts_what_is_asked_only_and_starts_at_the_prior():
    (_, targets, weights), *_ = riddle(6)
    even = np.full((6, 5, 9), 1 / 9, np.float32)
    outputs = {
        "cooccurrence_labels": np.zeros_like(targets["cooccurrence_labels"]),
        "presence_labels": np.zeros_like(targets["presence_labels"]),
    }
    told, held = (float(part) for part in auxiliary.grounding_loss(outputs, targets, weights))
    apart = float(auxiliary.attention_distillation(even, even, weights["cooccurrence_labels"]))
    assert told == pytest.approx(4 * np.log(2), rel=1e-5) and apart == pytest.approx(np.log(9), rel=1e-5)
    assert held == pytest.approx(6 * np.log(2) / weights["cooccurrence_labels"].sum(), rel=1e-5)
    sure = {**targets, "cooccurrence_prior": np.where(targets["cooccurrence_labels"] > 0, 30, -30).astype(np.float32)}
    assert float(auxiliary.grounding_loss(outputs, sure, weights)[0]) == pytest.approx(0, abs=1e-4)
    other = {**outputs, "cooccurrence_labels": np.where(weights["cooccurrence_labels"][..., None] > 0, 0, 9).astype(np.float32)}
    assert float(auxiliary.grounding_loss(other, targets, weights)[0]) == pytest.approx(told)


def test_coverage_is_nothing_where_all_cells_get_the_same():
    weights = np.array([[1, 1, 0]], np.float32)
    even, one = np.full((1, 3, 4), 0.25, np.float32), np.zeros((1, 3, 4), np.float32)
    one[..., 0] = 1
    assert float(auxiliary.coverage(even, weights)) == pytest.approx(0, abs=1e-6)
    assert float(auxiliary.coverage(one, weights)) == pytest.approx((3**2 + 3) / 4)  # sums 4, 0, 0, 0


def test_uniform_logits_have_the_entropy_of_the_vocabulary():
    logits, weights = np.zeros((2, 3, 12), np.float32), np.array([[1, 1, 0], [1, 0, 0]], np.float32)
    assert float(auxiliary.caption_cross_entropy(logits, np.zeros((2, 3), np.int32), weights)) == pytest.approx(np.log(12))


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


def test_the_features_of_a_frozen_grid_are_brought_to_one_scale_once():
    model, rng = ShowAttendTell(**SIZES), np.random.default_rng(3)
    sample = rng.normal(size=(20, 9, 5)) * [0.1, 1, 10, 1, 1] + [0, 5, 0, -3, 1]
    model.adapt_features(sample.astype(np.float32))
    cells = np.asarray(model.cells({"grid": sample.astype(np.float16)}))
    np.testing.assert_allclose(cells.mean((0, 1)), 0, atol=0.02)
    assert (cells.std((0, 1))[1:] > 0.8).all() and (cells.std((0, 1)) < 1.02).all()
    assert "cell_norm/mean" in {variable.path.split("/", 1)[-1] for variable in model.variables} and \
        not any("cell_norm" in variable.path for variable in model.trainable_variables)
