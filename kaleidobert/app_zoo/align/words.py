"""Pieces to words, and the attention maps of pieces to the maps of the words of a product's text."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.preprocessors import alignment_generator

META = "\u2581"  # with which SentencePiece marks the start of a word


class Word(NamedTuple):
    """A word and the positions of its pieces."""

    text: str
    places: list[int]


def text_words(bank: Bank, pieces: Sequence[str], row: int) -> list[Word]:
    """The words of a row's text, number w as token_words has it; places in token_ids. pieces: of the row's token_ids."""
    owners = bank.token_words[row]
    words = [Word("", []) for _ in range(int(owners.max(initial=-1)) + 1)]
    for place in np.flatnonzero(owners >= 0).tolist():
        word = words[owners[place]]
        words[owners[place]] = Word(word.text + plain(pieces[place]), [*word.places, place])
    return words


def join(pieces: Sequence[str]) -> list[Word]:
    """The words of pieces in a row: "##" continues a word; where any piece carries SentencePiece's mark, what lacks it does."""
    marked = any(piece.startswith(META) for piece in pieces)
    words: list[Word] = []
    for place, piece in enumerate(pieces):
        if words and (not piece.startswith(META) if marked else piece.startswith("##")):
            words[-1] = Word(words[-1].text + plain(piece), [*words[-1].places, place])
        else:
            words.append(Word(plain(piece), [place]))
    return words


def plain(piece: str) -> str:
    """A piece without the marks that say where a word begins."""
    return piece.removeprefix("##").removeprefix(META)


def teacher_forced_maps(words: Sequence[Word], alpha: np.ndarray, after: bool, content_only: bool) -> tuple[np.ndarray, np.ndarray]:
    """(maps f32[W, N], has_map bool[W]) of the words of a text; alpha f32[L, N], row k: where the captioner looked having read
    k pieces. after: a word's map is where it looked having read the word, else where it looked to tell the word. content_only:
    stop words, numbers and punctuation have none."""
    maps, known = _empty(words, alpha)
    for number in _mapped(words, content_only):
        rows = [place - 1 + after for place in words[number].places if place - 1 + after < len(alpha)]  # place 0 is the start piece
        if rows:
            maps[number], known[number] = alpha[rows].mean(0), True
    return maps, known


def generated_maps(words: Sequence[Word], caption: Sequence[Word], alpha: np.ndarray, after: bool,
                   content_only: bool) -> tuple[np.ndarray, np.ndarray]:
    """The same for the words of the text that the caption has too: the mean over its pieces and occurrences; alpha f32[L + 1, N] of
    a caption of L pieces."""
    maps, known = _empty(words, alpha)
    for number in _mapped(words, content_only):
        same = [alpha[np.array(word.places) + after].mean(0) for word in caption if word.text == words[number].text]
        if same:
            maps[number], known[number] = np.mean(same, 0), True
    return maps, known


def _mapped(words: Sequence[Word], content_only: bool) -> list[int]:
    """The numbers of the words that may have a map: all but those of special pieces."""
    if content_only:
        chosen = alignment_generator.content([word.text for word in words])
    else:
        chosen = np.array([bool(word.places) for word in words], bool)
    return np.flatnonzero(chosen).tolist()


def _empty(words: Sequence[Word], alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((len(words), alpha.shape[-1]), np.float32), np.zeros(len(words), bool)
