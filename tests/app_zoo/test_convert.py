"""``kaleidobert convert``: TensorFlow 1 checkpoints to ours and back, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest

from kaleidobert import io
from kaleidobert.engines.optimizers import WarmupLinearDecay, adam
from kaleidobert.errors import UserError
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import Classifier, Matcher, Pretrainer, rebuild
from kaleidobert.preprocessors.tokenization import SPECIAL, WordPiece
from kaleidobert.released import checkpoints as released
from kaleidobert.released import tf_checkpoint
from tests.support import golden_data as data
from tests.support.apps_data import refused
from tests.support.checkpoint_data import FIRST, npz, released_small, same, small, write
from tests.support.convert_data import convert, done
from tests.support.network_data import backbone

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("first", ("", "fashion_pre_trained_model/", FIRST))
def test_the_three_prefixes(tmp_path, first):
    arrays, _ = released_small()
    prefix = write(tmp_path / "a/model.ckpt-0", {first + name.removeprefix(FIRST): array for name, array in arrays.items()})
    others = prefix.parent, Path(f"{prefix}.index"), Path(f"{prefix}.meta"), Path(f"{prefix}.data-00000-of-00001")
    for source in (prefix, *(others if first == FIRST else ())):
        assert done(source, tmp_path / "a.npz")
        exported = released.export_weights(rebuilt(tmp_path / "a.npz"))
        assert same(exported, arrays)
        (tmp_path / "a.npz").unlink()


def rebuilt(path: Path):
    model = rebuild(checkpoints.load_meta(path))
    checkpoints.restore(path, model)
    return model


def test_our_heads(tmp_path):
    checkpoints.save(tmp_path / "classes.npz", Classifier(backbone("kaleido"), 48), None, {"step": 5})
    refused(convert(tmp_path / "classes.npz", tmp_path / "a/b"), "whose task is not known; expected: catepred or subcatepred", "task=")
    left = done(tmp_path / "classes.npz", tmp_path / "a/b", "task=catepred")
    assert len(left) == 16 and all(line.endswith("start values") for line in left[:15])
    read = tf_checkpoint.read(tmp_path / "a/b")
    assert read["catepred_dense/kernel"].shape == (16, 48) and int(read["global_step"]) == 5 and read["global_step"].dtype == np.int64
    assert len(read) == 75 + 2 + 1
    done(tmp_path / "a/b", tmp_path / "again.npz")
    assert same(npz(tmp_path / "again.npz"), npz(tmp_path / "classes.npz"))
    model = Matcher(backbone("kaleido", seed=3))
    checkpoints.save(tmp_path / "match.npz", model)
    left = done(tmp_path / "match.npz", tmp_path / "m/b")
    assert len(left) == 14 and not any("seq_relationship" in line for line in left)
    read = tf_checkpoint.read(tmp_path / "m/b")
    kernel = next(weight for weight in model.weights if weight.path == "head_itm/kernel")
    np.testing.assert_array_equal(read[f"{FIRST}cls/seq_relationship/output_weights"], np.asarray(kernel).T)
    checkpoints.save(tmp_path / "product.npz", Matcher(backbone("kaleido"), "product"))
    refused(convert(tmp_path / "product.npz", tmp_path / "p/b"), "the release has no head_product")
    checkpoints.save(tmp_path / "two.npz", Pretrainer(backbone("two")))
    refused(convert(tmp_path / "two.npz", tmp_path / "p/b"), "standard level table")
    refused(convert(tmp_path / "match.npz", tmp_path / "p/b", "task=catepred"), "task is catepred and the checkpoint holds a matcher")
    checkpoints.save(tmp_path / "body.npz", backbone("kaleido"))
    refused(convert(tmp_path / "body.npz", tmp_path / "p/b"), "holds a backbone")
    assert not (tmp_path / "p").exists()


def test_everything_that_does_not_fit_is_listed_at_once(tmp_path):
    arrays = dict(released_small()[0])
    arrays[f"{FIRST}cls/img_jigsaw/jigsaw_output_weights"] = arrays.pop(f"{FIRST}cls/img_jigsaw/jiasaw_output_weights")
    arrays[f"{FIRST}cls/seq_relationship/output_weights"] = np.zeros((16, 2), np.float32)
    write(tmp_path / "a/b", arrays)
    refused(convert(tmp_path / "a/b", tmp_path / "a.npz"), r"- cls/img_jigsaw/jiasaw_output_weights float\[24, 64\]",
            r"\+ cls/img_jigsaw/jigsaw_output_weights", r"- cls/seq_relationship/output_weights float\[2, 16\]",
            r"\+ cls/seq_relationship/output_weights float\[16, 2\]")
    assert not (tmp_path / "a.npz").exists()


@pytest.mark.parametrize("change, words", (
    ({"hidden_size": 20}, [r"- bert/position_dense float\[5, 20\]", "check that config.json belongs"]),
    ({"num_hidden_layers": 3}, ["- bert/encoder/layer_2/"]), ({"num_hidden_layers": 1}, [r"\+ bert/encoder/layer_1/"]),
    ({"num_attention_heads": 3}, ["does not divide into 3 heads"]), ({"vocab_size": None}, ["- vocab_size"]),
    ({"hidden_sise": 16}, [r"\+ hidden_sise"]), ({"hidden_size": "16"}, ["hidden_size is '16'; expected: a whole number above 0"]),
    ({"hidden_size": -16}, ["hidden_size is -16"]), ({"hidden_dropout_prob": None, "initializer_range": []}, ["initializer_range is"]),
    ({"img_jigsaw_seq_len": 9}, ["img_jigsaw_seq_len is 9"]),
))
def test_a_config_that_does_not_fit(tmp_path, change, words):
    write(tmp_path / "a/b", **change)
    refused(convert(tmp_path / "a/b", tmp_path / "a.npz"), *words)


def test_a_config_that_is_none(tmp_path):
    write(tmp_path / "a/folder/b")
    config = tmp_path / "a/folder/config.json"
    config.rename(tmp_path / "a/config.json")
    done(tmp_path / "a/folder/b", tmp_path / "above.npz")
    for text, words in (("[1]", "holds a list"), ("{", "not valid JSON")):
        config.write_text(text)
        refused(convert(tmp_path / "a/folder/b", tmp_path / "a.npz"), words)
    config.unlink(), (tmp_path / "a/config.json").unlink()
    refused(convert(tmp_path / "a/folder/b", tmp_path / "a.npz"), "there is no config.json beside it or a folder above.*model=")
    refused(convert(tmp_path / "a/folder/b", tmp_path / "a.npz", f"model={tmp_path / 'no.json'}"), "no.json: there is no such file")


def test_damaged_files(tmp_path):
    prefix = write(tmp_path / "a/b")
    path = Path(f"{prefix}.data-00000-of-00001")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(convert(prefix, tmp_path / "a.npz"), "ends after .* of .* bytes.*copy it again")
    path.write_bytes(whole[:2000] + b"x" + whole[2001:])
    refused(convert(prefix, tmp_path / "a.npz"), "the checksum of .* does not match")
    path.write_bytes(whole)
    done(prefix, tmp_path / "a.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:-1000])
    refused(convert(tmp_path / "cut.npz", tmp_path / "c/d"), "cut.npz: cannot be read")
    assert not (tmp_path / "c").exists()


def test_a_damaged_state_of_adam(tmp_path):
    model, path = small(vocabulary_size=500), tmp_path / "last.npz"
    optimizer = adam(1e-3)
    optimizer.build(model.trainable_variables)
    checkpoints.save(path, model, optimizer, {"step": 1})
    refused(convert(path, tmp_path / "a/b", "optimizer=true"), r"\+ optimizer/adam/learning_rate float\[\]")  # a schedule has no such state
    optimizer = adam(WarmupLinearDecay(1e-3, 20))
    optimizer.build(model.trainable_variables)
    for slot in optimizer.variables[1:]:
        slot.assign(np.full(slot.shape, 1.5, np.float32))
    checkpoints.save(path, model, optimizer, {"step": 1})
    done(path, tmp_path / "good/b", "optimizer=true")
    whole = path.read_bytes()
    large = whole.index(b"optimizer/adam/text_embedding_word_embeddings_velocity") + 20_000
    for place in (large, whole.rindex(np.full(8, 1.5, np.float32).tobytes())):
        path.write_bytes(whole[:place] + b"\1" + whole[place + 1 :])
        refused(convert(path, tmp_path / "a/b", "optimizer=true"), "optimizer/adam/.* cannot be read .*Bad CRC-32")
        assert not list(tmp_path.glob("a/b.*")) and not list(tmp_path.glob("a/.*"))


def test_full_disks(tmp_path, monkeypatch, full_disk):
    prefix = write(tmp_path / "a/b")
    checkpoints.save(tmp_path / "mine.npz", small())
    for source, target, part in ((prefix, tmp_path / "a.npz", "a.npz"), (tmp_path / "mine.npz", tmp_path / "c/d", ".data-"),
                                 (tmp_path / "mine.npz", tmp_path / "c/d", "config.json")):
        full_disk(part)
        refused(convert(source, target), "no space left")
        monkeypatch.undo()
        assert not target.exists() and not list(target.parent.glob(f"*{target.name}.*")) and not list(target.parent.glob(".*"))
        done(source, target)  # the same command, once there is room
        for path in tmp_path.glob("c/d*"):
            path.unlink()


def test_nothing_is_overwritten(tmp_path):
    prefix = write(tmp_path / "a/b")
    done(prefix, tmp_path / "a.npz")
    before = (tmp_path / "a.npz").stat().st_mtime_ns
    refused(convert(prefix, tmp_path / "a.npz"), "a.npz: the target exists.*nothing is overwritten.*another target")
    assert (tmp_path / "a.npz").stat().st_mtime_ns == before
    done(tmp_path / "a.npz", tmp_path / "c/d")
    refused(convert(tmp_path / "a.npz", tmp_path / "c/d"), "d.index: the target exists")
    refused(convert(tmp_path / "a.npz", tmp_path / "c/other"), "checkpoint: exists with another content.*another folder")
    (tmp_path / "c/checkpoint").unlink()
    done(tmp_path / "a.npz", tmp_path / "c/other")  # the same config.json serves both
    checkpoints.save(tmp_path / "wide.npz", small(hidden_size=32))
    (tmp_path / "c/checkpoint").unlink()
    refused(convert(tmp_path / "wide.npz", tmp_path / "c/wide"), "config.json: exists with another content")
    assert not list(tmp_path.glob("c/wide*"))


def test_only_starts_are_taken_from_it_directly(tmp_path):
    prefix = write(tmp_path / "a/b")
    assert released.transfer(prefix, small(seed=1)) == []
    with pytest.raises(UserError, match="there is no such checkpoint"):
        checkpoints.restore(prefix, small())


def test_a_dry_run_checks_everything_and_writes_nothing(tmp_path):
    prefix = write(tmp_path / "a/b")
    before = sorted(tmp_path.rglob("*"))
    outcome = convert(prefix, tmp_path / "a.npz", "--dry-run")
    assert outcome.status == 0 and f"files that would be written: {tmp_path / 'a.npz'}" in outcome.out and "75 variables" in outcome.out
    path = Path(f"{prefix}.data-00000-of-00001")
    path.write_bytes(path.read_bytes()[:-1])
    refused(convert(prefix, tmp_path / "a.npz", "--dry-run"), "ends after")
    assert sorted(tmp_path.rglob("*")) == before


def test_what_makes_no_sense(tmp_path):
    prefix = write(tmp_path / "a/b")
    write(tmp_path / "two/b"), write(tmp_path / "two/c"), (tmp_path / "none").mkdir()
    done(prefix, tmp_path / "a.npz")
    cases = [(prefix, "a/c", [], "both are TensorFlow 1"), (tmp_path / "a.npz", "b.npz", [], "both are ours"),
             (tmp_path / "two", "b.npz", [], "holds 2 checkpoints: b, c.*source=FOLDER/NAME"),
             (tmp_path / "none", "b.npz", [], "holds 0 checkpoints: none"), (tmp_path / "no", "b.npz", [], "no.index: cannot be read"),
             (tmp_path / "no.npz", "c/d", [], "no.npz: there is no such checkpoint"),
             (tmp_path / "a.npz", "c/d", ["model=x"], "model is set, which has no meaning for a checkpoint of ours"),
             (prefix, "b.npz", ["new_parameters.seed=3"], "new_parameters is set, which has no meaning for a Kaleido-BERT"),
             (prefix, "b.npz", ["task=subcatepred"], "- subcatepred_dense/kernel"), (prefix, "b.npz", ["task=brand"], "task is 'brand'"),
             (prefix, "b.npz", ["new_parameters.seed=-1"], "seed is -1")]
    for source, target, words, message in cases:
        refused(convert(source, tmp_path / target, *words), message)
    assert not (tmp_path / "b.npz").exists() and not (tmp_path / "c").exists()


def test_the_vocabulary(tmp_path):
    prefix, path = write(tmp_path / "a/b"), tmp_path / "a/vocab.txt"
    path.write_bytes("\r\n".join([*SPECIAL, *map(str, range(45))]).encode())  # as some editor left it
    assert done(prefix, tmp_path / "a.npz") == []
    saved = WordPiece.read(path).save(tmp_path)  # what a bank made with it holds
    known = checkpoints.load_meta(tmp_path / "a.npz")["vocabulary_sha256"]
    assert known == released.vocabulary_sha256(saved, 50) == released.vocabulary_sha256(path, 50)
    done(tmp_path / "a.npz", tmp_path / "c/d", f"vocabulary={path}")
    assert (tmp_path / "c/vocab.txt").read_bytes() == path.read_bytes()
    path.write_text("\n".join([*SPECIAL, *map(str, range(45))][::-1]) + "\n")
    refused(convert(tmp_path / "a.npz", tmp_path / "e/d", f"vocabulary={path}"), "is another vocabulary than the checkpoint's")
    path.write_text("a\nb\n")
    refused(convert(prefix, tmp_path / "e.npz"), "vocab.txt: has 2 pieces; expected: the model's 50")
    refused(convert(prefix, tmp_path / "e.npz", f"vocabulary={tmp_path / 'no.txt'}"), "no.txt: cannot be read")


def test_the_written_config_has_the_released_keys(tmp_path):
    checkpoints.save(tmp_path / "a.npz", small())
    done(tmp_path / "a.npz", tmp_path / "c/d")
    written = json.loads((tmp_path / "c/config.json").read_text())
    assert written["hidden_size"] == 16 and written["masked_blankmask_patch_num"] == 3 and written["patch_type_vocab_size"] == 6
    if data.GOLDEN.is_dir():
        assert set(json.loads((data.GOLDEN / "G1/config.json").read_text())) - set(written) == {"max_patch_position_embeddings"}


def test_a_model_card_comes_along(tmp_path):
    """Of a run's best.npz with what the run measured, of others with what the checkpoint remembers."""
    model, run = small(), tmp_path / "run"
    checkpoints.save(run / "best.npz", model, None, {"lineage": {"steps": ["pre-trained 3 epochs"]}})
    done(run / "best.npz", tmp_path / "a/b")
    card = (tmp_path / "a/b.MODEL_CARD.md").read_text()
    assert card.startswith("---\n") and "pre-trained 3 epochs" in card and f"{model.count_params():,}" in card and "`PATH/b`" in card
    assert "## Figures" not in card
    results = {"task": "pretrain", "metrics": {"itm_accuracy": 0.75}, "checkpoint_sha256": io.sha256(run / "best.npz")}
    io.write_json(run / "results.json", results)
    done(run / "best.npz", tmp_path / "c/d")
    assert "| text belongs to picture, accuracy | 0.750 |" in (tmp_path / "c/d.MODEL_CARD.md").read_text()
    io.write_json(run / "results.json", results | {"checkpoint_sha256": "of another"})
    done(run / "best.npz", tmp_path / "e/f")
    assert "## Figures" not in (tmp_path / "e/f.MODEL_CARD.md").read_text()
