"""Both stages of search behind one object, for the command, for programs and for several threads.

    searcher = Searcher("runs/quickstart/index")
    for hit in searcher.search("red striped t-shirt", top=10, filters={"category": "tops"}):
        print(hit.product_id, hit.score, hit.text)

What a query is compared with, in stage one and then in stage two:

    query              find       stage one                                    stage two
    words              pictures   words with pictures                          matching of words and picture
    picture            pictures   picture with pictures (cosine)               the same, and matching of picture and the product's text
    words and picture  pictures   words with pictures, picture with pictures   the same, words and picture by matching
    picture            texts      picture with texts                           matching of picture and text
    words              texts      words with texts (cosine)                    the same, and matching of words and the product's picture
    words and picture  texts      picture with texts, words with texts         the same, picture and text by matching

Where two terms are added each is divided by its standard deviation: in stage one over the catalogue, in stage two over the candidates.
"""

import difflib
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kaleidobert.app_zoo.search import folder, vectors
from kaleidobert.app_zoo.search.folder import SIDES
from kaleidobert.app_zoo.search.vectors import Encoder, LinearEncoder, MatcherEncoder
from kaleidobert.configs.section import unknown_name
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.bank.queries import Picture, QueryReader, check_texts
from kaleidobert.datasets.sampling import finetuning
from kaleidobert.engines import vector_index
from kaleidobert.engines.prediction import QueryScorer
from kaleidobert.errors import UserError
from kaleidobert.io import sha256
from kaleidobert.model_zoo import foreground_net
from kaleidobert.preprocessors import encoders
from kaleidobert.preprocessors.examples import Arrays

TOP, RERANK = 20, 100
Find = Literal["pictures", "texts"]
Filters = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True)
class Hit:
    """A product that was found, by its best view. first_score: of stage one; score: of the last stage, by which hits are in order.

    image_path: where the picture lay when the bank was made.
    """

    image_id: str
    product_id: str
    score: float
    first_score: float
    text: str
    labels: Mapping[str, str]
    image_path: str


@dataclass(frozen=True)
class Answer:
    """hits: the best first. reranked: whether stage two has ordered them; candidates: how many pictures or texts it saw, else those that
    stage one looked through; searched: how many fit the filters; notes: what a person should know, in lines."""

    hits: list[Hit]
    reranked: bool
    candidates: int
    searched: int
    notes: list[str]


@dataclass(frozen=True)
class Query:
    """texts, pictures: what the networks read of the query, None where it has no such side; their vectors f32[W]."""

    texts: Arrays | None
    pictures: Arrays | None
    text_vector: np.ndarray | None
    picture_vector: np.ndarray | None


