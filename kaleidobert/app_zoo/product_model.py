"""``kaleidobert.load``: trained models as one object that is asked about pictures and texts in Python.

    model = kaleidobert.load("runs/quickstart")
    model.match("photo.jpg", ["red striped t-shirt", "blue jeans"])

The answers are those of the commands `classify`, `retrieve` and `caption` on the same pictures and texts. Networks are built when a method
needs them for the first time, and compiled for a few sizes of a batch, to which shorter ones are filled up.
"""

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from kaleidobert.app_zoo import models, trained_runs
from kaleidobert.app_zoo.caption import caption, writing
from kaleidobert.app_zoo.search import index, vectors
from kaleidobert.app_zoo.search.searcher import RERANK, TOP, Filters, Find, Hit, Searcher
from kaleidobert.app_zoo.trained_runs import TrainedRun
from kaleidobert.configs.search import IndexConfig, IndexData
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.bank.queries import Picture, QueryReader
from kaleidobert.datasets.sampling.pretraining import clean_features
from kaleidobert.engines import steps
from kaleidobert.engines.prediction import PairScorer, Sides
from kaleidobert.errors import UserError
from kaleidobert.io import sha256
from kaleidobert.model_zoo import checkpoints, foreground_net
from kaleidobert.model_zoo.kaleidobert import Captioner, Classifier, Matcher, Pretrainer, rebuild
from kaleidobert.model_zoo.pairs import PictureVector, TextVector, vector_size
from kaleidobert.preprocessors import encoders, examples
from kaleidobert.preprocessors.examples import Arrays
from kaleidobert.preprocessors.tokenization import Spacing

BATCH_SIZE = 64
FILLED = 4  # a batch is filled up to a power of it: networks are compiled for few sizes
INDEX = "index"  # folder of an index, in the run's or beside it
MATCHERS = (Matcher.kind, Pretrainer.kind)  # a pre-training has the paper's matching head


@dataclass(frozen=True)
class Pictures:
    """Pictures that were read once (``ProductModel.read``), which every method takes in place of pictures.

    features: f16[N, P, F]; boxes: f32[N, P, 5].
    """

    features: np.ndarray
    boxes: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)


Given = Picture | Sequence[Picture] | Pictures  # one picture, or several
Forward = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]  # as steps.forward makes it


