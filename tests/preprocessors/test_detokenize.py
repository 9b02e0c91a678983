"""Spaces around punctuation: learnt from texts, and written as there."""

import pytest

from kaleidobert.preprocessors.tokenization import TOKEN, Spacing

TEXTS = ["A t-shirt, 100% cotton.", "Women's shirt - blue, 50% wool. Size 5.5", "Tie + clip (set of 2)", "Levi's jeans & belt"]


@pytest.mark.parametrize("text", TEXTS[:1] + TEXTS[3:] + ["size 2 tie (5)", "wool, 20% cotton"])
def test_it_writes_as_it_has_read(text):
    assert Spacing(TEXTS).write(TOKEN.findall(text.lower())) == text.lower()


def test_the_same_two_words_win_over_their_kinds():
    spacing = Spacing(["a - b", "c - d", "e - f", "t-shirt"])
    assert spacing.write("t - shirt".split()) == "t-shirt" and spacing.write("a - d".split()) == "a - d"


def test_what_was_never_seen_gets_a_space():
    assert Spacing([]).write(["a", ",", "b"]) == "a , b" and Spacing(TEXTS).write([]) == ""
    assert Spacing(["x.y"]).write(["a,", "b"]) == "a, b"  # words that hold punctuation, as SentencePiece's
