"""WordPiece, a trained vocabulary, SentencePiece; [CLS] text [SEP] and padding."""

import json
import os
import subprocess
import sys

import pytest
import sentencepiece

from kaleidobert.errors import UserError
from kaleidobert.preprocessors import tokenization
from tests.support.golden_data import SHARED

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "silk", "tie", "##s", "caf", "cafe", ",", "-", "t", "shirt"]


def test_wordpiece_lowers_strips_accents_and_splits_punctuation():
    ids, words = tokenization.WordPiece(PIECES).encode(["Red silk ties, CAFÉ T-shirt qq"], 16)
    assert ids.tolist() == [[2, 5, 6, 7, 8, 11, 10, 13, 12, 14, 1, 3, 0, 0, 0, 0]]
    assert words[0].tolist() == [-1, 0, 1, 2, 2, 3, 4, 5, 6, 7, 8, -1, -1, -1, -1, -1]


def test_long_texts_keep_the_end_mark():
    ids, words = tokenization.WordPiece(PIECES).encode(["red " * 50], 8)
    assert ids.tolist() == [[2, 5, 5, 5, 5, 5, 5, 3]] and words[0, -1] == -1


def test_a_vocabulary_survives_saving(tmp_path):
    tokenizer = tokenization.WordPiece(PIECES)
    again = tokenization.WordPiece.read(tokenizer.save(tmp_path))
    assert again.vocabulary == tokenizer.vocabulary and again.pieces(range(15)) == PIECES


def test_broken_vocabularies_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"lacks \['\[MASK\]'\]"):
        tokenization.WordPiece([p for p in PIECES if p != "[MASK]"])
    with pytest.raises(UserError, match="holds twice"):
        tokenization.WordPiece([*PIECES, "red"])
    with pytest.raises(UserError, match="no such vocabulary"):
        tokenization.WordPiece.read(tmp_path / "vocab.txt")
    with pytest.raises(UserError, match="at least 3"):
        tokenization.WordPiece(PIECES).encode(["red"], 2)


TEXTS = ["Short sleeve t-shirt in navy.", "Crewneck collar. Striped.", "Patch pocket at chest, buttoned cuffs.", "Navy striped shirt"] * 20


def test_a_trained_vocabulary_spells_every_text_and_is_the_same_in_every_process():
    tokenizer = tokenization.train(TEXTS, 120)
    ids, _ = tokenizer.encode(TEXTS, 32)
    assert not (ids == tokenizer.vocabulary.unknown).any()
    assert tokenizer.vocabulary.size <= 120 and "shirt" in tokenizer.pieces(range(tokenizer.vocabulary.size))
    code = ("import json, sys; from kaleidobert.preprocessors import tokenization as t; "
            "v = t.train(json.loads(sys.argv[1]), 120); print(*v.pieces(range(v.vocabulary.size)))")
    for seed in ("1", "2"):  # of the hashes that order sets
        other = subprocess.run([sys.executable, "-c", code, json.dumps(TEXTS)], env=os.environ | {"PYTHONHASHSEED": seed},
                               capture_output=True, text=True, check=True)
        assert other.stdout == " ".join(tokenizer.pieces(range(tokenizer.vocabulary.size))) + "\n"
    with pytest.raises(UserError, match="no word"):
        tokenization.train(["", " "], 100)


def test_sentencepiece_gets_the_special_pieces_that_it_lacks(tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    sentencepiece.SentencePieceTrainer.train(input=str(tmp_path / "texts.txt"), model_prefix=str(tmp_path / "sp"), vocab_size=45,
                                             minloglevel=2)
    tokenizer = tokenization.SentencePiece(tmp_path / "sp.model")
    vocabulary = tokenizer.vocabulary
    special = {vocabulary.pad, vocabulary.unknown, vocabulary.start, vocabulary.end, vocabulary.mask}
    assert len(special) == 5 and max(special) < vocabulary.size
    assert all(not vocabulary.ordinary[0] <= i < vocabulary.ordinary[1] for i in special)
    ids, words = tokenizer.encode(["striped shirt"], 24)
    length = int((ids[0] != vocabulary.pad).sum())
    assert ids[0, 0] == vocabulary.start and ids[0, length - 1] == vocabulary.end and ids.max() < vocabulary.size
    assert words[0, 1] == 0 and words[0, length - 2] == 1
    assert "".join(tokenizer.pieces(ids[0, 1 : length - 1])).replace("\u2581", " ").strip() == "striped shirt"
    assert tokenizer.save(tmp_path / "copy").read_bytes() == (tmp_path / "sp.model").read_bytes()
    with pytest.raises(UserError, match="no such SentencePiece model"):
        tokenization.SentencePiece(tmp_path / "no.model")
    (tmp_path / "bad.model").write_bytes(b"x" * 40)
    with pytest.raises(UserError, match="not a SentencePiece model"):
        tokenization.SentencePiece(tmp_path / "bad.model")


def test_bert_base_uncased():
    path = SHARED / "fashion/vocab.txt"
    if not path.is_file():
        pytest.skip(f"no {path}: the original vocabulary is not here")
    tokenizer = tokenization.WordPiece.read(path)
    vocabulary = tokenizer.vocabulary
    assert (vocabulary.size, vocabulary.pad, vocabulary.unknown, vocabulary.start, vocabulary.end, vocabulary.mask) == (
        30522, 0, 100, 101, 102, 103)
    ids, _ = tokenizer.encode(["Unaffable naïve stripes"], 12)
    assert ids[0].tolist()[:8] == [101, 14477, 20961, 3468, 15743, 13560, 102, 0]


ALIKE = ["が 画 Café CAFE résumé", "か 画 cafe résumé resume"] * 3


@pytest.mark.parametrize("accents, case, apart", [(True, False, True), (False, False, False), (True, True, True), (False, True, False)])
def test_words_that_differ_in_accents_or_capitals(tmp_path, accents, case, apart):
    """The saved vocabulary alone says how texts are read."""
    made = tokenization.train(ALIKE, 400, accents, case)
    made.save(tmp_path)
    for tokenizer in (made, tokenization.WordPiece.read(tmp_path / "vocab.txt")):
        def ids(text, tokenizer=tokenizer):
            return tokenizer.encode([text], 12)[0].tolist()

        assert (ids("が") != ids("か")) == (ids("résumé") != ids("resume")) == apart
        assert (ids("CAFE") != ids("cafe")) == case
        assert ids("re\u0301sume\u0301") == ids("résumé")  # two letters of Unicode, or one
        assert made.vocabulary.unknown not in ids("が か résumé CAFE")


def test_a_vocabulary_without_accents_reads_texts_without_them():
    assert tokenization.train(["a cafe"] * 3, 100).encode(["Café"], 6)[0].tolist() == tokenization.train(["a cafe"] * 3, 100).encode(
        ["cafe"], 6)[0].tolist()


def test_a_word_that_never_ends_is_read():
    """Thai and Lao write sentences without spaces."""
    thai = "เสื้อยืดคอกลมสีแดง" * 20
    tokenizer = tokenization.train([thai, "เสื้อ"] * 2, 300)
    assert tokenizer.vocabulary.unknown not in tokenizer.encode([thai], 600)[0]