class ProductModel:
    """What was trained on one bank: classifiers by their label, a matcher, a captioner. Every method takes one item or several.

    A picture is a path, a PIL picture or an array uint8[h, w, 3] (datasets.bank.queries.Picture), a text a str. Each method raises one
    UserError that names the first picture that cannot be read, and says which run it needs where that is missing. Of several threads one
    computes at a time.

    runs: {head: its run}; bank: that of all of them; note: "", or how pictures are read otherwise than those of the bank were.
    """

    def __init__(self, runs: Mapping[str, TrainedRun], bank: Bank):
        self.runs, self.bank = dict(runs), bank
        self._reader = QueryReader(bank, encoders.build, foreground_net.build)
        self.note = self._reader.note
        self._lock = threading.RLock()
        self._classifier = cache(self._build_classifier)
        self._patches_of = cache(lambda checkpoint: _patches(models.bank_of(checkpoint, bank)))

    def __repr__(self) -> str:
        heads = [f"  {head}: {run.folder}" for head, run in self.runs.items()]
        return "\n".join([f"ProductModel on the bank {self.bank.folder}", *heads])

    @property
    def labels(self) -> dict[str, list[str]]:
        """{label that can be classified: its classes}."""
        return {run.meta["label"]: list(run.meta["classes"]) for run in self.runs.values() if run.kind == Classifier.kind}

    # --- Reading

    def read(self, pictures: Given) -> Pictures:
        """Reads pictures for several methods at once: reading takes longer than most answers."""
        if isinstance(pictures, Pictures):
            return pictures
        items = [pictures] if isinstance(pictures, np.ndarray) and pictures.ndim < 4 else _listed(pictures)
        with self._lock:
            arrays = self._reader.pictures(items)
        return Pictures(arrays["patch_features"], arrays["patch_boxes"])

    def readable(self, pictures: Sequence[Picture]) -> tuple[Pictures, dict[int, UserError]]:
        """Reads the pictures that can be read, in their order; of all others returns {number: why not}."""
        with self._lock:
            arrays, faults = self._reader.readable(pictures)
        return Pictures(arrays["patch_features"], arrays["patch_boxes"]), faults

    def of_bank(self, rows: np.ndarray) -> Pictures:
        """Takes the pictures of rows i64[N] of the bank, which need not be read."""
        return Pictures(clean_features(self.bank, rows), self.bank.boxes[rows])

    # --- Answers

    def classify(self, pictures: Given | None = None, texts: str | Sequence[str] | None = None, label: str | None = None, top: int = 5,
                 batch_size: int = BATCH_SIZE) -> list[dict[str, list[tuple[str, float]]]]:
        """Returns for each of N products {label: its ``top`` likeliest classes, each with its probability, the likeliest first}.

        pictures and texts belong together one by one. label: one of ``labels``; None = all of them. Raises UserError where a classifier was
        trained on pictures, texts or both and one of these is not given.
        """
        chosen = self._chosen_labels(label)
        for name, run in chosen.items():
            lacking = [what for what, modality, given in (("pictures", "text", pictures), ("texts", "image", texts))
                       if run.config.modality != modality and given is None]
            if lacking:
                learnt = {"both": "pictures and texts", "image": "pictures", "text": "texts"}[run.config.modality]
                raise UserError(f"no {lacking[0]} are given, and the label {name!r} was learnt from {learnt}", "classify", learnt,
                                f"give {lacking[0]}, or train one with `kaleidobert classify label={name} "
                                f"modality={'image' if texts is None else 'text'}`")
        read = None if pictures is None else self.read(pictures)
        words = None if texts is None else self._texts(texts)
        count = _same_length(*(len(given) for given in (read, words and words["token_ids"]) if given is not None))
        answers: list[dict[str, list[tuple[str, float]]]] = [{} for _ in range(count)]
        with self._lock:
            for name, run in chosen.items() if count else ():
                inputs = self._inputs(run, read, words, run.config.modality, count)
                probabilities = softmax(_answer(self._classifier(name), inputs, batch_size)["label"].astype(np.float64), axis=1)
                for answer, row in zip(answers, probabilities):
                    best = np.argsort(-row, kind="stable")[:top]
                    answer[name] = [(run.meta["classes"][number], float(row[number])) for number in best]
        return answers

    def match(self, pictures: Given, texts: str | Sequence[str], batch_size: int = BATCH_SIZE) -> np.ndarray:
        """Returns f32[N]: the probability that a picture and a text belong together, one by one; one picture goes with every text, and one
        text with every picture, and is computed once.

        It is the softmax of the two logits of the matching head, by the second of which `kaleidobert retrieve` ranks.
        """
        run = self._run_of(*MATCHERS)
        read, words = self.read(pictures), self._texts(texts)
        sizes = len(read), len(words["token_ids"])
        count, result = _same_length(*sizes, repeats=True), []
        with self._lock:
            read, scorer = self._seen_by(run, read), self._scorer
            for chosen, filled in _batches(count, batch_size):
                picture, text = (filled if size > 1 else np.zeros(1, np.int64) for size in sizes)
                numbers = [np.arange(len(filled)) if size > 1 else np.zeros(len(filled), np.int64) for size in sizes]
                scorer = scorer.over(_sides(Pictures(read.features[picture], read.boxes[picture]),
                                            {name: array[text] for name, array in words.items()}), len(filled))
                values = np.empty(len(filled), np.float32)
                for batch, probabilities in scorer.probabilities(scorer.batches(*numbers)):
                    values[batch.pairs] = probabilities
                result.append(values[: len(chosen)])
        return np.concatenate([np.zeros(0, np.float32), *result])

    def embed(self, pictures: Given | None = None, texts: str | Sequence[str] | None = None, batch_size: int = BATCH_SIZE) -> np.ndarray:
        """Returns f32[N, W] of pictures, or of texts: vectors of length 1, the product of a picture's and a text's being how well they fit.

        The product is the part of the matcher's logit for which the two need not meet, up to a factor that is the same for all (pairs.py):
        the towers of head dual_encoder and the sides of image-text contrast. Raises UserError where the matching head has neither.
        """
        if (pictures is None) == (texts is None):
            raise UserError("pictures and texts are both given" if texts is not None else "neither pictures nor texts are given", "embed",
                            "one of the two", "say embed(pictures=...) or embed(texts=...)")
        with self._lock:
            empty = np.zeros((0, vector_size(self._matcher)), np.float32)  # refuses a head that has no vectors
            if pictures is None:
                assert texts is not None
                inputs = self._texts(texts)
            else:
                read = self._seen_by(self._run_of(*MATCHERS), self.read(pictures))
                inputs = {"patch_features": read.features, "patch_boxes": read.boxes}
            if not len(next(iter(inputs.values()))):
                return empty
            return _answer(self._vectors["texts" if pictures is None else "pictures"], inputs, batch_size)["vector"]

    def caption(self, pictures: Given, batch_size: int = BATCH_SIZE) -> list[str]:
        """Returns a caption for each picture, written as the captioning run wrote those of its results: with its mode, beams, lengths, and
        with the choice of a matcher where it had one.

        Raises UserError where its lengths were those of the references, which no other picture has.
        """
        with self._lock:
            run = self._run_of(Captioner.kind)
            if run.config.mode != "causal" and run.config.length == "oracle":
                raise UserError("the run wrote with the lengths of the references (length=oracle)", str(run.folder), "another length",
                                "write again with `kaleidobert caption length=predicted init=RUN/best.npz train.epochs=0`")
            writer, spacing, chooser = self._captioner
            read, written = self.read(pictures), []
            seen = self._seen_by(run, read)
            for chosen, filled in _batches(len(read), batch_size):
                inputs = {"patch_features": seen.features[filled], "patch_boxes": seen.boxes[filled]}
                written += writer(inputs)[: len(chosen)]
            texts = writing.detokenize(self.bank.tokenizer(), spacing, written)
            if chooser is None or not texts:
                return texts
            patches = _patches(chooser.bank)
            return chooser.choose(lambda chunk: read.features[chunk][:, patches], texts)[0]

    def search(self, text: str | None = None, picture: Picture | None = None, top: int = TOP, filters: Filters | None = None,
               rerank: int = RERANK, find: Find = "pictures") -> list[Hit]:
        """Returns up to ``top`` products of the bank that fit words, a picture or both, the best first: search.searcher.Searcher.search.

        The index is the one beside the run or in it where that is up to date, else it is brought up to date in the run's folder, once.
        """
        with self._lock:
            searcher = self.searcher
        return searcher.search(text, picture, top, filters, rerank, find)

    # --- What answers

    @cached_property
    def searcher(self) -> Searcher:
        """What searches: the index beside the matcher's run or in its folder; made in that folder where neither is of this model and bank.
        """
        run = self._run_of(*MATCHERS)
        own = run.folder / INDEX
        for folder in (run.folder.parent / INDEX, own):
            with suppress(UserError):  # there is none, or it is of another model or an older bank
                searcher = Searcher(folder, self.bank.folder)
                if searcher.model.sha256 == sha256(run.checkpoint):
                    return searcher
        index.run(IndexConfig(index=own, data=IndexData(self.bank.folder), init=run.checkpoint))
        return Searcher(own)

    def _run_of(self, *kinds: str) -> TrainedRun:
        """Returns the run of the first kind that there is."""
        for kind in kinds:
            if kind in self.runs:
                return self.runs[kind]
        command = trained_runs.COMMANDS[kinds[0]]
        folders = ", ".join(str(run.folder) for run in self.runs.values())
        raise UserError(f"no run of `kaleidobert {command}` is loaded", folders, f"a {kinds[0]}",
                        f"train one with `kaleidobert {command}`, and load the folder above the runs")

    def _chosen_labels(self, label: str | None) -> dict[str, TrainedRun]:
        runs = {run.meta["label"]: run for run in self.runs.values() if run.kind == Classifier.kind}
        if not runs:
            self._run_of(Classifier.kind)
        if label is not None and label not in runs:
            raise UserError(f"no run has learnt the label {label!r}", "classify", f"one of {', '.join(runs)}",
                            f"train one with `kaleidobert classify label={label}`")
        return runs if label is None else {label: runs[label]}

    def _build_classifier(self, label: str) -> Forward:
        return steps.forward(_restored(self._chosen_labels(label)[label]))

    @cached_property
    def _matcher(self) -> Matcher:
        opened = vectors.open_model(self.bank, self._run_of(*MATCHERS).checkpoint).matcher
        assert opened is not None  # a checkpoint is named
        return opened

    @cached_property
    def _scorer(self) -> PairScorer:
        return PairScorer(self._matcher, _sides(self.of_bank(np.arange(0)), self._reader.texts([])), BATCH_SIZE)

    @cached_property
    def _vectors(self) -> dict[str, Forward]:
        """What makes vectors of pictures, and of texts."""
        return {"pictures": steps.forward(PictureVector(self._matcher)), "texts": steps.forward(TextVector(self._matcher))}

    @cached_property
    def _captioner(self) -> tuple[writing.Writer, Spacing, writing.Reranker | None]:
        run = self._run_of(Captioner.kind)
        data = caption.open_data(replace(run.config, data=replace(run.config.data, bank=self.bank.folder)))
        path = run.config.writing.matcher
        chooser = writing.Reranker(path, self.bank, data.train_texts) if path else None
        return writing.Writer(run.config, _restored(run), data.bank, data.train), Spacing(data.train_texts), chooser

    # --- Inputs

    def _texts(self, texts: str | Sequence[str]) -> Arrays:
        return self._reader.texts(_listed(texts))

    def _inputs(self, run: TrainedRun, read: Pictures | None, words: Arrays | None, modality: str, count: int) -> Arrays:
        """Returns what a classifier of this modality reads: as sampling.finetuning.modality_inputs."""
        vocabulary = self.bank.vocabulary
        words = words if words is not None else self._reader.texts([""] * count)
        if read is None or modality == "text":
            shape = count, len(self.bank.boxes[0])
            read = Pictures(np.zeros((*shape, self.bank.feature_size), np.float16), np.zeros((*shape, 5), np.float32))
        seen = self._seen_by(run, read)
        inputs = {**words, "patch_features": seen.features, "patch_boxes": seen.boxes}
        return examples.without_text(inputs, vocabulary.start, vocabulary.end, vocabulary.pad) if modality == "image" else inputs

    def _seen_by(self, run: TrainedRun, read: Pictures) -> Pictures:
        """Returns the patches of the levels that a run has."""
        patches = self._patches_of(run.checkpoint)
        return Pictures(read.features[:, patches], read.boxes[:, patches])


