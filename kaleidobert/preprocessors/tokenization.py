"""Text to word pieces: bert-base-uncased WordPiece, a WordPiece vocabulary trained on the corpus, or a SentencePiece model."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from tokenizers import Encoding, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as FastTokenizer

from kaleidobert.errors import UserError

MAX_LETTERS = 2000  # of a word; a longer one is unknown
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class Vocabulary:
    """size, the ids of the special pieces, and the ids that may replace a masked token at random."""

    size: int
    pad: int
    unknown: int
    start: int
    end: int
    mask: int
    ordinary: tuple[int, int]  # first and one-past-last id of the pieces that are no special ones


class Tokenizer(Protocol):
    """What every tokenizer offers; see WordPiece."""

    vocabulary: Vocabulary

    def split(self, texts: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]: ...

    def encode(self, texts: Sequence[str], length: int) -> tuple[np.ndarray, np.ndarray]: ...

    def pieces(self, ids: Iterable[int]) -> list[str]: ...

    def save(self, folder: Path) -> Path: ...


class WordPiece:
    """Words are split at spaces, punctuation and Chinese characters, then by greedy longest match.

    Texts are put into lower case, and lose their accents, where no piece of the vocabulary has a capital, or an accent: as
    bert-base-uncased is made, and as other vocabularies are not.
    """

    def __init__(self, pieces: Sequence[str], where: str = "vocabulary"):
        self._pieces = list(pieces)
        ids = {piece: i for i, piece in enumerate(self._pieces)}
        missing = [piece for piece in SPECIAL if piece not in ids]
        if missing or len(ids) < len(self._pieces):
            double = [piece for piece, count in Counter(self._pieces).items() if count > 1][:3]
            raise UserError(f"lacks {missing}, holds twice {double}", where, f"one piece per line, with {', '.join(SPECIAL)}")
        first = 1 + max(i for piece, i in ids.items() if piece in SPECIAL or piece.startswith("[unused"))
        first = first if first < len(ids) else max(ids[piece] for piece in SPECIAL) + 1
        pad, unknown, start, end, mask = (ids[piece] for piece in SPECIAL)
        self.vocabulary = Vocabulary(len(ids), pad, unknown, start, end, mask, (min(first, len(ids) - 1), len(ids)))
        own = [piece for piece in self._pieces if not (piece.startswith("[") and piece.endswith("]"))]
        self._fast = _wordpiece_pipeline(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=MAX_LETTERS),
                                         accents=any(map(_has_accent, own)), case=any(piece != piece.lower() for piece in own))

    @classmethod
    def read(cls, path: Path) -> "WordPiece":
        """Reads a vocab.txt; raises UserError where it is missing or lacks the special pieces."""
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except FileNotFoundError:
            raise UserError("there is no such vocabulary", str(path), "a vocab.txt", "correct text.vocabulary, or leave it empty "
                            "to train one on the corpus") from None
        except UnicodeDecodeError as error:
            raise UserError(f"not UTF-8 text ({error})", str(path), "a vocab.txt") from None
        return cls([line.rstrip("\r") for line in (lines[:-1] if lines[-1] == "" else lines)], str(path))

    def split(self, texts: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
        """Returns (ids, words) of all pieces of every text; words = index of the piece's word."""
        encodings = self._fast.encode_batch(list(texts), add_special_tokens=False)
        return [e.ids for e in encodings], [_words(e) for e in encodings]

    def encode(self, texts: Sequence[str], length: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns (ids i32[N, T], words i16[N, T]): [CLS] text [SEP] cut to ``length``, padded; words = index of the piece's word,
        -1 for special pieces and padding."""
        return pack(*self.split(texts), self.vocabulary, length)

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Returns the pieces as text, "##" where a piece continues a word."""
        return [self._pieces[i] for i in ids]

    def to_json(self, length: int) -> str:
        """Returns the content of a tokenizer.json of the package tokenizers, which encodes as ``encode`` does, without padding."""
        fast, special = FastTokenizer.from_str(self._fast.to_str()), self.vocabulary
        fast.post_processor = processors.BertProcessing(("[SEP]", special.end), ("[CLS]", special.start))
        fast.enable_truncation(length)
        return fast.to_str(pretty=True)

    def save(self, folder: Path) -> Path:
        """Writes vocab.txt into the folder."""
        from kaleidobert.io import write_text

        write_text(folder / "vocab.txt", "\n".join(self._pieces) + "\n")
        return folder / "vocab.txt"


class SentencePiece:
    """A SentencePiece model; special pieces that it lacks are added behind its own."""

    def __init__(self, path: Path):
        import sentencepiece

        if not path.is_file():
            raise UserError("there is no such SentencePiece model", str(path), "a .model file", "correct text.vocabulary")
        try:
            self._model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        except (RuntimeError, OSError) as error:
            raise UserError(f"not a SentencePiece model ({error})", str(path)) from None
        self._path, own = path, self._model.get_piece_size()
        self._extra: list[str] = []
        ids = []
        for piece, fallback in zip(SPECIAL, (self._model.pad_id(), self._model.unk_id(), -1, -1, -1)):
            known = self._model.piece_to_id(piece)
            if self._model.id_to_piece(known) != piece:
                known = fallback
            if known < 0:
                known = own + len(self._extra)
                self._extra.append(piece)
            ids.append(known)
        first = 1 + max([i for i in range(min(own, 16)) if self._model.is_control(i) or self._model.is_unknown(i)], default=-1)
        pad, unknown, start, end, mask = ids
        self.vocabulary = Vocabulary(own + len(self._extra), pad, unknown, start, end, mask, (first, own))

    def split(self, texts: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
        """Returns the same as WordPiece.split; a word starts at a piece with the meta symbol."""
        ids = self._model.encode(list(texts))
        words = [np.cumsum([self._model.id_to_piece(i).startswith("\u2581") for i in row]) - 1 for row in ids]
        return ids, [[max(0, int(w)) for w in row] for row in words]

    def encode(self, texts: Sequence[str], length: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the same as WordPiece.encode."""
        return pack(*self.split(texts), self.vocabulary, length)

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Returns the pieces as text, the meta symbol where a word starts."""
        own = self._model.get_piece_size()
        return [self._model.id_to_piece(int(i)) if i < own else self._extra[i - own] for i in ids]

    def save(self, folder: Path) -> Path:
        """Copies the model into the folder."""
        from kaleidobert.io import atomic

        with atomic(folder / "sentencepiece.model") as file:
            file.write(self._path.read_bytes())
        return folder / "sentencepiece.model"


def pack(ids: Sequence[Sequence[int]], words: Sequence[Sequence[int]], vocabulary: Vocabulary,
         length: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns [CLS] ids [SEP] and padding as i32[N, T]; the words beside it as i16[N, T]. Raises UserError if length < 3."""
    if length < 3:
        raise UserError(f"text.length is {length}", "text", "at least 3: [CLS], one piece, [SEP]")
    packed = np.full((len(ids), length), vocabulary.pad, np.int32)
    owners = np.full((len(ids), length), -1, np.int16)
    for row, (pieces, owner) in enumerate(zip(ids, words)):
        count = min(len(pieces), length - 2)
        packed[row, : count + 2] = [vocabulary.start, *pieces[:count], vocabulary.end]
        owners[row, 1 : count + 1] = owner[:count]
    return packed, owners


def truncation(words: Sequence[Sequence[int]], length: int) -> dict[str, int]:
    """Returns what ``pack`` cuts off: the number of texts that are cut, of all words, and of those of which a piece is cut off.

    >>> truncation([[0, 1, 1], [0, 0, 1, 2]], 4)
    {'cut_texts': 2, 'words': 5, 'cut_words': 3}
    """
    totals = [row[-1] + 1 if row else 0 for row in words]
    cut = [total - row[length - 2] for row, total in zip(words, totals) if len(row) > length - 2]
    return {"cut_texts": len(cut), "words": sum(totals), "cut_words": sum(cut)}


def train(texts: Sequence[str], size: int, accents: bool = True, case: bool = False) -> WordPiece:
    """Returns a WordPiece vocabulary of at most ``size`` pieces from the texts, the same one every time. accents, case: whether words that
    differ in them alone stay apart.

    Characters first, then whole words by falling frequency (ties in alphabetical order); rarer words are spelt from the words'
    own most frequent beginnings and endings. Raises UserError where the texts hold no word.
    """
    # not trainers.WordPieceTrainer: it numbers pieces of equal frequency differently in every process
    pipeline = _wordpiece_pipeline(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"), accents, case)
    words: Counter[str] = Counter()
    for text in texts:
        normal = pipeline.normalizer.normalize_str(text)
        words.update(word for word, _ in pipeline.pre_tokenizer.pre_tokenize_str(normal))
    if not words:
        raise UserError("the texts hold no word", "vocabulary", "texts to train the vocabulary on")
    letters = sorted({c for word in words for c in word})
    savings: Counter[str] = Counter()
    for word, count in words.items():
        savings[word] += 2 * count * len(word)  # a whole word saves more pieces than its parts
        for cut in range(2, len(word) - 1):
            savings[word[:cut]] += count * cut // 2
            savings["##" + word[cut:]] += count * (len(word) - cut) // 2
    pieces = [*SPECIAL, *letters, *("##" + c for c in letters)]
    taken = set(pieces)
    ranked = sorted(savings, key=lambda piece: (-savings[piece], piece))
    pieces += [piece for piece in ranked if piece not in taken and savings[piece] >= 4][: max(0, size - len(pieces))]
    return WordPiece(pieces)


def _has_accent(piece: str) -> bool:
    """Whether a piece has a letter with a mark that can be taken off.

    >>> _has_accent("caf\u00e9"), _has_accent("\u304c"), _has_accent("\u00f8l")
    (True, True, False)
    """
    return any(unicodedata.category(letter) == "Mn" for letter in unicodedata.normalize("NFD", piece))


def _wordpiece_pipeline(model: models.WordPiece, accents: bool, case: bool) -> FastTokenizer:
    fast = FastTokenizer(model)
    own = normalizers.BertNormalizer(lowercase=not case, strip_accents=not accents, handle_chinese_chars=True, clean_text=True)
    fast.normalizer = normalizers.Sequence([normalizers.NFC(), own]) if accents else own
    fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    fast.decoder = decoders.WordPiece(prefix="##")
    return fast


def _words(encoding: Encoding) -> list[int]:
    return [-1 if word is None else word for word in encoding.word_ids]


# --- Words and punctuation marks back to a text: where a space goes between them is learnt from texts ("t-shirt", "100%, lined")


TOKEN = re.compile(r"[^\W_]+|[^\w\s]|_")  # as tokenizers split: a punctuation mark stands alone


class Spacing:
    """Learns from texts, then writes words as a text.

    >>> Spacing(["A t-shirt, 100% cotton."]).write("a t - shirt , 50 % wool".split())
    'a t-shirt, 50% wool'
    """

    def __init__(self, texts: Iterable[str]):
        self._joined: Counter[tuple[str, str]] = Counter()
        self._seen: Counter[tuple[str, str]] = Counter()
        for text in texts:
            for left, right in pairwise(TOKEN.finditer(text.lower())):
                if not (left[0].isalnum() and right[0].isalnum()):  # between two words there is always one
                    for pair in _views(left[0], right[0]):
                        self._seen[pair] += 1
                        self._joined[pair] += left.end() == right.start()

    def write(self, words: Sequence[str]) -> str:
        """Returns the words with spaces as the same two mostly had them, else two of their kinds; a pair never seen gets one."""
        text = "".join(word if number == 0 or self._touch(words[number - 1], word) else f" {word}" for number, word in enumerate(words))
        return text.strip()

    def table(self) -> dict[str, bool]:
        """Returns {two neighbours, a space between them: whether they stand without one}, as a file can hold it.

        >>> Spacing(["a t-shirt"]).table()["t -"]
        True
        """
        return {" ".join(pair): 2 * self._joined[pair] > count for pair, count in sorted(self._seen.items())}

    def _touch(self, left: str, right: str) -> bool:
        pair = next((pair for pair in _views(left, right) if self._seen[pair]), None)
        return pair is not None and 2 * self._joined[pair] > self._seen[pair]


def _views(left: str, right: str) -> list[tuple[str, str]]:
    """Returns two neighbours as they are, as word or number, and as words; marks stay what they are."""
    kinds = [[word] * 3 if not word[:1].isalnum() else [word, "9" if word[0].isdigit() else "w", "w"] for word in (left, right)]
    return list(zip(*kinds))


# --- Pieces to words


META = "\u2581"  # with which SentencePiece marks the start of a word


class Word(NamedTuple):
    """A word and the positions of its pieces."""

    text: str
    positions: list[int]


def words_of_text(pieces: Sequence[str], owners: np.ndarray) -> list[Word]:
    """Returns the words of a text in the order of their numbers; owners i16[T]: the number of each piece's word, -1 for none."""
    words = [Word("", []) for _ in range(int(owners.max(initial=-1)) + 1)]
    for position in np.flatnonzero(owners >= 0).tolist():
        word = words[owners[position]]
        words[owners[position]] = Word(word.text + plain_piece(pieces[position]), [*word.positions, position])
    return words


def join_pieces(pieces: Sequence[str]) -> list[Word]:
    """Returns the words of consecutive pieces: "##" continues a word; where any piece has SentencePiece's mark, a piece without it does."""
    marked = any(piece.startswith(META) for piece in pieces)
    words: list[Word] = []
    for position, piece in enumerate(pieces):
        if words and (not piece.startswith(META) if marked else piece.startswith("##")):
            words[-1] = Word(words[-1].text + plain_piece(piece), [*words[-1].positions, position])
        else:
            words.append(Word(plain_piece(piece), [position]))
    return words


def plain_piece(piece: str) -> str:
    """Returns a piece without the marks that say where a word begins."""
    return piece.removeprefix("##").removeprefix(META)