class Searcher:
    """An opened index with its bank and its model.

    bank, checkpoint: where they lie elsewhere now. info: index.json. Raises UserError where the index is unfinished, damaged or older than
    its bank, and where the checkpoint is another.
    """

    def __init__(self, index: str | Path, bank: str | Path | None = None, checkpoint: str | Path | None = None):
        self.index = Path(index)
        self._stored = folder.read(self.index)
        self.info, self._rows = self._stored.info, self._stored.rows
        self.model = vectors.open_model(self._bank(bank), self._checkpoint(checkpoint))
        self.bank = self.model.bank
        self._table = [self.bank.table[row] for row in self._rows]
        self._products = np.unique([row["product_id"] for row in self._table], return_inverse=True)[1]
        self._indices = {side: self._index(side) for side in SIDES}
        # those of a matcher are all as long as each other
        self._lengths = {side: float(np.linalg.norm(self._stored.vectors[side][:1000], axis=1).mean()) for side in SIDES}
        self._tokenizer = self.bank.tokenizer()
        self._lock = threading.Lock()  # of the networks: a query uses all cores

    @property
    def size(self) -> int:
        """The number of pictures that are searched."""
        return len(self._rows)

    @property
    def reranks(self) -> bool:
        """Whether there is a matching head for stage two."""
        return self.model.matcher is not None

    def search(self, text: str | None = None, picture: Picture | None = None, top: int = TOP, filters: Filters | None = None,
               rerank: int = RERANK, find: Find = "pictures") -> list[Hit]:
        """Returns up to ``top`` products, the best first, each once. Raises UserError as ``answer``."""
        return self.answer(text, picture, top, filters, rerank, find).hits

    def answer(self, text: str | None = None, picture: Picture | None = None, top: int = TOP, filters: Filters | None = None,
               rerank: int = RERANK, find: Find = "pictures") -> Answer:
        """Searches by words, by a picture (path, PIL picture or array) or by both.

        filters: {label: value or values} that a product must have, whatever the case of letters. rerank: candidates of stage one that stage
        two sees, at least ``top`` of them; 0 = stage one alone. find: whether the products' pictures or their texts are compared. Raises
        UserError for a query of no known word, a text or a picture that is none, and an unknown label or value.
        """
        if top < 1 or rerank < 0 or find not in SIDES:
            raise UserError(f"top is {top}, rerank is {rerank}, find is {find!r}", "search", "at least 1, at least 0, pictures or texts")
        allowed = self._allowed(filters or {})
        query, notes = self._read(text, picture)
        searched = self.size if allowed is None else int(allowed.sum())
        if not searched:
            return Answer([], False, 0, 0, [*notes, "no product has all these labels"])
        two_stages = rerank > 0 and self.reranks
        if rerank and not self.reranks:
            notes.append("stage one alone: the index has no checkpoint, and so no matching head")
        positions, first = self._candidates(self._vector(query, find), find, max(top, rerank if two_stages else 0), top, allowed)
        scores = self._second(query, find, positions) if two_stages else first
        hits: dict[str, Hit] = {}
        for number in np.lexsort((positions, -first, -scores)):
            row = self._table[positions[number]]
            if row["product_id"] not in hits and len(hits) < top:
                hits[row["product_id"]] = Hit(row["image_id"], row["product_id"], float(scores[number]), float(first[number]), row["text"],
                                              row["labels"], row["image_path"])
        return Answer(list(hits.values()), two_stages, len(positions), searched, notes)

    def describe(self) -> str:
        """Returns what is searched and how, in a line."""
        model = self.info["model"]
        second = f"; stage two: matching head {model['head']}" if self.reranks else ""
        return f"{self.size:,} pictures of {self.bank.folder}; stage one: {model['vectors']} ({self.info['kind']}){second}"

    def check_filters(self, filters: Filters) -> None:
        """Raises UserError that names the nearest label or value where one is unknown."""
        self._allowed(filters)

    def labels(self) -> dict[str, list[str]]:
        """Returns {label: its values} of what is searched, for filters."""
        return {name: sorted({row["labels"][name] for row in self._table} - {""}) for name in self.bank.index["labels"]}

    # --- Opening

    def _bank(self, path: str | Path | None) -> Bank:
        entry = self.info["bank"]
        bank = Bank(path or entry["folder"])
        if sha256(bank.folder / "index.json") != entry["sha256"]:
            raise UserError("the index is of an older bank: the bank has changed since", str(self.index), f"the bank {bank.folder} as it "
                            "was", "run `kaleidobert index` again: it makes what has changed")
        return bank

    def _checkpoint(self, path: str | Path | None) -> Path | None:
        entry = self.info["model"]
        if entry["checkpoint"] is None:
            return None
        checkpoint = Path(path or entry["checkpoint"])
        if checkpoint.is_dir():
            checkpoint /= "best.npz"
        if checkpoint.is_file() and sha256(checkpoint) != entry["sha256"]:
            raise UserError("the index is of another model: the checkpoint has changed since", str(self.index),
                            f"{checkpoint} with sha256 {entry['sha256'][:12]}", "run `kaleidobert index` again, which makes all vectors "
                            "anew, or name the checkpoint with init=...")
        return checkpoint

    def _index(self, side: str) -> vector_index.VectorIndex:
        structure, own = self._stored.structure(side), self._stored.vectors[side]
        if structure is None:
            return vector_index.VectorIndex(own)
        return vector_index.load(structure, own, self.info["kind"], self.info["probes"][side])

    @cached_property
    def _labels(self) -> dict[str, np.ndarray]:
        return {name: np.array([row["labels"][name].casefold() for row in self._table]) for name in self.bank.index["labels"]}

    @cached_property
    def _encoder(self) -> Encoder:
        if "words" in self._stored.others:
            return LinearEncoder.of(self._stored.others)
        assert self.model.matcher is not None  # whose vectors the index has
        return MatcherEncoder(self.model.matcher, self.model.sha256)

    @cached_property
    def _reader(self) -> QueryReader:
        return QueryReader(self.bank, encoders.build, foreground_net.build)

    @cached_property
    def _scorer(self) -> QueryScorer:
        assert self.model.matcher is not None
        return QueryScorer(self.model.matcher)

    # --- The query

    def _read(self, text: str | None, picture: Picture | None) -> tuple[Query, list[str]]:
        """Returns what the networks make of the query, and notes."""
        check_texts([] if text is None else [text])
        words = (text or "").strip()
        if not words and picture is None:
            raise UserError("there is no query", "search", "words, a picture or both")
        notes: list[str] = []
        texts = pictures = text_vector = picture_vector = None
        with self._lock:
            if words:
                texts = self._reader.texts([words])
                notes = self._check_words(words, texts)
                text_vector = self._encoder.texts(texts, [words])[0]
                if not np.any(text_vector):
                    raise _unknown_words(words)
            if picture is not None:
                pictures = self._reader.pictures([picture])
                picture_vector = self._encoder.pictures(pictures)[0]
                notes += [self._reader.note] if self._reader.note else []
        return Query(texts, pictures, text_vector, picture_vector), notes

    def _check_words(self, words: str, texts: Arrays) -> list[str]:
        """Returns notes on what of the words is not read; raises UserError where nothing is."""
        vocabulary, tokenizer = self.bank.vocabulary, self._tokenizer
        ids = texts["token_ids"][0][1:-1]
        known = (ids != vocabulary.unknown) & (ids != vocabulary.pad) & (ids != vocabulary.end)
        if not known.any():
            raise _unknown_words(words)
        split = {word: tokenizer.split([word])[0][0] for word in words.split()}
        unread = [word for word, pieces in split.items() if vocabulary.unknown in pieces or not pieces]
        notes = [f"not known: {', '.join(unread)}"] if unread else []
        if sum(map(len, split.values())) > self.bank.text_length - 2:
            notes.append(f"only the first {self.bank.text_length - 2} word pieces of the query are read")
        return notes

    def _allowed(self, filters: Filters) -> np.ndarray | None:
        """Returns bool[N]; raises UserError that names the nearest label or value."""
        allowed = None
        for label, wanted in _typed(filters).items():
            if label not in self.bank.index["labels"]:
                raise unknown_name(label, self.bank.index["labels"], "the label of a filter", str(self.index))
            fits = np.zeros(self.size, bool)
            for value in wanted:
                equal = self._labels[label] == value.casefold()
                if not equal.any():
                    known = self.labels()[label]
                    near = difflib.get_close_matches(value.casefold(), [each.casefold() for each in known], 1)
                    raise UserError(f"no product has the {label} {value!r}", str(self.index), f"one of {', '.join(known)}", "did you mean "
                                    + " or ".join(repr(each) for each in known if each.casefold() in near) + "?" if near else "")
                fits |= equal
            allowed = fits if allowed is None else allowed & fits
        return allowed

    # --- The stages

    def _vector(self, query: Query, find: Find) -> np.ndarray:
        """Returns f32[W], whose products with the vectors of a side are the scores of stage one."""
        text, picture, spread = query.text_vector, query.picture_vector, self.info["spread"]
        across, within = (text, picture) if find == "pictures" else (picture, text)  # of the other side, and of the same
        if within is None:
            assert across is not None  # a query has a side
            return across
        cosine = within / np.maximum(np.linalg.norm(within) * self._lengths[find], 1e-12)
        return cosine if across is None else across / spread["pair"] + cosine / spread[find]

    def _candidates(self, vector: np.ndarray, find: Find, count: int, top: int,
                    allowed: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Returns (positions i64[k], scores f32[k]) of the ``count`` nearest, and of as many more as ``top`` products need."""
        while True:
            nearest = self._indices[find].search(vector[None], count, allowed)
            used = nearest.rows[0] >= 0
            positions, scores = nearest.rows[0][used], nearest.scores[0][used]
            if len(positions) < count or len(set(self._products[positions].tolist())) >= top:
                return positions, scores
            count *= 2

    def _second(self, query: Query, find: Find, positions: np.ndarray) -> np.ndarray:
        """Returns f32[k], the scores of stage two of candidates."""
        rows = self._rows[positions]
        within = query.picture_vector if find == "pictures" else query.text_vector  # of the side that is searched
        with self._lock:
            if find == "pictures" and query.texts is not None or find == "texts" and query.pictures is None:
                assert query.texts is not None
                logits = self._scorer.scores(finetuning.picture_inputs(self.bank, rows), query.texts)
            else:
                assert query.pictures is not None
                logits = self._scorer.scores(query.pictures, finetuning.text_inputs(self.bank, rows))
        if within is None:
            return logits
        cosine = self._stored.vectors[find][positions] @ (within / np.linalg.norm(within))
        return _standardised(logits) + _standardised(cosine)


def _typed(filters: Any) -> dict[str, list[str]]:
    """Returns {label: values}; raises UserError where filters are not {label: value or values}."""
    expected = '{label: value or values}, all of them text, such as {"category": ["tops", "bags"]}'
    if not isinstance(filters, Mapping):
        raise UserError(f"the filters are a {type(filters).__name__}", "search", expected)
    result = {label: list(wanted) if isinstance(wanted, Iterable) and not isinstance(wanted, (str, bytes)) else [wanted]
              for label, wanted in filters.items()}
    for label, values in result.items():
        for value in (label, *values):
            if not isinstance(value, str):
                raise UserError(f"the filter {label!r} holds {value!r}, a {type(value).__name__}", "search", expected)
    return result


def _standardised(values: np.ndarray) -> np.ndarray:
    deviation = float(values.std())
    return (values - values.mean()) / deviation if deviation > 0 else np.zeros_like(values)


def _unknown_words(words: str) -> UserError:
    return UserError("no word of the query is known to the vocabulary of the bank", f"the query {words!r}", "words as in the texts of the "
                     "catalogue", "use other words, or search by a picture")