def load(*paths: str | Path, bank: str | Path | None = None) -> ProductModel:
    """Returns what was trained: see kaleidobert.load, which calls this."""
    if not paths:
        raise UserError("no run is named", "load", trained_runs.WANTED, 'say kaleidobert.load("runs/quickstart")')
    runs = trained_runs.find([Path(path) for path in paths])
    model = ProductModel(trained_runs.newest(runs), trained_runs.shared_bank(runs, None if bank is None else Path(bank)))
    if model.note:
        print(f"note: {model.note}", file=sys.stderr)
    return model


def _listed(given: Any) -> list[Any]:
    """Returns one item, or several, as a list; what is no item is refused where it is read."""
    return list(given) if isinstance(given, Iterable) and not isinstance(given, (str, bytes)) else [given]


def _restored(run: TrainedRun) -> Any:
    """Returns the model of a run with its weights, in the precision of its training."""
    model = rebuild(run.meta)
    checkpoints.restore(run.checkpoint, model)
    return model


def _patches(seen: Bank) -> slice | np.ndarray:
    """Returns which patches of a bank are those of its levels in use."""
    return slice(None) if seen.patches is None else seen.patches


def _sides(read: Pictures, words: Arrays) -> Sides:
    """Returns pictures and texts as a PairScorer reads them; texts are never cut, so that they have one length."""
    length = words["token_ids"].shape[1]
    return Sides(lambda rows: {"patch_features": read.features[rows], "patch_boxes": read.boxes[rows]},
                 lambda rows: {name: array[rows] for name, array in words.items()}, np.full(len(words["token_ids"]), length))


