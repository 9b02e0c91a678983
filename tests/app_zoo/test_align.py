"""kaleidobert align: links in the bank, both modes, resuming, texts that say nothing, what it refuses."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest

from kaleidobert import configs
from kaleidobert.app_zoo.align import align as app
from kaleidobert.app_zoo.align import task
from kaleidobert.datasets import grid_features
from kaleidobert.datasets.bank import alignment
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sampling.captions import END, PAD, START, UNKNOWN, CaptionSampler, CaptionVocabulary, augment
from kaleidobert.errors import UserError
from kaleidobert.preprocessors import alignment_generator, encoders
from kaleidobert.preprocessors.tokenization import Word, join_pieces
from tests.support import tables
from tests.support.apps_data import CAPTIONER, World, call, edit, refused, results
from tests.support.tiny import make_bank, tiny_bank, tiny_catalogue

pytestmark = [pytest.mark.slow, pytest.mark.eager]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    folder = tmp_path_factory.mktemp("align")
    return World(folder, tables.KALEIDO, tiny_bank(folder))


@pytest.fixture(scope="module")
def done(world):
    config = world.align(grid=configs.Grid("small", 16, channels=4, keep=True))
    return config, call("align", config, "mode=teacher_forced")


@pytest.mark.plotted
def test_forced_mode_aligns_every_word(world, done):
    config, outcome = done
    assert outcome.status == 0, outcome.err
    bank, place = Bank(world.data.bank), config.run / "teacher_forced"
    strengths, outcomes = alignment.strengths(bank), results(place)
    counts = outcomes["alignment"]
    assert counts["words_with_map"] == counts["words"] > counts["content_words"] == counts["content_words_with_map"] > 0
    assert counts["pictures_without_alignment"] == 0
    assert strengths.shape == (bank.size, bank.text_length, 55) and not strengths[bank.token_words < 0].any()
    assert outcomes["model"] == {
        "head": "Show, Attend and Tell, word grounder, word queries, cell positions, teacher_forced",
        "head_of": "ours",
        "trained": "word grounder trained at most 2 epochs; captioner trained at most 2 epochs",
        "trained_in_this_run": "word grounder trained at most 2 epochs; captioner trained at most 2 epochs",
        "init": None,
        "masking": None,
    }
    assert outcomes["metrics"]["perplexity"] > 1 and set(outcomes["baselines"]) == {"nearest_picture", "commonest_of_subcategory"}
    words = [json.loads(line) for line in (place / "words.jsonl").read_text().splitlines()]
    maps = np.load(place / "maps.npy")
    assert maps.shape[0] == len(words) == bank.size and maps.shape[2:] == (2, 2)
    for row, entry in enumerate(words):
        assert entry["words"] == " ".join(entry["words"]).split()
        np.testing.assert_allclose(maps[row].sum((1, 2))[: len(entry["words"])], entry["has_map"], atol=5e-3)
    first = np.flatnonzero(words[0]["has_map"])[0]
    pieces = bank.token_words[0] == first
    assert (strengths[0][pieces].sum(1) > 0).all()
    assert (strengths[0][pieces] == strengths[0][pieces][0]).all()  # pieces of one word share their alignment
    assert "captions of" in outcome.out and str(place) in outcome.out


def test_another_mode_trains_nothing_anew(world, done):
    config, _ = done
    before = (config.run / "captioner/best.npz").stat().st_mtime_ns
    outcome = call("align", config, "mode=generated", "keep_maps=false")
    assert outcome.status == 0, outcome.err
    assert (config.run / "captioner/best.npz").stat().st_mtime_ns == before
    assert (config.run / "teacher_forced/results.json").is_file() and not (config.run / "generated/maps.npy").exists()
    assert alignment.info(Bank(world.data.bank))["mode"] == "generated"
    assert len(alignment.captions(Bank(world.data.bank))) == Bank(world.data.bank).size


def test_an_interrupted_alignment_goes_on_with_equal_strengths(world, done, monkeypatch):
    config, _ = done
    monkeypatch.setattr(app, "CHUNK", 7)
    call("align", config, "mode=teacher_forced", "regions.top_k=1")  # in parts of 7
    whole = np.array(alignment.strengths(Bank(world.data.bank)))
    honest, calls = app._align, []

    def break_off(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return honest(*arguments)

    (config.run / "teacher_forced/work.json").unlink()  # begin afresh
    monkeypatch.setattr(app, "_align", break_off)
    assert call("align", config, "mode=teacher_forced", "regions.top_k=1").status == 130
    monkeypatch.setattr(app, "_align", lambda *arguments: calls.append(arguments) or honest(*arguments))
    again = call("align", config, "mode=teacher_forced", "regions.top_k=1")
    assert again.status == 0 and len(calls) == 3 + -(-world.bank.size // 7) - 2  # two parts were kept
    np.testing.assert_array_equal(alignment.strengths(Bank(world.data.bank)), whole)


def test_refusals(world, done):
    config, _ = done
    refused(call("align", config, "captioner.hidden_size=9"), "another run.*hidden_size: 8 -> 9")
    refused(call("align", config, "run=" + str(world.folder / "catalogue")), "not empty")
    refused(call("align", config, f"run={world.folder / 'a'}", "train.precision=mixed_bfloat16"), "float32")
    refused(call("align", config, f"run={world.folder / 'b'}", "grid.size=20"), "a multiple of 8")
    other = ("grid.network=resnet50", "grid.weights=none.h5", "grid.size=32")
    refused(call("align", config, f"run={world.folder / 'c'}", *other), "no such weights")


@pytest.mark.eager(False)
def test_other_levels_and_texts_that_say_nothing(tmp_path):
    source, levels = tiny_catalogue(tmp_path / "catalogue", 12), tables.SIX
    edit(source, lambda rows: [row.update(text=text) for row, text in zip(rows, ("and the 3 .", "of"))])
    world = World(tmp_path, levels, make_bank(tmp_path / "bank", source, levels))
    outcome = call("align", world.align(), "mode=teacher_forced", "baselines=false", "regions.content_only=true")
    assert outcome.status == 0, outcome.err
    strengths, counts = alignment.strengths(Bank(tmp_path / "bank")), results(tmp_path / "align/teacher_forced")["alignment"]
    assert not strengths[:2].any() and strengths[2:].any((1, 2)).all()
    assert (counts["pictures_without_content_word"], counts["pictures_without_alignment"]) == (2, 2)
    assert "no link at all" in outcome.out and not (tmp_path / "align/captioner/grids").exists()


def test_no_text_anywhere_is_said(tmp_path):
    source = tiny_catalogue(tmp_path / "catalogue", 12)
    bank = make_bank(tmp_path / "bank", source)
    bank.token_words[:] = -1
    np.save(tmp_path / "bank/token_words.npy", bank.token_words)
    refused(call("align", World(tmp_path, tables.KALEIDO).align()), "no picture of 'train' has a text", "map source.columns.text")


def test_batches_are_a_function_of_the_step_and_cover_every_picture(world):
    bank = world.bank
    for _ in grid_features.make(bank, 16, world.folder / "grids", lambda: np.asarray, {}):
        pass
    rows = bank.rows("train")
    pieces, grids = CaptionVocabulary(bank, rows, 2), grid_features.Grids(bank, world.folder / "grids")
    first, second = (CaptionSampler(bank, grids, pieces, rows, 5, 3, True) for _ in range(2))
    second.batch(9)
    for name, array in first.batch(2)[0].items():
        np.testing.assert_array_equal(array, second.batch(2)[0][name])
    assert set(np.concatenate(first._order(0))) == set(rows) and first.batches_per_epoch == -(-len(rows) // 5)
    inputs, targets, weights = first.examples(rows[:3])
    assert (inputs["pieces"][:, 0] == START).all() and inputs["picture"].shape == (3, 16, 16, 3)
    np.testing.assert_array_equal(inputs["pieces"][:, 1:], targets["pieces"][:, :-1])
    assert (targets["pieces"][weights["pieces"] == 0] == PAD).all() and ((targets["pieces"] == END).sum(1) == 1).all()
    assert pieces.bank_ids[UNKNOWN] == bank.vocabulary.unknown


def test_a_picture_is_its_foreground_box(world):
    row = world.bank.table[0]
    x1, y1, x2, y2 = row["box"]
    assert grid_features.cut(row, 16).shape == (16, 16, 3)
    width, height = 40, 52
    np.testing.assert_allclose(grid_features.frames(world.bank, np.array([0]))[0], [x1 / width, x2 / width, y1 / height, y2 / height],
                               atol=1e-3)


def test_finer_layers_are_brought_to_the_grid_by_their_mean():
    fine, coarse = keras.Input((8, 8, 3)), keras.Input((4, 4, 2))
    cells = keras.Model([fine, coarse], encoders._cells([fine, coarse], 4))
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(1, 8, 8, 3)).astype(np.float32), rng.normal(size=(1, 4, 4, 2)).astype(np.float32)
    found = np.asarray(cells([first, second]))
    np.testing.assert_allclose(found[0, 1, 2], [*first[0, 2:4, 4:6].mean((0, 1)), *second[0, 1, 2]], rtol=1e-4, atol=1e-6)


def test_augmented_pictures_keep_their_shape_and_are_moved_or_mirrored():
    pictures = np.arange(4 * 28 * 28 * 3, dtype=np.uint8).reshape(4, 28, 28, 3)
    out = augment(pictures, np.random.Generator(np.random.Philox(0)))
    assert out.shape == pictures.shape and (out != pictures).any((1, 2, 3)).all()


def test_words_of_pieces():
    assert [tuple(word) for word in join_pieces(["polo", "shirt", "##s", ".", "col", "##lar"])] == [
        ("polo", [0]), ("shirts", [1, 2]), (".", [3]), ("collar", [4, 5])]
    assert [word.text for word in join_pieces(["\u2581red", "\u2581ba", "g"])] == ["red", "bag"]


def test_maps_of_words():
    words = [Word("red", [1]), Word("the", [2]), Word("bags", [3, 4]), Word("hat", [5])]
    alpha = np.eye(5, 6, dtype=np.float32)
    maps, known = alignment_generator.teacher_forced_maps(words, alpha, after=False, content_only=True)
    assert known.tolist() == [True, False, True, True]
    everything, known_too = alignment_generator.teacher_forced_maps(words, alpha, after=False, content_only=False)
    assert known_too.all() and everything[1].any() and (everything[known] == maps[known]).all()
    np.testing.assert_allclose(maps[2], [0, 0, 0.5, 0.5, 0, 0])  # pieces 3 and 4 are told from rows 2 and 3
    after, known = alignment_generator.teacher_forced_maps(words, alpha, after=True, content_only=True)
    assert known.tolist() == [True, False, True, False]  # no row was left that had read the last piece
    np.testing.assert_allclose(after[2], [0, 0, 0, 0.5, 0.5, 0])
    caption = join_pieces(["bag", "##s", "red", "bags"])
    maps, known = alignment_generator.generated_maps(words, caption, alpha, after=False, content_only=True)
    assert known.tolist() == [True, False, True, False]
    np.testing.assert_allclose(maps[2], [0.25, 0.25, 0, 0.5, 0, 0])
    known = alignment_generator.generated_maps(words, [*caption, Word("the", [2])], alpha, after=False, content_only=False)[1]
    assert known.tolist() == [True, True, True, False]
    maps, _ = alignment_generator.generated_maps(words, caption, alpha, after=True, content_only=True)
    np.testing.assert_allclose(maps[[0, 2]], [[0, 0, 0, 1, 0, 0], [0, 0.25, 0.25, 0, 0.5, 0]])


def test_grounding_asks_words_where_they_lie():
    with pytest.raises(UserError, match="grounding is 1.0 and query is state.*captioner.grounding=0"):
        configs.Captioner(query="state")
    assert configs.Captioner(query="state", grounding=0).grounding == 0


@pytest.mark.plotted
def test_the_finder_is_trained_once_and_goes_on_where_it_was_interrupted(world, done, interrupt):
    config, _ = done
    finder = config.run / "word_grounding"
    assert (finder / "best.npz").is_file() and (finder / "losses.png").is_file() and (config.run / "captioner/cells").is_dir()
    for name in ("word_grounding.learning_rate=9e-3", "subcategory=category"):
        refused(call("align", config, name), "another run")
    other = world.align("interrupted", grid=configs.Grid("small", 16, channels=4, keep=True))
    interrupt(3)
    assert call("align", other, "mode=teacher_forced").status == 130
    assert not (other.run / "captioner/best.npz").exists()
    interrupt(0)
    assert call("align", other, "mode=teacher_forced").status == 0
    for place in ("word_grounding/best.npz", "captioner/best.npz"):
        assert (other.run / place).read_bytes() == (config.run / place).read_bytes()


@pytest.mark.eager(False)
def test_without_grounding_the_encoder_is_trained_with_the_captioner_as_in_the_paper(world):
    config = world.align("paper", captioner=replace(CAPTIONER, grounding=0, query="state"))
    outcome = call("align", config, "mode=teacher_forced", "baselines=false")
    assert outcome.status == 0, outcome.err
    assert not (config.run / "word_grounding").exists() and "encoder" in str(list(np.load(config.run / "captioner/best.npz")))


def test_rows_without_text_are_no_lesson(world):
    rows = task.make(world.align("other"), world.bank).rows
    assert len(rows.train) + len(rows.held) == len(world.bank.rows("train"))