def _same_length(*sizes: int, repeats: bool = False) -> int:
    """Returns the number of products of pictures and texts. Raises UserError where they do not go together; repeats: one goes with many."""
    count = 0 if 0 in sizes else max(sizes)
    if any(size != count and not (repeats and size == 1) for size in sizes):
        raise UserError(f"{sizes[0]:,} pictures and {sizes[1]:,} texts are given", "pictures, texts", "as many texts as pictures"
                        + ", or one picture or one text" * repeats)
    return count


def _batches(count: int, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (rows i64[n], the same filled up by the last one) of every batch; a full size is batch_size, or a power of FILLED below."""
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}", "load", "at least 1")
    for start in range(0, count, batch_size):
        chosen = np.arange(start, min(start + batch_size, count))
        size = 1
        while size < len(chosen):
            size *= FILLED
        yield chosen, np.pad(chosen, (0, min(size, batch_size) - len(chosen)), mode="edge")


def _answer(forward: Forward, inputs: Arrays, batch_size: int) -> dict[str, np.ndarray]:
    """Returns a model's outputs for all rows of the inputs, at least one. Raises UserError where they are not finite."""
    answers = []
    with steps.held(forward):
        for chosen, filled in _batches(len(next(iter(inputs.values()))), batch_size):
            batch = {name: array[filled] for name, array in inputs.items()}
            outputs = forward(batch)
            for name, array in outputs.items():
                if not np.isfinite(array).all():
                    raise steps.not_finite(f"the model's output {name!r}", "load", batch)
            answers.append({name: array[: len(chosen)] for name, array in outputs.items()})
    return {name: np.concatenate([outputs[name] for outputs in answers]) for name in answers[0]}
